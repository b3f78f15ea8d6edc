//! Masks: which rows to keep.

use crate::bits;
use crate::layout::{AsColumn, Flat, Layout, Node};

/// The rows that a rule keeps.
///
/// ```
/// use forebay_sdk::build::Mask;
/// let amounts = [10.0, 2_500.0, 30.0];
/// let large = Mask::from_fn(amounts.len(), |row| amounts[row] > 2_000.0);
/// assert_eq!(large.selection(), [1]);
/// assert_eq!((!large).selection(), [0, 2]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    bits: Vec<u8>,
    rows: usize,
}

impl Mask {
    /// A mask of `rows` rows, each kept where `keep` says so.
    pub fn from_fn(rows: usize, keep: impl FnMut(usize) -> bool) -> Self {
        Self { bits: bits::from_fn(rows, keep), rows }
    }

    /// A mask of a bitmap's first `rows` bits, as an input column has it.
    pub(crate) fn from_bits(bitmap: &[u8], rows: usize) -> Self {
        Self { bits: bitmap[..bits::bytes(rows)].to_vec(), rows }.trimmed()
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bits
    }

    /// How many rows it is of.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// How many rows it keeps.
    #[must_use]
    pub fn count(&self) -> usize {
        bits::count(&self.bits, self.rows)
    }

    /// Whether it keeps a row.
    #[must_use]
    pub fn keeps(&self, row: usize) -> bool {
        row < self.rows && bits::get(&self.bits, row)
    }

    /// The rows that it keeps, ascending.
    #[must_use]
    pub fn selection(&self) -> Vec<u32> {
        let mut rows = Vec::with_capacity(self.count());
        for (at, &byte) in (0_u32..).step_by(8).zip(&self.bits) {
            let mut left = byte;
            while left != 0 {
                rows.push(at + left.trailing_zeros());
                left &= left - 1;
            }
        }
        rows
    }

    fn combine(mut self, other: &Self, with: impl Fn(u8, u8) -> u8) -> Self {
        self.rows = self.rows.min(other.rows);
        self.bits.truncate(bits::bytes(self.rows));
        self.bits.iter_mut().zip(&other.bits).for_each(|(a, b)| *a = with(*a, *b));
        self.trimmed()
    }

    /// Without the bits behind the last row.
    fn trimmed(mut self) -> Self {
        if let (Some(last), 1..) = (self.bits.last_mut(), self.rows % 8) {
            *last &= (1 << (self.rows % 8)) - 1;
        }
        self
    }
}

impl std::ops::BitAnd for Mask {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        self.combine(&other, |a, b| a & b)
    }
}

impl std::ops::BitOr for Mask {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        self.combine(&other, |a, b| a | b)
    }
}

impl std::ops::Not for Mask {
    type Output = Self;
    fn not(mut self) -> Self {
        self.bits.iter_mut().for_each(|byte| *byte = !*byte);
        self.trimmed()
    }
}

impl AsColumn for Mask {
    fn layout(&self) -> Layout {
        Layout::Bits
    }

    fn rows(&self) -> usize {
        self.rows
    }

    fn lower<'a>(&'a self, flat: &mut Flat<'a>) {
        flat.nodes.push(Node::new(self.rows, 0));
        flat.buffers.extend([&[], self.bits.as_slice()]);
    }
}
