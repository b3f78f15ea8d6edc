//! A host made of models.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, RecordBatch};
use arrow_schema::{Schema, SchemaRef};
use forebay_format::Formats;
use forebay_landing::MemoryZone;
use forebay_ledger::MemoryLedger;
use forebay_model::plan::{InputColumn, InputSource, OutputColumn, Plan, RoutePlan};
use forebay_model::ports::{
    Assets, BatchInput, BoundTransform, Clock as _, Description, Emission, Format, LandingZone as _, Ledger as _,
    Module, RevisionRecord, SegmentContext, Selection, SplitRule, TransformError, TransformFailure, TransformInstance,
    TransformOutput, Warehouse,
};
use forebay_model::revision::{RouteTarget, Step};
use forebay_model::schema::SchemaChanges;
use forebay_model::{Compression, Digest, Error, PipelineName, Result, Revision, StreamName, TableName};
use forebay_pipeline::budget::Budget;
use forebay_pipeline::decoding::Decoding;
use forebay_pipeline::intake::driver::StreamContext;
use forebay_pipeline::metrics::{PipelineMetrics, StreamMetrics};
use forebay_pipeline::refine::bind::Materials;
use forebay_pipeline::refine::driver::{Formers, PipelineContext, PipelineHandle};
use forebay_pipeline::refine::protocol::{Event, RefineSettings, Report};
use forebay_pipeline::refine::segment::Workplace;
use forebay_pipeline::workers::Workers;
use forebay_sources::{MemorySource, MemoryUpstream};
use forebay_warehouse::MemoryWarehouse;

use crate::contract::support::{CountingRandom, SteeredClock};

/// What a rule in plain Rust does with a batch.
pub(crate) type Rule = fn(&BatchInput) -> Result<TransformOutput, TransformError>;

/// A module in plain Rust: the columns it requires, its routes (all columns passed), and what it does.
#[derive(Debug, Clone)]
pub(crate) struct NativeRule {
    pub(crate) requires: &'static [&'static str],
    pub(crate) routes: &'static [&'static str],
    pub(crate) rule: Rule,
}

#[derive(Debug)]
struct NativeModule(NativeRule, Description);

/// Loads whatever revision with the rule of now.
#[derive(Debug)]
struct Former(Option<NativeRule>);

#[async_trait::async_trait]
impl Formers for Former {
    async fn load(&self, record: RevisionRecord) -> Result<Arc<Materials>> {
        Ok(materials(self.0.as_ref(), record.revision, record.number))
    }
}

fn materials(rule: Option<&NativeRule>, revision: Revision, number: u32) -> Arc<Materials> {
    let modules: Vec<_> = rule.cloned().map(native).into_iter().collect();
    let assets: Vec<Assets> = modules.iter().map(|_| Assets::default()).collect();
    Arc::new(Materials { revision, number, modules, assets })
}

/// The rule as a module.
pub(crate) fn native(rule: NativeRule) -> Arc<dyn Module> {
    let description = Description {
        name: forebay_model::ids::ModuleName::new("rule").unwrap(),
        version: "0".to_owned(),
        doc: String::new(),
        config_schema: serde_json::json!({}),
        assets: vec![],
    };
    Arc::new(NativeModule(rule, description))
}

#[derive(Debug)]
struct NativeBound(Rule, Plan, SchemaRef);

struct NativeInstance(Rule);

impl Module for NativeModule {
    fn digest(&self) -> Digest {
        Digest::of(b"native")
    }

    fn description(&self) -> &Description {
        &self.1
    }

    fn bind(&self, input: &SchemaRef, _: &serde_json::Value, _: &Assets) -> Result<Arc<dyn BoundTransform>> {
        let NativeRule { requires, routes, rule } = &self.0;
        let inputs = requires
            .iter()
            .map(|name| InputColumn { name: (*name).to_owned(), source: InputSource::Column, required: true })
            .collect();
        let routes = routes
            .iter()
            .map(|name| RoutePlan {
                name: (*name).to_owned(),
                columns: vec![OutputColumn::PassOthers { except: vec![] }],
                computed: Arc::new(Schema::empty()),
            })
            .collect();
        Ok(Arc::new(NativeBound(*rule, Plan { inputs, routes, reusable: false }, Arc::clone(input))))
    }
}

impl BoundTransform for NativeBound {
    fn plan(&self) -> &Plan {
        &self.1
    }

    fn input(&self) -> &SchemaRef {
        &self.2
    }

    fn instance(&self, _: &SegmentContext) -> Result<Box<dyn TransformInstance>, TransformError> {
        Ok(Box::new(NativeInstance(self.0)))
    }
}

impl TransformInstance for NativeInstance {
    fn process(&mut self, input: &BatchInput) -> Result<TransformOutput, TransformError> {
        (self.0)(input)
    }
}

/// An emission of all rows to a route.
pub(crate) fn all(route: usize) -> Emission {
    Emission { route, selection: Selection::All, computed: vec![] }
}

/// An emission of some rows to a route.
pub(crate) fn some(route: usize, rows: Vec<u32>) -> Emission {
    Emission { route, selection: Selection::Rows(rows.into()), computed: vec![] }
}

/// Records with these numbers as `n`, and so much beside it that a few thousand are several segments.
pub(crate) fn lines(range: std::ops::Range<u64>) -> String {
    range.map(|n| format!("{{\"n\":{n},\"pad\":\"{}\"}}\n", "x".repeat(40))).collect()
}

/// The numbers among values.
pub(crate) fn numbers(values: &[serde_json::Value]) -> Vec<u64> {
    values.iter().filter_map(serde_json::Value::as_u64).collect()
}

/// The first column, of numbers.
pub(crate) fn of_n(input: &BatchInput) -> Vec<i64> {
    input.columns[0].as_primitive::<Int64Type>().values().to_vec()
}

/// The rows whose first column is wanted.
pub(crate) fn indexes(input: &BatchInput, wanted: impl Fn(i64) -> bool) -> Vec<u32> {
    (0_u32..).zip(of_n(input)).filter(|(_, n)| wanted(*n)).map(|(row, _)| row).collect()
}

/// A trap.
pub(crate) fn trap(message: &str) -> TransformError {
    TransformError { failure: TransformFailure::Trap, message: message.to_owned(), backtrace: vec![] }
}

/// How a host happens to work: what must make no difference to rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Habits {
    /// Bytes of a source's chunk.
    pub(crate) chunk: usize,
    /// Bytes that a read of a segment gives at most.
    pub(crate) read: usize,
    /// Objects of a poll.
    pub(crate) batch: usize,
    pub(crate) workers: usize,
    pub(crate) group_segments: usize,
    /// Where its chance begins.
    pub(crate) chance: u64,
}

impl Default for Habits {
    fn default() -> Self {
        Self { chunk: 1024, read: usize::MAX, batch: 8, workers: 2, group_segments: 4, chance: 1 }
    }
}

/// Gives little at a time.
struct Sip {
    reader: Box<dyn Read + Send>,
    most: usize,
}

impl Read for Sip {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let most = buffer.len().min(self.most);
        self.reader.read(&mut buffer[..most])
    }
}

#[derive(Debug)]
struct JsonLines {
    formats: Formats,
    read: usize,
}

impl Decoding for JsonLines {
    fn detect(&self, _: &str, _: &[u8]) -> String {
        "json".to_owned()
    }

    fn split_rule(&self, _: &str) -> SplitRule {
        // Small parts, so that a test's object is many segments.
        SplitRule::Lines { target: 64 * 1024 }
    }

    fn format(&self, name: &str) -> Result<Arc<dyn Format>> {
        Ok(self.formats.get(name)?)
    }

    fn decompress(&self, reader: Box<dyn Read + Send>, compression: Compression) -> Result<Box<dyn Read + Send>> {
        Ok(Box::new(Sip { reader: forebay_format::decompress(reader, compression)?, most: self.read }))
    }

    fn settings(&self) -> serde_json::Value {
        self.formats.settings()
    }
}

/// What outlives a process, and how one is started on it.
pub(crate) struct World {
    pub(crate) upstream: MemoryUpstream,
    pub(crate) clock: Arc<SteeredClock>,
    pub(crate) random: Arc<CountingRandom>,
    pub(crate) ledger: Arc<MemoryLedger>,
    pub(crate) zone: Arc<MemoryZone>,
    pub(crate) lake: MemoryWarehouse,
    pub(crate) rule: Option<NativeRule>,
    pub(crate) changes: SchemaChanges,
    pub(crate) widen_max_bytes: u64,
    /// Other hosts may make revisions active.
    pub(crate) shared: bool,
    pub(crate) habits: Habits,
}

/// What a run told.
#[derive(Default)]
pub(crate) struct Told(std::sync::Mutex<Vec<String>>);

impl Told {
    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl forebay_pipeline::refine::driver::Listener for Told {
    fn report(&self, _: &PipelineName, report: &Report) {
        let line = match report {
            Report::SegmentFailed(failure) => format!("failed: {}", failure.message),
            Report::NotBound { error, .. } => format!("not bound: {error}"),
            Report::NotGrown { error, .. } => format!("not grown: {error}"),
            Report::Retrying { what, error, .. } => format!("again: {what}: {error}"),
            Report::Serving { .. } | Report::Loaded { .. } | Report::Waiting(_) => return,
        };
        self.0.lock().unwrap().push(line);
    }
}

struct Quiet(PipelineHandle);

impl forebay_pipeline::intake::driver::Listener for Quiet {
    fn report(&self, _: &StreamName, _: &forebay_pipeline::intake::state::Report) {
        self.0.send(Event::Landed);
    }
}

/// No pipeline is there to be told.
pub(crate) struct Nobody;

impl forebay_pipeline::intake::driver::Listener for Nobody {
    fn report(&self, _: &StreamName, _: &forebay_pipeline::intake::state::Report) {}
}

impl World {
    pub(crate) fn new(rule: Option<NativeRule>) -> Self {
        Self::with(rule, Habits::default())
    }

    pub(crate) fn with(rule: Option<NativeRule>, habits: Habits) -> Self {
        let clock = Arc::new(SteeredClock::new());
        let random = Arc::new(CountingRandom::new(habits.chance));
        Self {
            upstream: MemoryUpstream::default(),
            ledger: Arc::new(MemoryLedger::new(random.as_ref())),
            zone: Arc::new(MemoryZone::new(clock.clone())),
            clock,
            random,
            lake: MemoryWarehouse::new(),
            rule,
            changes: SchemaChanges::Apply,
            widen_max_bytes: u64::MAX,
            shared: false,
            habits,
        }
    }

    pub(crate) fn pipeline() -> PipelineName {
        PipelineName::new("rule").unwrap()
    }

    pub(crate) fn stream() -> StreamName {
        StreamName::new("events").unwrap()
    }

    /// Each route leads to a table of its name; `out` where there is no rule.
    fn revision(&self) -> Revision {
        let table = |name: &str| -> TableName { format!("lake.{name}").parse().unwrap() };
        let routes = self.rule.as_ref().map_or(&["out"][..], |rule| rule.routes);
        let target =
            |name: &str| RouteTarget::Table { table: table(name), partition_by: vec![], schema_changes: self.changes };
        let step = Step {
            name: "rule".to_owned(),
            module: forebay_model::ids::ModuleName::new("rule").unwrap(),
            digest: Digest::of(b"native"),
            config: serde_json::json!({}),
            assets: BTreeMap::new(),
        };
        Revision {
            pipeline: Self::pipeline(),
            stream: Self::stream(),
            decoder: serde_json::json!({}),
            steps: self.rule.iter().map(|_| step.clone()).collect(),
            routes: routes.iter().map(|name| ((*name).to_owned(), target(name))).collect(),
            rejects: table("rejects"),
        }
    }

    /// Lands and refines everything that is there, as `run --once` does. Ends with what the pipeline ended with.
    pub(crate) fn run(&self) -> (Result<()>, Vec<String>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let told = Arc::new(Told::default());
        let result = runtime.block_on(self.run_once(Arc::clone(&told)));
        (result, told.lines())
    }

    /// [`World::run`], where nothing is to go wrong.
    pub(crate) fn run_well(&self) {
        let (result, told) = self.run();
        result.unwrap();
        assert_eq!(told, Vec::<String>::new());
    }

    async fn run_once(&self, told: Arc<Told>) -> Result<()> {
        let workers = self.habits.workers;
        let budget = Budget::new(256 << 20, workers);
        let (handle, pipeline) = self.pipeline_of(workers, true, told, &budget)?;
        let pipeline = tokio::spawn(pipeline);
        handle.deploy(self.materials().await?);
        let landed = self.land(&handle, budget).await;
        handle.send(Event::CaughtUp);
        let refined = tokio::time::timeout(Duration::from_secs(60), pipeline).await;
        refined
            .map_err(|_| Error::bug("the pipeline does not end"))?
            .map_err(|error| Error::bug(error.to_string()))??;
        landed
    }

    fn decoding(&self) -> Result<Arc<dyn Decoding>> {
        let formats = Formats::from_config(&serde_json::json!("json"))?;
        Ok(Arc::new(JsonLines { formats, read: self.habits.read }))
    }

    /// The pipeline, started with so many workers.
    pub(crate) fn pipeline_of(
        &self,
        workers: usize,
        once: bool,
        told: Arc<Told>,
        budget: &Budget,
    ) -> Result<(PipelineHandle, impl Future<Output = Result<()>> + Send + 'static)> {
        let lake: Arc<dyn Warehouse> = Arc::new(self.lake.clone());
        let warehouses = Arc::new(BTreeMap::from([(forebay_model::ids::WarehouseName::new("lake")?, lake)]));
        let context = PipelineContext {
            pipeline: Self::pipeline(),
            stream: Self::stream(),
            ledger: self.ledger.clone(),
            shared: self.shared,
            place: Workplace {
                zone: self.zone.clone(),
                decoding: self.decoding()?,
                metrics: Arc::new(PipelineMetrics::default()),
            },
            warehouses,
            formers: Arc::new(Former(self.rule.clone())),
            workers: Workers::start(workers)?,
            budget: budget.clone(),
            clock: self.clock.clone(),
            random: self.random.clone(),
            widen_max_bytes: self.widen_max_bytes,
            failpoint: |_| {},
        };
        let settings = RefineSettings {
            workers,
            group_segments: self.habits.group_segments,
            group_bytes: 1 << 30,
            group_age: Duration::from_secs(3600),
            poll: Duration::from_millis(10),
            once,
        };
        Ok(PipelineHandle::start(context, settings, told))
    }

    /// The revision that the rule means, recorded, with what it names.
    pub(crate) async fn materials(&self) -> Result<Arc<Materials>> {
        let revision = self.revision();
        let record = self.ledger.record_revision(&revision, self.clock.now()).await?;
        Ok(materials(self.rule.as_ref(), revision, record.number))
    }

    /// The stream, which lands what the source has.
    pub(crate) fn stream_context(&self, budget: Budget) -> Result<StreamContext> {
        let (upstream, Habits { chunk, batch, .. }) = (self.upstream.clone(), self.habits);
        Ok(StreamContext {
            stream: Self::stream(),
            source: Arc::new(move |progress| {
                Ok(Box::new(MemorySource::open(upstream.clone(), progress, batch).in_chunks_of(chunk)))
            }),
            ledger: self.ledger.clone(),
            zone: self.zone.clone(),
            decoding: self.decoding()?,
            naming: forebay_landing::naming::object_name,
            budget,
            clock: self.clock.clone(),
            random: self.random.clone(),
            metrics: Arc::new(StreamMetrics::default()),
            failpoint: |_| {},
        })
    }

    /// Lands what the source has.
    pub(crate) async fn land(&self, handle: &PipelineHandle, budget: Budget) -> Result<()> {
        let stream = self.stream_context(budget)?;
        let (_stop, stopped) = tokio::sync::watch::channel(false);
        forebay_pipeline::intake::driver::run(stream, true, stopped, Arc::new(Quiet(handle.clone()))).await
    }

    /// Lands what the source has, while no pipeline is there.
    pub(crate) fn lands(&self) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let stream = self.stream_context(Budget::new(256 << 20, 1)).unwrap();
            let (_stop, stopped) = tokio::sync::watch::channel(false);
            forebay_pipeline::intake::driver::run(stream, true, stopped, Arc::new(Nobody)).await.unwrap();
        });
    }

    /// The rows of a table; none where there is no table.
    pub(crate) fn rows(&self, table: &str) -> Vec<serde_json::Map<String, serde_json::Value>> {
        let Some(batch) = self.lake.rows(table).unwrap() else { return vec![] };
        json_rows(&batch)
    }

    /// A column of a table, as JSON, sorted: numbers by value, others by their text.
    pub(crate) fn column(&self, table: &str, column: &str) -> Vec<serde_json::Value> {
        let mut values: Vec<_> =
            self.rows(table).iter().map(|row| row.get(column).cloned().unwrap_or_default()).collect();
        values.sort_by(|a, b| match (a.as_f64(), b.as_f64()) {
            (Some(a), Some(b)) => a.total_cmp(&b),
            (None, _) | (_, None) => a.to_string().cmp(&b.to_string()),
        });
        values
    }

    /// A ledger table's column, as JSON.
    pub(crate) fn ledger_column(&self, table: &str, column: &str) -> Vec<serde_json::Value> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let batch = runtime.block_on(self.ledger.read_table(table)).unwrap();
        json_rows(&batch).iter().map(|row| row.get(column).cloned().unwrap_or_default()).collect()
    }

    /// What a call of the ledger or a store answers.
    pub(crate) fn now<T>(&self, call: impl Future<Output = Result<T>>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(call).unwrap()
    }

    /// Objects of the zone that the ledger does not list.
    pub(crate) fn orphans(&self) -> Vec<String> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let names: Vec<_> = self.zone.list("").await.unwrap().into_iter().map(|entry| entry.name).collect();
            let listed = self.ledger.objects_listed(&names).await.unwrap();
            names.into_iter().zip(listed).filter(|(_, listed)| !listed).map(|(name, _)| name).collect()
        })
    }
}

fn json_rows(batch: &RecordBatch) -> Vec<serde_json::Map<String, serde_json::Value>> {
    let options = arrow_json::EncoderOptions::default().with_explicit_nulls(true);
    let schema = batch.schema();
    let mut rows = vec![serde_json::Map::new(); batch.num_rows()];
    for (field, column) in schema.fields().iter().zip(batch.columns()) {
        let mut encoder = arrow_json::writer::make_encoder(field, column.as_ref(), &options).unwrap();
        for (index, row) in rows.iter_mut().enumerate() {
            let mut text = Vec::new();
            if column.is_null(index) {
                text.extend_from_slice(b"null");
            } else {
                encoder.encode(index, &mut text);
            }
            row.insert(field.name().clone(), serde_json::from_slice(&text).unwrap());
        }
    }
    rows
}
