//! An expression as it is written, before types.

use crate::problem::{Problem, Result, Span};

/// How deep operations may nest: more than people write, and little enough for any stack.
pub(crate) const DEEPEST: u16 = 100;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Expr {
    pub(crate) kind: Box<Kind>,
    pub(crate) span: Span,
    pub(crate) depth: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compare {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Math {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

impl Math {
    pub(crate) fn symbol(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Remainder => "%",
        }
    }
}

/// What `is` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Is {
    Null,
    True,
    False,
}

/// A type as `cast` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Named {
    Bool,
    Int,
    Float,
    Decimal(u8, u8),
    Text,
    Date,
    Timestamp,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    Null,
    Bool(bool),
    /// Digits.
    Whole(String),
    /// Digits with a point or an exponent.
    Fraction(String),
    Text {
        value: String,
        double: bool,
    },
    /// `date '…'`.
    Date(String),
    /// `timestamp '…'`.
    Timestamp(String),
    /// A column, and fields within it.
    Name(Vec<(String, Span)>),
    Negative(Expr),
    Not(Expr),
    All(Vec<Expr>),
    Any(Vec<Expr>),
    Joined(Vec<Expr>),
    Math(Math, Expr, Expr),
    Compare(Compare, Expr, Expr),
    Between {
        value: Expr,
        low: Expr,
        high: Expr,
        not: bool,
    },
    In {
        value: Expr,
        list: Vec<Expr>,
        not: bool,
    },
    InAsset {
        value: Expr,
        asset: (String, Span),
        not: bool,
    },
    Like {
        value: Expr,
        pattern: Expr,
        not: bool,
        fold: bool,
    },
    Is {
        value: Expr,
        is: Is,
        not: bool,
    },
    Distinct {
        left: Expr,
        right: Expr,
        not: bool,
    },
    Case {
        subject: Option<Expr>,
        arms: Vec<(Expr, Expr)>,
        otherwise: Option<Expr>,
    },
    Cast {
        value: Expr,
        to: Named,
        strict: bool,
    },
    Call {
        name: (String, Span),
        arguments: Vec<Expr>,
    },
}

impl Kind {
    /// What it is made of.
    pub(crate) fn parts(&self) -> Vec<&Expr> {
        match self {
            Self::Null
            | Self::Bool(_)
            | Self::Whole(_)
            | Self::Fraction(_)
            | Self::Text { .. }
            | Self::Date(_)
            | Self::Timestamp(_)
            | Self::Name(_) => vec![],
            Self::Negative(part) | Self::Not(part) => vec![part],
            Self::All(parts) | Self::Any(parts) | Self::Joined(parts) => parts.iter().collect(),
            Self::Math(_, left, right) | Self::Compare(_, left, right) | Self::Distinct { left, right, not: _ } => {
                vec![left, right]
            }
            Self::Between { value, low, high, not: _ } => vec![value, low, high],
            Self::In { value, list, not: _ } => std::iter::once(value).chain(list).collect(),
            Self::InAsset { value, asset: _, not: _ }
            | Self::Is { value, is: _, not: _ }
            | Self::Cast { value, to: _, strict: _ } => vec![value],
            Self::Like { value, pattern, not: _, fold: _ } => vec![value, pattern],
            Self::Case { subject, arms, otherwise } => {
                let arms = arms.iter().flat_map(|(when, then)| [when, then]);
                subject.iter().chain(arms).chain(otherwise).collect()
            }
            Self::Call { name: _, arguments } => arguments.iter().collect(),
        }
    }
}

impl Expr {
    /// # Errors
    /// Where it nests too deep.
    pub(crate) fn new(kind: Kind, span: Span) -> Result<Self> {
        let depth = 1 + kind.parts().iter().map(|part| part.depth).max().unwrap_or(0);
        if depth > DEEPEST { Err(too_deep(span)) } else { Ok(Self { kind: Box::new(kind), span, depth }) }
    }

    /// The first names of all columns in it.
    pub(crate) fn names(&self) -> Vec<&str> {
        let (mut names, mut left) = (Vec::new(), vec![self]);
        while let Some(expr) = left.pop() {
            if let Kind::Name(path) = &*expr.kind {
                names.extend(path.first().map(|(name, _)| name.as_str()));
            }
            left.extend(expr.kind.parts());
        }
        names
    }
}

pub(crate) fn too_deep(span: Span) -> Problem {
    Problem::new(span, format!("the expression nests deeper than {DEEPEST} levels"))
        .hint("give a part of it a column of its own")
}
