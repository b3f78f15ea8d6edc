//! Proof by trial that a rule's answer for a row does not depend on its neighbours: `cargo test` tries it natively, `forebay test` in
//! the sandbox, both in these ways.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use super::case::columns;
use super::harness::{BATCH, Harness, HarnessError};
use super::outcome::Outcome;
use crate::random::Random;
use crate::transform::Module;

/// What became of one record.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Fate {
    /// Its rows by route, in order.
    pub rows: Vec<(String, Value)>,
    /// The code and the message of its reject.
    pub reject: Option<(String, String)>,
}

impl Fate {
    fn tell(&self) -> String {
        let Self { rows, reject } = self;
        let rows = rows.iter().map(|(route, value)| format!("{route} {value}"));
        let rejects = reject.iter().map(|(code, message)| format!("a reject, {code}: {message}"));
        let told: Vec<_> = rows.chain(rejects).collect();
        if told.is_empty() { "nothing".to_owned() } else { told.join(", ") }
    }
}

/// What became of each record; one that is not there was filtered.
pub type Fates = BTreeMap<u64, Fate>;

/// A record that fares otherwise in another batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependence {
    /// The record's number in the input, from 0.
    pub record: u64,
    /// The route and the column that differ, where the record is on the same routes.
    pub place: Option<(String, String)>,
    /// How the batch was split or ordered.
    pub way: &'static str,
    /// The value, or all that became of the record, in the whole batch.
    pub whole: String,
    /// The same, split in this way.
    pub split: String,
}

impl fmt::Display for Dependence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { record, place, way, whole, split } = self;
        write!(f, "its answer depends on the batch: record {record}")?;
        if let Some((route, column)) = place {
            write!(f, ", column {column} of route {route}")?;
        }
        write!(f, " is {whole} in the whole batch, and {split} {way}")
    }
}

/// The ways in which so many records are tried: lists of batches.
#[must_use]
pub fn ways(records: usize) -> Vec<(&'static str, Vec<Vec<usize>>)> {
    let records: Vec<usize> = (0..records).collect();
    let (left, right) = records.split_at(records.len() / 3);
    let ways = [
        ("row by row", records.iter().map(|&record| vec![record]).collect()),
        ("split in two", vec![left.to_vec(), right.to_vec()]),
        ("in reverse", vec![records.iter().rev().copied().collect()]),
        ("shuffled", vec![shuffled(&records)]),
    ];
    let some =
        |calls: Vec<Vec<usize>>| calls.iter().flat_map(|call| call.chunks(BATCH)).map(<[usize]>::to_vec).collect();
    ways.into_iter().map(|(way, calls)| (way, some(calls))).collect()
}

/// The first record that fares otherwise.
#[must_use]
pub fn dependence(whole: &Fates, way: &'static str, split: &Fates) -> Option<Dependence> {
    let none = Fate::default();
    let records = whole.keys().chain(split.keys()).collect::<std::collections::BTreeSet<_>>();
    let of = |fates: &'_ Fates, record: &u64| fates.get(record).cloned().unwrap_or_else(|| none.clone());
    let record = *records.into_iter().find(|record| of(whole, record) != of(split, record))?;
    let (whole, split) = (of(whole, &record), of(split, &record));
    let pairs = whole.rows.iter().zip(&split.rows);
    let same_routes = whole.reject == split.reject && whole.rows.len() == split.rows.len();
    let differing = pairs.filter(|(a, b)| a != b).find_map(|((route, a), (other, b))| {
        let (a, b) = (a.as_object()?, b.as_object()?);
        let (column, a, b) = columns(a, b).into_iter().next()?;
        (route == other).then(|| (route.clone(), column.to_owned(), a, b))
    });
    Some(match differing.filter(|_| same_routes) {
        Some((route, column, whole, split)) => Dependence { record, place: Some((route, column)), way, whole, split },
        None => Dependence { record, place: None, way, whole: whole.tell(), split: split.tell() },
    })
}

impl<T: Module> Harness<T> {
    /// Runs the rows whole, row by row, split in two, and in other orders, each with a fresh instance, and compares what became of each record.
    ///
    /// # Errors
    /// [`HarnessError::Splits`] where a record fared otherwise, with the record and both of its fates; else as for [`Self::run`].
    pub fn check_splits(&self) -> Result<(), HarnessError> {
        let input = self.batch()?;
        let whole = self.run()?.fates();
        for (way, calls) in ways(input.num_rows()) {
            let split = self.run_calls(&input, &calls)?.fates();
            if let Some(dependence) = dependence(&whole, way, &split) {
                return Err(HarnessError::Splits(dependence.to_string()));
            }
        }
        Ok(())
    }
}

impl Outcome {
    fn fates(&self) -> Fates {
        let mut fates = Fates::new();
        for (route, rows) in &self.rows {
            for row in rows {
                fates.entry(row.record).or_default().rows.push((route.clone(), row.value.clone()));
            }
        }
        for rejected in &self.rejects {
            let reject = (rejected.code.clone(), rejected.message.clone());
            fates.entry(rejected.row).or_default().reject = Some(reject);
        }
        fates
    }
}

fn shuffled(records: &[usize]) -> Vec<usize> {
    let mut random = Random::new(records.len() as u64);
    let mut keyed: Vec<_> = records.iter().map(|&record| (random.next_u64(), record)).collect();
    keyed.sort_unstable();
    keyed.into_iter().map(|(_, record)| record).collect()
}
