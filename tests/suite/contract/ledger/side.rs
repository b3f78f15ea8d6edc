//! Replays into tables beside those of their pipeline.

use forebay_model::ports::{DeploymentState, Ledger, Side, WorkItem};
use forebay_model::{ErrorClass, PipelineName, SegmentId};

use super::catalog::revision;
use super::support::*;

fn side() -> Side {
    Side {
        name: pipeline().side("v2").unwrap(),
        of: pipeline(),
        revision: revision(-8.0).id(),
        workers: std::num::NonZeroU32::new(1),
        reason: "forebay replay by alice@laptop".to_owned(),
        asked_at: at(5),
        dropped: false,
    }
}

async fn given(ledger: &dyn Ledger, now: i64, skip: &[SegmentId]) -> Vec<WorkItem> {
    ledger.history(&side().name, &stream(), at(now), skip, 100).await.unwrap()
}

async fn given_ids(ledger: &dyn Ledger, now: i64) -> Vec<SegmentId> {
    given(ledger, now, &[]).await.into_iter().map(|item| item.segment.id).collect()
}

/// The side loads a segment into its table.
async fn loads(ledger: &dyn Ledger, segment: &SegmentId) {
    let mut group = group(ledger, 1, std::slice::from_ref(segment), &["out_v2"]);
    group.segments[0].terms.workers = side().workers;
    group.pipeline = side().name;
    group.loads.iter_mut().for_each(|load| load.pipeline = side().name);
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
    let name = side().name;
    assert!(ledger.sides().await.unwrap().is_empty() && given_ids(ledger, 9).await.is_empty());
    assert_eq!(ledger.ask_side(&side(), &[a.clone(), newer.clone()]).await.unwrap(), 2);
    assert_eq!(ledger.sides().await.unwrap(), [side()]);
    ledger.begin(&name, &stream(), at(9)).await.unwrap();
    let all = given(ledger, 9, &[]).await;
    assert!(all.iter().all(|item| item.is_aside() && item.history && item.segment.replaces.is_empty()), "{all:?}");
    assert!(all.iter().all(|item| item.terms.workers == side().workers && item.terms.revision.is_none()));
    assert_eq!(given_ids(ledger, 9).await, [a.clone(), newer.clone()], "versions of an object too, each by itself");
    assert_eq!(given(ledger, 9, std::slice::from_ref(&a)).await.len(), 1);
    assert!(ledger.work(&name, &stream(), at(9), &[], 9).await.unwrap().is_empty(), "nothing is production's");
    assert!(all.iter().all(|item| !item.failed));
    assert_eq!(work_ids(ledger, 9).await, [newer.clone(), b.clone()], "the pipeline's own is as it was");

    // More of it, by another person; what it has stays.
    let more = Side { reason: "forebay replay by bob@mill".to_owned(), asked_at: at(6), workers: None, ..side() };
    assert_eq!(ledger.ask_side(&more, &[a.clone(), b.clone()]).await.unwrap(), 1);
    assert_eq!(ledger.sides().await.unwrap(), std::slice::from_ref(&more));
    let other = Side { revision: revision(-7.5).id(), ..side() };
    let refused = ledger.ask_side(&other, &[]).await.unwrap_err();
    assert_eq!(refused.class(), ErrorClass::Operator);
    assert!(refused.to_string().contains("fraud~v2"), "{refused}");

    loads(ledger, &a).await;
    assert_eq!(given_ids(ledger, 9).await, [newer.clone(), b.clone()]);
    let failed = failure(&newer, 7, Some(20));
    ledger.fail(&name, &failed).await.unwrap();
    assert_eq!(given_ids(ledger, 9).await, std::slice::from_ref(&b), "it waits until its time");
    let due = given(ledger, 20, &[]).await;
    assert_eq!(due.iter().map(|item| (item.failed, item.attempts)).collect::<Vec<_>>(), [(true, 1), (false, 0)]);
    assert!(ledger.failed(&name, &stream(), at(20), &[], 9).await.unwrap().is_empty(), "it comes once");
    assert_eq!(ledger.forget_waiting(&name).await.unwrap(), 2, "what is done stays");
    assert!(given_ids(ledger, 99).await.is_empty());
    assert_eq!(ledger.ask_side(&more, &[a.clone(), b.clone()]).await.unwrap(), 1, "it goes on where it was");
    assert_eq!(given_ids(ledger, 99).await, std::slice::from_ref(&b));
}

pub(super) async fn a_side_that_is_dropped_leaves_nothing(ledger: &dyn Ledger) {
    let a = land_file(ledger, 1, "a.csv", "v1", 5).await.remove(0);
    let b = land_file(ledger, 2, "b.csv", "v1", 5).await.remove(0);
    let name = side().name;
    let own = forebay_model::Revision { pipeline: name.clone(), ..revision(-8.0) };
    ledger.record_revision(&revision(-8.0), at(3)).await.unwrap();
    ledger.record_revision(&own, at(3)).await.unwrap();
    ledger.deploy(&name, own.id(), DeploymentState::Active, "replay", at(3)).await.unwrap();
    ledger.ask_side(&side(), &[a.clone(), b.clone()]).await.unwrap();
    ledger.begin(&name, &stream(), at(4)).await.unwrap();
    loads(ledger, &a).await;
    assert_eq!(ledger.forget_side(&name).await.unwrap_err().class(), ErrorClass::Bug, "it is not dropped");
    assert!(ledger.drop_side(&name).await.unwrap());
    assert!(given_ids(ledger, 9).await.is_empty());
    assert_eq!(ledger.ask_side(&side(), &[]).await.unwrap_err().class(), ErrorClass::Operator, "it goes");
    ledger.forget_side(&name).await.unwrap();
    ledger.forget_side(&name).await.unwrap();
    assert!(!ledger.drop_side(&name).await.unwrap());
    for table in ledger.table_names() {
        let schema = ledger.read_table(table).await.unwrap().schema();
        if schema.column_with_name("pipeline").is_some() {
            assert_eq!(rows_of(ledger, table, &name).await, 0, "{table}");
        }
    }
    assert_eq!((ledger.last_number(&name).await.unwrap(), ledger.active(&name).await.unwrap()), (0, None));
    assert_eq!(work_ids(ledger, 9).await, [a.clone(), b], "the pipeline's own is as it was");
    // Another one of that name begins anew.
    assert_eq!(ledger.ask_side(&side(), std::slice::from_ref(&a)).await.unwrap(), 1);
    assert_eq!(given_ids(ledger, 9).await, [a]);
}
