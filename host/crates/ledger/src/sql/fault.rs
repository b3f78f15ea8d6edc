//! What goes wrong within a call.

use crate::error::{LedgerError, Place};

/// What can go wrong between two statements; it becomes a [`LedgerError`] where it is known which ledger it was.
#[derive(Debug)]
pub enum Fault {
    /// The database said no.
    Sql(sqlx::Error),
    /// A rule of the ledger's own.
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
    /// Says where: what the database said is explained by whom it is known to.
    pub(crate) fn told(self, place: &Place, explain: impl FnOnce(sqlx::Error) -> LedgerError) -> LedgerError {
        match self {
            Self::Ledger(error) => error,
            Self::Damaged(what) => LedgerError::Damaged { place: place.clone(), what },
            Self::Sql(error) => explain(error),
        }
    }
}

/// What a step gives.
pub(crate) type Step<T> = Result<T, Fault>;
