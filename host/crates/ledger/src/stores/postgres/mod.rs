//! The ledger in a schema of a PostgreSQL database.
//!
//! Each writing call is one transaction that locks the ledger's one row first, as SQLite's `BEGIN IMMEDIATE` locks the file: so
//! transactions that write come one after another, and each sees all that was committed before (`READ COMMITTED`, a fresh look for
//! each statement). `SERIALIZABLE` alone would not do: numbers of segments tell the order of landing, and one that is committed
//! after a higher one would lie below the mark that `work` looks behind. Hosts that share a ledger can take that lock shared and
//! one of their pipeline's own, where that order does not matter to them. A host that writes also looks whether it has its place
//! still: see [`lease`]. Reading calls see one state (`REPEATABLE READ`) and wait for nobody.

mod fault;
mod fleet;
mod lease;
mod open;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use forebay_model::Result;
use forebay_model::ports::{Clock, HostHolder, HostLease, HostState, Random, Rebuilt};
use forebay_postgres::PostgresAddress;
use sqlx::postgres::PgConnection;
use sqlx::{PgPool, Postgres, Row as _, Transaction};
use uuid::Uuid;

use self::lease::Share;
use super::OpenMode;
use crate::error::{LedgerError, Place};
use crate::sql::{Fault, SqlLedger, Step, Store, Tables, Unit};

/// The ledger in a schema of a PostgreSQL database.
pub type PostgresLedger = SqlLedger<PostgresStore>;

/// A schema, and the connections to its server.
#[derive(Debug, Clone)]
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
            return Err(LedgerError::Exists { place: place(address) }.into());
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
        let lease = lease::take_place(address).await;
        Ok(lease.map_err(|fault| fault.of(address, "taking the host lease"))?)
    }

    /// Who has that lease.
    ///
    /// # Errors
    /// Where the server does not answer, or refuses.
    pub async fn holder_of(address: &PostgresAddress) -> Result<Option<HostHolder>> {
        let holder = async {
            let mut connection = open::connect(address).await?;
            holder_in(&mut connection, address).await
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
        Fault::Ledger(LedgerError::Unfit { place: place(&self.address), hint, source })
    }

    /// A transaction that writes, with the lock of those who do.
    async fn write(&self) -> Step<Transaction<'static, Postgres>> {
        let writer = self.writer.as_ref().ok_or_else(|| self.read_only())?;
        let mut transaction = writer.begin_with("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE").await?;
        self.lock(&mut transaction).await?;
        Ok(transaction)
    }

    /// The lock of those who write, and whether this process may: a host that has lost its lease may not, nor anybody where another
    /// ledger was put into the place of this one.
    async fn lock(&self, transaction: &mut Transaction<'static, Postgres>) -> Step<()> {
        let row = sqlx::query("SELECT id FROM _ledger FOR UPDATE").fetch_optional(&mut **transaction).await?;
        let id: Option<String> = row.map(|row| row.try_get("id")).transpose()?;
        if id.as_deref().and_then(|id| id.parse().ok()) != Some(self.id) {
            let what = format!("another ledger is at {} now: this process opened {}", self.address, self.id);
            return Err(LedgerError::Fenced(what).into());
        }
        // A statement of its own: one that had waited for the lock would see the hosts as they were before.
        let Some(token) = self.held.token() else { return Ok(()) };
        if fleet::is_in(transaction, &token).await? {
            return Ok(());
        }
        let other = fleet::newest(transaction).await?;
        Err(lease::taken(&self.address, other).into())
    }

    async fn take(&self, share: Share) -> Result<Option<Box<dyn HostLease>>> {
        let lease = async {
            if self.writer.is_none() {
                return Err(self.read_only());
            }
            lease::take(self, share).await
        };
        Ok(lease.await.map_err(|fault| fault.of(&self.address, "taking the host lease"))?)
    }
}

/// The live process that answers who asks, and what it wrote of itself.
/// For errors.
fn place(address: &PostgresAddress) -> Place {
    Place::Schema(address.to_string())
}

async fn holder_in(connection: &mut PgConnection, address: &PostgresAddress) -> Step<Option<HostHolder>> {
    let Some(session) = fleet::session(connection, address.schema()).await? else { return Ok(None) };
    if !matches!(open::look(connection, address).await?, open::Found::Ledger(_)) {
        return Ok(Some(session));
    }
    let mut hosts = fleet::hosts(connection, address.schema()).await?;
    let leader = hosts.iter().position(HostState::leads).unwrap_or_default();
    Ok(Some(if leader < hosts.len() { hosts.swap_remove(leader).holder } else { session }))
}

impl Store for PostgresStore {
    async fn begin(&self) -> Step<Unit> {
        Ok(Unit::Postgres(self.write().await?, Tables::clone(&self.tables)))
    }

    async fn look(&self) -> Step<Unit> {
        let transaction = self.readers.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        Ok(Unit::Postgres(transaction, Tables::clone(&self.tables)))
    }

    async fn close(&self) {
        self.readers.close().await;
        if let Some(writer) = &self.writer {
            writer.close().await;
        }
    }

    fn place(&self) -> Place {
        place(&self.address)
    }

    fn explain(&self, error: sqlx::Error, action: &'static str) -> LedgerError {
        fault::explain(&self.address, error, action)
    }

    async fn lease(&self) -> Result<Option<Box<dyn HostLease>>> {
        self.take(Share::Alone).await
    }

    async fn join(&self) -> Result<Option<Box<dyn HostLease>>> {
        self.take(Share::Others).await
    }

    async fn holder(&self) -> Result<Option<HostHolder>> {
        self.held.settled().await;
        let holder = async { holder_in(&mut *self.readers.acquire().await?, &self.address).await };
        Ok(holder.await.map_err(|fault| fault.of(&self.address, "looking who has the host lease"))?)
    }

    async fn hosts(&self) -> Result<Vec<HostState>> {
        self.held.settled().await;
        let hosts = async { fleet::hosts(&mut *self.readers.acquire().await?, self.address.schema()).await };
        Ok(hosts.await.map_err(|fault| fault.of(&self.address, "looking which hosts there are"))?)
    }
}
