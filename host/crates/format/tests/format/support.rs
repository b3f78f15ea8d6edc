//! What the tests share: decoding in chunks, and rows as JSON.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType, UInt64Type,
};
use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, SchemaRef};
use forebay_format::Formats;
use forebay_model::ports::{Format, SegmentInput};
use forebay_model::schema::Evolution;
use forebay_model::{DecodedBatch, Reject};
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// Gives at most `chunk` bytes a read.
pub(crate) struct Chunks {
    pub(crate) bytes: io::Cursor<Vec<u8>>,
    pub(crate) chunk: usize,
}

impl Read for Chunks {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = buf.len().min(self.chunk);
        self.bytes.read(&mut buf[..len])
    }
}

pub(crate) fn input(text: impl AsRef<[u8]>) -> SegmentInput {
    chunked(text, usize::MAX)
}

pub(crate) fn chunked(text: impl AsRef<[u8]>, chunk: usize) -> SegmentInput {
    SegmentInput::Bytes(Box::new(Chunks { bytes: io::Cursor::new(text.as_ref().to_vec()), chunk }))
}

pub(crate) fn format(config: &Value, name: &str) -> Arc<dyn Format> {
    Formats::from_config(config).unwrap().get(name).unwrap()
}

pub(crate) fn json_format() -> Arc<dyn Format> {
    format(&json!("json"), "json")
}

/// All that decoding gave.
#[derive(Debug)]
pub(crate) struct Decoded {
    pub(crate) schema: SchemaRef,
    pub(crate) batches: Vec<DecodedBatch>,
    pub(crate) error: Option<forebay_model::Error>,
    pub(crate) evolution: Option<Evolution>,
}

pub(crate) fn decode(format: &dyn Format, input: SegmentInput, schema: &SchemaRef) -> Decoded {
    let mut decoder = format.open(input, schema).unwrap();
    let mut batches = Vec::new();
    let error = loop {
        match decoder.next_batch() {
            Ok(Some(batch)) => batches.push(batch),
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
    };
    assert!(decoder.next_batch().unwrap().is_none(), "the end is the end");
    let decoded = Decoded { schema: Arc::clone(schema), batches, error, evolution: decoder.evolution() };
    decoded.check();
    decoded
}

/// Infers from the text, then decodes it.
pub(crate) fn decode_text(format: &dyn Format, text: impl AsRef<[u8]>) -> Decoded {
    let schema = format.infer(vec![input(&text)]).unwrap().unwrap_or_else(|| Arc::new(arrow_schema::Schema::empty()));
    decode(format, input(&text), &schema)
}

impl Decoded {
    /// What holds for every input.
    fn check(&self) {
        let mut next = 0;
        for batch in &self.batches {
            assert_eq!(batch.first_record, next);
            next += u64::from(batch.records);
            assert_eq!(batch.numbers.len(), batch.batch.num_rows());
            assert_eq!(batch.rescued.len(), batch.batch.num_rows());
            assert_eq!(batch.numbers.len() + batch.rejects.len(), batch.records as usize);
            assert_eq!(batch.batch.schema(), self.schema);
            let mut all: Vec<u64> =
                batch.numbers.iter().copied().chain(batch.rejects.iter().map(|reject| reject.record)).collect();
            all.sort_unstable();
            assert_eq!(all, (batch.first_record..next).collect::<Vec<_>>());
            assert!(batch.numbers.is_sorted());
            for reject in &batch.rejects {
                assert_eq!(reject.raw, batch.raw_of(reject.record));
            }
            // Raw values: rescue keeps what JSON allows and serde_json refuses, 1e999 or half of a surrogate pair.
            for text in batch.rescued.iter().flatten() {
                serde_json::from_str::<BTreeMap<String, Box<RawValue>>>(text).unwrap();
            }
        }
    }

    pub(crate) fn rows(&self) -> Vec<Value> {
        self.batches.iter().flat_map(|batch| rows(&batch.batch)).collect()
    }

    pub(crate) fn rescued(&self) -> Vec<Option<String>> {
        let texts = self.batches.iter().flat_map(|batch| batch.rescued.iter());
        texts.map(|text| text.map(str::to_owned)).collect()
    }

    pub(crate) fn rejects(&self) -> Vec<&Reject> {
        self.batches.iter().flat_map(|batch| &batch.rejects).collect()
    }

    pub(crate) fn numbers(&self) -> Vec<u64> {
        self.batches.iter().flat_map(|batch| batch.numbers.clone()).collect()
    }

    pub(crate) fn codes(&self) -> Vec<(u64, &str)> {
        self.rejects().iter().map(|reject| (reject.record, reject.code.as_str())).collect()
    }

    /// Everything, for comparison.
    pub(crate) fn print(&self) -> String {
        format!(
            "{:?} {:?} {:?} {:?} {:?}",
            self.batches
                .iter()
                .map(|batch| (&batch.batch, &batch.rescued, &batch.numbers, &batch.rejects, batch.records))
                .collect::<Vec<_>>(),
            self.raw(),
            self.evolution,
            self.error.as_ref().map(forebay_model::Error::chain),
            self.schema
        )
    }

    fn raw(&self) -> Vec<Vec<u8>> {
        self.batches
            .iter()
            .flat_map(|batch| {
                (batch.first_record..batch.first_record + u64::from(batch.records)).map(|n| batch.raw_of(n).to_vec())
            })
            .collect()
    }
}

/// Rows as JSON, without what is null.
pub(crate) fn rows(batch: &RecordBatch) -> Vec<Value> {
    (0..batch.num_rows())
        .map(|row| {
            let schema = batch.schema();
            let fields = schema.fields().iter().zip(batch.columns());
            let values = fields.map(|(field, column)| (field.name().clone(), cell(column.as_ref(), row)));
            Value::Object(values.filter(|(_, value)| !value.is_null()).collect())
        })
        .collect()
}

fn cell(array: &dyn Array, row: usize) -> Value {
    if array.is_null(row) {
        return Value::Null;
    }
    match array.data_type() {
        DataType::Boolean => json!(array.as_boolean().value(row)),
        DataType::Int32 => json!(array.as_primitive::<Int32Type>().value(row)),
        DataType::Int64 => json!(array.as_primitive::<Int64Type>().value(row)),
        DataType::UInt64 => json!(array.as_primitive::<UInt64Type>().value(row)),
        DataType::Float32 => json!(array.as_primitive::<Float32Type>().value(row)),
        DataType::Float64 => json!(array.as_primitive::<Float64Type>().value(row)),
        DataType::Utf8 => json!(array.as_string::<i32>().value(row)),
        DataType::Binary => json!(array.as_binary::<i32>().value(row)),
        DataType::Decimal128(_, _) => json!(array.as_primitive::<Decimal128Type>().value_as_string(row)),
        DataType::Date32 => json!({"days": array.as_primitive::<Date32Type>().value(row)}),
        DataType::Timestamp(_, _) => json!({"us": array.as_primitive::<TimestampMicrosecondType>().value(row)}),
        DataType::List(_) => {
            let list = array.as_list::<i32>().value(row);
            Value::Array((0..list.len()).map(|index| cell(list.as_ref(), index)).collect())
        }
        DataType::Struct(fields) => {
            let columns = fields.iter().zip(array.as_struct().columns());
            let values = columns.map(|(field, column)| (field.name().clone(), cell(column.as_ref(), row)));
            Value::Object(values.filter(|(_, value)| !value.is_null()).collect())
        }
        other => panic!("no test has the type {other}"),
    }
}

/// A file of the shared data; `None`, said aloud, where there is none on this machine.
pub(crate) fn data(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("FOREBAY_DATA")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../../shared/data"), PathBuf::from);
    let path = root.join(path);
    if path.exists() {
        return Some(path);
    }
    assert!(
        std::env::var_os("FOREBAY_REQUIRE_ALL").is_none(),
        "FOREBAY_REQUIRE_ALL is set, and there is no corpus {}: set FOREBAY_DATA",
        path.display()
    );
    eprintln!("skipped, no corpus: set FOREBAY_DATA to the folder that holds {}", path.display());
    None
}
