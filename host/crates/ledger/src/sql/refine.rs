//! What a pipeline has to refine, and how it fails.

use std::collections::{BTreeMap, BTreeSet};

use forebay_model::Timestamp;
use forebay_model::flow::OnChange;
use forebay_model::ids::{Generation, PipelineName, SegmentId, StreamName, TableName};
use forebay_model::load::Terms;
use forebay_model::ports::{SegmentFailure, WorkItem};
use forebay_model::revision::RevisionId;
use forebay_model::segment::LandedSegment;

use super::db::{Db, Row, query};
use super::fault::Step;
use super::rows::{self, Cells as _};
use crate::error::LedgerError;
use crate::versions::{self, Standing, Unit, Version};

/// Candidates of one query: enough for what is asked, and not all that ever landed.
pub(super) const PAGE: usize = 256;

/// Whether there are other versions of an object.
macro_rules! has_versions {
    () => {
        "o.key IS NOT NULL AND EXISTS (SELECT 1 FROM objects v WHERE v.stream = o.stream AND v.partition = o.partition \
         AND v.key = o.key AND v.number <> o.number)"
    };
}
pub(super) use has_versions;

/// Segments behind the mark that nothing was made of.
pub(crate) const CANDIDATES: &str = concat!(
    "SELECT ",
    rows::segment_columns!(),
    ", r.attempts, r.loaded_generation, ",
    has_versions!(),
    " AS versions \
    FROM (SELECT n.number FROM segments n WHERE n.stream = ?2 AND n.number > ?3 AND n.number <= ?5 \
            AND NOT EXISTS (SELECT 1 FROM refinements x WHERE x.pipeline = ?1 AND x.segment = n.segment) \
        ORDER BY 1 LIMIT ?4) c \
    JOIN segments s ON s.number = c.number JOIN objects o ON o.object = s.object \
    LEFT JOIN refinements r ON r.pipeline = ?1 AND r.segment = s.segment ORDER BY s.number"
);

/// Segments by their numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    /// Those after this one, up to which something was made of all,
    pub(super) after: i64,
    /// up to this one.
    pub(super) until: i64,
}

pub(super) async fn work(
    db: &mut Db<'_>,
    pipeline: &PipelineName,
    stream: &StreamName,
    now: Timestamp,
    skip: &[SegmentId],
    limit: usize,
) -> Step<Vec<WorkItem>> {
    if pipeline.as_side().is_some() || super::deployments::paused(db, pipeline).await?.is_some() {
        return Ok(Vec::new());
    }
    let (since, _) = super::history::spans(db, pipeline, stream).await?;
    work_in(db, pipeline, stream, now, skip, (since, limit)).await
}

pub(super) async fn work_in(
    db: &mut Db<'_>,
    pipeline: &PipelineName,
    stream: &StreamName,
    now: Timestamp,
    skip: &[SegmentId],
    (span, limit): (Span, usize),
) -> Step<Vec<WorkItem>> {
    let skip: BTreeSet<SegmentId> = skip.iter().cloned().collect();
    let mut items: Vec<WorkItem> = Vec::new();
    // What the plans of keys with several versions gave, by segment: what it replaces, and its unit's first segment.
    let mut planned: BTreeMap<SegmentId, Option<Unit>> = BTreeMap::new();
    // The unit that came last; it comes whole, whatever the limit.
    let mut open_unit: Option<SegmentId> = None;
    let mut after = span.after;
    let page = limit.saturating_add(skip.len()).clamp(1, PAGE);
    loop {
        let rows = query(CANDIDATES)
            .bind(pipeline.as_str())
            .bind(stream.as_str())
            .bind(after)
            .bind(i64::try_from(page).unwrap_or(i64::MAX))
            .bind(span.until)
            .fetch_all(&mut *db)
            .await?;
        for row in &rows {
            after = row.value("number")?;
            let mut item = item(row)?;
            let versions: bool = row.value("versions")?;
            let mut unit = None;
            if versions {
                if !planned.contains_key(&item.segment.id) {
                    plan_key(db, pipeline, &item.segment, now, &skip, &mut planned).await?;
                }
                match planned.remove(&item.segment.id).flatten() {
                    None => continue,
                    // It comes with one that failed.
                    Some(of) if of.failed => continue,
                    Some(of) if of.replaces.is_empty() => {}
                    Some(of) => {
                        item.segment.replaces = of.replaces;
                        unit = of.segments.into_iter().next();
                    }
                }
            } else if skip.contains(&item.segment.id) {
                continue;
            }
            if items.len() >= limit && (unit.is_none() || unit != open_unit) {
                return Ok(items);
            }
            open_unit = unit;
            items.push(item);
        }
        if rows.len() < page {
            return Ok(items);
        }
    }
}

pub(super) fn item(row: &Row) -> Step<WorkItem> {
    Ok(WorkItem {
        segment: rows::segment(row)?,
        generation: next_generation(row)?,
        attempts: row.small_any("attempts")?.unwrap_or(0),
        again: None,
        history: false,
        failed: false,
        terms: Terms::default(),
        retryable: None,
    })
}

fn next_generation(row: &Row) -> Step<Generation> {
    Ok(row.small_any("loaded_generation")?.map_or(0, |last| last.saturating_add(1)))
}

/// Plans all versions of a segment's object; each of their segments is in `planned` then.
pub(super) async fn plan_key(
    db: &mut Db<'_>,
    pipeline: &PipelineName,
    segment: &LandedSegment,
    now: Timestamp,
    skip: &BTreeSet<SegmentId>,
    planned: &mut BTreeMap<SegmentId, Option<Unit>>,
) -> Step<()> {
    let rows = query(
        "SELECT o.number, o.on_change, s.segment, r.state, r.retry_at FROM objects o \
         JOIN segments s ON s.object = o.object \
         LEFT JOIN refinements r ON r.pipeline = ? AND r.segment = s.segment \
         WHERE o.stream = ? AND o.partition = ? AND o.key = ? ORDER BY o.number, s.number",
    )
    .bind(pipeline.as_str())
    .bind(segment.stream.as_str())
    .bind(segment.partition.as_str())
    .bind(segment.object_key())
    .fetch_all(db)
    .await?;
    let mut history: BTreeMap<i64, Version> = BTreeMap::new();
    for row in &rows {
        let on_change: OnChange = row.word("on_change")?;
        let id = row.id("segment")?;
        planned.insert(id.clone(), None);
        history
            .entry(row.value("number")?)
            .or_insert_with(|| Version { replaces_former: on_change == OnChange::Replace, segments: Vec::new() })
            .segments
            .push((id, standing(row)?));
    }
    let history: Vec<_> = history.into_values().collect();
    for unit in versions::plan(&history, now, skip) {
        for id in &unit.segments {
            planned.insert(id.clone(), Some(unit.clone()));
        }
    }
    Ok(())
}

pub(super) fn standing(row: &Row) -> Step<Standing> {
    let state: Option<String> = row.value("state")?;
    let retry_at: Option<i64> = row.value("retry_at")?;
    Ok(match state.as_deref() {
        None => Standing::New,
        Some("failed") => Standing::Failed(retry_at.map(Timestamp::from_micros)),
        Some("loading") => Standing::Loading,
        Some("loaded") => Standing::Loaded,
        Some("superseded") => Standing::Superseded,
        Some(other) => return Err(rows::damaged(row, "state", format_args!("{other:?} is not known"))),
    })
}

/// A pipeline's refinement of a segment, as far as failing and loading need it; `None` where the segment is not listed.
pub(super) struct Refinement {
    pub(super) standing: Standing,
    pub(super) stream: String,
    pub(super) next_generation: Generation,
    failed: Option<(i64, i64, Option<String>)>,
}

pub(super) async fn refinement(
    db: &mut Db<'_>,
    pipeline: &PipelineName,
    segment: &SegmentId,
) -> Step<Option<Refinement>> {
    let row = query(
        "SELECT s.segment, s.stream, r.state, r.retry_at, r.loaded_generation, r.generation, r.failed_at, r.revision_id \
         FROM segments s LEFT JOIN refinements r ON r.pipeline = ? AND r.segment = s.segment WHERE s.segment = ?",
    )
    .bind(pipeline.as_str())
    .bind(segment.as_str())
    .fetch_optional(db)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let failed_at: Option<i64> = row.value("failed_at")?;
    Ok(Some(Refinement {
        standing: standing(&row)?,
        stream: row.value("stream")?,
        next_generation: next_generation(&row)?,
        failed: match failed_at {
            None => None,
            Some(at) => Some((at, row.value("generation")?, row.value("revision_id")?)),
        },
    }))
}

pub(super) async fn fail(db: &mut Db<'_>, pipeline: &PipelineName, failure: &SegmentFailure) -> Step<()> {
    let SegmentFailure { segment, generation, revision, class, message, hint, at, retry_at } = failure;
    let Some(known) = refinement(db, pipeline, segment).await? else {
        return Err(LedgerError::invariant(format!("segment {segment} failed, and is not listed")).into());
    };
    if crate::check::is_again(known.standing, *generation, known.next_generation) {
        return super::again::fail(db, pipeline, failure).await;
    }
    crate::check::may_fail(pipeline, segment, known.standing)?;
    let this = (at.as_micros(), i64::from(*generation), Some(revision.to_string()));
    if known.failed.as_ref() == Some(&this) {
        return Ok(());
    }
    query(
        "INSERT INTO refinements (pipeline, segment, state, generation, revision_id, attempts, error_class, \
         error_message, error_hint, failed_at, retry_at) VALUES (?, ?, 'failed', ?, ?, 1, ?, ?, ?, ?, ?) \
         ON CONFLICT (pipeline, segment) DO UPDATE SET generation = excluded.generation, \
         revision_id = excluded.revision_id, attempts = refinements.attempts + 1, error_class = excluded.error_class, error_message = excluded.error_message, \
         error_hint = excluded.error_hint, failed_at = excluded.failed_at, retry_at = excluded.retry_at",
    )
    .bind(pipeline.as_str())
    .bind(segment.as_str())
    .bind(this.1)
    .bind(this.2)
    .bind(rows::word(class)?)
    .bind(message.as_str())
    .bind(hint.as_deref())
    .bind(this.0)
    .bind(retry_at.map(Timestamp::as_micros))
    .execute(&mut *db)
    .await?;
    move_mark(db, pipeline, &known.stream).await
}

pub(super) async fn retry_failed(db: &mut Db<'_>, pipeline: &PipelineName) -> Step<u64> {
    let done = query(
        "UPDATE refinements SET retry_at = failed_at WHERE pipeline = ? AND state = 'failed' \
         AND (retry_at IS NULL OR retry_at > failed_at)",
    )
    .bind(pipeline.as_str())
    .execute(&mut *db)
    .await?;
    Ok(done.rows_affected() + super::again::retry(db, pipeline).await?)
}

/// Moves the mark to before the first segment since the pipeline began that nothing was made of, so that `work` does not pass over the old
/// ones again; and that of its history.
pub(super) async fn move_mark(db: &mut Db<'_>, pipeline: &PipelineName, stream: &str) -> Step<()> {
    query(
        "INSERT INTO _work_marks (pipeline, stream, number) SELECT ?1, ?2, coalesce( \
         (SELECT s.number - 1 FROM segments s WHERE s.stream = ?2 AND s.number > coalesce( \
             (SELECT m.number FROM _work_marks m WHERE m.pipeline = ?1 AND m.stream = ?2), \
             (SELECT h.number FROM histories h WHERE h.pipeline = ?1 AND h.stream = ?2), 0) \
             AND NOT EXISTS (SELECT 1 FROM refinements r WHERE r.pipeline = ?1 AND r.segment = s.segment) \
             ORDER BY s.number LIMIT 1), \
         (SELECT max(s.number) FROM segments s WHERE s.stream = ?2), 0) \
         WHERE true ON CONFLICT (pipeline, stream) DO UPDATE SET number = excluded.number",
    )
    .bind(pipeline.as_str())
    .bind(stream)
    .execute(&mut *db)
    .await?;
    super::history::move_mark(db, pipeline, stream).await
}

/// Segments that are loaded as a revision refined them, the last landed first.
pub(super) async fn refined_by(
    db: &mut Db<'_>,
    pipeline: &PipelineName,
    revision: RevisionId,
    limit: u32,
) -> Step<Vec<LandedSegment>> {
    let rows = query(concat!(
        "SELECT ",
        rows::segment_columns!(),
        " FROM refinements r JOIN segments s ON s.segment = r.segment JOIN objects o ON o.object = s.object \
        WHERE r.pipeline = ?1 AND r.revision_id = ?2 AND r.state = 'loaded' AND o.replaced_by IS NULL \
        ORDER BY s.number DESC LIMIT ?3"
    ))
    .bind(pipeline.as_str())
    .bind(revision.to_string())
    .bind(i64::from(limit))
    .fetch_all(db)
    .await?;
    rows.iter().map(rows::segment).collect()
}

pub(super) async fn tables_of(
    db: &mut Db<'_>,
    pipeline: &PipelineName,
    segments: &[SegmentId],
) -> Step<Vec<TableName>> {
    let rows = query(
        "SELECT DISTINCT l.table_name FROM json_each(?) j JOIN load_segments l ON l.pipeline = ? AND l.segment = j.value \
         ORDER BY l.table_name",
    )
    .bind(serde_json::to_string(segments)?)
    .bind(pipeline.as_str())
    .fetch_all(db)
    .await?;
    rows.iter().map(|row| row.parsed("table_name")).collect()
}
