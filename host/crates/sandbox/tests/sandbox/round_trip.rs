//! Every type of the WIT's table goes through an identity guest and comes back: with nulls, sliced, nested, empty.

use std::sync::Arc;

use arrow_array::builder::{
    FixedSizeBinaryBuilder, Int32Builder, ListBuilder, MapBuilder, StringBuilder, StructBuilder,
};
use arrow_array::types::{
    Date32Type, Decimal128Type, DurationMicrosecondType, DurationMillisecondType, DurationNanosecondType,
    DurationSecondType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, Time32MillisecondType,
    Time32SecondType, Time64MicrosecondType, Time64NanosecondType, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{
    Array, ArrayRef, ArrowPrimitiveType, BinaryArray, BooleanArray, NullArray, PrimitiveArray, StringArray,
};
use arrow_schema::{DataType, Field, Fields, Schema};
use forebay_model::ports::{Assets, BatchInput, Selection};
use proptest::prelude::{ProptestConfig, any, proptest};
use serde_json::json;

use crate::support::{evil, instance};

/// `make` of each row, null where it says nothing.
fn values<T: ArrowPrimitiveType>(rows: usize, make: impl Fn(usize) -> Option<T::Native>) -> ArrayRef {
    Arc::new((0..rows).map(make).collect::<PrimitiveArray<T>>())
}

/// A column of each type, of `rows` values; the `null`th of each group is null, or none where `null` is 0.
fn columns(rows: usize, null: usize) -> Vec<ArrayRef> {
    let here = |row: usize| null == 0 || row % null != 1;
    macro_rules! numbers {
        ($($of:ty),*) => { vec![$(values::<$of>(rows, |row| here(row).then_some((row % 100) as _))),*] };
    }
    let mut columns: Vec<ArrayRef> = numbers![
        Int8Type,
        Int16Type,
        Int32Type,
        Int64Type,
        UInt8Type,
        UInt16Type,
        UInt32Type,
        UInt64Type,
        Float32Type,
        Float64Type,
        Date32Type,
        Time32SecondType,
        Time32MillisecondType,
        Time64MicrosecondType,
        Time64NanosecondType,
        TimestampSecondType,
        TimestampMillisecondType,
        TimestampMicrosecondType,
        TimestampNanosecondType,
        DurationSecondType,
        DurationMillisecondType,
        DurationMicrosecondType,
        DurationNanosecondType
    ];
    let text = |row: usize| here(row).then(|| format!("é{}", "x".repeat(row % 5)));
    columns.push(Arc::new(NullArray::new(rows)));
    columns.push(Arc::new((0..rows).map(|row| here(row).then_some(row % 3 == 0)).collect::<BooleanArray>()));
    columns.push(Arc::new((0..rows).map(text).collect::<StringArray>()));
    columns.push(Arc::new((0..rows).map(|row| text(row).map(String::into_bytes)).collect::<BinaryArray>()));
    let decimals: PrimitiveArray<Decimal128Type> =
        (0..rows).map(|row| here(row).then_some(-10_i128.pow(37) * (row % 9) as i128)).collect();
    columns.push(Arc::new(decimals.with_precision_and_scale(38, 10).unwrap()));
    let zoned =
        (0..rows).map(|row| here(row).then_some(row as i64)).collect::<PrimitiveArray<TimestampMicrosecondType>>();
    columns.push(Arc::new(zoned.with_timezone("UTC")));
    columns.push(fixed(rows, here));
    columns.push(list(rows, here));
    columns.push(structs(rows, here));
    columns.push(map(rows, here));
    columns
}

fn fixed(rows: usize, here: impl Fn(usize) -> bool) -> ArrayRef {
    let mut builder = FixedSizeBinaryBuilder::new(3);
    for row in 0..rows {
        if here(row) {
            builder.append_value([1, 2, (row % 250) as u8]).unwrap();
        } else {
            builder.append_null();
        }
    }
    Arc::new(builder.finish())
}

/// Lists of lists of text.
fn list(rows: usize, here: impl Fn(usize) -> bool) -> ArrayRef {
    let mut builder = ListBuilder::new(ListBuilder::new(StringBuilder::new()));
    for row in 0..rows {
        for item in 0..row % 4 {
            for word in 0..item {
                builder.values().values().append_option((word != 1).then_some("wörd"));
            }
            builder.values().append(item != 2);
        }
        builder.append(here(row));
    }
    Arc::new(builder.finish())
}

fn structs(rows: usize, here: impl Fn(usize) -> bool) -> ArrayRef {
    let fields = Fields::from(vec![Field::new("n", DataType::Int32, true), Field::new("s", DataType::Utf8, true)]);
    let mut builder = StructBuilder::from_fields(fields, rows);
    for row in 0..rows {
        builder.field_builder::<Int32Builder>(0).unwrap().append_option((row % 3 != 0).then_some(row as i32));
        builder.field_builder::<StringBuilder>(1).unwrap().append_option((row % 4 != 0).then_some("text"));
        builder.append(here(row));
    }
    Arc::new(builder.finish())
}

/// Maps of text to structs.
fn map(rows: usize, here: impl Fn(usize) -> bool) -> ArrayRef {
    let fields = Fields::from(vec![Field::new("v", DataType::Int32, true)]);
    let mut builder = MapBuilder::new(None, StringBuilder::new(), StructBuilder::from_fields(fields, 0));
    for row in 0..rows {
        for key in 0..row % 3 {
            builder.keys().append_value(format!("k{key}"));
            builder.values().field_builder::<Int32Builder>(0).unwrap().append_option((key != 1).then_some(row as i32));
            builder.values().append(key != 0);
        }
        builder.append(here(row)).unwrap();
    }
    Arc::new(builder.finish())
}

/// What the identity guest makes of the columns.
fn through(columns: &[ArrayRef]) -> Vec<ArrayRef> {
    let rows = columns[0].len();
    let names: Vec<String> = (0..columns.len()).map(|index| format!("c{index}")).collect();
    let fields: Vec<Field> =
        names.iter().zip(columns).map(|(name, column)| Field::new(name, column.data_type().clone(), true)).collect();
    let config = json!({ "behaviour": "identity", "columns": names });
    let bound = evil().bind(&Arc::new(Schema::new(fields)), &config, &Assets::default()).unwrap();
    let input = BatchInput { rows, columns: columns.to_vec(), numbers: (0..rows as u64).collect() };
    let mut output = instance(&bound).process(&input).unwrap();
    assert_eq!(output.emissions.len(), 1);
    assert_eq!(output.emissions[0].selection, Selection::All);
    output.emissions.remove(0).computed
}

fn check(columns: &[ArrayRef]) {
    let back = through(columns);
    assert_eq!(back.len(), columns.len());
    for (column, back) in columns.iter().zip(&back) {
        assert_eq!(back.data_type(), column.data_type());
        assert_eq!(&**back, &**column, "{}", column.data_type());
        back.to_data().validate_full().unwrap();
    }
}

#[test]
fn whole_columns_with_and_without_nulls() {
    check(&columns(1000, 0));
    check(&columns(1000, 3));
    check(&columns(1, 0));
}

#[test]
fn an_empty_batch() {
    check(&columns(0, 0));
    let sliced: Vec<ArrayRef> = columns(50, 3).iter().map(|column| column.slice(17, 0)).collect();
    check(&sliced);
    let empty = columns(5, 2).iter().map(|column| arrow_array::new_empty_array(column.data_type())).collect::<Vec<_>>();
    check(&empty);
}

#[test]
fn a_column_that_is_all_null() {
    let none: Vec<ArrayRef> =
        columns(9, 0).iter().map(|column| arrow_array::new_null_array(column.data_type(), 9)).collect();
    check(&none);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn sliced_columns(rows in 1_usize..300, null in 0_usize..6, cut in any::<(u16, u16)>()) {
        let first = usize::from(cut.0) % rows;
        let length = usize::from(cut.1) % (rows - first + 1);
        let sliced: Vec<ArrayRef> = columns(rows, null).iter().map(|column| column.slice(first, length)).collect();
        check(&sliced);
    }
}
