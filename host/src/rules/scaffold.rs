//! The crate that `forebay new rule` writes: a rule that works, its tests, a case, and the SDK beside it.
//!
//! It builds at once, wherever it lies: it is a workspace of its own, carries the SDK's source, and is locked to the versions that
//! this forebay was built with. Nothing that is there already is touched.

use std::fs;
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use semver::VersionReq;

use super::carried;

/// A rule to begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Template {
    /// Keeps some rows, rejects senseless ones
    Filter,
    /// Computes a column, by a list that is an asset
    Enrich,
    /// Sends rows to one of three tables
    Route,
    /// The rule for card payments of `make demo`: a score, a reason, two routes, an optional asset
    Fraud,
}

impl Template {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Enrich => "enrich",
            Self::Route => "route",
            Self::Fraud => "fraud",
        }
    }

    fn description(self) -> &'static str {
        match self {
            Self::Filter => "Keeps the payments that are worth looking at.",
            Self::Enrich => "Adds the amount in dollars, by a list of rates.",
            Self::Route => "Sends refunds, large payments and all others each to a table of their own.",
            Self::Fraud => "Flags card payments: an unusual V14, or a large amount from a blocked country.",
        }
    }

    /// How a pipeline uses it.
    fn step(self) -> &'static str {
        match self {
            Self::Filter => "config = { at_least = 10.0 }",
            Self::Enrich => "assets = { rates = \"rates.txt\" }",
            Self::Route => "config = { large_above = 1000.0 }",
            Self::Fraud => "config = { v14_below = -8.0 }",
        }
    }
}

/// Where a rule has its SDK from.
#[derive(Debug, Clone)]
pub(crate) enum Sdk {
    /// The one that this binary carries, written beside the rule.
    Carried,
    /// A folder.
    Path(PathBuf),
    /// The registry, once it is published: cargo resolves it, so there is no lock file.
    Version(VersionReq),
}

/// Words that no crate may be named, since Rust or cargo has them.
const WORDS: [&str; 57] = [
    "abstract",
    "alloc",
    "as",
    "async",
    "await",
    "become",
    "box",
    "break",
    "build",
    "const",
    "continue",
    "core",
    "crate",
    "deps",
    "do",
    "dyn",
    "else",
    "enum",
    "examples",
    "extern",
    "false",
    "final",
    "fn",
    "for",
    "gen",
    "if",
    "impl",
    "in",
    "incremental",
    "let",
    "loop",
    "macro",
    "match",
    "mod",
    "move",
    "mut",
    "override",
    "priv",
    "proc_macro",
    "proc-macro",
    "pub",
    "ref",
    "return",
    "self",
    "static",
    "std",
    "struct",
    "super",
    "test",
    "trait",
    "true",
    "try",
    "type",
    "unsafe",
    "use",
    "where",
    "while",
];

/// Why a name is none, and what to do.
pub(crate) fn check_name(name: &str) -> Result<(), (String, &'static str)> {
    let fits = (1..=64).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if !fits {
        let hint = "use 1 to 64 letters, digits, '_' and '-', beginning with a letter: it is the name of a Rust crate and of the module";
        return Err((format!("{name:?} cannot be the name of a rule"), hint));
    }
    if WORDS.contains(&name) {
        let hint = "add a word: block-list, test-payments";
        return Err((format!("{name:?} is a word of Rust or of cargo, and cannot be the name of a crate"), hint));
    }
    if carried::locked().any(|taken| taken.replace('-', "_") == name.replace('-', "_")) {
        let hint = "choose another name: a crate cannot be told from one that it depends on by the same name";
        return Err((format!("{name:?} is the name of a crate that every rule is built with"), hint));
    }
    Ok(())
}

/// What is written: paths below the crate's folder, and contents.
///
/// # Errors
/// Where what the binary carries is broken: a bug.
pub(crate) fn files(name: &str, template: Template, sdk: &Sdk) -> Result<Vec<(String, String)>, String> {
    let mut files = vec![("Cargo.toml".to_owned(), manifest(name, template, sdk))];
    files.extend(match sdk {
        Sdk::Carried | Sdk::Path(_) => Some(("Cargo.lock".to_owned(), carried::lock(name))),
        // The lock file knows the SDK as a folder.
        Sdk::Version(_) => None,
    });
    files.extend([
        (".cargo/config.toml".to_owned(), carried::TARGET.to_owned()),
        ("rust-toolchain.toml".to_owned(), carried::TOOLCHAIN.to_owned()),
        (".gitignore".to_owned(), "/target\n".to_owned()),
        ("README.md".to_owned(), readme(name, template)),
    ]);
    files.extend(carried::template(template).map(|(path, text)| (path.to_owned(), text.to_owned())));
    if matches!(sdk, Sdk::Carried) {
        files.extend(carried::sdk()?.into_iter().map(|(path, text)| (format!("sdk/{path}"), text)));
    }
    Ok(files)
}

/// A folder below the rule's is no member of its workspace.
const EXCLUDE: &str = "exclude = [\"sdk\"]\n";

fn manifest(name: &str, template: Template, sdk: &Sdk) -> String {
    let text = |text: String| toml::Value::from(text);
    let (sdk, exclude) = match sdk {
        Sdk::Carried => ("{ path = \"sdk\" }".to_owned(), EXCLUDE),
        Sdk::Path(path) => (format!("{{ path = {} }}", text(path.display().to_string())), EXCLUDE),
        Sdk::Version(version) => (text(version.to_string()).to_string(), ""),
    };
    let description = template.description();
    format!(
        "\
[package]
name = \"{name}\"
description = \"{description}\"
version = \"0.1.0\"
edition = \"2024\"
rust-version = \"1.95\"
publish = false

[lib]
crate-type = [\"cdylib\", \"rlib\"]      # the module, and what its tests link

[dependencies]
forebay-sdk = {sdk}
schemars = \"1\"
serde = {{ version = \"1\", features = [\"derive\"] }}

[dev-dependencies]
serde_json = \"1\"

# What `forebay build` builds with: small, fast, and a panic says where.
[profile.guest]
inherits = \"release\"
lto = \"fat\"
codegen-units = 1
panic = \"abort\"
debug = \"line-tables-only\"

[profile.guest.package.\"*\"]
debug = false

# A workspace of its own, wherever the folder lies.
[workspace]
{exclude}"
    )
}

fn readme(name: &str, template: Template) -> String {
    let (description, step) = (template.description(), template.step());
    format!(
        "\
# {name}

{description} A rule for forebay: `src/lib.rs` is all of it, `cases/` shows what it does.

    forebay test       # build it, and run cases/ in the sandbox; --update writes what came out
    cargo test         # the same cases and the tests in src/tests.rs, natively
    forebay build      # the module: put the .wasm into the folder that a pipeline's config watches

In the pipeline: `module = \"{name}\"`, `{step}`. How to write rules: `cargo doc --open -p forebay-sdk`.
"
    )
}

/// Writes the files into a folder that is made for them: all of them, or it is as if none had been.
///
/// # Errors
/// [`ErrorKind::AlreadyExists`] where there is something of this name; or why a file cannot be written.
pub(crate) fn write(folder: &Path, files: &[(String, String)]) -> io::Result<()> {
    if let Some(parent) = folder.parent() {
        // Where a file stands in the way, the folder is not there already.
        fs::create_dir_all(parent).map_err(|error| io::Error::other(format!("{}: {error}", parent.display())))?;
    }
    fs::create_dir(folder)?;
    let written = files.iter().try_for_each(|(path, text)| {
        let path = folder.join(path);
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::File::create_new(&path)?.write_all(text.as_bytes())
    });
    // The folder is ours: this call has made it.
    written.inspect_err(|error| {
        if error.kind() != ErrorKind::AlreadyExists {
            drop(fs::remove_dir_all(folder));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_that_of_a_crate_and_of_a_module() {
        for name in ["large", "large-payments", "a_1", "Large"] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        for name in ["", "1a", "größe", "a b", "../a", "a.b", "test", "fn", "serde", "forebay_sdk", "-a"] {
            assert!(check_name(name).is_err(), "{name}");
        }
        assert!(check_name(&"a".repeat(65)).is_err());
    }

    #[test]
    fn every_template_is_a_rule_with_tests_a_case_and_a_short_readme() {
        for template in [Template::Filter, Template::Enrich, Template::Route, Template::Fraud] {
            let files: Vec<_> = carried::template(template).map(|(path, _)| path).collect();
            let some = |start: &str, end: &str| files.iter().any(|path| path.starts_with(start) && path.ends_with(end));
            assert!(some("src/lib.rs", "") && some("src/tests.rs", ""), "{files:?}");
            assert!(some("cases/", "/input.jsonl") && some("cases/", "/expected/rejects.jsonl"), "{files:?}");
            assert!(readme("x", template).lines().count() <= 10);
        }
    }
}
