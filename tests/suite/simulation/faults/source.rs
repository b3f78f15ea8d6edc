use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use forebay_model::ports::{Clock as _, Polled, Source};
use forebay_model::{Result, SegmentId};

use super::Chaos;

/// Told what was acknowledged.
#[async_trait]
pub(crate) trait Acknowledged: Send + Sync {
    /// Called before the source hears of it.
    async fn acknowledged(&self, landed: &[SegmentId]);
}

/// A source that fails.
pub(crate) struct FaultySource {
    pub(crate) inner: Mutex<Box<dyn Source>>,
    pub(crate) chaos: Arc<Chaos>,
    pub(crate) witness: Arc<dyn Acknowledged>,
    pub(crate) once: bool,
}

impl std::fmt::Debug for FaultySource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FaultySource")
    }
}

#[async_trait]
impl Source for FaultySource {
    fn kind(&self) -> &'static str {
        "faulty"
    }

    async fn poll(&mut self) -> Result<Polled> {
        let Self { inner, chaos, witness: _, once } = self;
        let polled = chaos.call_through("source.poll", String::new, inner.get_mut().unwrap().poll()).await?;
        if matches!(polled, Polled::Idle) && !*once {
            // The port says: about a second.
            chaos.clock.sleep(Duration::from_secs(1)).await;
        }
        Ok(polled)
    }

    async fn acknowledge(&mut self, landed: &[SegmentId]) -> Result<()> {
        let Self { inner, chaos, witness, once: _ } = self;
        let work = async {
            witness.acknowledged(landed).await;
            inner.get_mut().unwrap().acknowledge(landed).await
        };
        chaos.call("source.acknowledge", || format!("{landed:?}"), work).await
    }
}
