//! Deployments: a revision is submitted, checked, and then takes the next segments, or is refused and changes nothing.
//!
//! | from | when | to |
//! |---|---|---|
//! | submitted | its modules load, bind to the present schema, and its rows fit the tables | active; the former one is retired |
//! | submitted | any of that fails | refused, with the reason; the former one goes on |
//!
//! What is active is in the ledger, and what it names is kept: a restart takes up where the process was, whatever the folder and
//! the config say meanwhile that does not pass its checks.

use std::collections::BTreeMap;

use forebay_model::ids::ModuleName;
use forebay_model::ports::{DeploymentState, RevisionRecord};
use forebay_model::{Digest, Error, PipelineName, Result};
use forebay_pipeline::refine::driver::PipelineHandle;

use super::modules::{NewModule, Scan, Shelf};
use crate::config::Config;
use crate::failpoint::failpoint;

/// Deploys revisions to the pipelines that run.
pub(super) struct Deployer {
    pub(super) shelf: Shelf,
    pub(super) pipelines: BTreeMap<PipelineName, PipelineHandle>,
}

/// What became of a pipeline's submission.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It takes the next segments.
    Active,
    /// It was active before.
    Unchanged,
    /// It changes nothing.
    Refused(Error),
}

impl Deployer {
    /// At the start: the modules that are new in the folder, and for each pipeline the revision that the config means; where that
    /// is refused, the one that was active before goes on.
    pub(super) async fn start(&self, config: &Config) -> Result<BTreeMap<PipelineName, Error>> {
        let mut refused = BTreeMap::new();
        for (pipeline, outcome) in self.reload(config, "start").await? {
            if let Outcome::Refused(error) = outcome {
                self.take_up_former(config, &pipeline).await?;
                refused.insert(pipeline, error);
            }
        }
        Ok(refused)
    }

    /// Looks at the folder and at the config: what changed is submitted.
    pub(super) async fn reload(&self, config: &Config, reason: &str) -> Result<BTreeMap<PipelineName, Outcome>> {
        let Scan { new, refused } = self.shelf.scan(config).await?;
        for (file, error) in refused {
            tracing::error!(
                file = %file.display(), error = error.chain(), hint = error.hint(),
                "module refused; the active revision goes on"
            );
        }
        let instead: BTreeMap<ModuleName, Digest> =
            new.iter().map(|module| (module.name.clone(), module.digest)).collect();
        let mut outcomes = BTreeMap::new();
        for (name, handle) in &self.pipelines {
            let Some(pipeline) = config.pipelines.get(name) else { continue };
            let reason = new
                .iter()
                .find(|module| pipeline.steps.iter().any(|step| step.module == module.name && step.pin.is_none()))
                .map_or(reason, |module| &module.origin);
            let outcome = self.submit(config, name, handle, &instead, reason).await;
            outcomes.insert(name.clone(), outcome.unwrap_or_else(Outcome::Refused));
        }
        for module in &new {
            self.settle(config, module, &outcomes).await?;
        }
        Ok(outcomes)
    }

    /// A new module becomes the active one of its name unless a pipeline that uses it refused it.
    async fn settle(
        &self,
        config: &Config,
        module: &NewModule,
        outcomes: &BTreeMap<PipelineName, Outcome>,
    ) -> Result<()> {
        let refused = outcomes.iter().any(|(name, outcome)| {
            let uses = config.pipelines.get(name).is_some_and(|pipeline| {
                pipeline.steps.iter().any(|step| step.module == module.name && step.pin.is_none())
            });
            uses && matches!(outcome, Outcome::Refused(_))
        });
        if refused {
            self.shelf.ledger.seen_in_folder(&module.path, module.digest, self.shelf.clock.now()).await?;
            return Ok(());
        }
        self.shelf.activate(module).await?;
        tracing::info!(module = %module.name, digest = module.digest.short(), origin = module.origin, "module is active");
        Ok(())
    }

    async fn submit(
        &self,
        config: &Config,
        name: &PipelineName,
        handle: &PipelineHandle,
        instead: &BTreeMap<ModuleName, Digest>,
        reason: &str,
    ) -> Result<Outcome> {
        let Some(pipeline) = config.pipelines.get(name) else { return Ok(Outcome::Unchanged) };
        let ledger = &self.shelf.ledger;
        let revision = self.shelf.revision(config, name, pipeline, instead).await?;
        let id = revision.id();
        let active = ledger.active(name).await?;
        let running = active.as_ref().is_some_and(|active| active.revision.id == id);
        if running && handle.is_deployed(id) {
            return Ok(Outcome::Unchanged);
        }
        let now = self.shelf.clock.now();
        let record = ledger.record_revision(&revision, now).await?;
        let checked = async {
            let materials = self.shelf.materials(revision, record.number, &pipeline.limits).await?;
            handle.check(std::sync::Arc::clone(&materials)).await?;
            Ok::<_, Error>(materials)
        };
        match checked.await {
            Ok(materials) => {
                if !running {
                    ledger.deploy(name, id, DeploymentState::Active, reason, now).await?;
                    failpoint("after_deploy");
                    tracing::info!(pipeline = %name, revision = record.number, id = id.short(), reason, "revision is active");
                }
                handle.deploy(materials);
                Ok(Outcome::Active)
            }
            Err(error) => {
                if !running {
                    let why = format!("{reason}: {}", error.chain());
                    ledger.deploy(name, id, DeploymentState::Refused, &why, now).await?;
                }
                tracing::error!(
                    pipeline = %name, revision = record.number, error = error.chain(), hint = error.hint(),
                    "revision refused; the active one goes on"
                );
                Ok(Outcome::Refused(error))
            }
        }
    }

    async fn take_up_former(&self, config: &Config, name: &PipelineName) -> Result<()> {
        let (Some(handle), Some(pipeline)) = (self.pipelines.get(name), config.pipelines.get(name)) else {
            return Ok(());
        };
        let Some(active) = self.shelf.ledger.active(name).await? else { return Ok(()) };
        let RevisionRecord { number, id: _, revision, created_at: _ } = active.revision;
        match self.shelf.materials(revision, number, &pipeline.limits).await {
            Ok(materials) => {
                tracing::info!(pipeline = %name, revision = number, "the former revision goes on");
                handle.deploy(materials);
            }
            Err(error) => {
                tracing::error!(pipeline = %name, revision = number, error = error.chain(), hint = error.hint(), "no revision runs");
            }
        }
        Ok(())
    }
}
