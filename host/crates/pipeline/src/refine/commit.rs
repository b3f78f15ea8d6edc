//! The way of a group through ledger and warehouse: written down, committed table by table, marked done.
//!
//! What if the process dies here? Before the group is written down: its files are orphans, its segments are work again. After:
//! the next process finds the group open, and commits each load again; the warehouse knows the ones it has.

use std::collections::BTreeMap;

use forebay_model::load::LoadGroup;
use forebay_model::{LoadReceipt, Result, SegmentId, TableName};

use super::protocol::{Effect, Report, Wake};
use super::state::Refine;

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
}

impl Committing {
    pub(super) fn opening(group: LoadGroup, bytes: u64) -> Self {
        let left = group.loads.iter().map(|load| (load.table.clone(), None)).collect();
        Self { group, bytes, recovery: false, left, receipts: Vec::new() }
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
            Err(error) => self.again(Wake::Open, "writing a load down", error, out),
        }
    }

    pub(super) fn open_again(&mut self, out: &mut Vec<Effect>) {
        out.extend(self.committing.as_ref().map(|committing| Effect::OpenGroup(Box::new(committing.group.clone()))));
    }

    pub(super) fn on_committed(&mut self, table: TableName, result: Result<LoadReceipt>, out: &mut Vec<Effect>) {
        let Some(committing) = &mut self.committing else { return };
        match result {
            Ok(receipt) => {
                self.attempts.remove(&Wake::Commit(table.clone()));
                committing.left.insert(table.clone(), Some(receipt.clone()));
                out.push(Effect::CloseLoad { number: committing.group.number, table, receipt });
            }
            Err(error) => self.again(Wake::Commit(table), "committing a load", error, out),
        }
    }

    pub(super) fn commit_again(&mut self, table: &TableName, out: &mut Vec<Effect>) {
        let Some(committing) = &self.committing else { return };
        let load = committing.group.loads.iter().find(|load| load.table == *table);
        out.extend(load.cloned().map(|load| Effect::Commit(Box::new(load))));
    }

    pub(super) fn on_closed(&mut self, table: TableName, result: Result<()>, out: &mut Vec<Effect>) {
        let Some(committing) = &mut self.committing else { return };
        match result {
            Ok(()) => {
                self.attempts.remove(&Wake::Close(table.clone()));
                if let Some(Some(receipt)) = committing.left.remove(&table) {
                    committing.receipts.push((table, receipt));
                }
                if committing.left.is_empty() {
                    self.group_done(out);
                }
            }
            Err(error) => self.again(Wake::Close(table), "marking a load done", error, out),
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

    fn group_done(&mut self, out: &mut Vec<Effect>) {
        let Some(Committing { group, bytes, recovery, left: _, receipts }) = self.committing.take() else { return };
        // A version that waited for one of the group is work now.
        self.dirty = true;
        out.push(Effect::Report(Report::Loaded { group: Box::new(group), receipts, bytes }));
        if recovery {
            self.commit_recovered(out);
            if self.committing.is_none() {
                self.recovery_done(out);
            }
        }
    }
}
