//! One of several values for each row: `case`, `if`, `coalesce`, `least`, `greatest`.

use std::rc::Rc;

use forebay_sdk::build::{Mask, StringBuilder};

use super::vector::{Numbers, Seen, TRUE, Texts, Values, Vector};
use super::{Care, Eval, FALSE, Result, bug};
use crate::node::Node;

/// For each row which of the values it has; beyond them, none.
type Choice = Vec<u16>;

const NONE: u16 = u16::MAX;

impl<'a> Eval<'a> {
    pub(super) fn case(&self, arms: &[(Node, Node)], otherwise: &Node, care: Care<'_>) -> Result<Vector<'a>> {
        let mut open = care.map_or_else(|| vec![1; self.rows], <[u8]>::to_vec);
        let mut choice: Choice = vec![NONE; self.rows];
        let mut values = Vec::with_capacity(arms.len() + 1);
        for (when, then) in arms {
            let condition = self.bools(when, Some(&open))?;
            let seen = condition.seen();
            let chosen: Vec<u8> =
                open.iter().enumerate().map(|(row, open)| open & u8::from(seen.at(row) == TRUE)).collect();
            self.choose(then, &chosen, &mut open, &mut choice, &mut values)?;
        }
        let rest = open.clone();
        self.choose(otherwise, &rest, &mut open, &mut choice, &mut values)?;
        self.merge(&choice, &values)
    }

    /// The value for the rows that are chosen, which are open no more.
    fn choose(
        &self,
        value: &Node,
        chosen: &[u8],
        open: &mut [u8],
        choice: &mut Choice,
        values: &mut Vec<Vector<'a>>,
    ) -> Result<()> {
        if chosen.iter().fold(0, |any, chosen| any | chosen) == 0 {
            return Ok(());
        }
        let index = u16::try_from(values.len()).map_err(|_| bug("more branches than an expression has characters"))?;
        values.push(self.eval(value, Some(chosen))?);
        for ((chosen, open), choice) in chosen.iter().zip(open).zip(choice) {
            if *chosen != 0 {
                (*open, *choice) = (0, index);
            }
        }
        Ok(())
    }

    pub(super) fn coalesce(&self, nodes: &[Node], care: Care<'_>) -> Result<Vector<'a>> {
        let mut open = care.map_or_else(|| vec![1; self.rows], <[u8]>::to_vec);
        let mut choice: Choice = vec![NONE; self.rows];
        let mut values = Vec::with_capacity(nodes.len());
        for node in nodes {
            if open.iter().fold(0, |any, open| any | open) == 0 {
                break;
            }
            let index =
                u16::try_from(values.len()).map_err(|_| bug("more values than an expression has characters"))?;
            let value = self.eval(node, Some(&open))?;
            let nulls = value.nulls(self.rows);
            let nulls = nulls.seen();
            for (row, (open, choice)) in open.iter_mut().zip(&mut choice).enumerate() {
                if *open != 0 && nulls.at(row) == FALSE {
                    (*open, *choice) = (0, index);
                }
            }
            values.push(value);
        }
        self.merge(&choice, &values)
    }

    pub(super) fn extreme(&self, largest: bool, nodes: &[Node], care: Care<'_>) -> Result<Vector<'a>> {
        let values = nodes.iter().map(|node| self.eval(node, care)).collect::<Result<Vec<_>>>()?;
        let mut choice: Choice = vec![NONE; self.rows];
        for (index, value) in (0_u16..).zip(&values) {
            let nulls = value.nulls(self.rows);
            let nulls = nulls.seen();
            for row in (0..self.rows).filter(|row| nulls.at(*row) == FALSE) {
                let better = match values.get(usize::from(choice[row])) {
                    None => true,
                    Some(best) if largest => less(best, value, row)?,
                    Some(best) => less(value, best, row)?,
                };
                if better {
                    choice[row] = index;
                }
            }
        }
        self.merge(&choice, &values)
    }

    /// For each row the value of its choice.
    fn merge(&self, choice: &[u16], values: &[Vector<'a>]) -> Result<Vector<'a>> {
        let typed = values.iter().find(|value| !matches!(value, Vector::Null));
        macro_rules! merged {
            ($variant:ident, $access:ident) => {{
                let columns = values.iter().map(|value| value.clone().$access()).collect::<Result<Vec<_>>>()?;
                Vector::$variant(merge_numbers(choice, &columns))
            }};
        }
        Ok(match typed {
            None => Vector::Null,
            Some(Vector::Bool(_)) => {
                let columns = values.iter().map(|value| value.clone().bools()).collect::<Result<Vec<_>>>()?;
                let seen: Vec<_> = columns.iter().map(|column| column.as_ref().map(Values::seen)).collect();
                let value = |row: usize, choice: u16| match seen.get(usize::from(choice)) {
                    Some(Some(seen)) => seen.at(row),
                    Some(None) | None => super::vector::NULL,
                };
                Vector::Bool(Values::Owned(
                    choice.iter().enumerate().map(|(row, choice)| value(row, *choice)).collect(),
                ))
            }
            Some(Vector::I64(_)) => merged!(I64, i64s),
            Some(Vector::F64(_)) => merged!(F64, f64s),
            Some(Vector::I128(_)) => merged!(I128, i128s),
            Some(Vector::I32(_)) => merged!(I32, i32s),
            Some(Vector::Text(_)) => {
                let columns = values.iter().map(|value| value.clone().texts()).collect::<Result<Vec<_>>>()?;
                let readers: Vec<_> = columns.iter().map(|column| column.as_ref().map(Texts::reader)).collect();
                let mut builder = StringBuilder::new();
                for (row, choice) in choice.iter().enumerate() {
                    let reader = readers.get(usize::from(*choice)).and_then(Option::as_ref);
                    builder.push_option(reader.and_then(|reader| reader.get(row)));
                }
                Vector::Text(Texts::Built(Rc::new(builder)))
            }
            Some(Vector::Null | Vector::Other(_)) => return Err(bug("a choice among values of no type")),
        })
    }
}

fn merge_numbers<'a, T: Copy + Default>(choice: &[u16], columns: &[Option<Numbers<'a, T>>]) -> Numbers<'a, T> {
    let seen: Vec<Option<(Seen<'_, T>, Option<&Mask>)>> = columns
        .iter()
        .map(|column| column.as_ref().map(|column| (column.values.seen(), column.valid.as_ref())))
        .collect();
    let value = |row: usize| {
        let (seen, valid) = seen.get(usize::from(choice[row])).copied().flatten()?;
        valid.is_none_or(|valid| valid.keeps(row)).then(|| seen.at(row))
    };
    let values = (0..choice.len()).map(|row| value(row).unwrap_or_default()).collect();
    let valid = Mask::from_fn(choice.len(), |row| value(row).is_some());
    let all = valid.count() == choice.len();
    Numbers { values: Values::Owned(values), valid: (!all).then_some(valid) }
}

/// Whether one value lies below another, neither of them null.
fn less(left: &Vector<'_>, right: &Vector<'_>, row: usize) -> Result<bool> {
    Ok(match (left, right) {
        (Vector::I64(a), Vector::I64(b)) => a.values.seen().at(row) < b.values.seen().at(row),
        (Vector::I32(a), Vector::I32(b)) => a.values.seen().at(row) < b.values.seen().at(row),
        (Vector::I128(a), Vector::I128(b)) => a.values.seen().at(row) < b.values.seen().at(row),
        (Vector::F64(a), Vector::F64(b)) => {
            let (a, b) = (a.values.seen().at(row), b.values.seen().at(row));
            a < b || b.is_nan() && !a.is_nan()
        }
        (Vector::Text(a), Vector::Text(b)) => a.reader().get(row) < b.reader().get(row),
        _ => return Err(bug("the larger of two types")),
    })
}
