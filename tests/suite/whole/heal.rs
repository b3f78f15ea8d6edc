//! A fix is pushed, and what failed for want of it heals; wrong rows are found and replaced. Through the real binary, and whenever it
//! dies.

use super::seen::check;
use super::support::{Place, expr_wasm};

/// A rule of expressions that rejects and flags.
pub(super) const CONFIG: &str = r#"
[landing]
url = "landing"

[ledger]
url = "sqlite:forebay.db"

[modules]
watch = "modules"

[warehouses.lake]
type = "delta"
url = "warehouse"

[streams.payments]
source = { type = "files", url = "inbox", settle_milliseconds = 1, scan_seconds = 1 }
format = "json"

[pipelines.fraud]
from = "payments"

[[pipelines.fraud.steps]]
module = "expr"

[pipelines.fraud.steps.config.columns]
flag = "amount > 50"

[pipelines.fraud.steps.config.routes.flagged]
when = "flag"
columns = ["id", "amount"]

[[pipelines.fraud.steps.config.reject]]
code = "odd"
when = "id % 10 = 3"
message = "an id that ends in three"

[pipelines.fraud.routes]
out = "lake.payments"
flagged = "lake.flagged"
"#;

/// Nothing is rejected any more, and everything is flagged.
fn fixed() -> String {
    CONFIG.replace("id % 10 = 3", "id < 0").replace("amount > 50", "amount >= 0")
}

fn place() -> Place {
    let place = Place::with(CONFIG);
    std::fs::copy(expr_wasm(), place.path("modules/expr.wasm")).unwrap();
    place
}

/// Payments whose amounts are their ids; the last line is torn.
fn payments(ids: std::ops::Range<u32>) -> String {
    let lines: String = ids.map(|id| format!("{{\"id\":{id},\"amount\":{id}}}\n")).collect();
    lines + "{\"id\":\n"
}

fn ids(place: &Place, table: &str) -> Vec<i64> {
    let rows = place.query(&format!("SELECT id FROM {table} ORDER BY id"));
    rows.iter().map(|row| row["id"].as_i64().unwrap()).collect()
}

/// Without the times of day.
pub(super) fn timeless(text: &str) -> String {
    let text = &numberless(text);
    let mut words = Vec::new();
    for word in text.split(' ') {
        let is_time = |part: &str| part.len() >= 8 && part.as_bytes()[2] == b':' && part.as_bytes()[5] == b':';
        let line = word
            .split('\n')
            .map(|part| if is_time(part) || part.contains("-") && part.ends_with('Z') { "[time]" } else { part });
        words.push(line.collect::<Vec<_>>().join("\n"));
    }
    words.join(" ")
}

/// Without the numbers of loads: how far ahead of production a group takes one hangs on what production does meanwhile.
pub(super) fn numberless(text: &str) -> String {
    let mut out = text.to_owned();
    for before in ["last load: number ", "all of load "] {
        let mut parts = out.split(before);
        let first = parts.next().unwrap_or_default().to_owned();
        out = parts.fold(first, |told, part| {
            told + before + "[number]" + part.trim_start_matches(|digit: char| digit.is_ascii_digit())
        });
    }
    out
}

fn ends_in_three(id: &i64) -> bool {
    id % 10 == 3
}

/// As it is once the fix has healed what it can: the rows that were there are as they were.
fn is_healed(place: &Place) {
    assert_eq!(ids(place, "lake.payments"), (0..100).collect::<Vec<_>>());
    let flagged: Vec<i64> = (0..100).filter(|id| *id > 50 || ends_in_three(id)).collect();
    assert_eq!(ids(place, "lake.flagged"), flagged, "only what healed is flagged by the new rule");
    let rejects = place.query("SELECT code, attempts FROM rejects.fraud ORDER BY raw");
    assert_eq!(rejects, [serde_json::json!({ "code": "malformed", "attempts": 2 })]);
    let counts = place.query("SELECT records, loaded, rejected, retryable FROM ledger.refinements");
    assert_eq!(counts, [serde_json::json!({ "records": 101, "loaded": 100, "rejected": 1, "retryable": 1 })]);
    assert_eq!(place.number("SELECT count(*) FROM ledger.again"), 0);
    place.adds_up();
}

#[test]
fn what_was_rejected_heals_when_a_fix_is_pushed_while_data_flows() {
    let place = place();
    let running = place.start();
    place.write("inbox/a.jsonl", &payments(0..100));
    place.until("it is loaded", || place.rows("lake.payments") == 90);
    place.write("forebay.toml", &fixed());
    place.until("it has healed", || place.rows("lake.payments") == 100);
    place.until("nothing is asked for", || place.number("SELECT count(*) FROM ledger.again") == 0);
    place.until("it is all loaded", || place.number("SELECT count(*) FROM ledger.loads WHERE state = 'open'") == 0);
    is_healed(&place);
    check(
        "heal-heals",
        &place.query("SELECT * FROM ledger.heals").iter().map(|row| format!("{row}\n")).collect::<String>(),
    );
    assert!(running.stop().success());
}

#[test]
fn a_heal_that_dies_anywhere_loses_and_doubles_nothing() {
    let points = [
        "after_deploy",
        "after_refine",
        "before_open_group",
        "after_open_group",
        "before_commit@2",
        "after_commit@3",
        "before_close_load",
        "before_close_load@3",
    ];
    for point in points {
        let place = place();
        place.write("inbox/a.jsonl", &payments(0..100));
        place.run_well(&["run", "--once"]);
        place.write("forebay.toml", &fixed());
        place.dies_at(point, &["run", "--once"]);
        place.run_well(&["run", "--once"]);
        is_healed(&place);
    }
}

#[test]
fn a_run_says_what_has_healed_and_a_person_may_ask_for_it() {
    let place = place();
    place.write("inbox/a.jsonl", &payments(0..100));
    place.run_well(&["run", "--once"]);
    let mut told = String::new();
    for arguments in [
        &["rejects", "retry", "--code", "nothing"][..],
        &["rejects", "retry", "--pipeline", "frau"],
        &["rejects", "retry", "--code", "odd"],
        &["rejects", "retry", "--json"],
        &["status"],
        &["run", "--once"],
        &["rejects", "list"],
    ] {
        told += &format!("# {}\n{}\n\n", arguments.join(" "), place.sees(arguments));
    }
    place.write("forebay.toml", &fixed());
    told += &format!("# the fix: run --once\n{}\n", place.sees(&["run", "--once"]));
    check("heal-retry", &timeless(&told));
    let rejects = place.query("SELECT code, attempts FROM rejects.fraud");
    assert_eq!(rejects, [serde_json::json!({ "code": "malformed", "attempts": 3 })]);
}

#[test]
fn what_was_rejected_is_tried_again_when_the_config_says() {
    let place = place();
    let with = |schedule: &str| {
        format!("{CONFIG}\n[pipelines.fraud.retry]\nschedule = \"{schedule}\"\nzone = \"Asia/Tokyo\"\n")
    };
    place.write("forebay.toml", &with("0 0 1 1 *"));
    let running = place.start();
    place.write("inbox/a.jsonl", &payments(0..100));
    place.until("it is loaded", || place.rows("lake.payments") == 90);
    let attempts = || place.number("SELECT max(attempts) AS n FROM rejects.fraud");
    let told = || place.told("what failed is tried again: it is time").len();
    assert_eq!((attempts(), told()), (1, 0));
    // The change of the schedule takes effect at once, and is no revision.
    place.write("forebay.toml", &with("* * * * * *"));
    place.until("it is tried again, and again", || attempts() >= 3);
    assert_eq!(place.number("SELECT count(*) AS n FROM ledger.revisions"), 1);
    assert_eq!(place.told("what failed is tried again: it is time")[0]["schedule"], "* * * * * * Asia/Tokyo");
    assert!(running.stop().success());
    place.adds_up();
    place.write("forebay.toml", &with("0 3 31 2 *"));
    let mut seen = place.sees(&["validate"]);
    place.write("forebay.toml", &with("0 3 * * *").replace("Tokyo", "Tokio"));
    seen += &place.sees(&["validate"]);
    check("heal-schedule", &seen);
}

#[test]
fn rows_of_a_wrong_revision_are_found_shown_and_replaced() {
    let place = place();
    place.write("inbox/a.jsonl", &payments(0..40));
    place.run_well(&["run", "--once"]);
    let fixed = fixed();
    place.write("forebay.toml", &fixed);
    place.write("inbox/b.jsonl", &payments(40..60));
    place.run_well(&["run", "--once"]);
    assert_eq!(ids(&place, "lake.flagged"), [3, 13, 23, 33].into_iter().chain(40..60).collect::<Vec<_>>());
    let mut told = String::new();
    for arguments in [
        &["repair", "--made-by", "9"][..],
        &["repair", "--made-by", "2"],
        &["repair", "--made-by", "1"],
        &["repair", "--made-by", "1", "--yes"],
        &["status"],
        &["run", "--once"],
        &["repair", "--made-by", "expr@sha256:000000"],
        &["repair", "--made-by", "1"],
    ] {
        told += &format!("# {}\n{}\n\n", arguments.join(" "), place.sees(arguments));
    }
    check("heal-repair", &timeless(&told));
    assert_eq!(ids(&place, "lake.flagged"), (0..60).collect::<Vec<_>>());
    assert_eq!(ids(&place, "lake.payments"), (0..60).collect::<Vec<_>>());
    place.adds_up();
}

#[test]
fn a_rollback_may_replace_what_the_bad_revision_made() {
    let place = place();
    let running = place.start();
    place.write("inbox/a.jsonl", &payments(0..40));
    place.until("it is loaded", || place.rows("lake.payments") == 36);
    // Everything is flagged.
    place.write("forebay.toml", &CONFIG.replace("amount > 50", "amount >= 0"));
    place.until_told("revision is active", 2);
    place.write("inbox/b.jsonl", &payments(40..60));
    place.until("the second file is loaded", || place.rows("lake.payments") == 54);
    place.until("what it rejects was tried", || place.number("SELECT count(*) FROM ledger.heals") == 1);
    place.until("that is done", || place.number("SELECT count(*) FROM ledger.loads WHERE state = 'open'") == 0);
    assert_eq!(ids(&place, "lake.flagged").len(), 18);
    let seen = place.sees(&["rollback", "--repair"]);
    check("heal-rollback", &timeless(&seen));
    assert_eq!(ids(&place, "lake.flagged"), (51..60).filter(|id| !ends_in_three(id)).collect::<Vec<_>>());
    assert_eq!(ids(&place, "lake.payments").len(), 54);
    assert!(running.stop().success());
    place.adds_up();
}

#[test]
fn history_is_replayed_beside_a_host_that_runs_and_may_be_stopped() {
    let place = place();
    let running = place.start();
    for (name, from) in [("a", 0), ("b", 20), ("c", 40)] {
        place.write(&format!("inbox/{name}.jsonl"), &payments(from..from + 20));
        place.until("it is loaded", || place.rows("lake.payments") == i64::from(from + 20) * 9 / 10);
    }
    place.write("forebay.toml", &fixed());
    place.until("it has healed", || place.rows("lake.payments") == 60);
    place.run_well(&["pause", "fraud"]);
    let mut told = String::new();
    let mut see = |arguments: &[&str]| told += &format!("# {}\n{}\n\n", arguments.join(" "), place.sees(arguments));
    see(&["replay", "--pipeline", "fraud", "--dry-run"]);
    see(&["replay", "--pipeline", "fraud", "--until", "2020-01-01"]);
    see(&["replay", "--pipeline", "fraud", "--segment", "payments/0000000"]);
    see(&["replay", "--pipeline", "fraud", "--detach"]);
    see(&["replay", "--pipeline", "fraud", "--stop"]);
    see(&["resume", "fraud"]);
    see(&["replay", "--pipeline", "fraud"]);
    check("heal-replay", &told);
    assert_eq!(ids(&place, "lake.flagged"), (0..60).collect::<Vec<_>>());
    assert_eq!(place.rows("lake.payments"), 60);
    assert!(running.stop().success());
    place.adds_up();
}

#[test]
fn history_is_verified_twice_and_nothing_is_written() {
    let place = place();
    place.write("inbox/a.jsonl", &payments(0..100));
    place.write("inbox/b.jsonl", &payments(100..160));
    place.run_well(&["run", "--once"]);
    let none = place.sees(&["replay", "--pipeline", "fraud", "--until", "2020-01-01", "--verify"]);
    assert_eq!(none, "exit 0\nfraud has loaded no such segment\n");
    let before = place.query("SELECT DISTINCT _forebay_load FROM lake.payments");
    let seen = place.sees(&["replay", "--pipeline", "fraud", "--verify"]);
    assert!(
        seen.starts_with("exit 0\nfraud: 2 segments (") && seen.contains("come out the same twice under revision 1\n"),
        "{seen}"
    );
    let told = place.sees(&["replay", "--pipeline", "fraud", "--since", "1h", "--verify", "--json"]);
    assert!(told.contains("\"different\":[]") && told.contains("\"failed\":[]"), "{told}");
    // An object that is gone is named, and the others are verified.
    let objects = place.query("SELECT object FROM ledger.segments ORDER BY number LIMIT 1");
    let object = objects[0]["object"].as_str().unwrap().to_owned();
    std::fs::remove_file(place.path("landing").join(&object)).unwrap();
    let seen = place.sees(&["replay", "--pipeline", "fraud", "--verify"]);
    assert!(seen.starts_with("exit 1\n") && seen.contains(" failed: ") && seen.contains(&object), "{seen}");
    assert_eq!(place.query("SELECT DISTINCT _forebay_load FROM lake.payments"), before);
}
