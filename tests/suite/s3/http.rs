//! Requests and answers on the wire: HTTP/1.1, bodies with a length.

use std::collections::BTreeMap;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Operation, Shared, Wrong, lock, store};

/// A request, decoded.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) bucket: String,
    pub(super) key: String,
    pub(super) query: BTreeMap<String, String>,
    /// Names in small letters.
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: Bytes,
}

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Bytes,
    /// What a HEAD says of its length.
    pub(super) length: Option<usize>,
}

impl Answer {
    pub(super) fn new(status: u16, body: impl Into<Bytes>) -> Self {
        Self { status, headers: Vec::new(), body: body.into(), length: None }
    }

    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        let hex = rest.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match (first, hex.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &rest[2..];
            }
            (byte, _) => bytes.push(*byte),
        }
    }
    String::from_utf8(bytes).expect("a path of UTF-8")
}

async fn read(connection: &mut TcpStream, waiting: &mut Vec<u8>) -> Option<Request> {
    loop {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut parsed = httparse::Request::new(&mut headers);
        if let httparse::Status::Complete(end) = parsed.parse(waiting).expect("a request") {
            let target = parsed.path.expect("a target").to_owned();
            let headers: BTreeMap<_, _> = parsed
                .headers
                .iter()
                .map(|header| (header.name.to_lowercase(), String::from_utf8_lossy(header.value).into_owned()))
                .collect();
            let method = parsed.method.expect("a method").to_owned();
            waiting.drain(..end);
            if headers.get("expect").is_some_and(|expect| expect == "100-continue") {
                connection.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.ok()?;
            }
            let length = headers.get("content-length").map_or(0, |length| length.parse().expect("a length"));
            assert!(!headers.contains_key("transfer-encoding"), "bodies have a length: {headers:?}");
            while waiting.len() < length {
                if connection.read_buf(waiting).await.ok()? == 0 {
                    return None;
                }
            }
            let body = waiting.drain(..length).collect::<Vec<_>>().into();
            let (path, query) = target.split_once('?').unwrap_or((&target, ""));
            let (bucket, key) = path.trim_start_matches('/').split_once('/').unwrap_or((path.trim_matches('/'), ""));
            let query = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                (decoded(name), decoded(value))
            });
            let (bucket, key) = (decoded(bucket), decoded(key));
            return Some(Request { method, bucket, key, query: query.collect(), headers, body });
        }
        if connection.read_buf(waiting).await.ok()? == 0 {
            return None;
        }
    }
}

fn operation(request: &Request) -> Operation {
    let has = |name: &str| request.query.contains_key(name);
    match request.method.as_str() {
        "PUT" if has("partNumber") => Operation::Part,
        "PUT" => Operation::Put,
        "GET" if has("uploads") => Operation::Uploads,
        "GET" if request.key.is_empty() => Operation::List,
        "GET" => Operation::Get,
        "HEAD" => Operation::Head,
        "DELETE" if has("uploadId") => Operation::Abort,
        "DELETE" => Operation::Delete,
        "POST" if has("uploads") => Operation::Begin,
        "POST" => Operation::Complete,
        other => panic!("{other} is not known here"),
    }
}

/// What is to go wrong with this request, if anything.
fn wrong(shared: &Shared, operation: Operation) -> Option<Wrong> {
    let mut wrong = lock(&shared.wrong);
    let at = wrong.iter().position(|(of, _)| *of == operation)?;
    wrong.remove(at).map(|(_, wrong)| wrong)
}

/// Answers the requests of a connection, one after the other.
pub(super) async fn serve(mut connection: TcpStream, shared: &Shared) {
    let mut waiting = Vec::new();
    while let Some(request) = read(&mut connection, &mut waiting).await {
        let operation = operation(&request);
        lock(&shared.asked).push(operation);
        let wrong = wrong(shared, operation);
        let answer = match wrong {
            Some(Wrong::Answer(status, code)) => store::error(status, code, "by the test's script"),
            Some(Wrong::Hang) => {
                std::future::pending::<()>().await;
                return;
            }
            Some(Wrong::LostAnswer | Wrong::CutBody(_) | Wrong::StalledBody(_)) | None => {
                lock(&shared.store).answer(operation, &request)
            }
        };
        if wrong == Some(Wrong::LostAnswer) {
            return;
        }
        if write(&mut connection, &request, answer, wrong).await.is_none() {
            return;
        }
    }
}

/// Sends an answer; `None` where the connection is at its end.
async fn write(connection: &mut TcpStream, request: &Request, answer: Answer, wrong: Option<Wrong>) -> Option<()> {
    let Answer { status, headers, body, length } = answer;
    let is_head = request.method == "HEAD";
    let mut head = format!("HTTP/1.1 {status} Said\r\ncontent-length: {}\r\n", length.unwrap_or(body.len()));
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    connection.write_all(head.as_bytes()).await.ok()?;
    if is_head {
        return Some(());
    }
    match wrong {
        Some(Wrong::CutBody(at)) => {
            connection.write_all(&body[..at.min(body.len())]).await.ok()?;
            connection.flush().await.ok()?;
            None
        }
        Some(Wrong::StalledBody(at)) => {
            connection.write_all(&body[..at.min(body.len())]).await.ok()?;
            connection.flush().await.ok()?;
            std::future::pending::<()>().await;
            None
        }
        Some(Wrong::Answer(..) | Wrong::LostAnswer | Wrong::Hang) | None => connection.write_all(&body).await.ok(),
    }
}
