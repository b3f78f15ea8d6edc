//! `bind`: what a plan may not say, and how it is told.

use forebay_model::ports::{Asset, Assets};
use forebay_model::{Digest, ErrorClass};
use insta::assert_snapshot;
use serde_json::json;

use crate::support::{config, evil, instance, rows, schema, steady};

fn refused(behaviour: &str) -> String {
    let error = evil().bind(&schema(), &config(behaviour), &Assets::default()).unwrap_err();
    assert_eq!(error.class(), ErrorClass::Operator);
    format!("{error}\n  hint: {}", error.hint().unwrap_or("-"))
}

#[test]
fn mistakes_are_named() {
    assert_snapshot!(refused("plan_unknown_input"), @r#"
    module evil reads column "amuont", which the input lacks
      hint: the input has "id", "reason"
    "#);
    assert_snapshot!(refused("plan_input_twice"), @r#"
    module evil reads column "id" twice
      hint: name each column once
    "#);
    assert_snapshot!(refused("plan_no_route"), @r#"
    module evil plans no route
      hint: a rule that lets rows pass has at least the route "out"
    "#);
    assert_snapshot!(refused("plan_two_routes_alike"), @r#"
    module evil plans two routes named "out"
      hint: give each route its own name
    "#);
    assert_snapshot!(refused("plan_route_name"), @r#"
    module evil names route 0 "../out"
      hint: use 1 to 64 letters, digits, '_' and '-', beginning with a letter
    "#);
    assert_snapshot!(refused("plan_unknown_pass"), @r#"
    module evil passes column "nowhere" to route "out", which the input lacks
      hint: the input has "id", "reason"
    "#);
    assert_snapshot!(refused("plan_name_twice"), @r#"
    module evil plans what does not fit: route "out" has two columns named "id"
      hint: pass columns of the input, each under a name of its own
    "#);
    assert_snapshot!(refused("plan_reserved"), @r#"
    module evil names a column of route "out" "_forebay_row"
      hint: names that begin with _forebay_ are forebay's own
    "#);
    assert_snapshot!(refused("plan_computed_range"), @r#"
    module evil puts computed column 99 on route "out", which computes 2
      hint: indexes count from 0 in the route's computed schema
    "#);
    assert_snapshot!(refused("plan_no_schema"), @r#"
    module evil puts computed column 0 on route "out", which computes 0
      hint: indexes count from 0 in the route's computed schema
    "#);
    assert_snapshot!(refused("plan_bad_schema"), @r#"
    module evil computes, for route "out", columns of a schema that cannot be read: it is no encapsulated Arrow IPC message (ff ff ff ff, its length, the message)
      hint: send an Arrow IPC schema message of types in the WIT's table
    "#);
}

#[test]
fn noise_for_a_schema_is_refused() {
    let said = refused("plan_noise_schema");
    assert!(
        said.starts_with("module evil computes, for route \"out\", columns of a schema that cannot be read: its "),
        "{said}"
    );
}

#[test]
fn the_modules_own_refusal_is_passed_on() {
    assert_snapshot!(refused("bind_error"), @"
    module evil refuses to bind at config.v14_below: the threshold is not a number
      hint: write v14_below = -8.0
    ");
}

#[test]
fn a_bind_that_fails_is_told() {
    let first = |behaviour: &str| steady(refused(behaviour).split(" (in ").next().unwrap());
    assert_snapshot!(first("panic_bind"), @"module evil failed in bind: panicked at tests/evil/guest/src/lib.rs:_ no plan today");
    assert_snapshot!(first("emit_in_bind"), @"module evil failed in bind: emit outside process");
    assert_snapshot!(first("reject_in_bind"), @"module evil failed in bind: reject outside process");
}

#[test]
fn config_and_assets_are_checked_first() {
    let error = evil().bind(&schema(), &json!([1]), &Assets::default()).unwrap_err();
    assert_snapshot!(error, @"module evil: its config is not a JSON object");
    let asset = Asset { digest: Digest::of(b"x"), bytes: bytes::Bytes::from_static(b"x") };
    let error =
        evil().bind(&schema(), &config("identity"), &Assets::new([("other".into(), asset)].into())).unwrap_err();
    assert_snapshot!(error.chain() + "\n  hint: " + error.hint().unwrap(), @r#"
    module evil: it has no asset "other"
      hint: the assets that it opens: notes
    "#);
}

#[test]
fn columns_that_cannot_cross_are_refused() {
    use arrow_schema::{DataType, Field, Schema};
    let schema = Schema::new(vec![Field::new("wide", DataType::Decimal256(50, 2), true)]);
    let error = evil().bind(&schema.into(), &config("identity"), &Assets::default()).unwrap_err();
    assert_snapshot!(error.chain() + "\n  hint: " + error.hint().unwrap(), @r#"
    module evil: column "wide" is of type Decimal256(50, 2), which no module can be given
      hint: declare another type for the column, or leave it out, in the stream's schema
    "#);
}

#[test]
fn a_required_column_may_be_missing_yet() {
    let bound = evil().bind(&schema(), &config("plan_missing_required"), &Assets::default()).unwrap();
    assert!(bound.plan().inputs.iter().any(|column| column.name == "later" && column.required));
    let mut input = rows(0);
    input.columns.push(arrow_array::new_null_array(&arrow_schema::DataType::Null, 0));
    let output = instance(&bound).process(&input).unwrap();
    assert!(output.emissions.is_empty());
}

#[test]
fn what_the_host_sends_is_checked_too() {
    let bound = evil().bind(&schema(), &config("identity"), &Assets::default()).unwrap();
    let mut input = rows(8);
    input.columns.swap(0, 1);
    assert_snapshot!(instance(&bound).process(&input).unwrap_err(), @r#"sandbox: column "id" is not 8 values of Int64"#);
    let mut input = rows(8);
    input.numbers.pop();
    assert_snapshot!(instance(&bound).process(&input).unwrap_err(), @"sandbox: 8 rows with 7 numbers and 2 columns where 2 are due");
}
