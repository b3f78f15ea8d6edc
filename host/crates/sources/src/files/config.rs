//! The settings of a folder.

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use forebay_model::flow::OnChange;
use serde::{Deserialize, Serialize};

use super::error::FilesError;
use crate::patterns::Patterns;

/// `source = { type = "files", url = "inbox" }`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilesConfig {
    /// The folder: a path, relative to the config file, or `file:///…`.
    pub url: String,
    /// Only files whose path in the folder matches one of these patterns are taken. `*` stays within a folder name, `**`
    /// does not.
    #[serde(default = "everything")]
    pub include: Vec<String>,
    /// Files that match one of these are not taken, whatever `include` says.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// What it means that a file changed after it was taken.
    #[serde(default)]
    pub on_change: OnChange,
    /// How often the whole folder is looked through for what a notification missed, in seconds; at least 1.
    #[serde(default = "scan_seconds")]
    pub scan_seconds: u64,
    /// For how long a file must not have changed before it counts as complete, in milliseconds. With `tail`: the least
    /// time between two takes of one file.
    #[serde(default = "settle_milliseconds")]
    pub settle_milliseconds: u64,
    /// With `tail`: for how long a file must not have changed before its last line is taken without a line feed at its
    /// end, in seconds.
    #[serde(default = "partial_line_seconds")]
    pub partial_line_seconds: u64,
    /// How many files one batch holds at most; at least 1.
    #[serde(default = "max_batch_objects")]
    pub max_batch_objects: usize,
    /// How many bytes the files of a batch hold together at most; a single larger file is a batch of its own.
    #[serde(default = "max_batch_bytes")]
    pub max_batch_bytes: u64,
}

fn everything() -> Vec<String> {
    vec!["**".to_owned()]
}
fn scan_seconds() -> u64 {
    10
}
fn settle_milliseconds() -> u64 {
    1000
}
fn partial_line_seconds() -> u64 {
    60
}
fn max_batch_objects() -> usize {
    256
}
fn max_batch_bytes() -> u64 {
    64 << 20
}

impl FilesConfig {
    /// The keys, for hints.
    pub(crate) const KEYS: &[&str] = &[
        "url",
        "include",
        "exclude",
        "on_change",
        "scan_seconds",
        "settle_milliseconds",
        "partial_line_seconds",
        "max_batch_objects",
        "max_batch_bytes",
    ];

    /// A folder with the defaults.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            include: everything(),
            exclude: Vec::new(),
            on_change: OnChange::default(),
            scan_seconds: scan_seconds(),
            settle_milliseconds: settle_milliseconds(),
            partial_line_seconds: partial_line_seconds(),
            max_batch_objects: max_batch_objects(),
            max_batch_bytes: max_batch_bytes(),
        }
    }

    pub(super) fn settle(&self) -> Duration {
        Duration::from_millis(self.settle_milliseconds)
    }

    pub(super) fn scan_every(&self) -> Duration {
        Duration::from_secs(self.scan_seconds)
    }

    pub(super) fn partial_line(&self) -> Duration {
        Duration::from_secs(self.partial_line_seconds)
    }

    pub(super) fn tails(&self) -> bool {
        match self.on_change {
            OnChange::Tail => true,
            OnChange::Replace | OnChange::Append => false,
        }
    }

    /// Checks the settings, without the folder.
    ///
    /// # Errors
    /// Where a number would stand still, or a pattern cannot be read.
    pub fn check(&self) -> Result<(), FilesError> {
        for (key, value) in [
            ("scan_seconds", self.scan_seconds),
            ("max_batch_objects", self.max_batch_objects as u64),
            ("max_batch_bytes", self.max_batch_bytes),
        ] {
            if value == 0 {
                return Err(FilesError::Zero { key });
            }
        }
        self.patterns().map(drop)
    }

    pub(super) fn patterns(&self) -> Result<Patterns, FilesError> {
        Ok(Patterns::new(&self.include, &self.exclude)?)
    }

    /// How the ledger knows the folder: by the relative path that the config has, or else by the path without links. What has
    /// landed from a folder stays known when the config and the folder move together, or the folder becomes a link.
    pub(super) fn identity(&self, folder: &Path) -> PathBuf {
        let url = Path::new(&self.url);
        if self.url.contains("://") || url.is_absolute() {
            return folder.to_owned();
        }
        let relative: PathBuf = url.components().filter(|part| *part != Component::CurDir).collect();
        if relative.as_os_str().is_empty() { PathBuf::from(".") } else { relative }
    }

    /// The folder itself, without links.
    pub(super) fn folder(&self, base_dir: &Path) -> Result<PathBuf, FilesError> {
        let path = if self.url.contains("://") {
            url::Url::parse(&self.url)
                .ok()
                .filter(|url| url.scheme() == "file")
                .and_then(|url| url.to_file_path().ok())
                .ok_or_else(|| FilesError::NotAPath { url: self.url.clone() })?
        } else {
            base_dir.join(&self.url)
        };
        let folder = path.canonicalize().map_err(|source| FilesError::NoFolder { path: path.clone(), source })?;
        if !folder.is_dir() {
            return Err(FilesError::NotAFolder { path });
        }
        Ok(folder)
    }
}
