//! Keeps the payments that are worth looking at.
//!
//! Reads `amount`, which each payment must have. A payment of `at_least` or more passes, with all its columns, on the route `out`;
//! a smaller one is filtered. A negative amount is rejected with a reason, so that somebody sees it.

#![forbid(unsafe_code)]

use forebay_sdk::build::Mask;
use forebay_sdk::{Batch, BindError, InputSchema, Output, Plan, Row, RuleError, Transform, export};
use schemars::JsonSchema;
use serde::Deserialize;

/// The config of the step: `config = { at_least = 10.0 }`.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Config {
    /// Smaller payments are filtered.
    at_least: f64,
}

/// The columns that the rule reads. One that may be missing or null is an `Option`.
#[derive(Row)]
struct Payment {
    amount: f64,
}

/// The rule.
#[derive(Debug)]
pub struct Filter {
    at_least: f64,
}

impl Transform for Filter {
    type Config = Config;

    fn new(config: Config, input: &InputSchema) -> Result<(Self, Plan), BindError> {
        let plan = Plan::new(input).row::<Payment>().route("out", |columns| columns.pass_all());
        Ok((Self { at_least: config.at_least }, plan))
    }

    fn process(&mut self, batch: &Batch, output: &mut Output) -> Result<(), RuleError> {
        let mut keep = Vec::with_capacity(batch.rows());
        for (row, payment) in Payment::rows(batch)?.enumerate() {
            if payment.amount < 0.0 {
                output.reject(row, "negative_amount", "a payment is not negative");
            }
            keep.push(payment.amount >= self.at_least);
        }
        output.keep("out", &Mask::from_fn(batch.rows(), |row| keep[row]))
    }
}

export!(Filter);

#[cfg(test)]
mod tests;
