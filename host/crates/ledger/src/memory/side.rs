//! Replays into tables beside those of their pipeline.

use std::collections::BTreeSet;

use forebay_model::Timestamp;
use forebay_model::flow::OnChange;
use forebay_model::ids::{PipelineName, SegmentId, StreamName};
use forebay_model::load::{LoadGroup, Terms};
use forebay_model::ports::{DeploymentState, Side, WorkItem};
use forebay_model::revision::Revision;
use forebay_model::segment::LandedSegment;

use super::state::{Object, Refinement, State};
use crate::check::same_side;
use crate::error::{LedgerError, Result};
use crate::versions::Standing;

impl State {
    pub(super) fn ask_side(&mut self, wanted: &Side, own: &Revision, segments: &[SegmentId]) -> Result<u64> {
        let mut has = match self.sides.get(&wanted.name) {
            Some((known, has)) => {
                same_side(known, wanted)?;
                has.clone()
            }
            None => {
                let Side { name, of, reason, asked_at, .. } = wanted;
                self.forget_rows(name);
                let made = self.record_revision(own, *asked_at);
                self.deploy(name, made.id, DeploymentState::Active, reason, *asked_at)?;
                if let (None, Some(of)) = (self.schema(name), self.schema(of)) {
                    self.evolve_schema(name, None, &of.schema, *asked_at)?;
                }
                BTreeSet::new()
            }
        };
        let known = has.len();
        has.extend(segments.iter().filter(|id| self.segment(id).is_some()).cloned());
        let added = (has.len() - known) as u64;
        let id = self.sides.get(&wanted.name).map_or(wanted.id, |(known, _)| known.id);
        self.sides.insert(wanted.name.clone(), (Side { id, dropped: false, ..wanted.clone() }, has));
        Ok(added)
    }

    pub(super) fn forget_waiting(&mut self, name: &PipelineName) -> u64 {
        self.refinements.retain(|(of, _), refinement| {
            of != name
                || match refinement.standing {
                    // Where a load of it was done, the next try is to remove what that brought.
                    Standing::New | Standing::Failed(_) => refinement.loaded_generation.is_some(),
                    Standing::Loading | Standing::Loaded | Standing::Superseded => true,
                }
        });
        let goes_on = |refinement: &Refinement| !matches!(refinement.standing, Standing::New | Standing::Failed(_));
        let begun = self.refinements.iter().filter(|((of, _), refinement)| of == name && goes_on(refinement));
        let begun: BTreeSet<_> = begun.map(|((_, id), _)| id.clone()).collect();
        let Some((_, has)) = self.sides.get_mut(name) else { return 0 };
        let before = has.len();
        has.retain(|id| begun.contains(id));
        (before - has.len()) as u64
    }

    pub(super) fn drop_side(&mut self, name: &PipelineName, only: Option<&[SegmentId]>) -> bool {
        let stands = |id: &SegmentId| self.refinement(name, id).map(|refinement| refinement.standing);
        let Some((_, has)) = self.sides.get(name) else { return false };
        let other = |only: &[SegmentId], id: &SegmentId| !only.contains(id) && stands(id) != Some(Standing::Superseded);
        if only.is_some_and(|only| has.iter().any(|id| other(only, id))) {
            return false;
        }
        let Some((side, _)) = self.sides.get_mut(name) else { return false };
        side.dropped = true;
        true
    }

    pub(super) fn forget_side(&mut self, name: &PipelineName) -> Result<()> {
        if self.sides.get(name).is_some_and(|(side, _)| !side.dropped) {
            return Err(LedgerError::invariant(format!("side {name} was to be forgotten, and was not dropped")));
        }
        self.forget_rows(name);
        Ok(())
    }

    fn forget_rows(&mut self, name: &PipelineName) {
        let tables = self.active(name).map(|active| active.revision.revision.tables()).unwrap_or_default();
        self.held.retain(|(table, _), _| !tables.contains(table));
        self.refinements.retain(|(of, _), _| of != name);
        self.again.retain(|(of, _), _| of != name);
        self.histories.retain(|(of, _), _| of != name);
        self.groups.retain(|(of, _), _| of != name);
        self.reject_counts.retain(|(of, ..), _| of != name);
        self.schemas.remove(name);
        self.revisions.remove(name);
        self.deployments.retain(|deployed| deployed.pipeline != *name);
        self.paused.remove(name);
        self.sides.remove(name);
    }

    /// As what is opened all the same.
    pub(super) fn side_opened(&mut self, group: &LoadGroup) {
        if let Some((_, has)) = self.sides.get_mut(&group.pipeline) {
            has.extend(group.segments.iter().map(|segment| segment.segment.clone()));
        }
    }

    /// A segment's object, with its place among all of them: versions of an object are in their order.
    fn version_of(&self, segment: &LandedSegment) -> Option<(usize, &Object)> {
        self.objects.iter().enumerate().find(|(_, object)| object.name == segment.object)
    }

    /// Segments of other versions of an object that a side has: former ones, and later ones that replace it.
    fn versions_in_side(&self, name: &PipelineName, segment: &LandedSegment) -> (Vec<SegmentId>, Vec<SegmentId>) {
        let (Some((place, object)), Some((_, has))) = (self.version_of(segment), self.sides.get(name)) else {
            return Default::default();
        };
        let Some(source) = &object.source else { return Default::default() };
        let (mut former, mut later) = (Vec::new(), Vec::new());
        for other in self.segments.iter().filter(|other| has.contains(&other.id)) {
            let Some((at, of)) = self.version_of(other) else { continue };
            let same = of.stream == object.stream
                && of.source.as_ref().is_some_and(|of| of.partition == source.partition && of.key == source.key);
            if same && at < place && object.on_change == OnChange::Replace {
                former.push(other.id.clone());
            }
            if same && at > place && of.on_change == OnChange::Replace {
                later.push(other.id.clone());
            }
        }
        let stands = |id: &SegmentId| self.refinement(name, id).map(|refinement| refinement.standing);
        former.retain(|id| stands(id) != Some(Standing::Superseded));
        later.retain(|id| !matches!(stands(id), Some(Standing::Failed(_))));
        (former, later)
    }

    pub(super) fn side_work(
        &self,
        name: &PipelineName,
        stream: &StreamName,
        now: Timestamp,
        skip: &BTreeSet<SegmentId>,
        limit: usize,
    ) -> Vec<WorkItem> {
        let Some((side, has)) = self.sides.get(name).filter(|(side, _)| !side.dropped) else { return Vec::new() };
        if self.paused.contains_key(name) {
            return Vec::new();
        }
        let due = |id: &SegmentId| self.refinement(name, id).map_or(Standing::New, |known| known.standing).due(now);
        let wanted = self.segments.iter().filter(|segment| segment.stream == *stream);
        let wanted =
            wanted.filter(|segment| has.contains(&segment.id) && !skip.contains(&segment.id) && due(&segment.id));
        let item = |segment: &LandedSegment| {
            let (former, later) = self.versions_in_side(name, segment);
            if !later.is_empty() || former.iter().any(|id| skip.contains(id)) {
                return None;
            }
            Some(WorkItem {
                segment: LandedSegment { replaces: former, ..segment.clone() },
                generation: self.next_generation(name, &segment.id),
                attempts: self.refinement(name, &segment.id).map_or(0, |refinement| refinement.attempts),
                again: None,
                history: true,
                failed: self.refinement(name, &segment.id).is_some(),
                terms: Terms { revision: None, workers: side.workers },
                retryable: None,
            })
        };
        wanted.filter_map(item).take(limit).collect()
    }
}
