//! Random expressions over random rows, against the slow evaluator.

use forebay_sdk::testing::Harness;
use forebay_sdk::testing::arrow_array::{BooleanArray, Float64Array, Int64Array, StringArray};
use proptest::prelude::*;
use proptest::strategy::Union;
use serde_json::{Value, json};

use super::slow::{Tree, V};
use crate::Expr;

const COLUMNS: [&str; 8] = ["i", "j", "f", "g", "b", "c", "s", "t"];

const DEPTH: u32 = 4;

type Trees = BoxedStrategy<Tree>;

fn node(name: &'static str, parts: Vec<Trees>) -> Trees {
    parts.prop_map(move |parts| Tree::Node(name, parts)).boxed()
}

fn constant(values: impl Strategy<Value = V> + 'static) -> Trees {
    values.prop_map(Tree::Constant).boxed()
}

fn column(first: usize) -> Trees {
    prop_oneof![Just(Tree::Column(first)), Just(Tree::Column(first + 1))].boxed()
}

fn ints() -> BoxedStrategy<i64> {
    prop_oneof![4 => -4_i64..5, 1 => Just(i64::MAX), 1 => Just(i64::MIN), 1 => Just(1 << 53 | 1), 1 => any::<i64>()].boxed()
}

fn floats() -> BoxedStrategy<f64> {
    let odd = prop_oneof![Just(0.0), Just(-0.0), Just(1e308), Just(-1e308), Just(1e-300), Just(0.5), Just(-2.5), Just(9e18)];
    prop_oneof![3 => odd, 3 => (-4_i8..5).prop_map(f64::from), 1 => -1e6_f64..1e6].boxed()
}

fn texts() -> BoxedStrategy<String> {
    prop_oneof!["[ab]{0,3}", "[ aü'%😀]{0,3}", " ?-?[0-9]{1,3} ?", "[0-9]\\.[0-9]"].boxed()
}

/// What every type has.
fn any_of(depth: u32, own: fn(u32) -> Trees) -> Vec<Trees> {
    let next = || own(depth - 1);
    let when = || bool_tree(depth - 1);
    vec![
        node("case", vec![when(), next(), when(), next(), next()]),
        node("if(", vec![when(), next(), next()]),
        node("coalesce(", vec![next(), next(), next()]),
        node("nullif(", vec![next(), next()]),
    ]
}

fn int_tree(depth: u32) -> Trees {
    let leaf = prop_oneof![3 => column(0), 2 => constant(ints().prop_map(V::Int))].boxed();
    if depth == 0 {
        return leaf;
    }
    let next = || int_tree(depth - 1);
    let mut all = vec![leaf];
    all.extend(["+", "-", "*", "%"].map(|name| node(name, vec![next(), next()])));
    all.extend(["negative", "abs("].map(|name| node(name, vec![next()])));
    all.extend(["greatest(", "least("].map(|name| node(name, vec![next(), next(), next()])));
    all.push(node("length(", vec![text_tree(depth - 1)]));
    all.push(node("integer", vec![prop_oneof![float_tree(depth - 1), text_tree(depth - 1), bool_tree(depth - 1)].boxed()]));
    all.extend(any_of(depth, int_tree));
    Union::new(all).boxed()
}

fn float_tree(depth: u32) -> Trees {
    let leaf = prop_oneof![3 => column(2), 2 => constant(floats().prop_map(V::Float))].boxed();
    if depth == 0 {
        return leaf;
    }
    let next = || float_tree(depth - 1);
    let number = || prop_oneof![int_tree(depth - 1), float_tree(depth - 1)].boxed();
    let mut all = vec![leaf];
    all.extend(["+", "-", "*", "/", "%"].map(|name| node(name, vec![next(), number()])));
    all.extend(["+", "-", "*", "/", "%"].map(|name| node(name, vec![number(), next()])));
    all.push(node("/", vec![int_tree(depth - 1), int_tree(depth - 1)]));
    all.extend(["negative", "abs(", "floor("].map(|name| node(name, vec![next()])));
    all.extend(["greatest(", "least("].map(|name| node(name, vec![next(), next()])));
    all.push(node("float", vec![prop_oneof![int_tree(depth - 1), text_tree(depth - 1)].boxed()]));
    all.extend(any_of(depth, float_tree));
    Union::new(all).boxed()
}

fn text_tree(depth: u32) -> Trees {
    let leaf = prop_oneof![3 => column(6), 2 => constant(texts().prop_map(V::Text))].boxed();
    if depth == 0 {
        return leaf;
    }
    let next = || text_tree(depth - 1);
    let mut all = vec![leaf, node("||", vec![next(), next()]), node("concat(", vec![next(), next(), next()])];
    all.extend(["upper(", "trim("].map(|name| node(name, vec![next()])));
    all.push(node("substr(", vec![next(), int_tree(0), int_tree(0)]));
    all.push(node("greatest(", vec![next(), next()]));
    all.push(node("text", vec![prop_oneof![int_tree(depth - 1), bool_tree(depth - 1)].boxed()]));
    all.extend(any_of(depth, text_tree));
    Union::new(all).boxed()
}

fn bool_tree(depth: u32) -> Trees {
    let leaf = prop_oneof![3 => column(4), 1 => constant(any::<bool>().prop_map(V::Bool))].boxed();
    if depth == 0 {
        return leaf;
    }
    let next = || bool_tree(depth - 1);
    let number = || prop_oneof![int_tree(depth - 1), float_tree(depth - 1)].boxed();
    let text = || text_tree(depth - 1);
    let null = || Just(Tree::Constant(V::Null)).boxed();
    let mut all = vec![leaf, node("not", vec![next()])];
    all.extend(["and", "or", "and", "or", "=", "<>", "is distinct from"].map(|name| node(name, vec![next(), next()])));
    let orders = ["=", "<>", "<", "<=", ">", ">=", "is distinct from"];
    all.extend(orders.map(|name| node(name, vec![number(), number()])));
    all.extend(orders.map(|name| node(name, vec![text(), text()])));
    all.push(node("between", vec![number(), number(), number()]));
    all.push(node("between", vec![text(), text(), text()]));
    all.push(node("in", vec![number(), number(), number(), number()]));
    all.push(node("in", vec![int_tree(depth - 1), int_tree(0), null(), int_tree(0)]));
    all.push(node("in", vec![text(), text_tree(0), text_tree(0), prop_oneof![text_tree(0), null()].boxed()]));
    all.push(node("contains(", vec![text(), text()]));
    all.push(node("starts_with(", vec![text(), text_tree(0)]));
    for test in ["is null", "is not null"] {
        all.push(node(test, vec![prop_oneof![number(), text(), next()].boxed()]));
    }
    all.extend(["is true", "is not false"].map(|name| node(name, vec![next()])));
    all.extend(any_of(depth, bool_tree));
    Union::new(all).boxed()
}

fn rows() -> impl Strategy<Value = Vec<Vec<V>>> {
    let maybe = |values: BoxedStrategy<V>| prop_oneof![1 => Just(V::Null), 3 => values].boxed();
    let int = || maybe(ints().prop_map(V::Int).boxed());
    let float = || maybe(floats().prop_map(V::Float).boxed());
    let bool = || maybe(any::<bool>().prop_map(V::Bool).boxed());
    let text = || maybe(texts().prop_map(V::Text).boxed());
    prop::collection::vec(vec![int(), int(), float(), float(), bool(), bool(), text(), text()], 1..20)
}

fn harness(rows: &[Vec<V>], config: Value) -> Harness<Expr> {
    let each = |column: usize| rows.iter().map(move |row| &row[column]);
    let int = |column| each(column).map(|value| if let V::Int(value) = value { Some(*value) } else { None });
    let float = |column| each(column).map(|value| if let V::Float(value) = value { Some(*value) } else { None });
    let bool = |column| each(column).map(|value| if let V::Bool(value) = value { Some(*value) } else { None });
    let text = |column| each(column).map(|value| if let V::Text(value) = value { Some(value.as_str()) } else { None });
    Harness::new()
        .config(config)
        .column("i", int(0).collect::<Int64Array>())
        .column("j", int(1).collect::<Int64Array>())
        .column("f", float(2).collect::<Float64Array>())
        .column("g", float(3).collect::<Float64Array>())
        .column("b", bool(4).collect::<BooleanArray>())
        .column("c", bool(5).collect::<BooleanArray>())
        .column("s", text(6).collect::<StringArray>())
        .column("t", text(7).collect::<StringArray>())
}

fn agrees(tree: &Tree, rows: &[Vec<V>]) -> Result<(), TestCaseError> {
    let expression = tree.text(&COLUMNS);
    // As a column of its own, and by way of another one.
    let config = json!({ "columns": { "other": "answer", "answer": expression } });
    let outcome = harness(rows, config).run().map_err(|error| TestCaseError::fail(format!("{expression}: {error}")))?;
    let expected: Vec<_> = rows.iter().map(|row| tree.value(row).json()).collect();
    prop_assert_eq!(&outcome.column("out", "answer"), &expected, "{}", expression);
    prop_assert_eq!(&outcome.column("out", "other"), &expected, "{}", expression);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn conditions_answer_as_the_slow_evaluator_does(tree in bool_tree(DEPTH), rows in rows()) {
        agrees(&tree, &rows)?;
    }

    #[test]
    fn integers_are_those_of_the_slow_evaluator(tree in int_tree(DEPTH), rows in rows()) {
        agrees(&tree, &rows)?;
    }

    #[test]
    fn floats_are_those_of_the_slow_evaluator(tree in float_tree(DEPTH), rows in rows()) {
        agrees(&tree, &rows)?;
    }

    #[test]
    fn texts_are_those_of_the_slow_evaluator(tree in text_tree(DEPTH), rows in rows()) {
        agrees(&tree, &rows)?;
    }

    /// A filter and a route by a condition: the rows for which it is true.
    #[test]
    fn rows_go_where_their_conditions_are_true(filter in bool_tree(2), when in bool_tree(2), refuse in bool_tree(2), rows in rows()) {
        let [filter_text, when_text, refuse_text] = [&filter, &when, &refuse].map(|tree| tree.text(&COLUMNS));
        let config = json!({
            "filter": filter_text,
            "routes": { "some": { "when": when_text } },
            "reject": [{ "code": "refused", "when": refuse_text }],
        });
        let harness = harness(&rows, config);
        harness.check_splits().map_err(|error| TestCaseError::fail(error.to_string()))?;
        let outcome = harness.run().map_err(|error| TestCaseError::fail(error.to_string()))?;
        let holds = |tree: &Tree, row: &[V]| tree.value(row) == V::Bool(true);
        let refused = |row: &[V]| filter.value(row) != V::Bool(false) && holds(&refuse, row);
        let out = rows.iter().filter(|row| holds(&filter, row) && !refused(row));
        prop_assert_eq!(outcome.rows("some").len(), out.clone().filter(|row| holds(&when, row)).count());
        prop_assert_eq!(outcome.rows("out").len(), out.count());
        prop_assert_eq!(outcome.rejects.len(), rows.iter().filter(|row| refused(row)).count());
    }

    /// Whatever stands there: no panic.
    #[test]
    fn any_text_is_an_expression_or_is_refused(text in "[ -~ü]{0,40}") {
        let row = [V::Int(1), V::Int(2), V::Float(0.5), V::Null, V::Bool(true), V::Null, V::Text("x".to_owned()), V::Null];
        let _ = harness(&[row.to_vec()], json!({ "columns": { "x": text } })).run();
    }
}
