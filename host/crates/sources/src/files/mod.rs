//! A folder of files.
//!
//! **What is promised.** Each version of each file that the patterns take is delivered at least once and, as long as the
//! ledger answers, not again once it has landed. A file is taken only when it is complete. One that cannot be read keeps no
//! other from being delivered. A file of any size passes in a few MiB of memory.
//!
//! **How a file is found.** Notifications of the operating system ([`watch`](self), `notify`) say where to look, and the
//! whole folder is looked through each `scan_seconds` for what they missed. What counts is what is seen then: size, time of
//! the last change and inode. Names that begin with `.` or `_` (of folders too) or end in `.tmp` or `.part` are not taken.
//! Links to folders are not followed; a link to a file is, where it leads to a file in the folder that is not taken by its
//! own name.
//!
//! **When it is complete.** When it has not changed for `settle_milliseconds`: it is compared with what was seen then when
//! it is opened, and once more before its last byte is handed over; where it differs, the body ends with an error of class
//! retry and the file is delivered again later. With `once`, a file whose time of change is older than that is taken without
//! waiting; one that keeps changing for [`PATIENCE`] is left for the next run, with a warning.
//!
//! **What it means that a file changed.** With `replace` and `append` the whole file is delivered as a new version. With
//! `tail`, what was added is: complete lines, or the rest where nothing was written for `partial_line_seconds`. A file that
//! was truncated is taken from its beginning, and one that was renamed is known by its inode and content and goes on under
//! its new name, if that matches the patterns; so rotate by renaming, to a name that `include` matches, and compress one
//! rotation later. The former name is not taken before the ledger knows the new one. Logs that are rotated by copying
//! (`copytruncate`) need an `exclude` for the copies; what is written between copying and truncating is lost to everyone.
//!
//! **Errors of a path** are returned by a later poll and not repeated within a minute. A file that was removed is no error;
//! the rows that were made of it stay.
//!
//! **Keys** are paths relative to the folder; names that are not UTF-8 are escaped without loss (`%FF`). The **partition** is
//! `files:` and the folder: as the config has it where that is relative to the config, so that a project that is moved goes on where
//! it was; else its path without links. **Versions** are `<size>-<time>-<inode>`, see `identity`.

mod body;
mod config;
mod deliver;
mod error;
mod flight;
mod identity;
mod key;
mod queue;
mod scan;
mod tail;
mod take;
#[cfg(test)]
mod tests;
mod trouble;
mod watch;

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use forebay_model::ports::{Clock, ObjectState, Polled, Progress, Source};
use forebay_model::{Digest, Error, Partition, Result, SegmentId, Timestamp};

use self::body::Pool;
pub use self::config::FilesConfig;
pub use self::error::FilesError;
use self::flight::Flight;
use self::queue::Queue;
use self::scan::{Found, Look, Stamp, Walk};
use self::tail::Tails;
use self::trouble::Troubles;
use self::watch::{Noticed, Watch};
use crate::patterns::Patterns;

/// How long a poll waits where nothing is there.
const IDLE_AFTER: Duration = Duration::from_secs(1);
/// With `once`: how long a file that keeps changing is waited for (ten times the settle time, where that is more).
pub const PATIENCE: Duration = Duration::from_secs(10);
/// The least time between two looks at the whole folder.
const SCAN_PAUSE: Duration = Duration::from_millis(250);
/// How soon is asked again for what another file's landing decides.
const SOON: Duration = Duration::from_millis(50);

/// A file as it landed, by the digest of its key: 40 bytes for each, whatever the names.
#[derive(Debug, Clone, Copy)]
struct Landed {
    stamp: Stamp,
    /// The last look at the folder that saw it; others are forgotten.
    scan: u64,
}

/// A folder of files as a source; see the [module](self).
#[derive(Debug)]
pub struct FilesSource {
    config: FilesConfig,
    folder: PathBuf,
    partition: Partition,
    patterns: Arc<Patterns>,
    progress: Arc<dyn Progress>,
    clock: Arc<dyn Clock>,
    once: bool,
    watch: Option<Watch>,
    /// Notifications that were taken over and not looked at.
    noticed: Noticed,
    scans: u64,
    scanned_at: Option<Timestamp>,
    scan_at: Timestamp,
    queue: Queue,
    /// Keys that left the line, with what the ledger knows of them.
    asked: VecDeque<(Arc<str>, Option<ObjectState>)>,
    flight: Flight,
    confirm_at: Timestamp,
    landed: HashMap<[u8; 16], Landed>,
    tails: Tails,
    /// Files that cannot be taken as they are; tried again at the next look at the whole folder.
    refused: HashMap<Arc<str>, Stamp>,
    /// How often the delivery of a key failed, and until when it is left alone.
    failures: HashMap<Arc<str>, (u32, Timestamp)>,
    troubles: Troubles,
    pool: Pool,
}

/// The key of a file, of its path relative to the source's folder.
#[must_use]
pub fn key_of(path: &Path) -> String {
    key::encode(path)
}

impl FilesSource {
    /// Opens a folder; a relative `url` is relative to `base_dir`. With `once` nothing is watched: what is there is taken.
    ///
    /// # Errors
    /// Where the folder is not there, or the settings do not fit.
    pub fn open(
        config: FilesConfig,
        base_dir: &Path,
        progress: Arc<dyn Progress>,
        clock: Arc<dyn Clock>,
        once: bool,
    ) -> Result<Self, FilesError> {
        config.check()?;
        let patterns = Arc::new(config.patterns()?);
        let folder = config.folder(base_dir)?;
        let watch = if once { None } else { start_watch(&folder, config.tails()) };
        Ok(Self {
            partition: Partition::new(format!("files:{}", key::encode(&config.identity(&folder)))),
            patterns,
            progress,
            clock,
            once,
            watch,
            noticed: Noticed::default(),
            scans: 0,
            scanned_at: None,
            scan_at: Timestamp::from_micros(i64::MIN),
            queue: Queue::default(),
            asked: VecDeque::new(),
            flight: Flight::default(),
            confirm_at: Timestamp::from_micros(i64::MIN),
            landed: HashMap::new(),
            tails: Tails::default(),
            refused: HashMap::new(),
            failures: HashMap::new(),
            troubles: Troubles::new(&folder),
            pool: Pool::default(),
            config,
            folder,
        })
    }

    /// Looks at what was notified, or at the whole folder where it is time to, or where it is `wanted`.
    async fn look(&mut self, wanted: bool) -> Result<()> {
        if let Some(watch) = &self.watch {
            self.noticed.merge(watch.take());
        }
        let now = self.clock.now();
        if self.noticed.everything {
            let soon = self.scanned_at.map_or(now, |at| at.plus(SCAN_PAUSE));
            self.scan_at = self.scan_at.min(soon);
        }
        let folder = self.folder.clone();
        let patterns = Arc::clone(&self.patterns);
        if wanted || now >= self.scan_at {
            let walk = blocking(&self.folder, move || scan::walk(&folder, &patterns)).await?;
            if self.config.tails() {
                self.learn(&walk.found).await?;
            }
            self.noticed = Noticed::default();
            self.scanned_at = Some(now);
            self.scan_at = now.plus(self.config.scan_every());
            self.merge_walk(walk, now);
        } else if !self.noticed.paths.is_empty() && !self.noticed.everything {
            let paths: Vec<_> = self.noticed.paths.iter().cloned().collect();
            let looks = blocking(&self.folder, move || {
                paths.into_iter().map(|path| (scan::look(&folder, &path, &patterns), path)).collect::<Vec<_>>()
            })
            .await?;
            self.noticed = Noticed::default();
            for (look, path) in looks {
                match look {
                    Ok(Look::File(found)) => self.notice(found, now),
                    Ok(Look::Folder) => self.noticed.everything = true,
                    Ok(Look::Nothing) => {}
                    Err(error) => self.troubles.note(&path, error, now),
                }
            }
        }
        Ok(())
    }

    fn merge_walk(&mut self, walk: Walk, now: Timestamp) {
        let Walk { found, troubles } = walk;
        self.scans += 1;
        tracing::debug!(folder = %self.folder.display(), files = found.len(), "folder looked through");
        if !self.once {
            self.refused.clear();
        }
        if self.config.tails() {
            self.tails.present(&found);
        }
        for found in found {
            self.notice(found, now);
        }
        let scans = self.scans;
        self.landed.retain(|_, landed| landed.scan == scans);
        self.failures.retain(|_, (_, until)| now.since(*until) < trouble::QUIET);
        for (path, error) in troubles {
            self.troubles.note(&path, error, now);
        }
    }

    /// A file was seen: if it is news, it waits until it is complete.
    fn notice(&mut self, found: Found, now: Timestamp) {
        if self.config.tails() {
            if self.tails.exhausted(&found) {
                return;
            }
        } else if let Some(landed) = self.landed.get_mut(&landed_key(&found.key)) {
            landed.scan = self.scans;
            if landed.stamp == found.stamp {
                return;
            }
        }
        if self.refused.get(&found.key) == Some(&found.stamp) || self.flight.carries(&found.key, found.stamp) {
            return;
        }
        let due = self.due(&found, now);
        self.queue.notice(found, now, self.config.tails(), due);
    }

    /// When a file that was just seen in a new state counts as complete.
    fn due(&self, found: &Found, now: Timestamp) -> Timestamp {
        let settle = self.config.settle();
        let due = match (self.once, self.config.tails()) {
            (true, true) => now,
            (true, false) => {
                let by_time = found.stamp.modified_at().plus(settle);
                by_time.max(now).min(now.plus(settle))
            }
            (false, _) => now.plus(settle),
        };
        match self.failures.get(&found.key) {
            Some((_, until)) => due.max(*until),
            None => due,
        }
    }

    /// Whether there is nothing to deliver, or for how long to wait for it.
    fn rest(&mut self, began: Timestamp) -> Option<Duration> {
        let now = self.clock.now();
        let next = self.queue.next_due().map(|due| due.since(now));
        if self.once {
            let patience = PATIENCE.max(self.config.settle().saturating_mul(10));
            for key in self.queue.found_before(before(now, patience)) {
                tracing::warn!(key = &*key, "the file is not complete; it is left for the next run");
                if let Some(pending) = self.queue.get(&key) {
                    self.refused.insert(Arc::clone(&key), pending.found.stamp);
                }
                self.queue.done(&key);
            }
            return if self.queue.is_empty() { None } else { Some(next.unwrap_or(SOON).clamp(SOON, IDLE_AFTER)) };
        }
        let left = IDLE_AFTER.checked_sub(now.since(began)).filter(|left| !left.is_zero())?;
        let until_scan = self.scan_at.since(now);
        Some(next.unwrap_or(left).min(until_scan).min(left).max(Duration::from_millis(1)))
    }

    async fn wait(&self, duration: Duration) {
        match &self.watch {
            Some(watch) => tokio::select! {
                () = self.clock.sleep(duration) => {}
                () = watch.named() => {}
            },
            None => self.clock.sleep(duration).await,
        }
    }
}

#[async_trait]
impl Source for FilesSource {
    fn kind(&self) -> &'static str {
        "files"
    }

    async fn poll(&mut self) -> Result<Polled> {
        let began = self.clock.now();
        let mut first = true;
        loop {
            if let Some(error) = self.troubles.next() {
                return Err(error.into());
            }
            self.confirm().await?;
            // With `once` there are no notifications: each poll that has nothing left begins with a look of its own.
            self.look(self.once && first && self.queue.is_empty()).await?;
            first = false;
            if let Some(batch) = self.deliver().await? {
                return Ok(Polled::Batch(batch));
            }
            if self.troubles.any() {
                continue;
            }
            match self.rest(began) {
                None => return Ok(Polled::Idle),
                Some(duration) => self.wait(duration).await,
            }
        }
    }

    async fn acknowledge(&mut self, landed: &[SegmentId]) -> Result<()> {
        // The ledger knows which files these are; a folder has nothing to be told.
        tracing::debug!(segments = landed.len(), in_flight = self.flight.len(), "landed");
        self.confirm_at = Timestamp::from_micros(i64::MIN);
        Ok(())
    }

    /// Of those that the ledger was asked for: what merely was found may have landed long ago.
    fn oldest_unlanded(&self) -> Option<Timestamp> {
        let keys = self.asked.iter().map(|(key, _)| key).chain(self.failures.keys());
        let waiting = keys.filter_map(|key| Some(self.queue.get(key)?.found.stamp));
        // What a tail refuses is mostly a second name of what it follows.
        let refused = self.refused.values().copied().filter(|_| !self.config.tails());
        let stamps = waiting.chain(refused).chain(self.flight.stamps());
        stamps.map(|stamp| stamp.modified_at()).min()
    }
}

fn start_watch(folder: &Path, renames: bool) -> Option<Watch> {
    match Watch::start(folder, renames) {
        Ok(watch) => Some(watch),
        Err(error) => {
            tracing::warn!(
                folder = %folder.display(), %error,
                hint = "on Linux raise fs.inotify.max_user_watches; until then new files are found at each scan",
                "the folder cannot be watched"
            );
            None
        }
    }
}

fn before(time: Timestamp, duration: Duration) -> Timestamp {
    let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(time.as_micros().saturating_sub(micros))
}

fn landed_key(key: &str) -> [u8; 16] {
    let digest = Digest::of(key.as_bytes());
    let mut short = [0; 16];
    short.copy_from_slice(&digest.as_bytes()[..16]);
    short
}

/// Runs work that waits for the disk on a thread for it.
async fn blocking<T: Send + 'static>(folder: &Path, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|gone| Error::from(FilesError::Interrupted { folder: folder.to_path_buf(), reason: gone.to_string() }))
}
