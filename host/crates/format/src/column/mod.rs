//! Columns that are being decoded: one per field of the schema, nested as the schema is.
//!
//! A column is given a value for a row, says whether it fits, and holds nothing of it where it does not. Rows that got no
//! value are padded with nulls later, and a record that turns out to be malformed is taken back by length alone.

mod list;
mod object;
mod values;

use std::sync::Arc;

use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int64Array,
    StringArray, TimestampMicrosecondArray, UInt64Array,
};
use arrow_buffer::{BooleanBuffer, Buffer};
use arrow_schema::{DataType, TimeUnit};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

pub(crate) use self::list::List;
pub(crate) use self::object::{Object, Records};
use self::values::Values;
pub(crate) use self::values::{Offsets, Texts};
use crate::cursor::{Cursor, Malformed, Number};
use crate::error::FormatError;
use crate::number::{self, EXACT};
use crate::rescue::Rescues;
use crate::time;

/// Whether a value fits its column. A misfit has been read to its end, and the column holds nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fit {
    Fits,
    Misfit,
}

impl Fit {
    fn of(fits: Option<()>) -> Self {
        if fits.is_some() { Self::Fits } else { Self::Misfit }
    }
}

/// What decoding a record needs beside the columns.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub(crate) rescues: Rescues,
    /// A string that is not a column's text: a time, a name with escapes.
    pub(crate) text: Vec<u8>,
    /// Seconds east of UTC of times without a zone.
    pub(crate) zone: Option<i32>,
    /// Lists that the cursor is in.
    lists: u32,
    /// Whether something did not fit within them.
    list_misfit: bool,
}

impl Scratch {
    pub(crate) fn new(zone: Option<i32>) -> Self {
        Self { zone, ..Self::default() }
    }

    /// Forgets the record at hand.
    pub(crate) fn reset(&mut self) {
        self.rescues.truncate(0);
        self.lists = 0;
        self.list_misfit = false;
    }
}

/// 64-bit integers, and the narrower ones within their bounds.
#[derive(Debug)]
pub(crate) struct Ints {
    values: Values<i64>,
    least: i64,
    most: i64,
    data_type: DataType,
    /// Whether one of them is beyond what a float holds exactly, so that the column must not become one.
    pub(crate) beyond_float: bool,
}

/// Decimals of a precision and scale.
#[derive(Debug)]
pub(crate) struct Decimals {
    values: Values<i128>,
    precision: u8,
    scale: i8,
}

#[derive(Debug)]
pub(crate) enum Column {
    Bool(Values<bool>),
    Int(Ints),
    U64(Values<u64>),
    F32(Values<f32>),
    F64(Values<f64>),
    Decimal(Decimals),
    Date(Values<i32>),
    Time(Values<i64>),
    Text(Texts),
    Binary(Texts),
    List(Box<List>),
    Struct(Box<Records>),
}

impl Column {
    /// A column of a type; `path` is for the message.
    pub(crate) fn new(data_type: &DataType, path: &str) -> Result<Self, FormatError> {
        let int = |least, most| {
            Ok(Self::Int(Ints {
                values: Values::default(),
                least,
                most,
                data_type: data_type.clone(),
                beyond_float: false,
            }))
        };
        #[expect(clippy::wildcard_enum_match_arm, reason = "all others are refused")]
        match data_type {
            DataType::Boolean => Ok(Self::Bool(Values::default())),
            DataType::Int8 => int(i8::MIN.into(), i8::MAX.into()),
            DataType::Int16 => int(i16::MIN.into(), i16::MAX.into()),
            DataType::Int32 => int(i32::MIN.into(), i32::MAX.into()),
            DataType::Int64 => int(i64::MIN, i64::MAX),
            DataType::UInt8 => int(0, u8::MAX.into()),
            DataType::UInt16 => int(0, u16::MAX.into()),
            DataType::UInt32 => int(0, u32::MAX.into()),
            DataType::UInt64 => Ok(Self::U64(Values::default())),
            DataType::Float32 => Ok(Self::F32(Values::default())),
            DataType::Float64 => Ok(Self::F64(Values::default())),
            &DataType::Decimal128(precision, scale) => {
                Ok(Self::Decimal(Decimals { values: Values::default(), precision, scale }))
            }
            DataType::Date32 => Ok(Self::Date(Values::default())),
            DataType::Timestamp(TimeUnit::Microsecond, Some(zone)) if &**zone == "UTC" => {
                Ok(Self::Time(Values::default()))
            }
            DataType::Utf8 => Ok(Self::Text(Texts::default())),
            DataType::Binary => Ok(Self::Binary(Texts::default())),
            DataType::List(element) => Ok(Self::List(Box::new(List::new(element, path)?))),
            DataType::Struct(fields) if !fields.is_empty() => Ok(Self::Struct(Box::new(Records::new(fields, path)?))),
            other => Err(FormatError::Type { column: path.to_owned(), data_type: other.to_string() }),
        }
    }

    /// Rows that it has a value or a null for.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Bool(values) => values.len(),
            Self::Int(ints) => ints.values.len(),
            Self::U64(values) => values.len(),
            Self::F32(values) => values.len(),
            Self::F64(values) => values.len(),
            Self::Decimal(decimals) => decimals.values.len(),
            Self::Date(values) => values.len(),
            Self::Time(values) => values.len(),
            Self::Text(texts) | Self::Binary(texts) => texts.len(),
            Self::List(list) => list.len(),
            Self::Struct(records) => records.len(),
        }
    }

    /// Nulls up to `rows`.
    pub(crate) fn pad(&mut self, rows: usize) {
        match self {
            Self::Bool(values) => values.pad(rows),
            Self::Int(ints) => ints.values.pad(rows),
            Self::U64(values) => values.pad(rows),
            Self::F32(values) => values.pad(rows),
            Self::F64(values) => values.pad(rows),
            Self::Decimal(decimals) => decimals.values.pad(rows),
            Self::Date(values) => values.pad(rows),
            Self::Time(values) => values.pad(rows),
            Self::Text(texts) | Self::Binary(texts) => texts.pad(rows),
            Self::List(list) => list.pad(rows),
            Self::Struct(records) => records.pad(rows),
        }
    }

    /// Forgets the rows from `len` on, and what was begun of the next.
    pub(crate) fn truncate(&mut self, len: usize) {
        match self {
            Self::Bool(values) => values.truncate(len),
            Self::Int(ints) => ints.values.truncate(len),
            Self::U64(values) => values.truncate(len),
            Self::F32(values) => values.truncate(len),
            Self::F64(values) => values.truncate(len),
            Self::Decimal(decimals) => decimals.values.truncate(len),
            Self::Date(values) => values.truncate(len),
            Self::Time(values) => values.truncate(len),
            Self::Text(texts) | Self::Binary(texts) => texts.truncate(len),
            Self::List(list) => list.truncate(len),
            Self::Struct(records) => records.truncate(len),
        }
    }

    /// Takes the JSON value at the cursor for `row`.
    #[inline]
    pub(crate) fn json(
        &mut self,
        cursor: &mut Cursor<'_>,
        row: usize,
        scratch: &mut Scratch,
        depth: u32,
    ) -> Result<Fit, Malformed> {
        match cursor.peek() {
            b'"' => self.json_string(cursor, row, scratch),
            b'-' | b'0'..=b'9' => {
                let from = cursor.at;
                let number = cursor.number()?;
                Ok(self.number(row, number, cursor.since(from)))
            }
            b't' => cursor.literal(b"true").map(|()| self.bool(row, true)),
            b'f' => cursor.literal(b"false").map(|()| self.bool(row, false)),
            b'n' => {
                cursor.literal(b"null")?;
                self.pad(row + 1);
                Ok(Fit::Fits)
            }
            b'[' if let Self::List(list) = self => list.json(cursor, row, scratch, depth),
            b'{' if let Self::Struct(records) = self => records.json(cursor, row, scratch, depth),
            _ => cursor.skip(depth).map(|()| Fit::Misfit),
        }
    }

    #[inline]
    fn json_string(&mut self, cursor: &mut Cursor<'_>, row: usize, scratch: &mut Scratch) -> Result<Fit, Malformed> {
        cursor.at += 1;
        if let Self::Text(texts) = self {
            let whole = cursor.string(texts.open())?;
            if whole {
                texts.close(row);
                return Ok(Fit::Fits);
            }
            texts.truncate(texts.len());
            return Ok(Fit::Misfit);
        }
        scratch.text.clear();
        let whole = cursor.string(&mut scratch.text)?;
        Ok(if whole { self.json_text(row, &scratch.text, scratch.zone) } else { Fit::Misfit })
    }

    fn bool(&mut self, row: usize, value: bool) -> Fit {
        let Self::Bool(values) = self else { return Fit::Misfit };
        values.push(row, value);
        Fit::Fits
    }

    /// A number of JSON or CSV; `text` is how it is written.
    #[inline]
    fn number(&mut self, row: usize, number: Number, text: &[u8]) -> Fit {
        Fit::of(match self {
            Self::F64(values) => number.to_f64(text).map(|value| values.push(row, value)),
            Self::Int(ints) => number
                .to_i64()
                .filter(|value| (ints.least..=ints.most).contains(value))
                .map(|value| ints.values.push(row, value)),
            Self::U64(values) => number.to_u64(text).map(|value| values.push(row, value)),
            Self::F32(values) => number.to_f32(text).map(|value| values.push(row, value)),
            Self::Decimal(decimals) => {
                number::decimal(text, decimals.precision, decimals.scale).map(|value| decimals.values.push(row, value))
            }
            Self::Bool(_)
            | Self::Date(_)
            | Self::Time(_)
            | Self::Text(_)
            | Self::Binary(_)
            | Self::List(_)
            | Self::Struct(_) => None,
        })
    }

    /// The text of a JSON string, for columns that are no text themselves.
    fn json_text(&mut self, row: usize, text: &[u8], zone: Option<i32>) -> Fit {
        Fit::of(match self {
            Self::Time(values) => time::timestamp(text, zone).map(|value| values.push(row, value)),
            Self::Date(values) => time::date(text).map(|value| values.push(row, value)),
            Self::Binary(bytes) => BASE64.decode(text).ok().map(|value| bytes.push(row, &value)),
            Self::Decimal(decimals) if is_number(text) => {
                number::decimal(text, decimals.precision, decimals.scale).map(|value| decimals.values.push(row, value))
            }
            Self::Text(texts) => {
                texts.push(row, text);
                Some(())
            }
            Self::Decimal(_)
            | Self::Bool(_)
            | Self::Int(_)
            | Self::U64(_)
            | Self::F32(_)
            | Self::F64(_)
            | Self::List(_)
            | Self::Struct(_) => None,
        })
    }

    /// Takes a CSV field for `row`: text that is written as JSON writes the column's type.
    pub(crate) fn csv(&mut self, row: usize, text: &[u8], zone: Option<i32>) -> Fit {
        match self {
            Self::Bool(_) if text == b"true" => self.bool(row, true),
            Self::Bool(_) if text == b"false" => self.bool(row, false),
            Self::Int(_) | Self::U64(_) | Self::F32(_) | Self::F64(_) | Self::Decimal(_) => {
                let mut cursor = Cursor::over(text);
                match cursor.number() {
                    Ok(number) if cursor.at == text.len() => self.number(row, number, text),
                    Ok(_) | Err(_) => Fit::Misfit,
                }
            }
            Self::Bool(_)
            | Self::Date(_)
            | Self::Time(_)
            | Self::Text(_)
            | Self::Binary(_)
            | Self::List(_)
            | Self::Struct(_) => self.json_text(row, text, zone),
        }
    }

    /// The first `rows` rows as an array; the column is then empty.
    pub(crate) fn finish(&mut self, rows: usize) -> Result<ArrayRef, FormatError> {
        Ok(match self {
            Self::Bool(values) => {
                let (values, nulls) = values.finish(rows);
                Arc::new(BooleanArray::new(BooleanBuffer::from(values), nulls))
            }
            Self::Int(ints) => return ints.finish(rows),
            Self::U64(values) => {
                let (values, nulls) = values.finish(rows);
                Arc::new(UInt64Array::try_new(values.into(), nulls)?)
            }
            Self::F32(values) => {
                let (values, nulls) = values.finish(rows);
                Arc::new(Float32Array::try_new(values.into(), nulls)?)
            }
            Self::F64(values) => {
                let (values, nulls) = values.finish(rows);
                Arc::new(Float64Array::try_new(values.into(), nulls)?)
            }
            Self::Decimal(Decimals { values, precision, scale }) => {
                let (values, nulls) = values.finish(rows);
                let array = Decimal128Array::try_new(values.into(), nulls)?;
                Arc::new(array.with_precision_and_scale(*precision, *scale)?)
            }
            Self::Date(values) => {
                let (values, nulls) = values.finish(rows);
                Arc::new(Date32Array::try_new(values.into(), nulls)?)
            }
            Self::Time(values) => {
                let (values, nulls) = values.finish(rows);
                Arc::new(TimestampMicrosecondArray::try_new(values.into(), nulls)?.with_timezone("UTC"))
            }
            Self::Text(texts) => {
                let (offsets, bytes, nulls) = texts.finish(rows);
                Arc::new(StringArray::try_new(offsets, Buffer::from_vec(bytes), nulls)?)
            }
            Self::Binary(texts) => {
                let (offsets, bytes, nulls) = texts.finish(rows);
                Arc::new(BinaryArray::try_new(offsets, Buffer::from_vec(bytes), nulls)?)
            }
            Self::List(list) => return list.finish(rows),
            Self::Struct(records) => return records.finish(rows),
        })
    }
}

impl Ints {
    fn finish(&mut self, rows: usize) -> Result<ArrayRef, FormatError> {
        let (values, nulls) = self.values.finish(rows);
        self.beyond_float |= values.iter().any(|value| value.unsigned_abs() > EXACT);
        let array: ArrayRef = Arc::new(Int64Array::try_new(values.into(), nulls)?);
        if self.data_type == DataType::Int64 {
            return Ok(array);
        }
        // Each value was checked against the bounds of the type.
        Ok(arrow_cast::cast(&array, &self.data_type)?)
    }
}

fn is_number(text: &[u8]) -> bool {
    let mut cursor = Cursor::over(text);
    cursor.number().is_ok() && cursor.at == text.len()
}
