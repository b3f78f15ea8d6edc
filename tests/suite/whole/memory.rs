//! Promise 7: what a host takes of memory does not grow with what it is given.

use std::fmt::Write as _;
use std::process::Stdio;
use std::time::Duration;

use super::seen::PLAIN;
use super::support::Place;

const MIB: u64 = 1 << 20;

/// What may come on top for larger input: buffers that the small one does not fill, of Parquet's row groups above all.
const SLACK: u64 = 32 * MIB;

/// Records that do not compress well, of so many bytes or a little more.
fn records(bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + 200);
    let mut bits = 1_u64;
    while text.len() < bytes {
        let mut word = || {
            bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            bits >> 16
        };
        let (a, b, c) = (word(), word(), word());
        writeln!(text, "{{\"id\":{},\"a\":\"{a:012x}{b:012x}\",\"v\":{}.5,\"text\":\"some words\"}}", c, c % 977)
            .unwrap();
    }
    text
}

/// The most memory that `run --once` took for a file, and how many segments it was.
fn peak(bytes: usize) -> (u64, i64) {
    let (peak, place) = peak_of(&records(bytes));
    (peak, place.number("SELECT count(*) FROM ledger.segments"))
}

/// The most memory that `run --once` took for a text, as the system says until its end.
fn peak_of(text: &str) -> (u64, Place) {
    let place = Place::with(&format!("[host]\nworkers = 2\nmemory = \"64 MiB\"\n{PLAIN}"));
    place.write("inbox/a.jsonl", text);
    let mut host = place.command(&["run", "--once"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let status = format!("/proc/{}/status", host.id());
    let mut peak = 0;
    while host.try_wait().unwrap().is_none() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).and_then(|kib| kib.parse::<u64>().ok());
        // It only grows, so what is missed is what came in the last moment.
        peak = kib.map_or(peak, |kib| kib * 1024).max(peak);
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(host.wait().unwrap().success());
    assert_eq!(
        place.number("SELECT sum(records) FROM ledger.refinements"),
        i64::try_from(text.lines().count()).unwrap()
    );
    place.adds_up();
    (peak, place)
}

#[test]
#[cfg(target_os = "linux")]
fn seven_times_the_input_and_a_second_segment_take_no_more_memory() {
    let ((small, one), (large, two)) = (peak(10_000_000), peak(70_000_000));
    assert_eq!((one, two), (1, 2), "a file is cut after 64 MiB");
    println!("10 MB take {} MiB, 70 MB take {} MiB", small / MIB, large / MIB);
    assert!(small > 16 * MIB, "{small} bytes: that is no process");
    assert!(large < small + SLACK, "10 MB of input took {} MiB, 70 MB took {} MiB", small / MIB, large / MIB);
}

#[test]
#[cfg(target_os = "linux")]
fn a_line_of_a_hundred_megabytes_takes_no_more_memory() {
    let (small, _) = peak(10_000_000);
    let mut text = records(1_000);
    text.push_str("{\"id\":5,\"text\":\"");
    text.extend(std::iter::repeat_n('x', 100_000_000));
    text.push_str("\"}\n");
    text.push_str(&records(1_000));
    let (large, place) = peak_of(&text);
    println!("10 MB of records take {} MiB, a line of 100 MB takes {} MiB", small / MIB, large / MIB);
    assert_eq!(place.number("SELECT sum(rejected) FROM ledger.refinements"), 1);
    assert!(
        small > 16 * MIB && large < small + SLACK,
        "records took {} MiB, the line {} MiB",
        small / MIB,
        large / MIB
    );
}
