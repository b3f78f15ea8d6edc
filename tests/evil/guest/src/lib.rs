//! A module that does what its config says, mostly what no module should: `{"behaviour": "loop_process"}`.
//!
//! It is written on the raw bindings, since the SDK does not let a rule do most of this. Its honest behaviour is
//! `identity`: it computes the columns that it reads, so that whatever crosses the boundary comes back.

#![expect(
    unsafe_code,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "bindings are generated; and this is what misbehaves"
)]

mod bindings {
    wit_bindgen::generate!({ world: "transform", path: "../../../wit/0.1.0" });
}

/// WASI's randomness, which std has no function for.
mod chance {
    wit_bindgen::generate!({
        world: "chance",
        inline: "
            package wasi:random@0.2.0;
            interface random { get-random-u64: func() -> u64; get-random-bytes: func(len: u64) -> list<u8>; }
            world chance { import random; }
        ",
    });
}

mod behave;
mod plans;

use std::cell::RefCell;

use bindings::forebay::transform::host::{self, Level};
use bindings::{BindError, Context, Description, Guest, Plan, RecordBatch};
use serde_json::Value;

thread_local! {
    static CONFIG: RefCell<Value> = const { RefCell::new(Value::Null) };
    static CALLS: RefCell<u64> = const { RefCell::new(0) };
    static SEEN: RefCell<u64> = const { RefCell::new(0) };
}

struct Evil;

impl Guest for Evil {
    fn describe() -> Description {
        Description {
            name: "evil".into(),
            version: "0.1.0".into(),
            doc: "Misbehaves on request.\n\nFor tests.".into(),
            config_schema: r#"{"type": "object", "properties": {"behaviour": {"type": "string"}}}"#.into(),
            assets: vec![bindings::forebay::transform::types::AssetWant {
                name: "notes".into(),
                doc: "Any bytes.".into(),
                required: false,
            }],
        }
    }

    fn bind(input_schema: Vec<u8>, config: String) -> Result<Plan, BindError> {
        let config: Value = serde_json::from_str(&config).expect("the host sends JSON");
        let behaviour = config["behaviour"].as_str().unwrap_or("identity").to_owned();
        match behaviour.as_str() {
            "loop_bind" => behave::spin(),
            "panic_bind" => panic!("no plan today"),
            "emit_in_bind" => behave::emit_nothing(0),
            "reject_in_bind" => host::reject(&[0], "x", "y", false),
            "log_in_bind" => host::log(Level::Info, "binding"),
            "bind_error" => {
                return Err(BindError {
                    message: "the threshold is not a number".into(),
                    hint: Some("write v14_below = -8.0".into()),
                    place: Some("config.v14_below".into()),
                });
            }
            _ => {}
        }
        let plan = plans::plan(&behaviour, &config, input_schema);
        CONFIG.set(config);
        Ok(plan)
    }

    fn process(context: Context, batch: RecordBatch) -> Result<(), String> {
        CALLS.with_borrow_mut(|calls| *calls += 1);
        // What to do may differ from the plan to make: `{"behaviour": "passes", "do": "pass_rows"}`.
        let of =
            |config: &Value| config["do"].as_str().or(config["behaviour"].as_str()).unwrap_or("identity").to_owned();
        let behaviour = CONFIG.with_borrow(of);
        behave::process(&behaviour, &context, batch)
    }
}

fn calls() -> u64 {
    CALLS.with_borrow(|calls| *calls)
}

/// How many rows came before these; they are counted now.
fn seen(rows: u32) -> u64 {
    SEEN.with_borrow_mut(|seen| std::mem::replace(seen, *seen + u64::from(rows)))
}

bindings::export!(Evil with_types_in bindings);
