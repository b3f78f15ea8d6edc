//! Time and chance for the tests of all stores.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use forebay_model::Timestamp;
use forebay_model::ports::{Clock, Random};
use uuid::Uuid;

/// A clock that stands still.
#[derive(Debug)]
pub(crate) struct Still;

#[async_trait]
impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(1)
    }
    async fn sleep(&self, _duration: Duration) {}
}

/// Numbers that count up.
#[derive(Debug, Default)]
pub(crate) struct Counting(pub(crate) AtomicU64);

impl Random for Counting {
    fn uuid(&self) -> Uuid {
        Uuid::from_u128(u128::from(self.bits()))
    }
    fn bits(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst)
    }
}
