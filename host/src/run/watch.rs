//! Notices when the module folder, the config or an asset changed.
//!
//! A notification only wakes; what counts is a look at the files: sizes, times, and which file stands under the name, so that one
//! that was put in another's place is noticed whatever its size and time. A change is told once it has been the same for
//! [`SETTLE`], so that a file that is being copied is not read half way. A look every [`LOOK`] finds what a notification missed.
//!
//! A change that comes after a look is told by the next: whoever is told reads the files then, so nothing is missed.

use std::collections::{BTreeMap, BTreeSet};
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

/// What a look at a file shows; `None` where there is none.
pub(crate) type Look = Option<(u64, Option<SystemTime>, u64)>;
type Looks = BTreeMap<PathBuf, Look>;

/// A watch on a config, its module folder and its assets.
pub(super) struct Watch {
    modules: PathBuf,
    root: PathBuf,
    assets: BTreeSet<PathBuf>,
    /// `None` where the system cannot notify: looks alone find changes.
    watcher: Option<notify::RecommendedWatcher>,
    notified: BTreeSet<PathBuf>,
    woken: mpsc::Receiver<()>,
    settle: Duration,
    last: Looks,
}

impl Watch {
    /// Starts to watch: what changes from here on is told.
    pub(super) fn start(config: &Config) -> Self {
        let (wake, woken) = mpsc::channel(1);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // A look opens the folders itself: it must not wake the next one.
            if event.is_ok_and(|event| event.kind.is_access()) {
                return;
            }
            // Full means that it will look anyway.
            let _ = wake.try_send(());
        });
        let watcher =
            watcher.inspect_err(|error| tracing::debug!(%error, "no notifications; changes are found by looking"));
        let mut watch = Self {
            modules: config.modules.watch.clone(),
            root: config.root.clone(),
            assets: BTreeSet::new(),
            watcher: watcher.ok(),
            notified: BTreeSet::new(),
            woken,
            settle: SETTLE,
            last: Looks::new(),
        };
        watch.follow(config);
        watch.last = watch.look();
        watch
    }

    /// From now on the assets of this config are watched. Called before they are read.
    pub(super) fn follow(&mut self, config: &Config) {
        let steps = config.pipelines.values().flat_map(|pipeline| &pipeline.steps);
        let assets: BTreeSet<_> = steps.flat_map(|step| step.assets.values().cloned()).collect();
        for asset in assets.difference(&self.assets) {
            self.last.insert(asset.clone(), look_at(asset));
        }
        for asset in self.assets.difference(&assets) {
            self.last.remove(asset);
        }
        let folders = assets.iter().filter_map(|asset| asset.parent().map(Path::to_owned));
        let folders: BTreeSet<_> = folders.chain([self.modules.clone(), self.root.clone()]).collect();
        self.assets = assets;
        self.notify(&folders);
    }

    fn notify(&mut self, folders: &BTreeSet<PathBuf>) {
        let Some(watcher) = &mut self.watcher else { return };
        for folder in self.notified.difference(folders) {
            // One that is gone is not watched any more.
            drop(watcher.unwatch(folder));
        }
        let mut notified: BTreeSet<_> = self.notified.intersection(folders).cloned().collect();
        for folder in folders.difference(&self.notified) {
            match watcher.watch(folder, notify::RecursiveMode::NonRecursive) {
                Ok(()) => drop(notified.insert(folder.clone())),
                Err(error) => {
                    tracing::debug!(path = %folder.display(), %error, "no notifications; changes are found by looking");
                }
            }
        }
        self.notified = notified;
    }

    /// Returns when something has changed and settled. Dropping the future loses nothing.
    pub(super) async fn changed(&mut self) {
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
                tokio::time::sleep(self.settle).await;
                let again = self.look();
                if again == now {
                    break;
                }
                now = again;
            }
            self.last = now;
            return;
        }
    }

    /// The modules, the assets, and the config's files: all of its folder, for a config may be a folder.
    fn look(&self) -> Looks {
        let entries = std::fs::read_dir(&self.root).into_iter().flatten().flatten();
        let configs = entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "toml"));
        let paths = modules::files(&self.modules).into_iter().chain(configs).chain(self.assets.iter().cloned());
        paths.map(|path| (path.clone(), look_at(&path))).collect()
    }
}

pub(crate) fn look_at(path: &Path) -> Look {
    let found = std::fs::metadata(path).ok()?;
    Some((found.len(), found.modified().ok(), file_number(&found)))
}

/// Which file it is, whatever its name.
#[cfg(unix)]
fn file_number(found: &std::fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(found)
}

/// Not told: size and time must do.
#[cfg(not(unix))]
fn file_number(_: &std::fs::Metadata) -> u64 {
    0
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    struct Folders(tempfile::TempDir);

    impl Folders {
        /// A config that names an asset in a folder of its own.
        fn new() -> Self {
            let folders = Self(tempfile::tempdir().unwrap());
            for folder in ["config", "config/modules", "lists"] {
                std::fs::create_dir(folders.path(folder)).unwrap();
            }
            std::fs::write(folders.path("lists/blocked.txt"), "a\nb\n").unwrap();
            let config = format!(
                "[landing]\nurl = \"landing\"\n[ledger]\nurl = \"sqlite:forebay.db\"\n\
                 [warehouses.lake]\ntype = \"delta\"\nurl = \"warehouse\"\n\
                 [streams.s]\nsource = {{ type = \"files\", url = \"inbox\" }}\n\
                 [pipelines.p]\nfrom = \"s\"\n[[pipelines.p.steps]]\nmodule = \"m\"\nassets = {{ blocked = \"{}\" }}\n\
                 [pipelines.p.routes]\nout = \"lake.t\"\n",
                folders.path("lists/blocked.txt").display()
            );
            std::fs::write(folders.path("config/forebay.toml"), config).unwrap();
            folders
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn watch(&self) -> Watch {
            Watch::start(&crate::config::load(&self.path("config/forebay.toml"), &|_| None).unwrap())
        }
    }

    async fn told(watch: &mut Watch) {
        tokio::time::timeout(Duration::from_secs(30), watch.changed()).await.unwrap();
    }

    #[tokio::test]
    async fn an_asset_elsewhere_is_watched_also_one_put_in_place_with_the_same_size_and_time() {
        let folders = Folders::new();
        let mut watch = folders.watch();
        std::fs::write(folders.path("lists/blocked.txt"), "a\nb\nc\n").unwrap();
        told(&mut watch).await;
        let time = std::fs::metadata(folders.path("lists/blocked.txt")).unwrap().modified().unwrap();
        std::fs::write(folders.path("lists/new"), "x\ny\nz\n").unwrap();
        let new = std::fs::File::options().write(true).open(folders.path("lists/new")).unwrap();
        new.set_modified(time).unwrap();
        std::fs::rename(folders.path("lists/new"), folders.path("lists/blocked.txt")).unwrap();
        told(&mut watch).await;
    }

    #[tokio::test]
    async fn a_module_that_comes_while_the_host_starts_is_told() {
        let folders = Folders::new();
        let mut watch = folders.watch();
        std::fs::write(folders.path("config/modules/m.wasm"), "not yet").unwrap();
        // Only later does somebody listen.
        told(&mut watch).await;
    }

    #[tokio::test]
    async fn a_file_that_is_being_written_is_told_when_it_stays_the_same() {
        let folders = Folders::new();
        let mut watch = folders.watch();
        // Long, so that a busy machine does not pause the writer for longer.
        watch.settle = 10 * SETTLE;
        let path = folders.path("lists/blocked.txt");
        let writing = tokio::task::spawn_blocking(move || {
            for lines in 1..40 {
                std::fs::write(&path, "line\n".repeat(lines)).unwrap();
                std::thread::sleep(SETTLE / 10);
            }
            std::time::Instant::now()
        });
        told(&mut watch).await;
        let heard = std::time::Instant::now();
        assert!(heard > writing.await.unwrap(), "it was told half way");
    }
}
