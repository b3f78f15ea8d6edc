//! The command line as a person meets it: the real binary, its whole output.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

/// Runs `forebay` in a folder; its exit code and both outputs.
fn forebay(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_forebay"))
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .env("HOME", folder)
        .output()
        .expect("the binary runs");
    let mut text = format!("exit {}\n", output.status.code().map_or("by signal".to_owned(), |code| code.to_string()));
    for (name, bytes) in [("stdout", output.stdout), ("stderr", output.stderr)] {
        if !bytes.is_empty() {
            writeln!(text, "--- {name}\n{}", String::from_utf8(bytes).expect("output is text").trim_end()).unwrap();
        }
    }
    let real = folder.canonicalize().unwrap();
    text.replace(&real.display().to_string(), "[folder]").replace(&folder.display().to_string(), "[folder]")
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn with_config(text: &str) -> TempDir {
    let folder = folder();
    std::fs::write(folder.path().join("forebay.toml"), text).unwrap();
    folder
}

const CONFIG: &str = r#"
[landing]
url = "landing"
[ledger]
url = "sqlite:forebay.db"
[warehouses.lake]
type = "delta"
url = "warehouse"
[streams.payments]
source = { type = "files", url = "inbox" }
[pipelines.plain]
from = "payments"
[pipelines.plain.routes]
out = "lake.payments"
"#;

#[test]
fn every_verb_has_help_with_an_example() {
    let folder = folder();
    let verbs: [&[&str]; 19] = [
        &[],
        &["init"],
        &["validate"],
        &["plan"],
        &["run"],
        &["query"],
        &["status"],
        &["segments"],
        &["segments", "list"],
        &["segments", "show"],
        &["rejects"],
        &["rejects", "list"],
        &["rejects", "show"],
        &["rejects", "export"],
        &["why"],
        &["schema"],
        &["schema", "list"],
        &["schema", "approve"],
        &["maintain"],
    ];
    for verb in verbs {
        let name = if verb.is_empty() { "forebay".to_owned() } else { verb.join("-") };
        let help = forebay(folder.path(), &[verb, &["--help"]].concat());
        let group = ["segments", "rejects", "schema", "forebay"].contains(&name.as_str());
        assert!(group || help.contains("\nExample"), "{name} has no example");
        insta::assert_snapshot!(format!("help-{name}"), help);
    }
}

#[test]
fn what_is_no_command_is_refused_with_the_nearest() {
    let folder = folder();
    insta::assert_snapshot!("usage-none", forebay(folder.path(), &[]));
    insta::assert_snapshot!("usage-verb", forebay(folder.path(), &["querry"]));
    insta::assert_snapshot!("usage-flag", forebay(folder.path(), &["run", "--onse"]));
    insta::assert_snapshot!("usage-value", forebay(folder.path(), &["why", "x", "--since", "yesterday"]));
    insta::assert_snapshot!("usage-json", forebay(folder.path(), &["query", "--json"]));
}

#[test]
fn init_writes_a_config_that_is_valid_and_overwrites_none() {
    let folder = folder();
    insta::assert_snapshot!("init", forebay(folder.path(), &["init", "new"]));
    let written = std::fs::read_to_string(folder.path().join("new/forebay.toml")).unwrap();
    insta::assert_snapshot!("init-again", forebay(folder.path(), &["init", "new"]));
    assert_eq!(std::fs::read_to_string(folder.path().join("new/forebay.toml")).unwrap(), written);
    insta::assert_snapshot!("init-validate", forebay(folder.path(), &["validate", "-c", "new"]));

    // What is commented out is valid too, but for the file that it names.
    let all: String = written
        .lines()
        .map(|line| {
            line.strip_prefix("# ").filter(|rest| rest.starts_with('[') || rest.contains(" = ")).unwrap_or(line)
        })
        .filter(|line| !line.starts_with("out = "))
        .fold(String::new(), |all, line| all + line + "\n");
    std::fs::write(folder.path().join("new/forebay.toml"), all).unwrap();
    std::fs::write(folder.path().join("new/blocked.txt"), "").unwrap();
    let shown = forebay(folder.path(), &["validate", "-c", "new"]);
    assert!(shown.starts_with("exit 0"), "{shown}");
}

#[test]
fn validate_tells_all_that_is_wrong() {
    let wrong = CONFIG
        .replace("[ledger]", "[legder]")
        .replace("type = \"delta\"", "type = \"dleta\"")
        .replace("url = \"warehouse\"", "url = \"${LAKE}\"");
    insta::assert_snapshot!("validate-environment", forebay(with_config(&wrong).path(), &["validate"]));
    let wrong = wrong
        .replace("${LAKE}", "warehouse")
        .replace("out = ", "out = { table = \"lake.x\", tabel = 1 }\nother = ")
        + "[pipelines.second]\nfrom = \"payment\"\nroutes = { out = \"lake.payments\" }\n[host]\nworkers = \"many\"\n";
    insta::assert_snapshot!("validate-many", forebay(with_config(&wrong).path(), &["validate"]));
    insta::assert_snapshot!("validate-many-json", forebay(with_config(&wrong).path(), &["validate", "--json"]));
    let source = CONFIG.replace("url = \"inbox\" }", "url = \"inbox\", includes = [] }\nformat = \"jsn\"");
    insta::assert_snapshot!("validate-rooms", forebay(with_config(&source).path(), &["validate"]));
    let twice = format!("{CONFIG}[pipelines.second]\nfrom = \"payments\"\nroutes = {{ out = \"lake.payments\" }}\n");
    insta::assert_snapshot!("validate-duplicate-table", forebay(with_config(&twice).path(), &["validate"]));
    insta::assert_snapshot!("validate-no-config", forebay(folder().path(), &["validate"]));
    insta::assert_snapshot!("validate-valid", forebay(with_config(CONFIG).path(), &["validate"]));
}

#[test]
fn the_config_is_shown_without_its_secrets() {
    let text = CONFIG.replace("format", "format").replace(
        "[pipelines.plain]",
        "[streams.other]\nsource = { type = \"files\", url = \"other\", include = [\"a://me:hunter2@b\"] }\n[pipelines.plain]",
    );
    let shown = forebay(with_config(&text).path(), &["validate", "--show"]);
    assert!(!shown.contains("hunter2"), "{shown}");
    let shown = shown.lines().filter(|line| !line.contains("\"workers\"")).collect::<Vec<_>>().join("\n");
    insta::assert_snapshot!("validate-show", shown);
}
