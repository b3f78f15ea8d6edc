//! Durable files: the calls to a file system that promises hang on, behind a port.
//!
//! What a file system was told survives a power cut only where it was synced: the bytes of a file by a sync of the file, its
//! name by a sync of the folder that has it, and so on up. [`Disk`] has exactly these calls, so that a test can cut the power
//! between any two of them. [`LocalDisk`] is the real one. [`ForgetfulDisk`] is its model: the same files, and a memory of what
//! nobody synced, which a power cut takes.

mod folders;
mod forgetful;
mod local;

use std::fs::File;
use std::io;
use std::path::Path;

pub use folders::{FolderError, FolderStep, Folders};
pub use forgetful::{ForgetfulDisk, Left, Lie};
pub use local::LocalDisk;

/// The calls to a file system that durability depends on.
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
