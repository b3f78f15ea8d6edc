//! `forebay deployments`: what became of each revision that was deployed, and what is to become of one in shadow.

use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use datafusion::arrow::array::AsArray as _;
use datafusion::arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType};
use forebay_model::ports::Ledger;
use forebay_model::{Error, PipelineName, RevisionId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::listing::{self, text_value};
use super::pushing::{ask, no_host, tell};
use super::{Exit, Failure, Global, named, need_ledger, remote, show};
use crate::assemble::{self, Access};
use crate::config::Config;
use crate::query::Lake;
use crate::requests::{Active, InShadow, Push, Pushed, Seen};
use crate::shadow::{Comparison, Plan, Stage, damaged};

/// How often it is looked how far a shadow is.
const POLL: Duration = Duration::from_millis(250);

/// What became of each revision that was deployed, and what is to become of one in shadow.
///
/// A revision in shadow refines what the active one has refined, beside it, and loads nothing; the rows are compared. Where more of them
/// differ than may, it waits for `approve` or `cancel`.
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "\
Examples:
  forebay deployments list --pipeline fraud
  forebay deployments show fraud               what differs
  forebay deployments approve fraud
  forebay deployments cancel fraud --reason \"flags too many\""
)]
pub(super) struct DeploymentsArgs {
    #[command(subcommand)]
    command: DeploymentsCommand,
}

#[derive(Debug, Subcommand)]
enum DeploymentsCommand {
    List(ListArgs),
    Show(ShowArgs),
    Approve(ApproveArgs),
    Cancel(CancelArgs),
}

/// List deployments, the newest first.
///
/// States are shadow, active, retired, refused and cancelled.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  forebay deployments list
  forebay deployments list --pipeline fraud --limit 5 --json")]
struct ListArgs {
    /// Of this pipeline only.
    #[arg(long)]
    pipeline: Option<PipelineName>,
    /// At most so many.
    #[arg(long, default_value_t = 100)]
    limit: u32,
}

/// Show a deployment: its state and why, and what differs from the active revision where it was compared.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  forebay deployments show fraud               the one in shadow, or the last
  forebay deployments show fraud --revision 4")]
struct ShowArgs {
    /// The pipeline.
    pipeline: PipelineName,
    /// The revision's number. Default: the one in shadow, or else the last that was deployed.
    #[arg(long, value_name = "NUMBER")]
    revision: Option<u32>,
}

/// Let a revision in shadow become active, whatever was compared.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  forebay deployments approve fraud")]
struct ApproveArgs {
    /// The pipeline.
    pipeline: PipelineName,
}

/// Take a revision in shadow back: the active one goes on.
///
/// It does not come back by itself, also where the config means it, until the config changes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  forebay deployments cancel fraud
  forebay deployments cancel fraud --reason \"flags too many\"")]
struct CancelArgs {
    /// The pipeline.
    pipeline: PipelineName,
    /// Why; `deployments show` tells it.
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

/// A deployment, as `deployments show --json` tells it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Told {
    pipeline: PipelineName,
    revision: u32,
    revision_id: RevisionId,
    state: String,
    reason: String,
    deployed_at: String,
    retired_at: Option<String>,
    /// Where it is in shadow, or was.
    shadow: Option<ToldShadow>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct ToldShadow {
    since: String,
    plan: Plan,
    comparison: Comparison,
}

/// Where deployments are looked up.
pub(super) enum At<'a> {
    /// In the ledger.
    Ledger(&'a dyn Ledger),
    /// At a host elsewhere.
    Host(&'a remote::Host),
}

impl At<'_> {
    async fn look(&self, pipeline: &PipelineName, revision: Option<u32>) -> anyhow::Result<Told> {
        match self {
            Self::Ledger(ledger) => look(*ledger, pipeline, revision).await,
            Self::Host(host) => {
                let of = revision.map(|revision| format!("?revision={revision}")).unwrap_or_default();
                Ok(serde_json::from_value(host.get(&format!("/v1/pipelines/{pipeline}/deployment{of}")).await?)?)
            }
        }
    }

    /// A host that stopped compares nothing.
    async fn has_stopped(&self) -> anyhow::Result<bool> {
        match self {
            Self::Ledger(ledger) => Ok(ledger.host().await?.is_none()),
            // It does not answer then.
            Self::Host(_) => Ok(false),
        }
    }
}

pub(super) async fn deployments(global: &Global, config: Config, args: DeploymentsArgs) -> anyhow::Result<Exit> {
    match args.command {
        DeploymentsCommand::List(ListArgs { pipeline, limit }) => {
            let lake = Lake::open(config).await?;
            let sql = format!(
                "SELECT pipeline, revision, substr(revision_id, 1, 12) AS id, state, deployed_at, retired_at, shadow_since,
                        split_part(reason, chr(10), 1) AS reason
                 FROM ledger.deployments WHERE pipeline = $pipeline OR $pipeline IS NULL
                 ORDER BY number DESC LIMIT {}",
                u64::from(limit) + 1
            );
            let of = text_value(pipeline.as_ref().map(PipelineName::as_str));
            listing::list_first(global, lake.rows(&sql, vec![("pipeline", of)]).await?, limit)
        }
        DeploymentsCommand::Show(ShowArgs { pipeline, revision }) => {
            need_ledger(&config).await?;
            let ledger = assemble::open_ledger(&config, Access::Read).await?;
            show_one(global, &look(&*ledger, &named::pipeline(&config, pipeline.as_str())?, revision).await?)
        }
        DeploymentsCommand::Approve(ApproveArgs { pipeline }) => {
            let pipeline = named::pipeline(&config, pipeline.as_str())?;
            decide(global, &config, &pipeline.clone(), Push::Approve { pipeline }).await
        }
        DeploymentsCommand::Cancel(CancelArgs { pipeline, reason }) => {
            let pipeline = named::pipeline(&config, pipeline.as_str())?;
            decide(global, &config, &pipeline.clone(), Push::Cancel { pipeline, reason }).await
        }
    }
}

async fn decide(global: &Global, config: &Config, pipeline: &PipelineName, push: Push) -> anyhow::Result<Exit> {
    need_ledger(config).await?;
    let ledger = assemble::open_ledger(config, Access::Write).await?;
    if ledger.host().await?.is_none() {
        return Err(no_host().with_hint("start it with `forebay run`; what is in shadow goes on then").into());
    }
    let seen = Seen::all(&*ledger, [pipeline]).await?;
    tell(global, &ask(global, &*ledger, seen, push).await?, "nothing changed")
}

/// Asks a host elsewhere.
pub(super) async fn ask_host(global: &Global, host: &remote::Host, args: DeploymentsArgs) -> anyhow::Result<Exit> {
    let (pipeline, verb, fields) = match args.command {
        DeploymentsCommand::List(ListArgs { pipeline, limit }) => {
            let of = pipeline.map(|pipeline| format!("&pipeline={pipeline}")).unwrap_or_default();
            // One more tells whether there are more; a host gives a thousand at most.
            let asked = limit.saturating_add(1).min(1000);
            let answer = host.get(&format!("/v1/deployments?limit={asked}{of}")).await?;
            return listing::list_first(global, listing::of_items(&answer, listed())?, limit);
        }
        DeploymentsCommand::Show(ShowArgs { pipeline, revision }) => {
            return show_one(global, &At::Host(host).look(&pipeline, revision).await?);
        }
        DeploymentsCommand::Approve(ApproveArgs { pipeline }) => (pipeline, "approve", json!({})),
        DeploymentsCommand::Cancel(CancelArgs { pipeline, reason }) => {
            (pipeline, "cancel", json!({ "reason": reason }))
        }
    };
    let pushed = host.post(&format!("/v1/pipelines/{pipeline}/{verb}"), &fields).await?;
    tell(global, &serde_json::from_value(pushed)?, "nothing changed")
}

/// The columns of the list.
fn listed() -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let time = |name: &str| Field::new(name, DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true);
    Arc::new(Schema::new(vec![
        text("pipeline"),
        Field::new("revision", DataType::Int64, true),
        text("id"),
        text("state"),
        time("deployed_at"),
        time("retired_at"),
        time("shadow_since"),
        text("reason"),
    ]))
}

/// The deployment of a revision, or else the one in shadow, or the last.
async fn look(ledger: &dyn Ledger, pipeline: &PipelineName, revision: Option<u32>) -> anyhow::Result<Told> {
    let table = ledger.read_table("deployments").await?;
    let column = |name: &str| {
        let column = table.column_by_name(name).cloned();
        column.ok_or_else(|| Error::bug(format!("ledger.deployments has no column {name}")))
    };
    let (pipelines, states) = (column("pipeline")?, column("state")?);
    let (pipelines, states) = (pipelines.as_string::<i32>(), states.as_string::<i32>());
    let numbers = column("revision")?;
    let numbers = numbers.as_primitive::<Int64Type>();
    let mut found = None;
    for (row, ((of, state), number)) in pipelines.iter().zip(states).zip(numbers).enumerate() {
        let wanted = revision.is_none_or(|revision| number == Some(i64::from(revision)));
        if of == Some(pipeline.as_str()) && wanted {
            found = Some(row);
            if state == Some("shadow") {
                break;
            }
        }
    }
    let Some(row) = found else {
        let what = match revision {
            Some(revision) => format!("revision {revision} of pipeline {pipeline} was never deployed"),
            None => format!("pipeline {pipeline} has no deployment yet"),
        };
        return Err(Failure::new(Exit::NotFound, what)
            .with_hint("`forebay deployments list` shows what there is")
            .into());
    };
    let text = |name: &str| -> anyhow::Result<Option<String>> {
        let column = column(name)?;
        Ok(column.as_string::<i32>().iter().nth(row).flatten().map(str::to_owned))
    };
    let time = |name: &str| -> anyhow::Result<Option<String>> {
        let column = column(name)?;
        let micros = column.as_primitive::<TimestampMicrosecondType>().iter().nth(row).flatten();
        Ok(micros.map(|micros| Timestamp::from_micros(micros).to_string()))
    };
    let shadow = match (time("shadow_since")?, text("shadow_plan")?) {
        (Some(since), Some(plan)) => {
            let plan = serde_json::from_str(&plan).map_err(|error| damaged(pipeline, "shadow_plan", &error))?;
            let comparison = match text("shadow_report")? {
                Some(report) => {
                    serde_json::from_str(&report).map_err(|error| damaged(pipeline, "shadow_report", &error))?
                }
                None => Comparison::begun(&plan),
            };
            Some(ToldShadow { since, plan, comparison })
        }
        (_, _) => None,
    };
    let number = numbers.iter().nth(row).flatten().and_then(|number| u32::try_from(number).ok());
    Ok(Told {
        pipeline: pipeline.clone(),
        revision: number.unwrap_or_default(),
        revision_id: text("revision_id")?.unwrap_or_default().parse()?,
        state: text("state")?.unwrap_or_default(),
        reason: text("reason")?.unwrap_or_default(),
        deployed_at: time("deployed_at")?.unwrap_or_default(),
        retired_at: time("retired_at")?,
        shadow,
    })
}

impl Told {
    fn words(&self) -> Vec<String> {
        let Self { pipeline, revision, revision_id, state, reason, deployed_at, retired_at, shadow } = self;
        let until = retired_at.as_ref().map(|at| format!(" until {at}")).unwrap_or_default();
        let mut lines = vec![
            format!("{pipeline}: revision {revision} ({}) {state} since {deployed_at}{until}", revision_id.short()),
            format!("  {reason}"),
        ];
        lines.extend(shadow.iter().flat_map(ToldShadow::words));
        lines
    }

    fn waits(&self) -> bool {
        self.state == "shadow" && self.shadow.as_ref().is_some_and(|shadow| shadow.comparison.stage == Stage::Waiting)
    }
}

impl ToldShadow {
    fn words(&self) -> Vec<String> {
        let Self { since: _, plan, comparison } = self;
        let mut lines = vec![format!("  {}", comparison.line(plan))];
        lines.extend(comparison.words());
        lines
    }
}

fn show_one(global: &Global, told: &Told) -> anyhow::Result<Exit> {
    if global.json() {
        show::object(&serde_json::to_value(told)?)?;
    } else {
        show::line(&told.words().join("\n"))?;
        if told.waits() {
            show::line(&format!(
                "`forebay deployments approve {0}`, or `forebay deployments cancel {0}`",
                told.pipeline
            ))?;
        }
    }
    Ok(Exit::Ok)
}

/// Waits until what went into shadow has left it, or waits for a person.
///
/// # Errors
/// Exit code 3 where one waits, 1 where one was refused or cancelled, or the host stopped.
pub(super) async fn follow(global: &Global, at: &At<'_>, pushed: &Pushed) -> anyhow::Result<Exit> {
    let bar = show::spinner(global);
    let mut said = String::new();
    let told = loop {
        let mut told = Vec::new();
        for InShadow { pipeline, revision, revision_id: _, gains: _ } in &pushed.shadow {
            told.push(at.look(pipeline, Some(*revision)).await?);
        }
        // What goes on together waits together.
        if told.iter().all(|one| one.state != "shadow") || told.iter().any(Told::waits) {
            break told;
        }
        let lines = told.iter().filter_map(|one| {
            let ToldShadow { since: _, plan, comparison } = one.shadow.as_ref()?;
            Some(format!("{}: {}", one.pipeline, comparison.line(plan)))
        });
        let lines = lines.collect::<Vec<_>>().join("; ");
        match &bar {
            Some(bar) => bar.set_message(lines),
            None if lines != said && !global.quiet() => {
                eprintln!("{lines}");
                said = lines;
            }
            None => {}
        }
        if at.has_stopped().await? {
            let failure = Failure::new(Exit::Failed, "the host has stopped, and what was deployed is in shadow");
            return Err(failure.with_hint("start it again: the comparison goes on where it was").into());
        }
        tokio::time::sleep(POLL).await;
    };
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    outcome(global, pushed, &told)
}

fn outcome(global: &Global, pushed: &Pushed, told: &[Told]) -> anyhow::Result<Exit> {
    let mut done = Pushed { active: pushed.active.clone(), ..Pushed::default() };
    let mut lines = Vec::new();
    let mut failure = None;
    for one in told {
        let Told { pipeline, revision, revision_id, state, reason, .. } = one;
        let foreseen = pushed.shadow.iter().find(|shadow| shadow.revision_id == *revision_id);
        let gains = foreseen.map(|shadow| shadow.gains.clone()).unwrap_or_default();
        let named = InShadow { pipeline: pipeline.clone(), revision: *revision, revision_id: *revision_id, gains };
        lines.extend(one.shadow.iter().flat_map(ToldShadow::words));
        match state.as_str() {
            "active" | "retired" => done.active.push(Active {
                pipeline: pipeline.clone(),
                revision: *revision,
                revision_id: *revision_id,
                missing: Vec::new(),
                gains: named.gains,
            }),
            "shadow" => {
                done.shadow.push(named);
                let Some(ToldShadow { since: _, plan, comparison }) = one.shadow.as_ref().filter(|_| one.waits())
                else {
                    continue;
                };
                failure.get_or_insert_with(|| {
                    let line = comparison.line(plan);
                    Failure::new(Exit::Refused, format!("revision {revision} of pipeline {pipeline} {line}")).with_hint(format!(
                        "`forebay deployments show {pipeline}` tells what differs; then `forebay deployments approve {pipeline}`, or `cancel`"
                    ))
                });
            }
            state => {
                done.cancelled.push(named);
                let message =
                    format!("revision {revision} of pipeline {pipeline} is {state}: {reason}; what was active goes on");
                failure = Some(
                    Failure::new(Exit::Failed, message).with_hint("`forebay deployments list` shows what came when"),
                );
            }
        }
    }
    if global.json() {
        if let Some(failure) = failure {
            return Err(failure.into());
        }
        show::object(&serde_json::to_value(&done)?)?;
        return Ok(Exit::Ok);
    }
    for line in lines {
        show::line(&line)?;
    }
    match failure {
        Some(failure) => Err(failure.into()),
        None => tell(global, &done, "nothing changed"),
    }
}
