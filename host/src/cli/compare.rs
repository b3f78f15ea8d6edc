//! What two revisions of a pipeline make of the same segment: what a verb shows before it changes rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use forebay_model::ports::Warehouse;
use forebay_model::{Error, PipelineName, SegmentId};
use forebay_pipeline::refine::bind::{Materials, Surroundings, Warehouses, bind};
use forebay_pipeline::refine::rehearse::rehearse;
use serde_json::{Value, json};

use super::kept::blocking;
use super::listing::now;
use super::show;
use crate::assemble::{self, Access};
use crate::query::Lake;
use crate::rules::changes::{Changes, Sample, changes, made};

/// Records of a segment that are refined twice, about: enough to see, and done in a moment.
const RECORDS: u64 = 16_384;

/// What changes in a segment of a pipeline.
pub(super) struct Compared {
    pub(super) pipeline: PipelineName,
    pub(super) segment: String,
    /// Records that were refined.
    pub(super) records: u64,
    /// By table.
    pub(super) tables: BTreeMap<String, Changes>,
}

/// Refines the first records of a segment under both; nothing is written. `None` where the pipeline has no schema yet.
pub(super) async fn compare(
    lake: &Lake,
    pipeline: &PipelineName,
    segment: &SegmentId,
    was: Materials,
    is: Materials,
) -> anyhow::Result<Option<Compared>> {
    let (config, ledger) = (&lake.stores().config, &lake.stores().ledger);
    let Some(schema) = ledger.schema(pipeline).await? else { return Ok(None) };
    let landed = ledger.segment(segment).await?;
    let landed = landed.ok_or_else(|| Error::bug(format!("segment {segment} is not listed")))?;
    let stream = config.streams.get(&landed.stream);
    let decoding = assemble::open_decoding(stream.ok_or_else(|| Error::bug("a pipeline without its stream"))?)?;
    let zone = assemble::open_zone(config, Access::Read)?;
    let mut warehouses: BTreeMap<_, Arc<dyn Warehouse>> = BTreeMap::new();
    for name in config.warehouses.keys() {
        warehouses.insert(name.clone(), assemble::open_warehouse(config, name, Access::Read).await?);
    }
    let warehouses: Warehouses = Arc::new(warehouses);
    let ledger = ledger.id();
    let compared = blocking(move || {
        let of = |materials: &Materials| {
            // What the tables are like says nothing of the rows.
            let surroundings = Surroundings {
                warehouses: Arc::clone(&warehouses),
                ledger,
                tables: BTreeMap::new(),
                widen_max_bytes: crate::run::WIDEN_MAX_BYTES,
                now: now(),
            };
            let bound = bind(materials, &schema, &surroundings)?;
            let batches = rehearse(&*zone, &*decoding, &bound, &landed, RECORDS)?;
            let records = batches.iter().map(|batch| batch.counts.records).sum::<u64>();
            Ok::<_, Error>((made(&bound, &batches)?, records))
        };
        let ((was, _), (is, records)) = (of(&was)?, of(&is)?);
        Ok((changes(&was, &is), records))
    });
    let (tables, records) = compared.await?;
    Ok(Some(Compared { pipeline: pipeline.clone(), segment: segment.to_string(), records, tables }))
}

impl Compared {
    /// For programs.
    pub(super) fn json(&self) -> Value {
        let Self { pipeline, segment, records, tables } = self;
        let tables: serde_json::Map<_, _> =
            tables.iter().map(|(table, changes)| (table.clone(), changes.json())).collect();
        json!({ "pipeline": pipeline, "segment": segment, "records": records, "tables": tables })
    }

    /// For people.
    pub(super) fn words(&self) -> Vec<String> {
        let Self { pipeline, segment, records, tables } = self;
        let records = show::count(*records, "record");
        let mut lines = vec![format!("{pipeline}, segment {segment}, {records}:")];
        if tables.values().all(Changes::none) {
            lines.push("  every row is as it was".to_owned());
            return lines;
        }
        for (table, changes) in tables.iter().filter(|(_, changes)| !changes.none()) {
            let Changes { same, added, removed, changed, columns, samples } = changes;
            let columns: Vec<_> =
                columns.iter().map(|(column, rows)| format!("{column} in {}", show::thousands(*rows))).collect();
            let columns = if columns.is_empty() { String::new() } else { format!(" ({})", columns.join(", ")) };
            let count = |number: &u64| show::thousands(*number);
            lines.push(format!(
                "  {table}: {} changed{columns}, {} added, {} removed, {} as before",
                count(changed),
                count(added),
                count(removed),
                count(same)
            ));
            lines.extend(samples.iter().map(|Sample { record, was, is }| match (was, is) {
                (Some(was), Some(is)) => format!("    record {record}: {was} ▶ {is}"),
                (None, Some(is)) => format!("    record {record} is new: {is}"),
                (Some(was), None) => format!("    record {record} is gone: {was}"),
                (None, None) => String::new(),
            }));
        }
        lines
    }
}
