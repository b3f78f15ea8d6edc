//! Proof by trial that a rule's answer for a row does not depend on its neighbours.

use std::collections::BTreeMap;

use serde_json::Value;

use super::harness::{Harness, HarnessError};
use super::outcome::{Outcome, Rejected};
use crate::random::Random;
use crate::transform::Module;

/// What became of one record: its rows by route, in order, and its reject.
type Fate<'o> = (Vec<(&'o str, &'o Value)>, Option<&'o Rejected>);

impl<T: Module> Harness<T> {
    /// Runs the rows whole, one by one, split in two, and in other orders, each with a fresh instance, and compares what became of each record.
    ///
    /// # Errors
    /// [`HarnessError::Splits`] where a record fared otherwise, with the record and both of its fates; else as for [`Self::run`].
    pub fn check_splits(&self) -> Result<(), HarnessError> {
        let input = self.batch()?;
        let records: Vec<usize> = (0..input.num_rows()).collect();
        let whole = self.run_calls(&input, std::slice::from_ref(&records))?;
        let expected = fates(&whole);
        let (left, right) = records.split_at(records.len() / 3);
        let reversed: Vec<usize> = records.iter().rev().copied().collect();
        let ways = [
            ("one by one", records.iter().map(|&record| vec![record]).collect()),
            ("split in two", vec![left.to_vec(), right.to_vec()]),
            ("reversed", vec![reversed]),
            ("shuffled", vec![shuffled(&records)]),
        ];
        for (way, calls) in ways {
            let calls: Vec<Vec<usize>> = calls.into_iter().filter(|call: &Vec<usize>| !call.is_empty()).collect();
            let outcome = self.run_calls(&input, &calls)?;
            let found = fates(&outcome);
            for record in 0..input.num_rows() as u64 {
                let (whole, split) = (expected.get(&record), found.get(&record));
                if whole != split {
                    return Err(HarnessError::Splits(format!(
                        "record {record} depends on its neighbours: in the whole batch it became {}, {way} it became {}",
                        tell(whole),
                        tell(split)
                    )));
                }
            }
        }
        Ok(())
    }
}

fn shuffled(records: &[usize]) -> Vec<usize> {
    let mut random = Random::new(records.len() as u64);
    let mut keyed: Vec<_> = records.iter().map(|&record| (random.next_u64(), record)).collect();
    keyed.sort_unstable();
    keyed.into_iter().map(|(_, record)| record).collect()
}

fn fates(outcome: &Outcome) -> BTreeMap<u64, Fate<'_>> {
    let mut fates = BTreeMap::<u64, Fate<'_>>::new();
    for (route, rows) in &outcome.rows {
        for row in rows {
            fates.entry(row.record).or_default().0.push((route, &row.value));
        }
    }
    for rejected in &outcome.rejects {
        fates.entry(rejected.row).or_default().1 = Some(rejected);
    }
    fates
}

fn tell(fate: Option<&Fate<'_>>) -> String {
    let Some((rows, rejected)) = fate else { return "nothing".to_owned() };
    let rows = rows.iter().map(|(route, value)| format!("{route}: {value}"));
    let rejects = rejected.iter().map(|rejected| format!("a reject: {} ({})", rejected.code, rejected.message));
    rows.chain(rejects).collect::<Vec<_>>().join(", ")
}
