//! A deployment in shadow: what is asked of it and what came of it, as it stands in the ledger, and in words.

use std::collections::BTreeMap;

use forebay_model::ids::ModuleName;
use forebay_model::ports::Shadow;
use forebay_model::{Digest, Error, PipelineName, Result, RevisionId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cli::{counted, thousands};
use crate::config::Share;
use crate::rules::changes::{Changes, Sample};

/// Bytes of a value of a sample: rows may be long, and this ends up in the ledger.
const BYTES: usize = 1_000;

/// What is asked of a deployment: `plan` of a [`Shadow`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// So many segments are compared.
    pub(crate) segments: u32,
    /// It goes on by itself where no larger share of rows differs.
    pub(crate) max_changed: Share,
    /// The revision that it is compared with.
    pub(crate) active: RevisionId,
    /// The modules that become the active ones of their names with it.
    pub(crate) modules: Vec<Brought>,
    /// All pipelines that go on together, this one too: all of them, or none.
    pub(crate) together: BTreeMap<PipelineName, RevisionId>,
}

/// A module of a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Brought {
    pub(crate) name: ModuleName,
    pub(crate) digest: Digest,
    pub(crate) origin: String,
}

/// How far a shadow is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Stage {
    /// Segments are compared.
    #[default]
    Comparing,
    /// More rows differ than may: a person decides.
    Waiting,
    /// It may become active, as soon as those that go on with it may.
    Passed,
}

/// What came of it so far: `report` of a [`Shadow`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Comparison {
    pub(crate) stage: Stage,
    /// The segments that were compared.
    pub(crate) segments: Vec<String>,
    /// Records of them.
    pub(crate) records: u64,
    /// By table; rejects are one.
    pub(crate) tables: BTreeMap<String, Changes>,
    /// Why it waits or may go on, where no share of rows says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) why: Option<String>,
}

impl Comparison {
    /// As the ledger has it.
    ///
    /// # Errors
    /// Class operator: no host writes what it cannot read, so somebody else did.
    pub(crate) fn of(shadow: &Shadow) -> Result<Self> {
        if shadow.report.is_null() {
            return Plan::of(shadow).map(|plan| Self::begun(&plan));
        }
        serde_json::from_value(shadow.report.clone())
            .map_err(|error| damaged(&shadow.pipeline, "shadow_report", &error))
    }

    /// Before anything is compared.
    pub(crate) fn begun(plan: &Plan) -> Self {
        let stage = if plan.segments == 0 { Stage::Passed } else { Stage::Comparing };
        Self { stage, ..Self::default() }
    }

    /// As the ledger keeps it.
    ///
    /// # Errors
    /// Class bug.
    pub(crate) fn to_value(&self) -> Result<Value> {
        serde_json::to_value(self).map_err(unwritable)
    }

    /// Adds what was found in one more segment, and judges once enough are compared.
    pub(crate) fn add(&mut self, plan: &Plan, segment: &str, records: u64, tables: BTreeMap<String, Changes>) {
        self.segments.push(segment.to_owned());
        self.records += records;
        for (table, mut changes) in tables {
            for sample in &mut changes.samples {
                let Sample { segment: of, record: _, was, is } = sample;
                *of = Some(segment.to_owned());
                for value in [was, is].into_iter().flatten() {
                    shorten(value);
                }
            }
            self.tables.entry(table).or_default().add(changes);
        }
        if self.segments.len() >= plan.segments as usize {
            let (differ, rows) = self.differing();
            self.stage = if plan.max_changed.allows(differ, rows) { Stage::Passed } else { Stage::Waiting };
        }
    }

    /// How many rows differ, of how many that either revision made.
    pub(crate) fn differing(&self) -> (u64, u64) {
        let differ: u64 = self.tables.values().map(|table| table.changed + table.added + table.removed).sum();
        (differ, differ + self.tables.values().map(|table| table.same).sum::<u64>())
    }

    /// In one line: how far it is.
    pub(crate) fn line(&self, plan: &Plan) -> String {
        if plan.segments == 0 {
            return "goes on with the pipelines that share its module".to_owned();
        }
        let (differ, rows) = self.differing();
        let compared = format!("{} of {}", self.segments.len(), counted(u64::from(plan.segments), "segment"));
        let differ = format!(
            "{} of {} differ ({}; at most {} may)",
            thousands(differ),
            counted(rows, "row"),
            Share::of(differ, rows),
            plan.max_changed
        );
        match self.stage {
            Stage::Comparing => format!("{compared} compared, {differ}"),
            Stage::Waiting => match &self.why {
                Some(why) => why.clone(),
                None => format!("waits for a person: {differ}"),
            },
            Stage::Passed => format!("{compared} compared, {differ}: it may go on"),
        }
    }

    /// What differs, table by table.
    pub(crate) fn words(&self) -> Vec<String> {
        let differing = self.tables.iter().filter(|(_, changes)| !changes.none());
        differing.flat_map(|(table, changes)| changes.words(table)).collect()
    }
}

impl Plan {
    /// As the ledger has it.
    ///
    /// # Errors
    /// Class operator: no host writes what it cannot read, so somebody else did.
    pub(crate) fn of(shadow: &Shadow) -> Result<Self> {
        serde_json::from_value(shadow.plan.clone()).map_err(|error| damaged(&shadow.pipeline, "shadow_plan", &error))
    }

    /// As the ledger keeps it.
    ///
    /// # Errors
    /// Class bug.
    pub(crate) fn to_value(&self) -> Result<Value> {
        serde_json::to_value(self).map_err(unwritable)
    }
}

fn unwritable(error: serde_json::Error) -> Error {
    Error::bug("a deployment in shadow cannot be written down").with_source(error)
}

/// What no host wrote: somebody else was at the ledger.
pub(crate) fn damaged(pipeline: &PipelineName, column: &str, error: &serde_json::Error) -> Error {
    Error::operator(format!(
        "the ledger is damaged: column {column} of table deployments, in a row of pipeline {pipeline}: {error}"
    ))
    .with_hint(format!(
        "`forebay deployments cancel {pipeline}` takes back what is in shadow; put the ledger back from a copy, or rebuild it with \
         `forebay recover --replace`, where more of it is damaged"
    ))
}

/// Cuts long values off.
fn shorten(value: &mut Value) {
    if let Value::Object(columns) = value {
        columns.values_mut().for_each(shorten);
        return;
    }
    let text = value.to_string();
    if text.len() > BYTES {
        let end = (0..=BYTES).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
        *value = Value::from(format!("{}…", text.get(..end).unwrap_or_default()));
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;

    fn plan(segments: u32, max_changed: &str) -> Plan {
        Plan {
            segments,
            max_changed: max_changed.parse().unwrap(),
            active: Digest::of(b"active"),
            modules: Vec::new(),
            together: BTreeMap::new(),
        }
    }

    fn changed(same: u64, changed: u64) -> BTreeMap<String, Changes> {
        let sample = Sample { segment: None, record: 7, was: Some(json!({ "a": "é".repeat(BYTES) })), is: None };
        BTreeMap::from([(
            "lake.a".to_owned(),
            Changes { same, changed, samples: vec![sample; 4], ..Changes::default() },
        )])
    }

    #[test]
    fn a_share_of_rows_decides_once_all_segments_are_compared() {
        for (max_changed, stage) in [("1%", Stage::Passed), ("0.9%", Stage::Waiting)] {
            let plan = plan(2, max_changed);
            let mut comparison = Comparison::default();
            comparison.add(&plan, "s/1", 50, changed(48, 2));
            assert_eq!(comparison.stage, Stage::Comparing);
            comparison.add(&plan, "s/2", 150, changed(150, 0));
            assert_eq!((comparison.stage, comparison.differing()), (stage, (2, 200)), "{max_changed}");
        }
    }

    #[test]
    fn samples_are_few_and_short_and_know_their_segment() {
        let plan = plan(2, "0%");
        let mut comparison = Comparison::default();
        comparison.add(&plan, "s/1", 50, changed(48, 2));
        comparison.add(&plan, "s/2", 50, changed(48, 2));
        let samples = &comparison.tables["lake.a"].samples;
        assert_eq!(samples.iter().filter(|sample| sample.segment.as_deref() == Some("s/1")).count(), 4);
        assert!(samples.len() == 5 && comparison.to_value().unwrap().to_string().len() < 6 * BYTES);
        let read: Comparison = serde_json::from_value(comparison.to_value().unwrap()).unwrap();
        assert_eq!(read, comparison);
    }
}
