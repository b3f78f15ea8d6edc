use serde_json::{Value, json};

use crate::support::*;

fn with_path(path: &str) -> std::sync::Arc<dyn forebay_model::ports::Format> {
    format(&json!({"type": "json", "records": path}), "json")
}

#[test]
fn a_list_is_found_by_its_first_byte() {
    for text in [r#"[{"a":1},{"a":2}]"#, "\u{feff}\n [\n  {\"a\":\n1} ,\n {\"a\":2}\n]\n"] {
        for format in [json_format(), with_path("$"), with_path("$[*]"), format(&json!("auto"), "json_array")] {
            let decoded = decode_text(&*format, text);
            assert_eq!(decoded.rows(), [json!({"a":1}), json!({"a":2})], "{text}");
            assert!(decoded.rejects().is_empty());
        }
    }
    assert!(decode_text(&*json_format(), "[ ]").batches.is_empty());
}

#[test]
fn a_malformed_element_costs_only_itself() {
    let text = r#"[{"a":1}, {"a":bad}, {"a":"]}"}, 5, {"a":1]}, , {"a":"\"]"}, {"a":2}}, {"a":3},]"#;
    let decoded = decode_text(&*json_format(), text);
    assert_eq!(
        decoded.rows().iter().map(|row| row["a"].clone()).collect::<Vec<_>>(),
        [json!(1), Value::Null, Value::Null, json!(2), json!(3)],
        "{:?}",
        decoded.rejects()
    );
    let rejects: Vec<_> =
        decoded.rejects().iter().map(|r| (r.code.clone(), String::from_utf8(r.raw.to_vec()).unwrap())).collect();
    let reject = |code: &str, raw: &str| (code.to_owned(), raw.to_owned());
    assert_eq!(
        rejects,
        [
            reject("malformed", r#"{"a":bad}"#),
            reject("not_an_object", "5"),
            reject("malformed", r#"{"a":1]"#),
            reject("malformed", "}"),
            reject("malformed", ""),
            reject("malformed", "}"),
            reject("malformed", ""),
        ]
    );
}

#[test]
fn what_cannot_be_cut_is_one_reject_that_names_the_byte() {
    let decoded = decode_text(&*json_format(), "[{\"a\":1},\n{\"a\":\"open}, {\"a\":2}]");
    assert_eq!(decoded.rows(), [json!({"a":1})]);
    let rejects = decoded.rejects();
    assert_eq!(rejects.len(), 1);
    assert!(rejects[0].message.contains("from byte 10 to its end at byte 31"), "{}", rejects[0].message);
    assert_eq!(rejects[0].raw.as_ref(), b"{\"a\":\"open}, {\"a\":2}]");
    for cut in ["[", "[{\"a\":1}", "[{\"a\":1},", "[{\"a\":1", "[{\"a\":1}, "] {
        assert_eq!(decode_text(&*json_format(), cut).rejects().len(), 1, "{cut}");
    }
}

#[test]
fn records_lie_at_a_path() {
    let text = r#"{"meta":{"Records":[{"no":1}],"s":"]}\"{"},"Records":[{"a":1},{"a":2}],"after":[[{}]]}
        {"Records":[]} {"Records":{"a":3}} {"R":1} {"Records":[{"a":4}]}"#;
    let decoded = decode_text(&*with_path("$.Records[*]"), text);
    assert_eq!(
        decoded.rows(),
        [json!({"a":1}), json!({"a":2}), json!({"a":3}), json!({"a":4})],
        "{:?}",
        decoded.rejects()
    );
    assert_eq!(decoded.rejects().len(), 1);
    assert_eq!(decoded.rejects()[0].raw.as_ref(), b"{\"R\":1}");
    assert_eq!(decoded.rejects()[0].message, "the document has no $.Records");
    let deep =
        r#"{"x":{"rows":0},"data":{"x":1,"rows":[{"a":1}],"y":"}"},"z":0}[1]5 {"data":7}{"data":{"rows":[{"a":2}]}}"#;
    let decoded = decode_text(&*with_path("$.data.rows"), deep);
    assert_eq!(decoded.rows(), [json!({"a":1}), json!({"a":2})]);
    assert_eq!(decoded.rejects().len(), 3, "{:?}", decoded.rejects());
}

#[test]
fn documents_follow_one_another() {
    let decoded = decode_text(&*with_path("$"), "{\"a\":1}{\"a\":\n2} [{\"a\":3}] nonsense {\"a\":4}");
    assert_eq!(decoded.rows().len(), 4);
    assert_eq!(decoded.codes(), [(3, "malformed")]);
}

#[test]
fn documents_around_records_that_are_broken_are_one_reject() {
    for broken in [
        r#"{"Records":"#,
        r#"{"Records":[{"a":1}]"#,
        r#"{"x":[}"#,
        r#"{"x" 1}"#,
        r#"{"Records":[{"a":1}],"x":"#,
        "{5:1}",
    ] {
        let decoded = decode_text(&*with_path("$.Records"), broken);
        assert_eq!(decoded.rejects().len(), 1, "{broken} {:?}", decoded.rejects());
    }
}

#[test]
fn chunks_do_not_matter() {
    let mut text = String::from("{\"meta\":\"");
    text.push_str(&"m".repeat(100_000));
    text.push_str("\",\"Records\" : [");
    for n in 0..200 {
        text.push_str(&format!(
            "  {{\"n\":{n},\"s\":\"\\\"{}ä\"}} {},",
            "x".repeat(n * 15),
            if n % 7 == 0 { ", {]" } else { "" }
        ));
    }
    text.push_str("1]} {\"none\":\"");
    text.push_str(&"n".repeat(200_000));
    text.push_str("\"} {\"Records\":[{\"n\":\"open");
    text.push_str(&"o".repeat(100_000));
    let format = format(&json!({"type": "json", "records": "$.Records", "max_record_bytes": 2000}), "json");
    let schema = format.infer(vec![input(&text)]).unwrap().unwrap();
    let right = decode(&*format, input(&text), &schema);
    assert!(right.codes().iter().any(|(_, code)| *code == "record_too_large"));
    assert!(
        right.rejects().iter().any(|reject| reject.message.contains("no $.Records") && reject.raw.len() == 64 << 10)
    );
    for chunk in [1, 2, 7, 64, 1000, 4096, 70_000] {
        let decoded = decode(&*format, chunked(&text, chunk), &schema);
        for (got, right) in decoded.rejects().iter().zip(right.rejects()) {
            let brief = |r: &forebay_model::Reject| (r.record, r.message.clone(), r.raw.len());
            assert_eq!(brief(got), brief(right), "{chunk}");
        }
        assert_eq!(decoded.print(), right.print(), "{chunk}");
    }
}
