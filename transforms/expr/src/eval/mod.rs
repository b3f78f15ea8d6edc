//! Evaluation: an expression over all rows of a batch, operation by operation, each a loop over whole columns.
//!
//! No operation fails but a strict cast: what has no result is null. So it does no harm that both branches of an `if` are computed
//! for all rows. Where the answer matters is told along as a [`Care`]: the failed casts of rows that do not matter are
//! forgotten, and dear operations (on text) leave such rows out. A condition that is settled for all rows is not evaluated further.

mod cast;
mod choice;
mod input;
mod logic;
mod numbers;
mod text;
mod time;
mod vector;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use forebay_sdk::{Batch, RuleError};

use crate::check::Read;
use crate::node::Node;

pub(crate) use vector::{FALSE, Null, Seen, TRUE, Values, Vector};
use vector::{Numbers, bug};

type Result<T, E = RuleError> = std::result::Result<T, E>;

/// For each row whether its answer matters, 1 or 0; nothing where each does.
pub(crate) type Care<'c> = Option<&'c [u8]>;

#[inline]
fn matters(care: Care<'_>, row: usize) -> bool {
    care.is_none_or(|care| care[row] != 0)
}

/// One batch.
pub(crate) struct Eval<'a> {
    pub(crate) rows: usize,
    inputs: Vec<Vector<'a>>,
    slots: RefCell<Vec<Vector<'a>>>,
    /// Casts that failed: the first of each row.
    failed: RefCell<BTreeMap<usize, Rc<str>>>,
    now: i64,
}

impl<'a> Eval<'a> {
    pub(crate) fn new(batch: &'a Batch, reads: &[Read], slots: usize) -> Result<Self> {
        let inputs = reads.iter().map(|read| input::read(batch, read)).collect::<Result<_>>()?;
        let slots = RefCell::new(vec![Vector::Null; slots]);
        let now = batch.context().landed_at;
        Ok(Self { rows: batch.rows(), inputs, slots, failed: RefCell::default(), now })
    }

    /// Evaluates into a slot.
    pub(crate) fn fill(&self, slot: usize, node: &Node, care: Care<'_>) -> Result<()> {
        let value = self.eval(node, care)?.share();
        match self.slots.borrow_mut().get_mut(slot) {
            Some(place) => *place = value,
            None => return Err(bug("a slot that is not there")),
        }
        Ok(())
    }

    pub(crate) fn slot(&self, slot: usize) -> Result<Vector<'a>> {
        self.slots.borrow().get(slot).cloned().ok_or_else(|| bug("a slot that is not there"))
    }

    /// Casts that failed, by row, with what to say of them.
    pub(crate) fn failed(&self) -> BTreeMap<usize, Rc<str>> {
        self.failed.take()
    }

    pub(crate) fn eval(&self, node: &Node, care: Care<'_>) -> Result<Vector<'a>> {
        match node {
            Node::Const(scalar) => Ok(Vector::of(scalar)),
            Node::Input(index) => self.inputs.get(*index).cloned().ok_or_else(|| bug("a column that is not read")),
            Node::Slot(slot) => self.slot(*slot),
            Node::Let { slot, value, body } => {
                self.fill(*slot, value, care)?;
                self.eval(body, care)
            }
            Node::All(_)
            | Node::Any(_)
            | Node::Not(_)
            | Node::IsBool { .. }
            | Node::IsNull(_)
            | Node::Compare { .. }
            | Node::CompareDecimal { .. }
            | Node::Among { .. }
            | Node::Search { .. }
            | Node::Like { .. } => Ok(Vector::Bool(self.bools(node, care)?)),
            Node::Float(float) => self.float(float, care),
            Node::Int { math, left, right } => self.int(*math, left, right, care),
            Node::Decimal(decimal) => self.decimal(decimal, care),
            Node::Negative(value) => self.negative(value, care),
            Node::Absolute(value) => self.absolute(value, care),
            Node::Case { arms, otherwise } => self.case(arms, otherwise, care),
            Node::Coalesce(values) => self.coalesce(values, care),
            Node::Extreme { largest, of } => self.extreme(*largest, of, care),
            Node::Text(text) => self.text(text, care),
            Node::Length(text) => self.length(text, care),
            Node::Time(time) => self.time(time, care),
            Node::Now => Ok(Vector::I64(Numbers::all(Values::One(self.now)))),
            Node::Cast { value, from, to, strict } => self.cast(value, from, to, strict.as_ref(), care),
        }
    }
}
