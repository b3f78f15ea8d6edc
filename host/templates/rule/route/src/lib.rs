//! Sends refunds, large payments and all others each to a table of their own.
//!
//! Reads `amount`, which each payment must have. A negative amount goes to the route `refunds`, one above `large_above` to the
//! route `large`, any other one to `out`; each passes with all its columns. A route is given a table, or `"discard"`, in the
//! pipeline's config.

#![forbid(unsafe_code)]

use forebay_sdk::build::Mask;
use forebay_sdk::{Batch, BindError, InputSchema, Output, Plan, Row, RuleError, Transform, export};
use schemars::JsonSchema;
use serde::Deserialize;

/// The config of the step: `config = { large_above = 1000.0 }`.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Config {
    /// Payments above this are large.
    large_above: f64,
}

/// The columns that the rule reads. One that may be missing or null is an `Option`.
#[derive(Row)]
struct Payment {
    amount: f64,
}

/// The rule.
#[derive(Debug)]
pub struct Route {
    large_above: f64,
}

const ROUTES: [&str; 3] = ["out", "large", "refunds"];

impl Route {
    fn of(&self, payment: &Payment) -> &'static str {
        let [out, large, refunds] = ROUTES;
        if payment.amount < 0.0 {
            refunds
        } else if payment.amount > self.large_above {
            large
        } else {
            out
        }
    }
}

impl Transform for Route {
    type Config = Config;

    fn new(config: Config, input: &InputSchema) -> Result<(Self, Plan), BindError> {
        let mut plan = Plan::new(input).row::<Payment>();
        for route in ROUTES {
            plan = plan.route(route, |columns| columns.pass_all());
        }
        Ok((Self { large_above: config.large_above }, plan))
    }

    fn process(&mut self, batch: &Batch, output: &mut Output) -> Result<(), RuleError> {
        let routes: Vec<&str> = Payment::rows(batch)?.map(|payment| self.of(&payment)).collect();
        for route in ROUTES {
            output.keep(route, &Mask::from_fn(batch.rows(), |row| routes[row] == route))?;
        }
        Ok(())
    }
}

export!(Route);

#[cfg(test)]
mod tests;
