//! A table's log, as files: what a power cut or a kill left behind, and what a commit said of itself.
//!
//! forebay's own commits cannot tear (see [`super::store`]), but a table may have been written by others, or by a disk that
//! lies about syncing. A torn file at the end of the log is moved aside when the table is opened: nobody can have read it, and
//! a load that it held is open in the ledger and is committed again. A torn file with a commit after it is refused: the table
//! has lost something, and a person must look.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use forebay_disk::Disk;
use forebay_model::{SegmentId, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::WarehouseError;

/// The log's folder in a table.
pub(super) const LOG_FOLDER: &str = "_delta_log";
/// forebay's folder in a table: data files lie in it, and what was moved aside. Vacuum of other engines spares folders that
/// begin with `_`.
pub(super) const OWN_FOLDER: &str = "_forebay";
/// Temporary files of a live process are younger.
const LEFTOVER_AGE: Duration = Duration::from_secs(15 * 60);

/// The key of [`CommitNote`] in a commit's information.
pub(super) const NOTE: &str = "forebay";

/// What a load writes into its commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CommitNote {
    pub(super) ledger: Uuid,
    pub(super) pipeline: String,
    pub(super) load: u64,
    pub(super) id: Uuid,
    pub(super) revision: String,
    /// The version that the commit makes.
    pub(super) version: u64,
    pub(super) rows_added: u64,
    pub(super) rows_removed: u64,
    /// The segments whose former rows it removes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) replaces: Vec<SegmentId>,
    /// Whether a replay asked for the revision.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) chosen: bool,
    /// Actions of the commit besides its information: so that a file cut at a line's end is known to be torn.
    pub(super) actions: usize,
}

/// What is in a commit's file.
#[derive(Debug)]
enum Entry {
    Whole(Option<CommitNote>),
    Torn,
}

fn entry_path(table: &Path, version: u64) -> PathBuf {
    table.join(LOG_FOLDER).join(format!("{version:020}.json"))
}

fn parse(bytes: &[u8]) -> Entry {
    #[derive(Deserialize)]
    struct Line {
        #[serde(rename = "commitInfo")]
        info: Option<serde_json::Value>,
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return Entry::Torn };
    let (mut lines, mut note) = (0, None);
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let Ok(Line { info }) = serde_json::from_str::<Line>(line) else { return Entry::Torn };
        lines += 1;
        if let Some(found) = info.as_ref().and_then(|info| info.get(NOTE)) {
            note = CommitNote::deserialize(found).ok();
        }
    }
    let short = note.as_ref().is_some_and(|note| lines != note.actions + 1);
    if lines == 0 || short { Entry::Torn } else { Entry::Whole(note) }
}

/// The note of the last load of this ledger and pipeline, going back from `version` as far as the log does.
pub(super) fn last_note(
    table: &Path,
    version: u64,
    ledger: Uuid,
    pipeline: &str,
) -> Result<Option<CommitNote>, WarehouseError> {
    for version in (0..=version).rev() {
        let path = entry_path(table, version);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(WarehouseError::io("read", &path)(error)),
        };
        if let Entry::Whole(Some(note)) = parse(&bytes)
            && note.ledger == ledger
            && note.pipeline == pipeline
        {
            return Ok(Some(note));
        }
    }
    Ok(None)
}

/// What the commits that the log still has say of their loads, oldest first, and when they were made.
pub(super) fn notes(table: &Path) -> Result<Vec<(CommitNote, Option<Timestamp>)>, WarehouseError> {
    let mut notes = Vec::new();
    for version in commit_versions(table)? {
        let path = entry_path(table, version);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            // The log's old end was cleaned up meanwhile.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(WarehouseError::io("read", &path)(error)),
        };
        if let Entry::Whole(Some(note)) = parse(&bytes) {
            notes.push((note, committed_at(&bytes)));
        }
    }
    Ok(notes)
}

/// When a commit says that it was made.
fn committed_at(bytes: &[u8]) -> Option<Timestamp> {
    #[derive(Deserialize)]
    struct Line {
        #[serde(rename = "commitInfo")]
        info: Info,
    }
    #[derive(Deserialize)]
    struct Info {
        timestamp: i64,
    }
    let mut lines = std::str::from_utf8(bytes).ok()?.lines();
    let millis = lines.find_map(|line| serde_json::from_str::<Line>(line).ok())?.info.timestamp;
    Some(Timestamp::from_micros(millis.saturating_mul(1000)))
}

/// The versions whose commits the log still has.
pub(super) fn commit_versions(table: &Path) -> Result<Vec<u64>, WarehouseError> {
    let folder = table.join(LOG_FOLDER);
    let mut versions: Vec<u64> = names_in(&folder)?
        .iter()
        .filter_map(|name| name.strip_suffix(".json").filter(|stem| stem.len() == 20)?.parse().ok())
        .collect();
    versions.sort_unstable();
    Ok(versions)
}

fn names_in(folder: &Path) -> Result<Vec<String>, WarehouseError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(WarehouseError::io("list", folder)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(WarehouseError::io("list", folder))?;
        if let Ok(name) = entry.file_name().into_string() {
            names.push(name);
        }
    }
    Ok(names)
}

/// Puts a table's log in order after a crash; returns the version that was moved aside.
pub(super) fn repair(name: &str, table: &Path, disk: &dyn Disk, now: Timestamp) -> Result<Option<u64>, WarehouseError> {
    sweep_leftovers(name, table, disk, now)?;
    let versions = commit_versions(table)?;
    let mut newest = versions.iter().rev().copied();
    let Some(last) = newest.next() else { return Ok(None) };
    let torn = is_torn(table, last)?;
    // Whoever made the last commit had read the one before: if that is torn, something that was answered is lost.
    if let Some(before) = newest.next()
        && is_torn(table, before)?
    {
        return Err(WarehouseError::Refused {
            table: name.to_owned(),
            what: format!(
                "commit {before} is torn, and another stands on it: rows are missing ({})",
                entry_path(table, before).display()
            ),
            hint: "restore the file from a backup; or move the table's folder away and run `forebay recover --replace --refine-all`",
        });
    }
    if !torn {
        return Ok(None);
    }
    move_aside(table, last, disk, now)?;
    tracing::warn!(table = name, version = last, "torn commit moved aside");
    Ok(Some(last))
}

fn is_torn(table: &Path, version: u64) -> Result<bool, WarehouseError> {
    let path = entry_path(table, version);
    let bytes = fs::read(&path).map_err(WarehouseError::io("read", &path))?;
    Ok(matches!(parse(&bytes), Entry::Torn))
}

fn move_aside(table: &Path, version: u64, disk: &dyn Disk, now: Timestamp) -> Result<(), WarehouseError> {
    let path = entry_path(table, version);
    let folder = table.join(OWN_FOLDER).join("torn");
    disk.create_folder(&folder).map_err(WarehouseError::io("create", &folder))?;
    let to = folder.join(format!("{version:020}.json.{}", now.as_micros()));
    disk.rename(&path, &to).map_err(WarehouseError::io("move aside", &path))?;
    for folder in [Some(folder.as_path()), path.parent()].into_iter().flatten() {
        disk.sync_folder(folder).map_err(WarehouseError::io("sync", folder))?;
    }
    Ok(())
}

/// Removes temporary files (`N.json#123`) that a killed process left.
fn sweep_leftovers(name: &str, table: &Path, disk: &dyn Disk, now: Timestamp) -> Result<(), WarehouseError> {
    let folder = table.join(LOG_FOLDER);
    for leftover in names_in(&folder)? {
        let Some((_, number)) = leftover.split_once('#') else { continue };
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        let path = folder.join(&leftover);
        let written = fs::metadata(&path).and_then(|meta| meta.modified()).map(Timestamp::from_system);
        if written.is_ok_and(|written| now.since(written) >= LEFTOVER_AGE) {
            disk.remove(&path).map_err(WarehouseError::io("remove", &path))?;
            tracing::info!(table = name, file = leftover, "leftover of a killed commit removed");
        }
    }
    Ok(())
}

/// All Parquet files below a table, relative to it, with their size and time. Not the log's own.
pub(super) fn data_files(table: &Path) -> Result<BTreeMap<String, (u64, Timestamp)>, WarehouseError> {
    let mut found = BTreeMap::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        for name in names_in(&table.join(&folder))? {
            let relative = format!("{folder}{name}");
            let path = table.join(&relative);
            let meta = match fs::symlink_metadata(&path) {
                Ok(meta) => meta,
                // Somebody removed it meanwhile.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(WarehouseError::io("look at", &path)(error)),
            };
            if meta.is_dir() && relative != LOG_FOLDER {
                folders.push(format!("{relative}/"));
            } else if meta.is_file() && name.ends_with(".parquet") {
                let written = meta.modified().map_err(WarehouseError::io("look at", &path))?;
                found.insert(relative, (meta.len(), Timestamp::from_system(written)));
            }
        }
    }
    Ok(found)
}
