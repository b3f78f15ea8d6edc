//! Tailed files: which of them was which.
//!
//! A file is followed by its inode and content, not by its name. What the ledger keeps is by name, so after a rotation the
//! new names are written down from the oldest file on: a name whose former file is in the folder under another name waits
//! until that one is in the ledger. A name whose former file is nowhere waits for one more look at the whole folder,
//! because a rename during a look can hide a file from it.

use std::collections::HashMap;
use std::sync::Arc;

use forebay_model::ports::ObjectState;

use super::identity::Known;
use super::scan::{Found, Stamp};

/// What is known of tailed files, by key.
#[derive(Debug, Default)]
pub(super) struct Tails {
    known: HashMap<Arc<str>, Known>,
    /// Under which key each inode was taken last.
    taken_as: HashMap<u64, Arc<str>>,
    /// As the last look at the whole folder found them.
    inode_of: HashMap<Arc<str>, u64>,
    key_of: HashMap<u64, Arc<str>>,
}

/// What to do with a file that is due.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Follow {
    /// It goes on where it ended.
    On,
    /// It had this name before, and goes on where it ended there.
    From(Arc<str>),
    /// It is new.
    New,
    /// It has another name too, under which it is taken.
    Twin,
    /// The file that had the name before must be in the ledger first.
    Hold,
    /// The file that had the name before is not in the folder.
    Orphaned,
}

impl Tails {
    pub(super) fn get(&self, key: &str) -> Option<&Known> {
        self.known.get(key)
    }

    /// The ledger's state of a key.
    pub(super) fn learn(&mut self, key: &Arc<str>, state: &ObjectState) {
        match Known::of(state) {
            Some(known) => {
                let exhausted = self.known.get(key).filter(|old| old.end == known.end && old.version == known.version);
                let exhausted = exhausted.and_then(|old| old.exhausted);
                let inode = known.identity.inode;
                if self.taken(inode).is_none_or(|(_, other)| other.end <= known.end) {
                    self.taken_as.insert(inode, Arc::clone(key));
                }
                self.known.insert(Arc::clone(key), Known { exhausted, ..known });
            }
            None => tracing::warn!(key = &**key, "the ledger's note on the file is of another form; it is taken anew"),
        }
    }

    /// What a look at the whole folder found.
    pub(super) fn present(&mut self, found: &[Found]) {
        self.inode_of = found.iter().map(|found| (Arc::clone(&found.key), found.stamp.inode)).collect();
        self.key_of = found.iter().map(|found| (found.stamp.inode, Arc::clone(&found.key))).collect();
        // What is neither in the folder nor the former name of a file that is may be forgotten.
        let Self { known, taken_as, inode_of, key_of } = self;
        known.retain(|key, known| inode_of.contains_key(key) || key_of.contains_key(&known.identity.inode));
        taken_as.retain(|_, key| known.contains_key(key));
    }

    /// Under which key an inode was taken last, and how far.
    fn taken(&self, inode: u64) -> Option<(&Arc<str>, &Known)> {
        let key = self.taken_as.get(&inode)?;
        self.known.get(key).filter(|known| known.identity.inode == inode).map(|known| (key, known))
    }

    /// Whether nothing was added to the file since it was last opened.
    pub(super) fn exhausted(&self, found: &Found) -> bool {
        self.known.get(&found.key).is_some_and(|known| known.exhausted == Some(found.stamp))
    }

    /// Notes that nothing was added.
    pub(super) fn exhaust(&mut self, key: &str, stamp: Stamp) {
        if let Some(known) = self.known.get_mut(key).filter(|known| known.identity.inode == stamp.inode) {
            known.exhausted = Some(stamp);
        }
    }

    /// What a file is.
    pub(super) fn follow(&self, found: &Found) -> Follow {
        let inode = found.stamp.inode;
        let own = self.known.get(&found.key);
        if own.is_some_and(|own| own.identity.inode == inode) {
            return Follow::On;
        }
        if let Some(former) = own {
            match self.key_of.get(&former.identity.inode) {
                Some(key) if *key != found.key => {
                    let written_down = self.known.get(key).is_some_and(|at| at.identity.inode == former.identity.inode);
                    if !written_down {
                        return Follow::Hold;
                    }
                }
                Some(_) | None => return Follow::Orphaned,
            }
        }
        match self.taken(inode) {
            Some((key, _)) if self.inode_of.get(key) == Some(&inode) => Follow::Twin,
            Some((key, _)) => Follow::From(Arc::clone(key)),
            None => match self.key_of.get(&inode) {
                // Two new names of one file: the one that the look named last is taken.
                Some(key) if *key != found.key && self.inode_of.get(&found.key) == Some(&inode) => Follow::Twin,
                Some(_) | None => Follow::New,
            },
        }
    }
}
