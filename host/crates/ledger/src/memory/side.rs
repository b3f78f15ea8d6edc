//! Replays into tables beside those of their pipeline.

use std::collections::BTreeSet;

use forebay_model::Timestamp;
use forebay_model::ids::{PipelineName, SegmentId, StreamName};
use forebay_model::load::Terms;
use forebay_model::ports::{Side, WorkItem};

use super::state::State;
use crate::check::same_side;
use crate::error::{LedgerError, Result};
use crate::versions::Standing;

impl State {
    pub(super) fn ask_side(&mut self, wanted: &Side, segments: &[SegmentId]) -> Result<u64> {
        let mut has = match self.sides.get(&wanted.name) {
            Some((known, has)) => {
                same_side(known, wanted)?;
                has.clone()
            }
            None => BTreeSet::new(),
        };
        let known = has.len();
        has.extend(segments.iter().filter(|id| self.segment(id).is_some()).cloned());
        let added = (has.len() - known) as u64;
        self.sides.insert(wanted.name.clone(), (Side { dropped: false, ..wanted.clone() }, has));
        Ok(added)
    }

    pub(super) fn forget_waiting(&mut self, name: &PipelineName) -> u64 {
        self.refinements.retain(|(of, _), refinement| {
            of != name
                || match refinement.standing {
                    Standing::New | Standing::Failed(_) => false,
                    Standing::Loading | Standing::Loaded | Standing::Superseded => true,
                }
        });
        let begun: BTreeSet<_> =
            self.refinements.keys().filter(|(of, _)| of == name).map(|(_, id)| id.clone()).collect();
        let Some((_, has)) = self.sides.get_mut(name) else { return 0 };
        let before = has.len();
        has.retain(|id| begun.contains(id));
        (before - has.len()) as u64
    }

    pub(super) fn drop_side(&mut self, name: &PipelineName) -> bool {
        let Some((side, _)) = self.sides.get_mut(name) else { return false };
        side.dropped = true;
        true
    }

    pub(super) fn forget_side(&mut self, name: &PipelineName) -> Result<()> {
        if self.sides.get(name).is_some_and(|(side, _)| !side.dropped) {
            return Err(LedgerError::invariant(format!("side {name} was to be forgotten, and was not dropped")));
        }
        let tables: BTreeSet<_> = self
            .groups
            .iter()
            .filter(|((of, _), _)| of == name)
            .flat_map(|(_, group)| group.loads.keys().cloned().collect::<Vec<_>>())
            .collect();
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
        Ok(())
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
        let item = |segment: &forebay_model::LandedSegment| WorkItem {
            segment: forebay_model::LandedSegment { replaces: Vec::new(), ..segment.clone() },
            generation: self.next_generation(name, &segment.id),
            attempts: self.refinement(name, &segment.id).map_or(0, |refinement| refinement.attempts),
            again: None,
            history: true,
            failed: self.refinement(name, &segment.id).is_some(),
            terms: Terms { revision: None, workers: side.workers },
            retryable: None,
        };
        wanted.take(limit).map(item).collect()
    }
}
