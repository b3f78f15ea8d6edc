//! Adds the amount in dollars, by a list of rates.
//!
//! Reads `amount` and `currency`. The asset `rates` has a currency and its rate a line: `EUR 1.08`. Each payment passes on the
//! route `out` with all its columns and `amount_usd`, which is null where the currency is in no list. The counter
//! `unknown_currency` says how often that was.

#![forbid(unsafe_code)]

use std::collections::HashMap;

use forebay_sdk::arrow::DataType;
use forebay_sdk::build::NumberBuilder;
use forebay_sdk::{
    Asset, AssetWant, Batch, BindError, InputSchema, Output, Plan, Row, RuleError, Transform, count, export, lines,
};
use schemars::JsonSchema;
use serde::Deserialize;

/// The config of the step: it has no keys. What the rule needs is the asset.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Config {}

/// The columns that the rule reads. One that may be missing or null is an `Option`.
#[derive(Row)]
struct Payment<'a> {
    amount: f64,
    currency: Option<&'a str>,
}

/// The rule. It keeps its column from batch to batch, so that its memory is reused.
#[derive(Debug)]
pub struct Enrich {
    rates: HashMap<String, f64>,
    dollars: NumberBuilder<f64>,
}

impl Transform for Enrich {
    type Config = Config;

    const ASSETS: &'static [AssetWant] = &[AssetWant::required(
        "rates",
        "Dollars for one of each currency, one a line: `EUR 1.08`; `#` begins a comment.",
    )];

    fn new(_: Config, input: &InputSchema) -> Result<(Self, Plan), BindError> {
        let asset = Asset::open("rates").ok_or_else(|| BindError::new("the asset \"rates\" is not there"))?;
        let rates = rates(&asset.read_text()?)?;
        let plan = Plan::new(input)
            .row::<Payment<'_>>()
            .route("out", |columns| columns.pass_all().computed("amount_usd", DataType::Float64));
        Ok((Self { rates, dollars: NumberBuilder::default() }, plan))
    }

    fn process(&mut self, batch: &Batch, output: &mut Output) -> Result<(), RuleError> {
        self.dollars.clear();
        let mut unknown = 0;
        for payment in Payment::rows(batch)? {
            let rate = payment.currency.and_then(|currency| self.rates.get(currency));
            unknown += u64::from(rate.is_none());
            self.dollars.push_option(rate.map(|rate| payment.amount * rate));
        }
        count("unknown_currency", unknown);
        output.emit_all("out").column(&self.dollars).send()
    }
}

fn rates(text: &str) -> Result<HashMap<String, f64>, BindError> {
    let rate = |line: &str| {
        let (currency, rate) = line.split_once(char::is_whitespace)?;
        Some((currency.to_owned(), rate.trim().parse().ok()?))
    };
    lines(text)
        .map(|line| {
            let no_rate = || BindError::new(format!("the asset \"rates\" has a line that is no rate: {line:?}"));
            rate(line).ok_or_else(|| no_rate().hint("write a currency and a number: EUR 1.08"))
        })
        .collect()
}

export!(Enrich);

#[cfg(test)]
mod tests;
