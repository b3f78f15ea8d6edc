//! What has landed: segments, positions, objects, and landings whose journal entries are still to be written.

use std::collections::BTreeSet;

use forebay_model::ids::{SegmentId, StreamName};
use forebay_model::ports::{JournalEntry, Landing, ObjectState};
use forebay_model::position::OrderedPosition;
use forebay_model::segment::{LandedSegment, Partition};
use uuid::Uuid;

use super::db::{Db, query};
use super::fault::Step;
use super::rows::{self, Cells as _, segments};

/// The segments that an object took the place of when it landed.
pub(super) async fn replaced_by(db: &mut Db<'_>, object: &str) -> Step<Vec<SegmentId>> {
    let rows = query(
        "SELECT s.segment FROM objects f JOIN segments s ON s.object = f.object WHERE f.replaced_by = ? ORDER BY s.number",
    )
    .bind(object)
    .fetch_all(db)
    .await?;
    rows.iter().map(|row| row.id("segment")).collect()
}

/// The segments of an object, and what they took the place of.
pub(super) async fn segments_of_object(db: &mut Db<'_>, object: &str) -> Step<Vec<LandedSegment>> {
    let rows = query(segments!("WHERE s.object = ? ORDER BY s.number")).bind(object).fetch_all(&mut *db).await?;
    let replaces = replaced_by(db, object).await?;
    rows.iter()
        .map(|row| rows::segment(row).map(|segment| LandedSegment { replaces: replaces.clone(), ..segment }))
        .collect()
}

/// One segment.
pub(super) async fn segment(db: &mut Db<'_>, id: &SegmentId) -> Step<Option<LandedSegment>> {
    let row = query(segments!("WHERE s.segment = ?")).bind(id.as_str()).fetch_optional(&mut *db).await?;
    let Some(row) = row else { return Ok(None) };
    let segment = rows::segment(&row)?;
    let replaces = replaced_by(db, &segment.object).await?;
    Ok(Some(LandedSegment { replaces, ..segment }))
}

pub(super) async fn next_position(
    db: &mut Db<'_>,
    stream: &StreamName,
    partition: &Partition,
) -> Step<Option<OrderedPosition>> {
    let row = query("SELECT stream, partition, next_position FROM partitions WHERE stream = ? AND partition = ?")
        .bind(stream.as_str())
        .bind(partition.as_str())
        .fetch_optional(db)
        .await?;
    row.map(|row| row.parsed("next_position")).transpose()
}

pub(super) async fn latest_objects(
    db: &mut Db<'_>,
    stream: &StreamName,
    partition: &Partition,
    keys: &[String],
) -> Step<Vec<Option<ObjectState>>> {
    let rows = query(
        "SELECT j.key AS place, o.key, o.version, o.source_start, o.source_end, o.identity FROM json_each(?) j \
         JOIN objects o ON o.number = (SELECT max(l.number) FROM objects l \
         WHERE l.stream = ? AND l.partition = ? AND l.key = j.value)",
    )
    .bind(serde_json::to_string(keys)?)
    .bind(stream.as_str())
    .bind(partition.as_str())
    .fetch_all(db)
    .await?;
    let mut found = vec![None; keys.len()];
    for row in rows {
        let place: i64 = row.value("place")?;
        let state = ObjectState {
            partition: partition.clone(),
            key: row.value("key")?,
            version: row.value("version")?,
            range: row.range("source_start", "source_end")?,
            identity: row.value("identity")?,
        };
        if let Some(slot) = usize::try_from(place).ok().and_then(|place| found.get_mut(place)) {
            *slot = Some(state);
        }
    }
    Ok(found)
}

pub(super) async fn objects_listed(db: &mut Db<'_>, names: &[String]) -> Step<Vec<bool>> {
    let rows = query("SELECT object FROM objects WHERE object IN (SELECT value FROM json_each(?))")
        .bind(serde_json::to_string(names)?)
        .fetch_all(db)
        .await?;
    let listed: BTreeSet<String> = rows.iter().map(|row| row.value("object")).collect::<Step<_>>()?;
    Ok(names.iter().map(|name| listed.contains(name)).collect())
}

pub(super) async fn unjournalled(db: &mut Db<'_>, ledger: Uuid, stream: &StreamName) -> Step<Vec<JournalEntry>> {
    let rows =
        query("SELECT number, stream, body FROM _landings WHERE stream = ? AND body IS NOT NULL ORDER BY number")
            .bind(stream.as_str())
            .fetch_all(&mut *db)
            .await?;
    let mut entries = Vec::with_capacity(rows.len());
    for row in rows {
        let landing: Landing = row.json("body")?;
        let mut segments = Vec::new();
        let objects = query("SELECT object FROM objects WHERE attempt = ? ORDER BY number")
            .bind(landing.attempt.to_string())
            .fetch_all(&mut *db)
            .await?;
        for object in objects {
            let object: String = object.value("object")?;
            segments.extend(segments_of_object(db, &object).await?);
        }
        entries.push(JournalEntry { version: 1, ledger, attempt: landing.attempt, landing, segments });
    }
    Ok(entries)
}

pub(super) async fn mark_journalled(db: &mut Db<'_>, attempt: Uuid) -> Step<()> {
    query("UPDATE _landings SET body = NULL WHERE attempt = ?").bind(attempt.to_string()).execute(db).await?;
    Ok(())
}
