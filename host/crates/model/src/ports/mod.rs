//! The seams: everything that is I/O, time or chance comes in through one of these traits.
//!
//! Each has an in-memory model beside its real implementations (in the room that implements it, module `memory`), and one
//! contract suite (`tests/suite/contract`) that all of them pass. The documentation of a trait is that contract.

mod clock;
mod decoder;
mod fleet;
mod landing;
mod ledger;
mod rebuilt;
mod side;
mod source;
mod transform;
mod warehouse;

pub use clock::{Clock, Random};
pub use decoder::{Decoder, Format, SegmentInput, SplitRule};
pub use fleet::{Division, Duty, HostHolder, HostLease, HostState, Hosts, Readiness};
pub use landing::{
    DamagedEntry, Journal, JournalEntry, LandedObject, LandingZone, OBJECT_BYTES, ObjectEntry, ZoneIdentity,
};
pub use ledger::{
    Advance, AssetRecord, Deployment, DeploymentState, HealRequest, HeldChange, LandOutcome, Landing, Ledger,
    ModuleRecord, NewObject, NewSegment, ObjectState, Pause, ReplayRequest, RevisionRecord, SegmentFailure, Shadow,
    WorkItem,
};
pub use rebuilt::{Rebuilt, RebuiltLoad, RebuiltPartition, RebuiltPipeline, RebuiltSegment, Standing};
pub use side::Side;
pub use source::{Polled, Progress, Source};
pub use transform::{
    Asset, AssetWant, Assets, BatchInput, BoundTransform, Description, Emission, LogLevel, Module, ModuleLoader,
    RowRefusal, SegmentContext, Selection, TransformError, TransformFailure, TransformInstance, TransformOutput,
};
pub use warehouse::{
    CommittedLoad, MaintainOptions, MaintainReport, PastLoad, SegmentRows, StagedWriter, StagingRequest, TableHistory,
    TableInfo, TableOwner, Warehouse,
};
