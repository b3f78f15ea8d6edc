//! A table that this process has open: its snapshot, and the lock that makes one committer of all who want to change it.

use std::collections::HashMap;
use std::sync::Arc;

use deltalake::kernel::LogicalFileView;
use deltalake::{DeltaTable, DeltaTableBuilder, checkpoints};
use forebay_model::ports::{CommittedLoad, TableInfo, TableOwner};
use forebay_model::{LOAD, SEGMENT, StagedFile};
use object_store::ObjectStore;
use serde::Deserialize;
use tokio::sync::{Mutex, MutexGuard};
use url::Url;
use uuid::Uuid;

use super::checkpoint;
use super::log::{self, CommitNote, OWN_FOLDER};
use super::store::DurableStore;
use super::{DeltaWarehouse, blocking};
use crate::error::WarehouseError;
use crate::files::PartitionKey;

/// The table's properties that say who loads it.
pub(super) const LEDGER: &str = "forebay.ledger";
pub(super) const PIPELINE: &str = "forebay.pipeline";

/// A table's lock, and what is known of it while nobody holds the lock.
#[derive(Debug, Default)]
pub(super) struct TableSlot {
    state: Mutex<Option<Opened>>,
}

pub(super) type SlotGuard<'a> = MutexGuard<'a, Option<Opened>>;

impl TableSlot {
    pub(super) async fn lock(&self) -> SlotGuard<'_> {
        self.state.lock().await
    }
}

/// An open table.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) table: DeltaTable,
    /// Last loads by application id: what the log said, or this process did.
    pub(super) loads: HashMap<String, Known>,
}

/// The last load of an application id.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) number: u64,
    /// `None` where the log does not go back to it.
    pub(super) note: Option<CommitNote>,
}

/// A file of a snapshot.
pub(super) struct ActiveFile {
    pub(super) path: String,
    pub(super) bytes: u64,
    pub(super) key: PartitionKey,
    pub(super) rows: Option<u64>,
    /// Smallest and greatest segment, where its statistics say; the flag, whether every row has one.
    pub(super) segments: Option<(String, String, bool)>,
    /// Smallest and greatest load, likewise.
    pub(super) loads: Option<(i64, i64)>,
    /// Rows that another engine marked as deleted, which forebay does not read.
    pub(super) has_deletion_vector: bool,
}

#[derive(Deserialize, Default)]
struct Statistics {
    #[serde(rename = "numRecords")]
    rows: Option<u64>,
    #[serde(rename = "minValues", default)]
    min: OwnValues<String>,
    #[serde(rename = "maxValues", default)]
    max: OwnValues<String>,
    #[serde(rename = "nullCount", default)]
    nulls: OwnValues<u64>,
}

#[derive(Deserialize)]
#[serde(bound = "T: Deserialize<'de>")]
struct OwnValues<T> {
    #[serde(rename = "_forebay_segment")]
    segment: Option<T>,
    #[serde(rename = "_forebay_load")]
    load: Option<i64>,
}

impl<T> Default for OwnValues<T> {
    fn default() -> Self {
        Self { segment: None, load: None }
    }
}

impl ActiveFile {
    fn of(view: &LogicalFileView) -> Self {
        let statistics: Statistics = view.stats().and_then(|json| serde_json::from_str(&json).ok()).unwrap_or_default();
        let Statistics { rows, min, max, nulls } = statistics;
        let complete = nulls.segment == Some(0);
        Self {
            path: view.path().into_owned(),
            bytes: u64::try_from(view.size()).unwrap_or(0),
            key: view.partition_values_map().into_iter().collect(),
            rows,
            loads: min.load.zip(max.load).filter(|_| nulls.load == Some(0)),
            segments: min.segment.zip(max.segment).map(|(min, max)| (min, max, complete)),
            has_deletion_vector: view.deletion_vector_descriptor().is_some(),
        }
    }
}

impl Opened {
    /// The files of the snapshot.
    pub(super) fn files(&self, name: &str) -> Result<Vec<ActiveFile>, WarehouseError> {
        let read = || -> Result<Vec<ActiveFile>, deltalake::DeltaTableError> {
            let state = self.table.snapshot()?;
            Ok(state.snapshot().try_log_data()?.iter().map(|view| ActiveFile::of(&view)).collect())
        };
        read().map_err(WarehouseError::delta("list the files of", name))
    }
}

impl DeltaWarehouse {
    /// The log's store: durable, and what the options lay over it.
    fn store(&self) -> Arc<dyn ObjectStore> {
        let store: Arc<dyn ObjectStore> = Arc::new(DurableStore::new(
            Arc::clone(&self.options.disk),
            Arc::clone(&self.options.random),
            Arc::clone(&self.compared),
        ));
        match &self.options.store_layer {
            Some(layer) => layer(store),
            None => store,
        }
    }

    /// The table, not loaded.
    pub(super) fn handle(&self, name: &str) -> Result<DeltaTable, WarehouseError> {
        let path = self.table_path(name)?;
        let url = Url::from_directory_path(&path)
            .map_err(|()| WarehouseError::Bug(format!("{} is not an absolute path", path.display())))?;
        DeltaTableBuilder::from_url(url.clone())
            .and_then(|builder| builder.with_storage_backend(self.store(), url).build())
            .map_err(WarehouseError::delta("open", name))
    }

    /// The table as it stands, read anew; `None` where there is none. Changes nothing.
    pub(super) async fn load_table(&self, name: &str) -> Result<Option<DeltaTable>, WarehouseError> {
        let path = self.table_path(name)?;
        if blocking(move || log::commit_versions(&path)).await?.is_empty() {
            return Ok(None);
        }
        let mut table = self.handle(name)?;
        table.load().await.map_err(WarehouseError::delta("read the log of", name))?;
        Ok(Some(table))
    }

    /// The open table of a slot, opened and put in order where it is not; `None` where there is none.
    pub(super) async fn opened<'a>(
        &self,
        name: &str,
        state: &'a mut Option<Opened>,
    ) -> Result<Option<&'a mut Opened>, WarehouseError> {
        if state.is_none() {
            let (path, table, disk) = (self.table_path(name)?, name.to_owned(), Arc::clone(&self.options.disk));
            let now = self.options.clock.now();
            blocking(move || log::repair(&table, &path, disk.as_ref(), now)).await?;
            *state = self.load_table(name).await?.map(|table| Opened { table, loads: HashMap::new() });
        }
        Ok(state.as_mut())
    }

    /// The same, with what other processes committed since.
    pub(super) async fn refreshed<'a>(
        &self,
        name: &str,
        state: &'a mut Option<Opened>,
    ) -> Result<Option<&'a mut Opened>, WarehouseError> {
        let known = state.is_some();
        let Some(opened) = self.opened(name, state).await? else { return Ok(None) };
        if known {
            let before = opened.table.version();
            opened.table.update_state().await.map_err(WarehouseError::delta("read the log of", name))?;
            if opened.table.version() != before {
                opened.loads.clear();
            }
        }
        Ok(Some(opened))
    }

    /// The last load of an application id, from the snapshot and the log.
    pub(super) async fn last_load(
        &self,
        name: &str,
        opened: &mut Opened,
        ledger: Uuid,
        pipeline: &str,
    ) -> Result<Option<Known>, WarehouseError> {
        let app = app_id(ledger, pipeline);
        if let Some(known) = opened.loads.get(&app) {
            return Ok(Some(known.clone()));
        }
        let reading = WarehouseError::delta("read the loads of", name);
        let state = opened.table.snapshot().map_err(WarehouseError::delta("read", name))?;
        let log_store = opened.table.log_store();
        let Some(number) = state.transaction_version(log_store.as_ref(), &app).await.map_err(reading)? else {
            return Ok(None);
        };
        let number = u64::try_from(number)
            .map_err(|_| WarehouseError::Bug(format!("table {name:?} has a load of number {number}")))?;
        let (path, version, pipeline) = (self.table_path(name)?, state.version(), pipeline.to_owned());
        let (folders, disk) = (Arc::clone(&self.folders), Arc::clone(&self.options.disk));
        let note = blocking(move || {
            // Whoever wrote it may have died, or failed, before the names that lead to it were synced. Once it is answered
            // that the load is here, it has to stay.
            let folder = path.join(log::LOG_FOLDER);
            folders.ensure(&folder)?;
            disk.sync_folder(&folder).map_err(WarehouseError::io("sync", &folder))?;
            log::last_note(&path, version, ledger, &pipeline)
        })
        .await?;
        let known = Known { number, note: note.filter(|note| note.load == number) };
        opened.loads.insert(app, known.clone());
        Ok(Some(known))
    }

    pub(super) async fn committed_load(
        &self,
        name: &str,
        ledger: Uuid,
        pipeline: &str,
    ) -> Result<Option<CommittedLoad>, WarehouseError> {
        let slot = self.slot(name);
        let mut state = slot.lock().await;
        let Some(opened) = self.refreshed(name, &mut state).await? else { return Ok(None) };
        let known = self.last_load(name, opened, ledger, pipeline).await?;
        Ok(known.map(|Known { number, note }| CommittedLoad { number, id: note.map(|note| note.id) }))
    }

    pub(super) async fn table_info(&self, name: &str) -> Result<Option<TableInfo>, WarehouseError> {
        let slot = self.slot(name);
        let mut state = slot.lock().await;
        let Some(opened) = self.refreshed(name, &mut state).await? else { return Ok(None) };
        let files = opened.files(name)?;
        let snapshot = opened.table.snapshot().map_err(WarehouseError::delta("read", name))?;
        Ok(Some(TableInfo {
            schema: snapshot.snapshot().arrow_schema(),
            partition_by: snapshot.metadata().partition_columns().to_vec(),
            owner: owner(snapshot.metadata().configuration()),
            version: snapshot.version(),
            files: files.len() as u64,
            bytes: files.iter().map(|file| file.bytes).sum(),
            rows: files.iter().map(|file| file.rows.filter(|_| !file.has_deletion_vector)).sum(),
        }))
    }

    pub(super) async fn list_tables(&self) -> Result<Vec<String>, WarehouseError> {
        let root = self.root.clone();
        let names = blocking(move || {
            let mut names = Vec::new();
            let entries = match std::fs::read_dir(&root) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(names),
                found => found.map_err(WarehouseError::io("list", &root))?,
            };
            for entry in entries {
                let entry = entry.map_err(WarehouseError::io("list", &root))?;
                if let Ok(name) = entry.file_name().into_string()
                    && !log::commit_versions(&entry.path())?.is_empty()
                {
                    names.push(name);
                }
            }
            names.sort_unstable();
            Ok(names)
        });
        let mut names = names.await?;
        names.retain(|name| self.table_path(name).is_ok());
        Ok(names)
    }

    /// After a commit: a checkpoint when one is due, and the log's old end. Neither is the load's business, so a failure is told
    /// and tried again by the next.
    pub(super) async fn after_commit(&self, name: &str, state: &mut Option<Opened>) {
        let Some(opened) = state.as_mut() else { return };
        let (Some(version), Ok(snapshot)) = (opened.table.version(), opened.table.snapshot()) else { return };
        let interval = snapshot
            .metadata()
            .configuration()
            .get("delta.checkpointInterval")
            .and_then(|text| text.parse().ok())
            .filter(|interval| *interval > 0)
            .unwrap_or(self.options.checkpoint_interval);
        if !(version + 1).is_multiple_of(interval) {
            return;
        }
        if let Err(error) = checkpoints::create_checkpoint(&opened.table, None).await {
            tracing::warn!(table = name, version, %error, "checkpoint not written");
            return;
        }
        match checkpoints::cleanup_metadata(&opened.table, None).await {
            Ok(removed) => tracing::debug!(table = name, version, removed, "checkpoint written"),
            Err(error) => tracing::warn!(table = name, version, %error, "log not cleaned up"),
        }
        self.sweep_digests(name).await;
        // A snapshot that is carried on holds the whole log since it was opened: commits would grow slower and slower.
        let loads = std::mem::take(&mut opened.loads);
        match self.load_table(name).await {
            Ok(table) => *state = table.map(|table| Opened { table, loads }),
            Err(error) => {
                tracing::warn!(table = name, version, %error, "table not opened after its checkpoint");
                *state = None;
            }
        }
    }

    /// Removes digests of checkpoints that are gone. What fails is told, and done by the next.
    pub(super) async fn sweep_digests(&self, name: &str) {
        let swept = match self.table_path(name) {
            Ok(table) => {
                let disk = Arc::clone(&self.options.disk);
                blocking(move || checkpoint::sweep(&table, disk.as_ref())).await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = swept {
            tracing::warn!(table = name, %error, "digests of old checkpoints not removed");
        }
    }

    pub(super) async fn discard_files(&self, name: &str, files: &[StagedFile]) -> Result<(), WarehouseError> {
        let slot = self.slot(name);
        let mut state = slot.lock().await;
        let active = match self.refreshed(name, &mut state).await? {
            Some(opened) => opened.files(name)?,
            None => Vec::new(),
        };
        let maker = self.maker(name)?;
        for file in files {
            check_staged_path(&file.path)?;
            if active.iter().any(|active| active.path == file.path) {
                return Err(WarehouseError::Bug(format!(
                    "file {:?} of table {name:?} is loaded, not staged",
                    file.path
                )));
            }
        }
        let paths: Vec<String> = files.iter().map(|file| file.path.clone()).collect();
        blocking(move || {
            paths.iter().for_each(|path| maker.give_up(path));
            Ok(())
        })
        .await
    }
}

/// Staged files lie in forebay's folder, and nowhere else.
pub(super) fn check_staged_path(path: &str) -> Result<(), WarehouseError> {
    let mut parts = path.split('/');
    let inside = parts.next() == Some(OWN_FOLDER) && parts.all(|part| !matches!(part, "" | "." | ".."));
    if inside && path.ends_with(".parquet") {
        return Ok(());
    }
    Err(WarehouseError::Bug(format!("{path:?} is not a staged file's path")))
}

/// The application id of a pipeline's loads in a table's log.
pub(super) fn app_id(ledger: Uuid, pipeline: &str) -> String {
    format!("forebay:{ledger}:{pipeline}")
}

// The names in `OwnValues` are the columns'.
const _: () = assert!(matches!(SEGMENT.as_bytes(), b"_forebay_segment"));
const _: () = assert!(matches!(LOAD.as_bytes(), b"_forebay_load"));

/// Whose a table is, by what its first load wrote into its properties.
pub(super) fn owner(properties: &HashMap<String, String>) -> Option<TableOwner> {
    let ledger = properties.get(LEDGER)?.parse().ok()?;
    Some(TableOwner { ledger, pipeline: properties.get(PIPELINE)?.clone() })
}
