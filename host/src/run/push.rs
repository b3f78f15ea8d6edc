//! What a person pushes into a running host: a module to deploy, a revision to put back. The verbs ask through the ledger; the host
//! does it between two reloads, and answers with what each pipeline made of it.
//!
//! A push is checked as a file of the watched folder is, and what does not pass changes nothing. A rollback puts a recorded
//! revision in the place of the active one. The modules that it names are made the active ones of their names, so that the next
//! change of the config does not bring the bad one back; and where the config means another revision all the same, that one is
//! cancelled in the same transaction: it comes back when a person asks for it, or the config means something else.

use std::sync::Arc;

use forebay_model::ports::RevisionRecord;
use forebay_model::{Error, PipelineName, Result, RevisionId};
use forebay_pipeline::refine::bind::{BoundPipeline, BoundStep, reads};
use tokio::sync::oneshot;

use super::back::Back;
use super::deploy::{Deployer, Handles, Reloaded};
use super::modules::{NewModule, Scan, meant_for, uses};
use super::shadow::{Asked, Outcome};
use crate::config::{Config, PipelineConfig};
use crate::failpoint::failpoint;
use crate::requests::{Active, Gains, Push, PushRequest, Pushed, Refused, Seen};

/// What binding a revision tells of the records and tables to come; nothing before the first schema.
#[derive(Debug, Default)]
pub(super) struct Foreseen {
    /// What will reject every record.
    pub(super) missing: Vec<String>,
    /// The columns that tables will gain.
    pub(super) gains: Gains,
}

impl Foreseen {
    pub(super) fn of(bound: Option<&BoundPipeline>) -> Self {
        let mut gains = Gains::new();
        for target in bound.map(|bound| bound.targets.as_slice()).unwrap_or_default() {
            if !target.fit.adds.is_empty() {
                let columns = gains.entry(target.fit.table.clone()).or_default();
                columns.extend(target.fit.adds.iter().cloned());
                columns.sort_unstable();
                columns.dedup();
            }
        }
        Self { missing: missing(bound), gains }
    }

    /// For the log, before it comes.
    pub(super) fn tell(&self, pipeline: &PipelineName, revision: u32) {
        let Self { missing, gains } = self;
        for what in missing {
            tracing::warn!(%pipeline, revision, "every record will be rejected: {what}, which no record had yet");
        }
        for (table, columns) in gains {
            tracing::info!(%pipeline, revision, %table, columns = columns.join(", "), "table will gain columns");
        }
    }
}

/// The columns that a revision's steps require and its schema lacks; none before the first schema.
fn missing(bound: Option<&BoundPipeline>) -> Vec<String> {
    let steps = bound.map(|bound| bound.steps.as_slice()).unwrap_or_default();
    let of = |step: &BoundStep| {
        let columns = step.missing().map(|column| format!("step {} requires column {column}", step.name));
        columns.collect::<Vec<_>>()
    };
    steps.iter().flat_map(of).collect()
}

/// What is on its way to the task that reloads.
pub(super) enum Submission {
    /// A push, with where its answer is waited for.
    Push { request: PushRequest, answer: oneshot::Sender<Result<Pushed>> },
    /// What came of a shadow.
    Shadow(Outcome),
    /// A revision that fails is to make place for the former one.
    Back(Back),
}

impl Deployer {
    /// Does what is asked for, or nothing.
    pub(super) async fn push(&mut self, config: &Config, handles: &Handles, request: PushRequest) -> Result<Pushed> {
        let refused = self.overtaken(config, &request).await?;
        if !refused.is_empty() {
            return Ok(Pushed { refused, ..Pushed::default() });
        }
        let PushRequest { at: _, by, seen: _, push } = request;
        match push {
            Push::Module { name, digest, origin, shadow, pipelines } => {
                if let Err(error) = meant_for(config, (&name, digest), &pipelines) {
                    return Ok(Pushed { refused: vec![Refused::new(None, &error)], ..Pushed::default() });
                }
                let scan = Scan { new: vec![NewModule { name, digest, origin, path: None }], refused: Vec::new() };
                let asked = shadow.map_or(Asked::AsConfigured, Asked::So);
                let taken = self.take(config, handles, scan, ("deploy", asked)).await?;
                // What else the config means, and is refused, has nothing to do with what was pushed.
                let Reloaded { refused: _, modules_refused: _, again: _, active, why, shadow } = taken;
                Ok(Pushed { active, refused: why, shadow, ..Pushed::default() })
            }
            Push::Apply { .. } => Err(Error::bug("a config was taken for a module")),
            Push::RollBack { pipeline, to } => {
                self.roll_back(config, handles, (&pipeline, to), &format!(" by {by}")).await
            }
            Push::Back { pipeline, from, to, why } => {
                self.go_back(config, handles, Back { pipeline, from, to, why }).await?;
                Ok(Pushed::default())
            }
            Push::Approve { pipeline } => self.approve(config, handles, &pipeline, &by).await,
            Push::Cancel { pipeline, reason } => self.cancel(&pipeline, &reason, &by).await,
        }
    }

    /// Of two people who change a pipeline at the same time one is first; the other has not seen what came of it, and is told.
    pub(super) async fn overtaken(&self, config: &Config, request: &PushRequest) -> Result<Vec<Refused>> {
        let PushRequest { at: _, by: _, seen, push } = request;
        let ledger = &self.shelf.ledger;
        let concerned = |pipeline: &PipelineName| match push {
            Push::Module { name, .. } => uses(config, pipeline, name),
            Push::Apply { .. } => true,
            Push::RollBack { pipeline: of, .. }
            | Push::Back { pipeline: of, .. }
            | Push::Approve { pipeline: of }
            | Push::Cancel { pipeline: of, .. } => of == pipeline,
        };
        // Who wants what is there already loses nothing.
        let is_there = match push {
            Push::Module { name, digest, .. } => ledger.active_module(name).await? == Some(*digest),
            Push::RollBack { .. }
            | Push::Back { .. }
            | Push::Apply { .. }
            | Push::Approve { .. }
            | Push::Cancel { .. } => false,
        };
        let concerned: Vec<_> = seen.keys().filter(|pipeline| concerned(pipeline)).collect();
        let now = Seen::all(ledger.as_ref(), concerned).await?;
        let mut refused = Vec::new();
        for (pipeline, now) in now {
            let went_back = matches!(push, Push::RollBack { to, .. } if now.active == Some(*to));
            let Some(seen) = seen.get(&pipeline).filter(|seen| **seen != now && !is_there && !went_back) else {
                continue;
            };
            let happened = self.happened(&pipeline, *seen, now).await?;
            let error = Error::operator(format!("somebody else was first: {happened}")).with_hint(format!(
                "look at it with `forebay deployments show {pipeline}`, and ask again where you still want it"
            ));
            refused.push(Refused::new(Some(&pipeline), &error));
        }
        Ok(refused)
    }

    /// What came meanwhile.
    async fn happened(&self, pipeline: &PipelineName, seen: Seen, now: Seen) -> Result<String> {
        let ledger = &self.shelf.ledger;
        if let Some(active) = ledger.active(pipeline).await?.filter(|_| seen.active != now.active) {
            return Ok(format!("revision {} became active meanwhile ({})", active.revision.number, active.reason));
        }
        let shadows = ledger.shadows().await?;
        Ok(match shadows.iter().find(|shadow| shadow.pipeline == *pipeline) {
            Some(shadow) => {
                format!("revision {} went into shadow meanwhile ({})", shadow.revision.number, shadow.reason)
            }
            None => "what was in shadow is not any more".to_owned(),
        })
    }

    async fn roll_back(
        &mut self,
        config: &Config,
        handles: &Handles,
        (name, to): (&PipelineName, RevisionId),
        by: &str,
    ) -> Result<Pushed> {
        let (Some(handle), Some(pipeline)) = (handles.get(name), config.pipelines.get(name)) else {
            return Err(
                Error::operator(format!("pipeline {name} does not run")).with_hint("`forebay status` tells what runs")
            );
        };
        let ledger = Arc::clone(&self.shelf.ledger);
        let record = ledger.revision(name, to).await?;
        let record =
            record.ok_or_else(|| Error::operator(format!("pipeline {name} has no revision {}", to.short())))?;
        let RevisionRecord { number, id, ref revision, created_at: _ } = record;
        reads(&record, &pipeline.from)?;
        let modules = self.former_modules(pipeline, &record).await?;
        let refused = self.refusals(config, handles, name, &modules).await;
        if !refused.is_empty() {
            return Ok(Pushed { refused, ..Pushed::default() });
        }
        let materials = self.shelf.materials(revision.clone(), number, &pipeline.limits).await?;
        let bound = handle.check(Arc::clone(&materials)).await?;
        // What was active has passed; what never was is as new as if it were deployed now.
        if !self.shelf.was_active(name, id).await? {
            self.shelf.prove(&materials, &pipeline.limits).await?;
            self.shelf.dry_run(name, pipeline, handle, &materials).await?;
        }
        self.shelf.keep_revision(&record, &materials).await?;
        let now = self.shelf.clock.now();
        let instead = modules.iter().map(|module| (module.name.clone(), module.digest)).collect();
        // A config that means no revision at all, for want of an asset say, brings none back.
        let meant = match self.shelf.revision(config, name, pipeline, &instead).await {
            Ok(meant) => Some(ledger.record_revision(&meant, now).await?.id).filter(|meant| *meant != id),
            Err(_) => None,
        };
        // First the modules: a process that dies in between starts with what the config means with them.
        for module in &modules {
            self.shelf.activate(module).await?;
        }
        failpoint("in_rollback");
        let reason = format!("rollback to revision {number}{by}");
        ledger.roll_back(name, id, meant, &reason, now).await?;
        failpoint("after_rollback");
        tracing::info!(pipeline = %name, revision = number, revision_id = id.short(), "rolled back: revision is active");
        self.limits.insert(name.clone(), pipeline.limits.clone());
        self.noted.remove(name);
        handle.deploy(materials);
        let others = handles.iter().filter(|(other, _)| *other != name);
        let others = others.map(|(other, handle)| (other.clone(), handle.clone())).collect();
        let Foreseen { missing, gains } = Foreseen::of(bound.as_deref());
        let mut active = vec![Active { pipeline: name.clone(), revision: number, revision_id: id, missing, gains }];
        // It is done: what the others lack is theirs, and tried again with the next reload.
        match self.take(config, &others, Scan::default(), (&reason, Asked::Never)).await {
            Ok(taken) => active.extend(taken.active),
            Err(error) => {
                tracing::error!(error = error.chain(), hint = error.hint(), "other pipelines take the modules later")
            }
        }
        Ok(Pushed { active, ..Pushed::default() })
    }

    /// What a revision that fails leads to, unless another one is active meanwhile.
    pub(super) async fn go_back(&mut self, config: &Config, handles: &Handles, back: Back) -> Result<()> {
        let Back { pipeline, from, to, why } = back;
        if self.shelf.ledger.active(&pipeline).await?.is_none_or(|active| active.revision.id != from) {
            return Ok(());
        }
        tracing::error!(%pipeline, revision_id = from.short(), why, "revision fails segments: the former one comes back by itself");
        let Pushed { active: _, refused, shadow: _, cancelled: _, applied: _ } =
            self.roll_back(config, handles, (&pipeline, to), &format!(", by itself: {why}")).await?;
        for Refused { pipeline, error, hint } in refused {
            let pipeline = pipeline.map(|pipeline| pipeline.to_string());
            tracing::error!(pipeline, error, hint, "the former revision cannot come back");
        }
        Ok(())
    }

    /// The modules that a revision names, where the names mean others now and the config pins none.
    async fn former_modules(&self, pipeline: &PipelineConfig, record: &RevisionRecord) -> Result<Vec<NewModule>> {
        let RevisionRecord { number, id: _, revision, created_at: _ } = record;
        let mut modules = Vec::new();
        for step in &revision.steps {
            let pinned = pipeline.steps.iter().any(|of| of.module == step.module && of.pin.is_some());
            let active = self.shelf.ledger.active_module(&step.module).await?;
            if !pinned && active.is_some_and(|digest| digest != step.digest) {
                let origin = format!("rollback of {} to revision {number}", revision.pipeline);
                modules.push(NewModule { name: step.module.clone(), digest: step.digest, origin, path: None });
            }
        }
        Ok(modules)
    }
}
