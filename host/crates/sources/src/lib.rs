//! Sources: where raw data comes from.
//!
//! A source delivers what the ledger does not have yet, and remembers nothing that must survive: where it stands is told
//! by [`Progress`](forebay_model::ports::Progress) alone. So a process may die at any point; the next one on the same
//! ledger delivers again exactly what had not landed. The contract is that of [`forebay_model::ports::Source`], and
//! `tests/suite/contract/source.rs` holds every source of this crate to it.
//!
//! | kind | what it is | delivers |
//! |---|---|---|
//! | [`files`] | a folder, watched | objects |
//! | [`s3`] | a bucket of S3, listed | objects |
//! | [`generator`] | auction events made up from a seed | records of several partitions |
//! | [`memory`] | the model: what a test scripts | objects or records |
//!
//! [`build`] makes one from the `source` table of a config, [`check`] looks at the table alone.

mod compression;
mod factory;
pub mod files;
pub mod generator;
pub mod memory;
mod patterns;
pub mod s3;

pub use factory::{KINDS, bucket_of, build, check};
pub use files::{FilesConfig, FilesSource, key_of};
pub use generator::{GeneratorConfig, GeneratorSource};
pub use memory::{MemorySource, MemoryUpstream};
pub use patterns::PatternError;
pub use s3::{Order, S3Config, S3Source};
