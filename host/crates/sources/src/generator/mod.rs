//! Auction events made up from a seed: persons, auctions and bids, as the Nexmark benchmark defines them.
//!
//! A record source that needs nothing from outside, for tests, benches and first steps. Same settings, same records: event `n`
//! is a function of seed and `n` alone, and lies in partition `n % partitions` at offset `n / partitions`. The name of a
//! partition holds all settings that its content depends on, so a source with other settings begins anew and never goes on
//! in the middle of another one's records.
//!
//! Each record has a JSON object as its value, the id of its person or auction as its key, the headers `event` and
//! `source`, and the event's own time as its timestamp.

mod event;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use forebay_model::flow::{RawBatch, RawRecord, RawRecords, RecordSpan};
use forebay_model::ports::{Clock, Polled, Progress, Source};
use forebay_model::{Error, ErrorClass, OrderedPosition, Partition, Result, SegmentId, Timestamp};
use nexmark::EventGenerator;
use nexmark::config::NexmarkConfig;
use serde::{Deserialize, Serialize};

/// How long a poll waits where nothing is due.
const IDLE_AFTER: Duration = Duration::from_secs(1);
/// Events in a row that share the shape of the benchmark: 1 person, 3 auctions, 46 bids.
const EPOCH: u64 = 50;
/// How many events the numbers of one seed have room for before they meet those of the next.
const EVENTS_OF_A_SEED: u64 = EPOCH << 25;
/// The rate of event time where `rate` does not set it.
const EVENT_TIME_RATE: u32 = 10_000;

/// `source = { type = "generator", events = 1000000 }`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GeneratorConfig {
    /// Other seeds make other events.
    pub seed: u32,
    /// How many events there are in all; without it they never end (and `run --once` is refused).
    pub events: Option<u64>,
    /// Events a second, of the clock and of the events' own time; without it they come as fast as they are taken, 10,000 to
    /// the second of event time. `run --once` does not wait for the clock.
    pub rate: Option<u32>,
    /// How many partitions they are dealt to; at least 1.
    pub partitions: u32,
    /// The time of the first event, RFC 3339.
    pub start: String,
    /// How many events a batch holds at most, of all partitions together; at least 1.
    pub max_batch_events: u32,
}

impl Default for GeneratorConfig {
    fn default() -> Self {
        Self {
            seed: 0,
            events: None,
            rate: None,
            partitions: 4,
            start: "2024-01-01T00:00:00Z".to_owned(),
            max_batch_events: 8192,
        }
    }
}

impl GeneratorConfig {
    /// The keys, for hints.
    pub(crate) const KEYS: &[&str] = &["seed", "events", "rate", "partitions", "start", "max_batch_events"];

    /// Checks the settings.
    ///
    /// # Errors
    /// Where a number would stand still, or the start is no time.
    pub fn check(&self) -> Result<(), GeneratorError> {
        let numbers = [
            ("partitions", self.partitions),
            ("max_batch_events", self.max_batch_events),
            ("rate", self.rate.unwrap_or(1)),
        ];
        match numbers.into_iter().find(|(_, value)| *value == 0) {
            Some((key, _)) => Err(GeneratorError::Zero { key }),
            None => self.start_milliseconds().map(drop),
        }
    }

    fn start_milliseconds(&self) -> Result<u64, GeneratorError> {
        Timestamp::parse(&self.start)
            .and_then(|start| u64::try_from(start.as_micros() / 1000).ok())
            .ok_or_else(|| GeneratorError::Start { text: self.start.clone() })
    }
}

/// Settings that do not fit.
#[derive(Debug, thiserror::Error)]
pub enum GeneratorError {
    /// A number that must be at least 1.
    #[error("source of type generator: {key} must be at least 1")]
    Zero {
        /// The key.
        key: &'static str,
    },
    /// A time that cannot be read.
    #[error("source of type generator: start = {text:?} is not a time after 1970")]
    Start {
        /// As configured.
        text: String,
    },
    /// Read until it ends, and without an end.
    #[error("source of type generator: without `events` it never ends")]
    Endless,
    /// The ledger has a position that no generator made.
    #[error("{partition}: the ledger stands at {position}, which is no offset")]
    Position {
        /// The partition.
        partition: Partition,
        /// Where the ledger stands.
        position: OrderedPosition,
    },
}

impl GeneratorError {
    /// What can be done about it.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Zero { .. } | Self::Start { .. } | Self::Endless => ErrorClass::Operator,
            Self::Position { .. } => ErrorClass::Bug,
        }
    }

    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Zero { .. } => Some("leave the key out for its default"),
            Self::Start { .. } => Some("write it like \"2024-01-01T00:00:00Z\""),
            Self::Endless => Some("set `events`, for example events = 100000, or run without --once"),
            Self::Position { .. } => None,
        }
    }
}

impl From<GeneratorError> for Error {
    fn from(error: GeneratorError) -> Self {
        let out = Self::new(error.class(), error.to_string());
        match error.hint() {
            Some(hint) => out.with_hint(hint),
            None => out,
        }
    }
}

/// A partition and where it stands.
#[derive(Debug, Clone)]
struct Lane {
    partition: Partition,
    /// The number among the partitions.
    number: u64,
    /// The offset of its next record; `None` until the ledger has been asked.
    next: Option<u64>,
}

/// Auction events as a source; see the [module](self).
#[derive(Debug)]
pub struct GeneratorSource {
    config: GeneratorConfig,
    nexmark: NexmarkConfig,
    lanes: Vec<Lane>,
    /// Which lane the next batch begins with.
    turn: usize,
    progress: Arc<dyn Progress>,
    clock: Arc<dyn Clock>,
    once: bool,
    /// When the first poll was, and how many events had been delivered then: the rate counts from there.
    began: Option<(Timestamp, u64)>,
}

impl GeneratorSource {
    /// Opens a generator.
    ///
    /// # Errors
    /// Where the settings do not fit.
    pub fn open(
        config: GeneratorConfig,
        progress: Arc<dyn Progress>,
        clock: Arc<dyn Clock>,
        once: bool,
    ) -> Result<Self, GeneratorError> {
        config.check()?;
        if once && config.events.is_none() {
            return Err(GeneratorError::Endless);
        }
        let start = config.start_milliseconds()?;
        let rate = config.rate.unwrap_or(EVENT_TIME_RATE);
        let content = format!("seed={},start={start},rate={rate},partitions={}", config.seed, config.partitions);
        let lane = |number: u32| Lane {
            partition: Partition::new(format!("generator:{content}/{number}")),
            number: u64::from(number),
            next: None,
        };
        Ok(Self {
            nexmark: nexmark(config.seed, start, rate),
            lanes: (0..config.partitions).map(lane).collect(),
            turn: 0,
            config,
            progress,
            clock,
            once,
            began: None,
        })
    }

    /// Asks the ledger where the partitions stand.
    async fn stand(&mut self) -> Result<()> {
        for lane in &mut self.lanes {
            if lane.next.is_none() {
                let position = self.progress.next_position(&lane.partition).await?;
                lane.next = Some(match position {
                    None => 0,
                    Some(position) => u64::try_from(position.number).map_err(|_| {
                        Error::from(GeneratorError::Position { partition: lane.partition.clone(), position })
                    })?,
                });
            }
        }
        Ok(())
    }

    /// How many events are there at a time, delivered ones counted.
    fn available(&mut self, now: Timestamp) -> u64 {
        let delivered = self.lanes.iter().filter_map(|lane| lane.next).sum();
        let (began, before) = *self.began.get_or_insert((now, delivered));
        let all = self.config.events.unwrap_or(u64::MAX);
        match self.config.rate {
            Some(rate) if !self.once => {
                let due = u128::from(rate) * now.since(began).as_micros() / 1_000_000;
                all.min(before.saturating_add(u64::try_from(due).unwrap_or(u64::MAX)))
            }
            Some(_) | None => all,
        }
    }

    /// Which records of which lanes come next: lane, first offset, count.
    fn plan(&self, available: u64) -> Vec<(usize, u64, u64)> {
        let count = self.lanes.len();
        let partitions = count as u64;
        let mut room = u64::from(self.config.max_batch_events);
        let share = room.div_ceil(partitions);
        let mut plan = Vec::new();
        for index in (0..count).map(|step| (self.turn + step) % count.max(1)) {
            let Some(lane) = self.lanes.get(index) else { continue };
            let next = lane.next.unwrap_or(0);
            // Events number, number + partitions, … below `available`.
            let end = available.saturating_sub(lane.number).div_ceil(partitions);
            let take = end.saturating_sub(next).min(share).min(room);
            if take > 0 {
                room -= take;
                plan.push((index, next, take));
            }
        }
        plan
    }

    async fn generate(&mut self, plan: Vec<(usize, u64, u64)>) -> Result<RawRecords> {
        let partitions = self.lanes.len() as u64;
        let work: Vec<_> = plan
            .iter()
            .filter_map(|(index, first, count)| Some((self.lanes.get(*index)?.clone(), *first, *count)))
            .collect();
        let nexmark = self.nexmark.clone();
        let spans = tokio::task::spawn_blocking(move || {
            work.into_iter().map(|(lane, first, count)| span(&nexmark, &lane, partitions, first, count)).collect()
        });
        let spans = spans.await.map_err(|gone| Error::retry(format!("generating was interrupted: {gone}")))?;
        for (index, first, count) in &plan {
            if let Some(lane) = self.lanes.get_mut(*index) {
                lane.next = Some(first + count);
            }
            self.turn = index + 1;
        }
        Ok(RawRecords { spans })
    }
}

#[async_trait]
impl Source for GeneratorSource {
    fn kind(&self) -> &'static str {
        "generator"
    }

    async fn poll(&mut self) -> Result<Polled> {
        self.stand().await?;
        let began = self.clock.now();
        loop {
            let now = self.clock.now();
            let available = self.available(now);
            let plan = self.plan(available);
            if !plan.is_empty() {
                return Ok(Polled::Batch(RawBatch::Records(self.generate(plan).await?)));
            }
            let left = IDLE_AFTER.checked_sub(now.since(began)).filter(|left| !left.is_zero());
            match left {
                Some(left) if available < self.config.events.unwrap_or(u64::MAX) => {
                    self.clock.sleep(left.min(Duration::from_millis(50))).await;
                }
                Some(left) if !self.once => self.clock.sleep(left).await,
                Some(_) | None => return Ok(Polled::Idle),
            }
        }
    }

    async fn acknowledge(&mut self, landed: &[SegmentId]) -> Result<()> {
        tracing::debug!(segments = landed.len(), "landed");
        Ok(())
    }
}

/// The benchmark's own settings; what is not named here is its default.
fn nexmark(seed: u32, start_milliseconds: u64, rate: u32) -> NexmarkConfig {
    let number = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
    NexmarkConfig {
        base_time: start_milliseconds,
        // Numbers are what events are drawn from; a multiple of the epoch keeps the ids of auctions and persons in step.
        first_event_id: number(u64::from(seed) * EVENTS_OF_A_SEED),
        first_rate: number(u64::from(rate)),
        next_rate: number(u64::from(rate)),
        ..NexmarkConfig::default()
    }
}

fn span(nexmark: &NexmarkConfig, lane: &Lane, partitions: u64, first: u64, count: u64) -> RecordSpan {
    let events =
        EventGenerator::new(nexmark.clone()).with_offset(lane.number + first * partitions).with_step(partitions);
    let records = (first..first + count).zip(events).map(|(offset, event)| {
        let event = event::Event::of(&event);
        RawRecord {
            position: OrderedPosition::new(offset),
            key: Some(event.key().into()),
            value: Some(event.json().into()),
            headers: vec![
                ("event".to_owned(), Some(event.kind().into())),
                ("source".to_owned(), Some("nexmark".into())),
            ],
            timestamp: Some(event.time()),
        }
    });
    RecordSpan {
        partition: lane.partition.clone(),
        first: OrderedPosition::new(first),
        next: OrderedPosition::new(first + count),
        records: records.collect(),
    }
}

#[cfg(test)]
mod tests;
