//! What a rule made of a test's rows.

use std::collections::BTreeMap;

use arrow_schema::SchemaRef;
use serde_json::Value;

use crate::report::Level;

/// A record that was rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// The record's number in the input, from 0.
    pub row: u64,
    /// The rule's code, or `required_missing` where the host rejected it for a required column.
    pub code: String,
    /// The rule's message.
    pub message: String,
    /// Whether a later revision may accept it.
    pub retryable: bool,
    /// Whether it was the host that rejected it, before the rule saw it.
    pub by_host: bool,
}

/// A row of a route, and the record that it was made of.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub(super) record: u64,
    pub(super) value: Value,
}

/// What a rule made of a test's rows.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    pub(super) rows: BTreeMap<String, Vec<Row>>,
    pub(super) schemas: BTreeMap<String, SchemaRef>,
    /// Rejects, by row.
    pub rejects: Vec<Rejected>,
    /// Records that went nowhere: neither emitted nor rejected.
    pub filtered: u64,
    /// Whether the plan says that an instance may serve many segments.
    pub reusable: bool,
    /// Lines for the log.
    pub logs: Vec<(Level, String)>,
    /// Counters.
    pub counts: BTreeMap<String, u64>,
    /// Observations.
    pub observations: Vec<(String, f64)>,
}

impl Outcome {
    /// The routes that the rule planned.
    pub fn routes(&self) -> impl Iterator<Item = &str> {
        self.rows.keys().map(String::as_str)
    }

    /// The rows of a route, each an object with all its columns; none where there is no such route.
    #[must_use]
    pub fn rows(&self, route: &str) -> Vec<Value> {
        self.rows.get(route).into_iter().flatten().map(|row| row.value.clone()).collect()
    }

    /// One column of a route's rows.
    #[must_use]
    pub fn column(&self, route: &str, name: &str) -> Vec<Value> {
        let rows = self.rows.get(route).into_iter().flatten();
        rows.map(|row| row.value.get(name).cloned().unwrap_or(Value::Null)).collect()
    }

    /// The schema of a route.
    #[must_use]
    pub fn schema(&self, route: &str) -> Option<&SchemaRef> {
        self.schemas.get(route)
    }
}
