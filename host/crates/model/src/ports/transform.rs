use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::{ArrayRef, UInt32Array};
use arrow_schema::SchemaRef;

use crate::error::Result;
use crate::ids::{Digest, ModuleName};
use crate::plan::Plan;
use crate::time::Timestamp;

/// A file for a rule: immutable, known by its digest.
#[derive(Debug, Clone)]
pub struct Asset {
    /// SHA-256 of the bytes.
    pub digest: Digest,
    /// The bytes.
    pub bytes: bytes::Bytes,
}

/// Assets by name.
pub type Assets = Arc<BTreeMap<String, Asset>>;

/// An asset that a module wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssetWant {
    /// Its name.
    pub name: String,
    /// What it is.
    pub doc: String,
    /// Whether it must be configured.
    pub required: bool,
}

/// What a module says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Its name.
    pub name: ModuleName,
    /// The author's version.
    pub version: String,
    /// Markdown; the first line is the summary.
    pub doc: String,
    /// A JSON Schema.
    pub config_schema: serde_json::Value,
    /// The assets it wants.
    pub assets: Vec<AssetWant>,
}

/// Loads modules: checks, compiles, describes.
pub trait ModuleLoader: Send + Sync + std::fmt::Debug {
    /// A module from its bytes. Blocking, may take seconds. Errors are of class operator and say what is wrong with the module.
    fn load(&self, wasm: &[u8]) -> Result<Arc<dyn Module>>;
}

/// A module that compiled.
pub trait Module: Send + Sync + std::fmt::Debug {
    /// SHA-256 of its bytes.
    fn digest(&self) -> Digest;
    /// What it says of itself.
    fn description(&self) -> &Description;
    /// Binds it to an input schema (without forebay's own columns). Calls the guest once; its plan is validated: a column that
    /// it passes is there, one that it reads is there or required (rows are rejected until the stream has it), types agree,
    /// names are unique. Errors are of class operator.
    fn bind(&self, input: &SchemaRef, config: &serde_json::Value, assets: &Assets) -> Result<Arc<dyn BoundTransform>>;
}

/// A module bound to a schema, a config and assets.
pub trait BoundTransform: Send + Sync + std::fmt::Debug {
    /// What it agreed to.
    fn plan(&self) -> &Plan;
    /// The schema it is bound to.
    fn input(&self) -> &SchemaRef;
    /// An instance for a segment: fresh, or one that a reusable plan left.
    fn instance(&self, segment: &SegmentContext) -> Result<Box<dyn TransformInstance>, TransformError>;
}

/// What a rule may know of the segment: always the same for the same segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentContext {
    /// The stream's name.
    pub stream: String,
    /// The segment's id.
    pub segment: String,
    /// The partition.
    pub partition: String,
    /// The first position, as text.
    pub first_position: String,
    /// When it landed.
    pub landed_at: Timestamp,
    /// Its seed.
    pub seed: u64,
}

/// Rows for one call: the plan's input columns, in its order, required ones without nulls.
#[derive(Debug, Clone)]
pub struct BatchInput {
    /// How many rows.
    pub rows: usize,
    /// Each as long as `rows`.
    pub columns: Vec<ArrayRef>,
    /// The record number of each row.
    pub numbers: Vec<u64>,
}

/// Which rows an `emit` is about. Validated: indexes are within the batch.
#[derive(Debug, Clone, PartialEq)]
pub enum Selection {
    /// Each once, in order.
    All,
    /// These.
    Rows(UInt32Array),
}

/// One `emit`. Validated: the route is there, columns have the plan's types and the selection's length.
#[derive(Debug, Clone)]
pub struct Emission {
    /// The route's index in the plan.
    pub route: usize,
    /// The rows.
    pub selection: Selection,
    /// The computed columns, as the route's plan lists them.
    pub computed: Vec<ArrayRef>,
}

/// One `reject`, for one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowRefusal {
    /// The row's index in the batch.
    pub row: u32,
    /// The rule's code.
    pub code: Arc<str>,
    /// The rule's message.
    pub message: Arc<str>,
    /// Whether a later revision may accept it.
    pub retryable: bool,
}

/// How loud a rule's line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names say it")]
pub enum LogLevel {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

/// What a call that returned came to.
#[derive(Debug, Clone, Default)]
pub struct TransformOutput {
    /// In the order of the calls.
    pub emissions: Vec<Emission>,
    /// Each row at most once: the first refusal counts.
    pub refusals: Vec<RowRefusal>,
    /// Counters.
    pub counts: BTreeMap<String, u64>,
    /// Observations.
    pub observations: Vec<(String, f64)>,
}

/// Why a call did not return. Nothing of what it emitted counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TransformFailure {
    /// A panic, an overflow of the stack, memory beyond the cap, a call to what is not granted.
    Trap,
    /// It ran past its time.
    Timeout,
    /// It handed over something that is not valid, or more than the cap.
    InvalidOutput,
    /// It returned an error.
    RuleError,
    /// No instance could be made, or `bind` failed or answered otherwise than when the revision was checked: no row is to blame.
    Instance,
}

/// A call that did not return. The instance must not be used again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TransformError {
    /// What kind.
    pub failure: TransformFailure,
    /// For people: the guest's panic message, where there is one, and what was exceeded.
    pub message: String,
    /// The guest's backtrace, symbolic, innermost first; empty where there is none.
    pub backtrace: Vec<String>,
}

/// A rule at work on one segment.
pub trait TransformInstance: Send {
    /// One call. Blocking, bounded by the limits.
    ///
    /// # Errors
    /// [`TransformError`]; the instance is to be dropped then.
    fn process(&mut self, input: &BatchInput) -> Result<TransformOutput, TransformError>;
}
