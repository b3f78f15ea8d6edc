use arrow_schema::{DataType, Schema};
use serde_json::json;

use crate::support::*;

fn evolve(sample: &str, text: &str) -> (Vec<String>, Vec<String>, String) {
    let format = json_format();
    let schema = format.infer(vec![input(sample)]).unwrap().unwrap();
    let decoded = decode(&*format, input(text), &schema);
    let Some(evolution) = decoded.evolution else { return (Vec::new(), Vec::new(), print(&schema)) };
    // Under the grown schema nothing that it grew for is rescued.
    let again = decode(&*format, input(text), &evolution.schema);
    assert!(again.evolution.is_none(), "{:?}", again.evolution);
    (evolution.added, evolution.widened, print(&evolution.schema))
}

fn print(schema: &Schema) -> String {
    let fields: Vec<String> =
        schema.fields().iter().map(|f| format!("{} {}", f.name(), type_text(f.data_type()))).collect();
    fields.join(", ")
}

fn type_text(data_type: &DataType) -> String {
    match data_type {
        DataType::List(element) => format!("[{}]", type_text(element.data_type())),
        DataType::Struct(fields) => {
            let fields: Vec<String> =
                fields.iter().map(|f| format!("{} {}", f.name(), type_text(f.data_type()))).collect();
            format!("{{{}}}", fields.join(", "))
        }
        other => format!("{other:?}"),
    }
}

#[test]
fn new_fields_are_added_where_they_are() {
    let (added, widened, schema) = evolve(
        r#"{"a":1,"g":{"x":1},"l":[{"q":1}]}"#,
        r#"{"a":2,"b":"x","g":{"x":1,"y":{"z":true}},"l":[{"q":2},{"q":3,"r":[1.5]}],"n":null,"e":{}}"#,
    );
    assert_eq!(added, ["g.y", "l[].r", "b"]);
    assert_eq!(widened, [""; 0]);
    assert_eq!(schema, "a Int64, g {x Int64, y {z Boolean}}, l [{q Int64, r [Float64]}], b Utf8");
}

#[test]
fn int64_that_meets_a_fraction_widens_and_nothing_else_does() {
    let (added, widened, schema) = evolve(
        r#"{"a":1,"g":{"x":1},"l":[1],"s":"x","b":true,"f":1.5}"#,
        r#"{"a":1.5,"g":{"x":1e0},"l":[1,2.5],"s":1,"b":"x","f":"y"}"#,
    );
    assert_eq!(added, [""; 0]);
    assert_eq!(widened, ["a", "g.x", "l[]"]);
    assert_eq!(schema, "a Float64, g {x Float64}, l [Float64], s Utf8, b Boolean, f Float64");
}

#[test]
fn integers_that_no_float_is_equal_to_keep_their_column() {
    let (_, widened, _) = evolve(r#"{"id":1}"#, "{\"id\":9007199254740993}\n{\"id\":1.5}");
    assert_eq!(widened, [""; 0]);
}

#[test]
fn a_malformed_record_grows_nothing() {
    let (added, _, _) = evolve(r#"{"a":1}"#, "{\"b\":1,}\n{\"a\":1.5,}\n{\"a\":1}");
    assert_eq!(added, [""; 0]);
}

#[test]
fn new_fields_have_the_type_that_inference_gives() {
    let (added, _, schema) = evolve(
        r#"{"a":1}"#,
        "{\"b\":\"x\",\"c\":1}\n{\"b\":1,\"c\":2.5}\n{\"b\":\"y\",\"C\":\"z\",\"t\":\"2024-01-01T00:00:00Z\"}\n{\"t\":null,\"A\":1}",
    );
    assert_eq!(added, ["b", "C", "t"]);
    assert_eq!(
        schema,
        "a Int64, b Utf8, C Utf8, t Timestamp(µs, \"UTC\")"
            .replace("Timestamp(µs, \"UTC\")", "Timestamp(Microsecond, Some(\"UTC\"))")
    );
}

#[test]
fn columns_are_limited() {
    let format = format(&json!({"type": "json", "max_columns": 3}), "json");
    let schema = format.infer(vec![input(r#"{"a":1,"b":2}"#)]).unwrap().unwrap();
    let decoded = decode(&*format, input(r#"{"c":1,"d":2}"#), &schema);
    assert_eq!(decoded.rescued()[0].as_deref(), Some(r#"{"c":1,"d":2}"#));
    let evolution = decoded.evolution.unwrap();
    assert_eq!(evolution.added, ["c"]);
    let again = decode(&*format, input(r#"{"c":1,"d":2}"#), &evolution.schema);
    assert_eq!(again.rescued()[0].as_deref(), Some(r#"{"d":2}"#));
    assert!(again.evolution.is_none());
}

#[test]
fn the_sample_is_limited_and_shared_by_its_inputs() {
    let format = format(&json!({"type": "json", "sample_records": 4}), "json");
    let many = |name: &str| (0..10).map(|n| format!("{{\"{name}{n}\":1}}\n")).collect::<String>();
    let schema = format.infer(vec![input(many("a")), input(""), input(many("b"))]).unwrap().unwrap();
    assert_eq!(print(&schema), "a0 Int64, a1 Int64, b0 Int64, b1 Int64");
}
