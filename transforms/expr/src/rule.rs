//! What becomes of a batch. In order: the filter, computed columns, rejects, failed casts, routes.
//!
//! | the filter is | reject rules are asked | the row |
//! |---|---|---|
//! | true | yes | takes its routes, unless it is rejected |
//! | null | yes | is filtered, unless it is rejected |
//! | false | no | is filtered |

use forebay_sdk::build::Mask;
use forebay_sdk::{Batch, Output, RuleError};

use crate::check::Read;
use crate::eval::{Eval, FALSE, Null, TRUE, Values};
use crate::node::Node;

/// The code of rows that a strict cast refused.
pub(crate) const CAST_FAILED: &str = "cast_failed";

/// A computed column.
#[derive(Debug)]
pub(crate) struct Column {
    pub(crate) slot: usize,
    pub(crate) node: Node,
    /// Whether the filter needs it.
    pub(crate) early: bool,
}

#[derive(Debug)]
pub(crate) struct Reject {
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) last: bool,
    pub(crate) when: Node,
}

#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) name: String,
    pub(crate) when: Option<Node>,
    /// The slots of its computed columns, in the plan's order, and what they are where they are null throughout.
    pub(crate) columns: Vec<(usize, Null)>,
}

/// Everything that the config says, typed.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) reads: Vec<Read>,
    pub(crate) slots: usize,
    /// In the order in which they are computed.
    pub(crate) columns: Vec<Column>,
    pub(crate) filter: Option<Node>,
    pub(crate) rejects: Vec<Reject>,
    pub(crate) routes: Vec<Route>,
}

/// What the batch's rows have come to: 1 for those that are looked at, 1 for those that take their routes.
struct Rows {
    looked: Vec<u8>,
    kept: Vec<u8>,
}

impl Rule {
    pub(crate) fn process(&self, batch: &Batch, output: &mut Output) -> Result<(), RuleError> {
        let eval = Eval::new(batch, &self.reads, self.slots)?;
        for Column { slot, node, early: _ } in self.columns.iter().filter(|column| column.early) {
            eval.fill(*slot, node, None)?;
        }
        let mut rows = self.filtered(&eval)?;
        for Column { slot, node, early: _ } in self.columns.iter().filter(|column| !column.early) {
            eval.fill(*slot, node, Some(&rows.looked))?;
        }
        self.reject(&eval, &mut rows, output)?;
        // Conditions of routes may cast too, so all are asked before a row is sent.
        let mut chosen = Vec::with_capacity(self.routes.len());
        for route in &self.routes {
            chosen.push(match &route.when {
                Some(when) => Some(eval.holds(when, Some(&rows.kept))?),
                None => None,
            });
        }
        for (row, message) in eval.failed() {
            if rows.looked[row] != 0 {
                output.reject(row, CAST_FAILED, message);
                (rows.looked[row], rows.kept[row]) = (0, 0);
            }
        }
        let kept = Mask::from_fn(eval.rows, |row| rows.kept[row] != 0);
        for (route, chosen) in self.routes.iter().zip(chosen) {
            let chosen = match chosen {
                Some(chosen) => chosen & kept.clone(),
                None => kept.clone(),
            };
            emit(&eval, route, &chosen, output)?;
        }
        Ok(())
    }

    fn filtered(&self, eval: &Eval<'_>) -> Result<Rows, RuleError> {
        let Some(filter) = &self.filter else {
            return Ok(Rows { looked: vec![1; eval.rows], kept: vec![1; eval.rows] });
        };
        let values = eval.bools(filter, None)?;
        let flags = |test: fn(u8) -> bool| {
            let flags: Values<'_, u8> = values.map(|value| u8::from(test(value)));
            flags.into_vec(eval.rows)
        };
        Ok(Rows { looked: flags(|value| value != FALSE), kept: flags(|value| value == TRUE) })
    }

    /// The first rule whose condition is true refuses a row.
    fn reject(&self, eval: &Eval<'_>, rows: &mut Rows, output: &mut Output) -> Result<(), RuleError> {
        for Reject { code, message, last, when } in &self.rejects {
            for row in eval.holds(when, Some(&rows.looked))?.selection() {
                let row = row as usize;
                if rows.looked[row] == 0 {
                    continue;
                }
                if *last {
                    output.reject_final(row, code, message);
                } else {
                    output.reject(row, code, message);
                }
                (rows.looked[row], rows.kept[row]) = (0, 0);
            }
        }
        Ok(())
    }
}

fn emit(eval: &Eval<'_>, route: &Route, chosen: &Mask, output: &mut Output) -> Result<(), RuleError> {
    let Route { name, when: _, columns } = route;
    let all = chosen.count() == eval.rows;
    let selection = if all { vec![] } else { chosen.selection() };
    if !all && selection.is_empty() {
        return Ok(());
    }
    let columns = columns
        .iter()
        .map(|(slot, null)| eval.slot(*slot)?.emitted(eval.rows, *null))
        .collect::<Result<Vec<_>, _>>()?;
    let mut emit = if all { output.emit_all(name) } else { output.emit_rows(name, &selection) };
    for column in &columns {
        emit = emit.pick(column);
    }
    emit.send()
}
