//! Opening the schema: a ledger appears whole or not at all, is looked at, and is migrated in one transaction.

use std::collections::BTreeSet;

use forebay_model::ports::{Clock, Random, Rebuilt};
use forebay_postgres::{PATIENCE, PostgresAddress, Unfit, unfit};
use sqlx::migrate::Migrator;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgConnection, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgPool, Postgres, Row as _, Transaction};
use uuid::Uuid;

use super::{lease, place};
use crate::error::{LedgerError, Result};
use crate::sql::{Db, Fault, Step, Tables};
use crate::stores::OpenMode;

/// The migrations that this forebay knows; the last is of the same version as SQLite's.
pub(super) static MIGRATIONS: Migrator = sqlx::migrate!("migrations/postgres");

/// Connections of a process: one that writes is enough, since transactions that write wait for one another; a second connects
/// while the first does.
const WRITERS: u32 = 2;
const READERS: u32 = 4;

/// What [`open`] found.
pub(super) struct Opened {
    pub(super) id: Uuid,
    pub(super) writer: Option<PgPool>,
    pub(super) readers: PgPool,
    pub(super) tables: Tables,
}

/// What a schema holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// There is no such schema.
    Nothing,
    /// It is empty: somebody made it for the ledger.
    Empty,
    /// A ledger, or what is left of one.
    Ledger(BTreeSet<String>),
}

pub(super) async fn open(
    address: &PostgresAddress,
    mode: OpenMode,
    clock: &dyn Clock,
    random: &dyn Random,
    migrations: &Migrator,
) -> Result<Opened> {
    let mut connection = connect(address).await.map_err(|fault| fault.of(address, "connecting to it"))?;
    let found = look(&mut connection, address).await.map_err(|fault| fault.of(address, "looking for it"))?;
    match (found, mode) {
        (Found::Nothing | Found::Empty, OpenMode::Create) => {
            let id = random.uuid();
            let made = make(&mut connection, address, id, clock, migrations).await;
            if made.map_err(|fault| fault.of(address, "making it"))? {
                tracing::info!(ledger = %id, at = %address, "ledger made");
            }
        }
        (Found::Nothing | Found::Empty, OpenMode::Existing | OpenMode::ReadOnly) => {
            return Err(LedgerError::Missing { place: place(address) });
        }
        (Found::Ledger(tables), _) => check_ours(address, &tables)?,
    }
    migrate(&mut connection, address, mode, migrations).await?;
    let found = look(&mut connection, address).await.map_err(|fault| fault.of(address, "looking at it"))?;
    check_whole(address, &found)?;
    let _ = connection.close().await;
    pools(address, mode).await.map_err(|fault| fault.of(address, "opening it"))
}

/// A connection to a server that will do.
pub(super) async fn connect(address: &PostgresAddress) -> Step<PgConnection> {
    let mut connection = address.connect(address.options()).await?;
    if let Some(Unfit { what, hint }) = unfit(&mut connection).await? {
        let source = std::io::Error::new(std::io::ErrorKind::Unsupported, what);
        return Err(LedgerError::Unfit { place: place(address), hint: hint.to_owned(), source }.into());
    }
    Ok(connection)
}

/// What the schema holds.
pub(super) async fn look(connection: &mut PgConnection, address: &PostgresAddress) -> Step<Found> {
    let rows = sqlx::query(
        "SELECT c.relname::text AS name FROM pg_namespace n LEFT JOIN pg_class c ON c.relnamespace = n.oid \
         AND c.relkind IN ('r', 'p', 'v', 'm', 'f') WHERE n.nspname = $1",
    )
    .bind(address.schema())
    .fetch_all(&mut *connection)
    .await?;
    if rows.is_empty() {
        return Ok(Found::Nothing);
    }
    let names: Vec<Option<String>> = rows.iter().map(|row| row.try_get("name")).collect::<sqlx::Result<_>>()?;
    let names: BTreeSet<String> = names.into_iter().flatten().collect();
    Ok(if names.is_empty() { Found::Empty } else { Found::Ledger(names) })
}

/// A schema of another program is left alone.
fn check_ours(address: &PostgresAddress, tables: &BTreeSet<String>) -> Result<()> {
    if tables.contains("_ledger") && tables.contains("_sqlx_migrations") {
        return Ok(());
    }
    let some: Vec<_> = tables.iter().take(3).map(String::as_str).collect();
    let what = format!("it is a schema that forebay did not make, with {}", some.join(", "));
    Err(LedgerError::Damaged { place: place(address), what })
}

/// All tables are there.
fn check_whole(address: &PostgresAddress, found: &Found) -> Result<()> {
    let own = ["_ledger", "_landings", "_groups", "_work_marks", "_active_modules", "_hosts", "_duties"];
    let is_there = |name: &&str| matches!(found, Found::Ledger(tables) if tables.contains(*name));
    let missing: Vec<_> = own.into_iter().chain(crate::tables::names()).filter(|name| !is_there(name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let what = format!("it has no table {}", missing.join(", "));
    Err(LedgerError::Damaged { place: place(address), what })
}

/// Makes a new ledger in one transaction; false where another process was faster, whose ledger is the one.
async fn make(
    connection: &mut PgConnection,
    address: &PostgresAddress,
    id: Uuid,
    clock: &dyn Clock,
    migrations: &Migrator,
) -> Step<bool> {
    let mut transaction = begin_making(connection, address).await?;
    match look(&mut transaction, address).await? {
        Found::Ledger(_) => return Ok(false),
        found @ (Found::Nothing | Found::Empty) => {
            fill(&mut transaction, address, &found, (id, clock), migrations).await?;
        }
    }
    transaction.commit().await?;
    Ok(true)
}

/// A transaction beside which no other process makes or replaces this ledger.
async fn begin_making<'c>(
    connection: &'c mut PgConnection,
    address: &PostgresAddress,
) -> Step<Transaction<'c, Postgres>> {
    let mut transaction = connection.begin_with("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE").await?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)")
        .bind(lease::key("making", address.schema()))
        .execute(&mut *transaction)
        .await?;
    Ok(transaction)
}

/// An empty ledger, in a schema that is not there or empty.
async fn fill(
    transaction: &mut PgConnection,
    address: &PostgresAddress,
    found: &Found,
    (id, clock): (Uuid, &dyn Clock),
    migrations: &Migrator,
) -> Step<()> {
    if *found == Found::Nothing {
        // The name needs no quotes: see `PostgresAddress`.
        transaction.execute(AssertSqlSafe(format!("CREATE SCHEMA {}", address.schema()))).await?;
    }
    migrations.run_direct(None, transaction, false).await?;
    sqlx::query("INSERT INTO _ledger (id, created_at) VALUES ($1, $2)")
        .bind(id.to_string())
        .bind(clock.now().as_micros())
        .execute(transaction)
        .await?;
    Ok(())
}

/// Makes the ledger of what was rebuilt, in one transaction; the name of the schema that was moved aside for it.
pub(super) async fn rebuild(
    address: &PostgresAddress,
    (id, clock): (Uuid, &dyn Clock),
    content: &Rebuilt,
    replace: bool,
    failpoint: fn(&str),
) -> Step<Option<String>> {
    let mut connection = connect(address).await?;
    let mut transaction = begin_making(&mut connection, address).await?;
    let found = look(&mut transaction, address).await?;
    let (found, aside) = match found {
        Found::Ledger(_) if !replace => return Err(LedgerError::Exists { place: place(address) }.into()),
        Found::Ledger(_) => {
            let time = clock.now().to_utc().format("%Y%m%dt%H%M%S%6f").to_string();
            let aside = format!("{}_replaced_{time}", address.schema());
            let rename = format!("ALTER SCHEMA {} RENAME TO {aside}", address.schema());
            transaction.execute(AssertSqlSafe(rename)).await?;
            (Found::Nothing, Some(aside))
        }
        found @ (Found::Nothing | Found::Empty) => (found, None),
    };
    failpoint("recover_moved_aside");
    fill(&mut transaction, address, &found, (id, clock), &MIGRATIONS).await?;
    crate::sql::import_rebuilt(&mut Db::Postgres(&mut transaction, Tables::default()), content).await?;
    failpoint("recover_filled");
    transaction.commit().await?;
    let _ = connection.close().await;
    Ok(aside)
}

async fn migrate(
    connection: &mut PgConnection,
    address: &PostgresAddress,
    mode: OpenMode,
    migrations: &Migrator,
) -> Result<()> {
    let place = place(address);
    let found = version(connection).await.map_err(|fault| fault.of(address, "reading its schema version"))?;
    let known = migrations.iter().map(|migration| migration.version).max().unwrap_or(0);
    if found > known {
        return Err(LedgerError::Newer { place, found, known });
    }
    if found == known {
        return Ok(());
    }
    if mode == OpenMode::ReadOnly {
        return Err(LedgerError::Older { place, found, known, why: "was opened to be read only" });
    }
    // While a host of the older version runs, its tables may not change under it.
    let migrated = async {
        let mut transaction = begin_making(connection, address).await?;
        let free = sqlx::query("SELECT pg_try_advisory_xact_lock($1) AS free")
            .bind(lease::key("host", address.schema()))
            .fetch_one(&mut *transaction)
            .await?;
        if !free.try_get::<bool, _>("free")? {
            return Err(Fault::Ledger(LedgerError::Older { place, found, known, why: "a running forebay holds it" }));
        }
        migrations.run_direct(None, &mut *transaction, false).await?;
        transaction.commit().await?;
        Ok(())
    };
    migrated.await.map_err(|fault| fault.of(address, "migrating it"))?;
    tracing::info!(at = %address, from = found, to = known, "ledger migrated");
    Ok(())
}

async fn version(connection: &mut PgConnection) -> Step<i64> {
    let row = sqlx::query("SELECT coalesce(max(version), 0) AS version FROM _sqlx_migrations WHERE success")
        .fetch_one(connection)
        .await?;
    Ok(row.try_get("version")?)
}

async fn pools(address: &PostgresAddress, mode: OpenMode) -> Step<Opened> {
    // That one is waited for is told when it was in vain.
    let pool = || PgPoolOptions::new().acquire_timeout(PATIENCE).acquire_slow_threshold(PATIENCE);
    let readers = pool().max_connections(READERS).connect_with(address.options()).await?;
    let writer = match mode {
        OpenMode::ReadOnly => None,
        OpenMode::Create | OpenMode::Existing => {
            // A commit that returned is on disk, also where the server is told to hurry.
            let writers = pool().max_connections(WRITERS).after_connect(|connection, _| {
                Box::pin(async move {
                    let durable = "SELECT set_config('synchronous_commit', 'on', false) \
                                   WHERE current_setting('synchronous_commit') = 'off'";
                    connection.execute(durable).await.map(drop)
                })
            });
            Some(writers.connect_with(address.options()).await?)
        }
    };
    let row = sqlx::query("SELECT id FROM _ledger").fetch_optional(&readers).await?;
    let id: Option<String> = row.map(|row| row.try_get("id")).transpose()?;
    let id = id.as_deref().and_then(|id| id.parse().ok()).ok_or_else(|| LedgerError::Damaged {
        place: place(address),
        what: "column id of table _ledger: it is not a UUID".to_owned(),
    })?;
    let tables = sqlx::query("SELECT oid, relname::text AS name FROM pg_class WHERE relnamespace = $1::regnamespace")
        .bind(address.schema())
        .fetch_all(&readers)
        .await?;
    let tables = tables.iter().map(|row| Ok((row.try_get::<Oid, _>("oid")?.0, row.try_get("name")?)));
    let tables = Tables::new(tables.collect::<sqlx::Result<_>>()?);
    Ok(Opened { id, writer, readers, tables })
}
