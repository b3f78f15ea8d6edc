//! A file's bytes, in bounded memory.
//!
//! From its first poll on, a thread for blocking work reads ahead of the body, [`AHEAD`] chunks of [`CHUNK`] bytes at most, into
//! buffers that go back to a small pool when their last reader has dropped them: fresh large buffers would cost a page fault
//! for each 4 KiB. Before the last chunk is handed over, the file is compared with what it was when it was taken.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use forebay_model::Result;
use futures::stream::{self, BoxStream, StreamExt};
use tokio::sync::mpsc;

use super::error::FilesError;
use super::flight::Ticket;
use super::scan::Stamp;

/// Bytes of a chunk.
pub(super) const CHUNK: usize = 1 << 20;
/// Chunks that are read before they are asked for.
const AHEAD: usize = 2;
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

/// The bytes of a file, read from the first poll on.
pub(super) fn streamed(reading: Reading, ticket: Ticket) -> BoxStream<'static, Result<Bytes>> {
    let path = reading.path.clone();
    let start = State { path, stage: Stage::Waiting(reading), ticket };
    stream::unfold(Some(start), |state| async move { state?.next().await }).boxed()
}

/// A body's own side.
struct State {
    path: PathBuf,
    stage: Stage,
    ticket: Ticket,
}

enum Stage {
    /// Nobody has asked for anything: no thread, no open file.
    Waiting(Reading),
    Running(mpsc::Receiver<Result<Chunk, FilesError>>),
}

/// What the thread hands over.
struct Chunk {
    bytes: Bytes,
    last: bool,
}

impl State {
    /// The next chunk; after the last one, and after an error, there is no further state.
    async fn next(mut self) -> Option<(Result<Bytes>, Option<Self>)> {
        let mut chunks = match self.stage {
            Stage::Running(chunks) => chunks,
            Stage::Waiting(reading) => {
                let (sender, chunks) = mpsc::channel(AHEAD);
                tokio::task::spawn_blocking(move || read_ahead(&reading, &sender));
                chunks
            }
        };
        match chunks.recv().await {
            Some(Ok(Chunk { bytes, last: false })) => {
                Some((Ok(bytes), Some(Self { stage: Stage::Running(chunks), ..self })))
            }
            Some(Ok(Chunk { bytes, last: true })) => {
                self.ticket.read();
                (!bytes.is_empty()).then_some((Ok(bytes), None))
            }
            Some(Err(error)) => Some((Err(error.into()), None)),
            None => {
                let reason = "its thread is gone".to_owned();
                Some((Err(FilesError::Interrupted { folder: self.path, reason }.into()), None))
            }
        }
    }
}

/// Reads until the end, an error, or until nobody wants the rest.
fn read_ahead(reading: &Reading, sender: &mpsc::Sender<Result<Chunk, FilesError>>) {
    let mut file = match begin(reading) {
        Ok(file) => file,
        Err(error) => {
            // Where nobody wants the error either, there is nothing left to do.
            drop(sender.blocking_send(Err(error)));
            return;
        }
    };
    let mut at = reading.range.start;
    loop {
        let chunk = read(reading, &mut file, &mut at);
        let more = matches!(chunk, Ok(Chunk { last: false, .. }));
        if sender.blocking_send(chunk).is_err() || !more {
            return;
        }
    }
}

fn begin(reading: &Reading) -> Result<File, FilesError> {
    let Reading { path, range, expect, pool: _ } = reading;
    let (mut file, stamp) = open(path)?;
    if !expect.holds(stamp, range.end) {
        return Err(FilesError::Changed { path: path.clone() });
    }
    file.seek(SeekFrom::Start(range.start)).map_err(|error| unreadable(path, error))?;
    Ok(file)
}

fn read(reading: &Reading, file: &mut File, at: &mut u64) -> Result<Chunk, FilesError> {
    let Reading { path, range, expect, pool } = reading;
    let changed = || FilesError::Changed { path: path.clone() };
    let wanted = range.end.saturating_sub(*at).min(CHUNK as u64);
    let mut buffer = pool.take();
    file.take(wanted).read_to_end(&mut buffer.0).map_err(|error| unreadable(path, error))?;
    let read = buffer.0.len() as u64;
    *at += read;
    if read < wanted {
        return Err(changed());
    }
    let last = *at >= range.end;
    if last {
        let metadata = file.metadata().map_err(|error| unreadable(path, error))?;
        if !expect.holds(Stamp::of(&metadata), range.end) {
            return Err(changed());
        }
    }
    Ok(Chunk { bytes: if read == 0 { Bytes::new() } else { Bytes::from_owner(buffer) }, last })
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
