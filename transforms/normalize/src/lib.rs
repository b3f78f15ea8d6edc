//! Splits orders with nested items into two tables: orders, and their line items.
//!
//! Route `orders` has a row for each order: its columns without the items, and `item_count`. Route `items` has a row for each
//! item: the order's `key` columns, `line` (from 1) and the item's fields. `rename` and `item_rename` give columns other names;
//! what `numbers` and `item_numbers` list becomes Float64, also where it came as text. A text that is no number rejects the order,
//! with its items, under the code `not_a_number`.
//!
//! ```toml
//! config = { key = ["orderId"], rename = { orderId = "order_id" }, numbers = ["total"], item_numbers = ["price"] }
//! ```

#![forbid(unsafe_code)]

mod lines;
mod numbers;

use std::collections::BTreeMap;

use forebay_sdk::arrow::{DataType, Field};
use forebay_sdk::{
    AsColumn, Batch, BindError, Columns, Gathered, InputSchema, Kind, Output, Plan, RuleError, Transform, export,
    same_name,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::lines::{Lines, item_fields};
use crate::numbers::{check_number, to_numbers};

/// The code of rejects.
const NOT_A_NUMBER: &str = "not_a_number";

type Names = BTreeMap<String, String>;

/// The config of the step.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Config {
    /// The column that holds the items, a list of structs: `items` unless another is named.
    items: Option<String>,
    /// The order's columns that each of its items carries; an order without them is rejected.
    key: Vec<String>,
    /// New names of the order's columns.
    rename: Names,
    /// The order's columns that become numbers.
    numbers: Vec<String>,
    /// New names of the items' fields.
    item_rename: Names,
    /// The items' fields that become numbers.
    item_numbers: Vec<String>,
}

/// The rule.
#[derive(Debug)]
pub struct Normalize {
    /// The column that holds the items.
    items: String,
    /// The order's columns that become numbers, as far as the input has them.
    numbers: Vec<String>,
    /// The items' fields, and whether each becomes a number.
    fields: Vec<(String, bool)>,
}

impl Transform for Normalize {
    type Config = Config;

    fn new(config: Config, input: &InputSchema) -> Result<(Self, Plan), BindError> {
        // From here on by the input's own spelling.
        let spelt = |name: &String| input.find(name).map_or(name, Field::name).clone();
        let known = |name: &&String| input.find(name).is_some();
        let items = spelt(&config.items.unwrap_or_else(|| "items".to_owned()));
        let key: Vec<_> = config.key.iter().map(spelt).collect();
        let numbers: Vec<_> = config.numbers.iter().filter(known).map(spelt).collect();
        let rename: Names = config.rename.iter().map(|(name, to)| (spelt(name), to.clone())).collect();
        let fields = item_fields(input, &items)?;
        let numeric = |field: &Field| config.item_numbers.iter().any(|name| same_name(name, field.name()));
        for field in input.fields().iter().filter(|field| numbers.contains(field.name())) {
            check_number(field.name(), field.data_type())?;
        }
        for field in fields.iter().filter(|field| numeric(field)) {
            check_number(&format!("{items}.{}", field.name()), field.data_type())?;
        }

        let mut plan = Plan::new(input).optional(&items, Kind::List);
        for name in &key {
            plan = plan.require(name, Kind::Any);
        }
        for name in numbers.iter().filter(|name| !key.contains(name)) {
            plan = plan.optional(name, Kind::Any);
        }
        let orders = |mut columns: Columns| {
            for name in input.fields().iter().map(|field| field.name()).filter(|name| **name != items) {
                columns = if numbers.contains(name) {
                    columns.computed(renamed(&rename, name), DataType::Float64)
                } else {
                    columns.pass_as(name, renamed(&rename, name))
                };
            }
            // And what the stream gains later.
            columns.pass_all_but(&[&items]).computed("item_count", DataType::Int64)
        };
        let lines = |mut columns: Columns| {
            for name in &key {
                columns = columns.pass_as(name, renamed(&rename, name));
            }
            columns = columns.computed("line", DataType::Int64);
            for field in &fields {
                let data_type = if numeric(field) { DataType::Float64 } else { field.data_type().clone() };
                columns = columns.computed(renamed(&config.item_rename, field.name()), data_type);
            }
            columns
        };
        let plan = plan.route("orders", orders).route("items", lines);
        // As the route computes them.
        let numbers =
            input.fields().iter().map(|field| field.name()).filter(|name| numbers.contains(name)).cloned().collect();
        let fields = fields.iter().map(|field| (field.name().clone(), numeric(field))).collect();
        Ok((Self { items, numbers, fields }, plan))
    }

    fn process(&mut self, batch: &Batch, output: &mut Output) -> Result<(), RuleError> {
        let lines = Lines::of(batch.column(&self.items), batch.rows())?;
        let mut numbers = Vec::new();
        for name in &self.numbers {
            let column = batch.column(name).ok_or("a number column is gone")?;
            let refuse = |row, text: &str| {
                output.reject(row, NOT_A_NUMBER, format!("{name}: {text:?} is not a number"));
            };
            numbers.push(to_numbers(column, 0..batch.rows(), refuse)?);
        }
        let mut orders = output.emit_all("orders");
        for column in &numbers {
            orders = orders.column(column);
        }
        orders.column(&lines.counts).send()?;
        self.emit_items(&lines, output)
    }
}

impl Normalize {
    fn emit_items(&self, lines: &Lines<'_>, output: &mut Output) -> Result<(), RuleError> {
        let mut columns: Vec<Box<dyn AsColumn>> = Vec::new();
        for (name, numeric) in &self.fields {
            let Some(field) = lines.items.map(|items| items.field(name)).transpose()?.flatten() else { continue };
            // Items may lie behind a null list, so they are picked, not taken as they are.
            if !numeric {
                columns.push(Box::new(Gathered::pick(&field, &lines.children)));
                continue;
            }
            let refuse = |at: usize, text: &str| {
                let (row, line) = (lines.rows[at] as usize, lines.numbers[at]);
                output.reject(row, NOT_A_NUMBER, format!("line {line}, {name}: {text:?} is not a number"));
            };
            let children = lines.children.iter().map(|&child| child as usize);
            columns.push(Box::new(to_numbers(field, children, refuse)?));
        }
        let mut emit = output.emit_rows("items", &lines.rows).column(&lines.numbers);
        for column in &columns {
            emit = emit.column(column);
        }
        emit.send()
    }
}

fn renamed<'a>(names: &'a Names, name: &'a str) -> &'a str {
    names.get(name).map_or(name, String::as_str)
}

export!(Normalize);

#[cfg(test)]
mod tests;
