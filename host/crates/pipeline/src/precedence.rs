//! Production goes first: what runs in the lane of history (`refine::lanes`) takes a quarter of its threads' time while production comes.
//!
//! A thread that the system prefers less still takes caches, memory, the disk and, where two threads share a core, half of that core from
//! the one beside it: a niceness alone is felt. So, as long as production was at work within the last [`LULL`], a segment of history stands
//! still between two batches, [`REST`] times as long as the batch took. It does not where production and history together take no more
//! threads than there are cores behind them (counted as half of the threads), for then they do not meet; nor once production has nothing to
//! do. It never waits for production to end, so that history ends even where production always has work.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long history stands still beside production, in times of what it worked before.
const REST: u32 = 3;
/// Production that had nothing to do for so long does not come any more.
const LULL: Duration = Duration::from_secs(1);

/// Who is at work.
#[derive(Debug, Default)]
struct Work {
    /// Segments of production, on workers or waiting for one.
    production: usize,
    /// When the last of them ended.
    ended: Option<Instant>,
    /// Segments of history that do not stand still.
    history: usize,
}

impl Work {
    /// How long history stands still for production, unless more of it comes; `None` where there is none to stand still for.
    fn stands_still(&self, room: usize) -> Option<Duration> {
        let lull = match self.ended {
            _ if self.production > 0 => LULL,
            Some(ended) => LULL.checked_sub(ended.elapsed()).filter(|left| !left.is_zero())?,
            None => return None,
        };
        (self.production.max(1) + self.history >= room).then_some(lull)
    }
}

/// Counts who is at work, and has history stand still.
#[derive(Debug)]
pub struct Precedence {
    /// So many at a time do not feel one another.
    room: usize,
    work: Mutex<Work>,
    changed: Condvar,
}

/// A segment of production is at work until it is dropped.
#[derive(Debug)]
pub struct Ahead(Arc<Precedence>);

/// A segment of history is at work until it is dropped.
#[derive(Debug)]
pub struct Behind {
    precedence: Arc<Precedence>,
    since: Instant,
}

impl Precedence {
    /// Of a machine with so many threads.
    #[must_use]
    pub fn new(threads: usize) -> Arc<Self> {
        Self::with_room((threads / 2).max(1))
    }

    /// Nobody stands still: where jobs run one by one.
    #[must_use]
    pub fn none() -> Arc<Self> {
        Self::with_room(usize::MAX)
    }

    fn with_room(room: usize) -> Arc<Self> {
        Arc::new(Self { room, work: Mutex::default(), changed: Condvar::new() })
    }

    /// A segment of production begins.
    #[must_use]
    pub fn ahead(self: &Arc<Self>) -> Ahead {
        self.lock().production += 1;
        Ahead(Arc::clone(self))
    }

    /// A segment of history begins.
    #[must_use]
    pub fn behind(self: &Arc<Self>) -> Behind {
        self.lock().history += 1;
        Behind { precedence: Arc::clone(self), since: Instant::now() }
    }

    fn lock(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        let mut work = self.0.lock();
        work.production -= 1;
        work.ended = Some(Instant::now());
    }
}

impl Behind {
    /// Between two batches: stands still for production, where there is some. Blocks the thread.
    pub fn give_way(&mut self) {
        let Precedence { room, work: _, changed } = self.precedence.as_ref();
        let until = Instant::now() + self.since.elapsed().saturating_mul(REST);
        let mut work = self.precedence.lock();
        work.history -= 1;
        // Whoever else stands still may have room now.
        changed.notify_all();
        while let Some(lull) = work.stands_still(*room) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            work = changed.wait_timeout(work, left.min(lull)).unwrap_or_else(PoisonError::into_inner).0;
        }
        work.history += 1;
        drop(work);
        self.since = Instant::now();
    }
}

impl Drop for Behind {
    fn drop(&mut self) {
        self.precedence.lock().history -= 1;
        self.precedence.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long a segment of history stands still after a batch of so long.
    fn stood_still(behind: &mut Behind, batch: Duration) -> Duration {
        std::thread::sleep(batch);
        let from = Instant::now();
        behind.give_way();
        from.elapsed()
    }

    const BATCH: Duration = Duration::from_millis(20);

    #[test]
    fn history_rests_as_long_as_production_comes_and_no_longer() {
        let precedence = Precedence::new(2);
        let mut behind = precedence.behind();
        assert!(stood_still(&mut behind, BATCH) < BATCH, "nobody is at work");
        let ahead = precedence.ahead();
        let rested = stood_still(&mut behind, BATCH);
        assert!(rested >= BATCH * REST, "{rested:?}");
        drop(ahead);
        let rested = stood_still(&mut behind, BATCH);
        assert!(rested >= BATCH * REST, "it was at work just now: {rested:?}");
        // A batch of the time that a lull takes, and what is left of that is not waited for.
        assert!(stood_still(&mut behind, LULL) < BATCH, "production does not come any more");
    }

    #[test]
    fn where_there_is_room_nobody_rests() {
        for precedence in [Precedence::new(4), Precedence::none()] {
            let _ahead = precedence.ahead();
            let mut behind = precedence.behind();
            assert!(stood_still(&mut behind, BATCH) < BATCH);
        }
        let precedence = Precedence::new(4);
        let _ahead = (precedence.ahead(), precedence.ahead());
        let mut behind = precedence.behind();
        let rested = stood_still(&mut behind, BATCH);
        assert!(rested >= BATCH * REST, "{rested:?}");
    }
}
