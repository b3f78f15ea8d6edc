//! Hot reload: a threshold or a module that changes takes the next segments; what is invalid changes nothing.

use super::support::{CONFIG, Place, payments};

#[test]
fn a_new_threshold_takes_the_next_segments_and_rows_lead_to_its_revision() {
    let place = Place::new();
    let running = place.start();
    place.write("inbox/a.jsonl", &payments(0..100));
    place.until("the first file is loaded", || flagged(&place) == 10);
    place.write("forebay.toml", &CONFIG.replace("v14_below = -8.0", "v14_below = 0.0"));
    place.until("the revision is active", || place.log().matches("revision is active").count() == 2);
    place.write("inbox/b.jsonl", &payments(100..200));
    place.until("the second file is loaded", || place.rows("lake.payments") == 200);
    assert_eq!(flagged(&place), 110);
    assert!(running.stop().success(), "SIGTERM ends it well");
    let revisions = place.query(
        "SELECT l.revision AS revision, count(*) AS rows FROM lake.payments p JOIN ledger.loads l \
         ON l.number = p._forebay_load AND l.table_name = 'lake.payments' GROUP BY 1 ORDER BY 1",
    );
    assert_eq!(serde_json::to_string(&revisions).unwrap(), r#"[{"revision":1,"rows":100},{"revision":2,"rows":100}]"#);
    place.adds_up();
}

#[test]
fn a_config_that_is_wrong_leaves_the_running_revision_in_place_and_says_why() {
    let place = Place::new();
    let running = place.start();
    place.until("it runs", || place.log().contains("revision is active"));
    place.write("forebay.toml", &CONFIG.replace("module = \"fraud\"", "modul = \"fraud\""));
    place.until("it says why", || place.log().contains("config refused"));
    assert!(place.log().contains("modul"), "{}", place.log());
    place.write("inbox/a.jsonl", &payments(0..100));
    place.until("the old one works", || flagged(&place) == 10);
    place.write("forebay.toml", &CONFIG.replace("v14_below = -8.0", "v14_belo = -8.0"));
    place.until("it is refused", || place.log().contains("revision refused"));
    place.write("inbox/b.jsonl", &payments(100..200));
    place.until("the old one still works", || flagged(&place) == 20);
    assert!(running.stop().success());
    assert_eq!(place.number("SELECT count(*) FROM ledger.deployments WHERE state = 'refused'"), 1);
    place.adds_up();
}

#[test]
fn limits_that_change_hold_at_once_and_heal_what_failed_for_them() {
    let place = Place::new();
    let limited = |emits: u32| {
        CONFIG.replace("from = \"payments\"", &format!("from = \"payments\"\nlimits = {{ emits = {emits} }}"))
    };
    // The rule emits to each of its routes: once more than this for a row that is flagged, and so many are no few bad rows.
    place.write("forebay.toml", &limited(1));
    let running = place.start();
    place.write("inbox/a.jsonl", &payments(0..1_000));
    let failed = place.until_told("segment failed and waits", 1);
    assert!(failed["error"].as_str().unwrap().contains("limits.emits"), "{failed}");
    place.write("forebay.toml", &limited(2));
    let changed = place.until_told("limits changed", 1);
    assert_eq!(
        (&changed["pipeline"], &changed["revision"], &changed["limits"]),
        (&"fraud".into(), &1.into(), &r#"{"emits":2}"#.into())
    );
    place.until("what failed is loaded", || place.rows("lake.payments") == 1_000);
    assert!(running.stop().success());
    assert_eq!(place.number("SELECT count(*) FROM ledger.deployments"), 1, "limits are no part of a revision");
    place.adds_up();
}

#[test]
fn an_asset_that_changes_is_a_new_revision_wherever_it_lies() {
    let place = Place::new();
    let lists = tempfile::tempdir().unwrap();
    let list = |text: &str| {
        std::fs::write(lists.path().join("new"), text).unwrap();
        std::fs::rename(lists.path().join("new"), lists.path().join("blocked.txt")).unwrap();
    };
    list("KP\n");
    let asset = lists.path().join("blocked.txt");
    let with_asset = CONFIG.replace(
        "config = { v14_below = -8.0 }",
        &format!(
            "config = {{ v14_below = -8.0, amount_above = 1.0 }}\nassets = {{ blocked = \"{}\" }}",
            asset.display()
        ),
    );
    place.write("forebay.toml", &with_asset);
    let running = place.start();
    place.until_told("revision is active", 1);
    let paid = |first: u32| {
        let lines = (first..first + 10).map(|n| {
            format!(
                "{{\"id\":{n},\"Time\":{n},\"V14\":0.5,\"V17\":0.25,\"Amount\":5.5,\"Class\":0,\"country\":\"DE\"}}\n"
            )
        });
        lines.collect::<String>()
    };
    place.write("inbox/a.jsonl", &paid(0));
    place.until("it is loaded", || place.rows("lake.payments") == 10);
    assert_eq!(flagged(&place), 0);
    // The same size.
    list("DE\n");
    let active = place.until_told("revision is active", 2);
    assert_eq!(active["revision"], 2);
    place.write("inbox/b.jsonl", &paid(10));
    place.until("it is loaded too", || place.rows("lake.payments") == 20);
    assert_eq!(flagged(&place), 10);
    std::fs::remove_file(&asset).unwrap();
    let refused = place.until_told("config refused", 1);
    assert!(refused["message"].as_str().unwrap().contains("there is no file"), "{refused}");
    list("DE\nFR\n");
    place.until_told("revision is active", 3);
    assert!(running.stop().success());
    place.adds_up();
}

#[test]
fn what_only_a_restart_changes_is_told_by_its_key() {
    let place = Place::new();
    let running = place.start();
    place.until_told("revision is active", 1);
    let config = CONFIG.replace("\"warehouse\"", "\"moved\"").replace("v14_below = -8.0", "v14_below = 0.0");
    place.write("forebay.toml", &format!("{config}\n[host]\nmemory = \"128MiB\"\ncommit = {{ max_age = \"2s\" }}\n"));
    // The rest of it takes effect.
    place.until_told("revision is active", 2);
    let told = place.until_told("these keys of the config changed", 1);
    assert_eq!(told["keys"], "host.memory, host.commit.max_age, warehouses.lake.url");
    assert!(running.stop().success());
}

fn flagged(place: &Place) -> i64 {
    place.rows("lake.flagged_payments")
}
