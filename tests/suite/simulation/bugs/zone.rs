use std::collections::BTreeSet;
use std::io::Read;
use std::ops::{Range, RangeInclusive};
use std::sync::{Arc, Mutex};

use arrow_array::RecordBatch;
use async_trait::async_trait;
use bytes::Bytes;
use forebay_landing::MemoryZone;
use forebay_model::flow::RawRecords;
use forebay_model::kept::KeptWithdrawal;
use forebay_model::ports::{
    Clock as _, Journal, JournalEntry, LandedObject, LandingZone, ObjectEntry, Random as _, Rebuilt, SplitRule,
    ZoneIdentity,
};
use forebay_model::segment::Compression;
use forebay_model::{Digest, Result, StreamName, Timestamp};
use futures::stream::BoxStream;
use uuid::Uuid;

use super::WINDOW;
use crate::simulation::clock::SimClock;
use crate::simulation::faults::SimRandom;
use crate::simulation::storage::{Models, Storage, Stores};
use crate::simulation::world::as_clock;

/// A zone that answers before it has done what it was asked.
pub(super) struct HastyZoneStorage {
    models: Models,
    zone: Arc<HastyZone>,
}

/// What the zone does not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Omits {
    /// To sync in time: what it wrote last is gone or torn after a death.
    Syncing,
    /// To sync before the ledger lists: it does so with the journal's entry. What it wrote since is gone or torn after a death.
    SyncingBeforeListing,
    /// To keep what was withdrawn.
    Withdrawals,
    /// To delete.
    Deleting,
}

#[derive(Debug)]
struct HastyZone {
    omits: Omits,
    inner: Arc<MemoryZone>,
    clock: Arc<SimClock>,
    random: Arc<SimRandom>,
    /// Names, their bytes, and when they are durable.
    unsynced: Mutex<Vec<(String, u64, Timestamp)>>,
}

impl HastyZoneStorage {
    pub(super) fn new(omits: Omits, clock: &Arc<SimClock>, random: &Arc<SimRandom>) -> Self {
        let models = Models::new(&as_clock(clock), random.as_ref());
        let zone = Arc::new(HastyZone {
            omits,
            inner: Arc::clone(&models.zone),
            clock: Arc::clone(clock),
            random: Arc::clone(random),
            unsynced: Mutex::default(),
        });
        Self { models, zone }
    }
}

impl HastyZone {
    fn syncs(&self) -> bool {
        !matches!(self.omits, Omits::Syncing | Omits::SyncingBeforeListing)
    }

    fn wrote(&self, object: &LandedObject) {
        let durable = self.clock.now().plus(WINDOW);
        self.unsynced.lock().unwrap().push((object.name.clone(), object.bytes, durable));
    }

    fn lose(&self) {
        let now = self.clock.now();
        for (name, bytes, durable) in std::mem::take(&mut *self.unsynced.lock().unwrap()) {
            if durable <= now && self.omits == Omits::Syncing {
                continue;
            }
            let torn = self.random.bits().is_multiple_of(2).then(|| {
                let mut half = Vec::new();
                self.inner.open(&name, 0..bytes / 2, None).unwrap().read_to_end(&mut half).unwrap();
                Bytes::from(half)
            });
            self.inner.damage(&name, torn);
        }
    }
}

#[async_trait]
impl Storage for HastyZoneStorage {
    async fn open(&self) -> Result<Stores> {
        Ok(Stores { zone: self.zone.clone(), ..self.models.open().await? })
    }

    fn ended(&self, died: bool) {
        if died && !self.zone.syncs() {
            self.zone.lose();
        }
    }

    fn loses_ledgers(&self) -> bool {
        true
    }

    async fn rebuilt(&self, id: Uuid, content: &Rebuilt) -> Result<()> {
        self.models.rebuilt(id, content).await
    }

    async fn rows(&self, table: &str) -> Result<Option<RecordBatch>> {
        self.models.rows(table).await
    }

    async fn leftovers(&self, tables: &[String]) -> Vec<String> {
        self.models.leftovers(tables).await
    }
}

#[async_trait]
impl LandingZone for HastyZone {
    async fn put(
        &self,
        name: &str,
        body: BoxStream<'static, Result<Bytes>>,
        compression: Compression,
        split: SplitRule,
    ) -> Result<LandedObject> {
        let landed = self.inner.put(name, body, compression, split).await?;
        self.wrote(&landed);
        Ok(landed)
    }

    async fn put_records(&self, name: &str, stream: &StreamName, records: &RawRecords) -> Result<LandedObject> {
        let landed = self.inner.put_records(name, stream, records).await?;
        self.wrote(&landed);
        Ok(landed)
    }

    fn open(&self, name: &str, range: Range<u64>, digest: Option<Digest>) -> Result<Box<dyn Read + Send>> {
        self.inner.open(name, range, digest)
    }

    fn open_records(
        &self,
        name: &str,
        rows: Range<u64>,
        digest: Digest,
    ) -> Result<Box<dyn Iterator<Item = Result<RecordBatch>> + Send>> {
        self.inner.open_records(name, rows, digest)
    }

    fn times_of(&self, name: &str, rows: Range<u64>, digest: Digest) -> Result<Option<RangeInclusive<Timestamp>>> {
        self.inner.times_of(name, rows, digest)
    }

    async fn journal(&self, entry: &JournalEntry) -> Result<()> {
        if self.omits == Omits::SyncingBeforeListing {
            self.unsynced.lock().unwrap().clear();
        }
        self.inner.journal(entry).await
    }

    async fn journal_entries(&self) -> Result<Vec<JournalEntry>> {
        self.inner.journal_entries().await
    }

    async fn read_journal(&self, newest: Option<usize>) -> Result<Journal> {
        self.inner.read_journal(newest).await
    }

    async fn set_aside(&self, entry: &str) -> Result<()> {
        self.inner.set_aside(entry).await
    }

    async fn journalled(&self) -> Result<BTreeSet<Uuid>> {
        self.inner.journalled().await
    }

    async fn kept_in(&self, folder: &str) -> Result<Vec<String>> {
        self.inner.kept_in(folder).await
    }

    async fn identity(&self) -> Result<Option<ZoneIdentity>> {
        self.inner.identity().await
    }

    async fn claim(&self, identity: &ZoneIdentity) -> Result<()> {
        self.inner.claim(identity).await
    }

    async fn keep(&self, name: &str, bytes: Bytes) -> Result<()> {
        let forgets = self.omits == Omits::Withdrawals && name.starts_with(KeptWithdrawal::FOLDER);
        if forgets { Ok(()) } else { self.inner.keep(name, bytes).await }
    }

    async fn kept(&self, name: &str) -> Result<Option<Bytes>> {
        self.inner.kept(name).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectEntry>> {
        self.inner.list(prefix).await
    }

    async fn delete(&self, name: &str) -> Result<()> {
        if self.omits == Omits::Deleting { Ok(()) } else { self.inner.delete(name).await }
    }

    async fn sweep(&self, before: Timestamp) -> Result<Vec<String>> {
        self.inner.sweep(before).await
    }
}
