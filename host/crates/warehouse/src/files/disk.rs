use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The calls to a file system that durability depends on, so that a test can cut the power between any two of them.
pub trait Disk: Send + Sync + std::fmt::Debug {
    /// Makes a folder and those that lead to it, durably.
    ///
    /// # Errors
    /// Those of the file system.
    fn create_folder(&self, folder: &Path) -> io::Result<()>;
    /// Begins a file that must not exist, making its folder where it is missing.
    ///
    /// # Errors
    /// Those of the file system.
    fn create(&self, path: &Path) -> io::Result<File>;
    /// Makes a file's bytes durable.
    ///
    /// # Errors
    /// Those of the file system.
    fn sync(&self, file: &File, path: &Path) -> io::Result<()>;
    /// Makes the names in a folder durable.
    ///
    /// # Errors
    /// Those of the file system.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;
    /// Gives a file a second name, which must be free.
    ///
    /// # Errors
    /// Those of the file system; `AlreadyExists` where the name is taken.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives a file another name, taking the place of what has it.
    ///
    /// # Errors
    /// Those of the file system.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file; one that is gone already is no error.
    ///
    /// # Errors
    /// Those of the file system.
    fn remove(&self, path: &Path) -> io::Result<()>;
}

/// The real one.
#[derive(Debug, Clone, Copy, Default)]
pub struct LocalDisk;

impl Disk for LocalDisk {
    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        if folder.is_dir() {
            return Ok(());
        }
        let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty());
        if let Some(parent) = parent {
            self.create_folder(parent)?;
        }
        match fs::create_dir(folder) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        self.sync_folder(parent.unwrap_or(Path::new(".")))
    }

    fn create(&self, path: &Path) -> io::Result<File> {
        match File::create_new(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if let Some(folder) = path.parent() {
                    self.create_folder(folder)?;
                }
                File::create_new(path)
            }
            other => other,
        }
    }

    fn sync(&self, file: &File, _path: &Path) -> io::Result<()> {
        file.sync_all()
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

/// Folders below a root whose own names are durable for certain. A folder that is there may have been made by a process that
/// died before it synced the name: so each is synced once by each process, whoever made it.
#[derive(Debug)]
pub(crate) struct Folders {
    root: PathBuf,
    disk: Arc<dyn Disk>,
    known: Mutex<HashSet<PathBuf>>,
}

impl Folders {
    pub(crate) fn new(root: PathBuf, disk: Arc<dyn Disk>) -> Self {
        Self { root, disk, known: Mutex::default() }
    }

    /// Makes a folder below the root, and its name durable.
    pub(crate) fn ensure(&self, folder: &Path) -> io::Result<()> {
        // A set of paths is whole after every step, so a panic elsewhere does not harm it.
        let is_known = |path: &Path| self.known.lock().unwrap_or_else(PoisonError::into_inner).contains(path);
        if is_known(folder) {
            return Ok(());
        }
        let below = folder.strip_prefix(&self.root).map_err(io::Error::other)?;
        let mut path = self.root.clone();
        for part in below.components() {
            let parent = path.clone();
            path.push(part);
            if !is_known(&path) {
                self.disk.create_folder(&path)?;
                self.disk.sync_folder(&parent)?;
                self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(path.clone());
            }
        }
        Ok(())
    }
}
