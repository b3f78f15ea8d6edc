//! What a rule says beside its rows: lines for the log, counters, observed values. Values of cells do not belong there.

use crate::host;

/// How loud a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

/// A line for the log; the macros [`crate::info!`] and its like are shorter.
pub fn log(level: Level, message: &str) {
    host::log(level, message);
}

/// Adds to a counter; its sum is told with the run's figures.
pub fn count(name: &str, delta: u64) {
    host::count(name, delta);
}

/// Observes a value: how many there were, their sum, the smallest and the largest are told with the run's figures.
pub fn observe(name: &str, value: f64) {
    host::observe(name, value);
}

/// Logs a line that only a developer wants to see, as `format!` would write it.
#[macro_export]
macro_rules! trace {
    ($($arg:tt)+) => { $crate::log($crate::Level::Trace, &::std::format!($($arg)+)) };
}

/// Logs a line for finding mistakes, as `format!` would write it.
#[macro_export]
macro_rules! debug {
    ($($arg:tt)+) => { $crate::log($crate::Level::Debug, &::std::format!($($arg)+)) };
}

/// Logs a line, as `format!` would write it.
#[macro_export]
macro_rules! info {
    ($($arg:tt)+) => { $crate::log($crate::Level::Info, &::std::format!($($arg)+)) };
}

/// Logs a line that deserves attention, as `format!` would write it.
#[macro_export]
macro_rules! warn {
    ($($arg:tt)+) => { $crate::log($crate::Level::Warn, &::std::format!($($arg)+)) };
}

/// Logs a line about what went wrong, as `format!` would write it.
#[macro_export]
macro_rules! error {
    ($($arg:tt)+) => { $crate::log($crate::Level::Error, &::std::format!($($arg)+)) };
}
