use serde_json::json;

use crate::support::*;

fn csv() -> std::sync::Arc<dyn forebay_model::ports::Format> {
    format(&json!("csv"), "csv")
}

fn csv_with(settings: &serde_json::Value) -> std::sync::Arc<dyn forebay_model::ports::Format> {
    let mut table = json!({"type": "csv"});
    table.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    format(&table, "csv")
}

#[test]
fn torture() {
    let text = "\u{feff}id,text,\"n,o\",\"q\"\"q\"\r\n\
        1,plain,1.5,true\r\n\
        2,\"with, comma\",2,false\r\n\
        \r\n\
        3,\"with \"\"quotes\"\"\",3,true\r\n\
        4,\"two\r\nlines\n\",4,true\n\
        5,\"\",,\n\
        6,,\"\",\n\
        7,5\" pipe,7,true\n\
        8,\"ä€😀\",8,\"false\"";
    let decoded = decode_text(&*csv(), text);
    assert!(decoded.rejects().is_empty(), "{:?}", decoded.rejects());
    assert_eq!(
        decoded.rows(),
        [
            json!({"id":1,"text":"plain","n,o":"1.5","q\"q":true}),
            json!({"id":2,"text":"with, comma","n,o":"2","q\"q":false}),
            json!({"id":3,"text":"with \"quotes\"","n,o":"3","q\"q":true}),
            json!({"id":4,"text":"two\r\nlines\n","n,o":"4","q\"q":true}),
            json!({"id":5,"text":""}),
            json!({"id":6,"n,o":""}),
            json!({"id":7,"text":"5\" pipe","n,o":"7","q\"q":true}),
            json!({"id":8,"text":"ä€😀","n,o":"8","q\"q":false}),
        ]
    );
    assert_eq!(decoded.batches[0].raw_of(3).as_ref(), b"4,\"two\r\nlines\n\",4,true");
}

#[test]
fn ragged_and_badly_quoted_rows_are_rejects() {
    let decoded = decode_text(&*csv(), "a,b,c\n1,2,3\n1,2\n1,2,3,4\n\"1\"x,2,3\n4,5,6\n7,8,\"open\n9,10,11\n");
    assert_eq!(decoded.rows(), [json!({"a":1,"b":2,"c":3}), json!({"a":4,"b":5,"c":6})]);
    let messages: Vec<_> = decoded.rejects().iter().map(|reject| reject.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "the record has 2 fields, the header has 3",
            "the record has 4 fields, the header has 3",
            "field 1 has text after its closing quote",
            "a quoted field is not closed: the record that begins at byte 39 has no end",
        ]
    );
    assert_eq!(decoded.numbers(), [0, 4]);
}

#[test]
fn bytes_that_are_no_utf8_are_a_reject() {
    let decoded = decode_text(&*csv(), b"a,b\nx,y\n\xff,y\nx,\xc3\xa4\n");
    assert_eq!(decoded.rows(), [json!({"a":"x","b":"y"}), json!({"a":"x","b":"ä"})]);
    assert_eq!(decoded.codes(), [(1, "invalid_utf8")]);
}

#[test]
fn null_markers_count_where_they_are_not_quoted() {
    let decoded =
        decode_text(&*csv_with(&json!({"nulls": ["NA", "null", ""]})), "n,s\n1,NA\nNA,\"NA\"\n,null\n2,\"\"\n");
    assert_eq!(decoded.rows(), [json!({"n":1}), json!({"s":"NA"}), json!({}), json!({"n":2,"s":""})]);
    let decoded = decode_text(&*csv_with(&json!({"nulls": []})), "n,s\n1,\n");
    assert_eq!(decoded.rows(), [json!({"n":1,"s":""})]);
}

#[test]
fn settings_do_what_they_say() {
    let text = "1;'a\\'b;c';x\n2;d;y\n";
    let decoded = decode_text(
        &*csv_with(
            &json!({"delimiter": ";", "quote": "'", "escape": "\\", "double_quote": false, "header": false, "columns": ["n", "s", "t"]}),
        ),
        text,
    );
    assert_eq!(decoded.rows(), [json!({"n":1,"s":"a'b;c","t":"x"}), json!({"n":2,"s":"d","t":"y"})]);
    let decoded = decode_text(&*csv_with(&json!({"header": false})), "1,a\n2,b\n3\n");
    assert_eq!(decoded.rows(), [json!({"column_1":1,"column_2":"a"}), json!({"column_1":2,"column_2":"b"})]);
    assert_eq!(decoded.rejects()[0].message, "the record has 1 fields, the first record has 2");
    let tabs = format(&json!("auto"), "tsv");
    assert_eq!(decode_text(&*tabs, "a\tb\n1\tx,y\n").rows(), [json!({"a":1,"b":"x,y"})]);
}

#[test]
fn csv_and_json_lines_share_a_schema() {
    let formats = forebay_format::Formats::from_config(&json!("auto")).unwrap();
    let (json_lines, csv) = (formats.get("json").unwrap(), formats.get("csv").unwrap());
    let schema = json_lines
        .infer(vec![input(r#"{"i":1,"f":1.5,"s":"x","b":true,"t":"2024-01-01T00:00:00Z","o":{"p":1}}"#)])
        .unwrap()
        .unwrap();
    let decoded = decode(
        &*csv,
        input(
            "s,f,i,b,t,o,new\n007,1,2,true,2024-01-01T00:00:00Z,,\nx,1e3,1.0,True,soon,{},5\n-,+1,\" 2\",false,2024-01-01,,\n",
        ),
        &schema,
    );
    assert_eq!(
        decoded.rows(),
        [
            json!({"s":"007","f":1.0,"i":2,"b":true,"t":{"us":1_704_067_200_000_000_i64}}),
            json!({"s":"x","f":1000.0}),
            json!({"s":"-","b":false}),
        ]
    );
    assert_eq!(
        decoded.rescued(),
        [
            None,
            Some(r#"{"i":"1.0","b":"True","t":"soon","o":"{}","new":"5"}"#.to_owned()),
            Some(r#"{"f":"+1","i":" 2","t":"2024-01-01"}"#.to_owned()),
        ]
    );
    let evolution = decoded.evolution.unwrap();
    assert_eq!((evolution.added, evolution.widened), (vec!["new".to_owned()], vec!["i".to_owned()]));
}

#[test]
fn headers_may_differ_from_file_to_file() {
    let format = csv();
    let schema = format.infer(vec![input("a,b\n1,x\n"), input("c,a\n2.5,7\n")]).unwrap().unwrap();
    let names: Vec<_> = schema.fields().iter().map(|field| format!("{} {}", field.name(), field.data_type())).collect();
    assert_eq!(names, ["a Int64", "b Utf8", "c Float64"]);
    let decoded = decode(&*format, input("c,a,a,A,,d\n1.5,2,3,4,5,\n"), &schema);
    assert_eq!(decoded.rows(), [json!({"a":2,"c":1.5})]);
    assert_eq!(decoded.rescued(), [Some(r#"{"a":"3","A":"4","column_5":"5"}"#.to_owned())]);
    assert_eq!(decoded.evolution.unwrap().added, ["column_5"]);
}

#[test]
fn a_header_that_cannot_be_read_is_an_error_with_a_way_out() {
    let schema = csv().infer(vec![input("a\n1\n")]).unwrap().unwrap();
    for bad in [&b"\xff,b\n1,2\n"[..], b"a,\"b\n1,2\n", b"a,b\r1,2\r3,4\r"] {
        let decoded = decode(&*csv(), input(bad), &schema);
        let error = decoded.error.unwrap();
        assert!(error.chain().contains("the CSV header cannot be read"), "{}", error.chain());
        assert!(error.hint().unwrap().contains("header = false"));
    }
    for empty in ["", "a,b\n", "\n\n"] {
        assert!(decode(&*csv(), input(empty), &schema).batches.is_empty());
    }
}

#[test]
fn chunks_do_not_matter() {
    let mut text = String::from("n,s,t\r\n");
    for n in 0..300 {
        text.push_str(&format!("{n},\"{}\"\"\n{}\",x\r\n", "y".repeat(n * 10), "z".repeat(n)));
        text.push_str(if n % 10 == 3 { "1,2\n\n" } else { "" });
        text.push_str(if n % 10 == 5 { "5\" a,\"b\",5\" c\n" } else { "" });
        text.push_str(if n % 50 == 7 { "1,\"x\"y,2\n" } else { "" });
    }
    text.push_str("1,2,\"last\"");
    let format = csv_with(&json!({"max_record_bytes": 2000}));
    let schema = format.infer(vec![input(&text)]).unwrap().unwrap();
    for text in [text.clone(), format!("{text}\n8,\"open {}", "o".repeat(5000)), format!("{text}\n8,9,\"open")] {
        let right = decode(&*format, input(&text), &schema);
        assert!(right.codes().iter().any(|(_, code)| *code == "record_too_large"));
        for chunk in [1, 2, 3, 7, 64, 1000, 4096] {
            assert_eq!(decode(&*format, chunked(&text, chunk), &schema).print(), right.print(), "{chunk}");
        }
    }
}
