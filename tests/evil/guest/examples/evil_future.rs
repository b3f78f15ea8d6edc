//! Is of a version of `forebay:transform` that does not exist yet.

#![expect(unsafe_code, reason = "bindings are generated")]

mod bindings {
    wit_bindgen::generate!({
        world: "transform",
        inline: "
            package forebay:transform@0.9.0;
            interface host { log: func(message: string); }
            world transform {
                import host;
                export describe: func() -> string;
            }
        ",
    });
}

struct Future;

impl bindings::Guest for Future {
    fn describe() -> String {
        bindings::forebay::transform::host::log("hello");
        "future".into()
    }
}

bindings::export!(Future with_types_in bindings);
