//! What failed is tried again at times that the config names, whether or not a new revision came.

use std::sync::Arc;
use std::time::Duration;

use forebay_model::ports::HealRequest;
use forebay_model::{PipelineName, Result, Timestamp};
use forebay_pipeline::panics::caught;
use tokio::sync::watch;

use super::Host;
use crate::assemble;
use crate::config::{Config, Schedule};

/// How often the clock is looked at: what is due is done so much later at most.
const TICK: Duration = Duration::from_millis(500);

/// Asks for what is due, for ever. A time that goes by while no host runs is not made up for.
pub(super) async fn keep(host: Arc<Host>, config: watch::Receiver<Config>) {
    let clock = assemble::clock();
    let mut looked = clock.now();
    loop {
        tokio::time::sleep(TICK).await;
        let now = clock.now();
        let due = due(&config.borrow(), looked, now);
        // A clock that was put back does nothing twice.
        looked = looked.max(now);
        for (pipeline, schedule) in due.into_iter().filter(|_| host.fleet.leads()) {
            if let Err(error) = caught(retry(&host, &pipeline, &schedule, now)).await {
                tracing::error!(
                    %pipeline, %schedule, error = error.chain(),
                    "what failed could not be asked for; it is at the next of these times"
                );
            }
        }
    }
}

/// Schedules with a time after `from`, up to `until`.
fn due(config: &Config, from: Timestamp, until: Timestamp) -> Vec<(PipelineName, Schedule)> {
    let pipelines = config.pipelines.iter().filter_map(|(name, pipeline)| Some((name, pipeline.retry.as_ref()?)));
    let due = pipelines.filter(|(_, schedule)| schedule.after(from).is_some_and(|next| next <= until));
    due.map(|(name, schedule)| (name.clone(), schedule.clone())).collect()
}

async fn retry(host: &Host, pipeline: &PipelineName, schedule: &Schedule, now: Timestamp) -> Result<()> {
    let reason = format!("schedule {schedule}");
    let wanted = HealRequest { unless_tried_by: None, codes: Vec::new(), since: None, reason };
    let segments = host.ledger.ask_heal(pipeline, &wanted, now).await?;
    let failed = host.ledger.retry_failed(pipeline).await?;
    tracing::info!(%pipeline, %schedule, segments, failed, "what failed is tried again: it is time");
    Ok(())
}
