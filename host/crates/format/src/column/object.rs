//! Objects: the record itself, and structs within it.
//!
//! Records of a stream have their fields in the same order, mostly. So the next name is predicted from the last record: 16
//! bytes are compared at once, and only on a miss is the name looked up. What has no column, or does not fit it, is noted to
//! be rescued.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow_array::{ArrayRef, StructArray};
use arrow_schema::Fields;

use super::{Column, Fit, Scratch};
use crate::column::values::Values;
use crate::cursor::{Cursor, Fault, Malformed};
use crate::error::FormatError;
use crate::names;
use crate::rescue::Step;

/// A field of an object.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) column: Column,
    key: Key,
    /// The field that followed this one last time.
    next: usize,
}

/// How a name is written in the text, the opening quote left out: `name":`.
#[derive(Debug)]
struct Key {
    /// The first 16 bytes, and which of them count.
    head: u128,
    mask: u128,
    tail: Box<[u8]>,
    len: usize,
}

impl Key {
    fn new(name: &str) -> Self {
        // A name that has to be written with escapes is found by lookup alone.
        let plain = !name.bytes().any(|byte| byte < b' ' || byte == b'"' || byte == b'\\');
        let written = format!("{name}\":").into_bytes();
        let mut head = [0; 16];
        let mut mask = [0; 16];
        for ((head, mask), &byte) in head.iter_mut().zip(&mut mask).zip(&written) {
            *head = byte;
            *mask = 0xff;
        }
        Self {
            head: u128::from_le_bytes(head),
            mask: u128::from_le_bytes(mask),
            tail: written.get(16..).unwrap_or_default().into(),
            len: if plain { written.len() } else { usize::MAX },
        }
    }

    /// Whether this name stands at the cursor.
    #[inline(always)]
    fn matches(&self, cursor: &Cursor<'_>) -> bool {
        match cursor.next16() {
            Some(&head) => {
                u128::from_le_bytes(head) & self.mask == self.head
                    && (self.tail.is_empty()
                        || cursor.rest().get(16..).is_some_and(|rest| rest.starts_with(&self.tail)))
                    && self.len <= cursor.rest().len()
            }
            None => {
                let rest = cursor.rest();
                let short = self.len.min(16);
                let head = self.head.to_le_bytes();
                rest.len() >= self.len && rest.starts_with(&head[..short]) && rest[short..].starts_with(&self.tail)
            }
        }
    }
}

/// The fields of an object.
#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) members: Vec<Member>,
    by_name: HashMap<String, usize>,
    folded: HashSet<String>,
    /// The field that came first last time.
    first: usize,
    /// Whether this is the record itself, where names that begin with `_forebay_` are not the source's.
    root: bool,
}

impl Object {
    pub(crate) fn new(fields: &Fields, path: &str) -> Result<Self, FormatError> {
        let mut members = Vec::with_capacity(fields.len());
        for (index, field) in fields.iter().enumerate() {
            let below = if path.is_empty() { field.name().clone() } else { format!("{path}.{}", field.name()) };
            members.push(Member {
                name: field.name().clone(),
                column: Column::new(field.data_type(), &below)?,
                key: Key::new(field.name()),
                next: index + 1,
            });
        }
        Ok(Self {
            by_name: members.iter().enumerate().map(|(index, member)| (member.name.clone(), index)).collect(),
            folded: members.iter().map(|member| names::fold(&member.name)).collect(),
            members,
            first: 0,
            root: path.is_empty(),
        })
    }

    pub(crate) fn index_of(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// Whether the schema may gain a column of this name here.
    pub(crate) fn may_grow(&self, name: &str) -> bool {
        names::is_usable(name, self.root) && !self.folded.contains(&names::fold(name))
    }

    /// Takes the JSON object at the cursor for `row`.
    pub(crate) fn json(
        &mut self,
        cursor: &mut Cursor<'_>,
        row: usize,
        scratch: &mut Scratch,
        depth: u32,
    ) -> Result<(), Malformed> {
        let mut more = cursor.enter(b'}', depth)?;
        let mut before = None;
        while more {
            if cursor.peek() != b'"' {
                return Err(cursor.fault(Fault::Key));
            }
            cursor.at += 1;
            match self.name(cursor, before, scratch)? {
                Some(index) => {
                    self.known(index, cursor, row, scratch, depth)?;
                    before = Some(index);
                }
                None => self.unknown(cursor, scratch, depth)?,
            }
            more = cursor.more(b'}', Fault::ObjectEnd)?;
        }
        Ok(())
    }

    /// Reads a name and its colon: the field's index, or `None` with the name in `scratch.text`.
    #[inline(always)]
    fn name(
        &mut self,
        cursor: &mut Cursor<'_>,
        before: Option<usize>,
        scratch: &mut Scratch,
    ) -> Result<Option<usize>, Malformed> {
        let guess = match before {
            None => self.first,
            Some(before) => self.members.get(before).map_or(usize::MAX, |member| member.next),
        };
        if let Some(member) = self.members.get(guess) {
            if member.key.matches(cursor) {
                cursor.at += member.key.len;
                cursor.spaces();
                return Ok(Some(guess));
            }
            // One optional field that is missing is no reason to look up the next.
            let skipped = member.next;
            if let Some(member) = self.members.get(skipped)
                && member.key.matches(cursor)
            {
                cursor.at += member.key.len;
                cursor.spaces();
                return Ok(Some(skipped));
            }
        }
        self.look_up(cursor, before, scratch)
    }

    fn look_up(
        &mut self,
        cursor: &mut Cursor<'_>,
        before: Option<usize>,
        scratch: &mut Scratch,
    ) -> Result<Option<usize>, Malformed> {
        scratch.text.clear();
        if !cursor.string(&mut scratch.text)? {
            return Err(cursor.fault(Fault::KeySurrogate));
        }
        cursor.colon()?;
        let found = std::str::from_utf8(&scratch.text).ok().and_then(|name| self.index_of(name));
        if let Some(index) = found {
            match before.and_then(|before| self.members.get_mut(before)) {
                Some(member) => member.next = index,
                None => self.first = index,
            }
        }
        Ok(found)
    }

    #[inline(always)]
    fn known(
        &mut self,
        index: usize,
        cursor: &mut Cursor<'_>,
        row: usize,
        scratch: &mut Scratch,
        depth: u32,
    ) -> Result<(), Malformed> {
        let Some(Member { name, column, .. }) = self.members.get_mut(index) else { return Ok(()) };
        let from = cursor.at;
        if column.len() > row {
            // The field stands twice: the first is the row's, this one is kept beside it.
            cursor.skip(depth + 1)?;
            scratch.rescues.add(name, from..cursor.at, false);
            return Ok(());
        }
        let mark = scratch.rescues.len();
        if column.json(cursor, row, scratch, depth + 1)? == Fit::Fits {
            if scratch.rescues.len() > mark {
                scratch.rescues.below(mark, || Step::Name(name.clone()));
            }
        } else {
            column.pad(row + 1);
            scratch.rescues.add(name, from..cursor.at, true);
            scratch.list_misfit = scratch.lists > 0;
        }
        Ok(())
    }

    #[cold]
    fn unknown(&mut self, cursor: &mut Cursor<'_>, scratch: &mut Scratch, depth: u32) -> Result<(), Malformed> {
        let from = cursor.at;
        cursor.skip(depth + 1)?;
        // A null says no more than the field's absence.
        if cursor.since(from) != b"null" {
            let name = String::from_utf8_lossy(&scratch.text);
            scratch.rescues.add(&name, from..cursor.at, self.may_grow(&name));
        }
        Ok(())
    }

    pub(crate) fn truncate(&mut self, len: usize) {
        for member in &mut self.members {
            member.column.truncate(len.min(member.column.len()));
        }
    }

    pub(crate) fn finish(&mut self, rows: usize) -> Result<Vec<ArrayRef>, FormatError> {
        self.members.iter_mut().map(|member| member.column.finish(rows)).collect()
    }
}

/// A column of structs.
#[derive(Debug)]
pub(crate) struct Records {
    pub(crate) object: Object,
    fields: Fields,
    /// One entry for each row, for its nulls' sake.
    rows: Values<()>,
}

impl Records {
    pub(crate) fn new(fields: &Fields, path: &str) -> Result<Self, FormatError> {
        Ok(Self { object: Object::new(fields, path)?, fields: fields.clone(), rows: Values::default() })
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn pad(&mut self, rows: usize) {
        self.rows.pad(rows);
    }

    pub(crate) fn truncate(&mut self, len: usize) {
        self.rows.truncate(len);
        self.object.truncate(len);
    }

    pub(crate) fn json(
        &mut self,
        cursor: &mut Cursor<'_>,
        row: usize,
        scratch: &mut Scratch,
        depth: u32,
    ) -> Result<Fit, Malformed> {
        self.object.json(cursor, row, scratch, depth)?;
        self.rows.push(row, ());
        Ok(Fit::Fits)
    }

    pub(crate) fn finish(&mut self, rows: usize) -> Result<ArrayRef, FormatError> {
        let arrays = self.object.finish(rows)?;
        let (_, nulls) = self.rows.finish(rows);
        Ok(Arc::new(StructArray::try_new(self.fields.clone(), arrays, nulls)?))
    }
}
