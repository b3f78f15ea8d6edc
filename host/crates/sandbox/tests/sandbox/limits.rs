//! Limits that a module as such goes beyond, before a row is seen: what is said names the limit.

use forebay_model::ErrorClass;
use forebay_model::ports::{Assets, ModuleLoader as _};
use forebay_sandbox::{Limits, Sandbox, SandboxOptions};
use insta::assert_snapshot;

use crate::support::{config, evil_within, schema, wasm, without_digest};

fn told(error: &forebay_model::Error) -> String {
    assert_eq!(error.class(), ErrorClass::Operator);
    format!("{error}\n  hint: {}", error.hint().unwrap_or("-"))
}

/// How the evil module is refused at its bind, which is its first instance where another pipeline has loaded it.
fn unbound(limits: Limits, behaviour: &str) -> String {
    told(&evil_within(limits).bind(&schema(), &config(behaviour), &Assets::default()).unwrap_err())
}

/// The text without the number after these words, which is the toolchain's business.
fn without_number(text: &str, words: &str) -> String {
    let (before, after) = text.split_once(words).unwrap();
    format!("{before}{words}…{}", after.trim_start_matches(|c: char| c.is_ascii_digit()))
}

#[test]
fn a_module_that_is_too_large_for_an_instance_is_told_which_limit() {
    assert_snapshot!(unbound(Limits { tables: 1, ..Limits::default() }, "identity"), @"
    module evil cannot be instantiated: needs 2 tables, the cap is 1 (limits.tables)
      hint: raise limits.tables, or build a module that needs less
    ");
    assert_snapshot!(unbound(Limits { instances: 1, ..Limits::default() }, "identity"), @"
    module evil cannot be instantiated: needs more core instances than the cap of 1 (limits.instances)
      hint: raise limits.instances, or build a module that needs less
    ");
    let elements = unbound(Limits { table_elements: 1, ..Limits::default() }, "identity");
    assert_snapshot!(without_number(&elements, "a table of "), @"
    module evil cannot be instantiated: asked for a table of … elements, the cap is 1 (limits.table_elements)
      hint: raise limits.table_elements, or build a module that needs less
    ");
    assert_snapshot!(unbound(Limits { memory_mib: 1, ..Limits::default() }, "identity"), @"
    module evil cannot be instantiated: asked for 2 MiB of memory, the cap is 1 MiB (limits.memory_mib)
      hint: raise limits.memory_mib, or build a module that needs less
    ");
}

#[test]
fn a_module_that_nobody_has_loaded_is_told_so_too() {
    let cache = tempfile::tempdir().unwrap();
    let options = SandboxOptions { cache_dir: Some(cache.path().into()), ..Default::default() };
    let sandbox = Sandbox::new(options).unwrap();
    let said = |limits: Limits| {
        let said = told(&sandbox.with_limits(limits).unwrap().load(wasm("evil")).unwrap_err());
        without_digest(&said)
    };
    assert_snapshot!(said(Limits { tables: 1, ..Limits::default() }), @"
    module sha256:… cannot be instantiated: needs 2 tables, the cap is 1 (limits.tables)
      hint: raise limits.tables, or build a module that needs less
    ");
    assert_snapshot!(said(Limits { instances: 1, ..Limits::default() }), @"
    module sha256:… cannot be instantiated: needs more core instances than the cap of 1 (limits.instances)
      hint: raise limits.instances, or build a module that needs less
    ");
    let elements = said(Limits { table_elements: 1, ..Limits::default() });
    assert_snapshot!(without_number(&elements, "a table of "), @"
    module sha256:… cannot be instantiated: asked for a table of … elements, the cap is 1 (limits.table_elements)
      hint: raise limits.table_elements, or build a module that needs less
    ");
    assert_snapshot!(said(Limits { memory_mib: 1, ..Limits::default() }), @"
    module sha256:… cannot be instantiated: asked for 2 MiB of memory, the cap is 1 MiB (limits.memory_mib)
      hint: raise limits.memory_mib, or build a module that needs less
    ");
    sandbox.load(wasm("evil")).expect("within the defaults");
}

#[test]
fn a_plan_that_is_too_wide_is_told_which_limit() {
    assert_snapshot!(unbound(Limits { routes: 1, ..Limits::default() }, "plan_two_routes_alike"), @"
    module evil plans 2 routes, more than 1
      hint: plan fewer, or raise limits.routes
    ");
    assert_snapshot!(unbound(Limits { columns: 1, ..Limits::default() }, "identity"), @"
    module evil reads 2 columns, more than 1
      hint: read fewer, or raise limits.columns
    ");
    assert_snapshot!(unbound(Limits { columns: 2, ..Limits::default() }, "plan_computed_range"), @r#"
    module evil plans 3 columns for route "out", more than 2
      hint: plan fewer, or raise limits.columns
    "#);
}
