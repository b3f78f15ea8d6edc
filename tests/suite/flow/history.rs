//! A pipeline that is added later: what had landed before is its history.

use forebay_model::ports::{Clock as _, Ledger as _};
use forebay_model::schema::SchemaChanges;
use serde_json::json;

use super::world::World;

/// What lands while the pipeline is not there, and what lands when it is: each adds a field, and one is wider than before.
const BEFORE: [(&str, &str); 3] = [
    ("a.jsonl", "{\"id\":1,\"v\":1}\n"),
    ("b.jsonl", "{\"id\":2,\"v\":2.5,\"b\":\"x\"}\n"),
    ("c.jsonl", "{\"id\":3,\"v\":3,\"c\":true}\n"),
];
const SINCE: [(&str, &str); 2] =
    [("d.jsonl", "{\"id\":4,\"d\":{\"x\":1}}\n"), ("a.jsonl", "{\"id\":10,\"v\":7}\n{\"id\":11,\"v\":8}\n")];

/// Rows without what says when and by which load they came.
fn rows(world: &World) -> Vec<serde_json::Map<String, serde_json::Value>> {
    let mut rows = world.rows("out");
    for row in &mut rows {
        row.remove("_forebay_load");
        row.remove("_forebay_loaded_at");
    }
    rows.sort_by_key(|row| row["id"].as_u64());
    rows
}

fn world() -> World {
    let mut world = World::new(None);
    world.changes = SchemaChanges::Apply;
    world
}

#[test]
fn a_later_pipeline_has_the_rows_and_the_columns_of_one_that_was_there() {
    let (early, late) = (world(), world());
    for (key, text) in BEFORE {
        early.upstream.put(key, "1", text);
        early.run_well();
        late.upstream.put(key, "1", text);
        late.lands();
        late.clock.advance(std::time::Duration::from_secs(1));
    }
    assert!(late.rows("out").is_empty());
    for world in [&early, &late] {
        for (key, text) in SINCE {
            world.upstream.put(key, "2", text);
        }
        world.run_well();
    }
    assert_eq!(late.ledger_column("histories", "number"), [json!(3)]);
    assert_eq!(rows(&late), rows(&early));
    let ids: Vec<_> = rows(&late).iter().map(|row| row["id"].clone()).collect();
    assert_eq!(
        ids,
        [json!(2), json!(3), json!(4), json!(10), json!(11)],
        "the new version took the place of the first"
    );
    assert_eq!(rows(&late)[0]["v"], json!(2.5));
    let (pipeline, stream) = (World::pipeline(), World::stream());
    assert!(late.now(late.ledger.history(&pipeline, &stream, late.clock.now(), &[], 9)).is_empty());
    // It begins once: what lands while it is away is work as ever.
    late.upstream.put("e.jsonl", "1", "{\"id\":5}\n");
    late.lands();
    late.clock.advance(std::time::Duration::from_secs(1));
    late.run_well();
    assert_eq!((late.ledger_column("histories", "number"), rows(&late).len()), (vec![json!(3)], 6));
}

#[test]
fn a_pipeline_that_is_there_from_the_first_has_no_history() {
    let world = world();
    world.upstream.put("a.jsonl", "1", "{\"id\":1}\n");
    world.run_well();
    assert_eq!(world.ledger_column("histories", "number"), [json!(0)]);
}
