//! A segment refined once more, to see what a revision makes of it: nothing is staged, no table is looked at.

use std::time::Instant;

use forebay_model::ports::LandingZone;
use forebay_model::{LandedSegment, Result, TransformedBatch};

use super::apply::Chain;
use super::bind::BoundPipeline;
use super::segment::context_of;
use crate::decoding::{Decoding, open_segment};

/// How much of a segment is refined: whole batches, until one of these is reached.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    /// So many records.
    pub records: u64,
    /// This moment, where there is one: what was not reached by then is left out.
    pub until: Option<Instant>,
    /// Whether the rows are wanted: of a whole segment they may be many.
    pub keep: bool,
}

/// What all steps made of a segment's first records.
#[derive(Debug, Default)]
pub struct Rehearsed {
    /// Rows and rejects, where they are wanted.
    pub batches: Vec<TransformedBatch>,
    /// How many records were refined.
    pub records: u64,
    /// Records on which the rule failed, and did not refuse them.
    pub failed: Failed,
}

/// Records on which calls failed alone: a trap, a limit, an answer that is none.
#[derive(Debug, Default)]
pub struct Failed {
    /// How many.
    pub records: u64,
    /// The first of them.
    pub first: Vec<FailedRecord>,
}

/// A record on which a call failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedRecord {
    /// Its number in its segment.
    pub record: u64,
    /// The step.
    pub step: String,
    /// What the sandbox said.
    pub message: String,
}

impl Failed {
    /// Failures that are kept; the rest is counted.
    const KEPT: usize = 1_000;

    pub(super) fn note(&mut self, record: u64, step: &str, message: &str) {
        self.records += 1;
        if self.first.len() < Self::KEPT {
            self.first.push(FailedRecord { record, step: step.to_owned(), message: message.to_owned() });
        }
    }
}

/// What all steps make of a segment's first records. Blocking.
///
/// # Errors
/// Where the segment cannot be decoded, or what fails a segment: a rule that traps too often, or runs out of its time.
pub fn rehearse(
    zone: &dyn LandingZone,
    decoding: &dyn Decoding,
    bound: &BoundPipeline,
    segment: &LandedSegment,
    extent: Extent,
) -> Result<Rehearsed> {
    let mut batches = Vec::new();
    let (records, failed) = walk(zone, decoding, bound, segment, extent, |made| {
        if extent.keep {
            batches.push(made);
        }
        Ok(())
    })?;
    Ok(Rehearsed { batches, records, failed })
}

/// Hands over what all steps make of each of a segment's batches, so that no more than one is held. Blocking.
///
/// # Errors
/// As for [`rehearse`], and those of `each`.
pub fn rehearse_each(
    zone: &dyn LandingZone,
    decoding: &dyn Decoding,
    bound: &BoundPipeline,
    segment: &LandedSegment,
    each: impl FnMut(TransformedBatch) -> Result<()>,
) -> Result<()> {
    let whole = Extent { records: u64::MAX, until: None, keep: false };
    walk(zone, decoding, bound, segment, whole, each).map(drop)
}

/// How many records were refined, and those on which the rules failed.
fn walk(
    zone: &dyn LandingZone,
    decoding: &dyn Decoding,
    bound: &BoundPipeline,
    segment: &LandedSegment,
    extent: Extent,
    mut each: impl FnMut(TransformedBatch) -> Result<()>,
) -> Result<(u64, Failed)> {
    let Extent { records: most, until, keep: _ } = extent;
    let input = open_segment(zone, decoding, segment)?;
    let mut decoder = decoding.format(&segment.format)?.open(input, &bound.schema.schema)?;
    let context = context_of(segment);
    let mut chain = Chain::new(bound, &context, segment.object_key());
    let mut records = 0;
    while records < most
        && until.is_none_or(|until| Instant::now() < until)
        && let Some(decoded) = decoder.next_batch()?
    {
        records += u64::from(decoded.records);
        each(chain.apply(decoded)?)?;
    }
    Ok((records, chain.failed()))
}
