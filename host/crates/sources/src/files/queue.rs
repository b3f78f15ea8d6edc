//! Files that were found and are not delivered yet: first they wait until they are complete, then they are in line.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use forebay_model::Timestamp;

use super::scan::Found;

/// A file that waits or is in line.
#[derive(Debug, Clone)]
pub(super) struct Pending {
    pub(super) found: Found,
    /// From when on it counts as complete, unless it changes before.
    pub(super) due: Timestamp,
    /// When it was found.
    pub(super) first: Timestamp,
    /// With `tail`: up to here there is no line feed.
    pub(super) searched: u64,
    /// With `tail`: the look at the folder in which another file was found under this name.
    pub(super) replaced_in: Option<u64>,
    in_line: bool,
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    pending: HashMap<Arc<str>, Pending>,
    waiting: BTreeSet<(Timestamp, Arc<str>)>,
    line: VecDeque<Arc<str>>,
}

impl Queue {
    pub(super) fn get(&self, key: &str) -> Option<&Pending> {
        self.pending.get(key)
    }

    pub(super) fn get_mut(&mut self, key: &str) -> Option<&mut Pending> {
        self.pending.get_mut(key)
    }

    /// Adds a file, or notes that it changed; `due` is asked for only where it is new or changed.
    pub(super) fn notice(&mut self, found: Found, now: Timestamp, tail: bool, due: Timestamp) {
        match self.pending.get_mut(&found.key) {
            Some(pending) if pending.found.stamp == found.stamp => pending.found = found,
            Some(pending) => {
                let waits = !pending.in_line;
                // A log that is written to all the time is due a while after its first change.
                let due = if tail { pending.due.min(due) } else { due };
                if waits {
                    self.waiting.remove(&(pending.due, Arc::clone(&found.key)));
                    self.waiting.insert((due, Arc::clone(&found.key)));
                }
                pending.due = due;
                pending.found = found;
            }
            None => {
                self.waiting.insert((due, Arc::clone(&found.key)));
                let key = Arc::clone(&found.key);
                let pending = Pending { found, due, first: now, searched: 0, replaced_in: None, in_line: false };
                self.pending.insert(key, pending);
            }
        }
    }

    /// Puts those that are due in line, oldest first.
    pub(super) fn promote(&mut self, now: Timestamp) {
        let mut promoted = Vec::new();
        while let Some((due, key)) = self.waiting.pop_first() {
            if due > now {
                self.waiting.insert((due, key));
                break;
            }
            if let Some(pending) = self.pending.get_mut(&key) {
                pending.in_line = true;
                promoted.push((pending.found.stamp.mtime_ns, key));
            }
        }
        promoted.sort();
        self.line.extend(promoted.into_iter().map(|(_, key)| key));
    }

    /// The first ones in line; they stay there until [`Queue::leave_line`].
    pub(super) fn first(&self, count: usize) -> Vec<Arc<str>> {
        self.line.iter().take(count).cloned().collect()
    }

    /// Takes the first ones out of the line; they stay pending.
    pub(super) fn leave_line(&mut self, count: usize) {
        self.line.drain(..count.min(self.line.len()));
    }

    /// A file that left the line waits again.
    pub(super) fn wait(&mut self, key: &str, due: Timestamp) {
        let Some((key, _)) = self.pending.get_key_value(key) else { return };
        let key = Arc::clone(key);
        if let Some(pending) = self.pending.get_mut(&key) {
            self.waiting.remove(&(pending.due, Arc::clone(&key)));
            pending.due = due;
            pending.in_line = false;
            self.waiting.insert((due, key));
        }
    }

    /// A file that left the line, or waits, is forgotten.
    pub(super) fn done(&mut self, key: &str) {
        if let Some((key, pending)) = self.pending.remove_entry(key) {
            self.waiting.remove(&(pending.due, key));
        }
    }

    /// Waiting files that were found before a time.
    pub(super) fn found_before(&self, time: Timestamp) -> Vec<Arc<str>> {
        let waiting = self.pending.iter().filter(|(_, pending)| !pending.in_line && pending.first < time);
        waiting.map(|(key, _)| Arc::clone(key)).collect()
    }

    /// When the next one is due.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.waiting.first().map(|(due, _)| *due)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    pub(super) fn nobody_in_line(&self) -> bool {
        self.line.is_empty()
    }
}
