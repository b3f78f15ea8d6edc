//! `forebay build`: a rule's crate becomes a module, and what the module is.

use std::path::PathBuf;

use clap::Args;
use forebay_model::ports::{AssetWant, Description};
use serde_json::{Value, json};

use super::{Exit, Global, logging, show};
use crate::rules::finished::{Bound, Finished};
use crate::rules::package::Package;

/// Build a rule's crate, check the module, and tell what it is.
///
/// The module is built with the crate's profile `guest` for wasm32-wasip2, and loaded as a pipeline would load it: it must be of a
/// world that this forebay runs, and import nothing else. Which columns it reads and which routes it has depends on its input and
/// its config: they are told for the first case in `cases`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  forebay build                          the crate in this folder
  cp $(forebay build rules/fx --quiet --json | jq -r .path) modules/")]
pub(super) struct BuildArgs {
    /// The rule's folder.
    #[arg(default_value = ".")]
    folder: PathBuf,
}

pub(super) fn build(global: &Global, args: &BuildArgs) -> anyhow::Result<Exit> {
    let BuildArgs { folder } = args;
    logging::start(global, None)?;
    let package = Package::find(folder)?;
    let path = package.build(global.quiet())?;
    let finished = Finished::load(&path, Some(package.cache()))?;
    let bound = finished.bound(&folder.join("cases"));
    if global.json() {
        show::object(&in_json(&finished, &bound)?)?;
    } else {
        show::line(&in_words(&finished, &bound)?)?;
    }
    Ok(Exit::Ok)
}

fn in_json(finished: &Finished, bound: &Result<Option<Bound>, String>) -> anyhow::Result<Value> {
    let Description { name, version, doc, config_schema, assets } = finished.module.description();
    let assets: Vec<_> = assets
        .iter()
        .map(|AssetWant { name, doc, required }| json!({ "name": name, "doc": doc, "required": required }))
        .collect();
    let (bound, not_bound) = match bound {
        Ok(bound) => (bound.as_ref().map(bound_json), None),
        Err(why) => (None, Some(why)),
    };
    Ok(json!({
        "module": name, "version": version, "doc": doc,
        "path": finished.path, "bytes": finished.bytes.len(), "sha256": finished.module.digest().to_string(),
        "imports": finished.imports()?, "assets": assets, "config_schema": config_schema,
        "bound": bound, "not_bound": not_bound,
    }))
}

fn bound_json(bound: &Bound) -> Value {
    let Bound { case, reads, routes } = bound;
    let reads: Vec<_> = reads.iter().map(|(name, required)| json!({ "column": name, "required": required })).collect();
    let routes: Vec<_> = routes.iter().map(|(route, columns)| json!({ "route": route, "columns": columns })).collect();
    json!({ "case": case, "reads": reads, "routes": routes })
}

fn in_words(finished: &Finished, bound: &Result<Option<Bound>, String>) -> anyhow::Result<String> {
    let Description { name, version, doc, config_schema, assets } = finished.module.description();
    let row = |name: &str, text: &str| format!("  {name:<8} {text}");
    let mut lines = vec![
        format!("{name} {version}: {}", doc.lines().next().unwrap_or_default()),
        row("module", &finished.path.display().to_string()),
        row("size", &format!("{} KiB", finished.bytes.len().div_ceil(1024))),
        row("sha256", &finished.module.digest().to_string()),
    ];
    let rows = |title: &str, items: Vec<String>, lines: &mut Vec<String>| {
        let titles = std::iter::once(title).chain(std::iter::repeat(""));
        lines.extend(titles.zip(items).map(|(title, item)| row(title, &item)));
    };
    rows("imports", finished.imports()?, &mut lines);
    let wanted = |AssetWant { name, doc, required }: &AssetWant| {
        format!("{name} ({}): {doc}", if *required { "required" } else { "optional" })
    };
    rows("assets", assets.iter().map(wanted).collect(), &mut lines);
    match bound {
        Ok(Some(Bound { case, reads, routes })) => {
            lines.push(format!("  with the columns of case {case}:"));
            let read = |(name, required): &(String, bool)| {
                format!("{name} ({})", if *required { "required" } else { "optional" })
            };
            rows("reads", reads.iter().map(read).collect(), &mut lines);
            let route = |(name, columns): &(String, Vec<String>)| format!("{name}: {}", columns.join(", "));
            rows("routes", routes.iter().map(route).collect(), &mut lines);
        }
        Ok(None) => lines
            .push("  routes and columns are not known without a case: put rows into cases/first/input.jsonl".into()),
        Err(why) => lines.push(format!("  routes and columns are not known: {why}")),
    }
    lines.push("  config, as its JSON Schema has it:".to_owned());
    lines.push(format!("    {}", serde_json::to_string_pretty(config_schema)?.replace('\n', "\n    ")));
    Ok(lines.join("\n"))
}
