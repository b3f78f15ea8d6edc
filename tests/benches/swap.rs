//! A swap of revisions while data flows, on one worker: what a new revision costs before it serves, and the longest pause between
//! two batches while that goes on, against the longest without it.
//!
//! Segments are JSON lines of 1 MiB, decoded and given to the fraud rule; nothing is encoded, so that a batch is as short, and a
//! pause as visible, as can be. Compiling runs in a process of its own, as in the host.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arrow_schema::SchemaRef;
use forebay_format::Formats;
use forebay_landing::DiskZone;
use forebay_ledger::MemoryLedger;
use forebay_model::ids::{ModuleName, WarehouseName};
use forebay_model::plan::Plan;
use forebay_model::ports::{
    Assets, BatchInput, BoundTransform, Clock as _, Description, Format, Ledger as _, Module, ModuleLoader as _,
    RevisionRecord, SegmentContext, SplitRule, TransformError, TransformInstance, TransformOutput, Warehouse,
};
use forebay_model::revision::{RouteTarget, Step};
use forebay_model::{Compression, Digest, PipelineName, Result, Revision, StreamName};
use forebay_pipeline::budget::Budget;
use forebay_pipeline::decoding::Decoding;
use forebay_pipeline::intake::driver::StreamContext;
use forebay_pipeline::metrics::{PipelineMetrics, StreamMetrics};
use forebay_pipeline::refine::bind::Materials;
use forebay_pipeline::refine::driver::{Formers, PipelineContext, PipelineHandle};
use forebay_pipeline::refine::protocol::{Event, RefineSettings, Report};
use forebay_pipeline::refine::segment::Workplace;
use forebay_pipeline::workers::Workers;
use forebay_sandbox::{Sandbox, SandboxOptions};
use forebay_sources::{MemorySource, MemoryUpstream};
use forebay_warehouse::MemoryWarehouse;
use serde_json::json;

use crate::stages::Real;

/// Landed and not yet refined, at least, while batches are timed.
const AHEAD: u64 = 128;
/// Bytes that land at a time: so few that landing keeps ahead of the worker.
const OBJECT: usize = 8 << 20;
/// Batches that each revision is seen to serve.
const SERVED: usize = 250;

/// When each batch was done, and by which revision.
type Done = Arc<Mutex<Vec<(Instant, u32)>>>;

/// Nothing is replayed here.
#[derive(Debug)]
struct NoFormers;

#[async_trait::async_trait]
impl Formers for NoFormers {
    async fn load(&self, record: RevisionRecord) -> Result<Arc<Materials>> {
        Err(forebay_model::Error::bug(format!("nobody asks for revision {}", record.number)))
    }
}

/// A module whose batches are timed.
#[derive(Debug)]
struct Timed(Arc<dyn Module>, u32, Done);

#[derive(Debug)]
struct TimedBound(Arc<dyn BoundTransform>, u32, Done);

struct TimedInstance(Box<dyn TransformInstance>, u32, Done);

impl Module for Timed {
    fn digest(&self) -> Digest {
        self.0.digest()
    }

    fn description(&self) -> &Description {
        self.0.description()
    }

    fn bind(&self, input: &SchemaRef, config: &serde_json::Value, assets: &Assets) -> Result<Arc<dyn BoundTransform>> {
        Ok(Arc::new(TimedBound(self.0.bind(input, config, assets)?, self.1, Arc::clone(&self.2))))
    }
}

impl BoundTransform for TimedBound {
    fn plan(&self) -> &Plan {
        self.0.plan()
    }

    fn input(&self) -> &SchemaRef {
        self.0.input()
    }

    fn instance(&self, context: &SegmentContext) -> Result<Box<dyn TransformInstance>, TransformError> {
        Ok(Box::new(TimedInstance(self.0.instance(context)?, self.1, Arc::clone(&self.2))))
    }
}

impl TransformInstance for TimedInstance {
    fn process(&mut self, input: &BatchInput) -> Result<TransformOutput, TransformError> {
        let output = self.0.process(input);
        self.2.lock().unwrap().push((Instant::now(), self.1));
        output
    }
}

#[derive(Debug)]
struct JsonLines(Formats);

impl Decoding for JsonLines {
    fn detect(&self, _: &str, _: &[u8]) -> String {
        "json".to_owned()
    }

    fn split_rule(&self, _: &str) -> SplitRule {
        SplitRule::Lines { target: 1 << 20 }
    }

    fn format(&self, name: &str) -> Result<Arc<dyn Format>> {
        Ok(self.0.get(name)?)
    }

    fn decompress(&self, reader: Box<dyn Read + Send>, compression: Compression) -> Result<Box<dyn Read + Send>> {
        Ok(forebay_format::decompress(reader, compression)?)
    }

    fn settings(&self) -> serde_json::Value {
        self.0.settings()
    }
}

/// Keeps what failed; tells the pipeline of what landed.
struct Listener(Option<PipelineHandle>);

impl forebay_pipeline::refine::driver::Listener for Listener {
    fn report(&self, _: &PipelineName, report: &Report) {
        assert!(!matches!(report, Report::SegmentFailed(_) | Report::NotBound { .. }), "{report:?}");
    }
}

impl forebay_pipeline::intake::driver::Listener for Listener {
    fn report(&self, _: &StreamName, _: &forebay_pipeline::intake::state::Report) {
        if let Some(pipeline) = &self.0 {
            pipeline.send(Event::Landed);
        }
    }
}

struct Place {
    ledger: Arc<MemoryLedger>,
    zone: Arc<DiskZone>,
    upstream: MemoryUpstream,
    metrics: Arc<PipelineMetrics>,
    budget: Budget,
    done: Done,
    text: Vec<u8>,
    landed: u32,
}

fn names() -> (PipelineName, StreamName) {
    (PipelineName::new("fraud").unwrap(), StreamName::new("payments").unwrap())
}

fn decoding() -> Arc<dyn Decoding> {
    Arc::new(JsonLines(Formats::from_config(&json!("json")).unwrap()))
}

impl Place {
    fn start(&self) -> (PipelineHandle, impl Future<Output = Result<()>> + Send + 'static) {
        let (pipeline, stream) = names();
        let lake: Arc<dyn Warehouse> = Arc::new(MemoryWarehouse::new());
        let context = PipelineContext {
            pipeline,
            stream,
            ledger: self.ledger.clone(),
            shared: false,
            place: Workplace { zone: self.zone.clone(), decoding: decoding(), metrics: Arc::clone(&self.metrics) },
            warehouses: Arc::new(BTreeMap::from([(WarehouseName::new("lake").unwrap(), lake)])),
            formers: Arc::new(NoFormers),
            workers: Workers::start(1).unwrap(),
            budget: self.budget.clone(),
            clock: Arc::new(Real),
            random: Arc::new(Real),
            widen_max_bytes: u64::MAX,
            failpoint: |_| {},
        };
        let settings = RefineSettings {
            workers: 1,
            group_segments: 64,
            group_bytes: 128 << 20,
            group_age: Duration::from_secs(1),
            poll: Duration::from_secs(1),
            once: false,
        };
        PipelineHandle::start(context, settings, Arc::new(Listener(None)))
    }

    async fn land(&mut self, handle: &PipelineHandle) {
        self.landed += 1;
        self.upstream.put(&format!("{}.jsonl", self.landed), "1", self.text.clone());
        let upstream = self.upstream.clone();
        let context = StreamContext {
            stream: names().1,
            source: Arc::new(move |progress| Ok(Box::new(MemorySource::open(upstream.clone(), progress, 1)))),
            ledger: self.ledger.clone(),
            zone: self.zone.clone(),
            decoding: decoding(),
            naming: forebay_landing::naming::object_name,
            budget: self.budget.clone(),
            clock: Arc::new(Real),
            random: Arc::new(Real),
            metrics: Arc::new(StreamMetrics::default()),
            failpoint: |_| {},
        };
        let (_stop, stopped) = tokio::sync::watch::channel(false);
        let listener = Arc::new(Listener(Some(handle.clone())));
        forebay_pipeline::intake::driver::run(context, true, stopped, listener).await.unwrap();
    }

    /// Lands so that the worker always has something, until it holds.
    async fn feed(&mut self, handle: &PipelineHandle, mut until: impl FnMut(&[(Instant, u32)]) -> bool) {
        loop {
            if until(&self.done.lock().unwrap()) {
                return;
            }
            if self.metrics.segments_waiting.get() < AHEAD {
                self.land(handle).await;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn materials(&self, module: Arc<dyn Module>, number: u32) -> Arc<Materials> {
        let (pipeline, stream) = names();
        let step = Step {
            name: "fraud".to_owned(),
            module: ModuleName::new("fraud").unwrap(),
            digest: module.digest(),
            config: json!({}),
            assets: BTreeMap::new(),
        };
        let routes = ["scored", "flagged"].map(|route| (route.to_owned(), RouteTarget::Discard));
        let revision = Revision {
            pipeline,
            stream,
            decoder: json!({}),
            steps: vec![step],
            routes: BTreeMap::from(routes),
            rejects: "lake.rejects".parse().unwrap(),
        };
        self.ledger.record_revision(&revision, Real.now()).await.unwrap();
        let timed: Arc<dyn Module> = Arc::new(Timed(module, number, Arc::clone(&self.done)));
        Arc::new(Materials { revision, number, modules: vec![timed], assets: vec![Assets::default()] })
    }
}

/// The argument that makes this binary compile a module and end, as the host's hidden verb does.
const COMPILE: &str = "compile-module";

/// Compiles a module where this process was started to do that.
pub(crate) fn compile_if_asked() -> Option<std::process::ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    let asked = arguments.next().is_some_and(|argument| argument == COMPILE);
    asked.then(|| forebay_sandbox::compile_child_main(arguments))
}

fn milliseconds(took: Duration) -> f64 {
    took.as_secs_f64() * 1e3
}

/// The pauses between batches, sorted.
fn pauses(done: &[(Instant, u32)]) -> Vec<Duration> {
    let mut pauses: Vec<_> = done.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    pauses.sort();
    pauses
}

/// p99 and the longest.
fn pause_line(what: &str, done: &[(Instant, u32)]) -> (Duration, Duration) {
    let pauses = pauses(done);
    let of_hundred = |share: usize| pauses[(pauses.len() - 1) * share / 100];
    println!(
        "  {what:<28} {:>8.1} ms     at most between two of {} batches; p50 {:.1} ms, p99 {:.1} ms",
        milliseconds(of_hundred(100)),
        done.len(),
        milliseconds(of_hundred(50)),
        milliseconds(of_hundred(99)),
    );
    (of_hundred(99), of_hundred(100))
}

/// The page's part.
pub(crate) fn figures(folder: &Path, work: &Path) {
    println!("swap of a revision while data flows, one worker");
    let mut text = std::fs::read(folder.join("part-00.jsonl")).unwrap();
    text.truncate(OBJECT);
    text.truncate(text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let options = SandboxOptions {
        cache_dir: Some(work.join("swap-cache")),
        compile_command: Some(vec![std::env::current_exe().unwrap().into_os_string(), COMPILE.into()]),
        ..SandboxOptions::default()
    };
    let sandbox = Sandbox::new(options).unwrap();
    let old = std::fs::read(crate::rules::module("fraud")).unwrap();
    let mut new = old.clone();
    new.extend([0, 5, 4, b'n', b'o', b't', b'e']);
    let mut place = Place {
        ledger: Arc::new(MemoryLedger::new(&Real)),
        zone: Arc::new(DiskZone::open(work.join("swap"), Arc::new(Real)).unwrap()),
        upstream: MemoryUpstream::default(),
        metrics: Arc::new(PipelineMetrics::default()),
        budget: Budget::new(256 << 20, 1),
        done: Done::default(),
        text,
        landed: 0,
    };
    let first = sandbox.load(&old).unwrap();
    runtime.block_on(async {
        let (handle, pipeline) = place.start();
        let pipeline = tokio::spawn(pipeline);
        handle.deploy(place.materials(first, 1).await);
        place.feed(&handle, |done| done.len() >= 4 * SERVED).await;
        let before = place.done.lock().unwrap().len();

        let loading = tokio::task::spawn_blocking(move || {
            let began = Instant::now();
            let module = sandbox.load(&new).unwrap();
            let compiled = began.elapsed();
            let again = Instant::now();
            drop(sandbox.load(&new).unwrap());
            (module, compiled, again.elapsed())
        });
        place.feed(&handle, |_| loading.is_finished()).await;
        let (module, compiled, cached) = loading.await.unwrap();
        let materials = place.materials(module, 2).await;
        let began = Instant::now();
        handle.check(Arc::clone(&materials)).await.unwrap();
        let bound = began.elapsed();
        handle.deploy(materials);
        let deployed = Instant::now();
        let serving = |done: &[(Instant, u32)]| done.iter().filter(|(_, revision)| *revision == 2).count();
        place.feed(&handle, |done| serving(done) >= SERVED).await;
        handle.send(Event::Shutdown);
        pipeline.await.unwrap().unwrap();

        let done = place.done.lock().unwrap();
        let (without, during) = done.split_at(before);
        let shown = |what: &str, took: Duration, note: &str| {
            println!("  {what:<28} {:>8.1} ms     {note}", milliseconds(took));
        };
        shown("compile", compiled, "in a process of its own, while the old revision serves");
        shown("load once more", cached, "what is compiled is shared while somebody holds it");
        shown("check", bound, "bound to the schema and the tables");
        let first = during.iter().find(|(_, revision)| *revision == 2).map(|(at, _)| *at - deployed);
        shown("deployed to first batch", first.unwrap_or_default(), "");
        let (p99, longest) = pause_line("batch without a swap", without);
        let (swapping, most) = pause_line("batch during the swap", during);
        let ratio = |during: Duration, before: Duration| during.as_secs_f64() / before.as_secs_f64();
        println!(
            "  {:<28} {:>8.2}        p99, {:.2} at most of what it is without",
            "",
            ratio(swapping, p99),
            ratio(most, longest)
        );
    });
}
