//! Decoding a segment: frames of records become batches, rejects stand beside their rows.

use std::io::Read;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::{BooleanArray, RecordBatch};
use arrow_select::filter::filter_record_batch;
use forebay_model::DecodedBatch;
use forebay_model::flow::{RawRows, RecordColumns};
use forebay_model::ports::Decoder;
use forebay_model::reject::{Reject, RejectStage, code};
use forebay_model::schema::Evolution;

use crate::error::FormatError;
use crate::frame::{Frame, Framer, Span};
use crate::table::{Refusal, Table};

/// Where a segment's bytes come from.
pub(crate) type Reader = Box<dyn Read + Send>;

/// Records in a full batch.
pub(crate) const RECORDS: usize = DecodedBatch::RECORDS as usize;

/// How one record becomes a row.
pub(crate) trait Rows: Send {
    /// Before the first record: takes a header, where there is one.
    ///
    /// # Errors
    /// Where the input as a whole cannot be decoded.
    fn begin(&mut self, framer: &mut dyn Framer, table: &Table) -> Result<(), FormatError>;
    /// Decodes `text[range]`, which is UTF-8.
    fn row(&mut self, table: &mut Table, text: &[u8], range: Range<usize>) -> Result<(), Refusal>;
}

pub(crate) struct SegmentDecoder<R> {
    framer: Box<dyn Framer>,
    table: Table,
    rows: R,
    next_record: u64,
    begun: bool,
    /// After an error there is nothing more.
    ended: bool,
}

impl<R: Rows> SegmentDecoder<R> {
    pub(crate) fn new(framer: Box<dyn Framer>, table: Table, rows: R) -> Self {
        Self { framer, table, rows, next_record: 0, begun: false, ended: false }
    }

    fn next(&mut self) -> Result<Option<DecodedBatch>, FormatError> {
        if !self.begun {
            self.begun = true;
            self.rows.begin(self.framer.as_mut(), &self.table)?;
        }
        let Some(Frame { text, spans, columns }) = self.framer.next(RECORDS)? else { return Ok(None) };
        let first_record = self.next_record;
        let mut numbers = Vec::with_capacity(spans.len());
        let mut ranges = Vec::with_capacity(spans.len());
        let mut rejects = Vec::new();
        // One look at the whole text is faster than one at each record; only where it fails is each looked at.
        let is_utf8 = simdutf8::basic::from_utf8(&text).is_ok();
        for (number, Span { start, end, refusal }) in (first_record..).zip(spans) {
            let refusal = match refusal {
                Some(refusal) => Some(*refusal),
                None => {
                    let checked = if is_utf8 { Ok(()) } else { check_utf8(&text, start..end) };
                    checked.and_then(|()| self.rows.row(&mut self.table, &text, start..end)).err()
                }
            };
            match refusal {
                None => numbers.push(number),
                Some(Refusal { code, message, is_final }) => rejects.push(Reject {
                    record: number,
                    stage: RejectStage::Decode,
                    code: code.to_owned(),
                    message,
                    retryable: !is_final,
                    raw: text.slice(start..end),
                }),
            }
            ranges.push(short(start)?..short(end)?);
        }
        let records = short(ranges.len())?;
        self.next_record += u64::from(records);
        let (batch, rescued) = self.table.finish()?;
        let record_columns = columns.map(|columns| only(&columns, first_record, &numbers)).transpose()?;
        Ok(Some(DecodedBatch {
            first_record,
            records,
            numbers,
            batch,
            rescued,
            record_columns,
            raw: RawRows::new(text, ranges),
            rejects,
        }))
    }
}

impl<R: Rows> Decoder for SegmentDecoder<R> {
    fn next_batch(&mut self) -> forebay_model::Result<Option<DecodedBatch>> {
        if self.ended {
            return Ok(None);
        }
        let next = self.next();
        self.ended = !matches!(next, Ok(Some(_)));
        Ok(next?)
    }

    fn evolution(&self) -> Option<Evolution> {
        self.table.evolution()
    }
}

/// A batch's text is far below 4 GiB.
fn short(count: usize) -> Result<u32, FormatError> {
    u32::try_from(count).map_err(|_| forebay_model::Error::bug("a batch has more than 4 GiB of text").into())
}

pub(crate) fn check_utf8(text: &[u8], range: Range<usize>) -> Result<(), Refusal> {
    match simdutf8::compat::from_utf8(text.get(range).unwrap_or_default()) {
        Ok(_) => Ok(()),
        Err(error) => {
            let message = format!("the record is not UTF-8, from its byte {} on", error.valid_up_to());
            Err(Refusal::new(code::INVALID_UTF8, message))
        }
    }
}

/// The record's own columns, of the records that became rows.
fn only(columns: &RecordBatch, first: u64, numbers: &[u64]) -> Result<RecordColumns, FormatError> {
    if numbers.len() == columns.num_rows() {
        return Ok(Arc::new(columns.clone()));
    }
    let mut kept = vec![false; columns.num_rows()];
    for number in numbers {
        if let Some(kept) = usize::try_from(number - first).ok().and_then(|index| kept.get_mut(index)) {
            *kept = true;
        }
    }
    Ok(Arc::new(filter_record_batch(columns, &BooleanArray::from(kept))?))
}
