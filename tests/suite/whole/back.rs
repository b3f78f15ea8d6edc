//! A revision that passed its checks and fails what lands then: the former one comes back by itself.

use serde_json::json;

use super::dry_run::{config, deployments, place};
use super::evil::records;
use super::seen::check;
use super::strange_modules::guest;
use super::support::Place;

/// Nothing that would find it out before.
const UNSEEN: &str = "deploy = { dry_run = 0 }";

fn failed(place: &Place) -> i64 {
    place.number("SELECT count(*) FROM ledger.refinements WHERE pipeline = 'tried' AND state = 'failed'")
}

fn reason(place: &Place) -> String {
    let rows = place.query("SELECT reason FROM ledger.deployments WHERE pipeline = 'tried' AND state = 'active'");
    rows[0]["reason"].as_str().unwrap().to_owned()
}

#[test]
fn the_former_revision_comes_back_and_refines_what_failed() {
    let place = place(&config("pass", UNSEEN), 1);
    let running = place.start();
    place.until("it is loaded", || place.rows("lake.tried") == 2_000);
    place.write("forebay.toml", &config("panic", UNSEEN));
    place.until_told("revision is active", 3);
    for file in 0..4 {
        place.write(&format!("inbox/more{file}.jsonl"), &records(2_000 + file * 100..2_100 + file * 100));
    }
    place.until("the former one is back, and refines all", || place.rows("lake.tried") == 2_400);
    assert_eq!(deployments(&place), json!([[1, "retired"], [2, "retired"], [1, "active"], [2, "cancelled"]]));
    let status = place.run_well(&["status"]);
    let line = status.lines().find(|line| line.contains("by itself")).unwrap();
    let revisions = place.run_well(&["revisions", "list", "--pipeline", "tried", "--json"]);
    assert!(revisions.contains("rollback to revision 1, by itself"), "{revisions}");
    check("back", line);
    // A restart does not bring the bad one back.
    assert!(running.stop().success());
    let running = place.start();
    place.until_told("the config means a revision that was rolled back", 1);
    assert!(running.stop().success());
    place.adds_up();
}

#[test]
fn what_the_former_revision_fails_too_blames_nobody() {
    let place = place(&config("pass", UNSEEN), 1);
    let running = place.start();
    place.until("it is loaded", || place.rows("lake.tried") == 2_000);
    // Where it is off nothing comes back.
    place.write("forebay.toml", &config("panic", "deploy = { dry_run = 0, back_after = \"never\" }"));
    place.until_told("revision is active", 3);
    for file in 0..6 {
        place.write(&format!("inbox/more{file}.jsonl"), &records(2_000 + file * 100..2_100 + file * 100));
    }
    place.until("they have failed too", || failed(&place) == 6);
    // What comes after it fails as it did.
    place.write("forebay.toml", &config("exit", UNSEEN));
    place.until_told("revision is active", 4);
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert_eq!((reason(&place).as_str(), failed(&place)), ("config", 6));
    assert_eq!(place.told("revision fails segments").len(), 0);
    // A fix is a fix.
    place.drop_module("evil.wasm", &guest("evil_healed"), b'1');
    place.until("it heals", || place.rows("lake.tried") == 2_600);
    assert!(running.stop().success());
}
