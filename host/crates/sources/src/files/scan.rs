//! Looking through the folder: which files are there, by a stat alone.
//!
//! Folders are walked without recursion and links to folders are never followed, so a loop of links ends nowhere. A link to
//! a file is followed where its target lies in the folder and is not taken by its own name: mounted config maps, where the
//! visible name links to a hidden one, are read, and nothing is landed twice. A link that leads out of the folder is an
//! error: whoever may write to an inbox must not be able to make forebay read `/etc`.

use std::fs::{self, FileType, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use forebay_model::Timestamp;

use super::error::FilesError;
use super::key;
use crate::patterns::{Patterns, visible};

/// What tells one content of a name from another without reading it: size, time of the last change to the nanosecond, and
/// inode (so that a file that was replaced by one of the same size and time is noticed).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) size: u64,
    pub(super) mtime_ns: i64,
    pub(super) inode: u64,
}

impl Stamp {
    pub(super) fn of(metadata: &Metadata) -> Self {
        let mtime_ns = metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec());
        Self { size: metadata.size(), mtime_ns, inode: metadata.ino() }
    }

    pub(super) fn modified_at(&self) -> Timestamp {
        Timestamp::from_micros(self.mtime_ns.div_euclid(1000))
    }
}

/// A file that the patterns take.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) key: Arc<str>,
    pub(super) stamp: Stamp,
    /// For a link, the file that it leads to.
    pub(super) target: Option<Arc<Path>>,
}

impl Found {
    /// The file to open.
    pub(super) fn path(&self, folder: &Path) -> PathBuf {
        self.target.as_ref().map_or_else(|| folder.join(key::decode(&self.key)), |target| target.to_path_buf())
    }
}

/// What was found, and what could not be looked at.
#[derive(Debug, Default)]
pub(super) struct Walk {
    pub(super) found: Vec<Found>,
    pub(super) troubles: Vec<(PathBuf, FilesError)>,
}

/// What a notified path is.
#[derive(Debug)]
pub(super) enum Look {
    /// A file that is taken.
    File(Found),
    /// A folder: what is in it may have been there before it was watched.
    Folder,
    /// Nothing that concerns us, or gone.
    Nothing,
}

/// Looks through the whole folder.
pub(super) fn walk(folder: &Path, patterns: &Patterns) -> Walk {
    let mut walk = Walk::default();
    let mut open = vec![folder.to_path_buf()];
    while let Some(path) = open.pop() {
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            // A folder that vanished meanwhile is no error; the source's own is.
            Err(error) if error.kind() == io::ErrorKind::NotFound && path != folder => continue,
            Err(source) => {
                walk.troubles.push((path.clone(), FilesError::Unreadable { path, source }));
                continue;
            }
        };
        for entry in entries {
            let kind = entry.and_then(|entry| Ok((entry.path(), entry.file_type()?)));
            match kind {
                Ok((child, kind)) => match visit(folder, &child, kind, patterns) {
                    Ok(Look::File(found)) => walk.found.push(found),
                    Ok(Look::Folder) => open.push(child),
                    Ok(Look::Nothing) => {}
                    Err(error) => walk.troubles.push((child, error)),
                },
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => {
                    walk.troubles.push((path.clone(), FilesError::Unreadable { path: path.clone(), source }));
                }
            }
        }
    }
    walk
}

/// Looks at one path.
pub(super) fn look(folder: &Path, path: &Path, patterns: &Patterns) -> Result<Look, FilesError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => visit(folder, path, metadata.file_type(), patterns),
        Err(error) => gone_or(path, error).map(|()| Look::Nothing),
    }
}

fn visit(folder: &Path, path: &Path, kind: FileType, patterns: &Patterns) -> Result<Look, FilesError> {
    let Ok(relative) = path.strip_prefix(folder) else {
        return Ok(Look::Nothing);
    };
    if kind.is_dir() {
        return Ok(if visible(relative) { Look::Folder } else { Look::Nothing });
    }
    if !patterns.takes(relative) {
        return Ok(Look::Nothing);
    }
    let target = if kind.is_symlink() {
        match resolve(folder, path, patterns)? {
            Some(target) => Some(target),
            None => return Ok(Look::Nothing),
        }
    } else {
        None
    };
    let metadata = match fs::symlink_metadata(target.as_deref().unwrap_or(path)) {
        Ok(metadata) => metadata,
        Err(error) => return gone_or(path, error).map(|()| Look::Nothing),
    };
    if !metadata.is_file() {
        // Pipes, sockets and devices have no content that could be complete.
        return Ok(Look::Nothing);
    }
    Ok(Look::File(Found {
        key: key::encode(relative).into(),
        stamp: Stamp::of(&metadata),
        target: target.map(Into::into),
    }))
}

/// Where a link leads, if it is to be followed.
fn resolve(folder: &Path, path: &Path, patterns: &Patterns) -> Result<Option<PathBuf>, FilesError> {
    let target = match path.canonicalize() {
        Ok(target) => target,
        Err(error) => return gone_or(path, error).map(|()| None),
    };
    match target.strip_prefix(folder) {
        Ok(relative) if patterns.takes(relative) => Ok(None),
        Ok(_) => Ok(Some(target)),
        Err(_) => Err(FilesError::LinkOutside { path: path.to_path_buf(), target }),
    }
}

fn gone_or(path: &Path, source: io::Error) -> Result<(), FilesError> {
    if source.kind() == io::ErrorKind::NotFound {
        return Ok(());
    }
    Err(FilesError::Unreadable { path: path.to_path_buf(), source })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn keys(folder: &Path) -> (Vec<String>, Vec<String>) {
        let patterns = Patterns::new(&["**".to_owned()], &[]).unwrap();
        let walk = walk(folder, &patterns);
        let mut keys: Vec<_> = walk.found.iter().map(|found| found.key.to_string()).collect();
        keys.sort();
        (keys, walk.troubles.iter().map(|(_, error)| error.to_string()).collect())
    }

    #[test]
    fn links_neither_loop_nor_lead_out_nor_double() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "x").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().canonicalize().unwrap();
        fs::create_dir_all(folder.join("a/b")).unwrap();
        fs::create_dir(folder.join("..2024")).unwrap();
        fs::write(folder.join("..2024/mounted.csv"), "x").unwrap();
        fs::write(folder.join("a/real.csv"), "x").unwrap();
        symlink("..2024", folder.join("..data")).unwrap();
        symlink("..data/mounted.csv", folder.join("mounted.csv")).unwrap();
        symlink("a/real.csv", folder.join("again.csv")).unwrap();
        symlink(&folder, folder.join("a/b/loop")).unwrap();
        symlink("self", folder.join("self")).unwrap();
        symlink("nowhere", folder.join("broken")).unwrap();
        symlink(outside.path().join("secret"), folder.join("leak.csv")).unwrap();
        let (found, troubles) = keys(&folder);
        assert_eq!(found, ["a/real.csv", "mounted.csv"]);
        assert_eq!(troubles.len(), 2, "{troubles:?}");
        assert!(troubles.iter().any(|text| text.contains("leak.csv") && text.contains("leads out")), "{troubles:?}");
        assert!(troubles.iter().any(|text| text.contains("self")), "{troubles:?}");
    }

    #[test]
    fn what_is_no_file_is_not_opened() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().canonicalize().unwrap();
        let socket = std::os::unix::net::UnixListener::bind(folder.join("socket")).unwrap();
        assert_eq!(keys(&folder), (Vec::new(), Vec::new()));
        drop(socket);
    }
}
