//! What failed and is due: it is taken beside what has landed since, the last landed first.

use std::collections::{BTreeMap, BTreeSet};

use forebay_model::Timestamp;
use forebay_model::ids::{PipelineName, SegmentId, StreamName};
use forebay_model::ports::WorkItem;

use super::db::{Db, Row, query};
use super::fault::Step;
use super::refine::{self, PAGE};
use super::rows::{self, Cells as _};
use crate::versions::Unit;

/// Segments that failed and are due.
pub(crate) const CANDIDATES: &str = concat!(
    "SELECT ",
    rows::segment_columns!(),
    ", r.attempts, r.loaded_generation, ",
    refine::has_versions!(),
    " AS versions FROM refinements r JOIN segments s ON s.segment = r.segment JOIN objects o ON o.object = s.object \
    WHERE r.pipeline = ?1 AND r.state = 'failed' AND r.retry_at <= ?3 AND s.stream = ?2 AND s.number < ?4 \
    ORDER BY s.number DESC LIMIT ?5"
);

pub(super) async fn work(
    db: &mut Db<'_>,
    pipeline: &PipelineName,
    stream: &StreamName,
    now: Timestamp,
    skip: &[SegmentId],
    limit: usize,
) -> Step<Vec<WorkItem>> {
    // A side's come with the others that it was asked for.
    if pipeline.as_side().is_some() || super::deployments::paused(db, pipeline).await?.is_some() {
        return Ok(Vec::new());
    }
    let skip: BTreeSet<SegmentId> = skip.iter().cloned().collect();
    let mut items: Vec<WorkItem> = Vec::new();
    // As in `refine`; of segments that came together with another one, nothing.
    let mut planned: BTreeMap<SegmentId, Option<Unit>> = BTreeMap::new();
    let mut before = i64::MAX;
    let page = limit.saturating_add(skip.len()).clamp(1, PAGE);
    loop {
        let rows = query(CANDIDATES)
            .bind(pipeline.as_str())
            .bind(stream.as_str())
            .bind(now.as_micros())
            .bind(before)
            .bind(i64::try_from(page).unwrap_or(i64::MAX))
            .fetch_all(&mut *db)
            .await?;
        for row in &rows {
            before = row.value("number")?;
            let item = failed(row)?;
            let versions: bool = row.value("versions")?;
            let mut together = None;
            if versions {
                if !planned.contains_key(&item.segment.id) {
                    refine::plan_key(db, pipeline, &item.segment, now, &skip, &mut planned).await?;
                }
                let Some(unit) = planned.remove(&item.segment.id).flatten() else { continue };
                together = Some(unit).filter(|unit| !unit.replaces.is_empty());
            } else if skip.contains(&item.segment.id) {
                continue;
            }
            if items.len() >= limit {
                return Ok(items);
            }
            match together {
                None => items.push(item),
                Some(unit) => {
                    items.extend(all_of(db, pipeline, &unit).await?);
                    planned.extend(unit.segments.into_iter().map(|id| (id, None)));
                }
            }
        }
        if rows.len() < page {
            return Ok(items);
        }
    }
}

fn failed(row: &Row) -> Step<WorkItem> {
    Ok(WorkItem { failed: true, ..refine::item(row)? })
}

/// Segments that come together, of which some may never have been tried.
async fn all_of(db: &mut Db<'_>, pipeline: &PipelineName, unit: &Unit) -> Step<Vec<WorkItem>> {
    let rows = query(concat!(
        "SELECT ",
        rows::segment_columns!(),
        ", r.attempts, r.loaded_generation FROM segments s JOIN objects o ON o.object = s.object \
        LEFT JOIN refinements r ON r.pipeline = ?1 AND r.segment = s.segment \
        WHERE s.segment IN (SELECT value FROM json_each(?2)) ORDER BY s.number"
    ))
    .bind(pipeline.as_str())
    .bind(serde_json::to_string(&unit.segments)?)
    .fetch_all(db)
    .await?;
    let mut items = rows.iter().map(failed).collect::<Step<Vec<_>>>()?;
    for item in &mut items {
        item.segment.replaces.clone_from(&unit.replaces);
    }
    Ok(items)
}
