//! A case, run in the sandbox as a pipeline's step would run it.
//!
//! A case passes where its rows and rejects are the expected ones, the rule fails on no record, a second run comes to the same bytes,
//! and each record's answer is the same in whatever batch it comes.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{RecordBatch, StringArray, UInt32Array};
use arrow::datatypes::{Schema, SchemaRef};
use forebay_model::plan::Plan;
use forebay_model::ports::{Asset, Assets, Module, SegmentContext, SegmentInput};
use forebay_model::{DecodedBatch, Digest, Error, Result, Timestamp};
use forebay_pipeline::refine::apply::RefusedBy;
use forebay_pipeline::refine::rows::{Rows, take_batch};
use forebay_pipeline::refine::trial::{Refused, Trial, Tried};
use forebay_sdk::testing::case::{Answer, Case, CaseReject, CaseSegment, InputFormat};
use forebay_sdk::testing::splits::{Dependence, Fates, dependence, ways};
use serde_json::Value;

use super::fingerprint::Fingerprint;
use super::parquet;
use crate::assemble;

/// Failures of a rule that are told one by one; the rest is counted.
const SHOWN: usize = 3;

/// How a case went.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) name: String,
    /// What became of its records; `None` where the rule did not come to an answer.
    pub(crate) counts: Option<Counts>,
    /// What is wrong, each a paragraph; nothing where the case passes.
    pub(crate) wrong: Vec<String>,
    /// Whether it is only that something else was expected.
    pub(crate) differs: bool,
    /// Where its answer depends on the batch.
    pub(crate) dependence: Option<Dependence>,
    /// Files that were written.
    pub(crate) updated: Vec<PathBuf>,
}

/// What became of a case's records.
#[derive(Debug)]
pub(crate) struct Counts {
    pub(crate) records: u64,
    /// Rows by route.
    pub(crate) routes: BTreeMap<String, u64>,
    pub(crate) rejected: u64,
    pub(crate) filtered: u64,
}

impl Ran {
    pub(crate) fn passed(&self) -> bool {
        self.wrong.is_empty() && self.dependence.is_none()
    }

    /// A case that did not run.
    pub(crate) fn broken(name: String, why: String) -> Self {
        Self { name, counts: None, wrong: vec![why], differs: false, dependence: None, updated: Vec::new() }
    }
}

/// What is done with what came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expect {
    /// It is compared with what the case expects.
    Same,
    /// It becomes what the case expects.
    Update,
    /// Nothing: the case has no folder.
    Nothing,
}

/// When to stop: whoever pushes a module does not decide how long its cases hold a thread.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Until(Option<(Instant, Duration)>);

impl Until {
    /// However long it takes; each call is bounded all the same.
    pub(crate) const DONE: Self = Self(None);

    /// Not much longer than so long from now: a call that has begun is let end.
    pub(crate) fn after(time: Duration) -> Self {
        Self(Instant::now().checked_add(time).map(|end| (end, time)))
    }

    fn check(self) -> Result<(), String> {
        match self.0 {
            Some((end, time)) if Instant::now() >= end => {
                Err(format!("the cases take longer than {} s", time.as_secs()))
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// Runs a case.
pub(crate) fn run(module: &dyn Module, case: &Case, expect: Expect, until: Until) -> Ran {
    try_case(module, case, expect, until).unwrap_or_else(|why| Ran::broken(case.name.clone(), why))
}

/// The rule, bound to a case's schema, config and assets.
///
/// # Errors
/// Where the input cannot be decoded, or the rule does not bind to it.
pub(crate) fn bind(module: &dyn Module, case: &Case) -> Result<(Trial, Rows)> {
    let input = decode(case)?;
    Ok((Trial::bind(module, &input.batch.schema(), &case.config, &assets(case))?, input))
}

/// The assets of a case.
pub(crate) fn assets(case: &Case) -> Assets {
    let assets = case.assets.iter().map(|(name, content)| {
        let asset = Asset { digest: Digest::of(content), bytes: content.clone().into() };
        (name.clone(), asset)
    });
    Arc::new(assets.collect())
}

fn try_case(module: &dyn Module, case: &Case, expect: Expect, until: Until) -> Result<Ran, String> {
    until.check()?;
    let (trial, input) = bind(module, case).map_err(|error| told(&error))?;
    let context = context();
    let records = input.len();
    let whole = batches(&input, &(0..records).collect::<Vec<_>>())?;
    let tried = in_time(&trial, &context, whole, until)?;
    let (answer, fates) = answer(&tried)?;
    let mut ran = Ran {
        name: case.name.clone(),
        counts: Some(counts(records, &tried)),
        wrong: failures(&tried),
        differs: false,
        dependence: None,
        updated: Vec::new(),
    };
    if !ran.wrong.is_empty() {
        return Ok(ran);
    }
    let again = in_time(&trial, &context, batches(&input, &(0..records).collect::<Vec<_>>())?, until)?;
    if fingerprint(&tried)? != fingerprint(&again)? {
        ran.wrong.push("  a second run over the same records comes to other bytes".to_owned());
        return Ok(ran);
    }
    for (way, calls) in ways(records) {
        let mut split = Vec::new();
        for call in calls {
            split.extend(batches(&input, &call)?);
        }
        let tried = in_time(&trial, &context, split, until).map_err(|error| format!("{way}: {error}"))?;
        let (_, found) = self::answer(&tried)?;
        ran.dependence = dependence(&fates, way, &found);
        if ran.dependence.is_some() {
            return Ok(ran);
        }
    }
    match expect {
        Expect::Update => ran.updated = case.update(&answer).map_err(|error| error.to_string())?,
        Expect::Same => {
            let differs = case.compare(&answer).err();
            ran.differs = differs.is_some();
            ran.wrong.extend(differs.map(|differs| differs.to_string().trim_end().to_owned()));
        }
        Expect::Nothing => {}
    }
    Ok(ran)
}

/// What it made, byte for byte.
fn fingerprint(tried: &Tried) -> Result<Digest, String> {
    let mut fingerprint = Fingerprint::default();
    fingerprint.add_tried(tried).map_err(|error| told(&error))?;
    Ok(fingerprint.finish())
}

fn in_time(trial: &Trial, context: &SegmentContext, batches: Vec<Rows>, until: Until) -> Result<Tried, String> {
    let batches = batches.into_iter().take_while(|_| until.check().is_ok());
    let tried = trial.run(context, batches).map_err(|error| at_fault(&error));
    until.check()?;
    tried
}

fn told(error: &Error) -> String {
    let hint = error.hint().map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
    format!("{}{hint}", error.chain())
}

/// What would fail a whole segment.
fn at_fault(error: &Error) -> String {
    format!(
        "{}\nhint: a pipeline would load nothing of such a segment, which waits for a rule that is repaired",
        error.chain()
    )
}

/// The rows of these records, in batches as large as a pipeline's.
fn batches(input: &Rows, records: &[usize]) -> Result<Vec<Rows>, String> {
    let taken = |records: &[usize]| -> Result<Rows> {
        let indexes: UInt32Array = records.iter().map(|record| u32::try_from(*record).unwrap_or(u32::MAX)).collect();
        input.take_beside(&indexes, take_batch(&input.batch, &indexes)?)
    };
    let batch = DecodedBatch::RECORDS as usize;
    records.chunks(batch).map(|records| taken(records).map_err(|error| told(&error))).collect()
}

/// The segment that a case's rows are of.
pub(crate) fn context() -> SegmentContext {
    SegmentContext {
        stream: CaseSegment::STREAM.to_owned(),
        segment: CaseSegment::ID.to_owned(),
        partition: CaseSegment::STREAM.to_owned(),
        first_position: CaseSegment::POSITION.to_owned(),
        landed_at: Timestamp::from_micros(CaseSegment::LANDED_AT),
        seed: CaseSegment::SEED,
    }
}

/// The input, decoded as a stream's segment would be, to the types that all of its records lead to.
fn decode(case: &Case) -> Result<Rows> {
    let kind = match case.format {
        InputFormat::Json => "json",
        InputFormat::Csv => "csv",
        InputFormat::Parquet => return parquet::decode(&case.input),
    };
    let decoding = assemble::open_trial_decoding(kind)?;
    let text = || SegmentInput::Bytes(Box::new(Cursor::new(case.input.clone())));
    let format = decoding.format(&decoding.detect("input", &case.input))?;
    let schema = format.infer(vec![text()])?.unwrap_or_else(|| Arc::new(Schema::empty()));
    let mut decoder = format.open(text(), &schema)?;
    let mut parts = Vec::new();
    while let Some(decoded) = decoder.next_batch()? {
        parts.push(well_formed(decoded)?);
    }
    Ok(Rows::gather(parts, &schema)?.unwrap_or_else(|| no_rows(schema)))
}

fn no_rows(schema: SchemaRef) -> Rows {
    let (batch, rescued) = (RecordBatch::new_empty(schema), StringArray::new_null(0));
    Rows { batch, numbers: Vec::new(), rescued, record_columns: None }
}

/// A case shows what the rule does: a record that decoding refuses, or a value that it puts aside, does not come before it.
fn well_formed(decoded: DecodedBatch) -> Result<Rows> {
    let DecodedBatch { first_record: _, records: _, numbers, batch, rescued, record_columns, raw: _, rejects } =
        decoded;
    if let Some(reject) = rejects.first() {
        return Err(Error::operator(format!("the input: record {} is no record: {}", reject.record, reject.message))
            .with_hint("a case shows what the rule does, so its records must be ones that decode"));
    }
    if batch.num_columns() == 0 && !numbers.is_empty() {
        return Err(Error::operator("the input has no columns"));
    }
    if let Some((number, text)) = numbers.iter().zip(&rescued).find_map(|(number, text)| Some((number, text?))) {
        let fields: BTreeMap<String, Value> = serde_json::from_str(text).unwrap_or_default();
        let fields: Vec<_> = fields.keys().map(String::as_str).collect();
        let message = format!(
            "the input: record {number} has in {} a value of another type than most records",
            fields.join(", ")
        );
        return Err(Error::operator(message).with_hint(
            "a pipeline would put it aside, into _forebay_rescued; write the column's values alike in the case",
        ));
    }
    Ok(Rows { batch, numbers, rescued, record_columns: record_columns.as_deref().cloned() })
}

fn counts(records: usize, tried: &Tried) -> Counts {
    let Tried { routes, refused, said: _ } = tried;
    let some = routes.iter().filter_map(|(_, rows)| rows.as_ref());
    let mut went: Vec<u64> =
        some.flat_map(|rows| rows.numbers.iter().copied()).chain(refused.keys().copied()).collect();
    went.sort_unstable();
    went.dedup();
    Counts {
        records: records as u64,
        routes: routes.iter().map(|(name, rows)| (name.clone(), rows.as_ref().map_or(0, Rows::len) as u64)).collect(),
        rejected: refused.len() as u64,
        filtered: (records - went.len()) as u64,
    }
}

/// Records on which the rule failed: in a pipeline they are rejects, in a case they are what is to be repaired.
fn failures(tried: &Tried) -> Vec<String> {
    let failed = tried.refused.iter().filter(|(_, refused)| refused.by == RefusedBy::Failure);
    let mut told: Vec<String> = failed
        .map(|(record, Refused { by: _, code, message, retryable: _ })| {
            format!("  the rule fails on record {record} ({code}): {}", message.replace('\n', "\n  "))
        })
        .collect();
    let more = told.len().saturating_sub(SHOWN);
    told.truncate(SHOWN);
    if more > 0 {
        told.push(format!("  … and on {more} more"));
    }
    told
}

/// The rows and rejects as JSON, and what became of each record.
fn answer(tried: &Tried) -> Result<(Answer, Fates), String> {
    let Tried { routes, refused, said: _ } = tried;
    let (mut answer, mut fates) = (Answer::default(), Fates::new());
    for (name, rows) in routes {
        let values = rows.as_ref().map_or(Ok(Vec::new()), |rows| json_rows(&rows.batch))?;
        let numbers = rows.iter().flat_map(|rows| &rows.numbers);
        for (number, value) in numbers.zip(&values) {
            fates.entry(*number).or_default().rows.push((name.clone(), value.clone()));
        }
        answer.routes.insert(name.clone(), values);
    }
    for (row, Refused { by, code, message, retryable }) in refused {
        let said = matches!(by, RefusedBy::Rule).then_some(message.as_str());
        answer.rejects.push(CaseReject { row: *row, code, message: said, retryable: *retryable }.line());
        fates.entry(*row).or_default().reject = Some((code.clone(), message.clone()));
    }
    Ok((answer, fates))
}

/// Each row as an object with all its columns, nulls too.
pub(crate) fn json_rows(batch: &RecordBatch) -> Result<Vec<Value>, String> {
    if batch.num_columns() == 0 {
        return Ok(vec![Value::Object(serde_json::Map::new()); batch.num_rows()]);
    }
    let builder = arrow::json::WriterBuilder::new().with_explicit_nulls(true);
    let mut writer = builder.build::<_, arrow::json::writer::JsonArray>(Vec::new());
    writer.write(batch).and_then(|()| writer.finish()).map_err(|error| error.to_string())?;
    serde_json::from_slice(&writer.into_inner()).map_err(|error| error.to_string())
}

/// The columns of each route of a plan, for this input.
///
/// # Errors
/// Where they do not fit: binding has checked that they do.
pub(crate) fn route_columns(plan: &Plan, input: &Schema) -> Result<Vec<(String, Vec<String>)>, String> {
    let mut routes = Vec::new();
    for (index, route) in plan.routes.iter().enumerate() {
        let (schema, _) = plan.resolve(index, input)?;
        routes.push((route.name.clone(), schema.fields().iter().map(|field| field.name().clone()).collect()));
    }
    Ok(routes)
}
