//! Generated rows for a rule, to find what it traps on.
//!
//! Rows have the columns of a case, and values that people do not think of: nulls, the ends of each type, empty and endless text. In
//! every other batch one column has another type: a rule may refuse to bind to it, and must not trap. The same number gives the
//! same batches. What is found is made small: one row, with as many of its values as can be null or plain.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions, StringArray};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use fastrand::Rng;
use forebay_model::ports::{Assets, Module};
use forebay_model::{Error, Result};
use forebay_pipeline::refine::apply::RefusedBy;
use forebay_pipeline::refine::rows::{Rows, batch_of};
use forebay_pipeline::refine::trial::Trial;
use forebay_sdk::testing::case::Case;
use serde_json::{Map, Value, json};

use super::cases;

/// Rows of the largest batch.
const ROWS: usize = 64;

type Row = Map<String, Value>;

/// What a rule failed on.
#[derive(Debug)]
pub(crate) struct Found {
    /// The number of the batch, from 0.
    pub(crate) batch: u64,
    /// The columns and their types.
    pub(crate) columns: Vec<(String, String)>,
    /// The smallest row that shows it; `None` where binding does.
    pub(crate) row: Option<Value>,
    /// What the rule or the sandbox said.
    pub(crate) message: String,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Fuzzed {
    /// Batches that the rule refused to bind to.
    pub(crate) refused: u64,
    /// The first of each message.
    pub(crate) found: Vec<Found>,
}

/// Feeds so many batches with the columns, the config and the assets of a case.
///
/// # Errors
/// Where the case itself does not bind.
pub(crate) fn fuzz(module: &dyn Module, case: &Case, batches: u64) -> Result<Fuzzed> {
    let (trial, input) = cases::bind(module, case)?;
    drop(trial);
    let (schema, assets) = (input.batch.schema(), cases::assets(case));
    let mut fuzzed = Fuzzed::default();
    for batch in 0..batches {
        let mut rng = Rng::with_seed(batch);
        let schema = if batch % 2 == 0 { Arc::clone(&schema) } else { retyped(&schema, &mut rng) };
        let Some((row, message)) = one(module, &schema, (&case.config, &assets), &mut rng, &mut fuzzed.refused)? else {
            continue;
        };
        let first = |text: &str| text.lines().next().unwrap_or_default().to_owned();
        if fuzzed.found.iter().any(|found| first(&found.message) == first(&message)) {
            continue;
        }
        let columns = schema.fields().iter().map(|field| (field.name().clone(), field.data_type().to_string()));
        fuzzed.found.push(Found { batch, columns: columns.collect(), row: row.map(Value::Object), message });
    }
    Ok(fuzzed)
}

type Failed = Option<(Option<Row>, String)>;

fn one(
    module: &dyn Module,
    schema: &SchemaRef,
    (config, assets): (&Value, &Assets),
    rng: &mut Rng,
    refused: &mut u64,
) -> Result<Failed> {
    let trial = match Trial::bind(module, schema, config, assets) {
        Ok(trial) => trial,
        // One class for both: the sandbox's words tell a trap from what the rule refuses.
        Err(error) if error.to_string().contains("failed in bind") => return Ok(Some((None, error.to_string()))),
        Err(_) => {
            *refused += 1;
            return Ok(None);
        }
    };
    let rows: Vec<Row> = (0..rng.usize(0..=ROWS)).map(|_| row(schema, rng)).collect();
    let Some((record, together)) = failing(&trial, schema, &rows)? else { return Ok(None) };
    let row = rows.get(record).cloned().unwrap_or_default();
    let small = smaller(&trial, schema, row)?;
    // Alone, and with another number, it may pass: then it is told as it was met.
    let alone = failing(&trial, schema, std::slice::from_ref(&small))?;
    Ok(Some((Some(small), alone.map_or(together, |(_, message)| message))))
}

/// The first row that the rule fails on, and how.
fn failing(trial: &Trial, schema: &SchemaRef, rows: &[Row]) -> Result<Option<(usize, String)>> {
    let tried = match trial.run(&cases::context(), [arrow_rows(schema, rows)?]) {
        Ok(tried) => tried,
        // It fails on more rows than are looked for one by one.
        Err(error) if rows.len() > 1 => {
            for (index, row) in rows.iter().enumerate() {
                if let Some((_, message)) = failing(trial, schema, std::slice::from_ref(row))? {
                    return Ok(Some((index, message)));
                }
            }
            return Err(error);
        }
        Err(error) => return Ok(Some((0, error.chain()))),
    };
    let mut failures = tried.refused.into_iter().filter(|(_, refused)| refused.by == RefusedBy::Failure);
    Ok(failures.next().map(|(record, refused)| (usize::try_from(record).unwrap_or_default(), refused.message)))
}

/// The row with each value null, or else plain, where the rule still fails.
fn smaller(trial: &Trial, schema: &SchemaRef, mut row: Row) -> Result<Row> {
    for field in schema.fields() {
        for value in [Value::Null, plain(field.data_type())] {
            let mut small = row.clone();
            small.insert(field.name().clone(), value);
            if failing(trial, schema, std::slice::from_ref(&small))?.is_some() {
                row = small;
                break;
            }
        }
    }
    Ok(row)
}

fn arrow_rows(schema: &SchemaRef, rows: &[Row]) -> Result<Rows> {
    let wrong = |error| Error::bug("generated rows are none of their schema").with_source(error);
    let batch = if schema.fields().is_empty() || rows.is_empty() {
        let columns = schema.fields().iter().map(|field| arrow::array::new_empty_array(field.data_type())).collect();
        if rows.is_empty() {
            let options = RecordBatchOptions::new().with_row_count(Some(0));
            RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options).map_err(wrong)?
        } else {
            batch_of(schema, columns, rows.len())?
        }
    } else {
        let builder = arrow::json::ReaderBuilder::new(Arc::clone(schema)).with_batch_size(rows.len());
        let mut decoder = builder.build_decoder().map_err(wrong)?;
        decoder.serialize(rows).map_err(wrong)?;
        decoder.flush().map_err(wrong)?.unwrap_or_else(|| RecordBatch::new_empty(Arc::clone(schema)))
    };
    let numbers = (0..rows.len() as u64).collect();
    Ok(Rows { batch, numbers, rescued: StringArray::new_null(rows.len()), record_columns: None })
}

/// One column in another type than the case has it in.
fn retyped(schema: &SchemaRef, rng: &mut Rng) -> SchemaRef {
    let mut fields: Vec<Field> = schema.fields().iter().map(|field| field.as_ref().clone()).collect();
    let types = types();
    if let (Some(field), Some(data_type)) = (rng.choice(fields.iter_mut()), rng.choice(types)) {
        *field = field.clone().with_data_type(data_type);
    }
    Arc::new(Schema::new(fields))
}

/// Every type that decoding makes.
fn types() -> Vec<DataType> {
    let nullable = |name: &str, data_type| Arc::new(Field::new(name, data_type, true));
    vec![
        DataType::Boolean,
        DataType::Int64,
        DataType::Float64,
        DataType::Utf8,
        DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        DataType::Date32,
        DataType::Decimal128(38, 0),
        DataType::Decimal128(10, 2),
        DataType::List(nullable("element", DataType::Utf8)),
        DataType::List(nullable("element", DataType::Int64)),
        DataType::Struct(Fields::from(vec![nullable("a", DataType::Float64), nullable("b", DataType::Utf8)])),
    ]
}

fn row(schema: &SchemaRef, rng: &mut Rng) -> Row {
    schema.fields().iter().map(|field| (field.name().clone(), value(field.data_type(), rng))).collect()
}

fn value(data_type: &DataType, rng: &mut Rng) -> Value {
    if rng.u8(0..4) == 0 {
        return Value::Null;
    }
    let texts = |texts: &[&str], rng: &mut Rng| Value::from(*rng.choice(texts).unwrap_or(&""));
    #[expect(clippy::wildcard_enum_match_arm, reason = "decoding makes no other types, and null is of each")]
    match data_type {
        DataType::Boolean => json!(rng.bool()),
        DataType::Int64 => {
            let ends = [0, 1, -1, i64::MAX, i64::MIN, 1 << 53, (1 << 53) + 1, i64::from(i32::MIN)];
            json!(if rng.bool() { rng.choice(ends).unwrap_or_default() } else { rng.i64(-1000..1000) })
        }
        DataType::Float64 => {
            let ends = [0.0, -0.0, 1.0, -1.0, f64::MAX, f64::MIN, f64::MIN_POSITIVE, 5e-324, 1e15, 0.1];
            json!(if rng.bool() { rng.choice(ends).unwrap_or_default() } else { rng.f64() * 2000.0 - 1000.0 })
        }
        DataType::Utf8 if rng.u8(0..16) == 0 => json!("long ".repeat(4_000)),
        DataType::Utf8 => {
            texts(&["", " ", "a", "0", "-1", "null", "ß", "e\u{301}", "🦀", "\0", "a\nb", "\u{feff}", "1e999"], rng)
        }
        DataType::Timestamp(..) => {
            texts(&["1970-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"], rng)
        }
        DataType::Date32 => texts(&["1970-01-01", "0001-01-01", "9999-12-31"], rng),
        DataType::Decimal128(_, 0) => texts(&["0", "-1", "99999999999999999999999999999999999999"], rng),
        DataType::Decimal128(..) => texts(&["0.00", "-0.01", "99999999.99"], rng),
        DataType::List(element) => (0..rng.usize(0..4)).map(|_| value(element.data_type(), rng)).collect(),
        DataType::Struct(fields) => {
            Value::Object(fields.iter().map(|field| (field.name().clone(), value(field.data_type(), rng))).collect())
        }
        _ => Value::Null,
    }
}

/// The simplest value that is none.
fn plain(data_type: &DataType) -> Value {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the others have none that is simpler than null")]
    match data_type {
        DataType::Boolean => json!(false),
        DataType::Int64 => json!(0),
        DataType::Float64 => json!(0.0),
        DataType::Utf8 => json!(""),
        DataType::List(_) => json!([]),
        DataType::Timestamp(..) => json!("1970-01-01T00:00:00Z"),
        _ => Value::Null,
    }
}
