//! JSON documents: the records are the elements of a list, which is the document itself (`$`) or lies in it at a path
//! (`$.Records`); where there is no list at the path, the value is the one record. Documents may follow one another.
//!
//! Elements are found by brackets and strings, so that a malformed one costs only itself, and only one element is held at
//! a time. Of what is around the list only the brackets are looked at. Where the rest of the input cannot be cut, one
//! reject stands for it and names the byte.

use super::scan::{Scan, Walk};
use super::{CUT, Frame, Framer, Spans, WASTE, cut, too_large};
use crate::cursor::Cursor;
use crate::error::FormatError;
use crate::table::Refusal;
use crate::text::Text;

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Begin,
    /// A document, or the end.
    Document,
    /// An element of the list, at its first byte.
    Element,
    /// Inside the objects around the list, after it.
    Around,
    End,
}

pub(crate) struct Documents {
    scan: Scan,
    path: Vec<String>,
    max: usize,
    state: State,
    /// The byte of the input where what is being looked at begins.
    offset: u64,
}

impl Documents {
    pub(crate) fn new(text: Text, path: Vec<String>, max: usize) -> Self {
        Self { scan: Scan::new(text), path, max, state: State::Begin, offset: 0 }
    }

    fn step(&mut self, spans: &mut Spans) {
        match self.state {
            State::Begin => {
                self.scan.text.skip_bom();
                self.state = State::Document;
            }
            State::Document => self.document(spans),
            State::Element => self.element(spans),
            State::Around => self.around(spans),
            State::End => {}
        }
    }

    /// The next byte that is no space, and its place; what is before it and after the last record may be forgotten.
    fn begin(&mut self, spans: &Spans) -> (usize, Option<u8>) {
        self.scan.keep = spans.end;
        let first = self.scan.next_token();
        if self.scan.at - spans.end >= WASTE {
            self.scan.text.remove(spans.end, self.scan.at);
            self.scan.at = spans.end;
        }
        self.offset = self.scan.offset();
        (self.scan.at, first)
    }

    fn document(&mut self, spans: &mut Spans) {
        let (begin, first) = self.begin(spans);
        let Some(first) = first else {
            self.state = State::End;
            return;
        };
        if self.path.is_empty() {
            if first == b'[' {
                self.enter_list(spans)
            } else {
                self.record(spans, true, State::Document)
            }
            return;
        }
        // The beginning of the document is kept for its reject, until the path is found.
        self.scan.keep = begin + CUT;
        match self.descend() {
            Some(true) if self.scan.peek() == Some(b'[') => self.enter_list(spans),
            Some(true) => self.record(spans, false, State::Around),
            Some(false) => {
                let path = self.path.join(".");
                self.reject(spans, begin, format!("the document has no $.{path}"));
            }
            None => self.rest(spans, begin, "the document around the records is not well-formed"),
        }
    }

    /// Walks down the path, at a document's first byte. False where it has no such field; the document is then passed.
    /// `None` where it cannot be walked over.
    fn descend(&mut self) -> Option<bool> {
        for depth in 0..self.path.len() {
            if self.scan.next_token()? != b'{' {
                self.pass(depth == 0)?;
                return self.leave(depth).map(|()| false);
            }
            self.scan.at += 1;
            loop {
                match self.scan.next_token()? {
                    b',' => self.scan.at += 1,
                    b'}' => {
                        self.scan.at += 1;
                        return self.leave(depth).map(|()| false);
                    }
                    b'"' => {
                        let name = self.name()?;
                        if self.scan.next_token()? != b':' {
                            return None;
                        }
                        self.scan.at += 1;
                        self.scan.next_token()?;
                        if Some(&name) == self.path.get(depth) {
                            break;
                        }
                        self.pass(false)?;
                    }
                    _ => return None,
                }
            }
        }
        Some(true)
    }

    /// A field's name, at its quote. A name of more than 64 KiB is none that is looked for.
    fn name(&mut self) -> Option<String> {
        let keep = std::mem::replace(&mut self.scan.keep, usize::MAX);
        let begin = self.scan.at;
        let walk = self.scan.value(CUT as u64, true);
        self.scan.keep = keep;
        if walk != Walk::Done {
            return None;
        }
        let text = self.scan.text.bytes().get(begin + 1..self.scan.at)?;
        let mut out = Vec::new();
        Cursor::over(text).string(&mut out).ok()?;
        Some(String::from_utf8_lossy(&out).into_owned())
    }

    /// Passes a value.
    fn pass(&mut self, alone: bool) -> Option<()> {
        (self.scan.value(u64::MAX, alone) == Walk::Done).then_some(())
    }

    /// Passes the rest of `depth` objects.
    fn leave(&mut self, depth: usize) -> Option<()> {
        let mut open = depth;
        while open > 0 {
            match self.scan.next_token()? {
                b'}' => {
                    self.scan.at += 1;
                    open -= 1;
                }
                b']' => return None,
                b',' => self.scan.at += 1,
                _ => self.pass(false)?,
            }
        }
        Some(())
    }

    fn enter_list(&mut self, spans: &mut Spans) {
        self.scan.at += 1;
        self.state = State::Element;
        self.scan.keep = spans.end;
        match self.scan.next_token() {
            Some(b']') => self.leave_list(),
            Some(_) => {}
            None => self.rest_is_cut(spans),
        }
    }

    fn leave_list(&mut self) {
        self.scan.at += 1;
        self.state = if self.path.is_empty() { State::Document } else { State::Around };
    }

    fn around(&mut self, spans: &mut Spans) {
        let (begin, _) = self.begin(spans);
        self.scan.keep = begin + CUT;
        match self.leave(self.path.len()) {
            Some(()) => self.state = State::Document,
            None => self.rest(spans, begin, "the document around the records is not closed"),
        }
    }

    /// One element and what follows it.
    fn element(&mut self, spans: &mut Spans) {
        self.record(spans, false, State::Element);
        while self.state == State::Element {
            let (begin, next) = self.begin(spans);
            match next {
                Some(b',') => {
                    self.scan.at += 1;
                    if self.scan.next_token().is_none() {
                        self.rest_is_cut(spans);
                    }
                    return;
                }
                Some(b']') => self.leave_list(),
                Some(b'}') => {
                    self.scan.at += 1;
                    self.reject(spans, begin, "a closing brace without an opening one");
                }
                Some(_) => return,
                None => self.rest_is_cut(spans),
            }
        }
    }

    /// A value that is a record; `alone` where no list or object is around it.
    fn record(&mut self, spans: &mut Spans, alone: bool, after: State) {
        let (begin, _) = self.begin(spans);
        // Until its end is known the whole record is needed.
        self.scan.keep = usize::MAX;
        match self.scan.value(self.max as u64, alone) {
            Walk::Done => {
                let text = self.scan.text.bytes().get(begin..self.scan.at).unwrap_or_default().trim_ascii_end();
                let size = text.len();
                if size > self.max {
                    spans.push_too_large(begin, size as u64, self.max);
                } else {
                    let missing = (size == 0).then(|| Refusal::malformed("an element is missing"));
                    spans.push(begin, begin + size, missing);
                }
                self.state = after;
            }
            Walk::TooLong => self.too_long(spans, begin, alone, after),
            Walk::Ended => self.rest(spans, begin, "a record is not closed, so its end cannot be found"),
        }
    }

    /// A record that is larger than the limit: it is walked over once more, and all but its beginning is forgotten.
    fn too_long(&mut self, spans: &mut Spans, begin: usize, alone: bool, after: State) {
        let kept = begin + cut(self.max);
        self.scan.at = begin;
        self.scan.keep = kept;
        let walk = self.scan.value(u64::MAX, alone);
        let size = self.scan.offset() - self.offset;
        if walk != Walk::Done {
            self.state = State::End;
            if self.scan.text.failed() {
                return;
            }
        } else {
            self.state = after;
        }
        self.scan.text.remove(kept, self.scan.at);
        self.scan.at = kept;
        spans.push(begin, kept, Some(too_large(size, self.max)));
    }

    fn rest_is_cut(&mut self, spans: &mut Spans) {
        let (begin, _) = self.begin(spans);
        self.rest(spans, begin, "the list of records is not closed");
    }

    /// One reject for what is left of the input.
    fn rest(&mut self, spans: &mut Spans, begin: usize, why: &str) {
        self.state = State::End;
        self.scan.keep = begin + CUT;
        while self.scan.peek().is_some() {
            self.scan.at = self.scan.text.bytes().len();
        }
        if self.scan.text.failed() {
            return;
        }
        let (from, to) = (self.offset, self.scan.offset());
        self.reject(spans, begin, format!("{why}: the input from byte {from} to its end at byte {to} holds no record"));
    }

    /// A reject whose raw text is what was kept from `begin` to here.
    fn reject(&mut self, spans: &mut Spans, begin: usize, message: impl Into<String>) {
        let end = self.scan.at.min(begin + CUT);
        spans.push(begin, end, Some(Refusal::malformed(message)));
    }
}

impl Framer for Documents {
    fn next(&mut self, limit: usize) -> Result<Option<Frame>, FormatError> {
        let mut spans = Spans::new(limit, self.scan.offset());
        while self.state != State::End && !spans.is_full(self.scan.offset()) {
            self.step(&mut spans);
        }
        if spans.spans.is_empty() {
            return self.scan.text.take_failure().map_or(Ok(None), Err);
        }
        let text = self.scan.text.take(spans.end);
        self.scan.at -= spans.end;
        Ok(Some(Frame { text, spans: spans.spans, columns: None }))
    }
}
