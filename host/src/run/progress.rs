//! What a person sees of a run while it works: bars of one that has an end, lines of one that follows its sources.
//!
//! Such a host says what it landed and loaded when the work settles, and every ten seconds while it goes on: never a line for
//! each load, of which there may be many in a second.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use forebay_model::load::Again;
use forebay_model::{PipelineName, StreamName};
use forebay_pipeline::intake;
use forebay_pipeline::metrics::{PipelineMetrics, StreamMetrics};
use forebay_pipeline::refine;
use forebay_pipeline::refine::protocol::{Event, Report};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::Host;
use super::back::Outcomes;
use crate::cli::{Global, thousands};
use crate::config::format_bytes;

/// How often the bars move.
const TICK: Duration = Duration::from_millis(100);

/// How often a host that follows its sources looks at what it has done.
const LOOK: Duration = Duration::from_secs(1);

/// How often it says so while the work goes on.
const SAY: Duration = Duration::from_secs(10);

/// The bars of a run, where there are any.
pub(super) struct Progress {
    bars: Option<MultiProgress>,
    ticking: Mutex<Option<tokio::task::JoinHandle<()>>>,
    started: Instant,
}

impl Progress {
    pub(super) fn start(global: &Global, once: bool) -> Self {
        // A run that follows its sources has no end to move to: `follow` tells.
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

/// Says what streams landed and pipelines loaded, for ever.
pub(super) async fn follow(host: Arc<Host>) {
    let mut streams: BTreeMap<StreamName, Said<Landed>> = BTreeMap::new();
    let mut pipelines: BTreeMap<PipelineName, Said<Loaded>> = BTreeMap::new();
    loop {
        tokio::time::sleep(LOOK).await;
        for (name, metrics) in host.parts.stream_metrics() {
            let now = Landed { segments: metrics.segments.get(), bytes: metrics.bytes.get() };
            if let Some(before) = streams.entry(name.clone()).or_default().due(now, Instant::now()) {
                let (segments, bytes) = (now.segments - before.segments, now.bytes - before.bytes);
                tracing::info!(stream = %name, segments, bytes = format_bytes(bytes), "landed");
            }
        }
        for (name, metrics) in host.parts.pipeline_metrics() {
            let now = Loaded {
                segments: metrics.segments_loaded.get(),
                records: metrics.records.get(),
                filtered: metrics.filtered.get(),
                rejected: metrics.rejected.get(),
                healed: metrics.healed.get(),
            };
            if let Some(before) = pipelines.entry(name.clone()).or_default().due(now, Instant::now()) {
                let Loaded { segments, records, filtered, rejected, healed } = before;
                tracing::info!(
                    pipeline = %name, segments = now.segments - segments, records = now.records - records,
                    filtered = now.filtered - filtered, rejected = now.rejected - rejected,
                    healed = now.healed - healed, waiting = metrics.segments_waiting.get(), "loaded"
                );
            }
        }
    }
}

/// What a stream has landed since the host started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Landed {
    segments: u64,
    bytes: u64,
}

/// What a pipeline has loaded since the host started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Loaded {
    segments: u64,
    records: u64,
    filtered: u64,
    rejected: u64,
    healed: u64,
}

/// What was said of a part, and when.
#[derive(Debug, Default)]
struct Said<T> {
    said: T,
    seen: T,
    at: Option<Instant>,
}

impl<T: Copy + PartialEq> Said<T> {
    /// What was said before, where there is something to say: the work has settled, or has gone on for long.
    fn due(&mut self, now: T, at: Instant) -> Option<T> {
        let settled = self.seen == now;
        self.seen = now;
        if self.said == now {
            return None;
        }
        let since = *self.at.get_or_insert(at);
        if !settled && at.duration_since(since) < SAY {
            return None;
        }
        self.at = None;
        Some(std::mem::replace(&mut self.said, now))
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
pub(super) fn rate(bytes: u64, seconds: f64) -> u64 {
    if seconds <= 0.0 { 0 } else { (bytes as f64 / seconds) as u64 }
}

/// Tells what streams and pipelines report: as log lines above the bars; and pipelines of what has landed.
pub(super) struct Tell {
    bars: Option<MultiProgress>,
    host: Option<Arc<Host>>,
    metrics: Option<Arc<PipelineMetrics>>,
    outcomes: Option<Arc<Outcomes>>,
}

impl Tell {
    /// Of a pipeline, whose rejects are counted by their codes.
    pub(super) fn of_pipeline(progress: &Progress, metrics: Arc<PipelineMetrics>, outcomes: Arc<Outcomes>) -> Self {
        Self { bars: progress.bars.clone(), host: None, metrics: Some(metrics), outcomes: Some(outcomes) }
    }

    pub(super) fn of_stream(progress: &Progress, host: Arc<Host>) -> Self {
        Self { bars: progress.bars.clone(), host: Some(host), metrics: None, outcomes: None }
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
        for outcomes in self.outcomes.iter() {
            outcomes.note(pipeline, report);
        }
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
                // Those of a heal have been counted.
                let counted = group.segments.iter().filter(|segment| segment.again != Some(Again::Heal));
                for metrics in self.metrics.iter() {
                    metrics.add_rejects(counted.clone().flat_map(|segment| &segment.rejects));
                }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_is_said_when_it_settles_and_every_ten_seconds() {
        let start = Instant::now();
        let mut said = Said::<u64>::default();
        let mut told = Vec::new();
        // Work from the third second to the 25th, and again in the 40th.
        for second in 0..50_u64 {
            let done = second.clamp(2, 25) - 2 + u64::from(second >= 40);
            if let Some(before) = said.due(done, start + Duration::from_secs(second)) {
                told.push((second, done - before));
            }
        }
        assert_eq!(told, [(13, 11), (24, 11), (26, 1), (41, 1)]);
    }
}
