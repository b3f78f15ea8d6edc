//! Segments as work: what the ledger has, what is let be tried again, and one of them on a worker.

use forebay_model::load::Again;
use forebay_model::ports::HealRequest;
use forebay_model::{Error, Result, RevisionId, SegmentId};

use super::super::heal::Rejected;
use super::super::protocol::{BindingId, Work};
use super::super::segment::{SegmentJob, SegmentOutcome, refine};
use super::{Driver, PipelineContext, lock};
use crate::budget::WORKER_BYTES;

impl Driver {
    /// At most so many segments that are not loaded, and so many to be refined again.
    pub(super) async fn fetch(&self, skip: &[SegmentId], limit: u32, again: u32) -> Result<Work> {
        let PipelineContext { pipeline, stream, ledger, clock, .. } = &self.context;
        let now = clock.now();
        let first = match limit {
            0 => Vec::new(),
            limit => ledger.work(pipeline, stream, now, skip, limit).await?,
        };
        let again = match again {
            0 => Vec::new(),
            limit => ledger.again(pipeline, stream, now, skip, limit).await?,
        };
        Ok(Work { first, again })
    }

    /// What failed, and what former revisions rejected, is work again.
    pub(super) async fn retry_failed(&self, revision: Option<RevisionId>) -> Result<()> {
        let PipelineContext { pipeline, ledger, clock, .. } = &self.context;
        ledger.retry_failed(pipeline).await?;
        if let Some(revision) = revision {
            let reason = format!("revision {} is active", revision.short());
            let wanted = HealRequest { unless_tried_by: Some(revision), reason, ..HealRequest::default() };
            let segments = ledger.ask_heal(pipeline, &wanted, clock.now()).await?;
            if segments > 0 {
                tracing::info!(%pipeline, segments, "rejected records are tried again under the new revision");
            }
        }
        Ok(())
    }

    pub(super) async fn refine(&self, binding: BindingId, job: SegmentJob) -> Result<SegmentOutcome> {
        let bound = lock(&self.bindings).get(&binding).cloned();
        let bound = bound.ok_or_else(|| Error::bug(format!("binding {binding} is gone while segments use it")))?;
        let again = job.item.again.is_some();
        let budget = &self.context.budget;
        let share = if again { Some(budget.again.take(WORKER_BYTES).await) } else { None };
        let held = (budget.refine.take(WORKER_BYTES).await, share);
        let rejected = match job.item.again {
            Some(Again::Heal) => {
                let rejects = &bound.rejects;
                let rows = rejects.warehouse.rows_of(&rejects.fit.table.table, &job.item.segment.id).await?;
                let rejected = Rejected::of(rows)?;
                rejected.must_be(job.item.retryable, &rejects.fit.table)?;
                Some(rejected)
            }
            Some(Again::Replay) | None => None,
        };
        let place = self.context.place.clone();
        let failpoint = self.context.failpoint;
        let refine = move || {
            failpoint("in_refine");
            let outcome = refine(&place, &bound, &job, rejected.as_ref());
            failpoint("after_refine");
            drop(held);
            outcome
        };
        let workers = &self.context.workers;
        if again { workers.behind(refine).await } else { workers.run(refine).await }
    }
}
