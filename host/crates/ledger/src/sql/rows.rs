//! Rows to values and back.

use std::fmt::Display;
use std::ops::Range;
use std::str::FromStr;

use forebay_model::ids::{SegmentId, StreamName};
use forebay_model::position::Position;
use forebay_model::segment::{LandedSegment, Partition, SegmentContent};
use forebay_model::{Error, Timestamp};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::postgres::PgColumn;
use sqlx::{Column, ColumnIndex, ColumnOrigin, Decode, Postgres, Row as _, Sqlite, Type};

use super::db::Row;
use super::fault::{Fault, Step};
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
            $crate::sql::rows::segment_columns!(),
            "FROM segments s JOIN objects o ON o.object = s.object ",
            $rest
        )
    };
}
pub(super) use segments;

/// Columns that tell people which row it is.
const NAMES: [&str; 12] = [
    "number",
    "pipeline",
    "segment",
    "stream",
    "partition",
    "object",
    "revision_id",
    "version",
    "name",
    "path",
    "table_name",
    "column_name",
];

/// What was written by nobody of ours: the ledger is damaged, and where is told.
pub(super) fn damaged(row: &Row, column: &str, what: impl Display) -> Fault {
    match row {
        Row::Sqlite(row) => {
            let origin = row.try_column(column).ok().map(Column::origin);
            let origin = origin.as_ref().and_then(ColumnOrigin::table_column);
            damaged_in(row, column, origin.map(|origin| (&*origin.name, &*origin.table)), what)
        }
        Row::Postgres(row, tables) => {
            let table = row.try_column(column).ok().and_then(PgColumn::relation_id);
            let table = table.and_then(|table| tables.get(&table.0));
            damaged_in(row, column, table.map(|table| (column, table.as_str())), what)
        }
    }
}

fn damaged_in<R>(row: &R, column: &str, origin: Option<(&str, &str)>, what: impl Display) -> Fault
where
    R: sqlx::Row,
    for<'i> &'i str: ColumnIndex<R>,
    usize: ColumnIndex<R>,
    for<'r> String: Decode<'r, R::Database> + Type<R::Database>,
    for<'r> i64: Decode<'r, R::Database> + Type<R::Database>,
{
    let place = match origin {
        Some((name, table)) => format!("column {name} of table {table}"),
        None => format!("column {column}"),
    };
    let names = row.columns().iter().map(Column::name).filter(|name| *name != column && NAMES.contains(name));
    let shown = |name: &str| match (row.try_get::<String, _>(name), row.try_get::<i64, _>(name)) {
        (Ok(text), _) => Some(format!("{name} {text:?}")),
        (Err(_), Ok(number)) => Some(format!("{name} {number}")),
        (Err(_), Err(_)) => None,
    };
    let names: Vec<_> = names.filter_map(shown).collect();
    let of = if names.is_empty() { String::new() } else { format!(", in the row of {}", names.join(", ")) };
    Fault::Damaged(format!("{place}{of}: {what}"))
}

/// What a column may be read as.
pub(crate) trait Readable:
    for<'r> Decode<'r, Sqlite> + Type<Sqlite> + for<'r> Decode<'r, Postgres> + Type<Postgres>
{
}

impl<T> Readable for T where T: for<'r> Decode<'r, Sqlite> + Type<Sqlite> + for<'r> Decode<'r, Postgres> + Type<Postgres>
{}

/// Reading a row of what only this room writes. What stands there and cannot be is damage, told by table, column and row.
pub(crate) trait Cells {
    /// A value as the database has it.
    fn value<T: Readable>(&self, column: &str) -> Step<T>;
    /// A text that means something.
    fn parsed<T: FromStr<Err = Error>>(&self, column: &str) -> Step<T>;
    /// The same where there may be none.
    fn parsed_any<T: FromStr<Err = Error>>(&self, column: &str) -> Step<Option<T>>;
    /// JSON.
    fn json<T: DeserializeOwned>(&self, column: &str) -> Step<T>;
    /// The same where there may be none.
    fn json_any<T: DeserializeOwned>(&self, column: &str) -> Step<Option<T>>;
    /// One word of a plain enum.
    fn word<T: DeserializeOwned>(&self, column: &str) -> Step<T>;
    /// A count that was checked when it was written.
    fn count(&self, column: &str) -> Step<u64>;
    /// The same where there may be none.
    fn count_any(&self, column: &str) -> Step<Option<u64>>;
    /// A number that fits 32 bits.
    fn small(&self, column: &str) -> Step<u32>;
    /// The same where there may be none.
    fn small_any(&self, column: &str) -> Step<Option<u32>>;
    /// A part of something, half open.
    fn range(&self, start: &str, end: &str) -> Step<Range<u64>>;
    /// A point in time.
    fn time(&self, column: &str) -> Step<Timestamp>;
    /// A segment's id.
    fn id(&self, column: &str) -> Step<SegmentId>;
}

impl Cells for Row {
    fn value<T: Readable>(&self, column: &str) -> Step<T> {
        let value = match self {
            Self::Sqlite(row) => row.try_get(column),
            Self::Postgres(row, _) => row.try_get(column),
        };
        value.map_err(|error| {
            if let sqlx::Error::ColumnDecode { index: _, source } = error {
                damaged(self, column, source)
            } else {
                Fault::Sql(error)
            }
        })
    }

    fn parsed<T: FromStr<Err = Error>>(&self, column: &str) -> Step<T> {
        let text: String = self.value(column)?;
        text.parse().map_err(|error| damaged(self, column, error))
    }

    fn parsed_any<T: FromStr<Err = Error>>(&self, column: &str) -> Step<Option<T>> {
        let text: Option<String> = self.value(column)?;
        text.map(|_| self.parsed(column)).transpose()
    }

    fn json<T: DeserializeOwned>(&self, column: &str) -> Step<T> {
        let text: String = self.value(column)?;
        serde_json::from_str(&text).map_err(|error| damaged(self, column, error))
    }

    fn json_any<T: DeserializeOwned>(&self, column: &str) -> Step<Option<T>> {
        let text: Option<String> = self.value(column)?;
        text.map(|_| self.json(column)).transpose()
    }

    fn word<T: DeserializeOwned>(&self, column: &str) -> Step<T> {
        let word: String = self.value(column)?;
        serde_json::from_value(serde_json::Value::String(word)).map_err(|error| damaged(self, column, error))
    }

    fn count(&self, column: &str) -> Step<u64> {
        let value: i64 = self.value(column)?;
        u64::try_from(value).map_err(|_| damaged(self, column, format_args!("{value} is no count")))
    }

    fn count_any(&self, column: &str) -> Step<Option<u64>> {
        let value: Option<i64> = self.value(column)?;
        value.map(|_| self.count(column)).transpose()
    }

    fn small(&self, column: &str) -> Step<u32> {
        let value: i64 = self.value(column)?;
        u32::try_from(value).map_err(|_| damaged(self, column, format_args!("{value} does not fit 32 bits")))
    }

    fn small_any(&self, column: &str) -> Step<Option<u32>> {
        let value: Option<i64> = self.value(column)?;
        value.map(|_| self.small(column)).transpose()
    }

    fn range(&self, start: &str, end: &str) -> Step<Range<u64>> {
        let range = self.count(start)?..self.count(end)?;
        if range.start > range.end {
            return Err(damaged(self, end, format_args!("{} is before {start}, {}", range.end, range.start)));
        }
        Ok(range)
    }

    fn time(&self, column: &str) -> Step<Timestamp> {
        Ok(Timestamp::from_micros(self.value(column)?))
    }

    fn id(&self, column: &str) -> Step<SegmentId> {
        Ok(SegmentId::from_text(self.value::<String>(column)?))
    }
}

/// The one word that serde gives a plain enum.
pub(super) fn word<T: Serialize>(value: &T) -> Step<String> {
    match serde_json::to_value(value)?.as_str() {
        Some(word) => Ok(word.to_owned()),
        None => Err(LedgerError::invariant("a state is not one word").into()),
    }
}

/// A segment, of [`segment_columns`]; `replaces` is empty.
pub(super) fn segment(row: &Row) -> Step<LandedSegment> {
    Ok(LandedSegment {
        id: row.id("segment")?,
        stream: stream(row)?,
        partition: Partition::new(row.value::<String>("partition")?),
        first: position(row)?,
        next: row.parsed_any("next_position")?.map(Position::Ordered),
        object: row.value("object")?,
        content: content(row)?,
        bytes: row.count("bytes")?,
        records: row.count_any("records")?,
        digest: row.parsed("sha256")?,
        landed_at: row.time("landed_at")?,
        format: row.value("format")?,
        replaces: Vec::new(),
    })
}

fn stream(row: &Row) -> Step<StreamName> {
    StreamName::new(row.value::<String>("stream")?).map_err(|error| damaged(row, "stream", error))
}

fn position(row: &Row) -> Step<Position> {
    if let Some(ordered) = row.parsed_any("position")? {
        return Ok(Position::Ordered(ordered));
    }
    let key: String = row.value("key")?;
    let version: String = row.value("version")?;
    Ok(Position::object(key, version, row.range("source_start", "source_end")?))
}

fn content(row: &Row) -> Step<SegmentContent> {
    let range = row.range("content_start", "content_end")?;
    let kind: String = row.value("content")?;
    match kind.as_str() {
        "bytes" => Ok(SegmentContent::Bytes {
            range,
            compression: row.word("compression")?,
            preamble: row.json_any("preamble")?,
        }),
        "rows" => Ok(SegmentContent::Envelope { rows: range }),
        other => Err(damaged(row, "content", format_args!("{other:?} is not known"))),
    }
}
