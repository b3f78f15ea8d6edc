use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_schema::{DataType, SchemaRef};
use forebay_model::{LOAD, SEGMENT};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use super::digest;
use crate::columns::adapt;
use crate::error::WarehouseError;

fn builder(path: &Path) -> Result<ParquetRecordBatchReaderBuilder<File>, WarehouseError> {
    let file = File::open(path).map_err(WarehouseError::io("open", path))?;
    digest::check(&file, path)?;
    ParquetRecordBatchReaderBuilder::try_new(file).map_err(WarehouseError::data_file("read", path))
}

/// All rows of a data file.
pub(crate) fn open(path: &Path) -> Result<ParquetRecordBatchReader, WarehouseError> {
    builder(path)?.with_batch_size(8192).build().map_err(WarehouseError::data_file("read", path))
}

/// The schema that a data file was written with.
pub(crate) fn schema_of(path: &Path) -> Result<SchemaRef, WarehouseError> {
    Ok(builder(path)?.schema().clone())
}

/// How many rows a data file has.
pub(crate) fn rows_in(path: &Path) -> Result<u64, WarehouseError> {
    let rows = builder(path)?.metadata().file_metadata().num_rows();
    u64::try_from(rows).map_err(|_| WarehouseError::Bug(format!("{} says that it has {rows} rows", path.display())))
}

/// Whether the file has rows of any of the segments. Reads the one column.
pub(crate) fn contains_any(path: &Path, segments: &BTreeSet<&str>) -> Result<bool, WarehouseError> {
    let builder = builder(path)?;
    let mask = ProjectionMask::columns(builder.parquet_schema(), [SEGMENT]);
    let reader = builder.with_projection(mask).build().map_err(WarehouseError::data_file("read", path))?;
    for batch in reader {
        let batch = batch.map_err(WarehouseError::data_file("read", path))?;
        let Some(column) = batch.column_by_name(SEGMENT) else { return Ok(false) };
        let column = adapt(column, &DataType::Utf8).map_err(WarehouseError::data_file("read", path))?;
        let column = column.as_string::<i32>();
        if (0..column.len()).any(|row| column.is_valid(row) && segments.contains(column.value(row))) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// How many rows the file has of each segment and load. Reads the two columns.
pub(crate) fn segments_and_loads(path: &Path) -> Result<BTreeMap<(String, i64), u64>, WarehouseError> {
    let builder = builder(path)?;
    let mask = ProjectionMask::columns(builder.parquet_schema(), [SEGMENT, LOAD]);
    let reader = builder.with_projection(mask).build().map_err(WarehouseError::data_file("read", path))?;
    let mut found: BTreeMap<(String, i64), u64> = BTreeMap::new();
    for batch in reader {
        let batch = batch.map_err(WarehouseError::data_file("read", path))?;
        let (Some(segments), Some(loads)) = (batch.column_by_name(SEGMENT), batch.column_by_name(LOAD)) else { break };
        let segments = adapt(segments, &DataType::Utf8).map_err(WarehouseError::data_file("read", path))?;
        let loads = adapt(loads, &DataType::Int64).map_err(WarehouseError::data_file("read", path))?;
        let pairs = segments.as_string::<i32>().iter().zip(loads.as_primitive::<Int64Type>());
        // Rows stand in the order of their segments, so a run is counted before it is looked up.
        let mut run: Option<(&str, i64, u64)> = None;
        for (segment, load) in pairs.filter_map(|(segment, load)| segment.zip(load)) {
            match &mut run {
                Some((of, by, count)) if *of == segment && *by == load => *count += 1,
                _ => {
                    if let Some((of, by, count)) = run.replace((segment, load, 1)) {
                        *found.entry((of.to_owned(), by)).or_default() += count;
                    }
                }
            }
        }
        if let Some((of, by, count)) = run {
            *found.entry((of.to_owned(), by)).or_default() += count;
        }
    }
    Ok(found)
}
