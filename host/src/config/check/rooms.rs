//! What the rooms say of their own settings. Offline.

use std::path::{Path, PathBuf};

use forebay_model::Result;
use forebay_s3::S3Address;
use serde_json::Value;

/// Whether a stream's `source` is one.
pub(super) fn source(source: &Value) -> Result<()> {
    forebay_sources::check(source)
}

/// The folder that a source takes its files from, where it takes any.
pub(super) fn source_folder(source: &Value, root: &Path) -> Option<PathBuf> {
    (source.get("type")?.as_str()? == "files").then_some(root.join(source.get("url")?.as_str()?))
}

/// The bucket that a source takes its objects from, where it takes any.
pub(super) fn source_bucket(source: &Value) -> Option<S3Address> {
    forebay_sources::bucket_of(source)
}

/// Whether a stream's `format` is one.
pub(super) fn format(format: &Value) -> Result<()> {
    forebay_format::Formats::from_config(format)?;
    Ok(())
}

/// The keys that lead to what `message` is said of: without them it is not said. Rooms know no places of a file, so they are
/// asked again. Empty where the table as a whole is at fault (a key is missing).
pub(super) fn at_fault(value: &Value, message: &str, check: impl Fn(&Value) -> Result<()> + Copy) -> Vec<String> {
    let Value::Object(table) = value else { return Vec::new() };
    let said = |value: &Value| check(value).err().is_some_and(|error| error.chain() == message);
    let silenced = |key: &String| {
        let mut less = table.clone();
        less.remove(key);
        !said(&Value::Object(less))
    };
    // Without a key that must be there another thing is said, so the message has to name the key; a type's name stands in nearly
    // every message, so it has to quote what the type is.
    let at_type = |value: &Value| value.as_str().is_some_and(|kind| message.contains(&format!("{kind:?}")));
    let said_of = |(key, _): &(&String, &Value)| key.as_str() != "type" && names(message, key) && silenced(key);
    let other = table.iter().find(said_of).map(|(key, _)| key);
    let kind =
        || table.get_key_value("type").filter(|(key, value)| at_type(value) && silenced(key)).map(|(key, _)| key);
    let Some(key) = other.or_else(kind) else { return Vec::new() };
    let inner = |inner: &Value| {
        let mut whole = table.clone();
        whole.insert(key.clone(), inner.clone());
        check(&Value::Object(whole))
    };
    let mut path = vec![key.clone()];
    if let Some(deeper) = table.get(key).filter(|value| value.is_object()) {
        path.extend(at_fault(deeper, message, &inner as &dyn Fn(&Value) -> Result<()>));
    }
    path
}

/// Whether the message has the key as a word of its own.
fn names(message: &str, key: &str) -> bool {
    message.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == key)
}
