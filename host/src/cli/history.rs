//! What had landed before a pipeline began: how much of it is left, and how much a new pipeline will begin with.

use datafusion::common::ScalarValue;
use forebay_model::PipelineName;

use super::listing::{self, moment, number};
use super::show;
use crate::config::{PipelineConfig, format_bytes};
use crate::query::{Lake, Object};

/// Of each pipeline whose history is not loaded yet: how many segments it has, how many of them are left, and when the oldest of these
/// landed. `work` is that of [`listing::work_query`].
pub(super) async fn left(lake: &Lake, work: &str) -> anyhow::Result<Vec<Object>> {
    let is_left = "w.state IN ('pending', 'loading', 'failed')";
    let sql = format!(
        "{work} SELECT w.pipeline, count(*) AS segments, count(*) FILTER (WHERE {is_left}) AS left_segments,
                       CAST(sum(w.bytes) FILTER (WHERE {is_left}) AS BIGINT) AS left_bytes,
                       min(w.landed_at) FILTER (WHERE {is_left}) AS next_landed, min(h.began_at) AS began_at
         FROM work w JOIN ledger.histories h ON h.pipeline = w.pipeline AND h.stream = w.stream
         WHERE w.number <= h.number GROUP BY w.pipeline"
    );
    let mut rows = listing::objects(lake, &sql, vec![]).await?;
    rows.retain(|row| number(row, "left_segments") > 0);
    Ok(rows)
}

/// `40 of 120 segments left (1.2 GiB), the next landed at 12:00:00`.
pub(super) fn left_in_words(history: &Object) -> String {
    format!(
        "history: {} of {} left ({}), the next landed at {}",
        show::thousands(number(history, "left_segments")),
        show::count(number(history, "segments"), "segment"),
        format_bytes(number(history, "left_bytes")),
        moment(history, "next_landed"),
    )
}

/// What a pipeline will begin with; `None` for one that has begun, and where nothing has landed.
pub(super) async fn ahead(
    lake: &Lake,
    name: &PipelineName,
    pipeline: &PipelineConfig,
) -> anyhow::Result<Option<Object>> {
    let stream = || ("stream", ScalarValue::from(pipeline.from.as_str()));
    let begun = "SELECT h.pipeline FROM ledger.histories h WHERE h.pipeline = $pipeline AND h.stream = $stream
                 UNION ALL SELECT r.pipeline FROM ledger.refinements r JOIN ledger.segments s ON s.segment = r.segment
                 WHERE r.pipeline = $pipeline AND s.stream = $stream LIMIT 1";
    let values = vec![("pipeline", ScalarValue::from(name.as_str())), stream()];
    if !listing::objects(lake, begun, values).await?.is_empty() {
        return Ok(None);
    }
    let landed = "SELECT count(*) AS segments, CAST(sum(bytes) AS BIGINT) AS bytes, min(landed_at) AS first_landed
                  FROM ledger.segments WHERE stream = $stream";
    let found = listing::objects(lake, landed, vec![stream()]).await?.into_iter().next();
    Ok(found.filter(|row| number(row, "segments") > 0))
}

/// `begins with 120 segments of history (1.2 GiB), the oldest of 2026-01-02 10:00:00, beside what lands from then on`.
pub(super) fn ahead_in_words(history: &Object) -> String {
    format!(
        "begins with {} of history ({}), the oldest landed at {}, beside what lands from then on",
        show::count(number(history, "segments"), "segment"),
        format_bytes(number(history, "bytes")),
        moment(history, "first_landed"),
    )
}
