//! What the fuzz targets of `fuzz/` do with the bytes that they are given; it panics where a promise is broken.
//!
//! They stand here, in the workspace, so that every build compiles them and `make test` runs them over their seeds: the fuzzer,
//! which needs nightly and minutes, finds them whole. Modules of rooms that are nobody's business outside come by their path.
// The modules' own tests are run where they belong.
#![cfg(not(test))]
#![expect(
    clippy::expect_used,
    clippy::wildcard_enum_match_arm,
    reason = "to panic is how a target tells what it found, and of Arrow's many types it knows its own"
)]

#[path = "../../../host/crates/sandbox/src/call.rs"]
mod call;
#[expect(dead_code, unused_imports, reason = "the host's, which uses more of itself")]
#[path = "../../../host/src/config/mod.rs"]
mod config;
#[path = "../../../host/crates/sandbox/src/description.rs"]
mod description;
#[path = "../../../host/crates/sandbox/src/error.rs"]
mod error;
#[path = "../../../host/crates/sandbox/src/layout.rs"]
mod layout;
#[path = "../../../host/crates/sandbox/src/lift.rs"]
mod lift;
#[expect(dead_code, unreachable_pub, reason = "the sandbox's, which uses more of itself")]
#[path = "../../../host/crates/sandbox/src/limits.rs"]
mod limits;
#[path = "../../../host/crates/sandbox/src/lower.rs"]
mod lower;
#[expect(dead_code, unreachable_pub, reason = "the sandbox's, which uses more of itself")]
#[path = "../../../host/crates/sandbox/src/output.rs"]
mod output;
#[expect(dead_code, reason = "the sandbox's, which uses more of itself")]
#[path = "../../../host/crates/sandbox/src/plan.rs"]
mod plan;
#[expect(dead_code, reason = "the host's, which uses more of itself")]
#[path = "../../../host/src/requests.rs"]
mod requests;
#[expect(dead_code, reason = "the sandbox's, which uses more of itself")]
#[path = "../../../host/crates/sandbox/src/said.rs"]
mod said;
#[path = "../../../host/crates/sandbox/src/schema.rs"]
mod schema;

mod targets {
    pub(crate) mod bytes;
    pub(crate) mod config;
    pub(crate) mod envelope;
    pub(crate) mod guest;
    pub(crate) mod guest_said;
    pub(crate) mod guest_schema;
    pub(crate) mod ledger_text;
    pub(crate) mod text;
}

/// A target, by the name that it has in `fuzz/fuzz_targets`.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const ALL: [Target; 8] = [
    ("config", config),
    ("csv", csv),
    ("envelope", envelope),
    ("guest", guest),
    ("guest_said", guest_said),
    ("guest_schema", guest_schema),
    ("json", json),
    ("ledger_text", ledger_text),
];

/// The text of a config.
pub fn config(data: &[u8]) {
    targets::config::run(data);
}

/// A file of CSV.
pub fn csv(data: &[u8]) {
    targets::text::run("csv", data);
}

/// An envelope of the landing zone.
pub fn envelope(data: &[u8]) {
    targets::envelope::run(data);
}

/// What a guest hands over.
pub fn guest(data: &[u8]) {
    targets::guest::run(data);
}

/// What a guest says beside its buffers.
pub fn guest_said(data: &[u8]) {
    targets::guest_said::run(data);
}

/// A schema that a guest sends.
pub fn guest_schema(data: &[u8]) {
    targets::guest_schema::run(data);
}

/// A file of JSON.
pub fn json(data: &[u8]) {
    targets::text::run("json", data);
}

/// A text of the ledger, the journal, or what the zone keeps for a ledger that is rebuilt.
pub fn ledger_text(data: &[u8]) {
    targets::ledger_text::run(data);
}
