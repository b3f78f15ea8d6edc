//! Columns of the batch, and fields within them.

use forebay_sdk::{Batch, Column};

use super::vector::{Numbers, TRUE, Texts, Valid, Values, Vector, both};
use super::{Result, bug};
use crate::check::Read;
use crate::eval::FALSE;
use crate::eval::vector::NULL;
use crate::types::Type;

/// A column that the plan reads, or the field of a struct that it leads to.
pub(super) fn read<'a>(batch: &'a Batch, read: &Read) -> Result<Vector<'a>> {
    let Read { source: _, name, path, ty } = read;
    let rows = batch.rows();
    let Some(mut column) = batch.column(name) else { return Ok(Vector::Null) };
    let mut around: Valid = None;
    for field in path {
        // A struct that is null has no fields.
        around = both(around, column.nulls().valid(rows));
        match column.field(field)? {
            Some(inner) => column = inner,
            None => return Ok(Vector::Null),
        }
    }
    view(column, around, ty, rows)
}

fn view<'a>(column: Column<'a>, around: Valid, ty: &Type, rows: usize) -> Result<Vector<'a>> {
    macro_rules! lent {
        ($variant:ident, $view:expr) => {{
            let view = $view;
            let valid = both(around, view.nulls().valid(rows));
            Vector::$variant(Numbers { values: Values::Lent(view.values()), valid })
        }};
    }
    Ok(match ty {
        Type::Null => Vector::Null,
        Type::Bool => {
            let view = column.bool()?;
            let value = |row| match view.get(row).filter(|_| around.as_ref().is_none_or(|valid| valid.keeps(row))) {
                Some(true) => TRUE,
                Some(false) => FALSE,
                None => NULL,
            };
            Vector::Bool(Values::Owned((0..rows).map(value).collect()).share())
        }
        Type::Int => lent!(I64, column.i64()?),
        Type::Float => lent!(F64, column.f64()?),
        Type::Decimal(..) => lent!(I128, column.decimal()?.0),
        Type::Date => lent!(I32, column.date()?),
        Type::Timestamp { zoned: _ } => lent!(I64, column.timestamp()?),
        Type::Text => Vector::Text(Texts::Lent { strings: column.str()?, valid: around }),
        Type::Other(_) => Vector::Other(both(around, column.nulls().valid(rows))),
    })
    .and_then(|vector| if column.len() == rows { Ok(vector) } else { Err(bug("a column of another length")) })
}
