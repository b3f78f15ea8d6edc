//! Whose group is opened next.
//!
//! Groups of the two lanes (`refine::lanes`) are refined side by side, each with its own workers, and are opened one at a time, in the
//! order of their numbers. Rows carry the number, so a group has it when it begins. One of the lane of history takes a number ahead: groups
//! of production that begin meanwhile have the numbers before it, and are opened before it, so that production never waits for it to be
//! refined. Then it waits for its turn:
//! - while production has nothing to refine or to load, at once;
//! - else when [`OVERTAKEN`] groups of production have gone before it, and the last of its lane is [`SHARE`] times as long ago as it took.
//!
//! Once its turn has come, groups that begin have numbers behind it. So production waits while one group is opened and committed,
//! never for more of them than one in four, and, where it always has work, for no more than a tenth of the time.
//!
//! Two things make production wait for a group to be refined, once: more groups than were foreseen began before it was ready (the next
//! one takes a number further ahead), and another binding that comes to serve, since what was refined under a former schema is loaded
//! first.

use std::collections::VecDeque;
use std::time::Duration;

use forebay_model::Timestamp;

use super::group::Group;
use super::protocol::{BindingId, Now};
use super::state::Refine;

/// So many groups of production go before one that is ready.
const OVERTAKEN: u32 = 3;
/// Where production always has work, the time from the end of one group to the turn of the next, in times that the former took.
const SHARE: u32 = 10;
/// So many groups of production may begin while one is refined again, unless there were more before.
const AHEAD: u64 = 64;
/// Groups in the making or ready.
const MOST: usize = 2;

/// Groups of the lane of history, until their turns come.
#[derive(Debug)]
pub(super) struct Behind {
    /// In the order of their numbers.
    groups: VecDeque<Group>,
    /// The last of them takes segments.
    takes_more: bool,
    /// Groups of production that have gone before the first since it was ready.
    overtaken: u32,
    /// How far ahead the next one takes its number.
    ahead: u64,
    /// When the one that is being opened and committed began to be.
    went_at: Option<Timestamp>,
    /// When the last one ended, and how long it took.
    last: Option<(Timestamp, Duration)>,
}

impl Behind {
    pub(super) fn new() -> Self {
        Self { groups: VecDeque::new(), takes_more: false, overtaken: 0, ahead: AHEAD, went_at: None, last: None }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Group> {
        self.groups.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Group> {
        self.groups.iter_mut()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// The one that takes segments.
    pub(super) fn making(&self) -> Option<&Group> {
        self.groups.back().filter(|_| self.takes_more)
    }

    pub(super) fn making_mut(&mut self) -> Option<&mut Group> {
        let takes_more = self.takes_more;
        self.groups.back_mut().filter(|_| takes_more)
    }

    /// Whether another may begin.
    pub(super) fn has_room(&self) -> bool {
        self.groups.len() < MOST
    }

    /// The one in the making takes no more segments.
    pub(super) fn seal(&mut self) {
        self.takes_more = false;
    }

    /// The first, if all of its segments are refined and no more will come.
    fn ready(&self) -> Option<&Group> {
        let first = self.groups.front()?;
        let whole = self.groups.len() > 1 || !self.takes_more;
        (whole && first.running.is_empty()).then_some(first)
    }

    /// Production has had its share of the time since the last one.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        self.last.is_none_or(|(ended, took)| now.since(ended) >= took.saturating_mul(SHARE))
    }
}

impl Refine {
    /// A group of production begins.
    pub(super) fn begin(&mut self, now: Now<'_>, binding: BindingId) -> Group {
        while self.behind.groups.iter().any(|group| group.number == self.next_number) {
            // More than were foreseen: it waits for that one, which ends with what it has, but for the rest of a version.
            let next = self.again.front();
            let ends = |group: &Group| {
                group.number == self.next_number && !next.is_some_and(|next| group.must_hold(&next.item))
            };
            if self.behind.making().is_some_and(ends) {
                self.behind.seal();
            }
            self.next_number += 1;
            self.behind.ahead = self.behind.ahead.saturating_mul(4);
        }
        let group = Group::new(self.next_number, binding, now.now);
        self.next_number += 1;
        group
    }

    /// A group of the lane of history begins.
    pub(super) fn begin_behind(&mut self, now: Now<'_>, binding: BindingId) {
        let last = self.behind.groups.back().map_or(0, |group| group.number + 1);
        let number = self.next_number.max(last).saturating_add(self.behind.ahead);
        self.behind.groups.push_back(Group::new(number, binding, now.now));
        self.behind.takes_more = true;
    }

    /// What begins from now on comes after the groups that there are.
    pub(super) fn stay_behind(&mut self) {
        self.behind.seal();
        let last = self.behind.groups.back().map_or(0, |group| group.number + 1);
        self.next_number = self.next_number.max(last);
    }

    /// Production has nothing to refine and nothing to load, as far as is known.
    pub(super) fn is_quiet(&self) -> bool {
        let nothing_comes = self.queue.is_empty() && !self.dirty && !self.fetching_first;
        // What waits is not begun with any more.
        let ends = self.stopping || self.broken.is_some();
        self.building.is_none() && self.sealed.is_empty() && (nothing_comes || ends)
    }

    /// The number of a group of the lane of history whose turn it is.
    fn turn(&self, now: Now<'_>) -> Option<u64> {
        let ready = self.behind.ready()?;
        let has_come = self.next_number > ready.number;
        let waited = self.behind.overtaken >= OVERTAKEN && self.behind.is_due(now.now);
        (has_come || waited || self.is_quiet()).then_some(ready.number)
    }

    /// The group that is opened next, when it is ready.
    pub(super) fn next_group(&mut self, now: Now<'_>) -> Option<Group> {
        if let Some(went_at) = self.behind.went_at.take() {
            self.behind.last = Some((now.now, now.now.since(went_at)));
        }
        if let Some(number) = self.turn(now) {
            self.next_number = self.next_number.max(number + 1);
            let before = self.building.iter().chain(&self.sealed).any(|group| group.number < number);
            if !before {
                self.behind.overtaken = 0;
                self.behind.went_at = Some(now.now);
                return self.behind.groups.pop_front();
            }
        }
        let first = self.sealed.front().filter(|group| group.running.is_empty())?;
        if self.behind.groups.front().is_some_and(|group| group.number < first.number) {
            return None;
        }
        if self.behind.ready().is_some() {
            self.behind.overtaken = self.behind.overtaken.saturating_add(1);
        }
        self.sealed.pop_front()
    }
}
