//! What `process` does for each behaviour.

use std::hash::{BuildHasher, RandomState};
use std::hint::black_box;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::bindings::forebay::transform::host::{self, Asset, Level};
use crate::bindings::forebay::transform::types::{Node, RowNumbers, Selection};
use crate::bindings::{Context, RecordBatch};
use crate::chance::wasi::random::random;

pub(crate) fn spin() {
    let mut i = 0u64;
    while black_box(true) {
        i = black_box(i.wrapping_add(1));
    }
}

#[inline(never)]
pub(crate) fn recurse(depth: u64) -> u64 {
    if black_box(false) { depth } else { black_box(recurse(depth + 1)) + 1 }
}

pub(crate) fn emit_nothing(route: u32) {
    host::emit(route, &Selection::Rows(vec![]), &RecordBatch { rows: 0, nodes: vec![], buffers: vec![] });
}

#[inline(never)]
fn check_row(number: u64) {
    assert!(number % 1000 != 7, "row {number} is unlucky");
}

fn numbers(context: &Context, rows: u32) -> Vec<u64> {
    match &context.rows {
        RowNumbers::From(first) => (0..u64::from(rows)).map(|row| first + row).collect(),
        RowNumbers::Each(numbers) => numbers.clone(),
    }
}

/// One Int64 column, the same value for all rows.
fn emit_i64(rows: u32, value: i64) {
    emit_each(rows, (0..rows).map(|_| value));
}

/// One column of 64-bit values.
fn emit_each(rows: u32, values: impl Iterator<Item = i64>) {
    let values = values.flat_map(i64::to_le_bytes).collect();
    let computed =
        RecordBatch { rows, nodes: vec![Node { length: rows, null_count: 0 }], buffers: vec![vec![], values] };
    host::emit(0, &Selection::All, &computed);
}

fn emit(batch: &RecordBatch) {
    host::emit(0, &Selection::All, batch);
}

/// Columns are an Int64 and a Utf8 in the tests that mangle: buffers 0 and 1, then 2, 3 and 4.
fn mangle(behaviour: &str, batch: &mut RecordBatch) -> bool {
    let offset = |batch: &mut RecordBatch, at: usize, value: i32| {
        batch.buffers[3][at * 4..at * 4 + 4].copy_from_slice(&value.to_le_bytes());
    };
    // The second offset, or the last of a batch of one row.
    let second = 2.min(batch.rows as usize);
    match behaviour {
        "short_buffer" => drop(batch.buffers[1].pop()),
        // Of one row's values nothing is missing.
        "short_together" => batch.buffers[1].truncate(9),
        "long_buffer" => batch.buffers[1].push(0),
        "short_offsets" => drop(batch.buffers[3].pop()),
        "offsets_descend" => offset(batch, second, if second == 2 { 0 } else { -1 }),
        "offsets_negative" => offset(batch, second, -5),
        "offsets_beyond" => {
            let last = batch.rows as usize;
            offset(batch, last, 1_000_000);
        }
        "offsets_start" => offset(batch, 0, 1),
        "bad_utf8" => batch.buffers[4][4] = 0xff,
        "split_utf8" => {
            // A valid text whose second row begins in the middle of a character.
            batch.buffers[4].splice(0..2, "é".bytes());
            offset(batch, 1, 1);
        }
        "null_count_lie" => batch.nodes[0].null_count = 3,
        "null_count_huge" => batch.nodes[0].null_count = batch.rows + 1,
        "null_count_none" => {
            batch.buffers[0] = vec![0; (batch.rows as usize).div_ceil(8)];
        }
        "nulls_where_none" => {
            batch.nodes[0].null_count = batch.rows;
            batch.buffers[0] = vec![0; (batch.rows as usize).div_ceil(8)];
        }
        "short_validity" => {
            batch.nodes[0].null_count = 1;
            batch.buffers[0] = vec![];
        }
        "length_lie" => batch.nodes[1].length -= 1,
        "rows_lie" => batch.rows -= 1,
        "wrong_types" => {
            // A text where the number is due, and the number where the text is.
            let text = batch.buffers.split_off(2);
            batch.buffers.splice(0..0, text);
            batch.nodes.swap(0, 1);
        }
        "few_nodes" => {
            batch.nodes.pop();
        }
        "many_nodes" => batch.nodes.push(Node { length: 0, null_count: 0 }),
        "few_buffers" => {
            batch.buffers.pop();
        }
        "many_buffers" => batch.buffers.push(vec![1, 2, 3]),
        _ => return false,
    }
    true
}

pub(crate) fn process(behaviour: &str, context: &Context, mut batch: RecordBatch) -> Result<(), String> {
    let rows = batch.rows;
    if mangle(behaviour, &mut batch) {
        emit(&batch);
        return Ok(());
    }
    match behaviour {
        "loop_process" => spin(),
        "sleep" => std::thread::sleep(Duration::from_secs(3600)),
        "alloc_bomb" => {
            let mut held = Vec::new();
            loop {
                held.push(black_box(vec![1u8; 1 << 20]));
            }
        }
        "recursion" => {
            black_box(recurse(0));
        }
        "huge_log" => (0..100_000).for_each(|line| host::log(Level::Info, &format!("line {line}"))),
        "long_line" => host::log(Level::Warn, &"x".repeat(1 << 20)),
        "stderr_flood" => (0..100_000).for_each(|line| eprintln!("line {line}")),
        "prints" => {
            print!("no newline ");
            println!("until now");
            eprintln!("to stderr");
            eprint!("the last one has none");
        }
        "emit_many" => (0..10_000_000).for_each(|_| emit_nothing(0)),
        "emit_repeated" => loop {
            emit(&batch);
        },
        "select_all_over" => {
            let selected = Selection::Rows(vec![0; 1 << 19]);
            loop {
                host::emit(0, &selected, &RecordBatch { rows: 1 << 19, nodes: vec![], buffers: vec![] });
            }
        }
        "pass_rows" => {
            host::emit(0, &Selection::Rows(vec![2, 0, 0]), &RecordBatch { rows: 3, nodes: vec![], buffers: vec![] })
        }
        "selection_beyond" => {
            host::emit(0, &Selection::Rows(vec![0, rows]), &RecordBatch { rows: 2, nodes: vec![], buffers: vec![] });
        }
        "selection_length" => host::emit(0, &Selection::Rows(vec![0]), &batch),
        "unknown_route" => host::emit(7, &Selection::All, &batch),
        "reject_ghost" => host::reject(&[0, rows], "ghost", "there is no such row", false),
        "reject_code" => host::reject(&[0], "a code with a\nnewline", "message", false),
        "reject_some" => {
            host::reject(&[1], "odd", "is odd", false);
            host::reject(&[1, 2], "later", "said second", true);
            emit(&batch);
        }
        "reject_long" => host::reject(&[0], "long", &"é".repeat(1 << 16), false),
        "metrics" => {
            host::count("seen", 2);
            host::count("seen", 3);
            host::observe("amount", 1.5);
        }
        "metric_name" => host::count("not a name", 1),
        "metric_names" => (0..1_000_000).for_each(|name| host::count(&format!("n{name}"), 1)),
        "observe_many" => (0..10_000_000).for_each(|_| host::observe("amount", 1.0)),
        "panic_7th" => {
            numbers(context, rows).into_iter().for_each(check_row);
            emit(&batch);
        }
        // What it emits before the trap counts for nobody: neither for the row, nor for its neighbours.
        "emit_then_panic_7th" => {
            emit(&batch);
            numbers(context, rows).into_iter().for_each(check_row);
        }
        "panic" => panic!("every row is bad"),
        "exit" => std::process::exit(3),
        "emit_then_trap" => {
            emit(&batch);
            panic!("after the emit");
        }
        "nothing" => drop(batch),
        // The answer for a row depends on how many came before it in this instance.
        "state" => emit_i64(rows, i64::try_from(crate::seen(rows)).unwrap_or(i64::MAX)),
        "calls" => emit_i64(rows, i64::try_from(crate::calls()).unwrap_or(i64::MAX)),
        "clock" => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
            let began = Instant::now();
            assert_eq!(began.elapsed(), Duration::ZERO);
            emit_i64(rows, i64::try_from(now.as_micros()).unwrap_or(i64::MAX));
        }
        "random" => emit_i64(rows, random::get_random_u64().cast_signed()),
        "random_bytes" => {
            let bytes = random::get_random_bytes(8).try_into().expect("eight bytes");
            emit_i64(rows, i64::from_le_bytes(bytes));
        }
        "random_greedy" => {
            black_box(random::get_random_bytes(u64::MAX));
        }
        "nans" => emit_each(rows, nans().into_iter().cycle().take(rows as usize)),
        "hash_order" => emit_i64(rows, RandomState::new().hash_one(17).cast_signed()),
        // A column of `config.schema`: the rows' numbers, and the greatest value there is for one of a thousand.
        "timestamp_huge" => {
            let value = |row: u64| if row % 1000 == 7 { i64::MAX } else { row.cast_signed() };
            emit_each(rows, numbers(context, rows).into_iter().map(value));
        }
        "first_number" => {
            emit_i64(rows, numbers(context, rows).first().copied().unwrap_or_default().cast_signed());
        }
        "context" => return Err(format!("{context:?}")),
        "error" => return Err("the rule gave up".into()),
        "world" => return Err(world()),
        "asset" => return Err(asset("notes")),
        "asset_other" => return Err(asset("secrets")),
        "asset_hoard" => {
            let held: Vec<_> = (0..100_000).map(|_| Asset::open("notes")).collect();
            black_box(held);
        }
        "asset_greedy" => {
            let notes = Asset::open("notes").expect("configured");
            black_box(notes.read(0, u32::MAX));
        }
        _ => emit(&batch),
    }
    Ok(())
}

/// The bits of what is no number, by arithmetic that leaves them to the processor: some add up payloads, some have a sign.
fn nans() -> [i64; 4] {
    let double = black_box(f64::from_bits(0x7ff8_dead_beef_0001)) + black_box(1.0);
    let signed = black_box(f64::from_bits(0xfff8_0000_0000_002a)) * black_box(-1.0);
    let none = black_box(0.0_f64) / black_box(0.0);
    let single = black_box(f32::from_bits(0x7fc0_beef)) - black_box(1.0);
    [double, signed, none, f64::from(single)].map(|nan| nan.to_bits().cast_signed())
}

/// What a rule sees of the world outside.
fn world() -> String {
    format!(
        "args {:?}, env {:?}, directory {}, file {}, write {}, stdin {:?}",
        std::env::args().collect::<Vec<_>>(),
        std::env::vars().collect::<Vec<_>>(),
        std::fs::read_dir("/").map_or_else(|error| error.to_string(), |_| "read".into()),
        std::fs::read("/etc/passwd").map_or_else(|error| error.to_string(), |_| "read".into()),
        std::fs::write("x", "y").map_or_else(|error| error.to_string(), |()| "written".into()),
        std::io::read_to_string(std::io::stdin()).map_err(|error| error.to_string()),
    )
}

fn asset(name: &str) -> String {
    match Asset::open(name) {
        None => format!("{name}: none"),
        Some(asset) => format!(
            "{name}: {} bytes, digest {}, middle {:?}, beyond {:?}",
            asset.size(),
            asset.digest(),
            String::from_utf8_lossy(&asset.read(2, 3)),
            asset.read(1000, 3),
        ),
    }
}
