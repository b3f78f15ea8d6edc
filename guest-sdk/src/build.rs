//! Builders for computed columns. Each can be cleared and filled again, so that a rule that keeps its builders between
//! batches allocates nothing in the long run. What is handed to [`crate::Emit::column`] is lent to the host, not copied.
//!
//! Where a column is only numbers without nulls, a `Vec` or slice of them does as well.

mod mask;
mod nested;

use crate::bits::{BitBuilder, ValidityBuilder};
use crate::column::Number;
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
                self.bytes.extend_from_slice(value.as_ref());
                self.offsets.close(self.bytes.len());
                self.validity.push(true);
            }

            /// Adds a value, or a null.
            #[inline]
            pub fn push_option(&mut self, value: Option<&$value>) {
                if let Some(value) = value {
                    self.bytes.extend_from_slice(value.as_ref());
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

impl StringBuilder {
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
