//! What the boundary costs: an instance, a call, and a byte in each direction. Prints one line for each figure.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "a bench")]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::{Array, ArrayRef, Float64Array, Int64Array, StringArray};
use arrow_schema::{Field, Schema};
use forebay_model::Timestamp;
use forebay_model::ports::{Assets, BatchInput, BoundTransform, Module, ModuleLoader as _, SegmentContext};
use forebay_sandbox::{Sandbox, SandboxOptions};
use serde_json::json;

const ROWS: usize = 8192;

/// The evil guest, whose honest behaviour is to give back what it gets.
fn guest() -> Vec<u8> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..");
    let arguments = "build --quiet -p evil --lib --target wasm32-wasip2 --profile guest --message-format json";
    let output = Command::new(env!("CARGO")).args(arguments.split(' ')).current_dir(root).output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let messages = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let file = messages
        .filter(|message| message["target"]["name"] == "evil")
        .find_map(|message| message["filenames"][0].as_str().map(str::to_owned))
        .expect("a guest is built");
    std::fs::read(file).unwrap()
}

/// The median of what `act` takes.
fn median(times: usize, mut act: impl FnMut()) -> Duration {
    let mut taken: Vec<_> = (0..times)
        .map(|_| {
            let began = Instant::now();
            act();
            began.elapsed()
        })
        .collect();
    taken.sort();
    taken[times / 2]
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn bind(module: &Arc<dyn Module>, columns: &[ArrayRef], behaviour: &str) -> Arc<dyn BoundTransform> {
    let names: Vec<String> = (0..columns.len()).map(|index| format!("c{index}")).collect();
    let fields = names.iter().zip(columns).map(|(name, column)| Field::new(name, column.data_type().clone(), true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    module
        .bind(&schema, &json!({ "columns": names, "behaviour": "identity", "do": behaviour }), &Assets::default())
        .unwrap()
}

fn numbers(rows: usize, count: usize) -> Vec<ArrayRef> {
    (0..count)
        .map(|column| {
            let value = move |row: usize| (row * (column + 3)) as f64 / 7.0;
            Arc::new(Float64Array::from_iter_values((0..rows).map(value))) as ArrayRef
        })
        .collect()
}

fn texts(rows: usize, count: usize) -> Vec<ArrayRef> {
    let text = |row: usize| format!("a text of some length {row:08}");
    (0..count).map(|_| Arc::new(StringArray::from_iter_values((0..rows).map(text))) as ArrayRef).collect()
}

fn main() {
    let wasm = guest();
    let folder = tempfile::tempdir().unwrap();
    let open = || Sandbox::new(SandboxOptions { cache_dir: Some(folder.path().into()), ..Default::default() }).unwrap();
    let began = Instant::now();
    let module = open().load(&wasm).unwrap();
    println!("load, compiling            {:>10.1} ms", micros(began.elapsed()) / 1e3);
    let began = Instant::now();
    drop(open().load(&wasm).unwrap());
    println!("load, from the cache       {:>10.1} ms", micros(began.elapsed()) / 1e3);

    let segment = SegmentContext {
        stream: "payments".into(),
        segment: "payments/3f9c0a1b2c3d4e5f60718293".into(),
        partition: "files:inbox".into(),
        first_position: "a.csv@1[0..9]".into(),
        landed_at: Timestamp::from_micros(1_767_323_045_000_000),
        seed: 17,
    };
    let ids: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![1]))];
    let bound = bind(&module, &ids, "nothing");
    println!(
        "instantiate                {:>10.1} µs (and a bind of next to nothing)",
        micros(median(2001, || drop(bound.instance(&segment).unwrap())))
    );

    let mut guest = bound.instance(&segment).unwrap();
    let one = BatchInput { rows: 1, columns: ids, numbers: vec![0] };
    println!("call of one row            {:>10.2} µs", micros(median(20_001, || drop(guest.process(&one).unwrap()))));

    for (what, columns) in [("8 of Float64", numbers(ROWS, 8)), ("8 of Utf8", texts(ROWS, 8))] {
        let bytes: usize = columns.iter().map(|column| column.get_buffer_memory_size()).sum();
        let input = BatchInput { rows: ROWS, columns: columns.clone(), numbers: (0..ROWS as u64).collect() };
        let rate = |time: Duration| bytes as f64 / time.as_secs_f64() / 1e9;
        // The floor: the same buffers copied once in the host, into memory that is there.
        let datas: Vec<_> = columns.iter().map(|column| column.to_data()).collect();
        let buffers: Vec<&[u8]> =
            datas.iter().flat_map(|data| data.buffers()).map(|buffer| buffer.as_slice()).collect();
        let mut copy = vec![0_u8; buffers.iter().map(|buffer| buffer.len()).sum()];
        let floor = median(501, || {
            let mut at = 0;
            for buffer in &buffers {
                copy[at..at + buffer.len()].copy_from_slice(buffer);
                at += buffer.len();
            }
            std::hint::black_box(&mut copy);
        });
        println!("copy  {what:<14}       {:>10.1} µs {:>7.1} GB/s (floor)", micros(floor), rate(floor));
        let ratio = |time: Duration| floor.as_secs_f64() / time.as_secs_f64();
        let mut guest = bind(&module, &columns, "nothing").instance(&segment).unwrap();
        let there = median(501, || drop(guest.process(&input).unwrap()));
        let mut guest = bind(&module, &columns, "identity").instance(&segment).unwrap();
        let back = median(501, || drop(guest.process(&input).unwrap())).saturating_sub(there);
        println!(
            "lower {what:<14}       {:>10.1} µs {:>7.1} GB/s, {:.2} of the floor's speed",
            micros(there),
            rate(there),
            ratio(there)
        );
        println!(
            "lift  {what:<14}       {:>10.1} µs {:>7.1} GB/s, {:.2} of the floor's speed (and the guest's call of emit)",
            micros(back),
            rate(back),
            ratio(back)
        );
    }
}
