use forebay_sdk::testing::{CasesError, Harness, HarnessError, run_cases};
use serde_json::json;

use super::Enrich;

/// The folders of `cases/`, natively; `forebay test` runs them in the sandbox.
#[test]
fn cases() -> Result<(), CasesError> {
    run_cases::<Enrich>("cases")
}

#[test]
fn a_currency_without_a_rate_is_null_and_counted() -> Result<(), HarnessError> {
    let rows = "amount,currency\n2,EUR\n3,XXX\n4,\n";
    let outcome = Harness::<Enrich>::new().asset("rates", "EUR 1.5\n").input_csv(rows).run()?;
    assert_eq!(outcome.column("out", "amount_usd"), [json!(3.0), json!(null), json!(null)]);
    assert_eq!(outcome.counts["unknown_currency"], 2);
    Ok(())
}

#[test]
fn a_line_that_is_no_rate_does_not_bind() {
    let rule = Harness::<Enrich>::new().asset("rates", "EUR much\n").input_csv("amount,currency\n2,EUR\n");
    let Err(HarnessError::Bind(error)) = rule.run() else { unreachable!("it must be refused") };
    assert!(error.to_string().contains("EUR much"), "{error}");
}
