//! What one key says of another, and whether values make sense. Offline: nothing is opened but assets' metadata.

mod pipeline;
mod rooms;
mod settings;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use forebay_model::StreamName;
use forebay_model::ids::WarehouseName;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::de::{self, Misfit};
use super::node::{At, Node, Tree};
use super::problem::{Problem, Problems, hint_for, nearest};
use super::redact::{Settings, redact_url};
use super::{Config, LandingConfig, LedgerConfig, ModulesConfig, StreamConfig, WarehouseConfig, shape};
use forebay_landing::Encryption;
use forebay_postgres::{Keeps, PostgresAddress};
use forebay_s3::{S3Address, S3Settings};

/// Schemas of `forebay query` that are no warehouses.
const RESERVED: [&str; 5] = ["rejects", "raw", "ledger", "decoded", "information_schema"];

/// Checks a tree as a whole.
pub(super) fn config(tree: Tree) -> Result<Config, Problems> {
    let mut check = Check { tree: &tree, problems: Vec::new() };
    check.sections();
    let landing = check.landing();
    let ledger = check.ledger();
    let modules = check.modules();
    let warehouses = check.warehouses();
    let streams = check.streams();
    check.folders(landing.as_ref(), &warehouses, &streams);
    check.schemas(ledger.as_ref(), &warehouses);
    let pipelines = check.pipelines();
    let host = check.host();
    let http = check.http();
    let alerts = check.alerts();
    let maintain = check.maintain();
    if let Some(problems) = Problems::collect(check.problems) {
        return Err(problems);
    }
    let (Some(landing), Some(ledger)) = (landing, ledger) else {
        return Err(Problems::one("the config is not whole", "this is a bug of forebay: please report it"));
    };
    let Tree { path, file, root, .. } = tree;
    Ok(Config {
        path,
        file,
        root,
        landing,
        ledger,
        modules,
        warehouses,
        streams,
        pipelines,
        host,
        http,
        alerts,
        maintain,
    })
}

/// Problems found so far, and the tree that they lie in.
struct Check<'a> {
    tree: &'a Tree,
    problems: Vec<Problem>,
}

impl<'a> Check<'a> {
    fn problem(&mut self, at: At, message: impl Into<String>, hint: impl Into<Option<String>>) {
        let place = self.tree.place(at);
        self.problems.push(Problem { message: message.into(), place, hint: hint.into() });
    }

    /// A problem at a path of keys, or at its nearest parent that is written.
    fn problem_at(&mut self, path: &[&str], message: impl Into<String>, hint: impl Into<Option<String>>) {
        self.problem(self.tree.node.place_of(path), message, hint);
    }

    fn section<T: DeserializeOwned>(&mut self, node: &Node) -> Option<T> {
        let mut misfits = Vec::new();
        let section = de::section(node, &mut misfits);
        for Misfit { message, hint, at, .. } in misfits {
            self.problem(at.unwrap_or(node.at), message, hint);
        }
        section
    }

    /// A section that has defaults.
    fn section_or_default<T: DeserializeOwned + Default>(&mut self, key: &str) -> T {
        let node = self.tree.node.get(key).map(|entry| &entry.node);
        node.and_then(|node| self.section(node)).unwrap_or_default()
    }

    /// A section that must be there.
    fn required<T: DeserializeOwned>(&mut self, key: &str, example: &str) -> Option<T> {
        match self.tree.node.get(key) {
            Some(entry) => self.section(&entry.node),
            None => {
                // A misspelled one has been told.
                if !self.tree.node.entries().iter().any(|entry| nearest(&entry.key, shape::SECTIONS) == Some(key)) {
                    self.problem(
                        self.tree.node.at,
                        format!("`[{key}]` is missing"),
                        Some(format!("add it: {example}")),
                    );
                }
                None
            }
        }
    }

    /// The named tables of `[section.<name>]`, names checked.
    fn named<N: FromStr<Err = forebay_model::Error>>(&mut self, section: &str) -> Vec<(N, String, &'a Node)> {
        let tree = self.tree;
        let Some(entry) = tree.node.get(section) else { return Vec::new() };
        if !matches!(entry.node.value, super::node::Value::Table(_)) {
            let message = format!("`{section}` must be a table of tables, found {}", entry.node.kind());
            self.problem(entry.at, message, Some(format!("write [{section}.<name>]")));
        }
        let mut named = Vec::new();
        for entry in entry.node.entries() {
            match entry.key.parse::<N>() {
                // Names of sides have one, and are written by nobody.
                Ok(_) if entry.key.contains('~') => {
                    let message = format!("{} name {:?} is not allowed", section.trim_end_matches('s'), entry.key);
                    let hint = "use 1 to 64 letters, digits, '_' and '-', beginning with a letter".to_owned();
                    self.problem(entry.at, message, Some(hint));
                }
                Ok(name) => named.push((name, entry.key.clone(), &entry.node)),
                Err(error) => self.problem(entry.at, error.to_string(), error.hint().map(str::to_owned)),
            }
        }
        named
    }

    fn sections(&mut self) {
        let tree = self.tree;
        for entry in tree.node.entries().iter().filter(|entry| !shape::SECTIONS.contains(&entry.key.as_str())) {
            let hint = hint_for(&entry.key, shape::SECTIONS);
            self.problem(entry.at, format!("unknown key `{}`", entry.key), hint);
        }
    }

    /// A folder of this machine; other schemes are refused by name.
    fn folder(&mut self, path: &[&str], url: &str) -> Option<PathBuf> {
        if url.is_empty() {
            self.problem_at(path, "a folder is expected, found empty text", None);
            return None;
        }
        match url.split_once("://") {
            None => Some(self.tree.root.join(url)),
            Some(("file", folder)) if folder.starts_with('/') => Some(PathBuf::from(folder)),
            Some(_) => {
                let message = format!("`{}` is not built yet: this version knows folders only", redact_url(url));
                self.problem_at(path, message, Some("name a folder, relative to this file or absolute".to_owned()));
                None
            }
        }
    }

    fn landing(&mut self) -> Option<LandingConfig> {
        let shape: shape::Landing = self.required("landing", "[landing] url = \"landing\"")?;
        if shape.url.starts_with("s3:") {
            return self.bucket(shape);
        }
        let shape::Landing { url, endpoint, region, profile, path_style, encryption, kms_key } = shape;
        let keys = [
            ("endpoint", endpoint.is_some()),
            ("region", region.is_some()),
            ("profile", profile.is_some()),
            ("path_style", path_style.is_some()),
            ("encryption", encryption.is_some()),
            ("kms_key", kms_key.is_some()),
        ];
        for (key, _) in keys.into_iter().filter(|(_, is_written)| *is_written) {
            let hint = "leave it away, or set `url` to \"s3://<bucket>/<prefix>\"".to_owned();
            self.problem_at(
                &["landing", key],
                format!("`{key}` is for a landing zone on S3, and `url` is a folder"),
                hint,
            );
        }
        let path = ["landing", "url"];
        if url.contains("://") && !url.starts_with("file:") {
            let hint = "name a folder, relative to this file or absolute, or \"s3://<bucket>/<prefix>\"".to_owned();
            self.problem_at(&path, format!("`{}` is no place for a landing zone", redact_url(&url)), hint);
            return None;
        }
        self.folder(&path, &url).map(LandingConfig::Folder)
    }

    /// A landing zone in a bucket.
    fn bucket(&mut self, shape: shape::Landing) -> Option<LandingConfig> {
        let shape::Landing { url, endpoint, region, profile, path_style, encryption, kms_key } = shape;
        let settings = S3Settings { endpoint, region, profile, path_style };
        for (key, error) in settings.wrong() {
            self.problem_at(&["landing", key], error.to_string(), error.hint().map(str::to_owned));
        }
        let path = ["landing", "kms_key"];
        let encryption = match (encryption, kms_key) {
            (Some(shape::Encryption::Kms), Some(key)) if key.is_empty() => {
                self.problem_at(
                    &path,
                    "`kms_key` is empty",
                    "leave it away for the account's own key for S3".to_owned(),
                );
                None
            }
            (Some(shape::Encryption::Kms), key) => Some(Encryption::Kms { key }),
            (other, Some(_)) => {
                let hint = "set `encryption = \"aws:kms\"`".to_owned();
                self.problem_at(&path, "`kms_key` is used by `encryption = \"aws:kms\"` only", hint);
                other.map(|_| Encryption::Aes256)
            }
            (Some(shape::Encryption::Aes256), None) => Some(Encryption::Aes256),
            (None, None) => None,
        };
        match S3Address::parse(&url, settings) {
            Ok(address) => Some(LandingConfig::S3 { address, encryption }),
            Err(error) => {
                self.problem_at(&["landing", "url"], error.to_string(), error.hint().map(str::to_owned));
                None
            }
        }
    }

    fn ledger(&mut self) -> Option<LedgerConfig> {
        let shape::Ledger { url } = self.required("ledger", "[ledger] url = \"sqlite:forebay.db\"")?;
        let path = ["ledger", "url"];
        match url.split_once(':') {
            Some(("sqlite", file)) if !file.trim_start_matches('/').is_empty() => {
                Some(LedgerConfig::Sqlite(self.tree.root.join(file.strip_prefix("//").unwrap_or(file))))
            }
            Some(("postgres" | "postgresql", _)) => {
                self.address(&path, &url, Keeps::Ledger).map(LedgerConfig::Postgres)
            }
            Some(_) | None => {
                let message = format!("`{}` is not the URL of a ledger", redact_url(&url));
                self.problem_at(
                    &path,
                    message,
                    Some("use \"sqlite:<file>\", for example \"sqlite:forebay.db\", or \"postgres://user@host:port/database\"".to_owned()),
                );
                None
            }
        }
    }

    fn modules(&mut self) -> ModulesConfig {
        let shape = self.tree.node.get("modules").map(|entry| &entry.node);
        let shape::Modules { watch } =
            shape.and_then(|node| self.section(node)).unwrap_or(shape::Modules { watch: "modules".to_owned() });
        let watch = self.folder(&["modules", "watch"], &watch);
        ModulesConfig { watch: watch.unwrap_or_default() }
    }

    fn warehouses(&mut self) -> BTreeMap<WarehouseName, WarehouseConfig> {
        let mut warehouses = BTreeMap::new();
        for (name, key, node) in self.named::<WarehouseName>("warehouses") {
            if RESERVED.contains(&name.as_str()) {
                let hint = "queries know something else by that name: choose another".to_owned();
                self.problem_at(&["warehouses", &key], format!("a warehouse cannot be named `{name}`"), hint);
            }
            let Some(shape::Warehouse { kind, url }) = self.section(node) else { continue };
            let path = ["warehouses", &key, "url"];
            let warehouse = match kind {
                shape::WarehouseKind::Delta => self.folder(&path, &url).map(|folder| WarehouseConfig::Delta { folder }),
                shape::WarehouseKind::Postgres => {
                    self.address(&path, &url, Keeps::Warehouse).map(WarehouseConfig::Postgres)
                }
            };
            if let Some(warehouse) = warehouse {
                warehouses.insert(name, warehouse);
            }
        }
        warehouses
    }

    /// A schema of a PostgreSQL database.
    fn address(&mut self, path: &[&str], url: &str, keeps: Keeps) -> Option<PostgresAddress> {
        match PostgresAddress::parse(url, keeps) {
            Ok(address) => Some(address),
            Err(error) => {
                self.problem_at(path, error.to_string(), error.hint().map(str::to_owned));
                None
            }
        }
    }

    /// Two owners of one schema would take each other's tables for their own.
    fn schemas(&mut self, ledger: Option<&LedgerConfig>, warehouses: &BTreeMap<WarehouseName, WarehouseConfig>) {
        let mut owned: Vec<(&PostgresAddress, String)> = Vec::new();
        if let Some(LedgerConfig::Postgres(address)) = ledger {
            owned.push((address, "ledger.url".to_owned()));
        }
        for (name, warehouse) in warehouses {
            let WarehouseConfig::Postgres(address) = warehouse else { continue };
            let path = format!("warehouses.{name}.url");
            if let Some((_, other)) = owned.iter().find(|(other, _)| other.is_same_place(address)) {
                let message = format!("`{other}` and `{path}` share a schema");
                let hint = "give each a schema of its own: ?schema=<name> at the end of the url".to_owned();
                self.problem_at(&["warehouses", name.as_str(), "url"], message, Some(hint));
            }
            owned.push((address, path));
        }
    }

    fn streams(&mut self) -> BTreeMap<StreamName, StreamConfig> {
        let mut streams = BTreeMap::new();
        for (name, key, node) in self.named("streams") {
            let Some(shape::Stream { source, format }) = self.section(node) else { continue };
            let source = Value::Object(source);
            let format = format.unwrap_or_else(|| Value::from("auto"));
            self.room(&["streams", &key, "source"], &source, rooms::source);
            self.room(&["streams", &key, "format"], &format, rooms::format);
            streams.insert(name, StreamConfig { source: Settings::new(source), format: Settings::new(format) });
        }
        streams
    }

    /// What a room says of its settings, at the key within them that it says it of.
    fn room(&mut self, path: &[&str], value: &Value, check: fn(&Value) -> forebay_model::Result<()>) {
        let Err(error) = check(value) else { return };
        let within = rooms::at_fault(value, &error.chain(), check);
        let path: Vec<_> = path.iter().copied().chain(within.iter().map(String::as_str)).collect();
        self.problem_at(&path, error.chain(), error.hint().map(str::to_owned));
    }

    /// Two owners of one folder would take each other's files for their own.
    fn folders(
        &mut self,
        landing: Option<&LandingConfig>,
        warehouses: &BTreeMap<WarehouseName, WarehouseConfig>,
        streams: &BTreeMap<StreamName, StreamConfig>,
    ) {
        let mut owned: Vec<(PathBuf, Vec<String>)> = Vec::new();
        if let Some(LandingConfig::Folder(folder)) = landing {
            owned.push((plain(folder), vec!["landing".to_owned(), "url".to_owned()]));
        }
        for (name, warehouse) in warehouses {
            let WarehouseConfig::Delta { folder } = warehouse else { continue };
            owned.push((plain(folder), vec!["warehouses".to_owned(), name.to_string(), "url".to_owned()]));
        }
        for (index, (folder, path)) in owned.iter().enumerate() {
            for (other, other_path) in owned.iter().take(index) {
                if folder.starts_with(other) || other.starts_with(folder) {
                    let message = format!("`{}` and `{}` share a folder", other_path.join("."), path.join("."));
                    let path: Vec<_> = path.iter().map(String::as_str).collect();
                    self.problem_at(&path, message, Some("give each a folder that is not within the other".to_owned()));
                }
            }
        }
        for (name, stream) in streams {
            if let Some(LandingConfig::S3 { address, encryption: _ }) = landing
                && rooms::source_bucket(stream.source.value()).is_some_and(|bucket| bucket.overlaps(address))
            {
                let message = format!("stream `{name}` would take the objects of `landing.url` for its own");
                let hint =
                    "give the source and the landing zone prefixes, neither of which is within the other".to_owned();
                self.problem_at(&["streams", name.as_str(), "source", "url"], message, Some(hint));
            }
            let Some(inbox) = rooms::source_folder(stream.source.value(), &self.tree.root) else { continue };
            let inbox = plain(&inbox);
            if let Some((_, path)) =
                owned.iter().find(|(folder, _)| folder.starts_with(&inbox) || inbox.starts_with(folder))
            {
                let message = format!("stream `{name}` would take the files of `{}` for its own", path.join("."));
                let hint = "give the source a folder that holds nothing of forebay's own".to_owned();
                self.problem_at(&["streams", name.as_str(), "source", "url"], message, Some(hint));
            }
        }
    }
}

/// A path without `.` and `..`, told by the text alone: what it names need not exist yet.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::CurDir => {}
            std::path::Component::ParentDir => {
                plain.pop();
            }
            std::path::Component::Prefix(_) | std::path::Component::RootDir | std::path::Component::Normal(_) => {
                plain.push(part);
            }
        }
    }
    plain
}
