use forebay_sdk::testing::arrow_array::UInt64Array;
use forebay_sdk::testing::{CasesError, Harness, HarnessError, run_cases};
use serde_json::{Value, json};

use super::Keep;

const ROWS: &str = r#"
{"id": 1, "level": "error", "ms": 12.5, "ok": false}
{"id": 2, "level": "info", "ms": 3, "ok": true}
{"id": 3, "level": null, "ms": null, "ok": null}
"#;

fn kept(config: Value) -> Result<Vec<Value>, HarnessError> {
    Ok(Harness::<Keep>::new().config(config).input_json(ROWS).run()?.column("out", "id"))
}

#[test]
fn cases() -> Result<(), CasesError> {
    run_cases::<Keep>("cases")
}

#[test]
fn each_condition_keeps_its_rows() -> Result<(), HarnessError> {
    for (condition, expected) in [
        (json!({"column": "level", "equals": "error"}), vec![1]),
        (json!({"column": "level", "contains": "nf"}), vec![2]),
        (json!({"column": "ms", "above": 3}), vec![1]),
        (json!({"column": "ms", "below": 12.5}), vec![2]),
        (json!({"column": "ms", "above": 3, "below": 12}), vec![]),
        (json!({"column": "ms", "equals": 3}), vec![2]),
        (json!({"column": "id", "equals": 3}), vec![3]),
        (json!({"column": "ok", "equals": true}), vec![2]),
        (json!({"column": "OK", "equals": false}), vec![1]),
    ] {
        assert_eq!(kept(condition.clone())?, expected, "{condition}");
    }
    Ok(())
}

#[test]
fn nulls_are_rejected_dropped_or_kept() -> Result<(), HarnessError> {
    let run = |nulls| {
        let config = json!({"column": "level", "equals": "error", "nulls": nulls});
        Harness::<Keep>::new().config(config).input_json(ROWS).run()
    };
    let outcome = run("reject")?;
    assert_eq!((outcome.rejects.len(), outcome.filtered), (1, 1));
    assert_eq!((outcome.rejects[0].row, outcome.rejects[0].code.as_str()), (2, "required_missing"));
    let outcome = run("drop")?;
    assert_eq!((outcome.rejects.len(), outcome.filtered), (0, 2));
    assert_eq!(run("keep")?.column("out", "id"), [1, 3]);
    Ok(())
}

#[test]
fn a_column_that_is_not_there_counts_as_null() -> Result<(), HarnessError> {
    assert_eq!(kept(json!({"column": "x", "above": 1, "nulls": "keep"}))?, [1, 2, 3]);
    assert!(kept(json!({"column": "x", "above": 1, "nulls": "drop"}))?.is_empty());
    Ok(())
}

#[test]
fn large_integers_are_equal_only_to_themselves() -> Result<(), HarnessError> {
    let large = (1_u64 << 53) + 1;
    let harness = Harness::<Keep>::new().column("n", UInt64Array::from(vec![large - 1, large]));
    let outcome = harness.config(json!({"column": "n", "equals": large})).run()?;
    assert_eq!(outcome.column("out", "n"), [large]);
    Ok(())
}

#[test]
fn what_does_not_fit_the_column_does_not_bind() {
    for (config, place) in [
        (json!({"column": "ms", "contains": "x"}), "config.contains"),
        (json!({"column": "level", "above": 1}), "config.above"),
        (json!({"column": "level", "equals": 5}), "config.equals"),
        (json!({"column": "ms", "above": 1, "contains": "x"}), "config.contains"),
        (json!({"column": "ms"}), "config"),
        (json!({"column": "ms", "over": 1}), "config.over"),
        (json!({"column": "ms", "above": "1"}), "config.above"),
        (json!({"above": 1}), "config"),
    ] {
        let error = kept(config.clone()).err();
        let Some(HarnessError::Bind(error)) = error else { unreachable!("{config} gave {error:?}") };
        assert_eq!(error.get_place(), Some(place), "{config}: {error}");
    }
}
