//! `forebay new rule`: a crate to begin with.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use semver::VersionReq;
use serde_json::json;

use super::{Exit, Failure, Global, show};
use crate::rules::scaffold::{self, Sdk, Template};

/// Make something new: a rule.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  forebay new rule large-payments")]
pub(super) struct NewArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Rule(RuleArgs),
}

/// Write a crate for a rule: a rule that works, its tests, and a case.
///
/// It builds at once, anywhere on the disk: the SDK's source lies in its folder `sdk`, and its Cargo.lock has the versions that this
/// forebay was built with. A folder that is there already is refused; nothing is overwritten.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  forebay new rule large-payments
  forebay new rule rules/fx --template enrich
  forebay new rule fx --sdk-path ../forebay/guest-sdk      the SDK of a clone, not a copy
  forebay new rule fx --sdk-version 0.1                    the SDK of the registry, once it is published")]
struct RuleArgs {
    /// The rule's name, or a path that ends in it. It is the name of the crate and of the module.
    name: PathBuf,
    /// The rule to begin with.
    #[arg(long, value_enum, default_value_t = Template::Filter)]
    template: Template,
    /// The folder of another forebay-sdk, instead of a copy of the one that this forebay carries.
    #[arg(long, value_name = "FOLDER")]
    sdk_path: Option<PathBuf>,
    /// A version of forebay-sdk in the registry, instead of a copy: for when it is published there. Cargo resolves it at the first
    /// build, which needs the network, and writes Cargo.lock.
    #[arg(long, value_name = "VERSION", conflicts_with = "sdk_path", value_parser = version)]
    sdk_version: Option<VersionReq>,
}

/// `0.1`, `=0.1.3`: as it stands in a Cargo.toml.
fn version(text: &str) -> Result<VersionReq, String> {
    let version: VersionReq =
        text.trim().parse().map_err(|error: semver::Error| format!("{error}; write 0.1, or =0.1.3"))?;
    // No registry takes a crate that depends on any version.
    if version.comparators.is_empty() {
        Err("any version is none; write 0.1, or =0.1.3".to_owned())
    } else {
        Ok(version)
    }
}

pub(super) fn new(global: &Global, args: &NewArgs) -> anyhow::Result<Exit> {
    let NewArgs { what: What::Rule(RuleArgs { name: folder, template, sdk_path, sdk_version }) } = args;
    let name = folder.file_name().unwrap_or(folder.as_os_str()).to_string_lossy();
    scaffold::check_name(&name).map_err(|(wrong, hint)| Failure::new(Exit::Usage, wrong).with_hint(hint))?;
    let sdk = match (sdk_path, sdk_version) {
        (Some(folder), _) => sdk_at(folder)?,
        (None, Some(version)) => Sdk::Version(version.clone()),
        (None, None) => Sdk::Carried,
    };
    let files = scaffold::files(&name, *template, &sdk).map_err(|broken| Failure::new(Exit::Bug, broken))?;
    let shown = folder.display();
    scaffold::write(folder, &files).map_err(|error| {
        if error.kind() == ErrorKind::AlreadyExists {
            return Failure::new(Exit::Usage, format!("{shown} is there already, and stays as it is"))
                .with_hint("choose another name, or move it away");
        }
        Failure::new(Exit::Failed, format!("{shown} cannot be written: {error}"))
            .with_hint("give a path that this user may write to")
    })?;
    if global.json() {
        let files: Vec<_> = files.iter().map(|(path, _)| path).collect();
        show::object(&json!({ "rule": name, "folder": folder, "files": files }))?;
    } else {
        show::line(&format!(
            "wrote {shown}: the rule in src/lib.rs, its tests, and a case in cases/\nnext: `cd {shown}`, then `forebay test`"
        ))?;
    }
    Ok(Exit::Ok)
}

/// An SDK that lies elsewhere, by its whole path: the rule may be moved.
fn sdk_at(folder: &Path) -> Result<Sdk, Failure> {
    let none = |why: String| {
        Failure::new(Exit::Usage, format!("--sdk-path {}: {why}", folder.display()))
            .with_hint("give the folder of the crate forebay-sdk: guest-sdk in a clone of forebay")
    };
    let folder = folder.canonicalize().map_err(|error| none(error.to_string()))?;
    let manifest =
        std::fs::read_to_string(folder.join("Cargo.toml")).map_err(|_| none("it has no Cargo.toml".into()))?;
    let name =
        manifest.parse::<toml::Table>().ok().and_then(|table| Some(table.get("package")?.get("name")?.to_string()));
    match name.as_deref().map(|name| name.trim_matches('"')) {
        Some("forebay-sdk") => Ok(Sdk::Path(folder)),
        Some(other) => Err(none(format!("it is the crate {other}"))),
        None => Err(none("its Cargo.toml names no crate".into())),
    }
}
