//! What the crate leaves to us, and what crashes leave: each item of the table in [`super`] with tests that fail without it.
#![expect(clippy::unwrap_used, reason = "tests: a failed expectation is the way to fail")]

mod commits;
mod crashes;
mod damage;
mod files;
mod log_end;
mod maintenance;
mod support;
