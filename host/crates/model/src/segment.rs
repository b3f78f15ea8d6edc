//! Segments: the unit of work, retry and lineage.

use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::ids::{Digest, SegmentId, StreamName};
use crate::position::Position;
use crate::time::Timestamp;

/// A shard of a source with its incarnation: `kafka:<cluster>/<topic id>/3`, `kinesis:<arn>/shardId-0`,
/// `files:/data/inbox`. A topic that was deleted and recreated is another partition.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Partition(String);

impl Partition {
    /// From its text form, which the source makes.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How the bytes of an object are compressed; reading goes through it, the object stays as it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// RFC 1952, many members allowed.
    Gzip,
    /// RFC 8878, many frames allowed.
    Zstd,
}

/// Bytes to read before a segment's own: the header line of a CSV file that was split.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Preamble {
    /// The object in the landing zone.
    pub object: String,
    /// Its bytes.
    pub range: Range<u64>,
}

/// What lies in a segment's part of its object.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SegmentContent {
    /// A file, or part of one, byte for byte.
    Bytes {
        /// The bytes of the landed object, half open.
        range: Range<u64>,
        /// How they are compressed.
        compression: Compression,
        /// What to read before them.
        preamble: Option<Preamble>,
    },
    /// Rows of a Parquet envelope.
    Envelope {
        /// The rows of the landed object, half open.
        rows: Range<u64>,
    },
}

/// A segment that is durable in the landing zone and listed in the ledger. Only the ledger makes one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LandedSegment {
    /// Its id.
    pub id: SegmentId,
    /// Its stream.
    pub stream: StreamName,
    /// Its partition.
    pub partition: Partition,
    /// Where it begins.
    pub first: Position,
    /// One past its last record, where the partition has an order.
    pub next: Option<Position>,
    /// Its object in the landing zone, relative to the zone.
    pub object: String,
    /// Which part of the object.
    pub content: SegmentContent,
    /// How many bytes of the object are its own.
    pub bytes: u64,
    /// How many records, where landing knew (envelopes).
    pub records: Option<u64>,
    /// SHA-256 of the whole object.
    pub digest: Digest,
    /// When the ledger listed it; the clock that rules see.
    pub landed_at: Timestamp,
    /// The name of the format that decodes it: `json`, `csv` … decided when it landed, so that it never changes.
    pub format: String,
    /// For a new version of an object whose rows take the place of the old ones: the segments of the former versions.
    pub replaces: Vec<SegmentId>,
}

impl LandedSegment {
    /// The source's name for what the segment was cut from: a file's path, an S3 key; the partition for record streams.
    #[must_use]
    pub fn object_key(&self) -> &str {
        match &self.first {
            Position::Object { key, .. } => key,
            Position::Ordered(_) => self.partition.as_str(),
        }
    }
}

/// Where the records of a segment went, for one pipeline and generation. `records = loaded + filtered + rejected` always holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SegmentCounts {
    /// Records that decoding counted.
    pub records: u64,
    /// Records of which at least one row went to a table.
    pub loaded: u64,
    /// Records that no rule selected for any table.
    pub filtered: u64,
    /// Records that decoding or a rule refused.
    pub rejected: u64,
    /// Records that loaded with something in `_forebay_rescued`; counted in `loaded` too.
    pub rescued: u64,
}

impl SegmentCounts {
    /// Whether every record is accounted for.
    #[must_use]
    pub fn balanced(&self) -> bool {
        self.records == self.loaded + self.filtered + self.rejected
    }
}

impl std::ops::AddAssign for SegmentCounts {
    fn add_assign(&mut self, other: Self) {
        let Self { records, loaded, filtered, rejected, rescued } = other;
        self.records += records;
        self.loaded += loaded;
        self.filtered += filtered;
        self.rejected += rejected;
        self.rescued += rescued;
    }
}
