//! Orderings broken on purpose, each in a store of the test's own: the simulation must find every one of them, and tell what it
//! does.
//!
//! A store that answers before what it did is durable breaks the order of its caller as surely as a caller that does not wait:
//! a zone that syncs with the entry of the journal, which comes after the listing, is *ledger before sync*.

mod lake;
mod ledger;
mod zone;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use arrow_array::RecordBatch;
use async_trait::async_trait;
use forebay_model::Result;
use forebay_warehouse::MemoryWarehouse;

use self::lake::{ForgetfulLakeStorage, HastyLakeStorage};
use self::ledger::HastyLedgerStorage;
use self::zone::{HastyZoneStorage, Omits};
use super::storage::{Models, Storage, Stores};
use super::tell_of;
use super::world::{MakeStorage, as_clock, message, run};

/// How long it takes until something hasty is durable after all.
const WINDOW: Duration = Duration::from_millis(800);

/// Seeds that it may take to find a bug.
const SEEDS: u64 = 1_500;

/// A row that is there twice, or of a segment that should have none.
const DOUBLED: &str = "is there once more, or should not be there at all";

/// Rows that are lost.
const MISSING: &str = "rows are missing; the first is";

/// A row that is not what it should be.
const OTHER: &str = ", and should be {";

/// Of an object whose last version cannot be read, the former one has its turn.
const FORMER: &str = "is loaded, and should be superseded";

/// Raw data that is lost.
const GONE: &str = "is listed, and its object is gone";

/// Rejects that a heal did not find, so that it failed.
const UNTRIED: &str = "has rejects that the active revision has not tried";

/// A record that is in some of its tables only, of a segment whose heals nobody remembers.
const PARTLY: &str = "which was healed, has rows";

/// Runs seeds until each of `kinds` was the first that one of them told; what they tell first is nothing else.
fn found(what: &str, kinds: &[&str], make: MakeStorage) {
    found_of(what, (kinds, &[]), make);
}

/// The same, where some tell first what few do.
fn found_of(what: &str, (kinds, rare): (&[&str], &[&str]), make: MakeStorage) {
    let mut missing: Vec<_> = kinds.to_vec();
    let mut first = None;
    for seed in 0..SEEDS {
        let violations = run(seed, false, make).violations;
        let Some(told) = violations.into_iter().next() else { continue };
        let known = kinds.iter().chain(rare).any(|kind| told.contains(kind));
        assert!(known, "{what}: seed {seed} tells something else: {told}");
        missing.retain(|kind| !told.contains(kind));
        let (found, told) = first.get_or_insert((seed, told));
        if missing.is_empty() {
            return println!("{what}: found by seed {found}: {told}; all of it by seed {seed}");
        }
    }
    panic!("{what}: {SEEDS} seeds, and nobody found {missing:?}; first was {first:?}");
}

#[test]
fn a_ledger_that_lists_before_the_zone_has_synced_is_found() {
    let make: MakeStorage =
        |_, clock, random| Box::new(HastyZoneStorage::new(Omits::SyncingBeforeListing, clock, random));
    found_of("ledger before sync", (&[GONE, "it is torn or was changed", "landed: it was changed"], &[FORMER]), make);
}

#[test]
fn a_zone_that_answers_before_it_has_synced_is_found() {
    let make: MakeStorage = |_, clock, random| Box::new(HastyZoneStorage::new(Omits::Syncing, clock, random));
    found("synced too late", &[GONE, "it is torn or was changed", "landed: it was changed"], make);
}

#[test]
fn a_sweep_that_leaves_orphans_is_found() {
    let make: MakeStorage = |_, clock, random| Box::new(HastyZoneStorage::new(Omits::Deleting, clock, random));
    found("orphans of the zone", &["is in the zone, and no ledger lists it"], make);
}

#[test]
fn a_withdrawal_that_is_not_kept_is_found() {
    let make: MakeStorage = |_, clock, random| Box::new(HastyZoneStorage::new(Omits::Withdrawals, clock, random));
    // What is there too often, or is another's, was refined under a revision that went back since.
    found_of("withdrawal forgotten", (&[MISSING, PARTLY], &[OTHER, DOUBLED]), make);
}

#[test]
fn maintenance_that_leaves_staged_files_is_found() {
    // Without a clock no staged file is ever old.
    let make: MakeStorage = |_, clock, random| {
        let mut models = Models::new(&as_clock(clock), random.as_ref());
        models.lake = MemoryWarehouse::new();
        Box::new(models)
    };
    found("orphans of the warehouse", &["which is in none of its tables"], make);
}

#[test]
fn a_ledger_that_answers_before_it_lists_is_found() {
    let make: MakeStorage = |_, clock, random| Box::new(HastyLedgerStorage::new(clock, random));
    found(
        "acknowledged before listed",
        // An entry that a death tore is written anew by a ledger that lists it, and this one does not any more.
        &["the ledger is older than its landing zone", "is fenced: its last load is", "the journal cannot be read"],
        make,
    );
}

#[test]
fn a_warehouse_that_answers_before_it_commits_is_found() {
    let make: MakeStorage = |_, clock, random| Box::new(HastyLakeStorage::new(clock, random));
    // Of a replacement that is undone, what it replaced is back: rows of a former load, and such as its revision filters.
    found("done before committed", &[MISSING, OTHER, UNTRIED, DOUBLED], make);
}

#[test]
fn a_warehouse_that_forgets_the_token_is_found() {
    let make: MakeStorage = |_, clock, random| Box::new(ForgetfulLakeStorage::new(clock, random));
    found("token forgotten", &[DOUBLED], make);
}

/// Models whose tables cannot be looked at.
struct Panicking(Models);

#[async_trait]
impl Storage for Panicking {
    async fn open(&self) -> Result<Stores> {
        self.0.open().await
    }

    async fn rows(&self, table: &str) -> Result<Option<RecordBatch>> {
        panic!("{table} is on fire");
    }

    async fn leftovers(&self, tables: &[String]) -> Vec<String> {
        self.0.leftovers(tables).await
    }
}

#[test]
fn a_seed_whose_thread_panics_tells_its_number_and_its_story() {
    let make: MakeStorage = |_, clock, random| Box::new(Panicking(Models::new(&as_clock(clock), random.as_ref())));
    let outcome = run(7, true, make);
    assert_eq!(outcome.violations, ["a thread panicked: p0_out is on fire"]);
    let told = catch_unwind(AssertUnwindSafe(|| tell_of(7, &outcome, "FOREBAY_SEED=7"))).unwrap_err();
    let told = message(told.as_ref());
    assert!(told.contains("── a process starts"), "the story is told: {told}");
    assert!(told.ends_with("seed 7 fails:\n  a thread panicked: p0_out is on fire\nagain: FOREBAY_SEED=7"), "{told}");
}
