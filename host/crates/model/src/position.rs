//! Where a record lies in its partition.
//!
//! Record streams have an order: [`OrderedPosition`], a 256-bit number with a sub-number (Kinesis sequence numbers have
//! up to 56 decimal digits, and aggregated records share one). Objects have none: they are inserted once, by key,
//! version and range.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use ethnum::U256;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A place in an ordered partition. Ordered by number, then sub-number. Text form: `17` or `17.3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct OrderedPosition {
    /// A Kafka offset, a Kinesis sequence number.
    pub number: U256,
    /// The record within an aggregate; 0 where there are none.
    pub sub: u64,
}

impl OrderedPosition {
    /// A position without aggregates.
    #[must_use]
    pub fn new(number: u64) -> Self {
        Self { number: U256::from(number), sub: 0 }
    }

    /// Fixed width, so that text order is the order of positions: 78 digits, a dot, 20 digits. For keys in a ledger.
    #[must_use]
    pub fn sort_key(&self) -> String {
        format!("{:0>78}.{:0>20}", self.number.to_string(), self.sub)
    }
}

impl fmt::Display for OrderedPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.number)?;
        if self.sub != 0 {
            write!(f, ".{}", self.sub)?;
        }
        Ok(())
    }
}

impl FromStr for OrderedPosition {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let bad = || Error::bug(format!("{text:?} is not a position"));
        let (number, sub) = text.split_once('.').unwrap_or((text, "0"));
        Ok(Self { number: number.parse().map_err(|_| bad())?, sub: sub.parse().map_err(|_| bad())? })
    }
}

impl TryFrom<String> for OrderedPosition {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<OrderedPosition> for String {
    fn from(position: OrderedPosition) -> Self {
        position.to_string()
    }
}

/// Where a segment begins.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Position {
    /// In a partition with an order.
    Ordered(OrderedPosition),
    /// In an object: a range of bytes of a version.
    Object {
        /// The object's key: a path relative to the source's folder, an S3 key.
        key: String,
        /// What tells this content of the key from another: an S3 version id; for files size, time and inode.
        version: String,
        /// The bytes, half open, of the object as it was stored (before decompression).
        range: Range<u64>,
    },
}

impl Position {
    /// A range of an object.
    pub fn object(key: impl Into<String>, version: impl Into<String>, range: Range<u64>) -> Self {
        Self::Object { key: key.into(), version: version.into(), range }
    }
}

impl fmt::Display for Position {
    /// `17.3`, or `inbox/a.csv@v1[0..10]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ordered(position) => position.fmt(f),
            Self::Object { key, version, range } => write!(f, "{key}@{version}[{}..{}]", range.start, range.end),
        }
    }
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn kinesis_sequence_numbers_fit_and_sort_as_text() {
        let long: OrderedPosition =
            "49590338271490256608559692538361571095921575989136588898.12".parse().expect("position");
        let short = OrderedPosition::new(9);
        assert!(short < long);
        assert!(short.sort_key() < long.sort_key());
        assert_eq!(long.to_string().parse::<OrderedPosition>().expect("round trip"), long);
        assert!("".parse::<OrderedPosition>().is_err());
        assert!("1.2.3".parse::<OrderedPosition>().is_err());
    }
}
