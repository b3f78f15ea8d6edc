//! What holds for every input, tried on many.

use std::sync::Arc;

use arrow_schema::Schema;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::support::*;

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-5_i64..100).prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-1e9_f64..1e9).prop_map(Value::from),
        "[a-z\"\\\\\u{0}-\u{1f}ä€😀 ]{0,40}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map("[a-cA \"]{0,2}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn record() -> impl Strategy<Value = Value> {
    prop::collection::hash_map("[a-eA]{0,2}|a_rather_long_name_of_a_field|_forebay_x", value(), 0..6)
        .prop_map(|map| Value::Object(map.into_iter().collect()))
}

/// Without nulls in objects, which say no more than a field's absence; numbers by their value.
fn plain(value: &Value) -> Value {
    match value {
        Value::Object(object) => {
            Value::Object(object.iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k.clone(), plain(v))).collect())
        }
        Value::Array(list) => Value::Array(list.iter().map(plain).collect()),
        Value::Number(number) => json!(format!("{:?}", number.as_f64().unwrap())),
        other => other.clone(),
    }
}

/// Puts what was rescued back into its row.
fn restore(row: &Value, rescued: Option<&str>) -> Value {
    let mut row = row.clone();
    let rescued: Map<String, Value> = rescued.map(|text| serde_json::from_str(text).unwrap()).unwrap_or_default();
    for (path, value) in rescued {
        put(&mut row, &path, value);
    }
    row
}

fn put(place: &mut Value, path: &str, value: Value) {
    // The names of these records have neither dots nor brackets.
    if let Some(rest) = path.strip_prefix('[') {
        let (index, rest) = rest.split_once(']').unwrap();
        let place = &mut place[index.parse::<usize>().unwrap()];
        return put(place, rest.strip_prefix('.').unwrap_or(rest), value);
    }
    match path.find(['.', '[']) {
        Some(end) => {
            let (name, rest) = path.split_at(end);
            put(&mut place[name], rest.strip_prefix('.').unwrap_or(rest), value);
        }
        None => {
            assert!(place.as_object_mut().unwrap().insert(path.to_owned(), value).is_none(), "{path} stands in both");
        }
    }
}

/// Decimals and timestamps have a form of their own in the rows of the tests.
fn same(restored: &Value, right: &Value) -> bool {
    match (restored, right) {
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(k, v)| b.get(k).is_some_and(|w| same(v, w)))
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(v, w)| same(v, w)),
        (Value::String(decimal), Value::Number(number)) => *decimal == number.to_string(),
        (a, b) => plain(a) == plain(b),
    }
}

fn lines(records: &[Value]) -> String {
    records.iter().map(|record| format!("{record}\n")).collect()
}

fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(object) => Value::Object(
            object.iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k.clone(), without_nulls(v))).collect(),
        ),
        Value::Array(list) => Value::Array(list.iter().map(without_nulls).collect()),
        other => other.clone(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn rows_and_what_was_rescued_are_the_input(sample in prop::collection::vec(record(), 0..6), more in prop::collection::vec(record(), 0..6)) {
        let format = json_format();
        let schema = format.infer(vec![input(lines(&sample))]).unwrap().unwrap_or_else(|| Arc::new(Schema::empty()));
        let all = [sample, more].concat();
        let mut schema = schema;
        // Under the first schema, and under those that it grows to.
        for _ in 0..4 {
            let decoded = decode(&*format, input(lines(&all)), &schema);
            prop_assert!(decoded.rejects().is_empty(), "{:?}", decoded.rejects());
            prop_assert_eq!(decoded.rows().len(), all.len());
            for ((row, rescued), right) in decoded.rows().iter().zip(decoded.rescued()).zip(&all) {
                let restored = without_nulls(&restore(row, rescued.as_deref()));
                prop_assert!(same(&restored, &without_nulls(right)), "{} {} {:?}", restored, right, schema);
            }
            match decoded.evolution {
                Some(evolution) => schema = evolution.schema,
                None => break,
            }
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), chunk in 1_usize..50) {
        for (config, name) in [(json!("json"), "json"), (json!("auto"), "json_array"), (json!("csv"), "csv"), (json!({"type": "json", "records": "$.a"}), "json")] {
            let format = format(&config, name);
            if let Ok(Some(schema)) = format.infer(vec![input(&bytes)]) {
                let whole = decode(&*format, input(&bytes), &schema).print();
                prop_assert_eq!(decode(&*format, chunked(&bytes, chunk), &schema).print(), whole);
            }
        }
    }

    #[test]
    fn json_like_bytes_never_panic(text in "([\\[\\]{}\",:\n]|\"a\"|\"b\\\\|1|-0\\.5e1|true|null| |ä){0,60}", chunk in 1_usize..9) {
        let schema = json_format().infer(vec![input(r#"{"a":[{"a":1}],"b":"x"}"#)]).unwrap().unwrap();
        for (config, name) in [(json!("json"), "json"), (json!("auto"), "json_array"), (json!({"type": "json", "records": "$.a"}), "json")] {
            let format = format(&config, name);
            let whole = decode(&*format, input(&text), &schema);
            prop_assert!(whole.error.is_none());
            prop_assert_eq!(decode(&*format, chunked(&text, chunk), &schema).print(), whole.print());
        }
        // What serde_json takes for a line with an object is a row, and nothing else is.
        let right: Vec<bool> = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)).filter(|line| !line.trim().is_empty())
            .map(|line| serde_json::from_str::<Map<String, Value>>(line).is_ok()).collect();
        if !text.trim_start().starts_with('[') {
            let decoded = decode(&*json_format(), input(&text), &schema);
            let rows: Vec<bool> = (0..right.len() as u64).map(|number| decoded.numbers().contains(&number)).collect();
            prop_assert_eq!(rows, right);
        }
    }

    #[test]
    fn csv_like_bytes_never_panic(text in "([,\n\"x1]|\r\n|ä){0,60}", chunk in 1_usize..9) {
        let format = format(&json!("csv"), "csv");
        let text = format!("a,b\n{text}");
        if let Some(schema) = format.infer(vec![input(&text)]).unwrap() {
            let whole = decode(&*format, input(&text), &schema);
            prop_assert!(whole.error.is_none());
            prop_assert_eq!(decode(&*format, chunked(&text, chunk), &schema).print(), whole.print());
        }
    }

    #[test]
    fn csv_gives_back_what_was_written(rows in prop::collection::vec(("[a-c,\"\n\r ä]{0,8}", "[a-c,\"\n\r ä]{0,8}"), 0..8)) {
        let quote = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
        let text: String = rows.iter().map(|(a, b)| format!("{},{}\r\n", quote(a), quote(b))).collect();
        let schema = json_format().infer(vec![input(r#"{"a":"x","b":"y"}"#)]).unwrap().unwrap();
        let decoded = decode(&*format(&json!("csv"), "csv"), input(format!("a,b\n{text}")), &schema);
        let right: Vec<Value> = rows.iter().map(|(a, b)| json!({"a": a, "b": b})).collect();
        prop_assert_eq!(decoded.rows(), right);
    }
}
