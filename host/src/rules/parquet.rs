//! A case's `input.parquet`, as rows of the types that a stream has.
//!
//! A stream's types are few: what Parquet has more of is cast where no value can change by it (a date stays one, a small integer
//! becomes a large one), and refused by name where one could.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, StringArray};
use arrow::compute::{CastOptions, cast_with_options, concat_batches};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use bytes::Bytes;
use forebay_model::{Error, ErrorClass, Result};
use forebay_pipeline::panics::caught_in;
use forebay_pipeline::refine::rows::Rows;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::cli::thousands;

/// Records of a case, at most: it is a few rows that a person can read, and each is run alone too.
const MOST_ROWS: i64 = 1_000_000;

/// The rows of a file.
///
/// # Errors
/// Of class operator, where it is no Parquet file, or has a column that no stream could have.
pub(super) fn decode(content: &[u8]) -> Result<Rows> {
    let content = Bytes::copy_from_slice(content);
    // The reader is not ours, and the file may be anything.
    let (schema, batches) = caught_in(move || read(content)).map_err(|error| match error.class() {
        ErrorClass::Bug => no_parquet(&error),
        ErrorClass::Retry | ErrorClass::RejectRows | ErrorClass::Operator | ErrorClass::Fenced => error,
    })?;
    let batch = concat_batches(&schema, &batches).map_err(|error| no_parquet(&error))?;
    let names: BTreeMap<_, _> = schema.fields().iter().map(|field| (field.name(), field)).collect();
    if names.len() != schema.fields().len() {
        return Err(Error::operator("input.parquet: two columns have the same name").with_hint("rename one of them"));
    }
    let mut columns: Vec<ArrayRef> = Vec::new();
    let mut fields = Vec::new();
    for (field, column) in schema.fields().iter().zip(batch.columns()) {
        let (name, from) = (field.name(), field.data_type());
        let to = target(from, false).ok_or_else(|| foreign(name, from))?;
        columns.push(cast(name, column, &to)?);
        fields.push(Field::new(name, to, true));
    }
    let rows = batch.num_rows();
    if fields.is_empty() && rows > 0 {
        return Err(Error::operator("the input has no columns"));
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let batch = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
        .map_err(|error| no_parquet(&error))?;
    let rescued = StringArray::new_null(rows);
    Ok(Rows { batch, numbers: (0..rows as u64).collect(), rescued, record_columns: None })
}

fn read(content: Bytes) -> Result<(SchemaRef, Vec<RecordBatch>)> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(content).map_err(|error| no_parquet(&error))?;
    let rows = builder.metadata().file_metadata().num_rows();
    if rows > MOST_ROWS {
        let (rows, most) = (thousands(rows.cast_unsigned()), thousands(MOST_ROWS.cast_unsigned()));
        return Err(Error::operator(format!("input.parquet has {rows} rows, and a case has at most {most}"))
            .with_hint("take the rows that show what the rule does"));
    }
    let schema = Arc::clone(builder.schema());
    let reader = builder.build().map_err(|error| no_parquet(&error))?;
    let batches = reader.collect::<std::result::Result<Vec<_>, _>>().map_err(|error| no_parquet(&error))?;
    // Metadata of the file's own is no part of a stream's schema.
    Ok((batches.first().map_or(schema, RecordBatch::schema), batches))
}

fn no_parquet(error: &dyn std::fmt::Display) -> Error {
    Error::operator(format!("input.parquet cannot be read: {error}")).with_hint("write it again")
}

fn foreign(name: &str, from: &DataType) -> Error {
    let (what, hint) = if matches!(from, DataType::Timestamp(_, None)) {
        ("a timestamp without a zone", "write it with one: in UTC, say")
    } else {
        ("of a type that no stream has", "cast it when you write the file; docs/formats.md lists the types")
    };
    Error::operator(format!("input.parquet: column {name:?} ({from}) is {what}")).with_hint(hint)
}

/// The type that a stream has for it.
#[expect(clippy::wildcard_enum_match_arm, reason = "what is not named here, no stream has")]
fn target(from: &DataType, nested: bool) -> Option<DataType> {
    let item = |field: &Field| Some(Arc::new(Field::new("element", target(field.data_type(), true)?, true)));
    Some(match from {
        DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32
        | DataType::UInt64
        | DataType::Float32
        | DataType::Float64
        | DataType::Decimal128(..)
        | DataType::Date32 => from.clone(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => DataType::Binary,
        // Within a list or an object it is not compared afterwards.
        DataType::Timestamp(TimeUnit::Nanosecond, Some(_)) if nested => return None,
        DataType::Timestamp(_, Some(_)) => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        DataType::Dictionary(_, values) => target(values, nested)?,
        DataType::List(field) | DataType::LargeList(field) => DataType::List(item(field)?),
        DataType::Struct(fields) => {
            let field = |field: &Arc<Field>| Some(Field::new(field.name(), target(field.data_type(), true)?, true));
            DataType::Struct(fields.iter().map(field).collect::<Option<Fields>>()?)
        }
        _ => return None,
    })
}

fn cast(name: &str, column: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    if column.data_type() == to {
        return Ok(Arc::clone(column));
    }
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let turn = |column: &ArrayRef, to: &DataType| {
        cast_with_options(column, to, &options)
            .map_err(|error| Error::operator(format!("input.parquet: column {name:?}: {error}")))
    };
    let cast = turn(column, to)?;
    if matches!(column.data_type(), DataType::Timestamp(..))
        && turn(&cast, column.data_type())?.as_ref() != column.as_ref()
    {
        let message = format!("input.parquet: column {name:?} has times finer than a microsecond, which no stream has");
        return Err(Error::operator(message).with_hint("round them when you write the file"));
    }
    Ok(cast)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use arrow::array::{
        DictionaryArray, Int64Array, ListArray, StructArray, TimestampNanosecondArray, TimestampSecondArray,
    };
    use arrow::datatypes::Int32Type;
    use parquet::arrow::ArrowWriter;

    use super::*;

    fn file(columns: Vec<(&str, ArrayRef)>) -> Vec<u8> {
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let mut out = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut out, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        out
    }

    fn times(nanos: i64, zone: bool) -> ArrayRef {
        let times = TimestampNanosecondArray::from(vec![Some(nanos), None]);
        Arc::new(if zone { times.with_timezone("UTC") } else { times })
    }

    #[test]
    fn types_become_those_of_a_stream() {
        let words: DictionaryArray<Int32Type> = vec![Some("a"), None].into_iter().collect();
        let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None]);
        let inner: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
        let object = StructArray::from(vec![(Arc::new(Field::new("n", DataType::Int64, false)), inner)]);
        let seconds = TimestampSecondArray::from(vec![5, 6]).with_timezone("+02:00");
        let content = file(vec![
            ("word", Arc::new(words)),
            ("list", Arc::new(list)),
            ("object", Arc::new(object)),
            ("at", times(7_000, true)),
            ("when", Arc::new(seconds)),
        ]);
        let rows = decode(&content).unwrap();
        assert_eq!(rows.numbers, [0, 1]);
        let types: Vec<_> = rows.batch.schema().fields().iter().map(|field| field.data_type().to_string()).collect();
        insta::assert_snapshot!(types.join("\n"));
    }

    #[test]
    fn what_no_stream_has_is_refused_by_name() {
        let refused = |content: Vec<u8>| {
            let error = decode(&content).unwrap_err();
            format!("{}\n  {}", error.chain(), error.hint().unwrap_or_default())
        };
        let many: ArrayRef = Arc::new(Int64Array::from_value(7, 1_000_001));
        let whole = file(vec![("n", Arc::new(Int64Array::from(vec![1])))]);
        let told = [
            refused(file(vec![("at", times(7_001, true))])),
            refused(file(vec![("at", times(7_000, false))])),
            refused(file(vec![("lasts", Arc::new(arrow::array::Time32SecondArray::from(vec![1])))])),
            refused(file(vec![("n", many)])),
            refused(b"no parquet at all".to_vec()),
            refused(whole[..whole.len() / 2].to_vec()),
        ];
        insta::assert_snapshot!(told.join("\n"));
    }
}
