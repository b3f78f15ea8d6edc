//! Wants the network.

#![expect(unsafe_code, reason = "bindings are generated")]

mod bindings {
    wit_bindgen::generate!({ world: "transform", path: "../../../wit/0.1.0" });
}

use bindings::{BindError, Context, Description, Guest, Plan, RecordBatch};

struct Network;

impl Guest for Network {
    fn describe() -> Description {
        Description {
            name: "network".into(),
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
        std::net::TcpStream::connect("127.0.0.1:9").map(drop).map_err(|error| error.to_string())
    }
}

bindings::export!(Network with_types_in bindings);
