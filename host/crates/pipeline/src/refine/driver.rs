//! Carries out what the state machine of a pipeline asks for.
//!
//! Effects that wait run as tasks and answer by an event; segments run on the worker threads. There is one driver a pipeline, so
//! what it remembers of tables (their schemas after loads that are under way) is all there is to know.

mod work;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use forebay_model::kept::{KeptSchema, KeptWithdrawal};
use forebay_model::load::Again;
use forebay_model::ports::{Clock, Ledger, Random, RevisionRecord, SegmentFailure, WorkItem};
use forebay_model::schema::Evolution;
use forebay_model::{
    Error, ErrorClass, LandedSegment, Load, PipelineName, Result, RevisionId, SegmentCounts, StreamName, StreamSchema,
    TableName, Timestamp,
};
use tokio::sync::{RwLock, mpsc};

use super::bind::{BoundPipeline, Materials, Surroundings, Warehouses, bind, decodes_alike};
use super::fit::TableState;
use super::group::BoundSummary;
use super::protocol::{Binding, BindingId, Effect, Event, Growth, Now, Recovered, RefineSettings, Report};
use super::rehearse::{Extent, Rehearsed, rehearse};
use super::segment::Workplace;
use super::state::Refine;
use crate::budget::Budget;
use crate::decoding::open_segment;
use crate::metrics::Stage;
use crate::panics::{caught, caught_in};
use crate::workers::Workers;

/// Everything that a pipeline needs of the host.
#[derive(Debug, Clone)]
pub struct PipelineContext {
    /// Its name.
    pub pipeline: PipelineName,
    /// The stream that it reads.
    pub stream: StreamName,
    /// The ledger.
    pub ledger: Arc<dyn Ledger>,
    /// Other hosts may make revisions active there.
    pub shared: bool,
    /// The landing zone, the formats, the counters.
    pub place: Workplace,
    /// The warehouses.
    pub warehouses: Warehouses,
    /// Loads revisions that are not the active one.
    pub formers: Arc<dyn Formers>,
    /// The worker threads.
    pub workers: Workers,
    /// The budget.
    pub budget: Budget,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub random: Arc<dyn Random>,
    /// A table above this is not rewritten to widen a column.
    pub widen_max_bytes: u64,
    /// Called at named points, for faults.
    pub failpoint: fn(&str),
}

/// Loads recorded revisions that nobody deployed in this process: replays ask for them.
#[async_trait]
pub trait Formers: Send + Sync + std::fmt::Debug {
    /// What a revision names, loaded, under the limits that the pipeline has now.
    ///
    /// # Errors
    /// Where something of it is gone, or does not load any more.
    async fn load(&self, record: RevisionRecord) -> Result<Arc<Materials>>;
}

/// Told what a pipeline does.
pub trait Listener: Send + Sync {
    /// Something to tell.
    fn report(&self, pipeline: &PipelineName, report: &Report);
}

/// A pipeline that runs.
#[derive(Debug, Clone)]
pub struct PipelineHandle {
    events: mpsc::UnboundedSender<Event>,
    driver: Arc<Driver>,
    /// Read by each effect that is under way.
    effects: Arc<RwLock<()>>,
}

#[derive(Debug)]
struct Driver {
    context: PipelineContext,
    /// When it was made: before its stream can land anything in this process.
    began: Timestamp,
    materials: Mutex<BTreeMap<RevisionId, Arc<Materials>>>,
    deployed: Mutex<Option<RevisionId>>,
    bindings: Mutex<BTreeMap<BindingId, Arc<BoundPipeline>>>,
    /// Tables as they will be when all that is under way has loaded.
    tables: Mutex<BTreeMap<TableName, arrow_schema::SchemaRef>>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl PipelineHandle {
    /// Starts a pipeline. It waits for a revision ([`PipelineHandle::deploy`]); the future ends when it finishes.
    pub fn start(
        context: PipelineContext,
        settings: RefineSettings,
        listener: Arc<dyn Listener>,
    ) -> (Self, impl Future<Output = Result<()>> + Send) {
        let (handle, running) = Self::asleep(context, settings, listener);
        handle.wake();
        (handle, running)
    }

    /// The same of a pipeline that does nothing before it is woken, as one of several hosts has it while another host runs it: it takes
    /// revisions, checks and rehearses them.
    pub fn asleep(
        context: PipelineContext,
        settings: RefineSettings,
        listener: Arc<dyn Listener>,
    ) -> (Self, impl Future<Output = Result<()>> + Send) {
        let (events, queue) = mpsc::unbounded_channel();
        let state = Refine::new(context.pipeline.clone(), context.ledger.id(), settings);
        let driver = Arc::new(Driver {
            began: context.clock.now(),
            context,
            materials: Mutex::default(),
            deployed: Mutex::default(),
            bindings: Mutex::default(),
            tables: Mutex::default(),
        });
        let handle = Self { events, driver, effects: Arc::default() };
        let running = handle.clone().run(state, queue, listener);
        (handle, running)
    }

    /// From now on it does its work; once more does nothing.
    pub fn wake(&self) {
        self.send(Event::Start);
    }

    /// What a revision would do: bound to the present schema and tables, nothing else changed. `None` before the first schema.
    ///
    /// # Errors
    /// Why it does not fit.
    pub async fn check(&self, materials: Arc<Materials>) -> Result<Option<Arc<BoundPipeline>>> {
        let Some(schema) = self.driver.context.ledger.schema(&self.driver.context.pipeline).await? else {
            return Ok(None);
        };
        self.driver.bind(materials, schema).await.map(Some)
    }

    /// What a revision makes of a segment's first records, beside the workers; nothing changes.
    ///
    /// # Errors
    /// As for [`rehearse`].
    pub async fn rehearse(
        &self,
        bound: Arc<BoundPipeline>,
        segment: LandedSegment,
        extent: Extent,
    ) -> Result<Rehearsed> {
        let place = self.driver.context.place.clone();
        let rehearsed = move || rehearse(place.zone.as_ref(), place.decoding.as_ref(), &bound, &segment, extent);
        self.driver.context.workers.aside(rehearsed).await
    }

    /// Makes a revision the one that takes the next segments.
    pub fn deploy(&self, materials: Arc<Materials>) {
        let (id, number) = (materials.revision.id(), materials.number);
        lock(&self.driver.materials).insert(id, materials);
        *lock(&self.driver.deployed) = Some(id);
        self.send(Event::Deployed { revision: id, number });
    }

    /// Whether a revision is the one that was deployed last in this process.
    #[must_use]
    pub fn is_deployed(&self, revision: RevisionId) -> bool {
        *lock(&self.driver.deployed) == Some(revision)
    }

    /// Whether it has not finished. One that has takes no revision.
    #[must_use]
    pub fn is_running(&self) -> bool {
        !self.events.is_closed()
    }

    /// Of one that has finished: returns when no effect of it is under way any more. What it had begun when it ended with an
    /// error must not come between what its next life does.
    pub async fn quiet(&self) {
        drop(self.effects.write().await);
    }

    /// Brings an event: `Landed`, `CaughtUp`, `Approved`, `Shutdown`.
    pub fn send(&self, event: Event) {
        // A pipeline that has finished hears nothing.
        drop(self.events.send(event));
    }

    async fn run(
        self,
        mut state: Refine,
        mut queue: mpsc::UnboundedReceiver<Event>,
        listener: Arc<dyn Listener>,
    ) -> Result<()> {
        while let Some(event) = queue.recv().await {
            let context = &self.driver.context;
            let now = Now { now: context.clock.now(), random: context.random.as_ref() };
            for effect in state.step(now, event) {
                if let Effect::Finish(result) = effect {
                    return result;
                }
                if let Effect::Report(report) = &effect {
                    context.count(report);
                    listener.report(&context.pipeline, report);
                } else {
                    self.carry_out(effect);
                }
            }
        }
        Ok(())
    }

    fn carry_out(&self, effect: Effect) {
        let driver = Arc::clone(&self.driver);
        let events = self.events.clone();
        let on_panic = effect.on_panic();
        // Nothing is waited for that only waits. Nobody writes as long as it runs, so there is no other reason to fail.
        let waits = matches!(effect, Effect::WakeAfter(_, _));
        let held = if waits { None } else { Arc::clone(&self.effects).try_read_owned().ok() };
        tokio::spawn(async move {
            let _held = held;
            let done = caught(async { Ok(driver.perform(effect).await) }).await;
            if let Some(event) = done.unwrap_or_else(on_panic) {
                drop(events.send(event));
            }
        });
    }
}

impl PipelineContext {
    fn count(&self, report: &Report) {
        let metrics = &self.place.metrics;
        match report {
            Report::Loaded { group, receipts, bytes } => {
                metrics.bytes.add(*bytes);
                metrics.segments_loaded.add(group.segments.len() as u64);
                for segment in &group.segments {
                    metrics.fails_no_more(std::iter::once(&segment.segment).chain(&segment.replaces));
                    let SegmentCounts { records, loaded, filtered, rejected, rescued } = segment.counts;
                    metrics.loaded.add(loaded);
                    metrics.rescued.add(rescued);
                    match segment.again {
                        Some(Again::Heal) => {
                            metrics.tried_again.add(records);
                            metrics.healed.add(loaded + filtered);
                        }
                        Some(Again::Replay) | None => {
                            metrics.records.add(records);
                            metrics.filtered.add(filtered);
                            metrics.rejected.add(rejected);
                        }
                    }
                }
                for (table, receipt) in receipts {
                    metrics.add_rows(&table.to_string(), receipt.rows_added);
                }
            }
            Report::SegmentFailed(failure) => metrics.failed(&failure.segment),
            Report::Waiting(segments) => metrics.segments_waiting.set(*segments),
            Report::Serving { .. } | Report::NotBound { .. } | Report::NotGrown { .. } | Report::Retrying { .. } => {}
        }
    }
}

impl Driver {
    async fn perform(self: Arc<Self>, effect: Effect) -> Option<Event> {
        let context = &self.context;
        let ledger = &context.ledger;
        let pipeline = &context.pipeline;
        match effect {
            Effect::Recover => Some(Event::Recovered(self.recover().await)),
            Effect::FetchWork { revision, skip, limit, again } => {
                Some(Event::Worked(self.fetch(revision, &skip, limit, again).await))
            }
            Effect::Infer(items) => Some(Event::Inferred(self.infer(items).await)),
            Effect::Bind { id, revision, schema } => Some(Event::Bound(id, self.bind_as(id, revision, schema).await)),
            Effect::BindBeside { id, revision, schema } => {
                Some(Event::Bound(id, self.bind_beside(id, revision, schema).await))
            }
            Effect::Grow { id, revision, from, evolution } => {
                Some(Event::Grown(id, self.grow(id, revision, from, evolution).await))
            }
            Effect::Refine { binding, job } => {
                let segment = job.item.segment.id.clone();
                Some(Event::Refined(segment, self.refine(binding, *job).await))
            }
            Effect::Discard(files) => {
                self.discard(files).await;
                None
            }
            Effect::FindTables(segments) => Some(Event::Found(ledger.tables_of(pipeline, &segments).await)),
            Effect::OpenGroup(group) => {
                (context.failpoint)("before_open_group");
                let opened = self.timed(ledger.open_group(&group)).await;
                (context.failpoint)("after_open_group");
                Some(Event::Opened(opened))
            }
            Effect::Commit(load) => {
                (context.failpoint)("before_commit");
                let table = load.table.clone();
                let committed = match context.warehouses.get(&table.warehouse) {
                    Some(warehouse) => self.timed(warehouse.commit(&load)).await,
                    None => {
                        Err(Error::operator(format!("table {table} is in a warehouse that is not configured any more"))
                            .with_hint(format!("add [warehouses.{}] until its loads are done", table.warehouse)))
                    }
                };
                (context.failpoint)("after_commit");
                Some(Event::Committed(table, committed))
            }
            Effect::CloseLoad { number, table, receipt } => {
                (context.failpoint)("before_close_load");
                let closed =
                    self.timed(ledger.close_load(pipeline, number, &table, &receipt, context.clock.now())).await;
                Some(Event::Closed(table, closed))
            }
            Effect::Withdraw { number, failures, loads } => {
                (context.failpoint)("before_withdraw");
                let withdrawn = self.withdraw(number, &failures).await;
                (context.failpoint)("after_withdraw");
                if withdrawn.is_ok() {
                    self.forget(loads).await;
                }
                Some(Event::Withdrawn(withdrawn))
            }
            Effect::NoteFailure(failure) => {
                let segment = failure.segment.clone();
                Some(Event::Noted(segment, ledger.fail(pipeline, &failure).await))
            }
            Effect::RetryFailed { revision } => Some(Event::Retried(self.retry_failed(revision).await)),
            Effect::WakeAfter(wake, pause) => {
                context.clock.sleep(pause).await;
                Some(Event::Woke(wake))
            }
            Effect::DropBinding(id) => {
                lock(&self.bindings).remove(&id);
                None
            }
            Effect::Report(_) | Effect::Finish(_) => None,
        }
    }

    async fn timed<T>(&self, work: impl Future<Output = T>) -> T {
        let from = std::time::Instant::now();
        let result = work.await;
        self.context.place.metrics.clocks.add_since(Stage::Commit, from);
        result
    }

    async fn recover(&self) -> Result<Recovered> {
        let ledger = &self.context.ledger;
        let pipeline = &self.context.pipeline;
        ledger.begin(pipeline, &self.context.stream, self.began).await?;
        Ok(Recovered {
            groups: ledger.open_groups(pipeline).await?,
            last_number: ledger.last_number(pipeline).await?,
            schema: ledger.schema(pipeline).await?,
        })
    }

    /// The first schema: from the first segments of one format, in the order of landing. Where they say nothing, `None`: they
    /// fail one by one, with their reasons, and what can be read grows the schema from nothing.
    async fn infer(&self, items: Vec<WorkItem>) -> Result<Option<StreamSchema>> {
        let place = self.context.place.clone();
        let inferred = self
            .context
            .workers
            .run(move || {
                let mut formats = items.iter().map(|item| &item.segment.format);
                let known = formats.find_map(|name| Some((name, place.decoding.format(name).ok()?)));
                let Some((name, format)) = known else { return Ok(None) };
                let same = items.iter().filter(|item| item.segment.format == *name);
                let open =
                    |item: &WorkItem| open_segment(place.zone.as_ref(), place.decoding.as_ref(), &item.segment).ok();
                let inferred = caught_in(|| format.infer(same.filter_map(open).collect()));
                inferred.or_else(|error| match error.class() {
                    ErrorClass::Retry | ErrorClass::Fenced => Err(error),
                    ErrorClass::RejectRows | ErrorClass::Operator | ErrorClass::Bug => Ok(None),
                })
            })
            .await?;
        let Some(schema) = inferred else { return Ok(None) };
        let ledger = &self.context.ledger;
        let pipeline = &self.context.pipeline;
        let fixed = ledger.evolve_schema(pipeline, None, &schema, self.context.clock.now()).await?;
        (self.context.failpoint)("after_schema");
        match fixed {
            Some(fixed) => Ok(Some(fixed)),
            None => ledger.schema(pipeline).await,
        }
    }

    fn materials(&self, revision: RevisionId) -> Result<Arc<Materials>> {
        lock(&self.materials)
            .get(&revision)
            .cloned()
            .ok_or_else(|| Error::bug(format!("revision {} was deployed without its modules", revision.short())))
    }

    async fn bind(&self, materials: Arc<Materials>, schema: StreamSchema) -> Result<Arc<BoundPipeline>> {
        let surroundings = self.surroundings(&materials).await?;
        self.bind_to(materials, schema, surroundings).await
    }

    /// Says what the rule and the tables say; nothing is asked of ledger or warehouse any more.
    async fn bind_to(
        &self,
        materials: Arc<Materials>,
        schema: StreamSchema,
        surroundings: Surroundings,
    ) -> Result<Arc<BoundPipeline>> {
        self.context.workers.aside(move || bind(&materials, &schema, &surroundings).map(Arc::new)).await
    }

    async fn surroundings(&self, materials: &Materials) -> Result<Surroundings> {
        let held = self.context.ledger.held_changes().await?;
        let mut tables = BTreeMap::new();
        for table in materials.revision.tables() {
            let info = match self.context.warehouses.get(&table.warehouse) {
                Some(warehouse) => warehouse.table(&table.table).await?,
                None => None,
            };
            let expected = lock(&self.tables).get(&table).cloned();
            let mut state = TableState::new(info, &table, &held);
            state.schema = expected.or(state.schema);
            tables.insert(table, state);
        }
        Ok(Surroundings {
            warehouses: Arc::clone(&self.context.warehouses),
            ledger: self.context.ledger.id(),
            tables,
            widen_max_bytes: self.context.widen_max_bytes,
            now: self.context.clock.now(),
        })
    }

    /// What the rule and the tables say is an answer; an error is of what had to be asked or kept for it.
    async fn bind_as(&self, id: BindingId, revision: RevisionId, schema: StreamSchema) -> Result<Binding> {
        let materials = self.materials(revision)?;
        self.bind_and_adopt(id, materials, schema).await
    }

    async fn bind_and_adopt(&self, id: BindingId, materials: Arc<Materials>, schema: StreamSchema) -> Result<Binding> {
        let surroundings = self.surroundings(&materials).await?;
        match self.bind_to(materials, schema, surroundings).await {
            Ok(bound) => self.adopt(id, bound).await.map(Binding::Done),
            Err(error) if error.class() == ErrorClass::Retry => Err(error),
            Err(error) => Ok(Binding::Refused(error)),
        }
    }

    /// The same of a revision that a replay asked for.
    async fn bind_beside(&self, id: BindingId, revision: RevisionId, schema: StreamSchema) -> Result<Binding> {
        let PipelineContext { pipeline, stream, ledger, place, formers, .. } = &self.context;
        let Some(record) = ledger.revision(pipeline, revision).await? else {
            let error =
                Error::operator(format!("revision {} of pipeline {pipeline} is not recorded", revision.short()));
            return Ok(Binding::Refused(error.with_hint("`forebay revisions list` shows those that are")));
        };
        if let Err(error) = decodes_alike(&record, stream, &place.decoding.settings()) {
            return Ok(Binding::Refused(error));
        }
        let materials = formers.load(record).await?;
        (self.context.failpoint)("after_former");
        self.bind_and_adopt(id, materials, schema).await
    }

    async fn adopt(&self, id: BindingId, bound: Arc<BoundPipeline>) -> Result<BoundSummary> {
        self.keep_schema(&bound.schema).await?;
        let held = bound.held();
        if !held.is_empty() {
            self.context.ledger.hold_changes(&held).await?;
        }
        let partitions = bound.targets.iter().chain([&bound.rejects]).map(|target| {
            let fit = &target.fit;
            (fit.table.clone(), (Arc::clone(&fit.after), fit.partition_by.clone()))
        });
        let summary = BoundSummary {
            revision: bound.revision,
            number: bound.number,
            schema_version: bound.schema.version,
            tables: partitions.collect(),
        };
        lock(&self.tables).extend(bound.tables_after());
        lock(&self.bindings).insert(id, bound);
        Ok(summary)
    }

    /// Keeps a schema in the zone before anything is decoded to it: a ledger that is rebuilt goes on with it.
    async fn keep_schema(&self, schema: &StreamSchema) -> Result<()> {
        if schema.version == 0 {
            return Ok(());
        }
        let zone = &self.context.place.zone;
        let kept = KeptSchema::new(self.context.pipeline.clone(), schema.clone(), self.context.clock.now());
        let name = kept.name()?;
        if zone.kept(&name).await?.is_some() {
            return Ok(());
        }
        zone.keep(&name, kept.to_bytes()?.into()).await
    }

    async fn grow(
        &self,
        id: BindingId,
        revision: RevisionId,
        from: StreamSchema,
        evolution: Evolution,
    ) -> Result<Growth> {
        let ledger = &self.context.ledger;
        let pipeline = &self.context.pipeline;
        let materials = self.materials(revision)?;
        let wanted = StreamSchema { version: from.version + 1, schema: evolution.schema };
        // Bound before it is fixed: a schema that the rule refuses is not grown to.
        let surroundings = self.surroundings(&materials).await?;
        let bound = match self.bind_to(Arc::clone(&materials), wanted.clone(), surroundings).await {
            Ok(bound) => bound,
            Err(error) if error.class() == ErrorClass::Retry => return Err(error),
            Err(error) => return Ok(Growth::Refused(error)),
        };
        let known = (from.version > 0).then_some(from.version);
        let grown = ledger.evolve_schema(pipeline, known, &wanted.schema, self.context.clock.now()).await?;
        (self.context.failpoint)("after_growth");
        let (schema, bound) = match grown {
            Some(fixed) if fixed.version == wanted.version => (fixed, bound),
            Some(fixed) => (fixed.clone(), self.bind(materials, fixed).await?),
            None => {
                let Some(newer) = ledger.schema(pipeline).await? else { return Ok(Growth::Behind) };
                (newer.clone(), self.bind(materials, newer).await?)
            }
        };
        tracing::info!(
            pipeline = %pipeline, version = schema.version, added = evolution.added.join(", "),
            widened = evolution.widened.join(", "),
            "schema grew"
        );
        let summary = self.adopt(id, bound).await?;
        Ok(Growth::Done(schema, summary))
    }

    /// First it is kept beside the raw data: some tables may have the group, and a ledger that is rebuilt could not tell.
    async fn withdraw(&self, number: u64, failures: &[SegmentFailure]) -> Result<()> {
        let PipelineContext { pipeline, ledger, .. } = &self.context;
        let segments = failures.iter().map(|failure| failure.segment.clone()).collect();
        let kept = KeptWithdrawal::new(pipeline.clone(), number, segments);
        self.context.place.zone.keep(&kept.name(), kept.to_bytes()?.into()).await?;
        (self.context.failpoint)("in_withdraw");
        self.timed(ledger.withdraw_group(pipeline, number, failures)).await
    }

    /// Loads that will never be: their files go, and what they would have made of their tables is expected no more.
    async fn forget(&self, loads: Vec<Load>) {
        for load in &loads {
            lock(&self.tables).remove(&load.table);
        }
        self.discard(loads.into_iter().map(|load| (load.table, load.files)).collect()).await;
    }

    async fn discard(&self, files: BTreeMap<TableName, Vec<forebay_model::StagedFile>>) {
        for (table, files) in files {
            let Some(warehouse) = self.context.warehouses.get(&table.warehouse) else { continue };
            if let Err(error) = warehouse.discard(&table.table, &files).await {
                // Maintenance removes them later.
                tracing::warn!(table = %table, error = error.chain(), "staged files were not removed");
            }
        }
    }
}
