//! Carries the SDK's source and the templates of rules in the binary, so that `forebay new rule` needs nothing but the binary.

use std::fmt::Write as _;
use std::fs;
use std::io::{Error, Result};
use std::path::{Path, PathBuf};

/// What an author's copy of the SDK is made of.
const SDK: [&str; 5] = ["Cargo.toml", "README.md", "src", "wit", "derive"];
/// Where templates are, and the folder of each that another part of the workspace has.
const TEMPLATES: [(&str, &str); 4] = [
    ("filter", "templates/rule/filter"),
    ("enrich", "templates/rule/enrich"),
    ("route", "templates/rule/route"),
    ("fraud", "../transforms/fraud"),
];

fn main() -> Result<()> {
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let mut text = String::from("/// The SDK: paths and contents.\npub(super) const SDK: &[(&str, &str)] = &[\n");
    let sdk = root.join("../guest-sdk");
    for part in SDK {
        entries(&sdk, &sdk.join(part), "", &mut text)?;
    }
    text.push_str("];\n/// The templates: paths, which begin with the template's name, and contents.\n");
    text.push_str("pub(super) const TEMPLATES: &[(&str, &str)] = &[\n");
    for (name, folder) in TEMPLATES {
        let folder = root.join(folder);
        for part in ["src", "cases"] {
            entries(&folder, &folder.join(part), &format!("{name}/"), &mut text)?;
        }
    }
    text.push_str("];\n");
    fs::write(Path::new(&variable("OUT_DIR")?).join("carried.rs"), text)
}

fn variable(name: &str) -> Result<String> {
    std::env::var(name).map_err(|error| Error::other(format!("{name}: {error}")))
}

/// The files at or below `path`, by name; their paths are told relative to `base`.
fn entries(base: &Path, path: &Path, prefix: &str, text: &mut String) -> Result<()> {
    println!("cargo::rerun-if-changed={}", path.display());
    if path.is_dir() {
        let mut below = fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>>>()?;
        below.sort();
        return below.iter().try_for_each(|path| entries(base, path, prefix, text));
    }
    let relative = path.strip_prefix(base).map_err(Error::other)?.to_string_lossy().replace('\\', "/");
    writeln!(text, "    ({:?}, include_str!({:?})),", format!("{prefix}{relative}"), path.display().to_string())
        .map_err(Error::other)
}
