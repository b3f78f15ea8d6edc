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

use super::modules;
use crate::config::Config;

/// How long files must stay the same.
const SETTLE: Duration = Duration::from_millis(250);
/// How often they are looked at without a notification.
const LOOK: Duration = Duration::from_secs(2);

type Looks = BTreeMap<PathBuf, (u64, Option<SystemTime>)>;

/// A watch on a config and its module folder.
pub(super) struct Watch {
    folder: PathBuf,
    config: PathBuf,
    last: Looks,
    woken: mpsc::Receiver<()>,
    /// Stops watching when dropped. `None` where the system cannot notify: looks alone find changes.
    _watcher: Option<notify::RecommendedWatcher>,
}

impl Watch {
    /// Starts to watch.
    pub(super) fn start(config: &Config) -> Self {
        let (wake, woken) = mpsc::channel(1);
        let watcher = notify::recommended_watcher(move |_| {
            // Full means: it will look anyway.
            drop(wake.try_send(()));
        });
        let folder = config.modules.watch.clone();
        let file = config.file.clone();
        let watcher = match watcher {
            Ok(mut watcher) => {
                for path in [Some(folder.as_path()), file.parent()].into_iter().flatten() {
                    if let Err(error) = watcher.watch(path, notify::RecursiveMode::NonRecursive) {
                        tracing::debug!(path = %path.display(), %error, "no notifications; changes are found by looking");
                    }
                }
                Some(watcher)
            }
            Err(error) => {
                tracing::debug!(%error, "no notifications; changes are found by looking");
                None
            }
        };
        let last = look(&folder, &file);
        Self { folder, config: file, last, woken, _watcher: watcher }
    }

    /// Returns when something has changed and settled.
    pub(super) async fn changed(&mut self) {
        loop {
            tokio::select! {
                _ = self.woken.recv() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
            let mut now = look(&self.folder, &self.config);
            if now == self.last {
                continue;
            }
            loop {
                tokio::time::sleep(SETTLE).await;
                let again = look(&self.folder, &self.config);
                if again == now {
                    break;
                }
                now = again;
            }
            self.last = now;
            return;
        }
    }
}

fn look(folder: &Path, config: &Path) -> Looks {
    let fragments = config.parent().and_then(|folder| std::fs::read_dir(folder).ok()).into_iter().flatten().flatten();
    let fragments = fragments.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "toml"));
    modules::files(folder)
        .into_iter()
        .chain(fragments)
        .filter_map(|path| {
            let found = std::fs::metadata(&path).ok()?;
            Some((path, (found.len(), found.modified().ok())))
        })
        .collect()
}
