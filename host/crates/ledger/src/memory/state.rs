use std::collections::{BTreeMap, BTreeSet};

use forebay_model::flow::OnChange;
use forebay_model::ids::{Digest, Generation, ModuleName, PipelineName, SegmentId, StreamName, TableName};
use forebay_model::load::{Again, Load, LoadGroup, LoadReceipt, Terms};
use forebay_model::ports::{
    AssetRecord, DeploymentState, HeldChange, Landing, ModuleRecord, ObjectState, Pause, RevisionRecord,
    SegmentFailure, Side,
};
use forebay_model::position::OrderedPosition;
use forebay_model::revision::RevisionId;
use forebay_model::schema::StreamSchema;
use forebay_model::segment::{LandedSegment, Partition, SegmentCounts};
use forebay_model::time::Timestamp;
use uuid::Uuid;

use crate::versions::Standing;

/// All that the ledger holds.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    /// Accepted landings in order, and whether their journal entries are still to be written.
    pub(super) landings: Vec<(Landing, bool)>,
    /// Objects in order; an object's place is its number less one.
    pub(super) objects: Vec<Object>,
    /// Segments in the order of landing; likewise. `replaces` is what they took the place of when they landed.
    pub(super) segments: Vec<LandedSegment>,
    pub(super) partitions: BTreeMap<(StreamName, Partition), (OrderedPosition, Timestamp)>,
    pub(super) refinements: BTreeMap<(PipelineName, SegmentId), Refinement>,
    pub(super) again: BTreeMap<(PipelineName, SegmentId), Asked>,
    /// How many segments had landed when a pipeline began to read a stream, and when that was.
    pub(super) histories: BTreeMap<(PipelineName, StreamName), (usize, Timestamp)>,
    /// With the segments that each has.
    pub(super) sides: BTreeMap<PipelineName, (Side, BTreeSet<SegmentId>)>,
    pub(super) groups: BTreeMap<(PipelineName, u64), Group>,
    pub(super) reject_counts: BTreeMap<(PipelineName, SegmentId, Generation, String, String), u64>,
    pub(super) schemas: BTreeMap<PipelineName, Vec<(StreamSchema, Timestamp)>>,
    pub(super) held: BTreeMap<(TableName, String), HeldChange>,
    pub(super) modules: BTreeMap<(ModuleName, Digest), ModuleRecord>,
    pub(super) assets: BTreeMap<(String, Digest), AssetRecord>,
    pub(super) active_modules: BTreeMap<ModuleName, Digest>,
    pub(super) module_files: BTreeMap<String, (Digest, Timestamp)>,
    /// Revisions of each pipeline by number.
    pub(super) revisions: BTreeMap<PipelineName, Vec<RevisionRecord>>,
    pub(super) deployments: Vec<Deployed>,
    pub(super) paused: BTreeMap<PipelineName, Pause>,
    pub(super) requests: Vec<Request>,
}

#[derive(Debug, Clone)]
pub(super) struct Object {
    pub(super) name: String,
    pub(super) stream: StreamName,
    pub(super) bytes: u64,
    pub(super) digest: Digest,
    pub(super) source: Option<ObjectState>,
    pub(super) on_change: OnChange,
    pub(super) attempt: Uuid,
    pub(super) landed_at: Timestamp,
    pub(super) replaced_by: Option<String>,
}

/// What a pipeline made of a segment.
#[derive(Debug, Clone)]
pub(super) struct Refinement {
    pub(super) standing: Standing,
    pub(super) generation: Option<Generation>,
    pub(super) loaded_generation: Option<Generation>,
    pub(super) load_number: Option<u64>,
    pub(super) revision: Option<RevisionId>,
    pub(super) counts: Option<SegmentCounts>,
    pub(super) retryable: Option<u64>,
    /// A replay asked for its revision.
    pub(super) chosen: bool,
    /// Since all of it was refined last.
    pub(super) heals: Vec<Healed>,
    pub(super) attempts: u32,
    pub(super) failure: Option<SegmentFailure>,
}

/// What became of records that were tried again.
#[derive(Debug, Clone)]
pub(super) struct Healed {
    pub(super) generation: Generation,
    pub(super) load_number: u64,
    pub(super) revision: RevisionId,
    pub(super) counts: SegmentCounts,
}

/// A loaded segment that is to be refined once more.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) what: Again,
    pub(super) terms: Terms,
    pub(super) reason: String,
    pub(super) at: Timestamp,
    pub(super) attempts: u32,
    pub(super) failure: Option<SegmentFailure>,
}

#[derive(Debug, Clone)]
pub(super) struct Group {
    pub(super) group: LoadGroup,
    /// By table: what the warehouse said, and when.
    pub(super) loads: BTreeMap<TableName, (Load, Option<(LoadReceipt, Timestamp)>)>,
    pub(super) done: bool,
    /// Its loads without a word of the warehouse never will have one.
    pub(super) withdrawn: bool,
}

impl Group {
    /// Its loads, without those that were withdrawn.
    pub(super) fn counted(&self) -> impl Iterator<Item = &Load> {
        self.loads.values().filter(|(_, done)| done.is_some() || !self.withdrawn).map(|(load, _)| load)
    }
}

#[derive(Debug, Clone)]
pub(super) struct Deployed {
    pub(super) pipeline: PipelineName,
    pub(super) revision: RevisionId,
    pub(super) state: DeploymentState,
    pub(super) reason: String,
    pub(super) at: Timestamp,
    pub(super) retired_at: Option<Timestamp>,
    /// Of one that is in shadow, or was.
    pub(super) shadow: Option<Shadowed>,
}

#[derive(Debug, Clone)]
pub(super) struct Shadowed {
    pub(super) since: Timestamp,
    pub(super) plan: serde_json::Value,
    pub(super) report: Option<serde_json::Value>,
}

#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) what: String,
    pub(super) arguments: serde_json::Value,
    pub(super) at: Timestamp,
    pub(super) answer: Option<(serde_json::Value, Timestamp)>,
}

/// A place in a list as a number that counts from 1.
pub(super) fn number_of(place: usize) -> u64 {
    u64::try_from(place).unwrap_or(u64::MAX).saturating_add(1)
}
