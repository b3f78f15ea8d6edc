use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use crate::time::Timestamp;

/// Time. Real time in the host, steered time in tests and simulation.
#[async_trait]
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Now, in UTC. Never goes back within a process.
    fn now(&self) -> Timestamp;
    /// Returns after `duration` of this clock.
    async fn sleep(&self, duration: Duration);
}

/// Chance: ids of attempts, jitter. Seeded in tests and simulation. What a rule draws does not come from here but from
/// its segment's seed.
pub trait Random: Send + Sync + std::fmt::Debug {
    /// A new id.
    fn uuid(&self) -> Uuid;
    /// 64 uniform bits.
    fn bits(&self) -> u64;
}
