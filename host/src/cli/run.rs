//! `forebay run`: its arguments. What it does is in `crate::run`.

use clap::{Args, ValueEnum};
use forebay_model::PipelineName;

/// Land what the sources have, refine it, load it.
///
/// Runs until it is told to stop: SIGINT and SIGTERM finish what is in flight, at most host.shutdown_seconds, and exit
/// with 0; a second one exits at once, which loses nothing either. A module that is dropped into the watched folder, and a
/// config or an asset that changes, are validated and take the next segments; what is wrong changes nothing.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  forebay run                            follow the sources
  forebay run --once                     land and load what is there now, then say what was done
  forebay run --once --fail-on rejects   for a job that must notice refused records")]
pub(crate) struct RunArgs {
    /// Stop when everything that is there has been landed and refined; exit with 1 when a segment failed or a
    /// module of the folder was refused.
    #[arg(long)]
    pub(crate) once: bool,
    /// Refine for this pipeline only, and land its stream only; may be given many times.
    #[arg(long = "pipeline", value_name = "NAME")]
    pub(crate) pipelines: Vec<PipelineName>,
    /// What else is a failure of `--once`.
    #[arg(long, value_enum, value_name = "WHAT", requires = "once")]
    pub(crate) fail_on: Option<FailOn>,
}

/// What else `run --once` exits with 1 for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FailOn {
    /// Records that were refused.
    Rejects,
}
