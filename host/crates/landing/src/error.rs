use std::path::PathBuf;

use forebay_model::{Digest, Error, ErrorClass};
use uuid::Uuid;

/// Why the landing zone could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum LandingError {
    /// A name that leads out of the zone, or that is forebay's own.
    #[error("object name {name:?} is not allowed: {why}")]
    Name {
        /// The name.
        name: String,
        /// Why.
        why: &'static str,
    },
    /// A name is written once.
    #[error("object {name} is in the landing zone already")]
    Exists {
        /// The name.
        name: String,
    },
    /// There is no such object.
    #[error("object {name} is not in the landing zone")]
    Missing {
        /// The name.
        name: String,
    },
    /// An object is shorter than what was landed.
    #[error("object {name} has {found} bytes, and bytes up to {wanted} were landed: it is torn or was changed")]
    Torn {
        /// The name.
        name: String,
        /// Its size.
        found: u64,
        /// Where the bytes end that were asked for.
        wanted: u64,
    },
    /// An object is not what was landed.
    #[error("object {name} has sha256 {}, and {} landed: it was changed", found.short(), landed.short())]
    Changed {
        /// The name.
        name: String,
        /// Of its content.
        found: Digest,
        /// Of what landed.
        landed: Digest,
    },
    /// An object is not the one any more that was begun to be read.
    #[error("object {name} was changed while it was read")]
    Replaced {
        /// The name.
        name: String,
    },
    /// A file of forebay's own does not hold what it must.
    #[error("{} cannot be read: {what}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A file of forebay's own has a form that only another version of forebay reads.
    #[error("{} is of version {found}, and this forebay reads version {known}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The version that is known here.
        known: u32,
    },
    /// An envelope is not one, or lacks rows.
    #[error("envelope {name}: {what}")]
    Envelope {
        /// The name.
        name: String,
        /// What is wrong with it.
        what: String,
    },
    /// The zone belongs to another ledger.
    #[error("the landing zone belongs to ledger {owner}, and this is ledger {ledger}")]
    Claimed {
        /// Whose it is.
        owner: Uuid,
        /// Who wanted it.
        ledger: Uuid,
    },
    /// The file system said no.
    #[error("{action} {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// The source's bytes ended with an error; it is passed on as it is.
    #[error(transparent)]
    Body(Error),
    /// The server of the zone's bucket refused, or did not answer; it is passed on as it is.
    #[error(transparent)]
    Bucket(Error),
    /// The caller broke the contract.
    #[error("{0}")]
    Invariant(String),
}

impl LandingError {
    /// Refuses an object that is not what landed.
    pub(crate) fn check(name: &str, found: Digest, landed: Digest) -> Result<()> {
        if found == landed { Ok(()) } else { Err(Self::Changed { name: name.to_owned(), found, landed }) }
    }

    /// What can be done about it.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Name { .. } | Self::Exists { .. } | Self::Invariant(_) => ErrorClass::Bug,
            Self::Missing { .. }
            | Self::Torn { .. }
            | Self::Changed { .. }
            | Self::Replaced { .. }
            | Self::Unreadable { .. }
            | Self::Newer { .. }
            | Self::Envelope { .. }
            | Self::Claimed { .. } => ErrorClass::Operator,
            Self::File { source, .. } => {
                use std::io::ErrorKind::{Interrupted, ResourceBusy, StaleNetworkFileHandle, TimedOut};
                if matches!(source.kind(), Interrupted | ResourceBusy | StaleNetworkFileHandle | TimedOut) {
                    ErrorClass::Retry
                } else {
                    ErrorClass::Operator
                }
            }
            Self::Body(error) | Self::Bucket(error) => error.class(),
        }
    }

    /// What to do next, where it is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        use std::io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
        match self {
            Self::Missing { .. }
            | Self::Torn { .. }
            | Self::Changed { .. }
            | Self::Replaced { .. }
            | Self::Envelope { .. } => Some(
                "restore the object from a backup of the landing zone; nothing but forebay may change what lies there"
                    .to_owned(),
            ),
            Self::Unreadable { path, .. } => {
                Some(format!("restore {} from a backup of the landing zone", path.display()))
            }
            Self::Newer { .. } => Some("use the forebay that wrote it, or a newer one".to_owned()),
            Self::Claimed { .. } => {
                Some("set ledger.url to the ledger that landed here, or landing.url to a new place".to_owned())
            }
            Self::File { path, source, .. } => {
                let path = path.display();
                Some(if matches!(source.kind(), StorageFull | QuotaExceeded) {
                    format!("make space on the disk of {path}")
                } else if matches!(source.kind(), PermissionDenied | ReadOnlyFilesystem) {
                    format!("let forebay read and write {path} and its folder")
                } else {
                    format!("check {path} and its disk")
                })
            }
            Self::Body(error) | Self::Bucket(error) => error.hint().map(str::to_owned),
            Self::Name { .. } | Self::Exists { .. } | Self::Invariant(_) => None,
        }
    }
}

impl From<LandingError> for Error {
    fn from(error: LandingError) -> Self {
        if let LandingError::Body(error) | LandingError::Bucket(error) = error {
            return error;
        }
        let converted = Self::new(error.class(), error.to_string());
        let converted = match error.hint() {
            Some(hint) => converted.with_hint(hint),
            None => converted,
        };
        converted.with_source(error)
    }
}

impl LandingError {
    /// What an answer means to whoever reads one version of an object.
    pub(crate) fn of_reading(name: &str, fault: forebay_s3::Fault) -> Self {
        use forebay_s3::FaultKind::{Condition, Conflict, Missing, MissingUpload, Refused, Unclear};
        match fault.kind {
            Missing => Self::Missing { name: name.to_owned() },
            Condition => Self::Replaced { name: name.to_owned() },
            MissingUpload | Conflict | Unclear | Refused => fault.into(),
        }
    }
}

impl From<forebay_s3::Fault> for LandingError {
    fn from(fault: forebay_s3::Fault) -> Self {
        Self::Bucket(fault.error)
    }
}

pub(crate) type Result<T, E = LandingError> = std::result::Result<T, E>;
