use arrow_schema::SchemaRef;
use forebay_model::Timestamp;
use forebay_model::ids::{Digest, PipelineName, TableName};
use forebay_model::ports::{
    AssetRecord, Deployment, DeploymentState, HeldChange, ModuleRecord, Pause, RevisionRecord, Shadow,
};
use forebay_model::revision::{Revision, RevisionId, canonical};
use forebay_model::schema::{SchemaVersion, StreamSchema};

use super::state::{Deployed, Request, Shadowed, State, number_of};
use crate::check::{self, Evolve};
use crate::error::{LedgerError, Result};

impl State {
    pub(super) fn schema(&self, pipeline: &PipelineName) -> Option<StreamSchema> {
        self.schemas.get(pipeline)?.last().map(|(schema, _)| schema.clone())
    }

    pub(super) fn evolve_schema(
        &mut self,
        pipeline: &PipelineName,
        from: Option<SchemaVersion>,
        grown: &SchemaRef,
        at: Timestamp,
    ) -> Result<Option<StreamSchema>> {
        match check::evolve(self.schema(pipeline), from, grown)? {
            Evolve::Answer(answer) => Ok(answer),
            Evolve::Write(next) => {
                self.schemas.entry(pipeline.clone()).or_default().push((next.clone(), at));
                Ok(Some(next))
            }
        }
    }

    pub(super) fn hold_changes(&mut self, changes: &[HeldChange]) {
        for change in changes {
            let held = self.held.entry((change.table.clone(), change.column.clone())).or_insert_with(|| change.clone());
            held.data_type.clone_from(&change.data_type);
            held.reason.clone_from(&change.reason);
        }
    }

    pub(super) fn approve_change(&mut self, table: &TableName, column: &str) -> bool {
        match self.held.get_mut(&(table.clone(), column.to_owned())) {
            None => false,
            Some(held) => {
                held.approved = true;
                true
            }
        }
    }

    pub(super) fn record_module(&mut self, module: &ModuleRecord) -> Result<()> {
        check::signed("size", module.bytes)?;
        self.modules.entry((module.name.clone(), module.digest)).or_insert_with(|| module.clone());
        Ok(())
    }

    pub(super) fn record_asset(&mut self, asset: &AssetRecord) -> Result<()> {
        check::signed("size", asset.bytes)?;
        self.assets.entry((asset.name.clone(), asset.digest)).or_insert_with(|| asset.clone());
        Ok(())
    }

    pub(super) fn seen_in_folder(&mut self, path: &str, digest: Digest, at: Timestamp) -> bool {
        match self.module_files.get(path) {
            // The same call once more, whose first answer may have been lost: it is still new.
            Some((known, seen_at)) if *known == digest => *seen_at != at,
            _ => {
                self.module_files.insert(path.to_owned(), (digest, at));
                false
            }
        }
    }

    pub(super) fn revision(&self, pipeline: &PipelineName, id: RevisionId) -> Option<&RevisionRecord> {
        self.revisions.get(pipeline)?.iter().find(|record| record.id == id)
    }

    pub(super) fn record_revision(&mut self, revision: &Revision, at: Timestamp) -> RevisionRecord {
        let id = revision.id();
        if let Some(known) = self.revision(&revision.pipeline, id) {
            return known.clone();
        }
        let records = self.revisions.entry(revision.pipeline.clone()).or_default();
        // Of a ledger that was rebuilt some may be missing: those that were never active.
        let number = records.iter().map(|known| known.number).max().unwrap_or(0).saturating_add(1);
        let record = RevisionRecord { number, id, revision: revision.clone(), created_at: at };
        records.push(record.clone());
        record
    }

    pub(super) fn deploy(
        &mut self,
        pipeline: &PipelineName,
        revision: RevisionId,
        state: DeploymentState,
        reason: &str,
        at: Timestamp,
    ) -> Result<()> {
        let Some(number) = self.revision(pipeline, revision).map(|record| record.number) else {
            return Err(check::not_recorded(pipeline, revision));
        };
        if state == DeploymentState::Shadow {
            return Err(check::shadow_without_plan(pipeline));
        }
        let active = self
            .deployments
            .iter_mut()
            .find(|known| known.pipeline == *pipeline && known.state == DeploymentState::Active);
        let is_active = active.as_ref().is_some_and(|active| active.revision == revision);
        let (retire, add) = match state {
            DeploymentState::Active => (!is_active, !is_active),
            DeploymentState::Retired => (is_active, false),
            DeploymentState::Refused | DeploymentState::Cancelled => (false, true),
            DeploymentState::Shadow => (false, false),
        };
        if let (true, Some(active)) = (retire, active) {
            active.state = DeploymentState::Retired;
            active.retired_at = Some(at);
        }
        // The same call once more, whose first answer may have been lost.
        let noted = |known: &Deployed| {
            known.pipeline == *pipeline && known.revision == revision && known.state == state && known.at == at
        };
        if add && state == DeploymentState::Active {
            self.supersede(pipeline, (revision, number), reason, at);
        }
        let is_noted = state != DeploymentState::Active && self.deployments.iter().any(noted);
        if add
            && !is_noted
            && let Some(shadow) = self.in_shadow(pipeline).filter(|shadow| shadow.revision == revision)
        {
            (shadow.state, shadow.at) = (state, at);
            reason.clone_into(&mut shadow.reason);
            return Ok(());
        }
        if add && !is_noted {
            self.deployments.push(Deployed {
                pipeline: pipeline.clone(),
                revision,
                state,
                reason: reason.to_owned(),
                at,
                retired_at: None,
                shadow: None,
            });
        }
        Ok(())
    }

    fn in_shadow(&mut self, pipeline: &PipelineName) -> Option<&mut Deployed> {
        let is_one = |known: &&mut Deployed| known.pipeline == *pipeline && known.state == DeploymentState::Shadow;
        self.deployments.iter_mut().find(is_one)
    }

    /// Cancels another revision that is in shadow.
    fn supersede(
        &mut self,
        pipeline: &PipelineName,
        (revision, number): (RevisionId, u32),
        reason: &str,
        at: Timestamp,
    ) {
        if let Some(shadow) = self.in_shadow(pipeline).filter(|shadow| shadow.revision != revision) {
            (shadow.state, shadow.at) = (DeploymentState::Cancelled, at);
            shadow.reason = check::superseded(number, reason);
        }
    }

    pub(super) fn shadow(
        &mut self,
        pipeline: &PipelineName,
        revision: RevisionId,
        plan: &serde_json::Value,
        reason: &str,
        at: Timestamp,
    ) -> Result<()> {
        let Some(number) = self.revision(pipeline, revision).map(|record| record.number) else {
            return Err(check::not_recorded(pipeline, revision));
        };
        if self.active(pipeline).is_some_and(|active| active.revision.id == revision) {
            return Err(check::shadow_of_itself(pipeline, revision));
        }
        self.supersede(pipeline, (revision, number), reason, at);
        if self.in_shadow(pipeline).is_none() {
            self.deployments.push(Deployed {
                pipeline: pipeline.clone(),
                revision,
                state: DeploymentState::Shadow,
                reason: reason.to_owned(),
                at,
                retired_at: None,
                shadow: Some(Shadowed { since: at, plan: plan.clone(), report: None }),
            });
        }
        Ok(())
    }

    pub(super) fn report_shadow(
        &mut self,
        pipeline: &PipelineName,
        revision: RevisionId,
        report: &serde_json::Value,
    ) -> bool {
        let Some(shadow) = self.in_shadow(pipeline).filter(|shadow| shadow.revision == revision) else { return false };
        let Some(shadow) = &mut shadow.shadow else { return false };
        shadow.report = Some(report.clone());
        true
    }

    pub(super) fn shadows(&self) -> Vec<Shadow> {
        let in_shadow = self.deployments.iter().filter(|known| known.state == DeploymentState::Shadow);
        let shadow = |known: &Deployed| {
            let Shadowed { since, plan, report } = known.shadow.clone()?;
            Some(Shadow {
                pipeline: known.pipeline.clone(),
                revision: self.revision(&known.pipeline, known.revision)?.clone(),
                since,
                reason: known.reason.clone(),
                plan,
                report: report.unwrap_or_default(),
            })
        };
        let mut shadows: Vec<_> = in_shadow.filter_map(shadow).collect();
        shadows.sort_by(|one, other| one.pipeline.cmp(&other.pipeline));
        shadows
    }

    pub(super) fn active(&self, pipeline: &PipelineName) -> Option<Deployment> {
        let active = self
            .deployments
            .iter()
            .find(|known| known.pipeline == *pipeline && known.state == DeploymentState::Active)?;
        Some(Deployment {
            pipeline: pipeline.clone(),
            revision: self.revision(pipeline, active.revision)?.clone(),
            state: active.state,
            at: active.at,
            reason: active.reason.clone(),
        })
    }

    pub(super) fn roll_back(
        &mut self,
        pipeline: &PipelineName,
        to: RevisionId,
        meant: Option<RevisionId>,
        reason: &str,
        at: Timestamp,
    ) -> Result<()> {
        check::roll_back(to, meant)?;
        // Both or neither.
        if let Some(meant) = meant.filter(|meant| self.revision(pipeline, *meant).is_none()) {
            return Err(check::not_recorded(pipeline, meant));
        }
        self.deploy(pipeline, to, DeploymentState::Active, reason, at)?;
        match meant {
            Some(meant) => self.deploy(pipeline, meant, DeploymentState::Cancelled, reason, at),
            None => Ok(()),
        }
    }

    pub(super) fn is_cancelled(&self, pipeline: &PipelineName, revision: RevisionId) -> bool {
        let mut of = self.deployments.iter().filter(|known| known.pipeline == *pipeline && known.revision == revision);
        of.next_back()
            .is_some_and(|last| last.state == DeploymentState::Cancelled && !last.reason.starts_with(check::SUPERSEDED))
    }

    pub(super) fn pause(&mut self, pipeline: &PipelineName, reason: &str, at: Timestamp) {
        self.paused.entry(pipeline.clone()).or_insert_with(|| Pause { reason: reason.to_owned(), since: at });
    }

    pub(super) fn ask(&mut self, what: &str, arguments: &serde_json::Value, at: Timestamp) -> u64 {
        let same = self.requests.iter().position(|known| {
            known.what == what && canonical(&known.arguments) == canonical(arguments) && known.at == at
        });
        if let Some(place) = same {
            return number_of(place);
        }
        self.requests.push(Request { what: what.to_owned(), arguments: arguments.clone(), at, answer: None });
        number_of(self.requests.len().saturating_sub(1))
    }

    pub(super) fn asked(&self) -> Vec<(u64, String, serde_json::Value)> {
        self.requests
            .iter()
            .enumerate()
            .filter(|(_, request)| request.answer.is_none())
            .map(|(place, request)| (number_of(place), request.what.clone(), request.arguments.clone()))
            .collect()
    }

    pub(super) fn answer(&mut self, request: u64, answer: &serde_json::Value, at: Timestamp) -> Result<()> {
        let place = place_of(request);
        let known = place
            .and_then(|place| self.requests.get_mut(place))
            .ok_or_else(|| LedgerError::invariant(format!("there is no request {request}")))?;
        known.answer.get_or_insert_with(|| (answer.clone(), at));
        Ok(())
    }

    pub(super) fn answered(&self, request: u64) -> Option<serde_json::Value> {
        let known = place_of(request).and_then(|place| self.requests.get(place))?;
        known.answer.as_ref().map(|(answer, _)| answer.clone())
    }
}

fn place_of(number: u64) -> Option<usize> {
    number.checked_sub(1).and_then(|place| usize::try_from(place).ok())
}
