//! Replays into tables beside those of their pipeline.

use forebay_model::Timestamp;
use forebay_model::flow::OnChange;
use forebay_model::ids::{PipelineName, SegmentId, StreamName};
use forebay_model::load::{LoadGroup, Terms};
use forebay_model::ports::{DeploymentState, Side, WorkItem};
use forebay_model::revision::Revision;
use forebay_model::segment::LandedSegment;
use uuid::Uuid;

use super::db::{Db, Row, query};
use super::fault::Step;
use super::refine::item;
use super::rows::{self, Cells as _};
use super::{catalog, deployments};
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

fn uuid(row: &Row) -> Step<Uuid> {
    let id: String = row.value("id")?;
    id.parse().map_err(|error| rows::damaged(row, "id", error))
}

fn side(row: &Row) -> Step<Side> {
    Ok(Side {
        id: uuid(row)?,
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
    let sql = "SELECT pipeline, id, of_pipeline, revision_id, workers, reason, asked_at, dropped FROM sides ORDER BY pipeline";
    query(sql).fetch_all(db).await?.iter().map(side).collect()
}

async fn named(db: &mut Db<'_>, name: &PipelineName) -> Step<Option<Side>> {
    Ok(all(db).await?.into_iter().find(|side| side.name == *name))
}

pub(super) async fn ask(db: &mut Db<'_>, wanted: &Side, own: &Revision, segments: &[SegmentId]) -> Step<u64> {
    let Side { id, name, of, revision, workers, reason, asked_at, dropped: _ } = wanted;
    match named(db, name).await? {
        Some(known) => {
            crate::check::same_side(&known, wanted)?;
            // How it is done is as who asked last said.
            query("UPDATE sides SET workers = ?2, reason = ?3, asked_at = ?4 WHERE pipeline = ?1")
                .bind(name.as_str())
                .bind(workers.map(|workers| i64::from(workers.get())))
                .bind(reason.as_str())
                .bind(asked_at.as_micros())
                .execute(&mut *db)
                .await?;
        }
        None => {
            forget_rows(db, name).await?;
            query(
                "INSERT INTO sides (pipeline, id, of_pipeline, revision_id, workers, reason, asked_at, dropped) \
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            )
            .bind(name.as_str())
            .bind(id.to_string())
            .bind(of.as_str())
            .bind(revision.to_string())
            .bind(workers.map(|workers| i64::from(workers.get())))
            .bind(reason.as_str())
            .bind(asked_at.as_micros())
            .bind(false)
            .execute(&mut *db)
            .await?;
            let made = catalog::record_revision(db, own, *asked_at).await?;
            deployments::deploy(db, name, made.id, DeploymentState::Active, reason, *asked_at).await?;
            if let (None, Some(of)) = (catalog::schema(db, name).await?, catalog::schema(db, of).await?) {
                catalog::evolve_schema(db, name, None, &of.schema, *asked_at).await?;
            }
        }
    }
    let added = query(
        "INSERT INTO side_segments (pipeline, segment) SELECT ?1, s.segment FROM segments s \
         WHERE s.segment IN (SELECT value FROM json_each(?2)) ON CONFLICT (pipeline, segment) DO NOTHING",
    )
    .bind(name.as_str())
    .bind(serde_json::to_string(segments)?)
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
    // Where a load of it was done, the next try is to remove what that brought.
    query("DELETE FROM refinements WHERE pipeline = ?1 AND state = 'failed' AND loaded_generation IS NULL")
        .bind(name.as_str())
        .execute(db)
        .await?;
    Ok(gone.rows_affected())
}

pub(super) async fn drop(db: &mut Db<'_>, name: &PipelineName, only: Option<&[SegmentId]>) -> Step<bool> {
    let dropped = query(
        "UPDATE sides SET dropped = ?2 WHERE pipeline = ?1 AND (?3 IS NULL OR NOT EXISTS (SELECT 1 FROM side_segments c \
         WHERE c.pipeline = ?1 AND c.segment NOT IN (SELECT value FROM json_each(coalesce(?3, '[]'))) \
         AND NOT EXISTS (SELECT 1 FROM refinements r WHERE r.pipeline = c.pipeline AND r.segment = c.segment \
             AND r.state = 'superseded')))",
    );
    let only = only.map(serde_json::to_string).transpose()?;
    Ok(dropped.bind(name.as_str()).bind(true).bind(only).execute(db).await?.rows_affected() > 0)
}

/// What a side's group holds is the side's, also where that was taken back while it was with a worker.
pub(super) async fn opened(db: &mut Db<'_>, group: &LoadGroup) -> Step<()> {
    let segments: Vec<_> = group.segments.iter().map(|segment| &segment.segment).collect();
    query(
        "INSERT INTO side_segments (pipeline, segment) SELECT d.pipeline, s.segment FROM sides d JOIN segments s \
         ON s.segment IN (SELECT value FROM json_each(?2)) WHERE d.pipeline = ?1 ON CONFLICT (pipeline, segment) DO NOTHING",
    )
    .bind(group.pipeline.as_str())
    .bind(serde_json::to_string(&segments)?)
    .execute(db)
    .await?;
    Ok(())
}

pub(super) async fn forget(db: &mut Db<'_>, name: &PipelineName) -> Step<()> {
    if named(db, name).await?.is_some_and(|side| !side.dropped) {
        return Err(LedgerError::invariant(format!("side {name} was to be forgotten, and was not dropped")).into());
    }
    forget_rows(db, name).await
}

async fn forget_rows(db: &mut Db<'_>, name: &PipelineName) -> Step<()> {
    if let Some(active) = deployments::active(db, name).await? {
        for table in active.revision.revision.tables() {
            query("DELETE FROM held_changes WHERE table_name = ?1").bind(table.to_string()).execute(&mut *db).await?;
        }
    }
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
    if deployments::paused(db, name).await?.is_some() {
        return Ok(Vec::new());
    }
    let rows = query(concat!(
        "SELECT ",
        rows::segment_columns!(),
        ", r.attempts, r.loaded_generation, r.state, d.workers, o.number AS version_number, o.on_change FROM side_segments c \
        JOIN sides d ON d.pipeline = c.pipeline AND NOT d.dropped \
        JOIN segments s ON s.segment = c.segment JOIN objects o ON o.object = s.object \
        LEFT JOIN refinements r ON r.pipeline = c.pipeline AND r.segment = c.segment \
        WHERE c.pipeline = ?1 AND s.stream = ?2 AND (r.state IS NULL OR (r.state = 'failed' AND r.retry_at <= ?3)) \
        AND c.segment NOT IN (SELECT value FROM json_each(?4)) AND NOT EXISTS (SELECT 1 FROM objects v \
            JOIN segments w ON w.object = v.object JOIN side_segments x ON x.pipeline = c.pipeline AND x.segment = w.segment \
            LEFT JOIN refinements y ON y.pipeline = c.pipeline AND y.segment = w.segment \
            WHERE o.key IS NOT NULL AND v.stream = o.stream AND v.partition = o.partition AND v.key = o.key \
            AND v.number > o.number AND v.on_change = 'replace' AND coalesce(y.state, '') <> 'failed') \
        ORDER BY s.number LIMIT ?5"
    ))
    .bind(name.as_str())
    .bind(stream.as_str())
    .bind(now.as_micros())
    .bind(serde_json::to_string(skip)?)
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .fetch_all(db)
    .await?;
    let mut items = Vec::new();
    for row in &rows {
        let workers = row.small_any("workers")?.and_then(std::num::NonZeroU32::new);
        let failed = row.value::<Option<String>>("state")?.is_some();
        let mut item = WorkItem { history: true, failed, terms: Terms { revision: None, workers }, ..item(row)? };
        if row.word::<OnChange>("on_change")? == OnChange::Replace && row.value::<Option<String>>("key")?.is_some() {
            item.segment.replaces = former(db, name, &item.segment, row.value("version_number")?).await?;
        }
        if !item.segment.replaces.iter().any(|former| skip.contains(former)) {
            items.push(item);
        }
    }
    Ok(items)
}

/// What a side has of former versions of a segment's object.
async fn former(db: &mut Db<'_>, name: &PipelineName, segment: &LandedSegment, version: i64) -> Step<Vec<SegmentId>> {
    let rows = query(
        "SELECT s.segment FROM side_segments c JOIN segments s ON s.segment = c.segment JOIN objects v ON v.object = s.object \
         LEFT JOIN refinements r ON r.pipeline = c.pipeline AND r.segment = c.segment WHERE c.pipeline = ?1 AND v.stream = ?2 \
         AND v.partition = ?3 AND v.key = ?4 AND v.number < ?5 AND coalesce(r.state, '') <> 'superseded' ORDER BY s.number",
    )
    .bind(name.as_str())
    .bind(segment.stream.as_str())
    .bind(segment.partition.as_str())
    .bind(segment.object_key())
    .bind(version)
    .fetch_all(db)
    .await?;
    rows.iter().map(|row| row.id("segment")).collect()
}
