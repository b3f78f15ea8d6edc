//! Committing a load: its files, the rows that it takes the place of, the columns that it adds and its number, in one commit.
//!
//! The crate's own retries are off: a commit is made on the snapshot that its plan was made from, or not at all, so rows that
//! a concurrent compaction moved cannot survive their replacement. Where another process was faster, the table is read anew,
//! the load's number is looked up again, and the plan is made again. After any error whose outcome is unknown the number and the
//! id decide: with them in the table, the load is committed.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use deltalake::kernel::transaction::{
    CommitBuilder, CommitProperties, FinalizedCommit, TableReference, TransactionError,
};
use deltalake::kernel::{Action, Transaction};
use deltalake::protocol::{DeltaOperation, SaveMode};
use deltalake::{DeltaTable, DeltaTableError};
use forebay_model::{Load, LoadReceipt};

use super::log::{CommitNote, NOTE};
use super::plan::Plan;
use super::table::{Known, LEDGER, Opened, PIPELINE, app_id};
use super::{DeltaWarehouse, blocking};
use crate::error::WarehouseError;

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
        let refuse = |what, hint| Err(WarehouseError::LoadRefused { table: name.to_owned(), what, hint });
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
            replaces: load.removes.clone(),
            chosen: load.chosen,
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
                blocking(move || Ok(folders.ensure(&folder)?)).await?;
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
