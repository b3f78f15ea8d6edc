//! Promise 8: a schema change stops nothing.

use forebay_model::ports::Ledger as _;
use forebay_model::schema::SchemaChanges;
use serde_json::{Value, json};

use super::world::World;

fn column_of(world: &World, name: &str) -> Vec<Value> {
    let mut rows = world.rows("out");
    rows.sort_by_key(|row| row["id"].as_u64());
    rows.iter().map(|row| row.get(name).cloned().unwrap_or(json!("no column"))).collect()
}

fn rescued(world: &World) -> Vec<Value> {
    column_of(world, "_forebay_rescued")
}

#[test]
fn a_new_field_becomes_a_column_and_old_rows_have_null() {
    let world = World::new(None);
    world.upstream.put("a.jsonl", "1", "{\"id\":1}\n");
    world.run_well();
    world.upstream.put("b.jsonl", "1", "{\"id\":2,\"geo\":{\"city\":\"Oslo\"}}\n");
    world.run_well();
    world.upstream.put("c.jsonl", "1", "{\"id\":3,\"geo\":{\"city\":\"Rome\",\"zip\":7}}\n");
    world.run_well();
    assert_eq!(
        column_of(&world, "geo"),
        [json!(null), json!({"city":"Oslo","zip":null}), json!({"city":"Rome","zip":7})]
    );
    assert_eq!(rescued(&world), vec![json!(null); 3]);
}

#[test]
fn a_value_of_another_type_is_rescued_not_coerced() {
    let world = World::new(None);
    world.upstream.put("a.jsonl", "1", "{\"id\":1,\"v\":\"x\"}\n{\"id\":2,\"v\":7}\n{\"id\":3,\"v\":\"y\"}\n");
    world.run_well();
    assert_eq!(column_of(&world, "v"), [json!("x"), json!(null), json!("y")]);
    assert_eq!(rescued(&world), [json!(null), json!("{\"v\":7}"), json!(null)]);
}

#[test]
fn integers_that_turn_out_to_be_floats_widen_the_column() {
    let world = World::new(None);
    world.upstream.put("a.jsonl", "1", "{\"id\":1,\"v\":7}\n");
    world.run_well();
    world.upstream.put("b.jsonl", "1", "{\"id\":2,\"v\":7.5}\n");
    world.run_well();
    assert_eq!(column_of(&world, "v"), [json!(7.0), json!(7.5)]);
    assert_eq!(rescued(&world), vec![json!(null); 2]);
}

#[test]
fn a_table_that_is_too_large_to_rewrite_keeps_its_integers_and_shows_the_change() {
    let mut world = World::new(None);
    world.upstream.put("a.jsonl", "1", "{\"id\":1,\"v\":7}\n");
    world.run_well();
    world.widen_max_bytes = 0;
    world.upstream.put("b.jsonl", "1", "{\"id\":2,\"v\":7.5}\n{\"id\":3,\"v\":8.0}\n");
    world.run_well();
    assert_eq!(column_of(&world, "v"), [json!(7), json!(null), json!(8)]);
    assert_eq!(rescued(&world)[1], json!("{\"v\":7.5}"));
    assert_eq!(world.ledger_column("held_changes", "reason"), [json!("too large to rewrite")]);
}

#[test]
fn a_held_field_is_rescued_until_it_is_approved() {
    let mut world = World::new(None);
    world.changes = SchemaChanges::Hold;
    world.upstream.put("a.jsonl", "1", "{\"id\":1}\n");
    world.run_well();
    world.upstream.put("b.jsonl", "1", "{\"id\":2,\"v\":7}\n");
    world.run_well();
    assert_eq!(column_of(&world, "v"), vec![json!("no column"); 2]);
    assert_eq!(rescued(&world)[1], json!("{\"v\":7}"));
    assert_eq!(world.ledger_column("held_changes", "column_name"), [json!("v")]);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert!(runtime.block_on(world.ledger.approve_change(&"lake.out".parse().unwrap(), "v")).unwrap());
    world.upstream.put("c.jsonl", "1", "{\"id\":3,\"v\":8}\n");
    world.run_well();
    assert_eq!(column_of(&world, "v"), [json!(null), json!(null), json!(8)]);
}

#[test]
fn a_table_that_rescues_never_grows() {
    let mut world = World::new(None);
    world.changes = SchemaChanges::Rescue;
    world.upstream.put("a.jsonl", "1", "{\"id\":1}\n");
    world.run_well();
    world.upstream.put("b.jsonl", "1", "{\"id\":2,\"v\":7}\n");
    world.run_well();
    assert_eq!(column_of(&world, "v"), vec![json!("no column"); 2]);
    assert_eq!(rescued(&world)[1], json!("{\"v\":7}"));
    assert_eq!(world.ledger_column("held_changes", "column_name"), Vec::<Value>::new());
}

#[test]
fn an_object_without_a_field_is_no_end_of_the_world() {
    let world = World::new(None);
    world.upstream.put("a.jsonl", "1", "{}\n");
    world.upstream.put("b.jsonl", "1", "");
    world.run_well();
    world.upstream.put("c.jsonl", "1", "{\"id\":1}\n");
    world.run_well();
    assert_eq!(world.rows("out").len(), 2);
}
