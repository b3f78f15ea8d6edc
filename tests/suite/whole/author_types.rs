//! A case's input has the same columns and the same rows natively and in the sandbox: the SDK's harness and the host's decoding
//! are given the same texts. (Integers beyond 64 bits are the exception: the harness refuses them.)

use std::io::Cursor;

use arrow_json::WriterBuilder;
use arrow_json::writer::JsonArray;
use arrow_schema::SchemaRef;
use forebay_format::Formats;
use forebay_model::ports::SegmentInput;
use forebay_sdk::testing::Harness;
use forebay_sdk::{Batch, BindError, InputSchema, Output, Plan, RuleError, Transform, export};
use serde_json::{Value, json};

#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
struct Config {}

/// Everything passes.
#[derive(Debug)]
struct Pass;

impl Transform for Pass {
    type Config = Config;
    fn new(_: Config, input: &InputSchema) -> Result<(Self, Plan), BindError> {
        Ok((Self, Plan::new(input).route("out", |columns| columns.pass_all())))
    }
    fn process(&mut self, _: &Batch, output: &mut Output) -> Result<(), RuleError> {
        output.emit_all("out").send()
    }
}

export!(Pass, doc = "");

type Decoded = (SchemaRef, Vec<Value>);

/// `None` where the harness refuses the text.
fn natively(kind: &str, text: &str) -> Option<Decoded> {
    let harness = Harness::<Pass>::new();
    let harness = if kind == "csv" { harness.input_csv(text) } else { harness.input_json(text) };
    let outcome = harness.run().ok()?;
    Some((outcome.schema("out")?.clone(), outcome.rows("out")))
}

/// `None` where a record is malformed, a value is put aside, or there is no column.
fn by_the_host(kind: &str, text: &str) -> Option<Decoded> {
    let formats = Formats::from_config(&json!(kind)).unwrap();
    let format = formats.get(formats.detect("input", text.as_bytes()).unwrap()).unwrap();
    let input = || SegmentInput::Bytes(Box::new(Cursor::new(text.as_bytes().to_vec())));
    let schema = format.infer(vec![input()]).unwrap()?;
    let mut decoder = format.open(input(), &schema).ok()?;
    let mut rows = Vec::new();
    while let Some(decoded) = decoder.next_batch().unwrap() {
        if !decoded.rejects.is_empty() || decoded.rescued.iter().any(|rescued| rescued.is_some()) {
            return None;
        }
        let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, JsonArray>(Vec::new());
        writer.write(&decoded.batch).and_then(|()| writer.finish()).unwrap();
        rows.extend(serde_json::from_slice::<Vec<Value>>(&writer.into_inner()).unwrap());
    }
    Some((schema, rows))
}

#[test]
fn a_text_has_the_same_columns_and_rows_natively_and_in_the_sandbox() {
    let json = [
        "{\"a\":1,\"b\":2.5,\"c\":\"x\",\"d\":true}\n{\"a\":null,\"e\":\"late\"}\n",
        "[{\"a\":1},{\"a\":2.5}]",
        "{\"a\":null,\"b\":[],\"c\":{},\"d\":1}\n",
        "{\"a\":null}\n",
        "{\"l\":[1,2.5,null],\"n\":[[1],[]],\"o\":[{\"x\":1},{\"y\":\"z\"}],\"u\":null}\n{\"l\":[]}\n",
        "{\"a\":1,\"u\":[null]}\n",
        "{\"a\":1,\"s\":{\"n\":null}}\n",
        "{\"s\":{\"a\":1,\"n\":null,\"t\":{\"x\":true}}}\n{\"s\":{\"b\":\"y\"}}\n{\"s\":null}\n",
        "{\"a\":1}\n{\"a\":\"x\"}\n{\"a\":2}\n",
        "{\"a\":true}\n{\"a\":1}\n",
        "{\"a\":\"2026-01-02T03:04:05Z\"}\n{\"a\":\"2026-01-02 03:04:05.25+02:00\"}\n{\"a\":null}\n",
        "{\"a\":\"2026-01-02T03:04:05Z\"}\n{\"a\":\"soon\"}\n",
        "{\"a\":\"2026-01-02T03:04Z\",\"b\":\"2026-01-02T03:04:05-0130\",\"c\":\"2026-01-02T03:04:05.123456000+05\"}\n",
        "{\"a\":\"2026-02-29T03:04:05Z\",\"b\":\"2026-01-02T24:00:00Z\",\"c\":\"2026-01-02T03:04:05\",\"d\":\"2026-01-02\"}\n",
        "{\"a\":\"2024-02-29T00:00:00.1234567Z\",\"b\":\"2024-02-29T00:00:00.Z\",\"c\":\"2024-02-29T00:00:60Z\"}\n",
        "{\"a\":-9223372036854775808,\"b\":9223372036854775807,\"c\":1e3,\"d\":0.1}\n",
        "{\"a\":\"\",\"b\":\"\\u00e9\\n\",\"c\":\"null\"}\n",
        "{\"a\":1}\n\n{\"a\":2}\n",
        "{\"a\":1}\n{\"a\":\n",
        "3\n",
    ];
    let csv = [
        "a,b,c,d,e\n1,2.5,x,true,\n2,3,y,false,\n",
        "a\n007\n8\n",
        "a,b,c\n1.,+1,.5\n",
        "a,b\n1e3,-0.5\n2,1\n",
        "a,b\n1,true\nx,1\n",
        "a,b\n2026-01-02T03:04:05Z,2026-01-02\n,2026-01-03\n",
        "a\n2026-01-02T03:04:05Z\nsoon\n",
        "a,b\n\"x, \"\"y\"\"\",\"two\nlines\"\n",
        "a,b\n1,2\n3\n",
        "a,b\nTrue,NaN\nFalse,inf\n",
    ];
    let texts = json.iter().map(|text| ("json", *text)).chain(csv.iter().map(|text| ("csv", *text)));
    for (kind, text) in texts {
        assert_eq!(natively(kind, text), by_the_host(kind, text), "{kind}: {text}");
    }
}
