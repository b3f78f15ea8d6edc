//! Conditions, in Kleene's three values.

use forebay_sdk::build::Mask;

use super::vector::{FALSE, NULL, Numbers, Seen, TRUE, Texts, Valid, Values, both, fold, zip};
use super::{Care, Eval, Result, bug, matters};
use crate::ast::Compare;
use crate::node::{Node, Search, Set};
use crate::number;

const UNKNOWN: Values<'static, u8> = Values::One(NULL);

fn told(holds: bool) -> u8 {
    if holds { TRUE } else { FALSE }
}

/// Null where the values that were looked at are.
fn with_nulls(values: Values<'static, u8>, valid: Valid, rows: usize) -> Values<'static, u8> {
    let Some(valid) = valid else { return values };
    let mut values = values.into_vec(rows);
    for row in (!valid).selection() {
        values[row as usize] = NULL;
    }
    Values::Owned(values)
}

impl<'a> Eval<'a> {
    /// A condition.
    pub(crate) fn bools(&self, node: &Node, care: Care<'_>) -> Result<Values<'a, u8>> {
        match node {
            Node::All(parts) => self.chain(parts, care, FALSE, |a, b| a.min(b)),
            Node::Any(parts) => self.chain(parts, care, TRUE, |a, b| a.max(b)),
            Node::Not(inner) => Ok(match self.bools(inner, care)? {
                Values::Owned(mut values) => {
                    values.iter_mut().for_each(|value| *value = TRUE - *value);
                    Values::Owned(values)
                }
                values => values.map(|value| TRUE - value),
            }),
            Node::IsBool { value, wanted } => {
                let wanted = told(*wanted);
                Ok(self.bools(value, care)?.map(|value| told(value == wanted)))
            }
            Node::IsNull(value) => Ok(self.eval(value, care)?.nulls(self.rows)),
            Node::Compare { compare, left, right } => self.compare(*compare, left, right, care),
            Node::CompareDecimal { compare, left: (left, left_scale), right: (right, right_scale) } => {
                let left = self.eval(left, care)?.i128s()?;
                let Some((left, right)) = left.zip(self.eval(right, care)?.i128s()?) else { return Ok(UNKNOWN) };
                let (a, b) = (*left_scale, *right_scale);
                Ok(self.numbers(
                    *compare,
                    left,
                    right,
                    |x, y| number::compare((x, a), (y, b)).is_eq(),
                    |x, y| number::compare((x, a), (y, b)).is_lt(),
                    |x, y| number::compare((x, b), (y, a)).is_lt(),
                ))
            }
            Node::Among { value, set, null } => self.among(value, set, *null, care),
            Node::Search { how, text, part } => self.search(*how, text, part, care),
            Node::Like { text, like } => {
                let Some(text) = self.eval(text, care)?.texts()? else { return Ok(UNKNOWN) };
                Ok(self.test(&text, care, |text| told(like.fits(text))))
            }
            Node::Const(_)
            | Node::Input(_)
            | Node::Slot(_)
            | Node::Let { .. }
            | Node::Float(_)
            | Node::Int { .. }
            | Node::Decimal(_)
            | Node::Negative(_)
            | Node::Absolute(_)
            | Node::Case { .. }
            | Node::Coalesce(_)
            | Node::Extreme { .. }
            | Node::Text(_)
            | Node::Length(_)
            | Node::Time(_)
            | Node::Now
            | Node::Cast { .. } => Ok(self.eval(node, care)?.bools()?.unwrap_or(UNKNOWN)),
        }
    }

    /// `and` and `or`: a row that is `settled` is, whatever comes.
    fn chain(
        &self,
        parts: &[Node],
        care: Care<'_>,
        settled: u8,
        with: impl Fn(u8, u8) -> u8,
    ) -> Result<Values<'a, u8>> {
        let Some((first, rest)) = parts.split_first() else { return Err(bug("a condition of no parts")) };
        let mut answer = self.bools(first, care)?;
        let mut open = Vec::new();
        for part in rest {
            open.clear();
            match answer.seen() {
                Seen::One(value) if value == settled => return Ok(answer),
                Seen::One(_) => open.extend_from_slice(care.unwrap_or_default()),
                Seen::Each(values) => {
                    open.extend(values.iter().map(|value| u8::from(*value != settled)));
                    if let Some(care) = care {
                        open.iter_mut().zip(care).for_each(|(open, care)| *open &= care);
                    }
                    if open.iter().fold(0, |any, open| any | open) == 0 {
                        return Ok(answer);
                    }
                }
            }
            let open = Some(open.as_slice()).filter(|open| !open.is_empty());
            answer = fold(answer, self.bools(part, open)?, &with);
        }
        Ok(answer)
    }

    fn compare(&self, compare: Compare, left: &Node, right: &Node, care: Care<'_>) -> Result<Values<'a, u8>> {
        use super::Vector as V;
        Ok(match (self.eval(left, care)?, self.eval(right, care)?) {
            (V::Null, _) | (_, V::Null) => UNKNOWN,
            (V::I64(a), V::I64(b)) => self.numbers(compare, a, b, |a, b| a == b, |a, b| a < b, |a, b| a < b),
            (V::I32(a), V::I32(b)) => self.numbers(compare, a, b, |a, b| a == b, |a, b| a < b, |a, b| a < b),
            (V::F64(a), V::F64(b)) => self.numbers(compare, a, b, same, below, below),
            (V::Text(a), V::Text(b)) => self.text_order(compare, &a, &b, care),
            (V::Bool(a), V::Bool(b)) => {
                let equal = |a: u8, b: u8| if a == NULL || b == NULL { NULL } else { told(a == b) };
                let equals = zip(&a, &b, equal);
                if compare == Compare::Equal { equals } else { equals.map(|equal| TRUE - equal) }
            }
            _ => return Err(bug("a comparison of two types")),
        })
    }

    /// `below` is asked with the sides as they are, `above` with them exchanged.
    fn numbers<T: Copy>(
        &self,
        compare: Compare,
        left: Numbers<'a, T>,
        right: Numbers<'a, T>,
        same: impl Fn(T, T) -> bool,
        below: impl Fn(T, T) -> bool,
        above: impl Fn(T, T) -> bool,
    ) -> Values<'static, u8> {
        let valid = both(left.valid, right.valid);
        let (a, b) = (left.values, right.values);
        let answer = match compare {
            Compare::Equal => zip(&a, &b, |a, b| told(same(a, b))),
            Compare::Unequal => zip(&a, &b, |a, b| told(!same(a, b))),
            Compare::Less => zip(&a, &b, |a, b| told(below(a, b))),
            Compare::GreaterOrEqual => zip(&a, &b, |a, b| told(!below(a, b))),
            Compare::Greater => zip(&b, &a, |b, a| told(above(b, a))),
            Compare::LessOrEqual => zip(&b, &a, |b, a| told(!above(b, a))),
        };
        with_nulls(answer, valid, self.rows)
    }

    fn text_order(&self, compare: Compare, left: &Texts<'a>, right: &Texts<'a>, care: Care<'_>) -> Values<'static, u8> {
        self.pairs(left, right, care, |a, b| {
            told(match compare {
                Compare::Equal => a == b,
                Compare::Unequal => a != b,
                Compare::Less => a < b,
                Compare::LessOrEqual => a <= b,
                Compare::Greater => a > b,
                Compare::GreaterOrEqual => a >= b,
            })
        })
    }

    /// A question about two texts, asked where the answer matters.
    fn pairs(
        &self,
        left: &Texts<'a>,
        right: &Texts<'a>,
        care: Care<'_>,
        ask: impl Fn(&str, &str) -> u8,
    ) -> Values<'static, u8> {
        if let (_, Texts::One(right)) = (left, right) {
            return self.test(left, care, |left| ask(left, right));
        }
        let (left, right) = (left.reader(), right.reader());
        let answer = |row| {
            if !matters(care, row) {
                return NULL;
            }
            left.get(row).zip(right.get(row)).map_or(NULL, |(left, right)| ask(left, right))
        };
        Values::Owned((0..self.rows).map(answer).collect())
    }

    /// A question about a text, asked where the answer matters.
    pub(super) fn test(&self, texts: &Texts<'a>, care: Care<'_>, ask: impl Fn(&str) -> u8) -> Values<'static, u8> {
        if let Texts::One(text) = texts {
            return Values::One(ask(text));
        }
        let reader = texts.reader();
        let answer = |row| if matters(care, row) { reader.get(row).map_or(NULL, &ask) } else { NULL };
        Values::Owned((0..self.rows).map(answer).collect())
    }

    fn search(&self, how: Search, text: &Node, part: &Node, care: Care<'_>) -> Result<Values<'a, u8>> {
        let text = self.eval(text, care)?.texts()?;
        let Some((text, part)) = text.zip(self.eval(part, care)?.texts()?) else { return Ok(UNKNOWN) };
        if let (Search::Contains, Texts::One(part)) = (how, &part) {
            let finder = forebay_sdk::text::Finder::new(part);
            return Ok(self.test(&text, care, |text| told(finder.is_in(text))));
        }
        Ok(self.pairs(&text, &part, care, |text, part| {
            told(match how {
                Search::Contains => text.contains(part),
                Search::Starts => text.starts_with(part),
                Search::Ends => text.ends_with(part),
            })
        }))
    }

    fn among(&self, value: &Node, set: &Set, null: bool, care: Care<'_>) -> Result<Values<'a, u8>> {
        let value = self.eval(value, care)?;
        let missing = if null { NULL } else { FALSE };
        let found = move |found: bool| if found { TRUE } else { missing };
        macro_rules! look {
            ($numbers:expr, $set:expr, $key:expr) => {{
                let Some(Numbers { values, valid }) = $numbers else { return Ok(UNKNOWN) };
                with_nulls(values.map(|value| found($set.contains(&$key(value)))), valid, self.rows)
            }};
        }
        Ok(match set {
            Set::Int(set) => look!(value.i64s()?, set, |value| value),
            Set::Float(set) => look!(value.f64s()?, set, number::canonical),
            Set::Decimal(set) => look!(value.i128s()?, set, |value| value),
            Set::Date(set) => look!(value.i32s()?, set, |value| value),
            Set::Bool(set) => {
                let Some(values) = value.bools()? else { return Ok(UNKNOWN) };
                values.map(|value| if value == NULL { NULL } else { found(set.contains(&(value == TRUE))) })
            }
            Set::Text(set) => {
                let Some(texts) = value.texts()? else { return Ok(UNKNOWN) };
                self.test(&texts, care, |text| found(set.contains(text)))
            }
        })
    }

    /// Where a condition is true.
    pub(crate) fn holds(&self, node: &Node, care: Care<'_>) -> Result<Mask> {
        let values = self.bools(node, care)?;
        let seen = values.seen();
        Ok(Mask::from_fn(self.rows, |row| seen.at(row) == TRUE))
    }
}

/// Floats as they are ordered here: a NaN equals itself, and lies above all others.
fn same(a: f64, b: f64) -> bool {
    (a == b) | (a.is_nan() & b.is_nan())
}

fn below(a: f64, b: f64) -> bool {
    (a < b) | (b.is_nan() & !a.is_nan())
}
