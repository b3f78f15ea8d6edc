//! When something is done by itself: a cron expression, in a time zone.
//!
//! The expression is that of cron, with seconds as a sixth field in front where somebody wants them, and `@daily` and its like. The
//! zone is one of the IANA's (`Europe/Berlin`): where its clock is put forward over a time, that is when it happens; where it is put
//! back, a time that comes twice counts once.

use std::fmt;
use std::str::FromStr as _;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use croner::Cron;
use forebay_model::Timestamp;

/// Times of a day, week or year.
#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    text: String,
    zone: Tz,
    cron: Cron,
}

impl Schedule {
    /// Reads an expression.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(super) fn parse(text: &str, zone: Tz) -> Result<Self, String> {
        let cron = Cron::from_str(text).map_err(|error| error.to_string())?;
        let schedule = Self { text: text.to_owned(), zone, cron };
        match schedule.after(Timestamp::from_micros(0)) {
            Some(_) => Ok(schedule),
            None => Err("it names no time that ever comes".to_owned()),
        }
    }

    /// The first time after `then`; `None` where there is none in what a calendar holds.
    pub(crate) fn after(&self, then: Timestamp) -> Option<Timestamp> {
        let then = DateTime::<Utc>::from_timestamp_micros(then.as_micros())?.with_timezone(&self.zone);
        let next = self.cron.find_next_occurrence(&then, false).ok()?;
        Some(Timestamp::from_micros(next.timestamp_micros()))
    }
}

impl PartialEq for Schedule {
    fn eq(&self, other: &Self) -> bool {
        (&self.text, self.zone) == (&other.text, other.zone)
    }
}

/// As it is written: `0 3 * * * Europe/Berlin`.
impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.text, self.zone)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn times(text: &str, zone: &str, from: &str) -> Vec<String> {
        let schedule = Schedule::parse(text, zone.parse().unwrap()).unwrap();
        let mut then = Timestamp::parse(from).unwrap();
        (0..3)
            .map(|_| {
                then = schedule.after(then).unwrap();
                then.to_string()
            })
            .collect()
    }

    #[test]
    fn a_zone_moves_with_its_clock() {
        // Berlin's clock is put forward on 29 March 2026, and back on 25 October.
        assert_eq!(
            times("30 2 * * *", "Europe/Berlin", "2026-03-27T12:00:00Z"),
            ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]
        );
        assert_eq!(
            times("30 2 * * *", "Europe/Berlin", "2026-10-23T12:00:00Z"),
            ["2026-10-24T00:30:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]
        );
        assert_eq!(
            times("*/20 * * * * *", "UTC", "2026-01-01T00:00:50Z"),
            ["2026-01-01T00:01:00Z", "2026-01-01T00:01:20Z", "2026-01-01T00:01:40Z"]
        );
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        for text in ["", "daily", "61 * * * *", "* * *", "0 0 31 2 *"] {
            assert!(Schedule::parse(text, Tz::UTC).is_err(), "{text:?}");
        }
    }
}
