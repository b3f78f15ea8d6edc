//! From what was found to a batch: the first bytes of each object are there when it is delivered, for they tell how it is compressed.

use std::sync::{Arc, PoisonError};

use bytes::{Bytes, BytesMut};
use forebay_model::flow::RawObject;
use forebay_model::{Error, Result};
use forebay_s3::{Bucket, Chunks, Fault, FaultKind, Listed};
use futures::stream::{self, BoxStream, StreamExt};

use super::{Flight, S3Source, Stage, version};
use crate::compression;

/// Objects up to this size are read when they are delivered: that saves asking for them twice.
const INLINE: u64 = 256 << 10;
/// How much of the objects of one batch is read so: no more than a folder does, for the byte budget has no place for it.
const INLINE_TOTAL: u64 = 4 << 20;
/// How much tells the compression of a larger one.
const HEAD: u64 = 64;

/// What was read ahead of an object.
enum Ahead {
    Whole(Bytes),
    Head(Bytes),
}

impl Ahead {
    fn head(&self) -> &[u8] {
        match self {
            Self::Whole(bytes) | Self::Head(bytes) => bytes,
        }
    }
}

impl S3Source {
    /// The next batch; empty where there is nothing.
    pub(super) async fn deliver(&mut self) -> Result<Vec<RawObject>> {
        let planned = self.plan();
        let bucket = self.bucket.clone();
        let (mut inline, mut asked) = (INLINE_TOTAL, Vec::new());
        for object in planned {
            let whole = object.bytes <= INLINE.min(inline);
            inline -= if whole { object.bytes } else { 0 };
            asked.push((object, whole));
        }
        let answers = stream::iter(asked).map(|(object, whole)| {
            let bucket = bucket.clone();
            async move {
                let ahead = ahead(&bucket, &object, whole).await;
                (object, ahead)
            }
        });
        let answers: Vec<_> = answers.buffered(self.config.parallel).collect().await;
        // Nothing waits any more: a poll that was dropped before has taken nothing out of the queue.
        let mut objects = Vec::new();
        for (object, ahead) in answers {
            self.queue.pop_front();
            match ahead {
                Ok(ahead) => objects.push(self.object(object, ahead)),
                Err(fault) => self.refused(&object, fault),
            }
        }
        Ok(objects)
    }

    /// As many of the first in the queue as fit into a batch.
    fn plan(&self) -> Vec<Listed> {
        let mut bytes = 0_u64;
        let fits = |object: &&Listed| {
            let first = bytes == 0;
            bytes = bytes.saturating_add(object.bytes.max(1));
            first || bytes <= self.config.max_batch_bytes
        };
        self.queue.iter().take(self.config.max_batch_objects).take_while(fits).cloned().collect()
    }

    fn refused(&mut self, object: &Listed, fault: Fault) {
        let what = format!("s3://{}/{}", self.bucket.address().bucket(), object.key);
        let key: Arc<str> = object.key.as_str().into();
        match fault.kind {
            // It is found by the next listing as what it is then.
            FaultKind::Condition => {
                tracing::debug!(key = &*key, "the object was overwritten after it was listed");
                self.failed(&key, false);
            }
            FaultKind::Missing => {
                let error =
                    Error::retry(format!("{what} was removed after it was listed, and nothing of it has landed"));
                let hint = "where it comes back it is taken; else look who removes what forebay has not read yet";
                self.note(&key, error.with_hint(hint));
            }
            FaultKind::MissingUpload | FaultKind::Conflict | FaultKind::Unclear => {
                self.failed(&key, false);
                self.note(&key, fault.error);
            }
            FaultKind::Refused => {
                self.failed(&key, true);
                self.note(&key, fault.error);
            }
        }
    }

    fn object(&self, object: Listed, ahead: Ahead) -> RawObject {
        let key: Arc<str> = object.key.as_str().into();
        self.flight
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(Arc::clone(&key), (object.clone(), Stage::Reading));
        let ticket = Ticket { flight: Arc::clone(&self.flight), key, read: false };
        let compression = compression::told(&object.key, ahead.head());
        let version = version(&object);
        let Listed { key, bytes, tag, modified_at } = object;
        let body = match ahead {
            Ahead::Whole(bytes) => inline(bytes, ticket),
            Ahead::Head(_) => streamed(&self.bucket, (&key, bytes, &tag), ticket),
        };
        RawObject {
            partition: self.partition.clone(),
            key,
            version,
            range: 0..bytes,
            modified_at,
            compression,
            on_change: self.config.on_change,
            identity: format!("etag:{tag}"),
            body,
        }
    }
}

/// The whole of a small object, or the first bytes of a larger one.
async fn ahead(bucket: &Bucket, object: &Listed, whole: bool) -> Result<Ahead, Fault> {
    let wanted = if whole { object.bytes } else { HEAD.min(object.bytes) };
    let mut chunks = bucket.bytes_of(&object.key, 0..wanted, &object.tag);
    let mut bytes = BytesMut::new();
    while let Some(chunk) = chunks.recv().await {
        bytes.extend_from_slice(&chunk?);
    }
    if bytes.len() as u64 != wanted {
        let what = format!("s3://{}/{}: its bytes did not come", bucket.address().bucket(), object.key);
        return Err(Fault { kind: FaultKind::Unclear, error: Error::retry(what) });
    }
    Ok(if whole { Ahead::Whole(bytes.freeze()) } else { Ahead::Head(bytes.freeze()) })
}

/// Goes with a body, and tells what became of it.
struct Ticket {
    flight: Flight,
    key: Arc<str>,
    read: bool,
}

impl Ticket {
    fn read(&mut self) {
        self.read = true;
        self.end(Stage::Read(None));
    }

    fn end(&self, end: Stage) {
        let mut flight = self.flight.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, stage)) = flight.get_mut(&self.key) {
            *stage = end;
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.read {
            self.end(Stage::Failed);
        }
    }
}

fn inline(bytes: Bytes, mut ticket: Ticket) -> BoxStream<'static, Result<Bytes>> {
    let chunks = if bytes.is_empty() { Vec::new() } else { vec![Ok(bytes)] };
    // The ticket is read when the stream has ended, so that a body that nobody polls counts as failed.
    let end = stream::poll_fn(move |_| {
        ticket.read();
        std::task::Poll::Ready(None)
    });
    stream::iter(chunks).chain(end).boxed()
}

/// Where a body stands.
enum Body {
    /// Nobody has asked for anything: there is no connection.
    Waiting {
        bucket: Bucket,
        key: String,
        bytes: u64,
        tag: String,
    },
    Running {
        chunks: Chunks,
        left: u64,
    },
}

fn streamed(
    bucket: &Bucket,
    (key, bytes, tag): (&str, u64, &str),
    ticket: Ticket,
) -> BoxStream<'static, Result<Bytes>> {
    let waiting = Body::Waiting { bucket: bucket.clone(), key: key.to_owned(), bytes, tag: tag.to_owned() };
    stream::unfold(Some((waiting, ticket)), |state| async move {
        let (body, mut ticket) = state?;
        let (mut chunks, left) = match body {
            Body::Waiting { bucket, key, bytes, tag } => (bucket.bytes_of(&key, 0..bytes, &tag), bytes),
            Body::Running { chunks, left } => (chunks, left),
        };
        match chunks.recv().await {
            Some(Ok(chunk)) => {
                let left = left.saturating_sub(chunk.len() as u64);
                let next = (Body::Running { chunks, left }, ticket);
                Some((Ok(chunk), Some(next)))
            }
            Some(Err(fault)) => Some((Err(changed_or(fault)), None)),
            None if left == 0 => {
                ticket.read();
                None
            }
            None => Some((Err(Error::retry("the bytes of an object of S3 ended before its end")), None)),
        }
    })
    .boxed()
}

/// One that was overwritten or removed while it was read lands as what it is then, later.
fn changed_or(fault: Fault) -> Error {
    match fault.kind {
        FaultKind::Condition | FaultKind::Missing => {
            Error::retry(format!("{}; it is taken again as it is then", fault.error))
        }
        FaultKind::MissingUpload | FaultKind::Conflict | FaultKind::Unclear | FaultKind::Refused => fault.error,
    }
}
