//! A rule for card payments: a score, a reason and a flag for each.
//!
//! Reads `v14`, `v17` and `amount`, which each payment must have, and `country`, which it may have; `columns` in the config
//! gives other names, and case does not matter. A payment is flagged where
//!
//! - `v14` lies below `v14_below`: reason `v14_below_limit`; else
//! - the amount lies above `amount_above` and the country is blocked: reason `amount_in_blocked_country`.
//!
//! The blocked countries are the lines of the asset `blocked`, or else `blocked_countries` in the config. Routes: `scored` has
//! every payment with all its columns and `score`, `reason`, `flagged`; `flagged` has the flagged ones alone. The counter
//! `payments_flagged` says how many there were.

#![forbid(unsafe_code)]

use forebay_sdk::arrow::DataType;
use forebay_sdk::build::{Label, Mask, StringBuilder};
use forebay_sdk::text::FastSet;
use forebay_sdk::{
    Asset, AssetWant, Batch, BindError, ColumnNames, Columns, InputSchema, Output, Plan, Row, RuleError, Transform,
    count, export,
};
use schemars::JsonSchema;
use serde::Deserialize;

static V14: Label = Label::new("v14_below_limit");
static COUNTRY: Label = Label::new("amount_in_blocked_country");
static NONE: Label = Label::new("none");

/// Where amounts are suspicious, unless the config says otherwise.
const BLOCKED: [&str; 5] = ["KP", "IR", "SY", "CU", "RU"];

/// The config of the step.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Config {
    /// A payment whose `v14` lies below this is flagged.
    v14_below: f64,
    /// A payment of more than this from a blocked country is flagged.
    amount_above: f64,
    /// Blocked countries, as the data spells them. Leave it out where the asset `blocked` lists them.
    blocked_countries: Option<Vec<String>>,
    /// The data's names for `v14`, `v17`, `amount` and `country`, where they differ by more than case.
    columns: ColumnNames,
}

impl Default for Config {
    fn default() -> Self {
        Self { v14_below: -8.0, amount_above: 2000.0, blocked_countries: None, columns: ColumnNames::default() }
    }
}

#[derive(Row)]
struct Payment<'a> {
    v14: f64,
    v17: f64,
    amount: f64,
    country: Option<&'a str>,
}

/// The rule. It keeps its columns from batch to batch, so that their memory is reused.
#[derive(Debug)]
pub struct Fraud {
    v14_below: f64,
    amount_above: f64,
    blocked: FastSet<String>,
    scores: Vec<f64>,
    reasons: StringBuilder,
    flags: Vec<bool>,
}

impl Fraud {
    /// Why a payment is flagged, if it is.
    fn reason(&self, payment: &Payment<'_>) -> Option<&'static Label> {
        if payment.v14 < self.v14_below {
            Some(&V14)
        } else if payment.amount > self.amount_above && payment.country.is_some_and(|code| self.blocked.contains(code))
        {
            Some(&COUNTRY)
        } else {
            None
        }
    }
}

impl Transform for Fraud {
    type Config = Config;

    const ASSETS: &'static [AssetWant] =
        &[AssetWant::optional("blocked", "Blocked countries, one a line; `#` begins a comment.")];

    fn new(config: Config, input: &InputSchema) -> Result<(Self, Plan), BindError> {
        let with_verdict = |columns: Columns| {
            columns
                .pass_all()
                .computed("score", DataType::Float64)
                .computed("reason", DataType::Utf8)
                .computed("flagged", DataType::Boolean)
        };
        let plan = Plan::new(input)
            .row_named::<Payment<'_>>(&config.columns)
            .route("scored", with_verdict)
            .route("flagged", with_verdict);
        let rule = Self {
            v14_below: config.v14_below,
            amount_above: config.amount_above,
            blocked: blocked(config.blocked_countries)?,
            scores: Vec::new(),
            reasons: StringBuilder::new(),
            flags: Vec::new(),
        };
        Ok((rule, plan))
    }

    fn process(&mut self, batch: &Batch, output: &mut Output) -> Result<(), RuleError> {
        self.scores.clear();
        self.reasons.clear();
        self.flags.clear();
        for payment in Payment::rows(batch)? {
            let reason = self.reason(&payment);
            self.scores.push(payment.amount * 0.001 - payment.v14 * 0.6 - payment.v17 * 0.4);
            self.reasons.push_label(reason.unwrap_or(&NONE));
            self.flags.push(reason.is_some());
        }
        let flags = Mask::from_fn(batch.rows(), |row| self.flags[row]);
        let flagged = flags.selection();
        count("payments_flagged", flagged.len() as u64);
        output.emit_all("scored").column(&self.scores).column(&self.reasons).column(&flags).send()?;
        output.emit_rows("flagged", &flagged).pick(&self.scores).pick(&self.reasons).pick(&flags).send()
    }
}

fn blocked(configured: Option<Vec<String>>) -> Result<FastSet<String>, BindError> {
    match (Asset::open("blocked"), configured) {
        (Some(_), Some(_)) => Err(BindError::new("the blocked countries are given twice")
            .place("config.blocked_countries")
            .hint("leave out the asset \"blocked\" or this key")),
        (Some(asset), None) => Ok(forebay_sdk::lines(&asset.read_text()?).map(str::to_owned).collect()),
        (None, Some(countries)) => Ok(countries.into_iter().collect()),
        (None, None) => Ok(BLOCKED.iter().map(|&country| country.to_owned()).collect()),
    }
}

export!(Fraud);

#[cfg(test)]
mod tests;
