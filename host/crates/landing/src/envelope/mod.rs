//! The envelope: records of many partitions in one Parquet file that any engine can query. Nothing of a record is dropped.
//!
//! | column | Parquet type | |
//! |---|---|---|
//! | `partition` | string, dictionary | the partition's text form |
//! | `position` | string | the place in the partition, `17` or `17.3`: numbers have up to 78 digits, so no engine's integer holds them all |
//! | `key` | binary, null | the record's key |
//! | `value` | binary, null | the record's value; null for a tombstone, which is not the empty value |
//! | `headers` | map of string to binary, null | in the source's order; a name may repeat, a value may be null |
//! | `timestamp` | timestamp (us, UTC), null | the time that the source gave it |
//!
//! Rows stand in the order of the spans that were landed, so a segment is a range of rows. The file's metadata holds
//! `forebay.envelope` (the version of this form, `1`) and `forebay.stream`. Everything is zstd level 1, except what is too
//! small to gain from it; only the partition has a dictionary, values have no statistics: both cost more than they give.

mod read;
mod write;

use std::sync::{Arc, LazyLock};

use arrow_schema::{DataType, Field, Schema, SchemaRef};
use forebay_model::flow::record_column;

pub(crate) use read::{Rows, open, times};
pub(crate) use write::{Batches, Encoder, cuts, head};

/// The partition's column.
pub const PARTITION: &str = "partition";
/// The value's column: `Binary`.
pub const VALUE: &str = "value";
/// Rows of one batch, at most.
pub const BATCH_ROWS: usize = 8192;
/// The version of this form, in the file's metadata.
pub const VERSION: &str = "1";
/// The metadata key of the version.
pub const VERSION_KEY: &str = "forebay.envelope";
/// The metadata key of the stream's name.
pub const STREAM_KEY: &str = "forebay.stream";

static FILE: LazyLock<SchemaRef> = LazyLock::new(|| {
    let partition = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let mut fields = vec![Arc::new(Field::new(PARTITION, partition, false))];
    fields.extend(BATCH.fields().iter().map(Arc::clone));
    Arc::new(Schema::new(fields))
});

static BATCH: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new(record_column::POSITION, DataType::Utf8, false),
        Field::new(record_column::KEY, DataType::Binary, true),
        Field::new(VALUE, DataType::Binary, true),
        Field::new(record_column::HEADERS, forebay_model::plan::headers_type(), false),
        Field::new(record_column::TIMESTAMP, forebay_model::column::timestamp_type(), true),
    ]))
});

/// The schema of the file.
#[must_use]
pub fn file_schema() -> SchemaRef {
    Arc::clone(&FILE)
}

/// The schema of the batches that reading gives: the file's without the partition, which the segment names.
#[must_use]
pub fn batch_schema() -> SchemaRef {
    Arc::clone(&BATCH)
}
