//! The ledger as plain maps: simple enough to be obviously right, and the model that the real ones are held to.
//!
//! A call locks, works on a copy, and puts the copy in place when all of it went well: that is its transaction. The whole
//! state can be taken and put back ([`MemoryLedger::snapshot`], [`MemoryLedger::restore`]), which is how a simulation
//! kills a process: everything that was accepted is there, and the host lease is free.

mod again;
mod catalog;
mod history;
mod intake;
mod rebuilt;
mod refine;
mod side;
mod state;
mod tables;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use async_trait::async_trait;
use forebay_model::Result;
use forebay_model::ids::{Digest, ModuleName, PipelineName, SegmentId, StreamName, TableName};
use forebay_model::load::{Again, LoadGroup, LoadReceipt};
use forebay_model::ports::{
    AssetRecord, Deployment, DeploymentState, HealRequest, HeldChange, HostHolder, HostLease, JournalEntry,
    LandOutcome, Landing, Ledger, ModuleRecord, ObjectState, Pause, Random, Rebuilt, ReplayRequest, RevisionRecord,
    SegmentFailure, Shadow, Side, WorkItem,
};
use forebay_model::position::OrderedPosition;
use forebay_model::revision::{Revision, RevisionId};
use forebay_model::schema::{SchemaVersion, StreamSchema};
use forebay_model::segment::{LandedSegment, Partition};
use forebay_model::time::Timestamp;
use uuid::Uuid;

use self::state::State;

/// The ledger in memory.
#[derive(Debug)]
pub struct MemoryLedger {
    id: Uuid,
    state: Mutex<State>,
    lease: Mutex<Arc<AtomicBool>>,
}

/// All that a [`MemoryLedger`] holds.
#[derive(Debug, Clone)]
pub struct MemorySnapshot {
    id: Uuid,
    state: State,
}

#[derive(Debug)]
struct MemoryLease(Arc<AtomicBool>);

impl HostLease for MemoryLease {}

impl Drop for MemoryLease {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

impl MemoryLedger {
    /// An empty ledger with an id of its own.
    #[must_use]
    pub fn new(random: &dyn Random) -> Self {
        Self { id: random.uuid(), state: Mutex::default(), lease: Mutex::default() }
    }

    /// An empty ledger with the id of one that is lost.
    #[must_use]
    pub fn with_id(id: Uuid) -> Self {
        Self { id, state: Mutex::default(), lease: Mutex::default() }
    }

    /// All that it holds now.
    #[must_use]
    pub fn snapshot(&self) -> MemorySnapshot {
        MemorySnapshot { id: self.id, state: self.read(State::clone) }
    }

    /// A ledger that holds what another held; nobody has its host lease.
    #[must_use]
    pub fn restore(snapshot: MemorySnapshot) -> Self {
        let MemorySnapshot { id, state } = snapshot;
        Self { id, state: Mutex::new(state), lease: Mutex::default() }
    }

    fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        // What a panicking test left is still whole: the state is replaced, never changed in place.
        look(&self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, change: impl FnOnce(&mut State) -> crate::error::Result<T>) -> Result<T> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut copy = state.clone();
        let answer = change(&mut copy)?;
        *state = copy;
        Ok(answer)
    }
}

#[async_trait]
impl Ledger for MemoryLedger {
    fn id(&self) -> Uuid {
        self.id
    }

    async fn lease_host(&self) -> Result<Option<Box<dyn HostLease>>> {
        let lease = Arc::clone(&self.lease.lock().unwrap_or_else(PoisonError::into_inner));
        let taken = lease.swap(true, Ordering::SeqCst);
        Ok((!taken).then(|| Box::new(MemoryLease(lease)) as Box<dyn HostLease>))
    }

    async fn host(&self) -> Result<Option<HostHolder>> {
        let leased = self.lease.lock().unwrap_or_else(PoisonError::into_inner).load(Ordering::SeqCst);
        // There is no clock here, and no process but this one.
        let holder = HostHolder { process: Some(std::process::id()), host: None, since: Timestamp::EPOCH };
        Ok(leased.then_some(holder))
    }

    async fn import(&self, content: &Rebuilt) -> Result<()> {
        self.write(|state| state.import(self.id, content))
    }

    async fn land(&self, landing: &Landing) -> Result<LandOutcome> {
        crate::check::landing(landing)?;
        self.write(|state| state.land(landing))
    }

    async fn next_position(&self, stream: &StreamName, partition: &Partition) -> Result<Option<OrderedPosition>> {
        Ok(self.read(|state| state.next_position(stream, partition)))
    }

    async fn latest_objects(
        &self,
        stream: &StreamName,
        partition: &Partition,
        keys: &[String],
    ) -> Result<Vec<Option<ObjectState>>> {
        Ok(self.read(|state| keys.iter().map(|key| state.latest_object(stream, partition, key)).collect()))
    }

    async fn unjournalled(&self, stream: &StreamName) -> Result<Vec<JournalEntry>> {
        Ok(self.read(|state| state.unjournalled(self.id, stream)))
    }

    async fn mark_journalled(&self, attempt: Uuid) -> Result<()> {
        self.write(|state| {
            state.mark_journalled(attempt);
            Ok(())
        })
    }

    async fn segment(&self, id: &SegmentId) -> Result<Option<LandedSegment>> {
        Ok(self.read(|state| state.segment(id)))
    }

    async fn objects_listed(&self, names: &[String]) -> Result<Vec<bool>> {
        Ok(self.read(|state| names.iter().map(|name| state.object(name).is_some()).collect()))
    }

    async fn work(
        &self,
        pipeline: &PipelineName,
        stream: &StreamName,
        now: Timestamp,
        skip: &[SegmentId],
        limit: u32,
    ) -> Result<Vec<WorkItem>> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let skip = skip.iter().cloned().collect();
        Ok(self.read(|state| state.work(pipeline, stream, now, &skip, limit)))
    }

    async fn failed(
        &self,
        pipeline: &PipelineName,
        stream: &StreamName,
        now: Timestamp,
        skip: &[SegmentId],
        limit: u32,
    ) -> Result<Vec<WorkItem>> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let skip = skip.iter().cloned().collect();
        Ok(self.read(|state| state.failed(pipeline, stream, now, &skip, limit)))
    }

    async fn begin(&self, pipeline: &PipelineName, stream: &StreamName, at: Timestamp) -> Result<()> {
        self.write(|state| {
            state.begin(pipeline, stream, at);
            Ok(())
        })
    }

    async fn history(
        &self,
        pipeline: &PipelineName,
        stream: &StreamName,
        now: Timestamp,
        skip: &[SegmentId],
        limit: u32,
    ) -> Result<Vec<WorkItem>> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let skip = skip.iter().cloned().collect();
        Ok(self.read(|state| state.history(pipeline, stream, now, &skip, limit)))
    }

    async fn fail(&self, pipeline: &PipelineName, failure: &SegmentFailure) -> Result<()> {
        self.write(|state| state.fail(pipeline, failure))
    }

    async fn retry_failed(&self, pipeline: &PipelineName) -> Result<u64> {
        self.write(|state| Ok(state.retry_failed(pipeline)))
    }

    async fn ask_heal(&self, pipeline: &PipelineName, wanted: &HealRequest, at: Timestamp) -> Result<u64> {
        self.write(|state| Ok(state.ask_heal(pipeline, wanted, at)))
    }

    async fn ask_replay(&self, pipeline: &PipelineName, wanted: &ReplayRequest, at: Timestamp) -> Result<u64> {
        self.write(|state| state.ask_replay(pipeline, wanted, at))
    }

    async fn forget_again(&self, pipeline: &PipelineName, what: Again) -> Result<u64> {
        self.write(|state| Ok(state.forget_again(pipeline, what)))
    }

    async fn again(
        &self,
        pipeline: &PipelineName,
        stream: &StreamName,
        now: Timestamp,
        skip: &[SegmentId],
        limit: u32,
    ) -> Result<Vec<WorkItem>> {
        let skip = skip.iter().cloned().collect();
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        Ok(self.read(|state| state.again(pipeline, stream, now, &skip, limit)))
    }

    async fn ask_side(&self, side: &Side, own: &Revision, segments: &[SegmentId]) -> Result<u64> {
        self.write(|state| state.ask_side(side, own, segments))
    }

    async fn forget_waiting(&self, side: &PipelineName) -> Result<u64> {
        self.write(|state| Ok(state.forget_waiting(side)))
    }

    async fn drop_side(&self, side: &PipelineName, only: Option<&[SegmentId]>) -> Result<bool> {
        self.write(|state| Ok(state.drop_side(side, only)))
    }

    async fn forget_side(&self, side: &PipelineName) -> Result<()> {
        self.write(|state| state.forget_side(side))
    }

    async fn close(&self) {}

    async fn sides(&self) -> Result<Vec<Side>> {
        Ok(self.read(|state| state.sides.values().map(|(side, _)| side.clone()).collect()))
    }

    async fn last_number(&self, pipeline: &PipelineName) -> Result<u64> {
        Ok(self.read(|state| state.last_number(pipeline)))
    }

    async fn refined_by(
        &self,
        pipeline: &PipelineName,
        revision: RevisionId,
        limit: u32,
    ) -> Result<Vec<LandedSegment>> {
        Ok(self.read(|state| state.refined_by(pipeline, revision, limit as usize)))
    }

    async fn tables_of(&self, pipeline: &PipelineName, segments: &[SegmentId]) -> Result<Vec<TableName>> {
        Ok(self.read(|state| state.tables_of(pipeline, segments)))
    }

    async fn open_group(&self, group: &LoadGroup) -> Result<()> {
        crate::check::group(self.id, group)?;
        self.write(|state| state.open_group(group))
    }

    async fn close_load(
        &self,
        pipeline: &PipelineName,
        number: u64,
        table: &TableName,
        receipt: &LoadReceipt,
        at: Timestamp,
    ) -> Result<()> {
        self.write(|state| state.close_load(pipeline, number, table, receipt, at))
    }

    async fn withdraw_group(&self, pipeline: &PipelineName, number: u64, failures: &[SegmentFailure]) -> Result<()> {
        self.write(|state| state.withdraw_group(pipeline, number, failures))
    }

    async fn open_groups(&self, pipeline: &PipelineName) -> Result<Vec<LoadGroup>> {
        Ok(self.read(|state| state.open_groups(pipeline)))
    }

    async fn schema(&self, pipeline: &PipelineName) -> Result<Option<StreamSchema>> {
        Ok(self.read(|state| state.schema(pipeline)))
    }

    async fn evolve_schema(
        &self,
        pipeline: &PipelineName,
        from: Option<SchemaVersion>,
        schema: &SchemaRef,
        at: Timestamp,
    ) -> Result<Option<StreamSchema>> {
        self.write(|state| state.evolve_schema(pipeline, from, schema, at))
    }

    async fn hold_changes(&self, changes: &[HeldChange]) -> Result<()> {
        self.write(|state| {
            state.hold_changes(changes);
            Ok(())
        })
    }

    async fn held_changes(&self) -> Result<Vec<HeldChange>> {
        Ok(self.read(|state| state.held.values().cloned().collect()))
    }

    async fn approve_change(&self, table: &TableName, column: &str) -> Result<bool> {
        self.write(|state| Ok(state.approve_change(table, column)))
    }

    async fn record_module(&self, module: &ModuleRecord) -> Result<()> {
        self.write(|state| state.record_module(module))
    }

    async fn record_asset(&self, asset: &AssetRecord) -> Result<()> {
        self.write(|state| state.record_asset(asset))
    }

    async fn seen_in_folder(&self, path: &str, digest: Digest, at: Timestamp) -> Result<bool> {
        self.write(|state| Ok(state.seen_in_folder(path, digest, at)))
    }

    async fn active_module(&self, name: &ModuleName) -> Result<Option<Digest>> {
        Ok(self.read(|state| state.active_modules.get(name).copied()))
    }

    async fn activate_module(&self, name: &ModuleName, digest: Digest, _at: Timestamp) -> Result<()> {
        self.write(|state| {
            state.active_modules.insert(name.clone(), digest);
            Ok(())
        })
    }

    async fn record_revision(&self, revision: &Revision, at: Timestamp) -> Result<RevisionRecord> {
        self.write(|state| Ok(state.record_revision(revision, at)))
    }

    async fn revision(&self, pipeline: &PipelineName, id: RevisionId) -> Result<Option<RevisionRecord>> {
        Ok(self.read(|state| state.revision(pipeline, id).cloned()))
    }

    async fn deploy(
        &self,
        pipeline: &PipelineName,
        revision: RevisionId,
        deployed: DeploymentState,
        reason: &str,
        at: Timestamp,
    ) -> Result<()> {
        self.write(|state| state.deploy(pipeline, revision, deployed, reason, at))
    }

    async fn active(&self, pipeline: &PipelineName) -> Result<Option<Deployment>> {
        Ok(self.read(|state| state.active(pipeline)))
    }

    async fn roll_back(
        &self,
        pipeline: &PipelineName,
        to: RevisionId,
        meant: Option<RevisionId>,
        reason: &str,
        at: Timestamp,
    ) -> Result<()> {
        self.write(|state| state.roll_back(pipeline, to, meant, reason, at))
    }

    async fn shadow(
        &self,
        pipeline: &PipelineName,
        revision: RevisionId,
        plan: &serde_json::Value,
        reason: &str,
        at: Timestamp,
    ) -> Result<()> {
        self.write(|state| state.shadow(pipeline, revision, plan, reason, at))
    }

    async fn report_shadow(
        &self,
        pipeline: &PipelineName,
        revision: RevisionId,
        report: &serde_json::Value,
    ) -> Result<bool> {
        self.write(|state| Ok(state.report_shadow(pipeline, revision, report)))
    }

    async fn shadows(&self) -> Result<Vec<Shadow>> {
        Ok(self.read(State::shadows))
    }

    async fn is_cancelled(&self, pipeline: &PipelineName, revision: RevisionId) -> Result<bool> {
        Ok(self.read(|state| state.is_cancelled(pipeline, revision)))
    }

    async fn pause(&self, pipeline: &PipelineName, reason: &str, at: Timestamp) -> Result<()> {
        self.write(|state| {
            state.pause(pipeline, reason, at);
            Ok(())
        })
    }

    async fn resume(&self, pipeline: &PipelineName) -> Result<bool> {
        self.write(|state| Ok(state.paused.remove(pipeline).is_some()))
    }

    async fn paused(&self, pipeline: &PipelineName) -> Result<Option<Pause>> {
        Ok(self.read(|state| state.paused.get(pipeline).cloned()))
    }

    async fn ask(&self, what: &str, arguments: &serde_json::Value, at: Timestamp) -> Result<u64> {
        self.write(|state| Ok(state.ask(what, arguments, at)))
    }

    async fn asked(&self) -> Result<Vec<(u64, String, serde_json::Value)>> {
        Ok(self.read(State::asked))
    }

    async fn answer(&self, request: u64, answer: &serde_json::Value, at: Timestamp) -> Result<()> {
        self.write(|state| state.answer(request, answer, at))
    }

    async fn answered(&self, request: u64) -> Result<Option<serde_json::Value>> {
        Ok(self.read(|state| state.answered(request)))
    }

    fn table_names(&self) -> Vec<&'static str> {
        crate::tables::names()
    }

    async fn read_table(&self, name: &str) -> Result<RecordBatch> {
        let table = crate::tables::table(name)?;
        let rows = self.read(|state| state.rows(table.name))?;
        Ok(table.batch(&rows)?)
    }
}
