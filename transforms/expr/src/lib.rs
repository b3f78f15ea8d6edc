//! Filters, computed columns, routes and rejects by SQL expressions in the config, for those who write no Rust. `docs/expr.md` is the
//! language's page.
//!
//! An expression is parsed and given types when the rule is bound; what is wrong with it is told with a caret under the place. What is
//! bound never fails on a row but by what the config says: a reject's condition, or a strict `cast`. Null is SQL's, and what has no
//! result (an overflow, a division by zero) is null.
//!
//! The way of an expression: [`token`], [`parser`] ▶ [`ast`], [`check`] ▶ [`node`], [`eval`] over the columns of a batch.

#![forbid(unsafe_code)]
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "types, tokens and nodes: an operation names those that it takes, and has one answer for all others"
)]

mod ast;
mod bind;
mod check;
mod config;
mod eval;
mod like;
mod node;
mod number;
mod order;
mod parser;
mod problem;
mod rule;
mod time;
mod token;
mod types;

use forebay_sdk::{AssetWant, Batch, BindError, InputSchema, Output, Plan, RuleError, Transform, export};

pub use config::{Config, RejectConfig, RouteConfig};

/// The rule.
#[derive(Debug)]
pub struct Expr {
    rule: rule::Rule,
}

impl Transform for Expr {
    type Config = Config;

    const ASSETS: &'static [AssetWant] =
        &[AssetWant::any("A list that `in` looks a value up in: one value a line; `#` begins a comment.")];

    fn new(config: Config, input: &InputSchema) -> Result<(Self, Plan), BindError> {
        let (rule, plan) = bind::bind(&config, input)?;
        Ok((Self { rule }, plan))
    }

    fn process(&mut self, batch: &Batch, output: &mut Output) -> Result<(), RuleError> {
        self.rule.process(batch, output)
    }
}

export!(Expr);

#[cfg(test)]
mod tests;
