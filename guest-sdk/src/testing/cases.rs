//! Cases: folders with a rule's input and what is expected of it. People write them, `cargo test` runs them natively, and the
//! host runs the same folders against the module.
//!
//! | in a case's folder | |
//! |---|---|
//! | `input.jsonl`, `input.json` or `input.csv` | the rows; one of them |
//! | `config.toml` or `config.json` | the step's config; none is an empty one |
//! | `assets/<name>` | assets; an extension is not part of the name |
//! | `expected/<route>.jsonl` | the rows of a route, in order, with all columns; a route without a file has no rows |
//! | `expected/rejects.jsonl` | rejects, by row: `row`, `code`, the rule's `message` (the host's own is not compared), and `retryable` where it is false |

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::harness::Harness;
use super::outcome::{Outcome, Rejected};
use crate::transform::Module;

/// Differences that are shown of one file; the rest is counted.
const SHOWN: usize = 5;

const REJECTS: &str = "rejects";

/// What is wrong with the cases, as text for people.
#[derive(Clone, PartialEq, Eq)]
pub struct CasesError(String);

impl fmt::Display for CasesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The same text: it is what `cargo test` prints of an error that a test returns.
impl fmt::Debug for CasesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CasesError {}

/// Runs each folder in `folder` (relative to the crate) as a case, whole and by [`Harness::check_splits`]:
///
/// ```ignore
/// #[test]
/// fn cases() -> Result<(), forebay_sdk::testing::CasesError> {
///     forebay_sdk::testing::run_cases::<MyRule>("cases")
/// }
/// ```
///
/// With `UPDATE_CASES=1` in the environment, `expected/` is written anew from what the rule does: look at the difference before you commit it.
///
/// # Errors
/// All that differs, by case and file; or that there is no case.
pub fn run_cases<T: Module>(folder: impl AsRef<Path>) -> Result<(), CasesError> {
    let update = std::env::var_os("UPDATE_CASES").is_some_and(|value| value == "1");
    run_in::<T>(folder.as_ref(), update)
}

pub(super) fn run_in<T: Module>(folder: &Path, update: bool) -> Result<(), CasesError> {
    let mut cases: Vec<PathBuf> = list(folder).map_err(CasesError)?.into_iter().filter(|path| path.is_dir()).collect();
    cases.sort();
    if cases.is_empty() {
        return Err(CasesError(format!("{} holds no case (a folder with an input.jsonl)", folder.display())));
    }
    let mut wrong = String::new();
    for case in &cases {
        if let Err(error) = run_case::<T>(case, update) {
            wrong.push_str(&format!("\ncase {}:\n{error}\n", case.display()));
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    Err(CasesError(format!("{wrong}\nIf the rule is right, UPDATE_CASES=1 cargo test writes what it does.")))
}

fn run_case<T: Module>(case: &Path, update: bool) -> Result<(), String> {
    let harness = harness::<T>(case)?;
    let outcome = harness.run().map_err(|error| error.to_string())?;
    let mut actual: BTreeMap<String, Vec<Value>> =
        outcome.routes().map(|route| (route.to_owned(), outcome.rows(route))).collect();
    actual.insert(REJECTS.to_owned(), outcome.rejects.iter().map(reject_line).collect());
    let expected = case.join("expected");
    if update {
        write(&expected, &actual)?
    } else {
        compare(&expected, &actual, &outcome)?
    }
    harness.check_splits().map_err(|error| error.to_string())
}

fn reject_line(rejected: &Rejected) -> Value {
    let Rejected { row, code, message, retryable, by_host } = rejected;
    let mut line = json!({ "row": row, "code": code });
    if !by_host {
        line["message"] = json!(message);
    }
    if !retryable {
        line["retryable"] = json!(false);
    }
    line
}

fn harness<T: Module>(case: &Path) -> Result<Harness<T>, String> {
    let mut harness = Harness::new();
    let mut given = ["input.jsonl", "input.json", "input.csv"].into_iter().filter(|name| case.join(name).exists());
    match (given.next(), given.next()) {
        (Some(name), None) => {
            let text = read(&case.join(name))?;
            harness = if name == "input.csv" { harness.input_csv(&text) } else { harness.input_json(&text) };
        }
        (None, _) => return Err("there is no input.jsonl, input.json or input.csv".to_owned()),
        (Some(a), Some(b)) => return Err(format!("there are both {a} and {b}")),
    }
    let (toml, json) = (case.join("config.toml"), case.join("config.json"));
    if toml.exists() {
        let config: Value = toml::from_str(&read(&toml)?).map_err(|error| format!("config.toml: {error}"))?;
        harness = harness.config(config);
    } else if json.exists() {
        harness = harness.config(serde_json::from_str(&read(&json)?).map_err(|error| format!("config.json: {error}"))?);
    }
    let assets = case.join("assets");
    if assets.exists() {
        for path in list(&assets)? {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let content = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            harness = harness.asset(&name, content);
        }
    }
    Ok(harness)
}

fn list(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    entries.map(|entry| entry.map(|entry| entry.path()).map_err(|error| error.to_string())).collect()
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn write(expected: &Path, actual: &BTreeMap<String, Vec<Value>>) -> Result<(), String> {
    let fail = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
    fs::create_dir_all(expected).map_err(|error| fail(expected, error))?;
    for old in list(expected)?.into_iter().filter(|path| path.extension().is_some_and(|ext| ext == "jsonl")) {
        fs::remove_file(&old).map_err(|error| fail(&old, error))?;
    }
    for (name, rows) in actual.iter().filter(|(_, rows)| !rows.is_empty()) {
        let path = expected.join(format!("{name}.jsonl"));
        let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
        fs::write(&path, text).map_err(|error| fail(&path, error))?;
    }
    Ok(())
}

fn compare(expected: &Path, actual: &BTreeMap<String, Vec<Value>>, outcome: &Outcome) -> Result<(), String> {
    if !expected.exists() {
        return Err("there is no folder expected/".to_owned());
    }
    let mut names: BTreeSet<String> = actual.keys().cloned().collect();
    for path in list(expected)? {
        names.insert(path.file_stem().unwrap_or_default().to_string_lossy().into_owned());
    }
    let mut wrong = String::new();
    for name in names {
        let path = expected.join(format!("{name}.jsonl"));
        let wanted = if path.exists() { lines(&path)? } else { vec![] };
        match actual.get(&name) {
            Some(found) => wrong.push_str(&difference(&name, &wanted, found)),
            None => {
                let routes: Vec<_> = outcome.routes().collect();
                wrong.push_str(&format!("  expected/{name}: no such route; there are {}\n", routes.join(", ")));
            }
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}

fn lines(path: &Path) -> Result<Vec<Value>, String> {
    read(path)?
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(at, line)| {
            serde_json::from_str(line).map_err(|error| format!("{} line {}: {error}", path.display(), at + 1))
        })
        .collect()
}

/// The rows that differ: what was expected, what came, and in rows that are both there the columns alone.
fn difference(name: &str, wanted: &[Value], found: &[Value]) -> String {
    let rows = wanted.len().max(found.len());
    let differing: Vec<usize> = (0..rows).filter(|&row| wanted.get(row) != found.get(row)).collect();
    if differing.is_empty() {
        return String::new();
    }
    let mut text = format!("  {name}: {} of {rows} rows differ\n", differing.len());
    for &row in differing.iter().take(SHOWN) {
        match (wanted.get(row), found.get(row)) {
            (Some(Value::Object(wanted)), Some(Value::Object(found))) => {
                let keys: BTreeSet<_> = wanted.keys().chain(found.keys()).collect();
                for key in keys.into_iter().filter(|key| wanted.get(*key) != found.get(*key)) {
                    let show = |value: Option<&Value>| value.map_or("(no such column)".to_owned(), Value::to_string);
                    text.push_str(&format!(
                        "    row {row}, {key}: expected {}, found {}\n",
                        show(wanted.get(key)),
                        show(found.get(key))
                    ));
                }
            }
            (wanted, found) => {
                wanted.iter().for_each(|wanted| text.push_str(&format!("    row {row} is missing: {wanted}\n")));
                found.iter().for_each(|found| text.push_str(&format!("    row {row} was not expected: {found}\n")));
            }
        }
    }
    if differing.len() > SHOWN {
        text.push_str(&format!("    … and {} more\n", differing.len() - SHOWN));
    }
    text
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::{Batch, BindError, InputSchema, Kind, Output, Plan, RuleError, Transform, arrow::DataType};

    #[derive(serde::Deserialize, schemars::JsonSchema)]
    struct Config {
        add: i64,
    }

    struct Adds(i64);

    impl Transform for Adds {
        type Config = Config;
        const ASSETS: &'static [crate::AssetWant] = &[crate::AssetWant::optional("bonus", "More to add.")];
        fn new(config: Config, input: &InputSchema) -> Result<(Self, Plan), BindError> {
            let bonus = crate::Asset::open("bonus").map_or(0, |asset| asset.size().cast_signed());
            let plan = Plan::new(input).require("n", Kind::I64);
            Ok((Self(config.add + bonus), plan.route("out", |columns| columns.computed("sum", DataType::Int64))))
        }
        fn process(&mut self, batch: &Batch, output: &mut Output) -> Result<(), RuleError> {
            let values = batch.i64("n")?;
            let sums: Vec<i64> = values.values().iter().map(|n| n + self.0).collect();
            (0..batch.rows()).filter(|&row| sums[row] == 13).for_each(|row| output.reject_final(row, "unlucky", "13"));
            output.emit_all("out").column(&sums).send()
        }
    }
    crate::export!(Adds);

    #[test]
    fn a_case_is_written_checked_and_its_differences_told() {
        let folder = tempfile::tempdir().unwrap();
        let run = |update| run_in::<Adds>(folder.path(), update).map_err(|error| error.to_string());
        assert!(run(false).unwrap_err().contains("holds no case"));

        let case = folder.path().join("one");
        fs::create_dir_all(case.join("assets")).unwrap();
        assert!(run(false).unwrap_err().contains("no input.jsonl"));
        fs::write(case.join("input.jsonl"), "{\"n\":1}\n{\"n\":null}\n{\"n\":2}\n").unwrap();
        fs::write(case.join("config.toml"), "add = 8\n").unwrap();
        fs::write(case.join("assets/bonus.txt"), "xxx").unwrap();
        assert!(run(false).unwrap_err().contains("no folder expected/"));

        run(true).unwrap();
        let expected = |file| fs::read_to_string(case.join("expected").join(file)).unwrap();
        assert_eq!(expected("out.jsonl"), "{\"sum\":12}\n");
        assert_eq!(
            expected("rejects.jsonl"),
            "{\"row\":1,\"code\":\"required_missing\"}\n{\"row\":2,\"code\":\"unlucky\",\"message\":\"13\",\"retryable\":false}\n"
        );
        run(false).unwrap();

        fs::write(case.join("expected/out.jsonl"), "{\"sum\":12.0}\n{\"sum\":5}\n").unwrap();
        fs::write(case.join("expected/nope.jsonl"), "{}\n").unwrap();
        let told = run(false).unwrap_err();
        for part in [
            "out: 2 of 2 rows differ",
            "row 0, sum: expected 12.0, found 12",
            "row 1 is missing: {\"sum\":5}",
            "expected/nope: no such route",
        ] {
            assert!(told.contains(part), "{part:?} is not in {told}");
        }
    }
}
