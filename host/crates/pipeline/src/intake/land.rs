//! Making a batch durable: objects byte for byte, records as an envelope; and what the ledger is to list of it.

use forebay_model::flow::OnChange;
use forebay_model::ports::{
    Advance, Clock, LandedObject, Landing, LandingZone, Ledger, NewObject, NewSegment, ObjectState, Random, SplitRule,
};
use forebay_model::segment::SegmentContent;
use forebay_model::{Error, Position, Preamble, RawBatch, RawObject, RawRecords, Result, StreamName, Timestamp};
use futures::stream::{self, StreamExt as _};
use uuid::Uuid;

use super::state::LandedBatch;
use crate::decoding::Decoding;

/// Names an object of the zone: stream, time, attempt, ordinal within the attempt, the source's key.
pub type ObjectNaming = fn(&StreamName, Timestamp, Uuid, u32, &str) -> String;

/// What landing needs.
#[derive(Debug)]
pub struct Lander<'a> {
    /// The stream.
    pub stream: &'a StreamName,
    /// Where to.
    pub zone: &'a dyn LandingZone,
    /// For where partitions stand.
    pub ledger: &'a dyn Ledger,
    /// For the format of what lands, and how it may be cut.
    pub decoding: &'a dyn Decoding,
    /// Names of objects.
    pub naming: ObjectNaming,
    /// Now.
    pub clock: &'a dyn Clock,
    /// The attempt's id.
    pub random: &'a dyn Random,
}

/// Objects up to this size land side by side, so many of them: a store far away takes as long for each as for all. Together they hold
/// less than what one large object does.
const SMALL: u64 = 128 << 10;
const AT_ONCE: usize = 32;

fn is_small(object: &RawObject) -> bool {
    object.range.end.saturating_sub(object.range.start) <= SMALL
}

impl Lander<'_> {
    /// Lands a batch. An object that fails does not keep the others back.
    pub async fn land(&self, batch: RawBatch) -> LandedBatch {
        let attempt = self.random.uuid();
        let mut objects = Vec::new();
        let mut advances = Vec::new();
        let mut failures = Vec::new();
        match batch {
            RawBatch::Objects(raw) => {
                let mut raw = (0_u32..).zip(raw).peekable();
                while let Some(first) = raw.next() {
                    let small = is_small(&first.1);
                    let mut run = vec![first];
                    while let Some(next) = raw.next_if(|(_, next)| small && is_small(next)) {
                        run.push(next);
                    }
                    let landings = run.into_iter().map(|(ordinal, object)| self.object(attempt, ordinal, object));
                    let mut landings = stream::iter(landings).buffered(AT_ONCE);
                    while let Some(landed) = landings.next().await {
                        match landed {
                            Ok(landed) => objects.push(landed),
                            Err(error) => failures.push(error),
                        }
                    }
                }
            }
            RawBatch::Records(records) => match self.records(attempt, &records).await {
                Ok((landed, moves)) => {
                    advances = moves;
                    objects.push(landed);
                }
                Err(error) => failures.push(error),
            },
        }
        let landing = (!objects.is_empty()).then(|| Landing {
            stream: self.stream.clone(),
            attempt,
            landed_at: self.clock.now(),
            objects,
            advances,
        });
        LandedBatch { landing, failures }
    }

    async fn object(&self, attempt: Uuid, ordinal: u32, object: RawObject) -> Result<NewObject> {
        let RawObject { partition, key, version, range, modified_at: _, compression, on_change, identity, body } =
            object;
        let name = (self.naming)(self.stream, self.clock.now(), attempt, ordinal, &key);
        let split = self.decoding.split_rule(&key);
        if range.start > 0 && matches!(split, SplitRule::Csv { header: true, .. }) {
            return Err(Error::operator(format!(
                "{key} is tailed, but what is added to a CSV file has no header line"
            ))
            .with_hint("give the format its columns: format = { type = \"csv\", header = false, columns = [...] }"));
        }
        let landed = self.zone.put(&name, body, compression, split).await?;
        if landed.bytes != range.end - range.start {
            return Err(Error::retry(format!(
                "{key} gave {} bytes where {} were expected: it changed while it was read",
                landed.bytes,
                range.end - range.start
            )));
        }
        let format = self.decoding.detect(&key, &landed.head);
        let LandedObject { name, bytes, digest, mut cuts, preamble, head: _ } = landed;
        // Where it may be cut was guessed by the key; the bytes have the last word.
        let rule = self.decoding.format(&format).map_or(SplitRule::Whole, |format| format.split_rule());
        if std::mem::discriminant(&rule) != std::mem::discriminant(&split) {
            cuts.clear();
        }
        let mut starts = vec![0];
        starts.extend(&cuts);
        let ends = cuts.iter().copied().chain([bytes]);
        let segments = starts
            .into_iter()
            .zip(ends)
            .map(|(start, end)| NewSegment {
                partition: partition.clone(),
                first: Position::object(&key, &version, range.start + start..range.start + end),
                next: None,
                content: SegmentContent::Bytes {
                    range: start..end,
                    compression,
                    preamble: match &preamble {
                        Some(preamble) if start > 0 => Some(Preamble { object: name.clone(), range: preamble.clone() }),
                        Some(_) | None => None,
                    },
                },
                bytes: end - start,
                records: None,
                format: format.clone(),
            })
            .collect();
        let source = Some(ObjectState { partition, key, version, range, identity });
        Ok(NewObject { name, bytes, digest, source, on_change, segments })
    }

    async fn records(&self, attempt: Uuid, records: &RawRecords) -> Result<(NewObject, Vec<Advance>)> {
        let mut advances = Vec::with_capacity(records.spans.len());
        for span in &records.spans {
            let known = self.ledger.next_position(self.stream, &span.partition).await?;
            // Where the ledger stands elsewhere, its compare-and-swap refuses the landing: another process was faster.
            let from = known.map(|_| span.first);
            advances.push(Advance { partition: span.partition.clone(), from, to: span.next });
        }
        let name = (self.naming)(self.stream, self.clock.now(), attempt, 0, "records.parquet");
        let landed = self.zone.put_records(&name, self.stream, records).await?;
        let LandedObject { name, bytes, digest, cuts: _, preamble: _, head: _ } = landed;
        let sample = records.spans.iter().flat_map(|span| &span.records).find_map(|record| record.value.as_deref());
        let format = self.decoding.detect("", sample.unwrap_or_default());
        let total: u64 = records.spans.iter().map(|span| span.records.len() as u64).sum();
        let mut row = 0;
        let segments = records
            .spans
            .iter()
            .map(|span| {
                let count = span.records.len() as u64;
                let rows = row..row + count;
                row += count;
                NewSegment {
                    partition: span.partition.clone(),
                    first: Position::Ordered(span.first),
                    next: Some(Position::Ordered(span.next)),
                    content: SegmentContent::Envelope { rows },
                    // Its share of the object: spans are not stored apart.
                    bytes: bytes.saturating_mul(count).checked_div(total).unwrap_or(0),
                    records: Some(count),
                    format: format.clone(),
                }
            })
            .collect();
        Ok((NewObject { name, bytes, digest, source: None, on_change: OnChange::Append, segments }, advances))
    }
}
