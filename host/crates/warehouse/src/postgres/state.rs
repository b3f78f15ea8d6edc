//! What a warehouse in PostgreSQL knows of itself: tables of its own beside those that it loads, in the same transactions.
//!
//! | table | a row for each |
//! |---|---|
//! | `_forebay_warehouse` | warehouse: the form of these tables |
//! | `_forebay_tables` | table that is loaded: whose it is, its schema as Arrow, its version, its rows |
//! | `_forebay_loads` | load: number, id, revision, what it added and removed, its staged tables, when |
//! | `_forebay_staged` | staged table: whose rows it holds, when it was made, and which load took them |

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow_schema::{Schema, SchemaRef};
use forebay_model::ErrorClass;
use forebay_model::ports::{Clock, Random};
use forebay_postgres::{PATIENCE, PostgresAddress, Unfit, meaning, unfit};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, PgPool, Row as _};
use tokio::runtime::Handle;
use tokio::sync::OnceCell;
use uuid::Uuid;

use super::names::{literal, quoted, stored};
use crate::error::WarehouseError;

/// The form of forebay's own tables that this version knows.
const FORM: i32 = 1;
/// Connections for commits and questions; rows go over connections of their own.
const CONNECTIONS: u32 = 4;
/// Connections that are kept for the next rows.
const IDLE: usize = 8;

const TABLES: &str = "
CREATE TABLE _forebay_warehouse (form integer NOT NULL);
CREATE TABLE _forebay_tables (
  name text PRIMARY KEY, ledger text NOT NULL, pipeline text NOT NULL, arrow_schema text NOT NULL,
  version bigint NOT NULL, rows bigint NOT NULL);
CREATE TABLE _forebay_loads (
  name text NOT NULL, number bigint NOT NULL, id text NOT NULL, revision text NOT NULL, chosen boolean NOT NULL,
  version bigint NOT NULL, rows_added bigint NOT NULL, rows_removed bigint NOT NULL, replaces text[] NOT NULL,
  staged text[] NOT NULL, committed_us bigint NOT NULL, PRIMARY KEY (name, number));
CREATE TABLE _forebay_staged (
  path text PRIMARY KEY, name text NOT NULL, segment text NOT NULL, arrow_schema text NOT NULL, rows bigint NOT NULL,
  made_us bigint NOT NULL, load bigint);
CREATE INDEX ON _forebay_staged (name);
COMMENT ON TABLE _forebay_warehouse IS 'forebay''s own: the form of its tables';
COMMENT ON TABLE _forebay_tables IS 'forebay''s own: the tables that it loads';
COMMENT ON TABLE _forebay_loads IS 'forebay''s own: loads that are committed; times in microseconds since 1970';
COMMENT ON TABLE _forebay_staged IS 'forebay''s own: tables of rows that wait for their load';
";

/// The schema and the connections to its server.
pub(super) struct Server {
    pub(super) address: PostgresAddress,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) random: Arc<dyn Random>,
    pub(super) failpoint: fn(&str),
    pub(super) handle: Handle,
    options: PgConnectOptions,
    pool: PgPool,
    idle: Mutex<Vec<PgConnection>>,
    /// Staged tables of this process that are in no table yet: maintenance leaves them alone.
    pending: Mutex<HashSet<String>>,
    reading: bool,
    ready: OnceCell<()>,
}

/// A table as the warehouse knows it.
pub(super) struct Known {
    pub(super) ledger: Uuid,
    pub(super) pipeline: String,
    pub(super) schema: SchemaRef,
    pub(super) version: u64,
    pub(super) rows: u64,
}

impl Server {
    pub(super) fn new(
        address: &PostgresAddress,
        (clock, random): (Arc<dyn Clock>, Arc<dyn Random>),
        failpoint: fn(&str),
        reading: bool,
    ) -> Result<Self, WarehouseError> {
        let handle = Handle::try_current().map_err(|error| {
            WarehouseError::Bug(format!("a warehouse in PostgreSQL is opened in a runtime: {error}"))
        })?;
        let options =
            address.options().options([("standard_conforming_strings", "on"), ("client_min_messages", "warning")]);
        let pool = PgPoolOptions::new()
            .acquire_timeout(PATIENCE)
            .acquire_slow_threshold(PATIENCE)
            .max_connections(CONNECTIONS)
            .after_connect(|connection, _| Box::pin(durable(connection)))
            .connect_lazy_with(options.clone());
        Ok(Self {
            address: address.clone(),
            clock,
            random,
            failpoint,
            handle,
            options,
            pool,
            idle: Mutex::default(),
            pending: Mutex::default(),
            reading,
            ready: OnceCell::new(),
        })
    }

    /// What an error of the server means.
    pub(super) fn fault(&self, doing: &'static str) -> impl Fn(sqlx::Error) -> WarehouseError {
        let address = self.address.clone();
        move |error| {
            let (class, hint) = meaning(&address, &error);
            let source: Box<dyn std::error::Error + Send + Sync> = if matches!(error, sqlx::Error::PoolTimedOut) {
                format!("no connection to the server within {PATIENCE:?}").into()
            } else {
                Box::new(error)
            };
            WarehouseError::Server { place: address.to_string(), doing, class, hint, source }
        }
    }

    /// Connections for commits and questions, once the warehouse is there; `None` where it is only read and is not.
    pub(super) async fn pool(&self) -> Result<Option<&PgPool>, WarehouseError> {
        let prepared = self.ready.get_or_try_init(|| async {
            let mut connection = self.connect().await?;
            let ready = Box::pin(self.prepare(&mut connection)).await;
            self.keep(connection);
            match ready {
                Ok(true) => Ok(()),
                Ok(false) => Err(None),
                Err(error) => Err(Some(error)),
            }
        });
        match prepared.await {
            Ok(()) => Ok(Some(&self.pool)),
            Err(None) => Ok(None),
            Err(Some(error)) => Err(error),
        }
    }

    /// The same for who writes.
    pub(super) async fn writing(&self) -> Result<&PgPool, WarehouseError> {
        let pool = self.pool().await?;
        pool.ok_or_else(|| WarehouseError::Bug(format!("warehouse {} was opened to be read only", self.address)))
    }

    /// A connection for rows: one that is idle, or a new one.
    pub(super) async fn connect(&self) -> Result<PgConnection, WarehouseError> {
        loop {
            let idle = lock(&self.idle).pop();
            let Some(mut connection) = idle else { break };
            if connection.ping().await.is_ok() {
                return Ok(connection);
            }
        }
        let connecting = self.fault("connect to it");
        let mut connection = self.address.connect(self.options.clone()).await.map_err(&connecting)?;
        durable(&mut connection).await.map_err(connecting)?;
        Ok(connection)
    }

    /// Keeps a connection, on which nothing is under way, for the next rows.
    pub(super) fn keep(&self, connection: PgConnection) {
        let mut idle = lock(&self.idle);
        if idle.len() < IDLE {
            idle.push(connection);
        }
    }

    pub(super) fn pending(&self) -> MutexGuard<'_, HashSet<String>> {
        lock(&self.pending)
    }

    /// A table, or a staged one, as a statement has it: within its schema, for the server looks among its own names first.
    pub(super) fn relation(&self, name: &str) -> String {
        format!("{}.{}", quoted(self.address.schema()), quoted(&stored(name)))
    }

    /// Looks for the warehouse, and makes it where it may; whether it is there.
    async fn prepare(&self, connection: &mut PgConnection) -> Result<bool, WarehouseError> {
        let looking = self.fault("look for its tables");
        if let Some(Unfit { what, hint }) = unfit(connection).await.map_err(&looking)? {
            return Err(WarehouseError::Server {
                place: self.address.to_string(),
                doing: "use the server",
                class: ErrorClass::Operator,
                hint: Some(hint.to_owned()),
                source: what.into(),
            });
        }
        if !self.form(connection).await? {
            if self.reading {
                return Ok(false);
            }
            self.make(connection).await.map_err(self.fault("make its tables"))?;
            // Another process may have been faster, with another form.
            self.form(connection).await?;
        }
        Ok(true)
    }

    /// Whether there is a warehouse; an error where it is a newer forebay's.
    async fn form(&self, connection: &mut PgConnection) -> Result<bool, WarehouseError> {
        let looking = self.fault("look for its tables");
        if !exists(connection, self.address.schema(), "_forebay_warehouse").await.map_err(&looking)? {
            return Ok(false);
        }
        let row = sqlx::query("SELECT max(form) AS form FROM _forebay_warehouse").fetch_one(connection).await;
        match row.and_then(|row| row.try_get::<Option<i32>, _>("form")).map_err(looking)? {
            Some(form) if form > FORM => Err(WarehouseError::Server {
                place: self.address.to_string(),
                doing: "use its tables",
                class: ErrorClass::Operator,
                hint: Some("run the forebay that made it, or a newer one".to_owned()),
                source: format!("they are of form {form}, and this forebay knows form {FORM}").into(),
            }),
            Some(_) | None => Ok(true),
        }
    }

    async fn make(&self, connection: &mut PgConnection) -> sqlx::Result<()> {
        let schema = self.address.schema();
        let mut transaction = connection.begin().await?;
        lock_name(&mut transaction, &format!("warehouse {schema}")).await?;
        let known = sqlx::query("SELECT 1 AS one FROM pg_namespace WHERE nspname = $1").bind(schema);
        if known.fetch_optional(&mut *transaction).await?.is_none() {
            transaction.execute(AssertSqlSafe(format!("CREATE SCHEMA {}", quoted(schema)))).await?;
        }
        if !exists(&mut transaction, schema, "_forebay_warehouse").await? {
            transaction.execute(TABLES).await?;
            let form = format!("INSERT INTO _forebay_warehouse (form) VALUES ({FORM})");
            transaction.execute(AssertSqlSafe(form)).await?;
            tracing::info!(at = %self.address, "warehouse made");
        }
        transaction.commit().await
    }

    /// What the warehouse knows of a table that is there.
    pub(super) async fn known(
        &self,
        connection: &mut PgConnection,
        name: &str,
    ) -> Result<Option<Known>, WarehouseError> {
        let reading = self.fault("read what it knows of a table");
        let row =
            sqlx::query("SELECT ledger, pipeline, arrow_schema, version, rows FROM _forebay_tables WHERE name = $1")
                .bind(name)
                .fetch_optional(&mut *connection)
                .await
                .map_err(&reading)?;
        let Some(row) = row else { return Ok(None) };
        if !exists(connection, self.address.schema(), &stored(name)).await.map_err(&reading)? {
            return Ok(None);
        }
        let text = |column: &str| row.try_get::<String, _>(column).map_err(&reading);
        let number = |column: &str| row.try_get::<i64, _>(column).map_err(&reading).map(unsigned);
        let damaged = |what: String| WarehouseError::Refused {
            table: name.to_owned(),
            what,
            hint: "restore table _forebay_tables from a backup: forebay alone writes to it",
        };
        Ok(Some(Known {
            ledger: text("ledger")?.parse().map_err(|error| damaged(format!("its ledger is no id: {error}")))?,
            pipeline: text("pipeline")?,
            schema: schema_of(&text("arrow_schema")?).map_err(damaged)?,
            version: number("version")?,
            rows: number("rows")?,
        }))
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("address", &self.address).finish_non_exhaustive()
    }
}

/// What is locked is whole after every step, so a panic elsewhere does not harm it.
fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A commit that returned is on disk, also where the server is told to hurry.
async fn durable(connection: &mut PgConnection) -> sqlx::Result<()> {
    let durable =
        "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'";
    connection.execute(durable).await.map(drop)
}

/// Whether the schema has anything of this name.
pub(super) async fn exists(connection: &mut PgConnection, schema: &str, relation: &str) -> sqlx::Result<bool> {
    let found = sqlx::query(
        "SELECT 1 AS one FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2",
    );
    Ok(found.bind(schema).bind(relation).fetch_optional(connection).await?.is_some())
}

/// Beside this transaction no other that locks the same name goes on.
pub(super) async fn lock_name(connection: &mut PgConnection, name: &str) -> sqlx::Result<()> {
    let digest = forebay_model::Digest::of(format!("forebay {name}").as_bytes());
    let key = digest.as_bytes().iter().take(8).fold(0_i64, |key, byte| key << 8 | i64::from(*byte));
    let sql = format!("SELECT pg_advisory_xact_lock({key})");
    connection.execute(AssertSqlSafe(sql)).await.map(drop)
}

/// A schema as it is kept.
pub(super) fn schema_text(schema: &Schema) -> Result<String, WarehouseError> {
    serde_json::to_string(schema).map_err(|error| WarehouseError::Bug(format!("a schema is not JSON: {error}")))
}

pub(super) fn schema_of(text: &str) -> Result<SchemaRef, String> {
    serde_json::from_str(text).map(Arc::new).map_err(|error| format!("its schema cannot be read: {error}"))
}

/// Numbers are never below 0 in forebay's own tables.
pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Texts as an array in a statement.
pub(super) fn array<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    format!("ARRAY[{}]::text[]", texts.map(literal).collect::<Vec<_>>().join(", "))
}
