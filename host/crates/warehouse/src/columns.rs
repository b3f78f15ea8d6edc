//! How a column is stored: names without the characters that tables forbid, types that every reader knows.
//!
//! # Names
//!
//! Characters that tables forbid become `_`, in nested fields too ([`stored_name`]). Two fields of one struct that come to the same
//! name, or to names that differ only in case, are refused: decoding keeps one of them, so only a rule makes such a struct.
//!
//! # Types
//!
//! | Arrow | stored as |
//! |---|---|
//! | boolean, int8 to int64, float32, float64, date32, utf8, binary | the same |
//! | uint8, uint16, uint32 | the next wider signed integer |
//! | uint64 | `decimal(20, 0)` |
//! | decimal32, decimal64, decimal128 | decimal128; a negative scale becomes more digits |
//! | timestamps, of any unit and zone | microseconds, UTC; one without a zone is read as UTC |
//! | date64 | timestamp, since Arrow lets it carry a time of day |
//! | time32, time64 | utf8, `HH:MM:SS` with the fraction there is |
//! | duration | int64, in the duration's own unit |
//! | large, view and fixed-size text, binary and lists | utf8, binary, list |
//! | dictionary, run-end encoded | their values |
//! | map | the same; a map whose values hold structs, and record headers, whose names repeat: list of struct(key, value), since a field that is added below a map's value makes the table unreadable for some |
//! | null, float16, decimal256, interval, union, empty struct | refused |
//!
//! Everything is nullable but a map's keys, so that any field may be added later. [`storage_field`] applied to its own answer
//! gives the same again, and a table's schema is read back as it was stored.

use std::collections::HashSet;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, ListArray, MapArray, RecordBatch, StructArray, new_null_array};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{ArrowError, DataType, Field, FieldRef, Fields, SchemaRef};
use forebay_model::column::{stored_name, timestamp_type};

use crate::error::WarehouseError;

/// The field's name and type as they are stored; see the module's tables.
///
/// # Errors
/// [`WarehouseError::ColumnType`] and [`WarehouseError::ColumnName`].
pub fn storage_field(field: &Field) -> Result<Field, WarehouseError> {
    let data_type = storage_type(field.name(), field.data_type())?;
    Ok(Field::new(stored_name(field.name()), data_type, true))
}

fn storage_type(path: &str, data_type: &DataType) -> Result<DataType, WarehouseError> {
    let refuse = |why, hint| {
        Err(WarehouseError::ColumnType { column: path.to_owned(), data_type: data_type.to_string(), why, hint })
    };
    Ok(match data_type {
        DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Float32
        | DataType::Float64
        | DataType::Date32 => data_type.clone(),
        DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 | DataType::Duration(_) => DataType::Int64,
        DataType::UInt64 => DataType::Decimal128(20, 0),
        DataType::Timestamp(_, _) | DataType::Date64 => timestamp_type(),
        DataType::Time32(_) | DataType::Time64(_) | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            DataType::Utf8
        }
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            DataType::Binary
        }
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale) => match storage_decimal(*precision, *scale) {
            Some(stored) => stored,
            None => return refuse("its digits do not fit decimal128", "cast it to float64 or to utf8 in a rule"),
        },
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _) => list_of(storage_type(&format!("{path}.element"), item.data_type())?),
        DataType::Struct(fields) if fields.is_empty() => {
            return refuse("it has no fields", "leave the column out until a field of it is known");
        }
        DataType::Struct(fields) => DataType::Struct(storage_fields(path, fields)?),
        DataType::Map(entries, _) => storage_map(path, data_type, entries)?,
        DataType::Dictionary(_, values) => storage_type(path, values)?,
        DataType::RunEndEncoded(_, values) => storage_type(path, values.data_type())?,
        DataType::Null => return refuse("it has no values yet", "leave it out until a type is known"),
        DataType::Float16 => return refuse("readers do not know it", "cast it to float32 in a rule"),
        DataType::Decimal256(_, _) => {
            return refuse("readers know 38 digits at most", "cast it to decimal128, float64 or utf8 in a rule");
        }
        DataType::Interval(_) => return refuse("readers do not know it", "keep it as a number of units, or as utf8"),
        DataType::Union(_, _) => return refuse("readers do not know it", "keep one column for each of its types"),
    })
}

fn storage_decimal(precision: u8, scale: i8) -> Option<DataType> {
    let (precision, scale) = match u8::try_from(scale) {
        Ok(scale) => (precision.max(scale), scale),
        Err(_) => (precision.checked_add(scale.unsigned_abs())?, 0),
    };
    Some(DataType::Decimal128(precision, i8::try_from(scale).ok()?)).filter(|_| precision <= 38)
}

fn list_of(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("element", item, true)))
}

fn storage_fields(path: &str, fields: &Fields) -> Result<Fields, WarehouseError> {
    let mut names = HashSet::new();
    let mut stored = Vec::with_capacity(fields.len());
    for field in fields {
        let name = stored_name(field.name());
        if !names.insert(name.to_lowercase()) {
            return Err(WarehouseError::ColumnName { column: path.to_owned(), name });
        }
        let data_type = storage_type(&format!("{path}.{}", field.name()), field.data_type())?;
        stored.push(Field::new(name, data_type, true));
    }
    Ok(stored.into())
}

fn storage_map(path: &str, whole: &DataType, entries: &Field) -> Result<DataType, WarehouseError> {
    let DataType::Struct(pair) = entries.data_type() else {
        return Err(WarehouseError::Bug(format!("map column {path:?} has entries that are not a struct")));
    };
    let [key, value] = pair.as_ref() else {
        return Err(WarehouseError::Bug(format!("map column {path:?} has entries of {} fields", pair.len())));
    };
    let key_type = storage_type(&format!("{path}.key"), key.data_type())?;
    let value_type = storage_type(&format!("{path}.value"), value.data_type())?;
    if holds_struct(&value_type) || holds_struct(&key_type) || *whole == forebay_model::plan::headers_type() {
        let pair = [Field::new("key", key_type, true), Field::new("value", value_type, true)];
        return Ok(list_of(DataType::Struct(pair.into_iter().collect())));
    }
    let pair = [Field::new("key", key_type, false), Field::new("value", value_type, true)];
    let entries = Field::new("key_value", DataType::Struct(pair.into_iter().collect()), false);
    Ok(DataType::Map(Arc::new(entries), false))
}

fn holds_struct(data_type: &DataType) -> bool {
    if let DataType::List(item) = data_type {
        return holds_struct(item.data_type());
    }
    if let DataType::Map(entries, _) = data_type {
        let DataType::Struct(pair) = entries.data_type() else { return false };
        return pair.iter().any(|field| holds_struct(field.data_type()));
    }
    matches!(data_type, DataType::Struct(_))
}

/// Casts a column to the type that [`storage_field`] gave for its own. Fields of structs are matched by position.
///
/// # Errors
/// Class bug, where a value does not fit (it is never made null), or `target` is not what [`storage_field`] gives.
pub fn store_column(array: &ArrayRef, target: &DataType) -> forebay_model::Result<ArrayRef> {
    convert(array, target, Match::Position).map_err(|error| {
        let what = format!("a column of type {} does not fit {target}, which it is stored as", array.data_type());
        forebay_model::Error::bug(what).with_source(error)
    })
}

/// Casts a column of an older data file to the type that its table has by now: fields are matched by name, those that the
/// file lacks are null, and `Int64` may have become `Float64`.
pub(crate) fn adapt(array: &ArrayRef, target: &DataType) -> Result<ArrayRef, ArrowError> {
    convert(array, target, Match::Name)
}

/// [`adapt`] for each column of a batch; columns that `target` lacks are left out.
pub(crate) fn adapt_batch(batch: &RecordBatch, target: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let columns = target
        .fields()
        .iter()
        .map(|field| match batch.column_by_name(field.name()) {
            Some(column) => adapt(column, field.data_type()),
            None => Ok(new_null_array(field.data_type(), batch.num_rows())),
        })
        .collect::<Result<Vec<_>, _>>()?;
    RecordBatch::try_new(Arc::clone(target), columns)
}

#[derive(Clone, Copy, PartialEq)]
enum Match {
    Name,
    Position,
}

fn convert(array: &ArrayRef, target: &DataType, by: Match) -> Result<ArrayRef, ArrowError> {
    if array.data_type() == target {
        return Ok(Arc::clone(array));
    }
    if let (Some(from), DataType::Struct(fields)) = (array.as_struct_opt(), target) {
        return convert_struct(from, fields, by);
    }
    if let DataType::List(item) = target
        && !matches!(array.data_type(), DataType::Dictionary(_, _) | DataType::RunEndEncoded(_, _))
    {
        return convert_list(array, item, by);
    }
    if let (Some(from), DataType::Map(entries, sorted)) = (array.as_map_opt(), target) {
        let pairs: ArrayRef = Arc::new(from.entries().clone());
        // Key and value have one place each, whatever their names.
        let pairs = convert(&pairs, entries.data_type(), Match::Position)?;
        let map = MapArray::try_new(
            Arc::clone(entries),
            from.offsets().clone(),
            pairs.as_struct().clone(),
            from.nulls().cloned(),
            *sorted,
        )?;
        return Ok(Arc::new(map));
    }
    let options = CastOptions { safe: false, ..CastOptions::default() };
    if let DataType::Dictionary(_, values) = array.data_type() {
        return convert(&cast_with_options(array, values, &options)?, target, by);
    }
    if let DataType::RunEndEncoded(_, values) = array.data_type() {
        return convert(&cast_with_options(array, values.data_type(), &options)?, target, by);
    }
    cast_with_options(array, target, &options)
}

fn convert_struct(from: &StructArray, fields: &Fields, by: Match) -> Result<ArrayRef, ArrowError> {
    if by == Match::Position && from.num_columns() != fields.len() {
        return Err(ArrowError::CastError(format!(
            "a struct of {} fields is not one of {}",
            from.num_columns(),
            fields.len()
        )));
    }
    let columns = fields
        .iter()
        .enumerate()
        .map(|(index, field)| {
            let column = match by {
                Match::Position => from.columns().get(index),
                Match::Name => from.column_by_name(field.name()),
            };
            column.map_or_else(
                || Ok(new_null_array(field.data_type(), from.len())),
                |column| convert(column, field.data_type(), by),
            )
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Arc::new(StructArray::try_new_with_length(fields.clone(), columns, from.nulls().cloned(), from.len())?))
}

fn convert_list(array: &ArrayRef, item: &FieldRef, by: Match) -> Result<ArrayRef, ArrowError> {
    if let Some(map) = array.as_map_opt() {
        let pairs: ArrayRef = Arc::new(map.entries().clone());
        let values = convert(&pairs, item.data_type(), Match::Position)?;
        let list = ListArray::try_new(Arc::clone(item), map.offsets().clone(), values, map.nulls().cloned())?;
        return Ok(Arc::new(list));
    }
    let plain = if array.as_list_opt::<i32>().is_some() {
        Arc::clone(array)
    } else if let DataType::LargeList(from)
    | DataType::ListView(from)
    | DataType::LargeListView(from)
    | DataType::FixedSizeList(from, _) = array.data_type()
    {
        let options = CastOptions { safe: false, ..CastOptions::default() };
        cast_with_options(array, &DataType::List(Arc::clone(from)), &options)?
    } else {
        return Err(ArrowError::CastError(format!("{} is not a list", array.data_type())));
    };
    let list = plain.as_list::<i32>();
    let values = convert(list.values(), item.data_type(), by)?;
    let list = ListArray::try_new(Arc::clone(item), list.offsets().clone(), values, list.nulls().cloned())?;
    Ok(Arc::new(list))
}
