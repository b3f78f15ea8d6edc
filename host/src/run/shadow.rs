//! Shadows: a revision that passed its checks refines what the active one has refined, beside it, and loads nothing; the rows are compared.
//!
//! Compared are the newest segments that the active revision has loaded, at most so many as are asked for; where there are fewer,
//! those that it loads next come too. One segment is compared after the other, and each is written down, so that a host that dies
//! goes on where it was: the ledger says what is in shadow, how it is compared, and what came of it. What comes of it is done by the
//! task that reloads, like a push, so that nothing else changes meanwhile.
//!
//! A module is taken by all pipelines that use its name, or by none: their shadows go on together, or are cancelled together.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use forebay_model::ports::{DeploymentState, RevisionRecord, Shadow};
use forebay_model::{Error, ErrorClass, LandedSegment, PipelineName, Result, RevisionId};
use forebay_pipeline::panics::caught;
use forebay_pipeline::refine::driver::PipelineHandle;
use forebay_pipeline::refine::rehearse::{Extent, Rehearsed};
use tokio::sync::{mpsc, watch};

use super::Host;
use super::deploy::{Deployer, Handles, Prepared};
use super::dry_run::RECORDS;
use super::modules::{NewModule, Shelf, uses};
use super::push::{Foreseen, Submission};
use crate::config::{Config, DeployConfig, PipelineConfig};
use crate::failpoint::failpoint;
use crate::requests::{Active, Gains, InShadow, Pushed, Refused, ShadowWanted};
use crate::rules::changes::{changes, made};
use crate::shadow::{Brought, Comparison, Plan, Stage};

/// How often it is looked for what is to be compared.
const TICK: Duration = Duration::from_millis(250);

/// How a deployment is to be compared.
#[derive(Debug, Clone, Copy)]
pub(super) enum Asked {
    /// As each pipeline's config says.
    AsConfigured,
    /// As somebody says.
    So(ShadowWanted),
    /// It was active before, and a person wants it back.
    Never,
}

impl Asked {
    fn of(self, config: &DeployConfig) -> ShadowWanted {
        let DeployConfig { dry_run: _, shadow, max_changed, back_after: _ } = *config;
        match self {
            Self::AsConfigured => ShadowWanted { segments: shadow, max_changed: Some(max_changed) },
            Self::So(wanted) => ShadowWanted { max_changed: wanted.max_changed.or(Some(max_changed)), ..wanted },
            Self::Never => ShadowWanted { segments: 0, max_changed: None },
        }
    }
}

/// What came of a shadow.
#[derive(Debug)]
pub(super) enum Outcome {
    /// All that go on together may.
    Passed(BTreeMap<PipelineName, RevisionId>),
    /// It is none that may run.
    Refused { pipeline: PipelineName, revision: RevisionId, error: Error },
    /// Another one of those that go on together is in shadow no more.
    Alone { pipeline: PipelineName, revision: RevisionId },
}

/// Pipelines that go on together, and the modules that they do it for.
pub(super) struct Group {
    modules: Vec<Brought>,
    together: BTreeMap<PipelineName, RevisionId>,
}

impl Deployer {
    /// The pipelines that take new modules together, where one of them is to be compared; `None` where none is.
    pub(super) async fn group(
        &self,
        config: &Config,
        taken: &[&NewModule],
        prepared: &BTreeMap<PipelineName, Prepared>,
        asked: Asked,
    ) -> Result<Option<Group>> {
        let (mut together, mut compared) = (BTreeMap::new(), false);
        for (name, prepared) in prepared {
            let (Prepared::Checked { id, active: false, .. }, Some(pipeline)) = (prepared, config.pipelines.get(name))
            else {
                // One that is in shadow with them keeps them back as well.
                compared |= matches!(prepared, Prepared::InShadow(_));
                continue;
            };
            if taken.iter().any(|module| uses(config, name, &module.name)) {
                together.insert(name.clone(), *id);
                compared |= asked.of(&pipeline.deploy).segments > 0 && self.comparable(name, pipeline).await?.is_some();
            }
        }
        let brought = |module: &&NewModule| Brought {
            name: module.name.clone(),
            digest: module.digest,
            origin: module.origin.clone(),
        };
        Ok(compared.then(|| Group { modules: taken.iter().map(brought).collect(), together }))
    }

    /// The revision that a new one can be compared with.
    async fn comparable(&self, name: &PipelineName, pipeline: &PipelineConfig) -> Result<Option<RevisionId>> {
        let active = self.shelf.ledger.active(name).await?;
        let active = active.filter(|active| active.revision.revision.stream == pipeline.from);
        Ok(active.map(|active| active.revision.id))
    }

    /// How a revision that passed its checks is compared; `None` where it is not.
    pub(super) async fn plan(
        &self,
        config: &Config,
        (name, id): (&PipelineName, RevisionId),
        group: &Option<Group>,
        asked: Asked,
    ) -> Result<Option<Plan>> {
        let Some(pipeline) = config.pipelines.get(name) else { return Ok(None) };
        let ShadowWanted { segments, max_changed } = asked.of(&pipeline.deploy);
        let group = group.as_ref().filter(|group| group.together.get(name) == Some(&id));
        let active = self.comparable(name, pipeline).await?;
        let (modules, together) = match group {
            Some(Group { modules, together }) => (modules.clone(), together.clone()),
            None => (Vec::new(), BTreeMap::from([(name.clone(), id)])),
        };
        let max_changed = max_changed.unwrap_or(pipeline.deploy.max_changed);
        let plan = |active, segments| Plan { segments, max_changed, active, modules, together };
        Ok(match (active, group) {
            (Some(active), _) if segments > 0 => Some(plan(active, segments)),
            // It is taken with those that are compared.
            (active, Some(_)) => Some(plan(active.unwrap_or(id), 0)),
            (_, None) => None,
        })
    }

    /// Into shadow.
    pub(super) async fn enter(
        &mut self,
        name: &PipelineName,
        (id, number): (RevisionId, u32),
        plan: &Plan,
        reason: &str,
    ) -> Result<InShadow> {
        let reason = plan.modules.first().map_or(reason, |module| &module.origin);
        let ledger = &self.shelf.ledger;
        ledger.shadow(name, id, &plan.to_value()?, reason, self.shelf.clock.now()).await?;
        failpoint("after_shadow");
        tracing::info!(
            pipeline = %name, revision = number, revision_id = id.short(), reason, segments = plan.segments,
            max_changed = %plan.max_changed, "revision is in shadow: it is compared with the active one, which goes on"
        );
        self.noted.remove(name);
        Ok(InShadow { pipeline: name.clone(), revision: number, revision_id: id, gains: Gains::new() })
    }

    /// The config means the active revision: what it meant before is compared no more. What a module brought is not the config's.
    pub(super) async fn unshadow(&self, name: &PipelineName) -> Result<()> {
        for shadow in self.shelf.ledger.shadows().await? {
            let Some(active) = self.shelf.ledger.active(name).await?.filter(|_| shadow.pipeline == *name) else {
                continue;
            };
            if Plan::of(&shadow)?.modules.is_empty() {
                let by = active.revision.number;
                let reason = format!("superseded by revision {by} (the config means it again)");
                self.end_for(&shadow, DeploymentState::Cancelled, &reason).await?;
            }
        }
        Ok(())
    }

    async fn end(&self, shadow: &Shadow, state: DeploymentState, reason: &str) -> Result<()> {
        self.end_for(shadow, state, &format!("{}: {reason}", shadow.reason)).await
    }

    async fn end_for(&self, shadow: &Shadow, state: DeploymentState, reason: &str) -> Result<()> {
        let Shadow { pipeline, revision: RevisionRecord { number, id, .. }, .. } = shadow;
        self.shelf.ledger.deploy(pipeline, *id, state, reason, self.shelf.clock.now()).await?;
        let ended = if state == DeploymentState::Refused { "refused" } else { "cancelled" };
        tracing::warn!(
            %pipeline, revision = number, revision_id = id.short(), reason,
            "revision in shadow is {ended}; the active one goes on"
        );
        Ok(())
    }

    /// A revision in shadow, and those that go on with it.
    async fn in_shadow(&self, name: &PipelineName) -> Result<Vec<Shadow>> {
        let shadows = self.shelf.ledger.shadows().await?;
        let Some(one) = shadows.iter().find(|shadow| shadow.pipeline == *name) else {
            return Err(Error::operator(format!("no revision of pipeline {name} is in shadow"))
                .with_hint("`forebay deployments list` shows what became of each"));
        };
        // One that somebody else wrote can still be taken back, alone.
        let alone = || BTreeMap::from([(one.pipeline.clone(), one.revision.id)]);
        let together = Plan::of(one).map_or_else(|_| alone(), |plan| plan.together);
        let with = |shadow: &Shadow| together.get(&shadow.pipeline) == Some(&shadow.revision.id);
        Ok(shadows.into_iter().filter(with).collect())
    }

    /// A person decides that it goes on.
    pub(super) async fn approve(
        &mut self,
        config: &Config,
        handles: &Handles,
        name: &PipelineName,
        by: &str,
    ) -> Result<Pushed> {
        let shadows = self.in_shadow(name).await?;
        let mut passed = true;
        let mut together = BTreeMap::new();
        for shadow in &shadows {
            Plan::of(shadow)?;
            let mut comparison = Comparison::of(shadow)?;
            together.insert(shadow.pipeline.clone(), shadow.revision.id);
            if shadow.pipeline == *name {
                comparison.stage = Stage::Passed;
                comparison.why = Some(format!("approved by {by}"));
                let report = comparison.to_value()?;
                self.shelf.ledger.report_shadow(name, shadow.revision.id, &report).await?;
            }
            passed &= comparison.stage == Stage::Passed;
        }
        if !passed {
            return Ok(Pushed { shadow: shadows.iter().map(InShadow::from).collect(), ..Pushed::default() });
        }
        self.promote(config, handles, &together).await
    }

    /// A person decides that it does not.
    pub(super) async fn cancel(&mut self, name: &PipelineName, reason: &str, by: &str) -> Result<Pushed> {
        let shadows = self.in_shadow(name).await?;
        let reason =
            if reason.is_empty() { format!("cancelled by {by}") } else { format!("{reason}, cancelled by {by}") };
        for shadow in &shadows {
            self.end(shadow, DeploymentState::Cancelled, &reason).await?;
        }
        Ok(Pushed { cancelled: shadows.iter().map(InShadow::from).collect(), ..Pushed::default() })
    }

    /// What the comparison came to.
    pub(super) async fn finish(&mut self, config: &Config, handles: &Handles, outcome: Outcome) -> Result<()> {
        match outcome {
            Outcome::Passed(together) => {
                let Pushed { active: _, refused, shadow: _, cancelled: _, applied: _ } =
                    self.promote(config, handles, &together).await?;
                for Refused { pipeline, error, hint } in refused {
                    tracing::error!(
                        pipeline = pipeline.map(|pipeline| pipeline.to_string()),
                        error,
                        hint,
                        "revision in shadow does not fit any more"
                    );
                }
            }
            Outcome::Refused { pipeline, revision, error } => {
                let Ok(shadows) = self.in_shadow(&pipeline).await else { return Ok(()) };
                if shadows.iter().any(|shadow| shadow.pipeline == pipeline && shadow.revision.id == revision) {
                    self.refuse(&shadows, &pipeline, &error).await?;
                }
            }
            Outcome::Alone { pipeline, revision } => {
                let shadows = self.shelf.ledger.shadows().await?;
                let is_it = |shadow: &&Shadow| shadow.pipeline == pipeline && shadow.revision.id == revision;
                if let Some(shadow) = shadows.iter().find(is_it) {
                    // They go into shadow one after the other: who looked in between saw too few.
                    if self.is_complete(shadow, &shadows).await? {
                        return Ok(());
                    }
                    let reason = "another pipeline does not take its module any more: deploy it again";
                    self.end(shadow, DeploymentState::Cancelled, reason).await?;
                }
            }
        }
        Ok(())
    }

    /// Whether all that go on with it are in shadow still, or active.
    async fn is_complete(&self, shadow: &Shadow, shadows: &[Shadow]) -> Result<bool> {
        for (name, id) in &Plan::of(shadow)?.together {
            let in_shadow = shadows.iter().any(|other| other.pipeline == *name && other.revision.id == *id);
            if !in_shadow && self.shelf.ledger.active(name).await?.is_none_or(|active| active.revision.id != *id) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn refuse(&self, shadows: &[Shadow], by: &PipelineName, error: &Error) -> Result<()> {
        for shadow in shadows {
            if shadow.pipeline == *by {
                self.end(shadow, DeploymentState::Refused, &error.chain()).await?;
            } else {
                let reason = format!("pipeline {by} refuses its module");
                self.end(shadow, DeploymentState::Cancelled, &reason).await?;
            }
        }
        Ok(())
    }

    /// Out of shadow, all or none. First the modules, then each pipeline: a host that dies in between finds the rest passed, and goes on.
    async fn promote(
        &mut self,
        config: &Config,
        handles: &Handles,
        together: &BTreeMap<PipelineName, RevisionId>,
    ) -> Result<Pushed> {
        let shadows = self.shelf.ledger.shadows().await?;
        let with = |shadow: &Shadow| together.get(&shadow.pipeline) == Some(&shadow.revision.id);
        let shadows: Vec<_> = shadows.into_iter().filter(with).collect();
        let mut checked = Vec::new();
        for shadow in &shadows {
            let Shadow { pipeline: name, revision: RevisionRecord { number, revision, .. }, .. } = shadow;
            let (Some(handle), Some(pipeline)) = (handles.get(name), config.pipelines.get(name)) else {
                let error = Error::operator(format!("pipeline {name} does not run"));
                return Ok(Pushed { refused: vec![Refused::new(Some(name), &error)], ..Pushed::default() });
            };
            let materials = self.shelf.materials(revision.clone(), *number, &pipeline.limits).await?;
            match handle.check(Arc::clone(&materials)).await {
                Ok(bound) => checked.push((shadow, handle, materials, Foreseen::of(bound.as_deref()))),
                Err(error) if error.class() == ErrorClass::Retry => return Err(error),
                Err(error) => {
                    self.refuse(&shadows, name, &error).await?;
                    return Ok(Pushed { refused: vec![Refused::new(Some(name), &error)], ..Pushed::default() });
                }
            }
        }
        let now = self.shelf.clock.now();
        for (shadow, ..) in &checked {
            for Brought { name, digest, origin: _ } in Plan::of(shadow)?.modules {
                self.shelf.ledger.activate_module(&name, digest, now).await?;
            }
        }
        failpoint("in_promotion");
        let mut active = Vec::new();
        for (shadow, handle, materials, foreseen) in checked {
            let Shadow { pipeline: name, revision, reason, .. } = shadow;
            self.deploy(config, name, handle, (materials, revision.id, false), reason).await?;
            let (revision, revision_id) = (revision.number, revision.id);
            let Foreseen { missing, gains } = foreseen;
            active.push(Active { pipeline: name.clone(), revision, revision_id, missing, gains });
        }
        Ok(Pushed { active, ..Pushed::default() })
    }
}

impl From<&Shadow> for InShadow {
    fn from(shadow: &Shadow) -> Self {
        let Shadow { pipeline, revision, .. } = shadow;
        Self { pipeline: pipeline.clone(), revision: revision.number, revision_id: revision.id, gains: Gains::new() }
    }
}

/// Compares what is in shadow with what is active, for ever.
pub(super) async fn compare(
    host: Arc<Host>,
    shelf: Shelf,
    config: watch::Receiver<Config>,
    submit: mpsc::UnboundedSender<Submission>,
) {
    loop {
        if let Err(error) = caught(compare_all(&host, &shelf, &config, &submit)).await {
            tracing::warn!(error = error.chain(), "what is in shadow could not be compared; it is tried again");
        }
        tokio::time::sleep(TICK).await;
    }
}

async fn compare_all(
    host: &Host,
    shelf: &Shelf,
    config: &watch::Receiver<Config>,
    submit: &mpsc::UnboundedSender<Submission>,
) -> Result<()> {
    if !host.fleet.leads() {
        return Ok(());
    }
    let mut stages = BTreeMap::new();
    let shadows = shelf.ledger.shadows().await?;
    let config = config.borrow().clone();
    // One that cannot be read keeps no other from being compared.
    let mut damaged = Ok(());
    for shadow in &shadows {
        let read = Plan::of(shadow).and_then(|plan| Ok((plan, Comparison::of(shadow)?)));
        let (plan, mut comparison) = match read {
            Ok(read) => read,
            Err(error) => {
                damaged = Err(error);
                continue;
            }
        };
        let (Some(handle), Some(pipeline)) =
            (host.parts.handles().remove(&shadow.pipeline), config.pipelines.get(&shadow.pipeline))
        else {
            continue;
        };
        if !handle.is_running() {
            continue;
        }
        if comparison.stage == Stage::Comparing
            && let Some(outcome) = compare_next(shelf, pipeline, &handle, shadow, (&plan, &mut comparison)).await?
        {
            drop(submit.send(Submission::Shadow(outcome)));
            continue;
        }
        stages.insert(shadow.pipeline.clone(), comparison.stage);
    }
    for shadow in &shadows {
        let Ok(Plan { together, .. }) = Plan::of(shadow) else { continue };
        let mut passed = true;
        for (name, id) in &together {
            let is_it = |shadow: &Shadow| shadow.pipeline == *name && shadow.revision.id == *id;
            if shadows.iter().any(is_it) {
                passed &= stages.get(name) == Some(&Stage::Passed);
            } else if shelf.ledger.active(name).await?.is_none_or(|active| active.revision.id != *id) {
                let (pipeline, revision) = (shadow.pipeline.clone(), shadow.revision.id);
                drop(submit.send(Submission::Shadow(Outcome::Alone { pipeline, revision })));
                passed = false;
            }
        }
        // Once for all of them.
        let first = together.keys().find(|name| stages.contains_key(*name));
        if passed && first == Some(&shadow.pipeline) {
            drop(submit.send(Submission::Shadow(Outcome::Passed(together))));
        }
    }
    damaged
}

/// Compares the next segment, where there is one, and writes down what was found; what ends the shadow is answered.
async fn compare_next(
    shelf: &Shelf,
    pipeline: &PipelineConfig,
    handle: &PipelineHandle,
    shadow: &Shadow,
    (plan, comparison): (&Plan, &mut Comparison),
) -> Result<Option<Outcome>> {
    let name = &shadow.pipeline;
    let refined = shelf.ledger.refined_by(name, plan.active, plan.segments).await?;
    let is_next = |segment: &&LandedSegment| !comparison.segments.iter().any(|done| *done == segment.id.to_string());
    let Some(segment) = refined.iter().find(is_next) else { return Ok(None) };
    let Some(active) = shelf.ledger.revision(name, plan.active).await? else { return Ok(None) };
    let of = async |record: &RevisionRecord| {
        let quiet = shelf.quiet(record.revision.clone(), record.number, &pipeline.limits).await?;
        let Some(bound) = handle.check(quiet).await? else { return Ok(None) };
        let extent = Extent { records: RECORDS, until: None, keep: true };
        let Rehearsed { batches, records, failed: _ } =
            handle.rehearse(Arc::clone(&bound), segment.clone(), extent).await?;
        let rows = shelf.workers.aside(move || made(&bound, &batches)).await?;
        Ok::<_, Error>(Some((rows, records)))
    };
    let was = match of(&active).await {
        Ok(Some((was, _))) => was,
        Ok(None) => return Ok(None),
        Err(error) if matches!(error.class(), ErrorClass::Retry | ErrorClass::Fenced) => return Err(error),
        // It refined the segment once, so it says nothing of the candidate.
        Err(error) => {
            comparison.stage = Stage::Waiting;
            comparison.why = Some(format!(
                "waits for a person: it cannot be compared, since the active revision does not refine segment {} again: {}",
                segment.id,
                error.chain()
            ));
            return report(shelf, shadow, comparison).await;
        }
    };
    let (is, records) = match of(&shadow.revision).await {
        Ok(Some(is)) => is,
        Ok(None) => return Ok(None),
        Err(error) if matches!(error.class(), ErrorClass::Retry | ErrorClass::Fenced) => return Err(error),
        Err(error) => {
            let error = Error::operator(format!("it fails segment {}, which the active revision refined", segment.id))
                .with_source(error);
            return Ok(Some(Outcome::Refused { pipeline: name.clone(), revision: shadow.revision.id, error }));
        }
    };
    let tables = shelf.workers.aside(move || Ok(changes(&was, &is))).await?;
    comparison.add(plan, &segment.id.to_string(), records, tables);
    failpoint("before_report");
    report(shelf, shadow, comparison).await
}

/// Writes down what was found.
async fn report(shelf: &Shelf, shadow: &Shadow, comparison: &Comparison) -> Result<Option<Outcome>> {
    shelf.ledger.report_shadow(&shadow.pipeline, shadow.revision.id, &comparison.to_value()?).await?;
    let plan = Plan::of(shadow)?;
    let (pipeline, revision) = (&shadow.pipeline, shadow.revision.number);
    match comparison.stage {
        Stage::Comparing | Stage::Passed => {
            tracing::info!(%pipeline, revision, "revision in shadow: {}", comparison.line(&plan));
        }
        Stage::Waiting => tracing::warn!(
            %pipeline, revision, hint = format!("`forebay deployments approve {pipeline}`, or `cancel`; `show` tells what differs"),
            "revision in shadow {}", comparison.line(&plan)
        ),
    }
    Ok(None)
}
