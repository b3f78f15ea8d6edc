//! Small values, so that each test shows only what it is about.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema};
use forebay_model::flow::OnChange;
use forebay_model::ids::{Digest, PipelineName, SegmentId, StreamName, TableName};
use forebay_model::load::{Load, LoadGroup, LoadReceipt, RefinedSegment, RejectCount, StagedFile};
use forebay_model::ports::{Advance, Landing, Ledger, NewObject, NewSegment, ObjectState, SegmentFailure, WorkItem};
use forebay_model::position::{OrderedPosition, Position};
use forebay_model::segment::{Compression, Partition, Preamble, SegmentContent, SegmentCounts};
use forebay_model::{ErrorClass, Timestamp};
use uuid::Uuid;

pub(crate) fn stream() -> StreamName {
    StreamName::new("payments").unwrap()
}

pub(crate) fn pipeline() -> PipelineName {
    PipelineName::new("fraud").unwrap()
}

pub(crate) fn table(name: &str) -> TableName {
    format!("lake.{name}").parse().unwrap()
}

pub(crate) fn folder() -> Partition {
    Partition::new("files:/inbox")
}

pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(seconds * 1_000_000)
}

pub(crate) fn attempt(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

/// A landing without anything in it.
pub(crate) fn landing(number: u128) -> Landing {
    Landing {
        stream: stream(),
        attempt: attempt(number),
        landed_at: at(i64::try_from(number).unwrap()),
        objects: Vec::new(),
        advances: Vec::new(),
    }
}

/// An object of the inbox, cut into parts of ten bytes.
pub(crate) fn file(landing: u128, key: &str, version: &str, on_change: OnChange, range: Range<u64>) -> NewObject {
    let starts: Vec<u64> = if range.is_empty() { vec![range.start] } else { range.clone().step_by(10).collect() };
    let name = format!("payments/dt=1970-01-01/hr=00/{}-{key}", attempt(landing));
    let segment = |start: u64| {
        let end = (start + 10).min(range.end);
        NewSegment {
            partition: folder(),
            first: Position::object(key, version, start..end),
            next: None,
            content: SegmentContent::Bytes {
                range: start - range.start..end - range.start,
                compression: Compression::None,
                preamble: (start > range.start).then(|| Preamble { object: name.clone(), range: 0..2 }),
            },
            bytes: end - start,
            records: None,
            format: "csv".to_owned(),
        }
    };
    NewObject {
        name: name.clone(),
        bytes: range.end - range.start,
        digest: Digest::of(format!("{key}{version}{range:?}").as_bytes()),
        source: Some(ObjectState {
            partition: folder(),
            key: key.to_owned(),
            version: version.to_owned(),
            range: range.clone(),
            identity: format!("inode of {key}"),
        }),
        on_change,
        segments: starts.into_iter().map(segment).collect(),
    }
}

/// A landing of one object.
pub(crate) fn file_landing(number: u128, key: &str, version: &str, on_change: OnChange, bytes: u64) -> Landing {
    Landing { objects: vec![file(number, key, version, on_change, 0..bytes)], ..landing(number) }
}

/// An envelope with one span of each partition, and their advances.
pub(crate) fn records(number: u128, spans: &[(&str, Option<u64>, u64, u64)]) -> Landing {
    let mut row = 0;
    let mut segments = Vec::new();
    let mut advances = Vec::new();
    for (partition, from, first, next) in spans {
        segments.push(NewSegment {
            partition: Partition::new(*partition),
            first: Position::Ordered(OrderedPosition::new(*first)),
            next: Some(Position::Ordered(OrderedPosition::new(*next))),
            content: SegmentContent::Envelope { rows: row..row + (next - first) },
            bytes: 100,
            records: Some(next - first),
            format: "json".to_owned(),
        });
        row += next - first;
        advances.push(Advance {
            partition: Partition::new(*partition),
            from: from.map(OrderedPosition::new),
            to: OrderedPosition::new(*next),
        });
    }
    let object = NewObject {
        name: format!("payments/dt=1970-01-01/hr=00/{}-records.parquet", attempt(number)),
        bytes: 1000,
        digest: Digest::of(&number.to_le_bytes()),
        source: None,
        on_change: OnChange::Replace,
        segments,
    };
    Landing { objects: vec![object], advances, ..landing(number) }
}

/// Lands a file and gives its segments.
pub(crate) async fn land_file(
    ledger: &dyn Ledger,
    number: u128,
    key: &str,
    version: &str,
    bytes: u64,
) -> Vec<SegmentId> {
    let outcome = ledger.land(&file_landing(number, key, version, OnChange::Replace, bytes)).await.unwrap();
    outcome.listed.into_iter().map(|segment| segment.id).collect()
}

/// What is work at a time: segments and what they replace.
pub(crate) async fn work(ledger: &dyn Ledger, now: i64, skip: &[SegmentId], limit: u32) -> Vec<WorkItem> {
    ledger.work(&pipeline(), &stream(), at(now), skip, limit).await.unwrap()
}

/// The ids of what is work.
pub(crate) async fn work_ids(ledger: &dyn Ledger, now: i64) -> Vec<SegmentId> {
    work(ledger, now, &[], 100).await.into_iter().map(|item| item.segment.id).collect()
}

/// What failed and is due at a time.
pub(crate) async fn failed(ledger: &dyn Ledger, now: i64, skip: &[SegmentId], limit: u32) -> Vec<WorkItem> {
    ledger.failed(&pipeline(), &stream(), at(now), skip, limit).await.unwrap()
}

/// The ids of what failed and is due.
pub(crate) async fn failed_ids(ledger: &dyn Ledger, now: i64) -> Vec<SegmentId> {
    failed(ledger, now, &[], 1000).await.into_iter().map(|item| item.segment.id).collect()
}

/// Whether there is nothing to do, but for what is refined again and for history.
pub(crate) async fn is_done(ledger: &dyn Ledger, now: i64) -> bool {
    work_ids(ledger, now).await.is_empty() && failed_ids(ledger, now).await.is_empty()
}

pub(crate) fn refined(segment: &SegmentId, replaces: &[SegmentId]) -> RefinedSegment {
    RefinedSegment {
        segment: segment.clone(),
        generation: 0,
        again: None,
        terms: forebay_model::load::Terms::default(),
        counts: SegmentCounts { records: 10, loaded: 7, filtered: 1, rejected: 2, rescued: 3 },
        rejects: vec![RejectCount { stage: "decode".to_owned(), code: "malformed".to_owned(), records: 2 }],
        retryable: 2,
        replaces: replaces.to_vec(),
    }
}

/// A load with a file of five rows of each segment.
pub(crate) fn load(ledger: &dyn Ledger, number: u64, name: &str, segments: &[SegmentId]) -> Load {
    let file = |segment: &SegmentId| StagedFile {
        path: format!("day=1/{number}-{}.parquet", segment.as_str().replace('/', "-")),
        bytes: 50,
        rows: 5,
        segment: segment.clone(),
        partition_values: BTreeMap::from([("day".to_owned(), Some("1".to_owned())), ("hour".to_owned(), None)]),
        statistics: "{\"numRecords\":5}".to_owned(),
    };
    Load {
        ledger: ledger.id(),
        pipeline: pipeline(),
        number,
        id: Uuid::from_u128(u128::from(number) << 8),
        table: table(name),
        revision: Digest::of(b"revision"),
        schema_version: 1,
        begun_at: at(50),
        schema: Arc::new(Schema::new(vec![Field::new("amount", DataType::Float64, true)])),
        partition_by: vec!["day".to_owned()],
        files: segments.iter().map(file).collect(),
        removes: Vec::new(),
        chosen: false,
    }
}

/// A group of these segments, with a load to each table.
pub(crate) fn group(ledger: &dyn Ledger, number: u64, segments: &[SegmentId], tables: &[&str]) -> LoadGroup {
    LoadGroup {
        pipeline: pipeline(),
        number,
        revision: Digest::of(b"revision"),
        schema_version: 1,
        begun_at: at(50),
        segments: segments.iter().map(|segment| refined(segment, &[])).collect(),
        loads: tables.iter().map(|name| load(ledger, number, name, segments)).collect(),
    }
}

pub(crate) fn receipt() -> LoadReceipt {
    LoadReceipt { table_version: 4, rows_added: 5, rows_removed: 2, committed_now: true }
}

/// Opens a group of these segments and closes its load.
pub(crate) async fn load_all(ledger: &dyn Ledger, number: u64, segments: &[RefinedSegment]) {
    let ids: Vec<_> = segments.iter().map(|segment| segment.segment.clone()).collect();
    let group = LoadGroup { segments: segments.to_vec(), ..group(ledger, number, &ids, &["payments"]) };
    ledger.open_group(&group).await.unwrap();
    ledger.close_load(&pipeline(), number, &table("payments"), &receipt(), at(60)).await.unwrap();
}

pub(crate) fn failure(segment: &SegmentId, failed_at: i64, retry_at: Option<i64>) -> SegmentFailure {
    SegmentFailure {
        segment: segment.clone(),
        generation: 0,
        revision: Digest::of(b"revision"),
        class: ErrorClass::Operator,
        message: "the rule does not bind".to_owned(),
        hint: Some("deploy one that does".to_owned()),
        at: at(failed_at),
        retry_at: retry_at.map(at),
    }
}
