//! What moves through the host, counted: for the progress bar, the summary, and later for metrics.
//!
//! Counters only grow, and are read without stopping anything. Seconds of a stage are summed over threads: bytes over them
//! is the stage's rate per core.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde::Serialize;

/// A counter.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds.
    pub fn add(&self, value: u64) {
        self.0.fetch_add(value, Ordering::Relaxed);
    }

    /// Sets, for what is a level rather than a count.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Reads.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A stage of a record's way, with the time spent in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Reading the source, hashing, writing, syncing.
    Land,
    /// Bytes to Arrow, reading the landing zone included.
    Decode,
    /// The steps.
    Transform,
    /// Arrow to the table's files, synced.
    Encode,
    /// Ledger and warehouse transactions.
    Commit,
}

impl Stage {
    /// All, in the order of the way.
    pub const ALL: [Self; 5] = [Self::Land, Self::Decode, Self::Transform, Self::Encode, Self::Commit];

    /// The name, as people read it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Land => "land",
            Self::Decode => "decode",
            Self::Transform => "transform",
            Self::Encode => "encode",
            Self::Commit => "commit",
        }
    }
}

/// Nanoseconds by stage.
#[derive(Debug, Default)]
pub struct Clocks {
    nanos: [Counter; 5],
}

impl Clocks {
    /// Adds to a stage what has passed since `from`.
    pub fn add_since(&self, stage: Stage, from: Instant) {
        self.nanos[stage as usize].add(u64::try_from(from.elapsed().as_nanos()).unwrap_or(u64::MAX));
    }

    /// Runs `work` on a stage's clock.
    pub fn timed<T>(&self, stage: Stage, work: impl FnOnce() -> T) -> T {
        let from = Instant::now();
        let result = work();
        self.add_since(stage, from);
        result
    }

    /// Seconds spent in a stage.
    #[must_use]
    pub fn seconds(&self, stage: Stage) -> f64 {
        std::time::Duration::from_nanos(self.nanos[stage as usize].get()).as_secs_f64()
    }
}

/// What a stream has done since the host started.
#[derive(Debug, Default)]
pub struct StreamMetrics {
    /// Objects that landed.
    pub objects: Counter,
    /// Segments that landed.
    pub segments: Counter,
    /// Bytes that landed.
    pub bytes: Counter,
    /// Attempts that failed and are made again.
    pub retries: Counter,
    /// Time.
    pub clocks: Clocks,
}

/// What a pipeline has done since the host started.
#[derive(Debug, Default)]
pub struct PipelineMetrics {
    /// Segments that loaded.
    pub segments_loaded: Counter,
    /// Segments that failed and wait.
    pub segments_failed: Counter,
    /// Segments known to be waiting or in work: a level.
    pub segments_waiting: Counter,
    /// Bytes of segments that loaded, as they landed.
    pub bytes: Counter,
    /// Records decoded.
    pub records: Counter,
    /// Records of which at least one row loaded.
    pub loaded: Counter,
    /// Records that no rule selected.
    pub filtered: Counter,
    /// Records that were refused.
    pub rejected: Counter,
    /// Records that loaded with something rescued.
    pub rescued: Counter,
    /// Batches in work now, of the record's way: for the progress of a segment that is large.
    pub records_in_work: Counter,
    /// Rows by table, of loads that are done.
    pub rows: std::sync::Mutex<std::collections::BTreeMap<String, u64>>,
    /// Time.
    pub clocks: Clocks,
}

impl PipelineMetrics {
    /// Adds rows that a table has gained.
    pub fn add_rows(&self, table: &str, rows: u64) {
        let mut map = self.rows.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *map.entry(table.to_owned()).or_insert(0) += rows;
    }
}
