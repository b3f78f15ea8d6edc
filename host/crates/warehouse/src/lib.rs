//! Warehouses: where refined rows become tables, each load exactly once.
//!
//! A load is rows of some segments for one table. The ledger writes it down, then the warehouse commits its files, the
//! rows that it takes the place of, the columns that it adds and its number in one transaction. So a load that is
//! repeated, for whatever reason, finds its number and does nothing; that is all that "no loss, no duplicates" rests on
//! here. The contract is the documentation of [`forebay_model::ports::Warehouse`].
//!
//! - [`delta`]: Delta Lake tables in a folder, the embedded default;
//! - [`postgres`]: tables in a schema of a PostgreSQL database;
//! - [`memory`]: the same contract without a disk, for tests and simulation;
//! - [`columns`]: how Arrow types and names become what every reader of a warehouse knows;
//! - [`files`]: Parquet data files, written with care for size and speed, durable before anybody hears of them.

pub mod columns;
pub mod delta;
mod error;
pub mod files;
pub mod memory;
pub mod postgres;
mod schema;

pub use delta::{DeltaOptions, DeltaWarehouse};
pub use error::WarehouseError;
pub use memory::MemoryWarehouse;
pub use postgres::{PostgresOptions, PostgresWarehouse};
