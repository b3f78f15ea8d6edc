//! A PostgreSQL server that forebay keeps something on: where it is, how it is connected to, and what its answers mean.
//!
//! The ledger and the warehouse each stand in a schema of their own; they do not know one another, and share this.

mod address;
mod fault;
mod server;

pub use address::{Keeps, PATIENCE, PostgresAddress};
pub use fault::{code, meaning};
pub use server::{Unfit, unfit};
