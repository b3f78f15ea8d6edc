//! Taking a group back that the warehouse refuses for good.

use std::collections::BTreeMap;

use forebay_model::ids::PipelineName;
use forebay_model::load::LoadGroup;
use forebay_model::ports::SegmentFailure;

use super::db::{Db, query};
use super::fault::Step;
use super::rows::{self, Cells as _};
use crate::check::{failure_of, signed};
use crate::error::LedgerError;

pub(super) async fn group(
    db: &mut Db<'_>,
    pipeline: &PipelineName,
    number: u64,
    failures: &[SegmentFailure],
) -> Step<()> {
    let key = signed("number", number)?;
    let row = query(
        "SELECT g.pipeline, g.number, g.body, \
         EXISTS (SELECT 1 FROM loads l WHERE l.pipeline = g.pipeline AND l.number = g.number AND l.state = 'done') AS done, \
         EXISTS (SELECT 1 FROM loads l WHERE l.pipeline = g.pipeline AND l.number = g.number AND l.state = 'withdrawn') \
         AS withdrawn FROM _groups g WHERE g.pipeline = ? AND g.number = ?",
    )
    .bind(pipeline.as_str())
    .bind(key)
    .fetch_optional(&mut *db)
    .await?;
    let Some(row) = row else { return Err(crate::check::no_group(pipeline, number).into()) };
    if row.value("withdrawn")? {
        return Ok(());
    }
    let Some(group) = row.json_any::<LoadGroup>("body")? else {
        return Err(LedgerError::invariant(format!("group {number} of pipeline {pipeline} is done")).into());
    };
    let partly_done: bool = row.value("done")?;
    let failures: BTreeMap<_, _> = failures.iter().map(|failure| (&failure.segment, failure)).collect();
    for segment in &group.segments {
        let failure = failure_of(pipeline, number, &failures, &segment.segment)?;
        if fail(db, pipeline, key, failure, partly_done).await? {
            super::again::still_asked(db, pipeline, segment, failure).await?;
        }
    }
    let replaced: Vec<_> = group.segments.iter().flat_map(|segment| &segment.replaces).collect();
    query(
        "UPDATE refinements SET state = 'loaded' WHERE pipeline = ? AND state = 'superseded' \
         AND loaded_generation IS NOT NULL AND segment IN (SELECT value FROM json_each(?))",
    )
    .bind(pipeline.as_str())
    .bind(serde_json::to_string(&replaced)?)
    .execute(&mut *db)
    .await?;
    for statement in [
        "DELETE FROM load_segments WHERE pipeline = ?1 AND number = ?2 AND table_name IN \
         (SELECT table_name FROM loads WHERE pipeline = ?1 AND number = ?2 AND state = 'open')",
        "UPDATE loads SET state = 'withdrawn', body = NULL WHERE pipeline = ?1 AND number = ?2 AND state = 'open'",
        "UPDATE _groups SET body = NULL WHERE pipeline = ?1 AND number = ?2",
    ] {
        query(statement).bind(pipeline.as_str()).bind(key).execute(&mut *db).await?;
    }
    Ok(())
}

/// What a later group superseded since is no work any more, and stays as it is: false.
async fn fail(
    db: &mut Db<'_>,
    pipeline: &PipelineName,
    number: i64,
    failure: &SegmentFailure,
    partly_done: bool,
) -> Step<bool> {
    let SegmentFailure { segment, generation, revision, class, message, hint, at, retry_at } = failure;
    let failed = query(
        "UPDATE refinements SET state = 'failed', chosen = false, \
         loaded_generation = CASE WHEN ?4 THEN generation ELSE loaded_generation END, \
         load_number = NULL, records = NULL, loaded = NULL, filtered = NULL, rejected = NULL, rescued = NULL, \
         retryable = NULL, \
         attempts = attempts + 1, revision_id = ?5, error_class = ?6, error_message = ?7, error_hint = ?8, \
         failed_at = ?9, retry_at = ?10 \
         WHERE pipeline = ?1 AND segment = ?2 AND state = 'loading' AND (load_number = ?3 OR EXISTS \
         (SELECT 1 FROM heals h WHERE h.pipeline = ?1 AND h.segment = ?2 AND h.load_number = ?3))",
    )
    .bind(pipeline.as_str())
    .bind(segment.as_str())
    .bind(number)
    .bind(partly_done)
    .bind(revision.to_string())
    .bind(rows::word(class)?)
    .bind(message.as_str())
    .bind(hint.as_deref())
    .bind(at.as_micros())
    .bind(retry_at.map(forebay_model::Timestamp::as_micros))
    .execute(&mut *db)
    .await?;
    query("DELETE FROM heals WHERE pipeline = ? AND segment = ? AND load_number = ?")
        .bind(pipeline.as_str())
        .bind(segment.as_str())
        .bind(number)
        .execute(&mut *db)
        .await?;
    query("DELETE FROM reject_counts WHERE pipeline = ? AND segment = ? AND generation = ?")
        .bind(pipeline.as_str())
        .bind(segment.as_str())
        .bind(i64::from(*generation))
        .execute(db)
        .await?;
    Ok(failed.rows_affected() > 0)
}
