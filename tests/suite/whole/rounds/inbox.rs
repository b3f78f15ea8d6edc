//! What arrives in a round, and what tables must be made of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::super::support::Place;
use super::Lot;

/// Columns that only some contents have: each first one of a name grows the schema.
pub(super) const MORE: usize = 6;

/// What a file holds: so many records of a version, the last of them torn where it is odd.
#[derive(Debug, Clone, Copy)]
struct Content {
    records: u32,
    version: u32,
    /// Which column more its records have.
    more: Option<usize>,
}

/// A row of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Row {
    pub(super) id: i64,
    pub(super) version: i64,
    pub(super) more: [Option<i64>; MORE],
}

/// The name of such a column.
pub(super) fn more(column: usize) -> String {
    format!("more_{column}")
}

impl Content {
    fn is_torn(self) -> bool {
        self.version % 2 == 1
    }

    fn text(self, file: u32) -> String {
        let mut text = String::new();
        for (Row { id, version, more: columns }, flagged) in self.rows(file) {
            let v14 = if flagged { -9.5 } else { -0.5 };
            write!(text, r#"{{"id":{id},"Time":{version},"V14":{v14},"V17":0.25,"Amount":{version}.5,"Class":0"#)
                .unwrap();
            for (column, value) in columns.into_iter().enumerate() {
                if let Some(value) = value {
                    write!(text, r#","{}":{value}"#, more(column)).unwrap();
                }
            }
            text += "}\n";
        }
        if self.is_torn() {
            text += "{\"id\":\n";
        }
        text
    }

    /// Each with whether it is flagged.
    fn rows(self, file: u32) -> impl Iterator<Item = (Row, bool)> {
        let Self { records, version, more } = self;
        (0..records).map(move |n| {
            let id = i64::from(file * 10_000 + n);
            let mut row = Row { id, version: i64::from(version), more: [None; MORE] };
            if let Some(column) = more {
                row.more[column] = Some(id * 7 + i64::from(version));
            }
            (row, n % 10 == 0)
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
        let mut lines: Vec<_> =
            torn.map(|(file, content)| format!("{file}.jsonl {} malformed {{\"id\":", content.records)).collect();
        lines.sort();
        lines
    }

    /// All rows, or the flagged ones.
    pub(super) fn rows(&self, flagged: bool) -> BTreeSet<Row> {
        let rows = self.0.iter().flat_map(|(file, content)| content.rows(*file));
        rows.filter(|(_, flag)| *flag || !flagged).map(|(row, _)| row).collect()
    }
}
