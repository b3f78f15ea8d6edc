//! Orderings broken on purpose, each in a store of the test's own: the simulation must find every one of them.
//!
//! A store that answers before what it did is durable breaks the order of its caller as surely as a caller that does not wait:
//! a zone that answers before it has synced is *ledger before sync*.

mod lake;
mod ledger;
mod zone;

use std::time::Duration;

use forebay_warehouse::MemoryWarehouse;

use self::lake::{ForgetfulLakeStorage, HastyLakeStorage};
use self::ledger::HastyLedgerStorage;
use self::zone::{HastyZoneStorage, Omits};
use super::storage::Models;
use super::world::{MakeStorage, as_clock, run};

/// How long it takes until something hasty is durable after all.
const WINDOW: Duration = Duration::from_millis(800);

/// Seeds that it may take to find a bug.
const SEEDS: u64 = 400;

/// The first seed that finds what is wrong.
fn found(make: MakeStorage) -> (u64, Vec<String>) {
    let failing = (0..SEEDS).map(|seed| (seed, run(seed, false, make).violations));
    let first = failing.into_iter().find(|(_, violations)| !violations.is_empty());
    first.unwrap_or_else(|| panic!("{SEEDS} seeds, and the bug was not found"))
}

#[test]
fn a_zone_that_answers_before_it_has_synced_is_found() {
    let (seed, violations) = found(|_, clock, random| Box::new(HastyZoneStorage::new(Omits::Syncing, clock, random)));
    println!("ledger before sync: found by seed {seed}: {}", violations[0]);
}

#[test]
fn a_sweep_that_leaves_orphans_is_found() {
    let (seed, violations) = found(|_, clock, random| Box::new(HastyZoneStorage::new(Omits::Deleting, clock, random)));
    println!("orphans of the zone: found by seed {seed}: {}", violations[0]);
    assert!(violations.iter().all(|what| what.contains("no ledger lists")), "{violations:?}");
}

#[test]
fn maintenance_that_leaves_staged_files_is_found() {
    // Without a clock no staged file is ever old.
    let (seed, violations) = found(|_, clock, random| {
        Box::new(Models { lake: MemoryWarehouse::new(), ..Models::new(&as_clock(clock), random.as_ref()) })
    });
    println!("orphans of the warehouse: found by seed {seed}: {}", violations[0]);
    assert!(violations.iter().all(|what| what.contains("in none of its tables")), "{violations:?}");
}

#[test]
fn a_ledger_that_answers_before_it_lists_is_found() {
    let (seed, violations) = found(|_, clock, random| Box::new(HastyLedgerStorage::new(clock, random)));
    println!("acknowledged before listed: found by seed {seed}: {}", violations[0]);
}

#[test]
fn a_warehouse_that_answers_before_it_commits_is_found() {
    let (seed, violations) = found(|_, clock, random| Box::new(HastyLakeStorage::new(clock, random)));
    println!("done before committed: found by seed {seed}: {}", violations[0]);
}

#[test]
fn a_warehouse_that_forgets_the_token_is_found() {
    let (seed, violations) = found(|_, clock, random| Box::new(ForgetfulLakeStorage::new(clock, random)));
    println!("token forgotten: found by seed {seed}: {}", violations[0]);
    assert!(violations.iter().any(|what| what.contains("once more")), "rows are doubled: {violations:?}");
}
