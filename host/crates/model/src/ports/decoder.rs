use std::io::Read;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::flow::DecodedBatch;
use crate::schema::Evolution;

/// Where an object of a format may be cut into segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SplitRule {
    /// Nowhere.
    Whole,
    /// After a line feed, at the first one past each multiple of the target.
    Lines {
        /// Bytes a part.
        target: u64,
    },
    /// After a line feed that is outside quotes; the first record is the preamble of all parts where it is a header.
    Csv {
        /// Bytes a part.
        target: u64,
        /// The quote character.
        quote: u8,
        /// Whether the first record is a header.
        header: bool,
    },
}

/// A segment's bytes, decompressed and with its preamble in front, or its records.
pub enum SegmentInput {
    /// Text of the format.
    Bytes(Box<dyn Read + Send>),
    /// Batches of an envelope, each row's value being text of the format.
    Records(Box<dyn Iterator<Item = Result<RecordBatch>> + Send>),
}

impl std::fmt::Debug for SegmentInput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Bytes(_) => "SegmentInput::Bytes",
            Self::Records(_) => "SegmentInput::Records",
        })
    }
}

/// A format with its settings: bytes ▶ Arrow.
///
/// Contract, for every input whatever:
/// - a record that is malformed is a reject with its raw text, and the next record is decoded;
/// - nothing is coerced in silence: a value that does not fit its column, and a field that has none, is in `rescued`, whole;
/// - the same bytes under the same schema give the same batches;
/// - memory is bounded by the batch, the largest record and stated limits, not by the input;
/// - an error is of the input as a whole (truncated compression, say): rows before it were delivered.
pub trait Format: Send + Sync + std::fmt::Debug {
    /// The name, as in the config: `json`, `csv`.
    fn name(&self) -> &'static str;
    /// How its objects may be cut.
    fn split_rule(&self) -> SplitRule;
    /// Types from a sample: the first records of some segments, as many as the settings say. `None` where they hold no field.
    fn infer(&self, samples: Vec<SegmentInput>) -> Result<Option<SchemaRef>>;
    /// Starts on a segment.
    fn open(&self, input: SegmentInput, schema: &SchemaRef) -> Result<Box<dyn Decoder>>;
}

/// Decoding one segment.
pub trait Decoder: Send {
    /// The next batch; `None` at the end.
    fn next_batch(&mut self) -> Result<Option<DecodedBatch>>;
    /// After the end: the schema that would have fitted better, where fields were new or `Int64` met `Float64`.
    fn evolution(&self) -> Option<Evolution>;
}
