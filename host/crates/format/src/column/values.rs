//! Values that grow row by row, are padded late with nulls and can be taken back to an earlier row.

use std::ops::Range;

use arrow_buffer::{BooleanBufferBuilder, NullBuffer, OffsetBuffer, ScalarBuffer};

/// Which rows are null, as ranges: a column without nulls pays nothing, a long gap one entry.
#[derive(Debug, Default)]
pub(crate) struct Nulls(Vec<Range<usize>>);

impl Nulls {
    pub(crate) fn add(&mut self, rows: Range<usize>) {
        match self.0.last_mut() {
            Some(last) if last.end == rows.start => last.end = rows.end,
            _ => self.0.push(rows),
        }
    }

    pub(crate) fn truncate(&mut self, len: usize) {
        while let Some(last) = self.0.last_mut() {
            if last.end <= len {
                return;
            }
            if last.start < len {
                last.end = len;
                return;
            }
            self.0.pop();
        }
    }

    pub(crate) fn finish(&mut self, len: usize) -> Option<NullBuffer> {
        if self.0.is_empty() {
            return None;
        }
        let mut valid = BooleanBufferBuilder::new(len);
        for rows in self.0.drain(..) {
            valid.append_n(rows.start - valid.len(), true);
            valid.append_n(rows.len(), false);
        }
        valid.append_n(len - valid.len(), true);
        Some(NullBuffer::new(valid.finish()))
    }
}

/// Values of a fixed width.
#[derive(Debug, Default)]
pub(crate) struct Values<T> {
    values: Vec<T>,
    nulls: Nulls,
}

impl<T: Copy + Default> Values<T> {
    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    #[inline]
    pub(crate) fn push(&mut self, row: usize, value: T) {
        if self.values.len() < row {
            self.pad(row);
        }
        self.values.push(value);
    }

    #[cold]
    pub(crate) fn pad(&mut self, rows: usize) {
        let len = self.values.len();
        if len < rows {
            self.nulls.add(len..rows);
            self.values.resize(rows, T::default());
        }
    }

    pub(crate) fn truncate(&mut self, len: usize) {
        self.values.truncate(len);
        self.nulls.truncate(len);
    }

    /// The first `rows` rows; what is left is empty, with room for as many.
    pub(crate) fn finish(&mut self, rows: usize) -> (Vec<T>, Option<NullBuffer>) {
        self.pad(rows);
        let room = Vec::with_capacity(self.values.len());
        let values = std::mem::replace(&mut self.values, room);
        (values, self.nulls.finish(rows))
    }
}

/// Where the values of a column of texts or lists end.
#[derive(Debug)]
pub(crate) struct Offsets {
    offsets: Vec<i32>,
    nulls: Nulls,
}

impl Default for Offsets {
    fn default() -> Self {
        Self { offsets: vec![0], nulls: Nulls::default() }
    }
}

impl Offsets {
    pub(crate) fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Where the next value begins.
    pub(crate) fn last(&self) -> usize {
        self.offsets.last().map_or(0, |&last| usize::try_from(last).unwrap_or(0))
    }

    /// Ends a value at `end`. A batch's text is far below 2 GiB, which is the reason that `end` always fits.
    #[inline]
    pub(crate) fn push(&mut self, row: usize, end: usize) {
        if self.len() < row {
            self.pad(row);
        }
        self.offsets.push(i32::try_from(end).unwrap_or(i32::MAX));
    }

    #[cold]
    pub(crate) fn pad(&mut self, rows: usize) {
        let len = self.len();
        if len < rows {
            self.nulls.add(len..rows);
            let last = self.offsets.last().copied().unwrap_or(0);
            self.offsets.resize(rows + 1, last);
        }
    }

    pub(crate) fn truncate(&mut self, len: usize) {
        self.offsets.truncate(len + 1);
        self.nulls.truncate(len);
    }

    pub(crate) fn finish(&mut self, rows: usize) -> (OffsetBuffer<i32>, Option<NullBuffer>) {
        self.pad(rows);
        let mut room = Vec::with_capacity(self.offsets.len());
        room.push(0);
        let offsets = std::mem::replace(&mut self.offsets, room);
        (OffsetBuffer::new(ScalarBuffer::from(offsets)), self.nulls.finish(rows))
    }
}

/// Texts or bytes.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    bytes: Vec<u8>,
    offsets: Offsets,
}

impl Texts {
    pub(crate) fn len(&self) -> usize {
        self.offsets.len()
    }

    /// The bytes to write the next value to; [`Texts::close`] ends it, [`Texts::truncate`] forgets it.
    #[inline]
    pub(crate) fn open(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    #[inline]
    pub(crate) fn close(&mut self, row: usize) {
        self.offsets.push(row, self.bytes.len());
    }

    pub(crate) fn push(&mut self, row: usize, value: &[u8]) {
        self.bytes.extend_from_slice(value);
        self.close(row);
    }

    pub(crate) fn pad(&mut self, rows: usize) {
        self.offsets.pad(rows);
    }

    pub(crate) fn truncate(&mut self, len: usize) {
        if len < self.offsets.len() {
            self.offsets.truncate(len);
        }
        self.bytes.truncate(self.offsets.last());
    }

    pub(crate) fn finish(&mut self, rows: usize) -> (OffsetBuffer<i32>, Vec<u8>, Option<NullBuffer>) {
        let (offsets, nulls) = self.offsets.finish(rows);
        // The next batch is likely to be of the same size.
        let room = Vec::with_capacity(self.bytes.len() + self.bytes.len() / 16);
        (offsets, std::mem::replace(&mut self.bytes, room), nulls)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nulls_are_padded_late_and_taken_back() {
        let mut values = Values::<i64>::default();
        values.push(0, 7);
        values.push(3, 8);
        values.pad(6);
        values.truncate(5);
        values.push(5, 9);
        values.push(7, 1);
        values.truncate(2);
        values.push(2, 5);
        let (numbers, nulls) = values.finish(4);
        assert_eq!(numbers, [7, 0, 5, 0]);
        assert_eq!(nulls.map(|nulls| nulls.iter().collect::<Vec<_>>()), Some(vec![true, false, true, false]));
        values.push(0, 1);
        assert_eq!(values.finish(1), (vec![1], None));
    }

    #[test]
    fn texts_taken_back_leave_no_bytes() {
        let mut texts = Texts::default();
        texts.push(0, b"ab");
        texts.push(2, b"cd");
        texts.open().extend_from_slice(b"unfinished");
        texts.truncate(texts.len());
        texts.push(3, b"e");
        texts.truncate(2);
        texts.push(2, b"z");
        let (offsets, bytes, nulls) = texts.finish(3);
        assert_eq!(offsets.to_vec(), [0, 2, 2, 3]);
        assert_eq!(bytes, b"abz");
        assert_eq!(nulls.map(|nulls| nulls.iter().collect::<Vec<_>>()), Some(vec![true, false, true]));
    }
}
