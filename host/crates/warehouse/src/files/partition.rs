//! Partitions: the columns that divide a table's files. Their values stand in the table's log and in the folders' names, not in
//! the files.
//!
//! A value's text is the Delta protocol's: numbers and dates as they read, timestamps in ISO 8601 and UTC, text as it is. The
//! protocol has no empty text there: it becomes null.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{Array, ArrayRef, RecordBatch, StringArray, UInt32Array};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{ArrowError, DataType, Schema, SchemaRef};
use arrow_select::take::take_record_batch;
use chrono::{DateTime, SecondsFormat};

/// The value of each partition column, by name; null for null.
pub(crate) type PartitionKey = BTreeMap<String, Option<String>>;

/// Why these columns cannot divide a table of this schema; `None` where they can.
pub(crate) fn check_partitioning(schema: &Schema, partition_by: &[String]) -> Option<String> {
    for (index, name) in partition_by.iter().enumerate() {
        let Some((_, field)) = schema.column_with_name(name) else {
            return Some(format!("partition column {name:?} is not among its columns"));
        };
        if partition_by.iter().take(index).any(|other| other == name) {
            return Some(format!("partition column {name:?} is named twice"));
        }
        if name.starts_with(forebay_model::column::PREFIX) {
            return Some(format!("partition column {name:?} is forebay's own"));
        }
        if field.data_type().is_nested() || field.data_type() == &DataType::Binary {
            return Some(format!(
                "partition column {name:?} has type {}, whose values have no text",
                field.data_type()
            ));
        }
    }
    None
}

/// The schema without the partition columns: what a file holds.
pub(crate) fn data_schema(schema: &SchemaRef, partition_by: &[String]) -> SchemaRef {
    if partition_by.is_empty() {
        return Arc::clone(schema);
    }
    let fields: Vec<_> = schema.fields().iter().filter(|field| !partition_by.contains(field.name())).cloned().collect();
    Arc::new(Schema::new(fields))
}

/// Divides a batch by the values of its partition columns, in the order in which they first come.
pub(crate) fn split(
    batch: &RecordBatch,
    partition_by: &[String],
) -> Result<Vec<(PartitionKey, RecordBatch)>, ArrowError> {
    if partition_by.is_empty() {
        return Ok(vec![(PartitionKey::new(), batch.clone())]);
    }
    let mut texts = Vec::with_capacity(partition_by.len());
    for name in partition_by {
        let column =
            batch.column_by_name(name).ok_or_else(|| ArrowError::SchemaError(format!("column {name:?} is missing")))?;
        texts.push(value_texts(column)?);
    }
    let mut order: Vec<(Vec<Option<&str>>, Vec<u32>)> = Vec::new();
    let mut places: HashMap<Vec<Option<&str>>, usize> = HashMap::new();
    for row in 0..batch.num_rows() {
        let key: Vec<Option<&str>> = texts
            .iter()
            .map(|text| Some(text).filter(|text| text.is_valid(row)).map(|text| text.value(row)))
            .map(|value| value.filter(|value| !value.is_empty()))
            .collect();
        let number = u32::try_from(row).map_err(|_| ArrowError::ComputeError("a batch has 2^32 rows".into()))?;
        let place = *places.entry(key).or_insert_with_key(|key| {
            order.push((key.clone(), Vec::new()));
            order.len() - 1
        });
        if let Some((_, rows)) = order.get_mut(place) {
            rows.push(number);
        }
    }
    order
        .into_iter()
        .map(|(key, rows)| {
            let named = partition_by.iter().cloned().zip(key.into_iter().map(|value| value.map(str::to_owned)));
            let part = if rows.len() == batch.num_rows() {
                batch.clone()
            } else {
                take_record_batch(batch, &UInt32Array::from(rows))?
            };
            Ok((named.collect(), part))
        })
        .collect()
}

fn value_texts(column: &ArrayRef) -> Result<StringArray, ArrowError> {
    if let Some(times) = column.as_primitive_opt::<TimestampMicrosecondType>() {
        return times
            .iter()
            .map(|time| {
                time.map(|micros| {
                    DateTime::from_timestamp_micros(micros)
                        .map(|time| time.to_rfc3339_opts(SecondsFormat::Micros, true))
                        .ok_or_else(|| ArrowError::CastError("a partition's timestamp is out of range".into()))
                })
                .transpose()
            })
            .collect();
    }
    let options = CastOptions { safe: false, ..CastOptions::default() };
    Ok(cast_with_options(column, &DataType::Utf8, &options)?.as_string::<i32>().clone())
}

/// The folder of a partition: `country=NL/day=2026-01-02`, with Hive's escapes. Empty without partition columns.
pub(crate) fn folder_of(key: &PartitionKey, partition_by: &[String]) -> String {
    let mut folder = String::new();
    for name in partition_by {
        let value = key.get(name).and_then(Option::as_deref);
        escape(name, &mut folder);
        folder.push('=');
        match value {
            Some(value) => escape(value, &mut folder),
            None => folder.push_str("__HIVE_DEFAULT_PARTITION__"),
        }
        folder.push('/');
    }
    folder
}

fn escape(text: &str, into: &mut String) {
    // A folder's name has 255 bytes at most; the value itself stands in the log.
    for c in text.chars().take(64) {
        if c.is_ascii_alphanumeric() || "-_.+@".contains(c) {
            into.push(c);
        } else {
            let mut utf8 = [0; 4];
            for byte in c.encode_utf8(&mut utf8).bytes() {
                // Writing to a string cannot fail.
                let _ = write!(into, "%{byte:02X}");
            }
        }
        if into.len() - into.rfind('/').map_or(0, |slash| slash + 1) > 180 {
            break;
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use arrow_array::{Date32Array, Int64Array};
    use arrow_schema::Field;

    #[test]
    fn rows_are_divided_and_folders_are_escaped() {
        let schema = Arc::new(Schema::new(vec![
            Field::new("place", DataType::Utf8, true),
            Field::new("day", DataType::Date32, true),
            Field::new("n", DataType::Int64, true),
        ]));
        let batch = RecordBatch::try_new(
            schema,
            vec![
                Arc::new(StringArray::from(vec![Some("a/b c"), None, Some("a/b c"), Some("")])),
                Arc::new(Date32Array::from(vec![1, 1, 1, 1])),
                Arc::new(Int64Array::from(vec![1, 2, 3, 4])),
            ],
        )
        .unwrap();
        let by = ["place".to_owned(), "day".to_owned()];
        let parts = split(&batch, &by).unwrap();
        assert_eq!(parts.len(), 2);
        assert_eq!(folder_of(&parts[0].0, &by), "place=a%2Fb%20c/day=1970-01-02/");
        assert_eq!(folder_of(&parts[1].0, &by), "place=__HIVE_DEFAULT_PARTITION__/day=1970-01-02/");
        assert_eq!(parts[0].1.column(2).as_primitive::<arrow_array::types::Int64Type>().values(), &[1, 3]);
        assert_eq!(parts[1].1.num_rows(), 2);
        assert!(folder_of(&[("place".to_owned(), Some("ü".repeat(300)))].into(), &by[..1]).len() < 255);
    }
}
