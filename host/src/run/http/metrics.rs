//! The host's metrics: their names and what they mean in one table, which `docs/metrics.md` repeats, and where their numbers come
//! from. Counters count from the host's start, and are read without stopping anything.

use std::sync::PoisonError;

use forebay_model::ports::{Deployment, Duty};
use forebay_model::{PipelineName, StreamName, Timestamp};
use forebay_pipeline::metrics::{PipelineMetrics, RuleMetrics, Stage, StreamMetrics};

use super::super::lag::oldest_unloaded;
use super::Seen;
use super::exposition::{Exposition, Kind, Metric, float};
use super::ready::PATIENCE;

/// Makes a table of metrics: a constant for each, and all of them in order.
macro_rules! table {
    ($($id:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(static $id: Metric = Metric { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help };)*
        const ALL: &[&Metric] = &[$(&$id),*];
    };
}

table! {
    INFO = Gauge "forebay_build_info" ["version"] "1; the label is the program's version.";
    START = Gauge "forebay_start_time_seconds" [] "When the host began, in seconds since 1970.";
    READY = Gauge "forebay_ready" [] "1 where /readyz says that the host is ready.";
    LEADS = Gauge "forebay_leads" [] "1 where the host leads those of its ledger, or is its only one.";
    LEDGER = Gauge "forebay_ledger_up" [] "1 where the ledger answered in time. Where it did not, what it knows is missing below.";
    BUDGET = Gauge "forebay_memory_budget_bytes" ["share"] "Bytes of the memory budget that are intake's and refine's.";
    HELD = Gauge "forebay_memory_held_bytes" ["share"] "Bytes of it that are held now.";
    OBJECTS = Counter "forebay_objects_landed_total" ["stream"] "Objects that landed.";
    SEGMENTS = Counter "forebay_segments_landed_total" ["stream"] "Segments that landed.";
    LANDED = Counter "forebay_bytes_landed_total" ["stream"] "Bytes that landed.";
    LANDED_RECORDS = Counter "forebay_records_landed_total" ["stream"] "Records that landed, of sources that give records one by one; those of files are counted when they are decoded.";
    UNLANDED = Gauge "forebay_oldest_unlanded_seconds" ["stream"] "Age of the oldest object that the source knows of and that has not landed, since it was changed last, as of the last look; 0 where there is none. Missing where the stream does not run in this host.";
    LAND = Counter "forebay_land_seconds_total" ["stream"] "Time spent landing: reading the source, hashing, writing, syncing.";
    RETRIES = Counter "forebay_land_retries_total" ["stream"] "Attempts to read or land that failed and are made again.";
    STREAM_UP = Gauge "forebay_stream_up" ["stream"] "1 where the stream runs in this host.";
    PIPELINE_UP = Gauge "forebay_pipeline_up" ["pipeline"] "1 where the pipeline runs in this host.";
    PAUSED = Gauge "forebay_pipeline_paused" ["pipeline"] "1 where it is paused.";
    REVISION = Gauge "forebay_revision_info" ["pipeline", "revision", "revision_id"] "1; the labels are the active revision's number and id.";
    WAITING = Gauge "forebay_segments_waiting" ["pipeline"] "Segments that are known to wait or are in work: the lag.";
    FAILED = Gauge "forebay_segments_failed" ["pipeline"] "Segments that failed since the host began, and wait.";
    OLDEST = Gauge "forebay_oldest_unloaded_seconds" ["pipeline"] "Age of the oldest segment that has landed and is not loaded, failed ones left out; 0 where there is none. Missing while the pipeline is paused.";
    LOADED_SEGMENTS = Counter "forebay_segments_loaded_total" ["pipeline"] "Segments that loaded.";
    LOADED_BYTES = Counter "forebay_bytes_loaded_total" ["pipeline"] "Bytes of segments that loaded, as they landed.";
    DECODED = Counter "forebay_records_decoded_total" ["pipeline"] "Records of segments that loaded.";
    RECORDS = Counter "forebay_records_total" ["pipeline", "outcome"] "The same by what became of them: loaded (at least one row), filtered (none) or rejected.";
    REJECTS = Counter "forebay_rejects_total" ["pipeline", "stage", "code"] "Rejected records by the stage that refused them and the reason's code.";
    RESCUED = Counter "forebay_records_rescued_total" ["pipeline"] "Records that loaded with something in _forebay_rescued.";
    TRIED = Counter "forebay_records_tried_again_total" ["pipeline"] "Rejected records that were tried again.";
    HEALED = Counter "forebay_records_healed_total" ["pipeline"] "Those that were not rejected any more.";
    ROWS = Counter "forebay_rows_loaded_total" ["pipeline", "table"] "Rows that a table has gained.";
    STAGE = Counter "forebay_stage_seconds_total" ["pipeline", "stage"] "Time spent in decode, transform, encode and commit, summed over threads.";
    BATCH = Histogram "forebay_batch_seconds" ["pipeline"] "How long batches took in all steps together.";
    CALL = Histogram "forebay_rule_call_seconds" ["pipeline", "step"] "How long calls of a step's rule took, what crosses the boundary included.";
    RESCUED_BY = Counter "forebay_values_rescued_total" ["pipeline", "column"] "Values that were put into _forebay_rescued, by column. A segment that is refined again is counted again.";
    COUNTED = Counter "forebay_rule_counter_total" ["pipeline", "name"] "What the rules counted, by the name that they gave it.";
    OBSERVED = Counter "forebay_rule_observed_count" ["pipeline", "name"] "How many values the rules observed.";
    SUM = Gauge "forebay_rule_observed_sum" ["pipeline", "name"] "Their sum.";
    HELD_CHANGES = Gauge "forebay_schema_changes_held" ["table"] "Changes of a table's schema that wait for approval; tables without any are left out.";
}

/// The text that Prometheus reads.
pub(super) async fn of(seen: &Seen) -> String {
    let mut out = Exposition::default();
    let host = &seen.host;
    out.add(&INFO, [env!("CARGO_PKG_VERSION")], 1);
    out.add(&START, [], float(seconds(host.since)));
    out.add(&READY, [], u8::from(super::ready::missing(seen).await.is_empty()));
    out.add(&LEADS, [], u8::from(host.fleet.leads()));
    for (name, share) in [("intake", &host.budget.intake), ("refine", &host.budget.refine)] {
        out.add(&BUDGET, [name], share.total());
        out.add(&HELD, [name], share.held());
    }
    for (name, metrics) in host.parts.stream_metrics() {
        let runs = host.runs(&Duty::Stream(name.clone()));
        out.add(&STREAM_UP, [name.as_str()], u8::from(runs));
        if runs {
            out.add(&UNLANDED, [name.as_str()], float(unlanded(&metrics)));
        }
        stream(&mut out, &name, &metrics);
    }
    for (name, metrics) in host.parts.pipeline_metrics() {
        out.add(&PIPELINE_UP, [name.as_str()], u8::from(host.runs(&Duty::Pipeline(name.clone()))));
        pipeline(&mut out, &name, &metrics);
    }
    // It is asked last and as a whole: a ledger that hangs takes no counter with it.
    let known = tokio::time::timeout(PATIENCE, of_ledger(seen)).await;
    out.add(&LEDGER, [], u8::from(matches!(known, Ok(Ok(_)))));
    if let Ok(Ok(known)) = known {
        for (metric, labels, number) in known {
            out.add(metric, labels.iter().map(String::as_str), number);
        }
    }
    out.text(ALL)
}

fn stream(out: &mut Exposition, name: &StreamName, metrics: &StreamMetrics) {
    let StreamMetrics { objects, segments, bytes, records, retries, oldest_unlanded: _, clocks } = metrics;
    let counters =
        [(&OBJECTS, objects), (&SEGMENTS, segments), (&LANDED, bytes), (&LANDED_RECORDS, records), (&RETRIES, retries)];
    for (metric, counter) in counters {
        out.add(metric, [name.as_str()], counter.get());
    }
    out.add(&LAND, [name.as_str()], float(clocks.seconds(Stage::Land)));
}

/// For how long the oldest object has waited to land.
fn unlanded(metrics: &StreamMetrics) -> f64 {
    let since = i64::try_from(metrics.oldest_unlanded.get()).ok().filter(|since| *since > 0);
    let now = crate::assemble::clock().now();
    since.map_or(0.0, |since| now.since(Timestamp::from_micros(since)).as_secs_f64())
}

fn pipeline(out: &mut Exposition, name: &PipelineName, metrics: &PipelineMetrics) {
    let of = name.as_str();
    let counters = [
        (&WAITING, &metrics.segments_waiting),
        (&FAILED, &metrics.segments_failed),
        (&LOADED_SEGMENTS, &metrics.segments_loaded),
        (&LOADED_BYTES, &metrics.bytes),
        (&DECODED, &metrics.records),
        (&RESCUED, &metrics.rescued),
        (&TRIED, &metrics.tried_again),
        (&HEALED, &metrics.healed),
    ];
    for (metric, counter) in counters {
        out.add(metric, [of], counter.get());
    }
    let outcomes = [("loaded", &metrics.loaded), ("filtered", &metrics.filtered), ("rejected", &metrics.rejected)];
    for (outcome, counter) in outcomes {
        out.add(&RECORDS, [of, outcome], counter.get());
    }
    for stage in Stage::ALL.into_iter().filter(|stage| *stage != Stage::Land) {
        out.add(&STAGE, [of, stage.name()], float(metrics.clocks.seconds(stage)));
    }
    out.add_times(&BATCH, [of], &metrics.batches);
    for (step, times) in &*metrics.calls.lock().unwrap_or_else(PoisonError::into_inner) {
        out.add_times(&CALL, [of, step], times);
    }
    for (column, values) in &*metrics.rescued_columns.lock().unwrap_or_else(PoisonError::into_inner) {
        out.add(&RESCUED_BY, [of, column], values);
    }
    for ((stage, code), records) in &*metrics.rejects.lock().unwrap_or_else(PoisonError::into_inner) {
        out.add(&REJECTS, [of, stage, code], records);
    }
    for (table, rows) in &*metrics.rows.lock().unwrap_or_else(PoisonError::into_inner) {
        out.add(&ROWS, [of, table], rows);
    }
    let RuleMetrics { counters, observed } = &*metrics.rules.lock().unwrap_or_else(PoisonError::into_inner);
    for (counter, sum) in counters {
        out.add(&COUNTED, [of, counter], sum);
    }
    for (what, values) in observed {
        out.add(&OBSERVED, [of, what], values.count);
        out.add(&SUM, [of, what], float(values.sum));
    }
}

/// A number that only the ledger knows.
type Sample = (&'static Metric, Vec<String>, String);

async fn of_ledger(seen: &Seen) -> forebay_model::Result<Vec<Sample>> {
    let ledger = &seen.host.ledger;
    let now = crate::assemble::clock().now();
    let config = seen.config.borrow().clone();
    let mut samples: Vec<Sample> = Vec::new();
    for (name, pipeline) in &config.pipelines {
        let of = || vec![name.to_string()];
        let paused = ledger.paused(name).await?.is_some();
        samples.push((&PAUSED, of(), u8::from(paused).to_string()));
        if let Some(Deployment { revision, .. }) = ledger.active(name).await? {
            let labels = vec![name.to_string(), revision.number.to_string(), revision.id.short()];
            samples.push((&REVISION, labels, "1".to_owned()));
        }
        if paused {
            continue;
        }
        let oldest = oldest_unloaded(ledger.as_ref(), name, pipeline, now).await?;
        let age = oldest.map_or(0.0, |oldest| now.since(oldest).as_secs_f64());
        samples.push((&OLDEST, of(), float(age)));
    }
    let mut held = std::collections::BTreeMap::<String, u64>::new();
    for change in ledger.held_changes().await?.into_iter().filter(|change| !change.approved) {
        *held.entry(change.table.to_string()).or_default() += 1;
    }
    samples.extend(held.into_iter().map(|(table, changes)| (&HELD_CHANGES, vec![table], changes.to_string())));
    Ok(samples)
}

fn seconds(time: Timestamp) -> f64 {
    time.since(Timestamp::from_micros(0)).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of the docs, as it is to be.
    fn table() -> String {
        let labels = |labels: &[&str]| labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
        let rows = ALL.iter().map(|Metric { name, kind, labels: of, help }| {
            format!(
                "| `{name}` | {} | {} | {} |\n",
                kind.name(),
                labels(of),
                help.replace("_forebay_rescued", "`_forebay_rescued`")
            )
        });
        format!("| metric | | labels | |\n|---|---|---|---|\n{}", rows.collect::<String>())
    }

    #[test]
    fn the_docs_have_the_table() {
        let docs = include_str!("../../../../docs/metrics.md");
        assert!(docs.contains(&table()), "docs/metrics.md is to have this table:\n{}", table());
    }

    #[test]
    fn names_are_as_prometheus_has_them() {
        for Metric { name, kind, labels, help } in ALL {
            assert!(name.starts_with("forebay_") && !help.contains('\n'), "{name}");
            assert!(labels.iter().all(|label| !label.starts_with("__")), "{name}");
            let counts = name.ends_with("_total") || name.ends_with("_count");
            assert_eq!(*kind == Kind::Counter, counts, "{name}");
        }
        assert_eq!(ALL.iter().map(|metric| metric.name).collect::<std::collections::BTreeSet<_>>().len(), ALL.len());
    }
}
