//! Times and dates as text: ISO 8601 and RFC 3339, to the microsecond.
//!
//! A time is `YYYY-MM-DD`, then `T` or a space, `hh:mm`, optionally `:ss` and a fraction, then `Z` or `±hh[[:]mm]`. A time
//! without a zone is one only where a zone is configured. Digits beyond the microsecond must be zeros, a leap second
//! is not a time, and in UTC it is within the years 0 to 9999: what the column cannot hold stays text.

use std::ops::Range;

use chrono::{Datelike, NaiveDate};

const SECONDS_A_DAY: i64 = 86_400;
/// The years 0 to 9999 as seconds since the epoch.
const SECONDS: Range<i64> = -719_528 * SECONDS_A_DAY..2_932_897 * SECONDS_A_DAY;

/// Microseconds since the epoch; `None` where the text is no time, or has no zone and none is given (seconds east of UTC).
pub(crate) fn timestamp(text: &[u8], zone: Option<i32>) -> Option<i64> {
    let (date, rest) = text.split_at_checked(10)?;
    let days = i64::from(self::date(date)?);
    let (&separator, rest) = rest.split_first()?;
    if !matches!(separator, b'T' | b't' | b' ') {
        return None;
    }
    let (clock, mut rest) = rest.split_at_checked(5)?;
    let &[h1, h2, b':', m1, m2] = clock else { return None };
    let (hour, minute) = (two(h1, h2)?, two(m1, m2)?);
    let mut second = 0;
    let mut micros = 0;
    if let &[b':', s1, s2, ref after @ ..] = rest {
        second = two(s1, s2)?;
        rest = after;
        if let [b'.' | b',', after @ ..] = rest {
            let digits = after.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let (fraction, after) = after.split_at_checked(digits)?;
            micros = fraction_micros(fraction)?;
            rest = after;
        }
    }
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let east = offset(rest, zone)?;
    let seconds = days * SECONDS_A_DAY + hour * 3600 + minute * 60 + second - east;
    SECONDS.contains(&seconds).then_some(seconds * 1_000_000 + micros)
}

/// Days since the epoch of `YYYY-MM-DD`.
pub(crate) fn date(text: &[u8]) -> Option<i32> {
    let &[y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = text else { return None };
    let year = two(y1, y2)? * 100 + two(y3, y4)?;
    let date = NaiveDate::from_ymd_opt(
        i32::try_from(year).ok()?,
        u32::try_from(two(m1, m2)?).ok()?,
        u32::try_from(two(d1, d2)?).ok()?,
    )?;
    date.num_days_from_ce().checked_sub(719_163)
}

/// Seconds east of UTC of a zone as configured: `UTC`, or `+02:00`.
pub(crate) fn zone(text: &str) -> Option<i32> {
    if text.eq_ignore_ascii_case("utc") {
        return Some(0);
    }
    i32::try_from(offset(text.as_bytes(), None)?).ok()
}

fn offset(text: &[u8], zone: Option<i32>) -> Option<i64> {
    let (sign, hour, minute) = match *text {
        [] => return zone.map(i64::from),
        [b'Z' | b'z'] => return Some(0),
        [sign, h1, h2] => (sign, two(h1, h2)?, 0),
        [sign, h1, h2, m1, m2] | [sign, h1, h2, b':', m1, m2] => (sign, two(h1, h2)?, two(m1, m2)?),
        _ => return None,
    };
    if hour > 23 || minute > 59 {
        return None;
    }
    let east = hour * 3600 + minute * 60;
    match sign {
        b'+' => Some(east),
        b'-' => Some(-east),
        _ => None,
    }
}

fn fraction_micros(digits: &[u8]) -> Option<i64> {
    if digits.is_empty() {
        return None;
    }
    let mut micros = 0;
    for place in 0..6 {
        micros = micros * 10 + digits.get(place).map_or(0, |digit| i64::from(digit - b'0'));
    }
    digits.iter().skip(6).all(|&digit| digit == b'0').then_some(micros)
}

fn two(tens: u8, ones: u8) -> Option<i64> {
    (tens.is_ascii_digit() && ones.is_ascii_digit()).then(|| i64::from(tens - b'0') * 10 + i64::from(ones - b'0'))
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "tests")]
mod tests {
    use super::*;

    fn utc(text: &str) -> Option<i64> {
        timestamp(text.as_bytes(), None)
    }

    #[test]
    fn agrees_with_chrono() {
        for text in [
            "1970-01-01T00:00:00Z",
            "2026-02-28T23:59:59.999999Z",
            "2024-02-29T12:00:00.5+02:00",
            "0001-01-01T00:00:00-23:59",
            "9999-12-31T23:59:59.1234560+00:00",
            "1969-12-31T23:59:59.000001Z",
        ] {
            let right = chrono::DateTime::parse_from_rfc3339(text).expect(text).timestamp_micros();
            assert_eq!(utc(text), Some(right), "{text}");
        }
        assert_eq!(utc("2024-02-29 12:00:00.5+0200"), utc("2024-02-29T10:00:00.500Z"));
        assert_eq!(utc("2024-02-29T12:00-05"), utc("2024-02-29T17:00:00Z"));
    }

    #[test]
    fn what_is_no_time_stays_text() {
        for text in [
            "",
            "2024",
            "2024-02-29",
            "2023-02-29T00:00:00Z",
            "2024-13-01T00:00:00Z",
            "2024-01-01T24:00:00Z",
            "2024-01-01T23:59:60Z",
            "2024-01-01T00:00:00.Z",
            "2024-01-01T00:00:00.0000001Z",
            "2024-01-01T00:00:00",
            "2024-01-01T00:00:00 Z",
            "2024-01-01T00:00:00+24:00",
            "2024-01-01T00:00:00+1:00",
            "+024-01-01T00:00:00Z",
            "2024-01-01_00:00:00Z",
            "2024-01-01T00:00:00Zx",
            "9999-12-31T23:59:59-00:01",
            "0000-01-01T00:00:00+00:01",
        ] {
            assert_eq!(utc(text), None, "{text}");
        }
    }

    #[test]
    fn a_configured_zone_is_for_times_without_one() {
        let berlin = zone("+02:00");
        assert_eq!(berlin, Some(7200));
        assert_eq!(timestamp(b"2024-06-01T12:00:00", berlin), utc("2024-06-01T10:00:00Z"));
        assert_eq!(timestamp(b"2024-06-01T12:00:00Z", berlin), utc("2024-06-01T12:00:00Z"));
        assert_eq!(zone("utc"), Some(0));
        assert_eq!(zone("Europe/Berlin"), None);
        assert_eq!(zone(""), None);
    }
}
