//! Alerts: what needs a person is posted to a webhook. See `docs/alerts.md`.
//!
//! Every few seconds the host looks at its metrics and its ledger (`observe`), decides what is to be told (`judge`), and sends it
//! (`webhook`). What cannot be sent is kept, the newest of each subject, and tried again after pauses that double. None of it is waited
//! for by the host. What was told is not remembered across restarts.

mod judge;
mod observe;
mod webhook;

use std::sync::Arc;
use std::time::Duration;

use forebay_model::Result;
use forebay_pipeline::panics::caught;
use tokio::sync::watch;

use self::judge::Judge;
use self::observe::Observer;
use self::webhook::Outbox;
use super::Host;
use crate::assemble;
use crate::config::Config;

/// How often is looked.
const TICK: Duration = Duration::from_secs(2);

/// Looks and tells, for ever; nothing where the config has no `[alerts]`.
pub(super) async fn watch(host: Arc<Host>, config: watch::Receiver<Config>) {
    let (mut observer, mut judge, mut outbox) = (Observer::default(), Judge::default(), Outbox::default());
    loop {
        tokio::time::sleep(TICK).await;
        let now_runs = config.borrow().clone();
        let looked = caught(look(&host, &now_runs, &mut observer, &mut judge, &mut outbox)).await;
        if let Err(error) = looked {
            tracing::warn!(error = error.chain(), "alerts could not be looked for; they are looked for again");
        }
    }
}

async fn look(
    host: &Host,
    config: &Config,
    observer: &mut Observer,
    judge: &mut Judge,
    outbox: &mut Outbox,
) -> Result<()> {
    let Some(alerts) = &config.alerts else { return Ok(()) };
    let now = assemble::clock().now();
    let holding = observer.observe(host, config, alerts, now).await?;
    outbox.add(judge.judge(now, alerts.repeat, &holding));
    outbox.send(alerts, now).await;
    Ok(())
}
