//! Nested values as JSON, for `jsonb`: see [`super::types`]. Written by hand, for nothing may be lost in silence: a general writer makes
//! null of NaN, and lets a key of a map stand twice, of which `jsonb` keeps the last.

use std::collections::HashSet;
use std::io::Write as _;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimestampMicrosecondType,
};
use arrow_array::{Array, ListArray, MapArray, StructArray};
use arrow_schema::DataType;
use chrono::{DateTime, Datelike as _, Duration, NaiveDate};

/// Why a value has no JSON form.
pub(super) type Unfit = &'static str;

/// Appends the value of a row.
pub(super) fn write(array: &dyn Array, row: usize, out: &mut Vec<u8>) -> Result<(), Unfit> {
    if array.is_null(row) {
        out.extend(b"null");
        return Ok(());
    }
    if let Some(fields) = array.as_any().downcast_ref::<StructArray>() {
        return object(fields, row, out);
    }
    if let Some(list) = array.as_any().downcast_ref::<ListArray>() {
        return items(list, row, out);
    }
    if let Some(map) = array.as_any().downcast_ref::<MapArray>() {
        return pairs(map, row, out);
    }
    scalar(array, row, true, out)
}

fn object(fields: &StructArray, row: usize, out: &mut Vec<u8>) -> Result<(), Unfit> {
    out.push(b'{');
    let mut is_first = true;
    for (field, column) in fields.fields().iter().zip(fields.columns()) {
        if column.is_null(row) {
            continue;
        }
        if !std::mem::take(&mut is_first) {
            out.push(b',');
        }
        text(field.name(), out);
        out.push(b':');
        write(column, row, out)?;
    }
    out.push(b'}');
    Ok(())
}

fn items(list: &ListArray, row: usize, out: &mut Vec<u8>) -> Result<(), Unfit> {
    out.push(b'[');
    let items = list.value(row);
    for item in 0..items.len() {
        if item > 0 {
            out.push(b',');
        }
        write(&items, item, out)?;
    }
    out.push(b']');
    Ok(())
}

fn pairs(map: &MapArray, row: usize, out: &mut Vec<u8>) -> Result<(), Unfit> {
    out.push(b'{');
    let entries = map.value(row);
    let (keys, values) = (entries.column(0), entries.column(1));
    let mut seen = HashSet::new();
    for pair in 0..entries.len() {
        if pair > 0 {
            out.push(b',');
        }
        let start = out.len();
        out.push(b'"');
        scalar(keys, pair, false, out)?;
        out.push(b'"');
        if !seen.insert(out.get(start..).unwrap_or_default().to_vec()) {
            return Err("its map has a key twice");
        }
        out.push(b':');
        write(values, pair, out)?;
    }
    out.push(b'}');
    Ok(())
}

/// A value that holds no others. A map's key stands between quotes already, so what is text is not put into quotes once more.
#[expect(clippy::wildcard_enum_match_arm, reason = "these are all that `columns::storage_field` gives")]
fn scalar(array: &dyn Array, row: usize, quotes: bool, out: &mut Vec<u8>) -> Result<(), Unfit> {
    let quote = |out: &mut Vec<u8>| {
        if quotes {
            out.push(b'"');
        }
    };
    // A vector takes all that is written to it.
    match array.data_type() {
        DataType::Boolean => {
            let _ = write!(out, "{}", array.as_boolean().value(row));
        }
        DataType::Int8 => {
            let _ = write!(out, "{}", array.as_primitive::<Int8Type>().value(row));
        }
        DataType::Int16 => {
            let _ = write!(out, "{}", array.as_primitive::<Int16Type>().value(row));
        }
        DataType::Int32 => {
            let _ = write!(out, "{}", array.as_primitive::<Int32Type>().value(row));
        }
        DataType::Int64 => {
            let _ = write!(out, "{}", array.as_primitive::<Int64Type>().value(row));
        }
        DataType::Float32 => {
            let value = array.as_primitive::<Float32Type>().value(row);
            number(f64::from(value), quotes, out, |out| write!(out, "{value:?}"));
        }
        DataType::Float64 => {
            let value = array.as_primitive::<Float64Type>().value(row);
            number(value, quotes, out, |out| write!(out, "{value:?}"));
        }
        DataType::Decimal128(_, _) => out.extend(array.as_primitive::<Decimal128Type>().value_as_string(row).bytes()),
        DataType::Utf8 if quotes => text(array.as_string::<i32>().value(row), out),
        DataType::Utf8 => escaped(array.as_string::<i32>().value(row), out),
        DataType::Binary => {
            quote(out);
            for byte in array.as_binary::<i32>().value(row) {
                let _ = write!(out, "{byte:02x}");
            }
            quote(out);
        }
        DataType::Date32 => {
            let days = array.as_primitive::<Date32Type>().value(row);
            let date = NaiveDate::default().checked_add_signed(Duration::days(days.into()));
            match date.filter(|date| (0..=9999).contains(&date.year())) {
                Some(date) => {
                    quote(out);
                    let _ = write!(out, "{date}");
                    quote(out);
                }
                None => {
                    let _ = write!(out, "{days}");
                }
            }
        }
        DataType::Timestamp(_, _) => {
            let micros = array.as_primitive::<TimestampMicrosecondType>().value(row);
            match DateTime::from_timestamp_micros(micros).filter(|time| (0..=9999).contains(&time.year())) {
                Some(time) => {
                    quote(out);
                    let _ = write!(out, "{}", time.format("%Y-%m-%dT%H:%M:%S%.6fZ"));
                    quote(out);
                }
                None => {
                    let _ = write!(out, "{micros}");
                }
            }
        }
        _ => return Err("it holds a value of a type that is not stored"),
    }
    Ok(())
}

fn number(value: f64, quotes: bool, out: &mut Vec<u8>, finite: impl FnOnce(&mut Vec<u8>) -> std::io::Result<()>) {
    let told = if value.is_nan() {
        "NaN"
    } else if value == f64::INFINITY {
        "Infinity"
    } else if value == f64::NEG_INFINITY {
        "-Infinity"
    } else {
        // A vector takes all that is written to it.
        let _ = finite(out);
        return;
    };
    let quote: &[u8] = if quotes { b"\"" } else { b"" };
    out.extend([quote, told.as_bytes(), quote].concat());
}

fn text(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    escaped(text, out);
    out.push(b'"');
}

fn escaped(text: &str, out: &mut Vec<u8>) {
    for byte in text.bytes() {
        match byte {
            0 => out.extend(NUL_PICTURE.as_bytes()),
            b'"' | b'\\' => out.extend([b'\\', byte]),
            1..=0x1f => {
                let _ = write!(out, "\\u{byte:04x}");
            }
            _ => out.push(byte),
        }
    }
}

/// What stands for U+0000.
pub(super) const NUL_PICTURE: &str = "\u{2400}";
