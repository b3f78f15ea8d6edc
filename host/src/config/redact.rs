//! Secrets stay unseen wherever config is shown.
//!
//! They stand in connection blocks only: as the user part of a URL, or under a key whose name says so.

use std::fmt;

use serde_json::Value;

/// What stands in a secret's place.
const HIDDEN: &str = "***";

/// Words that make a key's value a secret, wherever they stand in its name.
const SECRET_WORDS: [&str; 6] = ["password", "passwd", "secret", "token", "key", "credential"];

/// A connection block as JSON, whose `Debug` form hides secrets.
#[derive(Clone, PartialEq)]
pub(crate) struct Settings(Value);

impl Settings {
    /// Wraps a block.
    pub(super) fn new(value: Value) -> Self {
        Self(value)
    }

    /// The block itself, secrets and all: for building the thing, not for showing.
    pub(crate) fn value(&self) -> &Value {
        &self.0
    }

    /// The block with secrets replaced by `***`.
    pub(crate) fn redacted(&self) -> Value {
        redact(&self.0)
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.redacted().fmt(f)
    }
}

/// Whether a key's value is not to be shown.
pub(super) fn is_secret(key: &str) -> bool {
    let key = key.to_lowercase();
    SECRET_WORDS.iter().any(|word| key.contains(word))
}

fn redact(value: &Value) -> Value {
    match value {
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| {
                let shown = if is_secret(key) { Value::from(HIDDEN) } else { redact(value) };
                (key.clone(), shown)
            })
            .collect(),
        Value::Array(items) => items.iter().map(redact).collect(),
        Value::String(text) => Value::from(redact_url(text)),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

/// A URL without what stands between `://` and `@`; any other text as it is.
pub(super) fn redact_url(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let authority = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest.get(..authority).and_then(|authority| authority.rfind('@')) {
        Some(at) => format!("{scheme}://{HIDDEN}{}", rest.get(at..).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_by_name_and_in_urls() {
        let settings = Settings::new(serde_json::json!({
            "type": "kafka",
            "url": "postgres://me:hunter2@host/db?x=1",
            "sasl": { "Password": "hunter2", "mechanism": "PLAIN" },
            "list": ["https://tok@h/", "plain@text"],
            "api_key": 7,
        }));
        let shown = format!("{settings:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("tok@") && !shown.contains('7'), "{shown}");
        assert_eq!(settings.redacted()["url"], "postgres://***@host/db?x=1");
        assert_eq!(settings.redacted()["sasl"]["mechanism"], "PLAIN");
        assert_eq!(settings.redacted()["list"][1], "plain@text");
    }
}
