//! The real binary, with real files, SQLite, Delta Lake and the fraud rule in Wasm: what a person starts, kills and asks.

mod damaged;
mod evil;
mod files;
mod input;
mod kills;
mod modules;
mod names;
mod orphans;
mod panics;
mod parts;
mod recovery;
mod refused_loads;
mod reload;
mod rounds;
mod running;
mod search;
mod seen;
mod stopping;
pub(crate) mod strange_modules;
pub(crate) mod support;
