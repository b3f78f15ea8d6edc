use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::Disk;

/// What makes a folder durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FolderStep {
    /// To make it.
    Make,
    /// To sync it, for the names in it.
    Sync,
}

/// Why a folder is not there for certain.
#[derive(Debug)]
pub struct FolderError {
    /// The folder.
    pub folder: PathBuf,
    /// What was tried.
    pub step: FolderStep,
    /// The system's answer.
    pub source: io::Error,
}

fn failed(folder: &Path, step: FolderStep) -> impl FnOnce(io::Error) -> FolderError {
    let folder = folder.to_owned();
    move |source| FolderError { folder, step, source }
}

/// Folders below a root whose own names are durable for certain. A folder that is there may have been made by a process that
/// died before it synced the name: so each is synced once by each process, whoever made it.
#[derive(Debug)]
pub struct Folders {
    root: PathBuf,
    disk: Arc<dyn Disk>,
    known: Mutex<HashSet<PathBuf>>,
}

impl Folders {
    /// Knows of none yet but the root, whose own name is its maker's business.
    pub fn new(root: PathBuf, disk: Arc<dyn Disk>) -> Self {
        Self { root, disk, known: Mutex::default() }
    }

    /// Makes a folder below the root, and its name durable.
    ///
    /// # Errors
    /// Those of the file system; a folder that is not below the root.
    pub fn ensure(&self, folder: &Path) -> Result<(), FolderError> {
        if self.with(|known| known.contains(folder)) {
            return Ok(());
        }
        let below =
            folder.strip_prefix(&self.root).map_err(io::Error::other).map_err(failed(folder, FolderStep::Make))?;
        let mut path = self.root.clone();
        for part in below.components() {
            let parent = path.clone();
            path.push(part);
            if !self.with(|known| known.contains(&path)) {
                self.disk.create_folder(&path).map_err(failed(&path, FolderStep::Make))?;
                self.disk.sync_folder(&parent).map_err(failed(&parent, FolderStep::Sync))?;
                self.with(|known| known.insert(path.clone()));
            }
        }
        Ok(())
    }

    /// Forgets which are there: one is gone that was.
    pub fn forget(&self) {
        self.with(HashSet::clear);
    }

    fn with<T>(&self, look: impl FnOnce(&mut HashSet<PathBuf>) -> T) -> T {
        // A set of paths is whole after every step, so a panic elsewhere does not harm it.
        look(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
