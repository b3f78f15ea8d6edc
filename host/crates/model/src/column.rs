//! The columns that forebay adds to each table row, and the names that rows may not take.
//!
//! With the ledger they lead a row back to its object, partition and position, and to the revision that made it.

use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef, TimeUnit};

/// The prefix that is forebay's own; a source field that begins with it goes to [`RESCUED`].
pub const PREFIX: &str = "_forebay_";
/// `Utf8`: the segment that the row's record lies in.
pub const SEGMENT: &str = "_forebay_segment";
/// `Int64`: the record's number in its segment, from 0, rejected records counted.
pub const ROW: &str = "_forebay_row";
/// `Int32`: 0, unless a rule made several rows of one record for one table: then 0, 1, 2 …
pub const ITEM: &str = "_forebay_item";
/// `Int64`: the number of the load that brought the row (numbers belong to the pipeline and grow).
pub const LOAD: &str = "_forebay_load";
/// `Timestamp(us, UTC)`: when the load was begun.
pub const LOADED_AT: &str = "_forebay_loaded_at";
/// `Utf8`, JSON object or null: what did not fit the schema, by field name.
pub const RESCUED: &str = "_forebay_rescued";

/// The name that a field has in a table: each of `` ,;{}()=``, a space, a tab, a line end and any other control character becomes
/// `_`, and an empty name is `_`. (Delta Lake without column mapping and Parquet forbid them.)
#[must_use]
pub fn stored_name(name: &str) -> String {
    if name.is_empty() {
        return "_".to_owned();
    }
    name.chars().map(|c| if c.is_control() || " ,;{}()=".contains(c) { '_' } else { c }).collect()
}

/// The time type of every table: microseconds, UTC.
#[must_use]
pub fn timestamp_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// The fields of forebay's own columns, in the order in which they stand at the end of each table:
/// rescued, segment, row, item, load, loaded at.
#[must_use]
pub fn own_fields() -> Vec<FieldRef> {
    [
        Field::new(RESCUED, DataType::Utf8, true),
        Field::new(SEGMENT, DataType::Utf8, true),
        Field::new(ROW, DataType::Int64, true),
        Field::new(ITEM, DataType::Int32, true),
        Field::new(LOAD, DataType::Int64, true),
        Field::new(LOADED_AT, timestamp_type(), true),
    ]
    .map(Arc::new)
    .to_vec()
}
