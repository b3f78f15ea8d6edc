//! Orderings broken on purpose, each in a store of the test's own: the simulation must find every one of them.
//!
//! A store that answers before what it did is durable breaks the order of its caller as surely as a caller that does not wait:
//! a zone that answers before it has synced is *ledger before sync*.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::io::Read;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field};
use async_trait::async_trait;
use bytes::Bytes;
use forebay_landing::MemoryZone;
use forebay_ledger::{MemoryLedger, MemorySnapshot};
use forebay_model::flow::RawRecords;
use forebay_model::ports::{
    Clock as _, CommittedLoad, Journal, JournalEntry, LandedObject, LandingZone, MaintainOptions, MaintainReport,
    ObjectEntry, Random as _, SplitRule, StagedWriter, StagingRequest, TableHistory, TableInfo, Warehouse,
    ZoneIdentity,
};
use forebay_model::segment::Compression;
use forebay_model::{Load, LoadReceipt, Result, StagedFile, StreamName, Timestamp};
use forebay_warehouse::MemoryWarehouse;
use forebay_warehouse::memory::MemoryState;
use futures::stream::BoxStream;
use uuid::Uuid;

use super::clock::SimClock;
use super::faults::SimRandom;
use super::storage::{Models, Storage, Stores};
use super::world::{MakeStorage, as_clock, run};

/// How long it takes until something hasty is durable after all.
const WINDOW: Duration = Duration::from_millis(800);

/// Seeds that it may take to find a bug.
const SEEDS: u64 = 400;

/// The first seed that finds what is wrong.
fn found(make: MakeStorage) -> (u64, Vec<String>) {
    let failing = (0..SEEDS).map(|seed| (seed, run(seed, false, make).violations));
    let first = failing.into_iter().find(|(_, violations)| !violations.is_empty());
    first.unwrap_or_else(|| panic!("{SEEDS} seeds, and the bug was not found"))
}

#[test]
fn a_zone_that_answers_before_it_has_synced_is_found() {
    let (seed, violations) = found(|_, clock, random| Box::new(HastyZoneStorage::new(Omits::Syncing, clock, random)));
    println!("ledger before sync: found by seed {seed}: {}", violations[0]);
}

#[test]
fn a_sweep_that_leaves_orphans_is_found() {
    let (seed, violations) = found(|_, clock, random| Box::new(HastyZoneStorage::new(Omits::Deleting, clock, random)));
    println!("orphans of the zone: found by seed {seed}: {}", violations[0]);
    assert!(violations.iter().all(|what| what.contains("no ledger lists")), "{violations:?}");
}

#[test]
fn maintenance_that_leaves_staged_files_is_found() {
    // Without a clock no staged file is ever old.
    let (seed, violations) = found(|_, clock, random| {
        Box::new(Models { lake: MemoryWarehouse::new(), ..Models::new(&as_clock(clock), random.as_ref()) })
    });
    println!("orphans of the warehouse: found by seed {seed}: {}", violations[0]);
    assert!(violations.iter().all(|what| what.contains("in none of its tables")), "{violations:?}");
}

#[test]
fn a_ledger_that_answers_before_it_lists_is_found() {
    let (seed, violations) = found(|_, clock, random| Box::new(HastyLedgerStorage::new(clock, random)));
    println!("acknowledged before listed: found by seed {seed}: {}", violations[0]);
}

#[test]
fn a_warehouse_that_answers_before_it_commits_is_found() {
    let (seed, violations) = found(|_, clock, random| Box::new(HastyLakeStorage::new(clock, random)));
    println!("done before committed: found by seed {seed}: {}", violations[0]);
}

#[test]
fn a_warehouse_that_forgets_the_token_is_found() {
    let (seed, violations) = found(|_, clock, random| Box::new(ForgetfulLakeStorage::new(clock, random)));
    println!("token forgotten: found by seed {seed}: {}", violations[0]);
    assert!(violations.iter().any(|what| what.contains("once more")), "rows are doubled: {violations:?}");
}

/// A zone that answers before it has done what it was asked.
struct HastyZoneStorage {
    models: Models,
    zone: Arc<HastyZone>,
}

/// What the zone does not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Omits {
    /// To sync: what it wrote last is gone or torn after a death.
    Syncing,
    /// To delete.
    Deleting,
}

#[derive(Debug)]
struct HastyZone {
    omits: Omits,
    inner: Arc<MemoryZone>,
    clock: Arc<SimClock>,
    random: Arc<SimRandom>,
    /// Names, their bytes, and when they are durable.
    unsynced: Mutex<Vec<(String, u64, Timestamp)>>,
}

impl HastyZoneStorage {
    fn new(omits: Omits, clock: &Arc<SimClock>, random: &Arc<SimRandom>) -> Self {
        let models = Models::new(&as_clock(clock), random.as_ref());
        let zone = Arc::new(HastyZone {
            omits,
            inner: Arc::clone(&models.zone),
            clock: Arc::clone(clock),
            random: Arc::clone(random),
            unsynced: Mutex::default(),
        });
        Self { models, zone }
    }
}

impl HastyZone {
    fn wrote(&self, object: &LandedObject) {
        let durable = self.clock.now().plus(WINDOW);
        self.unsynced.lock().unwrap().push((object.name.clone(), object.bytes, durable));
    }

    fn lose(&self) {
        let now = self.clock.now();
        for (name, bytes, durable) in std::mem::take(&mut *self.unsynced.lock().unwrap()) {
            if durable <= now {
                continue;
            }
            let torn = self.random.bits().is_multiple_of(2).then(|| {
                let mut half = Vec::new();
                self.inner.open(&name, 0..bytes / 2).unwrap().read_to_end(&mut half).unwrap();
                Bytes::from(half)
            });
            self.inner.damage(&name, torn);
        }
    }
}

#[async_trait]
impl Storage for HastyZoneStorage {
    async fn open(&self) -> Result<Stores> {
        Ok(Stores { zone: self.zone.clone(), ..self.models.open().await? })
    }

    fn ended(&self, died: bool) {
        if died && self.zone.omits == Omits::Syncing {
            self.zone.lose();
        }
    }

    async fn rows(&self, table: &str) -> Option<RecordBatch> {
        self.models.rows(table).await
    }

    async fn leftovers(&self, tables: &[String]) -> Vec<String> {
        self.models.leftovers(tables).await
    }
}

#[async_trait]
impl LandingZone for HastyZone {
    async fn put(
        &self,
        name: &str,
        body: BoxStream<'static, Result<Bytes>>,
        compression: Compression,
        split: SplitRule,
    ) -> Result<LandedObject> {
        let landed = self.inner.put(name, body, compression, split).await?;
        self.wrote(&landed);
        Ok(landed)
    }

    async fn put_records(&self, name: &str, stream: &StreamName, records: &RawRecords) -> Result<LandedObject> {
        let landed = self.inner.put_records(name, stream, records).await?;
        self.wrote(&landed);
        Ok(landed)
    }

    fn open(&self, name: &str, range: Range<u64>) -> Result<Box<dyn Read + Send>> {
        self.inner.open(name, range)
    }

    fn open_records(
        &self,
        name: &str,
        rows: Range<u64>,
    ) -> Result<Box<dyn Iterator<Item = Result<RecordBatch>> + Send>> {
        self.inner.open_records(name, rows)
    }

    async fn journal(&self, entry: &JournalEntry) -> Result<()> {
        self.inner.journal(entry).await
    }

    async fn journal_entries(&self) -> Result<Vec<JournalEntry>> {
        self.inner.journal_entries().await
    }

    async fn read_journal(&self, newest: Option<usize>) -> Result<Journal> {
        self.inner.read_journal(newest).await
    }

    async fn set_aside(&self, entry: &str) -> Result<()> {
        self.inner.set_aside(entry).await
    }

    async fn journalled(&self) -> Result<BTreeSet<Uuid>> {
        self.inner.journalled().await
    }

    async fn kept_in(&self, folder: &str) -> Result<Vec<String>> {
        self.inner.kept_in(folder).await
    }

    async fn identity(&self) -> Result<Option<ZoneIdentity>> {
        self.inner.identity().await
    }

    async fn claim(&self, identity: &ZoneIdentity) -> Result<()> {
        self.inner.claim(identity).await
    }

    async fn keep(&self, name: &str, bytes: Bytes) -> Result<()> {
        self.inner.keep(name, bytes).await
    }

    async fn kept(&self, name: &str) -> Result<Option<Bytes>> {
        self.inner.kept(name).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectEntry>> {
        self.inner.list(prefix).await
    }

    async fn delete(&self, name: &str) -> Result<()> {
        if self.omits == Omits::Deleting { Ok(()) } else { self.inner.delete(name).await }
    }

    async fn sweep(&self, before: Timestamp) -> Result<Vec<String>> {
        self.inner.sweep(before).await
    }
}

/// A ledger whose last transactions are gone after a death.
struct HastyLedgerStorage {
    models: Models,
    clock: Arc<SimClock>,
    ledger: Mutex<Arc<MemoryLedger>>,
    /// What is durable, and since when.
    durable: Mutex<(Timestamp, MemorySnapshot)>,
}

impl HastyLedgerStorage {
    fn new(clock: &Arc<SimClock>, random: &Arc<SimRandom>) -> Self {
        let models = Models::new(&as_clock(clock), random.as_ref());
        let durable = Mutex::new((clock.now(), models.ledger.snapshot()));
        Self { ledger: Mutex::new(Arc::clone(&models.ledger)), models, clock: Arc::clone(clock), durable }
    }

    fn present(&self) -> Arc<MemoryLedger> {
        self.ledger.lock().unwrap().clone()
    }

    fn sync_when_due(&self) {
        let now = self.clock.now();
        let mut durable = self.durable.lock().unwrap();
        if now.since(durable.0) >= WINDOW {
            *durable = (now, self.present().snapshot());
        }
    }
}

#[async_trait]
impl Storage for HastyLedgerStorage {
    /// Called for each acknowledgement too: that is when this one looks whether it should sync.
    async fn open(&self) -> Result<Stores> {
        self.sync_when_due();
        Ok(Stores { ledger: self.present(), ..self.models.open().await? })
    }

    fn ended(&self, died: bool) {
        if died {
            let (_, durable) = self.durable.lock().unwrap().clone();
            *self.ledger.lock().unwrap() = Arc::new(MemoryLedger::restore(durable));
        }
    }

    async fn rows(&self, table: &str) -> Option<RecordBatch> {
        self.models.rows(table).await
    }

    async fn leftovers(&self, tables: &[String]) -> Vec<String> {
        self.models.leftovers(tables).await
    }
}

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

    async fn discard(&self, table: &str, files: &[StagedFile]) -> Result<()> {
        self.inner.discard(table, files).await
    }

    async fn maintain(&self, table: &str, options: &MaintainOptions) -> Result<MaintainReport> {
        self.inner.maintain(table, options).await
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
struct HastyLakeStorage {
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
    fn new(clock: &Arc<SimClock>, random: &Arc<SimRandom>) -> Self {
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

    async fn rows(&self, table: &str) -> Option<RecordBatch> {
        self.models.rows(table).await
    }

    async fn leftovers(&self, tables: &[String]) -> Vec<String> {
        self.models.leftovers(tables).await
    }
}

/// A warehouse that takes each commit for a new one.
struct ForgetfulLakeStorage {
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
    fn new(clock: &Arc<SimClock>, random: &Arc<SimRandom>) -> Self {
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

    async fn rows(&self, table: &str) -> Option<RecordBatch> {
        self.models.rows(table).await
    }

    async fn leftovers(&self, tables: &[String]) -> Vec<String> {
        self.models.leftovers(tables).await
    }
}
