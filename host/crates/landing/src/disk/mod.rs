//! The zone in a folder of a local file system.

mod files;
mod put;
mod read;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use forebay_disk::{Disk, LocalDisk};
use forebay_model::flow::RawRecords;
use forebay_model::ports::{
    Journal, JournalEntry, LandedObject, LandingZone, ObjectEntry, Random, SplitRule, ZoneIdentity,
};
use forebay_model::segment::Compression;
use forebay_model::{Digest, Result, StreamName, Timestamp};
use futures::stream::BoxStream;
use uuid::Uuid;

use self::files::Files;
use crate::error::LandingError;
use crate::naming::OWN;
use crate::{envelope, journal, naming};

const JOURNAL: &str = "journal";
const KEPT: &str = "kept";
const IDENTITY: &str = "zone.json";

/// The zone in a folder.
#[derive(Debug, Clone)]
pub struct DiskZone {
    files: Arc<Files>,
}

/// Runs what waits for the disk where it keeps no task waiting. It runs on when its future is dropped.
fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LandingError> + Send + 'static,
) -> impl Future<Output = Result<T, LandingError>> {
    let running = tokio::task::spawn_blocking(work);
    async {
        match running.await {
            Ok(done) => done,
            Err(error) => Err(LandingError::Invariant(format!("a task of the landing zone ended: {error}"))),
        }
    }
}

impl DiskZone {
    /// Opens the zone at `root`; the folder is made where there is none. `random` names temporary files.
    ///
    /// # Errors
    /// Class operator, naming the folder, where it cannot be made or written.
    pub fn open(root: impl AsRef<Path>, random: Arc<dyn Random>) -> Result<Self> {
        Self::open_on(Arc::new(LocalDisk), root, random)
    }

    /// The same on another disk: for tests that cut the power.
    ///
    /// # Errors
    /// As [`DiskZone::open`].
    pub fn open_on(disk: Arc<dyn Disk>, root: impl AsRef<Path>, random: Arc<dyn Random>) -> Result<Self> {
        Ok(Self { files: Arc::new(Files::open(disk, root.as_ref(), random)?) })
    }

    /// The zone at `root`, to be read only: nothing is made, and where there is no folder the zone is empty.
    pub fn reading(root: impl AsRef<Path>, random: Arc<dyn Random>) -> Self {
        Self { files: Arc::new(Files::reading(Arc::new(LocalDisk), root.as_ref(), random)) }
    }

    /// Whether the zone at `root` belongs to a ledger.
    #[must_use]
    pub fn is_taken(root: impl AsRef<Path>) -> bool {
        root.as_ref().join(OWN).join(IDENTITY).exists()
    }

    /// Remembers the content of an object that has just landed.
    fn know(&self, landed: &LandedObject) {
        if let Ok(file) = read::whole(&self.files.path(&landed.name), &landed.name) {
            self.files.know(&landed.name, &file, landed.digest);
        }
    }

    /// Refuses an object that is not what landed. Its content is read unless it is known.
    fn check(&self, name: &str, file: &File, landed: Digest) -> Result<(), LandingError> {
        if !self.files.is_known(name, file, landed) {
            LandingError::check(name, read::digest(file, name)?, landed)?;
            self.files.know(name, file, landed);
        }
        Ok(())
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Files) -> Result<T, LandingError> + Send + 'static,
    ) -> Result<T> {
        let files = Arc::clone(&self.files);
        Ok(blocking(move || work(&files)).await?)
    }
}

/// The entries of the journal, oldest first: name and path.
fn entry_files(files: &Files) -> Result<Vec<(String, PathBuf)>, LandingError> {
    let paths = read::names(&files.own(JOURNAL))?;
    let named = paths.into_iter().filter_map(|path| Some((path.file_name()?.to_str()?.to_owned(), path)));
    Ok(named.filter(|(name, _)| journal::is_entry(name)).collect())
}

#[async_trait]
impl LandingZone for DiskZone {
    async fn put(
        &self,
        name: &str,
        body: BoxStream<'static, Result<Bytes>>,
        compression: Compression,
        split: SplitRule,
    ) -> Result<LandedObject> {
        naming::check(name)?;
        let landed = put::object(&self.files, name, body, compression, split).await?;
        self.know(&landed);
        Ok(landed)
    }

    async fn put_records(&self, name: &str, stream: &StreamName, records: &RawRecords) -> Result<LandedObject> {
        naming::check(name)?;
        let landed = put::records(&self.files, name, stream, records).await?;
        self.know(&landed);
        Ok(landed)
    }

    fn open(&self, name: &str, range: Range<u64>, digest: Option<Digest>) -> Result<Box<dyn Read + Send>> {
        naming::check(name)?;
        let path = self.files.path(name);
        let file = read::whole(&path, name)?;
        if let Some(digest) = digest
            && range == (0..read::size(&path, &file)?)
        {
            self.check(name, &file, digest)?;
        }
        Ok(Box::new(read::part(name, file, &path, range)?))
    }

    fn open_records(&self, name: &str, rows: Range<u64>, digest: Digest) -> Result<envelope::Rows> {
        naming::check(name)?;
        let file = read::whole(&self.files.path(name), name)?;
        self.check(name, &file, digest)?;
        Ok(envelope::open(name, file, rows)?)
    }

    fn times_of(&self, name: &str, rows: Range<u64>, digest: Digest) -> Result<Option<RangeInclusive<Timestamp>>> {
        naming::check(name)?;
        let file = read::whole(&self.files.path(name), name)?;
        self.check(name, &file, digest)?;
        Ok(envelope::times(name, file, rows)?)
    }

    async fn journal(&self, entry: &JournalEntry) -> Result<()> {
        let name = journal::entry_name(entry);
        let bytes = journal::write_entry(entry)?;
        self.run(move |files| {
            let path = files.own(JOURNAL).join(&name);
            let relative: PathBuf = [OWN, JOURNAL, &name].iter().collect();
            if files.write_once(&relative, &bytes)? {
                return Ok(());
            }
            match read::small(&path)? {
                Some(known) if known == bytes => Ok(()),
                Some(known) if journal::is_torn(&path, &known) => {
                    tracing::warn!(entry = name, "an entry of the journal is torn: it is set aside and written anew");
                    files.rename_own(JOURNAL, &name, &format!("{name}{}", journal::ASIDE))?;
                    files.write_once(&relative, &bytes).map(drop)
                }
                Some(_) | None => Err(LandingError::Exists { name: relative.display().to_string() }),
            }
        })
        .await
    }

    async fn journal_entries(&self) -> Result<Vec<JournalEntry>> {
        self.run(|files| {
            let mut entries = Vec::new();
            for (_, path) in entry_files(files)? {
                if let Some(bytes) = read::small(&path)? {
                    entries.push(journal::read_entry(&path, &bytes)?);
                }
            }
            Ok(entries)
        })
        .await
    }

    async fn read_journal(&self, newest: Option<usize>) -> Result<Journal> {
        self.run(move |files| {
            let entries = entry_files(files)?;
            let skipped = newest.map_or(0, |newest| entries.len().saturating_sub(newest));
            let mut survey = journal::Survey::default();
            for (name, path) in entries.into_iter().skip(skipped) {
                if let Some(bytes) = read::small(&path)? {
                    survey.take(&name, &path, &bytes)?;
                }
            }
            Ok(survey.finish())
        })
        .await
    }

    async fn set_aside(&self, entry: &str) -> Result<()> {
        naming::check_parts(entry)?;
        let entry = entry.to_owned();
        self.run(move |files| files.rename_own(JOURNAL, &entry, &format!("{entry}{}", journal::ASIDE))).await
    }

    async fn journalled(&self) -> Result<BTreeSet<Uuid>> {
        self.run(|files| {
            let paths = read::names(&files.own(JOURNAL))?;
            let names = paths.iter().filter_map(|path| path.file_name()?.to_str());
            Ok(names.filter_map(journal::attempt_of).collect())
        })
        .await
    }

    async fn identity(&self) -> Result<Option<ZoneIdentity>> {
        self.run(|files| {
            let path = files.own(IDENTITY);
            read::small(&path)?.map(|bytes| journal::read_identity(&path, &bytes)).transpose()
        })
        .await
    }

    async fn claim(&self, identity: &ZoneIdentity) -> Result<()> {
        let identity = identity.clone();
        self.run(move |files| {
            let relative: PathBuf = [OWN, IDENTITY].iter().collect();
            if files.write_once(&relative, &journal::write_identity(&identity)?)? {
                tracing::info!(ledger = %identity.ledger, "landing zone taken");
                return Ok(());
            }
            let path = files.own(IDENTITY);
            let owner = read::small(&path)?.unwrap_or_default();
            journal::check_owner(&journal::read_identity(&path, &owner)?, &identity)
        })
        .await
    }

    async fn keep(&self, name: &str, bytes: Bytes) -> Result<()> {
        naming::check_parts(name)?;
        let relative = [OWN, KEPT, name].iter().collect::<PathBuf>();
        self.run(move |files| files.write_once(&relative, &bytes).map(|_| ())).await
    }

    async fn kept(&self, name: &str) -> Result<Option<Bytes>> {
        naming::check_parts(name)?;
        let name = name.to_owned();
        self.run(move |files| Ok(read::small(&files.own(KEPT).join(name))?.map(Bytes::from))).await
    }

    async fn kept_in(&self, folder: &str) -> Result<Vec<String>> {
        naming::check_parts(folder)?;
        let folder = folder.to_owned();
        self.run(move |files| {
            let paths = read::names(&files.own(KEPT).join(&folder))?;
            let names = paths.iter().filter_map(|path| path.file_name()?.to_str());
            Ok(names.map(|name| format!("{folder}/{name}")).collect())
        })
        .await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectEntry>> {
        let prefix = prefix.to_owned();
        self.run(move |files| read::list(&files.path(""), &prefix)).await
    }

    async fn delete(&self, name: &str) -> Result<()> {
        naming::check(name)?;
        let name = name.to_owned();
        self.run(move |files| files.remove(&name)).await
    }

    async fn sweep(&self, before: Timestamp) -> Result<Vec<String>> {
        self.run(move |files| files.sweep(before)).await
    }
}
