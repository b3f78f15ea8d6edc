//! Constants, and what stands beside what: the type that several expressions have in common. A constant has no type of its own
//! to insist on: beside a decimal `0.1` is exactly that, beside a timestamp a text is one.

use super::{Checker, Typed};
use crate::node::Node;
use crate::number;
use crate::problem::{Problem, Result, Span};
use crate::time;
use crate::types::{DIGITS, Scalar, Type};

/// A constant as it is written.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Written {
    /// Digits, perhaps with a sign.
    Whole(String),
    /// With a point or an exponent.
    Fraction(String),
    Text {
        value: String,
        double: bool,
    },
}

pub(super) fn whole(number: &str, span: Span) -> Result<Typed> {
    let made = |node, ty| Ok(Typed { node, ty, span, written: Some(Written::Whole(number.to_owned())) });
    if let Ok(value) = number.parse() {
        return made(Node::Const(Scalar::Int(value)), Type::Int);
    }
    match number::exact(number, 0) {
        Some(value) => made(Node::Const(Scalar::Decimal(value)), Type::Decimal(DIGITS, 0)),
        None => Err(Problem::new(span, format!("the number has more than {DIGITS} digits"))
            .hint("with a point or an exponent it is a float: `1e40`")),
    }
}

pub(super) fn fraction(number: String, span: Span) -> Result<Typed> {
    match number.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(Typed {
            node: Node::Const(Scalar::Float(value)),
            ty: Type::Float,
            span,
            written: Some(Written::Fraction(number)),
        }),
        _ => Err(Problem::new(span, "the number is larger than any float").hint("the largest is about 1.8e308")),
    }
}

pub(super) fn text(value: &str, double: bool, span: Span) -> Typed {
    let written = Some(Written::Text { value: value.to_owned(), double });
    Typed { node: Node::Const(Scalar::Text(value.into())), ty: Type::Text, span, written }
}

pub(super) fn no_date(span: Span) -> Problem {
    Problem::new(span, "the text is no date").hint("write '2026-03-01'")
}

pub(super) fn no_timestamp(span: Span) -> Problem {
    Problem::new(span, "the text is no timestamp").hint("write '2026-03-01T12:30:00Z'")
}

impl Typed {
    pub(super) fn is_constant(&self) -> bool {
        matches!(self.node, Node::Const(_))
    }

    /// Digits and scale of an exact number: a constant's own.
    pub(super) fn digits(&self) -> Option<(u8, u8)> {
        match &self.written {
            Some(Written::Whole(number) | Written::Fraction(number)) => number::digits(number),
            Some(Written::Text { .. }) | None => self.ty.digits(),
        }
    }
}

impl Checker<'_, '_> {
    /// The type that all of them can take.
    pub(super) fn common(&self, all: &[&Typed], who: &str) -> Result<Type> {
        let fraction = |typed: &Typed| matches!(typed.written, Some(Written::Fraction(_)));
        let whole = |typed: &Typed| matches!(typed.written, Some(Written::Whole(_)));
        let decimal = all.iter().any(|typed| matches!(typed.ty, Type::Decimal(..)));
        let float = all.iter().any(|typed| typed.ty == Type::Float && !fraction(typed));
        let times = all.iter().any(|typed| matches!(typed.ty, Type::Date | Type::Timestamp { .. }));
        let mut common = Type::Null;
        let mut first: Option<&Typed> = None;
        for typed in all {
            let exact = decimal && !float && (fraction(typed) || whole(typed));
            let ty = match (&typed.written, typed.digits()) {
                (Some(Written::Text { .. }), _) if times => continue,
                (Some(_), Some((digits, scale))) if exact => Type::Decimal(digits, scale),
                _ => typed.ty.clone(),
            };
            common = common.with(&ty).ok_or_else(|| {
                let other =
                    first.map_or(common.to_string(), |first| format!("{} is {}", self.quoted(first.span), first.ty));
                Problem::new(
                    typed.span,
                    format!("{other} and {} is {}: {who} takes one type", self.quoted(typed.span), typed.ty),
                )
                .hint(unlike(&common, &ty))
            })?;
            if typed.ty != Type::Null {
                first.get_or_insert(typed);
            }
        }
        if let (Type::Other(_), Some(first)) = (&common, first) {
            return Err(self.refused(first, who, "values that are no lists, bytes or structs"));
        }
        Ok(common)
    }

    /// The expression as a value of another type, which [`Checker::common`] found.
    pub(super) fn to(&self, typed: Typed, ty: &Type) -> Result<Node> {
        let Typed { node, ty: from, span, written } = typed;
        if from == *ty {
            return Ok(node);
        }
        let constant = match (&written, ty) {
            (_, _) if from == Type::Null => Scalar::Null,
            (Some(Written::Whole(number) | Written::Fraction(number)), Type::Float) => {
                Scalar::Float(number.parse().unwrap_or(f64::NAN))
            }
            (Some(Written::Whole(number) | Written::Fraction(number)), Type::Decimal(_, scale)) => {
                match number::exact(number, *scale) {
                    Some(value) => Scalar::Decimal(value),
                    None => return Err(Problem::new(span, format!("the number does not fit {ty}"))),
                }
            }
            (Some(Written::Text { value, double: _ }), Type::Date) => {
                Scalar::Date(time::parse_date(value).ok_or_else(|| no_date(span))?)
            }
            (Some(Written::Text { value, double: _ }), Type::Timestamp { .. }) => {
                Scalar::Timestamp(time::parse_timestamp(value).ok_or_else(|| no_timestamp(span))?)
            }
            // A label of the same instants.
            (_, Type::Timestamp { .. }) if matches!(from, Type::Timestamp { .. }) => return Ok(node),
            _ => return Ok(Node::Cast { value: Box::new(node), from, to: ty.clone(), strict: None }),
        };
        Ok(Node::Const(constant))
    }

    /// For a column of a type that expressions only pass on.
    pub(crate) fn not_computed(&self, typed: &Typed) -> Problem {
        Problem::new(typed.span, format!("{} is {}, which no expression computes", self.quoted(typed.span), typed.ty))
            .hint("columns of the input pass by themselves; under another name they need a module of their own")
    }

    /// For a column that is null and nothing else.
    pub(crate) fn typeless(&self, typed: &Typed) -> Problem {
        Problem::new(typed.span, "a column that is always null has no type").hint("write `cast(null as text)`")
    }

    /// Where nothing but constants is compared, a double-quoted one that is a column's name was meant as the column.
    pub(super) fn check_quotes(&self, all: &[&Typed]) -> Result<()> {
        if !all.iter().all(|typed| typed.is_constant()) {
            return Ok(());
        }
        for typed in all {
            if let Some(Written::Text { value, double: true }) = &typed.written
                && (self.scope.input.find(value).is_some() || self.scope.computed(value).is_some())
            {
                return Err(Problem::new(typed.span, format!("\"{value}\" is a text, and never the column")).hint(
                    format!("write `{value}` in backticks for the column, '{value}' in single quotes for the text"),
                ));
            }
        }
        Ok(())
    }
}

/// What to do about two types that do not go together.
fn unlike(left: &Type, right: &Type) -> String {
    match (left, right) {
        (Type::Text, other) | (other, Type::Text) if other.is_number() => {
            "numbers are written without quotes; text is read as one by `cast(… as float)`".to_owned()
        }
        (Type::Bool, _) | (_, Type::Bool) => "a condition stands alone: `flag`, `not flag`".to_owned(),
        _ => "make them one type with `cast(… as …)`".to_owned(),
    }
}
