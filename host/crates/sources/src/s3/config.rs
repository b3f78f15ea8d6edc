//! The settings of a bucket.

use std::time::Duration;

use forebay_model::flow::OnChange;
use forebay_model::{Error, Result};
use forebay_s3::{S3Address, S3Settings};
use serde::{Deserialize, Serialize};

use crate::patterns::Patterns;

/// In which order objects are delivered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// By key, as the bucket lists them: no more pages are asked for than fill a batch.
    #[default]
    Key,
    /// By the time of the last change, the oldest first: the whole bucket is listed before anything is delivered.
    Modified,
}

/// `source = { type = "s3", url = "s3://bucket/prefix" }`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct S3Config {
    /// The bucket, and the folder in it: `s3://bucket/prefix`.
    pub url: String,
    /// Only objects whose key below the prefix matches one of these patterns are taken. `*` stays within a part of the key, `**` does not.
    #[serde(default = "everything")]
    pub include: Vec<String>,
    /// Objects that match one of these are not taken, whatever `include` says.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// What it means that an object was overwritten after it was taken: `replace` or `append`.
    #[serde(default)]
    pub on_change: OnChange,
    /// In which order objects are delivered.
    #[serde(default)]
    pub order: Order,
    /// How often the bucket is listed, in seconds; at least 1.
    #[serde(default = "scan_seconds")]
    pub scan_seconds: u64,
    /// How many objects are asked for at once; at least 1.
    #[serde(default = "parallel")]
    pub parallel: usize,
    /// How many objects one batch holds at most; at least 1.
    #[serde(default = "max_batch_objects")]
    pub max_batch_objects: usize,
    /// How many bytes the objects of a batch hold together at most; a single larger object is a batch of its own.
    #[serde(default = "max_batch_bytes")]
    pub max_batch_bytes: u64,
    /// The server, where it is not Amazon's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The bucket's region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The profile of `~/.aws` that credentials and region are taken from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Whether the bucket stands in the path, and not in the server's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_style: Option<bool>,
}

fn everything() -> Vec<String> {
    vec!["**".to_owned()]
}
fn scan_seconds() -> u64 {
    60
}
fn parallel() -> usize {
    32
}
fn max_batch_objects() -> usize {
    256
}
fn max_batch_bytes() -> u64 {
    64 << 20
}

impl S3Config {
    /// The keys, for hints.
    pub(crate) const KEYS: &[&str] = &[
        "url",
        "include",
        "exclude",
        "on_change",
        "order",
        "scan_seconds",
        "parallel",
        "max_batch_objects",
        "max_batch_bytes",
        "endpoint",
        "region",
        "profile",
        "path_style",
    ];

    /// A bucket with the defaults.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            include: everything(),
            exclude: Vec::new(),
            on_change: OnChange::default(),
            order: Order::default(),
            scan_seconds: scan_seconds(),
            parallel: parallel(),
            max_batch_objects: max_batch_objects(),
            max_batch_bytes: max_batch_bytes(),
            endpoint: None,
            region: None,
            profile: None,
            path_style: None,
        }
    }

    pub(super) fn scan_every(&self) -> Duration {
        Duration::from_secs(self.scan_seconds)
    }

    /// Checks the settings; nothing is asked of the server.
    ///
    /// # Errors
    /// Class operator: a number would stand still, a pattern or the url cannot be read, or a bucket is to be tailed.
    pub fn check(&self) -> Result<()> {
        for (key, value) in [
            ("scan_seconds", self.scan_seconds),
            ("parallel", self.parallel as u64),
            ("max_batch_objects", self.max_batch_objects as u64),
            ("max_batch_bytes", self.max_batch_bytes),
        ] {
            if value == 0 {
                return Err(
                    Error::operator(format!("{key} must be at least 1")).with_hint("leave it away for the default")
                );
            }
        }
        match self.on_change {
            OnChange::Replace | OnChange::Append => {}
            OnChange::Tail => {
                return Err(Error::operator(
                    "on_change = \"tail\": objects of a bucket are not added to, they are overwritten",
                )
                .with_hint("use \"replace\", or \"append\" to keep the rows of former versions"));
            }
        }
        self.patterns()?;
        self.address().map(drop)
    }

    pub(super) fn patterns(&self) -> Result<Patterns> {
        Ok(Patterns::new(&self.include, &self.exclude)?)
    }

    pub(crate) fn address(&self) -> Result<S3Address> {
        let Self { endpoint, region, profile, path_style, .. } = self;
        let settings = S3Settings {
            endpoint: endpoint.clone(),
            region: region.clone(),
            profile: profile.clone(),
            path_style: *path_style,
        };
        // The first is enough: the others are told when it is right.
        if let Some((_, error)) = settings.wrong().into_iter().next() {
            return Err(error);
        }
        S3Address::parse(&self.url, settings)
    }
}
