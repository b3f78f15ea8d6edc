//! What the sandbox promises, tried with guests that break their word.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod cache;
mod contained;
mod load;
mod plans;
mod round_trip;
mod support;
mod world;
