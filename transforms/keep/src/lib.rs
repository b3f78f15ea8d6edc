//! Keeps the rows whose column meets a condition, and drops the others.
//!
//! `config = { column = "level", equals = "error" }`. Conditions are `equals` (text, a number or a Boolean), `above` and `below`
//! (numbers), `contains` (a piece of text); where several are given, all must hold. They are checked against the column's type
//! when the rule is bound. Numbers compare as Float64, but for `equals` between integers, which is exact.
//!
//! `nulls` says what becomes of rows without a value: `"reject"` (the default: they go to the rejects, with their raw text), `"drop"` or `"keep"`.
//! One route, `out`, with all columns.

#![forbid(unsafe_code)]

use forebay_sdk::arrow::DataType;
use forebay_sdk::build::Mask;
use forebay_sdk::text::Finder;
use forebay_sdk::{Batch, BindError, Column, InputSchema, Kind, Output, Plan, RuleError, Transform, export};
use schemars::JsonSchema;
use serde::Deserialize;

/// The config of the step.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Config {
    /// The column to look at.
    column: String,
    /// Keeps rows whose value is this.
    equals: Option<Equals>,
    /// Keeps rows whose value is larger.
    above: Option<f64>,
    /// Keeps rows whose value is smaller.
    below: Option<f64>,
    /// Keeps rows whose text has this in it.
    contains: Option<String>,
    /// What becomes of rows without a value.
    #[serde(default)]
    nulls: OnNull,
}

/// What a column is compared with.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Equals {
    Bool(bool),
    Integer(i64),
    Number(f64),
    Text(String),
}

/// What becomes of rows without a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum OnNull {
    /// Rejected, as rows that a later revision may accept.
    #[default]
    Reject,
    /// Filtered.
    Drop,
    /// Kept.
    Keep,
}

/// A condition, typed.
#[derive(Debug)]
enum Condition {
    Text(String),
    Contains(Box<Finder>),
    Bool(bool),
    Integer(i128),
    Number(f64),
    Above(f64),
    Below(f64),
}

impl Condition {
    fn kind(&self) -> Kind {
        match self {
            Self::Text(_) | Self::Contains(_) => Kind::Str,
            Self::Bool(_) => Kind::Bool,
            Self::Integer(_) => Kind::Decimal,
            Self::Number(_) | Self::Above(_) | Self::Below(_) => Kind::F64,
        }
    }

    fn mask(&self, column: Column<'_>, if_null: bool) -> Result<Mask, RuleError> {
        let rows = column.len();
        macro_rules! mask {
            ($view:expr, $test:expr) => {{
                let view = $view;
                Ok(Mask::from_fn(rows, |row| view.get(row).map_or(if_null, $test)))
            }};
        }
        match self {
            Self::Text(wanted) => mask!(column.str()?, |value| value == wanted),
            Self::Contains(finder) => mask!(column.str()?, |value| finder.is_in(value)),
            Self::Bool(wanted) => mask!(column.bool()?, |value| value == *wanted),
            Self::Integer(wanted) => mask!(column.decimal()?.0, |value| value == *wanted),
            Self::Number(wanted) => mask!(column.f64()?, |value| value == *wanted),
            Self::Above(limit) => mask!(column.f64()?, |value| value > *limit),
            Self::Below(limit) => mask!(column.f64()?, |value| value < *limit),
        }
    }
}

/// The rule.
#[derive(Debug)]
pub struct Keep {
    conditions: Vec<Condition>,
    if_null: bool,
}

impl Transform for Keep {
    type Config = Config;

    fn new(config: Config, input: &InputSchema) -> Result<(Self, Plan), BindError> {
        let Config { column, equals, above, below, contains, nulls } = config;
        let integers = input.data_type(&column).is_none_or(DataType::is_integer);
        let equals = equals.map(|equals| match equals {
            Equals::Bool(value) => Condition::Bool(value),
            Equals::Integer(value) if integers => Condition::Integer(i128::from(value)),
            Equals::Integer(value) => Condition::Number(value as f64),
            Equals::Number(value) => Condition::Number(value),
            Equals::Text(value) => Condition::Text(value),
        });
        let contains = contains.map(|text| Condition::Contains(Box::new(Finder::new(&text))));
        let given = [
            ("equals", equals),
            ("above", above.map(Condition::Above)),
            ("below", below.map(Condition::Below)),
            ("contains", contains),
        ];
        let mut conditions = Vec::new();
        for (key, condition) in given {
            let Some(condition) = condition else { continue };
            if let Some(found) = input.data_type(&column).filter(|found| !condition.kind().accepts(found)) {
                let wanted = condition.kind().wanted();
                return Err(BindError::new(format!("it wants {wanted}, and column {column:?} is {found}"))
                    .place(format!("config.{key}"))
                    .hint("compare with a value of the column's type, or name another column"));
            }
            conditions.push(condition);
        }
        let Some(first) = conditions.first() else {
            return Err(BindError::new("no condition is given")
                .place("config")
                .hint("add equals, above, below or contains"));
        };
        let plan = Plan::new(input);
        let plan = match nulls {
            OnNull::Reject => plan.require_as("value", &column, first.kind()),
            OnNull::Drop | OnNull::Keep => plan.optional_as("value", &column, first.kind()),
        };
        let plan = plan.route("out", |columns| columns.pass_all());
        Ok((Self { conditions, if_null: nulls == OnNull::Keep }, plan))
    }

    fn process(&mut self, batch: &Batch, output: &mut Output) -> Result<(), RuleError> {
        let mut kept = Mask::from_fn(batch.rows(), |_| batch.column("value").is_some() || self.if_null);
        if let Some(column) = batch.column("value") {
            for condition in &self.conditions {
                kept = kept & condition.mask(column, self.if_null)?;
            }
        }
        output.keep("out", &kept)
    }
}

export!(Keep);

#[cfg(test)]
mod tests;
