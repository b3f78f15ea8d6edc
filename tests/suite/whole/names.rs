//! Columns whose names are awkward: nothing of a record is lost, and a query finds it.

use serde_json::Value;

use super::seen::{PLAIN, check};
use super::support::Place;

/// All values, as texts.
fn values(value: &Value) -> Vec<String> {
    match value {
        Value::Object(fields) => fields.values().flat_map(values).collect(),
        Value::Array(items) => items.iter().flat_map(values).collect(),
        Value::Null => Vec::new(),
        Value::String(text) => vec![text.clone()],
        Value::Bool(_) | Value::Number(_) => vec![value.to_string()],
    }
}

fn sorted(mut values: Vec<String>) -> Vec<String> {
    values.sort();
    values
}

/// The values of a table's row that the record brought.
fn kept(row: &Value) -> Vec<String> {
    let is_own = |name: &str| name.starts_with("_forebay_");
    let columns = row.as_object().unwrap().iter().filter(|(name, _)| !is_own(name));
    let mut kept: Vec<_> = columns.flat_map(|(_, value)| values(value)).collect();
    if let Some(rescued) = row["_forebay_rescued"].as_str() {
        kept.extend(values(&serde_json::from_str(rescued).unwrap()));
    }
    sorted(kept)
}

#[test]
fn names_that_differ_in_case_hold_spaces_dots_quotes_or_300_characters_are_kept_or_rescued() {
    let place = Place::with(PLAIN);
    let long = "n".repeat(300);
    let record = format!(
        "{{\"id\":1,\"Name\":\"a\",\"name\":\"b\",\"NAME\":\"c\",\"with space\":1,\"with_space\":2,\"dotted.name\":3,\
         \"quo\\\"te\":4,\"tick`s'\":5,\"{long}\":6,\"\":7,\"a,b;c{{}}()=\\t\\n\":8,\"_forebay_row\":9,\"ünï😀\":10,\
         \"SELECT\":11,\"../up\":12,\"o\":{{\"In\":1,\"in\":2,\"a b\":3,\"a_b\":5,\"A_b\":6,\"a.b\":4}}}}\n"
    );
    place.write("inbox/a.jsonl", &record);
    place.write("inbox/b.csv", &format!("id,Name,name,dotted.name,\"quo\"\"te\",{long}\n2,a,b,3,4,5\n"));
    check("names", &place.sees(&["run", "--once"]));
    let rows = place.query("SELECT * EXCLUDE (_forebay_segment, _forebay_loaded_at) FROM lake.events ORDER BY id");
    check("names-rows", &rows.iter().map(|row| serde_json::to_string_pretty(row).unwrap() + "\n").collect::<String>());
    let named = place.query("SELECT \"dotted.name\" AS a, \"quo\"\"te\" AS b FROM lake.events WHERE id = 1");
    assert_eq!(named[0].to_string(), r#"{"a":3,"b":4}"#);
    // Nothing is lost and nothing doubled: each value is in one column, or in what was rescued.
    let csv = ["2", "a", "b", "3", "4", "5"].map(str::to_owned).to_vec();
    for (row, wanted) in rows.iter().zip([values(&serde_json::from_str(&record).unwrap()), csv]) {
        assert_eq!(kept(row), sorted(wanted), "{row}");
    }
    assert_eq!(place.landed("a.jsonl"), [record.into_bytes()]);
    place.adds_up();
}
