//! What is refined next: two lanes over the same workers.
//!
//! In the first are segments that nothing was made of yet, in the order of landing: production. In the other is history: segments that
//! failed and are due, then loaded ones that are refined again (heals and replays), both the newest first, and behind them what had
//! landed before the pipeline began, the oldest first: so its schema grows as it did for pipelines that have been there. The other lane
//! has one worker, and more of them as long as production leaves some, or as many as the replay was asked to take; production does not
//! wait for any of them. Whose group is opened is told in `refine::turns`.

use forebay_model::Result;
use forebay_model::load::Terms;

use super::group::Group;
use super::protocol::{BindingId, Effect, Now, Wake, Work};
use super::segment::SegmentJob;
use super::state::{Queued, Refine};

/// The first schema is inferred from so many segments.
pub(super) const SAMPLE: usize = 16;

impl Refine {
    pub(super) fn on_worked(&mut self, result: Result<Work>, out: &mut Vec<Effect>) {
        self.fetching = false;
        self.fetching_first = false;
        match result {
            Ok(Work { first, again }) => {
                self.attempts.remove(&Wake::Poll);
                // Full answers may have more behind them.
                self.dirty |= !first.is_empty();
                self.again_dirty |= !again.is_empty();
                for item in first.into_iter().chain(again) {
                    if !self.knows(&item.segment.id) {
                        let lane = if item.is_aside() { &mut self.again } else { &mut self.queue };
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
        let lane = if queued.item.is_aside() { &mut self.again } else { &mut self.queue };
        lane.push_front(queued);
    }

    /// The next segment of history. What is refined again, or failed, waits while another revision is about to serve: whoever asks after a
    /// deployment means the new one, unless they said which one, and what fails may load under it. It waits while it has its share of
    /// the workers, too. What was never refined waits for no revision, as production does not.
    fn next_of_again(&self) -> Option<&Queued> {
        self.again.front().filter(|next| {
            let Terms { revision, workers } = next.item.terms;
            let has_room = workers.is_none_or(|most| self.running_again() < most.get() as usize);
            has_room && (revision.is_some() || next.item.history || !self.changes_revision())
        })
    }

    fn running_again(&self) -> usize {
        self.behind.iter().map(|group| group.running.len()).sum()
    }

    /// The revision that was deployed last is being bound, or is to be tried again.
    fn changes_revision(&self) -> bool {
        self.awaited && (self.making.is_some() || self.attempts.contains_key(&Wake::Bind))
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
        self.dispatch_first(now, out);
        self.dispatch_again(now, out);
    }

    fn dispatch_first(&mut self, now: Now<'_>, out: &mut Vec<Effect>) {
        while self.running() - self.running_again() < self.settings.workers && self.sealed.len() < 2 {
            let Some(next) = self.queue.front() else { return };
            let Some(binding) = self.binding_of(next) else { return };
            let ends =
                |group: &Group| group.binding != binding || (!group.must_hold(&next.item) && self.is_full(group));
            if self.building.as_ref().is_some_and(ends) {
                self.seal();
                continue;
            }
            let Some(next) = self.queue.pop_front() else { return };
            if self.building.is_none() {
                self.building = Some(self.begin(now, binding));
                out.push(Effect::WakeAfter(Wake::Age, self.settings.group_age));
            }
            let Some(group) = &mut self.building else { return };
            out.push(started(group, next, self.serving));
        }
    }

    fn dispatch_again(&mut self, now: Now<'_>, out: &mut Vec<Effect>) {
        // It has one worker beside those that production has, and more of them while production has none.
        while self.running_again() == 0 || self.running() < self.settings.workers {
            let Some(next) = self.next_of_again() else { return };
            let Some(binding) = self.binding_of(next) else { return };
            let ends =
                |group: &Group| group.binding != binding || (!group.must_hold(&next.item) && self.is_full(group));
            if self.behind.making().is_some_and(ends) {
                self.behind.seal();
            }
            if self.behind.making().is_none() {
                if !self.behind.has_room() {
                    return;
                }
                self.begin_behind(now, binding);
                out.push(Effect::WakeAfter(Wake::Age, self.settings.group_age));
            }
            let Some(next) = self.again.pop_front() else { return };
            let Some(group) = self.behind.making_mut() else { return };
            out.push(started(group, next, self.serving));
        }
    }

    /// The group of the lane of history takes no more segments: there are none, or it is old enough. While production has work
    /// it may grow older, so that there are fewer of them.
    pub(super) fn seal_behind_when_due(&mut self, now: Now<'_>) {
        let Some(group) = self.behind.making() else { return };
        let old = now.now.since(group.begun_at) >= self.settings.group_age
            && (self.is_quiet() || self.behind.is_due(now.now));
        let next_belongs = self.again.front().is_some_and(|next| group.must_hold(&next.item));
        let nothing_comes = self.again.is_empty() && !self.fetching && !self.again_dirty;
        let ends = nothing_comes || self.stopping;
        if (old && !next_belongs) || (ends && group.running.is_empty()) {
            self.behind.seal();
        }
    }

    fn is_full(&self, group: &Group) -> bool {
        group.len() >= self.settings.group_segments || group.bytes >= self.settings.group_bytes
    }

    pub(super) fn running(&self) -> usize {
        self.groups().map(|group| group.running.len()).sum()
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
        self.fetching_first = first;
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

/// A segment goes to a worker, for a group. A schema grows for the revision that serves.
fn started(group: &mut Group, next: Queued, serving: Option<BindingId>) -> Effect {
    let Queued { item, accept_schema } = next;
    group.bytes += item.segment.bytes;
    group.running.insert(item.segment.id.clone(), item.clone());
    let accept_schema = accept_schema || serving != Some(group.binding);
    let job = SegmentJob { item, number: group.number, begun_at: group.begun_at, accept_schema };
    Effect::Refine { binding: group.binding, job: Box::new(job) }
}
