//! What had landed before a pipeline began.

use forebay_model::SegmentId;
use forebay_model::ports::{Ledger, WorkItem};

use super::support::*;

async fn history(ledger: &dyn Ledger, now: i64, skip: &[SegmentId], limit: u32) -> Vec<WorkItem> {
    ledger.history(&pipeline(), &stream(), at(now), skip, limit).await.unwrap()
}

async fn history_ids(ledger: &dyn Ledger, now: i64) -> Vec<SegmentId> {
    history(ledger, now, &[], 100).await.into_iter().map(|item| item.segment.id).collect()
}

/// The documented table, as far as it is told: the last number of each.
async fn ends(ledger: &dyn Ledger) -> Vec<i64> {
    use arrow_array::cast::AsArray as _;
    let table = ledger.read_table("histories").await.unwrap();
    let numbers = table.column_by_name("number").unwrap().as_primitive::<arrow_array::types::Int64Type>().clone();
    numbers.values().to_vec()
}

pub(super) async fn what_had_landed_before_a_pipeline_began_is_its_history_once(ledger: &dyn Ledger) {
    let a = land_file(ledger, 1, "a.csv", "v1", 5).await.remove(0);
    let b = land_file(ledger, 2, "b.csv", "v1", 5).await.remove(0);
    assert_eq!(work_ids(ledger, 9).await, [a.clone(), b.clone()], "all is work before it began");
    assert!(history_ids(ledger, 9).await.is_empty());
    let c = land_file(ledger, 3, "c.csv", "v1", 5).await.remove(0);
    // What landed at that very time has landed since.
    ledger.begin(&pipeline(), &stream(), at(3)).await.unwrap();
    let all = history(ledger, 9, &[], 100).await;
    assert!(all.iter().all(|item| item.history && item.again.is_none() && item.generation == 0), "{all:?}");
    assert_eq!(history_ids(ledger, 9).await, [a.clone(), b.clone()], "in the order of landing");
    assert_eq!(work_ids(ledger, 9).await, std::slice::from_ref(&c));
    assert!(work(ledger, 9, &[], 9).await.iter().all(|item| !item.history));
    let skipped = history(ledger, 9, std::slice::from_ref(&a), 1).await;
    assert_eq!(skipped[0].segment.id, b);
    ledger.pause(&pipeline(), "", at(9)).await.unwrap();
    assert!(history_ids(ledger, 9).await.is_empty(), "it is paused");
    ledger.resume(&pipeline()).await.unwrap();
    // It is noted once, and for each pipeline.
    ledger.begin(&pipeline(), &stream(), at(99)).await.unwrap();
    let d = land_file(ledger, 4, "d.csv", "v1", 5).await.remove(0);
    assert_eq!((history_ids(ledger, 9).await.len(), work_ids(ledger, 9).await), (2, vec![c.clone(), d.clone()]));
    assert_eq!(ends(ledger).await, [2]);
    // Either lane may be done first.
    load_all(ledger, 1, &[refined(&c, &[])]).await;
    assert_eq!((history_ids(ledger, 9).await.len(), work_ids(ledger, 9).await), (2, vec![d.clone()]));
    load_all(ledger, 2, &[refined(&a, &[])]).await;
    assert_eq!(history_ids(ledger, 9).await, std::slice::from_ref(&b));
    load_all(ledger, 3, &[refined(&b, &[]), refined(&d, &[])]).await;
    assert!(history_ids(ledger, 9).await.is_empty() && work_ids(ledger, 9).await.is_empty());
}

pub(super) async fn a_pipeline_that_has_refined_anything_has_no_history(ledger: &dyn Ledger) {
    let a = land_file(ledger, 1, "a.csv", "v1", 5).await.remove(0);
    let b = land_file(ledger, 2, "b.csv", "v1", 5).await.remove(0);
    ledger.fail(&pipeline(), &failure(&a, 4, None)).await.unwrap();
    ledger.begin(&pipeline(), &stream(), at(9)).await.unwrap();
    assert!(history_ids(ledger, 9).await.is_empty());
    assert_eq!(work_ids(ledger, 9).await, std::slice::from_ref(&b));
    assert_eq!(ends(ledger).await, [0]);
    // One that begins while nothing has landed has none either.
    let other = forebay_model::StreamName::new("other").unwrap();
    ledger.begin(&pipeline(), &other, at(9)).await.unwrap();
    assert_eq!(ends(ledger).await, [0, 0]);
}

pub(super) async fn versions_do_not_overtake_one_another_across_the_beginning(ledger: &dyn Ledger) {
    let v1 = land_file(ledger, 1, "a.csv", "v1", 15).await;
    let b = land_file(ledger, 2, "b.csv", "v1", 5).await.remove(0);
    ledger.begin(&pipeline(), &stream(), at(3)).await.unwrap();
    let v2 = land_file(ledger, 3, "a.csv", "v2", 15).await;
    assert_eq!(history_ids(ledger, 9).await, std::slice::from_ref(&b), "the new version will replace the former one");
    let new = work(ledger, 9, &[], 1).await;
    assert_eq!(new.len(), 2, "they come together, beyond the limit");
    assert!(new.iter().all(|item| item.segment.replaces == v1), "{new:?}");
    assert!(work(ledger, 9, &v1[..1], 9).await.is_empty(), "the former one is being refined");
    assert_eq!(history(ledger, 9, &v2, 9).await.len(), 1, "the new one is being refined");
    // The new one fails for a while: the former one has its turn, and is replaced afterwards.
    ledger.fail(&pipeline(), &failure(&v2[0], 4, Some(20))).await.unwrap();
    ledger.fail(&pipeline(), &failure(&v2[1], 4, Some(20))).await.unwrap();
    assert_eq!(history_ids(ledger, 9).await, [v1[0].clone(), v1[1].clone(), b.clone()]);
    load_all(ledger, 1, &[refined(&v1[0], &[]), refined(&v1[1], &[])]).await;
    load_all(ledger, 2, &[refined(&v2[0], &v1), refined(&v2[1], &v1)]).await;
    assert_eq!(history_ids(ledger, 99).await, std::slice::from_ref(&b));
    load_all(ledger, 3, &[refined(&b, &[])]).await;
    assert!(history_ids(ledger, 99).await.is_empty() && work_ids(ledger, 99).await.is_empty());
}

pub(super) async fn history_that_fails_waits_and_is_done_once(ledger: &dyn Ledger) {
    let a = land_file(ledger, 1, "a.csv", "v1", 5).await.remove(0);
    let b = land_file(ledger, 2, "b.csv", "v1", 5).await.remove(0);
    ledger.begin(&pipeline(), &stream(), at(3)).await.unwrap();
    let c = land_file(ledger, 4, "c.csv", "v1", 5).await.remove(0);
    ledger.fail(&pipeline(), &failure(&a, 4, Some(7))).await.unwrap();
    ledger.fail(&pipeline(), &failure(&c, 4, Some(7))).await.unwrap();
    load_all(ledger, 1, &[refined(&b, &[])]).await;
    assert!(history_ids(ledger, 6).await.is_empty());
    assert!(is_done(ledger, 6).await);
    let due = failed(ledger, 7, &[], 9).await;
    let told: Vec<_> = due.iter().map(|item| (&item.segment.id, item.attempts, item.history, item.failed)).collect();
    assert_eq!(told, [(&c, 1, false, true), (&a, 1, false, true)]);
    assert!(history_ids(ledger, 7).await.is_empty() && work_ids(ledger, 7).await.is_empty());
    load_all(ledger, 2, &[refined(&a, &[])]).await;
    assert!(history_ids(ledger, 99).await.is_empty());
    assert_eq!(failed_ids(ledger, 99).await, std::slice::from_ref(&c));
}
