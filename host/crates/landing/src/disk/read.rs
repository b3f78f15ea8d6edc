use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

use forebay_model::ports::ObjectEntry;
use forebay_model::{Digest, Timestamp};

use super::files::failed;
use crate::error::{LandingError, Result};
use crate::naming::OWN;

/// Bytes of an object, exactly as many as were asked for.
pub(super) struct Part {
    name: String,
    file: File,
    left: u64,
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let Some(buffer) = buffer.get_mut(..most).filter(|buffer| !buffer.is_empty()) else { return Ok(0) };
        let read = self.file.read(buffer)?;
        if read == 0 {
            let message = format!("object {} was cut short while it was read", self.name);
            return Err(std::io::Error::new(ErrorKind::UnexpectedEof, message));
        }
        self.left = self.left.saturating_sub(u64::try_from(read).unwrap_or(u64::MAX));
        Ok(read)
    }
}

/// An object, to be read from its beginning.
pub(super) fn whole(path: &Path, name: &str) -> Result<File> {
    File::open(path).map_err(|source| {
        if source.kind() == ErrorKind::NotFound {
            LandingError::Missing { name: name.to_owned() }
        } else {
            failed(path, "opening")(source)
        }
    })
}

/// How long a file is.
pub(super) fn size(path: &Path, file: &File) -> Result<u64> {
    Ok(file.metadata().map_err(failed(path, "looking at"))?.len())
}

/// Part of an object.
pub(super) fn part(name: &str, mut file: File, path: &Path, range: Range<u64>) -> Result<Part> {
    let found = size(path, &file)?;
    let left = range.end.checked_sub(range.start).filter(|_| range.end <= found);
    let Some(left) = left else {
        return Err(LandingError::Torn { name: name.to_owned(), found, wanted: range.end });
    };
    file.seek(SeekFrom::Start(range.start)).map_err(failed(path, "reading"))?;
    Ok(Part { name: name.to_owned(), file, left })
}

/// The digest of a whole object; the file stands at its beginning afterwards.
pub(super) fn digest(mut file: &File, name: &str) -> Result<Digest> {
    let unread = |source| LandingError::File { path: PathBuf::from(name), action: "reading", source };
    let digest = Digest::of_reader(file).map_err(unread)?;
    file.seek(SeekFrom::Start(0)).map_err(unread)?;
    Ok(digest)
}

/// A small file; `None` where there is none.
pub(super) fn small(path: &Path) -> Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(failed(path, "reading")(source)),
    }
}

/// The files of a folder, by name; none where there is no folder.
pub(super) fn names(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(failed(folder, "listing")(source)),
    };
    let mut paths = entries
        .map(|entry| entry.map(|entry| entry.path()).map_err(failed(folder, "listing")))
        .collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

/// Objects whose names begin with `prefix`, by name.
pub(super) fn list(root: &Path, prefix: &str) -> Result<Vec<ObjectEntry>> {
    // Whole folders of the prefix are entered at once; its last part is the beginning of a name.
    let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
    if folder.split('/').any(|part| part == "..") || folder.starts_with('/') {
        return Err(LandingError::Name { name: prefix.to_owned(), why: "a prefix stays in the zone" });
    }
    if folder.split('/').next() == Some(OWN) {
        return Ok(Vec::new());
    }
    let mut objects = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for path in names(&root.join(&folder))? {
            let Some(part) = path.file_name().and_then(std::ffi::OsStr::to_str) else {
                tracing::warn!(path = %path.display(), "a file of another's lies in the landing zone");
                continue;
            };
            let name = if folder.is_empty() { part.to_owned() } else { format!("{folder}/{part}") };
            if name == OWN {
                continue;
            }
            let found = match std::fs::symlink_metadata(&path) {
                Ok(found) => found,
                // Deleted since it was listed.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(source) => return Err(failed(&path, "looking at")(source)),
            };
            if found.is_dir() {
                if prefix.starts_with(&name) || name.starts_with(prefix) {
                    folders.push(name);
                }
            } else if found.is_file() && name.starts_with(prefix) {
                let modified = found.modified().map_err(failed(&path, "looking at"))?;
                objects.push(ObjectEntry { name, bytes: found.len(), modified_at: Timestamp::from_system(modified) });
            }
        }
    }
    objects.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(objects)
}
