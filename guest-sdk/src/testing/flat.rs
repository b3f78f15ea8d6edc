//! Arrow arrays to flat buffers and back: what the host does at the boundary. What the rule hands over is validated by Arrow itself,
//! as the host does it.

use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::{Array, ArrayRef, make_array};
use arrow_buffer::Buffer;
use arrow_data::ArrayData;
use arrow_schema::{DataType, Field};

use crate::bits;
use crate::layout::{Layout, Node};

/// The nodes and buffers of an array.
pub(super) fn lower(array: &dyn Array, nodes: &mut Vec<Node>, buffers: &mut Vec<Vec<u8>>) -> Result<(), String> {
    let layout = Layout::of(array.data_type()).map_err(|other| format!("type {other} does not cross the boundary"))?;
    let (rows, nulls) = (array.len(), array.logical_null_count());
    nodes.push(Node::new(rows, nulls));
    if layout == Layout::Null {
        return Ok(());
    }
    buffers.push(if nulls == 0 { vec![] } else { bits::from_fn(rows, |row| array.is_valid(row)) });
    let data = array.to_data();
    match layout {
        Layout::Null => {}
        Layout::Bits => {
            let values = array.as_boolean();
            buffers.push(bits::from_fn(rows, |row| values.value(row)));
        }
        Layout::Fixed(element) => {
            let values = data.buffers()[0].as_slice();
            buffers.push(values[data.offset() * element.width()..][..rows * element.width()].to_vec());
        }
        Layout::Text | Layout::Binary => {
            let (offsets, range) = offsets(&data);
            buffers.extend([offsets, data.buffers()[1].as_slice()[range].to_vec()]);
        }
        Layout::List(_) => {
            let (offsets, range) = offsets(&data);
            buffers.push(offsets);
            let child: ArrayRef = match array.as_map_opt() {
                Some(map) => Arc::new(map.entries().slice(range.start, range.len())),
                None => array.as_list::<i32>().values().slice(range.start, range.len()),
            };
            lower(&child, nodes, buffers)?;
        }
        Layout::Struct(_) => {
            for child in array.as_struct().columns() {
                lower(child, nodes, buffers)?;
            }
        }
    }
    Ok(())
}

/// Offsets from 0, and the range that they stand for.
fn offsets(data: &ArrayData) -> (Vec<u8>, std::ops::Range<usize>) {
    let offsets = &data.buffers()[0].typed_data::<i32>()[data.offset()..=data.offset() + data.len()];
    let first = offsets.first().copied().unwrap_or_default();
    let last = offsets.last().copied().unwrap_or_default();
    let place = |offset: i32| usize::try_from(offset).unwrap_or_default();
    (offsets.iter().flat_map(|offset| (offset - first).to_le_bytes()).collect(), place(first)..place(last))
}

/// Arrays from what a rule handed over.
pub(super) struct Lift {
    nodes: std::vec::IntoIter<Node>,
    buffers: std::vec::IntoIter<Vec<u8>>,
}

impl Lift {
    pub(super) fn new(nodes: Vec<Node>, buffers: Vec<Vec<u8>>) -> Self {
        Self { nodes: nodes.into_iter(), buffers: buffers.into_iter() }
    }

    /// The next array, validated.
    pub(super) fn column(&mut self, field: &Field, rows: usize) -> Result<ArrayRef, String> {
        let name = || format!("column {:?}", field.name());
        let data = self.array(field.data_type()).map_err(|error| format!("{}: {error}", name()))?;
        data.validate_full().map_err(|error| format!("{}: {error}", name()))?;
        if data.len() != rows {
            return Err(format!("{}: {} values for {rows} rows", name(), data.len()));
        }
        Ok(make_array(data))
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "Arrow's types: all others have no children, or were refused")]
    fn array(&mut self, data_type: &DataType) -> Result<ArrayData, String> {
        let layout = Layout::of(data_type)?;
        let node = self.nodes.next().ok_or("too few nodes")?;
        let mut builder = ArrayData::builder(data_type.clone()).len(node.length as usize);
        if layout != Layout::Null {
            let validity = self.buffer()?;
            if node.null_count > 0 {
                builder = builder.null_bit_buffer(Some(validity)).null_count(node.null_count as usize);
            }
        }
        let own = match layout {
            Layout::Null | Layout::Struct(_) => 0,
            Layout::Bits | Layout::Fixed(_) | Layout::List(_) => 1,
            Layout::Text | Layout::Binary => 2,
        };
        for _ in 0..own {
            builder = builder.add_buffer(self.buffer()?);
        }
        let children: Vec<&Field> = match data_type {
            DataType::List(item) | DataType::Map(item, _) => vec![item],
            DataType::Struct(fields) => fields.iter().map(AsRef::as_ref).collect(),
            _ => vec![],
        };
        for child in children {
            builder = builder.add_child_data(self.array(child.data_type())?);
        }
        builder.align_buffers(true).build().map_err(|error| error.to_string())
    }

    fn buffer(&mut self) -> Result<Buffer, String> {
        self.buffers.next().map(Buffer::from_vec).ok_or_else(|| "too few buffers".to_owned())
    }

    /// That nothing is left.
    pub(super) fn finish(mut self) -> Result<(), String> {
        match (self.nodes.next(), self.buffers.next()) {
            (None, None) => Ok(()),
            _ => Err("more nodes or buffers than the route computes".to_owned()),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use arrow_array::UInt32Array;
    use arrow_array::builder::{
        BinaryBuilder, BooleanBuilder, FixedSizeBinaryBuilder, Int16Builder, ListBuilder, MapBuilder, StringBuilder,
    };
    use arrow_array::{Decimal128Array, Float64Array, NullArray, StructArray};
    use proptest::prelude::*;

    use super::*;
    use crate::array::Reader;
    use crate::column::Column;
    use crate::layout::{AsColumn as _, Flat, Gathered};

    /// An array of each layout, from one list of values.
    fn arrays(values: &[Option<(i16, String)>]) -> Vec<ArrayRef> {
        let numbers = || values.iter().map(|value| value.as_ref().map(|(number, _)| *number));
        let texts = || values.iter().map(|value| value.as_ref().map(|(_, text)| text.as_str()));
        let booleans: BooleanBuilder = extend(numbers().map(|n| n.map(|n| n % 2 == 0)), BooleanBuilder::new());
        let mut fixed = FixedSizeBinaryBuilder::new(3);
        let mut list = ListBuilder::new(StringBuilder::new());
        let mut map = MapBuilder::new(None, StringBuilder::new(), Int16Builder::new());
        for (number, text) in numbers().zip(texts()) {
            match number {
                Some(number) => fixed.append_value([number.to_le_bytes()[0]; 3]).unwrap(),
                None => fixed.append_null(),
            }
            for at in 0..number.unwrap_or(0).rem_euclid(4) {
                list.values().append_option(if at == 1 { None } else { text });
                map.keys().append_value(format!("k{at}"));
                map.values().append_option(number.filter(|_| at != 2));
            }
            list.append(number.is_some());
            map.append(number.is_some()).unwrap();
        }
        let floats: ArrayRef = Arc::new(numbers().map(|n| n.map(f64::from)).collect::<Float64Array>());
        let strings: ArrayRef = Arc::new(texts().collect::<arrow_array::StringArray>());
        let nulls = booleans.validity_slice().map(<[u8]>::to_vec);
        let nulls = nulls.map(|bits| {
            arrow_buffer::NullBuffer::new(arrow_buffer::BooleanBuffer::new(Buffer::from_vec(bits), 0, values.len()))
        });
        let fields = vec![Field::new("f", DataType::Float64, true), Field::new("s", DataType::Utf8, true)];
        let record = StructArray::new(fields.into(), vec![Arc::clone(&floats), Arc::clone(&strings)], nulls);
        let binary = extend(texts().map(|text| text.map(str::as_bytes)), BinaryBuilder::new());
        vec![
            floats,
            strings,
            Arc::new({ booleans }.finish()),
            Arc::new(fixed.finish()),
            Arc::new(list.finish()),
            Arc::new(map.finish()),
            Arc::new(record),
            Arc::new({ binary }.finish()),
            Arc::new(numbers().map(|n| n.map(i128::from)).collect::<Decimal128Array>()),
            Arc::new(NullArray::new(values.len())),
        ]
    }

    fn extend<T, B: Extend<Option<T>>>(values: impl Iterator<Item = Option<T>>, mut builder: B) -> B {
        builder.extend(values);
        builder
    }

    proptest! {
        /// Down to the guest, read there, rows picked, back up: what Arrow's own `take` gives.
        #[test]
        fn what_crosses_both_ways_is_what_it_was(
            values in prop::collection::vec(prop::option::of((any::<i16>(), ".{0,9}")), 1..40),
            picks in prop::collection::vec(any::<prop::sample::Index>(), 0..60),
            cut in any::<prop::sample::Index>(),
        ) {
            for whole in arrays(&values) {
                // A slice, so that offsets and bit positions do not begin at 0.
                let cut = cut.index(whole.len());
                let array = whole.slice(cut, whole.len() - cut);
                let (mut nodes, mut buffers) = (vec![], vec![]);
                lower(&array, &mut nodes, &mut buffers).unwrap();
                let mut reader = Reader::new(nodes, buffers);
                let read = reader.array(array.data_type()).unwrap();
                reader.finish().unwrap();
                let column = Column::new(&read);
                let field = Field::new("x", array.data_type().clone(), true);
                let lift = |flat: &Flat<'_>, rows| {
                    let buffers = flat.buffers.iter().map(|buffer| buffer.to_vec()).collect();
                    let mut lift = Lift::new(flat.nodes.clone(), buffers);
                    let lifted = lift.column(&field, rows).unwrap();
                    lift.finish().unwrap();
                    lifted
                };
                let mut lent = Flat::default();
                column.lower(&mut lent);
                prop_assert_eq!(&lift(&lent, array.len()), &array);

                let picks: Vec<u32> = picks.iter().map(|pick| u32::try_from(pick.index(array.len())).unwrap()).collect();
                let expected = arrow_select::take::take(&array, &UInt32Array::from(picks.clone()), None).unwrap();
                let gathered = Gathered::pick(&column, &picks);
                let mut flat = Flat::default();
                gathered.lower(&mut flat);
                prop_assert_eq!(&lift(&flat, picks.len()), &expected);
            }
        }
    }
}
