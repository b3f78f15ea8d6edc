//! What `deploy` and `rollback` have in common: the host is asked through the ledger, and what it made of it is told.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use forebay_model::PipelineName;
use forebay_model::ports::Ledger;

use super::{Exit, Failure, Global, listing, remote, show};
use crate::config::Share;
use crate::requests::{Active, Applied, Gains, InShadow, Push, PushRequest, Pushed, Refused, Seen};
use crate::who::who;

/// How often the answer is looked for.
const POLL: Duration = Duration::from_millis(50);

/// Asks the host that runs, and waits for its answer. `seen` is what stood there when the person began.
///
/// # Errors
/// Where the host stops meanwhile.
pub(super) async fn ask(
    global: &Global,
    ledger: &dyn Ledger,
    seen: BTreeMap<PipelineName, Seen>,
    push: Push,
) -> anyhow::Result<Pushed> {
    let bar = show::spinner(global).map(|bar| bar.with_message("waiting for the host"));
    let answer = answer(ledger, seen, push).await;
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    answer
}

async fn answer(ledger: &dyn Ledger, seen: BTreeMap<PipelineName, Seen>, push: Push) -> anyhow::Result<Pushed> {
    let number = PushRequest { at: listing::now(), by: who(), seen, push }.ask(ledger).await?;
    loop {
        if let Some(answer) = ledger.answered(number).await? {
            return Ok(serde_json::from_value(answer)?);
        }
        // Looked at without taking it: a host that starts meanwhile is not kept out.
        if ledger.host().await?.is_none() {
            let failure = Failure::new(Exit::Failed, "the host that ran has stopped without an answer");
            return Err(failure
                .with_hint("`forebay revisions list` shows what is active; start the host, and ask again")
                .into());
        }
        tokio::time::sleep(POLL).await;
    }
}

/// A file that goes to a host elsewhere, and how what it leads to is compared.
pub(super) struct Upload<'a> {
    pub(super) path: &'static str,
    pub(super) media: &'static str,
    pub(super) file: &'a Path,
    pub(super) label: Option<&'a str>,
    pub(super) shadow: Option<u32>,
    pub(super) max_changed: Option<Share>,
    /// The pipelines that it is meant for; none for all.
    pub(super) pipelines: &'a [PipelineName],
}

/// Sends it, and waits for what the host made of it.
///
/// # Errors
/// What the host refuses; where it does not answer as a forebay does.
pub(super) async fn send(
    global: &Global,
    host: &remote::Host,
    upload: Upload<'_>,
    bytes: Vec<u8>,
) -> anyhow::Result<Pushed> {
    let Upload { path, media, file, label, shadow, max_changed, pipelines } = upload;
    let name = remote::plain_name(file);
    let mut query = vec![("file", name.as_str())];
    query.extend(label.map(|label| ("label", label)));
    let (shadow, max_changed) = (shadow.map(|shadow| shadow.to_string()), max_changed.map(|share| share.to_string()));
    query.extend(shadow.as_deref().map(|shadow| ("shadow", shadow)));
    query.extend(max_changed.as_deref().map(|share| ("max_changed", share)));
    query.extend(pipelines.iter().map(|pipeline| ("pipeline", pipeline.as_str())));
    let bar = show::spinner(global).map(|bar| bar.with_message("waiting for the host"));
    let answer = host.upload(path, media, &query, bytes).await;
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    serde_json::from_value(answer?).context("the host's answer is not that of this forebay's host")
}

/// Nobody runs what is to change.
pub(super) fn no_host() -> Failure {
    Failure::new(Exit::Failed, "no host runs on this ledger")
}

/// Tells what came of it; `nothing` is what to say where it was as it was.
///
/// # Errors
/// What a pipeline refused.
pub(super) fn tell(global: &Global, pushed: &Pushed, nothing: &str) -> anyhow::Result<Exit> {
    let Pushed { active, refused, shadow, cancelled, applied } = pushed;
    if let Some(failure) = refusal(refused) {
        return Err(failure.into());
    }
    if global.json() {
        show::object(&serde_json::to_value(pushed)?)?;
        return Ok(Exit::Ok);
    }
    for Active { pipeline, revision, revision_id, missing, gains } in active {
        show::line(&format!("{pipeline}: revision {revision} ({}) is active", revision_id.short()))?;
        tell_gains(gains, "")?;
        for what in missing {
            eprintln!("warning: every record will be rejected: {what}, which no record had yet");
        }
    }
    for InShadow { pipeline, revision, revision_id, gains } in shadow {
        show::line(&format!(
            "{pipeline}: revision {revision} ({}) is in shadow: `forebay deployments show {pipeline}` tells how far it is",
            revision_id.short()
        ))?;
        tell_gains(gains, " once it is active")?;
    }
    for InShadow { pipeline, revision, revision_id, gains: _ } in cancelled {
        show::line(&format!("{pipeline}: revision {revision} ({}) is cancelled", revision_id.short()))?;
    }
    if let Some(Applied { changed, former, started, stopped, waiting }) = applied {
        for what in stopped {
            show::line(&format!("{what} is stopped"))?;
        }
        for what in started {
            show::line(&format!("{what} is started"))?;
        }
        if *changed {
            let former = former.as_ref().map(|former| format!("; the former one is kept as {former}"));
            show::line(&format!("the config is in place{}", former.unwrap_or_default()))?;
        }
        if !waiting.is_empty() {
            eprintln!("warning: restart the host for {}: the rest takes effect now", waiting.join(", "));
        }
        if *changed {
            return Ok(Exit::Ok);
        }
    }
    if active.is_empty() && shadow.is_empty() && cancelled.is_empty() {
        show::line(nothing)?;
    }
    Ok(Exit::Ok)
}

/// Columns that tables had not before.
fn tell_gains(gains: &Gains, when: &str) -> anyhow::Result<()> {
    for (table, columns) in gains {
        show::line(&format!("  {table} gains {}{when}", columns.join(", ")))?;
    }
    Ok(())
}

/// All refusals as one.
pub(super) fn refusal(refused: &[Refused]) -> Option<Failure> {
    let told = refused.iter().map(|Refused { pipeline, error, hint: _ }| match pipeline {
        Some(pipeline) => format!("pipeline {pipeline} refuses it: {error}"),
        None => format!("refused: {error}"),
    });
    let told: Vec<_> = told.collect();
    let hint = refused.iter().find_map(|refused| refused.hint.clone());
    let failure = Failure::new(Exit::Failed, format!("{}; what was active goes on", told.join("; ")));
    (!told.is_empty()).then(|| match hint {
        Some(hint) => failure.with_hint(hint),
        None => failure,
    })
}
