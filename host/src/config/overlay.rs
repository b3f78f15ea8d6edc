//! Files that stand in for those of a config: it is checked as it will be, before anything is in place.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where each file lies until it is in place.
#[derive(Debug, Clone, Default)]
pub(crate) struct Overlay(BTreeMap<PathBuf, PathBuf>);

impl Overlay {
    /// `staged` stands in for `place`.
    pub(crate) fn add(&mut self, place: &Path, staged: PathBuf) {
        self.0.insert(plain(place), staged);
    }

    /// What is read where `path` is meant.
    pub(super) fn stands_in(&self, path: &Path) -> PathBuf {
        self.0.get(&plain(path)).cloned().unwrap_or_else(|| path.to_owned())
    }

    /// Files that will lie in a folder, as they will be named.
    pub(super) fn files_in(&self, folder: &Path) -> Vec<PathBuf> {
        let absolute = plain(folder);
        let inside = self.0.keys().filter(|place| place.parent() == Some(&absolute));
        inside.filter_map(|place| Some(folder.join(place.file_name()?))).collect()
    }
}

/// Absolute, without `.`: two ways of writing one path are one.
fn plain(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).components().collect()
}
