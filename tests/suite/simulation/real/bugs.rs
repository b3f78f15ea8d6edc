//! Syncs left out on purpose, one by one, under the real stores: the power cuts must find every one of them.
//!
//! A disk that answers a sync and does not do it is what a store is that forgets to ask.

use std::path::Path;
use std::sync::Arc;

use forebay_disk::Lie;

use super::{Bug, Real};
use crate::simulation::clock::SimClock;
use crate::simulation::faults::SimRandom;
use crate::simulation::storage::Storage;
use crate::simulation::world::run;

/// Seeds that it may take to find a bug.
const SEEDS: u64 = 120;

fn is_below(path: &Path, folder: &str) -> bool {
    path.components().any(|part| part.as_os_str() == folder)
}

fn is_object(path: &Path) -> bool {
    is_below(path, "zone") && !is_below(path, "_forebay")
}

fn is_journal(path: &Path) -> bool {
    is_below(path, "zone") && is_below(path, "journal")
}

fn is_staged(path: &Path) -> bool {
    is_below(path, "lake") && is_below(path, "_forebay")
}

fn is_commit(path: &Path) -> bool {
    is_below(path, "_delta_log")
}

/// A test for each sync that is left out, with what is told of it.
macro_rules! found {
    ($($name:ident: $bug:expr, $kind:expr;)*) => {
        $(#[test]
        fn $name() {
            fn make(_: u64, clock: &Arc<SimClock>, random: &Arc<SimRandom>) -> Box<dyn Storage> {
                Box::new(Real::new(clock, random, $bug))
            }
            let told = (0..SEEDS).flat_map(|seed| run(seed, false, make).violations.into_iter().map(move |what| (seed, what)));
            let mut others = Vec::new();
            for (seed, what) in told {
                if $kind.iter().any(|kind| what.contains(kind)) {
                    return println!("{}: found by seed {seed}: {what}", stringify!($name));
                }
                others.push((seed, what));
            }
            panic!("{SEEDS} seeds, and none told of {:?}; they told {others:?}", $kind);
        })*
    };
}

const fn lie(lie: Lie) -> Bug {
    Bug { lie: Some(lie), deaf: false }
}

found! {
    an_object_that_is_listed_before_its_bytes_are_synced_is_found: lie(Lie::Bytes(is_object)),
        ["it is torn or was changed"];
    an_object_that_is_listed_before_its_name_is_synced_is_found: lie(Lie::Names(is_object)),
        ["is listed, and its object is gone"];
    a_journal_entry_whose_bytes_are_not_synced_is_found: lie(Lie::Bytes(is_journal)),
        ["the journal cannot be read"];
    a_journal_entry_whose_name_is_not_synced_is_found: lie(Lie::Names(is_journal)),
        ["the journal has {"];
    a_staged_file_whose_bytes_are_not_synced_is_found: lie(Lie::Bytes(is_staged)),
        ["cannot be read: table"];
    a_staged_file_whose_name_is_not_synced_is_found: lie(Lie::Names(is_staged)),
        ["cannot be read: table"];
    a_commit_whose_bytes_are_not_synced_is_found: lie(Lie::Bytes(is_commit)),
        ["could not read the log of", "is torn, and another stands on it"];
    a_commit_whose_name_is_not_synced_is_found: lie(Lie::Names(is_commit)),
        ["rows are missing; the first is"];
    a_ledger_that_answers_before_its_log_is_synced_is_found: Bug { lie: None, deaf: true },
        ["the ledger is older than its landing zone"];
}
