//! How each column of a file is encoded, chosen from its first batch.
//!
//! | values | encoding | codec | statistics |
//! |---|---|---|---|
//! | few distinct (at most one in eight, or one alone) | dictionary | none where an index takes at most four bits, else zstd 1 | pages |
//! | integers, dates, timestamps, small decimals | `DELTA_BINARY_PACKED` | zstd 1 | pages |
//! | text and binary | `DELTA_LENGTH_BYTE_ARRAY` | zstd 1 | pages; chunks only where values are longer than 64 bytes on average |
//! | floats, large decimals | plain | zstd 1 | pages |
//! | booleans | plain | none | pages |
//!
//! A batch of fewer than 64 rows says too little: its columns get a dictionary, which the writer gives up where it does not pay.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, DefaultHasher, Hash, Hasher};

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::DataType;
use parquet::arrow::ArrowSchemaConverter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::Result;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::schema::types::ColumnPath;

use super::stats::STATISTICS_BYTES;

/// Rows of a column that are looked at.
const SAMPLE_ROWS: usize = 4096;
/// Below this, a sample says nothing.
const TELLING_ROWS: usize = 64;

/// How one leaf column is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ColumnPlan {
    /// By dictionary, as far as it stays small.
    pub dictionary: bool,
    /// Otherwise.
    pub encoding: Encoding,
    /// Zstandard, level 1, or nothing.
    pub compressed: bool,
    /// Minimum and maximum of each page, not only of each row group.
    pub page_statistics: bool,
}

/// The plan for each leaf column, in the order of the Parquet schema.
#[must_use]
pub fn plan_columns(sample: &RecordBatch) -> Vec<ColumnPlan> {
    let mut plans = Vec::new();
    for column in sample.columns() {
        plan(column, &mut plans);
    }
    plans
}

pub(super) fn properties(sample: &RecordBatch) -> Result<WriterProperties> {
    let parquet = ArrowSchemaConverter::new().convert(sample.schema().as_ref())?;
    let zstd = Compression::ZSTD(ZstdLevel::try_new(1)?);
    let mut builder = WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_created_by(concat!("forebay ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(zstd)
        .set_max_row_group_row_count(None)
        .set_statistics_truncate_length(Some(STATISTICS_BYTES))
        .set_column_index_truncate_length(Some(64));
    for (column, plan) in parquet.columns().iter().zip(plan_columns(sample)) {
        let path: ColumnPath = column.path().clone();
        let ColumnPlan { dictionary, encoding, compressed, page_statistics } = plan;
        let statistics = if page_statistics { EnabledStatistics::Page } else { EnabledStatistics::Chunk };
        builder = builder
            .set_column_dictionary_enabled(path.clone(), dictionary)
            .set_column_encoding(path.clone(), encoding)
            .set_column_compression(path.clone(), if compressed { zstd } else { Compression::UNCOMPRESSED })
            .set_column_statistics_enabled(path, statistics);
    }
    Ok(builder.build())
}

/// Walks to the leaves in the order in which Parquet has them.
fn plan(array: &ArrayRef, plans: &mut Vec<ColumnPlan>) {
    if let Some(array) = array.as_struct_opt() {
        for column in array.columns() {
            plan(column, plans);
        }
    } else if let Some(array) = array.as_list_opt::<i32>() {
        plan(array.values(), plans);
    } else if let Some(array) = array.as_map_opt() {
        for column in array.entries().columns() {
            plan(column, plans);
        }
    } else {
        plans.push(plan_leaf(array));
    }
}

fn plan_leaf(array: &ArrayRef) -> ColumnPlan {
    let plain = ColumnPlan { dictionary: false, encoding: Encoding::PLAIN, compressed: true, page_statistics: true };
    if array.data_type() == &DataType::Boolean {
        return ColumnPlan { compressed: false, ..plain };
    }
    let rows = array.len().min(SAMPLE_ROWS);
    let fallback = if is_packed_integer(array.data_type()) {
        Encoding::DELTA_BINARY_PACKED
    } else if matches!(array.data_type(), DataType::Utf8 | DataType::Binary) {
        Encoding::DELTA_LENGTH_BYTE_ARRAY
    } else {
        Encoding::PLAIN
    };
    let page_statistics = average_bytes(array) <= 64;
    let plan = ColumnPlan { encoding: fallback, page_statistics, ..plain };
    if rows < TELLING_ROWS {
        return ColumnPlan { dictionary: true, ..plan };
    }
    let distinct = count_distinct(array, rows);
    if distinct <= 1 || distinct <= rows / 8 {
        // Sixteen values and null are an index of four bits: nothing left to compress.
        return ColumnPlan { dictionary: true, compressed: distinct > 16, ..plan };
    }
    plan
}

/// Whether Parquet stores it as a 32 or 64 bit integer.
fn is_packed_integer(data_type: &DataType) -> bool {
    data_type.is_integer()
        || matches!(data_type, DataType::Date32 | DataType::Timestamp(_, _))
        || matches!(data_type, DataType::Decimal128(precision, _) if *precision <= 18)
}

fn average_bytes(array: &ArrayRef) -> usize {
    let bytes = if let Some(text) = array.as_string_opt::<i32>() {
        text.value_data().len()
    } else if let Some(binary) = array.as_binary_opt::<i32>() {
        binary.value_data().len()
    } else {
        return 8;
    };
    bytes / array.len().max(1)
}

/// Distinct values among the first `rows`; nulls are none.
fn count_distinct(array: &ArrayRef, rows: usize) -> usize {
    let mut seen: HashSet<u64, BuildHasherDefault<DefaultHasher>> = HashSet::default();
    let mut note = |bytes: &[u8]| {
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        seen.insert(hasher.finish());
    };
    if let Some(text) = array.as_string_opt::<i32>() {
        (0..rows).filter(|row| text.is_valid(*row)).for_each(|row| note(text.value(row).as_bytes()));
    } else if let Some(binary) = array.as_binary_opt::<i32>() {
        (0..rows).filter(|row| binary.is_valid(*row)).for_each(|row| note(binary.value(row)));
    } else {
        let data = array.to_data();
        let (Some(width), Some(buffer)) = (data.data_type().primitive_width(), data.buffers().first()) else {
            return rows;
        };
        for row in (0..rows).filter(|row| array.is_valid(*row)) {
            let start = (data.offset() + row) * width;
            if let Some(bytes) = buffer.as_slice().get(start..start + width) {
                note(bytes);
            }
        }
    }
    seen.len()
}
