//! Opening the file: a ledger appears whole or not at all, is checked, and is migrated with a copy kept.

use std::fs::{File, TryLockError};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use forebay_model::Timestamp;
use forebay_model::ports::{Clock, HostHolder, Random};
use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row, SqlitePool};
use uuid::Uuid;

use crate::error::{LedgerError, Place, Result};
use crate::sql::{Fault, Step};
use crate::stores::OpenMode;

/// The migrations that this forebay knows.
pub(super) static MIGRATIONS: Migrator = sqlx::migrate!();

/// How long a writer waits for another process's transaction.
pub(super) const BUSY: Duration = Duration::from_secs(30);
/// Up to this size the whole file is checked when it is opened (about a tenth of a second); a larger one as it is read.
const CHECKED_BYTES: u64 = 64 << 20;

/// How often the lock is tried where it is taken, and the pause between.
const LOCK_ATTEMPTS: u32 = 4;
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// What [`open`] found.
pub(super) struct Opened {
    pub(super) id: Uuid,
    pub(super) writer: Option<SqlitePool>,
    pub(super) readers: SqlitePool,
}

/// The path with something behind its name: `forebay.db-wal`, `forebay.db.lock`.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

pub(super) async fn open(
    path: &Path,
    mode: OpenMode,
    clock: &dyn Clock,
    random: &dyn Random,
    migrations: &Migrator,
) -> Result<Opened> {
    match std::fs::metadata(path) {
        Ok(found) if found.len() == 0 => {
            return Err(LedgerError::Damaged { place: at(path), what: "the file is empty".to_owned() });
        }
        Ok(found) => check(path, found.len()).await.map_err(|fault| fault.at(path, "checking it"))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => match mode {
            OpenMode::Create => make(path, clock, random, migrations).await?,
            OpenMode::Existing | OpenMode::ReadOnly => return Err(LedgerError::Missing { place: at(path) }),
        },
        Err(source) => return Err(file(path, "looking for it", source)),
    }
    migrate(path, mode, migrations).await?;
    connect(path, mode).await.map_err(|fault| fault.at(path, "opening it"))
}

/// Makes a new ledger under a temporary name and links it into place, so that a crash leaves none or a whole one.
async fn make(path: &Path, clock: &dyn Clock, random: &dyn Random, migrations: &Migrator) -> Result<()> {
    let log = beside(path, "-wal");
    if log.exists() {
        return Err(LedgerError::LogWithoutLedger { path: path.to_owned(), log });
    }
    let id = random.uuid();
    let temporary = beside(path, &format!(".new-{id}"));
    let filled = fill(&temporary, id, clock, migrations).await.map_err(|fault| fault.at(path, "making it"));
    let placed = filled.and_then(|()| place(&temporary, path));
    // It was linked or is of no use; a leftover does no harm.
    let _ = std::fs::remove_file(&temporary);
    placed?;
    tracing::info!(path = %path.display(), ledger = %id, "ledger made");
    Ok(())
}

async fn fill(temporary: &Path, id: Uuid, clock: &dyn Clock, migrations: &Migrator) -> Step<()> {
    let mut connection = options(temporary).create_if_missing(true).connect().await?;
    migrations.run(&mut connection).await?;
    sqlx::query("INSERT INTO _ledger (id, created_at) VALUES (?, ?)")
        .bind(id.to_string())
        .bind(clock.now().as_micros())
        .execute(&mut connection)
        .await?;
    // The last connection that closes folds the log into the file.
    connection.close().await?;
    Ok(())
}

fn place(temporary: &Path, path: &Path) -> Result<()> {
    match link(temporary, path) {
        // Another process was faster: its ledger is the one.
        Err(LedgerError::Exists { .. }) => sync_folder(path),
        linked => linked,
    }
}

fn link(temporary: &Path, path: &Path) -> Result<()> {
    File::open(temporary).and_then(|made| made.sync_all()).map_err(|source| file(path, "syncing it", source))?;
    match std::fs::hard_link(temporary, path) {
        Ok(()) => sync_folder(path),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Err(LedgerError::Exists { place: at(path) }),
        Err(source) => Err(file(path, "putting it into place", source)),
    }
}

/// The files of a ledger: itself, its log, what readers share.
pub(super) fn files_at(path: &Path) -> [PathBuf; 3] {
    ["", "-wal", "-shm"].map(|suffix| beside(path, suffix))
}

/// Nothing of a ledger is there.
pub(super) fn must_be_free(path: &Path) -> Result<()> {
    let [ledger, log, _] = files_at(path);
    if ledger.exists() {
        return Err(LedgerError::Exists { place: Place::File(ledger) });
    }
    if log.exists() { Err(LedgerError::LogWithoutLedger { path: ledger, log }) } else { Ok(()) }
}

/// An empty ledger of that id, under a temporary name.
pub(super) async fn begin_rebuilt(path: &Path, id: Uuid, clock: &dyn Clock) -> Result<PathBuf> {
    let temporary = beside(path, &format!(".new-{id}"));
    // What an attempt before this one left.
    give_up(&temporary);
    let filled = fill(&temporary, id, clock, &MIGRATIONS).await.map_err(|fault| fault.at(path, "making it"));
    if let Err(error) = filled {
        give_up(&temporary);
        return Err(error);
    }
    Ok(temporary)
}

/// Removes a ledger that was begun; a leftover does no harm.
pub(super) fn give_up(temporary: &Path) {
    for file in files_at(temporary).iter().chain([&beside(temporary, ".lock")]) {
        let _ = std::fs::remove_file(file);
    }
}

/// Puts a rebuilt ledger into place.
pub(super) fn finish_rebuilt(temporary: &Path, path: &Path) -> Result<()> {
    let linked = link(temporary, path);
    give_up(temporary);
    linked
}

/// Gives the files of a ledger other names. The log goes last: a log beside no ledger is refused, where a ledger without its
/// last transactions would be taken for the whole.
pub(super) fn move_aside(path: &Path, clock: &dyn Clock) -> Result<Vec<PathBuf>> {
    let aside = beside(path, &clock.now().to_utc().format(".replaced-%Y%m%dT%H%M%S%.6fZ").to_string());
    let mut moved = Vec::new();
    for (from, to) in files_at(path).into_iter().zip(files_at(&aside)) {
        if to.exists() {
            return Err(LedgerError::Exists { place: Place::File(to) });
        }
        match std::fs::rename(&from, &to) {
            Ok(()) => moved.push(to),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => return Err(file(&from, "moving it aside", source)),
        }
    }
    sync_folder(path)?;
    Ok(moved)
}

fn sync_folder(path: &Path) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|source| file(path, "syncing its folder", source))
}

async fn check(path: &Path, bytes: u64) -> Step<()> {
    let mut connection = reading(path).connect().await?;
    let known: i64 = sqlx::query("SELECT count(*) FROM sqlite_schema WHERE name IN ('_ledger', '_sqlx_migrations')")
        .fetch_one(&mut connection)
        .await?
        .try_get(0)?;
    if known != 2 {
        let what = "it is an SQLite file that forebay did not make".to_owned();
        return Err(LedgerError::Damaged { place: at(path), what }.into());
    }
    // SQLite takes what is missing of the last page for zeros. While there is a log, the page is read from there.
    let page: i64 = sqlx::query("PRAGMA page_size").fetch_one(&mut connection).await?.try_get(0)?;
    let logged = std::fs::metadata(beside(path, "-wal")).is_ok_and(|log| log.len() > 0);
    if !logged && u64::try_from(page).is_ok_and(|page| page > 0 && !bytes.is_multiple_of(page)) {
        let what = format!("its {bytes} bytes end within a page of {page}: it was cut off");
        return Err(LedgerError::Damaged { place: at(path), what }.into());
    }
    if bytes <= CHECKED_BYTES {
        let found: String = sqlx::query("PRAGMA quick_check(1)").fetch_one(&mut connection).await?.try_get(0)?;
        if found != "ok" {
            return Err(LedgerError::Damaged { place: at(path), what: found }.into());
        }
    }
    connection.close().await?;
    Ok(())
}

async fn migrate(path: &Path, mode: OpenMode, migrations: &Migrator) -> Result<()> {
    let found = version(path).await.map_err(|fault| fault.at(path, "reading its schema version"))?;
    let known = migrations.iter().map(|migration| migration.version).max().unwrap_or(0);
    let place = at(path);
    if found > known {
        return Err(LedgerError::Newer { place, found, known });
    }
    if found == known {
        return Ok(());
    }
    if mode == OpenMode::ReadOnly {
        return Err(LedgerError::Older { place, found, known, why: "was opened to be read only" });
    }
    // While a host of the older version runs, its tables may not change under it.
    let Some(_lease) = lock(path)? else {
        return Err(LedgerError::Older { place, found, known, why: "a running forebay holds it" });
    };
    let kept = upgrade(path, found, migrations).await.map_err(|fault| fault.at(path, "migrating it"))?;
    tracing::info!(path = %path.display(), from = found, to = known, backup = %kept.display(), "ledger migrated");
    Ok(())
}

async fn version(path: &Path) -> Step<i64> {
    let mut connection = reading(path).connect().await?;
    let row = sqlx::query("SELECT coalesce(max(version), 0) FROM _sqlx_migrations WHERE success")
        .fetch_one(&mut connection)
        .await?;
    let version = row.try_get(0)?;
    connection.close().await?;
    Ok(version)
}

/// Copies the ledger to `<path>.v<version>.backup`, then migrates it.
async fn upgrade(path: &Path, from: i64, migrations: &Migrator) -> Step<PathBuf> {
    let copy = beside(path, &format!(".v{from}.backup"));
    let temporary = beside(path, &format!(".v{from}.backup.tmp"));
    let mut connection = options(path).connect().await?;
    // A copy that an attempt before this one left half done.
    match std::fs::remove_file(&temporary) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(source) => return Err(file(&temporary, "removing an unfinished backup", source).into()),
    }
    backup(&mut connection, &temporary).await?;
    File::open(&temporary)
        .and_then(|made| made.sync_all())
        .and_then(|()| std::fs::rename(&temporary, &copy))
        .map_err(|source| file(&copy, "writing the backup", source))?;
    sync_folder(path)?;
    migrations.run(&mut connection).await?;
    connection.close().await?;
    Ok(copy)
}

async fn backup(connection: &mut SqliteConnection, to: &Path) -> Step<()> {
    // VACUUM INTO takes an expression, and a name may hold a quote.
    let quoted = to.to_string_lossy().replace('\'', "''");
    sqlx::query(AssertSqlSafe(format!("VACUUM INTO '{quoted}'"))).execute(connection).await?;
    Ok(())
}

async fn connect(path: &Path, mode: OpenMode) -> Step<Opened> {
    let readers = SqlitePoolOptions::new().max_connections(4).connect_with(reading(path)).await?;
    let writer = match mode {
        OpenMode::ReadOnly => None,
        OpenMode::Create | OpenMode::Existing => {
            // Where the disk is full SQLite rolls back by itself, and the connection takes its transaction for open ever after.
            let writers = SqlitePoolOptions::new()
                .max_connections(1)
                .before_acquire(|connection, _| Box::pin(async move { Ok(!connection.is_in_transaction()) }));
            Some(writers.connect_with(options(path)).await?)
        }
    };
    let id: String = sqlx::query("SELECT id FROM _ledger").fetch_one(&readers).await?.try_get(0)?;
    let id =
        id.parse().map_err(|_| LedgerError::Damaged { place: at(path), what: "its id is not a UUID".to_owned() })?;
    Ok(Opened { id, writer, readers })
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY)
        .disable_statement_logging()
}

fn reading(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new().filename(path).read_only(true).busy_timeout(BUSY).disable_statement_logging()
}

/// The lock of a ledger lies beside the file that it is, by whatever link it was named.
fn lock_name(path: &Path) -> PathBuf {
    beside(&std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()), ".lock")
}

/// The lock that the host holds: the system gives it back when the process dies.
pub(super) fn lock(path: &Path) -> Result<Option<File>> {
    let name = lock_name(path);
    let mut lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&name)
        .map_err(|source| file(&name, "opening the lock file", source))?;
    for attempt in 1..=LOCK_ATTEMPTS {
        match lock.try_lock() {
            Ok(()) => {
                // For people only: who is refused is told who has it. The lock is the lock.
                let written = lock.set_len(0).and_then(|()| lock.write_all(std::process::id().to_string().as_bytes()));
                if let Err(error) = written {
                    tracing::debug!(path = %name.display(), %error, "the lock file does not tell the process");
                }
                return Ok(Some(lock));
            }
            // Who only looks ([`holder`]) has it for an instant.
            Err(TryLockError::WouldBlock) if attempt < LOCK_ATTEMPTS => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::WouldBlock) => break,
            Err(TryLockError::Error(source)) => return Err(file(&name, "taking the lock", source)),
        }
    }
    Ok(None)
}

/// The live process that has the lock.
pub(super) fn holder(path: &Path) -> Result<Option<HostHolder>> {
    let name = lock_name(path);
    let lock = match File::open(&name) {
        Ok(lock) => lock,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(file(&name, "opening the lock file", source)),
    };
    match lock.try_lock_shared() {
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => {
            let process = std::fs::read_to_string(&name).ok().and_then(|text| text.trim().parse().ok());
            let since = lock.metadata().and_then(|found| found.modified());
            let since = since.map_err(|source| file(&name, "looking at the lock file", source))?;
            Ok(Some(HostHolder { process, host: None, since: Timestamp::from_system(since) }))
        }
        Err(TryLockError::Error(source)) => Err(file(&name, "looking at the lock", source)),
    }
}

/// Where a file is, for an error.
fn at(path: &Path) -> Place {
    Place::File(path.to_owned())
}

pub(super) fn file(path: &Path, action: &'static str, source: std::io::Error) -> LedgerError {
    LedgerError::File { path: path.to_owned(), action, source }
}

impl Fault {
    /// For a ledger that was opened to be read.
    pub(super) fn read_only(path: &Path) -> Self {
        Self::Ledger(file(
            path,
            "writing",
            std::io::Error::new(std::io::ErrorKind::ReadOnlyFilesystem, "it was opened to be read only"),
        ))
    }
}
