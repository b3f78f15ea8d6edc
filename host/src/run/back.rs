//! A revision that passed its checks and fails segments: the host puts the former one back by itself.
//!
//! Counted are the segments that each pipeline's revision has refined since it became active, or the host started. Where at least so many as
//! `deploy.back_after` says are done, and at least that share of them failed, those that failed are refined by the former revision,
//! beside production: only segments that it takes count, so that a file that nobody can read blames no rule. A revision that a rollback
//! put back is left alone, whoever asked for it: two that fail do not take turns.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arrow::array::AsArray as _;
use forebay_model::ports::{Deployment, Ledger, RevisionRecord};
use forebay_model::{Error, ErrorClass, PipelineName, Result, RevisionId, SegmentId};
use forebay_pipeline::panics::caught;
use forebay_pipeline::refine::driver::PipelineHandle;
use forebay_pipeline::refine::protocol::Report;
use forebay_pipeline::refine::rehearse::Extent;
use tokio::sync::{mpsc, watch};

use super::Host;
use super::modules::Shelf;
use super::push::Submission;
use crate::config::{Config, PipelineConfig};
use crate::requests::{Push, PushRequest};

/// How often it is looked.
const TICK: Duration = Duration::from_millis(500);
/// Where another host leads, it is asked again after so long.
const ASK_AGAIN: Duration = Duration::from_secs(60);
/// Failed segments that are refined by the former revision, and how long that may take.
const EXAMINED: usize = 16;
const TIME: Duration = Duration::from_secs(30);

/// What became of the segments of each pipeline.
#[derive(Debug, Default)]
pub(super) struct Outcomes(Mutex<BTreeMap<PipelineName, Outcome>>);

/// What became of them under one revision.
#[derive(Debug, Clone)]
struct Outcome {
    revision: RevisionId,
    loaded: u64,
    /// Those that wait for another revision, with why.
    failed: BTreeMap<SegmentId, String>,
}

/// A revision that is to make place for the former one.
#[derive(Debug)]
pub(super) struct Back {
    pub(super) pipeline: PipelineName,
    pub(super) from: RevisionId,
    pub(super) to: RevisionId,
    pub(super) why: String,
}

impl Back {
    /// Asks the host that leads for it; what comes of it is told there.
    pub(super) async fn ask(self, ledger: &dyn Ledger) -> Result<()> {
        let Self { pipeline, from, to, why } = self;
        let push = Push::Back { pipeline, from, to, why };
        let at = crate::assemble::clock().now();
        PushRequest { at, by: String::new(), seen: BTreeMap::new(), push }.ask(ledger).await?;
        Ok(())
    }
}

impl Outcomes {
    /// Counts what a pipeline tells.
    pub(super) fn note(&self, pipeline: &PipelineName, report: &Report) {
        match report {
            Report::Serving { revision, .. } => self.serves(pipeline, *revision),
            Report::Loaded { group, .. } => {
                self.change(pipeline, group.revision, |outcome| {
                    outcome.loaded += group.segments.len() as u64;
                    for segment in &group.segments {
                        outcome.failed.remove(&segment.segment);
                    }
                });
            }
            Report::SegmentFailed(failure) if !matches!(failure.class, ErrorClass::Retry | ErrorClass::Fenced) => {
                self.change(pipeline, failure.revision, |outcome| {
                    outcome.failed.insert(failure.segment.clone(), failure.message.clone());
                });
            }
            Report::SegmentFailed(_)
            | Report::NotBound { .. }
            | Report::NotGrown { .. }
            | Report::Retrying { .. }
            | Report::Waiting(_) => {}
        }
    }

    /// Another one is counted from its beginning.
    fn serves(&self, pipeline: &PipelineName, revision: RevisionId) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Outcome { revision, loaded: 0, failed: BTreeMap::new() };
        let outcome = all.entry(pipeline.clone()).or_insert_with(new);
        if outcome.revision != revision {
            *outcome = new();
        }
    }

    /// What became of segments under another revision than the one that serves, since a replay asked for it or it was just on its way,
    /// says nothing of that one.
    fn change(&self, pipeline: &PipelineName, revision: RevisionId, change: impl FnOnce(&mut Outcome)) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(outcome) = all.get_mut(pipeline).filter(|outcome| outcome.revision == revision) {
            change(outcome);
        }
    }

    fn of(&self, pipeline: &PipelineName) -> Option<Outcome> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(pipeline).cloned()
    }
}

/// What was examined last of each pipeline: it is examined again when more has failed.
type Examined = BTreeMap<PipelineName, (RevisionId, BTreeSet<SegmentId>)>;

/// Looks after all pipelines, for ever.
pub(super) async fn watch_over(
    host: Arc<Host>,
    shelf: Shelf,
    config: watch::Receiver<Config>,
    submit: mpsc::UnboundedSender<Submission>,
) {
    let mut examined = Examined::new();
    let mut asked: BTreeMap<PipelineName, Instant> = BTreeMap::new();
    loop {
        // Who leads may have died before it was done: where nothing came of it, it is looked at once more.
        let again: Vec<_> =
            asked.iter().filter(|(_, at)| at.elapsed() > ASK_AGAIN).map(|(name, _)| name.clone()).collect();
        for name in again {
            asked.remove(&name);
            examined.remove(&name);
        }
        let config = config.borrow().clone();
        for (name, pipeline) in &config.pipelines {
            match caught(look(&host, &shelf, (name, pipeline), &mut examined)).await {
                Ok(Some(back)) => {
                    if !host.fleet.leads() {
                        asked.insert(name.clone(), Instant::now());
                    }
                    drop(submit.send(Submission::Back(back)));
                }
                Ok(None) => {}
                Err(error) => {
                    let error = error.chain();
                    tracing::warn!(pipeline = %name, error, "what failed could not be tried with the former revision");
                }
            }
        }
        tokio::time::sleep(TICK).await;
    }
}

async fn look(
    host: &Host,
    shelf: &Shelf,
    (name, pipeline): (&PipelineName, &PipelineConfig),
    examined: &mut Examined,
) -> Result<Option<Back>> {
    let back_after = pipeline.deploy.back_after;
    let Some(outcome) = host.outcomes.of(name) else { return Ok(None) };
    let Outcome { revision, loaded, failed } = outcome;
    let segments: BTreeSet<_> = failed.keys().cloned().collect();
    let known = examined.get(name).is_some_and(|known| *known == (revision, segments.clone()));
    if known || !back_after.reached(failed.len() as u64, loaded + failed.len() as u64) {
        return Ok(None);
    }
    let Some(handle) = host.parts.handles().remove(name) else { return Ok(None) };
    let Some(active) = shelf.ledger.active(name).await? else { return Ok(None) };
    let Deployment { revision: RevisionRecord { id, number, .. }, reason, .. } = active;
    if id != revision || reason.starts_with("rollback") {
        return Ok(None);
    }
    let former = former(shelf, name, id).await?.filter(|former| former.revision.stream == pipeline.from);
    let Some(former) = former else { return Ok(None) };
    examined.insert(name.clone(), (revision, segments));
    let takes = taken_by(shelf, (pipeline, &handle), &former, failed.keys()).await?;
    // Of more than were examined the rest is taken to be like them.
    let examined = failed.len().min(EXAMINED) as u64;
    let guilty = failed.len() as u64 * takes.len() as u64 / examined.max(1);
    if !back_after.reached(guilty, loaded + guilty) {
        return Ok(None);
    }
    let first = takes.first().and_then(|segment| Some((segment, failed.get(segment)?)));
    let first = first.map(|(segment, message)| format!("; segment {segment}: {message}")).unwrap_or_default();
    let why = format!(
        "{} of {} failed under revision {number}, and not under revision {}{first}",
        failed.len(),
        crate::cli::counted(loaded + failed.len() as u64, "segment"),
        former.number
    );
    Ok(Some(Back { pipeline: name.clone(), from: id, to: former.id, why }))
}

/// The revision that was active before.
async fn former(shelf: &Shelf, name: &PipelineName, active: RevisionId) -> Result<Option<RevisionRecord>> {
    let table = shelf.ledger.read_table("deployments").await?;
    let column = |name: &str| {
        let column = table.column_by_name(name).and_then(|column| column.as_string_opt::<i32>().cloned());
        column.ok_or_else(|| Error::bug(format!("ledger.deployments has no column {name}")))
    };
    let (pipelines, revisions, states) = (column("pipeline")?, column("revision_id")?, column("state")?);
    let active = active.to_string();
    let rows = pipelines.iter().zip(&revisions).zip(&states);
    let retired = rows.filter_map(|((of, revision), state)| {
        (of == Some(name.as_str()) && state == Some("retired")).then_some(revision?)
    });
    match retired.filter(|revision| *revision != active).last() {
        Some(revision) => shelf.ledger.revision(name, revision.parse()?).await,
        None => Ok(None),
    }
}

/// Those of the segments that a revision refines without failing.
async fn taken_by(
    shelf: &Shelf,
    (pipeline, handle): (&PipelineConfig, &PipelineHandle),
    former: &RevisionRecord,
    failed: impl Iterator<Item = &SegmentId>,
) -> Result<Vec<SegmentId>> {
    let quiet = shelf.quiet(former.revision.clone(), former.number, &pipeline.limits).await?;
    let Some(bound) = handle.check(quiet).await? else { return Ok(Vec::new()) };
    let until = Instant::now() + TIME;
    let mut taken = Vec::new();
    for id in failed.take(EXAMINED) {
        let Some(segment) = shelf.ledger.segment(id).await? else { continue };
        // All of it: what cannot be read may come at its end.
        let extent = Extent { records: u64::MAX, until: Some(until), keep: false };
        match handle.rehearse(Arc::clone(&bound), segment, extent).await {
            Ok(_) => taken.push(id.clone()),
            Err(error) if matches!(error.class(), ErrorClass::Retry | ErrorClass::Fenced) => return Err(error),
            Err(_) => {}
        }
    }
    Ok(taken)
}
