//! The ledger in SQLite, and that in PostgreSQL, give the same answers as the plain model, whatever is asked in whatever order.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

#[path = "../../../../tests/suite/postgres.rs"]
mod postgres;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use arrow_schema::{DataType, Field, Schema};
use async_trait::async_trait;
use forebay_ledger::{MemoryLedger, OpenMode, PostgresLedger, SqliteLedger};
use forebay_model::flow::OnChange;
use forebay_model::ids::{Digest, ModuleName, PipelineName, SegmentId, StreamName, TableName};
use forebay_model::load::{Again, Load, LoadGroup, LoadReceipt, RefinedSegment, RejectCount, StagedFile, Terms};
use forebay_model::ports::{
    Advance, Clock, DeploymentState, HealRequest, HeldChange, Landing, Ledger, ModuleRecord, NewObject, NewSegment,
    ObjectState, Random, ReplayRequest, SegmentFailure, WorkItem,
};
use forebay_model::position::{OrderedPosition, Position};
use forebay_model::revision::Revision;
use forebay_model::segment::{Compression, Partition, SegmentContent, SegmentCounts};
use forebay_model::{ErrorClass, Timestamp};
use forebay_postgres::{Keeps, PostgresAddress};
use proptest::prelude::*;
use uuid::Uuid;

#[derive(Debug)]
struct Still;

#[async_trait]
impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp::EPOCH
    }
    async fn sleep(&self, _duration: Duration) {}
}

impl Random for Still {
    fn uuid(&self) -> Uuid {
        Uuid::from_u128(42)
    }
    fn bits(&self) -> u64 {
        42
    }
}

/// A call, by small numbers, so that calls meet one another.
#[derive(Debug, Clone)]
enum Call {
    LandFile { attempt: u8, key: u8, version: u8, start: u8, parts: u8, on_change: OnChange },
    LandRecords { attempt: u8, partition: u8, from: Option<u8>, records: u8 },
    Journalled(u8),
    Work { pipeline: u8, now: u8, skip: u8, limit: u8 },
    Failed { pipeline: u8, now: u8, skip: u8, limit: u8 },
    Begin { pipeline: u8, at: u8 },
    History { pipeline: u8, now: u8, skip: u8, limit: u8 },
    Fail { pipeline: u8, pick: u8, parts: u8, at: u8, retry_after: Option<u8> },
    RetryFailed(u8),
    AskHeal { pipeline: u8, unless: Option<u8>, code: Option<bool>, since: Option<u8>, at: u8 },
    AskReplay { pipeline: u8, pick: u8, under: Option<u8>, workers: u8, at: u8 },
    ForgetAgain { pipeline: u8, heals: bool },
    Again { pipeline: u8, now: u8, skip: u8, limit: u8 },
    Open { pipeline: u8, number: Option<u8>, from: u8, take: u8, tables: u8, generation: u8 },
    Reopen { pipeline: u8 },
    Close { pipeline: u8, number: u8, table: u8 },
    Withdraw { pipeline: u8, number: u8, all: bool },
    Evolve { pipeline: u8, from: Option<u8>, columns: u8 },
    Hold { column: u8, approve: bool },
    Module { content: u8, path: u8, at: u8 },
    Deploy { revision: u8, state: u8, record: bool, at: u8 },
    Shadow { revision: u8, report: Option<u8>, at: u8 },
    RefinedBy { pipeline: u8, any: bool, limit: u8 },
    Ask { what: u8, at: u8, answer: Option<u8> },
}

fn call() -> impl Strategy<Value = Call> {
    let on_change = prop_oneof![4 => Just(OnChange::Replace), 1 => Just(OnChange::Append), 1 => Just(OnChange::Tail)];
    prop_oneof![
        8 => (0..12_u8, 0..3_u8, 0..3_u8, prop_oneof![4 => Just(0_u8), 1 => Just(1_u8)], 0..4_u8, on_change).prop_map(
            |(attempt, key, version, start, parts, on_change)| Call::LandFile { attempt, key, version, start, parts, on_change }
        ),
        3 => (20..40_u8, 0..2_u8, proptest::option::of(0..6_u8), 0..3_u8)
            .prop_map(|(attempt, partition, from, records)| Call::LandRecords { attempt, partition, from, records }),
        1 => (0..40_u8).prop_map(Call::Journalled),
        3 => (0..2_u8, 0..20_u8, any::<u8>(), 0..8_u8)
            .prop_map(|(pipeline, now, skip, limit)| Call::Work { pipeline, now, skip, limit }),
        3 => (0..2_u8, 0..20_u8, any::<u8>(), 0..8_u8)
            .prop_map(|(pipeline, now, skip, limit)| Call::Failed { pipeline, now, skip, limit }),
        2 => (0..2_u8, 0..60_u8).prop_map(|(pipeline, at)| Call::Begin { pipeline, at }),
        2 => (0..2_u8, 0..20_u8, any::<u8>(), 0..8_u8)
            .prop_map(|(pipeline, now, skip, limit)| Call::History { pipeline, now, skip, limit }),
        6 => (0..2_u8, any::<u8>(), 1..4_u8, 0..10_u8, proptest::option::weighted(0.8, 0..10_u8))
            .prop_map(|(pipeline, pick, parts, at, retry_after)| Call::Fail { pipeline, pick, parts, at, retry_after }),
        1 => (0..2_u8).prop_map(Call::RetryFailed),
        3 => (0..2_u8, proptest::option::of(0..3_u8), proptest::option::weighted(0.3, any::<bool>()), proptest::option::weighted(0.2, 0..40_u8), 0..10_u8)
            .prop_map(|(pipeline, unless, code, since, at)| Call::AskHeal { pipeline, unless, code, since, at }),
        3 => (0..2_u8, any::<u8>(), proptest::option::of(0..3_u8), 0..3_u8, 0..10_u8)
            .prop_map(|(pipeline, pick, under, workers, at)| Call::AskReplay { pipeline, pick, under, workers, at }),
        1 => (0..2_u8, any::<bool>()).prop_map(|(pipeline, heals)| Call::ForgetAgain { pipeline, heals }),
        2 => (0..2_u8, 0..20_u8, any::<u8>(), 0..8_u8)
            .prop_map(|(pipeline, now, skip, limit)| Call::Again { pipeline, now, skip, limit }),
        5 => (0..2_u8, proptest::option::weighted(0.2, 0..6_u8), 0..6_u8, 1..5_u8, 0..3_u8, prop_oneof![9 => Just(0_u8), 1 => Just(1_u8)])
            .prop_map(|(pipeline, number, from, take, tables, generation)| Call::Open { pipeline, number, from, take, tables, generation }),
        1 => (0..2_u8).prop_map(|pipeline| Call::Reopen { pipeline }),
        5 => (0..2_u8, 0..6_u8, 0..3_u8).prop_map(|(pipeline, number, table)| Call::Close { pipeline, number, table }),
        2 => (0..2_u8, 0..6_u8, prop::bool::weighted(0.9))
            .prop_map(|(pipeline, number, all)| Call::Withdraw { pipeline, number, all }),
        1 => (0..2_u8, proptest::option::of(1..3_u8), 0..3_u8)
            .prop_map(|(pipeline, from, columns)| Call::Evolve { pipeline, from, columns }),
        1 => (0..3_u8, any::<bool>()).prop_map(|(column, approve)| Call::Hold { column, approve }),
        1 => (0..3_u8, 0..2_u8, 0..4_u8).prop_map(|(content, path, at)| Call::Module { content, path, at }),
        3 => (0..3_u8, 0..5_u8, any::<bool>(), 0..4_u8)
            .prop_map(|(revision, state, record, at)| Call::Deploy { revision, state, record, at }),
        3 => (0..3_u8, proptest::option::of(0..4_u8), 0..4_u8)
            .prop_map(|(revision, report, at)| Call::Shadow { revision, report, at }),
        2 => (0..2_u8, prop::bool::weighted(0.9), 0..4_u8)
            .prop_map(|(pipeline, any, limit)| Call::RefinedBy { pipeline, any, limit }),
        1 => (0..2_u8, 0..2_u8, proptest::option::of(0..4_u8)).prop_map(|(what, at, answer)| Call::Ask { what, at, answer }),
    ]
}

fn stream() -> StreamName {
    StreamName::new("payments").unwrap()
}

fn pipeline(number: u8) -> PipelineName {
    PipelineName::new(format!("p{number}")).unwrap()
}

fn table(number: u8) -> TableName {
    format!("lake.t{number}").parse().unwrap()
}

fn at(time: u8) -> Timestamp {
    Timestamp::from_micros(i64::from(time))
}

fn land_file(attempt: u8, key: u8, version: u8, start: u8, parts: u8, on_change: OnChange) -> Landing {
    let start = u64::from(start) * 10;
    let (key, version) = (format!("k{key}"), format!("v{version}"));
    let end = start + u64::from(parts) * 10;
    let segment = |part: u8| {
        let range = start + u64::from(part) * 10..start + u64::from(part) * 10 + 10;
        NewSegment {
            partition: Partition::new("files:/in"),
            first: Position::object(key.clone(), version.clone(), range.clone()),
            next: None,
            content: SegmentContent::Bytes {
                range: range.start - start..range.end - start,
                compression: Compression::None,
                preamble: None,
            },
            bytes: 10,
            records: None,
            format: "json".to_owned(),
        }
    };
    Landing {
        stream: stream(),
        attempt: Uuid::from_u128(u128::from(attempt)),
        landed_at: at(attempt),
        objects: vec![NewObject {
            name: format!("payments/{attempt}-{key}"),
            bytes: end - start,
            digest: Digest::of(format!("{key}{version}{start}{parts}").as_bytes()),
            source: Some(ObjectState {
                partition: Partition::new("files:/in"),
                key: key.clone(),
                version: version.clone(),
                range: start..end,
                identity: String::new(),
            }),
            on_change,
            segments: (0..parts).map(segment).collect(),
        }],
        advances: Vec::new(),
    }
}

fn land_records(attempt: u8, partition: u8, from: Option<u8>, records: u8) -> Landing {
    let first = u64::from(from.unwrap_or(0));
    let next = first + u64::from(records);
    let partition = Partition::new(format!("kafka:c/t/{partition}"));
    let segment = NewSegment {
        partition: partition.clone(),
        first: Position::Ordered(OrderedPosition::new(first)),
        next: Some(Position::Ordered(OrderedPosition::new(next))),
        content: SegmentContent::Envelope { rows: 0..u64::from(records) },
        bytes: 10,
        records: Some(u64::from(records)),
        format: "json".to_owned(),
    };
    let object = NewObject {
        name: format!("payments/{attempt}-records.parquet"),
        bytes: 100,
        digest: Digest::of(&[attempt]),
        source: None,
        on_change: OnChange::Replace,
        segments: vec![segment],
    };
    Landing {
        stream: stream(),
        attempt: Uuid::from_u128(u128::from(attempt)),
        landed_at: at(attempt),
        objects: if records == 0 { Vec::new() } else { vec![object] },
        advances: vec![Advance {
            partition,
            from: from.map(|from| OrderedPosition::new(u64::from(from))),
            to: OrderedPosition::new(next),
        }],
    }
}

fn group(items: &[WorkItem], of: u8, number: u64, tables: u8, generation: u8) -> LoadGroup {
    // Of what is to be done under a revision that was asked for, some is tried under another: that is refused.
    let asked = items.iter().find_map(|item| item.terms.revision).filter(|_| !number.is_multiple_of(5));
    let revision = asked.unwrap_or(Digest::of(&[of]));
    let fits = |item: &&WorkItem| number.is_multiple_of(5) || item.terms.revision.is_none_or(|under| under == revision);
    let segments: Vec<_> = items
        .iter()
        .filter(fits)
        .map(|item| RefinedSegment {
            segment: item.segment.id.clone(),
            generation: u32::from(generation) + item.generation,
            again: item.again,
            terms: item.terms,
            counts: match item.again {
                Some(Again::Heal) => SegmentCounts { records: 1, loaded: 1, ..SegmentCounts::default() },
                Some(Again::Replay) | None => {
                    SegmentCounts { records: 3, loaded: 2, filtered: 0, rejected: 1, rescued: 1 }
                }
            },
            rejects: vec![RejectCount { stage: "decode".to_owned(), code: "malformed".to_owned(), records: 1 }],
            retryable: u64::from(!number.is_multiple_of(3)),
            replaces: item.segment.replaces.clone(),
        })
        .collect();
    let file = |segment: &RefinedSegment| StagedFile {
        path: "part.parquet".to_owned(),
        bytes: 7,
        rows: 2,
        segment: segment.segment.clone(),
        partition_values: BTreeMap::new(),
        statistics: String::new(),
    };
    let load = |name: u8| Load {
        ledger: Uuid::from_u128(42),
        pipeline: pipeline(of),
        number,
        id: Uuid::from_u128(u128::from(number)),
        table: table(name),
        revision,
        schema_version: 1,
        begun_at: at(1),
        schema: Arc::new(Schema::empty()),
        partition_by: Vec::new(),
        files: segments.iter().skip(usize::from(name)).map(file).collect(),
        removes: Vec::new(),
        chosen: false,
    };
    LoadGroup {
        pipeline: pipeline(of),
        number,
        revision,
        schema_version: 1,
        begun_at: at(1),
        loads: (0..tables).map(load).collect(),
        segments,
    }
}

fn revision(number: u8) -> Revision {
    Revision {
        pipeline: pipeline(0),
        stream: stream(),
        decoder: serde_json::json!({ "number": number }),
        steps: Vec::new(),
        routes: BTreeMap::new(),
        rejects: table(9),
    }
}

/// An answer as text, so that all calls can be compared alike: of an error its class.
fn shown<T: std::fmt::Debug>(answer: forebay_model::Result<T>) -> String {
    match answer {
        Ok(answer) => format!("{answer:?}"),
        Err(error) => format!("error of class {}", error.class()),
    }
}

/// All segments, in the order of the documented table.
async fn segments(ledger: &dyn Ledger) -> Vec<SegmentId> {
    let batch = ledger.read_table("segments").await.unwrap();
    let column = batch.column_by_name("segment").unwrap();
    let column = column.as_any().downcast_ref::<arrow_array::StringArray>().unwrap();
    column.iter().flatten().map(SegmentId::from_text).collect()
}

async fn answer(ledger: &dyn Ledger, call: &Call, groups: &mut Vec<LoadGroup>) -> String {
    match *call {
        Call::LandFile { attempt, key, version, start, parts, on_change } => {
            shown(ledger.land(&land_file(attempt, key, version, start, parts, on_change)).await)
        }
        Call::LandRecords { attempt, partition, from, records } => {
            shown(ledger.land(&land_records(attempt, partition, from, records)).await)
        }
        Call::Journalled(attempt) => shown(ledger.mark_journalled(Uuid::from_u128(u128::from(attempt))).await),
        Call::Work { pipeline: of, now, skip, limit } => {
            let all = segments(ledger).await;
            let skip: Vec<_> = all
                .into_iter()
                .enumerate()
                .filter(|(n, _)| skip >> (n % 8) & 1 == 1 && n % 3 == 0)
                .map(|(_, id)| id)
                .collect();
            shown(ledger.work(&pipeline(of), &stream(), at(now), &skip, u32::from(limit)).await)
        }
        Call::Failed { pipeline: of, now, skip, limit } => {
            let all = segments(ledger).await;
            let skip: Vec<_> = all
                .into_iter()
                .enumerate()
                .filter(|(n, _)| skip >> (n % 8) & 1 == 1 && n % 3 == 1)
                .map(|(_, id)| id)
                .collect();
            shown(ledger.failed(&pipeline(of), &stream(), at(now), &skip, u32::from(limit)).await)
        }
        Call::Begin { pipeline: of, at: began } => shown(ledger.begin(&pipeline(of), &stream(), at(began)).await),
        Call::History { pipeline: of, now, skip, limit } => {
            let all = segments(ledger).await;
            let skip: Vec<_> =
                all.into_iter().enumerate().filter(|(n, _)| skip >> (n % 8) & 1 == 1).map(|(_, id)| id).collect();
            shown(ledger.history(&pipeline(of), &stream(), at(now), &skip, u32::from(limit)).await)
        }
        // The next ones too: they may be parts of the same object.
        Call::Fail { pipeline: of, pick, parts, at: failed_at, retry_after } => {
            let all = segments(ledger).await;
            let mut answers = String::new();
            for segment in all.iter().cycle().skip(usize::from(pick)).take(all.len().min(usize::from(parts))) {
                let failure = SegmentFailure {
                    segment: segment.clone(),
                    generation: u32::from(failed_at % 3),
                    revision: Digest::of(b"r"),
                    class: ErrorClass::Operator,
                    message: "it failed".to_owned(),
                    hint: None,
                    at: at(failed_at),
                    retry_at: retry_after.map(|after| at(failed_at + after)),
                };
                answers += &shown(ledger.fail(&pipeline(of), &failure).await);
            }
            answers
        }
        Call::RetryFailed(of) => shown(ledger.retry_failed(&pipeline(of)).await),
        Call::AskHeal { pipeline: of, unless, code, since, at: asked } => {
            let wanted = HealRequest {
                unless_tried_by: unless.map(|of| Digest::of(&[of])),
                codes: code.map(|known| if known { "malformed" } else { "trap" }.to_owned()).into_iter().collect(),
                since: since.map(at),
                reason: "a test".to_owned(),
            };
            shown(ledger.ask_heal(&pipeline(of), &wanted, at(asked)).await)
        }
        Call::AskReplay { pipeline: of, pick, under, workers, at: asked } => {
            let all = segments(ledger).await;
            let picked = all.into_iter().enumerate().filter(|(n, _)| pick >> (n % 8) & 1 == 1).map(|(_, id)| id);
            let terms = Terms {
                revision: under.map(|number| revision(number).id()),
                workers: NonZeroU32::new(u32::from(workers)),
            };
            let wanted = ReplayRequest { segments: picked.collect(), terms, reason: "a test".to_owned() };
            shown(ledger.ask_replay(&pipeline(of), &wanted, at(asked)).await)
        }
        Call::ForgetAgain { pipeline: of, heals } => {
            let what = if heals { Again::Heal } else { Again::Replay };
            shown(ledger.forget_again(&pipeline(of), what).await)
        }
        Call::Again { pipeline: of, now, skip, limit } => {
            let all = segments(ledger).await;
            let skip: Vec<_> =
                all.into_iter().enumerate().filter(|(n, _)| skip >> (n % 8) & 1 == 1).map(|(_, id)| id).collect();
            shown(ledger.again(&pipeline(of), &stream(), at(now), &skip, u32::from(limit)).await)
        }
        Call::Open { pipeline: of, number, from, take, tables, generation } => {
            let mut work = ledger.again(&pipeline(of), &stream(), at(30), &[], 2).await.unwrap();
            work.extend(ledger.failed(&pipeline(of), &stream(), at(30), &[], 3).await.unwrap());
            work.extend(ledger.history(&pipeline(of), &stream(), at(30), &[], 3).await.unwrap());
            work.extend(ledger.work(&pipeline(of), &stream(), at(30), &[], 20).await.unwrap());
            let items: Vec<_> = work.into_iter().skip(usize::from(from)).take(usize::from(take)).collect();
            let last = ledger.last_number(&pipeline(of)).await.unwrap();
            let group = group(&items, of, number.map_or(last + 1, u64::from), tables, generation);
            let answer = shown(ledger.open_group(&group).await);
            groups.push(group);
            answer
        }
        Call::Reopen { pipeline: of } => match groups.iter().rev().find(|group| group.pipeline == pipeline(of)) {
            Some(group) => shown(ledger.open_group(group).await),
            None => String::new(),
        },
        Call::Close { pipeline: of, number, table: name } => {
            let receipt = LoadReceipt { table_version: 3, rows_added: 1, rows_removed: 2, committed_now: true };
            shown(ledger.close_load(&pipeline(of), u64::from(number), &table(name), &receipt, at(9)).await)
        }
        Call::Withdraw { pipeline: of, number, all } => {
            let known = groups.iter().find(|group| group.pipeline == pipeline(of) && group.number == u64::from(number));
            let failures: Vec<_> = known
                .iter()
                .flat_map(|group| &group.segments)
                .skip(usize::from(!all))
                .map(|segment| SegmentFailure {
                    segment: segment.segment.clone(),
                    generation: segment.generation,
                    revision: Digest::of(b"r"),
                    class: ErrorClass::RejectRows,
                    message: "the table refuses it".to_owned(),
                    hint: Some("look at it".to_owned()),
                    at: at(9),
                    retry_at: Some(at(12)),
                })
                .collect();
            shown(ledger.withdraw_group(&pipeline(of), u64::from(number), &failures).await)
        }
        Call::Evolve { pipeline: of, from, columns } => {
            let fields: Vec<_> = (0..columns).map(|n| Field::new(format!("c{n}"), DataType::Utf8, true)).collect();
            let schema = Arc::new(Schema::new(fields));
            shown(ledger.evolve_schema(&pipeline(of), from.map(u32::from), &schema, at(1)).await)
        }
        Call::Hold { column, approve: true } => shown(ledger.approve_change(&table(0), &format!("c{column}")).await),
        Call::Hold { column, approve: false } => {
            let change = HeldChange {
                table: table(0),
                column: format!("c{column}"),
                data_type: "Utf8".to_owned(),
                reason: "hold".to_owned(),
                first_seen: at(column),
                approved: false,
            };
            shown(ledger.hold_changes(&[change]).await)
        }
        Call::Module { content, path, at: time } => module(ledger, content, path, time).await,
        Call::Deploy { revision: number, state, record, at: time } => {
            let state = [
                DeploymentState::Active,
                DeploymentState::Retired,
                DeploymentState::Refused,
                DeploymentState::Cancelled,
                DeploymentState::Shadow,
            ][usize::from(state)];
            let recorded =
                if record { shown(ledger.record_revision(&revision(number), at(time)).await) } else { String::new() };
            recorded + &shown(ledger.deploy(&pipeline(0), revision(number).id(), state, "reason", at(time)).await)
        }
        Call::Shadow { revision: number, report: None, at: time } => {
            let plan = serde_json::json!({ "asked": time });
            let put = ledger.shadow(&pipeline(0), revision(number).id(), &plan, "shadow", at(time)).await;
            shown(put) + &shown(ledger.shadows().await)
        }
        Call::Shadow { revision: number, report: Some(report), at: _ } => {
            let report = serde_json::json!({ "compared": report });
            let noted = ledger.report_shadow(&pipeline(0), revision(number).id(), &report).await;
            shown(noted) + &shown(ledger.shadows().await)
        }
        Call::RefinedBy { pipeline: of, any, limit } => {
            let by = Digest::of(if any { b"r" } else { b"n" });
            shown(ledger.refined_by(&pipeline(of), by, u32::from(limit)).await)
        }
        Call::Ask { what, at: time, answer: Some(request) } => {
            shown(ledger.answer(u64::from(request), &serde_json::json!({ "what": what }), at(time)).await)
        }
        Call::Ask { what, at: time, answer: None } => {
            shown(ledger.ask(&format!("what {what}"), &serde_json::json!(null), at(time)).await)
        }
    }
}

async fn module(ledger: &dyn Ledger, content: u8, path: u8, time: u8) -> String {
    let (name, digest) = (ModuleName::new("fraud").unwrap(), Digest::of(&[content]));
    let record = ModuleRecord {
        digest,
        name: name.clone(),
        version: "1".to_owned(),
        bytes: 1,
        origin: format!("folder:{path}"),
        at: at(time),
    };
    let recorded = shown(ledger.record_module(&record).await);
    let seen = shown(ledger.seen_in_folder(&format!("{path}.wasm"), digest, at(time)).await);
    let activated =
        if path == 0 { shown(ledger.activate_module(&name, digest, at(time)).await) } else { String::new() };
    format!("{recorded}{seen}{activated}")
}

/// Everything that can be read.
async fn all(ledger: &dyn Ledger) -> Vec<String> {
    let mut seen = Vec::new();
    for name in ledger.table_names() {
        let batch = ledger.read_table(name).await.unwrap();
        seen.push(format!("{name}: {:?}", batch.columns()));
    }
    for id in segments(ledger).await {
        seen.push(shown(ledger.segment(&id).await));
    }
    let keys = ["k0", "k1", "k2", "none"].map(str::to_owned);
    seen.push(shown(ledger.latest_objects(&stream(), &Partition::new("files:/in"), &keys).await));
    seen.push(shown(ledger.unjournalled(&stream()).await));
    seen.push(shown(ledger.held_changes().await));
    seen.push(shown(ledger.asked().await));
    seen.push(shown(ledger.active_module(&ModuleName::new("fraud").unwrap()).await));
    let ids = segments(ledger).await;
    for of in 0..2 {
        let name = pipeline(of);
        seen.push(shown(ledger.open_groups(&name).await));
        seen.push(shown(ledger.work(&name, &stream(), at(30), &[], 100).await));
        seen.push(shown(ledger.failed(&name, &stream(), at(30), &[], 100).await));
        seen.push(shown(ledger.history(&name, &stream(), at(30), &[], 100).await));
        seen.push(shown(ledger.tables_of(&name, &ids[..ids.len() / 2]).await));
        seen.push(shown(ledger.schema(&name).await));
        seen.push(shown(ledger.active(&name).await));
    }
    seen
}

/// An empty ledger's file; copying it is faster than making one for each case.
async fn empty() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("forebay.db");
    let ledger = SqliteLedger::open(&path, OpenMode::Create, &Still, &Still).await.unwrap();
    ledger.close().await;
    std::fs::read(path).unwrap()
}

async fn compare(empty: &[u8], calls: Vec<Call>) -> Result<(), TestCaseError> {
    // Thousands of transactions: in memory, where the system has such a folder, since durability is not the question here.
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let path = folder.path().join("forebay.db");
    std::fs::write(&path, empty).unwrap();
    let mut sqlite = SqliteLedger::open(&path, OpenMode::Create, &Still, &Still).await.unwrap();
    let mut memory = MemoryLedger::new(&Still);
    let (mut of_sqlite, mut of_memory) = (Vec::new(), Vec::new());
    for (place, call) in calls.iter().enumerate() {
        let expected = answer(&memory, call, &mut of_memory).await;
        let given = answer(&sqlite, call, &mut of_sqlite).await;
        prop_assert_eq!(given, expected, "call {}: {:?}", place, call);
        if place % 20 == 19 {
            // Both are killed and started again.
            sqlite = SqliteLedger::open(&path, OpenMode::Create, &Still, &Still).await.unwrap();
            memory = MemoryLedger::restore(memory.snapshot());
        }
    }
    for (given, expected) in all(&sqlite).await.into_iter().zip(all(&memory).await) {
        prop_assert_eq!(given, expected);
    }
    Ok(())
}

#[test]
fn sqlite_and_the_model_give_the_same_answers() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let empty = runtime.block_on(empty());
    let config = ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(calls in proptest::collection::vec(call(), 1..40))| {
        runtime.block_on(compare(&empty, calls))?;
    });
}

async fn compare_postgres(
    address: &PostgresAddress,
    schema: &postgres::Schema,
    calls: Vec<Call>,
) -> Result<(), TestCaseError> {
    let open = async || PostgresLedger::open(address, OpenMode::Create, &Still, &Still).await.unwrap();
    let mut ledger = open().await;
    let mut memory = MemoryLedger::new(&Still);
    let (mut of_postgres, mut of_memory) = (Vec::new(), Vec::new());
    for (place, call) in calls.iter().enumerate() {
        let expected = answer(&memory, call, &mut of_memory).await;
        let given = answer(&ledger, call, &mut of_postgres).await;
        prop_assert_eq!(given.replace(&address.to_string(), "here"), expected, "call {}: {:?}", place, call);
        if place % 20 == 19 {
            ledger.close().await;
            ledger = open().await;
            memory = MemoryLedger::restore(memory.snapshot());
        }
    }
    for (given, expected) in all(&ledger).await.into_iter().zip(all(&memory).await) {
        prop_assert_eq!(given, expected);
    }
    ledger.close().await;
    schema.sql(&format!("DROP SCHEMA {} CASCADE", schema.name())).await;
    Ok(())
}

#[test]
fn postgres_and_the_model_give_the_same_answers() {
    let Some(schema) = postgres::Schema::new() else { return };
    let address = PostgresAddress::parse(&schema.url(), Keeps::Ledger).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // A tenth of a second each: making the schema is most of it.
    let config = ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(calls in proptest::collection::vec(call(), 1..40))| {
        runtime.block_on(compare_postgres(&address, &schema, calls))?;
    });
}
