//! The real binary, run in a folder of its own, and snapshots of all that it writes.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

/// Runs `forebay` in a folder; its exit code and both outputs.
pub(crate) fn forebay(folder: &Path, arguments: &[&str]) -> String {
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

pub(crate) fn with_config(text: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("forebay.toml"), text).unwrap();
    folder
}

/// Snapshots without what differs from run to run.
pub(crate) fn steady(check: impl FnOnce()) {
    let mut settings = insta::Settings::clone_current();
    for (pattern, instead) in [
        (r"\d{4}-\d\d-\d\dT[\d:.]+Z", "[time]"),
        (r"\b\d\d:\d\d:\d\d\b", "[clock]"),
        (r"payments/[0-9a-f]{24}", "payments/[segment]"),
        (r"[0-9a-f]{64}", "[sha256]"),
        (r"sha256:[0-9a-f]{12}…", "sha256:[digest]…"),
        (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "[uuid]"),
        (r"dt=[\d-]+/hr=\d\d", "dt=[day]/hr=[hour]"),
        (r"\([\d.]+ k?B\)", "([size])"),
        (r"(?m)^\d+\.\d\d s, .*$", "[speed]"),
        (r"process \d+", "process [pid]"),
        (r"\d{8}T\d{6}\.\d+Z", "[stamp]"),
    ] {
        settings.add_filter(pattern, instead);
    }
    settings.bind(check);
}
