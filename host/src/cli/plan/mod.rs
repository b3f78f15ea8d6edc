//! `forebay plan`: what a run would do. Nothing lands, nothing loads, the ledger stays as it is.

mod bind;
mod modules;
mod sample;

use clap::Args;
use forebay_model::PipelineName;
use serde_json::json;

use super::exit::report;
use super::{Exit, Global, history, named, show};
use crate::config::{Config, PipelineConfig};
use bind::{Grows, Planned, PlannedRoute, PlannedStep, PlannedTable, Planner, Typed};

/// Bind the modules and look at the tables: source ▶ landing ▶ steps ▶ tables, and the columns that would be added.
///
/// The schema is the pipeline's own, and grown as the data that comes next asks for: the beginnings of segments that wait, or else
/// of files that have not landed, are decoded. Before the first run it is inferred from the first of them, and those of its format.
/// Nothing lands and nothing loads. Exits with 2 where a pipeline would not run, and with 3 where a run would be refused.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  forebay plan
  forebay plan --pipeline fraud --json")]
pub(super) struct PlanArgs {
    /// This pipeline only; may be given many times.
    #[arg(long = "pipeline", value_name = "NAME")]
    pipelines: Vec<PipelineName>,
}

/// Whether a pipeline would bind with these settings, as a run would.
///
/// # Errors
/// Why it would not.
pub(super) async fn check(
    config: &Config,
    name: &PipelineName,
    pipeline: &PipelineConfig,
) -> forebay_model::Result<()> {
    Planner::open(config).await?.plan(name, pipeline).await.map(drop)
}

pub(super) async fn plan(global: &Global, config: &Config, args: &PlanArgs) -> anyhow::Result<Exit> {
    let PlanArgs { pipelines } = args;
    for name in pipelines {
        named::pipeline(config, name.as_str())?;
    }
    let planner = Planner::open(config).await?;
    planner.check_tables().await?;
    let mut exit = Exit::Ok;
    for (name, pipeline) in &config.pipelines {
        if !pipelines.is_empty() && !pipelines.contains(name) {
            continue;
        }
        match planner.plan(name, pipeline).await {
            Ok(planned) => {
                let planned = Planned { history: planner.history(name, pipeline).await?, ..planned };
                match global.json() {
                    true => show::object(&in_json(&planned))?,
                    false => show::line(&in_words(config, &planned))?,
                }
            }
            Err(error) => {
                report(&anyhow::Error::from(error).context(format!("pipeline {name}")), global.json());
                exit = Exit::Usage;
            }
        }
    }
    Ok(exit)
}

fn in_json(planned: &Planned) -> serde_json::Value {
    let Planned { pipeline, stream, source, typed, steps, tables, discarded, history } = planned;
    let (schema, schema_from, grows) = match typed {
        Typed::Known { fields, from, grows } => (Some(fields), Some(from), grows.as_ref()),
        Typed::Nothing => (None, None, None),
    };
    json!({
        "pipeline": pipeline,
        "stream": stream,
        "source": source,
        "schema_from": schema_from,
        "schema": schema.map(|fields| {
            fields.iter().map(|(name, data_type)| json!({ "name": name, "type": data_type })).collect::<Vec<_>>()
        }),
        "schema_grows": grows.map(|Grows { added, widened, seen, refused }| {
            json!({ "added": added, "widened": widened, "seen": seen, "refused": refused })
        }),
        "steps": steps.iter().map(step_json).collect::<Vec<_>>(),
        "tables": tables.iter().map(table_json).collect::<Vec<_>>(),
        "discarded": discarded,
        "history": history,
    })
}

fn step_json(step: &PlannedStep) -> serde_json::Value {
    let PlannedStep { name, module, version, digest, origin, reads, missing, routes } = step;
    let routes: Vec<_> = routes
        .iter()
        .map(|PlannedRoute { name, leads, columns }| json!({ "route": name, "leads": leads, "columns": columns }))
        .collect();
    json!({
        "step": name, "module": module, "version": version, "digest": digest, "origin": origin,
        "reads": reads, "missing": missing, "routes": routes,
    })
}

fn table_json(table: &PlannedTable) -> serde_json::Value {
    let PlannedTable { table, exists, columns, adds, widens, held, rejects } = table;
    json!({ "table": table, "exists": exists, "columns": columns, "adds": adds, "widens": widens, "held": held, "rejects": rejects })
}

fn in_words(config: &Config, planned: &Planned) -> String {
    let Planned { pipeline, stream, source, typed, steps, tables, discarded, history } = planned;
    let mut lines = vec![
        format!("pipeline {pipeline}"),
        format!("  {source} ▶ stream {stream} ▶ landing {}", crate::assemble::zone_place(config)),
    ];
    lines.extend(history.as_ref().map(|history| format!("  {}", history::ahead_in_words(history))));
    match typed {
        Typed::Known { fields, from, grows } => {
            lines.push(format!("  ▶ decode: {} ({from})", show::count(fields.len() as u64, "column")));
            if let Some(grows) = grows {
                grows_in_words(grows, &mut lines);
            }
        }
        Typed::Nothing => {
            lines.push("  ▶ decode: no schema yet, nothing to infer it from: put data into the source".to_owned())
        }
    }
    for (index, step) in steps.iter().enumerate() {
        let PlannedStep { name, module, version, digest, origin, reads, missing, routes } = step;
        let digest: String = digest.chars().take(12).collect();
        lines.push(format!("  ▶ step {} {name}: {module} {version} @sha256:{digest}… from {origin}", index + 1));
        if !reads.is_empty() {
            lines.push(format!("      reads {}", reads.join(", ")));
        }
        if !missing.is_empty() {
            lines.push(format!("      requires {}, which the schema lacks: every row is rejected", missing.join(", ")));
        }
        for PlannedRoute { name, leads, columns } in routes {
            lines.push(format!("      {name} ▶ {leads} ({})", show::count(*columns, "column")));
        }
    }
    for PlannedTable { table, exists, columns, adds, widens, held, rejects } in tables {
        let what = if *rejects { "rejects" } else { "rows" };
        if *exists {
            lines.push(format!("  ▶ {what}: {table}"));
        } else {
            lines.push(format!("  ▶ {what}: {table}, new, with {}", show::count(*columns, "column")));
        }
        if *exists && !adds.is_empty() {
            lines.push(format!("      adds {}", adds.join(", ")));
        }
        if !widens.is_empty() {
            lines.push(format!("      widens to float64 {}", widens.join(", ")));
        }
        if !held.is_empty() {
            lines.push(format!("      holds back {}: `forebay schema list`", held.join(", ")));
        }
    }
    if !discarded.is_empty() {
        lines.push(format!("  ▶ discarded: {}", discarded.join(", ")));
    }
    lines.join("\n")
}

fn grows_in_words(grows: &Grows, lines: &mut Vec<String>) {
    let Grows { added, widened, seen, refused } = grows;
    let mut changes = Vec::new();
    if !added.is_empty() {
        changes.push(format!("adds {}", added.join(", ")));
    }
    if !widened.is_empty() {
        changes.push(format!("widens to float64 {}", widened.join(", ")));
    }
    lines.push(format!("      grows, by {seen}: {}", changes.join("; ")));
    if let Some(refused) = refused {
        lines.push(format!("      which is refused, so that what is new is rescued: {refused}"));
    }
}
