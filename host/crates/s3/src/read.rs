//! Objects that others wrote: pages of a listing, and bytes of one version.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::ops::Range;

use aws_sdk_s3::types::EncodingType;
use bytes::Bytes;
use forebay_model::{Error, Result, Timestamp};
use tokio::sync::mpsc;

use crate::bucket::Bucket;
use crate::fault::{Doing, Fault, FaultKind, fault};

const LISTING: Doing = Doing { verb: "listing", right: "s3:ListBucket" };
const READING: Doing = Doing { verb: "reading", right: "s3:GetObject" };

/// Chunks that are read before they are asked for. Each is what the connection read at once, far below a MiB.
const AHEAD: usize = 4;

/// An object as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its key in the bucket.
    pub key: String,
    /// Its size.
    pub bytes: u64,
    /// Its ETag, without quotes: another content has another one.
    pub tag: String,
    /// When it was written.
    pub modified_at: Timestamp,
}

/// At most a thousand objects, by key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The objects.
    pub objects: Vec<Listed>,
    /// After which key the next page begins; `None` after the last one.
    pub next: Option<String>,
}

/// Who takes bytes as they come.
pub trait Takes: Send {
    /// Takes some; false where no more are wanted.
    fn take(&mut self, chunk: Bytes) -> impl Future<Output = bool> + Send;
}

impl Takes for mpsc::Sender<Result<Bytes, Fault>> {
    async fn take(&mut self, chunk: Bytes) -> bool {
        self.send(Ok(chunk)).await.is_ok()
    }
}

/// Bytes on their way.
pub type Chunks = mpsc::Receiver<Result<Bytes, Fault>>;

impl Bucket {
    /// The objects below the address whose keys come after one.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn page(&self, after: Option<String>) -> Result<Page> {
        let bucket = self.clone();
        self.run(async move { bucket.ask_for_page(after).await }).await
    }

    async fn ask_for_page(&self, after: Option<String>) -> Result<Page, Error> {
        let address = self.address();
        let request = self.client().await?.list_objects_v2().bucket(address.bucket()).prefix(address.key(""));
        let request = request.encoding_type(EncodingType::Url).set_start_after(after);
        let page = request.send().await.map_err(|error| fault(address, LISTING, "", error))?;
        // Servers that do not know the encoding give keys as they are.
        let encoded = page.encoding_type() == Some(&EncodingType::Url);
        let objects = page.contents().iter().filter_map(|found| {
            let key = found.key()?;
            let micros = found.last_modified().map_or(0, |time| time.as_nanos() / 1000);
            Some(Listed {
                key: if encoded { decoded(key) } else { key.to_owned() },
                bytes: found.size().and_then(|size| u64::try_from(size).ok()).unwrap_or_default(),
                tag: found.e_tag().unwrap_or_default().trim_matches('"').to_owned(),
                modified_at: Timestamp::from_micros(i64::try_from(micros).unwrap_or_default()),
            })
        });
        let objects: Vec<_> = objects.collect();
        let next = objects.last().map(|last| last.key.clone()).filter(|_| page.is_truncated() == Some(true));
        Ok(Page { objects, next })
    }

    /// Bytes of one version of an object. Nothing is asked for any more once the receiver is dropped; the channel closes after the last
    /// byte, or after an error.
    #[must_use]
    pub fn bytes_of(&self, key: &str, range: Range<u64>, tag: &str) -> Chunks {
        let (mut sender, chunks) = mpsc::channel(AHEAD);
        let (bucket, key, tag) = (self.clone(), key.to_owned(), tag.to_owned());
        self.handle().spawn(async move {
            if let Err(fault) = bucket.bring(&key, range, &tag, &mut sender).await {
                // Where nobody reads any more, nobody wants to know.
                drop(sender.send(Err(fault)).await);
            }
        });
        chunks
    }

    /// Hands bytes of one version of an object over as they come, until the range is at its end or nobody takes any more. An answer that
    /// breaks off is taken up where it did. Runs on the bucket's runtime.
    ///
    /// # Errors
    /// Those of the server; [`FaultKind::Condition`] where the object is another one by now.
    pub async fn bring(
        &self,
        key: &str,
        mut range: Range<u64>,
        tag: &str,
        takes: &mut impl Takes,
    ) -> Result<(), Fault> {
        let mut attempt = 0;
        while !range.is_empty() {
            let begun = range.start;
            let mut body = self.answer(key, &range, tag).await?;
            let broken: Box<dyn std::error::Error + Send + Sync> = loop {
                match body.next().await {
                    Some(Ok(chunk)) => {
                        let length = u64::try_from(chunk.len()).unwrap_or(u64::MAX);
                        if length > range.end.saturating_sub(range.start) {
                            return Err(self.too_much(key));
                        }
                        range.start += length;
                        if !takes.take(chunk).await || range.is_empty() {
                            return Ok(());
                        }
                    }
                    Some(Err(error)) => break error.into(),
                    None => break "its body is shorter than it said".into(),
                }
            };
            // One that brought something may break off as often as it likes.
            let attempts = if range.start > begun { 0 } else { attempt };
            attempt = self.again(key, attempts, broken).await?;
        }
        Ok(())
    }

    fn too_much(&self, key: &str) -> Fault {
        let what = format!("reading s3://{}/{key}: more bytes came than were asked for", self.address().bucket());
        let error = Error::operator(what).with_hint("use a server that keeps ranges and If-Match");
        Fault { kind: FaultKind::Condition, error }
    }

    async fn answer(
        &self,
        key: &str,
        range: &Range<u64>,
        tag: &str,
    ) -> Result<aws_sdk_s3::primitives::ByteStream, Fault> {
        let address = self.address();
        let client = self.client().await.map_err(|error| Fault { kind: FaultKind::Refused, error })?;
        let request =
            client.get_object().bucket(address.bucket()).key(key).if_match(format!("\"{}\"", tag.trim_matches('"')));
        let request = request.range(format!("bytes={}-{}", range.start, range.end.saturating_sub(1)));
        let name = address.name_of(key).unwrap_or(key);
        Ok(request.send().await.map_err(|error| fault(address, READING, name, error))?.body)
    }

    /// Waits before a body that broke off is asked for again; returns how often it did.
    ///
    /// # Errors
    /// Class retry, where it did so too often.
    pub async fn again(
        &self,
        key: &str,
        attempt: u32,
        cause: Box<dyn std::error::Error + Send + Sync>,
    ) -> Result<u32, Fault> {
        let patience = self.patience();
        let attempt = attempt + 1;
        if attempt >= patience.attempts {
            let what = format!("reading s3://{}/{key}: the answer broke off {attempt} times", self.address().bucket());
            let error =
                Error::retry(what).with_hint("check the way to the server; forebay tries again").with_source(cause);
            return Err(Fault { kind: FaultKind::Unclear, error });
        }
        tracing::debug!(key, attempt, error = %cause, "an answer broke off: it is asked for again");
        let chance = RandomState::new().build_hasher().finish();
        tokio::time::sleep(patience.pause_before(attempt, chance)).await;
        Ok(attempt)
    }
}

/// A key of a listing that was asked for in the encoding of URLs, which lets keys hold letters that XML cannot.
fn decoded(key: &str) -> String {
    let spaced = key.replace('+', " ");
    percent_encoding::percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    #[test]
    fn keys_are_decoded() {
        assert_eq!(super::decoded("a+b%2Bc%25/d%C3%A9%01"), "a b+c%/d\u{e9}\u{1}");
    }
}
