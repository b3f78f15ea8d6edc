//! Time and chance that a test steers.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use forebay_model::Timestamp;
use forebay_model::ports::{Clock, Random};
use uuid::Uuid;

/// A clock that stands still until it is told to move; sleeping moves it.
#[derive(Debug)]
pub(crate) struct SteeredClock(AtomicI64);

impl SteeredClock {
    /// Begins at 2026-01-02T03:04:05Z.
    pub(crate) fn new() -> Self {
        Self(AtomicI64::new(1_767_323_045_000_000))
    }

    /// Moves on.
    pub(crate) fn advance(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.as_micros()).expect("a test's duration"), Ordering::SeqCst);
    }
}

#[async_trait]
impl Clock for SteeredClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::SeqCst))
    }

    async fn sleep(&self, duration: Duration) {
        self.advance(duration);
        tokio::task::yield_now().await;
    }
}

/// Ids that count: the same in each run.
#[derive(Debug)]
pub(crate) struct CountingRandom(AtomicU64);

impl CountingRandom {
    /// Begins at `first`; two with distinct ones never give the same id.
    pub(crate) fn new(first: u64) -> Self {
        Self(AtomicU64::new(first << 32))
    }
}

impl Random for CountingRandom {
    fn uuid(&self) -> Uuid {
        Uuid::from_u128(u128::from(self.bits()))
    }

    fn bits(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst)
    }
}
