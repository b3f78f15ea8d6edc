//! Casts: from any type to any other that [`crate::check`] lets through.

use std::rc::Rc;

use forebay_sdk::RuleError;

use super::numbers::mapped;
use super::time::midnight;
use super::vector::{FALSE, NULL, Numbers, Seen, TRUE, Texts, Values, Vector};
use super::{Care, Eval, Result, bug, matters};
use crate::node::{Node, Shorten};
use crate::number;
use crate::time::{self, DAY};
use crate::types::Type;

impl<'a> Eval<'a> {
    /// Null where a value cannot be had; where the cast is strict, that is told.
    pub(super) fn cast(
        &self,
        value: &Node,
        from: &Type,
        to: &Type,
        strict: Option<&Rc<str>>,
        care: Care<'_>,
    ) -> Result<Vector<'a>> {
        let value = self.eval(value, care)?;
        if matches!(value, Vector::Null) {
            return Ok(Vector::Null);
        }
        let before = strict.map(|message| (message, value.nulls(self.rows)));
        let made = match to {
            Type::Text => self.to_text(value, from, care)?,
            _ => self.convert(value, from, to, care)?,
        };
        if let Some((message, before)) = before {
            let after = made.nulls(self.rows);
            if let (Seen::One(FALSE), _) = (after.seen(), message) {
                return Ok(made);
            }
            let (before, after) = (before.seen(), after.seen());
            let lost = |row: &usize| before.at(*row) == FALSE && after.at(*row) == TRUE && matters(care, *row);
            let mut failed = self.failed.borrow_mut();
            for row in (0..self.rows).filter(lost) {
                failed.entry(row).or_insert_with(|| Rc::clone(message));
            }
        }
        Ok(made)
    }

    fn convert(&self, value: Vector<'a>, from: &Type, to: &Type, care: Care<'_>) -> Result<Vector<'a>> {
        let rows = self.rows;
        let scale = from.digits().map_or(0, |(_, scale)| scale);
        Ok(match (value, to) {
            (Vector::Text(texts), to) => self.parsed(&texts, to, care)?,
            (Vector::Bool(values), Type::Int) => {
                let flags = values.map(|value| (value != NULL).then(|| i64::from(value == TRUE)));
                Vector::I64(mapped(rows, Numbers::all(flags), |flag: Option<i64>| flag))
            }
            (Vector::I64(numbers), Type::Float) => Vector::F64(plain(numbers, |value| value as f64)),
            (Vector::I64(numbers), Type::Decimal(digits, scale)) => Vector::I128(mapped(rows, numbers, |value| {
                number::lengthen(i128::from(value), *scale).and_then(|value| number::fits(value, *digits))
            })),
            (Vector::I64(numbers), Type::Date) => {
                Vector::I32(mapped(rows, numbers, |at| i32::try_from(at.div_euclid(DAY)).ok()))
            }
            (Vector::I64(numbers), Type::Timestamp { zoned: _ }) => Vector::I64(numbers),
            (Vector::I32(numbers), Type::Timestamp { zoned: _ }) => Vector::I64(plain(numbers, midnight)),
            (Vector::F64(numbers), Type::Int) => Vector::I64(mapped(rows, numbers, whole)),
            (Vector::F64(numbers), Type::Decimal(digits, scale)) => {
                Vector::I128(mapped(rows, numbers, |value| number::from_float(value, *digits, *scale)))
            }
            (Vector::I128(numbers), Type::Int) => Vector::I64(mapped(rows, numbers, |value| {
                i64::try_from(number::shorten(value, scale, Shorten::Zero)).ok()
            })),
            (Vector::I128(numbers), Type::Float) => Vector::F64(plain(numbers, |value| number::to_float(value, scale))),
            (Vector::I128(numbers), Type::Decimal(digits, wanted)) => Vector::I128(mapped(rows, numbers, |value| {
                let value = match wanted.checked_sub(scale) {
                    Some(more) => number::lengthen(value, more)?,
                    None => number::shorten(value, scale - wanted, Shorten::Nearest),
                };
                number::fits(value, *digits)
            })),
            _ => return Err(no_cast(from, to)),
        })
    }

    /// Text as a value of the type; blanks around it do not count.
    fn parsed(&self, texts: &Texts<'a>, to: &Type, care: Care<'_>) -> Result<Vector<'a>> {
        macro_rules! parsed {
            ($variant:ident, $read:expr) => {{
                let reader = texts.reader();
                let read = |row| if matters(care, row) { reader.get(row).and_then($read) } else { None };
                let values = Values::Owned((0..self.rows).map(read).collect());
                Vector::$variant(mapped(self.rows, Numbers::all(values), |value| value))
            }};
        }
        Ok(match to {
            Type::Bool => Vector::Bool(self.test(texts, care, |text| match text.trim() {
                text if text.eq_ignore_ascii_case("true") => TRUE,
                text if text.eq_ignore_ascii_case("false") => FALSE,
                _ => NULL,
            })),
            Type::Int => parsed!(I64, |text: &str| text.trim().parse::<i64>().ok()),
            Type::Float => parsed!(F64, float),
            Type::Decimal(digits, scale) => parsed!(I128, |text: &str| number::from_text(text, *digits, *scale)),
            Type::Date => parsed!(I32, time::parse_date),
            Type::Timestamp { zoned: _ } => parsed!(I64, time::parse_timestamp),
            Type::Null | Type::Text | Type::Other(_) => return Err(no_cast(&Type::Text, to)),
        })
    }

    fn to_text(&self, value: Vector<'a>, from: &Type, care: Care<'_>) -> Result<Vector<'a>> {
        use std::fmt::Write as _;
        macro_rules! told {
            ($numbers:expr, $tell:expr) => {{
                let Numbers { values, valid } = $numbers;
                let seen = values.seen();
                self.built(care, |row, into| {
                    valid
                        .as_ref()
                        .is_none_or(|valid| valid.keeps(row))
                        .then(|| seen.at(row))
                        .and_then(|value| $tell(value, into))
                })
            }};
        }
        Ok(match (value, from) {
            (Vector::Bool(values), _) => {
                let seen = values.seen();
                self.built(care, |row, into| {
                    (seen.at(row) != NULL).then(|| into.push_str(if seen.at(row) == TRUE { "true" } else { "false" }))
                })
            }
            (Vector::I64(numbers), Type::Timestamp { zoned }) => {
                told!(numbers, |at, into: &mut String| {
                    time::timestamp_text(at, *zoned).map(|text| into.push_str(&text))
                })
            }
            (Vector::I64(numbers), _) => told!(numbers, |value, into: &mut String| write!(into, "{value}").ok()),
            (Vector::I32(numbers), _) => {
                told!(numbers, |days, into: &mut String| time::date_text(days).map(|text| into.push_str(&text)))
            }
            (Vector::F64(numbers), _) => told!(numbers, |value, into: &mut String| write!(into, "{value}").ok()),
            (Vector::I128(numbers), from) => {
                let scale = from.digits().map_or(0, |(_, scale)| scale);
                told!(numbers, |value, into: &mut String| {
                    into.push_str(&number::told(value, scale));
                    Some(())
                })
            }
            (Vector::Null | Vector::Text(_) | Vector::Other(_), from) => return Err(no_cast(from, &Type::Text)),
        })
    }
}

/// Without a result that is none.
fn plain<'a, A: Copy, R: 'static>(numbers: Numbers<'a, A>, with: impl Fn(A) -> R) -> Numbers<'a, R> {
    Numbers { values: numbers.values.map(with), valid: numbers.valid }
}

/// Without what stands behind the point; `None` where it has too many digits before it.
fn whole(value: f64) -> Option<i64> {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    let value = value.trunc();
    #[expect(clippy::cast_possible_truncation, reason = "it lies within")]
    (-LIMIT..LIMIT).contains(&value).then_some(value as i64)
}

fn float(text: &str) -> Option<f64> {
    let text = text.trim();
    // `inf` and `nan` are floats to Rust.
    let digits = text.contains(|c: char| c.is_ascii_digit());
    text.parse::<f64>().ok().filter(|value| digits && value.is_finite())
}

fn no_cast(from: &Type, to: &Type) -> RuleError {
    bug(&format!("a cast of {from} to {to}"))
}
