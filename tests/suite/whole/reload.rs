//! Hot reload: a threshold or a module that changes takes the next segments; what is invalid changes nothing.

use super::support::{CONFIG, Place, fraud_wasm, payments};

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
}

#[test]
fn a_file_that_is_no_module_is_refused_and_a_new_module_is_taken() {
    let place = Place::new();
    let running = place.start();
    place.until("it runs", || place.log().contains("revision is active"));
    place.write("modules/broken.wasm", "this is not wasm");
    place.until("it is refused", || place.log().contains("module refused"));
    // The same rule with one more custom section has another digest: a new module.
    let mut wasm = std::fs::read(fraud_wasm()).unwrap();
    wasm.extend([0, 5, 4, b'n', b'o', b't', b'e']);
    std::fs::write(place.path("modules/fraud.wasm.part"), &wasm).unwrap();
    std::fs::rename(place.path("modules/fraud.wasm.part"), place.path("modules/fraud.wasm")).unwrap();
    place.until("it is active", || place.log().matches("revision is active").count() == 2);
    place.write("inbox/a.jsonl", &payments(0..100));
    place.until("it works", || flagged(&place) == 10);
    assert!(running.stop().success());
    assert_eq!(place.number("SELECT max(revision) FROM ledger.loads"), 2);
}

#[test]
fn a_restart_does_not_deploy_again_what_it_has_seen() {
    let place = Place::new();
    place.write("inbox/a.jsonl", &payments(0..100));
    place.run_well(&["run", "--once"]);
    let deployments = "SELECT count(*) FROM ledger.deployments";
    assert_eq!(place.number(deployments), 1);
    place.run_well(&["run", "--once"]);
    assert_eq!(place.number(deployments), 1);
    // The file is gone, the module is not: it was kept when it was deployed.
    std::fs::remove_file(place.path("modules/fraud.wasm")).unwrap();
    place.write("inbox/b.jsonl", &payments(100..200));
    place.run_well(&["run", "--once"]);
    assert_eq!(flagged(&place), 20);
    assert_eq!(place.number(deployments), 1);
}

fn flagged(place: &Place) -> i64 {
    place.rows("lake.flagged_payments")
}
