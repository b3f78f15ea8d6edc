//! Rejects: records that decoding or a rule refused. They are rows of the pipeline's rejects table, with their raw text;
//! the ledger holds only counts.

use std::fmt;

use bytes::Bytes;

/// What refused a record.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RejectStage {
    /// The decoder.
    Decode,
    /// A step of the pipeline, by its name.
    Step(String),
}

impl fmt::Display for RejectStage {
    /// `decode`, or `step:fraud`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decode => f.write_str("decode"),
            Self::Step(name) => write!(f, "step:{name}"),
        }
    }
}

/// Codes that forebay itself gives. Rules give codes of their own.
pub mod code {
    /// The text is not of the format: not JSON, a CSV row with too many fields.
    pub const MALFORMED: &str = "malformed";
    /// The bytes are not UTF-8.
    pub const INVALID_UTF8: &str = "invalid_utf8";
    /// The record is larger than the decoder's limit.
    pub const TOO_LARGE: &str = "record_too_large";
    /// The record nests deeper than the decoder's limit.
    pub const TOO_DEEP: &str = "record_too_deep";
    /// JSON that is not an object.
    pub const NOT_AN_OBJECT: &str = "not_an_object";
    /// A column that a rule requires is missing or null in this record, or the schema has no such column.
    pub const REQUIRED_MISSING: &str = "required_missing";
    /// A column that a rule requires did not fit its type and was rescued.
    pub const REQUIRED_RESCUED: &str = "required_rescued";
    /// The rule trapped on this record, alone.
    pub const TRAP: &str = "trap";
    /// The rule exceeded its time on this record, alone.
    pub const TIMEOUT: &str = "timeout";
    /// What the rule emitted for this record alone was not valid.
    pub const INVALID_OUTPUT: &str = "invalid_output";
    /// The rule returned an error for this record, alone.
    pub const RULE_ERROR: &str = "rule_error";
}

/// One record that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// The record's number in its segment.
    pub record: u64,
    /// What refused it.
    pub stage: RejectStage,
    /// Short and stable, for counting: see [`code`].
    pub code: String,
    /// For people; may quote the record, so it goes to the rejects table and never to a log.
    pub message: String,
    /// Whether a later revision or schema may accept it.
    pub retryable: bool,
    /// The record as it came; cut off at the decoder's limit where the record is larger.
    pub raw: Bytes,
}
