//! Segments as work: what the ledger has, what is let be tried again, and one of them on a worker.

use std::sync::Arc;

use forebay_model::load::Again;
use forebay_model::ports::{HealRequest, WorkItem};
use forebay_model::{Error, Result, RevisionId, SegmentId};

use super::super::heal::Rejected;
use super::super::protocol::{BindingId, Work};
use super::super::segment::{SegmentJob, SegmentOutcome, refine};
use super::{Driver, PipelineContext, lock};
use crate::budget::WORKER_BYTES;

fn ids(items: &[WorkItem]) -> Vec<SegmentId> {
    items.iter().map(|item| item.segment.id.clone()).collect()
}

impl Driver {
    /// At most so many segments that nothing was made of yet, and so many beside them: what failed, whose rows are in no table, then what is
    /// refined again, and then what had landed before. What one call gave is left out of the next: between them the ledger may have
    /// learned of a version that replaces it, or that the version which did is not due any more.
    /// Where hosts share the ledger, none at all under a revision that is not the active one any more: another host has made another one
    /// active, and this one takes it up first.
    pub(super) async fn fetch(&self, revision: RevisionId, skip: &[SegmentId], limit: u32, again: u32) -> Result<Work> {
        let PipelineContext { pipeline, stream, ledger, shared, clock, .. } = &self.context;
        let now = clock.now();
        let first = match limit {
            0 => Vec::new(),
            limit => ledger.work(pipeline, stream, now, skip, limit).await?,
        };
        let left = |aside: &[WorkItem]| again.saturating_sub(u32::try_from(aside.len()).unwrap_or(u32::MAX));
        let with = |items: &[WorkItem]| [skip, &ids(items)].concat();
        let mut aside = match again {
            0 => Vec::new(),
            limit => ledger.failed(pipeline, stream, now, &with(&first), limit).await?,
        };
        if left(&aside) > 0 {
            aside.extend(ledger.again(pipeline, stream, now, &with(&aside), left(&aside)).await?);
        }
        if left(&aside) > 0 {
            let skip = [with(&first), ids(&aside)].concat();
            aside.extend(ledger.history(pipeline, stream, now, &skip, left(&aside)).await?);
        }
        // Asked last: if it is active now, it was when the segments were asked for.
        if *shared && ledger.active(pipeline).await?.is_some_and(|active| active.revision.id != revision) {
            return Ok(Work::default());
        }
        Ok(Work { first, again: aside })
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
        let aside = job.item.is_aside();
        let budget = &self.context.budget;
        let share = if aside { Some(budget.again.take(WORKER_BYTES).await) } else { None };
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
        let refine = move |between: &mut dyn FnMut()| {
            failpoint("in_refine");
            let outcome = refine(&place, &bound, &job, rejected.as_ref(), between);
            failpoint("after_refine");
            drop(held);
            outcome
        };
        let workers = &self.context.workers;
        let precedence = Arc::clone(workers.precedence());
        if aside {
            let behind = move || {
                let mut behind = precedence.behind();
                refine(&mut || behind.give_way())
            };
            return workers.behind(behind).await;
        }
        // What waits for a thread is at work: history leaves it one.
        let ahead = precedence.ahead();
        let first = move || {
            let outcome = refine(&mut || {});
            drop(ahead);
            outcome
        };
        workers.run(first).await
    }
}
