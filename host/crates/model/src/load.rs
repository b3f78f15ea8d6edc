//! Loads: rows of one or more segments, made by one revision, committed to one table.
//!
//! The ledger writes down a load, with its files, before the warehouse hears of it. From then on it goes forward: a process
//! that finds it open commits it again, and the warehouse finds the number and the id, and does nothing. Only a load that
//! the warehouse refuses for good is withdrawn, with all of its group that is not done.
//!
//! Numbers belong to the pipeline and grow by one with each group of loads; a table that a group brings nothing has a gap.
//! (A table is loaded by one pipeline.) Rows know their load's number while they are written, before the ledger does.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::ids::{Generation, PipelineName, SegmentId, TableName};
use crate::revision::RevisionId;
use crate::schema::SchemaVersion;
use crate::segment::SegmentCounts;
use crate::time::Timestamp;

/// A data file that is durable in the warehouse's storage and that no reader sees yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedFile {
    /// Relative to the table.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// Its rows.
    pub rows: u64,
    /// The segment that they are of: a file holds rows of one.
    pub segment: SegmentId,
    /// Values of the table's partition columns, by name; null for null.
    pub partition_values: std::collections::BTreeMap<String, Option<String>>,
    /// Statistics in the warehouse's own form.
    pub statistics: String,
}

/// What to commit to one table, once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// The ledger that counts it. A table that another ledger loaded is refused.
    pub ledger: Uuid,
    /// The pipeline that counts it.
    pub pipeline: PipelineName,
    /// Its number.
    pub number: u64,
    /// Tells this attempt at the number from another.
    pub id: Uuid,
    /// The table.
    pub table: TableName,
    /// The revision that made the rows.
    pub revision: RevisionId,
    /// The schema they were decoded to.
    pub schema_version: SchemaVersion,
    /// When it was begun.
    pub begun_at: Timestamp,
    /// What the table's schema is to be after it, as Arrow: the table's own fields first, then those that are added. A column
    /// whose type differs from the table's is rewritten (`Int64` to `Float64` only). Without any field: it stays as it is
    /// (a load that only removes).
    pub schema: arrow_schema::SchemaRef,
    /// The columns that divide the table's files, when the load creates the table.
    pub partition_by: Vec<String>,
    /// The files to add.
    pub files: Vec<StagedFile>,
    /// The segments whose rows are to be removed, in the same commit: former generations, replaced objects.
    pub removes: Vec<SegmentId>,
    /// Whether a replay asked for the revision: then it says nothing of which one is active.
    #[serde(default)]
    pub chosen: bool,
}

/// Why a segment that is loaded is refined once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Again {
    /// Those of its records that were rejected, and that a later revision may accept: what passes is appended, what does not takes the
    /// place of its former reject. Rows that it has stay as they are.
    Heal,
    /// All of it: the rows that come of it take the place of those that it has.
    Replay,
}

/// How a person asked for a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Terms {
    /// Under this revision, whichever is active then; `None`: under the active one.
    #[serde(default)]
    pub revision: Option<RevisionId>,
    /// At most so many workers at once; `None`: as many as there are.
    #[serde(default)]
    pub workers: Option<NonZeroU32>,
}

/// What a segment of a group came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RefinedSegment {
    /// The segment.
    pub segment: SegmentId,
    /// Its generation in this pipeline.
    pub generation: Generation,
    /// Why it was refined though it is loaded; `None` where it was not.
    #[serde(default)]
    pub again: Option<Again>,
    /// How that was asked for.
    #[serde(default)]
    pub terms: Terms,
    /// Where its records went; of a heal, the records that were tried again.
    pub counts: SegmentCounts,
    /// How many are refused now, by stage and code; of a heal, those that were not tried again as well.
    pub rejects: Vec<RejectCount>,
    /// How many of those a later revision may accept.
    #[serde(default)]
    pub retryable: u64,
    /// Former segments that it takes the place of.
    pub replaces: Vec<SegmentId>,
}

/// Rejects of a segment, by stage and code.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RejectCount {
    /// See [`crate::RejectStage`], as text.
    pub stage: String,
    /// See [`crate::reject::code`].
    pub code: String,
    /// How many records.
    pub records: u64,
}

/// Segments that become loaded together: one load for each table that they touch, all of one revision and number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoadGroup {
    /// The pipeline.
    pub pipeline: PipelineName,
    /// The number of all its loads.
    pub number: u64,
    /// The revision.
    pub revision: RevisionId,
    /// The decoded schema.
    pub schema_version: SchemaVersion,
    /// When it was begun.
    pub begun_at: Timestamp,
    /// The segments.
    pub segments: Vec<RefinedSegment>,
    /// The loads, one a table; none where every record was filtered.
    pub loads: Vec<Load>,
}

/// The warehouse's word that a load is committed and durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadReceipt {
    /// The version of the table that has it.
    pub table_version: u64,
    /// Rows added.
    pub rows_added: u64,
    /// Rows of former generations that were removed.
    pub rows_removed: u64,
    /// False where the warehouse found the load already there.
    pub committed_now: bool,
}
