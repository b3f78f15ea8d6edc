//! What holds now, of metrics and ledger.

use std::collections::{BTreeMap, VecDeque};
use std::sync::PoisonError;
use std::time::Duration;

use forebay_model::{Result, TableName, Timestamp};
use forebay_pipeline::metrics::PipelineMetrics;

use super::super::Host;
use super::super::lag::oldest_unloaded;
use super::judge::{Holds, Subject};
use crate::config::{AlertsConfig, Config, format_duration};

/// Fewer records than these in a window say nothing of a rate.
const RECORDS: u64 = 100;

/// What a pipeline had counted at some time.
#[derive(Debug, Clone, Default)]
struct Sample {
    at: Timestamp,
    records: u64,
    rejected: u64,
    rescued: BTreeMap<String, u64>,
}

/// The samples of a window, by pipeline.
#[derive(Debug, Default)]
pub(super) struct Observer {
    samples: BTreeMap<String, VecDeque<Sample>>,
}

impl Observer {
    /// What holds now.
    ///
    /// # Errors
    /// Those of the ledger.
    pub(super) async fn observe(
        &mut self,
        host: &Host,
        config: &Config,
        alerts: &AlertsConfig,
        now: Timestamp,
    ) -> Result<BTreeMap<Subject, Holds>> {
        let mut holding = BTreeMap::new();
        // Whoever asked for a replay into tables beside looks at it, and nobody needs to be woken for it.
        let metrics = host.parts.pipeline_metrics().into_iter().filter(|(name, _)| name.as_side().is_none());
        for (name, metrics) in metrics {
            // What a pipeline has counted is told by the host that runs it; what the ledger knows, by the one that leads.
            let leads = host.fleet.leads();
            let of = |alert, column: Option<String>| Subject {
                alert,
                pipeline: Some(name.to_string()),
                table: None,
                column,
            };
            let failed = metrics.segments_failed.get();
            if failed > 0 {
                let segments = if failed == 1 { "1 segment".to_owned() } else { format!("{failed} segments") };
                let message = format!("{name}: {segments} failed, and wait");
                let hint =
                    "`forebay status` tells why; a new revision, or a mended file, has them tried again".to_owned();
                holding.insert(of("segments_failed", None), Holds { message, hint });
            }
            let samples = self.samples.entry(name.to_string()).or_default();
            let sample = sample(&metrics, now);
            let first = keep(samples, sample.clone(), alerts.window);
            if let Some(message) = rate(&first, &sample, alerts) {
                let message = format!("{name}: {message}");
                let hint = "`forebay rejects list` shows which, and why".to_owned();
                holding.insert(of("reject_rate", None), Holds { message, hint });
            }
            for (column, values) in rescued(&first, &sample) {
                let message =
                    format!("{name}: {values} values of {column} did not fit the column, and are in _forebay_rescued");
                let hint = format!("`forebay query` shows them: WHERE _forebay_rescued LIKE '%\"{column}%'");
                holding.insert(of("column_rescued", Some(column)), Holds { message, hint });
            }
            if let Some(pipeline) = config.pipelines.get(&name).filter(|_| leads)
                && let Some(oldest) = oldest_unloaded(host.ledger.as_ref(), &name, pipeline, now).await?
                && now.since(oldest) >= alerts.lag
            {
                let message = format!(
                    "{name}: a segment landed {} ago and is not loaded",
                    format_duration(Duration::from_secs(now.since(oldest).as_secs()))
                );
                let hint = "`forebay status` tells what is waiting, and whether the pipeline runs".to_owned();
                holding.insert(of("lag", None), Holds { message, hint });
            }
        }
        let held = if host.fleet.leads() { host.ledger.held_changes().await? } else { Vec::new() };
        let beside: Vec<_> = config.tables().into_iter().filter(|(_, of)| of.as_side().is_some()).collect();
        let of_side = |table: &TableName| beside.iter().any(|(known, _)| known == table);
        for change in held.into_iter().filter(|change| !change.approved && !of_side(&change.table)) {
            let (table, column) = (change.table.to_string(), change.column);
            let message =
                format!("{table}: column {column} ({}) waits for approval: {}", change.data_type, change.reason);
            let hint = format!("`forebay schema approve {table} {column}`");
            let subject =
                Subject { alert: "schema_change_held", pipeline: None, table: Some(table), column: Some(column) };
            holding.insert(subject, Holds { message, hint });
        }
        Ok(holding)
    }
}

fn sample(metrics: &PipelineMetrics, at: Timestamp) -> Sample {
    Sample {
        at,
        records: metrics.records.get(),
        rejected: metrics.rejected.get(),
        rescued: metrics.rescued_columns.lock().unwrap_or_else(PoisonError::into_inner).clone(),
    }
}

/// Adds a sample, and returns what to compare it with: the last one from before the window, or the host's start.
fn keep(samples: &mut VecDeque<Sample>, sample: Sample, window: Duration) -> Sample {
    while samples.get(1).is_some_and(|second| sample.at.since(second.at) >= window) {
        samples.pop_front();
    }
    let first = samples.front().filter(|first| sample.at.since(first.at) >= window).cloned().unwrap_or_default();
    samples.push_back(sample);
    first
}

fn rate(first: &Sample, last: &Sample, alerts: &AlertsConfig) -> Option<String> {
    let records = last.records.saturating_sub(first.records);
    let rejected = last.rejected.saturating_sub(first.rejected);
    #[expect(clippy::cast_precision_loss, reason = "a share need not be exact")]
    let percent = rejected as f64 * 100.0 / records.max(1) as f64;
    (records >= RECORDS && percent > alerts.reject_percent).then(|| {
        let window = format_duration(alerts.window);
        format!("{rejected} of {records} records of the last {window} were rejected ({percent:.1} %)")
    })
}

fn rescued(first: &Sample, last: &Sample) -> Vec<(String, u64)> {
    let grown = last.rescued.iter().map(|(column, values)| {
        (column.clone(), values.saturating_sub(first.rescued.get(column).copied().unwrap_or_default()))
    });
    grown.filter(|(_, values)| *values > 0).collect()
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "tests")]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(60);

    fn alerts() -> AlertsConfig {
        AlertsConfig {
            webhook: "http://127.0.0.1/".to_owned(),
            token_file: None,
            repeat: WINDOW,
            window: WINDOW,
            lag: WINDOW,
            reject_percent: 5.0,
        }
    }

    fn at(second: i64, records: u64, rejected: u64) -> Sample {
        let rescued = if rejected > 10 { BTreeMap::from([("amount".to_owned(), rejected)]) } else { BTreeMap::new() };
        Sample { at: Timestamp::from_micros(second * 1_000_000), records, rejected, rescued }
    }

    #[test]
    fn a_rate_is_that_of_the_window() {
        let mut samples = VecDeque::new();
        let mut told = |sample: Sample| {
            let first = keep(&mut samples, sample.clone(), WINDOW);
            (rate(&first, &sample, &alerts()), rescued(&first, &sample).len())
        };
        assert_eq!(told(at(0, 99, 99)), (None, 1), "too few say nothing of a rate");
        let (message, _) = told(at(10, 1_000, 200));
        assert_eq!(message.expect("a rate"), "200 of 1000 records of the last 1m were rejected (20.0 %)");
        assert_eq!(told(at(70, 2_000, 200)), (None, 0), "it is over");
        assert_eq!(told(at(200, 2_000, 200)), (None, 0));
        assert!(told(at(260, 2_200, 250)).0.is_some());
        assert!(samples.len() <= 2, "{}", samples.len());
    }
}
