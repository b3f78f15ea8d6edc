//! Configs that nobody writes by hand: refused with a message, and with little memory and stack.

use std::time::{Duration, Instant};

use forebay_sdk::testing::{Harness, HarnessError};
use serde_json::{Map, Value, json};

use crate::Expr;

fn refused(config: Value) -> String {
    let began = Instant::now();
    let error = Harness::<Expr>::new().input_json("{\"a\": 1, \"t\": \"x\"}").config(config).run().err();
    assert!(began.elapsed() < Duration::from_secs(5), "it takes {:?}", began.elapsed());
    let Some(HarnessError::Bind(error)) = error else { unreachable!("it is not refused: {error:?}") };
    error.to_string()
}

fn column(expression: &str) -> Value {
    json!({ "columns": { "x": expression } })
}

#[test]
fn what_nests_too_deep_is_refused_and_what_is_long_is_not() -> Result<(), HarnessError> {
    let deep = |n: usize, open: &str, inner: &str, close: &str| format!("{}{inner}{}", open.repeat(n), close.repeat(n));
    for expression in [
        deep(10_000, "(", "1", ")"),
        deep(10_000, "- ", "1", ""),
        deep(10_000, "not ", "true", ""),
        deep(5_000, "abs(", "1", ")"),
        deep(1_000, "case when true then ", "1", " end"),
        deep(2_000, "if(true, ", "1", ")"),
        deep(10_000, "1 + ", "1", ""),
        deep(5_000, "1 in (", "1", ")"),
        deep(200, "a between 1 and a between 1 and ", "1", ""),
        "1".to_owned() + &"::text::int".repeat(500),
    ] {
        let told = refused(column(&expression));
        assert!(told.contains("nests deeper than 100 levels"), "{}: {told}", &expression[..30]);
        assert!(told.len() < 600, "{told}");
    }
    // Chains do not nest, nor do lists.
    let ors = vec!["a = 1"; 5_000].join(" or ");
    let list = format!("a in ({})", (0..9_000).map(|n| n.to_string()).collect::<Vec<_>>().join(", "));
    let joined = vec!["t"; 5_000].join(" || ");
    let nested = deep(98, "(", "1", ")");
    for expression in [ors, list, joined, nested] {
        Harness::<Expr>::new().input_json("{\"a\": 1, \"t\": \"x\"}").config(column(&expression)).run()?;
    }
    Ok(())
}

#[test]
fn what_is_too_long_is_refused() {
    let told = refused(column(&"a + ".repeat(250_000)));
    assert!(told.contains("the expression has 1000000 bytes, more than 65536"), "{told}");
    assert!(told.len() < 600, "{told}");
    let many: Map<String, Value> = (0..1_001).map(|n| (format!("c{n}"), json!("1"))).collect();
    let told = refused(json!({ "columns": many }));
    assert!(told.contains("1001 columns are computed, more than 1000"), "{told}");
}

/// What uses a value twice does not write it twice.
#[test]
fn values_that_are_used_twice_are_computed_once() -> Result<(), HarnessError> {
    let mut expression = "a".to_owned();
    for _ in 0..30 {
        expression = format!("case ({expression} between 0 and 9) when true then 1 else 2 end");
    }
    let outcome = Harness::<Expr>::new().input_json("{\"a\": 1}").config(column(&expression)).run()?;
    assert_eq!(outcome.column("out", "x"), [1]);
    // A chain of columns, each of which needs the one before twice.
    let mut columns: Map<String, Value> =
        (1..1_000).map(|n| (format!("c{n}"), json!(format!("c{} + c{} - 1", n - 1, n - 1)))).collect();
    columns.insert("c0".to_owned(), json!("a"));
    let outcome = Harness::<Expr>::new().input_json("{\"a\": 1}").config(json!({ "columns": columns })).run()?;
    assert_eq!(outcome.column("out", "c999"), [1]);
    Ok(())
}

#[test]
fn columns_that_use_one_another_are_refused() {
    let told = refused(json!({ "columns": { "p": "q + 1", "q": "r + 1", "r": "p + 1", "s": "p" } }));
    assert_eq!(
        told,
        "config.columns.p: columns use one another in a circle: `p` ▶ `q` ▶ `r` ▶ `p` \
         (give one of them another name, or write out what it uses)"
    );
    let told = refused(json!({ "columns": { "own": "own + 1" } }));
    assert!(told.starts_with("config.columns.own: `own` uses itself, and the input has no such column"), "{told}");
    let ring: Map<String, Value> =
        (0..1_000).map(|n| (format!("c{n}"), json!(format!("c{}", (n + 1) % 1_000)))).collect();
    let told = refused(json!({ "columns": ring }));
    assert!(told.contains("`c7` ▶ 992 more ▶ `c0`"), "{told}");
}

/// Whatever stands there: an answer or a message, no panic.
#[test]
fn garbage_is_refused_at_its_place() {
    for expression in [
        "", " ", "\u{0}", "'", "`", "\"", "1 2", "a b", "(", ")", "a..b", "a.", "=", "1e", "0x1", "🙂", "a in", "case",
        "::", "not",
    ] {
        let told = refused(column(expression));
        assert!(told.starts_with("config.columns.x: ") && told.contains('^'), "{expression:?}: {told}");
    }
}
