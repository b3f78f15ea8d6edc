//! The formats of a stream, as a pipeline needs them.

use std::io::Read;
use std::sync::Arc;

use forebay_model::ports::{Format, LandingZone, SegmentInput, SplitRule};
use forebay_model::segment::SegmentContent;
use forebay_model::{Compression, LandedSegment, Result};

/// A stream's formats: which one an object has is told when it lands, and never again.
pub trait Decoding: Send + Sync + std::fmt::Debug {
    /// The format of an object, by its key and first bytes (decompressed). What neither tells lands all the same, under a name
    /// that [`Decoding::format`] refuses until the config says what it is.
    fn detect(&self, key: &str, head: &[u8]) -> String;
    /// How an object of this key may be cut, as far as can be told before its bytes are seen.
    fn split_rule(&self, key: &str) -> SplitRule;
    /// A format by its name.
    fn format(&self, name: &str) -> Result<Arc<dyn Format>>;
    /// Reads through a compression.
    fn decompress(&self, reader: Box<dyn Read + Send>, compression: Compression) -> Result<Box<dyn Read + Send>>;
    /// The settings, for the revision.
    fn settings(&self) -> serde_json::Value;
}

/// A segment's input, read from the landing zone. Blocking.
///
/// # Errors
/// Those of the zone and of the first bytes of a compression.
pub fn open_segment(zone: &dyn LandingZone, decoding: &dyn Decoding, segment: &LandedSegment) -> Result<SegmentInput> {
    match &segment.content {
        SegmentContent::Envelope { rows } => {
            Ok(SegmentInput::Records(zone.open_records(&segment.object, rows.clone(), segment.digest)?))
        }
        SegmentContent::Bytes { range, compression, preamble } => {
            let body = zone.open(&segment.object, range.clone(), Some(segment.digest))?;
            let body = match preamble {
                // It may lie in another object, and is never all of one.
                Some(preamble) => Box::new(zone.open(&preamble.object, preamble.range.clone(), None)?.chain(body)),
                None => body,
            };
            Ok(SegmentInput::Bytes(decoding.decompress(body, *compression)?))
        }
    }
}
