//! Before a new revision takes anything, it is run over what the active one has refined: one that fails on more of it is refused.

use serde_json::{Value, json};

use super::evil::records;
use super::seen::{PLAIN, check, steady};
use super::strange_modules::guest;
use super::support::Place;

const PASSES: &str = "pass";

/// The plain pipeline, and one beside it that does what a behaviour says; `settings` are lines of the pipeline's section.
pub(super) fn config(behaviour: &str, settings: &str) -> String {
    format!(
        "{PLAIN}\n[pipelines.tried]\nfrom = \"events\"\nlimits = {{ call_ms = 500 }}\n{settings}\n\
         [[pipelines.tried.steps]]\nmodule = \"evil\"\n\
         config = {{ behaviour = \"{behaviour}\", columns = [\"id\", \"reason\"] }}\n\
         [pipelines.tried.routes]\nout = \"lake.tried\"\n"
    )
}

/// A host that has loaded so many files under a behaviour.
pub(super) fn place(config: &str, files: u32) -> Place {
    let place = Place::with(config);
    std::fs::copy(guest("evil"), place.path("modules/evil.wasm")).unwrap();
    for file in 0..files {
        place.write(&format!("inbox/{file}.jsonl"), &records(file * 2_000..(file + 1) * 2_000));
    }
    place
}

pub(super) fn deployments(place: &Place) -> Value {
    let rows = place.query("SELECT revision, state FROM ledger.deployments WHERE pipeline = 'tried' ORDER BY number");
    rows.iter().map(|row| json!([row["revision"], row["state"]])).collect()
}

/// What was told of the last refusal, without what is chance or hangs on a guest's source.
fn refusal(place: &Place, told: &Value) -> String {
    let segments = place.query("SELECT segment, key FROM ledger.segments");
    let mut text = format!("{}\nhint: {}\n", told["error"].as_str().unwrap(), told["hint"].as_str().unwrap());
    for row in segments {
        text = text.replace(row["segment"].as_str().unwrap(), &format!("[of {}]", row["key"].as_str().unwrap()));
    }
    let lines = text.lines().filter(|line| !line.starts_with("  at "));
    steady(&lines.map(|line| line.split(" (in ").next().unwrap()).collect::<Vec<_>>().join("\n"))
}

#[test]
fn a_revision_that_fails_on_more_than_the_active_one_is_refused() {
    let place = place(&config(PASSES, ""), 4);
    let running = place.start();
    place.until("it is loaded", || place.rows("lake.tried") == 8_000);
    let mut told = String::new();
    for (times, behaviour) in ["panic_7th", "panic", "loop_process"].into_iter().enumerate() {
        place.write("forebay.toml", &config(behaviour, ""));
        let refused = place.until_told("revision refused", times + 1);
        told += &format!("# {behaviour}\n{}\n\n", refusal(&place, &refused));
    }
    check("dry-run", &told);
    assert_eq!(deployments(&place), json!([[1, "active"], [2, "refused"], [3, "refused"], [4, "refused"]]));
    // What it refuses by its own will is its business.
    place.write("forebay.toml", &config("reject_some", ""));
    place.until_told("revision is active", 3);
    place.write("inbox/more.jsonl", &records(8_000..8_010));
    place.until("it goes on", || place.rows("rejects.tried") > 0);
    assert_eq!(deployments(&place).as_array().unwrap().last(), Some(&json!([5, "active"])));
    assert!(running.stop().success());
    place.adds_up();
}

#[test]
fn a_revision_that_fails_as_the_active_one_does_is_taken_and_a_dry_run_can_be_left_out() {
    let place = place(&config("panic_7th", ""), 1);
    let running = place.start();
    place.until("it is loaded", || place.rows("lake.tried") == 1_998);
    // The same failures, in other words.
    place.write("forebay.toml", &config("emit_then_panic_7th", ""));
    place.until_told("revision is active", 3);
    place.write("forebay.toml", &config("panic", "deploy = { dry_run = 0 }"));
    place.until_told("revision is active", 4);
    // Where there is nothing that the active one refined, there is nothing to compare with: a fix is taken.
    place.write("inbox/more.jsonl", &records(2_000..2_100));
    place.until("it fails", || {
        place.number("SELECT count(*) FROM ledger.refinements WHERE pipeline = 'tried' AND state = 'failed'") == 1
    });
    place.write("forebay.toml", &config("panic_7th", ""));
    place.until("the fix loads it", || place.rows("lake.tried") == 1_998 + 99);
    // A person puts one back that was active, whatever it does.
    let back = place.run_well(&["rollback", "tried", "--to", "3", "--json"]);
    assert!(back.contains("\"revision\":3"), "{back}");
    assert!(running.stop().success());
    place.adds_up();
}
