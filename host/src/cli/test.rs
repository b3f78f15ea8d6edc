//! `forebay test`: a rule's cases, in the real sandbox.

use std::path::{Path, PathBuf};

use clap::Args;
use forebay_sdk::testing::CasesError;
use forebay_sdk::testing::case::Case;
use forebay_sdk::testing::splits::Dependence;
use serde_json::{Value, json};

use super::{Exit, Failure, Global, bench, logging, show};
use crate::rules::cases::{self, Counts, Expect, Ran, Until};
use crate::rules::finished::Finished;
use crate::rules::fuzz::{Found, Fuzzed, fuzz};
use crate::rules::package::Package;
use crate::rules::taken::{self, Taken, Wanted};

/// Run a rule's cases in the sandbox, as a pipeline's step would run it.
///
/// A case is a folder in `cases`: `input.jsonl` (or .json, .csv, .parquet), `config.toml`, `assets/<name>`, and in `expected` the rows of
/// each route and `rejects.jsonl`. It passes where the rows and rejects are the expected ones, the rule fails on no record, and
/// each record's answer is the same row by row, split, in reverse and shuffled. Exits with 1 where a case does not pass.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  forebay test                                   build the crate in this folder, run its cases
  forebay test --case first --update             what came out becomes what is expected
  forebay test --fuzz 1000                       rows that nobody thinks of
  forebay test --bench -c ../forebay.toml        how fast it is, beside the one that is deployed
  forebay test -c ../forebay.toml --from-segment payments/3f9c --rows 50
  forebay test -c ../forebay.toml --from-segment payments/3f9c --write-case late --mask card,country
  forebay test --module fx.wasm                  a finished module, with the cases that it carries
  forebay test --module fx.wasm --cases cases    the same with others")]
pub(super) struct TestArgs {
    /// The rule's folder.
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// Test this module instead of building a crate.
    #[arg(long, value_name = "WASM", conflicts_with_all = ["folder", "native"])]
    module: Option<PathBuf>,
    /// The folder of cases, where it is not `cases` in the rule's folder, or they are not those that the module carries.
    #[arg(long, value_name = "FOLDER")]
    cases: Option<PathBuf>,
    /// This case only; may be given many times.
    #[arg(long = "case", value_name = "NAME")]
    only: Vec<String>,
    /// Write what came out as what is expected, then look at the difference before you commit it.
    #[arg(long)]
    update: bool,
    /// Feed so many generated batches with the columns, config and assets of the cases, and tell what the rule traps on, with
    /// the smallest row that shows it. The same number gives the same batches.
    #[arg(long, value_name = "BATCHES", conflicts_with_all = ["update", "native"])]
    fuzz: Option<u64>,
    /// Measure instead: rows per second, time per row, the share of a call that is copying in and out (the boundary), and the
    /// memory of an instance, with each case's rows repeated to batches of 8,192. Beside it stands the module that the config
    /// has deployed under this name, where there is a config.
    #[arg(long, conflicts_with_all = ["update", "native", "fuzz", "from_segment"])]
    bench: bool,
    /// Measure this module beside it.
    #[arg(long, value_name = "WASM", requires = "bench")]
    against: Option<PathBuf>,
    /// Take the input from this segment of production's raw data, whose config --config names, and the step's config and assets
    /// from the pipeline that uses the rule. Nothing is written there.
    #[arg(long, value_name = "SEGMENT", conflicts_with_all = ["update", "native", "fuzz", "only"])]
    from_segment: Option<String>,
    /// Its first records, at most so many.
    #[arg(long, value_name = "RECORDS", requires = "from_segment", default_value_t = 100)]
    rows: usize,
    /// Write them as a new case of this name. It holds production's data.
    #[arg(long, value_name = "NAME", requires = "from_segment")]
    write_case: Option<String>,
    /// Replace the values of these columns, the same value by the same word or number.
    #[arg(long, value_name = "COLUMN,…", value_delimiter = ',', requires = "from_segment")]
    mask: Vec<String>,
    /// Run the crate's own tests with `cargo test` instead, without a sandbox: the same cases, and its unit tests.
    #[arg(long, conflicts_with_all = ["cases", "only"])]
    native: bool,
}

pub(super) fn test(global: &Global, args: &TestArgs) -> anyhow::Result<Exit> {
    logging::start(global, None)?;
    if args.native {
        return run_native(global, &args.folder, args.update);
    }
    let finished = match &args.module {
        Some(path) => Finished::load(path, None)?,
        None => {
            let package = Package::find(&args.folder)?;
            Finished::load(&package.build(global.quiet())?, Some(package.cache()))?
        }
    };
    if !global.json() {
        show::line(&finished.title())?;
    }
    let folder = args.cases.clone().unwrap_or_else(|| args.folder.join("cases"));
    if let Some(segment) = &args.from_segment {
        return from_segment(global, args, &finished, segment, &folder);
    }
    let cases = chosen(args, &finished, &folder)?;
    if args.bench {
        let sound = cases.into_iter().map(|(name, case)| case.map_err(|error| no_case(&name, &error)));
        let sound = sound.collect::<Result<Vec<_>, _>>()?;
        return bench::run(global, &finished, args.against.as_deref(), &sound);
    }
    if let Some(batches) = args.fuzz {
        return fuzz_cases(global, &finished, &cases, batches);
    }
    let expect = if args.update { Expect::Update } else { Expect::Same };
    let (mut failed, mut differs) = (0_u64, false);
    for (name, case) in &cases {
        let ran = match case {
            Ok(case) => cases::run(finished.module.as_ref(), case, expect, Until::DONE),
            Err(error) => Ran::broken(name.clone(), error.to_string()),
        };
        failed += u64::from(!ran.passed());
        differs |= ran.differs;
        tell(global, &ran)?;
    }
    if !global.json() {
        let passed = cases.len() as u64 - failed;
        show::line(&format!("{} passed, {failed} failed", show::count(passed, "case")))?;
    }
    if differs && !global.json() && !own(args) {
        show::line("if the rule is right, --update writes what came out")?;
    }
    Ok(if failed == 0 { Exit::Ok } else { Exit::Failed })
}

fn tell(global: &Global, ran: &Ran) -> std::io::Result<()> {
    if global.json() { show::object(&in_json(ran)) } else { show::line(&in_words(ran)) }
}

/// Runs the rule over production's records, and makes a case of them where that is wanted.
fn from_segment(
    global: &Global,
    args: &TestArgs,
    finished: &Finished,
    segment: &str,
    cases: &Path,
) -> anyhow::Result<Exit> {
    let wanted = Wanted { segment, records: args.rows, mask: &args.mask };
    let name = &finished.module.description().name;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let Taken { mut case, segment, step, malformed } = runtime.block_on(taken::take(global.config()?, wanted, name))?;
    if !global.json() {
        let left_out = if malformed == 0 { String::new() } else { format!("; {malformed} malformed left out") };
        let config = step.clone().unwrap_or_else(|| "nothing: no step of its pipelines uses this rule".to_owned());
        show::line(&format!("segment {segment}{left_out}, config and assets of {config}"))?;
    }
    let mut expect = Expect::Nothing;
    if let Some(name) = &args.write_case {
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_') {
            let failure = Failure::new(Exit::Usage, format!("{name:?} cannot be the name of a case"));
            return Err(failure.with_hint("it is a folder's: use letters, digits, '_' and '-'").into());
        }
        case.name.clone_from(name);
        case.folder = cases.join(name);
        taken::write(&case, &case.folder)?;
        expect = Expect::Update;
        eprintln!(
            "warning: {} holds production's data: look at it before it leaves this machine; --mask COLUMN replaces values",
            case.folder.display()
        );
    }
    let ran = cases::run(finished.module.as_ref(), &case, expect, Until::DONE);
    if global.json() {
        let mut told = in_json(&ran);
        told["segment"] = json!(segment);
        told["config_of"] = json!(step);
        told["malformed"] = json!(malformed);
        show::object(&told)?;
    } else {
        show::line(&in_words(&ran))?;
    }
    Ok(if ran.passed() { Exit::Ok } else { Exit::Failed })
}

fn fuzz_cases(global: &Global, finished: &Finished, cases: &Cases, batches: u64) -> anyhow::Result<Exit> {
    let mut exit = Exit::Ok;
    for (name, case) in cases {
        let case = case.as_ref().map_err(|error| no_case(name, error))?;
        let Fuzzed { refused, found } = fuzz(finished.module.as_ref(), case, batches)?;
        if !found.is_empty() {
            exit = Exit::Failed;
        }
        if global.json() {
            let found: Vec<_> = found.iter().map(found_json).collect();
            let told = json!({ "case": case.name, "batches": batches, "refused": refused, "found": found });
            show::object(&told)?;
            continue;
        }
        let verdict = if found.is_empty() { "no trap" } else { "FAILED" };
        let fed = format!("{} batches", show::thousands(batches));
        show::line(&format!("case {}: {verdict}  {fed}, {refused} refused by bind", case.name))?;
        for found in &found {
            show::line(&found_words(found))?;
        }
    }
    Ok(exit)
}

fn found_json(found: &Found) -> Value {
    let Found { batch, columns, row, message } = found;
    let columns: Vec<_> = columns.iter().map(|(name, kind)| json!({ "name": name, "type": kind })).collect();
    json!({ "batch": batch, "columns": columns, "row": row, "message": message })
}

fn found_words(found: &Found) -> String {
    let Found { batch, columns, row, message } = found;
    let columns: Vec<_> = columns.iter().map(|(name, kind)| format!("{name} {kind}")).collect();
    let shows = row.as_ref().map_or("binding shows it".to_owned(), Value::to_string);
    let message = message.replace('\n', "\n    ");
    format!("  batch {batch}: {message}\n    smallest row: {shows}\n    columns: {}", columns.join(", "))
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

/// Cases by name, or why one is none.
type Cases = Vec<(String, Result<Case, CasesError>)>;

fn no_case(name: &str, error: &CasesError) -> Failure {
    Failure::new(Exit::Failed, format!("case {name}: {error}")).with_hint("docs/rules.md says what a case is")
}

/// Whether the cases are those that a finished module carries.
fn own(args: &TestArgs) -> bool {
    args.module.is_some() && args.cases.is_none()
}

/// The cases that were asked for: those of the folder, or those that a finished module carries.
fn chosen(args: &TestArgs, finished: &Finished, folder: &Path) -> Result<Cases, Failure> {
    let none = |why: String| Failure::new(Exit::NotFound, why);
    let packed = args.module.as_ref().filter(|_| own(args));
    let mut cases: Cases = match packed {
        Some(module) => {
            if args.update {
                let failure = Failure::new(Exit::Usage, "--update writes a folder, and the cases are the module's own");
                return Err(failure.with_hint("name the folder: --cases cases"));
            }
            let carried = finished.carried()?.cases;
            if carried.is_empty() {
                return Err(none(format!("{} carries no cases", module.display()))
                    .with_hint("name a folder of them: --cases cases; `forebay build` packs those of a crate"));
            }
            carried.into_iter().map(|case| (case.name.clone(), Ok(case))).collect()
        }
        None => {
            let folders = Case::folders(folder).map_err(|error| {
                none(error.to_string())
                    .with_hint("a case is a folder with an input.jsonl; `forebay test --update` writes the rest")
            })?;
            let name = |folder: &Path| folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            folders.iter().map(|folder| (name(folder), Case::read(folder))).collect()
        }
    };
    if let Some(unknown) = args.only.iter().find(|wanted| !cases.iter().any(|(name, _)| name == *wanted)) {
        let names: Vec<_> = cases.iter().map(|(name, _)| name.as_str()).collect();
        return Err(none(format!("there is no case {unknown:?}")).with_hint(format!("there is {}", names.join(", "))));
    }
    cases.retain(|(name, _)| args.only.is_empty() || args.only.contains(name));
    Ok(cases)
}

pub(super) fn in_json(ran: &Ran) -> Value {
    let Ran { name, counts, wrong, differs: _, dependence, updated } = ran;
    let counts = counts.as_ref().map(|Counts { records, routes, rejected, filtered }| {
        json!({ "records": records, "routes": routes, "rejected": rejected, "filtered": filtered })
    });
    let dependence = dependence.as_ref().map(|Dependence { record, place, way, whole, split }| {
        let (route, column) = place.as_ref().map(|(route, column)| (route, column)).unzip();
        json!({ "record": record, "route": route, "column": column, "way": way, "whole": whole, "split": split })
    });
    json!({
        "case": name, "passed": ran.passed(), "counts": counts, "wrong": wrong, "depends_on_batch": dependence,
        "updated": updated,
    })
}

pub(super) fn in_words(ran: &Ran) -> String {
    let Ran { name, counts, wrong, differs: _, dependence, updated } = ran;
    let counts = counts.as_ref().map_or(String::new(), |Counts { records, routes, rejected, filtered }| {
        let routes: String = routes.iter().map(|(route, rows)| format!("{route} {rows}, ")).collect();
        format!("  {} ▶ {routes}rejected {rejected}, filtered {filtered}", show::count(*records, "record"))
    });
    let mut lines = vec![format!("case {name}: {}{counts}", if ran.passed() { "ok" } else { "FAILED" })];
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
