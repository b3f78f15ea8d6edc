//! A tree of values that remember where they were written.
//!
//! TOML text becomes a [`Node`]; the files of a folder are merged into one; `${NAME}` and `${NAME:-default}` in text are
//! replaced from the environment (`$$` is a dollar; a dollar before anything else stands for itself).

use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Place, Problem, Problems};
use super::{Environment, FILE_NAME, Overlay};

/// Where something stands: a range of bytes of a file of the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct At {
    file: usize,
    start: usize,
    end: usize,
}

/// A value and its place.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) at: At,
}

/// A value. Dates and times are their text.
#[derive(Debug, Clone)]
pub(super) enum Value {
    String(String),
    Integer(i64),
    Float(f64),
    Bool(bool),
    Array(Vec<Node>),
    /// In the order of the file.
    Table(Vec<Entry>),
}

/// A key of a table.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) at: At,
    pub(super) node: Node,
}

/// The files and what they say together.
#[derive(Debug)]
pub(super) struct Tree {
    /// What was given: a file or a folder.
    pub(super) path: PathBuf,
    /// The main file, as the person named it.
    pub(super) file: PathBuf,
    /// The main file's folder, absolute.
    pub(super) root: PathBuf,
    files: Vec<(PathBuf, String)>,
    /// What stands in for files that are not in place yet.
    pub(super) overlay: Overlay,
    pub(super) node: Node,
}

impl Node {
    /// The keys of a table, none for anything else.
    pub(super) fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Table(entries) => entries,
            Value::String(_) | Value::Integer(_) | Value::Float(_) | Value::Bool(_) | Value::Array(_) => &[],
        }
    }

    /// The value of a key of a table.
    pub(super) fn get(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    /// Where `path` stands; where it does not, the nearest of its parents.
    pub(super) fn place_of(&self, path: &[&str]) -> At {
        let mut node = self;
        let mut at = self.at;
        for key in path {
            let next = match &node.value {
                Value::Array(items) => key.parse::<usize>().ok().and_then(|index| items.get(index)).map(|n| (n.at, n)),
                Value::Table(_) => node.get(key).map(|entry| (entry.at, &entry.node)),
                Value::String(_) | Value::Integer(_) | Value::Float(_) | Value::Bool(_) => None,
            };
            let Some((next_at, next_node)) = next else { break };
            (at, node) = (next_at, next_node);
        }
        at
    }

    /// What the value is, for messages that must not quote it.
    pub(super) fn kind(&self) -> &'static str {
        match self.value {
            Value::String(_) => "text",
            Value::Integer(_) => "a whole number",
            Value::Float(_) => "a number",
            Value::Bool(_) => "a boolean",
            Value::Array(_) => "a list",
            Value::Table(_) => "a table",
        }
    }

    /// Takes out the key or the list item that stands at `at`; its name where there was one.
    pub(super) fn remove(&mut self, at: At) -> Option<String> {
        match &mut self.value {
            Value::Table(entries) => {
                if let Some(index) = entries.iter().position(|entry| entry.at == at || entry.node.at == at) {
                    return Some(entries.remove(index).key);
                }
                entries.iter_mut().find_map(|entry| entry.node.remove(at))
            }
            Value::Array(items) => {
                if let Some(index) = items.iter().position(|item| item.at == at) {
                    items.remove(index);
                    return Some(index.to_string());
                }
                items.iter_mut().find_map(|item| item.remove(at))
            }
            Value::String(_) | Value::Integer(_) | Value::Float(_) | Value::Bool(_) => None,
        }
    }
}

impl Tree {
    /// For people.
    pub(super) fn place(&self, at: At) -> Option<Place> {
        place(&self.files, at)
    }
}

fn place(files: &[(PathBuf, String)], at: At) -> Option<Place> {
    let (file, text) = files.get(at.file)?;
    let before = text.get(..at.start).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    Some(Place {
        file: file.clone(),
        line: before.matches('\n').count() + 1,
        column: before.get(line_start..).unwrap_or_default().chars().count() + 1,
    })
}

/// Reads a file, or a folder's `forebay.toml` and the other `*.toml` beside it.
pub(super) fn read(path: &Path, overlay: &Overlay, environment: Environment<'_>) -> Result<Tree, Problems> {
    let (file, fragments) =
        if path.is_dir() { (path.join(FILE_NAME), fragments(path, overlay)?) } else { (path.into(), vec![]) };
    let root =
        super::root_of(&file).map_err(|error| Problems::one(error.to_string(), error.hint().unwrap_or_default()))?;

    let mut reader = Reader { files: Vec::new(), problems: Vec::new(), overlay, environment };
    let mut node = reader.file(&file)?;
    for fragment in &fragments {
        let other = reader.file(fragment)?;
        reader.merge(&mut node, other, "");
    }
    let Reader { files, problems, overlay: _, environment: _ } = reader;
    match Problems::collect(problems) {
        Some(problems) => Err(problems),
        None => Ok(Tree { path: path.to_owned(), file, root, files, overlay: overlay.clone(), node }),
    }
}

/// The `*.toml` of a folder but `forebay.toml` and hidden ones, sorted.
pub(super) fn fragments(folder: &Path, overlay: &Overlay) -> Result<Vec<PathBuf>, Problems> {
    let unreadable = |error: std::io::Error| {
        Problems::one(
            format!("the config folder {} cannot be read: {error}", folder.display()),
            "check its permissions",
        )
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.is_file() {
            found.push(path);
        }
    }
    found.extend(overlay.files_in(folder));
    found.retain(|path| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        name.ends_with(".toml") && name != FILE_NAME && !name.starts_with('.')
    });
    found.sort();
    found.dedup();
    Ok(found)
}

struct Reader<'a> {
    files: Vec<(PathBuf, String)>,
    problems: Vec<Problem>,
    overlay: &'a Overlay,
    environment: Environment<'a>,
}

impl Reader<'_> {
    fn file(&mut self, path: &Path) -> Result<Node, Problems> {
        let text = std::fs::read_to_string(self.overlay.stands_in(path)).map_err(|error| {
            if error.kind() == std::io::ErrorKind::NotFound {
                return Problems::one(
                    format!("there is no config at {}", path.display()),
                    "`forebay init` makes one; `-c FILE` or `-c FOLDER` names another",
                );
            }
            Problems::one(
                format!("the config {} cannot be read: {error}", path.display()),
                "it must be a file of UTF-8 text that this user may read",
            )
        })?;
        let file = self.files.len();
        self.files.push((path.to_owned(), text.clone()));
        let (table, errors) = DeTable::parse_recoverable(&text);
        for error in errors {
            let at = error.span().map(|span| At { file, start: span.start, end: span.end });
            let hint = "the file is TOML, see https://toml.io".to_owned();
            self.problem(at, format!("this is not TOML: {}", error.message()), Some(hint));
        }
        let span = table.span();
        Ok(Node { value: self.table(file, table.into_inner()), at: At { file, start: span.start, end: span.end } })
    }

    fn table(&mut self, file: usize, table: DeTable<'_>) -> Value {
        let mut entries: Vec<_> = table
            .into_iter()
            .map(|(key, value)| {
                let span = key.span();
                let at = At { file, start: span.start, end: span.end };
                Entry { key: key.into_inner().into_owned(), at, node: self.node(file, value) }
            })
            .collect();
        entries.sort_by_key(|entry| entry.at.start);
        Value::Table(entries)
    }

    fn node(&mut self, file: usize, value: Spanned<DeValue<'_>>) -> Node {
        let span = value.span();
        let at = At { file, start: span.start, end: span.end };
        let value = match value.into_inner() {
            DeValue::String(text) => Value::String(self.expand(&text, at)),
            DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => Value::Integer(number),
                Err(_) => {
                    self.problem(Some(at), "this number is larger than 64 bits".to_owned(), None);
                    Value::Integer(0)
                }
            },
            DeValue::Float(number) => match number.as_str().parse::<f64>() {
                Ok(number) if number.is_finite() => Value::Float(number),
                Ok(_) | Err(_) => {
                    self.problem(Some(at), "this number is not finite".to_owned(), None);
                    Value::Float(0.0)
                }
            },
            DeValue::Boolean(truth) => Value::Bool(truth),
            DeValue::Datetime(time) => Value::String(time.to_string()),
            DeValue::Array(items) => Value::Array(items.into_iter().map(|item| self.node(file, item)).collect()),
            DeValue::Table(table) => self.table(file, table),
        };
        Node { value, at }
    }

    /// Puts `other` into `into`: tables join, anything that both have is a problem.
    fn merge(&mut self, into: &mut Node, other: Node, path: &str) {
        let (Value::Table(entries), Value::Table(others)) = (&mut into.value, other.value) else { return };
        for new in others {
            let path = if path.is_empty() { new.key.clone() } else { format!("{path}.{}", new.key) };
            let Some(known) = entries.iter_mut().find(|known| known.key == new.key) else {
                entries.push(new);
                continue;
            };
            if matches!((&known.node.value, &new.node.value), (Value::Table(_), Value::Table(_))) {
                self.merge(&mut known.node, new.node, &path);
                continue;
            }
            let first = place(&self.files, known.at).map(|place| format!("it is set at {place} too: remove one"));
            self.problem(Some(new.at), format!("`{path}` is set twice"), first);
        }
    }

    /// Replaces `${NAME}`, `${NAME:-default}` and `$$`. What was put in is not looked at again.
    fn expand(&mut self, text: &str, at: At) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            out.push_str(before);
            if let Some(after) = after.strip_prefix('$') {
                out.push('$');
                rest = after;
            } else if let Some(after) = after.strip_prefix('{') {
                let Some((inside, after)) = after.split_once('}') else {
                    let hint = "write `${NAME}` or `${NAME:-default}`; a dollar is `$$`".to_owned();
                    self.problem(Some(at), "`${` has no `}`".to_owned(), Some(hint));
                    return out;
                };
                out.push_str(&self.variable(inside, at));
                rest = after;
            } else {
                out.push('$');
                rest = after;
            }
        }
        out.push_str(rest);
        out
    }

    /// As in a shell, a variable that is set and empty takes the default too.
    fn variable(&mut self, inside: &str, at: At) -> String {
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        if name.is_empty() || name.contains(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
            let hint = "letters, digits and `_`; a dollar is `$$`".to_owned();
            self.problem(Some(at), format!("`{name}` is not the name of an environment variable"), Some(hint));
            return String::new();
        }
        match ((self.environment)(name), default) {
            (Some(value), None) => value,
            (Some(value), Some(_)) if !value.is_empty() => value,
            (_, Some(default)) => default.to_owned(),
            (None, None) => {
                let hint = format!("set it, or give it a default: `${{{name}:-…}}`");
                self.problem(Some(at), format!("the environment variable {name} is not set"), Some(hint));
                String::new()
            }
        }
    }

    fn problem(&mut self, at: Option<At>, message: String, hint: Option<String>) {
        let place = at.and_then(|at| place(&self.files, at));
        self.problems.push(Problem { message, place, hint });
    }
}
