//! Deployments: a revision is submitted, checked, and then takes the next segments, or is refused and changes nothing.
//!
//! | from | when | to |
//! |---|---|---|
//! | submitted | its modules load, bind to the present schema, its rows fit the tables, the cases that they carry pass, and it fails on no more of the last segments than the active one (`dry_run`) | validated |
//! | submitted | any of that fails | refused, with the reason; the former one goes on |
//! | validated | nobody asks for a comparison, or there is none to compare with | active; the former one is retired |
//! | validated | segments are to be compared | shadow (`shadow`): it runs beside the active one, and loads nothing |
//! | shadow | no more rows differ than may, or a person approves | active; the former one is retired |
//! | shadow | more rows differ | it stays, and waits for a person |
//! | shadow | it fails a segment that the active one refined, or does not fit any more | refused, with the reason |
//! | shadow | a person cancels, or another revision comes | cancelled, with the reason |
//! | active | it fails segments that the former one takes (`back`) | the former one is put back, as by a person |
//! | active, or meant by the config | a person puts another one back (`push`) | retired; what the config means is cancelled |
//! | cancelled | a person puts it back | active |
//!
//! A module of the folder is taken by all pipelines that use its name, or by none: all are asked before any changes. One that was
//! refused is tried again whenever something changes, for what it lacked may have come.
//!
//! Submitted and validated are moments, and no state of the ledger: who dies in them starts as if nobody had asked. What is active, and
//! what is in shadow, is in the ledger, and what it names is kept: a restart takes up where the process was, whatever the folder and
//! the config say meanwhile that does not pass its checks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use forebay_model::ids::ModuleName;
use forebay_model::ports::{DeploymentState, RevisionRecord};
use forebay_model::{Digest, Error, ErrorClass, PipelineName, Result, RevisionId};
use forebay_pipeline::refine::bind::Materials;
use forebay_pipeline::refine::driver::PipelineHandle;

use super::modules::{NewModule, Scan, Shelf, uses};
use super::push::Foreseen;
use super::shadow::Asked;
use crate::config::Config;
use crate::failpoint::failpoint;
use crate::requests::{Active, Gains, InShadow, Refused};

/// Pipelines that run.
pub(super) type Handles = BTreeMap<PipelineName, PipelineHandle>;

/// Deploys revisions to the pipelines that run.
pub(super) struct Deployer {
    pub(super) shelf: Shelf,
    /// The limits that each pipeline's revision was deployed with: they are no part of it, but a change takes effect like one.
    pub(super) limits: BTreeMap<PipelineName, serde_json::Value>,
    /// What the ledger was told last of each pipeline's refusals: it is told once, people each time.
    pub(super) noted: BTreeMap<PipelineName, (RevisionId, String)>,
    /// Active revisions that cannot be loaded here, with why and since when.
    pub(super) unloadable: BTreeMap<PipelineName, (RevisionId, String, Instant)>,
}

/// What became of a reload.
#[derive(Debug, Default)]
pub(super) struct Reloaded {
    /// Pipelines whose revision was refused.
    pub(super) refused: BTreeMap<PipelineName, Error>,
    /// Whether a module of the folder was refused.
    pub(super) modules_refused: bool,
    /// Something failed that may go away by itself.
    pub(super) again: bool,
    /// Revisions that were made active.
    pub(super) active: Vec<Active>,
    /// Why a module was not taken, by each pipeline that refused it.
    pub(super) why: Vec<Refused>,
    /// Revisions that went into shadow, or are there already.
    pub(super) shadow: Vec<InShadow>,
}

/// A revision that passed its checks.
pub(super) enum Prepared {
    /// It is active, and runs.
    Unchanged,
    /// It is a replay's, and is active as long as the replay is there.
    Side,
    /// A person rolled it back: the active one goes on.
    Cancelled { id: RevisionId, number: u32 },
    /// It is in shadow already.
    InShadow(InShadow),
    Checked {
        materials: Arc<Materials>,
        id: RevisionId,
        /// It was active before: after a start, or with other limits.
        active: bool,
        foreseen: Foreseen,
    },
}

/// A revision that did not pass; its id and number where it could be made at all.
struct Refusal {
    error: Error,
    revision: Option<(RevisionId, u32)>,
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self { error, revision: None }
    }
}

/// Which modules of the folder are taken.
#[derive(Default)]
struct Decision<'a> {
    /// Taken.
    taken: Vec<&'a NewModule>,
    /// The same, as a revision is made of them.
    instead: BTreeMap<ModuleName, Digest>,
    /// Pipelines that use them, checked with them.
    prepared: BTreeMap<PipelineName, Prepared>,
    /// Not taken, and the pipelines that refused it.
    refused: Vec<(&'a NewModule, Vec<(PipelineName, Refusal)>)>,
    /// A newer file is the module of that name.
    outdated: Vec<&'a NewModule>,
}

impl Deployer {
    /// Looks at the folder and at the config: what changed is submitted. Where that is refused and the pipeline has just begun, the
    /// revision that was active before goes on.
    pub(super) async fn reload(&mut self, config: &Config, handles: &Handles, reason: &str) -> Result<Reloaded> {
        let scan = self.shelf.scan(config).await?;
        self.take(config, handles, scan, (reason, Asked::AsConfigured)).await
    }

    /// Submits modules that are new, and what the config means.
    pub(super) async fn take(
        &mut self,
        config: &Config,
        handles: &Handles,
        scan: Scan,
        (reason, asked): (&str, Asked),
    ) -> Result<Reloaded> {
        let Scan { new, refused } = scan;
        let mut reloaded = Reloaded { modules_refused: !refused.is_empty(), ..Reloaded::default() };
        for (file, error) in refused {
            reloaded.again |= error.class() == ErrorClass::Retry;
            tracing::error!(
                file = %file.display(), error = error.chain(), hint = error.hint(),
                "module refused: the file is none; what is active goes on"
            );
        }
        let Decision { taken, instead, mut prepared, refused, outdated } = self.decide(config, handles, &new).await;
        let mut refusals = BTreeMap::new();
        for (module, by) in refused {
            for (pipeline, refusal) in by {
                reloaded.again |= refusal.error.class() == ErrorClass::Retry;
                reloaded.modules_refused = true;
                reloaded.why.push(Refused::new(Some(&pipeline), &refusal.error));
                self.tell_module_refused(module, &pipeline, &refusal).await?;
                refusals.insert(pipeline, refusal.error);
            }
        }
        let group = self.group(config, &taken, &prepared, asked).await?;
        // First the modules: a process that dies in between starts with what the config means with them, for all who use them.
        if group.is_none() && !taken.is_empty() {
            for module in &taken {
                self.shelf.activate(module).await?;
                tracing::info!(module = %module.name, digest = module.digest.short(), origin = module.origin, "module is active");
            }
            failpoint("in_deploy");
        }
        let mut sides = Handles::new();
        for (name, handle) in handles {
            let checked = match prepared.remove(name) {
                Some(prepared) => Ok(prepared),
                None => self.prepare(config, name, handle, &instead).await,
            };
            let uses = |module: &&&NewModule| uses(config, name, &module.name);
            let reason = taken.iter().find(uses).map_or(reason, |module| &module.origin);
            match checked {
                Ok(Prepared::Unchanged) => self.unshadow(name).await?,
                Ok(Prepared::Side) => drop(sides.insert(name.clone(), handle.clone())),
                Ok(Prepared::InShadow(shadow)) => {
                    reloaded.shadow.push(shadow);
                    self.take_up_former(config, name, handle).await?;
                }
                Ok(Prepared::Cancelled { id, number }) => self.keep_back(config, name, handle, (id, number)).await?,
                Ok(Prepared::Checked { materials, id, active, foreseen }) => {
                    self.shelf.record_assets(config, (name, &materials), reason).await?;
                    let revision = materials.number;
                    foreseen.tell(name, revision);
                    let Foreseen { missing, gains } = foreseen;
                    if active {
                        self.unshadow(name).await?;
                    } else if let Some(plan) = self.plan(config, (name, id), &group, asked).await? {
                        let shadow = self.enter(name, (id, revision), &plan, reason).await?;
                        reloaded.shadow.push(InShadow { gains, ..shadow });
                        self.take_up_former(config, name, handle).await?;
                        continue;
                    }
                    self.deploy(config, name, handle, (materials, id, active), reason).await?;
                    reloaded.active.push(Active { pipeline: name.clone(), revision, revision_id: id, missing, gains });
                }
                Err(refusal) => {
                    reloaded.again |= refusal.error.class() == ErrorClass::Retry;
                    let error = match refusals.remove(name) {
                        // There is no module before the one that was refused: that has been told, with the better reason.
                        Some(error) if refusal.revision.is_none() => error,
                        Some(_) | None => {
                            self.tell_revision_refused(name, &refusal, reason).await?;
                            refusal.error
                        }
                    };
                    reloaded.refused.insert(name.clone(), error);
                    self.take_up_former(config, name, handle).await?;
                }
            }
        }
        // What cannot be loaded is told there, and does not come between the others.
        if let Err(error) = self.follow(config, &sides, false).await {
            tracing::warn!(
                error = error.chain(),
                "a replay into tables beside could not be taken up; it is tried again"
            );
            reloaded.again = true;
        }
        // Last, so that a process that dies before finds its file new again.
        for module in taken {
            self.shelf.note_taken(module).await?;
        }
        for module in outdated {
            self.shelf.note_taken(module).await?;
            tracing::warn!(
                module = %module.name, digest = module.digest.short(), origin = module.origin,
                "module not taken: a newer file is the module of that name"
            );
        }
        Ok(reloaded)
    }

    /// All new modules together; where that is refused one by one, the newest first, so that one that is wrong keeps no other back.
    async fn decide<'a>(&self, config: &Config, handles: &Handles, new: &'a [NewModule]) -> Decision<'a> {
        let mut newest: Vec<&NewModule> = Vec::new();
        for module in new {
            if !newest.iter().any(|newer| newer.name == module.name) {
                newest.push(module);
            }
        }
        let together: BTreeMap<_, _> = newest.iter().map(|module| (module.name.clone(), module.digest)).collect();
        let (prepared, refused) = self.ask(config, handles, &newest, &together).await;
        if refused.is_empty() {
            let outdated = new.iter().filter(|module| together.get(&module.name) != Some(&module.digest)).collect();
            return Decision { taken: newest, instead: together, prepared, refused: Vec::new(), outdated };
        }
        let mut decision = Decision::default();
        if let ([only], true) = (newest.as_slice(), new.len() == 1) {
            decision.refused.push((only, refused));
            return decision;
        }
        for module in new {
            if decision.instead.contains_key(&module.name) {
                decision.outdated.push(module);
                continue;
            }
            let mut instead = decision.instead.clone();
            instead.insert(module.name.clone(), module.digest);
            let (prepared, refused) = self.ask(config, handles, &[module], &instead).await;
            if refused.is_empty() {
                decision.taken.push(module);
                decision.instead = instead;
                decision.prepared.extend(prepared);
            } else {
                decision.refused.push((module, refused));
            }
        }
        decision
    }

    /// Checks every pipeline that uses one of the modules.
    async fn ask(
        &self,
        config: &Config,
        handles: &Handles,
        modules: &[&NewModule],
        instead: &BTreeMap<ModuleName, Digest>,
    ) -> (BTreeMap<PipelineName, Prepared>, Vec<(PipelineName, Refusal)>) {
        let (mut prepared, mut refused) = (BTreeMap::new(), Vec::new());
        for (name, handle) in handles {
            if !modules.iter().any(|module| uses(config, name, &module.name)) {
                continue;
            }
            match self.prepare(config, name, handle, instead).await {
                Ok(checked) => drop(prepared.insert(name.clone(), checked)),
                Err(refusal) => refused.push((name.clone(), refusal)),
            }
        }
        (prepared, refused)
    }

    /// Checks what a pipeline's config means now, with modules that are not active yet; nothing changes.
    async fn prepare(
        &self,
        config: &Config,
        name: &PipelineName,
        handle: &PipelineHandle,
        instead: &BTreeMap<ModuleName, Digest>,
    ) -> Result<Prepared, Refusal> {
        let Some(pipeline) = config.pipelines.get(name) else { return Ok(Prepared::Unchanged) };
        if name.as_side().is_some() {
            return Ok(Prepared::Side);
        }
        let ledger = &self.shelf.ledger;
        let revision = self.shelf.revision(config, name, pipeline, instead).await?;
        let id = revision.id();
        let active = ledger.active(name).await?.is_some_and(|active| active.revision.id == id);
        if active && handle.is_deployed(id) && self.limits.get(name) == Some(&pipeline.limits) {
            return Ok(Prepared::Unchanged);
        }
        let record = ledger.record_revision(&revision, self.shelf.clock.now()).await?;
        if ledger.shadows().await?.iter().any(|shadow| shadow.pipeline == *name && shadow.revision.id == id) {
            return Ok(Prepared::InShadow(InShadow {
                pipeline: name.clone(),
                revision: record.number,
                revision_id: id,
                gains: Gains::new(),
            }));
        }
        // Who brings one of its modules wants it.
        let brought = instead.keys().any(|module| uses(config, name, module));
        if !active && !brought && ledger.is_cancelled(name, id).await? {
            return Ok(Prepared::Cancelled { id, number: record.number });
        }
        let checked = async {
            let materials = self.shelf.materials(revision, record.number, &pipeline.limits).await?;
            let bound = handle.check(Arc::clone(&materials)).await?;
            // After a start it is what has passed already, however slow this machine is today.
            if !active || handle.is_deployed(id) {
                self.shelf.prove(&materials, &pipeline.limits).await?;
            }
            if !active {
                self.shelf.dry_run(name, pipeline, handle, &materials).await?;
            }
            Ok::<_, Error>((materials, Foreseen::of(bound.as_deref())))
        };
        match checked.await {
            Ok((materials, foreseen)) => {
                self.shelf.keep_revision(&record, &materials).await?;
                Ok(Prepared::Checked { materials, id, active, foreseen })
            }
            Err(error) => Err(Refusal { error, revision: Some((id, record.number)) }),
        }
    }

    pub(super) async fn deploy(
        &mut self,
        config: &Config,
        name: &PipelineName,
        handle: &PipelineHandle,
        (materials, id, active): (Arc<Materials>, RevisionId, bool),
        reason: &str,
    ) -> Result<()> {
        let revision = materials.number;
        if !handle.is_running() {
            // It is submitted again, and told as active, when the pipeline is started again.
            tracing::warn!(
                pipeline = %name, revision, revision_id = id.short(), reason,
                "revision waits: the pipeline does not run, and takes it when it is started again"
            );
            return Ok(());
        }
        let limits = config.pipelines.get(name).map(|pipeline| pipeline.limits.clone()).unwrap_or_default();
        if !active {
            self.shelf.ledger.deploy(name, id, DeploymentState::Active, reason, self.shelf.clock.now()).await?;
            failpoint("after_deploy");
            tracing::info!(pipeline = %name, revision, revision_id = id.short(), reason, "revision is active");
        } else if handle.is_deployed(id) {
            tracing::info!(
                pipeline = %name, revision, revision_id = id.short(), %limits,
                "limits changed: they hold for the next segments, and failed ones are tried again"
            );
        }
        self.limits.insert(name.clone(), limits);
        self.noted.remove(name);
        handle.deploy(materials);
        Ok(())
    }

    /// What the config means was rolled back: told once, and the active revision goes on, after a start too.
    async fn keep_back(
        &mut self,
        config: &Config,
        name: &PipelineName,
        handle: &PipelineHandle,
        (id, number): (RevisionId, u32),
    ) -> Result<()> {
        let said = (id, "cancelled".to_owned());
        if self.noted.get(name) != Some(&said) {
            tracing::warn!(
                pipeline = %name, revision = number, revision_id = id.short(),
                "the config means a revision that was rolled back: the active one goes on until the config changes, or \
                 `forebay rollback` puts it back"
            );
            self.noted.insert(name.clone(), said);
        }
        self.take_up_former(config, name, handle).await
    }

    /// Why pipelines would not take what the config means.
    pub(super) async fn refusals_of(&self, config: &Config, handles: &Handles) -> Vec<Refused> {
        let mut refused = Vec::new();
        for (name, handle) in handles {
            if let Err(Refusal { error, revision: _ }) = self.prepare(config, name, handle, &BTreeMap::new()).await {
                refused.push(Refused::new(Some(name), &error));
            }
        }
        refused
    }

    /// Why pipelines other than `but` would not take the modules.
    pub(super) async fn refusals(
        &self,
        config: &Config,
        handles: &Handles,
        but: &PipelineName,
        modules: &[NewModule],
    ) -> Vec<Refused> {
        let instead = modules.iter().map(|module| (module.name.clone(), module.digest)).collect();
        let modules: Vec<_> = modules.iter().collect();
        let (_, refused) = self.ask(config, handles, &modules, &instead).await;
        let others = refused.iter().filter(|(name, _)| name != but);
        others.map(|(name, refusal)| Refused::new(Some(name), &refusal.error)).collect()
    }

    async fn tell_module_refused(
        &mut self,
        module: &NewModule,
        pipeline: &PipelineName,
        refusal: &Refusal,
    ) -> Result<()> {
        let Refusal { error, revision } = refusal;
        self.note(pipeline, refusal, &module.origin).await?;
        tracing::error!(
            module = %module.name, digest = module.digest.short(), origin = module.origin, %pipeline,
            revision = revision.map(|(_, number)| number), revision_id = revision.map(|(id, _)| id.short()),
            error = error.chain(), hint = error.hint(),
            "module refused: no pipeline takes it; what is active goes on"
        );
        Ok(())
    }

    async fn tell_revision_refused(&mut self, pipeline: &PipelineName, refusal: &Refusal, reason: &str) -> Result<()> {
        let Refusal { error, revision } = refusal;
        self.note(pipeline, refusal, reason).await?;
        let goes_on = match self.shelf.ledger.active(pipeline).await? {
            Some(_) => "the active one goes on",
            None => "none is active, and its segments wait",
        };
        tracing::error!(
            %pipeline, revision = revision.map(|(_, number)| number), revision_id = revision.map(|(id, _)| id.short()),
            error = error.chain(), hint = error.hint(),
            "revision refused; {goes_on}"
        );
        Ok(())
    }

    /// Notes a refusal in the ledger, once. One that may pass by itself is none, and what is active is not refused.
    async fn note(&mut self, pipeline: &PipelineName, refusal: &Refusal, reason: &str) -> Result<()> {
        let Refusal { error, revision: Some((id, _)) } = refusal else { return Ok(()) };
        let ledger = &self.shelf.ledger;
        let why = format!("{reason}: {}", error.chain());
        let known = self.noted.get(pipeline).is_some_and(|known| *known == (*id, why.clone()));
        let active = ledger.active(pipeline).await?.is_some_and(|active| active.revision.id == *id);
        if known || active || error.class() == ErrorClass::Retry {
            return Ok(());
        }
        ledger.deploy(pipeline, *id, DeploymentState::Refused, &why, self.shelf.clock.now()).await?;
        self.noted.insert(pipeline.clone(), (*id, why));
        Ok(())
    }

    async fn take_up_former(&mut self, config: &Config, name: &PipelineName, handle: &PipelineHandle) -> Result<()> {
        let Some(pipeline) = config.pipelines.get(name) else { return Ok(()) };
        let Some(active) = self.shelf.ledger.active(name).await? else { return Ok(()) };
        let RevisionRecord { number, id, revision, created_at: _ } = active.revision;
        // It runs already, nothing runs, or it is one of another stream's records.
        if handle.is_deployed(id) || !handle.is_running() || revision.stream != pipeline.from {
            return Ok(());
        }
        match self.shelf.materials(revision, number, &pipeline.limits).await {
            Ok(materials) => {
                tracing::info!(pipeline = %name, revision = number, revision_id = id.short(), "the former revision goes on");
                self.limits.insert(name.clone(), pipeline.limits.clone());
                handle.deploy(materials);
            }
            Err(error) => {
                tracing::error!(
                    pipeline = %name, revision = number, revision_id = id.short(),
                    error = error.chain(), hint = error.hint(), "no revision runs"
                );
            }
        }
        Ok(())
    }
}
