//! What a guest sees of the world outside: the segment, its assets, and nothing else.

use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use forebay_model::ports::{Asset, Assets, ModuleLoader as _, SegmentContext};
use forebay_model::{Digest, Timestamp};
use forebay_sandbox::{GuestLog, Limits, Sandbox, SandboxOptions};
use insta::assert_snapshot;
use serde_json::json;

use crate::support::{Lines, config, evil, instance, rows, schema, segment, wasm};

fn said(behaviour: &str) -> String {
    let bound = evil().bind(&schema(), &config(behaviour), &assets()).unwrap();
    instance(&bound).process(&rows(8)).unwrap_err().message
}

fn assets() -> Assets {
    let bytes = bytes::Bytes::from_static(b"0123456789");
    Arc::new([("notes".into(), Asset { digest: Digest::of(&bytes), bytes })].into())
}

/// The number that a guest emits for a segment, from a batch whose first row has this number.
fn number(behaviour: &str, segment: &SegmentContext, first: u64) -> i64 {
    let config = json!({ "behaviour": behaviour, "columns": ["id"] });
    let bound = evil().bind(&Arc::new(schema().project(&[0]).unwrap()), &config, &Assets::default()).unwrap();
    let mut input = rows(2);
    input.columns.truncate(1);
    input.numbers = vec![first, first + 1];
    let output = bound.instance(segment).unwrap().process(&input).unwrap();
    output.emissions[0].computed[0].as_primitive::<Int64Type>().value(1)
}

#[test]
fn there_is_nothing_outside() {
    assert_snapshot!(said("world"), @r#"args [], env [], directory No such file or directory (os error 44), file No such file or directory (os error 44), write No such file or directory (os error 44), stdin Ok("")"#);
}

#[test]
fn clocks_stand_still_at_the_landing_time() {
    let at = |text: &str| SegmentContext { landed_at: Timestamp::parse(text).unwrap(), ..segment() };
    let noon = at("2026-01-02T12:00:00.000001Z");
    assert_eq!(number("clock", &noon, 0), noon.landed_at.as_micros());
    assert_eq!(number("clock", &at("1969-01-01T00:00:00Z"), 0), 0);
}

#[test]
fn chance_is_the_segments_and_the_rows() {
    for how in ["random", "random_bytes"] {
        let first = number(how, &segment(), 0);
        assert_eq!(number(how, &segment(), 0), first);
        assert_ne!(number(how, &SegmentContext { seed: 18, ..segment() }, 0), first);
        assert_ne!(number(how, &segment(), 8192), first);
    }
    assert_snapshot!(said("random_greedy"), @"the module asked for more than 1048576 random bytes at once");
    // std seeds its hash maps once in an instance, at `bind`: the same for all segments.
    assert_eq!(number("hash_order", &segment(), 0), number("hash_order", &SegmentContext { seed: 18, ..segment() }, 9));
}

#[test]
fn chance_does_not_depend_on_the_calls_before() {
    let config = json!({ "behaviour": "random", "columns": ["id"] });
    let bound = evil().bind(&Arc::new(schema().project(&[0]).unwrap()), &config, &Assets::default()).unwrap();
    let mut input = rows(2);
    input.columns.truncate(1);
    let mut guest = instance(&bound);
    let mut draw = || guest.process(&input).unwrap().emissions[0].computed[0].as_primitive::<Int64Type>().value(0);
    assert_eq!(draw(), draw());
}

#[test]
fn nans_have_the_same_bits_whatever_they_were_made_of() {
    let config = json!({ "behaviour": "nans", "columns": ["id"] });
    let bound = evil().bind(&Arc::new(schema().project(&[0]).unwrap()), &config, &Assets::default()).unwrap();
    let mut input = rows(4);
    input.columns.truncate(1);
    let output = instance(&bound).process(&input).unwrap();
    let bits = output.emissions[0].computed[0].as_primitive::<Int64Type>().values().to_vec();
    // Positive, quiet and without a payload: what the processor itself makes differs from one kind to the next.
    assert_eq!(bits, [0x7ff8_0000_0000_0000_i64; 4], "{bits:x?}");
}

#[test]
fn the_context_arrives() {
    assert_snapshot!(said("context"), @r#"Context { stream: "payments", segment: "payments/3f9c", partition: "files:inbox", first-position: "a.csv@1[0..9]", rows: RowNumbers::From(0), landed-at: 1767323045678901, seed: 17 }"#);
    assert_eq!(number("first_number", &segment(), u64::from(u32::MAX) + 5), i64::from(u32::MAX) + 5);
}

#[test]
fn handles_are_counted() {
    assert_snapshot!(said("asset_hoard"), @"process: cannot allocate another handle: store handle limit exceeded");
}

#[test]
fn assets_are_read_in_parts() {
    assert_snapshot!(said("asset"), @r#"notes: 10 bytes, digest 84d89877f0d4041efb6bf91a16f0248f2fd573e6af05c19f96bedb9f882f7882, middle "234", beyond []"#);
    assert_snapshot!(said("asset_other"), @"secrets: none");
    let bound = evil().bind(&schema(), &config("asset"), &Assets::default()).unwrap();
    assert_snapshot!(instance(&bound).process(&rows(1)).unwrap_err(), @"notes: none");
}

/// What the evil module says; it is compiled once for a folder.
fn lines(folder: &Path, behaviour: &str) -> Vec<String> {
    let lines = Arc::new(Lines::default());
    let log: Arc<dyn GuestLog> = Arc::clone(&lines) as _;
    let limits = Limits { log_lines: 3, ..Limits::default() };
    let sandbox =
        Sandbox::new(SandboxOptions { limits, log, cache_dir: Some(folder.into()), ..Default::default() }).unwrap();
    let module = sandbox.load(wasm("evil")).unwrap();
    let bound = module.bind(&schema(), &config(behaviour), &Assets::default()).unwrap();
    drop(instance(&bound).process(&rows(8)));
    let said = lines.0.lock().unwrap();
    said.clone()
}

#[test]
fn what_a_guest_says_is_lines_in_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let lines = |behaviour| lines(folder.path(), behaviour);
    assert_snapshot!(lines("prints").join("\n"), @"
    evil Info no newline until now
    evil Warn to stderr
    evil Warn the last one has none
    ");
    assert_snapshot!(lines("huge_log").join("\n"), @"
    evil Info line 0
    evil Info line 1
    evil Info line 2
    evil Warn 99997 more lines of this call were dropped (limits.log_lines, log_kib)
    ");
    assert_snapshot!(lines("stderr_flood").join("\n"), @"
    evil Warn line 0
    evil Warn line 1
    evil Warn line 2
    evil Warn 99997 more lines of this call were dropped (limits.log_lines, log_kib)
    ");
    assert_snapshot!(lines("log_in_bind").join("\n"), @"
    evil Info binding
    evil Info binding
    ");
    let long = lines("long_line");
    assert!(long.len() == 1 && long[0].len() < 70_000, "{} lines", long.len());
}
