//! What the two databases have apart, where it is not in the schema.
//!
//! What a statement may use, so that both take it:
//! - `ON CONFLICT` names its columns, and what it reads of the row that is there has the table's name before it
//!   (`refinements.attempts + 1`); no `INSERT OR REPLACE`;
//! - `IS DISTINCT FROM` for `IS NOT` with a value; `max` and `min` of a column only; `true`, not `1`, for a boolean;
//! - `json_each(?)` of a list, with `key` and `value`, and `->>` of a list and a place: SQLite has them, and
//!   `migrations/postgres` makes the same;
//! - an `ORDER BY` wherever the order matters: SQLite often gives the one that is meant without.
//!
//! The schemas agree on names; texts compare byte by byte in both (`COLLATE "C"`), and numbers that a table counts by
//! itself have no gaps.

use std::borrow::Cow;

/// A statement with `?` and `?1`, as SQLite has them, with `$1`. A question mark within quotes stays.
pub(super) fn placeholders(sql: &str) -> String {
    let mut out = String::with_capacity(sql.len() + 16);
    let (mut quoted, mut next) = (false, 1_usize);
    let mut rest = sql.chars().peekable();
    while let Some(letter) = rest.next() {
        match letter {
            '\'' => {
                quoted = !quoted;
                out.push(letter);
            }
            '?' if !quoted => {
                out.push('$');
                if rest.peek().is_none_or(|after| !after.is_ascii_digit()) {
                    out.push_str(&next.to_string());
                    next += 1;
                }
            }
            _ => out.push(letter),
        }
    }
    out
}

/// A text as PostgreSQL takes it: it has no U+0000, which only a message or a name from outside can hold. Its picture stands there
/// instead.
pub(super) fn text(text: Cow<'_, str>) -> String {
    if text.contains('\0') { text.replace('\0', "\u{2400}") } else { text.into_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_numbered_by_their_place_or_their_number() {
        assert_eq!(placeholders("a = ? AND b = ?"), "a = $1 AND b = $2");
        assert_eq!(placeholders("a = ?2 AND b = ?1 OR ?12"), "a = $2 AND b = $1 OR $12");
        assert_eq!(placeholders("a = 'why?' AND b = ?"), "a = 'why?' AND b = $1");
        assert_eq!(text("a\0b".into()), "a\u{2400}b");
    }
}
