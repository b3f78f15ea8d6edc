use super::*;
use forebay_model::load::RefinedSegment;
use forebay_model::segment::SegmentContent;
use forebay_model::{
    Compression, Digest, LandedSegment, LoadReceipt, Partition, Position, SegmentCounts, StagedFile, StreamName,
};

use super::super::protocol::Recovered;

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
    WorkItem { segment, generation: 0, attempts: 0 }
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
        generation: 0,
        counts: SegmentCounts::default(),
        rejects: Vec::new(),
        replaces: Vec::new(),
    };
    let files = BTreeMap::from([(table.clone(), vec![file])]);
    SegmentOutcome::Staged(Box::new(StagedSegment { refined, bytes: 1, files }))
}

#[test]
fn a_segment_that_waited_for_groups_which_came_to_nothing_is_refined() {
    let table: TableName = "lake.t".parse().expect("name");
    let settings = RefineSettings {
        workers: 2,
        group_segments: 1,
        group_bytes: 1 << 30,
        group_age: Duration::from_secs(3600),
        poll: Duration::from_secs(1),
        once: true,
    };
    let mut state = Refine::new(PipelineName::new("p").expect("name"), Uuid::nil(), settings);
    let mut step = |event| state.step(Now { now: Timestamp::EPOCH, random: &NoChance }, event);
    let schema = std::sync::Arc::new(arrow_schema::Schema::empty());
    let revision = Digest::of(b"revision");
    let tables = BTreeMap::from([(table.clone(), (schema.clone(), Vec::new()))]);
    let known = StreamSchema { version: 1, schema };
    step(Event::Start);
    step(Event::Recovered(Ok(Recovered { schema: Some(known), ..Recovered::default() })));
    step(Event::Deployed { revision, number: 1 });
    step(Event::Bound(2, Ok(BoundSummary { revision, number: 1, schema_version: 1, tables: tables.clone() })));
    step(Event::Bound(1, Ok(BoundSummary { revision, number: 1, schema_version: 1, tables })));
    step(Event::CaughtUp);
    let items: Vec<_> = ["a", "b", "c", "d"].map(item).into();
    step(Event::Worked(Ok(items.clone())));
    let [a, b, c, d] = items.as_slice() else { unreachable!("four") };
    let fails = || Err(Error::operator("the rule is broken"));
    // The group of the first is being committed, those of the next two come to nothing meanwhile.
    step(Event::Refined(a.segment.id.clone(), Ok(staged(a, &table))));
    step(Event::Opened(Ok(())));
    step(Event::Refined(b.segment.id.clone(), fails()));
    step(Event::Refined(c.segment.id.clone(), fails()));
    let receipt = LoadReceipt { table_version: 0, rows_added: 1, rows_removed: 0, committed_now: true };
    step(Event::Committed(table.clone(), Ok(receipt)));
    let effects = step(Event::Closed(table, Ok(())));
    let last = |effect: &Effect| matches!(effect, Effect::Refine { job, .. } if job.item.segment.id == d.segment.id);
    assert!(effects.iter().any(last), "{effects:?}");
}
