use std::fmt;
use std::path::PathBuf;

use forebay_model::{Error, ErrorClass};

/// Where a ledger is, as people are told it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A file.
    File(PathBuf),
    /// A schema of a database: `postgres://user@host:port/database?schema=forebay`, without its password.
    Schema(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Schema(url) => f.write_str(url),
        }
    }
}

/// Why the ledger could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// It is damaged.
    #[error("ledger {place} is damaged: {what}")]
    Damaged {
        /// Where it is.
        place: Place,
        /// What was found.
        what: String,
    },
    /// It is not there, and was not to be made.
    #[error("there is no ledger at {place}")]
    Missing {
        /// Where it is.
        place: Place,
    },
    /// It is there, and was not to be touched.
    #[error("there is a ledger at {place}")]
    Exists {
        /// Where it is.
        place: Place,
    },
    /// Its write-ahead log is there, and the file itself is not.
    #[error("ledger {} is missing, but its write-ahead log {} is there", path.display(), log.display())]
    LogWithoutLedger {
        /// The file.
        path: PathBuf,
        /// The log.
        log: PathBuf,
    },
    /// A newer forebay made its schema.
    #[error("ledger {place} has schema version {found}, and this forebay knows versions up to {known}")]
    Newer {
        /// Where it is.
        place: Place,
        /// Its version.
        found: i64,
        /// The newest that is known here.
        known: i64,
    },
    /// An older forebay made its schema, and it may not be migrated now.
    #[error("ledger {place} has schema version {found}, this forebay needs {known}, and {why}")]
    Older {
        /// Where it is.
        place: Place,
        /// Its version.
        found: i64,
        /// The version that is needed.
        known: i64,
        /// Why it stays as it is.
        why: &'static str,
    },
    /// The file system said no.
    #[error("ledger {}: {action}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// The database said no.
    #[error("ledger {place}: {action}")]
    Database {
        /// Where it is.
        place: Place,
        /// What was tried.
        action: &'static str,
        /// The class, by the database's code.
        class: ErrorClass,
        /// What to do, where the code tells it.
        hint: Option<String>,
        /// The database's answer.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A server or database that a ledger cannot be in.
    #[error("ledger {place} cannot be there")]
    Unfit {
        /// Where it was to be.
        place: Place,
        /// What would do.
        hint: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Another process moved on.
    #[error("{0}")]
    Fenced(String),
    /// The caller broke the contract, or the ledger's content does.
    #[error("{0}")]
    Invariant(String),
    /// There is another replay into tables with these names.
    #[error("{what}")]
    Side {
        /// What there is.
        what: String,
        /// What to do.
        hint: &'static str,
    },
    /// There is no such documented table.
    #[error("the ledger has no table {name:?}")]
    NoTable {
        /// What was asked for.
        name: String,
    },
}

impl LedgerError {
    /// What can be done about it.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Damaged { .. }
            | Self::Missing { .. }
            | Self::LogWithoutLedger { .. }
            | Self::Newer { .. }
            | Self::Older { .. }
            | Self::Unfit { .. }
            | Self::Side { .. }
            | Self::NoTable { .. } => ErrorClass::Operator,
            Self::File { source, .. } if source.kind() == std::io::ErrorKind::Interrupted => ErrorClass::Retry,
            Self::File { .. } => ErrorClass::Operator,
            Self::Database { class, .. } => *class,
            Self::Exists { .. } | Self::Fenced(_) => ErrorClass::Fenced,
            Self::Invariant(_) => ErrorClass::Bug,
        }
    }

    /// What to do next, where it is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Damaged { place: Place::Schema(_), .. } => Some(
                "stop forebay, and restore the schema from a backup that is not older than its tables, or rebuild it: \
                 `forebay recover --replace` keeps the damaged schema under another name"
                    .to_owned(),
            ),
            Self::Damaged { place: Place::File(path), .. } => Some(format!(
                "stop forebay, and restore {} (with its -wal file, if there is one) from a backup that is not older than its \
                 tables, or rebuild it: `forebay recover --replace` keeps the damaged file under another name",
                path.display()
            )),
            Self::Side { what: _, hint } => Some((*hint).to_owned()),
            Self::Exists { .. } => Some(
                "where it is damaged or too old, `forebay recover --replace` moves it aside and rebuilds it".to_owned(),
            ),
            Self::Missing { .. } => {
                Some("check ledger.url in the config; `forebay run` makes a ledger where nothing has landed yet, and `forebay recover` \
                 rebuilds one that is lost"
                    .to_owned())
            }
            Self::LogWithoutLedger { path, log } => Some(format!(
                "put {} back beside its log {}, or rebuild it: `forebay recover --replace` keeps the log under another name",
                path.display(),
                log.display()
            )),
            Self::Newer { place: Place::Schema(_), .. } => {
                Some("run the forebay that made it, or a newer one; to go back, restore a backup from before the upgrade".to_owned())
            }
            Self::Newer { place: Place::File(_), .. } => {
                Some("run the forebay that made it, or a newer one; to go back, restore the backup that was made before the upgrade".to_owned())
            }
            Self::Older { .. } => Some("stop every forebay that uses it, then start this one with `forebay run`".to_owned()),
            Self::File { path, source, .. } => Some(file_hint(path, source)),
            Self::Unfit { hint, .. } | Self::Database { hint: Some(hint), .. } => Some(hint.clone()),
            Self::Database { place: Place::File(path), class: ErrorClass::Operator, .. } => Some(format!(
                "check that the disk of {} has space, and that forebay may write the file and its folder",
                path.display()
            )),
            Self::NoTable { .. } => Some(format!("the tables are: {}", crate::tables::names().join(", "))),
            Self::Fenced(_) => Some("another forebay works on this ledger: let only one of them run".to_owned()),
            Self::Database { .. } | Self::Invariant(_) => None,
        }
    }

    pub(crate) fn invariant(message: impl Into<String>) -> Self {
        Self::Invariant(message.into())
    }
}

fn file_hint(path: &std::path::Path, source: &std::io::Error) -> String {
    let path = path.display();
    use std::io::ErrorKind::{NotFound, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    let kind = source.kind();
    if matches!(kind, StorageFull | QuotaExceeded) {
        format!("make space on the disk of {path}")
    } else if matches!(kind, PermissionDenied | ReadOnlyFilesystem) {
        format!("let forebay write {path} and its folder")
    } else if kind == NotFound {
        format!("make the folder of {path}, or correct ledger.url in the config")
    } else {
        format!("check {path} and its folder")
    }
}

impl From<LedgerError> for Error {
    fn from(error: LedgerError) -> Self {
        let converted = Self::new(error.class(), error.to_string());
        let converted = match error.hint() {
            Some(hint) => converted.with_hint(hint),
            None => converted,
        };
        converted.with_source(error)
    }
}

pub(crate) type Result<T, E = LedgerError> = std::result::Result<T, E>;
