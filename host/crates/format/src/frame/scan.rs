//! Walking over JSON by its brackets and strings alone, reading more where the text ends. It says nothing of whether the
//! JSON is well-formed: it finds where an element ends, also where it is not.

use memchr::memchr2;

use crate::text::Text;

/// A place in a text that is still being read.
pub(crate) struct Scan {
    pub(crate) text: Text,
    pub(crate) at: usize,
    /// What lies before this place is still needed; from here up to `at` it may be forgotten when more is read.
    pub(crate) keep: usize,
}

/// How a walk ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Walk {
    /// At the place that was looked for.
    Done,
    /// At the input's end.
    Ended,
    /// After more bytes than were allowed.
    TooLong,
}

impl Scan {
    pub(crate) fn new(text: Text) -> Self {
        Self { text, at: 0, keep: 0 }
    }

    /// The next byte; `None` at the end.
    #[inline]
    pub(crate) fn peek(&mut self) -> Option<u8> {
        if let Some(&byte) = self.text.bytes().get(self.at) {
            return Some(byte);
        }
        self.more()
    }

    #[cold]
    fn more(&mut self) -> Option<u8> {
        if self.at > self.keep {
            self.text.remove(self.keep, self.at);
            self.at = self.keep;
        }
        self.text.fill();
        self.text.bytes().get(self.at).copied()
    }

    /// The byte of the input where this place is.
    pub(crate) fn offset(&self) -> u64 {
        self.text.offset(self.at)
    }

    /// The next byte that is no space, and is not passed.
    pub(crate) fn next_token(&mut self) -> Option<u8> {
        loop {
            let byte = self.peek()?;
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return Some(byte);
            }
            self.at += 1;
        }
    }

    /// Passes a string, at its opening quote; keeps nothing of it but what `keep` says.
    fn string(&mut self, passed: &mut u64, most: u64) -> Walk {
        self.at += 1;
        *passed += 1;
        loop {
            if *passed > most {
                return Walk::TooLong;
            }
            let rest = self.text.bytes().get(self.at..).unwrap_or_default();
            let Some(found) = memchr2(b'"', b'\\', rest) else {
                *passed += rest.len() as u64;
                self.at += rest.len();
                if self.peek().is_none() {
                    return if *passed > most { Walk::TooLong } else { Walk::Ended };
                }
                continue;
            };
            let quote = rest.get(found) == Some(&b'"');
            self.at += found + 1;
            *passed += found as u64 + 1;
            if quote {
                return Walk::Done;
            }
            if self.peek().is_none() {
                return Walk::Ended;
            }
            self.at += 1;
            *passed += 1;
        }
    }

    /// Passes a value: up to a comma or a closing bracket that belongs to what is around it, or where `alone` (no
    /// list around it) to the end of the value. At most about `most` bytes.
    pub(crate) fn value(&mut self, most: u64, alone: bool) -> Walk {
        let mut depth = 0_u64;
        let mut passed = 0_u64;
        loop {
            if passed > most {
                return Walk::TooLong;
            }
            let Some(byte) = self.peek() else { return if alone && depth == 0 { Walk::Done } else { Walk::Ended } };
            match byte {
                b'"' => match self.string(&mut passed, most) {
                    Walk::Done if alone && depth == 0 => return Walk::Done,
                    Walk::Done => continue,
                    other @ (Walk::Ended | Walk::TooLong) => return other,
                },
                b'{' | b'[' => depth += 1,
                b'}' | b']' if depth > 0 => {
                    depth -= 1;
                    if alone && depth == 0 {
                        self.at += 1;
                        return Walk::Done;
                    }
                }
                b',' | b']' | b'}' if depth == 0 && !alone => return Walk::Done,
                b' ' | b'\t' | b'\n' | b'\r' if depth == 0 && alone => return Walk::Done,
                _ => {}
            }
            self.at += 1;
            passed += 1;
        }
    }
}
