//! A module bound to a schema, a config and assets, and its instances.
//!
//! A segment gets a fresh instance, which is bound again and must answer as it did when the revision was checked. Where the
//! plan says `reusable`, instances that did not fail are kept for the next segment instead.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::Array;
use arrow_schema::{DataType, SchemaRef};
use forebay_model::plan::{InputSource, Plan};
use forebay_model::ports::{
    BatchInput, BoundTransform, SegmentContext, TransformError, TransformFailure, TransformInstance, TransformOutput,
};

use crate::guest::{Guest, Surroundings};
use crate::module::Compiled;
use crate::plan;

/// A bound module.
pub(crate) struct Bound(Arc<Shared>);

struct Shared {
    compiled: Arc<Compiled>,
    around: Surroundings,
    input: SchemaRef,
    /// What `bind` was given.
    schema_message: Vec<u8>,
    config: String,
    plan: Arc<Plan>,
    /// The type of each input column of the plan; none for a required one that the schema lacks.
    types: Vec<Option<DataType>>,
    kept: Mutex<Vec<Guest>>,
}

impl fmt::Debug for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bound").field("module", &self.0.around.name).field("plan", &self.0.plan).finish_non_exhaustive()
    }
}

impl Bound {
    /// `guest` has answered `bind` with this plan.
    pub(crate) fn new(
        compiled: Arc<Compiled>,
        around: Surroundings,
        input: SchemaRef,
        schema_message: Vec<u8>,
        config: String,
        plan: Plan,
        guest: Guest,
    ) -> Self {
        let type_of = |column: &forebay_model::plan::InputColumn| match column.source {
            InputSource::Column => input.column_with_name(&column.name).map(|(_, field)| field.data_type().clone()),
            InputSource::RecordKey
            | InputSource::RecordHeaders
            | InputSource::RecordTimestamp
            | InputSource::RecordPosition
            | InputSource::RecordObject => column.source.data_type(),
        };
        let types = plan.inputs.iter().map(type_of).collect();
        let shared = Shared {
            compiled,
            around,
            schema_message,
            config,
            plan: Arc::new(plan),
            types,
            input,
            kept: Mutex::default(),
        };
        shared.keep(guest);
        Self(Arc::new(shared))
    }
}

impl Shared {
    fn keep(&self, guest: Guest) {
        if self.plan.reusable {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() < self.around.limits.kept_instances {
                kept.push(guest);
            }
        }
    }

    fn kept(&self) -> Option<Guest> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    /// A new instance, bound, with the plan that the revision was checked with.
    fn fresh(&self) -> Result<Guest, TransformError> {
        let mut guest = self.compiled.instantiate(&self.around)?;
        let answer = guest.bind(&self.schema_message, &self.config).map_err(|error| {
            let TransformError { failure: _, message, backtrace } = error;
            TransformError { backtrace, ..instance_failure(format!("bind failed: {message}")) }
        })?;
        let limits = &self.around.limits;
        let plan = match answer {
            Ok(draft) => plan::check(&self.around.name, draft, &self.input, limits)
                .map_err(|error| instance_failure(format!("bind answers a plan that does not fit: {error}")))?,
            Err(refusal) => return Err(instance_failure(format!("bind refuses now: {}", refusal.message))),
        };
        if plan != *self.plan {
            return Err(instance_failure("bind answers another plan than when the revision was checked".into()));
        }
        Ok(guest)
    }

    /// Whether the batch is of the plan: only the host itself can be wrong here.
    fn check(&self, input: &BatchInput) -> Result<(), String> {
        let BatchInput { rows, columns, numbers } = input;
        if columns.len() != self.plan.inputs.len() || numbers.len() != *rows {
            let (due, columns, numbers) = (self.plan.inputs.len(), columns.len(), numbers.len());
            return Err(format!("{rows} rows with {numbers} numbers and {columns} columns where {due} are due"));
        }
        for ((column, planned), data_type) in columns.iter().zip(&self.plan.inputs).zip(&self.types) {
            let name = &planned.name;
            let Some(data_type) = data_type else { return Err(format!("the input has no column {name:?}")) };
            if column.len() != *rows || column.data_type() != data_type {
                return Err(format!("column {name:?} is not {rows} values of {data_type}"));
            }
            if planned.required && column.logical_null_count() > 0 {
                return Err(format!("the required column {name:?} has nulls"));
            }
        }
        Ok(())
    }
}

fn instance_failure(message: String) -> TransformError {
    TransformError { failure: TransformFailure::Instance, message, backtrace: Vec::new() }
}

impl BoundTransform for Bound {
    fn plan(&self) -> &Plan {
        &self.0.plan
    }

    fn input(&self) -> &SchemaRef {
        &self.0.input
    }

    fn instance(&self, segment: &SegmentContext) -> Result<Box<dyn TransformInstance>, TransformError> {
        let guest = match self.0.kept() {
            Some(guest) => guest,
            None => self.0.fresh()?,
        };
        Ok(Box::new(Instance { guest: Some(guest), shared: Arc::clone(&self.0), segment: segment.clone() }))
    }
}

/// An instance at work on a segment.
struct Instance {
    /// None once it failed.
    guest: Option<Guest>,
    shared: Arc<Shared>,
    segment: SegmentContext,
}

impl TransformInstance for Instance {
    fn process(&mut self, input: &BatchInput) -> Result<TransformOutput, TransformError> {
        if input.rows == 0 && self.shared.types.contains(&None) {
            // A required column is missing, so all rows were rejected, and there is no type to send none of them in.
            return Ok(TransformOutput::default());
        }
        self.shared.check(input).map_err(|reason| instance_failure(format!("sandbox: {reason}")))?;
        let Some(mut guest) = self.guest.take() else {
            return Err(instance_failure("sandbox: the instance has failed before".into()));
        };
        let output = guest.process(&self.shared.plan, &self.segment, input)?;
        self.guest = Some(guest);
        Ok(output)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if let Some(guest) = self.guest.take() {
            self.shared.keep(guest);
        }
    }
}
