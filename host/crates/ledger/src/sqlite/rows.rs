//! Rows to values and back.

use forebay_model::ids::{Digest, SegmentId, StreamName};
use forebay_model::position::Position;
use forebay_model::segment::{LandedSegment, Partition, SegmentContent};
use forebay_model::{Error, Timestamp};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::fault::Step;
use crate::error::LedgerError;

/// A segment's columns, of `segments s` and `objects o`.
macro_rules! segment_columns {
    () => {
        "s.number, s.segment, s.stream, s.partition, s.key, s.version, s.source_start, s.source_end, s.position, \
         s.next_position, s.object, s.content, s.content_start, s.content_end, s.compression, s.preamble, s.bytes, \
         s.records, s.format, s.landed_at, o.sha256 "
    };
}
pub(super) use segment_columns;

/// `SELECT` of them, and what follows.
macro_rules! segments {
    ($rest:literal) => {
        concat!(
            "SELECT ",
            $crate::sqlite::rows::segment_columns!(),
            "FROM segments s JOIN objects o ON o.object = s.object ",
            $rest
        )
    };
}
pub(super) use segments;

/// What the ledger itself wrote cannot be read back.
pub(super) fn unreadable(error: &Error) -> LedgerError {
    LedgerError::invariant(format!("the ledger's content: {error}"))
}

/// The one word that serde gives a plain enum.
pub(super) fn word<T: Serialize>(value: &T) -> Step<String> {
    match serde_json::to_value(value)?.as_str() {
        Some(word) => Ok(word.to_owned()),
        None => Err(LedgerError::invariant("a state is not one word").into()),
    }
}

/// And back.
pub(super) fn from_word<T: DeserializeOwned>(word: String) -> Step<T> {
    Ok(serde_json::from_value(serde_json::Value::String(word))?)
}

/// A count that was checked when it was written.
pub(super) fn count(row: &SqliteRow, column: &str) -> Step<u64> {
    let value: i64 = row.try_get(column)?;
    Ok(u64::try_from(value).map_err(|_| LedgerError::invariant(format!("the ledger's {column} is negative")))?)
}

/// A number that fits 32 bits.
pub(super) fn small(row: &SqliteRow, column: &str) -> Step<u32> {
    let value: i64 = row.try_get(column)?;
    Ok(u32::try_from(value).map_err(|_| LedgerError::invariant(format!("the ledger's {column} is not a u32")))?)
}

pub(super) fn time(row: &SqliteRow, column: &str) -> Step<Timestamp> {
    Ok(Timestamp::from_micros(row.try_get(column)?))
}

pub(super) fn digest(row: &SqliteRow, column: &str) -> Step<Digest> {
    let text: String = row.try_get(column)?;
    Ok(text.parse().map_err(|error| unreadable(&error))?)
}

pub(super) fn id(row: &SqliteRow, column: &str) -> Step<SegmentId> {
    let text: String = row.try_get(column)?;
    Ok(SegmentId::from_text(text))
}

/// A segment, of [`segment_columns`]; `replaces` is empty.
pub(super) fn segment(row: &SqliteRow) -> Step<LandedSegment> {
    let stream: String = row.try_get("stream")?;
    let partition: String = row.try_get("partition")?;
    let records: Option<i64> = row.try_get("records")?;
    let next: Option<String> = row.try_get("next_position")?;
    let next = next.map(|text| text.parse()).transpose().map_err(|error| unreadable(&error))?;
    Ok(LandedSegment {
        id: id(row, "segment")?,
        stream: StreamName::new(stream).map_err(|error| unreadable(&error))?,
        partition: Partition::new(partition),
        first: position(row)?,
        next: next.map(Position::Ordered),
        object: row.try_get("object")?,
        content: content(row)?,
        bytes: count(row, "bytes")?,
        records: records.map(|_| count(row, "records")).transpose()?,
        digest: digest(row, "sha256")?,
        landed_at: time(row, "landed_at")?,
        format: row.try_get("format")?,
        replaces: Vec::new(),
    })
}

fn position(row: &SqliteRow) -> Step<Position> {
    let ordered: Option<String> = row.try_get("position")?;
    if let Some(ordered) = ordered {
        return Ok(Position::Ordered(ordered.parse().map_err(|error| unreadable(&error))?));
    }
    let key: String = row.try_get("key")?;
    let version: String = row.try_get("version")?;
    Ok(Position::object(key, version, count(row, "source_start")?..count(row, "source_end")?))
}

fn content(row: &SqliteRow) -> Step<SegmentContent> {
    let range = count(row, "content_start")?..count(row, "content_end")?;
    let kind: String = row.try_get("content")?;
    match kind.as_str() {
        "bytes" => {
            let preamble: Option<String> = row.try_get("preamble")?;
            Ok(SegmentContent::Bytes {
                range,
                compression: from_word(row.try_get("compression")?)?,
                preamble: preamble.map(|text| serde_json::from_str(&text)).transpose()?,
            })
        }
        "rows" => Ok(SegmentContent::Envelope { rows: range }),
        other => Err(LedgerError::invariant(format!("segment content {other:?} is not known")).into()),
    }
}
