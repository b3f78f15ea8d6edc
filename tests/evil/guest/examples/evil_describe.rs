//! Describes itself in a way that the sandbox refuses.

#![expect(unsafe_code, reason = "bindings are generated")]

mod bindings {
    wit_bindgen::generate!({ world: "transform", path: "../../../wit/0.1.0" });
}

use bindings::{BindError, Context, Description, Guest, Plan, RecordBatch};

struct Describe;

impl Guest for Describe {
    fn describe() -> Description {
        Description {
            name: "no such name!".into(),
            version: String::new(),
            doc: String::new(),
            config_schema: "{}".into(),
            assets: vec![],
        }
    }

    fn bind(_: Vec<u8>, _: String) -> Result<Plan, BindError> {
        Err(BindError { message: "never".into(), hint: None, place: None })
    }

    fn process(_: Context, _: RecordBatch) -> Result<(), String> {
        Ok(())
    }
}

bindings::export!(Describe with_types_in bindings);
