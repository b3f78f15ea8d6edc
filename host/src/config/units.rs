//! Sizes and durations as people write them: `256MiB`, `7d`.

use std::fmt;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer, Visitor};

const SIZES: [(&str, u64); 7] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
];

const DURATIONS: [(&str, u64); 6] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000), ("w", 604_800_000)];

/// Bytes: a whole number, or text with a unit (`B`, `KiB`, `MiB`, `GiB`, `KB`, `MB`, `GB`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size(pub(super) u64);

/// A duration with a unit: `ms`, `s`, `m`, `h`, `d`, `w`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span(pub(super) Duration);

fn split(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit.trim()))
}

fn parse_bytes(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let (_, factor) = SIZES.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
    number.checked_mul(*factor)
}

/// `500ms`, `30s`, `10m`, `2h`, `7d`, `2w`; `None` for anything else.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let (_, factor) = DURATIONS.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*factor).map(Duration::from_millis)
}

/// A size in its largest whole unit: `256MiB`, `1000B`.
pub(super) fn format_size(bytes: u64) -> String {
    let unit =
        [SIZES[3], SIZES[2], SIZES[1]].into_iter().find(|(_, factor)| bytes > 0 && bytes.is_multiple_of(*factor));
    unit.map_or_else(|| format!("{bytes}B"), |(unit, factor)| format!("{}{unit}", bytes / factor))
}

/// A duration in its largest whole unit, up to days: `90s`, `7d`.
pub(crate) fn format_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    let unit = DURATIONS.iter().rev().skip(1).find(|(_, factor)| millis.is_multiple_of(u128::from(*factor)));
    unit.map_or_else(|| format!("{millis}ms"), |(unit, factor)| format!("{}{unit}", millis / u128::from(*factor)))
}

/// A size for people: `9.6 MB`, three significant digits, powers of 1,000.
pub(crate) fn format_bytes(bytes: u64) -> String {
    let (unit, factor) = match bytes {
        1_000_000_000.. => ("GB", 1_000_000_000),
        1_000_000.. => ("MB", 1_000_000),
        1_000.. => ("kB", 1_000),
        _ => return format!("{bytes} B"),
    };
    let (whole, tenth) = (bytes / factor, bytes % factor * 10 / factor);
    if whole >= 100 { format!("{whole} {unit}") } else { format!("{whole}.{tenth} {unit}") }
}

/// A share: `1%`, `0.25%`, in millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share(u32);

impl Share {
    /// So many per cent, at most 100.
    pub(crate) const fn percent(percent: u8) -> Self {
        Self(if percent > 100 { 1_000_000 } else { percent as u32 * 10_000 })
    }

    /// What part of a whole is; none of nothing. Rounded up.
    pub(crate) fn of(part: u64, whole: u64) -> Self {
        let millionths = (u128::from(part) * 1_000_000).div_ceil(u128::from(whole.max(1)));
        Self(u32::try_from(millionths.min(1_000_000)).unwrap_or(1_000_000))
    }

    /// Whether a part is no larger a share of a whole.
    pub(crate) fn allows(self, part: u64, whole: u64) -> bool {
        u128::from(part) * 1_000_000 <= u128::from(whole) * u128::from(self.0)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / 10_000, self.0 % 10_000);
        match rest {
            0 => write!(f, "{whole}%"),
            rest => write!(f, "{whole}.{}%", format!("{rest:04}").trim_end_matches('0')),
        }
    }
}

impl std::str::FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = || {
            let number = text.trim().strip_suffix('%')?.trim_end();
            let (whole, rest) = number.split_once('.').unwrap_or((number, "0"));
            let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            if !digits(whole) || !digits(rest) || whole.len() > 3 || rest.len() > 4 {
                return None;
            }
            let millionths = whole.parse::<u32>().ok()? * 10_000 + format!("{rest:0<4}").parse::<u32>().ok()?;
            (millionths <= 1_000_000).then_some(Self(millionths))
        };
        parsed().ok_or_else(|| format!("{text:?} is no share, for example \"1%\" or \"0.25%\""))
    }
}

impl serde::Serialize for Share {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ShareVisitor;
        impl Visitor<'_> for ShareVisitor {
            type Value = Share;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a share, for example \"1%\" or \"0.25%\"")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Share, E> {
                text.parse().map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(ShareVisitor)
    }
}

/// When a revision that fails makes place for the former one: `50% of 4 segments`, or `never`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BackAfter(Option<(Share, u32)>);

impl BackAfter {
    /// At such a share of failed segments, once so many are done.
    pub(crate) const fn share(share: Share, segments: u32) -> Self {
        Self(Some((share, segments)))
    }

    /// Whether so many failed, of so many that were done.
    pub(crate) fn reached(self, failed: u64, done: u64) -> bool {
        self.0.is_some_and(|(share, segments)| {
            done >= u64::from(segments)
                && failed > 0
                && (Share::of(failed, done) == share || !share.allows(failed, done))
        })
    }
}

impl fmt::Display for BackAfter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some((share, segments)) => write!(f, "{share} of {segments} segments"),
            None => f.write_str("never"),
        }
    }
}

impl std::str::FromStr for BackAfter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = || {
            let (share, segments) = text.strip_suffix("segments")?.split_once(" of ")?;
            let (share, segments) = (share.parse().ok()?, segments.trim().parse().ok()?);
            (share != Share::percent(0) && segments > 0).then_some(Self(Some((share, segments))))
        };
        if text.trim() == "never" {
            return Ok(Self(None));
        }
        parsed().ok_or_else(|| format!("{text:?} is neither \"50% of 4 segments\" nor \"never\""))
    }
}

impl<'de> Deserialize<'de> for BackAfter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BackVisitor;
        impl Visitor<'_> for BackVisitor {
            type Value = BackAfter;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a share of segments, for example \"50% of 4 segments\", or \"never\"")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<BackAfter, E> {
                text.parse().map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(BackVisitor)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SizeVisitor;
        impl Visitor<'_> for SizeVisitor {
            type Value = Size;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size, for example \"256MiB\"")
            }
            fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<Size, E> {
                Ok(Size(bytes))
            }
            fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<Size, E> {
                u64::try_from(bytes).map(Size).map_err(|_| E::invalid_value(de::Unexpected::Signed(bytes), &self))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Size, E> {
                parse_bytes(text).map(Size).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(SizeVisitor)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SpanVisitor;
        impl Visitor<'_> for SpanVisitor {
            type Value = Span;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration, for example \"500ms\", \"30s\" or \"7d\"")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
                parse_duration(text).map(Span).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(SpanVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(parse_bytes("256MiB"), Some(256 << 20));
        assert_eq!(parse_bytes("1 gb"), Some(1_000_000_000));
        assert_eq!(parse_bytes("0B"), Some(0));
        for bad in ["", "256", "MiB", "1.5MiB", "-1B", "1TiB?", "99999999999GiB"] {
            assert_eq!(parse_bytes(bad), None, "{bad:?}");
        }
        assert_eq!(format_size(256 << 20), "256MiB");
        assert_eq!(format_size(1000), "1000B");
        assert_eq!(format_size(0), "0B");
        assert_eq!(format_bytes(999), "999 B");
        assert_eq!(format_bytes(9_649_999), "9.6 MB");
        assert_eq!(format_bytes(123_456), "123 kB");
    }

    #[test]
    fn shares() {
        for (text, shown) in [("1%", "1%"), ("0.25 %", "0.25%"), ("100%", "100%"), ("0%", "0%"), ("12.5000%", "12.5%")]
        {
            assert_eq!(text.parse::<Share>().map(|share| share.to_string()), Ok(shown.to_owned()));
        }
        for bad in ["", "1", "%", "-1%", "100.0001%", "1.00001%", "1e2%", ".5%", "1.%", "1000%"] {
            assert!(bad.parse::<Share>().is_err(), "{bad:?}");
        }
        let one = Share::percent(1);
        assert!(one.allows(1, 100) && !one.allows(101, 10_000) && one.allows(0, 0));
        assert_eq!(Share::of(1, 3).to_string(), "33.3334%");
        assert_eq!((Share::of(0, 0), Share::of(u64::MAX, u64::MAX)), (Share::percent(0), Share::percent(100)));
    }

    #[test]
    fn shares_of_segments() {
        let half: BackAfter = "50% of 4 segments".parse().unwrap_or(BackAfter(None));
        assert_eq!((half, half.to_string()), (BackAfter::share(Share::percent(50), 4), "50% of 4 segments".to_owned()));
        assert_eq!("never".parse(), Ok(BackAfter(None)));
        for bad in ["", "50%", "50 of 4 segments", "0% of 4 segments", "50% of 0 segments", "4 segments"] {
            assert!(bad.parse::<BackAfter>().is_err(), "{bad:?}");
        }
        assert!(half.reached(2, 4) && half.reached(3, 5) && !half.reached(3, 3) && !half.reached(1, 4));
        assert!(!BackAfter(None).reached(9, 9) && !BackAfter::share(Share::percent(1), 1).reached(0, 0));
    }

    #[test]
    fn durations() {
        assert_eq!(format_duration(Duration::from_secs(90)), "90s");
        assert_eq!(format_duration(Duration::from_hours(168)), "7d");
        assert_eq!(parse_duration("2d"), Some(Duration::from_hours(48)));
        assert_eq!(parse_duration("10m"), Some(Duration::from_mins(10)));
        assert_eq!(parse_duration("500ms"), Some(Duration::from_millis(500)));
        for bad in ["", "5", "d", "5M", "1h30m", "-1s"] {
            assert_eq!(parse_duration(bad), None, "{bad:?}");
        }
    }
}
