//! `forebay run`: the host. Streams land, pipelines refine, the folder and the config are watched, and other processes are answered.

mod alerts;
mod apply;
mod back;
mod deploy;
mod difference;
mod dry_run;
mod fleet;
mod follow;
mod former;
mod http;
mod lag;
pub(crate) mod modules;
mod parts;
mod progress;
mod proof;
pub(crate) mod push;
mod reload;
mod restart;
mod schedule;
mod service;
mod shadow;
mod sides;
mod summary;
mod tasks;
pub(crate) mod watch;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::array::AsArray as _;
use arrow::datatypes::UInt64Type;
use forebay_model::ids::WarehouseName;
use forebay_model::ports::{Duty, HostLease, LandingZone, Ledger, Warehouse};
use forebay_model::{Error, ErrorClass, PipelineName, Result, TableName, Timestamp};
use forebay_pipeline::budget::Budget;
use forebay_pipeline::intake::driver::claim_zone;
use forebay_pipeline::panics::caught;
use forebay_pipeline::refine::bind::Warehouses;
use forebay_pipeline::workers::Workers;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::assemble::{self, Access};
use crate::cli::{Exit, FailOn, Global, RunArgs, another_host, lost, named};
use crate::config::{Config, LedgerConfig};
use crate::logs::{Files, ModuleLog};
use crate::sides::with_sides;
use back::Outcomes;
use deploy::{Deployer, Handles, Reloaded};
use difference::Difference;
use fleet::Fleet;
use modules::Shelf;
use parts::{Part, Parts};
use progress::Progress;
use reload::Reloader;
use restart::Restarts;
use tasks::{Ends, Tasks, tell_end};
use watch::Watch;

pub(crate) use http::{BY, VARIABLE as TOKEN};
pub(crate) use service::Signals;

/// A table above this is not rewritten to widen a column from `Int64` to `Float64`: the change is held and shown.
pub(crate) const WIDEN_MAX_BYTES: u64 = 1 << 30;

/// How long a lease may take to notice that another host has it: it speaks to the server each second, and begins another session then.
const LOST: Duration = Duration::from_secs(12);

/// How long the end of a run waits for the ledger's connections to end.
const CLOSING: Duration = Duration::from_secs(2);

/// How often the ledger is asked for work when nothing tells of any.
const POLL: Duration = Duration::from_secs(1);

/// What a host is made of.
struct Host {
    /// What it does of what the hosts of its ledger do.
    fleet: Fleet,
    /// The config that it was started with: what only a restart changes.
    config: Config,
    args: RunArgs,
    ledger: Arc<dyn Ledger>,
    zone: Arc<dyn LandingZone>,
    warehouses: Mutex<Warehouses>,
    workers: Workers,
    budget: Budget,
    parts: Parts,
    /// The config as it is now; sent by `run`.
    now: tokio::sync::watch::Receiver<Config>,
    /// What modules say.
    log: Arc<ModuleLog>,
    /// What became of segments, for `back`.
    outcomes: Arc<Outcomes>,
    /// When it took its lease: what it lands is younger.
    since: Timestamp,
}

/// Runs until everything is done (`--once`), or until it is told to stop.
///
/// # Errors
/// What keeps the host from starting, or stopped a stream or pipeline.
pub(crate) async fn run(config: Config, global: Global, args: RunArgs) -> anyhow::Result<Exit> {
    for name in &args.pipelines {
        named::pipeline(&config, name.as_str())?;
    }
    // From here on changes of files are noticed.
    let watch = Watch::start(&config);
    check_lost(&config).await?;
    let ledger = assemble::open_ledger(&config, Access::Run).await?;
    // A run that ends by itself is to do all of it.
    let lease = if args.once { ledger.lease_host().await? } else { ledger.join_hosts().await? };
    let Some(lease) = lease.map(Arc::<dyn HostLease>::from) else {
        return Err(another_host(ledger.host().await?).into());
    };
    let (config, left_out) = with_sides(config, ledger.as_ref()).await?;
    // Else the first look tells.
    if args.once {
        sides::tell(&left_out);
    }
    let since = assemble::clock().now();
    // A run that ends by itself has nobody who asks it.
    let server = match config.http.as_ref().filter(|_| !args.once) {
        Some(http) => Some(http::Server::bind(http).await?),
        None => None,
    };
    let zone = assemble::open_zone(&config, Access::Run)?;
    claim_zone(zone.as_ref(), ledger.as_ref(), assemble::clock().as_ref()).await?;
    let mut warehouses = BTreeMap::new();
    for name in config.warehouses.keys() {
        warehouses.insert(name.clone(), assemble::open_warehouse(&config, name, Access::Run).await?);
    }
    let warehouses: Warehouses = Arc::new(warehouses);
    check_tables(&config, ledger.as_ref(), &warehouses).await?;
    let workers = Workers::start(config.host.workers.get())?;
    let budget = Budget::new(config.host.memory, workers.threads());
    let (parts, begun) = Parts::new();
    let warehouses = Mutex::new(warehouses);
    let (runs, now) = tokio::sync::watch::channel(config.clone());
    let log = Arc::new(ModuleLog::new(Files::of(&config)));
    let fleet = Fleet::new(Arc::clone(&lease));
    fleet.join().await?;
    let host = Arc::new(Host {
        fleet,
        config,
        now,
        log,
        args,
        ledger,
        zone,
        warehouses,
        workers,
        budget,
        parts,
        outcomes: Arc::default(),
        since,
    });
    let mut tasks = Tasks::new(begun);
    let (stopped, refused) = tokio::select! {
        ended = host.run(&global, (watch, runs), server, &mut tasks) => ended?,
        // What it has under way is what a kill leaves: the ledger refuses it, and the other host has taken it up.
        lost = lease.lost() => return Err(lost.into()),
    };
    // A part may have met the other host before the lease did: who has it is told.
    let fenced = tasks.ends.values().any(|end| end.as_ref().is_err_and(|error| error.class() == ErrorClass::Fenced));
    if fenced
        && matches!(host.config.ledger, LedgerConfig::Postgres(_))
        && let Ok(lost) = tokio::time::timeout(LOST, lease.lost()).await
    {
        return Err(lost.into());
    }
    let exit = host.exit(tasks.ends, stopped, refused);
    // A query that somebody still reads may hold a connection.
    let closed = tokio::time::timeout(CLOSING, host.ledger.close()).await;
    tracing::debug!(whole = closed.is_ok(), "ledger closed");
    exit
}

/// Before a ledger is made: where something has landed already, there was one.
async fn check_lost(config: &Config) -> anyhow::Result<()> {
    if assemble::ledger_is_there(config).await? {
        return Ok(());
    }
    let zone = assemble::open_zone(config, Access::Read)?;
    let identity = zone.identity().await?;
    // Another host may have made both meanwhile.
    if assemble::ledger_is_there(config).await? {
        return Ok(());
    }
    match identity {
        Some(identity) => Err(lost(config, &format!("the landing zone belongs to ledger {}", identity.ledger)).into()),
        None if !zone.list("").await?.is_empty() => Err(lost(config, "the landing zone is not empty").into()),
        None => Ok(()),
    }
}

/// A ledger that is older than its tables is refused: it would load again what they have. So are tables that are older than the
/// ledger, or gone: what they had would never come back, since the ledger has it as loaded.
pub(crate) async fn check_tables(
    config: &Config,
    ledger: &dyn Ledger,
    warehouses: &BTreeMap<WarehouseName, Arc<dyn Warehouse>>,
) -> Result<()> {
    let done = last_done(ledger).await?;
    for (table, pipeline) in config.tables() {
        let Some(warehouse) = warehouses.get(&table.warehouse) else { continue };
        match check_table(ledger, warehouse.as_ref(), (&table, &pipeline), &done).await {
            // What stands beside may be thrown away by anybody, and production does not stop for it.
            Err(error) if pipeline.as_side().is_some() && error.class() == ErrorClass::Fenced => tracing::warn!(
                %table, %pipeline, error = error.chain(),
                "a table of a replay is not as it was: what is in it is not to be relied on, drop it (`forebay replay --into … --drop`)"
            ),
            checked => checked?,
        }
    }
    Ok(())
}

async fn check_table(
    ledger: &dyn Ledger,
    warehouse: &dyn Warehouse,
    (table, pipeline): (&TableName, &PipelineName),
    done: &BTreeMap<(String, String), u64>,
) -> Result<()> {
    let committed = caught(warehouse.committed(&table.table, ledger.id(), pipeline.as_str())).await;
    let committed = committed.map_err(|error| of_table(table, error))?;
    let loaded = done.get(&(pipeline.to_string(), table.to_string())).copied();
    if let Some(loaded) = loaded.filter(|loaded| committed.as_ref().is_none_or(|has| has.number < *loaded)) {
        let has = committed.map_or_else(|| "is gone, or has none".to_owned(), |has| format!("has load {}", has.number));
        return Err(Error::fenced(format!(
            "a table is older than the ledger: {table} {has} of pipeline {pipeline}, and the ledger knows load {loaded} as done"
        ))
        .with_hint(
            "look whether the warehouse is the right one, and whole (a disk that is not mounted? a commit that could not be read is \
             moved to _forebay/torn in the table's folder), and put the table back; or have everything refined again with \
             `forebay recover --replace --refine-all`",
        ));
    }
    let Some(committed) = committed else { return Ok(()) };
    let known = ledger.last_number(pipeline).await?;
    if committed.number > known {
        return Err(Error::fenced(format!(
            "the ledger is older than its tables: {table} has load {} of pipeline {pipeline}, and the ledger knows of {known}",
            committed.number
        ))
        .with_hint(
            "put back the ledger that made the tables, this one is an old copy of it; or rebuild it from the landing zone \
             and the tables with `forebay recover --replace`",
        ));
    }
    Ok(())
}

/// The number of the last load that the ledger knows as done, by pipeline and table.
async fn last_done(ledger: &dyn Ledger) -> Result<BTreeMap<(String, String), u64>> {
    let loads = ledger.read_table("loads").await?;
    let column = |name: &str| {
        loads.column_by_name(name).cloned().ok_or_else(|| Error::bug(format!("ledger.loads has no column {name}")))
    };
    let text = |name: &str| {
        let text = column(name)?.as_string_opt::<i32>().cloned();
        text.ok_or_else(|| Error::bug(format!("ledger.loads.{name} is no text")))
    };
    let numbers = column("number")?;
    let numbers = arrow::compute::cast(&numbers, &arrow::datatypes::DataType::UInt64)
        .map_err(|error| Error::bug("ledger.loads.number is no number").with_source(error))?;
    let (pipelines, tables, states) = (text("pipeline")?, text("table_name")?, text("state")?);
    let mut last = BTreeMap::new();
    let rows = pipelines.iter().zip(&tables).zip(&states).zip(numbers.as_primitive::<UInt64Type>());
    for (((pipeline, table), state), number) in rows {
        if let (Some(pipeline), Some(table), Some("done"), Some(number)) = (pipeline, table, state, number) {
            let known = last.entry((pipeline.to_owned(), table.to_owned())).or_insert(number);
            *known = number.max(*known);
        }
    }
    Ok(last)
}

/// Names the table that could not be looked at. (A panic, in a reader that met what it did not expect, names nothing.)
fn of_table(table: &TableName, error: Error) -> Error {
    if error.class() != ErrorClass::Bug {
        return error;
    }
    Error::bug(format!("table {table} cannot be read")).with_source(error).with_hint(format!(
        "a file of its log may be damaged: put the table's folder back from a copy, or move it away and write another table's \
         name in place of {table}; raw data is as it landed. And please report it with the log: this is a bug of forebay"
    ))
}

impl Host {
    fn warehouses(&self) -> Warehouses {
        Arc::clone(&self.warehouses.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The pipelines that it has, none for all. Who may lead other hosts has all, and lets others run what `--pipeline` leaves out.
    fn selected(&self) -> &[PipelineName] {
        if self.fleet.is_shared() { &[] } else { &self.args.pipelines }
    }

    /// Whether it is this host's, and runs.
    fn runs(&self, duty: &Duty) -> bool {
        let runs = match duty {
            Duty::Lead => true,
            Duty::Stream(name) => self.parts.runs_stream(name),
            Duty::Pipeline(name) => self.parts.runs_pipeline(name),
        };
        runs && self.fleet.has(duty)
    }

    fn add_warehouse(&self, name: WarehouseName, warehouse: Arc<dyn Warehouse>) {
        let mut warehouses = self.warehouses.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::make_mut(&mut warehouses).insert(name, warehouse);
    }

    /// Whether a signal cut it short, and whether a module of the folder was refused at the start.
    async fn run(
        self: &Arc<Self>,
        global: &Global,
        (watch, runs): (Watch, tokio::sync::watch::Sender<Config>),
        server: Option<http::Server>,
        tasks: &mut Tasks,
    ) -> anyhow::Result<(bool, bool)> {
        // From here on: a signal that comes while modules compile ends the host as one that comes later does.
        let mut signals = Signals::new();
        let progress = Arc::new(Progress::start(global, self.args.once));
        let config = self.now.clone();
        // Tasks of their own, which end with the host: none waits for another.
        let mut services = JoinSet::new();
        let has_started = Arc::new(AtomicBool::new(false));
        if let Some(server) = server {
            let seen = http::Seen::new(Arc::clone(self), config.clone(), Arc::clone(&has_started));
            services.spawn(server.serve(seen));
        }
        let mut nothing = self.config.clone();
        (nothing.streams, nothing.pipelines) = Default::default();
        let all = Difference::between(&nothing, &self.config, self.selected());
        for name in &all.start_pipelines {
            self.parts.start_pipeline(self, &self.config, name, &progress);
        }
        for name in &all.start_pipelines {
            if let Some(pause) = self.ledger.paused(name).await? {
                tracing::warn!(
                    pipeline = %name, since = %pause.since, reason = pause.reason,
                    "pipeline is paused: its segments wait for `forebay resume {name}`"
                );
            }
        }
        let mut deployer = self.deployer()?;
        let handles = self.parts.handles();
        let started = tokio::select! {
            started = caught(self.first(&mut deployer, &handles)) => started?,
            () = signals.next() => {
                self.shut_down(tasks, &mut signals).await;
                progress.finish();
                return Ok((true, false));
            }
        };
        if let Some((pipeline, error)) = started.refused.into_iter().next().filter(|_| self.args.once) {
            return Err(anyhow::Error::from(error).context(format!("pipeline {pipeline}")));
        }
        for name in &all.start_streams {
            self.parts.start_stream(self, &self.config, name, &progress);
        }
        has_started.store(true, Ordering::Release);
        progress.watch(&self.parts.stream_metrics(), &self.parts.pipeline_metrics());
        let stopped = if self.args.once {
            self.until_ended(tasks, &mut signals, None).await
        } else {
            if self.fleet.is_shared() {
                self.parts.go_on();
                services.spawn(fleet::keep(Arc::clone(self), config.clone(), Arc::clone(&progress)));
            }
            let (restarts, due) = Restarts::new(assemble::clock());
            let (submit, submitted) = mpsc::unbounded_channel();
            let reloader = Reloader {
                host: Arc::clone(self),
                progress: Arc::clone(&progress),
                deployer,
                watch,
                runs,
                told: Vec::new(),
                sides: Vec::new(),
                left_out: Vec::new(),
                due,
                submitted,
            };
            services.spawn(reloader.run(started.again));
            services.spawn(progress::follow(Arc::clone(self)));
            services.spawn(alerts::watch(Arc::clone(self), config.clone()));
            services.spawn(service::approve(Arc::clone(self)));
            let shelf = || self.shelf();
            services.spawn(back::watch_over(Arc::clone(self), shelf()?, config.clone(), submit.clone()));
            services.spawn(shadow::compare(Arc::clone(self), shelf()?, config.clone(), submit.clone()));
            services.spawn(sides::drop_tables(Arc::clone(self)));
            services.spawn(schedule::keep(Arc::clone(self), config.clone()));
            services.spawn(service::answer(Arc::clone(self), config));
            services.spawn(service::push(Arc::clone(self), submit));
            self.until_ended(tasks, &mut signals, Some(restarts)).await
        };
        self.log.flush();
        let seconds = progress.finish();
        self.summary(seconds).print(global, self.args.once)?;
        Ok((stopped, started.modules_refused))
    }

    /// The revisions that a host begins with: what its config means, or, where another one leads, what that one made active.
    async fn first(&self, deployer: &mut Deployer, handles: &Handles) -> Result<Reloaded> {
        if self.fleet.leads() {
            return deployer.reload(&self.config, handles, "start").await;
        }
        self.fleet.set_cannot(deployer.follow(&self.config, handles, false).await?);
        Ok(Reloaded::default())
    }

    fn summary(&self, seconds: f64) -> summary::Summary {
        summary::Summary::of(&self.parts.stream_metrics(), &self.parts.pipeline_metrics(), &self.config, seconds)
    }

    fn deployer(&self) -> Result<Deployer> {
        Ok(Deployer {
            shelf: self.shelf()?,
            limits: BTreeMap::new(),
            noted: BTreeMap::new(),
            unloadable: BTreeMap::new(),
        })
    }

    fn shelf(&self) -> Result<Shelf> {
        Ok(Shelf {
            ledger: Arc::clone(&self.ledger),
            zone: Arc::clone(&self.zone),
            sandbox: assemble::open_host_sandbox(&self.config, Arc::clone(&self.log))?,
            workers: self.workers.clone(),
            clock: assemble::clock(),
            no_modules: Mutex::default(),
            passed: Mutex::default(),
        })
    }

    /// Until every part has ended for good; true where a signal cut it short. With `restarts` ends are told as they come.
    async fn until_ended(&self, tasks: &mut Tasks, signals: &mut Signals, mut restarts: Option<Restarts>) -> bool {
        loop {
            tokio::select! {
                ended = tasks.next() => match ended {
                    Some((part, result)) => {
                        if let Some(restarts) = &mut restarts {
                            tell_end(&part, result);
                            if let Err(error) = result {
                                restarts.note(&self.parts, &part, error);
                            }
                        }
                    }
                    None => return false,
                },
                () = signals.next() => {
                    self.shut_down(tasks, signals).await;
                    return true;
                }
            }
        }
    }

    /// Finishes what is in flight, at most as long as the config says. A second signal ends the process at once: what that
    /// leaves is what a kill leaves, and the next start takes it up.
    async fn shut_down(&self, tasks: &mut Tasks, signals: &mut Signals) {
        tracing::info!(seconds = self.config.host.shutdown.as_secs(), "stopping: what is in flight is finished");
        self.parts.shut_down();
        let deadline = tokio::time::sleep(self.config.host.shutdown);
        tokio::pin!(deadline);
        loop {
            tokio::select! {
                ended = tasks.next() => if ended.is_none() { return },
                () = &mut deadline => {
                    tracing::warn!("stopped before all was finished: the next start takes it up");
                    return;
                }
                () = signals.next() => std::process::exit(130),
            }
        }
    }

    /// The exit code; the error of a part that ended with one.
    fn exit(&self, ends: Ends, stopped: bool, refused: bool) -> anyhow::Result<Exit> {
        for (part, result) in ends {
            result.map_err(|error| {
                anyhow::Error::from(error).context(match part {
                    Part::Stream(name) => format!("stream {name}"),
                    Part::Pipeline(name) => format!("pipeline {name}"),
                    Part::Change => "a change of the config".to_owned(),
                })
            })?;
        }
        let summary = self.summary(0.0);
        let rejected = self.args.fail_on == Some(FailOn::Rejects) && summary.rejected() > 0;
        let failed = self.args.once && (refused || (!stopped && (summary.failed() > 0 || rejected)));
        Ok(if failed { Exit::Failed } else { Exit::Ok })
    }
}
