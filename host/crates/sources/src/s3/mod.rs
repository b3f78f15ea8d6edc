//! A bucket of S3, or a folder in it, by listing.
//!
//! **What is promised.** Each version of each object that the patterns take is delivered at least once and, as long as the ledger answers,
//! not again once it has landed: it is the ledger that knows, and nothing expires there. One that cannot be read keeps no other from being
//! delivered. An object of any size passes in a few MiB of memory.
//!
//! **How an object is found.** The bucket is listed each `scan_seconds`, page by page, and each page is compared with the ledger. With
//! `order = "key"` no more pages are asked for than fill a batch, so years of history take no memory; with `"modified"` the whole
//! bucket is listed first. Names that begin with `.` or `_` (of folders too) or end in `.tmp` or `.part` are not taken, nor are empty
//! objects that stand for folders.
//!
//! **What tells versions apart.** Bucket, key and ETag. An object that is overwritten by the same content is the same one; by another, a new
//! version, treated as `on_change` says. Only the version that was listed is read (If-Match): where it is overwritten meanwhile, nothing of
//! it lands, and the new one is found by the next listing. The **partition** is `s3:` and the bucket, the **key** that in the bucket: another
//! prefix of the same bucket delivers nothing twice. A **version** is `<etag>-<second>`, so that a content which comes back is a new one.
//!
//! **Errors** of an object are returned by a later poll and not repeated within a minute; it is tried again.

mod config;
mod deliver;

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use forebay_model::flow::RawBatch;
use forebay_model::ports::{Clock, ObjectState, Polled, Progress, Source};
use forebay_model::{Digest, Error, Partition, Result, SegmentId, Timestamp};
use forebay_s3::{Bucket, Listed, S3Options};

pub use self::config::{Order, S3Config};
use crate::patterns::Patterns;

/// How long a poll waits where nothing is there.
const IDLE_AFTER: Duration = Duration::from_secs(1);
/// How long an error of the same key is not repeated, and the longest pause before it is tried again.
const QUIET: Duration = Duration::from_secs(60);
/// How long after its last byte a landing may take to be listed in the ledger.
const LAND_WITHIN: Duration = Duration::from_secs(60);
/// How many keys the ledger is asked for at once.
const ASK: usize = 500;
/// Of so many versions is known here that they landed; the ledger is asked for others at each listing.
const MOST_KNOWN: usize = 1 << 20;
/// With `once`: how often an object is tried that can be taken later; the rest is left for the next run.
const TRIES_OF_ONCE: u32 = 5;
/// How many errors wait to be told, at most.
const MOST_TROUBLES: usize = 100;

/// What became of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Reading,
    /// Since it was asked for first.
    Read(Option<Timestamp>),
    Failed,
}

/// What was delivered and is not known to have landed, by key.
type Flight = Arc<Mutex<HashMap<Arc<str>, (Listed, Stage)>>>;

/// A key whose delivery failed.
#[derive(Debug, Clone, Copy)]
struct Failure {
    times: u32,
    /// Until then it is left alone.
    until: Timestamp,
    /// Somebody has to mend something first.
    refused: bool,
}

/// A bucket as a source; see the [module](self).
#[derive(Debug)]
pub struct S3Source {
    config: S3Config,
    bucket: Bucket,
    partition: Partition,
    patterns: Patterns,
    progress: Arc<dyn Progress>,
    clock: Arc<dyn Clock>,
    once: bool,
    /// The listing that goes on: after which key its next page begins.
    listing: Option<Option<String>>,
    list_at: Timestamp,
    /// With `order = "modified"`: what the listing found so far.
    gathered: Vec<Listed>,
    /// What is to be delivered next.
    queue: VecDeque<Listed>,
    flight: Flight,
    confirm_at: Timestamp,
    listings: u32,
    /// Versions that landed, by the digest of key and tag, so that the ledger is not asked for each again and again; and the last listing
    /// that showed them, for others are forgotten.
    landed: HashMap<[u8; 16], u32>,
    failures: HashMap<Arc<str>, Failure>,
    troubles: VecDeque<Error>,
    told: HashMap<String, Timestamp>,
}

fn known_as(object: &Listed) -> [u8; 16] {
    let mut short = [0; 16];
    let digest = Digest::of(format!("{}\0{}", object.tag, object.key).as_bytes());
    short.copy_from_slice(&digest.as_bytes()[..16]);
    short
}

/// The version of an object: its content, and when it came.
fn version(object: &Listed) -> String {
    format!("{}-{}", object.tag, object.modified_at.as_micros().div_euclid(1_000_000))
}

/// Whether the ledger has just this content as the last one of its key.
fn is_landed(state: &ObjectState, object: &Listed) -> bool {
    let tag = state.version.rsplit_once('-').map_or(state.version.as_str(), |(tag, _)| tag);
    tag == object.tag && state.range == (0..object.bytes)
}

impl S3Source {
    /// A bucket as a source; nothing is asked of its server before the first poll. With `once`, each poll that has nothing left lists it.
    ///
    /// # Errors
    /// Class operator, where the settings do not fit.
    pub fn open(
        config: S3Config,
        options: S3Options,
        progress: Arc<dyn Progress>,
        clock: Arc<dyn Clock>,
        once: bool,
    ) -> Result<Self> {
        config.check()?;
        let bucket = Bucket::open(config.address()?, options)?;
        Ok(Self {
            partition: Partition::new(format!("s3:{}", bucket.address().bucket())),
            patterns: config.patterns()?,
            bucket,
            progress,
            clock,
            once,
            listing: None,
            list_at: Timestamp::from_micros(i64::MIN),
            gathered: Vec::new(),
            queue: VecDeque::new(),
            flight: Flight::default(),
            confirm_at: Timestamp::from_micros(i64::MIN),
            listings: 0,
            landed: HashMap::new(),
            failures: HashMap::new(),
            troubles: VecDeque::new(),
            told: HashMap::new(),
            config,
        })
    }

    /// Takes the next page of the listing, where one goes on and there is too little to deliver.
    async fn list(&mut self) -> Result<()> {
        while self.queue.len() < self.config.max_batch_objects {
            let Some(after) = self.listing.clone() else { return Ok(()) };
            let page = self.bucket.page(after).await?;
            let news = self.news(page.objects).await?;
            // From here on nothing waits: a poll that is dropped half way asks for the same page again.
            match self.config.order {
                Order::Key => self.queue.extend(news),
                Order::Modified => self.gathered.extend(news),
            }
            self.listing = page.next.map(Some);
            if self.listing.is_none() {
                let listings = self.listings;
                self.landed.retain(|_, seen| *seen == listings);
                let mut gathered = std::mem::take(&mut self.gathered);
                gathered.sort_by(|a, b| (a.modified_at, &a.key).cmp(&(b.modified_at, &b.key)));
                self.queue.extend(gathered);
            }
        }
        Ok(())
    }

    /// Of these, those that are taken, are not on their way, and have not landed.
    async fn news(&mut self, objects: Vec<Listed>) -> Result<Vec<Listed>> {
        let now = self.clock.now();
        let mut unknown = objects;
        unknown.retain(|object| self.is_taken(object, now) && !self.is_known(object));
        let mut news = Vec::new();
        while !unknown.is_empty() {
            let rest = unknown.split_off(unknown.len().min(ASK));
            let states = self.states(unknown.iter().map(|object| object.key.clone()).collect()).await?;
            for (object, state) in std::mem::replace(&mut unknown, rest).into_iter().zip(states) {
                if state.is_some_and(|state| is_landed(&state, &object)) {
                    self.knows(&object);
                } else {
                    news.push(object);
                }
            }
        }
        Ok(news)
    }

    /// The ledger has it.
    fn knows(&mut self, object: &Listed) {
        if self.landed.len() < MOST_KNOWN {
            self.landed.insert(known_as(object), self.listings);
        }
    }

    /// Whether it is known here that the ledger has it.
    fn is_known(&mut self, object: &Listed) -> bool {
        let listings = self.listings;
        self.landed.get_mut(&known_as(object)).map(|seen| *seen = listings).is_some()
    }

    fn is_taken(&self, object: &Listed, now: Timestamp) -> bool {
        let name = self.bucket.address().name_of(&object.key).unwrap_or_default();
        let stands_for_a_folder = name.is_empty() || name.ends_with('/');
        let rests = self.failures.get(object.key.as_str()).is_some_and(|failure| self.rests(failure, now));
        !stands_for_a_folder && self.patterns.takes(Path::new(name)) && !rests && !self.is_on_its_way(&object.key)
    }

    fn is_on_its_way(&self, key: &str) -> bool {
        let flight = self.flight.lock().unwrap_or_else(PoisonError::into_inner);
        flight.get(key).is_some_and(|(_, stage)| *stage != Stage::Failed)
    }

    async fn states(&self, keys: Vec<String>) -> Result<Vec<Option<ObjectState>>> {
        let states = self.progress.latest_objects(&self.partition, &keys).await?;
        if states.len() != keys.len() {
            return Err(Error::bug(format!("the ledger answered {} of {} keys", states.len(), keys.len())));
        }
        Ok(states)
    }

    /// An error of a key, unless the last one of it is less than a minute old.
    fn note(&mut self, key: &str, error: Error) {
        let now = self.clock.now();
        self.told.retain(|_, at| now.since(*at) < QUIET);
        if self.told.contains_key(key) || self.troubles.len() >= MOST_TROUBLES {
            return;
        }
        self.told.insert(key.to_owned(), now);
        self.troubles.push_back(error);
    }

    fn rests(&self, failure: &Failure, now: Timestamp) -> bool {
        let Failure { times, until, refused } = *failure;
        until > now || (self.once && (refused || times >= TRIES_OF_ONCE))
    }

    /// A key is left alone for a while.
    fn failed(&mut self, key: &Arc<str>, refused: bool) {
        let times = self.failures.get(key).map_or(1, |failure| failure.times.saturating_add(1));
        let pause = Duration::from_secs(1 << times.saturating_sub(1).min(6)).min(QUIET);
        let until = self.clock.now().plus(pause);
        self.failures.insert(Arc::clone(key), Failure { times, until, refused });
        // The listing finds it again.
        self.list_at = self.list_at.min(until);
    }

    /// With `once`: when something that failed is tried again.
    fn next_try(&self, now: Timestamp) -> Option<Timestamp> {
        let tried = self.failures.values().filter(|failure| !failure.refused && failure.times < TRIES_OF_ONCE);
        tried.map(|failure| failure.until).filter(|until| *until > now).min()
    }

    /// Puts back what failed, and asks the ledger for what was read to its end.
    async fn confirm(&mut self) -> Result<()> {
        let now = self.clock.now();
        for key in self.take_failed() {
            self.failed(&key, false);
        }
        if now < self.confirm_at {
            return Ok(());
        }
        let read = self.read();
        for chunk in read.chunks(ASK) {
            let states = self.states(chunk.iter().map(|object| object.key.clone()).collect()).await?;
            for (object, state) in chunk.iter().zip(states) {
                let landed = state.is_some_and(|state| is_landed(&state, object));
                if landed {
                    self.knows(object);
                    self.failures.remove(object.key.as_str());
                }
                self.settle(&object.key, landed, now);
            }
        }
        self.confirm_at = now.plus(IDLE_AFTER);
        Ok(())
    }

    fn take_failed(&self) -> Vec<Arc<str>> {
        let mut flight = self.flight.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = flight.extract_if(|_, (_, stage)| *stage == Stage::Failed);
        failed.map(|(key, _)| key).collect()
    }

    fn read(&self) -> Vec<Listed> {
        let flight = self.flight.lock().unwrap_or_else(PoisonError::into_inner);
        let read = flight.values().filter(|(_, stage)| matches!(stage, Stage::Read(_)));
        read.map(|(object, _)| object.clone()).collect()
    }

    /// What the ledger has is done with; what it does not have in time is taken to have failed.
    fn settle(&self, key: &str, landed: bool, now: Timestamp) {
        let mut flight = self.flight.lock().unwrap_or_else(PoisonError::into_inner);
        if landed {
            flight.remove(key);
        } else if let Some((_, stage)) = flight.get_mut(key)
            && let Stage::Read(since) = *stage
        {
            let since = since.unwrap_or(now);
            *stage = if now.since(since) >= LAND_WITHIN { Stage::Failed } else { Stage::Read(Some(since)) };
        }
    }

    fn begin_listing(&mut self) {
        self.listing = Some(None);
        self.listings = self.listings.wrapping_add(1);
        self.list_at = self.clock.now().plus(self.config.scan_every());
    }
}

#[async_trait]
impl Source for S3Source {
    fn kind(&self) -> &'static str {
        "s3"
    }

    async fn poll(&mut self) -> Result<Polled> {
        let began = self.clock.now();
        // With `once`, each poll that has nothing left begins with a listing of its own.
        let mut looks = self.once;
        loop {
            if let Some(error) = self.troubles.pop_front() {
                return Err(error);
            }
            self.confirm().await?;
            let idle = self.listing.is_none() && self.queue.is_empty();
            if idle && (looks || (!self.once && self.clock.now() >= self.list_at)) {
                self.begin_listing();
            }
            looks = false;
            self.list().await?;
            let objects = self.deliver().await?;
            if !objects.is_empty() {
                return Ok(Polled::Batch(RawBatch::Objects(objects)));
            }
            if !self.troubles.is_empty() || self.listing.is_some() || !self.queue.is_empty() {
                continue;
            }
            let now = self.clock.now();
            let left = IDLE_AFTER.saturating_sub(now.since(began));
            if self.once {
                let Some(next) = self.next_try(now) else { return Ok(Polled::Idle) };
                self.clock.sleep(next.since(now)).await;
                looks = true;
                continue;
            }
            if left.is_zero() {
                return Ok(Polled::Idle);
            }
            let until_listing = self.list_at.since(now).max(Duration::from_millis(1));
            self.clock.sleep(left.min(until_listing)).await;
        }
    }

    async fn acknowledge(&mut self, landed: &[SegmentId]) -> Result<()> {
        // The ledger knows which objects these are; a bucket has nothing to be told.
        tracing::debug!(segments = landed.len(), "landed");
        self.confirm_at = Timestamp::from_micros(i64::MIN);
        Ok(())
    }

    fn oldest_unlanded(&self) -> Option<Timestamp> {
        let flight = self.flight.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = self.queue.iter().chain(&self.gathered).map(|object| object.modified_at);
        waiting.chain(flight.values().map(|(object, _)| object.modified_at)).min()
    }
}
