//! The world of a seed: everything that is outside of the process, and the lives that processes have in it.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use forebay_format::Formats;
use forebay_model::ports::Clock;
use forebay_model::position::Position;
use forebay_model::{PipelineName, Revision, RevisionId, SegmentId};
use forebay_sources::MemoryUpstream;
use forebay_sources::memory::Fault;

use super::check;
use super::clock::SimClock;
use super::faults::{Acknowledged, Chaos, SimRandom, Weather};
use super::process::{End, Life, is_allowed, live, maintain, sweep};
use super::rebuild::rebuild;
use super::rule::{Config, SimDecoding};
use super::scenario::{Action, Scenario, Shape};
use super::storage::Storage;
use super::tally::Tally;

/// Everything that outlives a process.
pub(crate) struct World {
    pub(crate) clock: Arc<SimClock>,
    pub(crate) chaos: Arc<Chaos>,
    pub(crate) random: Arc<SimRandom>,
    pub(crate) upstream: MemoryUpstream,
    pub(crate) storage: Box<dyn Storage>,
    pub(crate) decoding: Arc<SimDecoding>,
    pub(crate) widen_max_bytes: u64,
    /// So many lives come before the last of the pipelines does.
    late: u64,
    scenario: Mutex<Scenario>,
    /// By id, the configs of all revisions that were submitted.
    revisions: Mutex<BTreeMap<String, Config>>,
    /// Revisions that may have been active, by pipeline, in their order.
    once_active: Mutex<BTreeMap<PipelineName, Vec<RevisionId>>>,
    /// Revisions that replays asked for, whatever became of them.
    asked_for: Mutex<BTreeSet<RevisionId>>,
    /// Whether people want what works.
    healed: AtomicBool,
    /// Whether upstream removes what was acknowledged.
    forgetful: bool,
    acknowledgements: AtomicU64,
    rebuilt: AtomicBool,
}

/// What came of a seed.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// What must never be, and was.
    pub(crate) violations: Vec<String>,
    /// What happened, where it was asked for.
    pub(crate) trace: Vec<String>,
    pub(crate) tally: Tally,
}

/// Makes the stores of a world.
pub(crate) type MakeStorage = fn(seed: u64, clock: &Arc<SimClock>, random: &Arc<SimRandom>) -> Box<dyn Storage>;

/// Runs a seed: processes live and die, the last one lives on in fair weather; then everything is compared. A panic is a
/// violation like others, and costs neither the seed's number nor its story.
pub(crate) fn run(seed: u64, verbose: bool, make: MakeStorage) -> Outcome {
    let world = match caught(|| World::new(seed, verbose, make)) {
        Ok(world) => Arc::new(world),
        Err(panic) => return Outcome { violations: vec![panic], trace: Vec::new(), tally: Tally::default() },
    };
    if let Err(panic) = caught(|| world.story()) {
        world.fail(panic);
    }
    let mut tally = world.chaos.tally();
    tally += world.scenario().tally;
    Outcome { violations: world.chaos.violations(), trace: world.chaos.trace(), tally }
}

fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    let panicked = |panic: Box<dyn Any + Send>| format!("a thread panicked: {}", message(panic.as_ref()));
    catch_unwind(AssertUnwindSafe(work)).map_err(panicked)
}

/// What a panic says.
pub(crate) fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

impl World {
    fn new(seed: u64, verbose: bool, make: MakeStorage) -> Self {
        let clock = SimClock::new();
        let random = SimRandom::new(seed ^ 0x7261_6e64);
        let mut scenario = Scenario::new(seed);
        let mut late = fastrand::Rng::with_seed(seed ^ 0x6c61_7465);
        let formats = Formats::from_config(&serde_json::json!("json")).unwrap();
        Self {
            chaos: Chaos::new(seed ^ 0x6368_616f, Arc::clone(&clock), verbose),
            upstream: MemoryUpstream::default(),
            storage: make(seed, &clock, &random),
            decoding: Arc::new(SimDecoding { formats, target: scenario.number(100..1200) }),
            widen_max_bytes: if scenario.chance(80) { u64::MAX } else { 0 },
            forgetful: scenario.chance(50),
            late: if late.u32(0..100) < 30 { late.u64(1..4) } else { 0 },
            scenario: Mutex::new(scenario),
            revisions: Mutex::default(),
            once_active: Mutex::default(),
            asked_for: Mutex::default(),
            healed: AtomicBool::new(false),
            acknowledgements: AtomicU64::new(0),
            rebuilt: AtomicBool::new(false),
            random,
            clock,
        }
    }

    fn story(self: &Arc<Self>) {
        let lives = self.number(1..5);
        for number in 0..lives {
            self.between();
            let without_last = number < self.late;
            let life = Life { once: self.chance(40), actions: self.number(0..10), without_last };
            self.chaos.begin_life(self.weather());
            let end = live(self, life);
            self.chaos.count(|tally| end.count(life, tally));
            if !is_allowed(&end) {
                self.fail(format!("a process ended as none may: {end:?}"));
            }
            if !self.chaos.violations().is_empty() {
                return;
            }
        }
        self.recover();
    }

    pub(crate) fn scenario(&self) -> MutexGuard<'_, Scenario> {
        self.scenario.lock().unwrap()
    }

    pub(crate) fn number(&self, range: std::ops::Range<u64>) -> u64 {
        self.scenario().number(range)
    }

    pub(crate) fn chance(&self, of_hundred: u32) -> bool {
        self.scenario().chance(of_hundred)
    }

    /// Notes the config of a revision.
    pub(crate) fn know(&self, revision: &Revision, config: Config) {
        self.revisions.lock().unwrap().insert(revision.id().to_string(), config);
    }

    /// Notes a revision that is about to be active.
    pub(crate) fn may_be_active(&self, pipeline: &PipelineName, revision: RevisionId) {
        let mut once_active = self.once_active.lock().unwrap();
        let known = once_active.entry(pipeline.clone()).or_default();
        known.retain(|known| *known != revision);
        known.push(revision);
    }

    /// Revisions that may have been active.
    pub(crate) fn once_active(&self, pipeline: &PipelineName) -> Vec<RevisionId> {
        self.once_active.lock().unwrap().get(pipeline).cloned().unwrap_or_default()
    }

    /// Notes a revision that a replay is about to ask for.
    pub(crate) fn ask_for(&self, revision: RevisionId) {
        self.asked_for.lock().unwrap().insert(revision);
    }

    /// Whether a revision may have made rows of a pipeline: it was active, or a replay asked for it.
    pub(crate) fn may_have_refined(&self, pipeline: &PipelineName, revision: RevisionId) -> bool {
        self.once_active(pipeline).contains(&revision) || self.asked_for.lock().unwrap().contains(&revision)
    }

    /// Whether the story is at its end: people want what works, and bring it.
    pub(crate) fn is_healed(&self) -> bool {
        self.healed.load(Ordering::SeqCst)
    }

    /// The config of a revision.
    pub(crate) fn config(&self, revision: &str) -> Option<Config> {
        self.revisions.lock().unwrap().get(revision).copied()
    }

    /// All configs that there ever were.
    pub(crate) fn configs(&self) -> Vec<Config> {
        self.revisions.lock().unwrap().values().copied().collect()
    }

    fn fail(&self, what: String) {
        // The process that did it has ended; what it did counts.
        self.chaos.begin_life(Weather::default());
        self.chaos.violation(what);
    }

    /// Carries out an action of the world outside.
    pub(crate) fn upstream(&self, action: Action) {
        match action {
            Action::Put { key, version, content, on_change } => {
                self.upstream.put_as(&key, &version, content, on_change)
            }
            Action::Append { partition, values } => self.upstream.append(&partition, values),
            Action::Spoil { key, open, times } => {
                self.upstream.fail(&key, if open { Fault::Open } else { Fault::Read }, times);
            }
            Action::Submit { .. }
            | Action::RollBack { .. }
            | Action::Pause { .. }
            | Action::Shadow { .. }
            | Action::Maintain { .. }
            | Action::Sweep
            | Action::Approve
            | Action::Again { .. } => {}
        }
    }

    /// Now and then the ledger is lost, and rebuilt.
    fn lose_ledger(&self) {
        if !self.chance(20) {
            return;
        }
        let all = self.chance(25);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        match runtime.block_on(rebuild(self, all)) {
            Ok(true) => {
                self.rebuilt.store(true, Ordering::SeqCst);
                runtime.block_on(self.note_active());
                self.chaos.count(|tally| {
                    tally.rebuilt += 1;
                    tally.rebuilt_refining_all += u64::from(all);
                });
            }
            Ok(false) => {}
            Err(error) => self.fail(format!("a ledger that is lost is not rebuilt: {}", error.chain())),
        }
        // What it opened goes with it.
        self.storage.ended(false);
    }

    /// Whether a ledger was rebuilt: then counts of what it did not refine itself are gone.
    pub(crate) fn is_rebuilt(&self) -> bool {
        self.rebuilt.load(Ordering::SeqCst)
    }

    /// While no process runs.
    fn between(&self) {
        self.lose_ledger();
        for _ in 0..self.number(0..4) {
            let action = self.scenario().upstream();
            self.chaos.note(|| format!("→  {action:?}"));
            self.upstream(action);
        }
        // Now and then for so long that a sweep or a vacuum of the next process finds what the last one left.
        let longest = if self.chance(60) { 40_000 } else { 4_000 };
        let pause = self.number(0..longest);
        self.clock.advance(Duration::from_secs(pause));
    }

    fn weather(&self) -> Weather {
        let mut scenario = self.scenario();
        let failing = [0, 20, 80, 250][usize::try_from(scenario.number(0..4)).unwrap()];
        let slow = [0, 100, 400][usize::try_from(scenario.number(0..3)).unwrap()];
        let losing = [0, 0, 60, 250][usize::try_from(scenario.number(0..4)).unwrap()];
        let longest = 1 << scenario.number(2..11);
        let crash_at = scenario.chance(65).then(|| scenario.number(1..longest));
        Weather { failing, slow, losing, crash_at }
    }

    /// The last processes: nothing goes wrong any more, so everything must come right.
    fn recover(self: &Arc<Self>) {
        self.lose_ledger();
        self.scenario().heal();
        self.healed.store(true, Ordering::SeqCst);
        for key in self.upstream.snapshot().objects.keys() {
            self.upstream.fail(key, Fault::Read, 0);
        }
        let action = self.scenario().upstream();
        self.chaos.note(|| format!("→  {action:?}"));
        self.upstream(action);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(self.resume_all());
        let before = runtime.block_on(check::segments(self));
        self.storage.ended(false);
        for _ in 0..2 {
            self.chaos.begin_life(Weather::default());
            let end = live(self, Life { once: true, actions: 0, without_last: false });
            if !matches!(end, End::Finished(Ok(()))) {
                return self.fail(format!("nothing goes wrong any more, and yet: {end:?}"));
            }
        }
        self.chaos.begin_life(Weather::default());
        for what in runtime.block_on(check::check(self, before)) {
            self.chaos.violation(what);
        }
        if self.chaos.violations().is_empty() {
            runtime.block_on(self.tidy(before));
        }
        self.storage.ended(false);
    }

    /// A rebuilt ledger goes on with who made the last load, or where there is none with what the zone has kept last: that may be one
    /// which was about to be active.
    async fn note_active(&self) {
        let stores = self.storage.open().await.unwrap();
        let names: Vec<_> = self.scenario().pipelines.iter().map(|shape| shape.name.clone()).collect();
        for name in names {
            let name = PipelineName::new(&name).unwrap();
            if let Some(active) = stores.ledger.active(&name).await.unwrap() {
                self.may_be_active(&name, active.revision.id);
            }
        }
    }

    /// Nobody has forgotten a pause.
    async fn resume_all(&self) {
        let stores = self.storage.open().await.unwrap();
        let names: Vec<_> = self.scenario().pipelines.iter().map(|shape| shape.name.clone()).collect();
        for name in names {
            stores.ledger.resume(&PipelineName::new(&name).unwrap()).await.unwrap();
        }
    }

    /// Maintenance changes no row, and leaves nothing that no ledger and no table knows.
    async fn tidy(&self, before: u64) {
        let tables: Vec<_> = self.scenario().pipelines.iter().flat_map(Shape::tables).collect();
        // What the first one replaces is old when the second one comes.
        for _ in 0..2 {
            self.clock.advance(Duration::from_secs(3 * 3600));
            self.storage.age();
            self.storage.ended(false);
            let stores = self.storage.open().await.unwrap();
            for table in &tables {
                if let Err(error) = maintain(&stores, self, table).await {
                    self.chaos.violation(format!("{table} is not maintained: {error}"));
                }
            }
            match sweep(&stores, self, None).await {
                Ok(swept) if swept.missing == 0 => {}
                swept => self.chaos.violation(format!("the zone is not swept: {swept:?}")),
            }
        }
        for what in check::check(self, before).await.into_iter().chain(check::orphans(self).await) {
            self.chaos.violation(format!("after maintenance: {what}"));
        }
        for left in self.storage.leftovers(&tables).await {
            self.chaos.violation(format!("maintenance leaves {left}, which is in none of its tables"));
        }
    }
}

/// What was acknowledged must be safe; and a forgetful upstream forgets it.
#[async_trait]
impl Acknowledged for World {
    async fn acknowledged(&self, landed: &[SegmentId]) {
        let stores = self.storage.open().await.unwrap();
        let often = self.acknowledgements.fetch_add(1, Ordering::SeqCst).is_multiple_of(8);
        let journal = if often { stores.zone.journal_entries().await } else { Ok(Vec::new()) };
        let journal = journal.unwrap_or_else(|error| {
            self.chaos.violation(format!("the journal cannot be read: {error}"));
            Vec::new()
        });
        let journalled: Vec<_> = journal.iter().flat_map(|entry| &entry.segments).map(|segment| &segment.id).collect();
        for id in landed {
            let Some(segment) = stores.ledger.segment(id).await.unwrap() else {
                self.chaos.violation(format!("{id} is acknowledged, and the ledger does not list it"));
                continue;
            };
            if stores.zone.list(&segment.object).await.unwrap().is_empty() {
                self.chaos.violation(format!("{id} is acknowledged, and its object is not in the zone"));
            }
            if often && !journalled.contains(&id) {
                self.chaos.violation(format!("{id} is acknowledged, and the journal does not have it"));
            }
            if self.forgetful {
                self.forget(&segment.partition, &segment.first, segment.next.as_ref());
            }
        }
    }
}

impl World {
    fn forget(&self, partition: &forebay_model::Partition, first: &Position, next: Option<&Position>) {
        let mut state = self.upstream.snapshot();
        match (first, next) {
            (Position::Object { key, version, range: _ }, _) => {
                if state.objects.get(key).is_some_and(|object| object.version == *version) {
                    state.objects.remove(key);
                }
            }
            (Position::Ordered(first), Some(Position::Ordered(next))) => {
                let place = |position: &forebay_model::OrderedPosition| position.number.as_usize();
                if let Some(records) = state.partitions.get_mut(partition) {
                    for record in &mut records[place(first)..place(next)] {
                        record.value = Some("\"forgotten\"".into());
                    }
                }
            }
            (Position::Ordered(_), _) => {}
        }
        self.upstream.restore(state);
    }
}

/// Time, as the ports want it.
pub(crate) fn as_clock(clock: &Arc<SimClock>) -> Arc<dyn Clock> {
    Arc::clone(clock) as Arc<dyn Clock>
}
