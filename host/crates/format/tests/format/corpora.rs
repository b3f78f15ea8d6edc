//! Data that nobody made up. Where it is not on this machine the test says so and passes.

use std::fs;
use std::sync::Arc;

use arrow_array::{Array, BinaryArray, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use forebay_model::ports::SegmentInput;
use serde_json::{Value, json};

use crate::support::*;

/// One document, whatever bytes it has.
fn one(document: &[u8]) -> SegmentInput {
    let schema = Schema::new(vec![Field::new("value", DataType::Binary, true)]);
    let value: Arc<dyn Array> = Arc::new(BinaryArray::from(vec![document]));
    let batch = RecordBatch::try_new(Arc::new(schema), vec![value]).unwrap();
    SegmentInput::Records(Box::new(std::iter::once(Ok(batch))))
}

fn schema_of(document: &[u8]) -> SchemaRef {
    json_format().infer(vec![one(document)]).unwrap().unwrap_or_else(|| Arc::new(Schema::empty()))
}

#[test]
fn json_test_suite() {
    let Some(folder) = data("json/JSONTestSuite/test_parsing") else { return };
    let mut count = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let text = fs::read(entry.path()).unwrap();
        count += 1;
        // Alone, as a field's value of a known or an unknown type, and as an element of a list.
        let alone = decode(&*json_format(), one(&text), &schema_of(&text));
        let inside = [b"{\"x\":", &text[..], b"}"].concat();
        let unknown = decode(&*json_format(), one(&inside), &Arc::new(Schema::empty()));
        let known = decode(&*json_format(), one(&inside), &schema_of(&inside));
        let element = [b"[", &text[..], b"]"].concat();
        let list =
            decode(&*format(&json!({"type": "json", "records": "$"}), "json"), input(element), &schema_of(&text));
        match name.as_bytes() {
            [b'y', ..] => {
                let object = text.trim_ascii_start().first() == Some(&b'{');
                assert_eq!(alone.rows().len(), usize::from(object), "{name} {:?}", alone.rejects());
                assert!(alone.rejects().iter().all(|reject| reject.code == "not_an_object"), "{name}");
                assert_eq!(unknown.rows().len(), 1, "{name} {:?}", unknown.rejects());
                assert_eq!(known.rows().len(), 1, "{name} {:?}", known.rejects());
                assert!(list.rejects().iter().all(|reject| reject.code == "not_an_object"), "{name}");
                assert_eq!(list.rows().len(), usize::from(object), "{name}");
            }
            [b'n', ..] => {
                assert!(alone.rows().is_empty() && alone.rejects().len() == 1, "{name} {:?}", alone.rows());
                assert!(unknown.rows().is_empty() && unknown.rejects().len() == 1, "{name}");
                assert!(known.rows().is_empty() && known.rejects().len() == 1, "{name}");
            }
            _ => {}
        }
        let lines = decode(&*json_format(), input(&text), &schema_of(&text));
        assert!(lines.error.is_none(), "{name}");
    }
    assert!(count > 300, "{count}");
}

#[test]
fn naughty_strings_come_back_unchanged() {
    let Some(path) = data("json/blns/blns.json") else { return };
    let strings: Vec<String> = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    assert!(strings.len() > 400);
    let lines: Vec<String> = strings.iter().map(|text| json!({"s": text, "t": "text"}).to_string()).collect();
    let schema = schema_of(br#"{"s":"text","t":"text"}"#);
    let decoded = decode(&*json_format(), input(lines.join("\n")), &schema);
    let back: Vec<String> = decoded.rows().iter().map(|row| row["s"].as_str().unwrap().to_owned()).collect();
    assert_eq!(back, strings);
    // As names of fields and through rescue.
    let lines: Vec<String> = strings.iter().map(|text| json!({text.as_str(): text}).to_string()).collect();
    let decoded = decode(&*json_format(), input(lines.join("\n")), &Arc::new(Schema::empty()));
    for (rescued, text) in decoded.rescued().iter().zip(&strings) {
        let rescued: Value = serde_json::from_str(rescued.as_ref().unwrap()).unwrap();
        assert_eq!(rescued, json!({text.as_str(): text}));
    }
    // And through CSV.
    let quoted: Vec<String> = strings.iter().map(|text| format!("\"{}\"", text.replace('"', "\"\""))).collect();
    let csv = format!("s\n{}\n", quoted.join("\n"));
    let decoded = decode(&*format(&json!("csv"), "csv"), input(csv), &schema_of(br#"{"s":"text"}"#));
    let back: Vec<String> = decoded.rows().iter().map(|row| row["s"].as_str().unwrap().to_owned()).collect();
    assert_eq!(back, strings);
}

#[test]
fn movies() {
    let Some(path) = data("events/movies.json") else { return };
    let text = fs::read(path).unwrap();
    let format = json_format();
    let schema = format.infer(vec![input(&text)]).unwrap().unwrap();
    assert_eq!(schema.field_with_name("Title").unwrap().data_type(), &DataType::Utf8);
    assert_eq!(schema.field_with_name("IMDB Rating").unwrap().data_type(), &DataType::Float64);
    let decoded = decode(&*format, input(&text), &schema);
    assert!(decoded.rejects().is_empty());
    let right: Vec<Value> = serde_json::from_slice(&text).unwrap();
    assert_eq!(right.len(), 3201);
    let rows = decoded.rows();
    let (mut titles, mut integers) = (0, 0);
    for ((row, rescued), right) in rows.iter().zip(decoded.rescued()).zip(&right) {
        titles += usize::from(row.get("Title").is_some());
        let rescued: Value = rescued.map_or(Value::Null, |text| serde_json::from_str(&text).unwrap());
        integers += usize::from(rescued["Title"].is_i64());
        for (name, value) in right.as_object().unwrap().iter().filter(|(_, value)| !value.is_null()) {
            let got = row.get(name).unwrap_or(&rescued[name]);
            assert!(got == value || got.as_f64().is_some() && got.as_f64() == value.as_f64(), "{name}: {got} {value}");
        }
    }
    assert_eq!((titles, integers), (3191, 9));
    assert!(decoded.evolution.is_none());
}

#[test]
fn singer_streams_change_their_schema_midway() {
    let Some(folder) = data("singer/streams") else { return };
    for entry in fs::read_dir(&folder).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        let right: Vec<Result<Value, _>> =
            text.lines().filter(|line| !line.trim().is_empty()).map(serde_json::from_str).collect();
        let decoded = decode_text(&*json_format(), &text);
        assert_eq!(decoded.rows().len(), right.iter().filter(|line| line.is_ok()).count());
        assert_eq!(decoded.rejects().len(), right.iter().filter(|line| line.is_err()).count());
    }
    // The records as a stream of their own: a field comes in the middle, and is there after one evolution.
    let text = fs::read_to_string(folder.join("schema_updates.singer")).unwrap();
    let records: Vec<Value> = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|line| line.get("record").cloned())
        .collect();
    let lines = |records: &[Value]| records.iter().map(|record| format!("{record}\n")).collect::<String>();
    let format = json_format();
    let schema = format.infer(vec![input(lines(&records[..1]))]).unwrap().unwrap();
    let decoded = decode(&*format, input(lines(&records)), &schema);
    assert_eq!(decoded.rows().len(), records.len());
    let grown = decoded.evolution.unwrap();
    assert!(!grown.added.is_empty());
    let again = decode(&*format, input(lines(&records)), &grown.schema);
    assert!(again.rescued().iter().all(Option::is_none), "{:?}", again.rescued());
}

#[test]
fn nested_web_logs() {
    let Some(path) = data("events/nginxplus_json_logs") else { return };
    let folder = if path.is_dir() {
        fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()).collect()
    } else {
        vec![path]
    };
    for path in folder {
        let text = fs::read(path).unwrap();
        let decoded = decode_text(&*json_format(), &text);
        assert_eq!(decoded.rows().len() + decoded.rejects().len(), 500);
        assert!(decoded.rejects().is_empty());
        for (row, line) in decoded.rows().iter().zip(text.split(|&byte| byte == b'\n')) {
            let right: Value = serde_json::from_slice(line).unwrap();
            assert_eq!(
                row.as_object().unwrap().len(),
                right.as_object().unwrap().values().filter(|value| !is_untyped(value)).count()
            );
        }
    }
}

fn is_untyped(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(object) => object.is_empty(),
        _ => false,
    }
}
