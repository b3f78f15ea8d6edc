use forebay_format::{FormatError, Formats};
use forebay_model::ports::SplitRule;
use serde_json::{Value, json};

fn refused(config: &Value) -> (String, String) {
    let error = Formats::from_config(config).unwrap_err();
    (error.to_string(), error.hint().unwrap())
}

#[test]
fn unknown_keys_are_refused_with_the_nearest() {
    let (message, hint) = refused(&json!({"type": "csv", "delimeter": ";"}));
    assert_eq!(message, "format: type \"csv\" has no setting \"delimeter\"");
    assert!(hint.contains("did you mean \"delimiter\"?"), "{hint}");
    let (message, hint) = refused(&json!("jsno"));
    assert_eq!(message, "format: \"jsno\" is no format");
    assert!(hint.contains("\"json\""), "{hint}");
    assert!(refused(&json!({"type": "json", "header": true})).0.contains("has no setting \"header\""));
    assert!(refused(&json!({"type": "csv", "records": "$"})).0.contains("has no setting \"records\""));
}

#[test]
fn values_that_do_not_fit_are_refused() {
    for bad in [
        json!(5),
        json!({}),
        json!({"type": 1}),
        json!({"type": "json", "sample_records": 0}),
        json!({"type": "json", "max_record_bytes": -1}),
        json!({"type": "json", "zone": "Mars"}),
        json!({"type": "json", "records": "Records"}),
        json!({"type": "json", "records": "$..a"}),
        json!({"type": "json", "records": "$.a[0]"}),
        json!({"type": "json", "schema": []}),
        json!({"type": "json", "schema": {"a": "money"}}),
        json!({"type": "json", "schema": {"a": "int8", "A": "int8"}}),
        json!({"type": "json", "schema": {"_forebay_row": "int64"}}),
        json!({"type": "csv", "delimiter": ";;"}),
        json!({"type": "csv", "delimiter": "\n"}),
        json!({"type": "csv", "quote": ","}),
        json!({"type": "csv", "columns": ["a"]}),
        json!({"type": "csv", "header": false, "columns": ["a", "a"]}),
        json!({"type": "csv", "nulls": "NA"}),
        json!({"type": "csv", "escape": "\""}),
    ] {
        let error = Formats::from_config(&bad).unwrap_err();
        assert!(matches!(error, FormatError::Config { .. }), "{bad}");
        assert!(!error.hint().unwrap().is_empty(), "{bad}");
    }
}

#[test]
fn settings_are_whole_and_canonical() {
    let settings = |config: Value| Formats::from_config(&config).unwrap().settings();
    assert_eq!(settings(json!("json")), settings(json!({"type": "json", "max_columns": 2000})));
    assert_eq!(
        settings(json!({"zone": "UTC", "type": "auto"})).to_string(),
        settings(json!({"type": "auto", "zone": "+00:00"})).to_string()
    );
    let all = [
        json!("auto"),
        json!("json"),
        json!("csv"),
        json!({"type": "json", "records": "$"}),
        json!({"type": "json", "records": "$.a"}),
        json!({"type": "json", "schema": {"a": "int8"}}),
        json!({"type": "json", "zone": "+01:00"}),
        json!({"type": "csv", "delimiter": ";"}),
        json!({"type": "csv", "nulls": []}),
        json!({"type": "csv", "header": false}),
        json!({"type": "csv", "double_quote": false}),
        json!({"type": "csv", "escape": "\\"}),
    ];
    let texts: std::collections::BTreeSet<String> =
        all.iter().map(|config| settings(config.clone()).to_string()).collect();
    assert_eq!(texts.len(), all.len(), "{texts:#?}");
}

#[test]
fn names_lead_to_formats() {
    let formats = Formats::from_config(&json!("auto")).unwrap();
    for name in ["json", "json_array", "csv", "tsv"] {
        assert_eq!(formats.get(name).unwrap().name(), name);
    }
    assert!(formats.get("avro").unwrap_err().hint().unwrap().contains("json_array"));
    assert_eq!(formats.detect("a.csv.gz", b"").unwrap(), "csv");
    assert_eq!(formats.detect("a.json", b"[{}]").unwrap(), "json_array");
    let json = Formats::from_config(&json!("json")).unwrap();
    assert_eq!(json.detect("a.csv", b"{\"a\":1}").unwrap(), "json");
    assert_eq!(json.detect("a", b" [{}]").unwrap(), "json_array");
    let path = Formats::from_config(&json!({"type": "json", "records": "$.Records[*]"})).unwrap();
    assert_eq!(path.detect("a", b"[{}]").unwrap(), "json");
    let csv = Formats::from_config(&json!("csv")).unwrap();
    assert_eq!(csv.detect("a.txt", b"").unwrap(), "csv");
    assert_eq!(csv.detect("a.tsv", b"").unwrap(), "tsv");
    assert_eq!((csv.for_records(), json.for_records(), formats.for_records()), ("csv", "json", "json"));
}

#[test]
fn what_can_be_cut_says_so() {
    let rule = |config: Value, name: &str| Formats::from_config(&config).unwrap().get(name).unwrap().split_rule();
    assert!(matches!(rule(json!("auto"), "json"), SplitRule::Lines { .. }));
    assert_eq!(rule(json!("auto"), "json_array"), SplitRule::Whole);
    assert_eq!(rule(json!({"type": "json", "records": "$"}), "json"), SplitRule::Whole);
    assert!(matches!(rule(json!("csv"), "csv"), SplitRule::Csv { quote: b'"', header: true, .. }));
    assert_eq!(rule(json!({"type": "csv", "escape": "\\"}), "csv"), SplitRule::Whole);
}

#[test]
fn columns_of_types_that_text_has_not_are_refused() {
    use arrow_schema::{DataType, Field, Schema};
    let schema = std::sync::Arc::new(Schema::new(vec![Field::new("a", DataType::LargeUtf8, true)]));
    let error = crate::support::json_format().open(crate::support::input(""), &schema).err().unwrap();
    assert!(error.to_string().contains("column \"a\" has the type LargeUtf8"), "{error}");
}
