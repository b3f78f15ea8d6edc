//! What COPY sends, as Arrow: the way back of [`super::copy`].

use std::sync::Arc;

use arrow_array::builder::{
    BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Float32Builder, Float64Builder, Int8Builder,
    Int16Builder, Int32Builder, Int64Builder, StringBuilder, TimestampMicrosecondBuilder,
};
use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_json::ReaderBuilder;
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};

use super::copy::{EPOCH_DAYS, EPOCH_MICROS, HEADER, JSONB_VERSION};
use super::numeric;
use super::types::Stored;

/// Rows of a batch.
const ROWS: usize = 8192;
/// Bytes that a batch is made of at most; the row that goes over it is in it.
const BYTES: usize = 8 << 20;

/// Takes bytes as they come, and gives batches of the schema.
pub(super) struct Decoder {
    schema: SchemaRef,
    columns: Vec<Column>,
    /// What came and is no whole row yet.
    rest: Vec<u8>,
    begun: bool,
    ended: bool,
    rows: usize,
    bytes: usize,
}

enum Column {
    Boolean(BooleanBuilder),
    Int8(Int8Builder),
    Int16(Int16Builder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    Float32(Float32Builder),
    Float64(Float64Builder),
    Text(StringBuilder),
    Bytes(BinaryBuilder),
    Date(Date32Builder),
    Time(TimestampMicrosecondBuilder, DataType),
    Decimal(Decimal128Builder, DataType, u8),
    /// One object with one member for each row, or with none for null.
    Json(Vec<u8>, DataType),
}

fn misread(what: impl Into<String>) -> ArrowError {
    ArrowError::ParseError(what.into())
}

impl Decoder {
    /// Of rows with these columns, in this order.
    pub(super) fn new(schema: SchemaRef) -> Result<Self, ArrowError> {
        let columns = schema.fields().iter().map(|field| Column::of(field)).collect::<Result<_, _>>()?;
        Ok(Self { schema, columns, rest: Vec::new(), begun: false, ended: false, rows: 0, bytes: 0 })
    }

    /// Takes what came. A batch that is full has to be taken before.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), ArrowError> {
        let mut came = std::mem::take(&mut self.rest);
        came.extend_from_slice(bytes);
        let mut left: &[u8] = &came;
        if !self.begun && left.len() >= HEADER.len() {
            left = left.strip_prefix(HEADER).ok_or_else(|| misread("the server's answer is no binary COPY"))?;
            self.begun = true;
        }
        while self.begun && !self.ended {
            let Some(length) = row_length(left)? else { break };
            let (row, after) = left.split_at_checked(length).unwrap_or((left, &[]));
            self.row(row)?;
            left = after;
        }
        let kept = came.len() - left.len();
        came.drain(..kept);
        self.rest = came;
        Ok(())
    }

    /// Whether a batch is large enough.
    pub(super) fn is_full(&self) -> bool {
        self.rows >= ROWS || self.bytes >= BYTES
    }

    fn row(&mut self, row: &[u8]) -> Result<(), ArrowError> {
        let (count, mut left) = take::<2>(row).ok_or_else(|| misread("a row without a number of columns"))?;
        let count = i16::from_be_bytes(count);
        if count < 0 {
            self.ended = true;
            return Ok(());
        }
        if usize::try_from(count).ok() != Some(self.columns.len()) {
            return Err(misread(format!("a row of {count} columns instead of {}", self.columns.len())));
        }
        for (column, field) in self.columns.iter_mut().zip(self.schema.fields()) {
            let (length, after) = take::<4>(left).ok_or_else(|| misread("a row that ends early"))?;
            left = after;
            let value = match usize::try_from(i32::from_be_bytes(length)) {
                Ok(length) => {
                    let (value, after) =
                        left.split_at_checked(length).ok_or_else(|| misread("a row that ends early"))?;
                    left = after;
                    Some(value)
                }
                Err(_) => None,
            };
            column.push(value).ok_or_else(|| {
                misread(format!("column {} has a value that is no {}", field.name(), field.data_type()))
            })?;
        }
        self.rows += 1;
        self.bytes += row.len();
        Ok(())
    }

    /// The rows since the last time.
    pub(super) fn take(&mut self) -> Result<Option<RecordBatch>, ArrowError> {
        if self.rows == 0 {
            return Ok(None);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(std::mem::take(&mut self.rows)));
        self.bytes = 0;
        let columns = self.columns.iter_mut().map(Column::take).collect::<Result<_, _>>()?;
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options).map(Some)
    }

    /// The last rows.
    pub(super) fn finish(mut self) -> Result<Option<RecordBatch>, ArrowError> {
        if !self.ended {
            return Err(misread("the server's answer ends early"));
        }
        self.take()
    }
}

/// How long the first row is; `None` where it is not all there yet.
fn row_length(bytes: &[u8]) -> Result<Option<usize>, ArrowError> {
    let Some((count, mut left)) = take::<2>(bytes) else { return Ok(None) };
    for _ in 0..i16::from_be_bytes(count).max(0) {
        let Some((length, after)) = take::<4>(left) else { return Ok(None) };
        let length = usize::try_from(i32::from_be_bytes(length)).unwrap_or(0);
        let Some(after) = after.get(length..) else { return Ok(None) };
        left = after;
    }
    Ok(Some(bytes.len() - left.len()))
}

fn take<const BYTES: usize>(bytes: &[u8]) -> Option<([u8; BYTES], &[u8])> {
    let (taken, left) = bytes.split_first_chunk::<BYTES>()?;
    Some((*taken, left))
}

fn word<const BYTES: usize>(bytes: &[u8]) -> Option<[u8; BYTES]> {
    bytes.try_into().ok()
}

impl Column {
    fn of(field: &Field) -> Result<Self, ArrowError> {
        let data_type = field.data_type();
        let stored = Stored::of(data_type)
            .ok_or_else(|| ArrowError::SchemaError(format!("column {} has type {data_type}", field.name())))?;
        Ok(match stored {
            Stored::Boolean => Self::Boolean(BooleanBuilder::new()),
            Stored::Int8 => Self::Int8(Int8Builder::new()),
            Stored::Int16 => Self::Int16(Int16Builder::new()),
            Stored::Int32 => Self::Int32(Int32Builder::new()),
            Stored::Int64 => Self::Int64(Int64Builder::new()),
            Stored::Float32 => Self::Float32(Float32Builder::new()),
            Stored::Float64 => Self::Float64(Float64Builder::new()),
            Stored::Text => Self::Text(StringBuilder::new()),
            Stored::Bytes => Self::Bytes(BinaryBuilder::new()),
            Stored::Date => Self::Date(Date32Builder::new()),
            Stored::Time => {
                Self::Time(TimestampMicrosecondBuilder::new().with_data_type(data_type.clone()), data_type.clone())
            }
            Stored::Decimal(_, scale) => {
                Self::Decimal(Decimal128Builder::new().with_data_type(data_type.clone()), data_type.clone(), scale)
            }
            Stored::Json => Self::Json(Vec::new(), data_type.clone()),
        })
    }

    /// `None` where the bytes are no value of the column's type.
    fn push(&mut self, value: Option<&[u8]>) -> Option<()> {
        let Some(value) = value else {
            self.push_null();
            return Some(());
        };
        match self {
            Self::Boolean(builder) => builder.append_value(word::<1>(value)? != [0]),
            Self::Int8(builder) => builder.append_value(i16::from_be_bytes(word(value)?).try_into().ok()?),
            Self::Int16(builder) => builder.append_value(i16::from_be_bytes(word(value)?)),
            Self::Int32(builder) => builder.append_value(i32::from_be_bytes(word(value)?)),
            Self::Int64(builder) => builder.append_value(i64::from_be_bytes(word(value)?)),
            Self::Float32(builder) => builder.append_value(f32::from_be_bytes(word(value)?)),
            Self::Float64(builder) => builder.append_value(f64::from_be_bytes(word(value)?)),
            Self::Text(builder) => builder.append_value(std::str::from_utf8(value).ok()?),
            Self::Bytes(builder) => builder.append_value(value),
            Self::Date(builder) => builder.append_value(i32::from_be_bytes(word(value)?).checked_add(EPOCH_DAYS)?),
            Self::Time(builder, _) => builder.append_value(i64::from_be_bytes(word(value)?).checked_add(EPOCH_MICROS)?),
            Self::Decimal(builder, _, scale) => builder.append_value(numeric::decode(value, *scale)?),
            Self::Json(lines, _) => {
                lines.extend(b"{\"v\":");
                lines.extend(value.strip_prefix(&[JSONB_VERSION])?);
                lines.extend(b"}\n");
            }
        }
        Some(())
    }

    fn push_null(&mut self) {
        match self {
            Self::Boolean(builder) => builder.append_null(),
            Self::Int8(builder) => builder.append_null(),
            Self::Int16(builder) => builder.append_null(),
            Self::Int32(builder) => builder.append_null(),
            Self::Int64(builder) => builder.append_null(),
            Self::Float32(builder) => builder.append_null(),
            Self::Float64(builder) => builder.append_null(),
            Self::Text(builder) => builder.append_null(),
            Self::Bytes(builder) => builder.append_null(),
            Self::Date(builder) => builder.append_null(),
            Self::Time(builder, _) => builder.append_null(),
            Self::Decimal(builder, _, _) => builder.append_null(),
            Self::Json(lines, _) => lines.extend(b"{}\n"),
        }
    }

    fn take(&mut self) -> Result<ArrayRef, ArrowError> {
        Ok(match self {
            Self::Boolean(builder) => Arc::new(builder.finish()),
            Self::Int8(builder) => Arc::new(builder.finish()),
            Self::Int16(builder) => Arc::new(builder.finish()),
            Self::Int32(builder) => Arc::new(builder.finish()),
            Self::Int64(builder) => Arc::new(builder.finish()),
            Self::Float32(builder) => Arc::new(builder.finish()),
            Self::Float64(builder) => Arc::new(builder.finish()),
            Self::Text(builder) => Arc::new(builder.finish()),
            Self::Bytes(builder) => Arc::new(builder.finish()),
            Self::Date(builder) => Arc::new(builder.finish()),
            Self::Time(builder, data_type) => Arc::new(builder.finish().with_data_type(data_type.clone())),
            Self::Decimal(builder, data_type, _) => Arc::new(builder.finish().with_data_type(data_type.clone())),
            Self::Json(lines, data_type) => json(&std::mem::take(lines), data_type)?,
        })
    }
}

/// Objects with one member, as the column that it is.
fn json(lines: &[u8], data_type: &DataType) -> Result<ArrayRef, ArrowError> {
    let schema = Arc::new(Schema::new(vec![Field::new("v", data_type.clone(), true)]));
    let mut decoder = ReaderBuilder::new(schema).with_batch_size(ROWS * 2).build_decoder()?;
    let mut left = lines;
    let mut parts = Vec::new();
    while !left.is_empty() {
        let taken = decoder.decode(left)?;
        left = left.get(taken..).unwrap_or_default();
        if let Some(batch) = decoder.flush()?
            && let Some(column) = batch.columns().first()
        {
            parts.push(Arc::clone(column));
        }
    }
    let parts: Vec<_> = parts.iter().map(|part| part.as_ref() as &dyn arrow_array::Array).collect();
    match parts.as_slice() {
        [] => Ok(arrow_array::new_empty_array(data_type)),
        parts => arrow_select::concat::concat(parts),
    }
}
