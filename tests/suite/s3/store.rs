//! What the server keeps, and what it answers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::ops::Bound;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use forebay_model::{Digest, Timestamp};

use super::http::{Answer, Request};
use super::{ACCESS_KEY, BUCKET, Operation, REGION};

type Headers = BTreeMap<String, String>;

#[derive(Debug)]
pub(super) struct Object {
    pub(super) bytes: Bytes,
    tag: String,
    /// What it was sent with: metadata, checksum, encryption.
    pub(super) headers: Headers,
    modified_at: Timestamp,
}

#[derive(Debug)]
pub(super) struct Upload {
    pub(super) key: String,
    headers: Headers,
    parts: BTreeMap<u32, (String, Bytes)>,
    begun_at: Timestamp,
}

#[derive(Debug)]
pub(super) struct Store {
    pub(super) objects: BTreeMap<String, Object>,
    pub(super) uploads: BTreeMap<String, Upload>,
    pub(super) page: usize,
    pub(super) conditions: bool,
    /// Keys that nobody may read.
    pub(super) forbidden: BTreeSet<String>,
    writes: u64,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            objects: BTreeMap::new(),
            uploads: BTreeMap::new(),
            page: 1000,
            conditions: true,
            forbidden: BTreeSet::new(),
            writes: 0,
        }
    }
}

fn now() -> Timestamp {
    Timestamp::from_system(SystemTime::now())
}

fn time(time: Timestamp) -> String {
    // As S3 has it: no finer than seconds.
    time.to_utc().format("%Y-%m-%dT%H:%M:%S.000Z").to_string()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn xml(root: &str, content: &str) -> Answer {
    let namespace = "http://s3.amazonaws.com/doc/2006-03-01/";
    let body = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<{root} xmlns=\"{namespace}\">{content}</{root}>");
    Answer::new(200, body).with("content-type", "application/xml")
}

/// An error, as S3 tells it.
pub(super) fn error(status: u16, code: &str, message: &str) -> Answer {
    let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>{message}</Message></Error>");
    Answer::new(status, body).with("content-type", "application/xml")
}

/// As S3 encodes keys of listings where it is asked to.
fn url_encoded(key: &str) -> String {
    let letter = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'/' | b'*' => char::from(byte).to_string(),
        b' ' => "+".to_owned(),
        other => format!("%{other:02X}"),
    };
    key.bytes().map(letter).collect()
}

/// What stands in elements of that name.
fn elements<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    text.split(&open).skip(1).filter_map(|rest| Some(rest.split_once(&close)?.0)).collect()
}

impl Store {
    pub(super) fn put(&mut self, key: &str, bytes: Bytes, headers: Headers) -> String {
        self.writes += 1;
        let tag = format!("\"{}-{}\"", &Digest::of(&bytes).to_string()[..32], self.writes);
        let object = Object { bytes, tag: tag.clone(), headers, modified_at: now() };
        self.objects.insert(key.to_owned(), object);
        tag
    }

    pub(super) fn begin(&mut self, key: &str, headers: Headers) -> String {
        self.writes += 1;
        let id = format!("upload-{}", self.writes);
        let upload = Upload { key: key.to_owned(), headers, parts: BTreeMap::new(), begun_at: now() };
        self.uploads.insert(id.clone(), upload);
        id
    }

    /// Carries a request out.
    pub(super) fn answer(&mut self, operation: Operation, request: &Request) -> Answer {
        if let Some(refused) = refused(request) {
            return refused;
        }
        if operation == Operation::Get && self.forbidden.contains(&request.key) {
            return error(403, "AccessDenied", "Access Denied");
        }
        let upload = request.query.get("uploadId").map_or("", String::as_str);
        match operation {
            Operation::Put => match self.taken(request) {
                Some(taken) => taken,
                None => {
                    let tag = self.put(&request.key, request.body.clone(), kept_headers(request));
                    Answer::new(200, "").with("etag", tag)
                }
            },
            Operation::Get | Operation::Head => self.get(operation, request),
            Operation::Delete => {
                self.objects.remove(&request.key);
                Answer::new(204, "")
            }
            Operation::List => self.list(request),
            Operation::Begin => {
                let id = self.begin(&request.key, kept_headers(request));
                let (bucket, key) = (escaped(&request.bucket), escaped(&request.key));
                let content = format!("<Bucket>{bucket}</Bucket><Key>{key}</Key><UploadId>{id}</UploadId>");
                xml("InitiateMultipartUploadResult", &content)
            }
            Operation::Part => {
                let Some(upload) = self.uploads.get_mut(upload) else { return no_upload() };
                let number = request.query["partNumber"].parse().expect("a number");
                let tag = format!("\"{}\"", &Digest::of(&request.body).to_string()[..32]);
                upload.parts.insert(number, (tag.clone(), request.body.clone()));
                Answer::new(200, "").with("etag", tag)
            }
            Operation::Complete => self.complete(upload, request),
            Operation::Abort => match self.uploads.remove(upload) {
                Some(_) => Answer::new(204, ""),
                None => no_upload(),
            },
            Operation::Uploads => self.list_uploads(request),
        }
    }

    /// Whether a condition keeps a write from being carried out.
    fn taken(&self, request: &Request) -> Option<Answer> {
        let condition = request.headers.get("if-none-match");
        assert_eq!(condition.map(String::as_str), Some("*"), "each write of forebay's has the condition");
        let is_taken = self.conditions && self.objects.contains_key(&request.key);
        is_taken
            .then(|| error(412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold"))
    }

    fn get(&self, operation: Operation, request: &Request) -> Answer {
        let Some(object) = self.objects.get(&request.key) else {
            return error(404, "NoSuchKey", "The specified key does not exist.");
        };
        let wanted = request.headers.get("if-match");
        if wanted.is_some_and(|tag| *tag != object.tag) {
            return error(412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold");
        }
        let told = |mut answer: Answer| {
            for (name, value) in &object.headers {
                if let Some(name) =
                    ["x-amz-meta-forebay-write", "x-amz-checksum-sha256"].iter().find(|known| *known == name)
                {
                    answer = answer.with(name, value);
                }
            }
            answer.with("etag", &object.tag)
        };
        let length = object.bytes.len();
        if operation == Operation::Head {
            return told(Answer { length: Some(length), ..Answer::new(200, "") });
        }
        let Some(range) = request.headers.get("range") else { return told(Answer::new(200, object.bytes.clone())) };
        let (first, last) = range.strip_prefix("bytes=").and_then(|range| range.split_once('-')).expect("a range");
        let (first, last): (usize, usize) = (first.parse().expect("a number"), last.parse().expect("a number"));
        if first >= length {
            return error(416, "InvalidRange", "The requested range is not satisfiable");
        }
        let end = (last + 1).min(length);
        let range = format!("bytes {first}-{}/{length}", end - 1);
        told(Answer::new(206, object.bytes.slice(first..end))).with("content-range", range)
    }

    fn list(&self, request: &Request) -> Answer {
        assert_eq!(request.query["list-type"], "2");
        let text = |name: &str| request.query.get(name).map_or("", String::as_str);
        let (prefix, delimiter) = (text("prefix"), text("delimiter"));
        let token = text("continuation-token");
        let after = if token.is_empty() { text("start-after") } else { token };
        let encodes = text("encoding-type") == "url";
        let told = |key: &str| if encodes { url_encoded(key) } else { escaped(key) };
        let mut content = String::new();
        let (mut entries, mut folders, mut last) = (0, Vec::<String>::new(), None);
        if encodes {
            content.push_str("<EncodingType>url</EncodingType>");
        }
        let from = if after.is_empty() { Bound::Included(prefix) } else { Bound::Excluded(after) };
        for (key, object) in self.objects.range::<str, _>((from, Bound::Unbounded)) {
            let Some(rest) = key.strip_prefix(prefix) else { break };
            let folder = (!delimiter.is_empty()).then(|| rest.split_once(delimiter)).flatten();
            if let Some((folder, _)) = folder {
                let folder = format!("{prefix}{folder}{delimiter}");
                // Its keys stand together: one that a former page showed is not shown again.
                if folders.contains(&folder) || after.starts_with(&folder) {
                    continue;
                }
                folders.push(folder);
            }
            if entries == self.page {
                break;
            }
            entries += 1;
            last = Some(key);
            match folder {
                Some((folder, _)) => {
                    let _ = write!(
                        content,
                        "<CommonPrefixes><Prefix>{}{delimiter}</Prefix></CommonPrefixes>",
                        escaped(&format!("{prefix}{folder}"))
                    );
                }
                None => {
                    let _ = write!(
                        content,
                        "<Contents><Key>{}</Key><Size>{}</Size><LastModified>{}</LastModified><ETag>{}</ETag></Contents>",
                        told(key),
                        object.bytes.len(),
                        time(object.modified_at),
                        escaped(&object.tag)
                    );
                }
            }
        }
        if entries == self.page
            && let Some(last) = last
        {
            let next = format!(
                "<IsTruncated>true</IsTruncated><NextContinuationToken>{}</NextContinuationToken>",
                escaped(last)
            );
            content.push_str(&next);
        }
        xml("ListBucketResult", &content)
    }

    fn complete(&mut self, id: &str, request: &Request) -> Answer {
        if let Some(taken) = self.taken(request) {
            return taken;
        }
        let Some(upload) = self.uploads.remove(id) else { return no_upload() };
        let asked = String::from_utf8(request.body.to_vec()).expect("XML");
        let numbers = elements(&asked, "PartNumber");
        let sums = elements(&asked, "ChecksumSHA256");
        assert_eq!(numbers.len(), upload.parts.len(), "all parts, once: {asked}");
        assert_eq!(sums.len(), numbers.len(), "each with its checksum: {asked}");
        let mut bytes = Vec::new();
        for (number, sum) in numbers.iter().zip(sums) {
            let (_, part) = &upload.parts[&number.parse().expect("a number")];
            assert_eq!(sum, STANDARD.encode(Digest::of(part).as_bytes()));
            bytes.extend_from_slice(part);
        }
        let tag = self.put(&upload.key, bytes.into(), upload.headers);
        xml("CompleteMultipartUploadResult", &format!("<ETag>{}</ETag>", escaped(&tag)))
    }

    fn list_uploads(&self, request: &Request) -> Answer {
        let text = |name: &str| request.query.get(name).map_or("", String::as_str);
        let (prefix, after) = (text("prefix"), (text("key-marker"), text("upload-id-marker")));
        let mut uploads: Vec<_> = self.uploads.iter().map(|(id, upload)| (&upload.key, id, upload)).collect();
        uploads.sort_by_key(|(key, id, _)| (*key, *id));
        uploads.retain(|(key, id, _)| key.starts_with(prefix) && (key.as_str(), id.as_str()) > after);
        let mut content = String::new();
        for (key, id, upload) in uploads.iter().take(self.page) {
            let (key, begun_at) = (escaped(key), time(upload.begun_at));
            let _ = write!(
                content,
                "<Upload><Key>{key}</Key><UploadId>{id}</UploadId><Initiated>{begun_at}</Initiated></Upload>"
            );
        }
        if let Some((key, id, _)) = uploads.get(self.page - 1).filter(|_| uploads.len() > self.page) {
            let key = escaped(key);
            let next = format!(
                "<IsTruncated>true</IsTruncated><NextKeyMarker>{key}</NextKeyMarker><NextUploadIdMarker>{id}</NextUploadIdMarker>"
            );
            content.push_str(&next);
        }
        xml("ListMultipartUploadsResult", &content)
    }
}

fn no_upload() -> Answer {
    error(404, "NoSuchUpload", "The specified upload does not exist.")
}

/// Who is not let in, who meant another bucket, and what was damaged on its way.
fn refused(request: &Request) -> Option<Answer> {
    let header = |name: &str| request.headers.get(name).map_or("", String::as_str);
    let signed = header("authorization");
    let mut credential = signed.split_once("Credential=").map_or("", |(_, rest)| rest).split('/');
    if credential.next() != Some(ACCESS_KEY) {
        let message = "The AWS Access Key Id you provided does not exist in our records.";
        return Some(error(403, "InvalidAccessKeyId", message));
    }
    if let Some(region) = credential.nth(1).filter(|region| *region != REGION) {
        let message =
            format!("The authorization header is malformed; the region '{region}' is wrong; expecting '{REGION}'");
        return Some(error(400, "AuthorizationHeaderMalformed", &message).with("x-amz-bucket-region", REGION));
    }
    if request.bucket != BUCKET {
        return Some(error(404, "NoSuchBucket", "The specified bucket does not exist"));
    }
    let sum = header("x-amz-checksum-sha256");
    if matches!(request.method.as_str(), "PUT") {
        assert_eq!(sum, STANDARD.encode(Digest::of(&request.body).as_bytes()), "what is sent has its checksum");
    }
    None
}

fn kept_headers(request: &Request) -> Headers {
    request
        .headers
        .iter()
        .filter(|(name, _)| name.starts_with("x-amz-"))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}
