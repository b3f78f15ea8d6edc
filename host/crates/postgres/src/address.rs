//! The url of a schema in PostgreSQL.

use std::fmt;
use std::time::Duration;

use forebay_model::{Error, Result};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, PgConnection};
use url::Url;

/// How long a connection may take.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// What a url may say after its question mark.
const PARAMETERS: [&str; 6] = ["schema", "sslmode", "sslrootcert", "sslcert", "sslkey", "host"];
const SSL_MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];
/// With the time of a ledger that is moved aside, a name is as long as PostgreSQL takes.
const SCHEMA_LETTERS: usize = 31;
const EXAMPLE: &str = "postgres://forebay@db.example.com:5432/warehouse";

/// What a schema is for: it decides how the schema may be named, and which setting an error speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeps {
    /// The ledger: the schema is all its own.
    Ledger,
    /// A warehouse's tables: others may stand beside them.
    Warehouse,
}

impl Keeps {
    /// The schema, where the url names none.
    fn schema(self) -> &'static str {
        match self {
            Self::Ledger => "forebay",
            Self::Warehouse => "public",
        }
    }

    /// What it is called.
    fn noun(self) -> &'static str {
        match self {
            Self::Ledger => "ledger",
            Self::Warehouse => "warehouse",
        }
    }

    /// The setting that its url stands in.
    pub(crate) fn setting(self) -> &'static str {
        match self {
            Self::Ledger => "ledger.url",
            Self::Warehouse => "the warehouse's url",
        }
    }
}

/// Where a schema in PostgreSQL is, and how it is connected to. Shown, also for debugging, without its password.
#[derive(Clone)]
pub struct PostgresAddress {
    options: Box<PgConnectOptions>,
    schema: String,
    shown: String,
    keeps: Keeps,
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

impl Eq for PostgresAddress {}

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
    pub fn parse(text: &str, keeps: Keeps) -> Result<Self> {
        let usual = keeps.schema();
        let example = || format!("use \"{EXAMPLE}\", with \"?schema=<name>\" for another schema than {usual:?}");
        let mut url = Url::parse(text).map_err(|error| wrong(format!("this is no url: {error}"), example()))?;
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return Err(wrong("this is no url of PostgreSQL", example()));
        }
        if url.fragment().is_some() {
            return Err(wrong("a url of PostgreSQL has no `#`", "write a `#` of a password as %23"));
        }
        let (mut schema, mut kept) = (usual.to_owned(), Vec::new());
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
        check_schema(&schema, keeps)?;
        url.set_query(None);
        if !kept.is_empty() {
            url.query_pairs_mut().extend_pairs(&kept);
        }
        let options = PgConnectOptions::from_url(&url)
            .map_err(|error| wrong(format!("the url cannot be used: {error}"), example()))?;
        // Neither fails for a url that has a host; one without has no password.
        let _ = url.set_password(None);
        url.query_pairs_mut().append_pair("schema", &schema);
        Ok(Self { options: Box::new(options), schema, shown: url.to_string(), keeps })
    }

    /// The schema; its name needs no quotes.
    #[must_use]
    pub fn schema(&self) -> &str {
        &self.schema
    }

    /// What the schema is for.
    pub(crate) fn keeps(&self) -> Keeps {
        self.keeps
    }

    /// Whether both are one schema of one database, as far as the urls tell.
    #[must_use]
    pub fn is_same_place(&self, other: &Self) -> bool {
        self.schema == other.schema && self.server() == other.server() && self.database() == other.database()
    }

    /// The place of another schema of the database.
    #[must_use]
    pub fn beside(&self, schema: &str) -> String {
        self.shown.replace(&format!("schema={}", self.schema), &format!("schema={schema}"))
    }

    /// Who is asked, for hints.
    #[must_use]
    pub fn server(&self) -> String {
        match self.options.get_socket() {
            Some(socket) => socket.display().to_string(),
            None => format!("{}:{}", self.options.get_host(), self.options.get_port()),
        }
    }

    /// The user, for hints.
    #[must_use]
    pub fn user(&self) -> &str {
        self.options.get_username()
    }

    /// The database, for hints.
    #[must_use]
    pub fn database(&self) -> &str {
        self.options.get_database().unwrap_or_else(|| self.user())
    }

    /// How it is connected to: the schema is all that names are looked for in; a process that is stopped within a transaction does
    /// not keep the others from writing for ever.
    #[must_use]
    pub fn options(&self) -> PgConnectOptions {
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
    ///
    /// # Errors
    /// Where the server does not answer within [`PATIENCE`], or refuses.
    pub async fn connect(&self, options: PgConnectOptions) -> sqlx::Result<PgConnection> {
        let late = || std::io::Error::new(std::io::ErrorKind::TimedOut, format!("no answer within {PATIENCE:?}"));
        tokio::time::timeout(PATIENCE, options.connect()).await.unwrap_or_else(|_| Err(sqlx::Error::Io(late())))
    }
}

/// A name that needs no quotes anywhere.
fn check_schema(schema: &str, keeps: Keeps) -> Result<()> {
    let noun = keeps.noun();
    let plain = schema.chars().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_')
        && !schema.starts_with(|letter: char| letter.is_ascii_digit());
    if schema.is_empty() || schema.len() > SCHEMA_LETTERS || !plain {
        let hint = format!("use at most {SCHEMA_LETTERS} of a-z, 0-9 and _, and no digit first");
        return Err(wrong(format!("{schema:?} is no name for the {noun}'s schema"), hint));
    }
    let is_public = schema == "public" && keeps == Keeps::Ledger;
    if is_public || schema == "information_schema" || schema.starts_with("pg_") {
        let hint = format!("leave it away for {:?}, or choose another name", keeps.schema());
        return Err(wrong(format!("the {noun} has a schema of its own, and {schema:?} is not"), hint));
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn ledger(url: &str) -> Result<PostgresAddress> {
        PostgresAddress::parse(url, Keeps::Ledger)
    }

    #[test]
    fn a_warehouse_may_stand_in_the_schema_that_everybody_uses() {
        let warehouse = |url| PostgresAddress::parse(url, Keeps::Warehouse);
        let address = warehouse("postgres://me@db/lake").unwrap();
        assert_eq!(address.to_string(), "postgres://me@db/lake?schema=public");
        assert!(warehouse("postgres://me@db/lake?schema=pg_catalog").is_err());
        let (one, other) = (ledger("postgres://me@db/lake"), warehouse("postgres://you@db:5432/lake?schema=forebay"));
        assert!(one.unwrap().is_same_place(&other.unwrap()));
    }

    #[test]
    fn a_url_is_shown_without_its_password_and_with_its_schema() {
        let address = ledger("postgres://me:hunter2@db:6543/lake?sslmode=require").unwrap();
        assert_eq!(address.to_string(), "postgres://me@db:6543/lake?sslmode=require&schema=forebay");
        assert!(!format!("{address:?}").contains("hunter2"));
        assert_eq!((address.server(), address.user(), address.database()), ("db:6543".to_owned(), "me", "lake"));
        assert_eq!(address.beside("old"), "postgres://me@db:6543/lake?sslmode=require&schema=old");
        let other = ledger("postgresql://me@db/lake?schema=team_2").unwrap();
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
            let error = ledger(url).unwrap_err();
            let told = format!("{error} {:?}", error.hint());
            assert!(told.contains(says) && !told.contains("hunter2"), "{url}: {told}");
        }
    }
}
