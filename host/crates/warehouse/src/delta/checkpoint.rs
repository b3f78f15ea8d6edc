//! Whether a checkpoint of the log is as it was written.
//!
//! A checkpoint is a Parquet file, and damage in one could have its reader ask for more memory than there is (see
//! [`crate::files`]). Its name is the protocol's, so its digest lies in a file of its own, `_forebay/checkpoints/<name>.sha256`,
//! durable before the checkpoint has its name. It is compared before a reader sees the first byte. A checkpoint without one is
//! another program's, and is read as it is.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use forebay_disk::Disk;
use forebay_model::Digest;

use super::log::{LOG_FOLDER, OWN_FOLDER};
use crate::error::WarehouseError;

const SUFFIX: &str = ".sha256";

/// Where a checkpoint's digest lies; `None` for what is no checkpoint.
pub(super) fn digest_path(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    let log = path.parent()?;
    let is_checkpoint = name.contains(".checkpoint.") && name.ends_with(".parquet") && log.ends_with(LOG_FOLDER);
    is_checkpoint.then(|| digests(log.parent().unwrap_or(log)).join(format!("{name}{SUFFIX}")))
}

fn digests(table: &Path) -> PathBuf {
    table.join(OWN_FOLDER).join("checkpoints")
}

/// Keeps the digest of a checkpoint, durably.
pub(super) fn keep(disk: &dyn Disk, at: &Path, digest: &Digest, bits: u64) -> io::Result<()> {
    let Some(folder) = at.parent() else { return Ok(()) };
    disk.create_folder(folder)?;
    let mut temporary = at.as_os_str().to_owned();
    temporary.push(format!("#{bits}"));
    let temporary = PathBuf::from(temporary);
    let mut file = disk.create(&temporary)?;
    writeln!(file, "{digest}")?;
    disk.sync(&file, &temporary)?;
    disk.rename(&temporary, at)?;
    disk.sync_folder(folder)
}

/// What tells one state of a file from another.
type Stamp = (u64, Option<SystemTime>);

/// Checkpoints that have been compared: a reader asks for each many times.
#[derive(Debug, Default)]
pub(super) struct Compared(Mutex<HashMap<PathBuf, Stamp>>);

impl Compared {
    /// Refuses a checkpoint that is not as it was written.
    pub(super) fn check(&self, path: &Path) -> io::Result<()> {
        let Some(at) = digest_path(path) else { return Ok(()) };
        let wanted = match fs::read_to_string(&at) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let file = match File::open(path) {
            Ok(file) => file,
            // The reader says so itself.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let stamp = file.metadata().map(|meta| (meta.len(), meta.modified().ok()))?;
        if self.with(|compared| compared.get(path) == Some(&stamp)) {
            return Ok(());
        }
        let found = Digest::of_reader(&file)?.to_string();
        if found != wanted.trim() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "checkpoint {} is not as it was written: its SHA-256 is {found}, not what {} says (remove that file if another \
                     program wrote the checkpoint anew)",
                    path.display(),
                    at.display()
                ),
            ));
        }
        self.with(|compared| compared.insert(path.to_path_buf(), stamp));
        Ok(())
    }

    fn with<T>(&self, work: impl FnOnce(&mut HashMap<PathBuf, Stamp>) -> T) -> T {
        // A map that only grows is whole after every step, so a panic elsewhere does not harm it.
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Removes the digests of checkpoints that the log's retention took.
pub(super) fn sweep(table: &Path, disk: &dyn Disk) -> Result<(), WarehouseError> {
    let folder = digests(table);
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(WarehouseError::io("list", &folder)(error)),
    };
    for entry in entries {
        let path = entry.map_err(WarehouseError::io("list", &folder))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        // What a killed process left has no name yet, and what is not ours stays.
        let Some((checkpoint, _)) = name.split_once(SUFFIX) else { continue };
        let of = table.join(LOG_FOLDER).join(checkpoint);
        if !of.try_exists().map_err(WarehouseError::io("look at", &of))? || !name.ends_with(SUFFIX) {
            disk.remove(&path).map_err(WarehouseError::io("remove", &path))?;
        }
    }
    Ok(())
}
