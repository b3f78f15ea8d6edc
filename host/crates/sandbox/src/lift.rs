//! Flat buffers that a guest sent, as Arrow columns of the types that its plan agreed to.
//!
//! Everything is taken as hostile: counts, lengths, offsets, validity, UTF-8 and ranges are checked against the agreed
//! type before or while an array is built, so that what leaves here is an array that any other code may trust. Each buffer
//! is copied once, from the guest's memory into memory that is aligned for Arrow.

use std::ops::Range;
use std::slice::Iter;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, BinaryArray, ListArray, MapArray, StringArray, StructArray, make_array};
use arrow_buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_data::ArrayData;
use arrow_schema::{DataType, Field, FieldRef, Fields, TimeUnit};

use crate::layout::{Layout, layout};
use crate::lower::Node;

/// The columns, each of `rows` values. `nodes` and `buffers` are as many as [`crate::layout::shape`] says. An error names the column, and
/// what is wrong where: `computed column 2 (reason): offsets descend at 17`. It never shows a value.
pub(crate) fn lift(fields: &Fields, rows: usize, nodes: &[Node], buffers: &[&[u8]]) -> Result<Vec<ArrayRef>, String> {
    let mut reader = Reader { nodes: nodes.iter(), buffers: buffers.iter() };
    let column = |(index, field): (usize, &FieldRef)| {
        reader.top(field, rows).map_err(|reason| format!("computed column {index} ({}): {reason}", field.name()))
    };
    fields.iter().enumerate().map(column).collect()
}

struct Reader<'a> {
    nodes: Iter<'a, Node>,
    buffers: Iter<'a, &'a [u8]>,
}

impl Reader<'_> {
    fn top(&mut self, field: &Field, rows: usize) -> Result<ArrayRef, String> {
        let array = self.array(field, rows)?;
        // The logical count, since all values of a Null array are null without a validity.
        let nulls = array.logical_null_count();
        if !field.is_nullable() && nulls > 0 {
            return Err(format!("has {nulls} nulls, and the plan says that it has none"));
        }
        Ok(array)
    }

    /// The next array, which must have `length` values.
    fn array(&mut self, field: &Field, length: usize) -> Result<ArrayRef, String> {
        let node = *self.nodes.next().ok_or("its node is missing")?;
        if usize::try_from(node.length) != Ok(length) {
            return Err(format!("has {} values where {length} are due", node.length));
        }
        let data_type = field.data_type();
        let layout = layout(data_type).ok_or_else(|| format!("{data_type} does not cross the boundary"))?;
        let nulls = if layout == Layout::Null { None } else { self.nulls(node, length)? };
        match layout {
            Layout::Null if node.null_count != node.length => {
                Err(format!("claims {} nulls, and all of its {length} values are", node.null_count))
            }
            Layout::Null => build(data_type, length, None, vec![]),
            Layout::Bits => {
                let bits = self.exactly(length.div_ceil(8), "values")?;
                build(data_type, length, nulls, vec![bits])
            }
            Layout::Fixed(width) => self.fixed(data_type, width, length, nulls),
            Layout::Bytes => self.bytes(data_type, length, nulls),
            Layout::List(child) => {
                let (offsets, values) = self.list(child, length)?;
                arrow(ListArray::try_new(Arc::clone(child), offsets, values, nulls))
            }
            Layout::Map(entries, sorted) => {
                let (offsets, values) = self.list(entries, length)?;
                let values = values.as_struct_opt().ok_or("its entries are no struct")?.clone();
                arrow(MapArray::try_new(Arc::clone(entries), offsets, values, nulls, sorted))
            }
            Layout::Struct(children) => {
                let mut columns = Vec::with_capacity(children.len());
                for child in children {
                    columns.push(self.nested(child, length)?);
                }
                arrow(StructArray::try_new_with_length(children.clone(), columns, nulls, length))
            }
        }
    }

    fn nested(&mut self, field: &Field, length: usize) -> Result<ArrayRef, String> {
        self.array(field, length).map_err(|reason| format!(".{}: {reason}", field.name()))
    }

    fn next(&mut self) -> Result<&[u8], String> {
        self.buffers.next().copied().ok_or_else(|| "a buffer is missing".into())
    }

    /// The next buffer, copied, if it has just the bytes that it must have.
    fn exactly(&mut self, wanted: usize, what: &str) -> Result<Buffer, String> {
        let bytes = self.next()?;
        if bytes.len() != wanted {
            return Err(format!("its {what} have {} bytes where {wanted} are due", bytes.len()));
        }
        Ok(Buffer::from(bytes))
    }

    fn nulls(&mut self, node: Node, length: usize) -> Result<Option<NullBuffer>, String> {
        let claimed = node.null_count as usize;
        if claimed > length {
            return Err(format!("claims {claimed} nulls among {length} values"));
        }
        let bytes = self.next()?;
        if bytes.is_empty() && claimed == 0 {
            return Ok(None);
        }
        let wanted = length.div_ceil(8);
        if bytes.len() != wanted {
            return Err(format!("its validity has {} bytes where {wanted} are due", bytes.len()));
        }
        let nulls = NullBuffer::new(BooleanBuffer::new(Buffer::from(bytes), 0, length));
        if nulls.null_count() != claimed {
            return Err(format!("claims {claimed} nulls, and its validity has {}", nulls.null_count()));
        }
        Ok(Some(nulls).filter(|_| claimed > 0))
    }

    fn offsets(&mut self, length: usize) -> Result<(OffsetBuffer<i32>, usize), String> {
        let count = length + 1;
        let buffer = self.exactly(count * 4, "offsets")?;
        let offsets = ScalarBuffer::<i32>::new(buffer, 0, count);
        let first = offsets.first().copied().unwrap_or_default();
        if first != 0 {
            return Err(format!("offsets begin at {first}, not at 0"));
        }
        let ends = offsets.get(1..).unwrap_or_default();
        if !offsets.iter().zip(ends).fold(true, |ascend, (start, end)| ascend & (start <= end)) {
            let at = offsets.windows(2).position(|pair| pair[0] > pair[1]).map_or(0, |at| at + 1);
            return Err(format!("offsets descend at {at}"));
        }
        let last = usize::try_from(offsets.last().copied().unwrap_or_default()).unwrap_or_default();
        // Neither negative nor descending, which is all that this constructor wants.
        Ok((OffsetBuffer::new(offsets), last))
    }

    fn list(&mut self, child: &Field, length: usize) -> Result<(OffsetBuffer<i32>, ArrayRef), String> {
        let (offsets, last) = self.offsets(length)?;
        Ok((offsets, self.nested(child, last)?))
    }

    fn bytes(&mut self, data_type: &DataType, length: usize, nulls: Option<NullBuffer>) -> Result<ArrayRef, String> {
        let (offsets, last) = self.offsets(length)?;
        let values = self.exactly(last, "bytes (by its last offset)")?;
        if *data_type == DataType::Binary {
            return arrow(BinaryArray::try_new(offsets, values, nulls));
        }
        let (starts, text) = (offsets.clone(), values.clone());
        arrow(StringArray::try_new(offsets, values, nulls)).map_err(|reason| bad_text(&starts, &text).unwrap_or(reason))
    }

    fn fixed(
        &mut self,
        data_type: &DataType,
        width: usize,
        length: usize,
        nulls: Option<NullBuffer>,
    ) -> Result<ArrayRef, String> {
        let wanted = length.checked_mul(width).ok_or("is too long")?;
        let values = self.exactly(wanted, "values")?;
        let array = build(data_type, length, nulls, vec![values.clone()])?;
        check_range(&array, data_type, values)?;
        Ok(array)
    }
}

/// Days since the epoch of the years 0 to 9999: what tables, their logs and whoever reads them have a text for. They are also
/// what every unit of time can be brought to microseconds in.
const DAYS: Range<i32> = -719_528..2_932_897;

/// Checks that values are in the range of their type, where it is less than their bytes can say.
fn check_range(array: &ArrayRef, data_type: &DataType, values: Buffer) -> Result<(), String> {
    let length = array.len();
    if let DataType::Decimal128(precision, _) = data_type {
        let most = 10_i128.checked_pow(u32::from(*precision)).unwrap_or(i128::MAX);
        let fits = |value: &i128| -most < *value && *value < most;
        let values = ScalarBuffer::<i128>::new(values, 0, length);
        check(array, &values, fits, || format!("a decimal has more than {precision} digits"))
    } else if let DataType::Time32(unit) = data_type {
        let day = 0..i32::try_from(day(*unit)).unwrap_or(i32::MAX);
        let values = ScalarBuffer::<i32>::new(values, 0, length);
        check(array, &values, |value| day.contains(value), not_a_time)
    } else if let DataType::Time64(unit) = data_type {
        let day = 0..day(*unit);
        let values = ScalarBuffer::<i64>::new(values, 0, length);
        check(array, &values, |value| day.contains(value), not_a_time)
    } else if *data_type == DataType::Date32 {
        let values = ScalarBuffer::<i32>::new(values, 0, length);
        check(array, &values, |value| DAYS.contains(value), || "a date is not within the years 0 to 9999".into())
    } else if let DataType::Timestamp(unit, _) = data_type
        // 64 bits of nanoseconds are three centuries on either side of the epoch.
        && *unit != TimeUnit::Nanosecond
    {
        let span = i64::from(DAYS.start) * day(*unit)..i64::from(DAYS.end) * day(*unit);
        let values = ScalarBuffer::<i64>::new(values, 0, length);
        let what = || "a timestamp is not within the years 0 to 9999".into();
        check(array, &values, |value| span.contains(value), what)
    } else {
        Ok(())
    }
}

fn not_a_time() -> String {
    "a time of day is not within a day".into()
}

/// A day in this unit.
fn day(unit: TimeUnit) -> i64 {
    86_400
        * match unit {
            TimeUnit::Second => 1,
            TimeUnit::Millisecond => 1_000,
            TimeUnit::Microsecond => 1_000_000,
            TimeUnit::Nanosecond => 1_000_000_000,
        }
}

/// Checks the values that are not null, all at once as long as all fit.
fn check<T>(
    array: &ArrayRef,
    values: &[T],
    fits: impl Fn(&T) -> bool,
    what: impl Fn() -> String,
) -> Result<(), String> {
    if values.iter().fold(true, |all, value| all & fits(value)) {
        return Ok(());
    }
    match values.iter().enumerate().find(|(row, value)| array.is_valid(*row) && !fits(value)) {
        Some((row, _)) => Err(format!("{} at {row}", what())),
        None => Ok(()),
    }
}

fn build(
    data_type: &DataType,
    length: usize,
    nulls: Option<NullBuffer>,
    buffers: Vec<Buffer>,
) -> Result<ArrayRef, String> {
    let data = ArrayData::builder(data_type.clone()).len(length).nulls(nulls).buffers(buffers).build();
    data.map(make_array).map_err(|error| error.to_string())
}

fn arrow<A: Array + 'static>(array: Result<A, arrow_schema::ArrowError>) -> Result<ArrayRef, String> {
    array.map(|array| Arc::new(array) as ArrayRef).map_err(|error| error.to_string())
}

/// Which value is not UTF-8, for a message.
fn bad_text(offsets: &[i32], bytes: &[u8]) -> Option<String> {
    let range = |pair: &[i32]| -> Option<Range<usize>> {
        Some(usize::try_from(*pair.first()?).ok()?..usize::try_from(*pair.get(1)?).ok()?)
    };
    let bad = |pair: &[i32]| {
        range(pair).and_then(|range| bytes.get(range)).is_none_or(|value| std::str::from_utf8(value).is_err())
    };
    offsets.windows(2).position(bad).map(|row| format!("not UTF-8 at {row}"))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::{Strategy, any, prop, proptest};

    use super::*;
    use crate::layout::shape;

    fn one(data_type: DataType, nullable: bool) -> Fields {
        Fields::from(vec![Field::new("c", data_type, nullable)])
    }

    fn node(length: u32, null_count: u32) -> Node {
        Node { length, null_count }
    }

    fn refused(fields: &Fields, nodes: &[Node], buffers: &[&[u8]]) -> String {
        let rows = nodes[0].length as usize;
        assert_eq!((nodes.len(), buffers.len()), shape(fields));
        lift(fields, rows, nodes, buffers).unwrap_err()
    }

    #[test]
    fn values_must_be_in_the_range_of_their_type() {
        let values = [9_i128, 99, 100].map(i128::to_le_bytes).concat();
        let fields = one(DataType::Decimal128(2, 1), true);
        let text = "computed column 0 (c): a decimal has more than 2 digits at 2";
        assert_eq!(refused(&fields, &[node(3, 0)], &[&[], &values]), text);
        // A null is whatever it likes.
        lift(&fields, 3, &[node(3, 1)], &[&[0b011], &values]).unwrap();

        let text = "computed column 0 (c): a time of day is not within a day at 1";
        let seconds = [86_399_i32, 86_400].map(i32::to_le_bytes).concat();
        assert_eq!(refused(&one(DataType::Time32(TimeUnit::Second), true), &[node(2, 0)], &[&[], &seconds]), text);
        let nanos = [86_400_000_000_000_i64 - 1, -1].map(i64::to_le_bytes).concat();
        assert_eq!(refused(&one(DataType::Time64(TimeUnit::Nanosecond), true), &[node(2, 0)], &[&[], &nanos]), text);
    }

    /// What a table could not store, or nobody could read there, does not come in.
    #[test]
    fn dates_and_timestamps_are_within_the_years_0_to_9999() {
        let day = |text| forebay_model::Timestamp::parse(text).unwrap().as_micros() / 86_400_000_000;
        let (first, end) = (day("0000-01-01T00:00:00Z"), day("9999-12-31T00:00:00Z") + 1);
        let days = |values: [i64; 2]| values.map(|day| i32::try_from(day).unwrap().to_le_bytes()).concat();
        let dates = one(DataType::Date32, true);
        lift(&dates, 2, &[node(2, 0)], &[&[], &days([first, end - 1])]).unwrap();
        for (values, at) in [([first - 1, 0], 0), ([0, end], 1)] {
            let text = format!("computed column 0 (c): a date is not within the years 0 to 9999 at {at}");
            assert_eq!(refused(&dates, &[node(2, 0)], &[&[], &days(values)]), text);
        }
        for (unit, per_second) in
            [(TimeUnit::Second, 1), (TimeUnit::Millisecond, 1_000), (TimeUnit::Microsecond, 1_000_000)]
        {
            for zone in [None, Some("UTC".into()), Some("+02:00".into())] {
                let fields = one(DataType::Timestamp(unit, zone), true);
                let span = [first * 86_400 * per_second, end * 86_400 * per_second - 1];
                let bytes = |values: [i64; 2]| values.map(i64::to_le_bytes).concat();
                lift(&fields, 2, &[node(2, 0)], &[&[], &bytes(span)]).unwrap();
                let beyond = [([span[0] - 1, 0], 0), ([0, span[1] + 1], 1), ([i64::MIN, 0], 0), ([0, i64::MAX], 1)];
                for (values, at) in beyond {
                    let text = format!("computed column 0 (c): a timestamp is not within the years 0 to 9999 at {at}");
                    assert_eq!(refused(&fields, &[node(2, 0)], &[&[], &bytes(values)]), text);
                    // A null is whatever it likes.
                    lift(&fields, 2, &[node(2, 1)], &[&[if at == 0 { 0b10 } else { 0b01 }], &bytes(values)]).unwrap();
                }
            }
        }
        let nanos = one(DataType::Timestamp(TimeUnit::Nanosecond, None), true);
        let all = [i64::MIN, i64::MAX].map(i64::to_le_bytes).concat();
        lift(&nanos, 2, &[node(2, 0)], &[&[], &all]).unwrap();
    }

    #[test]
    fn nested_columns_are_named_to_the_leaf() {
        let item = Arc::new(Field::new("item", DataType::Int8, false));
        let fields = one(DataType::List(item), true);
        let offsets = [0_i32, 1, 3].map(i32::to_le_bytes).concat();
        let text = "computed column 0 (c): .item: has 2 values where 3 are due";
        assert_eq!(refused(&fields, &[node(2, 0), node(2, 0)], &[&[], &offsets, &[], &[1, 2]]), text);
        let said = refused(&fields, &[node(2, 0), node(3, 1)], &[&[], &offsets, &[0b101], &[1, 2, 3]]);
        assert!(said.contains("cannot contain nulls"), "{said}");
        assert_eq!(
            refused(&one(DataType::Null, true), &[node(2, 1)], &[]),
            "computed column 0 (c): claims 1 nulls, and all of its 2 values are"
        );
    }

    fn hostile() -> impl Strategy<Value = (Vec<Node>, Vec<Vec<u8>>)> {
        let nodes = prop::collection::vec((0_u32..5, 0_u32..3).prop_map(|(length, nulls)| node(length, nulls)), 0..12);
        let offset = prop::collection::vec(0_i32..4, 0..6)
            .prop_map(|offsets| offsets.into_iter().flat_map(i32::to_le_bytes).collect::<Vec<u8>>());
        let noise = prop::collection::vec(any::<u8>(), 0..20);
        let buffer = prop::strategy::Union::new([offset.boxed(), noise.boxed(), prop::strategy::Just(vec![]).boxed()]);
        (nodes, prop::collection::vec(buffer, 0..24))
    }

    proptest! {
        /// Whatever comes, it is an error or a column that Arrow's own full validation takes.
        #[test]
        fn hostile_buffers_never_panic((nodes, buffers) in hostile(), rows in 0_usize..5) {
            let pair = Fields::from(vec![Field::new("keys", DataType::Utf8, false), Field::new("values", DataType::Int8, true)]);
            let entries = Arc::new(Field::new("entries", DataType::Struct(pair.clone()), false));
            let types = [
                DataType::Null,
                DataType::Boolean,
                DataType::Int32,
                DataType::Utf8,
                DataType::Decimal128(3, 1),
                DataType::List(Arc::new(Field::new("item", DataType::Utf8, true))),
                DataType::Struct(pair),
                DataType::Map(entries, false),
            ];
            let buffers: Vec<&[u8]> = buffers.iter().map(Vec::as_slice).collect();
            for data_type in types {
                for column in lift(&one(data_type, true), rows, &nodes, &buffers).into_iter().flatten() {
                    column.to_data().validate_full().unwrap();
                }
            }
        }
    }
}
