use forebay_sdk::testing::{CasesError, Harness, HarnessError, run_cases};
use serde_json::json;

use super::Route;

/// The folders of `cases/`, natively; `forebay test` runs them in the sandbox.
#[test]
fn cases() -> Result<(), CasesError> {
    run_cases::<Route>("cases")
}

#[test]
fn each_payment_goes_to_one_route() -> Result<(), HarnessError> {
    let rows = "id,amount\na,-0.01\nb,0\nc,100\nd,100.01\n";
    let outcome = Harness::<Route>::new().config(json!({ "large_above": 100 })).input_csv(rows).run()?;
    assert_eq!(outcome.column("refunds", "id"), ["a"]);
    assert_eq!(outcome.column("out", "id"), ["b", "c"]);
    assert_eq!(outcome.column("large", "id"), ["d"]);
    assert_eq!(outcome.filtered, 0);
    Ok(())
}
