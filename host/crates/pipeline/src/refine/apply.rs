//! All steps over one decoded batch.
//!
//! Nothing leaves before every step has answered for every row: a record that is rejected on one route or step loads nothing on
//! the others, so that healing it later cannot double it. For each batch, records = loaded + filtered + rejected.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, BooleanArray, RecordBatch, StringArray, UInt32Array, new_null_array};
use arrow_buffer::BooleanBuffer;
use arrow_select::take::take;
use forebay_model::flow::record_column;
use forebay_model::plan::{InputSource, ResolvedColumn};
use forebay_model::ports::{
    BatchInput, Emission, SegmentContext, Selection, TransformError, TransformFailure, TransformOutput,
};
use forebay_model::reject::code;
use forebay_model::{DecodedBatch, Error, Reject, RejectStage, Result, RouteBatch, SegmentCounts, TransformedBatch};

use super::bind::{BoundInput, BoundPipeline, BoundRoute, BoundStep, Leads};
use super::bisect::{self, Part, Seat, SegmentAtFault};
use super::rehearse::Failed;
use super::rescue::has_member;
use super::rows::{Rows, batch_of};
use crate::metrics::{PipelineMetrics, RuleMetrics};

/// The steps of one segment, each with its instance.
pub struct Chain<'a> {
    bound: &'a BoundPipeline,
    seats: Vec<Seat<'a>>,
    object: &'a str,
    /// What the rules counted and observed so far.
    said: RuleMetrics,
    /// Records on which they failed.
    failed: Failed,
}

/// What steps made of rows.
#[derive(Default)]
pub(super) struct Stepped {
    /// Records that were refused; the first word on each counts.
    pub(super) refusals: Vec<Refusal>,
    /// Rows that leave, by where they lead.
    pub(super) leaving: Vec<(usize, Rows)>,
    /// What the rules counted and observed.
    pub(super) said: RuleMetrics,
}

/// A reject before its raw text is looked up.
pub(super) struct Refusal {
    pub(super) record: u64,
    pub(super) stage: RejectStage,
    pub(super) by: RefusedBy,
    pub(super) code: String,
    pub(super) message: String,
    pub(super) retryable: bool,
}

/// Who refused a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusedBy {
    /// The host, before the rule saw it: it lacks what the rule requires.
    Host,
    /// The rule, with a code of its own.
    Rule,
    /// Nobody: the call failed on this record alone.
    Failure,
}

impl<'a> Chain<'a> {
    /// For one segment; `object` is the key of the object that its records lie in.
    #[must_use]
    pub fn new(bound: &'a BoundPipeline, context: &'a SegmentContext, object: &'a str) -> Self {
        let seats = bound.steps.iter().map(|step| Seat::new(step.transform.as_ref(), context)).collect();
        Self { bound, seats, object, said: RuleMetrics::default(), failed: Failed::default() }
    }

    /// Counts the time of its rules' calls.
    #[must_use]
    pub fn measured(mut self, metrics: &PipelineMetrics) -> Self {
        for (step, seat) in self.bound.steps.iter().zip(&mut self.seats) {
            seat.calls = Some(metrics.calls_of(&step.name));
        }
        self
    }

    /// What the rules counted and observed.
    #[must_use]
    pub fn said(self) -> RuleMetrics {
        self.said
    }

    /// The records on which the rules failed, and did not refuse them.
    #[must_use]
    pub fn failed(self) -> Failed {
        self.failed
    }

    /// Applies all steps.
    ///
    /// # Errors
    /// What fails the segment: a rule that traps too often or runs out of its time (class operator), an instance that cannot be
    /// made (class operator).
    pub fn apply(&mut self, decoded: DecodedBatch) -> Result<TransformedBatch> {
        let DecodedBatch { first_record, records, numbers, batch, rescued, record_columns, raw, rejects } = decoded;
        let record_columns = record_columns.as_deref().cloned();
        let mut rows = Some(Rows { batch, numbers, rescued, record_columns });
        let mut stepped = Stepped::default();
        match self.bound.direct {
            Some(Leads::Target(target)) => stepped.leaving.extend(rows.take().map(|rows| (target, rows))),
            Some(Leads::Discard | Leads::Next) => {}
            None => {
                for (step, seat) in self.bound.steps.iter().zip(&mut self.seats) {
                    let Some(input) = rows.take() else { break };
                    rows = apply_step(step, seat, self.object, input, &mut stepped)?;
                }
            }
        }
        let Stepped { refusals, leaving, said } = stepped;
        self.said.add(said);
        let mut rejects = rejects;
        let decode_rejected: BTreeSet<u64> = rejects.iter().map(|reject| reject.record).collect();
        let mut rejected = BTreeSet::new();
        for refusal in refusals {
            // The first word counts: a record is rejected once.
            if decode_rejected.contains(&refusal.record) || !rejected.insert(refusal.record) {
                continue;
            }
            let Refusal { record, stage, by, code, message, retryable } = refusal;
            if let (RefusedBy::Failure, RejectStage::Step(step)) = (by, &stage) {
                self.failed.note(record, step, &message);
            }
            let index = usize::try_from(record.saturating_sub(first_record)).unwrap_or(usize::MAX);
            rejects.push(Reject { record, stage, code, message, retryable, raw: raw.get(index) });
        }
        rejects.sort_by_key(|reject| reject.record);
        let routes = self.leave(leaving, &rejected)?;
        let counts = count(first_record, records, &routes, &rejects);
        Ok(TransformedBatch { routes, rejects, counts })
    }

    /// Drops what was rejected elsewhere, and numbers the rows of each record in each table.
    fn leave(&self, leaving: Vec<(usize, Rows)>, rejected: &BTreeSet<u64>) -> Result<Vec<RouteBatch>> {
        let mut routes: Vec<RouteBatch> = Vec::with_capacity(leaving.len());
        for (target, rows) in leaving {
            let rows = if rejected.is_empty() {
                rows
            } else {
                let keep = BooleanBuffer::collect_bool(rows.len(), |row| !rejected.contains(&rows.numbers[row]));
                rows.filter(&BooleanArray::new(keep, None))?
            };
            if rows.is_empty() {
                continue;
            }
            let items = self.items(target, &rows.numbers, &routes);
            let Rows { batch, numbers, rescued, record_columns: _ } = rows;
            routes.push(RouteBatch { route: target, batch, numbers, items, rescued });
        }
        Ok(routes)
    }

    /// 0 for the first row of a record in a table, 1 for its next one …, over all routes to that table.
    fn items(&self, target: usize, numbers: &[u64], before: &[RouteBatch]) -> Vec<i32> {
        let table = &self.bound.targets[target].fit.table;
        let same: Vec<_> = before.iter().filter(|route| self.bound.targets[route.route].fit.table == *table).collect();
        if same.is_empty() && numbers.windows(2).all(|pair| pair[0] < pair[1]) {
            return vec![0; numbers.len()];
        }
        let mut counts = std::collections::HashMap::new();
        for number in same.iter().flat_map(|route| &route.numbers) {
            *counts.entry(*number).or_insert(0_i32) += 1;
        }
        numbers
            .iter()
            .map(|number| {
                let count = counts.entry(*number).or_insert(0_i32);
                let item = *count;
                *count += 1;
                item
            })
            .collect()
    }
}

/// Each number is counted on its own, so that they add up only where each record went one way.
fn count(first: u64, records: u32, routes: &[RouteBatch], rejects: &[Reject]) -> SegmentCounts {
    let mut went = vec![false; records as usize];
    let mut mark = |number: u64| {
        if let Some(went) = usize::try_from(number.saturating_sub(first)).ok().and_then(|index| went.get_mut(index)) {
            return !std::mem::replace(went, true);
        }
        false
    };
    let loaded = routes.iter().flat_map(|route| &route.numbers).filter(|number| mark(**number)).count() as u64;
    for reject in rejects {
        mark(reject.record);
    }
    let filtered = went.iter().filter(|went| !**went).count() as u64;
    // What was rescued is known when the rows have met their tables.
    SegmentCounts { records: u64::from(records), loaded, filtered, rejected: rejects.len() as u64, rescued: 0 }
}

/// One step over some rows: what leads on is returned, all else is added to `stepped`.
pub(super) fn apply_step(
    step: &BoundStep,
    seat: &mut Seat<'_>,
    object: &str,
    rows: Rows,
    stepped: &mut Stepped,
) -> Result<Option<Rows>> {
    let Stepped { refusals, leaving, said } = stepped;
    let stage = RejectStage::Step(step.name.clone());
    let rows = require(step, rows, &stage, refusals)?;
    if rows.is_empty() {
        return Ok(None);
    }
    let input =
        BatchInput { rows: rows.len(), columns: input_columns(step, &rows, object)?, numbers: rows.numbers.clone() };
    let bisected = bisect::process(seat, &input).map_err(|fault| at_fault(&step.name, fault))?;
    for (row, error) in bisected.guilty {
        refusals.push(Refusal {
            record: rows.numbers[row],
            stage: stage.clone(),
            by: RefusedBy::Failure,
            code: failure_code(error.failure).to_owned(),
            message: with_backtrace(&error),
            retryable: true,
        });
    }
    let mut by_route: Vec<Vec<Rows>> = step.routes.iter().map(|_| Vec::new()).collect();
    for Part { rows: range, output } in bisected.parts {
        let TransformOutput { emissions, refusals: refused, counts, observations } = output;
        counts.into_iter().for_each(|(name, delta)| said.count(name, delta));
        observations.into_iter().for_each(|(name, value)| said.observe(name, value));
        for refusal in refused {
            let Some(record) = rows.numbers.get(range.start + refusal.row as usize) else { continue };
            refusals.push(Refusal {
                record: *record,
                stage: stage.clone(),
                by: RefusedBy::Rule,
                code: refusal.code.to_string(),
                message: refusal.message.to_string(),
                retryable: refusal.retryable,
            });
        }
        for emission in emissions {
            if let (Some(route), Some(parts)) = (step.routes.get(emission.route), by_route.get_mut(emission.route)) {
                parts.push(emitted(route, &rows, range.start, range.len(), emission)?);
            }
        }
    }
    let mut next = None;
    for (route, parts) in step.routes.iter().zip(by_route) {
        match (route.leads, Rows::gather(parts, &route.schema)?) {
            (Leads::Next, gathered) => next = gathered,
            (Leads::Target(target), Some(rows)) => leaving.push((target, rows)),
            (Leads::Target(_), None) | (Leads::Discard, _) => {}
        }
    }
    Ok(next)
}

/// Rejects the rows that lack what the rule requires: it never sees a null there.
fn require(step: &BoundStep, rows: Rows, stage: &RejectStage, refusals: &mut Vec<Refusal>) -> Result<Rows> {
    let mut keep: Option<Vec<bool>> = None;
    for (column, input) in step.transform.plan().inputs.iter().zip(&step.inputs) {
        if !column.required {
            continue;
        }
        let nulls = match input {
            BoundInput::Column(index) => match rows.batch.column(*index).logical_nulls() {
                Some(nulls) if nulls.null_count() > 0 => Some(nulls),
                Some(_) | None => continue,
            },
            BoundInput::Missing => None,
            BoundInput::Record(source) => match record_array(&rows, *source, "") {
                Some(array) => match array.logical_nulls() {
                    Some(nulls) if nulls.null_count() > 0 => Some(nulls),
                    Some(_) | None => continue,
                },
                None if *source == InputSource::RecordObject => continue,
                None => None,
            },
        };
        let keep = keep.get_or_insert_with(|| vec![true; rows.len()]);
        for (row, keep) in keep.iter_mut().enumerate() {
            let missing = nulls.as_ref().is_none_or(|nulls| nulls.is_null(row));
            if missing && std::mem::replace(keep, false) {
                refusals.push(required(&column.name, &rows, row, stage));
            }
        }
    }
    match keep {
        None => Ok(rows),
        Some(keep) => rows.filter(&BooleanArray::from(keep)),
    }
}

fn required(column: &str, rows: &Rows, row: usize, stage: &RejectStage) -> Refusal {
    let rescued = rows.rescued.is_valid(row) && has_member(rows.rescued.value(row), column);
    let (code, message) = if rescued {
        (
            code::REQUIRED_RESCUED,
            format!("column {column:?}, which the rule requires, did not fit its type and was rescued"),
        )
    } else {
        (code::REQUIRED_MISSING, format!("column {column:?}, which the rule requires, is missing or null"))
    };
    let (record, stage) = (rows.numbers[row], stage.clone());
    Refusal { record, stage, by: RefusedBy::Host, code: code.to_owned(), message, retryable: true }
}

fn input_columns(step: &BoundStep, rows: &Rows, object: &str) -> Result<Vec<ArrayRef>> {
    step.inputs
        .iter()
        .map(|input| match input {
            BoundInput::Column(index) => Ok(Arc::clone(rows.batch.column(*index))),
            BoundInput::Record(source) => Ok(record_array(rows, *source, object).unwrap_or_else(|| {
                let data_type = source.data_type().unwrap_or(arrow_schema::DataType::Null);
                new_null_array(&data_type, rows.len())
            })),
            BoundInput::Missing => {
                Err(Error::bug(format!("step {} was called without a column that it requires", step.name)))
            }
        })
        .collect()
}

/// What is the record's own. Files have only their object's key; records of a stream have no object.
fn record_array(rows: &Rows, source: InputSource, object: &str) -> Option<ArrayRef> {
    let name = match source {
        InputSource::RecordKey => record_column::KEY,
        InputSource::RecordHeaders => record_column::HEADERS,
        InputSource::RecordTimestamp => record_column::TIMESTAMP,
        InputSource::RecordPosition => record_column::POSITION,
        InputSource::RecordObject if rows.record_columns.is_none() && !object.is_empty() => {
            return Some(Arc::new(StringArray::from_iter_values(std::iter::repeat_n(object, rows.len()))));
        }
        InputSource::RecordObject | InputSource::Column => return None,
    };
    rows.record_columns.as_ref().and_then(|columns| columns.column_by_name(name)).map(Arc::clone)
}

/// The rows of one `emit`: passed columns from the input, computed ones from the guest.
fn emitted(route: &BoundRoute, rows: &Rows, start: usize, len: usize, emission: Emission) -> Result<Rows> {
    let Emission { route: _, selection, computed } = emission;
    let whole = start == 0 && len == rows.len();
    let start = u32::try_from(start).unwrap_or(u32::MAX);
    let indexes = match selection {
        Selection::All if whole => None,
        Selection::All => {
            Some(UInt32Array::from_iter_values((0..u32::try_from(len).unwrap_or(u32::MAX)).map(|i| start + i)))
        }
        Selection::Rows(selected) if start == 0 => Some(selected),
        Selection::Rows(selected) => Some(selected.unary(|index| start + index)),
    };
    let length = indexes.as_ref().map_or(rows.len(), UInt32Array::len);
    let mut columns = Vec::with_capacity(route.columns.len());
    for column in &route.columns {
        columns.push(match (column, &indexes) {
            (ResolvedColumn::Input(index), None) => Arc::clone(rows.batch.column(*index)),
            (ResolvedColumn::Input(index), Some(indexes)) => take(rows.batch.column(*index), indexes, None)
                .map_err(|error| Error::bug("an emitted row could not be taken").with_source(error))?,
            (ResolvedColumn::Computed(index), _) => {
                computed.get(*index).cloned().ok_or_else(|| Error::bug("a computed column is not there"))?
            }
        });
    }
    let batch: RecordBatch = batch_of(&route.schema, columns, length)?;
    match indexes {
        None => Ok(Rows { batch, ..rows.clone() }),
        Some(indexes) => rows.take_beside(&indexes, batch),
    }
}

fn failure_code(failure: TransformFailure) -> &'static str {
    match failure {
        TransformFailure::Trap | TransformFailure::Instance => code::TRAP,
        TransformFailure::Timeout => code::TIMEOUT,
        TransformFailure::InvalidOutput => code::INVALID_OUTPUT,
        TransformFailure::RuleError => code::RULE_ERROR,
    }
}

fn with_backtrace(error: &TransformError) -> String {
    let TransformError { failure: _, message, backtrace } = error;
    if backtrace.is_empty() { message.clone() } else { format!("{message}\n  at {}", backtrace.join("\n  at ")) }
}

fn at_fault(step: &str, fault: SegmentAtFault) -> Error {
    match fault {
        SegmentAtFault::Instance(error) => {
            Error::operator(format!("step {step} could not start: {}", with_backtrace(&error)))
        }
        SegmentAtFault::Timeout { rows, error } => Error::operator(format!(
            "step {step} ran out of its time on a batch of {rows} rows: {}",
            with_backtrace(&error)
        ))
        .with_hint("the segment waits for a new revision; limits.call_ms of the pipeline sets the time"),
        SegmentAtFault::TooMany { first } => Error::operator(format!(
            "step {step} fails on more than {} rows of one batch; the first: {}",
            bisect::MAX_GUILTY,
            with_backtrace(&first)
        ))
        .with_hint(
            "the segment waits for a new revision: fix the rule and drop the new module into the watched folder",
        ),
        SegmentAtFault::Together { rows, error } => Error::operator(format!(
            "step {step} fails on rows together that pass alone, at last on {rows} of them: {}",
            with_backtrace(&error)
        ))
        .with_hint(
            "the segment waits for a new revision: what a rule makes of a row must not depend on the rows beside it",
        ),
    }
}
