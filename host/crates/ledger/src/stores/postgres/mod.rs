//! The ledger in a schema of a PostgreSQL database.
//!
//! Each writing call is one transaction that locks the ledger's one row first, as SQLite's `BEGIN IMMEDIATE` locks the file: so
//! transactions that write come one after another, and each sees all that was committed before (`READ COMMITTED`, a fresh look for
//! each statement). `SERIALIZABLE` alone would not do: numbers of segments tell the order of landing, and one that is committed
//! after a higher one would lie below the mark that `work` looks behind. Hosts that share a ledger can take that lock shared and
//! one of their pipeline's own, where that order does not matter to them. The row also tells which host has the ledger: see
//! [`lease`]. Reading calls see one state (`REPEATABLE READ`) and wait for nobody.

mod address;
mod fault;
mod lease;
mod open;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use forebay_model::Result;
use forebay_model::ports::{Clock, HostHolder, HostLease, Random, Rebuilt};
use sqlx::{PgPool, Postgres, Row as _, Transaction};
use uuid::Uuid;

pub use self::address::PostgresAddress;
use super::OpenMode;
use crate::error::{LedgerError, Place};
use crate::sql::{Fault, SqlLedger, Step, Store, Tables, Unit};

/// The ledger in a schema of a PostgreSQL database.
pub type PostgresLedger = SqlLedger<PostgresStore>;

/// A schema, and the connections to its server.
#[derive(Debug)]
pub struct PostgresStore {
    address: PostgresAddress,
    id: Uuid,
    writer: Option<PgPool>,
    readers: PgPool,
    tables: Tables,
    held: Arc<lease::Held>,
}

impl PostgresLedger {
    /// Opens the ledger at `address`; `clock` and `random` are asked when it is made. An older schema is migrated.
    ///
    /// # Errors
    /// Class operator, naming the place and what to do: it is missing, damaged, of a newer schema version, or of an older one while
    /// it must not be migrated (opened to be read, or held by a running host); user, password, database or rights are wrong.
    /// Class retry, where the server does not answer.
    pub async fn open(
        address: &PostgresAddress,
        mode: OpenMode,
        clock: &dyn Clock,
        random: &dyn Random,
    ) -> Result<Self> {
        Self::open_with(address, mode, clock, random, &open::MIGRATIONS).await
    }

    async fn open_with(
        address: &PostgresAddress,
        mode: OpenMode,
        clock: &dyn Clock,
        random: &dyn Random,
        migrations: &sqlx::migrate::Migrator,
    ) -> Result<Self> {
        let open::Opened { id, writer, readers, tables } = open::open(address, mode, clock, random, migrations).await?;
        let store = PostgresStore { address: address.clone(), id, writer, readers, tables, held: Arc::default() };
        Ok(Self { id, store })
    }

    /// Makes the ledger at `address` of what was rebuilt, under the id that the lost one had. It appears whole or not at all. With
    /// `replace`, a schema that is there gets another name, with the time; returned is its place. `failpoint` is called at named
    /// points, for faults.
    ///
    /// # Errors
    /// Class fenced: it is there and is not to be replaced. Class operator: rights are missing.
    pub async fn rebuild(
        address: &PostgresAddress,
        id: Uuid,
        content: &Rebuilt,
        replace: bool,
        clock: &dyn Clock,
        failpoint: fn(&str),
    ) -> Result<Option<String>> {
        let aside = open::rebuild(address, (id, clock), content, replace, failpoint).await;
        let aside = aside.map_err(|fault| fault.of(address, "rebuilding it"))?;
        tracing::info!(at = %address, ledger = %id, "ledger rebuilt");
        Ok(aside.map(|schema| address.beside(&schema)))
    }

    /// Nothing is in the schema.
    ///
    /// # Errors
    /// Class fenced, where something is; class retry, where the server does not answer.
    pub async fn must_not_be_there(address: &PostgresAddress) -> Result<()> {
        if Self::is_there(address).await? {
            return Err(LedgerError::Exists { place: address.place() }.into());
        }
        Ok(())
    }

    /// Whether there is a ledger at `address`, or what is left of one.
    ///
    /// # Errors
    /// Where the server does not answer, or refuses.
    pub async fn is_there(address: &PostgresAddress) -> Result<bool> {
        let found = async {
            let mut connection = open::connect(address).await?;
            open::look(&mut connection, address).await
        };
        let found = found.await.map_err(|fault| fault.of(address, "looking for it"))?;
        Ok(matches!(found, open::Found::Ledger(_)))
    }

    /// The host's lease of the ledger at `address`, which need not be there; `None` where a live process has it.
    ///
    /// # Errors
    /// Where the server does not answer, or refuses.
    pub async fn lease_of(address: &PostgresAddress) -> Result<Option<Box<dyn HostLease>>> {
        let lease = lease::take(address, &Arc::default(), false).await;
        Ok(lease.map_err(|fault| fault.of(address, "taking the host lease"))?)
    }

    /// Who has that lease.
    ///
    /// # Errors
    /// Where the server does not answer, or refuses.
    pub async fn holder_of(address: &PostgresAddress) -> Result<Option<HostHolder>> {
        let holder = async {
            let mut connection = open::connect(address).await?;
            lease::holder(&mut connection, address).await
        };
        Ok(holder.await.map_err(|fault| fault.of(address, "looking who has the host lease"))?)
    }

    /// Closes its connections. Dropping it loses nothing either.
    pub async fn close(&self) {
        self.store.readers.close().await;
        if let Some(writer) = &self.store.writer {
            writer.close().await;
        }
    }
}

impl PostgresStore {
    fn read_only(&self) -> Fault {
        let source = std::io::Error::new(std::io::ErrorKind::ReadOnlyFilesystem, "it was opened to be read only");
        let hint = "this is a bug of the verb: it opened the ledger to read".to_owned();
        Fault::Ledger(LedgerError::Unfit { place: self.address.place(), hint, source })
    }

    /// The lock of those who write, and whether this process may: a host that has lost its lease may not, nor anybody where another
    /// ledger was put into the place of this one.
    async fn lock(&self, transaction: &mut Transaction<'static, Postgres>) -> Step<()> {
        let row =
            sqlx::query("SELECT id, host_lease FROM _ledger FOR UPDATE").fetch_optional(&mut **transaction).await?;
        let (id, lease): (Option<String>, Option<String>) = match row {
            Some(row) => (row.try_get("id")?, row.try_get("host_lease")?),
            None => (None, None),
        };
        if id.as_deref().and_then(|id| id.parse().ok()) != Some(self.id) {
            let what = format!("another ledger is at {} now: this process opened {}", self.address, self.id);
            return Err(LedgerError::Fenced(what).into());
        }
        let mine = self.held.token();
        if mine.is_none() || mine == lease {
            return Ok(());
        }
        let other = lease::written(transaction).await?;
        Err(lease::taken(&self.address, other).into())
    }
}

impl Store for PostgresStore {
    async fn begin(&self) -> Step<Unit> {
        let writer = self.writer.as_ref().ok_or_else(|| self.read_only())?;
        let mut transaction = writer.begin_with("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE").await?;
        self.lock(&mut transaction).await?;
        Ok(Unit::Postgres(transaction, Tables::clone(&self.tables)))
    }

    async fn look(&self) -> Step<Unit> {
        let transaction = self.readers.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        Ok(Unit::Postgres(transaction, Tables::clone(&self.tables)))
    }

    fn place(&self) -> Place {
        self.address.place()
    }

    fn explain(&self, error: sqlx::Error, action: &'static str) -> LedgerError {
        fault::explain(&self.address, error, action)
    }

    async fn lease(&self) -> Result<Option<Box<dyn HostLease>>> {
        let lease = async {
            if self.writer.is_none() {
                return Err(self.read_only());
            }
            lease::take(&self.address, &self.held, true).await
        };
        Ok(lease.await.map_err(|fault| fault.of(&self.address, "taking the host lease"))?)
    }

    async fn holder(&self) -> Result<Option<HostHolder>> {
        self.held.settled().await;
        let holder = async { lease::holder(&mut *self.readers.acquire().await?, &self.address).await };
        Ok(holder.await.map_err(|fault| fault.of(&self.address, "looking who has the host lease"))?)
    }
}
