//! A record's whole way over the in-memory models: real state machines and drivers, real JSON decoding, rules in plain Rust.
//! What the promises say of rows, counts, rejects and schemas is seen here, in milliseconds.

mod beside;
mod budget;
mod failed;
mod heal;
mod history;
mod orphans;
mod promises;
mod recovery;
mod same_rows;
mod schemas;
mod swap;
pub(crate) mod world;
