//! What the rooms say of their own settings. Offline.

use std::path::{Path, PathBuf};

use forebay_model::Result;
use serde_json::Value;

/// Whether a stream's `source` is one.
pub(super) fn source(source: &Value) -> Result<()> {
    forebay_sources::check(source)
}

/// The folder that a source takes its files from, where it takes any.
pub(super) fn source_folder(source: &Value, root: &Path) -> Option<PathBuf> {
    (source.get("type")?.as_str()? == "files").then_some(root.join(source.get("url")?.as_str()?))
}

/// Whether a stream's `format` is one.
pub(super) fn format(format: &Value) -> Result<()> {
    forebay_format::Formats::from_config(format)?;
    Ok(())
}
