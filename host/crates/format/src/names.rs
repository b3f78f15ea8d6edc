//! Which names of an input may become columns.

use forebay_model::column::{PREFIX, stored_name};

/// Longer names are not columns': their fields are rescued.
const LONGEST: usize = 256;

/// The form in which names are the same that come to one name in a table: those that differ only in case, or in characters that no
/// table's names have.
pub(crate) fn fold(name: &str) -> String {
    stored_name(name).to_lowercase()
}

/// Whether a field of this name can be a column: it has 1 to 256 bytes, and at the top (`root`) it does not begin
/// as forebay's own columns do.
pub(crate) fn is_usable(name: &str, root: bool) -> bool {
    (1..=LONGEST).contains(&name.len()) && !(root && fold(name).starts_with(PREFIX))
}
