//! The model: a source whose outside world a test scripts, with the ledger's side and a clock to go with it.
//!
//! [`MemoryUpstream`] is what survives a process: put objects and records into it, make reads fail, copy it whole
//! ([`MemoryUpstream::snapshot`]) and set it back. [`MemorySource`] is the process's view of it and keeps nothing that
//! matters, so dropping one and opening another is a crash.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use forebay_model::flow::{OnChange, RawBatch, RawObject, RawRecord, RawRecords, RecordSpan};
use forebay_model::ports::{Clock, ObjectState, Polled, Progress, Source};
use forebay_model::{Compression, Error, OrderedPosition, Partition, Result, SegmentId, Timestamp};
use futures::stream::{self, StreamExt};

/// The partition of a model's objects.
const OBJECTS: &str = "memory:objects";
/// Bytes of a chunk: small, so that tests meet more than one.
const CHUNK: usize = 1024;

/// Where reading an object fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It cannot be opened: the error comes from `poll`.
    Open,
    /// It breaks off after its first chunk: the error ends its body.
    Read,
}

/// An object of the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryObject {
    /// Its version; the test names it.
    pub version: String,
    /// Its content.
    pub bytes: Bytes,
    /// What it means that it changed.
    pub on_change: OnChange,
    /// How often, and where, reading it fails from now on.
    pub fault: Option<(Fault, u32)>,
}

/// All that is outside of the process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UpstreamState {
    /// By key.
    pub objects: BTreeMap<String, MemoryObject>,
    /// By partition, from offset 0.
    pub partitions: BTreeMap<Partition, Vec<RawRecord>>,
    /// What was acknowledged, in that order.
    pub acknowledged: Vec<SegmentId>,
}

/// The outside world of a [`MemorySource`]. Clones are handles of the same one.
#[derive(Debug, Clone, Default)]
pub struct MemoryUpstream(Arc<Mutex<UpstreamState>>);

impl MemoryUpstream {
    /// Adds an object, or puts a new version in its place, whose rows take the place of the former ones.
    pub fn put(&self, key: &str, version: &str, bytes: impl Into<Bytes>) {
        self.put_as(key, version, bytes, OnChange::Replace);
    }

    /// Adds an object, or puts a new version in its place.
    pub fn put_as(&self, key: &str, version: &str, bytes: impl Into<Bytes>, on_change: OnChange) {
        let object = MemoryObject { version: version.to_owned(), bytes: bytes.into(), on_change, fault: None };
        self.lock().objects.insert(key.to_owned(), object);
    }

    /// Makes reading an object fail so many times.
    pub fn fail(&self, key: &str, fault: Fault, times: u32) {
        if let Some(object) = self.lock().objects.get_mut(key) {
            object.fault = Some((fault, times));
        }
    }

    /// Removes an object.
    pub fn remove(&self, key: &str) {
        self.lock().objects.remove(key);
    }

    /// Appends records with these values to a partition.
    pub fn append<V: Into<Bytes>>(&self, partition: &Partition, values: impl IntoIterator<Item = V>) {
        let mut state = self.lock();
        let records = state.partitions.entry(partition.clone()).or_default();
        for value in values {
            let position = OrderedPosition::new(records.len() as u64);
            let value = Some(value.into());
            records.push(RawRecord { position, key: None, value, headers: Vec::new(), timestamp: None });
        }
    }

    /// A copy of everything.
    #[must_use]
    pub fn snapshot(&self) -> UpstreamState {
        self.lock().clone()
    }

    /// Sets everything back to a copy.
    pub fn restore(&self, state: UpstreamState) {
        *self.lock() = state;
    }

    fn lock(&self) -> MutexGuard<'_, UpstreamState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Uses up one fault of this kind, where there is one.
    fn fails(&self, key: &str, kind: Fault) -> bool {
        match self.lock().objects.get_mut(key).and_then(|object| object.fault.as_mut()) {
            Some((fault, times)) if *fault == kind && *times > 0 => {
                *times -= 1;
                true
            }
            Some(_) | None => false,
        }
    }
}

/// The model of a source.
#[derive(Debug)]
pub struct MemorySource {
    upstream: MemoryUpstream,
    progress: Arc<dyn Progress>,
    /// How many objects or records a batch holds at most.
    batch: usize,
    /// Bytes of a chunk.
    chunk: usize,
    /// The versions that this process delivered.
    delivered: Arc<Mutex<BTreeMap<String, String>>>,
    /// Objects that could not be opened; tried again when a poll has been idle.
    told: BTreeSet<String>,
    /// Their errors, for later polls.
    troubles: VecDeque<Error>,
    next: BTreeMap<Partition, u64>,
}

impl MemorySource {
    /// Opens the model; a batch holds at most `batch` objects or, for each partition, records (at least 1).
    #[must_use]
    pub fn open(upstream: MemoryUpstream, progress: Arc<dyn Progress>, batch: usize) -> Self {
        Self {
            upstream,
            progress,
            batch: batch.max(1),
            chunk: CHUNK,
            delivered: Arc::default(),
            told: BTreeSet::new(),
            troubles: VecDeque::new(),
            next: BTreeMap::new(),
        }
    }

    /// Bodies come in chunks of so many bytes (at least 1), instead of 1,024.
    #[must_use]
    pub fn in_chunks_of(mut self, bytes: usize) -> Self {
        self.chunk = bytes.max(1);
        self
    }

    async fn objects(&mut self) -> Result<Vec<RawObject>> {
        let partition = Partition::new(OBJECTS);
        let candidates: Vec<_> = {
            let delivered = lock(&self.delivered);
            let state = self.upstream.lock();
            let news = |(key, object): &(&String, &MemoryObject)| delivered.get(*key) != Some(&object.version);
            state.objects.iter().filter(news).map(|(key, object)| (key.clone(), object.clone())).collect()
        };
        let keys: Vec<_> = candidates.iter().map(|(key, _)| key.clone()).collect();
        let states = self.progress.latest_objects(&partition, &keys).await?;
        let mut objects = Vec::new();
        for ((key, object), state) in candidates.into_iter().zip(states) {
            if objects.len() == self.batch {
                break;
            }
            if state.as_ref().is_some_and(|state| state.version == object.version) {
                lock(&self.delivered).insert(key, object.version);
                continue;
            }
            // Of a log only what was added is taken.
            let from = match (object.on_change, state) {
                (OnChange::Tail, Some(state)) => usize::try_from(state.range.end).unwrap_or(usize::MAX),
                (OnChange::Replace | OnChange::Append | OnChange::Tail, _) => 0,
            };
            if from > 0 && from >= object.bytes.len() {
                lock(&self.delivered).insert(key, object.version);
                continue;
            }
            if self.told.contains(&key) {
                continue;
            }
            if self.upstream.fails(&key, Fault::Open) {
                self.troubles.push_back(Error::retry(format!("{key:?} cannot be opened")));
                self.told.insert(key);
                continue;
            }
            lock(&self.delivered).insert(key.clone(), object.version.clone());
            objects.push(self.object(&partition, key, object, from));
        }
        Ok(objects)
    }

    fn object(&self, partition: &Partition, key: String, object: MemoryObject, from: usize) -> RawObject {
        let MemoryObject { version, bytes, on_change, fault: _ } = object;
        let range = from as u64..bytes.len() as u64;
        let delivery = Delivery { key: key.clone(), delivered: Arc::clone(&self.delivered), whole: false };
        let upstream = self.upstream.clone();
        let chunk = self.chunk;
        let start = Some((bytes, delivery, from));
        let body = stream::unfold(start, move |state| {
            let next = state.and_then(|(bytes, mut delivery, at)| {
                if at > from && upstream.fails(&delivery.key, Fault::Read) {
                    let error = Error::retry(format!("{:?} changed while it was read", delivery.key));
                    return Some((Err(error), None));
                }
                let end = at.saturating_add(chunk).min(bytes.len());
                if at == end {
                    delivery.whole = true;
                    return None;
                }
                Some((Ok(bytes.slice(at..end)), Some((bytes, delivery, end))))
            });
            std::future::ready(next)
        });
        RawObject {
            partition: partition.clone(),
            key,
            version,
            range,
            modified_at: Timestamp::EPOCH,
            compression: Compression::None,
            on_change,
            identity: String::new(),
            body: body.boxed(),
        }
    }

    async fn records(&mut self) -> Result<Vec<RecordSpan>> {
        let partitions: Vec<_> = self.upstream.lock().partitions.keys().cloned().collect();
        for partition in partitions {
            if !self.next.contains_key(&partition) {
                let next = self.progress.next_position(&partition).await?;
                let next = next.map_or(Ok(0), |position| u64::try_from(position.number));
                let next = next.map_err(|_| Error::bug(format!("{partition}: the position is out of range")))?;
                self.next.insert(partition, next);
            }
        }
        let state = self.upstream.lock();
        let mut spans = Vec::new();
        for (partition, next) in &mut self.next {
            let all = state.partitions.get(partition).map(Vec::as_slice).unwrap_or_default();
            let begin = usize::try_from(*next).unwrap_or(usize::MAX).min(all.len());
            let end = begin.saturating_add(self.batch).min(all.len());
            let records = all.get(begin..end).unwrap_or_default().to_vec();
            if !records.is_empty() {
                let first = OrderedPosition::new(*next);
                *next = end as u64;
                spans.push(RecordSpan {
                    partition: partition.clone(),
                    first,
                    next: OrderedPosition::new(*next),
                    records,
                });
            }
        }
        Ok(spans)
    }
}

#[async_trait]
impl Source for MemorySource {
    fn kind(&self) -> &'static str {
        "memory"
    }

    async fn poll(&mut self) -> Result<Polled> {
        if let Some(error) = self.troubles.pop_front() {
            return Err(error);
        }
        let objects = self.objects().await?;
        if !objects.is_empty() {
            return Ok(Polled::Batch(RawBatch::Objects(objects)));
        }
        let spans = self.records().await?;
        if !spans.is_empty() {
            return Ok(Polled::Batch(RawBatch::Records(RawRecords { spans })));
        }
        match self.troubles.pop_front() {
            Some(error) => Err(error),
            None => {
                self.told.clear();
                Ok(Polled::Idle)
            }
        }
    }

    async fn acknowledge(&mut self, landed: &[SegmentId]) -> Result<()> {
        self.upstream.lock().acknowledged.extend_from_slice(landed);
        Ok(())
    }
}

/// Goes with a body: one that was not read to its end is delivered again.
struct Delivery {
    key: String,
    delivered: Arc<Mutex<BTreeMap<String, String>>>,
    whole: bool,
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if !self.whole {
            lock(&self.delivered).remove(&self.key);
        }
    }
}

/// The ledger as a source sees it: what a test says has landed.
#[derive(Debug, Default)]
pub struct MemoryProgress(Mutex<Landings>);

#[derive(Debug, Default)]
struct Landings {
    objects: BTreeMap<(Partition, String), ObjectState>,
    positions: BTreeMap<Partition, OrderedPosition>,
}

impl MemoryProgress {
    /// An object has landed.
    pub fn land_object(&self, object: &RawObject) {
        let RawObject { partition, key, version, range, identity, .. } = object;
        let state = ObjectState {
            partition: partition.clone(),
            key: key.clone(),
            version: version.clone(),
            range: range.clone(),
            identity: identity.clone(),
        };
        lock(&self.0).objects.insert((partition.clone(), key.clone()), state);
    }

    /// A span has landed.
    ///
    /// # Errors
    /// [`forebay_model::ErrorClass::Fenced`] where it does not begin where the last one ended, as in the ledger.
    pub fn land_span(&self, span: &RecordSpan) -> Result<()> {
        let mut landings = lock(&self.0);
        let stands = landings.positions.get(&span.partition).copied();
        if stands.is_some_and(|position| position != span.first) {
            return Err(Error::fenced(format!("{}: stands elsewhere than at {}", span.partition, span.first)));
        }
        landings.positions.insert(span.partition.clone(), span.next);
        Ok(())
    }
}

#[async_trait]
impl Progress for MemoryProgress {
    async fn next_position(&self, partition: &Partition) -> Result<Option<OrderedPosition>> {
        Ok(lock(&self.0).positions.get(partition).copied())
    }

    async fn latest_objects(&self, partition: &Partition, keys: &[String]) -> Result<Vec<Option<ObjectState>>> {
        let landings = lock(&self.0);
        Ok(keys.iter().map(|key| landings.objects.get(&(partition.clone(), key.clone())).cloned()).collect())
    }
}

/// A clock that stands still but where it is slept on: then it jumps, at once.
#[derive(Debug, Default)]
pub struct SteppedClock(Mutex<Timestamp>);

impl SteppedClock {
    /// A clock that shows a time.
    #[must_use]
    pub fn at(time: Timestamp) -> Self {
        Self(Mutex::new(time))
    }

    /// Moves it on.
    pub fn advance(&self, duration: Duration) {
        let mut now = lock(&self.0);
        *now = now.plus(duration);
    }
}

#[async_trait]
impl Clock for SteppedClock {
    fn now(&self) -> Timestamp {
        *lock(&self.0)
    }

    async fn sleep(&self, duration: Duration) {
        self.advance(duration);
        tokio::task::yield_now().await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
