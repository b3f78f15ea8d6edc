//! `forebay recover`: the ledger again, from the landing zone and the tables.
//!
//! What is found and what comes of it is `forebay_pipeline::recover`'s; here it is looked for, told, and put into place. The new
//! ledger appears whole or not at all, and an old one is moved aside last, so a recovery that is cut short is begun again.

use std::collections::BTreeMap;
use std::sync::Mutex;

use clap::Args;
use forebay_model::ids::WarehouseName;
use forebay_model::ports::{Warehouse, ZoneIdentity};
use forebay_pipeline::recover::{Damage, PipelineReport, Plan, Report, StreamReport, gather, plan};
use serde_json::json;

use super::{Exit, Failure, Global, another_host, listing, show};
use crate::assemble::{self, Access};
use crate::config::{Config, format_bytes};
use crate::failpoint::failpoint;

/// Rebuild a ledger that is lost, damaged or too old, from the landing zone and the tables.
///
/// Landings come from the journal of the landing zone; which segments are loaded is told by the tables. What is not certain
/// is refined again and replaces its rows, so a run afterwards neither loses nor doubles a row. Counts of records, failures
/// and approvals that only the old ledger knew are gone.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  forebay recover --dry-run       what there is, and what would be refined again
  forebay recover                 where there is no ledger any more
  forebay recover --replace       where there is one that is damaged or too old; it is kept under another name
  forebay recover --replace --refine-all     where a table was removed, or put back as it was")]
pub(super) struct RecoverArgs {
    /// Say what would be done, and write nothing.
    #[arg(long)]
    dry_run: bool,
    /// Move the ledger that is there aside, under a name with the time.
    #[arg(long)]
    replace: bool,
    /// Go on without journal entries that cannot be read. What they list lands again where its source still has it; their
    /// objects stay in the zone.
    #[arg(long)]
    skip_damaged: bool,
    /// Have every segment refined again, and replace its rows in every table: where a table was removed, or put back as it was
    /// long ago.
    #[arg(long)]
    refine_all: bool,
}

pub(super) async fn recover(global: &Global, config: &Config, args: &RecoverArgs) -> anyhow::Result<Exit> {
    let RecoverArgs { dry_run, replace, skip_damaged, refine_all } = *args;
    if !replace && !dry_run {
        assemble::no_ledger(config).await?;
    }
    let Some(lease) = assemble::lease_ledger(config).await? else {
        return Err(another_host(assemble::ledger_holder(config).await?).into());
    };
    let mut plan = look(global, config, if skip_damaged { Damage::Skip } else { Damage::Refuse }).await?;
    if refine_all {
        plan.refine_all(listing::now());
    }
    let aside = if dry_run { Vec::new() } else { put(config, &plan, replace).await? };
    drop(lease);
    tell(global, config, &plan.report, dry_run, &aside)?;
    Ok(Exit::Ok)
}

/// Looks at the zone and the warehouses, and decides.
async fn look(global: &Global, config: &Config, damage: Damage) -> anyhow::Result<Plan> {
    let bar = Mutex::new(show::spinner(global));
    let say = |text: String| {
        if let Ok(Some(bar)) = bar.lock().as_deref() {
            bar.set_message(text);
        }
    };
    let zone = assemble::open_zone(config, Access::Read)?;
    let mut warehouses: BTreeMap<WarehouseName, std::sync::Arc<dyn Warehouse>> = BTreeMap::new();
    for name in config.warehouses.keys() {
        warehouses.insert(name.clone(), assemble::open_warehouse(config, name, Access::Read).await?);
    }
    let streams = config.pipelines.iter().map(|(name, pipeline)| (name.clone(), pipeline.from.clone())).collect();
    let found = gather(zone.as_ref(), &warehouses, streams, &say).await?;
    if let Ok(Some(bar)) = bar.lock().as_deref() {
        bar.finish_and_clear();
    }
    Ok(plan(found, damage, listing::now())?)
}

/// Puts the ledger into place; what was moved aside for it.
async fn put(config: &Config, plan: &Plan, replace: bool) -> anyhow::Result<Vec<String>> {
    let Plan { ledger, content, report } = plan;
    let zone = assemble::open_zone(config, Access::Write)?;
    zone.claim(&ZoneIdentity { version: 1, ledger: *ledger, since: listing::now() }).await?;
    failpoint("recover_claimed");
    for kept in plan.to_keep() {
        zone.keep(&kept.name(), kept.to_bytes()?.into()).await?;
    }
    // Before the ledger is there: a recovery that dies in between is begun again, and nothing of them is left for a later one, to
    // which they would not be the newest.
    for damaged in &report.damaged {
        zone.set_aside(&damaged.name).await?;
    }
    failpoint("recover_set_aside");
    let aside = assemble::rebuild_ledger(config, *ledger, content, replace).await?;
    failpoint("recovered");
    Ok(aside)
}

fn tell(global: &Global, config: &Config, report: &Report, dry_run: bool, aside: &[String]) -> anyhow::Result<()> {
    if global.json() {
        let mut object = serde_json::to_value(report)?;
        if let Some(object) = object.as_object_mut() {
            object.insert("dry_run".to_owned(), json!(dry_run));
            object.insert("path".to_owned(), json!(assemble::ledger_place(config)));
            object.insert("moved_aside".to_owned(), json!(aside));
        }
        return Ok(show::object(&object)?);
    }
    let Report { ledger, streams, pipelines, foreign, damaged, gaps } = report;
    let place = assemble::ledger_place(config);
    let would = if dry_run { "would be " } else { "" };
    let mut lines = vec![format!("ledger {ledger} {would}rebuilt at {place}")];
    lines.extend(aside.iter().map(|place| format!("  moved aside: {place}")));
    for stream in streams {
        stream_in_words(stream, &mut lines);
    }
    for pipeline in pipelines {
        pipeline_in_words(pipeline, &mut lines);
    }
    lines.extend(foreign.iter().map(|table| format!("{table} is loaded by another ledger, and left alone")));
    for entry in damaged {
        let what = &entry.what;
        lines.push(format!("journal entry {} cannot be read ({what}); {would}set aside as {0}.damaged", entry.name));
        lines.push("  its source delivers again what it still has".to_owned());
    }
    lines.extend(gaps.iter().map(|gap| format!("missing in the journal: {gap}")));
    if !dry_run {
        lines.push("next: `forebay run`".to_owned());
    }
    Ok(show::line(&lines.join("\n"))?)
}

fn stream_in_words(stream: &StreamReport, lines: &mut Vec<String>) {
    let StreamReport { stream, landings, segments, bytes, missing } = stream;
    lines.push(format!(
        "stream {stream}: {}, {} ({})",
        show::count(*landings, "landing"),
        show::count(*segments, "segment"),
        format_bytes(*bytes)
    ));
    for object in missing {
        lines
            .push(format!("  {object} is not in the landing zone, or not whole: restore it from a backup of the zone"));
    }
}

fn pipeline_in_words(pipeline: &PipelineReport, lines: &mut Vec<String>) {
    let PipelineReport {
        pipeline,
        last_number,
        tables,
        loaded,
        again,
        superseded,
        without_rows,
        unlisted,
        revision,
        schema,
    } = pipeline;
    let tables: Vec<_> = tables.iter().map(ToString::to_string).collect();
    let tables = if tables.is_empty() { "no table".to_owned() } else { tables.join(", ") };
    lines.push(format!("pipeline {pipeline}: {last_number} loads to {tables}"));
    let segments = |number: u64| show::count(number, "segment");
    lines.push(format!(
        "  {} loaded, {} to refine again (their rows are replaced), {} without rows (to refine), {} superseded",
        segments(*loaded),
        segments(*again),
        segments(*without_rows),
        segments(*superseded),
    ));
    let known = |what: &str, number: &Option<u32>| match number {
        Some(number) => format!("{what} {number}"),
        None => format!("no {what} was kept: the next run makes it"),
    };
    lines.push(format!("  {}, {}", known("revision", revision), known("schema version", schema)));
    if !unlisted.is_empty() {
        lines.push(format!(
            "  {} with rows that the journal does not have: kept, and replaced when they land again",
            segments(unlisted.len() as u64)
        ));
        lines.extend(unlisted.iter().take(10).map(|segment| format!("    {segment}")));
    }
}

/// What a run is told that finds no ledger where there was one.
pub(crate) fn lost(config: &Config, owner: &str) -> Failure {
    let place = assemble::ledger_place(config);
    Failure::new(Exit::Refused, format!("there is no ledger at {place}, and {owner}")).with_hint(
        "put the ledger back from a backup that is not older than its tables, or rebuild it with `forebay recover`; for a new \
         one, give it an empty landing zone and new tables",
    )
}
