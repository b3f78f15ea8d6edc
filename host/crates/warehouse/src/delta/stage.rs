//! Staging: a segment's rows become durable data files of a table that no reader sees.
//!
//! The files lie in the table's folder `_forebay`, under names that are never used again, and stay there: the commit only names
//! them in the log. So nothing is moved between the ledger's record and the commit, and no crash in between can lose a file.
//! Vacuum of other engines spares folders that begin with `_`; forebay's own spares what this process has staged
//! and has not committed, and what the ledger says is open.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use forebay_disk::{Disk, Folders};
use forebay_model::ports::{Random, StagedWriter, StagingRequest};
use forebay_model::{Digest, Result, StagedFile};

use super::log::OWN_FOLDER;
use crate::error::WarehouseError;
use crate::files::{
    DataFile, PartitionKey, WrittenFile, data_schema, finished_name, folder_of, split, unfinished_name,
};

/// Encoded rows that a writer holds at most, over all its partitions; a batch and a page come on top.
const BUFFERED_BYTES: usize = 20 << 20;
/// Partitions that are written at the same time; the one that was written longest ago is closed for another.
const OPEN_FILES: usize = 64;

/// Data files of this process that are not in a table yet, and not given up: vacuum leaves them alone.
#[derive(Debug, Default)]
pub(super) struct Pending(Mutex<HashSet<PathBuf>>);

impl Pending {
    fn with<T>(&self, work: impl FnOnce(&mut HashSet<PathBuf>) -> T) -> T {
        // A set of paths is whole after every step, so a panic elsewhere does not harm it.
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn insert(&self, path: PathBuf) {
        self.with(|paths| paths.insert(path));
    }

    pub(super) fn remove(&self, path: &Path) {
        self.with(|paths| paths.remove(path));
    }

    pub(super) fn contains(&self, path: &Path) -> bool {
        self.with(|paths| paths.contains(path))
    }
}

/// What writing data files of one table takes.
#[derive(Debug, Clone)]
pub(super) struct FileMaker {
    /// The table's folder.
    pub(super) table: PathBuf,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) folders: Arc<Folders>,
    pub(super) random: Arc<dyn Random>,
    pub(super) pending: Arc<Pending>,
}

impl FileMaker {
    /// Begins a file for these rows. Its name has the fingerprint of its schema.
    pub(super) fn begin(
        &self,
        key: &PartitionKey,
        partition_by: &[String],
        sample: &RecordBatch,
    ) -> Result<NewFile, WarehouseError> {
        let folder = folder_of(key, partition_by);
        let name = unfinished_name(&self.random.uuid().to_string(), &fingerprint(&sample.schema()));
        let name = format!("{OWN_FOLDER}/{folder}{name}");
        let path = self.table.join(&name);
        if let Some(folder) = path.parent() {
            self.folders.ensure(folder)?;
        }
        self.pending.insert(path.clone());
        match DataFile::create(Arc::clone(&self.disk), path.clone(), sample) {
            Ok(file) => Ok(NewFile { name, key: key.clone(), file, touched: 0 }),
            Err(error) => {
                self.pending.remove(&path);
                Err(error)
            }
        }
    }

    /// Makes a file durable, under a name that has the digest of its bytes. It stays pending until it is in a table or given up.
    pub(super) fn finish(&self, file: NewFile) -> Result<Made, WarehouseError> {
        let NewFile { name, key, file, touched: _ } = file;
        let mut path = name.clone();
        let finished = file.finish(|digest| {
            path = finished_name(&name, digest);
            let whole = self.table.join(&path);
            self.pending.insert(whole.clone());
            whole
        });
        self.pending.remove(&self.table.join(&name));
        match finished {
            Ok(WrittenFile { bytes, rows, statistics }) => Ok(Made { path, key, bytes, rows, statistics }),
            Err(error) => {
                // It may have its name, and not be known to have it.
                self.give_up(&path);
                Err(error)
            }
        }
    }

    /// Gives a file up that was not finished.
    pub(super) fn abandon(&self, file: NewFile) {
        let NewFile { name, key: _, file, touched: _ } = file;
        drop(file);
        self.pending.remove(&self.table.join(name));
    }

    /// Gives a finished file up. Best effort: what stays is an orphan, and vacuum's.
    pub(super) fn give_up(&self, path: &str) {
        let path = self.table.join(path);
        if let Err(error) = self.disk.remove(&path) {
            tracing::warn!(file = %path.display(), %error, "staged file not removed");
        }
        self.pending.remove(&path);
    }
}

/// A data file that is being written.
pub(super) struct NewFile {
    name: String,
    key: PartitionKey,
    pub(super) file: DataFile,
    touched: u64,
}

/// A data file that is durable and in no table yet.
#[derive(Debug, Clone)]
pub(super) struct Made {
    /// Relative to the table.
    pub(super) path: String,
    pub(super) key: PartitionKey,
    pub(super) bytes: u64,
    pub(super) rows: u64,
    pub(super) statistics: String,
}

/// Tells files of one schema from files of another, by their names. Only ever compared within a process.
pub(super) fn fingerprint(schema: &SchemaRef) -> String {
    Digest::of(format!("{:?}", schema.fields()).as_bytes()).short()
}

/// See the module.
pub(super) struct DeltaStagedWriter {
    maker: FileMaker,
    request: StagingRequest,
    data_schema: SchemaRef,
    open: Vec<NewFile>,
    made: Vec<Made>,
    writes: u64,
}

impl DeltaStagedWriter {
    pub(super) fn new(maker: FileMaker, request: StagingRequest) -> Self {
        let data_schema = data_schema(&request.schema, &request.partition_by);
        Self { maker, request, data_schema, open: Vec::new(), made: Vec::new(), writes: 0 }
    }

    fn write_part(&mut self, key: &PartitionKey, rows: &RecordBatch) -> Result<(), WarehouseError> {
        self.writes += 1;
        let place = match self.open.iter().position(|open| &open.key == key) {
            Some(place) => place,
            None => {
                if self.open.len() >= OPEN_FILES {
                    self.close_one(|open| std::cmp::Reverse(open.touched))?;
                }
                self.open.push(self.maker.begin(key, &self.request.partition_by, rows)?);
                self.open.len() - 1
            }
        };
        if let Some(open) = self.open.get_mut(place) {
            open.touched = self.writes;
            open.file.write(rows)?;
            if open.file.is_full() {
                let full = self.open.swap_remove(place);
                self.made.push(self.maker.finish(full)?);
            }
        }
        while self.buffered() > BUFFERED_BYTES {
            let Some(largest) = self.open.iter_mut().max_by_key(|open| open.file.buffered_bytes()) else { break };
            largest.file.flush()?;
        }
        Ok(())
    }

    fn close_one<K: Ord>(&mut self, by: impl Fn(&NewFile) -> K) -> Result<(), WarehouseError> {
        let place = self.open.iter().enumerate().max_by_key(|(_, open)| by(open)).map(|(place, _)| place);
        if let Some(place) = place {
            let file = self.open.swap_remove(place);
            self.made.push(self.maker.finish(file)?);
        }
        Ok(())
    }

    fn buffered(&self) -> usize {
        self.open.iter().map(|open| open.file.buffered_bytes()).sum()
    }
}

impl StagedWriter for DeltaStagedWriter {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        check_schema(&self.request, batch)?;
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let parts = split(batch, &self.request.partition_by)
            .map_err(WarehouseError::data_file("divide rows for a", &self.maker.table))?;
        for (key, rows) in parts {
            let rows = without_partitions(&rows, &self.data_schema)
                .map_err(WarehouseError::data_file("prepare rows for a", &self.maker.table))?;
            self.write_part(&key, &rows)?;
        }
        Ok(())
    }

    fn buffered_bytes(&self) -> usize {
        self.buffered()
    }

    fn finish(mut self: Box<Self>) -> Result<Vec<StagedFile>> {
        while !self.open.is_empty() {
            self.close_one(|open| open.file.buffered_bytes())?;
        }
        let segment = &self.request.segment;
        let staged = self.made.drain(..).map(|made| {
            let Made { path, key, bytes, rows, statistics } = made;
            StagedFile { path, bytes, rows, segment: segment.clone(), partition_values: key, statistics }
        });
        Ok(staged.collect())
    }
}

/// The columns that stand in a file; what divides the files stands in the log.
fn without_partitions(rows: &RecordBatch, data_schema: &SchemaRef) -> Result<RecordBatch, arrow_schema::ArrowError> {
    let named = data_schema.fields().iter().filter_map(|field| rows.column_by_name(field.name()).cloned());
    RecordBatch::try_new(Arc::clone(data_schema), named.collect())
}

impl Drop for DeltaStagedWriter {
    fn drop(&mut self) {
        for file in self.open.drain(..) {
            self.maker.abandon(file);
        }
        for made in self.made.drain(..) {
            self.maker.give_up(&made.path);
        }
    }
}

/// Nothing is cast in silence: names and types are the request's.
pub(crate) fn check_schema(request: &StagingRequest, batch: &RecordBatch) -> Result<(), WarehouseError> {
    let (wanted, found) = (&request.schema, batch.schema_ref());
    let differs = wanted.fields().len() != found.fields().len()
        || wanted
            .fields()
            .iter()
            .zip(found.fields())
            .any(|(wanted, found)| wanted.name() != found.name() || wanted.data_type() != found.data_type());
    if !differs {
        return Ok(());
    }
    let first = wanted
        .fields()
        .iter()
        .zip(found.fields())
        .find(|(wanted, found)| wanted.name() != found.name() || wanted.data_type() != found.data_type());
    let place = first.map_or_else(
        || format!("{} columns instead of {}", found.fields().len(), wanted.fields().len()),
        |(wanted, found)| {
            format!("{} {} instead of {} {}", found.name(), found.data_type(), wanted.name(), wanted.data_type())
        },
    );
    Err(WarehouseError::Bug(format!(
        "rows for table {:?} are not in the schema that was asked for: {place}",
        request.table
    )))
}
