//! A ledger in a database: the calls of the port, each one transaction of steps whose statements both databases take.
//!
//! A [`Store`] opens transactions and says what a database's errors mean; everything else is here, once.

mod again;
mod catalog;
mod db;
mod deployments;
mod dialect;
mod failed;
mod fault;
mod groups;
mod history;
mod intake;
mod landed;
mod rebuilt;
mod refine;
mod rows;
mod side;
mod withdraw;

use std::future::Future;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use async_trait::async_trait;
use forebay_model::Result;
use forebay_model::ids::{Digest, ModuleName, PipelineName, SegmentId, StreamName, TableName};
use forebay_model::load::{Again, LoadGroup, LoadReceipt};
use forebay_model::ports::{
    AssetRecord, Deployment, DeploymentState, HealRequest, HeldChange, HostHolder, HostLease, HostState, JournalEntry,
    LandOutcome, Landing, Ledger, ModuleRecord, ObjectState, Pause, Rebuilt, ReplayRequest, RevisionRecord,
    SegmentFailure, Shadow, Side, WorkItem,
};
use forebay_model::position::OrderedPosition;
use forebay_model::revision::{Revision, RevisionId};
use forebay_model::schema::{SchemaVersion, StreamSchema};
use forebay_model::segment::{LandedSegment, Partition};
use forebay_model::time::Timestamp;
use sqlx::{Postgres, Sqlite, Transaction};
use uuid::Uuid;

pub(crate) use self::db::{Db, Tables, query};
#[cfg(test)]
pub(crate) use self::failed::CANDIDATES as FAILED_CANDIDATES;
pub(crate) use self::fault::{Fault, Step};
#[cfg(test)]
pub(crate) use self::intake::land as landing_steps;
pub(crate) use self::rebuilt::import as import_rebuilt;
#[cfg(test)]
pub(crate) use self::refine::CANDIDATES;
pub(crate) use self::rows::Cells;
use crate::error::{LedgerError, Place};
use crate::tables::{self, Cell, Kind};

/// A transaction; dropped, it is as if it had never been.
#[derive(Debug)]
pub enum Unit {
    /// Of a file.
    Sqlite(Transaction<'static, Sqlite>),
    /// Of a server.
    Postgres(Transaction<'static, Postgres>, Tables),
}

impl Unit {
    /// Its connection.
    pub(crate) fn db(&mut self) -> Db<'_> {
        match self {
            Self::Sqlite(transaction) => Db::Sqlite(&mut *transaction),
            Self::Postgres(transaction, tables) => Db::Postgres(&mut *transaction, Tables::clone(tables)),
        }
    }

    /// Makes it last.
    pub(crate) async fn commit(self) -> Step<()> {
        match self {
            Self::Sqlite(transaction) => transaction.commit().await?,
            Self::Postgres(transaction, _) => transaction.commit().await?,
        }
        Ok(())
    }
}

/// Where a ledger is kept.
pub trait Store: Send + Sync + std::fmt::Debug {
    /// A transaction that writes. No other writes beside it, whoever began it, and it sees all that was written before.
    fn begin(&self) -> impl Future<Output = Step<Unit>> + Send;
    /// A transaction that reads: all of its statements see one state of the ledger.
    fn look(&self) -> impl Future<Output = Step<Unit>> + Send;
    /// Ends its connections; see [`Ledger::close`].
    fn close(&self) -> impl Future<Output = ()> + Send;
    /// Where it is, for errors.
    fn place(&self) -> Place;
    /// What an answer of the database means.
    fn explain(&self, error: sqlx::Error, action: &'static str) -> LedgerError;
    /// The host's lease; see [`Ledger::lease_host`].
    fn lease(&self) -> impl Future<Output = Result<Option<Box<dyn HostLease>>>> + Send;
    /// The same among others; see [`Ledger::join_hosts`].
    fn join(&self) -> impl Future<Output = Result<Option<Box<dyn HostLease>>>> + Send {
        self.lease()
    }
    /// Who has it.
    fn holder(&self) -> impl Future<Output = Result<Option<HostHolder>>> + Send;
    /// All of them; see [`Ledger::hosts`].
    fn hosts(&self) -> impl Future<Output = Result<Vec<HostState>>> + Send {
        async { Ok(self.holder().await?.map(HostState::alone).into_iter().collect()) }
    }
}

/// A ledger in a database.
#[derive(Debug)]
pub struct SqlLedger<S> {
    pub(crate) id: Uuid,
    pub(crate) store: S,
}

impl<S: Store> SqlLedger<S> {
    async fn at<T>(&self, action: &'static str, steps: impl Future<Output = Step<T>>) -> Result<T> {
        let told = |fault: Fault| fault.told(&self.store.place(), |error| self.store.explain(error, action));
        Ok(steps.await.map_err(told)?)
    }

    async fn rows(&self, table: &tables::Table) -> Step<Vec<Vec<Cell>>> {
        let rows = query(table.select()).fetch_all(&mut self.store.look().await?.db()).await?;
        let mut cells = Vec::with_capacity(rows.len());
        for row in rows {
            let mut of_row = Vec::with_capacity(table.columns.len());
            for column in table.columns {
                of_row.push(match column.kind {
                    Kind::Text => row.value::<Option<String>>(column.name)?.into(),
                    Kind::Int | Kind::Time => row.value::<Option<i64>>(column.name)?.into(),
                    Kind::Bool => row.value::<Option<bool>>(column.name)?.into(),
                });
            }
            cells.push(of_row);
        }
        Ok(cells)
    }
}

/// A call that writes: one transaction around its steps.
macro_rules! write {
    ($self:ident, $action:literal, |$db:ident| $steps:expr) => {
        $self
            .at($action, async {
                let mut transaction = $self.store.begin().await?;
                let $db = &mut transaction.db();
                let answer = $steps.await?;
                transaction.commit().await?;
                Ok(answer)
            })
            .await
    };
}

/// A call that reads one state.
macro_rules! read {
    ($self:ident, $action:literal, |$db:ident| $steps:expr) => {
        $self
            .at($action, async {
                let mut transaction = $self.store.look().await?;
                let $db = &mut transaction.db();
                $steps.await
            })
            .await
    };
}

#[async_trait]
impl<S: Store> Ledger for SqlLedger<S> {
    fn id(&self) -> Uuid {
        self.id
    }

    async fn lease_host(&self) -> Result<Option<Box<dyn HostLease>>> {
        self.store.lease().await
    }

    async fn join_hosts(&self) -> Result<Option<Box<dyn HostLease>>> {
        self.store.join().await
    }

    async fn host(&self) -> Result<Option<HostHolder>> {
        self.store.holder().await
    }

    async fn hosts(&self) -> Result<Vec<HostState>> {
        self.store.hosts().await
    }

    async fn import(&self, content: &Rebuilt) -> Result<()> {
        write!(self, "filling it with what was rebuilt", |db| rebuilt::import(db, content))
    }

    async fn land(&self, landing: &Landing) -> Result<LandOutcome> {
        crate::check::landing(landing)?;
        let outcome = write!(self, "listing a landing", |db| intake::land(db, landing))?;
        tracing::debug!(
            stream = %landing.stream, attempt = %landing.attempt,
            listed = outcome.listed.len(), known = outcome.known.len(), "landing listed"
        );
        Ok(outcome)
    }

    async fn next_position(&self, stream: &StreamName, partition: &Partition) -> Result<Option<OrderedPosition>> {
        read!(self, "reading a partition", |db| landed::next_position(db, stream, partition))
    }

    async fn latest_objects(
        &self,
        stream: &StreamName,
        partition: &Partition,
        keys: &[String],
    ) -> Result<Vec<Option<ObjectState>>> {
        read!(self, "reading objects", |db| landed::latest_objects(db, stream, partition, keys))
    }

    async fn unjournalled(&self, stream: &StreamName) -> Result<Vec<JournalEntry>> {
        read!(self, "reading landings", |db| landed::unjournalled(db, self.id, stream))
    }

    async fn mark_journalled(&self, attempt: Uuid) -> Result<()> {
        write!(self, "marking a landing", |db| landed::mark_journalled(db, attempt))
    }

    async fn segment(&self, id: &SegmentId) -> Result<Option<LandedSegment>> {
        read!(self, "reading a segment", |db| landed::segment(db, id))
    }

    async fn objects_listed(&self, names: &[String]) -> Result<Vec<bool>> {
        read!(self, "reading objects", |db| landed::objects_listed(db, names))
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
        read!(self, "looking for work", |db| refine::work(db, pipeline, stream, now, skip, limit))
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
        read!(self, "looking for what failed", |db| failed::work(db, pipeline, stream, now, skip, limit))
    }

    async fn begin(&self, pipeline: &PipelineName, stream: &StreamName, at: Timestamp) -> Result<()> {
        write!(self, "noting that a pipeline begins", |db| history::begin(db, pipeline, stream, at))
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
        read!(self, "looking for history", |db| history::work(db, pipeline, stream, now, skip, limit))
    }

    async fn fail(&self, pipeline: &PipelineName, failure: &SegmentFailure) -> Result<()> {
        write!(self, "writing down a failure", |db| refine::fail(db, pipeline, failure))
    }

    async fn retry_failed(&self, pipeline: &PipelineName) -> Result<u64> {
        write!(self, "letting failed segments be tried", |db| refine::retry_failed(db, pipeline))
    }

    async fn ask_heal(&self, pipeline: &PipelineName, wanted: &HealRequest, at: Timestamp) -> Result<u64> {
        write!(self, "asking for heals", |db| again::ask_heal(db, pipeline, wanted, at))
    }

    async fn ask_replay(&self, pipeline: &PipelineName, wanted: &ReplayRequest, at: Timestamp) -> Result<u64> {
        write!(self, "asking for a replay", |db| again::ask_replay(db, pipeline, wanted, at))
    }

    async fn forget_again(&self, pipeline: &PipelineName, what: Again) -> Result<u64> {
        write!(self, "taking back what is refined again", |db| again::forget(db, pipeline, what))
    }

    async fn again(
        &self,
        pipeline: &PipelineName,
        stream: &StreamName,
        now: Timestamp,
        skip: &[SegmentId],
        limit: u32,
    ) -> Result<Vec<WorkItem>> {
        read!(self, "looking for what is refined again", |db| again::work(db, pipeline, stream, now, skip, limit))
    }

    async fn ask_side(&self, side: &Side, own: &Revision, segments: &[SegmentId]) -> Result<u64> {
        write!(self, "asking for a replay into tables beside", |db| side::ask(db, side, own, segments))
    }

    async fn forget_waiting(&self, side: &PipelineName) -> Result<u64> {
        write!(self, "taking back what a replay has not begun with", |db| side::forget_waiting(db, side))
    }

    async fn drop_side(&self, side: &PipelineName, only: Option<&[SegmentId]>) -> Result<bool> {
        write!(self, "dropping tables beside", |db| side::drop(db, side, only))
    }

    async fn forget_side(&self, side: &PipelineName) -> Result<()> {
        write!(self, "forgetting tables beside", |db| side::forget(db, side))
    }

    async fn close(&self) {
        self.store.close().await;
    }

    async fn sides(&self) -> Result<Vec<Side>> {
        read!(self, "reading replays into tables beside", |db| side::all(db))
    }

    async fn last_number(&self, pipeline: &PipelineName) -> Result<u64> {
        read!(self, "reading groups", |db| groups::last_number(db, pipeline))
    }

    async fn refined_by(
        &self,
        pipeline: &PipelineName,
        revision: RevisionId,
        limit: u32,
    ) -> Result<Vec<LandedSegment>> {
        read!(self, "reading refinements", |db| refine::refined_by(db, pipeline, revision, limit))
    }

    async fn tables_of(&self, pipeline: &PipelineName, segments: &[SegmentId]) -> Result<Vec<TableName>> {
        read!(self, "reading loads", |db| refine::tables_of(db, pipeline, segments))
    }

    async fn open_group(&self, group: &LoadGroup) -> Result<()> {
        crate::check::group(self.id, group)?;
        write!(self, "opening a group", |db| groups::open(db, group))
    }

    async fn close_load(
        &self,
        pipeline: &PipelineName,
        number: u64,
        table: &TableName,
        receipt: &LoadReceipt,
        at: Timestamp,
    ) -> Result<()> {
        write!(self, "closing a load", |db| groups::close_load(db, pipeline, number, table, receipt, at))
    }

    async fn withdraw_group(&self, pipeline: &PipelineName, number: u64, failures: &[SegmentFailure]) -> Result<()> {
        write!(self, "withdrawing a group", |db| withdraw::group(db, pipeline, number, failures))
    }

    async fn open_groups(&self, pipeline: &PipelineName) -> Result<Vec<LoadGroup>> {
        read!(self, "reading groups", |db| groups::open_groups(db, pipeline))
    }

    async fn schema(&self, pipeline: &PipelineName) -> Result<Option<StreamSchema>> {
        read!(self, "reading a schema", |db| catalog::schema(db, pipeline))
    }

    async fn evolve_schema(
        &self,
        pipeline: &PipelineName,
        from: Option<SchemaVersion>,
        schema: &SchemaRef,
        at: Timestamp,
    ) -> Result<Option<StreamSchema>> {
        write!(self, "writing a schema", |db| catalog::evolve_schema(db, pipeline, from, schema, at))
    }

    async fn hold_changes(&self, changes: &[HeldChange]) -> Result<()> {
        write!(self, "holding schema changes", |db| catalog::hold_changes(db, changes))
    }

    async fn held_changes(&self) -> Result<Vec<HeldChange>> {
        read!(self, "reading held changes", |db| catalog::held_changes(db))
    }

    async fn approve_change(&self, table: &TableName, column: &str) -> Result<bool> {
        write!(self, "approving a change", |db| catalog::approve_change(db, table, column))
    }

    async fn record_module(&self, module: &ModuleRecord) -> Result<()> {
        write!(self, "recording a module", |db| catalog::record_module(db, module))
    }

    async fn record_asset(&self, asset: &AssetRecord) -> Result<()> {
        write!(self, "recording an asset", |db| catalog::record_asset(db, asset))
    }

    async fn seen_in_folder(&self, path: &str, digest: Digest, at: Timestamp) -> Result<bool> {
        write!(self, "noting a module file", |db| catalog::seen_in_folder(db, path, digest, at))
    }

    async fn active_module(&self, name: &ModuleName) -> Result<Option<Digest>> {
        read!(self, "reading modules", |db| catalog::active_module(db, name))
    }

    async fn activate_module(&self, name: &ModuleName, digest: Digest, at: Timestamp) -> Result<()> {
        write!(self, "activating a module", |db| catalog::activate_module(db, name, digest, at))
    }

    async fn record_revision(&self, revision: &Revision, at: Timestamp) -> Result<RevisionRecord> {
        write!(self, "recording a revision", |db| catalog::record_revision(db, revision, at))
    }

    async fn revision(&self, pipeline: &PipelineName, id: RevisionId) -> Result<Option<RevisionRecord>> {
        read!(self, "reading a revision", |db| catalog::revision(db, pipeline, id))
    }

    async fn deploy(
        &self,
        pipeline: &PipelineName,
        revision: RevisionId,
        state: DeploymentState,
        reason: &str,
        at: Timestamp,
    ) -> Result<()> {
        write!(self, "writing a deployment", |db| deployments::deploy(db, pipeline, revision, state, reason, at))
    }

    async fn active(&self, pipeline: &PipelineName) -> Result<Option<Deployment>> {
        read!(self, "reading deployments", |db| deployments::active(db, pipeline))
    }

    async fn roll_back(
        &self,
        pipeline: &PipelineName,
        to: RevisionId,
        meant: Option<RevisionId>,
        reason: &str,
        at: Timestamp,
    ) -> Result<()> {
        write!(self, "rolling back", |db| deployments::roll_back(db, pipeline, to, meant, reason, at))
    }

    async fn shadow(
        &self,
        pipeline: &PipelineName,
        revision: RevisionId,
        plan: &serde_json::Value,
        reason: &str,
        at: Timestamp,
    ) -> Result<()> {
        write!(self, "writing a shadow", |db| deployments::shadow(db, pipeline, revision, plan, reason, at))
    }

    async fn report_shadow(
        &self,
        pipeline: &PipelineName,
        revision: RevisionId,
        report: &serde_json::Value,
    ) -> Result<bool> {
        write!(self, "writing what came of a shadow", |db| deployments::report_shadow(db, pipeline, revision, report))
    }

    async fn shadows(&self) -> Result<Vec<Shadow>> {
        read!(self, "reading shadows", |db| deployments::shadows(db))
    }

    async fn is_cancelled(&self, pipeline: &PipelineName, revision: RevisionId) -> Result<bool> {
        read!(self, "reading deployments", |db| deployments::is_cancelled(db, pipeline, revision))
    }

    async fn pause(&self, pipeline: &PipelineName, reason: &str, at: Timestamp) -> Result<()> {
        write!(self, "pausing a pipeline", |db| deployments::pause(db, pipeline, reason, at))
    }

    async fn resume(&self, pipeline: &PipelineName) -> Result<bool> {
        write!(self, "resuming a pipeline", |db| deployments::resume(db, pipeline))
    }

    async fn paused(&self, pipeline: &PipelineName) -> Result<Option<Pause>> {
        read!(self, "reading pauses", |db| deployments::paused(db, pipeline))
    }

    async fn ask(&self, what: &str, arguments: &serde_json::Value, at: Timestamp) -> Result<u64> {
        write!(self, "writing a request", |db| catalog::ask(db, what, arguments, at))
    }

    async fn asked(&self) -> Result<Vec<(u64, String, serde_json::Value)>> {
        read!(self, "reading requests", |db| catalog::asked(db))
    }

    async fn answer(&self, request: u64, answer: &serde_json::Value, at: Timestamp) -> Result<()> {
        write!(self, "answering a request", |db| catalog::answer(db, request, answer, at))
    }

    async fn answered(&self, request: u64) -> Result<Option<serde_json::Value>> {
        read!(self, "reading an answer", |db| catalog::answered(db, request))
    }

    fn table_names(&self) -> Vec<&'static str> {
        tables::names()
    }

    async fn read_table(&self, name: &str) -> Result<RecordBatch> {
        let table = tables::table(name)?;
        let rows = self.at("reading a table", self.rows(table)).await?;
        Ok(table.batch(&rows)?)
    }
}
