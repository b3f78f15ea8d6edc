//! A rule's crate, built by cargo: what is missing is said with the command to type.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::cli::{Exit, Failure};

/// What a module is built for.
const TARGET: &str = "wasm32-wasip2";
/// What it is built with: `forebay new rule` writes this profile.
const PROFILE: &str = "guest";

/// A crate on the disk.
#[derive(Debug)]
pub(crate) struct Package {
    pub(crate) name: String,
    /// Its folder.
    pub(crate) folder: PathBuf,
    /// Where cargo builds.
    target: PathBuf,
}

impl Package {
    /// The crate in a folder.
    ///
    /// # Errors
    /// Where there is none, cargo is missing, or the crate makes no module.
    pub(crate) fn find(folder: &Path) -> Result<Self, Failure> {
        let shown = folder.display();
        let manifest = folder.join("Cargo.toml");
        if !manifest.exists() {
            let failure = Failure::new(Exit::NotFound, format!("{shown} is no crate: it has no Cargo.toml"));
            return Err(failure.with_hint("give a rule's folder; `forebay new rule NAME` writes one"));
        }
        let asked = ["metadata", "--no-deps", "--format-version", "1"];
        let output = cargo(folder).args(asked).stderr(Stdio::piped()).output().map_err(|error| no_cargo(&error))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(Failure::new(Exit::Failed, format!("cargo cannot read {}: {said}", manifest.display()))
                .with_hint("repair the manifest; `forebay new rule NAME` shows a whole one"));
        }
        let strange = || Failure::new(Exit::Failed, "what cargo tells of the crate cannot be read");
        let metadata: Value = serde_json::from_slice(&output.stdout).map_err(|_| strange())?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let manifest = manifest.canonicalize().map_err(|_| strange())?;
        let packages = metadata["packages"].as_array().ok_or_else(strange)?;
        let own = packages.iter().find(|package| {
            let path = package["manifest_path"].as_str().map(Path::new);
            path.and_then(|path| path.canonicalize().ok()).is_some_and(|path| path == manifest)
        });
        let Some(own) = own else {
            let names: Vec<_> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
            return Err(Failure::new(Exit::Usage, format!("{shown} is a workspace of many crates"))
                .with_hint(format!("give the folder of one: {}", names.join(", "))));
        };
        let name = text(&own["name"]).ok_or_else(strange)?;
        let kinds =
            own["targets"].as_array().into_iter().flatten().filter_map(|target| target["crate_types"].as_array());
        if !kinds.flatten().any(|kind| kind == "cdylib") {
            return Err(Failure::new(Exit::Failed, format!("the crate {name} makes no module"))
                .with_hint("add to its Cargo.toml: [lib] crate-type = [\"cdylib\", \"rlib\"]"));
        }
        let root = PathBuf::from(text(&metadata["workspace_root"]).ok_or_else(strange)?);
        need_profile(&root)?;
        let target = PathBuf::from(text(&metadata["target_directory"]).ok_or_else(strange)?);
        Ok(Self { name, folder: folder.to_owned(), target })
    }

    /// Where compiled modules are kept: beside what cargo builds, and as disposable.
    pub(crate) fn cache(&self) -> PathBuf {
        self.target.join("forebay-cache")
    }

    /// Builds the module; its path.
    ///
    /// # Errors
    /// Where the target is missing, or the crate does not compile.
    pub(crate) fn build(&self, quiet: bool) -> Result<PathBuf, Failure> {
        need_target(&self.folder)?;
        let mut command = cargo(&self.folder);
        command.args(["build", "--lib", "--profile", PROFILE, "--target", TARGET]);
        command.arg("--message-format=json-render-diagnostics").stdout(Stdio::piped());
        if quiet {
            command.arg("--quiet");
        }
        let mut child = command.spawn().map_err(|error| no_cargo(&error))?;
        let mut module = None;
        for line in child.stdout.take().into_iter().flat_map(|out| BufReader::new(out).lines()).map_while(Result::ok) {
            module = artefact(&line, &self.name).or(module);
        }
        let ended = child.wait().map_err(|error| no_cargo(&error))?;
        if !ended.success() {
            return Err(
                Failure::new(Exit::Failed, format!("{} does not build", self.name)).with_hint("cargo says why, above")
            );
        }
        module.ok_or_else(|| Failure::new(Exit::Failed, format!("cargo built {} and no module of it", self.name)))
    }

    /// Where a module that cargo built lies once its cases are packed into it: beside what cargo writes, which cargo would put back.
    pub(crate) fn packed(&self, built: &Path) -> PathBuf {
        self.target.join("forebay").join(built.file_name().unwrap_or_default())
    }

    /// Runs the crate's own tests.
    ///
    /// # Errors
    /// Where cargo is missing.
    pub(crate) fn test(&self, update: bool, quiet: bool) -> Result<bool, Failure> {
        let mut command = cargo(&self.folder);
        command.arg("test");
        if quiet {
            command.arg("--quiet");
        }
        if update {
            command.env("UPDATE_CASES", "1");
        }
        // stdout is data, and a test's talk is none.
        command.stdout(std::io::stderr());
        Ok(command.status().map_err(|error| no_cargo(&error))?.success())
    }
}

/// In the crate's folder, where its toolchain and its `.cargo` are found.
fn cargo(folder: &Path) -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(folder).stdin(Stdio::null());
    command
}

fn no_cargo(error: &std::io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("cargo cannot be run: {error}"))
        .with_hint("install Rust by https://rustup.rs, then open a new shell")
}

fn need_profile(root: &Path) -> Result<(), Failure> {
    let manifest = root.join("Cargo.toml");
    let text = std::fs::read_to_string(&manifest).unwrap_or_default();
    let table = text.parse::<toml::Table>().ok();
    let has = table.as_ref().and_then(|table| table.get("profile")?.get(PROFILE)).is_some();
    if has {
        return Ok(());
    }
    Err(Failure::new(Exit::Failed, format!("{} has no profile {PROFILE}", manifest.display())).with_hint(
        "add to it: [profile.guest] inherits = \"release\", lto = \"fat\", codegen-units = 1, panic = \"abort\"",
    ))
}

fn need_target(folder: &Path) -> Result<(), Failure> {
    let mut rustc = Command::new("rustc");
    rustc.args(["--print", "target-libdir", "--target", TARGET]).current_dir(folder);
    let output = rustc.stdin(Stdio::null()).output().map_err(|error| no_cargo(&error))?;
    let libraries = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() && Path::new(&libraries).is_dir() {
        return Ok(());
    }
    let failure = Failure::new(Exit::Failed, format!("Rust has no libraries for the target {TARGET} here"));
    Err(failure.with_hint(format!("type: rustup target add {TARGET}")))
}

/// The module that a line of cargo's tells of.
fn artefact(line: &str, package: &str) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(line).ok()?;
    let ours = message["reason"] == "compiler-artifact"
        && message["target"]["name"].as_str()?.replace('-', "_") == package.replace('-', "_");
    let files = message["filenames"].as_array().filter(|_| ours)?;
    files.iter().filter_map(Value::as_str).find(|path| path.ends_with(".wasm")).map(PathBuf::from)
}
