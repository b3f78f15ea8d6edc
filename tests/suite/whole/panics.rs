//! A thread of the host that panics all the same: its work fails with the message, and the process goes on.

use super::seen::check;
use super::support::{Place, payments};

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
    place.write("forebay.toml", &super::support::CONFIG.replace("v14_below = -8.0", "v14_below = 0.0"));
    place.until("it is told", || place.log().contains("reload failed"));
    assert!(place.log().contains("forebay panicked: failpoint in_reload"), "{}", place.log());
    place.write("inbox/a.jsonl", &payments(0..100));
    place.until("the active revision works", || place.rows("lake.payments") == 100);
    place.write("forebay.toml", &super::support::CONFIG.replace("v14_below = -8.0", "v14_below = 1.0"));
    place.until("the revision is active", || place.log().matches("revision is active").count() == 2);
    assert!(running.stop().success());
}
