//! Guests, built with cargo when they are first asked for, and what a test needs around them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};

use arrow_array::{ArrayRef, Int64Array, StringArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use forebay_model::Timestamp;
use forebay_model::ports::{
    Assets, BatchInput, BoundTransform, LogLevel, Module, ModuleLoader, SegmentContext, TransformError,
    TransformInstance, TransformOutput,
};
use forebay_sandbox::{GuestLog, Limits, Sandbox, SandboxOptions};
use serde_json::{Value, json};

/// The bytes of a guest of `tests/evil/guest`: `evil`, or one of its examples.
pub(crate) fn wasm(name: &str) -> &'static [u8] {
    static BUILT: OnceLock<BTreeMap<String, Vec<u8>>> = OnceLock::new();
    BUILT.get_or_init(build).get(name).unwrap_or_else(|| panic!("there is no guest {name}"))
}

fn build() -> BTreeMap<String, Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..");
    let arguments =
        "build --quiet -p evil --lib --examples --target wasm32-wasip2 --profile guest --message-format json";
    let output = Command::new(env!("CARGO")).args(arguments.split(' ')).current_dir(root).output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut built = BTreeMap::new();
    for line in output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let message: Value = serde_json::from_slice(line).expect("cargo speaks JSON");
        for file in message["filenames"].as_array().into_iter().flatten() {
            let path = PathBuf::from(file.as_str().unwrap());
            if path.extension().is_some_and(|extension| extension == "wasm") {
                built.insert(message["target"]["name"].as_str().unwrap().to_owned(), std::fs::read(&path).unwrap());
            }
        }
    }
    built
}

/// The text without the lines and columns of source files, which change with every edit of a guest.
pub(crate) fn steady(text: &str) -> String {
    let mut parts = text.split(".rs:");
    let mut steady = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        steady += ".rs:_";
        steady += part.trim_start_matches(|c: char| c.is_ascii_digit() || c == ':');
    }
    steady
}

/// The text without the module's digest, which changes with the toolchain.
pub(crate) fn without_digest(text: &str) -> String {
    match text.find("sha256:").and_then(|at| text.get(at..at + 19)) {
        Some(digest) => text.replace(digest, "sha256:…"),
        None => text.to_owned(),
    }
}

/// Remembers what guests say.
#[derive(Default)]
pub(crate) struct Lines(pub(crate) Mutex<Vec<String>>);

impl GuestLog for Lines {
    fn line(&self, module: &str, level: LogLevel, text: &str) {
        self.0.lock().unwrap().push(format!("{module} {level:?} {text}"));
    }
}

pub(crate) fn sandbox() -> &'static Sandbox {
    static SANDBOX: OnceLock<Sandbox> = OnceLock::new();
    SANDBOX.get_or_init(|| Sandbox::new(SandboxOptions::default()).unwrap())
}

/// The evil module, compiled once for all tests.
pub(crate) fn evil() -> &'static Arc<dyn Module> {
    static EVIL: OnceLock<Arc<dyn Module>> = OnceLock::new();
    EVIL.get_or_init(|| sandbox().load(wasm("evil")).unwrap())
}

/// The evil module under other limits.
pub(crate) fn evil_within(limits: Limits) -> Arc<dyn Module> {
    // So that only the first test pays for compiling.
    evil();
    sandbox().with_limits(limits).unwrap().load(wasm("evil")).unwrap()
}

/// A number that is never null and a text that may be.
pub(crate) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false), Field::new("reason", DataType::Utf8, true)]))
}

pub(crate) fn config(behaviour: &str) -> Value {
    json!({ "behaviour": behaviour, "columns": ["id", "reason"] })
}

pub(crate) fn bound(module: &Arc<dyn Module>, behaviour: &str) -> Arc<dyn BoundTransform> {
    module.bind(&schema(), &config(behaviour), &Assets::default()).unwrap()
}

pub(crate) fn segment() -> SegmentContext {
    SegmentContext {
        stream: "payments".into(),
        segment: "payments/3f9c".into(),
        partition: "files:inbox".into(),
        first_position: "a.csv@1[0..9]".into(),
        landed_at: Timestamp::parse("2026-01-02T03:04:05.678901Z").unwrap(),
        seed: 17,
    }
}

pub(crate) fn rows(count: usize) -> BatchInput {
    let numbers: Vec<u64> = (0..count as u64).collect();
    let ids = Int64Array::from_iter_values(0..i64::try_from(count).unwrap());
    let reasons = StringArray::from_iter_values((0..count).map(|row| format!("reason {row}")));
    BatchInput { rows: count, columns: vec![Arc::new(ids) as ArrayRef, Arc::new(reasons)], numbers }
}

pub(crate) fn instance(bound: &Arc<dyn BoundTransform>) -> Box<dyn TransformInstance> {
    bound.instance(&segment()).unwrap()
}

/// One call of eight rows in a fresh instance.
pub(crate) fn call(module: &Arc<dyn Module>, behaviour: &str) -> Result<TransformOutput, TransformError> {
    instance(&bound(module, behaviour)).process(&rows(8))
}
