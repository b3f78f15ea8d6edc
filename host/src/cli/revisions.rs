//! `forebay revisions`: what each pipeline ran, when, and how two of them differ.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use clap::{Args, Subcommand};
use datafusion::arrow::array::{ArrayRef, AsArray as _, RecordBatch, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::ScalarValue;
use forebay_model::PipelineName;
use serde_json::{Value, json};

use super::listing::{self, moment, number, text, text_value};
use super::{Exit, Failure, Global, named, show};
use crate::config::Config;
use crate::query::{Lake, Object, Rows};

/// What each pipeline ran, when, and how two of them differ.
///
/// A revision is all that makes a pipeline's rows: modules by their content, their config and assets, the decoder's settings, the
/// routes. Nothing is ever overwritten: each row in a table leads to its load, and the load to its revision.
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "\
Examples:
  forebay revisions list --pipeline fraud
  forebay revisions show fraud                 the active one
  forebay revisions diff fraud 3               what has changed since the third"
)]
pub(super) struct RevisionsArgs {
    #[command(subcommand)]
    command: RevisionsCommand,
}

#[derive(Debug, Subcommand)]
enum RevisionsCommand {
    List(ListArgs),
    Show(ShowArgs),
    Diff(DiffArgs),
}

/// List revisions, the newest first, with their modules and what became of each.
///
/// States are shadow (it runs beside the active one), active, retired, refused (it did not pass its checks and never ran), cancelled (it
/// was taken back), and checked (it passed and was not deployed,
/// because another module that came with it did not).
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  forebay revisions list
  forebay revisions list --pipeline fraud --limit 5 --json")]
struct ListArgs {
    /// Of this pipeline only.
    #[arg(long)]
    pipeline: Option<PipelineName>,
    /// At most so many.
    #[arg(long, default_value_t = 100)]
    limit: u32,
}

/// Show a revision: its modules, their config and assets, its routes, and when it was deployed.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  forebay revisions show fraud                 the active one
  forebay revisions show fraud 3")]
struct ShowArgs {
    /// The pipeline.
    pipeline: PipelineName,
    /// The revision's number. Default: the active one.
    revision: Option<u32>,
}

/// Show what differs between two revisions, setting by setting.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  forebay revisions diff fraud 3               from the third to the active one
  forebay revisions diff fraud 3 4")]
struct DiffArgs {
    /// The pipeline.
    pipeline: PipelineName,
    /// The number of the one.
    from: u32,
    /// The number of the other. Default: the active one.
    to: Option<u32>,
}

pub(super) async fn revisions(global: &Global, config: Config, args: RevisionsArgs) -> anyhow::Result<Exit> {
    let lake = Lake::open(config).await?;
    match args.command {
        RevisionsCommand::List(args) => list(global, &lake, &args).await,
        RevisionsCommand::Show(ShowArgs { pipeline, revision }) => {
            let found = find(&lake, &pipeline, revision).await?;
            let deployments = listing::objects(
                &lake,
                "SELECT state, reason, deployed_at, retired_at FROM ledger.deployments
                 WHERE pipeline = $pipeline AND revision = $revision ORDER BY number",
                vec![
                    ("pipeline", ScalarValue::from(pipeline.as_str())),
                    ("revision", ScalarValue::from(number(&found, "revision"))),
                ],
            )
            .await?;
            if global.json() {
                show::object(&json!({
                    "pipeline": pipeline, "revision": number(&found, "revision"),
                    "revision_id": text(&found, "revision_id"), "created_at": text(&found, "created_at"),
                    "body": body(&found)?, "deployments": deployments,
                }))?;
            } else {
                show::line(&in_words(&found, &body(&found)?, &deployments))?;
            }
            Ok(Exit::Ok)
        }
        RevisionsCommand::Diff(DiffArgs { pipeline, from, to }) => {
            let (from, to) = (find(&lake, &pipeline, Some(from)).await?, find(&lake, &pipeline, to).await?);
            tell_difference(global, &from, &to)
        }
    }
}

async fn list(global: &Global, lake: &Lake, args: &ListArgs) -> anyhow::Result<Exit> {
    let ListArgs { pipeline, limit } = args;
    let mut rows = lake
        .rows(
            &format!(
                "WITH last AS (SELECT *, row_number() OVER (PARTITION BY pipeline, revision ORDER BY number DESC) AS nth
                               FROM ledger.deployments)
                 SELECT r.pipeline, r.revision, substr(r.revision_id, 1, 12) AS id, r.body AS modules,
                        coalesce(d.state, 'checked') AS state, d.deployed_at, d.retired_at,
                        split_part(d.reason, chr(10), 1) AS reason
                 FROM ledger.revisions r
                 LEFT JOIN last d ON d.pipeline = r.pipeline AND d.revision = r.revision AND d.nth = 1
                 WHERE r.pipeline = $pipeline OR $pipeline IS NULL
                 ORDER BY r.pipeline, r.revision DESC LIMIT {}",
                u64::from(*limit) + 1
            ),
            vec![("pipeline", text_value(pipeline.as_ref().map(PipelineName::as_str)))],
        )
        .await?;
    // One that the config has no more keeps its history.
    if let Some(name) = pipeline.as_ref().filter(|_| rows.batches.iter().all(|batch| batch.num_rows() == 0)) {
        named::pipeline(&lake.stores().config, name.as_str())?;
    }
    name_modules(&mut rows)?;
    listing::list_first(global, rows, *limit)
}

/// In the column `modules`, in place of the whole body: `fraud@9f2c0a1b2c3d, keep@0123456789ab`.
fn name_modules(rows: &mut Rows) -> anyhow::Result<()> {
    let Ok(place) = rows.schema.index_of("modules") else { return Ok(()) };
    let mut fields: Vec<_> = rows.schema.fields().iter().cloned().collect();
    if let Some(field) = fields.get_mut(place) {
        *field = Arc::new(Field::new("modules", DataType::Utf8, true));
    }
    rows.schema = Arc::new(Schema::new(fields));
    for batch in &mut rows.batches {
        let bodies = cast(batch.column(place), &DataType::Utf8)?;
        let named: StringArray = bodies.as_string::<i32>().iter().map(|body| body.map(modules)).collect();
        let mut columns = batch.columns().to_vec();
        if let Some(column) = columns.get_mut(place) {
            *column = Arc::new(named) as ArrayRef;
        }
        *batch = RecordBatch::try_new(Arc::clone(&rows.schema), columns)?;
    }
    Ok(())
}

/// The modules of a revision, in the order of its steps.
fn modules(body: &str) -> String {
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    let steps = body["steps"].as_array().map(Vec::as_slice).unwrap_or_default();
    let named = steps.iter().map(|step| {
        let digest = step["digest"].as_str().unwrap_or_default().trim_start_matches("sha256:");
        format!("{}@{}", step["module"].as_str().unwrap_or_default(), digest.get(..12).unwrap_or(digest))
    });
    named.collect::<Vec<_>>().join(", ")
}

/// A revision by its number, or the active one.
async fn find(lake: &Lake, pipeline: &PipelineName, revision: Option<u32>) -> anyhow::Result<Object> {
    let chosen = match revision {
        Some(_) => "r.revision = $revision",
        None => {
            "EXISTS (SELECT 1 FROM ledger.deployments d
                     WHERE d.pipeline = r.pipeline AND d.revision = r.revision AND d.state = 'active')"
        }
    };
    let mut values = vec![("pipeline", ScalarValue::from(pipeline.as_str()))];
    values.extend(revision.map(|revision| ("revision", ScalarValue::from(revision))));
    let sql = format!("SELECT r.* FROM ledger.revisions r WHERE r.pipeline = $pipeline AND {chosen}");
    let found = listing::objects(lake, &sql, values).await?;
    found.into_iter().next().ok_or_else(|| {
        let what = match revision {
            Some(revision) => format!("pipeline {pipeline} has no revision {revision}"),
            None => format!("pipeline {pipeline} has no active revision"),
        };
        Failure::new(Exit::NotFound, what).with_hint("`forebay revisions list` shows what there is").into()
    })
}

fn body(revision: &Object) -> anyhow::Result<Value> {
    Ok(serde_json::from_str(text(revision, "body"))?)
}

fn in_words(revision: &Object, body: &Value, deployments: &[Object]) -> String {
    let mut lines = vec![format!(
        "{} revision {} ({})",
        text(revision, "pipeline"),
        number(revision, "revision"),
        text(revision, "revision_id").get(..12).unwrap_or_default()
    )];
    for deployment in deployments {
        let until = match text(deployment, "state") {
            "retired" => format!(", until {}", moment(deployment, "retired_at")),
            _ => String::new(),
        };
        let (state, at) = (text(deployment, "state"), moment(deployment, "deployed_at"));
        lines.push(format!("  {state}: {at}{until}, {}", text(deployment, "reason")));
    }
    if deployments.is_empty() {
        lines.push("  never deployed".to_owned());
    }
    lines.push(String::new());
    lines.extend(settings(body).into_iter().map(|(path, value)| format!("{path} = {value}")));
    lines.join("\n")
}

/// Each setting of a revision by its path. A step goes by its name, so that one that was put before it changes nothing of it.
fn settings(body: &Value) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::new();
    gather("", body, &mut settings);
    settings
}

fn gather(path: &str, value: &Value, settings: &mut BTreeMap<String, String>) {
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match value {
        Value::Object(members) if !members.is_empty() => {
            members.iter().for_each(|(name, value)| gather(&below(name), value, settings));
        }
        Value::Array(items) if path == "steps" => {
            let names: Vec<_> = items.iter().map(|step| step["name"].as_str().unwrap_or_default()).collect();
            settings.insert("steps".to_owned(), names.join(" ▶ "));
            names.iter().zip(items).for_each(|(name, step)| gather(&below(name), step, settings));
        }
        // The name is in the path.
        Value::String(_) if path.starts_with("steps.") && path.matches('.').count() == 2 && path.ends_with(".name") => {
        }
        Value::Object(_) | Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            settings.insert(path.to_owned(), value.to_string());
        }
    }
}

fn tell_difference(global: &Global, from: &Object, to: &Object) -> anyhow::Result<Exit> {
    let (before, after) = (settings(&body(from)?), settings(&body(to)?));
    let paths: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let changed = paths.into_iter().filter(|path| before.get(*path) != after.get(*path));
    let (mut lines, mut told) = (Vec::new(), false);
    for path in changed {
        told = true;
        let (old, new) = (before.get(path), after.get(path));
        if global.json() {
            show::object(&json!({ "setting": path, "from": old, "to": new }))?;
            continue;
        }
        lines.push(path.clone());
        lines.extend(old.map(|old| format!("  - {old}")));
        lines.extend(new.map(|new| format!("  + {new}")));
    }
    if !global.json() {
        let head =
            format!("{}: revision {} ▶ {}", text(from, "pipeline"), number(from, "revision"), number(to, "revision"));
        lines.insert(0, if told { head } else { format!("{head}: no difference") });
        show::line(&lines.join("\n"))?;
    }
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_goes_by_its_name() {
        let body = json!({
            "pipeline": "fraud",
            "steps": [
                { "name": "keep", "module": "keep", "config": {} },
                { "name": "fraud", "module": "fraud", "config": { "v14_below": -8.0, "name": "x" } },
            ],
        });
        let settings: Vec<_> = settings(&body).into_iter().map(|(path, value)| format!("{path} = {value}")).collect();
        assert_eq!(
            settings,
            [
                "pipeline = \"fraud\"",
                "steps = keep ▶ fraud",
                "steps.fraud.config.name = \"x\"",
                "steps.fraud.config.v14_below = -8.0",
                "steps.fraud.module = \"fraud\"",
                "steps.keep.config = {}",
                "steps.keep.module = \"keep\"",
            ]
        );
    }

    #[test]
    fn modules_are_named_with_twelve_digits() {
        let digest = "0123456789abcdef".repeat(4);
        let body =
            json!({ "steps": [{ "module": "fraud", "digest": digest }, { "module": "keep", "digest": digest }] });
        assert_eq!(modules(&body.to_string()), "fraud@0123456789ab, keep@0123456789ab");
        assert_eq!(modules("no json"), "");
    }
}
