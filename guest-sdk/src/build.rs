//! Builders for computed columns. Each can be cleared and filled again, so that a rule that keeps its builders between
//! batches allocates nothing in the long run. What is handed to [`crate::Emit::column`] is lent to the host, not copied.
//!
//! Where a column is only numbers without nulls, a `Vec` or slice of them does as well.

mod mask;
mod nested;

use crate::bits::{BitBuilder, ValidityBuilder};
use crate::column::{Number, Strings};
use crate::layout::{AsColumn, Flat, Layout, Node};

pub use mask::Mask;
pub use nested::{ListBuilder, StructBuilder, StructFields};

macro_rules! common {
    () => {
        /// An empty builder.
        #[must_use]
        pub fn new() -> Self {
            Self::default()
        }

        /// How many values it has.
        #[must_use]
        pub fn len(&self) -> usize {
            self.validity.len()
        }

        /// Whether it has none.
        #[must_use]
        pub fn is_empty(&self) -> bool {
            self.len() == 0
        }
    };
}
use common;

impl<T: Number> AsColumn for [T] {
    fn layout(&self) -> Layout {
        Layout::Fixed(T::ELEMENT)
    }

    fn rows(&self) -> usize {
        self.len()
    }

    fn lower<'a>(&'a self, flat: &mut Flat<'a>) {
        flat.nodes.push(Node::new(self.len(), 0));
        flat.buffers.extend([&[], bytemuck::cast_slice(self)]);
    }
}

impl<T: Number> AsColumn for Vec<T> {
    fn layout(&self) -> Layout {
        self.as_slice().layout()
    }

    fn rows(&self) -> usize {
        self.len()
    }

    fn lower<'a>(&'a self, flat: &mut Flat<'a>) {
        self.as_slice().lower(flat);
    }
}

/// Builds a column of numbers: integers, floats, and everything that is stored as one (days as `i32`, timestamps in their
/// unit as `i64`, decimals as `i128`).
#[derive(Debug, Clone)]
pub struct NumberBuilder<T> {
    values: Vec<T>,
    validity: ValidityBuilder,
}

impl<T> Default for NumberBuilder<T> {
    fn default() -> Self {
        Self { values: Vec::new(), validity: ValidityBuilder::default() }
    }
}

impl<T: Number> NumberBuilder<T> {
    common!();

    /// Values that were computed as a whole, and which of them are valid: a null where the mask does not keep the row.
    ///
    /// # Panics
    /// Where the mask is of another number of rows.
    #[must_use]
    pub fn from_parts(values: Vec<T>, valid: &Mask) -> Self {
        assert_eq!(values.len(), valid.rows(), "values and mask are of the same rows");
        Self { values, validity: ValidityBuilder::from_mask(valid) }
    }

    /// Adds a value.
    #[inline]
    pub fn push(&mut self, value: T) {
        self.values.push(value);
        self.validity.push(true);
    }

    /// Adds a value, or a null.
    #[inline]
    pub fn push_option(&mut self, value: Option<T>) {
        self.values.push(value.unwrap_or_default());
        self.validity.push(value.is_some());
    }

    /// Removes all values, keeps the memory.
    pub fn clear(&mut self) {
        self.values.clear();
        self.validity.clear();
    }
}

impl<T: Number> AsColumn for NumberBuilder<T> {
    fn layout(&self) -> Layout {
        Layout::Fixed(T::ELEMENT)
    }

    fn rows(&self) -> usize {
        self.values.len()
    }

    fn lower<'a>(&'a self, flat: &mut Flat<'a>) {
        flat.nodes.push(Node::new(self.values.len(), self.validity.nulls()));
        flat.buffers.extend([self.validity.as_bytes(), bytemuck::cast_slice(&self.values)]);
    }
}

/// Builds a Boolean column.
#[derive(Debug, Clone, Default)]
pub struct BoolBuilder {
    values: BitBuilder,
    validity: ValidityBuilder,
}

impl BoolBuilder {
    common!();

    /// As [`NumberBuilder::from_parts`].
    ///
    /// # Panics
    /// Where the masks are of different numbers of rows.
    #[must_use]
    pub fn from_parts(values: &Mask, valid: &Mask) -> Self {
        assert_eq!(values.rows(), valid.rows(), "values and mask are of the same rows");
        Self { values: BitBuilder::from_mask(values), validity: ValidityBuilder::from_mask(valid) }
    }

    /// Adds a value.
    #[inline]
    pub fn push(&mut self, value: bool) {
        self.values.push(value);
        self.validity.push(true);
    }

    /// Adds a value, or a null.
    #[inline]
    pub fn push_option(&mut self, value: Option<bool>) {
        self.values.push(value.unwrap_or_default());
        self.validity.push(value.is_some());
    }

    /// Removes all values, keeps the memory.
    pub fn clear(&mut self) {
        self.values.clear();
        self.validity.clear();
    }
}

impl AsColumn for BoolBuilder {
    fn layout(&self) -> Layout {
        Layout::Bits
    }

    fn rows(&self) -> usize {
        self.values.len()
    }

    fn lower<'a>(&'a self, flat: &mut Flat<'a>) {
        flat.nodes.push(Node::new(self.values.len(), self.validity.nulls()));
        flat.buffers.extend([self.validity.as_bytes(), self.values.as_bytes()]);
    }
}

/// Offsets and bytes: what text, binary and lists have in common.
#[derive(Debug, Clone)]
struct Offsets(Vec<i32>);

impl Default for Offsets {
    fn default() -> Self {
        Self(vec![0])
    }
}

impl Offsets {
    /// Ends a value where `end` is. A guest's memory ends before an offset of 31 bits does, so no value is lost to the cap;
    /// a column that did go beyond would not be ascending and is refused by the host.
    #[inline]
    fn close(&mut self, end: usize) {
        self.0.push(i32::try_from(end).unwrap_or(-1));
    }

    fn clear(&mut self) {
        self.0.truncate(1);
    }

    fn as_bytes(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

/// Appends a few bytes. In Wasm a copy of a length that the compiler does not know is a call out of the module, which for short
/// text costs more than all the rest of a row. So up to 16 bytes are read as two words that may overlap, appended as
/// 16, and cut off again: loads, shifts and one store.
#[inline]
pub(crate) fn append(bytes: &mut Vec<u8>, value: &[u8]) {
    let mut value = value;
    if value.len() > 64 {
        bytes.extend_from_slice(value);
        return;
    }
    while let Some((head, rest)) = value.split_first_chunk::<16>() {
        bytes.extend_from_slice(head);
        value = rest;
    }
    let end = bytes.len() + value.len();
    bytes.extend_from_slice(&padded(value).to_le_bytes());
    bytes.truncate(end);
}

/// Less than 16 bytes, in the order of memory, and zeros behind them.
#[inline]
fn padded(value: &[u8]) -> u128 {
    let bits = 8 * value.len();
    if let (Some(first), Some(last)) = (value.first_chunk::<8>(), value.last_chunk::<8>()) {
        let (first, last) = (u64::from_le_bytes(*first), u64::from_le_bytes(*last));
        u128::from(first) | u128::from(last) << (bits - 64)
    } else if let (Some(first), Some(last)) = (value.first_chunk::<4>(), value.last_chunk::<4>()) {
        let (first, last) = (u32::from_le_bytes(*first), u32::from_le_bytes(*last));
        u128::from(u64::from(first) | u64::from(last) << (bits - 32))
    } else {
        value.iter().rev().fold(0, |word, &byte| word << 8 | u128::from(byte))
    }
}

macro_rules! bytes_builder {
    ($(#[$doc:meta])* $name:ident, $value:ty, $layout:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Default)]
        pub struct $name {
            offsets: Offsets,
            bytes: Vec<u8>,
            validity: ValidityBuilder,
        }

        impl $name {
            common!();

            /// Adds a value.
            #[inline]
            pub fn push(&mut self, value: &$value) {
                append(&mut self.bytes, value.as_ref());
                self.offsets.close(self.bytes.len());
                self.validity.push(true);
            }

            /// Adds a value, or a null.
            #[inline]
            pub fn push_option(&mut self, value: Option<&$value>) {
                if let Some(value) = value {
                    append(&mut self.bytes, value.as_ref());
                }
                self.offsets.close(self.bytes.len());
                self.validity.push(value.is_some());
            }

            /// Removes all values, keeps the memory.
            pub fn clear(&mut self) {
                self.offsets.clear();
                self.bytes.clear();
                self.validity.clear();
            }
        }

        impl AsColumn for $name {
            fn layout(&self) -> Layout {
                $layout
            }

            fn rows(&self) -> usize {
                self.validity.len()
            }

            fn lower<'a>(&'a self, flat: &mut Flat<'a>) {
                flat.nodes.push(Node::new(self.validity.len(), self.validity.nulls()));
                flat.buffers.extend([self.validity.as_bytes(), self.offsets.as_bytes(), &self.bytes]);
            }
        }
    };
}

bytes_builder!(
    /// Builds a text column, `Utf8`.
    StringBuilder,
    str,
    Layout::Text
);
bytes_builder!(
    /// Builds a column of bytes, `Binary`.
    BinaryBuilder,
    [u8],
    Layout::Binary
);

/// A text that a rule writes again and again: a reason, a category. Adding it is a copy of fixed size, several times faster
/// than that of any text.
///
/// ```
/// use forebay_sdk::build::{Label, StringBuilder};
/// const REASONS: [Label; 2] = [Label::new("none"), Label::new("limit")];
/// let mut reasons = StringBuilder::new();
/// reasons.push_label(&REASONS[1]);
/// assert_eq!(reasons.len(), 1);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Label {
    text: &'static str,
    padded: [u8; Self::WIDTH],
}

impl Label {
    /// Longer labels are copied as any text is.
    const WIDTH: usize = 32;

    /// A label.
    #[must_use]
    pub const fn new(text: &'static str) -> Self {
        let (bytes, mut padded, mut at) = (text.as_bytes(), [0; Self::WIDTH], 0);
        while at < bytes.len() && at < Self::WIDTH {
            padded[at] = bytes[at];
            at += 1;
        }
        Self { text, padded }
    }

    /// Its text.
    #[must_use]
    pub const fn text(&self) -> &'static str {
        self.text
    }
}

impl StringBuilder {
    /// Adds a label.
    #[inline]
    pub fn push_label(&mut self, label: &Label) {
        let end = self.bytes.len() + label.text.len();
        if label.text.len() <= Label::WIDTH {
            self.bytes.extend_from_slice(&label.padded);
            self.bytes.truncate(end);
        } else {
            self.bytes.extend_from_slice(label.text.as_bytes());
        }
        self.offsets.close(end);
        self.validity.push(true);
    }

    /// What it holds, to be read as an input column is.
    #[must_use]
    pub fn view(&self) -> Strings<'_> {
        Strings::built(&self.bytes, &self.offsets.0, self.validity.as_bytes(), self.len())
    }

    /// Adds what `write` writes: `builder.push_with(|text| write!(text, "{card}-{day}"))` without a `String` for each row.
    pub fn push_with(&mut self, write: impl FnOnce(&mut dyn std::fmt::Write) -> std::fmt::Result) {
        struct Sink<'a>(&'a mut Vec<u8>);
        impl std::fmt::Write for Sink<'_> {
            fn write_str(&mut self, text: &str) -> std::fmt::Result {
                self.0.extend_from_slice(text.as_bytes());
                Ok(())
            }
        }
        // Writing to memory fails only where a `Display` itself says so; then the row holds what came before.
        let _ = write(&mut Sink(&mut self.bytes));
        self.offsets.close(self.bytes.len());
        self.validity.push(true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_of_parts_are_as_columns_that_were_pushed() {
        for rows in [0, 1, 7, 8, 9, 20] {
            let (valid, set) = (Mask::from_fn(rows, |row| row % 3 != 1), Mask::from_fn(rows, |row| row % 2 == 0));
            let (mut numbers, mut bools) = (NumberBuilder::new(), BoolBuilder::new());
            for row in 0..rows {
                numbers.push_option(valid.keeps(row).then_some(row as u64));
                bools.push_option(valid.keeps(row).then_some(set.keeps(row)));
            }
            let values = (0..rows).map(|row| if valid.keeps(row) { row as u64 } else { 0 }).collect();
            let (whole, told) =
                (NumberBuilder::from_parts(values, &valid), BoolBuilder::from_parts(&(set & valid.clone()), &valid));
            let flat = |column: &dyn AsColumn| {
                let mut flat = Flat::default();
                column.lower(&mut flat);
                (flat.nodes.clone(), flat.buffers.iter().map(|buffer| buffer.to_vec()).collect::<Vec<_>>())
            };
            assert_eq!(flat(&whole), flat(&numbers), "{rows}");
            assert_eq!(flat(&told), flat(&bools), "{rows}");
        }
    }

    #[test]
    fn what_a_builder_holds_can_be_read() {
        let mut texts = StringBuilder::new();
        ["a", "", "ünï"].into_iter().for_each(|text| texts.push(text));
        assert_eq!(texts.view().iter().collect::<Vec<_>>(), [Some("a"), Some(""), Some("ünï")]);
        texts.push_option(None);
        texts.push_with(|text| write!(text, "{}", 7));
        assert_eq!(texts.view().iter().collect::<Vec<_>>(), [Some("a"), Some(""), Some("ünï"), None, Some("7")]);
    }

    #[test]
    fn a_label_is_added_as_its_text_is() {
        const LABELS: [Label; 4] = [
            Label::new(""),
            Label::new("none"),
            Label::new("exactly as wide as a padded label"),
            Label::new("a label that is wider than what is copied at once, by a good deal"),
        ];
        let (mut labels, mut texts) = (StringBuilder::new(), StringBuilder::new());
        for label in LABELS.iter().chain(&LABELS) {
            labels.push_label(label);
            texts.push(label.text());
        }
        let (mut left, mut right) = (Flat::default(), Flat::default());
        labels.lower(&mut left);
        texts.lower(&mut right);
        assert_eq!((left.nodes, left.buffers), (right.nodes, right.buffers));
    }

    #[test]
    fn what_is_appended_is_what_was_given() {
        let source: Vec<u8> = (1..=200).collect();
        for length in 0..=130 {
            for start in [0, 1, 7, 60] {
                let mut bytes = b"before".to_vec();
                append(&mut bytes, &source[start..start + length]);
                assert_eq!(bytes, [b"before", &source[start..start + length]].concat(), "{length} from {start}");
            }
        }
    }
}
