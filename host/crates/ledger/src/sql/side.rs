//! Replays into tables beside those of their pipeline.

use forebay_model::Timestamp;
use forebay_model::ids::{PipelineName, SegmentId, StreamName};
use forebay_model::load::Terms;
use forebay_model::ports::{Side, WorkItem};

use super::db::{Db, Row, query};
use super::fault::Step;
use super::refine::item;
use super::rows::{self, Cells as _};
use crate::error::LedgerError;

/// The tables that have rows of a pipeline.
const OF_A_PIPELINE: [&str; 15] = [
    "again",
    "heals",
    "reject_counts",
    "load_segments",
    "loads",
    "_groups",
    "refinements",
    "_work_marks",
    "histories",
    "schemas",
    "paused",
    "deployments",
    "revisions",
    "side_segments",
    "sides",
];

fn side(row: &Row) -> Step<Side> {
    Ok(Side {
        name: row.parsed("pipeline")?,
        of: row.parsed("of_pipeline")?,
        revision: row.parsed("revision_id")?,
        workers: row.small_any("workers")?.and_then(std::num::NonZeroU32::new),
        reason: row.value("reason")?,
        asked_at: row.time("asked_at")?,
        dropped: row.value("dropped")?,
    })
}

pub(super) async fn all(db: &mut Db<'_>) -> Step<Vec<Side>> {
    let sql =
        "SELECT pipeline, of_pipeline, revision_id, workers, reason, asked_at, dropped FROM sides ORDER BY pipeline";
    query(sql).fetch_all(db).await?.iter().map(side).collect()
}

async fn named(db: &mut Db<'_>, name: &PipelineName) -> Step<Option<Side>> {
    Ok(all(db).await?.into_iter().find(|side| side.name == *name))
}

pub(super) async fn ask(db: &mut Db<'_>, wanted: &Side, segments: &[SegmentId]) -> Step<u64> {
    let Side { name, of, revision, workers, reason, asked_at, dropped: _ } = wanted;
    match named(db, name).await? {
        Some(known) => crate::check::same_side(&known, wanted)?,
        None => {
            query(
                "INSERT INTO sides (pipeline, of_pipeline, revision_id, workers, reason, asked_at, dropped) \
                 VALUES (?, ?, ?, ?, ?, ?, ?)",
            )
            .bind(name.as_str())
            .bind(of.as_str())
            .bind(revision.to_string())
            .bind(workers.map(|workers| i64::from(workers.get())))
            .bind(reason.as_str())
            .bind(asked_at.as_micros())
            .bind(false)
            .execute(&mut *db)
            .await?;
        }
    }
    let added = query(
        "INSERT INTO side_segments (pipeline, segment) SELECT ?1, s.segment FROM segments s \
         WHERE s.segment IN (SELECT value FROM json_each(?2)) ON CONFLICT (pipeline, segment) DO NOTHING",
    )
    .bind(name.as_str())
    .bind(serde_json::to_string(segments)?)
    .execute(&mut *db)
    .await?;
    // How it is done is as who asked last said.
    query("UPDATE sides SET workers = ?2, reason = ?3, asked_at = ?4 WHERE pipeline = ?1")
        .bind(name.as_str())
        .bind(workers.map(|workers| i64::from(workers.get())))
        .bind(reason.as_str())
        .bind(asked_at.as_micros())
        .execute(db)
        .await?;
    Ok(added.rows_affected())
}

pub(super) async fn forget_waiting(db: &mut Db<'_>, name: &PipelineName) -> Step<u64> {
    let gone = query(
        "DELETE FROM side_segments WHERE pipeline = ?1 AND NOT EXISTS (SELECT 1 FROM refinements r \
         WHERE r.pipeline = ?1 AND r.segment = side_segments.segment AND r.state <> 'failed')",
    )
    .bind(name.as_str())
    .execute(&mut *db)
    .await?;
    query("DELETE FROM refinements WHERE pipeline = ?1 AND state = 'failed'").bind(name.as_str()).execute(db).await?;
    Ok(gone.rows_affected())
}

pub(super) async fn drop(db: &mut Db<'_>, name: &PipelineName) -> Step<bool> {
    let dropped = query("UPDATE sides SET dropped = ?2 WHERE pipeline = ?1").bind(name.as_str()).bind(true);
    Ok(dropped.execute(db).await?.rows_affected() > 0)
}

pub(super) async fn forget(db: &mut Db<'_>, name: &PipelineName) -> Step<()> {
    if named(db, name).await?.is_some_and(|side| !side.dropped) {
        return Err(LedgerError::invariant(format!("side {name} was to be forgotten, and was not dropped")).into());
    }
    query("DELETE FROM held_changes WHERE table_name IN (SELECT table_name FROM loads WHERE pipeline = ?1)")
        .bind(name.as_str())
        .execute(&mut *db)
        .await?;
    for table in OF_A_PIPELINE {
        query(format!("DELETE FROM {table} WHERE pipeline = ?1")).bind(name.as_str()).execute(&mut *db).await?;
    }
    Ok(())
}

/// As [`super::refine::work`], of what a side was asked for.
pub(super) async fn work(
    db: &mut Db<'_>,
    name: &PipelineName,
    stream: &StreamName,
    now: Timestamp,
    skip: &[SegmentId],
    limit: usize,
) -> Step<Vec<WorkItem>> {
    if super::deployments::paused(db, name).await?.is_some() {
        return Ok(Vec::new());
    }
    let rows = query(concat!(
        "SELECT ",
        rows::segment_columns!(),
        ", r.attempts, r.loaded_generation, r.state, d.workers FROM side_segments c \
        JOIN sides d ON d.pipeline = c.pipeline AND NOT d.dropped \
        JOIN segments s ON s.segment = c.segment JOIN objects o ON o.object = s.object \
        LEFT JOIN refinements r ON r.pipeline = c.pipeline AND r.segment = c.segment \
        WHERE c.pipeline = ?1 AND s.stream = ?2 AND (r.state IS NULL OR (r.state = 'failed' AND r.retry_at <= ?3)) \
        AND c.segment NOT IN (SELECT value FROM json_each(?4)) ORDER BY s.number LIMIT ?5"
    ))
    .bind(name.as_str())
    .bind(stream.as_str())
    .bind(now.as_micros())
    .bind(serde_json::to_string(skip)?)
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .fetch_all(db)
    .await?;
    let of_side = |row: &Row| {
        let workers = row.small_any("workers")?.and_then(std::num::NonZeroU32::new);
        let failed = row.value::<Option<String>>("state")?.is_some();
        Ok(WorkItem { history: true, failed, terms: Terms { revision: None, workers }, ..item(row)? })
    };
    rows.iter().map(of_side).collect()
}
