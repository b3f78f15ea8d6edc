//! What arrives in a round, and what tables must be made of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::super::support::Place;
use super::Lot;

/// Columns that only some contents have: each first one of a name grows the schema.
const MORE: usize = 6;

/// What a file holds: so many records of a version, the last of them torn where it is odd.
#[derive(Debug, Clone, Copy)]
struct Content {
    records: u32,
    version: u32,
    /// Which column more its records have.
    more: Option<usize>,
}

/// A row of the tables: all columns that have a value, by name, but for those that differ from load to load. Beside them `object`, the
/// file that its segment was.
pub(super) type Row = BTreeMap<String, String>;

/// What differs from load to load.
const OF_THE_LOAD: [&str; 3] = ["_forebay_segment", "_forebay_load", "_forebay_loaded_at"];

/// A row as it is read, or wanted.
pub(super) fn row(columns: &Value) -> Row {
    let columns = columns.as_object().unwrap().iter();
    let columns = columns.filter(|(name, value)| !value.is_null() && !OF_THE_LOAD.contains(&name.as_str()));
    columns.map(|(name, value)| (name.clone(), value.to_string())).collect()
}

/// The name of such a column.
fn more(column: usize) -> String {
    format!("more_{column}")
}

impl Content {
    fn is_torn(self) -> bool {
        self.version % 2 == 1
    }

    fn text(self, file: u32) -> String {
        let mut text = String::new();
        for (record, _) in self.records(file) {
            writeln!(text, "{record}").unwrap();
        }
        if self.is_torn() {
            text += "{\"id\":\n";
        }
        text
    }

    /// Each with whether it is flagged.
    fn records(self, file: u32) -> impl Iterator<Item = (Value, bool)> {
        let Self { records, version, more } = self;
        (0..records).map(move |n| {
            let (id, flagged) = (file * 10_000 + n, n % 10 == 0);
            let (v14, amount) = (if flagged { -9.5 } else { -0.5 }, f64::from(version) + 0.5);
            let mut record =
                json!({"id": id, "Time": version, "V14": v14, "V17": 0.25, "Amount": amount, "Class": id % 2});
            if let Some(column) = more {
                record[self::more(column)] = json!(id * 7 + version);
            }
            (record, flagged)
        })
    }

    /// What tables must have of them.
    fn rows(self, file: u32) -> impl Iterator<Item = (Row, bool)> {
        self.records(file).enumerate().map(move |(n, (mut columns, flagged))| {
            let number = |name: &str| columns[name].as_f64().unwrap();
            let score = number("Amount") * 0.001 - number("V14") * 0.6 - number("V17") * 0.4;
            // Read as it is read from a table: from its text.
            columns["score"] = serde_json::from_str(&json!(score).to_string()).unwrap();
            columns["reason"] = json!(if flagged { "v14_below_limit" } else { "none" });
            columns["flagged"] = json!(flagged);
            columns["_forebay_row"] = json!(n);
            columns["_forebay_item"] = json!(0);
            columns["object"] = json!(format!("{file}.jsonl"));
            (row(&columns), flagged)
        })
    }
}

/// What is in the inbox.
#[derive(Default)]
pub(super) struct Inbox(BTreeMap<u32, Content>);

impl Inbox {
    fn put(&mut self, place: &Place, lot: &mut Lot, file: u32) {
        let version = self.0.get(&file).map_or(0, |content| content.version + 1) + lot.below(2);
        let records = 1 + lot.below(400);
        let more = (lot.below(3) == 0).then(|| lot.below(u32::try_from(MORE).unwrap()) as usize);
        let content = Content { records, version, more };
        place.write(&format!("inbox/{file}.jsonl"), &content.text(file));
        self.0.insert(file, content);
    }

    /// Another file.
    pub(super) fn put_new(&mut self, place: &Place, lot: &mut Lot) {
        let next = self.0.keys().next_back().map_or(0, |last| last + 1);
        self.put(place, lot, next);
    }

    /// Another content of a file that is there.
    pub(super) fn replace(&mut self, place: &Place, lot: &mut Lot) {
        let files: Vec<_> = self.0.keys().copied().collect();
        let file = files[lot.below(u32::try_from(files.len()).unwrap()) as usize];
        self.put(place, lot, file);
    }

    /// What is refused of it, as [`super::rejects`] tells it.
    pub(super) fn torn(&self) -> Vec<String> {
        let torn = self.0.iter().filter(|(_, content)| content.is_torn());
        let mut lines: Vec<_> = torn
            .map(|(file, content)| format!("{file}.jsonl {} decode malformed {{\"id\":", content.records))
            .collect();
        lines.sort();
        lines
    }

    /// All rows, or the flagged ones.
    pub(super) fn rows(&self, flagged: bool) -> BTreeSet<Row> {
        let rows = self.0.iter().flat_map(|(file, content)| content.rows(*file));
        rows.filter(|(_, flag)| *flag || !flagged).map(|(row, _)| row).collect()
    }
}
