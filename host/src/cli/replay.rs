//! `forebay replay`: history once more, under the active revision or another one.

use std::num::NonZeroU32;
use std::sync::Arc;

use clap::Args;
use datafusion::common::ScalarValue;
use forebay_model::load::{Again, Terms};
use forebay_model::ports::Ledger;
use forebay_model::{Error, PipelineName, Revision, RevisionId, Timestamp};
use forebay_pipeline::refine::bind::{Materials, decodes_alike};
use serde_json::json;

use super::again::{Chosen, follow, tell};
use super::clock::Clock;
use super::listing::{self, parse_since};
use super::rehearsals::Rehearsals;
use super::replaced::Before;
use super::side::{self, Beside};
use super::verify::verify;
use super::{Exit, Failure, Global, kept, named, need_ledger, repair, rollback, segments, show};
use crate::assemble::{self, Access};
use crate::config::Config;
use crate::query::Lake;

/// Refine segments that are loaded once more, under the active revision or another: their rows replace those that they have.
///
/// It happens beside production, the newest segments first, with what production leaves of workers and time. Each segment's rows are
/// replaced in one commit of each table. It may be stopped, and goes on when a host runs again;
/// a segment that fails keeps the rows that it has. Without --since or --segment, everything is replayed.
///
/// With --clock record the span is of the records' own time, and segments are chosen that hold a record within it. That is read from the
/// tables and from what envelopes say of themselves, not from raw data; a segment of which it is not known, because it has filtered or
/// rejected records, say, is replayed too, and counted.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  forebay replay --pipeline fraud --since 2026-01-02 --until 2026-01-03
  forebay replay --pipeline fraud --since 2h --dry-run
  forebay replay --pipeline fraud --since 2026-01-02 --clock record --time-column booked_at
  forebay replay --pipeline fraud --since 30d --revision 3 --workers 1
  forebay replay --pipeline fraud --since 1d --verify
  forebay replay --pipeline fraud --segment payments/3f9c0a1b2c3d4e5f60718293
  forebay replay --pipeline fraud --since 30d --revision 3 --into v3
  forebay replay --pipeline fraud --into v3 --swap
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
    /// What --since and --until are of: when the segments landed, or when their records happened.
    #[arg(long, value_enum, default_value_t, value_name = "CLOCK", conflicts_with = "segments")]
    clock: Clock,
    /// With --clock record: the column of the pipeline's tables that tells when a record happened. Without it a record stream's own
    /// times count.
    #[arg(long, value_name = "COLUMN")]
    time_column: Option<String>,
    /// At most so many of the host's workers at once refine what is replayed, also while they have nothing else to do; a restart of
    /// the host does not change that. Default: all while production has no work, and those that it leaves else, at least one.
    #[arg(long, value_name = "N")]
    workers: Option<NonZeroU32>,
    /// Refine them under this recorded revision instead: its number, or the beginning of its id. Another one that becomes active
    /// meanwhile does not change that. What it rejects is tried again when somebody asks (`forebay rejects retry`), not by itself.
    #[arg(long, value_name = "REVISION")]
    revision: Option<String>,
    /// Load what comes out into tables beside the pipeline's, whose names end with `_` and this: `lake.payments_v3`. The pipeline's own
    /// stay as they are; at the end it is told how the rows differ. Segments that stand there already are not refined once more.
    #[arg(long, value_name = "SUFFIX", conflicts_with = "verify")]
    into: Option<String>,
    /// With --into: put what stands beside in the place of what the pipeline has of the same segments. They are refined under the same
    /// revision into the pipeline's tables, each group in one commit of each table; where the rows are those that stood beside, the
    /// tables beside are dropped.
    #[arg(long, requires = "into", conflicts_with_all = ["since", "until", "clock", "segments", "workers", "revision", "dry_run", "stop"])]
    swap: bool,
    /// With --into: drop the tables beside.
    #[arg(long, requires = "into", conflicts_with_all = ["since", "until", "clock", "segments", "workers", "revision", "dry_run", "stop", "swap"])]
    drop: bool,
    /// This segment, or the beginning of its id; may be given many times.
    #[arg(long = "segment", value_name = "SEGMENT", conflicts_with_all = ["since", "until"])]
    segments: Vec<String>,
    /// Say which segments it would be, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// Refine them twice here, under the active revision or the one that --revision says, and compare what comes out, byte for byte; nothing is written.
    #[arg(long, conflicts_with_all = ["dry_run", "detach", "stop", "workers"])]
    verify: bool,
    /// Do not wait until it is done.
    #[arg(long)]
    detach: bool,
    /// Take back what is asked for, but for the few segments that the host has begun with; what is done stays.
    #[arg(long, conflicts_with_all = ["since", "until", "clock", "segments", "workers", "revision", "dry_run", "detach"])]
    stop: bool,
}

pub(super) async fn replay(global: &Global, config: Config, args: &ReplayArgs) -> anyhow::Result<Exit> {
    let ReplayArgs { pipeline, workers, revision, dry_run, verify: twice, detach, stop, into, swap, drop, .. } = args;
    let pipeline = named::pipeline(&config, pipeline.as_str())?;
    need_ledger(&config).await?;
    let ledger = assemble::open_ledger(&config, Access::Write).await?;
    let beside = into.as_ref().map(|suffix| Beside::new(&pipeline, suffix)).transpose()?;
    if let (Some(beside), true) = (&beside, *stop) {
        return side::stop(global, &*ledger, beside).await;
    }
    if *stop {
        let left = ledger.forget_again(&pipeline, Again::Replay).await?;
        return tell(global, &json!({ "pipeline": pipeline, "taken_back": left }), || {
            format!("{pipeline}: {} as before, but for what the host has begun with", keeps(left))
        });
    }
    let has = NonZeroU32::try_from(config.host.workers).unwrap_or(NonZeroU32::MAX);
    let lake = Lake::open(config).await?;
    match &beside {
        Some(beside) if *swap => return side::swap(global, &lake, &*ledger, beside, *detach).await,
        Some(beside) if *drop => return side::drop(global, &lake, &*ledger, beside, *detach).await,
        Some(_) | None => {}
    }
    // What cannot be done is refused before anything is asked for.
    let under = match revision {
        Some(wanted) => Some(former(&lake, &*ledger, &pipeline, wanted).await?),
        None => None,
    };
    let mut chosen = choose(&lake, &pipeline, args).await?;
    if chosen.segments.is_empty() {
        return tell(global, &json!({ "asked": chosen.json() }), || format!("{pipeline} has loaded no such segment"));
    }
    if chosen.time_unknown > 0 && !global.quiet() {
        eprintln!(
            "of {} among these it is not known when all records happened",
            show::count(chosen.time_unknown, "segment")
        );
    }
    if *twice {
        return verify(global, &lake, &*ledger, &chosen, under).await;
    }
    chosen.under = under.as_ref().map(|under| under.number);
    chosen.workers = workers.map(|wanted| wanted.min(has));
    if workers.is_some_and(|wanted| wanted > has) && !global.quiet() {
        eprintln!("the host has {}: the replay takes no more", show::count(has.get().into(), "worker"));
    }
    if let Some(beside) = &beside {
        let (revision, id) = match &under {
            Some(under) => (under.revision.clone(), under.revision.id()),
            None => active(&*ledger, &pipeline).await?,
        };
        let how = (*workers, *dry_run, *detach);
        return side::begin(global, &lake, &*ledger, (beside, chosen), (&revision, id), how).await;
    }
    if *dry_run {
        return tell(global, &json!({ "would_replay": chosen.json() }), || {
            format!("{pipeline}: {} would be refined again{}", chosen.words(), chosen.how())
        });
    }
    let before = match detach {
        true => None,
        false => Before::of(&lake, &pipeline, under.as_ref().map(|under| &under.revision)).await,
    };
    let terms = Terms { revision: under.map(|under| under.revision.id()), workers: *workers };
    let new = ledger.ask_replay(&pipeline, &chosen.request("forebay replay", terms), listing::now()).await?;
    if !global.json() {
        let known = chosen.segments.len() as u64 - new;
        let known =
            if known == 0 { String::new() } else { format!("; {} asked for before", show::count(known, "segment")) };
        show::line(&format!("{pipeline}: {}{}{known}", chosen.words(), chosen.how()))?;
    }
    follow(global, &lake, &*ledger, (&chosen, before), *detach).await
}

/// The revision that runs.
async fn active(ledger: &dyn Ledger, pipeline: &PipelineName) -> anyhow::Result<(Revision, RevisionId)> {
    let active = ledger.active(pipeline).await?;
    let record =
        active.ok_or_else(|| Failure::new(Exit::NotFound, format!("{pipeline} has no revision yet")))?.revision;
    Ok((record.revision, record.id))
}

/// The segments that are meant.
async fn choose(lake: &Lake, pipeline: &PipelineName, args: &ReplayArgs) -> anyhow::Result<Chosen> {
    let ReplayArgs { since, until, clock, time_column, segments: wanted, .. } = args;
    let span = (*since, *until);
    if time_column.is_some() && *clock == Clock::Landed {
        let failure =
            Failure::new(Exit::Usage, "--time-column tells when records happened, and the span is of landing");
        return Err(failure.with_hint("add --clock record").into());
    }
    if wanted.is_empty() {
        return match clock {
            Clock::Landed => Chosen::of(lake, pipeline, span, "true", Vec::new()).await,
            Clock::Record => Chosen::by_record(lake, pipeline, span, time_column.as_deref()).await,
        };
    }
    let mut found = Vec::new();
    for wanted in wanted {
        found.push(ScalarValue::from(segments::find(lake, wanted).await?.as_str()));
    }
    let names: Vec<_> = (0..found.len()).map(|place| format!("segment{place}")).collect();
    let condition = names.iter().map(|name| format!("s.segment = ${name}")).collect::<Vec<_>>().join(" OR ");
    let values = names.iter().map(String::as_str).zip(found).collect();
    Chosen::of(lake, pipeline, (None, None), &condition, values).await
}

/// A revision that is recorded, with what it names: it can be loaded still, and binds.
async fn former(lake: &Lake, ledger: &dyn Ledger, pipeline: &PipelineName, wanted: &str) -> anyhow::Result<Materials> {
    let config = Arc::clone(&lake.stores().config);
    let id = rollback::find(lake, pipeline, wanted).await?;
    let record = ledger.revision(pipeline, id).await?;
    let record = record.ok_or_else(|| Failure::new(Exit::NotFound, "the revision is gone from the ledger"))?;
    let stream = config.pipelines.get(pipeline).map(|pipeline| pipeline.from.clone());
    let (Some(stream), Some(rehearsals)) = (stream, Rehearsals::open(lake, pipeline).await?) else {
        return Err(Failure::new(Exit::NotFound, format!("{pipeline} has loaded nothing")).into());
    };
    let decoding = config.streams.get(&stream).map(assemble::open_decoding).transpose()?;
    let settings = decoding.map(|decoding| decoding.settings()).unwrap_or_default();
    let zone = Arc::clone(&rehearsals.zone);
    let sandbox = repair::sandbox(lake, pipeline)?;
    let checked = async {
        decodes_alike(&record, &stream, &settings)?;
        let materials = kept::materials(&*zone, &sandbox, record.revision.clone(), record.number).await?;
        let tables = rehearsals.tables(&record.revision).await?;
        let copy = materials.clone();
        kept::blocking(move || rehearsals.bind_to(&copy, tables).map(drop)).await?;
        Ok::<_, Error>(materials)
    };
    match checked.await {
        Ok(materials) => Ok(materials),
        Err(error) => {
            let number = record.number;
            let failure = Failure::new(
                Exit::Failed,
                format!("history cannot be refined under revision {number} of {pipeline}: {}", error.chain()),
            );
            let other = "choose another one: `forebay revisions list` shows what there is";
            Err(failure.with_hint(error.hint().unwrap_or(other)).into())
        }
    }
}

fn keeps(segments: u64) -> String {
    match segments {
        1 => "1 segment stays".to_owned(),
        more => format!("{} stay", show::count(more, "segment")),
    }
}
