//! Arrow arrays to flat buffers and back: what the host does at the boundary. What the rule hands over is validated by Arrow itself,
//! as the host does it.

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
            let child = make_array(data.child_data()[0].slice(range.start, range.len()));
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
