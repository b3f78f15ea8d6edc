//! Refining one segment, on a worker thread: decode ▶ steps ▶ staged files. Nothing of it is visible before its group commits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{
    Array, ArrayRef, BooleanArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray, new_null_array,
};
use arrow_schema::DataType;
use forebay_model::load::{RefinedSegment, RejectCount, StagedFile};
use forebay_model::ports::{LandingZone, SegmentContext, StagedWriter, StagingRequest, WorkItem};
use forebay_model::schema::Evolution;
use forebay_model::{
    Error, ErrorClass, LandedSegment, Reject, Result, RouteBatch, SegmentCounts, Timestamp, TransformedBatch, column,
};

use super::apply::Chain;
use super::bind::{BoundPipeline, Target};
use super::conform::conform;
use super::fit::Destination;
use super::heal::{Counts, Rejected};
use super::rescue::{Aside, members, put_aside};
use super::rows::batch_of;
use crate::decoding::{Decoding, open_segment};
use crate::metrics::{PipelineMetrics, Stage};

/// A segment to refine, for a group.
#[derive(Debug, Clone)]
pub struct SegmentJob {
    /// The segment.
    pub item: WorkItem,
    /// The number of the group's loads.
    pub number: u64,
    /// When the group was begun.
    pub begun_at: Timestamp,
    /// Load it under this schema, whatever does not fit: a better one was tried and refused.
    pub accept_schema: bool,
}

/// What a segment came to.
#[derive(Debug)]
pub enum SegmentOutcome {
    /// Its rows are durable in the warehouses' storage.
    Staged(Box<StagedSegment>),
    /// A grown schema would fit it better; nothing is staged.
    Evolves(Evolution),
}

/// Files of a segment, by table.
#[derive(Debug, Clone, PartialEq)]
pub struct StagedSegment {
    /// Counts and lineage.
    pub refined: RefinedSegment,
    /// Bytes of the segment, as it landed.
    pub bytes: u64,
    /// By table.
    pub files: BTreeMap<forebay_model::TableName, Vec<StagedFile>>,
    /// Of a heal that tried records again: the table of rejects, from which the segment's former ones are removed.
    pub heals: Option<forebay_model::TableName>,
}

/// What a worker needs.
#[derive(Debug, Clone)]
pub struct Workplace {
    /// Where raw data is.
    pub zone: Arc<dyn LandingZone>,
    /// How it is decoded.
    pub decoding: Arc<dyn Decoding>,
    /// What is counted.
    pub metrics: Arc<PipelineMetrics>,
}

/// Refines a segment; with `rejected`, only those of its records that are tried again. `between` is called between two batches.
///
/// # Errors
/// What fails the segment; its staged files are discarded by being dropped.
pub fn refine(
    place: &Workplace,
    bound: &BoundPipeline,
    job: &SegmentJob,
    rejected: Option<&Rejected>,
    mut between: impl FnMut(),
) -> Result<SegmentOutcome> {
    let segment = &job.item.segment;
    if let Some(rejected) = rejected.filter(|rejected| rejected.tried() == 0) {
        return Staging::new(bound, job, Some(rejected))
            .finish()
            .map(|staged| SegmentOutcome::Staged(Box::new(staged)));
    }
    // The schema grew for the segment when all of it was refined.
    let accept_schema = job.accept_schema || rejected.is_some();
    let clocks = &place.metrics.clocks;
    let format = place.decoding.format(&segment.format)?;
    let mut decoder = clocks.timed(Stage::Decode, || {
        let input = open_segment(place.zone.as_ref(), place.decoding.as_ref(), segment)?;
        format.open(input, &bound.schema.schema)
    })?;
    let context = context_of(segment);
    let mut chain = Chain::new(bound, &context, segment.object_key()).measured(&place.metrics);
    let mut staging = Staging::new(bound, job, rejected);
    let mut evolves = false;
    while let Some(decoded) = clocks.timed(Stage::Decode, || decoder.next_batch())? {
        let all = u64::from(decoded.records);
        place.metrics.records_in_work.add(all);
        // Once the schema is known to grow, the rest is only read to learn how far.
        evolves = evolves || (!accept_schema && decoder.evolution().is_some());
        if evolves {
            continue;
        }
        let end = decoded.first_record + all;
        let (decoded, tried) = match rejected {
            Some(rejected) => rejected.only(decoded)?,
            None => (decoded, all),
        };
        let from = Instant::now();
        let mut transformed = clocks.timed(Stage::Transform, || chain.apply(decoded))?;
        place.metrics.batches.observe(from.elapsed());
        // What is not tried again went nowhere, as what is filtered does.
        let counts = &mut transformed.counts;
        (counts.records, counts.filtered) = (tried, (counts.filtered + tried).saturating_sub(all));
        clocks.timed(Stage::Encode, || staging.write(transformed))?;
        if rejected.is_some_and(|rejected| !rejected.goes_on_after(end.saturating_sub(1))) {
            break;
        }
        between();
    }
    if !accept_schema && let Some(evolution) = decoder.evolution() {
        return Ok(SegmentOutcome::Evolves(evolution));
    }
    drop(decoder);
    rejected.map_or(Ok(()), |rejected| rejected.all_were_tried(staging.counts.records))?;
    place.metrics.add_rules(chain.said());
    place.metrics.add_rescued(std::mem::take(&mut staging.rescued));
    let staged = clocks.timed(Stage::Encode, || staging.finish())?;
    Ok(SegmentOutcome::Staged(Box::new(staged)))
}

/// What instances are told of the segment.
pub(super) fn context_of(segment: &LandedSegment) -> SegmentContext {
    SegmentContext {
        stream: segment.stream.to_string(),
        segment: segment.id.to_string(),
        partition: segment.partition.to_string(),
        first_position: segment.first.to_string(),
        landed_at: segment.landed_at,
        seed: segment.id.seed(),
    }
}

/// Writers of one segment, each made with its first row.
struct Staging<'a> {
    bound: &'a BoundPipeline,
    job: &'a SegmentJob,
    /// Of a heal: what was rejected before.
    tried: Option<&'a Rejected>,
    writers: BTreeMap<usize, Box<dyn StagedWriter>>,
    rejects: Option<Box<dyn StagedWriter>>,
    counts: SegmentCounts,
    reject_counts: Counts,
    retryable: u64,
    /// Values that were put aside, by column.
    rescued: BTreeMap<String, u64>,
}

impl<'a> Staging<'a> {
    fn new(bound: &'a BoundPipeline, job: &'a SegmentJob, tried: Option<&'a Rejected>) -> Self {
        Self {
            bound,
            job,
            tried,
            writers: BTreeMap::new(),
            rejects: None,
            counts: SegmentCounts::default(),
            reject_counts: Counts::new(),
            retryable: 0,
            rescued: BTreeMap::new(),
        }
    }

    fn write(&mut self, transformed: TransformedBatch) -> Result<()> {
        let TransformedBatch { routes, rejects, counts } = transformed;
        let mut rescued = BTreeSet::new();
        for route in routes {
            let index = route.route;
            let target = &self.bound.targets[index];
            let numbers = route.numbers.clone();
            let (batch, set_aside) = table_rows(target, self.job, route)?;
            rescued.extend(numbers.iter().enumerate().filter(|(row, _)| set_aside.is_valid(*row)).map(|(_, n)| *n));
            for column in set_aside.iter().flatten().flat_map(members) {
                *self.rescued.entry(column).or_insert(0) += 1;
            }
            match self.writers.get_mut(&index) {
                Some(writer) => writer.write(&batch).map_err(storing)?,
                None => {
                    let mut writer = start(target, self.job)?;
                    writer.write(&batch).map_err(storing)?;
                    self.writers.insert(index, writer);
                }
            }
        }
        self.write_rejects(&rejects)?;
        self.counts += SegmentCounts { rescued: rescued.len() as u64, ..counts };
        Ok(())
    }

    fn write_rejects(&mut self, rejects: &[Reject]) -> Result<()> {
        if rejects.is_empty() {
            return Ok(());
        }
        for reject in rejects {
            *self.reject_counts.entry((reject.stage.to_string(), reject.code.clone())).or_insert(0) += 1;
            self.retryable += u64::from(reject.retryable);
        }
        let (batch, _) = table_rows(&self.bound.rejects, self.job, reject_rows(self.bound, rejects, self.tried)?)?;
        self.write_reject_rows(&batch)
    }

    fn write_reject_rows(&mut self, batch: &RecordBatch) -> Result<()> {
        match &mut self.rejects {
            Some(writer) => writer.write(batch).map_err(storing),
            None => {
                let writer = self.rejects.insert(start(&self.bound.rejects, self.job)?);
                writer.write(batch).map_err(storing)
            }
        }
    }

    /// What is not tried again stays rejected. Its rows are written anew where the segment's former ones are removed.
    fn keep_staying(&mut self, rejected: &Rejected) -> Result<()> {
        let (rows, counts) = rejected.staying(&self.bound.rejects.fit.after, self.job)?;
        for (place, records) in counts {
            *self.reject_counts.entry(place).or_insert(0) += records;
        }
        for batch in rows.iter().filter(|_| rejected.tried() > 0) {
            self.write_reject_rows(batch)?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<StagedSegment> {
        if let Some(tried) = self.tried {
            self.keep_staying(tried)?;
        }
        let Self { bound, job, tried, writers, rejects, counts, reject_counts, retryable, rescued: _ } = self;
        if !counts.balanced() {
            return Err(Error::bug(format!("segment {}: its records do not add up: {counts:?}", job.item.segment.id)));
        }
        let mut files: BTreeMap<_, Vec<StagedFile>> = BTreeMap::new();
        for (index, writer) in writers {
            files.entry(bound.targets[index].fit.table.clone()).or_default().extend(writer.finish().map_err(storing)?);
        }
        if let Some(writer) = rejects {
            files.entry(bound.rejects.fit.table.clone()).or_default().extend(writer.finish().map_err(storing)?);
        }
        let rejects =
            reject_counts.into_iter().map(|((stage, code), records)| RejectCount { stage, code, records }).collect();
        Ok(StagedSegment {
            refined: RefinedSegment {
                segment: job.item.segment.id.clone(),
                generation: job.item.generation,
                again: job.item.again,
                terms: job.item.terms,
                counts,
                rejects,
                retryable,
                replaces: job.item.segment.replaces.clone(),
            },
            bytes: job.item.segment.bytes,
            files,
            heals: tried.filter(|tried| tried.tried() > 0).map(|_| bound.rejects.fit.table.clone()),
        })
    }
}

fn start(target: &Target, job: &SegmentJob) -> Result<Box<dyn StagedWriter>> {
    let request = StagingRequest {
        table: target.fit.table.table.clone(),
        segment: job.item.segment.id.clone(),
        schema: Arc::clone(&target.fit.after),
        partition_by: target.fit.partition_by.clone(),
    };
    target.warehouse.stage(request).map_err(storing)
}

/// A warehouse that cannot be written to is no fault of the segment, so no new revision would help: somebody mends the warehouse, and the
/// segment is tried again until then.
fn storing(error: Error) -> Error {
    if error.class() != ErrorClass::Operator {
        return error;
    }
    let again = Error::new(ErrorClass::Retry, error.chain());
    match error.hint() {
        Some(hint) => again.with_hint(hint),
        None => again,
    }
}

/// A route's rows as the table has them, with forebay's own columns; also what was put aside, by row.
fn table_rows(target: &Target, job: &SegmentJob, route: RouteBatch) -> Result<(RecordBatch, StringArray)> {
    let RouteBatch { route: _, batch, numbers, items, rescued } = route;
    let after = &target.fit.after;
    let rows = batch.num_rows();
    let mut columns: Vec<Option<ArrayRef>> = vec![None; after.fields().len()];
    let mut aside = Vec::new();
    let schema = batch.schema();
    let fates = target.fit.destinations.iter().zip(&target.fit.stored);
    for ((values, field), (destination, stored)) in batch.columns().iter().zip(schema.fields()).zip(fates) {
        match destination {
            Destination::Column(index) => {
                let values = target.warehouse.store_column(values, stored)?;
                columns[*index] = Some(conform(&values, after.field(*index).data_type())?);
            }
            Destination::ByValue(index) => {
                let (same, others) = by_value(values, after.field(*index).data_type())?;
                columns[*index] = Some(same);
                if others.iter().any(|other| *other) {
                    aside.push(Aside { name: field.name(), values, rows: Some(others) });
                }
            }
            Destination::Rescued => aside.push(Aside { name: field.name(), values, rows: None }),
        }
    }
    let rescued = put_aside(&rescued, &aside)?;
    let columns = columns
        .into_iter()
        .zip(after.fields())
        .map(|(column, field)| {
            Ok(match (column, field.name().as_str()) {
                (Some(column), _) => column,
                (None, column::RESCUED) => Arc::new(rescued.clone()) as ArrayRef,
                (None, column::SEGMENT) => {
                    Arc::new(StringArray::from_iter_values(std::iter::repeat_n(job.item.segment.id.as_str(), rows)))
                }
                (None, column::ROW) => Arc::new(Int64Array::from_iter_values(
                    numbers.iter().map(|number| i64::try_from(*number).unwrap_or(i64::MAX)),
                )),
                (None, column::ITEM) => Arc::new(Int32Array::from(items.clone())),
                (None, column::LOAD) => {
                    Arc::new(Int64Array::from_value(i64::try_from(job.number).unwrap_or(i64::MAX), rows))
                }
                (None, column::LOADED_AT) => {
                    Arc::new(TimestampMicrosecondArray::from_value(job.begun_at.as_micros(), rows).with_timezone("UTC"))
                }
                (None, _) => new_null_array(field.data_type(), rows),
            })
        })
        .collect::<Result<Vec<_>>>()?;
    Ok((batch_of(after, columns, rows)?, rescued))
}

/// Numbers that are the same in the other type; `true` for rows whose number is not.
fn by_value(values: &ArrayRef, to: &DataType) -> Result<(ArrayRef, Vec<bool>)> {
    // Beyond 2^53 not every integer is a float of its own.
    const EXACT: i64 = 1 << 53;
    match (values.data_type(), to) {
        (DataType::Int64, DataType::Float64) => {
            let integers = values.as_primitive::<Int64Type>();
            let exact = |value: i64| (-EXACT..=EXACT).contains(&value);
            #[expect(clippy::cast_precision_loss, reason = "checked to be exact")]
            let same: Float64Array = integers.iter().map(|v| v.filter(|v| exact(*v)).map(|v| v as f64)).collect();
            Ok((Arc::new(same), integers.iter().map(|v| v.is_some_and(|v| !exact(v))).collect()))
        }
        (DataType::Float64, DataType::Int64) => {
            let floats = values.as_primitive::<Float64Type>();
            #[expect(clippy::cast_precision_loss, reason = "2^53 is exact")]
            let exact = |value: f64| value.fract() == 0.0 && value.abs() <= EXACT as f64;
            #[expect(clippy::cast_possible_truncation, reason = "checked to be integral and in range")]
            let same: Int64Array = floats.iter().map(|v| v.filter(|v| exact(*v)).map(|v| v as i64)).collect();
            Ok((Arc::new(same), floats.iter().map(|v| v.is_some_and(|v| !exact(v))).collect()))
        }
        (from, to) => Err(Error::bug(format!("values of type {from} are not compared with {to}"))),
    }
}

/// Rejects as rows of their table. Bytes that are not UTF-8 are shown as U+FFFD; the segment has them as they came.
fn reject_rows(bound: &BoundPipeline, rejects: &[Reject], tried: Option<&Rejected>) -> Result<RouteBatch> {
    let attempts = |reject: &Reject| tried.map_or(0, |tried| tried.attempts(reject.record)).saturating_add(1);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(rejects.iter().map(|reject| reject.stage.to_string()))),
        Arc::new(StringArray::from_iter_values(rejects.iter().map(|reject| reject.code.as_str()))),
        Arc::new(StringArray::from_iter_values(rejects.iter().map(|reject| reject.message.as_str()))),
        Arc::new(BooleanArray::from_iter(rejects.iter().map(|reject| Some(reject.retryable)))),
        Arc::new(StringArray::from_iter_values(rejects.iter().map(|reject| String::from_utf8_lossy(&reject.raw)))),
        Arc::new(Int64Array::from_value(i64::from(bound.number), rejects.len())),
        Arc::new(Int64Array::from_iter_values(rejects.iter().map(attempts))),
    ];
    Ok(RouteBatch {
        route: 0,
        batch: batch_of(&Arc::new(super::bind::rejects_schema()), columns, rejects.len())?,
        numbers: rejects.iter().map(|reject| reject.record).collect(),
        items: vec![0; rejects.len()],
        rescued: StringArray::new_null(rejects.len()),
    })
}
