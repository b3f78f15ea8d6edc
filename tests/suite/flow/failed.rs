//! Segments that failed: a new revision tries them beside production, the newest first.

use std::collections::BTreeMap;

use forebay_model::ports::{Clock as _, Ledger as _, SegmentFailure, TransformOutput};
use forebay_model::{Digest, ErrorClass};
use serde_json::{Value, json};

use super::world::{Habits, NativeRule, World, all, numbers, of_n, trap};

/// An object with so many records that a rule which traps on each fails it.
fn object(number: u64) -> String {
    (number * 100..number * 100 + 40).map(|n| format!("{{\"n\":{n}}}\n")).collect()
}

fn key(number: u64) -> String {
    format!("{number:02}.jsonl")
}

/// Traps on every row.
fn broken(routes: &'static [&'static str]) -> NativeRule {
    NativeRule { requires: &["n"], routes, rule: |_| Err(trap("always")) }
}

/// Traps on every row of one object in ten.
fn better(routes: &'static [&'static str]) -> NativeRule {
    let rule = |input: &_| match of_n(input).first() {
        Some(n) if n / 100 % 10 == 3 => Err(trap("still")),
        Some(_) | None => Ok(TransformOutput { emissions: vec![all(0)], ..Default::default() }),
    };
    NativeRule { requires: &["n"], routes, rule }
}

/// Columns of a table of the ledger: the first one by the second.
fn by(world: &World, table: &str, value: &str, name: &str) -> BTreeMap<String, Value> {
    let names = world.ledger_column(table, name).into_iter().map(|name| name.as_str().unwrap().to_owned());
    names.zip(world.ledger_column(table, value)).collect()
}

/// The numbers of the objects in the order of their loads; each load has one.
fn order(world: &World) -> Vec<u64> {
    let keys = by(world, "segments", "key", "segment");
    let of = by(world, "load_segments", "number", "segment");
    let mut loads: Vec<_> = of
        .iter()
        .map(|(segment, load)| {
            let key = keys[segment].as_str().unwrap();
            (load.as_u64().unwrap(), key.trim_end_matches(".jsonl").parse().unwrap())
        })
        .collect();
    loads.sort_unstable();
    loads.into_iter().map(|(_, number)| number).collect()
}

#[test]
fn what_failed_is_tried_under_a_new_revision_beside_production_the_newest_first() {
    let mut world = World::with(Some(broken(&["out"])), Habits { group_segments: 1, ..Habits::default() });
    for number in 0..30 {
        world.upstream.put(&key(number), "1", object(number));
    }
    let (result, told) = world.run();
    result.unwrap();
    assert_eq!(told.len(), 30, "{told:?}");
    assert_eq!(world.ledger_column("refinements", "attempts"), vec![json!(1); 30]);
    // While nobody runs, as much as that lands anew.
    for number in 30..70 {
        world.upstream.put(&key(number), "1", object(number));
    }
    world.lands();
    world.rule = Some(better(&["out", "other"]));
    let (result, told) = world.run();
    result.unwrap();
    let still = |number: &u64| number % 10 == 3;
    assert_eq!(told.len(), 7, "{told:?}");

    let order = order(&world);
    let failed: Vec<_> = order.iter().copied().filter(|number| *number < 30).collect();
    assert_eq!(failed, (0..30).rev().filter(|number| !still(number)).collect::<Vec<_>>(), "the newest first");
    let new: Vec<_> = order.iter().copied().filter(|number| *number >= 30).collect();
    assert_eq!(new, (30..70).filter(|number| !still(number)).collect::<Vec<_>>());
    let end = order.iter().rposition(|number| *number >= 30).unwrap();
    let places: Vec<_> = (0..end).filter(|place| order[*place] < 30).collect();
    assert!(places.first().is_none_or(|place| *place >= 3), "production is first: {order:?}");
    assert!(places.windows(2).all(|two| two[1] - two[0] >= 4), "and has three of four: {order:?}");

    assert_eq!(numbers(&world.column("out", "n")).len(), 63 * 40);
    let keys = by(&world, "segments", "key", "segment");
    let attempts = by(&world, "refinements", "attempts", "segment");
    let states = by(&world, "refinements", "state", "segment");
    let revisions = by(&world, "refinements", "revision_id", "segment");
    let new = world.ledger_column("revisions", "revision_id").pop().unwrap();
    for (segment, key) in keys {
        let number: u64 = key.as_str().unwrap().trim_end_matches(".jsonl").parse().unwrap();
        let expected = match (still(&number), number < 30) {
            (true, true) => (json!("failed"), json!(2)),
            (true, false) => (json!("failed"), json!(1)),
            (false, _) => (json!("loaded"), json!(0)),
        };
        assert_eq!((&states[&segment], &attempts[&segment]), (&expected.0, &expected.1), "{number}");
        assert_eq!(revisions[&segment], new, "{number}");
    }
}

#[test]
fn where_everything_failed_before_the_first_schema_it_is_inferred_from_what_failed() {
    let world = World::new(Some(better(&["out"])));
    for number in 0..3 {
        world.upstream.put(&key(number), "1", object(number));
    }
    world.lands();
    let (pipeline, stream) = (World::pipeline(), World::stream());
    for item in world.now(world.ledger.work(&pipeline, &stream, world.clock.now(), &[], 9)) {
        let failure = SegmentFailure {
            segment: item.segment.id,
            generation: item.generation,
            revision: Digest::of(b"former"),
            class: ErrorClass::Operator,
            message: "nothing told its format".to_owned(),
            hint: None,
            at: world.clock.now(),
            retry_at: None,
        };
        world.now(world.ledger.fail(&pipeline, &failure));
    }
    world.run_well();
    assert_eq!(numbers(&world.column("out", "n")).len(), 3 * 40);
    assert_eq!(world.ledger_column("refinements", "state"), vec![json!("loaded"); 3]);
    assert_eq!(world.ledger_column("schemas", "version"), [json!(1)]);
}
