//! Tables that the real binary leaves after a life of its own: nested columns, a column that grew and one that was widened, versions
//! replaced, rejects, compaction. With `FOREBAY_KEEP_TABLES` they stay for other engines (`tests/services`).

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::seen::PLAIN;
use super::support::Place;

#[test]
fn tables_of_a_whole_life_can_be_read() {
    let place = Place::with(PLAIN);
    place.write(
        "inbox/a.jsonl",
        "{\"id\":1,\"amount\":2,\"shape\":{\"kind\":\"a\",\"sizes\":[1,2]}}\n{\"id\":2,\"amount\":3}\nno json\n",
    );
    place.run_well(&["run", "--once"]);
    // A new column, a new field of an object, and integers that turn out to be numbers.
    place.write(
        "inbox/b.jsonl",
        "{\"id\":3,\"amount\":2.5,\"shape\":{\"kind\":\"b\",\"sizes\":[],\"round\":true},\"new col\":\"x\"}\n",
    );
    place.run_well(&["run", "--once"]);
    place.write("inbox/c.csv", "id,amount,at\n4,1.25,2026-01-02T03:04:05Z\n5,,\n");
    place.run_well(&["run", "--once"]);
    place.run_well(&["maintain"]);
    // A version that takes the place of rows in a file that was compacted; and rows after the compaction.
    place.write("inbox/a.jsonl", "{\"id\":1,\"amount\":20}\nno json either\n");
    place.write("inbox/d.jsonl", "{\"id\":6,\"amount\":7}\n");
    place.run_well(&["run", "--once"]);
    place.adds_up();
    let amounts = place.query("SELECT id, amount FROM lake.events ORDER BY id");
    let amounts: Vec<_> = amounts.iter().map(|row| (row["id"].as_i64(), row["amount"].as_f64())).collect();
    let expected = [(1, Some(20.0)), (3, Some(2.5)), (4, Some(1.25)), (5, None), (6, Some(7.0))];
    assert_eq!(amounts, expected.map(|(id, amount)| (Some(id), amount)));
    assert_eq!(place.rows("lake.plain_rejects"), 1);
    let Some(folder) = std::env::var_os("FOREBAY_KEEP_TABLES").map(PathBuf::from) else { return };
    for table in ["events", "plain_rejects"] {
        let to = folder.join("whole_life").join(table);
        copy(&place.path("warehouse").join(table), &to);
        std::fs::write(to.join("expected.json"), expectation(&place, table).to_string()).unwrap();
    }
}

/// What `tests/services/readers.py` holds other engines against.
fn expectation(place: &Place, table: &str) -> Value {
    let columns = place.query(&format!(
        "SELECT column_name AS name, data_type AS type FROM information_schema.columns
         WHERE table_schema = 'lake' AND table_name = '{table}'"
    ));
    let (mut counts, mut sums) = (Map::new(), Map::new());
    for column in &columns {
        let name = column["name"].as_str().unwrap();
        let of = |what: &str| {
            place.query(&format!("SELECT {what}(\"{name}\") AS answer FROM lake.{table}"))[0]["answer"].clone()
        };
        counts.insert(name.to_owned(), of("count"));
        if ["Int64", "Float64"].contains(&column["type"].as_str().unwrap()) {
            sums.insert(name.to_owned(), of("sum"));
        }
    }
    let segments =
        place.query(&format!("SELECT _forebay_segment AS value, count(*) AS rows FROM lake.{table} GROUP BY 1"));
    let points =
        segments.iter().map(|row| json!({ "column": "_forebay_segment", "value": row["value"], "rows": row["rows"] }));
    json!({ "rows": place.rows(&format!("lake.{table}")), "counts": counts, "sums": sums, "points": points.collect::<Vec<_>>() })
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(std::fs::copy(entry.path(), to).unwrap()),
        }
    }
}
