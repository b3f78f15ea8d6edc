use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};

use deltalake::DeltaTableError;
use deltalake::kernel::transaction::TransactionError;
use forebay_disk::{FolderError, FolderStep};
use forebay_model::ErrorClass;

/// What went wrong in a warehouse. Messages name tables, columns and files, never cell values.
#[derive(Debug, thiserror::Error)]
pub enum WarehouseError {
    /// The table knows a load that this ledger does not, or belongs to another ledger.
    #[error("table {table:?} is fenced: {what}")]
    Fenced {
        /// The table.
        table: String,
        /// What was found.
        what: String,
        /// What to do.
        hint: &'static str,
    },
    /// A person must change something about a table or a request for one.
    #[error("table {table:?}: {what}")]
    Refused {
        /// The table.
        table: String,
        /// What does not fit.
        what: String,
        /// What to do.
        hint: &'static str,
    },
    /// A load can never be committed, and nothing of it is in the table.
    #[error("table {table:?} refuses a load: {what}")]
    LoadRefused {
        /// The table.
        table: String,
        /// What does not fit.
        what: String,
        /// What to do.
        hint: &'static str,
    },
    /// A column that no reader would know.
    #[error("column {column:?} has type {data_type}, which a table cannot keep: {why}")]
    ColumnType {
        /// The column, as a path.
        column: String,
        /// Its Arrow type.
        data_type: String,
        /// Why not.
        why: &'static str,
        /// What to do.
        hint: &'static str,
    },
    /// Names that are the same once forbidden characters are mapped.
    #[error("column {column:?} has two fields that are stored as {name:?}")]
    ColumnName {
        /// The column that holds both, as a path.
        column: String,
        /// The name that both come to.
        name: String,
    },
    /// The Delta log could not be read or written.
    #[error("table {table:?}: could not {doing}")]
    Delta {
        /// The table.
        table: String,
        /// What was tried.
        doing: &'static str,
        /// The cause.
        #[source]
        source: Box<DeltaTableError>,
    },
    /// Another process committed to the table while this one was about to.
    #[error("table {table:?} was changed by another process {times} times while load {number} was being committed")]
    Contended {
        /// The table.
        table: String,
        /// The load.
        number: u64,
        /// How often it was tried.
        times: u32,
    },
    /// The file system.
    #[error("could not {doing} {path:?}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// Where.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A data file could not be written or read.
    #[error("could not {doing} data file {path:?}")]
    DataFile {
        /// What was tried.
        doing: &'static str,
        /// Where.
        path: PathBuf,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A server said no, or does not answer.
    #[error("warehouse {place}: could not {doing}")]
    Server {
        /// Where it is, without its password.
        place: String,
        /// What was tried.
        doing: &'static str,
        /// The class, by the server's code.
        class: ErrorClass,
        /// What to do, where the code tells it.
        hint: Option<String>,
        /// The server's answer.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A value that the warehouse cannot hold.
    #[error("table {table:?}: column {column:?} cannot be written: {why}")]
    Value {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// Why not.
        why: &'static str,
    },
    /// forebay's own fault.
    #[error("{0}")]
    Bug(String),
}

impl From<FolderError> for WarehouseError {
    fn from(error: FolderError) -> Self {
        let FolderError { folder: path, step, source } = error;
        let doing = match step {
            FolderStep::Make => "make",
            FolderStep::Sync => "sync",
        };
        Self::Io { doing, path, source }
    }
}

impl WarehouseError {
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { doing, path, source }
    }

    pub(crate) fn data_file<E>(doing: &'static str, path: &Path) -> impl FnOnce(E) -> Self
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        let path = path.to_path_buf();
        move |source| Self::DataFile { doing, path, source: Box::new(source) }
    }

    pub(crate) fn delta<E: Into<DeltaTableError>>(doing: &'static str, table: &str) -> impl FnOnce(E) -> Self {
        let table = table.to_owned();
        move |source| Self::Delta { table, doing, source: Box::new(source.into()) }
    }

    /// What can be done about it.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Fenced { .. } => ErrorClass::Fenced,
            Self::LoadRefused { .. } => ErrorClass::RejectRows,
            Self::Refused { .. } | Self::ColumnType { .. } | Self::ColumnName { .. } | Self::Value { .. } => {
                ErrorClass::Operator
            }
            Self::Server { class, .. } => *class,
            Self::Contended { .. } => ErrorClass::Retry,
            Self::Delta { source, .. } if is_damage(source) || find_io(source.as_ref()).is_some_and(is_invalid) => {
                ErrorClass::Operator
            }
            Self::Delta { .. } => ErrorClass::Retry,
            Self::Io { source, .. } => io_class(source),
            Self::DataFile { source, .. } => find_io(source.as_ref()).map_or(ErrorClass::Operator, io_class),
            Self::Bug(_) => ErrorClass::Bug,
        }
    }

    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> Option<Cow<'static, str>> {
        let hint = match self {
            Self::Server { hint, .. } => return hint.clone().map(Cow::Owned),
            Self::Value { .. } => "keep the value as text, or in another form, in a rule",
            Self::Fenced { hint, .. }
            | Self::Refused { hint, .. }
            | Self::LoadRefused { hint, .. }
            | Self::ColumnType { hint, .. } => hint,
            Self::ColumnName { .. } => "rename one of them, in the source or by a rule",
            Self::DataFile { source, .. } if find_io(source.as_ref()).is_some_and(is_full) => FULL,
            Self::Io { source, .. } if is_full(source) => FULL,
            Self::Delta { source, .. } if find_io(source.as_ref()).is_some_and(is_full) => FULL,
            Self::Delta { .. } | Self::DataFile { .. } => {
                "look at the cause; somebody may have changed or removed files of the table: restore them from a backup (a \
                 checkpoint in _delta_log may be removed, and _last_checkpoint with it, where the log has each commit from 0)"
            }
            Self::Contended { .. } => "let only one process load a table",
            Self::Io { .. } => "check that the warehouse's folder can be written and that its disk is not full",
            Self::Bug(_) => "this is a fault of forebay: please report it",
        };
        Some(Cow::Borrowed(hint))
    }
}

const FULL: &str = "make space on the disk of the warehouse: it is tried again by itself";

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// A file's bytes are not those that were written.
fn is_invalid(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidData
}

/// Whether repeating the call cannot help: what is stored does not make sense.
fn is_damage(error: &DeltaTableError) -> bool {
    let text = error.to_string();
    matches!(
        error,
        DeltaTableError::InvalidJsonLog { .. }
            | DeltaTableError::InvalidTableLocation(_)
            | DeltaTableError::SchemaMismatch { .. }
    ) || matches!(error, DeltaTableError::Transaction { source: TransactionError::UnsupportedTableFeatures(_) })
        || text.contains("nsupported")
}

fn find_io<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a io::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<io::Error>() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// A full disk is tried again: its segments go on by themselves when there is room.
fn io_class(error: &io::Error) -> ErrorClass {
    use io::ErrorKind as Kind;
    let kind = error.kind();
    let needs_a_person = kind == Kind::NotFound
        || kind == Kind::PermissionDenied
        || kind == Kind::ReadOnlyFilesystem
        || kind == Kind::NotADirectory
        || is_invalid(error)
        || kind == Kind::InvalidFilename;
    if needs_a_person { ErrorClass::Operator } else { ErrorClass::Retry }
}

impl From<WarehouseError> for forebay_model::Error {
    fn from(error: WarehouseError) -> Self {
        let (told, hint) = (Self::new(error.class(), error.to_string()), error.hint());
        let told = hint.into_iter().fold(told, |told, hint| told.with_hint(hint));
        told.with_source(error)
    }
}
