//! The views: values by row, nulls told apart.

use std::ops::Range;

use super::Column;
use super::number::Number;
use crate::bits;
use crate::build::Mask;

/// Which values of a column are null.
#[derive(Debug, Clone, Copy)]
pub struct Nulls<'a> {
    /// Bit by bit what is valid; nothing where all are.
    pub(super) validity: Option<&'a [u8]>,
}

impl Nulls<'_> {
    /// Whether the value at `row` is null.
    #[inline]
    #[must_use]
    pub fn is_null(&self, row: usize) -> bool {
        self.validity.is_some_and(|bitmap| !bits::get(bitmap, row))
    }

    /// Whether no value is null.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.validity.is_none()
    }

    /// Which of the first `rows` values are valid, for rules that compute by columns; `None` where all are.
    ///
    /// # Panics
    /// Where the column has fewer rows.
    #[must_use]
    pub fn valid(&self, rows: usize) -> Option<Mask> {
        self.validity.map(|bitmap| Mask::from_bits(bitmap, rows))
    }
}

/// A view of numbers.
#[derive(Debug, Clone, Copy)]
pub struct Numbers<'a, T: Number> {
    pub(super) values: &'a [T],
    pub(super) nulls: Nulls<'a>,
}

impl<'a, T: Number> Numbers<'a, T> {
    /// The value at `row`, `None` where it is null.
    ///
    /// # Panics
    /// Where the column has no such row; so for all views.
    #[inline]
    #[must_use]
    pub fn get(&self, row: usize) -> Option<T> {
        let value = self.values[row];
        (!self.nulls.is_null(row)).then_some(value)
    }

    /// The value at `row`; anything where it is null. For columns that are required, which have no nulls.
    #[inline]
    #[must_use]
    pub fn value(&self, row: usize) -> T {
        self.values[row]
    }

    /// All values; anything where one is null.
    #[must_use]
    pub fn values(&self) -> &'a [T] {
        self.values
    }

    /// Which are null.
    #[must_use]
    pub fn nulls(&self) -> Nulls<'a> {
        self.nulls
    }

    /// The values in order.
    pub fn iter(&self) -> impl Iterator<Item = Option<T>> + '_ {
        (0..self.values.len()).map(|row| self.get(row))
    }
}

/// A view of Booleans.
#[derive(Debug, Clone, Copy)]
pub struct Bools<'a> {
    pub(super) bits: &'a [u8],
    pub(super) rows: usize,
    pub(super) nulls: Nulls<'a>,
}

impl Bools<'_> {
    /// The value at `row`, `None` where it is null.
    #[inline]
    #[must_use]
    pub fn get(&self, row: usize) -> Option<bool> {
        (!self.nulls.is_null(row)).then(|| bits::get(self.bits, row))
    }

    /// The value at `row`; false where it is null.
    #[inline]
    #[must_use]
    pub fn value(&self, row: usize) -> bool {
        self.get(row).unwrap_or_default()
    }

    /// Which are null.
    #[must_use]
    pub fn nulls(&self) -> Nulls<'_> {
        self.nulls
    }

    /// The values in order.
    pub fn iter(&self) -> impl Iterator<Item = Option<bool>> + '_ {
        (0..self.rows).map(|row| self.get(row))
    }
}

/// Where values of varying length begin and end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ranges<'a> {
    pub(super) offsets: &'a [i32],
    pub(super) rows: usize,
}

impl Ranges<'_> {
    #[inline]
    #[expect(
        clippy::cast_sign_loss,
        reason = "offsets ascend from 0; what does not is out of range, and that is a panic"
    )]
    fn get(&self, row: usize) -> Range<usize> {
        self.offsets[row] as usize..self.offsets[row + 1] as usize
    }
}

/// A view of text.
#[derive(Debug, Clone, Copy)]
pub struct Strings<'a> {
    text: &'a [u8],
    offsets: &'a [i32],
    nulls: Nulls<'a>,
    rows: usize,
}

impl<'a> Strings<'a> {
    /// Values of a text column. Every value between two offsets must be UTF-8: the host vouches for it, as the WIT says (it
    /// keeps text as Arrow's `Utf8`, whose values are checked when they are made), and so does the native harness.
    pub(super) fn new(text: &'a [u8], offsets: &'a [i32], nulls: Nulls<'a>, rows: usize) -> Self {
        Self { text, offsets, nulls, rows }
    }

    /// Text that was built here, of `str`s.
    pub(crate) fn built(text: &'a [u8], offsets: &'a [i32], validity: &'a [u8], rows: usize) -> Self {
        Self { text, offsets, nulls: Nulls { validity: Some(validity).filter(|bits| !bits.is_empty()) }, rows }
    }

    /// Which are null.
    #[must_use]
    pub fn nulls(&self) -> Nulls<'a> {
        self.nulls
    }

    /// How many there are.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The text at `row`, `None` where it is null.
    #[inline]
    #[must_use]
    pub fn get(&self, row: usize) -> Option<&'a str> {
        if self.nulls.is_null(row) { None } else { Some(self.value(row)) }
    }

    /// The text at `row`; anything where it is null, nothing where all are.
    #[inline]
    #[must_use]
    pub fn value(&self, row: usize) -> &'a str {
        let bytes = &self.text[Ranges { offsets: self.offsets, rows: self.rows }.get(row)];
        debug_assert!(std::str::from_utf8(bytes).is_ok(), "the host sent text that is not UTF-8");
        text_of(bytes)
    }

    /// The values in order.
    pub fn iter(&self) -> impl Iterator<Item = Option<&'a str>> + '_ {
        (0..self.rows).map(|row| self.get(row))
    }
}

/// A value of a text column as text. Checking each value again, and that it begins and ends between characters, took a rule on six
/// text columns a quarter of its time.
#[inline]
#[expect(unsafe_code, reason = "the host vouches for the bytes, as it does for every `string` of a component")]
fn text_of(bytes: &[u8]) -> &str {
    // SAFETY: `Strings` are made of text columns only, whose values the host has checked: see `Strings::new`.
    unsafe { std::str::from_utf8_unchecked(bytes) }
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Place<'a> {
    Ranges(Ranges<'a>),
    Fixed(usize),
}

/// A view of bytes.
#[derive(Debug, Clone, Copy)]
pub struct Bytes<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) place: Place<'a>,
    pub(super) nulls: Nulls<'a>,
    pub(super) rows: usize,
}

impl<'a> Bytes<'a> {
    /// The bytes at `row`, `None` where it is null.
    #[inline]
    #[must_use]
    pub fn get(&self, row: usize) -> Option<&'a [u8]> {
        if self.nulls.is_null(row) { None } else { Some(self.value(row)) }
    }

    /// The bytes at `row`; anything where it is null, nothing where all are.
    #[inline]
    #[must_use]
    pub fn value(&self, row: usize) -> &'a [u8] {
        match self.place {
            Place::Ranges(ranges) => &self.bytes[ranges.get(row)],
            Place::Fixed(width) => &self.bytes[row * width..][..width],
        }
    }

    /// The values in order.
    pub fn iter(&self) -> impl Iterator<Item = Option<&'a [u8]>> + '_ {
        (0..self.rows).map(|row| self.get(row))
    }
}

/// A view of lists. The items of all rows are one column, [`Self::items`]; each row is a range of it.
#[derive(Debug, Clone, Copy)]
pub struct List<'a> {
    pub(super) ranges: Ranges<'a>,
    pub(super) items: Option<Column<'a>>,
    pub(super) nulls: Nulls<'a>,
}

impl<'a> List<'a> {
    /// Where the items of `row` lie in [`Self::items`]; empty where the list is null.
    #[inline]
    #[must_use]
    pub fn range(&self, row: usize) -> Range<usize> {
        if self.nulls.is_null(row) { 0..0 } else { self.ranges.get(row) }
    }

    /// The items of all rows; `None` where the column has never had a value.
    #[must_use]
    pub fn items(&self) -> Option<Column<'a>> {
        self.items
    }

    /// Which lists are null (an empty one is not).
    #[must_use]
    pub fn nulls(&self) -> Nulls<'a> {
        self.nulls
    }

    /// How many lists there are.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.ranges.rows
    }
}

/// A view of maps, as [`List`] is of lists: keys and values of all rows are two columns.
#[derive(Debug, Clone, Copy)]
pub struct Map<'a> {
    pub(super) ranges: Ranges<'a>,
    pub(super) entries: Option<(Column<'a>, Column<'a>)>,
    pub(super) nulls: Nulls<'a>,
}

impl<'a> Map<'a> {
    /// Where the entries of `row` lie in [`Self::entries`]; empty where the map is null.
    #[inline]
    #[must_use]
    pub fn range(&self, row: usize) -> Range<usize> {
        if self.nulls.is_null(row) { 0..0 } else { self.ranges.get(row) }
    }

    /// Keys and values of all rows; `None` where the column has never had a value.
    #[must_use]
    pub fn entries(&self) -> Option<(Column<'a>, Column<'a>)> {
        self.entries
    }

    /// How many maps there are.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.ranges.rows
    }
}
