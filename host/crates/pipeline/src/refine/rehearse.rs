//! A segment refined once more, to see what a revision makes of it: nothing is staged, no table is looked at.

use forebay_model::ports::LandingZone;
use forebay_model::{LandedSegment, Result, TransformedBatch};

use super::apply::Chain;
use super::bind::BoundPipeline;
use super::segment::context_of;
use crate::decoding::{Decoding, open_segment};

/// What all steps make of a segment's first records: whole batches, until there are so many records. Blocking.
///
/// # Errors
/// Where the segment cannot be decoded, or what fails a segment: a rule that traps too often, or runs out of its time.
pub fn rehearse(
    zone: &dyn LandingZone,
    decoding: &dyn Decoding,
    bound: &BoundPipeline,
    segment: &LandedSegment,
    records: u64,
) -> Result<Vec<TransformedBatch>> {
    let input = open_segment(zone, decoding, segment)?;
    let mut decoder = decoding.format(&segment.format)?.open(input, &bound.schema.schema)?;
    let context = context_of(segment);
    let mut chain = Chain::new(bound, &context, segment.object_key());
    let (mut batches, mut seen) = (Vec::new(), 0);
    while seen < records
        && let Some(decoded) = decoder.next_batch()?
    {
        seen += u64::from(decoded.records);
        batches.push(chain.apply(decoded)?);
    }
    Ok(batches)
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
    mut each: impl FnMut(TransformedBatch) -> Result<()>,
) -> Result<()> {
    let input = open_segment(zone, decoding, segment)?;
    let mut decoder = decoding.format(&segment.format)?.open(input, &bound.schema.schema)?;
    let context = context_of(segment);
    let mut chain = Chain::new(bound, &context, segment.object_key());
    while let Some(decoded) = decoder.next_batch()? {
        each(chain.apply(decoded)?)?;
    }
    Ok(())
}
