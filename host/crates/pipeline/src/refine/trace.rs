//! One record's way through the steps, once more: which step let it go, refused it, or sent it on.
//!
//! Nothing is staged and nothing is written. A rule's answer depends on the row, its config and its assets alone, so a record
//! meets the answer that it met when its segment was refined, as long as revision and schema are the same.

use forebay_model::ports::{LandingZone, SegmentContext};
use forebay_model::{LandedSegment, Result};

use super::apply::{Stepped, apply_step};
use super::bind::{BoundPipeline, BoundStep, Leads, OUT};
use super::bisect::Seat;
use super::rows::Rows;
use super::segment::context_of;
use crate::decoding::{Decoding, open_segment};

/// What a step did with a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepTrace {
    /// The step's name.
    pub step: String,
    /// The routes that it selected the record for. None of them: the step filtered it.
    pub selected: Vec<String>,
    /// The code and the message of its refusal, where it refused the record.
    pub refused: Option<(String, String)>,
}

/// The steps that a record met, in their order, up to the one that it did not pass. `None` where the segment has no such
/// record, or none that decodes. Blocking.
///
/// # Errors
/// Where the segment cannot be decoded, or a step fails otherwise than by refusing the record.
pub fn trace(
    zone: &dyn LandingZone,
    decoding: &dyn Decoding,
    bound: &BoundPipeline,
    segment: &LandedSegment,
    record: u64,
) -> Result<Option<Vec<StepTrace>>> {
    let input = open_segment(zone, decoding, segment)?;
    let mut decoder = decoding.format(&segment.format)?.open(input, &bound.schema.schema)?;
    while let Some(decoded) = decoder.next_batch()? {
        if decoded.first_record + u64::from(decoded.records) <= record {
            continue;
        }
        let Ok(row) = decoded.numbers.binary_search(&record) else { return Ok(None) };
        let rows = Rows {
            batch: decoded.batch.slice(row, 1),
            numbers: vec![record],
            rescued: decoded.rescued.slice(row, 1),
            record_columns: decoded.record_columns.map(|columns| columns.slice(row, 1)),
        };
        return follow(bound, &context_of(segment), segment.object_key(), rows).map(Some);
    }
    Ok(None)
}

fn follow(bound: &BoundPipeline, context: &SegmentContext, object: &str, rows: Rows) -> Result<Vec<StepTrace>> {
    let mut rows = Some(rows);
    let mut traces = Vec::new();
    for step in &bound.steps {
        let Some(input) = rows.take() else { break };
        let watched = watched(step);
        let mut seat = Seat::new(watched.transform.as_ref(), context);
        let mut stepped = Stepped::default();
        rows = apply_step(&watched, &mut seat, object, input, &mut stepped)?;
        let Stepped { refusals, leaving: left, said: _ } = stepped;
        let names = &watched.transform.plan().routes;
        let mut selected: Vec<_> =
            left.iter().filter_map(|(route, _)| names.get(*route)).map(|route| route.name.clone()).collect();
        if rows.as_ref().is_some_and(|rows| !rows.is_empty()) {
            selected.push(OUT.to_owned());
        }
        let refused = refusals.into_iter().next().map(|refusal| (refusal.code, refusal.message));
        let ends = refused.is_some();
        traces.push(StepTrace { step: step.name.clone(), selected, refused });
        if ends {
            break;
        }
    }
    Ok(traces)
}

/// The step with every route leading to a place of its own: also what is discarded is seen leaving.
fn watched(step: &BoundStep) -> BoundStep {
    let mut step = step.clone();
    for (index, route) in step.routes.iter_mut().enumerate() {
        route.leads = match route.leads {
            Leads::Next => Leads::Next,
            Leads::Discard | Leads::Target(_) => Leads::Target(index),
        };
    }
    step
}
