use std::ops::{Range, RangeInclusive};
use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow_array::RecordBatch;
use forebay_model::flow::record_column;
use forebay_model::{Error, Timestamp};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::file::metadata::{PageIndexPolicy, RowGroupMetaData};
use parquet::file::reader::ChunkReader;
use parquet::file::statistics::Statistics;

use super::{BATCH_ROWS, PARTITION, VERSION, VERSION_KEY, batch_schema, file_schema};
use crate::error::{LandingError, Result};

/// Rows of an envelope, in batches.
pub(crate) type Rows = Box<dyn Iterator<Item = forebay_model::Result<RecordBatch>> + Send>;

/// What reads Parquet panics over some damage instead of telling it: the envelope is damaged then too, and nothing else is.
fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| "its reader panicked over it: it is damaged".to_owned())
}

/// An envelope whose metadata is read: it is one of this version, and has these rows.
fn opened<R: ChunkReader + 'static>(
    name: &str,
    file: R,
    rows: &Range<u64>,
) -> Result<ParquetRecordBatchReaderBuilder<R>> {
    let broken = |what: String| LandingError::Envelope { name: name.to_owned(), what };
    let options = ArrowReaderOptions::new().with_offset_index_policy(PageIndexPolicy::Optional);
    let builder = caught(|| ParquetRecordBatchReaderBuilder::try_new_with_options(file, options))
        .map_err(broken)?
        .map_err(|error| broken(error.to_string()))?;
    let metadata = builder.metadata();
    let version = metadata
        .file_metadata()
        .key_value_metadata()
        .and_then(|pairs| pairs.iter().find(|pair| pair.key == VERSION_KEY))
        .and_then(|pair| pair.value.as_deref());
    if version != Some(VERSION) || builder.schema().fields() != file_schema().fields() {
        return Err(broken(format!("it is not one of version {VERSION}")));
    }
    let total = metadata.row_groups().iter().map(group_rows).fold(0, u64::saturating_add);
    if rows.start > rows.end || rows.end > total {
        return Err(broken(format!("it has {total} rows, and rows up to {} were landed: it was changed", rows.end)));
    }
    Ok(builder)
}

/// Between which times the records of these rows are, as the statistics of their row groups say.
pub(crate) fn times<R: ChunkReader + 'static>(
    name: &str,
    file: R,
    rows: Range<u64>,
) -> Result<Option<RangeInclusive<Timestamp>>> {
    let builder = opened(name, file, &rows)?;
    let groups = builder.metadata().row_groups();
    let mut times: Option<(i64, i64)> = None;
    for group in groups_of(groups, &rows).0 {
        let group = groups.get(group);
        let column = group.and_then(|group| {
            group.columns().iter().find(|column| column.column_path().string() == record_column::TIMESTAMP)
        });
        let Some(Statistics::Int64(found)) = column.and_then(|column| column.statistics()) else { return Ok(None) };
        let (Some(min), Some(max), Some(0)) = (found.min_opt(), found.max_opt(), found.null_count_opt()) else {
            return Ok(None);
        };
        times = Some(times.map_or((*min, *max), |(first, last)| (first.min(*min), last.max(*max))));
    }
    Ok(times.map(|(first, last)| Timestamp::from_micros(first)..=Timestamp::from_micros(last)))
}

/// Rows `rows` of an envelope, as batches of [`batch_schema`].
pub(crate) fn open<R: ChunkReader + 'static>(name: &str, file: R, rows: Range<u64>) -> Result<Rows> {
    let broken = |what: String| LandingError::Envelope { name: name.to_owned(), what };
    let builder = opened(name, file, &rows)?;
    let metadata = builder.metadata();
    let (groups, skip) = groups_of(metadata.row_groups(), &rows);
    let limit = rows.end - rows.start;
    let too_many = |_| broken(format!("{limit} rows are more than this machine can count"));
    let roots = (0..builder.parquet_schema().root_schema().get_fields().len())
        .filter(|index| builder.schema().fields().get(*index).is_some_and(|field| field.name() != PARTITION));
    let columns = ProjectionMask::roots(builder.parquet_schema(), roots);
    let builder = builder
        .with_projection(columns)
        .with_row_groups(groups)
        .with_offset(usize::try_from(skip).map_err(too_many)?)
        .with_limit(usize::try_from(limit).map_err(too_many)?)
        .with_batch_size(BATCH_ROWS);
    let reader = caught(|| builder.build()).map_err(broken)?.map_err(|error| broken(error.to_string()))?;
    let (name, mut reader) = (name.to_owned(), Some(reader));
    Ok(Box::new(std::iter::from_fn(move || {
        let broken = |what: String| Error::from(LandingError::Envelope { name: name.clone(), what });
        match caught(|| reader.as_mut().and_then(Iterator::next)) {
            Ok(next) => next.map(|batch| {
                let batch = batch.map_err(|error| broken(error.to_string()))?;
                RecordBatch::try_new(batch_schema(), batch.columns().to_vec())
                    .map_err(|error| broken(error.to_string()))
            }),
            Err(what) => {
                reader = None;
                Some(Err(broken(what)))
            }
        }
    })))
}

fn group_rows(group: &RowGroupMetaData) -> u64 {
    u64::try_from(group.num_rows()).unwrap_or(0)
}

/// The row groups that hold a range of rows, and how many rows of them stand before it.
fn groups_of(groups: &[RowGroupMetaData], rows: &Range<u64>) -> (Vec<usize>, u64) {
    let mut wanted = Vec::new();
    let mut skip = 0;
    let mut first = 0_u64;
    for (index, group) in groups.iter().enumerate() {
        let next = first.saturating_add(group_rows(group));
        if first < rows.end && next > rows.start {
            if wanted.is_empty() {
                skip = rows.start - first;
            }
            wanted.push(index);
        }
        first = next;
    }
    (wanted, skip)
}
