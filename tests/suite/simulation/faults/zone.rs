use std::collections::BTreeSet;
use std::io::Read;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use arrow_array::RecordBatch;
use async_trait::async_trait;
use bytes::Bytes;
use forebay_landing::MemoryZone;
use forebay_model::flow::RawRecords;
use forebay_model::ports::{Journal, JournalEntry, LandedObject, LandingZone, ObjectEntry, SplitRule, ZoneIdentity};
use forebay_model::segment::Compression;
use forebay_model::{Digest, Error, Result, StreamName, Timestamp};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use uuid::Uuid;

use super::Chaos;

/// A landing zone that fails.
#[derive(Debug)]
pub(crate) struct FaultyZone {
    pub(crate) inner: Arc<dyn LandingZone>,
    /// Where a death leaves half of what was being written.
    pub(crate) model: Option<Arc<MemoryZone>>,
    pub(crate) chaos: Arc<Chaos>,
}

impl FaultyZone {
    /// The model, where the process dies in the middle of this call.
    fn dying(&self, op: &'static str, name: &str) -> Option<&MemoryZone> {
        self.model.as_deref().filter(|_| self.chaos.dies_in(op, name))
    }
}

#[async_trait]
impl LandingZone for FaultyZone {
    async fn put(
        &self,
        name: &str,
        mut body: BoxStream<'static, Result<Bytes>>,
        compression: Compression,
        split: SplitRule,
    ) -> Result<LandedObject> {
        if self.chaos.tears("zone.put") {
            // The body is read in part: its source must deliver it again.
            let _ = body.next().await;
            return Err(Error::retry("the zone failed while an object was written"));
        }
        if let Some(model) = self.dying("zone.put", name) {
            model.leave_half(name, body.next().await.transpose()?.unwrap_or_default());
            self.chaos.count(|tally| tally.half_object += 1);
            self.chaos.die("zone.put");
        }
        let detail = || name.to_owned();
        self.chaos.call("zone.put", detail, self.inner.put(name, body, compression, split)).await
    }

    async fn put_records(&self, name: &str, stream: &StreamName, records: &RawRecords) -> Result<LandedObject> {
        if let Some(model) = self.dying("zone.put_records", name) {
            model.leave_half(name, Bytes::from_static(b"PAR1"));
            self.chaos.count(|tally| tally.half_envelope += 1);
            self.chaos.die("zone.put_records");
        }
        let detail = || name.to_owned();
        self.chaos.call("zone.put_records", detail, self.inner.put_records(name, stream, records)).await
    }

    fn open(&self, name: &str, range: Range<u64>, digest: Option<Digest>) -> Result<Box<dyn Read + Send>> {
        let detail = || format!("{name} {range:?}");
        self.chaos.call_now("zone.open", detail, || self.inner.open(name, range.clone(), digest))
    }

    fn open_records(
        &self,
        name: &str,
        rows: Range<u64>,
        digest: Digest,
    ) -> Result<Box<dyn Iterator<Item = Result<RecordBatch>> + Send>> {
        let detail = || format!("{name} {rows:?}");
        self.chaos.call_now("zone.open_records", detail, || self.inner.open_records(name, rows.clone(), digest))
    }

    fn times_of(&self, name: &str, rows: Range<u64>, digest: Digest) -> Result<Option<RangeInclusive<Timestamp>>> {
        let detail = || format!("{name} {rows:?}");
        self.chaos.call_now("zone.times_of", detail, || self.inner.times_of(name, rows.clone(), digest))
    }

    async fn journal(&self, entry: &JournalEntry) -> Result<()> {
        if let Some(model) = self.dying("zone.journal", &entry.attempt.to_string()) {
            if model.tear(entry)? {
                self.chaos.count(|tally| tally.torn += 1);
            }
            self.chaos.die("zone.journal");
        }
        let detail = || entry.attempt.to_string();
        self.chaos.call("zone.journal", detail, self.inner.journal(entry)).await
    }

    async fn journal_entries(&self) -> Result<Vec<JournalEntry>> {
        self.chaos.call("zone.journal_entries", String::new, self.inner.journal_entries()).await
    }

    async fn read_journal(&self, newest: Option<usize>) -> Result<Journal> {
        self.chaos.call("zone.read_journal", String::new, self.inner.read_journal(newest)).await
    }

    async fn set_aside(&self, entry: &str) -> Result<()> {
        self.chaos.call("zone.set_aside", || entry.to_owned(), self.inner.set_aside(entry)).await
    }

    async fn journalled(&self) -> Result<BTreeSet<Uuid>> {
        self.chaos.call("zone.journalled", String::new, self.inner.journalled()).await
    }

    async fn kept_in(&self, folder: &str) -> Result<Vec<String>> {
        self.chaos.call("zone.kept_in", || folder.to_owned(), self.inner.kept_in(folder)).await
    }

    async fn identity(&self) -> Result<Option<ZoneIdentity>> {
        self.chaos.call("zone.identity", String::new, self.inner.identity()).await
    }

    async fn claim(&self, identity: &ZoneIdentity) -> Result<()> {
        self.chaos.call("zone.claim", String::new, self.inner.claim(identity)).await
    }

    async fn keep(&self, name: &str, bytes: Bytes) -> Result<()> {
        self.chaos.call("zone.keep", || name.to_owned(), self.inner.keep(name, bytes)).await
    }

    async fn kept(&self, name: &str) -> Result<Option<Bytes>> {
        self.chaos.call("zone.kept", || name.to_owned(), self.inner.kept(name)).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectEntry>> {
        self.chaos.call("zone.list", || prefix.to_owned(), self.inner.list(prefix)).await
    }

    async fn delete(&self, name: &str) -> Result<()> {
        self.chaos.call("zone.delete", || name.to_owned(), self.inner.delete(name)).await
    }

    async fn sweep(&self, before: Timestamp) -> Result<Vec<String>> {
        self.chaos.call("zone.sweep", String::new, self.inner.sweep(before)).await
    }
}
