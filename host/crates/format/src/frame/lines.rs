//! Lines: records end with a line feed, or a carriage return and a line feed. Blank lines are no records, the last one
//! may lack its end.

use memchr::memchr;

use super::{Frame, Framer, Spans, WASTE, cut};
use crate::error::FormatError;
use crate::text::Text;

pub(crate) struct Lines {
    text: Text,
    max: usize,
    started: bool,
}

impl Lines {
    pub(crate) fn new(text: Text, max: usize) -> Self {
        Self { text, max, started: false }
    }

    fn push(&self, spans: &mut Spans, start: usize, end: usize) {
        if end - start > self.max {
            spans.push_too_large(start, (end - start) as u64, self.max);
            return;
        }
        let line = self.text.bytes().get(start..end).unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r')) {
            return;
        }
        spans.push(start, start + line.len(), None);
    }

    /// Reads over the rest of a line that is too large, and keeps its beginning. The position after it.
    fn discard(&mut self, spans: &mut Spans, start: usize) -> usize {
        let kept = start + cut(self.max);
        let mut size = 0;
        loop {
            let rest = self.text.bytes().get(kept..).unwrap_or_default();
            let (found, len) = (memchr(b'\n', rest), rest.len());
            if let Some(at) = found {
                self.text.remove(kept, kept + at + 1);
                size += at as u64;
                break;
            }
            size += len as u64;
            self.text.remove(kept, kept + len);
            if !self.text.fill() {
                if self.text.failed() {
                    return kept;
                }
                break;
            }
        }
        spans.push_too_large(start, size + cut(self.max) as u64, self.max);
        kept
    }
}

impl Framer for Lines {
    fn next(&mut self, limit: usize) -> Result<Option<Frame>, FormatError> {
        if !self.started {
            self.started = true;
            self.text.skip_bom();
        }
        let mut spans = Spans::new(limit, self.text.offset(0));
        let (mut at, mut looked) = (0, 0);
        while !spans.is_full(self.text.offset(at)) {
            let rest = self.text.bytes().get(looked..).unwrap_or_default();
            if let Some(found) = memchr(b'\n', rest) {
                let end = looked + found;
                self.push(&mut spans, at, end);
                at = end + 1;
                looked = at;
                continue;
            }
            looked += rest.len();
            if looked - at > self.max {
                at = self.discard(&mut spans, at);
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
                    self.push(&mut spans, at, looked);
                    at = looked;
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
