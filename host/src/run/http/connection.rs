//! HTTP/1.1 as far as this server needs it: one request a connection, whole bodies with a length. What a client does, or fails to
//! do, costs its own connection: all that is read is bounded in size, all that is waited for in time.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, Version, header};
use axum::response::{IntoResponse as _, Response};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{Admitted, Door, Known, Refusal, refusal};

/// Connections at a time; further ones wait in the system's queue.
const CONNECTIONS: usize = 64;

/// Bytes of a request's head, and its headers.
const HEAD: usize = 16 * 1024;
const HEADERS: usize = 64;

/// How long a head may take to come, a body, and an answer to be taken.
const HEAD_TIME: Duration = Duration::from_secs(10);
const BODY_TIME: Duration = Duration::from_secs(120);
const WRITE_TIME: Duration = Duration::from_secs(30);

/// How long what a client still sends is read and dropped, so that it sees the answer that it has.
const DRAIN_TIME: Duration = Duration::from_secs(2);

/// A body above this waits for others of its kind: they are not in memory at the same time.
const LARGE: u64 = 1 << 20;

/// Serves connections for ever.
pub(super) async fn serve(listener: TcpListener, door: Door) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let door = Arc::new(door);
    // They end with the server.
    let mut connections = JoinSet::new();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, peer)) => {
                let door = Arc::clone(&door);
                connections.spawn(async move {
                    let _place = place;
                    if let Err(error) = converse(stream, &door).await {
                        tracing::debug!(%peer, %error, "an HTTP client went away");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "an HTTP connection could not be taken");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(mut stream: TcpStream, door: &Door) -> io::Result<()> {
    let (response, is_head) = exchange(&mut stream, door).await?;
    let written = async {
        write(&mut stream, response, is_head).await?;
        stream.shutdown().await
    };
    timeout(WRITE_TIME, written).await??;
    let mut rest = vec![0; 16 * 1024];
    let drained = async { while matches!(stream.read(&mut rest).await, Ok(1..)) {} };
    // Where it does not end by itself, it is ended.
    drop(timeout(DRAIN_TIME, drained).await);
    Ok(())
}

/// The answer to the one request, and whether it is to a `HEAD`.
async fn exchange(stream: &mut TcpStream, door: &Door) -> io::Result<(Response, bool)> {
    let mut buffer = BytesMut::with_capacity(4096);
    let head = match timeout(HEAD_TIME, read_head(stream, &mut buffer)).await {
        Ok(head) => head?,
        Err(_) => Err(refusal(StatusCode::REQUEST_TIMEOUT, "the request did not come in time", None)),
    };
    let parts = match head {
        Ok(parts) => parts,
        Err(refused) => return Ok((refused.into_response(), false)),
    };
    let is_head = parts.method == Method::HEAD;
    let response = match admit(door, &parts) {
        Ok((known, length)) => {
            let _turn = match length {
                LARGE.. => door.large.acquire().await.ok(),
                0..LARGE => None,
            };
            let expects = parts.headers.get(header::EXPECT).is_some_and(|value| value.as_bytes() == b"100-continue");
            match timeout(BODY_TIME, read_body(stream, buffer, length, expects)).await {
                Ok(body) => {
                    let mut request = Request::from_parts(parts, Body::from(body?));
                    request.extensions_mut().insert(known);
                    door.answer(request).await
                }
                Err(_) => refusal(StatusCode::REQUEST_TIMEOUT, "the body did not come in time", None).into_response(),
            }
        }
        Err(refused) => refused.into_response(),
    };
    Ok((response, is_head))
}

/// What the caller may see, and the length of the body that it sends.
fn admit(door: &Door, parts: &Parts) -> Result<(Known, u64), Refusal> {
    let Admitted { most, known } = door.admit(parts)?;
    let length = length(&parts.headers)?;
    if length > most {
        let hint = format!("this request may have {most} bytes");
        return Err(refusal(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large", Some(&hint)));
    }
    Ok((known, length))
}

/// Reads up to the empty line; what comes behind it stays in the buffer.
async fn read_head(stream: &mut TcpStream, buffer: &mut BytesMut) -> io::Result<Result<Parts, Refusal>> {
    loop {
        if stream.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match parse(buffer) {
            Ok(Some((parts, length))) => {
                drop(buffer.split_to(length));
                return Ok(Ok(parts));
            }
            Ok(None) if buffer.len() < HEAD => {}
            Ok(None) | Err(httparse::Error::TooManyHeaders) => {
                let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
                return Ok(Err(refusal(status, "the head of the request is too large", None)));
            }
            Err(error) => {
                return Ok(Err(refusal(StatusCode::BAD_REQUEST, format!("this is no HTTP request: {error}"), None)));
            }
        }
    }
}

/// A head that is whole, and its length.
fn parse(bytes: &[u8]) -> Result<Option<(Parts, usize)>, httparse::Error> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(length) = request.parse(bytes)? else { return Ok(None) };
    let method = request.method.and_then(|method| Method::from_bytes(method.as_bytes()).ok());
    let uri = request.path.and_then(|path| path.parse::<Uri>().ok());
    let mut parsed = HeaderMap::with_capacity(request.headers.len());
    for header in request.headers.iter() {
        let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| httparse::Error::HeaderName)?;
        let value = HeaderValue::from_bytes(header.value).map_err(|_| httparse::Error::HeaderValue)?;
        parsed.append(name, value);
    }
    let mut head = Request::new(());
    *head.method_mut() = method.ok_or(httparse::Error::Token)?;
    *head.uri_mut() = uri.ok_or(httparse::Error::Token)?;
    *head.version_mut() = if request.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };
    *head.headers_mut() = parsed;
    Ok(Some((head.into_parts().0, length)))
}

/// The length of the body. One that is said twice, or not said, could hide a second request.
fn length(headers: &HeaderMap) -> Result<u64, Refusal> {
    if headers.contains_key(header::TRANSFER_ENCODING) {
        let hint = "send the body with Content-Length, not in chunks";
        return Err(refusal(StatusCode::LENGTH_REQUIRED, "the body has no length", Some(hint)));
    }
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(length) = lengths.next() else { return Ok(0) };
    let digits = length.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    match (digits.and_then(|digits| digits.parse().ok()), lengths.next()) {
        (Some(length), None) => Ok(length),
        (None, _) | (Some(_), Some(_)) => {
            Err(refusal(StatusCode::BAD_REQUEST, "Content-Length is no length, or said twice", None))
        }
    }
}

async fn read_body(stream: &mut TcpStream, mut body: BytesMut, length: u64, expects: bool) -> io::Result<Bytes> {
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    body.truncate(length);
    if expects && body.len() < length {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    while body.len() < length {
        let left = u64::try_from(length - body.len()).unwrap_or(u64::MAX);
        if (&mut *stream).take(left).read_buf(&mut body).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(body.freeze())
}

async fn write(stream: &mut TcpStream, response: Response, is_head: bool) -> io::Result<()> {
    let (parts, body) = response.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let mut out = Vec::with_capacity(512);
    out.extend_from_slice(format!("HTTP/1.1 {}\r\n", parts.status).as_bytes());
    for (name, value) in parts.headers.iter().filter(|(name, _)| **name != header::CONTENT_LENGTH) {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    // What a `HEAD` leaves out has been left out already: its length is the route's to tell.
    let length = match (is_head, parts.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok())) {
        (true, Some(length)) => length.to_owned(),
        (true, None) | (false, _) => body.len().to_string(),
    };
    out.extend_from_slice(format!("content-length: {length}\r\nconnection: close\r\n\r\n").as_bytes());
    stream.write_all(&out).await?;
    if !is_head {
        stream.write_all(&body).await?;
    }
    stream.flush().await
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_taken_whole_or_not_at_all() {
        let whole = b"POST /v1/x?y=z HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
        let (parts, length) = parse(whole).unwrap().unwrap();
        assert_eq!((parts.method, parts.uri.to_string(), length), (Method::POST, "/v1/x?y=z".to_owned(), 55));
        assert_eq!(super::length(&parts.headers).unwrap(), 3);
        for end in 0..55 {
            assert!(parse(&whole[..end]).unwrap().is_none(), "{end}");
        }
        for no in ["\u{1}\r\n\r\n", "GET /\r\n\r\n", "GET  HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nA b: c\r\n\r\n"] {
            assert!(parse(no.as_bytes()).is_err(), "{no:?}");
        }
    }

    #[test]
    fn a_length_is_said_once_in_digits() {
        let of = |lines: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.append(*name, HeaderValue::from_static(value));
            }
            length(&headers).map_err(|refused| refused.status.as_u16())
        };
        assert_eq!(of(&[]), Ok(0));
        assert_eq!(of(&[("content-length", "12")]), Ok(12));
        assert_eq!(of(&[("content-length", "12"), ("content-length", "12")]), Err(400));
        for no in ["", "+1", "1 ", "0x1", "-1", "99999999999999999999"] {
            assert_eq!(of(&[("content-length", no)]), Err(400), "{no:?}");
        }
        assert_eq!(of(&[("content-length", "1"), ("transfer-encoding", "chunked")]), Err(411));
    }
}
