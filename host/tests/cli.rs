//! The command line as a person meets it: the real binary, its whole output.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::process::Command;

use support::{forebay, steady, with_config};
use tempfile::TempDir;

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
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
    let (mut verbs, mut next) = (vec![Vec::<String>::new()], 0);
    while let Some(verb) = verbs.get(next).cloned() {
        next += 1;
        let name = if verb.is_empty() { "forebay".to_owned() } else { verb.join("-") };
        let arguments: Vec<&str> = verb.iter().map(String::as_str).chain(["--help"]).collect();
        let help = forebay(folder.path(), &arguments);
        assert!(help.contains("\nExample"), "{name} has no example");
        let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1);
        let commands = commands.take_while(|line| !line.is_empty()).filter(|line| !line.starts_with("   "));
        let commands = commands.filter_map(|line| line.split_whitespace().next()).filter(|command| *command != "help");
        verbs.extend(commands.map(|command| [&verb[..], &[command.to_owned()]].concat()));
        insta::assert_snapshot!(format!("help-{name}"), help);
    }
    assert!(verbs.len() > 30, "{verbs:?}");
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
    let first = forebay(folder.path(), &["-c", "new", "run", "--once", "--json"]);
    assert!(first.starts_with("exit 0"), "it is ready to run: {first}");
    assert!(folder.path().join("new/modules").is_dir());
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
fn a_new_rule_is_written_whole_or_not_at_all() {
    let folder = folder();
    let new = |arguments: &[&str]| forebay(folder.path(), &[&["new", "rule"], arguments].concat());
    insta::assert_snapshot!("new-rule", new(&["rules/large"]));
    insta::assert_snapshot!("new-rule-json", new(&["fx", "--template", "fraud", "--json"]));
    insta::assert_snapshot!("new-rule-again", new(&["rules/large"]));
    let wrong = ["1a", "a b", "test", "serde", ".."];
    insta::assert_snapshot!("new-rule-names", wrong.map(|name| new(&[name])).join("\n"));
    std::fs::write(folder.path().join("file"), "").unwrap();
    std::fs::create_dir(folder.path().join("other")).unwrap();
    std::fs::write(folder.path().join("other/Cargo.toml"), "[package]\nname = \"serde\"\n").unwrap();
    let places: [&[&str]; 5] = [
        &["file/large"],
        &["file"],
        &["a", "--sdk-path", "nowhere"],
        &["a", "--sdk-path", "rules"],
        &["a", "--sdk-path", "other"],
    ];
    insta::assert_snapshot!("new-rule-places", places.map(new).join("\n"));
    assert!(!folder.path().join("a").exists());
    let written = |name: &str| std::fs::read_to_string(folder.path().join("rules/large").join(name)).unwrap();
    insta::assert_snapshot!("new-rule-manifest", written("Cargo.toml"));
    insta::assert_snapshot!("new-rule-readme", written("README.md"));
    // Nothing of Rust is within reach.
    insta::assert_snapshot!("build-no-cargo", forebay(folder.path(), &["build", "rules/large"]));
    insta::assert_snapshot!("build-no-crate", forebay(folder.path(), &["build", "--json"]));
    insta::assert_snapshot!("test-no-module", forebay(folder.path(), &["test", "--module", "x.wasm", "--cases", "."]));
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
    let text = CONFIG.replace(
        "[pipelines.plain]",
        "[streams.other]\nsource = { type = \"files\", url = \"other\", include = [\"a://me:hunter2@b\"] }\n[pipelines.plain]",
    );
    let shown = forebay(with_config(&text).path(), &["validate", "--show"]);
    assert!(!shown.contains("hunter2"), "{shown}");
    let shown = shown.lines().filter(|line| !line.contains("\"workers\"")).collect::<Vec<_>>().join("\n");
    insta::assert_snapshot!("validate-show", shown);
}

/// A folder whose files have landed and loaded: five records in two formats, one of them malformed.
fn with_data() -> TempDir {
    let config = CONFIG.replace("url = \"inbox\" }", "url = \"inbox\", settle_milliseconds = 20 }");
    let folder = with_config(&config);
    let inbox = folder.path().join("inbox");
    std::fs::create_dir(&inbox).unwrap();
    std::fs::write(
        inbox.join("one.jsonl"),
        "{\"id\":\"a\",\"Amount\":1.5}\n{\"id\":\"b\",\"Amount\":null,\"tags\":[1,2]}\nno json\n",
    )
    .unwrap();
    std::fs::write(inbox.join("two.csv"), "id,Amount\nc,3\n\"d,\ne\",4.25\n").unwrap();
    let ran = forebay(folder.path(), &["run", "--once", "--quiet"]);
    assert!(ran.starts_with("exit 0"), "{ran}");
    folder
}

#[test]
fn queries_reach_tables_rejects_raw_segments_and_the_ledger() {
    let folder = with_data();
    let query = |sql: &str, more: &[&str]| forebay(folder.path(), &[&["query", sql], more].concat());
    let all = "SELECT id, \"Amount\", tags FROM lake.payments ORDER BY id";
    steady(|| {
        insta::assert_snapshot!("query-table", query(all, &[]));
        insta::assert_snapshot!("query-jsonl", query(all, &["--format", "jsonl"]));
        insta::assert_snapshot!("query-csv", query(all, &["--format", "csv"]));
        insta::assert_snapshot!("query-limit", query(all, &["--limit", "1", "--json"]));
        insta::assert_snapshot!("query-value", query("SELECT count(*) FROM payments", &[]));
        insta::assert_snapshot!("query-rejects", query("SELECT code, raw FROM rejects.plain", &[]));
        let raw = "SELECT object, record, raw FROM raw.payments ORDER BY object, record";
        insta::assert_snapshot!("query-raw", query(raw, &["--json"]));
        let ledger = "SELECT s.key, r.state, r.loaded, r.rejected FROM ledger.segments s
                      JOIN ledger.refinements r ON r.segment = s.segment ORDER BY s.key";
        insta::assert_snapshot!("query-ledger", query(ledger, &[]));
    });
}

#[test]
fn before_anything_is_refused_the_rejects_are_a_table_without_rows() {
    let folder = with_config(CONFIG);
    std::fs::create_dir(folder.path().join("inbox")).unwrap();
    let ran = forebay(folder.path(), &["run", "--once", "--quiet"]);
    assert!(ran.starts_with("exit 0"), "{ran}");
    let query = |sql: &str| forebay(folder.path(), &["query", sql]);
    let tables = query("SHOW TABLES");
    assert!(tables.starts_with("exit 0") && tables.contains("rejects"), "{tables}");
    let tables = "SELECT table_schema, table_name FROM information_schema.tables ORDER BY table_schema, table_name";
    insta::assert_snapshot!("query-tables", query(tables));
    insta::assert_snapshot!("query-no-rejects", query("SELECT code, count(*) FROM rejects.plain GROUP BY code"));
    insta::assert_snapshot!("rejects-nothing", forebay(folder.path(), &["rejects", "list"]));
    let columns = "SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = 'rejects'";
    let before = query(columns);
    std::fs::write(folder.path().join("inbox/bad.jsonl"), "{\"id\":1}\nno json\n").unwrap();
    let ran = forebay(folder.path(), &["run", "--once", "--quiet"]);
    assert!(ran.starts_with("exit 0"), "{ran}");
    assert!(query("SELECT count(*) FROM rejects.plain").contains("\n1"));
    assert_eq!(query(columns), before, "the first reject changes no column");
    assert!(before.contains("_forebay_segment"), "{before}");
}

#[test]
fn a_query_that_is_wrong_says_what_was_likely_meant_and_writes_nothing() {
    let folder = with_data();
    let query = |sql: &str| forebay(folder.path(), &["query", sql]);
    insta::assert_snapshot!("query-no-sql", query("SELEC 1"));
    insta::assert_snapshot!("query-no-table", query("SELECT * FROM lake.payment"));
    insta::assert_snapshot!("query-no-column", query("SELECT idd FROM lake.payments"));
    insta::assert_snapshot!("query-case", query("SELECT Amount FROM lake.payments"));
    insta::assert_snapshot!("query-no-function", query("SELECT cout(1)"));
    for sql in [
        "DROP TABLE lake.payments",
        "CREATE TABLE x AS SELECT 1",
        "INSERT INTO lake.payments SELECT * FROM lake.payments",
        "DELETE FROM lake.payments",
        "COPY lake.payments TO 'out.csv'",
        "SET datafusion.execution.batch_size = 1",
        "EXPLAIN ANALYZE INSERT INTO lake.payments SELECT * FROM lake.payments",
        "SELECT * FROM 'inbox/two.csv'",
        "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION 'inbox/two.csv'",
    ] {
        let answer = query(sql);
        assert!(answer.starts_with("exit 2"), "{sql}: {answer}");
    }
    assert!(!folder.path().join("out.csv").exists());
    insta::assert_snapshot!("query-read-only", query("DROP TABLE lake.payments"));
    assert!(query("SELECT count(*) FROM lake.payments").contains("\n4"));
}

#[test]
fn what_happened_is_told() {
    let folder = with_data();
    let tell = |arguments: &[&str]| forebay(folder.path(), arguments);
    let segment = tell(&["query", "SELECT segment FROM ledger.segments WHERE key = 'one.jsonl'"]);
    let segment = segment.lines().last().unwrap();
    steady(|| {
        insta::assert_snapshot!("status", tell(&["status"]));
        insta::assert_snapshot!("status-json", tell(&["status", "--json"]));
        insta::assert_snapshot!("segments-list", tell(&["segments", "list"]));
        insta::assert_snapshot!("segments-none", tell(&["segments", "list", "--state", "failed", "--json"]));
        insta::assert_snapshot!("segments-no-stream", tell(&["segments", "list", "--stream", "payment"]));
        insta::assert_snapshot!("segments-no-pipeline", tell(&["segments", "list", "--pipeline", "x"]));
        insta::assert_snapshot!("segments-show", tell(&["segments", "show", segment]));
        insta::assert_snapshot!("segments-show-none", tell(&["segments", "show", "zzz"]));
        insta::assert_snapshot!("segments-show-many", tell(&["segments", "show", "payments"]));
        insta::assert_snapshot!("rejects-list", tell(&["rejects", "list", "--since", "1h"]));
        insta::assert_snapshot!("rejects-none", tell(&["rejects", "list", "--code", "trap", "--json"]));
        insta::assert_snapshot!("rejects-show", tell(&["rejects", "show", segment, "2"]));
        insta::assert_snapshot!("rejects-show-none", tell(&["rejects", "show", segment, "0"]));
        insta::assert_snapshot!("rejects-export", tell(&["rejects", "export"]));
        insta::assert_snapshot!("rejects-export-jsonl", tell(&["rejects", "export", "--format", "jsonl"]));
        insta::assert_snapshot!("rejects-pipeline", tell(&["rejects", "list", "--pipeline", "plian"]));
        insta::assert_snapshot!("schema-list", tell(&["schema", "list"]));
        insta::assert_snapshot!("schema-approve-none", tell(&["schema", "approve", "lake.payments", "x"]));
        insta::assert_snapshot!("plan", tell(&["plan"]));
        insta::assert_snapshot!("plan-json", tell(&["plan", "--json"]));
        insta::assert_snapshot!("plan-no-pipeline", tell(&["plan", "--pipeline", "x"]));
        insta::assert_snapshot!("run-no-pipeline", tell(&["run", "--once", "--pipeline", "x"]));
        insta::assert_snapshot!("maintain-dry-run", tell(&["maintain", "--dry-run"]));
        insta::assert_snapshot!("maintain-table", tell(&["maintain", "--table", "lake.x"]));
    });
}

#[test]
fn why_finds_objects_segments_and_records() {
    let folder = with_data();
    let why = |arguments: &[&str]| forebay(folder.path(), &[&["why"], arguments].concat());
    let record = |condition: &str| why(&["payments", "--where", condition, "--since", "1h"]);
    std::fs::write(folder.path().join("inbox/_hidden.csv"), "id\n").unwrap();
    steady(|| {
        insta::assert_snapshot!("why-path", why(&["inbox/one.jsonl"]));
        assert_eq!(why(&["one.jsonl"]), why(&["inbox/one.jsonl"]));
        let landed = forebay(
            folder.path(),
            &["query", "SELECT segment, object FROM ledger.segments WHERE key = 'one.jsonl'", "--json"],
        );
        let landed: serde_json::Value = serde_json::from_str(landed.lines().last().unwrap()).unwrap();
        let (segment, object) = (landed["segment"].as_str().unwrap(), landed["object"].as_str().unwrap());
        for called in [segment, &segment[..18], object, &format!("landing/{object}")] {
            assert_eq!(why(&[called]), why(&["inbox/one.jsonl"]), "{called}");
        }
        insta::assert_snapshot!("why-many", why(&["payments/"]));
        insta::assert_snapshot!("why-cut-off", why(&["payments", "--where", "id IS NOT NULL", "--limit", "1"]));
        insta::assert_snapshot!("why-not-taken", why(&["inbox/_hidden.csv"]));
        insta::assert_snapshot!("why-not-there", why(&["inbox/three.csv"]));
        insta::assert_snapshot!("why-record", record("\"Amount\" = 4.25"));
        insta::assert_snapshot!("why-rejected", record("raw LIKE '%no json%'"));
        insta::assert_snapshot!("why-no-record", record("id = 'z'"));
        insta::assert_snapshot!("why-no-column", record("idd = 'z'"));
        insta::assert_snapshot!("why-no-sql", record("id = = 'z'"));
        insta::assert_snapshot!("why-no-stream", why(&["payment", "--where", "true"]));
    });
}

#[test]
fn before_the_first_run_verbs_say_so() {
    let folder = with_config(CONFIG);
    std::fs::create_dir(folder.path().join("inbox")).unwrap();
    insta::assert_snapshot!("new-status", forebay(folder.path(), &["status"]));
    insta::assert_snapshot!("new-query", forebay(folder.path(), &["query", "SELECT 1", "--json"]));
    insta::assert_snapshot!("new-plan", forebay(folder.path(), &["plan"]));
    std::fs::write(folder.path().join("inbox/a.jsonl"), "{\"id\":1}\n").unwrap();
    insta::assert_snapshot!("new-plan-sample", forebay(folder.path(), &["plan"]));
    assert!(!folder.path().join("forebay.db").exists(), "a plan makes no ledger");
    insta::assert_snapshot!("new-recover", forebay(folder.path(), &["recover"]));
    insta::assert_snapshot!("new-recover-json", forebay(folder.path(), &["recover", "--dry-run", "--json"]));
    for store in ["landing", "warehouse"] {
        assert!(!folder.path().join(store).exists(), "who only reads makes no {store}");
    }
    let missing = CONFIG.replace("routes]\nout = ", "routes]\nout = \"discard\"\n");
    let missing =
        missing.replace("from = \"payments\"", "from = \"payments\"\n[[pipelines.plain.steps]]\nmodule = \"nowhere\"");
    let folder = with_config(&missing.replace("\"lake.payments\"", ""));
    insta::assert_snapshot!("new-plan-no-module", forebay(folder.path(), &["plan"]));
}

/// A log line without its time.
fn log_of(output: &str) -> Vec<serde_json::Value> {
    let lines = output.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    lines.filter(|line| line.get("level").is_some()).collect()
}

#[test]
fn a_source_that_is_not_there_ends_a_run_with_few_words() {
    let folder = with_config(CONFIG);
    let ran = forebay(folder.path(), &["run", "--once"]);
    assert_eq!(log_of(&ran).iter().filter(|line| line["level"] == "ERROR").count(), 1, "{ran}");
    let told: Vec<_> = ran.lines().filter(|line| !line.starts_with('{')).collect();
    steady(|| insta::assert_snapshot!("run-no-folder", told.join("\n")));
}

#[test]
fn a_ledger_that_is_refused_is_not_made() {
    let folder = with_data();
    for name in ["forebay.db", "forebay.db-wal", "forebay.db-shm", "forebay.db.lock"] {
        drop(std::fs::remove_file(folder.path().join(name)));
    }
    let refused = forebay(folder.path(), &["run", "--once", "--quiet"]);
    steady(|| insta::assert_snapshot!("run-refused", refused));
    assert!(!folder.path().join("forebay.db").exists());
    insta::assert_snapshot!("lost-maintain", forebay(folder.path(), &["maintain"]));
    let approve = forebay(folder.path(), &["schema", "approve", "lake.payments", "x"]);
    assert!(approve.starts_with("exit 3"), "{approve}");
}

#[test]
fn a_schema_that_cannot_grow_is_a_warning_and_what_is_new_is_rescued() {
    let config = CONFIG
        .replace("url = \"inbox\" }", "url = \"inbox\", settle_milliseconds = 20 }")
        .replace("out = \"lake.payments\"", "out = { table = \"lake.payments\", partition_by = [\"v\"] }");
    let folder = with_config(&config);
    std::fs::create_dir(folder.path().join("inbox")).unwrap();
    std::fs::write(folder.path().join("inbox/a.jsonl"), "{\"v\":7}\n").unwrap();
    assert!(forebay(folder.path(), &["run", "--once", "--quiet"]).starts_with("exit 0"));
    std::fs::write(folder.path().join("inbox/b.jsonl"), "{\"v\":7.5}\n").unwrap();
    steady(|| insta::assert_snapshot!("plan-refused", forebay(folder.path(), &["plan"])));
    let ran = forebay(folder.path(), &["run", "--once"]);
    let log = log_of(&ran);
    assert!(log.iter().all(|line| line["level"] != "ERROR"), "{ran}");
    let warned: Vec<_> = log
        .iter()
        .filter(|line| line["level"] == "WARN")
        .map(|line| format!("{}: {}\n", line["message"].as_str().unwrap(), line["error"].as_str().unwrap()))
        .collect();
    insta::assert_snapshot!("run-not-grown", warned.concat());
    let serving = log.iter().find(|line| line["message"] == "revision takes the next segments").unwrap();
    assert!(
        serving["revision"].is_u64() && serving["revision_id"].is_string(),
        "people read the number, programs the digest: {serving}"
    );
    let rescued = forebay(folder.path(), &["query", "SELECT _forebay_rescued FROM lake.payments", "--format", "csv"]);
    assert!(rescued.contains("7.5"), "{rescued}");
}

#[test]
fn a_recovery_is_told_for_people_and_programs() {
    let folder = with_data();
    let tell = |arguments: &[&str]| forebay(folder.path(), arguments);
    steady(|| {
        insta::assert_snapshot!("recover-exists", tell(&["recover"]));
        insta::assert_snapshot!("recover-dry-run-json", tell(&["recover", "--dry-run", "--json"]));
        insta::assert_snapshot!("recover-replace-json", tell(&["recover", "--replace", "--json"]));
    });
}

#[test]
fn readers_make_no_folder_that_is_gone() {
    let folder = with_data();
    std::fs::remove_dir_all(folder.path().join("landing")).unwrap();
    std::fs::remove_dir_all(folder.path().join("warehouse")).unwrap();
    for verb in [&["status"][..], &["plan"], &["segments", "list"], &["query", "SELECT count(*) FROM ledger.segments"]]
    {
        forebay(folder.path(), verb);
    }
    forebay(folder.path(), &["query", "SELECT count(*) FROM raw.payments"]);
    assert!(!folder.path().join("landing").exists() && !folder.path().join("warehouse").exists());
}

#[test]
fn verbs_work_beside_a_host_that_runs() {
    let folder = with_data();
    let mut host = Command::new(env!("CARGO_BIN_EXE_forebay"))
        .args(["run", "--quiet"])
        .current_dir(folder.path())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    // The host has its lease when another one is refused.
    let refused = (0..100).find_map(|_| {
        std::thread::sleep(std::time::Duration::from_millis(100));
        let answer = forebay(folder.path(), &["run", "--once", "--quiet"]);
        answer.starts_with("exit 3").then_some(answer)
    });
    let answers = [
        forebay(folder.path(), &["query", "SELECT count(*) FROM lake.payments"]),
        forebay(folder.path(), &["maintain"]),
        forebay(folder.path(), &["status"]),
    ];
    let stopped = Command::new("kill").args(["-INT", &host.id().to_string()]).status().unwrap();
    let ended = host.wait().unwrap();
    assert!(stopped.success() && ended.success(), "{ended}");
    steady(|| {
        insta::assert_snapshot!("host-second", refused.expect("a second host is refused"));
        insta::assert_snapshot!("host-query", &answers[0]);
        insta::assert_snapshot!("host-maintain", &answers[1]);
        insta::assert_snapshot!("host-status", &answers[2]);
    });
}
