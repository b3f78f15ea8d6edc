//! The format's promises, through its public face alone.
#![expect(clippy::unwrap_used, clippy::panic, clippy::wildcard_enum_match_arm, reason = "tests")]

mod bounds;
mod corpora;
mod csv;
mod documents;
mod envelope;
mod evolution;
mod lines;
mod properties;
mod settings;
mod support;
