use forebay_model::ErrorClass;
use forebay_model::flow::OnChange;
use forebay_model::ids::{Digest, PipelineName, SegmentId};
use forebay_model::load::LoadGroup;
use forebay_model::ports::{Landing, Ledger, SegmentFailure};

use super::support::*;

pub(super) async fn work_is_in_the_order_of_landing(ledger: &dyn Ledger) {
    let mut expected = land_file(ledger, 1, "z.csv", "v1", 25).await;
    expected.extend(ledger.land(&records(2, &[("p0", None, 0, 3)])).await.unwrap().listed.into_iter().map(|s| s.id));
    expected.extend(land_file(ledger, 3, "a.csv", "v1", 5).await);
    assert_eq!(work_ids(ledger, 9).await, expected);
    let two = work(ledger, 9, &expected[..2], 2).await;
    assert_eq!(two.iter().map(|item| &item.segment.id).collect::<Vec<_>>(), [&expected[2], &expected[3]]);
    assert_eq!((two[0].generation, two[0].attempts), (0, 0));
    assert_eq!(two[0].segment, ledger.segment(&expected[2]).await.unwrap().unwrap());
    assert!(work(ledger, 9, &expected, 10).await.is_empty());
    assert!(work(ledger, 9, &[], 0).await.is_empty());
}

pub(super) async fn each_pipeline_has_its_own_work(ledger: &dyn Ledger) {
    let segments = land_file(ledger, 1, "a.csv", "v1", 5).await;
    load_all(ledger, 1, &[refined(&segments[0], &[])]).await;
    assert!(work_ids(ledger, 9).await.is_empty());
    let later = PipelineName::new("later").unwrap();
    assert_eq!(ledger.work(&later, &stream(), at(9), &[], 10).await.unwrap().len(), 1);
    assert_eq!(ledger.last_number(&later).await.unwrap(), 0);
    let other = forebay_model::StreamName::new("other").unwrap();
    assert!(ledger.work(&later, &other, at(9), &[], 10).await.unwrap().is_empty());
}

pub(super) async fn a_failed_segment_waits_until_it_is_due(ledger: &dyn Ledger) {
    let a = land_file(ledger, 1, "a.csv", "v1", 5).await.remove(0);
    let b = land_file(ledger, 2, "b.csv", "v1", 5).await.remove(0);
    // Each failure twice: the second call repeats the first, and is not counted.
    for _ in 0..2 {
        ledger.fail(&pipeline(), &failure(&a, 10, Some(20))).await.unwrap();
        ledger.fail(&pipeline(), &failure(&b, 10, None)).await.unwrap();
    }
    assert!(is_done(ledger, 19).await);
    let due = failed(ledger, 20, &[], 10).await;
    assert_eq!(due.len(), 1, "the other waits for a person or a new revision");
    assert_eq!((&due[0].segment.id, due[0].attempts, due[0].generation), (&a, 1, 0));
    ledger.fail(&pipeline(), &failure(&a, 20, Some(90))).await.unwrap();
    assert_eq!(ledger.retry_failed(&PipelineName::new("other").unwrap()).await.unwrap(), 0);
    assert_eq!(ledger.retry_failed(&pipeline()).await.unwrap(), 2);
    let due = failed(ledger, 21, &[], 10).await;
    assert_eq!(due.iter().map(|item| (&item.segment.id, item.attempts)).collect::<Vec<_>>(), [(&b, 1), (&a, 2)]);
    assert!(work_ids(ledger, 21).await.is_empty(), "it is not work of production any more");
    let unknown = SegmentId::from_text("payments/none");
    assert_eq!(ledger.fail(&pipeline(), &failure(&unknown, 1, None)).await.unwrap_err().class(), ErrorClass::Bug);
}

pub(super) async fn what_a_revision_refined_is_known_the_newest_first(ledger: &dyn Ledger) {
    let by = |of: &'static [u8]| Digest::of(of);
    let refined_by = async |pipeline: &PipelineName, revision, limit| {
        let found = ledger.refined_by(pipeline, revision, limit).await.unwrap();
        found.into_iter().map(|segment| segment.id).collect::<Vec<_>>()
    };
    let mut landed = land_file(ledger, 1, "a.csv", "v1", 25).await;
    landed.extend(land_file(ledger, 2, "b.csv", "v1", 5).await);
    assert!(refined_by(&pipeline(), by(b"revision"), 9).await.is_empty());
    load_all(ledger, 1, &[refined(&landed[0], &[]), refined(&landed[1], &[])]).await;
    load_all(ledger, 2, &[refined(&landed[3], &[])]).await;
    ledger.fail(&pipeline(), &failure(&landed[2], 10, None)).await.unwrap();
    let newest_first = [&landed[3], &landed[1], &landed[0]].map(Clone::clone);
    assert_eq!(refined_by(&pipeline(), by(b"revision"), 9).await, newest_first);
    assert_eq!(refined_by(&pipeline(), by(b"revision"), 2).await, newest_first[..2]);
    assert!(refined_by(&pipeline(), by(b"other"), 9).await.is_empty());
    assert!(refined_by(&PipelineName::new("other").unwrap(), by(b"revision"), 9).await.is_empty());
    // What has a later version is not what is refined next.
    land_file(ledger, 3, "b.csv", "v2", 5).await;
    assert_eq!(refined_by(&pipeline(), by(b"revision"), 9).await, newest_first[1..]);
}

pub(super) async fn a_success_clears_the_failure(ledger: &dyn Ledger) {
    let a = land_file(ledger, 1, "a.csv", "v1", 5).await.remove(0);
    ledger.fail(&pipeline(), &failure(&a, 10, Some(20))).await.unwrap();
    load_all(ledger, 1, &[refined(&a, &[])]).await;
    assert!(is_done(ledger, 99).await);
    let table = ledger.read_table("refinements").await.unwrap();
    for column in ["error_class", "error_message", "error_hint", "failed_at", "retry_at"] {
        assert_eq!(table.column_by_name(column).unwrap().null_count(), 1, "{column}");
    }
    // A process that believed it refined it, too late.
    let error = ledger.fail(&pipeline(), &failure(&a, 11, None)).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Fenced);
}

pub(super) async fn versions_do_not_overtake_one_another(ledger: &dyn Ledger) {
    let first = land_file(ledger, 1, "a.csv", "v1", 5).await.remove(0);
    assert_eq!(work_ids(ledger, 9).await, std::slice::from_ref(&first));
    let second = land_file(ledger, 2, "a.csv", "v2", 5).await.remove(0);
    let now = work(ledger, 9, &[], 10).await;
    assert_eq!(now.len(), 1, "the former version would be removed at once");
    assert_eq!((&now[0].segment.id, &now[0].segment.replaces), (&second, &vec![first.clone()]));
    assert!(work(ledger, 9, std::slice::from_ref(&first), 10).await.is_empty(), "the former is being refined");
    assert!(work(ledger, 9, std::slice::from_ref(&second), 10).await.is_empty(), "the later is being refined");
    ledger.fail(&pipeline(), &failure(&second, 10, Some(20))).await.unwrap();
    assert_eq!(
        work_ids(ledger, 11).await,
        std::slice::from_ref(&first),
        "while the later waits, the former has its turn"
    );
    load_all(ledger, 1, &[refined(&first, &[])]).await;
    // A third version, landed while the second waits, has both to replace.
    let third = land_file(ledger, 3, "a.csv", "v3", 5).await.remove(0);
    let now = work(ledger, 30, &[], 10).await;
    assert_eq!((now.len(), &now[0].segment.id), (1, &third));
    assert_eq!(now[0].segment.replaces, [first.clone(), second.clone()]);
    assert!(failed_ids(ledger, 30).await.is_empty(), "the second would be removed at once");
    ledger
        .open_group(&LoadGroup {
            segments: vec![refined(&third, &now[0].segment.replaces)],
            ..group(ledger, 2, std::slice::from_ref(&third), &["payments"])
        })
        .await
        .unwrap();
    assert!(is_done(ledger, 99).await, "superseded as soon as the group is opened");
    assert_eq!(ledger.retry_failed(&pipeline()).await.unwrap(), 0);
    ledger.close_load(&pipeline(), 2, &table("payments"), &receipt(), at(70)).await.unwrap();
    assert!(is_done(ledger, 99).await);
}

pub(super) async fn segments_that_replace_come_together_beyond_the_limit(ledger: &dyn Ledger) {
    let former = land_file(ledger, 1, "a.csv", "v1", 15).await;
    load_all(ledger, 1, &[refined(&former[0], &[]), refined(&former[1], &[])]).await;
    let single = land_file(ledger, 2, "b.csv", "v1", 15).await;
    let later = land_file(ledger, 3, "a.csv", "v2", 35).await;
    land_file(ledger, 4, "c.csv", "v1", 5).await;
    assert_eq!(work(ledger, 9, &[], 1).await.len(), 1, "what replaces nothing keeps to the limit");
    let three = work(ledger, 9, &[], 3).await;
    let ids: Vec<_> = three.iter().map(|item| item.segment.id.clone()).collect();
    assert_eq!(ids, [single, later.clone()].concat());
    assert!(three[2..].iter().all(|item| item.segment.replaces == former));
    let without = work(ledger, 9, &later[..1], 10).await;
    assert!(without.iter().all(|item| !later.contains(&item.segment.id)), "or not at all");
    ledger.fail(&pipeline(), &failure(&later[1], 10, None)).await.unwrap();
    assert!(work_ids(ledger, 11).await.iter().all(|id| !later.contains(id)), "or not at all");
}

pub(super) async fn a_group_only_goes_forward(ledger: &dyn Ledger) {
    let a = land_file(ledger, 1, "a.csv", "v1", 15).await;
    let b = land_file(ledger, 2, "b.csv", "v1", 5).await;
    let first = group(ledger, 1, &a, &["flagged", "payments"]);
    let second = group(ledger, 3, &b, &["payments"]);
    for _ in 0..2 {
        ledger.open_group(&first).await.unwrap();
    }
    ledger.open_group(&second).await.unwrap();
    assert_eq!(ledger.last_number(&pipeline()).await.unwrap(), 3);
    assert!(work_ids(ledger, 99).await.is_empty());
    assert_eq!(ledger.open_groups(&pipeline()).await.unwrap(), [first.clone(), second.clone()], "with staged files");
    for _ in 0..2 {
        ledger.close_load(&pipeline(), 1, &table("flagged"), &receipt(), at(60)).await.unwrap();
    }
    let open = ledger.open_groups(&pipeline()).await.unwrap();
    assert_eq!(open[0].loads, first.loads[1..], "its open loads only");
    assert_eq!(open[0].segments, first.segments, "and all its segments");
    assert_eq!(states(ledger).await, ["loading"; 3]);
    ledger.close_load(&pipeline(), 1, &table("payments"), &receipt(), at(61)).await.unwrap();
    assert_eq!(ledger.open_groups(&pipeline()).await.unwrap(), [second]);
    assert_eq!(states(ledger).await.iter().filter(|state| *state == "loaded").count(), 2);
    ledger.open_group(&first).await.unwrap();
    assert_eq!(states(ledger).await.iter().filter(|state| *state == "loaded").count(), 2, "a repeat does nothing");
    let none = ledger.close_load(&pipeline(), 2, &table("payments"), &receipt(), at(62)).await.unwrap_err();
    assert_eq!(none.class(), ErrorClass::Bug);
}

pub(super) fn refusals(segments: &[SegmentId], generation: u32) -> Vec<SegmentFailure> {
    let refusal = |id: &SegmentId| SegmentFailure { generation, ..failure(id, 65, Some(70)) };
    segments.iter().map(refusal).collect()
}

pub(super) async fn a_group_that_the_warehouse_refuses_is_withdrawn(ledger: &dyn Ledger) {
    let former = land_file(ledger, 1, "a.csv", "v1", 15).await;
    load_all(ledger, 1, &[refined(&former[0], &[]), refined(&former[1], &[])]).await;
    let later = land_file(ledger, 2, "a.csv", "v2", 5).await;
    let opened =
        LoadGroup { segments: vec![refined(&later[0], &former)], ..group(ledger, 2, &later, &["flagged", "payments"]) };
    ledger.open_group(&opened).await.unwrap();
    let missing = ledger.withdraw_group(&pipeline(), 2, &[]).await.unwrap_err();
    assert_eq!(missing.class(), ErrorClass::Bug, "each segment is to have its failure");
    for _ in 0..2 {
        ledger.withdraw_group(&pipeline(), 2, &refusals(&later, 0)).await.unwrap();
    }
    assert!(ledger.open_groups(&pipeline()).await.unwrap().is_empty());
    ledger.close_load(&pipeline(), 2, &table("payments"), &receipt(), at(60)).await.unwrap();
    let states: Vec<_> = load_states(ledger).await;
    assert_eq!(states[1..], ["withdrawn", "withdrawn"], "what was withdrawn stays so");
    assert_eq!(ledger.tables_of(&pipeline(), &later).await.unwrap(), [], "it brought nothing");
    assert!(is_done(ledger, 69).await, "it waits");
    let again = failed(ledger, 70, &[], 10).await;
    assert_eq!((again.len(), again[0].generation, again[0].attempts), (1, 0, 1));
    assert_eq!(again[0].segment.replaces, former, "whose rows are still there");
    let next = LoadGroup { segments: vec![refined(&later[0], &former)], ..group(ledger, 3, &later, &["payments"]) };
    ledger.open_group(&next).await.unwrap();
    ledger.close_load(&pipeline(), 3, &table("payments"), &receipt(), at(80)).await.unwrap();
    assert!(is_done(ledger, 99).await);
    let done = ledger.withdraw_group(&pipeline(), 3, &refusals(&later, 0)).await.unwrap_err();
    assert_eq!(done.class(), ErrorClass::Bug, "what is done stays");
    let unknown = ledger.withdraw_group(&pipeline(), 9, &[]).await.unwrap_err();
    assert_eq!(unknown.class(), ErrorClass::Bug);
}

pub(super) async fn what_a_withdrawn_group_had_loaded_is_removed_by_the_next(ledger: &dyn Ledger) {
    let a = land_file(ledger, 1, "a.csv", "v1", 5).await;
    ledger.open_group(&group(ledger, 1, &a, &["flagged", "payments"])).await.unwrap();
    ledger.close_load(&pipeline(), 1, &table("flagged"), &receipt(), at(60)).await.unwrap();
    ledger.withdraw_group(&pipeline(), 1, &refusals(&a, 0)).await.unwrap();
    let again = failed(ledger, 70, &[], 10).await;
    assert_eq!(again[0].generation, 1, "the next generation replaces it");
    assert_eq!(ledger.tables_of(&pipeline(), &a).await.unwrap(), [table("flagged")]);
    assert_eq!(states(ledger).await, ["failed"]);
}

async fn load_states(ledger: &dyn Ledger) -> Vec<String> {
    states_in(ledger, "loads").await
}

/// The states of all refinements.
async fn states(ledger: &dyn Ledger) -> Vec<String> {
    states_in(ledger, "refinements").await
}

async fn states_in(ledger: &dyn Ledger, table: &str) -> Vec<String> {
    let batch = ledger.read_table(table).await.unwrap();
    let column = batch.column_by_name("state").unwrap();
    let states = column.as_any().downcast_ref::<arrow_array::StringArray>().unwrap();
    states.iter().map(|state| state.unwrap().to_owned()).collect()
}

pub(super) async fn a_group_without_loads_is_done_at_once(ledger: &dyn Ledger) {
    let a = land_file(ledger, 1, "a.csv", "v1", 5).await;
    let filtered = group(ledger, 1, &a, &[]);
    for _ in 0..2 {
        ledger.open_group(&filtered).await.unwrap();
        assert!(ledger.open_groups(&pipeline()).await.unwrap().is_empty());
        assert_eq!(states(ledger).await, ["loaded"]);
    }
}

pub(super) async fn a_group_must_be_work(ledger: &dyn Ledger) {
    let a = land_file(ledger, 1, "a.csv", "v1", 5).await;
    let b = land_file(ledger, 2, "b.csv", "v1", 5).await;
    let fenced = async |group: LoadGroup, why: &str| {
        let error = ledger.open_group(&group).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Fenced, "{why}: {error}");
    };
    ledger.open_group(&group(ledger, 5, &a, &["payments"])).await.unwrap();
    fenced(group(ledger, 5, &b, &["payments"]), "another group of this number").await;
    fenced(group(ledger, 4, &b, &["payments"]), "a lower number").await;
    fenced(group(ledger, 6, &a, &["payments"]), "a segment in an open group").await;
    ledger.close_load(&pipeline(), 5, &table("payments"), &receipt(), at(60)).await.unwrap();
    fenced(group(ledger, 6, &a, &["payments"]), "a loaded segment").await;
    let mut generation = group(ledger, 6, &b, &["payments"]);
    generation.segments[0].generation = 1;
    fenced(generation, "a generation that is not the next").await;
    fenced(group(ledger, 6, &[b.clone(), a].concat(), &["payments"]), "one segment of two").await;
    assert_eq!(ledger.last_number(&pipeline()).await.unwrap(), 5, "nothing of a refused group stays");
    ledger.open_group(&group(ledger, 6, &b, &["payments"])).await.unwrap();
}

pub(super) async fn a_broken_group_is_refused(ledger: &dyn Ledger) {
    let a = land_file(ledger, 1, "a.csv", "v1", 15).await;
    let good = || group(ledger, 1, &a[..1], &["payments"]);
    let none = SegmentId::from_text("payments/none");
    let mut broken = vec![
        group(ledger, 1, &[], &[]),
        group(ledger, 1, std::slice::from_ref(&none), &[]),
        LoadGroup { segments: vec![refined(&a[0], &[none])], ..good() },
        LoadGroup { segments: vec![refined(&a[0], &[a[0].clone()])], ..good() },
        LoadGroup { segments: vec![refined(&a[0], &[]), refined(&a[0], &[])], ..good() },
        LoadGroup { segments: vec![refined(&a[1], &[])], ..good() },
        LoadGroup { schema_version: 2, ..good() },
        LoadGroup { loads: [good().loads, good().loads].concat(), ..good() },
    ];
    let mut unbalanced = good();
    unbalanced.segments[0].counts.loaded += 1;
    broken.push(unbalanced);
    let mut other_ledger = good();
    other_ledger.loads[0].ledger = attempt(99);
    broken.push(other_ledger);
    for (number, group) in broken.iter().enumerate() {
        let error = ledger.open_group(group).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Bug, "{number}: {error}");
    }
    ledger.open_group(&good()).await.unwrap();
}

pub(super) async fn tables_of_names_former_tables(ledger: &dyn Ledger) {
    let a = land_file(ledger, 1, "a.csv", "v1", 5).await;
    let b = land_file(ledger, 2, "b.csv", "v1", 5).await;
    assert!(ledger.tables_of(&pipeline(), &a).await.unwrap().is_empty());
    ledger.open_group(&group(ledger, 1, &a, &["payments", "flagged"])).await.unwrap();
    let both = [a.clone(), b.clone()].concat();
    assert_eq!(ledger.tables_of(&pipeline(), &both).await.unwrap(), [table("flagged"), table("payments")]);
    assert!(ledger.tables_of(&pipeline(), &b).await.unwrap().is_empty());
    assert!(ledger.tables_of(&PipelineName::new("other").unwrap(), &a).await.unwrap().is_empty());
    // A load that only removes brings the table no rows of its segments.
    let mut only_removes = group(ledger, 2, &b, &["payments"]);
    only_removes.loads[0].files.clear();
    only_removes.loads[0].removes = a.clone();
    ledger.open_group(&only_removes).await.unwrap();
    assert!(ledger.tables_of(&pipeline(), &b).await.unwrap().is_empty());
}

pub(super) async fn one_host_at_a_time(ledger: &dyn Ledger) {
    assert_eq!(ledger.host().await.unwrap(), None);
    let lease = ledger.lease_host().await.unwrap();
    assert_eq!(ledger.host().await.unwrap().unwrap().process, Some(std::process::id()));
    assert!(lease.is_some());
    assert!(ledger.lease_host().await.unwrap().is_none());
    drop(lease);
    assert_eq!(ledger.host().await.unwrap(), None);
    assert!(ledger.lease_host().await.unwrap().is_some());
}

/// However much is done, skipped or failed before it.
pub(super) async fn work_finds_what_is_behind_many(ledger: &dyn Ledger) {
    let many = Landing {
        objects: (0..600).map(|n| file(1, &format!("{n:03}.csv"), "v1", OnChange::Replace, 0..5)).collect(),
        ..landing(1)
    };
    let ids: Vec<_> = ledger.land(&many).await.unwrap().listed.into_iter().map(|segment| segment.id).collect();
    let skipped = work(ledger, 9, &ids[..590], 100).await;
    assert_eq!(skipped.len(), 10, "behind more than a page that is skipped");
    ledger.open_group(&group(ledger, 1, &ids[1..599], &[])).await.unwrap();
    assert_eq!(work_ids(ledger, 9).await, [ids[0].clone(), ids[599].clone()]);
    ledger.fail(&pipeline(), &failure(&ids[0], 10, Some(20))).await.unwrap();
    assert_eq!((work_ids(ledger, 19).await, failed_ids(ledger, 19).await), (vec![ids[599].clone()], vec![]));
    let due = (work_ids(ledger, 20).await, failed_ids(ledger, 20).await);
    assert_eq!(due, (vec![ids[599].clone()], vec![ids[0].clone()]));
}
