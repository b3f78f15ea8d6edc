//! Why a record is where it is: found by a condition, then looked for in every table of every pipeline of its stream.

use datafusion::common::ScalarValue;
use forebay_model::revision::RouteTarget;
use forebay_model::{PipelineName, StreamName, TableName, Timestamp};
use serde_json::{Value, json};

use super::super::listing::{self, first_line, moment, number, text, time_value, work_query};
use super::super::{Exit, Failure, Global, named, show};
use super::again::{Again, Missed};
use crate::config::PipelineConfig;
use crate::query::render::visible;
use crate::query::{BARE_SCHEMA, Lake, Object};

/// What is asked.
pub(super) struct Asked<'a> {
    pub(super) stream: &'a str,
    pub(super) condition: &'a str,
    pub(super) since: Option<Timestamp>,
    pub(super) limit: u32,
}

/// A record's place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) segment: String,
    pub(super) record: u64,
}

pub(super) async fn why(global: &Global, lake: &Lake, asked: &Asked<'_>) -> anyhow::Result<Exit> {
    let config = &lake.stores().config;
    let stream = named::stream(config, asked.stream)?;
    let pipelines: Vec<_> = config.written().filter(|(_, pipeline)| pipeline.from == stream).collect();
    if pipelines.is_empty() {
        return Err(Failure::new(Exit::NotFound, format!("no pipeline reads stream `{stream}`")).into());
    }
    let again = Again::open(lake).await?;
    let (mut any, mut more) = (false, false);
    let limit = usize::try_from(asked.limit).unwrap_or(usize::MAX);
    for (name, pipeline) in pipelines {
        let mut places = find(lake, asked, &stream, name, pipeline).await?;
        places.sort();
        places.dedup();
        more |= places.len() > limit;
        for place in places.iter().take(limit) {
            any = true;
            let answer = tell(lake, &again, name, pipeline, place).await?;
            if global.json() { show::object(&answer)? } else { show::line(&in_words(&answer))? }
        }
    }
    if more && !global.quiet() {
        eprintln!("there are more: these are {limit} of each pipeline, --limit shows others");
    }
    if any {
        return Ok(Exit::Ok);
    }
    let failure =
        Failure::new(Exit::NotFound, format!("no record of stream `{stream}` is one with {}", asked.condition));
    let hint = match waiting(lake, &stream).await? {
        0 => {
            "look further back with an earlier --since, or at the text itself: `forebay query \"SELECT … FROM raw.…\"`"
        }
        _ => "segments wait to be refined: `forebay status`; a record that is not decoded yet is found in raw.<stream>",
    };
    Err(failure.with_hint(hint).into())
}

/// Segments of the stream that some pipeline has not loaded.
async fn waiting(lake: &Lake, stream: &StreamName) -> anyhow::Result<u64> {
    let work = work_query(&lake.stores().config);
    let sql = format!(
        "{work} SELECT count(*) AS waiting FROM work WHERE stream = $stream AND state IN ('pending', 'loading', 'failed')"
    );
    let rows = listing::objects(lake, &sql, vec![("stream", ScalarValue::from(stream.as_str()))]).await?;
    Ok(rows.first().map(|row| number(row, "waiting")).unwrap_or_default())
}

/// The records that the condition is true of: in the tables and rejects; where none has one, in the raw segments.
async fn find(
    lake: &Lake,
    asked: &Asked<'_>,
    stream: &StreamName,
    name: &PipelineName,
    pipeline: &PipelineConfig,
) -> anyhow::Result<Vec<Place>> {
    let mut places = Vec::new();
    // A table need not have every column of the condition: only where none has them, the condition is wrong.
    let mut wrong = None;
    for table in pipeline.tables() {
        if !lake.has(&table) {
            continue;
        }
        match matching(lake, asked, stream, &quoted(&table)).await {
            Ok(found) => places.extend(found),
            Err(error) => wrong = Some(error),
        }
    }
    if !places.is_empty() {
        return Ok(places);
    }
    if !lake.offer_decoded(name.as_str(), stream, name, asked.since).await? {
        return match wrong {
            Some(error) => Err(error),
            None => Ok(places),
        };
    }
    matching(lake, asked, stream, &format!("{BARE_SCHEMA}.\"{name}\"")).await
}

async fn matching(lake: &Lake, asked: &Asked<'_>, stream: &StreamName, table: &str) -> anyhow::Result<Vec<Place>> {
    let Asked { stream: _, condition, since, limit } = asked;
    // The condition on a line of its own: a comment in it ends there.
    let sql = format!(
        "SELECT DISTINCT _forebay_segment AS segment, _forebay_row AS record FROM {table} WHERE (\n{condition}\n)
         AND _forebay_segment IN (SELECT segment FROM ledger.segments
                                  WHERE stream = $stream AND (landed_at >= $since OR $since IS NULL))
         LIMIT {}",
        u64::from(*limit) + 1
    );
    let since = since.map_or(ScalarValue::TimestampMicrosecond(None, Some("UTC".into())), time_value);
    let values = vec![("stream", ScalarValue::from(stream.as_str())), ("since", since)];
    let rows = listing::objects(lake, &sql, values).await?;
    Ok(rows
        .iter()
        .map(|row| Place { segment: text(row, "segment").to_owned(), record: number(row, "record") })
        .collect())
}

fn quoted(table: &TableName) -> String {
    format!("\"{}\".\"{}\"", table.warehouse, table.table)
}

/// What became of one record in one pipeline.
async fn tell(
    lake: &Lake,
    again: &Again<'_>,
    name: &PipelineName,
    pipeline: &PipelineConfig,
    place: &Place,
) -> anyhow::Result<Value> {
    let Place { segment, record } = place;
    let config = &lake.stores().config;
    let work = work_query(config);
    let sql = format!("{work} SELECT * FROM work WHERE segment = $segment AND pipeline = $pipeline");
    let values = vec![("segment", ScalarValue::from(segment.as_str())), ("pipeline", ScalarValue::from(name.as_str()))];
    let state = listing::objects(lake, &sql, values).await?.into_iter().next().unwrap_or_default();
    let rejected = rows_in(lake, &pipeline.rejects, place, "stage, code, message, retryable, ").await?;
    let mut found = Vec::new();
    for (route, target) in &pipeline.routes {
        let RouteTarget::Table { table, .. } = target else { continue };
        found.push((route, table, rows_in(lake, table, place, "").await?));
    }
    let ask = text(&state, "state") == "loaded" && rejected.is_empty();
    let followed = match found.iter().any(|(_, _, rows)| rows.is_empty()) && ask {
        true => Some(again.follow(name, pipeline, place).await),
        false => None,
    };
    let missed = |route: &str| match followed.as_ref()? {
        Ok(followed) => Some(followed.missed(route)),
        Err(error) => Some(Missed { step: None, why: format!("it cannot be refined again to tell why: {error:#}") }),
    };
    let routes = found.into_iter().map(|(route, table, rows)| {
        let missed = if rows.is_empty() { missed(route) } else { None };
        let (step, why) = missed.map(|Missed { step, why }| (step, why)).unzip();
        json!({
            "route": route,
            "table": table,
            "rows": rows.len(),
            "loaded_at": rows.first().and_then(|row| row.get("at")),
            "not_selected_by": step.flatten(),
            "why": why,
        })
    });
    Ok(json!({
        "pipeline": name, "segment": segment, "record": record, "state": state,
        "rejected": rejected.into_iter().next(), "routes": routes.collect::<Vec<_>>(),
        "steps": pipeline.steps.iter().map(|step| step.name.as_str()).collect::<Vec<_>>(),
    }))
}

async fn rows_in(lake: &Lake, table: &TableName, place: &Place, columns: &str) -> anyhow::Result<Vec<Object>> {
    if !lake.has(table) {
        return Ok(Vec::new());
    }
    let Place { segment, record } = place;
    let sql = format!(
        "SELECT {columns} _forebay_loaded_at AS at FROM {}
         WHERE _forebay_segment = $segment AND _forebay_row = $record ORDER BY at",
        quoted(table)
    );
    let record = i64::try_from(*record).unwrap_or(i64::MAX);
    let values = vec![("segment", ScalarValue::from(segment.as_str())), ("record", ScalarValue::from(record))];
    listing::objects(lake, &sql, values).await
}

/// Who rejected: `decode`, or `step 1 (keep)`.
fn stage_in_words(stage: &str, answer: &Object) -> String {
    let Some(name) = stage.strip_prefix("step:") else { return stage.to_owned() };
    let mut steps = answer.get("steps").and_then(Value::as_array).into_iter().flatten();
    match steps.position(|step| step == name) {
        Some(index) => format!("step {} ({name})", index + 1),
        None => format!("step {name}"),
    }
}

fn in_words(answer: &Value) -> String {
    let Some(answer) = answer.as_object() else { return String::new() };
    let empty = serde_json::Map::new();
    let state = answer.get("state").and_then(Value::as_object).unwrap_or(&empty);
    let mut parts = vec![format!("record {} of segment {}", number(answer, "record"), text(answer, "segment"))];
    if text(state, "state") != "loaded" {
        parts.push(format!("{}: {}", text(answer, "pipeline"), super::super::segments::state_in_words(state)));
        return parts.join(" · ");
    }
    parts.push(format!("{} revision {}", text(answer, "pipeline"), number(state, "revision")));
    if let Some(rejected) = answer.get("rejected").and_then(Value::as_object) {
        let message = visible(first_line(text(rejected, "message")));
        let (stage, code) = (stage_in_words(text(rejected, "stage"), answer), text(rejected, "code"));
        parts.push(format!("rejected by {stage} at {}: {code}, {message}", moment(rejected, "at")));
        return parts.join(" · ");
    }
    let routes = answer.get("routes").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object);
    for route in routes {
        let table = text(route, "table");
        parts.push(match number(route, "rows") {
            0 => format!("not in {table}: {}", text(route, "why")),
            1 => format!("in {table} since {}", moment(route, "loaded_at")),
            rows => format!("{rows} rows in {table} since {}", moment(route, "loaded_at")),
        });
    }
    parts.join(" · ")
}
