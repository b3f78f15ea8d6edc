//! The journal's and the identity's form: JSON files of the zone's own folder.

use std::path::Path;

use forebay_model::ports::{JournalEntry, ZoneIdentity};

use crate::error::{LandingError, Result};

/// The version of both forms.
pub(crate) const VERSION: u32 = 1;

/// The name of an entry's file: names sort by the time of landing.
pub(crate) fn entry_name(entry: &JournalEntry) -> String {
    let landed_at = entry.landing.landed_at.to_utc();
    format!("{}-{}.json", landed_at.format("%Y%m%dT%H%M%S%.6fZ"), entry.attempt)
}

/// An entry as it is written.
pub(crate) fn write_entry(entry: &JournalEntry) -> Result<Vec<u8>> {
    serde_json::to_vec(entry).map_err(|error| LandingError::Invariant(format!("a journal entry as JSON: {error}")))
}

/// An entry as it was written.
pub(crate) fn read_entry(path: &Path, bytes: &[u8]) -> Result<JournalEntry> {
    let entry: JournalEntry = read(path, bytes)?;
    version(path, entry.version)?;
    Ok(entry)
}

/// Likewise the identity.
pub(crate) fn write_identity(identity: &ZoneIdentity) -> Result<Vec<u8>> {
    serde_json::to_vec(identity)
        .map_err(|error| LandingError::Invariant(format!("the zone's identity as JSON: {error}")))
}

/// Likewise the identity.
pub(crate) fn read_identity(path: &Path, bytes: &[u8]) -> Result<ZoneIdentity> {
    let identity: ZoneIdentity = read(path, bytes)?;
    version(path, identity.version)?;
    Ok(identity)
}

fn read<T: for<'a> serde::Deserialize<'a>>(path: &Path, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes)
        .map_err(|error| LandingError::Unreadable { path: path.to_owned(), what: error.to_string() })
}

fn version(path: &Path, found: u32) -> Result<()> {
    if found == VERSION {
        return Ok(());
    }
    let what = format!("it is of version {found}, and this forebay reads version {VERSION}");
    Err(LandingError::Unreadable { path: path.to_owned(), what })
}

/// A zone belongs to one ledger.
pub(crate) fn check_owner(owner: &ZoneIdentity, wanted: &ZoneIdentity) -> Result<()> {
    if owner.ledger == wanted.ledger {
        return Ok(());
    }
    Err(LandingError::Claimed { owner: owner.ledger, ledger: wanted.ledger })
}
