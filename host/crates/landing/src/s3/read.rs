//! Bytes on their way from the bucket: threads that decode block, requests do not.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Buf, Bytes};
use forebay_model::{Digest, Error};
use forebay_s3::Takes;
use parquet::file::reader::{ChunkReader, Length};
use sha2::{Digest as _, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::objects::{Objects, Version};
use crate::error::{LandingError, Result};

/// Chunks that wait to be read. Each is what the connection read at once, far below a MiB.
const WAITING: usize = 8;
/// Envelopes that are kept on the disk after they were checked: many segments lie in one, and are read one after the other.
const ENVELOPES: usize = 4;

type Chunk = Result<(Bytes, OwnedSemaphorePermit), Error>;

/// Bytes of an object, exactly as many as were asked for.
pub(super) struct Part {
    name: String,
    now: Bytes,
    left: u64,
    chunks: Receiver<Chunk>,
}

impl Part {
    /// Begins to ask for bytes of one version of an object.
    pub(super) fn begin(objects: &Arc<Objects>, name: &str, range: Range<u64>, version: &Version) -> Self {
        let (sender, chunks) = channel();
        let left = range.end.saturating_sub(range.start);
        if left > 0 {
            let (objects, name, tag) = (Arc::clone(objects), name.to_owned(), version.tag.clone());
            let handle = objects.bucket.handle().clone();
            handle.spawn(async move {
                let mut waiting = Waiting { sender, room: Arc::new(Semaphore::new(WAITING)) };
                let brought = objects.bucket.bring(&objects.key(&name), range, &tag, &mut waiting).await;
                if let Err(fault) = brought {
                    // Where nobody reads any more, nobody wants to know.
                    let _ = waiting.sender.send(Err(LandingError::of_reading(&name, fault).into()));
                }
            });
        }
        Self { name: name.to_owned(), now: Bytes::new(), left, chunks }
    }
}

/// Where chunks wait until a thread reads them.
struct Waiting {
    sender: Sender<Chunk>,
    room: Arc<Semaphore>,
}

impl Takes for Waiting {
    async fn take(&mut self, chunk: Bytes) -> bool {
        let Ok(permit) = Arc::clone(&self.room).acquire_owned().await else { return false };
        self.sender.send(Ok((chunk, permit))).is_ok()
    }
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.left == 0 || buffer.is_empty() {
            return Ok(0);
        }
        while self.now.is_empty() {
            // The permit goes: there is room for the next one.
            self.now = match self.chunks.recv() {
                Ok(Ok((chunk, _permit))) => chunk,
                Ok(Err(error)) => return Err(std::io::Error::other(error)),
                Err(_) => {
                    let message = format!("object {} was cut short while it was read", self.name);
                    return Err(std::io::Error::new(ErrorKind::UnexpectedEof, message));
                }
            };
        }
        let length = self.now.len().min(buffer.len());
        let Some(buffer) = buffer.get_mut(..length) else { return Ok(0) };
        self.now.copy_to_slice(buffer);
        self.left = self.left.saturating_sub(u64::try_from(length).unwrap_or(u64::MAX));
        Ok(length)
    }
}

/// An object on this machine's disk, checked; the file has no name, and goes with the last who reads it.
#[derive(Debug, Clone)]
pub(super) struct LocalCopy {
    file: Arc<File>,
    bytes: u64,
}

fn unwritten(source: std::io::Error) -> LandingError {
    LandingError::File { path: std::env::temp_dir(), action: "writing a temporary file to", source }
}

impl LocalCopy {
    /// Brings an object here, and refuses it where it is not what landed. Blocks.
    pub(super) fn make(objects: &Arc<Objects>, name: &str, version: &Version, landed: Digest) -> Result<Self> {
        let mut file = tempfile::tempfile().map_err(unwritten)?;
        let mut part = Part::begin(objects, name, 0..version.bytes, version);
        let (mut hash, mut buffer) = (Sha256::new(), vec![0; 256 << 10]);
        loop {
            let length = part.read(&mut buffer).map_err(|error| unread(name, error))?;
            let bytes = buffer.get(..length).unwrap_or_default();
            if bytes.is_empty() {
                break;
            }
            hash.update(bytes);
            file.write_all(bytes).map_err(unwritten)?;
        }
        LandingError::check(name, Digest::from_bytes(hash.finalize().into()), landed)?;
        Ok(Self { file: Arc::new(file), bytes: version.bytes })
    }

    /// Its bytes, from a place on.
    pub(super) fn reader(&self, start: u64) -> CopyReader {
        CopyReader { file: Arc::clone(&self.file), at: start, end: self.bytes }
    }
}

/// What a reader said, as it was meant.
fn unread(name: &str, error: std::io::Error) -> LandingError {
    match error.downcast::<Error>() {
        Ok(error) => LandingError::Bucket(error),
        Err(source) => LandingError::File { path: PathBuf::from(name), action: "reading", source },
    }
}

/// Reads a copy at a place of its own: others read the same file.
#[derive(Debug)]
pub(super) struct CopyReader {
    file: Arc<File>,
    at: u64,
    end: u64,
}

impl Read for CopyReader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let left = usize::try_from(self.end.saturating_sub(self.at)).unwrap_or(usize::MAX).min(buffer.len());
        let Some(buffer) = buffer.get_mut(..left) else { return Ok(0) };
        let length = self.file.read_at(buffer, self.at)?;
        self.at += u64::try_from(length).unwrap_or_default();
        Ok(length)
    }
}

impl Length for LocalCopy {
    fn len(&self) -> u64 {
        self.bytes
    }
}

impl ChunkReader for LocalCopy {
    type T = CopyReader;

    fn get_read(&self, start: u64) -> parquet::errors::Result<CopyReader> {
        Ok(self.reader(start))
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        // What a damaged file says of its lengths is no reason to ask for memory.
        let there = usize::try_from(self.bytes.saturating_sub(start)).unwrap_or(usize::MAX);
        if length > there {
            return Err(parquet::errors::ParquetError::EOF(format!("{length} bytes from {start} on are not there")));
        }
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, start)?;
        Ok(bytes.into())
    }
}

/// Copies of envelopes, the newest last.
#[derive(Debug, Default)]
pub(super) struct Copies(Mutex<VecDeque<(String, Version, Digest, LocalCopy)>>);

impl Copies {
    /// The copy of an envelope, which is made where there is none. Blocks.
    pub(super) fn get(
        &self,
        objects: &Arc<Objects>,
        name: &str,
        version: &Version,
        landed: Digest,
    ) -> Result<LocalCopy> {
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it =
            |(of, at, what, _): &&(String, Version, Digest, LocalCopy)| of == name && at == version && *what == landed;
        if let Some((.., copy)) = lock().iter().find(is_it) {
            return Ok(copy.clone());
        }
        let copy = LocalCopy::make(objects, name, version, landed)?;
        let mut copies = lock();
        if copies.len() >= ENVELOPES {
            copies.pop_front();
        }
        copies.push_back((name.to_owned(), version.clone(), landed, copy.clone()));
        Ok(copy)
    }
}
