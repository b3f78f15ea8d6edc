//! Rewriting data files: without the rows of some segments, and in the schema that the table has by now.

use std::collections::BTreeSet;

use arrow_array::cast::AsArray;
use arrow_array::{Array, BooleanArray, RecordBatch};
use arrow_schema::{DataType, SchemaRef};
use arrow_select::filter::filter_record_batch;
use forebay_model::{SEGMENT, SegmentId};

use super::stage::{FileMaker, Made, NewFile};
use crate::columns::{adapt, adapt_batch};
use crate::error::WarehouseError;
use crate::files::{self, PartitionKey};

/// Writes rows of older files anew. Dropped before [`Rewriter::finish`], it leaves nothing.
pub(super) struct Rewriter {
    maker: FileMaker,
    key: PartitionKey,
    partition_by: Vec<String>,
    /// Of the files: without partition columns.
    schema: SchemaRef,
    open: Option<NewFile>,
    made: Vec<Made>,
}

impl Rewriter {
    pub(super) fn new(maker: FileMaker, key: PartitionKey, partition_by: Vec<String>, schema: SchemaRef) -> Self {
        Self { maker, key, partition_by, schema, open: None, made: Vec::new() }
    }

    /// Copies the rows of a file that are of none of `without`; returns how many were left out.
    pub(super) fn copy(&mut self, path: &str, without: &BTreeSet<&str>) -> Result<u64, WarehouseError> {
        let path = self.maker.table.join(path);
        let mut left_out = 0;
        for batch in files::open(&path)? {
            let batch = batch.map_err(WarehouseError::data_file("read", &path))?;
            let rows = batch.num_rows();
            let kept = keep(batch, without).map_err(WarehouseError::data_file("filter", &path))?;
            left_out += (rows - kept.num_rows()) as u64;
            if kept.num_rows() > 0 {
                let kept = adapt_batch(&kept, &self.schema).map_err(WarehouseError::data_file("adapt", &path))?;
                self.write(&kept)?;
            }
        }
        Ok(left_out)
    }

    fn write(&mut self, rows: &RecordBatch) -> Result<(), WarehouseError> {
        let open = match self.open.as_mut() {
            Some(open) => open,
            None => self.open.insert(self.maker.begin(&self.key, &self.partition_by, rows)?),
        };
        open.file.write(rows)?;
        if open.file.is_full() {
            self.close()?;
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), WarehouseError> {
        if let Some(file) = self.open.take() {
            self.made.push(self.maker.finish(file)?);
        }
        Ok(())
    }

    /// Makes the files durable; none where no row was left.
    pub(super) fn finish(mut self) -> Result<Vec<Made>, WarehouseError> {
        self.close()?;
        Ok(std::mem::take(&mut self.made))
    }
}

impl Drop for Rewriter {
    fn drop(&mut self) {
        if let Some(file) = self.open.take() {
            self.maker.abandon(file);
        }
        for made in self.made.drain(..) {
            self.maker.give_up(&made.path);
        }
    }
}

/// The rows that are of none of `without`.
fn keep(batch: RecordBatch, without: &BTreeSet<&str>) -> Result<RecordBatch, arrow_schema::ArrowError> {
    let Some(column) = batch.column_by_name(SEGMENT).filter(|_| !without.is_empty()) else { return Ok(batch) };
    let column = adapt(column, &DataType::Utf8)?;
    let segments = column.as_string::<i32>();
    let mask: BooleanArray =
        (0..segments.len()).map(|row| Some(segments.is_null(row) || !without.contains(segments.value(row)))).collect();
    if mask.true_count() == batch.num_rows() {
        return Ok(batch);
    }
    filter_record_batch(&batch, &mask)
}

/// The rows that are of one segment.
pub(super) fn of_segment(batch: RecordBatch, segment: &SegmentId) -> Result<RecordBatch, arrow_schema::ArrowError> {
    let Some(column) = batch.column_by_name(SEGMENT) else { return Ok(batch.slice(0, 0)) };
    let column = adapt(column, &DataType::Utf8)?;
    let mask: BooleanArray = column.as_string::<i32>().iter().map(|of| Some(of == Some(segment.as_str()))).collect();
    if mask.true_count() == batch.num_rows() {
        return Ok(batch);
    }
    filter_record_batch(&batch, &mask)
}

/// Files that an attempt wrote for its commit. Dropped, they stay where they are: the commit may have succeeded, whatever was
/// answered, and what is in no table is an orphan that vacuum finds.
pub(super) struct Attempted {
    pub(super) maker: FileMaker,
    pub(super) paths: Vec<String>,
}

impl Attempted {
    /// The attempt is known not to have committed.
    pub(super) fn give_up(mut self) {
        self.paths.drain(..).for_each(|path| self.maker.give_up(&path));
    }
}

impl Drop for Attempted {
    fn drop(&mut self) {
        for path in self.paths.drain(..) {
            self.maker.pending.remove(&self.maker.table.join(path));
        }
    }
}
