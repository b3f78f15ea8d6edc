//! Schemas whose tables are opened when a statement names them.

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema};
use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::common::Result;
use datafusion::datasource::{MemTable, TableType};
use datafusion::error::DataFusionError;
use forebay_model::ids::WarehouseName;
use forebay_model::{TableName, column};
use forebay_pipeline::refine::bind::rejects_schema;

use super::Stores;
use super::scan::SegmentTable;
use crate::assemble;

/// What a schema's tables are.
#[derive(Debug)]
pub(super) enum Tables {
    /// A warehouse's.
    Warehouse(WarehouseName),
    /// A rejects table for each pipeline.
    Rejects,
    /// A stream's records as they landed.
    Raw,
    /// The ledger's documented tables.
    Ledger,
}

/// A schema.
#[derive(Debug)]
pub(super) struct LakeSchema {
    stores: Stores,
    tables: Tables,
    names: Vec<String>,
}

impl LakeSchema {
    pub(super) fn new(stores: Stores, tables: Tables, names: Vec<String>) -> Self {
        Self { stores, tables, names }
    }

    async fn open(&self, name: &str) -> forebay_model::Result<Option<Arc<dyn TableProvider>>> {
        let Stores { config, ledger } = &self.stores;
        match &self.tables {
            Tables::Warehouse(warehouse) => {
                let Ok(table) = TableName::new(warehouse.clone(), name) else { return Ok(None) };
                assemble::table_provider(config, &table).await
            }
            Tables::Rejects => {
                let Some(table) = config.pipelines.iter().find(|(pipeline, _)| pipeline.as_str() == name) else {
                    return Ok(None);
                };
                match assemble::table_provider(config, &table.1.rejects).await? {
                    Some(provider) => Ok(Some(provider)),
                    None => nothing_rejected().map(Some),
                }
            }
            Tables::Raw => {
                let stream = config.streams.keys().find(|stream| stream.as_str() == name);
                Ok(stream.map(|stream| {
                    let table: Arc<dyn TableProvider> =
                        Arc::new(SegmentTable::raw(self.stores.clone(), stream.clone()));
                    table
                }))
            }
            Tables::Ledger => {
                if !ledger.table_names().contains(&name) {
                    return Ok(None);
                }
                let batch = ledger.read_table(name).await?;
                let table = MemTable::try_new(batch.schema(), vec![vec![batch]])
                    .map_err(|error| forebay_model::Error::bug(format!("ledger.{name} as a table: {error}")))?;
                Ok(Some(Arc::new(table)))
            }
        }
    }
}

/// A rejects table is made with the first record that is refused: until then it is one without rows.
fn nothing_rejected() -> forebay_model::Result<Arc<dyn TableProvider>> {
    let mut fields = rejects_schema().fields().to_vec();
    fields.extend(column::own_fields());
    // As the reader of the real one gives them.
    let fields = fields.into_iter().map(|field| {
        let is_text = *field.data_type() == DataType::Utf8;
        if is_text { Arc::new(field.as_ref().clone().with_data_type(DataType::Utf8View)) } else { field }
    });
    let fields: Vec<_> = fields.collect();
    let table = MemTable::try_new(Arc::new(Schema::new(fields)), vec![vec![]])
        .map_err(|error| forebay_model::Error::bug(format!("a rejects table without rows: {error}")))?;
    Ok(Arc::new(table))
}

#[async_trait]
impl SchemaProvider for LakeSchema {
    fn table_names(&self) -> Vec<String> {
        self.names.clone()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        self.open(name).await.map_err(|error| DataFusionError::External(Box::new(error)))
    }

    /// Known without opening it: one table that cannot be read keeps no other from being listed.
    async fn table_type(&self, name: &str) -> Result<Option<TableType>> {
        Ok(self.table_exist(name).then_some(TableType::Base))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.names.iter().any(|known| known == name)
    }
}
