//! `forebay maintain`: large files of small ones, and what no version needs removed.
//!
//! A table has one committer. Where a host runs, it is that host's: the verb asks it through the ledger and waits;
//! otherwise the verb takes the host's lease itself while it works. So nobody lands anything that the sweep of the landing
//! zone could take for an orphan, except the host that sweeps, and that one spares what it has written since it started.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use forebay_model::ids::WarehouseName;
use forebay_model::ports::{LandingZone, Ledger, MaintainOptions, MaintainReport, Warehouse};
use forebay_model::{TableName, Timestamp};
use forebay_pipeline::orphans::{SweepOptions, SweepReport, sweep};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Exit, Failure, Global, listing, need_ledger, show};
use crate::assemble::{self, Access};
use crate::config::{Config, format_bytes};
use crate::requests::MaintainRequest;
use crate::run::check_tables;
use crate::who::who;

/// Make large files of small ones, and remove what nothing needs, from tables and landing zone. Safe while `run` runs.
///
/// A table whose files are many and small is slow to read. Compaction changes no row. Old files are kept for
/// maintain.retention, for readers that still use an older version. Objects of the landing zone that no ledger lists (a
/// process died while it landed them) are removed when they are as old; what is listed or journalled never is.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  forebay maintain
  forebay maintain --dry-run                 what would be done
  forebay maintain --table lake.payments")]
pub(super) struct MaintainArgs {
    /// Say what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// This table only; may be given many times. Default: all tables of the config's pipelines, and the landing zone.
    #[arg(long = "table", value_name = "TABLE")]
    tables: Vec<TableName>,
}

/// What was done to a table, or why not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TableMaintained {
    table: TableName,
    report: Option<MaintainReport>,
    error: Option<String>,
}

/// What was done to the landing zone, or why not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ZoneMaintained {
    report: Option<SweepReport>,
    error: Option<String>,
}

/// All that was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Maintained {
    tables: Vec<TableMaintained>,
    zone: Option<ZoneMaintained>,
}

/// What is maintained.
pub(crate) struct Stores<'a> {
    pub(crate) ledger: &'a dyn Ledger,
    pub(crate) zone: &'a dyn LandingZone,
    pub(crate) warehouses: &'a BTreeMap<WarehouseName, Arc<dyn Warehouse>>,
    /// Since when the host runs that maintains them; `None` where none runs.
    pub(crate) host_since: Option<Timestamp>,
}

/// How often the answer is looked for.
const POLL: Duration = Duration::from_millis(200);

pub(super) async fn maintain(global: &Global, config: Config, args: MaintainArgs) -> anyhow::Result<Exit> {
    let MaintainArgs { dry_run, tables } = args;
    let request = MaintainRequest { zone: tables.is_empty(), tables: chosen(&config, tables)?, dry_run, by: who() };
    need_ledger(&config).await?;
    let ledger = assemble::open_ledger(&config, Access::Write).await?;
    let spinner = show::spinner(global);
    let say = |text: &str| {
        if let Some(bar) = &spinner {
            bar.set_message(text.to_owned());
        }
    };
    let done = match ledger.lease_host().await? {
        Some(lease) => {
            say("maintaining");
            let mut warehouses = BTreeMap::new();
            for name in config.warehouses.keys() {
                warehouses.insert(name.clone(), assemble::open_warehouse(&config, name, Access::Write).await?);
            }
            // As a run does: a table that was put back as it was, or lost a commit, is not committed to.
            check_tables(&config, &*ledger, &warehouses).await?;
            let zone = assemble::open_zone(&config, Access::Read)?;
            let stores = Stores { ledger: &*ledger, zone: &*zone, warehouses: &warehouses, host_since: None };
            let done = maintain_all(&config, stores, &request, listing::now()).await?;
            drop(lease);
            done
        }
        None => {
            say("a host runs: waiting for it to maintain its tables");
            let number = ledger.ask(MaintainRequest::WHAT, &serde_json::to_value(&request)?, listing::now()).await?;
            answer(&*ledger, number).await?
        }
    };
    if let Some(bar) = spinner {
        bar.finish_and_clear();
    }
    tell(global, &request, &done)
}

/// The tables that were named, or all.
fn chosen(config: &Config, named: Vec<TableName>) -> anyhow::Result<Vec<TableName>> {
    let all: Vec<_> = config.tables().into_keys().collect();
    if named.is_empty() {
        return Ok(all);
    }
    if let Some(unknown) = named.iter().find(|table| !all.contains(table)) {
        let names: Vec<_> = all.iter().map(ToString::to_string).collect();
        let failure = Failure::new(Exit::Usage, format!("no pipeline loads {unknown}"));
        return Err(failure.with_hint(format!("there is {}", names.join(", "))).into());
    }
    Ok(named)
}

/// Maintains tables, one after the other, and the landing zone; one that fails does not keep the others from it. Called by the
/// host that runs too.
///
/// # Errors
/// Where the ledger cannot be read.
pub(crate) async fn maintain_all(
    config: &Config,
    stores: Stores<'_>,
    request: &MaintainRequest,
    now: Timestamp,
) -> forebay_model::Result<Maintained> {
    let Stores { ledger, zone, warehouses, host_since } = stores;
    let MaintainRequest { tables, zone: with_zone, dry_run, by: _ } = request;
    let tables = maintain_tables(config, ledger, warehouses, tables, *dry_run, now).await?;
    let mut done = Maintained { tables, zone: None };
    if *with_zone {
        let options = SweepOptions { age: config.maintain.retention, now, host_since, dry_run: *dry_run };
        done.zone = Some(match sweep(zone, ledger, assemble::ATTEMPT_OF, options).await {
            Ok(report) => ZoneMaintained { report: Some(report), error: None },
            Err(error) => {
                tracing::warn!(error = error.chain(), hint = error.hint(), "landing zone not swept");
                ZoneMaintained { report: None, error: Some(error.chain()) }
            }
        });
    }
    Ok(done)
}

async fn maintain_tables(
    config: &Config,
    ledger: &dyn Ledger,
    warehouses: &BTreeMap<WarehouseName, Arc<dyn Warehouse>>,
    tables: &[TableName],
    dry_run: bool,
    now: Timestamp,
) -> forebay_model::Result<Vec<TableMaintained>> {
    let mut done = Vec::new();
    for table in tables {
        let Some(warehouse) = warehouses.get(&table.warehouse) else { continue };
        // Read anew for each table: loads may be opened meanwhile.
        let mut keep_staged = Vec::new();
        for pipeline in config.pipelines.keys() {
            for group in ledger.open_groups(pipeline).await? {
                let loads = group.loads.iter().filter(|load| load.table == *table);
                keep_staged.extend(loads.flat_map(|load| load.files.iter().map(|file| file.path.clone())));
            }
        }
        let options = MaintainOptions {
            target_file_bytes: config.maintain.target_file,
            retention: config.maintain.retention,
            dry_run,
            now,
            keep_staged,
        };
        let outcome = match warehouse.table(&table.table).await {
            Ok(there) => warehouse.maintain(&table.table, &options).await.map(|report| (there, report)),
            Err(error) => Err(error),
        };
        let (report, error) = match outcome {
            // A table that nothing was loaded to yet is not there; it is told only where something was staged for it.
            Ok((None, report)) if report.vacuumed_files == 0 => continue,
            Ok((_, report)) => (Some(report), None),
            Err(error) => {
                tracing::warn!(%table, error = error.chain(), "table not maintained");
                (None, Some(error.chain()))
            }
        };
        done.push(TableMaintained { table: table.clone(), report, error });
    }
    Ok(done)
}

/// Waits for the host's answer. When the host stops meanwhile, nobody will answer: that is told.
async fn answer(ledger: &dyn Ledger, number: u64) -> anyhow::Result<Maintained> {
    loop {
        if let Some(answer) = ledger.answered(number).await? {
            return read_answer(answer);
        }
        // Looked at without taking it: a host that starts meanwhile is not kept out.
        if ledger.host().await?.is_none() {
            let failure = Failure::new(Exit::Failed, "the host that ran has stopped without an answer");
            return Err(failure.with_hint("run `forebay maintain` again: it then works by itself").into());
        }
        tokio::time::sleep(POLL).await;
    }
}

fn read_answer(answer: Value) -> anyhow::Result<Maintained> {
    if let Some(error) = answer.get("error").and_then(Value::as_str) {
        return Err(Failure::new(Exit::Failed, format!("the host that runs says: {error}")).into());
    }
    Ok(serde_json::from_value(answer)?)
}

fn tell(global: &Global, request: &MaintainRequest, done: &Maintained) -> anyhow::Result<Exit> {
    let Maintained { tables, zone } = done;
    let failed =
        tables.iter().map(|table| &table.error).chain(zone.iter().map(|zone| &zone.error)).any(Option::is_some);
    for TableMaintained { table, report, error } in tables {
        if global.json() {
            show::object(&serde_json::json!({
                "table": table, "dry_run": request.dry_run, "report": report, "error": error,
            }))?;
            continue;
        }
        let would = if request.dry_run { "would be " } else { "" };
        match (report, error) {
            (Some(report), _) => {
                let MaintainReport {
                    files_before,
                    files_after,
                    compacted_files,
                    compacted_bytes,
                    vacuumed_files,
                    vacuumed_bytes,
                } = report;
                show::line(&format!(
                    "{table}: {} → {files_after}; {} ({}) {would}compacted, {} ({}) {would}removed",
                    show::count(*files_before, "file"),
                    show::count(*compacted_files, "file"),
                    format_bytes(*compacted_bytes),
                    show::count(*vacuumed_files, "old file"),
                    format_bytes(*vacuumed_bytes),
                ))?;
            }
            (None, error) => show::line(&format!("{table}: failed: {}", error.as_deref().unwrap_or_default()))?,
        }
    }
    if tables.is_empty() && !global.json() {
        show::line("there is no table yet")?;
    }
    if let Some(zone) = zone {
        tell_zone(global, request, zone)?;
    }
    Ok(if failed { Exit::Failed } else { Exit::Ok })
}

fn tell_zone(global: &Global, request: &MaintainRequest, done: &ZoneMaintained) -> std::io::Result<()> {
    let ZoneMaintained { report, error } = done;
    if global.json() {
        return show::object(
            &serde_json::json!({ "zone": true, "dry_run": request.dry_run, "report": report, "error": error }),
        );
    }
    let Some(SweepReport { orphans, orphan_bytes, temporary, missing, missing_names }) = report else {
        return show::line(&format!("landing zone: failed: {}", error.as_deref().unwrap_or_default()));
    };
    let would = if request.dry_run { "would be " } else { "" };
    let mut lines = vec![format!(
        "landing zone: {} ({}) {would}removed",
        show::count(*orphans, "orphan"),
        format_bytes(*orphan_bytes)
    )];
    if *temporary > 0 {
        lines.push(format!("  {} of dead processes removed", show::count(*temporary, "unfinished file")));
    }
    if *missing > 0 {
        let objects = show::count(*missing, "listed object");
        lines.push(format!(
            "  {objects} not there, restore them from a backup of the zone: {}",
            missing_names.join(", ")
        ));
    }
    show::line(&lines.join("\n"))
}
