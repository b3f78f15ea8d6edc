//! The words of forebay as types, and the ports that its rooms meet at. No I/O.
//!
//! A record's way is a chain of types, so that a step that is skipped does not compile:
//!
//! ```text
//! Source ─▶ RawBatch ─land▶ LandedSegment ─decode▶ DecodedBatch ─apply▶ TransformedBatch ─load▶ LoadReceipt
//! ```
//!
//! Each room (`format`, `sandbox`, `sources`, `landing`, `ledger`, `warehouse`) knows this crate and no other room;
//! `pipeline` knows the rooms by the [`ports`] alone.

pub mod column;
pub mod error;
pub mod flow;
pub mod ids;
pub mod kept;
pub mod load;
pub mod plan;
pub mod ports;
pub mod position;
pub mod reject;
pub mod revision;
pub mod schema;
pub mod segment;
pub mod time;

pub use column::{ITEM, LOAD, LOADED_AT, RESCUED, ROW, SEGMENT};
pub use error::{Error, ErrorClass, Result};
pub use flow::{DecodedBatch, RawBatch, RawObject, RawRecord, RawRecords, RecordSpan, RouteBatch, TransformedBatch};
pub use ids::{Digest, Generation, PipelineName, RouteName, SegmentId, StreamName, TableName};
pub use load::{Load, LoadReceipt, StagedFile};
pub use position::{OrderedPosition, Position};
pub use reject::{Reject, RejectStage};
pub use revision::{Revision, RevisionId};
pub use schema::{SchemaVersion, StreamSchema};
pub use segment::{Compression, LandedSegment, Partition, Preamble, SegmentCounts};
pub use time::Timestamp;
