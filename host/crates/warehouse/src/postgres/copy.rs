//! Rows as PostgreSQL's binary COPY takes them: for each row the number of its columns, for each column its length and its bytes.
//! Columns are looked at once for each batch, values are written straight into the buffer that is sent.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimestampMicrosecondType,
};
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int8Array,
    Int16Array, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};

use super::json::{self, NUL_PICTURE, Unfit};
use super::numeric;
use super::types::Stored;

/// What a stream begins with: the signature, no flags, no extension.
pub(super) const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// What it ends with.
pub(super) const TRAILER: [u8; 2] = (-1_i16).to_be_bytes();
/// How much longer 1970 is ago than 2000, where PostgreSQL's times begin.
pub(super) const EPOCH_DAYS: i32 = 10_957;
pub(super) const EPOCH_MICROS: i64 = 946_684_800_000_000;
/// The first day (4714-11-24 BC) and the first instant that PostgreSQL has, as it counts; the day after the last.
const FIRST_DAY: i32 = -2_451_545;
const END_DAY: i32 = 2_145_031_949;
const FIRST_MICROS: i64 = -211_813_488_000_000_000;
/// `jsonb` begins with its version.
pub(super) const JSONB_VERSION: u8 = 1;

/// A column, known by its type.
enum Cells<'a> {
    Boolean(&'a BooleanArray),
    Int8(&'a Int8Array),
    Int16(&'a Int16Array),
    Int32(&'a Int32Array),
    Int64(&'a Int64Array),
    Float32(&'a Float32Array),
    Float64(&'a Float64Array),
    Text(&'a StringArray),
    /// Some of whose texts hold U+0000.
    TextWithNul(&'a StringArray),
    Bytes(&'a BinaryArray),
    Date(&'a Date32Array),
    Time(&'a TimestampMicrosecondArray),
    Decimal(&'a Decimal128Array, u8),
    Json(&'a dyn Array),
}

/// What cannot be written: the column, and why.
#[derive(Debug)]
pub(super) struct Misfit {
    pub(super) column: usize,
    pub(super) why: Unfit,
}

impl<'a> Cells<'a> {
    fn of(column: &'a ArrayRef) -> Option<Self> {
        Some(match Stored::of(column.data_type())? {
            Stored::Boolean => Self::Boolean(column.as_boolean_opt()?),
            Stored::Int8 => Self::Int8(column.as_primitive_opt::<Int8Type>()?),
            Stored::Int16 => Self::Int16(column.as_primitive_opt::<Int16Type>()?),
            Stored::Int32 => Self::Int32(column.as_primitive_opt::<Int32Type>()?),
            Stored::Int64 => Self::Int64(column.as_primitive_opt::<Int64Type>()?),
            Stored::Float32 => Self::Float32(column.as_primitive_opt::<Float32Type>()?),
            Stored::Float64 => Self::Float64(column.as_primitive_opt::<Float64Type>()?),
            Stored::Text => {
                let texts = column.as_string_opt::<i32>()?;
                if texts.value_data().contains(&0) { Self::TextWithNul(texts) } else { Self::Text(texts) }
            }
            Stored::Bytes => Self::Bytes(column.as_binary_opt::<i32>()?),
            Stored::Date => Self::Date(column.as_primitive_opt::<Date32Type>()?),
            Stored::Time => Self::Time(column.as_primitive_opt::<TimestampMicrosecondType>()?),
            Stored::Decimal(_, scale) => Self::Decimal(column.as_primitive_opt::<Decimal128Type>()?, scale),
            Stored::Json => Self::Json(column.as_ref()),
        })
    }

    fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<(), Unfit> {
        match self {
            Self::Boolean(cells) => fixed(&[u8::from(cells.value(row))], out),
            Self::Int8(cells) => fixed(&i16::from(cells.value(row)).to_be_bytes(), out),
            Self::Int16(cells) => fixed(&cells.value(row).to_be_bytes(), out),
            Self::Int32(cells) => fixed(&cells.value(row).to_be_bytes(), out),
            Self::Int64(cells) => fixed(&cells.value(row).to_be_bytes(), out),
            Self::Float32(cells) => fixed(&cells.value(row).to_be_bytes(), out),
            Self::Float64(cells) => fixed(&cells.value(row).to_be_bytes(), out),
            Self::Text(cells) => return sized(cells.value(row).as_bytes(), out),
            Self::TextWithNul(cells) => return sized(cells.value(row).replace('\0', NUL_PICTURE).as_bytes(), out),
            Self::Bytes(cells) => return sized(cells.value(row), out),
            Self::Date(cells) => {
                let days = cells.value(row).checked_sub(EPOCH_DAYS).filter(|days| (FIRST_DAY..END_DAY).contains(days));
                fixed(&days.ok_or("a date of it is before 4714 BC, or too far ahead")?.to_be_bytes(), out);
            }
            Self::Time(cells) => {
                let micros = cells.value(row).checked_sub(EPOCH_MICROS).filter(|micros| *micros >= FIRST_MICROS);
                fixed(&micros.ok_or("a time of it is before 4714 BC")?.to_be_bytes(), out);
            }
            Self::Decimal(cells, scale) => {
                return measured(out, |out| {
                    numeric::encode(cells.value(row), *scale, out);
                    Ok(())
                });
            }
            Self::Json(cells) => {
                return measured(out, |out| {
                    out.push(JSONB_VERSION);
                    json::write(*cells, row, out)
                });
            }
        }
        Ok(())
    }

    fn is_null(&self, row: usize) -> bool {
        match self {
            Self::Boolean(cells) => cells.is_null(row),
            Self::Int8(cells) => cells.is_null(row),
            Self::Int16(cells) => cells.is_null(row),
            Self::Int32(cells) => cells.is_null(row),
            Self::Int64(cells) => cells.is_null(row),
            Self::Float32(cells) => cells.is_null(row),
            Self::Float64(cells) => cells.is_null(row),
            Self::Text(cells) | Self::TextWithNul(cells) => cells.is_null(row),
            Self::Bytes(cells) => cells.is_null(row),
            Self::Date(cells) => cells.is_null(row),
            Self::Time(cells) => cells.is_null(row),
            Self::Decimal(cells, _) => cells.is_null(row),
            Self::Json(cells) => cells.is_null(row),
        }
    }
}

/// Appends the rows of a batch, whose columns are stored ones.
pub(super) fn write_rows(batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), Misfit> {
    let mut columns = Vec::with_capacity(batch.num_columns());
    for (column, array) in batch.columns().iter().enumerate() {
        let cells = Cells::of(array).ok_or(Misfit { column, why: "it is of a type that is not stored" })?;
        columns.push(cells);
    }
    let too_many = |_| Misfit { column: 0, why: "it stands in a table of more than 32,767 columns" };
    let count = i16::try_from(columns.len()).map_err(too_many)?.to_be_bytes();
    for row in 0..batch.num_rows() {
        out.extend(count);
        for (column, cells) in columns.iter().enumerate() {
            if cells.is_null(row) {
                out.extend((-1_i32).to_be_bytes());
            } else {
                cells.write(row, out).map_err(|why| Misfit { column, why })?;
            }
        }
    }
    Ok(())
}

fn fixed<const BYTES: usize>(bytes: &[u8; BYTES], out: &mut Vec<u8>) {
    out.extend(u32::try_from(BYTES).unwrap_or(0).to_be_bytes());
    out.extend(bytes);
}

fn sized(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Unfit> {
    out.extend(length(bytes.len())?);
    out.extend(bytes);
    Ok(())
}

/// The length stands before what is written, and is known after it.
fn measured(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> Result<(), Unfit>) -> Result<(), Unfit> {
    let start = out.len();
    out.extend([0; 4]);
    write(out)?;
    let length = length(out.len() - start - 4)?;
    if let Some(place) = out.get_mut(start..start + 4) {
        place.copy_from_slice(&length);
    }
    Ok(())
}

fn length(bytes: usize) -> Result<[u8; 4], Unfit> {
    match i32::try_from(bytes) {
        Ok(length) if length < 1 << 30 => Ok(length.to_be_bytes()),
        Ok(_) | Err(_) => Err("a value of it is larger than the 1 GiB that PostgreSQL takes"),
    }
}
