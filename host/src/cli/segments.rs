//! `forebay segments`: what has landed, and what became of it.

use clap::{Args, Subcommand};
use datafusion::common::ScalarValue;
use serde_json::{Value, json};

use super::listing::{self, first_line, moment, number, text, text_value, work_query};
use super::{Exit, Failure, Global, named, show};
use crate::config::{Config, format_bytes};
use crate::query::render::visible;
use crate::query::{Lake, Object};

/// What has landed, and what became of it.
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "\
Examples:
  forebay segments list --state failed
  forebay segments show payments/3f9c0a1b2c3d4e5f60718293"
)]
pub(super) struct SegmentsArgs {
    #[command(subcommand)]
    command: SegmentsCommand,
}

#[derive(Debug, Subcommand)]
enum SegmentsCommand {
    List(ListArgs),
    Show(ShowArgs),
}

/// List segments with their state in each pipeline, the newest first.
///
/// States are pending (nothing tried yet), loading, loaded, failed (it waits, visible), and superseded (a newer version
/// of its object took its place).
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  forebay segments list
  forebay segments list --state failed
  forebay segments list --stream payments --limit 1000 --json")]
struct ListArgs {
    /// Of this stream only.
    #[arg(long)]
    stream: Option<String>,
    /// In this pipeline only.
    #[arg(long)]
    pipeline: Option<String>,
    /// In this state only.
    #[arg(long, value_parser = ["pending", "loading", "loaded", "failed", "superseded"])]
    state: Option<String>,
    /// At most so many.
    #[arg(long, default_value_t = 100)]
    limit: u32,
}

/// Show one segment: where it came from, where it lies, and what each pipeline made of it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  forebay segments show payments/3f9c0a1b2c3d4e5f60718293
  forebay segments show 3f9c                    the beginning is enough where only one segment has it")]
struct ShowArgs {
    /// The segment's id, or the beginning of it, with or without its stream.
    id: String,
}

pub(super) async fn segments(global: &Global, config: Config, args: SegmentsArgs) -> anyhow::Result<Exit> {
    let work = work_query(&config);
    let lake = Lake::open(config).await?;
    match args.command {
        SegmentsCommand::List(args) => list(global, &lake, &work, &args).await,
        SegmentsCommand::Show(ShowArgs { id }) => {
            let segment = find(&lake, &id).await?;
            let shown = details(&lake, &work, &segment).await?;
            if global.json() {
                show::object(&shown)?
            } else {
                show::line(&in_words(&shown))?
            }
            Ok(Exit::Ok)
        }
    }
}

async fn list(global: &Global, lake: &Lake, work: &str, args: &ListArgs) -> anyhow::Result<Exit> {
    let ListArgs { stream, pipeline, state, limit } = args;
    let config = &lake.stores().config;
    if let Some(name) = stream {
        named::stream(config, name)?;
    }
    if let Some(name) = pipeline {
        named::pipeline(config, name)?;
    }
    // The first line of an error: `segments show` has all of it.
    let error = if global.json() { "error_message" } else { "split_part(error_message, chr(10), 1)" };
    let rows = lake
        .rows(
            &format!(
                "{work} SELECT segment, object, landed_at, bytes, pipeline, state, records, loaded, filtered, rejected,
                        rescued, {error} AS error
                 FROM work
                 WHERE (stream = $stream OR $stream IS NULL) AND (pipeline = $pipeline OR $pipeline IS NULL)
                   AND (state = $state OR $state IS NULL)
                 ORDER BY number DESC, pipeline LIMIT {}",
                u64::from(*limit) + 1
            ),
            vec![
                ("stream", text_value(stream.as_deref())),
                ("pipeline", text_value(pipeline.as_deref())),
                ("state", text_value(state.as_deref())),
            ],
        )
        .await?;
    listing::list_first(global, rows, *limit)
}

/// The one segment whose id begins with `id`.
pub(crate) async fn find(lake: &Lake, id: &str) -> anyhow::Result<String> {
    let found = listing::objects(
        lake,
        "SELECT segment FROM ledger.segments
         WHERE starts_with(segment, $id) OR starts_with(split_part(segment, '/', 2), $id)
         ORDER BY segment LIMIT 3",
        vec![("id", ScalarValue::from(id))],
    )
    .await?;
    let exact = found.iter().find(|row| text(row, "segment") == id);
    match (exact, found.as_slice()) {
        (Some(one), _) | (None, [one]) => Ok(text(one, "segment").to_owned()),
        (None, []) => Err(Failure::new(Exit::NotFound, format!("there is no segment {id}"))
            .with_hint("`forebay segments list` shows what there is")
            .into()),
        (None, many) => {
            let names: Vec<_> = many.iter().map(|row| text(row, "segment")).collect();
            let failure = Failure::new(Exit::Usage, format!("more than one segment begins with {id}"));
            Err(failure.with_hint(format!("for example {}: write more of it", names.join(", "))).into())
        }
    }
}

/// All that the ledger knows of a segment.
pub(super) async fn details(lake: &Lake, work: &str, segment: &str) -> anyhow::Result<Value> {
    let id = || vec![("id", ScalarValue::from(segment))];
    let landed = listing::objects(lake, "SELECT * FROM ledger.segments WHERE segment = $id", id()).await?;
    let pipelines = listing::objects(
        lake,
        &format!("{work} SELECT * FROM work WHERE segment = $id AND pipeline IS NOT NULL ORDER BY pipeline"),
        id(),
    )
    .await?;
    // A table's rows are those of the generation that was loaded last.
    let tables = listing::objects(
        lake,
        "SELECT l.pipeline, l.number, l.table_name, l.rows, d.revision, d.state, d.done_at
         FROM ledger.load_segments l
         JOIN ledger.loads d ON d.pipeline = l.pipeline AND d.number = l.number AND d.table_name = l.table_name
         JOIN ledger.refinements r ON r.pipeline = l.pipeline AND r.segment = l.segment AND r.load_number = l.number
         WHERE l.segment = $id ORDER BY l.pipeline, l.table_name",
        id(),
    )
    .await?;
    let rejects = listing::objects(
        lake,
        "SELECT c.pipeline, c.stage, c.code, c.records FROM ledger.reject_counts c
         JOIN ledger.refinements r ON r.pipeline = c.pipeline AND r.segment = c.segment AND r.generation = c.generation
         WHERE c.segment = $id ORDER BY c.pipeline, c.stage, c.code",
        id(),
    )
    .await?;
    let again = listing::objects(
        lake,
        "SELECT pipeline, what, revision, reason, asked_at, error_message, failed_at, retry_at FROM ledger.again
         WHERE segment = $id ORDER BY pipeline",
        id(),
    )
    .await?;
    Ok(json!({
        "segment": landed.into_iter().next(),
        "pipelines": pipelines,
        "tables": tables,
        "rejects": rejects,
        "again": again,
    }))
}

fn rows<'a>(shown: &'a Value, key: &str) -> impl Iterator<Item = &'a Object> {
    shown.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object)
}

fn in_words(shown: &Value) -> String {
    let mut lines = Vec::new();
    if let Some(landed) = shown.get("segment").and_then(Value::as_object) {
        lines.push(format!("segment    {}", text(landed, "segment")));
        let from = match text(landed, "key") {
            "" => format!("{} from {}", text(landed, "partition"), text(landed, "position")),
            key => format!("{key} bytes {}..{}", number(landed, "source_start"), number(landed, "source_end")),
        };
        lines.push(format!("source     {from}"));
        lines.push(format!(
            "landed     {} as {}, {} {}..{}, {}",
            moment(landed, "landed_at"),
            text(landed, "object"),
            if text(landed, "content") == "envelope" { "rows" } else { "bytes" },
            number(landed, "content_start"),
            number(landed, "content_end"),
            format_bytes(number(landed, "bytes")),
        ));
        lines.push(format!("sha256     {} (of the whole object)", text(landed, "sha256")));
        lines.push(format!("format     {}", text(landed, "format")));
    }
    for work in rows(shown, "pipelines") {
        let pipeline = text(work, "pipeline");
        lines.push(format!("{pipeline}: {}", state_in_words(work)));
        if text(work, "state") == "failed" {
            lines.extend(text(work, "error_message").lines().skip(1).map(visible));
        }
        for table in rows(shown, "tables").filter(|table| text(table, "pipeline") == pipeline) {
            let count = show::count(number(table, "rows"), "row");
            lines.push(format!("  {count} in {}, load {}", text(table, "table_name"), number(table, "number")));
        }
        for reject in rows(shown, "rejects").filter(|reject| text(reject, "pipeline") == pipeline) {
            let count = show::count(number(reject, "records"), "record");
            lines.push(format!("  {count} rejected by {}: {}", text(reject, "stage"), text(reject, "code")));
        }
        lines.extend(again_in_words(shown, pipeline).map(|line| format!("  {line}")));
    }
    lines.join("\n")
}

/// What is still to be done with a segment that a pipeline has loaded: who asked for it, and why it failed.
pub(super) fn again_in_words(shown: &Value, pipeline: &str) -> impl Iterator<Item = String> {
    rows(shown, "again").filter(move |again| text(again, "pipeline") == pipeline).map(|again| {
        let what = match text(again, "what") {
            "heal" => "its rejects are to be tried again",
            _ => "it is to be replayed",
        };
        let how = super::again::how(again.get("revision").and_then(Value::as_u64), None);
        let failed = match text(again, "error_message") {
            "" => String::new(),
            message => format!("; it failed at {}: {}", moment(again, "failed_at"), first_line(message)),
        };
        format!("{what}{how}, asked at {} ({}){failed}", moment(again, "asked_at"), text(again, "reason"))
    })
}

/// What a pipeline made of a segment, in a sentence: of an error its first line.
pub(super) fn state_in_words(work: &Object) -> String {
    match text(work, "state") {
        "loaded" if work.get("records").is_none_or(Value::is_null) => {
            "loaded; its counts went with the ledger that was lost".to_owned()
        }
        "loaded" | "loading" => format!(
            "{} by revision {}: {} = {} loaded + {} filtered + {} rejected ({} rescued)",
            text(work, "state"),
            number(work, "revision"),
            show::count(number(work, "records"), "record"),
            show::thousands(number(work, "loaded")),
            show::thousands(number(work, "filtered")),
            show::thousands(number(work, "rejected")),
            show::thousands(number(work, "rescued")),
        ),
        "failed" => {
            let hint = text(work, "error_hint");
            let retry = match text(work, "retry_at") {
                "" => "it waits for a new revision".to_owned(),
                _ => format!("it is tried again at {}", moment(work, "retry_at")),
            };
            let hint = if hint.is_empty() { String::new() } else { format!("; hint: {hint}") };
            format!(
                "{} at {}: {}{hint}; {retry}",
                match number(work, "attempts") {
                    0 => "put back".to_owned(),
                    1 => "failed once".to_owned(),
                    times => format!("failed {times} times"),
                },
                moment(work, "failed_at"),
                first_line(text(work, "error_message")),
            )
        }
        "superseded" => "superseded by a newer version of its object".to_owned(),
        other => format!("{other}: `forebay run` refines it"),
    }
}
