//! Columns whose names are awkward: nothing of a record is lost, and a query finds it.

use super::seen::{PLAIN, check};
use super::support::Place;

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
    // Nothing is lost: each value is in a column or in what was rescued.
    let text = rows[0].to_string();
    for value in ["\"a\"", "\"b\"", "\"c\""] {
        assert!(text.contains(value) || text.contains(&value.replace('"', "\\\"")), "{value} in {text}");
    }
    assert_eq!(place.landed("a.jsonl"), [record.into_bytes()]);
    place.adds_up();
}
