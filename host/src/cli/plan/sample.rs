//! A schema before the first run: inferred from the first segments that landed, or else from the source's first objects,
//! which are read without being landed or acknowledged.

use std::io::Read as _;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use forebay_model::flow::RawBatch;
use forebay_model::ports::{LandingZone, Ledger, ObjectState, Polled, Progress, SegmentInput};
use forebay_model::{OrderedPosition, Partition, PipelineName, RawObject, Result};
use forebay_pipeline::decoding::{Decoding, open_segment};
use futures::StreamExt as _;

use super::modules::blocking;
use crate::assemble;
use crate::cli::listing::now;
use crate::config::{Config, PipelineConfig, StreamConfig};

/// Segments or objects that are looked at.
const OBJECTS: u32 = 4;
/// Bytes of each object of a source that are looked at, as it is stored.
const BYTES: usize = 1 << 20;

/// From what has landed for the pipeline.
pub(super) async fn from_segments(
    ledger: &dyn Ledger,
    zone: &Arc<dyn LandingZone>,
    decoding: &Arc<dyn Decoding>,
    name: &PipelineName,
    pipeline: &PipelineConfig,
) -> Result<Option<SchemaRef>> {
    let items = ledger.work(name, &pipeline.from, now(), &[], OBJECTS).await?;
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
    let mut source = assemble::build_source(config, stream, Arc::new(Nothing), true)?;
    let objects = match source.poll().await? {
        Polled::Batch(RawBatch::Objects(objects)) => objects,
        Polled::Batch(RawBatch::Records(_)) | Polled::Idle => return Ok(None),
    };
    let mut samples = Vec::new();
    for object in objects.into_iter().take(OBJECTS as usize) {
        samples.push(sample(decoding, object).await?);
    }
    let decoding = Arc::clone(decoding);
    blocking(move || {
        let Some(first) = samples.first().map(|sample| sample.format.clone()) else { return Ok(None) };
        let same = samples.into_iter().filter(|sample| sample.format == first);
        let inputs = same.map(|sample| SegmentInput::Bytes(Box::new(std::io::Cursor::new(sample.text))));
        decoding.format(&first)?.infer(inputs.collect())
    })
    .await
}

/// The beginning of an object, as text of its format.
struct Sample {
    format: String,
    text: Vec<u8>,
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
