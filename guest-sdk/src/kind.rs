//! What a rule asks of a column's type, and what it is content with.
//!
//! A stream's types are inferred from data: an amount that has never had a fraction is `Int64` today and `Float64` next
//! month. So a rule names a [`Kind`], and each kind takes the types that lead to it without a doubt, and no others:
//!
//! | kind | taken as it is | converted (a copy) |
//! |---|---|---|
//! | [`Kind::F64`] | Float64 | Float32, all integers (beyond 2⁵³ to the nearest float), Decimal128 (value ÷ 10^scale) |
//! | [`Kind::F32`] | Float32 | Int8, Int16, UInt8, UInt16 |
//! | [`Kind::I64`] | Int64 | Int8, Int16, Int32, UInt8, UInt16, UInt32 |
//! | [`Kind::I32`] | Int32 | Int8, Int16, UInt8, UInt16 |
//! | [`Kind::U64`] | UInt64 | UInt8, UInt16, UInt32 |
//! | [`Kind::Decimal`] | Decimal128 | Int8 … Int64, UInt8 … UInt64 (scale 0) |
//! | [`Kind::Bool`] | Boolean | |
//! | [`Kind::Str`] | Utf8 | |
//! | [`Kind::Bytes`] | Binary, Utf8, FixedSizeBinary | |
//! | [`Kind::Date`] | Date32 | |
//! | [`Kind::Time`] | Time64(µs) | Time32, Time64(ns): towards the earlier microsecond |
//! | [`Kind::Timestamp`] | Timestamp(µs) | Timestamp(s, ms, ns): towards the earlier microsecond; the zone is only a label |
//! | [`Kind::Duration`] | Duration(µs) | Duration(s, ms, ns) |
//! | [`Kind::List`], [`Kind::Struct`], [`Kind::Map`] | the like | |
//! | [`Kind::Any`] | every type | |
//!
//! Each kind also takes `Null`, a column that has had no value yet: all its values are null. Text is never read as a
//! number, a number never as text, and no float becomes an integer: a rule that wants that says so itself.

use arrow_schema::DataType;

/// What a rule asks of a column's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Any type; the rule looks at it itself, or only passes it through.
    Any,
    /// `bool`.
    Bool,
    /// `i32`.
    I32,
    /// `i64`.
    I64,
    /// `u64`.
    U64,
    /// `f32`.
    F32,
    /// `f64`.
    F64,
    /// A decimal number with a fixed scale, as `i128`.
    Decimal,
    /// Text.
    Str,
    /// Bytes.
    Bytes,
    /// A day: [`crate::Date`].
    Date,
    /// A time of day in microseconds, as `i64`.
    Time,
    /// A point in time: [`crate::Timestamp`].
    Timestamp,
    /// A span of time in microseconds, as `i64`.
    Duration,
    /// A list of any type.
    List,
    /// A struct.
    Struct,
    /// A map.
    Map,
}

impl Kind {
    /// Whether a column of this type will do: the table above.
    #[must_use]
    pub fn accepts(self, data_type: &DataType) -> bool {
        use DataType as T;
        let small = matches!(data_type, T::Int8 | T::Int16 | T::UInt8 | T::UInt16);
        if matches!(data_type, T::Null) {
            return true;
        }
        match self {
            Self::Any => true,
            Self::Bool => matches!(data_type, T::Boolean),
            Self::I32 => small || matches!(data_type, T::Int32),
            Self::I64 => small || matches!(data_type, T::Int32 | T::UInt32 | T::Int64),
            Self::U64 => matches!(data_type, T::UInt8 | T::UInt16 | T::UInt32 | T::UInt64),
            Self::F32 => small || matches!(data_type, T::Float32),
            Self::F64 => data_type.is_integer() || matches!(data_type, T::Float32 | T::Float64 | T::Decimal128(_, _)),
            Self::Decimal => data_type.is_integer() || matches!(data_type, T::Decimal128(_, _)),
            Self::Str => matches!(data_type, T::Utf8),
            Self::Bytes => matches!(data_type, T::Binary | T::Utf8 | T::FixedSizeBinary(_)),
            Self::Date => matches!(data_type, T::Date32),
            Self::Time => matches!(data_type, T::Time32(_) | T::Time64(_)),
            Self::Timestamp => matches!(data_type, T::Timestamp(_, _)),
            Self::Duration => matches!(data_type, T::Duration(_)),
            Self::List => matches!(data_type, T::List(_)),
            Self::Struct => matches!(data_type, T::Struct(_)),
            Self::Map => matches!(data_type, T::Map(_, _)),
        }
    }

    /// What is wanted, for messages: `a number`.
    #[must_use]
    pub fn wanted(self) -> &'static str {
        match self {
            Self::Any => "any type",
            Self::Bool => "Boolean",
            Self::I32 => "an integer of at most 32 bits",
            Self::I64 => "an integer of at most 64 bits",
            Self::U64 => "an unsigned integer",
            Self::F32 => "Float32",
            Self::F64 => "a number",
            Self::Decimal => "a decimal number",
            Self::Str => "text (Utf8)",
            Self::Bytes => "bytes (Binary)",
            Self::Date => "a day (Date32)",
            Self::Time => "a time of day",
            Self::Timestamp => "a timestamp",
            Self::Duration => "a duration",
            Self::List => "a list",
            Self::Struct => "a struct",
            Self::Map => "a map",
        }
    }
}
