//! The journal's and the identity's form: JSON files of the zone's own folder.

use std::path::Path;

use forebay_model::ports::{DamagedEntry, Journal, JournalEntry, ZoneIdentity};
use uuid::Uuid;

use crate::error::{LandingError, Result};

/// The version of both forms.
pub(crate) const VERSION: u32 = 1;

/// The name of an entry's file: names sort by the time of landing.
pub(crate) fn entry_name(entry: &JournalEntry) -> String {
    let landed_at = entry.landing.landed_at.to_utc();
    format!("{}-{}.json", landed_at.format("%Y%m%dT%H%M%S%.6fZ"), entry.attempt)
}

/// How the names of entries end.
pub(crate) const ENTRY: &str = ".json";
/// What is put behind the name of a damaged entry that was set aside.
pub(crate) const ASIDE: &str = ".damaged";

/// Whether a file of the journal's folder is an entry.
pub(crate) fn is_entry(name: &str) -> bool {
    name.ends_with(ENTRY)
}

/// The attempt that an entry's name tells, also of one that was set aside.
pub(crate) fn attempt_of(name: &str) -> Option<Uuid> {
    let name = name.strip_suffix(ASIDE).unwrap_or(name).strip_suffix(ENTRY)?;
    let (_, attempt) = name.split_once("Z-")?;
    attempt.parse().ok()
}

/// The time that an entry's name begins with.
fn time_of(name: &str) -> &str {
    name.split_once('-').map_or(name, |(time, _)| time)
}

/// Entries that are read one after the other, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Survey(Journal);

impl Survey {
    /// The next one. What is damaged is noted; what is of a newer version is an error.
    pub(crate) fn take(&mut self, name: &str, path: &Path, bytes: &[u8]) -> Result<()> {
        match read_entry(path, bytes) {
            Ok(entry) => {
                // Two streams may land at one time, and names of one time are in the order of the attempts: of chance.
                let later = |damaged: &&mut DamagedEntry| time_of(&damaged.name) < time_of(name);
                self.0.damaged.iter_mut().filter(later).for_each(|damaged| damaged.last = false);
                self.0.entries.push(entry);
                Ok(())
            }
            Err(LandingError::Unreadable { path: _, what }) => {
                self.0.damaged.push(DamagedEntry {
                    name: name.to_owned(),
                    attempt: attempt_of(name),
                    what,
                    last: true,
                });
                Ok(())
            }
            Err(other) => Err(other),
        }
    }

    pub(crate) fn finish(self) -> Journal {
        self.0
    }
}

/// An entry as it is written.
pub(crate) fn write_entry(entry: &JournalEntry) -> Result<Vec<u8>> {
    serde_json::to_vec(entry).map_err(|error| LandingError::Invariant(format!("a journal entry as JSON: {error}")))
}

/// An entry as it was written.
pub(crate) fn read_entry(path: &Path, bytes: &[u8]) -> Result<JournalEntry> {
    // The version first: a newer form has fields that this one does not know.
    let Versioned { version } = read(path, bytes)?;
    known(path, version)?;
    read(path, bytes)
}

/// Whether what lies under an entry's name is damaged. A newer form is none.
pub(crate) fn is_torn(path: &Path, bytes: &[u8]) -> bool {
    matches!(read_entry(path, bytes), Err(LandingError::Unreadable { .. }))
}

#[derive(serde::Deserialize)]
struct Versioned {
    version: u32,
}

/// Likewise the identity.
pub(crate) fn write_identity(identity: &ZoneIdentity) -> Result<Vec<u8>> {
    serde_json::to_vec(identity)
        .map_err(|error| LandingError::Invariant(format!("the zone's identity as JSON: {error}")))
}

/// Likewise the identity.
pub(crate) fn read_identity(path: &Path, bytes: &[u8]) -> Result<ZoneIdentity> {
    let identity: ZoneIdentity = read(path, bytes)?;
    known(path, identity.version)?;
    Ok(identity)
}

fn read<T: for<'a> serde::Deserialize<'a>>(path: &Path, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes)
        .map_err(|error| LandingError::Unreadable { path: path.to_owned(), what: error.to_string() })
}

fn known(path: &Path, found: u32) -> Result<()> {
    if found == VERSION {
        return Ok(());
    }
    Err(LandingError::Newer { path: path.to_owned(), found, known: VERSION })
}

/// A zone belongs to one ledger.
pub(crate) fn check_owner(owner: &ZoneIdentity, wanted: &ZoneIdentity) -> Result<()> {
    if owner.ledger == wanted.ledger {
        return Ok(());
    }
    Err(LandingError::Claimed { owner: owner.ledger, ledger: wanted.ledger })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use forebay_model::{StreamName, Timestamp};

    use super::*;

    #[test]
    fn a_torn_entry_is_the_last_where_no_other_is_of_a_later_time() {
        let entry = |seconds: i64, attempt: u128| JournalEntry {
            version: VERSION,
            ledger: Uuid::nil(),
            attempt: Uuid::from_u128(attempt),
            landing: forebay_model::ports::Landing {
                stream: StreamName::new("s").unwrap(),
                attempt: Uuid::from_u128(attempt),
                landed_at: Timestamp::from_micros(seconds * 1_000_000),
                objects: Vec::new(),
                advances: Vec::new(),
            },
            segments: Vec::new(),
        };
        for (seconds, last) in [(7, true), (8, false)] {
            let mut survey = Survey::default();
            let torn = entry_name(&entry(7, 1));
            survey.take(&torn, Path::new(&torn), b"{").unwrap();
            let whole = entry(seconds, 2);
            let name = entry_name(&whole);
            survey.take(&name, Path::new(&name), &write_entry(&whole).unwrap()).unwrap();
            let Journal { entries, damaged } = survey.finish();
            assert_eq!((entries.len(), damaged[0].last), (1, last), "{seconds}");
        }
    }
}
