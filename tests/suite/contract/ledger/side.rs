//! Replays into tables beside those of their pipeline.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, SchemaRef};
use forebay_model::load::LoadGroup;
use forebay_model::ports::{Ledger, Side, WorkItem};
use forebay_model::{ErrorClass, PipelineName, Revision, SegmentId};

use super::catalog::revision;
use super::support::*;

fn side() -> Side {
    Side {
        id: uuid::Uuid::from_u128(7),
        name: pipeline().side("v2").unwrap(),
        of: pipeline(),
        revision: revision(-8.0).id(),
        workers: std::num::NonZeroU32::new(1),
        reason: "forebay replay by alice@laptop".to_owned(),
        asked_at: at(5),
        dropped: false,
    }
}

/// Its own revision; the tables are not what this is about.
fn own() -> Revision {
    Revision { pipeline: side().name, ..revision(-8.0) }
}

async fn given(ledger: &dyn Ledger, now: i64, skip: &[SegmentId]) -> Vec<WorkItem> {
    ledger.history(&side().name, &stream(), at(now), skip, 100).await.unwrap()
}

async fn given_ids(ledger: &dyn Ledger, now: i64) -> Vec<SegmentId> {
    given(ledger, now, &[]).await.into_iter().map(|item| item.segment.id).collect()
}

/// A group as a side has it.
fn of_side(mut group: LoadGroup) -> LoadGroup {
    group.segments.iter_mut().for_each(|segment| segment.terms.workers = side().workers);
    group.pipeline = side().name;
    group.loads.iter_mut().for_each(|load| load.pipeline = side().name);
    group
}

/// The side loads a segment into its table.
async fn loads(ledger: &dyn Ledger, segment: &SegmentId) {
    let group = of_side(group(ledger, 1, std::slice::from_ref(segment), &["out_v2"]));
    ledger.open_group(&group).await.unwrap();
    ledger.close_load(&side().name, 1, &table("out_v2"), &receipt(), at(8)).await.unwrap();
}

async fn rows_of(ledger: &dyn Ledger, table: &str, of: &PipelineName) -> usize {
    use arrow_array::cast::AsArray as _;
    let rows = ledger.read_table(table).await.unwrap();
    let names = rows.column_by_name("pipeline").unwrap().as_string::<i32>().clone();
    names.iter().flatten().filter(|name| *name == of.as_str()).count()
}

pub(super) async fn a_side_refines_what_was_chosen_and_nothing_else(ledger: &dyn Ledger) {
    let a = land_file(ledger, 1, "a.csv", "v1", 5).await.remove(0);
    let newer = land_file(ledger, 2, "a.csv", "v2", 5).await.remove(0);
    let b = land_file(ledger, 3, "b.csv", "v1", 5).await.remove(0);
    ledger.record_revision(&revision(-8.0), at(4)).await.unwrap();
    let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("amount", DataType::Float64, true)]));
    ledger.evolve_schema(&pipeline(), None, &schema, at(4)).await.unwrap();
    let name = side().name;
    assert!(ledger.sides().await.unwrap().is_empty() && given_ids(ledger, 9).await.is_empty());
    assert_eq!(ledger.ask_side(&side(), &own(), &[a.clone(), newer.clone()]).await.unwrap(), 2);
    assert_eq!(ledger.sides().await.unwrap(), [side()]);
    let active = ledger.active(&name).await.unwrap().unwrap();
    assert_eq!((active.revision.id, active.reason.as_str()), (own().id(), "forebay replay by alice@laptop"));
    assert_eq!(ledger.schema(&name).await.unwrap().unwrap().schema, schema);
    ledger.begin(&name, &stream(), at(9)).await.unwrap();
    let all = given(ledger, 9, &[]).await;
    assert!(all.iter().all(|item| item.is_aside() && item.history), "{all:?}");
    assert!(all.iter().all(|item| item.terms.workers == side().workers && item.terms.revision.is_none()));
    assert_eq!(
        given_ids(ledger, 9).await,
        std::slice::from_ref(&newer),
        "the later version takes the place of the former"
    );
    assert_eq!(all[0].segment.replaces, std::slice::from_ref(&a));
    assert!(given(ledger, 9, std::slice::from_ref(&a)).await.is_empty(), "the former one is with a worker");
    assert!(ledger.work(&name, &stream(), at(9), &[], 9).await.unwrap().is_empty(), "nothing is production's");
    assert!(all.iter().all(|item| !item.failed));
    assert_eq!(work_ids(ledger, 9).await, [newer.clone(), b.clone()], "the pipeline's own is as it was");

    // More of it, by another person; what it has stays.
    let more = Side { reason: "forebay replay by bob@mill".to_owned(), asked_at: at(6), workers: None, ..side() };
    assert_eq!(ledger.ask_side(&more, &own(), &[a.clone(), b.clone()]).await.unwrap(), 1);
    assert_eq!(ledger.sides().await.unwrap(), std::slice::from_ref(&more));
    let other = Side { revision: revision(-7.5).id(), ..side() };
    let refused = ledger.ask_side(&other, &own(), &[]).await.unwrap_err();
    assert_eq!(refused.class(), ErrorClass::Operator);
    assert!(refused.to_string().contains("fraud~v2"), "{refused}");

    // What was taken back while a worker had it is the side's again, once its group is open.
    assert_eq!(ledger.forget_waiting(&name).await.unwrap(), 3);
    assert!(given_ids(ledger, 9).await.is_empty());
    loads(ledger, &b).await;
    assert_eq!(rows_of(ledger, "side_segments", &name).await, 1);
    assert_eq!(
        ledger.ask_side(&more, &own(), &[a.clone(), newer.clone(), b.clone()]).await.unwrap(),
        2,
        "it goes on where it was"
    );
    assert_eq!(ledger.sides().await.unwrap()[0].id, side().id);
    assert_eq!(given_ids(ledger, 9).await, std::slice::from_ref(&newer));
    // While the later version waits for its time, the former one has its turn.
    ledger.fail(&name, &failure(&newer, 7, Some(20))).await.unwrap();
    assert_eq!(given_ids(ledger, 9).await, std::slice::from_ref(&a));
    let due = given(ledger, 20, std::slice::from_ref(&a)).await;
    assert!(due.is_empty(), "{due:?}");
    assert!(ledger.failed(&name, &stream(), at(20), &[], 9).await.unwrap().is_empty(), "it comes once");
    assert!(!ledger.drop_side(&name, Some(&[a.clone(), b.clone()])).await.unwrap(), "there is more of it");
    assert!(
        given(ledger, 20, &[]).await.iter().any(|item| item.segment.id == newer && item.failed && item.attempts == 1)
    );
    assert_eq!(ledger.forget_waiting(&name).await.unwrap(), 2, "what is done stays");
    assert!(ledger.drop_side(&name, Some(std::slice::from_ref(&b))).await.unwrap());
}

pub(super) async fn what_a_side_half_loaded_is_replaced_whatever_is_taken_back(ledger: &dyn Ledger) {
    let a = land_file(ledger, 1, "a.csv", "v1", 5).await.remove(0);
    ledger.record_revision(&revision(-8.0), at(3)).await.unwrap();
    ledger.ask_side(&side(), &own(), std::slice::from_ref(&a)).await.unwrap();
    let group = of_side(group(ledger, 1, std::slice::from_ref(&a), &["flagged_v2", "out_v2"]));
    ledger.open_group(&group).await.unwrap();
    ledger.close_load(&side().name, 1, &table("out_v2"), &receipt(), at(8)).await.unwrap();
    ledger.withdraw_group(&side().name, 1, &[failure(&a, 9, None)]).await.unwrap();
    assert_eq!(ledger.forget_waiting(&side().name).await.unwrap(), 1);
    assert!(given_ids(ledger, 99).await.is_empty());
    ledger.ask_side(&side(), &own(), std::slice::from_ref(&a)).await.unwrap();
    ledger.retry_failed(&side().name).await.unwrap();
    let again = given(ledger, 99, &[]).await;
    assert_eq!(again.iter().map(|item| item.generation).collect::<Vec<_>>(), [1], "the rows of the one load go");
}

pub(super) async fn a_side_that_is_dropped_leaves_nothing(ledger: &dyn Ledger) {
    let a = land_file(ledger, 1, "a.csv", "v1", 5).await.remove(0);
    let b = land_file(ledger, 2, "b.csv", "v1", 5).await.remove(0);
    let name = side().name;
    ledger.record_revision(&revision(-8.0), at(3)).await.unwrap();
    ledger.ask_side(&side(), &own(), &[a.clone(), b.clone()]).await.unwrap();
    ledger.begin(&name, &stream(), at(4)).await.unwrap();
    loads(ledger, &a).await;
    assert_eq!(ledger.forget_side(&name).await.unwrap_err().class(), ErrorClass::Bug, "it is not dropped");
    assert!(ledger.drop_side(&name, None).await.unwrap());
    assert!(given_ids(ledger, 9).await.is_empty());
    assert_eq!(ledger.ask_side(&side(), &own(), &[]).await.unwrap_err().class(), ErrorClass::Operator, "it goes");
    ledger.forget_side(&name).await.unwrap();
    ledger.forget_side(&name).await.unwrap();
    assert!(!ledger.drop_side(&name, None).await.unwrap());
    for table in ledger.table_names() {
        let schema = ledger.read_table(table).await.unwrap().schema();
        if schema.column_with_name("pipeline").is_some() {
            assert_eq!(rows_of(ledger, table, &name).await, 0, "{table}");
        }
    }
    assert_eq!((ledger.last_number(&name).await.unwrap(), ledger.active(&name).await.unwrap()), (0, None));
    assert_eq!(work_ids(ledger, 9).await, [a.clone(), b], "the pipeline's own is as it was");
    // Another one of that name begins anew.
    assert_eq!(ledger.ask_side(&side(), &own(), std::slice::from_ref(&a)).await.unwrap(), 1);
    assert_eq!(given_ids(ledger, 9).await, [a]);
}
