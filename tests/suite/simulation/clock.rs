//! Simulated time: it stands still while anybody has something to do, and jumps to the next sleeper when nobody has.
//!
//! A process of the simulation runs on one thread, in an order that only its seed decides. Between two jumps everything that can
//! run has run; where nothing can run and nobody sleeps, the process hangs, which is an error that is seen at once.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;
use forebay_model::Timestamp;
use forebay_model::ports::Clock;

/// The clock of a simulated world; it outlives processes.
#[derive(Debug)]
pub(crate) struct SimClock(Mutex<Time>);

#[derive(Debug)]
struct Time {
    now: i64,
    sleepers: BTreeMap<(i64, u64), Waker>,
    next: u64,
}

impl SimClock {
    /// Begins at 2026-01-02T03:04:05Z.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(Time { now: 1_767_323_045_000_000, sleepers: BTreeMap::new(), next: 0 })))
    }

    /// Moves on while no process runs.
    pub(crate) fn advance(&self, by: Duration) {
        self.0.lock().unwrap().now += i64::try_from(by.as_micros()).unwrap();
    }

    /// Jumps to the next sleeper and wakes it; false where nobody sleeps.
    pub(crate) fn jump(&self) -> bool {
        let mut time = self.0.lock().unwrap();
        let Some(((at, _), waker)) = time.sleepers.pop_first() else { return false };
        time.now = time.now.max(at);
        drop(time);
        waker.wake();
        true
    }

    /// Forgets the sleepers of a process that is gone.
    pub(crate) fn forget(&self) {
        // Dropping a waker may drop a task that sleeps: never under the lock.
        let sleepers = std::mem::take(&mut self.0.lock().unwrap().sleepers);
        drop(sleepers);
    }
}

#[async_trait]
impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.lock().unwrap().now)
    }

    async fn sleep(&self, duration: Duration) {
        let until = self.now().plus(duration).as_micros();
        Sleep { clock: self, until, place: None }.await;
    }
}

struct Sleep<'a> {
    clock: &'a SimClock,
    until: i64,
    place: Option<(i64, u64)>,
}

impl Future for Sleep<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut time = self.clock.0.lock().unwrap();
        if time.now >= self.until {
            return Poll::Ready(());
        }
        let place = self.place.unwrap_or((self.until, time.next));
        time.next += 1;
        let former = time.sleepers.insert(place, context.waker().clone());
        drop(time);
        drop(former);
        self.place = Some(place);
        Poll::Pending
    }
}

impl Drop for Sleep<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            let waker = self.clock.0.lock().unwrap().sleepers.remove(&place);
            drop(waker);
        }
    }
}
