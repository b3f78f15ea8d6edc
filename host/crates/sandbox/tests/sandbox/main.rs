//! What the sandbox promises, tried with guests that break their word.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::cast_possible_truncation, reason = "tests")]

mod cache;
mod compiling;
mod contained;
mod limits;
mod load;
mod plans;
mod round_trip;
mod support;
mod world;
