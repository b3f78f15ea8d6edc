use std::io::Write;
use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, MapBuilder, StringBuilder, TimestampMicrosecondBuilder};
use arrow_array::{ArrayRef, DictionaryArray, Int32Array, RecordBatch, StringArray};
use bytes::Bytes;
use forebay_model::flow::{RawRecord, RawRecords, RecordSpan, record_column};
use forebay_model::{OrderedPosition, StreamName};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use super::{BATCH_ROWS, PARTITION, STREAM_KEY, VALUE, VERSION, VERSION_KEY, file_schema};
use crate::error::{LandingError, Result};

/// A batch is closed when its records hold so many bytes, so that few large records do not make a huge one.
const BATCH_BYTES: usize = 8 << 20;
/// Encoded bytes of a row group: what is held in memory before it is written.
const ROW_GROUP_BYTES: usize = 32 << 20;
/// Rows of a row group: what a reader of one span has to look through at most.
const ROW_GROUP_ROWS: usize = 128 << 10;
/// The head is at most this long.
const HEAD: usize = 64 << 10;

/// The first value there is: formats are told by it.
pub(crate) fn head(records: &RawRecords) -> Bytes {
    records
        .spans
        .iter()
        .flat_map(|span| &span.records)
        .find_map(|record| record.value.as_ref())
        .map(|value| value.slice(..value.len().min(HEAD)))
        .unwrap_or_default()
}

/// The records as batches of [`file_schema`], in the order of the spans.
pub(crate) struct Batches<'a> {
    name: &'a str,
    rest: Box<dyn Iterator<Item = (&'a RecordSpan, &'a RawRecord)> + Send + 'a>,
}

impl<'a> Batches<'a> {
    pub(crate) fn new(name: &'a str, records: &'a RawRecords) -> Self {
        let rest = records.spans.iter().flat_map(|span| span.records.iter().map(move |record| (span, record)));
        Self { name, rest: Box::new(rest) }
    }
}

impl Iterator for Batches<'_> {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut columns = Columns::default();
        while columns.rows < BATCH_ROWS && columns.bytes < BATCH_BYTES {
            let Some((span, record)) = self.rest.next() else { break };
            if let Err(error) = columns.push(self.name, span, record) {
                return Some(Err(error));
            }
        }
        (columns.rows > 0).then(|| columns.finish(self.name))
    }
}

/// One batch being built.
#[derive(Default)]
struct Columns {
    rows: usize,
    bytes: usize,
    partitions: Vec<String>,
    partition: Vec<i32>,
    position: StringBuilder,
    key: BinaryBuilder,
    value: BinaryBuilder,
    headers: Option<MapBuilder<StringBuilder, BinaryBuilder>>,
    timestamp: TimestampMicrosecondBuilder,
}

/// What a record holds, in bytes; `None` above what one Arrow array of bytes can.
fn size(record: &RawRecord) -> Option<usize> {
    let RawRecord { position: _, key, value, headers, timestamp: _ } = record;
    let held = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
    let headers: usize = headers.iter().map(|(name, value)| name.len() + held(value) + 8).sum();
    let size = held(key) + held(value) + headers;
    i32::try_from(size + BATCH_BYTES).is_ok().then_some(size)
}

impl Columns {
    fn push(&mut self, name: &str, span: &RecordSpan, record: &RawRecord) -> Result<()> {
        let size = size(record).ok_or_else(|| LandingError::Envelope {
            name: name.to_owned(),
            what: format!("the record at {} of {} is larger than 2 GiB", record.position, span.partition),
        })?;
        let RawRecord { position, key, value, headers, timestamp } = record;
        if self.partitions.last().map(String::as_str) != Some(span.partition.as_str()) {
            self.partitions.push(span.partition.as_str().to_owned());
        }
        // A batch has at most BATCH_ROWS partitions.
        self.partition.push(i32::try_from(self.partitions.len().saturating_sub(1)).unwrap_or(i32::MAX));
        write_position(&mut self.position, *position);
        self.key.append_option(key.as_deref());
        self.value.append_option(value.as_deref());
        let map = self.headers.get_or_insert_with(|| MapBuilder::new(None, StringBuilder::new(), BinaryBuilder::new()));
        for (name, value) in headers {
            map.keys().append_value(name);
            map.values().append_option(value.as_deref());
        }
        map.append(true).map_err(|error| LandingError::Invariant(format!("headers as Arrow: {error}")))?;
        self.timestamp.append_option(timestamp.map(forebay_model::Timestamp::as_micros));
        self.rows += 1;
        self.bytes += size;
        Ok(())
    }

    fn finish(mut self, name: &str) -> Result<RecordBatch> {
        let invariant = |error: arrow_schema::ArrowError| LandingError::Invariant(format!("envelope {name}: {error}"));
        let partition =
            DictionaryArray::try_new(Int32Array::from(self.partition), Arc::new(StringArray::from(self.partitions)))
                .map_err(invariant)?;
        let headers = self.headers.map(|mut headers| headers.finish());
        let headers: ArrayRef = match headers {
            Some(headers) => Arc::new(headers),
            None => return Err(LandingError::Invariant(format!("envelope {name}: an empty batch"))),
        };
        let columns: Vec<ArrayRef> = vec![
            Arc::new(partition),
            Arc::new(self.position.finish()),
            Arc::new(self.key.finish()),
            Arc::new(self.value.finish()),
            headers,
            Arc::new(self.timestamp.finish().with_timezone("UTC")),
        ];
        RecordBatch::try_new(file_schema(), columns).map_err(invariant)
    }
}

/// The text form, without an allocation.
fn write_position(builder: &mut StringBuilder, position: OrderedPosition) {
    // Formatting into a builder's buffer cannot fail.
    let _ = std::fmt::Write::write_fmt(builder, format_args!("{position}"));
    builder.append_value("");
}

/// Encodes batches to a sink, as one file.
pub(crate) struct Encoder<W: Write + Send> {
    name: String,
    writer: ArrowWriter<W>,
}

impl<W: Write + Send> Encoder<W> {
    pub(crate) fn new(name: &str, stream: &StreamName, sink: W) -> Result<Self> {
        let writer =
            ArrowWriter::try_new(sink, file_schema(), Some(properties(stream))).map_err(|error| failed(name, error))?;
        Ok(Self { name: name.to_owned(), writer })
    }

    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.writer.write(batch).map_err(|error| failed(&self.name, error))?;
        // The writer counts bytes by row group only where it is told to before each batch; it knows what it holds.
        if self.writer.in_progress_size() >= ROW_GROUP_BYTES {
            self.writer.flush().map_err(|error| failed(&self.name, error))?;
        }
        Ok(())
    }

    /// Writes what is left, and gives the sink back.
    pub(crate) fn finish(self) -> Result<W> {
        self.writer.into_inner().map_err(|error| failed(&self.name, error))
    }
}

/// A sink's own error is told as it is: a full disk must be named so.
fn failed(name: &str, error: parquet::errors::ParquetError) -> LandingError {
    if let parquet::errors::ParquetError::External(source) = error {
        return match source.downcast::<std::io::Error>() {
            // What a sink of the zone's own said comes out again.
            Ok(source) => (*source).downcast::<LandingError>().unwrap_or_else(|source| LandingError::File {
                path: name.into(),
                action: "writing",
                source,
            }),
            Err(other) => LandingError::Invariant(format!("envelope {name}: {other}")),
        };
    }
    LandingError::Invariant(format!("envelope {name}: {error}"))
}

fn properties(stream: &StreamName) -> WriterProperties {
    let column = |name: &str| ColumnPath::from(name.to_owned());
    let nested =
        |leaf: &str| ColumnPath::new(vec![record_column::HEADERS.to_owned(), "entries".to_owned(), leaf.to_owned()]);
    let metadata = |key: &str, value: &str| KeyValue::new(key.to_owned(), value.to_owned());
    WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_data_page_row_count_limit(BATCH_ROWS)
        .set_key_value_metadata(Some(vec![metadata(VERSION_KEY, VERSION), metadata(STREAM_KEY, stream.as_str())]))
        .set_column_dictionary_enabled(column(PARTITION), true)
        .set_column_statistics_enabled(column(PARTITION), EnabledStatistics::Chunk)
        .set_column_compression(column(PARTITION), Compression::UNCOMPRESSED)
        .set_column_encoding(column(record_column::POSITION), Encoding::DELTA_BYTE_ARRAY)
        .set_column_encoding(column(record_column::KEY), Encoding::DELTA_LENGTH_BYTE_ARRAY)
        .set_column_encoding(column(VALUE), Encoding::DELTA_LENGTH_BYTE_ARRAY)
        .set_column_encoding(nested("values"), Encoding::DELTA_LENGTH_BYTE_ARRAY)
        .set_column_dictionary_enabled(nested("keys"), true)
        .set_column_encoding(column(record_column::TIMESTAMP), Encoding::DELTA_BINARY_PACKED)
        .set_column_statistics_enabled(column(record_column::TIMESTAMP), EnabledStatistics::Chunk)
        .build()
}

/// The row at which each span but the first begins.
pub(crate) fn cuts(records: &RawRecords) -> Vec<u64> {
    let mut row = 0_u64;
    let mut cuts = Vec::with_capacity(records.spans.len());
    for span in &records.spans {
        cuts.push(row);
        row += u64::try_from(span.records.len()).unwrap_or(u64::MAX);
    }
    cuts.into_iter().skip(1).collect()
}
