//! Files that are whole and durable or not there.

use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use forebay_disk::{Disk, FolderError, FolderStep, Folders};
use forebay_model::ports::Random;
use forebay_model::{Digest, Timestamp};

use crate::error::{LandingError, Result};
use crate::naming::OWN;

/// The folder of files that are being written.
const TEMPORARY: &str = "tmp";

/// A folder in which names are written once.
#[derive(Debug)]
pub(super) struct Files {
    root: PathBuf,
    disk: Arc<dyn Disk>,
    random: Arc<dyn Random>,
    folders: Folders,
    /// Objects that this process wrote, or has read whole and found to be what landed: as their files were then.
    known: Mutex<HashMap<String, Known>>,
}

/// A file's content, size and last change.
type Known = (Digest, u64, SystemTime);

fn known(file: &File, digest: Digest) -> Option<Known> {
    let found = file.metadata().ok()?;
    Some((digest, found.len(), found.modified().ok()?))
}

/// So many are remembered: what has just landed is refined next, and many segments lie in one envelope.
const KNOWN: usize = 4096;

/// A file that is being written. Locked while it is, so that a sweep can tell it from what a dead process left; gone when
/// it is dropped.
pub(super) struct Temporary {
    pub(super) file: File,
    pub(super) path: PathBuf,
    disk: Arc<dyn Disk>,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Err(error) = self.disk.remove(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "temporary file left for the next sweep");
        }
    }
}

pub(super) fn failed(path: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> LandingError {
    let path = path.to_owned();
    move |source| LandingError::File { path, action, source }
}

impl Files {
    /// Whether a file is as it was when its content was last known.
    pub(super) fn is_known(&self, name: &str, file: &File, digest: Digest) -> bool {
        let Some(now) = known(file, digest) else { return false };
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(name) == Some(&now)
    }

    pub(super) fn know(&self, name: &str, file: &File, digest: Digest) {
        let Some(now) = known(file, digest) else { return };
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= KNOWN {
            all.clear();
        }
        all.insert(name.to_owned(), now);
    }

    pub(super) fn open(disk: Arc<dyn Disk>, root: &Path, random: Arc<dyn Random>) -> Result<Self> {
        disk.create_folder(root).map_err(failed(root, "making the landing folder"))?;
        let root = root.canonicalize().map_err(failed(root, "looking at the landing folder"))?;
        let files = Self::reading(disk, &root, random);
        if let Some(parent) = root.parent() {
            // Also where it was there: who made it may have died before its name was durable.
            files.sync_folder(parent)?;
        }
        files.ensure(&Path::new(OWN).join(TEMPORARY))?;
        Ok(files)
    }

    /// A folder that is only read. It need not be there.
    pub(super) fn reading(disk: Arc<dyn Disk>, root: &Path, random: Arc<dyn Random>) -> Self {
        let folders = Folders::new(root.to_owned(), Arc::clone(&disk));
        Self { root: root.to_owned(), disk, random, folders, known: Mutex::default() }
    }

    /// A name as a path.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Forebay's own folder of that name.
    pub(super) fn own(&self, name: &str) -> PathBuf {
        self.root.join(OWN).join(name)
    }

    /// Starts a file.
    pub(super) fn temporary(&self) -> Result<Temporary> {
        let path = self.own(TEMPORARY).join(self.random.uuid().to_string());
        let file = self.disk.create(&path).map_err(failed(&path, "making a temporary file"))?;
        let temporary = Temporary { file, path, disk: Arc::clone(&self.disk) };
        match temporary.file.try_lock() {
            Ok(()) => Ok(temporary),
            Err(TryLockError::Error(source)) => Err(failed(&temporary.path, "locking a temporary file")(source)),
            Err(TryLockError::WouldBlock) => {
                Err(LandingError::Invariant(format!("temporary file {} is another's", temporary.path.display())))
            }
        }
    }

    /// Puts a finished file under its name, durably; false where the name is taken.
    pub(super) fn place(&self, temporary: Temporary, name: &Path) -> Result<bool> {
        self.disk.sync(&temporary.file, &temporary.path).map_err(failed(&temporary.path, "syncing"))?;
        let folder = name.parent().unwrap_or(Path::new(""));
        let path = self.root.join(name);
        // A link, other than a rename, never takes the place of what is there.
        let mut linked = self.ensure(folder).map(|()| self.disk.link(&temporary.path, &path))?;
        if linked.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            // The folder is gone that was there before: somebody tidied up.
            self.folders.forget();
            linked = self.ensure(folder).map(|()| self.disk.link(&temporary.path, &path))?;
        }
        match linked {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(false),
            Err(source) => return Err(failed(&path, "putting into place")(source)),
        }
        if let Err(error) = self.sync_folder(&self.root.join(folder)) {
            // Whether it is durable is not known, so it is not there.
            let _ = self.disk.remove(&path);
            return Err(error);
        }
        // The name holds it now.
        drop(temporary);
        Ok(true)
    }

    /// Writes a small file of forebay's own; false where there is one already, which is durable then too.
    pub(super) fn write_once(&self, name: &Path, bytes: &[u8]) -> Result<bool> {
        let mut temporary = self.temporary()?;
        temporary.file.write_all(bytes).map_err(failed(&self.root.join(name), "writing"))?;
        let placed = self.place(temporary, name)?;
        if !placed {
            let path = self.root.join(name);
            File::open(&path).and_then(|file| self.disk.sync(&file, &path)).map_err(failed(&path, "syncing"))?;
            self.sync_folder(path.parent().unwrap_or(&self.root))?;
        }
        Ok(placed)
    }

    /// Gives a small file of forebay's own another name in its folder, durably; one that has it already is no error.
    pub(super) fn rename_own(&self, folder: &str, from: &str, to: &str) -> Result<()> {
        let folder = self.own(folder);
        let (from, to) = (folder.join(from), folder.join(to));
        match self.disk.rename(&from, &to) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound && to.exists() => {}
            Err(source) => return Err(failed(&from, "renaming")(source)),
        }
        self.sync_folder(&folder)
    }

    /// Removes an object; one that is gone already is no error.
    pub(super) fn remove(&self, name: &str) -> Result<()> {
        let path = self.path(name);
        self.disk.remove(&path).map_err(failed(&path, "removing"))
    }

    /// Makes a folder of the zone and those above it, durably.
    fn ensure(&self, name: &Path) -> Result<()> {
        self.folders.ensure(&self.root.join(name)).map_err(|error| {
            let FolderError { folder, step, source } = error;
            let action = match step {
                FolderStep::Make => "making folder",
                FolderStep::Sync => "syncing folder",
            };
            failed(&folder, action)(source)
        })
    }

    fn sync_folder(&self, folder: &Path) -> Result<()> {
        self.disk.sync_folder(folder).map_err(failed(folder, "syncing folder"))
    }

    /// Removes temporary files that are older and that nobody writes.
    pub(super) fn sweep(&self, before: Timestamp) -> Result<Vec<String>> {
        let folder = self.own(TEMPORARY);
        let mut swept = Vec::new();
        for path in super::read::names(&folder)? {
            if self.sweep_one(&path, before)?
                && let Some(name) = path.file_name().and_then(std::ffi::OsStr::to_str)
            {
                swept.push(format!("{OWN}/{TEMPORARY}/{name}"));
            }
        }
        swept.sort();
        Ok(swept)
    }

    fn sweep_one(&self, path: &Path, before: Timestamp) -> Result<bool> {
        let file = match File::open(path) {
            Ok(file) => file,
            // Its writer was faster.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(source) => return Err(failed(path, "opening")(source)),
        };
        let written = file.metadata().and_then(|found| found.modified()).map_err(failed(path, "looking at"))?;
        if Timestamp::from_system(written) >= before {
            return Ok(false);
        }
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(false),
            Err(TryLockError::Error(source)) => return Err(failed(path, "locking")(source)),
        }
        self.disk.remove(path).map_err(failed(path, "removing"))?;
        Ok(true)
    }
}
