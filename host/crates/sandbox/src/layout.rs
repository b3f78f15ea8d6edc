//! Which types cross the boundary, and which buffers each has there: the WIT's table, in one place.

use arrow_schema::{DataType, FieldRef, Fields};

/// How the values of a type lie in flat buffers. A validity comes first, but for [`Layout::Null`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout<'a> {
    /// Nothing at all: every value is null.
    Null,
    /// A bit each.
    Bits,
    /// This many bytes each.
    Fixed(usize),
    /// 32-bit offsets, then bytes.
    Bytes,
    /// 32-bit offsets, then the child.
    List(&'a FieldRef),
    /// 32-bit offsets, then the child, a struct of key and value; whether keys are sorted.
    Map(&'a FieldRef, bool),
    /// The children.
    Struct(&'a Fields),
}

/// The layout of a type; none for one that does not cross.
pub(crate) fn layout(data_type: &DataType) -> Option<Layout<'_>> {
    Some(match data_type {
        DataType::Null => Layout::Null,
        DataType::Boolean => Layout::Bits,
        DataType::Int8 | DataType::UInt8 => Layout::Fixed(1),
        DataType::Int16 | DataType::UInt16 => Layout::Fixed(2),
        DataType::Int32 | DataType::UInt32 | DataType::Float32 | DataType::Date32 | DataType::Time32(_) => {
            Layout::Fixed(4)
        }
        DataType::Int64
        | DataType::UInt64
        | DataType::Float64
        | DataType::Time64(_)
        | DataType::Timestamp(_, _)
        | DataType::Duration(_) => Layout::Fixed(8),
        DataType::Decimal128(_, _) => Layout::Fixed(16),
        DataType::FixedSizeBinary(width) => Layout::Fixed(usize::try_from(*width).ok()?),
        DataType::Utf8 | DataType::Binary => Layout::Bytes,
        DataType::List(child) => Layout::List(child),
        DataType::Map(entries, sorted) => Layout::Map(entries, *sorted),
        DataType::Struct(children) => Layout::Struct(children),
        DataType::Float16
        | DataType::Date64
        | DataType::Interval(_)
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::LargeUtf8
        | DataType::Utf8View
        | DataType::ListView(_)
        | DataType::FixedSizeList(_, _)
        | DataType::LargeList(_)
        | DataType::LargeListView(_)
        | DataType::Union(_, _)
        | DataType::Dictionary(_, _)
        | DataType::Decimal32(_, _)
        | DataType::Decimal64(_, _)
        | DataType::Decimal256(_, _)
        | DataType::RunEndEncoded(_, _) => return None,
    })
}

/// Whether values of this type can cross; else the type, perhaps nested, that cannot.
pub(crate) fn check_crosses(data_type: &DataType) -> Result<(), &DataType> {
    match layout(data_type).ok_or(data_type)? {
        Layout::Null | Layout::Bits | Layout::Fixed(_) | Layout::Bytes => Ok(()),
        Layout::List(child) | Layout::Map(child, _) => check_crosses(child.data_type()),
        Layout::Struct(children) => children.iter().try_for_each(|child| check_crosses(child.data_type())),
    }
}

/// How many nodes and buffers columns of these types have.
pub(crate) fn shape(fields: &Fields) -> (usize, usize) {
    fields.iter().map(|field| shape_of(field.data_type())).fold((0, 0), add)
}

fn shape_of(data_type: &DataType) -> (usize, usize) {
    match layout(data_type) {
        // A plan with such a type does not come to be.
        None => (0, 0),
        Some(Layout::Null) => (1, 0),
        Some(Layout::Bits | Layout::Fixed(_)) => (1, 2),
        Some(Layout::Bytes) => (1, 3),
        Some(Layout::List(child) | Layout::Map(child, _)) => add((1, 2), shape_of(child.data_type())),
        Some(Layout::Struct(children)) => add((1, 1), shape(children)),
    }
}

fn add(left: (usize, usize), right: (usize, usize)) -> (usize, usize) {
    (left.0 + right.0, left.1 + right.1)
}
