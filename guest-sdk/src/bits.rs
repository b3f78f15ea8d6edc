//! Bitmaps: bit `i` is bit `i % 8` of byte `i / 8`, as in the Arrow format. Validity, booleans and masks are bitmaps.

use crate::build::Mask;

/// Bytes that hold this many bits.
pub(crate) fn bytes(bits: usize) -> usize {
    bits.div_ceil(8)
}

/// Bit `index`.
#[inline]
pub(crate) fn get(bitmap: &[u8], index: usize) -> bool {
    bitmap[index / 8] >> (index % 8) & 1 == 1
}

/// How many of the first `length` bits are set.
pub(crate) fn count(bitmap: &[u8], length: usize) -> usize {
    let whole = &bitmap[..length / 8];
    let ones: usize = whole.iter().map(|byte| byte.count_ones() as usize).sum();
    match bitmap.get(length / 8) {
        Some(last) if !length.is_multiple_of(8) => ones + (last & ((1 << (length % 8)) - 1)).count_ones() as usize,
        _ => ones,
    }
}

/// The bits at `rows`, in that order.
pub(crate) fn pick(bitmap: &[u8], rows: &[u32]) -> Vec<u8> {
    from_fn(rows.len(), |index| get(bitmap, rows[index] as usize))
}

/// `length` bits, each from its index.
#[inline]
pub(crate) fn from_fn(length: usize, mut bit: impl FnMut(usize) -> bool) -> Vec<u8> {
    let mut bitmap = Vec::with_capacity(bytes(length));
    let mut at = 0;
    while at < length {
        let end = length.min(at + 8);
        let mut byte = 0;
        for index in at..end {
            byte |= u8::from(bit(index)) << (index - at);
        }
        bitmap.push(byte);
        at = end;
    }
    bitmap
}

/// A bitmap that grows.
#[derive(Debug, Clone, Default)]
pub(crate) struct BitBuilder {
    bitmap: Vec<u8>,
    length: usize,
}

impl BitBuilder {
    pub(crate) fn from_mask(mask: &Mask) -> Self {
        Self { bitmap: mask.as_bytes().to_vec(), length: mask.rows() }
    }

    /// `length` bits that are set.
    pub(crate) fn ones(length: usize) -> Self {
        let mut bitmap = vec![0xff; length / 8];
        if !length.is_multiple_of(8) {
            bitmap.push((1 << (length % 8)) - 1);
        }
        Self { bitmap, length }
    }

    #[inline]
    pub(crate) fn push(&mut self, bit: bool) {
        if self.length.is_multiple_of(8) {
            self.bitmap.push(0);
        }
        if let Some(last) = self.bitmap.last_mut() {
            *last |= u8::from(bit) << (self.length % 8);
        }
        self.length += 1;
    }

    pub(crate) fn clear(&mut self) {
        self.bitmap.clear();
        self.length = 0;
    }

    pub(crate) fn len(&self) -> usize {
        self.length
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bitmap
    }
}

/// Which values of a builder are valid: nothing is stored until the first null.
#[derive(Debug, Clone, Default)]
pub(crate) struct ValidityBuilder {
    bits: Option<BitBuilder>,
    length: usize,
    nulls: usize,
}

impl ValidityBuilder {
    pub(crate) fn from_mask(mask: &Mask) -> Self {
        let (length, nulls) = (mask.rows(), mask.rows() - mask.count());
        Self { bits: (nulls > 0).then(|| BitBuilder::from_mask(mask)), length, nulls }
    }

    #[inline]
    pub(crate) fn push(&mut self, valid: bool) {
        if !valid {
            self.nulls += 1;
            self.bits.get_or_insert_with(|| BitBuilder::ones(self.length)).push(false);
        } else if let Some(bits) = &mut self.bits {
            bits.push(true);
        }
        self.length += 1;
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn len(&self) -> usize {
        self.length
    }

    pub(crate) fn nulls(&self) -> usize {
        self.nulls
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bits.as_ref().map(BitBuilder::as_bytes).unwrap_or_default()
    }
}
