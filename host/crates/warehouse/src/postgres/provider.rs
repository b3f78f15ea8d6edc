//! A table for queries: the columns, the limit and the conditions on a row's segment and load go to the server, the rest is DataFusion's.

use std::sync::Arc;

use arrow_schema::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Result, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use forebay_model::{LOAD, SEGMENT};

use super::PostgresWarehouse;
use super::names::{column, literal};
use super::read::{Selection, projected, read};
use super::state::Server;

/// Batches that wait to be taken.
const WAITING: usize = 2;

#[derive(Debug)]
struct PostgresTable {
    server: Arc<Server>,
    table: String,
    schema: SchemaRef,
}

impl PostgresWarehouse {
    /// The table for queries; `None` where there is none of forebay's.
    ///
    /// # Errors
    /// Where the server does not answer.
    pub async fn provider(&self, table: &str) -> forebay_model::Result<Option<Arc<dyn TableProvider>>> {
        let Some(schema) = self.schema_of(table).await? else { return Ok(None) };
        let table = PostgresTable { server: Arc::clone(&self.server), table: table.to_owned(), schema };
        Ok(Some(Arc::new(table)))
    }
}

#[async_trait]
impl TableProvider for PostgresTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let told = filters.iter().map(|filter| match condition(filter) {
            Some(_) => TableProviderFilterPushDown::Exact,
            None => TableProviderFilterPushDown::Unsupported,
        });
        Ok(told.collect())
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = projected(&self.schema, projection)?;
        let conditions: Vec<_> = filters.iter().filter_map(condition).collect();
        let filter = (!conditions.is_empty()).then(|| conditions.join(" AND "));
        let selection = Selection { table: self.table.clone(), schema: Arc::clone(&schema), filter, limit };
        let part: Arc<dyn PartitionStream> = Arc::new(Part { server: Arc::clone(&self.server), selection });
        Ok(Arc::new(StreamingTableExec::try_new(schema, vec![part], None, [], false, limit)?))
    }
}

/// A condition as the server understands it; `None` where it is not to be told.
#[expect(clippy::wildcard_enum_match_arm, reason = "only these are told")]
fn condition(filter: &Expr) -> Option<String> {
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let op = match op {
                Operator::Eq => "=",
                Operator::Lt => "<",
                Operator::LtEq => "<=",
                Operator::Gt => ">",
                Operator::GtEq => ">=",
                _ => return None,
            };
            let (name, value) = (own_column(left)?, value(right)?);
            // The order of texts is the database's; that of bytes is ours.
            if name == SEGMENT && op != "=" {
                return None;
            }
            value.fits(name).then(|| format!("{} {op} {}", column(name), value.text))
        }
        Expr::InList(InList { expr, list, negated: false }) => {
            let name = own_column(expr)?;
            let values = list.iter().map(value).collect::<Option<Vec<_>>>()?;
            let fit = !values.is_empty() && values.iter().all(|value| value.fits(name));
            let texts: Vec<_> = values.into_iter().map(|value| value.text).collect();
            fit.then(|| format!("{} IN ({})", column(name), texts.join(", ")))
        }
        _ => None,
    }
}

fn own_column(expr: &Expr) -> Option<&'static str> {
    let Expr::Column(column) = expr else { return None };
    [SEGMENT, LOAD].into_iter().find(|own| column.name == *own)
}

struct Value {
    text: String,
    is_text: bool,
}

impl Value {
    fn fits(&self, name: &str) -> bool {
        self.is_text == (name == SEGMENT)
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "segments are texts, loads are numbers")]
fn value(expr: &Expr) -> Option<Value> {
    match expr {
        Expr::Literal(ScalarValue::Utf8(Some(text)) | ScalarValue::Utf8View(Some(text)), _) if !text.contains('\0') => {
            Some(Value { text: literal(text), is_text: true })
        }
        Expr::Literal(ScalarValue::Int64(Some(number)), _) => {
            Some(Value { text: format!("({number})"), is_text: false })
        }
        _ => None,
    }
}

#[derive(Debug)]
struct Part {
    server: Arc<Server>,
    selection: Selection,
}

impl PartitionStream for Part {
    fn schema(&self) -> &SchemaRef {
        &self.selection.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let mut builder = RecordBatchReceiverStream::builder(Arc::clone(&self.selection.schema), WAITING);
        let sender = builder.tx();
        let (server, selection) = (Arc::clone(&self.server), self.selection.clone());
        builder.spawn(async move {
            let sending = &sender;
            let done = read(&server, &selection, |batch| async move { sending.send(Ok(batch)).await.is_ok() }).await;
            done.map_err(|error| DataFusionError::External(Box::new(forebay_model::Error::from(error))))
        });
        builder.build()
    }
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::{col, lit};

    use super::*;

    #[test]
    fn conditions_that_the_server_reads_alike_are_told_to_it() {
        let segment = || col(SEGMENT);
        assert_eq!(condition(&segment().eq(lit("it's"))).as_deref(), Some("\"_forebay_segment\" = 'it''s'"));
        let list = segment().in_list(vec![lit("a"), lit("b")], false);
        assert_eq!(condition(&list).as_deref(), Some("\"_forebay_segment\" IN ('a', 'b')"));
        assert_eq!(condition(&col(LOAD).gt(lit(-7_i64))).as_deref(), Some("\"_forebay_load\" > (-7)"));
        assert_eq!(condition(&segment().gt(lit("a"))), None);
        assert_eq!(condition(&segment().eq(lit("a\0"))), None);
        assert_eq!(condition(&col(LOAD).eq(lit("a"))), None);
        assert_eq!(condition(&col("amount").eq(lit(1_i64))), None);
    }
}
