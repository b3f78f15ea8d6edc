use std::collections::BTreeSet;
use std::io::Read;
use std::ops::{Range, RangeInclusive};

use arrow_array::RecordBatch;
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::decoder::SplitRule;
use crate::error::Result;
use crate::flow::RawRecords;
use crate::ids::{Digest, StreamName};
use crate::segment::{Compression, LandedSegment};
use crate::time::Timestamp;

/// An object that is durable in the landing zone. Until the ledger lists it, it is an orphan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LandedObject {
    /// Its name, relative to the zone: `payments/dt=2026-01-02/hr=03/<attempt>-<name>`.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of its bytes.
    pub digest: Digest,
    /// Where it may be cut, by the split rule: ends of all parts but the last, ascending, in bytes of the object. Empty
    /// where it is one segment. For envelopes, the row at which each span but the first begins.
    pub cuts: Vec<u64>,
    /// The bytes that stand before every part but the first: a CSV header.
    pub preamble: Option<Range<u64>>,
    /// The first bytes, decompressed, at most 64 KiB: formats are told by them.
    pub head: Bytes,
}

/// An object as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectEntry {
    /// Its name, relative to the zone.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// When it was last written.
    pub modified_at: Timestamp,
}

/// A landing that the ledger accepted, written to the zone before the source hears of it. A ledger can be rebuilt from these.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JournalEntry {
    /// The version of this form: 1.
    pub version: u32,
    /// The ledger that accepted it.
    pub ledger: Uuid,
    /// The attempt that landed it.
    pub attempt: Uuid,
    /// What was accepted, whole.
    pub landing: super::ledger::Landing,
    /// The segments as the ledger lists them.
    pub segments: Vec<LandedSegment>,
}

/// What the journal holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Journal {
    /// Entries that can be read, oldest first.
    pub entries: Vec<JournalEntry>,
    /// Those that cannot, oldest first.
    pub damaged: Vec<DamagedEntry>,
}

/// An entry of the journal that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DamagedEntry {
    /// Its name in the journal.
    pub name: String,
    /// The attempt that landed what it told of, where its name says so.
    pub attempt: Option<Uuid>,
    /// What is wrong with it.
    pub what: String,
    /// Whether no entry that can be read is of a later time.
    pub last: bool,
}

/// Which ledger a zone belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZoneIdentity {
    /// The version of this form: 1.
    pub version: u32,
    /// The ledger's id.
    pub ledger: Uuid,
    /// When it took the zone.
    pub since: Timestamp,
}

/// What landing an object needs in memory where it streams through buffers of a few chunks.
pub const OBJECT_BYTES: u64 = 8 * 1024 * 1024;

/// The landing zone: raw data, the truth.
///
/// Contract:
/// - what `put`, `put_records` or `journal` returned `Ok` for survives a power cut;
/// - a name is written once; what fails half way leaves nothing that `list` shows under its final name;
/// - reading gives back the bytes that were put, or an error: an envelope, and an object that is read whole, are compared with
///   the digest that they landed with before anything of them is read; of parts of an object only its size is looked at;
/// - names never lead out of the zone.
#[async_trait]
pub trait LandingZone: Send + Sync + std::fmt::Debug {
    /// Writes an object byte for byte, in bounded memory, noting on the way where it may be cut.
    async fn put(
        &self,
        name: &str,
        body: BoxStream<'static, Result<Bytes>>,
        compression: Compression,
        split: SplitRule,
    ) -> Result<LandedObject>;
    /// What [`LandingZone::put`] holds in memory at most, whatever the object's size.
    fn object_bytes(&self) -> u64 {
        OBJECT_BYTES
    }
    /// Writes records of many partitions as one Parquet envelope, in the order of the spans.
    async fn put_records(&self, name: &str, stream: &StreamName, records: &RawRecords) -> Result<LandedObject>;
    /// Bytes of an object as they were stored. Blocking: called on worker threads. `digest`, where it is known, is the one that it
    /// landed with: where `range` is all of the object and its content was changed since, that is an error before any of it is read.
    /// It is not compared again while this process knows it, and nothing of the file has changed that the system tells.
    fn open(&self, name: &str, range: Range<u64>, digest: Option<Digest>) -> Result<Box<dyn Read + Send>>;
    /// Rows of an envelope, in its documented schema (`landing::envelope`). Blocking. `digest` is the one that it landed with: an
    /// envelope that was changed since is an error before any of it is read, since Parquet readers do not survive all damage (some
    /// has them ask for more memory than there is, which ends the process).
    fn open_records(
        &self,
        name: &str,
        rows: Range<u64>,
        digest: Digest,
    ) -> Result<Box<dyn Iterator<Item = Result<RecordBatch>> + Send>>;
    /// Between which times the records of these rows of an envelope are, by the source's clock, from what the envelope says of itself:
    /// no record is read. At least as wide as they are; `None` where a record has no time, or nothing tells. Blocking, and checked
    /// against `digest` as [`LandingZone::open_records`] does.
    fn times_of(&self, name: &str, rows: Range<u64>, digest: Digest) -> Result<Option<RangeInclusive<Timestamp>>>;
    /// Writes down what the ledger accepted. What lies there torn, of an attempt to do so that was cut short, is set aside.
    async fn journal(&self, entry: &JournalEntry) -> Result<()>;
    /// All journal entries, oldest first; a torn one is an error naming it.
    async fn journal_entries(&self) -> Result<Vec<JournalEntry>>;
    /// The journal, or only its `newest` entries, with the entries that cannot be read beside the others. Entries of a newer
    /// version are an error: they are no damage.
    async fn read_journal(&self, newest: Option<usize>) -> Result<Journal>;
    /// Takes a damaged entry out of the journal, and keeps it. One that is set aside already is no error.
    async fn set_aside(&self, entry: &str) -> Result<()>;
    /// The attempts that the journal tells of by the names of its entries, also of damaged ones and of those set aside.
    async fn journalled(&self) -> Result<BTreeSet<Uuid>>;
    /// Which ledger the zone belongs to; `None` for a zone that is new.
    async fn identity(&self) -> Result<Option<ZoneIdentity>>;
    /// Takes a new zone for a ledger; refused where it belongs to another.
    async fn claim(&self, identity: &ZoneIdentity) -> Result<()>;
    /// Keeps a small immutable thing beside the raw data, under its digest: `modules/<digest>.wasm`, `assets/<digest>`. What is
    /// there already stays. Durable when it returns.
    async fn keep(&self, name: &str, bytes: Bytes) -> Result<()>;
    /// What was kept under a name; `None` where there is nothing.
    async fn kept(&self, name: &str) -> Result<Option<Bytes>>;
    /// The names of what is kept in a folder of kept things (`modules`), sorted.
    async fn kept_in(&self, folder: &str) -> Result<Vec<String>>;
    /// Objects under a prefix, without those of forebay's own (journal, identity, kept things, temporary ones).
    async fn list(&self, prefix: &str) -> Result<Vec<ObjectEntry>>;
    /// Removes an object; one that is gone already is no error.
    async fn delete(&self, name: &str) -> Result<()>;
    /// Removes temporary files that no live process writes, older than `before`; returns their names.
    async fn sweep(&self, before: Timestamp) -> Result<Vec<String>>;
}
