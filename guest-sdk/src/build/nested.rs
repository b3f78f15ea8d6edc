//! Builders of columns that hold columns.

use super::{Offsets, common};
use crate::bits::ValidityBuilder;
use crate::layout::{AsColumn, Flat, Layout, Node};

/// Builds a list column: fill [`Self::values`] with the items of a row, then [`Self::close`] it.
#[derive(Debug, Clone, Default)]
pub struct ListBuilder<B> {
    offsets: Offsets,
    values: B,
    validity: ValidityBuilder,
}

impl<B: AsColumn + Default> ListBuilder<B> {
    common!();

    /// The builder of the items of the row that is open.
    pub fn values(&mut self) -> &mut B {
        &mut self.values
    }

    /// Ends the row: its items are those added since the row before ended.
    pub fn close(&mut self) {
        self.offsets.close(self.values.rows());
        self.validity.push(true);
    }

    /// Adds a row that is null.
    pub fn push_null(&mut self) {
        self.offsets.close(self.values.rows());
        self.validity.push(false);
    }

    /// Removes all rows and items.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

impl<B: AsColumn> AsColumn for ListBuilder<B> {
    fn layout(&self) -> Layout {
        Layout::List(Box::new(self.values.layout()))
    }

    fn rows(&self) -> usize {
        self.validity.len()
    }

    fn lower<'a>(&'a self, flat: &mut Flat<'a>) {
        flat.nodes.push(Node::new(self.validity.len(), self.validity.nulls()));
        flat.buffers.extend([self.validity.as_bytes(), self.offsets.as_bytes()]);
        self.values.lower(flat);
    }
}

/// The builders of a struct's fields: a tuple of up to eight builders, in the order of the fields.
pub trait StructFields: Default {
    /// Their layouts.
    fn layouts(&self) -> Vec<Layout>;
    /// How many values each has.
    fn lengths(&self) -> Vec<usize>;
    /// Lends their buffers.
    fn lower<'a>(&'a self, flat: &mut Flat<'a>);
}

macro_rules! struct_fields {
    ($($field:ident $index:tt),+) => {
        impl<$($field: AsColumn + Default),+> StructFields for ($($field,)+) {
            fn layouts(&self) -> Vec<Layout> {
                vec![$(self.$index.layout()),+]
            }

            fn lengths(&self) -> Vec<usize> {
                vec![$(self.$index.rows()),+]
            }

            fn lower<'a>(&'a self, flat: &mut Flat<'a>) {
                $(self.$index.lower(flat);)+
            }
        }
    };
}

struct_fields!(A 0);
struct_fields!(A 0, B 1);
struct_fields!(A 0, B 1, C 2);
struct_fields!(A 0, B 1, C 2, D 3);
struct_fields!(A 0, B 1, C 2, D 3, E 4);
struct_fields!(A 0, B 1, C 2, D 3, E 4, F 5);
struct_fields!(A 0, B 1, C 2, D 3, E 4, F 5, G 6);
struct_fields!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);

/// Builds a struct column: add one value to each of [`Self::fields`], then [`Self::close`] the row.
#[derive(Debug, Clone, Default)]
pub struct StructBuilder<F> {
    fields: F,
    validity: ValidityBuilder,
}

impl<F: StructFields> StructBuilder<F> {
    common!();

    /// The builders of the fields.
    pub fn fields(&mut self) -> &mut F {
        &mut self.fields
    }

    /// Ends the row, for which each field was given one value.
    pub fn close(&mut self) {
        self.validity.push(true);
    }

    /// Ends the row as null; the fields must have been given a value (any) all the same.
    pub fn close_null(&mut self) {
        self.validity.push(false);
    }

    /// Removes all rows.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

impl<F: StructFields> AsColumn for StructBuilder<F> {
    fn layout(&self) -> Layout {
        Layout::Struct(self.fields.layouts())
    }

    /// The rows that are closed, or more or less of them where a field was given too many or too few: [`crate::Emit`] says so.
    fn rows(&self) -> usize {
        let rows = self.validity.len();
        self.fields.lengths().into_iter().find(|&length| length != rows).unwrap_or(rows)
    }

    fn lower<'a>(&'a self, flat: &mut Flat<'a>) {
        flat.nodes.push(Node::new(self.validity.len(), self.validity.nulls()));
        flat.buffers.push(self.validity.as_bytes());
        self.fields.lower(flat);
    }
}
