//! Delta Lake tables in a folder, through the `deltalake` crate.
//!
//! A table is a sub-folder: `_delta_log` is its log, `_forebay` holds the data files that forebay wrote. Any engine that reads
//! Delta Lake (reader version 1, no table features) reads it.
//!
//! What the crate leaves to its user, and where it is done:
//!
//! | what | where |
//! |---|---|
//! | one committer per table, for loads and for maintenance | [`table`]: a lock for each table |
//! | a load's number and id, checked before and after each attempt | [`commit`] |
//! | rows are replaced from the snapshot that is committed on, or not at all | [`plan`]; [`commit`]: no retries inside the crate |
//! | durable log, torn ends, leftovers | [`store`], [`log`] |
//! | data files that nobody sees before the commit, and nobody loses | [`stage`] |
//! | checkpoints that are as they were written | [`checkpoint`] |
//! | checkpoints, after which the table is opened anew; log retention | [`table`] |
//! | compaction outside the commit, vacuum | [`maintain`] |
//! | a table that is dropped | [`remove`] |
//! | what a ledger is rebuilt from | [`history`] |
//! | the rows of a segment | [`segment`] |
//! | statistics, encodings | [`crate::files`] |
//! | types and names | [`crate::columns`] |
//!
//! Between commits a table's snapshot is kept, so a commit reads nothing but the listing of its log's end.

mod checkpoint;
mod commit;
mod history;
mod log;
mod maintain;
mod plan;
mod remove;
mod rewrite;
mod segment;
mod stage;
mod store;
mod table;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field};
use arrow_select::concat::concat_batches;
use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use datafusion::error::DataFusionError;
use datafusion::prelude::SessionContext;
use deltalake::DeltaTableError;
use forebay_disk::{Disk, Folders, LocalDisk};
use forebay_model::ports::{
    Clock, CommittedLoad, MaintainOptions, MaintainReport, Random, StagedWriter, StagingRequest, TableHistory,
    TableInfo, TableOwner, Warehouse,
};
use forebay_model::{Load, LoadReceipt, Result, SegmentId, StagedFile};
use object_store::ObjectStore;
use uuid::Uuid;

use self::checkpoint::Compared;
use self::plan::FileSchemas;
pub(crate) use self::stage::check_schema;
use self::stage::{DeltaStagedWriter, FileMaker, Pending};
use self::table::TableSlot;
use crate::columns;
use crate::error::WarehouseError;
use crate::files::check_partitioning;

/// Wraps the store that the log goes through: for tests that lose answers or power.
pub type StoreLayer = Arc<dyn Fn(Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> + Send + Sync>;

/// How a warehouse is opened.
#[derive(Clone)]
pub struct DeltaOptions {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Names of data files.
    pub random: Arc<dyn Random>,
    /// The file system.
    pub disk: Arc<dyn Disk>,
    /// Laid over the log's store; `None` in the host.
    pub store_layer: Option<StoreLayer>,
    /// Commits from one checkpoint of the log to the next: 64 unless set. For tables that are created.
    pub checkpoint_interval: u64,
    /// How long the log of a table goes back, and with it time travel: 2 days unless set, at least one. For tables that are
    /// created. (Each commit lists the log, so a long one costs every commit.)
    pub log_retention: Duration,
    /// Called at named points, for faults.
    pub failpoint: fn(&str),
}

impl DeltaOptions {
    /// The defaults.
    pub fn new(clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        Self {
            clock,
            random,
            disk: Arc::new(LocalDisk),
            store_layer: None,
            checkpoint_interval: 64,
            log_retention: Duration::from_secs(2 * 24 * 60 * 60),
            failpoint: |_| {},
        }
    }
}

impl std::fmt::Debug for DeltaOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { clock: _, random: _, disk, store_layer: _, checkpoint_interval, log_retention, failpoint: _ } = self;
        f.debug_struct("DeltaOptions")
            .field("disk", disk)
            .field("checkpoint_interval", checkpoint_interval)
            .field("log_retention", log_retention)
            .finish_non_exhaustive()
    }
}

/// Delta Lake tables in a folder. See the module.
#[derive(Debug)]
pub struct DeltaWarehouse {
    root: PathBuf,
    options: DeltaOptions,
    slots: Mutex<HashMap<String, Arc<TableSlot>>>,
    folders: Arc<Folders>,
    pending: Arc<Pending>,
    schemas: Arc<FileSchemas>,
    compared: Arc<Compared>,
}

impl DeltaWarehouse {
    /// Opens a warehouse in a folder, which is made where it is missing.
    ///
    /// # Errors
    /// [`WarehouseError::Io`] where the folder cannot be made; [`WarehouseError::Refused`] for options that make no sense.
    pub fn open(root: impl AsRef<Path>, options: DeltaOptions) -> Result<Self, WarehouseError> {
        let root = root.as_ref();
        if options.checkpoint_interval == 0 || options.log_retention < Duration::from_secs(24 * 60 * 60) {
            return Err(WarehouseError::Refused {
                table: root.display().to_string(),
                what: "its log would be kept for less than a day, or never get a checkpoint".into(),
                hint: "keep the log for a day at least, and let checkpoints be one commit apart at least",
            });
        }
        options.disk.create_folder(root).map_err(WarehouseError::io("create", root))?;
        let root = root.canonicalize().map_err(WarehouseError::io("open", root))?;
        Ok(Self::at(root, options))
    }

    /// A warehouse to be read only: nothing is made, and where there is no folder there are no tables.
    ///
    /// # Errors
    /// [`WarehouseError::Io`] where the folder is there and cannot be looked at.
    pub fn reading(root: impl AsRef<Path>, options: DeltaOptions) -> Result<Self, WarehouseError> {
        let root = root.as_ref();
        let root = match root.canonicalize() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => root.to_owned(),
            found => found.map_err(WarehouseError::io("open", root))?,
        };
        Ok(Self::at(root, options))
    }

    fn at(root: PathBuf, options: DeltaOptions) -> Self {
        let folders = Arc::new(Folders::new(root.clone(), Arc::clone(&options.disk)));
        Self {
            root,
            options,
            folders,
            slots: Mutex::default(),
            pending: Arc::default(),
            schemas: Arc::default(),
            compared: Arc::default(),
        }
    }

    /// The table for queries, as it stands now; `None` where there is none.
    ///
    /// # Errors
    /// Where the table's log cannot be read.
    pub async fn provider(&self, table: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let Some(opened) = self.load_table(table).await? else { return Ok(None) };
        Ok(Some(provider_of(table, &opened).await?))
    }

    /// The table for queries, as it stood at a version.
    ///
    /// # Errors
    /// Where the table's log does not go back to it, or cannot be read.
    pub async fn provider_at(&self, table: &str, version: u64) -> Result<Arc<dyn TableProvider>> {
        let mut opened = self.handle(table)?;
        opened.load_version(version).await.map_err(WarehouseError::delta("read the log of", table))?;
        Ok(provider_of(table, &opened).await?)
    }

    /// All rows of a table as a query sees them now; `None` where there is none.
    ///
    /// # Errors
    /// Where the table's log or one of its files cannot be read.
    pub async fn rows(&self, table: &str) -> Result<Option<RecordBatch>> {
        let Some(opened) = self.load_table(table).await? else { return Ok(None) };
        let schema = opened.snapshot().map_err(WarehouseError::delta("read", table))?.snapshot().arrow_schema();
        let reading =
            |error: DataFusionError| WarehouseError::delta("read", table)(DeltaTableError::Generic(error.to_string()));
        let provider = opened.table_provider().await.map_err(reading)?;
        let frame = SessionContext::new().read_table(provider).map_err(reading)?;
        let batches = Box::pin(frame.collect()).await.map_err(reading)?;
        // Queries give text as views.
        let stored = batches.iter().map(|batch| columns::adapt_batch(batch, &schema)).collect::<Result<Vec<_>, _>>();
        let rows = stored.and_then(|batches| concat_batches(&schema, &batches));
        Ok(Some(rows.map_err(WarehouseError::data_file("read", &self.root.join(table)))?))
    }

    fn table_path(&self, table: &str) -> Result<PathBuf, WarehouseError> {
        let plain = !table.is_empty()
            && !table.starts_with(['_', '.'])
            && table.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
        if plain {
            return Ok(self.root.join(table));
        }
        Err(WarehouseError::Refused {
            table: table.to_owned(),
            what: "it has a name that is not a folder's".into(),
            hint: "use letters, digits, '_' and '-', beginning with a letter",
        })
    }

    fn maker(&self, table: &str) -> Result<FileMaker, WarehouseError> {
        Ok(FileMaker {
            table: self.table_path(table)?,
            disk: Arc::clone(&self.options.disk),
            folders: Arc::clone(&self.folders),
            random: Arc::clone(&self.options.random),
            pending: Arc::clone(&self.pending),
        })
    }

    fn slot(&self, table: &str) -> Arc<TableSlot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry(table.to_owned()).or_default())
    }
}

/// Work on files, off the threads that drive futures.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, WarehouseError> + Send + 'static,
) -> Result<T, WarehouseError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| WarehouseError::Bug(format!("work on files did not finish: {error}")))?
}

async fn provider_of(name: &str, table: &deltalake::DeltaTable) -> Result<Arc<dyn TableProvider>, WarehouseError> {
    let provider = table.table_provider().await;
    provider.map_err(|error| WarehouseError::delta("read", name)(DeltaTableError::Generic(error.to_string())))
}

#[async_trait]
impl Warehouse for DeltaWarehouse {
    fn kind(&self) -> &'static str {
        "delta"
    }

    fn storage_field(&self, field: &Field) -> Result<Field> {
        Ok(columns::storage_field(field)?)
    }

    fn store_column(&self, column: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
        columns::store_column(column, to)
    }

    async fn table(&self, table: &str) -> Result<Option<TableInfo>> {
        Ok(self.table_info(table).await?)
    }

    async fn tables(&self) -> Result<Vec<String>> {
        Ok(self.list_tables().await?)
    }

    fn stage(&self, request: StagingRequest) -> Result<Box<dyn StagedWriter>> {
        if let Some(what) = check_partitioning(&request.schema, &request.partition_by) {
            let hint = "name columns of the table that are numbers, text, dates or times in partition_by";
            return Err(WarehouseError::Refused { table: request.table, what, hint }.into());
        }
        for field in request.schema.fields() {
            if columns::storage_field(field)?.data_type() != field.data_type() {
                let what =
                    format!("column {} is staged as {}, which it is not stored as", field.name(), field.data_type());
                return Err(WarehouseError::Bug(what).into());
            }
        }
        Ok(Box::new(DeltaStagedWriter::new(self.maker(&request.table)?, request)))
    }

    async fn commit(&self, load: &Load) -> Result<LoadReceipt> {
        Ok(Box::pin(self.commit_load(load)).await?)
    }

    async fn committed(&self, table: &str, ledger: Uuid, pipeline: &str) -> Result<Option<CommittedLoad>> {
        Ok(Box::pin(self.committed_load(table, ledger, pipeline)).await?)
    }

    async fn history(&self, table: &str) -> Result<Option<TableHistory>> {
        Ok(Box::pin(self.table_history(table)).await?)
    }

    async fn rows_of(&self, table: &str, segment: &SegmentId) -> Result<Vec<RecordBatch>> {
        Ok(Box::pin(self.segment_rows(table, segment)).await?)
    }

    async fn discard(&self, table: &str, files: &[StagedFile]) -> Result<()> {
        Ok(Box::pin(self.discard_files(table, files)).await?)
    }

    async fn maintain(&self, table: &str, options: &MaintainOptions) -> Result<MaintainReport> {
        Ok(Box::pin(self.maintain_table(table, options)).await?)
    }

    async fn drop_table(&self, table: &str, owner: &TableOwner) -> Result<bool> {
        Ok(Box::pin(self.drop_owned(table, owner)).await?)
    }

    fn close_table(&self, table: &str) {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).remove(table);
        self.folders.forget();
    }
}
