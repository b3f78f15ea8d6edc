use std::io::{Read, Write};

use bytes::Bytes;
use forebay_model::ports::{LandingZone, SplitRule};
use forebay_model::segment::Compression;
use forebay_model::{Digest, Error, ErrorClass};
use futures::StreamExt;

use super::body;

const LINES: SplitRule = SplitRule::Lines { target: 10 };

async fn put(zone: &dyn LandingZone, name: &str, bytes: &[u8]) {
    zone.put(name, body(&[bytes]), Compression::None, SplitRule::Whole).await.unwrap();
}

fn read(zone: &dyn LandingZone, name: &str, range: std::ops::Range<u64>) -> Vec<u8> {
    let mut bytes = Vec::new();
    zone.open(name, range, None).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

pub(super) async fn reading_gives_back_the_bytes_that_were_put(zone: &dyn LandingZone) {
    let chunks: [&[u8]; 4] = [b"one", b"", b" two", b" three"];
    let object = zone.put("s/a.txt", body(&chunks), Compression::None, SplitRule::Whole).await.unwrap();
    assert_eq!((object.name.as_str(), object.bytes), ("s/a.txt", 13));
    assert_eq!(object.digest, Digest::of(b"one two three"));
    assert_eq!(object.head, &b"one two three"[..]);
    assert_eq!(read(zone, "s/a.txt", 0..13), b"one two three");
    assert_eq!(read(zone, "s/a.txt", 4..7), b"two");
    assert_eq!(read(zone, "s/a.txt", 5..5), b"");
    put(zone, "s/empty", b"").await;
    assert_eq!(read(zone, "s/empty", 0..0), b"");
}

pub(super) async fn a_name_is_written_once(zone: &dyn LandingZone) {
    put(zone, "s/a", b"first").await;
    let again = zone.put("s/a", body(&[b"second"]), Compression::None, SplitRule::Whole).await;
    assert_eq!(again.unwrap_err().class(), ErrorClass::Bug);
    assert_eq!(read(zone, "s/a", 0..5), b"first");
}

pub(super) async fn what_fails_half_way_leaves_nothing(zone: &dyn LandingZone) {
    let chunks = vec![Ok(Bytes::from_static(b"half")), Err(Error::retry("the file changed").with_hint("wait"))];
    let failing = futures::stream::iter(chunks).boxed();
    let error = zone.put("s/a", failing, Compression::None, LINES).await.unwrap_err();
    assert_eq!(
        (error.class(), error.to_string().as_str(), error.hint()),
        (ErrorClass::Retry, "the file changed", Some("wait"))
    );
    // And one that nobody waits for any more.
    let endless = futures::stream::iter([Ok(Bytes::from_static(b"half"))]).chain(futures::stream::pending()).boxed();
    let given_up = zone.put("s/b", endless, Compression::None, LINES);
    assert!(tokio::time::timeout(std::time::Duration::from_millis(20), given_up).await.is_err());
    assert!(zone.list("").await.unwrap().is_empty());
    assert!(zone.open("s/a", 0..4, None).is_err());
    put(zone, "s/a", b"whole").await;
    assert_eq!(read(zone, "s/a", 0..5), b"whole");
}

pub(super) async fn names_never_lead_out_of_the_zone(zone: &dyn LandingZone) {
    for name in ["../a", "a/../../b", "/a", "", "a//b", "a/.", "a\0b", "_forebay/zone.json", "a/"] {
        let put = zone.put(name, body(&[b"x"]), Compression::None, SplitRule::Whole).await;
        assert_eq!(put.unwrap_err().class(), ErrorClass::Bug, "{name:?}");
        assert!(zone.open(name, 0..1, None).is_err(), "{name:?}");
        assert!(zone.open_records(name, 0..1, Digest::of(b"x")).is_err(), "{name:?}");
        assert!(zone.delete(name).await.is_err(), "{name:?}");
    }
    assert!(zone.keep("../a", Bytes::new()).await.is_err());
    assert!(zone.kept("../../a").await.is_err());
}

pub(super) async fn what_is_not_there_is_an_error(zone: &dyn LandingZone) {
    put(zone, "s/a", b"12345").await;
    let missing = zone.open("s/b", 0..1, None).err().unwrap();
    assert_eq!(missing.class(), ErrorClass::Operator);
    assert!(missing.to_string().contains("s/b") && missing.hint().is_some());
    let torn = zone.open("s/a", 0..6, None).err().unwrap();
    assert_eq!(torn.class(), ErrorClass::Operator);
    assert!(torn.to_string().contains("5 bytes"), "{torn}");
    #[expect(clippy::reversed_empty_ranges, reason = "it must be refused")]
    let reversed = zone.open("s/a", 3..2, None);
    assert!(reversed.is_err());
}

pub(super) async fn an_object_that_is_not_what_landed_is_refused_before_it_is_read(zone: &dyn LandingZone) {
    put(zone, "s/a", b"12345").await;
    for _ in 0..2 {
        assert!(zone.open("s/a", 0..5, Some(Digest::of(b"12345"))).is_ok());
        let changed = zone.open("s/a", 0..5, Some(Digest::of(b"12346"))).err().unwrap();
        assert_eq!(changed.class(), ErrorClass::Operator);
        assert!(changed.to_string().contains("s/a") && changed.hint().is_some(), "{changed}");
    }
    assert!(zone.open("s/a", 0..4, Some(Digest::of(b"12346"))).is_ok(), "a part is not compared");
}

pub(super) async fn lines_are_cut_while_they_land(zone: &dyn LandingZone) {
    let chunks: [&[u8]; 3] = [b"aaaa\nbbbb\ncc", b"cc\ndddd", b"ddddddd\neeee"];
    let object = zone.put("s/a.jsonl", body(&chunks), Compression::None, LINES).await.unwrap();
    assert_eq!((object.cuts.as_slice(), object.preamble), (&[10, 27][..], None));
    let mut parts = [0, 10, 27, 31].windows(2).map(|pair| read(zone, "s/a.jsonl", pair[0]..pair[1]));
    assert_eq!(parts.next().unwrap(), b"aaaa\nbbbb\n");
    assert_eq!(parts.next().unwrap(), b"cccc\nddddddddddd\n");
    assert_eq!(parts.next().unwrap(), b"eeee");
}

pub(super) async fn the_header_stands_before_every_part(zone: &dyn LandingZone) {
    let rule = SplitRule::Csv { target: 12, quote: b'"', header: true };
    let chunks: [&[u8]; 2] = [b"id,text\n1,\"a\n", b"b\"\n2,c\n3,d\n4,e\n"];
    let object = zone.put("s/a.csv", body(&chunks), Compression::None, rule).await.unwrap();
    assert_eq!(object.preamble, Some(0..8));
    assert_eq!(object.cuts, [16, 24]);
    assert_eq!(read(zone, "s/a.csv", object.preamble.unwrap()), b"id,text\n");
}

pub(super) async fn compressed_objects_have_a_head_and_no_cuts(zone: &dyn LandingZone) {
    let text = b"{\"amount\": 1}\n".repeat(10_000);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&text).unwrap();
    let zstd = zstd::encode_all(text.as_slice(), 1).unwrap();
    for (name, bytes, compression) in
        [("s/a.gz", gzip.finish().unwrap(), Compression::Gzip), ("s/a.zst", zstd, Compression::Zstd)]
    {
        let object = zone.put(name, body(&[&bytes]), compression, LINES).await.unwrap();
        assert_eq!(object.head, &text[..64 << 10], "{name}");
        assert!(object.cuts.is_empty());
        assert_eq!(read(zone, name, 0..object.bytes), bytes, "it stays as it came");
    }
}

pub(super) async fn objects_are_listed_by_prefix(zone: &dyn LandingZone) {
    for name in ["b/dt=1/x", "a/dt=1/y", "a/dt=1/x", "a/dt=2/z", "ab"] {
        put(zone, name, name.as_bytes()).await;
    }
    let names =
        async |prefix: &str| zone.list(prefix).await.unwrap().into_iter().map(|entry| entry.name).collect::<Vec<_>>();
    assert_eq!(names("").await, ["a/dt=1/x", "a/dt=1/y", "a/dt=2/z", "ab", "b/dt=1/x"]);
    assert_eq!(names("a/").await, ["a/dt=1/x", "a/dt=1/y", "a/dt=2/z"]);
    assert_eq!(names("a/dt=1/").await, ["a/dt=1/x", "a/dt=1/y"]);
    assert_eq!(names("a").await, ["a/dt=1/x", "a/dt=1/y", "a/dt=2/z", "ab"]);
    assert_eq!(names("a/dt=1/y").await, ["a/dt=1/y"]);
    assert!(names("none/").await.is_empty());
    let entry = zone.list("ab").await.unwrap().remove(0);
    assert_eq!(entry.bytes, 2);
    assert!(entry.modified_at > forebay_model::Timestamp::EPOCH);
}

pub(super) async fn deleting_twice_is_no_error(zone: &dyn LandingZone) {
    put(zone, "s/a", b"x").await;
    zone.delete("s/a").await.unwrap();
    zone.delete("s/a").await.unwrap();
    zone.delete("none/b").await.unwrap();
    assert!(zone.open("s/a", 0..1, None).is_err());
    assert!(zone.list("").await.unwrap().is_empty());
}
