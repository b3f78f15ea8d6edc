//! Files that take the place of others together.
//!
//! They lie in a folder beside the config first, where they are checked. Then a list of them is made durable, and each is renamed to its
//! place: a process that dies before the list was there has changed nothing; one that dies after it has its work finished by
//! [`finish`], at the next start.

use std::path::{Path, PathBuf};

use forebay_disk::{Disk, LocalDisk};
use forebay_model::{Error, Result};
use serde::{Deserialize, Serialize};

use super::Meant;
use crate::config::{self, Overlay};
use crate::failpoint::failpoint;

/// The folder beside the config.
const FOLDER: &str = ".forebay-apply";

/// The list of what lies there, once all of it does.
const LIST: &str = "list.json";

/// A file of the folder, and where it is to be.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Entry {
    file: String,
    place: PathBuf,
}

/// Files that wait beside a config.
#[derive(Debug)]
pub(crate) struct Staged {
    folder: PathBuf,
    entries: Vec<Entry>,
    overlay: Overlay,
}

impl Staged {
    /// Writes them down in `root`; those that are in their place already are left out.
    ///
    /// # Errors
    /// Class operator: the folder cannot be written.
    pub(crate) fn write(root: &Path, files: Vec<Meant>) -> Result<Self> {
        let folder = root.join(FOLDER);
        let cannot = |error: std::io::Error| {
            Error::operator(format!("a config cannot be put into {}: {error}", root.display()))
                .with_hint("let the host write there; or change its config where it comes from, and start it again")
        };
        clear(&folder).map_err(cannot)?;
        let (mut entries, mut overlay) = (Vec::new(), Overlay::default());
        for (number, Meant { place, bytes }) in files.into_iter().enumerate() {
            // What a link leads to is replaced, not the link.
            let (name, place) = (place.clone(), std::fs::canonicalize(&place).unwrap_or(place));
            if std::fs::read(&place).is_ok_and(|there| there == bytes) {
                continue;
            }
            let file = number.to_string();
            let write = || {
                let staged = folder.join(&file);
                let mut written = LocalDisk.create(&staged)?;
                std::io::Write::write_all(&mut written, &bytes)?;
                if let Ok(former) = std::fs::metadata(&place) {
                    written.set_permissions(former.permissions())?;
                }
                LocalDisk.sync(&written, &staged)
            };
            write().map_err(cannot)?;
            overlay.add(&name, folder.join(&file));
            entries.push(Entry { file, place });
        }
        Ok(Self { folder, entries, overlay })
    }

    /// How the config is read before they are in place.
    pub(crate) fn overlay(&self) -> &Overlay {
        &self.overlay
    }

    /// Whether all of it is in place already.
    pub(crate) fn is_nothing(&self) -> bool {
        self.entries.is_empty()
    }

    /// Puts them into their places.
    ///
    /// # Errors
    /// Class operator: a place cannot be written. What the list has is done by the next start.
    pub(crate) fn place(self) -> Result<()> {
        let Self { folder, entries, overlay: _ } = self;
        if entries.is_empty() {
            clear(&folder).map_err(|error| in_between(&folder, &error))?;
            return Ok(());
        }
        let list = || {
            let list = folder.join("list.part");
            let mut written = LocalDisk.create(&list)?;
            serde_json::to_writer(&mut written, &entries)?;
            LocalDisk.sync(&written, &list)?;
            LocalDisk.rename(&list, &folder.join(LIST))?;
            LocalDisk.sync_folder(&folder)
        };
        list().map_err(|error| in_between(&folder, &error))?;
        failpoint("in_apply");
        place(&folder, &entries).map_err(|error| in_between(&folder, &error))
    }

    /// Takes them away.
    pub(crate) fn discard(self) {
        // What stays does no harm, and is cleared before the next.
        drop(clear(&self.folder));
    }
}

/// Finishes what a process that died had begun to put in place beside this config; true where there was something.
///
/// # Errors
/// Class operator: a place cannot be written, or the list cannot be read.
pub(crate) fn finish(config: &Path) -> Result<bool> {
    let main = if config.is_dir() { config.join(config::FILE_NAME) } else { config.to_owned() };
    let folder = config::root_of(&main)?.join(FOLDER);
    let list = match std::fs::read(folder.join(LIST)) {
        Ok(list) => list,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(in_between(&folder, &error)),
    };
    let entries: Vec<Entry> = serde_json::from_slice(&list).map_err(|error| in_between(&folder, &error.into()))?;
    place(&folder, &entries).map_err(|error| in_between(&folder, &error))?;
    Ok(true)
}

fn in_between(folder: &Path, error: &std::io::Error) -> Error {
    Error::operator(format!("a config that was applied cannot be put in place: {error}")).with_hint(format!(
        "make its place writable and start the host, which goes on with it; or remove {} to stay with what is there",
        folder.display()
    ))
}

fn place(folder: &Path, entries: &[Entry]) -> std::io::Result<()> {
    for (done, Entry { file, place }) in entries.iter().enumerate() {
        if let Some(parent) = place.parent() {
            LocalDisk.create_folder(parent)?;
        }
        match LocalDisk.rename(&folder.join(file), place) {
            // It was done before the process died.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && place.exists() => {}
            renamed => renamed?,
        }
        if let Some(parent) = place.parent() {
            LocalDisk.sync_folder(parent)?;
        }
        if done == 0 {
            failpoint("amid_apply");
        }
    }
    clear(folder)
}

/// Removes the list first: what is left without it means nothing.
fn clear(folder: &Path) -> std::io::Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    LocalDisk.remove(&folder.join(LIST))?;
    LocalDisk.sync_folder(folder)?;
    std::fs::remove_dir_all(folder)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn meant(place: PathBuf, text: &str) -> Meant {
        Meant { place, bytes: text.to_owned().into() }
    }

    #[test]
    fn what_a_dead_process_had_begun_is_finished_and_what_it_had_not_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let root = std::fs::canonicalize(folder.path()).unwrap();
        let (config, asset) = (root.join("forebay.toml"), root.join("lists/one.txt"));
        std::fs::write(&config, "old").unwrap();
        let files = || vec![meant(asset.clone(), "DE"), meant(config.clone(), "new")];
        // It died before the list was written.
        drop(Staged::write(&root, files()).unwrap());
        assert!(!finish(&config).unwrap());
        assert_eq!(std::fs::read_to_string(&config).unwrap(), "old");
        // It died with the list written, and one file in its place.
        let staged = Staged::write(&root, files()).unwrap();
        let list = serde_json::to_vec(&staged.entries).unwrap();
        std::fs::write(root.join(FOLDER).join(LIST), list).unwrap();
        std::fs::create_dir(root.join("lists")).unwrap();
        std::fs::rename(root.join(FOLDER).join("0"), &asset).unwrap();
        assert!(finish(&config).unwrap());
        assert_eq!(std::fs::read_to_string(&config).unwrap(), "new");
        assert_eq!(std::fs::read_to_string(&asset).unwrap(), "DE");
        assert!(!root.join(FOLDER).exists());
        assert!(!finish(&config).unwrap(), "once");
        // What is there already is not written again.
        assert!(Staged::write(&root, files()).unwrap().is_nothing());
    }

    #[test]
    fn a_file_keeps_who_may_read_it_and_a_link_stays_one() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};
        let folder = tempfile::tempdir().unwrap();
        let root = std::fs::canonicalize(folder.path()).unwrap();
        std::fs::write(root.join("real.toml"), "old").unwrap();
        std::fs::set_permissions(root.join("real.toml"), std::fs::Permissions::from_mode(0o600)).unwrap();
        symlink(root.join("real.toml"), root.join("forebay.toml")).unwrap();
        Staged::write(&root, vec![meant(root.join("forebay.toml"), "new")]).unwrap().place().unwrap();
        assert_eq!(std::fs::read_to_string(root.join("real.toml")).unwrap(), "new");
        assert!(std::fs::symlink_metadata(root.join("forebay.toml")).unwrap().is_symlink());
        assert_eq!(std::fs::metadata(root.join("real.toml")).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
