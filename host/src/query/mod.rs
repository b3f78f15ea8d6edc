//! SQL over everything that forebay keeps: tables, rejects, raw segments and the ledger. Reading only, also while a host
//! runs: the ledger is opened for reading, and a table is read at the version that it has when it is first named.
//!
//! | schema | tables |
//! |---|---|
//! | each warehouse's name | its tables: `lake.payments` |
//! | `rejects` | for each pipeline, the records that were refused |
//! | `raw` | for each stream, its records as they landed: see [`scan`] |
//! | `ledger` | `segments`, `loads`, `revisions` …: see `docs/ledger.md` |
//!
//! Only what a statement names is opened. Memory is bounded by `host.memory`: what sorts, joins and groups hold beyond it
//! is written to temporary files, or the statement ends with an error that says so.

mod catalog;
mod error;
pub(crate) mod render;
mod scan;

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::{CatalogProvider, MemoryCatalogProvider, MemorySchemaProvider};
use datafusion::common::ScalarValue;
use datafusion::dataframe::DataFrame;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{SQLOptions, SessionConfig, SessionContext};
use forebay_model::ports::Ledger;
use forebay_model::{PipelineName, StreamName, TableName};

use crate::assemble;
use crate::cli::need_ledger;
use crate::config::Config;
use catalog::{LakeSchema, Tables};
use error::sql_error;
use scan::SegmentTable;

/// The catalog's name; nobody needs to write it.
const CATALOG: &str = "forebay";

/// What is read from: the config and the ledger that it names.
#[derive(Debug, Clone)]
pub(crate) struct Stores {
    pub(crate) config: Arc<Config>,
    pub(crate) ledger: Arc<dyn Ledger>,
}

/// A session: statements see the same tables.
pub(crate) struct Lake {
    stores: Stores,
    context: SessionContext,
    names: Arc<Vec<String>>,
}

impl Lake {
    /// Opens the ledger for reading; tables are opened when they are named.
    ///
    /// # Errors
    /// Where there is no ledger yet, or it or a warehouse's folder cannot be read.
    pub(crate) async fn open(config: Config) -> anyhow::Result<Self> {
        need_ledger(&config).await?;
        let ledger = assemble::open_ledger(&config, assemble::Access::Read).await?;
        Self::with_ledger(Arc::new(config), ledger).await
    }

    /// Over a ledger that is open already.
    pub(crate) async fn with_ledger(config: Arc<Config>, ledger: Arc<dyn Ledger>) -> anyhow::Result<Self> {
        let stores = Stores { config, ledger };
        let mut schemas: Vec<(String, Tables, Vec<String>)> = Vec::new();
        for name in stores.config.warehouses.keys() {
            let tables = assemble::warehouse_tables(&stores.config, name).await?;
            schemas.push((name.to_string(), Tables::Warehouse(name.clone()), tables));
        }
        let pipelines = stores.config.pipelines.keys().map(ToString::to_string).collect();
        let streams = stores.config.streams.keys().map(ToString::to_string).collect();
        let ledger = stores.ledger.table_names().into_iter().map(str::to_owned).collect();
        schemas.push(("rejects".to_owned(), Tables::Rejects, pipelines));
        schemas.push(("raw".to_owned(), Tables::Raw, streams));
        schemas.push(("ledger".to_owned(), Tables::Ledger, ledger));

        let context = context(&stores.config)?;
        let catalog = MemoryCatalogProvider::new();
        let mut names = Vec::new();
        for (schema, tables, table_names) in schemas {
            names.extend(table_names.iter().map(|table| format!("{schema}.{table}")));
            catalog.register_schema(&schema, Arc::new(LakeSchema::new(stores.clone(), tables, table_names)))?;
        }
        catalog.register_schema(BARE_SCHEMA, Arc::new(MemorySchemaProvider::new()))?;
        context.register_catalog(CATALOG, Arc::new(catalog));
        Ok(Self { stores, context, names: Arc::new(names) })
    }

    /// What is read from.
    pub(crate) fn stores(&self) -> &Stores {
        &self.stores
    }

    /// Whether the table is there: a pipeline's tables are made by the first load.
    pub(crate) fn has(&self, table: &TableName) -> bool {
        let table = table.to_string();
        self.names.contains(&table)
    }

    /// Plans a statement that reads.
    ///
    /// # Errors
    /// Exit code 2, with what is likely meant, where it is not SQL, names what is not there, or would write.
    pub(crate) async fn sql(&self, sql: &str) -> anyhow::Result<DataFrame> {
        let options = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        let frame = self.context.sql_with_options(sql, options).await;
        frame.map_err(|error| sql_error(&error, &self.names))
    }

    /// Runs one of forebay's own statements, with `$name` filled in.
    ///
    /// # Errors
    /// As [`Self::sql`].
    pub(crate) async fn rows(&self, sql: &str, values: Vec<(&str, ScalarValue)>) -> anyhow::Result<Rows> {
        let frame = self.filled(sql, values).await?;
        self.collect(frame).await
    }

    /// One of forebay's own statements with `$name` filled in, planned.
    ///
    /// # Errors
    /// As [`Self::sql`].
    pub(crate) async fn filled(&self, sql: &str, values: Vec<(&str, ScalarValue)>) -> anyhow::Result<DataFrame> {
        let frame = self.sql(sql).await?;
        if values.is_empty() {
            return Ok(frame);
        }
        frame.with_param_values(values).map_err(|error| self.explain(&error))
    }

    /// Runs a planned statement, and keeps its answer.
    ///
    /// # Errors
    /// As [`Self::sql`].
    pub(crate) async fn collect(&self, frame: DataFrame) -> anyhow::Result<Rows> {
        let schema = Arc::clone(frame.schema().inner());
        let batches = frame.collect().await.map_err(|error| sql_error(&error, &self.names))?;
        Ok(Rows { schema, batches })
    }

    /// An error of a statement that runs, as a person reads it.
    pub(crate) fn explain(&self, error: &datafusion::error::DataFusionError) -> anyhow::Error {
        sql_error(error, &self.names)
    }

    /// Offers a stream's segments, decoded to a pipeline's schema, as the table `name` without a schema's name; with
    /// `since`, only those that landed then or later.
    ///
    /// # Errors
    /// Where the pipeline has no schema yet.
    pub(crate) async fn offer_decoded(
        &self,
        name: &str,
        stream: &StreamName,
        pipeline: &PipelineName,
        since: Option<forebay_model::Timestamp>,
    ) -> anyhow::Result<bool> {
        let Some(schema) = self.stores.ledger.schema(pipeline).await? else { return Ok(false) };
        let table = SegmentTable::decoded(self.stores.clone(), stream.clone(), &schema.schema, since);
        let bare = datafusion::common::TableReference::full(CATALOG, BARE_SCHEMA, name);
        self.context.register_table(bare, Arc::new(table))?;
        Ok(true)
    }

    /// Offers a table of a warehouse as `name` without a schema's name: as it stood at a version, or as it stands now. False where there is
    /// none.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub(crate) async fn offer_table(&self, name: &str, table: &TableName, at: Option<u64>) -> anyhow::Result<bool> {
        let config = &self.stores.config;
        let provider = match at {
            Some(version) => Some(assemble::table_provider_at(config, table, version).await?),
            None => assemble::table_provider(config, table).await?,
        };
        let Some(provider) = provider else { return Ok(false) };
        let bare = datafusion::common::TableReference::full(CATALOG, BARE_SCHEMA, name);
        self.context.register_table(bare, provider)?;
        Ok(true)
    }
}

/// The schema of tables that a verb offers to itself.
pub(crate) const BARE_SCHEMA: &str = "decoded";

/// The answer to a statement, whole.
#[derive(Debug)]
pub(crate) struct Rows {
    pub(crate) schema: SchemaRef,
    pub(crate) batches: Vec<RecordBatch>,
}

fn context(config: &Config) -> anyhow::Result<SessionContext> {
    let memory = usize::try_from(config.host.memory).unwrap_or(usize::MAX);
    let runtime = RuntimeEnvBuilder::new().with_memory_limit(memory, 1.0).build_arc()?;
    // With one warehouse, a table's name alone is enough.
    let schema = match config.warehouses.keys().collect::<Vec<_>>().as_slice() {
        [only] => only.to_string(),
        _ => "lake".to_owned(),
    };
    let settings = SessionConfig::new()
        .with_target_partitions(config.host.workers.get())
        .with_create_default_catalog_and_schema(false)
        .with_default_catalog_and_schema(CATALOG, schema)
        .with_information_schema(true);
    Ok(SessionContext::new_with_config_rt(settings, runtime))
}

impl Rows {
    /// Each row as a JSON object; nulls stand as null.
    ///
    /// # Errors
    /// Where a value has no JSON form.
    pub(crate) fn objects(&self) -> anyhow::Result<Vec<Object>> {
        let mut bytes = Vec::new();
        let builder = arrow::json::WriterBuilder::new().with_explicit_nulls(true);
        let mut writer = builder.build::<_, arrow::json::writer::LineDelimited>(&mut bytes);
        for batch in &self.batches {
            writer.write(batch)?;
        }
        writer.finish()?;
        drop(writer);
        let rows = serde_json::Deserializer::from_slice(&bytes).into_iter().collect::<Result<_, _>>()?;
        Ok(rows)
    }
}

/// A row as JSON.
pub(crate) type Object = serde_json::Map<String, serde_json::Value>;
