//! Orphans of the landing zone: objects that no ledger lists, because the process died, or failed, between landing and listing.
//! They harm nobody and take room.
//!
//! **What is never removed:** what the ledger lists; what the journal says that it listed, also where the ledger was rebuilt
//! without it; all of an attempt whose entry is damaged; what is younger than the age; what a host that runs has written since
//! it started, since it may be about to be listed; files whose names forebay did not make.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use arrow_array::cast::AsArray;
use forebay_model::ports::{JournalEntry, LandingZone, Ledger, ObjectEntry};
use forebay_model::{Error, Result, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::intake::driver::check_journal;

/// The attempt that an object's name holds; `None` for a name that forebay did not make.
pub type AttemptOf = fn(&str) -> Option<Uuid>;

/// Objects that the ledger is asked for at once.
const ASKED: usize = 1000;
/// Missing objects that are told by name.
const NAMED: usize = 10;

/// What is to be swept.
#[derive(Debug, Clone, Copy)]
pub struct SweepOptions {
    /// Only what is older.
    pub age: Duration,
    /// Now.
    pub now: Timestamp,
    /// Since when the host of the zone runs, where one does.
    pub host_since: Option<Timestamp>,
    /// Say what would be done, and do nothing.
    pub dry_run: bool,
}

/// What was swept.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SweepReport {
    /// Objects that no ledger lists.
    pub orphans: u64,
    /// Their bytes.
    pub orphan_bytes: u64,
    /// Files that a dead process was writing; not looked for where nothing is to be done.
    pub temporary: u64,
    /// Objects that are listed and are not in the zone.
    pub missing: u64,
    /// The first of them by name.
    pub missing_names: Vec<String>,
}

/// Removes orphans, and tells what is missing.
///
/// # Errors
/// Class fenced, where the zone is not this ledger's or is ahead of it; what cannot be read or removed.
pub async fn sweep(
    zone: &dyn LandingZone,
    ledger: &dyn Ledger,
    attempt_of: AttemptOf,
    options: SweepOptions,
) -> Result<SweepReport> {
    let SweepOptions { age, now, host_since, dry_run } = options;
    match zone.identity().await? {
        None => return Ok(SweepReport::default()),
        Some(identity) if identity.ledger == ledger.id() => check_journal(zone, ledger).await?,
        Some(identity) => {
            return Err(Error::fenced(format!("the landing zone belongs to ledger {}", identity.ledger))
                .with_hint("nothing of it is removed by another ledger's maintenance"));
        }
    }
    let age = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
    let old = Timestamp::from_micros(now.as_micros().saturating_sub(age));
    let before = host_since.map_or(old, |since| old.min(since));
    let objects = zone.list("").await?;
    let mut report = SweepReport::default();
    let listed = listed(ledger).await?;
    report_missing(&listed, &objects.iter().map(|object| object.name.as_str()).collect(), &mut report);
    let candidates = objects.into_iter().filter(|object| object.modified_at < before && !listed.contains(&object.name));
    let candidates = untold(zone, attempt_of, candidates.collect()).await?;
    for some in candidates.chunks(ASKED) {
        let names: Vec<_> = some.iter().map(|object| object.name.clone()).collect();
        let listed = ledger.objects_listed(&names).await?;
        for (object, _) in some.iter().zip(listed).filter(|(_, listed)| !listed) {
            if !dry_run {
                zone.delete(&object.name).await?;
                tracing::info!(object = object.name, bytes = object.bytes, "orphan removed");
            }
            report.orphans += 1;
            report.orphan_bytes += object.bytes;
        }
    }
    if !dry_run {
        report.temporary = zone.sweep(before).await?.len() as u64;
    }
    Ok(report)
}

/// The objects that the ledger lists.
async fn listed(ledger: &dyn Ledger) -> Result<BTreeSet<String>> {
    let table = ledger.read_table("objects").await?;
    let names = table.column_by_name("object").and_then(|column| column.as_string_opt::<i32>());
    let names = names.ok_or_else(|| Error::bug("ledger.objects has no column object"))?;
    Ok(names.iter().flatten().map(str::to_owned).collect())
}

fn report_missing(listed: &BTreeSet<String>, there: &BTreeSet<&str>, report: &mut SweepReport) {
    for name in listed.iter().filter(|name| !there.contains(name.as_str())) {
        report.missing += 1;
        if report.missing_names.len() < NAMED {
            report.missing_names.push(name.clone());
        }
    }
}

/// Those that the journal does not tell of. It is read only where an attempt of theirs is in it: an attempt lands many objects,
/// and one that failed among them is an orphan.
async fn untold(zone: &dyn LandingZone, attempt_of: AttemptOf, objects: Vec<ObjectEntry>) -> Result<Vec<ObjectEntry>> {
    let journalled = zone.journalled().await?;
    let attempts: Vec<_> = objects.iter().map(|object| attempt_of(&object.name)).collect();
    let mut told = BTreeMap::new();
    if attempts.iter().flatten().any(|attempt| journalled.contains(attempt)) {
        for entry in zone.read_journal(None).await?.entries {
            let JournalEntry { version: _, ledger: _, attempt, landing, segments } = entry;
            // An object without a record has no segment.
            let empty = landing.objects.into_iter().filter(|object| object.segments.is_empty());
            let names: BTreeSet<_> =
                segments.into_iter().map(|segment| segment.object).chain(empty.map(|object| object.name)).collect();
            told.insert(attempt, names);
        }
    }
    let untold = objects.into_iter().zip(attempts).filter(|(object, attempt)| match attempt {
        None => false,
        Some(attempt) if !journalled.contains(attempt) => true,
        // Its entry is damaged where it is not among those that can be read.
        Some(attempt) => told.get(attempt).is_some_and(|names| !names.contains(&object.name)),
    });
    Ok(untold.map(|(object, _)| object).collect())
}
