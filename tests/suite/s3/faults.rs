//! What the zone in a bucket does where answers are lost, servers fail and others write: the object is there once and whole, or there is
//! a clear error.

use std::io::Read;
use std::time::{Duration, Instant};

use bytes::Bytes;
use forebay_landing::{Encryption, S3Zone, naming};
use forebay_model::ports::{LandedObject, LandingZone, SplitRule, ZoneIdentity};
use forebay_model::{Compression, Digest, Error, ErrorClass, StreamName, Timestamp};
use futures::StreamExt;
use uuid::Uuid;

use super::{Operation, Server, Wrong, impatient, zone};

const NAME: &str = "s/dt=2026-01-02/hr=03/00000000-0000-0000-0000-000000000007-0-a.jsonl";

fn key(name: &str) -> String {
    format!("zone/of tests/{name}")
}

/// More than two parts, and nothing that repeats.
pub(super) fn large() -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(7);
    (0..(33 << 20) / 8).flat_map(|_| random.u64(..).to_le_bytes()).collect()
}

async fn put(zone: &S3Zone, name: &str, bytes: &[u8]) -> Result<LandedObject, Error> {
    let chunks: Vec<_> = bytes.chunks(4 << 20).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
    zone.put(name, futures::stream::iter(chunks).boxed(), Compression::None, SplitRule::Whole).await
}

fn read(zone: &S3Zone, object: &LandedObject) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let read = zone.open(&object.name, 0..object.bytes, Some(object.digest))?.read_to_end(&mut bytes);
    read.map_err(|error| error.downcast::<Error>().expect("an error of the zone's"))?;
    Ok(bytes)
}

/// The object is there once and whole, and nothing else.
fn is_whole(server: &Server, object: &LandedObject, bytes: &[u8]) {
    assert_eq!(server.still_to_go_wrong(), 0, "all of the script has happened");
    assert_eq!(server.keys(), [key(NAME)]);
    assert_eq!((object.bytes, object.digest), (bytes.len() as u64, Digest::of(bytes)));
    assert!(server.bytes(&key(NAME)).unwrap() == bytes, "what was sent is there");
    assert_eq!(server.uploads(), [""; 0]);
}

#[tokio::test]
async fn a_small_object_lands_once_whatever_goes_wrong() {
    use Operation::{Head, Put};
    let busy = Wrong::Answer(503, "SlowDown");
    for script in [
        vec![(Put, busy), (Put, busy), (Put, busy)],
        vec![(Put, Wrong::Answer(500, "InternalError"))],
        vec![(Put, Wrong::LostAnswer)],
        vec![(Put, Wrong::LostAnswer), (Put, busy), (Head, busy)],
        vec![(Put, Wrong::Hang)],
        vec![(Put, Wrong::Answer(409, "ConditionalRequestConflict"))],
        // It was carried out by the first attempt, and nothing is heard of any.
        vec![(Put, Wrong::LostAnswer), (Put, busy), (Put, busy), (Put, busy)],
    ] {
        let server = Server::start();
        let zone = server.zone();
        server.goes_wrong(script.clone());
        let object =
            put(&zone, NAME, b"{\"a\":1}\n").await.unwrap_or_else(|error| panic!("{script:?}: {}", error.chain()));
        is_whole(&server, &object, b"{\"a\":1}\n");
        let known = server.asked(Operation::Get);
        assert_eq!(read(&zone, &object).unwrap(), b"{\"a\":1}\n");
        assert_eq!(server.asked(Operation::Get), known + 1, "what it wrote itself is not read twice");
    }
}

#[tokio::test]
async fn a_large_object_lands_once_whatever_goes_wrong() {
    use Operation::{Begin, Complete, Part};
    let bytes = large();
    let busy = Wrong::Answer(503, "SlowDown");
    for script in [
        vec![],
        vec![(Begin, busy), (Part, busy), (Part, Wrong::Answer(500, "InternalError")), (Complete, busy)],
        vec![(Part, Wrong::LostAnswer), (Part, Wrong::LostAnswer)],
        vec![(Part, Wrong::Hang)],
        vec![(Complete, Wrong::LostAnswer)],
        vec![(Complete, Wrong::LostAnswer), (Complete, busy), (Complete, busy), (Complete, busy)],
    ] {
        let server = Server::start();
        let zone = server.zone();
        server.goes_wrong(script.clone());
        let object = put(&zone, NAME, &bytes).await.unwrap_or_else(|error| panic!("{script:?}: {}", error.chain()));
        is_whole(&server, &object, &bytes);
        assert!(server.asked(Part) >= 3 && server.asked(Operation::Put) == 0);
        assert!(read(&zone, &object).unwrap() == bytes);
    }
}

#[tokio::test]
async fn what_goes_on_going_wrong_is_an_error_to_try_again_and_leaves_nothing() {
    use Operation::{Begin, Complete, Part, Put};
    let large = large();
    for (operation, bytes) in [(Put, &b"small"[..]), (Begin, &large), (Part, &large), (Complete, &large)] {
        let server = Server::start();
        server.goes_wrong(vec![(operation, Wrong::Answer(503, "SlowDown")); 4]);
        let error = put(&server.zone(), NAME, bytes).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Retry, "{operation:?}: {error}");
        assert!(error.to_string().contains(NAME) && error.hint().is_some(), "{error}");
        assert_eq!((server.keys(), server.uploads()), (vec![], vec![]), "{operation:?}");
        assert_eq!(server.asked(operation), 4, "{operation:?}: it is tried so often, and no more");
        // The same name again: nothing of the first attempt is in its way.
        put(&server.zone(), NAME, bytes).await.unwrap();
    }
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up() {
    let server = Server::start();
    server.goes_wrong(vec![(Operation::Put, Wrong::Hang); 4]);
    let begun = Instant::now();
    let error = put(&server.zone(), NAME, b"x").await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Retry);
    assert!(error.to_string().contains("in time"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn an_object_of_anothers_is_never_taken_for_its_own() {
    let large = large();
    for bytes in [&b"{\"a\":1}\n"[..], &large] {
        let server = Server::start();
        // The same bytes, and even so another's.
        server.put(&key(NAME), bytes);
        for script in [vec![], vec![(Operation::Put, Wrong::LostAnswer), (Operation::Complete, Wrong::LostAnswer)]] {
            server.goes_wrong(script);
            let error = put(&server.zone(), NAME, bytes).await.unwrap_err();
            assert_eq!(error.class(), ErrorClass::Bug, "{error}");
            assert!(error.to_string().contains("already"), "{error}");
        }
        assert_eq!(server.uploads(), [""; 0]);
    }
}

#[tokio::test]
async fn a_large_object_that_is_given_up_leaves_no_upload() {
    let server = Server::start();
    let zone = server.zone();
    let chunk = Ok(Bytes::from(large()));
    let endless = futures::stream::iter([chunk]).chain(futures::stream::pending()).boxed();
    let given_up = zone.put(NAME, endless, Compression::None, SplitRule::Whole);
    assert!(tokio::time::timeout(Duration::from_secs(2), given_up).await.is_err());
    let begun = Instant::now();
    while !server.uploads().is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(10), "the upload is still there");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!((server.asked(Operation::Begin), server.asked(Operation::Abort)), (1, 1));
    assert!(server.keys().is_empty());
}

#[tokio::test]
async fn a_body_that_breaks_off_is_taken_up_where_it_did() {
    use Operation::Get;
    let bytes = large();
    let server = Server::start();
    let object = put(&server.zone(), NAME, &bytes).await.unwrap();
    for script in [
        vec![
            (Get, Wrong::CutBody(5 << 20)),
            (Get, Wrong::CutBody(1)),
            (Get, Wrong::CutBody(0)),
            (Get, Wrong::CutBody(9)),
        ],
        vec![
            (Get, Wrong::Answer(503, "SlowDown")),
            (Get, Wrong::CutBody(100)),
            (Get, Wrong::Answer(500, "InternalError")),
        ],
        vec![(Get, Wrong::StalledBody(1 << 20))],
    ] {
        server.goes_wrong(script.clone());
        // Another process: nothing is known of the object.
        assert!(read(&server.zone(), &object).unwrap() == bytes, "{script:?}");
        assert_eq!(server.still_to_go_wrong(), 0, "{script:?}");
    }
    server.goes_wrong(vec![(Get, Wrong::CutBody(0)); 4]);
    let error = read(&server.zone(), &object).unwrap_err();
    assert_eq!(error.class(), ErrorClass::Retry);
    assert!(error.to_string().contains("broke off 4 times") && error.hint().is_some(), "{error}");
}

#[tokio::test]
async fn what_goes_or_changes_while_it_is_read_is_a_clear_error() {
    let bytes = large();
    let server = Server::start();
    let zone = server.zone();
    let object = put(&zone, NAME, &bytes).await.unwrap();
    let begin = || {
        let mut reader = zone.open(NAME, 0..object.bytes, Some(object.digest)).unwrap();
        reader.read_exact(&mut [0; 1000]).unwrap();
        reader
    };
    let told = |mut reader: Box<dyn Read + Send>| {
        let error = reader.read_to_end(&mut Vec::new()).unwrap_err().downcast::<Error>().unwrap();
        assert_eq!((error.class(), error.hint().is_some()), (ErrorClass::Operator, true));
        error.to_string()
    };
    // Far behind what waits to be read.
    let cut = (Operation::Get, Wrong::CutBody(20 << 20));
    server.goes_wrong([cut]);
    let reader = begin();
    server.put(&key(NAME), &bytes);
    let changed = told(reader);
    assert!(changed.contains("was changed while it was read"), "{changed}");
    // Its tag is another, so it is compared again, and is what landed.
    assert!(read(&zone, &object).unwrap() == bytes);
    server.goes_wrong([cut]);
    let reader = begin();
    server.remove(&key(NAME));
    let gone = told(reader);
    assert!(gone.contains("is not in the landing zone"), "{gone}");
}

#[tokio::test]
async fn two_ledgers_that_race_for_a_zone_have_one_winner() {
    let identity = |ledger| ZoneIdentity { version: 1, ledger: Uuid::from_u128(ledger), since: Timestamp::EPOCH };
    for round in 0..10 {
        let server = Server::start();
        if round % 2 == 1 {
            server.goes_wrong([
                (Operation::Put, Wrong::LostAnswer),
                (Operation::Put, Wrong::Answer(500, "InternalError")),
            ]);
        }
        let zones = [server.zone(), server.zone()];
        let (one, other) = (identity(1), identity(2));
        let (one, other) = tokio::join!(zones[0].claim(&one), zones[1].claim(&other));
        assert!(one.is_ok() != other.is_ok(), "{one:?} {other:?}");
        let refused = one.and(other).unwrap_err();
        assert!(refused.to_string().contains("belongs to ledger"), "{refused}");
    }
}

#[tokio::test]
async fn a_server_that_takes_no_notice_of_conditions_is_refused() {
    let server = Server::start();
    server.ignores_conditions();
    let identity = ZoneIdentity { version: 1, ledger: Uuid::from_u128(1), since: Timestamp::EPOCH };
    let error = server.zone().claim(&identity).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Operator);
    assert!(error.to_string().contains("does not keep the condition") && error.hint().is_some(), "{error}");
}

#[tokio::test]
async fn the_journal_is_written_through_lost_answers() {
    let server = Server::start();
    let zone = server.zone();
    let entry = crate::contract::landing_entry(1, "2026-01-02T03:04:05Z");
    server.goes_wrong([(Operation::Put, Wrong::LostAnswer), (Operation::Head, Wrong::LostAnswer)]);
    zone.journal(&entry).await.unwrap();
    // Its process died before it heard of it, and another writes the same.
    server.zone().journal(&entry).await.unwrap();
    assert_eq!(zone.journal_entries().await.unwrap(), std::slice::from_ref(&entry));
    server.goes_wrong(vec![(Operation::Get, Wrong::CutBody(3)); 3]);
    assert_eq!(zone.read_journal(None).await.unwrap().entries, [entry]);
    assert_eq!(server.still_to_go_wrong(), 0);
}

#[tokio::test]
async fn a_sweep_ends_old_uploads_of_forebays_own_and_no_others() {
    let server = Server::start();
    server.pages_of(1);
    let zone = server.zone();
    let attempt = |number: u128| Uuid::from_u128(number);
    let stream = StreamName::new("s").unwrap();
    let names = [1, 2, 3].map(|number| naming::object_name(&stream, Timestamp::EPOCH, attempt(number), 0, "a.csv"));
    for name in &names {
        server.begin_upload(&key(name));
    }
    for others in [key("notes/big.bin"), "elsewhere/big.bin".to_owned()] {
        server.begin_upload(&others);
    }
    assert!(zone.sweep(Timestamp::EPOCH).await.unwrap().is_empty(), "none is so old");
    let soon = Timestamp::from_system(std::time::SystemTime::now() + Duration::from_mins(1));
    assert!(zone.sweep(soon).await.unwrap().is_empty(), "as far as the clocks may differ");
    let later = Timestamp::from_system(std::time::SystemTime::now() + Duration::from_hours(1));
    assert_eq!(zone.sweep(later).await.unwrap(), names);
    assert_eq!(server.uploads().len(), 2);
    // One that this process is about is none.
    let chunk = Ok(Bytes::from(large()));
    let endless = futures::stream::iter([chunk]).chain(futures::stream::pending()).boxed();
    let under_way = zone.put(NAME, endless, Compression::None, SplitRule::Whole);
    let swept = async {
        while server.asked(Operation::Part) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        zone.sweep(later).await.unwrap()
    };
    tokio::select! {
        _ = under_way => panic!("it has no end"),
        swept = swept => assert!(swept.is_empty(), "{swept:?}"),
    }
}

#[tokio::test]
async fn objects_are_encrypted_as_the_config_says() {
    let server = Server::start();
    let keys = Some(Encryption::Kms { key: Some("alias/raw".to_owned()) });
    for (encryption, is, by) in [
        (None, None, None),
        (Some(Encryption::Aes256), Some("AES256"), None),
        (keys, Some("aws:kms"), Some("alias/raw")),
        (Some(Encryption::Kms { key: None }), Some("aws:kms"), None),
    ] {
        let prefix = format!("{}", Uuid::new_v4());
        let zone = zone(&server.url(), &prefix, impatient(), encryption);
        put(&zone, NAME, b"x").await.unwrap();
        put(&zone, "s/large", &large()).await.unwrap();
        zone.keep("modules/1f.wasm", Bytes::from_static(b"\0asm")).await.unwrap();
        for name in [NAME, "s/large", "_forebay/kept/modules/1f.wasm"] {
            let header = |name_of: &str| server.header(&format!("{prefix}/{name}"), name_of);
            assert_eq!(header("x-amz-server-side-encryption").as_deref(), is, "{name}");
            assert_eq!(header("x-amz-server-side-encryption-aws-kms-key-id").as_deref(), by, "{name}");
        }
    }
}

#[tokio::test]
async fn what_others_put_there_is_not_listed_as_an_object() {
    let server = Server::start();
    let zone = server.zone();
    put(&zone, "s/a", b"x").await.unwrap();
    for key in ["zone/of tests/", "zone/of tests/folder/", "zone/of tests/a//b", "zone/of tests2/a", "zone"] {
        server.put(key, b"");
    }
    let names: Vec<_> = zone.list("").await.unwrap().into_iter().map(|entry| entry.name).collect();
    assert_eq!(names, ["s/a"]);
    assert!(zone.list("../").await.is_err());
}
