use forebay_sdk::testing::{CasesError, Harness, HarnessError, run_cases};
use serde_json::json;

use super::Filter;

/// The folders of `cases/`, natively; `forebay test` runs them in the sandbox.
#[test]
fn cases() -> Result<(), CasesError> {
    run_cases::<Filter>("cases")
}

#[test]
fn a_payment_of_just_the_limit_passes() -> Result<(), HarnessError> {
    let rows = "id,amount\na,9.99\nb,10\nc,10.01\n";
    let outcome = Harness::<Filter>::new().config(json!({ "at_least": 10 })).input_csv(rows).run()?;
    assert_eq!(outcome.column("out", "id"), ["b", "c"]);
    assert_eq!(outcome.filtered, 1);
    Ok(())
}

#[test]
fn a_limit_that_is_no_number_does_not_bind() {
    let rule = Harness::<Filter>::new().config(json!({ "at_least": "much" })).input_csv("amount\n1\n");
    let Err(HarnessError::Bind(error)) = rule.run() else { unreachable!("text must be refused") };
    assert_eq!(error.get_place(), Some("config.at_least"));
}
