//! A rule under test, and the part of the host that it sees.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use serde_json::Value;

use super::case::CaseSegment;
use super::input;
use super::outcome::Outcome;
use super::run::Run;
use crate::error::BindError;
use crate::guest;
use crate::host::native;
use crate::plan;
use crate::schema;
use crate::transform::Module;

/// Rows of the largest batch, as the host has it.
pub(super) const BATCH: usize = 8192;

/// Why a test came to no outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HarnessError {
    /// The test's own input or assets.
    Test(String),
    /// The rule did not bind.
    Bind(BindError),
    /// The rule returned an error for a batch.
    Rule(String),
    /// The rule emitted what the host would not take.
    Output(String),
    /// The answer for a row depends on the batch that it is in.
    Splits(String),
}

impl std::fmt::Display for HarnessError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Test(message) => write!(f, "the test: {message}"),
            Self::Bind(error) => write!(f, "the rule does not bind: {error}"),
            Self::Rule(message) => write!(f, "the rule failed: {message}"),
            Self::Output(message) => write!(f, "the rule's output is not valid: {message}"),
            Self::Splits(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for HarnessError {}

/// A rule, its config, assets and rows.
pub struct Harness<T> {
    config: Value,
    assets: BTreeMap<String, Vec<u8>>,
    declared: BTreeMap<String, DataType>,
    rows: Result<input::Rows, String>,
    columns: Vec<(String, ArrayRef)>,
    pub(super) record: Vec<(plan::Source, ArrayRef)>,
    pub(super) landed_at: i64,
    pub(super) seed: u64,
    rule: PhantomData<fn() -> T>,
}

// By hand, since a derive would ask the rule to be `Clone` and `Debug`.
impl<T> Clone for Harness<T> {
    fn clone(&self) -> Self {
        let Self { config, assets, declared, rows, columns, record, landed_at, seed, rule } = self;
        Self {
            config: config.clone(),
            assets: assets.clone(),
            declared: declared.clone(),
            rows: rows.clone(),
            columns: columns.clone(),
            record: record.clone(),
            landed_at: *landed_at,
            seed: *seed,
            rule: *rule,
        }
    }
}

impl<T> std::fmt::Debug for Harness<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Harness").field("config", &self.config).field("rows", &self.rows).finish_non_exhaustive()
    }
}

impl<T: Module> Default for Harness<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Module> Harness<T> {
    /// A rule with an empty config, no assets and no rows.
    #[must_use]
    pub fn new() -> Self {
        Self {
            config: Value::Object(serde_json::Map::new()),
            assets: BTreeMap::new(),
            declared: BTreeMap::new(),
            rows: Ok(vec![]),
            columns: vec![],
            record: vec![],
            landed_at: CaseSegment::LANDED_AT,
            seed: CaseSegment::SEED,
            rule: PhantomData,
        }
    }

    /// The config of the step.
    #[must_use]
    pub fn config(mut self, config: Value) -> Self {
        self.config = config;
        self
    }

    /// An asset and its content.
    #[must_use]
    pub fn asset(mut self, name: &str, content: impl Into<Vec<u8>>) -> Self {
        self.assets.insert(name.to_owned(), content.into());
        self
    }

    /// The type of a column of the text input, instead of the inferred one; also a column that no row has.
    #[must_use]
    pub fn declare(mut self, column: &str, data_type: DataType) -> Self {
        self.declared.insert(column.to_owned(), data_type);
        self
    }

    /// The rows, as JSON lines or a JSON array of objects.
    #[must_use]
    pub fn input_json(mut self, text: &str) -> Self {
        self.rows = input::json(text);
        self
    }

    /// The rows, as CSV with a header; an empty cell is null.
    #[must_use]
    pub fn input_csv(mut self, text: &str) -> Self {
        self.rows = input::csv(text);
        self
    }

    /// A column as Arrow has it, beside those of the text, for types that text does not lead to:
    /// `.column("id", UInt64Array::from(vec![1, 2]))`.
    #[must_use]
    pub fn column(mut self, name: &str, values: impl Array + 'static) -> Self {
        self.columns.push((name.to_owned(), arrow_array::make_array(values.to_data())));
        self
    }

    /// What is the records' own, one value a row.
    #[must_use]
    pub fn record(mut self, source: plan::Source, values: impl Array + 'static) -> Self {
        self.record.push((source, arrow_array::make_array(values.to_data())));
        self
    }

    /// When the segment landed, in microseconds since 1970-01-01T00:00:00Z; 2026-01-01 unless a test says otherwise.
    #[must_use]
    pub fn landed_at(mut self, micros: i64) -> Self {
        self.landed_at = micros;
        self
    }

    /// The segment's seed.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Binds the rule and runs it over all rows.
    ///
    /// # Errors
    /// [`HarnessError`]: the rule does not bind, fails, or emits what the host would refuse.
    pub fn run(&self) -> Result<Outcome, HarnessError> {
        let input = self.batch()?;
        let records: Vec<_> = (0..input.num_rows()).collect();
        let calls: Vec<_> = records.chunks(BATCH).map(<[usize]>::to_vec).collect();
        self.run_calls(&input, &calls)
    }

    /// All rows, as Arrow.
    pub(super) fn batch(&self) -> Result<RecordBatch, HarnessError> {
        let rows = self.rows.as_ref().map_err(|error| HarnessError::Test(error.clone()))?;
        let mut fields = Vec::new();
        let mut columns = Vec::new();
        if !rows.is_empty() || !self.declared.is_empty() {
            let batch = input::batch(rows, &self.declared).map_err(HarnessError::Test)?;
            fields.extend(batch.schema().fields().iter().cloned());
            columns.extend(batch.columns().iter().cloned());
        }
        for (name, values) in &self.columns {
            fields.push(Arc::new(Field::new(name, values.data_type().clone(), true)));
            columns.push(Arc::clone(values));
        }
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
            .map_err(|error| HarnessError::Test(format!("the input: {error}")))
    }

    /// Runs a fresh instance over calls, each a list of records.
    pub(super) fn run_calls(&self, input: &RecordBatch, calls: &[Vec<usize>]) -> Result<Outcome, HarnessError> {
        self.check_assets()?;
        native::begin(self.assets.clone());
        let message = schema::encode(&input.schema());
        let mut bound = guest::bind::<T>(&message, &self.config.to_string()).map_err(HarnessError::Bind)?;
        let mut run = Run::new(self, input, &bound)?;
        for records in calls {
            run.call(&mut bound, records)?;
        }
        Ok(run.finish())
    }

    fn check_assets(&self) -> Result<(), HarnessError> {
        let wanted = T::ASSETS;
        if let Some(missing) = wanted.iter().find(|want| want.required && !self.assets.contains_key(want.name)) {
            return Err(HarnessError::Test(format!("the rule requires the asset {:?}", missing.name)));
        }
        match self.assets.keys().find(|name| !wanted.iter().any(|want| want.is_of(name))) {
            Some(unknown) => Err(HarnessError::Test(format!("the rule does not declare the asset {unknown:?}"))),
            None => Ok(()),
        }
    }
}
