//! What had landed before a pipeline began: it is taken beside what has landed since, the oldest first.

use forebay_model::Timestamp;
use forebay_model::ids::{PipelineName, SegmentId, StreamName};
use forebay_model::ports::WorkItem;

use super::db::{Db, query};
use super::fault::Step;
use super::refine::{self, Span};
use super::rows::Cells as _;

/// A pipeline that has refined anything of the stream has begun long ago, whatever wrote that down: it has no history.
pub(super) async fn begin(db: &mut Db<'_>, pipeline: &PipelineName, stream: &StreamName, at: Timestamp) -> Step<()> {
    query(
        "INSERT INTO histories (pipeline, stream, number, done, began_at) SELECT ?1, ?2, CASE WHEN EXISTS \
         (SELECT 1 FROM refinements r JOIN segments s ON s.segment = r.segment WHERE r.pipeline = ?1 AND s.stream = ?2) \
         THEN 0 ELSE coalesce((SELECT max(s.number) FROM segments s WHERE s.stream = ?2 AND s.landed_at < ?3), 0) END, 0, ?3 \
         WHERE true ON CONFLICT (pipeline, stream) DO NOTHING",
    )
    .bind(pipeline.as_str())
    .bind(stream.as_str())
    .bind(at.as_micros())
    .execute(db)
    .await?;
    Ok(())
}

/// Where what has landed since a pipeline began lies, and where its history.
pub(super) async fn spans(db: &mut Db<'_>, pipeline: &PipelineName, stream: &StreamName) -> Step<(Span, Span)> {
    let row = query("SELECT pipeline, stream, number, done FROM histories WHERE pipeline = ? AND stream = ?")
        .bind(pipeline.as_str())
        .bind(stream.as_str())
        .fetch_optional(&mut *db)
        .await?;
    let (end, done) = match row {
        Some(row) => (row.value("number")?, row.value("done")?),
        None => (0, 0),
    };
    let marked = query("SELECT pipeline, stream, number FROM _work_marks WHERE pipeline = ? AND stream = ?")
        .bind(pipeline.as_str())
        .bind(stream.as_str())
        .fetch_optional(db)
        .await?;
    let marked: i64 = marked.map(|row| row.value("number")).transpose()?.unwrap_or(0);
    Ok((Span { after: marked.max(end), until: i64::MAX }, Span { after: done, until: end }))
}

/// As [`refine::work`], of history.
pub(super) async fn work(
    db: &mut Db<'_>,
    pipeline: &PipelineName,
    stream: &StreamName,
    now: Timestamp,
    skip: &[SegmentId],
    limit: usize,
) -> Step<Vec<WorkItem>> {
    if pipeline.as_side().is_some() {
        return super::side::work(db, pipeline, stream, now, skip, limit).await;
    }
    let (_, history) = spans(db, pipeline, stream).await?;
    if history.until == 0 || super::deployments::paused(db, pipeline).await?.is_some() {
        return Ok(Vec::new());
    }
    let items = refine::work_in(db, pipeline, stream, now, skip, (history, limit)).await?;
    Ok(items.into_iter().map(|item| WorkItem { history: true, ..item }).collect())
}

/// Moves the mark of history as that of `work` is moved.
pub(super) async fn move_mark(db: &mut Db<'_>, pipeline: &PipelineName, stream: &str) -> Step<()> {
    query(
        "UPDATE histories SET done = coalesce((SELECT s.number - 1 FROM segments s WHERE s.stream = ?2 \
         AND s.number > histories.done AND s.number <= histories.number \
         AND NOT EXISTS (SELECT 1 FROM refinements r WHERE r.pipeline = ?1 AND r.segment = s.segment) \
         ORDER BY s.number LIMIT 1), histories.number) WHERE pipeline = ?1 AND stream = ?2 AND done < number",
    )
    .bind(pipeline.as_str())
    .bind(stream)
    .execute(db)
    .await?;
    Ok(())
}
