//! A file's key: its path relative to the folder, with `/`, as text.
//!
//! Keys are text and file names are bytes, so names that are not UTF-8 are escaped, without loss: each byte that is not
//! part of valid UTF-8 becomes `%` and two upper-case hexadecimal digits, and a `%` that already stands before two such
//! digits becomes `%25`. All other names, `100%.csv` too, are their own keys.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// The key of a path that is relative to the folder (or, for the folder's own name, absolute).
pub(super) fn encode(path: &Path) -> String {
    let mut key = String::with_capacity(path.as_os_str().len());
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        let text = chunk.valid();
        for (at, character) in text.char_indices() {
            key.push(character);
            if character == '%' && escaped(text.as_bytes().get(at + 1..)).is_some() {
                key.push_str("25");
            }
        }
        for byte in chunk.invalid() {
            key.push('%');
            key.push(char::from(HEX[usize::from(byte >> 4)]));
            key.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
    key
}

/// The path that a key was made of.
pub(super) fn decode(key: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(key.len());
    let mut rest = key.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        match escaped(Some(after)) {
            Some(byte) if first == b'%' => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            Some(_) | None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

/// The byte that two upper-case hexadecimal digits at the beginning stand for.
fn escaped(digits: Option<&[u8]>) -> Option<u8> {
    let digit = |at: usize| HEX.iter().zip(0u8..).find(|(hex, _)| digits.and_then(|d| d.get(at)) == Some(*hex));
    Some((digit(0)?.1 << 4) | digit(1)?.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(bytes: &[u8]) -> PathBuf {
        PathBuf::from(OsString::from_vec(bytes.to_vec()))
    }

    #[test]
    fn names_that_are_text_stay_as_they_are() {
        for name in ["2013-09-01.csv", "a/b/ü 100%.csv", "50%zz", "%", "%4", "%4é", "%ff"] {
            assert_eq!(encode(Path::new(name)), name);
        }
        assert_eq!(encode(Path::new("a%41")), "a%2541");
        assert_eq!(encode(&path(b"caf\xe9.csv")), "caf%E9.csv");
        assert_eq!(encode(&path(b"%4\xff")), "%4%FF");
    }

    proptest! {
        #[test]
        fn every_name_comes_back(bytes in proptest::collection::vec(
            prop_oneof![Just(b'%'), Just(b'2'), Just(b'5'), Just(b'F'), 1u8..=255], 0..24)
        ) {
            prop_assert_eq!(decode(&encode(&path(&bytes))), path(&bytes));
        }
    }
}
