//! The real binary, with real files, SQLite, Delta Lake and the fraud rule in Wasm: what a person starts, kills and asks.

mod author;
mod author_types;
mod damaged;
mod evil;
mod expr;
mod files;
mod input;
mod kills;
mod memory;
mod modules;
mod names;
mod orphans;
mod panics;
mod parts;
mod readers;
mod recovery;
mod refused_loads;
mod registry;
mod reload;
mod rounds;
mod running;
mod same_rows;
mod search;
mod seen;
mod stopping;
pub(crate) mod strange_modules;
pub(crate) mod support;
