//! Objects on their way to the bucket: a blocking task hashes and scans them, and sends them in parts where they are large.

use std::io::Write;
use std::sync::{Arc, PoisonError};

use arrow_array::RecordBatch;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;
use forebay_model::flow::RawRecords;
use forebay_model::ports::{LandedObject, SplitRule};
use forebay_model::segment::Compression;
use forebay_model::{Digest, Error, StreamName};
use forebay_s3::fault;
use futures::stream::BoxStream;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::objects::{NOTHING, Objects, Put, Version, WRITE, WRITING, base64_of};
use crate::envelope;
use crate::error::{LandingError, Result};
use crate::hand_over::{WAITING, batches, both, chunks, receive};
use crate::intake::Watch;

/// What is larger is sent in parts of this size: so much of an object is held in memory.
pub(super) const PART: usize = 16 << 20;
/// More parts than that no server takes.
const PARTS: i32 = 10_000;

/// An upload in parts. Dropped before it is whole, it is given up: that blocks.
struct Multipart {
    objects: Arc<Objects>,
    name: String,
    id: String,
    write: String,
    parts: Vec<CompletedPart>,
    bytes: u64,
    whole: bool,
}

impl Multipart {
    async fn begin(objects: &Arc<Objects>, name: &str) -> Result<Self> {
        let write = objects.write();
        let (encryption, kms_key) = objects.encryption();
        let request = objects.client().await?.create_multipart_upload().bucket(objects.name()).key(objects.key(name));
        let begun = request
            .checksum_algorithm(ChecksumAlgorithm::Sha256)
            .metadata(WRITE, &write)
            .set_server_side_encryption(encryption)
            .set_ssekms_key_id(kms_key)
            .send()
            .await
            .map_err(|error| fault(objects.bucket.address(), WRITING, name, error))?;
        let id = begun.upload_id.filter(|id| !id.is_empty()).ok_or_else(|| {
            let what = format!("writing {}: the server began no upload", objects.bucket.address().url(name));
            LandingError::Bucket(Error::retry(what).with_hint("use a server that knows uploads in parts"))
        })?;
        objects.uploading.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone());
        let (objects, name) = (Arc::clone(objects), name.to_owned());
        Ok(Self { objects, name, id, write, parts: Vec::new(), bytes: 0, whole: false })
    }

    /// Sends the next part. One that was sent, and whose answer was lost, takes its own place again.
    async fn send(&mut self, body: Bytes) -> Result<()> {
        let Self { objects, name, id, write: _, parts, bytes, whole: _ } = self;
        let number = i32::try_from(parts.len()).ok().and_then(|sent| sent.checked_add(1)).filter(|next| *next <= PARTS);
        let number = number.ok_or_else(|| {
            let what = format!("object {name} is larger than {PARTS} parts of {} MiB", PART >> 20);
            LandingError::Bucket(Error::operator(what).with_hint("deliver it in smaller objects"))
        })?;
        let (digest, length) = (base64_of(Digest::of(&body)), u64::try_from(body.len()).unwrap_or(u64::MAX));
        let request = objects.client().await?.upload_part().bucket(objects.name()).key(objects.key(name));
        let sent = request.upload_id(id.as_str()).part_number(number).checksum_sha256(&digest).body(body.into());
        let sent = sent.send().await.map_err(|error| fault(objects.bucket.address(), WRITING, name, error))?;
        let part = CompletedPart::builder().part_number(number).set_e_tag(sent.e_tag).checksum_sha256(digest);
        parts.push(part.build());
        *bytes = bytes.saturating_add(length);
        Ok(())
    }

    /// Makes an object of the parts, where there is none.
    async fn complete(&mut self) -> Result<Put> {
        let Self { objects, name, id, write, parts, bytes, whole } = self;
        let parts = CompletedMultipartUpload::builder().set_parts(Some(std::mem::take(parts))).build();
        let request = objects.client().await?.complete_multipart_upload().bucket(objects.name());
        let request = request.key(objects.key(name)).upload_id(id.as_str()).if_none_match(NOTHING);
        let put = match request.multipart_upload(parts).send().await {
            Ok(done) => Put::Placed(Version { tag: done.e_tag.unwrap_or_default(), bytes: *bytes }),
            Err(error) => {
                objects.after_fault(name, write, fault(objects.bucket.address(), WRITING, name, error)).await?
            }
        };
        *whole = matches!(put, Put::Placed(_));
        Ok(put)
    }
}

impl Drop for Multipart {
    fn drop(&mut self) {
        if !self.whole {
            let given_up = self.objects.bucket.handle().block_on(self.objects.abort(&self.name, &self.id));
            if let Err(error) = given_up {
                let error = Error::from(error);
                tracing::warn!(object = self.name, error = error.chain(), "an upload is left for the next sweep");
            }
        }
        self.objects.uploading.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

/// An object that is watched while it is sent. Lives on a thread that may block.
struct Sink {
    objects: Arc<Objects>,
    handle: Handle,
    name: String,
    watch: Watch,
    waiting: Vec<u8>,
    parts: Option<Multipart>,
}

impl Sink {
    fn new(objects: Arc<Objects>, name: &str, compression: Compression, split: SplitRule) -> Self {
        let handle = objects.bucket.handle().clone();
        let watch = Watch::new(compression, split);
        Self { objects, handle, name: name.to_owned(), watch, waiting: Vec::new(), parts: None }
    }

    fn push(&mut self, mut bytes: &[u8]) -> Result<()> {
        self.watch.push(bytes);
        while !bytes.is_empty() {
            if self.waiting.len() >= PART {
                self.send()?;
            }
            let room = PART.saturating_sub(self.waiting.len()).min(bytes.len());
            let (now, later) = bytes.split_at(room);
            let wanted = self.waiting.len() + now.len();
            if self.waiting.capacity() < wanted {
                // It doubles, and is never more than a part.
                let capacity = self.waiting.capacity().saturating_mul(2).clamp(wanted, PART);
                self.waiting.reserve_exact(capacity.saturating_sub(self.waiting.len()));
            }
            self.waiting.extend_from_slice(now);
            bytes = later;
        }
        Ok(())
    }

    /// Sends what waits as a part.
    fn send(&mut self) -> Result<()> {
        let body = Bytes::from(std::mem::take(&mut self.waiting));
        let parts = match &mut self.parts {
            Some(parts) => parts,
            none => none.insert(self.handle.block_on(Multipart::begin(&self.objects, &self.name))?),
        };
        self.handle.block_on(parts.send(body))
    }

    fn finish(mut self) -> Result<(LandedObject, Version)> {
        if self.parts.is_some() {
            self.send()?;
        }
        let Self { objects, handle, name, watch, waiting, parts } = self;
        let landed = watch.finish(&name);
        let put = match parts {
            Some(mut parts) => handle.block_on(parts.complete())?,
            None => handle.block_on(objects.put(&name, waiting.into(), landed.digest))?,
        };
        match put {
            Put::Placed(version) => Ok((landed, version)),
            Put::Taken => Err(LandingError::Exists { name }),
        }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.push(bytes).map_err(std::io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Runs what sends, on the bucket's runtime; what it is told of the object goes to `know`.
fn sending(
    objects: &Arc<Objects>,
    know: impl FnOnce(&LandedObject, Version) + Send + 'static,
    work: impl FnOnce() -> Result<(LandedObject, Version)> + Send + 'static,
) -> impl Future<Output = Result<LandedObject>> {
    let running = objects.bucket.run_blocking(move || {
        let (landed, version) = work()?;
        know(&landed, version);
        Ok(landed)
    });
    async { running.await.map_err(LandingError::Bucket)? }
}

pub(super) async fn object(
    objects: &Arc<Objects>,
    name: &str,
    body: BoxStream<'static, forebay_model::Result<Bytes>>,
    (compression, split): (Compression, SplitRule),
    know: impl FnOnce(&LandedObject, Version) + Send + 'static,
) -> Result<LandedObject> {
    let (sender, mut receiver) = mpsc::channel(WAITING);
    let (of_objects, of_name) = (Arc::clone(objects), name.to_owned());
    let writing = sending(objects, know, move || {
        let mut sink = Sink::new(of_objects, &of_name, compression, split);
        receive(&of_name, &mut receiver, |chunk: Bytes| sink.push(&chunk))?;
        sink.finish()
    });
    both(chunks(sender, body), writing, name).await
}

pub(super) async fn records(
    objects: &Arc<Objects>,
    name: &str,
    stream: &StreamName,
    records: &RawRecords,
    know: impl FnOnce(&LandedObject, Version) + Send + 'static,
) -> Result<LandedObject> {
    let (sender, mut receiver) = mpsc::channel(WAITING);
    let (of_objects, of_name, stream) = (Arc::clone(objects), name.to_owned(), stream.clone());
    let writing = sending(objects, know, move || {
        let sink = Sink::new(of_objects, &of_name, Compression::None, SplitRule::Whole);
        let mut encoder = envelope::Encoder::new(&of_name, &stream, sink)?;
        receive(&of_name, &mut receiver, |batch: RecordBatch| encoder.write(&batch))?;
        encoder.finish()?.finish()
    });
    let object = both(batches(sender, name, records), writing, name).await?;
    Ok(LandedObject { cuts: envelope::cuts(records), head: envelope::head(records), ..object })
}
