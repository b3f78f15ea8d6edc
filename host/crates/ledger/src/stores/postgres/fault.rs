//! What PostgreSQL's answers mean.

use forebay_model::ErrorClass;
use sqlx::migrate::MigrateError;

use super::address::{PATIENCE, PostgresAddress};
use crate::error::LedgerError;
use crate::sql::Fault;

impl Fault {
    /// Says which ledger it was, and what the server's answer means.
    pub(super) fn of(self, address: &PostgresAddress, action: &'static str) -> LedgerError {
        self.told(&address.place(), |error| explain(address, error, action))
    }
}

/// What the server's answer means.
pub(super) fn explain(address: &PostgresAddress, error: sqlx::Error, action: &'static str) -> LedgerError {
    let place = address.place();
    let code = database_code(&error).unwrap_or_default();
    if let Some(what) = damage(&code, &error) {
        return LedgerError::Damaged { place, what };
    }
    let (class, hint) = meaning(address, &code, &error);
    let source: Box<dyn std::error::Error + Send + Sync> = if matches!(error, sqlx::Error::PoolTimedOut) {
        format!("no connection to the server within {PATIENCE:?}").into()
    } else {
        Box::new(error)
    };
    LedgerError::Database { place, action, class, hint, source }
}

/// <https://www.postgresql.org/docs/current/errcodes-appendix.html>
fn database_code(error: &sqlx::Error) -> Option<String> {
    if let sqlx::Error::Migrate(error) = error
        && let MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) = error.as_ref()
    {
        return database_code(error);
    }
    error.as_database_error()?.code().map(std::borrow::Cow::into_owned)
}

/// Tables, columns or functions that are gone, and blocks that cannot be read.
fn damage(code: &str, error: &sqlx::Error) -> Option<String> {
    matches!(code, "42P01" | "42703" | "42883" | "XX001" | "XX002").then(|| error.to_string())
}

fn meaning(address: &PostgresAddress, code: &str, error: &sqlx::Error) -> (ErrorClass, Option<String>) {
    let (server, user, database) = (address.server(), address.user(), address.database());
    let operator = |hint: String| (ErrorClass::Operator, Some(hint));
    let waits = |hint: String| (ErrorClass::Retry, Some(hint));
    match code {
        "28P01" | "28000" => operator(format!(
            "check user {user} and its password (in ledger.url, PGPASSWORD or ~/.pgpass), and what pg_hba.conf of {server} allows it"
        )),
        "3D000" => operator(format!("make it (`createdb -h … {database}`), or correct ledger.url in the config")),
        "42501" => operator(format!(
            "let user {user} make the schema (GRANT CREATE ON DATABASE {database} TO {user}), or give it an empty one of its own \
             (CREATE SCHEMA {} AUTHORIZATION {user})",
            address.schema()
        )),
        "25006" => operator(format!("{server} takes no writes: is it a standby? ledger.url names the primary")),
        "53100" => operator(format!("make space on the disk of {server}")),
        "0A000" => operator("its tables were changed while it was open: start forebay again".to_owned()),
        "54000" => operator("a name is longer than an index of PostgreSQL takes: shorten the path or key".to_owned()),
        "55P03" => waits("another process of forebay writes, and takes long: is it stopped?".to_owned()),
        "53300" => waits(format!("{server} has no connection left: forebay needs 7 for a host, 6 for another verb")),
        // 08: connections; 40: conflicts; 53: resources; 57: the server goes down, comes up, or cancelled it.
        _ if ["08", "40", "53", "57"].iter().any(|class| code.starts_with(class)) => (ErrorClass::Retry, None),
        "25P03" | "25P04" => (ErrorClass::Retry, None),
        "" => without_code(&server, error),
        _ => (ErrorClass::Bug, None),
    }
}

fn without_code(server: &str, error: &sqlx::Error) -> (ErrorClass, Option<String>) {
    let reach = || Some(format!("check that PostgreSQL runs at {server} and is reached from here"));
    let operator = |hint: &str| (ErrorClass::Operator, Some(hint.to_owned()));
    if matches!(error, sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::Protocol(_)) {
        (ErrorClass::Retry, reach())
    } else if matches!(error, sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed) {
        (ErrorClass::Retry, None)
    } else if matches!(error, sqlx::Error::Tls(_)) {
        operator("check sslmode, and with verify-ca or verify-full sslrootcert, in ledger.url")
    } else if matches!(error, sqlx::Error::Configuration(_)) {
        operator("correct ledger.url in the config")
    } else {
        (ErrorClass::Bug, None)
    }
}
