//! `forebay validate`: the config, offline.

use clap::Args;
use serde_json::json;

use super::{Exit, Global, show};
use crate::config::Config;

/// Check the config, without touching anything that it names.
///
/// Tells all that is wrong, each with its place and what to do, and exits with 2. Modules and tables are not looked at:
/// that is `forebay plan`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  forebay validate
  forebay validate -c conf/          a folder: its forebay.toml and all other *.toml
  forebay validate --show            the config as it is understood, defaults filled in, secrets hidden")]
pub(super) struct ValidateArgs {
    /// Show the config as it is understood, as JSON: defaults filled in, secrets hidden.
    #[arg(long)]
    show: bool,
}

pub(super) fn validate(global: &Global, config: &Config, args: &ValidateArgs) -> anyhow::Result<Exit> {
    let ValidateArgs { show } = args;
    if global.json() {
        show::object(&json!({ "valid": true, "config": config.to_json() }))?;
    } else if *show {
        show::line(&serde_json::to_string_pretty(&config.to_json())?)?;
    } else {
        let count = |number: usize, what| show::count(u64::try_from(number).unwrap_or(u64::MAX), what);
        show::line(&format!(
            "{} is valid: {}, {}, {}",
            config.file.display(),
            count(config.streams.len(), "stream"),
            count(config.pipelines.len(), "pipeline"),
            count(config.tables().len(), "table"),
        ))?;
    }
    Ok(Exit::Ok)
}
