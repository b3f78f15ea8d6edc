//! What SQLite's answers mean.

use std::path::Path;

use forebay_model::ErrorClass;

use crate::error::{LedgerError, Place};
use crate::sql::Fault;

impl Fault {
    /// Says which file it was, and what SQLite's answer means.
    pub(super) fn at(self, path: &Path, action: &'static str) -> LedgerError {
        let place = Place::File(path.to_owned());
        self.told(&place, |error| explain(path, error, action))
    }
}

/// What SQLite's answer means.
pub(super) fn explain(path: &Path, error: sqlx::Error, action: &'static str) -> LedgerError {
    let place = Place::File(path.to_owned());
    // The low byte is SQLite's primary code: https://www.sqlite.org/rescode.html
    let code = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code)
        .and_then(|code| code.parse::<u32>().ok())
        .map(|code| code & 0xff);
    let class = match code {
        Some(CORRUPT | NOT_A_DATABASE) => {
            return LedgerError::Damaged { place, what: error.to_string() };
        }
        Some(BUSY | LOCKED | INTERRUPT) => ErrorClass::Retry,
        // An error of the disk is often a full one, seen while the file is mapped.
        Some(PERMISSION | READ_ONLY | FULL | IO_ERROR | CANNOT_OPEN | AUTHORISATION) => ErrorClass::Operator,
        Some(_) => ErrorClass::Bug,
        None if matches!(error, sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed) => {
            ErrorClass::Retry
        }
        None if matches!(error, sqlx::Error::Io(_)) => ErrorClass::Operator,
        None => ErrorClass::Bug,
    };
    let hint = matches!(code, Some(BUSY | LOCKED)).then(|| {
        format!(
            "another process has held it for {} s: `fuser -v {}` names those that have it open; nothing has changed, ask again when it is gone",
            super::open::BUSY.as_secs(),
            path.display()
        )
    });
    LedgerError::Database { place, action, class, hint, source: Box::new(error) }
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
