use std::sync::Arc;

use arrow_schema::{DataType as T, Field, TimeUnit};

use super::Column;
use crate::array::Reader;
use crate::kind::Kind;
use crate::layout::{Layout, Node};

const KINDS: [Kind; 17] = [
    Kind::Any,
    Kind::Bool,
    Kind::I32,
    Kind::I64,
    Kind::U64,
    Kind::F32,
    Kind::F64,
    Kind::Decimal,
    Kind::Str,
    Kind::Bytes,
    Kind::Date,
    Kind::Time,
    Kind::Timestamp,
    Kind::Duration,
    Kind::List,
    Kind::Struct,
    Kind::Map,
];

fn types() -> Vec<T> {
    let item = Arc::new(Field::new("item", T::Int8, true));
    let entries = T::Struct(vec![Field::new("keys", T::Utf8, false), Field::new("values", T::Int8, true)].into());
    let units = [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond];
    let mut types = vec![
        T::Null,
        T::Boolean,
        T::Int8,
        T::Int16,
        T::Int32,
        T::Int64,
        T::UInt8,
        T::UInt16,
        T::UInt32,
        T::UInt64,
        T::Float32,
        T::Float64,
        T::Decimal128(10, 2),
        T::Utf8,
        T::Binary,
        T::FixedSizeBinary(3),
        T::Date32,
        T::Time32(TimeUnit::Second),
        T::Time32(TimeUnit::Millisecond),
        T::Time64(TimeUnit::Microsecond),
        T::Time64(TimeUnit::Nanosecond),
        T::List(item),
        T::Map(Arc::new(Field::new("entries", entries.clone(), false)), false),
        entries,
    ];
    types.extend(units.map(|unit| T::Timestamp(unit, None)));
    types.extend(units.map(T::Duration));
    types
}

/// Nodes and buffers of an array without rows.
fn empty(layout: &Layout, nodes: &mut Vec<Node>, buffers: &mut Vec<Vec<u8>>) {
    nodes.push(Node::new(0, 0));
    match layout {
        Layout::Null => {}
        Layout::Bits | Layout::Fixed(_) => buffers.extend([vec![], vec![]]),
        Layout::Text | Layout::Binary => buffers.extend([vec![], vec![0; 4], vec![]]),
        Layout::List(item) => {
            buffers.extend([vec![], vec![0; 4]]);
            empty(item, nodes, buffers);
        }
        Layout::Struct(fields) => {
            buffers.push(vec![]);
            fields.iter().for_each(|field| empty(field, nodes, buffers));
        }
    }
}

fn opens(kind: Kind, column: Column<'_>) -> bool {
    match kind {
        Kind::Any => true,
        Kind::Bool => column.bool().is_ok(),
        Kind::I32 => column.i32().is_ok(),
        Kind::I64 => column.i64().is_ok(),
        Kind::U64 => column.u64().is_ok(),
        Kind::F32 => column.f32().is_ok(),
        Kind::F64 => column.f64().is_ok(),
        Kind::Decimal => column.decimal().is_ok(),
        Kind::Str => column.str().is_ok(),
        Kind::Bytes => column.bytes().is_ok(),
        Kind::Date => column.date().is_ok(),
        Kind::Time => column.time().is_ok(),
        Kind::Timestamp => column.timestamp().is_ok(),
        Kind::Duration => column.duration().is_ok(),
        Kind::List => column.list().is_ok(),
        Kind::Struct => column.field("keys").is_ok(),
        Kind::Map => column.map().is_ok(),
    }
}

/// What binds can be read, and what cannot be read does not bind.
#[test]
fn each_kind_accepts_exactly_the_types_that_its_accessor_opens() -> Result<(), String> {
    for data_type in types() {
        let (mut nodes, mut buffers) = (vec![], vec![]);
        empty(&Layout::of(&data_type)?, &mut nodes, &mut buffers);
        let mut reader = Reader::new(nodes, buffers);
        let array = reader.array(&data_type)?;
        reader.finish()?;
        for kind in KINDS {
            assert_eq!(opens(kind, Column::new(&array)), kind.accepts(&data_type), "{kind:?} of {data_type}");
        }
    }
    Ok(())
}

#[test]
fn a_batch_that_is_shorter_than_it_says_is_refused() {
    let read = |length, buffers: Vec<Vec<u8>>, data_type| {
        Reader::new(vec![Node::new(length, 1)], buffers).array(&data_type).map(|array| array.length)
    };
    assert_eq!(read(2, vec![vec![1], vec![0; 16]], T::Int64), Ok(2));
    assert!(read(2, vec![vec![1], vec![0; 15]], T::Int64).is_err());
    assert!(read(9, vec![vec![1], vec![0; 72]], T::Int64).is_err());
    assert!(read(2, vec![vec![1], vec![0; 8], vec![]], T::Utf8).is_err());
    assert!(read(2, vec![vec![1]], T::Int64).is_err());
}

/// The host's buffers are aligned; one that is not is copied, not misread.
#[test]
fn a_buffer_that_is_not_aligned_is_read_all_the_same() -> Result<(), String> {
    for shift in 0..8 {
        // Whatever address the allocator gives, one of the shifts is off it.
        let mut bytes = vec![0_u8; shift];
        bytes.extend(7_i64.to_le_bytes());
        bytes.drain(..shift);
        let mut reader = Reader::new(vec![Node::new(1, 0)], vec![vec![], bytes]);
        let array = reader.array(&T::Int64)?;
        let values = Column::new(&array).i64().map_err(|error| error.to_string())?;
        assert_eq!(values.values(), [7]);
    }
    Ok(())
}
