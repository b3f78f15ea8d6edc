//! The watched folder: a module that is dropped there is taken by all pipelines that use it, or by none, and is tried again when
//! what it lacked has come. What was replaced does not come back.

use super::support::{CONFIG, Place, fraud_wasm, keep_wasm, payments, texts};

/// A second pipeline that uses the same module.
const SECOND: &str = r#"
[pipelines.second]
from = "payments"

[[pipelines.second.steps]]
module = "fraud"
config = { v14_below = -8.0 }

[pipelines.second.routes]
scored = "lake.second"
flagged = "discard"
"#;

/// A key's type that the rule refuses.
const WRONG: &str = "v14_below = \"low\"";

fn flagged(place: &Place) -> i64 {
    place.rows("lake.flagged_payments")
}

/// The digest that `fraud` means in the ledger, and those that the active revisions name.
fn active(place: &Place) -> (String, Vec<String>) {
    let text = |row: &serde_json::Value, key: &str| row[key].as_str().unwrap().to_owned();
    let module = place.query("SELECT sha256 FROM ledger.modules WHERE active");
    let revisions = place.query(
        "SELECT r.body AS body FROM ledger.deployments d JOIN ledger.revisions r \
         ON r.revision_id = d.revision_id AND r.pipeline = d.pipeline WHERE d.state = 'active' ORDER BY d.pipeline",
    );
    let digests = revisions.iter().map(|row| {
        let body: serde_json::Value = serde_json::from_str(&text(row, "body")).unwrap();
        text(&body["steps"][0], "digest")
    });
    (text(&module[0], "sha256"), digests.collect())
}

#[test]
fn a_file_that_is_no_module_is_refused_and_a_new_module_is_taken() {
    let place = Place::new();
    let running = place.start();
    place.until("it runs", || place.log().contains("revision is active"));
    place.write("modules/broken.wasm", "this is not wasm");
    place.until_told("module refused", 1);
    place.drop_module("fraud.wasm", fraud_wasm(), b'1');
    place.until_told("revision is active", 2);
    // What is no module is told once: not again at each reload.
    place.until_told("module refused", 1);
    place.write("inbox/a.jsonl", &payments(0..100));
    place.until("it works", || flagged(&place) == 10);
    assert!(running.stop().success());
    assert_eq!(place.number("SELECT max(revision) FROM ledger.loads"), 2);
    place.adds_up();
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
    place.adds_up();
}

#[test]
fn a_module_that_a_wrong_config_kept_out_is_taken_when_the_config_is_right() {
    let place = Place::new();
    let running = place.start();
    // What does not fit is found by binding to a schema.
    place.write("inbox/a.jsonl", &payments(0..100));
    place.until("there is a schema", || flagged(&place) == 10);
    place.write("forebay.toml", &CONFIG.replace("v14_below = -8.0", WRONG));
    place.until_told("revision refused", 1);
    place.drop_module("fraud.wasm", fraud_wasm(), b'1');
    let refused = place.until_told("module refused", 1);
    assert_eq!(
        (&refused["module"], &refused["pipeline"], &refused["origin"]),
        (&"fraud".into(), &"fraud".into(), &"folder:modules/fraud.wasm".into())
    );
    assert!(refused["error"].as_str().unwrap().contains("v14_below"), "it says why: {refused}");
    assert!(refused["digest"].is_string() && refused["revision"].is_u64() && refused["revision_id"].is_string());
    place.write("forebay.toml", &CONFIG.replace("v14_below = -8.0", "v14_below = 0.0"));
    let taken = place.until_told("module is active", 2);
    assert_eq!(taken["digest"], refused["digest"]);
    place.write("inbox/b.jsonl", &payments(100..200));
    place.until("it works", || flagged(&place) == 110);
    assert!(running.stop().success());
    let (module, revisions) = active(&place);
    assert_eq!(revisions, [module]);
    place.adds_up();
}

#[test]
fn a_module_that_one_pipeline_refuses_is_taken_by_none_until_all_take_it() {
    let place = Place::new();
    let both = format!("{CONFIG}{SECOND}");
    place.write("forebay.toml", &both);
    let running = place.start();
    place.write("inbox/a.jsonl", &payments(0..100));
    place.until("there is a schema", || flagged(&place) == 10);
    let (old, _) = active(&place);
    place.write("forebay.toml", &both.replacen("v14_below = -8.0", WRONG, 1));
    place.until_told("revision refused", 1);
    place.drop_module("fraud.wasm", fraud_wasm(), b'1');
    place.until_told("module refused", 1);
    assert_eq!(active(&place), (old.clone(), vec![old.clone(), old.clone()]), "neither has it");
    place.write("forebay.toml", &both);
    place.until_told("module is active", 2);
    let (new, revisions) = active(&place);
    assert_ne!(new, old);
    assert_eq!(revisions, [new.clone(), new]);
    // A touch of the config, a restart: what was replaced does not come back.
    place.write("forebay.toml", &format!("{both}\n[maintain]\nretention = \"8d\"\n"));
    place.drop_module("other.wasm", fraud_wasm(), b'2');
    place.until_told("module is active", 3);
    assert!(running.stop().success());
    let (newest, revisions) = active(&place);
    assert_eq!(revisions, [newest.clone(), newest.clone()]);
    place.run_well(&["run", "--once"]);
    assert_eq!(active(&place), (newest.clone(), vec![newest.clone(), newest]));
    place.adds_up();
}

#[test]
fn a_wrong_module_in_the_folder_keeps_no_other_back() {
    let place = Place::new();
    let kept = |condition: &str| {
        format!(
            "{CONFIG}\n[pipelines.kept]\nfrom = \"payments\"\nroutes = {{ out = \"lake.kept\" }}\n\
             [[pipelines.kept.steps]]\nmodule = \"keep\"\nconfig = {{ {condition} }}\n"
        )
    };
    place.write("forebay.toml", &kept("column = \"Time\", above = 9"));
    place.write("questions.toml", &kept("column = \"Time\", above = 9"));
    place.drop_module("keep.wasm", keep_wasm(), b'0');
    let running = place.start();
    place.write("inbox/a.jsonl", &payments(0..100));
    place.until("both have a schema", || flagged(&place) == 10 && place.rows("lake.kept") == 90);
    place.write("forebay.toml", &kept("column = \"Time\", contains = \"9\""));
    place.until_told("revision refused", 1);
    place.drop_module("keep.wasm", keep_wasm(), b'1');
    let refused = place.until_told("module refused", 1);
    assert_eq!((&refused["module"], &refused["pipeline"]), (&"keep".into(), &"kept".into()));
    // The one that was refused still lies there.
    place.drop_module("fraud.wasm", fraud_wasm(), b'1');
    let active = place.until_told("module is active", 3);
    assert_eq!(active["module"], "fraud");
    place.write("forebay.toml", &kept("column = \"Time\", above = 199"));
    assert_eq!(place.until_told("module is active", 4)["digest"], refused["digest"]);
    assert!(running.stop().success());
    place.adds_up();
}

#[test]
fn a_pin_outlives_what_is_dropped_and_a_restart() {
    let place = Place::new();
    place.run_well(&["run", "--once"]);
    let (old, _) = active(&place);
    let pin = &old[..12];
    place.drop_module("fraud.wasm", fraud_wasm(), b'1');
    place.write("forebay.toml", &CONFIG.replace("module = \"fraud\"", &format!("module = \"fraud@sha256:{pin}\"")));
    place.run_well(&["run", "--once"]);
    let (new, revisions) = active(&place);
    assert_ne!(new, old, "the name means the new one");
    assert_eq!(revisions, [old.as_str()], "the pin the old one");
    let running = place.start();
    place.drop_module("fraud.wasm", fraud_wasm(), b'2');
    place.until_told("module is active", 1);
    assert!(running.stop().success());
    assert_eq!(active(&place).1, [old.as_str()]);
    // A digest of another module is no pin of this one.
    place.write("forebay.toml", &CONFIG.replace("module = \"fraud\"", &format!("module = \"keep@sha256:{pin}\"")));
    let output = place.run(&["run", "--once"]);
    let (_, err) = texts(&output);
    assert!(err.contains(&format!("sha256:{pin} is no module keep: it is fraud")), "{err}");
}

#[test]
fn a_run_once_goes_on_with_the_former_module_and_says_by_its_exit_that_one_was_refused() {
    let place = Place::new();
    place.write("inbox/a.jsonl", &payments(0..100));
    place.run_well(&["run", "--once"]);
    place.write("modules/broken.wasm", "this is not wasm");
    place.write("inbox/b.jsonl", &payments(100..200));
    let output = place.run(&["run", "--once"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(flagged(&place), 20);
    place.adds_up();
}
