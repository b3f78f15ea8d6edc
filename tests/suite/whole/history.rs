//! A pipeline that is added later takes what had landed before beside what lands. Through the real binary.

use super::heal;
use super::seen::check;
use super::support::{Place, expr_wasm};

/// Each segment is a group of its own, so that loads tell the order.
const HOST: &str = "[host]\nworkers = 1\ncommit = { max_segments = 1 }\n\n[warehouses.lake]";

/// A second pipeline of the same stream.
const LATE: &str = "\n[pipelines.late]\nfrom = \"payments\"\n\n[pipelines.late.routes]\nout = \"lake.late\"\n";

fn config() -> String {
    heal::CONFIG.replace("[warehouses.lake]", HOST)
}

fn file(place: &Place, name: &str, ids: std::ops::Range<u32>) {
    let text: String = ids.map(|id| format!("{{\"id\":{id},\"amount\":{id},\"note\":\"{name}\"}}\n")).collect();
    place.write(&format!("inbox/{name}.jsonl"), &text);
}

/// Four files that one pipeline has loaded, a second pipeline that has begun and is paused, and four files that landed since.
fn begun() -> (Place, String) {
    let place = Place::with(&config());
    std::fs::copy(expr_wasm(), place.path("modules/expr.wasm")).unwrap();
    for (name, from) in [("a", 0), ("b", 10), ("c", 20), ("d", 30)] {
        file(&place, name, from..from + 10);
    }
    place.run_well(&["run", "--once"]);
    place.write("forebay.toml", &(config() + LATE));
    place.write("questions.toml", &(config() + LATE));
    let planned = place.sees(&["plan", "--pipeline", "late"]);
    place.run_well(&["pause", "late"]);
    place.run_well(&["run", "--once"]);
    for (name, from) in [("e", 40), ("f", 50), ("g", 60), ("h", 70)] {
        file(&place, name, from..from + 10);
    }
    place.run_well(&["run", "--once"]);
    (place, planned)
}

/// The notes of the pipeline's segments, in the order of their loads: the files' names.
fn order(place: &Place) -> String {
    if place.rows("lake.late") == 0 {
        return String::new();
    }
    let rows = place.query("SELECT DISTINCT _forebay_load, note FROM lake.late ORDER BY _forebay_load");
    rows.iter().map(|row| row["note"].as_str().unwrap().to_owned()).collect()
}

fn is_whole(place: &Place) {
    let ids = place.query("SELECT id FROM lake.late ORDER BY id");
    let ids: Vec<_> = ids.iter().map(|row| row["id"].as_i64().unwrap()).collect();
    assert_eq!(ids, (0..80).collect::<Vec<_>>());
}

#[test]
fn what_had_landed_before_goes_beside_what_lands_and_is_told() {
    let (place, planned) = begun();
    let mut seen = format!("# plan --pipeline late\n{planned}\n\n# status\n{}\n\n", place.sees(&["status"]));
    place.run_well(&["resume", "late"]);
    place.run_well(&["run", "--once"]);
    seen += &format!("# status, when it is done\n{}\n\n", place.sees(&["status"]));
    seen += &format!("# plan --pipeline late\n{}", place.sees(&["plan", "--pipeline", "late"]));
    check("history", &heal::timeless(&seen));
    let order = order(&place);
    let (mut of_new, mut of_old) = (order.clone(), order.clone());
    of_new.retain(|name| name >= 'e');
    of_old.retain(|name| name < 'e');
    // Which of the files that came together landed first is the source's business.
    let landed = place.query("SELECT key FROM ledger.segments ORDER BY number");
    let landed: String = landed.iter().map(|row| row["key"].as_str().unwrap().chars().next().unwrap()).collect();
    assert_eq!(format!("{of_old}{of_new}"), landed, "each in the order of landing, in {order}");
    let first: String = order.chars().map(|name| if name < 'e' { 'o' } else { 'n' }).collect();
    let early = first.chars().take(4).filter(|of| *of == 'n').count();
    assert!(early >= 3, "what lands does not wait for history: {order}");
    is_whole(&place);
    place.adds_up();
    assert_eq!(place.query("SELECT number FROM ledger.histories WHERE pipeline = 'late'")[0]["number"], 4);
    assert_eq!(place.query("SELECT number FROM ledger.histories WHERE pipeline = 'fraud'")[0]["number"], 0);
}

#[test]
fn a_death_anywhere_in_history_loses_and_doubles_nothing_and_a_lost_ledger_neither() {
    for point in [
        "after_schema",
        "before_open_group@4",
        "after_open_group@5",
        "before_commit@4",
        "after_commit@4",
        "before_close_load@6",
    ] {
        let (place, _) = begun();
        place.run_well(&["resume", "late"]);
        place.dies_at(point, &["run", "--once"]);
        let first = order(&place);
        let rebuilt = point == "after_commit@4";
        if rebuilt {
            place.remove_ledger();
            place.run_well(&["recover"]);
        }
        place.run_well(&["run", "--once"]);
        // A ledger that was rebuilt has the last group refined once more, behind what there was.
        assert!(rebuilt || order(&place).starts_with(&first), "{point}");
        is_whole(&place);
        // A rebuilt ledger has no counts.
        if !rebuilt {
            place.adds_up();
        }
    }
}

#[test]
fn a_pipeline_that_is_added_to_a_host_that_runs_loads_its_history() {
    let place = Place::with(&config());
    std::fs::copy(expr_wasm(), place.path("modules/expr.wasm")).unwrap();
    let running = place.start();
    file(&place, "a", 0..40);
    place.until("it is loaded", || place.rows("lake.payments") == 36);
    place.write("questions.toml", &(config() + LATE));
    place.write("forebay.toml", &(config() + LATE));
    place.until("its history is loaded", || place.rows("lake.late") == 40);
    file(&place, "b", 40..80);
    place.until("what lands is loaded", || place.rows("lake.late") == 80);
    assert_eq!(place.query("SELECT number FROM ledger.histories WHERE pipeline = 'late'")[0]["number"], 1);
    assert!(running.stop().success());
    is_whole(&place);
    place.adds_up();
}
