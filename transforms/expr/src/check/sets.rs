//! `in`: lists in the expression, and assets with one value a line.

use std::rc::Rc;

use forebay_sdk::Asset;
use forebay_sdk::text::FastSet;

use super::literal::Written;
use super::{Checker, Typed};
use crate::ast::{Compare, Expr};
use crate::node::{Node, Set};
use crate::number;
use crate::problem::{Problem, Result, Span};
use crate::time;
use crate::types::{Scalar, Type};

impl Checker<'_, '_> {
    /// One of a list of constants is looked up; where there are other expressions in the list, each is compared.
    pub(super) fn among(&mut self, value: &Expr, list: &[Expr]) -> Result<Node> {
        let value = self.check(value)?;
        let list = list.iter().map(|item| self.check(item)).collect::<Result<Vec<_>>>()?;
        let all: Vec<_> = std::iter::once(&value).chain(&list).collect();
        self.check_quotes(&all)?;
        let common = self.common(&all, "`in`")?;
        if value.ty == Type::Null {
            return Ok(Node::Const(Scalar::Null));
        }
        if list.iter().all(Typed::is_constant) {
            return self.constants(value, list, &common);
        }
        let (ty, span, written) = (value.ty.clone(), value.span, value.written.clone());
        self.once(value.node, |this, value| {
            let each = list.into_iter().map(|item| {
                let same = Typed { node: value(), ty: ty.clone(), span, written: written.clone() };
                this.compare(Compare::Equal, same, item, "`in`")
            });
            Ok(Node::Any(each.collect::<Result<_>>()?))
        })
    }

    fn constants(&mut self, value: Typed, list: Vec<Typed>, common: &Type) -> Result<Node> {
        let null = list.iter().any(|item| item.ty == Type::Null);
        // A decimal keeps its own scale: what has more digits behind the point equals none of its values.
        let (value, scale) = match common {
            Type::Decimal(..) => {
                let (value, _, scale) = self.exact(value)?;
                (value, scale)
            }
            _ => (self.to(value, common)?, 0),
        };
        let mut scalars = Vec::new();
        for item in list.into_iter().filter(|item| item.ty != Type::Null) {
            if let Type::Decimal(..) = common {
                let written = match &item.written {
                    Some(Written::Whole(number) | Written::Fraction(number)) => number::exact(number, scale),
                    Some(Written::Text { .. }) | None => None,
                };
                scalars.extend(written.map(Scalar::Decimal));
            } else if let Node::Const(scalar) = self.to(item, common)? {
                scalars.push(scalar);
            }
        }
        let set = set(common, scalars.into_iter()).map_err(|scalar| {
            let problem = format!("a list holds no {scalar:?} among values of {common}");
            Problem::new(Span { start: 0, end: 0 }, problem)
        })?;
        Ok(Node::Among { value: Box::new(value), set: Rc::new(set), null })
    }

    /// One of an asset's lines, each read as the value's type.
    pub(super) fn in_asset(&mut self, value: &Expr, asset: &str, at: Span) -> Result<Node> {
        let value = self.check(value)?;
        let Some(opened) = Asset::open(asset) else {
            let problem = Problem::new(at, format!("there is no asset `{asset}`"));
            let hint = if self.scope.input.find(asset).is_some() || self.scope.computed(asset).is_some() {
                format!("`in` takes a list, `in ('a', 'b')`, or an asset; to compare with the column write `= {asset}`")
            } else {
                format!(
                    "give the step one: assets = {{ {asset} = \"{asset}.txt\" }}, one value a line; or write a list: `in ('a', 'b')`"
                )
            };
            return Err(problem.hint(hint));
        };
        let text = opened.read_text().map_err(|error| {
            let problem = Problem::new(at, error.message());
            match error.get_hint() {
                Some(hint) => problem.hint(hint),
                None => problem,
            }
        })?;
        let ty = value.ty.clone();
        if matches!(ty, Type::Bool | Type::Other(_)) {
            return Err(self.refused(&value, "`in` with an asset", "text, numbers, dates and timestamps"));
        }
        let mut scalars = Vec::new();
        for (number, line) in text.lines().enumerate() {
            for entry in forebay_sdk::lines(line) {
                let scalar = read(entry, &ty).ok_or_else(|| {
                    let problem = format!("line {} of the asset `{asset}` cannot be read as {ty}", number + 1);
                    Problem::new(at, problem).hint(format!(
                        "{} is {ty}, so each line must be: correct the line, or compare `cast({} as text)`",
                        self.quoted(value.span),
                        self.shown(value.span)
                    ))
                })?;
                scalars.push(scalar);
            }
        }
        if ty == Type::Null {
            return Ok(Node::Const(Scalar::Null));
        }
        let set = set(&ty, scalars.into_iter())
            .map_err(|_| Problem::new(at, format!("the asset `{asset}` holds no values of {ty}")))?;
        Ok(Node::Among { value: Box::new(value.node), set: Rc::new(set), null: false })
    }
}

/// A line of an asset as a value of the type; a decimal with no more digits behind the point than the type has.
fn read(entry: &str, ty: &Type) -> Option<Scalar> {
    match ty {
        Type::Int => entry.parse().ok().map(Scalar::Int),
        Type::Float => entry.parse::<f64>().ok().filter(|value| value.is_finite()).map(Scalar::Float),
        Type::Decimal(_, scale) => number::exact(entry, *scale).map(Scalar::Decimal),
        Type::Text => Some(Scalar::Text(entry.into())),
        Type::Date => time::parse_date(entry).map(Scalar::Date),
        Type::Timestamp { zoned: _ } => time::parse_timestamp(entry).map(Scalar::Timestamp),
        Type::Null => Some(Scalar::Null),
        Type::Bool | Type::Other(_) => None,
    }
}

/// The values as a set of the type.
fn set(ty: &Type, scalars: impl Iterator<Item = Scalar>) -> Result<Set, Scalar> {
    macro_rules! collect {
        ($set:ident, $scalar:ident, $value:ident => $key:expr) => {{
            let mut set = FastSet::default();
            for scalar in scalars {
                let Scalar::$scalar($value) = scalar else { return Err(scalar) };
                set.insert($key);
            }
            Set::$set(set)
        }};
    }
    Ok(match ty {
        Type::Bool => collect!(Bool, Bool, value => value),
        Type::Int => collect!(Int, Int, value => value),
        Type::Timestamp { zoned: _ } => collect!(Int, Timestamp, value => value),
        Type::Float => collect!(Float, Float, value => number::canonical(value)),
        Type::Decimal(..) => collect!(Decimal, Decimal, value => value),
        Type::Date => collect!(Date, Date, value => value),
        Type::Text => collect!(Text, Text, value => value),
        Type::Null | Type::Other(_) => return Err(Scalar::Null),
    })
}
