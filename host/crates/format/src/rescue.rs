//! What did not fit: noted while a record is decoded, written to `_forebay_rescued` when the record has become a row.
//!
//! Rescued is the smallest value around the misfit that a path through objects names: a field of a struct alone
//! (`geo.city`), but a whole list where one of its elements does not fit, since holes in it would pass for nulls. A field
//! that is only new, in a list's element too, takes nothing with it. Nulls of unknown fields are not rescued: they say no more than
//! absence does.
//!
//! The column holds a JSON object. Its keys are paths, `geo.city` or `items[3].note`, its values the text exactly as it came
//! (of CSV, the field's text as a JSON string). Where a path stands twice, because a field does or because a name has
//! dots of its own, the second is `path#2`. As JSON allows, a number may exceed every float and a string may have half of a
//! surrogate pair: whoever reads the values takes them raw.

use std::collections::HashMap;
use std::ops::Range;

/// A step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    Name(String),
    Index(usize),
}

/// A value that is to be rescued.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The path, innermost step first: those around add theirs when they are left.
    pub(crate) steps: Vec<Step>,
    /// Where the value's text lies.
    pub(crate) value: Range<usize>,
    /// Whether the schema may grow for its sake.
    pub(crate) grows: bool,
}

impl Entry {
    fn path(&self) -> String {
        let mut path = String::new();
        for step in self.steps.iter().rev() {
            match step {
                Step::Name(name) => {
                    if !path.is_empty() {
                        path.push('.');
                    }
                    path.push_str(name);
                }
                Step::Index(index) => {
                    path.push('[');
                    path.push_str(&index.to_string());
                    path.push(']');
                }
            }
        }
        path
    }
}

/// The entries of the record at hand.
#[derive(Debug, Default)]
pub(crate) struct Rescues {
    entries: Vec<Entry>,
}

impl Rescues {
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(crate) fn truncate(&mut self, len: usize) {
        self.entries.truncate(len);
    }

    #[cold]
    pub(crate) fn add(&mut self, name: &str, value: Range<usize>, grows: bool) {
        self.entries.push(Entry { steps: vec![Step::Name(name.to_owned())], value, grows });
    }

    /// Those added since `mark` lie below `step`.
    #[inline]
    pub(crate) fn below(&mut self, mark: usize, step: impl Fn() -> Step) {
        for entry in self.entries.iter_mut().skip(mark) {
            entry.steps.push(step());
        }
    }

    /// Writes the object to `out`. `text` is what the ranges point into, JSON or plain text. False where it would be
    /// larger than `limit`; `out` is then to be taken back.
    pub(crate) fn write(&self, text: &[u8], plain: bool, limit: usize, out: &mut Vec<u8>) -> bool {
        let begin = out.len();
        // How often each path stood so far, numbered ones too.
        let mut known: HashMap<String, usize> = HashMap::new();
        out.push(b'{');
        for (index, entry) in self.entries.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            let path = entry.path();
            let mut key = path.clone();
            while known.contains_key(&key) {
                let count = known.entry(path.clone()).or_insert(1);
                *count += 1;
                key = format!("{path}#{count}");
            }
            write_string(&key, out);
            known.insert(key, 1);
            out.push(b':');
            let value = text.get(entry.value.clone()).unwrap_or_default();
            if plain {
                write_string(&String::from_utf8_lossy(value), out);
            } else {
                out.extend_from_slice(value);
            }
            if out.len() - begin > limit {
                return false;
            }
        }
        out.push(b'}');
        true
    }
}

/// Writes a JSON string.
fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for &byte in text.as_bytes() {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..0x20 => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn keys_are_paths_and_never_repeat() {
        let mut rescues = Rescues::default();
        let text = b"1.10 \"a\\u0000\" [2]";
        rescues.add("city", 0..4, true);
        rescues.below(0, || Step::Name("geo".to_owned()));
        rescues.add("geo.city", 5..14, true);
        rescues.add("note", 15..18, true);
        rescues.below(2, || Step::Index(3));
        rescues.below(2, || Step::Name("it\"ems".to_owned()));
        let mut out = Vec::new();
        assert!(rescues.write(text, false, 1000, &mut out));
        assert_eq!(
            String::from_utf8(out).unwrap(),
            r#"{"geo.city":1.10,"geo.city#2":"a\u0000","it\"ems[3].note":[2]}"#
        );
        assert!(!rescues.write(text, false, 20, &mut Vec::new()));
    }

    #[test]
    fn plain_text_becomes_json_strings() {
        let mut rescues = Rescues::default();
        let text = "a\"b\\\n\u{1}ä".as_bytes();
        rescues.add("x", 0..text.len(), true);
        let mut out = Vec::new();
        assert!(rescues.write(text, true, 1000, &mut out));
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(value["x"].as_str(), Some("a\"b\\\n\u{1}ä"));
    }
}
