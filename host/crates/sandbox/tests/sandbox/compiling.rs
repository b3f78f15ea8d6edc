//! Compiling in a process of its own: it works, and whatever becomes of that process is told.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use forebay_model::ports::ModuleLoader as _;
use forebay_model::{Error, ErrorClass};
use forebay_sandbox::{Limits, Sandbox, SandboxOptions, compile_child_main};
use insta::assert_snapshot;

use crate::support::{bound, instance, rows, wasm};

/// This test binary, run for [`child_process`] alone, is the process that compiles.
fn child() -> Vec<OsString> {
    let program = std::env::current_exe().unwrap().into_os_string();
    vec![program, "--exact".into(), "compiling::child_process".into()]
}

#[test]
fn child_process() {
    // The arguments of the child, which the harness takes for more names of tests.
    let arguments: Vec<OsString> =
        std::env::args_os().skip_while(|text| text != "compiling::child_process").skip(1).collect();
    if arguments.len() == 4 {
        let code = compile_child_main(arguments);
        std::process::exit(i32::from(code != ExitCode::SUCCESS));
    }
}

fn load(command: Vec<OsString>, limits: Limits, bytes: &[u8]) -> Result<(), Error> {
    let sandbox =
        Sandbox::new(SandboxOptions { compile_command: Some(command), limits, ..Default::default() }).unwrap();
    let module = sandbox.load(bytes)?;
    instance(&bound(&module, "identity")).process(&rows(8)).unwrap();
    Ok(())
}

fn failure(command: Vec<OsString>, limits: Limits, bytes: &[u8]) -> (ErrorClass, String) {
    let error = load(command, limits, bytes).unwrap_err();
    // Without "module" and its digest, which changes with the toolchain.
    let text = error.to_string().splitn(3, ' ').nth(2).unwrap().to_owned();
    (error.class(), text)
}

#[test]
fn a_child_compiles() {
    load(child(), Limits::default(), wasm("evil")).unwrap();
}

#[test]
fn the_childs_words_are_passed_on() {
    let mut bytes = wasm("evil").to_vec();
    bytes.truncate(5000);
    let (class, text) = failure(child(), Limits::default(), &bytes);
    assert_eq!(class, ErrorClass::Operator);
    assert!(text.starts_with("does not compile: "), "{text}");
    assert!(text.contains("unexpected end"), "{text}");
}

#[test]
fn a_child_that_takes_too_long_is_ended() {
    let began = Instant::now();
    let command = ["sh", "-c", "exec sleep 60"].map(OsString::from).to_vec();
    let limits = Limits { compile_seconds: 1, ..Limits::default() };
    let (class, text) = failure(command, limits, wasm("evil"));
    assert_eq!(class, ErrorClass::Operator);
    assert_snapshot!(text, @"does not compile: it took longer than 1 s");
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_child_that_needs_too_much_is_ended() {
    let limits = Limits { compile_memory_mib: 64, ..Limits::default() };
    let (class, text) = failure(child(), limits, wasm("evil"));
    assert_eq!(class, ErrorClass::Operator);
    assert!(text.starts_with("does not compile: "), "{text}");
}

#[test]
fn a_child_that_is_none_is_not_the_modules_fault() {
    let (class, text) = failure(vec!["/nowhere/forebay".into()], Limits::default(), wasm("evil"));
    assert_eq!(class, ErrorClass::Retry);
    assert_snapshot!(text, @"could not be compiled: /nowhere/forebay does not start: No such file or directory (os error 2)");
    let (class, text) = failure(vec!["true".into()], Limits::default(), wasm("evil"));
    assert_eq!(class, ErrorClass::Retry);
    assert_snapshot!(text, @"could not be compiled: what was compiled cannot be read: No such file or directory (os error 2)");
}
