//! `forebay status`: how far everything is, and what needs a person.

use clap::Args;
use forebay_model::PipelineName;
use forebay_model::ports::{HostHolder, HostState, Shadow};
use serde_json::{Value, json};

use super::listing::{self, moment, number, text, work_query};
use super::{Exit, Global, history, remote, show};
use crate::config::{Config, format_bytes};
use crate::query::{Lake, Object};
use crate::shadow::{Comparison, Plan};

/// Whether a host runs, how far each stream and pipeline is, and what needs a person: failed segments, refused revisions, held
/// changes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  forebay status
  forebay status --json
  FOREBAY_URL=http://127.0.0.1:8181 forebay status     of a host elsewhere")]
pub(super) struct StatusArgs {}

/// Failed segments that are told one by one.
const FAILURES: usize = 10;

pub(super) async fn status(global: &Global, config: Config, args: &StatusArgs) -> anyhow::Result<Exit> {
    let StatusArgs {} = args;
    let lake = Lake::open(config).await?;
    let config = &lake.stores().config;
    let work = work_query(config);
    let landed = landed(&lake).await?;
    let mut streams = Vec::new();
    for name in config.streams.keys() {
        let row = landed.iter().find(|row| text(row, "stream") == name.as_str());
        let mut row = row.cloned().unwrap_or_default();
        row.insert("stream".to_owned(), Value::from(name.as_str()));
        streams.push(row);
    }
    let counts = counts(&lake, &work).await?;
    let deployed = deployed(&lake).await?;
    let last_loads = last_loads(&lake).await?;
    let refused = refused(&lake).await?;
    let failures = failures(&lake, &work).await?;
    let held = held(&lake).await?;
    let paused = listing::objects(&lake, "SELECT * FROM ledger.paused", vec![]).await?;
    let again = again(&lake).await?;
    let histories = history::left(&lake, &work).await?;
    let shadows = shadows(&lake).await?;
    let sides = listing::objects(&lake, SIDES, vec![]).await?;
    let mut pipelines = Vec::new();
    for (name, pipeline) in &config.pipelines {
        let of = |rows: &[Object]| rows.iter().find(|row| text(row, "pipeline") == name.as_str()).cloned();
        let tables: Vec<_> = pipeline.tables().iter().map(ToString::to_string).collect();
        let failed = failures.iter().filter(|row| text(row, "pipeline") == name.as_str());
        let waiting = held.iter().filter(|row| tables.iter().any(|table| table == text(row, "table_name")));
        pipelines.push(json!({
            "pipeline": name,
            "stream": pipeline.from,
            "counts": of(&counts).unwrap_or_default(),
            "active": of(&deployed),
            "refused": of(&refused),
            "shadow": shadows.iter().find(|(of, _)| of == name).map(|(_, shadow)| shadow),
            "paused": of(&paused),
            "last_load": of(&last_loads),
            "failures": failed.collect::<Vec<_>>(),
            "held": waiting.collect::<Vec<_>>(),
            "history": of(&histories),
            "replay_into": of(&sides),
            "again": again.iter().filter(|row| text(row, "pipeline") == name.as_str()).collect::<Vec<_>>(),
        }));
    }
    let hosts = lake.stores().ledger.hosts().await?;
    let leader = hosts.iter().find(|host| host.leads()).or(hosts.first());
    let host =
        leader.map(|HostState { holder, .. }| json!({ "process": holder.process, "since": holder.since.to_string() }));
    let hosts: Vec<_> = hosts.iter().map(of_host).collect();
    let idle = sides.iter().filter(|side| !config.pipelines.keys().any(|name| name.as_str() == text(side, "pipeline")));
    let status = json!({
        "host": host, "hosts": hosts, "streams": streams, "pipelines": pipelines,
        "replays_idle": idle.collect::<Vec<_>>(),
    });
    told(global, &status)
}

/// One host, and what it does.
fn of_host(host: &HostState) -> Value {
    let HostState { holder: HostHolder { process, host, since }, duties, cannot } = host;
    json!({ "process": process, "host": host, "since": since.to_string(), "duties": duties, "cannot": cannot })
}

/// The same of a host elsewhere.
pub(super) async fn ask_host(global: &Global, host: &remote::Host) -> anyhow::Result<Exit> {
    told(global, &host.get("/v1/status").await?)
}

fn told(global: &Global, status: &Value) -> anyhow::Result<Exit> {
    if global.json() {
        show::object(status)?
    } else {
        show::line(&in_words(status))?
    }
    Ok(Exit::Ok)
}

async fn landed(lake: &Lake) -> anyhow::Result<Vec<Object>> {
    let sql = "SELECT stream, count(*) AS segments, CAST(sum(bytes) AS BIGINT) AS bytes, max(landed_at) AS last_landed
               FROM ledger.segments GROUP BY stream";
    listing::objects(lake, sql, vec![]).await
}

async fn counts(lake: &Lake, work: &str) -> anyhow::Result<Vec<Object>> {
    let sql = format!(
        "{work} SELECT pipeline,
            count(*) FILTER (WHERE state = 'pending') AS pending, count(*) FILTER (WHERE state = 'loading') AS loading,
            count(*) FILTER (WHERE state = 'loaded') AS loaded, count(*) FILTER (WHERE state = 'failed') AS failed,
            count(*) FILTER (WHERE state = 'superseded') AS superseded,
            CAST(sum(records) FILTER (WHERE state = 'loaded') AS BIGINT) AS records,
            CAST(sum(loaded) FILTER (WHERE state = 'loaded') AS BIGINT) AS records_loaded,
            CAST(sum(filtered) FILTER (WHERE state = 'loaded') AS BIGINT) AS records_filtered,
            CAST(sum(rejected) FILTER (WHERE state = 'loaded') AS BIGINT) AS records_rejected,
            CAST(sum(rescued) FILTER (WHERE state = 'loaded') AS BIGINT) AS records_rescued
         FROM work WHERE pipeline IS NOT NULL GROUP BY pipeline"
    );
    listing::objects(lake, &sql, vec![]).await
}

async fn deployed(lake: &Lake) -> anyhow::Result<Vec<Object>> {
    let sql =
        "SELECT pipeline, revision, revision_id, reason, deployed_at FROM ledger.deployments WHERE state = 'active'";
    listing::objects(lake, sql, vec![]).await
}

/// What is in shadow.
async fn shadows(lake: &Lake) -> anyhow::Result<Vec<(PipelineName, Value)>> {
    let mut told = Vec::new();
    for shadow in lake.stores().ledger.shadows().await? {
        let (plan, comparison) = (Plan::of(&shadow)?, Comparison::of(&shadow)?);
        let Shadow { pipeline, revision, since, reason, plan: _, report: _ } = shadow;
        let told_of = json!({
            "revision": revision.number, "revision_id": revision.id, "since": since.to_string(), "reason": reason,
            "stage": comparison.stage, "compared": comparison.line(&plan),
        });
        told.push((pipeline, told_of));
    }
    Ok(told)
}

/// The last revision of each pipeline that was refused since the active one was deployed.
async fn refused(lake: &Lake) -> anyhow::Result<Vec<Object>> {
    let sql = "WITH active AS (SELECT pipeline, max(number) AS number FROM ledger.deployments
                               WHERE state = 'active' GROUP BY pipeline),
                    refused AS (SELECT *, row_number() OVER (PARTITION BY pipeline ORDER BY number DESC) AS nth
                                FROM ledger.deployments WHERE state = 'refused')
               SELECT r.pipeline, r.revision, r.reason, r.deployed_at AS refused_at FROM refused r
               LEFT JOIN active a ON a.pipeline = r.pipeline
               WHERE r.nth = 1 AND (a.number IS NULL OR r.number > a.number)";
    listing::objects(lake, sql, vec![]).await
}

async fn last_loads(lake: &Lake) -> anyhow::Result<Vec<Object>> {
    let sql = "SELECT pipeline, max(number) AS number, max(done_at) AS done_at
               FROM ledger.loads WHERE state = 'done' GROUP BY pipeline";
    listing::objects(lake, sql, vec![]).await
}

async fn failures(lake: &Lake, work: &str) -> anyhow::Result<Vec<Object>> {
    let sql = format!(
        "{work} SELECT pipeline, segment, object, state, attempts, error_message, error_hint, failed_at, retry_at
         FROM work WHERE state = 'failed' ORDER BY failed_at DESC, segment"
    );
    listing::objects(lake, &sql, vec![]).await
}

/// What is refined again, and who asked: how many segments wait, how many of them failed, and why the last one did.
async fn again(lake: &Lake) -> anyhow::Result<Vec<Object>> {
    let sql = "SELECT pipeline, what, revision, workers, reason, count(*) AS segments, count(failed_at) AS failed,
                      min(asked_at) AS asked_at, last_value(error_message ORDER BY failed_at NULLS FIRST) AS error_message
               FROM ledger.again GROUP BY pipeline, what, revision, workers, reason
               ORDER BY pipeline, what, asked_at, reason";
    listing::objects(lake, sql, vec![]).await
}

/// Replays into tables beside.
const SIDES: &str = "SELECT pipeline, of_pipeline, revision, reason, asked_at, dropped FROM ledger.sides";

async fn held(lake: &Lake) -> anyhow::Result<Vec<Object>> {
    let sql = "SELECT table_name, column_name, data_type, reason, first_seen FROM ledger.held_changes
               WHERE NOT approved ORDER BY table_name, column_name";
    listing::objects(lake, sql, vec![]).await
}

fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Object> {
    value.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object)
}

fn in_words(status: &Value) -> String {
    let mut lines: Vec<_> = list(status, "hosts").flat_map(host_in_words).collect();
    if lines.is_empty() {
        lines.push("host: not running".to_owned());
    }
    for stream in list(status, "streams") {
        let name = text(stream, "stream");
        lines.push(match number(stream, "segments") {
            0 => format!("stream {name}: nothing has landed"),
            segments => format!(
                "stream {name}: {} landed, {}, the last at {}",
                show::count(segments, "segment"),
                format_bytes(number(stream, "bytes")),
                moment(stream, "last_landed"),
            ),
        });
    }
    // What hosts that share the ledger do together; `None` where one does all.
    let duties: Option<Vec<_>> = list(status, "hosts").map(|host| host.get("duties")?.as_array()).collect();
    let duties = duties.filter(|hosts| !hosts.is_empty()).map(|hosts| hosts.into_iter().flatten().collect::<Vec<_>>());
    for pipeline in list(status, "pipelines") {
        pipeline_in_words(pipeline, &mut lines);
        let duty = Value::from(format!("pipeline {}", text(pipeline, "pipeline")));
        if duties.as_ref().is_some_and(|duties| !duties.contains(&&duty)) && object_of(pipeline, "active").is_some() {
            lines.push("  no host runs it".to_owned());
        }
    }
    for side in list(status, "replays_idle") {
        let (name, of) = (text(side, "pipeline"), text(side, "of_pipeline"));
        lines.push(match side.get("dropped").and_then(Value::as_bool) {
            Some(true) => format!("replay {name} into tables beside those of {of}: they are being dropped"),
            Some(false) | None => format!(
                "replay {name} into tables beside those of {of}: does not run, for its pipeline, stream, warehouse or tables are not \
                 what they were; the host's log tells more"
            ),
        });
    }
    lines.join("\n")
}

fn object_of<'a>(value: &'a Object, key: &str) -> Option<&'a Object> {
    value.get(key).and_then(Value::as_object)
}

fn host_in_words(host: &Object) -> Vec<String> {
    let Some(process) = host.get("process").and_then(Value::as_u64) else { return vec!["host: running".to_owned()] };
    let since = moment(host, "since");
    let Some(duties) = host.get("duties").and_then(Value::as_array) else {
        return vec![format!("host: running, process {process}, since {since}")];
    };
    let does = duties.iter().filter_map(Value::as_str).map(|duty| if duty == "lead" { "leads" } else { duty });
    let mut does: Vec<_> = does.collect();
    if does.is_empty() {
        does.push("waits for something to do");
    }
    let place = match text(host, "host") {
        "" => String::new(),
        name => format!(" on {name}"),
    };
    let mut lines = vec![format!("host: process {process}{place}, since {since}: {}", does.join(", "))];
    for (pipeline, why) in object_of(host, "cannot").into_iter().flatten() {
        let why = listing::first_line(why.as_str().unwrap_or_default());
        lines.push(format!("  it takes no segments for pipeline {pipeline}, since it cannot load {why}"));
    }
    lines
}

fn pipeline_in_words(pipeline: &Object, lines: &mut Vec<String>) {
    let object = |key: &str| object_of(pipeline, key);
    let revision = match object("active") {
        Some(active) => {
            format!("revision {} since {}", number(active, "revision"), moment(active, "deployed_at"))
        }
        None => "no revision yet".to_owned(),
    };
    lines.push(format!("pipeline {} of {}: {revision}", text(pipeline, "pipeline"), text(pipeline, "stream")));
    if let Some(active) = object("active").filter(|active| text(active, "reason").contains(", by itself: ")) {
        lines.push(format!("  {}", listing::first_line(text(active, "reason"))));
    }
    if let Some(paused) = object("paused") {
        let reason = match text(paused, "reason") {
            "" => String::new(),
            reason => format!(" ({reason})"),
        };
        let name = text(pipeline, "pipeline");
        lines.push(format!("  paused since {}{reason}: `forebay resume {name}`", moment(paused, "since")));
    }
    if let Some(refused) = object("refused") {
        lines.push(format!(
            "  refused since: revision {} at {}, {}",
            number(refused, "revision"),
            moment(refused, "refused_at"),
            listing::first_line(text(refused, "reason")),
        ));
    }
    if let Some(shadow) = object("shadow") {
        let name = text(pipeline, "pipeline");
        let decide = match text(shadow, "stage") {
            "waiting" => format!(": `forebay deployments approve {name}`, or `cancel`"),
            _ => String::new(),
        };
        lines.push(format!(
            "  in shadow: revision {} since {}, {}: {}{decide}",
            number(shadow, "revision"),
            moment(shadow, "since"),
            text(shadow, "reason"),
            text(shadow, "compared"),
        ));
    }
    if let Some(counts) = object("counts") {
        let states: Vec<_> = ["pending", "loading", "loaded", "failed", "superseded"]
            .iter()
            .filter(|state| number(counts, state) > 0 || **state == "pending")
            .map(|state| format!("{} {state}", show::thousands(number(counts, state))))
            .collect();
        lines.push(format!("  segments: {}", states.join(", ")));
        lines.push(format!(
            "  records: {} = {} loaded + {} filtered + {} rejected ({} rescued)",
            show::thousands(number(counts, "records")),
            show::thousands(number(counts, "records_loaded")),
            show::thousands(number(counts, "records_filtered")),
            show::thousands(number(counts, "records_rejected")),
            show::thousands(number(counts, "records_rescued")),
        ));
    }
    if let Some(load) = object("last_load") {
        lines.push(format!("  last load: number {}, done at {}", number(load, "number"), moment(load, "done_at")));
    }
    if let Some(side) = object("replay_into") {
        lines.push(format!(
            "  into tables beside those of {}, under its revision {}, since {} ({})",
            text(side, "of_pipeline"),
            number(side, "revision"),
            moment(side, "asked_at"),
            text(side, "reason"),
        ));
    }
    if let Some(history) = object("history") {
        lines.push(format!("  {}", history::left_in_words(history)));
    }
    let value = Value::Object(pipeline.clone());
    let failures: Vec<_> = list(&value, "failures").collect();
    for failure in failures.iter().take(FAILURES) {
        let state = super::segments::state_in_words(failure);
        lines.push(format!("  {} ({}) {state}", text(failure, "segment"), text(failure, "object")));
    }
    if failures.len() > FAILURES {
        lines.push(format!("  … and {} more: `forebay segments list --state failed`", failures.len() - FAILURES));
    }
    for again in list(&value, "again") {
        let what = match text(again, "what") {
            "heal" => "tried again: rejects",
            _ => "replayed: all",
        };
        let failed = match number(again, "failed") {
            0 => String::new(),
            failed => format!(
                "; {} failed and keep their rows, the last: {}",
                show::thousands(failed),
                listing::first_line(text(again, "error_message"))
            ),
        };
        let since = moment(again, "asked_at");
        let known = |key: &str| again.get(key).and_then(Value::as_u64);
        let how = super::again::how(known("revision"), known("workers"));
        let segments = show::count(number(again, "segments"), "segment");
        let asked = text(again, "reason");
        lines.push(format!("  {what} of {segments}{how} since {since} ({asked}){failed}"));
    }
    for change in list(&value, "held") {
        let (table, column) = (text(change, "table_name"), text(change, "column_name"));
        lines.push(format!(
            "  held: {table} would gain `{column}` {} ({}): `forebay schema approve {table} {column}`",
            text(change, "data_type"),
            text(change, "reason"),
        ));
    }
}
