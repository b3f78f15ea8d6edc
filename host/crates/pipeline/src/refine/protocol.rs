//! What the state machine of a pipeline is told, and what it asks for.

use std::collections::BTreeMap;
use std::time::Duration;

use forebay_model::load::LoadGroup;
use forebay_model::ports::{Random, SegmentFailure, WorkItem};
use forebay_model::schema::Evolution;
use forebay_model::{
    Error, Load, LoadReceipt, Result, RevisionId, SegmentId, StagedFile, StreamSchema, TableName, Timestamp,
};

use super::group::BoundSummary;
use super::segment::{SegmentJob, SegmentOutcome};

/// Counts bindings within a process.
pub type BindingId = u64;

/// How a pipeline works.
#[derive(Debug, Clone)]
pub struct RefineSettings {
    /// Segments with workers at a time.
    pub workers: usize,
    /// A group is full with so many segments,
    pub group_segments: usize,
    /// or so many landed bytes,
    pub group_bytes: u64,
    /// or when it is so old. It is also closed when nothing waits.
    pub group_age: Duration,
    /// How often the ledger is asked for work when nothing tells of any.
    pub poll: Duration,
    /// Finish when everything that landed is done.
    pub once: bool,
}

/// What the ledger knew at the start.
#[derive(Debug, Clone, Default)]
pub struct Recovered {
    /// Groups that were written down and not done.
    pub groups: Vec<LoadGroup>,
    /// The number of the last group.
    pub last_number: u64,
    /// The schema.
    pub schema: Option<StreamSchema>,
}

/// What the ledger has to do for a pipeline.
#[derive(Debug, Clone, Default)]
pub struct Work {
    /// Segments that nothing was made of yet, in the order of landing.
    pub first: Vec<WorkItem>,
    /// Those that failed and are due, behind them loaded ones that are to be refined again, both the newest first, and behind these those
    /// that had landed before the pipeline began.
    pub again: Vec<WorkItem>,
}

/// What to do again after a pause.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wake {
    /// Ask for work.
    Poll,
    /// Recover.
    Recover,
    /// Infer.
    Infer,
    /// Grow the schema.
    Grow,
    /// Look whether the group in the making is old enough.
    Age,
    /// Find the tables of the next group.
    Find,
    /// Open the group.
    Open,
    /// Commit a load.
    Commit(TableName),
    /// Close a load.
    Close(TableName),
    /// Withdraw the group.
    Withdraw,
    /// Bind the active revision.
    Bind,
    /// Let failed segments be tried at once.
    Retry,
    /// Note a failure.
    Note(SegmentId),
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// Begin.
    Start,
    /// Answer to [`Effect::Recover`].
    Recovered(Result<Recovered>),
    /// A revision is active, and its materials are loaded: a new one, or the same with other limits.
    Deployed {
        /// The revision.
        revision: RevisionId,
        /// Its number, for people.
        number: u32,
    },
    /// A held change was approved: bind again.
    Approved,
    /// Answer to [`Effect::FetchWork`].
    Worked(Result<Work>),
    /// Answer to [`Effect::Infer`].
    Inferred(Result<Option<StreamSchema>>),
    /// Answer to [`Effect::Bind`] or [`Effect::BindBeside`]; an error where it could not be tried.
    Bound(BindingId, Result<Binding>),
    /// Answer to [`Effect::Grow`]; an error where it could not be tried.
    Grown(BindingId, Result<Growth>),
    /// Answer to [`Effect::Refine`].
    Refined(SegmentId, Result<SegmentOutcome>),
    /// Answer to [`Effect::FindTables`].
    Found(Result<Vec<TableName>>),
    /// Answer to [`Effect::OpenGroup`].
    Opened(Result<()>),
    /// Answer to [`Effect::Commit`].
    Committed(TableName, Result<LoadReceipt>),
    /// Answer to [`Effect::CloseLoad`].
    Closed(TableName, Result<()>),
    /// Answer to [`Effect::Withdraw`].
    Withdrawn(Result<()>),
    /// Answer to [`Effect::NoteFailure`].
    Noted(SegmentId, Result<()>),
    /// Answer to [`Effect::RetryFailed`]: segments that had failed are work again.
    Retried(Result<()>),
    /// A pause is over.
    Woke(Wake),
    /// The stream has landed something.
    Landed,
    /// The stream has nothing more (`run --once`).
    CaughtUp,
    /// Finish what is in work, and stop.
    Shutdown,
}

/// What came of a revision that was to be bound.
#[derive(Debug)]
pub enum Binding {
    /// It is bound.
    Done(BoundSummary),
    /// The rule or a table refuses it.
    Refused(Error),
}

/// What came of a schema that was to grow.
#[derive(Debug)]
pub enum Growth {
    /// It is fixed and bound.
    Done(StreamSchema, BoundSummary),
    /// Another was faster, and what it made is not known yet.
    Behind,
    /// The rule or a table refuses it: what is new is rescued.
    Refused(Error),
}

/// What is to be done.
#[derive(Debug)]
#[expect(missing_docs, reason = "the fields' names and types say it")]
pub enum Effect {
    /// Ask the ledger what is open.
    Recover,
    /// Ask the ledger for work under a revision, as long as that is active: at most so many segments of production, and so many of
    /// history.
    FetchWork { revision: RevisionId, skip: Vec<SegmentId>, limit: u32, again: u32 },
    /// Infer the first schema from a sample, and have the ledger fix it.
    Infer(Vec<WorkItem>),
    /// Bind a revision to a schema.
    Bind { id: BindingId, revision: RevisionId, schema: StreamSchema },
    /// Load and bind a revision that is not the active one: a replay asked for it.
    BindBeside { id: BindingId, revision: RevisionId, schema: StreamSchema },
    /// Bind to a grown schema, and where that holds have the ledger fix it.
    Grow { id: BindingId, revision: RevisionId, from: StreamSchema, evolution: Evolution },
    /// No segment will use this binding again.
    DropBinding(BindingId),
    /// Refine on a worker.
    Refine { binding: BindingId, job: Box<SegmentJob> },
    /// Remove staged files.
    Discard(BTreeMap<TableName, Vec<StagedFile>>),
    /// Ask the ledger which tables hold rows of these.
    FindTables(Vec<SegmentId>),
    /// Write a group down.
    OpenGroup(Box<LoadGroup>),
    /// Commit a load.
    Commit(Box<Load>),
    /// Mark a load done.
    CloseLoad { number: u64, table: TableName, receipt: LoadReceipt },
    /// Take the group back: the warehouse refuses these loads of it, and has the others.
    Withdraw { number: u64, failures: Vec<SegmentFailure>, loads: Vec<Load> },
    /// Write a failure down.
    NoteFailure(Box<SegmentFailure>),
    /// Let failed segments be tried at once, and rejected records that this revision has not tried be tried again.
    RetryFailed { revision: Option<RevisionId> },
    /// Bring `Woke` after a pause.
    WakeAfter(Wake, Duration),
    /// Tell people and counters.
    Report(Report),
    /// The end: the pipeline does nothing more.
    Finish(Result<()>),
}

/// The answer to an effect that ended without one.
pub type OnPanic = Box<dyn FnOnce(Error) -> Option<Event> + Send>;

impl Effect {
    /// What the state machine is told where carrying this out panicked: without an answer it would wait for ever.
    #[must_use]
    pub fn on_panic(&self) -> OnPanic {
        match self {
            Self::Recover => Box::new(|error| Some(Event::Recovered(Err(error)))),
            Self::FetchWork { .. } => Box::new(|error| Some(Event::Worked(Err(error)))),
            Self::Infer(_) => Box::new(|error| Some(Event::Inferred(Err(error)))),
            &(Self::Bind { id, .. } | Self::BindBeside { id, .. }) => {
                Box::new(move |error| Some(Event::Bound(id, Err(error))))
            }
            &Self::Grow { id, .. } => Box::new(move |error| Some(Event::Grown(id, Err(error)))),
            Self::Refine { job, .. } => {
                let segment = job.item.segment.id.clone();
                Box::new(|error| Some(Event::Refined(segment, Err(error))))
            }
            Self::FindTables(_) => Box::new(|error| Some(Event::Found(Err(error)))),
            Self::OpenGroup(_) => Box::new(|error| Some(Event::Opened(Err(error)))),
            Self::Commit(load) => {
                let table = load.table.clone();
                Box::new(|error| Some(Event::Committed(table, Err(error))))
            }
            Self::CloseLoad { table, .. } => {
                let table = table.clone();
                Box::new(|error| Some(Event::Closed(table, Err(error))))
            }
            Self::Withdraw { .. } => Box::new(|error| Some(Event::Withdrawn(Err(error)))),
            Self::NoteFailure(failure) => {
                let segment = failure.segment.clone();
                Box::new(|error| Some(Event::Noted(segment, Err(error))))
            }
            Self::WakeAfter(wake, _) => {
                let wake = wake.clone();
                Box::new(|_| Some(Event::Woke(wake)))
            }
            Self::RetryFailed { revision: _ } => Box::new(|error| Some(Event::Retried(Err(error)))),
            Self::Discard(_) | Self::DropBinding(_) | Self::Report(_) | Self::Finish(_) => Box::new(|_| None),
        }
    }
}

/// What people and counters are told.
#[derive(Debug)]
#[expect(missing_docs, reason = "the fields' names and types say it")]
pub enum Report {
    /// A binding serves from now on.
    Serving { revision: RevisionId, number: u32, schema_version: u32 },
    /// A revision could not be bound; the former one serves on where there is one.
    NotBound { revision: RevisionId, number: u32, error: String, hint: Option<String> },
    /// A grown schema could not be bound: the one before serves on, and what is new is rescued.
    NotGrown { revision: RevisionId, number: u32, error: String, hint: Option<String> },
    /// A segment failed and waits.
    SegmentFailed(Box<SegmentFailure>),
    /// A group is loaded.
    Loaded { group: Box<LoadGroup>, receipts: Vec<(TableName, LoadReceipt)>, bytes: u64 },
    /// Something failed and is tried again.
    Retrying { what: &'static str, error: String, pause: Duration },
    /// How many segments are known to wait or to be in work.
    Waiting(u64),
}

/// Time and chance for one step.
#[derive(Debug, Clone, Copy)]
pub struct Now<'a> {
    /// The time.
    pub now: Timestamp,
    /// Ids.
    pub random: &'a dyn Random,
}
