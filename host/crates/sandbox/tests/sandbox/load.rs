//! What may be loaded, and what is said of the rest.

use std::sync::Arc;

use forebay_model::ErrorClass;
use forebay_model::ports::ModuleLoader as _;
use forebay_sandbox::Limits;
use insta::assert_snapshot;

use crate::support::{evil, sandbox, wasm, without_digest};

fn refused(bytes: &[u8]) -> String {
    let error = sandbox().load(bytes).unwrap_err();
    assert_eq!(error.class(), ErrorClass::Operator);
    without_digest(&format!("{error}\n  hint: {}", error.hint().unwrap_or("-")))
}

#[test]
fn what_is_no_component() {
    assert_snapshot!(refused(b""), @"
    module sha256:… is empty
      hint: was it still being copied? put it beside, then rename it
    ");
    assert_snapshot!(refused(b"\0asm"), @"
    module sha256:… ends after its first bytes
      hint: copy it again
    ");
    assert_snapshot!(refused(b"#!/bin/sh\n"), @"
    module sha256:… is not WebAssembly
      hint: build it with: cargo build --release --target wasm32-wasip2
    ");
    assert_snapshot!(refused(b"  (module)"), @"
    module sha256:… is WebAssembly text, not a binary
      hint: turn it into one with: wasm-tools parse
    ");
    assert_snapshot!(refused(b"\0asm\x01\0\0\0"), @"
    module sha256:… is a core module, not a component
      hint: build it for the target wasm32-wasip2, not wasm32-unknown-unknown or wasm32-wasip1
    ");
    assert_snapshot!(refused(b"\0asm\x07\0\0\0"), @"
    module sha256:… is of a version of Wasm that is not known here
      hint: build it with: cargo build --release --target wasm32-wasip2
    ");
}

#[test]
fn what_is_of_another_world() {
    assert_snapshot!(refused(b"\0asm\x0d\0\x01\0"), @"
    module sha256:… is a component of another world: it imports nothing of forebay:transform/types and exports nothing
      hint: build it with forebay-sdk and its export! macro, or against the WIT of forebay:transform
    ");
    assert_snapshot!(refused(wasm("evil_future")), @"
    module sha256:… wants forebay:transform@0.9.0; this forebay runs 0.1.0
      hint: build it with an SDK of a version that runs here, or update forebay
    ");
    assert_snapshot!(refused(wasm("evil_network")), @"
    module sha256:… imports wasi:sockets/network@0.2.6, which no module is given
      hint: a rule has no network: its answer must depend on the row, the config and the assets alone; hand over what it looks up as an asset
    ");
    assert_snapshot!(refused(wasm("evil_describe")), @r#"
    module sha256:… does not describe itself: module name "no such name!" is not allowed
      hint: describe() must return a name and a JSON Schema without any input
    "#);
}

#[test]
fn what_does_not_compile() {
    let mut bytes = wasm("evil").to_vec();
    bytes.truncate(bytes.len() / 2);
    assert_snapshot!(refused(&bytes).split(": ").next().unwrap(), @"module sha256:… does not compile");
}

#[test]
fn what_is_too_large() {
    let small = sandbox().with_limits(Limits { module_mib: 1, ..Limits::default() }).unwrap();
    let error = small.load(&vec![0; 2 << 20]).unwrap_err();
    assert!(error.to_string().ends_with("has 2097152 bytes, more than the limit of 1048576"), "{error}");
}

#[test]
fn a_module_says_who_it_is() {
    let description = evil().description();
    assert_eq!(description.name.as_str(), "evil");
    assert_eq!(description.config_schema["type"], "object");
    assert_eq!(description.assets[0].name, "notes");
    assert_eq!(evil().digest(), forebay_model::Digest::of(wasm("evil")));
}

#[test]
fn a_module_that_is_in_use_is_not_compiled_again() {
    let began = std::time::Instant::now();
    evil();
    let first = began.elapsed();
    let began = std::time::Instant::now();
    let again = sandbox().load(wasm("evil")).unwrap();
    assert!(began.elapsed() < std::time::Duration::from_millis(500), "{:?} then {:?}", first, began.elapsed());
    assert!(!Arc::ptr_eq(evil(), &again));
}
