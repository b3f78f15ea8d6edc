//! How a file is known again: its version, and what tells whether it is still the one that was taken.
//!
//! The **version** is `<size>-<time>-<inode>`, the time of the last change in nanoseconds: known from a stat alone, so that a
//! file of 10 GB is told from its former content without being read. The price: a file that was only touched, or copied to
//! another disk, counts as changed and lands again (with `replace` its rows take the place of equal rows; with `append` they
//! stand twice). Where another version of the key had landed before, `~2`, `~3` … follows, so that a file which returns to
//! a former state is still a version of its own.
//!
//! The **identity** is kept for tailed files: inode, and digests of the first bytes and of those before the end of what was
//! taken. A file that was truncated and written anew, even to the same length, does not match it; one that was renamed does.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use forebay_model::Digest;
use forebay_model::ports::ObjectState;

use super::scan::Stamp;

/// Bytes of the beginning that the identity covers, at most.
pub(super) const HEAD: u64 = 1024;
/// Bytes before the end of what was taken that it covers, at most.
const LAST: u64 = 256;

/// The version of a file, after the one that landed last under its key.
pub(super) fn version(stamp: Stamp, previous: Option<&str>) -> String {
    let Stamp { size, mtime_ns, inode } = stamp;
    let base = format!("{size}-{mtime_ns}-{inode}");
    match previous {
        None => base,
        Some(previous) => {
            let count = previous.split_once('~').and_then(|(_, count)| count.parse().ok()).unwrap_or(1u64);
            format!("{base}~{}", count.saturating_add(1))
        }
    }
}

/// Whether a version is of this very state of the file.
pub(super) fn is_version_of(version: &str, stamp: Stamp) -> bool {
    let base = version.split_once('~').map_or(version, |(base, _)| base);
    base == self::version(stamp, None)
}

/// A digest of some bytes, and how many they are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Print {
    bytes: u64,
    digest: String,
}

impl Print {
    fn of(bytes: &[u8]) -> Self {
        Self { bytes: bytes.len() as u64, digest: Digest::of(bytes).short() }
    }

    fn parse(bytes: &str, digest: &str) -> Option<Self> {
        Some(Self { bytes: bytes.parse().ok()?, digest: digest.to_owned() })
    }

    fn matches(&self, file: &File, at: u64) -> io::Result<bool> {
        if self.bytes == 0 {
            return Ok(true);
        }
        Ok(*self == Self::of(&read_at(file, at, self.bytes.min(HEAD))?))
    }
}

/// What a tailed file is known by. Text form: `<inode>:<bytes>:<digest>:<bytes>:<digest>`, the beginning first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) inode: u64,
    head: Print,
    last: Print,
}

impl Identity {
    /// Of a file of which everything up to `end` is taken.
    pub(super) fn of(file: &File, inode: u64, end: u64) -> io::Result<Self> {
        let last = end.min(LAST);
        Ok(Self {
            inode,
            head: Print::of(&read_at(file, 0, end.min(HEAD))?),
            last: Print::of(&read_at(file, end - last, last)?),
        })
    }

    /// Of a file that is taken whole; `head` is its beginning.
    pub(super) fn of_whole(inode: u64, head: &[u8]) -> Self {
        let covered = usize::try_from(HEAD).map_or(head, |most| head.get(..most).unwrap_or(head));
        Self { inode, head: Print::of(covered), last: Print::default() }
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let inode = parts.next()?.parse().ok()?;
        let head = Print::parse(parts.next()?, parts.next()?)?;
        let last = Print::parse(parts.next()?, parts.next()?)?;
        parts.next().is_none().then_some(Self { inode, head, last })
    }

    /// Whether the file still begins, and up to `end` ends, as it did.
    pub(super) fn matches(&self, file: &File, end: u64) -> io::Result<bool> {
        let Self { inode: _, head, last } = self;
        Ok(head.matches(file, 0)? && last.matches(file, end.saturating_sub(last.bytes))?)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { inode, head, last } = self;
        write!(f, "{inode}:{}:{}:{}:{}", head.bytes, head.digest, last.bytes, last.digest)
    }
}

/// A tailed file as the ledger knows it.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) version: Arc<str>,
    /// Where the next take begins.
    pub(super) end: u64,
    pub(super) identity: Identity,
    /// The file as it was when there was nothing more to take.
    pub(super) exhausted: Option<Stamp>,
}

impl Known {
    /// `None` where the note is of another form: the file is then taken from its beginning.
    pub(super) fn of(state: &ObjectState) -> Option<Self> {
        let ObjectState { partition: _, key: _, version, range, identity } = state;
        let identity = Identity::parse(identity)?;
        Some(Self { version: version.as_str().into(), end: range.end, identity, exhausted: None })
    }
}

/// Up to `length` bytes from `at`; fewer where the file ends before.
pub(super) fn read_at(file: &File, at: u64, length: u64) -> io::Result<Vec<u8>> {
    let length = usize::try_from(length).map_err(io::Error::other)?;
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, at.saturating_add(filled as u64)) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_state_that_returns_is_a_version_of_its_own() {
        let a = Stamp { size: 1, mtime_ns: 2, inode: 3 };
        let b = Stamp { size: 9, ..a };
        let first = version(a, None);
        let second = version(b, Some(&first));
        let third = version(a, Some(&second));
        assert_eq!([first.as_str(), second.as_str(), third.as_str()], ["1-2-3", "9-2-3~2", "1-2-3~3"]);
        assert!(is_version_of(&first, a) && is_version_of(&third, a) && !is_version_of(&second, a));
    }

    #[test]
    fn an_identity_sees_both_ends_of_what_was_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let content: Vec<u8> = (0..5000u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
        std::fs::write(&path, &content).unwrap();
        let identity = Identity::of(&File::open(&path).unwrap(), 7, 4000).unwrap();
        assert_eq!(Identity::parse(&identity.to_string()).unwrap(), identity);
        assert!(identity.matches(&File::open(&path).unwrap(), 4000).unwrap());
        for (changed, matches) in [(0, false), (1023, false), (2000, true), (3999, false), (4000, true)] {
            let mut other = content.clone();
            other[changed] ^= 1;
            std::fs::write(&path, &other).unwrap();
            assert_eq!(identity.matches(&File::open(&path).unwrap(), 4000).unwrap(), matches, "byte {changed}");
        }
        assert!(Identity::parse("1:2:3").is_none() && Identity::parse("").is_none());
    }
}
