//! CSV: RFC 4180 as it is met in the wild.
//!
//! Fields have the names of the header; a field's text has a type where it is written as JSON writes that type, so that a
//! stream of CSV and JSON lines has one schema: `1` fits `Float64`, `007` and `1.` are text. By default an empty field that is
//! not quoted is null; one that is quoted is the empty text. A row with more or fewer fields than the header is a reject, as is
//! one with text after a closing quote.

use std::ops::Range;
use std::sync::Arc;

use arrow_schema::SchemaRef;
use csv_core::{ReadFieldResult, Reader, ReaderBuilder, Terminator};
use forebay_model::ports::{Decoder, Format, SegmentInput, SplitRule};
use memchr::{memchr, memchr_iter};

use crate::error::FormatError;
use crate::frame::{CsvLines, Envelope, Framer, Quoting, Span};
use crate::infer::Sample;
use crate::json::SPLIT;
use crate::segment::{Rows, SegmentDecoder, check_utf8};
use crate::settings::{Common, CsvSettings};
use crate::shape::Shape;
use crate::table::{Refusal, Table, Target};
use crate::text::{Pool, Text};

/// CSV with its settings.
#[derive(Debug, Clone)]
pub(crate) struct Csv {
    name: &'static str,
    settings: Arc<CsvSettings>,
    common: Arc<Common>,
    pool: Arc<Pool>,
}

impl Csv {
    pub(crate) fn new(name: &'static str, settings: Arc<CsvSettings>, common: Arc<Common>, pool: Arc<Pool>) -> Self {
        Self { name, settings, common, pool }
    }

    fn framer(&self, input: SegmentInput) -> Result<(Box<dyn Framer>, Names), FormatError> {
        let max = self.common.max_record_bytes;
        Ok(match input {
            SegmentInput::Bytes(reader) => {
                let text = Text::new(reader, Arc::clone(&self.pool));
                let names = if self.settings.header { Names::Header } else { self.names() };
                (Box::new(CsvLines::new(text, self.settings.quoting, max)), names)
            }
            SegmentInput::Records(_) if self.settings.header => {
                return Err(FormatError::Input {
                    message: "the records of this stream are CSV and have no header".to_owned(),
                    hint: "set header = false, and columns to the fields' names",
                });
            }
            SegmentInput::Records(batches) => (Box::new(Envelope::new(batches, max)), self.names()),
        })
    }

    fn names(&self) -> Names {
        if self.settings.columns.is_empty() { Names::Numbered } else { Names::Known(self.settings.columns.clone()) }
    }
}

/// Where the fields' names come from.
#[derive(Debug, Clone)]
enum Names {
    /// The first record.
    Header,
    /// The settings, or the header once it was read.
    Known(Vec<String>),
    /// The fields of the first record are counted: `column_1` …
    Numbered,
}

impl Format for Csv {
    fn name(&self) -> &'static str {
        self.name
    }

    fn split_rule(&self) -> SplitRule {
        let Quoting { delimiter: _, quote, escape, double_quote: _ } = self.settings.quoting;
        match escape {
            // Whoever cuts counts quotes, and escaped ones would mislead them.
            Some(_) => SplitRule::Whole,
            None => SplitRule::Csv { target: SPLIT, quote, header: self.settings.header },
        }
    }

    fn infer(&self, samples: Vec<SegmentInput>) -> forebay_model::Result<Option<SchemaRef>> {
        let mut sample = CsvSample {
            shape: Shape::default(),
            room: self.common.max_columns.saturating_mul(4),
            fields: Fields::new(&self.settings),
            names: Names::Numbered,
            inner: self,
        };
        Ok(crate::infer::infer(&mut sample, samples, &self.common)?)
    }

    fn open(&self, input: SegmentInput, schema: &SchemaRef) -> forebay_model::Result<Box<dyn Decoder>> {
        let table = Table::new(schema, &self.common, true)?;
        let (framer, names) = self.framer(input)?;
        let rows = CsvRows { fields: Fields::new(&self.settings), names, targets: Vec::new() };
        Ok(Box::new(SegmentDecoder::new(framer, table, rows)))
    }
}

/// A field of a record: where its text lies, and whether it was quoted.
#[derive(Debug, Clone)]
struct FieldText {
    range: Range<usize>,
    quoted: bool,
}

/// Splits records into fields.
struct Fields {
    settings: Arc<CsvSettings>,
    reader: Reader,
    /// The text of records that have quotes, without them.
    unquoted: Vec<u8>,
    fields: Vec<FieldText>,
}

impl Fields {
    fn new(settings: &Arc<CsvSettings>) -> Self {
        let Quoting { delimiter, quote, escape, double_quote } = settings.quoting;
        let reader = ReaderBuilder::new()
            .delimiter(delimiter)
            .quote(quote)
            .escape(escape)
            .double_quote(double_quote)
            // The record was cut already; a carriage return within it is text.
            .terminator(Terminator::Any(b'\n'))
            .build();
        Self { settings: Arc::clone(settings), reader, unquoted: Vec::new(), fields: Vec::new() }
    }

    /// Splits a record. The text that the fields' ranges point into.
    fn split<'a>(&'a mut self, record: &'a [u8]) -> Result<(&'a [u8], &'a [FieldText]), Refusal> {
        self.fields.clear();
        let Quoting { delimiter, quote, .. } = self.settings.quoting;
        if memchr(quote, record).is_some() {
            self.split_quoted(record)?;
            return Ok((&self.unquoted, &self.fields));
        }
        let mut start = 0;
        for end in memchr_iter(delimiter, record).chain([record.len()]) {
            self.fields.push(FieldText { range: start..end, quoted: false });
            start = end + 1;
        }
        Ok((record, &self.fields))
    }

    fn split_quoted(&mut self, record: &[u8]) -> Result<(), Refusal> {
        self.reader.reset();
        self.unquoted.resize(record.len() + 1, 0);
        // Where the field begins in the record and in what is written, and how far both are.
        let (mut begin, mut at) = (0, 0);
        let (mut out_begin, mut out) = (0, 0);
        loop {
            let rest = record.get(at..).unwrap_or_default();
            let room = self.unquoted.get_mut(out..).unwrap_or_default();
            let (result, read, written) = self.reader.read_field(rest, room);
            at += read;
            out += written;
            match result {
                // The next call, without input, ends the field.
                ReadFieldResult::InputEmpty => {}
                ReadFieldResult::OutputFull => self.unquoted.resize(self.unquoted.len() * 2 + 64, 0),
                ReadFieldResult::End => return Ok(()),
                ReadFieldResult::Field { record_end } => {
                    let end = if record_end { record.len() } else { at - 1 };
                    let raw = record.get(begin..end).unwrap_or_default();
                    let quoted = raw.first() == Some(&self.settings.quoting.quote);
                    if quoted {
                        self.check_quotes(raw)?;
                    }
                    self.fields.push(FieldText { range: out_begin..out, quoted });
                    if record_end {
                        return Ok(());
                    }
                    begin = at;
                    out_begin = out;
                }
            }
        }
    }

    /// A quoted field ends with its closing quote.
    fn check_quotes(&self, raw: &[u8]) -> Result<(), Refusal> {
        let Quoting { delimiter: _, quote, escape, double_quote } = self.settings.quoting;
        let mut at = 1;
        let number = self.fields.len() + 1;
        loop {
            match raw.get(at) {
                None => return Err(Refusal::malformed(format!("field {number} has no closing quote"))),
                Some(&byte) if byte == quote => {
                    if double_quote && raw.get(at + 1) == Some(&quote) {
                        at += 2;
                    } else if at + 1 == raw.len() {
                        return Ok(());
                    } else {
                        return Err(Refusal::malformed(format!("field {number} has text after its closing quote")));
                    }
                }
                Some(&byte) if Some(byte) == escape => at += 2,
                Some(_) => at += 1,
            }
        }
    }
}

/// Reads the header, where names come from one. False where the input is empty.
fn take_header(framer: &mut dyn Framer, names: &mut Names, fields: &mut Fields) -> Result<bool, FormatError> {
    let Names::Header = names else { return Ok(true) };
    let Some(frame) = framer.next(1)? else { return Ok(false) };
    let refused = |why: String| FormatError::Input {
        message: format!("the CSV header cannot be read: {why}"),
        hint: "repair the file's first line, or set header = false and columns",
    };
    let Some(span) = frame.spans.first() else { return Ok(false) };
    if let Some(refusal) = &span.refusal {
        return Err(refused(refusal.message.clone()));
    }
    check_utf8(&frame.text, span.start..span.end).map_err(|refusal| refused(refusal.message))?;
    let record = frame.text.get(span.start..span.end).unwrap_or_default();
    let (text, parts) = fields.split(record).map_err(|refusal| refused(refusal.message))?;
    let mut found = Vec::with_capacity(parts.len());
    for (number, part) in (1..).zip(parts) {
        let name = String::from_utf8_lossy(text.get(part.range.clone()).unwrap_or_default()).into_owned();
        if name.contains('\r') && !part.quoted {
            return Err(refused("its lines end with carriage returns alone".to_owned()));
        }
        found.push(if name.is_empty() { numbered(number) } else { name });
    }
    *names = Names::Known(found);
    Ok(true)
}

fn numbered(number: usize) -> String {
    format!("column_{number}")
}

struct CsvRows {
    fields: Fields,
    names: Names,
    targets: Vec<Target>,
}

impl Rows for CsvRows {
    fn begin(&mut self, framer: &mut dyn Framer, table: &Table) -> Result<(), FormatError> {
        take_header(framer, &mut self.names, &mut self.fields)?;
        if let Names::Known(names) = &self.names {
            self.targets = table.targets(names);
        }
        Ok(())
    }

    fn row(&mut self, table: &mut Table, text: &[u8], range: Range<usize>) -> Result<(), Refusal> {
        let record = text.get(range).unwrap_or_default();
        // A message may bring the end of its line along.
        let record = record.strip_suffix(b"\n").map_or(record, |line| line.strip_suffix(b"\r").unwrap_or(line));
        let nulls = Arc::clone(&self.fields.settings);
        let (text, fields) = self.fields.split(record)?;
        if self.targets.is_empty() {
            let names: Vec<String> = (1..=fields.len()).map(numbered).collect();
            self.targets = table.targets(&names);
        }
        if fields.len() != self.targets.len() {
            let what = if matches!(self.names, Names::Known(_)) { "the header" } else { "the first record" };
            let (has, wanted) = (fields.len(), self.targets.len());
            return Err(Refusal::malformed(format!("the record has {has} fields, {what} has {wanted}")));
        }
        for (field, target) in fields.iter().zip(&self.targets) {
            if !is_null(&nulls.nulls, text, field) {
                table.csv_field(target, text, field.range.clone());
            }
        }
        table.csv_end(text)
    }
}

fn is_null(nulls: &[String], text: &[u8], field: &FieldText) -> bool {
    let value = text.get(field.range.clone()).unwrap_or_default();
    !field.quoted && nulls.iter().any(|null| null.as_bytes() == value)
}

struct CsvSample<'a> {
    shape: Shape,
    room: usize,
    fields: Fields,
    names: Names,
    inner: &'a Csv,
}

impl Sample for CsvSample<'_> {
    fn framer(&mut self, input: SegmentInput) -> Result<Box<dyn Framer>, FormatError> {
        let (mut framer, names) = self.inner.framer(input)?;
        self.names = names;
        take_header(framer.as_mut(), &mut self.names, &mut self.fields)?;
        Ok(framer)
    }

    fn observe(&mut self, text: &[u8], span: &Span) {
        let record = text.get(span.start..span.end).unwrap_or_default();
        if check_utf8(text, span.start..span.end).is_err() {
            return;
        }
        let Ok((text, fields)) = self.fields.split(record) else { return };
        if matches!(self.names, Names::Numbered) {
            self.names = Names::Known((1..=fields.len()).map(numbered).collect());
        }
        let Names::Known(names) = &self.names else { return };
        if names.len() != fields.len() {
            return;
        }
        for (index, (name, field)) in names.iter().zip(fields).enumerate() {
            // Of a name that stands twice the first counts.
            let first = !names.iter().take(index).any(|other| other == name);
            if first
                && let Some(shape) = self.shape.member_mut(name, &mut self.room)
                && !is_null(&self.inner.settings.nulls, text, field)
            {
                shape.csv(text.get(field.range.clone()).unwrap_or_default(), self.inner.common.zone);
            }
        }
    }

    fn shape(&self) -> &Shape {
        &self.shape
    }

    fn is_csv(&self) -> bool {
        true
    }
}
