use forebay_sdk::testing::{CasesError, Harness, HarnessError, run_cases};
use serde_json::json;

use super::Fraud;

const PAYMENTS: &str = r#"
{"event_id": "a", "amount": 10.5, "v14": -8.5, "v17": 1.0, "country": "DE"}
{"event_id": "b", "amount": 2000.01, "v14": -8.0, "v17": -2.5, "country": "KP"}
{"event_id": "c", "amount": 2000, "v14": 0, "v17": 0, "country": "KP"}
{"event_id": "d", "amount": 9000, "v14": 1.5, "v17": 0.25, "country": null}
{"event_id": "e", "amount": 9000, "v14": null, "v17": 0.25, "country": "DE"}
"#;

fn harness() -> Harness<Fraud> {
    Harness::new().input_json(PAYMENTS)
}

#[test]
fn cases() -> Result<(), CasesError> {
    run_cases::<Fraud>("cases")
}

#[test]
fn each_payment_has_a_reason_and_a_score() -> Result<(), HarnessError> {
    let outcome = harness().run()?;
    let none = "none";
    assert_eq!(outcome.column("scored", "reason"), ["v14_below_limit", "amount_in_blocked_country", none, none]);
    assert_eq!(outcome.column("scored", "flagged"), [true, true, false, false]);
    // The same operations in the same order: bit for bit.
    let scores = [(10.5, -8.5, 1.0), (2000.01, -8.0, -2.5), (2000.0, 0.0, 0.0), (9000.0, 1.5, 0.25)]
        .map(|(amount, v14, v17): (f64, f64, f64)| amount * 0.001 - v14 * 0.6 - v17 * 0.4);
    assert_eq!(outcome.column("scored", "score"), scores);
    assert_eq!(outcome.column("flagged", "event_id"), ["a", "b"]);
    assert_eq!(outcome.rows("flagged"), outcome.rows("scored")[..2]);
    Ok(())
}

#[test]
fn a_payment_without_a_score_is_rejected() -> Result<(), HarnessError> {
    let outcome = harness().run()?;
    assert_eq!(outcome.rejects.len(), 1);
    assert_eq!((outcome.rejects[0].row, outcome.rejects[0].code.as_str()), (4, "required_missing"));
    Ok(())
}

#[test]
fn thresholds_come_from_the_config() -> Result<(), HarnessError> {
    let outcome = harness().config(json!({"v14_below": -9, "amount_above": 1999.5})).run()?;
    assert_eq!(outcome.column("flagged", "event_id"), ["b", "c"]);
    Ok(())
}

#[test]
fn blocked_countries_come_from_the_asset_or_the_config() -> Result<(), HarnessError> {
    let flagged = |harness: Harness<Fraud>| Ok(harness.run()?.column("flagged", "event_id"));
    assert_eq!(flagged(harness().asset("blocked", "DE # for a test\n"))?, ["a"]);
    assert_eq!(flagged(harness().config(json!({"blocked_countries": ["KP"]})))?, ["a", "b"]);
    let both = harness().asset("blocked", "DE").config(json!({"blocked_countries": ["KP"]}));
    let Err(HarnessError::Bind(error)) = both.run() else { unreachable!("both must be refused") };
    assert_eq!(error.get_place(), Some("config.blocked_countries"));
    Ok(())
}

/// The columns of the card data: other case, no country.
#[test]
fn columns_are_found_by_case_and_by_config() -> Result<(), HarnessError> {
    let rows = "Time,V14,V17,Amount,Class\n0,-9.25,0.5,12,\"1\"\n1,0.25,0.5,90000,\"0\"\n";
    let outcome = Harness::<Fraud>::new().input_csv(rows).run()?;
    assert_eq!(outcome.column("flagged", "Time"), [0]);
    assert_eq!(outcome.column("scored", "score")[0], json!(12.0 * 0.001 - -9.25 * 0.6 - 0.5 * 0.4));
    let columns = json!({"columns": {"v14": "V17", "v17": "V14"}});
    assert!(Harness::<Fraud>::new().input_csv(rows).config(columns).run()?.rows("flagged").is_empty());
    let unknown = Harness::<Fraud>::new().input_csv(rows).config(json!({"columns": {"v15": "V15"}})).run();
    let Err(HarnessError::Bind(error)) = unknown else { unreachable!("v15 must be refused") };
    assert_eq!(error.get_place(), Some("config.columns.v15"));
    Ok(())
}

#[test]
fn a_column_that_is_text_does_not_bind() {
    let rows = r#"{"v14": "low", "v17": 1, "amount": 1}"#;
    let Err(HarnessError::Bind(error)) = Harness::<Fraud>::new().input_json(rows).run() else {
        unreachable!("text must be refused")
    };
    assert_eq!(error.get_place(), Some("v14"));
}
