use std::sync::Arc;
use std::time::Duration;

use arrow_array::{Array as _, ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, SchemaRef};
use async_trait::async_trait;
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::ids::{PipelineName, SegmentId};
use crate::load::{Load, LoadReceipt, StagedFile};
use crate::revision::RevisionId;
use crate::time::Timestamp;

/// A table as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableInfo {
    /// Its schema, with forebay's own columns.
    pub schema: SchemaRef,
    /// The columns that divide its files.
    pub partition_by: Vec<String>,
    /// Whose it is; `None` where forebay did not make it.
    pub owner: Option<TableOwner>,
    /// Its version.
    pub version: u64,
    /// Data files.
    pub files: u64,
    /// Bytes of the data files.
    pub bytes: u64,
    /// Rows, where every file says how many.
    pub rows: Option<u64>,
}

/// Who loads a table: one pipeline of one ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableOwner {
    /// The ledger.
    pub ledger: Uuid,
    /// The pipeline.
    pub pipeline: String,
}

/// The last load that a table knows of, for one pipeline of one ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommittedLoad {
    /// Its number.
    pub number: u64,
    /// Its id; `None` where the table's history does not go back to it.
    pub id: Option<Uuid>,
}

/// What a table remembers of its loads, and which rows it has: what a ledger is rebuilt from.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TableHistory {
    /// The ledger that loads it; `None` for a table that forebay did not make.
    pub ledger: Option<Uuid>,
    /// The pipeline that loads it.
    pub pipeline: Option<PipelineName>,
    /// The number of its last load.
    pub last: Option<u64>,
    /// Its loads as far as its history goes back, oldest first; the last one at least where the history has it.
    pub loads: Vec<PastLoad>,
    /// The rows that it has, by segment and load.
    pub rows: Vec<SegmentRows>,
}

/// A load as a table's history has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastLoad {
    /// Its number.
    pub number: u64,
    /// Its id.
    pub id: Uuid,
    /// The revision that made its rows.
    pub revision: RevisionId,
    /// The version of the table that has it.
    pub table_version: u64,
    /// Rows of former generations that it removed.
    pub rows_removed: u64,
    /// The segments whose rows of former generations it was to remove.
    pub replaces: Vec<SegmentId>,
    /// Whether a replay asked for the revision.
    pub chosen: bool,
    /// When it was committed, where the history says so.
    pub at: Option<Timestamp>,
}

/// Rows of a segment that one load brought.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SegmentRows {
    /// The segment.
    pub segment: SegmentId,
    /// The load's number.
    pub load: u64,
    /// How many rows the table has of it now.
    pub rows: u64,
}

/// What a staged file is for.
#[derive(Debug, Clone)]
pub struct StagingRequest {
    /// The table, without its warehouse.
    pub table: String,
    /// The segment that the rows are of.
    pub segment: SegmentId,
    /// The schema of the batches to come: fields as [`Warehouse::storage_field`] made them.
    pub schema: SchemaRef,
    /// The columns that divide the files.
    pub partition_by: Vec<String>,
}

/// How to maintain a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaintainOptions {
    /// Files below half of this are compacted into files of about this size.
    pub target_file_bytes: u64,
    /// Files that no version needs are removed when they are older.
    pub retention: Duration,
    /// Say what would be done, and do nothing.
    pub dry_run: bool,
    /// Now, by the host's clock.
    pub now: Timestamp,
    /// Paths of staged files that are not to be removed: they are of loads that the ledger has open.
    pub keep_staged: Vec<String>,
}

/// What maintenance did to a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct MaintainReport {
    pub files_before: u64,
    pub files_after: u64,
    pub compacted_files: u64,
    pub compacted_bytes: u64,
    pub vacuumed_files: u64,
    pub vacuumed_bytes: u64,
}

/// A warehouse.
///
/// Contract:
/// - staged files are durable when `finish` returns, and no reader of the table sees them before `commit`;
/// - `commit` adds the files, removes the rows of `removes` (also from files that hold other segments too), grows the
///   schema and remembers the load's number and id in one transaction, durable when it returns;
/// - committing a load again, whatever happened the first time, does nothing and says so; a load whose number is lower
///   than the table's, or the same with another id, is refused with class fenced: the ledger is older than the table;
/// - a load that can never be committed (its staged files are gone, its columns do not fit the table's) is refused with class
///   `reject_rows`, which means that nothing of it is in the table;
/// - any other error of a commit may hide a success: the caller asks `committed`, or commits again;
/// - commits and maintenance of one table by one process are done one after the other.
#[async_trait]
pub trait Warehouse: Send + Sync + std::fmt::Debug {
    /// The kind, as in the config: `delta`.
    fn kind(&self) -> &'static str;
    /// How a column is stored: the name with forbidden characters mapped, the type as every reader knows it.
    ///
    /// # Errors
    /// Class operator, for a type that the warehouse cannot keep.
    fn storage_field(&self, field: &Field) -> Result<Field>;
    /// Casts a column, of a type that [`Warehouse::storage_field`] was given, to the type that it answered. Nested fields are
    /// matched by position, since their names may have been mapped. Nothing is cast in silence: a value that does not
    /// fit is an error, never null.
    ///
    /// # Errors
    /// Class bug, where the types do not belong together or a value does not fit.
    fn store_column(&self, column: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
        if column.data_type() == to {
            return Ok(Arc::clone(column));
        }
        Err(Error::bug(format!("a column of type {} was to be stored as {to}", column.data_type())))
    }
    /// Whether the warehouse divides tables by columns at all. Which columns can is checked by their types.
    ///
    /// # Errors
    /// Class operator, where it does not.
    fn check_partitioning(&self, table: &str, partition_by: &[String]) -> Result<()> {
        let _ = (table, partition_by);
        Ok(())
    }
    /// The table; `None` where there is none.
    async fn table(&self, table: &str) -> Result<Option<TableInfo>>;
    /// The tables that there are.
    async fn tables(&self) -> Result<Vec<String>>;
    /// Starts to stage a segment's rows. Blocking, for worker threads.
    fn stage(&self, request: StagingRequest) -> Result<Box<dyn StagedWriter>>;
    /// Commits a load.
    async fn commit(&self, load: &Load) -> Result<LoadReceipt>;
    /// The last load of this ledger and pipeline that the table has.
    async fn committed(&self, table: &str, ledger: Uuid, pipeline: &str) -> Result<Option<CommittedLoad>>;
    /// What the table remembers and has; `None` where there is none. Changes nothing.
    async fn history(&self, table: &str) -> Result<Option<TableHistory>>;
    /// The rows that the table has of a segment, in the table's schema and in no order; none where there is no table.
    async fn rows_of(&self, table: &str, segment: &SegmentId) -> Result<Vec<RecordBatch>>;
    /// Removes staged files that will not be committed.
    async fn discard(&self, table: &str, files: &[StagedFile]) -> Result<()>;
    /// Compacts small files and removes old ones. Of a table that is not there, staged files that will not be committed.
    async fn maintain(&self, table: &str, options: &MaintainOptions) -> Result<MaintainReport>;
    /// Drops a table with all of its rows; false where there is none. One that is another's, or nobody's, is refused with class operator.
    /// From then on it is as if it had never been: loads of any number may make it anew.
    async fn drop_table(&self, table: &str, owner: &TableOwner) -> Result<bool>;
    /// Forgets what this process keeps of a table in memory: another one may have dropped it.
    fn close_table(&self, table: &str) {
        let _ = table;
    }
}

/// Rows of one segment on their way to one table. Dropped without `finish`, it leaves nothing that a reader sees.
pub trait StagedWriter: Send {
    /// Adds rows, in the schema of the request. Memory is bounded by the writer's buffers.
    fn write(&mut self, batch: &RecordBatch) -> Result<()>;
    /// Bytes that it holds in memory now.
    fn buffered_bytes(&self) -> usize;
    /// Makes the files durable. None where there was no row.
    fn finish(self: Box<Self>) -> Result<Vec<StagedFile>>;
}
