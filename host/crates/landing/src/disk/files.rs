//! Files that are whole and durable or not there.

use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use forebay_model::Timestamp;
use forebay_model::ports::Random;

use crate::error::{LandingError, Result};
use crate::naming::OWN;

/// The folder of files that are being written.
const TEMPORARY: &str = "tmp";

/// A folder in which names are written once.
#[derive(Debug)]
pub(super) struct Files {
    root: PathBuf,
    random: Arc<dyn Random>,
    /// Folders whose own entry is known to be durable.
    durable: Mutex<BTreeSet<PathBuf>>,
}

/// A file that is being written. Locked while it is, so that a sweep can tell it from what a dead process left; gone when
/// it is dropped.
pub(super) struct Temporary {
    pub(super) file: File,
    pub(super) path: PathBuf,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "temporary file left for the next sweep");
        }
    }
}

pub(super) fn failed(path: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> LandingError {
    let path = path.to_owned();
    move |source| LandingError::File { path, action, source }
}

impl Files {
    pub(super) fn open(root: &Path, random: Arc<dyn Random>) -> Result<Self> {
        std::fs::create_dir_all(root).map_err(failed(root, "making the landing folder"))?;
        let root = root.canonicalize().map_err(failed(root, "looking at the landing folder"))?;
        let files = Self { root, random, durable: Mutex::default() };
        if let Some(parent) = files.root.parent() {
            sync_folder(parent)?;
        }
        files.folder(&Path::new(OWN).join(TEMPORARY))?;
        Ok(files)
    }

    /// A folder that is only read. It need not be there.
    pub(super) fn reading(root: &Path, random: Arc<dyn Random>) -> Self {
        Self { root: root.to_owned(), random, durable: Mutex::default() }
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
        let file = File::options()
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(failed(&path, "making a temporary file"))?;
        let temporary = Temporary { file, path };
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
        temporary.file.sync_all().map_err(failed(&temporary.path, "syncing"))?;
        let folder = name.parent().unwrap_or(Path::new(""));
        let path = self.root.join(name);
        // A link, other than a rename, never takes the place of what is there.
        let mut linked = self.folder(folder).map(|()| std::fs::hard_link(&temporary.path, &path))?;
        if linked.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            // The folder is gone that was there before: somebody tidied up.
            self.durable.lock().unwrap_or_else(PoisonError::into_inner).clear();
            linked = self.folder(folder).map(|()| std::fs::hard_link(&temporary.path, &path))?;
        }
        match linked {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(false),
            Err(source) => return Err(failed(&path, "putting into place")(source)),
        }
        if let Err(error) = sync_folder(&self.root.join(folder)) {
            // Whether it is durable is not known, so it is not there.
            let _ = std::fs::remove_file(&path);
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
            File::open(&path).and_then(|file| file.sync_all()).map_err(failed(&path, "syncing"))?;
            sync_folder(path.parent().unwrap_or(&self.root))?;
        }
        Ok(placed)
    }

    /// Gives a small file of forebay's own another name in its folder, durably; one that has it already is no error.
    pub(super) fn rename_own(&self, folder: &str, from: &str, to: &str) -> Result<()> {
        let folder = self.own(folder);
        let (from, to) = (folder.join(from), folder.join(to));
        match std::fs::rename(&from, &to) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound && to.exists() => {}
            Err(source) => return Err(failed(&from, "renaming")(source)),
        }
        sync_folder(&folder)
    }

    /// Makes a folder of the zone and those above it, durably.
    fn folder(&self, name: &Path) -> Result<()> {
        let known =
            |durable: &Mutex<BTreeSet<PathBuf>>| durable.lock().unwrap_or_else(PoisonError::into_inner).contains(name);
        if name.as_os_str().is_empty() || known(&self.durable) {
            return Ok(());
        }
        let above = name.parent().unwrap_or(Path::new(""));
        self.folder(above)?;
        let path = self.root.join(name);
        match std::fs::create_dir(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(source) => return Err(failed(&path, "making folder")(source)),
        }
        // Also where it was there: another process may have made it and died before it was durable.
        sync_folder(&self.root.join(above))?;
        self.durable.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
        Ok(())
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
        match std::fs::remove_file(path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(source) => Err(failed(path, "removing")(source)),
        }
    }
}

fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed(folder, "syncing folder"))
}
