//! `forebay repair`: rows that a wrong rule made are found, and made anew.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use clap::Args;
use forebay_model::load::Terms;
use forebay_model::ports::{Deployment, Ledger};
use forebay_model::{Digest, PipelineName, RevisionId};
use forebay_pipeline::refine::bind::Materials;
use serde_json::json;

use super::again::{Chosen, follow, tell};
use super::compare::{Compared, compare};
use super::listing::{self, number, text};
use super::replaced::Before;
use super::{Exit, Failure, Global, kept, named, need_ledger, show};
use crate::assemble::{self, Access};
use crate::config::Config;
use crate::query::{Lake, Object};

/// Segments that are refined under both revisions, to show the difference.
const LOOKED_AT: usize = 3;

/// Find the rows that a wrong revision made, show what the active one makes of them, and replace them.
///
/// A rule that is wrong traps on nothing: its rows look like others. Each row leads to the revision that made it, so the segments are
/// known. In a few of them, the newest, the first records are refined under both revisions, and what differs is shown; nothing is
/// written by that. After a yes, all of them are replayed under the active revision: see `forebay replay`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  forebay repair --made-by 3                          revision 3 of the only pipeline
  forebay repair --pipeline fraud --made-by 3 --yes
  forebay repair --made-by fraud@sha256:3f9c0a1b      all revisions with this module")]
pub(super) struct RepairArgs {
    /// A revision's number, the beginning of its id, or a module's name and the beginning of its digest.
    #[arg(long, value_name = "REVISION|MODULE@sha256:DIGEST")]
    made_by: String,
    /// The pipeline. Default: the only one; with a module, each that used it.
    #[arg(long, value_name = "NAME")]
    pipeline: Option<PipelineName>,
    /// Replace the rows without asking.
    #[arg(long)]
    yes: bool,
    /// Do not wait until it is done.
    #[arg(long)]
    detach: bool,
}

/// What a wrong revision made in a pipeline.
struct Made {
    chosen: Chosen,
    active: Deployment,
    /// The revisions, by number.
    revisions: Vec<Object>,
    compared: Vec<Compared>,
}

pub(super) async fn repair(global: &Global, config: Config, args: &RepairArgs) -> anyhow::Result<Exit> {
    let RepairArgs { made_by: wrong, pipeline, yes, detach } = args;
    need_ledger(&config).await?;
    let pipeline = pipeline.as_ref().map(|name| named::pipeline(&config, name.as_str())).transpose()?;
    let ledger = assemble::open_ledger(&config, Access::Write).await?;
    let lake = Lake::open(config).await?;
    let found = find(&lake, pipeline.as_ref(), wrong).await?;
    let mut all = Vec::new();
    for (name, revisions) in found {
        let made = look(&lake, &*ledger, name, revisions).await?;
        if !global.json() {
            show::line(&in_words(&made))?;
        }
        all.push(made);
    }
    all.retain(|made| !made.chosen.segments.is_empty());
    if all.is_empty() || !(*yes || agreed(global)?) {
        let told: Vec<_> = all.iter().map(in_json).collect();
        return tell(global, &json!({ "repairs": told, "done": false }), || match all.is_empty() {
            true => "there is nothing to replace".to_owned(),
            false => "nothing was changed; --yes replaces the rows".to_owned(),
        });
    }
    let mut exit = Exit::Ok;
    for Made { chosen, active, .. } in &all {
        let reason = format!("forebay repair --made-by {wrong}");
        let before = Before::of(&lake, &chosen.pipeline, None).await;
        ledger.ask_replay(&chosen.pipeline, &chosen.request(&reason, Terms::default()), listing::now()).await?;
        if !global.json() {
            let (pipeline, number) = (&chosen.pipeline, active.revision.number);
            show::line(&format!("{pipeline}: {} under revision {number}", chosen.words()))?;
        }
        let one = follow(global, &lake, &*ledger, (chosen, before), *detach).await?;
        exit = if one == Exit::Ok { exit } else { one };
    }
    Ok(exit)
}

/// Whether the person at the terminal says yes.
fn agreed(global: &Global) -> anyhow::Result<bool> {
    if global.json() || !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Ok(false);
    }
    eprint!("replace these rows? [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// The revisions that are meant, by pipeline.
async fn find(
    lake: &Lake,
    pipeline: Option<&PipelineName>,
    made_by: &str,
) -> anyhow::Result<Vec<(PipelineName, Vec<Object>)>> {
    let config = &lake.stores().config;
    let rows =
        listing::objects(lake, "SELECT pipeline, revision, revision_id, body FROM ledger.revisions", vec![]).await?;
    let module = made_by.split_once("@sha256:");
    let mut found: Vec<(PipelineName, Vec<Object>)> = Vec::new();
    for (name, _) in config.named_or_written(pipeline) {
        let own = rows.iter().filter(|row| text(row, "pipeline") == name.as_str());
        let meant: Vec<_> = own.filter(|row| is_meant(row, module, made_by)).cloned().collect();
        if !meant.is_empty() {
            found.push((name.clone(), meant));
        }
    }
    match (found.len(), module) {
        (0, _) => {
            let failure = Failure::new(Exit::NotFound, format!("no revision is, or uses, {made_by}"));
            Err(failure.with_hint("`forebay revisions list` and `forebay modules list` show what there is").into())
        }
        (1, _) | (_, Some(_)) => Ok(found),
        (_, None) => {
            let names: Vec<_> = found.iter().map(|(name, _)| name.to_string()).collect();
            let failure = Failure::new(Exit::Usage, format!("more than one pipeline has a revision {made_by}"));
            Err(failure.with_hint(format!("say which with --pipeline: {}", names.join(", "))).into())
        }
    }
}

fn is_meant(row: &Object, module: Option<(&str, &str)>, made_by: &str) -> bool {
    let Some((name, digest)) = module else {
        return made_by == number(row, "revision").to_string()
            || (made_by.len() >= 6 && text(row, "revision_id").starts_with(made_by));
    };
    let body: serde_json::Value = serde_json::from_str(text(row, "body")).unwrap_or_default();
    let steps = body.get("steps").and_then(|steps| steps.as_array());
    let of = |step: &serde_json::Value, key: &str| {
        step.get(key).and_then(|value| value.as_str()).unwrap_or_default().to_owned()
    };
    digest.len() >= 6
        && steps.into_iter().flatten().any(|step| of(step, "module") == name && of(step, "digest").starts_with(digest))
}

/// What they made, and what the active one makes of it.
async fn look(
    lake: &Lake,
    ledger: &dyn Ledger,
    pipeline: PipelineName,
    revisions: Vec<Object>,
) -> anyhow::Result<Made> {
    let active = ledger.active(&pipeline).await?.ok_or_else(|| {
        Failure::new(Exit::Failed, format!("pipeline {pipeline} has no active revision"))
            .with_hint("start the host: `forebay status` then tells what is active")
    })?;
    let ids: Vec<&str> = revisions.iter().map(|row| text(row, "revision_id")).collect();
    let wrong: Vec<RevisionId> = ids.iter().filter_map(|id| id.parse::<Digest>().ok()).collect();
    if wrong.contains(&active.revision.id) {
        let failure = Failure::new(
            Exit::Failed,
            format!(
                "revision {} of {pipeline} is the active one: its rows would come out the same",
                active.revision.number
            ),
        );
        return Err(failure.with_hint("deploy what is right first, or `forebay rollback`").into());
    }
    let chosen = made_by(lake, &pipeline, &ids).await?;
    let mut compared = Vec::new();
    if let (Some(last), false) = (wrong.last(), chosen.segments.is_empty()) {
        let zone = assemble::open_zone(&lake.stores().config, Access::Read)?;
        let sandbox = sandbox(lake, &pipeline)?;
        let record = ledger.revision(&pipeline, *last).await?;
        let record = record.ok_or_else(|| Failure::new(Exit::NotFound, "the revision is gone from the ledger"))?;
        let was = kept::materials(&*zone, &sandbox, record.revision, record.number).await?;
        let now = active.revision.clone();
        let is = kept::materials(&*zone, &sandbox, now.revision, now.number).await?;
        for segment in chosen.segments.iter().rev().take(LOOKED_AT) {
            let copy = |of: &Materials| of.clone();
            compared.extend(compare(lake, &pipeline, segment, copy(&was), copy(&is)).await?);
        }
    }
    Ok(Made { chosen, active, revisions, compared })
}

/// Segments with rows of these revisions: made when all of the segment was refined, or healed.
pub(super) async fn made_by(lake: &Lake, pipeline: &PipelineName, revisions: &[&str]) -> anyhow::Result<Chosen> {
    let list = revisions.iter().map(|id| format!("'{id}'")).collect::<Vec<_>>().join(", ");
    let condition = format!(
        "r.revision_id IN ({list}) OR r.segment IN (SELECT h.segment FROM ledger.heals h WHERE h.pipeline = $pipeline
         AND h.revision_id IN ({list}))"
    );
    Chosen::of(lake, pipeline, (None, None), &condition, Vec::new()).await
}

/// With the pipeline's own limits.
pub(super) fn sandbox(lake: &Lake, pipeline: &PipelineName) -> anyhow::Result<forebay_sandbox::Sandbox> {
    let config = &lake.stores().config;
    let sandbox = assemble::open_sandbox(config)?;
    match config.pipelines.get(pipeline) {
        Some(settings) => Ok(assemble::with_limits(&sandbox, &settings.limits)?),
        None => Ok(sandbox),
    }
}

fn in_words(made: &Made) -> String {
    let Made { chosen, active, revisions, compared } = made;
    let numbers: Vec<_> = revisions.iter().map(|row| number(row, "revision").to_string()).collect();
    let pipeline = &chosen.pipeline;
    let by = if numbers.len() == 1 { "revision" } else { "revisions" };
    if chosen.segments.is_empty() {
        return format!("{pipeline}: no row is of {by} {} any more", numbers.join(", "));
    }
    let mut lines = vec![format!("{pipeline}: {by} {} made rows of {}", numbers.join(", "), chosen.words())];
    lines.push(format!("what revision {}, which is active, makes of the newest of them:", active.revision.number));
    lines.extend(compared.iter().flat_map(Compared::words));
    lines.join("\n")
}

fn in_json(made: &Made) -> serde_json::Value {
    let Made { chosen, active, revisions, compared } = made;
    let numbers: Vec<_> = revisions.iter().map(|row| number(row, "revision")).collect();
    json!({
        "made": chosen.json(), "revisions": numbers, "active": active.revision.number,
        "compared": compared.iter().map(Compared::json).collect::<Vec<_>>(),
    })
}
