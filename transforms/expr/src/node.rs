//! Expressions with their types settled: what is evaluated, over whole columns. Conversions are nodes, so each operation has
//! operands of the one type that it names.

use std::rc::Rc;

use forebay_sdk::text::FastSet;

use crate::ast::{Compare, Math};
use crate::like::Like;
use crate::time::Unit;
use crate::types::{Scalar, Type};

#[derive(Debug)]
pub(crate) enum Node {
    Const(Scalar),
    /// A column that the plan reads.
    Input(usize),
    /// What was computed before: a computed column, or a [`Node::Let`].
    Slot(usize),
    /// Computes a value that is used more than once.
    Let {
        slot: usize,
        value: Box<Node>,
        body: Box<Node>,
    },
    All(Vec<Node>),
    Any(Vec<Node>),
    Not(Box<Node>),
    /// Whether a Boolean is true, or false; never null.
    IsBool {
        value: Box<Node>,
        wanted: bool,
    },
    IsNull(Box<Node>),
    Compare {
        compare: Compare,
        left: Box<Node>,
        right: Box<Node>,
    },
    /// Decimals with their scales.
    CompareDecimal {
        compare: Compare,
        left: (Box<Node>, u8),
        right: (Box<Node>, u8),
    },
    /// Whether the value is one of a list; `null` where it is not, and the list has a null.
    Among {
        value: Box<Node>,
        set: Rc<Set>,
        null: bool,
    },
    Search {
        how: Search,
        text: Box<Node>,
        part: Box<Node>,
    },
    Like {
        text: Box<Node>,
        like: Rc<Like>,
    },
    Float(Float),
    Int {
        math: Math,
        left: Box<Node>,
        right: Box<Node>,
    },
    Decimal(Decimal),
    Negative(Box<Node>),
    Absolute(Box<Node>),
    Case {
        arms: Vec<(Node, Node)>,
        otherwise: Box<Node>,
    },
    Coalesce(Vec<Node>),
    /// The largest or the smallest that is not null.
    Extreme {
        largest: bool,
        of: Vec<Node>,
    },
    Text(Text),
    Length(Box<Node>),
    Time(Time),
    /// The landing time of the segment.
    Now,
    Cast {
        value: Box<Node>,
        from: Type,
        to: Type,
        strict: Option<Rc<str>>,
    },
}

/// Floats. What is not finite becomes null where a [`Float::Finite`] stands around it.
#[derive(Debug)]
pub(crate) enum Float {
    Math {
        math: Math,
        left: Box<Node>,
        right: Box<Node>,
    },
    /// Null where it is infinite or no number.
    Finite(Box<Node>),
    Call {
        call: Call,
        value: Box<Node>,
    },
    Power {
        base: Box<Node>,
        exponent: Box<Node>,
    },
}

/// A function of one float.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Call {
    /// To so many digits behind the point; halves go away from zero.
    Round(i32),
    Floor,
    Ceil,
    Trunc,
    Sqrt,
    Exp,
    Ln,
    Log10,
}

/// Decimals; a result of more digits than it may have is null.
#[derive(Debug)]
pub(crate) enum Decimal {
    Math {
        math: Math,
        left: (Box<Node>, u8),
        right: (Box<Node>, u8),
        digits: u8,
    },
    /// With fewer digits behind the point.
    Shorten {
        value: Box<Node>,
        by: u8,
        how: Shorten,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shorten {
    Nearest,
    Down,
    Up,
    Zero,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Search {
    Contains,
    Starts,
    Ends,
}

#[derive(Debug)]
pub(crate) enum Text {
    Lower(Box<Node>),
    Upper(Box<Node>),
    Trim {
        text: Box<Node>,
        left: bool,
        right: bool,
    },
    /// From a character, the first being 1, and how many.
    Part {
        text: Box<Node>,
        from: Box<Node>,
        count: Option<Box<Node>>,
    },
    Replace {
        text: Box<Node>,
        part: Box<Node>,
        with: Box<Node>,
    },
    /// One behind the other; a null makes all null, or is left out.
    Join {
        parts: Vec<Node>,
        skip_nulls: bool,
    },
}

/// Dates and timestamps; `date` says which.
#[derive(Debug)]
pub(crate) enum Time {
    Part {
        unit: Unit,
        value: Box<Node>,
        date: bool,
    },
    Truncate {
        unit: Unit,
        value: Box<Node>,
        date: bool,
    },
    Add {
        unit: Unit,
        amount: Box<Node>,
        value: Box<Node>,
        date: bool,
    },
    /// Whole units from the first to the second.
    Between {
        unit: Unit,
        from: Box<Node>,
        to: Box<Node>,
    },
    /// Microseconds for each of a number.
    FromNumber {
        value: Box<Node>,
        micros: i64,
    },
}

/// The values of a list.
#[derive(Debug)]
pub(crate) enum Set {
    Bool(FastSet<bool>),
    /// Integers and timestamps.
    Int(FastSet<i64>),
    /// The bits of [`crate::number::canonical`] floats.
    Float(FastSet<u64>),
    Decimal(FastSet<i128>),
    Date(FastSet<i32>),
    Text(FastSet<Rc<str>>),
}
