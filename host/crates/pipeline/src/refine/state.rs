//! Refine as a state machine: events in, effects out, no I/O, no clock, no threads of its own.
//!
//! What holds at every step:
//! - a segment is in one place: waiting, with a worker, staged in one group, or written down in the ledger;
//! - a group is of one binding (one revision, one schema); groups are opened in the order of their numbers, one at a time;
//! - a group that the ledger has written down goes forward: its loads are committed until the warehouse has them, or refuses
//!   one for good, which takes back what is not done;
//! - the former binding serves until the next one is bound;
//! - a group is of one lane: production, or history (`refine::lanes`); whose turn it is to be opened is told in `refine::turns`.
//!
//! The driver (`refine::driver`) carries effects out and brings their answers back as events; so does a simulation.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use forebay_model::load::LoadGroup;
use forebay_model::ports::{SegmentFailure, WorkItem};
use forebay_model::{Error, PipelineName, Result, RevisionId, SegmentId, StreamSchema, TableName, Timestamp};
use uuid::Uuid;

use super::beside::Beside;
use super::commit::Committing;
use super::group::{BoundSummary, Group, Writer, removes, write_down};
use super::protocol::{BindingId, Effect, Event, Now, Recovered, RefineSettings, Report, Wake};
use super::segment::{SegmentOutcome, StagedSegment};
use super::turns::Behind;
use crate::policy::{Action, ONCE_ATTEMPTS, Scope, decide};

/// The state of one pipeline.
#[derive(Debug)]
pub struct Refine {
    pub(super) pipeline: PipelineName,
    pub(super) ledger: Uuid,
    pub(super) settings: RefineSettings,
    /// It was woken.
    started: bool,
    pub(super) recovered: bool,
    /// The active revision, with its number for people.
    pub(super) revision: Option<(RevisionId, u32)>,
    /// It was deployed and has not served yet; when it does, segments that failed are tried again.
    pub(super) awaited: bool,
    pub(super) schema: Option<StreamSchema>,
    pub(super) inferring: bool,
    pub(super) serving: Option<BindingId>,
    /// A binding that is being made; what asks for it is not asked again.
    pub(super) making: Option<BindingId>,
    /// The time of a binding that is to be tried again came while another was made.
    pub(super) bind_due: bool,
    pub(super) bindings: BTreeMap<BindingId, BoundSummary>,
    /// Revisions that replays asked for and that do not serve.
    pub(super) beside: BTreeMap<RevisionId, Beside>,
    pub(super) next_binding: BindingId,
    pub(super) broken: Option<Error>,
    pub(super) queue: VecDeque<Queued>,
    /// The lane of history: segments that failed, loaded ones that are refined again, and those that had landed before the pipeline began.
    pub(super) again: VecDeque<Queued>,
    /// Segments that wait for the schema to grow.
    pub(super) growing: Vec<WorkItem>,
    /// Production's groups: the one in the making, and those that take no more segments.
    pub(super) building: Option<Group>,
    pub(super) sealed: VecDeque<Group>,
    /// Those of the other lane.
    pub(super) behind: Behind,
    pub(super) finding: Option<(Group, Vec<(WorkItem, StagedSegment)>)>,
    pub(super) committing: Option<Committing>,
    pub(super) recovering: VecDeque<LoadGroup>,
    /// Failures that the ledger does not have yet, and whether each is of a revision that a replay asked for.
    noting: BTreeMap<SegmentId, (SegmentFailure, bool)>,
    pub(super) next_number: u64,
    pub(super) fetching: bool,
    /// The ledger is asked for production's segments.
    pub(super) fetching_first: bool,
    /// The ledger may have segments of production that were not fetched.
    pub(super) dirty: bool,
    /// The same of the lane of history.
    pub(super) again_dirty: bool,
    /// Calls that make failed segments work again, and have not answered.
    pub(super) retrying: u32,
    pub(super) polling: bool,
    pub(super) caught_up: bool,
    pub(super) stopping: bool,
    pub(super) finished: bool,
    pub(super) attempts: BTreeMap<Wake, u32>,
    /// Superseded while a worker has them: what comes of them is thrown away.
    cancelled: BTreeSet<SegmentId>,
    /// With `once`: when a segment that failed is to be tried again.
    pub(super) retry_at: Option<Timestamp>,
    /// Groups in a row that were withdrawn.
    pub(super) withdrawn: u32,
}

/// A segment that waits for a worker.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) item: WorkItem,
    pub(super) accept_schema: bool,
}

impl Refine {
    /// A pipeline that has not started.
    #[must_use]
    pub fn new(pipeline: PipelineName, ledger: Uuid, settings: RefineSettings) -> Self {
        Self {
            pipeline,
            ledger,
            settings,
            started: false,
            recovered: false,
            revision: None,
            awaited: false,
            schema: None,
            inferring: false,
            serving: None,
            making: None,
            bind_due: false,
            bindings: BTreeMap::new(),
            beside: BTreeMap::new(),
            next_binding: 1,
            broken: None,
            queue: VecDeque::new(),
            again: VecDeque::new(),
            growing: Vec::new(),
            building: None,
            sealed: VecDeque::new(),
            behind: Behind::new(),
            finding: None,
            committing: None,
            recovering: VecDeque::new(),
            noting: BTreeMap::new(),
            next_number: 1,
            fetching: false,
            fetching_first: false,
            dirty: true,
            again_dirty: true,
            retrying: 0,
            polling: false,
            caught_up: false,
            stopping: false,
            finished: false,
            attempts: BTreeMap::new(),
            cancelled: BTreeSet::new(),
            retry_at: None,
            withdrawn: 0,
        }
    }

    /// One step. After [`Effect::Finish`] it does nothing.
    pub fn step(&mut self, now: Now<'_>, event: Event) -> Vec<Effect> {
        let mut out = Vec::new();
        if self.finished {
            return out;
        }
        self.handle(now, event, &mut out);
        if !self.finished {
            self.advance(now, &mut out);
        }
        out
    }

    fn handle(&mut self, now: Now<'_>, event: Event, out: &mut Vec<Effect>) {
        match event {
            Event::Start if self.started => {}
            Event::Start => {
                self.started = true;
                out.push(Effect::Recover);
            }
            Event::Recovered(result) => self.on_recovered(result, out),
            Event::Deployed { revision, number } => {
                self.revision = Some((revision, number));
                self.awaited = true;
                self.broken = None;
                self.making = None;
                self.attempts.remove(&Wake::Bind);
                self.retry_before_schema(out);
                self.bind(out);
            }
            Event::Approved => self.bind(out),
            Event::Worked(result) => self.on_worked(result, out),
            Event::Inferred(result) => self.on_inferred(result, out),
            Event::Bound(id, result) => {
                if let Some(result) = self.on_bound_beside(now, id, result, out) {
                    self.on_bound(id, result, out);
                }
            }
            Event::Grown(id, result) => self.on_grown(now, id, result, out),
            Event::Refined(segment, result) => self.on_refined(now, &segment, result, out),
            Event::Found(result) => self.on_found(now, result, out),
            Event::Opened(result) => self.on_opened(result, out),
            Event::Committed(table, result) => self.on_committed(now, table, result, out),
            Event::Closed(table, result) => self.on_closed(now, table, result, out),
            Event::Withdrawn(result) => self.on_withdrawn(result, out),
            Event::Noted(segment, result) => self.on_noted(segment, result, out),
            Event::Woke(wake) => self.on_woke(wake, out),
            Event::Retried(Ok(())) => {
                self.attempts.remove(&Wake::Retry);
                self.retrying = self.retrying.saturating_sub(1);
                self.look_for_work();
            }
            Event::Retried(Err(error)) => {
                self.try_again(Wake::Retry, "letting failed segments be tried again", error, out)
            }
            Event::Landed => self.look_for_work(),
            Event::CaughtUp => {
                self.caught_up = true;
                self.look_for_work();
            }
            Event::Shutdown => self.stopping = true,
        }
    }

    fn on_recovered(&mut self, result: Result<Recovered>, out: &mut Vec<Effect>) {
        match result {
            Ok(Recovered { groups, last_number, schema }) => {
                self.attempts.remove(&Wake::Recover);
                self.next_number = last_number + 1;
                self.schema = schema;
                self.recovering = groups.into();
                self.recovered = true;
                self.retry_before_schema(out);
                self.bind(out);
            }
            Err(error) => self.try_again(Wake::Recover, "recovering", error, out),
        }
    }

    pub(super) fn knows(&self, segment: &SegmentId) -> bool {
        self.known().any(|known| known == segment)
    }

    /// Segments that the ledger need not offer.
    pub(super) fn known(&self) -> impl Iterator<Item = &SegmentId> {
        let groups = self.groups().chain(self.finding.iter().map(|(group, _)| group));
        let staged = self.finding.iter().flat_map(|(_, staged)| staged);
        let opening = self.committing.iter().flat_map(Committing::segments);
        self.queue
            .iter()
            .chain(&self.again)
            .map(|queued| &queued.item.segment.id)
            .chain(self.growing.iter().map(|item| &item.segment.id))
            .chain(
                groups.flat_map(|group| {
                    group.running.keys().chain(group.staged.iter().map(|(item, _)| &item.segment.id))
                }),
            )
            .chain(staged.map(|(item, _)| &item.segment.id))
            .chain(opening)
            .chain(self.noting.keys())
    }

    /// Groups that were not settled, of both lanes.
    pub(super) fn groups(&self) -> impl Iterator<Item = &Group> {
        self.building.iter().chain(&self.sealed).chain(self.behind.iter())
    }

    fn on_refined(&mut self, now: Now<'_>, segment: &SegmentId, result: Result<SegmentOutcome>, out: &mut Vec<Effect>) {
        let cancelled = self.cancelled.remove(segment);
        let Some((group, item)) = self.take_running(segment) else { return };
        match result {
            Ok(SegmentOutcome::Staged(staged)) if cancelled => out.push(Effect::Discard(staged.files)),
            Ok(SegmentOutcome::Staged(staged)) => group.staged.push((item, *staged)),
            Ok(SegmentOutcome::Evolves(_)) | Err(_) if cancelled => {}
            Ok(SegmentOutcome::Evolves(evolution)) => {
                let binding = group.binding;
                self.grow(binding, item, evolution, out);
            }
            Err(error) => {
                let binding = group.binding;
                group.spoiled.push((item.segment.replaces.clone(), error.class()));
                self.fail(now, binding, &item, &error, out);
            }
        }
    }

    /// Takes a segment from its worker; the group that it ran in.
    fn take_running(&mut self, segment: &SegmentId) -> Option<(&mut Group, WorkItem)> {
        self.building
            .iter_mut()
            .chain(&mut self.sealed)
            .chain(self.behind.iter_mut())
            .find_map(|group| group.running.remove(segment).map(|item| (group, item)))
    }

    pub(super) fn fail(
        &mut self,
        now: Now<'_>,
        binding: BindingId,
        item: &WorkItem,
        error: &Error,
        out: &mut Vec<Effect>,
    ) {
        let nobody = forebay_model::Digest::from_bytes([0; 32]);
        let revision = self.bindings.get(&binding).map_or(nobody, |bound| bound.revision);
        self.fail_under(now, revision, item, error, out);
    }

    pub(super) fn fail_under(
        &mut self,
        now: Now<'_>,
        revision: RevisionId,
        item: &WorkItem,
        error: &Error,
        out: &mut Vec<Effect>,
    ) {
        let attempts = item.attempts + 1;
        let retry_at = match decide(Scope::Segment, error.class(), attempts) {
            Action::Again(pause) if !self.settings.once || attempts < ONCE_ATTEMPTS => Some(now.now.plus(pause)),
            Action::Again(_) | Action::WaitForChange | Action::Withdraw(_) => None,
            Action::Stop => {
                self.finish(Err(Error::new(error.class(), error.chain())), out);
                return;
            }
        };
        if let Some(at) = retry_at {
            self.retry_at = Some(self.retry_at.map_or(at, |known| known.min(at)));
        }
        let failure = SegmentFailure {
            segment: item.segment.id.clone(),
            generation: item.generation,
            revision,
            class: error.class(),
            message: error.chain(),
            hint: error.hint().map(ToOwned::to_owned),
            at: now.now,
            retry_at,
        };
        out.push(Effect::Report(Report::SegmentFailed(Box::new(failure.clone()))));
        out.push(Effect::NoteFailure(Box::new(failure.clone())));
        self.noting.insert(failure.segment.clone(), (failure, item.terms.revision.is_some()));
    }

    fn on_noted(&mut self, segment: SegmentId, result: Result<()>, out: &mut Vec<Effect>) {
        match result {
            Ok(()) => {
                self.attempts.remove(&Wake::Note(segment.clone()));
                // What a replay asked for under another revision than the one that serves is no reason.
                let failed = self.noting.remove(&segment).filter(|(_, asked)| !asked);
                let failed_under = failed.map(|(failure, _)| failure.revision);
                // It was in work when another revision came, which has tried what had failed by then.
                let serving = self.serving.and_then(|id| self.bindings.get(&id)).map(|bound| bound.revision);
                let nobody = forebay_model::Digest::from_bytes([0; 32]);
                if serving.is_some() && failed_under.is_some_and(|under| under != nobody && Some(under) != serving) {
                    self.retry_failed(out);
                }
                // A version that waited for this one is work now.
                self.look_for_work();
            }
            Err(error) => self.try_again(Wake::Note(segment), "noting a failure", error, out),
        }
    }

    fn on_woke(&mut self, wake: Wake, out: &mut Vec<Effect>) {
        match wake {
            Wake::Poll => {
                self.polling = false;
                self.look_for_work();
            }
            Wake::Recover => out.push(Effect::Recover),
            Wake::Infer => self.inferring = false,
            Wake::Grow => self.requeue_growing(false),
            // Unless a newer revision came in between.
            Wake::Bind if self.making.is_none() && self.attempts.contains_key(&Wake::Bind) => self.bind(out),
            // One is made at a time: it is due when the growth under way has settled.
            Wake::Bind => self.bind_due = true,
            Wake::Retry => {
                out.push(Effect::RetryFailed { revision: self.revision.map(|(revision, _)| revision) });
            }
            Wake::Age => {}
            Wake::Find => self.find_again(out),
            Wake::Open => self.open_again(out),
            Wake::Commit(table) => self.commit_again(&table, out),
            Wake::Close(table) => self.close_again(&table, out),
            Wake::Withdraw => self.withdraw(out),
            Wake::Note(segment) => {
                let noting = self.noting.get(&segment).cloned();
                out.extend(noting.map(|(failure, _)| Effect::NoteFailure(Box::new(failure))));
            }
        }
    }

    /// The same once more after a pause, or the end: what the policy says.
    pub(super) fn try_again(&mut self, wake: Wake, what: &'static str, error: Error, out: &mut Vec<Effect>) {
        let attempts = self.attempts.entry(wake.clone()).or_insert(0);
        *attempts += 1;
        let give_up = self.settings.once && *attempts >= ONCE_ATTEMPTS;
        match decide(Scope::Load, error.class(), *attempts) {
            Action::Again(pause) if !give_up => {
                let pause = if self.settings.once { pause.min(Duration::from_secs(2)) } else { pause };
                out.push(Effect::Report(Report::Retrying { what, error: error.chain(), pause }));
                out.push(Effect::WakeAfter(wake, pause));
            }
            Action::Again(_) | Action::WaitForChange | Action::Withdraw(_) | Action::Stop => {
                self.finish(Err(error), out);
            }
        }
    }

    pub(super) fn finish(&mut self, result: Result<()>, out: &mut Vec<Effect>) {
        self.finished = true;
        out.push(Effect::Finish(result));
    }

    pub(super) fn seal(&mut self) {
        self.sealed.extend(self.building.take());
    }

    /// Everything that can go on, goes on.
    fn advance(&mut self, now: Now<'_>, out: &mut Vec<Effect>) {
        if !self.started && self.stopping {
            return self.finish(Ok(()), out);
        }
        if !self.recovered {
            return;
        }
        self.commit_recovered(out);
        if self.finished {
            return;
        }
        self.infer(out);
        // A group that came to nothing makes room when it is settled, and nothing else would tell of that.
        self.settle_next(now, out);
        self.bind_beside(out);
        self.dispatch(now, out);
        self.seal_when_due(now, out);
        self.settle_next(now, out);
        self.fetch(now, out);
        out.push(Effect::Report(Report::Waiting(self.known().count() as u64)));
        if !self.finished && self.is_done(now, out) {
            let broken = self.broken.take();
            self.finish(broken.map_or(Ok(()), Err), out);
        }
        self.drop_unused(out);
    }

    fn seal_when_due(&mut self, now: Now<'_>, out: &mut Vec<Effect>) {
        self.seal_behind_when_due(now);
        let Some(group) = &self.building else { return };
        let old = now.now.since(group.begun_at) >= self.settings.group_age;
        let idle = group.running.is_empty()
            && self.queue.is_empty()
            && self.growing.is_empty()
            && !self.fetching_first
            && !self.dirty;
        let next_belongs = self.queue.front().is_some_and(|next| group.must_hold(&next.item));
        if (old && !next_belongs) || idle || (self.stopping && group.running.is_empty()) {
            self.seal();
        } else if old {
            out.push(Effect::WakeAfter(Wake::Age, self.settings.poll));
        }
    }

    fn settle_next(&mut self, now: Now<'_>, out: &mut Vec<Effect>) {
        if self.committing.is_some() || self.finding.is_some() || !self.recovering.is_empty() {
            return;
        }
        while let Some(mut group) = self.next_group(now) {
            let settled = group.settle();
            for staged in settled.superseded {
                out.push(Effect::Discard(staged.files));
            }
            for (item, staged, class) in settled.held_back {
                out.push(Effect::Discard(staged.files));
                // They wait as long as the one that failed does: its version is offered again only as a whole.
                let error = Error::new(
                    class,
                    format!("another segment of {} failed; its segments load together", item.segment.object_key()),
                );
                self.fail(now, group.binding, &item, &error, out);
            }
            if settled.staged.is_empty() {
                continue;
            }
            let removes = removes(&settled.staged);
            self.finding = Some((group, settled.staged));
            if removes.is_empty() {
                self.on_found(now, Ok(Vec::new()), out);
            } else {
                out.push(Effect::FindTables(removes));
            }
            return;
        }
    }

    fn on_found(&mut self, now: Now<'_>, result: Result<Vec<TableName>>, out: &mut Vec<Effect>) {
        let touched = match result {
            Ok(touched) => touched,
            Err(error) => return self.try_again(Wake::Find, "looking for tables", error, out),
        };
        self.attempts.remove(&Wake::Find);
        let Some((group, staged)) = self.finding.take() else { return };
        let Some(bound) = self.bindings.get(&group.binding) else { return };
        let bytes = staged.iter().map(|(_, staged)| staged.bytes).sum();
        let writer = Writer { ledger: self.ledger, pipeline: &self.pipeline, random: now.random };
        let written = write_down(&writer, &group, bound, staged, &touched);
        out.push(Effect::OpenGroup(Box::new(written.clone())));
        self.committing = Some(Committing::opening(written, bytes));
    }

    fn find_again(&mut self, out: &mut Vec<Effect>) {
        if let Some((_, staged)) = &self.finding {
            out.push(Effect::FindTables(removes(staged)));
        }
    }

    /// Segments that the group supersedes are no work any more.
    pub(super) fn forget_superseded(&mut self, superseded: &[SegmentId], out: &mut Vec<Effect>) {
        for lane in [&mut self.queue, &mut self.again] {
            lane.retain(|queued| !superseded.contains(&queued.item.segment.id));
        }
        self.growing.retain(|item| !superseded.contains(&item.segment.id));
        for group in self.building.iter_mut().chain(&mut self.sealed).chain(self.behind.iter_mut()) {
            self.cancelled.extend(superseded.iter().filter(|segment| group.running.contains_key(segment)).cloned());
            let gone = group.staged.extract_if(.., |(item, _)| superseded.contains(&item.segment.id));
            out.extend(gone.map(|(_, staged)| Effect::Discard(staged.files)));
        }
    }

    fn is_done(&mut self, now: Now<'_>, out: &mut Vec<Effect>) -> bool {
        let quiet = self.running() == 0
            && self.building.is_none()
            && self.sealed.is_empty()
            && self.behind.is_empty()
            && self.finding.is_none()
            && self.committing.is_none()
            && self.recovering.is_empty()
            && self.noting.is_empty();
        if self.stopping {
            return quiet;
        }
        if !self.settings.once || !quiet {
            return false;
        }
        if self.broken.is_some() {
            return true;
        }
        let nothing_waits = self.queue.is_empty() && self.again.is_empty() && self.growing.is_empty();
        let empty = self.caught_up && nothing_waits && !self.fetching && !self.looks_for_work();
        let binding = self.making.is_some() || self.attempts.contains_key(&Wake::Bind);
        if !empty || binding || self.inferring || self.retrying > 0 {
            return false;
        }
        if let Some(at) = self.retry_at {
            if !self.polling {
                self.polling = true;
                out.push(Effect::WakeAfter(Wake::Poll, at.since(now.now) + Duration::from_millis(1)));
            }
            return false;
        }
        true
    }

    fn drop_unused(&mut self, out: &mut Vec<Effect>) {
        let used = |id: BindingId| {
            self.serving == Some(id)
                || self.beside.values().any(|beside| *beside == Beside::Bound(id))
                || self.groups().chain(self.finding.iter().map(|(g, _)| g)).any(|group| group.binding == id)
        };
        let unused: Vec<_> = self.bindings.keys().copied().filter(|id| !used(*id)).collect();
        for id in unused {
            self.bindings.remove(&id);
            out.push(Effect::DropBinding(id));
        }
    }

    /// After recovery's last group: bind, now that the tables are as the ledger knows them.
    pub(super) fn recovery_done(&mut self, out: &mut Vec<Effect>) {
        if self.recovering.is_empty() && self.serving.is_none() && self.making.is_none() {
            self.bind(out);
        }
    }
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "tests")]
mod tests;
