//! Revisions: what makes a pipeline's output, and nothing else.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{Digest, ModuleName, PipelineName, StreamName, TableName};
use crate::schema::SchemaChanges;

/// The SHA-256 of a revision's canonical JSON: the same content always has the same id.
pub type RevisionId = Digest;

/// A step: a module with its config and assets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Its name in messages and rejects: the module's, made unique in the pipeline (`fraud`, `fraud-2`).
    pub name: String,
    /// The module's name.
    pub module: ModuleName,
    /// The module's content.
    pub digest: Digest,
    /// What `bind` is given: a JSON object.
    pub config: serde_json::Value,
    /// By name, the content of each asset.
    pub assets: BTreeMap<String, Digest>,
}

/// Where a route leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RouteTarget {
    /// Nowhere: its records count as filtered.
    Discard,
    /// To a table.
    Table {
        /// The table.
        table: TableName,
        /// Columns whose values divide the table's files.
        partition_by: Vec<String>,
        /// What happens when a row has a column that the table lacks.
        schema_changes: SchemaChanges,
    },
}

/// What makes a pipeline's output: modules, configs, assets, routes and decoder settings. Never secrets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Revision {
    /// The pipeline.
    pub pipeline: PipelineName,
    /// The stream that it reads.
    pub stream: StreamName,
    /// The decoder's settings, as JSON.
    pub decoder: serde_json::Value,
    /// The steps in order; none means that decoded rows go to the route `out`.
    pub steps: Vec<Step>,
    /// By route name: `flagged`, or `fraud.flagged` where two steps have a route of that name.
    pub routes: BTreeMap<String, RouteTarget>,
    /// The table of the records that were refused.
    pub rejects: TableName,
}

impl Revision {
    /// Its id: SHA-256 over its JSON with sorted keys.
    #[must_use]
    pub fn id(&self) -> RevisionId {
        // Serialising plain data to a `Value` cannot fail: all map keys are strings.
        let value = serde_json::to_value(self).unwrap_or_default();
        Digest::of(canonical(&value).as_bytes())
    }

    /// The tables that its routes lead to, and its rejects table, sorted, each once.
    #[must_use]
    pub fn tables(&self) -> Vec<TableName> {
        let mut tables: Vec<_> = self
            .routes
            .values()
            .filter_map(|target| match target {
                RouteTarget::Discard => None,
                RouteTarget::Table { table, .. } => Some(table.clone()),
            })
            .chain([self.rejects.clone()])
            .collect();
        tables.sort();
        tables.dedup();
        tables
    }
}

/// JSON text with object keys in byte order and no white space.
#[must_use]
pub fn canonical(value: &serde_json::Value) -> String {
    use serde_json::Value;
    match value {
        Value::Object(map) => {
            let sorted: BTreeMap<_, _> = map.iter().collect();
            let members: Vec<_> = sorted
                .iter()
                .map(|(key, value)| format!("{}:{}", Value::from(key.as_str()), canonical(value)))
                .collect();
            format!("{{{}}}", members.join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    }
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn canonical_json_ignores_the_order_of_keys() {
        let a: serde_json::Value = serde_json::from_str(r#"{"b":[1,{"y":1,"x":2}],"a":"é\n"}"#).expect("json");
        let b: serde_json::Value = serde_json::from_str(r#"{"a":"é\n","b":[1,{"x":2,"y":1}]}"#).expect("json");
        assert_eq!(canonical(&a), canonical(&b));
        assert_eq!(canonical(&a), r#"{"a":"é\n","b":[1,{"x":2,"y":1}]}"#);
    }
}
