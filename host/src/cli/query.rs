//! `forebay query`: SQL over tables, rejects, raw segments and the ledger.

use clap::Args;
use futures::StreamExt as _;

use super::{Exit, Global, show};
use crate::config::Config;
use crate::query::Lake;
use crate::query::render::{Format, Writer};

/// Ask with SQL: tables, rejects, raw segments, and the ledger itself.
///
/// Tables are `<warehouse>.<table>`, and with one warehouse `<table>` is enough; `rejects.<pipeline>` are the refused
/// records, `raw.<stream>` the landed ones as text, `ledger.*` what docs/ledger.md describes (`SHOW TABLES` lists all).
/// Names keep the input's case: those with capitals or dashes stand in double quotes. Reads only, also while `run` runs.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  forebay query \"SELECT count(*) FROM lake.payments WHERE flagged AND \\\"Class\\\" = 1\"
  forebay query \"SELECT code, count(*) FROM rejects.fraud GROUP BY code\"
  forebay query \"SELECT raw FROM raw.payments WHERE object = '2013-09-01.csv' LIMIT 3\"
  forebay query \"SELECT * FROM ledger.loads ORDER BY number DESC\" --format jsonl")]
pub(super) struct QueryArgs {
    /// The statement.
    sql: String,
    /// How the rows are written. Default: table; with --json, jsonl.
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// At most so many rows; 0 for all. Default: 1000 for a table, all for jsonl and csv.
    #[arg(long, value_name = "ROWS")]
    limit: Option<usize>,
}

/// Rows of a table that are shown where nobody said how many: a table is kept in memory until it is whole.
const TABLE_ROWS: usize = 1000;

pub(super) async fn query(global: &Global, config: Config, args: &QueryArgs) -> anyhow::Result<Exit> {
    let QueryArgs { sql, format, limit } = args;
    let format = format.unwrap_or(if global.json() { Format::Jsonl } else { Format::Table });
    let limit = match (*limit, format) {
        (Some(0), _) | (None, Format::Jsonl | Format::Csv) => usize::MAX,
        (Some(limit), _) => limit,
        (None, Format::Table) => TABLE_ROWS,
    };
    let lake = Lake::open(config).await?;
    let frame = lake.sql(sql).await?;
    let schema = std::sync::Arc::clone(frame.schema().inner());
    let mut stream = frame.execute_stream().await.map_err(|error| lake.explain(&error))?;
    let mut writer = Writer::new(format, schema, std::io::BufWriter::new(std::io::stdout().lock()));
    let mut left = limit;
    let mut more = false;
    while let Some(batch) = stream.next().await {
        let batch = batch.map_err(|error| lake.explain(&error))?;
        more = batch.num_rows() > left;
        writer.write(batch.slice(0, batch.num_rows().min(left)))?;
        left = left.saturating_sub(batch.num_rows());
        if more {
            break;
        }
    }
    writer.finish()?;
    if more && !global.quiet() {
        let shown = show::thousands(u64::try_from(limit).unwrap_or(u64::MAX));
        eprintln!("{shown} rows are shown, there are more: --limit 0 shows all, --format jsonl is made for many");
    }
    Ok(Exit::Ok)
}
