//! The zone as plain maps: the model that the real ones are held to.
//!
//! What is in the maps is what would survive a power cut; [`MemoryZone::snapshot`] takes it, [`MemoryZone::restore`] puts it
//! back, which is how a simulation kills a process. [`MemoryZone::leave_half`] and [`MemoryZone::tear`] leave what it was writing.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Cursor, Read};
use std::ops::{Range, RangeInclusive};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use forebay_model::flow::RawRecords;
use forebay_model::ports::{
    Clock, Journal, JournalEntry, LandedObject, LandingZone, ObjectEntry, SplitRule, ZoneIdentity,
};
use forebay_model::segment::Compression;
use forebay_model::{Digest, Result, StreamName, Timestamp};
use futures::StreamExt;
use futures::stream::BoxStream;
use uuid::Uuid;

use crate::envelope;
use crate::error::LandingError;
use crate::intake::Watch;
use crate::{journal, naming};

#[derive(Debug, Clone, Default)]
struct State {
    objects: BTreeMap<String, (Bytes, Timestamp)>,
    journal: BTreeMap<String, Bytes>,
    kept: BTreeMap<String, Bytes>,
    identity: Option<ZoneIdentity>,
    /// By the name that it would have had, what a process that died was writing.
    temporary: BTreeMap<String, (Bytes, Timestamp)>,
}

/// The zone in memory.
#[derive(Debug)]
pub struct MemoryZone {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

/// All that a [`MemoryZone`] holds.
#[derive(Debug, Clone)]
pub struct MemoryZoneSnapshot(State);

impl MemoryZone {
    /// An empty zone; objects are as old as `clock` says.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, state: Mutex::default() }
    }

    /// All that it holds now.
    #[must_use]
    pub fn snapshot(&self) -> MemoryZoneSnapshot {
        MemoryZoneSnapshot(self.with(|state| state.clone()))
    }

    /// A zone that holds what another held.
    #[must_use]
    pub fn restore(clock: Arc<dyn Clock>, snapshot: MemoryZoneSnapshot) -> Self {
        Self { clock, state: Mutex::new(snapshot.0) }
    }

    /// Puts bytes in an object's place, or removes it: what happens to a zone that others write to.
    pub fn damage(&self, name: &str, bytes: Option<Bytes>) {
        let now = self.clock.now();
        self.with(|state| match bytes {
            Some(bytes) => state.objects.insert(name.to_owned(), (bytes, now)),
            None => state.objects.remove(name),
        });
    }

    /// Cuts the newest entry of the journal short: what a disk that lies about syncing leaves after a power cut.
    pub fn tear_newest_entry(&self) {
        self.with(|state| {
            if let Some(mut entry) = state.journal.last_entry() {
                let half = entry.get().len() / 2;
                entry.get_mut().truncate(half);
            }
        });
    }

    /// Leaves a part of an object that a process was writing when it died: under no name that is listed, until it is swept.
    pub fn leave_half(&self, name: &str, part: Bytes) {
        let now = self.clock.now();
        self.with(|state| state.temporary.insert(name.to_owned(), (part, now)));
    }

    /// Names of objects that nobody finished writing, and that were not swept.
    #[must_use]
    pub fn half_written(&self) -> Vec<String> {
        self.with(|state| state.temporary.keys().cloned().collect())
    }

    /// Leaves half of an entry that was being written when the process died, as a disk that lies about syncing does; false
    /// where the whole of it is there, which stays.
    ///
    /// # Errors
    /// Class bug, where the entry is not JSON.
    pub fn tear(&self, entry: &JournalEntry) -> Result<bool> {
        let mut bytes = journal::write_entry(entry)?;
        let name = journal::entry_name(entry);
        Ok(self.with(|state| {
            if state.journal.get(&name).is_some_and(|known| *known == bytes) {
                return false;
            }
            bytes.truncate(bytes.len() / 2);
            state.journal.insert(name, bytes.into());
            true
        }))
    }

    fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn store(&self, name: &str, bytes: Bytes) -> Result<()> {
        let now = self.clock.now();
        self.with(|state| {
            if state.objects.contains_key(name) {
                return Err(LandingError::Exists { name: name.to_owned() }.into());
            }
            state.objects.insert(name.to_owned(), (bytes, now));
            Ok(())
        })
    }

    fn object(&self, name: &str) -> Result<Bytes> {
        naming::check(name)?;
        self.with(|state| state.objects.get(name).map(|(bytes, _)| bytes.clone()))
            .ok_or_else(|| LandingError::Missing { name: name.to_owned() }.into())
    }
}

#[async_trait]
impl LandingZone for MemoryZone {
    async fn put(
        &self,
        name: &str,
        mut body: BoxStream<'static, Result<Bytes>>,
        compression: Compression,
        split: SplitRule,
    ) -> Result<LandedObject> {
        naming::check(name)?;
        let mut watch = Watch::new(compression, split);
        let mut bytes = Vec::new();
        while let Some(chunk) = body.next().await {
            let chunk = chunk?;
            watch.push(&chunk);
            bytes.extend_from_slice(&chunk);
        }
        self.store(name, bytes.into())?;
        Ok(watch.finish(name))
    }

    async fn put_records(&self, name: &str, stream: &StreamName, records: &RawRecords) -> Result<LandedObject> {
        naming::check(name)?;
        let mut encoder = envelope::Encoder::new(name, stream, Vec::new())?;
        for batch in envelope::Batches::new(name, records) {
            encoder.write(&batch?)?;
        }
        let bytes = encoder.finish()?;
        let mut watch = Watch::new(Compression::None, SplitRule::Whole);
        watch.push(&bytes);
        self.store(name, bytes.into())?;
        Ok(LandedObject { cuts: envelope::cuts(records), head: envelope::head(records), ..watch.finish(name) })
    }

    fn open(&self, name: &str, range: Range<u64>, digest: Option<Digest>) -> Result<Box<dyn Read + Send>> {
        let bytes = self.object(name)?;
        let found = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if let Some(digest) = digest.filter(|_| range == (0..found)) {
            LandingError::check(name, Digest::of(&bytes), digest)?;
        }
        let part = usize::try_from(range.start)
            .ok()
            .zip(usize::try_from(range.end).ok())
            .filter(|(start, end)| start <= end && *end <= bytes.len())
            .map(|(start, end)| bytes.slice(start..end))
            .ok_or_else(|| LandingError::Torn { name: name.to_owned(), found, wanted: range.end })?;
        Ok(Box::new(Cursor::new(part)))
    }

    fn open_records(&self, name: &str, rows: Range<u64>, digest: Digest) -> Result<envelope::Rows> {
        let object = self.object(name)?;
        LandingError::check(name, Digest::of(&object), digest)?;
        Ok(envelope::open(name, object, rows)?)
    }

    fn times_of(&self, name: &str, rows: Range<u64>, digest: Digest) -> Result<Option<RangeInclusive<Timestamp>>> {
        let object = self.object(name)?;
        LandingError::check(name, Digest::of(&object), digest)?;
        Ok(envelope::times(name, object, rows)?)
    }

    async fn journal(&self, entry: &JournalEntry) -> Result<()> {
        let bytes = Bytes::from(journal::write_entry(entry)?);
        let name = journal::entry_name(entry);
        self.with(|state| {
            match state.journal.get(&name) {
                Some(known) if *known == bytes => return Ok(()),
                Some(known) if !journal::is_torn(Path::new(&name), known) => {
                    return Err(LandingError::Exists { name }.into());
                }
                Some(_) | None => {}
            }
            if let Some(torn) = state.journal.insert(name.clone(), bytes) {
                state.journal.insert(format!("{name}{}", journal::ASIDE), torn);
            }
            Ok(())
        })
    }

    async fn journal_entries(&self) -> Result<Vec<JournalEntry>> {
        self.with(|state| {
            let entries = state.journal.iter().filter(|(name, _)| journal::is_entry(name));
            entries.map(|(name, bytes)| Ok(journal::read_entry(Path::new(name), bytes)?)).collect()
        })
    }

    async fn read_journal(&self, newest: Option<usize>) -> Result<Journal> {
        self.with(|state| {
            let entries: Vec<_> = state.journal.iter().filter(|(name, _)| journal::is_entry(name)).collect();
            let skipped = newest.map_or(0, |newest| entries.len().saturating_sub(newest));
            let mut survey = journal::Survey::default();
            for (name, bytes) in entries.into_iter().skip(skipped) {
                survey.take(name, Path::new(name), bytes)?;
            }
            Ok(survey.finish())
        })
    }

    async fn set_aside(&self, entry: &str) -> Result<()> {
        self.with(|state| {
            let aside = format!("{entry}{}", journal::ASIDE);
            match state.journal.remove(entry) {
                Some(bytes) => {
                    state.journal.insert(aside, bytes);
                    Ok(())
                }
                None if state.journal.contains_key(&aside) => Ok(()),
                None => Err(LandingError::Missing { name: entry.to_owned() }.into()),
            }
        })
    }

    async fn journalled(&self) -> Result<BTreeSet<Uuid>> {
        Ok(self.with(|state| state.journal.keys().filter_map(|name| journal::attempt_of(name)).collect()))
    }

    async fn identity(&self) -> Result<Option<ZoneIdentity>> {
        Ok(self.with(|state| state.identity.clone()))
    }

    async fn claim(&self, identity: &ZoneIdentity) -> Result<()> {
        self.with(|state| {
            let owner = state.identity.get_or_insert_with(|| identity.clone());
            Ok(journal::check_owner(owner, identity)?)
        })
    }

    async fn keep(&self, name: &str, bytes: Bytes) -> Result<()> {
        naming::check_parts(name)?;
        self.with(|state| {
            state.kept.entry(name.to_owned()).or_insert(bytes);
        });
        Ok(())
    }

    async fn kept(&self, name: &str) -> Result<Option<Bytes>> {
        naming::check_parts(name)?;
        Ok(self.with(|state| state.kept.get(name).cloned()))
    }

    async fn kept_in(&self, folder: &str) -> Result<Vec<String>> {
        naming::check_parts(folder)?;
        let folder = format!("{folder}/");
        Ok(self.with(|state| state.kept.keys().filter(|name| name.starts_with(&folder)).cloned().collect()))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectEntry>> {
        Ok(self.with(|state| {
            state
                .objects
                .iter()
                .filter(|(name, _)| name.starts_with(prefix))
                .map(|(name, (bytes, modified_at))| ObjectEntry {
                    name: name.clone(),
                    bytes: u64::try_from(bytes.len()).unwrap_or(u64::MAX),
                    modified_at: *modified_at,
                })
                .collect()
        }))
    }

    async fn delete(&self, name: &str) -> Result<()> {
        naming::check(name)?;
        self.with(|state| state.objects.remove(name));
        Ok(())
    }

    async fn sweep(&self, before: Timestamp) -> Result<Vec<String>> {
        // Its writer is dead: one that lives keeps what it writes to itself.
        let swept = self.with(|state| state.temporary.extract_if(.., |_, (_, at)| *at < before).collect::<Vec<_>>());
        Ok(swept.into_iter().map(|(name, _)| name).collect())
    }
}
