//! The zone in a bucket. The names are those of a folder, below the bucket's prefix.
//!
//! A name is written once because each write has the condition that there is nothing yet. An answer may be lost after the write was
//! carried out: the next attempt finds the name taken then, by an object that says which call wrote it.

mod objects;
mod put;
mod read;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use forebay_model::flow::RawRecords;
use forebay_model::ports::{
    Journal, JournalEntry, LandedObject, LandingZone, OBJECT_BYTES, ObjectEntry, Random, SplitRule, ZoneIdentity,
};
use forebay_model::segment::Compression;
use forebay_model::{Digest, Error, Result, StreamName, Timestamp};
use forebay_s3::{Bucket, S3Address, S3Options};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use uuid::Uuid;

use self::objects::{Objects, Put, Version};
use self::read::{Copies, LocalCopy, Part};
use crate::error::LandingError;
use crate::naming::OWN;
use crate::{envelope, journal, naming};

const JOURNAL: &str = "_forebay/journal/";
const KEPT: &str = "_forebay/kept/";
const IDENTITY: &str = "_forebay/zone.json";

/// Entries of the journal that are asked for at once.
const AT_ONCE: usize = 16;
/// So many objects are remembered: what has just landed is refined next.
const KNOWN: usize = 4096;

/// How objects are encrypted, where it is not left to the bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Encryption {
    /// By keys of the server's.
    Aes256,
    /// By a key of AWS KMS.
    Kms {
        /// The key; the account's own for S3 where none is named.
        key: Option<String>,
    },
}

/// The zone in a bucket.
#[derive(Debug, Clone)]
pub struct S3Zone {
    objects: Arc<Objects>,
    /// Objects that this process wrote, or has read whole and found to be what landed: as they were then.
    known: Arc<Mutex<BTreeMap<String, (Digest, Version)>>>,
    envelopes: Arc<Copies>,
}

type Inner<T> = crate::error::Result<T>;

impl S3Zone {
    /// Opens the zone at an address. Nothing is asked of the server yet: one that is away for a while is told when it is.
    ///
    /// # Errors
    /// Class operator, where no thread can be started.
    pub fn open(
        address: S3Address,
        encryption: Option<Encryption>,
        options: S3Options,
        random: Arc<dyn Random>,
    ) -> Result<Self> {
        let objects = Arc::new(Objects::new(Bucket::open(address, options)?, encryption, random));
        Ok(Self { objects, known: Arc::default(), envelopes: Arc::default() })
    }

    /// Does work on the bucket's runtime; it goes on when its future is dropped.
    fn run<T, W, F>(&self, work: F) -> impl Future<Output = Result<T>> + use<T, W, F>
    where
        F: FnOnce(Arc<Objects>) -> W,
        T: Send + 'static,
        W: Future<Output = Inner<T>> + Send + 'static,
    {
        let work = work(Arc::clone(&self.objects));
        self.objects.bucket.run(async { work.await.map_err(Error::from) })
    }

    /// An object as it stands. Blocks.
    fn version(&self, name: &str) -> Result<Version> {
        naming::check(name)?;
        let (objects, name) = (Arc::clone(&self.objects), name.to_owned());
        self.objects.bucket.wait(async move { objects.version(&name).await.map_err(Error::from) })
    }

    fn is_known(&self, name: &str, landed: Digest, version: &Version) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(name).is_some_and(|(digest, at)| *digest == landed && at == version)
    }

    /// Remembers the content of an object.
    fn knowing(&self) -> impl FnOnce(&LandedObject, Version) + Send + 'static + use<> {
        let known = Arc::clone(&self.known);
        move |landed, version| know(&known, &landed.name, landed.digest, version)
    }
}

fn know(known: &Mutex<BTreeMap<String, (Digest, Version)>>, name: &str, digest: Digest, version: Version) {
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    if known.len() >= KNOWN {
        known.clear();
    }
    known.insert(name.to_owned(), (digest, version));
}

/// A name as messages about what it holds tell it.
fn place(objects: &Objects, name: &str) -> PathBuf {
    PathBuf::from(objects.bucket.address().url(name))
}

/// Writes a small object of forebay's own; false where there is one already.
async fn write_once(objects: &Objects, name: &str, bytes: Bytes) -> Inner<bool> {
    let digest = Digest::of(&bytes);
    Ok(matches!(objects.put(name, bytes, digest).await?, Put::Placed(_)))
}

/// The names in the journal, as files of its folder, sorted.
async fn journal_names(objects: &Objects) -> Inner<Vec<String>> {
    let listed = objects.list(JOURNAL, None).await?;
    let mut names: Vec<_> =
        listed.iter().filter_map(|entry| entry.name.strip_prefix(JOURNAL)).map(str::to_owned).collect();
    names.sort();
    Ok(names)
}

/// The newest entries of the journal, or all: their names and what they hold, oldest first.
async fn journal_bytes(objects: &Arc<Objects>, newest: Option<usize>) -> Inner<Vec<(String, Bytes)>> {
    let mut names = journal_names(objects).await?;
    names.retain(|name| journal::is_entry(name));
    let skipped = newest.map_or(0, |newest| names.len().saturating_sub(newest));
    let read = names.into_iter().skip(skipped).map(|name| {
        let objects = Arc::clone(objects);
        async move {
            let bytes = objects.small(&format!("{JOURNAL}{name}")).await?;
            // Set aside since it was listed.
            Inner::Ok(bytes.map(|bytes| (name, bytes)))
        }
    });
    futures::stream::iter(read).buffered(AT_ONCE).try_filter_map(async |entry| Ok(entry)).try_collect().await
}

/// Puts a damaged entry under another name.
async fn set_aside(objects: &Objects, entry: &str) -> Inner<()> {
    let (name, aside) = (format!("{JOURNAL}{entry}"), format!("{JOURNAL}{entry}{}", journal::ASIDE));
    match objects.small(&name).await? {
        Some(bytes) => {
            if !write_once(objects, &aside, bytes.clone()).await?
                && objects.small(&aside).await?.is_none_or(|known| known != bytes)
            {
                return Err(LandingError::Exists { name: aside });
            }
            objects.delete(&name).await
        }
        None if objects.small(&aside).await?.is_some() => Ok(()),
        None => Err(LandingError::Missing { name: entry.to_owned() }),
    }
}

async fn write_entry(objects: &Objects, entry: &str, bytes: Bytes) -> Inner<()> {
    let name = format!("{JOURNAL}{entry}");
    if write_once(objects, &name, bytes.clone()).await? {
        return Ok(());
    }
    match objects.small(&name).await? {
        Some(known) if known == bytes => Ok(()),
        Some(known) if journal::is_torn(&place(objects, &name), &known) => {
            tracing::warn!(entry, "an entry of the journal is damaged: it is set aside and written anew");
            set_aside(objects, entry).await?;
            write_once(objects, &name, bytes).await.map(drop)
        }
        Some(_) | None => Err(LandingError::Exists { name }),
    }
}

async fn identity(objects: &Objects) -> Inner<Option<ZoneIdentity>> {
    let bytes = objects.small(IDENTITY).await?;
    bytes.map(|bytes| journal::read_identity(&place(objects, IDENTITY), &bytes)).transpose()
}

/// Takes a new zone. Whoever is first has it; a server that lets a second one write does not keep its promises.
async fn claim(objects: &Objects, wanted: &ZoneIdentity) -> Inner<()> {
    let bytes = Bytes::from(journal::write_identity(wanted)?);
    if write_once(objects, IDENTITY, bytes.clone()).await? {
        if write_once(objects, IDENTITY, bytes).await? {
            let address = objects.bucket.address();
            let what = format!("{} does not keep the condition that a name is written once", address.server());
            let hint =
                "a landing zone needs a server that knows conditional writes (If-None-Match): see docs/landing-s3.md";
            return Err(LandingError::Bucket(Error::operator(what).with_hint(hint)));
        }
        tracing::info!(ledger = %wanted.ledger, "landing zone taken");
        return Ok(());
    }
    let owner = identity(objects).await?;
    let owner = owner.ok_or_else(|| LandingError::Missing { name: IDENTITY.to_owned() })?;
    journal::check_owner(&owner, wanted)
}

/// Objects by name, without forebay's own.
async fn list(objects: &Objects, prefix: &str) -> Inner<Vec<ObjectEntry>> {
    if prefix.starts_with('/') || prefix.split('/').any(|part| part == "..") {
        return Err(LandingError::Name { name: prefix.to_owned(), why: "a prefix stays in the zone" });
    }
    let mut found = if prefix.contains('/') {
        objects.list(prefix, None).await?
    } else {
        // The journal may be long, and is none of what was asked for: its folder is not entered.
        let mut folders = Vec::new();
        let mut found = objects.list(prefix, Some(&mut folders)).await?;
        for folder in folders.iter().filter(|folder| folder.trim_end_matches('/') != OWN) {
            found.extend(objects.list(folder, None).await?);
        }
        found
    };
    found.retain(|entry| match naming::check(&entry.name) {
        Ok(()) => true,
        Err(_) if entry.name.split('/').next() == Some(OWN) => false,
        Err(_) => {
            tracing::warn!(object = entry.name, "an object of another's lies in the landing zone");
            false
        }
    });
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

async fn sweep(objects: &Objects, before: Timestamp) -> Inner<Vec<String>> {
    let mut swept = Vec::new();
    for upload in objects.uploads("").await? {
        // A prefix may be shared: only what was to be an object of forebay's is touched.
        let is_ours = naming::attempt_of(&upload.name).is_some() && !objects.is_uploading(&upload.id);
        if is_ours && upload.begun_at < before {
            objects.abort(&upload.name, &upload.id).await?;
            swept.push(upload.name);
        }
    }
    swept.sort();
    Ok(swept)
}

#[async_trait]
impl LandingZone for S3Zone {
    async fn put(
        &self,
        name: &str,
        body: BoxStream<'static, Result<Bytes>>,
        compression: Compression,
        split: SplitRule,
    ) -> Result<LandedObject> {
        naming::check(name)?;
        Ok(put::object(&self.objects, name, body, (compression, split), self.knowing()).await?)
    }

    fn object_bytes(&self) -> u64 {
        OBJECT_BYTES + u64::try_from(put::PART).unwrap_or_default()
    }

    async fn put_records(&self, name: &str, stream: &StreamName, records: &RawRecords) -> Result<LandedObject> {
        naming::check(name)?;
        Ok(put::records(&self.objects, name, stream, records, self.knowing()).await?)
    }

    fn open(&self, name: &str, range: Range<u64>, digest: Option<Digest>) -> Result<Box<dyn Read + Send>> {
        let version = self.version(name)?;
        if range.start > range.end || range.end > version.bytes {
            let (found, wanted) = (version.bytes, range.end);
            return Err(LandingError::Torn { name: name.to_owned(), found, wanted }.into());
        }
        if let Some(digest) = digest
            && range == (0..version.bytes)
            && !self.is_known(name, digest, &version)
        {
            let copy = LocalCopy::make(&self.objects, name, &version, digest)?;
            know(&self.known, name, digest, version);
            return Ok(Box::new(copy.reader(0)));
        }
        Ok(Box::new(Part::begin(&self.objects, name, range, &version)))
    }

    fn open_records(&self, name: &str, rows: Range<u64>, digest: Digest) -> Result<envelope::Rows> {
        let copy = self.envelopes.get(&self.objects, name, &self.version(name)?, digest)?;
        Ok(envelope::open(name, copy, rows)?)
    }

    fn times_of(&self, name: &str, rows: Range<u64>, digest: Digest) -> Result<Option<RangeInclusive<Timestamp>>> {
        let copy = self.envelopes.get(&self.objects, name, &self.version(name)?, digest)?;
        Ok(envelope::times(name, copy, rows)?)
    }

    async fn journal(&self, entry: &JournalEntry) -> Result<()> {
        let (bytes, name) = (Bytes::from(journal::write_entry(entry)?), journal::entry_name(entry));
        self.run(|objects| async move { write_entry(&objects, &name, bytes).await }).await
    }

    async fn journal_entries(&self) -> Result<Vec<JournalEntry>> {
        self.run(|objects| async move {
            let entries = journal_bytes(&objects, None).await?;
            let read = |(name, bytes): &(String, Bytes)| {
                journal::read_entry(&place(&objects, &format!("{JOURNAL}{name}")), bytes)
            };
            entries.iter().map(read).collect()
        })
        .await
    }

    async fn read_journal(&self, newest: Option<usize>) -> Result<Journal> {
        self.run(move |objects| async move {
            let mut survey = journal::Survey::default();
            for (name, bytes) in journal_bytes(&objects, newest).await? {
                survey.take(&name, &place(&objects, &format!("{JOURNAL}{name}")), &bytes)?;
            }
            Ok(survey.finish())
        })
        .await
    }

    async fn set_aside(&self, entry: &str) -> Result<()> {
        naming::check_parts(entry)?;
        let entry = entry.to_owned();
        self.run(|objects| async move { set_aside(&objects, &entry).await }).await
    }

    async fn journalled(&self) -> Result<BTreeSet<Uuid>> {
        self.run(|objects| async move {
            Ok(journal_names(&objects).await?.iter().filter_map(|name| journal::attempt_of(name)).collect())
        })
        .await
    }

    async fn identity(&self) -> Result<Option<ZoneIdentity>> {
        self.run(|objects| async move { identity(&objects).await }).await
    }

    async fn claim(&self, identity: &ZoneIdentity) -> Result<()> {
        let identity = identity.clone();
        self.run(|objects| async move { claim(&objects, &identity).await }).await
    }

    async fn keep(&self, name: &str, bytes: Bytes) -> Result<()> {
        naming::check_parts(name)?;
        let name = format!("{KEPT}{name}");
        self.run(|objects| async move { write_once(&objects, &name, bytes).await.map(drop) }).await
    }

    async fn kept(&self, name: &str) -> Result<Option<Bytes>> {
        naming::check_parts(name)?;
        let name = format!("{KEPT}{name}");
        self.run(|objects| async move { objects.small(&name).await }).await
    }

    async fn kept_in(&self, folder: &str) -> Result<Vec<String>> {
        naming::check_parts(folder)?;
        let prefix = format!("{KEPT}{folder}/");
        self.run(|objects| async move {
            let listed = objects.list(&prefix, None).await?;
            let names = listed.iter().filter_map(|entry| entry.name.strip_prefix(KEPT));
            let mut names: Vec<_> = names.map(str::to_owned).collect();
            names.sort();
            Ok(names)
        })
        .await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectEntry>> {
        let prefix = prefix.to_owned();
        self.run(|objects| async move { list(&objects, &prefix).await }).await
    }

    async fn delete(&self, name: &str) -> Result<()> {
        naming::check(name)?;
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        let name = name.to_owned();
        self.run(|objects| async move { objects.delete(&name).await }).await
    }

    async fn sweep(&self, before: Timestamp) -> Result<Vec<String>> {
        self.run(move |objects| async move { sweep(&objects, before).await }).await
    }
}
