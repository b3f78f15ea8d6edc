//! From the `source` table of a config to a source. Whatever does not fit is refused with the nearest right word.

use std::path::Path;
use std::sync::Arc;

use forebay_model::Error;
use forebay_model::ports::{Clock, Progress, Source};
use forebay_s3::{S3Address, S3Options};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::files::{FilesConfig, FilesSource};
use crate::generator::{GeneratorConfig, GeneratorSource};
use crate::s3::{S3Config, S3Source};

/// The kinds of sources that a config can name as `type`.
pub const KINDS: &[&str] = &["files", "s3", "generator"];

/// The config of a kind, as parsed.
enum Parsed {
    Files(FilesConfig),
    S3(S3Config),
    Generator(GeneratorConfig),
}

/// Makes a source from the `source` table of a stream: `{ "type": "files", "url": "inbox" }`.
///
/// Relative paths are relative to `base_dir`. With `once` the source is to be read until it is idle, and then no more:
/// it need not wait for what only time can bring.
///
/// # Errors
/// As [`check`]; and where the source itself cannot be opened.
pub fn build(
    config: &Value,
    base_dir: &Path,
    progress: Arc<dyn Progress>,
    clock: Arc<dyn Clock>,
    once: bool,
) -> Result<Box<dyn Source>, Error> {
    Ok(match parse(config)? {
        Parsed::Files(config) => Box::new(FilesSource::open(config, base_dir, progress, clock, once)?),
        Parsed::S3(config) => Box::new(S3Source::open(config, S3Options::default(), progress, clock, once)?),
        Parsed::Generator(config) => Box::new(GeneratorSource::open(config, progress, clock, once)?),
    })
}

/// Checks the `source` table of a stream by itself: whether the source is there is not looked at.
///
/// # Errors
/// [`forebay_model::ErrorClass::Operator`] where the table does not fit, naming the key, the value's place and the nearest
/// right word.
pub fn check(config: &Value) -> Result<(), Error> {
    match parse(config)? {
        Parsed::Files(config) => Ok(config.check()?),
        Parsed::S3(config) => config.check(),
        Parsed::Generator(config) => Ok(config.check()?),
    }
}

/// The bucket that a source reads, where it reads one.
#[must_use]
pub fn bucket_of(config: &Value) -> Option<S3Address> {
    match parse(config).ok()? {
        Parsed::S3(config) => config.address().ok(),
        Parsed::Files(_) | Parsed::Generator(_) => None,
    }
}

fn parse(config: &Value) -> Result<Parsed, Error> {
    let Value::Object(table) = config else {
        return Err(
            Error::operator("a source must be a table").with_hint("write it as { type = \"files\", url = \"inbox\" }")
        );
    };
    let Some(kind) = table.get("type") else {
        return Err(Error::operator("the source has no `type`").with_hint(format!("one of {}", list(KINDS))));
    };
    match kind.as_str() {
        Some("files") => Ok(Parsed::Files(parse_as("files", table, FilesConfig::KEYS, &json!({ "url": "." }))?)),
        Some("s3") => {
            let minimal = json!({ "url": "s3://some-bucket" });
            Ok(Parsed::S3(parse_as("s3", table, S3Config::KEYS, &minimal)?))
        }
        Some("generator") => Ok(Parsed::Generator(parse_as("generator", table, GeneratorConfig::KEYS, &json!({}))?)),
        Some(other) => {
            Err(Error::operator(format!("there is no source of type {other:?}")).with_hint(nearest(other, KINDS)))
        }
        None => Err(Error::operator("the source's `type` must be a text").with_hint(format!("one of {}", list(KINDS)))),
    }
}

/// Reads a table into a kind's config. `minimal` is the smallest table that is right: with it, the key whose value does
/// not fit is found and named, which serde alone does not do.
fn parse_as<T: DeserializeOwned>(
    kind: &str,
    table: &Map<String, Value>,
    keys: &[&str],
    minimal: &Value,
) -> Result<T, Error> {
    let mut rest = table.clone();
    rest.remove("type");
    for key in rest.keys() {
        if !keys.contains(&key.as_str()) {
            return Err(Error::operator(format!("source of type {kind}: there is no key `{key}`"))
                .with_hint(nearest(key, keys)));
        }
    }
    serde_json::from_value(Value::Object(rest.clone())).map_err(|whole| {
        let single = rest.iter().find_map(|(key, value)| {
            let mut table = minimal.as_object().cloned().unwrap_or_default();
            table.insert(key.clone(), value.clone());
            serde_json::from_value::<T>(Value::Object(table)).err().map(|error| (key, error))
        });
        match single {
            Some((key, error)) => Error::operator(format!("source of type {kind}: key `{key}`: {error}")),
            None => Error::operator(format!("source of type {kind}: {whole}")),
        }
        .with_hint(format!("its keys are {}", list(keys)))
    })
}

/// "did you mean …" where a word is near, else all of them.
fn nearest(word: &str, words: &[&str]) -> String {
    words
        .iter()
        .map(|candidate| (strsim::jaro_winkler(word, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map_or_else(|| format!("one of {}", list(words)), |(_, candidate)| format!("did you mean `{candidate}`?"))
}

fn list(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::memory::{MemoryProgress, SteppedClock};

    fn refused(config: &Value) -> (String, String) {
        let progress = Arc::new(MemoryProgress::default());
        let clock = Arc::new(SteppedClock::default());
        let error = build(config, Path::new("."), progress, clock, true).unwrap_err();
        assert_eq!(error.class(), forebay_model::ErrorClass::Operator, "{error}");
        (error.to_string(), error.hint().unwrap_or_default().to_owned())
    }

    #[test]
    fn what_does_not_fit_is_refused_with_the_nearest_right_word() {
        let (message, hint) = refused(&json!({ "type": "file", "url": "." }));
        assert_eq!(message, "there is no source of type \"file\"");
        assert_eq!(hint, "did you mean `files`?");
        let (message, hint) = refused(&json!({ "type": "files", "url": ".", "includes": [] }));
        assert_eq!(message, "source of type files: there is no key `includes`");
        assert_eq!(hint, "did you mean `include`?");
        let (_, hint) = refused(&json!({ "type": "zzz" }));
        assert_eq!(hint, "one of `files`, `s3`, `generator`");
        assert_eq!(refused(&json!({})).0, "the source has no `type`");
        assert_eq!(refused(&json!("files")).0, "a source must be a table");
        assert_eq!(refused(&json!({ "type": 3 })).0, "the source's `type` must be a text");
    }

    #[test]
    fn a_value_that_does_not_fit_is_named_by_its_key() {
        let (message, _) = refused(&json!({ "type": "files", "url": ".", "scan_seconds": "often" }));
        assert!(message.starts_with("source of type files: key `scan_seconds`: invalid type: string"), "{message}");
        let (message, _) = refused(&json!({ "type": "files", "url": ".", "on_change": "merge" }));
        assert!(message.starts_with("source of type files: key `on_change`: unknown variant `merge`"), "{message}");
        let (message, _) = refused(&json!({ "type": "files" }));
        assert_eq!(message, "source of type files: missing field `url`");
    }

    #[test]
    fn a_table_is_checked_without_its_folder() {
        check(&json!({ "type": "files", "url": "nowhere" })).unwrap();
        for (table, message) in [
            (json!({ "type": "files", "url": ".", "include": ["a["] }), "include: the pattern \"a[\" cannot be read"),
            (json!({ "type": "files", "url": ".", "scan_seconds": 0 }), "scan_seconds must be at least 1"),
            (json!({ "type": "s3", "url": "bucket" }), "this is no url of S3"),
            (json!({ "type": "s3", "url": "s3://bucket", "parallel": 0 }), "parallel must be at least 1"),
            (json!({ "type": "s3", "url": "s3://bucket", "on_change": "tail" }), "on_change = \"tail\": objects of"),
            (json!({ "type": "generator", "start": "x" }), "source of type generator: start = \"x\""),
        ] {
            let error = check(&table).unwrap_err();
            assert!(error.to_string().starts_with(message), "{error}");
            assert!(error.hint().is_some(), "{error}");
        }
    }

    #[test]
    fn every_key_is_documented_and_no_other() {
        let docs = include_str!("../../../../docs/sources.md");
        let (_, kinds) = docs.split_once("## `files`").unwrap();
        let (files, kinds) = kinds.split_once("## `s3`").unwrap();
        let (s3, generator) = kinds.split_once("## `generator`").unwrap();
        let sections = [(files, FilesConfig::KEYS), (s3, S3Config::KEYS), (generator, GeneratorConfig::KEYS)];
        for (section, keys) in sections {
            let documented: Vec<_> = section
                .lines()
                .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
                .map(|(key, _)| key)
                .collect();
            assert_eq!(documented, keys);
        }
    }

    #[test]
    fn the_key_lists_are_those_of_the_configs() {
        let keys = |config: Value| {
            let mut keys: Vec<_> = config.as_object().unwrap().keys().cloned().collect();
            keys.sort();
            keys
        };
        let sorted = |keys: &[&str]| {
            let mut keys: Vec<_> = keys.iter().map(|key| (*key).to_owned()).collect();
            keys.sort();
            keys
        };
        let s3 = S3Config {
            endpoint: Some("http://127.0.0.1:9".to_owned()),
            region: Some("eu".to_owned()),
            profile: Some("p".to_owned()),
            path_style: Some(true),
            ..S3Config::new("s3://some-bucket")
        };
        assert_eq!(keys(serde_json::to_value(s3).unwrap()), sorted(S3Config::KEYS));
        let files: FilesConfig = serde_json::from_value(json!({ "url": "." })).unwrap();
        assert_eq!(keys(serde_json::to_value(files).unwrap()), sorted(FilesConfig::KEYS));
        assert_eq!(keys(serde_json::to_value(GeneratorConfig::default()).unwrap()), sorted(GeneratorConfig::KEYS));
    }
}
