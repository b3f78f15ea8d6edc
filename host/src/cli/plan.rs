//! `forebay plan`.
use clap::Args;
use super::{Exit, Global};
use crate::config::Config;
/// Bind the modules and look at the tables.
#[derive(Debug, Args)]
pub(super) struct PlanArgs {}
pub(super) async fn plan(_: &Global, _: &Config, _: &PlanArgs) -> anyhow::Result<Exit> { Ok(Exit::Ok) }
