//! A stream's landed segments as a table, read batch by batch: nothing is kept, a limit stops the reading.
//!
//! As `raw.<stream>` it has a row for each record, rejected ones too, with the same numbers that tables and rejects use:
//!
//! | column | |
//! |---|---|
//! | `segment` | the segment's id |
//! | `record` | the record's number in it, from 0 |
//! | `object` | the source's object: a file's path relative to its folder; the partition for record streams |
//! | `landed_at` | when the segment landed |
//! | `position`, `key`, `timestamp` | the record's own, for record streams; null for objects |
//! | `raw` | its text; bytes that are not UTF-8 are shown as U+FFFD |
//!
//! Conditions on `segment`, `object` and `landed_at` choose the segments that are read.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, StringArray, StringBuilder, TimestampMicrosecondArray,
    new_null_array,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Result, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use forebay_model::flow::{DecodedBatch, record_column};
use forebay_model::{LandedSegment, SegmentId, StreamName, Timestamp, column};

use super::Stores;
use crate::assemble;

/// The columns that a segment is chosen by.
const SEGMENT: &str = "segment";
const OBJECT: &str = "object";

/// What a row shows of a record.
#[derive(Debug, Clone)]
enum Shape {
    /// Its text.
    Raw,
    /// Its fields, in this schema, with `_forebay_segment`, `_forebay_row` and `_forebay_rescued`.
    Decoded(SchemaRef),
}

/// A stream's segments as a table.
#[derive(Debug)]
pub(super) struct SegmentTable {
    stores: Stores,
    stream: StreamName,
    shape: Shape,
    schema: SchemaRef,
    since: Option<Timestamp>,
}

impl SegmentTable {
    /// Records as text.
    pub(super) fn raw(stores: Stores, stream: StreamName) -> Self {
        let time = || DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let schema = Schema::new(vec![
            Field::new(SEGMENT, DataType::Utf8, false),
            Field::new("record", DataType::Int64, false),
            Field::new(OBJECT, DataType::Utf8, false),
            Field::new("landed_at", time(), false),
            Field::new("position", DataType::Utf8, true),
            Field::new("key", DataType::Binary, true),
            Field::new("timestamp", time(), true),
            Field::new("raw", DataType::Utf8, false),
        ]);
        Self { stores, stream, shape: Shape::Raw, schema: Arc::new(schema), since: None }
    }

    /// Records decoded to a pipeline's schema.
    pub(super) fn decoded(stores: Stores, stream: StreamName, schema: &SchemaRef, since: Option<Timestamp>) -> Self {
        let own = [
            Field::new(column::SEGMENT, DataType::Utf8, true),
            Field::new(column::ROW, DataType::Int64, true),
            Field::new(column::RESCUED, DataType::Utf8, true),
        ];
        let fields: Vec<_> = schema.fields().iter().cloned().chain(own.map(Arc::new)).collect();
        let shape = Shape::Decoded(Arc::clone(schema));
        Self { stores, stream, shape, schema: Arc::new(Schema::new(fields)), since }
    }

    /// The segments that the conditions leave, in the order of landing.
    async fn segments(&self, filters: &[Expr]) -> forebay_model::Result<Vec<LandedSegment>> {
        let table = self.stores.ledger.read_table("segments").await?;
        let text =
            |name: &str| table.column_by_name(name).and_then(|column| column.as_any().downcast_ref::<StringArray>());
        let (Some(ids), Some(streams)) = (text("segment"), text("stream")) else {
            return Err(forebay_model::Error::bug("ledger.segments has no segment or stream"));
        };
        let mut segments = Vec::new();
        for (id, stream) in ids.iter().zip(streams.iter()) {
            let (Some(id), Some(stream)) = (id, stream) else { continue };
            if stream != self.stream.as_str() || !filters.iter().all(|filter| may_hold(filter, SEGMENT, id)) {
                continue;
            }
            let Some(segment) = self.stores.ledger.segment(&SegmentId::from_text(id)).await? else { continue };
            let key = segment.object_key();
            let recent = self.since.is_none_or(|since| segment.landed_at >= since);
            if recent && filters.iter().all(|filter| may_hold(filter, OBJECT, key)) {
                segments.push(segment);
            }
        }
        Ok(segments)
    }
}

#[async_trait]
impl TableProvider for SegmentTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let external = |error| DataFusionError::External(Box::new(error));
        let segments = self.segments(filters).await.map_err(external)?;
        let parts = self.stores.config.host.workers.get();
        let part = segments.len().div_ceil(parts).max(1);
        let partitions = segments.chunks(part).map(|segments| {
            let partition: Arc<dyn PartitionStream> = Arc::new(Part {
                stores: self.stores.clone(),
                shape: self.shape.clone(),
                schema: Arc::clone(&self.schema),
                segments: segments.to_vec(),
            });
            partition
        });
        let partitions = partitions.collect();
        let plan = StreamingTableExec::try_new(Arc::clone(&self.schema), partitions, projection, [], false, limit)?;
        Ok(Arc::new(plan))
    }
}

/// Whether a row whose `name` is `value` may pass the condition; what is not understood may.
#[expect(clippy::wildcard_enum_match_arm, reason = "a condition that is not understood may hold")]
fn may_hold(filter: &Expr, name: &str, value: &str) -> bool {
    let is_column = |expr: &Expr| matches!(expr, Expr::Column(column) if column.name == name);
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => {
            let other = if is_column(left) {
                right
            } else if is_column(right) {
                left
            } else {
                return true;
            };
            literal(other).is_none_or(|text| text == value)
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
            may_hold(left, name, value) && may_hold(right, name, value)
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            may_hold(left, name, value) || may_hold(right, name, value)
        }
        Expr::InList(list) if !list.negated && is_column(&list.expr) => {
            list.list.iter().any(|item| literal(item).is_none_or(|text| text == value))
        }
        _ => true,
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "anything else is no text that is known now")]
fn literal(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Literal(ScalarValue::Utf8(Some(text)) | ScalarValue::Utf8View(Some(text)), _) => Some(text),
        _ => None,
    }
}

/// Some segments, read one after the other on a blocking thread.
#[derive(Debug)]
struct Part {
    stores: Stores,
    shape: Shape,
    schema: SchemaRef,
    segments: Vec<LandedSegment>,
}

impl PartitionStream for Part {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let mut builder = RecordBatchReceiverStream::builder(Arc::clone(&self.schema), 2);
        let sender = builder.tx();
        let Self { stores, shape, schema, segments } = self;
        let (stores, shape, schema, segments) = (stores.clone(), shape.clone(), Arc::clone(schema), segments.clone());
        builder.spawn_blocking(move || {
            let external = |error: forebay_model::Error| DataFusionError::External(Box::new(error));
            let decode_to = match &shape {
                Shape::Raw => Arc::new(Schema::empty()),
                Shape::Decoded(schema) => Arc::clone(schema),
            };
            let zone = assemble::open_zone(&stores.config, assemble::Access::Read).map_err(external)?;
            for segment in &segments {
                let opened = assemble::open_segment(&stores.config, &*zone, segment, &decode_to);
                let mut decoder = match opened {
                    Ok(decoder) => decoder,
                    Err(error) => {
                        left_out(segment, &error);
                        continue;
                    }
                };
                loop {
                    let decoded = match decoder.next_batch() {
                        Ok(Some(decoded)) => decoded,
                        Ok(None) => break,
                        Err(error) => {
                            left_out(segment, &error);
                            break;
                        }
                    };
                    let batch = match &shape {
                        Shape::Raw => raw_batch(segment, &decoded, &schema),
                        Shape::Decoded(_) => decoded_batch(segment, &decoded, &schema),
                    }?;
                    // Nobody waits for more: a limit was reached.
                    if sender.blocking_send(Ok(batch)).is_err() {
                        return Ok(());
                    }
                }
            }
            Ok(())
        });
        builder.build()
    }
}

/// One object that cannot be read keeps no other from being asked; its bytes lie in the zone as they came.
fn left_out(segment: &LandedSegment, error: &forebay_model::Error) {
    tracing::warn!(
        key = segment.object_key(),
        object = segment.object,
        error = error.chain(),
        hint = error.hint(),
        "left out of the answer from here on: it cannot be read as records"
    );
}

/// A row for each record of the batch, in order.
fn raw_batch(segment: &LandedSegment, decoded: &DecodedBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let records = decoded.records as usize;
    let numbers: Vec<u64> = (decoded.first_record..).take(records).collect();
    let mut raw = StringBuilder::with_capacity(records, 0);
    for number in &numbers {
        raw.append_value(String::from_utf8_lossy(&decoded.raw_of(*number)));
    }
    let own = |name: &str, data_type: &DataType| -> Result<ArrayRef> {
        let Some(column) = decoded.record_columns.as_ref().and_then(|columns| columns.column_by_name(name)) else {
            return Ok(new_null_array(data_type, records));
        };
        // The record's own columns stand beside the rows: records that were refused have none.
        let indices: arrow::array::UInt32Array = numbers
            .iter()
            .map(|number| decoded.numbers.binary_search(number).ok().and_then(|index| u32::try_from(index).ok()))
            .collect();
        Ok(arrow::compute::take(column, &indices, None)?)
    };
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let landed = TimestampMicrosecondArray::from_value(segment.landed_at.as_micros(), records).with_timezone("UTC");
    let columns: Vec<ArrayRef> = vec![
        repeated(segment.id.as_str(), records),
        Arc::new(Int64Array::from_iter_values(numbers.iter().map(|number| i64::try_from(*number).unwrap_or(i64::MAX)))),
        repeated(segment.object_key(), records),
        Arc::new(landed),
        own(record_column::POSITION, &DataType::Utf8)?,
        own(record_column::KEY, &DataType::Binary)?,
        own(record_column::TIMESTAMP, &time)?,
        Arc::new(raw.finish()),
    ];
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

/// A row for each record that decodes.
fn decoded_batch(segment: &LandedSegment, decoded: &DecodedBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let rows = decoded.batch.num_rows();
    let numbers = decoded.numbers.iter().map(|number| i64::try_from(*number).unwrap_or(i64::MAX));
    let mut columns = decoded.batch.columns().to_vec();
    columns.push(repeated(segment.id.as_str(), rows));
    columns.push(Arc::new(Int64Array::from_iter_values(numbers)));
    columns.push(Arc::new(decoded.rescued.clone()));
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}

fn repeated(text: &str, rows: usize) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(std::iter::repeat_n(text, rows)))
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::{col, lit};

    use super::*;

    #[test]
    fn conditions_choose_segments_and_what_is_not_understood_chooses_all() {
        let is = |filter: &Expr| may_hold(filter, SEGMENT, "s/1");
        assert!(is(&col(SEGMENT).eq(lit("s/1"))));
        assert!(!is(&lit("s/2").eq(col(SEGMENT))));
        assert!(!is(&col(SEGMENT).eq(lit("s/2")).and(col("record").gt(lit(3)))));
        assert!(is(&col(SEGMENT).eq(lit("s/2")).or(col("record").gt(lit(3)))));
        assert!(is(&col(SEGMENT).in_list(vec![lit("s/2"), lit("s/1")], false)));
        assert!(!is(&col(SEGMENT).in_list(vec![lit("s/2")], false)));
        assert!(is(&col(SEGMENT).in_list(vec![lit("s/2")], true)));
        assert!(is(&col(SEGMENT).not_eq(lit("s/1"))), "the filter itself is still applied to the rows");
        assert!(is(&col(OBJECT).eq(lit("x"))));
    }
}
