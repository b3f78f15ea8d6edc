//! The contract of [`forebay_model::ports::Source`], held over a folder, a bucket, the generator and the model.
//!
//! Each world can begin with a fixed amount of data and open sources on it; what must come out of them is the same for all.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use forebay_model::flow::{RawBatch, RawObject, RecordSpan};
use forebay_model::ports::{Polled, Progress, Source};
use forebay_model::{ErrorClass, OrderedPosition, Partition, Result, StreamName};
use forebay_model::{Position, SegmentId};
use forebay_sources::memory::{Fault, MemoryProgress};
use forebay_sources::{
    FilesConfig, FilesSource, GeneratorConfig, GeneratorSource, MemorySource, MemoryUpstream, Order, S3Config, S3Source,
};
use futures::StreamExt;

use super::support::SteeredClock;
use crate::s3::{SECRET_KEY, Server, source_config, source_options};

/// Where the data is; it outlives every source.
enum World {
    Folder(tempfile::TempDir),
    Bucket(Server, Order),
    Generator,
    Objects(MemoryUpstream),
    Records(MemoryUpstream),
}

/// Pieces of data in each world: files, objects, or records.
const PIECES: usize = 60;

impl World {
    fn all() -> Vec<Self> {
        let folder = tempfile::tempdir().unwrap();
        let (objects, records) = (MemoryUpstream::default(), MemoryUpstream::default());
        let buckets = [Order::Key, Order::Modified].map(|order| {
            let server = Server::start();
            server.pages_of(9);
            Self::Bucket(server, order)
        });
        for n in 0..PIECES {
            let content = format!("{n}").repeat(n * 20);
            for bucket in &buckets {
                if let Self::Bucket(server, _) = bucket {
                    server.put(&format!("in/{n:03}.csv"), content.as_bytes());
                }
            }
            std::fs::write(folder.path().join(format!("{n:03}.csv")), &content).unwrap();
            objects.put(&format!("{n:03}"), "v1", content);
            records.append(&Partition::new(format!("memory:records/{}", n % 3)), [format!("{n}")]);
        }
        let mut worlds = vec![Self::Folder(folder), Self::Generator, Self::Objects(objects), Self::Records(records)];
        worlds.extend(buckets);
        worlds
    }

    /// Another process on the same world.
    fn open(&self, progress: &Arc<MemoryProgress>) -> Box<dyn Source> {
        let (progress, clock) = (Arc::clone(progress) as Arc<dyn Progress>, Arc::new(SteeredClock::new()));
        match self {
            Self::Folder(dir) => {
                let config = FilesConfig { max_batch_objects: 7, settle_milliseconds: 0, ..FilesConfig::new(".") };
                Box::new(FilesSource::open(config, dir.path(), progress, clock, true).unwrap())
            }
            Self::Bucket(server, order) => {
                let config = S3Config { max_batch_objects: 7, order: *order, ..source_config(&server.url(), "in") };
                Box::new(S3Source::open(config, source_options(SECRET_KEY), progress, clock, true).unwrap())
            }
            Self::Generator => {
                let events = Some(PIECES as u64);
                let config =
                    GeneratorConfig { events, partitions: 3, max_batch_events: 7, ..GeneratorConfig::default() };
                Box::new(GeneratorSource::open(config, progress, clock, true).unwrap())
            }
            Self::Objects(upstream) | Self::Records(upstream) => {
                Box::new(MemorySource::open(upstream.clone(), progress, 7))
            }
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Folder(_) => "folder",
            Self::Bucket(_, Order::Key) => "bucket",
            Self::Bucket(_, Order::Modified) => "bucket, by time",
            Self::Generator => "generator",
            Self::Objects(_) => "model, objects",
            Self::Records(_) => "model, records",
        }
    }
}

/// What came out, by where it lies; the number says how often.
type Delivered = BTreeMap<(Partition, String), (Vec<u8>, u32)>;

/// The other end: reads bodies, lists what landed, acknowledges.
struct Intake {
    progress: Arc<MemoryProgress>,
    delivered: Delivered,
    /// Where each ordered partition was last left, landed or not.
    last: BTreeMap<Partition, OrderedPosition>,
}

impl Intake {
    fn new() -> Self {
        Self { progress: Arc::new(MemoryProgress::default()), delivered: BTreeMap::new(), last: BTreeMap::new() }
    }

    /// Takes batches until the source is idle; every batch that `land` says yes to is landed and acknowledged.
    async fn run(&mut self, source: &mut dyn Source, mut land: impl FnMut(usize) -> bool) {
        self.last.clear();
        for batch in 0.. {
            let lands = land(batch);
            let landed = match source.poll().await.unwrap() {
                Polled::Batch(RawBatch::Objects(objects)) => {
                    assert!(!objects.is_empty(), "a batch has something in it");
                    self.objects(objects, lands).await
                }
                Polled::Batch(RawBatch::Records(records)) => {
                    assert!(!records.spans.is_empty(), "a batch has something in it");
                    records.spans.iter().map(|span| self.span(span, lands)).collect()
                }
                Polled::Idle => return,
            };
            if lands {
                source.acknowledge(&landed).await.unwrap();
            }
        }
    }

    async fn objects(&mut self, objects: Vec<RawObject>, lands: bool) -> Vec<SegmentId> {
        let mut landed = Vec::new();
        for mut object in objects {
            let Ok(content) = read(&mut object).await else { continue };
            assert_eq!(content.len() as u64, object.range.end - object.range.start, "{object:?}");
            if lands {
                self.progress.land_object(&object);
                let first = Position::object(&object.key, &object.version, object.range.clone());
                landed.push(SegmentId::derive(&stream(), &object.partition, &first));
            }
            self.note(object.partition, format!("{}@{}", object.key, object.version), &content);
        }
        landed
    }

    fn span(&mut self, span: &RecordSpan, lands: bool) -> SegmentId {
        let RecordSpan { partition, first, next, records } = span;
        let positions: Vec<_> = records.iter().map(|record| record.position).collect();
        assert!(!records.is_empty() && positions.is_sorted_by(|a, b| a < b), "ascending: {positions:?}");
        assert!(positions.first() == Some(first) && positions.last() < Some(next), "{first} {positions:?} {next}");
        if let Some(last) = self.last.insert(partition.clone(), *next) {
            assert_eq!(last, *first, "{partition}: without gaps between spans");
        }
        if lands {
            self.progress.land_span(span).expect("a span begins where the ledger stands");
        }
        for record in records {
            let value = record.value.clone().unwrap_or_default().to_vec();
            self.note(partition.clone(), record.position.to_string(), &value);
        }
        SegmentId::derive(&stream(), partition, &Position::Ordered(*first))
    }

    fn note(&mut self, partition: Partition, place: String, content: &[u8]) {
        let entry = self.delivered.entry((partition, place)).or_insert((content.to_vec(), 0));
        assert_eq!(entry.0, content, "the same place has the same content each time");
        entry.1 += 1;
    }

    /// How often each piece was delivered, at least and at most.
    fn times(&self) -> (usize, u32, u32) {
        let times = || self.delivered.values().map(|(_, times)| *times);
        (self.delivered.len(), times().min().unwrap_or(0), times().max().unwrap_or(0))
    }
}

async fn read(object: &mut RawObject) -> Result<Vec<u8>> {
    let mut content = Vec::new();
    while let Some(chunk) = object.body.next().await {
        let chunk = chunk?;
        assert!(chunk.len() <= 4 << 20, "chunks of at most 4 MiB");
        content.extend_from_slice(&chunk);
    }
    Ok(content)
}

fn stream() -> StreamName {
    StreamName::new("s").unwrap()
}

/// "`poll` delivers what the ledger does not have yet, ascending within an ordered partition, without gaps".
#[tokio::test]
async fn everything_is_delivered_once_when_everything_lands() {
    for world in World::all() {
        let mut intake = Intake::new();
        let mut source = world.open(&intake.progress);
        intake.run(source.as_mut(), |_| true).await;
        assert_eq!(intake.times(), (PIECES, 1, 1), "{}", world.name());
        intake.run(source.as_mut(), |_| true).await;
        assert_eq!(intake.times(), (PIECES, 1, 1), "{}: nothing twice by the same source", world.name());
        let mut source = world.open(&intake.progress);
        intake.run(source.as_mut(), |_| true).await;
        assert_eq!(intake.times(), (PIECES, 1, 1), "{}: nothing twice by a new source", world.name());
    }
}

/// "What it delivered once and was not acknowledged is delivered again by a new source on the same `Progress`".
#[tokio::test]
async fn what_did_not_land_is_delivered_again() {
    for world in World::all() {
        let mut intake = Intake::new();
        intake.run(world.open(&intake.progress).as_mut(), |_| false).await;
        assert_eq!(intake.times(), (PIECES, 1, 1), "{}", world.name());
        intake.run(world.open(&intake.progress).as_mut(), |batch| batch < 2).await;
        assert_eq!(intake.times(), (PIECES, 2, 2), "{}: all of it again", world.name());
        intake.run(world.open(&intake.progress).as_mut(), |_| true).await;
        let (pieces, least, most) = intake.times();
        assert_eq!((pieces, least, most), (PIECES, 2, 3), "{}: what had landed is left out", world.name());
        let thrice = intake.delivered.values().filter(|(_, times)| *times == 3).count();
        assert!(thrice < PIECES && thrice > 0, "{}: {thrice}", world.name());
    }
}

/// "One object that fails does not keep others from being delivered".
#[tokio::test]
async fn a_body_that_fails_keeps_no_other_back_and_comes_again() {
    for world in World::all() {
        match &world {
            World::Objects(upstream) => upstream.fail("055", Fault::Read, 1),
            World::Folder(dir) => {
                // Larger than what is read when it is opened, and written to behind the source's back, below.
                std::fs::write(dir.path().join("055.csv"), vec![b'x'; 100_000]).unwrap();
            }
            World::Bucket(server, _) => server.put("in/055.csv", &vec![b'x'; 1_000_000]),
            World::Generator | World::Records(_) => continue,
        }
        let mut intake = Intake::new();
        let mut source = world.open(&intake.progress);
        let mut failed = 0;
        loop {
            let Polled::Batch(RawBatch::Objects(objects)) = source.poll().await.unwrap() else { break };
            for mut object in objects {
                if let World::Folder(dir) = &world
                    && object.key == "055.csv"
                    && failed == 0
                {
                    append(&dir.path().join("055.csv"));
                }
                if let World::Bucket(server, _) = &world
                    && object.key == "in/055.csv"
                    && failed == 0
                {
                    server.put("in/055.csv", b"another");
                }
                match read(&mut object).await {
                    Ok(_) => {
                        intake.progress.land_object(&object);
                        intake.note(object.partition, object.key, &[]);
                    }
                    Err(error) => {
                        failed += 1;
                        assert_eq!(error.class(), ErrorClass::Retry, "{error}");
                        assert!(error.to_string().contains("055"), "{error}");
                    }
                }
            }
        }
        assert_eq!((failed, intake.times()), (1, (PIECES, 1, 1)), "{}", world.name());
    }
}

/// "Its error comes from a later poll, names it, and is not repeated more often than stated".
#[tokio::test]
async fn an_object_that_cannot_be_opened_is_told_once_and_keeps_no_other_back() {
    for world in World::all() {
        match &world {
            World::Objects(upstream) => upstream.fail("030", Fault::Open, u32::MAX),
            World::Folder(dir) => {
                let path = dir.path().join("030.csv");
                std::fs::remove_file(&path).unwrap();
                std::os::unix::fs::symlink("/dev/null", &path).unwrap();
            }
            World::Bucket(server, _) => server.forbid("in/030.csv"),
            World::Generator | World::Records(_) => continue,
        }
        let mut intake = Intake::new();
        let mut source = world.open(&intake.progress);
        let mut told = Vec::new();
        loop {
            match source.poll().await {
                Ok(Polled::Batch(RawBatch::Objects(objects))) => drop(intake.objects(objects, true).await),
                Ok(Polled::Batch(RawBatch::Records(_))) => panic!("{} has no records", world.name()),
                Ok(Polled::Idle) => break,
                Err(error) => told.push(error.to_string()),
            }
        }
        assert_eq!(intake.times(), (PIECES - 1, 1, 1), "{}", world.name());
        assert!(told.len() == 1 && told.first().unwrap().contains("030"), "{}: {told:?}", world.name());
    }
}

/// "Dropping a poll's future loses nothing".
#[tokio::test]
async fn a_poll_that_is_dropped_loses_nothing() {
    for world in World::all() {
        let mut intake = Intake::new();
        let mut source = world.open(&intake.progress);
        for _ in 0..30 {
            let mut poll = source.poll();
            if let std::task::Poll::Ready(polled) = futures::poll!(&mut poll) {
                drop(poll);
                match polled.unwrap() {
                    Polled::Batch(RawBatch::Objects(objects)) => drop(intake.objects(objects, true).await),
                    Polled::Batch(RawBatch::Records(records)) => {
                        records.spans.iter().for_each(|span| drop(intake.span(span, true)));
                    }
                    Polled::Idle => break,
                }
            }
        }
        let last = std::mem::take(&mut intake.last);
        intake.run(source.as_mut(), |_| true).await;
        for (partition, next) in last {
            assert!(intake.last.get(&partition).is_none_or(|end| *end >= next), "{partition} went back");
        }
        assert_eq!(intake.times(), (PIECES, 1, 1), "{}", world.name());
    }
}

/// "Nothing is acknowledged upstream before `acknowledge` names it".
#[tokio::test]
async fn the_model_acknowledges_what_it_is_told_and_can_be_set_back() {
    let upstream = MemoryUpstream::default();
    upstream.put("a", "v1", "1");
    let before = upstream.snapshot();
    let mut intake = Intake::new();
    let world = World::Objects(upstream.clone());
    intake.run(world.open(&intake.progress).as_mut(), |_| false).await;
    assert!(upstream.snapshot().acknowledged.is_empty());
    intake.run(world.open(&intake.progress).as_mut(), |_| true).await;
    assert_eq!(upstream.snapshot().acknowledged.len(), 1);
    upstream.restore(before.clone());
    assert_eq!(upstream.snapshot(), before);
    upstream.put("a", "v2", "22");
    upstream.remove("b");
    intake.run(world.open(&intake.progress).as_mut(), |_| true).await;
    assert_eq!(intake.times(), (2, 1, 2), "v1 twice, v2 once");
}

fn append(path: &Path) {
    use std::io::Write;
    std::fs::OpenOptions::new().append(true).open(path).unwrap().write_all(b"more").unwrap();
}
