use std::collections::{BTreeMap, BTreeSet};

use forebay_model::Timestamp;
use forebay_model::flow::OnChange;
use forebay_model::ids::{Generation, PipelineName, SegmentId, StreamName, TableName};
use forebay_model::load::{Again, LoadGroup, LoadReceipt, Terms};
use forebay_model::ports::{SegmentFailure, WorkItem};
use forebay_model::revision::RevisionId;
use forebay_model::segment::{LandedSegment, Partition};

use super::again::healed;
use super::state::{Group, Object, Refinement, State};
use crate::check::{
    failure_of, fingerprint, is_again, may_fail, may_open, no_group, no_load, number_follows, same_group, signed,
    totals,
};
use crate::error::{LedgerError, Result};
use crate::versions::{self, Standing, Unit, Version};

impl State {
    pub(super) fn refinement(&self, pipeline: &PipelineName, segment: &SegmentId) -> Option<&Refinement> {
        self.refinements.get(&(pipeline.clone(), segment.clone()))
    }

    fn standing(&self, pipeline: &PipelineName, segment: &SegmentId) -> Standing {
        self.refinement(pipeline, segment).map_or(Standing::New, |refinement| refinement.standing)
    }

    pub(super) fn next_generation(&self, pipeline: &PipelineName, segment: &SegmentId) -> Generation {
        self.refinement(pipeline, segment)
            .and_then(|refinement| refinement.loaded_generation)
            .map_or(0, |last| last.saturating_add(1))
    }

    pub(super) fn work(
        &self,
        pipeline: &PipelineName,
        stream: &StreamName,
        now: Timestamp,
        skip: &BTreeSet<SegmentId>,
        limit: usize,
    ) -> Vec<WorkItem> {
        if pipeline.as_side().is_some() {
            return Vec::new();
        }
        let since = self.history_of(pipeline, stream);
        self.work_in(pipeline, stream, now, skip, (since..self.segments.len(), limit))
    }

    pub(super) fn failed(
        &self,
        pipeline: &PipelineName,
        stream: &StreamName,
        now: Timestamp,
        skip: &BTreeSet<SegmentId>,
        limit: usize,
    ) -> Vec<WorkItem> {
        if pipeline.as_side().is_some() || self.paused.contains_key(pipeline) {
            return Vec::new();
        }
        let units = self.units(pipeline, stream, now, skip);
        let mut items: Vec<WorkItem> = Vec::new();
        let mut taken: Vec<&Unit> = Vec::new();
        for segment in self.segments.iter().rev().filter(|segment| segment.stream == *stream) {
            let failed = matches!(self.standing(pipeline, &segment.id), Standing::Failed(_));
            let Some(unit) = units.get(&segment.id).filter(|unit| failed && !taken.contains(unit)) else { continue };
            if items.len() >= limit {
                break;
            }
            let together = |other: &&LandedSegment| unit.segments.contains(&other.id);
            let all: Vec<_> = match unit.replaces.as_slice() {
                [] => vec![segment],
                _ => self.segments.iter().filter(together).collect(),
            };
            items
                .extend(all.into_iter().map(|segment| WorkItem { failed: true, ..self.item(pipeline, segment, unit) }));
            if !unit.replaces.is_empty() {
                taken.push(unit);
            }
        }
        items
    }

    /// What nothing was made of yet of the segments with these places.
    pub(super) fn work_in(
        &self,
        pipeline: &PipelineName,
        stream: &StreamName,
        now: Timestamp,
        skip: &BTreeSet<SegmentId>,
        (places, limit): (std::ops::Range<usize>, usize),
    ) -> Vec<WorkItem> {
        if self.paused.contains_key(pipeline) {
            return Vec::new();
        }
        let units = self.units(pipeline, stream, now, skip);
        let mut items: Vec<WorkItem> = Vec::new();
        let mut last: Option<&Unit> = None;
        let within = self.segments.get(places).unwrap_or_default();
        for segment in within.iter().filter(|segment| segment.stream == *stream) {
            let Some(unit) = units.get(&segment.id).filter(|unit| !unit.failed) else { continue };
            let goes_on = !unit.replaces.is_empty() && last == Some(unit);
            if items.len() >= limit && !goes_on {
                break;
            }
            last = Some(unit);
            items.push(self.item(pipeline, segment, unit));
        }
        items
    }

    fn item(&self, pipeline: &PipelineName, segment: &LandedSegment, unit: &Unit) -> WorkItem {
        WorkItem {
            segment: LandedSegment { replaces: unit.replaces.clone(), ..segment.clone() },
            generation: self.next_generation(pipeline, &segment.id),
            attempts: self.refinement(pipeline, &segment.id).map_or(0, |refinement| refinement.attempts),
            again: None,
            history: false,
            failed: false,
            terms: Terms::default(),
            retryable: None,
        }
    }

    /// The unit of each segment that is work.
    fn units(
        &self,
        pipeline: &PipelineName,
        stream: &StreamName,
        now: Timestamp,
        skip: &BTreeSet<SegmentId>,
    ) -> BTreeMap<SegmentId, Unit> {
        let mut keys: BTreeMap<(&Partition, &str), Vec<&Object>> = BTreeMap::new();
        let mut units = BTreeMap::new();
        for object in self.objects.iter().filter(|object| object.stream == *stream) {
            match &object.source {
                Some(source) => keys.entry((&source.partition, &source.key)).or_default().push(object),
                None => {
                    let version = self.version(pipeline, object);
                    for unit in versions::plan(&[version], now, skip) {
                        units.extend(unit.segments.iter().map(|id| (id.clone(), unit.clone())));
                    }
                }
            }
        }
        for objects in keys.into_values() {
            let history: Vec<_> = objects.into_iter().map(|object| self.version(pipeline, object)).collect();
            for unit in versions::plan(&history, now, skip) {
                units.extend(unit.segments.iter().map(|id| (id.clone(), unit.clone())));
            }
        }
        units
    }

    fn version(&self, pipeline: &PipelineName, object: &Object) -> Version {
        Version {
            replaces_former: object.source.is_some() && object.on_change == OnChange::Replace,
            segments: self
                .segments
                .iter()
                .filter(|segment| segment.object == object.name)
                .map(|segment| (segment.id.clone(), self.standing(pipeline, &segment.id)))
                .collect(),
        }
    }

    pub(super) fn fail(&mut self, pipeline: &PipelineName, failure: &SegmentFailure) -> Result<()> {
        let segment = &failure.segment;
        if self.segment(segment).is_none() {
            return Err(LedgerError::invariant(format!("segment {segment} failed, and is not listed")));
        }
        let former = self.refinement(pipeline, segment);
        let standing = former.map_or(Standing::New, |former| former.standing);
        if is_again(standing, failure.generation, self.next_generation(pipeline, segment)) {
            self.fail_again(pipeline, failure);
            return Ok(());
        }
        may_fail(pipeline, segment, standing)?;
        let this = |failure: &SegmentFailure| (failure.at, failure.generation, failure.revision);
        if former.and_then(|former| former.failure.as_ref()).is_some_and(|former| this(former) == this(failure)) {
            return Ok(());
        }
        let refinement = Refinement {
            standing: Standing::Failed(failure.retry_at),
            generation: Some(failure.generation),
            loaded_generation: former.and_then(|former| former.loaded_generation),
            load_number: former.and_then(|former| former.load_number),
            revision: Some(failure.revision),
            counts: former.and_then(|former| former.counts),
            retryable: former.and_then(|former| former.retryable),
            chosen: former.is_some_and(|former| former.chosen),
            heals: former.map(|former| former.heals.clone()).unwrap_or_default(),
            attempts: former.map_or(0, |former| former.attempts).saturating_add(1),
            failure: Some(failure.clone()),
        };
        self.refinements.insert((pipeline.clone(), segment.clone()), refinement);
        Ok(())
    }

    pub(super) fn refined_by(&self, pipeline: &PipelineName, revision: RevisionId, limit: usize) -> Vec<LandedSegment> {
        let replaced = |object: &str| self.objects.iter().any(|o| o.name == object && o.replaced_by.is_some());
        let by_it = |segment: &&LandedSegment| {
            let refinement = self.refinement(pipeline, &segment.id);
            refinement.is_some_and(|r| r.standing == Standing::Loaded && r.revision == Some(revision))
                && !replaced(&segment.object)
        };
        let found = self.segments.iter().rev().filter(by_it).take(limit);
        found.map(|segment| LandedSegment { replaces: Vec::new(), ..segment.clone() }).collect()
    }

    pub(super) fn retry_failed(&mut self, pipeline: &PipelineName) -> u64 {
        let mut let_go = 0;
        for ((of, _), refinement) in &mut self.refinements {
            let (Standing::Failed(retry_at), Some(failure)) = (refinement.standing, &mut refinement.failure) else {
                continue;
            };
            if of == pipeline && retry_at.is_none_or(|at| at > failure.at) {
                failure.retry_at = Some(failure.at);
                refinement.standing = Standing::Failed(Some(failure.at));
                let_go += 1;
            }
        }
        let_go + self.retry_again(pipeline)
    }

    pub(super) fn last_number(&self, pipeline: &PipelineName) -> u64 {
        self.groups.keys().filter(|(of, _)| of == pipeline).map(|(_, number)| *number).max().unwrap_or(0)
    }

    pub(super) fn tables_of(&self, pipeline: &PipelineName, segments: &[SegmentId]) -> Vec<TableName> {
        let tables: BTreeSet<_> = self
            .groups
            .iter()
            .filter(|((of, _), _)| of == pipeline)
            .flat_map(|(_, group)| group.counted())
            .filter(|load| load.files.iter().any(|file| segments.contains(&file.segment)))
            .map(|load| load.table.clone())
            .collect();
        tables.into_iter().collect()
    }

    pub(super) fn open_group(&mut self, group: &LoadGroup) -> Result<()> {
        let pipeline = &group.pipeline;
        if let Some(former) = self.groups.get(&(pipeline.clone(), group.number)) {
            return same_group(pipeline, group.number, fingerprint(&former.group) == fingerprint(group));
        }
        number_follows(pipeline, group.number, self.last_number(pipeline))?;
        for segment in &group.segments {
            if self.segment(&segment.segment).is_none() {
                return Err(LedgerError::invariant(format!("segment {} is not listed", segment.segment)));
            }
            let standing = self.standing(pipeline, &segment.segment);
            may_open(group, segment, standing, self.next_generation(pipeline, &segment.segment))?;
        }
        for replaced in group.segments.iter().flat_map(|segment| &segment.replaces) {
            if self.segment(replaced).is_none() {
                return Err(LedgerError::invariant(format!("segment {replaced} is replaced, and is not listed")));
            }
        }
        for load in &group.loads {
            let (_, bytes, rows) = totals(load);
            signed("size", bytes)?;
            signed("count", rows)?;
        }
        self.write_segments(group);
        self.side_opened(group);
        let loads = group.loads.iter().map(|load| (load.table.clone(), (load.clone(), None))).collect();
        self.groups.insert(
            (pipeline.clone(), group.number),
            Group { group: group.clone(), loads, done: false, withdrawn: false },
        );
        self.finish(pipeline, group.number);
        Ok(())
    }

    fn write_segments(&mut self, group: &LoadGroup) {
        for segment in &group.segments {
            let place = (group.pipeline.clone(), segment.segment.clone());
            self.refined_again(&place, segment, group);
            let former = self.refinements.remove(&place);
            let refinement = match (segment.again, former) {
                (Some(Again::Heal), Some(former)) => healed(former, group, segment),
                (Some(Again::Heal | Again::Replay) | None, former) => Refinement {
                    standing: Standing::Loading,
                    generation: Some(segment.generation),
                    loaded_generation: former.and_then(|former| former.loaded_generation),
                    load_number: Some(group.number),
                    revision: Some(group.revision),
                    counts: Some(segment.counts),
                    retryable: Some(segment.retryable),
                    chosen: segment.terms.revision.is_some(),
                    heals: Vec::new(),
                    attempts: 0,
                    failure: None,
                },
            };
            self.refinements.insert(place, refinement);
            for reject in &segment.rejects {
                let place = (
                    group.pipeline.clone(),
                    segment.segment.clone(),
                    segment.generation,
                    reject.stage.clone(),
                    reject.code.clone(),
                );
                self.reject_counts.insert(place, reject.records);
            }
        }
        for replaced in group.segments.iter().flat_map(|segment| &segment.replaces) {
            let refinement = self.refinements.entry((group.pipeline.clone(), replaced.clone())).or_insert(Refinement {
                standing: Standing::Superseded,
                generation: None,
                loaded_generation: None,
                load_number: None,
                revision: None,
                counts: None,
                retryable: None,
                chosen: false,
                heals: Vec::new(),
                attempts: 0,
                failure: None,
            });
            self.again.remove(&(group.pipeline.clone(), replaced.clone()));
            refinement.standing = Standing::Superseded;
            refinement.attempts = 0;
            refinement.failure = None;
        }
    }

    /// With the last load of a group its segments are loaded, except what a later group superseded since.
    fn finish(&mut self, pipeline: &PipelineName, number: u64) {
        let Some(group) = self.groups.get_mut(&(pipeline.clone(), number)) else { return };
        if group.withdrawn || group.loads.values().any(|(_, done)| done.is_none()) {
            return;
        }
        group.done = true;
        for ((of, _), refinement) in &mut self.refinements {
            if of == pipeline && refinement.is_of(number) && refinement.standing == Standing::Loading {
                refinement.standing = Standing::Loaded;
                refinement.loaded_generation = refinement.generation;
            }
        }
    }

    pub(super) fn close_load(
        &mut self,
        pipeline: &PipelineName,
        number: u64,
        table: &TableName,
        receipt: &LoadReceipt,
        at: Timestamp,
    ) -> Result<()> {
        let group = self.groups.get_mut(&(pipeline.clone(), number));
        let withdrawn = group.as_ref().is_some_and(|group| group.withdrawn);
        let load =
            group.and_then(|group| group.loads.get_mut(table)).ok_or_else(|| no_load(pipeline, number, table))?;
        if load.1.is_some() || withdrawn {
            return Ok(());
        }
        signed("version", receipt.table_version)?;
        signed("count", receipt.rows_removed)?;
        load.1 = Some((receipt.clone(), at));
        self.finish(pipeline, number);
        Ok(())
    }

    pub(super) fn withdraw_group(
        &mut self,
        pipeline: &PipelineName,
        number: u64,
        failures: &[SegmentFailure],
    ) -> Result<()> {
        let Some(group) = self.groups.get(&(pipeline.clone(), number)) else { return Err(no_group(pipeline, number)) };
        if group.withdrawn {
            return Ok(());
        }
        if group.done {
            return Err(LedgerError::invariant(format!("group {number} of pipeline {pipeline} is done")));
        }
        let partly_done = group.loads.values().any(|(_, done)| done.is_some());
        let segments = group.group.segments.clone();
        let failures: BTreeMap<_, _> = failures.iter().map(|failure| (&failure.segment, failure)).collect();
        for segment in &segments {
            failure_of(pipeline, number, &failures, &segment.segment)?;
        }
        let mut still_asked = Vec::new();
        for segment in &segments {
            let failure = failure_of(pipeline, number, &failures, &segment.segment)?;
            let Some(refinement) = self.refinements.get_mut(&(pipeline.clone(), segment.segment.clone())) else {
                continue;
            };
            if refinement.standing == Standing::Loading && refinement.is_of(number) {
                refinement.standing = Standing::Failed(failure.retry_at);
                if partly_done {
                    refinement.loaded_generation = refinement.generation;
                }
                refinement.load_number = None;
                refinement.counts = None;
                refinement.retryable = None;
                refinement.chosen = false;
                refinement.attempts += 1;
                refinement.revision = Some(failure.revision);
                refinement.failure = Some(failure.clone());
                still_asked.push((segment, failure));
            }
            refinement.heals.retain(|healed| healed.load_number != number);
            self.reject_counts.retain(|(of, id, generation, ..), _| {
                (of, id, *generation) != (pipeline, &segment.segment, failure.generation)
            });
        }
        for (segment, failure) in still_asked {
            self.still_asked(pipeline, segment, failure);
        }
        for replaced in segments.iter().flat_map(|segment| &segment.replaces) {
            if let Some(former) = self.refinements.get_mut(&(pipeline.clone(), replaced.clone()))
                && former.standing == Standing::Superseded
                && former.loaded_generation.is_some()
            {
                former.standing = Standing::Loaded;
            }
        }
        if let Some(group) = self.groups.get_mut(&(pipeline.clone(), number)) {
            group.withdrawn = true;
        }
        Ok(())
    }

    pub(super) fn open_groups(&self, pipeline: &PipelineName) -> Vec<LoadGroup> {
        self.groups
            .iter()
            .filter(|((of, _), group)| of == pipeline && !group.done && !group.withdrawn)
            .map(|(_, group)| LoadGroup {
                loads: group.loads.values().filter(|(_, done)| done.is_none()).map(|(load, _)| load.clone()).collect(),
                ..group.group.clone()
            })
            .collect()
    }
}
