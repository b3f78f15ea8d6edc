//! Notices when the module folder or the config changed.
//!
//! A notification only wakes; what counts is a look at the files: names, sizes and times. A change is told once it has been the
//! same for [`SETTLE`], so that a file that is being copied is not read half way. A look every [`LOOK`] finds what a notification
//! missed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use notify::Watcher as _;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::modules;
use crate::config::Config;

/// How long files must stay the same.
const SETTLE: Duration = Duration::from_millis(250);
/// How often they are looked at without a notification.
const LOOK: Duration = Duration::from_secs(2);

type Looks = BTreeMap<PathBuf, (u64, Option<SystemTime>)>;

/// A watch on a config and its module folder; it stops when dropped.
pub(super) struct Watch {
    changes: mpsc::Receiver<()>,
    task: JoinHandle<()>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watch {
    /// Starts to watch.
    pub(super) fn start(config: &Config) -> Self {
        let (wake, woken) = mpsc::channel(1);
        let (tell, changes) = mpsc::channel(1);
        let (folder, root) = (config.modules.watch.clone(), config.root.clone());
        let watcher = notifications(&folder, &root, wake);
        let task = tokio::spawn(async move {
            follow(&folder, &root, woken, tell).await;
            // Notifications end with the watcher.
            drop(watcher);
        });
        Self { changes, task }
    }

    /// Returns when something has changed and settled. Dropping the future loses nothing.
    pub(super) async fn changed(&mut self) {
        if self.changes.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

/// `None` where the system cannot notify: looks alone find changes.
fn notifications(folder: &Path, root: &Path, wake: mpsc::Sender<()>) -> Option<notify::RecommendedWatcher> {
    let watcher = notify::recommended_watcher(move |_| {
        // Full means that it will look anyway.
        let _ = wake.try_send(());
    });
    let mut watcher =
        watcher.inspect_err(|error| tracing::debug!(%error, "no notifications; changes are found by looking")).ok()?;
    for path in [folder, root] {
        if let Err(error) = watcher.watch(path, notify::RecursiveMode::NonRecursive) {
            tracing::debug!(path = %path.display(), %error, "no notifications; changes are found by looking");
        }
    }
    Some(watcher)
}

async fn follow(folder: &Path, root: &Path, mut woken: mpsc::Receiver<()>, tell: mpsc::Sender<()>) {
    let mut last = look(folder, root);
    loop {
        tokio::select! {
            Some(()) = woken.recv() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
        let mut now = look(folder, root);
        if now == last {
            continue;
        }
        loop {
            tokio::time::sleep(SETTLE).await;
            let again = look(folder, root);
            if again == now {
                break;
            }
            now = again;
        }
        last = now;
        // Nobody listens any more: the host stops.
        if tell.send(()).await.is_err() {
            return;
        }
    }
}

/// The modules, and the config's files: all of its folder, for a config may be a folder.
fn look(folder: &Path, root: &Path) -> Looks {
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    let configs = entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "toml"));
    modules::files(folder)
        .into_iter()
        .chain(configs)
        .filter_map(|path| {
            let found = std::fs::metadata(&path).ok()?;
            Some((path, (found.len(), found.modified().ok())))
        })
        .collect()
}
