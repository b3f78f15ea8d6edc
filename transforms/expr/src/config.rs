//! The config, in the order in which it is written.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use schemars::JsonSchema;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

/// The config of the step.
#[derive(Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// A condition: rows for which it is not true are filtered. Without one, all rows go on.
    pub(crate) filter: Option<String>,
    /// Columns that each row must have: one where such a column is missing, null or was rescued is rejected, with the code
    /// `required_missing`. All other columns may be null.
    pub(crate) required: Vec<String>,
    /// Columns that are computed, by name. An expression may use other computed columns; one that has the name of an input
    /// column replaces it, and means the input column within its own expression.
    #[schemars(with = "BTreeMap<String, String>")]
    pub(crate) columns: Ordered<String>,
    /// Where rows go. `out` is always there, with every row and every column, unless it is given here.
    #[schemars(with = "BTreeMap<String, RouteConfig>")]
    pub(crate) routes: Ordered<RouteConfig>,
    /// Rows that are refused, by the first of these whose condition is true.
    pub(crate) reject: Vec<RejectConfig>,
}

/// A route.
#[derive(Debug, Default, serde::Deserialize, JsonSchema)]
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
#[derive(Debug, serde::Deserialize, JsonSchema)]
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

/// A table in the order in which it is written.
#[derive(Debug)]
pub struct Ordered<T>(pub(crate) Vec<(String, T)>);

impl<T> Default for Ordered<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Ordered<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
            type Value = Ordered<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Ordered(entries))
            }
        }
        deserializer.deserialize_map(Entries(PhantomData))
    }
}
