//! Types from a sample: the first records of each input, together as many as the settings say.

use std::collections::HashSet;
use std::sync::Arc;

use arrow_schema::{Field, FieldRef, Schema, SchemaRef};
use forebay_model::ports::SegmentInput;

use crate::error::FormatError;
use crate::frame::{Framer, Span};
use crate::names;
use crate::segment::RECORDS;
use crate::settings::Common;
use crate::shape::{Shape, leaves};

/// What a format does to a sample.
pub(crate) trait Sample {
    /// Begins an input; a header is taken.
    fn framer(&mut self, input: SegmentInput) -> Result<Box<dyn Framer>, FormatError>;
    /// Counts a record, where it is well-formed.
    fn observe(&mut self, text: &[u8], span: &Span);
    fn shape(&self) -> &Shape;
    fn is_csv(&self) -> bool;
}

/// The schema: declared columns with their types, the others with those that the sample has; in the order of the
/// input, and what is only declared at the end. `None` where there is no column.
pub(crate) fn infer(
    sample: &mut dyn Sample,
    inputs: Vec<SegmentInput>,
    common: &Common,
) -> Result<Option<SchemaRef>, FormatError> {
    let mut left = common.sample_records;
    let mut inputs_left = inputs.len();
    let mut observed = 0_usize;
    let mut failure = None;
    for input in inputs {
        // What one input has too few of, those after it may have more of.
        let mut quota = left.div_ceil(inputs_left.max(1));
        inputs_left -= 1;
        let mut framer = match sample.framer(input) {
            Ok(framer) => framer,
            Err(error) => {
                failure = Some(error);
                continue;
            }
        };
        while quota > 0 {
            match framer.next(quota.min(RECORDS)) {
                Ok(None) => break,
                Ok(Some(frame)) => {
                    for span in frame.spans.iter().filter(|span| span.refusal.is_none()) {
                        sample.observe(&frame.text, span);
                    }
                    observed += frame.spans.len();
                    quota = quota.saturating_sub(frame.spans.len());
                    left = left.saturating_sub(frame.spans.len());
                }
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
    }
    match failure {
        // An input that cannot be read, or not to its end, has said what it can; decoding will report it.
        Some(error) if observed == 0 => return Err(error),
        Some(error) => tracing::warn!(error = %error, "a sample could not be read to its end"),
        None => {}
    }
    Ok(schema(sample, common))
}

fn schema(sample: &dyn Sample, common: &Common) -> Option<SchemaRef> {
    let declared_leaves: usize = common.declared.iter().map(|(_, data_type)| leaves(data_type)).sum();
    let mut room = common.max_columns.saturating_sub(declared_leaves);
    let reserved: HashSet<String> = common.declared.iter().map(|(name, _)| names::fold(name)).collect();
    let mut declared = common.declared.clone();
    let mut fields: Vec<FieldRef> = Vec::new();
    let kept: HashSet<&str> = sample.shape().kept(true).into_iter().map(|(name, _)| name).collect();
    for (name, shape) in sample.shape().met() {
        if let Some(at) = declared.iter().position(|(declared, _)| declared == name) {
            let (name, data_type) = declared.remove(at);
            fields.push(Arc::new(Field::new(name, data_type, true)));
        } else if !reserved.contains(&names::fold(name))
            && kept.contains(name)
            && let Some(data_type) = shape.data_type(sample.is_csv(), &mut room)
        {
            fields.push(Arc::new(Field::new(name, data_type, true)));
        }
    }
    fields.extend(declared.into_iter().map(|(name, data_type)| Arc::new(Field::new(name, data_type, true))));
    (!fields.is_empty()).then(|| Arc::new(Schema::new(fields)))
}
