//! Arithmetic and casts.

use super::literal::{self, Written};
use super::{Checker, Typed};
use crate::ast::{Expr, Math, Named};
use crate::node::{Decimal, Float, Node};
use crate::problem::{Problem, Result, Span};
use crate::types::{DIGITS, Scalar, Type};

impl Checker<'_, '_> {
    /// An expression that must be a number, or null.
    pub(super) fn number(&mut self, expr: &Expr, who: &str) -> Result<Typed> {
        let typed = self.check(expr)?;
        if typed.ty.is_number() || typed.ty == Type::Null {
            return Ok(typed);
        }
        let problem = self.refused(&typed, who, "numbers");
        Err(match typed.ty {
            Type::Date | Type::Timestamp { .. } => problem
                .hint("dates are moved by `date_add('day', 7, at)`, and subtracted by `date_diff('day', start, at)`"),
            Type::Text if who == "`+`" => problem.hint("texts are joined by `||`"),
            Type::Text => problem.hint(format!("write `cast({} as float)`", self.shown(typed.span))),
            Type::Null | Type::Bool | Type::Int | Type::Float | Type::Decimal(..) | Type::Other(_) => problem,
        })
    }

    pub(super) fn negative(&mut self, operand: &Expr, span: Span) -> Result<Typed> {
        let typed = self.number(operand, "`-`")?;
        // The least integer has no positive form, so a sign belongs to its number; a second sign is an operation.
        match &typed.written {
            Some(Written::Whole(number)) if !number.starts_with('-') => {
                return literal::whole(&format!("-{number}"), span);
            }
            Some(Written::Fraction(number)) if !number.starts_with('-') => {
                return literal::fraction(format!("-{number}"), span);
            }
            Some(Written::Whole(_) | Written::Fraction(_) | Written::Text { .. }) | None => {}
        }
        Ok(Typed { node: Node::Negative(Box::new(typed.node)), span, written: None, ty: typed.ty })
    }

    pub(super) fn math(&mut self, math: Math, left: &Expr, right: &Expr) -> Result<(Node, Type)> {
        let who = format!("`{}`", math.symbol());
        let (left, right) = (self.number(left, &who)?, self.number(right, &who)?);
        let mut common = self.common(&[&left, &right], &who)?;
        if math == Math::Divide && common != Type::Null {
            common = Type::Float;
        }
        if left.ty == Type::Null || right.ty == Type::Null {
            return Ok((Node::Const(Scalar::Null), common));
        }
        match common {
            Type::Float => {
                let (left, right) = (self.to(left, &Type::Float)?, self.to(right, &Type::Float)?);
                Ok((float_math(math, left, right), Type::Float))
            }
            Type::Decimal(..) => self.decimal_math(math, left, right),
            Type::Null | Type::Bool | Type::Int | Type::Text | Type::Date | Type::Timestamp { .. } | Type::Other(_) => {
                Ok((Node::Int { math, left: Box::new(left.node), right: Box::new(right.node) }, Type::Int))
            }
        }
    }

    fn decimal_math(&mut self, math: Math, left: Typed, right: Typed) -> Result<(Node, Type)> {
        let span = left.span.to(right.span);
        let ((left, a, a_scale), (right, b, b_scale)) = (self.exact(left)?, self.exact(right)?);
        let most = (a - a_scale).max(b - b_scale);
        let wide = a_scale.max(b_scale);
        let (digits, scale) = match math {
            Math::Add | Math::Subtract => (most + wide + 1, wide),
            Math::Multiply => (a + b, a_scale + b_scale),
            Math::Divide | Math::Remainder => (most + wide, wide),
        };
        if scale > DIGITS {
            return Err(Problem::new(
                span,
                format!("the product has {scale} digits behind the point, more than {DIGITS}"),
            )
            .hint("round one of them first, or make it a float: `cast(… as float)`"));
        }
        let digits = digits.min(DIGITS);
        let node = Decimal::Math { math, left: (Box::new(left), a_scale), right: (Box::new(right), b_scale), digits };
        Ok((Node::Decimal(node), Type::Decimal(digits, scale)))
    }

    /// An exact number as a decimal: the node, its digits and its scale.
    pub(super) fn exact(&self, typed: Typed) -> Result<(Node, u8, u8)> {
        let (digits, scale) = typed.digits().unwrap_or((DIGITS, 0));
        Ok((self.to(typed, &Type::Decimal(digits, scale))?, digits, scale))
    }

    pub(super) fn cast(&mut self, value: &Expr, to: Named, strict: bool, span: Span) -> Result<(Node, Type)> {
        let typed = self.check(value)?;
        let to = match to {
            Named::Bool => Type::Bool,
            Named::Int => Type::Int,
            Named::Float => Type::Float,
            Named::Decimal(digits, scale) => Type::Decimal(digits, scale),
            Named::Text => Type::Text,
            Named::Date => Type::Date,
            Named::Timestamp => Type::Timestamp { zoned: true },
        };
        let possible = match (&typed.ty, &to) {
            (from, to) if from == to => true,
            (Type::Null, _) | (Type::Text, _) => true,
            (Type::Other(_), _) => false,
            (_, Type::Text) => true,
            (Type::Bool | Type::Int | Type::Float | Type::Decimal(..), Type::Int) => true,
            (from, Type::Float | Type::Decimal(..)) => from.is_number(),
            (Type::Date | Type::Timestamp { .. }, Type::Date | Type::Timestamp { .. }) => true,
            _ => false,
        };
        if !possible {
            let hint = match (&typed.ty, &to) {
                (from, Type::Bool) if from.is_number() => format!("write `{} <> 0`", self.shown(typed.span)),
                (Type::Int, Type::Timestamp { .. } | Type::Date) => {
                    format!("write `to_timestamp_seconds({})`, or `_millis`, or `_micros`", self.shown(typed.span))
                }
                (Type::Other(_), _) => "name a field of it, or write a module of its own".to_owned(),
                _ => "cast it to text first, if that is what you want".to_owned(),
            };
            return Err(Problem::new(
                span,
                format!("{} is {}, which becomes no {}", self.quoted(typed.span), typed.ty, bare(&to)),
            )
            .hint(hint));
        }
        if typed.ty == to {
            return Ok((typed.node, to));
        }
        if typed.ty == Type::Null {
            return Ok((Node::Const(Scalar::Null), to));
        }
        let strict = strict.then(|| {
            let message = format!("{} is no {} in `{}`", self.quoted(typed.span), bare(&to), self.shown(span));
            message.into()
        });
        Ok((Node::Cast { value: Box::new(typed.node), from: typed.ty, to: to.clone(), strict }, to))
    }
}

/// A type without its article.
fn bare(ty: &Type) -> String {
    let told = ty.to_string();
    told.strip_prefix("an ").or_else(|| told.strip_prefix("a ")).unwrap_or(&told).to_owned()
}

/// `null` for what is not finite. A float that is not finite stays so through sums and products, and as a dividend, so it is
/// enough to look at the end of a chain of them.
pub(super) fn float_math(math: Math, left: Node, right: Node) -> Node {
    let raw = |node: Node| match node {
        Node::Float(Float::Finite(inner)) => *inner,
        other => other,
    };
    let (left, right) = match math {
        Math::Add | Math::Subtract | Math::Multiply => (raw(left), raw(right)),
        Math::Divide => (raw(left), right),
        Math::Remainder => (left, right),
    };
    finite(Float::Math { math, left: Box::new(left), right: Box::new(right) })
}

pub(super) fn finite(float: Float) -> Node {
    Node::Float(Float::Finite(Box::new(Node::Float(float))))
}
