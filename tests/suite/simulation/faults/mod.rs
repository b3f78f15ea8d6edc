//! What goes wrong, and when: one decorator for each port, all of them asking one [`Chaos`].
//!
//! Each call of a port may be delayed, fail before it has done anything, fail after it has done all of it (the lost answer), or
//! be the last thing that the process does; what is written to the zone may be half there then. A staged file may be gone when its
//! load is committed, which the warehouse refuses for good. A process that has died does nothing any more: calls that come after it never
//! answer and have no effect.

mod ledger;
mod source;
mod warehouse;
mod zone;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use forebay_model::load::{Again, LoadGroup};
use forebay_model::ports::{Clock as _, Random};
use forebay_model::{Error, PipelineName, Result, SegmentId};
use uuid::Uuid;

pub(crate) use self::ledger::FaultyLedger;
pub(crate) use self::source::{Acknowledged, FaultySource};
pub(crate) use self::warehouse::FaultyWarehouse;
pub(crate) use self::zone::FaultyZone;
use super::clock::SimClock;
use super::tally::Tally;

/// More calls than any life needs: beyond, it goes round in circles.
const MOST_CALLS: u64 = 20_000;

/// What happens to one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// An error that may go away, and nothing was done.
    Refused,
    /// An error that a person would have to look at, and nothing was done.
    Operator,
    /// An error, and all was done.
    AnswerLost,
    /// An error, and a part was written; only where something is written in parts.
    Torn,
    /// The process dies before.
    CrashBefore,
    /// The process dies after.
    CrashAfter,
}

impl Fault {
    fn count(self, tally: &mut Tally) {
        match self {
            Self::None => {}
            Self::Refused => tally.fault_refused += 1,
            Self::Operator => tally.fault_operator += 1,
            Self::AnswerLost => tally.fault_answer_lost += 1,
            Self::Torn => tally.fault_torn += 1,
            Self::CrashBefore => tally.fault_crash_before += 1,
            Self::CrashAfter => tally.fault_crash_after += 1,
        }
    }
}

/// How much goes wrong in a life.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Weather {
    /// Calls of a thousand that fail.
    pub(crate) failing: u32,
    /// Calls of a thousand that are slow.
    pub(crate) slow: u32,
    /// Commits of a thousand that find a staged file gone.
    pub(crate) losing: u32,
    /// The process dies at this call, counted from 1.
    pub(crate) crash_at: Option<u64>,
}

/// Decides what goes wrong, and writes down everything that happens.
#[derive(Debug)]
pub(crate) struct Chaos {
    pub(crate) clock: Arc<SimClock>,
    state: Mutex<State>,
    /// Calls that a store is working on.
    busy: AtomicUsize,
}

/// A call that a store is working on.
struct Busy<'a>(&'a AtomicUsize);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[derive(Debug)]
struct State {
    rng: fastrand::Rng,
    weather: Weather,
    calls: u64,
    dead: Option<&'static str>,
    bursts: BTreeMap<&'static str, (u32, Fault)>,
    verbose: bool,
    trace: Vec<String>,
    violations: Vec<String>,
    tally: Tally,
    /// Segments whose rejects were tried again, by pipeline.
    healed: BTreeSet<(PipelineName, SegmentId)>,
    main: Option<Waker>,
}

#[derive(Debug, Clone, Copy)]
struct Turn {
    before: Duration,
    after: Duration,
    fault: Fault,
}

impl Chaos {
    /// Fair weather. A verbose one writes a line for each call.
    pub(crate) fn new(seed: u64, clock: Arc<SimClock>, verbose: bool) -> Arc<Self> {
        let state = State {
            rng: fastrand::Rng::with_seed(seed),
            weather: Weather::default(),
            calls: 0,
            dead: None,
            bursts: BTreeMap::new(),
            verbose,
            trace: Vec::new(),
            violations: Vec::new(),
            tally: Tally::default(),
            healed: BTreeSet::new(),
            main: None,
        };
        Arc::new(Self { clock, state: Mutex::new(state), busy: AtomicUsize::new(0) })
    }

    /// Notes what of a group that is opened is loaded already.
    pub(crate) fn refined_again(&self, group: &LoadGroup) {
        let mut state = self.state();
        for segment in &group.segments {
            match segment.again {
                Some(Again::Heal) => {
                    state.tally.heal_begun += 1;
                    state.tally.records_healed += segment.counts.loaded + segment.counts.filtered;
                    state.healed.insert((group.pipeline.clone(), segment.segment.clone()));
                }
                Some(Again::Replay) => state.tally.replay_begun += 1,
                None => {}
            }
        }
    }

    /// Whether rejects of a segment were ever tried again.
    pub(crate) fn was_healed(&self, pipeline: &str, segment: &str) -> bool {
        self.state().healed.iter().any(|(of, id)| of.as_str() == pipeline && id.as_str() == segment)
    }

    /// Whether a replay was ever asked for under a revision.
    pub(crate) fn has_replayed_under(&self) -> bool {
        self.state().tally.replay_under > 0
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A seed whose thread panicked tells its story all the same.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts something that came to pass.
    pub(crate) fn count(&self, add: impl FnOnce(&mut Tally)) {
        add(&mut self.state().tally);
    }

    pub(crate) fn tally(&self) -> Tally {
        self.state().tally
    }

    /// A new process begins.
    pub(crate) fn begin_life(&self, weather: Weather) {
        let mut state = self.state();
        state.weather = weather;
        state.calls = 0;
        state.dead = None;
        state.bursts.clear();
        drop(state);
        self.note(|| format!("── a process starts: {weather:?}"));
    }

    /// Why the process is dead, where it is. Otherwise `waker` is woken when it dies.
    pub(crate) fn death(&self, waker: &Waker) -> Option<&'static str> {
        let mut state = self.state();
        if state.dead.is_none() {
            state.main = Some(waker.clone());
        }
        state.dead
    }

    /// Whether the process is dead.
    pub(crate) fn is_dead(&self) -> bool {
        self.state().dead.is_some()
    }

    /// The process dies here.
    pub(crate) fn die(&self, why: &'static str) {
        self.note(|| format!("†  {why}"));
        let mut state = self.state();
        state.dead.get_or_insert(why);
        if let Some(main) = state.main.take() {
            main.wake();
        }
    }

    /// A line of the trace, made only where somebody will read it.
    pub(crate) fn note(&self, line: impl FnOnce() -> String) {
        let mut state = self.state();
        if state.verbose {
            let now = self.clock.now();
            let line = format!("{now} {}", line());
            state.trace.push(line);
        }
    }

    /// Something that must never be. What a dead process says does not count.
    pub(crate) fn violation(&self, what: String) {
        if !self.is_dead() {
            self.note(|| format!("!! {what}"));
            self.state().violations.push(what);
        }
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        self.state().violations.clone()
    }

    pub(crate) fn trace(&self) -> Vec<String> {
        self.state().trace.clone()
    }

    /// A short while, for work that takes its time.
    pub(crate) fn while_(&self) -> Duration {
        Duration::from_micros(self.state().rng.u64(0..50_000))
    }

    fn turn(&self, op: &'static str, detail: impl FnOnce() -> String) -> Turn {
        let mut state = self.state();
        state.calls += 1;
        if state.calls > MOST_CALLS {
            drop(state);
            self.violation(format!("the process makes more than {MOST_CALLS} calls: it goes round in circles at {op}"));
            self.die("it never ends");
            return Turn { before: Duration::ZERO, after: Duration::ZERO, fault: Fault::CrashBefore };
        }
        let fault = state.fault(op);
        fault.count(&mut state.tally);
        let (before, after) = (state.delay(), state.delay());
        state.tally.slow += u64::from(!(before + after).is_zero());
        let calls = state.calls;
        drop(state);
        self.note(|| match fault {
            Fault::None => format!("{calls:>4} {op} {}", detail()),
            Fault::Refused
            | Fault::Operator
            | Fault::AnswerLost
            | Fault::Torn
            | Fault::CrashBefore
            | Fault::CrashAfter => format!("{calls:>4} {op} {} ◀ {fault:?}", detail()),
        });
        Turn { before, after, fault }
    }

    /// Whether a store is working on a call: then time stands still.
    pub(crate) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::SeqCst) > 0
    }

    /// Carries out a call of a store, with what goes wrong.
    pub(crate) async fn call<T>(
        &self,
        op: &'static str,
        detail: impl FnOnce() -> String,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        self.call_through(op, detail, self.working(work)).await
    }

    /// While a store works, which may be on threads of its own, time stands still.
    pub(crate) async fn working<T>(&self, work: impl Future<Output = T>) -> T {
        self.busy.fetch_add(1, Ordering::SeqCst);
        let _busy = Busy(&self.busy);
        work.await
    }

    /// Likewise for a call that calls others itself.
    pub(crate) async fn call_through<T>(
        &self,
        op: &'static str,
        detail: impl FnOnce() -> String,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        self.alive().await;
        let Turn { before, after, fault } = self.turn(op, detail);
        self.pause(before).await;
        match fault {
            Fault::Refused | Fault::Torn => return Err(Error::retry(format!("{op} was refused"))),
            Fault::Operator => return Err(Error::operator(format!("{op} is not possible now"))),
            Fault::CrashBefore => {
                self.die(op);
                self.alive().await;
            }
            Fault::None | Fault::AnswerLost | Fault::CrashAfter => {}
        }
        let result = work.await;
        // What a real store still does after the process died does not come back to it.
        self.alive().await;
        if fault == Fault::CrashAfter {
            self.die(op);
            self.alive().await;
        }
        self.pause(after).await;
        match (fault, result) {
            (Fault::AnswerLost, Ok(_)) => Err(Error::retry(format!("the answer of {op} was lost"))),
            (_, result) => result,
        }
    }

    /// Likewise for a call that blocks: it cannot wait, and of a dead process it gives an error that nobody will hear of.
    pub(crate) fn call_now<T>(
        &self,
        op: &'static str,
        detail: impl FnOnce() -> String,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let dead = || Err(Error::retry("the process is dead"));
        if self.is_dead() {
            return dead();
        }
        let Turn { before: _, after: _, fault } = self.turn(op, detail);
        match fault {
            Fault::Refused | Fault::Torn => return Err(Error::retry(format!("{op} was refused"))),
            Fault::Operator => return Err(Error::operator(format!("{op} is not possible now"))),
            Fault::CrashBefore => {
                self.die(op);
                return dead();
            }
            Fault::None | Fault::AnswerLost | Fault::CrashAfter => {}
        }
        let result = work();
        match (fault, result) {
            (Fault::CrashAfter, _) => {
                self.die(op);
                dead()
            }
            (Fault::AnswerLost, Ok(_)) => Err(Error::retry(format!("the answer of {op} was lost"))),
            (_, result) => result,
        }
    }

    /// Whether something that is written in parts is torn here.
    pub(crate) fn tears(&self, op: &'static str) -> bool {
        let mut state = self.state();
        let torn = state.weather.failing > 0 && state.rng.u32(0..1000) < state.weather.failing / 2;
        if torn {
            Fault::Torn.count(&mut state.tally);
        }
        drop(state);
        if torn {
            self.note(|| format!("     {op} ◀ {:?}", Fault::Torn));
        }
        torn
    }

    /// Whether a commit finds a staged file gone.
    fn loses(&self, op: &'static str) -> bool {
        let mut state = self.state();
        let lost = state.weather.losing > 0 && state.rng.u32(0..1000) < state.weather.losing;
        drop(state);
        if lost {
            self.note(|| format!("     {op} ◀ a staged file is gone"));
        }
        lost
    }

    /// Whether the process dies in the middle of this call, and not before or after it. Who asks leaves half of the work, and
    /// lets it die.
    fn dies_in(&self, op: &'static str, name: &str) -> bool {
        let mut state = self.state();
        let at = state.weather.crash_at.filter(|_| state.dead.is_none());
        // Few calls write, so a life that is to end may end at any of them.
        let now = at.is_some_and(|at| at == state.calls + 1 || state.rng.u32(0..50) == 0);
        drop(state);
        if now {
            self.note(|| format!("     {op} {name} ◀ half of it is written"));
        }
        now
    }

    /// Returns at once in a living process, and never in a dead one.
    pub(crate) async fn alive(&self) {
        if self.is_dead() {
            std::future::pending::<()>().await;
        }
    }

    async fn pause(&self, pause: Duration) {
        if !pause.is_zero() {
            self.clock.sleep(pause).await;
            self.alive().await;
        }
    }
}

impl State {
    fn fault(&mut self, op: &'static str) -> Fault {
        let Weather { failing, slow: _, losing: _, crash_at } = self.weather;
        if crash_at == Some(self.calls) {
            return if self.rng.bool() { Fault::CrashBefore } else { Fault::CrashAfter };
        }
        if let Some((left, fault)) = self.bursts.get_mut(op)
            && *left > 0
        {
            *left -= 1;
            return *fault;
        }
        if failing == 0 || self.rng.u32(0..1000) >= failing {
            return Fault::None;
        }
        let fault = match self.rng.u32(0..20) {
            // A poll is no call to another system: what it gave, its caller has.
            9..=16 if op != "source.poll" => Fault::AnswerLost,
            0..=16 => Fault::Refused,
            _ => Fault::Operator,
        };
        if self.rng.u32(0..8) == 0 {
            self.tally.fault_burst += 1;
            let times = self.rng.u32(1..6);
            self.bursts.insert(op, (times, fault));
        }
        fault
    }

    fn delay(&mut self) -> Duration {
        if self.weather.slow == 0 || self.rng.u32(0..1000) >= self.weather.slow {
            return Duration::ZERO;
        }
        Duration::from_micros(1 << self.rng.u32(4..22))
    }
}

/// Chance of a seed.
#[derive(Debug)]
pub(crate) struct SimRandom(Mutex<fastrand::Rng>);

impl SimRandom {
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self(Mutex::new(fastrand::Rng::with_seed(seed))))
    }
}

impl Random for SimRandom {
    fn uuid(&self) -> Uuid {
        Uuid::from_u128(self.0.lock().unwrap().u128(..))
    }

    fn bits(&self) -> u64 {
        self.0.lock().unwrap().u64(..)
    }
}
