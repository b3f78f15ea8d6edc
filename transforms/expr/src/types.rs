//! The types of expressions, and the constants that are written in them.

use std::fmt;
use std::rc::Rc;

use forebay_sdk::arrow::{DataType, TimeUnit};

/// The most digits of a decimal.
pub(crate) const DIGITS: u8 = 38;

/// Digits that every 64-bit integer fits in.
const OF_INTEGER: u8 = 19;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Type {
    /// Of `null`, and of a column that has had no value yet: it goes with every type.
    Null,
    Bool,
    Int,
    Float,
    /// Digits, and how many of them stand behind the point.
    Decimal(u8, u8),
    Text,
    Date,
    /// Whether it has a zone: then its output says UTC.
    Timestamp {
        zoned: bool,
    },
    /// A type that expressions only pass on or ask for null: a list, bytes, a struct.
    Other(String),
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool => f.write_str("Boolean"),
            Self::Int => f.write_str("an integer"),
            Self::Float => f.write_str("a float"),
            Self::Decimal(digits, scale) => write!(f, "decimal({digits}, {scale})"),
            Self::Text => f.write_str("text"),
            Self::Date => f.write_str("a date"),
            Self::Timestamp { zoned: _ } => f.write_str("a timestamp"),
            Self::Other(name) => f.write_str(name),
        }
    }
}

impl Type {
    /// Of a column as Arrow has it.
    #[expect(clippy::wildcard_enum_match_arm, reason = "Arrow's types: all others are only passed on")]
    pub(crate) fn of(data_type: &DataType) -> Self {
        use DataType as T;
        match data_type {
            T::Null => Self::Null,
            T::Boolean => Self::Bool,
            T::Int8 | T::Int16 | T::Int32 | T::Int64 | T::UInt8 | T::UInt16 | T::UInt32 => Self::Int,
            // Half of them are no 64-bit integers.
            T::UInt64 => Self::Decimal(20, 0),
            T::Float32 | T::Float64 => Self::Float,
            T::Decimal128(digits, scale) => match u8::try_from(*scale) {
                Ok(scale) if scale <= *digits => Self::Decimal(*digits, scale),
                _ => Self::Other(data_type.to_string()),
            },
            T::Utf8 => Self::Text,
            T::Date32 => Self::Date,
            T::Timestamp(_, zone) => Self::Timestamp { zoned: zone.is_some() },
            T::List(_) => Self::Other("a list".to_owned()),
            T::Struct(_) => Self::Other("a struct".to_owned()),
            T::Map(_, _) => Self::Other("a map".to_owned()),
            T::Binary | T::FixedSizeBinary(_) => Self::Other("bytes".to_owned()),
            T::Time32(_) | T::Time64(_) => Self::Other("a time of day".to_owned()),
            T::Duration(_) => Self::Other("a duration".to_owned()),
            other => Self::Other(other.to_string()),
        }
    }

    /// Of a computed column; `None` where expressions cannot make such values.
    pub(crate) fn arrow(&self) -> Option<DataType> {
        Some(match self {
            Self::Null => DataType::Null,
            Self::Bool => DataType::Boolean,
            Self::Int => DataType::Int64,
            Self::Float => DataType::Float64,
            Self::Decimal(digits, scale) => DataType::Decimal128(*digits, i8::try_from(*scale).ok()?),
            Self::Text => DataType::Utf8,
            Self::Date => DataType::Date32,
            Self::Timestamp { zoned } => DataType::Timestamp(TimeUnit::Microsecond, zoned.then(|| "UTC".into())),
            Self::Other(_) => return None,
        })
    }

    pub(crate) fn is_number(&self) -> bool {
        matches!(self, Self::Int | Self::Float | Self::Decimal(..))
    }

    /// Digits and scale that hold every value of an exact number.
    pub(crate) fn digits(&self) -> Option<(u8, u8)> {
        match self {
            Self::Int => Some((OF_INTEGER, 0)),
            Self::Decimal(digits, scale) => Some((*digits, *scale)),
            Self::Null
            | Self::Bool
            | Self::Float
            | Self::Text
            | Self::Date
            | Self::Timestamp { .. }
            | Self::Other(_) => None,
        }
    }

    /// The type that holds the values of both; `None` where there is none.
    pub(crate) fn with(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::Null, known) | (known, Self::Null) => Some(known.clone()),
            (Self::Float, number) | (number, Self::Float) if number.is_number() => Some(Self::Float),
            (Self::Decimal(..), _) | (_, Self::Decimal(..)) => {
                let ((a, a_scale), (b, b_scale)) = (self.digits()?, other.digits()?);
                let scale = a_scale.max(b_scale);
                Some(Self::Decimal(((a - a_scale).max(b - b_scale) + scale).min(DIGITS), scale))
            }
            (Self::Timestamp { zoned: a }, Self::Timestamp { zoned: b }) => Some(Self::Timestamp { zoned: *a || *b }),
            (Self::Date, Self::Timestamp { zoned }) | (Self::Timestamp { zoned }, Self::Date) => {
                Some(Self::Timestamp { zoned: *zoned })
            }
            (a, b) => (a == b && !matches!(a, Self::Other(_))).then(|| a.clone()),
        }
    }
}

/// A value that an expression holds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Scalar {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    /// Without its point: the scale is the type's.
    Decimal(i128),
    Text(Rc<str>),
    /// Days since 1970-01-01.
    Date(i32),
    /// Microseconds since 1970-01-01T00:00:00Z.
    Timestamp(i64),
}
