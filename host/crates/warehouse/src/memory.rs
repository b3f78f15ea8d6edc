//! A warehouse in memory: the contract of the port, without a disk. For tests, and for a simulation that stops a process at any
//! step: [`MemoryWarehouse::snapshot`] and [`MemoryWarehouse::restore`] keep and bring back everything that would be on disk,
//! [`MemoryWarehouse::fail_next_commit`] loses an answer or a request.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, BooleanArray, RecordBatch};
use arrow_schema::{DataType, Field, SchemaRef};
use arrow_select::concat::concat_batches;
use arrow_select::filter::filter_record_batch;
use async_trait::async_trait;
use forebay_model::ports::{
    Clock, CommittedLoad, MaintainOptions, MaintainReport, PastLoad, SegmentRows, StagedWriter, StagingRequest,
    TableHistory, TableInfo, TableOwner, Warehouse,
};
use forebay_model::{Error, LOAD, Load, LoadReceipt, Result, SEGMENT, SegmentId, StagedFile, Timestamp};
use uuid::Uuid;

use crate::columns::{self, adapt_batch};
use crate::delta::check_schema;
use crate::error::WarehouseError;
use crate::files::{PartitionKey, check_partitioning, split};
use crate::schema::{check_names, merge};

/// What goes wrong with a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitFault {
    /// An error, and nothing is written.
    Refused,
    /// An error, and everything is written.
    AnswerLost,
    /// The load can never be committed, as where its staged files are gone.
    NeverFits,
}

/// Everything that a warehouse on disk would have on its disk.
#[derive(Debug, Clone, Default)]
pub struct MemoryState {
    tables: BTreeMap<String, Table>,
    /// By table and path: the rows, and when they were staged.
    staged: BTreeMap<(String, String), (RecordBatch, Timestamp)>,
    files: u64,
}

#[derive(Debug, Clone)]
struct Table {
    schema: SchemaRef,
    partition_by: Vec<String>,
    ledger: Uuid,
    pipeline: String,
    version: u64,
    last: Option<(u64, Uuid, LoadReceipt)>,
    loads: Vec<PastLoad>,
    files: BTreeMap<String, RecordBatch>,
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct MemoryWarehouse {
    state: Arc<Mutex<MemoryState>>,
    fault: Arc<Mutex<Option<CommitFault>>>,
    clock: Option<Arc<dyn Clock>>,
}

impl MemoryWarehouse {
    /// An empty one. Without a clock no staged file is ever old, so maintenance removes none.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty one whose staged files are as old as `clock` says.
    #[must_use]
    pub fn timed(clock: Arc<dyn Clock>) -> Self {
        Self { clock: Some(clock), ..Self::default() }
    }

    fn state(&self) -> MutexGuard<'_, MemoryState> {
        // A step either finishes or changes nothing, so a panic elsewhere does not harm the state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a power cut would leave.
    #[must_use]
    pub fn snapshot(&self) -> MemoryState {
        self.state().clone()
    }

    /// As if the process had started on what a snapshot has.
    pub fn restore(&self, state: MemoryState) {
        *self.state() = state;
    }

    /// Lets the next commit fail.
    pub fn fail_next_commit(&self, fault: CommitFault) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
    }

    /// All rows of a table, in the order of its files' names; `None` where there is no such table.
    ///
    /// # Errors
    /// Class bug, where files of the table do not fit its schema.
    pub fn rows(&self, table: &str) -> Result<Option<RecordBatch>> {
        let state = self.state();
        let Some(table) = state.tables.get(table) else { return Ok(None) };
        let batches: Vec<_> =
            table.files.values().map(|rows| adapt_batch(rows, &table.schema)).collect::<Result<_, _>>().map_err(bug)?;
        concat_batches(&table.schema, &batches).map(Some).map_err(bug)
    }

    /// Staged files of a table that are in no table.
    #[must_use]
    pub fn staged(&self, table: &str) -> Vec<String> {
        self.state().staged.keys().filter(|(name, _)| name == table).map(|(_, path)| path.clone()).collect()
    }
}

fn bug(error: arrow_schema::ArrowError) -> Error {
    Error::bug("rows in memory do not fit their table").with_source(error)
}

fn misused(table: &str, what: String) -> WarehouseError {
    WarehouseError::Refused { table: table.to_owned(), what, hint: "see the documentation of the warehouse port" }
}

fn refused(table: &str, what: String) -> WarehouseError {
    WarehouseError::LoadRefused { table: table.to_owned(), what, hint: "see the documentation of the warehouse port" }
}

fn fenced(table: &str, what: String) -> WarehouseError {
    WarehouseError::Fenced { table: table.to_owned(), what, hint: "the ledger is older than the table" }
}

impl MemoryState {
    /// The whole of a commit, or nothing.
    fn commit(&mut self, load: &Load) -> Result<LoadReceipt> {
        let name = load.table.table.as_str();
        if let Some(table) = self.tables.get(name)
            && let Some(receipt) = table.already(load)?
        {
            return Ok(receipt);
        }
        let mut table = match self.tables.get(name) {
            Some(table) => table.clone(),
            None => Table::new(load)?,
        };
        let merged = merge(&table.schema, &load.schema).map_err(|what| refused(name, what))?;
        table.schema = merged.schema;
        let removes: BTreeSet<&str> = load.removes.iter().map(SegmentId::as_str).collect();
        let mut rows_removed = 0;
        let mut kept = BTreeMap::new();
        for (path, rows) in std::mem::take(&mut table.files) {
            let before = rows.num_rows();
            let rows = without(&rows, &removes).map_err(bug)?;
            rows_removed += (before - rows.num_rows()) as u64;
            if rows.num_rows() > 0 {
                kept.insert(path, rows);
            }
        }
        for file in &load.files {
            if !file.partition_values.keys().eq(table.partition_by.iter().collect::<BTreeSet<_>>()) {
                return Err(
                    refused(name, format!("{} is not partitioned by {:?}", file.path, table.partition_by)).into()
                );
            }
            let (rows, _) = self
                .staged
                .get(&(name.to_owned(), file.path.clone()))
                .ok_or_else(|| refused(name, format!("staged file {} of load {} is gone", file.path, load.number)))?;
            adapt_batch(rows, &table.schema).map_err(bug)?;
            kept.insert(file.path.clone(), rows.clone());
        }
        table.files = kept;
        if self.tables.contains_key(name) {
            table.version += 1;
        }
        let receipt = LoadReceipt {
            table_version: table.version,
            rows_added: load.files.iter().map(|file| file.rows).sum(),
            rows_removed,
            committed_now: true,
        };
        table.last = Some((load.number, load.id, receipt.clone()));
        table.loads.push(PastLoad {
            number: load.number,
            id: load.id,
            revision: load.revision,
            table_version: table.version,
            rows_removed,
            replaces: load.removes.clone(),
            chosen: load.chosen,
            at: None,
        });
        for file in &load.files {
            self.staged.remove(&(name.to_owned(), file.path.clone()));
        }
        self.tables.insert(name.to_owned(), table);
        Ok(receipt)
    }
}

impl Table {
    fn new(load: &Load) -> Result<Self> {
        let name = load.table.table.as_str();
        check_names("", load.schema.fields()).map_err(|what| refused(name, what))?;
        if let Some(what) = check_partitioning(&load.schema, &load.partition_by) {
            return Err(refused(name, what).into());
        }
        Ok(Self {
            schema: Arc::clone(&load.schema),
            partition_by: load.partition_by.clone(),
            ledger: load.ledger,
            pipeline: load.pipeline.to_string(),
            version: 0,
            last: None,
            loads: Vec::new(),
            files: BTreeMap::new(),
        })
    }

    /// Partitions and sizes are the disk's business: here a compaction leaves one file.
    fn compact(&mut self, path: String, dry_run: bool) -> Result<MaintainReport> {
        let files_before = self.files.len() as u64;
        if files_before < 2 || !self.partition_by.is_empty() {
            return Ok(MaintainReport { files_before, files_after: files_before, ..MaintainReport::default() });
        }
        let compacted_bytes = self.files.values().map(|rows| rows.get_array_memory_size() as u64).sum();
        if !dry_run {
            let batches = self.files.values().map(|rows| adapt_batch(rows, &self.schema));
            let batches = batches.collect::<Result<Vec<_>, _>>().map_err(bug)?;
            let rows = concat_batches(&self.schema, &batches).map_err(bug)?;
            self.files = BTreeMap::from([(path, rows)]);
            self.version += 1;
        }
        Ok(MaintainReport {
            files_before,
            files_after: 1,
            compacted_files: files_before,
            compacted_bytes,
            ..MaintainReport::default()
        })
    }

    fn already(&self, load: &Load) -> Result<Option<LoadReceipt>> {
        let name = load.table.table.as_str();
        if self.ledger != load.ledger {
            return Err(fenced(name, format!("ledger {} loads it, not ledger {}", self.ledger, load.ledger)).into());
        }
        if self.pipeline != load.pipeline.as_str() {
            return Err(refused(name, format!("pipeline {:?} loads it", self.pipeline)).into());
        }
        match &self.last {
            Some((number, _, _)) if *number < load.number => Ok(None),
            Some((number, id, receipt)) if *number == load.number && *id == load.id => {
                Ok(Some(LoadReceipt { committed_now: false, ..receipt.clone() }))
            }
            Some((number, id, _)) => {
                Err(fenced(name, format!("its last load is {number} ({id}), not {} ({})", load.number, load.id)).into())
            }
            None => Ok(None),
        }
    }
}

fn without(rows: &RecordBatch, removes: &BTreeSet<&str>) -> Result<RecordBatch, arrow_schema::ArrowError> {
    let segments = rows.column_by_name(SEGMENT).and_then(|column| column.as_string_opt::<i32>());
    let Some(segments) = segments.filter(|_| !removes.is_empty()) else { return Ok(rows.clone()) };
    let mask: BooleanArray =
        (0..segments.len()).map(|row| Some(segments.is_null(row) || !removes.contains(segments.value(row)))).collect();
    filter_record_batch(rows, &mask)
}

#[async_trait]
impl Warehouse for MemoryWarehouse {
    fn kind(&self) -> &'static str {
        "memory"
    }

    fn storage_field(&self, field: &Field) -> Result<Field> {
        Ok(columns::storage_field(field)?)
    }

    fn store_column(&self, column: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
        columns::store_column(column, to)
    }

    async fn table(&self, table: &str) -> Result<Option<TableInfo>> {
        Ok(self.state().tables.get(table).map(|table| TableInfo {
            schema: Arc::clone(&table.schema),
            partition_by: table.partition_by.clone(),
            owner: Some(TableOwner { ledger: table.ledger, pipeline: table.pipeline.clone() }),
            version: table.version,
            files: table.files.len() as u64,
            bytes: table.files.values().map(|rows| rows.get_array_memory_size() as u64).sum(),
            rows: Some(table.files.values().map(|rows| rows.num_rows() as u64).sum()),
        }))
    }

    async fn tables(&self) -> Result<Vec<String>> {
        Ok(self.state().tables.keys().cloned().collect())
    }

    fn stage(&self, request: StagingRequest) -> Result<Box<dyn StagedWriter>> {
        if let Some(what) = check_partitioning(&request.schema, &request.partition_by) {
            return Err(misused(&request.table, what).into());
        }
        Ok(Box::new(MemoryWriter { warehouse: self.clone(), request, parts: BTreeMap::new() }))
    }

    async fn commit(&self, load: &Load) -> Result<LoadReceipt> {
        let fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner).take();
        match fault {
            None => self.state().commit(load),
            Some(CommitFault::Refused) => Err(Error::retry("the commit was refused, as the test asked")),
            Some(CommitFault::NeverFits) => {
                Err(refused(&load.table.table, "a staged file is gone, as the test asked".to_owned()).into())
            }
            Some(CommitFault::AnswerLost) => {
                self.state().commit(load)?;
                Err(Error::retry("the commit's answer was lost, as the test asked"))
            }
        }
    }

    async fn committed(&self, table: &str, ledger: Uuid, pipeline: &str) -> Result<Option<CommittedLoad>> {
        let state = self.state();
        let table = state.tables.get(table).filter(|table| table.ledger == ledger && table.pipeline == pipeline);
        let last = table.and_then(|table| table.last.as_ref());
        Ok(last.map(|(number, id, _)| CommittedLoad { number: *number, id: Some(*id) }))
    }

    async fn history(&self, table: &str) -> Result<Option<TableHistory>> {
        let state = self.state();
        let Some(table) = state.tables.get(table) else { return Ok(None) };
        let mut rows: BTreeMap<(SegmentId, u64), u64> = BTreeMap::new();
        for batch in table.files.values() {
            let segments = batch.column_by_name(SEGMENT).and_then(|column| column.as_string_opt::<i32>());
            let loads = batch.column_by_name(LOAD).and_then(|column| column.as_primitive_opt::<Int64Type>());
            let (Some(segments), Some(loads)) = (segments, loads) else { continue };
            for (segment, load) in segments.iter().zip(loads).filter_map(|(segment, load)| segment.zip(load)) {
                let load = u64::try_from(load).map_err(|_| Error::bug(format!("rows of load {load}")))?;
                *rows.entry((SegmentId::from_text(segment), load)).or_default() += 1;
            }
        }
        Ok(Some(TableHistory {
            ledger: Some(table.ledger),
            pipeline: Some(table.pipeline.parse()?),
            last: table.last.as_ref().map(|(number, _, _)| *number),
            loads: table.loads.clone(),
            rows: rows.into_iter().map(|((segment, load), rows)| SegmentRows { segment, load, rows }).collect(),
        }))
    }

    async fn rows_of(&self, table: &str, segment: &SegmentId) -> Result<Vec<RecordBatch>> {
        let state = self.state();
        let Some(table) = state.tables.get(table) else { return Ok(Vec::new()) };
        let mut rows = Vec::new();
        for file in table.files.values() {
            let of = file.column_by_name(SEGMENT).and_then(|column| column.as_string_opt::<i32>());
            let Some(of) = of else { continue };
            let mask: BooleanArray = of.iter().map(|of| Some(of == Some(segment.as_str()))).collect();
            let found = filter_record_batch(file, &mask).map_err(bug)?;
            if found.num_rows() > 0 {
                rows.push(adapt_batch(&found, &table.schema).map_err(bug)?);
            }
        }
        Ok(rows)
    }

    async fn discard(&self, table: &str, files: &[StagedFile]) -> Result<()> {
        let mut state = self.state();
        for file in files {
            if state.tables.get(table).is_some_and(|table| table.files.contains_key(&file.path)) {
                return Err(Error::bug(format!("file {:?} of table {table:?} is loaded, not staged", file.path)));
            }
            state.staged.remove(&(table.to_owned(), file.path.clone()));
        }
        Ok(())
    }

    async fn maintain(&self, table: &str, options: &MaintainOptions) -> Result<MaintainReport> {
        let mut state = self.state();
        let next = state.files;
        let mut report = MaintainReport::default();
        if let Some(found) = state.tables.get_mut(table) {
            report = found.compact(format!("_forebay/{next:08}.parquet"), options.dry_run)?;
            state.files += 1;
        }
        let is_old = |((of, path), (_, at)): (&(String, String), &(RecordBatch, Timestamp))| {
            of == table
                && !options.keep_staged.contains(path)
                && *at <= options.now
                && options.now.since(*at) >= options.retention
        };
        let old: Vec<_> =
            state.staged.iter().filter(|staged| is_old(*staged)).map(|(place, _)| place.clone()).collect();
        report.vacuumed_files = old.len() as u64;
        for place in old.iter().filter(|_| !options.dry_run) {
            state.staged.remove(place);
        }
        Ok(report)
    }

    async fn drop_table(&self, name: &str, owner: &TableOwner) -> Result<bool> {
        let mut state = self.state();
        let Some(table) = state.tables.get(name) else {
            state.staged.retain(|(of, _), _| of != name);
            return Ok(false);
        };
        if (table.ledger, &table.pipeline) != (owner.ledger, &owner.pipeline) {
            return Err(misused(name, format!("it is not pipeline {}'s, so it is not dropped", owner.pipeline)).into());
        }
        state.tables.remove(name);
        state.staged.retain(|(of, _), _| of != name);
        Ok(true)
    }
}

struct MemoryWriter {
    warehouse: MemoryWarehouse,
    request: StagingRequest,
    parts: BTreeMap<PartitionKey, Vec<RecordBatch>>,
}

impl StagedWriter for MemoryWriter {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        check_schema(&self.request, batch)?;
        if batch.num_rows() > 0 {
            for (key, rows) in split(batch, &self.request.partition_by).map_err(bug)? {
                self.parts.entry(key).or_default().push(rows);
            }
        }
        Ok(())
    }

    fn buffered_bytes(&self) -> usize {
        self.parts.values().flatten().map(RecordBatch::get_array_memory_size).sum()
    }

    fn finish(self: Box<Self>) -> Result<Vec<StagedFile>> {
        let Self { warehouse, request, parts } = *self;
        let at = warehouse.clock.as_ref().map_or(Timestamp::from_micros(i64::MAX), |clock| clock.now());
        let mut state = warehouse.state();
        let mut staged = Vec::with_capacity(parts.len());
        for (partition_values, batches) in parts {
            let rows = concat_batches(&request.schema, &batches).map_err(bug)?;
            let path = format!("_forebay/{:08}.parquet", state.files);
            state.files += 1;
            staged.push(StagedFile {
                path: path.clone(),
                bytes: rows.get_array_memory_size() as u64,
                rows: rows.num_rows() as u64,
                segment: request.segment.clone(),
                partition_values,
                statistics: format!("{{\"numRecords\":{}}}", rows.num_rows()),
            });
            state.staged.insert((request.table.clone(), path), (rows, at));
        }
        Ok(staged)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use forebay_model::{Digest, ErrorClass, PipelineName, Timestamp};

    fn load(number: u64) -> Load {
        Load {
            ledger: Uuid::from_u128(1),
            pipeline: PipelineName::new("p").unwrap(),
            number,
            id: Uuid::from_u128(number.into()),
            table: "lake.t".parse().unwrap(),
            revision: Digest::of(b"r"),
            schema_version: 1,
            begun_at: Timestamp::EPOCH,
            schema: Arc::new(arrow_schema::Schema::new(vec![Field::new("n", DataType::Int64, true)])),
            partition_by: vec![],
            files: vec![],
            removes: vec![],
            chosen: false,
        }
    }

    #[tokio::test]
    async fn faults_and_restarts_are_as_a_disk_would_have_them() {
        let warehouse = MemoryWarehouse::new();
        warehouse.fail_next_commit(CommitFault::Refused);
        assert_eq!(warehouse.commit(&load(1)).await.unwrap_err().class(), ErrorClass::Retry);
        assert!(warehouse.commit(&load(1)).await.unwrap().committed_now);
        let before = warehouse.snapshot();
        warehouse.fail_next_commit(CommitFault::AnswerLost);
        assert_eq!(warehouse.commit(&load(2)).await.unwrap_err().class(), ErrorClass::Retry);
        assert!(!warehouse.commit(&load(2)).await.unwrap().committed_now);
        warehouse.restore(before);
        assert!(warehouse.commit(&load(2)).await.unwrap().committed_now);
    }
}
