//! Names in PostgreSQL: always quoted, so case, reserved words and every other character stay as they are.
//!
//! A name has at most 63 bytes there, and the server cuts a longer one in silence: two long names might become one. So forebay cuts
//! them itself, and puts eight letters of their digest at the end: `a_very_long_name…_1f0c9a2b`. The whole name of a column stands in its
//! comment then. Names of PostgreSQL's own columns (`ctid`, `xmin` …) get the same ending.

use forebay_model::Digest;

/// What a name of PostgreSQL may have.
const BYTES: usize = 63;
/// An underscore and eight letters.
const ENDING: usize = 9;
/// Each table has columns of these names.
const SYSTEM: [&str; 6] = ["ctid", "xmin", "cmin", "xmax", "cmax", "tableoid"];

/// The name that a column or a table of this name has.
pub(super) fn stored(name: &str) -> String {
    if name.len() <= BYTES && !SYSTEM.contains(&name) {
        return name.to_owned();
    }
    let end = (0..=name.len().min(BYTES - ENDING)).rev().find(|end| name.is_char_boundary(*end)).unwrap_or(0);
    let kept = name.get(..end).unwrap_or_default();
    let digest = Digest::of(name.as_bytes()).to_string();
    format!("{kept}_{}", digest.get(..ENDING - 1).unwrap_or_default())
}

/// A name as a statement has it.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The column of this name, as a statement has it.
pub(super) fn column(name: &str) -> String {
    quoted(&stored(name))
}

/// A text as a statement has it. (`standard_conforming_strings` is on in each of our sessions.)
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_stay_apart_and_short_ones_as_they_are() {
        assert_eq!((stored("select"), column("A \"b\"")), ("select".to_owned(), "\"A \"\"b\"\"\"".to_owned()));
        let long = "ü".repeat(40);
        let (one, other) = (stored(&format!("{long}a")), stored(&format!("{long}b")));
        assert!(one != other && one.len() <= BYTES && other.len() <= BYTES, "{one} {other}");
        assert!(one.starts_with("üü") && one == stored(&format!("{long}a")));
        assert_eq!(stored(&"x".repeat(63)), "x".repeat(63));
        assert!(stored("ctid").starts_with("ctid_"));
        assert_eq!(literal("it's"), "'it''s'");
    }
}
