//! The sections as they are written. What one key says of another is [`super::check`]'s.

use std::collections::BTreeMap;

use forebay_model::schema::SchemaChanges;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use super::units::{BackAfter, Share, Size, Span};

/// The top level.
pub(super) const SECTIONS: [&str; 10] =
    ["landing", "ledger", "modules", "warehouses", "streams", "pipelines", "host", "http", "alerts", "maintain"];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Landing {
    pub(super) url: String,
    pub(super) endpoint: Option<String>,
    pub(super) region: Option<String>,
    pub(super) profile: Option<String>,
    pub(super) path_style: Option<bool>,
    pub(super) encryption: Option<Encryption>,
    pub(super) kms_key: Option<String>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) enum Encryption {
    #[serde(rename = "AES256")]
    Aes256,
    #[serde(rename = "aws:kms")]
    Kms,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ledger {
    pub(super) url: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Modules {
    pub(super) watch: String,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum WarehouseKind {
    Delta,
    Postgres,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Warehouse {
    #[serde(rename = "type")]
    pub(super) kind: WarehouseKind,
    pub(super) url: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stream {
    pub(super) source: Map<String, Value>,
    pub(super) format: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pipeline {
    pub(super) from: String,
    #[serde(default)]
    pub(super) steps: Vec<Step>,
    /// Looked at one by one.
    #[serde(default, rename = "routes")]
    _routes: Option<IgnoredAny>,
    pub(super) rejects: Option<String>,
    #[serde(default)]
    pub(super) limits: Map<String, Value>,
    #[serde(default)]
    pub(super) deploy: Deploy,
    pub(super) retry: Option<Retry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Retry {
    pub(super) schedule: String,
    pub(super) zone: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Deploy {
    pub(super) dry_run: Option<u64>,
    pub(super) shadow: Option<u64>,
    pub(super) max_changed: Option<Share>,
    pub(super) back_after: Option<BackAfter>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Step {
    pub(super) module: String,
    pub(super) name: Option<String>,
    #[serde(default)]
    pub(super) config: Map<String, Value>,
    #[serde(default)]
    pub(super) assets: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Route {
    pub(super) table: String,
    #[serde(default)]
    pub(super) partition_by: Vec<String>,
    #[serde(default)]
    pub(super) schema_changes: SchemaChanges,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Host {
    pub(super) workers: Option<u64>,
    pub(super) memory: Option<Size>,
    pub(super) shutdown_seconds: Option<u64>,
    pub(super) log: Option<String>,
    #[serde(default)]
    pub(super) commit: Commit,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Commit {
    pub(super) max_segments: Option<u64>,
    pub(super) max_bytes: Option<Size>,
    pub(super) max_age: Option<Span>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Http {
    pub(super) listen: Option<String>,
    pub(super) token_file: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Alerts {
    pub(super) webhook: String,
    pub(super) token_file: Option<String>,
    pub(super) repeat: Option<Span>,
    pub(super) window: Option<Span>,
    pub(super) lag: Option<Span>,
    pub(super) reject_percent: Option<f64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Maintain {
    pub(super) target_file: Option<Size>,
    pub(super) retention: Option<Span>,
}
