//! Envelopes. Whatever bytes lie under an object's name, rows come only of what landed, else an error does; and whatever a
//! record holds comes back.
//!
//! The Parquet reader itself is given nothing but what landed: some damage has it ask for more memory than there is, which ends the
//! process. A fuzzer found that, so an envelope's digest is compared before it is read.

use std::sync::Arc;

use bytes::Bytes;
use forebay_landing::MemoryZone;
use forebay_model::ports::{Clock, LandingZone as _, SplitRule};
use forebay_model::{
    Compression, Digest, OrderedPosition, Partition, RawRecord, RawRecords, RecordSpan, StreamName, Timestamp,
};
use futures::StreamExt as _;
use futures::executor::block_on;

/// What landed: a byte that says how many rows it has, then the envelope.
const LANDED: &[u8] = include_bytes!("../../../../fuzz/seeds/envelope/records");

#[derive(Debug)]
struct Still;

#[async_trait::async_trait]
impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp::EPOCH
    }

    async fn sleep(&self, _: std::time::Duration) {}
}

pub(crate) fn run(data: &[u8]) {
    let zone = MemoryZone::new(Arc::new(Still));
    changed(&zone, data);
    come_back(&zone, data);
}

/// Other bytes than those that landed.
fn changed(zone: &MemoryZone, data: &[u8]) {
    let (rows, file) = data.split_at(data.len().min(1));
    let (_, landed) = LANDED.split_at(1);
    let bytes = Bytes::copy_from_slice(file);
    let body = futures::stream::once(async move { Ok(bytes) }).boxed();
    if block_on(zone.put("a/b", body, Compression::None, SplitRule::Whole)).is_err() {
        return;
    }
    let end = u64::from(rows.first().copied().unwrap_or(0));
    match zone.open_records("a/b", 0..end, Digest::of(landed)) {
        Ok(batches) => {
            assert_eq!(file, landed, "another envelope was read");
            let read: u64 = batches.map_while(Result::ok).map(|batch| batch.num_rows() as u64).sum();
            assert_eq!(read, end);
        }
        Err(error) => assert!(file != landed || end > u64::from(LANDED[0]), "{error}"),
    }
}

/// Records made of the data.
fn come_back(zone: &MemoryZone, data: &[u8]) {
    let parts = data.chunks(7).take(64).enumerate();
    let records: Vec<_> = parts
        .map(|(number, part)| {
            let some = |bit: u8| (part[0] & bit != 0).then(|| Bytes::copy_from_slice(&part[1..]));
            RawRecord {
                position: OrderedPosition::new(number as u64),
                key: some(1),
                value: some(2),
                headers: (0..part[0] >> 5).map(|_| (String::from_utf8_lossy(part).into_owned(), some(4))).collect(),
                timestamp: some(8)
                    .map(|bytes| Timestamp::from_micros(bytes.iter().map(|byte| i64::from(*byte)).product())),
            }
        })
        .collect();
    let (count, Ok(stream)) = (records.len() as u64, StreamName::new("a")) else { return };
    let span = RecordSpan {
        partition: Partition::new("p"),
        first: OrderedPosition::new(0),
        next: OrderedPosition::new(count),
        records: records.clone(),
    };
    let landed = block_on(zone.put_records("a/records", &stream, &RawRecords { spans: vec![span] }));
    let Ok(landed) = landed else { return };
    let batches = zone.open_records("a/records", 0..count, landed.digest).expect("what landed can be opened");
    let mut values = Vec::new();
    for batch in batches {
        let batch = batch.expect("what landed can be read");
        let column = batch.column_by_name("value").expect("values");
        let column = arrow_array::cast::AsArray::as_binary::<i32>(column);
        values.extend(column.iter().map(|value| value.map(Bytes::copy_from_slice)));
    }
    assert_eq!(values, records.into_iter().map(|record| record.value).collect::<Vec<_>>());
}
