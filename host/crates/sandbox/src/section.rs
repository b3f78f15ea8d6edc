//! A component's custom section that holds the rule's cases: found, taken out, put in.
//!
//! What stands in it is nobody's business here but the name. It is no code, so it is taken out before a module is compiled: modules
//! that differ in their cases alone share what was compiled.

use std::borrow::Cow;
use std::ops::Range;

use wasmparser::{BinaryReader, BinaryReaderError};

/// Its name.
pub const CASES_SECTION: &str = "forebay:cases";

/// The id of custom sections.
const CUSTOM: u8 = 0;
/// A component's magic number and version.
const HEADER: usize = 8;

/// Why a module's sections cannot be told apart.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SectionError {
    /// The bytes end within a section, or a section says of itself what cannot be.
    #[error("its sections cannot be told apart: {0}")]
    Broken(String),
    /// Which one counts cannot be said.
    #[error("it has {0} sections {CASES_SECTION}, and may have one")]
    Many(usize),
}

impl From<BinaryReaderError> for SectionError {
    fn from(error: BinaryReaderError) -> Self {
        Self::Broken(error.to_string())
    }
}

/// A section of cases: all of it, and what it holds.
struct Found {
    whole: Range<usize>,
    content: Range<usize>,
}

/// What the section of cases holds; `None` where there is none.
///
/// # Errors
/// Where the module's sections cannot be told apart, or there is more than one.
pub fn cases_section(wasm: &[u8]) -> Result<Option<&[u8]>, SectionError> {
    match find(wasm)?.as_slice() {
        [] => Ok(None),
        [Found { whole: _, content }] => Ok(wasm.get(content.clone())),
        many => Err(SectionError::Many(many.len())),
    }
}

/// The module with this as its section of cases, in the place of any that it has.
///
/// # Errors
/// Where the module's sections cannot be told apart, or the content is longer than a section can be.
pub fn with_cases_section(wasm: &[u8], content: &[u8]) -> Result<Vec<u8>, SectionError> {
    let number = |length: usize| {
        let length = u32::try_from(length);
        length.map(leb).map_err(|_| SectionError::Broken("the cases are longer than a section can be".to_owned()))
    };
    let name = number(CASES_SECTION.len())?;
    let length = number(name.len() + CASES_SECTION.len() + content.len())?;
    let whole = [&[CUSTOM], length.as_slice(), &name, CASES_SECTION.as_bytes(), content].concat();
    let mut out = without_cases_section(wasm)?.into_owned();
    out.extend(whole);
    Ok(out)
}

/// The module without its section of cases.
///
/// # Errors
/// Where the module's sections cannot be told apart.
pub fn without_cases_section(wasm: &[u8]) -> Result<Cow<'_, [u8]>, SectionError> {
    let found = find(wasm)?;
    if found.is_empty() {
        return Ok(Cow::Borrowed(wasm));
    }
    let (mut out, mut from) = (Vec::with_capacity(wasm.len()), 0);
    for Found { whole, content: _ } in found {
        out.extend_from_slice(wasm.get(from..whole.start).unwrap_or_default());
        from = whole.end;
    }
    out.extend_from_slice(wasm.get(from..).unwrap_or_default());
    Ok(Cow::Owned(out))
}

/// The sections of that name on the component's own level: what is inside of its parts is theirs.
fn find(wasm: &[u8]) -> Result<Vec<Found>, SectionError> {
    let mut reader = BinaryReader::new(wasm, 0);
    reader.read_bytes(HEADER.min(wasm.len()))?;
    let mut found = Vec::new();
    while !reader.eof() {
        let start = position(wasm, &reader);
        let id = reader.read_u8()?;
        let length = usize::try_from(reader.read_var_u32()?).unwrap_or(usize::MAX);
        let mut section = BinaryReader::new(reader.read_bytes(length)?, 0);
        let end = position(wasm, &reader);
        // A name that is no text is not ours.
        if id == CUSTOM && section.read_string().is_ok_and(|name| name == CASES_SECTION) {
            found.push(Found { whole: start..end, content: end - section.bytes_remaining()..end });
        }
    }
    Ok(found)
}

fn position(wasm: &[u8], reader: &BinaryReader<'_>) -> usize {
    wasm.len() - reader.bytes_remaining()
}

/// A number as Wasm writes it: seven bits a byte, the least first.
fn leb(mut number: u32) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let [low, ..] = number.to_le_bytes();
        number >>= 7;
        if number == 0 {
            out.push(low & 0x7f);
            return out;
        }
        out.push(low | 0x80);
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// A component with one custom section, `note`.
    const MODULE: &[u8] = b"\0asm\x0d\0\x01\0\0\x06\x04note7";

    #[test]
    fn a_section_is_put_in_found_replaced_and_taken_out() {
        assert_eq!(cases_section(MODULE), Ok(None));
        assert!(matches!(without_cases_section(MODULE), Ok(Cow::Borrowed(MODULE))));
        for content in [vec![], vec![7; 5], vec![9; 200], vec![1; 70_000]] {
            let with = with_cases_section(MODULE, &content).unwrap();
            assert_eq!(cases_section(&with), Ok(Some(content.as_slice())));
            assert_eq!(without_cases_section(&with).unwrap(), MODULE);
            let again = with_cases_section(&with, b"other").unwrap();
            assert_eq!(again, with_cases_section(MODULE, b"other").unwrap());
        }
    }

    #[test]
    fn two_sections_are_one_too_many_and_half_a_section_is_none() {
        let one = with_cases_section(MODULE, b"content").unwrap();
        let two = [one.as_slice(), &one[MODULE.len()..]].concat();
        assert_eq!(cases_section(&two), Err(SectionError::Many(2)));
        assert_eq!(without_cases_section(&two).unwrap(), MODULE);
        for end in HEADER + 1..one.len() {
            let cut = &one[..end];
            assert!(end == MODULE.len() || cases_section(cut).is_err(), "{end}");
        }
        for bytes in [&b""[..], b"\0asm", b"no wasm at all", &[0xff; 40]] {
            let _ = cases_section(bytes);
        }
    }
}
