//! What moves through the host, counted: for the progress bar, the summary, and later for metrics.
//!
//! Counters only grow, and are read without stopping anything. Seconds of a stage are summed over threads: bytes over them
//! is the stage's rate per core.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use forebay_model::load::RejectCount;
use forebay_model::{SegmentId, Timestamp};
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
        Duration::from_nanos(self.nanos[stage as usize].get()).as_secs_f64()
    }
}

/// How long something took, as often as it was done.
#[derive(Debug, Default)]
pub struct Histogram {
    /// By [`Histogram::BOUNDS`], each without those of the ones before; the last is beyond all of them.
    buckets: [Counter; Self::BOUNDS.len() + 1],
    nanos: Counter,
}

impl Histogram {
    /// Upper bounds in seconds: from a call for a few rows to one that runs out of its time.
    pub const BOUNDS: [f64; 13] = [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

    /// Adds one.
    pub fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let place = Self::BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(Self::BOUNDS.len());
        if let Some(bucket) = self.buckets.get(place) {
            bucket.add(1);
        }
        self.nanos.add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    /// How many took at most so many seconds, by bound; the last bound is infinite.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        let bounds = Self::BOUNDS.into_iter().chain([f64::INFINITY]);
        bounds.zip(&self.buckets).scan(0, |sum, (bound, bucket)| {
            *sum += bucket.get();
            Some((bound, *sum))
        })
    }

    /// All of them together, in seconds.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        Duration::from_nanos(self.nanos.get()).as_secs_f64()
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
    /// Records of those segments, where the source gives records one by one.
    pub records: Counter,
    /// Attempts that failed and are made again.
    pub retries: Counter,
    /// When the oldest object was changed last that the source knows of and that has not landed, in microseconds since 1970: a level, 0
    /// where there is none.
    pub oldest_unlanded: Counter,
    /// Time.
    pub clocks: Clocks,
}

impl StreamMetrics {
    /// Notes what the source knows of.
    pub fn unlanded_since(&self, oldest: Option<Timestamp>) {
        self.oldest_unlanded.set(oldest.and_then(|at| u64::try_from(at.as_micros()).ok()).unwrap_or(0));
    }
}

/// What a pipeline has done since the host started.
#[derive(Debug, Default)]
pub struct PipelineMetrics {
    /// Segments that loaded.
    pub segments_loaded: Counter,
    /// Segments that failed and wait: a level.
    pub segments_failed: Counter,
    /// Which they are.
    failed: Mutex<BTreeSet<SegmentId>>,
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
    /// Records that had been refused and were tried again.
    pub tried_again: Counter,
    /// Those of them that were not refused any more.
    pub healed: Counter,
    /// Records that loaded with something rescued.
    pub rescued: Counter,
    /// Batches in work now, of the record's way: for the progress of a segment that is large.
    pub records_in_work: Counter,
    /// Rows by table, of loads that are done.
    pub rows: Mutex<BTreeMap<String, u64>>,
    /// Refused records by stage and code, of loads that are done.
    pub rejects: Mutex<BTreeMap<(String, String), u64>>,
    /// What its rules counted and observed.
    pub rules: Mutex<RuleMetrics>,
    /// Values that were put into `_forebay_rescued`, by column; a segment that is refined again is counted again.
    pub rescued_columns: Mutex<BTreeMap<String, u64>>,
    /// How long batches took in all steps.
    pub batches: Histogram,
    /// How long calls of each step's rule took, the boundary included.
    pub calls: Mutex<BTreeMap<String, Arc<Histogram>>>,
    /// Time.
    pub clocks: Clocks,
}

/// Names that are kept of each kind; a rule that makes up more of them would fill the memory.
const MOST_NAMES: usize = 1024;

/// The name of what would be one too many.
const OTHER: &str = "other";

/// What rules counted and observed in calls that returned. A segment that is refined again is counted again.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct RuleMetrics {
    /// Sums by name.
    pub counters: BTreeMap<String, u64>,
    /// Observed values by name.
    pub observed: BTreeMap<String, Observed>,
}

/// Values that a rule observed under one name.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Observed {
    /// How many.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl RuleMetrics {
    /// Adds to a counter.
    pub fn count(&mut self, name: String, delta: u64) {
        if self.counters.len() < MOST_NAMES || self.counters.contains_key(&name) {
            let sum = self.counters.entry(name).or_insert(0);
            *sum = sum.saturating_add(delta);
        }
    }

    /// Adds a value.
    pub fn observe(&mut self, name: String, value: f64) {
        self.merge(name, Observed { count: 1, sum: value, min: value, max: value });
    }

    fn merge(&mut self, name: String, more: Observed) {
        if self.observed.len() >= MOST_NAMES && !self.observed.contains_key(&name) {
            return;
        }
        let Observed { count, sum, min, max } = more;
        self.observed
            .entry(name)
            .and_modify(|known| {
                known.count += count;
                known.sum += sum;
                known.min = known.min.min(min);
                known.max = known.max.max(max);
            })
            .or_insert(more);
    }

    /// Adds all of another's.
    pub fn add(&mut self, more: Self) {
        let Self { counters, observed } = more;
        counters.into_iter().for_each(|(name, delta)| self.count(name, delta));
        observed.into_iter().for_each(|(name, values)| self.merge(name, values));
    }

    /// Whether nothing was said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counters.is_empty() && self.observed.is_empty()
    }
}

impl PipelineMetrics {
    /// A segment has failed, once more or for the first time.
    pub fn failed(&self, segment: &SegmentId) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.insert(segment.clone());
        self.segments_failed.set(failed.len() as u64);
    }

    /// Another host has the pipeline: what it waits for is not this one's to tell any more.
    pub fn put_away(&self) {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.segments_failed.set(0);
        self.segments_waiting.set(0);
    }

    /// Segments have loaded, or others have taken their place.
    pub fn fails_no_more<'a>(&self, segments: impl IntoIterator<Item = &'a SegmentId>) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        for segment in segments {
            failed.remove(segment);
        }
        self.segments_failed.set(failed.len() as u64);
    }

    /// Adds what rules said of a segment.
    pub fn add_rules(&self, said: RuleMetrics) {
        if !said.is_empty() {
            self.rules.lock().unwrap_or_else(PoisonError::into_inner).add(said);
        }
    }

    /// The calls of a step's rule.
    #[must_use]
    pub fn calls_of(&self, step: &str) -> Arc<Histogram> {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(calls.entry(step.to_owned()).or_default())
    }

    /// Adds values that were put aside, by column.
    pub fn add_rescued(&self, columns: BTreeMap<String, u64>) {
        let mut map = self.rescued_columns.lock().unwrap_or_else(PoisonError::into_inner);
        for (column, values) in columns {
            let known = map.len() < MOST_NAMES || map.contains_key(&column);
            *map.entry(if known { column } else { OTHER.to_owned() }).or_insert(0) += values;
        }
    }

    /// Adds records that were refused, by stage and code.
    pub fn add_rejects<'a>(&self, rejects: impl IntoIterator<Item = &'a RejectCount>) {
        let mut map = self.rejects.lock().unwrap_or_else(PoisonError::into_inner);
        for RejectCount { stage, code, records } in rejects {
            let known = (stage.clone(), code.clone());
            // A rule that makes up codes without end is counted under one name.
            let key = if map.len() < MOST_NAMES || map.contains_key(&known) {
                known
            } else {
                (stage.clone(), OTHER.to_owned())
            };
            *map.entry(key).or_insert(0) += records;
        }
    }

    /// Adds rows that a table has gained.
    pub fn add_rows(&self, table: &str, rows: u64) {
        let mut map = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        *map.entry(table.to_owned()).or_insert(0) += rows;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_counted_by_their_bounds() {
        let times = Histogram::default();
        for millis in [0, 1, 2, 300, 60_000] {
            times.observe(Duration::from_millis(millis));
        }
        let counts: Vec<_> = times.cumulative().map(|(_, count)| count).collect();
        assert_eq!(counts, [1, 2, 3, 3, 3, 3, 3, 3, 3, 4, 4, 4, 4, 5]);
        assert!(
            (times.seconds() - 60.303).abs() < 1e-9 && times.cumulative().last().is_some_and(|(b, _)| b.is_infinite())
        );
    }

    #[test]
    fn columns_do_not_grow_without_end() {
        let metrics = PipelineMetrics::default();
        for number in 0..2 * MOST_NAMES {
            metrics.add_rescued(BTreeMap::from([(number.to_string(), 1)]));
        }
        let rescued = metrics.rescued_columns.lock().unwrap_or_else(PoisonError::into_inner);
        assert_eq!((rescued.len(), rescued[OTHER]), (MOST_NAMES + 1, MOST_NAMES as u64));
    }

    #[test]
    fn what_rules_say_is_summed_and_names_do_not_grow_without_end() {
        let mut all = RuleMetrics::default();
        for value in [3.0, -1.0, 2.0] {
            let mut said = RuleMetrics::default();
            said.count("seen".to_owned(), 2);
            said.observe("amount".to_owned(), value);
            all.add(said);
        }
        assert_eq!(all.counters["seen"], 6);
        assert_eq!(all.observed["amount"], Observed { count: 3, sum: 4.0, min: -1.0, max: 3.0 });
        for number in 0..2 * MOST_NAMES {
            all.count(number.to_string(), 1);
            all.observe(number.to_string(), 1.0);
        }
        all.count("seen".to_owned(), 1);
        assert_eq!((all.counters.len(), all.observed.len(), all.counters["seen"]), (MOST_NAMES, MOST_NAMES, 7));
    }
}
