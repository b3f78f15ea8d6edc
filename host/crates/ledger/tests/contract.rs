#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
#[path = "../../../../tests/suite/contract/support.rs"]
mod support;
#[path = "../../../../tests/suite/contract/ledger/mod.rs"]
mod ledger;
