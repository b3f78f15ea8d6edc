//! A config and the assets that it names, as one: what `forebay apply` sends, and what a host puts in place.
//!
//! It is JSON: `{"config": {"forebay.toml": "text"}, "assets": {"lists/blocked.txt": "base64"}}`. Assets are named by their paths
//! beside the config; a path that is absolute, or has a variable in it, means a file of the host's machine, and stays there.

mod staged;

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use forebay_model::{Digest, Error, Result};
use serde::{Deserialize, Serialize};

use crate::config::{self, FILE_NAME};

pub(crate) use staged::{Staged, finish};

/// The config's files by name, and the assets by path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Bundle {
    config: BTreeMap<String, String>,
    #[serde(default)]
    assets: BTreeMap<String, String>,
}

/// A file and where it is to be.
#[derive(Debug, Clone)]
pub(crate) struct Meant {
    pub(crate) place: PathBuf,
    pub(crate) bytes: Bytes,
}

impl Bundle {
    /// What a config is made of: a file, a folder with `forebay.toml` and others beside it, or a bundle that was written as JSON.
    ///
    /// # Errors
    /// Class operator: a file that is not there, is none, or names an asset that lies elsewhere.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        if path.extension().is_some_and(|extension| extension == "json") {
            return Self::parse(&read(path)?).map_err(|error| {
                Error::operator(format!("{} is no config with its assets: {}", path.display(), error.chain()))
                    .with_hint("name the config itself, forebay.toml")
            });
        }
        let folder = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new("")) };
        let files = if path.is_dir() { config::files_of(path)? } else { vec![path.to_owned()] };
        let mut bundle = Self { config: BTreeMap::new(), assets: BTreeMap::new() };
        for file in files {
            let text = String::from_utf8(read(&file)?).map_err(|_| {
                Error::operator(format!("the config {} cannot be read", file.display()))
                    .with_hint("it must be a file of UTF-8 text")
            })?;
            for asset in assets(&text) {
                if let Some(file) = beside(folder, &asset)? {
                    bundle.assets.insert(asset, BASE64_STANDARD.encode(read(&file)?));
                }
            }
            let name = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy().into_owned();
            bundle.config.insert(name, text);
        }
        Ok(bundle)
    }

    /// What [`Bundle::bytes`] wrote.
    ///
    /// # Errors
    /// Class operator: it is something else.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        serde_json::from_slice(bytes)
            .map_err(|error| Error::operator("it is not `{\"config\": {…}, \"assets\": {…}}`").with_source(error))
    }

    /// As it is sent and kept; the same content is the same bytes.
    ///
    /// # Errors
    /// None that can be met: maps of text are JSON.
    pub(crate) fn bytes(&self) -> Result<Bytes> {
        let bytes = serde_json::to_vec(self).map_err(|error| Error::bug("a config is no JSON").with_source(error))?;
        Ok(bytes.into())
    }

    /// What it is kept as in the landing zone.
    pub(crate) fn kept(digest: Digest) -> String {
        format!("configs/{digest}.json")
    }

    /// Its files, and where each is to be for a host that was started with `path`: assets first, the main file last.
    ///
    /// # Errors
    /// Class operator: it holds what is no file beside that config, or does not say what becomes of one that is there.
    pub(crate) fn places(&self, path: &Path) -> Result<Vec<Meant>> {
        let Self { config, assets } = self;
        let is_folder = path.is_dir();
        let main = if is_folder { path.join(FILE_NAME) } else { path.to_owned() };
        let root = config::root_of(&main)?;
        let mut meant = Vec::new();
        for (name, text) in assets {
            let place = beside(&root, name)?.filter(|place| *place != main && !is_config(name));
            let place = place.ok_or_else(|| {
                Error::operator(format!("asset {name:?} is no path beside the config"))
                    .with_hint("give it a path that is relative to the config's folder")
            })?;
            let bytes = BASE64_STANDARD
                .decode(text)
                .map_err(|error| Error::operator(format!("asset {name:?} is not base64")).with_source(error))?;
            meant.push(Meant { place, bytes: bytes.into() });
        }
        // One file is the host's main one, whatever it is called here.
        if let [(_, text)] = config.iter().collect::<Vec<_>>().as_slice() {
            meant.push(Meant { place: main, bytes: Bytes::copy_from_slice(text.as_bytes()) });
            return Ok(meant);
        }
        let Some(text) = config.get(FILE_NAME).filter(|_| is_folder) else {
            return Err(Error::operator(format!(
                "the host's config is {}, and this is {} files",
                path.display(),
                config.len()
            ))
            .with_hint("apply one file; or start the host with a folder, and apply one with a forebay.toml in it"));
        };
        for (name, text) in config.iter().filter(|(name, _)| *name != FILE_NAME) {
            if !is_config(name) || name.starts_with('.') {
                return Err(Error::operator(format!("{name:?} is no name of a config's file"))
                    .with_hint("files beside forebay.toml are named something.toml"));
            }
            meant.push(Meant { place: root.join(name), bytes: Bytes::copy_from_slice(text.as_bytes()) });
        }
        for file in config::files_of(path)? {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if !config.contains_key(&name) {
                return Err(Error::operator(format!(
                    "the host's config has {name} too, which is not in what is applied"
                ))
                .with_hint(format!(
                    "add it; or, where it is to go, apply an empty {name} and remove it on the host's machine"
                )));
            }
        }
        meant.push(Meant { place: main, bytes: Bytes::copy_from_slice(text.as_bytes()) });
        Ok(meant)
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| {
        Error::operator(format!("{} cannot be read: {error}", path.display()))
            .with_hint("a config and the assets that it names by relative paths are sent together: they must lie here")
    })
}

fn is_config(name: &str) -> bool {
    !name.contains('/') && name.ends_with(".toml")
}

/// Where a relative path leads to, beside the config; `None` where it means a file of the host's machine.
fn beside(folder: &Path, asset: &str) -> Result<Option<PathBuf>> {
    let path = Path::new(asset);
    if path.is_absolute() || asset.contains("${") {
        return Ok(None);
    }
    let inside = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    let hidden = path.components().any(|part| part.as_os_str().to_string_lossy().starts_with(".forebay"));
    if !inside || hidden || path.file_name().is_none() || asset.contains('\0') {
        return Err(Error::operator(format!("asset {asset:?} does not lie beside the config"))
            .with_hint("move it into the config's folder, or name it by an absolute path of the host's machine"));
    }
    Ok(Some(folder.join(path)))
}

/// The assets that a config's text names; what is wrong with the text is told by who checks it.
fn assets(text: &str) -> Vec<String> {
    let Ok(config) = text.parse::<toml::Table>() else { return Vec::new() };
    let pipelines = config.get("pipelines").and_then(toml::Value::as_table).into_iter().flat_map(toml::Table::values);
    let steps = pipelines.filter_map(|pipeline| pipeline.get("steps")?.as_array()).flatten();
    let assets = steps.filter_map(|step| step.get("assets")?.as_table()).flat_map(toml::Table::values);
    assets.filter_map(|asset| Some(asset.as_str()?.to_owned())).collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const CONFIG: &str = "[[pipelines.a.steps]]\nmodule = \"x\"\nassets = { one = \"lists/one.txt\", two = \"/etc/two\", three = \"${LISTS}/three\" }\n";

    #[test]
    fn a_bundle_has_what_lies_beside_the_config() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("lists")).unwrap();
        std::fs::write(folder.path().join("lists/one.txt"), "DE\n").unwrap();
        std::fs::write(folder.path().join("new.toml"), CONFIG).unwrap();
        let bundle = Bundle::read(&folder.path().join("new.toml")).unwrap();
        assert_eq!(bundle.assets.keys().collect::<Vec<_>>(), ["lists/one.txt"]);
        assert_eq!(Bundle::parse(&bundle.bytes().unwrap()).unwrap(), bundle);
        let host = tempfile::tempdir().unwrap();
        let places = bundle.places(&host.path().join("forebay.toml")).unwrap();
        let places: Vec<_> =
            places.iter().map(|meant| (meant.place.strip_prefix(host.path()).unwrap(), meant.bytes.as_ref())).collect();
        assert_eq!(
            places,
            [(Path::new("lists/one.txt"), &b"DE\n"[..]), (Path::new("forebay.toml"), CONFIG.as_bytes())],
            "the main file has the host's name for it, and comes last"
        );
    }

    #[test]
    fn nothing_is_put_elsewhere() {
        let host = tempfile::tempdir().unwrap();
        let config = BTreeMap::from([("forebay.toml".to_owned(), String::new())]);
        for asset in [
            "../up.txt",
            "/etc/passwd",
            "a/../../up",
            "",
            ".",
            "forebay.toml",
            "other.toml",
            ".forebay-apply/0",
            "nul\0",
        ] {
            let assets = BTreeMap::from([(asset.to_owned(), String::new())]);
            let bundle = Bundle { config: config.clone(), assets };
            assert!(bundle.places(&host.path().join("forebay.toml")).is_err(), "{asset:?}");
        }
        for name in ["../up.toml", ".hidden.toml", "up.txt", "a/b.toml"] {
            let mut config = config.clone();
            config.insert(name.to_owned(), String::new());
            assert!(Bundle { config, assets: BTreeMap::new() }.places(host.path()).is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_folder_is_applied_whole() {
        let host = tempfile::tempdir().unwrap();
        std::fs::write(host.path().join("forebay.toml"), "").unwrap();
        std::fs::write(host.path().join("rules.toml"), "").unwrap();
        let both = |name: &str| Bundle {
            config: [("forebay.toml", ""), (name, "")].map(|(name, text)| (name.to_owned(), text.to_owned())).into(),
            assets: BTreeMap::new(),
        };
        assert_eq!(both("rules.toml").places(host.path()).unwrap().len(), 2);
        let error = both("others.toml").places(host.path()).unwrap_err();
        assert_eq!(error.to_string(), "the host's config has rules.toml too, which is not in what is applied");
        let error = both("rules.toml").places(&host.path().join("forebay.toml")).unwrap_err();
        assert!(error.to_string().ends_with("and this is 2 files"), "{error}");
    }
}
