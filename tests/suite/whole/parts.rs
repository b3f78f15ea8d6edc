//! Pipelines, streams and warehouses that come, change and go while the host runs.

use super::support::{CONFIG, Place, payments};

/// A pipeline of its own on the same stream, without steps.
const COPY: &str = "\n[pipelines.copy]\nfrom = \"payments\"\nroutes = { out = \"lake.copies\" }\n";

/// A stream with a pipeline and a warehouse.
const POND: &str = r#"
[warehouses.pond]
type = "delta"
url = "pond"

[streams.drops]
source = { type = "files", url = "drops", settle_milliseconds = 1, scan_seconds = 1 }
format = "json"

[pipelines.drops]
from = "drops"
routes = { out = "pond.drops" }
"#;

fn rows(place: &Place, table: &str) -> i64 {
    place.rows(table)
}

#[test]
fn a_pipeline_that_is_added_refines_what_has_landed_and_one_that_is_removed_stops() {
    let place = Place::new();
    let all = format!("{CONFIG}{COPY}{POND}");
    place.write("questions.toml", &all);
    let running = place.start();
    place.write("inbox/a.jsonl", &payments(0..100));
    place.until("it is loaded", || rows(&place, "lake.payments") == 100);
    place.write("forebay.toml", &format!("{CONFIG}{COPY}"));
    place.until("what has landed before is loaded", || rows(&place, "lake.copies") == 100);
    // A stream and a warehouse too; the first pipeline goes on all the while.
    std::fs::create_dir(place.path("drops")).unwrap();
    place.write("drops/a.jsonl", &payments(0..7));
    place.write("forebay.toml", &all);
    place.until("the new stream is loaded", || rows(&place, "pond.drops") == 7);
    place.write("inbox/b.jsonl", &payments(100..200));
    place.until("both have it", || rows(&place, "lake.copies") == 200 && rows(&place, "lake.payments") == 200);
    place.write("forebay.toml", CONFIG);
    place.until_told("pipeline ended", 2);
    place.until_told("stream ended", 1);
    place.write("inbox/c.jsonl", &payments(200..300));
    place.until("the first goes on", || rows(&place, "lake.payments") == 300);
    assert_eq!(rows(&place, "lake.copies"), 200);
    // It takes up where it was.
    place.write("forebay.toml", &format!("{CONFIG}{COPY}"));
    place.until("it is back", || rows(&place, "lake.copies") == 300);
    assert_eq!(place.number("SELECT count(DISTINCT id) FROM lake.copies"), 300);
    assert!(running.stop().success());
    assert!(place.told("panicked").is_empty() && place.told("these keys").is_empty(), "{}", place.log());
    place.adds_up();
}

#[test]
fn a_stream_whose_source_changes_reads_from_there_and_its_pipelines_go_on() {
    let place = Place::new();
    std::fs::create_dir(place.path("second")).unwrap();
    let running = place.start();
    place.write("inbox/a.jsonl", &payments(0..100));
    place.until("it is loaded", || rows(&place, "lake.payments") == 100);
    place.write("second/b.jsonl", &payments(100..200));
    place.write("forebay.toml", &CONFIG.replace("url = \"inbox\"", "url = \"second\""));
    place.until("the other folder is loaded", || rows(&place, "lake.payments") == 200);
    place.write("forebay.toml", &CONFIG.replace("format = \"auto\"", "format = \"json\""));
    place.write("inbox/c.jsonl", &payments(200..300));
    place.until("and the first again", || rows(&place, "lake.payments") == 300);
    assert_eq!(place.number("SELECT count(DISTINCT id) FROM lake.payments"), 300);
    assert!(running.stop().success());
    place.adds_up();
}

#[test]
fn a_warehouse_that_cannot_be_opened_stops_nothing() {
    let place = Place::new();
    let running = place.start();
    place.until_told("revision is active", 1);
    place.write("pond", "a file where a folder should be");
    place.write("forebay.toml", &format!("{CONFIG}{POND}"));
    let told = place.until_told("the changed config cannot be taken", 1);
    assert!(told["error"].is_string(), "{told}");
    place.write("inbox/a.jsonl", &payments(0..100));
    place.until("the rest goes on", || rows(&place, "lake.payments") == 100);
    assert!(running.stop().success());
    place.adds_up();
}
