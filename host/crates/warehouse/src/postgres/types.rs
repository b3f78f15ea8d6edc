//! Types in PostgreSQL. A column is first stored as every warehouse of forebay stores it ([`crate::columns`]), then so:
//!
//! | stored as (Arrow) | in PostgreSQL | |
//! |---|---|---|
//! | boolean | `boolean` | |
//! | int8, int16 | `smallint` | |
//! | int32 | `integer` | |
//! | int64 | `bigint` | |
//! | float32, float64 | `real`, `double precision` | with NaN and the infinities |
//! | decimal128(p, s) | `numeric(p, s)` | a uint64 is `numeric(20, 0)` |
//! | utf8 | `text` | U+0000, which PostgreSQL has not, becomes its picture U+2400 (`␀`) |
//! | binary | `bytea` | |
//! | date32 | `date` | |
//! | timestamp | `timestamptz` | |
//! | struct | `jsonb` | an object; fields that are null are left out |
//! | list | `jsonb` | an array |
//! | map | `jsonb` | an object, its keys as text |
//!
//! Within `jsonb`: decimals are numbers with all their digits; NaN and the infinities the texts `"NaN"`, `"Infinity"`, `"-Infinity"`; binary
//! is hexadecimal text; dates and times are text (`"2026-01-31"`, `"2026-01-31T12:00:00.000001Z"`), before the year 0 and after 9999 the
//! number of days or microseconds since 1970; -0.0 is 0, since `jsonb` keeps numbers as `numeric`.
//!
//! A value that PostgreSQL cannot hold (a time before 4714 BC, a map that has a key twice) is an error that names its column,
//! never null.

use std::fmt::Write as _;

use arrow_schema::{DataType, TimeUnit};

use crate::error::WarehouseError;

/// PostgreSQL's type for a column; `None` for a type that no column is stored as.
pub(super) fn sql_type(data_type: &DataType) -> Option<String> {
    let name = match Stored::of(data_type)? {
        Stored::Boolean => "boolean",
        Stored::Int8 | Stored::Int16 => "smallint",
        Stored::Int32 => "integer",
        Stored::Int64 => "bigint",
        Stored::Float32 => "real",
        Stored::Float64 => "double precision",
        Stored::Text => "text",
        Stored::Bytes => "bytea",
        Stored::Date => "date",
        Stored::Time => "timestamptz",
        Stored::Json => "jsonb",
        Stored::Decimal(precision, scale) => {
            let mut name = String::new();
            // A text takes all that is written to it.
            let _ = write!(name, "numeric({precision}, {scale})");
            return Some(name);
        }
    };
    Some(name.to_owned())
}

/// What a column is stored as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stored {
    Boolean,
    Int8,
    Int16,
    Int32,
    Int64,
    Float32,
    Float64,
    Text,
    Bytes,
    Date,
    Time,
    Decimal(u8, u8),
    Json,
}

impl Stored {
    #[expect(clippy::wildcard_enum_match_arm, reason = "these are all that `columns::storage_field` gives")]
    pub(super) fn of(data_type: &DataType) -> Option<Self> {
        Some(match data_type {
            DataType::Boolean => Self::Boolean,
            DataType::Int8 => Self::Int8,
            DataType::Int16 => Self::Int16,
            DataType::Int32 => Self::Int32,
            DataType::Int64 => Self::Int64,
            DataType::Float32 => Self::Float32,
            DataType::Float64 => Self::Float64,
            DataType::Utf8 => Self::Text,
            DataType::Binary => Self::Bytes,
            DataType::Date32 => Self::Date,
            DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => Self::Time,
            DataType::Decimal128(precision, scale) => Self::Decimal(*precision, u8::try_from(*scale).ok()?),
            DataType::Struct(_) | DataType::List(_) | DataType::Map(_, _) => Self::Json,
            _ => return None,
        })
    }
}

/// A map's keys are the names of an object's members: they have a text.
pub(super) fn check_keys(column: &str, data_type: &DataType) -> Result<(), WarehouseError> {
    if let DataType::Struct(fields) = data_type {
        return fields
            .iter()
            .try_for_each(|field| check_keys(&format!("{column}.{}", field.name()), field.data_type()));
    }
    if let DataType::List(item) = data_type {
        return check_keys(&format!("{column}.element"), item.data_type());
    }
    let DataType::Map(entries, _) = data_type else { return Ok(()) };
    let DataType::Struct(pair) = entries.data_type() else { return Ok(()) };
    match pair.first() {
        Some(key) if key.data_type().is_nested() => Err(WarehouseError::ColumnType {
            column: format!("{column}.key"),
            data_type: key.data_type().to_string(),
            why: "a map's keys are names in a jsonb object",
            hint: "keep the map as a list of its pairs, in a rule",
        }),
        Some(_) | None => pair.iter().skip(1).try_for_each(|value| check_keys(column, value.data_type())),
    }
}
