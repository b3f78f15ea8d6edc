//! A bad row costs one row (promise 4).
//!
//! When a call traps, nothing of it counts, and its rows are tried again in halves, each with a fresh instance, until the
//! guilty rows stand alone. That is allowed because a rule's answer depends on the row alone. More guilty rows than
//! [`MAX_GUILTY`] in a batch, or a call with more than one row that runs out of its time, fail the segment: then the rule is
//! at fault, and trying each row would take hours. So does a rule that fails on rows together and not on each alone, once
//! more calls have failed than so many guilty rows explain.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use forebay_model::ports::{
    BatchInput, BoundTransform, SegmentContext, TransformError, TransformFailure, TransformInstance, TransformOutput,
};

use crate::metrics::Histogram;

/// Guilty rows that a batch may have; one more fails the segment.
pub const MAX_GUILTY: usize = 32;

/// What a call for some rows of the batch came to.
#[derive(Debug)]
pub struct Part {
    /// The rows, by index into the batch.
    pub rows: Range<usize>,
    /// What was emitted and refused for them; indexes are relative to the range.
    pub output: TransformOutput,
}

/// A batch, tried until every row has an answer.
#[derive(Debug, Default)]
pub struct Bisected {
    /// In the order of rows.
    pub parts: Vec<Part>,
    /// Rows that failed alone, with why.
    pub guilty: Vec<(usize, TransformError)>,
}

/// Why the segment fails.
#[derive(Debug)]
pub enum SegmentAtFault {
    /// An instance could not be made: no row is to blame.
    Instance(TransformError),
    /// A call of many rows ran out of its time.
    Timeout {
        /// How many rows the call had.
        rows: usize,
        /// What the sandbox said.
        error: TransformError,
    },
    /// Too many rows fail.
    TooMany {
        /// What the first of them said.
        first: TransformError,
    },
    /// It fails on rows together, and not on each of them alone.
    Together {
        /// How many rows the last call had.
        rows: usize,
        /// What the sandbox said.
        error: TransformError,
    },
}

/// An instance that is made when it is first needed, and again after each failure.
pub struct Seat<'a> {
    transform: &'a dyn BoundTransform,
    context: &'a SegmentContext,
    instance: Option<Box<dyn TransformInstance>>,
    /// Where the time of calls is counted.
    pub(super) calls: Option<Arc<Histogram>>,
}

impl<'a> Seat<'a> {
    /// An empty seat for a segment.
    #[must_use]
    pub fn new(transform: &'a dyn BoundTransform, context: &'a SegmentContext) -> Self {
        Self { transform, context, instance: None, calls: None }
    }

    fn process(&mut self, input: &BatchInput) -> Result<TransformOutput, TransformError> {
        let mut instance = match self.instance.take() {
            Some(instance) => instance,
            None => self.transform.instance(self.context)?,
        };
        let from = Instant::now();
        let output = instance.process(input);
        if let Some(calls) = &self.calls {
            calls.observe(from.elapsed());
        }
        let output = output?;
        // Only an instance that returned may be entered again.
        self.instance = Some(instance);
        Ok(output)
    }
}

/// Processes a batch, isolating the rows that trap.
///
/// # Errors
/// [`SegmentAtFault`].
pub fn process(seat: &mut Seat<'_>, input: &BatchInput) -> Result<Bisected, SegmentAtFault> {
    let mut bisected = Bisected::default();
    // A stack of ranges, the first rows on top, so that parts come in order.
    let mut waiting: Vec<Range<usize>> = Vec::new();
    waiting.push(0..input.rows);
    // On the way to a guilty row one call fails for each time that the batch can be halved, and one for the row.
    let halvings = (usize::BITS - input.rows.leading_zeros()) as usize;
    let mut failed = 0;
    while let Some(rows) = waiting.pop() {
        if rows.is_empty() {
            continue;
        }
        match seat.process(&slice(input, &rows)) {
            Ok(output) => bisected.parts.push(Part { rows, output }),
            Err(error) => match error.failure {
                TransformFailure::Instance => return Err(SegmentAtFault::Instance(error)),
                TransformFailure::Timeout if rows.len() > 1 => {
                    return Err(SegmentAtFault::Timeout { rows: rows.len(), error });
                }
                TransformFailure::Trap
                | TransformFailure::Timeout
                | TransformFailure::InvalidOutput
                | TransformFailure::RuleError => {
                    failed += 1;
                    if rows.len() > 1 && failed > MAX_GUILTY * (halvings + 1) {
                        return Err(SegmentAtFault::Together { rows: rows.len(), error });
                    }
                    if rows.len() == 1 {
                        bisected.guilty.push((rows.start, error));
                        if bisected.guilty.len() > MAX_GUILTY {
                            let (_, first) = bisected.guilty.swap_remove(0);
                            return Err(SegmentAtFault::TooMany { first });
                        }
                    } else {
                        let middle = rows.start + rows.len() / 2;
                        waiting.push(middle..rows.end);
                        waiting.push(rows.start..middle);
                    }
                }
            },
        }
    }
    Ok(bisected)
}

fn slice(input: &BatchInput, rows: &Range<usize>) -> BatchInput {
    if rows.len() == input.rows {
        return input.clone();
    }
    BatchInput {
        rows: rows.len(),
        columns: input.columns.iter().map(|column| column.slice(rows.start, rows.len())).collect(),
        numbers: input.numbers.get(rows.clone()).map(<[u64]>::to_vec).unwrap_or_default(),
    }
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "tests")]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use arrow_schema::{Schema, SchemaRef};
    use forebay_model::Timestamp;
    use forebay_model::plan::Plan;
    use forebay_model::ports::{Emission, Selection};

    /// Fails for rows that a function picks, by their record numbers.
    #[derive(Debug)]
    struct Picky {
        fails: Fails,
        plan: Plan,
        schema: SchemaRef,
        made: AtomicUsize,
    }

    type Fails = fn(&[u64]) -> Option<TransformFailure>;

    struct PickyInstance(Fails);

    impl TransformInstance for PickyInstance {
        fn process(&mut self, input: &BatchInput) -> Result<TransformOutput, TransformError> {
            if let Some(failure) = (self.0)(&input.numbers) {
                return Err(TransformError { failure, message: "no".into(), backtrace: vec![] });
            }
            let emission = Emission { route: 0, selection: Selection::All, computed: vec![] };
            Ok(TransformOutput { emissions: vec![emission], ..Default::default() })
        }
    }

    impl BoundTransform for Picky {
        fn plan(&self) -> &Plan {
            &self.plan
        }
        fn input(&self) -> &SchemaRef {
            &self.schema
        }
        fn instance(&self, _: &SegmentContext) -> Result<Box<dyn TransformInstance>, TransformError> {
            self.made.fetch_add(1, Ordering::Relaxed);
            Ok(Box::new(PickyInstance(self.fails)))
        }
    }

    fn run(rows: u64, fails: Fails) -> (Result<Bisected, SegmentAtFault>, usize) {
        let transform = Picky {
            fails,
            plan: Plan { inputs: vec![], routes: vec![], reusable: false },
            schema: Arc::new(Schema::empty()),
            made: AtomicUsize::new(0),
        };
        let context = SegmentContext {
            stream: "s".into(),
            segment: "s/1".into(),
            partition: "p".into(),
            first_position: "0".into(),
            landed_at: Timestamp::EPOCH,
            seed: 1,
        };
        let input =
            BatchInput { rows: usize::try_from(rows).expect("small"), columns: vec![], numbers: (0..rows).collect() };
        let result = process(&mut Seat::new(&transform, &context), &input);
        (result, transform.made.load(Ordering::Relaxed))
    }

    #[test]
    fn the_seventh_of_each_thousand_stands_alone_and_every_other_row_has_an_answer() {
        let (result, _) = run(8192, |all| all.iter().any(|n| *n % 1000 == 7).then_some(TransformFailure::Trap));
        let bisected = result.expect("isolates");
        let guilty: Vec<_> = bisected.guilty.iter().map(|(row, _)| *row).collect();
        assert_eq!(guilty, [7, 1007, 2007, 3007, 4007, 5007, 6007, 7007, 8007]);
        let mut next = 0;
        for part in &bisected.parts {
            for row in part.rows.clone() {
                while guilty.contains(&next) {
                    next += 1;
                }
                assert_eq!(row, next, "rows come in order, each once");
                next += 1;
            }
        }
        assert_eq!(next, 8192);
    }

    #[test]
    fn a_rule_that_traps_on_every_row_fails_the_segment_after_few_calls() {
        let (result, made) = run(8192, |_| Some(TransformFailure::Trap));
        assert!(matches!(result, Err(SegmentAtFault::TooMany { .. })));
        assert!(made < 150, "{made} instances");
    }

    #[test]
    fn thirty_two_guilty_rows_are_allowed_and_thirty_three_are_not() {
        assert!(run(8192, |all| all.iter().any(|n| *n < 32).then_some(TransformFailure::Trap)).0.is_ok());
        assert!(run(8192, |all| all.iter().any(|n| *n < 33).then_some(TransformFailure::Trap)).0.is_err());
    }

    #[test]
    fn guilty_rows_as_far_apart_as_can_be_are_found() {
        let (result, _) = run(8192, |all| all.iter().any(|n| *n % 256 == 0).then_some(TransformFailure::Trap));
        assert_eq!(result.expect("isolates").guilty.len(), 32);
    }

    #[test]
    fn a_rule_that_fails_on_rows_together_and_on_none_alone_fails_the_segment_after_few_calls() {
        let (result, made) = run(8192, |all| (all.len() > 1).then_some(TransformFailure::InvalidOutput));
        assert!(matches!(result, Err(SegmentAtFault::Together { .. })));
        assert!(made < 1_000, "{made} instances");
    }

    #[test]
    fn a_slow_call_of_many_rows_is_not_tried_row_by_row() {
        let (result, made) = run(100, |all| all.contains(&50).then_some(TransformFailure::Timeout));
        assert!(matches!(result, Err(SegmentAtFault::Timeout { rows: 100, .. })));
        assert_eq!(made, 1);
        assert_eq!(run(1, |_| Some(TransformFailure::Timeout)).0.expect("alone").guilty.len(), 1);
    }

    #[test]
    fn an_instance_that_cannot_be_made_blames_no_row() {
        let (result, _) = run(100, |_| Some(TransformFailure::Instance));
        assert!(matches!(result, Err(SegmentAtFault::Instance(_))));
    }
}
