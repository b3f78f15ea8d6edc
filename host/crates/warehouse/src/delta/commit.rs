//! Committing a load: its files, the rows that it takes the place of, the columns that it adds and its number, in one commit.
//!
//! The crate's own retries are off: a commit is made on the snapshot that its plan was made from, or not at all, so rows that
//! a concurrent compaction moved cannot survive their replacement. Where another process was faster, the table is read anew,
//! the load's number is looked up again, and the plan is made again. After any error whose outcome is unknown the number and the
//! id decide: with them in the table, the load is committed.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arrow_schema::SchemaRef;
use deltalake::kernel::engine::arrow_conversion::TryIntoKernel as _;
use deltalake::kernel::transaction::{
    CommitBuilder, CommitProperties, FinalizedCommit, TableReference, TransactionError,
};
use deltalake::kernel::{Action, Add, MetadataExt as _, Protocol, Remove, StructType, Transaction, new_metadata};
use deltalake::protocol::{DeltaOperation, SaveMode};
use deltalake::{DeltaTable, DeltaTableError};
use forebay_model::{Load, LoadReceipt, StagedFile, Timestamp};

use super::log::{CommitNote, NOTE};
use super::rewrite::{Attempted, Rewriter};
use super::stage::{FileMaker, Made};
use super::table::{ActiveFile, Known, LEDGER, Opened, PIPELINE, app_id, check_staged_path};
use super::{DeltaOptions, DeltaWarehouse, blocking};
use crate::error::WarehouseError;
use crate::files::{self, PartitionKey, check_partitioning, data_schema};
use crate::schema::{Merged, check_names, merge, reads_as};

/// How often a load is planned anew because another process committed to the table.
const ATTEMPTS: u32 = 5;

/// Why an attempt did not commit.
pub(super) enum Attempt {
    /// Nothing was written: the snapshot was not the last.
    Conflict,
    /// The commit may have been written.
    Unknown(WarehouseError),
    /// Nothing was written.
    Failed(WarehouseError),
}

impl From<WarehouseError> for Attempt {
    fn from(error: WarehouseError) -> Self {
        Self::Failed(error)
    }
}

/// What a commit is made of.
struct Plan {
    actions: Vec<Action>,
    rows_added: u64,
    rows_removed: u64,
    attempted: Attempted,
}

/// The schema step of a plan.
struct Target {
    merged: Merged,
    partition_by: Vec<String>,
    actions: Vec<Action>,
}

impl DeltaWarehouse {
    pub(super) async fn commit_load(&self, load: &Load) -> Result<LoadReceipt, WarehouseError> {
        let name = load.table.table.as_str();
        let slot = self.slot(name);
        let mut state = slot.lock().await;
        for _ in 0..ATTEMPTS {
            if let Some(opened) = self.opened(name, &mut state).await?
                && let Some(receipt) = self.already(load, opened).await?
            {
                return Ok(receipt);
            }
            match self.attempt(load, &mut state).await {
                Ok(receipt) => {
                    for file in &load.files {
                        self.pending.remove(&self.table_path(name)?.join(&file.path));
                    }
                    self.after_commit(name, &mut state).await;
                    return Ok(receipt);
                }
                Err(Attempt::Conflict) => {
                    tracing::info!(table = name, load = load.number, "another process committed; planning anew");
                    state.take();
                }
                Err(Attempt::Failed(error)) => return Err(error),
                Err(Attempt::Unknown(error)) => return self.settle(load, &mut state, error).await,
            }
        }
        Err(WarehouseError::Contended { table: name.to_owned(), number: load.number, times: ATTEMPTS })
    }

    /// After an error that may hide a success: what the table says.
    async fn settle(
        &self,
        load: &Load,
        state: &mut Option<Opened>,
        error: WarehouseError,
    ) -> Result<LoadReceipt, WarehouseError> {
        let name = load.table.table.as_str();
        state.take();
        let opened = self.opened(name, state).await;
        let Ok(Some(opened)) = opened else { return Err(error) };
        match self.already(load, opened).await {
            Ok(Some(receipt)) => {
                tracing::warn!(table = name, load = load.number, %error, "commit answered an error and is there");
                Ok(LoadReceipt { committed_now: true, ..receipt })
            }
            Ok(None) => Err(error),
            Err(fenced) => Err(fenced),
        }
    }

    /// The receipt of a load that the table has; an error where the table has another in its place.
    async fn already(&self, load: &Load, opened: &mut Opened) -> Result<Option<LoadReceipt>, WarehouseError> {
        let name = load.table.table.as_str();
        self.check_owner(load, opened)?;
        let Some(Known { number, note }) = self.last_load(name, opened, load.ledger, load.pipeline.as_str()).await?
        else {
            return Ok(None);
        };
        if number < load.number {
            return Ok(None);
        }
        let version = opened.table.version().unwrap_or(0);
        let what = match note {
            _ if number > load.number => format!("it has load {number}, and load {} came after it", load.number),
            Some(note) if note.id == load.id => {
                let CommitNote { version, rows_added, rows_removed, .. } = note;
                let receipt = LoadReceipt { table_version: version, rows_added, rows_removed, committed_now: false };
                return Ok(Some(receipt));
            }
            Some(note) => format!("its load {number} is {}, not {}", note.id, load.id),
            // The log is too short to tell. That the files are there tells as well.
            None if self.has_files(load, opened)? => {
                let rows_added = load.files.iter().map(|file| file.rows).sum();
                let receipt = LoadReceipt { table_version: version, rows_added, rows_removed: 0, committed_now: false };
                return Ok(Some(receipt));
            }
            None => format!("it has a load {number}, and its log does not go back to it"),
        };
        Err(WarehouseError::Fenced {
            table: name.to_owned(),
            what,
            hint: "the ledger is older than the table: restore the newer ledger, or rebuild it with `forebay recover`",
        })
    }

    fn has_files(&self, load: &Load, opened: &Opened) -> Result<bool, WarehouseError> {
        if load.files.is_empty() {
            return Ok(false);
        }
        let active = opened.files(&load.table.table)?;
        let active: BTreeSet<&str> = active.iter().map(|file| file.path.as_str()).collect();
        Ok(load.files.iter().all(|file| active.contains(file.path.as_str())))
    }

    /// A table belongs to one pipeline of one ledger.
    fn check_owner(&self, load: &Load, opened: &Opened) -> Result<(), WarehouseError> {
        let name = load.table.table.as_str();
        let snapshot = opened.table.snapshot().map_err(WarehouseError::delta("read", name))?;
        let properties = snapshot.metadata().configuration();
        let refuse = |what, hint| Err(WarehouseError::Refused { table: name.to_owned(), what, hint });
        match (properties.get(LEDGER), properties.get(PIPELINE)) {
            (Some(ledger), _) if *ledger != load.ledger.to_string() => Err(WarehouseError::Fenced {
                table: name.to_owned(),
                what: format!("ledger {ledger} loads it, not ledger {}", load.ledger),
                hint: "use the ledger that the table was loaded with, or give this one a table of its own",
            }),
            (Some(_), Some(pipeline)) if pipeline != load.pipeline.as_str() => refuse(
                format!("pipeline {pipeline:?} loads it, not {:?}", load.pipeline.as_str()),
                "give each pipeline tables of its own",
            ),
            (Some(_), _) => Ok(()),
            (None, _) => refuse(
                "it was not made by forebay".to_owned(),
                "give the route another table, or move this one out of the warehouse's folder",
            ),
        }
    }

    /// Plans and commits on the snapshot that is open, or creates the table.
    async fn attempt(&self, load: &Load, state: &mut Option<Opened>) -> Result<LoadReceipt, Attempt> {
        let name = load.table.table.as_str();
        let plan = self.plan(load, state.as_ref()).await?;
        let Plan { mut actions, rows_added, rows_removed, attempted } = plan;
        let version = state.as_ref().and_then(|opened| opened.table.version()).map_or(0, |version| version + 1);
        actions.sort_by_key(rank);
        let note = CommitNote {
            ledger: load.ledger,
            pipeline: load.pipeline.to_string(),
            load: load.number,
            id: load.id,
            revision: load.revision.to_string(),
            version,
            rows_added,
            rows_removed,
            // The transaction comes on top.
            actions: actions.len() + 1,
        };
        let app = app_id(load.ledger, load.pipeline.as_str());
        let properties = properties(load, &app, &note)?;
        let partition_by = (!load.partition_by.is_empty()).then(|| load.partition_by.clone());
        let operation = DeltaOperation::Write { mode: SaveMode::Append, partition_by, predicate: None };
        match self.write_commit(name, state, actions, operation, properties).await {
            Ok(()) => {
                drop(attempted);
                if let Some(opened) = state.as_mut() {
                    opened.loads.insert(app, Known { number: load.number, note: Some(note) });
                }
                Ok(LoadReceipt { table_version: version, rows_added, rows_removed, committed_now: true })
            }
            Err(Attempt::Conflict) => {
                attempted.give_up();
                Err(Attempt::Conflict)
            }
            Err(other) => Err(other),
        }
    }

    /// Writes one commit on the open snapshot, and opens what came of it.
    pub(super) async fn write_commit(
        &self,
        name: &str,
        state: &mut Option<Opened>,
        actions: Vec<Action>,
        operation: DeltaOperation,
        properties: CommitProperties,
    ) -> Result<(), Attempt> {
        let table: DeltaTable = match state.as_ref() {
            Some(opened) => opened.table.clone(),
            None => {
                let folder = self.table_path(name)?.join(super::log::LOG_FOLDER);
                let folders = Arc::clone(&self.folders);
                blocking(move || folders.ensure(&folder).map_err(WarehouseError::io("make", &folder))).await?;
                self.handle(name)?
            }
        };
        let snapshot = table.state.as_ref().map(|state| state as &dyn TableReference);
        let committed = CommitBuilder::from(properties.with_max_retries(0))
            .with_actions(actions)
            .build(snapshot, table.log_store(), operation)
            .await;
        match committed {
            Ok(FinalizedCommit { snapshot, .. }) => {
                match state.as_mut() {
                    Some(opened) => opened.table.state = Some(snapshot),
                    None => {
                        let mut table = table;
                        table.state = Some(snapshot);
                        *state = Some(Opened { table, loads: HashMap::new() });
                    }
                }
                Ok(())
            }
            Err(error) if is_conflict(&error) => Err(Attempt::Conflict),
            Err(error) => Err(Attempt::Unknown(WarehouseError::delta("commit to", name)(error))),
        }
    }

    /// Everything that is read and written before the commit.
    async fn plan(&self, load: &Load, opened: Option<&Opened>) -> Result<Plan, WarehouseError> {
        let name = load.table.table.as_str();
        let target = target(load, opened, &self.options)?;
        let touches_files = !load.removes.is_empty() || !target.merged.widened.is_empty();
        let active = match opened {
            Some(opened) if touches_files => opened.files(name)?,
            _ => Vec::new(),
        };
        let maker = self.maker(name)?;
        let mut staged = Vec::with_capacity(load.files.len());
        for file in &load.files {
            staged.push((file.clone(), self.staged_as(load, file, &target, &maker)?));
        }
        let work = Work {
            name: name.to_owned(),
            schema: data_schema(&target.merged.schema, &target.partition_by),
            partition_by: target.partition_by,
            widens: !target.merged.widened.is_empty(),
            removes: load.removes.iter().map(|segment| segment.as_str().to_owned()).collect(),
            now: self.options.clock.now(),
            attempted: Attempted { maker, paths: Vec::new() },
            actions: target.actions,
            rows_added: 0,
            rows_removed: 0,
        };
        blocking(move || work.run(active, staged)).await
    }

    /// Whether a staged file is as the ledger has it, and can be read under the table's schema as it is.
    fn staged_as(
        &self,
        load: &Load,
        file: &StagedFile,
        target: &Target,
        maker: &FileMaker,
    ) -> Result<Staged, WarehouseError> {
        check_staged_path(&file.path)?;
        let path = maker.table.join(&file.path);
        let refuse = |what| WarehouseError::Refused {
            table: load.table.table.clone(),
            what,
            hint: "something removed or changed it; retry the load's segments, which stages them anew",
        };
        match std::fs::metadata(&path) {
            Ok(found) if found.len() == file.bytes => {}
            Ok(found) => {
                let (is, was) = (found.len(), file.bytes);
                return Err(refuse(format!("staged file {} has {is} bytes instead of {was}", file.path)));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(refuse(format!("staged file {} of load {} is gone", file.path, load.number)));
            }
            Err(error) => return Err(WarehouseError::io("look at", &path)(error)),
        }
        if !file.partition_values.keys().eq(target.partition_by.iter().collect::<BTreeSet<_>>()) {
            return Err(WarehouseError::Refused {
                table: load.table.table.clone(),
                what: format!("it is partitioned by {:?}, and {} is not", target.partition_by, file.path),
                hint: "a table keeps its partition columns: set partition_by as it was, or load another table",
            });
        }
        let schema = self.file_schema(&maker.table, &file.path)?;
        let fits = reads_as(schema.fields(), target.merged.schema.fields());
        Ok(if fits { Staged::AsItIs } else { Staged::Narrower })
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
    schema: SchemaRef,
    partition_by: Vec<String>,
    widens: bool,
    removes: BTreeSet<String>,
    now: Timestamp,
    attempted: Attempted,
    actions: Vec<Action>,
    rows_added: u64,
    rows_removed: u64,
}

impl Work {
    fn run(mut self, active: Vec<ActiveFile>, staged: Vec<(StagedFile, Staged)>) -> Result<Plan, WarehouseError> {
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

    fn collect(&mut self, active: Vec<ActiveFile>, staged: Vec<(StagedFile, Staged)>) -> Result<(), WarehouseError> {
        for file in active {
            self.plan_active(&file)?;
        }
        for (file, how) in staged {
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
    let refuse = |what, hint| WarehouseError::Refused { table: name.to_owned(), what, hint };
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

fn properties(load: &Load, app: &str, note: &CommitNote) -> Result<CommitProperties, WarehouseError> {
    let number = i64::try_from(load.number)
        .map_err(|_| WarehouseError::Bug(format!("load number {} is too large for a log", load.number)))?;
    let note = serde_json::to_value(note)
        .map_err(|error| WarehouseError::Bug(format!("a commit's note is not JSON: {error}")))?;
    Ok(CommitProperties::default()
        .with_metadata([(NOTE.to_owned(), note)])
        .with_application_transaction(Transaction::new(app, number))
        // Both are done after the commit, where their failure is not the load's.
        .with_create_checkpoint(false)
        .with_cleanup_expired_logs(Some(false)))
}

/// Nothing was written: the version was taken, or the snapshot was behind.
fn is_conflict(error: &DeltaTableError) -> bool {
    matches!(
        error,
        DeltaTableError::VersionAlreadyExists(_)
            | DeltaTableError::Transaction {
                source: TransactionError::VersionAlreadyExists(_)
                    | TransactionError::MaxCommitAttempts(_)
                    | TransactionError::CommitConflict(_)
            }
    )
}

/// Protocol and metadata first, as readers expect.
fn rank(action: &Action) -> u8 {
    u8::from(!matches!(action, Action::Protocol(_)))
        + u8::from(!matches!(action, Action::Protocol(_) | Action::Metadata(_)))
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
