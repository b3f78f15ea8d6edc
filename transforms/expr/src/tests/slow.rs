//! The language once more, row by row and one value at a time, as plainly as it can be said: what the random tests compare with. It shares
//! no code with the rule.

use serde_json::{Value, json};

/// A value of one row.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum V {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
}

use V::{Bool, Float, Int, Null, Text};

/// An expression: a column, a constant, or an operation by its name.
#[derive(Debug, Clone)]
pub(super) enum Tree {
    Column(usize),
    Constant(V),
    Node(&'static str, Vec<Tree>),
}

impl V {
    pub(super) fn json(&self) -> Value {
        match self {
            Null => Value::Null,
            Bool(value) => json!(value),
            Int(value) => json!(value),
            Float(value) => json!(value),
            Text(value) => json!(value),
        }
    }

    fn float(&self) -> f64 {
        match self {
            Int(value) => *value as f64,
            Float(value) => *value,
            other => unreachable!("{other:?} is no number"),
        }
    }

    fn is(&self, wanted: bool) -> bool {
        *self == Bool(wanted)
    }
}

impl Tree {
    /// As it is written in a config, with every parenthesis.
    pub(super) fn text(&self, columns: &[&str]) -> String {
        let Self::Node(name, parts) = self else {
            return match self {
                Self::Constant(Null) => "null".to_owned(),
                Self::Constant(Bool(value)) => value.to_string(),
                Self::Constant(Int(value)) => format!("({value})"),
                Self::Constant(Float(value)) => format!("({value:?})"),
                Self::Constant(Text(value)) => format!("'{}'", value.replace('\'', "''")),
                Self::Column(column) => columns[*column].to_owned(),
                Self::Node(..) => unreachable!(),
            };
        };
        let told: Vec<_> = parts.iter().map(|part| part.text(columns)).collect();
        match (*name, told.as_slice()) {
            ("negative", [x]) => format!("(- {x})"),
            ("not", [x]) => format!("(not {x})"),
            ("is null" | "is not null" | "is true" | "is not false", [x]) => format!("({x} {name})"),
            ("between", [x, low, high]) => format!("({x} between {low} and {high})"),
            ("in", [x, list @ ..]) => format!("({x} in ({}))", list.join(", ")),
            ("case", [whens @ .., otherwise]) => {
                let arms: String = whens.chunks(2).map(|arm| format!(" when {} then {}", arm[0], arm[1])).collect();
                format!("(case{arms} else {otherwise} end)")
            }
            ("float" | "integer" | "text", [x]) => format!("try_cast({x} as {name})"),
            (call, parts) if call.ends_with('(') => format!("{call}{})", parts.join(", ")),
            (operator, [left, right]) => format!("({left} {operator} {right})"),
            other => unreachable!("{other:?}"),
        }
    }

    pub(super) fn value(&self, row: &[V]) -> V {
        let (name, parts) = match self {
            Self::Column(column) => return row[*column].clone(),
            Self::Constant(value) => return value.clone(),
            Self::Node(name, parts) => (*name, parts),
        };
        let x = |at: usize| parts[at].value(row);
        match name {
            "and" if x(0).is(false) || x(1).is(false) => Bool(false),
            "or" if x(0).is(true) || x(1).is(true) => Bool(true),
            "is null" => Bool(x(0) == Null),
            "is not null" => Bool(x(0) != Null),
            "is true" => Bool(x(0).is(true)),
            "is not false" => Bool(!x(0).is(false)),
            "is distinct from" => match (x(0), x(1)) {
                (Null, Null) => Bool(false),
                (Null, _) | (_, Null) => Bool(true),
                (a, b) => Bool(!equal(&a, &b)),
            },
            "case" => {
                let arms = (0..parts.len() - 1).step_by(2);
                arms.into_iter().find(|at| x(*at).is(true)).map_or_else(|| x(parts.len() - 1), |at| x(at + 1))
            }
            "if(" => {
                if x(0).is(true) {
                    x(1)
                } else {
                    x(2)
                }
            }
            "coalesce(" => (0..parts.len()).map(x).find(|value| *value != Null).unwrap_or(Null),
            "nullif(" => match (x(0), x(1)) {
                (a, b) if a != Null && b != Null && equal(&a, &b) => Null,
                (a, _) => a,
            },
            "greatest(" | "least(" => {
                let mut best = Null;
                for value in (0..parts.len()).map(x).filter(|value| *value != Null) {
                    let better = if name == "least(" { less(&value, &best) } else { less(&best, &value) };
                    if best == Null || better {
                        best = value;
                    }
                }
                best
            }
            "concat(" => Text(
                (0..parts.len())
                    .map(x)
                    .map(|value| if let Text(text) = value { text } else { String::new() })
                    .collect(),
            ),
            "in" => {
                let value = x(0);
                let list: Vec<_> = (1..parts.len()).map(x).collect();
                if value == Null {
                    Null
                } else if list.iter().any(|item| *item != Null && equal(&value, item)) {
                    Bool(true)
                } else if list.contains(&Null) {
                    Null
                } else {
                    Bool(false)
                }
            }
            "between" => {
                let within = |a: V, b: V| if a == Null || b == Null { Null } else { Bool(!less(&b, &a)) };
                match (within(x(1), x(0)), within(x(0), x(2))) {
                    (Bool(false), _) | (_, Bool(false)) => Bool(false),
                    (Null, _) | (_, Null) => Null,
                    _ => Bool(true),
                }
            }
            // All others are null where one of their parts is.
            _ => {
                let values: Vec<_> = (0..parts.len()).map(x).collect();
                if values.contains(&Null) { Null } else { plain(name, &values) }
            }
        }
    }
}

/// An operation on values none of which is null.
fn plain(name: &str, values: &[V]) -> V {
    let finite = |value: f64| if value.is_finite() { Float(value) } else { Null };
    let whole = |value: Option<i64>| value.map_or(Null, Int);
    match (name, values) {
        ("and", _) => Bool(true),
        ("or", _) => Bool(false),
        ("not", [Bool(value)]) => Bool(!value),
        ("=", [a, b]) => Bool(equal(a, b)),
        ("<>", [a, b]) => Bool(!equal(a, b)),
        ("<", [a, b]) => Bool(less(a, b)),
        (">", [a, b]) => Bool(less(b, a)),
        ("<=", [a, b]) => Bool(!less(b, a)),
        (">=", [a, b]) => Bool(!less(a, b)),
        ("+", [Int(a), Int(b)]) => whole(a.checked_add(*b)),
        ("-", [Int(a), Int(b)]) => whole(a.checked_sub(*b)),
        ("*", [Int(a), Int(b)]) => whole(a.checked_mul(*b)),
        ("%", [Int(_), Int(0)]) => Null,
        ("%", [Int(a), Int(b)]) => Int(a.wrapping_rem(*b)),
        ("+", [a, b]) => finite(a.float() + b.float()),
        ("-", [a, b]) => finite(a.float() - b.float()),
        ("*", [a, b]) => finite(a.float() * b.float()),
        ("/", [a, b]) => finite(a.float() / b.float()),
        ("%", [a, b]) => finite(a.float() % b.float()),
        ("negative", [Int(a)]) => whole(a.checked_neg()),
        ("negative", [a]) => Float(-a.float()),
        ("abs(", [Int(a)]) => whole(a.checked_abs()),
        ("abs(", [a]) => Float(a.float().abs()),
        ("floor(", [a]) => Float(a.float().floor()),
        ("float", [Int(a)]) => Float(*a as f64),
        ("float", [Text(text)]) if !text.trim().is_empty() => text.trim().parse().map_or(Null, Float),
        // All but the least of them have a float of the same size.
        ("integer", [Float(a)]) if a.trunc().abs() < 2_f64.powi(63) || *a == -(2_f64.powi(63)) => Int(*a as i64),
        ("integer", [Text(text)]) => text.trim().parse().map_or(Null, Int),
        ("integer", [Bool(a)]) => Int(i64::from(*a)),
        ("float" | "integer", _) => Null,
        ("text", [Int(a)]) => Text(a.to_string()),
        ("text", [Bool(a)]) => Text(a.to_string()),
        ("||", [Text(a), Text(b)]) => Text(format!("{a}{b}")),
        ("upper(", [Text(a)]) => Text(a.to_uppercase()),
        ("trim(", [Text(a)]) => Text(a.trim().to_owned()),
        ("length(", [Text(a)]) => whole(i64::try_from(a.chars().count()).ok()),
        ("contains(", [Text(a), Text(b)]) => Bool(a.contains(b.as_str())),
        ("starts_with(", [Text(a), Text(b)]) => Bool(a.starts_with(b.as_str())),
        ("substr(", [Text(a), Int(from), Int(count)]) => {
            let place = |at: usize| i128::try_from(at).unwrap_or(0) + 1;
            let end = i128::from(*from) + i128::from((*count).max(0));
            let end = end.min(i128::from(i64::MAX));
            let kept = a.chars().enumerate().filter(|(at, _)| place(*at) >= i128::from(*from) && place(*at) < end);
            Text(kept.map(|(_, character)| character).collect())
        }
        other => unreachable!("{other:?}"),
    }
}

fn equal(a: &V, b: &V) -> bool {
    match (a, b) {
        (Int(a), Int(b)) => a == b,
        (Int(_) | Float(_), Int(_) | Float(_)) => a.float() == b.float(),
        (a, b) => a == b,
    }
}

fn less(a: &V, b: &V) -> bool {
    match (a, b) {
        (Int(a), Int(b)) => a < b,
        (Int(_) | Float(_), Int(_) | Float(_)) => a.float() < b.float(),
        (Text(a), Text(b)) => a.as_bytes() < b.as_bytes(),
        (Null, _) | (_, Null) => false,
        other => unreachable!("{other:?} have no order"),
    }
}
