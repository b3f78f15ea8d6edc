//! `forebay rejects`: records that were refused.

use std::sync::Arc;

use arrow::array::{AsArray as _, RecordBatch};
use arrow::datatypes::DataType;
use clap::{Args, Subcommand, ValueEnum};
use datafusion::common::ScalarValue;
use datafusion::dataframe::DataFrame;
use forebay_model::ports::HealRequest;
use forebay_model::{PipelineName, Timestamp};
use futures::StreamExt as _;

use super::again::tell;
use super::listing::{self, moment, parse_since, text, text_value, time_value};
use super::{Exit, Failure, Global, named, need_ledger, segments, show};
use crate::assemble::{self, Access};
use crate::config::Config;
use crate::query::Lake;
use crate::query::render::{Format, Writer};
use crate::who::who;

/// Records that decoding or a rule refused. Everything else of their segments has loaded.
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "\
Examples:
  forebay rejects list --pipeline fraud
  forebay rejects show payments/3f9c0a1b2c3d4e5f60718293 417
  forebay rejects export > refused.txt
  forebay rejects retry --code late"
)]
pub(super) struct RejectsArgs {
    #[command(subcommand)]
    command: RejectsCommand,
}

#[derive(Debug, Subcommand)]
enum RejectsCommand {
    List(ListArgs),
    Show(ShowArgs),
    Export(ExportArgs),
    Retry(RetryArgs),
}

/// Which rejects.
#[derive(Debug, Args)]
struct Which {
    /// Of this pipeline only.
    #[arg(long)]
    pipeline: Option<PipelineName>,
    /// With this code only.
    #[arg(long)]
    code: Option<String>,
    /// Refused since then: so long ago ("2d"), or a date or time in UTC.
    #[arg(long, value_parser = parse_since, value_name = "WHEN")]
    since: Option<Timestamp>,
}

/// List refused records, the newest first, without their text.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  forebay rejects list
  forebay rejects list --pipeline fraud --code malformed --since 2d")]
struct ListArgs {
    #[command(flatten)]
    which: Which,
    /// At most so many, of each pipeline.
    #[arg(long, default_value_t = 100)]
    limit: u32,
}

/// Show one refused record: why, and its text as it came.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  forebay rejects show payments/3f9c0a1b2c3d4e5f60718293 417")]
struct ShowArgs {
    /// The segment's id, or the beginning of it.
    segment: String,
    /// The record's number in the segment.
    record: u64,
}

/// Write refused records to stdout, oldest first: their text as it came, or whole rows as JSON lines.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  forebay rejects export --pipeline fraud > refused.txt
  forebay rejects export --format jsonl --since 2026-01-02 > refused.jsonl")]
struct ExportArgs {
    #[command(flatten)]
    which: Which,
    /// How they are written. Default: lines; with --json, jsonl.
    #[arg(long, value_enum)]
    format: Option<ExportFormat>,
    /// At most so many, of each pipeline. Default: all.
    #[arg(long)]
    limit: Option<u32>,
}

/// Let the active revision try refused records again: what passes is appended, what does not is refused once more.
///
/// A new revision does so by itself. Only records are tried that the rule did not refuse for good; all of a segment's, where one of them
/// has the code. It happens beside production, the newest segments first.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  forebay rejects retry
  forebay rejects retry --pipeline fraud --code late --since 2d")]
struct RetryArgs {
    /// Of this pipeline only.
    #[arg(long)]
    pipeline: Option<PipelineName>,
    /// Where a record was refused with this code; may be given many times.
    #[arg(long = "code", value_name = "CODE")]
    codes: Vec<String>,
    /// Of segments that landed since then: so long ago ("2d"), or a date or time in UTC.
    #[arg(long, value_parser = parse_since, value_name = "WHEN")]
    since: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ExportFormat {
    /// The records' text, each ended by a line feed.
    Lines,
    /// A JSON object each: pipeline, segment, record, stage, code, message, retryable, raw, revision, refused_at.
    Jsonl,
}

pub(super) async fn rejects(global: &Global, config: Config, args: RejectsArgs) -> anyhow::Result<Exit> {
    match args.command {
        RejectsCommand::List(ListArgs { which, limit }) => {
            list(global, &Lake::open(config).await?, &which, limit).await
        }
        RejectsCommand::Show(args) => show(global, &Lake::open(config).await?, &args).await,
        RejectsCommand::Export(args) => export(global, &Lake::open(config).await?, &args).await,
        RejectsCommand::Retry(args) => retry(global, &config, &args).await,
    }
}

async fn retry(global: &Global, config: &Config, args: &RetryArgs) -> anyhow::Result<Exit> {
    let RetryArgs { pipeline, codes, since } = args;
    need_ledger(config).await?;
    let names = match pipeline {
        Some(name) => vec![named::pipeline(config, name.as_str())?],
        None => config.written().map(|(name, _)| name.clone()).collect(),
    };
    let ledger = assemble::open_ledger(config, Access::Write).await?;
    let mut asked = serde_json::Map::new();
    let mut total = 0;
    for name in names {
        let wanted = HealRequest {
            unless_tried_by: None,
            codes: codes.clone(),
            since: *since,
            reason: format!("forebay rejects retry by {}", who()),
        };
        let segments = ledger.ask_heal(&name, &wanted, listing::now()).await?;
        total += segments;
        if segments > 0 && !global.json() {
            show::line(&format!("{name}: rejects of {} are tried again", show::count(segments, "segment")))?;
        }
        asked.insert(name.to_string(), segments.into());
    }
    let runs = ledger.host().await?.is_some();
    tell(global, &serde_json::json!({ "segments": asked, "host": runs }), || match (total, runs) {
        (0, _) => "no such reject may be tried again, or all are asked for already".to_owned(),
        (_, true) => "the host does it beside production; `forebay status` tells how far it is".to_owned(),
        (_, false) => "no host runs: the next `forebay run` does it".to_owned(),
    })
}

/// The pipelines that are asked for and have refused something.
fn pipelines(lake: &Lake, only: Option<&PipelineName>) -> anyhow::Result<Vec<PipelineName>> {
    let config = &lake.stores().config;
    if let Some(only) = only {
        named::pipeline(config, only.as_str())?;
    }
    let asked = config.named_or_written(only);
    Ok(asked.filter(|(_, pipeline)| lake.has(&pipeline.rejects)).map(|(name, _)| name.clone()).collect())
}

/// A pipeline's rejects under people's names for their columns.
fn of_pipeline(pipeline: &PipelineName) -> String {
    format!(
        "SELECT '{pipeline}' AS pipeline, _forebay_segment AS segment, _forebay_row AS record, stage, code, message,
                retryable, raw, revision, _forebay_loaded_at AS refused_at
         FROM rejects.\"{pipeline}\""
    )
}

/// All that were asked for, `order` by time, at most `limit` of each pipeline.
async fn select(
    lake: &Lake,
    which: &Which,
    columns: &str,
    order: &str,
    limit: Option<u32>,
) -> anyhow::Result<Option<DataFrame>> {
    let Which { pipeline, code, since } = which;
    let limit = limit.map(|limit| format!("LIMIT {limit}")).unwrap_or_default();
    let parts: Vec<_> = pipelines(lake, pipeline.as_ref())?
        .iter()
        .map(|name| {
            format!(
                "(SELECT {columns} FROM ({}) WHERE (code = $code OR $code IS NULL)
                  AND (refused_at >= $since OR $since IS NULL) ORDER BY refused_at {order}, segment, record {limit})",
                of_pipeline(name)
            )
        })
        .collect();
    if parts.is_empty() {
        return Ok(None);
    }
    let since = since.map_or(ScalarValue::TimestampMicrosecond(None, Some("UTC".into())), time_value);
    let values = vec![("code", text_value(code.as_deref())), ("since", since)];
    Ok(Some(lake.filled(&parts.join(" UNION ALL "), values).await?))
}

/// A message may have a guest's stack in its further lines: `rejects show` shows them.
const FIRST_LINE: &str = "split_part(message, chr(10), 1) AS message";

async fn list(global: &Global, lake: &Lake, which: &Which, limit: u32) -> anyhow::Result<Exit> {
    let message = if global.json() { "message" } else { FIRST_LINE };
    let columns = format!("pipeline, segment, record, stage, code, {message}, retryable, refused_at");
    let beyond = limit.saturating_add(1);
    match select(lake, which, &columns, "DESC", Some(beyond)).await? {
        Some(frame) => {
            let first = frame.limit(0, usize::try_from(beyond).ok())?;
            listing::list_first(global, lake.collect(first).await?, limit)
        }
        None => {
            if !global.json() {
                show::line("nothing was rejected")?;
            }
            Ok(Exit::Ok)
        }
    }
}

async fn show(global: &Global, lake: &Lake, args: &ShowArgs) -> anyhow::Result<Exit> {
    let ShowArgs { segment, record } = args;
    let segment = segments::find(lake, segment).await?;
    let mut found = Vec::new();
    for pipeline in pipelines(lake, None)? {
        let sql = format!("SELECT * FROM ({}) WHERE segment = $segment AND record = $record", of_pipeline(&pipeline));
        let values = vec![("segment", ScalarValue::from(segment.as_str())), ("record", ScalarValue::from(*record))];
        found.extend(listing::objects(lake, &sql, values).await?);
    }
    if found.is_empty() {
        let failure = Failure::new(Exit::NotFound, format!("record {record} of segment {segment} was not rejected"));
        return Err(failure.with_hint(format!("`forebay why {segment}` tells what became of the segment")).into());
    }
    for row in found {
        if global.json() {
            show::object(&serde_json::Value::Object(row))?;
            continue;
        }
        let healing = match row.get("retryable").and_then(serde_json::Value::as_bool) {
            Some(true) => "a later revision may accept it",
            Some(false) | None => "final",
        };
        show::line(&format!(
            "pipeline   {}\nrefused    {} by {}: {}, {healing}\nmessage    {}\nraw        {}",
            text(&row, "pipeline"),
            moment(&row, "refused_at"),
            text(&row, "stage"),
            text(&row, "code"),
            lines_of(text(&row, "message")),
            crate::query::render::visible(text(&row, "raw")),
        ))?;
    }
    Ok(Exit::Ok)
}

/// A message with its further lines below one another.
fn lines_of(message: &str) -> String {
    message.lines().map(crate::query::render::visible).collect::<Vec<_>>().join("\n           ")
}

async fn export(global: &Global, lake: &Lake, args: &ExportArgs) -> anyhow::Result<Exit> {
    let ExportArgs { which, format, limit } = args;
    let format = format.unwrap_or(if global.json() { ExportFormat::Jsonl } else { ExportFormat::Lines });
    let columns = match format {
        ExportFormat::Lines => "raw, refused_at, segment, record",
        ExportFormat::Jsonl => "*",
    };
    let Some(frame) = select(lake, which, columns, "ASC", *limit).await? else { return Ok(Exit::Ok) };
    let schema = Arc::clone(frame.schema().inner());
    let mut rows = frame.execute_stream().await.map_err(|error| lake.explain(&error))?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut writer = Writer::new(Format::Jsonl, schema, &mut out);
    while let Some(batch) = rows.next().await {
        let batch = batch.map_err(|error| lake.explain(&error))?;
        match format {
            ExportFormat::Jsonl => writer.write(batch)?,
            ExportFormat::Lines => write_lines(writer.out(), &batch)?,
        }
    }
    writer.finish()?;
    Ok(Exit::Ok)
}

fn write_lines(out: &mut impl std::io::Write, batch: &RecordBatch) -> anyhow::Result<()> {
    let Some(raw) = batch.column_by_name("raw") else { return Ok(()) };
    let raw = arrow::compute::cast(raw, &DataType::Utf8)?;
    for text in raw.as_string::<i32>().iter().flatten() {
        writeln!(out, "{}", text.strip_suffix('\n').unwrap_or(text))?;
    }
    Ok(())
}
