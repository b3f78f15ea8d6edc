//! Reading JSON: a strict cursor (RFC 8259) over one record's text. Nothing here allocates but strings with escapes.
//!
//! Strings are looked at 16 bytes at once, which may reach past the record: the cursor knows the text that follows it, and
//! lets what it found there count only inside the record.

use std::fmt;

/// Containers within containers that a record may have, itself counted.
pub(crate) const MAX_DEPTH: u32 = 64;

/// What is wrong with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Value,
    Key,
    KeySurrogate,
    Colon,
    ObjectEnd,
    ListEnd,
    Number,
    Literal,
    StringEnd,
    Control,
    Escape,
    Trailing,
    Depth,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Value => "a value is expected",
            Self::Key => "a field's name in double quotes is expected",
            Self::KeySurrogate => "a field's name has half of a surrogate pair",
            Self::Colon => "a colon is expected after a field's name",
            Self::ObjectEnd => "a comma or a closing brace is expected",
            Self::ListEnd => "a comma or a closing bracket is expected",
            Self::Number => "a number is not written as JSON wants it",
            Self::Literal => "true, false or null is expected",
            Self::StringEnd => "a string is not closed",
            Self::Control => "a string has a control character that is not escaped",
            Self::Escape => "a string has an unknown escape",
            Self::Trailing => "something follows the record",
            Self::Depth => "the record nests deeper than 64 levels",
        })
    }
}

/// A fault and the byte of the record where it was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed {
    pub(crate) at: usize,
    pub(crate) fault: Fault,
}

/// A number's parts. `mantissa` is right where `digits` is at most 19.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Number {
    pub(crate) negative: bool,
    pub(crate) mantissa: u64,
    pub(crate) digits: usize,
    /// Digits after the point.
    pub(crate) scale: usize,
    /// Neither point nor exponent.
    pub(crate) integer: bool,
    pub(crate) exponent: bool,
}

pub(crate) struct Cursor<'a> {
    record: &'a [u8],
    /// The record and what follows it.
    wide: &'a [u8],
    pub(crate) at: usize,
}

impl<'a> Cursor<'a> {
    /// Over `wide[..len]`.
    pub(crate) fn new(wide: &'a [u8], len: usize) -> Self {
        Self { record: wide.get(..len).unwrap_or(wide), wide, at: 0 }
    }

    /// Over text of its own.
    pub(crate) fn over(record: &'a [u8]) -> Self {
        Self { record, wide: record, at: 0 }
    }

    pub(crate) fn record(&self) -> &'a [u8] {
        self.record
    }

    /// The text from `from` to here.
    pub(crate) fn since(&self, from: usize) -> &'a [u8] {
        self.record.get(from..self.at).unwrap_or_default()
    }

    /// The next byte; 0, which begins nothing, at the end.
    #[inline(always)]
    pub(crate) fn peek(&self) -> u8 {
        self.record.get(self.at).copied().unwrap_or(0)
    }

    /// The next 16 bytes, wherever the record ends.
    #[inline(always)]
    pub(crate) fn next16(&self) -> Option<&'a [u8; 16]> {
        self.wide.get(self.at..)?.first_chunk()
    }

    /// What is left of the record.
    #[inline(always)]
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.record.get(self.at..).unwrap_or_default()
    }

    #[inline(always)]
    pub(crate) fn spaces(&mut self) {
        if self.peek() <= b' ' {
            while matches!(self.peek(), b' ' | b'\t' | b'\n' | b'\r') {
                self.at += 1;
            }
        }
    }

    #[cold]
    pub(crate) fn fault(&self, fault: Fault) -> Malformed {
        Malformed { at: self.at.min(self.record.len()), fault }
    }

    /// Nothing but spaces may follow.
    pub(crate) fn end(&mut self) -> Result<(), Malformed> {
        self.spaces();
        if self.at < self.record.len() { Err(self.fault(Fault::Trailing)) } else { Ok(()) }
    }

    #[inline]
    pub(crate) fn literal(&mut self, word: &[u8]) -> Result<(), Malformed> {
        if self.rest().starts_with(word) {
            self.at += word.len();
            Ok(())
        } else {
            Err(self.fault(Fault::Literal))
        }
    }

    /// A string, the opening quote behind us: its text is added to `out`. False where it is valid JSON but has half of a
    /// surrogate pair, so that no UTF-8 text is equal to it.
    #[inline]
    pub(crate) fn string(&mut self, out: &mut Vec<u8>) -> Result<bool, Malformed> {
        let mut whole = true;
        loop {
            while let Some(chunk) = self.next16() {
                let plain = plain_bytes(chunk);
                out.extend_from_slice(chunk);
                self.at += plain;
                if plain < 16 {
                    out.truncate(out.len() - (16 - plain));
                    break;
                }
            }
            match self.peek() {
                b'"' => {
                    self.at += 1;
                    return Ok(whole);
                }
                b'\\' => whole &= self.escape(out)?,
                byte if byte >= b' ' => {
                    out.push(byte);
                    self.at += 1;
                }
                _ => return Err(self.string_fault()),
            }
        }
    }

    #[cold]
    fn string_fault(&self) -> Malformed {
        self.fault(if self.at < self.record.len() { Fault::Control } else { Fault::StringEnd })
    }

    /// Reads over a string, the opening quote behind us. True where it has an escape.
    pub(crate) fn skip_string(&mut self) -> Result<bool, Malformed> {
        let mut escaped = false;
        loop {
            while let Some(chunk) = self.next16() {
                let plain = plain_bytes(chunk);
                self.at += plain;
                if plain < 16 {
                    break;
                }
            }
            match self.peek() {
                b'"' => {
                    self.at += 1;
                    return Ok(escaped);
                }
                b'\\' => {
                    escaped = true;
                    self.escape(&mut Vec::new())?;
                }
                byte if byte >= b' ' => self.at += 1,
                _ => return Err(self.string_fault()),
            }
        }
    }

    /// An escape; false for half of a surrogate pair.
    #[cold]
    fn escape(&mut self, out: &mut Vec<u8>) -> Result<bool, Malformed> {
        let letter = self.record.get(self.at + 1).copied().unwrap_or(0);
        let plain = match letter {
            b'"' | b'\\' | b'/' => letter,
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => return self.unicode_escape(out),
            _ => return Err(self.fault(Fault::Escape)),
        };
        out.push(plain);
        self.at += 2;
        Ok(true)
    }

    fn unicode_escape(&mut self, out: &mut Vec<u8>) -> Result<bool, Malformed> {
        let unit = self.hex4(self.at + 2).ok_or_else(|| self.fault(Fault::Escape))?;
        self.at += 6;
        let mut code = unit;
        if (0xd800..0xdc00).contains(&unit)
            && self.rest().starts_with(b"\\u")
            && let Some(low) = self.hex4(self.at + 2)
            && (0xdc00..0xe000).contains(&low)
        {
            self.at += 6;
            code = 0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
        }
        match char::from_u32(code) {
            Some(character) => {
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                Ok(true)
            }
            None => Ok(false),
        }
    }

    fn hex4(&self, from: usize) -> Option<u32> {
        let mut code = 0;
        for &digit in self.record.get(from..from + 4)? {
            code = code << 4 | char::from(digit).to_digit(16)?;
        }
        Some(code)
    }

    /// A number, at its first byte.
    #[inline]
    pub(crate) fn number(&mut self) -> Result<Number, Malformed> {
        let record = self.record;
        let mut at = self.at;
        let negative = self.peek() == b'-';
        at += usize::from(negative);
        let mut mantissa = 0_u64;
        let first = at;
        digits(record, &mut at, &mut mantissa);
        let mut count = at - first;
        if count == 0 || (count > 1 && record.get(first) == Some(&b'0')) {
            return Err(self.fault(Fault::Number));
        }
        let (mut integer, mut scale) = (true, 0);
        if record.get(at) == Some(&b'.') {
            at += 1;
            let point = at;
            digits(record, &mut at, &mut mantissa);
            scale = at - point;
            if scale == 0 {
                return Err(self.fault(Fault::Number));
            }
            count += scale;
            integer = false;
        }
        let exponent = matches!(record.get(at), Some(b'e' | b'E'));
        if exponent {
            at += 1;
            at += usize::from(matches!(record.get(at), Some(b'+' | b'-')));
            let from = at;
            digits(record, &mut at, &mut 0);
            if at == from {
                return Err(self.fault(Fault::Number));
            }
            integer = false;
        }
        self.at = at;
        Ok(Number { negative, mantissa, digits: count, scale, integer, exponent })
    }

    /// Reads over a value of any kind, strictly. `depth` is how many containers it lies in.
    pub(crate) fn skip(&mut self, depth: u32) -> Result<(), Malformed> {
        match self.peek() {
            b'"' => {
                self.at += 1;
                self.skip_string().map(drop)
            }
            b'-' | b'0'..=b'9' => self.number().map(drop),
            b't' => self.literal(b"true"),
            b'f' => self.literal(b"false"),
            b'n' => self.literal(b"null"),
            b'{' => {
                let mut fields = self.enter(b'}', depth)?;
                while fields {
                    if self.peek() != b'"' {
                        return Err(self.fault(Fault::Key));
                    }
                    self.at += 1;
                    self.skip_string()?;
                    self.colon()?;
                    self.skip(depth + 1)?;
                    fields = self.more(b'}', Fault::ObjectEnd)?;
                }
                Ok(())
            }
            b'[' => {
                let mut elements = self.enter(b']', depth)?;
                while elements {
                    self.skip(depth + 1)?;
                    elements = self.more(b']', Fault::ListEnd)?;
                }
                Ok(())
            }
            _ => Err(self.fault(Fault::Value)),
        }
    }

    /// Enters a container, at its opening bracket: whether there is something in it.
    #[inline(always)]
    pub(crate) fn enter(&mut self, close: u8, depth: u32) -> Result<bool, Malformed> {
        if depth >= MAX_DEPTH {
            return Err(self.fault(Fault::Depth));
        }
        self.at += 1;
        self.spaces();
        let empty = self.peek() == close;
        self.at += usize::from(empty);
        Ok(!empty)
    }

    /// After a value in a container: whether another one follows.
    #[inline(always)]
    pub(crate) fn more(&mut self, close: u8, fault: Fault) -> Result<bool, Malformed> {
        self.spaces();
        let next = self.peek();
        if next == b',' {
            self.at += 1;
            self.spaces();
            Ok(true)
        } else if next == close {
            self.at += 1;
            Ok(false)
        } else {
            Err(self.fault(fault))
        }
    }

    /// A colon with the spaces around it.
    #[inline(always)]
    pub(crate) fn colon(&mut self) -> Result<(), Malformed> {
        self.spaces();
        if self.peek() != b':' {
            return Err(self.fault(Fault::Colon));
        }
        self.at += 1;
        self.spaces();
        Ok(())
    }
}

#[inline(always)]
fn digits(record: &[u8], at: &mut usize, mantissa: &mut u64) {
    while let Some(digit) = record.get(*at).map(|byte| byte.wrapping_sub(b'0'))
        && digit < 10
    {
        *mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(digit));
        *at += 1;
    }
}

/// How many of the bytes stand for themselves in a string: no quote, no backslash, no control character.
#[inline(always)]
fn plain_bytes(chunk: &[u8; 16]) -> usize {
    let (low, high) = chunk.split_at(8);
    let half = |half: &[u8]| special(u64::from_le_bytes(half.try_into().unwrap_or_default()));
    match (half(low), half(high)) {
        (0, 0) => 16,
        (0, high) => 8 + high.trailing_zeros() as usize / 8,
        (low, _) => low.trailing_zeros() as usize / 8,
    }
}

/// The high bit of the first byte that does not stand for itself; bits above it may be wrong.
#[inline(always)]
fn special(word: u64) -> u64 {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGHS: u64 = ONES << 7;
    let quote = word ^ (ONES * 0x22);
    let backslash = word ^ (ONES * 0x5c);
    let found = (quote.wrapping_sub(ONES) & !quote)
        | (backslash.wrapping_sub(ONES) & !backslash)
        | (word.wrapping_sub(ONES * 0x20) & !word);
    found & HIGHS
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn text_of(json: &str) -> Result<(Vec<u8>, bool), Malformed> {
        let mut cursor = Cursor::over(json.as_bytes());
        cursor.at = 1;
        let mut out = Vec::new();
        let whole = cursor.string(&mut out)?;
        cursor.end()?;
        Ok((out, whole))
    }

    #[test]
    fn plain_bytes_finds_the_first_special_byte() {
        for byte in 0..=255_u8 {
            for place in 0..16 {
                let mut chunk = *b"abcdefghijkl\xc3\xa4\xffz";
                chunk[place] = byte;
                let right = chunk.iter().position(|&b| b < 0x20 || b == b'"' || b == b'\\').unwrap_or(16);
                assert_eq!(plain_bytes(&chunk), right, "{byte} at {place}");
            }
        }
    }

    #[test]
    fn strings_agree_with_serde_json() {
        let long = format!("\"{}\\n{}\"", "x".repeat(40), "ä€😀".repeat(9));
        for json in [
            r#""""#,
            r#""a""#,
            r#""0123456789abcde""#,
            r#""0123456789abcdef""#,
            r#""\"\\\/\b\f\n\r\t""#,
            r#""\u0041\u00e4\u20ac\ud83d\ude00""#,
            r#""0123456789abcde\u0000z""#,
            &long,
        ] {
            let right: String = serde_json::from_str(json).unwrap();
            assert_eq!(text_of(json), Ok((right.into_bytes(), true)), "{json}");
        }
        for json in [r#""\ud800""#, r#""\udc00\ud800""#, r#""\ud800\u0041""#, r#""\ud83dx""#] {
            assert!(matches!(text_of(json), Ok((_, false))), "{json}");
        }
        for json in ["\"a", "\"a\n\"", r#""\x""#, r#""\u12g4""#, r#""\u123"#, "\"0123456789abcdef", "\"a\" b", "\"\\"] {
            assert!(text_of(json).is_err(), "{json}");
        }
    }

    #[test]
    fn what_follows_the_record_does_not_count() {
        let wide = b"\"abc\",\"more text that follows\"";
        let mut cursor = Cursor::new(wide, 4);
        cursor.at = 1;
        assert_eq!(cursor.string(&mut Vec::new()).map_err(|error| error.fault), Err(Fault::StringEnd));
    }

    #[test]
    fn numbers_are_strict() {
        for good in ["0", "-0", "10", "-1.5", "1e5", "1E+05", "0.10", "12345678901234567890123"] {
            let mut cursor = Cursor::over(good.as_bytes());
            cursor.number().unwrap();
            assert_eq!(cursor.at, good.len(), "{good}");
        }
        for bad in ["", "-", "01", "1.", ".5", "1e", "1e+", "-01", "+1", "1.e5"] {
            assert!(Cursor::over(bad.as_bytes()).number().is_err(), "{bad}");
        }
    }
}
