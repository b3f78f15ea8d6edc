//! The guest's share: rules in the sandbox against the same rules compiled natively, what of a call is the boundary, and what
//! a new revision and a fresh instance cost.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::builder::{BooleanBuilder, Float64Builder, StringBuilder};
use arrow_array::cast::AsArray as _;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{ArrayRef, RecordBatch, StringArray};
use bench_rules::{Features, LIMIT, Lists, Payment, Reason, judge, weigh};
use forebay_model::Timestamp;
use forebay_model::ports::{
    Assets, BatchInput, BoundTransform, Module, ModuleLoader as _, SegmentContext, TransformInstance,
};
use forebay_sandbox::{Sandbox, SandboxOptions};
use serde_json::{Value, json};

use crate::cargo::cargo;
use crate::input::schema;
use crate::stages::{least, line};

/// A module of this workspace.
pub(crate) fn module(package: &str) -> std::path::PathBuf {
    let arguments = "build --quiet --lib --target wasm32-wasip2 --profile guest --message-format json -p";
    let output = cargo().args(arguments.split(' ')).arg(package).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|message| message["target"]["name"] == package.replace('-', "_"))
        .flat_map(|message| message["filenames"].as_array().cloned().unwrap_or_default())
        .filter_map(|name| name.as_str().map(std::path::PathBuf::from))
        .find(|path| path.extension().is_some_and(|extension| extension == "wasm"))
        .expect("a module")
}

fn context() -> SegmentContext {
    SegmentContext {
        stream: "payments".into(),
        segment: "payments/0".into(),
        partition: "bench".into(),
        first_position: "0".into(),
        landed_at: Timestamp::EPOCH,
        seed: 1,
    }
}

/// The input of a call: the plan's columns of a batch.
fn call_input(bound: &dyn BoundTransform, batch: &RecordBatch) -> BatchInput {
    let columns = bound
        .plan()
        .inputs
        .iter()
        .map(|input| Arc::clone(batch.column_by_name(&input.name).unwrap()))
        .collect::<Vec<ArrayRef>>();
    BatchInput { rows: batch.num_rows(), columns, numbers: (0..batch.num_rows() as u64).collect() }
}

/// How many batches are gone through in turns: as few as stay in the cache, where the decoder leaves those of a pipeline. With more,
/// the floor and the boundary measure the machine's memory.
const BATCHES: usize = 4;

/// How often each is measured; the least counts.
const ROUNDS: usize = 100;

/// All of it, on the payments of one file.
pub(crate) fn figures(folder: &Path) {
    let text = std::fs::read(folder.join("part-00.jsonl")).unwrap();
    let rows = BATCHES * 8192;
    let bytes = text.split_inclusive(|byte| *byte == b'\n').take(rows).map(|line| line.len() as u64).sum();
    let reader = arrow_json::ReaderBuilder::new(schema()).with_batch_size(8192).build(text.as_slice()).unwrap();
    let full: Vec<_> = reader.map(Result::unwrap).filter(|batch| batch.num_rows() == 8192).take(BATCHES).collect();
    assert_eq!(full.len(), BATCHES, "the file has fewer payments");
    println!("rules, one thread, {BATCHES} batches of 8,192 payments; MB/s of their JSON lines");
    let cache = tempfile::tempdir().unwrap();
    let options = || SandboxOptions { cache_dir: Some(cache.path().to_owned()), ..SandboxOptions::default() };
    let load = |package: &str| {
        let wasm = std::fs::read(module(package)).unwrap();
        let (compile, _) = least(1, || Sandbox::new(options()).unwrap().load(&wasm).unwrap());
        let sandbox = Sandbox::new(options()).unwrap();
        let (load, module) = least(1, || sandbox.load(&wasm).unwrap());
        (wasm.len(), compile, load, module)
    };
    let (size, compile, cached, fraud) = load("fraud");
    println!(
        "  {:<28} {:>8.0} ms     compile; {:.1} ms from the cache; {} KB of Wasm",
        "a new revision",
        compile.as_secs_f64() * 1e3,
        cached.as_secs_f64() * 1e3,
        size / 1000
    );
    let (.., rules) = load("bench-rules");
    let lists = Lists::default();
    let bench = |what, module, config: Value, echo: Option<Value>, native: &dyn Fn(&RecordBatch) -> Vec<ArrayRef>| {
        Rule { what, module, config, echo, native }.figures(&full, bytes);
    };
    bench(
        "string rule",
        &rules,
        json!({ "rule": "strings" }),
        Some(json!({ "rule": "strings", "echo": true })),
        &|batch| strings(&lists, batch),
    );
    bench(
        "numeric rule",
        &rules,
        json!({ "rule": "numbers" }),
        Some(json!({ "rule": "numbers", "echo": true })),
        &numbers,
    );
    bench("the demo's fraud rule", &fraud, json!({}), None, &demo);
    let (size, .., expr) = load("expr");
    println!("  {:<28} {:>8} KB     of Wasm", "expr", size / 1000);
    bench("the same in expr", &expr, as_expressions(), None, &demo);
    bench("its flag alone in expr", &expr, json!({ "columns": { "flagged": FLAG } }), None, &flag);
}

const FLAG: &str = "v14 < -8 or amount > 2000 and country in ('KP', 'IR', 'SY', 'CU', 'RU')";

/// The rule of `transforms/fraud` as a config of `transforms/expr`.
fn as_expressions() -> Value {
    json!({
        "columns": {
            "score": "amount * 0.001 - v14 * 0.6 - v17 * 0.4",
            "flagged": FLAG,
            "reason": "case when v14 < -8 then 'v14_below_limit' when flagged then 'amount_in_blocked_country' else 'none' end",
        },
        "routes": { "flagged": { "when": "flagged" } },
    })
}

/// A rule in both forms.
struct Rule<'a> {
    what: &'a str,
    module: &'a Arc<dyn Module>,
    config: Value,
    /// The config under which it computes the first batch only.
    echo: Option<Value>,
    native: &'a dyn Fn(&RecordBatch) -> Vec<ArrayRef>,
}

impl Rule<'_> {
    fn bound(&self, config: &Value) -> Arc<dyn BoundTransform> {
        self.module.bind(&schema(), config, &Assets::default()).unwrap()
    }

    /// One round in turns, so that what disturbs the machine disturbs both.
    fn figures(&self, batches: &[RecordBatch], bytes: u64) {
        let bound = self.bound(&self.config);
        let inputs: Vec<_> = batches.iter().map(|batch| call_input(bound.as_ref(), batch)).collect();
        let calls = inputs.len() as f64;
        let (bind, _) = least(50, || drop(bound.instance(&context()).unwrap()));
        let mut wasm = bound.instance(&context()).unwrap();
        let mut echo = self.echo.as_ref().map(|config| self.bound(config).instance(&context()).unwrap());
        let run = |instance: &mut Box<dyn TransformInstance>| {
            least(1, || inputs.iter().map(|input| instance.process(input).unwrap().emissions.len()).sum::<usize>()).0
        };
        let [mut floor, mut whole, mut boundary] = [Duration::MAX; 3];
        for _ in 0..ROUNDS {
            floor = floor.min(least(1, || batches.iter().map(|batch| (self.native)(batch).len()).sum::<usize>()).0);
            whole = whole.min(run(&mut wasm));
            boundary = echo.as_mut().map_or(boundary, |echo| boundary.min(run(echo)));
        }
        let micros = |time: Duration| time.as_secs_f64() * 1e6 / calls;
        line(
            &format!("{}, native (floor)", self.what),
            bytes,
            floor,
            &format!("{:.0} µs for 8,192 rows", micros(floor)),
        );
        let share = echo.is_some().then(|| {
            let (whole, boundary) = (micros(whole), micros(boundary));
            let share = 100.0 * boundary / whole;
            format!("; guest alone {:.0} µs; boundary {boundary:.0} µs, {share:.0} % of the call", whole - boundary)
        });
        line(
            &format!("{}, Wasm", self.what),
            bytes,
            whole,
            &format!(
                "{:.0} µs a call, {:.2} times the floor{}; {:.0} µs for an instance and its bind",
                micros(whole),
                whole.as_secs_f64() / floor.as_secs_f64(),
                share.unwrap_or_default(),
                bind.as_secs_f64() * 1e6
            ),
        );
    }
}

fn floats<'a>(batch: &'a RecordBatch, name: &str) -> &'a [f64] {
    batch.column_by_name(name).unwrap().as_primitive::<Float64Type>().values()
}

fn integers<'a>(batch: &'a RecordBatch, name: &str) -> &'a [i64] {
    batch.column_by_name(name).unwrap().as_primitive::<Int64Type>().values()
}

fn text<'a>(batch: &'a RecordBatch, name: &str) -> &'a StringArray {
    batch.column_by_name(name).unwrap().as_string::<i32>()
}

fn strings(lists: &Lists, batch: &RecordBatch) -> Vec<ArrayRef> {
    let [event_id, card, merchant, country, currency, channel] =
        ["event_id", "card", "merchant", "country", "currency", "channel"].map(|name| text(batch, name));
    let [amount, v14, v17] = ["amount", "v14", "v17"].map(|name| floats(batch, name));
    let rows = batch.num_rows();
    let mut score = Float64Builder::with_capacity(rows);
    let mut reason = StringBuilder::with_capacity(rows, rows * 8);
    let mut flagged = BooleanBuilder::with_capacity(rows);
    for i in 0..rows {
        let payment = Payment {
            event_id: event_id.value(i),
            card: card.value(i),
            merchant: merchant.value(i),
            country: country.value(i),
            currency: currency.value(i),
            channel: channel.value(i),
            amount: amount[i],
            v14: v14[i],
            v17: v17[i],
        };
        let (points, why) = judge(lists, &payment);
        score.append_value(points);
        reason.append_value(why.text());
        flagged.append_value(why != Reason::None);
    }
    vec![Arc::new(score.finish()), Arc::new(reason.finish()), Arc::new(flagged.finish())]
}

fn numbers(batch: &RecordBatch) -> Vec<ArrayRef> {
    let [time, class] = ["time", "class"].map(|name| integers(batch, name));
    let [amount, v1, v14, v17] = ["amount", "v1", "v14", "v17"].map(|name| floats(batch, name));
    let rows = batch.num_rows();
    let mut score = Float64Builder::with_capacity(rows);
    let mut flagged = BooleanBuilder::with_capacity(rows);
    for i in 0..rows {
        let row = Features { time: time[i], amount: amount[i], v1: v1[i], v14: v14[i], v17: v17[i], class: class[i] };
        let points = weigh(row);
        score.append_value(points);
        flagged.append_value(points > LIMIT);
    }
    vec![Arc::new(score.finish()), Arc::new(flagged.finish())]
}

const BLOCKED: [&str; 5] = ["KP", "IR", "SY", "CU", "RU"];

/// Three comparisons, in plain Rust.
fn flag(batch: &RecordBatch) -> Vec<ArrayRef> {
    let [amount, v14] = ["amount", "v14"].map(|name| floats(batch, name));
    let country = text(batch, "country");
    let mut flagged = BooleanBuilder::with_capacity(batch.num_rows());
    for i in 0..batch.num_rows() {
        flagged.append_value(v14[i] < -8.0 || amount[i] > 2000.0 && BLOCKED.contains(&country.value(i)));
    }
    vec![Arc::new(flagged.finish())]
}

/// The rule of `transforms/fraud`, in plain Rust.
fn demo(batch: &RecordBatch) -> Vec<ArrayRef> {
    let [amount, v14, v17] = ["amount", "v14", "v17"].map(|name| floats(batch, name));
    let country = text(batch, "country");
    let rows = batch.num_rows();
    let mut score = Float64Builder::with_capacity(rows);
    let mut reason = StringBuilder::with_capacity(rows, rows * 8);
    let mut flagged = BooleanBuilder::with_capacity(rows);
    for i in 0..rows {
        score.append_value(amount[i] * 0.001 - v14[i] * 0.6 - v17[i] * 0.4);
        let why = if v14[i] < -8.0 {
            "v14_below_limit"
        } else if amount[i] > 2000.0 && BLOCKED.contains(&country.value(i)) {
            "amount_in_blocked_country"
        } else {
            "none"
        };
        reason.append_value(why);
        flagged.append_value(why != "none");
    }
    vec![Arc::new(score.finish()), Arc::new(reason.finish()), Arc::new(flagged.finish())]
}
