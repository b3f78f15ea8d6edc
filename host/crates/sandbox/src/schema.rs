//! Schemas across the boundary: Arrow IPC schema messages, out by Arrow's writer, in by a reader of our own.
//!
//! Arrow's reader panics on messages that its writer would never make, so what a guest sends is walked here: the
//! flatbuffer is verified first, then every field is counted, its depth and name are checked, and a type that is not in
//! the WIT's table is refused by name.

use std::sync::Arc;

use arrow_ipc::writer::StreamWriter;
use arrow_ipc::{DateUnit, Endianness, Precision, TimeUnit as IpcUnit, Type, root_as_message};
use arrow_schema::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};

use crate::limits::Limits;

const CONTINUATION: [u8; 4] = [0xff; 4];
/// Digits of a decimal of 128 bits.
const DECIMAL_DIGITS: u8 = 38;
const NAME_BYTES: usize = 1_024;
const ZONE_BYTES: usize = 64;
/// Of the widest plan's schema there is room for, at some 100 bytes a field.
const SCHEMA_BYTES: usize = 16 << 20;

/// The schema as an encapsulated IPC message.
pub(crate) fn encode(schema: &Schema) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    StreamWriter::try_new(&mut bytes, schema).map_err(|error| error.to_string())?;
    Ok(bytes)
}

/// The schema in a guest's message; empty bytes are a schema without fields. Errors name the field: `payment.amount: …`.
pub(crate) fn decode(bytes: &[u8], limits: &Limits) -> Result<SchemaRef, String> {
    if bytes.is_empty() {
        return Ok(Arc::new(Schema::empty()));
    }
    if bytes.len() > SCHEMA_BYTES {
        return Err(format!("the schema message has {} bytes, more than {SCHEMA_BYTES}", bytes.len()));
    }
    let body =
        message(bytes).ok_or("it is no encapsulated Arrow IPC message (ff ff ff ff, its length, the message)")?;
    let message = root_as_message(body).map_err(|error| format!("its flatbuffer is not valid: {error}"))?;
    let schema = message.header_as_schema().ok_or("the message is not a schema")?;
    if schema.endianness() != Endianness::Little {
        return Err("it is big endian".into());
    }
    let mut walk = Walk { left: limits.columns, limits };
    let mut fields = Vec::new();
    for field in schema.fields().into_iter().flatten() {
        fields.push(walk.field(field, "", 1)?);
    }
    Ok(Arc::new(Schema::new(fields)))
}

fn message(bytes: &[u8]) -> Option<&[u8]> {
    let rest = bytes.strip_prefix(&CONTINUATION)?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    rest.get(..usize::try_from(u32::from_le_bytes(*length)).ok()?)
}

/// A walk over a schema that somebody else wrote. Flatbuffers may point to the same table many times, so fields are
/// counted as they are visited.
struct Walk<'a> {
    left: usize,
    limits: &'a Limits,
}

impl Walk<'_> {
    fn field(&mut self, field: arrow_ipc::Field<'_>, parent: &str, depth: usize) -> Result<FieldRef, String> {
        self.left = self
            .left
            .checked_sub(1)
            .ok_or_else(|| format!("it has more than {} fields (limits.columns)", self.limits.columns))?;
        let name = field.name().unwrap_or_default();
        if name.len() > NAME_BYTES {
            return Err(format!("a field's name has {} bytes, more than {NAME_BYTES}", name.len()));
        }
        let path = if parent.is_empty() { name.to_owned() } else { format!("{parent}.{name}") };
        if depth > self.limits.depth {
            return Err(format!("{path}: nests deeper than {} (limits.depth)", self.limits.depth));
        }
        if field.dictionary().is_some() {
            return Err(format!("{path}: dictionaries do not cross the boundary, use the type of their values"));
        }
        let children = self.children(field, &path, depth)?;
        let data_type = data_type(field, children).map_err(|reason| format!("{path}: {reason}"))?;
        Ok(Arc::new(Field::new(name, data_type, field.nullable())))
    }

    fn children(&mut self, field: arrow_ipc::Field<'_>, path: &str, depth: usize) -> Result<Vec<FieldRef>, String> {
        field.children().into_iter().flatten().map(|child| self.field(child, path, depth + 1)).collect()
    }
}

fn data_type(field: arrow_ipc::Field<'_>, children: Vec<FieldRef>) -> Result<DataType, String> {
    let has_children = !children.is_empty();
    let found = match field.type_type() {
        Type::Null => Some(DataType::Null),
        Type::Bool => Some(DataType::Boolean),
        Type::Utf8 => Some(DataType::Utf8),
        Type::Binary => Some(DataType::Binary),
        Type::Int => field.type_as_int().and_then(int),
        Type::FloatingPoint => field.type_as_floating_point().and_then(|float| match float.precision() {
            Precision::SINGLE => Some(DataType::Float32),
            Precision::DOUBLE => Some(DataType::Float64),
            _ => None,
        }),
        Type::Decimal => field.type_as_decimal().and_then(decimal),
        Type::Date => field.type_as_date().filter(|date| date.unit() == DateUnit::DAY).map(|_| DataType::Date32),
        Type::Time => field.type_as_time().and_then(time),
        Type::Timestamp => return timestamp(field),
        Type::Duration => field.type_as_duration().and_then(|of| Some(DataType::Duration(unit(of.unit())?))),
        Type::FixedSizeBinary => field
            .type_as_fixed_size_binary()
            .filter(|of| of.byteWidth() > 0)
            .map(|of| DataType::FixedSizeBinary(of.byteWidth())),
        Type::Struct_ => Some(DataType::Struct(distinct(children)?)),
        Type::List => only(children).map(DataType::List),
        Type::Map => {
            let sorted = field.type_as_map().is_some_and(|map| map.keysSorted());
            only(children).filter(is_entries).map(|entries| DataType::Map(entries, sorted))
        }
        _ => None,
    };
    found.filter(|found| found.is_nested() || !has_children).ok_or_else(|| {
        let name = field.type_type().variant_name().unwrap_or("this type");
        format!("{name} of this kind does not cross the boundary; the WIT's table says which types do")
    })
}

fn int(int: arrow_ipc::Int<'_>) -> Option<DataType> {
    Some(match (int.bitWidth(), int.is_signed()) {
        (8, true) => DataType::Int8,
        (16, true) => DataType::Int16,
        (32, true) => DataType::Int32,
        (64, true) => DataType::Int64,
        (8, false) => DataType::UInt8,
        (16, false) => DataType::UInt16,
        (32, false) => DataType::UInt32,
        (64, false) => DataType::UInt64,
        _ => return None,
    })
}

fn decimal(decimal: arrow_ipc::Decimal<'_>) -> Option<DataType> {
    let precision = u8::try_from(decimal.precision()).ok().filter(|digits| (1..=DECIMAL_DIGITS).contains(digits))?;
    let scale = i8::try_from(decimal.scale()).ok()?;
    let fits = decimal.bitWidth() == 128 && scale >= 0 && scale.unsigned_abs() <= precision;
    fits.then_some(DataType::Decimal128(precision, scale))
}

fn unit(unit: IpcUnit) -> Option<TimeUnit> {
    Some(match unit {
        IpcUnit::SECOND => TimeUnit::Second,
        IpcUnit::MILLISECOND => TimeUnit::Millisecond,
        IpcUnit::MICROSECOND => TimeUnit::Microsecond,
        IpcUnit::NANOSECOND => TimeUnit::Nanosecond,
        _ => return None,
    })
}

fn time(time: arrow_ipc::Time<'_>) -> Option<DataType> {
    match (time.bitWidth(), unit(time.unit())?) {
        (32, unit @ (TimeUnit::Second | TimeUnit::Millisecond)) => Some(DataType::Time32(unit)),
        (64, unit @ (TimeUnit::Microsecond | TimeUnit::Nanosecond)) => Some(DataType::Time64(unit)),
        _ => None,
    }
}

fn timestamp(field: arrow_ipc::Field<'_>) -> Result<DataType, String> {
    let of = field.type_as_timestamp().ok_or("its timestamp is empty")?;
    let unit = unit(of.unit()).ok_or("its timestamp has no known unit")?;
    let Some(zone) = of.timezone().filter(|zone| !zone.is_empty()) else { return Ok(DataType::Timestamp(unit, None)) };
    if zone.len() > ZONE_BYTES || zone.parse::<arrow_array::timezone::Tz>().is_err() {
        let shown: String = zone.chars().take(ZONE_BYTES).collect();
        return Err(format!(
            "{shown:?} is not a time zone; use \"UTC\", an offset such as \"+02:00\", or an IANA name"
        ));
    }
    Ok(DataType::Timestamp(unit, Some(zone.into())))
}

fn only(children: Vec<FieldRef>) -> Option<FieldRef> {
    <[FieldRef; 1]>::try_from(children).ok().map(|[child]| child)
}

fn distinct(children: Vec<FieldRef>) -> Result<Fields, String> {
    if children.is_empty() {
        return Err("a struct without fields does not cross the boundary: no table can hold it".into());
    }
    let mut names: Vec<_> = children.iter().map(|child| child.name().as_str()).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(format!("two of its fields are named {:?}", pair[0])),
        None => Ok(children.into()),
    }
}

/// A map's child is a struct of a key, never null, and a value, and is itself never null.
fn is_entries(entries: &FieldRef) -> bool {
    let DataType::Struct(pair) = entries.data_type() else { return false };
    !entries.is_nullable() && pair.len() == 2 && pair.first().is_some_and(|key| !key.is_nullable())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::layout::check_crosses;

    fn round_trip(schema: &Schema) -> Result<SchemaRef, String> {
        decode(&encode(schema).unwrap(), &Limits::default())
    }

    fn of(data_type: DataType) -> Schema {
        Schema::new(vec![Field::new("a", data_type, true)])
    }

    fn every_type() -> Vec<DataType> {
        let pair =
            Fields::from(vec![Field::new("keys", DataType::Utf8, false), Field::new("values", DataType::Int32, true)]);
        let units = [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond];
        let mut types = vec![
            DataType::Null,
            DataType::Boolean,
            DataType::Int8,
            DataType::Int16,
            DataType::Int32,
            DataType::Int64,
            DataType::UInt8,
            DataType::UInt16,
            DataType::UInt32,
            DataType::UInt64,
            DataType::Float32,
            DataType::Float64,
            DataType::Decimal128(38, 10),
            DataType::Date32,
            DataType::Time32(TimeUnit::Second),
            DataType::Time32(TimeUnit::Millisecond),
            DataType::Time64(TimeUnit::Microsecond),
            DataType::Time64(TimeUnit::Nanosecond),
            DataType::FixedSizeBinary(16),
            DataType::Utf8,
            DataType::Binary,
            DataType::List(Arc::new(Field::new("item", DataType::Utf8, true))),
            DataType::Struct(Fields::from(vec![Field::new("x", DataType::Float64, true)])),
            DataType::Map(Arc::new(Field::new("entries", DataType::Struct(pair), false)), false),
        ];
        for unit in units {
            types.extend([
                DataType::Duration(unit),
                DataType::Timestamp(unit, None),
                DataType::Timestamp(unit, Some("UTC".into())),
                DataType::Timestamp(unit, Some("+02:00".into())),
            ]);
        }
        types
    }

    /// The seed of the fuzz target `guest_schema`.
    const SEED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../fuzz/seeds/guest_schema/types");

    #[test]
    #[ignore = "writes the seed anew"]
    fn the_seed_of_the_fuzz_target_is_written() {
        let pair =
            Fields::from(vec![Field::new("keys", DataType::Utf8, false), Field::new("values", DataType::Binary, true)]);
        let entries = Arc::new(Field::new("entries", DataType::Struct(pair), false));
        let schema = Schema::new(vec![
            Field::new("id", DataType::Int64, false),
            Field::new("amount", DataType::Decimal128(10, 2), true),
            Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
            Field::new("hash", DataType::FixedSizeBinary(16), true),
            Field::new("tags", DataType::List(Arc::new(Field::new("item", DataType::Utf8, true))), true),
            Field::new("headers", DataType::Map(entries, false), true),
        ]);
        std::fs::create_dir_all(std::path::Path::new(SEED).parent().unwrap()).unwrap();
        std::fs::write(SEED, encode(&schema).unwrap()).unwrap();
    }

    #[test]
    fn the_seed_of_the_fuzz_target_is_a_schema() {
        let schema = decode(&std::fs::read(SEED).unwrap(), &Limits::default()).unwrap();
        assert_eq!(schema.fields().len(), 6);
    }

    #[test]
    fn every_type_of_the_table_comes_back() {
        for data_type in every_type() {
            assert_eq!(check_crosses(&data_type), Ok(()));
            assert_eq!(*round_trip(&of(data_type.clone())).unwrap(), of(data_type));
        }
        let names = Schema::new(vec![Field::new("a", DataType::Int8, false), Field::new("ä b", DataType::Utf8, true)]);
        assert_eq!(*round_trip(&names).unwrap(), names);
    }

    #[test]
    fn other_types_are_refused_by_name() {
        for (data_type, message) in [
            (DataType::Float16, "a: FloatingPoint of this kind"),
            (DataType::Decimal256(50, 2), "a: Decimal of this kind"),
            (DataType::Decimal128(5, -2), "a: Decimal of this kind"),
            (DataType::Interval(arrow_schema::IntervalUnit::DayTime), "a: Interval of this kind"),
            (DataType::LargeUtf8, "a: LargeUtf8 of this kind"),
            (DataType::Utf8View, "a: Utf8View of this kind"),
            (DataType::Date64, "a: Date of this kind"),
            (DataType::Timestamp(TimeUnit::Second, Some("Mars".into())), "a: \"Mars\" is not a time zone"),
            (DataType::FixedSizeList(Arc::new(Field::new("item", DataType::Int8, true)), 2), "a: FixedSizeList of"),
            (DataType::List(Arc::new(Field::new("item", DataType::Float16, true))), "a.item: FloatingPoint of"),
        ] {
            let error = round_trip(&of(data_type)).unwrap_err();
            assert!(error.starts_with(message), "{error}");
        }
    }

    #[test]
    fn depth_and_count_are_bounded() {
        let mut deep = DataType::Int8;
        for _ in 0..40 {
            deep = DataType::List(Arc::new(Field::new("i", deep, true)));
        }
        assert!(round_trip(&of(deep)).unwrap_err().contains("limits.depth"));
        let wide = Schema::new((0..5000).map(|i| Field::new(i.to_string(), DataType::Int8, true)).collect::<Vec<_>>());
        assert!(round_trip(&wide).unwrap_err().contains("limits.columns"));
    }

    #[test]
    fn noise_is_refused_without_a_panic() {
        let good = encode(&Schema::new(
            every_type()
                .into_iter()
                .enumerate()
                .map(|(i, data_type)| Field::new(i.to_string(), data_type, true))
                .collect::<Vec<_>>(),
        ))
        .unwrap();
        for length in 0..good.len() {
            let _ = decode(&good[..length], &Limits::default());
        }
        let mut random = crate::rng::SplitMix::of_call(7, 7);
        for _ in 0..20_000 {
            let mut bytes = good.clone();
            for _ in 0..1 + random.next() % 4 {
                let at = usize::try_from(random.next()).unwrap() % bytes.len();
                bytes[at] = random.bytes(1)[0];
            }
            let _ = decode(&bytes, &Limits::default());
        }
    }
}
