//! What a person sees of a wrong config: every message as a snapshot.

use std::fmt::Write as _;

use forebay_sdk::testing::{Harness, HarnessError};
use serde_json::{Value, json};

use crate::Expr;

const ROWS: &str = r#"
    {"id": 1, "amount": 10.5, "v14": -9.5, "country": "DE", "ok": true, "at": "2026-03-01T10:00:00Z", "tags": ["a"], "o": {"deep": 1}}
"#;

fn refusal(config: &Value, asset: Option<&str>) -> String {
    let mut harness = Harness::<Expr>::new().input_json(ROWS).config(config.clone());
    if let Some(asset) = asset {
        harness = harness.asset("blocked", asset);
    }
    match harness.run() {
        Err(HarnessError::Bind(error)) => {
            let place = error.get_place().unwrap_or("-");
            let hint = error.get_hint().unwrap_or("-");
            format!("at {place}: {}\nhint: {hint}\n", error.message())
        }
        other => format!("not refused: {other:?}\n"),
    }
}

/// The message of each expression, as a column's.
fn messages(expressions: &[&str]) -> String {
    let mut told = String::new();
    for expression in expressions {
        let refused = refusal(&json!({ "columns": { "x": expression } }), None);
        writeln!(told, "{}", refused.trim_start_matches("at config.columns.x: ")).unwrap_or_default();
    }
    told
}

fn check(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_omit_expression(true);
    settings.set_prepend_module_to_snapshot(false);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

#[test]
fn what_is_not_written_right() {
    check(
        "syntax",
        &messages(&[
            "",
            "v14 <",
            "v14 < -8 or",
            "(v14 < -8",
            "v14 < -8)",
            "v14 = = 8",
            "v14 == 8",
            "ok && ok",
            "!ok",
            "v14 --8",
            "1 < v14 < 3",
            "amount 5",
            "country 'DE'",
            "country = 'DE",
            "`coun",
            "country in DE, FR",
            "country in 'DE'",
            "country in ()",
            "amount between 1",
            "amount between 1 or 2",
            "case when ok then 1",
            "case ok end",
            "cast(amount as number)",
            "cast(amount as varchr)",
            "cast(amount as decimal)",
            "cast(amount as decimal(40, 2))",
            "cast(amount, int)",
            "amount is 5",
            "2x > 1",
            "amount # 5",
            "end > 1",
            "then",
            "o.",
            "round(amount,)",
            "99999999999999999999999999999999999999999",
            "1e999",
        ]),
    );
}

#[test]
fn what_is_not_there() {
    check(
        "names",
        &messages(&[
            "amout > 5",
            "v14 < -8 or amount > 2000 and contry = 'KP'",
            "nothing_like_it > 5",
            "o.depp",
            "amount.cents",
            "length > 5",
            "lenght(country)",
            "frobnicate(1, 2)",
            "round()",
            "round(1, 2, 3)",
            "now(1)",
            "date_part('yaer', at)",
            "date_part(country, at)",
            "date_add('dow', 1, at)",
            "country in blocked",
            "country in id",
            "x > 5",
        ]),
    );
}

#[test]
fn what_is_of_another_type() {
    check(
        "types",
        &messages(&[
            "-country > 2",
            "v14 < -8 or amount - country > 0",
            "amount + 'x'",
            "country + 'x'",
            "amount = 'DE'",
            "country > 5",
            "country and ok",
            "not amount",
            "ok > true",
            "ok = 1",
            "amount || 'x'",
            "lower(amount)",
            "abs(country)",
            "at + 1",
            "at - at",
            "at > 'yesterday'",
            "at > 5",
            "date '2026-02-30'",
            "timestamp 'noon'",
            "tags = tags",
            "tags",
            "null",
            "coalesce(amount, country)",
            "case when ok then 1 else 'x' end",
            "if(amount, 1, 2)",
            "country in ('DE', 5)",
            "amount between 'a' and 'b'",
            "country like amount",
            "country like 'x\\'",
            "greatest(ok, true)",
            "cast(ok as date)",
            "cast(id as timestamp)",
            "cast(amount as boolean)",
            "cast(tags as text)",
            "substr(country, 1.5)",
            "round(amount, id)",
            "date_trunc('day', country)",
            "date_add('hour', 1, cast(at as date))",
            "\"country\" = 'DE'",
            "amount is true",
        ]),
    );
}

#[test]
fn what_is_wrong_around_expressions() {
    let mut told = String::new();
    for config in [
        json!({ "filter": "amount" }),
        json!({ "filter": 5 }),
        json!({ "filtr": "ok" }),
        json!({ "columns": ["ok"] }),
        json!({ "columns": { "X": "1", "x": "2" } }),
        json!({ "routes": { "flagged": { "when": "amout > 5" } } }),
        json!({ "routes": { "flagged": { "wen": "ok" } } }),
        json!({ "routes": { "flagged": { "columns": ["id", "nope"] } } }),
        json!({ "routes": { "flagged": { "columns": ["id"], "except": ["ok"] } } }),
        json!({ "routes": { "flagged": { "except": ["nope"] } } }),
        json!({ "routes": { "flagged": { "columns": ["id", "ID"] } } }),
        json!({ "reject": [{ "code": "", "when": "ok" }] }),
        json!({ "reject": [{ "when": "ok" }] }),
        json!({ "reject": [{ "code": "a", "when": "ok" }, { "code": "b", "when": "ok or" }] }),
        json!({ "columns": { "a": "b", "b": "a" } }),
    ] {
        writeln!(told, "{config}\n{}", refusal(&config, None)).unwrap_or_default();
    }
    check("config", &told);
}

#[test]
fn what_is_wrong_in_an_asset() {
    let told = |expression: &str, asset: &str| refusal(&json!({ "columns": { "x": expression } }), Some(asset));
    let told = [told("id in blocked", "1\n# two\ntwo\n"), told("at in blocked", "noon"), told("ok in blocked", "true")];
    check("assets", &told.join("\n"));
}

/// A caret stands under its character whatever stands before it.
#[test]
fn the_place_of_long_expressions_and_of_many_lines() {
    let long = format!("{}amout{} > 5", "amount + ".repeat(40), " + amount".repeat(40));
    check(
        "places",
        &messages(&[
            &long,
            "amount > 5\n  and amout > 5\n  and ok",
            "country = 'ünï😀' and amout > 5",
            "\t amout > 5",
            "country = 'two\nlines' and amout > 5",
            &format!("amount > 5 and {}", "x".repeat(300)),
        ]),
    );
}
