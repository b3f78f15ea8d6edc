//! The bytes that a batch is cut from: one contiguous buffer, so that the raw text of each record can be handed on without
//! a copy. Buffers return to a pool when the last reference to a batch's text is gone: fresh large buffers cost page faults.

use std::io::{ErrorKind, Read};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::error::FormatError;

/// Bytes asked of the reader at once.
const READ: usize = 256 << 10;
/// Buffers that wait for use.
const POOLED: usize = 8;
/// Larger buffers are given back to the allocator.
const LARGEST_POOLED: usize = 8 << 20;

/// Buffers to use again, shared by the segments of a format.
#[derive(Debug, Default)]
pub(crate) struct Pool(Mutex<Vec<Vec<u8>>>);

impl Pool {
    /// A buffer of at least `size` initialised bytes.
    fn take(&self, size: usize) -> Vec<u8> {
        let mut buffer = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        if buffer.len() < size {
            buffer.resize(size, 0);
        }
        buffer
    }

    fn put(&self, buffer: Vec<u8>) {
        let mut buffers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if buffers.len() < POOLED && buffer.len() <= LARGEST_POOLED {
            buffers.push(buffer);
        }
    }
}

/// A buffer that returns to its pool.
struct Pooled {
    buffer: Vec<u8>,
    len: usize,
    pool: Arc<Pool>,
}

impl AsRef<[u8]> for Pooled {
    fn as_ref(&self) -> &[u8] {
        self.buffer.get(..self.len).unwrap_or_default()
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        self.pool.put(std::mem::take(&mut self.buffer));
    }
}

/// A reader and the buffer that it fills.
pub(crate) struct Text {
    reader: Box<dyn Read + Send>,
    pool: Arc<Pool>,
    buffer: Vec<u8>,
    filled: usize,
    /// Bytes of the input that lie before the buffer's first, or that were removed from it.
    before: u64,
    begun: bool,
    at_end: bool,
    failure: Option<FormatError>,
}

impl Text {
    pub(crate) fn new(reader: Box<dyn Read + Send>, pool: Arc<Pool>) -> Self {
        Self { reader, pool, buffer: Vec::new(), filled: 0, before: 0, begun: false, at_end: false, failure: None }
    }

    /// What was read and not taken.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.buffer.get(..self.filled).unwrap_or_default()
    }

    /// The byte of the input that lies at `position` of the buffer, where nothing was removed after it.
    pub(crate) fn offset(&self, position: usize) -> u64 {
        self.before + position as u64
    }

    /// Whether reading ended with an error, so that what is left in the buffer is not whole.
    pub(crate) fn failed(&self) -> bool {
        self.failure.is_some()
    }

    /// The error that reading ended with, once.
    pub(crate) fn take_failure(&mut self) -> Option<FormatError> {
        self.failure.take()
    }

    /// Reads more; false at the end.
    pub(crate) fn fill(&mut self) -> bool {
        if self.at_end {
            return false;
        }
        if self.buffer.len() - self.filled < READ {
            let wanted = (self.buffer.len() * 2).max(self.filled + READ);
            if self.buffer.is_empty() {
                self.buffer = self.pool.take(wanted);
            } else {
                self.buffer.resize(wanted, 0);
            }
        }
        loop {
            let free = &mut self.buffer[self.filled..self.filled + READ];
            match self.reader.read(free) {
                Ok(0) => {
                    self.at_end = true;
                    return false;
                }
                Ok(count) => {
                    self.filled += count.min(READ);
                    return true;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.at_end = true;
                    self.failure = Some(FormatError::read(self.offset(self.filled), error));
                    return false;
                }
            }
        }
    }

    /// Forgets the bytes from `from` up to `to`; what follows moves up.
    pub(crate) fn remove(&mut self, from: usize, to: usize) {
        self.buffer.copy_within(to..self.filled, from);
        self.filled -= to - from;
        self.before += (to - from) as u64;
    }

    /// Takes the first `len` bytes; the rest begins the next buffer.
    pub(crate) fn take(&mut self, len: usize) -> Bytes {
        let tail = self.filled - len;
        let mut next = if tail == 0 && self.at_end { Vec::new() } else { self.pool.take(tail + READ) };
        if tail > 0 {
            next[..tail].copy_from_slice(&self.buffer[len..self.filled]);
        }
        let buffer = std::mem::replace(&mut self.buffer, next);
        self.filled = tail;
        self.before += len as u64;
        Bytes::from_owner(Pooled { buffer, len, pool: Arc::clone(&self.pool) })
    }

    /// Skips a byte order mark at the input's beginning.
    pub(crate) fn skip_bom(&mut self) {
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        while self.filled < 3 && self.fill() {}
        if self.bytes().starts_with(b"\xef\xbb\xbf") {
            self.remove(0, 3);
        }
    }

    /// The input's first byte that is no space, looked for in its first MiB; nothing is taken but a byte order mark.
    pub(crate) fn first_token(&mut self) -> Option<u8> {
        self.skip_bom();
        loop {
            let found = self.bytes().iter().copied().find(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
            if found.is_some() || self.filled > 1 << 20 || !self.fill() {
                return found;
            }
        }
    }
}
