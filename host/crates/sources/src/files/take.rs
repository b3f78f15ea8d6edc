//! Opening files that are due: what of them is taken, and as what.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use forebay_model::Compression;

use super::body::{self, Expect};
use super::error::FilesError;
use super::identity::{self, HEAD, Identity, Known, read_at};
use super::scan::{Found, Stamp};
use crate::compression;

/// Files up to this size are read when they are opened: that saves opening them again.
pub(super) const INLINE: u64 = 64 << 10;
/// How much of the files of one batch is read so.
const INLINE_TOTAL: u64 = 4 << 20;
/// The last line feed is looked for in steps of this many bytes.
const SEARCH: u64 = 64 << 10;

/// A file to open.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) found: Found,
    pub(super) how: How,
}

/// How much of it to take.
#[derive(Debug, Clone)]
pub(super) enum How {
    /// All of it, as the version after the one that landed last.
    Whole { previous: Option<String> },
    /// What was added.
    Tail(Tail),
}

#[derive(Debug, Clone)]
pub(super) struct Tail {
    /// What had been taken of this file, if it is the same.
    pub(super) known: Option<Known>,
    /// The version that landed last under this key.
    pub(super) previous: Option<Arc<str>>,
    /// It had another name when it was taken last: that is written down even where nothing was added.
    pub(super) moved: bool,
    /// The last line is taken without a line feed.
    pub(super) partial: bool,
    /// There is no line feed from where the take begins up to here.
    pub(super) searched: u64,
}

/// What opening gave.
#[derive(Debug)]
pub(super) enum Outcome {
    Taken(Taken),
    /// It was removed meanwhile.
    Gone,
    /// It is not what was found: it is still being written, or another took its place.
    Changed(Stamp),
    /// Nothing was added.
    Nothing(Stamp),
    /// What was added ends in the middle of a line; there is no line feed up to the offset.
    HalfLine(u64),
    Refused(FilesError),
}

/// What is taken of a file.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) path: PathBuf,
    pub(super) stamp: Stamp,
    pub(super) range: Range<u64>,
    pub(super) version: String,
    pub(super) identity: Identity,
    pub(super) compression: Compression,
    pub(super) content: Content,
}

#[derive(Debug)]
pub(super) enum Content {
    Inline(Bytes),
    Stream(Expect),
}

/// Opens the files of one batch, in order. Blocking.
pub(super) fn open_all(folder: &Path, requests: &[Request]) -> Vec<Outcome> {
    let mut budget = INLINE_TOTAL;
    requests.iter().map(|request| open(folder, request, &mut budget)).collect()
}

fn open(folder: &Path, request: &Request, budget: &mut u64) -> Outcome {
    let Request { found, how } = request;
    let path = found.path(folder);
    let opened = body::open(&path).and_then(|(file, stamp)| match how {
        How::Whole { previous } => whole(&file, stamp, found, previous.as_deref(), &path, budget),
        How::Tail(tail) => tailed(&file, stamp, found, tail, &path),
    });
    match opened {
        Ok(outcome) => outcome,
        Err(FilesError::Removed { .. }) => Outcome::Gone,
        Err(error) => Outcome::Refused(error),
    }
}

fn whole(
    file: &File,
    stamp: Stamp,
    found: &Found,
    previous: Option<&str>,
    path: &Path,
    budget: &mut u64,
) -> Result<Outcome, FilesError> {
    if stamp != found.stamp {
        return Ok(Outcome::Changed(stamp));
    }
    let inline = stamp.size <= INLINE.min(*budget);
    let wanted = if inline { stamp.size } else { HEAD };
    let head = read_at(file, 0, wanted).map_err(|error| body::unreadable(path, error))?;
    let compression = compression::told(&found.key, &head);
    let identity = Identity::of_whole(stamp.inode, &head);
    let content = if inline {
        let now = file.metadata().map(|metadata| Stamp::of(&metadata));
        let now = now.map_err(|error| body::unreadable(path, error))?;
        if now != stamp || head.len() as u64 != stamp.size {
            return Ok(Outcome::Changed(now));
        }
        *budget -= stamp.size;
        Content::Inline(Bytes::from(head))
    } else {
        Content::Stream(Expect::Same(stamp))
    };
    Ok(Outcome::Taken(Taken {
        path: path.to_path_buf(),
        stamp,
        range: 0..stamp.size,
        version: identity::version(stamp, previous),
        identity,
        compression,
        content,
    }))
}

fn tailed(file: &File, stamp: Stamp, found: &Found, tail: &Tail, path: &Path) -> Result<Outcome, FilesError> {
    let Tail { known, previous, moved, partial, searched } = tail;
    let unreadable = |error| body::unreadable(path, error);
    if stamp.inode != found.stamp.inode {
        return Ok(Outcome::Changed(stamp));
    }
    let head = read_at(file, 0, HEAD).map_err(unreadable)?;
    match compression::told(&found.key, &head) {
        Compression::None => {}
        Compression::Gzip | Compression::Zstd => {
            return Err(FilesError::CompressedTail { path: path.to_path_buf() });
        }
    }
    // Truncated, or another file with the same inode: what is in it now is new from its first byte.
    let same = match known {
        Some(known) if stamp.size >= known.end => {
            known.identity.matches(file, known.end).map_err(unreadable)?.then_some(known)
        }
        Some(_) | None => None,
    };
    let start = same.map_or(0, |known| known.end);
    let end = if *partial {
        stamp.size
    } else {
        let looked_through = same.is_some() == known.is_some() && *searched <= stamp.size;
        let from = if looked_through { start.max(*searched) } else { start };
        last_line_end(file, from.min(stamp.size)..stamp.size).map_err(unreadable)?.unwrap_or(start)
    };
    let written_down = *moved && same.is_some();
    if end == start && !written_down {
        return Ok(if stamp.size == start { Outcome::Nothing(stamp) } else { Outcome::HalfLine(stamp.size) });
    }
    Ok(Outcome::Taken(Taken {
        path: path.to_path_buf(),
        stamp,
        range: start..end,
        version: match same {
            Some(known) => known.version.to_string(),
            None => identity::version(stamp, previous.as_deref()),
        },
        identity: Identity::of(file, stamp.inode, end).map_err(unreadable)?,
        compression: Compression::None,
        content: Content::Stream(Expect::Grown(stamp)),
    }))
}

/// One past the last line feed of a range.
fn last_line_end(file: &File, range: Range<u64>) -> std::io::Result<Option<u64>> {
    let mut end = range.end;
    while end > range.start {
        let begin = end.saturating_sub(SEARCH).max(range.start);
        let block = read_at(file, begin, end - begin)?;
        if let Some(at) = memchr::memrchr(b'\n', &block) {
            return Ok(Some(begin + at as u64 + 1));
        }
        end = begin;
    }
    Ok(None)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_feed_is_found_across_steps() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let mut content = vec![b'x'; 200_000];
        content[10] = b'\n';
        std::fs::write(&path, &content).unwrap();
        let file = File::open(&path).unwrap();
        assert_eq!(last_line_end(&file, 0..200_000).unwrap(), Some(11));
        assert_eq!(last_line_end(&file, 10..11).unwrap(), Some(11));
        assert_eq!(last_line_end(&file, 11..200_000).unwrap(), None);
        assert_eq!(last_line_end(&file, 5..5).unwrap(), None);
    }
}
