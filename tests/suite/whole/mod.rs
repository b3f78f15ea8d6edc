//! The real binary, with real files, SQLite, Delta Lake and the fraud rule in Wasm: what a person starts, kills and asks.

mod kills;
mod modules;
mod parts;
mod orphans;
mod recovery;
mod reload;
mod running;
mod support;
