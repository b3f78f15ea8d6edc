//! Promise 3 with real files, a rule in Wasm and real tables: two hosts that work otherwise make the same rows of the same files.

use serde_json::Value;

use super::support::{CONFIG, Place, payments};

/// Two hosts on one inbox: how each works, and the rest of its config in stores of its own.
fn config(host: &str, number: u32) -> String {
    let config = CONFIG
        .replace("\"landing\"", &format!("\"landing-{number}\""))
        .replace("sqlite:forebay.db", &format!("sqlite:forebay-{number}.db"))
        .replace("\"warehouse\"", &format!("\"warehouse-{number}\""));
    format!("{host}\n{config}")
}

/// All rows of a table by their places, but for the columns that name load and time.
fn rows(place: &Place, config: &str, table: &str) -> Vec<Value> {
    let sql = format!("SELECT * FROM {table} ORDER BY _forebay_segment, _forebay_row, _forebay_item");
    let out = place.run_well(&["-c", config, "query", &sql, "--format", "jsonl"]);
    let mut rows: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for row in &mut rows {
        let row = row.as_object_mut().unwrap();
        assert!(row.remove("_forebay_load").is_some() && row.remove("_forebay_loaded_at").is_some());
    }
    rows
}

#[test]
fn workers_memory_groups_and_deaths_make_no_difference_to_rows() {
    let place = Place::new();
    place.write("inbox/0.jsonl", &payments(0..100));
    let hosts = [
        "[host]\nworkers = 1\nmemory = \"64 MiB\"\ncommit = { max_segments = 1 }",
        "[host]\nworkers = 4\nmemory = \"512 MiB\"\ncommit = { max_segments = 64 }",
    ];
    let configs = ["one.toml", "other.toml"];
    for ((number, host), name) in (0..).zip(hosts).zip(configs) {
        place.write(name, &config(host, number));
        // The first file fixes the schema for all.
        place.run_well(&["-c", name, "run", "--once"]);
    }
    for file in 1..5_u32 {
        let bad = "{\"id\":\n{\"id\":\"text\",\"more\":[1]}\n";
        let text = format!("{}{bad}{}", payments(file * 50_000..file * 50_000 + 9_000), payments(file..file + 3_000));
        place.write(&format!("inbox/{file}.jsonl"), &text);
    }
    place.run_well(&["-c", configs[0], "run", "--once"]);
    let mut dying = place.command(&["-c", configs[1], "run", "--once"]);
    assert!(!dying.env("FOREBAY_FAILPOINT", "before_commit@2").output().unwrap().status.success());
    place.run_well(&["-c", configs[1], "run", "--once"]);
    for (table, least) in [("lake.payments", 48_000), ("lake.flagged_payments", 4_800), ("rejects.fraud", 4)] {
        let [one, other] = configs.map(|config| rows(&place, config, table));
        assert!(one.len() >= least, "{table}: {}", one.len());
        let differs = one.iter().zip(&other).find(|(one, other)| one != other);
        assert_eq!(differs, None, "{table}");
        assert_eq!(one.len(), other.len(), "{table}");
    }
}
