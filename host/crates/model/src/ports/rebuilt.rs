use uuid::Uuid;

use super::ledger::{AssetRecord, Landing, ModuleRecord, RevisionRecord};
use crate::ids::{PipelineName, SegmentId, StreamName, TableName};
use crate::position::OrderedPosition;
use crate::revision::RevisionId;
use crate::schema::StreamSchema;
use crate::segment::Partition;
use crate::time::Timestamp;

/// What a ledger holds that was rebuilt from a landing zone and tables. What only a ledger knew is not in it: counts of
/// records, failures, refused revisions, approvals.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rebuilt {
    /// Landings in order, with what is to be listed of each: every object and segment once. All are journalled.
    pub landings: Vec<Landing>,
    /// Where ordered partitions stand.
    pub partitions: Vec<RebuiltPartition>,
    /// Modules of the revisions.
    pub modules: Vec<ModuleRecord>,
    /// Assets of the revisions, those that are still kept.
    pub assets: Vec<AssetRecord>,
    /// Pipelines that have loaded something, or of which something was kept.
    pub pipelines: Vec<RebuiltPipeline>,
}

/// Where an ordered partition stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RebuiltPartition {
    /// The stream.
    pub stream: StreamName,
    /// The partition.
    pub partition: Partition,
    /// The position after the last landed record.
    pub next: OrderedPosition,
    /// When it got there.
    pub at: Timestamp,
}

/// A pipeline.
#[derive(Debug, Clone, PartialEq)]
pub struct RebuiltPipeline {
    /// Its name.
    pub pipeline: PipelineName,
    /// The number of its last load; 0 where it has none.
    pub last_number: u64,
    /// Its loads that its tables remember or have rows of.
    pub loads: Vec<RebuiltLoad>,
    /// Segments that something is known of; all others of its stream are as if they had never been refined.
    pub segments: Vec<RebuiltSegment>,
    /// The versions of its schema, ascending, and when each was fixed.
    pub schemas: Vec<(StreamSchema, Timestamp)>,
    /// Its revisions.
    pub revisions: Vec<RevisionRecord>,
    /// The revision that is active, one of them, and since when.
    pub active: Option<(RevisionId, Timestamp)>,
}

/// A load that is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RebuiltLoad {
    /// Its number.
    pub number: u64,
    /// The table.
    pub table: TableName,
    /// Its id; nil where the table's history does not go back to it.
    pub id: Uuid,
    /// The revision that made the rows; all zeros likewise.
    pub revision: RevisionId,
    /// The version of the table that has it; 0 likewise.
    pub table_version: u64,
    /// Rows that it removed; 0 likewise.
    pub rows_removed: u64,
    /// When it was done.
    pub at: Timestamp,
    /// The rows that the table has of it now, by segment.
    pub rows: Vec<(SegmentId, u64)>,
}

/// What a pipeline made of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RebuiltSegment {
    /// The segment. It may be one that is not listed: then this holds from when it lands again.
    pub segment: SegmentId,
    /// What it is.
    pub standing: Standing,
    /// The number of the load that brought its rows; `None` where it has none.
    pub number: Option<u64>,
    /// The revision that made them, where it is known.
    pub revision: Option<RevisionId>,
}

/// What a segment is to a pipeline, as far as landing zone and tables tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Its rows are in all tables that they belong to.
    Loaded,
    /// It is not known whether its rows are in all tables: it is refined again, and replaces what there is of it.
    Again {
        /// Why, for people.
        why: String,
        /// As of when; it is due at once.
        at: Timestamp,
    },
    /// A later version of its object took its place.
    Superseded,
}
