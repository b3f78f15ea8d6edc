//! What runs: streams and pipelines, each a task of its own that can be started and stopped while the others go on.
//!
//! A stop finishes what is in flight. A part that is started again takes up where the ledger says that it was.
//!
//! Where several hosts share the ledger, a stream runs in the one that has it, and so does a pipeline; in the others it sleeps, and is
//! bound and warm when they get it (`fleet`).

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use forebay_model::ports::Duty;
use forebay_model::{Error, PipelineName, Result, StreamName};
use forebay_pipeline::intake::driver::StreamContext;
use forebay_pipeline::metrics::{PipelineMetrics, StreamMetrics};
use forebay_pipeline::panics::caught;
use forebay_pipeline::refine::driver::{PipelineContext, PipelineHandle};
use forebay_pipeline::refine::protocol::{Event, RefineSettings};
use forebay_pipeline::refine::segment::Workplace;
use tokio::sync::{mpsc, watch};

use super::deploy::Handles;
use super::former::Former;
use super::progress::{Progress, Tell};
use super::{Host, POLL, WIDEN_MAX_BYTES};
use crate::assemble;
use crate::config::Config;
use crate::failpoint::failpoint;

/// A part of the host that is a task.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Stream(StreamName),
    Pipeline(PipelineName),
    /// A change of parts: while it is under way the host does not end, though nothing else may run.
    Change,
}

/// A part that begins; its future ends with it.
pub(super) struct Begun {
    pub(super) part: Part,
    pub(super) future: Pin<Box<dyn Future<Output = Result<()>> + Send>>,
}

struct StreamPart {
    stop: watch::Sender<bool>,
    ended: watch::Receiver<bool>,
}

struct PipelinePart {
    from: StreamName,
    handle: PipelineHandle,
    ended: watch::Receiver<bool>,
}

/// What runs now, and what was counted of all that ever ran.
#[derive(Default)]
struct Running {
    streams: BTreeMap<StreamName, StreamPart>,
    pipelines: BTreeMap<PipelineName, PipelinePart>,
    stream_metrics: BTreeMap<StreamName, Arc<StreamMetrics>>,
    pipeline_metrics: BTreeMap<PipelineName, Arc<PipelineMetrics>>,
    /// Parts that ended with an error and are started again, each with what keeps the host from ending meanwhile.
    ended: BTreeMap<Part, mpsc::Sender<()>>,
    /// The host is ending.
    ending: bool,
}

/// The parts; each that begins is handed to whoever waits for ends.
pub(super) struct Parts {
    running: Mutex<Running>,
    begin: mpsc::UnboundedSender<Begun>,
}

impl Parts {
    pub(super) fn new() -> (Self, mpsc::UnboundedReceiver<Begun>) {
        let (begin, begun) = mpsc::unbounded_channel();
        (Self { running: Mutex::default(), begin }, begun)
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn handles(&self) -> Handles {
        let running = self.running();
        running.pipelines.iter().map(|(name, part)| (name.clone(), part.handle.clone())).collect()
    }

    /// The pipelines that read a stream now.
    pub(super) fn readers(&self, stream: &StreamName) -> Vec<PipelineHandle> {
        let running = self.running();
        running.pipelines.values().filter(|part| part.from == *stream).map(|part| part.handle.clone()).collect()
    }

    /// Whether a stream runs now: it has begun, and has not ended.
    pub(super) fn runs_stream(&self, name: &StreamName) -> bool {
        self.running().streams.get(name).is_some_and(|part| !*part.ended.borrow())
    }

    /// Whether a pipeline runs now.
    pub(super) fn runs_pipeline(&self, name: &PipelineName) -> bool {
        self.running().pipelines.get(name).is_some_and(|part| !*part.ended.borrow())
    }

    /// Wakes a pipeline that sleeps.
    pub(super) fn wake(&self, name: &PipelineName) {
        if let Some(part) = self.running().pipelines.get(name) {
            part.handle.wake();
        }
    }

    /// Keeps the host from ending before it is told to: what it does not do now, it may do later.
    pub(super) fn go_on(&self) {
        let guard = self.change();
        let mut running = self.running();
        if !running.ending {
            running.ended.insert(Part::Change, guard);
        }
    }

    /// Whether the host was told to stop.
    pub(super) fn is_ending(&self) -> bool {
        self.running().ending
    }

    pub(super) fn stream_metrics(&self) -> BTreeMap<StreamName, Arc<StreamMetrics>> {
        self.running().stream_metrics.clone()
    }

    pub(super) fn pipeline_metrics(&self) -> BTreeMap<PipelineName, Arc<PipelineMetrics>> {
        self.running().pipeline_metrics.clone()
    }

    /// What was counted of a pipeline that will not be again is told no more.
    pub(super) fn forget_metrics(&self, name: &PipelineName) {
        self.running().pipeline_metrics.remove(name);
    }

    /// Tells all of them to finish what is in flight and end.
    pub(super) fn shut_down(&self) {
        let mut running = self.running();
        running.ending = true;
        running.ended.clear();
        for stream in running.streams.values() {
            // A stream that has ended does not listen.
            stream.stop.send_replace(true);
        }
        for pipeline in running.pipelines.values() {
            pipeline.handle.send(Event::Shutdown);
        }
    }

    /// Stops a stream; false where it has not ended after so long.
    pub(super) async fn stop_stream(&self, name: &StreamName, patience: Duration) -> bool {
        let stopping = self.running().streams.get(name).map(|part| {
            part.stop.send_replace(true);
            part.ended.clone()
        });
        let ended = has_ended(stopping, patience).await;
        if ended {
            let mut running = self.running();
            running.streams.remove(name);
            running.ended.remove(&Part::Stream(name.clone()));
        }
        ended
    }

    /// Stops a pipeline; false where it has not ended after so long.
    pub(super) async fn stop_pipeline(&self, name: &PipelineName, patience: Duration) -> bool {
        let (stopping, handle) = self
            .running()
            .pipelines
            .get(name)
            .map(|part| {
                part.handle.send(Event::Shutdown);
                (part.ended.clone(), part.handle.clone())
            })
            .unzip();
        let mut ended = has_ended(stopping, patience).await;
        if let Some(handle) = handle.filter(|_| ended) {
            // What one that ended with an error has under way must not come between what is done next.
            ended = tokio::time::timeout(patience, handle.quiet()).await.is_ok();
        }
        if ended {
            let mut running = self.running();
            running.pipelines.remove(name);
            running.ended.remove(&Part::Pipeline(name.clone()));
        }
        ended
    }

    /// Keeps the host from ending until the guard is dropped.
    pub(super) fn change(&self) -> mpsc::Sender<()> {
        let (guard, mut dropped) = mpsc::channel(1);
        let future = Box::pin(async move {
            dropped.recv().await;
            Ok(())
        });
        self.begin(Part::Change, future);
        guard
    }

    /// Keeps the host from ending until a part that ended with an error is started again; the future ends when nothing of its
    /// former life is under way any more.
    pub(super) fn await_restart(&self, part: &Part) -> impl Future<Output = ()> + Send + use<> {
        let guard = self.change();
        let mut running = self.running();
        if !running.ending {
            running.ended.insert(part.clone(), guard);
        }
        let handle = match part {
            // What a stream does, it does one after the other, and ends with it.
            Part::Stream(_) | Part::Change => None,
            Part::Pipeline(name) => running.pipelines.get(name).map(|part| part.handle.clone()),
        };
        async move {
            if let Some(handle) = handle {
                handle.quiet().await;
            }
        }
    }

    /// Starts a part again that ended with an error, unless the config has started or removed it since.
    pub(super) fn start_again(&self, host: &Arc<Host>, config: &Config, part: &Part, progress: &Arc<Progress>) {
        // The host goes on until the part has begun.
        let Some(_guard) = self.running().ended.remove(part) else { return };
        match part {
            Part::Stream(name) => self.start_stream(host, config, name, progress),
            Part::Pipeline(name) => self.start_pipeline(host, config, name, progress),
            Part::Change => {}
        }
    }

    fn begin(&self, part: Part, future: Pin<Box<dyn Future<Output = Result<()>> + Send>>) {
        // A host that is ending begins nothing.
        drop(self.begin.send(Begun { part, future }));
    }

    /// Starts a stream, unless it is another host's, or runs.
    pub(super) fn start_stream(&self, host: &Arc<Host>, config: &Config, name: &StreamName, progress: &Arc<Progress>) {
        let Some(stream) = config.streams.get(name) else { return };
        if !host.fleet.has(&Duty::Stream(name.clone())) || self.runs_stream(name) {
            return;
        }
        let part = Part::Stream(name.clone());
        let decoding = match assemble::open_decoding(stream) {
            Ok(decoding) => decoding,
            Err(error) => return self.begin(part, Box::pin(async move { Err(error) })),
        };
        let once = host.args.once;
        let (of_config, of_source) = (config.clone(), stream.clone());
        let (stop, stopped) = watch::channel(false);
        let (end, ended) = watch::channel(false);
        let metrics = {
            let mut running = self.running();
            if running.ending {
                return;
            }
            running.streams.insert(name.clone(), StreamPart { stop, ended });
            Arc::clone(running.stream_metrics.entry(name.clone()).or_default())
        };
        let context = StreamContext {
            stream: name.clone(),
            source: Arc::new(move |known| assemble::build_source(&of_config, &of_source, known, once)),
            ledger: Arc::clone(&host.ledger),
            zone: Arc::clone(&host.zone),
            decoding,
            naming: assemble::NAMING,
            budget: host.budget.clone(),
            clock: assemble::clock(),
            random: assemble::random(),
            metrics,
            failpoint,
        };
        let (host, name) = (Arc::clone(host), name.clone());
        let listener = Arc::new(Tell::of_stream(progress, Arc::clone(&host)));
        let future = async move {
            let result = caught(forebay_pipeline::intake::driver::run(context, once, stopped, listener)).await;
            // What has landed is refined, also where landing stopped.
            for pipeline in host.parts.readers(&name) {
                pipeline.send(Event::CaughtUp);
            }
            end.send_replace(true);
            result
        };
        self.begin(part, Box::pin(future));
    }

    /// Starts a pipeline; it waits for a revision, and sleeps where it is another host's.
    pub(super) fn start_pipeline(&self, host: &Host, config: &Config, name: &PipelineName, progress: &Progress) {
        let Some(pipeline) = config.pipelines.get(name) else { return };
        let Some(decoding) = config.streams.get(&pipeline.from).map(assemble::open_decoding) else { return };
        let part = Part::Pipeline(name.clone());
        let opened = decoding.and_then(|decoding| Ok((decoding, host.shelf()?)));
        let (decoding, shelf) = match opened {
            Ok(opened) => opened,
            Err(error) => return self.begin(part, Box::pin(async move { Err::<(), Error>(error) })),
        };
        let metrics = {
            let mut running = self.running();
            if running.ending {
                return;
            }
            Arc::clone(running.pipeline_metrics.entry(name.clone()).or_default())
        };
        let context = PipelineContext {
            pipeline: name.clone(),
            stream: pipeline.from.clone(),
            ledger: Arc::clone(&host.ledger),
            shared: host.fleet.is_shared(),
            place: Workplace { zone: Arc::clone(&host.zone), decoding, metrics: Arc::clone(&metrics) },
            warehouses: host.warehouses(),
            formers: Arc::new(Former { shelf, pipeline: name.clone(), config: host.now.clone() }),
            workers: host.workers.clone(),
            budget: host.budget.clone(),
            clock: assemble::clock(),
            random: assemble::random(),
            widen_max_bytes: WIDEN_MAX_BYTES,
            failpoint,
        };
        let commit = host.config.host.commit;
        let settings = RefineSettings {
            workers: host.workers.threads(),
            group_segments: commit.max_segments as usize,
            group_bytes: commit.max_bytes,
            group_age: commit.max_age,
            poll: POLL,
            once: host.args.once,
        };
        let (handle, running) = PipelineHandle::asleep(
            context,
            settings,
            Arc::new(Tell::of_pipeline(progress, metrics, Arc::clone(&host.outcomes))),
        );
        if host.fleet.has(&Duty::Pipeline(name.clone())) {
            handle.wake();
        }
        let (end, ended) = watch::channel(false);
        let from = pipeline.from.clone();
        self.running().pipelines.insert(name.clone(), PipelinePart { from, handle, ended });
        let future = async move {
            let result = caught(running).await;
            end.send_replace(true);
            result
        };
        self.begin(part, Box::pin(future));
    }
}

/// Whether a part ends within so long; one that never began has.
async fn has_ended(part: Option<watch::Receiver<bool>>, patience: Duration) -> bool {
    let Some(mut ended) = part else { return true };
    // A task that panicked has dropped its end: that is an end too.
    tokio::time::timeout(patience, ended.wait_for(|ended| *ended)).await.is_ok()
}
