//! A file's bytes, in bounded memory.
//!
//! One chunk of [`CHUNK`] bytes is read at a time, on a thread for blocking work, into a buffer that goes back to a small pool
//! when its last reader has dropped it: fresh large buffers would cost a page fault for each 4 KiB. Before the last chunk
//! is handed over, the file is compared with what it was when it was taken.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use forebay_model::Result;
use futures::stream::{self, BoxStream, StreamExt};

use super::error::FilesError;
use super::flight::Ticket;
use super::scan::Stamp;

/// Bytes of a chunk.
pub(super) const CHUNK: usize = 1 << 20;
/// Buffers that are kept for the next reader.
const MAX_POOLED: usize = 16;

/// Opens a regular file; never a link that took its place, and never waiting (a pipe would).
pub(super) fn open(path: &Path) -> Result<(File, Stamp), FilesError> {
    let open = || {
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
        let metadata = file.metadata()?;
        Ok((file, metadata))
    };
    match open() {
        Ok((file, metadata)) if metadata.is_file() => Ok((file, Stamp::of(&metadata))),
        Ok(_) => Err(FilesError::Changed { path: path.to_path_buf() }),
        Err(source) => Err(unreadable(path, source)),
    }
}

pub(super) fn unreadable(path: &Path, source: io::Error) -> FilesError {
    let path = path.to_path_buf();
    if source.kind() == io::ErrorKind::NotFound {
        return FilesError::Removed { path };
    }
    FilesError::Unreadable { path, source }
}

/// What must still hold of a file when it has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expect {
    /// It is as it was: it is taken whole.
    Same(Stamp),
    /// It is the same file and no shorter than what was read: it is tailed.
    Grown(Stamp),
}

impl Expect {
    pub(super) fn holds(self, now: Stamp, end: u64) -> bool {
        match self {
            Self::Same(then) => now == then,
            Self::Grown(then) => now.inode == then.inode && now.size >= end,
        }
    }
}

/// A range of a file, to be read.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) path: PathBuf,
    pub(super) range: Range<u64>,
    pub(super) expect: Expect,
    pub(super) pool: Pool,
}

/// The bytes of a small file that were read when it was taken.
pub(super) fn inline(bytes: Bytes, mut ticket: Ticket) -> BoxStream<'static, Result<Bytes>> {
    let chunks = if bytes.is_empty() { Vec::new() } else { vec![bytes] };
    let chunks = stream::iter(chunks.into_iter().map(Ok));
    // The ticket is read when the stream has ended, so that a body that nobody polls counts as failed.
    chunks
        .chain(stream::poll_fn(move |_| {
            ticket.read();
            std::task::Poll::Ready(None)
        }))
        .boxed()
}

/// The bytes of a file, read as they are asked for.
pub(super) fn streamed(reading: Reading, ticket: Ticket) -> BoxStream<'static, Result<Bytes>> {
    let start = State { file: None, at: reading.range.start, reading, ticket };
    stream::unfold(Some(start), |state| async move {
        let state = state?;
        let path = state.reading.path.clone();
        match tokio::task::spawn_blocking(move || state.step()).await {
            Ok((item, next)) => item.map(|item| (item.map_err(Into::into), next)),
            Err(gone) => {
                let error = FilesError::Interrupted { folder: path, reason: gone.to_string() };
                Some((Err(error.into()), None))
            }
        }
    })
    .boxed()
}

struct State {
    file: Option<File>,
    at: u64,
    reading: Reading,
    ticket: Ticket,
}

impl State {
    /// Reads the next chunk. After the last one, and after an error, there is no further state.
    fn step(mut self) -> (Option<Result<Bytes, FilesError>>, Option<Self>) {
        if self.file.is_some() && self.at >= self.reading.range.end {
            return (None, None);
        }
        match self.read() {
            Ok(chunk) => {
                if self.at >= self.reading.range.end {
                    self.ticket.read();
                }
                if chunk.is_empty() { (None, None) } else { (Some(Ok(chunk)), Some(self)) }
            }
            Err(error) => (Some(Err(error)), None),
        }
    }

    fn read(&mut self) -> Result<Bytes, FilesError> {
        let Reading { path, range, expect, pool } = &self.reading;
        let changed = || FilesError::Changed { path: path.clone() };
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                let (mut file, stamp) = open(path)?;
                if !expect.holds(stamp, range.end) {
                    return Err(changed());
                }
                file.seek(SeekFrom::Start(range.start)).map_err(|error| unreadable(path, error))?;
                self.file.insert(file)
            }
        };
        let wanted = range.end.saturating_sub(self.at).min(CHUNK as u64);
        let mut buffer = pool.take();
        file.by_ref().take(wanted).read_to_end(&mut buffer.0).map_err(|error| unreadable(path, error))?;
        let read = buffer.0.len() as u64;
        self.at += read;
        if read < wanted {
            return Err(changed());
        }
        if self.at >= range.end {
            let metadata = file.metadata().map_err(|error| unreadable(path, error))?;
            if !expect.holds(Stamp::of(&metadata), range.end) {
                return Err(changed());
            }
        }
        Ok(if read == 0 { Bytes::new() } else { Bytes::from_owner(buffer) })
    }
}

/// Buffers to be used again.
#[derive(Debug, Clone, Default)]
pub(super) struct Pool(Arc<Mutex<Vec<Vec<u8>>>>);

impl Pool {
    fn take(&self) -> Buffer {
        let pooled = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Buffer(pooled.unwrap_or_else(|| Vec::with_capacity(CHUNK)), self.clone())
    }
}

/// A buffer that goes back to its pool when it is dropped.
struct Buffer(Vec<u8>, Pool);

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut buffer = std::mem::take(&mut self.0);
        buffer.clear();
        let mut pool = self.1.0.lock().unwrap_or_else(PoisonError::into_inner);
        if pool.len() < MAX_POOLED {
            pool.push(buffer);
        }
    }
}
