//! `forebay maintain`: large files of small ones, and what no version needs removed.
//!
//! A table has one committer. Where a host runs, it is that host's: the verb asks it through the ledger and waits;
//! otherwise the verb takes the host's lease itself while it works.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use forebay_model::ids::WarehouseName;
use forebay_model::ports::{Ledger, MaintainOptions, MaintainReport, Warehouse};
use forebay_model::{TableName, Timestamp};
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Exit, Failure, Global, listing, need_ledger, show};
use crate::assemble::{self, Access};
use crate::config::{Config, format_bytes};

/// Make large files of small ones, and remove files that no version needs. Safe while `run` runs.
///
/// A table whose files are many and small is slow to read. Compaction changes no row. Old files are kept for
/// maintain.retention, for readers that still use an older version.
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
    /// This table only; may be given many times. Default: all tables of the config's pipelines.
    #[arg(long = "table", value_name = "TABLE")]
    tables: Vec<TableName>,
}

/// What is asked of the host that runs, and its answer: the argument and the answer of the request `maintain`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MaintainRequest {
    /// Which tables.
    pub(crate) tables: Vec<TableName>,
    /// Say what would be done only.
    pub(crate) dry_run: bool,
}

impl MaintainRequest {
    /// The request's name in the ledger.
    pub(crate) const WHAT: &'static str = "maintain";
}

/// What was done to a table, or why not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TableMaintained {
    table: TableName,
    report: Option<MaintainReport>,
    error: Option<String>,
}

/// How often the answer is looked for.
const POLL: Duration = Duration::from_millis(200);

pub(super) async fn maintain(global: &Global, config: Config, args: MaintainArgs) -> anyhow::Result<Exit> {
    let MaintainArgs { dry_run, tables } = args;
    let request = MaintainRequest { tables: chosen(&config, tables)?, dry_run };
    need_ledger(&config)?;
    let ledger = assemble::open_ledger(&config, Access::Write).await?;
    let spinner = global.progress().then(|| {
        let style =
            ProgressStyle::with_template("{spinner} {msg} ({elapsed})").unwrap_or(ProgressStyle::default_spinner());
        let bar = ProgressBar::new_spinner().with_style(style);
        bar.enable_steady_tick(POLL);
        bar
    });
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
                warehouses.insert(name.clone(), assemble::open_warehouse(&config, name).await?);
            }
            let done = maintain_tables(&config, &*ledger, &warehouses, &request, listing::now()).await?;
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

/// Maintains tables, one after the other; one that fails does not keep the others from it. Called by the host that runs too.
///
/// # Errors
/// Where the ledger cannot be read.
pub(crate) async fn maintain_tables(
    config: &Config,
    ledger: &dyn Ledger,
    warehouses: &BTreeMap<WarehouseName, std::sync::Arc<dyn Warehouse>>,
    request: &MaintainRequest,
    now: Timestamp,
) -> forebay_model::Result<Vec<TableMaintained>> {
    let MaintainRequest { tables, dry_run } = request;
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
            dry_run: *dry_run,
            now,
            keep_staged,
        };
        // A table that nothing was loaded to yet is not there.
        let outcome = match warehouse.table(&table.table).await {
            Ok(None) => continue,
            Ok(Some(_)) => warehouse.maintain(&table.table, &options).await,
            Err(error) => Err(error),
        };
        let (report, error) = match outcome {
            Ok(report) => (Some(report), None),
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
async fn answer(ledger: &dyn Ledger, number: u64) -> anyhow::Result<Vec<TableMaintained>> {
    loop {
        if let Some(answer) = ledger.answered(number).await? {
            return read_answer(answer);
        }
        if let Some(lease) = ledger.lease_host().await? {
            drop(lease);
            let failure = Failure::new(Exit::Failed, "the host that ran has stopped without an answer");
            return Err(failure.with_hint("run `forebay maintain` again: it then works by itself").into());
        }
        tokio::time::sleep(POLL).await;
    }
}

fn read_answer(answer: Value) -> anyhow::Result<Vec<TableMaintained>> {
    if let Some(error) = answer.get("error").and_then(Value::as_str) {
        return Err(Failure::new(Exit::Failed, format!("the host that runs says: {error}")).into());
    }
    Ok(serde_json::from_value(answer)?)
}

fn tell(global: &Global, request: &MaintainRequest, done: &[TableMaintained]) -> anyhow::Result<Exit> {
    let failed = done.iter().any(|table| table.error.is_some());
    for TableMaintained { table, report, error } in done {
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
    if done.is_empty() && !global.json() {
        show::line("there is no table yet")?;
    }
    Ok(if failed { Exit::Failed } else { Exit::Ok })
}
