//! Records of a stream: batches of the envelope, each row's value being one record. Batches are cut anew, so that their
//! boundaries depend on the records and not on how the envelope was written.

use std::sync::Arc;

use arrow_array::{Array, BinaryArray, RecordBatch};
use arrow_schema::{Schema, SchemaRef};
use arrow_select::concat::concat_batches;
use forebay_model::Error;

use super::{Frame, Framer, Spans, cut, too_large};
use crate::error::FormatError;
use crate::table::Refusal;

/// The envelope's column that holds the records.
const VALUE: &str = "value";

type Batches = Box<dyn Iterator<Item = forebay_model::Result<RecordBatch>> + Send>;

pub(crate) struct Envelope {
    batches: Batches,
    current: Option<(BinaryArray, RecordBatch)>,
    /// The row of `current` that is next.
    row: usize,
    max: usize,
    failure: Option<FormatError>,
    /// Bytes of the batch before: the next is likely to have as many.
    expected: usize,
}

impl Envelope {
    pub(crate) fn new(batches: Batches, max: usize) -> Self {
        Self { batches, current: None, row: 0, max, failure: None, expected: 0 }
    }

    /// Makes sure that `current` has a row left; false at the end.
    fn advance(&mut self) -> Result<bool, FormatError> {
        while self.current.as_ref().is_none_or(|(values, _)| self.row >= values.len()) {
            match self.batches.next() {
                None => return Ok(false),
                Some(batch) => self.current = Some(split(&batch?)?),
            }
            self.row = 0;
        }
        Ok(true)
    }

    fn push(&self, text: &mut Vec<u8>, spans: &mut Spans, value: Option<&[u8]>) {
        let start = text.len();
        match value {
            None => {
                let mut refusal = Refusal::malformed("the record has no value");
                refusal.is_final = true;
                spans.push(start, start, Some(refusal));
            }
            Some(value) if value.len() > self.max => {
                text.extend_from_slice(value.get(..cut(self.max)).unwrap_or_default());
                spans.push(start, text.len(), Some(too_large(value.len() as u64, self.max)));
            }
            Some(value) => {
                text.extend_from_slice(value);
                spans.push(start, text.len(), None);
            }
        }
        // So that no record's text runs into the next.
        text.push(b'\n');
    }
}

impl Framer for Envelope {
    fn next(&mut self, limit: usize) -> Result<Option<Frame>, FormatError> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        let mut spans = Spans::new(limit, 0);
        let mut text = Vec::with_capacity(self.expected);
        let mut parts: Vec<RecordBatch> = Vec::new();
        while !spans.is_full(text.len() as u64) {
            match self.advance() {
                Ok(true) => {}
                Ok(false) => break,
                Err(failure) => {
                    self.failure = Some(failure);
                    break;
                }
            }
            let Some((values, columns)) = &self.current else { break };
            let first = self.row;
            let mut row = first;
            while row < values.len() && !spans.is_full(text.len() as u64) {
                self.push(&mut text, &mut spans, values.is_valid(row).then(|| values.value(row)));
                row += 1;
            }
            parts.push(columns.slice(first, row - first));
            self.row = row;
        }
        let Some(schema) = parts.first().map(RecordBatch::schema) else {
            return self.failure.take().map_or(Ok(None), Err);
        };
        self.expected = text.len();
        let columns = match parts.as_slice() {
            [one] => one.clone(),
            parts => concat_batches(&schema, parts)?,
        };
        Ok(Some(Frame { text: text.into(), spans: spans.spans, columns: Some(columns) }))
    }
}

/// The values, and the columns beside them.
fn split(batch: &RecordBatch) -> Result<(BinaryArray, RecordBatch), FormatError> {
    let values = batch
        .column_by_name(VALUE)
        .and_then(|column| column.as_any().downcast_ref::<BinaryArray>())
        .ok_or_else(|| Error::bug("a batch of the envelope has no binary column \"value\""))?;
    let schema = batch.schema();
    let kept: Vec<usize> = (0..schema.fields().len()).filter(|&index| schema.field(index).name() != VALUE).collect();
    let columns = if kept.is_empty() {
        let empty: SchemaRef = Arc::new(Schema::empty());
        let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(empty, Vec::new(), &options)?
    } else {
        batch.project(&kept)?
    };
    Ok((values.clone(), columns))
}
