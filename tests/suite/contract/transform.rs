//! The contract of [`forebay_model::ports::ModuleLoader`] and what it loads, held over three modules in the sandbox, and over the
//! rules in plain Rust that stand in for modules elsewhere in this suite.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use arrow_array::{Array as _, ArrayRef, Float64Array, Int64Array, StringArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use arrow_select::take::take;
use forebay_model::plan::{InputSource, OutputColumn};
use forebay_model::ports::{
    Assets, BatchInput, BoundTransform, Module, ModuleLoader as _, SegmentContext, Selection, TransformOutput,
};
use forebay_model::{Digest, ErrorClass, Timestamp};
use forebay_sandbox::{Sandbox, SandboxOptions};
use serde_json::{Value, json};

use crate::flow::world::{NativeRule, all, native, some, trap};
use crate::simulation::rule::SimModule;
use crate::whole::strange_modules::guest;
use crate::whole::support::{fraud_wasm, keep_wasm};

/// A module with a config that it takes, and one that it does not, where there is one.
struct World {
    name: &'static str,
    module: Arc<dyn Module>,
    config: Value,
    refused: Option<Value>,
    /// A number that makes a call fail.
    trap: Option<i64>,
}

fn sandbox() -> &'static Sandbox {
    static SANDBOX: OnceLock<Sandbox> = OnceLock::new();
    SANDBOX.get_or_init(|| Sandbox::new(SandboxOptions::default()).unwrap())
}

/// Numbers below ten are filtered, others sent twice and once; thirteen traps.
const NATIVE: NativeRule = NativeRule {
    requires: &["n"],
    routes: &["out", "others"],
    rule: |input| {
        let numbers = input.columns[0].as_any().downcast_ref::<Int64Array>().unwrap();
        if numbers.values().contains(&13) {
            return Err(trap("thirteen"));
        }
        let kept = (0_u32..).zip(numbers.values()).filter(|(_, n)| **n >= 10).map(|(row, _)| row);
        let twice = kept.flat_map(|row| [row, row]).collect();
        Ok(TransformOutput { emissions: vec![some(0, twice), all(1)], ..Default::default() })
    },
};

fn worlds() -> Vec<World> {
    let load = |path: &std::path::Path| sandbox().load(&std::fs::read(path).unwrap()).unwrap();
    vec![
        World {
            name: "fraud in the sandbox",
            module: load(fraud_wasm()),
            config: json!({}),
            refused: Some(json!({ "v14_belw": 1.0 })),
            trap: None,
        },
        World {
            name: "keep in the sandbox",
            module: load(keep_wasm()),
            config: json!({ "column": "name", "contains": "1" }),
            refused: Some(json!({ "column": "name", "contans": "1" })),
            trap: None,
        },
        World {
            name: "evil in the sandbox, which panics at each seventh of a thousand",
            module: load(&guest("evil")),
            config: json!({ "behaviour": "panic_7th", "columns": ["n", "name", "V14", "V17", "Amount"] }),
            refused: Some(json!({ "behaviour": "bind_error" })),
            trap: Some(7),
        },
        World {
            name: "a rule in plain Rust",
            module: native(NATIVE),
            config: json!({}),
            refused: None,
            trap: Some(13),
        },
        World {
            name: "the simulation's rule",
            module: Arc::new(SimModule::new()),
            config: json!({ "threshold": 3, "harsh": true, "broken": false, "refused": false }),
            refused: Some(json!({ "threshold": 3, "harsh": true, "broken": false, "refused": true })),
            trap: Some(5),
        },
    ]
}

fn schema() -> SchemaRef {
    let float = |name: &str| Field::new(name, DataType::Float64, true);
    let fields = vec![
        Field::new("n", DataType::Int64, true),
        Field::new("name", DataType::Utf8, true),
        float("V14"),
        float("V17"),
        float("Amount"),
    ];
    Arc::new(Schema::new(fields))
}

/// Records `first ..`, of which none makes a call fail: a batch's columns by name.
fn column(name: &str, numbers: &[i64]) -> ArrayRef {
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let float = |scale: f64| Arc::new(Float64Array::from_iter_values(numbers.iter().map(|n| *n as f64 * scale)));
    match name {
        "n" => Arc::new(Int64Array::from_iter_values(numbers.iter().copied())),
        "name" => Arc::new(StringArray::from_iter_values(numbers.iter().map(|n| format!("name {n}")))),
        "V14" => float(-0.5),
        _ => float(1.5),
    }
}

fn context() -> SegmentContext {
    SegmentContext {
        stream: "contract".into(),
        segment: "contract/0".into(),
        partition: "test".into(),
        first_position: "0".into(),
        landed_at: Timestamp::EPOCH,
        seed: 1,
    }
}

impl World {
    fn bound(&self) -> Arc<dyn BoundTransform> {
        self.module.bind(&schema(), &self.config, &Assets::default()).unwrap()
    }

    /// Numbers of which none makes a call fail, for any world.
    fn numbers() -> Vec<i64> {
        (0..400).filter(|n| n % 17 != 5 && n % 1000 != 7 && *n != 13).collect()
    }
}

fn input(bound: &dyn BoundTransform, numbers: &[i64]) -> BatchInput {
    let columns = bound.plan().inputs.iter().map(|input| column(&input.name, numbers)).collect();
    BatchInput { rows: numbers.len(), columns, numbers: numbers.iter().map(|n| u64::try_from(*n).unwrap()).collect() }
}

/// What a call came to, row by row: the record's number, its route and what was computed for it, in the order of rows.
fn answers(input: &BatchInput, output: &TransformOutput) -> BTreeSet<(u64, usize, usize, String)> {
    let mut answers = BTreeSet::new();
    for emission in &output.emissions {
        let rows: Vec<u32> = match &emission.selection {
            Selection::All => (0..u32::try_from(input.rows).unwrap()).collect(),
            Selection::Rows(rows) => rows.values().to_vec(),
        };
        let mut items = std::collections::BTreeMap::<u32, usize>::new();
        for (at, row) in rows.into_iter().enumerate() {
            let one = |column: &ArrayRef| format!("{:?}", column.slice(at, 1));
            let computed: Vec<_> = emission.computed.iter().map(one).collect();
            let item = items.entry(row).or_default();
            answers.insert((input.numbers[row as usize], emission.route, *item, computed.join(" ")));
            *item += 1;
        }
    }
    let refused = output.refusals.iter();
    answers.extend(refused.map(|refusal| {
        (input.numbers[refusal.row as usize], usize::MAX, 0, format!("{} {}", refusal.code, refusal.message))
    }));
    answers
}

#[test]
fn a_module_is_known_by_its_bytes() {
    let wasm = std::fs::read(keep_wasm()).unwrap();
    let (first, again) = (sandbox().load(&wasm).unwrap(), sandbox().load(&wasm).unwrap());
    assert_eq!((first.digest(), first.description()), (again.digest(), again.description()));
    assert_eq!(first.digest(), Digest::of(&wasm));
    for bytes in [&b""[..], b"no module", &wasm[..wasm.len() / 2]] {
        assert_eq!(sandbox().load(bytes).unwrap_err().class(), ErrorClass::Operator);
    }
}

#[test]
fn a_plan_reads_what_is_there_or_required_and_names_each_route_once() {
    for world in worlds() {
        let bound = world.bound();
        assert_eq!(bound.input(), &schema(), "{}", world.name);
        let known = |name: &String| schema().column_with_name(name).is_some();
        let plan = bound.plan();
        assert_eq!(plan, world.bound().plan(), "{}: the same each time", world.name);
        for input in plan.inputs.iter().filter(|input| input.source == InputSource::Column) {
            assert!(input.required || known(&input.name), "{}: {}", world.name, input.name);
        }
        let names: BTreeSet<_> = plan.routes.iter().map(|route| &route.name).collect();
        assert_eq!(names.len(), plan.routes.len(), "{}", world.name);
        for column in plan.routes.iter().flat_map(|route| &route.columns) {
            match column {
                OutputColumn::Pass { input, .. } => assert!(known(input), "{}", world.name),
                OutputColumn::PassOthers { .. } | OutputColumn::Computed(_) => {}
            }
        }
    }
}

#[test]
fn what_does_not_bind_is_an_operators_error() {
    for world in worlds() {
        if let Some(config) = &world.refused {
            let error = world.module.bind(&schema(), config, &Assets::default()).unwrap_err();
            assert_eq!(error.class(), ErrorClass::Operator, "{}: {error}", world.name);
        }
    }
}

#[test]
fn an_answer_is_valid_by_the_plan() {
    for world in worlds() {
        let bound = world.bound();
        let input = input(bound.as_ref(), &World::numbers());
        let output = bound.instance(&context()).unwrap().process(&input).unwrap();
        assert!(!output.emissions.is_empty(), "{}", world.name);
        for emission in &output.emissions {
            let route = &bound.plan().routes[emission.route];
            let rows = match &emission.selection {
                Selection::All => input.rows,
                Selection::Rows(rows) => {
                    assert!(rows.values().iter().all(|row| (*row as usize) < input.rows), "{}", world.name);
                    rows.len()
                }
            };
            assert_eq!(emission.computed.len(), route.computed.fields().len(), "{}", world.name);
            for (column, field) in emission.computed.iter().zip(route.computed.fields()) {
                assert_eq!((column.len(), column.data_type()), (rows, field.data_type()), "{}", world.name);
            }
        }
        let refused: BTreeSet<_> = output.refusals.iter().map(|refusal| refusal.row).collect();
        assert_eq!(refused.len(), output.refusals.len(), "{}: each row once", world.name);
    }
}

#[test]
fn the_same_rows_have_the_same_answer_whatever_stands_beside_them() {
    for world in worlds() {
        let bound = world.bound();
        let numbers = World::numbers();
        let whole = input(bound.as_ref(), &numbers);
        let due = answers(&whole, &bound.instance(&context()).unwrap().process(&whole).unwrap());
        assert_eq!(
            due,
            answers(&whole, &bound.instance(&context()).unwrap().process(&whole).unwrap()),
            "{}",
            world.name
        );
        for size in [1, 7, 200] {
            let mut instance = bound.instance(&context()).unwrap();
            let mut seen = BTreeSet::new();
            for part in numbers.chunks(size) {
                let part = input(bound.as_ref(), part);
                seen.extend(answers(&part, &instance.process(&part).unwrap()));
            }
            assert_eq!(seen, due, "{} by {size}", world.name);
        }
        let backwards: Vec<u32> = (0..u32::try_from(whole.rows).unwrap()).rev().collect();
        let order = arrow_array::UInt32Array::from(backwards);
        let columns = whole.columns.iter().map(|column| take(column, &order, None).unwrap()).collect();
        let turned = BatchInput { rows: whole.rows, columns, numbers: whole.numbers.iter().rev().copied().collect() };
        let seen = answers(&turned, &bound.instance(&context()).unwrap().process(&turned).unwrap());
        assert_eq!(seen, due, "{} backwards", world.name);
    }
}

#[test]
fn a_call_that_fails_is_an_error_and_others_go_on() {
    for world in worlds() {
        let Some(bad) = world.trap else { continue };
        let bound = world.bound();
        let mut beside = bound.instance(&context()).unwrap();
        let good = input(bound.as_ref(), &World::numbers());
        let due = answers(&good, &beside.process(&good).unwrap());
        let failed = bound.instance(&context()).unwrap().process(&input(bound.as_ref(), &[bad])).unwrap_err();
        assert!(!failed.message.is_empty(), "{}", world.name);
        assert_eq!(answers(&good, &beside.process(&good).unwrap()), due, "{}", world.name);
        assert_eq!(answers(&good, &bound.instance(&context()).unwrap().process(&good).unwrap()), due, "{}", world.name);
    }
}
