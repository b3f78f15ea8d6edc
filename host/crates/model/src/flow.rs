//! A record's way: the values that stand between the steps.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::{RecordBatch, StringArray};
use bytes::Bytes;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::position::OrderedPosition;
use crate::reject::Reject;
use crate::segment::{Compression, Partition, SegmentCounts};
use crate::time::Timestamp;

/// What a source delivers: nothing of it has been acknowledged.
#[derive(Debug)]
pub enum RawBatch {
    /// Objects, to be landed byte for byte.
    Objects(Vec<RawObject>),
    /// Records, to be landed as an envelope.
    Records(RawRecords),
}

/// What a changed object means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnChange {
    /// The rows of the new version take the place of the old ones.
    #[default]
    Replace,
    /// Both stay.
    Append,
    /// Only what was added is taken: logs.
    Tail,
}

/// One object of a source, not read yet.
pub struct RawObject {
    /// The folder or bucket.
    pub partition: Partition,
    /// The object's name there.
    pub key: String,
    /// What tells this content of the key from another.
    pub version: String,
    /// The bytes to take; the whole object unless the source tails it. The end is known when the object is taken.
    pub range: Range<u64>,
    /// When the source says it was written.
    pub modified_at: Timestamp,
    /// How it is compressed, by its name and first bytes.
    pub compression: Compression,
    /// What it means that the key is already known.
    pub on_change: OnChange,
    /// What the source needs to notice truncation and rotation of a tailed file: opaque to all others, kept in the ledger.
    pub identity: String,
    /// Its bytes: chunks of at most 4 MiB. An object that changes while it is read ends with an error of class retry.
    pub body: BoxStream<'static, Result<Bytes>>,
}

impl fmt::Debug for RawObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawObject")
            .field("partition", &self.partition)
            .field("key", &self.key)
            .field("version", &self.version)
            .field("range", &self.range)
            .finish_non_exhaustive()
    }
}

/// Records of one or many partitions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RawRecords {
    /// Each of one partition, without gaps between `first` and `next`.
    pub spans: Vec<RecordSpan>,
}

/// A half-open span of an ordered partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordSpan {
    /// The partition.
    pub partition: Partition,
    /// Where it begins: where the span before it ended.
    pub first: OrderedPosition,
    /// One past its last record.
    pub next: OrderedPosition,
    /// The records, ascending.
    pub records: Vec<RawRecord>,
}

/// One record as its source gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawRecord {
    /// Its place.
    pub position: OrderedPosition,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value; `None` for a tombstone.
    pub value: Option<Bytes>,
    /// Its headers; names may repeat.
    pub headers: Vec<(String, Option<Bytes>)>,
    /// The time that the source gave it.
    pub timestamp: Option<Timestamp>,
}

/// The raw text of a batch's records, without a copy of the bytes.
#[derive(Debug, Clone, Default)]
pub struct RawRows {
    bytes: Bytes,
    /// Begin and end of each record in `bytes`, by record number less the batch's first.
    ranges: Vec<Range<u32>>,
}

impl RawRows {
    /// `ranges[i]` is where record `first + i` lies in `bytes`.
    #[must_use]
    pub fn new(bytes: Bytes, ranges: Vec<Range<u32>>) -> Self {
        Self { bytes, ranges }
    }

    /// The text of the `index`-th record of the batch; empty where there is none.
    #[must_use]
    pub fn get(&self, index: usize) -> Bytes {
        self.ranges
            .get(index)
            .filter(|range| range.start <= range.end && range.end as usize <= self.bytes.len())
            .map(|range| self.bytes.slice(range.start as usize..range.end as usize))
            .unwrap_or_default()
    }
}

/// Columns that are the record's own, for record streams: key (`Binary`), headers
/// ([`crate::plan::headers_type`]), timestamp (us, UTC), position (`Utf8`). As long as the batch that they stand beside.
pub type RecordColumns = Arc<RecordBatch>;

/// The names of the columns in [`RecordColumns`].
pub mod record_column {
    /// `Binary`.
    pub const KEY: &str = "key";
    /// [`crate::plan::headers_type`].
    pub const HEADERS: &str = "headers";
    /// `Timestamp(us, UTC)`.
    pub const TIMESTAMP: &str = "timestamp";
    /// `Utf8`.
    pub const POSITION: &str = "position";
}

/// Records `first_record .. first_record + records` of a segment, decoded. Boundaries are fixed: every batch but the last
/// holds [`DecodedBatch::RECORDS`] records, those that were rejected counted; fewer only where large records
/// (64 MiB of text and more together) close it sooner, always at the same record.
#[derive(Debug, Clone)]
pub struct DecodedBatch {
    /// The number of its first record in the segment.
    pub first_record: u64,
    /// How many records it is of, rejects counted.
    pub records: u32,
    /// The record number of each row of `batch`, ascending.
    pub numbers: Vec<u64>,
    /// The rows, in the schema that the decoder was given.
    pub batch: RecordBatch,
    /// `_forebay_rescued`, a JSON object for each row or null; as long as `batch`.
    pub rescued: StringArray,
    /// For record streams, what is the record's own.
    pub record_columns: Option<RecordColumns>,
    /// The records' text, rejected ones too.
    pub raw: RawRows,
    /// Records that are not rows.
    pub rejects: Vec<Reject>,
}

impl DecodedBatch {
    /// Records in a full batch.
    pub const RECORDS: u32 = 8192;

    /// The raw text of a record, by its number in the segment.
    #[must_use]
    pub fn raw_of(&self, record: u64) -> Bytes {
        record
            .checked_sub(self.first_record)
            .and_then(|index| usize::try_from(index).ok())
            .map(|index| self.raw.get(index))
            .unwrap_or_default()
    }
}

/// Rows on their way to one route's target.
#[derive(Debug, Clone)]
pub struct RouteBatch {
    /// The index of the route in the bound pipeline.
    pub route: usize,
    /// The route's columns, without forebay's own.
    pub batch: RecordBatch,
    /// The record number of each row.
    pub numbers: Vec<u64>,
    /// `_forebay_item` of each row.
    pub items: Vec<i32>,
    /// `_forebay_rescued` of each row.
    pub rescued: StringArray,
}

/// What all steps made of one [`DecodedBatch`]: complete, so that a record that was rejected anywhere is nowhere else.
#[derive(Debug, Clone)]
pub struct TransformedBatch {
    /// Rows by route.
    pub routes: Vec<RouteBatch>,
    /// Records that decoding or a step refused.
    pub rejects: Vec<Reject>,
    /// The batch's share of the segment's counts.
    pub counts: SegmentCounts,
}
