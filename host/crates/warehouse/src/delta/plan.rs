//! What a load's commit is made of: everything that is read and written before the commit itself.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use arrow_schema::SchemaRef;
use deltalake::DeltaTableError;
use deltalake::kernel::engine::arrow_conversion::TryIntoKernel as _;
use deltalake::kernel::{Action, Add, MetadataExt as _, Protocol, Remove, StructType, new_metadata};
use forebay_model::{Load, StagedFile, Timestamp};

use super::rewrite::{Attempted, Rewriter};
use super::stage::Made;
use super::table::{ActiveFile, LEDGER, Opened, PIPELINE, check_staged_path};
use super::{DeltaOptions, DeltaWarehouse, blocking};
use crate::error::WarehouseError;
use crate::files::{self, PartitionKey, check_partitioning, data_schema};
use crate::schema::{Merged, check_names, merge, reads_as};

/// What a commit is made of.
pub(super) struct Plan {
    pub(super) actions: Vec<Action>,
    pub(super) rows_added: u64,
    pub(super) rows_removed: u64,
    pub(super) attempted: Attempted,
}

/// The schema step of a plan.
struct Target {
    merged: Merged,
    partition_by: Vec<String>,
    actions: Vec<Action>,
}

/// Schemas of data files by the fingerprint in their names, so that a commit of many files opens few of them.
#[derive(Debug, Default)]
pub(super) struct FileSchemas(Mutex<HashMap<String, SchemaRef>>);

impl FileSchemas {
    fn of(&self, table: &Path, path: &str) -> Result<SchemaRef, WarehouseError> {
        // A map that only grows is whole after every step, so a panic elsewhere does not harm it.
        let known = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fingerprint = files::parts_of(path).map(|(schema, _)| schema.to_owned());
        let found = fingerprint.as_ref().and_then(|fingerprint| known().get(fingerprint).cloned());
        if let Some(found) = found {
            return Ok(found);
        }
        let schema = files::schema_of(&table.join(path))?;
        if let Some(fingerprint) = fingerprint {
            known().insert(fingerprint, Arc::clone(&schema));
        }
        Ok(schema)
    }
}

impl DeltaWarehouse {
    /// Everything that is read and written before the commit.
    pub(super) async fn plan(&self, load: &Load, opened: Option<&Opened>) -> Result<Plan, WarehouseError> {
        let name = load.table.table.as_str();
        let target = target(load, opened, &self.options)?;
        let touches_files = !load.removes.is_empty() || !target.merged.widened.is_empty();
        let active = match opened {
            Some(opened) if touches_files => opened.files(name)?,
            _ => Vec::new(),
        };
        let work = Work {
            name: name.to_owned(),
            load: load.number,
            schema: data_schema(&target.merged.schema, &target.partition_by),
            partition_by: target.partition_by,
            widens: !target.merged.widened.is_empty(),
            removes: load.removes.iter().map(|segment| segment.as_str().to_owned()).collect(),
            now: self.options.clock.now(),
            schemas: Arc::clone(&self.schemas),
            attempted: Attempted { maker: self.maker(name)?, paths: Vec::new() },
            actions: target.actions,
            rows_added: 0,
            rows_removed: 0,
        };
        let staged = load.files.clone();
        blocking(move || work.run(active, staged)).await
    }
}

/// How a staged file stands to the table's schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Staged {
    AsItIs,
    /// It was staged before a column was widened.
    Narrower,
}

/// The blocking part of a plan.
struct Work {
    name: String,
    load: u64,
    schema: SchemaRef,
    partition_by: Vec<String>,
    widens: bool,
    removes: BTreeSet<String>,
    now: Timestamp,
    schemas: Arc<FileSchemas>,
    attempted: Attempted,
    actions: Vec<Action>,
    rows_added: u64,
    rows_removed: u64,
}

impl Work {
    fn run(mut self, active: Vec<ActiveFile>, staged: Vec<StagedFile>) -> Result<Plan, WarehouseError> {
        match self.collect(active, staged) {
            Ok(()) => {
                let Self { actions, rows_added, rows_removed, attempted, .. } = self;
                Ok(Plan { actions, rows_added, rows_removed, attempted })
            }
            Err(error) => {
                self.attempted.give_up();
                Err(error)
            }
        }
    }

    fn collect(&mut self, active: Vec<ActiveFile>, staged: Vec<StagedFile>) -> Result<(), WarehouseError> {
        for file in active {
            self.plan_active(&file)?;
        }
        for file in staged {
            let how = self.staged_as(&file)?;
            self.rows_added += file.rows;
            match how {
                Staged::AsItIs => {
                    let StagedFile { path, bytes, rows: _, segment: _, partition_values, statistics } = file;
                    self.actions.push(add(path, bytes, &partition_values, statistics, self.now, true)?);
                }
                Staged::Narrower => {
                    self.rewrite(&file.path, &file.partition_values, &BTreeSet::new())?;
                }
            }
        }
        Ok(())
    }

    /// Whether a staged file is as the ledger has it, and can be read under the table's schema as it is.
    fn staged_as(&self, file: &StagedFile) -> Result<Staged, WarehouseError> {
        check_staged_path(&file.path)?;
        let table = &self.attempted.maker.table;
        let path = table.join(&file.path);
        let refuse = |what| WarehouseError::LoadRefused {
            table: self.name.clone(),
            what,
            hint: "something removed or changed it; the load's segments are refined again, which stages them anew",
        };
        match std::fs::metadata(&path) {
            Ok(found) if found.len() == file.bytes => {}
            Ok(found) => {
                let (is, was) = (found.len(), file.bytes);
                return Err(refuse(format!("staged file {} has {is} bytes instead of {was}", file.path)));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(refuse(format!("staged file {} of load {} is gone", file.path, self.load)));
            }
            Err(error) => return Err(WarehouseError::io("look at", &path)(error)),
        }
        if !file.partition_values.keys().eq(self.partition_by.iter().collect::<BTreeSet<_>>()) {
            return Err(WarehouseError::LoadRefused {
                table: self.name.clone(),
                what: format!("it is partitioned by {:?}, and {} is not", self.partition_by, file.path),
                hint: "a table keeps its partition columns: set partition_by as it was, or load another table",
            });
        }
        let schema = self.schemas.of(table, &file.path)?;
        let fits = reads_as(schema.fields(), self.schema.fields());
        Ok(if fits { Staged::AsItIs } else { Staged::Narrower })
    }

    fn plan_active(&mut self, file: &ActiveFile) -> Result<(), WarehouseError> {
        let fate = self.fate(file)?;
        if fate == Fate::Stays {
            return Ok(());
        }
        if file.has_deletion_vector {
            return Err(WarehouseError::Refused {
                table: self.name.clone(),
                what: format!("another engine deleted rows of {} by a deletion vector", file.path),
                hint: "let that engine rewrite the file (REORG TABLE … APPLY (PURGE)), and do not delete rows beside forebay",
            });
        }
        match fate {
            Fate::Stays => {}
            Fate::Goes => {
                let path = self.attempted.maker.table.join(&file.path);
                self.rows_removed += file.rows.map_or_else(|| files::rows_in(&path), Ok)?;
                self.actions.push(remove(file, self.now, true)?);
            }
            Fate::Rewritten => {
                let removes = std::mem::take(&mut self.removes);
                let without: BTreeSet<&str> = removes.iter().map(String::as_str).collect();
                let left_out = self.rewrite(&file.path, &file.key, &without);
                self.removes = removes;
                self.rows_removed += left_out?;
                self.actions.push(remove(file, self.now, true)?);
            }
        }
        Ok(())
    }

    /// What becomes of a file of the table.
    fn fate(&self, file: &ActiveFile) -> Result<Fate, WarehouseError> {
        let holds = match &file.segments {
            _ if self.removes.is_empty() => false,
            Some((min, max, complete)) => {
                if min == max && *complete && self.removes.contains(min) {
                    return Ok(Fate::Goes);
                }
                self.removes.range(min.clone()..=max.clone()).next().is_some()
            }
            None => true,
        };
        if self.widens {
            return Ok(Fate::Rewritten);
        }
        if !holds {
            return Ok(Fate::Stays);
        }
        let without: BTreeSet<&str> = self.removes.iter().map(String::as_str).collect();
        let path = self.attempted.maker.table.join(&file.path);
        Ok(if files::contains_any(&path, &without)? { Fate::Rewritten } else { Fate::Stays })
    }

    /// Writes a file anew and adds what comes of it; returns how many rows were left out.
    fn rewrite(&mut self, path: &str, key: &PartitionKey, without: &BTreeSet<&str>) -> Result<u64, WarehouseError> {
        let maker = self.attempted.maker.clone();
        let mut rewriter = Rewriter::new(maker, key.clone(), self.partition_by.clone(), Arc::clone(&self.schema));
        let left_out = rewriter.copy(path, without)?;
        for Made { path, key, bytes, rows: _, statistics } in rewriter.finish()? {
            self.attempted.paths.push(path.clone());
            self.actions.push(add(path, bytes, &key, statistics, self.now, true)?);
        }
        Ok(left_out)
    }
}

/// What becomes of a file of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Stays,
    Goes,
    Rewritten,
}

/// What the table's schema becomes, and the actions that say so.
fn target(load: &Load, opened: Option<&Opened>, options: &DeltaOptions) -> Result<Target, WarehouseError> {
    let name = load.table.table.as_str();
    let refuse = |what, hint| WarehouseError::LoadRefused { table: name.to_owned(), what, hint };
    let Some(opened) = opened else {
        check_names("", load.schema.fields())
            .map_err(|what| refuse(what, "rename one of them, in the source or by a rule"))?;
        if let Some(what) = check_partitioning(&load.schema, &load.partition_by) {
            return Err(refuse(what, "name columns that are numbers, text, dates or times in partition_by"));
        }
        let merged = Merged { schema: Arc::clone(&load.schema), widened: Vec::new(), changed: true };
        return Ok(Target { merged, partition_by: load.partition_by.clone(), actions: creation(load, options)? });
    };
    let snapshot = opened.table.snapshot().map_err(WarehouseError::delta("read", name))?;
    let partition_by = snapshot.metadata().partition_columns().to_vec();
    let table_schema = snapshot.snapshot().arrow_schema();
    let merged = merge(&table_schema, &load.schema)
        .map_err(|what| refuse(what, "rescue the field, or rename it by a rule: a table's column keeps its type"))?;
    if let Some(path) = merged.widened.iter().find(|path| partition_by.contains(*path)) {
        return Err(refuse(
            format!("partition column {path} cannot become float64"),
            "declare the field as float64 in the schema, and load another table",
        ));
    }
    let mut actions = Vec::new();
    if merged.changed {
        let schema = kernel_schema(name, &merged.schema)?;
        let metadata = snapshot.metadata().clone().with_schema(&schema);
        actions.push(Action::Metadata(metadata.map_err(WarehouseError::delta("change the schema of", name))?));
    }
    Ok(Target { merged, partition_by, actions })
}

fn kernel_schema(name: &str, schema: &SchemaRef) -> Result<StructType, WarehouseError> {
    schema
        .as_ref()
        .try_into_kernel()
        .map_err(|error| WarehouseError::delta("write the schema of", name)(DeltaTableError::Arrow { source: error }))
}

/// The actions that make a table: readers need no more than version 1, writers 2.
fn creation(load: &Load, options: &DeltaOptions) -> Result<Vec<Action>, WarehouseError> {
    let name = load.table.table.as_str();
    let protocol: Protocol =
        serde_json::from_value(serde_json::json!({ "minReaderVersion": 1, "minWriterVersion": 2 }))
            .map_err(|error| WarehouseError::Bug(format!("the protocol action is not one: {error}")))?;
    let schema = kernel_schema(name, &load.schema)?;
    let configuration = [
        (LEDGER, load.ledger.to_string()),
        (PIPELINE, load.pipeline.to_string()),
        ("delta.checkpointInterval", options.checkpoint_interval.to_string()),
        ("delta.logRetentionDuration", format!("interval {} seconds", options.log_retention.as_secs())),
        // Statistics count only for so many columns otherwise, and `_forebay_segment` is one of the last.
        ("delta.dataSkippingNumIndexedCols", "-1".to_owned()),
    ];
    let metadata =
        new_metadata(&schema, &load.partition_by, configuration).map_err(WarehouseError::delta("describe", name))?;
    Ok(vec![Action::Protocol(protocol), Action::Metadata(metadata)])
}

fn size(bytes: u64) -> Result<i64, WarehouseError> {
    i64::try_from(bytes).map_err(|_| WarehouseError::Bug(format!("a file of {bytes} bytes is too large for a log")))
}

pub(super) fn add(
    path: String,
    bytes: u64,
    key: &PartitionKey,
    statistics: String,
    now: Timestamp,
    data_change: bool,
) -> Result<Action, WarehouseError> {
    Ok(Action::Add(Add {
        path,
        partition_values: key.clone().into_iter().collect(),
        size: size(bytes)?,
        modification_time: now.as_micros().div_euclid(1000),
        data_change,
        stats: Some(statistics),
        ..Add::default()
    }))
}

pub(super) fn remove(file: &ActiveFile, now: Timestamp, data_change: bool) -> Result<Action, WarehouseError> {
    Ok(Action::Remove(Remove {
        path: file.path.clone(),
        data_change,
        deletion_timestamp: Some(now.as_micros().div_euclid(1000)),
        extended_file_metadata: Some(true),
        partition_values: Some(file.key.clone().into_iter().collect()),
        size: Some(size(file.bytes)?),
        ..Remove::default()
    }))
}
