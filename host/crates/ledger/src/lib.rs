//! The ledger: the record of every segment, load, revision, module and deployment. Only what it lists exists.
//!
//! What it guarantees is the contract of [`forebay_model::ports::Ledger`]: each call is one transaction, durable when it
//! returns, and may be repeated without harm; a segment is listed once, and a partition moves on from where it stands or
//! not at all; a group of loads, once opened, only goes forward.
//!
//! [`SqliteLedger`] keeps it in one SQLite file: the write-ahead log is synced with each transaction, one connection
//! writes, others read, also from other processes while a host runs. [`PostgresLedger`] keeps it in a schema of a PostgreSQL
//! database, with the same statements. [`MemoryLedger`] is the plain model of the same contract; a property test holds all to
//! the same answers. `docs/ledger.md` documents the tables for people.

mod check;
mod error;
mod memory;
mod sql;
mod stores;
mod tables;
mod versions;

pub use error::{LedgerError, Place};
pub use memory::{MemoryLedger, MemorySnapshot};
pub use sql::SqlLedger;
pub use stores::OpenMode;
pub use stores::postgres::{PostgresLedger, PostgresStore};
pub use stores::sqlite::{SqliteLedger, SqliteStore};
