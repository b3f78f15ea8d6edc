//! A thread of the host that panics all the same: its work fails with the message, and the process goes on.

use super::seen::check;
use super::support::{CONFIG, Place, fraud_wasm, payments};

fn with_fault(place: &Place, fault: &str) -> String {
    let mut command = place.command(&["run", "--once"]);
    command.env("FOREBAY_FAILPOINT", fault);
    place.seen_of(command)
}

#[test]
fn a_worker_that_panics_fails_its_segment_and_the_others_load() {
    let place = Place::new();
    for part in 0..4 {
        place.write(&format!("inbox/{part}.jsonl"), &payments(part * 100..(part + 1) * 100));
    }
    check("panic-worker", &with_fault(&place, "panic:in_refine@2"));
    assert_eq!(place.rows("lake.payments"), 300);
    assert_eq!(place.number("SELECT count(*) FROM ledger.refinements WHERE state = 'failed'"), 1);
    // Which of the four came second is chance.
    let failures = place.failures();
    let told: Vec<_> = failures.split(' ').filter(|word| !word.ends_with(".jsonl")).collect();
    check("panic-worker-ledger", &told.join(" "));
    place.run_well(&["run", "--once"]);
    assert_eq!(place.rows("lake.payments"), 400);
    place.adds_up();
}

#[test]
fn a_worker_that_panics_in_a_host_that_runs_fails_its_segment_and_what_comes_later_loads() {
    let place = Place::new();
    let mut running = place.start_with("FOREBAY_FAILPOINT", "panic:in_refine@2");
    let failed = "SELECT count(*) FROM ledger.refinements WHERE state = 'failed'";
    for part in 0..4_u32 {
        place.write(&format!("inbox/{part}.jsonl"), &payments(part * 100..(part + 1) * 100));
        let loaded = i64::from(if part == 0 { 100 } else { part * 100 });
        place.until(&format!("file {part} is done with"), || {
            place.rows("lake.payments") == loaded && place.number(failed) == i64::from(part > 0)
        });
    }
    check("panic-worker-running", &place.failures());
    assert!(running.is_alive(), "{}", place.log());
    assert!(!place.log().contains("is started again"), "no other work ended with it: {}", place.log());
    assert!(running.stop().success());
    place.run_well(&["run", "--once"]);
    assert_eq!(place.rows("lake.payments"), 400);
    assert_eq!(place.number("SELECT count(DISTINCT id) FROM lake.payments"), 400);
    place.adds_up();
}

/// Where each part of the host panics: the run ends, says so, and the next one has everything.
#[test]
fn a_panic_anywhere_else_ends_its_stream_or_pipeline_with_the_message() {
    let points = [
        "after_land",
        "after_list",
        "before_acknowledge",
        "after_schema",
        "before_open_group",
        "after_open_group",
        "before_commit",
        "after_commit",
        "before_close_load",
    ];
    let mut told = String::new();
    for point in points {
        let place = Place::new();
        place.write("inbox/a.jsonl", &payments(0..100));
        place.write("inbox/b.jsonl", &payments(100..200));
        told += &format!("# {point}\n{}\n\n", with_fault(&place, &format!("panic:{point}@1")));
        place.run_well(&["run", "--once"]);
        assert_eq!(place.rows("lake.payments"), 200, "{point}");
        assert_eq!(place.number("SELECT count(DISTINCT id) FROM lake.payments"), 200, "{point}");
        place.adds_up();
    }
    check("panic-elsewhere", &told);
}

#[test]
fn a_reload_that_panics_is_told_and_the_next_one_works() {
    let place = Place::new();
    let running = place.start_with("FOREBAY_FAILPOINT", "panic:in_reload@1");
    place.until("it runs", || place.log().contains("revision is active"));
    place.write("forebay.toml", &CONFIG.replace("v14_below = -8.0", "v14_below = 0.0"));
    place.until("it is told", || place.log().contains("reload failed"));
    assert!(place.log().contains("forebay panicked: failpoint in_reload"), "{}", place.log());
    place.write("inbox/a.jsonl", &payments(0..100));
    place.until("the active revision works", || place.rows("lake.payments") == 100);
    place.write("forebay.toml", &CONFIG.replace("v14_below = -8.0", "v14_below = 1.0"));
    place.until("the revision is active", || place.log().matches("revision is active").count() == 2);
    assert!(running.stop().success());
    place.adds_up();
}

/// A pipeline of its own on the same stream, without steps.
const COPY: &str = "\n[pipelines.copy]\nfrom = \"payments\"\nroutes = { out = \"lake.copies\" }\n";

/// In a host that runs, what a panic ended is started again, and takes up where it was.
#[test]
fn what_a_panic_ended_is_started_again_and_loads_everything_once() {
    for (point, what) in [("before_commit", "pipeline"), ("after_open_group", "pipeline"), ("after_list", "stream")] {
        let place = Place::new();
        let config = format!("{CONFIG}{COPY}");
        place.write("forebay.toml", &config);
        place.write("questions.toml", &config);
        let running = place.start_with("FOREBAY_FAILPOINT", &format!("panic:{point}@1"));
        place.write("inbox/a.jsonl", &payments(0..100));
        let both = |rows| place.rows("lake.payments") == rows && place.rows("lake.copies") == rows;
        place.until("both have it", || both(100));
        let stopped = place.until_told(&format!("{what} stopped"), 1);
        assert_eq!(stopped["error"], format!("forebay panicked: failpoint {point}"), "{stopped}");
        let again = place.until_told(&format!("{what} is started again after a pause"), 1);
        assert_eq!((again["times"].as_u64(), again["pause_ms"].as_u64()), (Some(1), Some(200)), "{again}");
        place.write("inbox/b.jsonl", &payments(100..200));
        place.until("both go on", || both(200));
        assert!(running.stop().success(), "{point}");
        for table in ["lake.payments", "lake.copies"] {
            assert_eq!(place.number(&format!("SELECT count(DISTINCT id) FROM {table}")), 200, "{point}");
        }
        place.adds_up();
    }
}

#[test]
fn a_module_for_a_pipeline_that_does_not_run_is_told_as_active_once_it_does() {
    let place = Place::new();
    let running = place.start_with("FOREBAY_FAILPOINT", "panic:before_open_group");
    place.until_told("revision is active", 1);
    place.write("inbox/a.jsonl", &payments(0..100));
    let ends = || place.told("pipeline is started again after a pause");
    // By then it pauses for seconds.
    place.until("it has ended six times", || ends().len() == 6);
    let pauses: Vec<_> = ends().iter().filter_map(|told| told["pause_ms"].as_u64()).collect();
    assert_eq!(pauses, [200, 400, 800, 1_600, 3_200, 6_400]);
    place.drop_module("fraud.wasm", fraud_wasm(), b'1');
    let waits = place.until_told("revision waits: the pipeline does not run", 1);
    assert_eq!(waits["revision"], 2, "{waits}");
    assert_eq!(place.told("revision is active").len(), 1, "{}", place.log());
    let active = "SELECT max(r.revision) FROM ledger.deployments d JOIN ledger.revisions r \
                  ON r.revision_id = d.revision_id AND r.pipeline = d.pipeline WHERE d.state = 'active'";
    assert_eq!(place.number(active), 1);
    let told = place.until_told("revision is active", 2);
    assert_eq!(told["revision"], 2, "{told}");
    assert_eq!(place.number(active), 2);
    running.kill();
    place.run_well(&["run", "--once"]);
    assert_eq!(place.number("SELECT count(DISTINCT id) FROM lake.payments"), 100);
    assert_eq!(place.number("SELECT min(revision) FROM ledger.loads"), 2);
    place.adds_up();
}
