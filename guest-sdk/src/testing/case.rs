//! A case: a folder with a rule's input and what is expected of it. `cargo test` runs it natively, `forebay test` in the sandbox,
//! and both read and compare it with this code.
//!
//! | in a case's folder | |
//! |---|---|
//! | `input.jsonl`, `input.json` or `input.csv` | the rows; one of them |
//! | `config.toml` or `config.json` | the step's config; none is an empty one |
//! | `assets/<name>` | assets; an extension is not part of the name |
//! | `expected/<route>.jsonl` | the rows of a route, in the order of their records, with all columns; a route without a file has no rows |
//! | `expected/rejects.jsonl` | rejects, by row: `row`, `code`, the rule's `message` (the host's own is not compared), and `retryable` where it is false |

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::cases::CasesError;

/// Differences that are shown of one file; the rest is counted.
const SHOWN: usize = 5;

const REJECTS: &str = "rejects";

/// The segment that a case's rows are of, as far as a rule can see it.
#[derive(Debug, Clone, Copy)]
pub struct CaseSegment;

impl CaseSegment {
    /// The stream's name, and the partition's.
    pub const STREAM: &'static str = "test";
    /// The segment's id.
    pub const ID: &'static str = "test/000000000000000000000000";
    /// The first position.
    pub const POSITION: &'static str = "0";
    /// When it landed: 2026-01-01, in microseconds.
    pub const LANDED_AT: i64 = 1_767_225_600_000_000;
    /// Its seed.
    pub const SEED: u64 = 7;
}

/// How a case's input is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputFormat {
    /// Objects, one a line or in a list.
    Json,
    /// With a header.
    Csv,
}

/// A case, read.
#[derive(Debug, Clone)]
pub struct Case {
    /// Its folder's name.
    pub name: String,
    /// Its folder.
    pub folder: PathBuf,
    /// How the input is written.
    pub format: InputFormat,
    /// The input.
    pub input: String,
    /// The step's config.
    pub config: Value,
    /// Assets by name.
    pub assets: BTreeMap<String, Vec<u8>>,
}

/// A record that was rejected, as cases tell it.
#[derive(Debug, Clone, Copy)]
pub struct CaseReject<'a> {
    /// The record's number in the input, from 0.
    pub row: u64,
    /// The code.
    pub code: &'a str,
    /// The rule's message; `None` where it was the host that rejected it.
    pub message: Option<&'a str>,
    /// Whether a later revision may accept it.
    pub retryable: bool,
}

impl CaseReject<'_> {
    /// Its line in `expected/rejects.jsonl`.
    #[must_use]
    pub fn line(&self) -> Value {
        let Self { row, code, message, retryable } = self;
        let mut line = json!({ "row": row, "code": code });
        if let Some(message) = message {
            line["message"] = json!(message);
        }
        if !retryable {
            line["retryable"] = json!(false);
        }
        line
    }
}

/// What a rule made of a case's rows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answer {
    /// The rows of each route that the rule planned, in the order of their records.
    pub routes: BTreeMap<String, Vec<Value>>,
    /// Rejects by row, as [`CaseReject::line`] has them.
    pub rejects: Vec<Value>,
}

impl Answer {
    fn files(&self) -> impl Iterator<Item = (&str, &[Value])> {
        let routes = self.routes.iter().map(|(route, rows)| (route.as_str(), rows.as_slice()));
        routes.chain([(REJECTS, self.rejects.as_slice())])
    }
}

impl Case {
    /// The folders of cases in `folder`, by name.
    ///
    /// # Errors
    /// Where it cannot be read or holds none.
    pub fn folders(folder: &Path) -> Result<Vec<PathBuf>, CasesError> {
        let mut cases: Vec<PathBuf> = list(folder)?.into_iter().filter(|path| path.is_dir()).collect();
        cases.sort();
        if cases.is_empty() {
            return Err(CasesError(format!("{} holds no case (a folder with an input.jsonl)", folder.display())));
        }
        Ok(cases)
    }

    /// Reads a case; what is expected is read when it is compared.
    ///
    /// # Errors
    /// Where a file cannot be read, or the config is none.
    pub fn read(folder: &Path) -> Result<Self, CasesError> {
        let mut given =
            ["input.jsonl", "input.json", "input.csv"].into_iter().filter(|name| folder.join(name).exists());
        let input = match (given.next(), given.next()) {
            (Some(name), None) => name,
            (None, _) => return Err(CasesError("there is no input.jsonl, input.json or input.csv".to_owned())),
            (Some(a), Some(b)) => return Err(CasesError(format!("there are both {a} and {b}"))),
        };
        let mut assets = BTreeMap::new();
        let assets_folder = folder.join("assets");
        if assets_folder.exists() {
            for path in list(&assets_folder)? {
                assets.insert(stem(&path), fs::read(&path).map_err(|error| failed(&path, &error))?);
            }
        }
        Ok(Self {
            name: folder.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            folder: folder.to_owned(),
            format: if input == "input.csv" { InputFormat::Csv } else { InputFormat::Json },
            input: read(&folder.join(input))?,
            config: config(folder)?,
            assets,
        })
    }

    /// Writes `expected/` anew; the files that it has then.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn update(&self, answer: &Answer) -> Result<Vec<PathBuf>, CasesError> {
        let expected = self.folder.join("expected");
        fs::create_dir_all(&expected).map_err(|error| failed(&expected, &error))?;
        for old in list(&expected)?.into_iter().filter(|path| path.extension().is_some_and(|ext| ext == "jsonl")) {
            fs::remove_file(&old).map_err(|error| failed(&old, &error))?;
        }
        let mut written = Vec::new();
        for (name, rows) in answer.files().filter(|(_, rows)| !rows.is_empty()) {
            let path = expected.join(format!("{name}.jsonl"));
            let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
            fs::write(&path, text).map_err(|error| failed(&path, &error))?;
            written.push(path);
        }
        Ok(written)
    }

    /// Compares with what is expected.
    ///
    /// # Errors
    /// All that differs, a few lines a file; or that nothing is expected.
    pub fn compare(&self, answer: &Answer) -> Result<(), CasesError> {
        let expected = self.folder.join("expected");
        if !expected.exists() {
            return Err(CasesError("  there is no folder expected/\n".to_owned()));
        }
        let found: BTreeMap<_, _> = answer.files().collect();
        let mut names: BTreeSet<String> = found.keys().map(|name| (*name).to_owned()).collect();
        names.extend(list(&expected)?.iter().map(|path| stem(path)));
        let mut wrong = String::new();
        for name in names {
            let path = expected.join(format!("{name}.jsonl"));
            let wanted = if path.exists() { lines(&path)? } else { vec![] };
            match found.get(name.as_str()) {
                Some(found) => wrong.push_str(&difference(&name, &wanted, found)),
                None => {
                    let routes: Vec<_> = answer.routes.keys().map(String::as_str).collect();
                    wrong.push_str(&format!("  expected/{name}: no such route; there are {}\n", routes.join(", ")));
                }
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(CasesError(wrong)) }
    }
}

fn config(folder: &Path) -> Result<Value, CasesError> {
    let (toml, json) = (folder.join("config.toml"), folder.join("config.json"));
    let wrong = |name: &str, error: String| CasesError(format!("{name}: {error}"));
    if toml.exists() {
        toml::from_str(&read(&toml)?).map_err(|error| wrong("config.toml", error.to_string()))
    } else if json.exists() {
        serde_json::from_str(&read(&json)?).map_err(|error| wrong("config.json", error.to_string()))
    } else {
        Ok(Value::Object(serde_json::Map::new()))
    }
}

fn failed(path: &Path, error: &std::io::Error) -> CasesError {
    CasesError(format!("{}: {error}", path.display()))
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn list(folder: &Path) -> Result<Vec<PathBuf>, CasesError> {
    let entries = fs::read_dir(folder).map_err(|error| failed(folder, &error))?;
    entries.map(|entry| entry.map(|entry| entry.path()).map_err(|error| failed(folder, &error))).collect()
}

fn read(path: &Path) -> Result<String, CasesError> {
    fs::read_to_string(path).map_err(|error| failed(path, &error))
}

fn lines(path: &Path) -> Result<Vec<Value>, CasesError> {
    let line = |(at, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|error| CasesError(format!("{} line {}: {error}", path.display(), at + 1)))
    };
    read(path)?.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).map(line).collect()
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
                for (key, wanted, found) in columns(wanted, found) {
                    text.push_str(&format!("    row {row}, {key}: expected {wanted}, found {found}\n"));
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

type Object = serde_json::Map<String, Value>;

/// The columns in which two rows differ, with their values as text.
pub(super) fn columns<'v>(one: &'v Object, other: &'v Object) -> Vec<(&'v str, String, String)> {
    let show = |value: Option<&Value>| value.map_or("(no such column)".to_owned(), Value::to_string);
    let keys: BTreeSet<_> = one.keys().chain(other.keys()).collect();
    let differ = keys.into_iter().filter(|key| one.get(*key) != other.get(*key));
    differ.map(|key| (key.as_str(), show(one.get(key)), show(other.get(key)))).collect()
}
