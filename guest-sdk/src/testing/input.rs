//! Rows from text: JSON lines, a JSON array or CSV become values, and the values' types become a schema.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{DataType, Field, Fields, Schema, TimeUnit};
use serde_json::{Map, Value};

/// Rows as they were written.
pub(super) type Rows = Vec<Map<String, Value>>;

/// JSON lines, or one array of objects.
pub(super) fn json(text: &str) -> Result<Rows, String> {
    let values = if text.trim_start().starts_with('[') {
        serde_json::from_str::<Vec<Value>>(text).map_err(|error| format!("the JSON array: {error}"))?
    } else {
        text.lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty())
            .map(|(at, line)| serde_json::from_str(line).map_err(|error| format!("JSON line {}: {error}", at + 1)))
            .collect::<Result<_, _>>()?
    };
    values
        .into_iter()
        .enumerate()
        .map(|(at, value)| match value {
            Value::Object(row) => Ok(row),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                Err(format!("record {at} is no object"))
            }
        })
        .collect()
}

/// CSV with a header. An empty cell is null; a column is of the narrowest type that all its cells have.
pub(super) fn csv(text: &str) -> Result<Rows, String> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let headers = reader.headers().map_err(|error| format!("the CSV header: {error}"))?.clone();
    let records =
        reader.records().collect::<Result<Vec<_>, _>>().map_err(|error| format!("the CSV records: {error}"))?;
    let typed: Vec<fn(&str) -> Option<Value>> = (0..headers.len())
        .map(|column| {
            let cells = || records.iter().filter_map(|record| record.get(column)).filter(|cell| !cell.is_empty());
            [integer as fn(&str) -> Option<Value>, float, boolean]
                .into_iter()
                .find(|read| cells().all(|cell| read(cell).is_some()))
                .unwrap_or(|cell| Some(Value::from(cell)))
        })
        .collect();
    let row = |record: &csv::StringRecord| {
        let cells = headers.iter().zip(&typed).zip(record);
        cells.map(|((name, read), cell)| (name.to_owned(), read(cell).unwrap_or(Value::Null))).collect()
    };
    Ok(records.iter().map(row).collect())
}

fn integer(cell: &str) -> Option<Value> {
    cell.parse::<i64>().ok().map(Value::from)
}

fn float(cell: &str) -> Option<Value> {
    cell.parse::<f64>().ok().filter(|number| number.is_finite()).map(Value::from)
}

fn boolean(cell: &str) -> Option<Value> {
    cell.parse::<bool>().ok().map(Value::from)
}

/// The rows as Arrow, in the declared types and where there are none the inferred ones.
pub(super) fn batch(rows: &Rows, declared: &BTreeMap<String, DataType>) -> Result<RecordBatch, String> {
    let mut inferred: Vec<(String, Option<Inferred>)> = Vec::new();
    for row in rows {
        for (name, value) in row.iter().filter(|(name, _)| !declared.contains_key(*name)) {
            merge_field(&mut inferred, name, Inferred::of(value)?)?;
        }
    }
    let mut fields = Vec::new();
    for (name, found) in inferred {
        let found = found.ok_or_else(|| conflict(&name))?;
        fields.push(Field::new(name, found.data_type(), true));
    }
    fields.extend(declared.iter().map(|(name, data_type)| Field::new(name, data_type.clone(), true)));
    let schema = Arc::new(Schema::new(fields));
    if schema.fields().is_empty() {
        return Err("the input has no columns".to_owned());
    }
    let mut decoder = arrow_json::ReaderBuilder::new(Arc::clone(&schema))
        .with_batch_size(rows.len().max(1))
        .build_decoder()
        .map_err(|error| format!("the input: {error}"))?;
    decoder.serialize(rows).map_err(|error| format!("the input: {error}"))?;
    let batch = decoder.flush().map_err(|error| format!("the input: {error}"))?;
    Ok(batch.unwrap_or_else(|| RecordBatch::new_empty(schema)))
}

fn conflict(name: &str) -> String {
    format!("column {name:?} holds values of types that do not go together; declare its type")
}

/// What values were seen.
#[derive(Debug, Clone, PartialEq)]
enum Inferred {
    Null,
    Bool,
    Int,
    Float,
    Timestamp,
    Text,
    List(Box<Inferred>),
    Struct(Vec<(String, Option<Inferred>)>),
}

impl Inferred {
    fn of(value: &Value) -> Result<Self, String> {
        Ok(match value {
            Value::Null => Self::Null,
            Value::Bool(_) => Self::Bool,
            Value::Number(number) if number.is_i64() => Self::Int,
            Value::Number(_) => Self::Float,
            Value::String(text) if is_timestamp(text) => Self::Timestamp,
            Value::String(_) => Self::Text,
            Value::Array(items) => {
                let mut item = Self::Null;
                for value in items {
                    item = item.merge(Self::of(value)?).ok_or_else(|| conflict("items of a list"))?;
                }
                Self::List(Box::new(item))
            }
            Value::Object(fields) => {
                let mut merged = Vec::new();
                for (name, value) in fields {
                    merge_field(&mut merged, name, Self::of(value)?)?;
                }
                Self::Struct(merged)
            }
        })
    }

    /// The type that takes both; `None` where there is none.
    fn merge(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Self::Null, other) | (other, Self::Null) => Some(other),
            (Self::Int, Self::Float) | (Self::Float, Self::Int) => Some(Self::Float),
            (Self::Timestamp, Self::Text) | (Self::Text, Self::Timestamp) => Some(Self::Text),
            (Self::List(a), Self::List(b)) => a.merge(*b).map(|item| Self::List(Box::new(item))),
            (Self::Struct(mut a), Self::Struct(b)) => {
                for (name, found) in b {
                    merge_field(&mut a, &name, found?).ok()?;
                }
                Some(Self::Struct(a))
            }
            (a, b) => (a == b).then_some(a),
        }
    }

    fn data_type(&self) -> DataType {
        match self {
            Self::Null => DataType::Null,
            Self::Bool => DataType::Boolean,
            Self::Int => DataType::Int64,
            Self::Float => DataType::Float64,
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::Text => DataType::Utf8,
            Self::List(item) => DataType::List(Arc::new(Field::new("item", item.data_type(), true))),
            Self::Struct(fields) => {
                let field = |(name, found): &(String, Option<Self>)| {
                    Field::new(name, found.as_ref().map_or(DataType::Null, Self::data_type), true)
                };
                DataType::Struct(fields.iter().map(field).collect::<Fields>())
            }
        }
    }
}

fn merge_field(fields: &mut Vec<(String, Option<Inferred>)>, name: &str, found: Inferred) -> Result<(), String> {
    match fields.iter_mut().find(|(known, _)| known == name) {
        None => fields.push((name.to_owned(), Some(found))),
        Some((_, known)) => {
            let merged = known.take().and_then(|known| known.merge(found));
            *known = Some(merged.ok_or_else(|| conflict(name))?);
        }
    }
    Ok(())
}

/// `2026-01-02T03:04:05`, a fraction or none, and a zone: without one it stays text.
fn is_timestamp(text: &str) -> bool {
    let bytes = text.as_bytes();
    let pattern = b"0000-00-00T00:00:00";
    let fits = bytes.len() > pattern.len()
        && pattern.iter().zip(bytes).all(|(p, b)| if *p == b'0' { b.is_ascii_digit() } else { p == b });
    let zone = text.get(pattern.len()..).unwrap_or_default();
    let zone = zone.strip_prefix('.').map_or(zone, |rest| rest.trim_start_matches(|c: char| c.is_ascii_digit()));
    fits && (zone == "Z" || zone.starts_with(['+', '-']) && matches!(zone.len(), 5 | 6))
}
