//! Arithmetic. What overflows, is divided by zero or is not finite is null.

use forebay_sdk::build::Mask;

use super::vector::{Numbers, Values, Vector, both, fold, zip};
use super::{Care, Eval, Result, bug};
use crate::ast::Math;
use crate::node::{Call, Decimal, Float, Node};
use crate::number;

/// Two columns into one where some results are none.
pub(super) fn checked<'a, A: Copy, B: Copy, R: Copy + Default + 'static>(
    rows: usize,
    left: Numbers<'a, A>,
    right: Numbers<'a, B>,
    with: impl Fn(A, B) -> Option<R>,
) -> Numbers<'a, R> {
    let valid = both(left.valid, right.valid);
    // Null values hold anything, also what overflows, so the mask is looked at last.
    let results = zip(&left.values, &right.values, with);
    settle(rows, &results, valid)
}

/// The same of one column.
pub(super) fn mapped<'a, A: Copy, R: Copy + Default + 'static>(
    rows: usize,
    numbers: Numbers<'a, A>,
    with: impl Fn(A) -> Option<R>,
) -> Numbers<'a, R> {
    settle(rows, &numbers.values.map(with), numbers.valid)
}

fn settle<'a, R: Copy + Default + 'static>(
    rows: usize,
    results: &Values<'static, Option<R>>,
    valid: Option<Mask>,
) -> Numbers<'a, R> {
    let seen = results.seen();
    let missing = (0..rows).any(|row| seen.at(row).is_none());
    let found = missing.then(|| Mask::from_fn(rows, |row| seen.at(row).is_some()));
    Numbers { values: results.map(Option::unwrap_or_default), valid: both(valid, found) }
}

impl<'a> Eval<'a> {
    pub(super) fn float(&self, float: &Float, care: Care<'_>) -> Result<Vector<'a>> {
        match float {
            Float::Math { math, left, right } => {
                let left = self.eval(left, care)?.f64s()?;
                let Some((left, right)) = left.zip(self.eval(right, care)?.f64s()?) else { return Ok(Vector::Null) };
                let valid = both(left.valid, right.valid);
                let (left, right) = (left.values, right.values);
                let values = match math {
                    Math::Add => fold(left, right, |a, b| a + b),
                    Math::Subtract => fold(left, right, |a, b| a - b),
                    Math::Multiply => fold(left, right, |a, b| a * b),
                    Math::Divide => fold(left, right, |a, b| a / b),
                    Math::Remainder => fold(left, right, |a, b| a % b),
                };
                Ok(Vector::F64(Numbers { values, valid }))
            }
            Float::Finite(inner) => {
                let Some(numbers) = self.eval(inner, care)?.f64s()? else { return Ok(Vector::Null) };
                Ok(Vector::F64(self.finite(numbers)))
            }
            Float::Call { call, value } => {
                let Some(Numbers { values, valid }) = self.eval(value, care)?.f64s()? else { return Ok(Vector::Null) };
                Ok(Vector::F64(Numbers { values: called(*call, &values), valid }))
            }
            Float::Power { base, exponent } => {
                let base = self.eval(base, care)?.f64s()?;
                let Some((base, exponent)) = base.zip(self.eval(exponent, care)?.f64s()?) else {
                    return Ok(Vector::Null);
                };
                let valid = both(base.valid, exponent.valid);
                Ok(Vector::F64(Numbers { values: zip(&base.values, &exponent.values, f64::powf), valid }))
            }
        }
    }

    /// Null where a value is infinite or no number.
    fn finite(&self, numbers: Numbers<'a, f64>) -> Numbers<'a, f64> {
        let seen = numbers.values.seen();
        let all = match seen {
            super::Seen::One(value) => value.is_finite(),
            // Summed without a branch, which the compiler does many at a time.
            super::Seen::Each(values) => values.iter().fold(true, |all, value| all & value.is_finite()),
        };
        if all {
            return numbers;
        }
        let finite = Mask::from_fn(self.rows, |row| seen.at(row).is_finite());
        Numbers { valid: both(numbers.valid.clone(), Some(finite)), values: numbers.values }
    }

    pub(super) fn int(&self, math: Math, left: &Node, right: &Node, care: Care<'_>) -> Result<Vector<'a>> {
        let left = self.eval(left, care)?.i64s()?;
        let Some((left, right)) = left.zip(self.eval(right, care)?.i64s()?) else { return Ok(Vector::Null) };
        let rows = self.rows;
        Ok(Vector::I64(match math {
            Math::Add => checked(rows, left, right, i64::checked_add),
            Math::Subtract => checked(rows, left, right, i64::checked_sub),
            Math::Multiply => checked(rows, left, right, i64::checked_mul),
            Math::Remainder => checked(rows, left, right, remainder),
            Math::Divide => return Err(bug("a division of integers")),
        }))
    }

    pub(super) fn decimal(&self, decimal: &Decimal, care: Care<'_>) -> Result<Vector<'a>> {
        match decimal {
            Decimal::Math { math, left: (left, a), right: (right, b), digits } => {
                let left = self.eval(left, care)?.i128s()?;
                let Some((left, right)) = left.zip(self.eval(right, care)?.i128s()?) else { return Ok(Vector::Null) };
                let (scale, digits) = ((*a).max(*b), *digits);
                let (a, b) = (scale - a, scale - b);
                let same = |x: i128, y: i128| number::lengthen(x, a).zip(number::lengthen(y, b));
                let fits = |value: i128| number::fits(value, digits);
                Ok(Vector::I128(match math {
                    Math::Add => checked(self.rows, left, right, |x, y| {
                        same(x, y).and_then(|(x, y)| x.checked_add(y)).and_then(fits)
                    }),
                    Math::Subtract => checked(self.rows, left, right, |x, y| {
                        same(x, y).and_then(|(x, y)| x.checked_sub(y)).and_then(fits)
                    }),
                    Math::Multiply => checked(self.rows, left, right, |x: i128, y| x.checked_mul(y).and_then(fits)),
                    Math::Remainder => checked(self.rows, left, right, |x, y| {
                        same(x, y).and_then(|(x, y)| x.checked_rem(y)).and_then(fits)
                    }),
                    Math::Divide => return Err(bug("a division of decimals")),
                }))
            }
            Decimal::Shorten { value, by, how } => {
                let Some(Numbers { values, valid }) = self.eval(value, care)?.i128s()? else { return Ok(Vector::Null) };
                Ok(Vector::I128(Numbers { values: values.map(|value| number::shorten(value, *by, *how)), valid }))
            }
        }
    }

    pub(super) fn negative(&self, value: &Node, care: Care<'_>) -> Result<Vector<'a>> {
        Ok(match self.eval(value, care)? {
            Vector::Null => Vector::Null,
            Vector::I64(numbers) => Vector::I64(mapped(self.rows, numbers, i64::checked_neg)),
            Vector::F64(Numbers { values, valid }) => {
                Vector::F64(Numbers { values: values.map(|value| -value), valid })
            }
            Vector::I128(numbers) => Vector::I128(mapped(self.rows, numbers, i128::checked_neg)),
            Vector::Bool(_) | Vector::I32(_) | Vector::Text(_) | Vector::Other(_) => {
                return Err(bug("the sign of what is no number"));
            }
        })
    }

    pub(super) fn absolute(&self, value: &Node, care: Care<'_>) -> Result<Vector<'a>> {
        Ok(match self.eval(value, care)? {
            Vector::Null => Vector::Null,
            Vector::I64(numbers) => Vector::I64(mapped(self.rows, numbers, i64::checked_abs)),
            Vector::F64(Numbers { values, valid }) => Vector::F64(Numbers { values: values.map(f64::abs), valid }),
            Vector::I128(numbers) => Vector::I128(mapped(self.rows, numbers, i128::checked_abs)),
            Vector::Bool(_) | Vector::I32(_) | Vector::Text(_) | Vector::Other(_) => {
                return Err(bug("the size of what is no number"));
            }
        })
    }
}

/// With the sign of the dividend. The remainder by -1 is 0 for every integer.
fn remainder(a: i64, b: i64) -> Option<i64> {
    if b == -1 { Some(0) } else { a.checked_rem(b) }
}

fn called(call: Call, values: &Values<'_, f64>) -> Values<'static, f64> {
    match call {
        Call::Round(0) => values.map(f64::round),
        Call::Round(digits) => {
            let unit = 10_f64.powi(digits);
            values.map(|value| {
                let scaled = value * unit;
                // So large that it has no digits there.
                if scaled.abs() < 9e15 { scaled.round() / unit } else { value }
            })
        }
        Call::Floor => values.map(f64::floor),
        Call::Ceil => values.map(f64::ceil),
        Call::Trunc => values.map(f64::trunc),
        Call::Sqrt => values.map(f64::sqrt),
        Call::Exp => values.map(f64::exp),
        Call::Ln => values.map(f64::ln),
        Call::Log10 => values.map(f64::log10),
    }
}
