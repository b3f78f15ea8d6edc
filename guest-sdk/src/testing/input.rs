//! Rows from text: JSON lines, a JSON array or CSV become values, and the values' types become a schema.
//!
//! Types are those that forebay infers of the same text, so that a rule meets the same columns here and there. Where forebay
//! would put a value aside (`_forebay_rescued`), since it is of another type than most, a test is refused instead: it shows
//! what a rule does, and rules do not see such values.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{DataType, Field, Schema, TimeUnit};
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
            [number as fn(&str) -> Option<Value>, boolean]
                .into_iter()
                .find(|read| cells().all(|cell| read(cell).is_some()))
                .unwrap_or(|cell| Some(Value::from(cell)))
        })
        .collect();
    let row = |record: &csv::StringRecord| {
        let cells = headers.iter().zip(&typed).zip(record);
        let value = |read: &fn(&str) -> Option<Value>, cell: &str| match cell {
            "" => Value::Null,
            cell => read(cell).unwrap_or(Value::Null),
        };
        cells.map(|((name, read), cell)| (name.to_owned(), value(read, cell))).collect()
    };
    Ok(records.iter().map(row).collect())
}

/// Written as JSON writes numbers: `007`, `1.` and `+1` are text.
fn number(cell: &str) -> Option<Value> {
    cell.parse::<serde_json::Number>().ok().map(Value::Number)
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
    let mut rows = rows.clone();
    for (name, found) in inferred {
        let found = found.ok_or_else(|| conflict(&name))?;
        rows.iter_mut().filter_map(|row| row.get_mut(&name)).for_each(|value| found.write_alike(value));
        // A column that only has nulls has no type yet, and forebay's schema not that column.
        let data_type = found.data_type().ok_or_else(|| untyped(&name))?;
        fields.extend(data_type.map(|data_type| Field::new(name, data_type, true)));
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
    decoder.serialize(&rows).map_err(|error| format!("the input: {error}"))?;
    let batch = decoder.flush().map_err(|error| format!("the input: {error}"))?;
    Ok(batch.unwrap_or_else(|| RecordBatch::new_empty(schema)))
}

fn conflict(name: &str) -> String {
    format!("column {name:?} holds values of types that do not go together; declare its type")
}

fn untyped(name: &str) -> String {
    format!("column {name:?} holds lists or objects that nothing is in, which have no type; leave them out")
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
            Value::Number(number) if number.is_u64() => {
                return Err(format!("{number} is an integer beyond 64 bits with a sign, which a test cannot hold"));
            }
            Value::Number(_) => Self::Float,
            Value::String(text) if timestamp(text).is_some() => Self::Timestamp,
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

    /// Timestamps in the one spelling that Arrow reads.
    fn write_alike(&self, value: &mut Value) {
        match (self, value) {
            (Self::Timestamp, Value::String(text)) => {
                if let Some(alike) = timestamp(text) {
                    *text = alike;
                }
            }
            (Self::List(item), Value::Array(items)) => items.iter_mut().for_each(|value| item.write_alike(value)),
            (Self::Struct(fields), Value::Object(values)) => {
                for (name, found) in fields {
                    if let (Some(found), Some(value)) = (found, values.get_mut(name)) {
                        found.write_alike(value);
                    }
                }
            }
            _ => {}
        }
    }

    /// No type for nulls alone. `None` for lists and objects that nothing is in: forebay has no column for them, and puts them
    /// aside.
    fn data_type(&self) -> Option<Option<DataType>> {
        Some(Some(match self {
            Self::Null => return Some(None),
            Self::Bool => DataType::Boolean,
            Self::Int => DataType::Int64,
            Self::Float => DataType::Float64,
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::Text => DataType::Utf8,
            Self::List(item) => DataType::List(Arc::new(Field::new("element", item.data_type()??, true))),
            Self::Struct(fields) => {
                let mut typed = Vec::new();
                for (name, found) in fields {
                    let data_type = found.as_ref()?.data_type()?;
                    typed.extend(data_type.map(|data_type| Field::new(name, data_type, true)));
                }
                if typed.is_empty() {
                    return None;
                }
                DataType::Struct(typed.into())
            }
        }))
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

/// A date, `T` or a space, `hh:mm`, seconds with a fraction or none, and a zone: without one it stays text. Spelt as RFC 3339.
fn timestamp(text: &str) -> Option<String> {
    let (date, clock) = text.split_at_checked(10)?;
    let clock = clock.strip_prefix(['T', 't', ' '])?;
    let (clock, zone) = clock.split_at(clock.find(['Z', 'z', '+', '-'])?);
    let (clock, fraction) = clock.split_once(['.', ',']).map_or((clock, None), |(clock, rest)| (clock, Some(rest)));
    let parts: Vec<u32> = clock.split(':').map(two).collect::<Option<_>>()?;
    let (hour, minute, second) = match (parts.as_slice(), fraction) {
        ([hour, minute], None) => (*hour, *minute, 0),
        ([hour, minute, second], _) => (*hour, *minute, *second),
        _ => return None,
    };
    let fits = hour < 24 && minute < 60 && second < 60 && fraction.is_none_or(is_micros) && is_date(date);
    let zone = self::zone(zone).filter(|_| fits)?;
    let micros: String = fraction.unwrap_or("0").chars().take(6).collect();
    Some(format!("{date}T{hour:02}:{minute:02}:{second:02}.{micros}{zone}"))
}

fn two(digits: &str) -> Option<u32> {
    (digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok())?
}

fn is_date(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let [year, month, day] = parts[..] else { return false };
    let year = year.split_at_checked(2).and_then(|(century, year)| Some(two(century)? * 100 + two(year)?));
    let (Some(year), Some(month), Some(day)) = (year, two(month), two(day)) else { return false };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 => 28 + u32::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => 0,
    };
    (1..=days).contains(&day)
}

/// Digits; beyond the microsecond zeros.
fn is_micros(digits: &str) -> bool {
    let all = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    all && digits.bytes().skip(6).all(|digit| digit == b'0')
}

/// `Z`, or an offset with hours and minutes.
fn zone(zone: &str) -> Option<String> {
    if matches!(zone, "Z" | "z") {
        return Some("Z".to_owned());
    }
    let sign = zone.get(..1)?;
    let rest = zone.strip_prefix(['+', '-'])?;
    let (hour, minute) = match rest.len() {
        2 => (two(rest)?, 0),
        4 => (two(rest.get(..2)?)?, two(rest.get(2..)?)?),
        5 if rest.get(2..3) == Some(":") => (two(rest.get(..2)?)?, two(rest.get(3..)?)?),
        _ => return None,
    };
    (hour < 24 && minute < 60).then(|| format!("{sign}{hour:02}:{minute:02}"))
}
