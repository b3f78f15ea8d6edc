use forebay_sdk::arrow::DataType;
use forebay_sdk::testing::arrow_array::{Decimal128Array, Float64Array, Int64Array};
use forebay_sdk::testing::{CasesError, Harness, HarnessError, Outcome, run_cases};
use serde_json::{Value, json};

use super::Expr;

mod errors;
mod hostile;
mod page;
mod random;
#[expect(clippy::cast_possible_truncation, reason = "a cast whose range was looked at")]
mod slow;

#[test]
fn cases() -> Result<(), CasesError> {
    run_cases::<Expr>("cases")
}

/// One expression over rows of JSON.
fn harness(rows: &str, expression: &str) -> Harness<Expr> {
    Harness::new().input_json(rows).config(json!({ "columns": { "answer": expression } }))
}

/// What an expression answers for each row; also that rows do not depend on one another.
fn answers(rows: &str, expression: &str) -> Vec<Value> {
    let harness = harness(rows, expression);
    match harness.check_splits().and_then(|()| harness.run()) {
        Ok(outcome) => outcome.column("out", "answer"),
        Err(error) => vec![json!(error.to_string())],
    }
}

/// What it answers without a row's help.
fn answer(expression: &str) -> Value {
    answers(r#"{"x": 1}"#, expression).remove(0)
}

fn check(table: &[(&str, Value)]) {
    for (expression, expected) in table {
        assert_eq!(answer(expression), *expected, "{expression}");
    }
}

#[test]
fn operators_bind_as_in_postgresql() {
    check(&[
        ("1 + 2 * 3", json!(7)),
        ("(1 + 2) * 3", json!(9)),
        ("10 - 4 - 3", json!(3)),
        ("2 * -3", json!(-6)),
        ("- 2 + 3", json!(1)),
        ("7 % 4 * 2", json!(6)),
        ("true or false and false", json!(true)),
        ("(true or false) and false", json!(false)),
        ("not true or true", json!(true)),
        ("not (true or true)", json!(false)),
        ("not 1 = 2", json!(true)),
        ("1 + 1 = 2", json!(true)),
        ("1 = 2 is null", json!(false)),
        ("not null is null", json!(false)),
        ("2 between 1 + 0 and 1 + 1 and true", json!(true)),
        ("not 2 between 1 and 3", json!(false)),
        ("2 not between 1 and 3 or true", json!(true)),
        ("'a' || 'b' = 'ab'", json!(true)),
        ("'a' || 'b' like 'a%'", json!(true)),
        ("1 in (1, 2) = true", json!(true)),
        ("-'5'::int + 1", json!(-4)),
        ("CASE WHEN TRUE THEN 1 END + 1", json!(2)),
        ("1 < 2 AND NOT 2 < 1", json!(true)),
    ]);
}

/// The table of the page, by all pairs.
#[test]
fn null_is_sqls() {
    let name = |value: Option<bool>| value.map_or("null".to_owned(), |value| value.to_string());
    let kinds = [Some(true), Some(false), None];
    for a in kinds {
        let not = a.map(|a| !a);
        check(&[(&format!("not {}", name(a)), json!(not))]);
        for b in kinds {
            let and = if a == Some(false) || b == Some(false) { Some(false) } else { a.and(b) };
            let or = if a == Some(true) || b == Some(true) { Some(true) } else { a.and(b) };
            let equal = a.zip(b).map(|(a, b)| a == b);
            let (left, right) = (name(a), name(b));
            // Of columns too, where nothing is known before.
            let rows = format!("{{\"a\": {left}, \"b\": {right}}}\n{{\"a\": true, \"b\": true}}");
            for (operator, expected) in [("and", and), ("or", or), ("=", equal)] {
                assert_eq!(answers(&rows, &format!("a {operator} b"))[0], json!(expected), "{left} {operator} {right}");
            }
            assert_eq!(answers(&rows, "a is distinct from b")[0], json!(a != b), "{left} {right}");
        }
    }
    check(&[
        ("null + 1 is null", json!(true)),
        ("cast(null as float) < 1 is null", json!(true)),
        ("null is null", json!(true)),
        ("null is not true", json!(true)),
        ("(null = null) is null", json!(true)),
        ("1 in (2, null) is null", json!(true)),
        ("1 in (1, null)", json!(true)),
        ("1 not in (2, null) is null", json!(true)),
        ("null in (1) is null", json!(true)),
        ("2 between null and 1", json!(false)),
        ("2 between 1 and null is null", json!(true)),
        ("case when null then 1 else 2 end", json!(2)),
        ("case cast(null as int) when null then 1 else 2 end", json!(2)),
        ("coalesce(null, null, 3)", json!(3)),
        ("nullif(1, 1) is null", json!(true)),
        ("nullif(1, 2)", json!(1)),
        ("greatest(1, null, 3)", json!(3)),
        ("least(cast(null as int), null) is null", json!(true)),
        ("concat('a', null, 'b')", json!("ab")),
        ("('a' || cast(null as text)) is null", json!(true)),
    ]);
}

#[test]
fn what_has_no_result_is_null() {
    check(&[
        ("(9223372036854775807 + 1) is null", json!(true)),
        ("(-9223372036854775808 - 1) is null", json!(true)),
        ("(9223372036854775807 * 2) is null", json!(true)),
        ("abs(-9223372036854775808) is null", json!(true)),
        ("-(-9223372036854775807 - 1) is null", json!(true)),
        ("-9223372036854775808 % -1", json!(0)),
        ("7 % 0 is null", json!(true)),
        ("7 / 0 is null", json!(true)),
        ("0.0 / 0 is null", json!(true)),
        ("1e308 * 10 is null", json!(true)),
        ("(1e308 * 10 - 1e308 * 10) is null", json!(true)),
        ("1 / (1e308 * 10) is null", json!(true)),
        ("5.5 % 0 is null", json!(true)),
        ("sqrt(-1) is null", json!(true)),
        ("ln(0) is null", json!(true)),
        ("power(10, 400) is null", json!(true)),
        ("exp(1000) is null", json!(true)),
        ("try_cast('x' as int) is null", json!(true)),
        ("try_cast(1e30 as int) is null", json!(true)),
        ("date_add('year', 9223372036854775807, date '2026-01-01') is null", json!(true)),
        ("to_timestamp_seconds(9223372036854775807) is null", json!(true)),
    ]);
}

#[test]
fn numbers() {
    check(&[
        ("7 / 2", json!(3.5)),
        ("7 % 3", json!(1)),
        ("-7 % 3", json!(-1)),
        ("7 % -3", json!(1)),
        ("-7.5 % 2", json!(-1.5)),
        ("1 + 0.5", json!(1.5)),
        ("2 = 2.0", json!(true)),
        ("abs(-3)", json!(3)),
        ("round(2.5)", json!(3.0)),
        ("round(-2.5)", json!(-3.0)),
        ("round(2.345, 2)", json!(2.35)),
        ("floor(-2.5)", json!(-3.0)),
        ("ceil(2.1)", json!(3.0)),
        ("trunc(-2.7)", json!(-2.0)),
        ("round(7)", json!(7)),
        ("sqrt(9)", json!(3.0)),
        ("power(2, 10)", json!(1024.0)),
        ("log10(1000)", json!(3.0)),
        ("min(3, 1.5)", json!(1.5)),
        ("max('a', 'b')", json!("b")),
        ("cast(2.9 as int)", json!(2)),
        ("cast('-2.5' as float)", json!(-2.5)),
        ("cast(' 12 ' as int)", json!(12)),
        ("cast(true as int)", json!(1)),
        ("cast('TRUE' as boolean)", json!(true)),
        ("cast(2.5 as text)", json!("2.5")),
        ("1e3", json!(1000.0)),
        (".5", json!(0.5)),
        ("9007199254740993 = 9007199254740993", json!(true)),
    ]);
}

#[test]
fn text() {
    check(&[
        ("lower('ÄB')", json!("äb")),
        ("upper('straße')", json!("STRASSE")),
        ("length('aü😀')", json!(3)),
        ("substr('abcdef', 2)", json!("bcdef")),
        ("substr('abcdef', 2, 3)", json!("bcd")),
        ("substr('abcdef', 0, 3)", json!("ab")),
        ("substr('abcdef', -5)", json!("abcdef")),
        ("substr('abcdef', 10, 3)", json!("")),
        ("substr('abcdef', 2, -1)", json!("")),
        ("trim('  a ')", json!("a")),
        ("ltrim('  a ')", json!("a ")),
        ("rtrim('  a ')", json!("  a")),
        ("replace('a-b-c', '-', '+')", json!("a+b+c")),
        ("replace('abc', '', 'x')", json!("abc")),
        ("contains('hello', 'ell')", json!(true)),
        ("starts_with('hello', 'he') and ends_with('hello', 'lo')", json!(true)),
        ("'Hello' like 'h%'", json!(false)),
        ("'Hello' ilike 'h_LL%'", json!(true)),
        ("'Hello' not like 'x%'", json!(true)),
        ("'it''s'", json!("it's")),
        ("\"say \"\"so\"\"\"", json!("say \"so\"")),
        ("'b' > 'a' and 'B' < 'a'", json!(true)),
        ("'DE' in ('DE', 'FR')", json!(true)),
        ("'de' in ('DE', 'FR')", json!(false)),
        ("case 'b' when 'a' then 1 when 'b' then 2 end", json!(2)),
        ("if(1 > 2, 'a', 'b')", json!("b")),
        ("if(false, 1) is null", json!(true)),
    ]);
}

#[test]
fn dates_and_timestamps() {
    check(&[
        ("date '2026-03-01'", json!("2026-03-01")),
        ("timestamp '2026-03-01T12:30:00+01:00'", json!("2026-03-01T11:30:00Z")),
        ("date_part('year', date '2026-03-01')", json!(2026)),
        ("date_part('dow', '2026-03-01')", json!(0)),
        ("date_trunc('month', timestamp '2026-03-14T12:30:00Z')", json!("2026-03-01T00:00:00Z")),
        ("date_trunc('week', date '2026-03-01')", json!("2026-02-23")),
        ("date_add('day', -1, date '2026-03-01')", json!("2026-02-28")),
        ("date_add('hour', 25, timestamp '2026-03-01')", json!("2026-03-02T01:00:00Z")),
        ("date_diff('day', date '2026-02-01', date '2026-03-01')", json!(28)),
        ("date_diff('hour', '2026-03-01', '2026-03-01T05:59:59Z')", json!(5)),
        ("date '2026-03-01' < timestamp '2026-03-01T00:00:01Z'", json!(true)),
        ("timestamp '2026-03-01' between '2026-02-28' and '2026-03-01'", json!(true)),
        ("cast('2026-03-01' as date)", json!("2026-03-01")),
        ("cast(timestamp '2026-03-01T23:59:59Z' as date)", json!("2026-03-01")),
        ("cast(timestamp '2026-03-01T12:00:00.5Z' as text)", json!("2026-03-01T12:00:00.500Z")),
        ("to_timestamp_millis(1772323200000)", json!("2026-03-01T00:00:00Z")),
        ("date_part('epoch', timestamp '1970-01-02')", json!(86400)),
        ("now()", json!("2026-01-01T00:00:00Z")),
    ]);
}

#[test]
fn columns_with_awkward_names_and_fields_of_structs() {
    let rows = r#"
        {"a b": 1, "x.y": 2, "tick`s": 3, "Class": 4, "select": 5, "case": 6, "o": {"in": {"deep": 7, "t": "u"}}}
        {"a b": 1, "x.y": 2, "tick`s": 3, "Class": 4, "select": 5, "case": 6, "o": {"in": null}}
        {"a b": 1, "x.y": 2, "tick`s": 3, "Class": 4, "select": 5, "case": 6, "o": null}
    "#;
    assert_eq!(answers(rows, "`a b` + `x.y` + `tick``s` + class + select + `case`"), [21, 21, 21]);
    assert_eq!(answers(rows, "o.`in`.deep"), [json!(7), json!(null), json!(null)]);
    assert_eq!(answers(rows, "coalesce(o.`in`.t, 'none')"), ["u", "none", "none"]);
    assert_eq!(answers(rows, "o is null"), [false, false, true]);
    assert_eq!(answers(rows, "o.`in` is null"), [false, true, true]);
}

#[test]
fn floats_that_are_no_numbers_have_a_place() -> Result<(), HarnessError> {
    let values = Float64Array::from(vec![Some(f64::NAN), Some(f64::INFINITY), Some(-0.0), Some(1.0), None]);
    for (expression, expected) in [
        ("f > 5", [json!(true), json!(true), json!(false), json!(false), json!(null)]),
        ("f <= 5", [json!(false), json!(false), json!(true), json!(true), json!(null)]),
        ("f = f", [json!(true), json!(true), json!(true), json!(true), json!(null)]),
        ("f = 0", [json!(false), json!(false), json!(true), json!(false), json!(null)]),
        ("f in (0.0, 1)", [json!(false), json!(false), json!(true), json!(true), json!(null)]),
        ("f + 1 is null", [json!(true), json!(true), json!(false), json!(false), json!(true)]),
        ("greatest(f, 3) > 5", [json!(true), json!(true), json!(false), json!(false), json!(false)]),
    ] {
        let config = json!({ "columns": { "answer": expression } });
        let outcome = Harness::<Expr>::new().column("f", values.clone()).config(config).run()?;
        assert_eq!(outcome.column("out", "answer"), expected, "{expression}");
    }
    Ok(())
}

fn decimals(expression: &str) -> Result<Outcome, HarnessError> {
    let money = Decimal128Array::from(vec![Some(1_050), Some(-225), None, Some(99_999)]);
    let money = money.with_precision_and_scale(5, 2).map_err(|error| HarnessError::Test(error.to_string()))?;
    let wide = Decimal128Array::from(vec![10_i128.pow(37); 4]);
    let wide = wide.with_precision_and_scale(38, 0).map_err(|error| HarnessError::Test(error.to_string()))?;
    let count = Int64Array::from(vec![3, -3, 1, 0]);
    let config = json!({ "columns": { "answer": expression } });
    let harness =
        Harness::<Expr>::new().column("money", money).column("wide", wide).column("count", count).config(config);
    harness.check_splits()?;
    harness.run()
}

#[test]
fn decimals_are_exact() -> Result<(), HarnessError> {
    let null = Value::Null;
    for (expression, ty, expected) in [
        ("money * 0.1", DataType::Decimal128(6, 3), [json!("1.050"), json!("-0.225"), null.clone(), json!("99.999")]),
        (
            "money + 0.005",
            DataType::Decimal128(7, 3),
            [json!("10.505"), json!("-2.245"), null.clone(), json!("999.995")],
        ),
        ("money - count", DataType::Decimal128(22, 2), [json!("7.50"), json!("0.75"), null.clone(), json!("999.99")]),
        ("money % 1", DataType::Decimal128(5, 2), [json!("0.50"), json!("-0.25"), null.clone(), json!("0.99")]),
        ("round(money, 1)", DataType::Decimal128(5, 1), [json!("10.5"), json!("-2.3"), null.clone(), json!("1000.0")]),
        ("floor(money)", DataType::Decimal128(4, 0), [json!("10"), json!("-3"), null.clone(), json!("999")]),
        ("-money", DataType::Decimal128(5, 2), [json!("-10.50"), json!("2.25"), null.clone(), json!("-999.99")]),
        ("money / 2", DataType::Float64, [json!(5.25), json!(-1.125), null.clone(), json!(499.995)]),
        ("money > 10.495", DataType::Boolean, [json!(true), json!(false), null.clone(), json!(true)]),
        ("money in (10.5, 999.990, 1.001)", DataType::Boolean, [json!(true), json!(false), null.clone(), json!(true)]),
        ("wide > money", DataType::Boolean, [json!(true), json!(true), null.clone(), json!(true)]),
        ("wide * 100 is null", DataType::Boolean, [json!(true), json!(true), json!(true), json!(true)]),
        (
            "cast(money as decimal(10, 1))",
            DataType::Decimal128(10, 1),
            [json!("10.5"), json!("-2.3"), null.clone(), json!("1000.0")],
        ),
        (
            "try_cast(money as decimal(3, 1))",
            DataType::Decimal128(3, 1),
            [json!("10.5"), json!("-2.3"), null.clone(), null.clone()],
        ),
        ("cast(money as text)", DataType::Utf8, [json!("10.50"), json!("-2.25"), null.clone(), json!("999.99")]),
        (
            "coalesce(money, count)",
            DataType::Decimal128(21, 2),
            [json!("10.50"), json!("-2.25"), json!("1.00"), json!("999.99")],
        ),
        (
            "greatest(money, 0)",
            DataType::Decimal128(5, 2),
            [json!("10.50"), json!("0.00"), json!("0.00"), json!("999.99")],
        ),
        ("money between 0 and 10.50", DataType::Boolean, [json!(true), json!(false), null, json!(false)]),
    ] {
        let outcome = decimals(expression)?;
        let found = outcome.schema("out").and_then(|schema| schema.field_with_name("answer").ok().cloned());
        assert_eq!(found.map(|field| field.data_type().clone()), Some(ty), "{expression}");
        // JSON has decimals as numbers or as text, by the writer.
        let told: Vec<_> = outcome.column("out", "answer").iter().map(plain).collect();
        assert_eq!(told, expected.iter().map(plain).collect::<Vec<_>>(), "{expression}");
    }
    Ok(())
}

/// A decimal as text without trailing zeros.
fn plain(value: &Value) -> Value {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return value.clone(),
    };
    let short = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    json!(short)
}

const PAYMENTS: &str = r#"
    {"id": 1, "amount": 10, "v14": -9.5, "country": "DE", "at": "2026-03-01T10:00:00Z"}
    {"id": 2, "amount": 3000, "v14": 0.5, "country": "KP", "at": "2026-03-01T11:00:00Z"}
    {"id": 3, "amount": 3000, "v14": 0.5, "country": null, "at": null}
    {"id": 4, "amount": null, "v14": 0.5, "country": "FR", "at": null}
    {"id": 5, "amount": -1, "v14": 0.5, "country": "FR", "at": null}
"#;

fn payments(config: Value) -> Result<Outcome, HarnessError> {
    let harness = Harness::<Expr>::new().input_json(PAYMENTS).asset("blocked", "KP\nIR # since May\n").config(config);
    harness.check_splits()?;
    harness.run()
}

#[test]
fn rows_are_filtered_rejected_and_routed() -> Result<(), HarnessError> {
    let outcome = payments(json!({
        "filter": "amount > 0",
        "columns": {
            "flag": "v14 < -8 or amount > limit and country in blocked",
            "limit": "cast(2000 as float)",
        },
        "routes": { "flagged": { "when": "flag", "columns": ["id", "flag"] }, "large": { "when": "amount > 2000", "except": ["v14", "limit"] } },
        "reject": [
            { "code": "no_amount", "when": "amount is null", "message": "an amount is missing" },
            { "code": "late", "when": "id = 4 or id = 5", "final": true },
        ],
    }))?;
    assert_eq!(outcome.column("out", "id"), [1, 2, 3]);
    assert_eq!(outcome.column("out", "flag"), [json!(true), json!(true), json!(null)]);
    assert_eq!(outcome.rows("flagged"), [json!({"id": 1, "flag": true}), json!({"id": 2, "flag": true})]);
    assert_eq!(
        outcome.rows("large"),
        [
            json!({"id": 2, "amount": 3000, "country": "KP", "at": "2026-03-01T11:00:00Z", "flag": true}),
            json!({"id": 3, "amount": 3000, "country": null, "at": null, "flag": null}),
        ]
    );
    // The filter is null for 4, so rejects are asked; false for 5, so they are not.
    let rejects: Vec<_> =
        outcome.rejects.iter().map(|reject| (reject.row, reject.code.as_str(), reject.retryable)).collect();
    assert_eq!((rejects, outcome.filtered), (vec![(3, "no_amount", true)], 1));
    assert_eq!(outcome.rejects[0].message, "an amount is missing");
    Ok(())
}

#[test]
fn a_column_that_replaces_one_means_that_one_within_itself() -> Result<(), HarnessError> {
    let outcome = payments(json!({ "columns": { "double": "amount * 2", "Amount": "coalesce(amount, 0)" } }))?;
    assert_eq!(outcome.column("out", "Amount"), [10, 3000, 3000, 0, -1]);
    assert_eq!(outcome.column("out", "double"), [20, 6000, 6000, 0, -2]);
    assert!(outcome.rows("out")[0].get("amount").is_none(), "it gives way");
    Ok(())
}

#[test]
fn a_strict_cast_rejects_the_rows_whose_answer_matters() -> Result<(), HarnessError> {
    let rows = r#"{"kind": "n", "text": "1"} {"kind": "n", "text": "x"} {"kind": "t", "text": "x"} {"kind": "skip", "text": "x"}"#;
    let rows = rows.replace("} {", "}\n{");
    let run = |config: Value| {
        let harness = Harness::<Expr>::new().input_json(&rows).config(config);
        harness.check_splits().and_then(|()| harness.run())
    };
    let outcome = run(json!({
        "filter": "kind <> 'skip'",
        "columns": { "n": "case when kind = 'n' then cast(text as int) end" },
    }))?;
    assert_eq!(outcome.column("out", "n"), [json!(1), json!(null)]);
    let rejects: Vec<_> =
        outcome.rejects.iter().map(|reject| (reject.row, reject.code.as_str(), reject.message.as_str())).collect();
    assert_eq!(rejects, [(1, "cast_failed", "`text` is no integer in `cast(text as int)`")]);
    assert_eq!(outcome.filtered, 1);
    for condition in [
        "kind = 'n' and cast(text as int) = 1",
        "kind <> 'n' or cast(text as int) = 1",
        "if(kind = 'n', cast(text as int) = 1, true)",
    ] {
        let outcome = run(json!({ "routes": { "out": { "when": condition } } }))?;
        assert_eq!(outcome.rejects.iter().map(|reject| reject.row).collect::<Vec<_>>(), [1], "{condition}");
    }
    // A reject of its own says it better, and comes first.
    let outcome = run(json!({
        "columns": { "n": "cast(text as int)" },
        "reject": [{ "code": "text", "when": "try_cast(text as int) is null" }],
    }))?;
    assert_eq!(outcome.rejects.iter().map(|reject| reject.code.as_str()).collect::<Vec<_>>(), ["text"; 3]);
    assert_eq!(outcome.rejects[0].message, "the record is refused where try_cast(text as int) is null");
    Ok(())
}

#[test]
fn required_columns_are_the_hosts_business_and_may_come_later() -> Result<(), HarnessError> {
    let outcome = payments(json!({ "required": ["amount"], "columns": { "score": "amount * 0.5" } }))?;
    assert_eq!(outcome.rejects.iter().map(|reject| reject.row).collect::<Vec<_>>(), [3]);
    assert_eq!(outcome.column("out", "score"), [5.0, 1500.0, 1500.0, -0.5]);
    let outcome = payments(json!({ "required": ["later"], "columns": { "score": "later * 0.5", "twice": "id * 2" } }))?;
    assert_eq!((outcome.rejects.len(), outcome.rows("out").len()), (5, 0));
    Ok(())
}

/// A column that has had no value has no type either; it comes with the first value.
#[test]
fn a_column_without_a_type_is_left_out() -> Result<(), HarnessError> {
    let rows = "{\"id\": 1, \"empty\": null}";
    let config = json!({
        "columns": { "e": "empty", "sum": "empty + 1", "low": "lower(empty)", "big": "empty > 2" },
        "routes": { "some": { "columns": ["id", "e", "sum"] } },
    });
    let harness = Harness::<Expr>::new().declare("empty", DataType::Null);
    let outcome = harness.input_json(rows).config(config).run()?;
    assert_eq!(outcome.rows("out"), [json!({"id": 1, "empty": null, "sum": null, "low": null, "big": null})]);
    assert_eq!(outcome.rows("some"), [json!({"id": 1, "sum": null})]);
    Ok(())
}

#[test]
fn assets_are_read_as_the_type_of_what_is_looked_up() -> Result<(), HarnessError> {
    let run = |expression: &str, asset: &str| {
        let config = json!({ "columns": { "answer": expression } });
        let harness = Harness::<Expr>::new().input_json(PAYMENTS).asset("list", asset).config(config);
        harness.run().map(|outcome| outcome.column("out", "answer"))
    };
    assert_eq!(run("id in list", "2\n# none\n4\n")?, [false, true, false, true, false]);
    assert_eq!(run("v14 in list", "-9.50\n")?, [true, false, false, false, false]);
    assert_eq!(run("country in `list`", "KP")?, [json!(false), json!(true), json!(null), json!(false), json!(false)]);
    assert_eq!(run("at not in list", "2026-03-01T10:00:00Z")?[..2], [json!(false), json!(true)]);
    assert_eq!(run("id in list", "")?, [false; 5]);
    Ok(())
}
