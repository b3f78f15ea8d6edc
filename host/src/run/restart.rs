//! A stream or pipeline that ended with an error is started again after a pause that doubles: a panic costs the work that it
//! happened in, not the part for as long as the process lives. Whoever was fenced stays stopped.
//!
//! Until then the host does not end, though nothing else may run. The part takes up where the ledger says that it was, once
//! nothing of its former life is under way any more.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use forebay_model::ports::Clock;
use forebay_model::{Error, Timestamp};
use forebay_pipeline::policy;
use tokio::sync::mpsc;

use super::parts::{Part, Parts};

/// A part that lived so long begins to count anew.
const LONG_LIFE: Duration = Duration::from_secs(600);

/// How often parts have ended with an error, and when last.
pub(super) struct Restarts {
    clock: Arc<dyn Clock>,
    due: mpsc::UnboundedSender<Part>,
    ended: BTreeMap<Part, (u32, Timestamp)>,
}

impl Restarts {
    /// Parts are handed to the other end when their pause is over.
    pub(super) fn new(clock: Arc<dyn Clock>) -> (Self, mpsc::UnboundedReceiver<Part>) {
        let (due, parts) = mpsc::unbounded_channel();
        (Self { clock, due, ended: BTreeMap::new() }, parts)
    }

    /// Counts an end, and the next time one more.
    fn count(&mut self, part: &Part) -> u32 {
        let now = self.clock.now();
        let (times, at) = self.ended.entry(part.clone()).or_insert((0, now));
        *times = if now.since(*at) > LONG_LIFE { 1 } else { times.saturating_add(1) };
        *at = now;
        *times
    }

    /// A part has ended with this error.
    pub(super) fn note(&mut self, parts: &Parts, part: &Part, error: &Error) {
        let times = self.count(part);
        let Some(pause) = policy::restart(error.class(), times) else { return };
        let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        match part {
            Part::Stream(stream) => {
                tracing::warn!(%stream, times, pause_ms, "stream is started again after a pause");
            }
            Part::Pipeline(pipeline) => {
                tracing::warn!(%pipeline, times, pause_ms, "pipeline is started again after a pause");
            }
            Part::Change => return,
        }
        let quiet = parts.await_restart(part);
        let (clock, due, part) = (Arc::clone(&self.clock), self.due.clone(), part.clone());
        tokio::spawn(async move {
            clock.sleep(pause).await;
            quiet.await;
            // A host that is ending starts nothing.
            drop(due.send(part));
        });
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::sync::Mutex;

    use forebay_model::{ErrorClass, PipelineName};

    use super::*;

    /// Time that stands still but where a test moves it.
    #[derive(Debug, Default)]
    struct Steered(Mutex<Timestamp>);

    impl Steered {
        fn advance(&self, by: Duration) {
            let mut now = self.0.lock().unwrap();
            *now = now.plus(by);
        }
    }

    #[async_trait::async_trait]
    impl Clock for Steered {
        fn now(&self) -> Timestamp {
            *self.0.lock().unwrap()
        }
        async fn sleep(&self, duration: Duration) {
            self.advance(duration);
        }
    }

    #[test]
    fn ends_in_a_row_are_counted_and_a_long_life_begins_anew() {
        let clock = Arc::new(Steered::default());
        let (mut restarts, _due) = Restarts::new(Arc::clone(&clock) as Arc<dyn Clock>);
        let [one, two] = ["one", "two"].map(|name| Part::Pipeline(PipelineName::new(name).unwrap()));
        assert_eq!([restarts.count(&one), restarts.count(&one), restarts.count(&two)], [1, 2, 1]);
        clock.advance(LONG_LIFE);
        assert_eq!(restarts.count(&one), 3);
        clock.advance(LONG_LIFE + Duration::from_secs(1));
        assert_eq!([restarts.count(&one), restarts.count(&one)], [1, 2]);
    }

    #[tokio::test]
    async fn a_part_is_handed_on_after_its_pause_and_one_that_was_fenced_never() {
        let clock = Arc::new(Steered::default());
        let (mut restarts, mut due) = Restarts::new(Arc::clone(&clock) as Arc<dyn Clock>);
        let (parts, _begun) = Parts::new();
        let [bug, fenced] = ["bug", "fenced"].map(|name| Part::Pipeline(PipelineName::new(name).unwrap()));
        restarts.note(&parts, &fenced, &Error::fenced("another has it"));
        assert_eq!(Error::fenced("").class(), ErrorClass::Fenced);
        for pause in [200, 600, 1_400] {
            restarts.note(&parts, &bug, &Error::bug("forebay panicked"));
            assert_eq!(due.recv().await, Some(bug.clone()));
            assert_eq!(clock.now().since(Timestamp::EPOCH), Duration::from_millis(pause));
        }
        assert!(due.try_recv().is_err());
    }
}
