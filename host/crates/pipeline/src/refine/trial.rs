//! A rule tried on rows, outside any pipeline: there is no revision and no table, and nothing is written.
//!
//! The rows take the way that they would take in a pipeline's step: what the rule requires is checked before it sees a row, a call
//! that fails is bisected, passed columns stand beside computed ones. Every route is seen leaving. Batches may be of any size and
//! order, so that a rule whose answer depends on its batch is found out.

use std::collections::BTreeMap;

use arrow_array::BooleanArray;
use arrow_schema::SchemaRef;
use forebay_model::ports::{Assets, Module, SegmentContext};
use forebay_model::{Error, Result};

use super::apply::{Refusal, RefusedBy, Stepped, apply_step};
use super::bind::{BoundRoute, BoundStep, Leads, inputs, misfit};
use super::bisect::Seat;
use super::rows::Rows;
use crate::metrics::RuleMetrics;

/// A rule bound to a schema, a config and assets.
#[derive(Debug)]
pub struct Trial {
    step: BoundStep,
}

/// A record that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Who refused it.
    pub by: RefusedBy,
    /// The code.
    pub code: String,
    /// The message; after a trap with its backtrace.
    pub message: String,
    /// Whether a later revision may accept it.
    pub retryable: bool,
}

/// What a rule made of rows.
#[derive(Debug, Default)]
pub struct Tried {
    /// The rows of each route, in the order of their records; none of a record that was refused.
    pub routes: Vec<(String, Option<Rows>)>,
    /// Refused records, by their numbers. The first word on each counts.
    pub refused: BTreeMap<u64, Refused>,
    /// What the rule counted and observed.
    pub said: RuleMetrics,
}

impl Trial {
    /// Binds the rule.
    ///
    /// # Errors
    /// Of class operator, where schema, config or assets do not fit.
    pub fn bind(module: &dyn Module, input: &SchemaRef, config: &serde_json::Value, assets: &Assets) -> Result<Self> {
        let name = module.description().name.to_string();
        let transform = module.bind(input, config, assets)?;
        let plan = transform.plan();
        let mut routes = Vec::new();
        for index in 0..plan.routes.len() {
            let (schema, columns) = plan.resolve(index, input).map_err(|why| misfit(&name, &why))?;
            routes.push(BoundRoute { schema, columns, leads: Leads::Target(index) });
        }
        let inputs = inputs(plan, input);
        Ok(Self { step: BoundStep { name, transform, inputs, routes } })
    }

    /// The step, as it was bound.
    #[must_use]
    pub fn step(&self) -> &BoundStep {
        &self.step
    }

    /// Runs one fresh instance over batches. Blocking, bounded by the limits.
    ///
    /// # Errors
    /// What would fail a segment: no instance can be made, a call of many rows runs out of its time, too many rows fail.
    pub fn run(&self, context: &SegmentContext, batches: impl IntoIterator<Item = Rows>) -> Result<Tried> {
        let mut seat = Seat::new(self.step.transform.as_ref(), context);
        let mut parts: Vec<Vec<Rows>> = self.step.routes.iter().map(|_| Vec::new()).collect();
        let mut tried = Tried::default();
        for rows in batches {
            let mut stepped = Stepped::default();
            apply_step(&self.step, &mut seat, "", rows, &mut stepped)?;
            let Stepped { refusals, leaving, said } = stepped;
            tried.said.add(said);
            for Refusal { record, stage: _, by, code, message, retryable } in refusals {
                tried.refused.entry(record).or_insert(Refused { by, code, message, retryable });
            }
            for (route, rows) in leaving {
                parts.get_mut(route).ok_or_else(|| Error::bug("rows left by a route that is not bound"))?.push(rows);
            }
        }
        let names = self.step.transform.plan().routes.iter().map(|route| route.name.clone());
        for ((name, route), parts) in names.zip(&self.step.routes).zip(parts) {
            let gathered = Rows::gather(parts, &route.schema)?;
            let kept = gathered.map(|rows| {
                let keep = rows.numbers.iter().map(|number| Some(!tried.refused.contains_key(number)));
                rows.filter(&BooleanArray::from_iter(keep))
            });
            tried.routes.push((name, kept.transpose()?));
        }
        Ok(tried)
    }
}
