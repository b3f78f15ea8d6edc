//! Promises 1, 2 and 4: nothing is lost or doubled, a bad row costs one row, records = loaded + filtered + rejected.

use std::collections::BTreeSet;

use arrow_array::Array;
use forebay_model::ports::{RowRefusal, TransformOutput};
use forebay_sources::memory::Fault;
use forebay_warehouse::memory::CommitFault;
use serde_json::{Value, json};

use super::world::{NativeRule, World, all, indexes, lines, numbers, of_n, some, trap};

#[test]
fn every_record_of_many_segments_arrives_once_and_leads_back_to_its_segment() {
    let world = World::new(None);
    world.upstream.put("a.jsonl", "1", lines(0..20_000));
    world.upstream.put("b.jsonl", "1", lines(20_000..20_010));
    world.run_well();
    assert_eq!(numbers(&world.column("out", "n")), (0..20_010).collect::<Vec<_>>());
    assert!(world.ledger_column("segments", "segment").len() > 10, "the object was cut");
    let places: BTreeSet<String> = world
        .rows("out")
        .iter()
        .map(|row| format!("{} {} {}", row["_forebay_segment"], row["_forebay_row"], row["_forebay_item"]))
        .collect();
    assert_eq!(places.len(), 20_010);
    assert_eq!(world.orphans(), Vec::<String>::new());
    // A second run finds nothing to do.
    world.run_well();
    assert_eq!(world.rows("out").len(), 20_010);
}

#[test]
fn a_malformed_line_among_good_ones_is_a_reject_with_its_text() {
    let world = World::new(None);
    world.upstream.put("a.jsonl", "1", "{\"n\":1}\n{\"n\":oops}\n[1]\n{\"n\":2}\n");
    world.run_well();
    assert_eq!(numbers(&world.column("out", "n")), [1, 2]);
    assert_eq!(numbers(&world.column("out", "_forebay_row")), [0, 3]);
    let rejects = world.rows("rejects");
    let told: Vec<_> =
        rejects.iter().map(|row| (row["code"].clone(), row["raw"].clone(), row["_forebay_row"].clone())).collect();
    assert_eq!(
        told,
        [(json!("malformed"), json!("{\"n\":oops}"), json!(1)), (json!("not_an_object"), json!("[1]"), json!(2))]
    );
    assert_eq!(world.ledger_column("refinements", "rejected"), [json!(2)]);
}

#[test]
fn a_rule_that_traps_on_the_seventh_of_each_thousand_costs_those_rows_alone() {
    let rule = NativeRule {
        requires: &["n"],
        routes: &["out"],
        rule: |input| {
            // It has emitted when it traps: nothing of that may count.
            let output = TransformOutput { emissions: vec![all(0)], ..Default::default() };
            if of_n(input).iter().any(|n| n % 1000 == 7) { Err(trap("the seventh")) } else { Ok(output) }
        },
    };
    let world = World::new(Some(rule));
    world.upstream.put("a.jsonl", "1", lines(0..9_000));
    world.run_well();
    let expected: Vec<_> = (0..9_000).filter(|n| n % 1000 != 7).collect();
    assert_eq!(numbers(&world.column("out", "n")), expected);
    let rejects = world.rows("rejects");
    assert_eq!(rejects.len(), 9);
    for reject in rejects {
        assert_eq!(
            (&reject["code"], &reject["stage"], &reject["message"]),
            (&json!("trap"), &json!("step:rule"), &json!("the seventh"))
        );
        let raw: Value = serde_json::from_str(reject["raw"].as_str().unwrap()).unwrap();
        assert_eq!(raw["n"].as_u64().unwrap() % 1000, 7);
    }
}

#[test]
fn a_rule_that_traps_on_every_row_fails_its_segments_which_wait_and_heal_with_a_new_rule() {
    let mut world = World::new(Some(NativeRule { requires: &["n"], routes: &["out"], rule: |_| Err(trap("always")) }));
    world.upstream.put("a.jsonl", "1", lines(0..100));
    let (result, told) = world.run();
    result.unwrap();
    assert_eq!(told.len(), 1);
    assert!(
        told[0].starts_with("failed: step rule fails on more than 32 rows of one batch; the first: always"),
        "{told:?}"
    );
    assert_eq!(world.ledger_column("refinements", "state"), [json!("failed")]);
    assert!(world.rows("out").is_empty() && world.rows("rejects").is_empty());
    world.rule = Some(NativeRule {
        requires: &["n"],
        routes: &["out", "other"],
        rule: |_| Ok(TransformOutput { emissions: vec![all(0)], ..Default::default() }),
    });
    world.run_well();
    assert_eq!(world.rows("out").len(), 100);
    assert_eq!(world.ledger_column("refinements", "state"), [json!("loaded")]);
}

#[test]
fn a_record_that_is_rejected_anywhere_loads_nowhere_and_the_counts_add_up() {
    let rule = NativeRule {
        requires: &["n"],
        routes: &["out", "other"],
        rule: |input| {
            let refuse = |row| RowRefusal { row, code: "odd_one".into(), message: "no".into(), retryable: false };
            Ok(TransformOutput {
                emissions: vec![some(0, indexes(input, |n| n % 2 == 0)), some(1, indexes(input, |n| n % 3 == 0))],
                refusals: indexes(input, |n| n % 6 == 0).into_iter().map(refuse).collect(),
                ..Default::default()
            })
        },
    };
    let world = World::new(Some(rule));
    world.upstream.put("a.jsonl", "1", lines(0..60));
    world.run_well();
    assert_eq!(numbers(&world.column("out", "n")), (0..60).filter(|n| n % 2 == 0 && n % 6 != 0).collect::<Vec<_>>());
    assert_eq!(numbers(&world.column("other", "n")), (0..60).filter(|n| n % 3 == 0 && n % 6 != 0).collect::<Vec<_>>());
    let count = |name: &str| world.ledger_column("refinements", name)[0].as_u64().unwrap();
    assert_eq!([count("records"), count("loaded"), count("filtered"), count("rejected")], [60, 30, 20, 10]);
    assert_eq!(world.column("rejects", "retryable"), vec![json!(false); 10]);
}

#[test]
fn several_rows_of_one_record_are_items() {
    let rule = NativeRule {
        requires: &["n"],
        routes: &["out"],
        rule: |_| Ok(TransformOutput { emissions: vec![some(0, vec![1, 0, 1, 1])], ..Default::default() }),
    };
    let world = World::new(Some(rule));
    world.upstream.put("a.jsonl", "1", lines(0..2));
    world.run_well();
    let items: Vec<_> = world.rows("out").iter().map(|row| (row["n"].clone(), row["_forebay_item"].clone())).collect();
    assert_eq!(items, [(json!(0), json!(0)), (json!(1), json!(0)), (json!(1), json!(1)), (json!(1), json!(2))]);
}

#[test]
fn a_required_column_that_is_null_missing_or_rescued_rejects_the_row_before_the_rule_sees_it() {
    let rule = NativeRule {
        requires: &["n"],
        routes: &["out"],
        rule: |input| {
            assert_eq!(input.columns[0].null_count(), 0);
            Ok(TransformOutput { emissions: vec![all(0)], ..Default::default() })
        },
    };
    let world = World::new(Some(rule));
    world.upstream.put("a.jsonl", "1", "{\"n\":1}\n{\"n\":2}\n{\"n\":null}\n{\"m\":1}\n{\"n\":\"three\"}\n");
    world.run_well();
    assert_eq!(numbers(&world.column("out", "n")), [1, 2]);
    assert_eq!(
        world.column("rejects", "code"),
        [json!("required_missing"), json!("required_missing"), json!("required_rescued")]
    );
}

#[test]
fn a_new_version_of_an_object_takes_the_place_of_the_old_rows() {
    let world = World::new(None);
    world.upstream.put("a.jsonl", "1", lines(0..5_000));
    world.upstream.put("b.jsonl", "1", lines(100_000..100_010));
    world.run_well();
    world.upstream.put("a.jsonl", "2", lines(2_000..6_000));
    world.run_well();
    let expected: Vec<_> = (2_000..6_000).chain(100_000..100_010).collect();
    assert_eq!(numbers(&world.column("out", "n")), expected);
    let states = world.ledger_column("refinements", "state");
    assert!(states.contains(&json!("superseded")));
}

#[test]
fn a_commit_whose_answer_was_lost_is_not_done_twice() {
    for fault in [CommitFault::AnswerLost, CommitFault::Refused] {
        let world = World::new(None);
        world.upstream.put("a.jsonl", "1", lines(0..100));
        world.lake.fail_next_commit(fault);
        let (result, told) = world.run();
        result.unwrap();
        assert!(told.iter().all(|line| line.starts_with("again: committing a load")), "{told:?}");
        assert_eq!(numbers(&world.column("out", "n")), (0..100).collect::<Vec<_>>());
    }
}

#[test]
fn a_load_that_the_warehouse_refuses_for_good_is_withdrawn_and_its_segments_are_refined_again() {
    let world = World::new(None);
    world.upstream.put("a.jsonl", "1", lines(0..100));
    world.run_well();
    // A changed object and rejects: one table has the group when the other refuses it, and rows are to be removed.
    world.upstream.put("a.jsonl", "2", format!("{}oops\n", lines(50..150)));
    for _ in 0..2 {
        world.upstream.put("b.jsonl", &world.rows("out").len().to_string(), lines(200..210));
        world.lake.fail_next_commit(CommitFault::NeverFits);
        let (result, told) = world.run();
        result.unwrap();
        assert!(told.iter().all(|line| line.contains("a staged file is gone, as the test asked")), "{told:?}");
        assert!(!told.is_empty());
        assert_eq!(numbers(&world.column("out", "n")), (50..150).chain(200..210).collect::<Vec<_>>());
        assert_eq!(world.rows("rejects").len(), 1);
        assert_eq!(world.orphans(), Vec::<String>::new());
        assert!(!world.ledger_column("refinements", "state").contains(&json!("failed")));
        assert!(world.ledger_column("loads", "state").contains(&json!("withdrawn")));
    }
}

#[test]
fn an_object_that_cannot_be_read_does_not_keep_the_others_back() {
    let world = World::new(None);
    world.upstream.put("a.jsonl", "1", lines(0..100));
    world.upstream.put("b.jsonl", "1", lines(100..200));
    world.upstream.fail("a.jsonl", Fault::Read, 1);
    let (result, _) = world.run();
    let landed = numbers(&world.column("out", "n"));
    assert!((100..200).all(|n| landed.contains(&n)), "{result:?}");
    world.run_well();
    assert_eq!(numbers(&world.column("out", "n")), (0..200).collect::<Vec<_>>());
    assert_eq!(world.orphans(), Vec::<String>::new());
}

#[test]
fn records_of_many_partitions_land_as_one_envelope_and_load() {
    let world = World::new(None);
    for partition in 0..3_u64 {
        let values: Vec<String> = (0..10).map(|n| format!("{{\"n\":{}}}", partition * 10 + n)).collect();
        world.upstream.append(&forebay_model::Partition::new(format!("memory:{partition}")), values);
    }
    world.run_well();
    assert_eq!(numbers(&world.column("out", "n")), (0..30).collect::<Vec<_>>());
    world.run_well();
    assert_eq!(world.rows("out").len(), 30);
}
