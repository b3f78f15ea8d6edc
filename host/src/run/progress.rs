//! What a person sees of a run: a bar while it works, log lines for what happens, a summary at its end.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use forebay_model::{PipelineName, StreamName};
use forebay_pipeline::intake;
use forebay_pipeline::metrics::{PipelineMetrics, RuleMetrics, Stage, StreamMetrics};
use forebay_pipeline::refine;
use forebay_pipeline::refine::protocol::{Event, Report};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde::Serialize;

use super::Host;
use crate::cli::Global;
use crate::config::{Config, format_bytes};

/// How often the bars move.
const TICK: Duration = Duration::from_millis(100);

/// The bars of a run, where there are any.
pub(super) struct Progress {
    bars: Option<MultiProgress>,
    ticking: Mutex<Option<tokio::task::JoinHandle<()>>>,
    started: Instant,
}

impl Progress {
    pub(super) fn start(global: &Global, once: bool) -> Self {
        // A run that follows its sources has no end to move to: its log lines tell.
        let bars = (once && global.progress()).then(MultiProgress::new);
        Self { bars, ticking: Mutex::new(None), started: Instant::now() }
    }

    /// Moves a bar for each pipeline.
    pub(super) fn watch(
        &self,
        streams: &BTreeMap<StreamName, Arc<StreamMetrics>>,
        pipelines: &BTreeMap<PipelineName, Arc<PipelineMetrics>>,
    ) {
        let Some(bars) = &self.bars else { return };
        let template = "{prefix:<12} {bar:24} {pos}/{len} segments  {msg}  {eta} left";
        let style =
            ProgressStyle::with_template(template).unwrap_or(ProgressStyle::default_bar()).progress_chars("█▌ ");
        let rows: Vec<_> = pipelines
            .iter()
            .map(|(name, metrics)| {
                let bar = bars.add(ProgressBar::new(0).with_style(style.clone()).with_prefix(name.to_string()));
                (bar, Arc::clone(metrics))
            })
            .collect();
        let landed: Vec<_> = streams.values().cloned().collect();
        let started = self.started;
        let task = tokio::spawn(async move {
            loop {
                for (bar, metrics) in &rows {
                    show(bar, metrics, &landed, started);
                }
                tokio::time::sleep(TICK).await;
            }
        });
        *self.ticking.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
    }

    /// Takes the bars away; the seconds since the start.
    pub(super) fn finish(&self) -> f64 {
        if let Some(task) = self.ticking.lock().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
        if let Some(bars) = &self.bars {
            // A terminal that is gone needs no clearing.
            drop(bars.clear());
        }
        self.started.elapsed().as_secs_f64()
    }
}

fn show(bar: &ProgressBar, metrics: &PipelineMetrics, landed: &[Arc<StreamMetrics>], started: Instant) {
    let done = metrics.segments_loaded.get() + metrics.segments_failed.get();
    let landing: u64 = landed.iter().map(|stream| stream.segments.get()).sum();
    bar.set_length((done + metrics.segments_waiting.get()).max(landing));
    bar.set_position(done);
    let seconds = started.elapsed().as_secs_f64().max(0.001);
    bar.set_message(format!(
        "{} records  {}/s",
        thousands(metrics.records_in_work.get()),
        format_bytes(rate(metrics.bytes.get(), seconds))
    ));
}

#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "for people")]
fn rate(bytes: u64, seconds: f64) -> u64 {
    if seconds <= 0.0 { 0 } else { (bytes as f64 / seconds) as u64 }
}

/// `20000` as `20,000`.
pub(super) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Tells what streams and pipelines report: as log lines above the bars; and pipelines of what has landed.
pub(super) struct Tell {
    bars: Option<MultiProgress>,
    host: Option<Arc<Host>>,
}

impl Tell {
    pub(super) fn new(progress: &Progress) -> Self {
        Self { bars: progress.bars.clone(), host: None }
    }

    pub(super) fn of_stream(progress: &Progress, host: Arc<Host>) -> Self {
        Self { bars: progress.bars.clone(), host: Some(host) }
    }

    fn line(&self, log: impl FnOnce()) {
        match &self.bars {
            Some(bars) => bars.suspend(log),
            None => log(),
        }
    }
}

impl intake::driver::Listener for Tell {
    fn report(&self, stream: &StreamName, report: &intake::state::Report) {
        match report {
            intake::state::Report::Listed(segments) => {
                let bytes: u64 = segments.iter().map(|segment| segment.bytes).sum();
                self.line(|| tracing::debug!(%stream, segments = segments.len(), bytes, "landed"));
                for pipeline in self.host.iter().flat_map(|host| host.parts.readers(stream)) {
                    pipeline.send(Event::Landed);
                }
            }
            intake::state::Report::CaughtUp => {}
            intake::state::Report::Failed { what, error, hint } => {
                self.line(|| tracing::error!(%stream, error, hint, "{what} failed; the rest goes on"));
            }
        }
    }
}

impl refine::driver::Listener for Tell {
    fn report(&self, pipeline: &PipelineName, report: &Report) {
        match report {
            Report::Serving { revision, number, schema_version } => self.line(|| {
                tracing::info!(
                    %pipeline, revision = number, revision_id = revision.short(), schema_version, "revision takes the next segments"
                );
            }),
            Report::NotBound { revision, number, error, hint } => self.line(|| {
                tracing::error!(
                    %pipeline, revision = number, revision_id = revision.short(), error, hint, "revision does not fit"
                );
            }),
            Report::NotGrown { revision, number, error, hint } => self.line(|| {
                tracing::warn!(
                    %pipeline, revision = number, revision_id = revision.short(), error, hint,
                    "schema did not grow, what is new is rescued"
                );
            }),
            Report::SegmentFailed(failure) => self.line(|| {
                tracing::error!(
                    %pipeline, revision_id = failure.revision.short(), segment = %failure.segment, class = %failure.class, error = failure.message, hint = failure.hint,
                    "segment failed and waits"
                );
            }),
            Report::Loaded { group, receipts, bytes } => {
                let rows: u64 = receipts.iter().map(|(_, receipt)| receipt.rows_added).sum();
                self.line(|| {
                    tracing::debug!(%pipeline, load = group.number, segments = group.segments.len(), rows, bytes, "loaded");
                });
            }
            Report::Retrying { what, error, pause } => {
                self.line(|| tracing::warn!(%pipeline, error, pause_ms = pause.as_millis(), "{what} failed and is tried again"));
            }
            Report::Waiting(_) => {}
        }
    }
}

/// What a run did.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    seconds: f64,
    streams: BTreeMap<String, StreamSummary>,
    pipelines: BTreeMap<String, PipelineSummary>,
}

#[derive(Debug, Serialize)]
struct StreamSummary {
    objects: u64,
    segments: u64,
    bytes: u64,
    land_seconds: f64,
}

#[derive(Debug, Serialize)]
struct PipelineSummary {
    segments_loaded: u64,
    segments_failed: u64,
    bytes: u64,
    records: u64,
    loaded: u64,
    filtered: u64,
    rejected: u64,
    rescued: u64,
    /// The table of the records that were refused.
    rejects_table: String,
    /// Rows by table.
    rows: BTreeMap<String, u64>,
    /// What the rules counted and observed.
    rules: RuleMetrics,
    /// Seconds by stage, summed over threads.
    stage_seconds: BTreeMap<&'static str, f64>,
}

impl Summary {
    pub(super) fn of(
        streams: &BTreeMap<StreamName, Arc<StreamMetrics>>,
        pipelines: &BTreeMap<PipelineName, Arc<PipelineMetrics>>,
        config: &Config,
        seconds: f64,
    ) -> Self {
        let streams = streams.iter().map(|(name, metrics)| {
            let summary = StreamSummary {
                objects: metrics.objects.get(),
                segments: metrics.segments.get(),
                bytes: metrics.bytes.get(),
                land_seconds: metrics.clocks.seconds(Stage::Land),
            };
            (name.to_string(), summary)
        });
        let pipelines = pipelines.iter().map(|(name, metrics)| {
            let rejects = config.pipelines.get(name).map(|pipeline| pipeline.rejects.to_string());
            (name.to_string(), PipelineSummary::of(metrics, rejects.unwrap_or_default()))
        });
        Self { seconds, streams: streams.collect(), pipelines: pipelines.collect() }
    }

    pub(super) fn failed(&self) -> u64 {
        self.pipelines.values().map(|pipeline| pipeline.segments_failed).sum()
    }

    pub(super) fn rejected(&self) -> u64 {
        self.pipelines.values().map(|pipeline| pipeline.rejected).sum()
    }

    /// On stdout: it is what the run answers with.
    pub(super) fn print(&self, global: &Global, once: bool) -> std::io::Result<()> {
        let mut out = std::io::stdout().lock();
        if global.json() {
            return writeln!(out, "{}", serde_json::to_string(self)?);
        }
        if once {
            write!(out, "{}", self.text())?;
        }
        Ok(())
    }

    fn text(&self) -> String {
        let mut lines = Vec::new();
        let segments: u64 = self.streams.values().map(|stream| stream.segments).sum();
        let bytes: u64 = self.streams.values().map(|stream| stream.bytes).sum();
        lines.push(format!("landed {} ({})", counted(segments, "segment"), format_bytes(bytes)));
        lines.extend(self.pipelines.iter().map(|(name, pipeline)| format!("{name}: {}", pipeline.text())));
        let moved = bytes.max(self.pipelines.values().map(|pipeline| pipeline.bytes).sum());
        let mut speed = vec![format!("{:.2} s, {}/s", self.seconds, format_bytes(rate(moved, self.seconds)))];
        let land: f64 = self.streams.values().map(|stream| stream.land_seconds).sum();
        let mut stages = vec![("land", bytes, land)];
        for pipeline in self.pipelines.values() {
            stages.extend(pipeline.stage_seconds.iter().map(|(stage, seconds)| (*stage, pipeline.bytes, *seconds)));
        }
        for stage in Stage::ALL {
            let of: Vec<_> = stages.iter().filter(|(name, _, _)| *name == stage.name()).collect();
            let seconds: f64 = of.iter().map(|(_, _, seconds)| seconds).sum();
            let bytes: u64 = of.iter().map(|(_, bytes, _)| bytes).sum();
            if seconds > 0.0 && bytes > 0 {
                speed.push(format!("{} {}/s", stage.name(), format_bytes(rate(bytes, seconds))));
            }
        }
        lines.push(speed.join(" · "));
        lines.join("\n") + "\n"
    }
}

fn counted(number: u64, what: &str) -> String {
    format!("{} {what}{}", thousands(number), if number == 1 { "" } else { "s" })
}

impl PipelineSummary {
    fn of(metrics: &PipelineMetrics, rejects_table: String) -> Self {
        let stages = Stage::ALL.iter().filter(|stage| **stage != Stage::Land);
        Self {
            segments_loaded: metrics.segments_loaded.get(),
            segments_failed: metrics.segments_failed.get(),
            bytes: metrics.bytes.get(),
            records: metrics.records.get(),
            loaded: metrics.loaded.get(),
            filtered: metrics.filtered.get(),
            rejected: metrics.rejected.get(),
            rescued: metrics.rescued.get(),
            rejects_table,
            rows: metrics.rows.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            rules: metrics.rules.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            stage_seconds: stages.map(|stage| (stage.name(), metrics.clocks.seconds(*stage))).collect(),
        }
    }

    fn text(&self) -> String {
        let rows = self.rows.iter().filter(|(table, rows)| **rows > 0 && **table != self.rejects_table);
        let mut tables: Vec<_> = rows.map(|(table, rows)| (*rows, table.as_str())).collect();
        tables.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(b.1)));
        let parts: Vec<_> = tables
            .into_iter()
            .enumerate()
            .map(|(index, (rows, table))| match index {
                0 => format!("{} to {table}", counted(rows, "row")),
                _ => format!("{} to {table}", thousands(rows)),
            })
            .collect();
        let loaded = if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") };
        let rejected = match self.rejected {
            0 => "0".to_owned(),
            rejected => format!("{} to {}", thousands(rejected), self.rejects_table),
        };
        let mut text = format!(
            "decoded {} · loaded {loaded} · filtered {} · rejected {rejected} · rescued {}",
            counted(self.records, "record"),
            thousands(self.filtered),
            thousands(self.rescued)
        );
        if !self.rules.counters.is_empty() {
            let counters = self.rules.counters.iter().map(|(name, sum)| format!("{name} {}", thousands(*sum)));
            text.push_str(&format!(" · the rules counted {}", counters.collect::<Vec<_>>().join(", ")));
        }
        if self.segments_failed > 0 {
            text.push_str(&format!(
                " · {} failed and waiting: see `forebay status`",
                counted(self.segments_failed, "segment")
            ));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pipeline(records: u64, rejected: u64, rows: &[(&str, u64)]) -> PipelineSummary {
        PipelineSummary {
            segments_loaded: 1,
            segments_failed: 0,
            bytes: 10,
            records,
            loaded: records - rejected,
            filtered: 0,
            rejected,
            rescued: 0,
            rejects_table: "lake.refused".to_owned(),
            rows: rows.iter().map(|(table, rows)| ((*table).to_owned(), *rows)).collect(),
            rules: RuleMetrics::default(),
            stage_seconds: BTreeMap::new(),
        }
    }

    #[test]
    fn a_summary_lands_once_and_tells_rejects_apart() {
        let landed = StreamSummary { objects: 1, segments: 1, bytes: 10, land_seconds: 0.0 };
        let mut summary = Summary {
            seconds: 2.0,
            streams: BTreeMap::from([("s".to_owned(), landed)]),
            pipelines: BTreeMap::from([
                ("a".to_owned(), pipeline(1, 0, &[("lake.a", 1)])),
                ("b".to_owned(), pipeline(20_000, 3, &[("lake.b", 19_997), ("lake.c", 7), ("lake.refused", 3)])),
                ("c".to_owned(), pipeline(1, 1, &[("lake.refused", 1)])),
            ]),
        };
        if let Some(counting) = summary.pipelines.get_mut("b") {
            counting.rules.count("flagged".to_owned(), 1_200);
            counting.rules.count("odd".to_owned(), 3);
        }
        assert_eq!(
            summary.text(),
            "landed 1 segment (10 B)\n\
             a: decoded 1 record · loaded 1 row to lake.a · filtered 0 · rejected 0 · rescued 0\n\
             b: decoded 20,000 records · loaded 19,997 rows to lake.b, 7 to lake.c · filtered 0 · rejected 3 to lake.refused · rescued 0 · the rules counted flagged 1,200, odd 3\n\
             c: decoded 1 record · loaded nothing · filtered 0 · rejected 1 to lake.refused · rescued 0\n\
             2.00 s, 15 B/s\n"
        );
    }

    #[test]
    fn thousands_are_told_apart() {
        assert_eq!([0, 999, 1000, 20_000, 1_234_567].map(thousands), ["0", "999", "1,000", "20,000", "1,234,567"]);
    }
}
