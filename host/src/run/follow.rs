//! Hosts that do not lead take up what the one that does makes active in the ledger (`fleet`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use forebay_model::ports::RevisionRecord;
use forebay_model::{Error, ErrorClass, PipelineName, Result};

use super::deploy::{Deployer, Handles};
use crate::config::Config;

/// The pause before a revision that cannot be loaded here is tried again.
const AGAIN: Duration = Duration::from_secs(30);

impl Deployer {
    /// Takes up what whoever leads the hosts of the ledger made active. Pipelines whose active revision cannot be loaded here, with why:
    /// it is told once, and tried again after a pause.
    pub(super) async fn follow(
        &mut self,
        config: &Config,
        handles: &Handles,
        leads: bool,
    ) -> Result<BTreeMap<PipelineName, String>> {
        let mut failed = None;
        for (name, handle) in handles {
            let Some(pipeline) = config.pipelines.get(name) else { continue };
            let Some(active) = self.shelf.ledger.active(name).await? else { continue };
            let RevisionRecord { number, id, revision, created_at: _ } = active.revision;
            // Limits are no part of a revision: who leads has seen to them.
            let has_limits = leads || self.limits.get(name) == Some(&pipeline.limits);
            if (handle.is_deployed(id) && has_limits) || !handle.is_running() || revision.stream != pipeline.from {
                self.unloadable.remove(name);
                continue;
            }
            let known = self.unloadable.get(name).filter(|(of, _, since)| *of == id && since.elapsed() < AGAIN);
            if known.is_some() {
                continue;
            }
            let loaded = async {
                let materials = self.shelf.materials(revision, number, &pipeline.limits).await?;
                handle.check(Arc::clone(&materials)).await?;
                Ok::<_, Error>(materials)
            };
            match loaded.await {
                Ok(materials) => {
                    tracing::info!(pipeline = %name, revision = number, revision_id = id.short(), "taking up the active revision");
                    self.unloadable.remove(name);
                    self.limits.insert(name.clone(), pipeline.limits.clone());
                    handle.deploy(materials);
                }
                Err(error) if error.class() == ErrorClass::Retry => failed = Some(error),
                Err(error) => {
                    let why = format!("revision {number}: {}", error.chain());
                    if self.unloadable.get(name).is_none_or(|(of, known, _)| *of != id || *known != why) {
                        tracing::error!(
                            pipeline = %name, revision = number, revision_id = id.short(),
                            error = error.chain(), hint = error.hint(),
                            "the active revision cannot be loaded by this host: it takes no segments for the pipeline"
                        );
                    }
                    self.unloadable.insert(name.clone(), (id, why, Instant::now()));
                }
            }
        }
        self.unloadable.retain(|name, _| config.pipelines.contains_key(name));
        if let Some(error) = failed {
            return Err(error);
        }
        Ok(self.unloadable.iter().map(|(name, (_, why, _))| (name.clone(), why.clone())).collect())
    }
}
