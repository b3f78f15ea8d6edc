//! What `docs/expr.md` promises: its config, its message, its examples, and a line for each function.

use forebay_sdk::testing::{Harness, HarnessError};
use serde_json::{Value, json};

use crate::Expr;
use crate::check::FUNCTIONS;

const PAGE: &str = include_str!("../../../../docs/expr.md");

const ROW: &str = r#"{"amount": 2500.5, "country": "KP", "at": "2026-03-01T23:30:00Z", "note": null}
{"amount": 1.5, "country": "DE", "at": "2026-03-01T23:30:00Z", "note": "x"}"#;

/// A part of the page by its heading.
fn part(heading: &str) -> &'static str {
    let from = PAGE.split_once(&format!("## {heading}\n")).map(|(_, rest)| rest);
    from.map(|rest| rest.split("\n## ").next().unwrap_or(rest)).unwrap_or_else(|| unreachable!("there is no {heading}"))
}

/// The block of a language, by its number.
fn block(language: &str, number: usize) -> &'static str {
    let mut blocks = PAGE.split("\n```").filter_map(|block| block.strip_prefix(language)?.strip_prefix('\n'));
    blocks.nth(number).unwrap_or_else(|| unreachable!("there is no block {number} of {language}"))
}

fn answer(expression: &str) -> Result<Value, HarnessError> {
    let config = json!({ "columns": { "answer": expression } });
    let outcome = Harness::<Expr>::new().input_json(ROW).config(config).run()?;
    Ok(match outcome.rejects.iter().find(|reject| reject.row == 0) {
        Some(reject) => json!(format!("rejected: {}", reject.code)),
        None => outcome.column("out", "answer").remove(0),
    })
}

#[test]
fn its_examples_are_what_they_say() -> Result<(), HarnessError> {
    let mut examples = 0;
    for line in part("Examples").lines().filter_map(|line| line.strip_prefix("| `")?.strip_suffix("` |")) {
        let Some((expression, told)) = line.split_once("` | `") else { unreachable!("no example: {line}") };
        let told: Value = serde_json::from_str(told).unwrap_or_else(|error| unreachable!("{told}: {error}"));
        assert_eq!(answer(&expression.replace("\\|", "|"))?, told, "{expression}");
        examples += 1;
    }
    assert_eq!(examples, 23);
    Ok(())
}

#[test]
fn its_config_does_what_it_says() -> Result<(), HarnessError> {
    let config: Value = toml::from_str(block("toml", 0)).unwrap_or_else(|error| unreachable!("{error}"));
    let step = config["pipelines"]["fraud"]["steps"][0]["config"].clone();
    let rows = "{\"id\": 1, \"amount\": 3000.5, \"v14\": 0, \"country\": \"KP\"}\n{\"id\": 2, \"amount\": null}\n{\"id\": 3, \"amount\": -1}";
    let harness = Harness::<Expr>::new().input_json(rows).asset("blocked", "KP\n").config(step);
    let outcome = harness.run()?;
    assert_eq!((outcome.column("out", "flag"), outcome.column("flagged", "id")), (vec![json!(true)], vec![json!(1)]));
    assert_eq!((outcome.rejects[0].code.as_str(), outcome.filtered), ("no_amount", 1));
    let wrong = json!({ "columns": { "flag": "v14 < -8 or amount > 2000 and contry in blocked" } });
    let Err(HarnessError::Bind(error)) = harness.config(wrong).run() else { unreachable!("contry must be refused") };
    let told = format!("{}\nhint: {}", error.message(), error.get_hint().unwrap_or_default());
    assert_eq!(told, block("text", 0).trim_end());
    Ok(())
}

/// The table of nulls, line by line.
#[test]
fn its_table_of_nulls_holds() -> Result<(), HarnessError> {
    let mut lines = 0;
    for line in part("Null")
        .lines()
        .filter(|line| line.starts_with("| true") || line.starts_with("| false") || line.starts_with("| null"))
    {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [a, b, answers @ ..] = cells.as_slice() else { unreachable!("{line}") };
        let expressions = [
            format!("{a} and {b}"),
            format!("{a} or {b}"),
            format!("not {a}"),
            format!("{a} = {b}"),
            format!("{a} is distinct from {b}"),
        ];
        for (expression, told) in expressions.iter().zip(answers) {
            assert_eq!(answer(&format!("{expression} or false"))?.to_string(), **told, "{expression}");
        }
        lines += answers.len();
    }
    assert_eq!(lines, 15);
    Ok(())
}

#[test]
fn it_has_each_function() {
    let functions = part("Functions");
    for (name, ..) in FUNCTIONS {
        assert!(functions.contains(&format!("`{name}(")) || functions.contains(&format!("`{name}`")), "{name}");
    }
}
