//! Rows between steps: columns with what belongs to each row beside them.

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, StringArray, UInt32Array};
use arrow_schema::SchemaRef;
use arrow_select::{concat::concat_batches, filter::FilterBuilder, take::take};
use forebay_model::{Error, Result};

/// Rows with their record numbers, what was rescued of them, and what is the record's own.
#[derive(Debug, Clone)]
pub struct Rows {
    /// The columns.
    pub batch: RecordBatch,
    /// The record number of each row.
    pub numbers: Vec<u64>,
    /// `_forebay_rescued` of each row.
    pub rescued: StringArray,
    /// Key, headers, timestamp, position, for record streams.
    pub record_columns: Option<RecordBatch>,
}

/// A batch whose number of rows is known even where it has no column.
///
/// # Errors
/// Class bug, where columns and schema do not agree.
pub fn batch_of(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(SchemaRef::clone(schema), columns, &options)
        .map_err(|error| Error::bug("columns do not agree with their schema").with_source(error))
}

fn text(array: &ArrayRef) -> StringArray {
    array.as_string::<i32>().clone()
}

fn moved(error: arrow_schema::ArrowError) -> Error {
    Error::bug("rows could not be selected").with_source(error)
}

impl Rows {
    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.numbers.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    /// The rows that the mask names.
    ///
    /// # Errors
    /// Class bug.
    pub fn filter(&self, mask: &BooleanArray) -> Result<Self> {
        let predicate = FilterBuilder::new(mask).optimize().build();
        Ok(Self {
            batch: predicate.filter_record_batch(&self.batch).map_err(moved)?,
            numbers: self.numbers.iter().enumerate().filter(|(row, _)| mask.value(*row)).map(|(_, n)| *n).collect(),
            rescued: text(&predicate.filter(&self.rescued).map_err(moved)?),
            record_columns: match &self.record_columns {
                Some(columns) => Some(predicate.filter_record_batch(columns).map_err(moved)?),
                None => None,
            },
        })
    }

    /// The rows at these indexes, without the columns: what belongs to them beside.
    ///
    /// # Errors
    /// Class bug.
    pub fn take_beside(&self, indexes: &UInt32Array, batch: RecordBatch) -> Result<Self> {
        Ok(Self {
            batch,
            numbers: indexes
                .values()
                .iter()
                .map(|index| self.numbers.get(*index as usize).copied().unwrap_or_default())
                .collect(),
            rescued: if self.rescued.null_count() == self.rescued.len() {
                StringArray::new_null(indexes.len())
            } else {
                text(&take(&self.rescued, indexes, None).map_err(moved)?)
            },
            record_columns: match &self.record_columns {
                Some(columns) => Some(take_batch(columns, indexes)?),
                None => None,
            },
        })
    }

    /// One after the other, in the order of record numbers.
    ///
    /// # Errors
    /// Class bug.
    pub fn gather(parts: Vec<Self>, schema: &SchemaRef) -> Result<Option<Self>> {
        let mut parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        let joined = match parts.len() {
            0 => return Ok(None),
            1 => parts.swap_remove(0),
            _ => Self::concat(&parts, schema)?,
        };
        joined.sorted().map(Some)
    }

    fn concat(parts: &[Self], schema: &SchemaRef) -> Result<Self> {
        let rows = parts.iter().map(Self::len).sum();
        let batch = if schema.fields().is_empty() {
            batch_of(schema, Vec::new(), rows)?
        } else {
            concat_batches(schema, parts.iter().map(|part| &part.batch)).map_err(moved)?
        };
        let rescued: Vec<&dyn Array> = parts.iter().map(|part| &part.rescued as &dyn Array).collect();
        let record_columns = match parts.first().and_then(|part| part.record_columns.as_ref()) {
            Some(first) => {
                let batches = parts.iter().filter_map(|part| part.record_columns.as_ref());
                Some(concat_batches(&first.schema(), batches).map_err(moved)?)
            }
            None => None,
        };
        Ok(Self {
            batch,
            numbers: parts.iter().flat_map(|part| part.numbers.iter().copied()).collect(),
            rescued: text(&arrow_select::concat::concat(&rescued).map_err(moved)?),
            record_columns,
        })
    }

    fn sorted(self) -> Result<Self> {
        if self.numbers.is_sorted() {
            return Ok(self);
        }
        let mut order: Vec<u32> = (0..u32::try_from(self.len()).unwrap_or(u32::MAX)).collect();
        // Stable: several rows of one record stay in the order in which the rule emitted them.
        order.sort_by_key(|index| self.numbers.get(*index as usize).copied());
        let order = UInt32Array::from(order);
        let batch = take_batch(&self.batch, &order)?;
        self.take_beside(&order, batch)
    }
}

/// The rows of a batch at these indexes.
///
/// # Errors
/// Class bug.
pub fn take_batch(batch: &RecordBatch, indexes: &UInt32Array) -> Result<RecordBatch> {
    let columns: Result<Vec<_>> =
        batch.columns().iter().map(|column| take(column, indexes, None).map_err(moved)).collect();
    batch_of(&batch.schema(), columns?, indexes.len())
}
