//! Conditions.

use std::rc::Rc;

use super::literal::Written;
use super::{Checker, Typed};
use crate::ast::{Compare, Expr, Is, Kind};
use crate::like::Like;
use crate::node::Node;
use crate::problem::{Problem, Result};
use crate::types::{Scalar, Type};

fn not_if(not: bool, node: Node) -> Node {
    if not { Node::Not(Box::new(node)) } else { node }
}

impl Checker<'_, '_> {
    pub(super) fn logic(&mut self, expr: &Expr) -> Result<Node> {
        match &*expr.kind {
            Kind::Not(operand) => Ok(Node::Not(Box::new(self.condition(operand, "`not`")?))),
            Kind::All(parts) => {
                Ok(Node::All(parts.iter().map(|part| self.condition(part, "`and`")).collect::<Result<_>>()?))
            }
            Kind::Any(parts) => {
                Ok(Node::Any(parts.iter().map(|part| self.condition(part, "`or`")).collect::<Result<_>>()?))
            }
            Kind::Compare(compare, left, right) => {
                let (left, right) = (self.check(left)?, self.check(right)?);
                self.compare(*compare, left, right, symbol(*compare))
            }
            Kind::Between { value, low, high, not } => self.between(value, low, high, *not),
            Kind::In { value, list, not } => Ok(not_if(*not, self.among(value, list)?)),
            Kind::InAsset { value, asset: (asset, at), not } => Ok(not_if(*not, self.in_asset(value, asset, *at)?)),
            Kind::Like { value, pattern, not, fold } => self.like(value, pattern, *not, *fold),
            Kind::Is { value, is, not } => {
                let node = match is {
                    Is::Null => {
                        let typed = self.check(value)?;
                        self.check_quotes(&[&typed])?;
                        Node::IsNull(Box::new(typed.node))
                    }
                    Is::True | Is::False => {
                        let value = Box::new(self.condition(value, "`is true`")?);
                        Node::IsBool { value, wanted: *is == Is::True }
                    }
                };
                Ok(not_if(*not, node))
            }
            Kind::Distinct { left, right, not } => self.distinct(left, right, *not),
            Kind::Null
            | Kind::Bool(_)
            | Kind::Whole(_)
            | Kind::Fraction(_)
            | Kind::Text { .. }
            | Kind::Date(_)
            | Kind::Timestamp(_)
            | Kind::Name(_)
            | Kind::Negative(_)
            | Kind::Joined(_)
            | Kind::Math(..)
            | Kind::Case { .. }
            | Kind::Cast { .. }
            | Kind::Call { .. } => self.condition(expr, "this"),
        }
    }

    /// A comparison of two expressions, each made to the type that they have in common.
    pub(super) fn compare(&mut self, compare: Compare, left: Typed, right: Typed, who: &str) -> Result<Node> {
        self.check_quotes(&[&left, &right])?;
        let common = self.common(&[&left, &right], who)?;
        if left.ty == Type::Null || right.ty == Type::Null {
            return Ok(Node::Const(Scalar::Null));
        }
        if common == Type::Bool && !matches!(compare, Compare::Equal | Compare::Unequal) {
            return Err(self.refused(&left, who, "values that have an order"));
        }
        self.compare_as(compare, left, right, &common)
    }

    fn compare_as(&mut self, compare: Compare, left: Typed, right: Typed, common: &Type) -> Result<Node> {
        if let Type::Decimal(..) = common {
            let ((left, _, left_scale), (right, _, right_scale)) = (self.exact(left)?, self.exact(right)?);
            let (left, right) = ((Box::new(left), left_scale), (Box::new(right), right_scale));
            return Ok(Node::CompareDecimal { compare, left, right });
        }
        let (left, right) = (Box::new(self.to(left, common)?), Box::new(self.to(right, common)?));
        Ok(Node::Compare { compare, left, right })
    }

    /// The value once, made to the type that it has in common with what it is compared with.
    fn between(&mut self, value: &Expr, low: &Expr, high: &Expr, not: bool) -> Result<Node> {
        let (value, low, high) = (self.check(value)?, self.check(low)?, self.check(high)?);
        let common = self.common(&[&value, &low, &high], "`between`")?;
        if value.ty == Type::Null {
            return Ok(Node::Const(Scalar::Null));
        }
        if common == Type::Bool {
            return Err(self.refused(&value, "`between`", "values that have an order"));
        }
        let (ty, span) = (value.ty.clone(), value.span);
        let written = value.written.clone();
        let node = self.once(value.node, |this, value| {
            let same = |node| Typed { node, ty: ty.clone(), span, written: written.clone() };
            let mut side = |compare, bound: Typed| {
                if bound.ty == Type::Null {
                    return Ok(Node::Const(Scalar::Null));
                }
                this.compare_as(compare, same(value()), bound, &common)
            };
            Ok(Node::All(vec![side(Compare::GreaterOrEqual, low)?, side(Compare::LessOrEqual, high)?]))
        })?;
        Ok(not_if(not, node))
    }

    fn distinct(&mut self, left: &Expr, right: &Expr, not: bool) -> Result<Node> {
        let (left, right) = (self.check(left)?, self.check(right)?);
        let who = "`is distinct from`";
        let common = self.common(&[&left, &right], who)?;
        if common == Type::Null {
            return Ok(Node::Const(Scalar::Bool(not)));
        }
        // A null stays one in the common type.
        let (left, right) = (self.to(left, &common)?, self.to(right, &common)?);
        let node = self.once(left, |this, left| {
            this.once(right, |_, right| {
                let null = |node| Node::IsNull(Box::new(node));
                let equal = match &common {
                    Type::Decimal(_, scale) => Node::CompareDecimal {
                        compare: Compare::Equal,
                        left: (Box::new(left()), *scale),
                        right: (Box::new(right()), *scale),
                    },
                    _ => Node::Compare { compare: Compare::Equal, left: Box::new(left()), right: Box::new(right()) },
                };
                let same = Node::Any(vec![equal, Node::All(vec![null(left()), null(right())])]);
                Ok(Node::IsBool { value: Box::new(same), wanted: true })
            })
        })?;
        Ok(not_if(!not, node))
    }

    fn like(&mut self, value: &Expr, pattern: &Expr, not: bool, fold: bool) -> Result<Node> {
        let who = if fold { "`ilike`" } else { "`like`" };
        let text = Box::new(self.text_of(value, who)?);
        let typed = self.check(pattern)?;
        let Some(Written::Text { value: pattern, double: _ }) = &typed.written else {
            return Err(Problem::new(typed.span, format!("{who} takes a pattern that is written down"))
                .hint("for a text that a column has: `contains(a, b)`, `starts_with(a, b)`"));
        };
        let like = Like::new(pattern, fold).map_err(|reason| Problem::new(typed.span, reason))?;
        Ok(not_if(not, Node::Like { text, like: Rc::new(like) }))
    }

    /// The first arm whose condition is true; null where there is none.
    pub(super) fn case(
        &mut self,
        subject: Option<&Expr>,
        arms: &[(Expr, Expr)],
        otherwise: Option<&Expr>,
    ) -> Result<(Node, Type)> {
        let subject = subject.map(|subject| self.check(subject)).transpose()?;
        let slot = subject.as_ref().map(|_| self.slot());
        let mut conditions = Vec::new();
        for (when, _) in arms {
            conditions.push(match (&subject, slot) {
                (Some(subject), Some(slot)) => {
                    let Typed { node: _, ty, span, written } = subject;
                    let node = match subject.node {
                        Node::Const(ref scalar) => Node::Const(scalar.clone()),
                        _ => Node::Slot(slot),
                    };
                    let same = Typed { node, ty: ty.clone(), span: *span, written: written.clone() };
                    let when = self.check(when)?;
                    self.compare(Compare::Equal, same, when, "`when`")?
                }
                _ => self.condition(when, "`when`")?,
            });
        }
        let mut values = arms.iter().map(|(_, then)| self.check(then)).collect::<Result<Vec<_>>>()?;
        values.extend(otherwise.map(|otherwise| self.check(otherwise)).transpose()?);
        let (values, ty) = self.alike(values, "`case`")?;
        let mut values = values.into_iter();
        let arms = conditions.into_iter().zip(&mut values).collect();
        let otherwise = Box::new(values.next().unwrap_or(Node::Const(Scalar::Null)));
        let case = Node::Case { arms, otherwise };
        Ok(match (subject, slot) {
            (Some(subject), Some(slot)) => {
                (Node::Let { slot, value: Box::new(subject.node), body: Box::new(case) }, ty)
            }
            _ => (case, ty),
        })
    }

    /// All of them in the type that they have in common.
    pub(super) fn alike(&mut self, values: Vec<Typed>, who: &str) -> Result<(Vec<Node>, Type)> {
        let ty = self.common(&values.iter().collect::<Vec<_>>(), who)?;
        let nodes = values.into_iter().map(|value| self.to(value, &ty)).collect::<Result<_>>()?;
        Ok((nodes, ty))
    }
}

fn symbol(compare: Compare) -> &'static str {
    match compare {
        Compare::Equal => "`=`",
        Compare::Unequal => "`<>`",
        Compare::Less => "`<`",
        Compare::LessOrEqual => "`<=`",
        Compare::Greater => "`>`",
        Compare::GreaterOrEqual => "`>=`",
    }
}
