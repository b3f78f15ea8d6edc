//! Tables in a schema of a PostgreSQL database.
//!
//! | what | where |
//! |---|---|
//! | types: numeric, timestamptz, `jsonb` for what is nested | [`types`], [`json`], [`numeric`] |
//! | names: quoted, at most 63 bytes | [`names`] |
//! | rows by binary COPY, there and back | [`copy`], [`decode`] |
//! | staged rows: tables of their own, durable when `finish` returns | [`stage`] |
//! | one transaction for a load, its number and id in it | [`commit`] |
//! | what a ledger is rebuilt from | [`history`] |
//! | what is known of tables, loads and staged tables | [`state`] |
//! | staged tables that are left over | [`maintain`] |
//! | queries: columns, limits, segments and loads go to the server | [`provider`], [`read`] |
//!
//! What differs from tables of files: a table's rows are not divided by columns (`partition_by` is refused: partitioned tables, indexes,
//! grants and views are the database's business, and a person's); there are no files to compact; and there is no version but the
//! last one to read. Other sessions may read, index and constrain the tables; columns that people add stay null in forebay's rows.
//!
//! Each table has an index on (`_forebay_segment`, `_forebay_load`): rows that are replaced are found by it, and what each load brought is
//! counted from it alone when a ledger is rebuilt. Rows of a segment are equal in both, so PostgreSQL keeps them as one entry of many
//! places: it stays small.

mod commit;
mod copy;
mod decode;
mod history;
mod json;
mod maintain;
mod names;
mod numeric;
mod provider;
mod read;
mod stage;
mod state;
mod types;

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use async_trait::async_trait;
use forebay_model::ports::{
    Clock, CommittedLoad, MaintainOptions, MaintainReport, Random, StagedWriter, StagingRequest, TableHistory,
    TableInfo, TableOwner, Warehouse,
};
use forebay_model::{Load, LoadReceipt, Result, SegmentId, StagedFile};
use forebay_postgres::PostgresAddress;
use sqlx::Row as _;
use uuid::Uuid;

use self::stage::PostgresStagedWriter;
use self::state::{Known, Server, exists, unsigned};
use crate::columns;
use crate::error::WarehouseError;

/// What to do with `partition_by`.
const UNDIVIDED: &str = "leave partition_by out: a table in PostgreSQL is not divided by forebay; index or partition what reads it in the database";

/// How a warehouse is opened.
#[derive(Clone)]
pub struct PostgresOptions {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Names of staged tables.
    pub random: Arc<dyn Random>,
    /// To be read only: nothing is made, and where there is no warehouse there are no tables.
    pub reading: bool,
    /// Called at named points, for faults.
    pub failpoint: fn(&str),
}

impl PostgresOptions {
    /// The defaults.
    pub fn new(clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        Self { clock, random, reading: false, failpoint: |_| {} }
    }
}

impl std::fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { clock: _, random: _, reading, failpoint: _ } = self;
        f.debug_struct("PostgresOptions").field("reading", reading).finish_non_exhaustive()
    }
}

/// Tables in a schema of a PostgreSQL database. See the module.
#[derive(Debug)]
pub struct PostgresWarehouse {
    server: Arc<Server>,
}

impl PostgresWarehouse {
    /// A warehouse at an address. It is connected to when it is first used, and its schema and forebay's own tables are made then
    /// where they are missing, unless it is only read.
    ///
    /// # Errors
    /// Class bug, outside of a runtime.
    pub fn open(address: &PostgresAddress, options: PostgresOptions) -> Result<Self, WarehouseError> {
        let PostgresOptions { clock, random, reading, failpoint } = options;
        Ok(Self { server: Arc::new(Server::new(address, (clock, random), failpoint, reading)?) })
    }

    async fn table_info(&self, name: &str) -> Result<Option<TableInfo>, WarehouseError> {
        let fault = self.server.fault("look for a table");
        let Some(pool) = self.server.pool().await? else { return Ok(None) };
        let mut connection = pool.acquire().await.map_err(&fault)?;
        let schema = self.server.address.schema();
        let Some(Known { ledger, pipeline, schema: columns, version, rows }) =
            self.server.known(&mut connection, name).await?
        else {
            let there = exists(&mut connection, schema, &names::stored(name)).await.map_err(fault)?;
            // Whose columns are nobody's business: it is refused for having none of forebay's.
            return Ok(there.then(|| TableInfo {
                schema: Arc::new(Schema::empty()),
                partition_by: Vec::new(),
                owner: None,
                version: 0,
                files: 0,
                bytes: 0,
                rows: None,
            }));
        };
        let size = sqlx::query(
            "SELECT pg_total_relation_size(c.oid) AS bytes FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE n.nspname = $1 AND c.relname = $2",
        );
        let size = size.bind(schema).bind(names::stored(name)).fetch_optional(&mut *connection).await;
        let bytes = match size.map_err(&fault)? {
            Some(row) => row.try_get::<Option<i64>, _>("bytes").map_err(fault)?.map_or(0, unsigned),
            None => 0,
        };
        Ok(Some(TableInfo {
            schema: columns,
            partition_by: Vec::new(),
            owner: Some(TableOwner { ledger, pipeline }),
            version,
            files: 0,
            bytes,
            rows: Some(rows),
        }))
    }

    async fn list_tables(&self) -> Result<Vec<String>, WarehouseError> {
        let fault = self.server.fault("list its tables");
        let Some(pool) = self.server.pool().await? else { return Ok(Vec::new()) };
        let known = sqlx::query("SELECT name FROM _forebay_tables ORDER BY name COLLATE \"C\"").fetch_all(pool).await;
        let there = sqlx::query(
            "SELECT c.relname::text AS relation FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1",
        );
        let there = there.bind(self.server.address.schema()).fetch_all(pool).await.map_err(&fault)?;
        let there = there.iter().map(|row| row.try_get::<String, _>("relation"));
        let there = there.collect::<sqlx::Result<std::collections::HashSet<_>>>().map_err(&fault)?;
        let names = known.map_err(&fault)?;
        let names = names.iter().map(|row| row.try_get::<String, _>("name"));
        let mut names = names.collect::<sqlx::Result<Vec<_>>>().map_err(fault)?;
        names.retain(|name| there.contains(&names::stored(name)));
        Ok(names)
    }
}

#[async_trait]
impl Warehouse for PostgresWarehouse {
    fn kind(&self) -> &'static str {
        "postgres"
    }

    fn storage_field(&self, field: &Field) -> Result<Field> {
        let stored = columns::storage_field(field)?;
        types::check_keys(stored.name(), stored.data_type())?;
        Ok(stored)
    }

    fn store_column(&self, column: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
        columns::store_column(column, to)
    }

    fn check_partitioning(&self, table: &str, partition_by: &[String]) -> Result<()> {
        if partition_by.is_empty() {
            return Ok(());
        }
        let what = format!("it cannot be divided by {partition_by:?}");
        Err(WarehouseError::Refused { table: table.to_owned(), what, hint: UNDIVIDED }.into())
    }

    async fn table(&self, table: &str) -> Result<Option<TableInfo>> {
        Ok(Box::pin(self.table_info(table)).await?)
    }

    async fn tables(&self) -> Result<Vec<String>> {
        Ok(Box::pin(self.list_tables()).await?)
    }

    fn stage(&self, request: StagingRequest) -> Result<Box<dyn StagedWriter>> {
        self.check_partitioning(&request.table, &request.partition_by)?;
        Ok(Box::new(PostgresStagedWriter::new(Arc::clone(&self.server), request)))
    }

    async fn commit(&self, load: &Load) -> Result<LoadReceipt> {
        Ok(Box::pin(self.commit_load(load)).await?)
    }

    async fn committed(&self, table: &str, ledger: Uuid, pipeline: &str) -> Result<Option<CommittedLoad>> {
        Ok(Box::pin(self.committed_load(table, ledger, pipeline)).await?)
    }

    async fn history(&self, table: &str) -> Result<Option<TableHistory>> {
        Ok(Box::pin(self.table_history(table)).await?)
    }

    async fn rows_of(&self, table: &str, segment: &SegmentId) -> Result<Vec<RecordBatch>> {
        Ok(Box::pin(self.segment_rows(table, segment)).await?)
    }

    async fn discard(&self, table: &str, files: &[StagedFile]) -> Result<()> {
        Ok(Box::pin(self.discard_files(table, files)).await?)
    }

    async fn maintain(&self, table: &str, options: &MaintainOptions) -> Result<MaintainReport> {
        Ok(Box::pin(self.maintain_table(table, options)).await?)
    }

    async fn drop_table(&self, table: &str, owner: &TableOwner) -> Result<bool> {
        Ok(Box::pin(self.drop_owned(table, owner)).await?)
    }
}
