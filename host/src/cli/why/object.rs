//! Why an object or a segment is where it is.

use std::path::Path;

use datafusion::common::ScalarValue;
use forebay_model::Timestamp;
use serde_json::Value;

use super::super::listing::{self, moment, number, text, time_value, work_query};
use super::super::segments::{self, again_in_words, details, state_in_words};
use super::super::{Exit, Failure, Global, show};
use crate::assemble;
use crate::config::{Config, format_bytes};
use crate::query::{Lake, Object};

pub(super) async fn why(global: &Global, lake: &Lake, what: &str, since: Option<Timestamp>) -> anyhow::Result<Exit> {
    let config = &lake.stores().config;
    let work = work_query(config);
    let mut segments = find(lake, what, since).await?;
    if segments.is_empty() {
        // The beginning of a segment's id is enough where only one has it.
        match segments::find(lake, what).await {
            Ok(segment) => segments.push(segment),
            Err(error) if said_not_found(&error) => return Err(not_landed(config, what).into()),
            Err(error) => return Err(error),
        }
    }
    for segment in &segments {
        let mut shown = details(lake, &work, segment).await?;
        let modules = modules(lake, &shown).await?;
        let rejects: Vec<_> = config.pipelines.values().map(|pipeline| pipeline.rejects.to_string()).collect();
        if global.json() {
            if let Value::Object(map) = &mut shown {
                map.insert("modules".to_owned(), Value::Object(modules));
            }
            show::object(&shown)?;
        } else {
            show::line(&in_words(&shown, &modules, &rejects))?;
        }
    }
    Ok(Exit::Ok)
}

/// The segments of an object, all versions of it, in the order of landing.
async fn find(lake: &Lake, what: &str, since: Option<Timestamp>) -> anyhow::Result<Vec<String>> {
    let config = &lake.stores().config;
    let key = key_of_url(config, what).or_else(|| key_of_path(config, Path::new(what)));
    let object = assemble::object_of_url(config, what).or_else(|| object_of_path(config, Path::new(what)));
    let since = since.map_or(ScalarValue::TimestampMicrosecond(None, Some("UTC".into())), time_value);
    let found = listing::objects(
        lake,
        "SELECT segment FROM ledger.segments
         WHERE (segment = $what OR key = $what OR object = $what OR key = $key OR object = $object)
           AND (landed_at >= $since OR $since IS NULL)
         ORDER BY number",
        vec![
            ("what", ScalarValue::from(what)),
            ("key", ScalarValue::from(key.as_deref().unwrap_or(what))),
            ("object", ScalarValue::from(object.as_deref().unwrap_or(what))),
            ("since", since),
        ],
    )
    .await?;
    Ok(found.iter().map(|row| text(row, "segment").to_owned()).collect())
}

/// The key of an object that is named by its url, where a source reads its bucket.
fn key_of_url(config: &Config, what: &str) -> Option<String> {
    let (bucket, key) = what.strip_prefix("s3://")?.split_once('/')?;
    let reads = |source| forebay_sources::bucket_of(source).is_some_and(|address| address.bucket() == bucket);
    config.streams.values().any(|stream| reads(stream.source.value())).then(|| key.to_owned())
}

/// What a source calls the file at `path`, where a source's folder holds it.
fn key_of_path(config: &Config, path: &Path) -> Option<String> {
    let path = whole(path)?;
    config.streams.values().find_map(|stream| {
        let folder = whole(&assemble::source_folder(config, stream)?)?;
        Some(forebay_sources::key_of(path.strip_prefix(folder).ok()?))
    })
}

/// What the landing zone calls the file at `path`, where it lies in there.
fn object_of_path(config: &Config, path: &Path) -> Option<String> {
    let zone = whole(assemble::zone_folder(config)?)?;
    Some(forebay_sources::key_of(whole(path)?.strip_prefix(zone).ok()?))
}

/// The path without links; where nothing is there any more, its folder's.
fn whole(path: &Path) -> Option<std::path::PathBuf> {
    let absolute = std::path::absolute(path).ok()?;
    if let Ok(whole) = absolute.canonicalize() {
        return Some(whole);
    }
    let folder = absolute.parent()?.canonicalize().ok()?;
    Some(folder.join(absolute.file_name()?))
}

/// Whether an error is that of a name that nothing has.
fn said_not_found(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Failure>().is_some_and(|failure| failure.exit() == Exit::NotFound)
}

fn not_landed(config: &Config, what: &str) -> Failure {
    let failure = Failure::new(Exit::NotFound, format!("nothing that is called {what} has landed"));
    let path = Path::new(what);
    if !path.exists() {
        return failure.with_hint("`forebay segments list` shows what has landed; files are named relative to here");
    }
    match key_of_path(config, path) {
        Some(key) => failure.with_hint(format!(
            "the file is there, as `{key}` of a source: `forebay run --once` takes it where `include` matches it; hidden \
             files and those that end in .tmp or .part or begin with _ are not taken"
        )),
        None => failure.with_hint("the file is there, but in no folder of a source"),
    }
}

/// `fraud@sha256:9f2c…`, by pipeline and revision number.
async fn modules(lake: &Lake, shown: &Value) -> anyhow::Result<Object> {
    let mut modules = Object::new();
    for work in shown.get("pipelines").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object) {
        let (pipeline, revision) = (text(work, "pipeline"), number(work, "revision"));
        let values = vec![("pipeline", ScalarValue::from(pipeline)), ("revision", ScalarValue::from(revision))];
        let sql = "SELECT body FROM ledger.revisions WHERE pipeline = $pipeline AND revision = $revision";
        let Some(row) = listing::objects(lake, sql, values).await?.into_iter().next() else { continue };
        let body: Value = serde_json::from_str(text(&row, "body")).unwrap_or_default();
        let steps = body.get("steps").and_then(Value::as_array).into_iter().flatten();
        let names = steps.filter_map(|step| {
            let digest = step.get("digest")?.as_str()?;
            Some(Value::from(format!("{}@sha256:{digest}", step.get("module")?.as_str()?)))
        });
        modules.insert(pipeline.to_owned(), names.collect());
    }
    Ok(modules)
}

fn in_words(shown: &Value, modules: &Object, rejects: &[String]) -> String {
    let rows = |key: &str| shown.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object);
    let mut parts = Vec::new();
    if let Some(landed) = shown.get("segment").and_then(Value::as_object) {
        parts.push(format!(
            "landed {} as segment {} ({}, sha256 {})",
            moment(landed, "landed_at"),
            text(landed, "segment"),
            format_bytes(number(landed, "bytes")),
            short(text(landed, "sha256")),
        ));
    }
    if rows("pipelines").next().is_none() {
        parts.push("no pipeline reads its stream".to_owned());
    }
    for work in rows("pipelines") {
        let pipeline = text(work, "pipeline");
        if text(work, "state") != "loaded" {
            parts.push(format!("{pipeline}: {}", state_in_words(work)));
            continue;
        }
        let names = modules.get(pipeline).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        let names: Vec<_> = names.map(short_module).collect();
        let names = if names.is_empty() { String::new() } else { format!(" ({})", names.join(", ")) };
        parts.push(format!("refined by {pipeline} revision {}{names}", number(work, "revision")));
        let tables: Vec<_> = rows("tables")
            .filter(|table| text(table, "pipeline") == pipeline)
            // What was rejected is told by its count.
            .filter(|table| !rejects.iter().any(|name| name == text(table, "table_name")))
            .map(|table| format!("{} in {}", show::count(number(table, "rows"), "row"), text(table, "table_name")))
            .collect();
        if !tables.is_empty() {
            parts.push(tables.join(", "));
        }
        for (count, what) in [(number(work, "filtered"), "filtered"), (number(work, "rejected"), "rejected")] {
            if count > 0 {
                parts.push(format!("{} {what}", show::thousands(count)));
            }
        }
        parts.extend(again_in_words(shown, pipeline));
    }
    parts.join(" · ")
}

fn short(digest: &str) -> String {
    let head: String = digest.chars().take(12).collect();
    format!("{head}…")
}

fn short_module(name: &str) -> String {
    match name.split_once("@sha256:") {
        Some((name, digest)) => format!("{name}@sha256:{}", short(digest)),
        None => name.to_owned(),
    }
}
