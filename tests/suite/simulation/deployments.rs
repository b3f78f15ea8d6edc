//! Revisions that go back, run in shadow and are decided on, pipelines that pause: as the host does it, over ports that fail.
//!
//! The host's own deployer is not here; its calls are, in its order. What may have become active is noted before it is asked for, since
//! an answer may be lost: a load by any other revision is a violation.

use std::sync::Arc;

use forebay_model::ports::{DeploymentState, RevisionRecord, Shadow};
use forebay_model::{ErrorClass, PipelineName, Result};
use forebay_pipeline::refine::rehearse::Extent;

use super::process::{Process, keep_revision, materials, revision};
use super::rule::Config;
use super::scenario::Shape;

/// How many of the last segments are compared.
const COMPARED: u32 = 2;

impl Process {
    fn named(&self, index: usize) -> (&Shape, PipelineName) {
        let (shape, _) = &self.pipelines[index];
        (shape, PipelineName::new(&shape.name).unwrap())
    }

    /// A revision that was active before takes the place of the active one; what people want is cancelled.
    pub(super) async fn roll_back(&self, index: usize) -> Result<()> {
        let ((shape, name), ledger) = (self.named(index), &self.stores.ledger);
        let active = ledger.active(&name).await?.map(|active| active.revision.id);
        let mut others = self.world.once_active(&name).into_iter().filter(|id| Some(*id) != active);
        let Some(to) = others.next_back() else { return Ok(()) };
        // A ledger that was rebuilt knows those alone that the zone has kept.
        let Some(record) = ledger.revision(&name, to).await? else { return Ok(()) };
        let RevisionRecord { number, id, revision: of, created_at: _ } = record.clone();
        let materials = materials(of, number);
        let (_, handle) = &self.pipelines[index];
        handle.check(Arc::clone(&materials)).await?;
        keep_revision(self.stores.zone.as_ref(), &record).await?;
        let now = self.clock.now();
        let config = self.world.scenario().wanted[index];
        let wanted = revision(shape, config);
        self.world.know(&wanted, config);
        let meant = ledger.record_revision(&wanted, now).await?.id;
        self.world.may_be_active(&name, id);
        ledger.roll_back(&name, id, Some(meant).filter(|meant| *meant != id), "rollback", now).await?;
        handle.deploy(materials);
        self.world.chaos.count(|tally| tally.rolled_back += 1);
        Ok(())
    }

    /// No work from here on, or again.
    pub(super) async fn pause(&self, index: usize) -> Result<()> {
        let ((_, name), ledger) = (self.named(index), &self.stores.ledger);
        if ledger.paused(&name).await?.is_none() {
            ledger.pause(&name, "the story", self.clock.now()).await?;
            self.world.chaos.count(|tally| tally.paused += 1);
        } else {
            let resumed = ledger.resume(&name).await?;
            self.world.chaos.count(|tally| tally.resumed += u64::from(resumed));
        }
        Ok(())
    }

    /// A revision runs beside the active one.
    pub(super) async fn shadow(&self, index: usize, config: Config) -> Result<()> {
        let ((shape, name), ledger) = (self.named(index), &self.stores.ledger);
        let candidate = revision(shape, config);
        let (id, now) = (candidate.id(), self.clock.now());
        self.world.know(&candidate, config);
        if ledger.active(&name).await?.is_none_or(|active| active.revision.id == id) {
            return Ok(());
        }
        let record = ledger.record_revision(&candidate, now).await?;
        let (_, handle) = &self.pipelines[index];
        handle.check(materials(candidate, record.number)).await?;
        keep_revision(self.stores.zone.as_ref(), &record).await?;
        ledger.shadow(&name, id, &serde_json::json!({ "segments": COMPARED }), "the story", now).await?;
        self.world.chaos.count(|tally| tally.shadowed += 1);
        self.compare(index).await
    }

    /// What is in shadow refines the last segments, and somebody decides, or nobody yet.
    pub(super) async fn compare(&self, index: usize) -> Result<()> {
        let ((_, name), ledger) = (self.named(index), &self.stores.ledger);
        let shadows = ledger.shadows().await?;
        let Some(shadow) = shadows.into_iter().find(|shadow| shadow.pipeline == name) else { return Ok(()) };
        let Shadow { revision: RevisionRecord { number, id, revision, .. }, .. } = shadow;
        let (_, handle) = &self.pipelines[index];
        let (materials, now) = (materials(revision, number), self.clock.now());
        let Some(bound) = handle.check(Arc::clone(&materials)).await? else { return Ok(()) };
        let Some(active) = ledger.active(&name).await? else { return Ok(()) };
        let mut compared = 0;
        for segment in ledger.refined_by(&name, active.revision.id, COMPARED).await? {
            let whole = Extent { records: u64::MAX, until: None, keep: true };
            match handle.rehearse(Arc::clone(&bound), segment, whole).await {
                Ok(_) => compared += 1,
                Err(error) if error.class() == ErrorClass::Retry => return Err(error),
                Err(error) => {
                    ledger.deploy(&name, id, DeploymentState::Refused, &error.chain(), now).await?;
                    self.world.chaos.count(|tally| tally.shadow_refused += 1);
                    return Ok(());
                }
            }
        }
        if !ledger.report_shadow(&name, id, &serde_json::json!({ "compared": compared })).await? {
            return Ok(());
        }
        match self.world.number(0..4) {
            0 => {
                ledger.deploy(&name, id, DeploymentState::Cancelled, "the story", now).await?;
                self.world.chaos.count(|tally| tally.shadow_cancelled += 1);
            }
            1 => self.world.chaos.count(|tally| tally.shadow_left += 1),
            _ => {
                // From here on it is what people want: as the module that a deployment made the active one of its name.
                if let Some(config) = self.world.config(&id.to_string()) {
                    self.world.scenario().wanted[index] = config;
                }
                self.world.may_be_active(&name, id);
                ledger.deploy(&name, id, DeploymentState::Active, "the story", now).await?;
                handle.deploy(materials);
                self.world.chaos.count(|tally| tally.shadow_approved += 1);
            }
        }
        Ok(())
    }
}
