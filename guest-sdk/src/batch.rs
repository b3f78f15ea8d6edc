//! Rows on their way in, and what a call knows beside them.

use std::sync::Arc;

use crate::array::{Array, Reader};
use crate::column::{Bools, Bytes, Column, List, Map, Numbers, Strings};
use crate::error::RuleError;
use crate::layout::Node;
use crate::plan::Input;
use crate::random;

/// The numbers of the rows in their segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowNumbers {
    /// The first row has this number, the next one the next.
    From(u64),
    /// Each row's own.
    Each(Vec<u64>),
}

/// What a call knows beside its rows. The same segment always gives the same context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// The stream's name.
    pub stream: String,
    /// The segment's id.
    pub segment: String,
    /// The partition of the source.
    pub partition: String,
    /// The position of the segment's first record, as text.
    pub first_position: String,
    /// When the segment landed, in microseconds since 1970-01-01T00:00:00Z: the only clock that a rule has.
    pub landed_at: i64,
    /// The segment's seed. For a row's own see [`Batch::seed`].
    pub seed: u64,
    /// The numbers of the batch's rows.
    pub rows: RowNumbers,
}

/// Rows of the columns that the plan reads. A rule's answer for a row must not depend on the other rows of the batch: forebay
/// may split batches anywhere.
#[derive(Debug)]
pub struct Batch {
    context: Context,
    rows: usize,
    inputs: Arc<[Input]>,
    arrays: Vec<Array>,
}

impl Batch {
    pub(crate) fn new(
        context: Context,
        rows: u32,
        nodes: Vec<Node>,
        buffers: Vec<Vec<u8>>,
        inputs: &Arc<[Input]>,
    ) -> Result<Self, String> {
        let mut reader = Reader::new(nodes, buffers);
        let mut arrays = Vec::with_capacity(inputs.len());
        for input in inputs.iter() {
            let array = reader.array(&input.data_type).map_err(|error| format!("column {:?}: {error}", input.name))?;
            if array.length != rows as usize {
                return Err(format!("column {:?} has {} of {rows} rows", input.name, array.length));
            }
            arrays.push(array);
        }
        reader.finish()?;
        if let RowNumbers::Each(numbers) = &context.rows
            && numbers.len() != rows as usize
        {
            return Err(format!("the batch has {rows} rows and {} row numbers", numbers.len()));
        }
        Ok(Self { context, rows: rows as usize, inputs: Arc::clone(inputs), arrays })
    }

    /// How many rows it has.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Stream, segment, landing time.
    #[must_use]
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// The number of a row's record in its segment.
    ///
    /// # Panics
    /// Where the batch has no such row.
    #[must_use]
    pub fn number(&self, row: usize) -> u64 {
        match &self.context.rows {
            RowNumbers::From(first) => first + row as u64,
            RowNumbers::Each(numbers) => numbers[row],
        }
    }

    /// The row's seed, made of the segment's and the row's number (see [`random::row_seed`]): the same in every run, whatever
    /// batch the row is in. [`random::Random`] draws from it.
    ///
    /// # Panics
    /// Where the batch has no such row.
    #[must_use]
    pub fn seed(&self, row: usize) -> u64 {
        random::row_seed(self.context.seed, self.number(row))
    }

    /// A column by the name that the plan gave it; `None` where it is optional and the schema lacks it.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<Column<'_>> {
        let index = self.inputs.iter().position(|input| input.alias == name)?;
        self.arrays.get(index).map(Column::new)
    }

    fn planned(&self, name: &str) -> Result<Column<'_>, RuleError> {
        self.column(name).ok_or_else(|| {
            RuleError::new(format!(
                "the batch has no column {name:?}: the plan does not read it, or the schema lacks it"
            ))
        })
    }
}

macro_rules! typed {
    ($($access:ident -> $view:ty, $doc:literal;)+) => {
        impl Batch {
            $(#[doc = $doc]
            ///
            /// # Errors
            /// Where the batch has no such column (an optional one is asked for by [`Self::column`]), or one of another type.
            pub fn $access(&self, name: &str) -> Result<$view, RuleError> {
                self.planned(name)?.$access().map_err(|error| RuleError::new(format!("column {name:?}: {error}")))
            })+
        }
    };
}

typed! {
    bool -> Bools<'_>, "A column of Booleans.";
    i32 -> Numbers<'_, i32>, "A column of integers of at most 32 bits.";
    i64 -> Numbers<'_, i64>, "A column of integers.";
    u64 -> Numbers<'_, u64>, "A column of unsigned integers.";
    f32 -> Numbers<'_, f32>, "A column of 32-bit floats.";
    f64 -> Numbers<'_, f64>, "A column of numbers.";
    str -> Strings<'_>, "A column of text.";
    bytes -> Bytes<'_>, "A column of bytes.";
    date -> Numbers<'_, i32>, "A column of days since 1970-01-01.";
    timestamp -> Numbers<'_, i64>, "A column of timestamps in microseconds.";
    time -> Numbers<'_, i64>, "A column of times of day in microseconds.";
    duration -> Numbers<'_, i64>, "A column of durations in microseconds.";
    list -> List<'_>, "A column of lists.";
    map -> Map<'_>, "A column of maps.";
}
