//! The physical side of columns: nodes and flat buffers, in the order in which the WIT lists them.
//!
//! [`Layout`] is what is left of an Arrow type once its meaning is taken away (a timestamp and an `i64` are both 8 bytes a
//! value); a computed column fits the plan where the layouts are equal. [`Flat`] is a column on its way out, its buffers
//! borrowed from whoever built them; [`Gathered`] is one that owns them, made by picking rows.

use std::ops::Range;

use arrow_schema::{DataType, Field};

use crate::bits;
use crate::build::append;

/// One array: how many values it has, and how many of them are null.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Node {
    /// Values, nulls counted.
    pub length: u32,
    /// Nulls.
    pub null_count: u32,
}

impl Node {
    /// A node; a column of more than 2³² rows cannot lie in a guest's memory.
    pub(crate) fn new(length: usize, null_count: usize) -> Self {
        let narrow = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Self { length: narrow(length), null_count: narrow(null_count) }
    }
}

/// How an array lies in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layout {
    /// No buffer at all: every value is null.
    Null,
    /// One bit a value.
    Bits,
    /// A fixed number of bytes a value.
    Fixed(Element),
    /// Offsets and UTF-8.
    Text,
    /// Offsets and bytes.
    Binary,
    /// Offsets and a child; lists and maps.
    List(Box<Layout>),
    /// Children.
    Struct(Vec<Layout>),
}

/// What the bytes of a value of fixed width are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Element {
    I8,
    I16,
    I32,
    I64,
    I128,
    U8,
    U16,
    U32,
    U64,
    F32,
    F64,
    Bytes(usize),
}

impl Element {
    /// Bytes a value.
    #[must_use]
    pub fn width(self) -> usize {
        match self {
            Self::I8 | Self::U8 => 1,
            Self::I16 | Self::U16 => 2,
            Self::I32 | Self::U32 | Self::F32 => 4,
            Self::I64 | Self::U64 | Self::F64 => 8,
            Self::I128 => 16,
            Self::Bytes(width) => width,
        }
    }
}

impl Layout {
    /// The layout of an Arrow type.
    ///
    /// # Errors
    /// The type, as text, where it does not cross the boundary.
    #[expect(clippy::wildcard_enum_match_arm, reason = "Arrow's types: all others do not cross the boundary")]
    pub fn of(data_type: &DataType) -> Result<Self, String> {
        use DataType as T;
        if let Some(element) = element_of(data_type) {
            return Ok(Self::Fixed(element));
        }
        if let T::List(item) | T::Map(item, _) = data_type {
            return Ok(Self::List(Box::new(Self::of_field(item)?)));
        }
        if let T::Struct(fields) = data_type {
            return Ok(Self::Struct(fields.iter().map(|field| Self::of_field(field)).collect::<Result<_, _>>()?));
        }
        match data_type {
            T::Null => Ok(Self::Null),
            T::Boolean => Ok(Self::Bits),
            T::Utf8 => Ok(Self::Text),
            T::Binary => Ok(Self::Binary),
            other => Err(other.to_string()),
        }
    }

    fn of_field(field: &Field) -> Result<Self, String> {
        Self::of(field.data_type())
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "Arrow's types: all others have no fixed width")]
fn element_of(data_type: &DataType) -> Option<Element> {
    use DataType as T;
    Some(match data_type {
        T::Int8 => Element::I8,
        T::Int16 => Element::I16,
        T::Int32 | T::Date32 | T::Time32(_) => Element::I32,
        T::Int64 | T::Time64(_) | T::Timestamp(_, _) | T::Duration(_) => Element::I64,
        T::UInt8 => Element::U8,
        T::UInt16 => Element::U16,
        T::UInt32 => Element::U32,
        T::UInt64 => Element::U64,
        T::Float32 => Element::F32,
        T::Float64 => Element::F64,
        T::Decimal128(_, _) => Element::I128,
        T::FixedSizeBinary(width) => Element::Bytes(usize::try_from(*width).ok()?),
        _ => return None,
    })
}

/// Nodes and borrowed buffers, in pre-order.
#[derive(Debug, Clone, Default)]
pub struct Flat<'a> {
    pub(crate) nodes: Vec<Node>,
    pub(crate) buffers: Vec<&'a [u8]>,
}

/// A column that can be handed to [`crate::Emit::column`]: slices of numbers, the builders of [`crate::build`], and input columns.
pub trait AsColumn {
    /// How it lies in memory.
    fn layout(&self) -> Layout;
    /// How many values it has.
    fn rows(&self) -> usize;
    /// Adds its nodes and lends its buffers.
    fn lower<'a>(&'a self, flat: &mut Flat<'a>);
}

impl<C: AsColumn + ?Sized> AsColumn for &C {
    fn layout(&self) -> Layout {
        (**self).layout()
    }

    fn rows(&self) -> usize {
        (**self).rows()
    }

    fn lower<'a>(&'a self, flat: &mut Flat<'a>) {
        (**self).lower(flat);
    }
}

impl<C: AsColumn + ?Sized> AsColumn for Box<C> {
    fn layout(&self) -> Layout {
        (**self).layout()
    }

    fn rows(&self) -> usize {
        (**self).rows()
    }

    fn lower<'a>(&'a self, flat: &mut Flat<'a>) {
        (**self).lower(flat);
    }
}

/// A column that owns its buffers: rows picked from another one.
#[derive(Debug, Clone)]
pub struct Gathered {
    layout: Layout,
    rows: usize,
    nodes: Vec<Node>,
    buffers: Vec<Vec<u8>>,
}

impl Gathered {
    /// The values of `column` at `rows`, in that order; a row may stand there many times.
    ///
    /// # Panics
    /// Where a row is not in the column.
    #[must_use]
    pub fn pick(column: &dyn AsColumn, rows: &[u32]) -> Self {
        let mut flat = Flat::default();
        column.lower(&mut flat);
        let layout = column.layout();
        let mut gather =
            Gather { nodes: flat.nodes.iter(), buffers: flat.buffers.iter(), out_nodes: vec![], out_buffers: vec![] };
        gather.array(&layout, rows);
        Self { layout, rows: rows.len(), nodes: gather.out_nodes, buffers: gather.out_buffers }
    }
}

impl AsColumn for Gathered {
    fn layout(&self) -> Layout {
        self.layout.clone()
    }

    fn rows(&self) -> usize {
        self.rows
    }

    fn lower<'a>(&'a self, flat: &mut Flat<'a>) {
        flat.nodes.extend_from_slice(&self.nodes);
        flat.buffers.extend(self.buffers.iter().map(Vec::as_slice));
    }
}

/// A walk over a flat column that picks rows on the way.
struct Gather<'f, 'a> {
    nodes: std::slice::Iter<'f, Node>,
    buffers: std::slice::Iter<'f, &'a [u8]>,
    out_nodes: Vec<Node>,
    out_buffers: Vec<Vec<u8>>,
}

impl<'a> Gather<'_, 'a> {
    fn buffer(&mut self) -> &'a [u8] {
        self.buffers.next().copied().unwrap_or_default()
    }

    fn array(&mut self, layout: &Layout, rows: &[u32]) {
        let node = self.nodes.next().copied().unwrap_or(Node { length: 0, null_count: 0 });
        if *layout == Layout::Null {
            self.out_nodes.push(Node::new(rows.len(), rows.len()));
            return;
        }
        self.validity(node, rows);
        let first = if matches!(layout, Layout::Struct(_)) { &[] } else { self.buffer() };
        match layout {
            Layout::Null => {}
            Layout::Bits => self.out_buffers.push(bits::pick(first, rows)),
            Layout::Fixed(element) => self.out_buffers.push(pick_fixed(first, element.width(), rows)),
            Layout::Text | Layout::Binary => {
                let values = self.buffer();
                let mut picked = Vec::new();
                let offsets = pick_ranges(first, rows, |range| append(&mut picked, &values[range]));
                self.out_buffers.extend([offsets, picked]);
            }
            Layout::List(item) => {
                let mut children = Vec::new();
                let offsets = pick_ranges(first, rows, |range| {
                    children.extend(range.filter_map(|child| u32::try_from(child).ok()));
                });
                self.out_buffers.push(offsets);
                self.array(item, &children);
            }
            Layout::Struct(fields) => fields.iter().for_each(|field| self.array(field, rows)),
        }
    }

    fn validity(&mut self, node: Node, rows: &[u32]) {
        let validity = self.buffer();
        let mut picked = Vec::new();
        let mut nulls = 0;
        if node.null_count > 0 && !validity.is_empty() {
            picked = bits::pick(validity, rows);
            nulls = rows.len() - bits::count(&picked, rows.len());
        }
        self.out_nodes.push(Node::new(rows.len(), nulls));
        self.out_buffers.push(picked);
    }
}

fn pick_fixed(values: &[u8], width: usize, rows: &[u32]) -> Vec<u8> {
    fn chunks<const WIDTH: usize>(values: &[u8], rows: &[u32]) -> Vec<u8> {
        let (chunks, _) = values.as_chunks::<WIDTH>();
        let mut picked = vec![0; rows.len() * WIDTH];
        let (places, _) = picked.as_chunks_mut::<WIDTH>();
        places.iter_mut().zip(rows).for_each(|(place, &row)| *place = chunks[row as usize]);
        picked
    }
    match width {
        1 => chunks::<1>(values, rows),
        2 => chunks::<2>(values, rows),
        4 => chunks::<4>(values, rows),
        8 => chunks::<8>(values, rows),
        16 => chunks::<16>(values, rows),
        _ => rows.iter().flat_map(|&row| &values[row as usize * width..][..width]).copied().collect(),
    }
}

/// The offsets of the picked ranges, each of which `each` is told in the old numbering.
fn pick_ranges(offsets: &[u8], rows: &[u32], mut each: impl FnMut(Range<usize>)) -> Vec<u8> {
    let (offsets, _) = offsets.as_chunks::<4>();
    let at = |row: usize| usize::try_from(i32::from_le_bytes(offsets[row])).unwrap_or(0);
    let mut picked = Vec::with_capacity((rows.len() + 1) * 4);
    let mut end = 0_u32;
    picked.extend_from_slice(&end.to_le_bytes());
    for &row in rows {
        let range = at(row as usize)..at(row as usize + 1);
        end = end.saturating_add(u32::try_from(range.len()).unwrap_or(u32::MAX));
        picked.extend_from_slice(&end.to_le_bytes());
        each(range);
    }
    picked
}
