//! What the source in a bucket does where keys are strange, objects change or vanish, and servers fail.

use std::sync::Arc;

use forebay_model::flow::{RawBatch, RawObject};
use forebay_model::ports::{Polled, Progress, Source};
use forebay_model::{Compression, Error, ErrorClass};
use forebay_sources::memory::MemoryProgress;
use forebay_sources::{Order, S3Config, S3Source};
use futures::StreamExt;

use super::faults::large;
use super::{BUCKET, Operation, SECRET_KEY, Server, Wrong, bucket, service, source_config, source_options};
use crate::contract::support::SteeredClock;

struct World {
    server: Server,
    progress: Arc<MemoryProgress>,
    source: S3Source,
}

/// Polls until it is idle: what landed, by key, and what was told.
async fn drain(source: &mut S3Source, progress: &MemoryProgress) -> (Vec<(RawObject, Vec<u8>)>, Vec<Error>) {
    let (mut landed, mut told) = (Vec::new(), Vec::new());
    loop {
        match source.poll().await {
            Ok(Polled::Batch(RawBatch::Objects(objects))) => {
                for mut object in objects {
                    match read(&mut object).await {
                        Ok(bytes) => {
                            progress.land_object(&object);
                            landed.push((object, bytes));
                        }
                        Err(error) => told.push(error),
                    }
                }
                source.acknowledge(&[]).await.unwrap();
            }
            Ok(Polled::Batch(RawBatch::Records(_))) => panic!("a bucket has no records"),
            Ok(Polled::Idle) => return (landed, told),
            Err(error) => told.push(error),
        }
    }
}

impl World {
    fn new(objects: &[(&str, &[u8])], config: impl FnOnce(S3Config) -> S3Config) -> Self {
        let server = Server::start();
        for (key, bytes) in objects {
            server.put(key, bytes);
        }
        let progress = Arc::new(MemoryProgress::default());
        let config = config(source_config(&server.url(), "in"));
        let source = open(config, &progress, SECRET_KEY);
        Self { server, progress, source }
    }

    async fn all(&mut self) -> (Vec<(RawObject, Vec<u8>)>, Vec<Error>) {
        drain(&mut self.source, &self.progress).await
    }

    async fn keys(&mut self) -> Vec<String> {
        let (landed, told) = self.all().await;
        assert!(told.is_empty(), "{told:?}");
        landed.into_iter().map(|(object, _)| object.key).collect()
    }
}

fn open(config: S3Config, progress: &Arc<MemoryProgress>, secret: &str) -> S3Source {
    let progress = Arc::clone(progress) as Arc<dyn Progress>;
    S3Source::open(config, source_options(secret), progress, Arc::new(SteeredClock::new()), true).unwrap()
}

async fn read(object: &mut RawObject) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    while let Some(chunk) = object.body.next().await {
        bytes.extend_from_slice(&chunk?);
    }
    Ok(bytes)
}

#[tokio::test]
async fn keys_of_all_kinds_are_taken_and_those_that_mark_what_is_not_complete_are_not() {
    let taken =
        ["in/a b.csv", "in/a%20b.csv", "in/a+b.csv", "in/d\u{e9}j\u{e0}/vu.csv", "in/x&y<z>.csv", "in/x\u{1}.csv"];
    let left = [
        "in/",
        "in/folder/",
        "in/_SUCCESS",
        "in/_temporary/0/a.csv",
        "in/a.csv.tmp",
        "in/b.old",
        "inn/a.csv",
        "other.csv",
    ];
    let objects: Vec<_> = taken.iter().chain(&left).map(|key| (*key, key.as_bytes())).collect();
    let mut world =
        World::new(&objects, |config| S3Config { exclude: vec!["**/*.old".to_owned(), "*.old".to_owned()], ..config });
    world.server.pages_of(2);
    let (landed, told) = world.all().await;
    assert!(told.is_empty(), "{told:?}");
    let mut found: Vec<_> = landed.iter().map(|(object, _)| object.key.as_str()).collect();
    found.sort_unstable();
    let mut meant = taken.to_vec();
    meant.sort_unstable();
    assert_eq!(found, meant);
    for (object, bytes) in &landed {
        assert_eq!(bytes, object.key.as_bytes());
        assert_eq!(object.partition.to_string(), "s3:forebay-tests");
    }
}

#[tokio::test]
async fn what_is_overwritten_is_a_new_version_and_the_rest_is_not_taken_twice() {
    let mut world = World::new(&[("in/a", b"1"), ("in/b", b"2")], |config| config);
    assert_eq!(world.keys().await, ["in/a", "in/b"]);
    world.server.put("in/b", b"3");
    world.server.put("in/c", b"4");
    let (landed, _) = world.all().await;
    let found: Vec<_> = landed.iter().map(|(object, bytes)| (object.key.as_str(), bytes.as_slice())).collect();
    assert_eq!(found, [("in/b", b"3".as_slice()), ("in/c", b"4")]);
    // A new process has only what the ledger knows; another folder of the bucket has the same keys.
    let wider = S3Config { url: "s3://forebay-tests".to_owned(), ..source_config(&world.server.url(), "in") };
    world.source = open(wider, &world.progress, SECRET_KEY);
    assert!(world.keys().await.is_empty());
}

#[tokio::test]
async fn objects_come_in_the_order_that_was_asked_for() {
    let objects: &[(&str, &[u8])] = &[("in/b", b"1"), ("in/a", b"2")];
    let mut world = World::new(objects, |config| S3Config { order: Order::Modified, ..config });
    // Times of S3 have seconds.
    world.server.remove("in/a");
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    world.server.put("in/a", b"3");
    assert_eq!(world.keys().await, ["in/b", "in/a"]);
}

#[tokio::test]
async fn the_first_bytes_say_how_an_object_is_compressed_whatever_its_size() {
    let large: Vec<u8> = [0x1f, 0x8b].into_iter().chain(std::iter::repeat_n(7, 300_000)).collect();
    let mut world =
        World::new(&[("in/a", &[0x28, 0xb5, 0x2f, 0xfd]), ("in/b.csv", &large), ("in/c.gz", b"")], |config| config);
    let (landed, _) = world.all().await;
    let found: Vec<_> = landed.iter().map(|(object, bytes)| (object.compression, bytes.len())).collect();
    assert_eq!(found, [(Compression::Zstd, 4), (Compression::Gzip, 300_002), (Compression::Gzip, 0)]);
}

#[tokio::test]
async fn bytes_come_whole_whatever_goes_wrong() {
    use Operation::{Get, List};
    let bytes = large();
    let mut world = World::new(&[("in/large", &bytes)], |config| config);
    world.server.goes_wrong([
        (List, Wrong::Answer(503, "SlowDown")),
        (List, Wrong::CutBody(100)),
        (Get, Wrong::Answer(500, "InternalError")),
        (Get, Wrong::Hang),
        (Get, Wrong::CutBody(10)),
        (Get, Wrong::CutBody(5_000_000)),
        (Get, Wrong::StalledBody(1_000_000)),
        (Get, Wrong::CutBody(0)),
    ]);
    let (landed, told) = world.all().await;
    assert!(told.is_empty(), "{told:?}");
    assert_eq!(world.server.still_to_go_wrong(), 0);
    assert!(landed.len() == 1 && landed[0].1 == bytes);
}

#[tokio::test]
async fn one_that_is_removed_or_fails_for_long_is_told_and_keeps_no_other_back() {
    let mut world =
        World::new(&[("in/a", b"1"), ("in/b", b"2"), ("in/c", b"3")], |config| S3Config { parallel: 1, ..config });
    let failed = std::iter::repeat_n((Operation::Get, Wrong::Answer(503, "SlowDown")), 4);
    world.server.goes_wrong([(Operation::Get, Wrong::Answer(404, "NoSuchKey"))].into_iter().chain(failed));
    let (landed, told) = world.all().await;
    let mut keys: Vec<_> = landed.iter().map(|(object, _)| object.key.as_str()).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["in/a", "in/b", "in/c"], "it was there again, and the server went right again");
    let told: Vec<_> = told.iter().map(|error| format!("{:?}: {error}", error.class())).collect();
    assert_eq!(
        told,
        [
            "Retry: s3://forebay-tests/in/a was removed after it was listed, and nothing of it has landed",
            "Retry: reading s3://forebay-tests/in/b: the server is asked too much (SlowDown: by the test's script)"
        ]
    );
}

#[tokio::test]
async fn a_bucket_that_cannot_be_listed_is_told_with_what_to_do() {
    let server = Server::start();
    let progress = Arc::new(MemoryProgress::default());
    let config = source_config(&server.url(), "in");
    let nowhere = S3Config { url: "s3://no-such-bucket/in".to_owned(), ..config.clone() };
    let abroad = S3Config { region: Some("us-west-1".to_owned()), ..config.clone() };
    for (config, says, hint) in [
        (nowhere, "there is no such bucket", "correct its name"),
        (abroad, "the bucket lies in another region", "eu-test-1"),
    ] {
        let error = open(config, &progress, SECRET_KEY).poll().await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Operator, "{error}");
        assert!(error.to_string().contains(says) && error.hint().unwrap().contains(hint), "{error} {:?}", error.hint());
    }
}

#[tokio::test]
async fn an_s3_service_gives_a_source_what_lies_in_its_bucket() {
    let Some(url) = service().await else { return };
    let folder = format!("source/{}", uuid::Uuid::new_v4());
    let there = bucket(&url);
    let put = |key: String, bytes: Vec<u8>| {
        let there = there.clone();
        let asking = there.clone();
        let sent = async move {
            let sent = asking.client().await?.put_object().bucket(BUCKET).key(&key).body(bytes.into()).send().await;
            Ok(sent.map(drop).map_err(|error| format!("{key}: {error:?}")))
        };
        async move { there.run(sent).await.unwrap().unwrap() }
    };
    let names = ["a b.csv", "a%20b.csv", "a+b.csv", "d\u{e9}j\u{e0}/vu.csv", "x&y.csv"];
    for name in names {
        put(format!("{folder}/{name}"), name.into()).await;
    }
    // More than a page of a listing, and one that comes in many pieces.
    for number in 0..1_100 {
        put(format!("{folder}/many/{number:04}"), number.to_string().into()).await;
    }
    put(format!("{folder}/large"), large()).await;
    let progress = Arc::new(MemoryProgress::default());
    let mut source = open(source_config(&url, &folder), &progress, SECRET_KEY);
    let (landed, told) = drain(&mut source, &progress).await;
    assert!(told.is_empty(), "{told:?}");
    let found: std::collections::BTreeMap<_, _> =
        landed.iter().map(|(object, bytes)| (object.key.clone(), bytes)).collect();
    assert_eq!((landed.len(), found.len()), (names.len() + 1_101, names.len() + 1_101));
    for name in names {
        assert_eq!(found[&format!("{folder}/{name}")], name.as_bytes());
    }
    assert!(*found[&format!("{folder}/large")] == large());
    // Overwritten, and by the same content.
    put(format!("{folder}/a b.csv"), b"other".to_vec()).await;
    put(format!("{folder}/a+b.csv"), b"a+b.csv".to_vec()).await;
    let (landed, told) = drain(&mut source, &progress).await;
    assert!(told.is_empty(), "{told:?}");
    let found: Vec<_> = landed.iter().map(|(object, bytes)| (object.key.as_str(), bytes.as_slice())).collect();
    assert_eq!(found, [(format!("{folder}/a b.csv").as_str(), b"other".as_slice())]);
}
