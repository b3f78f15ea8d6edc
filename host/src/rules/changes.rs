//! What two revisions make of the same records, row by row: rows that are new, gone, or have other values.
//!
//! A row is known by its table, its record, and which of the record's rows in that table it is. Rejects are rows of a table of their
//! own, so a record that is newly refused is seen there.

use std::collections::{BTreeMap, BTreeSet};

use forebay_model::{Error, RejectStage, Result, TransformedBatch};
use forebay_pipeline::refine::bind::BoundPipeline;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::cases::json_rows;
use crate::cli::thousands;

/// Rows of a table that are shown; the rest is counted.
const SAMPLES: usize = 5;

/// The rows of each table, by record and item.
pub(crate) type Made = BTreeMap<String, BTreeMap<(u64, i32), Value>>;

/// What changed in a table.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Changes {
    /// Rows that are as they were.
    pub(crate) same: u64,
    pub(crate) added: u64,
    pub(crate) removed: u64,
    pub(crate) changed: u64,
    /// In how many of the changed rows each column differs.
    pub(crate) columns: BTreeMap<String, u64>,
    /// The first rows that changed.
    pub(crate) samples: Vec<Sample>,
}

/// A row that changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// Where several segments were compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) segment: Option<String>,
    pub(crate) record: u64,
    /// `None` where it is new.
    pub(crate) was: Option<Value>,
    /// `None` where it is gone. Of a row that was and is, both have the columns that differ alone.
    pub(crate) is: Option<Value>,
}

/// The rows that steps made, as JSON.
///
/// # Errors
/// Where a row cannot be told as JSON.
pub(crate) fn made(bound: &BoundPipeline, batches: &[TransformedBatch]) -> Result<Made> {
    let name = |target: usize| bound.targets.get(target).map(|target| target.fit.table.to_string()).unwrap_or_default();
    let mut made: Made = (0..bound.targets.len()).map(|target| (name(target), BTreeMap::new())).collect();
    let rejects = made.entry("rejects".to_owned()).or_default();
    for reject in batches.iter().flat_map(|batch| &batch.rejects) {
        let stage = match &reject.stage {
            RejectStage::Decode => "decode",
            RejectStage::Step(step) => step.as_str(),
        };
        let message = reject.message.lines().next().unwrap_or_default();
        let row = json!({ "stage": stage, "code": reject.code, "message": message });
        rejects.insert((reject.record, 0), row);
    }
    for route in batches.iter().flat_map(|batch| &batch.routes) {
        let rows = made.entry(name(route.route)).or_default();
        let values = json_rows(&route.batch).map_err(Error::bug)?;
        for ((record, item), value) in route.numbers.iter().zip(&route.items).zip(values) {
            rows.insert((*record, *item), value);
        }
    }
    Ok(made)
}

/// What changed, by table; tables of either.
pub(crate) fn changes(was: &Made, is: &Made) -> BTreeMap<String, Changes> {
    let none = BTreeMap::new();
    let tables: BTreeSet<_> = was.keys().chain(is.keys()).collect();
    let of = |table: &String| {
        let (was, is) = (was.get(table).unwrap_or(&none), is.get(table).unwrap_or(&none));
        (table.clone(), in_table(was, is))
    };
    tables.into_iter().map(of).collect()
}

fn in_table(was: &BTreeMap<(u64, i32), Value>, is: &BTreeMap<(u64, i32), Value>) -> Changes {
    let mut changes = Changes::default();
    let keys: BTreeSet<_> = was.keys().chain(is.keys()).collect();
    for key in keys {
        let sample = match (was.get(key), is.get(key)) {
            (Some(was), Some(is)) if was == is => {
                changes.same += 1;
                continue;
            }
            (Some(was), Some(is)) => {
                changes.changed += 1;
                let (was, is) = differing(was, is);
                for column in was
                    .as_object()
                    .into_iter()
                    .chain(is.as_object())
                    .flat_map(serde_json::Map::keys)
                    .collect::<BTreeSet<_>>()
                {
                    *changes.columns.entry(column.clone()).or_default() += 1;
                }
                (Some(was), Some(is))
            }
            (was, is) => {
                changes.removed += u64::from(was.is_some());
                changes.added += u64::from(is.is_some());
                (was.cloned(), is.cloned())
            }
        };
        if changes.samples.len() < SAMPLES {
            changes.samples.push(Sample { segment: None, record: key.0, was: sample.0, is: sample.1 });
        }
    }
    changes
}

/// Of two objects the columns that differ.
fn differing(was: &Value, is: &Value) -> (Value, Value) {
    let only = |one: &Value, other: &Value| match one.as_object() {
        Some(columns) => {
            let columns = columns.iter().filter(|(key, value)| other.get(key.as_str()) != Some(value));
            Value::Object(columns.map(|(key, value)| (key.clone(), value.clone())).collect())
        }
        None => one.clone(),
    };
    (only(was, is), only(is, was))
}

impl Changes {
    /// Whether every row is as it was.
    pub(crate) fn none(&self) -> bool {
        let Self { same: _, added, removed, changed, columns: _, samples: _ } = self;
        (*added, *removed, *changed) == (0, 0, 0)
    }

    /// Adds those of another segment.
    pub(crate) fn add(&mut self, other: Self) {
        let Self { same, added, removed, changed, columns, samples } = other;
        self.same += same;
        self.added += added;
        self.removed += removed;
        self.changed += changed;
        for (column, rows) in columns {
            *self.columns.entry(column).or_default() += rows;
        }
        self.samples.extend(samples);
        self.samples.truncate(SAMPLES);
    }

    /// For people.
    pub(crate) fn words(&self, table: &str) -> Vec<String> {
        let Self { same, added, removed, changed, columns, samples } = self;
        let columns: Vec<_> =
            columns.iter().map(|(column, rows)| format!("{column} in {}", thousands(*rows))).collect();
        let columns = if columns.is_empty() { String::new() } else { format!(" ({})", columns.join(", ")) };
        let mut lines = vec![format!(
            "  {table}: {} changed{columns}, {} added, {} removed, {} as before",
            thousands(*changed),
            thousands(*added),
            thousands(*removed),
            thousands(*same)
        )];
        lines.extend(samples.iter().map(|Sample { segment, record, was, is }| {
            let of = segment.as_ref().map(|segment| format!(" of {segment}")).unwrap_or_default();
            match (was, is) {
                (Some(was), Some(is)) => format!("    record {record}{of}: {was} ▶ {is}"),
                (None, Some(is)) => format!("    record {record}{of} is new: {is}"),
                (Some(was), None) => format!("    record {record}{of} is gone: {was}"),
                (None, None) => String::new(),
            }
        }));
        lines
    }

    /// For programs.
    pub(crate) fn json(&self) -> Value {
        let Self { same, added, removed, changed, columns, samples } = self;
        let samples: Vec<_> = samples
            .iter()
            .map(|Sample { segment: _, record, was, is }| json!({ "record": record, "was": was, "is": is }))
            .collect();
        json!({
            "same": same, "added": added, "removed": removed, "changed": changed, "columns": columns, "samples": samples,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: &[(u64, Value)]) -> BTreeMap<(u64, i32), Value> {
        rows.iter().map(|(record, row)| ((*record, 0), row.clone())).collect()
    }

    #[test]
    fn rows_are_compared_by_record_and_columns() {
        let was =
            rows(&[(0, json!({"a": 1, "b": 2})), (1, json!({"a": 1})), (2, json!({"a": 1})), (3, json!({"a": 7}))]);
        let is = rows(&[
            (0, json!({"a": 1, "b": 3})),
            (2, json!({"a": 1, "c": null})),
            (3, json!({"a": 7})),
            (4, json!({"a": 5})),
        ]);
        let found = in_table(&was, &is);
        assert_eq!((found.same, found.added, found.removed, found.changed), (1, 1, 1, 2));
        assert_eq!(found.columns, BTreeMap::from([("b".to_owned(), 1), ("c".to_owned(), 1)]));
        let sample = |record, was, is| Sample { segment: None, record, was, is };
        let expected = [
            sample(0, Some(json!({"b": 2})), Some(json!({"b": 3}))),
            sample(1, Some(json!({"a": 1})), None),
            sample(2, Some(json!({})), Some(json!({"c": null}))),
            sample(4, None, Some(json!({"a": 5}))),
        ];
        assert_eq!(found.samples, expected);
        assert!(in_table(&was, &was).none() && !found.none());
    }

    #[test]
    fn many_changes_are_counted_and_few_shown() {
        let many: Vec<_> = (0..100).map(|record| (record, json!({"a": record}))).collect();
        let found = in_table(&rows(&many), &rows(&[]));
        assert_eq!((found.removed, found.samples.len()), (100, SAMPLES));
    }

    #[test]
    fn a_table_of_either_is_told() {
        let one = Made::from([("lake.a".to_owned(), rows(&[(0, json!({}))]))]);
        let other = Made::from([("lake.b".to_owned(), rows(&[]))]);
        let found = changes(&one, &other);
        assert_eq!(found.len(), 2);
        assert_eq!(found["lake.a"].removed, 1);
        assert!(found["lake.b"].none());
    }
}
