//! Loads that their tables cannot take: refused before anything moves where that can be known, else taken back and made again.

use std::path::{Path, PathBuf};

use super::support::{CONFIG, Place, payments, texts};

/// Files that are staged and not committed.
fn staged(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else if entry.extension().is_some_and(|extension| extension == "parquet") {
                found.push(entry);
            }
        }
    }
    found
}

/// Everything is there once.
fn whole(place: &Place, payments: i64) {
    assert_eq!(place.number("SELECT count(*) FROM lake.payments"), payments);
    assert_eq!(place.number("SELECT count(DISTINCT id) FROM lake.payments"), payments);
    assert_eq!(place.number("SELECT count(*) FROM ledger.refinements WHERE state = 'failed'"), 0);
    place.adds_up();
}

#[test]
fn a_table_that_is_divided_otherwise_or_another_pipelines_is_refused_before_anything_moves() {
    let divided = CONFIG
        .replace("scored = \"lake.payments\"", "scored = { table = \"lake.payments\", partition_by = [\"reason\"] }");
    let renamed = CONFIG.replace("pipelines.fraud", "pipelines.card_fraud");
    for (changed, why, hint) in [
        (divided, "a table keeps its partition columns", "set partition_by to []"),
        (renamed, "table lake.payments is another's: pipeline \"fraud\" loads it, not \"card_fraud\"", "former name"),
    ] {
        let place = Place::new();
        place.write("inbox/a.jsonl", &payments(0..100));
        place.run_well(&["run", "--once"]);
        place.write("forebay.toml", &changed);
        place.write("inbox/b.jsonl", &payments(100..200));
        for verb in [&["plan"][..], &["run", "--once"], &["run", "--once"]] {
            let output = place.run(verb);
            let (_, told) = texts(&output);
            assert_ne!(output.status.code(), Some(0), "{told}");
            assert!(told.contains(why) && told.contains(hint), "{verb:?}: {told}");
        }
        assert_eq!(place.rows("lake.payments"), 100);
        // The way back is to write the config as it was.
        place.write("forebay.toml", CONFIG);
        place.run_well(&["run", "--once"]);
        whole(&place, 200);
    }
}

/// A place with a group that is written down and of which these tables have lost their staged files: 500 payments, replaced by a
/// version with 1,000 others.
fn group_that_cannot_be_committed(tables: &[&str]) -> Place {
    let place = Place::new();
    place.write("inbox/a.jsonl", &payments(0..500));
    place.run_well(&["run", "--once"]);
    let before = staged(&place.path("warehouse"));
    place.write("inbox/a.jsonl", &payments(200..1_200));
    place.dies_at("after_open_group", &["run", "--once"]);
    let of = |path: &Path| tables.iter().any(|table| path.starts_with(place.path("warehouse").join(table)));
    let mut new = staged(&place.path("warehouse"));
    new.retain(|path| !before.contains(path) && of(path));
    assert_eq!(new.len(), tables.len());
    new.into_iter().for_each(|path| std::fs::remove_file(path).unwrap());
    place
}

/// The new version is in both tables, the old one in none.
fn is_the_new_version(place: &Place) {
    whole(place, 1_000);
    assert_eq!(place.number("SELECT min(id) FROM lake.payments"), 200);
    assert_eq!(
        place.number("SELECT count(*) FROM lake.flagged_payments"),
        place.number("SELECT count(*) FROM lake.payments WHERE flagged"),
    );
    place.adds_up();
}

#[test]
fn a_load_whose_staged_file_is_gone_is_taken_back_and_made_again() {
    // Of one table, whose group the other table has by then, and of both.
    for tables in [&["flagged_payments"][..], &["payments", "flagged_payments"]] {
        let place = group_that_cannot_be_committed(tables);
        let output = place.run(&["run", "--once"]);
        let (_, told) = texts(&output);
        assert!(told.contains("is gone") && told.contains("are refined again"), "{told}");
        place.run_well(&["run", "--once"]);
        is_the_new_version(&place);
    }
}

#[test]
fn whenever_the_process_dies_while_it_takes_a_load_back_the_load_is_made_again() {
    for point in ["before_withdraw", "in_withdraw", "after_withdraw"] {
        for ledger_is_lost in [false, true] {
            let place = group_that_cannot_be_committed(&["flagged_payments"]);
            place.dies_at(point, &["run", "--once"]);
            if ledger_is_lost {
                place.remove_ledger();
                place.run_well(&["recover"]);
            }
            place.run(&["run", "--once"]);
            place.run_well(&["run", "--once"]);
            is_the_new_version(&place);
        }
    }
}
