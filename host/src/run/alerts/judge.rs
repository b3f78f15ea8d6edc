//! Which alerts are told, and when: pure, so that time can be stepped through.
//!
//! | an alert | and | then |
//! |---|---|---|
//! | begins to hold | was not told within `repeat` | is told as `firing` |
//! | holds | was told `repeat` ago | is told again |
//! | holds no more | was told | is told as `resolved`, once |
//! | comes and goes | was told within `repeat` | is kept back until then, and told where it holds at that time |

use std::collections::BTreeMap;
use std::time::Duration;

use forebay_model::Timestamp;
use serde::Serialize;

/// What an alert is about; there is one of each at a time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct Subject {
    /// `segments_failed`, `reject_rate`, `lag`, `column_rescued`, `schema_change_held`.
    pub(super) alert: &'static str,
    /// The pipeline; `None` for what is a table's.
    pub(super) pipeline: Option<String>,
    /// The table.
    pub(super) table: Option<String>,
    /// The column.
    pub(super) column: Option<String>,
}

/// What holds, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Holds {
    pub(super) message: String,
    pub(super) hint: String,
}

/// What is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Notice {
    #[serde(flatten)]
    pub(super) subject: Subject,
    pub(super) state: State,
    pub(super) message: String,
    pub(super) hint: String,
    /// Since when it holds, or held.
    pub(super) since: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    Firing,
    Resolved,
}

/// What is known of a subject.
#[derive(Debug)]
struct Known {
    /// What holds, and since when; `None` where nothing does.
    holds: Option<(Holds, Timestamp)>,
    /// When it was told last as firing.
    told_at: Option<Timestamp>,
    /// Whether it was told as firing, and not yet as resolved.
    open: bool,
}

/// Remembers what was told.
#[derive(Debug, Default)]
pub(super) struct Judge {
    known: BTreeMap<Subject, Known>,
}

impl Judge {
    /// What is to be told, of all that holds now.
    pub(super) fn judge(
        &mut self,
        now: Timestamp,
        repeat: Duration,
        holding: &BTreeMap<Subject, Holds>,
    ) -> Vec<Notice> {
        for known in self.known.iter_mut().filter(|(subject, _)| !holding.contains_key(subject)) {
            if let (_, Known { holds: Some(_), open: false, .. }) = &known {
                known.1.holds = None;
            }
        }
        for (subject, holds) in holding {
            let known = self.known.entry(subject.clone()).or_insert(Known { holds: None, told_at: None, open: false });
            let since = known.holds.as_ref().map_or(now, |(_, since)| *since);
            known.holds = Some((holds.clone(), since));
        }
        let mut notices = Vec::new();
        for (subject, known) in &mut self.known {
            let Some((holds, since)) = known.holds.clone() else { continue };
            let Holds { message, hint } = holds;
            let state = match holding.contains_key(subject) {
                true if known.told_at.is_none_or(|told| now.since(told) >= repeat) => State::Firing,
                true => continue,
                false => State::Resolved,
            };
            known.open = state == State::Firing;
            match state {
                State::Firing => known.told_at = Some(now),
                State::Resolved => known.holds = None,
            }
            notices.push(Notice { subject: subject.clone(), state, message, hint, since });
        }
        // What is long over is forgotten.
        self.known
            .retain(|_, known| known.holds.is_some() || known.told_at.is_some_and(|told| now.since(told) < repeat));
        notices
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPEAT: Duration = Duration::from_secs(100);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    fn lag() -> Subject {
        Subject { alert: "lag", pipeline: Some("fraud".to_owned()), table: None, column: None }
    }

    fn holding(message: Option<&str>) -> BTreeMap<Subject, Holds> {
        let holds = |message: &str| (lag(), Holds { message: message.to_owned(), hint: "look".to_owned() });
        message.map(holds).into_iter().collect()
    }

    /// What is told at each of these seconds.
    fn told(steps: &[(i64, Option<&str>)]) -> Vec<(i64, State, String)> {
        let mut judge = Judge::default();
        let mut told = Vec::new();
        for (second, message) in steps {
            for notice in judge.judge(at(*second), REPEAT, &holding(*message)) {
                told.push((*second, notice.state, notice.message));
            }
        }
        told
    }

    #[test]
    fn what_holds_is_told_once_then_each_repeat_and_its_end_once() {
        let firing = |second, message: &str| (second, State::Firing, message.to_owned());
        let resolved = |second, message: &str| (second, State::Resolved, message.to_owned());
        assert_eq!(
            told(&[(0, Some("a")), (5, Some("b")), (99, Some("c")), (100, Some("d")), (150, None), (155, None)]),
            [firing(0, "a"), firing(100, "d"), resolved(150, "d")]
        );
        assert_eq!(told(&[(0, None), (5, None)]), []);
    }

    #[test]
    fn what_comes_and_goes_is_not_told_more_often_than_stated() {
        let steps: Vec<_> = (0..40).map(|step| (step * 5, (step % 2 == 0).then_some("x"))).collect();
        let firing: Vec<_> =
            told(&steps).into_iter().filter(|(_, state, _)| *state == State::Firing).map(|(at, ..)| at).collect();
        assert_eq!(firing, [0, 100]);
        let resolved = told(&steps).into_iter().filter(|(_, state, _)| *state == State::Resolved).count();
        assert_eq!(resolved, 2, "an end is told of what was told alone");
    }

    #[test]
    fn what_is_over_is_forgotten() {
        let mut judge = Judge::default();
        judge.judge(at(0), REPEAT, &holding(Some("a")));
        judge.judge(at(50), REPEAT, &holding(None));
        judge.judge(at(200), REPEAT, &holding(None));
        assert!(judge.known.is_empty());
    }
}
