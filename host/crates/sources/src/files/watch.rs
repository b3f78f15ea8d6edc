//! Notifications of the operating system, gathered until the source looks.
//!
//! A notification only says where to look; what counts is what is seen there. So one that is lost costs time, not data: the
//! periodic look at the whole folder finds what it would have named.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
use notify::{Config, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

/// More paths than this are not kept: the whole folder is looked through instead.
const MAX_PATHS: usize = 10_000;

/// What was named since the last look.
#[derive(Debug, Default)]
pub(super) struct Noticed {
    /// Paths that may have changed.
    pub(super) paths: HashSet<PathBuf>,
    /// Something happened that a single path does not tell: a rename, a folder, lost notifications.
    pub(super) everything: bool,
}

/// A watched folder.
#[derive(Debug)]
pub(super) struct Watch {
    noticed: Arc<Mutex<Noticed>>,
    wake: Arc<Notify>,
    _watcher: RecommendedWatcher,
}

impl Watch {
    /// Watches a folder and all below it, as long as the value lives. With `renames`, each rename is a wish to look
    /// everywhere: for rotation both names count, at the same time.
    pub(super) fn start(folder: &Path, renames: bool) -> notify::Result<Self> {
        let noticed = Arc::new(Mutex::new(Noticed::default()));
        let wake = Arc::new(Notify::new());
        let mut watcher = {
            let (noticed, wake) = (Arc::clone(&noticed), Arc::clone(&wake));
            let handler = move |event: notify::Result<notify::Event>| {
                if lock(&noticed).note(event, renames) {
                    wake.notify_one();
                }
            };
            RecommendedWatcher::new(handler, Config::default().with_follow_symlinks(false))?
        };
        watcher.watch(folder, RecursiveMode::Recursive)?;
        Ok(Self { noticed, wake, _watcher: watcher })
    }

    /// What was named since the last call.
    pub(super) fn take(&self) -> Noticed {
        std::mem::take(&mut *lock(&self.noticed))
    }

    /// Returns when something is named.
    pub(super) async fn named(&self) {
        self.wake.notified().await;
    }
}

impl Noticed {
    /// Adds what another one holds.
    pub(super) fn merge(&mut self, other: Self) {
        let Self { paths, everything } = other;
        self.paths.extend(paths);
        self.everything |= everything;
        self.bound();
    }

    /// Whether the event says anything.
    fn note(&mut self, event: notify::Result<notify::Event>, renames: bool) -> bool {
        let Ok(event) = event else {
            self.everything = true;
            return true;
        };
        if event.need_rescan() {
            self.everything = true;
        }
        match event.kind {
            // Reading a file, which is what forebay does, is told as access too.
            EventKind::Access(AccessKind::Close(AccessMode::Write))
            | EventKind::Create(_)
            | EventKind::Modify(ModifyKind::Any | ModifyKind::Data(_) | ModifyKind::Metadata(_) | ModifyKind::Other)
            | EventKind::Any
            | EventKind::Other => {}
            EventKind::Modify(ModifyKind::Name(_)) => self.everything |= renames,
            EventKind::Access(_) | EventKind::Remove(_) => return self.everything,
        }
        self.paths.extend(event.paths);
        self.bound();
        true
    }

    fn bound(&mut self) {
        if self.paths.len() > MAX_PATHS {
            self.everything = true;
        }
        if self.everything {
            self.paths = HashSet::new();
        }
    }
}

fn lock(noticed: &Mutex<Noticed>) -> MutexGuard<'_, Noticed> {
    noticed.lock().unwrap_or_else(PoisonError::into_inner)
}
