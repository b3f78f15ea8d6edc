//! A bucket of an S3 server that forebay keeps something in, or reads something from: where it is, how it is connected to, and what its
//! answers mean.
//!
//! Credentials are no part of the config: they come from where every AWS tool takes them (environment, profile, web identity, the
//! machine's role), and nothing here shows them.

mod address;
mod bucket;
mod client;
mod fault;
mod read;

pub use address::{S3Address, S3Settings};
pub use bucket::Bucket;
pub use client::{Patience, S3Options, Secrets};
pub use fault::{Doing, Fault, FaultKind, fault};
pub use read::{Chunks, Listed, Page, Takes};
