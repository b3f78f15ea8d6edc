//! The rule author's side of the host: a crate to begin with, building it, and running its cases in the real sandbox.
//!
//! Nothing here needs a config, a ledger or a landing zone. What a rule is tried with is what a pipeline would use: the same
//! decoding, the same sandbox, the same step of `pipeline::refine`. What a case is stands in the SDK, whose code reads and
//! compares it for `cargo test` too.

pub(crate) mod bench;
mod carried;
pub(crate) mod cases;
pub(crate) mod changes;
pub(crate) mod fingerprint;
pub(crate) mod finished;
pub(crate) mod fuzz;
pub(crate) mod package;
pub(crate) mod packed;
mod parquet;
pub(crate) mod prove;
pub(crate) mod scaffold;
pub(crate) mod taken;
