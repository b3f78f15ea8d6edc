//! The rows of a batch in the making: columns by the schema, what is rescued beside them, and what the schema lacks.

use std::sync::Arc;

use arrow_array::{RecordBatch, RecordBatchOptions, StringArray};
use arrow_buffer::Buffer;
use arrow_schema::SchemaRef;
use forebay_model::reject::code;
use forebay_model::schema::Evolution;

use crate::column::{Fit, Object, Scratch, Texts};
use crate::cursor::{Cursor, Fault, Malformed};
use crate::error::FormatError;
use crate::evolve::evolve;
use crate::rescue::{Entry, Step};
use crate::settings::Common;
use crate::shape::{Shape, Watch};

/// Why a record is no row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: &'static str,
    pub(crate) message: String,
    /// No later schema or decoder will accept it.
    pub(crate) is_final: bool,
}

impl Refusal {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), is_final: false }
    }

    pub(crate) fn malformed(message: impl Into<String>) -> Self {
        Self::new(code::MALFORMED, message)
    }
}

impl From<Malformed> for Refusal {
    fn from(Malformed { at, fault }: Malformed) -> Self {
        let code = if fault == Fault::Depth { code::TOO_DEEP } else { code::MALFORMED };
        Self::new(code, format!("{fault}, at byte {at} of the record"))
    }
}

/// Where a CSV field goes.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    Column(usize),
    /// No column has its name.
    Rescue {
        name: String,
        /// Whether the schema may gain a column for it.
        grows: bool,
    },
}

pub(crate) struct Table {
    schema: SchemaRef,
    root: Object,
    rescued: Texts,
    scratch: Scratch,
    /// What was rescued, by its shape.
    seen: Shape,
    watch: Watch,
    common: Arc<Common>,
    rows: usize,
    csv: bool,
}

impl Table {
    pub(crate) fn new(schema: &SchemaRef, common: &Arc<Common>, csv: bool) -> Result<Self, FormatError> {
        Ok(Self {
            root: Object::new(schema.fields(), "")?,
            schema: Arc::clone(schema),
            rescued: Texts::default(),
            scratch: Scratch::new(common.zone),
            seen: Shape::default(),
            watch: Watch::new(common.zone, common.max_columns),
            common: Arc::clone(common),
            rows: 0,
            csv,
        })
    }

    /// Decodes a record that begins `wide` and has `len` bytes of valid UTF-8.
    #[inline]
    pub(crate) fn json(&mut self, wide: &[u8], len: usize) -> Result<(), Refusal> {
        let mut cursor = Cursor::new(wide, len);
        match self.json_object(&mut cursor) {
            Ok(true) if self.scratch.rescues.len() == 0 => {
                self.rows += 1;
                Ok(())
            }
            Ok(true) => self.keep_rescues(cursor.record()),
            Ok(false) => {
                Err(Refusal::new(code::NOT_AN_OBJECT, "the record is JSON, but no object, so it has no fields"))
            }
            Err(malformed) => {
                self.take_back();
                Err(malformed.into())
            }
        }
    }

    /// False where the record is JSON of another kind.
    fn json_object(&mut self, cursor: &mut Cursor<'_>) -> Result<bool, Malformed> {
        cursor.spaces();
        let object = cursor.peek() == b'{';
        if object {
            self.root.json(cursor, self.rows, &mut self.scratch, 0)?;
        } else {
            cursor.skip(0)?;
        }
        cursor.end()?;
        Ok(object)
    }

    /// Where the fields of a CSV row go, by their names.
    pub(crate) fn targets(&self, names: &[String]) -> Vec<Target> {
        let mut taken = vec![false; self.root.members.len()];
        let mut targets = Vec::with_capacity(names.len());
        for name in names {
            targets.push(match self.root.index_of(name).map(|index| (index, taken.get_mut(index))) {
                Some((index, Some(taken))) if !*taken => {
                    *taken = true;
                    Target::Column(index)
                }
                // A name that stands twice: the first has the column.
                Some(_) => Target::Rescue { name: name.clone(), grows: false },
                None => Target::Rescue { name: name.clone(), grows: self.root.may_grow(name) },
            });
        }
        targets
    }

    /// Takes a CSV field of the row in the making; `text[range]` is its unquoted text.
    #[inline]
    pub(crate) fn csv_field(&mut self, target: &Target, text: &[u8], range: std::ops::Range<usize>) {
        let value = text.get(range.clone()).unwrap_or_default();
        match target {
            Target::Column(index) => {
                if let Some(member) = self.root.members.get_mut(*index)
                    && member.column.csv(self.rows, value, self.scratch.zone) == Fit::Misfit
                {
                    member.column.pad(self.rows + 1);
                    self.scratch.rescues.add(&member.name, range, true);
                }
            }
            Target::Rescue { name, grows } => self.scratch.rescues.add(name, range, *grows),
        }
    }

    /// Ends the CSV row in the making.
    #[inline]
    pub(crate) fn csv_end(&mut self, text: &[u8]) -> Result<(), Refusal> {
        if self.scratch.rescues.len() == 0 {
            self.rows += 1;
            return Ok(());
        }
        self.keep_rescues(text)
    }

    /// Ends a row that has something to be rescued.
    fn keep_rescues(&mut self, text: &[u8]) -> Result<(), Refusal> {
        // A long path before many small fields may grow the text; without a bound a batch would have none either.
        let limit = text.len().saturating_mul(8).saturating_add(4096);
        if !self.scratch.rescues.write(text, self.csv, limit, self.rescued.open()) {
            self.rescued.truncate(self.rescued.len());
            self.take_back();
            let message = format!("what does not fit the schema would take more than {limit} bytes to rescue");
            return Err(Refusal::new(code::TOO_LARGE, message));
        }
        self.rescued.close(self.rows);
        self.rows += 1;
        for entry in self.scratch.rescues.entries().iter().filter(|entry| entry.grows) {
            observe(&mut self.seen, &mut self.watch, entry, text, self.csv);
        }
        self.scratch.rescues.truncate(0);
        Ok(())
    }

    /// Forgets what the record at hand has left.
    #[cold]
    fn take_back(&mut self) {
        self.root.truncate(self.rows);
        self.scratch.reset();
    }

    /// The rows so far; the table is then empty.
    pub(crate) fn finish(&mut self) -> Result<(RecordBatch, StringArray), FormatError> {
        let rows = std::mem::take(&mut self.rows);
        let arrays = self.root.finish(rows)?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)?;
        let (offsets, bytes, nulls) = self.rescued.finish(rows);
        Ok((batch, StringArray::try_new(offsets, Buffer::from_vec(bytes), nulls)?))
    }

    pub(crate) fn evolution(&self) -> Option<Evolution> {
        let pinned = |name: &str| self.common.is_declared(name);
        evolve(&self.schema, &self.root, &self.seen, self.csv, self.common.max_columns, &pinned)
    }
}

/// Counts a rescued value at its place.
fn observe(seen: &mut Shape, watch: &mut Watch, entry: &Entry, text: &[u8], csv: bool) {
    let mut shape = seen;
    for step in entry.steps.iter().rev() {
        shape = match step {
            Step::Index(_) => shape.element_mut(),
            Step::Name(name) => match shape.member_mut(name, &mut watch.room) {
                Some(shape) => shape,
                None => return,
            },
        };
    }
    let value = text.get(entry.value.clone()).unwrap_or_default();
    if csv {
        shape.csv(value, watch.zone);
    } else {
        // It was read before, so it is well-formed; what was counted of it stands in any case.
        if shape.json(&mut Cursor::over(value), watch, 1).is_err() {
            tracing::debug!("a rescued value was not counted");
        }
    }
}
