//! The ledger in one SQLite file.
//!
//! Each writing call is one `BEGIN IMMEDIATE` transaction on the one writing connection; with the write-ahead log and
//! `synchronous = FULL` it is on disk when the commit returns. Reading calls take a connection of their own, so a query
//! of a person never waits for a landing, nor the other way round.

mod fault;
mod open;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::path::{Path, PathBuf};

use forebay_model::Result;
use forebay_model::ports::{Clock, HostHolder, HostLease, Ledger as _, Random, Rebuilt};
use sqlx::SqlitePool;
use uuid::Uuid;

use super::OpenMode;
use crate::error::{LedgerError, Place};
use crate::sql::{Fault, SqlLedger, Step, Store, Unit};

/// The ledger in one SQLite file.
pub type SqliteLedger = SqlLedger<SqliteStore>;

/// A file, and the connections to it.
#[derive(Debug)]
pub struct SqliteStore {
    path: PathBuf,
    writer: Option<SqlitePool>,
    readers: SqlitePool,
}

#[derive(Debug)]
struct FileLease {
    /// Locked until it is closed.
    _file: File,
}

impl HostLease for FileLease {}

impl SqliteLedger {
    /// Opens the ledger at `path`; `clock` and `random` are asked when it is made. An older schema is migrated, after a
    /// copy was written to `<path>.v<version>.backup`.
    ///
    /// # Errors
    /// Class operator, naming the file and what to do: it is missing, damaged, of a newer schema version, or of an older
    /// one while it must not be migrated (opened to be read, or held by a running host); its folder cannot be written.
    pub async fn open(path: impl AsRef<Path>, mode: OpenMode, clock: &dyn Clock, random: &dyn Random) -> Result<Self> {
        Self::open_with(path.as_ref(), mode, clock, random, &open::MIGRATIONS).await
    }

    async fn open_with(
        path: &Path,
        mode: OpenMode,
        clock: &dyn Clock,
        random: &dyn Random,
        migrations: &sqlx::migrate::Migrator,
    ) -> Result<Self> {
        let open::Opened { id, writer, readers } = open::open(path, mode, clock, random, migrations).await?;
        Ok(Self { id, store: SqliteStore { path: path.to_owned(), writer, readers } })
    }

    /// Makes the ledger at `path` of what was rebuilt, under the id that the lost one had. It appears whole or not at all. With
    /// `replace`, files that are there are moved aside first, under names with the time; returned are those names. `failpoint` is
    /// called at named points, for faults.
    ///
    /// # Errors
    /// Class operator, naming the file: it is there and is not to be replaced; its folder cannot be written.
    pub async fn rebuild(
        path: impl AsRef<Path>,
        id: Uuid,
        content: &Rebuilt,
        replace: bool,
        (clock, random): (&dyn Clock, &dyn Random),
        failpoint: fn(&str),
    ) -> Result<Vec<PathBuf>> {
        let path = path.as_ref();
        if !replace {
            open::must_be_free(path)?;
        }
        let temporary = open::begin_rebuilt(path, id, clock).await?;
        let filled = async {
            let ledger = Self::open(&temporary, OpenMode::Existing, clock, random).await?;
            let filled = ledger.import(content).await;
            ledger.close().await;
            filled
        };
        if let Err(error) = filled.await {
            open::give_up(&temporary);
            return Err(error);
        }
        failpoint("recover_filled");
        let aside = if replace { open::move_aside(path, clock)? } else { Vec::new() };
        failpoint("recover_moved_aside");
        open::finish_rebuilt(&temporary, path)?;
        tracing::info!(path = %path.display(), ledger = %id, "ledger rebuilt");
        Ok(aside)
    }

    /// Nothing of a ledger is at `path`.
    ///
    /// # Errors
    /// Class operator, naming what is there.
    pub fn must_not_be_there(path: impl AsRef<Path>) -> Result<()> {
        Ok(open::must_be_free(path.as_ref())?)
    }

    /// Whether there is a ledger at `path`, or what is left of one.
    #[must_use]
    pub fn is_there(path: impl AsRef<Path>) -> bool {
        open::files_at(path.as_ref()).iter().any(|file| file.exists())
    }

    /// The host's lease of the ledger at `path`, which need not be there; `None` where a live process has it.
    ///
    /// # Errors
    /// Class operator, where the lock file cannot be made.
    pub fn lease(path: impl AsRef<Path>) -> Result<Option<Box<dyn HostLease>>> {
        Ok(open::lock(path.as_ref())?.map(|file| Box::new(FileLease { _file: file }) as Box<dyn HostLease>))
    }

    /// Who has that lease.
    ///
    /// # Errors
    /// Class operator, where the lock file cannot be read.
    pub fn holder(path: impl AsRef<Path>) -> Result<Option<HostHolder>> {
        Ok(open::holder(path.as_ref())?)
    }
}

impl Store for SqliteStore {
    async fn begin(&self) -> Step<Unit> {
        let writer = self.writer.as_ref().ok_or_else(|| Fault::read_only(&self.path))?;
        Ok(Unit::Sqlite(writer.begin_with("BEGIN IMMEDIATE").await?))
    }

    async fn look(&self) -> Step<Unit> {
        Ok(Unit::Sqlite(self.readers.begin().await?))
    }

    async fn close(&self) {
        self.readers.close().await;
        // The last that closes folds the log in, which takes one that writes.
        if let Some(writer) = &self.writer {
            writer.close().await;
        }
    }

    fn place(&self) -> Place {
        Place::File(self.path.clone())
    }

    fn explain(&self, error: sqlx::Error, action: &'static str) -> LedgerError {
        fault::explain(&self.path, error, action)
    }

    async fn lease(&self) -> Result<Option<Box<dyn HostLease>>> {
        if self.writer.is_none() {
            return Err(Fault::read_only(&self.path).at(&self.path, "taking the host lease").into());
        }
        SqliteLedger::lease(&self.path)
    }

    async fn holder(&self) -> Result<Option<HostHolder>> {
        SqliteLedger::holder(&self.path)
    }
}
