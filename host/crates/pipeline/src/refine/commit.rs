//! The way of a group through ledger and warehouse: written down, committed table by table, marked done.
//!
//! What if the process dies here? Before the group is written down: its files are orphans, its segments are work again. After:
//! the next process finds the group open, and commits each load again; the warehouse knows the ones it has. A load that the
//! warehouse refuses for good is refused again, and its group is withdrawn then.

use std::collections::BTreeMap;

use forebay_model::load::{LoadGroup, RefinedSegment};
use forebay_model::ports::SegmentFailure;
use forebay_model::{Error, LoadReceipt, Result, SegmentId, TableName};

use super::protocol::{Effect, Now, Report, Wake};
use super::state::Refine;
use crate::policy::{Action, ONCE_ATTEMPTS, Scope, decide};

/// A group on its way.
#[derive(Debug)]
pub(super) struct Committing {
    /// As written down.
    group: LoadGroup,
    /// Landed bytes of its segments.
    bytes: u64,
    /// Found open at the start.
    pub(super) recovery: bool,
    /// Loads that are not closed: those that the warehouse has, with its word.
    left: BTreeMap<TableName, Option<LoadReceipt>>,
    receipts: Vec<(TableName, LoadReceipt)>,
    /// Loads that the warehouse refuses for good.
    refused: BTreeMap<TableName, Error>,
    /// What is written down of the segments, once the group is being withdrawn.
    failures: Vec<SegmentFailure>,
}

impl Committing {
    pub(super) fn opening(group: LoadGroup, bytes: u64) -> Self {
        let left = group.loads.iter().map(|load| (load.table.clone(), None)).collect();
        Self {
            group,
            bytes,
            recovery: false,
            left,
            receipts: Vec::new(),
            refused: BTreeMap::new(),
            failures: Vec::new(),
        }
    }

    fn recovered(group: LoadGroup) -> Self {
        Self { recovery: true, ..Self::opening(group, 0) }
    }

    pub(super) fn segments(&self) -> impl Iterator<Item = &SegmentId> {
        self.group.segments.iter().map(|segment| &segment.segment)
    }
}

impl Refine {
    pub(super) fn commit_recovered(&mut self, out: &mut Vec<Effect>) {
        if self.committing.is_some() {
            return;
        }
        if let Some(group) = self.recovering.pop_front() {
            let committing = Committing::recovered(group);
            out.extend(committing.group.loads.iter().cloned().map(|load| Effect::Commit(Box::new(load))));
            let nothing_left = committing.left.is_empty();
            self.committing = Some(committing);
            if nothing_left {
                self.group_done(out);
            }
        }
    }

    pub(super) fn on_opened(&mut self, result: Result<()>, out: &mut Vec<Effect>) {
        let Some(committing) = &self.committing else { return };
        match result {
            Ok(()) => {
                self.attempts.remove(&Wake::Open);
                let superseded: Vec<_> =
                    committing.group.segments.iter().flat_map(|segment| segment.replaces.iter().cloned()).collect();
                out.extend(committing.group.loads.iter().cloned().map(|load| Effect::Commit(Box::new(load))));
                let nothing_left = committing.left.is_empty();
                self.forget_superseded(&superseded, out);
                if nothing_left {
                    self.group_done(out);
                }
            }
            Err(error) => self.try_again(Wake::Open, "writing a load down", error, out),
        }
    }

    pub(super) fn open_again(&mut self, out: &mut Vec<Effect>) {
        out.extend(self.committing.as_ref().map(|committing| Effect::OpenGroup(Box::new(committing.group.clone()))));
    }

    pub(super) fn on_committed(
        &mut self,
        now: Now<'_>,
        table: TableName,
        result: Result<LoadReceipt>,
        out: &mut Vec<Effect>,
    ) {
        let Some(committing) = &mut self.committing else { return };
        match result {
            Ok(receipt) => {
                self.attempts.remove(&Wake::Commit(table.clone()));
                committing.left.insert(table.clone(), Some(receipt.clone()));
                out.push(Effect::CloseLoad { number: committing.group.number, table, receipt });
            }
            Err(error) => match decide(Scope::Load, error.class(), 1) {
                Action::Withdraw(_) => {
                    committing.refused.insert(table, error);
                    self.withdraw_when_settled(now, out);
                }
                Action::Again(_) | Action::WaitForChange | Action::Stop => {
                    self.try_again(Wake::Commit(table), "committing a load", error, out);
                }
            },
        }
    }

    pub(super) fn commit_again(&mut self, table: &TableName, out: &mut Vec<Effect>) {
        let Some(committing) = &self.committing else { return };
        let load = committing.group.loads.iter().find(|load| load.table == *table);
        out.extend(load.cloned().map(|load| Effect::Commit(Box::new(load))));
    }

    pub(super) fn on_closed(&mut self, now: Now<'_>, table: TableName, result: Result<()>, out: &mut Vec<Effect>) {
        let Some(committing) = &mut self.committing else { return };
        match result {
            Ok(()) => {
                self.attempts.remove(&Wake::Close(table.clone()));
                if let Some(Some(receipt)) = committing.left.remove(&table) {
                    committing.receipts.push((table, receipt));
                }
                if committing.left.is_empty() {
                    self.group_done(out);
                } else {
                    self.withdraw_when_settled(now, out);
                }
            }
            Err(error) => self.try_again(Wake::Close(table), "marking a load done", error, out),
        }
    }

    pub(super) fn close_again(&mut self, table: &TableName, out: &mut Vec<Effect>) {
        let Some(committing) = &self.committing else { return };
        if let Some(Some(receipt)) = committing.left.get(table) {
            out.push(Effect::CloseLoad {
                number: committing.group.number,
                table: table.clone(),
                receipt: receipt.clone(),
            });
        }
    }

    /// Withdraws the group once nothing of it is under way: each load is done, or refused.
    fn withdraw_when_settled(&mut self, now: Now<'_>, out: &mut Vec<Effect>) {
        let Some(committing) = &mut self.committing else { return };
        let settled = committing.left.keys().all(|table| committing.refused.contains_key(table));
        let Some(error) = committing.refused.values().next().filter(|_| settled) else { return };
        let Action::Withdraw(pause) = decide(Scope::Load, error.class(), 1) else { return };
        self.withdrawn += 1;
        let retry_at = match (self.settings.once, self.withdrawn < ONCE_ATTEMPTS) {
            (true, true) => Some(now.now),
            (true, false) => None,
            (false, _) => Some(now.now.plus(pause)),
        };
        let failure = |segment: &RefinedSegment| SegmentFailure {
            segment: segment.segment.clone(),
            generation: segment.generation,
            revision: committing.group.revision,
            class: error.class(),
            message: error.chain(),
            hint: error.hint().map(ToOwned::to_owned),
            at: now.now,
            retry_at,
        };
        committing.failures = committing.group.segments.iter().map(failure).collect();
        self.withdraw(out);
    }

    pub(super) fn withdraw(&mut self, out: &mut Vec<Effect>) {
        let Some(Committing { group, refused, failures, .. }) = &self.committing else { return };
        let loads = group.loads.iter().filter(|load| refused.contains_key(&load.table)).cloned().collect();
        out.push(Effect::Withdraw { number: group.number, failures: failures.clone(), loads });
    }

    pub(super) fn on_withdrawn(&mut self, result: Result<()>, out: &mut Vec<Effect>) {
        if let Err(error) = result {
            return self.try_again(Wake::Withdraw, "withdrawing a load", error, out);
        }
        self.attempts.remove(&Wake::Withdraw);
        let Some(Committing { failures, .. }) = self.committing.take() else { return };
        for failure in failures {
            if let Some(at) = failure.retry_at {
                self.retry_at = Some(self.retry_at.map_or(at, |known| known.min(at)));
            }
            out.push(Effect::Report(Report::SegmentFailed(Box::new(failure))));
        }
        // The tables are not what the binding expected them to become.
        self.commit_recovered(out);
        self.bind(out);
    }

    fn group_done(&mut self, out: &mut Vec<Effect>) {
        let Some(Committing { group, bytes, recovery, receipts, .. }) = self.committing.take() else { return };
        self.withdrawn = 0;
        // A version that waited for one of the group is work now.
        self.look_for_work();
        // It was on its way when another revision came to serve, which is to try what it rejected as well. What a replay asked for under
        // another one stays as that one made it.
        let serves = self.serving.and_then(|id| self.bindings.get(&id)).map(|bound| bound.revision);
        let own = group.segments.iter().any(|segment| segment.terms.revision.is_none());
        if own && serves.is_some_and(|serves| serves != group.revision) {
            self.retry_failed(out);
        }
        out.push(Effect::Report(Report::Loaded { group: Box::new(group), receipts, bytes }));
        if recovery {
            self.commit_recovered(out);
            if self.committing.is_none() {
                self.recovery_done(out);
            }
        }
    }
}
