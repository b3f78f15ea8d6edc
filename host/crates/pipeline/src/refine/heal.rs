//! Healing: records of a loaded segment that were rejected are tried again under the active revision.
//!
//! Which they are is read from the table of rejects. The segment is decoded once more, and only they go through the rules; what passes is
//! appended to the tables, beside the rows that the segment has. Its rejects are written anew, in the same commit of their table
//! that removes the former ones: those that were not tried as they were, those that were refused again with the new reason.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, BooleanArray, Int64Array, RecordBatch, TimestampMicrosecondArray, new_null_array};
use arrow_schema::{DataType, SchemaRef};
use arrow_select::filter::{filter, filter_record_batch};
use forebay_model::{DecodedBatch, Error, Result, TableName, column};

use super::bind::ATTEMPTS;
use super::rows::batch_of;
use super::segment::SegmentJob;

/// What of a segment was rejected.
#[derive(Debug, Default)]
pub struct Rejected {
    /// The records that a later revision may accept, by number, and how often each was refused.
    tried: BTreeMap<u64, i64>,
    /// Rejects that stay as they are, in the schema of their table.
    stay: Vec<RecordBatch>,
}

fn odd(what: &str) -> Error {
    Error::operator(format!("the table of rejects is not as forebay made it: {what}"))
        .with_hint("restore the table; `forebay replay` makes all rows of the segment anew")
}

impl Rejected {
    /// From all rows that the table of rejects has of the segment.
    ///
    /// # Errors
    /// Class operator, where the table lacks a column of rejects.
    pub fn of(rows: Vec<RecordBatch>) -> Result<Self> {
        let mut rejected = Self::default();
        for batch in rows {
            let numbers = named(&batch, column::ROW, &DataType::Int64)?.as_primitive::<Int64Type>();
            let retryable = named(&batch, "retryable", &DataType::Boolean)?.as_boolean();
            let attempts = batch.column_by_name(ATTEMPTS).and_then(|column| column.as_primitive_opt::<Int64Type>());
            let mut stays = Vec::with_capacity(batch.num_rows());
            for (row, (number, retryable)) in numbers.iter().zip(retryable).enumerate() {
                let number = number.and_then(|number| u64::try_from(number).ok());
                let tried = number.filter(|_| retryable == Some(true));
                // What leads to no record stays as well.
                stays.push(tried.is_none());
                if let Some(number) = tried {
                    let attempts = attempts.filter(|attempts| attempts.is_valid(row));
                    rejected.tried.insert(number, attempts.map_or(1, |attempts| attempts.value(row)));
                }
            }
            let stays = BooleanArray::from(stays);
            let stay = filter_record_batch(&batch, &stays).map_err(|error| Error::bug(error.to_string()))?;
            if stay.num_rows() > 0 {
                rejected.stay.push(stay);
            }
        }
        Ok(rejected)
    }

    /// Refuses where the table has not those that the ledger knows of: they would be taken for healed.
    ///
    /// # Errors
    /// Class operator: another table was named for rejects since, or rows of it are gone.
    pub fn must_be(&self, known: Option<u64>, table: &TableName) -> Result<()> {
        match known {
            Some(known) if known != self.tried() => Err(Error::operator(format!(
                "table {table} has {} rejects of the segment that may be tried again, and the ledger knows of {known}",
                self.tried()
            ))
            .with_hint(
                "name the table of rejects that the config named before, or restore it; `forebay replay` makes all rows of the \
                 segment anew",
            )),
            Some(_) | None => Ok(()),
        }
    }

    /// Refuses where decoding did not meet all of them: they would be lost.
    pub(super) fn all_were_tried(&self, tried: u64) -> Result<()> {
        if tried == self.tried() {
            return Ok(());
        }
        Err(Error::operator(format!(
            "{} of {} rejected records are not in the segment as it is decoded now",
            self.tried() - tried.min(self.tried()),
            self.tried()
        ))
        .with_hint("where the stream's format was changed, `forebay replay` makes all rows of the segment anew"))
    }

    /// How many records are tried again.
    #[must_use]
    pub fn tried(&self) -> u64 {
        self.tried.len() as u64
    }

    /// How often a record has been refused, before this time.
    pub(super) fn attempts(&self, number: u64) -> i64 {
        self.tried.get(&number).copied().unwrap_or(0)
    }

    /// Whether a record after this one is tried again.
    pub(super) fn goes_on_after(&self, number: u64) -> bool {
        self.tried.last_key_value().is_some_and(|(last, _)| *last > number)
    }

    /// Of a batch only the records that are tried again, and how many they are.
    pub(super) fn only(&self, decoded: DecodedBatch) -> Result<(DecodedBatch, u64)> {
        let DecodedBatch { first_record, records, numbers, batch, rescued, record_columns, raw, mut rejects } = decoded;
        let end = first_record + u64::from(records);
        let tried = self.tried.range(first_record..end).count() as u64;
        let is_tried: BooleanArray = numbers.iter().map(|number| Some(self.tried.contains_key(number))).collect();
        rejects.retain(|reject| self.tried.contains_key(&reject.record));
        let failed = |error: arrow_schema::ArrowError| Error::bug(error.to_string());
        let record_columns = record_columns
            .map(|columns| filter_record_batch(&columns, &is_tried).map(Arc::new))
            .transpose()
            .map_err(failed)?;
        let kept = DecodedBatch {
            first_record,
            records,
            batch: filter_record_batch(&batch, &is_tried).map_err(failed)?,
            rescued: filter(&rescued, &is_tried).map_err(failed)?.as_string::<i32>().clone(),
            record_columns,
            raw,
            rejects,
            numbers: numbers.into_iter().filter(|number| self.tried.contains_key(number)).collect(),
        };
        Ok((kept, tried))
    }

    /// The rejects that stay, as rows of the load that writes them anew, and how many there are by stage and code.
    pub(super) fn staying(&self, after: &SchemaRef, job: &SegmentJob) -> Result<(Vec<RecordBatch>, Counts)> {
        let mut counts = Counts::new();
        let mut rows = Vec::with_capacity(self.stay.len());
        for batch in &self.stay {
            let stages = named(batch, "stage", &DataType::Utf8)?.as_string::<i32>();
            let codes = named(batch, "code", &DataType::Utf8)?.as_string::<i32>();
            for (stage, code) in stages.iter().zip(codes) {
                let place = (stage.unwrap_or_default().to_owned(), code.unwrap_or_default().to_owned());
                *counts.entry(place).or_insert(0) += 1;
            }
            rows.push(anew(batch, after, job)?);
        }
        Ok((rows, counts))
    }
}

/// Rejects by stage and code.
pub(super) type Counts = BTreeMap<(String, String), u64>;

fn named<'a>(batch: &'a RecordBatch, name: &str, data_type: &DataType) -> Result<&'a ArrayRef> {
    let column = batch.column_by_name(name).ok_or_else(|| odd(&format!("it has no column {name:?}")))?;
    if column.data_type() != data_type {
        return Err(odd(&format!("its column {name:?} is of type {}", column.data_type())));
    }
    Ok(column)
}

/// The same rows, of another load.
fn anew(batch: &RecordBatch, after: &SchemaRef, job: &SegmentJob) -> Result<RecordBatch> {
    let rows = batch.num_rows();
    let columns = after.fields().iter().map(|field| -> Result<ArrayRef> {
        Ok(match field.name().as_str() {
            column::LOAD => Arc::new(Int64Array::from_value(i64::try_from(job.number).unwrap_or(i64::MAX), rows)),
            column::LOADED_AT => {
                Arc::new(TimestampMicrosecondArray::from_value(job.begun_at.as_micros(), rows).with_timezone("UTC"))
            }
            name => match batch.column_by_name(name) {
                Some(_) => Arc::clone(named(batch, name, field.data_type())?),
                None => new_null_array(field.data_type(), rows),
            },
        })
    });
    batch_of(after, columns.collect::<Result<_>>()?, rows)
}
