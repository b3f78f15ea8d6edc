//! `forebay build`: a rule's crate becomes a module, and what the module is.

use std::path::{Path, PathBuf};

use clap::Args;
use forebay_model::ports::{AssetWant, Description};
use serde_json::{Value, json};

use super::{Exit, Failure, Global, logging, show};
use crate::rules::finished::{Bound, Finished};
use crate::rules::package::Package;
use crate::rules::packed::{self, Packed};

/// Build a rule's crate, check the module, and tell what it is.
///
/// The module is built with the crate's profile `guest` for wasm32-wasip2, and loaded as a pipeline would load it: it must be of a
/// world that this forebay runs, and import nothing else. Which columns it reads and which routes it has depends on its input and
/// its config: they are told for the first case in `cases`. The cases themselves are packed into the module, and whoever deploys
/// it runs them first.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  forebay build                          the crate in this folder
  forebay build --no-cases               without its cases, which hold production's data
  cp $(forebay build rules/fx --quiet --json | jq -r .path) modules/")]
pub(super) struct BuildArgs {
    /// The rule's folder.
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// Leave the cases out of the module: a deployment has nothing to try it with then.
    #[arg(long)]
    no_cases: bool,
}

pub(super) fn build(global: &Global, args: &BuildArgs) -> anyhow::Result<Exit> {
    let BuildArgs { folder, no_cases } = args;
    logging::start(global, None)?;
    let package = Package::find(folder)?;
    let built = package.build(global.quiet())?;
    let cases = if *no_cases { Packed::default() } else { packed_cases(&folder.join("cases"))? };
    let path = write(&package, &built, &cases)?;
    let finished = Finished::load(&path, Some(package.cache()))?;
    let bound = finished.bound(&folder.join("cases"));
    if global.json() {
        show::object(&in_json(&finished, &bound)?)?;
    } else {
        show::line(&in_words(&finished, &bound)?)?;
    }
    Ok(Exit::Ok)
}

/// The cases of a folder. Those that are not packed are told.
pub(super) fn packed_cases(folder: &Path) -> Result<Packed, Failure> {
    let cases = packed::pack(folder).map_err(|error| {
        Failure::new(Exit::Failed, format!("the cases in {} cannot be packed: {error}", folder.display()))
            .with_hint("cases are a few rows each; --no-cases builds a module without them")
    })?;
    for (case, why) in &cases.left_out {
        eprintln!("warning: case {case} is not packed: {why}");
    }
    Ok(cases)
}

/// Writes the module with its cases beside what cargo built; its path.
pub(super) fn write(package: &Package, built: &Path, cases: &Packed) -> Result<PathBuf, Failure> {
    let path = package.packed(built);
    let failed = |error: &dyn std::fmt::Display| {
        Failure::new(Exit::Failed, format!("{} cannot be written: {error}", path.display()))
            .with_hint("cargo builds there; give a CARGO_TARGET_DIR that this user may write to")
    };
    let wasm = std::fs::read(built).map_err(|error| failed(&error))?;
    let wasm = packed::into_module(&wasm, cases).map_err(|error| failed(&error))?;
    put(&path, &wasm).map_err(|error| failed(&error))?;
    Ok(path)
}

/// All of the file or nothing new: a host may watch the folder.
pub(super) fn put(path: &Path, content: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.part", std::process::id()));
    std::fs::write(&beside, content)?;
    std::fs::rename(&beside, path)
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
        "cases": finished.carried()?.names(), "cases_bytes": finished.carried()?.bytes,
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
    lines.push(row("cases", &finished.carried()?.told()));
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
