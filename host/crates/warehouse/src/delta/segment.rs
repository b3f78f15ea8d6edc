//! The rows that a table has of one segment.

use std::path::Path;

use arrow_array::{ArrayRef, RecordBatch, StringArray};
use arrow_cast::cast;
use arrow_schema::{ArrowError, SchemaRef};
use forebay_model::SegmentId;

use super::table::ActiveFile;
use super::{DeltaWarehouse, blocking};
use crate::columns::adapt_batch;
use crate::error::WarehouseError;
use crate::files::{self, PartitionKey, data_schema};

impl DeltaWarehouse {
    pub(super) async fn segment_rows(
        &self,
        name: &str,
        segment: &SegmentId,
    ) -> Result<Vec<RecordBatch>, WarehouseError> {
        let slot = self.slot(name);
        let mut state = slot.lock().await;
        let Some(opened) = self.refreshed(name, &mut state).await? else { return Ok(Vec::new()) };
        let snapshot = opened.table.snapshot().map_err(WarehouseError::delta("read", name))?;
        let schema = snapshot.snapshot().arrow_schema();
        let partition_by = snapshot.metadata().partition_columns().to_vec();
        let mut active = opened.files(name)?;
        active.retain(|file| may_hold(file, segment));
        drop(state);
        if let Some(file) = active.iter().find(|file| file.has_deletion_vector) {
            return Err(WarehouseError::Refused {
                table: name.to_owned(),
                what: format!("another engine deleted rows of {} by a deletion vector", file.path),
                hint: "let that engine rewrite the file (REORG TABLE … APPLY (PURGE)), and do not delete rows beside forebay",
            });
        }
        let (table, segment) = (self.table_path(name)?, segment.clone());
        blocking(move || {
            let mut rows = Vec::new();
            for file in &active {
                rows.extend(read(&table.join(&file.path), &file.key, (&schema, &partition_by), &segment)?);
            }
            Ok(rows)
        })
        .await
    }
}

/// By its statistics, where it has them.
fn may_hold(file: &ActiveFile, segment: &SegmentId) -> bool {
    file.segments.as_ref().is_none_or(|(least, most, _)| (least.as_str()..=most.as_str()).contains(&segment.as_str()))
}

fn read(
    path: &Path,
    key: &PartitionKey,
    (schema, partition_by): (&SchemaRef, &[String]),
    segment: &SegmentId,
) -> Result<Vec<RecordBatch>, WarehouseError> {
    let data = data_schema(schema, partition_by);
    let mut rows = Vec::new();
    for batch in files::open(path)? {
        let batch = batch.map_err(WarehouseError::data_file("read", path))?;
        let of_segment = || {
            let batch = super::rewrite::of_segment(batch, segment)?;
            if batch.num_rows() == 0 {
                return Ok(None);
            }
            whole(&adapt_batch(&batch, &data)?, key, schema).map(Some)
        };
        rows.extend(of_segment().map_err(WarehouseError::data_file("read", path))?);
    }
    Ok(rows)
}

/// With the columns that divide the table's files, whose values stand in the log.
fn whole(rows: &RecordBatch, key: &PartitionKey, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let column = |field: &arrow_schema::FieldRef| -> Result<ArrayRef, ArrowError> {
        if let Some(column) = rows.column_by_name(field.name()) {
            return Ok(column.clone());
        }
        let text = key.get(field.name()).cloned().flatten();
        let texts = StringArray::from(vec![text; rows.num_rows()]);
        cast(&texts, field.data_type())
    };
    let columns = schema.fields().iter().map(column).collect::<Result<Vec<_>, _>>()?;
    RecordBatch::try_new(schema.clone(), columns)
}
