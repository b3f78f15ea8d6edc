//! The ledger in one SQLite file.
//!
//! Each writing call is one `BEGIN IMMEDIATE` transaction on the one writing connection; with the write-ahead log and
//! `synchronous = FULL` it is on disk when the commit returns. Reading calls take a connection of their own, so a query
//! of a person never waits for a landing, nor the other way round.

mod again;
mod catalog;
mod deployments;
mod fault;
mod groups;
mod intake;
mod landed;
mod open;
mod rebuilt;
mod refine;
mod rows;
#[cfg(test)]
mod tests;
mod withdraw;

use std::fs::File;
use std::future::Future;
use std::path::{Path, PathBuf};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use async_trait::async_trait;
use forebay_model::Result;
use forebay_model::ids::{Digest, ModuleName, PipelineName, SegmentId, StreamName, TableName};
use forebay_model::load::{Again, LoadGroup, LoadReceipt};
use forebay_model::ports::{
    Clock, Deployment, DeploymentState, HealRequest, HeldChange, HostHolder, HostLease, JournalEntry, LandOutcome,
    Landing, Ledger, ModuleRecord, ObjectState, Pause, Random, Rebuilt, ReplayRequest, RevisionRecord, SegmentFailure,
    Shadow, WorkItem,
};
use forebay_model::position::OrderedPosition;
use forebay_model::revision::{Revision, RevisionId};
use forebay_model::schema::{SchemaVersion, StreamSchema};
use forebay_model::segment::{LandedSegment, Partition};
use forebay_model::time::Timestamp;
use sqlx::sqlite::Sqlite;
use sqlx::{AssertSqlSafe, SqlitePool, Transaction};
use uuid::Uuid;

use self::fault::{Fault, Step};
use self::rows::Cells as _;
use crate::tables::{self, Cell, Kind};

/// How to open a ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// To read and write; made where there is none.
    Create,
    /// To read and write; an error where there is none.
    Existing,
    /// To read, beside a process that writes.
    ReadOnly,
}

/// The ledger in one SQLite file.
#[derive(Debug)]
pub struct SqliteLedger {
    path: PathBuf,
    id: Uuid,
    writer: Option<SqlitePool>,
    readers: SqlitePool,
}

#[derive(Debug)]
struct FileLease {
    /// Locked until it is closed.
    _file: File,
}

impl HostLease for FileLease {}

impl SqliteLedger {
    /// Opens the ledger at `path`; `clock` and `random` are asked when it is made. An older schema is migrated, after a
    /// copy was written to `<path>.v<version>.backup`.
    ///
    /// # Errors
    /// Class operator, naming the file and what to do: it is missing, damaged, of a newer schema version, or of an older
    /// one while it must not be migrated (opened to be read, or held by a running host); its folder cannot be written.
    pub async fn open(path: impl AsRef<Path>, mode: OpenMode, clock: &dyn Clock, random: &dyn Random) -> Result<Self> {
        Self::open_with(path.as_ref(), mode, clock, random, &open::MIGRATIONS).await
    }

    async fn open_with(
        path: &Path,
        mode: OpenMode,
        clock: &dyn Clock,
        random: &dyn Random,
        migrations: &sqlx::migrate::Migrator,
    ) -> Result<Self> {
        let open::Opened { id, writer, readers } = open::open(path, mode, clock, random, migrations).await?;
        Ok(Self { path: path.to_owned(), id, writer, readers })
    }

    /// Makes the ledger at `path` of what was rebuilt, under the id that the lost one had. It appears whole or not at all. With
    /// `replace`, files that are there are moved aside first, under names with the time; returned are those names. `failpoint` is
    /// called at named points, for faults.
    ///
    /// # Errors
    /// Class operator, naming the file: it is there and is not to be replaced; its folder cannot be written.
    pub async fn rebuild(
        path: impl AsRef<Path>,
        id: Uuid,
        content: &Rebuilt,
        replace: bool,
        (clock, random): (&dyn Clock, &dyn Random),
        failpoint: fn(&str),
    ) -> Result<Vec<PathBuf>> {
        let path = path.as_ref();
        if !replace {
            open::must_be_free(path)?;
        }
        let temporary = open::begin_rebuilt(path, id, clock).await?;
        let filled = async {
            let ledger = Self::open(&temporary, OpenMode::Existing, clock, random).await?;
            let filled = ledger.import(content).await;
            ledger.close().await;
            filled
        };
        if let Err(error) = filled.await {
            open::give_up(&temporary);
            return Err(error);
        }
        failpoint("recover_filled");
        let aside = if replace { open::move_aside(path, clock)? } else { Vec::new() };
        failpoint("recover_moved_aside");
        open::finish_rebuilt(&temporary, path)?;
        tracing::info!(path = %path.display(), ledger = %id, "ledger rebuilt");
        Ok(aside)
    }

    /// Nothing of a ledger is at `path`.
    ///
    /// # Errors
    /// Class operator, naming what is there.
    pub fn must_not_be_there(path: impl AsRef<Path>) -> Result<()> {
        Ok(open::must_be_free(path.as_ref())?)
    }

    /// Whether there is a ledger at `path`, or what is left of one.
    #[must_use]
    pub fn is_there(path: impl AsRef<Path>) -> bool {
        open::files_at(path.as_ref()).iter().any(|file| file.exists())
    }

    /// The host's lease of the ledger at `path`, which need not be there; `None` where a live process has it.
    ///
    /// # Errors
    /// Class operator, where the lock file cannot be made.
    pub fn lease(path: impl AsRef<Path>) -> Result<Option<Box<dyn HostLease>>> {
        Ok(open::lock(path.as_ref())?.map(|file| Box::new(FileLease { _file: file }) as Box<dyn HostLease>))
    }

    /// Who has that lease.
    ///
    /// # Errors
    /// Class operator, where the lock file cannot be read.
    pub fn holder(path: impl AsRef<Path>) -> Result<Option<HostHolder>> {
        Ok(open::holder(path.as_ref())?)
    }

    /// Closes its connections and folds the write-ahead log into the file. Dropping it loses nothing either.
    pub async fn close(&self) {
        self.readers.close().await;
        if let Some(writer) = &self.writer {
            writer.close().await;
        }
    }

    async fn begin(&self) -> Step<Transaction<'static, Sqlite>> {
        let writer = self.writer.as_ref().ok_or_else(|| Fault::read_only(&self.path))?;
        Ok(writer.begin_with("BEGIN IMMEDIATE").await?)
    }

    /// One state of the ledger for all statements of a read.
    async fn look(&self) -> Step<Transaction<'static, Sqlite>> {
        Ok(self.readers.begin().await?)
    }

    async fn at<T>(&self, action: &'static str, steps: impl Future<Output = Step<T>>) -> Result<T> {
        Ok(steps.await.map_err(|fault| fault.at(&self.path, action))?)
    }

    async fn rows(&self, table: &tables::Table) -> Step<Vec<Vec<Cell>>> {
        let rows = sqlx::query(AssertSqlSafe(table.select())).fetch_all(&self.readers).await?;
        let mut cells = Vec::with_capacity(rows.len());
        for row in rows {
            let mut of_row = Vec::with_capacity(table.columns.len());
            for column in table.columns {
                of_row.push(match column.kind {
                    Kind::Text => row.value::<Option<String>>(column.name)?.into(),
                    Kind::Int | Kind::Time | Kind::Bool => row.value::<Option<i64>>(column.name)?.into(),
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
                let mut transaction = $self.begin().await?;
                let $db = &mut *transaction;
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
                let mut transaction = $self.look().await?;
                let $db = &mut *transaction;
                $steps.await
            })
            .await
    };
}

#[async_trait]
impl Ledger for SqliteLedger {
    fn id(&self) -> Uuid {
        self.id
    }

    async fn lease_host(&self) -> Result<Option<Box<dyn HostLease>>> {
        if self.writer.is_none() {
            return Err(Fault::read_only(&self.path).at(&self.path, "taking the host lease").into());
        }
        Self::lease(&self.path)
    }

    async fn host(&self) -> Result<Option<HostHolder>> {
        Self::holder(&self.path)
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
