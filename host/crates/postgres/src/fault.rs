//! What PostgreSQL's answers mean.

use forebay_model::ErrorClass;
use sqlx::migrate::MigrateError;

use crate::address::{Keeps, PostgresAddress};

/// The server's code for what went wrong, where it answered.
///
/// <https://www.postgresql.org/docs/current/errcodes-appendix.html>
#[must_use]
pub fn code(error: &sqlx::Error) -> Option<String> {
    if let sqlx::Error::Migrate(error) = error
        && let MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) = error.as_ref()
    {
        return code(error);
    }
    error.as_database_error()?.code().map(std::borrow::Cow::into_owned)
}

/// What can be done about it, and how.
#[must_use]
pub fn meaning(address: &PostgresAddress, error: &sqlx::Error) -> (ErrorClass, Option<String>) {
    let (server, user, database) = (address.server(), address.user(), address.database());
    let (keeps, setting, schema) = (address.keeps(), address.keeps().setting(), address.schema());
    let code = code(error).unwrap_or_default();
    let operator = |hint: String| (ErrorClass::Operator, Some(hint));
    let waits = |hint: String| (ErrorClass::Retry, Some(hint));
    match code.as_str() {
        "28P01" | "28000" => operator(format!(
            "check user {user} and its password (in {setting}, PGPASSWORD or ~/.pgpass), and what pg_hba.conf of {server} allows it"
        )),
        "3D000" => operator(format!("make it (`createdb -h … {database}`), or correct {setting} in the config")),
        "42501" if keeps == Keeps::Warehouse => operator(format!(
            "let user {user} make tables in schema {schema} (GRANT CREATE, USAGE ON SCHEMA {schema} TO {user}; where there is no such schema: \
             CREATE SCHEMA {schema} AUTHORIZATION {user}); tables that stand there must be {user}'s"
        )),
        "42501" => operator(format!(
            "let user {user} make the schema (GRANT CREATE ON DATABASE {database} TO {user}), or give it an empty one of its own \
             (CREATE SCHEMA {schema} AUTHORIZATION {user})"
        )),
        "25006" => operator(format!("{server} takes no writes: is it a standby? {setting} names the primary")),
        "53100" => operator(format!("make space on the disk of {server}")),
        "0A000" => operator("its tables were changed while it was open: start forebay again".to_owned()),
        "54000" => operator("a name is longer than an index of PostgreSQL takes: shorten the path or key".to_owned()),
        "55P03" if keeps == Keeps::Warehouse => {
            waits("another session has locked the table, and takes long: end it, or wait".to_owned())
        }
        "53300" if keeps == Keeps::Warehouse => waits(format!(
            "{server} has no connection left: forebay needs one for each worker and route, and a few besides"
        )),
        "55P03" => waits("another process of forebay writes, and takes long: is it stopped?".to_owned()),
        "53300" => waits(format!("{server} has no connection left: forebay needs 7 for a host, 6 for another verb")),
        // 08: connections; 40: conflicts; 53: resources; 57: the server goes down, comes up, or cancelled it.
        _ if ["08", "40", "53", "57"].iter().any(|class| code.starts_with(class)) => (ErrorClass::Retry, None),
        "25P03" | "25P04" => (ErrorClass::Retry, None),
        "" => without_code(&server, setting, error),
        _ => (ErrorClass::Bug, None),
    }
}

fn without_code(server: &str, setting: &str, error: &sqlx::Error) -> (ErrorClass, Option<String>) {
    let reach = || Some(format!("check that PostgreSQL runs at {server} and is reached from here"));
    let operator = |hint: String| (ErrorClass::Operator, Some(hint));
    if matches!(error, sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::Protocol(_)) {
        (ErrorClass::Retry, reach())
    } else if matches!(error, sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed) {
        (ErrorClass::Retry, None)
    } else if matches!(error, sqlx::Error::Tls(_)) {
        operator(format!("check sslmode, and with verify-ca or verify-full sslrootcert, in {setting}"))
    } else if matches!(error, sqlx::Error::Configuration(_)) {
        operator(format!("correct {setting} in the config"))
    } else {
        (ErrorClass::Bug, None)
    }
}
