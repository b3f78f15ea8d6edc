use arrow_array::RecordBatch;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::fleet::{HostHolder, HostLease, HostState};
use super::side::Side;
use crate::error::{ErrorClass, Result};
use crate::flow::OnChange;
use crate::ids::{Digest, Generation, ModuleName, PipelineName, SegmentId, StreamName, TableName};
use crate::load::{Again, LoadGroup, LoadReceipt, Terms};
use crate::position::{OrderedPosition, Position};
use crate::revision::{Revision, RevisionId};
use crate::schema::{SchemaVersion, StreamSchema};
use crate::segment::{LandedSegment, Partition, SegmentContent};
use crate::time::Timestamp;

/// A landing: objects that are durable in the zone, and the segments in them, to be listed in one transaction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Landing {
    /// The stream.
    pub stream: StreamName,
    /// The attempt; objects' names hold it.
    pub attempt: Uuid,
    /// When; it becomes the segments' landing time.
    pub landed_at: Timestamp,
    /// The objects.
    pub objects: Vec<NewObject>,
    /// Ordered partitions that move on.
    pub advances: Vec<Advance>,
}

/// An object of a landing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NewObject {
    /// Its name in the zone.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256.
    pub digest: Digest,
    /// For an object of a source: what it was there. `None` for an envelope.
    pub source: Option<ObjectState>,
    /// What it means that the key is already known; only with `source`.
    pub on_change: OnChange,
    /// Its segments.
    pub segments: Vec<NewSegment>,
}

/// A segment of a landing; its id derives from stream, partition and first position.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NewSegment {
    /// The partition.
    pub partition: Partition,
    /// Where it begins.
    pub first: Position,
    /// One past its last record, where the partition has an order.
    pub next: Option<Position>,
    /// Which part of the object.
    pub content: SegmentContent,
    /// How many bytes.
    pub bytes: u64,
    /// How many records, where it is known.
    pub records: Option<u64>,
    /// The format that decodes it.
    pub format: String,
}

/// A compare-and-swap of a partition's position.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advance {
    /// The partition.
    pub partition: Partition,
    /// Where the ledger must stand; `None` for a partition that is new.
    pub from: Option<OrderedPosition>,
    /// Where it stands then.
    pub to: OrderedPosition,
}

/// A version of a source's object that has landed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectState {
    /// The folder or bucket.
    pub partition: Partition,
    /// The key.
    pub key: String,
    /// The version.
    pub version: String,
    /// The bytes that this landing took.
    pub range: std::ops::Range<u64>,
    /// The source's own note: see [`crate::flow::RawObject::identity`].
    pub identity: String,
}

/// What the ledger made of a landing.
#[derive(Debug, Clone, PartialEq)]
pub struct LandOutcome {
    /// Segments that are listed now.
    pub listed: Vec<LandedSegment>,
    /// Segments that had been listed before, by another attempt: this attempt's objects for them are orphans.
    pub known: Vec<SegmentId>,
}

/// A segment that a pipeline has to refine.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkItem {
    /// The segment.
    pub segment: LandedSegment,
    /// The generation to make: one more than the last that loaded.
    pub generation: Generation,
    /// How often it has failed.
    pub attempts: u32,
    /// Why it is to be refined though it is loaded; `None` where it is not.
    pub again: Option<Again>,
    /// Whether it had landed before the pipeline began; of one that failed it is not told.
    pub history: bool,
    /// Whether it failed before, or another segment did that it comes together with.
    pub failed: bool,
    /// How that was asked for.
    pub terms: Terms,
    /// How many of its rejected records a later revision may accept; `None` where that is not known.
    pub retryable: Option<u64>,
}

impl WorkItem {
    /// Whether it is no work of production: it is refined again, failed before, or had landed before the pipeline began. Production waits
    /// for none of it.
    #[must_use]
    pub fn is_aside(&self) -> bool {
        self.again.is_some() || self.failed || self.history
    }
}

/// Which segments' rejected records are to be refined again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HealRequest {
    /// Only where another revision than this tried them last.
    pub unless_tried_by: Option<RevisionId>,
    /// Only where one of these codes is among them; whichever, where this is empty.
    pub codes: Vec<String>,
    /// Only of segments that landed since then.
    pub since: Option<Timestamp>,
    /// For people: `revision 7`, `forebay rejects retry`.
    pub reason: String,
}

/// Which segments are to be refined again as a whole, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReplayRequest {
    /// The segments.
    pub segments: Vec<SegmentId>,
    /// How.
    pub terms: Terms,
    /// For people: `forebay replay`.
    pub reason: String,
}

/// Why a segment failed; it waits, visible.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentFailure {
    /// The segment.
    pub segment: SegmentId,
    /// The generation that was tried.
    pub generation: Generation,
    /// The revision that was active.
    pub revision: RevisionId,
    /// The class.
    pub class: ErrorClass,
    /// What happened.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
    /// When it happened.
    pub at: Timestamp,
    /// When it is tried again by itself; `None` where it waits for a new revision or a person.
    pub retry_at: Option<Timestamp>,
}

/// A module that was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleRecord {
    /// Its content.
    pub digest: Digest,
    /// Its name.
    pub name: ModuleName,
    /// The author's version.
    pub version: String,
    /// Its size.
    pub bytes: u64,
    /// Where it came from: `folder:modules/fraud.wasm`.
    pub origin: String,
    /// When it was recorded.
    pub at: Timestamp,
}

/// An asset that a revision was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssetRecord {
    /// Its content.
    pub digest: Digest,
    /// The name that the module asks for it by.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// What brought it, and the file that it was: `config: rules/blocked.txt`.
    pub origin: String,
    /// When it was recorded.
    pub at: Timestamp,
}

/// A revision as the ledger numbers it.
#[derive(Debug, Clone, PartialEq)]
pub struct RevisionRecord {
    /// Counts from 1 for each pipeline, for people.
    pub number: u32,
    /// Its id.
    pub id: RevisionId,
    /// Its content.
    pub revision: Revision,
    /// When it was recorded.
    pub created_at: Timestamp,
}

/// What became of a revision that was submitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeploymentState {
    /// It runs beside the active one, and loads nothing.
    Shadow,
    /// It takes the next segments.
    Active,
    /// Another took its place.
    Retired,
    /// It did not pass its checks, and never ran.
    Refused,
    /// A person took it back: it is not deployed by itself any more, though the config means it.
    Cancelled,
}

/// A deployment.
#[derive(Debug, Clone, PartialEq)]
pub struct Deployment {
    /// The pipeline.
    pub pipeline: PipelineName,
    /// The revision.
    pub revision: RevisionRecord,
    /// Its state.
    pub state: DeploymentState,
    /// Since when.
    pub at: Timestamp,
    /// Why: `config`, `folder:modules/fraud.wasm`, or the reason it was refused.
    pub reason: String,
}

/// A revision that runs beside the active one.
#[derive(Debug, Clone, PartialEq)]
pub struct Shadow {
    /// The pipeline.
    pub pipeline: PipelineName,
    /// The revision.
    pub revision: RevisionRecord,
    /// Since when.
    pub since: Timestamp,
    /// What brought it.
    pub reason: String,
    /// What was asked for, in the host's own words.
    pub plan: serde_json::Value,
    /// What came of it so far, likewise; null before anything did.
    pub report: serde_json::Value,
}

/// A pipeline that is given no work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pause {
    /// Why, as a person said; empty where nobody said.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
}

/// A change of a table's schema that waits for approval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldChange {
    /// The table.
    pub table: TableName,
    /// The column, as it would be stored.
    pub column: String,
    /// The type, as Arrow writes it.
    pub data_type: String,
    /// Why: `hold`, or `too large to rewrite`.
    pub reason: String,
    /// When it was first met.
    pub first_seen: Timestamp,
    /// Whether a person approved it: the next load applies it.
    pub approved: bool,
}

/// The ledger: the record of every segment, load, revision, module and deployment. Only what it lists exists.
///
/// Contract:
/// - each call is one transaction, durable when it returns `Ok`; an error of class retry may hide a success, and every call
///   may be repeated with the same arguments without harm;
/// - `land` lists a segment once, whoever tries; a partition advances only from where it stands (class fenced otherwise);
///   what it listed is `unjournalled` until it is marked;
/// - a group is opened once: its segments must be ones that `work`, `failed`, `history` or `again` would give or that the same group
///   holds, its number above all that were opened before (class fenced otherwise);
/// - a segment is `loaded` when every load of its group is done; a failed one waits with its reason;
/// - a loaded segment that is to be refined again is so until a group of it is opened that was begun after that was asked for, and is
///   of the same kind; or it is superseded. Who asks again, not for the sake of
///   a revision, lets what failed be tried at once, and what is under way be done once more;
/// - segments named in `replaces` of a group are superseded when the group is opened: they are no work any more.
#[async_trait]
pub trait Ledger: Send + Sync + std::fmt::Debug {
    /// The ledger's id, made with it.
    fn id(&self) -> Uuid;

    /// The right to be the one host that runs this ledger's streams and pipelines; `None` where a live process runs any.
    async fn lease_host(&self) -> Result<Option<Box<dyn HostLease>>>;
    /// The right to be one of several hosts, where the ledger can have them, else as [`Ledger::lease_host`]; `None` where a live process
    /// has it alone.
    async fn join_hosts(&self) -> Result<Option<Box<dyn HostLease>>> {
        self.lease_host().await
    }
    /// The live process that answers who asks; `None` where there is none.
    async fn host(&self) -> Result<Option<HostHolder>>;
    /// The live processes, the first in time first.
    async fn hosts(&self) -> Result<Vec<HostState>> {
        Ok(self.host().await?.map(HostState::alone).into_iter().collect())
    }
    /// Fills a ledger that is empty with what was rebuilt, whole or not at all.
    ///
    /// Segments that were never refined are work afterwards; those that are to be refined [`Again`](super::Standing::Again)
    /// are work in a generation above 0, so that their rows are replaced, as soon as they are listed; tables that have rows
    /// of a segment are what `tables_of` answers. Refused with class fenced where the ledger holds anything.
    async fn import(&self, content: &super::Rebuilt) -> Result<()>;

    // Intake.

    /// Lists what landed.
    async fn land(&self, landing: &Landing) -> Result<LandOutcome>;
    /// The position after the last landed record.
    async fn next_position(&self, stream: &StreamName, partition: &Partition) -> Result<Option<OrderedPosition>>;
    /// The last landed version of each key, in the same order.
    async fn latest_objects(
        &self,
        stream: &StreamName,
        partition: &Partition,
        keys: &[String],
    ) -> Result<Vec<Option<ObjectState>>>;
    /// Landings that were listed and not yet marked as journalled, oldest first: a process died between the two, and the
    /// next one writes their journal entries before anything else.
    async fn unjournalled(&self, stream: &StreamName) -> Result<Vec<super::landing::JournalEntry>>;
    /// The attempt's journal entry is durable in the zone. Marking again does nothing.
    async fn mark_journalled(&self, attempt: Uuid) -> Result<()>;
    /// One segment.
    async fn segment(&self, id: &SegmentId) -> Result<Option<LandedSegment>>;
    /// Which of these objects of the zone are listed, in the same order: the others are orphans.
    async fn objects_listed(&self, names: &[String]) -> Result<Vec<bool>>;

    // Refine.

    /// Notes that a pipeline begins to read a stream, once: what landed before `at` is its history then, unless the pipeline has refined
    /// anything of the stream before. One that began before keeps what was noted.
    async fn begin(&self, pipeline: &PipelineName, stream: &StreamName, at: Timestamp) -> Result<()>;
    /// Segments that nothing was made of yet and that are not of the pipeline's history, none while the pipeline is paused; in the order of
    /// landing. Segments in `skip` are left out.
    ///
    /// Versions of a changed object do not overtake one another: a version is left out while a later one that replaces it is
    /// work (here, in `failed` or in `history`) or in `skip`, and one that replaces others while one of those is in `skip`; its segments
    /// come together (also beyond `limit`) or not at all: all of them in `failed` where one of them failed. An item's `replaces` is
    /// what this pipeline has yet to replace.
    async fn work(
        &self,
        pipeline: &PipelineName,
        stream: &StreamName,
        now: Timestamp,
        skip: &[SegmentId],
        limit: u32,
    ) -> Result<Vec<WorkItem>>;
    /// Segments that failed and are due: not loaded, and `now` is not before their retry time; of history too. The last landed first, but
    /// segments that come together in the order of landing, at the place of the last of them that failed. None while the pipeline is
    /// paused; `skip`, `limit` and versions of an object are as for [`Ledger::work`].
    async fn failed(
        &self,
        pipeline: &PipelineName,
        stream: &StreamName,
        now: Timestamp,
        skip: &[SegmentId],
        limit: u32,
    ) -> Result<Vec<WorkItem>>;
    /// As [`Ledger::work`], of the pipeline's history, likewise in the order of landing: a version in it is left out while a later one
    /// outside of it that replaces it is work, and the other way round. Nothing for a pipeline of which no [`Ledger::begin`] was noted:
    /// all is work.
    async fn history(
        &self,
        pipeline: &PipelineName,
        stream: &StreamName,
        now: Timestamp,
        skip: &[SegmentId],
        limit: u32,
    ) -> Result<Vec<WorkItem>>;
    /// Writes down a failure, and counts it. A segment that was refined again stays loaded: the failure is that of what was asked.
    async fn fail(&self, pipeline: &PipelineName, failure: &SegmentFailure) -> Result<()>;
    /// Lets failed segments be tried at once (a new revision is active), whether they failed first or when they were refined again;
    /// returns how many.
    async fn retry_failed(&self, pipeline: &PipelineName) -> Result<u64>;
    /// Asks that loaded segments with rejected records that a later revision may accept be refined [`Again::Heal`]; returns how many were
    /// not asked for yet. Where it is not known whether a segment has any (a rebuilt ledger), it is asked for. What a revision rejected
    /// that a replay asked for is left out, unless a person asks (without `unless_tried_by`).
    async fn ask_heal(&self, pipeline: &PipelineName, wanted: &HealRequest, at: Timestamp) -> Result<u64>;
    /// Asks that segments be refined [`Again::Replay`], those of them that are loaded, or are once their group is done; returns how
    /// many were not asked for yet. The last terms hold. A revision that is asked for must be recorded (class bug otherwise): only a
    /// group of it does what was asked.
    async fn ask_replay(&self, pipeline: &PipelineName, wanted: &ReplayRequest, at: Timestamp) -> Result<u64>;
    /// Takes back what is asked for and not in an open group; returns how many segments are refined again no more.
    async fn forget_again(&self, pipeline: &PipelineName, what: Again) -> Result<u64>;
    /// Loaded segments that are to be refined again, the newest first; none while the pipeline is paused. Those that failed are left out until they are due,
    /// and those in `skip`; and those whose object has a later version that replaces them.
    async fn again(
        &self,
        pipeline: &PipelineName,
        stream: &StreamName,
        now: Timestamp,
        skip: &[SegmentId],
        limit: u32,
    ) -> Result<Vec<WorkItem>>;
    /// Asks that segments be refined by a side. The first that asks makes it, whole: `own`, its revision, is recorded and active, and
    /// its schema is the one that the pipeline has; what was left under that name is forgotten. Who asks for more keeps its id. Segments
    /// that it has already stay as they are. [`Ledger::history`] gives them to it, also what failed and is due, in the order of landing;
    /// [`Ledger::work`] and [`Ledger::failed`] give a side nothing. Of the versions of an object that it has, a later one that replaces
    /// others takes their place, and until then they are left out; it waits while one of them is in `skip`.
    /// Returns how many it did not have. Class operator, where there is another side of that name: under another revision, or one that
    /// is dropped.
    async fn ask_side(&self, side: &Side, own: &Revision, segments: &[SegmentId]) -> Result<u64>;
    /// Takes back what a side has not begun with; returns how many segments it has no more. One whose group is opened all the same is the
    /// side's again.
    async fn forget_waiting(&self, side: &PipelineName) -> Result<u64>;
    /// A side is given no work any more; false where there is none of that name, or it has other segments than `only` these (and
    /// former versions of their objects).
    async fn drop_side(&self, side: &PipelineName, only: Option<&[SegmentId]>) -> Result<bool>;
    /// Removes all that is known under a side's name, whose tables are gone: its segments, loads, schema, revision; also where a ledger
    /// that was rebuilt knows of no such side. Class bug, where there is one that was not dropped first; once more does nothing.
    async fn forget_side(&self, side: &PipelineName) -> Result<()>;
    /// All sides, by name.
    async fn sides(&self) -> Result<Vec<Side>>;
    /// Ends its connections, so that what is beside a file (its log) is folded in, and whoever moves it meets nobody. Nothing is asked of
    /// it afterwards. Who only drops it loses nothing either.
    async fn close(&self);
    /// The number of the last group that was opened; 0 where there is none.
    async fn last_number(&self, pipeline: &PipelineName) -> Result<u64>;
    /// Segments that are loaded as this revision refined them, the last landed first; those of objects with a later version are left
    /// out.
    async fn refined_by(&self, pipeline: &PipelineName, revision: RevisionId, limit: u32)
    -> Result<Vec<LandedSegment>>;
    /// The tables that hold rows of these segments, from former groups.
    async fn tables_of(&self, pipeline: &PipelineName, segments: &[SegmentId]) -> Result<Vec<TableName>>;
    /// Writes down a group; from here on it goes forward, unless it is withdrawn. A group without loads is done at once.
    async fn open_group(&self, group: &LoadGroup) -> Result<()>;
    /// Marks a load done; with the last of its group its segments are loaded. Marking again does nothing.
    async fn close_load(
        &self,
        pipeline: &PipelineName,
        number: u64,
        table: &TableName,
        receipt: &LoadReceipt,
        at: Timestamp,
    ) -> Result<()>;
    /// Takes back what of a group is not done, since the warehouse refused it for good: its open loads are `withdrawn`, each of its
    /// segments waits with its failure (one for each of them), and former versions that it superseded are loaded as before.
    /// Where a load of it was done, its generation counts, so that the next one removes what that load brought. A replay under a
    /// revision that was asked for is still to be done, from the time that its failure says. A group that
    /// was withdrawn stays so; one that is done is refused with class bug.
    async fn withdraw_group(&self, pipeline: &PipelineName, number: u64, failures: &[SegmentFailure]) -> Result<()>;
    /// Groups with open loads, oldest first, each with its open loads only.
    async fn open_groups(&self, pipeline: &PipelineName) -> Result<Vec<LoadGroup>>;

    // Schemas.

    /// The pipeline's schema; `None` before the first.
    async fn schema(&self, pipeline: &PipelineName) -> Result<Option<StreamSchema>>;
    /// Replaces version `from` (`None`: there is none yet) by a grown one; `None` where another was faster.
    async fn evolve_schema(
        &self,
        pipeline: &PipelineName,
        from: Option<SchemaVersion>,
        schema: &arrow_schema::SchemaRef,
        at: Timestamp,
    ) -> Result<Option<StreamSchema>>;
    /// Notes changes that wait; ones that are known keep their first time and approval.
    async fn hold_changes(&self, changes: &[HeldChange]) -> Result<()>;
    /// Changes that wait or were approved.
    async fn held_changes(&self) -> Result<Vec<HeldChange>>;
    /// Approves a change; false where there is none.
    async fn approve_change(&self, table: &TableName, column: &str) -> Result<bool>;

    // Modules, revisions, deployments.

    /// Records a module; one that is known stays as it is.
    async fn record_module(&self, module: &ModuleRecord) -> Result<()>;
    /// Records an asset; one that is known under its name stays as it is.
    async fn record_asset(&self, asset: &AssetRecord) -> Result<()>;
    /// Whether the watched path's last seen content is this; notes it. False means: new here, deploy it.
    async fn seen_in_folder(&self, path: &str, digest: Digest, at: Timestamp) -> Result<bool>;
    /// The module content that is active under a name: what the folder or a deployment put there last.
    async fn active_module(&self, name: &ModuleName) -> Result<Option<Digest>>;
    /// Makes a content the active one of its name.
    async fn activate_module(&self, name: &ModuleName, digest: Digest, at: Timestamp) -> Result<()>;
    /// Records a revision; one that is known keeps its number.
    async fn record_revision(&self, revision: &Revision, at: Timestamp) -> Result<RevisionRecord>;
    /// One revision.
    async fn revision(&self, pipeline: &PipelineName, id: RevisionId) -> Result<Option<RevisionRecord>>;
    /// Makes a revision the active one (the former is retired, and another one in shadow is cancelled), or notes that it was refused or
    /// cancelled. One that is in shadow is so no more. For [`DeploymentState::Shadow`] there is [`Ledger::shadow`].
    async fn deploy(
        &self,
        pipeline: &PipelineName,
        revision: RevisionId,
        state: DeploymentState,
        reason: &str,
        at: Timestamp,
    ) -> Result<()>;
    /// The active deployment.
    async fn active(&self, pipeline: &PipelineName) -> Result<Option<Deployment>>;
    /// Puts a recorded revision in the place of the active one, which is retired, and cancels `meant`, both or neither: what the
    /// config means is not deployed again by itself. `None` where the config means `to`. Repeated at the same time it does nothing.
    async fn roll_back(
        &self,
        pipeline: &PipelineName,
        to: RevisionId,
        meant: Option<RevisionId>,
        reason: &str,
        at: Timestamp,
    ) -> Result<()>;
    /// Puts a recorded revision that is not active into shadow; another one of the pipeline that was is cancelled. One that is in shadow
    /// stays as it is.
    async fn shadow(
        &self,
        pipeline: &PipelineName,
        revision: RevisionId,
        plan: &serde_json::Value,
        reason: &str,
        at: Timestamp,
    ) -> Result<()>;
    /// Writes down what came of a shadow, in place of what was written before; false where the revision is not in shadow any more.
    async fn report_shadow(
        &self,
        pipeline: &PipelineName,
        revision: RevisionId,
        report: &serde_json::Value,
    ) -> Result<bool>;
    /// All revisions in shadow, by pipeline.
    async fn shadows(&self) -> Result<Vec<Shadow>>;
    /// Whether a revision's last deployment was cancelled, and not `superseded by revision …`.
    async fn is_cancelled(&self, pipeline: &PipelineName, revision: RevisionId) -> Result<bool>;

    /// From now on `work` gives this pipeline nothing; what is under way is finished. One that is paused keeps its reason and time.
    async fn pause(&self, pipeline: &PipelineName, reason: &str, at: Timestamp) -> Result<()>;
    /// It is given work again; false where it was not paused.
    async fn resume(&self, pipeline: &PipelineName) -> Result<bool>;
    /// The pause of a pipeline; `None` where it is given work.
    async fn paused(&self, pipeline: &PipelineName) -> Result<Option<Pause>>;

    // Asked by another process of the one that holds the host lease.

    /// Asks for something (`maintain`), with arguments; returns the request's number.
    async fn ask(&self, what: &str, arguments: &serde_json::Value, at: Timestamp) -> Result<u64>;
    /// Requests without an answer, oldest first: number, what, arguments.
    async fn asked(&self) -> Result<Vec<(u64, String, serde_json::Value)>>;
    /// Answers one.
    async fn answer(&self, request: u64, answer: &serde_json::Value, at: Timestamp) -> Result<()>;
    /// The answer, once there is one.
    async fn answered(&self, request: u64) -> Result<Option<serde_json::Value>>;

    // For people: the documented tables of `docs/ledger.md`.

    /// Their names.
    fn table_names(&self) -> Vec<&'static str>;
    /// One of them, whole, as Arrow.
    async fn read_table(&self, name: &str) -> Result<RecordBatch>;
}
