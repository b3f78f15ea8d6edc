//! A case: a folder with a rule's input and what is expected of it. `cargo test` runs it natively, `forebay test` in the sandbox,
//! and both read and compare it with this code.
//!
//! | in a case's folder | |
//! |---|---|
//! | `input.jsonl`, `input.json`, `input.csv` or `input.parquet` | the rows; one of them. Parquet is for the sandbox alone |
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
/// The folder of what is expected, as a file of [`CaseFiles`] too: without a file in it nothing is expected to come out, without
/// the folder nothing has been written down yet.
const EXPECTED: &str = "expected/";

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
    /// Typed columns. `forebay test` reads it; natively there is no reader, so that rules need not be built with one.
    Parquet,
}

/// The files that a case's input may be.
const INPUTS: [(&str, InputFormat); 4] = [
    ("input.jsonl", InputFormat::Json),
    ("input.json", InputFormat::Json),
    ("input.csv", InputFormat::Csv),
    ("input.parquet", InputFormat::Parquet),
];

/// A case, read.
#[derive(Debug, Clone)]
pub struct Case {
    /// Its folder's name.
    pub name: String,
    /// Its folder.
    pub folder: PathBuf,
    /// How the input is written.
    pub format: InputFormat,
    /// The input; UTF-8 where the format is text.
    pub input: Vec<u8>,
    /// The step's config.
    pub config: Value,
    /// Assets by name.
    pub assets: BTreeMap<String, Vec<u8>>,
    /// The files of `expected/` by their stems; `None` where there is no such folder.
    pub expected: Option<BTreeMap<String, Vec<u8>>>,
}

/// The files of a case: paths below its folder, with `/`, and contents.
pub type CaseFiles = BTreeMap<String, Vec<u8>>;

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

    /// Reads a case.
    ///
    /// # Errors
    /// Where a file cannot be read, or the config is none.
    pub fn read(folder: &Path) -> Result<Self, CasesError> {
        Self::of(folder, Self::files(folder)?)
    }

    /// The files that are a folder's case; what else lies there is none of it.
    ///
    /// # Errors
    /// Where one cannot be read.
    pub fn files(folder: &Path) -> Result<CaseFiles, CasesError> {
        let mut files = CaseFiles::new();
        let mut take = |name: String| {
            let path = folder.join(&name);
            fs::read(&path).map(|content| drop(files.insert(name, content))).map_err(|error| failed(&path, &error))
        };
        let own = INPUTS.iter().map(|(name, _)| *name).chain(["config.toml", "config.json"]);
        own.filter(|name| folder.join(name).exists()).try_for_each(|name| take(name.to_owned()))?;
        for below in ["assets", "expected"] {
            if !folder.join(below).exists() {
                continue;
            }
            for path in list(&folder.join(below))?.into_iter().filter(|path| path.is_file()) {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                if !name.starts_with('.') {
                    take(format!("{below}/{name}"))?;
                }
            }
        }
        if folder.join("expected").exists() {
            files.insert(EXPECTED.to_owned(), Vec::new());
        }
        Ok(files)
    }

    /// The case that these files are; `folder` is what it is called by.
    ///
    /// # Errors
    /// Where there is no input or more than one, or a file is not what its name says.
    pub fn of(folder: &Path, files: CaseFiles) -> Result<Self, CasesError> {
        let mut given = INPUTS.iter().filter(|(name, _)| files.contains_key(*name));
        let (input, format) = match (given.next(), given.next()) {
            (Some(one), None) => *one,
            (None, _) => {
                let names = "input.jsonl, input.json, input.csv or input.parquet";
                return Err(CasesError(format!("there is no {names}")));
            }
            (Some((a, _)), Some((b, _))) => return Err(CasesError(format!("there are both {a} and {b}"))),
        };
        let config = config(folder, &files)?;
        let (mut assets, mut expected) = (BTreeMap::new(), None);
        let mut content = Vec::new();
        for (name, bytes) in files {
            if name == input {
                content = bytes;
            } else if let Some(asset) = name.strip_prefix("assets/") {
                assets.insert(stem(Path::new(asset)), bytes);
            } else if let Some(route) = name.strip_prefix(EXPECTED) {
                let expected = expected.get_or_insert_with(BTreeMap::new);
                if !route.is_empty() {
                    expected.insert(stem(Path::new(route)), bytes);
                }
            }
        }
        if format != InputFormat::Parquet {
            text(&folder.join(input), &content)?;
        }
        Ok(Self {
            name: folder.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            folder: folder.to_owned(),
            format,
            input: content,
            config,
            assets,
            expected,
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
        let Some(expected) = &self.expected else {
            return Err(CasesError("  there is no folder expected/\n".to_owned()));
        };
        let found: BTreeMap<_, _> = answer.files().collect();
        let names: BTreeSet<&str> = found.keys().copied().chain(expected.keys().map(String::as_str)).collect();
        let mut wrong = String::new();
        for name in names {
            let path = self.folder.join(format!("expected/{name}.jsonl"));
            let wanted = expected.get(name).map_or(Ok(vec![]), |content| lines(&path, content))?;
            match found.get(name) {
                Some(found) => wrong.push_str(&difference(name, &wanted, found)),
                None => {
                    let routes: Vec<_> = answer.routes.keys().map(String::as_str).collect();
                    wrong.push_str(&format!("  expected/{name}: no such route; there are {}\n", routes.join(", ")));
                }
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(CasesError(wrong)) }
    }
}

fn config(folder: &Path, files: &CaseFiles) -> Result<Value, CasesError> {
    let wrong = |name: &str, error: String| CasesError(format!("{name}: {error}"));
    if let Some(toml) = files.get("config.toml") {
        let toml = text(&folder.join("config.toml"), toml)?;
        toml::from_str(toml).map_err(|error| wrong("config.toml", error.to_string()))
    } else if let Some(json) = files.get("config.json") {
        serde_json::from_slice(json).map_err(|error| wrong("config.json", error.to_string()))
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

fn text<'c>(path: &Path, content: &'c [u8]) -> Result<&'c str, CasesError> {
    std::str::from_utf8(content).map_err(|error| CasesError(format!("{}: {error}", path.display())))
}

fn lines(path: &Path, content: &[u8]) -> Result<Vec<Value>, CasesError> {
    let line = |(at, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|error| CasesError(format!("{} line {}: {error}", path.display(), at + 1)))
    };
    text(path, content)?.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).map(line).collect()
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
