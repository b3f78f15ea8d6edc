//! Notices that a file of a crate was saved.
//!
//! As in `run::watch`, a notification only wakes; what counts is a look at the files. What cargo builds, and what is hidden, is none
//! of the crate's.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::Watcher as _;
use tokio::sync::mpsc;

use crate::run::watch::{Look, look_at};

/// How long files must stay the same: an editor writes more than once.
const SETTLE: Duration = Duration::from_millis(150);
/// How often they are looked at without a notification.
const LOOK: Duration = Duration::from_secs(1);
/// Where cargo builds, wherever it lies.
const TARGET: &str = "target";
/// The one hidden folder that is the crate's.
const CARGO: &str = ".cargo";

/// The files of a crate, watched.
pub(super) struct Saved {
    folder: PathBuf,
    last: BTreeMap<PathBuf, Look>,
    /// `None` where the system cannot notify: looks alone find changes.
    watcher: Option<notify::RecommendedWatcher>,
    notified: BTreeSet<PathBuf>,
    woken: mpsc::Receiver<()>,
}

impl Saved {
    /// Starts to watch: what is saved from here on is told.
    pub(super) fn start(folder: &Path) -> Self {
        let (wake, woken) = mpsc::channel(1);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // A look opens the folders itself: it must not wake the next one.
            if !event.is_ok_and(|event| event.kind.is_access()) {
                // Full means that it will look anyway.
                let _ = wake.try_send(());
            }
        });
        let mut saved = Self {
            folder: folder.to_owned(),
            last: BTreeMap::new(),
            watcher: watcher.ok(),
            notified: BTreeSet::new(),
            woken,
        };
        saved.last = saved.look();
        saved
    }

    /// Returns when something was saved, and has stayed the same for a moment; which files.
    pub(super) async fn changed(&mut self) -> Vec<PathBuf> {
        loop {
            tokio::select! {
                Some(()) = self.woken.recv() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
            let mut now = self.look();
            if now == self.last {
                continue;
            }
            loop {
                tokio::time::sleep(SETTLE).await;
                let again = self.look();
                if again == now {
                    break;
                }
                now = again;
            }
            let paths: BTreeSet<_> = self.last.keys().chain(now.keys()).collect();
            let changed = paths.into_iter().filter(|path| self.last.get(*path) != now.get(*path)).cloned().collect();
            self.last = now;
            return changed;
        }
    }

    fn look(&mut self) -> BTreeMap<PathBuf, Look> {
        let (mut files, mut folders) = (BTreeMap::new(), BTreeSet::new());
        let mut open = vec![self.folder.clone()];
        while let Some(folder) = open.pop() {
            for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
                let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
                // A link may lead in a circle: what it leads to is looked at, and not what lies below.
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => {
                        if name != TARGET && (name == CARGO || !name.starts_with('.')) {
                            open.push(path);
                        }
                    }
                    Ok(_) if !name.starts_with('.') => drop(files.insert(path.clone(), look_at(&path))),
                    Ok(_) | Err(_) => {}
                }
            }
            folders.insert(folder);
        }
        self.notify(folders);
        files
    }

    fn notify(&mut self, folders: BTreeSet<PathBuf>) {
        let Some(watcher) = &mut self.watcher else { return };
        for folder in self.notified.difference(&folders) {
            // One that is gone is not watched any more.
            drop(watcher.unwatch(folder));
        }
        for folder in folders.difference(&self.notified) {
            if let Err(error) = watcher.watch(folder, notify::RecursiveMode::NonRecursive) {
                tracing::debug!(path = %folder.display(), %error, "no notifications; what is saved is found by looking");
            }
        }
        self.notified = folders;
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    async fn told(saved: &mut Saved) -> Vec<String> {
        let changed = tokio::time::timeout(Duration::from_secs(30), saved.changed()).await.unwrap();
        changed.iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
    }

    #[tokio::test]
    async fn a_file_that_is_saved_is_told_and_what_cargo_builds_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("src/lib.rs", "one");
        write("target/debug/x", "one");
        let mut saved = Saved::start(folder.path());
        write("target/debug/x", "another");
        write(".git/index", "new");
        write("src/.lib.rs.swp", "an editor's");
        assert!(tokio::time::timeout(Duration::from_millis(1_500), saved.changed()).await.is_err());
        write("src/lib.rs", "another");
        assert_eq!(told(&mut saved).await, ["lib.rs"]);
        // A folder that came later is watched too.
        write("cases/first/input.jsonl", "{}");
        assert_eq!(told(&mut saved).await, ["input.jsonl"]);
        write("cases/first/input.jsonl", "{} {}");
        assert_eq!(told(&mut saved).await, ["input.jsonl"]);
        std::fs::remove_file(folder.path().join("src/lib.rs")).unwrap();
        assert_eq!(told(&mut saved).await, ["lib.rs"]);
    }
}
