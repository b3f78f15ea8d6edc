use super::*;
use forebay_model::load::{Again, RefinedSegment, Terms};
use forebay_model::segment::SegmentContent;
use forebay_model::{
    Compression, Digest, LandedSegment, LoadReceipt, Partition, Position, SegmentCounts, StagedFile, StreamName,
};

use super::super::protocol::{Binding, Growth, Recovered, Work};

mod turns;

#[derive(Debug)]
struct NoChance;

impl forebay_model::ports::Random for NoChance {
    fn uuid(&self) -> Uuid {
        Uuid::nil()
    }

    fn bits(&self) -> u64 {
        0
    }
}

fn item(key: &str) -> WorkItem {
    let (stream, partition) = (StreamName::new("events").expect("name"), Partition::new("files:/inbox"));
    let first = Position::object(key, "1", 0..1);
    let segment = LandedSegment {
        id: SegmentId::derive(&stream, &partition, &first),
        stream,
        partition,
        first,
        next: None,
        object: key.to_owned(),
        content: SegmentContent::Bytes { range: 0..1, compression: Compression::None, preamble: None },
        bytes: 1,
        records: None,
        digest: Digest::of(b""),
        landed_at: Timestamp::EPOCH,
        format: "json".to_owned(),
        replaces: Vec::new(),
    };
    WorkItem {
        segment,
        generation: 0,
        attempts: 0,
        again: None,
        history: false,
        failed: false,
        terms: Terms::default(),
        retryable: None,
    }
}

fn staged(item: &WorkItem, table: &TableName) -> SegmentOutcome {
    let file = StagedFile {
        path: "f".to_owned(),
        bytes: 1,
        rows: 1,
        segment: item.segment.id.clone(),
        partition_values: BTreeMap::new(),
        statistics: String::new(),
    };
    let refined = RefinedSegment {
        segment: item.segment.id.clone(),
        generation: item.generation,
        again: item.again,
        terms: item.terms,
        counts: SegmentCounts::default(),
        rejects: Vec::new(),
        retryable: 0,
        replaces: Vec::new(),
    };
    let files = BTreeMap::from([(table.clone(), vec![file])]);
    SegmentOutcome::Staged(Box::new(StagedSegment { refined, bytes: 1, files, heals: None }))
}

/// A pipeline, what it has done, and how to bring it something.
struct Machine {
    state: Refine,
    revision: RevisionId,
    /// Of the schema that it knows first.
    version: u32,
}

fn table() -> TableName {
    "lake.t".parse().expect("name")
}

impl Machine {
    /// One that has begun, and knows nothing.
    fn before_anything(once: bool) -> Self {
        let settings = RefineSettings {
            workers: 2,
            group_segments: 1,
            group_bytes: 1 << 30,
            group_age: Duration::from_secs(3600),
            poll: Duration::from_secs(1),
            once,
        };
        let state = Refine::new(PipelineName::new("p").expect("name"), Uuid::nil(), settings);
        let mut machine = Self { state, revision: Digest::of(b"revision"), version: 1 };
        machine.step(Event::Start);
        machine
    }

    /// One that runs, and is asked to bind its revision to a schema of this version as its first binding.
    fn new(once: bool, version: u32) -> Self {
        let mut machine = Self { version, ..Self::before_anything(once) };
        let known = StreamSchema { version, schema: std::sync::Arc::new(arrow_schema::Schema::empty()) };
        machine.step(Event::Recovered(Ok(Recovered { schema: Some(known), ..Recovered::default() })));
        let effects = machine.step(Event::Deployed { revision: machine.revision, number: 1 });
        assert!(matches!(effects.as_slice(), [Effect::Bind { id: 1, .. }, ..]), "{effects:?}");
        machine
    }

    /// One whose first binding serves.
    fn serving(once: bool, version: u32) -> Self {
        let mut machine = Self::new(once, version);
        machine.bound(1);
        machine
    }

    fn step(&mut self, event: Event) -> Vec<Effect> {
        self.state.step(Now { now: Timestamp::EPOCH, random: &NoChance }, event)
    }

    fn bound(&mut self, id: BindingId) -> Vec<Effect> {
        let schema = std::sync::Arc::new(arrow_schema::Schema::empty());
        let tables = BTreeMap::from([(table(), (schema, Vec::new()))]);
        let summary = BoundSummary { revision: self.revision, number: 1, schema_version: self.version, tables };
        self.step(Event::Bound(id, Ok(Binding::Done(summary))))
    }
}

/// Segments that are not loaded.
fn worked(first: Vec<WorkItem>) -> Event {
    Event::Worked(Ok(Work { first, again: Vec::new() }))
}

/// The pause before something is tried again.
fn pause(effects: &[Effect], wake: &Wake) -> Option<Duration> {
    effects.iter().find_map(|effect| {
        if let Effect::WakeAfter(of, pause) = effect { (of == wake).then_some(*pause) } else { None }
    })
}

fn failures(effects: &[Effect]) -> Vec<&SegmentFailure> {
    effects
        .iter()
        .filter_map(|effect| if let Effect::NoteFailure(failure) = effect { Some(failure.as_ref()) } else { None })
        .collect()
}

#[test]
fn a_store_that_cannot_be_asked_while_a_revision_is_bound_is_asked_again() {
    for (error, due) in [(Error::retry("the ledger is busy"), 200), (Error::operator("no space left"), 30_000)] {
        let mut machine = Machine::new(false, 1);
        let effects = machine.step(Event::Bound(1, Err(error)));
        assert_eq!(pause(&effects, &Wake::Bind), Some(Duration::from_millis(due)), "{effects:?}");
        let effects = machine.step(Event::Woke(Wake::Bind));
        assert!(effects.iter().any(|effect| matches!(effect, Effect::Bind { id: 2, .. })), "{effects:?}");
        let effects = machine.bound(2);
        assert!(effects.iter().any(|effect| matches!(effect, Effect::Report(Report::Serving { .. }))), "{effects:?}");
        let effects = machine.step(Event::Woke(Wake::Bind));
        assert!(!effects.iter().any(|effect| matches!(effect, Effect::Bind { .. })), "it is bound: {effects:?}");
    }
}

#[test]
fn a_newer_revision_takes_the_place_of_one_that_is_to_be_bound_again() {
    let mut machine = Machine::new(false, 1);
    machine.step(Event::Bound(1, Err(Error::retry("the ledger is busy"))));
    let effects = machine.step(Event::Deployed { revision: Digest::of(b"newer"), number: 2 });
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Bind { id: 2, .. })), "{effects:?}");
    let effects = machine.step(Event::Woke(Wake::Bind));
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Bind { .. })), "{effects:?}");
}

#[test]
fn a_revision_that_is_refused_is_not_bound_again() {
    let mut machine = Machine::new(false, 1);
    let effects = machine.step(Event::Bound(1, Ok(Binding::Refused(Error::operator("the rule says no")))));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Report(Report::NotBound { .. }))), "{effects:?}");
    assert_eq!(pause(&effects, &Wake::Bind), None);
}

#[test]
fn a_segment_that_fails_under_a_revision_whose_place_was_taken_meanwhile_is_tried_under_the_new_one() {
    let mut machine = Machine::serving(false, 1);
    machine.step(Event::Retried(Ok(())));
    let (a, b) = (item("a"), item("b"));
    machine.step(worked(vec![a.clone()]));
    machine.revision = Digest::of(b"newer");
    machine.step(Event::Deployed { revision: machine.revision, number: 2 });
    machine.bound(2);
    machine.step(Event::Retried(Ok(())));
    let mut fails = |item: &WorkItem| {
        machine.step(Event::Refined(item.segment.id.clone(), Err(Error::operator("the rule is broken"))));
        let effects = machine.step(Event::Noted(item.segment.id.clone(), Ok(())));
        machine.step(Event::Retried(Ok(())));
        machine.step(worked(vec![b.clone()]));
        effects.iter().any(|effect| matches!(effect, Effect::RetryFailed { .. }))
    };
    assert!(fails(&a), "the former revision said so");
    assert!(!fails(&b), "the new one said so, and would say it again");
}

#[test]
fn a_run_does_not_end_while_its_revision_is_to_be_bound_again() {
    let mut machine = Machine::new(true, 1);
    machine.step(Event::CaughtUp);
    machine.step(Event::Worked(Ok(Work::default())));
    machine.step(Event::Worked(Ok(Work::default())));
    let effects = machine.step(Event::Bound(1, Err(Error::retry("the ledger is busy"))));
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Finish(_))), "{effects:?}");
    machine.step(Event::Woke(Wake::Bind));
    machine.bound(2);
    let mut effects = machine.step(Event::Retried(Ok(())));
    effects.extend(machine.step(Event::Worked(Ok(Work::default()))));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Finish(Ok(())))), "{effects:?}");
}

/// A revision whose binding is to be tried again while a segment has the schema grow; its time comes meanwhile, or not yet.
fn growing_while_a_binding_is_owed(comes: bool) -> Machine {
    let mut machine = Machine::serving(true, 1);
    machine.step(Event::Retried(Ok(())));
    let a = item("a");
    machine.step(worked(vec![a.clone()]));
    machine.step(Event::Deployed { revision: machine.revision, number: 2 });
    machine.step(Event::Bound(2, Err(Error::retry("the table is busy"))));
    let schema = std::sync::Arc::new(arrow_schema::Schema::empty());
    let evolution = forebay_model::schema::Evolution { schema, added: vec!["b".to_owned()], widened: Vec::new() };
    let evolves = SegmentOutcome::Evolves(evolution);
    let effects = machine.step(Event::Refined(a.segment.id, Ok(evolves)));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Grow { id: 3, .. })), "{effects:?}");
    if comes {
        let effects = machine.step(Event::Woke(Wake::Bind));
        assert!(!effects.iter().any(|effect| matches!(effect, Effect::Bind { .. })), "one at a time: {effects:?}");
    }
    machine
}

#[test]
fn a_binding_whose_time_has_not_come_keeps_its_pause_whatever_becomes_of_the_growth() {
    for result in [Ok(Growth::Refused(Error::operator("the rule says no"))), Err(Error::retry("the ledger is busy"))] {
        let mut machine = growing_while_a_binding_is_owed(false);
        let effects = machine.step(Event::Grown(3, result));
        assert!(!effects.iter().any(|effect| matches!(effect, Effect::Bind { .. })), "{effects:?}");
        let effects = machine.step(Event::Woke(Wake::Bind));
        assert!(effects.iter().any(|effect| matches!(effect, Effect::Bind { id: 4, .. })), "{effects:?}");
    }
}

#[test]
fn a_binding_whose_time_came_while_the_schema_grew_is_made_when_that_has_failed() {
    let mut machine = growing_while_a_binding_is_owed(true);
    let refused = Growth::Refused(Error::operator("the rule says no"));
    let effects = machine.step(Event::Grown(3, Ok(refused)));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Bind { id: 4, .. })), "{effects:?}");
}

#[test]
fn a_schema_that_has_grown_binds_the_revision_for_good_and_lets_failed_segments_go() {
    let mut machine = growing_while_a_binding_is_owed(true);
    let schema = std::sync::Arc::new(arrow_schema::Schema::empty());
    let tables = BTreeMap::from([(table(), (std::sync::Arc::clone(&schema), Vec::new()))]);
    let summary = BoundSummary { revision: machine.revision, number: 2, schema_version: 2, tables };
    let grown = Growth::Done(StreamSchema { version: 2, schema }, summary);
    let effects = machine.step(Event::Grown(3, Ok(grown)));
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Bind { .. })), "{effects:?}");
    assert!(effects.iter().any(|effect| matches!(effect, Effect::RetryFailed { .. })), "{effects:?}");
    machine.step(Event::Retried(Ok(())));
    machine.step(Event::CaughtUp);
    let a = item("a");
    let mut effects = machine.step(Event::Refined(a.segment.id.clone(), Err(Error::operator("the rule is broken"))));
    effects.extend(machine.step(Event::Noted(a.segment.id, Ok(()))));
    for _ in 0..3 {
        effects.extend(machine.step(Event::Worked(Ok(Work::default()))));
    }
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Finish(Ok(())))), "it hangs: {effects:?}");
}

#[test]
fn failed_segments_are_let_go_again_though_the_ledger_was_busy() {
    let mut machine = Machine::new(false, 1);
    let effects = machine.bound(1);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::RetryFailed { .. })), "{effects:?}");
    let effects = machine.step(Event::Retried(Err(Error::retry("the ledger is busy"))));
    assert_eq!(pause(&effects, &Wake::Retry), Some(Duration::from_millis(200)), "{effects:?}");
    let effects = machine.step(Event::Woke(Wake::Retry));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::RetryFailed { .. })), "{effects:?}");
}

#[test]
fn parts_of_a_version_wait_as_long_as_the_one_that_failed() {
    for (error, again) in [(Error::retry("the disk is busy"), true), (Error::operator("the rule is broken"), false)] {
        let mut machine = Machine::serving(false, 1);
        let former = item("former").segment.id;
        let parts = ["a", "b"].map(|key| {
            let mut part = item(key);
            part.segment.replaces = vec![former.clone()];
            part.segment.object = "the same".to_owned();
            part
        });
        machine.step(worked(parts.to_vec()));
        let [a, b] = &parts;
        let mut effects = machine.step(Event::Refined(a.segment.id.clone(), Ok(staged(a, &table()))));
        effects.extend(machine.step(Event::Refined(b.segment.id.clone(), Err(error))));
        effects.extend(machine.step(Event::Worked(Ok(Work::default()))));
        let failures = failures(&effects);
        let retry_at: Vec<_> = failures.iter().map(|failure| failure.retry_at.is_some()).collect();
        assert_eq!(retry_at, [again, again], "{effects:?}");
    }
}

#[test]
fn what_failed_before_the_first_schema_is_tried_when_a_revision_comes() {
    for revision_first in [true, false] {
        let mut machine = Machine::before_anything(true);
        let recovered = Event::Recovered(Ok(Recovered::default()));
        let deployed = Event::Deployed { revision: machine.revision, number: 1 };
        let events = if revision_first { [deployed, recovered] } else { [recovered, deployed] };
        let effects: Vec<_> = events.into_iter().flat_map(|event| machine.step(event)).collect();
        let retries = effects.iter().filter(|effect| matches!(effect, Effect::RetryFailed { .. })).count();
        assert_eq!(retries, 1, "{effects:?}");
        machine.step(Event::CaughtUp);
        machine.step(Event::Worked(Ok(Work::default())));
        let mut effects = machine.step(Event::Worked(Ok(Work::default())));
        assert!(!effects.iter().any(|effect| matches!(effect, Effect::Finish(_))), "it was not answered: {effects:?}");
        effects = machine.step(Event::Retried(Ok(())));
        assert!(effects.iter().any(|effect| matches!(effect, Effect::FetchWork { .. })), "{effects:?}");
    }
}

#[test]
fn before_the_first_schema_a_segment_whose_fields_the_rule_refuses_waits() {
    let mut machine = Machine::serving(false, 0);
    let a = item("a");
    machine.step(worked(vec![a.clone()]));
    let evolution = forebay_model::schema::Evolution {
        schema: std::sync::Arc::new(arrow_schema::Schema::empty()),
        added: vec!["n".to_owned()],
        widened: Vec::new(),
    };
    let effects = machine.step(Event::Refined(a.segment.id.clone(), Ok(SegmentOutcome::Evolves(evolution))));
    let id = effects.iter().find_map(|effect| if let Effect::Grow { id, .. } = effect { Some(*id) } else { None });
    let refused = Ok(Growth::Refused(Error::operator("the rule wants n to be a text")));
    let effects = machine.step(Event::Grown(id.expect("it is to grow"), refused));
    let failed = failures(&effects);
    assert_eq!(failed.len(), 1, "{effects:?}");
    assert_eq!((&failed[0].segment, failed[0].message.as_str()), (&a.segment.id, "the rule wants n to be a text"));
    assert_eq!(failed[0].revision, machine.revision);
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Refine { .. })), "{effects:?}");
}

/// The first schema has come while a newer revision was refused: what serves is the former one, bound to no schema.
#[test]
fn what_serves_without_a_field_rejects_no_row_for_what_it_does_not_know() {
    let mut machine = Machine::serving(false, 0);
    let [a, b] = ["a", "b"].map(item);
    machine.step(worked(vec![a.clone()]));
    let schema = std::sync::Arc::new(arrow_schema::Schema::empty());
    let evolves = || {
        let schema = std::sync::Arc::clone(&schema);
        Ok(SegmentOutcome::Evolves(forebay_model::schema::Evolution { schema, added: vec![], widened: vec![] }))
    };
    machine.step(Event::Refined(a.segment.id.clone(), evolves()));
    machine.step(Event::Deployed { revision: Digest::of(b"newer"), number: 2 });
    let refused = || Error::operator("the rule wants n to be a text");
    machine.step(Event::Bound(3, Ok(Binding::Refused(refused()))));
    let tables = BTreeMap::from([(table(), (std::sync::Arc::clone(&schema), Vec::new()))]);
    let summary = BoundSummary { revision: machine.revision, number: 1, schema_version: 1, tables };
    let grown = StreamSchema { version: 1, schema: std::sync::Arc::clone(&schema) };
    let effects = machine.step(Event::Grown(2, Ok(Growth::Done(grown, summary))));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Bind { id: 4, .. })), "{effects:?}");
    machine.step(Event::Bound(4, Ok(Binding::Refused(refused()))));
    machine.step(worked(vec![b.clone()]));
    let mut failed = Vec::new();
    for item in [&a, &b] {
        let effects = machine.step(Event::Refined(item.segment.id.clone(), evolves()));
        let grow =
            effects.iter().find_map(|effect| if let Effect::Grow { id, .. } = effect { Some(*id) } else { None });
        let Some(id) = grow else { continue };
        let effects = machine.step(Event::Grown(id, Ok(Growth::Refused(refused()))));
        assert!(
            !effects.iter().any(|effect| matches!(effect, Effect::Refine { job, .. } if job.accept_schema)),
            "{effects:?}"
        );
        failed.extend(failures(&effects).iter().map(|failure| failure.segment.clone()));
    }
    assert_eq!(failed, [a.segment.id, b.segment.id]);
}

#[test]
fn a_segment_that_waited_for_groups_which_came_to_nothing_is_refined() {
    let mut machine = Machine::serving(true, 1);
    let table = table();
    machine.step(Event::CaughtUp);
    let items: Vec<_> = ["a", "b", "c", "d"].map(item).into();
    machine.step(worked(items.clone()));
    let [a, b, c, d] = items.as_slice() else { unreachable!("four") };
    let fails = || Err(Error::operator("the rule is broken"));
    // The group of the first is being committed, those of the next two come to nothing meanwhile.
    machine.step(Event::Refined(a.segment.id.clone(), Ok(staged(a, &table))));
    machine.step(Event::Opened(Ok(())));
    machine.step(Event::Refined(b.segment.id.clone(), fails()));
    machine.step(Event::Refined(c.segment.id.clone(), fails()));
    let receipt = LoadReceipt { table_version: 0, rows_added: 1, rows_removed: 0, committed_now: true };
    machine.step(Event::Committed(table.clone(), Ok(receipt)));
    let effects = machine.step(Event::Closed(table, Ok(())));
    let last = |effect: &Effect| matches!(effect, Effect::Refine { job, .. } if job.item.segment.id == d.segment.id);
    assert!(effects.iter().any(last), "{effects:?}");
}

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

fn replay(key: &str) -> WorkItem {
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

fn receipt() -> LoadReceipt {
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
fn failed(key: &str) -> WorkItem {
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
