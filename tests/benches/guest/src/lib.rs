//! Two rules on card payments, as functions on a row that the benches compile natively, and as a module that calls the same
//! functions in the sandbox. What differs between the two is the sandbox alone.
//!
//! `{"rule": "strings"}` reads nine columns and weighs them: sets of countries and merchants, a text within a text, a prefix.
//! `{"rule": "numbers"}` reads six columns of numbers. `{"echo": true}` computes the first batch only and then sends what
//! it has, again and again: what such a call takes is the boundary.

#![forbid(unsafe_code)]

use forebay_sdk::arrow::DataType;
use forebay_sdk::build::{Label, Mask, StringBuilder};
use forebay_sdk::text::{FastSet, Finder};
use forebay_sdk::{Batch, BindError, Columns, InputSchema, Output, Plan, Row, RuleError, Transform, export};
use schemars::JsonSchema;
use serde::Deserialize;

/// Which rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Which {
    /// Nine columns, six of them text.
    Strings,
    /// Six columns of numbers.
    Numbers,
}

/// The config of the step.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Config {
    /// Which rule.
    rule: Which,
    /// Whether only the first batch is computed.
    #[serde(default)]
    echo: bool,
}

/// What the rule on text reads.
#[derive(Debug, Row)]
pub struct Payment<'a> {
    /// The payment's id.
    pub event_id: &'a str,
    /// The card.
    pub card: &'a str,
    /// The merchant.
    pub merchant: &'a str,
    /// The country's code.
    pub country: &'a str,
    /// The currency's code.
    pub currency: &'a str,
    /// Where the payment was made.
    pub channel: &'a str,
    /// The amount.
    pub amount: f64,
    /// A principal component.
    pub v14: f64,
    /// A principal component.
    pub v17: f64,
}

/// What the rule on numbers reads.
#[derive(Debug, Clone, Copy, Row)]
pub struct Features {
    /// Seconds.
    pub time: i64,
    /// The amount.
    pub amount: f64,
    /// A principal component.
    pub v1: f64,
    /// A principal component.
    pub v14: f64,
    /// A principal component.
    pub v17: f64,
    /// The label.
    pub class: i64,
}

/// Why a payment is suspicious.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It is not.
    None,
    /// The country is blocked.
    Country,
    /// The merchant is watched.
    Merchant,
    /// Many small signs.
    Score,
}

impl Reason {
    /// As the column says it.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Country => "blocked_country",
            Self::Merchant => "watched_merchant",
            Self::Score => "score_above_limit",
        }
    }

    const LABELS: [Label; 4] = [
        Label::new(Self::None.text()),
        Label::new(Self::Country.text()),
        Label::new(Self::Merchant.text()),
        Label::new(Self::Score.text()),
    ];
}

/// What the rule on text knows.
#[derive(Debug)]
pub struct Lists {
    countries: FastSet<String>,
    merchants: FastSet<String>,
    needle: Finder,
}

impl Default for Lists {
    fn default() -> Self {
        Self {
            countries: ["KP", "IR", "SY", "CU", "RU"].map(str::to_owned).into_iter().collect(),
            merchants: (0..10_000).step_by(37).map(|number| format!("m{number:04}")).collect(),
            needle: Finder::new("dead"),
        }
    }
}

/// The rule on text: a score and why.
#[inline]
#[must_use]
pub fn judge(lists: &Lists, payment: &Payment<'_>) -> (f64, Reason) {
    let blocked = lists.countries.contains(payment.country);
    let watched = lists.merchants.contains(payment.merchant);
    let mut score = payment.amount * 0.001 - payment.v14 * 0.6 - payment.v17 * 0.4;
    if lists.needle.is_in(payment.event_id) {
        score += 2.0;
    }
    if payment.channel == "web" && payment.currency != "EUR" {
        score += 1.0;
    }
    if payment.card.starts_with("c19") {
        score += 0.5;
    }
    let reason = if blocked && payment.amount > 500.0 {
        Reason::Country
    } else if watched && payment.amount > 1_000.0 {
        Reason::Merchant
    } else if score > 6.0 {
        Reason::Score
    } else {
        Reason::None
    };
    (score, reason)
}

/// A payment whose score in the rule on numbers is above this is flagged.
pub const LIMIT: f64 = 0.8;

/// The rule on numbers: a score.
#[inline]
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "seconds and labels are small")]
pub fn weigh(row: Features) -> f64 {
    let Features { time, amount, v1, v14, v17, class } = row;
    let night = if time % 86_400 < 21_600 { 0.7 } else { 0.1 };
    let linear = amount * 0.001 - v14 * 0.6 - v17 * 0.4 + v1 * 0.05 + night + class as f64 * 0.25;
    linear / (1.0 + linear.abs())
}

/// The module.
#[derive(Debug)]
pub struct Rules {
    rule: Which,
    echo: bool,
    lists: Lists,
    scores: Vec<f64>,
    reasons: StringBuilder,
    flags: Mask,
}

impl Transform for Rules {
    type Config = Config;

    fn new(config: Config, input: &InputSchema) -> Result<(Self, Plan), BindError> {
        let plan = Plan::new(input);
        let score = |columns: Columns| columns.pass_all().computed("score", DataType::Float64);
        let plan = match config.rule {
            Which::Strings => plan.row::<Payment<'_>>().route("out", |columns| {
                score(columns).computed("reason", DataType::Utf8).computed("flagged", DataType::Boolean)
            }),
            Which::Numbers => {
                plan.row::<Features>().route("out", |columns| score(columns).computed("flagged", DataType::Boolean))
            }
        };
        let rules = Self {
            rule: config.rule,
            echo: config.echo,
            lists: Lists::default(),
            scores: Vec::new(),
            reasons: StringBuilder::new(),
            flags: Mask::from_fn(0, |_| false),
        };
        Ok((rules, plan))
    }

    fn process(&mut self, batch: &Batch, output: &mut Output) -> Result<(), RuleError> {
        if !(self.echo && self.scores.len() == batch.rows()) {
            self.compute(batch)?;
        }
        let emit = output.emit_all("out").column(&self.scores);
        match self.rule {
            Which::Strings => emit.column(&self.reasons).column(&self.flags).send(),
            Which::Numbers => emit.column(&self.flags).send(),
        }
    }
}

impl Rules {
    fn compute(&mut self, batch: &Batch) -> Result<(), RuleError> {
        let Self { rule, echo: _, lists, scores, reasons, flags } = self;
        scores.clear();
        match rule {
            Which::Strings => {
                reasons.clear();
                let mut rows = Payment::rows(batch)?;
                *flags = Mask::from_fn(batch.rows(), |_| {
                    rows.next().is_some_and(|payment| {
                        let (score, reason) = judge(lists, &payment);
                        scores.push(score);
                        reasons.push_label(&Reason::LABELS[reason as usize]);
                        reason != Reason::None
                    })
                });
            }
            Which::Numbers => {
                scores.resize(batch.rows(), 0.0);
                for (score, row) in scores.iter_mut().zip(Features::rows(batch)?) {
                    *score = weigh(row);
                }
                *flags = Mask::from_fn(batch.rows(), |row| scores[row] > LIMIT);
            }
        }
        Ok(())
    }
}

export!(Rules);
