//! What a guest hands over: flat buffers become columns that Arrow's own full validation takes, or an error.

use std::sync::Arc;

use arrow_array::Array as _;
use arrow_schema::{DataType, Field, Fields, TimeUnit};

use crate::{layout, lift, lower};

/// Takes bytes off the front, zeros where there are none left.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }

    fn data_type(&mut self, depth: u8) -> DataType {
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

pub(crate) fn run(data: &[u8]) {
    let mut bytes = Bytes(data);
    let columns = 1 + bytes.byte() % 3;
    let field = |bytes: &mut Bytes<'_>, index| {
        Field::new(format!("c{index}"), bytes.data_type(0), bytes.byte().is_multiple_of(2))
    };
    let fields: Fields = (0..columns).map(|index| field(&mut bytes, index)).collect();
    let rows = u32::from(bytes.byte() % 20);
    let (nodes, buffers) = layout::shape(&fields);
    let node = |bytes: &mut Bytes<'_>| {
        // Mostly the length that is due, so that more than the first check is reached.
        let length = match bytes.byte() {
            0 => u32::MAX,
            255 => u32::from(bytes.byte()),
            _ => rows,
        };
        lower::Node { length, null_count: u32::from(bytes.byte() % 4) }
    };
    let nodes: Vec<_> = (0..nodes).map(|_| node(&mut bytes)).collect();
    let buffers: Vec<&[u8]> = (0..buffers)
        .map(|_| {
            let length = usize::from(bytes.byte());
            bytes.take(length)
        })
        .collect();
    for column in lift::lift(&fields, rows as usize, &nodes, &buffers).into_iter().flatten() {
        assert_eq!(column.len(), rows as usize);
        column.to_data().validate_full().expect("what was lifted is valid");
        // And it goes back the way that it came.
        layout::check_crosses(column.data_type()).expect("its type crosses");
        lower::lower(&[column]).expect("it crosses");
    }
}
