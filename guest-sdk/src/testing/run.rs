//! The part of the host that a rule sees, for one run of an instance over a segment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch, UInt32Array};
use arrow_buffer::NullBuffer;
use arrow_schema::{Schema, SchemaRef};
use serde_json::Value;

use super::case::CaseSegment;
use super::flat::{self, Lift};
use super::harness::{Harness, HarnessError};
use super::outcome::{Outcome, Rejected, Row};
use crate::batch::{Context, RowNumbers};
use crate::guest::{self, Bound};
use crate::host::native::{self, Emitted};
use crate::plan;
use crate::schema;
use crate::transform::Module;

/// Rejects of a call, by record; the first reason counts.
type Rejects = BTreeMap<u64, Rejected>;

/// A column of a route: from the input, or computed.
enum Resolved {
    Input(usize),
    Computed(usize),
}

/// One run of an instance over a segment.
pub(super) struct Run<'h, T> {
    harness: &'h Harness<T>,
    input: &'h RecordBatch,
    /// The columns that the plan reads.
    read: Vec<ArrayRef>,
    /// For each that is required, where it is null.
    missing: Vec<Option<NullBuffer>>,
    names: Vec<String>,
    routes: Vec<(String, SchemaRef, SchemaRef, Vec<Resolved>)>,
    outcome: Outcome,
    /// Records that were emitted or rejected.
    seen: BTreeSet<u64>,
}

impl<'h, T: Module> Run<'h, T> {
    pub(super) fn new(harness: &'h Harness<T>, input: &'h RecordBatch, bound: &Bound<T>) -> Result<Self, HarnessError> {
        let (mut read, mut missing, mut names) = (vec![], vec![], vec![]);
        for column in bound.inputs() {
            let own = harness.record.iter().find(|(source, _)| *source == column.source).map(|(_, values)| values);
            let values = if column.source == plan::Source::Column { input.column_by_name(&column.name) } else { own };
            let values = values.cloned();
            let values = values.unwrap_or_else(|| arrow_array::new_null_array(&column.data_type, input.num_rows()));
            missing.push(if column.required { values.logical_nulls() } else { None });
            read.push(values);
            names.push(column.name.clone());
        }
        if let Some(short) = read.iter().position(|values| values.len() != input.num_rows()) {
            return Err(HarnessError::Test(format!("{:?} has another number of rows than the input", names[short])));
        }
        let mut outcome = Outcome { reusable: bound.reusable(), ..Outcome::default() };
        let mut routes = Vec::new();
        for route in bound.routes() {
            // What the host is told of the computed columns must read as what the rule planned.
            let told = guest::computed_schema(route);
            if !told.is_empty() && schema::decode(&told).map_err(HarnessError::Bind)?.arrow() != &route.computed {
                return Err(HarnessError::Output(format!(
                    "route {:?}: its computed schema does not cross",
                    route.name
                )));
            }
            let (schema, columns) = resolve(route, &input.schema()).map_err(HarnessError::Output)?;
            outcome.rows.insert(route.name.clone(), vec![]);
            outcome.schemas.insert(route.name.clone(), Arc::clone(&schema));
            routes.push((route.name.clone(), schema, Arc::clone(&route.computed), columns));
        }
        Ok(Self { harness, input, read, missing, names, routes, outcome, seen: BTreeSet::new() })
    }

    /// One batch, of these records.
    pub(super) fn call(&mut self, bound: &mut Bound<T>, records: &[usize]) -> Result<(), HarnessError> {
        let mut rows: Vec<u32> = Vec::with_capacity(records.len());
        let mut rejects = Rejects::new();
        for &record in records {
            let null = |nulls: &Option<NullBuffer>| nulls.as_ref().is_some_and(|nulls| nulls.is_null(record));
            let missing = self.missing.iter().position(null);
            match missing {
                None => rows.push(narrow(record)?),
                Some(at) => {
                    let message = format!("column {:?}, which the rule requires, is missing or null", self.names[at]);
                    let (row, code) = (record as u64, "required_missing".to_owned());
                    rejects.insert(row, Rejected { row, code, message, retryable: true, by_host: true });
                }
            }
        }
        if !rows.is_empty() {
            self.process(bound, &rows, &mut rejects)?;
        }
        self.seen.extend(rejects.keys());
        self.outcome.rejects.extend(rejects.into_values());
        Ok(())
    }

    fn process(&mut self, bound: &mut Bound<T>, rows: &[u32], rejects: &mut Rejects) -> Result<(), HarnessError> {
        let (mut nodes, mut buffers) = (vec![], vec![]);
        for column in &self.read {
            let taken = take(column, rows)?;
            flat::lower(&taken, &mut nodes, &mut buffers).map_err(HarnessError::Test)?;
        }
        let numbers: Vec<u64> = rows.iter().map(|&row| u64::from(row)).collect();
        let result = bound.process(self.context(&numbers), narrow(rows.len())?, nodes, buffers);
        let said = native::take();
        self.outcome.logs.extend(said.logs);
        self.outcome.observations.extend(said.observations);
        for (name, delta) in said.counts {
            *self.outcome.counts.entry(name).or_default() += delta;
        }
        result.map_err(HarnessError::Rule)?;
        for rejected in said.rejected {
            for row in rejected.rows {
                let row = *numbers.get(row as usize).ok_or_else(|| beyond("reject", row, rows.len()))?;
                rejects.entry(row).or_insert_with(|| Rejected {
                    row,
                    code: rejected.code.clone(),
                    message: rejected.message.clone(),
                    retryable: rejected.retryable,
                    by_host: false,
                });
            }
        }
        for emitted in said.emitted {
            self.emitted(emitted, rows, rejects)?;
        }
        Ok(())
    }

    fn context(&self, numbers: &[u64]) -> Context {
        let first = numbers.first().copied().unwrap_or_default();
        let rows = if numbers.iter().zip(first..).all(|(&number, expected)| number == expected) {
            RowNumbers::From(first)
        } else {
            RowNumbers::Each(numbers.to_vec())
        };
        Context {
            stream: CaseSegment::STREAM.to_owned(),
            segment: CaseSegment::ID.to_owned(),
            partition: CaseSegment::STREAM.to_owned(),
            first_position: CaseSegment::POSITION.to_owned(),
            landed_at: self.harness.landed_at,
            seed: self.harness.seed,
            rows,
        }
    }

    fn emitted(&mut self, emitted: Emitted, rows: &[u32], rejects: &Rejects) -> Result<(), HarnessError> {
        let Emitted { route, selection, rows: count, nodes, buffers } = emitted;
        let (name, schema, computed, columns) = self
            .routes
            .get(route as usize)
            .ok_or_else(|| HarnessError::Output(format!("there is no route {route}")))?;
        let picked: Vec<u32> = match selection {
            None => rows.to_vec(),
            Some(selection) => selection
                .iter()
                .map(|&row| rows.get(row as usize).copied().ok_or_else(|| beyond("emit", row, rows.len())))
                .collect::<Result<_, _>>()?,
        };
        let fail = |error: String| HarnessError::Output(format!("route {name:?}: {error}"));
        if picked.len() != count as usize {
            return Err(fail(format!("{} rows are selected, {count} computed", picked.len())));
        }
        let mut lift = Lift::new(nodes, buffers);
        let made: Vec<ArrayRef> = computed
            .fields()
            .iter()
            .map(|field| lift.column(field, picked.len()))
            .collect::<Result<_, _>>()
            .map_err(fail)?;
        lift.finish().map_err(fail)?;
        let mut arrays = Vec::with_capacity(columns.len());
        for column in columns {
            arrays.push(match column {
                Resolved::Input(index) => take(self.input.column(*index), &picked)?,
                Resolved::Computed(index) => Arc::clone(&made[*index]),
            });
        }
        let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(picked.len()));
        let batch = RecordBatch::try_new_with_options(Arc::clone(schema), arrays, &options)
            .map_err(|error| fail(error.to_string()))?;
        let values = values(&batch).map_err(fail)?;
        let into = self.outcome.rows.entry(name.clone()).or_default();
        for (&row, value) in picked.iter().zip(values) {
            let record = u64::from(row);
            self.seen.insert(record);
            if !rejects.contains_key(&record) {
                into.push(Row { record, value });
            }
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> Outcome {
        self.outcome.rejects.sort_by_key(|rejected| rejected.row);
        // As tables have them: in the order of their records, those of one record as they were emitted.
        self.outcome.rows.values_mut().for_each(|rows| rows.sort_by_key(|row| row.record));
        self.outcome.filtered = (self.input.num_rows() - self.seen.len()) as u64;
        self.outcome
    }
}

fn narrow(count: usize) -> Result<u32, HarnessError> {
    u32::try_from(count).map_err(|_| HarnessError::Test("the input has too many rows for a test".to_owned()))
}

fn beyond(what: &str, row: u32, rows: usize) -> HarnessError {
    HarnessError::Output(format!("{what} of row {row}: the batch has {rows}"))
}

fn take(column: &ArrayRef, rows: &[u32]) -> Result<ArrayRef, HarnessError> {
    arrow_select::take::take(column, &UInt32Array::from(rows.to_vec()), None)
        .map_err(|error| HarnessError::Test(error.to_string()))
}

/// A route's schema, and where each of its columns comes from.
fn resolve(route: &plan::Route, input: &Schema) -> Result<(SchemaRef, Vec<Resolved>), String> {
    let mut fields = Vec::new();
    let mut resolved = Vec::new();
    for column in &route.columns {
        match column {
            plan::Output::PassOthers(except) => {
                for (index, field) in input.fields().iter().enumerate().filter(|(_, f)| !except.contains(f.name())) {
                    fields.push(Arc::clone(field));
                    resolved.push(Resolved::Input(index));
                }
            }
            plan::Output::Pass { input: name, output } => {
                let index = input.index_of(name).map_err(|error| error.to_string())?;
                fields.push(Arc::new(input.field(index).clone().with_name(output)));
                resolved.push(Resolved::Input(index));
            }
            plan::Output::Computed(index) => {
                let index = *index as usize;
                fields.push(Arc::clone(&route.computed.fields()[index]));
                resolved.push(Resolved::Computed(index));
            }
        }
    }
    Ok((Arc::new(Schema::new(fields)), resolved))
}

/// Each row as a JSON object with all its columns, nulls too.
fn values(batch: &RecordBatch) -> Result<Vec<Value>, String> {
    if batch.num_columns() == 0 {
        return Ok(vec![Value::Object(serde_json::Map::new()); batch.num_rows()]);
    }
    let mut writer = arrow_json::WriterBuilder::new()
        .with_explicit_nulls(true)
        .build::<_, arrow_json::writer::JsonArray>(Vec::new());
    writer.write(batch).and_then(|()| writer.finish()).map_err(|error| error.to_string())?;
    serde_json::from_slice(&writer.into_inner()).map_err(|error| error.to_string())
}
