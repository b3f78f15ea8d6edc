//! History goes into tables beside a pipeline's own (`replay --into`), which take their place, or go. Through the real binary.

use super::heal;
use super::replay::{fixed, ids, is_as_the_first_made_it, payments, told, two_revisions};
use super::seen::check;
use super::support::{Place, texts};

const INTO: [&str; 5] = ["replay", "--pipeline", "fraud", "--into", "old"];

fn into<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&INTO[..], more].concat()
}

/// What the pipeline has under its two revisions, whatever is done beside.
fn is_untouched(place: &Place) {
    assert_eq!(ids(place, "lake.payments"), (0..20).chain(40..80).collect::<Vec<_>>());
    // What the first refused was healed by the second, which flags all.
    assert_eq!(ids(place, "lake.flagged"), std::iter::once(13).chain(51..80).collect::<Vec<_>>());
    assert_eq!(place.number("SELECT count(*) FROM ledger.again"), 0);
}

/// What the first revision makes of all three files.
fn stands_beside(place: &Place) {
    assert_eq!(ids(place, "lake.payments_old"), (0..13).chain(14..20).chain(40..80).collect::<Vec<_>>());
    assert_eq!(ids(place, "lake.flagged_old"), (51..80).collect::<Vec<_>>());
    assert_eq!(place.rows("lake.fraud_rejects_old"), 1);
}

fn is_gone(place: &Place) {
    let left = place.query("SELECT table_name FROM information_schema.tables WHERE table_name LIKE '%old'");
    assert!(left.is_empty(), "{left:?}");
    for table in ["sides", "side_segments"] {
        assert_eq!(place.number(&format!("SELECT count(*) FROM ledger.{table}")), 0, "{table}");
    }
    for table in ["refinements", "loads", "revisions", "deployments", "histories", "schemas"] {
        let sql = format!("SELECT count(*) FROM ledger.{table} WHERE pipeline <> 'fraud'");
        assert_eq!(place.number(&sql), 0, "{table}");
    }
}

#[test]
fn what_stands_beside_is_looked_at_and_takes_the_place_of_the_rows() {
    let place = two_revisions();
    let running = place.start();
    place.until("it runs", || place.sees(&["status"]).contains("host: running"));
    let mut seen = told(
        &place,
        &[
            &into(&["--swap"]),
            &into(&["--revision", "1", "--dry-run"]),
            &into(&["--revision", "1", "--since", "1h", "--workers", "1"]),
            &into(&["--revision", "1", "--json"]),
            &into(&["--revision", "2"]),
            &["status"],
        ],
    );
    stands_beside(&place);
    is_untouched(&place);
    // Beside it production goes on, and what lands is none of its business.
    place.write("inbox/d.jsonl", &payments(80..90, 4));
    place.until("it is loaded", || place.rows("lake.payments") == 70);
    place.write("forebay.toml", &fixed().replace("amount >= 0", "amount >= 1"));
    place.until("it is active", || place.number("SELECT max(revision) FROM ledger.revisions") == 3);
    stands_beside(&place);
    seen += &told(&place, &[&into(&["--swap"]), &into(&["--drop"]), &["status"]]);
    let hostless: Vec<_> = seen.lines().filter(|line| !line.starts_with("host: ")).collect();
    check("replay-into", &heal::timeless(&hostless.join("\n")));
    assert!(running.stop().success());
    assert_eq!(ids(&place, "lake.payments"), (0..13).chain(14..20).chain(40..90).collect::<Vec<_>>());
    is_gone(&place);
    place.adds_up();
}

#[test]
fn who_dies_on_the_way_finds_all_of_it_once() {
    let points = [
        "after_refine",
        "before_open_group",
        "after_open_group",
        "before_commit@2",
        "after_commit@3",
        "before_close_load",
        "before_close_load@3",
    ];
    for point in points {
        let place = two_revisions();
        place.run_well(&into(&["--revision", "1"]));
        place.dies_at(point, &["run", "--once"]);
        place.run_well(&["run", "--once"]);
        stands_beside(&place);
        is_untouched(&place);
        // The swap is as safe.
        place.run_well(&into(&["--swap"]));
        place.dies_at(point, &["run", "--once"]);
        place.run_well(&["run", "--once"]);
        is_as_the_first_made_it_but_for_sides(&place);
        // And so is the end of it: by who asks for it, where no host runs.
        place.dies_at("in_drop@2", &into(&["--drop"]));
        place.run_well(&into(&["--drop"]));
        is_gone(&place);
        is_as_the_first_made_it(&place);
    }
}

fn is_as_the_first_made_it_but_for_sides(place: &Place) {
    assert_eq!(ids(place, "lake.payments"), (0..13).chain(14..20).chain(40..80).collect::<Vec<_>>());
    stands_beside(place);
}

#[test]
fn a_host_that_dies_while_it_drops_tables_drops_the_rest_when_it_runs_again() {
    let place = two_revisions();
    place.run_well(&into(&["--revision", "1"]));
    place.run_well(&["run", "--once"]);
    stands_beside(&place);
    let mut running = place.start_with("FOREBAY_FAILPOINT", "in_drop@2");
    place.until("it runs", || place.sees(&["status"]).contains("host: running"));
    place.run_well(&into(&["--drop", "--detach"]));
    place.until("it dies amid it", || !running.is_alive());
    let running = place.start();
    place.until("all of it is gone", || place.number("SELECT count(*) FROM ledger.sides") == 0);
    assert!(running.stop().success());
    is_gone(&place);
    is_untouched(&place);
    // The name is free again.
    place.run_well(&into(&["--revision", "1"]));
    place.run_well(&["run", "--once"]);
    stands_beside(&place);
}

#[test]
fn it_can_be_stopped_and_goes_on_where_it_was() {
    let place = two_revisions();
    let first = place.query("SELECT segment FROM ledger.segments ORDER BY number LIMIT 1");
    let first = first[0]["segment"].as_str().unwrap().to_owned();
    place.run_well(&into(&["--revision", "1", "--segment", &first]));
    place.run_well(&["run", "--once"]);
    assert_eq!(ids(&place, "lake.payments_old"), (0..13).chain(14..20).collect::<Vec<_>>());
    place.run_well(&into(&["--revision", "1"]));
    assert!(place.run_well(&into(&["--stop"])).contains("2 segments taken back"));
    place.run_well(&["run", "--once"]);
    assert_eq!(place.rows("lake.payments_old"), 19);
    place.run_well(&into(&["--revision", "1"]));
    place.run_well(&["run", "--once"]);
    stands_beside(&place);
    let loads = "SELECT count(*) FROM ledger.refinements WHERE pipeline = 'fraud~old' AND generation > 0";
    assert_eq!(place.number(loads), 0, "nothing was refined twice");
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_asked_for() {
    let place = two_revisions();
    place.run_well(&into(&["--revision", "1", "--since", "1h"]));
    let mut seen = told(
        &place,
        &[
            // Not refined yet; another revision; what is none.
            &into(&["--swap"]),
            &into(&[]),
            &["replay", "--pipeline", "fraud", "--into", "none", "--drop"],
            &["replay", "--pipeline", "fraud", "--into", "none", "--stop"],
            &["replay", "--pipeline", "fraud", "--into", "a.b"],
            &["replay", "--pipeline", "fraud~old", "--into", "x"],
            &["replay", "--pipeline", "fraud", "--swap"],
            &["deploy", "modules/expr.wasm", "--pipeline", "fraud~old", "--offline"],
        ],
    );
    // A ledger that was rebuilt knows of tables, and of no replay.
    place.run_well(&["run", "--once"]);
    place.remove_ledger();
    place.run_well(&["recover"]);
    seen += &told(&place, &[&into(&["--revision", "1"]), &into(&["--drop"]), &into(&["--drop"])]);
    check("replay-into-refused", &heal::timeless(&seen));
    is_gone(&place);
    place.run_well(&["run", "--once"]);
    assert_eq!(place.rows("lake.payments"), 60);
}

#[test]
fn what_stands_beside_keeps_nobody_from_production() {
    let place = two_revisions();
    place.run_well(&into(&["--revision", "1"]));
    place.run_well(&["run", "--once"]);
    stands_beside(&place);
    // Somebody throws one of the tables away by hand: the host runs, and lands and loads what comes.
    std::fs::remove_dir_all(place.path("warehouse/payments_old")).unwrap();
    place.write("inbox/d.jsonl", &payments(80..90, 4));
    let said = |place: &Place| texts(&place.run(&["run", "--once"])).1;
    let log = said(&place);
    assert_eq!(place.rows("lake.payments"), 70);
    assert!(log.contains("a table of a replay is not as it was"), "{log}");
    // Verbs that mean all, or the only one, mean what somebody wrote.
    let repaired = place.sees(&["repair", "--made-by", "1"]);
    assert!(repaired.contains("nothing to repair") || repaired.contains("revision 1"), "{repaired}");
    assert!(!repaired.contains("fraud~old"), "{repaired}");
    let rolled_back = place.sees(&["rollback", "--to", "9"]);
    assert!(rolled_back.contains("no host runs"), "it is known which pipeline is meant: {rolled_back}");
    assert!(!place.sees(&["rejects", "list"]).contains("fraud~old"));
    assert!(place.sees(&["rejects", "list", "--pipeline", "fraud~old"]).contains("thirteen"));
    let why = place.sees(&["why", "payments", "--where", "id = 13"]);
    assert!(why.contains("lake.payments") && !why.contains("fraud~old"), "{why}");
    // Its pipeline reads what is decoded otherwise: it waits, and is told.
    place.write(
        "forebay.toml",
        &fixed().replace("format = \"json\"", "format = { type = \"json\", max_record_bytes = 4096 }"),
    );
    let log = said(&place);
    assert!(log.contains("stream payments is decoded otherwise now"), "{log}");
    assert!(place.sees(&["status"]).contains("replay fraud~old into tables beside those of fraud: does not run"));
    place.run_well(&into(&["--drop"]));
    is_gone(&place);
}

#[test]
fn a_file_that_has_changed_stands_once_beside() {
    let place = two_revisions();
    place.run_well(&into(&["--revision", "1"]));
    place.run_well(&["run", "--once"]);
    place.write("inbox/a.jsonl", &payments(100..105, 4));
    place.run_well(&["run", "--once"]);
    place.run_well(&into(&["--revision", "1"]));
    place.run_well(&["run", "--once"]);
    assert_eq!(ids(&place, "lake.payments_old"), (40..80).chain(100..105).collect::<Vec<_>>());
    let running = place.start();
    place.until("it runs", || place.sees(&["status"]).contains("host: running"));
    let told = place.run_well(&into(&["--swap"]));
    assert!(told.contains("the tables that end with _old are gone"), "{told}");
    assert!(running.stop().success());
    assert_eq!(ids(&place, "lake.payments"), (40..80).chain(100..105).collect::<Vec<_>>());
}
