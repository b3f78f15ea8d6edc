//! The ledger itself: lost, old, damaged, of a newer version. Each is refused with what to do, and after `forebay recover` a
//! run neither loses nor doubles a row.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use super::support::{CONFIG, LedgerCopy, Place, payments, texts};

/// Exit code and outputs, without what differs from run to run.
fn told(place: &Place, arguments: &[&str]) -> String {
    let output = place.run(arguments);
    let (out, err) = texts(&output);
    // Log lines are not what is looked at here.
    let err: Vec<_> = err.lines().filter(|line| !line.starts_with('{')).collect();
    let code = output.status.code().map_or("by signal".to_owned(), |code| code.to_string());
    let text = format!("exit {code}\n{}--\n{}", out, err.join("\n"));
    let folder = place.path("").canonicalize().unwrap();
    text.replace(folder.to_str().unwrap().trim_end_matches('/'), "[folder]")
}

fn steady(check: impl FnOnce()) {
    let mut settings = insta::Settings::clone_current();
    for (pattern, instead) in [
        (r"\d{4}-\d\d-\d\dT[\d:.]+Z", "[time]"),
        (r"\d{8}T\d{6}(\.\d+)?Z", "[stamp]"),
        (r"payments/[0-9a-f]{24}", "payments/[segment]"),
        (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "[uuid]"),
        (r"dt=[\d-]+/hr=\d\d", "dt=[day]/hr=[hour]"),
        (r"process \d+", "process [pid]"),
        (r"\b\d\d:\d\d:\d\d\b", "[clock]"),
        // Where the cut falls depends on how long the paths are.
        (r"EOF while parsing an? \w+ at line 1 column \d+", "EOF while parsing [somewhere]"),
    ] {
        settings.add_filter(pattern, instead);
    }
    settings.bind(check);
}

/// The journal's entries, oldest first.
fn journal(place: &Place) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(place.path("landing/_forebay/journal")).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn tear(path: &std::path::Path) {
    let bytes = std::fs::read(path).unwrap();
    std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
}

/// The tables are what the inbox is: each payment once, each tenth flagged, each malformed line refused once.
fn same_as(place: &Place, ids: impl IntoIterator<Item = i64>, rejects: i64) {
    let expected: Vec<i64> = ids.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
    let column = |sql: &str| -> Vec<i64> { place.query(sql).iter().map(|row| row["id"].as_i64().unwrap()).collect() };
    assert_eq!(column("SELECT id FROM lake.payments ORDER BY id"), expected);
    let flagged: Vec<i64> = expected.iter().copied().filter(|id| id % 10 == 0).collect();
    assert_eq!(column("SELECT id FROM lake.flagged_payments ORDER BY id"), flagged);
    assert_eq!(place.rows("lake.fraud_rejects"), rejects);
    place.adds_up_since_recovery();
    let waiting = "SELECT count(*) FROM ledger.refinements WHERE state NOT IN ('loaded', 'superseded')";
    assert_eq!(place.number(waiting), 0);
}

/// A place with a history: several loads, a replaced file, a refused record, and a ledger of "yesterday".
fn with_history() -> (Place, LedgerCopy) {
    let place = Place::new();
    place.write("inbox/a.jsonl", &payments(0..300));
    place.run_well(&["run", "--once"]);
    place.write("inbox/b.jsonl", &payments(300..500));
    place.run_well(&["run", "--once"]);
    let yesterday = place.copy_ledger();
    place.write("inbox/a.jsonl", &payments(100..300));
    place.run_well(&["run", "--once"]);
    place.write("inbox/c.jsonl", &format!("{}this is no JSON\n", payments(500..700)));
    place.run_well(&["run", "--once"]);
    (place, yesterday)
}

/// After a recovery: nothing is lost and nothing doubled, nor with what arrives and changes then.
fn goes_on(place: &Place) {
    place.run_well(&["run", "--once"]);
    same_as(place, 100..700, 1);
    place.write("inbox/d.jsonl", &payments(700..900));
    place.write("inbox/b.jsonl", &payments(400..500));
    place.run_well(&["run", "--once"]);
    same_as(place, (100..300).chain(400..900), 1);
    place.write("inbox/a.jsonl", &payments(250..300));
    place.run_well(&["run", "--once"]);
    place.run_well(&["run", "--once"]);
    same_as(place, (250..300).chain(400..900), 1);
}

#[test]
fn a_ledger_that_was_deleted_is_rebuilt() {
    let (place, _) = with_history();
    place.remove_ledger();
    steady(|| {
        insta::assert_snapshot!("deleted-run", told(&place, &["run", "--once"]));
        insta::assert_snapshot!("deleted-status", told(&place, &["status"]));
        assert!(!place.path("forebay.db").exists(), "a run makes no ledger where there was one");
        insta::assert_snapshot!("deleted-dry-run", told(&place, &["recover", "--dry-run"]));
        assert!(!place.path("forebay.db").exists(), "a dry run writes nothing");
        insta::assert_snapshot!("deleted-recover", told(&place, &["recover"]));
        insta::assert_snapshot!("deleted-recover-again", told(&place, &["recover"]));
    });
    goes_on(&place);
}

#[test]
fn a_ledger_of_yesterday_is_refused_and_rebuilt() {
    let (place, yesterday) = with_history();
    place.put_back(&yesterday);
    steady(|| {
        insta::assert_snapshot!("yesterday-run", told(&place, &["run", "--once"]));
        // Whether the run that was refused left SQLite's own files behind is chance.
        let recovered = told(&place, &["recover", "--replace"]);
        let lines = recovered.lines().filter(|line| !line.ends_with("-wal") && !line.ends_with("-shm"));
        insta::assert_snapshot!("yesterday-recover", lines.collect::<Vec<_>>().join("\n"));
    });
    goes_on(&place);
}

#[test]
fn a_recovery_that_dies_is_begun_again_and_loses_and_doubles_nothing() {
    for (point, torn) in [
        ("recover_claimed", true),
        ("recover_set_aside", true),
        ("recover_filled", false),
        ("recover_moved_aside", false),
        ("recovered", true),
    ] {
        let (place, yesterday) = with_history();
        place.put_back(&yesterday);
        if torn {
            // What it lists lands again: its source still has it.
            tear(journal(&place).last().unwrap());
        }
        place.dies_at(point, &["recover", "--replace"]);
        if point != "recovered" {
            let run = place.run(&["run", "--once"]);
            assert_ne!(run.status.code(), Some(0), "{point}: a run makes nothing of what is half done");
            place.run_well(&["recover", "--replace"]);
        }
        goes_on(&place);
    }
}

#[test]
fn a_ledger_that_is_older_than_the_journal_alone_is_refused_and_rebuilt() {
    let (place, _) = with_history();
    let copy = place.copy_ledger();
    // It lands, is acknowledged, and never loads: the tables are as the copy knows them.
    place.write("inbox/d.jsonl", &payments(700..720));
    place.dies_at("before_open_group", &["run", "--once"]);
    assert_eq!(journal(&place).len(), 5);
    // The source does not have it any more.
    std::fs::remove_file(place.path("inbox/d.jsonl")).unwrap();
    place.put_back(&copy);
    steady(|| insta::assert_snapshot!("older-than-journal", told(&place, &["run", "--once"])));
    place.run_well(&["recover", "--replace"]);
    place.run_well(&["run", "--once"]);
    same_as(&place, 100..720, 1);
}

#[test]
fn a_ledger_that_is_older_than_the_tables_alone_is_refused_and_rebuilt() {
    let (place, _) = with_history();
    place.write("inbox/d.jsonl", &payments(700..720));
    place.dies_at("before_open_group", &["run", "--once"]);
    let landed = place.copy_ledger();
    place.run_well(&["run", "--once"]);
    place.put_back(&landed);
    steady(|| insta::assert_snapshot!("older-than-tables", told(&place, &["run", "--once"])));
    place.run_well(&["recover", "--replace"]);
    place.run_well(&["run", "--once"]);
    same_as(&place, 100..720, 1);
}

#[test]
fn a_ledger_that_is_damaged_is_refused_and_rebuilt() {
    let (place, _) = with_history();
    place.run_well(&["run", "--once"]);
    let whole = std::fs::read(place.path("forebay.db")).unwrap();
    let mut scrambled = whole.clone();
    scrambled[4096..].fill(0xa5);
    for (name, bytes) in
        [("truncated", &whole[..whole.len() / 2 / 4096 * 4096]), ("empty", &[]), ("scrambled", &scrambled)]
    {
        place.remove_ledger();
        std::fs::write(place.path("forebay.db"), bytes).unwrap();
        steady(|| {
            insta::assert_snapshot!(format!("{name}-run"), told(&place, &["run", "--once"]));
            insta::assert_snapshot!(format!("{name}-status"), told(&place, &["status"]));
        });
        place.run_well(&["recover", "--replace"]);
        place.run_well(&["run", "--once"]);
        same_as(&place, 100..700, 1);
    }
    let kept = std::fs::read_dir(place.path("")).unwrap().map(|entry| entry.unwrap().file_name());
    let kept = kept.filter(|name| name.to_string_lossy().contains(".replaced-")).count();
    assert!(kept > 0, "what was there is kept");
    goes_on(&place);
}

#[test]
fn a_ledger_of_a_newer_version_is_refused_and_may_be_rebuilt() {
    let (place, _) = with_history();
    place.change_ledger(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         SELECT max(version) + 1, 'of the future', TRUE, x'00', 0 FROM _sqlx_migrations",
    );
    steady(|| insta::assert_snapshot!("newer-run", told(&place, &["run", "--once"])));
    place.run_well(&["recover", "--replace"]);
    goes_on(&place);
}

#[test]
fn a_log_without_its_ledger_is_refused_and_kept_by_a_recovery() {
    let (place, _) = with_history();
    place.remove_ledger();
    std::fs::write(place.path("forebay.db-wal"), b"a log").unwrap();
    steady(|| {
        insta::assert_snapshot!("log-run", told(&place, &["run", "--once"]));
        insta::assert_snapshot!("log-recover", told(&place, &["recover"]));
        insta::assert_snapshot!("log-recover-replace", told(&place, &["recover", "--replace"]));
    });
    goes_on(&place);
}

#[test]
fn a_process_that_dies_between_any_two_steps_and_loses_its_ledger_loses_and_doubles_nothing() {
    for point in [
        "after_land",
        "after_list",
        "after_journal",
        "before_acknowledge",
        "before_open_group",
        "after_open_group",
        "before_commit",
        "after_commit",
        "before_close_load",
    ] {
        let place = Place::new();
        place.write("inbox/a.jsonl", &payments(0..300));
        place.run_well(&["run", "--once"]);
        place.write("inbox/a.jsonl", &payments(100..400));
        place.write("inbox/b.jsonl", &payments(400..600));
        place.dies_at(point, &["run", "--once"]);
        place.remove_ledger();
        place.run_well(&["recover"]);
        place.run_well(&["run", "--once"]);
        same_as(&place, 100..600, 0);
        place.write("inbox/b.jsonl", &payments(500..700));
        place.run_well(&["run", "--once"]);
        same_as(&place, (100..400).chain(500..700), 0);
    }
}

#[test]
fn what_was_compacted_is_recovered_too() {
    let (place, _) = with_history();
    place.run_well(&["maintain"]);
    place.remove_ledger();
    place.run_well(&["recover"]);
    goes_on(&place);
}

#[test]
fn the_newest_journal_entry_may_be_torn() {
    for changed in [false, true] {
        let (place, _) = with_history();
        let entries = journal(&place);
        tear(entries.last().unwrap());
        place.remove_ledger();
        if !changed {
            steady(|| insta::assert_snapshot!("torn-recover", told(&place, &["recover"])));
            goes_on(&place);
            continue;
        }
        place.run_well(&["recover"]);
        assert!(PathBuf::from(format!("{}.damaged", entries.last().unwrap().display())).exists());
        place.run_well(&["run", "--once"]);
        same_as(&place, 100..700, 1);
        place.write("inbox/c.jsonl", &payments(600..700));
        place.run_well(&["run", "--once"]);
        same_as(&place, (100..500).chain(600..700), 0);
        // Another loss finds a journal that is whole.
        place.remove_ledger();
        place.run_well(&["recover"]);
        place.run_well(&["run", "--once"]);
        same_as(&place, (100..500).chain(600..700), 0);
    }
}

#[test]
fn another_torn_journal_entry_needs_a_persons_word() {
    let (place, _) = with_history();
    tear(&journal(&place)[1]);
    place.remove_ledger();
    steady(|| {
        insta::assert_snapshot!("torn-before", told(&place, &["recover"]));
        insta::assert_snapshot!("torn-before-skipped", told(&place, &["recover", "--skip-damaged"]));
    });
    goes_on(&place);
}

#[test]
fn a_record_stream_goes_on_where_its_journal_ends() {
    let place = Place::new();
    let config = |events: u32| {
        format!(
            "[landing]\nurl = \"landing\"\n[ledger]\nurl = \"sqlite:forebay.db\"\n[modules]\nwatch = \"modules\"\n\
             [warehouses.lake]\ntype = \"delta\"\nurl = \"warehouse\"\n\
             [streams.auctions]\nsource = {{ type = \"generator\", events = {events}, partitions = 3 }}\nformat = \"json\"\n\
             [pipelines.auctions]\nfrom = \"auctions\"\n[pipelines.auctions.routes]\nout = \"lake.auctions\"\n"
        )
    };
    let distinct = "SELECT count(*) FROM (SELECT DISTINCT _forebay_segment, _forebay_row FROM lake.auctions)";
    for (events, torn) in [(20_000_u32, false), (30_000, false), (40_000, true), (50_000, false)] {
        place.write("forebay.toml", &config(events));
        place.write("questions.toml", &config(events));
        place.run_well(&["run", "--once"]);
        assert_eq!(place.rows("lake.auctions"), i64::from(events));
        assert_eq!(place.number(distinct), i64::from(events));
        if torn {
            tear(journal(&place).last().unwrap());
        }
        place.remove_ledger();
        place.run_well(&["recover"]);
        place.run_well(&["run", "--once"]);
        assert_eq!(place.rows("lake.auctions"), i64::from(events), "torn: {torn}");
        assert_eq!(place.number(distinct), i64::from(events));
    }
}

#[test]
fn revision_schema_and_modules_come_back() {
    let (place, _) = with_history();
    place.write("blocked.txt", "DE\n");
    let with_list = CONFIG.replace(
        "config = { v14_below = -8.0 }",
        "config = { v14_below = -9.0 }\nassets = { blocked = \"blocked.txt\" }",
    );
    assert_ne!(with_list, CONFIG);
    place.write("forebay.toml", &with_list);
    place.write("inbox/d.jsonl", &payments(700..720));
    place.run_well(&["run", "--once"]);
    let asked = [
        "SELECT pipeline, version, schema FROM ledger.schemas ORDER BY 1, 2",
        "SELECT pipeline, revision, revision_id, body, created_at FROM ledger.revisions ORDER BY 1, 2",
        "SELECT pipeline, revision_id, state FROM ledger.deployments WHERE state = 'active'",
        "SELECT name, sha256, version, bytes, active FROM ledger.modules ORDER BY 1",
        "SELECT name, sha256, bytes FROM ledger.assets ORDER BY 1",
        "SELECT segment, object, format, content_start, content_end FROM ledger.segments ORDER BY number",
        "SELECT object, key, version, identity, on_change, replaced_by FROM ledger.objects ORDER BY number",
        "SELECT number, table_name, id, revision, removed_rows, table_version FROM ledger.loads ORDER BY 1, 2",
    ];
    let before: Vec<_> = asked.iter().map(|sql| place.query(sql)).collect();
    assert_eq!((before[1].len(), before[4].len()), (2, 1), "two revisions, and what the second one was given");
    // Not the folder tells which module is active.
    std::fs::remove_file(place.path("modules/fraud.wasm")).unwrap();
    place.remove_ledger();
    place.run_well(&["recover"]);
    for (sql, before) in asked.iter().zip(before) {
        assert_eq!(place.query(sql), before, "{sql}");
    }
    // Which of the two was in the last load is chance.
    let status = super::heal::numberless(&told(&place, &["status"])).replace("(d.jsonl)", "(c.jsonl)");
    steady(|| insta::assert_snapshot!("recovered-status", status));
    place.run_well(&["run", "--once"]);
    assert_eq!(place.number("SELECT count(*) FROM ledger.revisions"), 2);
    same_as(&place, 100..720, 1);
}

#[test]
fn beside_a_running_host_nothing_is_recovered_and_readers_work() {
    let place = Place::new();
    let running = place.start();
    place.write("inbox/a.jsonl", &payments(0..100));
    place.until("it is loaded", || place.rows("lake.flagged_payments") == 10);
    steady(|| {
        insta::assert_snapshot!("running-second", told(&place, &["run", "--once"]));
        insta::assert_snapshot!("running-recover", told(&place, &["recover", "--replace"]));
    });
    assert_eq!(place.rows("lake.payments"), 100);
    // Also where somebody has deleted the file under it.
    place.remove_ledger();
    assert_eq!(place.run(&["recover"]).status.code(), Some(3));
    running.kill();
    place.run_well(&["recover"]);
    place.run_well(&["run", "--once"]);
    same_as(&place, 0..100, 0);
}

#[test]
fn there_is_nothing_to_recover_where_nothing_has_landed() {
    let place = Place::new();
    steady(|| insta::assert_snapshot!("nothing-recover", told(&place, &["recover"])));
    assert!(!place.path("landing").exists() && !place.path("warehouse").exists());
}

/// A table that was removed, or put back as it was: what it had would never come back by itself.
#[test]
fn tables_that_are_older_than_the_ledger_are_refused_and_everything_is_refined_again() {
    for gone in [true, false] {
        let place = Place::new();
        let table = place.path("warehouse/payments");
        place.write("inbox/a.jsonl", &payments(0..100));
        place.run_well(&["run", "--once"]);
        let before = place.path("before");
        assert!(Command::new("cp").arg("-r").arg(&table).arg(&before).status().unwrap().success());
        place.write("inbox/b.jsonl", &payments(100..200));
        place.run_well(&["run", "--once"]);
        std::fs::remove_dir_all(&table).unwrap();
        if !gone {
            std::fs::rename(&before, &table).unwrap();
        }
        place.write("inbox/c.jsonl", &payments(200..300));
        let name = if gone { "table-gone" } else { "table-older" };
        // Nor is a commit put on top of what is left.
        for verb in ["maintain", "plan"] {
            assert_eq!(place.run(&[verb]).status.code(), Some(3), "{name}: {verb}");
        }
        steady(|| insta::assert_snapshot!(name, told(&place, &["run", "--once"])));
        place.run_well(&["recover", "--replace", "--refine-all"]);
        place.run_well(&["run", "--once"]);
        for (table, rows) in [("lake.payments", 300), ("lake.flagged_payments", 30)] {
            assert_eq!(place.rows(table), rows, "{table}");
            assert_eq!(place.number(&format!("SELECT count(DISTINCT id) FROM {table}")), rows, "{table}");
        }
        place.adds_up_since_recovery();
    }
}
