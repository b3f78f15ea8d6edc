//! `forebay run`: the host. Streams land, pipelines refine, the folder and the config are watched, and other processes are answered.

mod deploy;
pub(crate) mod modules;
mod progress;
mod service;
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use forebay_model::ids::WarehouseName;
use forebay_model::ports::{LandingZone, Ledger, Warehouse};
use forebay_model::{Error, PipelineName, Result, StreamName};
use forebay_pipeline::budget::Budget;
use forebay_pipeline::intake::driver::{StreamContext, claim_zone};
use forebay_pipeline::metrics::{PipelineMetrics, StreamMetrics};
use forebay_pipeline::panics::caught;
use forebay_pipeline::refine::bind::Warehouses;
use forebay_pipeline::refine::driver::{PipelineContext, PipelineHandle};
use forebay_pipeline::refine::protocol::{Event, RefineSettings};
use forebay_pipeline::refine::segment::Workplace;
use forebay_pipeline::workers::Workers;
use tokio::sync::watch as signal;
use tokio::task::JoinSet;

use crate::assemble::{self, Access};
use crate::cli::{Exit, FailOn, Failure, Global, RunArgs};
use crate::config::Config;
use crate::failpoint::failpoint;
use deploy::Deployer;
use modules::Shelf;
use progress::{Progress, Tell};

/// A table above this is not rewritten to widen a column from `Int64` to `Float64`: the change is held and shown.
pub(crate) const WIDEN_MAX_BYTES: u64 = 1 << 30;

/// How often the ledger is asked for work when nothing tells of any.
const POLL: Duration = Duration::from_secs(1);

/// What a host is made of.
struct Host {
    config: Config,
    args: RunArgs,
    ledger: Arc<dyn Ledger>,
    zone: Arc<dyn LandingZone>,
    warehouses: Warehouses,
    workers: Workers,
    budget: Budget,
    stop: signal::Sender<bool>,
}

/// What is running.
#[derive(Default)]
struct Running {
    streams: BTreeMap<StreamName, Arc<StreamMetrics>>,
    pipelines: BTreeMap<PipelineName, (PipelineHandle, Arc<PipelineMetrics>)>,
    /// Ends of streams and pipelines.
    tasks: JoinSet<End>,
}

/// Who ended, and how.
enum End {
    Stream(StreamName, Result<()>),
    Pipeline(PipelineName, Result<()>),
}

/// Runs until everything is done (`--once`), or until it is told to stop.
///
/// # Errors
/// What keeps the host from starting, or stopped a stream or pipeline.
pub(crate) async fn run(config: Config, global: Global, args: RunArgs) -> anyhow::Result<Exit> {
    if let Some(unknown) = args.pipelines.iter().find(|name| !config.pipelines.contains_key(name)) {
        let names: Vec<_> = config.pipelines.keys().map(ToString::to_string).collect();
        let failure = Failure::new(Exit::Usage, format!("there is no pipeline {unknown}"));
        return Err(failure.with_hint(format!("there is {}", names.join(", "))).into());
    }
    let ledger = assemble::open_ledger(&config, Access::Run).await?;
    let Some(_lease) = ledger.lease_host().await? else {
        let failure = Failure::new(Exit::Refused, "another forebay process runs this ledger's streams and pipelines");
        return Err(failure.with_hint("stop it first, or use a ledger and a landing zone of their own").into());
    };
    let zone = assemble::open_zone(&config)?;
    claim_zone(zone.as_ref(), ledger.as_ref(), assemble::clock().as_ref()).await?;
    let mut warehouses = BTreeMap::new();
    for name in config.warehouses.keys() {
        warehouses.insert(name.clone(), assemble::open_warehouse(&config, name).await?);
    }
    let warehouses: Warehouses = Arc::new(warehouses);
    check_tables(&config, ledger.as_ref(), &warehouses).await?;
    let workers = Workers::start(config.host.workers.get())?;
    let budget = Budget::new(config.host.memory, workers.threads());
    let (stop, _) = signal::channel(false);
    let host = Host { config, args, ledger, zone, warehouses, workers, budget, stop };
    host.run(&global).await
}

/// A ledger that is older than its tables is refused: it would load again what they have.
async fn check_tables(
    config: &Config,
    ledger: &dyn Ledger,
    warehouses: &BTreeMap<WarehouseName, Arc<dyn Warehouse>>,
) -> Result<()> {
    for (table, pipeline) in config.tables() {
        let Some(warehouse) = warehouses.get(&table.warehouse) else { continue };
        let Some(committed) = warehouse.committed(&table.table, ledger.id(), pipeline.as_str()).await? else {
            continue;
        };
        let known = ledger.last_number(&pipeline).await?;
        if committed.number > known {
            return Err(Error::fenced(format!(
                "the ledger is older than its tables: {table} has load {} of pipeline {pipeline}, and the ledger knows of {known}",
                committed.number
            ))
            .with_hint("put back the ledger that made the tables: this one is an old copy of it"));
        }
    }
    Ok(())
}

impl Host {
    async fn run(self, global: &Global) -> anyhow::Result<Exit> {
        let progress = Progress::start(global, self.args.once);
        let mut running = Running::default();
        self.start_pipelines(&mut running, &progress);
        let deployer = self.deployer(&running)?;
        let refused = deployer.start(&self.config).await?;
        if let Some((pipeline, error)) = refused.into_iter().next().filter(|_| self.args.once) {
            return Err(anyhow::Error::from(error).context(format!("pipeline {pipeline}")));
        }
        self.start_streams(&mut running, &progress);
        progress.watch(
            &running.streams,
            running.pipelines.iter().map(|(name, (_, metrics))| (name.clone(), Arc::clone(metrics))),
        );
        let mut ends = Vec::new();
        let stopped = if self.args.once {
            self.until_done(&mut running, &mut ends).await
        } else {
            // A task of its own: a reload or an answer is not cut short because a stream ends.
            let service = tokio::spawn(service::Service::new(&self, deployer, &running).run());
            let stopped = self.until_told(&mut running, &mut ends).await;
            service.abort();
            stopped
        };
        let seconds = progress.finish();
        self.close(global, &running, ends, stopped, seconds)
    }

    fn selected(&self) -> impl Iterator<Item = (&PipelineName, &crate::config::PipelineConfig)> {
        let all = self.args.pipelines.is_empty();
        self.config.pipelines.iter().filter(move |(name, _)| all || self.args.pipelines.contains(name))
    }

    fn start_pipelines(&self, running: &mut Running, progress: &Progress) {
        let commit = self.config.host.commit;
        for (name, pipeline) in self.selected() {
            let Some(decoding) = self.config.streams.get(&pipeline.from).map(assemble::open_decoding) else { continue };
            let metrics = Arc::new(PipelineMetrics::default());
            let context = match decoding {
                Ok(decoding) => PipelineContext {
                    pipeline: name.clone(),
                    stream: pipeline.from.clone(),
                    ledger: Arc::clone(&self.ledger),
                    place: Workplace { zone: Arc::clone(&self.zone), decoding, metrics: Arc::clone(&metrics) },
                    warehouses: Arc::clone(&self.warehouses),
                    workers: self.workers.clone(),
                    budget: self.budget.clone(),
                    clock: assemble::clock(),
                    random: assemble::random(),
                    widen_max_bytes: WIDEN_MAX_BYTES,
                    failpoint,
                },
                Err(error) => {
                    let name = name.clone();
                    running.tasks.spawn(async move { End::Pipeline(name, Err(error)) });
                    continue;
                }
            };
            let settings = RefineSettings {
                workers: self.workers.threads(),
                group_segments: commit.max_segments as usize,
                group_bytes: commit.max_bytes,
                group_age: commit.max_age,
                poll: POLL,
                once: self.args.once,
            };
            let (handle, future) = PipelineHandle::start(context, settings, Arc::new(Tell::new(progress)));
            running.pipelines.insert(name.clone(), (handle, metrics));
            let name = name.clone();
            running.tasks.spawn(async move { End::Pipeline(name, caught(future).await) });
        }
    }

    fn deployer(&self, running: &Running) -> Result<Deployer> {
        let shelf = Shelf {
            ledger: Arc::clone(&self.ledger),
            zone: Arc::clone(&self.zone),
            sandbox: assemble::open_sandbox(&self.config)?,
            workers: self.workers.clone(),
            clock: assemble::clock(),
        };
        let pipelines = running.pipelines.iter().map(|(name, (handle, _))| (name.clone(), handle.clone())).collect();
        Ok(Deployer { shelf, pipelines })
    }

    fn start_streams(&self, running: &mut Running, progress: &Progress) {
        let once = self.args.once;
        let read: Vec<&StreamName> = self.selected().map(|(_, pipeline)| &pipeline.from).collect();
        let all = self.args.pipelines.is_empty();
        for (name, stream) in self.config.streams.iter().filter(|(name, _)| all || read.contains(name)) {
            let metrics = Arc::new(StreamMetrics::default());
            running.streams.insert(name.clone(), Arc::clone(&metrics));
            let pipelines: Vec<_> = running
                .pipelines
                .iter()
                .filter(|(pipeline, _)| self.config.pipelines.get(pipeline).is_some_and(|p| p.from == *name))
                .map(|(_, (handle, _))| handle.clone())
                .collect();
            let decoding = match assemble::open_decoding(stream) {
                Ok(decoding) => decoding,
                Err(error) => {
                    let name = name.clone();
                    running.tasks.spawn(async move { End::Stream(name, Err(error)) });
                    continue;
                }
            };
            let (config, of_source) = (self.config.clone(), stream.clone());
            let context = StreamContext {
                stream: name.clone(),
                source: Arc::new(move |known| assemble::build_source(&config, &of_source, known, once)),
                ledger: Arc::clone(&self.ledger),
                zone: Arc::clone(&self.zone),
                decoding,
                naming: assemble::NAMING,
                budget: self.budget.clone(),
                clock: assemble::clock(),
                random: assemble::random(),
                metrics,
                failpoint,
            };
            let listener = Arc::new(Tell::of_stream(progress, pipelines.clone()));
            let stop = self.stop.subscribe();
            let name = name.clone();
            running.tasks.spawn(async move {
                let result = caught(forebay_pipeline::intake::driver::run(context, once, stop, listener)).await;
                // What has landed is refined, also where landing stopped.
                for pipeline in pipelines {
                    pipeline.send(Event::CaughtUp);
                }
                End::Stream(name, result)
            });
        }
    }

    /// `--once`: until every stream and pipeline has ended. True where a signal cut it short.
    async fn until_done(&self, running: &mut Running, ends: &mut Vec<End>) -> bool {
        let mut signals = service::Signals::new();
        loop {
            tokio::select! {
                ended = running.tasks.join_next() => match ended {
                    Some(Ok(end)) => ends.push(end),
                    Some(Err(error)) => tracing::error!(%error, "a task of the host failed"),
                    None => return false,
                },
                () = signals.next() => {
                    self.shut_down(running, ends, &mut signals).await;
                    return true;
                }
            }
        }
    }

    /// Until a signal, or until nothing runs any more.
    async fn until_told(&self, running: &mut Running, ends: &mut Vec<End>) -> bool {
        let mut signals = service::Signals::new();
        loop {
            tokio::select! {
                ended = running.tasks.join_next() => match ended {
                    Some(Ok(end)) => {
                        tell_end(&end);
                        ends.push(end);
                    }
                    Some(Err(error)) => tracing::error!(%error, "a task of the host failed"),
                    None => return false,
                },
                () = signals.next() => {
                    self.shut_down(running, ends, &mut signals).await;
                    return true;
                }
            }
        }
    }

    /// Finishes what is in flight, at most as long as the config says. A second signal ends the process at once: what that
    /// leaves is what a kill leaves, and the next start takes it up.
    async fn shut_down(&self, running: &mut Running, ends: &mut Vec<End>, signals: &mut service::Signals) {
        tracing::info!(seconds = self.config.host.shutdown.as_secs(), "stopping: what is in flight is finished");
        // A stream that has ended does not listen.
        self.stop.send_replace(true);
        for (handle, _) in running.pipelines.values() {
            handle.send(Event::Shutdown);
        }
        let deadline = tokio::time::sleep(self.config.host.shutdown);
        tokio::pin!(deadline);
        loop {
            tokio::select! {
                ended = running.tasks.join_next() => match ended {
                    Some(Ok(end)) => ends.push(end),
                    Some(Err(error)) => tracing::error!(%error, "a task of the host failed"),
                    None => return,
                },
                () = &mut deadline => {
                    tracing::warn!("stopped before all was finished: the next start takes it up");
                    return;
                }
                () = signals.next() => std::process::exit(130),
            }
        }
    }

    /// The summary, and the exit code.
    fn close(
        &self,
        global: &Global,
        running: &Running,
        ends: Vec<End>,
        stopped: bool,
        seconds: f64,
    ) -> anyhow::Result<Exit> {
        let summary = progress::Summary::of(&running.streams, &running.pipelines, seconds);
        summary.print(global, self.args.once)?;
        for end in ends {
            match end {
                End::Stream(_, Ok(())) | End::Pipeline(_, Ok(())) => {}
                End::Stream(name, Err(error)) => {
                    return Err(anyhow::Error::from(error).context(format!("stream {name}")));
                }
                End::Pipeline(name, Err(error)) => {
                    return Err(anyhow::Error::from(error).context(format!("pipeline {name}")));
                }
            }
        }
        let rejected = self.args.fail_on == Some(FailOn::Rejects) && summary.rejected() > 0;
        let failed = self.args.once && !stopped && (summary.failed() > 0 || rejected);
        Ok(if failed { Exit::Failed } else { Exit::Ok })
    }
}

fn tell_end(end: &End) {
    match end {
        End::Stream(stream, Err(error)) => {
            tracing::error!(%stream, error = error.chain(), hint = error.hint(), "stream stopped");
        }
        End::Pipeline(pipeline, Err(error)) => {
            tracing::error!(%pipeline, error = error.chain(), hint = error.hint(), "pipeline stopped");
        }
        End::Stream(stream, Ok(())) => tracing::info!(%stream, "stream ended"),
        End::Pipeline(pipeline, Ok(())) => tracing::info!(%pipeline, "pipeline ended"),
    }
}
