//! Reading a table: COPY to us, decoded as it comes, so memory is bounded whatever the table.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{ArrowError, Schema, SchemaRef};
use arrow_select::concat::concat_batches;
use forebay_model::{ErrorClass, SEGMENT, SegmentId};
use futures::TryStreamExt as _;

use super::PostgresWarehouse;
use super::decode::Decoder;
use super::names::{column, literal};
use super::state::Server;
use crate::error::WarehouseError;

/// What is read of a table.
#[derive(Debug, Clone)]
pub(super) struct Selection {
    pub(super) table: String,
    /// The columns, in this order.
    pub(super) schema: SchemaRef,
    /// A condition in SQL.
    pub(super) filter: Option<String>,
    pub(super) limit: Option<usize>,
}

impl Selection {
    fn sql(&self, server: &Server) -> String {
        let names: Vec<_> = self.schema.fields().iter().map(|field| column(field.name())).collect();
        let mut sql = format!("SELECT {} FROM {}", names.join(", "), server.relation(&self.table));
        if let Some(filter) = &self.filter {
            sql.push_str(" WHERE ");
            sql.push_str(filter);
        }
        if let Some(limit) = self.limit {
            sql.push_str(&format!(" LIMIT {limit}"));
        }
        format!("COPY ({sql}) TO STDOUT (FORMAT binary)")
    }
}

/// Reads rows and gives them on, batch by batch, as long as they are wanted.
pub(super) async fn read<F>(
    server: &Server,
    selection: &Selection,
    mut give: impl FnMut(RecordBatch) -> F,
) -> Result<(), WarehouseError>
where
    F: Future<Output = bool>,
{
    let fault = server.fault("read a table");
    let undecoded = |error: ArrowError| WarehouseError::Server {
        place: server.address.to_string(),
        doing: "read a table's rows",
        class: ErrorClass::Operator,
        hint: Some("let the table's columns have the types that forebay gave them".to_owned()),
        source: format!("table {}: {error}", selection.table).into(),
    };
    let mut decoder = Decoder::new(Arc::clone(&selection.schema)).map_err(&undecoded)?;
    let mut connection = server.connect().await?;
    {
        let mut rows = connection.copy_out_raw(&selection.sql(server)).await.map_err(&fault)?;
        while let Some(bytes) = rows.try_next().await.map_err(&fault)? {
            decoder.push(&bytes).map_err(&undecoded)?;
            if decoder.is_full()
                && let Some(batch) = decoder.take().map_err(&undecoded)?
                && !give(batch).await
            {
                // The connection is dropped, and with it what the server still sends.
                return Ok(());
            }
        }
    }
    server.keep(connection);
    if let Some(batch) = decoder.finish().map_err(undecoded)? {
        give(batch).await;
    }
    Ok(())
}

/// The same, kept.
async fn collect(server: &Server, selection: &Selection) -> Result<Vec<RecordBatch>, WarehouseError> {
    let mut batches = Vec::new();
    read(server, selection, |batch| {
        batches.push(batch);
        std::future::ready(true)
    })
    .await?;
    Ok(batches)
}

impl PostgresWarehouse {
    /// The table's schema; `None` where there is no table of forebay's.
    pub(super) async fn schema_of(&self, table: &str) -> Result<Option<SchemaRef>, WarehouseError> {
        let Some(pool) = self.server.pool().await? else { return Ok(None) };
        let mut connection = pool.acquire().await.map_err(self.server.fault("look for a table"))?;
        Ok(self.server.known(&mut connection, table).await?.map(|known| known.schema))
    }

    pub(super) async fn segment_rows(
        &self,
        table: &str,
        segment: &SegmentId,
    ) -> Result<Vec<RecordBatch>, WarehouseError> {
        let Some(schema) = self.schema_of(table).await? else { return Ok(Vec::new()) };
        if schema.field_with_name(SEGMENT).is_err() {
            return Ok(Vec::new());
        }
        let filter = Some(format!("{} = {}", column(SEGMENT), literal(segment.as_str())));
        collect(&self.server, &Selection { table: table.to_owned(), schema, filter, limit: None }).await
    }

    /// All rows of a table; `None` where there is none.
    ///
    /// # Errors
    /// Where the server does not answer, or the table is not as forebay made it.
    pub async fn rows(&self, table: &str) -> forebay_model::Result<Option<RecordBatch>> {
        let Some(schema) = self.schema_of(table).await? else { return Ok(None) };
        let selection = Selection { table: table.to_owned(), schema: Arc::clone(&schema), filter: None, limit: None };
        let batches = collect(&self.server, &selection).await?;
        let whole = concat_batches(&schema, &batches);
        Ok(Some(whole.map_err(|error| WarehouseError::Bug(format!("rows of one table do not fit: {error}")))?))
    }
}

/// Columns by their places.
pub(super) fn projected(schema: &SchemaRef, places: Option<&Vec<usize>>) -> Result<SchemaRef, ArrowError> {
    match places {
        Some(places) => Ok(Arc::new(Schema::project(schema, places)?)),
        None => Ok(Arc::clone(schema)),
    }
}
