//! What `replay`, `repair` and `rejects retry` have in common: loaded segments are to be refined again, and whoever runs the pipeline
//! does it beside production, the newest first.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use datafusion::common::ScalarValue;
use forebay_model::load::Terms;
use forebay_model::ports::{Ledger, ReplayRequest};
use forebay_model::{PipelineName, SegmentId, Timestamp};
use forebay_pipeline::workers::process_steps_behind;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::clock::{self, Span};
use super::listing::{self, number, text, time_value};
use super::replaced::{self, Before};
use super::{Exit, Global, show};
use crate::query::{Lake, Object};
use crate::who::who;

/// How often the ledger is looked at while a verb waits.
const LOOK: Duration = Duration::from_millis(250);
/// How often a line tells how far it is, where there is no terminal.
const LINES: Duration = Duration::from_secs(10);

/// Segments of a pipeline that are loaded, and what they hold.
#[derive(Debug, Clone)]
pub(super) struct Chosen {
    pub(super) pipeline: PipelineName,
    /// Who refines them, where their rows go to tables beside those of the pipeline.
    pub(super) side: Option<PipelineName>,
    /// In the order of landing.
    pub(super) segments: Vec<SegmentId>,
    pub(super) bytes: u64,
    pub(super) counts: Counts,
    /// Of a choice by the records' time: segments with records whose time is not known.
    pub(super) time_unknown: u64,
    /// The number of the revision that they are to be refined under, where a person said one.
    pub(super) under: Option<u32>,
    /// At most so many workers at once.
    pub(super) workers: Option<NonZeroU32>,
}

/// Where the records of segments went.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) records: u64,
    pub(super) loaded: u64,
    pub(super) filtered: u64,
    pub(super) rejected: u64,
}

/// What the columns of a choice are, with which `$pipeline`, `$since` and `$until` are to be filled.
const COLUMNS: &str = "s.segment, s.bytes, r.state, r.records, r.loaded, r.filtered, r.rejected";

impl Chosen {
    /// The loaded segments of a pipeline that landed in a span of time, of which `condition` (on `s`, a segment, and `r`, its
    /// refinement) holds.
    pub(super) async fn of(
        lake: &Lake,
        pipeline: &PipelineName,
        span: Span,
        condition: &str,
        more: Vec<(&str, ScalarValue)>,
    ) -> anyhow::Result<Self> {
        Ok(Self::of_rows(pipeline, &Self::rows(lake, pipeline, span, condition, more).await?))
    }

    /// The same of which a record may have happened in the span.
    pub(super) async fn by_record(
        lake: &Lake,
        pipeline: &PipelineName,
        span: Span,
        time_column: Option<&str>,
    ) -> anyhow::Result<Self> {
        let mut rows = Self::rows(lake, pipeline, (None, None), "true", Vec::new()).await?;
        let unknown = clock::within(lake, pipeline, &mut rows, span, time_column).await?;
        Ok(Self { time_unknown: unknown, ..Self::of_rows(pipeline, &rows) })
    }

    async fn rows(
        lake: &Lake,
        pipeline: &PipelineName,
        (since, until): Span,
        condition: &str,
        more: Vec<(&str, ScalarValue)>,
    ) -> anyhow::Result<Vec<Object>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM ledger.refinements r JOIN ledger.segments s ON s.segment = r.segment
             WHERE r.pipeline = $pipeline AND r.state IN ('loaded', 'loading') AND (s.landed_at >= $since OR $since IS NULL)
               AND (s.landed_at < $until OR $until IS NULL) AND ({condition}) ORDER BY s.number"
        );
        let time = |time: Option<Timestamp>| {
            time.map_or(ScalarValue::TimestampMicrosecond(None, Some("UTC".into())), time_value)
        };
        let mut values =
            vec![("pipeline", ScalarValue::from(pipeline.as_str())), ("since", time(since)), ("until", time(until))];
        values.extend(more);
        listing::objects(lake, &sql, values).await
    }

    fn of_rows(pipeline: &PipelineName, rows: &[Object]) -> Self {
        Self {
            pipeline: pipeline.clone(),
            side: None,
            segments: rows.iter().map(|row| SegmentId::from_text(text(row, "segment"))).collect(),
            bytes: rows.iter().map(|row| number(row, "bytes")).sum(),
            counts: Counts::of(rows),
            time_unknown: 0,
            under: None,
            workers: None,
        }
    }

    /// The same whose rows go to tables beside.
    pub(super) fn into_side(self, side: &PipelineName) -> Self {
        Self { side: Some(side.clone()), ..self }
    }

    /// The pipeline that refines them.
    fn by(&self) -> &PipelineName {
        self.side.as_ref().unwrap_or(&self.pipeline)
    }

    /// What asks for them: `forebay replay by alice@laptop`.
    pub(super) fn request(&self, verb: &str, terms: Terms) -> ReplayRequest {
        ReplayRequest { segments: self.segments.clone(), terms, reason: format!("{verb} by {}", who()) }
    }

    /// `3 segments (1.2 GiB, 20,000 records)`.
    pub(super) fn words(&self) -> String {
        format!(
            "{} ({}, {})",
            show::count(self.segments.len() as u64, "segment"),
            crate::config::format_bytes(self.bytes),
            show::count(self.counts.records, "record")
        )
    }

    /// What follows: ` under revision 2, by at most 1 worker`.
    pub(super) fn how(&self) -> String {
        how(self.under.map(u64::from), self.workers.map(|workers| workers.get().into()))
    }

    pub(super) fn json(&self) -> Value {
        let Self { pipeline, side, segments, bytes, counts, time_unknown, under, workers } = self;
        let mut value =
            json!({ "pipeline": pipeline, "segments": segments.len(), "bytes": bytes, "counts": counts.json() });
        if let Some(value) = value.as_object_mut() {
            value.extend((*time_unknown > 0).then(|| ("time_unknown".to_owned(), json!(time_unknown))));
            let suffix = side.as_ref().and_then(PipelineName::as_side).map(|(_, suffix)| suffix);
            value.extend(suffix.map(|suffix| ("into".to_owned(), json!(suffix))));
            value.extend(under.map(|number| ("revision".to_owned(), json!(number))));
            value.extend(workers.map(|workers| ("workers".to_owned(), json!(workers))));
        }
        value
    }

    /// The counts that the same segments have now.
    async fn counts_now(&self, lake: &Lake) -> anyhow::Result<Counts> {
        let ids: BTreeSet<&str> = self.segments.iter().map(SegmentId::as_str).collect();
        let sql =
            "SELECT segment, records, loaded, filtered, rejected FROM ledger.refinements WHERE pipeline = $pipeline";
        let rows = listing::objects(lake, sql, vec![("pipeline", ScalarValue::from(self.by().as_str()))]).await?;
        let own: Vec<_> = rows.into_iter().filter(|row| ids.contains(text(row, "segment"))).collect();
        Ok(Counts::of(&own))
    }
}

/// How something is refined again, behind what it is.
pub(super) fn how(under: Option<u64>, workers: Option<u64>) -> String {
    let under = under.map(|number| format!(" under revision {number}")).unwrap_or_default();
    let workers = workers.map(|most| format!(", by at most {}", show::count(most, "worker"))).unwrap_or_default();
    under + &workers
}

impl Counts {
    fn of(rows: &[Object]) -> Self {
        let sum = |name: &str| rows.iter().map(|row| number(row, name)).sum();
        Self { records: sum("records"), loaded: sum("loaded"), filtered: sum("filtered"), rejected: sum("rejected") }
    }

    pub(super) fn json(&self) -> Value {
        let Self { records, loaded, filtered, rejected } = self;
        json!({ "records": records, "loaded": loaded, "filtered": filtered, "rejected": rejected })
    }
}

/// How far it is.
pub(super) struct Left {
    /// Segments that are waiting or in work.
    pub(super) left: u64,
    /// Segments that failed, and wait for a new revision or a person.
    pub(super) failed: u64,
}

/// Of these segments, those that are to be refined again or just are.
pub(super) async fn left(lake: &Lake, chosen: &Chosen) -> anyhow::Result<Left> {
    let ids: BTreeSet<&str> = chosen.segments.iter().map(SegmentId::as_str).collect();
    let sql = "SELECT segment, failed_at IS NOT NULL AND retry_at IS NULL AS failed FROM ledger.again WHERE pipeline = $pipeline
               UNION ALL SELECT segment, state = 'failed' FROM ledger.refinements
               WHERE pipeline = $pipeline AND state IN ('loading', 'failed')";
    let of_side = "SELECT c.segment, coalesce(r.state = 'failed' AND r.retry_at IS NULL, false) AS failed
                   FROM ledger.side_segments c
                   LEFT JOIN ledger.refinements r ON r.pipeline = c.pipeline AND r.segment = c.segment
                   WHERE c.pipeline = $pipeline AND coalesce(r.state, 'pending') IN ('pending', 'loading', 'failed')";
    let sql = if chosen.side.is_some() { of_side } else { sql };
    let rows = listing::objects(lake, sql, vec![("pipeline", ScalarValue::from(chosen.by().as_str()))]).await?;
    let own: Vec<_> = rows.iter().filter(|row| ids.contains(text(row, "segment"))).collect();
    let failed = own.iter().filter(|row| row.get("failed").and_then(Value::as_bool) == Some(true)).count() as u64;
    Ok(Left { left: own.len() as u64 - failed, failed })
}

/// Waits, with progress, until a host has refined all of them again; then tells where their records went before and now, and how the rows of
/// each table differ. Where no host runs, says who does it. Whoever waits may stop: what is asked for stays.
pub(super) async fn follow(
    global: &Global,
    lake: &Lake,
    ledger: &dyn Ledger,
    (chosen, before): (&Chosen, Option<Before>),
    detach: bool,
) -> anyhow::Result<Exit> {
    if detach || ledger.host().await?.is_none() {
        let who = if detach { "the host" } else { "no host runs: the next one" };
        return tell(global, &json!({ "asked": chosen.json() }), || {
            let again = if chosen.side.is_some() { "" } else { " again" };
            format!("{who} refines them{again}, beside production; `forebay status` tells how far it is")
        });
    }
    // From here on it only looks on and compares: on the host's machine that is not to cost production anything.
    process_steps_behind();
    let Some(Left { left: _, failed }) = wait(global, lake, ledger, chosen).await? else {
        return tell(global, &json!({ "asked": chosen.json(), "stopped": true }), || {
            let dropped = if chosen.side.is_some() { ", or its tables are being dropped" } else { "" };
            format!("the host has stopped, or the pipeline is paused{dropped}: the rest is done when it goes on")
        });
    };
    let after = chosen.counts_now(lake).await?;
    let differ = match before {
        Some(before) => match before.compare(lake, &chosen.segments).await {
            Ok(differ) => Some(differ),
            // What was to be done is done.
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "the rows of before and now could not be compared");
                None
            }
        },
        None => None,
    };
    let tables = differ.as_ref().map(replaced::in_json);
    let value = json!({ "asked": chosen.json(), "failed": failed, "counts": after.json(), "tables": tables });
    tell(global, &value, || {
        let mut lines = vec![done_in_words(chosen, after, failed)];
        lines.extend(differ.iter().flat_map(replaced::words));
        lines.join("\n")
    })?;
    Ok(if failed == 0 { Exit::Ok } else { Exit::Failed })
}

/// Until nothing is left; `None` where nobody goes on with it.
async fn wait(global: &Global, lake: &Lake, ledger: &dyn Ledger, chosen: &Chosen) -> anyhow::Result<Option<Left>> {
    let total = chosen.segments.len() as u64;
    let bar = bar(global, total);
    let mut lines = Lines { begun: Instant::now(), told: Instant::now(), first: None };
    let ended = loop {
        let now = left(lake, chosen).await?;
        let done = total.saturating_sub(now.left);
        bar.set_position(done);
        if now.left == 0 {
            break Some(now);
        }
        if let Some(line) = lines.next(done, total).filter(|_| !global.progress() && !global.quiet()) {
            eprintln!("{line}");
        }
        if let Some(side) = &chosen.side
            && !ledger.sides().await?.iter().any(|known| known.name == *side && !known.dropped)
        {
            break None;
        }
        // What failed for a while is tried again by itself; a host that is gone, and a pipeline that is paused, do nothing.
        if ledger.host().await?.is_none() || ledger.paused(chosen.by()).await?.is_some() {
            break None;
        }
        tokio::time::sleep(LOOK).await;
    };
    bar.finish_and_clear();
    Ok(ended)
}

/// Progress where there is no terminal: a line now and then.
struct Lines {
    begun: Instant,
    told: Instant,
    /// What was done when it began: others may have asked for the same before.
    first: Option<u64>,
}

impl Lines {
    /// `120 of 400 segments, 3.1 a second, 1 min 30 s left`, where it is time for it.
    fn next(&mut self, done: u64, total: u64) -> Option<String> {
        let first = *self.first.get_or_insert(done);
        if self.told.elapsed() < LINES {
            return None;
        }
        self.told = Instant::now();
        Some(line(done, total, done.saturating_sub(first), self.begun.elapsed()))
    }
}

fn line(done: u64, total: u64, since: u64, took: Duration) -> String {
    let mut line = format!("{} of {}", show::thousands(done), show::count(total, "segment"));
    if since > 0 && !took.is_zero() {
        let rate = since as f64 / took.as_secs_f64();
        let left = Duration::from_secs_f64((total.saturating_sub(done) as f64 / rate).min(1e9));
        line.push_str(&format!(", {rate:.1} a second, about {} left", indicatif::HumanDuration(left)));
    }
    line
}

fn done_in_words(chosen: &Chosen, after: Counts, failed: u64) -> String {
    let before = chosen.counts;
    let of = |name: &str, was: u64, is: u64| format!("{name} {} ▶ {}", show::thousands(was), show::thousands(is));
    let again = if chosen.side.is_some() { "refined" } else { "refined again" };
    let mut text = format!(
        "{again}: {} · {} · {} · {}",
        show::count(chosen.segments.len() as u64 - failed, "segment"),
        of("loaded", before.loaded, after.loaded),
        of("filtered", before.filtered, after.filtered),
        of("rejected", before.rejected, after.rejected),
    );
    if failed > 0 {
        let keep = if chosen.side.is_some() { "" } else { " and keep their rows" };
        text.push_str(&format!(" · {} failed{keep}: see `forebay status`", show::count(failed, "segment")));
    }
    text
}

/// A bar for so many segments, where a person looks on.
pub(super) fn bar(global: &Global, total: u64) -> ProgressBar {
    if !global.progress() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} segments, {per_sec}, {eta} left")
        .unwrap_or(ProgressStyle::default_bar());
    ProgressBar::new(total).with_style(style)
}

/// One answer, in JSON or in words.
pub(super) fn tell(global: &Global, value: &Value, words: impl FnOnce() -> String) -> anyhow::Result<Exit> {
    if global.json() {
        show::object(value)?;
    } else {
        show::line(&words())?;
    }
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_the_rate_and_what_is_left() {
        assert_eq!(line(0, 1200, 0, Duration::from_secs(10)), "0 of 1,200 segments");
        let told = line(150, 450, 50, Duration::from_secs(10));
        assert_eq!(told, "150 of 450 segments, 5.0 a second, about 60 seconds left");
    }
}
