use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{Array, RecordBatch};
use bytes::Bytes;
use forebay_landing::envelope;
use forebay_model::flow::{RawRecord, RawRecords, RecordSpan};
use forebay_model::ports::LandingZone;
use forebay_model::segment::Partition;
use forebay_model::{Digest, ErrorClass, OrderedPosition, StreamName, Timestamp};

fn stream() -> StreamName {
    StreamName::new("clicks").unwrap()
}

fn record(position: &str, value: Option<&'static [u8]>) -> RawRecord {
    RawRecord {
        position: position.parse().unwrap(),
        key: None,
        value: value.map(Bytes::from_static),
        headers: Vec::new(),
        timestamp: None,
    }
}

fn span(partition: &str, records: Vec<RawRecord>) -> RecordSpan {
    RecordSpan {
        partition: Partition::new(partition),
        first: records.first().map_or(OrderedPosition::new(0), |record| record.position),
        next: OrderedPosition::new(u64::MAX),
        records,
    }
}

fn rows(zone: &dyn LandingZone, name: &str, rows: std::ops::Range<u64>) -> Vec<RecordBatch> {
    let object = digest_of(zone, name);
    zone.open_records(name, rows, object).unwrap().collect::<Result<_, _>>().unwrap()
}

/// The digest of an object that lies there whole.
fn digest_of(zone: &dyn LandingZone, name: &str) -> Digest {
    let bytes = futures::executor::block_on(zone.list(name)).unwrap()[0].bytes;
    let mut read = Vec::new();
    std::io::Read::read_to_end(&mut zone.open(name, 0..bytes, None).unwrap(), &mut read).unwrap();
    Digest::of(&read)
}

/// The records of batches, as they were put.
fn records(batches: &[RecordBatch]) -> Vec<RawRecord> {
    let bytes = |array: &arrow_array::BinaryArray, row: usize| {
        array.is_valid(row).then(|| Bytes::copy_from_slice(array.value(row)))
    };
    let mut records = Vec::new();
    for batch in batches {
        assert_eq!(batch.schema(), envelope::batch_schema());
        let column = |name: &str| batch.column_by_name(name).unwrap();
        for row in 0..batch.num_rows() {
            let headers = column("headers").as_map().value(row);
            let (names, values) = (headers.column(0).as_string::<i32>(), headers.column(1).as_binary::<i32>());
            let timestamp = column("timestamp").as_primitive::<TimestampMicrosecondType>();
            records.push(RawRecord {
                position: column("position").as_string::<i32>().value(row).parse().unwrap(),
                key: bytes(column("key").as_binary(), row),
                value: bytes(column("value").as_binary(), row),
                headers: (0..names.len()).map(|n| (names.value(n).to_owned(), bytes(values, n))).collect(),
                timestamp: timestamp.is_valid(row).then(|| Timestamp::from_micros(timestamp.value(row))),
            });
        }
    }
    records
}

pub(super) async fn nothing_of_a_record_is_dropped(zone: &dyn LandingZone) {
    let header = |name: &str, value: Option<&'static [u8]>| (name.to_owned(), value.map(Bytes::from_static));
    let full = RawRecord {
        key: Some(Bytes::from_static(b"\xff\0key")),
        headers: vec![header("a", Some(b"1")), header("", None), header("a", Some(b"")), header("ä", Some(b"\xff"))],
        timestamp: Some(Timestamp::from_micros(-1)),
        ..record("49590338271490256608559692538361571095921575989136588898.12", Some(b"{}"))
    };
    let empty_key = RawRecord { key: Some(Bytes::new()), timestamp: Some(Timestamp::EPOCH), ..record("7", Some(b"")) };
    let all = vec![record("0", None), full, empty_key, record("18446744073709551616", Some(b"x"))];
    let put = RawRecords { spans: vec![span("kinesis:arn/shard-0", all.clone())] };
    let object = zone.put_records("clicks/a.parquet", &stream(), &put).await.unwrap();
    assert_eq!(records(&rows(zone, "clicks/a.parquet", 0..4)), all);
    assert_eq!(object.head, &b"{}"[..], "formats are told by the first value");
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut zone.open("clicks/a.parquet", 0..object.bytes, None).unwrap(), &mut bytes).unwrap();
    assert_eq!(object.digest, Digest::of(&bytes));
    assert!(zone.put_records("clicks/a.parquet", &stream(), &put).await.is_err(), "a name is written once");
}

pub(super) async fn a_span_is_a_range_of_rows(zone: &dyn LandingZone) {
    let of = |from: u64, to: u64| (from..to).map(|n| record(&n.to_string(), Some(b"v"))).collect::<Vec<_>>();
    let put = RawRecords {
        spans: vec![span("p0", of(10, 13)), span("p1", Vec::new()), span("p2", of(0, 2)), span("p0", of(13, 14))],
    };
    let object = zone.put_records("clicks/b.parquet", &stream(), &put).await.unwrap();
    assert_eq!(object.cuts, [3, 3, 5]);
    assert_eq!(object.preamble, None);
    let positions = |range| {
        records(&rows(zone, "clicks/b.parquet", range))
            .iter()
            .map(|record| record.position.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(positions(0..3), ["10", "11", "12"]);
    assert_eq!(positions(3..3), [""; 0]);
    assert_eq!(positions(3..5), ["0", "1"]);
    assert_eq!(positions(5..6), ["13"]);
}

pub(super) async fn large_spans_are_read_in_batches(zone: &dyn LandingZone) {
    let value: &'static [u8] = b"{\"amount\": 12.5, \"text\": \"some words that compress\"}";
    let of = |from: u64, to: u64| (from..to).map(|n| record(&n.to_string(), Some(value))).collect::<Vec<_>>();
    let put = RawRecords { spans: vec![span("p0", of(0, 150_000)), span("p1", of(0, 20_000))] };
    let object = zone.put_records("clicks/c.parquet", &stream(), &put).await.unwrap();
    assert!(object.bytes < 1_000_000, "{} bytes", object.bytes);
    // Across the end of a row group, from the middle of a page to the middle of another.
    let batches = rows(zone, "clicks/c.parquet", 130_000..150_001);
    assert!(batches.iter().all(|batch| batch.num_rows() <= envelope::BATCH_ROWS));
    let read = records(&batches);
    assert_eq!(read.len(), 20_001);
    assert_eq!(
        (read[0].position, read[19_999].position),
        (OrderedPosition::new(130_000), OrderedPosition::new(149_999))
    );
    assert_eq!(read[20_000].position, OrderedPosition::new(0));
}

pub(super) async fn an_envelope_without_rows_can_be_read(zone: &dyn LandingZone) {
    let put = RawRecords { spans: vec![span("p0", Vec::new())] };
    zone.put_records("clicks/d.parquet", &stream(), &put).await.unwrap();
    assert!(records(&rows(zone, "clicks/d.parquet", 0..0)).is_empty());
}

pub(super) async fn rows_that_are_not_there_are_an_error(zone: &dyn LandingZone) {
    let put = RawRecords { spans: vec![span("p0", vec![record("0", Some(b"v"))])] };
    let object = zone.put_records("clicks/e.parquet", &stream(), &put).await.unwrap();
    let error = zone.open_records("clicks/e.parquet", 0..2, object.digest).err().unwrap();
    assert_eq!(error.class(), ErrorClass::Operator);
    assert!(error.to_string().contains("1 rows") && error.hint().is_some(), "{error}");
    assert!(zone.open_records("clicks/none.parquet", 0..1, object.digest).is_err());
    // Half an envelope, and what is none.
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut zone.open("clicks/e.parquet", 0..object.bytes, None).unwrap(), &mut bytes).unwrap();
    for (name, part) in
        [("clicks/half", &bytes[..bytes.len() / 2]), ("clicks/text", &b"text"[..]), ("clicks/nothing", &[])]
    {
        let whole = forebay_model::ports::SplitRule::Whole;
        zone.put(name, super::body(&[part]), forebay_model::Compression::None, whole).await.unwrap();
        // What landed is another: nothing of it is read. And the reader itself, where it is what landed.
        for digest in [object.digest, Digest::of(part)] {
            let error = zone.open_records(name, 0..1, digest).err().unwrap();
            assert_eq!(error.class(), ErrorClass::Operator, "{name}: {error}");
            assert_eq!(error.to_string().contains("it was changed"), digest == object.digest, "{name}: {error}");
        }
    }
}

pub(super) async fn an_envelope_tells_between_which_times_its_records_are(zone: &dyn LandingZone) {
    let at = |position: u64, micros: Option<i64>| RawRecord {
        timestamp: micros.map(Timestamp::from_micros),
        ..record(&position.to_string(), Some(b"v"))
    };
    let named = |name: &'static str, records: Vec<RawRecord>| async move {
        let put = RawRecords { spans: vec![span("p0", records)] };
        let object = zone.put_records(name, &stream(), &put).await.unwrap();
        move |rows| zone.times_of(name, rows, object.digest)
    };
    let dated = named("clicks/f.parquet", vec![at(0, Some(30)), at(1, Some(-10)), at(2, Some(20))]).await;
    let times = dated(0..3).unwrap().unwrap();
    assert_eq!((times.start().as_micros(), times.end().as_micros()), (-10, 30));
    let one = dated(1..2).unwrap().unwrap();
    assert!(one.contains(&Timestamp::from_micros(-10)), "never narrower than the records are");
    assert!(dated(0..4).is_err(), "rows that are not there");
    assert_eq!(named("clicks/g.parquet", vec![at(0, Some(30)), at(1, None)]).await(0..2).unwrap(), None);
    assert_eq!(named("clicks/h.parquet", vec![at(0, None)]).await(0..1).unwrap(), None);
    assert_eq!(named("clicks/i.parquet", Vec::new()).await(0..0).unwrap(), None);
    let other = zone.times_of("clicks/f.parquet", 0..3, Digest::of(b"another")).unwrap_err();
    assert!(other.to_string().contains("it was changed"), "{other}");
}
