//! A dry run: what a new revision makes of segments that the active one has refined. Where it fails on more of them, it is refused.
//!
//! Only failures count: traps, limits that a call runs into, answers that are none. What a rule refuses by its own will, and what its rows
//! are like, is its business (`shadow` compares that). Nothing is written, so a process that dies here starts as if it had not been
//! asked.

use std::sync::Arc;
use std::time::{Duration, Instant};

use forebay_model::ports::{Deployment, RevisionRecord};
use forebay_model::{Error, ErrorClass, LandedSegment, PipelineName, Result};
use forebay_pipeline::refine::bind::{BoundPipeline, Materials};
use forebay_pipeline::refine::driver::PipelineHandle;
use forebay_pipeline::refine::rehearse::{Extent, Failed, FailedRecord, Rehearsed};

use super::modules::Shelf;
use crate::config::PipelineConfig;

/// Records of each segment that are refined, about.
pub(super) const RECORDS: u64 = 16_384;

/// How long a candidate's part may take; what it has not reached by then is left out. A call that loops is ended by the limits.
const TIME: Duration = Duration::from_secs(30);

/// What a revision came to on a segment.
enum Came {
    /// It went through, but for records on which the rule failed.
    Through(Failed),
    /// The segment would fail.
    Failed(Error),
}

/// How often a revision failed, over all segments.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Failures {
    segments: u64,
    records: u64,
}

impl Failures {
    fn add(&mut self, came: &Came) {
        match came {
            Came::Through(failed) => self.records += failed.records,
            Came::Failed(_) => self.segments += 1,
        }
    }

    fn more_than(self, other: Self) -> bool {
        self.segments > other.segments || self.records > other.records
    }
}

impl Shelf {
    /// Refines the last segments that the active revision refined, and refuses a candidate that fails on more of them.
    ///
    /// # Errors
    /// Class operator: where the candidate fails, and what it said.
    pub(super) async fn dry_run(
        &self,
        name: &PipelineName,
        pipeline: &PipelineConfig,
        handle: &PipelineHandle,
        candidate: &Materials,
    ) -> Result<()> {
        let wanted = pipeline.deploy.dry_run;
        let Some(active) = self.ledger.active(name).await?.filter(|_| wanted > 0) else { return Ok(()) };
        let Deployment { revision: RevisionRecord { number, id, revision, .. }, .. } = active;
        if id == candidate.revision.id() || revision.stream != pipeline.from {
            return Ok(());
        }
        let segments = self.ledger.refined_by(name, id, wanted).await?;
        let quiet = self.quiet(candidate.revision.clone(), candidate.number, &pipeline.limits).await?;
        let Some(bound) = handle.check(quiet).await? else { return Ok(()) };
        let until = Instant::now() + TIME;
        let (mut its, mut former) = (Failures::default(), Failures::default());
        let mut worst: Option<(LandedSegment, Came)> = None;
        let mut other: Option<Arc<BoundPipeline>> = None;
        for segment in &segments {
            let extent = Extent { records: RECORDS, until: Some(until), keep: false };
            let (came, records) = came(handle, &bound, segment, extent).await?;
            if matches!(&came, Came::Through(failed) if failed.records == 0) {
                continue;
            }
            // What is active is asked only where that matters.
            let active = match &other {
                Some(bound) => Arc::clone(bound),
                None => match self.bound_quiet(handle, (number, revision.clone()), pipeline).await {
                    Ok(Some(bound)) => Arc::clone(other.insert(bound)),
                    Ok(None) => return Ok(()),
                    Err(error) if error.class() == ErrorClass::Retry => return Err(error),
                    Err(error) => {
                        let error = error.chain();
                        tracing::warn!(pipeline = %name, revision = number, error, "no dry run: the active revision cannot be bound");
                        return Ok(());
                    }
                },
            };
            let (by_active, _) =
                self::came(handle, &active, segment, Extent { records, until: None, keep: false }).await?;
            let (mut one, mut two) = (Failures::default(), Failures::default());
            one.add(&came);
            two.add(&by_active);
            its.add(&came);
            former.add(&by_active);
            if one.more_than(two) && worst.is_none() {
                worst = Some((segment.clone(), without(came, &by_active)));
            }
        }
        match worst {
            Some((segment, came)) if its.more_than(former) => {
                Err(refusal(name, number, segments.len() as u64, (its, former), &segment, came))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// A revision bound as it is now, whose rules say nothing to the log.
    async fn bound_quiet(
        &self,
        handle: &PipelineHandle,
        (number, revision): (u32, forebay_model::Revision),
        pipeline: &PipelineConfig,
    ) -> Result<Option<Arc<BoundPipeline>>> {
        handle.check(self.quiet(revision, number, &pipeline.limits).await?).await
    }
}

/// What a revision comes to on a segment, and how many records that was.
async fn came(
    handle: &PipelineHandle,
    bound: &Arc<BoundPipeline>,
    segment: &LandedSegment,
    extent: Extent,
) -> Result<(Came, u64)> {
    match handle.rehearse(Arc::clone(bound), segment.clone(), extent).await {
        Ok(Rehearsed { batches: _, records, failed }) => Ok((Came::Through(failed), records)),
        Err(error) if matches!(error.class(), ErrorClass::Retry | ErrorClass::Fenced) => Err(error),
        Err(error) => Ok((Came::Failed(error), extent.records)),
    }
}

/// What a candidate fails on and the active revision does not.
fn without(came: Came, active: &Came) -> Came {
    match (came, active) {
        (Came::Through(mut failed), Came::Through(known)) => {
            let is_known = |one: &FailedRecord| known.first.iter().any(|other| other.record == one.record);
            failed.first.retain(|one| !is_known(one));
            Came::Through(failed)
        }
        (came, _) => came,
    }
}

fn refusal(
    name: &PipelineName,
    active: u32,
    segments: u64,
    (its, former): (Failures, Failures),
    segment: &LandedSegment,
    came: Came,
) -> Error {
    let counted = |failures: Failures| match failures {
        Failures { segments: 0, records: 0 } => "none".to_owned(),
        Failures { segments: 0, records } => crate::cli::counted(records, "record"),
        Failures { segments, records: 0 } => crate::cli::counted(segments, "whole segment"),
        Failures { segments, records } => {
            format!("{} and {}", crate::cli::counted(segments, "whole segment"), crate::cli::counted(records, "record"))
        }
    };
    let said = match came {
        Came::Failed(error) => format!("segment {}: {}", segment.id, error.chain()),
        Came::Through(Failed { records: _, first }) => match first.into_iter().next() {
            Some(FailedRecord { record, step, message }) => {
                format!("segment {}, record {record}: step {step}: {message}", segment.id)
            }
            None => format!("segment {}", segment.id),
        },
    };
    let tried = match segments {
        1 => "the last segment".to_owned(),
        segments => format!("the last {segments} segments"),
    };
    Error::operator(format!(
        "a dry run over {tried} fails on {}, where revision {active}, which is active, fails on {}; {said}",
        counted(its),
        counted(former),
    ))
    .with_hint(format!(
        "`forebay test --from-segment {}` in the rule's folder shows it; where the records are to fail, `dry_run = 0` under \
         [pipelines.{name}.deploy] leaves the dry run out",
        segment.id
    ))
}
