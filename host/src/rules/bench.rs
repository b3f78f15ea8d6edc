//! What a rule costs: calls with batches as large as a pipeline's, measured in the sandbox.
//!
//! A case's rows are repeated until they fill batches. A call is timed from the host's columns to the host's columns; what of it the
//! rule does not run itself is the boundary. Contenders take turns, round by round, so that a machine that is busy for a while is
//! busy for all of them, and of the rounds the median counts.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{StringArray, UInt32Array};
use forebay_model::ports::Module;
use forebay_model::{DecodedBatch, Error, Result};
use forebay_pipeline::refine::apply::RefusedBy;
use forebay_pipeline::refine::rows::{Rows, take_batch};
use forebay_pipeline::refine::trial::Trial;
use forebay_sandbox::{Meter, Metered};
use forebay_sdk::testing::case::Case;

use super::cases;

/// Rounds that count.
const ROUNDS: usize = 11;
/// How long calls of a round take together, about: long enough for the clock, and short enough to wait for.
const ROUND: Duration = Duration::from_millis(60);
/// Batches of a round, at most.
const MOST_BATCHES: u32 = 64;

/// A module that is measured.
pub(crate) struct Contender {
    /// Who it is, for people.
    pub(crate) name: String,
    /// Loaded by a sandbox with the meter.
    pub(crate) module: Arc<dyn Module>,
    pub(crate) meter: Arc<Meter>,
}

/// What a contender's calls cost, as medians over rounds.
#[derive(Debug)]
pub(crate) struct Figures {
    pub(crate) rows_per_second: f64,
    pub(crate) ns_per_row: f64,
    /// The part of a call that is not the rule's own, from 0 to 1.
    pub(crate) boundary: f64,
    /// Memory of an instance at the end of its largest call.
    pub(crate) memory_bytes: u64,
    /// How far the slowest and the fastest round lie apart, as a part of the median.
    pub(crate) spread: f64,
}

/// How a case went.
#[derive(Debug)]
pub(crate) struct Benched {
    /// Batches of 8,192 rows in a round.
    pub(crate) batches: u64,
    /// Rounds that counted.
    pub(crate) rounds: u64,
    /// By contender, in their order; why one was not measured.
    pub(crate) figures: Vec<std::result::Result<Figures, String>>,
}

/// One contender at work.
struct Runner<'a> {
    contender: &'a Contender,
    trial: Trial,
    rounds: Vec<Metered>,
}

/// Measures the contenders over a case's rows.
///
/// # Errors
/// Where the case has no rows.
pub(crate) fn bench(contenders: &[Contender], case: &Case) -> Result<Benched> {
    let mut runners: Vec<std::result::Result<Runner<'_>, String>> = Vec::new();
    let mut rows = None;
    for contender in contenders {
        match cases::bind(contender.module.as_ref(), case) {
            Ok((trial, input)) => {
                rows = Some(filled(&input)?);
                runners.push(Ok(Runner { contender, trial, rounds: Vec::new() }));
            }
            Err(error) => runners.push(Err(format!("it does not bind to the case: {}", error.chain()))),
        }
    }
    let Some(rows) = rows else {
        return Ok(Benched { batches: 0, rounds: 0, figures: runners.into_iter().map(measured).collect() });
    };
    let mut batches = 1;
    for runner in &mut runners {
        // Twice: the first call of an instance grows its memory, and what is cold is warm then.
        let warm = match runner {
            Ok(runner) => runner.round(&rows, 2).and_then(|_| runner.round(&rows, 4)),
            Err(_) => continue,
        };
        match warm {
            Ok(Metered { call, .. }) => batches = batches.max(fitting(call / 4)),
            Err(why) => *runner = Err(why),
        }
    }
    for _ in 0..ROUNDS {
        for runner in &mut runners {
            let round = match runner {
                Ok(runner) => runner.round(&rows, batches).map(|round| runner.rounds.push(round)),
                Err(_) => continue,
            };
            if let Err(why) = round {
                *runner = Err(why);
            }
        }
    }
    let figures = runners.into_iter().map(measured).collect();
    Ok(Benched { batches: u64::from(batches), rounds: ROUNDS as u64, figures })
}

fn measured(runner: std::result::Result<Runner<'_>, String>) -> std::result::Result<Figures, String> {
    runner.map(|runner| runner.figures())
}

/// How many calls of this length fill a round.
fn fitting(call: Duration) -> u32 {
    let calls = ROUND.as_nanos() / call.as_nanos().max(1);
    u32::try_from(calls).unwrap_or(MOST_BATCHES).clamp(1, MOST_BATCHES)
}

/// The case's rows, again and again until a batch is full.
fn filled(input: &Rows) -> Result<Rows> {
    let (records, batch) = (input.len(), DecodedBatch::RECORDS as usize);
    if records == 0 {
        return Err(Error::operator("the case has no rows").with_hint("a rule is measured with the rows of its cases"));
    }
    let indexes: UInt32Array =
        (0..batch).map(|row| u32::try_from(row % records).unwrap_or_default()).collect::<Vec<_>>().into();
    let taken = input.take_beside(&indexes, take_batch(&input.batch, &indexes)?)?;
    // A segment's records have numbers of their own, one after the other.
    Ok(Rows { numbers: (0..batch as u64).collect(), rescued: StringArray::new_null(batch), ..taken })
}

impl Runner<'_> {
    fn round(&mut self, rows: &Rows, batches: u32) -> std::result::Result<Metered, String> {
        self.contender.meter.take();
        let size = rows.len() as u64;
        let numbered = (0..u64::from(batches))
            .map(|batch| Rows { numbers: (batch * size..(batch + 1) * size).collect(), ..rows.clone() });
        let tried = self.trial.run(&cases::context(), numbered).map_err(|error| error.chain())?;
        if tried.refused.values().any(|refused| refused.by == RefusedBy::Failure) {
            return Err("it fails on rows of the case: `forebay test` tells which, and why".to_owned());
        }
        Ok(self.contender.meter.take())
    }

    fn figures(&self) -> Figures {
        let of = |figure: fn(&Metered) -> f64| {
            let mut figures: Vec<_> = self.rounds.iter().map(figure).collect();
            figures.sort_by(f64::total_cmp);
            figures
        };
        #[expect(clippy::cast_precision_loss, reason = "rows of a bench")]
        let per_row = of(|round| round.call.as_secs_f64() * 1e9 / (round.rows.max(1) as f64));
        let boundary = of(|round| 1.0 - round.guest.as_secs_f64() / round.call.as_secs_f64().max(f64::MIN_POSITIVE));
        let ns_per_row = median(&per_row);
        let slowest_to_fastest =
            per_row.last().copied().unwrap_or_default() - per_row.first().copied().unwrap_or_default();
        Figures {
            rows_per_second: 1e9 / ns_per_row.max(f64::MIN_POSITIVE),
            ns_per_row,
            boundary: median(&boundary),
            memory_bytes: self.rounds.iter().map(|round| round.memory_bytes as u64).max().unwrap_or_default(),
            spread: slowest_to_fastest / ns_per_row.max(f64::MIN_POSITIVE),
        }
    }
}

/// The one in the middle of sorted figures.
fn median(sorted: &[f64]) -> f64 {
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_is_as_many_calls_as_fill_it() {
        assert_eq!(fitting(Duration::from_millis(20)), 3);
        assert_eq!(fitting(Duration::from_secs(5)), 1);
        assert_eq!(fitting(Duration::from_nanos(1)), MOST_BATCHES);
        assert_eq!(fitting(Duration::ZERO), MOST_BATCHES);
    }

    #[test]
    fn the_median_is_no_mean() {
        assert!((median(&[1.0, 2.0, 900.0]) - 2.0).abs() < f64::EPSILON);
        assert!(median(&[]).abs() < f64::EPSILON);
    }
}
