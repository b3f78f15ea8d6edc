//! Maintenance: small files become larger ones, files that no version needs are removed, also while loads commit.
//!
//! Compaction reads and writes outside the table's lock, and commits inside: where a load has taken one of its files away
//! meanwhile, its work is thrown away, and the next maintenance does it. The rows are the same before and after, so other readers
//! of the log are told that no data changed. A compacted file holds whole files in the order of their segments.
//!
//! Vacuum removes what is in no table: files whose removal is older than the retention, and staged files that were given up,
//! also of a table that no load was ever committed to.
//! What this process has staged, and what the ledger has open, stays, however old it is.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use arrow_schema::SchemaRef;
use deltalake::checkpoints;
use deltalake::kernel::transaction::CommitProperties;
use deltalake::protocol::DeltaOperation;
use forebay_model::Timestamp;
use forebay_model::ports::{MaintainOptions, MaintainReport};
use futures::TryStreamExt as _;

use super::commit::Attempt;
use super::log::{self, OWN_FOLDER};
use super::plan::{add, remove};
use super::rewrite::{Attempted, Rewriter};
use super::stage::{FileMaker, Made};
use super::table::{ActiveFile, Opened};
use super::{DeltaWarehouse, blocking};
use crate::error::WarehouseError;
use crate::files::{FILE_BYTES, PartitionKey, data_schema};

/// Files of other engines that no version has may be on their way into one.
const FOREIGN_RETENTION: Duration = Duration::from_secs(24 * 60 * 60);
/// How often a compaction's commit is tried again because another process committed.
const ATTEMPTS: u32 = 5;

/// Files of one partition that become one.
struct Bin {
    key: PartitionKey,
    files: Vec<ActiveFile>,
}

/// What compaction needs of a snapshot.
struct Snapshot {
    files: Vec<ActiveFile>,
    schema: SchemaRef,
    partition_by: Vec<String>,
}

impl DeltaWarehouse {
    pub(super) async fn maintain_table(
        &self,
        name: &str,
        options: &MaintainOptions,
    ) -> Result<MaintainReport, WarehouseError> {
        let slot = self.slot(name);
        let snapshot = {
            let mut state = slot.lock().await;
            let Some(opened) = self.refreshed(name, &mut state).await? else {
                let mut report = MaintainReport::default();
                self.vacuum(name, &mut state, options, &mut report).await?;
                return Ok(report);
            };
            snapshot(name, opened)?
        };
        let mut report = MaintainReport { files_before: snapshot.files.len() as u64, ..MaintainReport::default() };
        report.files_after = report.files_before;
        let Snapshot { files, schema, partition_by } = snapshot;
        let data_schema = data_schema(&schema, &partition_by);
        for bin in bins(files, options.target_file_bytes.clamp(1, FILE_BYTES)) {
            let (files, bytes) = (bin.files.len() as u64, bin.files.iter().map(|file| file.bytes).sum::<u64>());
            let made = if options.dry_run {
                Some(1)
            } else {
                self.compact(name, bin, &partition_by, &data_schema, options).await?
            };
            if let Some(made) = made {
                report.compacted_files += files;
                report.compacted_bytes += bytes;
                report.files_after = (report.files_after + made).saturating_sub(files);
            }
        }
        let mut state = slot.lock().await;
        self.vacuum(name, &mut state, options, &mut report).await?;
        if let Some(opened) = state.as_ref().filter(|_| !options.dry_run) {
            if let Err(error) = checkpoints::cleanup_metadata(&opened.table, None).await {
                tracing::warn!(table = name, %error, "log not cleaned up");
            }
            self.sweep_digests(name).await;
        }
        let MaintainReport {
            files_before,
            files_after,
            compacted_files,
            compacted_bytes,
            vacuumed_files,
            vacuumed_bytes,
        } = report;
        tracing::info!(
            table = name,
            files_before,
            files_after,
            compacted_files,
            compacted_bytes,
            vacuumed_files,
            vacuumed_bytes,
            dry_run = options.dry_run,
            "table maintained"
        );
        Ok(report)
    }

    /// Writes a bin as one file and commits it; how many files came of it, `None` where a load was faster.
    async fn compact(
        &self,
        name: &str,
        bin: Bin,
        partition_by: &[String],
        schema: &SchemaRef,
        options: &MaintainOptions,
    ) -> Result<Option<u64>, WarehouseError> {
        let maker = self.maker(name)?;
        let Bin { key, files } = bin;
        let paths: Vec<String> = files.iter().map(|file| file.path.clone()).collect();
        let mut rewriter = Rewriter::new(maker.clone(), key, partition_by.to_vec(), Arc::clone(schema));
        let made = blocking(move || {
            for path in &paths {
                rewriter.copy(path, &BTreeSet::new())?;
            }
            rewriter.finish()
        })
        .await;
        let made = match made {
            Ok(made) => made,
            // A load took a file away, and a vacuum of another process removed it.
            Err(error) if !self.still_there(name, &files).await? => {
                tracing::info!(table = name, %error, "compaction given up: its files are gone");
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let attempted = Attempted { maker, paths: made.iter().map(|made| made.path.clone()).collect() };
        let count = made.len() as u64;
        (self.options.failpoint)("before_compaction");
        if self.commit_compaction(name, &files, &made, options.target_file_bytes).await? {
            (self.options.failpoint)("after_compaction");
            return Ok(Some(count));
        }
        blocking(move || {
            attempted.give_up();
            Ok(())
        })
        .await?;
        Ok(None)
    }

    async fn still_there(&self, name: &str, files: &[ActiveFile]) -> Result<bool, WarehouseError> {
        let slot = self.slot(name);
        let mut state = slot.lock().await;
        let Some(opened) = self.refreshed(name, &mut state).await? else { return Ok(false) };
        has_all(name, opened, files)
    }

    /// Commits a compaction whose files are all still in the table; false where they are not.
    async fn commit_compaction(
        &self,
        name: &str,
        files: &[ActiveFile],
        made: &[Made],
        target_file_bytes: u64,
    ) -> Result<bool, WarehouseError> {
        let slot = self.slot(name);
        let mut state = slot.lock().await;
        let now = self.options.clock.now();
        for _ in 0..ATTEMPTS {
            let Some(opened) = self.refreshed(name, &mut state).await? else { return Ok(false) };
            if !has_all(name, opened, files)? {
                tracing::info!(table = name, "compaction given up: a load replaced one of its files");
                return Ok(false);
            }
            let mut actions = Vec::with_capacity(files.len() + made.len());
            for Made { path, key, bytes, rows: _, statistics } in made {
                actions.push(add(path.clone(), *bytes, key, statistics.clone(), now, false)?);
            }
            for file in files {
                actions.push(remove(file, now, false)?);
            }
            let target_size = i64::try_from(target_file_bytes).unwrap_or(i64::MAX);
            let operation = DeltaOperation::Optimize { predicate: None, target_size };
            let properties =
                CommitProperties::default().with_create_checkpoint(false).with_cleanup_expired_logs(Some(false));
            match self.write_commit(name, &mut state, actions, operation, properties).await {
                Ok(()) => {
                    self.after_commit(name, &mut state).await;
                    return Ok(true);
                }
                Err(Attempt::Conflict) => {
                    state.take();
                }
                Err(Attempt::Failed(error)) => return Err(error),
                Err(Attempt::Unknown(error)) => {
                    state.take();
                    return Err(error);
                }
            }
        }
        Ok(false)
    }

    /// Removes what no version needs. Under the lock: what is committed meanwhile is seen.
    async fn vacuum(
        &self,
        name: &str,
        state: &mut Option<Opened>,
        options: &MaintainOptions,
        report: &mut MaintainReport,
    ) -> Result<(), WarehouseError> {
        let (active, removed) = match self.refreshed(name, state).await? {
            Some(opened) => {
                let active: BTreeSet<String> = opened.files(name)?.into_iter().map(|file| file.path).collect();
                (Some(active), tombstones(name, opened).await?)
            }
            None => (None, HashMap::new()),
        };
        let keep: BTreeSet<String> = options.keep_staged.iter().cloned().collect();
        let (maker, retention, now, dry_run) = (self.maker(name)?, options.retention, options.now, options.dry_run);
        let failpoint = self.options.failpoint;
        let (files, bytes) = blocking(move || {
            let mut done = (0, 0);
            for (path, (bytes, written)) in log::data_files(&maker.table)? {
                let in_use = match &active {
                    Some(active) => active.contains(&path),
                    // Before its first commit a table is a folder, and what lies beside forebay's own is another's.
                    None => !path.starts_with(&format!("{OWN_FOLDER}/")),
                };
                let spared = in_use || keep.contains(&path) || is_pending(&maker, &path);
                if spared || !is_old(&path, written, removed.get(&path), retention, now) {
                    continue;
                }
                if !dry_run {
                    let whole = maker.table.join(&path);
                    maker.disk.remove(&whole).map_err(WarehouseError::io("remove", &whole))?;
                    failpoint("in_vacuum");
                }
                done = (done.0 + 1, done.1 + bytes);
            }
            Ok(done)
        })
        .await?;
        report.vacuumed_files = files;
        report.vacuumed_bytes = bytes;
        Ok(())
    }
}

fn is_pending(maker: &FileMaker, path: &str) -> bool {
    maker.pending.contains(&maker.table.join(path))
}

/// Whether a file that is in no version's way has been out of use for long enough.
fn is_old(path: &str, written: Timestamp, removed: Option<&Timestamp>, retention: Duration, now: Timestamp) -> bool {
    match removed {
        Some(removed) => now.since(*removed) >= retention,
        None if path.starts_with(OWN_FOLDER) => now.since(written) >= retention,
        None => now.since(written) >= retention.max(FOREIGN_RETENTION),
    }
}

fn snapshot(name: &str, opened: &Opened) -> Result<Snapshot, WarehouseError> {
    let state = opened.table.snapshot().map_err(WarehouseError::delta("read", name))?;
    Ok(Snapshot {
        files: opened.files(name)?,
        schema: state.snapshot().arrow_schema(),
        partition_by: state.metadata().partition_columns().to_vec(),
    })
}

fn has_all(name: &str, opened: &Opened, files: &[ActiveFile]) -> Result<bool, WarehouseError> {
    let active: BTreeSet<String> = opened.files(name)?.into_iter().map(|file| file.path).collect();
    Ok(files.iter().all(|file| active.contains(&file.path)))
}

/// When files were removed from the table, as far as the log says.
async fn tombstones(name: &str, opened: &Opened) -> Result<HashMap<String, Timestamp>, WarehouseError> {
    let state = opened.table.snapshot().map_err(WarehouseError::delta("read", name))?;
    let log_store = opened.table.log_store();
    state
        .all_tombstones(log_store.as_ref())
        .map_ok(|removed| {
            let millis = removed.deletion_timestamp().unwrap_or(0);
            (removed.path().into_owned(), Timestamp::from_micros(millis.saturating_mul(1000)))
        })
        .try_collect()
        .await
        .map_err(WarehouseError::delta("list the removed files of", name))
}

/// Small files of each partition in the order of their segments, in groups of about the wanted size.
fn bins(files: Vec<ActiveFile>, target: u64) -> Vec<Bin> {
    let mut partitions: BTreeMap<PartitionKey, Vec<ActiveFile>> = BTreeMap::new();
    for file in files {
        if file.bytes < target.div_ceil(2) && !file.has_deletion_vector {
            partitions.entry(file.key.clone()).or_default().push(file);
        }
    }
    let mut bins = Vec::new();
    for (key, mut files) in partitions {
        files.sort_by(|one, other| (&one.segments, &one.path).cmp(&(&other.segments, &other.path)));
        let (mut group, mut bytes) = (Vec::new(), 0);
        for file in files {
            bytes += file.bytes;
            group.push(file);
            if bytes >= target {
                bins.push(Bin { key: key.clone(), files: std::mem::take(&mut group) });
                bytes = 0;
            }
        }
        bins.push(Bin { key, files: group });
    }
    // One file alone is as it was.
    bins.retain(|bin| bin.files.len() > 1);
    bins
}
