//! What only a folder can show: temporary files, damage, the system's refusals. The contract is in `tests/suite/contract`.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use forebay_landing::DiskZone;
use forebay_model::flow::{RawRecord, RawRecords, RecordSpan};
use forebay_model::ports::{LandingZone, Random, SplitRule};
use forebay_model::segment::{Compression, Partition};
use forebay_model::{ErrorClass, OrderedPosition, StreamName, Timestamp};
use futures::StreamExt;
use uuid::Uuid;

#[derive(Debug, Default)]
struct Counting(AtomicU64);

impl Random for Counting {
    fn uuid(&self) -> Uuid {
        Uuid::from_u128(u128::from(self.bits()))
    }
    fn bits(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst)
    }
}

fn open(root: &Path) -> DiskZone {
    DiskZone::open(root, Arc::new(Counting::default())).unwrap()
}

fn temporary(root: &Path) -> Vec<std::ffi::OsString> {
    std::fs::read_dir(root.join("_forebay/tmp")).unwrap().map(|entry| entry.unwrap().file_name()).collect()
}

fn body(bytes: &'static [u8]) -> futures::stream::BoxStream<'static, forebay_model::Result<Bytes>> {
    futures::stream::iter([Ok(Bytes::from_static(bytes))]).boxed()
}

#[tokio::test]
async fn a_sweep_takes_what_dead_processes_left_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let zone = open(folder.path());
    let left = folder.path().join("_forebay/tmp/left");
    std::fs::write(&left, b"half").unwrap();
    // One that is being written now, however long it has been quiet.
    let endless = body(b"half").chain(futures::stream::pending()).boxed();
    let writer = zone.clone();
    let writing =
        tokio::spawn(async move { writer.put("s/a", endless, Compression::None, SplitRule::Whole).await.map(|_| ()) });
    while temporary(folder.path()).len() < 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(zone.sweep(Timestamp::EPOCH).await.unwrap().is_empty(), "not old enough");
    let later = Timestamp::from_system(SystemTime::now()).plus(Duration::from_secs(3600));
    assert_eq!(zone.sweep(later).await.unwrap(), ["_forebay/tmp/left"]);
    assert_eq!(temporary(folder.path()).len(), 1);
    // Given up: nothing is left, without a sweep.
    writing.abort();
    for _ in 0..1000 {
        if temporary(folder.path()).is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(temporary(folder.path()).len(), 0);
}

#[tokio::test]
async fn success_and_failure_leave_no_temporary_files() {
    let folder = tempfile::tempdir().unwrap();
    let zone = open(folder.path());
    zone.put("s/a", body(b"x"), Compression::None, SplitRule::Whole).await.unwrap();
    zone.put("s/a", body(b"y"), Compression::None, SplitRule::Whole).await.unwrap_err();
    let failing = futures::stream::iter([Err(forebay_model::Error::retry("gone"))]).boxed();
    zone.put("s/b", failing, Compression::None, SplitRule::Whole).await.unwrap_err();
    assert!(temporary(folder.path()).is_empty());
    // The folder of an hour may be removed by hand when it is empty.
    zone.delete("s/a").await.unwrap();
    std::fs::remove_dir(folder.path().join("s")).unwrap();
    zone.put("s/a", body(b"z"), Compression::None, SplitRule::Whole).await.unwrap();
}

#[tokio::test]
async fn what_was_cut_short_is_not_read_in_silence() {
    let folder = tempfile::tempdir().unwrap();
    let zone = open(folder.path());
    zone.put("s/a", body(b"0123456789"), Compression::None, SplitRule::Whole).await.unwrap();
    let mut reader = zone.open("s/a", 0..10, None).unwrap();
    let file = std::fs::File::options().write(true).open(folder.path().join("s/a")).unwrap();
    file.set_len(5).unwrap();
    let error = reader.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
    let error = zone.open("s/a", 0..10, None).err().unwrap();
    assert!(error.to_string().contains("torn"), "{error}");
}

#[tokio::test]
async fn what_was_changed_since_it_landed_is_not_read_in_silence() {
    let folder = tempfile::tempdir().unwrap();
    let zone = open(folder.path());
    let object = zone.put("s/a", body(b"0123456789"), Compression::None, SplitRule::Whole).await.unwrap();
    let read = |zone: &DiskZone| zone.open("s/a", 0..10, Some(object.digest)).map(drop);
    read(&zone).unwrap();
    let path = folder.path().join("s/a");
    let change = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        // The clock of some file systems is coarse.
        let later = SystemTime::now() + Duration::from_secs(2);
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(later).unwrap();
    };
    change(b"0123X56789");
    for zone in [&zone, &open(folder.path())] {
        let error = read(zone).unwrap_err();
        assert!(error.to_string().contains("object s/a has sha256"), "{error}");
    }
    change(b"0123456789");
    read(&zone).unwrap();
}

#[tokio::test]
async fn a_torn_journal_entry_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let zone = open(folder.path());
    std::fs::create_dir(folder.path().join("_forebay/journal")).unwrap();
    let torn = folder.path().join("_forebay/journal/20260102T030405.000000Z-1.json");
    std::fs::write(&torn, b"{\"version\":1,").unwrap();
    let error = zone.journal_entries().await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Operator);
    assert!(error.to_string().contains("20260102T030405.000000Z-1.json"), "{error}");
    std::fs::write(folder.path().join("_forebay/zone.json"), b"").unwrap();
    assert!(zone.identity().await.unwrap_err().to_string().contains("zone.json"));
}

#[tokio::test]
async fn the_systems_refusal_names_the_path_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let error = DiskZone::open(&file, Arc::new(Counting::default())).unwrap_err();
    assert_eq!(error.class(), ErrorClass::Operator);
    assert!(error.to_string().contains(file.to_str().unwrap()), "{error}");
    let zone = open(&folder.path().join("landing"));
    std::fs::write(folder.path().join("landing/s"), b"not a folder").unwrap();
    let error = zone.put("s/a", body(b"x"), Compression::None, SplitRule::Whole).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Operator);
    assert!(error.hint().is_some() && error.chain().contains("landing/s"), "{}", error.chain());
}

/// Not a bar, since it depends on the disk: `cargo test -p forebay-landing --test disk -- --ignored --nocapture`.
#[tokio::test]
#[ignore = "a measurement"]
async fn throughput_of_one_object() {
    let folder = tempfile::tempdir().unwrap();
    let zone = open(folder.path());
    let line = b"{\"event_id\":\"e-000417\",\"amount\":12.5,\"country\":\"CH\",\"text\":\"some words that go on\"}\n";
    let chunk = Bytes::from(line.repeat((4 << 20) / line.len()));
    let csv = SplitRule::Csv { target: 64 << 20, quote: b'"', header: false };
    for (name, split) in [("whole", SplitRule::Whole), ("lines", SplitRule::Lines { target: 64 << 20 }), ("csv", csv)] {
        let chunks: Vec<_> = (0..256).map(|_| Ok(chunk.clone())).collect();
        let start = Instant::now();
        let body = futures::stream::iter(chunks).boxed();
        let object = zone.put(&format!("s/{name}"), body, Compression::None, split).await.unwrap();
        let took = start.elapsed();
        #[expect(clippy::cast_precision_loss, reason = "a measurement")]
        let rate = object.bytes as f64 / 1e6 / took.as_secs_f64();
        println!("{name}: {rate:.0} MB/s, {} cuts", object.cuts.len());
    }
}

/// The seed of the fuzz target `envelope`: a byte that says how many rows are asked for, then an envelope.
const SEED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../fuzz/seeds/envelope/records");

/// What an envelope holds that is as small as one can be and has a value, and none, of everything.
fn tiny() -> RawRecords {
    let record = |position: &str, some: bool| RawRecord {
        position: position.parse().unwrap(),
        key: some.then(|| Bytes::from_static(b"key")),
        value: some.then(|| Bytes::from_static(b"{\"id\":1}")),
        headers: if some {
            vec![("a".to_owned(), Some(Bytes::from_static(b"1"))), ("a".to_owned(), None)]
        } else {
            vec![]
        },
        timestamp: some.then_some(Timestamp::EPOCH),
    };
    let span = |partition: &str, records: Vec<RawRecord>| RecordSpan {
        partition: Partition::new(partition),
        first: records[0].position,
        next: OrderedPosition::new(100),
        records,
    };
    RawRecords {
        spans: vec![span("p/0", vec![record("7", true), record("17.3", false)]), span("p/1", vec![record("8", true)])],
    }
}

#[tokio::test]
#[ignore = "writes the seed anew"]
async fn the_seed_of_the_fuzz_target_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let zone = open(folder.path());
    zone.put_records("s/a.parquet", &StreamName::new("s").unwrap(), &tiny()).await.unwrap();
    let mut seed = vec![3];
    seed.extend(std::fs::read(folder.path().join("s/a.parquet")).unwrap());
    std::fs::create_dir_all(Path::new(SEED).parent().unwrap()).unwrap();
    std::fs::write(SEED, seed).unwrap();
}

#[tokio::test]
async fn an_envelope_that_changes_after_it_was_read_is_not_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let zone = open(folder.path());
    let landed = zone.put_records("s/a.parquet", &StreamName::new("s").unwrap(), &tiny()).await.unwrap();
    let rows = || zone.open_records("s/a.parquet", 0..3, landed.digest);
    assert_eq!(rows().unwrap().map(|batch| batch.unwrap().num_rows()).sum::<usize>(), 3);
    let path = folder.path().join("s/a.parquet");
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let error = rows().err().unwrap().to_string();
    assert!(error.contains("it was changed"), "{error}");
}

#[test]
fn the_seed_of_the_fuzz_target_is_an_envelope_that_can_be_read() {
    let seed = std::fs::read(SEED).unwrap();
    assert!(seed.len() < 4096, "{} bytes", seed.len());
    let (rows, file) = seed.split_first().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let zone = open(folder.path());
    std::fs::create_dir(folder.path().join("s")).unwrap();
    std::fs::write(folder.path().join("s/a.parquet"), file).unwrap();
    let batches = zone.open_records("s/a.parquet", 0..u64::from(*rows), forebay_model::Digest::of(file)).unwrap();
    assert_eq!(batches.map(|batch| batch.unwrap().num_rows()).sum::<usize>(), 3);
}
