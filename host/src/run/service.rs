//! What a host does beside its streams: reloads, answers other processes, hears signals.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use forebay_model::ports::Ledger;
use forebay_model::{Result, TableName};
use forebay_pipeline::panics::caught;
use forebay_pipeline::refine::bind::Warehouses;
use forebay_pipeline::refine::protocol::Event;

use super::deploy::Deployer;
use super::watch::Watch;
use super::{Host, Running};
use crate::cli::{MaintainRequest, maintain_tables};
use crate::config::{self, Config};
use crate::failpoint::failpoint;

/// How often requests and approvals are looked for.
const TICK: Duration = Duration::from_millis(500);

/// Reloads and answers.
pub(super) struct Service {
    config: Config,
    deployer: Deployer,
    watch: Watch,
    ledger: Arc<dyn Ledger>,
    warehouses: Warehouses,
    approved: BTreeSet<(TableName, String)>,
    handles: Vec<forebay_pipeline::refine::driver::PipelineHandle>,
}

impl Service {
    pub(super) fn new(host: &Host, deployer: Deployer, running: &Running) -> Self {
        Self {
            config: host.config.clone(),
            deployer,
            watch: Watch::start(&host.config),
            ledger: Arc::clone(&host.ledger),
            warehouses: Arc::clone(&host.warehouses),
            approved: BTreeSet::new(),
            handles: running.pipelines.values().map(|(handle, _)| handle.clone()).collect(),
        }
    }

    /// Does what there is to do, for ever.
    pub(super) async fn run(mut self) {
        loop {
            tokio::select! {
                () = self.watch.changed() => {
                    if let Err(error) = caught(async { Ok(self.reload().await) }).await {
                        tracing::error!(error = error.chain(), "reload failed; what was active goes on");
                    }
                }
                () = tokio::time::sleep(TICK) => {
                    if let Err(error) = caught(self.answer()).await {
                        tracing::warn!(error = error.chain(), "requests could not be answered");
                    }
                }
            }
        }
    }

    async fn reload(&mut self) {
        failpoint("in_reload");
        match config::load_with_env(&self.config.path) {
            Ok(changed) => {
                self.say_what_needs_a_restart(&changed);
                let Config {
                    path: _,
                    file: _,
                    root: _,
                    landing: _,
                    ledger: _,
                    modules: _,
                    warehouses: _,
                    streams: _,
                    pipelines,
                    host: _,
                    maintain,
                } = changed;
                // Streams, stores and the host's own settings stay as they were when it started.
                self.config
                    .pipelines
                    .retain(|name, _| !self.deployer.pipelines.contains_key(name) || pipelines.contains_key(name));
                for (name, pipeline) in pipelines {
                    if self.config.pipelines.get(&name).is_some_and(|known| known.from == pipeline.from) {
                        self.config.pipelines.insert(name, pipeline);
                    }
                }
                self.config.maintain = maintain;
            }
            Err(problems) => {
                for problem in problems.iter() {
                    tracing::error!(
                        place = problem.place.as_ref().map(ToString::to_string),
                        hint = problem.hint,
                        "config refused, the one before goes on: {}",
                        problem.message
                    );
                }
            }
        }
        if let Err(error) = self.deployer.reload(&self.config, "config").await {
            tracing::error!(error = error.chain(), hint = error.hint(), "reload failed; what was active goes on");
        }
    }

    fn say_what_needs_a_restart(&self, changed: &Config) {
        let known = &self.config;
        let mut sections = Vec::new();
        if changed.landing != known.landing {
            sections.push("landing");
        }
        if changed.ledger != known.ledger {
            sections.push("ledger");
        }
        if changed.modules != known.modules {
            sections.push("modules");
        }
        if changed.warehouses != known.warehouses {
            sections.push("warehouses");
        }
        if changed.host != known.host {
            sections.push("host");
        }
        let streams = |config: &Config| -> Vec<_> {
            config
                .streams
                .iter()
                .map(|(name, stream)| (name.clone(), stream.source.clone(), stream.format.clone()))
                .collect()
        };
        if streams(changed) != streams(known) {
            sections.push("streams");
        }
        let pipelines = |config: &Config| -> Vec<_> {
            config.pipelines.iter().map(|(name, p)| (name.clone(), p.from.clone())).collect()
        };
        if pipelines(changed) != pipelines(known) {
            sections.push("pipelines");
        }
        if !sections.is_empty() {
            tracing::warn!(sections = sections.join(", "), "these sections of the config changed: restart to use them");
        }
    }

    async fn answer(&mut self) -> Result<()> {
        let approved: BTreeSet<_> = self
            .ledger
            .held_changes()
            .await?
            .into_iter()
            .filter(|change| change.approved)
            .map(|change| (change.table, change.column))
            .collect();
        if !approved.is_subset(&self.approved) {
            for handle in &self.handles {
                handle.send(Event::Approved);
            }
        }
        self.approved = approved;
        for (number, what, arguments) in self.ledger.asked().await? {
            let now = crate::assemble::clock().now();
            let answer = match (what.as_str(), serde_json::from_value::<MaintainRequest>(arguments)) {
                (MaintainRequest::WHAT, Ok(request)) => {
                    // Whatever becomes of it, who asked is answered, and not asked for again each half second.
                    let done = caught(maintain_tables(&self.config, &*self.ledger, &self.warehouses, &request, now));
                    match done.await {
                        Ok(done) => serde_json::to_value(done).unwrap_or_default(),
                        Err(error) => serde_json::json!({ "error": error.chain() }),
                    }
                }
                _ => serde_json::json!({ "error": format!("this host does not know how to {what}") }),
            };
            self.ledger.answer(number, &answer, now).await?;
        }
        Ok(())
    }
}

/// SIGINT and SIGTERM.
pub(super) struct Signals {
    #[cfg(unix)]
    terminate: Option<tokio::signal::unix::Signal>,
}

impl Signals {
    pub(super) fn new() -> Self {
        Self {
            #[cfg(unix)]
            terminate: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).ok(),
        }
    }

    /// Returns at the next signal.
    pub(super) async fn next(&mut self) {
        #[cfg(unix)]
        match &mut self.terminate {
            Some(terminate) => tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            },
            None => drop(tokio::signal::ctrl_c().await),
        }
        #[cfg(not(unix))]
        drop(tokio::signal::ctrl_c().await);
    }
}
