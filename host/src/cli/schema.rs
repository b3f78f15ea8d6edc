//! `forebay schema`: changes of tables that wait for approval.

use clap::{Args, Subcommand};
use forebay_model::TableName;
use serde_json::json;

use super::{Exit, Failure, Global, listing, need_ledger, show};
use crate::assemble::{self, Access};
use crate::config::Config;
use crate::query::Lake;

/// Changes of tables' schemas that wait for approval.
///
/// A route with schema_changes = "hold" rescues what is new, in `_forebay_rescued`, until the change is approved; a column
/// whose rewriting to a wider type would be too large waits here too. Everything else loads meanwhile.
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "\
Examples:
  forebay schema list
  forebay schema approve lake.payments device"
)]
pub(super) struct SchemaArgs {
    #[command(subcommand)]
    command: SchemaCommand,
}

#[derive(Debug, Subcommand)]
enum SchemaCommand {
    List(ListArgs),
    Approve(ApproveArgs),
}

/// List changes that wait, and those that were approved and wait for the next load.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  forebay schema list")]
struct ListArgs {}

/// Approve a change: the next load applies it.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  forebay schema approve lake.payments device")]
struct ApproveArgs {
    /// The table.
    table: TableName,
    /// The column.
    column: String,
}

pub(super) async fn schema(global: &Global, config: Config, args: SchemaArgs) -> anyhow::Result<Exit> {
    match args.command {
        SchemaCommand::List(ListArgs {}) => {
            let lake = Lake::open(config).await?;
            let sql = "SELECT table_name, column_name, data_type, reason, first_seen, approved
                       FROM ledger.held_changes ORDER BY table_name, column_name";
            listing::list(global, &lake.rows(sql, vec![]).await?)
        }
        SchemaCommand::Approve(ApproveArgs { table, column }) => {
            need_ledger(&config).await?;
            let ledger = assemble::open_ledger(&config, Access::Write).await?;
            if !ledger.approve_change(&table, &column).await? {
                let failure = Failure::new(Exit::NotFound, format!("no change of {table} to `{column}` waits"));
                return Err(failure.with_hint("`forebay schema list` shows those that do").into());
            }
            if global.json() {
                show::object(&json!({ "table": table, "column": column, "approved": true }))?;
            } else {
                show::line(&format!("approved: the next load of {table} has the column `{column}`"))?;
            }
            Ok(Exit::Ok)
        }
    }
}
