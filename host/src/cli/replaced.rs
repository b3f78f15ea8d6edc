//! What became of rows that were replaced: the tables as they stood before are compared with what they are now, row by row.
//!
//! A row is known by its segment, its record and which of the record's rows it is. Memory is bounded: rows are grouped, which spills, and
//! never joined.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use forebay_model::{PipelineName, Revision, SegmentId, TableName, column};
use serde_json::{Value, json};

use super::listing::{self, number, quoted};
use super::show;
use crate::assemble::{self, Access};
use crate::query::{BARE_SCHEMA, Lake};
use crate::sides;

/// Segments that one statement compares: their names stand in it.
const AT_ONCE: usize = 256;
/// What is compared of a record that was refused: its message and who refused it, not when and how often.
const OF_REJECTS: [&str; 3] = ["stage", "code", "message"];

/// The versions of a pipeline's tables before their rows are replaced; `None` where a table was not there yet.
pub(super) struct Before {
    tables: BTreeMap<TableName, Option<u64>>,
    rejects: Vec<TableName>,
    /// Of a replay into tables beside: what their names end with. They are compared with the pipeline's own as these are then.
    beside: Option<String>,
}

/// How rows of a table differ.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Differ {
    same: u64,
    changed: u64,
    added: u64,
    removed: u64,
}

impl Differ {
    /// Whether every row is as it was.
    pub(super) fn is_none(&self) -> bool {
        let Self { same: _, changed, added, removed } = self;
        changed + added + removed == 0
    }
}

/// How rows of tables differ; `None` for a table whose rows of before are not kept.
pub(super) type Compared = BTreeMap<TableName, Option<Differ>>;

impl Before {
    /// Of the tables that a pipeline has by its config, and those of a revision that it is to be refined under. `None` where one cannot be
    /// read: nothing hangs on it but what is told at the end.
    pub(super) async fn of(lake: &Lake, pipeline: &PipelineName, under: Option<&Revision>) -> Option<Self> {
        match Self::now(lake, pipeline, under).await {
            Ok(before) => Some(before),
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "the rows of before and after will not be compared");
                None
            }
        }
    }

    /// The same of a replay into tables beside those of a pipeline, under a revision of it.
    pub(super) async fn beside(
        lake: &Lake,
        pipeline: &PipelineName,
        revision: &Revision,
        suffix: &str,
    ) -> Option<Self> {
        let before = Self::of(lake, pipeline, Some(revision)).await?;
        let of_revision = revision.tables();
        let tables = before.tables.into_iter().filter(|(table, _)| of_revision.contains(table)).collect();
        Some(Self { tables, beside: Some(suffix.to_owned()), ..before })
    }

    async fn now(lake: &Lake, pipeline: &PipelineName, under: Option<&Revision>) -> anyhow::Result<Self> {
        let config = &lake.stores().config;
        let of_config = config.pipelines.get(pipeline);
        let mut names = of_config.map(crate::config::PipelineConfig::tables).unwrap_or_default();
        names.extend(under.into_iter().flat_map(Revision::tables));
        let mut tables = BTreeMap::new();
        for table in names.into_iter().filter(|table| config.warehouses.contains_key(&table.warehouse)) {
            let warehouse = assemble::open_warehouse(config, &table.warehouse, Access::Read).await?;
            let info = warehouse.table(&table.table).await?;
            tables.insert(table, info.map(|info| info.version));
        }
        let rejects = of_config.map(|of| of.rejects.clone()).into_iter();
        let rejects = rejects.chain(under.map(|under| under.rejects.clone())).collect();
        Ok(Self { tables, rejects, beside: None })
    }

    /// Offers what a table is, and what it was, to statements; each where it is there.
    async fn offer(
        &self,
        lake: &Lake,
        (table, version): (&TableName, Option<u64>),
        (is, was): (&str, &str),
    ) -> anyhow::Result<(bool, bool)> {
        Ok(match &self.beside {
            Some(suffix) => {
                let beside = sides::beside(table, suffix)?;
                (lake.offer_table(is, &beside, None).await?, lake.offer_table(was, table, None).await?)
            }
            None => {
                let had = match version {
                    Some(version) => lake.offer_table(was, table, Some(version)).await?,
                    None => false,
                };
                (lake.offer_table(is, table, None).await?, had)
            }
        })
    }

    /// How the rows of these segments differ from what they were; `Err` where it cannot be told any more.
    pub(super) async fn compare(&self, lake: &Lake, segments: &[SegmentId]) -> anyhow::Result<Compared> {
        let mut found = BTreeMap::new();
        for (place, (table, version)) in self.tables.iter().enumerate() {
            let of_before = self.beside.is_none() && version.is_some();
            if of_before && !assemble::keeps_versions(&lake.stores().config, table)? {
                found.insert(table.clone(), None);
                continue;
            }
            let (was, is) = (format!("was_{place}"), format!("is_{place}"));
            let (has, had) = self.offer(lake, (table, *version), (&is, &was)).await?;
            // Where there is no table beside, none of the rows that were is.
            let (is, had, none_is) = match (has, had) {
                (false, false) => continue,
                (false, true) => (was.clone(), false, true),
                (true, had) => (is, had, false),
            };
            let now = schema(lake, &is).await?;
            let before = if had { Some(schema(lake, &was).await?) } else { None };
            let columns = self.columns(table, &now);
            let mut differ = Differ::default();
            for segments in segments.chunks(AT_ONCE) {
                let old = before.as_ref().map(|schema| (was.as_str(), schema));
                let sql = statement(&is, old, &columns, segments);
                for row in listing::objects(lake, &sql, Vec::new()).await? {
                    differ.same += number(&row, "same");
                    differ.changed += number(&row, "changed");
                    differ.added += number(&row, "added");
                    differ.removed += number(&row, "removed");
                }
            }
            if none_is {
                std::mem::swap(&mut differ.added, &mut differ.removed);
            }
            // What stands beside is told by its own name.
            let told = self.beside.as_ref().map(|suffix| sides::beside(table, suffix)).transpose()?;
            found.insert(told.unwrap_or_else(|| table.clone()), Some(differ));
        }
        Ok(found)
    }

    fn columns(&self, table: &TableName, schema: &SchemaRef) -> Vec<String> {
        if self.rejects.contains(table) {
            return OF_REJECTS.map(str::to_owned).to_vec();
        }
        let own = [column::SEGMENT, column::ROW, column::ITEM, column::LOAD, column::LOADED_AT];
        let names = schema.fields().iter().map(|field| field.name().clone());
        names.filter(|name| !own.contains(&name.as_str())).collect()
    }
}

async fn schema(lake: &Lake, name: &str) -> anyhow::Result<SchemaRef> {
    let frame = lake.sql(&format!("SELECT * FROM {BARE_SCHEMA}.{name} LIMIT 0")).await?;
    Ok(Arc::clone(frame.schema().inner()))
}

/// Counts: rows that only one side has stand alone, those that both have cancel out, and a row that changed stands once for each side.
fn statement(is: &str, was: Option<(&str, &SchemaRef)>, columns: &[String], segments: &[SegmentId]) -> String {
    let (segment, row, item) = (column::SEGMENT, column::ROW, column::ITEM);
    let ids: Vec<_> = segments.iter().map(|id| format!("'{}'", id.as_str().replace('\'', "''"))).collect();
    let ids = ids.join(", ");
    let named = |index: usize| format!("c{index}");
    let of_new: Vec<_> =
        columns.iter().enumerate().map(|(index, name)| format!("{} AS {}", quoted(name), named(index))).collect();
    let select = |table: &str, columns: &[String], side: i8| {
        let columns: String = columns.iter().map(|column| format!(", {column}")).collect();
        format!(
            "SELECT {segment}, {row}, {item}{columns}, {side} AS side FROM {BARE_SCHEMA}.{table} WHERE {segment} IN ({ids})"
        )
    };
    let mut both = select(is, &of_new, 1);
    if let Some((was, schema)) = was {
        // What the table gained since was null in its rows.
        let of_old = columns.iter().enumerate().map(|(index, name)| match schema.column_with_name(name) {
            Some(_) => format!("{} AS {}", quoted(name), named(index)),
            None => format!("NULL AS {}", named(index)),
        });
        both = format!("{both} UNION ALL {}", select(was, &of_old.collect::<Vec<_>>(), -1));
    }
    let all: String = (0..columns.len()).map(|index| format!(", {}", named(index))).collect();
    let key = format!("{segment}, {row}, {item}");
    format!(
        "WITH both_sides AS ({both}),
              forms AS (SELECT {key}, sum(side) AS side FROM both_sides GROUP BY {key}{all}),
              rows AS (SELECT {key}, count(*) AS forms, sum(side) AS side FROM forms GROUP BY {key})
         SELECT coalesce(sum(CASE WHEN forms = 1 AND side = 0 THEN 1 ELSE 0 END), 0) AS same,
                coalesce(sum(CASE WHEN forms > 1 THEN 1 ELSE 0 END), 0) AS changed,
                coalesce(sum(CASE WHEN forms = 1 AND side > 0 THEN 1 ELSE 0 END), 0) AS added,
                coalesce(sum(CASE WHEN forms = 1 AND side < 0 THEN 1 ELSE 0 END), 0) AS removed FROM rows"
    )
}

/// For people, a line for each table.
pub(super) fn words(found: &Compared) -> Vec<String> {
    let line = |(table, differ): (&TableName, &Option<Differ>)| {
        let Some(differ) = differ else {
            return format!("  {table}: not compared, for its warehouse keeps no rows of before");
        };
        let Differ { same, changed, added, removed } = differ;
        let [changed, added, removed, same] = [changed, added, removed, same].map(|rows| show::thousands(*rows));
        format!("  {table}: {changed} changed, {added} added, {removed} removed, {same} as before")
    };
    found.iter().map(line).collect()
}

/// For programs.
pub(super) fn in_json(found: &Compared) -> Value {
    let tables = found.iter().map(|(table, differ)| {
        let Some(Differ { same, changed, added, removed }) = differ else { return (table.to_string(), Value::Null) };
        (table.to_string(), json!({ "same": same, "changed": changed, "added": added, "removed": removed }))
    });
    Value::Object(tables.collect())
}
