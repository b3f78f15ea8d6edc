//! Framing: where one record ends and the next begins. Each framer cuts its input into batches of records by the input's
//! bytes alone, however they arrive.

mod csv;
mod documents;
mod envelope;
mod lines;
mod scan;

use arrow_array::RecordBatch;
use bytes::Bytes;
use forebay_model::reject::code;

pub(crate) use self::csv::{CsvLines, Quoting};
pub(crate) use self::documents::Documents;
pub(crate) use self::envelope::Envelope;
pub(crate) use self::lines::Lines;
use crate::error::FormatError;
use crate::table::Refusal;

/// A batch is closed, full or not, once it is of this many bytes of the input.
const BATCH_BYTES: u64 = 64 << 20;
/// How much of a record that is too large is kept as its raw text.
pub(crate) const CUT: usize = 64 << 10;
/// Bytes between records that are worth moving what follows.
const WASTE: usize = 64 << 10;

/// Where a record lies in the batch's text, and why it is none where it is not.
#[derive(Debug)]
pub(crate) struct Span {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) refusal: Option<Box<Refusal>>,
}

/// The records of one batch.
pub(crate) struct Frame {
    pub(crate) text: Bytes,
    pub(crate) spans: Vec<Span>,
    /// For record streams, what is the record's own: a row for each span.
    pub(crate) columns: Option<RecordBatch>,
}

/// Cuts an input into records.
pub(crate) trait Framer: Send {
    /// The next at most `limit` records; `None` at the end. An error comes after the records before it.
    fn next(&mut self, limit: usize) -> Result<Option<Frame>, FormatError>;
}

/// Records of a batch in the making.
struct Spans {
    spans: Vec<Span>,
    limit: usize,
    /// The byte of the input where the batch begins: unlike positions in the text, it does not depend on how the input
    /// arrived.
    begin: u64,
    /// The end of the last one: what lies after it and before the next is not needed.
    end: usize,
}

impl Spans {
    fn new(limit: usize, begin: u64) -> Self {
        Self { spans: Vec::with_capacity(limit.min(8192)), limit, begin, end: 0 }
    }

    /// Whether the batch is to be closed, `now` being the byte of the input that is next.
    fn is_full(&self, now: u64) -> bool {
        self.spans.len() >= self.limit || (now - self.begin >= BATCH_BYTES && !self.spans.is_empty())
    }

    fn push(&mut self, start: usize, end: usize, refusal: Option<Refusal>) {
        self.end = end;
        self.spans.push(Span { start, end, refusal: refusal.map(Box::new) });
    }

    /// A record of `size` bytes, of which the text has the first at least.
    fn push_too_large(&mut self, start: usize, size: u64, max: usize) {
        self.push(start, start + cut(max), Some(too_large(size, max)));
    }
}

/// How much is kept of a record that is larger than `max`.
fn cut(max: usize) -> usize {
    CUT.min(max)
}

fn too_large(size: u64, max: usize) -> Refusal {
    let message =
        format!("the record has {size} bytes, more than max_record_bytes = {max} allows; its raw text is cut off");
    Refusal::new(code::TOO_LARGE, message)
}
