//! Landings: objects, segments, positions of partitions.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use forebay_model::flow::OnChange;
use forebay_model::ids::SegmentId;
use forebay_model::ports::{LandOutcome, Landing, NewObject, NewSegment};
use forebay_model::position::{OrderedPosition, Position};
use forebay_model::segment::{Partition, SegmentContent};
use serde_json::json;

use super::db::{Db, Insert, query};
use super::fault::Step;
use super::landed::{replaced_by, segments_of_object};
use super::rows::{self, Cells as _};
use crate::check::{known_part, landed, may_advance, signed};
use crate::error::LedgerError;

/// Rows of one statement: 21 values each, of the 32,766 that SQLite takes; PostgreSQL takes twice as many.
const ROWS: usize = 1000;

/// Lists a landing that was checked.
pub(crate) async fn land(db: &mut Db<'_>, landing: &Landing) -> Step<LandOutcome> {
    let repeated = query("SELECT 1 FROM _landings WHERE attempt = ?")
        .bind(landing.attempt.to_string())
        .fetch_optional(&mut *db)
        .await?
        .is_some();
    let standing = listed_parts(db, landing).await?;
    let mut outcome = LandOutcome { listed: Vec::new(), known: Vec::new() };
    let mut fresh: Vec<&NewObject> = Vec::new();
    for object in &landing.objects {
        match standing.get(object.name.as_str()) {
            None => fresh.push(object),
            Some(Listed::Here(digest)) if *digest == object.digest.to_string() && repeated => {
                outcome.listed.extend(segments_of_object(db, &object.name).await?);
            }
            Some(Listed::Here(_)) => {
                return Err(LedgerError::invariant(format!("object {} was landed before", object.name)).into());
            }
            Some(Listed::Elsewhere(name)) => {
                outcome.known.extend(segments_of_object(db, name).await?.into_iter().map(|segment| segment.id));
            }
        }
    }
    if repeated {
        return match fresh.first() {
            None => Ok(outcome),
            Some(object) => Err(LedgerError::invariant(format!(
                "attempt {} landed before, without object {}",
                landing.attempt, object.name
            ))
            .into()),
        };
    }
    let advanced = advance(db, landing).await?;
    insert_objects(db, landing, &fresh).await?;
    insert_segments(db, landing, &fresh).await?;
    let replaced = replace(db, landing, &fresh).await?;
    for object in &fresh {
        let replaces = replaced.get(object.name.as_str()).cloned().unwrap_or_default();
        outcome.listed.extend(object.segments.iter().map(|segment| landed(landing, object, segment, replaces.clone())));
    }
    let body = (advanced || !fresh.is_empty()).then(|| serde_json::to_string(landing)).transpose()?;
    query("INSERT INTO _landings (attempt, stream, landed_at, body) VALUES (?, ?, ?, ?)")
        .bind(landing.attempt.to_string())
        .bind(landing.stream.as_str())
        .bind(landing.landed_at.as_micros())
        .bind(body)
        .execute(&mut *db)
        .await?;
    Ok(outcome)
}

/// Where an object of a landing stands in the ledger.
enum Listed {
    /// Under its own name, with this digest.
    Here(String),
    /// The same part of the source's object is listed under this name.
    Elsewhere(String),
}

async fn listed_parts<'a>(db: &mut Db<'_>, landing: &'a Landing) -> Step<BTreeMap<&'a str, Listed>> {
    let mut standing = BTreeMap::new();
    let names: BTreeSet<_> = landing.objects.iter().map(|object| object.name.as_str()).collect();
    let rows = query("SELECT object, sha256 FROM objects WHERE object IN (SELECT value FROM json_each(?))")
        .bind(serde_json::to_string(&names)?)
        .fetch_all(&mut *db)
        .await?;
    for row in rows {
        let name: String = row.value("object")?;
        if let Some(name) = names.get(name.as_str()) {
            standing.insert(*name, Listed::Here(row.value("sha256")?));
        }
    }
    let parts: Vec<_> = landing
        .objects
        .iter()
        .filter_map(|object| object.source.as_ref().map(|source| (object, source)))
        .filter(|(object, _)| !standing.contains_key(object.name.as_str()))
        .map(|(object, source)| (object.name.as_str(), source))
        .collect();
    let asked: Vec<_> =
        parts.iter().map(|(_, source)| json!([source.partition.as_str(), source.key, source.version])).collect();
    let rows = query(
        "SELECT j.key AS part, o.object, o.source_start, o.source_end FROM json_each(?) j JOIN objects o \
         ON o.stream = ? AND o.partition = j.value ->> 0 AND o.key = j.value ->> 1 AND o.version = j.value ->> 2 \
         ORDER BY o.number",
    )
    .bind(serde_json::to_string(&asked)?)
    .bind(landing.stream.as_str())
    .fetch_all(&mut *db)
    .await?;
    for row in rows {
        let part: i64 = row.value("part")?;
        let Some((name, source)) = usize::try_from(part).ok().and_then(|part| parts.get(part)) else { continue };
        let listed = row.range("source_start", "source_end")?;
        if known_part(&landing.stream, source, &listed)? {
            let listed_as: String = row.value("object")?;
            standing.entry(*name).or_insert(Listed::Elsewhere(listed_as));
        }
    }
    Ok(standing)
}

async fn advance(db: &mut Db<'_>, landing: &Landing) -> Step<bool> {
    let spans: BTreeSet<&Partition> =
        landing.objects.iter().flat_map(|object| &object.segments).map(|segment| &segment.partition).collect();
    let standing = next_positions(db, landing).await?;
    let mut moving = Vec::new();
    for advance in &landing.advances {
        let stands = standing.get(advance.partition.as_str()).copied();
        if may_advance(&landing.stream, advance, stands, spans.contains(&advance.partition))? {
            moving.push(advance);
        }
    }
    for chunk in moving.chunks(ROWS) {
        let mut insert = Insert::new("INSERT INTO partitions (stream, partition, next_position, advanced_at) ");
        insert.push_values(chunk, |row, advance| {
            row.push_bind(landing.stream.as_str())
                .push_bind(advance.partition.as_str())
                .push_bind(advance.to.to_string())
                .push_bind(landing.landed_at.as_micros());
        });
        insert.push(
            " ON CONFLICT (stream, partition) DO UPDATE SET next_position = excluded.next_position, \
             advanced_at = excluded.advanced_at",
        );
        insert.build().execute(&mut *db).await?;
    }
    Ok(!moving.is_empty())
}

/// Where the partitions of a landing stand.
async fn next_positions(db: &mut Db<'_>, landing: &Landing) -> Step<BTreeMap<String, OrderedPosition>> {
    let partitions: Vec<_> = landing.advances.iter().map(|advance| advance.partition.as_str()).collect();
    let rows = query(
        "SELECT p.partition, p.next_position FROM json_each(?) j JOIN partitions p \
         ON p.stream = ? AND p.partition = j.value",
    )
    .bind(serde_json::to_string(&partitions)?)
    .bind(landing.stream.as_str())
    .fetch_all(db)
    .await?;
    rows.iter().map(|row| Ok((row.value("partition")?, row.parsed("next_position")?))).collect()
}

pub(super) async fn insert_objects(db: &mut Db<'_>, landing: &Landing, objects: &[&NewObject]) -> Step<()> {
    for chunk in objects.chunks(ROWS) {
        let mut values = Vec::with_capacity(chunk.len());
        for object in chunk {
            let source = object.source.as_ref();
            let start = source.map(|source| signed("offset", source.range.start)).transpose()?;
            let end = source.map(|source| signed("offset", source.range.end)).transpose()?;
            let on_change = source.map(|_| rows::word(&object.on_change)).transpose()?;
            values.push((object, source, start, end, on_change, signed("size", object.bytes)?));
        }
        let mut insert = Insert::new(
            "INSERT INTO objects (object, stream, partition, key, version, source_start, source_end, identity, \
             on_change, bytes, sha256, attempt, landed_at) ",
        );
        insert.push_values(values, |row, (object, source, start, end, on_change, bytes)| {
            row.push_bind(object.name.as_str())
                .push_bind(landing.stream.as_str())
                .push_bind(source.map(|source| source.partition.as_str()))
                .push_bind(source.map(|source| source.key.as_str()))
                .push_bind(source.map(|source| source.version.as_str()))
                .push_bind(start)
                .push_bind(end)
                .push_bind(source.map(|source| source.identity.as_str()))
                .push_bind(on_change)
                .push_bind(bytes)
                .push_bind(object.digest.to_string())
                .push_bind(landing.attempt.to_string())
                .push_bind(landing.landed_at.as_micros());
        });
        insert.build().execute(&mut *db).await?;
    }
    Ok(())
}

/// A segment's columns that depend on what it is.
struct SegmentColumns {
    key: Option<String>,
    version: Option<String>,
    source: Option<(i64, i64)>,
    position: Option<String>,
    content: &'static str,
    range: (i64, i64),
    compression: Option<String>,
    preamble: Option<String>,
    bytes: i64,
    records: Option<i64>,
}

fn pair(range: &Range<u64>) -> Step<(i64, i64)> {
    Ok((signed("offset", range.start)?, signed("offset", range.end)?))
}

fn columns(segment: &NewSegment) -> Step<SegmentColumns> {
    let (content, range, compression, preamble) = match &segment.content {
        SegmentContent::Bytes { range, compression, preamble } => {
            let preamble = preamble.as_ref().map(serde_json::to_string).transpose()?;
            ("bytes", pair(range)?, Some(rows::word(compression)?), preamble)
        }
        SegmentContent::Envelope { rows } => ("rows", pair(rows)?, None, None),
    };
    let (key, version, source, position) = match &segment.first {
        Position::Ordered(position) => (None, None, None, Some(position.to_string())),
        Position::Object { key, version, range } => {
            (Some(key.clone()), Some(version.clone()), Some(pair(range)?), None)
        }
    };
    Ok(SegmentColumns {
        key,
        version,
        source,
        position,
        content,
        range,
        compression,
        preamble,
        bytes: signed("size", segment.bytes)?,
        records: segment.records.map(|records| signed("count", records)).transpose()?,
    })
}

pub(super) async fn insert_segments(db: &mut Db<'_>, landing: &Landing, objects: &[&NewObject]) -> Step<()> {
    let all: Vec<_> =
        objects.iter().flat_map(|object| object.segments.iter().map(move |segment| (object, segment))).collect();
    for chunk in all.chunks(ROWS) {
        let mut values = Vec::with_capacity(chunk.len());
        for (object, segment) in chunk {
            values.push((object, segment, columns(segment)?));
        }
        let mut insert = Insert::new(
            "INSERT INTO segments (segment, stream, partition, key, version, source_start, source_end, position, \
             next_position, object, content, content_start, content_end, compression, preamble, bytes, records, \
             format, landed_at) ",
        );
        insert.push_values(values, |row, (object, segment, columns)| {
            let id = SegmentId::derive(&landing.stream, &segment.partition, &segment.first);
            row.push_bind(id.as_str().to_owned())
                .push_bind(landing.stream.as_str())
                .push_bind(segment.partition.as_str())
                .push_bind(columns.key)
                .push_bind(columns.version)
                .push_bind(columns.source.map(|source| source.0))
                .push_bind(columns.source.map(|source| source.1))
                .push_bind(columns.position)
                .push_bind(segment.next.as_ref().map(ToString::to_string))
                .push_bind(object.name.as_str())
                .push_bind(columns.content)
                .push_bind(columns.range.0)
                .push_bind(columns.range.1)
                .push_bind(columns.compression)
                .push_bind(columns.preamble)
                .push_bind(columns.bytes)
                .push_bind(columns.records)
                .push_bind(segment.format.as_str())
                .push_bind(landing.landed_at.as_micros());
        });
        insert.build().execute(&mut *db).await?;
    }
    Ok(())
}

/// Notes which former versions of their keys the new objects take the place of; gives the segments of those.
pub(super) async fn replace(
    db: &mut Db<'_>,
    landing: &Landing,
    objects: &[&NewObject],
) -> Step<BTreeMap<String, Vec<SegmentId>>> {
    let candidates: Vec<_> = objects
        .iter()
        .filter(|object| object.on_change == OnChange::Replace && object.source.is_some())
        .map(|object| object.name.as_str())
        .collect();
    // One look for all, since most keys are new.
    let names = query(
        "SELECT n.object FROM json_each(?) j JOIN objects n ON n.object = j.value WHERE EXISTS (SELECT 1 FROM objects f \
         WHERE f.stream = n.stream AND f.partition = n.partition AND f.key = n.key AND f.number < n.number) \
         ORDER BY n.number",
    )
    .bind(serde_json::to_string(&candidates)?)
    .fetch_all(&mut *db)
    .await?;
    let mut replaced = BTreeMap::new();
    for row in names {
        let name: String = row.value("object")?;
        query(
            "UPDATE objects SET replaced_by = n.object FROM (SELECT * FROM objects WHERE object = ?) n \
             WHERE objects.stream = n.stream AND objects.partition = n.partition AND objects.key = n.key \
             AND objects.number < n.number AND objects.replaced_by IS NULL",
        )
        .bind(name.as_str())
        .execute(&mut *db)
        .await?;
        let segments = replaced_by(db, &name).await?;
        replaced.insert(name, segments);
    }
    tracing::debug!(attempt = %landing.attempt, replacing = replaced.len(), "versions replaced");
    Ok(replaced)
}
