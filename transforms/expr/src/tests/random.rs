//! Random expressions over random rows, against the slow evaluator.

use forebay_sdk::random::Random;
use forebay_sdk::testing::Harness;
use forebay_sdk::testing::arrow_array::{BooleanArray, Float64Array, Int64Array, StringArray};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::slow::{Tree, V};
use crate::Expr;

const COLUMNS: [&str; 8] = ["i", "j", "f", "g", "b", "c", "s", "t"];

/// Draws trees and rows: a seed makes the same ones again, and a lesser depth is a smaller tree.
struct Draw(Random);

type Make = fn(&mut Draw, u32) -> Tree;

const INTS: [i64; 12] = [0, 1, -1, 2, -2, 3, 4, -4, i64::MAX, i64::MIN, 1 << 53 | 1, 1_000_000_007];
const FLOATS: [f64; 14] =
    [0.0, -0.0, 1.0, -1.0, 2.0, 3.0, 0.5, -2.5, 1e308, -1e308, 1e-300, 9e18, -9_223_372_036_854_775_808.0, 1e6];
const TEXTS: [&str; 14] = ["", "a", "b", "ab", "ba", " a ", "ü", "it's", "100%", "😀", "7", " -12 ", "2.5", "x7"];

impl Draw {
    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.0.next_u64() % bound as u64).unwrap_or(0)
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    fn node(&mut self, name: &'static str, depth: u32, parts: &[Make]) -> Tree {
        Tree::Node(name, parts.iter().map(|make| make(self, depth)).collect())
    }

    fn value(&mut self, column: usize) -> V {
        if self.below(4) == 0 {
            return V::Null;
        }
        match column / 2 {
            0 => V::Int(self.one(&INTS)),
            1 => V::Float(self.one(&FLOATS)),
            2 => V::Bool(self.below(2) == 0),
            _ => V::Text(self.one(&TEXTS).to_owned()),
        }
    }

    fn rows(&mut self) -> Vec<Vec<V>> {
        (0..=self.below(16)).map(|_| (0..COLUMNS.len()).map(|column| self.value(column)).collect()).collect()
    }

    /// A column of the pair that begins at `first`, or a constant of its type.
    fn leaf(&mut self, first: usize) -> Tree {
        if self.below(5) < 3 {
            return Tree::Column(first + self.below(2));
        }
        loop {
            // A null has no type of its own: it stands in lists only.
            let value = self.value(first);
            if value != V::Null {
                return Tree::Constant(value);
            }
        }
    }

    /// What every type has.
    fn common(&mut self, own: Make, depth: u32) -> Tree {
        match self.below(4) {
            0 => self.node("case", depth, &[bool_tree, own, bool_tree, own, own]),
            1 => self.node("if(", depth, &[bool_tree, own, own]),
            2 => self.node("coalesce(", depth, &[own, own, own]),
            _ => self.node("nullif(", depth, &[own, own]),
        }
    }
}

fn number_tree(draw: &mut Draw, depth: u32) -> Tree {
    if draw.below(2) == 0 { int_tree(draw, depth) } else { float_tree(draw, depth) }
}

fn any_tree(draw: &mut Draw, depth: u32) -> Tree {
    let make: Make = draw.one(&[number_tree as Make, text_tree, bool_tree]);
    make(draw, depth)
}

fn int_leaf(draw: &mut Draw, _: u32) -> Tree {
    draw.leaf(0)
}

fn text_leaf(draw: &mut Draw, _: u32) -> Tree {
    draw.leaf(6)
}

fn int_tree(draw: &mut Draw, depth: u32) -> Tree {
    let Some(depth) = depth.checked_sub(1) else { return draw.leaf(0) };
    match draw.below(8) {
        0 => draw.leaf(0),
        1..=3 => {
            let operator = draw.one(&["+", "-", "*", "%"]);
            draw.node(operator, depth, &[int_tree, int_tree])
        }
        4 => {
            let function = draw.one(&["negative", "abs("]);
            draw.node(function, depth, &[int_tree])
        }
        5 => {
            let function = draw.one(&["greatest(", "least("]);
            draw.node(function, depth, &[int_tree, int_tree, int_tree])
        }
        6 if draw.below(2) == 0 => draw.node("length(", depth, &[text_tree]),
        6 => {
            let from = draw.one(&[float_tree as Make, text_tree, bool_tree]);
            draw.node("integer", depth, &[from])
        }
        _ => draw.common(int_tree, depth),
    }
}

fn float_tree(draw: &mut Draw, depth: u32) -> Tree {
    let Some(depth) = depth.checked_sub(1) else { return draw.leaf(2) };
    match draw.below(8) {
        0 => draw.leaf(2),
        1..=3 => {
            let operator = draw.one(&["+", "-", "*", "/", "%"]);
            let sides: [Make; 2] =
                if draw.below(2) == 0 { [float_tree, number_tree] } else { [number_tree, float_tree] };
            draw.node(operator, depth, &sides)
        }
        4 => draw.node("/", depth, &[int_tree, int_tree]),
        5 => {
            let function = draw.one(&["negative", "abs(", "floor("]);
            draw.node(function, depth, &[float_tree])
        }
        6 if draw.below(2) == 0 => {
            let function = draw.one(&["greatest(", "least("]);
            draw.node(function, depth, &[float_tree, float_tree])
        }
        6 => {
            let from = draw.one(&[int_tree as Make, text_tree]);
            draw.node("float", depth, &[from])
        }
        _ => draw.common(float_tree, depth),
    }
}

fn text_tree(draw: &mut Draw, depth: u32) -> Tree {
    let Some(depth) = depth.checked_sub(1) else { return draw.leaf(6) };
    match draw.below(7) {
        0 => draw.leaf(6),
        1 => draw.node("||", depth, &[text_tree, text_tree]),
        2 => draw.node("concat(", depth, &[text_tree, text_tree, text_tree]),
        3 => {
            let function = draw.one(&["upper(", "trim("]);
            draw.node(function, depth, &[text_tree])
        }
        4 => draw.node("substr(", depth, &[text_tree, int_leaf, int_leaf]),
        5 => {
            let from = draw.one(&[int_tree as Make, bool_tree]);
            draw.node("text", depth, &[from])
        }
        _ => draw.common(text_tree, depth),
    }
}

fn bool_tree(draw: &mut Draw, depth: u32) -> Tree {
    let Some(depth) = depth.checked_sub(1) else { return draw.leaf(4) };
    const ORDERS: [&str; 7] = ["=", "<>", "<", "<=", ">", ">=", "is distinct from"];
    match draw.below(13) {
        0 => draw.leaf(4),
        1 => draw.node("not", depth, &[bool_tree]),
        2..=4 => {
            let operator = draw.one(&["and", "or", "and", "or", "=", "<>", "is distinct from"]);
            draw.node(operator, depth, &[bool_tree, bool_tree])
        }
        5 | 6 => {
            let operator = draw.one(&ORDERS);
            draw.node(operator, depth, &[number_tree, number_tree])
        }
        7 => {
            let operator = draw.one(&ORDERS);
            draw.node(operator, depth, &[text_tree, text_tree])
        }
        8 => {
            let of = draw.one(&[number_tree as Make, text_tree]);
            draw.node("between", depth, &[of, of, of])
        }
        9 => {
            let lists: [&[Make]; 3] = [
                &[number_tree, number_tree, number_tree, number_tree],
                &[int_tree, int_leaf, null, int_leaf],
                &[text_tree, text_leaf, text_leaf, text_leaf],
            ];
            let list = draw.one(&lists);
            draw.node("in", depth, list)
        }
        10 => {
            let function = draw.one(&["contains(", "starts_with("]);
            draw.node(function, depth, &[text_tree, text_tree])
        }
        11 => {
            let test = draw.one(&["is null", "is not null", "is true", "is not false"]);
            let of: Make = if test.ends_with("null") { any_tree } else { bool_tree };
            draw.node(test, depth, &[of])
        }
        _ => draw.common(bool_tree, depth),
    }
}

fn null(_: &mut Draw, _: u32) -> Tree {
    Tree::Constant(V::Null)
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

/// Depths up to this; a failure is shrunk to the least.
const DEPTH: u32 = 5;

fn compare(make: Make, seed: u64, depth: u32) -> Result<(), TestCaseError> {
    let mut draw = Draw(Random::new(seed));
    let tree = make(&mut draw, depth);
    let rows = draw.rows();
    agrees(&tree, &rows)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn conditions_answer_as_the_slow_evaluator_does(seed in any::<u64>(), depth in 0..=DEPTH) {
        compare(bool_tree, seed, depth)?;
    }

    #[test]
    fn integers_are_those_of_the_slow_evaluator(seed in any::<u64>(), depth in 0..=DEPTH) {
        compare(int_tree, seed, depth)?;
    }

    #[test]
    fn floats_are_those_of_the_slow_evaluator(seed in any::<u64>(), depth in 0..=DEPTH) {
        compare(float_tree, seed, depth)?;
    }

    #[test]
    fn texts_are_those_of_the_slow_evaluator(seed in any::<u64>(), depth in 0..=DEPTH) {
        compare(text_tree, seed, depth)?;
    }

    /// A filter, a route and a reject by a condition: the rows for which it is true.
    #[test]
    fn rows_go_where_their_conditions_are_true(seed in any::<u64>(), depth in 0..3_u32) {
        let mut draw = Draw(Random::new(seed));
        let [filter, when, refuse] = [(); 3].map(|()| bool_tree(&mut draw, depth));
        let rows = draw.rows();
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
