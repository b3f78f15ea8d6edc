//! What is refined next: two lanes over the same workers.
//!
//! In the first are segments that are not loaded, in the order of landing: production. In the other is history: loaded segments that
//! are refined again, the newest first (heals and replays), and behind them what had landed before the pipeline began, the oldest first:
//! so its schema grows as it did for pipelines that have been there. While production has work, the other lane has one group in
//! [`AGAIN_EVERY`], and a group of it ends with the segments that the workers have; else it has all workers, or as many as the replay
//! was asked to take.

use forebay_model::Result;
use forebay_model::load::Terms;
use forebay_model::ports::WorkItem;

use super::group::Group;
use super::protocol::{Effect, Now, Wake, Work};
use super::segment::SegmentJob;
use super::state::{Queued, Refine};

/// Of so many groups one is of history, where both lanes have work.
const AGAIN_EVERY: u32 = 4;

/// The first schema is inferred from so many segments.
pub(super) const SAMPLE: usize = 16;

/// Whether a segment belongs to the lane of history.
fn is_aside(item: &WorkItem) -> bool {
    item.again.is_some() || item.history
}

impl Refine {
    pub(super) fn on_worked(&mut self, result: Result<Work>, out: &mut Vec<Effect>) {
        self.fetching = false;
        match result {
            Ok(Work { first, again }) => {
                self.attempts.remove(&Wake::Poll);
                // Full answers may have more behind them.
                self.dirty |= !first.is_empty();
                self.again_dirty |= !again.is_empty();
                for item in first.into_iter().chain(again) {
                    if !self.knows(&item.segment.id) {
                        let lane = if is_aside(&item) { &mut self.again } else { &mut self.queue };
                        lane.push_back(Queued { item, accept_schema: false });
                    }
                }
            }
            Err(error) => {
                self.polling = true;
                self.try_again(Wake::Poll, "asking for work", error, out);
            }
        }
        let ending = self.settings.once && self.caught_up;
        if self.asks() == (false, false) && !self.polling && !ending {
            self.polling = true;
            out.push(Effect::WakeAfter(Wake::Poll, self.settings.poll));
        }
    }

    /// Before all others of its lane.
    pub(super) fn requeue(&mut self, queued: Queued) {
        let lane = if is_aside(&queued.item) { &mut self.again } else { &mut self.queue };
        lane.push_front(queued);
    }

    /// The next segment of a lane. What is refined again waits while another revision is about to serve: whoever asks after a deployment
    /// means the new one, unless they said which one. It waits while it has its share of the workers, too. What was never refined waits for
    /// no revision, as production does not.
    fn next_of(&self, again: bool) -> Option<&Queued> {
        if !again {
            return self.queue.front();
        }
        self.again.front().filter(|next| {
            let Terms { revision, workers } = next.item.terms;
            let has_room = workers.is_none_or(|most| self.running_again() < most.get() as usize);
            let may = revision.is_some() || next.item.history || !self.changes_revision();
            has_room && may && self.binding_of(next).is_some()
        })
    }

    fn running_again(&self) -> usize {
        let groups = self.building.iter().chain(&self.sealed).filter(|group| group.again);
        groups.map(|group| group.running.len()).sum()
    }

    /// The revision that was deployed last is being bound, or is to be tried again.
    fn changes_revision(&self) -> bool {
        self.awaited && (self.making.is_some() || self.attempts.contains_key(&Wake::Bind))
    }

    /// Whether a new group is one of segments that are refined again.
    fn turns_to_again(&self) -> bool {
        self.next_of(true).is_some() && (self.queue.is_empty() || self.groups_since_again + 1 >= AGAIN_EVERY)
    }

    pub(super) fn dispatch(&mut self, now: Now<'_>, out: &mut Vec<Effect>) {
        if self.serving.is_none() {
            return;
        }
        // A binding for the active revision is on its way: what is in work goes on, nothing new begins under a schema
        // that is about to change.
        if self.stopping || !self.growing.is_empty() {
            return;
        }
        while self.running() < self.settings.workers && self.sealed.len() < 2 {
            let again = self.building.as_ref().map_or_else(|| self.turns_to_again(), |group| group.again);
            let other_waits = self.next_of(!again).is_some();
            let ends = match (&self.building, self.next_of(again)) {
                (None, None) => return,
                (None, Some(_)) => false,
                (Some(_), None) if !other_waits => return,
                // It waits for a revision, or has its share: production need not wait for that.
                (Some(_), None) if again && !self.again.is_empty() => true,
                (Some(_), None) if again && self.changes_revision() => true,
                // More may be on its way, and belong to the same group.
                (Some(_), None) => !self.fetching && !(if again { self.again_dirty } else { self.dirty }),
                (Some(group), Some(next)) => {
                    let share = next.item.terms.workers.map_or(usize::MAX, |most| most.get() as usize);
                    let makes_room = again && other_waits && group.len() >= self.settings.workers.min(share);
                    let other_binding = self.binding_of(next) != Some(group.binding);
                    other_binding || (!group.must_hold(&next.item) && (makes_room || self.is_full(group)))
                }
            };
            if ends {
                self.seal();
                continue;
            }
            let lane = if again { &mut self.again } else { &mut self.queue };
            let Some(next) = lane.pop_front() else { return };
            let Some(binding) = self.binding_of(&next) else { return };
            let Queued { item, accept_schema } = next;
            self.start(now, binding, item, accept_schema, out);
        }
    }

    fn is_full(&self, group: &Group) -> bool {
        group.len() >= self.settings.group_segments || group.bytes >= self.settings.group_bytes
    }

    fn start(&mut self, now: Now<'_>, binding: u64, item: WorkItem, accept_schema: bool, out: &mut Vec<Effect>) {
        let again = is_aside(&item);
        if self.building.is_none() {
            self.building = Some(Group::new(self.next_number, binding, again, now.now));
            self.next_number += 1;
            self.groups_since_again = if again { 0 } else { self.groups_since_again.saturating_add(1) };
            out.push(Effect::WakeAfter(Wake::Age, self.settings.group_age));
        }
        let Some(group) = &mut self.building else { return };
        group.bytes += item.segment.bytes;
        group.running.insert(item.segment.id.clone(), item.clone());
        // A schema grows for the revision that serves.
        let accept_schema = accept_schema || self.serving != Some(binding);
        let job = SegmentJob { item, number: group.number, begun_at: group.begun_at, accept_schema };
        out.push(Effect::Refine { binding, job: Box::new(job) });
    }

    pub(super) fn running(&self) -> usize {
        self.building.iter().chain(&self.sealed).map(|group| group.running.len()).sum()
    }

    /// The ledger may have work that was not fetched, in either lane.
    pub(super) fn look_for_work(&mut self) {
        self.dirty = true;
        self.again_dirty = true;
    }

    pub(super) fn looks_for_work(&self) -> bool {
        self.dirty || self.again_dirty
    }

    /// Which lanes ask the ledger: one with work for all workers, and as much to come, need not.
    fn asks(&self) -> (bool, bool) {
        let enough = self.settings.workers.saturating_mul(2);
        (self.dirty && self.queue.len() < enough, self.again_dirty && self.again.len() < enough)
    }

    pub(super) fn fetch(&mut self, now: Now<'_>, out: &mut Vec<Effect>) {
        if self.settings.once && self.retry_at.is_some_and(|at| at <= now.now) {
            self.retry_at = None;
            self.look_for_work();
        }
        let (first, again) = self.asks();
        let asks = first || again;
        let serving = self.serving.and_then(|id| self.bindings.get(&id)).map(|bound| bound.revision);
        let revision = serving.or(self.revision.map(|(revision, _)| revision));
        let Some(revision) = revision.filter(|_| asks && !self.fetching && !self.stopping && self.broken.is_none())
        else {
            return;
        };
        self.fetching = true;
        self.dirty &= !first;
        self.again_dirty &= !again;
        let many = u32::try_from(self.settings.group_segments.clamp(16, 512)).unwrap_or(512);
        // What is taken of the other lane cannot be taken back any more, and keeps later versions waiting: few.
        let few = self.settings.workers.saturating_mul(2).max(2);
        // The first schema is inferred from the beginning of history.
        let few = if self.schema.is_none() { few.max(SAMPLE) } else { few };
        let few = u32::try_from(few).unwrap_or(u32::MAX);
        let (limit, again) = (if first { many } else { 0 }, if again { few } else { 0 });
        out.push(Effect::FetchWork { revision, skip: self.known().cloned().collect(), limit, again });
    }
}
