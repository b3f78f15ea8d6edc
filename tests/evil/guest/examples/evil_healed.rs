//! The module `evil` once somebody has mended it: whatever its config says, all rows go to `out` as they are.

#![expect(unsafe_code, reason = "bindings are generated")]

mod bindings {
    wit_bindgen::generate!({ world: "transform", path: "../../../wit/0.1.0" });
}

use bindings::forebay::transform::host;
use bindings::forebay::transform::types::{OutputColumn, Route, Selection};
use bindings::{BindError, Context, Description, Guest, Plan, RecordBatch};

struct Healed;

impl Guest for Healed {
    fn describe() -> Description {
        Description {
            name: "evil".into(),
            version: "0.2.0".into(),
            doc: "Passes everything.".into(),
            config_schema: "{}".into(),
            assets: vec![],
        }
    }

    fn bind(_: Vec<u8>, _: String) -> Result<Plan, BindError> {
        let columns = vec![OutputColumn::PassOthers(vec![])];
        let out = Route { name: "out".into(), columns, computed_schema: vec![] };
        Ok(Plan { inputs: vec![], routes: vec![out], reusable: false })
    }

    fn process(_: Context, batch: RecordBatch) -> Result<(), String> {
        host::emit(0, &Selection::All, &RecordBatch { rows: batch.rows, nodes: vec![], buffers: vec![] });
        Ok(())
    }
}

bindings::export!(Healed with_types_in bindings);
