//! The url of a ledger in PostgreSQL.

use std::fmt;
use std::time::Duration;

use forebay_model::{Error, Result};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, PgConnection};
use url::Url;

use crate::error::Place;

/// The schema, where the url names none.
const SCHEMA: &str = "forebay";
/// How long a connection may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// What a url may say after its question mark.
const PARAMETERS: [&str; 6] = ["schema", "sslmode", "sslrootcert", "sslcert", "sslkey", "host"];
const SSL_MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];
/// With the time of a ledger that is moved aside, a name is as long as PostgreSQL takes.
const SCHEMA_LETTERS: usize = 31;
const EXAMPLE: &str = "postgres://forebay@db.example.com:5432/warehouse";

/// Where a ledger in PostgreSQL is, and how it is connected to. Shown, also for debugging, without its password.
#[derive(Clone)]
pub struct PostgresAddress {
    options: Box<PgConnectOptions>,
    schema: String,
    shown: String,
}

impl fmt::Debug for PostgresAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PostgresAddress").field(&self.shown).finish()
    }
}

impl fmt::Display for PostgresAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl PartialEq for PostgresAddress {
    fn eq(&self, other: &Self) -> bool {
        self.shown == other.shown
    }
}

fn wrong(what: impl Into<String>, hint: impl Into<String>) -> Error {
    Error::operator(what).with_hint(hint)
}

impl PostgresAddress {
    /// Reads `postgres://user@host:port/database?schema=forebay`. What it does not say comes from where `psql` takes it: `PGHOST`,
    /// `PGUSER`, `PGPASSWORD`, `.pgpass` and their like.
    ///
    /// # Errors
    /// Class operator: what is wrong with the url, and what would be right. The password is in none.
    pub fn parse(text: &str) -> Result<Self> {
        let example = || format!("use \"{EXAMPLE}\", with \"?schema=<name>\" for another schema than {SCHEMA:?}");
        let mut url = Url::parse(text).map_err(|error| wrong(format!("this is no url: {error}"), example()))?;
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return Err(wrong("this is no url of PostgreSQL", example()));
        }
        if url.fragment().is_some() {
            return Err(wrong("a url of PostgreSQL has no `#`", "write a `#` of a password as %23"));
        }
        let (mut schema, mut kept) = (SCHEMA.to_owned(), Vec::new());
        for (key, value) in url.query_pairs().into_owned() {
            match key.as_str() {
                "schema" => schema = value,
                "sslmode" if !SSL_MODES.contains(&value.as_str()) => {
                    let hint = format!("it is one of {}", SSL_MODES.join(", "));
                    return Err(wrong(format!("sslmode {value:?} is not known"), hint));
                }
                "password" => {
                    let hint = "write it before the `@` (user:password@host), or better in PGPASSWORD or ~/.pgpass";
                    return Err(wrong("the password is not given after the `?`", hint));
                }
                known if PARAMETERS.contains(&known) => kept.push((key, value)),
                other => {
                    let hint = format!("known are {}", PARAMETERS.join(", "));
                    return Err(wrong(format!("the url's parameter {other:?} is not known"), hint));
                }
            }
        }
        check_schema(&schema)?;
        url.set_query(None);
        if !kept.is_empty() {
            url.query_pairs_mut().extend_pairs(&kept);
        }
        let options = PgConnectOptions::from_url(&url)
            .map_err(|error| wrong(format!("the url cannot be used: {error}"), example()))?;
        // Neither fails for a url that has a host; one without has no password.
        let _ = url.set_password(None);
        url.query_pairs_mut().append_pair("schema", &schema);
        Ok(Self { options: Box::new(options), schema, shown: url.to_string() })
    }

    /// The schema that the ledger is.
    pub(super) fn schema(&self) -> &str {
        &self.schema
    }

    /// For errors.
    pub(super) fn place(&self) -> Place {
        Place::Schema(self.shown.clone())
    }

    /// The place of another schema of the database.
    pub(super) fn beside(&self, schema: &str) -> String {
        self.shown.replace(&format!("schema={}", self.schema), &format!("schema={schema}"))
    }

    /// Who is asked, for hints.
    pub(super) fn server(&self) -> String {
        match self.options.get_socket() {
            Some(socket) => socket.display().to_string(),
            None => format!("{}:{}", self.options.get_host(), self.options.get_port()),
        }
    }

    /// The user, for hints.
    pub(super) fn user(&self) -> &str {
        self.options.get_username()
    }

    /// The database, for hints.
    pub(super) fn database(&self) -> &str {
        self.options.get_database().unwrap_or_else(|| self.user())
    }

    /// How it is connected to: the schema is all that names are looked for in; a process that is stopped within a transaction does
    /// not keep the others from writing for ever.
    pub(super) fn options(&self) -> PgConnectOptions {
        PgConnectOptions::clone(&self.options)
            .application_name(&format!("forebay {}", std::process::id()))
            .options([
                ("search_path", self.schema.as_str()),
                ("idle_in_transaction_session_timeout", "30s"),
                ("lock_timeout", "40s"),
            ])
            .disable_statement_logging()
    }

    /// One connection, on its own.
    pub(super) async fn connect(&self, options: PgConnectOptions) -> sqlx::Result<PgConnection> {
        let late = || std::io::Error::new(std::io::ErrorKind::TimedOut, format!("no answer within {PATIENCE:?}"));
        tokio::time::timeout(PATIENCE, options.connect()).await.unwrap_or_else(|_| Err(sqlx::Error::Io(late())))
    }
}

/// A name that needs no quotes anywhere.
fn check_schema(schema: &str) -> Result<()> {
    let plain = schema.chars().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_')
        && !schema.starts_with(|letter: char| letter.is_ascii_digit());
    if schema.is_empty() || schema.len() > SCHEMA_LETTERS || !plain {
        let hint = format!("use at most {SCHEMA_LETTERS} of a-z, 0-9 and _, and no digit first");
        return Err(wrong(format!("{schema:?} is no name for the ledger's schema"), hint));
    }
    if matches!(schema, "public" | "information_schema") || schema.starts_with("pg_") {
        let hint = format!("leave it away for {SCHEMA:?}, or choose another name");
        return Err(wrong(format!("the ledger has a schema of its own, and {schema:?} is not"), hint));
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_password_and_with_its_schema() {
        let address = PostgresAddress::parse("postgres://me:hunter2@db:6543/lake?sslmode=require").unwrap();
        assert_eq!(address.to_string(), "postgres://me@db:6543/lake?sslmode=require&schema=forebay");
        assert!(!format!("{address:?}").contains("hunter2"));
        assert_eq!((address.server(), address.user(), address.database()), ("db:6543".to_owned(), "me", "lake"));
        assert_eq!(address.beside("old"), "postgres://me@db:6543/lake?sslmode=require&schema=old");
        let other = PostgresAddress::parse("postgresql://me@db/lake?schema=team_2").unwrap();
        assert_eq!((other.schema(), other.to_string().as_str()), ("team_2", "postgresql://me@db/lake?schema=team_2"));
    }

    #[test]
    fn what_is_wrong_with_a_url_is_told_without_its_password() {
        for (url, says) in [
            ("postgres://me:hunter2@[db/lake", "no url"),
            ("postgres://me:hunter2@db/lake?schema=public", "a schema of its own"),
            ("postgres://me:hunter2@db/lake?schema=My%20Ledger", "no name"),
            ("postgres://me:hunter2@db/lake?sslmode=on", "sslmode \"on\""),
            ("postgres://me:hunter2@db/lake?shcema=x", "\"shcema\""),
            ("postgres://me@db/lake?password=hunter2", "password"),
            ("postgres://me:hunter2@db:99999/lake", "no url"),
            ("postgres://me:hun#ter2@db/lake", "no"),
        ] {
            let error = PostgresAddress::parse(url).unwrap_err();
            let told = format!("{error} {:?}", error.hint());
            assert!(told.contains(says) && !told.contains("hunter2"), "{url}: {told}");
        }
    }
}
