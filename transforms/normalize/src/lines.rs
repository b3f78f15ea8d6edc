//! The items of orders: which they are, and where they lie.

use forebay_sdk::arrow::{DataType, Field};
use forebay_sdk::{BindError, Column, InputSchema, RuleError};

/// The items of a batch.
#[derive(Debug, Default)]
pub(crate) struct Lines<'a> {
    /// The structs of all orders.
    pub(crate) items: Option<Column<'a>>,
    /// For each item its order's row, its place among all structs, and its number in the order.
    pub(crate) rows: Vec<u32>,
    pub(crate) children: Vec<u32>,
    pub(crate) numbers: Vec<i64>,
    /// For each order how many items it has.
    pub(crate) counts: Vec<i64>,
}

impl<'a> Lines<'a> {
    pub(crate) fn of(column: Option<Column<'a>>, orders: usize) -> Result<Self, RuleError> {
        let mut lines = Self { counts: vec![0; orders], ..Self::default() };
        let Some(list) = column.map(|column| column.list()).transpose()? else { return Ok(lines) };
        lines.items = list.items();
        let Some(items) = lines.items else { return Ok(lines) };
        for ((row, count), at) in (0..).zip(&mut lines.counts).zip(0..) {
            for child in list.range(at).filter(|&child| !items.nulls().is_null(child)) {
                *count += 1;
                lines.rows.push(row);
                lines.children.push(u32::try_from(child).map_err(|_| "a batch has too many items")?);
                lines.numbers.push(*count);
            }
        }
        Ok(lines)
    }
}

/// The fields of an item, but for those that have never had a value; none where the input has no items at all.
pub(crate) fn item_fields<'a>(input: &'a InputSchema, items: &str) -> Result<Vec<&'a Field>, BindError> {
    let found = input.data_type(items).unwrap_or(&DataType::Null);
    let item = if let DataType::List(item) = found { item.data_type() } else { found };
    match (found, item) {
        (_, DataType::Null) => Ok(vec![]),
        (DataType::List(_), DataType::Struct(fields)) => {
            Ok(fields.iter().map(AsRef::as_ref).filter(|field| *field.data_type() != DataType::Null).collect())
        }
        _ => Err(BindError::new(format!("column {items:?} is not a list of structs"))
            .place("config.items")
            .hint(format!("name the column that holds the items; the input has {}", input.names()))),
    }
}
