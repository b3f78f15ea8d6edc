//! A fuzzer's bytes, taken for whatever a target needs.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Fields, TimeUnit};

use crate::layout::shape;
use crate::lower::Node;

/// Takes bytes off the front, zeros where there are none left.
pub(crate) struct Bytes<'a>(pub(crate) &'a [u8]);

impl<'a> Bytes<'a> {
    pub(crate) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    pub(crate) fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// A text of up to 255 bytes.
    pub(crate) fn text(&mut self) -> String {
        let length = usize::from(self.byte());
        String::from_utf8_lossy(self.take(length)).into_owned()
    }

    /// Fields of any types that cross.
    pub(crate) fn fields(&mut self, count: u8) -> Fields {
        let field = |bytes: &mut Self, index| {
            Field::new(format!("c{index}"), bytes.data_type(0), bytes.byte().is_multiple_of(2))
        };
        (0..count).map(|index| field(self, index)).collect()
    }

    /// What a guest hands over for a number of columns: mostly the length that is due, so that more than the first check is
    /// reached.
    pub(crate) fn flat(&mut self, fields: &Fields, rows: u32) -> (Vec<Node>, Vec<&'a [u8]>) {
        let (nodes, buffers) = shape(fields);
        let node = |bytes: &mut Self| {
            let length = match bytes.byte() {
                0 => u32::MAX,
                255 => u32::from(bytes.byte()),
                _ => rows,
            };
            Node { length, null_count: u32::from(bytes.byte() % 4) }
        };
        let nodes = (0..nodes).map(|_| node(self)).collect();
        let buffer = |bytes: &mut Self| {
            let length = usize::from(bytes.byte());
            bytes.take(length)
        };
        let buffers = (0..buffers).map(|_| buffer(self)).collect();
        (nodes, buffers)
    }

    pub(crate) fn data_type(&mut self, depth: u8) -> DataType {
        let child = |bytes: &mut Self, name: &str| {
            let nullable = bytes.byte().is_multiple_of(2);
            Arc::new(Field::new(name, bytes.data_type(depth + 1), nullable))
        };
        match self.byte() % if depth < 3 { 17 } else { 14 } {
            0 => DataType::Null,
            1 => DataType::Boolean,
            2 => DataType::Int8,
            3 => DataType::UInt16,
            4 => DataType::Int32,
            5 => DataType::Float64,
            6 => DataType::Utf8,
            7 => DataType::Binary,
            8 => DataType::Decimal128(self.byte() % 38 + 1, 1),
            9 => DataType::FixedSizeBinary(i32::from(self.byte() % 20)),
            10 => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            11 => DataType::Time32(TimeUnit::Millisecond),
            12 => DataType::Time64(TimeUnit::Nanosecond),
            13 => DataType::Date32,
            14 => DataType::List(child(self, "item")),
            15 => DataType::Struct(Fields::from(vec![child(self, "a"), child(self, "b")])),
            _ => {
                let key = Arc::new(Field::new("keys", DataType::Utf8, false));
                let entries = DataType::Struct(Fields::from(vec![key, child(self, "values")]));
                DataType::Map(Arc::new(Field::new("entries", entries, false)), self.byte().is_multiple_of(2))
            }
        }
    }
}
