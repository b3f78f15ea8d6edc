//! Committing a load: one transaction, beside which no other of the same table goes on.
//!
//! It looks for the load's number first; then it makes the table or adds columns, removes the rows that the load takes the place of, copies
//! the staged tables' rows and remembers the load. The staged tables are dropped afterwards, some at a time: each that is dropped in a
//! transaction holds locks of the server's common table until its end. What is left of them is `maintain`'s.
//!
//! Where the server refuses rows or columns (a constraint that somebody made, a column that somebody dropped), nothing of the load is in the
//! table, and it never will be. Where the connection breaks, the number is looked for once more.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arrow_schema::{Schema, SchemaRef};
use forebay_model::{LOAD, Load, LoadReceipt, SEGMENT, SegmentId};
use forebay_postgres::code;
use sqlx::{AssertSqlSafe, Executor as _, PgConnection, Row as _};

use super::PostgresWarehouse;
use super::names::{column, literal, stored};
use super::stage::columns;
use super::state::{Known, Server, array, exists, lock_name, schema_of, schema_text, signed, unsigned};
use super::types::sql_type;
use crate::error::WarehouseError;
use crate::schema::{check_names, merge};

/// Staged tables that are dropped at once.
const AT_ONCE: usize = 32;
/// Segments whose rows are removed by one statement.
const REMOVED_AT_ONCE: usize = 1000;

/// A staged table, as the load has it.
struct Staged {
    path: String,
    rows: u64,
    schema: SchemaRef,
}

impl PostgresWarehouse {
    pub(super) async fn commit_load(&self, load: &Load) -> Result<LoadReceipt, WarehouseError> {
        let server = &*self.server;
        let error = match Box::pin(attempt(server, load)).await {
            Ok(receipt) => {
                if receipt.committed_now {
                    self.committed_files(load).await;
                }
                return Ok(receipt);
            }
            Err(error) => error,
        };
        let may_be_there = matches!(error, WarehouseError::Server { .. });
        match may_be_there {
            true => match self.look_again(load).await {
                Ok(Some(receipt)) => {
                    tracing::warn!(table = %load.table, load = load.number, %error, "commit answered an error and is there");
                    self.committed_files(load).await;
                    Ok(LoadReceipt { committed_now: true, ..receipt })
                }
                Ok(None) | Err(_) => Err(error),
            },
            false => Err(error),
        }
    }

    /// After an error that may hide a success: what the table says.
    async fn look_again(&self, load: &Load) -> Result<Option<LoadReceipt>, WarehouseError> {
        let fault = self.server.fault("look for a load");
        let mut transaction = self.server.writing().await?.begin().await.map_err(&fault)?;
        let name = load.table.table.as_str();
        // The transaction that was lost may be at work still.
        lock_name(&mut transaction, &lock_of(&self.server, name)).await.map_err(&fault)?;
        match self.server.known(&mut transaction, name).await? {
            Some(known) => already(&self.server, &mut transaction, load, &known).await,
            None => Ok(None),
        }
    }

    /// The staged tables of a load that is committed are not needed any more. What fails is told, and done by `maintain`.
    async fn committed_files(&self, load: &Load) {
        let paths: Vec<String> = load.files.iter().map(|file| file.path.clone()).collect();
        for path in &paths {
            self.server.pending().remove(path);
        }
        if let Err(error) = drop_staged(&self.server, &paths).await {
            tracing::warn!(table = %load.table, %error, "staged tables of a load not dropped");
        }
    }
}

/// What commits to one table wait for one another by.
pub(super) fn lock_of(server: &Server, table: &str) -> String {
    format!("table {} {table}", server.address.schema())
}

async fn attempt(server: &Server, load: &Load) -> Result<LoadReceipt, WarehouseError> {
    let name = load.table.table.as_str();
    let fault = server.fault("commit a load");
    let pool = server.writing().await?;
    let mut transaction = pool.begin_with("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE").await.map_err(&fault)?;
    lock_name(&mut transaction, &lock_of(server, name)).await.map_err(&fault)?;
    let known = server.known(&mut transaction, name).await?;
    match &known {
        Some(known) => {
            if let Some(receipt) = already(server, &mut transaction, load, known).await? {
                return Ok(receipt);
            }
        }
        None => check_free(server, &mut transaction, name).await?,
    }
    if !load.partition_by.is_empty() || load.files.iter().any(|file| !file.partition_values.is_empty()) {
        return Err(refused(name, "it is to be divided by columns".to_owned(), super::UNDIVIDED));
    }
    let staged = staged(server, &mut transaction, load).await?;
    let schema = Box::pin(shape(server, &mut transaction, load, known.as_ref())).await?;
    let rows_removed = remove(server, &mut transaction, load, &schema).await?;
    let rows_added = add(server, &mut transaction, load, &schema, &staged).await?;
    let version = known.as_ref().map_or(0, |known| known.version + 1);
    let rows = (known.as_ref().map_or(0, |known| known.rows) + rows_added).saturating_sub(rows_removed);
    let receipt = LoadReceipt { table_version: version, rows_added, rows_removed, committed_now: true };
    remember(server, &mut transaction, load, (&schema, rows), &receipt)
        .await
        .map_err(|error| error_of(server, load, error))?;
    (server.failpoint)("warehouse_commit");
    transaction.commit().await.map_err(|error| error_of(server, load, error))?;
    (server.failpoint)("warehouse_committed");
    Ok(receipt)
}

fn refused(table: &str, what: String, hint: &'static str) -> WarehouseError {
    WarehouseError::LoadRefused { table: table.to_owned(), what, hint }
}

/// What is the load's fault, or the table's, proves that nothing of it is there: the server has undone all of it.
fn error_of(server: &Server, load: &Load, error: sqlx::Error) -> WarehouseError {
    let code = code(&error).unwrap_or_default();
    let name = load.table.table.as_str();
    // 22: data; 23: constraints; then columns and tables that are gone, there already, or of other types; too many columns.
    let never = ["22", "23"].iter().any(|class| code.starts_with(class))
        || matches!(code.as_str(), "42703" | "42P01" | "42804" | "42701" | "42846" | "54011" | "42809" | "428C9");
    match never {
        true => refused(
            name,
            format!("PostgreSQL answers: {error}"),
            "let the table have the columns that forebay made, and no constraints that its rows do not keep",
        ),
        false if matches!(code.as_str(), "0A000" | "2BP01") => WarehouseError::Server {
            place: server.address.to_string(),
            doing: "change a column's type",
            class: forebay_model::ErrorClass::Operator,
            hint: Some(format!(
                "drop the views that read the column from {name}, and make them anew when the load is there"
            )),
            source: Box::new(error),
        },
        false => server.fault("commit a load")(error),
    }
}

/// A table of another program is left alone.
async fn check_free(server: &Server, connection: &mut PgConnection, name: &str) -> Result<(), WarehouseError> {
    let fault = server.fault("look for a table");
    if exists(connection, server.address.schema(), &stored(name)).await.map_err(&fault)? {
        let hint = "give the route another table, or move this one into another schema";
        return Err(refused(name, "it was not made by forebay".to_owned(), hint));
    }
    // The table was dropped, or moved away: what it remembered went with it.
    for table in ["_forebay_loads", "_forebay_tables"] {
        let sql = format!("DELETE FROM {table} WHERE name = {}", literal(name));
        connection.execute(AssertSqlSafe(sql)).await.map_err(&fault)?;
    }
    Ok(())
}

pub(super) struct LastLoad {
    pub(super) number: u64,
    pub(super) id: String,
    version: u64,
    rows_added: u64,
    rows_removed: u64,
}

pub(super) async fn last_load(connection: &mut PgConnection, name: &str) -> sqlx::Result<Option<LastLoad>> {
    let row = sqlx::query(
        "SELECT number, id, version, rows_added, rows_removed FROM _forebay_loads WHERE name = $1 ORDER BY number DESC LIMIT 1",
    );
    let Some(row) = row.bind(name).fetch_optional(connection).await? else { return Ok(None) };
    let number = |column: &str| row.try_get::<i64, _>(column).map(unsigned);
    Ok(Some(LastLoad {
        number: number("number")?,
        id: row.try_get("id")?,
        version: number("version")?,
        rows_added: number("rows_added")?,
        rows_removed: number("rows_removed")?,
    }))
}

/// The receipt of a load that the table has; an error where the table is another's, or has another load in its place.
async fn already(
    server: &Server,
    connection: &mut PgConnection,
    load: &Load,
    known: &Known,
) -> Result<Option<LoadReceipt>, WarehouseError> {
    let name = load.table.table.as_str();
    let fenced = |what, hint| Err(WarehouseError::Fenced { table: name.to_owned(), what, hint });
    if known.ledger != load.ledger {
        return fenced(
            format!("ledger {} loads it, not ledger {}", known.ledger, load.ledger),
            "use the ledger that the table was loaded with, or give this one a table of its own",
        );
    }
    if known.pipeline != load.pipeline.as_str() {
        let what = format!("pipeline {:?} loads it, not {:?}", known.pipeline, load.pipeline.as_str());
        return Err(refused(name, what, "give each pipeline tables of its own"));
    }
    let last = last_load(connection, name).await.map_err(server.fault("look for a load"))?;
    let Some(LastLoad { number, id, version, rows_added, rows_removed }) = last else { return Ok(None) };
    if number < load.number {
        return Ok(None);
    }
    if number == load.number && id == load.id.to_string() {
        let receipt = LoadReceipt { table_version: version, rows_added, rows_removed, committed_now: false };
        return Ok(Some(receipt));
    }
    let what = match number > load.number {
        true => format!("it has load {number}, and load {} came after it", load.number),
        false => format!("its load {number} is {id}, not {}", load.id),
    };
    fenced(what, "the ledger is older than the table: restore the newer ledger, or rebuild it with `forebay recover`")
}

/// The load's staged tables, in its order.
async fn staged(server: &Server, connection: &mut PgConnection, load: &Load) -> Result<Vec<Staged>, WarehouseError> {
    let name = load.table.table.as_str();
    let fault = server.fault("look for staged rows");
    let rows = sqlx::query(
        "SELECT s.path, s.rows, s.arrow_schema FROM _forebay_staged s JOIN pg_class c ON c.relname = s.path \
         JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = $3 \
         WHERE s.name = $1 AND s.load IS NULL AND s.path = ANY ($2)",
    );
    let paths: Vec<&str> = load.files.iter().map(|file| file.path.as_str()).collect();
    let rows = rows.bind(name).bind(paths).bind(server.address.schema()).fetch_all(connection).await.map_err(&fault)?;
    let mut found = HashMap::new();
    for row in rows {
        let path: String = row.try_get("path").map_err(&fault)?;
        let schema: String = row.try_get("arrow_schema").map_err(&fault)?;
        let rows = unsigned(row.try_get("rows").map_err(&fault)?);
        found.insert(path, (rows, schema));
    }
    let take = |file: &forebay_model::StagedFile| {
        let (rows, schema) = found.remove(&file.path).ok_or_else(|| {
            let what = format!("staged table {:?} of load {} is gone", file.path, load.number);
            refused(name, what, "its segments are refined again: drop no tables whose names begin with _forebay")
        })?;
        let schema = schema_of(&schema).map_err(WarehouseError::Bug)?;
        Ok(Staged { path: file.path.clone(), rows, schema })
    };
    load.files.iter().map(take).collect()
}

/// Makes the table, or gives it the columns that the load brings; its schema then.
async fn shape(
    server: &Server,
    connection: &mut PgConnection,
    load: &Load,
    known: Option<&Known>,
) -> Result<SchemaRef, WarehouseError> {
    let name = load.table.table.as_str();
    let misfit = |what| refused(name, what, "cast or rename the column in a rule, or load a table of another name");
    let (before, after) = match known {
        Some(known) => (Arc::clone(&known.schema), merge(&known.schema, &load.schema).map_err(misfit)?.schema),
        None => {
            check_names("", load.schema.fields()).map_err(misfit)?;
            (Arc::new(Schema::empty()), Arc::clone(&load.schema))
        }
    };
    let relation = server.relation(name);
    let mut statements = Vec::new();
    if known.is_none() {
        statements.push(format!("CREATE TABLE {relation} ({})", columns(&after)?));
        let comment = format!("loaded by forebay: pipeline {} of ledger {}", load.pipeline, load.ledger);
        statements.push(format!("COMMENT ON TABLE {relation} IS {}", literal(&comment)));
    }
    let (mut changes, mut names) = (Vec::new(), Vec::new());
    for field in after.fields() {
        let kind = sql_type(field.data_type());
        match before.field_with_name(field.name()) {
            Ok(was) if sql_type(was.data_type()) == kind => continue,
            Ok(_) => changes.push(format!("ALTER COLUMN {} TYPE double precision", column(field.name()))),
            Err(_) => {
                changes.push(format!("ADD COLUMN {}", columns(&Schema::new(vec![Arc::clone(field)]))?));
                names.push(field.name());
            }
        }
    }
    if known.is_some() && !changes.is_empty() {
        statements.push(format!("ALTER TABLE {relation} {}", changes.join(", ")));
    }
    for whole in names.iter().filter(|whole| stored(whole) != ***whole) {
        statements.push(format!("COMMENT ON COLUMN {relation}.{} IS {}", column(whole), literal(whole)));
    }
    // What a replaced object and a replay look for, and what a ledger is rebuilt from: without it each reads the whole table.
    let own = [SEGMENT, LOAD];
    let has = |schema: &Schema| own.iter().all(|own| schema.field_with_name(own).is_ok());
    if has(&after) && !has(&before) {
        statements.push(format!("CREATE INDEX ON {relation} ({}, {})", column(SEGMENT), column(LOAD)));
    }
    for statement in statements {
        connection.execute(AssertSqlSafe(statement)).await.map_err(|error| error_of(server, load, error))?;
    }
    Ok(after)
}

async fn remove(
    server: &Server,
    connection: &mut PgConnection,
    load: &Load,
    schema: &Schema,
) -> Result<u64, WarehouseError> {
    let mut removed = 0;
    if schema.field_with_name(SEGMENT).is_err() {
        return Ok(removed);
    }
    for segments in load.removes.chunks(REMOVED_AT_ONCE) {
        let sql = format!(
            "DELETE FROM {} WHERE {} = ANY ({})",
            server.relation(&load.table.table),
            column(SEGMENT),
            array(segments.iter().map(SegmentId::as_str))
        );
        let done = connection.execute(AssertSqlSafe(sql)).await.map_err(|error| error_of(server, load, error))?;
        removed += done.rows_affected();
    }
    Ok(removed)
}

async fn add(
    server: &Server,
    connection: &mut PgConnection,
    load: &Load,
    schema: &SchemaRef,
    staged: &[Staged],
) -> Result<u64, WarehouseError> {
    let name = load.table.table.as_str();
    let mut added = 0;
    for Staged { path, rows, schema: has } in staged {
        let fits = merge(schema, has).and_then(|merged| match merged.schema.fields() == schema.fields() {
            true => Ok(()),
            false => Err(format!("staged table {path} has columns that the load does not name")),
        });
        fits.map_err(|what| {
            refused(name, what, "cast or rename the column in a rule, or load a table of another name")
        })?;
        let names: Vec<_> = has.fields().iter().map(|field| column(field.name())).collect();
        let names = names.join(", ");
        let (into, from) = (server.relation(name), server.relation(path));
        let sql = format!("INSERT INTO {into} ({names}) SELECT {names} FROM {from}");
        let done = connection.execute(AssertSqlSafe(sql)).await.map_err(|error| error_of(server, load, error))?;
        if done.rows_affected() != *rows {
            let what = format!("{} rows of staged table {path} went in, and {rows} were staged", done.rows_affected());
            let hint =
                "let nothing else write to tables whose names begin with _forebay, and no trigger or rule skip rows";
            return Err(refused(name, what, hint));
        }
        added += rows;
    }
    Ok(added)
}

async fn remember(
    server: &Server,
    connection: &mut PgConnection,
    load: &Load,
    (schema, rows): (&Schema, u64),
    receipt: &LoadReceipt,
) -> sqlx::Result<()> {
    let name = load.table.table.as_str();
    let encoded = |error: WarehouseError| sqlx::Error::Encode(Box::new(error));
    sqlx::query(
        "INSERT INTO _forebay_tables (name, ledger, pipeline, arrow_schema, version, rows) VALUES ($1, $2, $3, $4, $5, $6) \
         ON CONFLICT (name) DO UPDATE SET arrow_schema = excluded.arrow_schema, version = excluded.version, rows = excluded.rows",
    )
    .bind(name)
    .bind(load.ledger.to_string())
    .bind(load.pipeline.as_str())
    .bind(schema_text(schema).map_err(encoded)?)
    .bind(signed(receipt.table_version))
    .bind(signed(rows))
    .execute(&mut *connection)
    .await?;
    let paths: Vec<&str> = load.files.iter().map(|file| file.path.as_str()).collect();
    sqlx::query(
        "INSERT INTO _forebay_loads (name, number, id, revision, chosen, version, rows_added, rows_removed, replaces, staged, \
         committed_us) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    )
    .bind(name)
    .bind(signed(load.number))
    .bind(load.id.to_string())
    .bind(load.revision.to_string())
    .bind(load.chosen)
    .bind(signed(receipt.table_version))
    .bind(signed(receipt.rows_added))
    .bind(signed(receipt.rows_removed))
    .bind(load.removes.iter().map(SegmentId::as_str).collect::<Vec<_>>())
    .bind(&paths)
    .bind(server.clock.now().as_micros())
    .execute(&mut *connection)
    .await?;
    sqlx::query("UPDATE _forebay_staged SET load = $1 WHERE path = ANY ($2)")
        .bind(signed(load.number))
        .bind(&paths)
        .execute(connection)
        .await
        .map(drop)
}

/// Drops staged tables and forgets them, some at a time.
pub(super) async fn drop_staged(server: &Server, paths: &[String]) -> Result<(), WarehouseError> {
    let fault = server.fault("drop staged tables");
    let unique: BTreeSet<&String> = paths.iter().collect();
    let unique: Vec<&String> = unique.into_iter().collect();
    for paths in unique.chunks(AT_ONCE) {
        let mut transaction = server.writing().await?.begin().await.map_err(&fault)?;
        let relations: Vec<_> = paths.iter().map(|path| server.relation(path)).collect();
        let sql = format!("DROP TABLE IF EXISTS {}", relations.join(", "));
        transaction.execute(AssertSqlSafe(sql)).await.map_err(&fault)?;
        let sql =
            format!("DELETE FROM _forebay_staged WHERE path = ANY ({})", array(paths.iter().map(|path| path.as_str())));
        transaction.execute(AssertSqlSafe(sql)).await.map_err(&fault)?;
        transaction.commit().await.map_err(&fault)?;
    }
    Ok(())
}
