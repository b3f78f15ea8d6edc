//! Lists. A list whose elements do not all fit is a misfit as a whole: a rule that saw it with holes would take them for nulls.

use std::sync::Arc;

use arrow_array::{ArrayRef, ListArray};
use arrow_schema::FieldRef;

use super::{Column, Fit, Offsets, Scratch};
use crate::cursor::{Cursor, Fault, Malformed};
use crate::error::FormatError;
use crate::rescue::Step;

#[derive(Debug)]
pub(crate) struct List {
    field: FieldRef,
    pub(crate) element: Column,
    offsets: Offsets,
}

impl List {
    pub(crate) fn new(field: &FieldRef, path: &str) -> Result<Self, FormatError> {
        let element = Column::new(field.data_type(), &format!("{path}[]"))?;
        Ok(Self { field: Arc::clone(field), element, offsets: Offsets::default() })
    }

    pub(crate) fn len(&self) -> usize {
        self.offsets.len()
    }

    pub(crate) fn pad(&mut self, rows: usize) {
        self.offsets.pad(rows);
    }

    pub(crate) fn truncate(&mut self, len: usize) {
        if len < self.offsets.len() {
            self.offsets.truncate(len);
        }
        self.element.truncate(self.offsets.last());
    }

    /// Takes the JSON list at the cursor.
    pub(crate) fn json(
        &mut self,
        cursor: &mut Cursor<'_>,
        row: usize,
        scratch: &mut Scratch,
        depth: u32,
    ) -> Result<Fit, Malformed> {
        let first = self.offsets.last();
        let mark = scratch.rescues.len();
        let mut fits = true;
        scratch.lists += 1;
        let mut index = 0;
        let mut more = cursor.enter(b']', depth)?;
        while more {
            if fits {
                let inner = scratch.rescues.len();
                let fit = self.element.json(cursor, first + index, scratch, depth + 1)?;
                fits = fit == Fit::Fits && !scratch.list_misfit;
                scratch.rescues.below(inner, || Step::Index(index));
            } else {
                cursor.skip(depth + 1)?;
            }
            index += 1;
            more = cursor.more(b']', Fault::ListEnd)?;
        }
        scratch.lists -= 1;
        if fits {
            self.offsets.push(row, first + index);
            Ok(Fit::Fits)
        } else {
            self.element.truncate(first);
            scratch.rescues.truncate(mark);
            // The list around this one, if any, hears of it by what is returned.
            scratch.list_misfit = false;
            Ok(Fit::Misfit)
        }
    }

    pub(crate) fn finish(&mut self, rows: usize) -> Result<ArrayRef, FormatError> {
        let elements = self.element.finish(self.offsets.last())?;
        let (offsets, nulls) = self.offsets.finish(rows);
        Ok(Arc::new(ListArray::try_new(Arc::clone(&self.field), offsets, elements, nulls)?))
    }
}
