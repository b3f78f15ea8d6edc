//! Typed views of input columns. A view borrows the batch's buffers; only where [`crate::Kind`]'s table says "converted" it
//! makes a copy.

mod number;
mod views;

use arrow_schema::{DataType, TimeUnit};

use crate::array::{Array, Target};
use crate::error::RuleError;
use crate::layout::{AsColumn, Flat, Layout, Node};

pub use number::Number;
pub use views::{Bools, Bytes, List, Map, Nulls, Numbers, Strings};
use views::{Place, Ranges};

/// An input column, or a column within one, of any type.
#[derive(Debug, Clone, Copy)]
pub struct Column<'a> {
    array: &'a Array,
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "Arrow's types: an accessor names those that it takes and refuses all others"
)]
impl<'a> Column<'a> {
    pub(crate) fn new(array: &'a Array) -> Self {
        Self { array }
    }

    /// Its type, as the schema has it.
    #[must_use]
    pub fn data_type(&self) -> &'a DataType {
        &self.array.data_type
    }

    /// How many values it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.array.length
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.array.length == 0
    }

    /// How many of its values are null.
    #[must_use]
    pub fn null_count(&self) -> usize {
        self.array.nulls
    }

    /// Which of its values are null.
    #[must_use]
    pub fn nulls(&self) -> Nulls<'a> {
        let array = self.array;
        let validity: Option<&[u8]> = if array.data_type == DataType::Null {
            Some(array.converted.nothing(array.length))
        } else {
            Some(array.validity.as_slice()).filter(|validity| array.nulls > 0 && !validity.is_empty())
        };
        Nulls { validity }
    }

    fn refuse<T>(&self, wanted: &str) -> Result<T, RuleError> {
        Err(RuleError::new(format!("a column of type {} is not {wanted}", self.array.data_type)))
    }

    /// The buffer as numbers; exact, since the reader checked its length.
    fn raw<T: Number>(&self) -> &'a [T] {
        let bytes = &self.array.first.as_bytes()[..self.array.length * size_of::<T>()];
        // An empty `Vec<u8>` has an address, and not an aligned one.
        if bytes.is_empty() { &[] } else { bytemuck::cast_slice(bytes) }
    }

    fn lent<T: Number>(&self) -> Numbers<'a, T> {
        Numbers { values: self.raw(), nulls: self.nulls() }
    }

    /// The values as another type: made when they are first asked for.
    fn made<T: Target>(&self, make: impl FnOnce() -> Vec<T>) -> Numbers<'a, T> {
        Numbers { values: T::cell(&self.array.converted).get_or_init(make), nulls: self.nulls() }
    }

    fn converted<T: Number, U: Target>(&self, convert: impl Fn(T) -> U) -> Numbers<'a, U> {
        self.made(|| self.raw::<T>().iter().map(|&value| convert(value)).collect())
    }

    fn all_null<T: Target>(&self) -> Numbers<'a, T> {
        self.made(|| vec![T::default(); self.array.length])
    }

    /// [`crate::Kind::F64`].
    ///
    /// # Errors
    /// Where the type is none of those that the kind takes; so for all of the accessors.
    #[expect(clippy::cast_precision_loss, reason = "documented: to the nearest float")]
    pub fn f64(&self) -> Result<Numbers<'a, f64>, RuleError> {
        use DataType as T;
        Ok(match self.data_type() {
            T::Float64 => self.lent(),
            T::Float32 => self.converted(|value: f32| f64::from(value)),
            T::Int8 => self.converted(|value: i8| f64::from(value)),
            T::Int16 => self.converted(|value: i16| f64::from(value)),
            T::Int32 => self.converted(|value: i32| f64::from(value)),
            T::Int64 => self.converted(|value: i64| value as f64),
            T::UInt8 => self.converted(|value: u8| f64::from(value)),
            T::UInt16 => self.converted(|value: u16| f64::from(value)),
            T::UInt32 => self.converted(|value: u32| f64::from(value)),
            T::UInt64 => self.converted(|value: u64| value as f64),
            T::Decimal128(_, scale) => {
                let unit = 10_f64.powi(i32::from(*scale));
                self.made(|| self.decimals().map(|value| value as f64 / unit).collect())
            }
            T::Null => self.all_null(),
            _ => return self.refuse("a number"),
        })
    }

    /// [`crate::Kind::F32`].
    ///
    /// # Errors
    /// As for [`Self::f64`].
    pub fn f32(&self) -> Result<Numbers<'a, f32>, RuleError> {
        use DataType as T;
        Ok(match self.data_type() {
            T::Float32 => self.lent(),
            T::Int8 => self.converted(|value: i8| f32::from(value)),
            T::Int16 => self.converted(|value: i16| f32::from(value)),
            T::UInt8 => self.converted(|value: u8| f32::from(value)),
            T::UInt16 => self.converted(|value: u16| f32::from(value)),
            T::Null => self.all_null(),
            _ => return self.refuse("a Float32"),
        })
    }

    /// [`crate::Kind::I64`].
    ///
    /// # Errors
    /// As for [`Self::f64`].
    pub fn i64(&self) -> Result<Numbers<'a, i64>, RuleError> {
        use DataType as T;
        Ok(match self.data_type() {
            T::Int64 => self.lent(),
            T::Int8 => self.converted(|value: i8| i64::from(value)),
            T::Int16 => self.converted(|value: i16| i64::from(value)),
            T::Int32 => self.converted(|value: i32| i64::from(value)),
            T::UInt8 => self.converted(|value: u8| i64::from(value)),
            T::UInt16 => self.converted(|value: u16| i64::from(value)),
            T::UInt32 => self.converted(|value: u32| i64::from(value)),
            T::Null => self.all_null(),
            _ => return self.refuse("an integer of at most 64 bits"),
        })
    }

    /// [`crate::Kind::I32`].
    ///
    /// # Errors
    /// As for [`Self::f64`].
    pub fn i32(&self) -> Result<Numbers<'a, i32>, RuleError> {
        use DataType as T;
        Ok(match self.data_type() {
            T::Int32 => self.lent(),
            T::Int8 => self.converted(|value: i8| i32::from(value)),
            T::Int16 => self.converted(|value: i16| i32::from(value)),
            T::UInt8 => self.converted(|value: u8| i32::from(value)),
            T::UInt16 => self.converted(|value: u16| i32::from(value)),
            T::Null => self.all_null(),
            _ => return self.refuse("an integer of at most 32 bits"),
        })
    }

    /// [`crate::Kind::U64`].
    ///
    /// # Errors
    /// As for [`Self::f64`].
    pub fn u64(&self) -> Result<Numbers<'a, u64>, RuleError> {
        use DataType as T;
        Ok(match self.data_type() {
            T::UInt64 => self.lent(),
            T::UInt8 => self.converted(|value: u8| u64::from(value)),
            T::UInt16 => self.converted(|value: u16| u64::from(value)),
            T::UInt32 => self.converted(|value: u32| u64::from(value)),
            T::Null => self.all_null(),
            _ => return self.refuse("an unsigned integer"),
        })
    }

    /// 16-byte values may lie on 8-byte boundaries, so they are read one by one.
    fn decimals(&self) -> impl Iterator<Item = i128> + 'a {
        let (chunks, _) = self.array.first.as_bytes().as_chunks::<16>();
        chunks.iter().take(self.array.length).map(|bytes| i128::from_le_bytes(*bytes))
    }

    /// [`crate::Kind::Decimal`]: the values without their point, and the scale.
    ///
    /// # Errors
    /// As for [`Self::f64`].
    pub fn decimal(&self) -> Result<(Numbers<'a, i128>, i8), RuleError> {
        use DataType as T;
        if let T::Decimal128(_, scale) = self.data_type() {
            return Ok((self.made(|| self.decimals().collect()), *scale));
        }
        let values = match self.data_type() {
            T::UInt64 => self.converted(|value: u64| i128::from(value)),
            T::Int64 => self.converted(|value: i64| i128::from(value)),
            T::Null => self.all_null(),
            other if other.is_integer() => {
                let narrow = self.i64()?;
                self.made(|| narrow.values.iter().map(|&value| i128::from(value)).collect())
            }
            _ => return self.refuse("a decimal number"),
        };
        Ok((values, 0))
    }

    /// [`crate::Kind::Date`], as days since 1970-01-01.
    ///
    /// # Errors
    /// As for [`Self::f64`].
    pub fn date(&self) -> Result<Numbers<'a, i32>, RuleError> {
        match self.data_type() {
            DataType::Date32 => Ok(self.lent()),
            DataType::Null => Ok(self.all_null()),
            _ => self.refuse("a day"),
        }
    }

    /// [`crate::Kind::Timestamp`], as microseconds since 1970-01-01T00:00:00Z.
    ///
    /// # Errors
    /// As for [`Self::f64`].
    pub fn timestamp(&self) -> Result<Numbers<'a, i64>, RuleError> {
        match self.data_type() {
            DataType::Timestamp(unit, _) => Ok(self.micros(*unit)),
            DataType::Null => Ok(self.all_null()),
            _ => self.refuse("a timestamp"),
        }
    }

    /// [`crate::Kind::Duration`], in microseconds.
    ///
    /// # Errors
    /// As for [`Self::f64`].
    pub fn duration(&self) -> Result<Numbers<'a, i64>, RuleError> {
        match self.data_type() {
            DataType::Duration(unit) => Ok(self.micros(*unit)),
            DataType::Null => Ok(self.all_null()),
            _ => self.refuse("a duration"),
        }
    }

    /// [`crate::Kind::Time`], in microseconds since midnight.
    ///
    /// # Errors
    /// As for [`Self::f64`].
    pub fn time(&self) -> Result<Numbers<'a, i64>, RuleError> {
        match self.data_type() {
            DataType::Time64(unit) => Ok(self.micros(*unit)),
            DataType::Time32(TimeUnit::Second) => Ok(self.converted(|value: i32| i64::from(value) * 1_000_000)),
            DataType::Time32(_) => Ok(self.converted(|value: i32| i64::from(value) * 1_000)),
            DataType::Null => Ok(self.all_null()),
            _ => self.refuse("a time of day"),
        }
    }

    /// Saturating: a second beyond the year 292,000 is no time that a rule could use.
    fn micros(&self, unit: TimeUnit) -> Numbers<'a, i64> {
        match unit {
            TimeUnit::Second => self.converted(|value: i64| value.saturating_mul(1_000_000)),
            TimeUnit::Millisecond => self.converted(|value: i64| value.saturating_mul(1_000)),
            TimeUnit::Microsecond => self.lent(),
            TimeUnit::Nanosecond => self.converted(|value: i64| value.div_euclid(1_000)),
        }
    }

    /// [`crate::Kind::Bool`].
    ///
    /// # Errors
    /// As for [`Self::f64`].
    pub fn bool(&self) -> Result<Bools<'a>, RuleError> {
        match self.data_type() {
            DataType::Boolean | DataType::Null => {
                Ok(Bools { bits: self.array.first.as_bytes(), rows: self.array.length, nulls: self.nulls() })
            }
            _ => self.refuse("Boolean"),
        }
    }

    /// Where each value begins and the last one ends; of a column that is null throughout, all at 0.
    fn offsets(&self) -> &'a [i32] {
        if self.array.data_type == DataType::Null {
            return self.array.converted.origin(self.array.length);
        }
        let bytes = self.array.first.as_bytes();
        if bytes.is_empty() { &[0] } else { bytemuck::cast_slice(&bytes[..(self.array.length + 1) * 4]) }
    }

    /// [`crate::Kind::Str`].
    ///
    /// # Errors
    /// As for [`Self::f64`].
    pub fn str(&self) -> Result<Strings<'a>, RuleError> {
        match self.data_type() {
            DataType::Utf8 => {
                let text = self.array.second.as_bytes();
                Ok(Strings::new(text, self.offsets(), self.nulls(), self.len()))
            }
            DataType::Null => Ok(Strings::new(&[], self.offsets(), self.nulls(), self.len())),
            _ => self.refuse("text"),
        }
    }

    /// [`crate::Kind::Bytes`].
    ///
    /// # Errors
    /// As for [`Self::f64`].
    pub fn bytes(&self) -> Result<Bytes<'a>, RuleError> {
        let (ranges, bytes) = match self.data_type() {
            DataType::Binary | DataType::Utf8 => {
                (Ranges { offsets: self.offsets(), rows: self.len() }, self.array.second.as_bytes())
            }
            DataType::FixedSizeBinary(width) => {
                let width = usize::try_from(*width).unwrap_or(0);
                return Ok(Bytes {
                    bytes: self.array.first.as_bytes(),
                    place: Place::Fixed(width),
                    nulls: self.nulls(),
                    rows: self.len(),
                });
            }
            DataType::Null => (Ranges { offsets: self.offsets(), rows: self.len() }, [].as_slice()),
            _ => return self.refuse("bytes"),
        };
        Ok(Bytes { bytes, place: Place::Ranges(ranges), nulls: self.nulls(), rows: self.len() })
    }

    /// [`crate::Kind::List`].
    ///
    /// # Errors
    /// As for [`Self::f64`].
    pub fn list(&self) -> Result<List<'a>, RuleError> {
        match (self.data_type(), self.array.children.first()) {
            (DataType::List(_), Some(items)) => Ok(List {
                ranges: Ranges { offsets: self.offsets(), rows: self.len() },
                items: Some(Column::new(items)),
                nulls: self.nulls(),
            }),
            (DataType::Null, _) => Ok(List {
                ranges: Ranges { offsets: self.offsets(), rows: self.len() },
                items: None,
                nulls: self.nulls(),
            }),
            _ => self.refuse("a list"),
        }
    }

    /// [`crate::Kind::Map`]: lists of entries.
    ///
    /// # Errors
    /// As for [`Self::f64`].
    pub fn map(&self) -> Result<Map<'a>, RuleError> {
        let ranges = Ranges { offsets: self.offsets(), rows: self.len() };
        match (self.data_type(), self.array.children.first()) {
            (DataType::Map(_, _), Some(Array { children, .. })) if children.len() == 2 => Ok(Map {
                ranges,
                entries: Some((Column::new(&children[0]), Column::new(&children[1]))),
                nulls: self.nulls(),
            }),
            (DataType::Null, _) => Ok(Map { ranges, entries: None, nulls: self.nulls() }),
            _ => self.refuse("a map"),
        }
    }

    /// The field of a struct column, found as by [`crate::InputSchema::find`]; `None` where it has no such field. Where the
    /// struct itself is null ([`Self::nulls`]), what its fields hold means nothing.
    ///
    /// # Errors
    /// Where the column is not a struct.
    pub fn field(&self, name: &str) -> Result<Option<Column<'a>>, RuleError> {
        let fields = match self.data_type() {
            DataType::Struct(fields) => fields,
            DataType::Null => return Ok(None),
            _ => return self.refuse("a struct"),
        };
        let index = fields
            .iter()
            .position(|field| field.name() == name)
            .or_else(|| fields.iter().position(|field| crate::schema::same_name(field.name(), name)));
        Ok(index.and_then(|index| self.array.children.get(index)).map(Column::new))
    }
}

impl AsColumn for Column<'_> {
    fn layout(&self) -> Layout {
        // The batch was read by its layout, so the type has one.
        Layout::of(self.data_type()).unwrap_or(Layout::Null)
    }

    fn rows(&self) -> usize {
        self.array.length
    }

    fn lower<'b>(&'b self, flat: &mut Flat<'b>) {
        lower(self.array, flat);
    }
}

fn lower<'b>(array: &'b Array, flat: &mut Flat<'b>) {
    flat.nodes.push(Node::new(array.length, array.nulls));
    match Layout::of(&array.data_type).unwrap_or(Layout::Null) {
        Layout::Null => {}
        Layout::Struct(_) => flat.buffers.push(&array.validity),
        Layout::Bits | Layout::Fixed(_) | Layout::List(_) => {
            flat.buffers.extend([array.validity.as_slice(), array.first.as_bytes()]);
        }
        Layout::Text | Layout::Binary => {
            flat.buffers.extend([array.validity.as_slice(), array.first.as_bytes(), array.second.as_bytes()]);
        }
    }
    array.children.iter().for_each(|child| lower(child, flat));
}

#[cfg(test)]
mod tests;
