use super::*;
use forebay_model::load::{Again, RefinedSegment, Terms};
use forebay_model::segment::SegmentContent;
use forebay_model::{
    Compression, Digest, LandedSegment, LoadReceipt, Partition, Position, SegmentCounts, StagedFile, StreamName,
};

use super::super::protocol::{Binding, Growth, Recovered, Work};

mod lanes;
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
