//! The verbs that ask rules: `why` and `plan` over pipelines with one step and with two.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use support::{forebay, steady, with_config};
use tempfile::TempDir;

/// The folder of the modules: cargo builds them where this test was built.
fn modules() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let target = Path::new(env!("CARGO_BIN_EXE_forebay")).parent().and_then(Path::parent).unwrap();
        let arguments = "build --quiet --locked --profile guest --target wasm32-wasip2 -p keep -p fraud -p evil";
        let status = Command::new(env!("CARGO"))
            .args(arguments.split(' '))
            .arg("--target-dir")
            .arg(target)
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
            .status()
            .expect("cargo runs");
        assert!(status.success(), "the modules are built");
        target.join("wasm32-wasip2/guest")
    })
}

const STORES: &str = r#"
[landing]
url = "landing"
[ledger]
url = "sqlite:forebay.db"
[warehouses.lake]
type = "delta"
url = "warehouse"
[streams.payments]
source = { type = "files", url = "inbox", settle_milliseconds = 20 }
"#;

const PIPELINES: &str = r#"
[pipelines.one]
from = "payments"
[[pipelines.one.steps]]
module = "keep"
config = { column = "level", equals = "error" }
[pipelines.one.routes]
out = "lake.errors"

[pipelines.two]
from = "payments"
[[pipelines.two.steps]]
module = "keep"
config = { column = "amount", above = 5.0 }
[[pipelines.two.steps]]
module = "fraud"
[pipelines.two.routes]
scored = "lake.scored"
flagged = { table = "lake.flagged", schema_changes = "hold" }

[pipelines.three]
from = "payments"
[[pipelines.three.steps]]
module = "keep"
config = { column = "later", above = 5.0 }
[pipelines.three.routes]
out = "lake.later"
"#;

const RECORDS: &str = r#"{"id":1,"level":"error","amount":10.5,"v14":-9.5,"v17":0.25,"n":1}
{"id":2,"level":"info","amount":10.5,"v14":-0.5,"v17":0.25,"n":1}
{"id":3,"level":"error","amount":1.5,"v14":-9.5,"v17":0.25,"n":1}
{"id":4,"level":"error","v14":-9.5,"v17":0.25,"n":1}
{"id":5,"level":"error","amount":10.5,"v17":0.25,"n":1}
"#;

/// A folder with these modules and records, refined once.
fn refined(config: &str, names: &[&str], records: &str) -> TempDir {
    let folder = with_config(config);
    for made in ["inbox", "modules"] {
        std::fs::create_dir(folder.path().join(made)).unwrap();
    }
    for name in names {
        let file = format!("{name}.wasm");
        std::fs::copy(modules().join(&file), folder.path().join("modules").join(&file)).unwrap();
    }
    std::fs::write(folder.path().join("inbox/first.jsonl"), records).unwrap();
    let ran = forebay(folder.path(), &["run", "--once", "--quiet"]);
    assert!(ran.starts_with("exit 0"), "{ran}");
    folder
}

#[test]
fn why_names_the_first_step_that_a_record_does_not_pass() {
    let folder = refined(&format!("{STORES}{PIPELINES}"), &["keep", "fraud"], RECORDS);
    let why = |condition: &str, more: &[&str]| {
        forebay(folder.path(), &[&["why", "payments", "--where", condition], more].concat())
    };
    let all = || (1..=5).map(|id| why(&format!("id = {id}"), &[])).collect::<String>();
    let told = all();
    steady(|| {
        insta::assert_snapshot!("why-steps", told);
        insta::assert_snapshot!("why-steps-json", why("id = 3", &["--json"]));
    });
    // It is the revision of then that is asked, whatever stands in the config and the folder by now.
    let changed = PIPELINES.replace("above = 5.0", "above = 0.5").replace("equals = \"error\"", "equals = \"info\"");
    std::fs::write(folder.path().join("forebay.toml"), format!("{STORES}{changed}")).unwrap();
    std::fs::remove_dir_all(folder.path().join("modules")).unwrap();
    assert_eq!(all(), told);
    // What cannot be told is said to be so.
    let other = STORES.replace(
        "settle_milliseconds = 20 }",
        "settle_milliseconds = 20 }\nformat = { type = \"json\", max_columns = 99 }",
    );
    std::fs::write(folder.path().join("forebay.toml"), format!("{other}{changed}")).unwrap();
    steady(|| insta::assert_snapshot!("why-other-format", why("id = 3", &[])));
}

#[test]
fn plan_shows_what_the_data_that_comes_next_would_change() {
    let folder = refined(&format!("{STORES}{PIPELINES}"), &["keep", "fraud"], RECORDS);
    let plan = |more: &[&str]| forebay(folder.path(), &[&["plan"], more].concat());
    steady(|| insta::assert_snapshot!("plan-steps", plan(&[])));
    let next =
        "{\"id\":6,\"level\":\"error\",\"amount\":10.5,\"v14\":-9.5,\"v17\":0.25,\"n\":1.5,\"country\":\"NO\"}\n";
    std::fs::write(folder.path().join("inbox/next.jsonl"), next).unwrap();
    steady(|| {
        insta::assert_snapshot!("plan-not-landed", plan(&[]));
        insta::assert_snapshot!("plan-not-landed-json", plan(&["--pipeline", "two", "--json"]));
    });
    // Landed, and refined for another pipeline only.
    let ran = forebay(folder.path(), &["run", "--once", "--quiet", "--pipeline", "one"]);
    assert!(ran.starts_with("exit 0"), "{ran}");
    steady(|| {
        insta::assert_snapshot!("plan-waits", plan(&["--pipeline", "two"]));
        insta::assert_snapshot!("plan-done", plan(&["--pipeline", "one"]));
    });
    let ran = forebay(folder.path(), &["run", "--once", "--quiet"]);
    assert!(ran.starts_with("exit 0"), "{ran}");
    // What was planned is what was done.
    let columns = forebay(folder.path(), &["query", "SELECT arrow_typeof(n) FROM lake.scored WHERE country = 'NO'"]);
    assert!(columns.contains("Float64"), "{columns}");
    steady(|| insta::assert_snapshot!("plan-held", forebay(folder.path(), &["schema", "list"])));
}

/// Lines and columns of a guest's source change with every edit of it.
fn without_lines(text: &str) -> String {
    let mut parts = text.split(".rs:");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |all, part| all + ".rs:_" + part.trim_start_matches(|c: char| c.is_ascii_digit() || c == ':'))
}

#[test]
fn a_stack_is_shown_for_one_record_and_not_in_lists() {
    let pipeline = "[pipelines.evil]\nfrom = \"payments\"\n[[pipelines.evil.steps]]\nmodule = \"evil\"\n\
                    config = { behaviour = \"passes\", do = \"panic\" }\n[pipelines.evil.routes]\nout = \"lake.evil\"\n";
    let folder = refined(&format!("{STORES}{pipeline}"), &["evil"], "{\"id\":1}\n{\"id\":2}\n");
    let tell = |arguments: &[&str]| without_lines(&forebay(folder.path(), arguments));
    let segment = tell(&["query", "SELECT segment FROM ledger.segments"]);
    let segment = segment.lines().last().unwrap().trim();
    steady(|| {
        insta::assert_snapshot!("stack-list", tell(&["rejects", "list", "--limit", "1"]));
        insta::assert_snapshot!("stack-why", tell(&["why", "payments", "--where", "id = 1"]));
    });
    let shown = tell(&["rejects", "show", segment, "0"]);
    assert!(shown.contains("\n             at process at evil/guest/src/behave.rs"), "{shown}");
    assert!(!shown.contains("core::"), "{shown}");
    // Forty such rows fail the segment: its error is one line in lists, and whole where the segment alone is shown.
    let many: String = (0..40).map(|id| format!("{{\"id\":{id}}}\n")).collect();
    std::fs::write(folder.path().join("inbox/many.jsonl"), many).unwrap();
    let ran = forebay(folder.path(), &["run", "--once"]);
    assert!(ran.starts_with("exit 1"), "{ran}");
    let panics = ran.lines().filter(|line| line.contains("forebay::module")).collect::<Vec<_>>();
    assert!(
        !panics.is_empty()
            && panics.iter().all(|line| line.contains("panicked at") && line.contains("every row is bad"))
    );
    let failed = tell(&["query", "SELECT segment FROM ledger.refinements WHERE state = 'failed'"]);
    let failed = failed.lines().last().unwrap().trim();
    steady(|| {
        insta::assert_snapshot!("stack-status", tell(&["status"]));
        insta::assert_snapshot!("stack-segments", tell(&["segments", "list", "--state", "failed"]));
        insta::assert_snapshot!("stack-segment", tell(&["segments", "show", failed]));
    });
}
