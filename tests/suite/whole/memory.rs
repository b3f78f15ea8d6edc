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

/// The most memory that `run --once` took for a file, as the system says until its end; and how many segments it was.
fn peak(bytes: usize) -> (u64, i64) {
    let place = Place::with(&format!("[host]\nworkers = 2\nmemory = \"64 MiB\"\n{PLAIN}"));
    let text = records(bytes);
    place.write("inbox/a.jsonl", &text);
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
    assert_eq!(usize::try_from(place.rows("lake.events")).unwrap(), text.lines().count());
    (peak, place.number("SELECT count(*) FROM ledger.segments"))
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
