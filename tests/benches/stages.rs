//! Each stage alone, on one thread, in one process.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::RecordBatch;
use arrow_schema::Schema;
use forebay_format::Formats;
use forebay_landing::DiskZone;
use forebay_model::ports::{
    Clock, LandingZone as _, Polled, Random, SegmentInput, SplitRule, StagingRequest, Warehouse as _,
};
use forebay_model::{Compression, Load, RawBatch, SegmentId, StagedFile, Timestamp, column};
use forebay_warehouse::{DeltaOptions, DeltaWarehouse};
use futures::StreamExt as _;
use serde_json::json;

use crate::input::schema;

#[derive(Debug)]
pub(crate) struct Real;

#[async_trait::async_trait]
impl Clock for Real {
    fn now(&self) -> Timestamp {
        Timestamp::from_system(std::time::SystemTime::now())
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

impl Random for Real {
    fn uuid(&self) -> uuid::Uuid {
        uuid::Uuid::new_v4()
    }

    fn bits(&self) -> u64 {
        uuid::Uuid::new_v4().as_u64_pair().0
    }
}

/// The least of some rounds: what the work takes when nothing disturbs it.
pub(crate) fn least<T>(rounds: u32, mut work: impl FnMut() -> T) -> (Duration, T) {
    let mut best: Option<(Duration, T)> = None;
    for _ in 0..rounds {
        let began = Instant::now();
        let made = work();
        let took = began.elapsed();
        if best.as_ref().is_none_or(|(least, _)| took < *least) {
            best = Some((took, made));
        }
    }
    best.expect("at least one round")
}

pub(crate) fn line(stage: &str, bytes: u64, took: Duration, note: &str) {
    println!("  {stage:<28} {:>8.0} MB/s   {note}", bytes as f64 / 1e6 / took.as_secs_f64());
}

fn ratio(took: Duration, floor: Duration) -> String {
    format!("{:.2} of the floor's speed", floor.as_secs_f64() / took.as_secs_f64())
}

/// All stages.
pub(crate) fn figures(folder: &Path, work: &Path) {
    let file = folder.join("part-00.jsonl");
    let text = std::fs::read(&file).unwrap();
    let bytes = text.len() as u64;
    println!("stages, one thread, {:.0} MB of JSON lines of {} bytes", bytes as f64 / 1e6, bytes / 125_000);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();

    let (read, _) = least(3, || std::fs::read(&file).unwrap().len());
    line("read", bytes, read, "page cache");
    land(&runtime, &text, work);
    envelope(&runtime, work);
    let batches = decode(&text);
    encode(&runtime, &batches, bytes, work);
}

fn land(runtime: &tokio::runtime::Runtime, text: &[u8], work: &Path) {
    let zone = DiskZone::open(work.join("zone"), Arc::new(Real)).unwrap();
    let text = bytes::Bytes::copy_from_slice(text);
    let mut round = 0;
    let (took, _) = least(3, || {
        round += 1;
        let chunks: Vec<_> =
            (0..text.len()).step_by(1 << 20).map(|at| Ok(text.slice(at..text.len().min(at + (1 << 20))))).collect();
        let body = futures::stream::iter(chunks).boxed();
        let rule = SplitRule::Lines { target: 64 << 20 };
        runtime.block_on(zone.put(&format!("bench/{round}.jsonl"), body, Compression::None, rule)).unwrap()
    });
    line("land", text.len() as u64, took, "SHA-256, cuts, written, synced");
}

/// Records of a stream: events of an auction (the crate `nexmark`), landed as an envelope and read back.
fn envelope(runtime: &tokio::runtime::Runtime, work: &Path) {
    let zone = DiskZone::open(work.join("envelopes"), Arc::new(Real)).unwrap();
    let config =
        serde_json::json!({ "type": "generator", "events": 100_000, "partitions": 4, "max_batch_events": 100_000 });
    let progress = Arc::new(forebay_sources::memory::MemoryProgress::default());
    let mut source = forebay_sources::build(&config, work, progress, Arc::new(Real), true).unwrap();
    let polled = runtime.block_on(source.poll()).unwrap();
    let Polled::Batch(RawBatch::Records(records)) = polled else { return };
    let all = records.spans.iter().flat_map(|span| &span.records);
    let (count, bytes) = all.fold((0, 0), |(count, bytes), record| {
        (count + 1, bytes + record.value.as_ref().map_or(0, |value| value.len() as u64))
    });
    let stream = forebay_model::StreamName::new("auctions").unwrap();
    let mut round = 0;
    let (took, landed) = least(3, || {
        round += 1;
        runtime.block_on(zone.put_records(&format!("auctions/{round}.parquet"), &stream, &records)).unwrap()
    });
    line(
        "land an envelope",
        bytes,
        took,
        &format!("{count} records, {:.1} times smaller, synced", bytes as f64 / landed.bytes as f64),
    );
    let (took, _) = least(3, || {
        zone.open_records(&landed.name, 0..count, landed.digest)
            .unwrap()
            .map(|batch| batch.unwrap().num_rows())
            .sum::<usize>()
    });
    line("read an envelope", bytes, took, "");
}

fn decode(text: &[u8]) -> Vec<RecordBatch> {
    let bytes = text.len() as u64;
    let formats = Formats::from_config(&json!("json")).unwrap();
    let format = formats.get("json").unwrap();
    let owned: Arc<[u8]> = text.into();
    let input = || SegmentInput::Bytes(Box::new(std::io::Cursor::new(Arc::clone(&owned))));
    let (infer, _) = least(3, || format.infer(vec![input()]).unwrap());
    println!("  {:<28} {:>8.1} ms     from a sample of 10,000 records", "infer", infer.as_secs_f64() * 1e3);
    let (floor, _) = least(3, || {
        let reader =
            arrow_json::ReaderBuilder::new(schema()).with_batch_size(8192).build(std::io::Cursor::new(text)).unwrap();
        reader.map(|batch| batch.unwrap().num_rows()).sum::<usize>()
    });
    let (took, batches) = least(3, || {
        let mut decoder = format.open(input(), &schema()).unwrap();
        let mut batches = Vec::new();
        while let Some(decoded) = decoder.next_batch().unwrap() {
            batches.push(decoded.batch);
        }
        batches
    });
    line("decode, arrow-json (floor)", bytes, floor, "no rescue, no rejects, no raw text");
    line("decode", bytes, took, &ratio(took, floor));
    batches
}

fn encode(runtime: &tokio::runtime::Runtime, batches: &[RecordBatch], bytes: u64, work: &Path) {
    let fields: Vec<_> = schema().fields().iter().cloned().collect();
    let plain = Arc::new(Schema::new(fields.clone()));
    let (floor, _) = least(3, || {
        let properties = parquet::file::properties::WriterProperties::builder()
            .set_compression(parquet::basic::Compression::ZSTD(parquet::basic::ZstdLevel::try_new(1).unwrap()))
            .build();
        let mut writer =
            parquet::arrow::ArrowWriter::try_new(Vec::new(), Arc::clone(&plain), Some(properties)).unwrap();
        batches.iter().for_each(|batch| writer.write(batch).unwrap());
        writer.into_inner().unwrap().len()
    });
    line("encode, ArrowWriter (floor)", bytes, floor, "zstd 1, in memory");
    let own: Vec<_> = fields.into_iter().chain(column::own_fields()).collect();
    let own = Arc::new(Schema::new(own));
    let rows: Vec<_> = batches
        .iter()
        .map(|batch| {
            let mut columns = batch.columns().to_vec();
            columns.extend(
                column::own_fields()
                    .iter()
                    .map(|field| arrow_array::new_null_array(field.data_type(), batch.num_rows())),
            );
            RecordBatch::try_new(Arc::clone(&own), columns).unwrap()
        })
        .collect();
    let warehouse = DeltaWarehouse::open(work.join("lake"), DeltaOptions::new(Arc::new(Real), Arc::new(Real))).unwrap();
    let stage = |number: u64| -> Vec<StagedFile> {
        let request = StagingRequest {
            table: "bench".into(),
            segment: SegmentId::from_text(format!("payments/{number}")),
            schema: Arc::clone(&own),
            partition_by: vec![],
        };
        let mut writer = warehouse.stage(request).unwrap();
        rows.iter().for_each(|batch| writer.write(batch).unwrap());
        writer.finish().unwrap()
    };
    let mut number = 0;
    let (took, _) = least(3, || {
        number += 1;
        stage(number)
    });
    line("encode", bytes, took, &format!("{}, synced, with statistics", ratio(took, floor)));
    let load = |number: u64| Load {
        ledger: uuid::Uuid::from_u128(7),
        pipeline: forebay_model::PipelineName::new("bench").unwrap(),
        number,
        id: uuid::Uuid::from_u128(u128::from(number)),
        table: "lake.bench".parse().unwrap(),
        revision: forebay_model::Digest::of(b""),
        schema_version: 1,
        begun_at: Timestamp::EPOCH,
        schema: Arc::clone(&own),
        partition_by: vec![],
        files: stage(100 + number),
        removes: vec![],
        chosen: false,
    };
    let loads: Vec<_> = (1..=5).map(load).collect();
    let mut next = 0;
    let (commit, _) = least(5, || {
        next += 1;
        runtime.block_on(warehouse.commit(&loads[next - 1])).unwrap()
    });
    println!("  {:<28} {:>8.1} ms     one load, synced", "commit", commit.as_secs_f64() * 1e3);
}
