//! Loaded segments that are to be refined once more: asked for, given as work, failed.

use std::collections::BTreeMap;

use forebay_model::Timestamp;
use forebay_model::ids::{PipelineName, SegmentId, StreamName};
use forebay_model::load::{Again, LoadGroup, RefinedSegment, Terms};
use forebay_model::ports::{HealRequest, ReplayRequest, SegmentFailure, WorkItem};
use forebay_model::revision::RevisionId;

use super::db::{Db, Row, query};
use super::fault::Step;
use super::refine::item;
use super::rows::{self, Cells as _};
use crate::check::signed;

/// Of segments that fit, how many are not asked for; then all of them are. A person asks `anew`: what failed is tried at once, and what is
/// under way is done once more.
async fn ask(
    db: &mut Db<'_>,
    pipeline: &PipelineName,
    (what, segments, anew): (Again, &[String], bool),
    (terms, reason): (&Terms, &str),
    at: Timestamp,
) -> Step<u64> {
    let segments = serde_json::to_string(segments)?;
    let known = query(
        "SELECT count(*) AS known FROM again WHERE pipeline = ?1 AND segment IN (SELECT value FROM json_each(?2)) \
         AND (what = 'replay' OR what = ?3)",
    )
    .bind(pipeline.as_str())
    .bind(segments.as_str())
    .bind(rows::word(&what)?)
    .fetch_one(&mut *db)
    .await?;
    let known = known.count("known")?;
    let asked = query(
        "INSERT INTO again (pipeline, segment, what, reason, asked_at, attempts, revision_id, workers) \
         SELECT ?1, value, ?3, ?4, ?5, 0, ?7, ?8 FROM json_each(?2) j \
         WHERE ?6 OR NOT EXISTS (SELECT 1 FROM again a WHERE a.pipeline = ?1 AND a.segment = j.value) \
         ON CONFLICT (pipeline, segment) DO UPDATE SET reason = CASE WHEN again.what = excluded.what \
         OR excluded.what = 'replay' THEN excluded.reason ELSE again.reason END, \
         revision_id = CASE WHEN excluded.what = 'replay' THEN excluded.revision_id ELSE again.revision_id END, \
         workers = CASE WHEN excluded.what = 'replay' THEN excluded.workers ELSE again.workers END, \
         what = CASE WHEN again.what = 'replay' THEN again.what ELSE excluded.what END, asked_at = excluded.asked_at, \
         error_class = NULL, error_message = NULL, error_hint = NULL, failed_at = NULL, retry_at = NULL",
    )
    .bind(pipeline.as_str())
    .bind(segments.as_str())
    .bind(rows::word(&what)?)
    .bind(reason)
    .bind(at.as_micros())
    .bind(anew)
    .bind(terms.revision.map(|revision| revision.to_string()))
    .bind(terms.workers.map(|workers| i64::from(workers.get())))
    .execute(db)
    .await?;
    Ok(asked.rows_affected().saturating_sub(if anew { known } else { 0 }))
}

fn chosen(rows: &[Row]) -> Step<Vec<String>> {
    rows.iter().map(|row| row.value("segment")).collect()
}

pub(super) async fn ask_heal(
    db: &mut Db<'_>,
    pipeline: &PipelineName,
    wanted: &HealRequest,
    at: Timestamp,
) -> Step<u64> {
    let HealRequest { unless_tried_by, codes, since, reason } = wanted;
    let rows = query(
        "SELECT r.segment FROM refinements r JOIN segments s ON s.segment = r.segment \
         WHERE r.pipeline = ?1 AND r.state = 'loaded' AND coalesce(r.retryable, r.rejected, 1) > 0 \
         AND (?2 IS NULL OR NOT r.chosen) AND (?2 IS NULL OR ?2 <> coalesce((SELECT h.revision_id FROM heals h WHERE h.pipeline = r.pipeline \
             AND h.segment = r.segment ORDER BY h.generation DESC LIMIT 1), r.revision_id, '')) \
         AND (?3 = '[]' OR EXISTS (SELECT 1 FROM reject_counts c WHERE c.pipeline = r.pipeline AND c.segment = r.segment \
             AND c.generation = r.generation AND c.code IN (SELECT value FROM json_each(?3)))) \
         AND (?4 IS NULL OR s.landed_at >= ?4)",
    )
    .bind(pipeline.as_str())
    .bind(unless_tried_by.map(|revision| revision.to_string()))
    .bind(serde_json::to_string(codes)?)
    .bind(since.map(Timestamp::as_micros))
    .fetch_all(&mut *db)
    .await?;
    let segments = chosen(&rows)?;
    let terms = Terms::default();
    ask(db, pipeline, (Again::Heal, &segments, unless_tried_by.is_none()), (&terms, reason), at).await
}

pub(super) async fn ask_replay(
    db: &mut Db<'_>,
    pipeline: &PipelineName,
    wanted: &ReplayRequest,
    at: Timestamp,
) -> Step<u64> {
    let ReplayRequest { segments, terms, reason } = wanted;
    if let Some(revision) = terms.revision {
        recorded(db, pipeline, revision).await?;
    }
    let rows = query(
        "SELECT r.segment FROM refinements r WHERE r.pipeline = ?1 AND r.state IN ('loaded', 'loading') \
         AND r.segment IN (SELECT value FROM json_each(?2))",
    )
    .bind(pipeline.as_str())
    .bind(serde_json::to_string(segments)?)
    .fetch_all(&mut *db)
    .await?;
    let segments = chosen(&rows)?;
    ask(db, pipeline, (Again::Replay, &segments, true), (terms, reason), at).await
}

async fn recorded(db: &mut Db<'_>, pipeline: &PipelineName, revision: RevisionId) -> Step<()> {
    let known = query("SELECT 1 FROM revisions WHERE pipeline = ? AND revision_id = ?")
        .bind(pipeline.as_str())
        .bind(revision.to_string())
        .fetch_optional(db)
        .await?;
    if known.is_none() { Err(crate::check::not_recorded(pipeline, revision).into()) } else { Ok(()) }
}

fn terms(row: &Row) -> Step<Terms> {
    let workers = row.small_any("workers")?.and_then(std::num::NonZeroU32::new);
    Ok(Terms { revision: row.parsed_any("revision_id")?, workers })
}

pub(super) async fn forget(db: &mut Db<'_>, pipeline: &PipelineName, what: Again) -> Step<u64> {
    let done = query("DELETE FROM again WHERE pipeline = ? AND what = ?")
        .bind(pipeline.as_str())
        .bind(rows::word(&what)?)
        .execute(db)
        .await?;
    Ok(done.rows_affected())
}

pub(super) async fn work(
    db: &mut Db<'_>,
    pipeline: &PipelineName,
    stream: &StreamName,
    now: Timestamp,
    skip: &[SegmentId],
    limit: u32,
) -> Step<Vec<WorkItem>> {
    if super::deployments::paused(db, pipeline).await?.is_some() {
        return Ok(Vec::new());
    }
    let rows = query(concat!(
        "SELECT ",
        rows::segment_columns!(),
        ", a.attempts, r.loaded_generation, a.what, a.revision_id, a.workers, r.retryable FROM again a \
        JOIN refinements r ON r.pipeline = a.pipeline AND r.segment = a.segment AND r.state = 'loaded' \
        JOIN segments s ON s.segment = a.segment JOIN objects o ON o.object = s.object \
        WHERE a.pipeline = ?1 AND s.stream = ?2 AND (a.failed_at IS NULL OR a.retry_at <= ?3) \
        AND a.segment NOT IN (SELECT value FROM json_each(?4)) AND o.replaced_by IS NULL \
        ORDER BY s.number DESC LIMIT ?5"
    ))
    .bind(pipeline.as_str())
    .bind(stream.as_str())
    .bind(now.as_micros())
    .bind(serde_json::to_string(skip)?)
    .bind(i64::from(limit))
    .fetch_all(db)
    .await?;
    let again = |row: &Row| {
        let retryable = row.count_any("retryable")?;
        Ok(WorkItem { again: Some(row.word("what")?), terms: terms(row)?, retryable, ..item(row)? })
    };
    rows.iter().map(again).collect()
}

/// The segment stays loaded; what was asked of it waits. Where it is asked no more, there is nothing to wait.
pub(super) async fn fail(db: &mut Db<'_>, pipeline: &PipelineName, failure: &SegmentFailure) -> Step<()> {
    let SegmentFailure { segment, generation: _, revision: _, class, message, hint, at, retry_at } = failure;
    query(
        "UPDATE again SET attempts = attempts + 1, error_class = ?3, error_message = ?4, error_hint = ?5, failed_at = ?6, \
         retry_at = ?7 WHERE pipeline = ?1 AND segment = ?2 AND failed_at IS DISTINCT FROM ?6",
    )
    .bind(pipeline.as_str())
    .bind(segment.as_str())
    .bind(rows::word(class)?)
    .bind(message.as_str())
    .bind(hint.as_deref())
    .bind(at.as_micros())
    .bind(retry_at.map(Timestamp::as_micros))
    .execute(db)
    .await?;
    Ok(())
}

pub(super) async fn retry(db: &mut Db<'_>, pipeline: &PipelineName) -> Step<u64> {
    let done = query(
        "UPDATE again SET retry_at = failed_at WHERE pipeline = ? AND (retry_at IS NULL OR retry_at > failed_at) \
         AND failed_at IS NOT NULL",
    )
    .bind(pipeline.as_str())
    .execute(db)
    .await?;
    Ok(done.rows_affected())
}

/// A group does what was asked of its segments before it was begun; what was asked since, is another thing, or is to be done under another
/// revision, is still to be done.
pub(super) async fn answered(db: &mut Db<'_>, group: &LoadGroup) -> Step<()> {
    let mut done: BTreeMap<(Option<Again>, Option<RevisionId>), Vec<&SegmentId>> = BTreeMap::new();
    for segment in &group.segments {
        done.entry((segment.again, segment.terms.revision)).or_default().push(&segment.segment);
    }
    for ((again, under), segments) in done {
        let segments = serde_json::to_string(&segments)?;
        let statement = match again {
            Some(Again::Heal) => query(
                "DELETE FROM again WHERE pipeline = ?1 AND segment IN (SELECT value FROM json_each(?2)) AND asked_at <= ?3 \
                 AND what = 'heal'",
            ),
            Some(Again::Replay) => query(
                "DELETE FROM again WHERE pipeline = ?1 AND segment IN (SELECT value FROM json_each(?2)) AND asked_at <= ?3 \
                 AND (what = 'heal' OR revision_id IS NOT DISTINCT FROM ?4)",
            ),
            None => query(
                "DELETE FROM again WHERE pipeline = ?1 AND segment IN (SELECT value FROM json_each(?2)) AND asked_at <= ?3 \
                 AND (what = 'heal' OR revision_id IS NULL OR revision_id = ?4)",
            ),
        };
        let statement = statement.bind(group.pipeline.as_str()).bind(segments).bind(group.begun_at.as_micros());
        let statement = match again {
            Some(Again::Heal) => statement,
            Some(Again::Replay) => statement.bind(under.map(|revision| revision.to_string())),
            None => statement.bind(group.revision.to_string()),
        };
        statement.execute(&mut *db).await?;
    }
    Ok(())
}

/// A replay under a revision that was asked for is still to be done, when its group is withdrawn: meanwhile the segment is refined under
/// the active one, for its rows are in some tables and not in others.
pub(super) async fn still_asked(
    db: &mut Db<'_>,
    pipeline: &PipelineName,
    segment: &RefinedSegment,
    failure: &SegmentFailure,
) -> Step<()> {
    let RefinedSegment { segment, again, terms, .. } = segment;
    if *again != Some(Again::Replay) || terms.revision.is_none() {
        return Ok(());
    }
    query(
        "INSERT INTO again (pipeline, segment, what, reason, asked_at, attempts, error_class, error_message, error_hint, \
         failed_at, retry_at, revision_id, workers) VALUES (?, ?, 'replay', ?, ?, 1, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
    )
    .bind(pipeline.as_str())
    .bind(segment.as_str())
    .bind(crate::check::STILL_ASKED)
    .bind(failure.at.as_micros())
    .bind(rows::word(&failure.class)?)
    .bind(failure.message.as_str())
    .bind(failure.hint.as_deref())
    .bind(failure.at.as_micros())
    .bind(failure.retry_at.map(Timestamp::as_micros))
    .bind(terms.revision.map(|revision| revision.to_string()))
    .bind(terms.workers.map(|workers| i64::from(workers.get())))
    .execute(db)
    .await?;
    Ok(())
}

/// Segments that are superseded are refined no more.
pub(super) async fn superseded(
    db: &mut Db<'_>,
    pipeline: &PipelineName,
    segments: &std::collections::BTreeSet<&SegmentId>,
) -> Step<()> {
    query("DELETE FROM again WHERE pipeline = ? AND segment IN (SELECT value FROM json_each(?))")
        .bind(pipeline.as_str())
        .bind(serde_json::to_string(segments)?)
        .execute(db)
        .await?;
    Ok(())
}

/// What became of the records that were tried again is added to what became of the others.
pub(super) async fn write_healed(db: &mut Db<'_>, group: &LoadGroup, segment: &RefinedSegment) -> Step<()> {
    let RefinedSegment { segment, generation, again: _, terms: _, counts, rejects: _, retryable, replaces: _ } =
        segment;
    let counts = [counts.records, counts.loaded, counts.filtered, counts.rejected, counts.rescued];
    let mut signed_counts = [0; 5];
    for (to, count) in signed_counts.iter_mut().zip(counts) {
        *to = signed("count", count)?;
    }
    let [records, loaded, filtered, rejected, rescued] = signed_counts;
    query(
        "UPDATE refinements SET state = 'loading', generation = ?3, loaded = loaded + ?5, filtered = filtered + ?6, \
         rejected = CASE WHEN rejected - ?4 + ?7 < 0 THEN 0 ELSE rejected - ?4 + ?7 END, rescued = rescued + ?8, \
         retryable = ?9, chosen = false WHERE pipeline = ?1 AND segment = ?2",
    )
    .bind(group.pipeline.as_str())
    .bind(segment.as_str())
    .bind(i64::from(*generation))
    .bind(records)
    .bind(loaded)
    .bind(filtered)
    .bind(rejected)
    .bind(rescued)
    .bind(signed("count", *retryable)?)
    .execute(&mut *db)
    .await?;
    query(
        "INSERT INTO heals (pipeline, segment, generation, load_number, revision_id, records, loaded, filtered, rejected, \
         rescued) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(group.pipeline.as_str())
    .bind(segment.as_str())
    .bind(i64::from(*generation))
    .bind(signed("number", group.number)?)
    .bind(group.revision.to_string())
    .bind(records)
    .bind(loaded)
    .bind(filtered)
    .bind(rejected)
    .bind(rescued)
    .execute(db)
    .await?;
    Ok(())
}

/// All of a segment is refined anew: what was healed of it before is no more.
pub(super) async fn forget_heals(db: &mut Db<'_>, pipeline: &PipelineName, segment: &SegmentId) -> Step<()> {
    query("DELETE FROM heals WHERE pipeline = ? AND segment = ?")
        .bind(pipeline.as_str())
        .bind(segment.as_str())
        .execute(db)
        .await?;
    Ok(())
}
