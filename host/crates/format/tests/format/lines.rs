use serde_json::{Value, json};

use crate::support::*;

fn text(lines: &[&str]) -> String {
    lines.join("\n")
}

#[test]
fn a_malformed_line_costs_only_itself() {
    let decoded = decode_text(
        &*json_format(),
        text(&[
            r#"{"a":1,"b":"x","l":[1],"o":{"p":true}}"#,
            r#"{"a":2,"b":"y","l":[2],"o":{"p":false},}"#,
            r#"{"a":3,"b":"z""#,
            "",
            r#"{"a":4}"#,
        ]),
    );
    assert_eq!(decoded.rows(), [json!({"a":1,"b":"x","l":[1],"o":{"p":true}}), json!({"a":4})]);
    assert_eq!(decoded.numbers(), [0, 3]);
    assert_eq!(decoded.codes(), [(1, "malformed"), (2, "malformed")]);
    let messages: Vec<_> = decoded.rejects().iter().map(|reject| reject.message.clone()).collect();
    assert_eq!(
        messages,
        [
            "a field's name in double quotes is expected, at byte 39 of the record",
            "a comma or a closing brace is expected, at byte 14 of the record"
        ]
    );
    assert_eq!(decoded.rejects()[1].raw.as_ref(), br#"{"a":3,"b":"z""#);
    assert!(decoded.rejects()[1].retryable);
}

#[test]
fn lines_end_in_either_way_and_the_last_may_not() {
    for newline in ["\n", "\r\n", "\n\r\n \t\n"] {
        let text = format!("\u{feff}{{\"a\":1}}{newline}{{\"a\":2}}{newline}{{\"a\":3}}");
        for text in [text.clone(), format!("{text}{newline}"), format!("{newline}{text}").replace('\u{feff}', "")] {
            let decoded = decode_text(&*json_format(), &text);
            assert_eq!(decoded.rows(), [json!({"a":1}), json!({"a":2}), json!({"a":3})], "{text:?}");
            assert!(decoded.rejects().is_empty());
            assert_eq!(decoded.batches[0].raw_of(1).as_ref(), b"{\"a\":2}");
        }
    }
    assert!(decode_text(&*json_format(), "\n \n").batches.is_empty());
    assert!(decode_text(&*json_format(), "").batches.is_empty());
}

#[test]
fn bytes_that_are_no_utf8_are_a_reject() {
    let decoded = decode_text(&*json_format(), b"{\"a\":\"x\"}\n{\"a\":\"\xff\"}\n{\"a\":\"\xc3\xa4\"}\n");
    assert_eq!(decoded.rows(), [json!({"a":"x"}), json!({"a":"ä"})]);
    assert_eq!(decoded.codes(), [(1, "invalid_utf8")]);
    assert_eq!(decoded.rejects()[0].message, "the record is not UTF-8, from its byte 6 on");
}

#[test]
fn what_is_no_object_is_a_reject_of_its_own() {
    let decoded = decode_text(&*json_format(), text(&["{\"a\":1}", "[1", "[1]", "\"a\"", "1", "null", "nul"]));
    assert_eq!(
        decoded.codes(),
        [
            (1, "malformed"),
            (2, "not_an_object"),
            (3, "not_an_object"),
            (4, "not_an_object"),
            (5, "not_an_object"),
            (6, "malformed")
        ]
    );
}

#[test]
fn fields_come_in_any_order_and_may_be_missing() {
    let decoded = decode_text(
        &*json_format(),
        text(&[
            r#"{"a":1,"b":2,"c":3}"#,
            r#"{"c":3,"b":2,"a":1}"#,
            r#"{"a":1,"c":3}"#,
            "{}",
            r#"{ "b" : 2 , "a":null }"#,
            r#"{"\u0061":1,"a_very_long_name_of_a_field_indeed":4}"#,
            r#"{"a_very_long_name_of_a_field_indeex":5}"#,
            r#"{"a_very_long_name_of_a_field_indeed":6,"b":7}"#,
        ]),
    );
    let long = "a_very_long_name_of_a_field_indeed";
    assert_eq!(
        decoded.rows(),
        [
            json!({"a":1,"b":2,"c":3}),
            json!({"a":1,"b":2,"c":3}),
            json!({"a":1,"c":3}),
            json!({}),
            json!({"b":2}),
            json!({"a":1, long:4}),
            json!({"a_very_long_name_of_a_field_indeex":5}),
            json!({long:6,"b":7}),
        ]
    );
    assert!(decoded.rescued().iter().all(Option::is_none));
}

#[test]
fn names_that_need_escapes_are_found() {
    let line = r#"{"a\"b":1,"c\\d":2,"e\n":3,"f":4}"#;
    let decoded = decode_text(&*json_format(), text(&[line, line, r#"{"""1}"#, r#"{"a"b":1}"#]));
    let right = json!({"a\"b":1,"c\\d":2,"e\n":3,"f":4});
    assert_eq!(decoded.rows(), [right.clone(), right]);
    assert_eq!(decoded.codes(), [(2, "malformed"), (3, "malformed")]);
}

#[test]
fn what_does_not_fit_is_rescued_as_it_was_written() {
    let format = json_format();
    let schema = format
        .infer(vec![input(r#"{"n":1,"t":"x","f":1.5,"b":true,"at":"2024-01-01T00:00:00Z","o":{"p":1}}"#)])
        .unwrap()
        .unwrap();
    let decoded = decode(
        &*format,
        input(text(&[
            r#"{"n":"1","t":2,"f":"1.5","b":0,"at":"soon","o":[ 1 ]}"#,
            r#"{"n":1.10,"t":true,"f":9007199254740993,"b":"true","at":"2024-01-01T00:00:00.0000001Z","o":{"p":1e1}}"#,
            r#"{"n":9223372036854775808,"t":"\ud800","f":1e999,"o":"\u00e4"}"#,
        ])),
        &schema,
    );
    assert_eq!(decoded.rows(), [json!({}), json!({"o":{}}), json!({})]);
    assert_eq!(
        decoded.rescued().into_iter().flatten().collect::<Vec<_>>(),
        [
            r#"{"n":"1","t":2,"f":"1.5","b":0,"at":"soon","o":[ 1 ]}"#,
            r#"{"n":1.10,"t":true,"f":9007199254740993,"b":"true","at":"2024-01-01T00:00:00.0000001Z","o.p":1e1}"#,
            r#"{"n":9223372036854775808,"t":"\ud800","f":1e999,"o":"\u00e4"}"#,
        ]
    );
}

#[test]
fn a_conflict_in_a_struct_costs_its_field_and_one_in_a_list_the_list() {
    let format = json_format();
    let schema = format
        .infer(vec![input(r#"{"g":{"x":1,"in":{"y":2}},"l":[{"q":1,"r":[1]}],"d":{"l":[[1]]}}"#)])
        .unwrap()
        .unwrap();
    let decoded = decode(
        &*format,
        input(text(&[
            r#"{"g":{"x":"no","in":{"y":2}},"l":[{"q":1},{"q":"no","new":1}],"d":{"l":[[1],["no"]]}}"#,
            r#"{"g":{"x":1,"in":{"y":"no"}},"l":[{"q":1,"r":[7,8]},{"q":2,"new":[3]}],"d":{"l":[[1],[]]}}"#,
            r#"{"g":{"x":1,"new":{"z":0}},"l":[{"r":[1,null]},null,{"q":3}],"d":{"l":[null,[2]]}}"#,
        ])),
        &schema,
    );
    assert_eq!(
        decoded.rows(),
        [
            json!({"g":{"in":{"y":2}},"d":{}}),
            json!({"g":{"x":1,"in":{}},"l":[{"q":1,"r":[7,8]},{"q":2}],"d":{"l":[[1],[]]}}),
            json!({"g":{"x":1},"l":[{"r":[1,null]},null,{"q":3}],"d":{"l":[null,[2]]}}),
        ]
    );
    assert_eq!(
        decoded.rescued().into_iter().flatten().collect::<Vec<_>>(),
        [
            r#"{"g.x":"no","l":[{"q":1},{"q":"no","new":1}],"d.l":[[1],["no"]]}"#,
            r#"{"g.in.y":"no","l[1].new":[3]}"#,
            r#"{"g.new":{"z":0}}"#,
        ]
    );
}

#[test]
fn the_later_of_two_fields_of_one_name_is_rescued() {
    let decoded = decode_text(
        &*json_format(),
        text(&[r#"{"a":1,"a":2,"a":"x"}"#, r#"{"a":null,"a":3}"#, r#"{"o":{"b":1,"b":2}}"#, r#"{"a":"x","a":4}"#]),
    );
    assert_eq!(decoded.rows(), [json!({"a":1}), json!({}), json!({"o":{"b":1}}), json!({})]);
    let rescued = decoded.rescued();
    assert_eq!(rescued[0].as_deref(), Some(r#"{"a":2,"a#2":"x"}"#));
    assert_eq!(rescued[1].as_deref(), Some(r#"{"a":3}"#));
    assert_eq!(rescued[2].as_deref(), Some(r#"{"o.b":2}"#));
    assert_eq!(rescued[3].as_deref(), Some(r#"{"a":"x","a#2":4}"#));
}

#[test]
fn reserved_names_and_other_spellings_are_rescued() {
    let decoded = decode_text(
        &*json_format(),
        text(&[r#"{"id":1,"ID":2,"_forebay_row":3,"_FOREBAY_x":4,"":5}"#, r#"{"Id":6,"new":{"_forebay_row":7}}"#]),
    );
    assert_eq!(decoded.rows(), [json!({"ID":2}), json!({"new":{"_forebay_row":7}})]);
    assert_eq!(
        decoded.rescued().into_iter().flatten().collect::<Vec<_>>(),
        [r#"{"id":1,"_forebay_row":3,"_FOREBAY_x":4,"":5}"#, r#"{"Id":6}"#]
    );
    assert!(decoded.evolution.is_none());
}

#[test]
fn a_malformed_record_leaves_nothing_in_any_column() {
    // Each record breaks off at another place; the rows around them must not notice.
    let good = r#"{"s":"abc","n":1,"f":2.5,"b":true,"t":"2024-01-01T00:00:00Z","l":[{"q":["x"]}],"o":{"p":{"v":"w"}}}"#;
    let mut lines = vec![good.to_owned()];
    for end in 1..good.len() {
        lines.push(good[..end].to_owned());
        lines.push(good.to_owned());
    }
    let decoded = decode_text(&*json_format(), lines.join("\n"));
    let first = decoded.rows()[0].clone();
    assert_eq!(decoded.rows().len(), good.len());
    assert!(decoded.rows().iter().all(|row| *row == first));
    assert_eq!(decoded.rejects().len(), good.len() - 1);
    assert!(decoded.rescued().iter().all(Option::is_none));
}

#[test]
fn batches_have_a_fixed_number_of_records_rejects_counted() {
    let lines: Vec<String> =
        (0..20_000).map(|n| if n % 1000 == 7 { "{bad".to_owned() } else { format!("{{\"n\":{n}}}") }).collect();
    let decoded = decode_text(&*json_format(), lines.join("\n"));
    let sizes: Vec<u32> = decoded.batches.iter().map(|batch| batch.records).collect();
    assert_eq!(sizes, [8192, 8192, 3616]);
    assert_eq!(decoded.rejects().len(), 20);
    for (number, row) in decoded.numbers().into_iter().zip(decoded.rows()) {
        assert_eq!(row, json!({"n": number}));
    }
}

#[test]
fn chunks_do_not_matter() {
    let mut lines = vec!["\u{feff}{\"a\":\"ä€😀\",\"n\":1}".to_owned(), "\r".to_owned(), String::new()];
    for n in 0..300 {
        lines.push(format!("{{\"n\":{n},\"a\":\"{}\",\"x{n}\":[{n}]}}\r", "z".repeat(n)));
        lines.push("{\"n\":".to_owned());
        lines.push(format!("{{\"long\":\"{}\"}}", "y".repeat(n * 20)));
    }
    let text = lines.join("\n");
    let format = format(&json!({"type": "json", "max_record_bytes": 2000, "max_columns": 50}), "json");
    let schema = format.infer(vec![input(&text)]).unwrap().unwrap();
    let right = decode(&*format, input(&text), &schema);
    assert!(right.codes().iter().any(|(_, code)| *code == "record_too_large"));
    for chunk in [1, 2, 7, 64, 1000, 4096] {
        assert_eq!(decode(&*format, chunked(&text, chunk), &schema).print(), right.print(), "{chunk}");
    }
}

#[test]
fn declared_types_override_inference() {
    let format = format(
        &json!({"type": "json", "schema": {
            "price": "decimal(10,2)", "small": "int32", "big": "uint64", "day": "date", "raw": "binary",
            "id": "string", "tags": "list<string>", "only": "float32", "at": "timestamp"}}),
        "json",
    );
    let decoded = decode_text(
        &*format,
        text(&[
            r#"{"id":"7","price":12.3,"small":5,"big":18446744073709551615,"day":"2024-02-29","raw":"AQI=","tags":["a"],"more":1}"#,
            r#"{"id":7,"price":"12.34","small":3000000000,"big":-1,"day":"2024-02-30","raw":"A","tags":[1],"more":2.5,"at":"2024-01-01"}"#,
            r#"{"price":12.345}"#,
        ]),
    );
    assert_eq!(
        decoded.rows(),
        [
            json!({"id":"7","price":"12.30","small":5,"big":u64::MAX,"day":{"days":19782},"raw":[1,2],"tags":["a"],"more":1.0}),
            json!({"price":"12.34","more":2.5}),
            json!({}),
        ]
    );
    assert_eq!(
        decoded.rescued()[1].as_deref(),
        Some(r#"{"id":7,"small":3000000000,"big":-1,"day":"2024-02-30","raw":"A","tags":[1],"at":"2024-01-01"}"#)
    );
    let names: Vec<_> = decoded.schema.fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["id", "price", "small", "big", "day", "raw", "tags", "more", "at", "only"]);
    assert!(decoded.evolution.is_none(), "a declared column does not widen");
}

#[test]
fn a_zone_is_for_times_without_one() {
    let format = format(&json!({"type": "json", "zone": "+02:00"}), "json");
    let decoded = decode_text(&*format, r#"{"at":"2024-06-01T12:00:00"}"#);
    assert_eq!(decoded.rows(), [json!({"at":{"us": 1_717_236_000_000_000_i64}})]);
    assert_eq!(
        decode_text(&*json_format(), r#"{"at":"2024-06-01T12:00:00"}"#).rows(),
        [json!({"at":"2024-06-01T12:00:00"})]
    );
}

#[test]
fn an_error_comes_after_the_rows_before_it() {
    use forebay_format::decompress;
    use forebay_model::{Compression, ErrorClass, ports::SegmentInput};
    use std::io::Write;
    let lines: String =
        (0..50_000_u32).map(|n| format!("{{\"n\":{n},\"h\":{}}}\n", n.wrapping_mul(2_654_435_761))).collect();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(lines.as_bytes()).unwrap();
    let mut bytes = gzip.finish().unwrap();
    bytes.truncate(bytes.len() / 2);
    let open =
        || SegmentInput::Bytes(decompress(Box::new(std::io::Cursor::new(bytes.clone())), Compression::Gzip).unwrap());
    let format = json_format();
    let schema = format.infer(vec![open()]).unwrap().unwrap();
    let decoded = decode(&*format, open(), &schema);
    assert!(decoded.rows().len() > 20_000, "{}", decoded.rows().len());
    assert!(decoded.rejects().is_empty(), "what was cut off is no record");
    for (number, row) in decoded.rows().iter().enumerate() {
        assert_eq!(row["n"], Value::from(number));
    }
    let error = decoded.error.unwrap();
    assert_eq!(error.class(), ErrorClass::Operator);
    assert!(error.chain().contains("cut off after"), "{}", error.chain());
    assert!(error.hint().is_some());
}
