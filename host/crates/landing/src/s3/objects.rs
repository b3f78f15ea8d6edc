//! Requests about objects: each is made once here, with what it sends and what its answer means.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::ServerSideEncryption;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use forebay_model::ports::{ObjectEntry, Random};
use forebay_model::{Digest, Error, Timestamp};
use forebay_s3::{Bucket, Doing, Fault, FaultKind, fault};

use super::Encryption;
use crate::error::{LandingError, Result};

/// The entry of an object's metadata that tells which call wrote it.
pub(super) const WRITE: &str = "forebay-write";
/// Only where there is nothing yet.
pub(super) const NOTHING: &str = "*";

pub(super) const WRITING: Doing = Doing { verb: "writing", right: "s3:PutObject" };
const READING: Doing = Doing { verb: "reading", right: "s3:GetObject" };
// Without this right a server does not tell what is missing from what is forbidden.
const LOOKING: Doing = Doing { verb: "looking at", right: "s3:GetObject (and s3:ListBucket)" };
const LISTING: Doing = Doing { verb: "listing", right: "s3:ListBucket" };
const REMOVING: Doing = Doing { verb: "removing", right: "s3:DeleteObject" };
const UPLOADS: Doing = Doing { verb: "listing uploads below", right: "s3:ListBucketMultipartUploads" };
pub(super) const ABORTING: Doing = Doing { verb: "aborting the upload of", right: "s3:AbortMultipartUpload" };

/// An object as it stands: another under its name has another tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) tag: String,
    pub(super) bytes: u64,
}

/// An object, and which call wrote it.
#[derive(Debug)]
struct Found {
    version: Version,
    write: Option<String>,
}

/// What became of a conditional write.
#[derive(Debug)]
pub(super) enum Put {
    /// It is there, by this call.
    Placed(Version),
    /// Another's was there already.
    Taken,
}

/// An upload in parts that was begun.
#[derive(Debug)]
pub(super) struct Upload {
    pub(super) name: String,
    pub(super) id: String,
    pub(super) begun_at: Timestamp,
}

#[derive(Debug)]
pub(super) struct Objects {
    pub(super) bucket: Bucket,
    encryption: Option<Encryption>,
    random: Arc<dyn Random>,
    /// Uploads of this process, which no sweep of its own ends.
    pub(super) uploading: Mutex<BTreeSet<String>>,
}

pub(super) fn base64_of(digest: Digest) -> String {
    STANDARD.encode(digest.as_bytes())
}

fn size(length: Option<i64>) -> u64 {
    length.and_then(|length| u64::try_from(length).ok()).unwrap_or_default()
}

/// A server's clock may be so far behind ours; where it is more, it refuses us. Times of the server's are taken as so much later, so that
/// nothing is swept for old that was written a moment ago.
const SKEW_MICROS: i64 = 15 * 60 * 1_000_000;

fn time_of(time: Option<&DateTime>) -> Timestamp {
    let time = time.map_or(0, |time| time.as_nanos() / 1000);
    Timestamp::from_micros(i64::try_from(time).unwrap_or_default().saturating_add(SKEW_MICROS))
}

impl Objects {
    pub(super) fn new(bucket: Bucket, encryption: Option<Encryption>, random: Arc<dyn Random>) -> Self {
        Self { bucket, encryption, random, uploading: Mutex::default() }
    }

    pub(super) async fn client(&self) -> Result<&Client> {
        self.bucket.client().await.map_err(LandingError::Bucket)
    }

    pub(super) fn name(&self) -> &str {
        self.bucket.address().bucket()
    }

    pub(super) fn key(&self, name: &str) -> String {
        self.bucket.address().key(name)
    }

    /// How it is encrypted, and by which key.
    pub(super) fn encryption(&self) -> (Option<ServerSideEncryption>, Option<String>) {
        match &self.encryption {
            None => (None, None),
            Some(Encryption::Aes256) => (Some(ServerSideEncryption::Aes256), None),
            Some(Encryption::Kms { key }) => (Some(ServerSideEncryption::AwsKms), key.clone()),
        }
    }

    /// What a call writes down with the object, to know it again.
    pub(super) fn write(&self) -> String {
        self.random.uuid().to_string()
    }

    /// Puts an object where there is none.
    pub(super) async fn put(&self, name: &str, body: Bytes, digest: Digest) -> Result<Put> {
        let (write, bytes) = (self.write(), u64::try_from(body.len()).unwrap_or(u64::MAX));
        let (encryption, kms_key) = self.encryption();
        let sent = self
            .client()
            .await?
            .put_object()
            .bucket(self.name())
            .key(self.key(name))
            .if_none_match(NOTHING)
            .checksum_sha256(base64_of(digest))
            .metadata(WRITE, &write)
            .set_server_side_encryption(encryption)
            .set_ssekms_key_id(kms_key)
            .body(ByteStream::from(body))
            .send()
            .await;
        match sent {
            Ok(done) => Ok(Put::Placed(Version { tag: done.e_tag.unwrap_or_default(), bytes })),
            Err(error) => {
                let fault = fault(self.bucket.address(), WRITING, name, error);
                self.after_fault(name, &write, fault).await
            }
        }
    }

    /// What became of a write that was not answered, or was told that the name is taken: by an attempt of its own, whose answer was
    /// lost, as a rule.
    pub(super) async fn after_fault(&self, name: &str, write: &str, fault: Fault) -> Result<Put> {
        match fault.kind {
            FaultKind::Condition | FaultKind::Conflict | FaultKind::Unclear | FaultKind::MissingUpload => {}
            FaultKind::Missing | FaultKind::Refused => return Err(fault.into()),
        }
        match self.look(name).await {
            Ok(Some(Found { version, write: found })) if found.as_deref() == Some(write) => {
                tracing::debug!(object = name, "the answer to its write was lost");
                Ok(Put::Placed(version))
            }
            Ok(Some(_)) => Ok(Put::Taken),
            // Removed since, or never there.
            Ok(None) if fault.kind == FaultKind::Condition => {
                let what = format!("object {name} was in the landing zone a moment ago, and is not any more");
                Err(LandingError::Bucket(
                    Error::retry(what).with_hint("nothing but forebay may change what lies there"),
                ))
            }
            // What went wrong first is the thing to tell.
            Ok(None) | Err(_) => Err(fault.into()),
        }
    }

    async fn look(&self, name: &str) -> Result<Option<Found>> {
        let found = self.client().await?.head_object().bucket(self.name()).key(self.key(name)).send().await;
        match found {
            Ok(found) => {
                let write = found.metadata().and_then(|metadata| metadata.get(WRITE)).cloned();
                let version = Version { bytes: size(found.content_length), tag: found.e_tag.unwrap_or_default() };
                Ok(Some(Found { version, write }))
            }
            Err(error) => match fault(self.bucket.address(), LOOKING, name, error) {
                Fault { kind: FaultKind::Missing, error: _ } => Ok(None),
                fault => Err(fault.into()),
            },
        }
    }

    /// An object as it stands.
    pub(super) async fn version(&self, name: &str) -> Result<Version> {
        let found = self.look(name).await?;
        found.map(|found| found.version).ok_or_else(|| LandingError::Missing { name: name.to_owned() })
    }

    /// A small object, whole; `None` where there is none.
    pub(super) async fn small(&self, name: &str) -> Result<Option<Bytes>> {
        let mut attempt = 0;
        loop {
            let sent = self.client().await?.get_object().bucket(self.name()).key(self.key(name)).send().await;
            let found = match sent {
                Ok(found) => found,
                Err(error) => match fault(self.bucket.address(), READING, name, error) {
                    Fault { kind: FaultKind::Missing, error: _ } => return Ok(None),
                    fault => return Err(fault.into()),
                },
            };
            match found.body.collect().await {
                Ok(body) => return Ok(Some(body.into_bytes())),
                Err(error) => attempt = self.bucket.again(&self.key(name), attempt, error.into()).await?,
            }
        }
    }

    pub(super) async fn delete(&self, name: &str) -> Result<()> {
        let sent = self.client().await?.delete_object().bucket(self.name()).key(self.key(name)).send().await;
        match sent {
            Ok(_) => Ok(()),
            Err(error) => match fault(self.bucket.address(), REMOVING, name, error) {
                Fault { kind: FaultKind::Missing, error: _ } => Ok(()),
                fault => Err(fault.into()),
            },
        }
    }

    /// Objects whose names begin with `prefix`; by the way, where `folders` is given, the folders that stand right below it instead
    /// of what lies within them.
    pub(super) async fn list(&self, prefix: &str, mut folders: Option<&mut Vec<String>>) -> Result<Vec<ObjectEntry>> {
        let mut objects = Vec::new();
        let mut next = None;
        loop {
            let request = self.client().await?.list_objects_v2().bucket(self.name()).prefix(self.key(prefix));
            let request = request.set_delimiter(folders.is_some().then(|| "/".to_owned()));
            let page = request.set_continuation_token(next.take()).send().await;
            let page = page.map_err(|error| fault(self.bucket.address(), LISTING, prefix, error))?;
            for found in page.contents() {
                let key = found.key().unwrap_or_default();
                // A console makes empty objects that stand for folders.
                let Some(name) = self.bucket.address().name_of(key).filter(|name| !name.ends_with('/')) else {
                    continue;
                };
                let modified_at = time_of(found.last_modified());
                objects.push(ObjectEntry { name: name.to_owned(), bytes: size(found.size()), modified_at });
            }
            if let Some(folders) = folders.as_deref_mut() {
                let found = page.common_prefixes().iter().filter_map(|folder| folder.prefix());
                folders.extend(found.filter_map(|key| self.bucket.address().name_of(key)).map(str::to_owned));
            }
            next = page.next_continuation_token;
            if next.is_none() {
                return Ok(objects);
            }
        }
    }

    /// Uploads in parts that were begun and not ended, of names that begin with `prefix`.
    pub(super) async fn uploads(&self, prefix: &str) -> Result<Vec<Upload>> {
        let mut uploads = Vec::new();
        let (mut key, mut id) = (None, None);
        loop {
            let request = self.client().await?.list_multipart_uploads().bucket(self.name()).prefix(self.key(prefix));
            let page = request.set_key_marker(key.take()).set_upload_id_marker(id.take()).send().await;
            let page = page.map_err(|error| fault(self.bucket.address(), UPLOADS, prefix, error))?;
            for found in page.uploads() {
                let (Some(key), Some(id)) = (found.key(), found.upload_id()) else { continue };
                let Some(name) = self.bucket.address().name_of(key) else { continue };
                let begun_at = time_of(found.initiated());
                uploads.push(Upload { name: name.to_owned(), id: id.to_owned(), begun_at });
            }
            (key, id) = (page.next_key_marker, page.next_upload_id_marker);
            if page.is_truncated != Some(true) || key.is_none() {
                return Ok(uploads);
            }
        }
    }

    /// Gives an upload up; one that is not there any more is no error.
    pub(super) async fn abort(&self, name: &str, id: &str) -> Result<()> {
        let request = self.client().await?.abort_multipart_upload().bucket(self.name()).key(self.key(name));
        match request.upload_id(id).send().await {
            Ok(_) => Ok(()),
            Err(error) => match fault(self.bucket.address(), ABORTING, name, error) {
                Fault { kind: FaultKind::Missing | FaultKind::MissingUpload, error: _ } => Ok(()),
                fault => Err(fault.into()),
            },
        }
    }

    /// Whether an upload is one of this process.
    pub(super) fn is_uploading(&self, id: &str) -> bool {
        self.uploading.lock().unwrap_or_else(PoisonError::into_inner).contains(id)
    }
}
