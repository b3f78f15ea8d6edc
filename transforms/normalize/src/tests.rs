use forebay_sdk::testing::{CasesError, Harness, HarnessError, run_cases};
use serde_json::{Value, json};

use super::Normalize;

const ORDERS: &str = r#"
{"orderId": "o1", "total": "12.50", "items": [{"sku": "a", "price": "2.5", "qty": 1}, {"sku": "b", "price": "10", "qty": 1}]}
{"orderId": "o2", "total": "x", "items": [{"sku": "c", "price": "1", "qty": 3}]}
{"orderId": "o3", "total": null, "items": null}
{"orderId": "o4", "total": "1e2", "items": [null, {"sku": "d", "price": null, "qty": null}]}
{"orderId": "o5", "total": "1", "items": [{"sku": "e", "price": "cheap", "qty": 1}]}
"#;

fn harness(config: Value) -> Harness<Normalize> {
    Harness::new().config(config).input_json(ORDERS)
}

fn config() -> Value {
    json!({
        "key": ["orderId"], "rename": {"orderId": "order_id"}, "numbers": ["total"],
        "item_rename": {"sku": "product"}, "item_numbers": ["price"],
    })
}

#[test]
fn cases() -> Result<(), CasesError> {
    run_cases::<Normalize>("cases")
}

#[test]
fn an_order_becomes_one_row_and_one_for_each_item() -> Result<(), HarnessError> {
    let outcome = harness(config()).run()?;
    assert_eq!(
        outcome.rows("orders"),
        [
            json!({"order_id": "o1", "total": 12.5, "item_count": 2}),
            json!({"order_id": "o3", "total": null, "item_count": 0}),
            json!({"order_id": "o4", "total": 100.0, "item_count": 1}),
        ]
    );
    assert_eq!(
        outcome.rows("items"),
        [
            json!({"order_id": "o1", "line": 1, "product": "a", "price": 2.5, "qty": 1}),
            json!({"order_id": "o1", "line": 2, "product": "b", "price": 10.0, "qty": 1}),
            json!({"order_id": "o4", "line": 1, "product": "d", "price": null, "qty": null}),
        ]
    );
    Ok(())
}

#[test]
fn a_text_that_is_no_number_rejects_the_order_with_its_items() -> Result<(), HarnessError> {
    let outcome = harness(config()).run()?;
    let rejects: Vec<_> = outcome.rejects.iter().map(|r| (r.row, r.code.as_str(), r.message.as_str())).collect();
    assert_eq!(
        rejects,
        [
            (1, "not_a_number", "total: \"x\" is not a number"),
            (4, "not_a_number", "line 1, price: \"cheap\" is not a number"),
        ]
    );
    harness(config()).check_splits()
}

#[test]
fn numbers_that_are_numbers_already_stay_so() -> Result<(), HarnessError> {
    let rows = r#"{"id": 1, "total": 5, "items": [{"price": 2}]}"#;
    let config = json!({"key": ["id"], "numbers": ["total", "not_there_yet"], "item_numbers": ["price"]});
    let outcome = Harness::<Normalize>::new().config(config).input_json(rows).run()?;
    assert_eq!(outcome.rows("orders"), [json!({"id": 1, "total": 5.0, "item_count": 1})]);
    assert_eq!(outcome.rows("items"), [json!({"id": 1, "line": 1, "price": 2.0})]);
    Ok(())
}

#[test]
fn without_items_there_are_orders_still() -> Result<(), HarnessError> {
    let outcome = Harness::<Normalize>::new().input_json(r#"{"id": 1}"#).run()?;
    assert_eq!(outcome.rows("orders"), [json!({"id": 1, "item_count": 0})]);
    assert!(outcome.rows("items").is_empty());
    Ok(())
}

#[test]
fn what_is_no_list_of_structs_does_not_bind() {
    for (config, place) in [
        (json!({"items": "total"}), "config.items"),
        (json!({"key": ["nope"]}), "nope"),
        (json!({"item": "items"}), "config.item"),
        (json!({"numbers": ["items"]}), "items"),
    ] {
        let error = harness(config.clone()).run().err();
        let Some(HarnessError::Bind(error)) = error else { unreachable!("{config} gave {error:?}") };
        assert_eq!(error.get_place(), Some(place), "{config}: {error}");
    }
}
