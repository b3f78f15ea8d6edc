//! Revisions that are not active any more, for replays that ask for one: what they name is kept in the landing zone by digest.

use std::sync::Arc;

use async_trait::async_trait;
use forebay_model::ports::RevisionRecord;
use forebay_model::{Error, PipelineName, Result};
use forebay_pipeline::refine::bind::Materials;
use forebay_pipeline::refine::driver::Formers;
use tokio::sync::watch;

use super::modules::Shelf;
use crate::config::Config;

/// Those of one pipeline.
pub(super) struct Former {
    pub(super) shelf: Shelf,
    pub(super) pipeline: PipelineName,
    /// The config as it is now: limits are no part of a revision.
    pub(super) config: watch::Receiver<Config>,
}

impl std::fmt::Debug for Former {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Former").field("pipeline", &self.pipeline).finish_non_exhaustive()
    }
}

#[async_trait]
impl Formers for Former {
    async fn load(&self, record: RevisionRecord) -> Result<Arc<Materials>> {
        let limits = self.config.borrow().pipelines.get(&self.pipeline).map(|pipeline| pipeline.limits.clone());
        let limits = limits.ok_or_else(|| {
            Error::operator(format!("pipeline {} is not in the config any more", self.pipeline))
                .with_hint("put it back until its replay is done, or take that back with `forebay replay --stop`")
        })?;
        let materials = self.shelf.materials(record.revision.clone(), record.number, &limits).await?;
        // One that was never active makes rows now: a ledger that is rebuilt is to know it.
        self.shelf.keep_revision(&record, &materials).await?;
        Ok(materials)
    }
}
