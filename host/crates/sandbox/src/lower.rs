//! Arrow columns as flat buffers, as the WIT describes them, on their way to a guest.
//!
//! Buffers are shared with the arrays, so the only copy is the one into the guest's memory. What must be made anew is
//! small: bits that do not begin at a byte, and the offsets of arrays that were sliced.

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef};
use arrow_buffer::{Buffer, OffsetBuffer};

use crate::layout::{Layout, layout};

/// One array: its length, and how many of its values are null.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) length: u32,
    pub(crate) null_count: u32,
}

/// Columns as nodes, parents first, and their buffers.
#[derive(Debug, Default)]
pub(crate) struct Flat {
    pub(crate) nodes: Vec<Node>,
    pub(crate) buffers: Vec<Buffer>,
}

/// Flattens columns of the types that [`crate::layout::check_crosses`] lets pass. An error is the sandbox's own fault.
pub(crate) fn lower(columns: &[ArrayRef]) -> Result<Flat, String> {
    let mut flat = Flat::default();
    for column in columns {
        flat.push(column)?;
    }
    Ok(flat)
}

impl Flat {
    fn push(&mut self, array: &dyn Array) -> Result<(), String> {
        let data_type = array.data_type();
        let foreign = || format!("{data_type} does not cross the boundary");
        let layout = layout(data_type).ok_or_else(foreign)?;
        self.node(array, layout)?;
        match layout {
            Layout::Null => {}
            Layout::Bits => self.buffers.push(array.as_boolean_opt().ok_or_else(foreign)?.values().sliced()),
            Layout::Fixed(width) => {
                let data = array.to_data();
                let values = data.buffers().first().ok_or_else(foreign)?;
                self.buffers.push(values.slice_with_length(data.offset() * width, data.len() * width));
            }
            Layout::Bytes => {
                let text = array.as_string_opt::<i32>().map(|text| (text.offsets(), text.values()));
                let binary = || array.as_binary_opt::<i32>().map(|binary| (binary.offsets(), binary.values()));
                let (offsets, values) = text.or_else(binary).ok_or_else(foreign)?;
                let (first, length) = self.offsets(offsets);
                self.buffers.push(values.slice_with_length(first, length));
            }
            Layout::List(_) => {
                let list = array.as_list_opt::<i32>().ok_or_else(foreign)?;
                let (first, length) = self.offsets(list.offsets());
                self.push(&list.values().slice(first, length))?;
            }
            Layout::Map(_, _) => {
                let map = array.as_map_opt().ok_or_else(foreign)?;
                let (first, length) = self.offsets(map.offsets());
                self.push(&map.entries().slice(first, length))?;
            }
            Layout::Struct(_) => {
                for child in array.as_struct_opt().ok_or_else(foreign)?.columns() {
                    self.push(child)?;
                }
            }
        }
        Ok(())
    }

    /// The array's node and its validity.
    fn node(&mut self, array: &dyn Array, layout: Layout<'_>) -> Result<(), String> {
        let length =
            u32::try_from(array.len()).map_err(|_| format!("an array of {} values is too long", array.len()))?;
        if layout == Layout::Null {
            self.nodes.push(Node { length, null_count: length });
            return Ok(());
        }
        let nulls = array.nulls().filter(|nulls| nulls.null_count() > 0);
        let null_count = nulls.map_or(0, |nulls| u32::try_from(nulls.null_count()).unwrap_or(length));
        self.nodes.push(Node { length, null_count });
        self.buffers.push(nulls.map(|nulls| nulls.inner().sliced()).unwrap_or_default());
        Ok(())
    }

    /// Pushes offsets that begin at 0; returns where the values begin and how many there are.
    fn offsets(&mut self, offsets: &OffsetBuffer<i32>) -> (usize, usize) {
        let (first, last) = (offsets.first().copied().unwrap_or(0), offsets.last().copied().unwrap_or(0));
        self.buffers.push(if first == 0 {
            offsets.inner().inner().clone()
        } else {
            Buffer::from_vec(offsets.iter().map(|offset| offset - first).collect::<Vec<_>>())
        });
        // An `OffsetBuffer` is never negative and never descends.
        let place = |offset: i32| usize::try_from(offset).unwrap_or(0);
        (place(first), place(last - first))
    }
}
