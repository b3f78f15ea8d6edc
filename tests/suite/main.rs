//! The tests that go across rooms. `contract/` holds one suite for each port, which all of its implementations pass.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests: a failed expectation is the way to fail"
)]

mod contract;
mod flow;
mod whole;
