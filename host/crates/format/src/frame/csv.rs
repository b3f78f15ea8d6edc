//! CSV: records end with a line feed outside quotes, or a carriage return and a line feed. A quote opens a quoted field only
//! at the field's beginning, as everywhere. Empty lines are no records.

use memchr::{memchr, memchr2, memchr3};

use super::{Frame, Framer, Spans, WASTE, too_large};
use crate::error::FormatError;
use crate::table::Refusal;
use crate::text::Text;

/// How fields are separated and quoted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quoting {
    pub(crate) delimiter: u8,
    pub(crate) quote: u8,
    /// The byte that takes the meaning of the one after it, within quotes. It is not the quote.
    pub(crate) escape: Option<u8>,
    /// Whether two quotes stand for one, within quotes.
    pub(crate) double_quote: bool,
}

/// Where in a record the framer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Inside {
    FieldStart,
    Field,
    Quotes,
}

/// What a look at the text found.
enum Found {
    /// The record's line feed.
    End(usize),
    /// Nothing up to here: more text is needed.
    More,
}

pub(crate) struct CsvLines {
    text: Text,
    quoting: Quoting,
    max: usize,
    started: bool,
    inside: Inside,
}

impl CsvLines {
    pub(crate) fn new(text: Text, quoting: Quoting, max: usize) -> Self {
        Self { text, quoting, max, started: false, inside: Inside::FieldStart }
    }

    /// Looks for the record's end from `from` on, which moves to where looking goes on.
    fn find(&mut self, from: &mut usize) -> Found {
        let Quoting { delimiter, quote, escape, double_quote } = self.quoting;
        let text = self.text.bytes();
        loop {
            let rest = text.get(*from..).unwrap_or_default();
            let Some(&first) = rest.first() else { return Found::More };
            match self.inside {
                Inside::FieldStart if first == quote => {
                    self.inside = Inside::Quotes;
                    *from += 1;
                }
                Inside::FieldStart => {
                    // Most records have no quote at all.
                    if let Some(end) = memchr(b'\n', rest)
                        && memchr(quote, &rest[..end]).is_none()
                    {
                        *from += end;
                        return Found::End(*from);
                    }
                    self.inside = Inside::Field;
                }
                Inside::Field => match memchr2(delimiter, b'\n', rest) {
                    Some(at) if rest.get(at) == Some(&b'\n') => {
                        *from += at;
                        self.inside = Inside::FieldStart;
                        return Found::End(*from);
                    }
                    Some(at) => {
                        *from += at + 1;
                        self.inside = Inside::FieldStart;
                    }
                    None => {
                        *from += rest.len();
                        return Found::More;
                    }
                },
                Inside::Quotes => {
                    let Some(at) = memchr3(quote, quote, escape.unwrap_or(quote), rest) else {
                        *from += rest.len();
                        return Found::More;
                    };
                    let is_quote = rest.get(at) == Some(&quote);
                    let next = rest.get(at + 1);
                    match (is_quote, next) {
                        // What the byte after it is must be known.
                        (_, None) => {
                            *from += at;
                            return Found::More;
                        }
                        (true, Some(&next)) if double_quote && next == quote => *from += at + 2,
                        (true, Some(_)) => {
                            *from += at + 1;
                            self.inside = Inside::Field;
                        }
                        (false, Some(_)) => *from += at + 2,
                    }
                }
            }
        }
    }

    fn push(&self, spans: &mut Spans, start: usize, end: usize) {
        if end - start > self.max {
            spans.push_too_large(start, (end - start) as u64, self.max);
            return;
        }
        let line = self.text.bytes().get(start..end).unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if !line.is_empty() {
            spans.push(start, start + line.len(), None);
        }
    }

    /// Reads over the rest of a record that is too large, and keeps its beginning. The position after it.
    fn discard(&mut self, spans: &mut Spans, start: usize, mut from: usize) -> usize {
        let kept = start + super::cut(self.max);
        let mut size = kept - start;
        loop {
            match self.find(&mut from) {
                Found::End(end) => {
                    size += end - kept;
                    self.text.remove(kept, end + 1);
                    break;
                }
                Found::More => {
                    // A last quote stays, until the byte after it is known.
                    size += from - kept;
                    self.text.remove(kept, from);
                    from = kept;
                    if !self.text.fill() {
                        if self.text.failed() {
                            return kept;
                        }
                        let left = self.text.bytes().len();
                        size += left - kept;
                        self.text.remove(kept, left);
                        break;
                    }
                }
            }
        }
        self.inside = Inside::FieldStart;
        spans.push(start, kept, Some(too_large(size as u64, self.max)));
        kept
    }

    /// The last record, which has no line feed.
    fn push_last(&mut self, spans: &mut Spans, start: usize, looked: usize) {
        let end = self.text.bytes().len();
        // A quote at the very end closes its field: it was left for want of a byte after it.
        let closed = self.inside != Inside::Quotes
            || (looked + 1 == end && self.text.bytes().last() == Some(&self.quoting.quote));
        if closed || end == start {
            self.push(spans, start, end);
        } else {
            let from = self.text.offset(start);
            let message = format!("a quoted field is not closed: the record that begins at byte {from} has no end");
            spans.push(start, end.min(start + super::CUT), Some(Refusal::malformed(message)));
        }
    }
}

impl Framer for CsvLines {
    fn next(&mut self, limit: usize) -> Result<Option<Frame>, FormatError> {
        if !self.started {
            self.started = true;
            self.text.skip_bom();
        }
        let mut spans = Spans::new(limit, self.text.offset(0));
        let (mut at, mut looked) = (0, 0);
        while !spans.is_full(self.text.offset(at)) {
            if let Found::End(end) = self.find(&mut looked) {
                self.push(&mut spans, at, end);
                at = end + 1;
                looked = at;
                continue;
            }
            if looked - at > self.max {
                at = self.discard(&mut spans, at, looked);
                looked = at;
                continue;
            }
            if at - spans.end >= WASTE {
                self.text.remove(spans.end, at);
                looked -= at - spans.end;
                at = spans.end;
            }
            if !self.text.fill() {
                if !self.text.failed() {
                    self.push_last(&mut spans, at, looked);
                    at = self.text.bytes().len();
                }
                break;
            }
        }
        if spans.spans.is_empty() {
            return self.text.take_failure().map_or(Ok(None), Err);
        }
        Ok(Some(Frame { text: self.text.take(at), spans: spans.spans, columns: None }))
    }
}
