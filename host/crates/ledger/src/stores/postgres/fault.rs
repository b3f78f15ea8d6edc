//! What PostgreSQL's answers mean.

use forebay_postgres::{PATIENCE, PostgresAddress, code, meaning};

use super::place;
use crate::error::LedgerError;
use crate::sql::Fault;

impl Fault {
    /// Says which ledger it was, and what the server's answer means.
    pub(super) fn of(self, address: &PostgresAddress, action: &'static str) -> LedgerError {
        self.told(&place(address), |error| explain(address, error, action))
    }
}

/// What the server's answer means.
pub(super) fn explain(address: &PostgresAddress, error: sqlx::Error, action: &'static str) -> LedgerError {
    let place = place(address);
    let code = code(&error).unwrap_or_default();
    if let Some(what) = damage(&code, &error) {
        return LedgerError::Damaged { place, what };
    }
    let (class, hint) = meaning(address, &error);
    let source: Box<dyn std::error::Error + Send + Sync> = if matches!(error, sqlx::Error::PoolTimedOut) {
        format!("no connection to the server within {PATIENCE:?}").into()
    } else {
        Box::new(error)
    };
    LedgerError::Database { place, action, class, hint, source }
}

/// Tables, columns or functions that are gone, and blocks that cannot be read.
fn damage(code: &str, error: &sqlx::Error) -> Option<String> {
    matches!(code, "42P01" | "42703" | "42883" | "XX001" | "XX002").then(|| error.to_string())
}
