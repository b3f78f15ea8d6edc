//! The same stories over the real SQLite, the real zone on disk and real Delta tables.
//!
//! A process that dies leaves what it had given to the system: the files of SQLite and of the zone are as they were at that call.
//! For the warehouse the power goes with it: [`ForgetfulDisk`] forgets the bytes and the names that nobody synced. Threads of the
//! system take part, so here a seed's story is nearly the same each time, not quite.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use arrow_array::RecordBatch;
use async_trait::async_trait;
use forebay_landing::DiskZone;
use forebay_ledger::{OpenMode, SqliteLedger};
use forebay_model::Result;
use forebay_model::ports::Ledger;
use forebay_warehouse::files::{Disk, LocalDisk};
use forebay_warehouse::{DeltaOptions, DeltaWarehouse};
use tempfile::TempDir;

use super::clock::SimClock;
use super::faults::SimRandom;
use super::storage::{Storage, Stores};
use super::world::{as_clock, run};
use super::{setting, tell_of};

/// Ledger, zone and warehouse in a folder.
struct Real {
    folder: TempDir,
    clock: Arc<SimClock>,
    random: Arc<SimRandom>,
    /// What the living process has open.
    open: Mutex<Option<Opened>>,
}

#[derive(Clone)]
struct Opened {
    ledger: Arc<SqliteLedger>,
    zone: Arc<DiskZone>,
    lake: Arc<DeltaWarehouse>,
    disk: Arc<ForgetfulDisk>,
}

impl Real {
    fn new(clock: &Arc<SimClock>, random: &Arc<SimRandom>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder, clock: Arc::clone(clock), random: Arc::clone(random), open: Mutex::default() }
    }

    /// On a thread of its own: the future of opening does not move between threads.
    fn ledger(&self) -> Result<SqliteLedger> {
        let runtime = tokio::runtime::Handle::current();
        let (path, clock) = (self.folder.path().join("forebay.db"), as_clock(&self.clock));
        std::thread::scope(|scope| {
            let work =
                || runtime.block_on(SqliteLedger::open(path, OpenMode::Create, clock.as_ref(), self.random.as_ref()));
            scope.spawn(work).join().unwrap()
        })
    }

    fn opened(&self) -> Result<Opened> {
        if let Some(opened) = self.open.lock().unwrap().clone() {
            return Ok(opened);
        }
        let (folder, clock) = (self.folder.path(), as_clock(&self.clock));
        let disk = Arc::new(ForgetfulDisk::default());
        let options = DeltaOptions {
            checkpoint_interval: 5,
            disk: disk.clone(),
            ..DeltaOptions::new(Arc::clone(&clock), self.random.clone())
        };
        let opened = Opened {
            ledger: Arc::new(self.ledger()?),
            zone: Arc::new(DiskZone::open(folder.join("zone"), self.random.clone())?),
            lake: Arc::new(DeltaWarehouse::open(folder.join("lake"), options)?),
            disk,
        };
        *self.open.lock().unwrap() = Some(opened.clone());
        Ok(opened)
    }
}

#[async_trait]
impl Storage for Real {
    async fn open(&self) -> Result<Stores> {
        let Opened { ledger, zone, lake, disk: _ } = self.opened()?;
        Ok(Stores { ledger: ledger as Arc<dyn Ledger>, zone, lake })
    }

    fn dying(&self) {
        if let Some(opened) = &*self.open.lock().unwrap() {
            opened.disk.off();
        }
    }

    fn ended(&self, died: bool) {
        // The next process opens everything anew: what these remember goes with their process.
        let opened = self.open.lock().unwrap().take();
        if let Some(opened) = opened.filter(|_| died) {
            opened.disk.lose();
        }
    }

    async fn rows(&self, table: &str) -> Option<RecordBatch> {
        self.opened().unwrap().lake.rows(table).await.unwrap()
    }

    async fn staged(&self, _: &str) -> Vec<String> {
        // Delta's maintenance goes by the times of files, which are the system's and not the simulation's.
        Vec::new()
    }
}

/// A disk whose power can be cut: what was not synced by then is lost, in the worst way that a file system may.
#[derive(Debug, Default)]
struct ForgetfulDisk {
    off: AtomicBool,
    unsynced: Mutex<Unsynced>,
}

#[derive(Debug, Default)]
struct Unsynced {
    /// Files whose bytes may be lost, by inode, since a link gives a file another name.
    bytes: BTreeMap<u64, PathBuf>,
    /// Names that may be lost.
    names: BTreeSet<PathBuf>,
}

fn inode(path: &Path) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    Ok(std::fs::metadata(path)?.ino())
}

impl ForgetfulDisk {
    /// From here on nothing reaches the disk.
    fn off(&self) {
        self.off.store(true, Ordering::SeqCst);
    }

    /// Loses what was not synced: bytes become none, names go.
    fn lose(&self) {
        self.off();
        let Unsynced { bytes, names } = std::mem::take(&mut *self.unsynced.lock().unwrap());
        for path in bytes.values().filter(|path| path.exists()) {
            File::options().write(true).open(path).unwrap().set_len(0).unwrap();
        }
        for path in names.iter().rev() {
            // What has gone already is gone.
            let _ = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
        }
    }

    fn powered(&self) -> io::Result<()> {
        if self.off.load(Ordering::SeqCst) { Err(io::Error::other("the power is cut")) } else { Ok(()) }
    }
}

impl Disk for ForgetfulDisk {
    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        if folder.is_dir() {
            return Ok(());
        }
        let parent = folder.parent().unwrap();
        self.create_folder(parent)?;
        self.powered()?;
        match std::fs::create_dir(folder) {
            Ok(()) => {
                self.unsynced.lock().unwrap().names.insert(folder.to_owned());
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        self.sync_folder(parent)
    }

    fn create(&self, path: &Path) -> io::Result<File> {
        self.create_folder(path.parent().unwrap())?;
        self.powered()?;
        let file = LocalDisk.create(path)?;
        let mut unsynced = self.unsynced.lock().unwrap();
        unsynced.bytes.insert(inode(path)?, path.to_owned());
        unsynced.names.insert(path.to_owned());
        Ok(file)
    }

    fn sync(&self, _: &File, path: &Path) -> io::Result<()> {
        self.powered()?;
        self.unsynced.lock().unwrap().bytes.remove(&inode(path)?);
        Ok(())
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.powered()?;
        self.unsynced.lock().unwrap().names.retain(|name| name.parent() != Some(folder));
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.powered()?;
        LocalDisk.link(from, to)?;
        self.named(to)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.powered()?;
        LocalDisk.rename(from, to)?;
        self.unsynced.lock().unwrap().names.remove(from);
        self.named(to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.powered()?;
        LocalDisk.remove(path)
    }
}

impl ForgetfulDisk {
    fn named(&self, path: &Path) -> io::Result<()> {
        let inode = inode(path)?;
        let mut unsynced = self.unsynced.lock().unwrap();
        if let Some(known) = unsynced.bytes.get_mut(&inode) {
            path.clone_into(known);
        }
        unsynced.names.insert(path.to_owned());
        Ok(())
    }
}

fn real(_: u64, clock: &Arc<SimClock>, random: &Arc<SimRandom>) -> Box<dyn Storage> {
    Box::new(Real::new(clock, random))
}

/// `FOREBAY_REAL_SEEDS` seeds, 20 unless set, from `FOREBAY_FIRST_SEED`, 0 unless set.
#[test]
fn sqlite_and_delta_keep_what_they_answered_for_whatever_goes_wrong() {
    let (count, first) = (setting("FOREBAY_REAL_SEEDS").unwrap_or(20), setting("FOREBAY_FIRST_SEED").unwrap_or(0));
    let mut deaths = 0;
    for seed in first..first + count {
        let outcome = run(seed, true, real);
        deaths += outcome.deaths;
        if !outcome.violations.is_empty() {
            let again = format!(
                "FOREBAY_FIRST_SEED={seed} FOREBAY_REAL_SEEDS=1 cargo test --workspace --test suite simulation::real"
            );
            tell_of(seed, &outcome, &again);
        }
    }
    println!("{count} seeds from {first} over SQLite and Delta, {deaths} deaths of processes");
}
