//! What can go wrong with a folder of files.

use std::io;
use std::path::PathBuf;

use forebay_model::{Error, ErrorClass};

use crate::patterns::PatternError;

/// An error of the files source. Its text names the path.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The folder is not there, or may not be entered.
    #[error("the folder {path:?} cannot be opened: {source}")]
    NoFolder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// `url` leads to something else.
    #[error("{path:?} is not a folder")]
    NotAFolder {
        /// What it is.
        path: PathBuf,
    },
    /// `url` is of another scheme.
    #[error("{url:?} is not a folder on this machine")]
    NotAPath {
        /// As configured.
        url: String,
    },
    /// A pattern that cannot be read.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// A number that must be at least 1.
    #[error("{key} must be at least 1")]
    Zero {
        /// The key.
        key: &'static str,
    },
    /// A file or folder cannot be read.
    #[error("{path:?} cannot be read: {source}")]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A symbolic link that leads out of the folder.
    #[error("the link {path:?} leads out of the folder, to {target:?}; it is not followed")]
    LinkOutside {
        /// The link.
        path: PathBuf,
        /// Where it leads.
        target: PathBuf,
    },
    /// A compressed file where only what is added is to be taken.
    #[error("{path:?} is compressed, so what is added to it cannot be told apart")]
    CompressedTail {
        /// The file.
        path: PathBuf,
    },
    /// It was written to while it was read.
    #[error("{path:?} changed while it was read; it is taken again once it is complete")]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// It was removed between listing and reading.
    #[error("{path:?} was removed before it was read")]
    Removed {
        /// The file.
        path: PathBuf,
    },
    /// More errors than are worth telling one by one.
    #[error("{count} more paths in {folder:?} could not be taken")]
    More {
        /// The folder.
        folder: PathBuf,
        /// How many.
        count: u64,
    },
    /// The thread that reads files is gone.
    #[error("reading in the folder {folder:?} was interrupted: {reason}")]
    Interrupted {
        /// The folder or file.
        folder: PathBuf,
        /// Why.
        reason: String,
    },
}

impl FilesError {
    /// What can be done about it.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::NoFolder { .. }
            | Self::NotAFolder { .. }
            | Self::NotAPath { .. }
            | Self::Pattern(_)
            | Self::Zero { .. }
            | Self::LinkOutside { .. }
            | Self::CompressedTail { .. }
            | Self::More { .. } => ErrorClass::Operator,
            Self::Unreadable { source, .. } => {
                if source.kind() == io::ErrorKind::PermissionDenied {
                    ErrorClass::Operator
                } else {
                    ErrorClass::Retry
                }
            }
            Self::Changed { .. } | Self::Removed { .. } | Self::Interrupted { .. } => ErrorClass::Retry,
        }
    }

    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoFolder { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Some("create the folder, or correct `url`; a relative path is relative to the config file")
            }
            Self::NoFolder { .. } => Some("let the user that forebay runs as enter the folder (r and x)"),
            Self::NotAFolder { .. } => Some("`url` names a folder; use `include` to choose single files in it"),
            Self::NotAPath { .. } => Some("give a path, or file:///path; a bucket needs a source of its own type"),
            Self::Pattern(_) => Some(PatternError::HINT),
            Self::Zero { .. } => Some("leave the key out for its default"),
            Self::Unreadable { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some("let the user that forebay runs as read it, or name it in `exclude`")
            }
            Self::Unreadable { .. } => Some("look at the disk; it is tried again by itself"),
            Self::LinkOutside { .. } => Some(
                "put the file itself into the folder, make its folder a source of its own, or name it in `exclude`",
            ),
            Self::CompressedTail { .. } => {
                Some("name it in `exclude` (for example \"**/*.gz\"), or use on_change = \"replace\"")
            }
            Self::More { .. } => Some("the first ones were told one by one; look for a common cause"),
            Self::Changed { .. } | Self::Removed { .. } | Self::Interrupted { .. } => None,
        }
    }
}

impl From<FilesError> for Error {
    fn from(error: FilesError) -> Self {
        let out = Self::new(error.class(), error.to_string());
        match error.hint() {
            Some(hint) => out.with_hint(hint),
            None => out,
        }
    }
}
