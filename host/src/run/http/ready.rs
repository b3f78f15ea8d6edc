//! Whether the host does its work: what is missing is told by name.

use std::time::Duration;

use forebay_model::PipelineName;
use forebay_model::ports::{Duty, HostHolder, HostState};

use super::Seen;
use crate::run::difference::is_selected;

/// How long the ledger may take to answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// What keeps the host from being ready, for people; nothing where it is.
pub(super) async fn missing(seen: &Seen) -> Vec<String> {
    let (host, config) = (&seen.host, seen.config.borrow().clone());
    let mut missing = Vec::new();
    if host.parts.is_ending() {
        missing.push("the host is stopping".to_owned());
    }
    if !seen.has_started() {
        missing.push("the host is starting: modules are compiled, revisions checked".to_owned());
    }
    // A replay into tables beside is no reason to send work elsewhere.
    let meant = |name: &PipelineName| is_selected(&host.args.pipelines, name) && name.as_side().is_none();
    let pipelines = config.pipelines.iter().filter(|(name, _)| meant(name));
    for (name, pipeline) in pipelines {
        let stream = Duty::Stream(pipeline.from.clone());
        if host.fleet.has(&stream) && !host.runs(&stream) {
            missing.push(format!("stream {} does not run", pipeline.from));
        }
        if !host.parts.runs_pipeline(name) {
            missing.push(format!("pipeline {name} does not run"));
            continue;
        }
        match tokio::time::timeout(PATIENCE, host.ledger.active(name)).await {
            Ok(Ok(Some(_))) => {}
            Ok(Ok(None)) => missing.push(format!("pipeline {name} has no revision that was accepted")),
            Ok(Err(error)) => {
                missing.push(format!("the ledger answers with an error: {}", error.chain()));
                break;
            }
            Err(_) => {
                missing.push(format!("the ledger does not answer within {} s", PATIENCE.as_secs()));
                break;
            }
        }
    }
    let machine = whoami::hostname().ok();
    let is_this = |host: &HostState| {
        let HostHolder { process, host, since: _ } = &host.holder;
        process.is_none_or(|process| process == std::process::id()) && (host.is_none() || *host == machine)
    };
    missing.extend(host.fleet.cannot().into_iter().map(|(name, why)| format!("pipeline {name} cannot load {why}")));
    match tokio::time::timeout(PATIENCE, host.ledger.hosts()).await {
        Ok(Ok(hosts)) if hosts.iter().any(is_this) => {}
        Ok(Ok(_)) => missing.push("the ledger's lease is not this host's".to_owned()),
        Ok(Err(error)) => missing.push(format!("the ledger's lease cannot be read: {}", error.chain())),
        Err(_) => missing.push("the ledger's lease cannot be read in time".to_owned()),
    }
    missing.dedup();
    missing
}
