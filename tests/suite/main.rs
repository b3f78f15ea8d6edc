//! The tests that go across rooms. `contract/` holds one suite for each port, which all of its implementations pass.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "tests: a failed expectation is the way to fail, and of Arrow's many types a test knows its own"
)]

mod contract;
mod flow;
mod fuzz;
mod postgres;
mod promises;
mod s3;
mod simulation;
mod whole;
