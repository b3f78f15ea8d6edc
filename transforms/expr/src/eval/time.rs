//! Dates and timestamps, by [`crate::time`].

use super::numbers::{checked, mapped};
use super::vector::{Numbers, Vector};
use super::{Care, Eval, Result};
use crate::node::{Node, Time};
use crate::time::{self, DAY};

/// A date's midnight.
pub(super) fn midnight(days: i32) -> i64 {
    i64::from(days) * DAY
}

fn day(at: i64) -> Option<i32> {
    i32::try_from(at.div_euclid(DAY)).ok()
}

impl<'a> Eval<'a> {
    pub(super) fn time(&self, time: &Time, care: Care<'_>) -> Result<Vector<'a>> {
        let rows = self.rows;
        match time {
            Time::Part { unit, value, date } => {
                let Some(at) = self.instants(value, *date, care)? else { return Ok(Vector::Null) };
                Ok(Vector::I64(mapped(rows, at, |at| time::part(*unit, at))))
            }
            Time::Truncate { unit, value, date } => {
                let Some(at) = self.instants(value, *date, care)? else { return Ok(Vector::Null) };
                let begins = mapped(rows, at, |at| time::truncate(*unit, at));
                Ok(if *date { Vector::I32(mapped(rows, begins, day)) } else { Vector::I64(begins) })
            }
            Time::Add { unit, amount, value, date } => {
                let amount = self.eval(amount, care)?.i64s()?;
                let Some((amount, at)) = amount.zip(self.instants(value, *date, care)?) else {
                    return Ok(Vector::Null);
                };
                let moved = checked(rows, amount, at, |amount, at| time::add(*unit, amount, at));
                Ok(if *date { Vector::I32(mapped(rows, moved, day)) } else { Vector::I64(moved) })
            }
            Time::Between { unit, from, to } => {
                let from = self.eval(from, care)?.i64s()?;
                let Some((from, to)) = from.zip(self.eval(to, care)?.i64s()?) else { return Ok(Vector::Null) };
                Ok(Vector::I64(checked(rows, from, to, |from, to| time::between(*unit, from, to))))
            }
            Time::FromNumber { value, micros } => {
                let Some(numbers) = self.eval(value, care)?.i64s()? else { return Ok(Vector::Null) };
                Ok(Vector::I64(mapped(rows, numbers, |value| value.checked_mul(*micros))))
            }
        }
    }

    /// Timestamps, or the midnights of dates.
    fn instants(&self, value: &Node, date: bool, care: Care<'_>) -> Result<Option<Numbers<'a, i64>>> {
        let value = self.eval(value, care)?;
        if !date {
            return value.i64s();
        }
        Ok(value.i32s()?.map(|Numbers { values, valid }| Numbers { values: values.map(midnight), valid }))
    }
}
