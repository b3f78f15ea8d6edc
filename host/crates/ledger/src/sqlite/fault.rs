use std::path::Path;

use forebay_model::ErrorClass;

use crate::error::LedgerError;

/// What can go wrong between two statements; it becomes a [`LedgerError`] where the file's name is known.
#[derive(Debug)]
pub(super) enum Fault {
    Sql(sqlx::Error),
    Ledger(LedgerError),
    /// A row holds what was never written: where, and what.
    Damaged(String),
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<LedgerError> for Fault {
    fn from(error: LedgerError) -> Self {
        Self::Ledger(error)
    }
}

impl From<sqlx::migrate::MigrateError> for Fault {
    fn from(error: sqlx::migrate::MigrateError) -> Self {
        Self::Sql(error.into())
    }
}

impl From<serde_json::Error> for Fault {
    fn from(error: serde_json::Error) -> Self {
        Self::Ledger(LedgerError::invariant(format!("the ledger's JSON: {error}")))
    }
}

impl Fault {
    pub(super) fn at(self, path: &Path, action: &'static str) -> LedgerError {
        let error = match self {
            Self::Ledger(error) => return error,
            Self::Damaged(what) => return LedgerError::Damaged { path: path.to_owned(), what },
            Self::Sql(error) => error,
        };
        // The low byte is SQLite's primary code: https://www.sqlite.org/rescode.html
        let code = error
            .as_database_error()
            .and_then(sqlx::error::DatabaseError::code)
            .and_then(|code| code.parse::<u32>().ok())
            .map(|code| code & 0xff);
        let class = match code {
            Some(CORRUPT | NOT_A_DATABASE) => {
                return LedgerError::Damaged { path: path.to_owned(), what: error.to_string() };
            }
            Some(BUSY | LOCKED | INTERRUPT) => ErrorClass::Retry,
            // An error of the disk is often a full one, seen while the file is mapped.
            Some(PERMISSION | READ_ONLY | FULL | IO_ERROR | CANNOT_OPEN | AUTHORISATION) => ErrorClass::Operator,
            Some(_) => ErrorClass::Bug,
            None if matches!(
                error,
                sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed
            ) =>
            {
                ErrorClass::Retry
            }
            None if matches!(error, sqlx::Error::Io(_)) => ErrorClass::Operator,
            None => ErrorClass::Bug,
        };
        LedgerError::Database { path: path.to_owned(), action, class, source: Box::new(error) }
    }
}

const PERMISSION: u32 = 3;
const BUSY: u32 = 5;
const LOCKED: u32 = 6;
const READ_ONLY: u32 = 8;
const INTERRUPT: u32 = 9;
const IO_ERROR: u32 = 10;
const CORRUPT: u32 = 11;
const FULL: u32 = 13;
const CANNOT_OPEN: u32 = 14;
const AUTHORISATION: u32 = 23;
const NOT_A_DATABASE: u32 = 26;

pub(super) type Step<T> = Result<T, Fault>;
