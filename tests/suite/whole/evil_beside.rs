//! Rules that misbehave beside an honest one, in a host that runs for long while files arrive one after another.

use std::collections::BTreeMap;
use std::time::Duration;

use super::evil::{FAILING, UNBOUND, config, records};
use super::strange_modules::guest;
use super::support::Place;

/// What costs some rows or none: how many of each file are rejected, and whether the others load.
const GOING_ON: [(&str, i64, bool); 3] =
    [("emit_then_panic_7th", 1, true), ("huge_log", 0, false), ("panic_7th", 1, true)];
const FILES: u32 = 2;
/// So many that no rule that fails on rows together has each of them tried alone.
const ROWS: u32 = 600;

/// A few seconds suffice where the machine does nothing else: each segment of a loop keeps a thread for some of its `call_ms`.
const HONEST: Duration = Duration::from_secs(45);
/// All segments of all rules, on few threads.
const ALL_DONE: Duration = Duration::from_secs(120);

/// Nothing of the host panicked, and none of its parts had to be started again. (What a rule's own panic says is logged too.)
fn is_calm(place: &Place) {
    let log = place.log();
    let panics = log.lines().filter(|line| line.contains("panicked") && !line.contains("evil/guest"));
    assert_eq!(panics.collect::<Vec<_>>(), Vec::<&str>::new());
    assert!(!log.contains("is started again"), "{log}");
}

/// A number for each pipeline.
fn by_pipeline(place: &Place, sql: &str) -> BTreeMap<String, i64> {
    let rows = place.query(sql);
    rows.iter().map(|row| (row["pipeline"].as_str().unwrap().to_owned(), row["n"].as_i64().unwrap())).collect()
}

fn each<'a>(names: impl IntoIterator<Item = &'a str>, n: i64) -> BTreeMap<String, i64> {
    names.into_iter().map(|name| (name.to_owned(), n)).collect()
}

/// Each file so far has failed, or is loaded as far as it can be.
fn all_are_done(place: &Place, files: i64) -> bool {
    let failed = "SELECT pipeline, count(*) AS n FROM ledger.refinements WHERE state = 'failed' GROUP BY pipeline";
    let loaded = "SELECT pipeline, count(*) AS n FROM ledger.refinements WHERE state = 'loaded' GROUP BY pipeline";
    let good = GOING_ON.iter().map(|(name, _, _)| *name).chain(["plain"]);
    by_pipeline(place, failed) == each(FAILING, files) && by_pipeline(place, loaded) == each(good, files)
}

/// What the ledger and the tables have, once all files are refined by rules that misbehave.
fn cost_nothing_but_their_own(place: &Place) {
    let waiting = "SELECT count(retry_at) FROM ledger.refinements WHERE state = 'failed'";
    assert_eq!(place.number(waiting), 0, "they wait for another rule, not for a time");
    let untold = "SELECT count(*) FROM ledger.refinements WHERE state = 'failed' \
                  AND (error_class <> 'operator' OR error_message IS NULL OR error_hint IS NULL)";
    assert_eq!(place.number(untold), 0, "{}", place.failures());
    for name in UNBOUND {
        let unfit = place.told("revision does not fit");
        assert!(unfit.iter().any(|line| line["pipeline"] == name), "{name}: {}", place.log());
    }
    let (files, rows) = (i64::from(FILES), i64::from(ROWS));
    for (name, rejected, loads) in GOING_ON {
        let loaded = if loads { rows - rejected } else { 0 };
        let counts = format!(
            "SELECT count(*) FROM ledger.refinements WHERE pipeline = '{name}' AND loaded = {loaded} AND rejected = {rejected}"
        );
        assert_eq!(place.number(&counts), files, "{name}");
    }
    let loads = "SELECT DISTINCT pipeline, 1 AS n FROM ledger.loads";
    assert_eq!(
        by_pipeline(place, loads),
        each(["emit_then_panic_7th", "panic_7th", "plain"], 1),
        "nothing else loaded"
    );
}

#[test]
fn a_host_that_runs_outlives_every_evil_rule_beside_an_honest_one_and_a_good_module_heals_what_failed() {
    let going_on = GOING_ON.map(|(name, _, _)| name);
    let behaviours = [&FAILING[..], &UNBOUND, &going_on].concat();
    let place = Place::with(&config(&behaviours));
    place.drop_module("evil.wasm", &guest("evil"), b'1');
    let mut running = place.start();
    for file in 0..FILES {
        place.write(&format!("inbox/{file}.jsonl"), &records(file * ROWS..(file + 1) * ROWS));
        let rows = i64::from((file + 1) * ROWS);
        place.within(HONEST, &format!("the honest rule loads file {file}"), || place.rows("lake.events") == rows);
        // The next one comes when all rules have had this one, so each of them has gone on.
        let files = i64::from(file + 1);
        place.within(ALL_DONE, &format!("all are done with file {file}"), || all_are_done(&place, files));
    }
    cost_nothing_but_their_own(&place);
    assert!(running.is_alive(), "{}", place.log());
    is_calm(&place);

    place.drop_module("evil.wasm", &guest("evil_healed"), b'2');
    let rows = i64::from(FILES * ROWS);
    // What was filtered was no failure.
    let healed: Vec<_> = behaviours.iter().copied().filter(|name| *name != "huge_log").collect();
    let of = |name: &&str| {
        format!("SELECT '{name}' AS pipeline, count(DISTINCT id) AS n, count(*) AS rows FROM lake.{name}")
    };
    let all = healed.iter().map(of).collect::<Vec<_>>().join(" UNION ALL ");
    let loaded = "SELECT count(*) FROM ledger.refinements WHERE state = 'loaded' AND rejected = 0";
    let segments = i64::from(FILES) * i64::try_from(behaviours.len() + 1).unwrap();
    place.until("all have healed", || place.number(loaded) == segments);
    assert_eq!(by_pipeline(&place, &all), each(healed, rows));
    assert_eq!(place.number(&format!("SELECT count(*) FROM ({all}) WHERE rows <> {rows}")), 0, "nothing is doubled");
    assert_eq!(place.rows("lake.events"), rows, "the honest one had nothing to heal");
    assert!(running.is_alive(), "{}", place.log());
    is_calm(&place);
    assert!(running.stop().success());
    place.adds_up();
}
