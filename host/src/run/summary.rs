//! What a run did, told at its end: lines for people, one JSON object for programs.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::{Arc, PoisonError};

use forebay_model::{PipelineName, StreamName};
use forebay_pipeline::metrics::{PipelineMetrics, RuleMetrics, Stage, StreamMetrics};
use serde::Serialize;

use super::progress::rate;
use crate::cli::{Global, thousands};
use crate::config::{Config, format_bytes};

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
    /// Rejected records that were tried again.
    tried_again: u64,
    /// Those that are rejected no more.
    healed: u64,
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
            tried_again: metrics.tried_again.get(),
            healed: metrics.healed.get(),
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
        if self.tried_again > 0 {
            text.push_str(&format!(
                " · healed {} of {}",
                thousands(self.healed),
                counted(self.tried_again, "rejected record")
            ));
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
            tried_again: 0,
            healed: 0,
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
}
