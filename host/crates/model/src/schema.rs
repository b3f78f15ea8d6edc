//! The schema that a pipeline decodes its stream to. Inferred from a sample, then fixed; it grows by versions.

use arrow_schema::SchemaRef;
use serde::{Deserialize, Serialize};

/// Counts from 1 for each pipeline.
pub type SchemaVersion = u32;

/// A version of a pipeline's decoded schema.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamSchema {
    /// Its number.
    pub version: SchemaVersion,
    /// Names keep the input's case. All fields are nullable. Without forebay's own columns.
    pub schema: SchemaRef,
}

/// A schema that would fit what a decoder has met better than the one it was given. What did not fit was rescued, so to
/// decode again under the new schema is an improvement, not a repair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evolution {
    /// The whole schema, grown.
    pub schema: SchemaRef,
    /// Fields that are new, as paths: `geo.city`.
    pub added: Vec<String>,
    /// Fields whose type grew from `Int64` to `Float64`, the one widening there is.
    pub widened: Vec<String>,
}

/// What a table does when its rows gain a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SchemaChanges {
    /// The column is added, in the commit that needs it.
    #[default]
    Apply,
    /// Its values are rescued, and the change waits for approval; everything else loads.
    Hold,
    /// Its values are rescued, for ever.
    Rescue,
}
