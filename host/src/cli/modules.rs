//! `forebay modules`: every content that was seen under a module's name, and what it says of itself.

use clap::{Args, Subcommand};
use datafusion::common::ScalarValue;
use forebay_model::ports::Description;
use serde_json::{Value, json};

use super::listing::{self, moment, number, text, text_value};
use super::{Exit, Failure, Global, kept, show};
use crate::assemble::{self, Access};
use crate::config::{Config, format_bytes};
use crate::query::{Lake, Object};
use crate::rules::packed::{Carried, carried};

/// Every content that was seen under a module's name, and what it says of itself.
///
/// Modules are kept by digest beside the raw data and never change; a name means the content that was deployed last.
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "\
Examples:
  forebay modules list
  forebay modules show fraud                   the one that the name means now
  forebay modules show 9f2c0a1b"
)]
pub(super) struct ModulesArgs {
    #[command(subcommand)]
    command: ModulesCommand,
}

#[derive(Debug, Subcommand)]
enum ModulesCommand {
    List(ListArgs),
    Show(ShowArgs),
}

/// List modules, each name's newest content first.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  forebay modules list
  forebay modules list --name fraud --json
  forebay modules list --assets                what modules were given")]
struct ListArgs {
    /// Of this name only.
    #[arg(long)]
    name: Option<String>,
    /// The assets that modules were given, instead.
    #[arg(long)]
    assets: bool,
    /// At most so many.
    #[arg(long, default_value_t = 100)]
    limit: u32,
}

/// Show what a module says of itself: its documentation, assets and config, and the pipelines that run it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  forebay modules show fraud                   the one that the name means now
  forebay modules show 9f2c0a1b                the beginning of a digest is enough where only one module has it")]
struct ShowArgs {
    /// A module's name, or the beginning of its digest.
    module: String,
}

pub(super) async fn modules(global: &Global, config: Config, args: ModulesArgs) -> anyhow::Result<Exit> {
    match args.command {
        ModulesCommand::List(ListArgs { name, assets, limit }) => {
            let lake = Lake::open(config).await?;
            let digest = if global.json() { "sha256" } else { "substr(sha256, 1, 12)" };
            let (columns, table) = match assets {
                true => ("bytes, recorded_at, origin", "assets"),
                false => ("active, version, bytes, recorded_at, origin", "modules"),
            };
            let sql = format!(
                "SELECT name, {digest} AS digest, {columns} FROM ledger.{table}
                 WHERE name = $name OR $name IS NULL ORDER BY name, recorded_at DESC LIMIT {}",
                u64::from(limit) + 1
            );
            let rows = lake.rows(&sql, vec![("name", text_value(name.as_deref()))]).await?;
            listing::list_first(global, rows, limit)
        }
        ModulesCommand::Show(ShowArgs { module }) => show_one(global, config, &module).await,
    }
}

async fn show_one(global: &Global, config: Config, wanted: &str) -> anyhow::Result<Exit> {
    let (zone, sandbox) = (assemble::open_zone(&config, Access::Read)?, assemble::open_sandbox(&config)?);
    let lake = Lake::open(config).await?;
    let found = find(&lake, wanted).await?;
    let digest = text(&found, "sha256").parse()?;
    let wasm = kept::module(&*zone, digest).await?.ok_or_else(|| {
        Failure::new(Exit::NotFound, format!("module {wanted} is not in the landing zone any more"))
            .with_hint("restore modules/ from a backup of the zone, or build and deploy it again")
    })?;
    let module = kept::load(&sandbox, wasm.to_vec()).await?;
    let cases = carried(&wasm).map_err(|error| error.to_string());
    let uses = listing::objects(
        &lake,
        "SELECT d.pipeline, d.revision FROM ledger.deployments d
         JOIN ledger.revisions r ON r.pipeline = d.pipeline AND r.revision = d.revision
         WHERE d.state = 'active' AND strpos(r.body, $digest) > 0 ORDER BY d.pipeline",
        vec![("digest", ScalarValue::from(text(&found, "sha256")))],
    )
    .await?;
    if global.json() {
        show::object(&as_json(&found, module.description(), &cases, &uses))?;
    } else {
        show::line(&in_words(&found, module.description(), &cases, &uses))?;
    }
    Ok(Exit::Ok)
}

/// The module that a name means, or whose digest begins so.
async fn find(lake: &Lake, wanted: &str) -> anyhow::Result<Object> {
    let sql = "SELECT * FROM ledger.modules
               WHERE (name = $wanted AND active) OR (length($wanted) >= 4 AND starts_with(sha256, $wanted))
               ORDER BY name LIMIT 2";
    let digits = wanted.rsplit_once("sha256:").map_or(wanted, |(_, digits)| digits);
    let mut found = listing::objects(lake, sql, vec![("wanted", ScalarValue::from(digits))]).await?.into_iter();
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        (None, _) => Err(Failure::new(Exit::NotFound, format!("there is no module {wanted}"))
            .with_hint("`forebay modules list` shows what there is")
            .into()),
        (Some(_), Some(_)) => Err(Failure::new(Exit::Usage, format!("more than one module begins with {wanted}"))
            .with_hint("write more digits of its digest")
            .into()),
    }
}

/// The cases that a module carries, or why they are none.
type Cases = Result<Carried, String>;

fn as_json(found: &Object, description: &Description, cases: &Cases, uses: &[Object]) -> Value {
    let Description { name, version, doc, config_schema, assets } = description;
    let assets: Vec<_> =
        assets.iter().map(|want| json!({ "name": want.name, "doc": want.doc, "required": want.required })).collect();
    json!({
        "name": name, "version": version, "digest": text(found, "sha256"), "active": found.get("active"),
        "bytes": number(found, "bytes"), "origin": text(found, "origin"), "recorded_at": text(found, "recorded_at"),
        "doc": doc, "cases": cases.as_ref().ok().map(Carried::names),
        "cases_error": cases.as_ref().err(), "assets": assets, "config_schema": config_schema, "pipelines": uses,
    })
}

fn in_words(found: &Object, description: &Description, cases: &Cases, uses: &[Object]) -> String {
    let Description { name, version, doc, config_schema, assets } = description;
    let active = if found.get("active").and_then(Value::as_bool) == Some(true) { ", active" } else { "" };
    let mut lines = vec![
        format!("{name} {version}{active}"),
        format!("  sha256:{}", text(found, "sha256")),
        format!(
            "  {} from {}, {}",
            format_bytes(number(found, "bytes")),
            text(found, "origin"),
            moment(found, "recorded_at")
        ),
    ];
    lines.push(match cases {
        Ok(cases) => format!("  cases: {}", cases.told()),
        Err(why) => format!("  cases: cannot be read: {why}"),
    });
    for run in uses {
        lines.push(format!("  runs in pipeline {}, revision {}", text(run, "pipeline"), number(run, "revision")));
    }
    lines.extend(doc.lines().map(|line| format!("  {line}").trim_end().to_owned()));
    if !assets.is_empty() {
        lines.push("assets:".to_owned());
    }
    for want in assets {
        let need = if want.required { "required" } else { "optional" };
        lines.push(format!("  {} ({need}): {}", want.name, want.doc));
    }
    lines.push("config:".to_owned());
    lines.extend(keys(config_schema));
    lines.join("\n")
}

/// A line for each key of a config's JSON Schema.
fn keys(schema: &Value) -> Vec<String> {
    let Some(properties) = schema["properties"].as_object().filter(|properties| !properties.is_empty()) else {
        return vec!["  no keys".to_owned()];
    };
    let required = schema["required"].as_array().map(Vec::as_slice).unwrap_or_default();
    let line = |(name, about): (&String, &Value)| {
        let kind = match &about["type"] {
            Value::String(kind) => kind.clone(),
            Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" or "),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => "any".to_owned(),
        };
        let default = match about.get("default") {
            Some(default) => format!(", default {default}"),
            None if required.iter().any(|key| key == name) => ", required".to_owned(),
            None => String::new(),
        };
        let doc = about["description"].as_str().unwrap_or_default().replace('\n', " ");
        format!("  {name} ({kind}{default}): {doc}").trim_end_matches([':', ' ']).to_owned()
    };
    properties.iter().map(line).collect()
}
