//! Input columns as they came: an array owns its buffers, and has been checked to be as long as it says.

use std::cell::OnceCell;

use arrow_schema::DataType;

use crate::bits;
use crate::column::Number;
use crate::layout::{Layout, Node};

/// Bytes whose first one is aligned for every number of up to 8 bytes. What the host hands over is (the guest's allocator
/// aligns to 8); the copy is for hosts and tests that do not.
#[derive(Debug, Clone)]
pub(crate) enum Buffer {
    Bytes(Vec<u8>),
    Words(Vec<u64>, usize),
}

impl Buffer {
    fn new(bytes: Vec<u8>) -> Self {
        if bytes.as_ptr().addr().is_multiple_of(8) || bytes.is_empty() {
            return Self::Bytes(bytes);
        }
        let mut words = vec![0_u64; bytes.len().div_ceil(8)];
        bytemuck::cast_slice_mut::<u64, u8>(&mut words)[..bytes.len()].copy_from_slice(&bytes);
        Self::Words(words, bytes.len())
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Words(words, length) => &bytemuck::cast_slice(words)[..*length],
        }
    }
}

/// The values in types that they had to be converted to: kept beside the array, so that views borrow them as they do all else.
#[derive(Debug, Clone, Default)]
pub(crate) struct Converted {
    f32: OnceCell<Vec<f32>>,
    f64: OnceCell<Vec<f64>>,
    i32: OnceCell<Vec<i32>>,
    i64: OnceCell<Vec<i64>>,
    i128: OnceCell<Vec<i128>>,
    u64: OnceCell<Vec<u64>>,
    nothing: OnceCell<Vec<u8>>,
    origin: OnceCell<Vec<i32>>,
}

impl Converted {
    /// The validity of a column of type Null: no bit is set.
    pub(crate) fn nothing(&self, length: usize) -> &[u8] {
        self.nothing.get_or_init(|| vec![0; bits::bytes(length)])
    }

    /// The offsets of a column of type Null: all at 0.
    pub(crate) fn origin(&self, length: usize) -> &[i32] {
        self.origin.get_or_init(|| vec![0; length + 1])
    }
}

/// A type that values are converted to. For each array there is one way only to each of them.
pub(crate) trait Target: Number {
    fn cell(converted: &Converted) -> &OnceCell<Vec<Self>>;
}

macro_rules! target {
    ($($type:ident),+) => {
        $(impl Target for $type {
            fn cell(converted: &Converted) -> &OnceCell<Vec<Self>> {
                &converted.$type
            }
        })+
    };
}

target!(f32, f64, i32, i64, i128, u64);

/// One array and its children.
#[derive(Debug, Clone)]
pub(crate) struct Array {
    pub(crate) data_type: DataType,
    pub(crate) length: usize,
    pub(crate) nulls: usize,
    /// Empty where there are no nulls.
    pub(crate) validity: Vec<u8>,
    /// Values, bits or offsets.
    pub(crate) first: Buffer,
    /// The bytes of text and binary.
    pub(crate) second: Buffer,
    pub(crate) children: Vec<Array>,
    pub(crate) converted: Converted,
}

/// Takes arrays off a record batch's nodes and buffers.
pub(crate) struct Reader {
    nodes: std::vec::IntoIter<Node>,
    buffers: std::vec::IntoIter<Vec<u8>>,
}

impl Reader {
    pub(crate) fn new(nodes: Vec<Node>, buffers: Vec<Vec<u8>>) -> Self {
        Self { nodes: nodes.into_iter(), buffers: buffers.into_iter() }
    }

    /// The next array, of this type.
    pub(crate) fn array(&mut self, data_type: &DataType) -> Result<Array, String> {
        let layout = Layout::of(data_type).map_err(|other| format!("type {other} does not cross the boundary"))?;
        let node = self.nodes.next().ok_or("the batch has too few nodes")?;
        let (length, nulls) = (node.length as usize, node.null_count as usize);
        let validity = if layout == Layout::Null { Vec::new() } else { self.buffer()? };
        if nulls > 0 && layout != Layout::Null && validity.len() < bits::bytes(length) {
            return Err(format!("a validity buffer of {} bytes is too short for {length} values", validity.len()));
        }
        let (mut first, mut second) = (Buffer::Bytes(vec![]), Buffer::Bytes(vec![]));
        let needed = match &layout {
            Layout::Null | Layout::Struct(_) => None,
            Layout::Bits => Some(bits::bytes(length)),
            Layout::Fixed(element) => Some(length * element.width()),
            Layout::Text | Layout::Binary | Layout::List(_) if length == 0 => Some(0),
            Layout::Text | Layout::Binary | Layout::List(_) => Some((length + 1) * 4),
        };
        if let Some(needed) = needed {
            first = Buffer::new(self.buffer()?);
            if first.as_bytes().len() < needed {
                return Err(format!("a buffer of {} bytes is too short for {length} values", first.as_bytes().len()));
            }
        }
        if matches!(layout, Layout::Text | Layout::Binary) {
            second = Buffer::new(self.buffer()?);
        }
        let children = child_types(data_type).map(|child| self.array(child)).collect::<Result<_, _>>()?;
        Ok(Array {
            data_type: data_type.clone(),
            length,
            nulls,
            validity,
            first,
            second,
            children,
            converted: Converted::default(),
        })
    }

    /// That nothing is left.
    pub(crate) fn finish(mut self) -> Result<(), String> {
        match (self.nodes.next(), self.buffers.next()) {
            (None, None) => Ok(()),
            _ => Err("the batch has more nodes or buffers than the plan's columns".to_owned()),
        }
    }

    fn buffer(&mut self) -> Result<Vec<u8>, String> {
        self.buffers.next().ok_or_else(|| "the batch has too few buffers".to_owned())
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "Arrow's types: all others have no children, or were refused")]
fn child_types(data_type: &DataType) -> impl Iterator<Item = &DataType> {
    let (item, fields) = match data_type {
        DataType::List(item) | DataType::Map(item, _) => (Some(item), None),
        DataType::Struct(fields) => (None, Some(fields)),
        _ => (None, None),
    };
    item.into_iter().chain(fields.into_iter().flat_map(|fields| fields.iter())).map(|field| field.data_type())
}
