//! Types: an expression as it is written becomes a [`Node`], with every column found, every operand of a type that its operation takes,
//! and every conversion made plain. What does not fit is a [`Problem`] at its place.

mod functions;
mod literal;
mod logic;
mod numbers;
mod scope;
mod sets;

pub(crate) use functions::FUNCTIONS;
pub(crate) use scope::{Computed, Read, Reads, Scope};

use crate::ast::{Expr, Kind};
use crate::node::Node;
use crate::problem::{Problem, Result, Span};
use crate::time;
use crate::types::{Scalar, Type};
use literal::Written;

/// An expression with its type.
#[derive(Debug)]
pub(crate) struct Typed {
    pub(crate) node: Node,
    pub(crate) ty: Type,
    span: Span,
    /// A constant as it is written, which takes the type of what it stands beside.
    written: Option<Written>,
}

/// Gives types to one expression.
pub(crate) struct Checker<'c, 's> {
    pub(crate) text: &'c str,
    pub(crate) scope: &'c Scope<'s>,
    pub(crate) reads: &'c mut Reads,
    /// The next free slot.
    pub(crate) slots: &'c mut usize,
}

impl Checker<'_, '_> {
    /// The whole expression.
    pub(crate) fn check(&mut self, expr: &Expr) -> Result<Typed> {
        let span = expr.span;
        let made = |node, ty| Ok(Typed { node, ty, span, written: None });
        match &*expr.kind {
            Kind::Null => made(Node::Const(Scalar::Null), Type::Null),
            Kind::Bool(value) => made(Node::Const(Scalar::Bool(*value)), Type::Bool),
            Kind::Whole(number) => literal::whole(number, span),
            Kind::Fraction(number) => literal::fraction(number.clone(), span),
            Kind::Text { value, double } => Ok(literal::text(value, *double, span)),
            Kind::Date(text) => match time::parse_date(text) {
                Some(days) => made(Node::Const(Scalar::Date(days)), Type::Date),
                None => Err(literal::no_date(span)),
            },
            Kind::Timestamp(text) => match time::parse_timestamp(text) {
                Some(at) => made(Node::Const(Scalar::Timestamp(at)), Type::Timestamp { zoned: true }),
                None => Err(literal::no_timestamp(span)),
            },
            Kind::Name(path) => {
                let (node, ty) = self.column(path)?;
                made(node, ty)
            }
            Kind::Negative(operand) => self.negative(operand, span),
            Kind::Math(math, left, right) => {
                let (node, ty) = self.math(*math, left, right)?;
                made(node, ty)
            }
            Kind::Joined(parts) => {
                let parts = parts.iter().map(|part| self.text_of(part, "`||`")).collect::<Result<_>>()?;
                made(Node::Text(crate::node::Text::Join { parts, skip_nulls: false }), Type::Text)
            }
            Kind::Cast { value, to, strict } => {
                let (node, ty) = self.cast(value, *to, *strict, span)?;
                made(node, ty)
            }
            Kind::Case { subject, arms, otherwise } => {
                let (node, ty) = self.case(subject.as_ref(), arms, otherwise.as_ref())?;
                made(node, ty)
            }
            Kind::Call { name: (name, at), arguments } => {
                let (node, ty) = self.call(name, *at, arguments)?;
                made(node, ty)
            }
            Kind::Not(_)
            | Kind::All(_)
            | Kind::Any(_)
            | Kind::Compare(..)
            | Kind::Between { .. }
            | Kind::In { .. }
            | Kind::InAsset { .. }
            | Kind::Like { .. }
            | Kind::Is { .. }
            | Kind::Distinct { .. } => made(self.logic(expr)?, Type::Bool),
        }
    }

    /// An expression that must be a condition.
    pub(crate) fn condition(&mut self, expr: &Expr, who: &str) -> Result<Node> {
        let typed = self.check(expr)?;
        match typed.ty {
            Type::Bool => Ok(typed.node),
            Type::Null => Ok(Node::Const(Scalar::Null)),
            Type::Int
            | Type::Float
            | Type::Decimal(..)
            | Type::Text
            | Type::Date
            | Type::Timestamp { .. }
            | Type::Other(_) => Err(self
                .refused(&typed, who, "conditions")
                .hint(format!("compare it with something: `{} = …`", self.shown(typed.span)))),
        }
    }

    /// An expression that must be text.
    fn text_of(&mut self, expr: &Expr, who: &str) -> Result<Node> {
        let typed = self.check(expr)?;
        match typed.ty {
            Type::Text => Ok(typed.node),
            Type::Null => Ok(Node::Const(Scalar::Null)),
            Type::Bool
            | Type::Int
            | Type::Float
            | Type::Decimal(..)
            | Type::Date
            | Type::Timestamp { .. }
            | Type::Other(_) => {
                Err(self.refused(&typed, who, "text").hint(format!("write `cast({} as text)`", self.shown(typed.span))))
            }
        }
    }

    /// "`country` is text, `-` takes numbers".
    fn refused(&self, typed: &Typed, who: &str, wanted: &str) -> Problem {
        Problem::new(typed.span, format!("{} is {}, {who} takes {wanted}", self.quoted(typed.span), typed.ty))
    }

    /// A piece of the expression as it is written, if it is short.
    fn shown(&self, span: Span) -> &str {
        let written = self.text.get(span.start..span.end).unwrap_or("…");
        if written.chars().count() > 40 || written.contains(char::is_control) { "…" } else { written }
    }

    fn quoted(&self, span: Span) -> String {
        match self.shown(span) {
            "…" => "this".to_owned(),
            written => format!("`{}`", written.trim_matches('`')),
        }
    }

    /// A slot that no other value of the batch has.
    fn slot(&mut self) -> usize {
        *self.slots += 1;
        *self.slots - 1
    }

    /// The value once, for a body that uses it more than once.
    fn once(&mut self, value: Node, body: impl FnOnce(&mut Self, &dyn Fn() -> Node) -> Result<Node>) -> Result<Node> {
        let slot = self.slot();
        let body = Box::new(body(self, &|| Node::Slot(slot))?);
        Ok(Node::Let { slot, value: Box::new(value), body })
    }
}
