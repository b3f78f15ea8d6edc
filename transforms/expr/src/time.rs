//! Dates (days since 1970-01-01) and timestamps (microseconds since 1970-01-01T00:00:00Z), in UTC and the Gregorian calendar. What lies
//! outside of the calendar's years (262,000 before and after) has no parts: null.

use chrono::{DateTime, Datelike, Days, Months, NaiveDate, NaiveDateTime, NaiveTime, Timelike, Utc};

pub(crate) const SECOND: i64 = 1_000_000;
pub(crate) const DAY: i64 = 86_400 * SECOND;

/// A unit of time, or a part of a date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Microsecond,
    Millisecond,
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Quarter,
    Year,
    /// The day of the week, Sunday 0.
    DayOfWeek,
    /// The day of the week, Monday 1.
    IsoDayOfWeek,
    DayOfYear,
    IsoYear,
    /// Seconds since 1970.
    Epoch,
}

/// Units by their names; the first ten can be added and cut to, all can be asked for.
const UNITS: [(&str, Unit); 15] = [
    ("microsecond", Unit::Microsecond),
    ("millisecond", Unit::Millisecond),
    ("second", Unit::Second),
    ("minute", Unit::Minute),
    ("hour", Unit::Hour),
    ("day", Unit::Day),
    ("week", Unit::Week),
    ("month", Unit::Month),
    ("quarter", Unit::Quarter),
    ("year", Unit::Year),
    ("dow", Unit::DayOfWeek),
    ("isodow", Unit::IsoDayOfWeek),
    ("doy", Unit::DayOfYear),
    ("isoyear", Unit::IsoYear),
    ("epoch", Unit::Epoch),
];

impl Unit {
    /// The names of units that can be added and cut to, or of all parts.
    pub(crate) fn names(parts: bool) -> impl Iterator<Item = &'static str> {
        UNITS.iter().take(if parts { UNITS.len() } else { 10 }).map(|(name, _)| *name)
    }

    pub(crate) fn named(name: &str, parts: bool) -> Option<Self> {
        let known = UNITS.iter().take(if parts { UNITS.len() } else { 10 });
        known.filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, unit)| *unit).next()
    }

    /// Units of a fixed length, in microseconds.
    pub(crate) fn micros(self) -> Option<i64> {
        match self {
            Self::Microsecond => Some(1),
            Self::Millisecond => Some(1_000),
            Self::Second => Some(SECOND),
            Self::Minute => Some(60 * SECOND),
            Self::Hour => Some(3_600 * SECOND),
            Self::Day => Some(DAY),
            Self::Week => Some(7 * DAY),
            Self::Month
            | Self::Quarter
            | Self::Year
            | Self::DayOfWeek
            | Self::IsoDayOfWeek
            | Self::DayOfYear
            | Self::IsoYear
            | Self::Epoch => None,
        }
    }

    fn months(self) -> Option<i64> {
        match self {
            Self::Month => Some(1),
            Self::Quarter => Some(3),
            Self::Year => Some(12),
            Self::Microsecond
            | Self::Millisecond
            | Self::Second
            | Self::Minute
            | Self::Hour
            | Self::Day
            | Self::Week
            | Self::DayOfWeek
            | Self::IsoDayOfWeek
            | Self::DayOfYear
            | Self::IsoYear
            | Self::Epoch => None,
        }
    }
}

fn calendar(micros: i64) -> Option<NaiveDateTime> {
    DateTime::<Utc>::from_timestamp_micros(micros).map(|at| at.naive_utc())
}

fn micros(at: NaiveDateTime) -> i64 {
    at.and_utc().timestamp_micros()
}

/// A part of a point in time.
pub(crate) fn part(unit: Unit, at: i64) -> Option<i64> {
    // What needs no calendar.
    let of_day = at.rem_euclid(DAY);
    let plain = match unit {
        Unit::Microsecond => Some(of_day % (60 * SECOND)),
        Unit::Millisecond => Some(of_day % (60 * SECOND) / 1_000),
        Unit::Second => Some(of_day / SECOND % 60),
        Unit::Minute => Some(of_day / (60 * SECOND) % 60),
        Unit::Hour => Some(of_day / (3_600 * SECOND)),
        Unit::Epoch => Some(at.div_euclid(SECOND)),
        // 1970-01-01 was a Thursday.
        Unit::DayOfWeek => Some((at.div_euclid(DAY) + 4).rem_euclid(7)),
        Unit::IsoDayOfWeek => Some((at.div_euclid(DAY) + 3).rem_euclid(7) + 1),
        Unit::Day | Unit::Week | Unit::Month | Unit::Quarter | Unit::Year | Unit::DayOfYear | Unit::IsoYear => None,
    };
    if plain.is_some() {
        return plain;
    }
    let date = calendar(at)?.date();
    Some(match unit {
        Unit::Day => i64::from(date.day()),
        Unit::Week => i64::from(date.iso_week().week()),
        Unit::Month => i64::from(date.month()),
        Unit::Quarter => i64::from(date.month0() / 3 + 1),
        Unit::DayOfYear => i64::from(date.ordinal()),
        Unit::IsoYear => i64::from(date.iso_week().year()),
        Unit::Year
        | Unit::Microsecond
        | Unit::Millisecond
        | Unit::Second
        | Unit::Minute
        | Unit::Hour
        | Unit::DayOfWeek
        | Unit::IsoDayOfWeek
        | Unit::Epoch => i64::from(date.year()),
    })
}

/// The beginning of the unit that a point in time lies in.
pub(crate) fn truncate(unit: Unit, at: i64) -> Option<i64> {
    if unit == Unit::Week {
        let days = at.div_euclid(DAY);
        return (days - (days + 3).rem_euclid(7)).checked_mul(DAY);
    }
    if let Some(length) = unit.micros() {
        return at.checked_sub(at.rem_euclid(length));
    }
    let date = calendar(at)?.date();
    let month = match unit {
        Unit::Month => date.month(),
        Unit::Quarter => date.month0() / 3 * 3 + 1,
        Unit::Year
        | Unit::Microsecond
        | Unit::Millisecond
        | Unit::Second
        | Unit::Minute
        | Unit::Hour
        | Unit::Day
        | Unit::Week
        | Unit::DayOfWeek
        | Unit::IsoDayOfWeek
        | Unit::DayOfYear
        | Unit::IsoYear
        | Unit::Epoch => 1,
    };
    Some(micros(NaiveDate::from_ymd_opt(date.year(), month, 1)?.and_time(NaiveTime::MIN)))
}

/// So many units later. A month later than the 31st is the month's last day.
pub(crate) fn add(unit: Unit, amount: i64, at: i64) -> Option<i64> {
    if let Some(length) = unit.micros() {
        return amount.checked_mul(length)?.checked_add(at);
    }
    let months = amount.checked_mul(unit.months()?)?;
    let step = Months::new(u32::try_from(months.unsigned_abs()).ok()?);
    let at = calendar(at)?;
    let moved = if months < 0 { at.checked_sub_months(step) } else { at.checked_add_months(step) };
    moved.map(micros)
}

/// Whole units from one point in time to another; negative where the second is earlier.
pub(crate) fn between(unit: Unit, from: i64, to: i64) -> Option<i64> {
    if let Some(length) = unit.micros() {
        return to.checked_sub(from).map(|distance| distance / length);
    }
    let length = unit.months()?;
    let (start, end) = (calendar(from)?, calendar(to)?);
    let months = |at: NaiveDateTime| i64::from(at.year()) * 12 + i64::from(at.month0());
    let mut distance = months(end) - months(start);
    let within = |at: NaiveDateTime| (at.day(), at.num_seconds_from_midnight(), at.nanosecond());
    if distance > 0 && within(end) < within(start) {
        distance -= 1;
    } else if distance < 0 && within(end) > within(start) {
        distance += 1;
    }
    Some(distance / length)
}

/// `2026-03-01`.
pub(crate) fn parse_date(text: &str) -> Option<i32> {
    let date = text.trim().parse::<NaiveDate>().ok()?;
    i32::try_from(micros(date.and_time(NaiveTime::MIN)) / DAY).ok()
}

/// ISO 8601, `T` or a blank before the time, any fraction; UTC where no zone is given, midnight where no time is.
pub(crate) fn parse_timestamp(text: &str) -> Option<i64> {
    let text = text.trim();
    if let Some(days) = parse_date(text) {
        return i64::from(days).checked_mul(DAY);
    }
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Some(at.timestamp_micros());
    }
    let formats = ["%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%d %H:%M:%S%.f%#z"];
    if let Some(at) = formats.iter().find_map(|format| DateTime::parse_from_str(text, format).ok()) {
        return Some(at.timestamp_micros());
    }
    let formats = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"];
    formats.iter().find_map(|format| NaiveDateTime::parse_from_str(text, format).ok()).map(micros)
}

/// As [`parse_date`] reads it.
pub(crate) fn date_text(days: i32) -> Option<String> {
    Some(date(days)?.format("%Y-%m-%d").to_string())
}

/// As [`parse_timestamp`] reads it, a zone behind it where there is one.
pub(crate) fn timestamp_text(at: i64, zoned: bool) -> Option<String> {
    let text = calendar(at)?.format("%Y-%m-%dT%H:%M:%S%.f");
    Some(format!("{text}{}", if zoned { "Z" } else { "" }))
}

fn date(days: i32) -> Option<NaiveDate> {
    let step = Days::new(u64::from(days.unsigned_abs()));
    let epoch = NaiveDate::from_ymd_opt(1970, 1, 1)?;
    if days < 0 { epoch.checked_sub_days(step) } else { epoch.checked_add_days(step) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> i64 {
        parse_timestamp(text).unwrap_or_else(|| unreachable!("{text} is a timestamp"))
    }

    #[test]
    fn timestamps_are_read_as_they_are_written() {
        for (text, told) in [
            ("2026-03-01", "2026-03-01T00:00:00"),
            ("2026-03-01 12:30", "2026-03-01T12:30:00"),
            ("2026-03-01T12:30:05.25Z", "2026-03-01T12:30:05.250"),
            ("2026-03-01 12:30:05+02:00", "2026-03-01T10:30:05"),
            ("1969-12-31T23:59:59.000001", "1969-12-31T23:59:59.000001"),
        ] {
            assert_eq!(timestamp_text(at(text), false).as_deref(), Some(told), "{text}");
        }
        for text in ["", "today", "2026-02-30", "2026-13-01", "12:30", "2026-03-01T25:00:00Z", "1e9"] {
            assert_eq!(parse_timestamp(text), None, "{text}");
        }
    }

    #[test]
    fn parts_and_beginnings_follow_the_calendar_also_before_1970() {
        let time = at("1968-02-29T23:59:58.765432Z");
        for (unit, part_is, begins) in [
            (Unit::Year, 1968, "1968-01-01"),
            (Unit::Quarter, 1, "1968-01-01"),
            (Unit::Month, 2, "1968-02-01"),
            (Unit::Week, 9, "1968-02-26"),
            (Unit::Day, 29, "1968-02-29"),
            (Unit::Hour, 23, "1968-02-29T23:00:00"),
            (Unit::Minute, 59, "1968-02-29T23:59:00"),
            (Unit::Second, 58, "1968-02-29T23:59:58"),
            (Unit::Millisecond, 58_765, "1968-02-29T23:59:58.765"),
        ] {
            assert_eq!(part(unit, time), Some(part_is), "{unit:?}");
            assert_eq!(truncate(unit, time), Some(at(begins)), "{unit:?}");
        }
        assert_eq!(part(Unit::DayOfWeek, time), Some(4));
        assert_eq!(part(Unit::IsoDayOfWeek, at("2026-03-01")), Some(7));
        assert_eq!(part(Unit::DayOfYear, time), Some(60));
        assert_eq!(part(Unit::IsoYear, at("2027-01-01")), Some(2026));
    }

    #[test]
    fn a_month_later_is_the_last_day_where_there_is_no_such_day() {
        let end = at("2026-01-31T10:00:00");
        assert_eq!(add(Unit::Month, 1, end), Some(at("2026-02-28T10:00:00")));
        assert_eq!(add(Unit::Year, -1, at("2024-02-29")), Some(at("2023-02-28")));
        assert_eq!(between(Unit::Month, end, at("2026-02-28T10:00:00")), Some(0));
        assert_eq!(between(Unit::Month, end, at("2026-03-31T10:00:00")), Some(2));
        assert_eq!(between(Unit::Year, at("2026-03-01"), at("2024-03-02")), Some(-1));
        assert_eq!(between(Unit::Day, at("2026-03-02"), at("2026-03-01T00:00:01")), Some(0));
    }

    #[test]
    fn what_lies_beyond_the_calendar_is_nothing() {
        assert_eq!(part(Unit::Year, i64::MAX), None);
        assert_eq!(truncate(Unit::Month, i64::MIN), None);
        assert_eq!(truncate(Unit::Week, i64::MIN), None);
        assert_eq!(add(Unit::Month, i64::MAX, 0), None);
        assert_eq!(add(Unit::Day, i64::MAX, 0), None);
        assert_eq!(between(Unit::Day, i64::MIN, i64::MAX), None);
        assert_eq!(date_text(i32::MAX), None);
    }
}
