//! Parquet data files.
//!
//! A file that [`DataFile::finish`] returned is durable: its bytes are synced, and so is every folder that leads to it. Only then
//! has it its name, which says by a digest what the bytes were; dropped before, it is removed.
//!
//! Memory is bounded: a row group is closed at [`ROW_GROUP_BYTES`] of encoded data, a file at [`FILE_BYTES`].

mod digest;
mod encoding;
mod partition;
mod read;
mod stats;

use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use forebay_disk::Disk;
use forebay_model::Digest;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;

pub(crate) use digest::{finished_name, parts_of, unfinished_name};
pub use encoding::{ColumnPlan, plan_columns};
pub(crate) use partition::{PartitionKey, check_partitioning, data_schema, folder_of, split};
pub(crate) use read::{contains_any, open, rows_in, schema_of, segments_and_loads};

use self::digest::Digesting;
use crate::error::WarehouseError;

/// A row group is closed when its columns hold this much.
pub const ROW_GROUP_BYTES: usize = 16 << 20;
/// A file is closed, and another begun, above this size.
pub const FILE_BYTES: u64 = 256 << 20;

/// A data file that is being written.
pub(crate) struct DataFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    schema: SchemaRef,
    // `None` only while it is being finished.
    writer: Option<ArrowWriter<Digesting<BufWriter<File>>>>,
    nans: stats::NanWatch,
    rows: u64,
}

/// A data file that is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WrittenFile {
    pub(crate) bytes: u64,
    pub(crate) rows: u64,
    /// JSON of a Delta `Add.stats`.
    pub(crate) statistics: String,
}

impl DataFile {
    /// Begins a file. `sample` is its first batch: the columns' encodings are chosen by it.
    pub(crate) fn create(disk: Arc<dyn Disk>, path: PathBuf, sample: &RecordBatch) -> Result<Self, WarehouseError> {
        let schema = sample.schema();
        let properties = encoding::properties(sample).map_err(WarehouseError::data_file("plan", &path))?;
        let file = disk.create(&path).map_err(WarehouseError::io("create", &path))?;
        // The Arrow schema is not kept in the file: the table's log has it, and other engines do not read it.
        let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
        let buffered = Digesting::new(BufWriter::with_capacity(1 << 18, file));
        let writer = ArrowWriter::try_new_with_options(buffered, Arc::clone(&schema), options);
        match writer {
            Ok(writer) => {
                let nans = stats::NanWatch::new(&schema);
                Ok(Self { disk, path, schema, writer: Some(writer), nans, rows: 0 })
            }
            Err(error) => {
                disk.remove(&path).map_err(WarehouseError::io("remove", &path))?;
                Err(WarehouseError::data_file("begin", &path)(error))
            }
        }
    }

    /// Adds rows, in the schema of the sample.
    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<(), WarehouseError> {
        let writer = self.writer.as_mut().ok_or_else(|| WarehouseError::Bug("a finished file was written".into()))?;
        writer.write(batch).map_err(WarehouseError::data_file("write", &self.path))?;
        self.nans.see(batch);
        self.rows += batch.num_rows() as u64;
        if writer.memory_size() >= ROW_GROUP_BYTES {
            writer.flush().map_err(WarehouseError::data_file("write", &self.path))?;
        }
        Ok(())
    }

    /// Gives the buffered rows to the file, as a row group.
    pub(crate) fn flush(&mut self) -> Result<(), WarehouseError> {
        match self.writer.as_mut() {
            Some(writer) => writer.flush().map_err(WarehouseError::data_file("write", &self.path)),
            None => Ok(()),
        }
    }

    pub(crate) fn buffered_bytes(&self) -> usize {
        self.writer.as_ref().map_or(0, ArrowWriter::memory_size)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.writer.as_ref().is_some_and(|writer| writer.bytes_written() as u64 >= FILE_BYTES)
    }

    /// Makes the file durable, under the path that `name` gives it for the digest of its bytes, in the folder where it is.
    pub(crate) fn finish(mut self, name: impl FnOnce(&Digest) -> PathBuf) -> Result<WrittenFile, WarehouseError> {
        let mut writer = self.writer.take().ok_or_else(|| WarehouseError::Bug("a file was finished twice".into()))?;
        let written = self.close(&mut writer, name);
        match written {
            Ok((metadata, bytes)) => Ok(WrittenFile {
                bytes,
                rows: self.rows,
                statistics: stats::delta_statistics(&self.schema, &metadata, &self.nans, self.rows),
            }),
            Err(error) => {
                // Half a file helps nobody; that it cannot be removed either is told by the next vacuum.
                let _ = self.disk.remove(&self.path);
                Err(error)
            }
        }
    }

    fn close(
        &self,
        writer: &mut ArrowWriter<Digesting<BufWriter<File>>>,
        name: impl FnOnce(&Digest) -> PathBuf,
    ) -> Result<(parquet::file::metadata::ParquetMetaData, u64), WarehouseError> {
        let Self { disk, path, schema: _, writer: _, nans: _, rows: _ } = self;
        let metadata = writer.finish().map_err(WarehouseError::data_file("finish", path))?;
        let bytes = writer.bytes_written() as u64;
        let buffered = writer.inner_mut();
        std::io::Write::flush(buffered).map_err(WarehouseError::io("write", path))?;
        disk.sync(buffered.inner().get_ref(), path).map_err(WarehouseError::io("sync", path))?;
        disk.rename(path, &name(&buffered.digest())).map_err(WarehouseError::io("name", path))?;
        if let Some(folder) = path.parent() {
            disk.sync_folder(folder).map_err(WarehouseError::io("sync", folder))?;
        }
        Ok((metadata, bytes))
    }
}

impl Drop for DataFile {
    fn drop(&mut self) {
        if self.writer.take().is_some() {
            // Not finished: nobody was told of it. What stays behind is an orphan, and vacuum's.
            let _ = self.disk.remove(&self.path);
        }
    }
}
