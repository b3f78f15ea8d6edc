//! Loaded segments that are to be refined once more.

use std::collections::BTreeSet;

use forebay_model::Timestamp;
use forebay_model::ids::{PipelineName, SegmentId, StreamName};
use forebay_model::load::{Again, LoadGroup, RefinedSegment, Terms};
use forebay_model::ports::{HealRequest, ReplayRequest, SegmentFailure, WorkItem};

use super::state::{Asked, Healed, Refinement, State};
use crate::check::STILL_ASKED;
use crate::error::Result;
use crate::versions::Standing;

impl Refinement {
    /// Whether a group of this number refined it last, all of it or some of its records.
    pub(super) fn is_of(&self, number: u64) -> bool {
        self.load_number == Some(number) || self.heals.iter().any(|healed| healed.load_number == number)
    }

    fn tried_by(&self) -> Option<forebay_model::RevisionId> {
        self.heals.last().map(|healed| healed.revision).or(self.revision)
    }

    /// Unless it is known that it has none.
    fn may_heal(&self) -> bool {
        let rejected = self.counts.map(|counts| counts.rejected);
        self.standing == Standing::Loaded && self.retryable.or(rejected) != Some(0)
    }
}

/// What became of the records that were tried again is added to what became of the others.
pub(super) fn healed(former: Refinement, group: &LoadGroup, segment: &RefinedSegment) -> Refinement {
    let RefinedSegment { segment: _, generation, again: _, terms: _, counts, rejects: _, retryable, replaces: _ } =
        segment;
    let mut heals = former.heals;
    heals.push(Healed {
        generation: *generation,
        load_number: group.number,
        revision: group.revision,
        counts: *counts,
    });
    let merged = former.counts.map(|mut all| {
        all.loaded += counts.loaded;
        all.filtered += counts.filtered;
        all.rejected = (all.rejected + counts.rejected).saturating_sub(counts.records);
        all.rescued += counts.rescued;
        all
    });
    Refinement {
        standing: Standing::Loading,
        generation: Some(*generation),
        counts: merged,
        retryable: Some(*retryable),
        chosen: false,
        heals,
        ..former
    }
}

impl State {
    pub(super) fn ask_heal(&mut self, pipeline: &PipelineName, wanted: &HealRequest, at: Timestamp) -> u64 {
        let HealRequest { unless_tried_by, codes, since, reason } = wanted;
        let is_wanted = |segment: &SegmentId, refinement: &Refinement| {
            let of_code = |(of, id, generation, _, code): &(PipelineName, SegmentId, _, _, String)| {
                of == pipeline && id == segment && Some(*generation) == refinement.generation && codes.contains(code)
            };
            refinement.may_heal()
                && (unless_tried_by.is_none() || !refinement.chosen)
                && unless_tried_by.is_none_or(|revision| refinement.tried_by() != Some(revision))
                && (codes.is_empty() || self.reject_counts.keys().any(of_code))
                && since.is_none_or(|since| self.segment(segment).is_some_and(|segment| segment.landed_at >= since))
        };
        let segments: Vec<_> = self
            .refinements
            .iter()
            .filter(|((of, segment), refinement)| of == pipeline && is_wanted(segment, refinement))
            .map(|(place, _)| place.clone())
            .collect();
        let anew = unless_tried_by.is_none();
        let segments = segments.into_iter().filter(|place| anew || !self.again.contains_key(place)).collect();
        self.note_again(segments, (Again::Heal, Terms::default()), reason, at)
    }

    pub(super) fn ask_replay(&mut self, pipeline: &PipelineName, wanted: &ReplayRequest, at: Timestamp) -> Result<u64> {
        let ReplayRequest { segments, terms, reason } = wanted;
        if let Some(revision) = terms.revision
            && !self.revisions.get(pipeline).into_iter().flatten().any(|record| record.id == revision)
        {
            return Err(crate::check::not_recorded(pipeline, revision));
        }
        let segments: BTreeSet<_> = segments.iter().map(|segment| (pipeline.clone(), segment.clone())).collect();
        let may_be = |place: &(PipelineName, SegmentId)| {
            let standing = self.refinements.get(place).map(|refinement| refinement.standing);
            matches!(standing, Some(Standing::Loaded | Standing::Loading))
        };
        let segments = segments.into_iter().filter(may_be).collect();
        Ok(self.note_again(segments, (Again::Replay, *terms), reason, at))
    }

    fn note_again(
        &mut self,
        segments: Vec<(PipelineName, SegmentId)>,
        (what, terms): (Again, Terms),
        reason: &str,
        at: Timestamp,
    ) -> u64 {
        let mut new = 0;
        for place in segments {
            let asked = Asked { what, terms, reason: reason.to_owned(), at, attempts: 0, failure: None };
            match self.again.get_mut(&place) {
                None => {
                    new += 1;
                    self.again.insert(place, asked);
                }
                Some(known) => {
                    let same = known.what == what;
                    new += u64::from(what == Again::Replay && !same);
                    if same || what == Again::Replay {
                        known.reason = asked.reason;
                    }
                    if what == Again::Replay {
                        known.what = what;
                        known.terms = terms;
                    }
                    known.at = at;
                    known.failure = None;
                }
            }
        }
        new
    }

    /// A group does what was asked of its segments before it was begun; what was asked since, is another thing, or is to be done under
    /// another revision, is still to be done.
    pub(super) fn refined_again(
        &mut self,
        place: &(PipelineName, SegmentId),
        done: &RefinedSegment,
        group: &LoadGroup,
    ) {
        let does = |asked: &Asked| {
            let under = asked.terms.revision;
            asked.at <= group.begun_at
                && match done.again {
                    Some(Again::Heal) => asked.what == Again::Heal,
                    Some(Again::Replay) => asked.what == Again::Heal || under == done.terms.revision,
                    None => asked.what == Again::Heal || under.is_none_or(|under| under == group.revision),
                }
        };
        if self.again.get(place).is_some_and(does) {
            self.again.remove(place);
        }
    }

    /// A replay under a revision that was asked for is still to be done, when its group is withdrawn.
    pub(super) fn still_asked(&mut self, pipeline: &PipelineName, of: &RefinedSegment, failure: &SegmentFailure) {
        if of.again == Some(Again::Replay) && of.terms.revision.is_some() {
            self.again.entry((pipeline.clone(), of.segment.clone())).or_insert(Asked {
                what: Again::Replay,
                terms: of.terms,
                reason: STILL_ASKED.to_owned(),
                at: failure.at,
                attempts: 1,
                failure: Some(failure.clone()),
            });
        }
    }

    pub(super) fn forget_again(&mut self, pipeline: &PipelineName, what: Again) -> u64 {
        let before = self.again.len();
        self.again.retain(|(of, _), asked| of != pipeline || asked.what != what);
        (before - self.again.len()) as u64
    }

    pub(super) fn again(
        &self,
        pipeline: &PipelineName,
        stream: &StreamName,
        now: Timestamp,
        skip: &BTreeSet<SegmentId>,
        limit: usize,
    ) -> Vec<WorkItem> {
        if self.paused.contains_key(pipeline) {
            return Vec::new();
        }
        let replaced = |object: &str| self.objects.iter().any(|o| o.name == object && o.replaced_by.is_some());
        let newest_first = self.segments.iter().rev().filter(|segment| segment.stream == *stream);
        let due = newest_first.filter_map(|segment| {
            let asked = self.again.get(&(pipeline.clone(), segment.id.clone()))?;
            let refinement = self.refinement(pipeline, &segment.id)?;
            let waits = asked.failure.as_ref().is_some_and(|failure| failure.retry_at.is_none_or(|at| at > now));
            let is_work = refinement.standing == Standing::Loaded
                && !waits
                && !skip.contains(&segment.id)
                && !replaced(&segment.object);
            is_work.then(|| WorkItem {
                segment: forebay_model::LandedSegment { replaces: Vec::new(), ..segment.clone() },
                generation: self.next_generation(pipeline, &segment.id),
                attempts: asked.attempts,
                again: Some(asked.what),
                history: false,
                failed: false,
                terms: asked.terms,
                retryable: refinement.retryable,
            })
        });
        due.take(limit).collect()
    }

    pub(super) fn fail_again(&mut self, pipeline: &PipelineName, failure: &SegmentFailure) {
        let Some(asked) = self.again.get_mut(&(pipeline.clone(), failure.segment.clone())) else { return };
        if asked.failure.as_ref().is_some_and(|former| former.at == failure.at) {
            return;
        }
        asked.attempts += 1;
        asked.failure = Some(failure.clone());
    }

    pub(super) fn retry_again(&mut self, pipeline: &PipelineName) -> u64 {
        let mut let_go = 0;
        for ((of, _), asked) in &mut self.again {
            if of == pipeline
                && let Some(failure) = &mut asked.failure
                && failure.retry_at.is_none_or(|at| at > failure.at)
            {
                failure.retry_at = Some(failure.at);
                let_go += 1;
            }
        }
        let_go
    }
}
