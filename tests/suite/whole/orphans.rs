//! Objects of the landing zone whose landing died: swept when they are old, never anything else.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::support::{Place, payments, texts};

/// The objects of the zone, relative to it.
fn objects(place: &Place) -> Vec<String> {
    let root = place.path("landing");
    let mut found = Vec::new();
    let mut folders = vec![root.join("payments")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

fn make_old(path: &PathBuf) {
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(30 * 24 * 60 * 60)).unwrap();
}

fn zone_line(place: &Place, arguments: &[&str]) -> String {
    let out = place.run_well(arguments);
    let at = out.find("landing zone: ").unwrap_or_else(|| panic!("{out}"));
    out[at..].trim_end().to_owned()
}

#[test]
fn an_object_whose_landing_died_is_swept_when_it_is_old_and_nothing_else() {
    let place = Place::new();
    place.write("inbox/a.jsonl", &payments(0..100));
    place.dies_at("after_land", &["run", "--once"]);
    let orphan = objects(&place);
    assert_eq!(orphan.len(), 1);
    place.run_well(&["run", "--once"]);
    // What another wrote there, what is listed, and what is journalled and not listed.
    std::fs::write(place.path("landing/payments/notes.txt"), "a note").unwrap();
    let attempt = "00000000-0000-4000-8000-00000000abcd";
    let day = PathBuf::from(&orphan[0]).parent().unwrap().to_owned();
    let journalled = day.join(format!("{attempt}-0-x.jsonl")).to_str().unwrap().to_owned();
    std::fs::write(place.path("landing").join(&journalled), "{}\n").unwrap();
    let damaged = format!("landing/_forebay/journal/20200101T000000.000000Z-{attempt}.json.damaged");
    std::fs::write(place.path(&damaged), "{").unwrap();
    let left = place.path("landing/_forebay/tmp/left");
    std::fs::write(&left, "half").unwrap();

    let all = objects(&place);
    assert_eq!(zone_line(&place, &["maintain"]), "landing zone: 0 orphans (0 B) removed", "it is young");
    assert_eq!(objects(&place), all);
    all.iter().for_each(|name| make_old(&place.path("landing").join(name)));
    make_old(&left);
    let size = std::fs::metadata(place.path("landing").join(&orphan[0])).unwrap().len();
    assert!(size > 1024);
    let would = zone_line(&place, &["maintain", "--dry-run"]);
    assert!(would.starts_with("landing zone: 1 orphan (") && would.ends_with(") would be removed"), "{would}");
    assert_eq!(objects(&place), all, "a dry run removes nothing");
    let of_a_table = place.run_well(&["maintain", "--table", "lake.payments"]);
    assert!(!of_a_table.contains("landing zone"), "{of_a_table}");
    assert_eq!(objects(&place), all);
    let done = zone_line(&place, &["maintain"]);
    assert!(done.starts_with("landing zone: 1 orphan ("), "{done}");
    assert!(done.ends_with(" removed\n  1 unfinished file of dead processes removed"), "{done}");
    let expected: Vec<_> = all.iter().filter(|name| **name != orphan[0]).cloned().collect();
    assert_eq!(objects(&place), expected);
    assert_eq!(zone_line(&place, &["maintain"]), "landing zone: 0 orphans (0 B) removed");
    assert_eq!(place.rows("lake.payments"), 100);
    place.adds_up();
}

#[test]
fn the_host_that_runs_sweeps_what_was_left_before_it_started() {
    let place = Place::new();
    place.write("inbox/a.jsonl", &payments(0..100));
    place.dies_at("after_land", &["run", "--once"]);
    let orphan = objects(&place);
    make_old(&place.path("landing").join(&orphan[0]));
    let running = place.start();
    place.until("it is loaded", || place.rows("lake.payments") == 100);
    let done = zone_line(&place, &["maintain"]);
    assert!(done.starts_with("landing zone: 1 orphan ("), "{done}");
    assert!(!place.path("landing").join(&orphan[0]).exists());
    assert!(running.stop().success());
    place.adds_up();
}

#[test]
fn a_listed_object_that_is_gone_is_told() {
    let place = Place::new();
    place.write("inbox/a.jsonl", &payments(0..100));
    place.run_well(&["run", "--once"]);
    let gone = objects(&place);
    std::fs::remove_file(place.path("landing").join(&gone[0])).unwrap();
    let told = zone_line(&place, &["maintain"]);
    assert_eq!(
        told,
        format!(
            "landing zone: 0 orphans (0 B) removed\n  1 listed object not there, restore them from a backup of the zone: {}",
            gone[0]
        )
    );
    place.remove_ledger();
    let out = place.run_well(&["recover"]);
    assert!(out.contains(&format!("{} is not in the landing zone, or not whole", gone[0])), "{out}");
}

#[test]
fn the_zone_of_a_newer_ledger_is_not_swept() {
    let place = Place::new();
    place.write("inbox/a.jsonl", &payments(0..100));
    place.run_well(&["run", "--once"]);
    let old = place.copy_ledger();
    place.write("inbox/b.jsonl", &payments(100..200));
    // It lands, and loads nothing: the tables are as the old ledger knows them.
    place.dies_at("before_open_group", &["run", "--once"]);
    let newer = place.copy_ledger();
    let all = objects(&place);
    all.iter().for_each(|name| make_old(&place.path("landing").join(name)));
    place.put_back(&old);
    let output = place.run(&["maintain"]);
    let (out, _) = texts(&output);
    assert_eq!(output.status.code(), Some(1));
    assert!(out.contains("landing zone: failed: the ledger is older than its landing zone: "), "{out}");
    assert_eq!(objects(&place), all);
    // Nor where its tables are newer too: then nothing is maintained.
    place.put_back(&newer);
    place.run_well(&["run", "--once"]);
    place.put_back(&old);
    assert_eq!(place.run(&["maintain"]).status.code(), Some(3));
    assert_eq!(objects(&place), all);
}
