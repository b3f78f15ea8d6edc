use std::sync::Arc;

use arrow_array::{Array, BinaryArray, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use forebay_model::ports::SegmentInput;
use serde_json::json;

use crate::support::*;

fn batch(values: &[Option<&[u8]>], first: usize) -> RecordBatch {
    let positions: Vec<String> = (first..first + values.len()).map(|position| position.to_string()).collect();
    let schema = Schema::new(vec![
        Field::new("position", DataType::Utf8, true),
        Field::new("value", DataType::Binary, true),
        Field::new("key", DataType::Binary, true),
    ]);
    let keys = BinaryArray::from(vec![Some(&b"k"[..]); values.len()]);
    let columns: Vec<Arc<dyn Array>> =
        vec![Arc::new(StringArray::from(positions)), Arc::new(BinaryArray::from(values.to_vec())), Arc::new(keys)];
    RecordBatch::try_new(Arc::new(schema), columns).unwrap()
}

fn records(batches: Vec<RecordBatch>) -> SegmentInput {
    SegmentInput::Records(Box::new(batches.into_iter().map(Ok)))
}

#[test]
fn each_value_is_a_document() {
    let make = || {
        vec![
            batch(&[Some(b"{\"a\":\n1}\n"), None, Some(b"")], 10),
            batch(&[], 13),
            batch(&[Some(b"{\"a\":2}{\"a\":3}"), Some(b"{\"a\":\"\xff\"}"), Some(b"{\"a\":4}")], 13),
        ]
    };
    let format = json_format();
    let schema = format.infer(vec![records(make())]).unwrap().unwrap();
    let decoded = decode(&*format, records(make()), &schema);
    assert_eq!(decoded.rows(), [json!({"a":1}), json!({"a":4})]);
    assert_eq!(decoded.codes(), [(1, "malformed"), (2, "malformed"), (3, "malformed"), (4, "invalid_utf8")]);
    let tombstone = decoded.rejects()[0];
    assert_eq!((tombstone.message.as_str(), tombstone.retryable), ("the record has no value", false));
    let columns = decoded.batches[0].record_columns.clone().unwrap();
    assert_eq!(columns.num_rows(), 2);
    assert_eq!(
        columns.schema().fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>(),
        ["position", "key"]
    );
    let positions = columns.column(0).as_any().downcast_ref::<StringArray>().unwrap();
    assert_eq!((positions.value(0), positions.value(1)), ("10", "15"));
    assert_eq!(decoded.batches[0].raw_of(0).as_ref(), b"{\"a\":\n1}\n");
}

#[test]
fn boundaries_do_not_depend_on_how_the_envelope_was_written() {
    let values: Vec<Vec<u8>> = (0..10_000).map(|n| format!("{{\"n\":{n}}}").into_bytes()).collect();
    let values: Vec<Option<&[u8]>> = values.iter().map(|value| Some(value.as_slice())).collect();
    let format = json_format();
    let schema = format.infer(vec![records(vec![batch(&values[..10], 0)])]).unwrap().unwrap();
    let whole = decode(&*format, records(vec![batch(&values, 0)]), &schema);
    let parts = values.chunks(777).enumerate().map(|(index, part)| batch(part, index * 777)).collect();
    let parts = decode(&*format, records(parts), &schema);
    assert_eq!(whole.batches.iter().map(|batch| batch.records).collect::<Vec<_>>(), [8192, 1808]);
    assert_eq!(whole.print(), parts.print());
    assert_eq!(whole.batches[1].record_columns, parts.batches[1].record_columns);
}

#[test]
fn an_error_comes_after_the_records_before_it() {
    let batches = vec![Ok(batch(&[Some(b"{\"a\":1}")], 0)), Err(forebay_model::Error::retry("the disk went away"))];
    let format = json_format();
    let schema = format.infer(vec![records(vec![batch(&[Some(b"{\"a\":1}")], 0)])]).unwrap().unwrap();
    let decoded = decode(&*format, SegmentInput::Records(Box::new(batches.into_iter())), &schema);
    assert_eq!(decoded.rows().len(), 1);
    assert_eq!(decoded.error.unwrap().class(), forebay_model::ErrorClass::Retry);
}

#[test]
fn csv_records_have_names_from_the_settings() {
    let named = format(&json!({"type": "csv", "header": false, "columns": ["a", "b"]}), "csv");
    let make = || records(vec![batch(&[Some(b"1,\"x\ny\""), Some(b"2,z\r\n")], 0)]);
    let schema = named.infer(vec![make()]).unwrap().unwrap();
    let decoded = decode(&*named, make(), &schema);
    assert_eq!(decoded.rows(), [json!({"a":1,"b":"x\ny"}), json!({"a":2,"b":"z"})]);
    let error = format(&json!("csv"), "csv").open(make(), &schema).err().unwrap();
    assert!(error.hint().unwrap().contains("header = false"));
}
