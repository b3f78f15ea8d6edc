//! History is refined again: which of it, by how many workers, under which revision. Through the real binary.

use super::heal;
use super::seen::check;
use super::support::{Place, expr_wasm};

/// The config of heals, with another record that is rejected.
fn config() -> String {
    let rejects = heal::CONFIG.replace("id % 10 = 3", "id = 13").replace("an id that ends in three", "thirteen");
    rejects.replace("[warehouses.lake]", "[host]\nworkers = 2\n\n[warehouses.lake]")
}

fn place() -> Place {
    let place = Place::with(&config());
    std::fs::copy(expr_wasm(), place.path("modules/expr.wasm")).unwrap();
    place
}

/// Payments whose amounts are their ids, all booked on one day, and noon of the next for the last.
pub(super) fn payments(ids: std::ops::Range<u32>, day: u32) -> String {
    let last = ids.end - 1;
    ids.map(|id| {
        let booked = if id == last { format!("{:02}T12:00:00Z", day + 1) } else { format!("{day:02}T08:00:00Z") };
        format!("{{\"id\":{id},\"amount\":{id},\"note\":\"n\",\"booked\":\"2026-01-{booked}\"}}\n")
    })
    .collect()
}

/// What a person sees of verbs, one after the other.
pub(super) fn told(place: &Place, verbs: &[&[&str]]) -> String {
    verbs.iter().map(|verb| format!("# {}\n{}\n\n", verb.join(" "), place.sees(verb))).collect()
}

/// The segments that are asked for, by the numbers of their landing.
fn asked(place: &Place) -> Vec<i64> {
    let rows = place
        .query("SELECT s.number FROM ledger.again a JOIN ledger.segments s ON s.segment = a.segment ORDER BY s.number");
    rows.iter().map(|row| row["number"].as_i64().unwrap()).collect()
}

/// Loads files one after the other, so that each has a place in the order of landing.
pub(super) fn lands(place: &Place, files: &[(&str, String)]) {
    for (name, text) in files {
        place.write(&format!("inbox/{name}.jsonl"), text);
        place.run_well(&["run", "--once"]);
    }
}

#[test]
fn a_span_may_be_of_the_records_own_time_and_what_is_not_known_is_not_left_out() {
    let place = place();
    let files = [
        ("a", payments(20..30, 1)),
        ("b", payments(30..40, 2)),
        ("c", payments(40..50, 3)),
        ("d", payments(10..20, 5)),
    ];
    lands(&place, &files);
    let replay = ["replay", "--pipeline", "fraud", "--clock", "record"];
    let by = |more: &[&'static str]| [&replay[..], more].concat();
    let seen = told(
        &place,
        &[
            &by(&["--since", "2026-01-02"]),
            &by(&["--time-column", "when"]),
            &by(&["--time-column", "amount"]),
            &["replay", "--pipeline", "fraud", "--time-column", "booked"],
            &by(&["--time-column", "booked", "--since", "2026-01-02", "--until", "2026-01-03", "--dry-run"]),
            &by(&["--time-column", "booked", "--since", "2026-01-02", "--until", "2026-01-03", "--dry-run", "--json"]),
            &by(&["--time-column", "booked", "--since", "2026-01-02", "--until", "2026-01-03"]),
        ],
    );
    check("replay-clock", &seen);
    // The first has a record on the next day at noon; the last has one that stands in no table.
    assert_eq!(asked(&place), [1, 2, 4]);
    place.run_well(&["replay", "--pipeline", "fraud", "--stop"]);
    // A span that begins where the last record of the third is; the bounds are half open.
    place.run_well(&by(&["--time-column", "booked", "--since", "2026-01-04T12:00:00Z"]));
    assert_eq!(asked(&place), [3, 4]);
    place.run_well(&["replay", "--pipeline", "fraud", "--stop"]);
    place.run_well(&by(&["--time-column", "booked", "--until", "2026-01-01T08:00:00Z"]));
    assert_eq!(asked(&place), [4]);
}

#[test]
fn records_of_a_stream_have_their_sources_time() {
    let stream = config().replace(
        "source = { type = \"files\", url = \"inbox\", settle_milliseconds = 1, scan_seconds = 1 }",
        "source = { type = \"generator\", events = 30000, partitions = 3 }",
    );
    let (from, to) =
        (stream.find("[[pipelines.fraud.steps]]").unwrap(), stream.find("[pipelines.fraud.routes]").unwrap());
    let plain = format!("{}[pipelines.fraud.routes]\nout = \"lake.events\"\n", &stream[..from]);
    assert!(to > from);
    let place = Place::with(&plain);
    place.run_well(&["run", "--once"]);
    let times = place.query(
        "SELECT segment, min(timestamp) AS first, max(timestamp) AS last FROM raw.payments GROUP BY segment ORDER BY last",
    );
    assert!(times.len() > 1, "{times:?}");
    let latest = times.last().unwrap()["last"].as_str().unwrap();
    let replay =
        |more: &[&str]| place.run_well(&[&["replay", "--pipeline", "fraud", "--clock", "record"], more].concat());
    replay(&["--since", latest]);
    let asked = place.query("SELECT segment FROM ledger.again");
    let at_last: Vec<_> = times.iter().filter(|row| row["last"].as_str() == Some(latest)).collect();
    assert!(at_last.iter().all(|row| asked.iter().any(|asked| asked["segment"] == row["segment"])));
    assert!(asked.len() < times.len(), "{asked:?} of {times:?}");
    assert!(replay(&["--until", "2001-01-01"]).contains("has loaded no such segment"));
    assert!(replay(&["--dry-run"]).contains(&format!("{} segments", times.len())));
}

/// Everything is flagged, and nothing is refused.
pub(super) fn fixed() -> String {
    config().replace("id = 13", "id < 0").replace("amount > 50", "amount >= 0")
}

pub(super) fn ids(place: &Place, table: &str) -> Vec<i64> {
    let rows = place.query(&format!("SELECT id FROM {table} ORDER BY id"));
    rows.iter().map(|row| row["id"].as_i64().unwrap()).collect()
}

/// By the order of landing: the revision that refined each segment.
fn refined_by(place: &Place) -> Vec<i64> {
    let rows = place.query(
        "SELECT r.revision FROM ledger.refinements r JOIN ledger.segments s ON s.segment = r.segment
         WHERE r.pipeline = 'fraud' ORDER BY s.number",
    );
    rows.iter().map(|row| row["revision"].as_i64().unwrap()).collect()
}

/// Two files under the first revision, of which one row was refused, then one under the fixed one, which heals it.
pub(super) fn two_revisions() -> Place {
    let place = place();
    lands(&place, &[("a", payments(0..20, 1)), ("b", payments(40..60, 2))]);
    place.write("forebay.toml", &fixed());
    lands(&place, &[("c", payments(60..80, 3))]);
    assert_eq!(ids(&place, "lake.payments").len(), 60);
    assert_eq!(refined_by(&place), [1, 1, 2]);
    place
}

/// As it is once all was replayed under the first revision.
pub(super) fn is_as_the_first_made_it(place: &Place) {
    assert_eq!(refined_by(place), [1, 1, 1]);
    assert_eq!(ids(place, "lake.flagged"), (51..80).collect::<Vec<_>>());
    assert_eq!(ids(place, "lake.payments"), (0..13).chain(14..20).chain(40..80).collect::<Vec<_>>());
    assert_eq!(place.rows("lake.fraud_rejects"), 1);
    assert_eq!(place.number("SELECT count(*) FROM ledger.again"), 0);
    assert_eq!(place.number("SELECT count(*) FROM ledger.refinements WHERE chosen"), 3);
    place.adds_up();
}

#[test]
fn history_is_replayed_under_a_revision_that_is_not_the_active_one_whatever_becomes_active() {
    let place = two_revisions();
    let replay = ["replay", "--pipeline", "fraud", "--revision"];
    let under = |more: &[&'static str]| [&replay[..], more].concat();
    let seen = told(
        &place,
        &[
            &under(&["9"]),
            &under(&["1", "--dry-run", "--workers", "1"]),
            &under(&["1", "--verify"]),
            &under(&["1", "--workers", "3", "--json"]),
            &["status"],
        ],
    );
    check("replay-revision", &heal::timeless(&seen));
    let segment = place.query("SELECT segment FROM ledger.segments ORDER BY number LIMIT 1");
    for verb in [&["why", "inbox/a.jsonl"][..], &["segments", "show", segment[0]["segment"].as_str().unwrap()]] {
        let shown = place.sees(verb);
        let who = "it is to be replayed under revision 1, asked at ";
        assert!(shown.contains(who) && shown.contains("(forebay replay by tester)"), "{shown}");
    }
    // Another revision becomes active before anything is done, and heals what others rejected.
    place.write("forebay.toml", &fixed().replace("amount >= 0", "amount >= 1"));
    place.run_well(&["run", "--once"]);
    is_as_the_first_made_it(&place);
    // Neither a start nor another revision takes its reject away; a person does.
    place.write("forebay.toml", &fixed().replace("amount >= 0", "amount >= 2"));
    place.run_well(&["run", "--once"]);
    is_as_the_first_made_it(&place);
    let segment = place.query("SELECT segment FROM ledger.segments ORDER BY number LIMIT 1");
    let seen = place.sees(&["segments", "show", segment[0]["segment"].as_str().unwrap()]);
    assert!(seen.contains("revision 1"), "{seen}");
    place.run_well(&["rejects", "retry"]);
    place.run_well(&["run", "--once"]);
    assert_eq!(ids(&place, "lake.payments").len(), 60);
    let repaired = place.sees(&["repair", "--made-by", "1"]);
    assert!(repaired.contains("revision 1 made rows of 3 segments"), "{repaired}");
}

#[test]
fn a_replay_under_a_former_revision_that_dies_anywhere_goes_on_under_it() {
    let points = [
        "after_former",
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
        place.run_well(&["replay", "--pipeline", "fraud", "--revision", "1", "--workers", "1"]);
        place.dies_at(point, &["run", "--once"]);
        place.run_well(&["run", "--once"]);
        is_as_the_first_made_it(&place);
    }
}

#[test]
fn a_revision_that_cannot_be_loaded_or_decodes_otherwise_is_refused_before_anything_is_asked_for() {
    let place = place();
    lands(&place, &[("a", payments(0..10, 1))]);
    // Another content of the module, so that the first one is needed by the first revision alone.
    std::fs::remove_file(place.path("modules/expr.wasm")).unwrap();
    place.drop_module("newer.wasm", expr_wasm(), 1);
    lands(&place, &[("b", payments(40..60, 2))]);
    assert_eq!(refined_by(&place), [1, 2]);
    let replay = ["replay", "--pipeline", "fraud", "--revision", "1"];
    let one_format = place.sees(&[&replay[..], &["--dry-run"]].concat());
    assert!(one_format.starts_with("exit 0\n"), "{one_format}");
    place.write(
        "forebay.toml",
        &config().replace("format = \"json\"", "format = { type = \"json\", max_record_bytes = 4096 }"),
    );
    let mut seen = told(&place, &[&replay]);
    place.write("forebay.toml", &config());
    // It is asked for while it can be loaded, and cannot when the host comes to it.
    place.run_well(&replay);
    let digest = place.query("SELECT sha256 FROM ledger.modules WHERE NOT active");
    let kept = format!("landing/_forebay/kept/modules/{}.wasm", digest[0]["sha256"].as_str().unwrap());
    std::fs::remove_file(place.path(&kept)).unwrap();
    seen += &told(&place, &[&replay, &["run", "--once"], &["status"]]);
    check("replay-revision-gone", &heal::timeless(&seen));
    assert_eq!(ids(&place, "lake.payments"), (0..10).chain(40..60).collect::<Vec<_>>(), "rows stay as they were");
    assert_eq!(refined_by(&place), [1, 2]);
    place.adds_up();
}

#[test]
fn raw_data_that_is_gone_is_told_by_name_and_the_rest_is_replayed() {
    let place = place();
    lands(&place, &[("a", payments(0..10, 1)), ("b", payments(40..60, 2)), ("c", payments(60..80, 3))]);
    let objects = place.query("SELECT object FROM ledger.segments ORDER BY number");
    let gone = objects[1]["object"].as_str().unwrap().to_owned();
    std::fs::remove_file(place.path("landing").join(&gone)).unwrap();
    place.write("forebay.toml", &fixed());
    let running = place.start();
    place.until_told("revision is active", 1);
    let seen = place.sees(&["replay", "--pipeline", "fraud"]);
    assert!(seen.starts_with("exit 1\n") && seen.contains("1 segment failed and keep their rows"), "{seen}");
    let seen = place.sees(&["status"]);
    assert!(seen.contains(&gone), "{seen}");
    assert!(running.stop().success());
    assert_eq!(refined_by(&place), [2, 1, 2]);
    assert_eq!(ids(&place, "lake.flagged"), (0..10).chain(51..80).collect::<Vec<_>>());
    place.adds_up();
}

#[test]
fn a_replay_that_is_waited_for_tells_which_rows_are_others_now() {
    let place = place();
    lands(&place, &[("a", payments(0..20, 1)), ("b", payments(40..60, 2))]);
    // A column that is new, rows that come, rows that go, and rows that are as they were.
    let other = config()
        .replace("id = 13", "id < 5")
        .replace("flag = \"amount > 50\"", "flag = \"amount > 55\"\nhigh = \"amount > 10\"");
    place.write("forebay.toml", &other);
    let running = place.start();
    place.until_told("revision is active", 1);
    place.until("it has healed", || place.number("SELECT count(*) FROM ledger.heals") == 1);
    place.until("that is done", || place.number("SELECT count(*) FROM ledger.loads WHERE state = 'open'") == 0);
    let seen = told(
        &place,
        &[
            &["replay", "--pipeline", "fraud"],
            &["replay", "--pipeline", "fraud", "--revision", "1", "--json"],
            &["replay", "--pipeline", "fraud", "--revision", "1"],
        ],
    );
    check("replay-tables", &seen);
    assert!(running.stop().success());
    place.adds_up();
}

#[test]
fn a_ledger_that_is_rebuilt_takes_no_replay_for_what_is_active() {
    let place = place();
    lands(&place, &[("a", payments(0..10, 1))]);
    std::fs::remove_file(place.path("modules/expr.wasm")).unwrap();
    place.drop_module("newer.wasm", expr_wasm(), 1);
    lands(&place, &[("b", payments(40..60, 2))]);
    let active = || place.query("SELECT sha256 FROM ledger.modules WHERE active");
    let newer = active();
    // The last load of each table is of the first revision.
    place.run_well(&["replay", "--pipeline", "fraud", "--revision", "1"]);
    place.run_well(&["run", "--once"]);
    assert_eq!(refined_by(&place), [1, 1]);
    place.remove_ledger();
    place.run_well(&["recover"]);
    assert_eq!(place.number("SELECT revision FROM ledger.deployments WHERE state = 'active'"), 2);
    assert_eq!(active(), newer);
    lands(&place, &[("c", payments(60..80, 3))]);
    assert_eq!(place.number("SELECT max(revision) FROM ledger.refinements"), 2);
    assert_eq!((active(), ids(&place, "lake.payments").len()), (newer, 50));
}
