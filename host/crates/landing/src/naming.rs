//! Names of objects in the zone: `<stream>/dt=YYYY-MM-DD/hr=HH/<attempt>-<ordinal>-<base name>`.
//!
//! The attempt makes a name unique, so that what a zombie process writes is never another's object. Day and hour are those
//! of the landing, in UTC, so that any engine can prune by them.

use forebay_model::{StreamName, Timestamp};
use uuid::Uuid;

use crate::error::{LandingError, Result};

/// The folder of what is forebay's own.
pub(crate) const OWN: &str = "_forebay";
/// A base name is cut to its last characters beyond this, so that its extension stays.
const BASE_NAME: usize = 100;
/// What file systems take for one part of a name.
const PART: usize = 255;

/// The name of an object that lands byte for byte: `key`'s last part is kept, characters that are unsafe in file names or
/// URLs become `_`.
#[must_use]
pub fn object_name(stream: &StreamName, landed_at: Timestamp, attempt: Uuid, ordinal: u32, key: &str) -> String {
    let base = key.rsplit('/').find(|part| !part.is_empty()).unwrap_or_default();
    let safe: Vec<char> =
        base.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '_' }).collect();
    let safe: String = safe.iter().skip(safe.len().saturating_sub(BASE_NAME)).collect();
    let safe = if safe.is_empty() { "object".to_owned() } else { safe };
    format!("{}{attempt}-{ordinal}-{safe}", folder(stream, landed_at))
}

/// The name of an envelope.
#[must_use]
pub fn records_name(stream: &StreamName, landed_at: Timestamp, attempt: Uuid, ordinal: u32) -> String {
    format!("{}{attempt}-{ordinal}-records.parquet", folder(stream, landed_at))
}

fn folder(stream: &StreamName, landed_at: Timestamp) -> String {
    format!("{stream}/{}/", landed_at.to_utc().format("dt=%Y-%m-%d/hr=%H"))
}

/// The attempt that an object's name holds; `None` where the name is not one that this module makes.
#[must_use]
pub fn attempt_of(name: &str) -> Option<Uuid> {
    let [stream, day, hour, last]: [&str; 4] = name.split('/').collect::<Vec<_>>().try_into().ok()?;
    let folders = StreamName::new(stream).is_ok() && day.starts_with("dt=") && hour.starts_with("hr=");
    let (attempt, rest) = last.split_at_checked(36)?;
    let (ordinal, base) = rest.strip_prefix('-')?.split_once('-')?;
    let made = folders && !base.is_empty() && ordinal.parse::<u32>().is_ok();
    attempt.parse().ok().filter(|_| made)
}

/// Checks that a name stays in the zone and is not forebay's own.
pub(crate) fn check(name: &str) -> Result<()> {
    check_parts(name)?;
    if name.split('/').next() == Some(OWN) {
        return bad(name, "the folder _forebay is forebay's own");
    }
    Ok(())
}

/// Checks that a name stays below the folder that it is relative to.
pub(crate) fn check_parts(name: &str) -> Result<()> {
    for part in name.split('/') {
        match part {
            "" => return bad(name, "it has an empty part, or begins or ends with a slash"),
            "." | ".." => return bad(name, "it has a part that is . or .."),
            _ if part.len() > PART => return bad(name, "a part of it is longer than 255 bytes"),
            _ if part.contains(['\0', '\\']) => return bad(name, "it holds a NUL or a backslash"),
            _ => {}
        }
    }
    Ok(())
}

fn bad(name: &str, why: &'static str) -> Result<()> {
    Err(LandingError::Name { name: name.to_owned(), why })
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_name_holds_stream_day_hour_attempt_and_base_name() {
        let stream = StreamName::new("payments").expect("name");
        let landed_at = Timestamp::parse("2026-01-02T03:04:05Z").expect("time");
        let name = |key: &str| object_name(&stream, landed_at, Uuid::from_u128(7), 2, key);
        let start = "payments/dt=2026-01-02/hr=03/00000000-0000-0000-0000-000000000007-2-";
        assert_eq!(name("in/2013-09-01.csv"), format!("{start}2013-09-01.csv"));
        assert_eq!(name("../../ä b?.csv"), format!("{start}__b_.csv"));
        assert_eq!(name("in/"), format!("{start}in"));
        assert_eq!(name(""), format!("{start}object"));
        let long = name(&format!("{}.jsonl.gz", "x".repeat(300)));
        assert!(long.ends_with("x.jsonl.gz") && long.len() == start.len() + BASE_NAME);
        assert_eq!(records_name(&stream, landed_at, Uuid::from_u128(7), 2), format!("{start}records.parquet"));
        for name in [name("in/2013-09-01.csv"), long] {
            check(&name).expect("a name that was made is allowed");
            assert_eq!(attempt_of(&name), Some(Uuid::from_u128(7)));
        }
    }

    #[test]
    fn only_names_that_were_made_here_hold_an_attempt() {
        let attempt = Uuid::from_u128(7);
        for foreign in [
            "notes.txt".to_owned(),
            format!("payments/{attempt}-0-a.csv"),
            format!("payments/dt=2026-01-02/hr=03/{attempt}.csv"),
            format!("payments/dt=2026-01-02/hr=03/{attempt}-x-a.csv"),
            "payments/dt=2026-01-02/hr=03/part-0-a.csv".to_owned(),
            format!("payments/day/hr=03/{attempt}-0-a.csv"),
            "payments/dt=2026-01-02/hr=03/äääääääääääääääääääääääääääääääääääääääääääää".to_owned(),
        ] {
            assert_eq!(attempt_of(&foreign), None, "{foreign}");
        }
    }

    #[test]
    fn names_never_lead_out_of_the_zone() {
        for bad in
            ["", "/etc/passwd", "a/../b", "..", "a//b", "a/", "./a", "a\0b", "a\\b", "_forebay/zone.json", "_forebay"]
        {
            assert!(check(bad).is_err(), "{bad:?} must be refused");
        }
        assert!(check(&"x".repeat(256)).is_err());
        assert!(check("payments/..a/_forebay").is_ok());
    }
}
