//! How a host stops, and how small segments share a commit.

use std::time::{Duration, Instant};

use super::seen::PLAIN;
use super::strange_modules::guest;
use super::support::{Place, payments};

/// The plain pipeline, and one whose rule does not come back for ten minutes.
fn stuck(shutdown_seconds: u32) -> Place {
    let place = Place::with(&format!(
        "{PLAIN}\n[pipelines.stuck]\nfrom = \"events\"\nlimits = {{ call_ms = 600000 }}\n\
         [[pipelines.stuck.steps]]\nmodule = \"evil\"\nconfig = {{ behaviour = \"loop_process\" }}\n\
         [pipelines.stuck.routes]\nout = \"lake.stuck\"\n[host]\nworkers = 2\nshutdown_seconds = {shutdown_seconds}\n"
    ));
    std::fs::copy(guest("evil"), place.path("modules/evil.wasm")).unwrap();
    place.write("inbox/a.jsonl", &payments(0..100));
    place
}

/// After a stop that did not wait: a rule that comes back loads the segment, once.
fn goes_on(place: &Place) {
    let well = std::fs::read_to_string(place.path("forebay.toml")).unwrap().replace("loop_process", "passes");
    place.write("forebay.toml", &well);
    place.write("questions.toml", &well);
    place.run_well(&["run", "--once"]);
    assert_eq!((place.rows("lake.events"), place.rows("lake.stuck")), (100, 100));
    place.adds_up();
}

#[test]
fn a_stop_waits_as_long_as_the_config_says_and_the_next_start_takes_up_the_rest() {
    let place = stuck(1);
    let running = place.start();
    place.until("the other pipeline has loaded", || place.rows("lake.events") == 100);
    let began = Instant::now();
    assert_eq!(running.stop().code(), Some(0));
    // A second, and what a busy machine adds; the call would take ten minutes.
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    assert!(began.elapsed() >= Duration::from_secs(1), "it did not wait: {:?}", began.elapsed());
    place.until_told("stopped before all was finished", 1);
    goes_on(&place);
}

#[test]
fn a_second_signal_stops_at_once() {
    let place = stuck(3600);
    let running = place.start();
    place.until("the other pipeline has loaded", || place.rows("lake.events") == 100);
    running.terminate();
    place.until_told("stopping", 1);
    let began = Instant::now();
    assert_eq!(running.stop().code(), Some(130));
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    goes_on(&place);
}

#[test]
fn a_signal_while_modules_compile_ends_the_host_too() {
    let place = stuck(3600);
    // Made by nobody yet: compiling takes seconds.
    std::fs::remove_dir_all(place.path(".forebay-cache")).unwrap();
    let running = place.start();
    place.until("it has begun", || place.log().contains("landing zone taken"));
    let began = Instant::now();
    assert_eq!(running.stop().code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    goes_on(&place);
}

/// How many commits a pipeline takes that begins with so many segments, each of so many rows, waiting.
fn commits(commit: &str, segments: u32, rows: u32) -> i64 {
    let place = Place::with(PLAIN);
    for file in 0..segments {
        place.write(&format!("inbox/{file}.jsonl"), &payments(file * rows..(file + 1) * rows));
    }
    place.run_well(&["run", "--once"]);
    let late = format!(
        "{PLAIN}\n[pipelines.late]\nfrom = \"events\"\n[pipelines.late.routes]\nout = \"lake.late\"\n\
         [host]\nworkers = 1\ncommit = {commit}\n"
    );
    place.write("forebay.toml", &late);
    place.run_well(&["run", "--once"]);
    assert_eq!(place.rows("lake.late"), i64::from(segments * rows));
    place.number("SELECT count(DISTINCT _forebay_load) FROM lake.late")
}

#[test]
fn small_segments_share_a_commit_until_a_bound_is_reached() {
    assert_eq!(commits("{ max_age = \"1h\" }", 6, 10), 1);
    assert_eq!(commits("{ max_age = \"1h\", max_segments = 2 }", 6, 10), 3);
    // Each has about 700 KB.
    assert_eq!(commits("{ max_age = \"1h\", max_bytes = \"1MiB\" }", 6, 10_000), 3);
    assert!(commits("{ max_age = \"10ms\" }", 30, 1_000) > 1, "thirty segments take longer than ten milliseconds");
}

#[test]
fn a_segment_that_none_follows_waits_for_no_other() {
    let place = Place::with(&format!("{PLAIN}\n[host]\ncommit = {{ max_age = \"1h\" }}\n"));
    place.write("inbox/a.jsonl", &payments(0..100));
    let running = place.start();
    place.until("it has loaded", || place.rows("lake.events") == 100);
    assert!(running.stop().success());
}
