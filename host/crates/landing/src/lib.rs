//! The landing zone: raw data, the truth. Objects land byte for byte, records land as Parquet envelopes.
//!
//! What it guarantees is the contract of [`forebay_model::ports::LandingZone`]: what was written is durable when the call
//! returns, a name is written once and whole or not at all, and reading gives back the bytes that were put, or an error.
//!
//! [`DiskZone`] keeps it in a folder: a temporary name, write, sync, link to the final name, sync the folder.
//! [`S3Zone`] keeps it in a bucket: a name is put where there is none yet, in parts where it is large.
//! [`MemoryZone`] is the plain model of the same contract. While an object's bytes pass, its SHA-256 is taken and the places
//! are noted where it may be cut into segments ([`SplitRule`](forebay_model::ports::SplitRule)). [`envelope`] documents the
//! Parquet form of records, [`naming`] the names.
//!
//! ```text
//! <stream>/dt=YYYY-MM-DD/hr=HH/…   objects
//! _forebay/zone.json               which ledger the zone belongs to
//! _forebay/journal/…               landings that the ledger accepted: it can be rebuilt from these
//! _forebay/kept/…                  modules and assets, under their digests
//! _forebay/tmp/…                   being written (in a folder; what a bucket is sent in parts has no name before it is whole)
//! ```

mod cuts;
mod disk;
pub mod envelope;
mod error;
mod hand_over;
mod intake;
mod journal;
mod memory;
pub mod naming;
mod s3;

pub use disk::DiskZone;
pub use error::LandingError;
pub use memory::{MemoryZone, MemoryZoneSnapshot};
pub use s3::{Encryption, S3Zone};
