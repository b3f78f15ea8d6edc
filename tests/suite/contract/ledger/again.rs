//! Loaded segments that are refined once more.

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use forebay_model::load::{Again, LoadGroup, RejectCount, Terms};
use forebay_model::ports::{HealRequest, Ledger, ReplayRequest, WorkItem};
use forebay_model::segment::SegmentCounts;
use forebay_model::{Digest, ErrorClass, RevisionId, SegmentId};

use super::support::*;

fn other() -> RevisionId {
    Digest::of(b"another revision")
}

/// What a new revision asks for.
fn unless(revision: RevisionId) -> HealRequest {
    HealRequest { unless_tried_by: Some(revision), reason: "a test".to_owned(), ..HealRequest::default() }
}

async fn heal(ledger: &dyn Ledger, wanted: &HealRequest) -> u64 {
    ledger.ask_heal(&pipeline(), wanted, at(70)).await.unwrap()
}

async fn replay(ledger: &dyn Ledger, segments: &[SegmentId], terms: Terms, when: i64) -> u64 {
    let wanted = ReplayRequest { segments: segments.to_vec(), terms, reason: "a test".to_owned() };
    ledger.ask_replay(&pipeline(), &wanted, at(when)).await.unwrap()
}

async fn again(ledger: &dyn Ledger, now: i64, skip: &[SegmentId]) -> Vec<WorkItem> {
    ledger.again(&pipeline(), &stream(), at(now), skip, 10).await.unwrap()
}

fn ids(items: &[WorkItem]) -> Vec<SegmentId> {
    items.iter().map(|item| item.segment.id.clone()).collect()
}

/// A group of one segment that is refined again.
fn group_of(ledger: &dyn Ledger, number: u64, item: &WorkItem, counts: SegmentCounts, tables: &[&str]) -> LoadGroup {
    let id = &item.segment.id;
    let mut of = group(ledger, number, std::slice::from_ref(id), tables);
    let left = counts.rejected + 1;
    for segment in &mut of.segments {
        segment.again = item.again;
        segment.terms = item.terms;
        segment.generation = item.generation;
        segment.counts = counts;
        segment.rejects = vec![RejectCount { stage: "step:rule".to_owned(), code: "late".to_owned(), records: left }];
        segment.retryable = counts.rejected;
    }
    of.revision = other();
    // After what the tests ask for at 70 and 71.
    of.begun_at = at(72);
    for load in &mut of.loads {
        load.revision = other();
        load.begun_at = at(72);
    }
    of
}

/// Of the one refinement.
async fn counts(ledger: &dyn Ledger) -> [Option<i64>; 6] {
    let table = ledger.read_table("refinements").await.unwrap();
    assert_eq!(table.num_rows(), 1);
    ["records", "loaded", "filtered", "rejected", "rescued", "retryable"]
        .map(|name| table.column_by_name(name).unwrap().as_primitive::<Int64Type>().iter().next().unwrap())
}

async fn state(ledger: &dyn Ledger) -> String {
    let table = ledger.read_table("refinements").await.unwrap();
    table.column_by_name("state").unwrap().as_string::<i32>().value(0).to_owned()
}

async fn rows(ledger: &dyn Ledger, table: &str) -> usize {
    ledger.read_table(table).await.unwrap().num_rows()
}

pub(super) async fn rejected_records_are_healed_once_under_each_revision(ledger: &dyn Ledger) {
    let a = land_file(ledger, 1, "a.csv", "v1", 5).await.remove(0);
    let b = land_file(ledger, 2, "b.csv", "v1", 5).await.remove(0);
    assert_eq!(heal(ledger, &unless(other())).await, 0, "nothing is loaded");
    load_all(ledger, 1, &[refined(&a, &[]), refined(&b, &[])]).await;
    assert_eq!(heal(ledger, &unless(Digest::of(b"revision"))).await, 0, "it has refused them already");
    assert_eq!(heal(ledger, &unless(other())).await, 2);
    assert_eq!(heal(ledger, &unless(other())).await, 0, "asked for before");
    let items = again(ledger, 71, &[]).await;
    assert_eq!(ids(&items), [b.clone(), a.clone()], "the newest first");
    assert!(items.iter().all(|item| item.again == Some(Again::Heal) && item.generation == 1 && item.attempts == 0));
    assert!(work_ids(ledger, 99).await.is_empty(), "it is not work of production");
    assert_eq!(ids(&again(ledger, 71, std::slice::from_ref(&b)).await), std::slice::from_ref(&a));
    let passed = SegmentCounts { records: 1, loaded: 1, ..SegmentCounts::default() };
    for (number, item) in [(2, &items[0]), (3, &items[1])] {
        ledger.open_group(&group_of(ledger, number, item, passed, &[])).await.unwrap();
    }
    assert!(again(ledger, 99, &[]).await.is_empty());
    assert_eq!(heal(ledger, &unless(other())).await, 0, "it has tried them, and of the rest nothing may pass");
    let third = Digest::of(b"a third");
    assert_eq!(heal(ledger, &unless(third)).await, 0, "nothing may pass any more");
    let codes = HealRequest { codes: vec!["late".to_owned()], ..HealRequest::default() };
    assert_eq!(heal(ledger, &codes).await, 0);
}

pub(super) async fn a_heal_adds_to_what_there_is(ledger: &dyn Ledger) {
    let a = land_file(ledger, 1, "a.csv", "v1", 5).await.remove(0);
    load_all(ledger, 1, &[refined(&a, &[])]).await;
    let codes = |code: &str| HealRequest { codes: vec![code.to_owned()], ..HealRequest::default() };
    assert_eq!(heal(ledger, &codes("late")).await, 0, "no record was rejected so");
    assert_eq!(
        heal(ledger, &HealRequest { since: Some(at(9)), ..HealRequest::default() }).await,
        0,
        "it landed before"
    );
    assert_eq!(heal(ledger, &codes("malformed")).await, 1);
    let item = again(ledger, 71, &[]).await.remove(0);
    let tried = SegmentCounts { records: 2, loaded: 1, filtered: 0, rejected: 1, rescued: 1 };
    let opened = group_of(ledger, 2, &item, tried, &["payments"]);
    for _ in 0..2 {
        ledger.open_group(&opened).await.unwrap();
    }
    assert_eq!(state(ledger).await, "loading");
    assert_eq!(rows(ledger, "again").await, 0);
    ledger.close_load(&pipeline(), 2, &table("payments"), &receipt(), at(80)).await.unwrap();
    assert_eq!(state(ledger).await, "loaded");
    assert_eq!(counts(ledger).await, [10, 8, 1, 1, 4, 1].map(Some));
    let table = ledger.read_table("refinements").await.unwrap();
    let number = |name: &str| table.column_by_name(name).unwrap().as_primitive::<Int64Type>().value(0);
    assert_eq!((number("load_number"), number("generation")), (1, 1), "most rows are of the first load");
    assert_eq!(rows(ledger, "heals").await, 1);
    assert_eq!(heal(ledger, &codes("malformed")).await, 0, "the codes of now count");
    assert_eq!(heal(ledger, &codes("late")).await, 1);
    let next = again(ledger, 81, &[]).await.remove(0);
    assert_eq!(next.generation, 2);
}

pub(super) async fn what_is_known_to_have_none_is_not_asked_for(ledger: &dyn Ledger) {
    let a = land_file(ledger, 1, "a.csv", "v1", 5).await.remove(0);
    load_all(ledger, 1, &[forebay_model::load::RefinedSegment { retryable: 0, ..refined(&a, &[]) }]).await;
    assert_eq!(heal(ledger, &HealRequest::default()).await, 0);
    assert!(again(ledger, 99, &[]).await.is_empty());
}

pub(super) async fn a_replay_is_of_the_whole_segment(ledger: &dyn Ledger) {
    let a = land_file(ledger, 1, "a.csv", "v1", 5).await.remove(0);
    let waits = land_file(ledger, 2, "b.csv", "v1", 5).await.remove(0);
    load_all(ledger, 1, &[refined(&a, &[])]).await;
    assert_eq!(heal(ledger, &HealRequest::default()).await, 1);
    let both = [a.clone(), waits, SegmentId::from_text("payments/none")];
    let ask = async || replay(ledger, &both, Terms::default(), 71).await;
    assert_eq!((ask().await, ask().await), (1, 0), "what is loaded, once; it takes the place of the heal");
    assert_eq!(heal(ledger, &HealRequest::default()).await, 0, "a replay tries all of it");
    let item = again(ledger, 72, &[]).await.remove(0);
    assert_eq!((item.again, item.generation), (Some(Again::Replay), 1));
    let all = SegmentCounts { records: 10, loaded: 10, ..SegmentCounts::default() };
    let mut opened = group_of(ledger, 2, &item, all, &["payments"]);
    opened.segments[0].rejects.clear();
    ledger.open_group(&opened).await.unwrap();
    ledger.close_load(&pipeline(), 2, &table("payments"), &receipt(), at(80)).await.unwrap();
    let table = ledger.read_table("refinements").await.unwrap();
    let numbers = table.column_by_name("load_number").unwrap().as_primitive::<Int64Type>();
    assert!(numbers.iter().any(|number| number == Some(2)));
    assert!(again(ledger, 99, &[]).await.is_empty());
}

pub(super) async fn what_fails_again_waits_and_stays_loaded(ledger: &dyn Ledger) {
    let a = land_file(ledger, 1, "a.csv", "v1", 5).await.remove(0);
    load_all(ledger, 1, &[refined(&a, &[])]).await;
    heal(ledger, &HealRequest::default()).await;
    let failed = |now: i64, retry: Option<i64>| {
        let mut failure = failure(&a, now, retry);
        failure.generation = 1;
        failure
    };
    for _ in 0..2 {
        ledger.fail(&pipeline(), &failed(72, Some(75))).await.unwrap();
    }
    assert_eq!(state(ledger).await, "loaded");
    assert!(again(ledger, 74, &[]).await.is_empty(), "not due");
    let due = again(ledger, 75, &[]).await;
    assert_eq!((due.len(), due[0].attempts), (1, 1));
    ledger.fail(&pipeline(), &failed(76, None)).await.unwrap();
    assert!(again(ledger, 999, &[]).await.is_empty(), "it waits for a revision or a person");
    assert_eq!(ledger.retry_failed(&pipeline()).await.unwrap(), 1);
    assert_eq!(again(ledger, 77, &[]).await[0].attempts, 2);
    let late = ledger.fail(&pipeline(), &failure(&a, 78, None)).await.unwrap_err();
    assert_eq!(late.class(), ErrorClass::Fenced, "of the generation that is loaded");
}

pub(super) async fn what_is_asked_for_while_it_is_refined_is_done_afterwards(ledger: &dyn Ledger) {
    let a = land_file(ledger, 1, "a.csv", "v1", 5).await.remove(0);
    load_all(ledger, 1, &[refined(&a, &[])]).await;
    let passed = SegmentCounts { records: 1, loaded: 1, ..SegmentCounts::default() };
    heal(ledger, &HealRequest::default()).await;
    let item = again(ledger, 71, &[]).await.remove(0);
    assert_eq!(item.retryable, Some(2));
    // A worker has the heal; its group was begun at 50. A replay is asked for.
    let segments = std::slice::from_ref(&a);
    assert_eq!(replay(ledger, segments, Terms::default(), 75).await, 1);
    ledger.open_group(&group_of(ledger, 2, &item, passed, &["payments"])).await.unwrap();
    assert!(again(ledger, 99, &[]).await.is_empty(), "it is being loaded");
    ledger.close_load(&pipeline(), 2, &table("payments"), &receipt(), at(80)).await.unwrap();
    let whole = again(ledger, 99, &[]).await.remove(0);
    assert_eq!((whole.again, whole.generation), (Some(Again::Replay), 2));
    // Asked for once more while the replay of before is under way.
    let mut opened = group_of(ledger, 3, &whole, SegmentCounts { records: 3, loaded: 3, ..passed }, &["payments"]);
    opened.begun_at = at(90);
    for load in &mut opened.loads {
        load.begun_at = at(90);
    }
    assert_eq!(replay(ledger, segments, Terms::default(), 91).await, 0);
    ledger.open_group(&opened).await.unwrap();
    assert_eq!(replay(ledger, segments, Terms::default(), 92).await, 0, "also while it loads");
    ledger.close_load(&pipeline(), 3, &table("payments"), &receipt(), at(93)).await.unwrap();
    assert_eq!(again(ledger, 99, &[]).await.len(), 1);
}

pub(super) async fn what_is_asked_for_can_be_taken_back(ledger: &dyn Ledger) {
    let a = land_file(ledger, 1, "a.csv", "v1", 5).await.remove(0);
    let b = land_file(ledger, 2, "b.csv", "v1", 5).await.remove(0);
    load_all(ledger, 1, &[refined(&a, &[]), refined(&b, &[])]).await;
    heal(ledger, &HealRequest::default()).await;
    replay(ledger, std::slice::from_ref(&b), Terms::default(), 71).await;
    let item = again(ledger, 72, std::slice::from_ref(&b)).await.remove(0);
    assert_eq!(ledger.forget_again(&pipeline(), Again::Heal).await.unwrap(), 1);
    assert_eq!(ids(&again(ledger, 72, &[]).await), std::slice::from_ref(&b));
    // A worker had it when it was taken back: what it made of it counts.
    let none = SegmentCounts { records: 1, filtered: 1, ..SegmentCounts::default() };
    ledger.open_group(&group_of(ledger, 2, &item, none, &[])).await.unwrap();
    let mut failed = failure(&b, 73, None);
    failed.generation = 1;
    assert_eq!(ledger.forget_again(&pipeline(), Again::Replay).await.unwrap(), 1);
    ledger.fail(&pipeline(), &failed).await.unwrap();
    assert_eq!(rows(ledger, "again").await, 0);
}

pub(super) async fn a_version_that_is_replaced_is_not_refined_again(ledger: &dyn Ledger) {
    let first = land_file(ledger, 1, "a.csv", "v1", 5).await.remove(0);
    load_all(ledger, 1, &[refined(&first, &[])]).await;
    heal(ledger, &HealRequest::default()).await;
    let second = land_file(ledger, 2, "a.csv", "v2", 5).await.remove(0);
    assert!(again(ledger, 99, &[]).await.is_empty());
    let replaces = [first];
    let next = LoadGroup {
        segments: vec![refined(&second, &replaces)],
        ..group(ledger, 2, std::slice::from_ref(&second), &["payments"])
    };
    ledger.open_group(&next).await.unwrap();
    assert_eq!(rows(ledger, "again").await, 0, "superseded");
    let mut both = refined(&second, &replaces);
    both.again = Some(Again::Heal);
    let broken = LoadGroup { segments: vec![both], ..group(ledger, 3, std::slice::from_ref(&second), &[]) };
    assert_eq!(ledger.open_group(&broken).await.unwrap_err().class(), ErrorClass::Bug);
}

pub(super) async fn a_heal_that_is_withdrawn_is_refined_whole(ledger: &dyn Ledger) {
    let a = land_file(ledger, 1, "a.csv", "v1", 5).await.remove(0);
    load_all(ledger, 1, &[refined(&a, &[])]).await;
    heal(ledger, &HealRequest::default()).await;
    let item = again(ledger, 71, &[]).await.remove(0);
    let passed = SegmentCounts { records: 1, loaded: 1, ..SegmentCounts::default() };
    ledger.open_group(&group_of(ledger, 2, &item, passed, &["payments"])).await.unwrap();
    let mut refused = failure(&a, 72, Some(80));
    refused.generation = 1;
    ledger.withdraw_group(&pipeline(), 2, &[refused]).await.unwrap();
    assert_eq!(state(ledger).await, "failed");
    assert_eq!((rows(ledger, "heals").await, counts(ledger).await), (0, [None; 6]));
    let whole = failed(ledger, 80, &[], 10).await;
    assert_eq!((whole.len(), whole[0].generation, whole[0].again), (1, 1, None));
}

/// Terms that ask for a revision, which is recorded.
async fn under(ledger: &dyn Ledger) -> Terms {
    let recorded = ledger.record_revision(&super::catalog::revision(-8.0), at(1)).await.unwrap();
    Terms { revision: Some(recorded.id), workers: std::num::NonZeroU32::new(2) }
}

/// A group of one segment under the revision that was asked for.
fn group_under(ledger: &dyn Ledger, number: u64, item: &WorkItem, begun: i64) -> LoadGroup {
    let all = SegmentCounts { records: 10, loaded: 7, filtered: 1, rejected: 2, rescued: 0 };
    let mut of = group_of(ledger, number, item, all, &["payments"]);
    of.revision = item.terms.revision.unwrap_or_else(other);
    of.begun_at = at(begun);
    for load in &mut of.loads {
        load.revision = of.revision;
        load.begun_at = at(begun);
    }
    of
}

pub(super) async fn a_replay_is_done_under_the_revision_that_was_asked_for(ledger: &dyn Ledger) {
    let a = land_file(ledger, 1, "a.csv", "v1", 5).await.remove(0);
    let segments = std::slice::from_ref(&a);
    load_all(ledger, 1, &[refined(&a, &[])]).await;
    let unknown = Terms { revision: Some(other()), workers: None };
    let wanted = ReplayRequest { segments: vec![a.clone()], terms: unknown, reason: String::new() };
    let refused = ledger.ask_replay(&pipeline(), &wanted, at(71)).await.unwrap_err();
    assert_eq!((refused.class(), rows(ledger, "again").await), (ErrorClass::Bug, 0), "it is not recorded");
    let terms = under(ledger).await;
    assert_eq!(replay(ledger, segments, terms, 71).await, 1);
    assert_eq!(again(ledger, 72, &[]).await[0].terms, terms);
    assert_eq!(heal(ledger, &HealRequest::default()).await, 0);
    let item = again(ledger, 72, &[]).await.remove(0);
    assert_eq!(item.terms, terms, "a heal changes nothing of it");
    let mut wrong = group_under(ledger, 2, &item, 80);
    wrong.revision = other();
    wrong.loads.iter_mut().for_each(|load| load.revision = other());
    assert_eq!(
        ledger.open_group(&wrong).await.unwrap_err().class(),
        ErrorClass::Bug,
        "another revision makes other rows"
    );
    // A group without the terms was begun before they were asked for: it does not do what they say.
    let mut without = group_under(ledger, 2, &WorkItem { terms: Terms::default(), ..item.clone() }, 80);
    without.segments[0].terms = Terms::default();
    ledger.open_group(&without).await.unwrap();
    ledger.close_load(&pipeline(), 2, &table("payments"), &receipt(), at(81)).await.unwrap();
    let item = again(ledger, 82, &[]).await.remove(0);
    assert_eq!((item.terms, item.generation), (terms, 2));
    ledger.open_group(&group_under(ledger, 3, &item, 83)).await.unwrap();
    ledger.close_load(&pipeline(), 3, &table("payments"), &receipt(), at(84)).await.unwrap();
    assert_eq!((again(ledger, 99, &[]).await.len(), rows(ledger, "again").await), (0, 0));
    // Its rejects are its own: no other revision tries them by itself.
    assert_eq!(heal(ledger, &unless(other())).await, 0);
    assert_eq!(heal(ledger, &HealRequest::default()).await, 1, "a person may ask");
    // The last terms hold, also those without a revision.
    assert_eq!(replay(ledger, segments, terms, 90).await, 1);
    assert_eq!(replay(ledger, segments, Terms::default(), 91).await, 0);
    assert_eq!(again(ledger, 99, &[]).await[0].terms, Terms::default());
}

pub(super) async fn a_withdrawn_replay_under_a_revision_is_still_to_be_done(ledger: &dyn Ledger) {
    let a = land_file(ledger, 1, "a.csv", "v1", 5).await.remove(0);
    load_all(ledger, 1, &[refined(&a, &[])]).await;
    let terms = under(ledger).await;
    replay(ledger, std::slice::from_ref(&a), terms, 71).await;
    let item = again(ledger, 72, &[]).await.remove(0);
    ledger.open_group(&group_under(ledger, 2, &item, 72)).await.unwrap();
    let mut refused = failure(&a, 73, Some(80));
    refused.generation = 1;
    for _ in 0..2 {
        ledger.withdraw_group(&pipeline(), 2, std::slice::from_ref(&refused)).await.unwrap();
    }
    assert!(again(ledger, 99, &[]).await.is_empty(), "its rows may be in some tables: that is mended first");
    let whole = failed(ledger, 80, &[], 10).await.remove(0);
    ledger.open_group(&group_under(ledger, 3, &whole, 81)).await.unwrap();
    ledger.close_load(&pipeline(), 3, &table("payments"), &receipt(), at(82)).await.unwrap();
    assert!(again(ledger, 79, &[]).await.is_empty(), "not due");
    let item = again(ledger, 80, &[]).await.remove(0);
    assert_eq!((item.again, item.terms, item.attempts), (Some(Again::Replay), terms, 1));
}
