//! One byte budget for the process (promise 7): who holds raw or decoded bytes, holds so many of the budget.
//!
//! Refine's share is set aside first, so that full intake buffers cannot starve it; what is left is intake's. Of refine's, history may hold
//! all but one worker's bytes, which are there beside those of all workers: a segment of production begins at once. A request that is
//! larger than its share is cut down to it: it waits until it is alone, and goes on, for memory there is bounded by batches.

use std::sync::Arc;

pub use forebay_model::ports::OBJECT_BYTES;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

const UNIT: u64 = 64 * 1024;
/// What a worker needs for a segment whatever its size: read buffers, a batch at each step, a guest's memory, the writers'
/// buffers.
pub const WORKER_BYTES: u64 = 48 * 1024 * 1024;
/// What intake needs to move at all.
const INTAKE_LEAST: u64 = 16 * 1024 * 1024;

/// Bytes that are held; given back when dropped.
#[derive(Debug)]
pub struct Held {
    _permit: Option<OwnedSemaphorePermit>,
}

/// A share of the budget.
#[derive(Debug, Clone)]
pub struct Share {
    units: u32,
    semaphore: Arc<Semaphore>,
}

impl Share {
    fn new(bytes: u64) -> Self {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX >> 4).max(1);
        Self { units, semaphore: Arc::new(Semaphore::new(units as usize)) }
    }

    /// Waits until so many bytes are free.
    pub async fn take(&self, bytes: u64) -> Held {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).clamp(1, self.units);
        // The semaphore is never closed.
        Held { _permit: Arc::clone(&self.semaphore).acquire_many_owned(units).await.ok() }
    }

    /// All bytes of the share.
    #[must_use]
    pub fn total(&self) -> u64 {
        u64::from(self.units) * UNIT
    }

    /// Bytes that are held now.
    #[must_use]
    pub fn held(&self) -> u64 {
        (u64::from(self.units)).saturating_sub(self.semaphore.available_permits() as u64) * UNIT
    }
}

/// The budget.
#[derive(Debug, Clone)]
pub struct Budget {
    /// For segments with workers.
    pub refine: Share,
    /// What of it may be held for segments of history; whoever takes of this takes of `refine` as well, afterwards.
    pub again: Share,
    /// For batches that are landing.
    pub intake: Share,
}

impl Budget {
    /// `total` bytes, for so many workers.
    #[must_use]
    pub fn new(total: u64, workers: usize) -> Self {
        let wanted = WORKER_BYTES.saturating_mul(workers as u64 + 1);
        let refine = wanted.min(total.saturating_sub(INTAKE_LEAST)).max(UNIT);
        let again = refine.saturating_sub(WORKER_BYTES).max(UNIT);
        Self {
            refine: Share::new(refine),
            again: Share::new(again),
            intake: Share::new(total.saturating_sub(refine).max(INTAKE_LEAST)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn full_intake_does_not_starve_refine_and_large_requests_wait_but_pass() {
        let budget = Budget::new(128 * 1024 * 1024, 2);
        let _all = budget.intake.take(u64::MAX).await;
        let held = budget.refine.take(WORKER_BYTES).await;
        let second = budget.refine.take(WORKER_BYTES).await;
        let third = tokio::time::timeout(Duration::from_millis(20), budget.refine.take(WORKER_BYTES)).await;
        assert!(third.is_err(), "the share is bounded");
        drop((held, second));
        let huge = tokio::time::timeout(Duration::from_secs(5), budget.refine.take(u64::MAX)).await;
        assert!(huge.is_ok());
    }

    #[tokio::test]
    async fn what_is_refined_again_leaves_production_the_bytes_of_a_worker() {
        for (total, workers) in [(512, 1), (512, 4), (256, 8), (64, 2)] {
            let budget = Budget::new(total * 1024 * 1024, workers);
            let again = budget.again.take(u64::MAX).await;
            let _held = budget.refine.take(budget.again.total()).await;
            let at_once = tokio::time::timeout(Duration::from_secs(5), budget.refine.take(WORKER_BYTES)).await;
            // Where there is no room for two, they take turns.
            let room = budget.refine.total() >= 2 * WORKER_BYTES;
            assert_eq!(at_once.is_ok(), room, "{total} MiB, {workers} workers");
            drop(again);
        }
    }
}
