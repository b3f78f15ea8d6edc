//! Production and history side by side: which segments belong where, and which revision they wait for.

use super::*;

/// The segments that go to workers, each with its binding.
fn refines(effects: &[Effect]) -> Vec<(BindingId, SegmentId)> {
    effects
        .iter()
        .filter_map(|effect| {
            if let Effect::Refine { binding, job } = effect {
                Some((*binding, job.item.segment.id.clone()))
            } else {
                None
            }
        })
        .collect()
}

pub(super) fn replay(key: &str) -> WorkItem {
    WorkItem { generation: 1, again: Some(Again::Replay), ..item(key) }
}

#[test]
fn what_is_refined_again_waits_for_the_revision_that_was_deployed_and_production_does_not() {
    let mut machine = Machine::serving(false, 1);
    machine.revision = Digest::of(b"another revision");
    machine.step(Event::Deployed { revision: machine.revision, number: 2 });
    let (old, new) = (replay("old"), item("new"));
    let work = Work { first: vec![new.clone()], again: vec![old.clone()] };
    let effects = machine.step(Event::Worked(Ok(work)));
    assert_eq!(refines(&effects), [(1, new.segment.id)], "the former binding serves production alone");
    let effects = machine.bound(2);
    assert_eq!(refines(&effects), [(2, old.segment.id)]);
}

#[test]
fn what_is_refined_again_goes_on_where_the_revision_that_was_deployed_does_not_bind() {
    let mut machine = Machine::serving(false, 1);
    machine.step(Event::Deployed { revision: Digest::of(b"another revision"), number: 2 });
    let old = replay("old");
    machine.step(Event::Worked(Ok(Work { first: vec![], again: vec![old.clone()] })));
    let effects = machine.step(Event::Bound(2, Ok(Binding::Refused(Error::operator("it does not fit")))));
    assert_eq!(refines(&effects), [(1, old.segment.id)]);
}

#[test]
fn production_comes_first_and_each_lane_has_its_groups() {
    let mut machine = Machine::serving(false, 1);
    let work = Work { first: vec![item("a"), item("b"), item("c")], again: vec![replay("x"), replay("y")] };
    let effects = machine.step(Event::Worked(Ok(work)));
    let first: Vec<_> = refines(&effects).into_iter().map(|(_, segment)| segment).collect();
    assert_eq!(first, [item("a").segment.id, item("b").segment.id, item("x").segment.id]);
    let effects = machine.step(Event::Refined(item("a").segment.id, Ok(staged(&item("a"), &table()))));
    let opened =
        effects.iter().find_map(|effect| if let Effect::OpenGroup(group) = effect { Some(group) } else { None });
    assert_eq!(opened.map(|group| group.segments.len()), Some(1));
}

/// A replay under a revision that is not the one that serves.
fn replay_under(key: &str) -> WorkItem {
    WorkItem { terms: Terms { revision: Some(Digest::of(b"asked for")), workers: None }, ..replay(key) }
}

fn again(items: &[WorkItem]) -> Event {
    Event::Worked(Ok(Work { first: vec![], again: items.to_vec() }))
}

fn bound_beside(machine: &mut Machine, id: BindingId) -> Vec<Effect> {
    let schema = std::sync::Arc::new(arrow_schema::Schema::empty());
    let tables = BTreeMap::from([(table(), (schema, Vec::new()))]);
    let summary = BoundSummary { revision: Digest::of(b"asked for"), number: 7, schema_version: 1, tables };
    machine.step(Event::Bound(id, Ok(Binding::Done(summary))))
}

#[test]
fn a_replay_under_another_revision_is_bound_beside_the_one_that_serves() {
    let mut machine = Machine::serving(false, 1);
    let (old, new) = (replay_under("old"), item("new"));
    let effects = machine.step(again(std::slice::from_ref(&old)));
    assert!(refines(&effects).is_empty() && effects.iter().any(|e| matches!(e, Effect::BindBeside { id: 2, .. })));
    let effects = machine.step(Event::Worked(Ok(Work { first: vec![new.clone()], again: vec![] })));
    assert_eq!(refines(&effects), [(1, new.segment.id.clone())], "production does not wait for it");
    machine.step(again(&[]));
    let effects = bound_beside(&mut machine, 2);
    assert_eq!(refines(&effects), [(2, old.segment.id.clone())]);
    let accepts = |effect: &Effect| matches!(effect, Effect::Refine { job, .. } if job.accept_schema);
    assert!(effects.iter().any(accepts), "no schema grows for it");
    machine.step(Event::Refined(new.segment.id.clone(), Ok(staged(&new, &table()))));
    machine.step(Event::Opened(Ok(())));
    machine.step(Event::Committed(table(), Ok(receipt())));
    machine.step(Event::Closed(table(), Ok(())));
    machine.step(Event::Refined(old.segment.id.clone(), Ok(staged(&old, &table()))));
    machine.step(again(&[]));
    let effects = machine.step(Event::Found(Ok(vec![table()])));
    let opened = effects.iter().find_map(|e| if let Effect::OpenGroup(group) = e { Some(group) } else { None });
    assert_eq!(opened.map(|group| group.revision), Some(Digest::of(b"asked for")));
    machine.step(Event::Opened(Ok(())));
    machine.step(Event::Committed(table(), Ok(receipt())));
    let effects = machine.step(Event::Closed(table(), Ok(())));
    let retries = |effect: &Effect| matches!(effect, Effect::RetryFailed { .. });
    assert!(!effects.iter().any(retries), "what it rejected is not tried again by itself");
    // Another one that becomes active changes nothing of what was asked for: it is bound again, and takes it.
    machine.revision = Digest::of(b"a third");
    machine.step(Event::Deployed { revision: machine.revision, number: 3 });
    let effects = machine.step(again(&[replay_under("older")]));
    assert_eq!(refines(&effects).len(), 1, "also while that is made ready");
    machine.bound(3);
    let effects = machine.step(again(&[replay_under("oldest")]));
    assert!(effects.iter().any(|e| matches!(e, Effect::BindBeside { .. })), "to what schema and tables are then");
}

pub(super) fn receipt() -> LoadReceipt {
    LoadReceipt { table_version: 1, rows_added: 1, rows_removed: 0, committed_now: true }
}

#[test]
fn a_revision_that_cannot_be_loaded_any_more_fails_what_was_asked_for_and_stops_nothing() {
    let mut machine = Machine::serving(false, 1);
    let old = replay_under("old");
    machine.step(again(&[old.clone(), replay("other")]));
    let gone = Error::operator("module fraud is not in the landing zone any more");
    let effects = machine.step(Event::Bound(2, Ok(Binding::Refused(gone))));
    let failed = effects.iter().find_map(|e| if let Effect::NoteFailure(failure) = e { Some(failure) } else { None });
    let failed = failed.expect("a failure");
    assert_eq!((&failed.segment, failed.revision), (&old.segment.id, Digest::of(b"asked for")));
    assert_eq!(refines(&effects), [(1, replay("other").segment.id)], "what was asked for otherwise goes on");
    let effects = machine.step(Event::Noted(old.segment.id, Ok(())));
    let retries = |effect: &Effect| matches!(effect, Effect::RetryFailed { .. });
    assert!(!effects.iter().any(retries), "the revision that serves is no reason to try it again");
}

#[test]
fn a_replay_takes_no_more_workers_than_it_was_asked_to() {
    let mut machine = Machine::serving(false, 1);
    machine.state.settings.group_segments = 8;
    let one = Terms { workers: std::num::NonZeroU32::new(1), revision: None };
    let of = |key: &str| WorkItem { terms: one, ..replay(key) };
    let effects = machine.step(again(&[of("a"), of("b"), of("c")]));
    assert_eq!(refines(&effects).len(), 1, "the other worker is free");
    let effects = machine.step(Event::Worked(Ok(Work { first: vec![item("new")], again: vec![] })));
    assert_eq!(refines(&effects), [(1, item("new").segment.id)], "production takes it at once");
    let effects = machine.step(Event::Refined(item("new").segment.id, Ok(staged(&item("new"), &table()))));
    assert!(refines(&effects).is_empty(), "it has its share still");
    machine.step(again(&[]));
    let effects = machine.step(Event::Refined(of("a").segment.id, Ok(staged(&of("a"), &table()))));
    assert_eq!(refines(&effects), [(1, of("b").segment.id)]);
}

/// A segment that had landed before the pipeline began.
fn history(key: &str) -> WorkItem {
    WorkItem { history: true, ..item(key) }
}

/// A segment that failed before.
pub(super) fn failed(key: &str) -> WorkItem {
    WorkItem { failed: true, attempts: 1, ..item(key) }
}

/// What a store answers that has nothing against it.
fn answer(effect: &Effect) -> Option<Event> {
    if matches!(effect, Effect::OpenGroup(_)) {
        Some(Event::Opened(Ok(())))
    } else if matches!(effect, Effect::Commit(_)) {
        let receipt = LoadReceipt { table_version: 0, rows_added: 1, rows_removed: 0, committed_now: true };
        Some(Event::Committed(table(), Ok(receipt)))
    } else if matches!(effect, Effect::CloseLoad { .. }) {
        Some(Event::Closed(table(), Ok(())))
    } else if matches!(effect, Effect::FindTables(_)) {
        Some(Event::Found(Ok(vec![table()])))
    } else if matches!(effect, Effect::FetchWork { .. }) {
        Some(Event::Worked(Ok(Work::default())))
    } else {
        None
    }
}

/// Refines what goes to workers, one segment after the other, with stores that have nothing against anything; the groups that are opened.
fn opened(machine: &mut Machine, mut effects: Vec<Effect>, all: &[WorkItem]) -> Vec<Vec<String>> {
    let mut groups = Vec::new();
    loop {
        if let Some(place) = effects.iter().position(|effect| answer(effect).is_some()) {
            let asked = effects.remove(place);
            if let Effect::OpenGroup(group) = &asked {
                let name = |id: &SegmentId| all.iter().find(|item| item.segment.id == *id).map(key);
                groups.push(group.segments.iter().filter_map(|segment| name(&segment.segment)).collect());
            }
            effects.extend(answer(&asked).into_iter().flat_map(|answer| machine.step(answer)));
            continue;
        }
        let Some((_, segment)) = refines(&effects).first().cloned() else { return groups };
        effects.retain(|effect| !matches!(effect, Effect::Refine { job, .. } if job.item.segment.id == segment));
        let done = all.iter().find(|item| item.segment.id == segment).expect("it is one of them");
        effects.extend(machine.step(Event::Refined(segment, Ok(staged(done, &table())))));
    }
}

fn key(item: &WorkItem) -> String {
    item.segment.object_key().to_owned()
}

#[test]
fn what_had_landed_before_goes_beside_what_lands_and_has_one_group_in_four() {
    let mut machine = Machine::serving(false, 1);
    machine.step(Event::Retried(Ok(())));
    let new: Vec<_> = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"].map(item).into();
    let before = vec![history("x"), history("y")];
    let all: Vec<_> = new.iter().chain(&before).cloned().collect();
    let effects = machine.step(Event::Worked(Ok(Work { first: new, again: before })));
    let order = opened(&mut machine, effects, &all).concat().concat();
    // Three go before each that is ready.
    assert_eq!(order, "abcdefgxhijy");
}

#[test]
fn what_had_landed_before_waits_for_no_revision_as_production_does_not() {
    let mut machine = Machine::serving(false, 1);
    machine.step(Event::Deployed { revision: Digest::of(b"another revision"), number: 2 });
    let effects = machine.step(Event::Worked(Ok(Work { first: vec![], again: vec![history("x")] })));
    assert_eq!(refines(&effects), [(1, history("x").segment.id)]);
}

#[test]
fn what_failed_goes_beside_what_lands_and_has_one_group_in_four() {
    let mut machine = Machine::serving(false, 1);
    machine.step(Event::Retried(Ok(())));
    let new: Vec<_> = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"].map(item).into();
    let before = vec![failed("x"), failed("y")];
    let all: Vec<_> = new.iter().chain(&before).cloned().collect();
    let effects = machine.step(Event::Worked(Ok(Work { first: new, again: before })));
    assert_eq!(opened(&mut machine, effects, &all).concat().concat(), "abcdefgxhijy");
}

#[test]
fn what_failed_waits_for_the_revision_that_was_deployed_and_is_counted_where_it_fails_again() {
    let mut machine = Machine::serving(false, 1);
    machine.revision = Digest::of(b"another revision");
    machine.step(Event::Deployed { revision: machine.revision, number: 2 });
    let (old, new) = (failed("old"), item("new"));
    let effects = machine.step(Event::Worked(Ok(Work { first: vec![new.clone()], again: vec![old.clone()] })));
    assert_eq!(refines(&effects), [(1, new.segment.id)], "the former binding serves production alone");
    let effects = machine.bound(2);
    assert_eq!(refines(&effects), [(2, old.segment.id.clone())]);
    let effects = machine.step(Event::Refined(old.segment.id, Err(Error::retry("the disk is busy"))));
    let pause = failures(&effects)[0].retry_at.map(|at| at.since(Timestamp::EPOCH));
    assert_eq!(pause, Some(Duration::from_millis(400)), "for the second time");
}

#[test]
fn the_first_schema_comes_from_what_failed_where_that_is_all_there_is_the_oldest_first() {
    for (new, expected) in [(vec![], ["a", "b", "c"].to_vec()), (vec![item("new")], vec!["new", "a", "b", "c"])] {
        let mut machine = Machine::before_anything(false);
        machine.step(Event::Recovered(Ok(Recovered::default())));
        machine.step(Event::Deployed { revision: machine.revision, number: 1 });
        machine.step(Event::Worked(Ok(Work::default())));
        let effects = machine.step(Event::Retried(Ok(())));
        let asked = |effect: &Effect| matches!(effect, Effect::FetchWork { again, .. } if *again >= 16);
        assert!(effects.iter().any(asked), "as many as are looked at: {effects:?}");
        let work = Work { first: new, again: ["c", "b", "a"].map(failed).to_vec() };
        let effects = machine.step(Event::Worked(Ok(work)));
        let sample = effects.iter().find_map(|e| if let Effect::Infer(items) = e { Some(items) } else { None });
        let sample: Vec<_> = sample.into_iter().flatten().map(|item| item.segment.object.as_str()).collect();
        assert_eq!(sample, expected);
        machine.step(Event::Inferred(Ok(None)));
        let effects = machine.bound(1);
        let first = if expected.len() == 4 { "new" } else { "c" };
        assert_eq!(refines(&effects)[0], (1, item(first).segment.id), "they are refined the newest first");
    }
}

#[test]
fn the_first_schema_of_a_later_pipeline_comes_from_the_beginning_of_history() {
    let mut machine = Machine::before_anything(false);
    machine.step(Event::Recovered(Ok(Recovered::default())));
    let effects = machine.step(Event::Deployed { revision: machine.revision, number: 1 });
    let asked = effects
        .iter()
        .find_map(|effect| if let Effect::FetchWork { again, .. } = effect { Some(*again) } else { None });
    assert!(asked.is_some_and(|many| many >= 16), "as many as are looked at: {effects:?}");
    let work = Work { first: vec![item("new")], again: vec![history("x"), history("y")] };
    let effects = machine.step(Event::Worked(Ok(work)));
    let sample = effects.iter().find_map(|effect| if let Effect::Infer(items) = effect { Some(items) } else { None });
    let sample: Vec<_> = sample.into_iter().flatten().map(|item| item.segment.object.as_str()).collect();
    assert_eq!(sample, ["x", "y", "new"]);
}

#[test]
fn parts_of_a_version_stay_in_one_group_in_the_lane_of_history_too() {
    let mut machine = Machine::serving(false, 1);
    let parts = ["x", "y", "z"].map(|key| {
        let mut part = history(key);
        part.segment.replaces = vec![item("former").segment.id];
        part.segment.object = "the same".to_owned();
        part
    });
    // Production has work too, and a group is full with one segment.
    machine.step(Event::Retried(Ok(())));
    let new = item("new");
    let all: Vec<_> = parts.iter().chain([&new]).cloned().collect();
    let effects = machine.step(Event::Worked(Ok(Work { first: vec![new], again: parts.to_vec() })));
    let mut groups = opened(&mut machine, effects, &all);
    groups.iter_mut().for_each(|group| group.sort());
    assert_eq!(groups, [vec!["new"], vec!["x", "y", "z"]]);
}
