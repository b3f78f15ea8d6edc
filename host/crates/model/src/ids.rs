//! Names and ids. A name is what a person wrote in the config; an id is derived and stable.

use std::fmt;
use std::io::{self, Read};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};
use crate::position::Position;
use crate::segment::Partition;

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        ///
        /// 1 to 64 characters of `a-z A-Z 0-9 _ -`, beginning with a letter: it becomes a folder's name, part of a
        /// table's, and part of a metric's label.
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks a name.
            ///
            /// # Errors
            /// [`crate::ErrorClass::Operator`] where it is not of the form above.
            pub fn new(text: impl Into<String>) -> Result<Self> {
                let text = text.into();
                check_name($what, &text)?;
                Ok(Self(text))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = Error;
            fn from_str(text: &str) -> Result<Self> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;
            fn try_from(text: String) -> Result<Self> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }
    };
}

name!(
    /// The name of a stream: a source with its format and its raw history.
    StreamName,
    "stream"
);
name!(
    /// The name of a pipeline: steps and routes over one stream. Nobody writes a `~` in one; that of a [`crate::ports::Side`] has one.
    PipelineName,
    "pipeline"
);
name!(
    /// The name of a route: an output of a step.
    RouteName,
    "route"
);
name!(
    /// The name of a warehouse.
    WarehouseName,
    "warehouse"
);
name!(
    /// The name that a module is known by, beside its digest.
    ModuleName,
    "module"
);

impl PipelineName {
    /// The name of the pipeline that refines this one's history into tables whose names end with `_` and the suffix: `fraud~v2`.
    ///
    /// # Errors
    /// Class operator, where the suffix is not of letters, digits, `_` and `-`, or the name is too long with it.
    pub fn side(&self, suffix: &str) -> Result<Self> {
        if suffix.is_empty() || !suffix.chars().all(is_plain) {
            return Err(Error::operator(format!("suffix {suffix:?} is not allowed"))
                .with_hint("use letters, digits, '_' and '-'"));
        }
        Self::new(format!("{self}{SIDE}{suffix}"))
    }

    /// The pipeline whose history a side refines, and the suffix; `None` for every other pipeline.
    #[must_use]
    pub fn as_side(&self) -> Option<(&str, &str)> {
        self.0.split_once(SIDE)
    }
}

/// Stands in the names of sides between the pipeline's and the suffix.
const SIDE: char = '~';

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}

fn check_name(what: &str, text: &str) -> Result<()> {
    let (name, suffix) = match text.split_once(SIDE) {
        Some((name, suffix)) if what == "pipeline" && !suffix.is_empty() => (name, suffix),
        Some(_) | None => (text, ""),
    };
    let fits = (1..=64).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().chain(suffix.chars()).all(is_plain);
    if fits {
        return Ok(());
    }
    Err(Error::operator(format!("{what} name {text:?} is not allowed"))
        .with_hint("use 1 to 64 letters, digits, '_' and '-', beginning with a letter"))
}

/// A table of a warehouse: `lake.payments`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TableName {
    /// The warehouse.
    pub warehouse: WarehouseName,
    /// The table in it; the same rule as for other names.
    pub table: String,
}

impl TableName {
    /// From its parts.
    ///
    /// # Errors
    /// [`crate::ErrorClass::Operator`] where the table's name is not allowed.
    pub fn new(warehouse: WarehouseName, table: impl Into<String>) -> Result<Self> {
        let table = table.into();
        check_name("table", &table)?;
        Ok(Self { warehouse, table })
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.warehouse, self.table)
    }
}

impl FromStr for TableName {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let Some((warehouse, table)) = text.split_once('.') else {
            return Err(Error::operator(format!("table {text:?} has no warehouse"))
                .with_hint("write it as \"warehouse.table\", for example \"lake.payments\""));
        };
        Self::new(WarehouseName::new(warehouse)?, table)
    }
}

impl TryFrom<String> for TableName {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<TableName> for String {
    fn from(name: TableName) -> Self {
        name.to_string()
    }
}

/// The SHA-256 of some bytes; text form is 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The digest of all that a reader gives, from where it stands, in bounded memory.
    ///
    /// # Errors
    /// Those of the reader.
    pub fn of_reader(mut reader: impl Read) -> io::Result<Self> {
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 1 << 18];
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return Ok(Self(hash.finalize().into())),
                Ok(read) => hash.update(buffer.get(..read).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// From a finished hash.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The hash itself.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first 12 hexadecimal digits, for people.
    #[must_use]
    pub fn short(&self) -> String {
        hex::encode(&self.0[..6])
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.short())
    }
}

impl FromStr for Digest {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| {
            Error::operator(format!("{text:?} is not a SHA-256 digest")).with_hint("64 hexadecimal digits")
        })?;
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Digest {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

/// A segment's id: `payments/3f9c0a1b2c3d4e5f60718293`. Derived from stream, partition and first position alone, so that the
/// same span always has the same id, whoever lands it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SegmentId(String);

impl SegmentId {
    /// The id of the segment that begins at `first`: the stream's name and 96 bits of SHA-256 over the parts, each
    /// preceded by its length.
    #[must_use]
    pub fn derive(stream: &StreamName, partition: &Partition, first: &Position) -> Self {
        let mut hash = Sha256::new();
        for part in [stream.as_str(), partition.as_str(), &first.to_string()] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
        Self(format!("{stream}/{}", hex::encode(&hash.finalize()[..12])))
    }

    /// An id that was written down before.
    #[must_use]
    pub fn from_text(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The segment's seed for what a rule draws at random: the first 64 bits of the id's SHA-256.
    #[must_use]
    pub fn seed(&self) -> u64 {
        let hash = Sha256::digest(self.0.as_bytes());
        let mut first = [0; 8];
        first.copy_from_slice(&hash[..8]);
        u64::from_le_bytes(first)
    }
}

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How often a pipeline has refined a segment before: 0 the first time. A replay adds one.
pub type Generation = u32;

#[cfg(test)]
#[expect(clippy::expect_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_segment_id_depends_on_each_part() {
        let id = |stream: &str, partition: &str, first: &str| {
            SegmentId::derive(
                &StreamName::new(stream).expect("name"),
                &Partition::new(partition),
                &Position::object(first, "v1", 0..10),
            )
        };
        let ids = [id("a", "p", "k"), id("b", "p", "k"), id("a", "q", "k"), id("a", "p", "l")];
        let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
        assert_eq!(distinct.len(), ids.len());
        assert_eq!(id("a", "p", "k"), id("a", "p", "k"));
    }

    #[test]
    fn names_are_checked() {
        assert!(StreamName::new("payments-2").is_ok());
        for bad in ["", "1a", "a/b", "a.b", "ä", "_a", &"a".repeat(65)] {
            assert!(StreamName::new(bad).is_err(), "{bad:?} must be refused");
        }
        assert!("payments".parse::<TableName>().is_err());
        assert_eq!("lake.payments".parse::<TableName>().expect("table").to_string(), "lake.payments");
    }
}
