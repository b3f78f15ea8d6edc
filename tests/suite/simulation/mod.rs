//! The promises under everything that goes wrong, by simulation.
//!
//! A seed decides a whole story: objects that appear, change and break, revisions that are good, broken or refused, that run in shadow or go back, calls that
//! fail, stall or lose their answer, loads that are refused for good, ledgers that are lost and rebuilt, and processes that die at
//! any call, in the middle of what they write. The state machines, their drivers, the decoder and
//! the Arrow code are the real ones; source, zone, ledger and warehouse are the models of the contract suites. At the end the
//! weather is fair: then tables equal the input row by row, every segment is where it belongs, and all counts add up.
//!
//! A seed that fails or panics prints its story and the command that tells it again.

mod bugs;
mod check;
mod clock;
mod deployments;
mod faults;
mod process;
mod real;
mod rebuild;
pub(crate) mod rule;
mod scenario;
mod storage;
mod tally;
mod world;

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use self::clock::SimClock;
use self::faults::SimRandom;
use self::storage::{Models, Storage};
use self::tally::Tally;
use self::world::{Outcome, as_clock, run};

fn models(_: u64, clock: &Arc<SimClock>, random: &Arc<SimRandom>) -> Box<dyn Storage> {
    Box::new(Models::new(&as_clock(clock), random.as_ref()))
}

fn setting(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is {value:?}, which is no number")))
}

/// Tells the story of a seed that failed, once more.
fn tell(seed: u64) -> ! {
    let again = format!("FOREBAY_SEED={seed} cargo test --workspace --test suite simulation::one_seed");
    tell_of(seed, &run(seed, true, models), &again);
}

fn tell_of(seed: u64, outcome: &Outcome, again: &str) -> ! {
    let Outcome { violations, trace, tally: _ } = outcome;
    let (story, what) = (trace.join("\n"), violations.join("\n  "));
    panic!("{story}\n\nseed {seed} fails:\n  {what}\nagain: {again}");
}

/// `FOREBAY_SEEDS` seeds, 2,000 unless set, from `FOREBAY_FIRST_SEED`, 0 unless set, on all cores.
#[test]
fn many_seeds() {
    let (count, first) = (setting("FOREBAY_SEEDS").unwrap_or(2_000), setting("FOREBAY_FIRST_SEED").unwrap_or(0));
    let (next, failed) = (AtomicU64::new(first), AtomicBool::new(false));
    let (tally, begun) = (Mutex::new(Tally::default()), Instant::now());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        while !failed.load(Ordering::SeqCst) {
            let seed = next.fetch_add(1, Ordering::SeqCst);
            if seed >= first + count {
                return None;
            }
            let Outcome { violations, trace: _, tally: more } = run(seed, false, models);
            *tally.lock().unwrap() += more;
            if !violations.is_empty() {
                failed.store(true, Ordering::SeqCst);
                return Some(seed);
            }
        }
        None
    };
    let found = std::thread::scope(|scope| {
        let working: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        working.into_iter().filter_map(|thread| thread.join().unwrap()).min()
    });
    if let Some(seed) = found {
        tell(seed);
    }
    let tally = *tally.lock().unwrap();
    let kinds: Vec<_> = tally.kinds().iter().map(|(kind, times)| format!("{kind} {times}")).collect();
    println!("{count} seeds from {first}, {:.1} s: {}", begun.elapsed().as_secs_f64(), kinds.join(", "));
    // A story in which nothing happens proves nothing.
    let Tally { deaths, refused, torn, rebuilt, .. } = tally;
    let enough = deaths * 2 > count && refused * 10 > count && torn * 200 > count && rebuilt * 10 > count;
    assert!(enough || count < 200, "the simulation spares its processes: {}", kinds.join(", "));
    let never: Vec<_> = tally.kinds().into_iter().filter(|(_, times)| *times == 0).map(|(kind, _)| kind).collect();
    assert!(never.is_empty() || count < 2_000, "in {count} seeds from {first} this never came to pass: {never:?}");
}

/// `FOREBAY_SEED`, with its story; 0 unless set.
#[test]
fn one_seed() {
    let seed = setting("FOREBAY_SEED").unwrap_or(0);
    let Outcome { violations, trace, tally: _ } = run(seed, true, models);
    println!("{}", trace.join("\n"));
    if !violations.is_empty() {
        tell(seed);
    }
}

#[test]
fn a_seed_tells_the_same_story_each_time() {
    for seed in 0..40 {
        let (one, other) = (run(seed, true, models).trace, run(seed, true, models).trace);
        assert!(one.len() > 10);
        if let Some(line) = one.iter().zip(&other).position(|(one, other)| one != other) {
            panic!("seed {seed}, line {line}:\n{}\n{}", one[line], other[line]);
        }
        assert_eq!(one.len(), other.len(), "seed {seed}");
    }
}
