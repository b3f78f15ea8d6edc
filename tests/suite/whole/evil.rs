//! Rules that misbehave, each in a pipeline of its own beside an honest one: every one is contained and told, in seconds, and
//! costs nothing but its own rows.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use arrow_schema::{DataType, Field, Schema, TimeUnit};

use super::seen::{PLAIN, check, own_frames, steady};
use super::strange_modules::guest;
use super::support::{Place, texts};

pub(super) fn records(ids: std::ops::Range<u32>) -> String {
    ids.map(|id| format!("{{\"id\":{id},\"reason\":\"reason {id}\"}}\n")).collect()
}

/// What fails its segments, each in a way of its own.
pub(super) const FAILING: [&str; 23] = [
    "alloc_bomb",
    "bad_utf8",
    "emit_many",
    "emit_repeated",
    "emit_then_trap",
    "exit",
    "long_buffer",
    "loop_process",
    "metric_name",
    "metric_names",
    "null_count_lie",
    "offsets_beyond",
    "offsets_descend",
    "panic",
    "recursion",
    "reject_ghost",
    "select_all_over",
    "selection_beyond",
    "short_buffer",
    "short_together",
    "sleep",
    "unknown_route",
    "wrong_types",
];
/// What never binds.
pub(super) const UNBOUND: [&str; 4] = ["emit_in_bind", "loop_bind", "panic_bind", "reject_in_bind"];

/// The plain pipeline, and one beside it for each behaviour.
pub(super) fn config(behaviours: &[&str]) -> String {
    let mut text = PLAIN.to_owned();
    for name in behaviours {
        // These emit rows of their own making, or none: their plan passes the columns as they are.
        let passes = ["emit_many", "select_all_over", "selection_beyond"].contains(name);
        let config = match passes {
            true => format!("{{ behaviour = \"passes\", do = \"{name}\" }}"),
            false => format!("{{ behaviour = \"{name}\", columns = [\"id\", \"reason\"] }}"),
        };
        write!(
            text,
            "\n[pipelines.{name}]\nfrom = \"events\"\nlimits = {{ call_ms = 500, bind_ms = 500, memory_mib = 64, output_mib = 4 }}\n\
             [[pipelines.{name}.steps]]\nmodule = \"evil\"\nconfig = {config}\n[pipelines.{name}.routes]\nout = \"lake.{name}\"\n"
        )
        .unwrap();
    }
    text
}

fn place(config: &str, rows: u32) -> Place {
    let place = Place::with(config);
    std::fs::copy(guest("evil"), place.path("modules/evil.wasm")).unwrap();
    place.write("inbox/a.jsonl", &records(0..rows));
    place
}

#[test]
fn every_evil_rule_fails_its_own_segment_within_seconds_and_the_honest_pipeline_loads() {
    let place = place(&config(&FAILING), 8_000);
    let began = Instant::now();
    let output = place.run(&["run", "--once"]);
    // A few seconds each, on a machine that does other things meanwhile.
    assert!(began.elapsed() < Duration::from_secs(180), "{:?}", began.elapsed());
    assert_eq!(output.status.code(), Some(1), "{}", texts(&output).1);
    check("evil", &own_frames(&place.failures()));
    assert_eq!(place.rows("lake.events"), 8_000);
    assert_eq!(
        place.number("SELECT count(*) FROM ledger.loads WHERE pipeline <> 'plain'"),
        0,
        "nothing of them loaded"
    );
    place.adds_up();
}

#[test]
fn a_rule_that_panics_on_each_of_a_hundred_thousand_rows_fails_its_segment_within_seconds() {
    let place = place(&config(&["panic"]), 100_000);
    let began = Instant::now();
    assert_eq!(place.run(&["run", "--once"]).status.code(), Some(1));
    // Trying each row alone would take many minutes.
    assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
    assert_eq!(
        place.number("SELECT count(*) FROM ledger.refinements WHERE pipeline = 'panic' AND state = 'failed'"),
        1
    );
    assert_eq!(place.rows("lake.events"), 100_000);
    place.adds_up();
}

#[test]
fn what_no_bind_may_do_is_refused_and_raw_data_lands() {
    let mut told = String::new();
    for behaviour in UNBOUND {
        let place = place(&config(&[behaviour]), 10);
        let began = Instant::now();
        let seen = place.sees(&["run", "--once"]);
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
        writeln!(told, "# {behaviour}\n{seen}\n").unwrap();
        assert_eq!(place.landed("a.jsonl"), [records(0..10).into_bytes()]);
        assert_eq!(place.rows("lake.events"), 10);
        place.adds_up();
    }
    check("evil-bind", &told);
}

#[test]
fn a_rule_that_logs_without_end_is_cut_short_and_goes_on() {
    let place = place(&config(&["huge_log"]), 8_000);
    let output = place.run(&["run", "--once"]);
    let (_, told) = texts(&output);
    assert!(output.status.success(), "{told}");
    let of = |text: &str| told.lines().filter(|line| line.contains(text)).count();
    assert_eq!(of("\"line "), 1_000, "limits.log_lines of the one call");
    assert_eq!(of("99000 more lines of this call were dropped (limits.log_lines, log_kib)"), 1);
    assert_eq!(place.number("SELECT sum(filtered) FROM ledger.refinements WHERE pipeline = 'huge_log'"), 8_000);
    assert_eq!(place.rows("lake.events"), 8_000);
    place.adds_up();
}

#[test]
fn rows_that_trap_are_rejected_alone() {
    let place = place(&config(&["panic_7th"]), 8_000);
    check("evil-rows", &place.sees(&["run", "--once"]));
    let rejects = place.query("SELECT code, message, raw FROM rejects.panic_7th ORDER BY _forebay_row");
    let text = |row: &serde_json::Value| {
        let message = own_frames(&steady(row["message"].as_str().unwrap()));
        format!("{} {message} {}\n", row["code"], row["raw"])
    };
    check("evil-rows-rejects", &rejects.iter().map(text).collect::<String>());
    assert_eq!(place.rows("lake.panic_7th"), 8_000 - 8);
    assert_eq!(place.number("SELECT count(*) FROM lake.panic_7th WHERE _forebay_row % 1000 = 7"), 0);
    place.adds_up();
}

#[test]
fn what_was_emitted_before_a_row_trapped_is_loaded_once_for_its_neighbours() {
    let place = place(&config(&["emit_then_panic_7th"]), 8_000);
    place.run_well(&["run", "--once"]);
    assert_eq!(place.rows("lake.emit_then_panic_7th"), 8_000 - 8);
    assert_eq!(place.number("SELECT count(DISTINCT _forebay_row) FROM lake.emit_then_panic_7th"), 8_000 - 8);
    assert_eq!(place.number("SELECT count(*) FROM rejects.emit_then_panic_7th WHERE _forebay_row % 1000 = 7"), 8);
    place.adds_up();
}

#[test]
fn what_was_emitted_before_a_trap_is_not_doubled_by_the_rule_that_heals_it() {
    let place = place(&config(&["emit_then_trap"]), 2_000);
    place.run(&["run", "--once"]);
    check("evil-emit-then-trap", &own_frames(&place.failures()));
    assert_eq!(place.rows("lake.emit_then_trap"), 0);
    let healed = config(&["emit_then_trap"]).replace("behaviour = \"emit_then_trap\"", "behaviour = \"identity\"");
    place.write("forebay.toml", &healed);
    place.run_well(&["run", "--once"]);
    assert_eq!(place.rows("lake.emit_then_trap"), 2_000);
    assert_eq!(place.number("SELECT count(DISTINCT id) FROM lake.emit_then_trap"), 2_000);
    assert_eq!(place.rows("lake.events"), 2_000);
    place.adds_up();
}

/// A schema as an IPC message, in hex.
fn message(field: Field) -> String {
    let mut bytes = Vec::new();
    arrow_ipc::writer::StreamWriter::try_new(&mut bytes, &Schema::new(vec![field])).unwrap();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_timestamp_that_no_table_can_hold_costs_its_row() {
    let mut config = PLAIN.to_owned();
    // Of a unit that is brought to microseconds, and without a zone, divided by it.
    let types = [("seconds", TimeUnit::Second, ""), ("days", TimeUnit::Microsecond, ", partition_by = [\"at\"]")];
    for (name, unit, more) in types {
        let schema = message(Field::new("at", DataType::Timestamp(unit, None), true));
        write!(
            config,
            "\n[pipelines.{name}]\nfrom = \"events\"\n[[pipelines.{name}.steps]]\nmodule = \"evil\"\n\
             config = {{ behaviour = \"timestamp_huge\", columns = [\"id\"], schema = \"{schema}\" }}\n\
             [pipelines.{name}.routes]\nout = {{ table = \"lake.{name}\"{more} }}\n"
        )
        .unwrap();
    }
    let place = place(&config, 20);
    let mut seen = place.sees(&["run", "--once"]);
    for (name, _, _) in types {
        let rejects = place.query(&format!("SELECT stage, code, message, _forebay_row AS row FROM rejects.{name}"));
        for row in rejects {
            let message = own_frames(&steady(row["message"].as_str().unwrap()));
            write!(seen, "\n\n{} {} {} {message}", row["row"], row["stage"], row["code"]).unwrap();
        }
        assert_eq!(place.rows(&format!("lake.{name}")), 19, "{seen}");
        assert_eq!(place.number(&format!("SELECT count(DISTINCT at) FROM lake.{name}")), 19);
    }
    check("evil-timestamps", &seen);
    place.adds_up();
}
