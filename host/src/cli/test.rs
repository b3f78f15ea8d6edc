//! `forebay test`: a rule's cases, in the real sandbox.

use std::path::{Path, PathBuf};

use clap::Args;
use forebay_sdk::testing::case::Case;
use forebay_sdk::testing::splits::Dependence;
use serde_json::{Value, json};

use super::{Exit, Failure, Global, logging, show};
use crate::rules::cases::{self, Ran};
use crate::rules::finished::Finished;
use crate::rules::package::Package;

/// Run a rule's cases in the sandbox, as a pipeline's step would run it.
///
/// A case is a folder in `cases`: `input.jsonl` (or .json, .csv), `config.toml`, `assets/<name>`, and in `expected` the rows of
/// each route and `rejects.jsonl`. It passes where the rows and rejects are the expected ones, the rule fails on no record, and
/// each record's answer is the same row by row, split, in reverse and shuffled. Exits with 1 where a case does not pass.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  forebay test                                   build the crate in this folder, run its cases
  forebay test --case first --update             what came out becomes what is expected
  forebay test --module fx.wasm --cases cases    a finished module")]
pub(super) struct TestArgs {
    /// The rule's folder.
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// Test this module instead of building a crate.
    #[arg(long, value_name = "WASM", requires = "cases", conflicts_with_all = ["folder", "native"])]
    module: Option<PathBuf>,
    /// The folder of cases, where it is not `cases` in the rule's folder.
    #[arg(long, value_name = "FOLDER")]
    cases: Option<PathBuf>,
    /// This case only; may be given many times.
    #[arg(long = "case", value_name = "NAME")]
    only: Vec<String>,
    /// Write what came out as what is expected, then look at the difference before you commit it.
    #[arg(long)]
    update: bool,
    /// Run the crate's own tests with `cargo test` instead, without a sandbox: the same cases, and its unit tests.
    #[arg(long, conflicts_with_all = ["cases", "only"])]
    native: bool,
}

pub(super) fn test(global: &Global, args: &TestArgs) -> anyhow::Result<Exit> {
    let TestArgs { folder, module, cases, only, update, native } = args;
    logging::start(global, None)?;
    if *native {
        return run_native(global, folder, *update);
    }
    let finished = match module {
        Some(path) => Finished::load(path, None)?,
        None => {
            let package = Package::find(folder)?;
            Finished::load(&package.build(global.quiet())?, Some(package.cache()))?
        }
    };
    let cases = chosen(cases.as_deref().unwrap_or(&folder.join("cases")), only)?;
    if !global.json() {
        show::line(&finished.title())?;
    }
    let mut failed = 0_u64;
    for case in &cases {
        let ran = cases::run(finished.module.as_ref(), case, *update);
        failed += u64::from(!ran.passed());
        if global.json() {
            show::object(&in_json(&ran))?;
        } else {
            show::line(&in_words(&ran))?;
        }
    }
    if !global.json() {
        let passed = cases.len() as u64 - failed;
        show::line(&format!("{} passed, {failed} failed", show::count(passed, "case")))?;
    }
    Ok(if failed == 0 { Exit::Ok } else { Exit::Failed })
}

fn run_native(global: &Global, folder: &Path, update: bool) -> anyhow::Result<Exit> {
    let package = Package::find(folder)?;
    let passed = package.test(update, global.quiet())?;
    if global.json() {
        show::object(&json!({ "crate": package.name, "native": true, "passed": passed }))?;
    } else {
        show::line(&format!("{}: native tests {}", package.name, if passed { "passed" } else { "failed" }))?;
    }
    Ok(if passed { Exit::Ok } else { Exit::Failed })
}

/// The folders of the cases that were asked for.
fn chosen(folder: &Path, only: &[String]) -> Result<Vec<PathBuf>, Failure> {
    let none = |why: String| Failure::new(Exit::NotFound, why);
    let folders = Case::folders(folder).map_err(|error| {
        none(error.to_string())
            .with_hint("a case is a folder with an input.jsonl; `forebay test --update` writes the rest")
    })?;
    let name = |folder: &PathBuf| folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if let Some(unknown) = only.iter().find(|wanted| !folders.iter().any(|folder| name(folder) == **wanted)) {
        let names: Vec<_> = folders.iter().map(name).collect();
        return Err(none(format!("there is no case {unknown:?}")).with_hint(format!("there is {}", names.join(", "))));
    }
    Ok(folders.into_iter().filter(|folder| only.is_empty() || only.contains(&name(folder))).collect())
}

fn in_json(ran: &Ran) -> Value {
    let Ran { name, records, routes, rejected, filtered, wrong, dependence, updated } = ran;
    let dependence = dependence.as_ref().map(|Dependence { record, place, way, whole, split }| {
        let (route, column) = place.as_ref().map(|(route, column)| (route, column)).unzip();
        json!({ "record": record, "route": route, "column": column, "way": way, "whole": whole, "split": split })
    });
    json!({
        "case": name, "passed": ran.passed(), "records": records, "routes": routes, "rejected": rejected,
        "filtered": filtered, "wrong": wrong, "depends_on_batch": dependence, "updated": updated,
    })
}

fn in_words(ran: &Ran) -> String {
    let Ran { name, records, routes, rejected, filtered, wrong, dependence, updated } = ran;
    let routes: String = routes.iter().map(|(route, rows)| format!("{route} {rows}, ")).collect();
    let verdict = if ran.passed() { "ok" } else { "FAILED" };
    let mut lines = vec![format!(
        "case {name}: {verdict}  {} ▶ {routes}rejected {rejected}, filtered {filtered}",
        show::count(*records, "record")
    )];
    lines.extend(wrong.iter().map(|wrong| indented(wrong)));
    lines.extend(dependence.iter().map(|dependence| indented(&dependence.to_string())));
    lines.extend(updated.iter().map(|path| format!("  wrote {}", path.display())));
    lines.join("\n")
}

/// Each line two blanks in, those that are so already stay.
fn indented(text: &str) -> String {
    let lines = text.lines().map(|line| if line.starts_with("  ") { line.to_owned() } else { format!("  {line}") });
    lines.collect::<Vec<_>>().join("\n")
}
