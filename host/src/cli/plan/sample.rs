//! What data says of the schema. Before the first run, the schema is inferred from the first segments that landed, or else from the
//! source's first objects, which are read without being landed or acknowledged. Afterwards, the beginnings of what comes next
//! are decoded beside the schema, to see how it would grow.

use std::io::Read as _;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use forebay_model::flow::RawBatch;
use forebay_model::ports::{LandingZone, Ledger, ObjectState, Polled, Progress, SegmentInput, WorkItem};
use forebay_model::schema::Evolution;
use forebay_model::{OrderedPosition, Partition, PipelineName, RawObject, Result};
use forebay_pipeline::decoding::{Decoding, open_segment};
use forebay_pipeline::intake::driver::StreamProgress;
use futures::StreamExt as _;

use crate::assemble;
use crate::cli::kept::blocking;
use crate::cli::listing::now;
use crate::config::{Config, PipelineConfig, StreamConfig};

/// Segments or objects that are looked at.
const OBJECTS: u32 = 4;
/// Batches of each that are decoded beside a schema.
const BATCHES: usize = 8;
/// Bytes of each object of a source that are looked at, as it is stored.
const BYTES: usize = 1 << 20;

/// The segments that the pipeline takes next, those of its history first and those that failed last: from them it infers.
async fn next(ledger: &dyn Ledger, name: &PipelineName, pipeline: &PipelineConfig) -> Result<Vec<WorkItem>> {
    let mut items = ledger.history(name, &pipeline.from, now(), &[], OBJECTS).await?;
    items.extend(ledger.work(name, &pipeline.from, now(), &[], OBJECTS).await?);
    items.extend(ledger.failed(name, &pipeline.from, now(), &[], OBJECTS).await?);
    items.truncate(OBJECTS as usize);
    Ok(items)
}

/// From what has landed for the pipeline.
pub(super) async fn from_segments(
    ledger: &dyn Ledger,
    zone: &Arc<dyn LandingZone>,
    decoding: &Arc<dyn Decoding>,
    name: &PipelineName,
    pipeline: &PipelineConfig,
) -> Result<Option<SchemaRef>> {
    let items = next(ledger, name, pipeline).await?;
    let (zone, decoding) = (Arc::clone(zone), Arc::clone(decoding));
    blocking(move || {
        let Some(first) = items.first() else { return Ok(None) };
        let format = decoding.format(&first.segment.format)?;
        let same = items.iter().filter(|item| item.segment.format == first.segment.format);
        let samples = same.map(|item| open_segment(&*zone, &*decoding, &item.segment));
        format.infer(samples.collect::<Result<_>>()?)
    })
    .await
}

/// Nothing has landed: the source shows all it has.
#[derive(Debug)]
struct Nothing;

#[async_trait]
impl Progress for Nothing {
    async fn next_position(&self, _: &Partition) -> Result<Option<OrderedPosition>> {
        Ok(None)
    }

    async fn latest_objects(&self, _: &Partition, keys: &[String]) -> Result<Vec<Option<ObjectState>>> {
        Ok(vec![None; keys.len()])
    }
}

/// From the first objects of the source. `None` where it has none, or only records.
pub(super) async fn from_source(
    config: &Config,
    stream: &StreamConfig,
    decoding: &Arc<dyn Decoding>,
) -> Result<Option<SchemaRef>> {
    let samples = samples(config, stream, decoding, Arc::new(Nothing)).await?;
    let decoding = Arc::clone(decoding);
    blocking(move || {
        let Some(first) = samples.first().map(|sample| sample.format.clone()) else { return Ok(None) };
        let same = samples.into_iter().filter(|sample| sample.format == first);
        decoding.format(&first)?.infer(same.map(Sample::input).collect())
    })
    .await
}

/// How a schema would grow.
pub(super) struct Growth {
    pub(super) schema: SchemaRef,
    pub(super) added: Vec<String>,
    pub(super) widened: Vec<String>,
    /// What was looked at.
    pub(super) seen: String,
}

/// How the schema would grow by what comes next: the segments that wait, or where none does, the source's objects that have not
/// landed. `None` where it would not.
pub(super) async fn growth(
    planned: (&Config, &PipelineName, &PipelineConfig),
    (ledger, zone): (&Arc<dyn Ledger>, &Arc<dyn LandingZone>),
    decoding: &Arc<dyn Decoding>,
    schema: &SchemaRef,
) -> Result<Option<Growth>> {
    let (config, name, pipeline) = planned;
    let items = next(&**ledger, name, pipeline).await?;
    let (zone, decoding, schema) = (Arc::clone(zone), Arc::clone(decoding), Arc::clone(schema));
    if !items.is_empty() {
        return blocking(move || {
            let seen = counted(items.len(), "segment that waits", "segments that wait");
            let inputs = items.iter().filter_map(|item| {
                // One that cannot be opened fails visibly when it is refined.
                let input = open_segment(&*zone, &*decoding, &item.segment).ok()?;
                Some((item.segment.format.clone(), input))
            });
            Ok(grow(&*decoding, inputs, schema, seen))
        })
        .await;
    }
    let Some(stream) = config.streams.get(&pipeline.from) else { return Ok(None) };
    let progress = Arc::new(StreamProgress::new(Arc::clone(ledger), pipeline.from.clone()));
    let samples = match samples(config, stream, &decoding, progress).await {
        Ok(samples) => samples,
        Err(error) => {
            // A plan of what is known holds without it.
            tracing::warn!(stream = %pipeline.from, error = error.chain(), hint = error.hint(), "source not looked at");
            return Ok(None);
        }
    };
    blocking(move || {
        let seen = counted(samples.len(), "object that has not landed", "objects that have not landed");
        let inputs = samples.into_iter().map(|sample| (sample.format.clone(), sample.input()));
        Ok(grow(&*decoding, inputs, schema, seen))
    })
    .await
}

fn counted(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

fn grow(
    decoding: &dyn Decoding,
    inputs: impl Iterator<Item = (String, SegmentInput)>,
    schema: SchemaRef,
    seen: String,
) -> Option<Growth> {
    let mut growth = Growth { schema, added: Vec::new(), widened: Vec::new(), seen };
    for (format, input) in inputs {
        let opened = decoding.format(&format).and_then(|format| format.open(input, &growth.schema));
        let Ok(mut decoder) = opened else { continue };
        let mut batches = 0;
        while batches < BATCHES && matches!(decoder.next_batch(), Ok(Some(_))) {
            batches += 1;
        }
        if let Some(Evolution { schema, added, widened }) = decoder.evolution() {
            growth.schema = schema;
            growth.added.extend(added);
            growth.widened.extend(widened);
        }
    }
    let grows = !growth.added.is_empty() || !growth.widened.is_empty();
    grows.then_some(growth)
}

/// The beginnings of the source's first objects, of those that `known` does not know.
async fn samples(
    config: &Config,
    stream: &StreamConfig,
    decoding: &Arc<dyn Decoding>,
    known: Arc<dyn Progress>,
) -> Result<Vec<Sample>> {
    let mut source = assemble::build_source(config, stream, known, true)?;
    let objects = match source.poll().await? {
        Polled::Batch(RawBatch::Objects(objects)) => objects,
        Polled::Batch(RawBatch::Records(_)) | Polled::Idle => return Ok(Vec::new()),
    };
    let mut samples = Vec::new();
    for object in objects.into_iter().take(OBJECTS as usize) {
        samples.push(sample(decoding, object).await?);
    }
    Ok(samples)
}

/// The beginning of an object, as text of its format.
struct Sample {
    format: String,
    text: Vec<u8>,
}

impl Sample {
    fn input(self) -> SegmentInput {
        SegmentInput::Bytes(Box::new(std::io::Cursor::new(self.text)))
    }
}

async fn sample(decoding: &Arc<dyn Decoding>, object: RawObject) -> Result<Sample> {
    let RawObject { key, compression, mut body, .. } = object;
    let mut stored = Vec::new();
    let mut whole = true;
    while let Some(chunk) = body.next().await {
        stored.extend_from_slice(&chunk?);
        if stored.len() >= BYTES {
            whole = false;
            break;
        }
    }
    let decoding = Arc::clone(decoding);
    blocking(move || {
        let mut text = Vec::new();
        let mut reader = decoding.decompress(Box::new(std::io::Cursor::new(stored)), compression)?;
        let mut chunk = vec![0; 64 << 10];
        // What was cut off ends in an error after everything before it: that is the sample.
        while let Ok(read) = reader.read(&mut chunk) {
            match chunk.get(..read) {
                Some([]) | None => break,
                Some(bytes) => text.extend_from_slice(bytes),
            }
            if text.len() >= 4 * BYTES {
                whole = false;
                break;
            }
        }
        if !whole {
            let end = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
            text.truncate(end);
        }
        let head = text.get(..text.len().min(64 << 10)).unwrap_or_default();
        Ok(Sample { format: decoding.detect(&key, head), text })
    })
    .await
}
