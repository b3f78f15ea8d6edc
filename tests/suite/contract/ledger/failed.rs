//! What failed and is due: beside production, the newest first.

use forebay_model::SegmentId;
use forebay_model::flow::OnChange;
use forebay_model::ports::{Landing, Ledger, WorkItem};

use super::refine::refusals;
use super::support::*;

fn ids(items: &[WorkItem]) -> Vec<SegmentId> {
    items.iter().map(|item| item.segment.id.clone()).collect()
}

pub(super) async fn what_failed_comes_the_newest_first_beside_what_nothing_was_made_of(ledger: &dyn Ledger) {
    let mut landed = land_file(ledger, 1, "z.csv", "v1", 25).await;
    landed.extend(ledger.land(&records(2, &[("p0", None, 0, 3)])).await.unwrap().listed.into_iter().map(|s| s.id));
    landed.extend(land_file(ledger, 3, "a.csv", "v1", 5).await);
    for place in [0, 2, 3] {
        ledger.fail(&pipeline(), &failure(&landed[place], 10, Some(20))).await.unwrap();
    }
    let newest_first = [3, 2, 0].map(|place| landed[place].clone());
    let due = failed(ledger, 20, &[], 9).await;
    assert_eq!(ids(&due), newest_first);
    assert!(due.iter().all(|item| item.failed && !item.history && item.again.is_none() && item.attempts == 1));
    assert!(due.iter().all(WorkItem::is_aside));
    assert_eq!(due[0].segment, ledger.segment(&landed[3]).await.unwrap().unwrap());
    let work = work(ledger, 20, &[], 9).await;
    assert_eq!(ids(&work), [landed[1].clone(), landed[4].clone()]);
    assert!(!work.iter().any(WorkItem::is_aside));
    assert_eq!(ids(&failed(ledger, 20, &newest_first[..1], 1).await), newest_first[1..2]);
    assert!(failed(ledger, 20, &[], 0).await.is_empty() && failed(ledger, 20, &newest_first, 9).await.is_empty());
    let other = forebay_model::StreamName::new("other").unwrap();
    assert!(ledger.failed(&pipeline(), &other, at(20), &[], 9).await.unwrap().is_empty());
    let later = forebay_model::PipelineName::new("later").unwrap();
    assert!(ledger.failed(&later, &stream(), at(20), &[], 9).await.unwrap().is_empty());
    // What it gives may be loaded, and what fails once more is counted.
    load_all(ledger, 1, &[refined(&landed[3], &[])]).await;
    ledger.fail(&pipeline(), &failure(&landed[2], 21, Some(30))).await.unwrap();
    assert_eq!(failed_ids(ledger, 29).await, landed[..1]);
    let due = failed(ledger, 30, &[], 9).await;
    assert_eq!(due.iter().map(|item| item.attempts).collect::<Vec<_>>(), [2, 1]);
}

pub(super) async fn segments_that_come_together_have_failed_where_one_of_them_did(ledger: &dyn Ledger) {
    let former = land_file(ledger, 1, "a.csv", "v1", 15).await;
    load_all(ledger, 1, &[refined(&former[0], &[]), refined(&former[1], &[])]).await;
    let older = land_file(ledger, 2, "b.csv", "v1", 5).await.remove(0);
    let later = land_file(ledger, 3, "a.csv", "v2", 35).await;
    let newer = land_file(ledger, 4, "c.csv", "v1", 5).await.remove(0);
    for id in [&older, &later[1], &newer] {
        ledger.fail(&pipeline(), &failure(id, 10, Some(20))).await.unwrap();
    }
    assert!(is_done(ledger, 19).await, "the parts of it that did not fail wait, too");
    let due = failed(ledger, 20, &[], 2).await;
    let all = [std::slice::from_ref(&newer), &later].concat();
    assert_eq!(ids(&due), all, "in their order, also beyond the limit");
    assert!(due[1..].iter().all(|item| item.failed && item.segment.replaces == former));
    assert_eq!(due.iter().map(|item| item.attempts).collect::<Vec<_>>(), [1, 0, 1, 0, 0]);
    assert!(work_ids(ledger, 20).await.is_empty());
    assert_eq!(failed_ids(ledger, 20).await, [all, vec![older.clone()]].concat());
    let without = failed(ledger, 20, &later[..1], 9).await;
    assert_eq!(ids(&without), [newer.clone(), older.clone()], "or not at all");
    // The last of them that failed tells the place, whichever that is.
    ledger.fail(&pipeline(), &failure(&later[3], 11, Some(20))).await.unwrap();
    assert_eq!(failed_ids(ledger, 20).await.len(), 6, "each once");
    let parts: Vec<_> = later.iter().map(|id| refined(id, &former)).collect();
    load_all(ledger, 2, &parts).await;
    assert_eq!(failed_ids(ledger, 99).await, [newer, older]);
}

pub(super) async fn a_version_that_failed_keeps_the_others_in_their_order(ledger: &dyn Ledger) {
    let first = land_file(ledger, 1, "a.csv", "v1", 5).await.remove(0);
    let second = land_file(ledger, 2, "a.csv", "v2", 5).await.remove(0);
    ledger.fail(&pipeline(), &failure(&first, 10, Some(20))).await.unwrap();
    assert!(failed_ids(ledger, 20).await.is_empty(), "the later one will replace it");
    assert_eq!(ids(&work(ledger, 20, &[], 9).await), std::slice::from_ref(&second));
    assert!(work(ledger, 20, std::slice::from_ref(&first), 9).await.is_empty(), "the former one is being refined");
    assert!(failed(ledger, 20, std::slice::from_ref(&second), 9).await.is_empty(), "the later one is being refined");
    ledger.fail(&pipeline(), &failure(&second, 10, Some(30))).await.unwrap();
    assert_eq!(failed_ids(ledger, 20).await, std::slice::from_ref(&first), "while the later one waits");
    let due = failed(ledger, 30, &[], 9).await;
    assert_eq!((ids(&due), &due[0].segment.replaces), (vec![second], &vec![first]));
}

pub(super) async fn a_paused_pipeline_is_given_nothing_that_failed(ledger: &dyn Ledger) {
    let a = land_file(ledger, 1, "a.csv", "v1", 5).await.remove(0);
    ledger.fail(&pipeline(), &failure(&a, 10, Some(20))).await.unwrap();
    ledger.pause(&pipeline(), "", at(9)).await.unwrap();
    assert!(failed_ids(ledger, 99).await.is_empty());
    ledger.resume(&pipeline()).await.unwrap();
    assert_eq!(failed_ids(ledger, 99).await, [a]);
}

/// However much waits, or is skipped, before it.
pub(super) async fn what_failed_is_found_behind_many(ledger: &dyn Ledger) {
    let many = Landing {
        objects: (0..600).map(|n| file(1, &format!("{n:03}.csv"), "v1", OnChange::Replace, 0..5)).collect(),
        ..landing(1)
    };
    let landed: Vec<_> = ledger.land(&many).await.unwrap().listed.into_iter().map(|segment| segment.id).collect();
    ledger.open_group(&group(ledger, 1, &landed, &["payments"])).await.unwrap();
    ledger.withdraw_group(&pipeline(), 1, &refusals(&landed, 0)).await.unwrap();
    let newest_first: Vec<_> = landed.into_iter().rev().collect();
    assert_eq!(failed_ids(ledger, 70).await, newest_first);
    assert_eq!(ids(&failed(ledger, 70, &newest_first[..590], 100).await), newest_first[590..]);
    assert_eq!(ids(&failed(ledger, 70, &newest_first[..590], 3).await), newest_first[590..593]);
}
