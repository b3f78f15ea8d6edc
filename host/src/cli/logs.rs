//! `forebay logs`: what modules say.

use std::collections::VecDeque;
use std::time::Duration;

use clap::Args;
use forebay_model::{Error, Timestamp};

use super::listing::parse_since;
use super::{Exit, Global, show};
use crate::config::Config;
use crate::logs::{Files, Follower, Level, Line, Wanted};

/// How often is looked for more.
const LOOK: Duration = Duration::from_millis(200);

/// Show what modules logged and printed in a host that runs or ran.
///
/// The host keeps the last 16 to 32 MiB beside its ledger. How much one call may say is bounded by log_lines and log_kib of a
/// pipeline's limits.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  forebay logs
  forebay logs -f --module fraud
  forebay logs --level warn --since 1h")]
pub(super) struct LogsArgs {
    /// Go on with what comes, until Ctrl-C.
    #[arg(short, long)]
    follow: bool,
    /// Of this module only.
    #[arg(long, value_name = "NAME")]
    module: Option<String>,
    /// This loud or louder.
    #[arg(long, value_enum, default_value_t = Level::Trace, value_name = "LEVEL")]
    level: Level,
    /// Said since then: so long ago ("2d"), or a date or time in UTC.
    #[arg(long, value_parser = parse_since, value_name = "WHEN")]
    since: Option<Timestamp>,
    /// At most so many lines, the last ones.
    #[arg(long, default_value_t = 100)]
    limit: usize,
}

pub(super) async fn logs(global: &Global, config: &Config, args: LogsArgs) -> anyhow::Result<Exit> {
    let LogsArgs { follow, module, level, since, limit } = args;
    let mut follower = Follower::new(Files::of(config), Wanted { module, level, since });
    let mut last = VecDeque::new();
    let mut more = 0_u64;
    let keep = &mut |line| {
        last.push_back(line);
        if last.len() > limit {
            last.pop_front();
            more += 1;
        }
    };
    follower.read(keep).map_err(unreadable)?;
    if more > 0 && !global.quiet() {
        eprintln!("there are {more} more before these: --limit shows them");
    }
    if last.is_empty() && !follow && !global.quiet() {
        eprintln!("no module has said anything of this");
    }
    for line in &last {
        tell(global, line)?;
    }
    if !follow {
        return Ok(Exit::Ok);
    }
    loop {
        tokio::time::sleep(LOOK).await;
        let mut lines = Vec::new();
        follower.read(&mut |line| lines.push(line)).map_err(unreadable)?;
        for line in &lines {
            tell(global, line)?;
        }
    }
}

fn unreadable(error: std::io::Error) -> Error {
    Error::operator("the lines of modules cannot be read").with_source(error)
}

fn tell(global: &Global, line: &Line) -> anyhow::Result<()> {
    if global.json() {
        return Ok(show::object(&serde_json::to_value(line)?)?);
    }
    let Line { at, module, level, text } = line;
    Ok(show::line(&format!("{at} {} {module}: {text}", level.name()))?)
}
