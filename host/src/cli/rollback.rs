//! `forebay rollback`: a former revision back in its place.

use clap::Args;
use datafusion::common::ScalarValue;
use forebay_model::load::Terms;
use forebay_model::{PipelineName, RevisionId};
use serde_json::json;

use super::listing::{self, text};
use super::pushing::{ask, no_host, tell};
use super::repair::made_by;
use super::replaced::Before;
use super::{Exit, Failure, Global, again, named, need_ledger, remote, show};
use crate::assemble::{self, Access};
use crate::config::Config;
use crate::query::Lake;
use crate::requests::{Push, Seen};

/// Put a former revision back: the running host takes it for the next segments.
///
/// It is the one that was active before, or any other that the ledger knows. The modules that it names become the active ones of
/// their names, so other pipelines that use them take them too. Where the config means another revision still, that one is
/// cancelled: it does not come back by itself, until the config changes or it is rolled back to. Rows that the bad revision
/// made stay as they are; with --repair they are made anew, as `forebay repair` does.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  forebay rollback                      where the config has one pipeline
  forebay rollback fraud
  forebay rollback fraud --repair
  forebay rollback fraud --to 3         its number, or the beginning of its id: `forebay revisions list`")]
pub(super) struct RollbackArgs {
    /// The pipeline. Default: the only one.
    pipeline: Option<PipelineName>,
    /// The revision. Default: the one that was active before the present one.
    #[arg(long, value_name = "REVISION")]
    to: Option<String>,
    /// Then replace the rows that the bad revision made, without asking.
    #[arg(long)]
    repair: bool,
}

pub(super) async fn rollback(global: &Global, config: Config, args: &RollbackArgs) -> anyhow::Result<Exit> {
    let RollbackArgs { pipeline, to, repair } = args;
    need_ledger(&config).await?;
    let pipeline = match pipeline {
        Some(name) => named::pipeline(&config, name.as_str())?,
        None => only(&config)?,
    };
    let ledger = assemble::open_ledger(&config, Access::Write).await?;
    if ledger.host().await?.is_none() {
        return Err(no_host().with_hint("start it with `forebay run`; it goes on with what was active").into());
    }
    let seen = Seen::all(&*ledger, [&pipeline]).await?;
    let lake = Lake::open(config).await?;
    let to = match to {
        Some(wanted) => find(&lake, &pipeline, wanted).await?,
        None => former(&lake, &pipeline).await?,
    };
    let bad = ledger.active(&pipeline).await?.map(|active| active.revision.id).filter(|bad| *bad != to);
    let pushed = ask(global, &*ledger, seen, Push::RollBack { pipeline: pipeline.clone(), to }).await?;
    let exit = tell(global, &pushed, "nothing changed")?;
    let Some(bad) = bad.filter(|_| *repair) else { return Ok(exit) };
    let mut chosen = made_by(&lake, &pipeline, &[&bad.to_string()]).await?;
    if chosen.segments.is_empty() {
        return again::tell(global, &json!({ "asked": chosen.json() }), || "no row is of the bad revision".to_owned());
    }
    loop {
        let before = Before::of(&lake, &pipeline, None).await;
        let wanted = chosen.request("forebay rollback --repair", Terms::default());
        ledger.ask_replay(&pipeline, &wanted, listing::now()).await?;
        if !global.json() {
            show::line(&format!("{pipeline}: {} of the bad revision", chosen.words()))?;
        }
        let exit = again::follow(global, &lake, &*ledger, (&chosen, before), false).await?;
        // What the bad revision had in work when it was rolled back has loaded by now: groups are done in their order.
        chosen = made_by(&lake, &pipeline, &[&bad.to_string()]).await?;
        let goes_on = ledger.host().await?.is_some() && ledger.paused(&pipeline).await?.is_none();
        if exit != Exit::Ok || chosen.segments.is_empty() || !goes_on {
            return Ok(exit);
        }
    }
}

/// Asks a host elsewhere.
pub(super) async fn ask_host(global: &Global, host: &remote::Host, args: &RollbackArgs) -> anyhow::Result<Exit> {
    let RollbackArgs { pipeline, to, repair } = args;
    if *repair {
        let failure =
            Failure::new(Exit::Usage, "--repair works beside the ledger only, and FOREBAY_URL names a host elsewhere");
        return Err(failure
            .with_hint("roll back first, then run `forebay repair --made-by` on the host's machine")
            .into());
    }
    let pipeline = match pipeline {
        Some(name) => name.clone(),
        None => {
            let answer = host.get("/v1/pipelines").await?;
            let items = answer.get("items").and_then(serde_json::Value::as_array).into_iter().flatten();
            let names = items.filter_map(|item| item.get("pipeline")?.as_str());
            only_of(&names.map(str::parse).collect::<Result<Vec<PipelineName>, _>>()?)?
        }
    };
    let fields = to.as_ref().map_or(serde_json::json!({}), |to| serde_json::json!({ "to": to }));
    let pushed = host.post(&format!("/v1/pipelines/{pipeline}/rollback"), &fields).await?;
    tell(global, &serde_json::from_value(pushed)?, "nothing changed")
}

fn only(config: &Config) -> Result<PipelineName, Failure> {
    only_of(&config.written().map(|(name, _)| name.clone()).collect::<Vec<_>>())
}

fn only_of(names: &[PipelineName]) -> Result<PipelineName, Failure> {
    match names {
        [only] => Ok(only.clone()),
        names => {
            let names: Vec<_> = names.iter().map(ToString::to_string).collect();
            let failure = Failure::new(Exit::Usage, "which pipeline?");
            Err(failure.with_hint(format!("the config has {}", names.join(", "))))
        }
    }
}

/// The revision that was active before the present one.
async fn former(lake: &Lake, pipeline: &PipelineName) -> anyhow::Result<RevisionId> {
    let sql = "SELECT revision_id FROM ledger.deployments WHERE pipeline = $pipeline AND state = 'retired'
               AND revision_id NOT IN (SELECT revision_id FROM ledger.deployments
                                       WHERE pipeline = $pipeline AND state = 'active')
               ORDER BY retired_at DESC, number DESC LIMIT 1";
    let found = listing::objects(lake, sql, vec![("pipeline", ScalarValue::from(pipeline.as_str()))]).await?;
    let found = found.first().ok_or_else(|| {
        Failure::new(Exit::NotFound, format!("pipeline {pipeline} has no former revision"))
            .with_hint("`forebay revisions list` shows what there is")
    })?;
    Ok(text(found, "revision_id").parse()?)
}

/// A revision by its number, or by the beginning of its id.
pub(super) async fn find(lake: &Lake, pipeline: &PipelineName, wanted: &str) -> anyhow::Result<RevisionId> {
    let sql = "SELECT revision_id FROM ledger.revisions WHERE pipeline = $pipeline
               AND (CAST(revision AS VARCHAR) = $wanted OR (length($wanted) >= 6 AND starts_with(revision_id, $wanted)))
               ORDER BY CAST(revision AS VARCHAR) = $wanted DESC LIMIT 2";
    let values = vec![("pipeline", ScalarValue::from(pipeline.as_str())), ("wanted", ScalarValue::from(wanted))];
    let found = listing::objects(lake, sql, values).await?;
    match found.as_slice() {
        [one] => Ok(text(one, "revision_id").parse()?),
        [] => Err(Failure::new(Exit::NotFound, format!("pipeline {pipeline} has no revision {wanted}"))
            .with_hint("`forebay revisions list` shows what there is")
            .into()),
        [..] => Err(Failure::new(Exit::Usage, format!("more than one revision of {pipeline} begins with {wanted}"))
            .with_hint("write its number")
            .into()),
    }
}
