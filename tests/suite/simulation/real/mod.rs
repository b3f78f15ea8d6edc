//! The same stories over the real SQLite, the real zone on disk and real Delta tables.
//!
//! Where a process dies the power goes with it. Zone and warehouse stand on one [`ForgetfulDisk`], SQLite on a [`Power`] of its
//! own: both forget what nobody synced, some of it or all. Threads of the system take part, so here a seed's story is nearly
//! the same each time, not quite.

mod bugs;
mod sqlite;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use arrow_array::RecordBatch;
use async_trait::async_trait;
use forebay_disk::{Disk, ForgetfulDisk, Left, Lie};
use forebay_landing::DiskZone;
use forebay_ledger::{OpenMode, SqliteLedger};
use forebay_model::Result;
use forebay_model::ports::{Clock as _, Ledger, Random, Rebuilt, Warehouse as _};
use forebay_warehouse::{DeltaOptions, DeltaWarehouse};
use tempfile::TempDir;
use uuid::Uuid;

use self::sqlite::Power;
use super::clock::SimClock;
use super::faults::SimRandom;
use super::storage::{Storage, Stores};
use super::tally::Tally;
use super::world::{as_clock, run};
use super::{setting, tell_of};

/// What is answered and not done.
#[derive(Debug, Clone, Copy, Default)]
struct Bug {
    /// By the disk of zone and warehouse.
    lie: Option<Lie>,
    /// By the disk of the ledger: its log is not synced.
    deaf: bool,
}

/// Ledger, zone and warehouse in a folder.
struct Real {
    folder: TempDir,
    clock: Arc<SimClock>,
    random: Arc<SimRandom>,
    bug: Bug,
    machine: Mutex<Machine>,
    /// What the living process has open.
    open: Mutex<Option<Opened>>,
}

/// What is there from one power cut to the next.
#[derive(Debug)]
struct Machine {
    disk: Arc<ForgetfulDisk>,
    ledger: PathBuf,
    power: Arc<Power>,
    cuts: u32,
}

impl Machine {
    fn new(ledger: PathBuf, bug: Bug, cuts: u32) -> Self {
        let disk = bug.lie.map_or_else(ForgetfulDisk::default, ForgetfulDisk::lying);
        Self { disk: Arc::new(disk), power: Power::of(&ledger, bug.deaf), ledger, cuts }
    }

    fn off(&self) {
        self.disk.off();
        self.power.off();
    }
}

#[derive(Clone)]
struct Opened {
    ledger: Arc<SqliteLedger>,
    zone: Arc<DiskZone>,
    lake: Arc<DeltaWarehouse>,
}

impl Real {
    fn new(clock: &Arc<SimClock>, random: &Arc<SimRandom>, bug: Bug) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ledger = folder.path().join("ledger-0");
        std::fs::create_dir(&ledger).unwrap();
        let machine = Mutex::new(Machine::new(ledger, bug, 0));
        let (clock, random) = (Arc::clone(clock), Arc::clone(random));
        Self { folder, clock, random, bug, machine, open: Mutex::default() }
    }

    /// On a thread of its own: the future of opening does not move between threads.
    fn ledger(&self, folder: &Path) -> Result<SqliteLedger> {
        let runtime = tokio::runtime::Handle::current();
        let (path, clock) = (folder.join("forebay.db"), as_clock(&self.clock));
        std::thread::scope(|scope| {
            let work =
                || runtime.block_on(SqliteLedger::open(path, OpenMode::Create, clock.as_ref(), self.random.as_ref()));
            scope.spawn(work).join().unwrap()
        })
    }

    fn zone_folder(&self) -> PathBuf {
        self.folder.path().join("zone")
    }

    fn lake_folder(&self) -> PathBuf {
        self.folder.path().join("lake")
    }

    fn opened(&self) -> Result<Opened> {
        if let Some(opened) = self.open.lock().unwrap().clone() {
            return Ok(opened);
        }
        let (disk, ledger) = {
            let machine = self.machine.lock().unwrap();
            (Arc::clone(&machine.disk) as Arc<dyn Disk>, machine.ledger.clone())
        };
        let options = DeltaOptions {
            checkpoint_interval: 5,
            disk: Arc::clone(&disk),
            ..DeltaOptions::new(as_clock(&self.clock), self.random.clone())
        };
        let opened = Opened {
            ledger: Arc::new(self.ledger(&ledger)?),
            zone: Arc::new(DiskZone::open_on(disk, self.zone_folder(), self.random.clone())?),
            lake: Arc::new(DeltaWarehouse::open(self.lake_folder(), options)?),
        };
        *self.open.lock().unwrap() = Some(opened.clone());
        Ok(opened)
    }

    /// The ledger lies in another folder from now on: nobody died, so disk and zone are as they are.
    fn moved(&self, ledger: PathBuf) {
        drop(self.open.lock().unwrap().take());
        let mut machine = self.machine.lock().unwrap();
        machine.cuts += 1;
        machine.power = Power::of(&ledger, self.bug.deaf);
        machine.ledger = ledger;
    }

    /// One cut of two takes all that it can, the others some.
    fn cut(&self) {
        let mut machine = self.machine.lock().unwrap();
        let mut rng = fastrand::Rng::with_seed(self.random.bits());
        let all = rng.bool();
        let mut left = || if all { Left::Nothing } else { [Left::Nothing, Left::Half, Left::All][rng.usize(0..3)] };
        machine.disk.lose(&mut left).unwrap();
        let cuts = machine.cuts + 1;
        let ledger = self.folder.path().join(format!("ledger-{cuts}"));
        machine.power.lose(&ledger, left);
        *machine = Machine::new(ledger, self.bug, cuts);
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        Power::forget(&self.folder.path().canonicalize().unwrap());
    }
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(self::files(&path)) } else { files.push(path) }
    }
    files
}

#[async_trait]
impl Storage for Real {
    async fn open(&self) -> Result<Stores> {
        let Opened { ledger, zone, lake } = self.opened()?;
        Ok(Stores { ledger: ledger as Arc<dyn Ledger>, zone, lake, model: None })
    }

    fn dying(&self) {
        self.machine.lock().unwrap().off();
    }

    fn ended(&self, died: bool) {
        // The next process opens everything anew: what these remember goes with their process.
        drop(self.open.lock().unwrap().take());
        if died {
            self.cut();
        }
    }

    fn loses_ledgers(&self) -> bool {
        // What a lost ledger would have shown of a bug is lost with it.
        self.bug.lie.is_none() && !self.bug.deaf
    }

    async fn rebuilt(&self, id: Uuid, content: &Rebuilt) -> Result<()> {
        let cuts = self.machine.lock().unwrap().cuts + 1;
        let folder = self.folder.path().join(format!("ledger-{cuts}"));
        std::fs::create_dir(&folder).unwrap();
        let (path, clock) = (folder.join("forebay.db"), as_clock(&self.clock));
        let steered = (clock.as_ref(), self.random.as_ref() as &dyn Random);
        // On a thread of its own, as it is opened, and on a runtime of its own, which closes it.
        std::thread::scope(|scope| {
            let work = || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(SqliteLedger::rebuild(path, id, content, false, steered, |_| {}))
            };
            scope.spawn(work).join().unwrap()
        })?;
        self.moved(folder);
        Ok(())
    }

    async fn rows(&self, table: &str) -> Result<Option<RecordBatch>> {
        self.opened()?.lake.rows(table).await
    }

    fn age(&self) {
        // Files have the system's time: from here on, that of two simulated hours ago.
        let now = u64::try_from(self.clock.now().as_micros()).unwrap();
        let then = SystemTime::UNIX_EPOCH + Duration::from_micros(now) - Duration::from_secs(2 * 3600);
        for path in files(&self.zone_folder()).iter().chain(&files(&self.lake_folder())) {
            std::fs::File::options().write(true).open(path).unwrap().set_modified(then).unwrap();
        }
    }

    async fn leftovers(&self, tables: &[String]) -> Vec<String> {
        let lake = self.opened().unwrap().lake;
        let mut left = files(&self.zone_folder().join("_forebay/tmp"));
        for table in tables {
            let folder = self.lake_folder().join(table);
            let (log, files): (Vec<_>, Vec<_>) =
                files(&folder).into_iter().partition(|path| path.starts_with(folder.join("_delta_log")));
            left.extend(log.into_iter().filter(|path| path.to_str().unwrap().contains('#')));
            // A checkpoint's digest stays as long as it does.
            let (digests, data): (Vec<_>, Vec<_>) =
                files.into_iter().partition(|path| path.starts_with(folder.join("_forebay/checkpoints")));
            let of = |digest: &PathBuf| folder.join("_delta_log").join(digest.file_stem().unwrap());
            left.extend(digests.into_iter().filter(|digest| !of(digest).exists()));
            // What was moved aside stays for a person to look at.
            let data: Vec<_> =
                data.into_iter().filter(|path| !path.starts_with(folder.join("_forebay/torn"))).collect();
            let loaded = lake.table(table).await.unwrap().map_or(0, |table| table.files);
            if data.len() as u64 != loaded {
                left.push(folder.join(format!("{} files, of which the table has {loaded}", data.len())));
            }
        }
        let root = self.folder.path();
        left.iter().map(|path| path.strip_prefix(root).unwrap().display().to_string()).collect()
    }
}

fn real(_: u64, clock: &Arc<SimClock>, random: &Arc<SimRandom>) -> Box<dyn Storage> {
    Box::new(Real::new(clock, random, Bug::default()))
}

/// `FOREBAY_REAL_SEEDS` seeds, 20 unless set, from `FOREBAY_FIRST_SEED`, 0 unless set.
#[test]
fn sqlite_zone_and_delta_keep_what_they_answered_for_whatever_goes_wrong() {
    let (count, first) = (setting("FOREBAY_REAL_SEEDS").unwrap_or(20), setting("FOREBAY_FIRST_SEED").unwrap_or(0));
    let mut tally = Tally::default();
    for seed in first..first + count {
        let outcome = run(seed, true, real);
        tally += outcome.tally;
        if !outcome.violations.is_empty() {
            let again = format!(
                "FOREBAY_FIRST_SEED={seed} FOREBAY_REAL_SEEDS=1 cargo test --workspace --test suite simulation::real"
            );
            tell_of(seed, &outcome, &again);
        }
    }
    let Tally { deaths, refused, rebuilt, .. } = tally;
    println!(
        "{count} seeds from {first} over SQLite, zone and Delta, {deaths} deaths of processes, {refused} loads refused for good, \
         {rebuilt} ledgers rebuilt"
    );
    // A story in which nothing happens proves nothing.
    let enough = deaths * 2 > count && rebuilt * 10 > count;
    assert!(enough || count < 20, "the simulation spares its processes");
}
