//! A process: what the host assembles and does, over ports that fail.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use arrow_array::cast::AsArray;
use async_trait::async_trait;
use forebay_model::ids::{ModuleName, WarehouseName};
use forebay_model::kept::{KeptModule, KeptRevision};
use forebay_model::load::{Again, Terms};
use forebay_model::ports::{
    Assets, Clock, DeploymentState, HealRequest, LandingZone, MaintainOptions, MaintainReport, Module, Random,
    ReplayRequest, RevisionRecord,
};
use forebay_model::revision::{RouteTarget, Step};
use forebay_model::{Error, ErrorClass, PipelineName, Result, Revision, RevisionId, SegmentId, StreamName, Timestamp};
use forebay_pipeline::budget::Budget;
use forebay_pipeline::decoding::Decoding;
use forebay_pipeline::intake::driver::{StreamContext, claim_zone};
use forebay_pipeline::metrics::{PipelineMetrics, StreamMetrics};
use forebay_pipeline::orphans::{self, SweepOptions, SweepReport};
use forebay_pipeline::refine::bind::{Materials, Warehouses};
use forebay_pipeline::refine::driver::{Formers, PipelineContext, PipelineHandle};
use forebay_pipeline::refine::protocol::{Event, RefineSettings, Report};
use forebay_pipeline::refine::segment::Workplace;
use forebay_pipeline::workers::{Executor, Job, Workers};
use forebay_sources::MemorySource;
use tokio::sync::watch;

use super::faults::{Chaos, FaultyLedger, FaultySource, FaultyWarehouse, FaultyZone};
use super::rule::{Config, SimModule};
use super::scenario::{Action, Shape};
use super::storage::Stores;
use super::tally::Tally;
use super::world::World;

/// How a process is started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Life {
    /// `run --once`, or until it is told to stop.
    pub(crate) once: bool,
    /// What happens meanwhile.
    pub(crate) actions: u64,
    /// The last of the pipelines is not there yet.
    pub(crate) without_last: bool,
}

/// How a process ended.
#[derive(Debug)]
pub(crate) enum End {
    /// By itself.
    Finished(Result<()>),
    /// It died.
    Died,
}

impl End {
    pub(crate) fn count(&self, life: Life, tally: &mut Tally) {
        match self {
            Self::Died => tally.deaths += 1,
            Self::Finished(Err(_)) => tally.gave_up += 1,
            Self::Finished(Ok(())) if life.once => tally.lives_once += 1,
            Self::Finished(Ok(())) => tally.lives_stopped += 1,
        }
    }
}

/// Runs a process until it ends or dies.
pub(crate) fn live(world: &Arc<World>, life: Life) -> End {
    let (clock, chaos) = (Arc::clone(&world.clock), Arc::clone(&world.chaos));
    let stuck = Arc::clone(&chaos);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .on_thread_park(move || {
            // Nothing can run now: time goes on. What a real disk still does is waited for.
            if !stuck.is_busy() && !clock.jump() && !stuck.is_dead() {
                stuck.violation("the process hangs: nothing is left to do, and it has not ended".to_owned());
                stuck.die("it hangs");
            }
        })
        .enable_all()
        .build()
        .unwrap();
    let host = host(Arc::clone(world), life);
    let mut host = Box::pin(host);
    let end = runtime.block_on(poll_fn(|context| {
        if chaos.death(context.waker()).is_some() {
            return Poll::Ready(End::Died);
        }
        host.as_mut().poll(context).map(End::Finished)
    }));
    chaos.note(|| format!("── the process has ended: {end:?}"));
    let died = matches!(end, End::Died);
    if died {
        world.storage.dying();
    }
    // All its memory goes; from here on none of its calls has an effect.
    chaos.die("the end");
    let context = runtime.enter();
    drop(host);
    drop(context);
    drop(runtime);
    world.clock.forget();
    world.storage.ended(died);
    end
}

/// Runs jobs one after the other, each a while after it was asked for.
#[derive(Debug)]
struct SimWorkers(Arc<Chaos>);

impl Executor for SimWorkers {
    fn execute(&self, job: Job) -> Result<()> {
        let chaos = Arc::clone(&self.0);
        tokio::spawn(async move {
            chaos.clock.sleep(chaos.while_()).await;
            chaos.alive().await;
            job();
        });
        Ok(())
    }

    fn execute_aside(&self, job: Job) -> Result<()> {
        self.execute(job)
    }
}

/// What a process has.
pub(super) struct Process {
    pub(super) world: Arc<World>,
    pub(super) stores: Stores,
    pub(super) clock: Arc<dyn Clock>,
    /// When it started.
    since: Timestamp,
    pub(super) pipelines: Vec<(Shape, PipelineHandle)>,
}

async fn host(world: Arc<World>, life: Life) -> Result<()> {
    let Stores { ledger, zone, lake, model } = world.chaos.working(world.storage.open()).await?;
    let chaos = Arc::clone(&world.chaos);
    let stores = Stores {
        ledger: Arc::new(FaultyLedger { inner: ledger, chaos: Arc::clone(&chaos) }),
        zone: Arc::new(FaultyZone { inner: zone, model, chaos: Arc::clone(&chaos) }),
        lake: Arc::new(FaultyWarehouse { inner: lake, chaos: Arc::clone(&chaos) }),
        model: None,
    };
    let clock: Arc<dyn Clock> = world.clock.clone();
    let since = clock.now();
    let Some(_lease) = stores.ledger.lease_host().await? else {
        chaos.violation("a process died, and its lease is still taken".to_owned());
        return Ok(());
    };
    claim_zone(stores.zone.as_ref(), stores.ledger.as_ref(), clock.as_ref()).await?;
    let workers = world.number(1..4);
    let workers = Workers::on(Arc::new(SimWorkers(Arc::clone(&chaos))), usize::try_from(workers).unwrap());
    let budget = Budget::new(256 << 20, workers.threads());
    let mut process = Process { world: Arc::clone(&world), stores, clock, since, pipelines: Vec::new() };
    let mut running = process.start_pipelines(life, &workers, &budget);
    process.deploy_all(life).await?;
    let (stop, stopped) = watch::channel(false);
    running.push(tokio::spawn(process.stream(life, budget, stopped)));
    let process = Arc::new(process);
    let acting = tokio::spawn(act(Arc::clone(&process), life, stop));
    let mut result = Ok(());
    for task in running {
        // A task that panicked is a bug of the host, whatever came of the others.
        let ended = task.await.map_err(|error| Error::bug(format!("a task panicked: {error}")))?;
        result = result.and(ended);
    }
    acting.abort();
    match acting.await {
        Err(error) if error.is_panic() => Err(Error::bug(format!("what acted on the process panicked: {error}"))),
        Ok(()) | Err(_) => result,
    }
}

/// What happens while the process runs; at the end, it is told to stop.
async fn act(process: Arc<Process>, life: Life, stop: watch::Sender<bool>) {
    let chaos = &process.world.chaos;
    let perform = async |action: Action| {
        chaos.note(|| format!("→  {action:?}"));
        if let Err(error) = process.perform(action).await {
            chaos.note(|| format!("   it failed: {error}"));
        }
    };
    // What was in shadow when the last process died; in the end nobody decides any more.
    let shadows = if process.world.is_healed() { 0 } else { process.pipelines.len() };
    for index in 0..shadows {
        if let Err(error) = process.compare(index).await {
            chaos.note(|| format!("   a shadow stays: {error}"));
        }
    }
    if life.actions > 0 {
        let first = process.world.scenario().first();
        for action in first {
            perform(action).await;
        }
    }
    for _ in 0..life.actions {
        let pause = process.world.number(0..3_000);
        process.clock.sleep(Duration::from_millis(pause)).await;
        let action = process.world.scenario().next();
        perform(action).await;
    }
    if life.once {
        // The sender stays: a stream whose sender is gone would think that it is told to stop.
        std::future::pending::<()>().await;
    }
    let pause = process.world.number(0..20_000);
    process.clock.sleep(Duration::from_millis(pause)).await;
    chaos.note(|| "→  shut down".to_owned());
    stop.send_replace(true);
    for (_, handle) in &process.pipelines {
        handle.send(Event::Shutdown);
    }
}

impl Process {
    fn start_pipelines(
        &mut self,
        life: Life,
        workers: &Workers,
        budget: &Budget,
    ) -> Vec<tokio::task::JoinHandle<Result<()>>> {
        let warehouses: Warehouses =
            Arc::new(BTreeMap::from([(WarehouseName::new("lake").unwrap(), Arc::clone(&self.stores.lake))]));
        let mut running = Vec::new();
        let mut scenario = self.world.scenario();
        let shapes = scenario.pipelines.clone();
        for shape in shapes.iter().take(shapes.len() - usize::from(life.without_last)).cloned() {
            let context = PipelineContext {
                pipeline: PipelineName::new(&shape.name).unwrap(),
                stream: stream(),
                ledger: Arc::clone(&self.stores.ledger),
                shared: false,
                place: Workplace {
                    zone: Arc::clone(&self.stores.zone),
                    decoding: Arc::clone(&self.world.decoding) as Arc<dyn Decoding>,
                    metrics: Arc::new(PipelineMetrics::default()),
                },
                warehouses: Arc::clone(&warehouses),
                formers: Arc::new(SimFormers(Arc::clone(&self.stores.zone))),
                workers: workers.clone(),
                budget: budget.clone(),
                clock: Arc::clone(&self.clock),
                random: self.world.random.clone() as Arc<dyn Random>,
                widen_max_bytes: self.world.widen_max_bytes,
                failpoint: |_| {},
            };
            let settings = RefineSettings {
                workers: workers.threads(),
                group_segments: usize::try_from(scenario.number(1..6)).unwrap(),
                group_bytes: if scenario.chance(70) { 1 << 30 } else { 500 },
                group_age: Duration::from_secs(scenario.number(1..20)),
                poll: Duration::from_secs(1),
                once: life.once,
            };
            let told = Arc::new(Told(Arc::clone(&self.world.chaos)));
            let (handle, future) = PipelineHandle::start(context, settings, told);
            running.push(tokio::spawn(future));
            self.pipelines.push((shape, handle));
        }
        running
    }

    fn stream(
        &self,
        life: Life,
        budget: Budget,
        stopped: watch::Receiver<bool>,
    ) -> impl Future<Output = Result<()>> + use<> {
        let world = Arc::clone(&self.world);
        let handles: Vec<_> = self.pipelines.iter().map(|(_, handle)| handle.clone()).collect();
        let batch = usize::try_from(world.number(1..6)).unwrap();
        let context = StreamContext {
            stream: stream(),
            source: Arc::new(move |progress| {
                let inner = MemorySource::open(world.upstream.clone(), progress, batch);
                Ok(Box::new(FaultySource {
                    inner: Mutex::new(Box::new(inner)),
                    chaos: Arc::clone(&world.chaos),
                    witness: world.clone(),
                    once: life.once,
                }))
            }),
            ledger: Arc::clone(&self.stores.ledger),
            zone: Arc::clone(&self.stores.zone),
            decoding: Arc::clone(&self.world.decoding) as Arc<dyn Decoding>,
            naming: forebay_landing::naming::object_name,
            budget,
            clock: Arc::clone(&self.clock),
            random: self.world.random.clone(),
            metrics: Arc::new(StreamMetrics::default()),
            failpoint: |_| {},
        };
        let listener = Arc::new(Forward(handles.clone(), Arc::clone(&self.world.chaos)));
        async move {
            let result = forebay_pipeline::intake::driver::run(context, life.once, stopped, listener).await;
            for handle in handles {
                handle.send(Event::CaughtUp);
            }
            result
        }
    }

    /// As the host does at its start: what the config says, or else what was active before.
    async fn deploy_all(&self, life: Life) -> Result<()> {
        for index in 0..self.pipelines.len() {
            let Err(error) = self.submit(index).await else { continue };
            self.take_up_former(index).await?;
            if life.once {
                return Err(error);
            }
        }
        Ok(())
    }

    async fn submit(&self, index: usize) -> Result<()> {
        let (shape, handle) = &self.pipelines[index];
        let ledger = &self.stores.ledger;
        let config = self.world.scenario().wanted[index];
        let name = PipelineName::new(&shape.name).unwrap();
        let revision = revision(shape, config);
        let id = revision.id();
        self.world.know(&revision, config);
        let active = ledger.active(&name).await?.is_some_and(|active| active.revision.id == id);
        if active && handle.is_deployed(id) {
            return Ok(());
        }
        let now = self.clock.now();
        let record = ledger.record_revision(&revision, now).await?;
        // What was rolled back does not come back by itself; in the end somebody brings it.
        if !active && !self.world.is_healed() && ledger.is_cancelled(&name, id).await? {
            return self.take_up_former(index).await;
        }
        let materials = materials(revision, record.number);
        let checked = handle.check(Arc::clone(&materials)).await;
        match checked {
            Ok(_) => {
                keep_revision(self.stores.zone.as_ref(), &record).await?;
                if !active {
                    self.world.may_be_active(&name, id);
                    ledger.deploy(&name, id, DeploymentState::Active, "config", now).await?;
                }
                handle.deploy(materials);
                Ok(())
            }
            Err(error) => {
                if !active {
                    ledger.deploy(&name, id, DeploymentState::Refused, &error.chain(), now).await?;
                }
                Err(error)
            }
        }
    }

    async fn take_up_former(&self, index: usize) -> Result<()> {
        let (shape, handle) = &self.pipelines[index];
        let name = PipelineName::new(&shape.name).unwrap();
        if let Some(active) = self.stores.ledger.active(&name).await? {
            handle.deploy(materials(active.revision.revision, active.revision.number));
        }
        Ok(())
    }

    async fn perform(&self, action: Action) -> Result<()> {
        if action.pipeline().is_some_and(|index| index >= self.pipelines.len()) {
            return Ok(());
        }
        match action {
            Action::Submit { pipeline } => self.submit(pipeline).await,
            Action::RollBack { pipeline } => self.roll_back(pipeline).await,
            Action::Pause { pipeline } => self.pause(pipeline).await,
            Action::Shadow { pipeline, config } => self.shadow(pipeline, config).await,
            Action::Maintain { table } => {
                let report = maintain(&self.stores, &self.world, &table).await?;
                let MaintainReport { compacted_files, vacuumed_files, .. } = report;
                self.world.chaos.count(|tally| {
                    tally.compacted += u64::from(compacted_files > 0);
                    tally.vacuumed += u64::from(vacuumed_files > 0);
                });
                Ok(())
            }
            Action::Sweep => {
                let SweepReport { orphans, temporary, .. } = sweep(&self.stores, &self.world, Some(self.since)).await?;
                self.world.chaos.count(|tally| tally.orphans_removed += u64::from(orphans + temporary > 0));
                Ok(())
            }
            Action::Approve => {
                for change in self.stores.ledger.held_changes().await?.iter().filter(|change| !change.approved) {
                    let approved = self.stores.ledger.approve_change(&change.table, &change.column).await?;
                    self.world.chaos.count(|tally| tally.changes_approved += u64::from(approved));
                }
                for (_, handle) in &self.pipelines {
                    handle.send(Event::Approved);
                }
                Ok(())
            }
            Action::Again { pipeline, what, of } => self.refine_again(pipeline, what, of).await,
            Action::Put { .. } | Action::Append { .. } | Action::Spoil { .. } => {
                self.world.upstream(action);
                Ok(())
            }
        }
    }
}

impl Process {
    /// Some replays are under a revision of any fate, and some have a share of the workers.
    async fn terms(&self, pipeline: &str) -> Result<Terms> {
        let recorded = self.stores.ledger.read_table("revisions").await?;
        let text = |name: &str| recorded.column_by_name(name).unwrap().as_string::<i32>().clone();
        let (pipelines, ids) = (text("pipeline"), text("revision_id"));
        let of = pipelines.iter().flatten().zip(ids.iter().flatten()).filter(|(of, _)| *of == pipeline);
        let ids: Vec<RevisionId> = of.map(|(_, id)| id.parse().unwrap()).collect();
        let pick = usize::try_from(self.world.number(0..1_000)).unwrap();
        let revision = ids.get(pick % ids.len().max(1)).copied().filter(|_| pick % 2 == 0);
        let workers = u32::try_from(self.world.number(0..4)).ok().and_then(std::num::NonZeroU32::new);
        Ok(Terms { revision, workers })
    }

    /// Of each so many segments one is replayed, or the rejects of all are tried again.
    async fn refine_again(&self, pipeline: usize, what: Again, of: u64) -> Result<()> {
        let (shape, handle) = &self.pipelines[pipeline];
        let (name, ledger, now) = (PipelineName::new(&shape.name).unwrap(), &self.stores.ledger, self.clock.now());
        match what {
            Again::Heal => {
                ledger.ask_heal(&name, &HealRequest::default(), now).await?;
            }
            Again::Replay => {
                let listed = ledger.read_table("segments").await?;
                let ids = listed.column_by_name("segment").unwrap().as_string::<i32>().clone();
                let some = ids.iter().flatten().zip(0_u64..).filter(|(_, place)| place % of == 0);
                let segments = some.map(|(id, _)| SegmentId::from_text(id)).collect();
                let terms = self.terms(&shape.name).await?;
                self.world.chaos.count(|tally| tally.replay_under += u64::from(terms.revision.is_some()));
                if let Some(revision) = terms.revision {
                    self.world.ask_for(revision);
                }
                let wanted = ReplayRequest { segments, terms, reason: "the story".to_owned() };
                ledger.ask_replay(&name, &wanted, now).await?;
            }
        }
        handle.send(Event::Landed);
        Ok(())
    }
}

/// What nothing needs is removed when it is older.
const RETENTION: Duration = Duration::from_secs(3600);

/// As the host sweeps the zone; `since` when one runs.
pub(crate) async fn sweep(stores: &Stores, world: &World, since: Option<Timestamp>) -> Result<SweepReport> {
    let options = SweepOptions { age: RETENTION, now: world.clock.now(), host_since: since, dry_run: false };
    let Stores { ledger, zone, lake: _, model: _ } = stores;
    orphans::sweep(zone.as_ref(), ledger.as_ref(), forebay_landing::naming::attempt_of, options).await
}

/// As the host maintains a table.
pub(crate) async fn maintain(stores: &Stores, world: &World, table: &str) -> Result<MaintainReport> {
    let Stores { ledger, zone: _, lake, model: _ } = stores;
    let mut keep_staged = Vec::new();
    let names: Vec<_> = world.scenario().pipelines.iter().map(|shape| shape.name.clone()).collect();
    for name in names {
        for group in ledger.open_groups(&PipelineName::new(name).unwrap()).await? {
            let loads = group.loads.iter().filter(|load| load.table.table == table);
            keep_staged.extend(loads.flat_map(|load| load.files.iter().map(|file| file.path.clone())));
        }
    }
    let options = MaintainOptions {
        target_file_bytes: 1 << 20,
        retention: RETENTION,
        dry_run: false,
        now: world.clock.now(),
        keep_staged,
    };
    lake.maintain(table, &options).await
}

pub(crate) fn stream() -> StreamName {
    StreamName::new("events").unwrap()
}

/// Before it makes rows: a ledger that is rebuilt goes on with it.
pub(super) async fn keep_revision(zone: &dyn LandingZone, record: &RevisionRecord) -> Result<()> {
    let RevisionRecord { number, id: _, revision, created_at } = record;
    let module =
        |step: &Step| KeptModule { digest: step.digest, name: step.module.clone(), version: "0".to_owned(), bytes: 0 };
    let modules = revision.steps.iter().map(module).collect();
    let kept = KeptRevision::new(*number, *created_at, revision.clone(), modules);
    zone.keep(&kept.name(), kept.to_bytes()?.into()).await
}

/// Revisions that replays ask for.
#[derive(Debug)]
struct SimFormers(Arc<dyn LandingZone>);

#[async_trait]
impl Formers for SimFormers {
    async fn load(&self, record: RevisionRecord) -> Result<Arc<Materials>> {
        keep_revision(self.0.as_ref(), &record).await?;
        Ok(materials(record.revision, record.number))
    }
}

/// The revision of a config.
pub(crate) fn revision(shape: &Shape, config: Config) -> Revision {
    let table = |name: String| format!("lake.{name}").parse().unwrap();
    let to = |name| RouteTarget::Table { table: table(name), partition_by: vec![], schema_changes: shape.changes };
    let mut routes = BTreeMap::from([("out".to_owned(), to(shape.out()))]);
    let mut steps = Vec::new();
    if shape.ruled {
        routes.insert("odd".to_owned(), if shape.keeps_odd { to(shape.odd()) } else { RouteTarget::Discard });
        steps.push(Step {
            name: "rule".to_owned(),
            module: ModuleName::new("rule").unwrap(),
            digest: SimModule::content(),
            config: config.json(),
            assets: BTreeMap::new(),
        });
    }
    Revision {
        pipeline: PipelineName::new(&shape.name).unwrap(),
        stream: stream(),
        decoder: forebay_format::Formats::from_config(&serde_json::json!("json")).unwrap().settings(),
        steps,
        routes,
        rejects: table(shape.rejects()),
    }
}

pub(super) fn materials(revision: Revision, number: u32) -> Arc<Materials> {
    let modules: Vec<Arc<dyn Module>> =
        revision.steps.iter().map(|_| Arc::new(SimModule::new()) as Arc<dyn Module>).collect();
    let assets = modules.iter().map(|_| Assets::default()).collect();
    Arc::new(Materials { revision, number, modules, assets })
}

/// Hears what a pipeline reports.
struct Told(Arc<Chaos>);

impl forebay_pipeline::refine::driver::Listener for Told {
    fn report(&self, pipeline: &PipelineName, report: &Report) {
        let Self(chaos) = self;
        chaos.count(|tally| match report {
            Report::SegmentFailed(_) => tally.segment_failed += 1,
            Report::NotBound { .. } => tally.not_bound += 1,
            Report::Retrying { .. } => tally.retried += 1,
            Report::Loaded { .. } => tally.loaded += 1,
            // That one comes of a fault alone: this rule takes every schema.
            Report::NotGrown { .. } | Report::Serving { .. } | Report::Waiting(_) => {}
        });
        match report {
            Report::SegmentFailed(failure) => {
                chaos.note(|| format!("   {pipeline}: {} failed: {}", failure.segment, failure.message));
                if matches!(failure.class, ErrorClass::Bug | ErrorClass::Fenced) {
                    chaos.violation(format!(
                        "{pipeline}: {} failed with class {}: {}",
                        failure.segment, failure.class, failure.message
                    ));
                }
            }
            Report::NotGrown { error, .. } => chaos.note(|| format!("   {pipeline}: not grown: {error}")),
            Report::NotBound { error, .. } => chaos.note(|| format!("   {pipeline}: not bound: {error}")),
            Report::Retrying { what, error, .. } => chaos.note(|| format!("   {pipeline}: again: {what}: {error}")),
            Report::Serving { revision, number: _, schema_version } => {
                chaos.note(|| format!("   {pipeline}: serving {} schema {schema_version}", revision.short()));
            }
            Report::Loaded { group, .. } => chaos.note(|| format!("   {pipeline}: load {} is done", group.number)),
            Report::Waiting(_) => {}
        }
    }
}

/// Tells the pipelines what the stream lists.
struct Forward(Vec<PipelineHandle>, Arc<Chaos>);

impl forebay_pipeline::intake::driver::Listener for Forward {
    fn report(&self, _: &StreamName, report: &forebay_pipeline::intake::state::Report) {
        use forebay_pipeline::intake::state::Report;
        match report {
            Report::Listed(_) => self.0.iter().for_each(|handle| handle.send(Event::Landed)),
            Report::CaughtUp => {}
            Report::Failed { what, error, hint: _ } => self.1.note(|| format!("   stream: again: {what}: {error}")),
        }
    }
}

/// Whether an end is one that a host may come to, with what goes wrong outside of it.
pub(crate) fn is_allowed(end: &End) -> bool {
    match end {
        End::Died | End::Finished(Ok(())) => true,
        End::Finished(Err(error)) => matches!(error.class(), ErrorClass::Retry | ErrorClass::Operator),
    }
}
