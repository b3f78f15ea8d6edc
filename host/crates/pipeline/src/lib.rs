//! The record's way: intake, refine and loads, as state machines over the ports of `forebay-model`.
//!
//! **Intake never runs user code. Refine never talks to the source.** Between them stand the landing zone and the ledger, so a
//! rule that is slow, wrong or failing can neither lose data nor stall a source.
//!
//! Each half is a state machine, `step(state, event) -> effects`, without I/O, clock or threads; a driver beside it carries
//! effects out. [`policy`] alone says what is done about an error.

pub mod budget;
pub mod decoding;
pub mod intake;
pub mod metrics;
pub mod orphans;
pub mod panics;
pub mod policy;
pub mod precedence;
pub mod recover;
pub mod refine;
pub mod workers;
