//! Promise 3: the same bytes, revision and schema make the same rows, however the host happens to work.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use forebay_model::column;
use forebay_model::ports::{RowRefusal, TransformOutput};
use serde_json::{Map, Value};

use super::world::{Habits, NativeRule, World, some, trap};

/// Rows by their places: segment, record and item.
type Rows = BTreeMap<(String, u64, u64), Map<String, Value>>;

/// Traps, refuses, filters, doubles and divides, by the row and nothing else.
fn rule() -> NativeRule {
    NativeRule {
        requires: &["n"],
        routes: &["out", "odd"],
        rule: |input| {
            use arrow_array::cast::AsArray;
            let values = input.columns[0].as_primitive::<arrow_array::types::Int64Type>().values();
            if values.iter().any(|n| n % 1_009 == 7) {
                return Err(trap("seven of 1,009"));
            }
            let mut output = TransformOutput::default();
            let (mut out, mut odd) = (Vec::new(), Vec::new());
            for (row, n) in (0_u32..).zip(values.iter()) {
                match n % 5 {
                    0 => {}
                    1 => {
                        let (code, message) = ("one".into(), "one of five".into());
                        output.refusals.push(RowRefusal { row, code, message, retryable: true });
                    }
                    2 => out.extend([row, row, row]),
                    _ => out.push(row),
                }
                if n % 2 == 1 {
                    odd.push(row);
                }
            }
            output.emissions = vec![some(0, out), some(1, odd)];
            Ok(output)
        },
    }
}

/// Records of which some are malformed, some are long, and some have what the first object did not have.
fn text(range: std::ops::Range<u64>) -> String {
    let mut text = String::new();
    for n in range {
        match n % 97 {
            3 => writeln!(text, "{{\"n\":{n},").unwrap(),
            4 => writeln!(text, "{{\"n\":\"{n}\"}}").unwrap(),
            5 => writeln!(text, "{{\"n\":{n},\"later\":[{n}],\"f\":{n}.5}}").unwrap(),
            6 => writeln!(text, "{{\"n\":{n},\"pad\":\"{}\"}}", "ü".repeat(3_000)).unwrap(),
            _ => writeln!(text, "{{\"n\":{n},\"pad\":\"text {n}\",\"f\":0.25}}").unwrap(),
        }
    }
    text
}

/// The rows of all tables, but for the columns that name load and time.
fn rows(world: &World) -> BTreeMap<&'static str, Rows> {
    let of = |table: &'static str| {
        let mut places = Rows::new();
        for mut row in world.rows(table) {
            assert!(row.remove(column::LOAD).is_some() && row.remove(column::LOADED_AT).is_some());
            let number = |name: &str| row[name].as_u64().unwrap();
            let segment = row[column::SEGMENT].as_str().unwrap().to_owned();
            let place = (segment, number(column::ROW), number(column::ITEM));
            assert!(places.insert(place.clone(), row).is_none(), "{table}: {place:?} is there twice");
        }
        (table, places)
    };
    ["out", "odd", "rejects"].into_iter().map(of).collect()
}

fn run(habits: Habits) -> BTreeMap<&'static str, Rows> {
    let world = World::with(Some(rule()), habits);
    // The first object fixes the schema for all: which of many is decoded first is no promise.
    world.upstream.put("first.jsonl", "1", text(0..100));
    world.run_well();
    world.clock.advance(Duration::from_secs(habits.chance));
    for (object, first) in ["b.jsonl", "a.jsonl", "c.jsonl"].into_iter().zip([100, 12_000, 12_500]) {
        world.upstream.put(object, "1", text(first..first + 12_000));
    }
    world.run_well();
    rows(&world)
}

#[test]
fn chunks_workers_groups_and_chance_make_no_difference_to_rows() {
    let wanted = run(Habits::default());
    assert!(wanted["out"].len() > 20_000 && wanted["odd"].len() > 10_000 && wanted["rejects"].len() > 5_000);
    let segments: std::collections::BTreeSet<_> = wanted["out"].keys().map(|(segment, _, _)| segment).collect();
    assert!(segments.len() > 10, "objects are cut, and batches end within segments: {}", segments.len());
    let others = [
        Habits { chunk: 7, read: 13, ..Habits::default() },
        Habits { chunk: 1 << 20, read: 4_096, workers: 1, batch: 1, ..Habits::default() },
        Habits { workers: 5, group_segments: 1, chance: 77, ..Habits::default() },
        Habits { chunk: 65_537, read: 8_191, workers: 3, group_segments: 50, batch: 2, chance: 3 },
    ];
    for habits in others {
        let found = run(habits);
        for (table, wanted) in &wanted {
            let found = &found[table];
            let differs = wanted.iter().find(|(place, row)| found.get(place) != Some(row));
            assert_eq!(differs.map(|(place, row)| (place, row, found.get(place))), None, "{table}, {habits:?}");
            assert_eq!(found.len(), wanted.len(), "{table} has more rows, {habits:?}");
        }
    }
}
