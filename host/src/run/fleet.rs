//! What this host does of what the hosts of its ledger do together.
//!
//! Alone it does all. Where several share a ledger (in PostgreSQL), each stream and each pipeline is one host's at a time, and one of
//! them leads: it answers who asks, deploys, compares, keeps schedules. The ledger divides ([`Hosts::divide`]); this host asks it each
//! second, wakes what it got, and finishes and gives back what another waits for. Every pipeline that is another's sleeps here, with its
//! active revision loaded: whoever takes it over has it at hand, and the one who leads can check a new revision for all of them.
//!
//! A revision becomes active in the ledger, by the one who leads. The others follow: each takes it up, and until it has, its pipelines are
//! given no work (`refine::driver`). A host that cannot load it says so, and gives the pipeline back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use forebay_model::ports::{Division, Duty, HostLease, Hosts, Readiness};
use forebay_model::{ErrorClass, PipelineName, Result, Timestamp};
use forebay_pipeline::panics::caught;
use tokio::sync::{Notify, watch};

use super::Host;
use super::difference::is_selected;
use super::progress::Progress;
use crate::assemble;
use crate::config::Config;

/// How often the ledger is asked what this host has.
const TICK: Duration = Duration::from_secs(1);

/// This host among those of its ledger.
pub(super) struct Fleet {
    lease: Arc<dyn HostLease>,
    state: Mutex<State>,
    /// It leads from now on.
    pub(super) led: Notify,
    /// Held while parts stop and start: the config and what is divided do not move them at the same time.
    pub(super) moving: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    mine: BTreeSet<Duty>,
    /// Those of them that were told to stop and are to be given back.
    stopping: BTreeSet<Duty>,
    /// Since when it leads.
    leads_since: Timestamp,
    /// Pipelines whose active revision it cannot load, with why.
    cannot: BTreeMap<PipelineName, String>,
}

impl Fleet {
    pub(super) fn new(lease: Arc<dyn HostLease>) -> Self {
        Self { lease, state: Mutex::default(), led: Notify::new(), moving: tokio::sync::Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there may be other hosts.
    pub(super) fn is_shared(&self) -> bool {
        self.lease.among().is_some()
    }

    /// Whether this host does it now.
    pub(super) fn has(&self, duty: &Duty) -> bool {
        !self.is_shared() || self.state().mine.contains(duty)
    }

    /// Whether it answers who asks, and deploys.
    pub(super) fn leads(&self) -> bool {
        self.has(&Duty::Lead)
    }

    /// Since when it leads, where that is not as long as it runs.
    pub(super) fn leads_since(&self) -> Timestamp {
        self.state().leads_since
    }

    /// Pipelines whose active revision cannot be loaded here: they are given back.
    pub(super) fn set_cannot(&self, cannot: BTreeMap<PipelineName, String>) {
        self.state().cannot = cannot;
    }

    /// Those pipelines.
    pub(super) fn cannot(&self) -> BTreeMap<PipelineName, String> {
        self.state().cannot.clone()
    }

    /// Finds out whether it leads, before anything else is divided.
    pub(super) async fn join(&self) -> Result<()> {
        if let Some(hosts) = self.lease.among() {
            self.divide(hosts, &Readiness { ready: BTreeSet::from([Duty::Lead]), cannot: BTreeMap::new() }).await?;
        }
        Ok(())
    }

    /// What there is to give, and what is new.
    async fn divide(&self, hosts: &dyn Hosts, readiness: &Readiness) -> Result<(BTreeSet<Duty>, BTreeSet<Duty>)> {
        let Division { mine, give } = hosts.divide(readiness).await?;
        let mut state = self.state();
        let new: BTreeSet<_> = mine.difference(&state.mine).cloned().collect();
        if new.contains(&Duty::Lead) {
            state.leads_since = assemble::clock().now();
        }
        state.mine = mine;
        Ok((give, new))
    }
}

/// Keeps to what the ledger divides, until others have taken this host's place.
pub(super) async fn keep(host: Arc<Host>, config: watch::Receiver<Config>, progress: Arc<Progress>) {
    loop {
        match caught(turn(&host, &config, &progress)).await {
            Ok(()) => {}
            // The lease tells, and ends the host.
            Err(error) if error.class() == ErrorClass::Fenced => return,
            Err(error) => {
                tracing::warn!(error = error.chain(), "what there is to do was not divided; it is tried again");
            }
        }
        tokio::time::sleep(TICK).await;
    }
}

async fn turn(host: &Arc<Host>, config: &watch::Receiver<Config>, progress: &Arc<Progress>) -> Result<()> {
    let Some(hosts) = host.fleet.lease.among() else { return Ok(()) };
    let _moving = host.fleet.moving.lock().await;
    // As it is now that nothing else moves parts.
    let config = &config.borrow().clone();
    if host.parts.is_ending() {
        return Ok(());
    }
    let readiness = readiness(host, config).await?;
    let leaving: BTreeSet<_> = {
        let state = host.fleet.state();
        state.mine.difference(&readiness.ready).chain(&state.stopping).cloned().collect()
    };
    give_back(host, hosts, config, progress, leaving).await?;
    let (give, new) = host.fleet.divide(hosts, &readiness).await?;
    for duty in new {
        tracing::info!(%duty, "this host takes it");
        match &duty {
            // What changed while nobody led is looked at.
            Duty::Lead => host.fleet.led.notify_one(),
            Duty::Stream(name) => host.parts.start_stream(host, config, name, progress),
            Duty::Pipeline(name) => host.parts.wake(name),
        }
    }
    give_back(host, hosts, config, progress, give).await
}

/// What this host could do: all that its config has, but pipelines whose active revision is not here.
async fn readiness(host: &Host, config: &Config) -> Result<Readiness> {
    let cannot = host.fleet.cannot();
    let wanted = |name: &PipelineName| is_selected(&host.args.pipelines, name);
    let handles = host.parts.handles();
    let mut ready = BTreeSet::from([Duty::Lead]);
    for (name, pipeline) in config.pipelines.iter().filter(|(name, _)| wanted(name)) {
        ready.insert(Duty::Stream(pipeline.from.clone()));
        let (duty, Some(handle)) = (Duty::Pipeline(name.clone()), handles.get(name)) else { continue };
        if cannot.contains_key(name) {
            continue;
        }
        // One that it has takes up in a moment what another host made active, or is started again after its pause.
        let active = host.ledger.active(name).await?;
        let has_active = active.is_some_and(|active| handle.is_deployed(active.revision.id));
        if host.fleet.has(&duty) || (has_active && handle.is_running()) {
            ready.insert(duty);
        }
    }
    if host.args.pipelines.is_empty() {
        ready.extend(config.streams.keys().cloned().map(Duty::Stream));
    }
    Ok(Readiness { ready, cannot })
}

/// Finishes what is under way of these duties, and gives them back. One that takes longer stays, and is tried again.
async fn give_back(
    host: &Arc<Host>,
    hosts: &dyn Hosts,
    config: &Config,
    progress: &Arc<Progress>,
    duties: BTreeSet<Duty>,
) -> Result<()> {
    let patience = host.config.host.shutdown;
    for duty in duties {
        host.fleet.state().stopping.insert(duty.clone());
        let stopped = match &duty {
            Duty::Lead => true,
            Duty::Stream(name) => host.parts.stop_stream(name, patience).await,
            Duty::Pipeline(name) => host.parts.stop_pipeline(name, patience).await,
        };
        if !stopped {
            tracing::warn!(%duty, "it is not given back yet: what is under way has not ended in time");
            continue;
        }
        hosts.give_back(&BTreeSet::from([duty.clone()])).await?;
        {
            let mut state = host.fleet.state();
            state.mine.remove(&duty);
            state.stopping.remove(&duty);
        }
        tracing::info!(%duty, "this host gives it back");
        if let Duty::Pipeline(name) = &duty {
            // It sleeps from now on. What waits, and what failed, is the other host's to tell.
            if let Some(metrics) = host.parts.pipeline_metrics().get(name) {
                metrics.put_away();
            }
            host.parts.start_pipeline(host, config, name, progress);
        }
    }
    Ok(())
}
