use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field};
use async_trait::async_trait;
use forebay_model::ports::{
    Clock as _, CommittedLoad, MaintainOptions, MaintainReport, StagedWriter, StagingRequest, TableHistory, TableInfo,
    TableOwner, Warehouse,
};
use forebay_model::{Load, LoadReceipt, Result, SegmentId, StagedFile, Timestamp};
use forebay_warehouse::MemoryWarehouse;
use forebay_warehouse::memory::MemoryState;
use uuid::Uuid;

use super::WINDOW;
use crate::simulation::clock::SimClock;
use crate::simulation::faults::SimRandom;
use crate::simulation::storage::{Models, Storage, Stores};
use crate::simulation::world::as_clock;

/// A warehouse that changes what a commit is.
#[derive(Debug)]
struct ChangedLake<C> {
    inner: MemoryWarehouse,
    commit: C,
}

/// How it is changed.
trait Change: Send + Sync + std::fmt::Debug {
    fn staged(&self, _files: &[StagedFile], _request: &StagingRequest, _batches: &[RecordBatch]) {}
    fn before_commit(&self, inner: &MemoryWarehouse, load: Load) -> Result<Load>;
}

#[async_trait]
impl<C: Change + Clone + 'static> Warehouse for ChangedLake<C> {
    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    fn storage_field(&self, field: &Field) -> Result<Field> {
        self.inner.storage_field(field)
    }

    fn store_column(&self, column: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
        self.inner.store_column(column, to)
    }

    async fn table(&self, table: &str) -> Result<Option<TableInfo>> {
        self.inner.table(table).await
    }

    async fn tables(&self) -> Result<Vec<String>> {
        self.inner.tables().await
    }

    fn stage(&self, request: StagingRequest) -> Result<Box<dyn StagedWriter>> {
        let inner = self.inner.stage(request.clone())?;
        Ok(Box::new(Noting { inner, request, batches: Vec::new(), change: self.commit.clone() }))
    }

    async fn commit(&self, load: &Load) -> Result<LoadReceipt> {
        let load = self.commit.before_commit(&self.inner, load.clone())?;
        self.inner.commit(&load).await
    }

    async fn history(&self, table: &str) -> Result<Option<TableHistory>> {
        self.inner.history(table).await
    }

    async fn committed(&self, table: &str, ledger: Uuid, pipeline: &str) -> Result<Option<CommittedLoad>> {
        self.inner.committed(table, ledger, pipeline).await
    }

    async fn rows_of(&self, table: &str, segment: &SegmentId) -> Result<Vec<RecordBatch>> {
        self.inner.rows_of(table, segment).await
    }

    async fn discard(&self, table: &str, files: &[StagedFile]) -> Result<()> {
        self.inner.discard(table, files).await
    }

    async fn maintain(&self, table: &str, options: &MaintainOptions) -> Result<MaintainReport> {
        self.inner.maintain(table, options).await
    }

    async fn drop_table(&self, table: &str, owner: &TableOwner) -> Result<bool> {
        self.inner.drop_table(table, owner).await
    }
}

struct Noting<C> {
    inner: Box<dyn StagedWriter>,
    request: StagingRequest,
    batches: Vec<RecordBatch>,
    change: C,
}

impl<C: Change> StagedWriter for Noting<C> {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.batches.push(batch.clone());
        self.inner.write(batch)
    }

    fn buffered_bytes(&self) -> usize {
        self.inner.buffered_bytes()
    }

    fn finish(self: Box<Self>) -> Result<Vec<StagedFile>> {
        let Self { inner, request, batches, change } = *self;
        let files = inner.finish()?;
        change.staged(&files, &request, &batches);
        Ok(files)
    }
}

/// A warehouse whose last commit is undone by a death.
pub(super) struct HastyLakeStorage {
    models: Models,
    hasty: Hasty,
}

#[derive(Debug, Clone)]
struct Hasty {
    clock: Arc<SimClock>,
    /// What there was before the commits that are not durable yet, and when they are.
    before: Arc<Mutex<Option<(Timestamp, MemoryState)>>>,
}

impl HastyLakeStorage {
    pub(super) fn new(clock: &Arc<SimClock>, random: &Arc<SimRandom>) -> Self {
        let hasty = Hasty { clock: Arc::clone(clock), before: Arc::default() };
        Self { models: Models::new(&as_clock(clock), random.as_ref()), hasty }
    }
}

impl Change for Hasty {
    fn before_commit(&self, inner: &MemoryWarehouse, load: Load) -> Result<Load> {
        let now = self.clock.now();
        let mut before = self.before.lock().unwrap();
        if before.as_ref().is_none_or(|(durable, _)| *durable <= now) {
            *before = Some((now.plus(WINDOW), inner.snapshot()));
        }
        Ok(load)
    }
}

#[async_trait]
impl Storage for HastyLakeStorage {
    async fn open(&self) -> Result<Stores> {
        let lake = ChangedLake { inner: self.models.lake.clone(), commit: self.hasty.clone() };
        Ok(Stores { lake: Arc::new(lake), ..self.models.open().await? })
    }

    fn ended(&self, died: bool) {
        if died {
            let before = self.hasty.before.lock().unwrap().take();
            if let Some((_, state)) = before.filter(|(durable, _)| *durable > self.hasty.clock.now()) {
                self.models.lake.restore(state);
            }
        }
    }

    async fn rows(&self, table: &str) -> Result<Option<RecordBatch>> {
        self.models.rows(table).await
    }

    async fn leftovers(&self, tables: &[String]) -> Vec<String> {
        self.models.leftovers(tables).await
    }
}

/// A warehouse that takes each commit for a new one.
pub(super) struct ForgetfulLakeStorage {
    models: Models,
    forgetful: Forgetful,
}

#[derive(Debug, Clone, Default)]
struct Forgetful(Arc<Mutex<Commits>>);

#[derive(Debug, Default)]
struct Commits {
    /// Rows of staged files, which a commit that is done again stages again.
    rows: BTreeMap<(String, String), (StagingRequest, Vec<RecordBatch>)>,
    number: u64,
    known: BTreeMap<String, Vec<u64>>,
}

impl ForgetfulLakeStorage {
    pub(super) fn new(clock: &Arc<SimClock>, random: &Arc<SimRandom>) -> Self {
        Self { models: Models::new(&as_clock(clock), random.as_ref()), forgetful: Forgetful::default() }
    }
}

impl Change for Forgetful {
    fn staged(&self, files: &[StagedFile], request: &StagingRequest, batches: &[RecordBatch]) {
        let mut commits = self.0.lock().unwrap();
        for file in files {
            let place = (request.table.clone(), file.path.clone());
            commits.rows.insert(place, (request.clone(), batches.to_vec()));
        }
    }

    fn before_commit(&self, inner: &MemoryWarehouse, mut load: Load) -> Result<Load> {
        let mut commits = self.0.lock().unwrap();
        let table = load.table.table.clone();
        let known = commits.known.entry(table.clone()).or_default();
        let again = known.contains(&load.number);
        known.push(load.number);
        if again {
            let mut files = Vec::new();
            for file in &load.files {
                let (request, batches) = &commits.rows[&(table.clone(), file.path.clone())];
                let mut writer = inner.stage(request.clone())?;
                batches.iter().try_for_each(|batch| writer.write(batch))?;
                files.extend(writer.finish()?);
            }
            load.files = files;
        }
        commits.number += 1;
        Ok(Load { number: commits.number, id: Uuid::from_u128(commits.number.into()), ..load })
    }
}

#[async_trait]
impl Storage for ForgetfulLakeStorage {
    async fn open(&self) -> Result<Stores> {
        let lake = ChangedLake { inner: self.models.lake.clone(), commit: self.forgetful.clone() };
        Ok(Stores { lake: Arc::new(lake), ..self.models.open().await? })
    }

    async fn rows(&self, table: &str) -> Result<Option<RecordBatch>> {
        self.models.rows(table).await
    }

    async fn leftovers(&self, tables: &[String]) -> Vec<String> {
        self.models.leftovers(tables).await
    }
}
