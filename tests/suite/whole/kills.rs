//! Promise 2: the process dies between any two steps, and after the next start nothing is lost and nothing doubled. Here at
//! each named point; in `rounds` at moments that are drawn by lot.

use std::collections::BTreeSet;

use super::support::{CONFIG, Place, payments};

/// The named points of `run`, in the order of a record's way.
pub(super) const POINTS: [&str; 16] = [
    "after_deploy",
    "after_land",
    "after_list",
    "after_journal",
    "before_acknowledge",
    "after_schema",
    "in_refine",
    "after_refine",
    "before_open_group",
    "after_open_group",
    "before_commit",
    // Between the tables of one group.
    "before_commit@2",
    "after_commit",
    "after_commit@2",
    "before_close_load",
    "before_close_load@2",
];

/// The named points of `maintain`.
pub(super) const MAINTENANCE: [&str; 3] = ["before_compaction", "after_compaction", "in_vacuum"];

/// The segments of the zone's journal.
fn journalled(place: &Place) -> BTreeSet<String> {
    std::fs::read_dir(place.path("landing/_forebay/journal"))
        .unwrap()
        .map(|entry| std::fs::read(entry.unwrap().path()).unwrap())
        .map(|text| serde_json::from_slice::<serde_json::Value>(&text).unwrap())
        .flat_map(|entry| entry["segments"].as_array().cloned().unwrap_or_default())
        .map(|segment| segment["id"].as_str().unwrap().to_owned())
        .collect()
}

fn whole(place: &Place, records: i64) {
    let count = |sql: &str| place.number(sql);
    assert_eq!(count("SELECT count(*) FROM lake.payments"), records);
    assert_eq!(count("SELECT count(DISTINCT id) FROM lake.payments"), records);
    assert_eq!(count("SELECT count(*) FROM lake.flagged_payments"), records / 10);
    place.adds_up();
}

#[test]
fn a_death_between_any_two_steps_loses_and_doubles_nothing() {
    for point in POINTS {
        let place = Place::new();
        place.write("inbox/a.jsonl", &payments(0..500));
        place.write("inbox/b.jsonl", &payments(500..1_000));
        place.dies_at(point, &["run", "--once"]);
        place.write("inbox/c.jsonl", &payments(1_000..1_200));
        place.run_well(&["run", "--once"]);
        whole(&place, 1_200);
        place.run_well(&["run", "--once"]);
        whole(&place, 1_200);
        // What the ledger lists is journalled in the zone, whoever died in between.
        let listed = place.query("SELECT segment FROM ledger.segments");
        let listed: BTreeSet<_> = listed.iter().map(|row| row["segment"].as_str().unwrap().to_owned()).collect();
        assert_eq!(journalled(&place), listed, "{point}");
    }
}

#[test]
fn a_replaced_file_is_replaced_once_whenever_the_process_dies() {
    for point in ["after_list", "after_open_group", "before_commit", "after_commit", "before_close_load"] {
        let place = Place::new();
        place.write("inbox/a.jsonl", &payments(0..500));
        place.run_well(&["run", "--once"]);
        place.write("inbox/a.jsonl", &payments(200..1_200));
        place.dies_at(point, &["run", "--once"]);
        place.run_well(&["run", "--once"]);
        whole(&place, 1_000);
        assert_eq!(place.number("SELECT min(id) FROM lake.payments"), 200);
    }
}

#[test]
fn a_schema_that_grows_grows_once_whenever_the_process_dies() {
    for point in ["after_growth", "before_commit", "after_commit", "before_close_load"] {
        let place = Place::new();
        place.write("inbox/a.jsonl", &payments(0..100));
        place.run_well(&["run", "--once"]);
        place.write("inbox/b.jsonl", &payments(100..200).replace("\"Class\"", "\"more\":7,\"Class\""));
        place.dies_at(point, &["run", "--once"]);
        place.run_well(&["run", "--once"]);
        whole(&place, 200);
        assert_eq!(place.number("SELECT sum(more) FROM lake.payments"), 700, "{point}");
    }
}

#[test]
fn a_death_in_the_middle_of_maintenance_changes_no_row() {
    for point in MAINTENANCE {
        let place = Place::new();
        let config = format!("{CONFIG}\n[maintain]\nretention = \"1h\"\n");
        place.write("forebay.toml", &config);
        for part in 0..3_u32 {
            place.write(&format!("inbox/{part}.jsonl"), &payments(part * 100..(part + 1) * 100));
            place.run_well(&["run", "--once"]);
        }
        // Staged files that nobody will commit, and that are old enough to go.
        place.write("inbox/3.jsonl", &payments(300..400));
        place.dies_at("before_open_group", &["run", "--once"]);
        let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(7_200);
        for entry in std::fs::read_dir(place.path("warehouse/payments/_forebay")).unwrap() {
            let file = std::fs::File::options().write(true).open(entry.unwrap().path()).unwrap();
            file.set_modified(long_ago).unwrap();
        }
        place.dies_at(point, &["maintain"]);
        assert_eq!(place.number("SELECT count(DISTINCT id) FROM lake.payments"), 300, "{point}");
        assert_eq!(place.rows("lake.payments"), 300, "{point}");
        place.run_well(&["run", "--once"]);
        whole(&place, 400);
        place.run_well(&["maintain"]);
        whole(&place, 400);
    }
}

#[test]
fn a_kill_while_files_arrive_loses_and_doubles_nothing() {
    let place = Place::new();
    for round in 0..5_u32 {
        let running = place.start();
        for part in 0..4 {
            let first = (round * 4 + part) * 100;
            place.write(&format!("inbox/{first}.jsonl"), &payments(first..first + 100));
            std::thread::sleep(std::time::Duration::from_millis(u64::from(40 + 60 * round)));
        }
        running.kill();
    }
    place.run_well(&["run", "--once"]);
    whole(&place, 2_000);
}
