//! Carries out what the state machine of a stream asks for, one effect after the other.

use std::collections::VecDeque;
use std::sync::Arc;

use forebay_model::ports::{Clock, JournalEntry, LandingZone, Ledger, Polled, Progress, Random, Source};
use forebay_model::{Error, RawBatch, Result, StreamName};
use tokio::sync::watch;

use super::land::{Lander, ObjectNaming};
use super::state::{Effect, Event, Intake, Report};
use crate::budget::Budget;
use crate::decoding::Decoding;
use crate::metrics::{Stage, StreamMetrics};

/// Builds a stream's source from where the ledger stands; again, whenever something that it delivered did not land.
pub type SourceFactory = Arc<dyn Fn(Arc<dyn Progress>) -> Result<Box<dyn Source>> + Send + Sync>;

/// Everything that a stream needs of the host.
#[derive(Clone)]
pub struct StreamContext {
    /// Its name.
    pub stream: StreamName,
    /// Builds its source.
    pub source: SourceFactory,
    /// The ledger.
    pub ledger: Arc<dyn Ledger>,
    /// The landing zone.
    pub zone: Arc<dyn LandingZone>,
    /// Its formats.
    pub decoding: Arc<dyn Decoding>,
    /// Names of objects.
    pub naming: ObjectNaming,
    /// The budget.
    pub budget: Budget,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub random: Arc<dyn Random>,
    /// What is counted.
    pub metrics: Arc<StreamMetrics>,
    /// Called at named points, for faults.
    pub failpoint: fn(&str),
}

/// Told what a stream does.
pub trait Listener: Send + Sync {
    /// Something to tell.
    fn report(&self, stream: &StreamName, report: &Report);
}

/// The ledger's view of one stream, for its source.
#[derive(Debug)]
pub struct StreamProgress {
    ledger: Arc<dyn Ledger>,
    stream: StreamName,
}

impl StreamProgress {
    /// Of a stream.
    #[must_use]
    pub fn new(ledger: Arc<dyn Ledger>, stream: StreamName) -> Self {
        Self { ledger, stream }
    }
}

#[async_trait::async_trait]
impl Progress for StreamProgress {
    async fn next_position(
        &self,
        partition: &forebay_model::Partition,
    ) -> Result<Option<forebay_model::OrderedPosition>> {
        self.ledger.next_position(&self.stream, partition).await
    }

    async fn latest_objects(
        &self,
        partition: &forebay_model::Partition,
        keys: &[String],
    ) -> Result<Vec<Option<forebay_model::ports::ObjectState>>> {
        self.ledger.latest_objects(&self.stream, partition, keys).await
    }
}

/// Runs a stream until it finishes: with `once` when the source has nothing more, else at `shutdown`.
///
/// # Errors
/// Why the stream stopped.
pub async fn run(
    context: StreamContext,
    once: bool,
    shutdown: watch::Receiver<bool>,
    listener: Arc<dyn Listener>,
) -> Result<()> {
    let state = Intake::new(context.ledger.id(), once);
    let mut driver = Driver { context, source: None, shutdown, listener };
    driver.run(state).await
}

struct Driver {
    context: StreamContext,
    source: Option<Box<dyn Source>>,
    shutdown: watch::Receiver<bool>,
    listener: Arc<dyn Listener>,
}

impl Driver {
    async fn run(&mut self, mut state: Intake) -> Result<()> {
        let mut effects: VecDeque<Effect> = state.step(Event::Start).into();
        while let Some(effect) = effects.pop_front() {
            if let Effect::Finish(result) = effect {
                return result;
            }
            if let Some(event) = self.perform(effect).await {
                effects.extend(state.step(event));
            }
            if effects.is_empty() && *self.shutdown.borrow() {
                effects.extend(state.step(Event::Shutdown));
            }
        }
        Ok(())
    }

    fn count(&self, report: &Report) {
        let metrics = &self.context.metrics;
        match report {
            Report::Listed(segments) => {
                metrics.segments.add(segments.len() as u64);
                metrics.records.add(segments.iter().filter_map(|segment| segment.records).sum());
                metrics.bytes.add(segments.iter().map(|segment| segment.bytes).sum());
                let mut objects: Vec<_> = segments.iter().map(|segment| &segment.object).collect();
                objects.dedup();
                metrics.objects.add(objects.len() as u64);
            }
            Report::Failed { .. } => metrics.retries.add(1),
            Report::CaughtUp => {}
        }
    }

    async fn perform(&mut self, effect: Effect) -> Option<Event> {
        let mut shutdown = self.shutdown.clone();
        match effect {
            Effect::FindUnjournalled => {
                Some(Event::Unjournalled(self.context.ledger.unjournalled(&self.context.stream).await))
            }
            Effect::Poll => tokio::select! {
                biased;
                _ = shutdown.wait_for(|stop| *stop) => Some(Event::Shutdown),
                polled = self.poll() => Some(Event::Polled(polled)),
            },
            Effect::WakeAfter(pause) => tokio::select! {
                biased;
                _ = shutdown.wait_for(|stop| *stop) => Some(Event::Shutdown),
                () = self.context.clock.sleep(pause) => Some(Event::Woke),
            },
            Effect::Land(batch) => Some(Event::Landed(self.context.land(batch).await)),
            Effect::List(landing) => {
                (self.context.failpoint)("after_land");
                let listed = self.context.ledger.land(&landing).await;
                (self.context.failpoint)("after_list");
                Some(Event::Listed(listed))
            }
            Effect::Journal(entry) => Some(Event::Journalled(self.context.journal(&entry).await)),
            Effect::Acknowledge(segments) => {
                (self.context.failpoint)("before_acknowledge");
                Some(Event::Acknowledged(match &mut self.source {
                    Some(source) => source.acknowledge(&segments).await,
                    None => Ok(()),
                }))
            }
            Effect::Discard(names) => {
                for name in names {
                    if let Err(error) = self.context.zone.delete(&name).await {
                        // Maintenance finds it: the ledger does not list it.
                        tracing::warn!(object = name, error = error.chain(), "orphan was not removed");
                    }
                }
                None
            }
            Effect::Report(report) => {
                self.count(&report);
                self.listener.report(&self.context.stream, &report);
                None
            }
            Effect::Reopen => {
                self.source = None;
                None
            }
            Effect::Finish(_) => None,
        }
    }

    async fn poll(&mut self) -> Result<Polled> {
        let source = match &mut self.source {
            Some(source) => source,
            None => {
                let progress = StreamProgress::new(Arc::clone(&self.context.ledger), self.context.stream.clone());
                self.source.insert((self.context.source)(Arc::new(progress))?)
            }
        };
        let polled = source.poll().await;
        self.context.metrics.unlanded_since(source.oldest_unlanded());
        polled
    }
}

impl StreamContext {
    async fn land(&self, batch: RawBatch) -> super::state::LandedBatch {
        let context = self;
        // Objects stream through; records are held whole.
        let bytes = match &batch {
            RawBatch::Objects(_) => context.zone.object_bytes(),
            RawBatch::Records(records) => records
                .spans
                .iter()
                .flat_map(|span| &span.records)
                .map(|record| 64 + record.value.as_ref().map_or(0, |value| value.len() as u64))
                .sum(),
        };
        let _held = context.budget.intake.take(bytes).await;
        let from = std::time::Instant::now();
        let lander = Lander {
            stream: &context.stream,
            zone: context.zone.as_ref(),
            ledger: context.ledger.as_ref(),
            decoding: context.decoding.as_ref(),
            naming: context.naming,
            clock: context.clock.as_ref(),
            random: context.random.as_ref(),
        };
        let landed = lander.land(batch).await;
        context.metrics.clocks.add_since(Stage::Land, from);
        landed
    }

    async fn journal(&self, entry: &JournalEntry) -> Result<()> {
        if !entry.segments.is_empty() {
            self.zone.journal(entry).await?;
            (self.failpoint)("after_journal");
        }
        self.ledger.mark_journalled(entry.attempt).await
    }
}

async fn check_empty(zone: &dyn LandingZone) -> Result<()> {
    if zone.list("").await?.is_empty() {
        return Ok(());
    }
    Err(Error::fenced("the landing zone is not empty, and no ledger has claimed it")
        .with_hint("give [landing] url an empty folder: what lies there was not landed by forebay"))
}

/// Entries of the journal that are looked at to tell whether the ledger is older: streams land beside one another, so the
/// newest entry alone does not tell.
const NEWEST: usize = 32;

/// Takes the landing zone for a ledger, or finds that it has it already.
///
/// # Errors
/// Class fenced, where the zone belongs to another ledger, the ledger is new beside a zone that is not, or it is older than
/// the zone's journal.
pub async fn claim_zone(zone: &dyn LandingZone, ledger: &dyn Ledger, clock: &dyn Clock) -> Result<()> {
    match zone.identity().await? {
        Some(identity) if identity.ledger == ledger.id() => check_journal(zone, ledger).await,
        Some(identity) => Err(Error::fenced(format!(
            "the landing zone belongs to ledger {}, and this is ledger {}",
            identity.ledger,
            ledger.id()
        ))
        .with_hint(
            "put the ledger of this zone back, or rebuild it with `forebay recover --replace`, or give the new ledger an \
             empty landing zone and new tables",
        )),
        None if ledger.read_table("objects").await?.num_rows() > 0 => {
            Err(Error::fenced("the ledger lists objects of another landing zone, and this one is empty")
                .with_hint("set [landing] url to the zone that the ledger belongs to, or give the new zone a ledger of its own"))
        }
        None => {
            check_empty(zone).await?;
            let identity = forebay_model::ports::ZoneIdentity { version: 1, ledger: ledger.id(), since: clock.now() };
            zone.claim(&identity).await
        }
    }
}

/// A ledger that does not list what the zone's journal says it accepted is an old copy: it would land again what it has, and
/// would not know what was acknowledged.
///
/// # Errors
/// Class fenced.
pub async fn check_journal(zone: &dyn LandingZone, ledger: &dyn Ledger) -> Result<()> {
    let journal = zone.read_journal(Some(NEWEST)).await?;
    for damaged in &journal.damaged {
        tracing::warn!(entry = damaged.name, what = damaged.what, "an entry of the journal cannot be read");
    }
    for entry in &journal.entries {
        let Some(first) = entry.segments.first() else { continue };
        if ledger.segment(&first.id).await?.is_none() {
            return Err(Error::fenced(format!(
                "the ledger is older than its landing zone: segment {} landed at {}, and the ledger does not list it",
                first.id, entry.landing.landed_at
            ))
            .with_hint(
                "put back the ledger that landed it, or rebuild it from the zone and the tables with \
                 `forebay recover --replace`",
            ));
        }
    }
    Ok(())
}
