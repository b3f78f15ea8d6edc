//! Tests of a rule with plain `cargo test`: no Wasm, no host, no feature.
//!
//! [`Harness`] binds the rule and runs it over rows that a test writes down as JSON lines, CSV or Arrow columns, as the host
//! would: rows that lack a required column are rejected before the rule sees them, batches have at most 8,192 rows, a record that
//! is rejected loads nothing, what is emitted is checked before it counts. [`Outcome`] holds the rows of each route with
//! *all* their columns, as JSON.
//!
//! [`run_cases`] does so for each folder of `cases/`, and each case also proves that the rule's answer for a row does not
//! depend on its neighbours ([`Harness::check_splits`]).
//!
//! Column types are inferred from the rows, as forebay does it: integers, floats, Booleans, text, timestamps (ISO 8601 with a
//! zone), lists and structs. [`Harness::declare`] overrides that.
//!
//! What the harness cannot show is a trap: a panic in a rule fails the test, where the host would find the guilty rows and reject
//! them alone.

pub mod case;
mod cases;
mod flat;
mod harness;
mod input;
mod outcome;
mod run;
pub mod splits;

pub use arrow_array;
pub use cases::{CasesError, run_cases};
pub use harness::{Harness, HarnessError};
pub use outcome::{Outcome, Rejected};
