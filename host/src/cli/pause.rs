//! `forebay pause` and `forebay resume`: a pipeline that is given no work, while its stream goes on landing.

use clap::Args;
use forebay_model::PipelineName;

use super::{Exit, Global, listing, named, need_ledger, remote, show};
use crate::assemble::{self, Access};
use crate::config::Config;
use crate::who::who;

/// Stop a pipeline from taking segments. Its stream goes on landing; what is under way is finished.
///
/// It holds across restarts, until `forebay resume`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  forebay pause fraud
  forebay pause fraud --reason \"lake.payments is being moved\"")]
pub(super) struct PauseArgs {
    /// The pipeline.
    pipeline: PipelineName,
    /// Why; `forebay status` shows it.
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

/// Let a paused pipeline take segments again: first those that have waited.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  forebay resume fraud")]
pub(super) struct ResumeArgs {
    /// The pipeline.
    pipeline: PipelineName,
}

pub(super) async fn pause(global: &Global, config: &Config, args: &PauseArgs) -> anyhow::Result<Exit> {
    let PauseArgs { pipeline, reason } = args;
    let pipeline = named::pipeline(config, pipeline.as_str())?;
    need_ledger(config).await?;
    let ledger = assemble::open_ledger(config, Access::Write).await?;
    let before = ledger.paused(&pipeline).await?;
    let reason = match reason.as_str() {
        "" => format!("by {}", who()),
        reason => format!("{reason}, by {}", who()),
    };
    ledger.pause(&pipeline, &reason, listing::now()).await?;
    if global.json() {
        let paused = ledger.paused(&pipeline).await?;
        let paused =
            paused.map(|pause| serde_json::json!({ "reason": pause.reason, "since": pause.since.to_string() }));
        show::object(&serde_json::json!({ "pipeline": pipeline, "paused": paused }))?;
    } else if before.is_some() {
        show::line(&format!("{pipeline} was paused already"))?;
    } else {
        show::line(&format!("{pipeline} is paused: its segments wait, until `forebay resume {pipeline}`"))?;
    }
    Ok(Exit::Ok)
}

pub(super) async fn resume(global: &Global, config: &Config, args: &ResumeArgs) -> anyhow::Result<Exit> {
    let ResumeArgs { pipeline } = args;
    let pipeline = named::pipeline(config, pipeline.as_str())?;
    need_ledger(config).await?;
    let ledger = assemble::open_ledger(config, Access::Write).await?;
    let was_paused = ledger.resume(&pipeline).await?;
    if global.json() {
        show::object(&serde_json::json!({ "pipeline": pipeline, "was_paused": was_paused }))?;
    } else if was_paused {
        show::line(&format!("{pipeline} takes segments again"))?;
    } else {
        show::line(&format!("{pipeline} was not paused"))?;
    }
    Ok(Exit::Ok)
}

/// Asks a host elsewhere.
pub(super) async fn ask_host_to_pause(global: &Global, host: &remote::Host, args: &PauseArgs) -> anyhow::Result<Exit> {
    let PauseArgs { pipeline, reason } = args;
    let fields = serde_json::json!({ "reason": reason });
    let answer = host.post(&format!("/v1/pipelines/{pipeline}/pause"), &fields).await?;
    if global.json() {
        show::object(&answer)?;
    } else {
        show::line(&format!("{pipeline} is paused: its segments wait, until `forebay resume {pipeline}`"))?;
    }
    Ok(Exit::Ok)
}

/// The same.
pub(super) async fn ask_host_to_resume(
    global: &Global,
    host: &remote::Host,
    args: &ResumeArgs,
) -> anyhow::Result<Exit> {
    let ResumeArgs { pipeline } = args;
    let answer = host.post(&format!("/v1/pipelines/{pipeline}/resume"), &serde_json::json!({})).await?;
    if global.json() {
        show::object(&answer)?;
    } else if answer.get("was_paused").and_then(serde_json::Value::as_bool) == Some(false) {
        show::line(&format!("{pipeline} was not paused"))?;
    } else {
        show::line(&format!("{pipeline} takes segments again"))?;
    }
    Ok(Exit::Ok)
}
