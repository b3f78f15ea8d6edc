//! The config. Tables are in the order of their names, as TOML's have no other.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

/// The config of the step.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// A condition: rows for which it is not true are filtered. Without one, all rows go on.
    pub(crate) filter: Option<String>,
    /// Columns that each row must have: one where such a column is missing, null or was rescued is rejected, with the code
    /// `required_missing`. All other columns may be null.
    pub(crate) required: Vec<String>,
    /// Columns that are computed, by name. An expression may use other computed columns; one that has the name of an input
    /// column replaces it, and means the input column within its own expression. They come behind the input's columns, by name.
    pub(crate) columns: BTreeMap<String, String>,
    /// Where rows go. `out` is always there, with every row and every column, unless it is given here.
    pub(crate) routes: BTreeMap<String, RouteConfig>,
    /// Rows that are refused, by the first of these whose condition is true.
    pub(crate) reject: Vec<RejectConfig>,
}

/// A route.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RouteConfig {
    /// A condition: rows for which it is true take the route. Without one, all do.
    pub(crate) when: Option<String>,
    /// The columns of the route, input or computed, in this order. Without them, all columns.
    pub(crate) columns: Option<Vec<String>>,
    /// Columns that the route goes without. Not together with `columns`.
    pub(crate) except: Vec<String>,
}

/// Rows that are refused.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RejectConfig {
    /// Short and stable, for counting: 1 to 64 bytes.
    pub(crate) code: String,
    /// A condition: rows for which it is true are rejected.
    pub(crate) when: String,
    /// For people. Without one, the condition is told.
    pub(crate) message: Option<String>,
    /// Whether no later revision is to try the row again.
    #[serde(default, rename = "final")]
    pub(crate) last: bool,
}
