//! Refining loaded segments again: a fix heals what was rejected, and a replay makes all rows anew.

use forebay_model::load::Again;
use forebay_model::ports::{HealRequest, Ledger as _, ReplayRequest, RowRefusal, TransformOutput};
use forebay_model::{SegmentId, Timestamp};
use serde_json::{Map, Value, json};

use super::world::{NativeRule, World, all, indexes, lines, numbers, some, trap};

/// Refuses what is a multiple of six, and a multiple of seven for good; traps on eleven.
fn strict() -> NativeRule {
    NativeRule {
        requires: &["n"],
        routes: &["out"],
        rule: |input| {
            if indexes(input, |n| n == 11).into_iter().next().is_some() {
                return Err(trap("eleven"));
            }
            let refuse =
                |retryable| move |row| RowRefusal { row, code: "strict".into(), message: "no".into(), retryable };
            let mut refusals: Vec<_> =
                indexes(input, |n| n % 6 == 0 && n % 7 != 0).into_iter().map(refuse(true)).collect();
            refusals.extend(indexes(input, |n| n % 7 == 0).into_iter().map(refuse(false)));
            Ok(TransformOutput { emissions: vec![all(0)], refusals, ..Default::default() })
        },
    }
}

/// Refuses multiples of twelve only; everything else goes to both routes, and odd numbers nowhere.
fn fixed() -> NativeRule {
    NativeRule {
        requires: &["n"],
        routes: &["out", "other"],
        rule: |input| {
            let refuse = |row| RowRefusal { row, code: "twelve".into(), message: "no".into(), retryable: true };
            let even = indexes(input, |n| n % 2 == 0);
            Ok(TransformOutput {
                emissions: vec![some(0, even.clone()), some(1, even)],
                refusals: indexes(input, |n| n % 12 == 0).into_iter().map(refuse).collect(),
                ..Default::default()
            })
        },
    }
}

fn counts(world: &World) -> [Value; 6] {
    ["records", "loaded", "filtered", "rejected", "retryable", "generation"]
        .map(|name| world.ledger_column("refinements", name).remove(0))
}

/// The rejects as `(record, code, revision, attempts)`.
fn rejects(world: &World) -> Vec<(u64, String, u64, u64)> {
    let number = |row: &Map<String, Value>, name: &str| row[name].as_u64().unwrap();
    let of = |row: Map<String, Value>| {
        let code = row["code"].as_str().unwrap().to_owned();
        (number(&row, "_forebay_row"), code, number(&row, "revision"), number(&row, "attempts"))
    };
    let mut rejects: Vec<_> = world.rows("rejects").into_iter().map(of).collect();
    rejects.sort();
    rejects
}

#[test]
fn a_new_revision_heals_what_was_rejected_and_leaves_the_rest() {
    let mut world = World::new(Some(strict()));
    let malformed = "{\"n\":\n".to_owned();
    world.upstream.put("a.jsonl", "1", lines(0..25) + &malformed + &lines(26..30));
    world.run_well();
    let accepted = |n: &u64| !n.is_multiple_of(6) && !n.is_multiple_of(7) && *n != 11 && *n != 25;
    assert_eq!(numbers(&world.column("out", "n")), (0..30).filter(accepted).collect::<Vec<_>>());
    assert_eq!(counts(&world), [30, 19, 0, 11, 6, 0].map(Value::from));
    world.rule = Some(fixed());
    world.run_well();
    // What passes now is beside what was there; what had loaded is not looked at again, though this rule would filter half of it.
    let healed = |n: &u64| *n == 6 || *n == 18;
    let mut out: Vec<_> = (0..30).filter(|n| accepted(n) || healed(n)).collect();
    out.sort_unstable();
    assert_eq!(numbers(&world.column("out", "n")), out);
    assert_eq!(numbers(&world.column("other", "n")), [6, 18]);
    let loads: Vec<_> = numbers(&world.column("out", "_forebay_load"));
    let first = loads.iter().filter(|load| **load == 1).count();
    let later = loads.iter().filter(|load| **load > 1).collect::<std::collections::BTreeSet<_>>();
    assert_eq!((first, loads.len(), later.len()), (19, 21, 1));
    let of = |row: u64, code: &str, revision: u64, attempts: u64| (row, code.to_owned(), revision, attempts);
    assert_eq!(
        rejects(&world),
        [
            of(0, "strict", 1, 1),
            of(7, "strict", 1, 1),
            of(12, "twelve", 2, 2),
            of(14, "strict", 1, 1),
            of(21, "strict", 1, 1),
            of(24, "twelve", 2, 2),
            of(25, "malformed", 2, 2),
            of(28, "strict", 1, 1),
        ],
        "eleven is filtered now"
    );
    assert_eq!(counts(&world), [30, 21, 1, 8, 3, 1].map(Value::from));
    assert_eq!(world.ledger_column("heals", "records"), [json!(6)]);
    assert_eq!(world.ledger_column("heals", "loaded"), [json!(2)]);
    assert_eq!(world.ledger_column("again", "segment"), [] as [Value; 0]);
}

#[test]
fn the_same_revision_tries_what_it_rejected_once() {
    let mut world = World::new(Some(strict()));
    world.upstream.put("a.jsonl", "1", lines(0..20));
    world.run_well();
    world.run_well();
    assert_eq!(world.ledger_column("heals", "records"), [] as [Value; 0], "the same revision was deployed again");
    world.rule = Some(fixed());
    world.run_well();
    world.run_well();
    assert_eq!(world.ledger_column("heals", "records"), [json!(4)]);
    world.rule = Some(strict());
    world.run_well();
    assert_eq!(world.ledger_column("heals", "records"), [json!(4), json!(1)], "the former one tries what is left");
    assert_eq!(
        rejects(&world).into_iter().map(|reject| (reject.0, reject.3)).collect::<Vec<_>>(),
        [(0, 1), (7, 1), (12, 3), (14, 1)]
    );
}

#[test]
fn everything_that_was_rejected_may_heal_at_once() {
    let refusing = NativeRule {
        requires: &["n"],
        routes: &["out"],
        rule: |input| {
            let refuse = |row| RowRefusal { row, code: "never".into(), message: "no".into(), retryable: true };
            Ok(TransformOutput {
                refusals: indexes(input, |_| true).into_iter().map(refuse).collect(),
                ..Default::default()
            })
        },
    };
    let mut world = World::new(Some(refusing));
    // Several segments, and several batches in each.
    world.upstream.put("a.jsonl", "1", lines(0..30_000));
    world.upstream.put("b.jsonl", "1", lines(30_000..30_100));
    world.run_well();
    assert!(world.rows("out").is_empty());
    assert!(world.ledger_column("refinements", "state").len() > 3);
    world.rule = Some(NativeRule {
        requires: &["n"],
        routes: &["out", "other"],
        rule: |_| Ok(TransformOutput { emissions: vec![all(0)], ..Default::default() }),
    });
    world.run_well();
    let mut out = numbers(&world.column("out", "n"));
    out.sort_unstable();
    assert_eq!(out, (0..30_100).collect::<Vec<_>>());
    assert!(world.rows("rejects").is_empty());
}

#[test]
fn a_replay_replaces_the_rows_of_its_segments() {
    let mut world = World::new(Some(strict()));
    world.upstream.put("a.jsonl", "1", lines(0..20));
    world.upstream.put("b.jsonl", "1", lines(20..40));
    world.run_well();
    world.rule = Some(fixed());
    world.run_well();
    let segments = world.ledger_column("refinements", "segment");
    let one = SegmentId::from_text(segments[0].as_str().unwrap());
    let wanted = ReplayRequest { segments: vec![one], ..ReplayRequest::default() };
    let asked = world.now(world.ledger.ask_replay(&World::pipeline(), &wanted, Timestamp::EPOCH));
    assert_eq!(asked, 1);
    world.run_well();
    // One segment as the fixed rule makes it, whole; of the other the rows of before, and what healed.
    let as_fixed = |n: &u64| n.is_multiple_of(2) && !n.is_multiple_of(12);
    // Six is healed, and twelve is refused by the fixed rule as well.
    let as_healed = |n: &u64| !n.is_multiple_of(7) && !n.is_multiple_of(12) && *n != 11;
    let first_is_a = numbers(&world.column("out", "n")).iter().filter(|n| **n < 20).all(|n| n % 2 == 0);
    let (replayed, healed) = if first_is_a { (0..20, 20..40) } else { (20..40, 0..20) };
    let mut wanted: Vec<u64> = replayed.filter(as_fixed).chain(healed.filter(as_healed)).collect();
    wanted.sort_unstable();
    let mut out = numbers(&world.column("out", "n"));
    out.sort_unstable();
    assert_eq!(out, wanted);
    assert_eq!(world.ledger_column("heals", "records").len(), 1, "what was healed of the replayed one is no more");
}

#[test]
fn rejects_of_one_code_are_tried_again_when_somebody_asks() {
    let world = World::new(Some(strict()));
    world.upstream.put("a.jsonl", "1", lines(0..20));
    world.run_well();
    let of = |code: &str| HealRequest { codes: vec![code.to_owned()], ..HealRequest::default() };
    let ask = |code: &str| world.now(world.ledger.ask_heal(&World::pipeline(), &of(code), Timestamp::EPOCH));
    assert_eq!((ask("nothing"), ask("trap"), ask("strict")), (0, 1, 0), "the segment is asked for already");
    assert_eq!(world.now(world.ledger.forget_again(&World::pipeline(), Again::Heal)), 1);
    assert_eq!(ask("strict"), 1);
    world.run_well();
    assert_eq!(world.ledger_column("heals", "rejected"), [json!(4)], "tried, and refused by the same rule");
}
