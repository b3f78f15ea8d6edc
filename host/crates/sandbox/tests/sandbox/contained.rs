//! Every way to misbehave in `process` costs the call, says why, and leaves the host as it was.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::cast::AsArray;
use arrow_array::new_null_array;
use arrow_array::types::Int64Type;
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use forebay_model::ports::{BatchInput, Selection, TransformFailure};
use forebay_sandbox::Limits;
use insta::assert_snapshot;

use crate::support::{bound, call, evil, evil_within, instance, rows, segment, steady};

/// What became of a call, as a line.
fn outcome(behaviour: &str) -> String {
    outcome_within(behaviour, Limits { call_ms: 5_000, ..Limits::default() })
}

fn outcome_within(behaviour: &str, limits: Limits) -> String {
    let line = match call(&evil_within(limits), behaviour) {
        Ok(output) => format!(
            "returned: {} emissions, {} refusals, {:?}",
            output.emissions.len(),
            output.refusals.len(),
            output.counts
        ),
        Err(error) => steady(&format!("{:?}: {error}", error.failure)),
    };
    // Whatever it did, the next instance is as good as new.
    call(evil(), "identity").expect("an honest call after it");
    line
}

/// The same for a plan that computes nothing.
fn passing(behaviour: &str) -> String {
    let config = serde_json::json!({ "behaviour": "passes", "columns": ["id", "reason"], "do": behaviour });
    let bound = evil().bind(&crate::support::schema(), &config, &Default::default()).unwrap();
    instance(&bound).process(&rows(8)).unwrap_err().to_string()
}

#[test]
fn time() {
    let limits = Limits { call_ms: 100, bind_ms: 100, ..Limits::default() };
    let began = Instant::now();
    assert_snapshot!(outcome_within("loop_process", limits.clone()), @"Timeout: process ran past its 0.1 s (limits.call_ms)");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert_snapshot!(outcome("sleep"), @"Trap: the module called wasi:clocks/monotonic-clock.subscribe-duration: a rule may not wait, its clock stands still at the segment's landing time");
    let error = evil_within(limits)
        .bind(&crate::support::schema(), &crate::support::config("loop_bind"), &Default::default())
        .unwrap_err();
    let place = error.to_string().split(" (in ").next().unwrap().to_owned();
    assert_snapshot!(place, @"module evil failed in bind: bind ran past its 0.1 s (limits.bind_ms)");
}

#[test]
fn memory_and_stack() {
    let limits = Limits { memory_mib: 64, ..Limits::default() };
    assert_snapshot!(outcome_within("alloc_bomb", limits), @"Trap: asked for 65 MiB of memory, the cap is 64 MiB (limits.memory_mib)");
    assert_snapshot!(outcome("recursion"), @"Trap: the stack grew beyond 512 KiB (limits.stack_kib)");
    let limits = Limits { stack_kib: 64, ..Limits::default() };
    assert_snapshot!(outcome_within("recursion", limits), @"Trap: the stack grew beyond 64 KiB (limits.stack_kib)");
}

#[test]
fn buffers_that_lie() {
    assert_snapshot!(outcome("short_buffer"), @"InvalidOutput: emit to route 0 (out): computed column 0 (id): its values have 63 bytes where 64 are due");
    assert_snapshot!(outcome("long_buffer"), @"InvalidOutput: emit to route 0 (out): computed column 0 (id): its values have 65 bytes where 64 are due");
    assert_snapshot!(outcome("short_offsets"), @"InvalidOutput: emit to route 0 (out): computed column 1 (reason): its offsets have 35 bytes where 36 are due");
    assert_snapshot!(outcome("offsets_descend"), @"InvalidOutput: emit to route 0 (out): computed column 1 (reason): offsets descend at 2");
    assert_snapshot!(outcome("offsets_negative"), @"InvalidOutput: emit to route 0 (out): computed column 1 (reason): offsets descend at 2");
    assert_snapshot!(outcome("offsets_beyond"), @"InvalidOutput: emit to route 0 (out): computed column 1 (reason): its bytes (by its last offset) have 64 bytes where 1000000 are due");
    assert_snapshot!(outcome("offsets_start"), @"InvalidOutput: emit to route 0 (out): computed column 1 (reason): offsets begin at 1, not at 0");
    assert_snapshot!(outcome("bad_utf8"), @"InvalidOutput: emit to route 0 (out): computed column 1 (reason): not UTF-8 at 0");
    assert_snapshot!(outcome("split_utf8"), @"InvalidOutput: emit to route 0 (out): computed column 1 (reason): not UTF-8 at 0");
    assert_snapshot!(outcome("null_count_lie"), @"InvalidOutput: emit to route 0 (out): computed column 0 (id): its validity has 0 bytes where 1 are due");
    assert_snapshot!(outcome("null_count_huge"), @"InvalidOutput: emit to route 0 (out): computed column 0 (id): claims 9 nulls among 8 values");
    assert_snapshot!(outcome("null_count_none"), @"InvalidOutput: emit to route 0 (out): computed column 0 (id): claims 0 nulls, and its validity has 8");
    assert_snapshot!(outcome("nulls_where_none"), @"InvalidOutput: emit to route 0 (out): computed column 0 (id): has 8 nulls, and the plan says that it has none");
    assert_snapshot!(outcome("short_validity"), @"InvalidOutput: emit to route 0 (out): computed column 0 (id): its validity has 0 bytes where 1 are due");
    assert_snapshot!(outcome("length_lie"), @"InvalidOutput: emit to route 0 (out): computed column 1 (reason): has 7 values where 8 are due");
    assert_snapshot!(outcome("rows_lie"), @"InvalidOutput: emit to route 0 (out): selects 8 rows and has 7 computed ones");
    assert_snapshot!(outcome("wrong_types"), @"InvalidOutput: emit to route 0 (out): computed column 0 (id): its values have 36 bytes where 64 are due");
    assert_snapshot!(outcome("few_nodes"), @"InvalidOutput: emit to route 0 (out): has 1 nodes and 5 buffers, and its computed columns have 2 and 5");
    assert_snapshot!(outcome("many_nodes"), @"InvalidOutput: emit to route 0 (out): has 3 nodes and 5 buffers, and its computed columns have 2 and 5");
    assert_snapshot!(outcome("few_buffers"), @"InvalidOutput: emit to route 0 (out): has 2 nodes and 4 buffers, and its computed columns have 2 and 5");
    assert_snapshot!(outcome("many_buffers"), @"InvalidOutput: emit to route 0 (out): has 2 nodes and 6 buffers, and its computed columns have 2 and 5");
}

#[test]
fn timestamps_that_no_table_can_hold() {
    let said = |data_type: &DataType| {
        let schema = Arc::new(Schema::new(vec![Field::new("at", data_type.clone(), true)]));
        let config = serde_json::json!({ "behaviour": "timestamp_huge", "columns": ["at"] });
        let bound = evil().bind(&schema, &config, &Default::default()).unwrap();
        let columns = vec![new_null_array(data_type, 8)];
        let input = BatchInput { columns, ..rows(8) };
        let error = instance(&bound).process(&input).unwrap_err();
        format!("{data_type} {:?}: {error}", error.failure)
    };
    let zones = [None, Some("UTC".into()), Some("+02:00".into())];
    let units = [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond];
    let types = units.iter().flat_map(|unit| zones.iter().map(|zone| DataType::Timestamp(*unit, zone.clone())));
    assert_snapshot!(types.map(|of| said(&of)).collect::<Vec<_>>().join("\n"), @r#"
    Timestamp(s) InvalidOutput: emit to route 0 (out): computed column 0 (at): a timestamp is not within the years 0 to 9999 at 7
    Timestamp(s, "UTC") InvalidOutput: emit to route 0 (out): computed column 0 (at): a timestamp is not within the years 0 to 9999 at 7
    Timestamp(s, "+02:00") InvalidOutput: emit to route 0 (out): computed column 0 (at): a timestamp is not within the years 0 to 9999 at 7
    Timestamp(ms) InvalidOutput: emit to route 0 (out): computed column 0 (at): a timestamp is not within the years 0 to 9999 at 7
    Timestamp(ms, "UTC") InvalidOutput: emit to route 0 (out): computed column 0 (at): a timestamp is not within the years 0 to 9999 at 7
    Timestamp(ms, "+02:00") InvalidOutput: emit to route 0 (out): computed column 0 (at): a timestamp is not within the years 0 to 9999 at 7
    Timestamp(µs) InvalidOutput: emit to route 0 (out): computed column 0 (at): a timestamp is not within the years 0 to 9999 at 7
    Timestamp(µs, "UTC") InvalidOutput: emit to route 0 (out): computed column 0 (at): a timestamp is not within the years 0 to 9999 at 7
    Timestamp(µs, "+02:00") InvalidOutput: emit to route 0 (out): computed column 0 (at): a timestamp is not within the years 0 to 9999 at 7
    "#);
}

#[test]
fn routes_rows_and_codes() {
    assert_snapshot!(outcome("unknown_route"), @"InvalidOutput: emit to route 7: the plan has 1 routes");
    assert_snapshot!(passing("selection_beyond"), @"emit to route 0 (out): selects row 8 (at 1) of a batch of 8 rows");
    assert_snapshot!(outcome("selection_length"), @"InvalidOutput: emit to route 0 (out): selects 1 rows and has 8 computed ones");
    assert_snapshot!(outcome("reject_ghost"), @"InvalidOutput: reject: selects row 8 (at 1) of a batch of 8 rows");
    assert_snapshot!(outcome("reject_code"), @"InvalidOutput: reject: its code is not 1 to 64 bytes of text without control characters");
    assert_snapshot!(outcome("metric_name"), @"InvalidOutput: count: its name is not 1 to 64 of a-z, 0-9 and _");
}

#[test]
fn more_than_the_caps() {
    assert_snapshot!(passing("emit_many"), @"emit to route 0 (out): the call emits more than 16384 times (limits.emits)");
    assert_snapshot!(passing("select_all_over"), @"emit to route 0 (out): the call emits more than 1048576 rows (limits.output_rows)");
    assert_snapshot!(outcome_within("emit_repeated", Limits { output_mib: 1, ..Limits::default() }), @"InvalidOutput: emit to route 0 (out): the call emits more than 1 MiB (limits.output_mib)");
    assert_snapshot!(outcome_within("emit_repeated", Limits { output_rows: 100, ..Limits::default() }), @"InvalidOutput: emit to route 0 (out): the call emits more than 100 rows (limits.output_rows)");
    assert_snapshot!(outcome("metric_names"), @"InvalidOutput: count: the call has more than 256 counters (limits.metrics)");
    assert_snapshot!(outcome("observe_many"), @"InvalidOutput: observe: the call observes more than 65536 values (limits.observations)");
}

#[test]
fn traps_and_errors() {
    assert_snapshot!(outcome("panic"), @"Trap: panicked at tests/evil/guest/src/behave.rs:_ every row is bad");
    assert_snapshot!(outcome("emit_then_trap"), @"Trap: panicked at tests/evil/guest/src/behave.rs:_ after the emit");
    assert_snapshot!(outcome("exit"), @"Trap: the module called wasi:cli/exit.exit: a rule cannot end the process");
    assert_snapshot!(outcome("error"), @"RuleError: the rule gave up");
}

#[test]
fn a_panic_says_where_in_the_guest() {
    let error = call(evil(), "panic_7th").unwrap_err();
    assert_eq!(error.failure, TransformFailure::Trap);
    assert_snapshot!(steady(&error.message), @"panicked at tests/evil/guest/src/behave.rs:_ row 7 is unlucky");
    let own: Vec<&str> = error.backtrace.iter().map(String::as_str).filter(|frame| frame.contains("evil")).collect();
    assert_snapshot!(steady(&own.join("\n")), @"
    evil::behave::check_row at evil/guest/src/behave.rs:_
    process at evil/guest/src/behave.rs:_
    process at evil/guest/src/lib.rs:_
    _export_process_cabi<evil::Evil> at evil/guest/src/lib.rs:_
    export_process at evil/guest/src/lib.rs:_
    ");
    assert_eq!(error.backtrace.first().map(String::as_str), own.first().copied(), "std's frames are left out");
}

#[test]
fn a_guest_that_failed_is_not_entered_again() {
    let bound = bound(evil(), "panic_7th");
    let mut guest = instance(&bound);
    guest.process(&rows(7)).expect("rows 0 to 6 are well");
    assert_eq!(guest.process(&rows(8)).unwrap_err().failure, TransformFailure::Trap);
    assert_snapshot!(guest.process(&rows(7)).unwrap_err(), @"sandbox: the instance has failed before");
    instance(&bound).process(&rows(7)).expect("a fresh one is");
}

#[test]
fn rows_keep_their_numbers() {
    let bound = bound(evil(), "panic_7th");
    let input = rows(8);
    let numbers = vec![1, 2, 3, 8, 9, 10, 11, 12];
    instance(&bound).process(&BatchInput { numbers, ..input.clone() }).expect("gaps leave out number 7");
    let numbers = (1000..1008).collect();
    let error = instance(&bound).process(&BatchInput { numbers, ..input }).unwrap_err();
    assert_snapshot!(steady(&error.message), @"panicked at tests/evil/guest/src/behave.rs:_ row 1007 is unlucky");
}

#[test]
fn instances_are_fresh_unless_the_plan_is_reusable() {
    let calls = |reusable: bool| {
        let config = serde_json::json!({ "behaviour": "calls", "columns": ["id"], "reusable": reusable });
        let schema = Arc::new(crate::support::schema().project(&[0]).unwrap());
        let bound = evil().bind(&schema, &config, &Default::default()).unwrap();
        let mut input = rows(2);
        input.columns.truncate(1);
        let mut seen = Vec::new();
        for _ in 0..2 {
            let mut guest = bound.instance(&segment()).unwrap();
            for _ in 0..2 {
                let output = guest.process(&input).unwrap();
                seen.push(output.emissions[0].computed[0].as_primitive::<Int64Type>().value(0));
            }
        }
        seen
    };
    assert_eq!(calls(false), [1, 2, 1, 2]);
    assert_eq!(calls(true), [1, 2, 3, 4]);
}

#[test]
fn state_across_rows_makes_the_answer_depend_on_the_batch() {
    let config = serde_json::json!({ "behaviour": "state", "columns": ["id"] });
    let schema = Arc::new(crate::support::schema().project(&[0]).unwrap());
    let bound = evil().bind(&schema, &config, &Default::default()).unwrap();
    let answers = |batches: &[usize]| {
        let mut guest = bound.instance(&segment()).unwrap();
        let mut seen = Vec::new();
        for size in batches {
            let mut input = rows(*size);
            input.columns.truncate(1);
            let output = guest.process(&input).unwrap();
            seen.extend(output.emissions[0].computed[0].as_primitive::<Int64Type>().values().iter().copied());
        }
        seen
    };
    // What `forebay test` finds by splitting a batch; a host's batches are the same for the same bytes.
    assert_eq!(answers(&[4]), [0, 0, 0, 0]);
    assert_eq!(answers(&[2, 2]), [0, 0, 2, 2]);
    assert_eq!(answers(&[2, 2]), [0, 0, 2, 2], "and begins anew with each instance");
}

#[test]
fn refusals_and_metrics_arrive() {
    let output = call(evil(), "reject_some").unwrap();
    let refusals: Vec<_> = output.refusals.iter().map(|of| (of.row, &*of.code, &*of.message, of.retryable)).collect();
    assert_eq!(refusals, [(1, "odd", "is odd", false), (2, "later", "said second", true)]);
    assert_eq!(output.emissions.len(), 1);

    let message = &call(evil(), "reject_long").unwrap().refusals[0].message;
    assert!(message.len() <= 1024 && message.ends_with('…'), "{}", message.len());

    let output = call(evil(), "metrics").unwrap();
    assert_eq!(output.counts.into_iter().collect::<Vec<_>>(), [("seen".to_owned(), 5)]);
    assert_eq!(output.observations, [("amount".to_owned(), 1.5)]);
}

#[test]
fn a_selection_may_repeat_rows() {
    let config = serde_json::json!({ "behaviour": "passes", "columns": ["id", "reason"], "do": "pass_rows" });
    let bound = evil().bind(&crate::support::schema(), &config, &Default::default()).unwrap();
    let output = instance(&bound).process(&rows(8)).unwrap();
    assert_eq!(output.emissions[0].selection, Selection::Rows(vec![2, 0, 0].into()));
    assert!(output.emissions[0].computed.is_empty());
}
