//! From the class of an error to what is done about it: this table, and nothing else, decides.
//!
//! | class | landing | segment | load |
//! |---|---|---|---|
//! | retry | again, after a pause that doubles | again, after a pause that doubles | again, after a pause that doubles |
//! | reject_rows | waits | waits for a change | its group is withdrawn: its segments are refined again each half minute, and shown |
//! | operator | again each half minute, and shown | waits for a change | again each half minute, and shown |
//! | fenced | stops the stream | stops the pipeline | stops the pipeline |
//! | bug | stops the stream | waits for a change | stops the pipeline |
//!
//! *A change* is a new revision, or a person's word. A stream that stops does not touch the others; its pipelines go on
//! with what has landed. A stream or pipeline that stopped is started again after a pause that doubles, unless it was fenced:
//! then its place is another's ([`restart`]). With `run --once` nothing is tried more than [`ONCE_ATTEMPTS`] times, and nothing
//! is started again.

use std::time::Duration;

use forebay_model::ErrorClass;

/// What was being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Polling, landing, listing, journalling, acknowledging.
    Landing,
    /// Refining one segment.
    Segment,
    /// Opening, committing or closing a load, or any other call to the ledger for a pipeline.
    Load,
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The same again, after this pause.
    Again(Duration),
    /// It can never succeed: it is taken back, and its segments are refined again after this pause.
    Withdraw(Duration),
    /// It waits, visible in the ledger, for a change.
    WaitForChange,
    /// Stop this stream or pipeline, saying why.
    Stop,
}

/// How often `run --once` tries what may go away by itself.
pub const ONCE_ATTEMPTS: u32 = 4;

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
const OPERATOR_PAUSE: Duration = Duration::from_secs(30);

/// The answer to an error, the `attempts`-th in a row (from 1).
#[must_use]
pub fn decide(scope: Scope, class: ErrorClass, attempts: u32) -> Action {
    match (class, scope) {
        (ErrorClass::Retry, _) => Action::Again(pause(attempts)),
        (ErrorClass::Operator, Scope::Landing | Scope::Load) => Action::Again(OPERATOR_PAUSE),
        (ErrorClass::RejectRows, Scope::Landing) => Action::Again(OPERATOR_PAUSE),
        (ErrorClass::Operator | ErrorClass::RejectRows | ErrorClass::Bug, Scope::Segment) => Action::WaitForChange,
        (ErrorClass::RejectRows, Scope::Load) => Action::Withdraw(OPERATOR_PAUSE),
        (ErrorClass::Fenced, _) => Action::Stop,
        (ErrorClass::Bug, Scope::Landing | Scope::Load) => Action::Stop,
    }
}

/// The pause before a stream or pipeline is started again that stopped with an error of this class, the `times`-th time in a
/// row (from 1); `None` where it stays stopped.
#[must_use]
pub fn restart(class: ErrorClass, times: u32) -> Option<Duration> {
    match class {
        ErrorClass::Fenced => None,
        ErrorClass::Retry | ErrorClass::RejectRows | ErrorClass::Operator | ErrorClass::Bug => Some(pause(times)),
    }
}

/// 200 ms, doubling, at most a minute.
fn pause(attempts: u32) -> Duration {
    let factor = 1_u32.checked_shl(attempts.saturating_sub(1).min(16)).unwrap_or(u32::MAX);
    FIRST_PAUSE.saturating_mul(factor).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_minute() {
        assert_eq!(decide(Scope::Load, ErrorClass::Retry, 1), Action::Again(Duration::from_millis(200)));
        assert_eq!(decide(Scope::Load, ErrorClass::Retry, 3), Action::Again(Duration::from_millis(800)));
        assert_eq!(decide(Scope::Load, ErrorClass::Retry, 1000), Action::Again(Duration::from_secs(60)));
    }

    #[test]
    fn who_is_fenced_stops_whatever_it_did() {
        for scope in [Scope::Landing, Scope::Segment, Scope::Load] {
            assert_eq!(decide(scope, ErrorClass::Fenced, 1), Action::Stop);
        }
        assert_eq!(restart(ErrorClass::Fenced, 1), None);
        assert_eq!(restart(ErrorClass::Bug, 2), Some(Duration::from_millis(400)));
        assert_eq!(restart(ErrorClass::Bug, u32::MAX), Some(Duration::from_secs(60)));
    }
}
