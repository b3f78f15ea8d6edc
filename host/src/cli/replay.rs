//! `forebay replay`: history once more, under the active revision.

use clap::Args;
use datafusion::common::ScalarValue;
use forebay_model::load::Again;
use forebay_model::{PipelineName, Timestamp};

use super::again::{Chosen, follow, tell};
use super::listing::{self, parse_since};
use super::verify::verify;
use super::{Exit, Global, named, need_ledger, segments, show};
use crate::assemble::{self, Access};
use crate::config::Config;
use crate::query::Lake;

/// Refine segments that are loaded once more, under the active revision: their rows replace those that they have.
///
/// It happens beside production, the newest segments first: while production has work, one group of loads in four is of what is
/// replayed. Each segment's rows are replaced in one commit of each table. It may be stopped, and goes on when a host runs again;
/// a segment that fails keeps the rows that it has. Without --since or --segment, everything is replayed.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  forebay replay --pipeline fraud --since 2026-01-02 --until 2026-01-03
  forebay replay --pipeline fraud --since 2h --dry-run
  forebay replay --pipeline fraud --since 1d --verify
  forebay replay --pipeline fraud --segment payments/3f9c0a1b2c3d4e5f60718293
  forebay replay --pipeline fraud --stop")]
pub(super) struct ReplayArgs {
    /// The pipeline.
    #[arg(long, value_name = "NAME")]
    pipeline: PipelineName,
    /// Segments that landed since then: so long ago ("2d"), or a date or time in UTC.
    #[arg(long, value_parser = parse_since, value_name = "WHEN")]
    since: Option<Timestamp>,
    /// Segments that landed before then.
    #[arg(long, value_parser = parse_since, value_name = "WHEN")]
    until: Option<Timestamp>,
    /// This segment, or the beginning of its id; may be given many times.
    #[arg(long = "segment", value_name = "SEGMENT", conflicts_with_all = ["since", "until"])]
    segments: Vec<String>,
    /// Say which segments it would be, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// Refine them twice here, under the active revision, and compare what comes out, byte for byte; nothing is written.
    #[arg(long, conflicts_with_all = ["dry_run", "detach", "stop"])]
    verify: bool,
    /// Do not wait until it is done.
    #[arg(long)]
    detach: bool,
    /// Take back what is asked for, but for the few segments that the host has begun with; what is done stays.
    #[arg(long, conflicts_with_all = ["since", "until", "segments", "dry_run", "detach"])]
    stop: bool,
}

pub(super) async fn replay(global: &Global, config: Config, args: &ReplayArgs) -> anyhow::Result<Exit> {
    let ReplayArgs { pipeline, since, until, segments: wanted, dry_run, verify: twice, detach, stop } = args;
    let pipeline = named::pipeline(&config, pipeline.as_str())?;
    need_ledger(&config).await?;
    let ledger = assemble::open_ledger(&config, Access::Write).await?;
    if *stop {
        let left = ledger.forget_again(&pipeline, Again::Replay).await?;
        return tell(global, &serde_json::json!({ "pipeline": pipeline, "taken_back": left }), || {
            format!("{pipeline}: {} as before, but for what the host has begun with", keeps(left))
        });
    }
    let lake = Lake::open(config).await?;
    let chosen = match wanted.as_slice() {
        [] => Chosen::of(&lake, &pipeline, (*since, *until), "true", Vec::new()).await?,
        wanted => {
            let mut found = Vec::new();
            for wanted in wanted {
                found.push(ScalarValue::from(segments::find(&lake, wanted).await?.as_str()));
            }
            let names: Vec<_> = (0..found.len()).map(|place| format!("segment{place}")).collect();
            let condition = names.iter().map(|name| format!("s.segment = ${name}")).collect::<Vec<_>>().join(" OR ");
            let values = names.iter().map(String::as_str).zip(found).collect();
            Chosen::of(&lake, &pipeline, (None, None), &condition, values).await?
        }
    };
    if chosen.segments.is_empty() {
        return tell(global, &serde_json::json!({ "asked": chosen.json() }), || {
            format!("{pipeline} has loaded no such segment")
        });
    }
    if *twice {
        return verify(global, &lake, &*ledger, &chosen).await;
    }
    if *dry_run {
        return tell(global, &serde_json::json!({ "would_replay": chosen.json() }), || {
            format!("{pipeline}: {} would be refined again", chosen.words())
        });
    }
    let new = ledger.ask_replay(&pipeline, &chosen.segments, "forebay replay", listing::now()).await?;
    if !global.json() {
        let known = chosen.segments.len() as u64 - new;
        let known =
            if known == 0 { String::new() } else { format!("; {} asked for before", show::count(known, "segment")) };
        show::line(&format!("{pipeline}: {}{known}", chosen.words()))?;
    }
    follow(global, &lake, &*ledger, &chosen, *detach).await
}

fn keeps(segments: u64) -> String {
    match segments {
        1 => "1 segment stays".to_owned(),
        more => format!("{} stay", show::count(more, "segment")),
    }
}
