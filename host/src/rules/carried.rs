//! What the binary carries for authors: the SDK's source with manifests that stand alone, templates, and the lock file that both
//! were built with.

use toml::{Table, Value};

use crate::rules::scaffold::Template;

include!(concat!(env!("OUT_DIR"), "/carried.rs"));

/// The workspace's manifest, which those of the SDK inherit from.
const WORKSPACE: &str = include_str!("../../../Cargo.toml");
/// The packages that a new rule is built with, as `cargo` locked them. To make it anew: `forebay new rule x`, put the workspace's
/// Cargo.lock in the place of x's own, let `cargo metadata` take away what x does not need, and remove the entry of x.
const LOCK: &str = include_str!("../../templates/rule/lock.toml");
/// The toolchain that everything here is built with.
pub(super) const TOOLCHAIN: &str = include_str!("../../../rust-toolchain.toml");
/// Flags for the target.
pub(super) const TARGET: &str = include_str!("../../../.cargo/config.toml");

/// An error says what is wrong with what the binary carries: a bug, which the tests below find first.
type Carried<T> = Result<T, String>;

/// The SDK's files, with manifests that need no workspace.
///
/// # Errors
/// Where a manifest is not what it was when this was written.
pub(super) fn sdk() -> Carried<Vec<(String, String)>> {
    SDK.iter()
        .map(|(path, text)| {
            let text = if path.ends_with("Cargo.toml") { standalone(text)? } else { (*text).to_owned() };
            Ok(((*path).to_owned(), text))
        })
        .collect()
}

/// The files of a template.
pub(super) fn template(template: Template) -> impl Iterator<Item = (&'static str, &'static str)> {
    let name = template.name();
    TEMPLATES.iter().filter_map(move |(path, text)| {
        let path = path.strip_prefix(name)?.strip_prefix('/')?;
        Some((path, *text))
    })
}

/// The lock file of a rule of this name.
pub(super) fn lock(name: &str) -> String {
    let (head, packages) = LOCK.split_once("[[package]]\n").unwrap_or((LOCK, ""));
    let own = format!(
        "name = \"{name}\"\nversion = \"0.1.0\"\ndependencies = [\n \"forebay-sdk\",\n \"schemars\",\n \"serde\",\n \"serde_json\",\n]\n"
    );
    let mut packages: Vec<&str> = packages.split("\n[[package]]\n").map(str::trim_end).collect();
    // Where cargo sorts it in, so that `--locked` finds nothing to change.
    let at = packages.iter().position(|package| locked_name(package) > name).unwrap_or(packages.len());
    packages.insert(at, own.trim_end());
    format!("{head}[[package]]\n{}\n", packages.join("\n\n[[package]]\n"))
}

/// The names of the packages that a rule is built with.
pub(super) fn locked() -> impl Iterator<Item = &'static str> {
    LOCK.split("[[package]]\n").skip(1).map(locked_name)
}

fn locked_name(package: &str) -> &str {
    package.lines().next().and_then(|line| line.strip_prefix("name = ")).unwrap_or_default().trim_matches('"')
}

/// A manifest of this workspace with all that it inherits written out, without what only serves its own tests.
fn standalone(manifest: &str) -> Carried<String> {
    let workspace: Table = WORKSPACE.parse().map_err(|error| format!("the workspace's manifest: {error}"))?;
    let mut manifest: Table = manifest.parse().map_err(|error| format!("a manifest: {error}"))?;
    let shared = |section: &str| workspace.get("workspace").and_then(|shared| shared.get(section));
    manifest.remove("lints");
    manifest.remove("dev-dependencies");
    if let Some(package) = manifest.get_mut("package").and_then(Value::as_table_mut) {
        package.remove("publish");
        for (key, value) in package.iter_mut().filter(|(_, value)| inherits(value)) {
            let theirs = shared("package").and_then(|shared| shared.get(key));
            *value = theirs.ok_or_else(|| format!("the workspace has no package.{key}"))?.clone();
        }
    }
    let dependencies = shared("dependencies").and_then(Value::as_table).ok_or("the workspace has no dependencies")?;
    if let Some(own) = manifest.get_mut("dependencies").and_then(Value::as_table_mut) {
        write_out(own, dependencies)?;
    }
    for (_, target) in manifest.get_mut("target").and_then(Value::as_table_mut).into_iter().flatten() {
        if let Some(own) = target.get_mut("dependencies").and_then(Value::as_table_mut) {
            write_out(own, dependencies)?;
        }
    }
    toml::to_string(&manifest).map_err(|error| error.to_string())
}

fn inherits(value: &Value) -> bool {
    value.get("workspace").and_then(Value::as_bool) == Some(true)
}

fn write_out(own: &mut Table, shared: &Table) -> Carried<()> {
    for (name, value) in own.iter_mut().filter(|(_, value)| inherits(value)) {
        let mut theirs = match shared.get(name) {
            Some(Value::String(version)) => Table::from_iter([("version".to_owned(), Value::from(version.as_str()))]),
            Some(Value::Table(theirs)) => theirs.clone(),
            _ => return Err(format!("the workspace has no dependency {name}")),
        };
        // The one crate of our own that the SDK needs lies in its folder.
        if let Some(path) = theirs.get_mut("path") {
            *path = path.as_str().and_then(|path| path.strip_prefix("guest-sdk/")).unwrap_or_default().into();
        }
        let more = value.get("features").and_then(Value::as_array).cloned().unwrap_or_default();
        if !more.is_empty() {
            let features = theirs.entry("features").or_insert_with(|| Value::Array(Vec::new()));
            features.as_array_mut().ok_or("features are no list")?.extend(more);
        }
        *value = Value::Table(theirs);
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// Each package once, with its version.
    fn versions(lock: &str) -> Vec<(String, String)> {
        let lock: Table = lock.parse().unwrap();
        let text = |package: &Value, key: &str| package[key].as_str().unwrap().to_owned();
        lock["package"].as_array().unwrap().iter().map(|p| (text(p, "name"), text(p, "version"))).collect()
    }

    #[test]
    fn a_rule_is_locked_to_versions_that_this_workspace_is_built_with() {
        let ours = versions(include_str!("../../../Cargo.lock"));
        let theirs = versions(&lock("my-rule"));
        assert!(theirs.contains(&("my-rule".to_owned(), "0.1.0".to_owned())));
        let other: Vec<_> = theirs.iter().filter(|(name, _)| name != "my-rule").filter(|p| !ours.contains(p)).collect();
        assert!(other.is_empty(), "cargo update has moved {other:?}: make host/templates/rule/lock.toml anew");
        let names: Vec<_> = theirs.iter().map(|(name, _)| name).collect();
        assert!(names.is_sorted(), "{names:?}");
    }

    #[test]
    fn the_carried_manifests_need_no_workspace() {
        for (path, text) in sdk().unwrap().iter().filter(|(path, _)| path.ends_with("Cargo.toml")) {
            assert!(!text.contains("workspace") && !text.contains("lints"), "{path}: {text}");
        }
        let (_, manifest) = sdk().unwrap().into_iter().find(|(path, _)| path == "Cargo.toml").unwrap();
        let manifest: Table = manifest.parse().unwrap();
        assert_eq!(manifest["dependencies"]["forebay-sdk-derive"]["path"].as_str(), Some("derive"));
        assert_eq!(manifest["package"]["edition"].as_str(), Some("2024"));
        let wasm = &manifest["target"]["cfg(target_arch = \"wasm32\")"]["dependencies"];
        assert_eq!(wasm["bytemuck"]["features"][0].as_str(), Some("wasm_simd"));
        assert_eq!(wasm["wit-bindgen"]["default-features"].as_bool(), Some(false));
    }
}
