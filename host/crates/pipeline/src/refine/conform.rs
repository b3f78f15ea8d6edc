//! Bringing a column to the type that its table has, without coercing a value.
//!
//! Only what loses nothing happens here: a struct gains the fields that it lacks (null), time zones and units become the
//! table's, an integer becomes the float or the wider integer that stands for the same number. What does not fit
//! by type is not this module's business: the caller rescues it.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, LargeListArray, ListArray, MapArray, StructArray, new_null_array};
use arrow_schema::{DataType, Field, FieldRef, Fields};
use forebay_model::{Error, Result};

/// How two types of one column stand to each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meeting {
    /// The table's type holds every value of the wanted one.
    Fits,
    /// The table's type must grow: nested fields are added. The grown type.
    Grows(DataType),
    /// `Int64` in the table, `Float64` wanted, here or below: the one widening. The widened type.
    Widens(DataType),
    /// Neither.
    Conflicts,
}

/// What it takes to bring `wanted` into a column of type `have`.
#[must_use]
pub fn meet(have: &DataType, wanted: &DataType) -> Meeting {
    if have == wanted || widens_losslessly(wanted, have) {
        return Meeting::Fits;
    }
    match (have, wanted) {
        (DataType::Int64, DataType::Float64) => Meeting::Widens(DataType::Float64),
        (DataType::Struct(have), DataType::Struct(wanted)) => meet_fields(have, wanted),
        (DataType::List(have), DataType::List(wanted)) => match meet(have.data_type(), wanted.data_type()) {
            Meeting::Grows(grown) => Meeting::Grows(DataType::List(retyped(have, grown))),
            Meeting::Widens(wide) => Meeting::Widens(DataType::List(retyped(have, wide))),
            met @ (Meeting::Fits | Meeting::Conflicts) => met,
        },
        _ => Meeting::Conflicts,
    }
}

fn retyped(field: &FieldRef, data_type: DataType) -> FieldRef {
    Arc::new(field.as_ref().clone().with_data_type(data_type))
}

fn meet_fields(have: &Fields, wanted: &Fields) -> Meeting {
    let (mut grows, mut widens) = (false, false);
    let mut fields: Vec<FieldRef> = have.iter().cloned().collect();
    for field in wanted {
        let Some(index) = have.iter().position(|known| known.name() == field.name()) else {
            fields.push(Arc::new(field.as_ref().clone().with_nullable(true)));
            grows = true;
            continue;
        };
        match meet(fields[index].data_type(), field.data_type()) {
            Meeting::Fits => {}
            Meeting::Grows(grown) => {
                fields[index] = retyped(&fields[index], grown);
                grows = true;
            }
            Meeting::Widens(wide) => {
                fields[index] = retyped(&fields[index], wide);
                widens = true;
            }
            Meeting::Conflicts => return Meeting::Conflicts,
        }
    }
    match (widens, grows) {
        (true, _) => Meeting::Widens(DataType::Struct(fields.into())),
        (false, true) => Meeting::Grows(DataType::Struct(fields.into())),
        (false, false) => Meeting::Fits,
    }
}

/// Whether every value of `from` is one of `to`, and Arrow's cast finds it.
fn widens_losslessly(from: &DataType, to: &DataType) -> bool {
    use DataType::{Float32, Float64, Int8, Int16, Int32, Int64, Timestamp, UInt8, UInt16, UInt32, Utf8};
    match (from, to) {
        (Int8, Int16 | Int32 | Int64)
        | (Int16, Int32 | Int64)
        | (Int32 | UInt32, Int64)
        | (UInt8, Int16 | Int32 | Int64)
        | (UInt16, Int32 | Int64)
        | (Int8 | Int16 | Int32 | UInt8 | UInt16 | UInt32 | Float32, Float64) => true,
        (Timestamp(_, Some(_)), Timestamp(arrow_schema::TimeUnit::Microsecond, Some(_))) => {
            // Nanoseconds would be cut off.
            !matches!(from, Timestamp(arrow_schema::TimeUnit::Nanosecond, _))
        }
        (DataType::Utf8View | DataType::LargeUtf8, Utf8) => true,
        (DataType::Dictionary(_, value), _) => value.as_ref() == to,
        _ => false,
    }
}

/// Brings an array to a type that [`meet`] found to fit (or that grew from it).
///
/// # Errors
/// Class bug, where the types do not fit after all.
pub fn conform(array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    if array.data_type() == to {
        return Ok(Arc::clone(array));
    }
    match (array.data_type(), to) {
        (DataType::Struct(_), DataType::Struct(fields)) => conform_struct(array.as_struct(), fields),
        (DataType::List(_), DataType::List(field)) => {
            let list: &ListArray = array.as_list();
            let values = conform(list.values(), field.data_type())?;
            ListArray::try_new(Arc::clone(field), list.offsets().clone(), values, list.nulls().cloned())
                .map(|list| Arc::new(list) as ArrayRef)
                .map_err(|error| misfit(array.data_type(), to).with_source(error))
        }
        (DataType::LargeList(_), DataType::LargeList(field)) => {
            let list: &LargeListArray = array.as_list();
            let values = conform(list.values(), field.data_type())?;
            LargeListArray::try_new(Arc::clone(field), list.offsets().clone(), values, list.nulls().cloned())
                .map(|list| Arc::new(list) as ArrayRef)
                .map_err(|error| misfit(array.data_type(), to).with_source(error))
        }
        (DataType::Map(..), DataType::Map(field, sorted)) => {
            let map: &MapArray = array.as_map();
            let entries = conform(&(Arc::new(map.entries().clone()) as ArrayRef), field.data_type())?;
            MapArray::try_new(
                Arc::clone(field),
                map.offsets().clone(),
                entries.as_struct().clone(),
                map.nulls().cloned(),
                *sorted,
            )
            .map(|map| Arc::new(map) as ArrayRef)
            .map_err(|error| misfit(array.data_type(), to).with_source(error))
        }
        _ => {
            let options = arrow_cast::CastOptions { safe: false, ..Default::default() };
            arrow_cast::cast_with_options(array, to, &options)
                .map_err(|error| misfit(array.data_type(), to).with_source(error))
        }
    }
}

fn conform_struct(array: &StructArray, fields: &Fields) -> Result<ArrayRef> {
    let columns: Result<Vec<ArrayRef>> = fields
        .iter()
        .map(|field: &Arc<Field>| match array.column_by_name(field.name()) {
            Some(column) => conform(column, field.data_type()),
            None => Ok(new_null_array(field.data_type(), array.len())),
        })
        .collect();
    StructArray::try_new(fields.clone(), columns?, array.nulls().cloned())
        .map(|array| Arc::new(array) as ArrayRef)
        .map_err(|error| misfit(array.data_type(), &DataType::Struct(fields.clone())).with_source(error))
}

fn misfit(from: &DataType, to: &DataType) -> Error {
    Error::bug(format!("a column of type {from} was to become {to}, which its schema does not allow"))
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "tests")]
mod tests {
    use super::*;
    use arrow_array::{Int32Array, Int64Array};

    fn object(fields: Vec<(&str, DataType)>) -> DataType {
        DataType::Struct(fields.into_iter().map(|(name, kind)| Field::new(name, kind, true)).collect())
    }

    #[test]
    fn a_struct_grows_and_old_values_get_nulls() {
        let have = object(vec![("a", DataType::Int64)]);
        let wanted = object(vec![("b", DataType::Utf8), ("a", DataType::Int64)]);
        let grown = object(vec![("a", DataType::Int64), ("b", DataType::Utf8)]);
        assert_eq!(meet(&have, &wanted), Meeting::Grows(grown.clone()));
        let array: ArrayRef = Arc::new(StructArray::from(vec![(
            Arc::new(Field::new("a", DataType::Int64, true)),
            Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef,
        )]));
        let conformed = conform(&array, &grown).expect("conforms");
        assert_eq!(conformed.as_struct().column(1).null_count(), 2);
    }

    #[test]
    fn nothing_is_coerced() {
        assert_eq!(meet(&DataType::Utf8, &DataType::Int64), Meeting::Conflicts);
        assert_eq!(meet(&DataType::Int64, &DataType::UInt64), Meeting::Conflicts);
        assert_eq!(meet(&DataType::Float64, &DataType::Int64), Meeting::Conflicts);
        assert_eq!(meet(&DataType::Int64, &DataType::Float64), Meeting::Widens(DataType::Float64));
        let small: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), None]));
        assert_eq!(conform(&small, &DataType::Int64).expect("widens").null_count(), 1);
    }
}
