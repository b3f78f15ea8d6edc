//! The tasks of a host's parts, and how they end.

use std::collections::BTreeMap;

use forebay_model::Result;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::parts::{Begun, Part};

/// How each part ended.
pub(super) type Ends = BTreeMap<Part, Result<()>>;

/// The tasks of a host's parts: those that run, and how those that do not have ended.
pub(super) struct Tasks {
    begun: mpsc::UnboundedReceiver<Begun>,
    running: JoinSet<(Part, Result<()>)>,
    pub(super) ends: Ends,
}

impl Tasks {
    /// Those that come from the other end.
    pub(super) fn new(begun: mpsc::UnboundedReceiver<Begun>) -> Self {
        Self { begun, running: JoinSet::new(), ends: Ends::new() }
    }

    /// The next end, once what has begun runs; `None` when nothing runs. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Option<(Part, &Result<()>)> {
        loop {
            while let Ok(begun) = self.begun.try_recv() {
                self.begin(begun);
            }
            tokio::select! {
                Some(begun) = self.begun.recv() => self.begin(begun),
                ended = self.running.join_next() => match ended {
                    Some(Ok((part, result))) => {
                        self.ends.insert(part.clone(), result);
                        return self.ends.get(&part).map(|result| (part, result));
                    }
                    Some(Err(error)) => tracing::error!(%error, "a task of the host failed"),
                    None => return None,
                },
            }
        }
    }

    fn begin(&mut self, begun: Begun) {
        let Begun { part, future } = begun;
        // What a former life ended with is settled.
        self.ends.remove(&part);
        self.running.spawn(async move { (part, future.await) });
    }
}

/// Says how a part ended.
pub(super) fn tell_end(part: &Part, result: &Result<()>) {
    match (part, result) {
        (Part::Stream(stream), Err(error)) => {
            tracing::error!(%stream, error = error.chain(), hint = error.hint(), "stream stopped");
        }
        (Part::Pipeline(pipeline), Err(error)) => {
            tracing::error!(%pipeline, error = error.chain(), hint = error.hint(), "pipeline stopped");
        }
        (Part::Stream(stream), Ok(())) => tracing::info!(%stream, "stream ended"),
        (Part::Pipeline(pipeline), Ok(())) => tracing::info!(%pipeline, "pipeline ended"),
        (Part::Change, _) => {}
    }
}
