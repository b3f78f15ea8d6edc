//! Statistics of a data file as the Delta protocol writes them (`Add.stats`): rows, and for each column that is not below a
//! list or a map its nulls, minimum and maximum. Readers skip files by them.
//!
//! They come from the file's own row groups, with the protocol's care: text is cut to 32 characters, a maximum that was cut is
//! raised, timestamps are milliseconds (a minimum rounded down, a maximum up), and a float column that holds a NaN has
//! no bounds, since engines differ on where NaN stands. `_forebay_segment` is never cut: commits find the rows to remove by it.

use std::collections::HashMap;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Fields, Schema};
use chrono::{DateTime, Datelike as _, Days, NaiveDate, SecondsFormat};
use forebay_model::SEGMENT;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::statistics::Statistics;

/// Text statistics of the file itself keep this much: more than a segment's id has.
pub(super) const STATISTICS_BYTES: usize = 160;
/// What Delta keeps of a text bound.
const TEXT_CHARS: usize = 32;
/// Leaf columns that get statistics, besides forebay's own.
const COLUMNS: usize = 128;

/// Which float columns hold a NaN, by path.
#[derive(Debug)]
pub(super) struct NanWatch {
    found: HashMap<String, bool>,
}

impl NanWatch {
    pub(super) fn new(schema: &Schema) -> Self {
        let mut found = HashMap::new();
        floats(schema.fields(), "", &mut found);
        Self { found }
    }

    pub(super) fn see(&mut self, batch: &RecordBatch) {
        if self.found.is_empty() {
            return;
        }
        for (field, column) in batch.schema_ref().fields().iter().zip(batch.columns()) {
            self.see_column(field.name(), column);
        }
    }

    fn see_column(&mut self, path: &str, column: &ArrayRef) {
        if let Some(parent) = column.as_struct_opt() {
            for (field, child) in parent.fields().iter().zip(parent.columns()) {
                self.see_column(&format!("{path}.{}", field.name()), child);
            }
            return;
        }
        let Some(found) = self.found.get_mut(path).filter(|found| !**found) else { return };
        *found = if let Some(floats) = column.as_primitive_opt::<Float64Type>() {
            floats.values().iter().any(|value| value.is_nan())
        } else if let Some(floats) = column.as_primitive_opt::<Float32Type>() {
            floats.values().iter().any(|value| value.is_nan())
        } else {
            false
        };
    }

    fn has(&self, path: &str) -> bool {
        self.found.get(path).copied().unwrap_or(false)
    }
}

fn floats(fields: &Fields, prefix: &str, found: &mut HashMap<String, bool>) {
    for field in fields {
        let path = format!("{prefix}{}", field.name());
        if let DataType::Struct(children) = field.data_type() {
            floats(children, &format!("{path}."), found);
        } else if field.data_type().is_floating() {
            found.insert(path, false);
        }
    }
}

/// What is known of one leaf column.
struct Leaf {
    nulls: Option<u64>,
    /// JSON texts.
    min: Option<String>,
    max: Option<String>,
}

/// The statistics of a finished file, as JSON.
pub(super) fn delta_statistics(schema: &Schema, file: &ParquetMetaData, nans: &NanWatch, rows: u64) -> String {
    let mut walk = Walk { file, nans, rows, leaf: 0, budget: COLUMNS };
    let (mut nulls, mut min, mut max) = (Object::default(), Object::default(), Object::default());
    for field in schema.fields() {
        let own = field.name().starts_with(forebay_model::column::PREFIX);
        walk.field(field.name(), field.name(), field.data_type(), own, &mut [&mut nulls, &mut min, &mut max]);
    }
    let mut json = Object::default();
    json.push("numRecords", rows.to_string());
    json.push("minValues", min.finish());
    json.push("maxValues", max.finish());
    json.push("nullCount", nulls.finish());
    json.finish()
}

struct Walk<'a> {
    file: &'a ParquetMetaData,
    nans: &'a NanWatch,
    rows: u64,
    leaf: usize,
    budget: usize,
}

impl Walk<'_> {
    /// Adds a field to null counts, minima and maxima, and moves past its leaves.
    fn field(&mut self, path: &str, name: &str, data_type: &DataType, own: bool, into: &mut [&mut Object; 3]) {
        if let DataType::Struct(children) = data_type {
            let (mut nulls, mut min, mut max) = (Object::default(), Object::default(), Object::default());
            for child in children {
                let path = format!("{path}.{}", child.name());
                self.field(&path, child.name(), child.data_type(), own, &mut [&mut nulls, &mut min, &mut max]);
            }
            for (object, nested) in into.iter_mut().zip([nulls, min, max]) {
                if !nested.is_empty() {
                    object.push(name, nested.finish());
                }
            }
            return;
        }
        let leaves = count_leaves(data_type);
        let leaf = self.leaf;
        self.leaf += leaves;
        let nested = matches!(data_type, DataType::List(_) | DataType::Map(_, _));
        if nested || (!own && self.budget == 0) {
            return;
        }
        if !own {
            self.budget -= 1;
        }
        let [nulls, min, max] = into;
        let known = self.leaf(leaf, path, data_type);
        if let Some(count) = known.nulls {
            nulls.push(name, count.to_string());
        }
        if let (Some(low), Some(high)) = (known.min, known.max) {
            min.push(name, low);
            max.push(name, high);
        }
    }

    fn leaf(&self, leaf: usize, path: &str, data_type: &DataType) -> Leaf {
        let mut nulls = Some(0);
        let mut bounds: Option<(Bound, Bound)> = None;
        let mut bounded = !self.nans.has(path);
        for group in self.file.row_groups() {
            let statistics = group.columns().get(leaf).and_then(|column| column.statistics());
            let group_nulls = statistics.and_then(Statistics::null_count_opt);
            nulls = nulls.zip(group_nulls).map(|(sum, more)| sum + more);
            let group_rows = u64::try_from(group.num_rows()).unwrap_or(self.rows);
            if group_nulls == Some(group_rows) {
                continue;
            }
            match statistics.and_then(|statistics| Bound::of(statistics, data_type)) {
                Some((low, high)) => {
                    bounds = Some(match bounds.take() {
                        None => (low, high),
                        Some((min, max)) => (min.min(low), max.max(high)),
                    });
                }
                None => bounded = false,
            }
        }
        let bounds = bounds.filter(|_| bounded);
        let chars = if path == SEGMENT { usize::MAX } else { TEXT_CHARS };
        let (min, max) = match bounds {
            Some((min, max)) => (min.json(data_type, chars, false), max.json(data_type, chars, true)),
            None => (None, None),
        };
        Leaf { nulls, min, max }
    }
}

fn count_leaves(data_type: &DataType) -> usize {
    if let DataType::Struct(fields) = data_type {
        fields.iter().map(|field| count_leaves(field.data_type())).sum()
    } else if let DataType::List(inner) | DataType::Map(inner, _) = data_type {
        count_leaves(inner.data_type())
    } else {
        1
    }
}

/// A minimum or maximum, comparable with others of its column.
#[derive(Debug, Clone, PartialEq, PartialOrd)]
enum Bound {
    Integer(i128),
    Float(f64),
    Text(String),
}

impl Bound {
    fn of(statistics: &Statistics, data_type: &DataType) -> Option<(Self, Self)> {
        match statistics {
            Statistics::Int32(values) => {
                Some((Self::Integer((*values.min_opt()?).into()), Self::Integer((*values.max_opt()?).into())))
            }
            Statistics::Int64(values) => {
                Some((Self::Integer((*values.min_opt()?).into()), Self::Integer((*values.max_opt()?).into())))
            }
            Statistics::Float(values) => {
                Some((Self::Float((*values.min_opt()?).into()), Self::Float((*values.max_opt()?).into())))
            }
            Statistics::Double(values) => Some((Self::Float(*values.min_opt()?), Self::Float(*values.max_opt()?))),
            Statistics::ByteArray(values) if data_type == &DataType::Utf8 => {
                Some((Self::text(values.min_opt()?.data())?, Self::text(values.max_opt()?.data())?))
            }
            Statistics::FixedLenByteArray(values) if matches!(data_type, DataType::Decimal128(_, _)) => {
                Some((Self::decimal(values.min_opt()?.data())?, Self::decimal(values.max_opt()?.data())?))
            }
            Statistics::ByteArray(_)
            | Statistics::FixedLenByteArray(_)
            | Statistics::Boolean(_)
            | Statistics::Int96(_) => None,
        }
    }

    fn text(bytes: &[u8]) -> Option<Self> {
        String::from_utf8(bytes.to_vec()).ok().map(Self::Text)
    }

    /// Parquet's decimals are big-endian, of as few bytes as their precision needs.
    fn decimal(bytes: &[u8]) -> Option<Self> {
        let fill = if bytes.first()? & 0x80 == 0 { 0 } else { 0xff };
        let mut wide = [fill; 16];
        wide.get_mut(16_usize.checked_sub(bytes.len())?..)?.copy_from_slice(bytes);
        Some(Self::Integer(i128::from_be_bytes(wide)))
    }

    fn min(self, other: Self) -> Self {
        if other < self { other } else { self }
    }

    fn max(self, other: Self) -> Self {
        if other > self { other } else { self }
    }

    /// The bound as a JSON value of the column's type; `None` where JSON has no such value.
    fn json(&self, data_type: &DataType, chars: usize, upper: bool) -> Option<String> {
        match self {
            Self::Float(value) => {
                // Zero has two signs, and writers differ on which they compare by.
                let value = if *value == 0.0 { if upper { 0.0 } else { -0.0 } } else { *value };
                let value = if data_type == &DataType::Float32 { shortest_f32(value)? } else { value };
                serde_json::Number::from_f64(value).map(|number| number.to_string())
            }
            Self::Text(text) => quote(&cut(text, chars, upper)?),
            Self::Integer(value) => integer_json(*value, data_type, upper),
        }
    }
}

fn integer_json(value: i128, data_type: &DataType, upper: bool) -> Option<String> {
    if data_type == &DataType::Date32 {
        let days = i64::try_from(value).ok()?;
        let epoch = NaiveDate::default();
        let date = match u64::try_from(days) {
            Ok(days) => epoch.checked_add_days(Days::new(days))?,
            Err(_) => epoch.checked_sub_days(Days::new(days.unsigned_abs()))?,
        };
        // Readers know years of four digits.
        (0..10_000).contains(&date.year()).then(|| quote(&date.format("%Y-%m-%d").to_string()))?
    } else if matches!(data_type, DataType::Timestamp(_, _)) {
        let micros = i64::try_from(value).ok()?;
        let millis = micros.div_euclid(1000) + i64::from(upper && micros.rem_euclid(1000) != 0);
        let time = DateTime::from_timestamp_millis(millis)?;
        (0..10_000).contains(&time.year()).then(|| quote(&time.to_rfc3339_opts(SecondsFormat::Millis, true)))?
    } else if let DataType::Decimal128(_, scale) = data_type {
        Some(decimal_text(value, u32::from(scale.unsigned_abs())))
    } else {
        Some(value.to_string())
    }
}

/// The double whose shortest text is that of the float.
fn shortest_f32(value: f64) -> Option<f64> {
    #[expect(clippy::cast_possible_truncation, reason = "it was an f32 before")]
    let narrow = value as f32;
    narrow.to_string().parse().ok()
}

fn decimal_text(value: i128, scale: u32) -> String {
    if scale == 0 {
        return value.to_string();
    }
    let scale = scale as usize;
    let digits = format!("{:0>width$}", value.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    format!("{}{whole}.{fraction}", if value < 0 { "-" } else { "" })
}

/// A prefix of `chars` characters; for an upper bound the next greater text of that length, `None` where there is none.
fn cut(text: &str, chars: usize, upper: bool) -> Option<String> {
    let Some((end, _)) = text.char_indices().nth(chars) else { return Some(text.to_owned()) };
    let mut prefix = text.get(..end)?.to_owned();
    if !upper {
        return Some(prefix);
    }
    while let Some(last) = prefix.pop() {
        let next = match last {
            '\u{D7FF}' => Some('\u{E000}'),
            _ => char::from_u32(u32::from(last) + 1),
        };
        if let Some(next) = next {
            prefix.push(next);
            return Some(prefix);
        }
    }
    None
}

fn quote(text: &str) -> Option<String> {
    serde_json::to_string(text).ok()
}

/// A JSON object, written as it comes: decimals have more digits than a number type of serde_json keeps.
#[derive(Default)]
struct Object(String);

impl Object {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn push(&mut self, name: &str, json: impl AsRef<str>) {
        let Some(name) = quote(name) else { return };
        self.0.push(if self.0.is_empty() { '{' } else { ',' });
        self.0.push_str(&name);
        self.0.push(':');
        self.0.push_str(json.as_ref());
    }

    fn finish(self) -> String {
        if self.0.is_empty() { "{}".to_owned() } else { self.0 + "}" }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_by_the_protocols_rule() {
        let long = "a".repeat(40);
        assert_eq!(cut(&long, 32, false).unwrap(), "a".repeat(32));
        assert_eq!(cut(&long, 32, true).unwrap(), format!("{}b", "a".repeat(31)));
        assert_eq!(cut("short", 32, true).unwrap(), "short");
        assert_eq!(cut(&format!("a{}", "\u{10FFFF}".repeat(40)), 32, true).unwrap(), "b");
        assert_eq!(cut(&"\u{10FFFF}".repeat(40), 32, true), None);
        assert_eq!(
            cut(&format!("{}\u{D7FF}x", "a".repeat(31)), 32, true).unwrap(),
            format!("{}\u{E000}", "a".repeat(31))
        );
    }

    #[test]
    fn bounds_are_written_as_their_types() {
        let us = forebay_model::column::timestamp_type();
        let bound = Bound::Integer(1_700_000_000_123_456);
        assert_eq!(bound.json(&us, 32, false).unwrap(), "\"2023-11-14T22:13:20.123Z\"");
        assert_eq!(bound.json(&us, 32, true).unwrap(), "\"2023-11-14T22:13:20.124Z\"");
        assert_eq!(Bound::Integer(-1).json(&us, 32, false).unwrap(), "\"1969-12-31T23:59:59.999Z\"");
        assert_eq!(Bound::Integer(-1).json(&DataType::Date32, 32, false).unwrap(), "\"1969-12-31\"");
        assert_eq!(Bound::Integer(-105).json(&DataType::Decimal128(5, 3), 32, false).unwrap(), "-0.105");
        assert_eq!(Bound::Integer(10_i128.pow(37)).json(&DataType::Decimal128(38, 0), 32, true).unwrap().len(), 38);
        assert_eq!(Bound::Float(f64::INFINITY).json(&DataType::Float64, 32, true), None);
        assert_eq!(Bound::Float(0.0).json(&DataType::Float64, 32, false).unwrap(), "-0.0");
        assert_eq!(Bound::decimal(&[0xff, 0x01]).unwrap(), Bound::Integer(-255));
    }
}
