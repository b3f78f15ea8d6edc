//! What a host does beside its streams: answers other processes, hears signals.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use forebay_model::{Error, Result, TableName, Timestamp};
use forebay_pipeline::panics::caught;
use forebay_pipeline::refine::protocol::Event;
use tokio::sync::{mpsc, oneshot, watch};

use super::Host;
use super::push::Submission;
use crate::cli::{Stores, maintain_all};
use crate::config::Config;
use crate::requests::{MaintainRequest, PushRequest, Pushed, Refused};

/// How often requests and approvals are looked for.
const TICK: Duration = Duration::from_millis(500);

/// A push that was asked for so long ago is not done any more.
const STALE: Duration = Duration::from_secs(60);

/// How often pushes are looked for: who pushes waits.
const PUSH_TICK: Duration = Duration::from_millis(100);

/// Tells pipelines of changes that a person approved, for ever.
pub(super) async fn approve(host: Arc<Host>) {
    let mut told = BTreeSet::new();
    loop {
        match caught(approved(&host)).await {
            Ok(approved) => {
                if !approved.is_subset(&told) {
                    for handle in host.parts.handles().values() {
                        handle.send(Event::Approved);
                    }
                }
                told = approved;
            }
            Err(error) => tracing::warn!(error = error.chain(), "approvals could not be read; they are read again"),
        }
        tokio::time::sleep(TICK).await;
    }
}

async fn approved(host: &Host) -> Result<BTreeSet<(TableName, String)>> {
    let held = host.ledger.held_changes().await?;
    Ok(held.into_iter().filter(|change| change.approved).map(|change| (change.table, change.column)).collect())
}

/// Does what other processes ask for, one after the other, for ever. A task of its own: maintenance may take long.
pub(super) async fn answer(host: Arc<Host>, config: watch::Receiver<Config>) {
    loop {
        if let Err(error) = caught(answer_all(&host, &config)).await {
            tracing::warn!(error = error.chain(), "requests could not be answered; they are tried again");
        }
        tokio::time::sleep(TICK).await;
    }
}

async fn answer_all(host: &Host, config: &watch::Receiver<Config>) -> Result<()> {
    if !host.fleet.leads() {
        return Ok(());
    }
    for (number, what, arguments) in host.ledger.asked().await? {
        // They are answered by a task of their own, and do not wait for maintenance.
        if what == PushRequest::WHAT {
            continue;
        }
        let now = crate::assemble::clock().now();
        let answer = match (what.as_str(), serde_json::from_value::<MaintainRequest>(arguments)) {
            (MaintainRequest::WHAT, Ok(request)) => {
                tracing::info!(by = request.by, dry_run = request.dry_run, "maintenance was asked for");
                let config = config.borrow().clone();
                let warehouses = host.warehouses();
                let stores = Stores {
                    ledger: host.ledger.as_ref(),
                    zone: host.zone.as_ref(),
                    warehouses: &warehouses,
                    host_since: Some(oldest(host).await?),
                };
                // Whatever becomes of it, who asked is answered, and not asked for again each half second.
                match caught(maintain_all(&config, stores, &request, now)).await {
                    Ok(done) => serde_json::to_value(done).unwrap_or_default(),
                    Err(error) => serde_json::json!({ "error": error.chain() }),
                }
            }
            _ => serde_json::json!({ "error": format!("this host does not know how to {what}") }),
        };
        host.ledger.answer(number, &answer, crate::assemble::clock().now()).await?;
    }
    Ok(())
}

/// Since when the oldest of the hosts runs: what any of them is about to list is younger.
async fn oldest(host: &Host) -> Result<Timestamp> {
    let hosts = host.ledger.hosts().await?;
    Ok(hosts.iter().map(|host| host.holder.since).fold(host.since, Timestamp::min))
}

/// Hands what other processes push to who reloads, and answers with what came of it, for ever.
pub(super) async fn push(host: Arc<Host>, submit: mpsc::UnboundedSender<Submission>) {
    loop {
        if let Err(error) = caught(push_all(&host, &submit)).await {
            tracing::warn!(error = error.chain(), "pushes could not be answered; they are tried again");
        }
        tokio::time::sleep(PUSH_TICK).await;
    }
}

async fn push_all(host: &Host, submit: &mpsc::UnboundedSender<Submission>) -> Result<()> {
    if !host.fleet.leads() {
        return Ok(());
    }
    for (number, what, arguments) in host.ledger.asked().await? {
        if what != PushRequest::WHAT {
            continue;
        }
        let refused = |error: &Error| Pushed { refused: vec![Refused::new(None, error)], ..Pushed::default() };
        let pushed = match serde_json::from_value(arguments) {
            Ok(PushRequest { at, .. }) if at < host.since.max(host.fleet.leads_since()) => refused(
                &Error::operator("the host that was asked has stopped before it was done").with_hint("ask again"),
            ),
            // Who asked a host that hung may be gone, or have done something else meanwhile.
            Ok(PushRequest { at, .. }) if crate::assemble::clock().now().since(at) > STALE => refused(
                &Error::operator(format!("the host has not come to it within {} s", STALE.as_secs()))
                    .with_hint("ask again"),
            ),
            Ok(request) => {
                let (answer, answered) = oneshot::channel();
                let sent = submit.send(Submission::Push { request, answer }).map_err(|_| gone());
                match sent.and(answered.await.map_err(|_| gone())) {
                    Ok(Ok(pushed)) => pushed,
                    Ok(Err(error)) => refused(&error),
                    Err(error) => return Err(error),
                }
            }
            Err(error) => refused(&Error::operator("this host does not know what is pushed").with_source(error)),
        };
        let answer = serde_json::to_value(pushed).unwrap_or_default();
        host.ledger.answer(number, &answer, crate::assemble::clock().now()).await?;
    }
    Ok(())
}

/// The host ends, and nobody reloads any more.
fn gone() -> Error {
    Error::operator("the host is stopping")
}

/// SIGINT and SIGTERM, from the moment that it is made.
#[cfg(unix)]
pub(crate) struct Signals {
    /// `None` where the system does not let them be heard: then they end the process.
    heard: Option<[tokio::signal::unix::Signal; 2]>,
}

#[cfg(unix)]
impl Signals {
    pub(crate) fn new() -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        let (interrupt, terminate) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
        Self { heard: interrupt.ok().zip(terminate.ok()).map(Into::into) }
    }

    /// Returns at the next signal.
    pub(crate) async fn next(&mut self) {
        match &mut self.heard {
            Some([interrupt, terminate]) => tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            },
            None => std::future::pending().await,
        }
    }
}

/// Ctrl-C.
#[cfg(not(unix))]
pub(crate) struct Signals;

#[cfg(not(unix))]
impl Signals {
    pub(crate) fn new() -> Self {
        Self
    }

    /// Returns at the next one.
    pub(crate) async fn next(&mut self) {
        drop(tokio::signal::ctrl_c().await);
    }
}
