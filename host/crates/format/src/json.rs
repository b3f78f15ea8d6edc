//! JSON: lines, lists and documents.
//!
//! A line feed ends a record, so records are found before they are read, and a malformed one costs only itself. An input whose
//! first byte is `[` is one list; with `records` it is documents, and the records lie at a path in them.
//!
//! A field that stands twice in a record: the first is the row's, later ones are rescued beside it.

use std::ops::Range;
use std::sync::Arc;

use arrow_schema::SchemaRef;
use forebay_model::ports::{Decoder, Format, SegmentInput, SplitRule};

use crate::cursor::Cursor;
use crate::error::FormatError;
use crate::frame::{Documents, Envelope, Framer, Lines, Span};
use crate::infer::Sample;
use crate::segment::{Reader, Rows, SegmentDecoder, check_utf8};
use crate::settings::Common;
use crate::shape::{Shape, Watch};
use crate::table::{Refusal, Table};
use crate::text::{Pool, Text};

/// Bytes of a part of a file of lines.
pub(crate) const SPLIT: u64 = 64 << 20;

/// How the records of a JSON input are laid out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Lines; a list where the first byte says so.
    Lines,
    /// Documents, with the records at a path.
    Documents(Vec<String>),
}

/// JSON with its settings.
#[derive(Debug, Clone)]
pub(crate) struct Json {
    name: &'static str,
    layout: Layout,
    common: Arc<Common>,
    pool: Arc<Pool>,
}

impl Json {
    pub(crate) fn new(name: &'static str, layout: Layout, common: Arc<Common>, pool: Arc<Pool>) -> Self {
        Self { name, layout, common, pool }
    }

    fn framer(&self, input: SegmentInput) -> Box<dyn Framer> {
        let max = self.common.max_record_bytes;
        match input {
            SegmentInput::Records(batches) => Box::new(Envelope::new(batches, max)),
            SegmentInput::Bytes(reader) => self.bytes(reader, max),
        }
    }

    fn bytes(&self, reader: Reader, max: usize) -> Box<dyn Framer> {
        let text = Text::new(reader, Arc::clone(&self.pool));
        match &self.layout {
            Layout::Documents(path) => Box::new(Documents::new(text, path.clone(), max)),
            Layout::Lines => Box::new(ByFirstByte { text: Some(text), max, framer: None }),
        }
    }
}

/// Looks at the first byte when it is asked for the first record, since reading may fail.
struct ByFirstByte {
    text: Option<Text>,
    max: usize,
    framer: Option<Box<dyn Framer>>,
}

impl Framer for ByFirstByte {
    fn next(&mut self, limit: usize) -> Result<Option<crate::frame::Frame>, FormatError> {
        if let Some(mut text) = self.text.take() {
            let max = self.max;
            self.framer = Some(if text.first_token() == Some(b'[') {
                Box::new(Documents::new(text, Vec::new(), max))
            } else {
                Box::new(Lines::new(text, max))
            });
        }
        self.framer.as_mut().map_or(Ok(None), |framer| framer.next(limit))
    }
}

impl Format for Json {
    fn name(&self) -> &'static str {
        self.name
    }

    fn split_rule(&self) -> SplitRule {
        match self.layout {
            Layout::Lines => SplitRule::Lines { target: SPLIT },
            Layout::Documents(_) => SplitRule::Whole,
        }
    }

    fn infer(&self, samples: Vec<SegmentInput>) -> forebay_model::Result<Option<SchemaRef>> {
        let mut sample = JsonSample {
            shape: Shape::default(),
            watch: Watch::new(self.common.zone, self.common.max_columns),
            inner: self,
        };
        Ok(crate::infer::infer(&mut sample, samples, &self.common)?)
    }

    fn open(&self, input: SegmentInput, schema: &SchemaRef) -> forebay_model::Result<Box<dyn Decoder>> {
        let table = Table::new(schema, &self.common, false)?;
        Ok(Box::new(SegmentDecoder::new(self.framer(input), table, JsonRows)))
    }
}

/// JSON rows need nothing of their own.
struct JsonRows;

impl Rows for JsonRows {
    fn begin(&mut self, _: &mut dyn Framer, _: &Table) -> Result<(), FormatError> {
        Ok(())
    }

    #[inline]
    fn row(&mut self, table: &mut Table, text: &[u8], range: Range<usize>) -> Result<(), Refusal> {
        table.json(text.get(range.start..).unwrap_or_default(), range.len())
    }
}

struct JsonSample<'a> {
    shape: Shape,
    watch: Watch,
    inner: &'a Json,
}

impl Sample for JsonSample<'_> {
    fn framer(&mut self, input: SegmentInput) -> Result<Box<dyn Framer>, FormatError> {
        Ok(self.inner.framer(input))
    }

    fn observe(&mut self, text: &[u8], span: &Span) {
        let record = text.get(span.start..span.end).unwrap_or_default();
        if check_utf8(text, span.start..span.end).is_err() {
            return;
        }
        // Only a record that is well-formed to its end says anything of the stream.
        let mut cursor = Cursor::over(record);
        cursor.spaces();
        let begin = cursor.at;
        if cursor.peek() == b'{' && cursor.skip(0).is_ok() && cursor.end().is_ok() {
            cursor.at = begin;
            if self.shape.json(&mut cursor, &mut self.watch, 0).is_err() {
                tracing::debug!("a sampled record was not counted");
            }
        }
    }

    fn shape(&self) -> &Shape {
        &self.shape
    }

    fn is_csv(&self) -> bool {
        false
    }
}
