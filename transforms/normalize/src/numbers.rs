//! Columns that become numbers.

use forebay_sdk::arrow::DataType;
use forebay_sdk::build::NumberBuilder;
use forebay_sdk::{BindError, Column, Kind, RuleError};

/// That a column can become one.
pub(crate) fn check_number(name: &str, data_type: &DataType) -> Result<(), BindError> {
    if Kind::F64.accepts(data_type) || Kind::Str.accepts(data_type) {
        return Ok(());
    }
    Err(BindError::new(format!("{name:?} is {data_type}, neither a number nor text")).place(name))
}

/// A column's values at `rows` as numbers. Text that is none becomes null, and `refuse` is told where in `rows` it stood.
pub(crate) fn to_numbers(
    column: Column<'_>,
    rows: impl Iterator<Item = usize>,
    mut refuse: impl FnMut(usize, &str),
) -> Result<NumberBuilder<f64>, RuleError> {
    let mut numbers = NumberBuilder::new();
    if *column.data_type() != DataType::Utf8 {
        let values = column.f64()?;
        rows.for_each(|row| numbers.push_option(values.get(row)));
        return Ok(numbers);
    }
    let texts = column.str()?;
    for (at, row) in rows.enumerate() {
        let text = texts.get(row);
        let parsed = text.and_then(|text| text.trim().parse::<f64>().ok()).filter(|number| number.is_finite());
        if let (None, Some(text)) = (parsed, text) {
            refuse(at, text);
        }
        numbers.push_option(parsed);
    }
    Ok(numbers)
}
