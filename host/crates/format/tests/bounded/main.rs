//! Memory, in a process of its own: what it ever used is asked of the system.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::io::Read;
use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema};
use forebay_model::ports::SegmentInput;
use serde_json::{Value, json};

use forebay_format::Formats;
use forebay_model::Reject;

/// Some bytes, then one byte again and again, then some bytes.
struct Long {
    head: &'static [u8],
    middle: u8,
    times: u64,
    tail: &'static [u8],
}

impl Read for Long {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let part = if self.head.is_empty() && self.times == 0 { &mut self.tail } else { &mut self.head };
        if !part.is_empty() {
            return part.read(buf);
        }
        let count = usize::try_from(self.times).unwrap_or(usize::MAX).min(buf.len());
        buf[..count].fill(self.middle);
        self.times -= count as u64;
        Ok(count)
    }
}

fn a_record_larger_than_the_limit_is_a_reject() {
    const SIZE: u64 = 200 << 20;
    for (config, name, head, tail) in [
        (json!("json"), "json", &b"{\"a\":1}\n{\"a\":\""[..], &b"\"}\n{\"a\":2}\n"[..]),
        (json!("json"), "json", b"[{\"a\":1},{\"a\":\"", b"\"},{\"a\":2}]"),
        (json!("csv"), "csv", b"a\n1\n\"", b"\"\n2\n"),
    ] {
        let (rows, rejects) = decode(&config, name, Long { head, middle: b'x', times: SIZE, tail });
        assert_eq!(rows, 2);
        assert_eq!((rejects.len(), rejects[0].code.as_str(), rejects[0].record), (1, "record_too_large", 1));
        assert_eq!(rejects[0].raw.len(), 64 << 10);
        let size = SIZE + if name == "csv" { 2 } else { 8 };
        assert!(rejects[0].message.contains(&format!("has {size} bytes")), "{}", rejects[0].message);
    }
}

fn blank_input_takes_no_memory() {
    for middle in [b'\n', b' '] {
        let long = Long { head: b"[{\"a\":1},", middle, times: 100 << 20, tail: b"{\"a\":2}]" };
        assert_eq!(decode(&json!("json"), "json", long).0, 2);
    }
    let lines = Long { head: b"{\"a\":1}\n", middle: b'\n', times: 100 << 20, tail: b"{\"a\":2}" };
    assert_eq!(decode(&json!("json"), "json", lines).0, 2);
}

/// How many rows, and what was refused.
fn decode(config: &Value, name: &str, long: Long) -> (usize, Vec<Reject>) {
    let format = Formats::from_config(config).unwrap().get(name).unwrap();
    let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true)]));
    let mut decoder = format.open(SegmentInput::Bytes(Box::new(long)), &schema).unwrap();
    let (mut rows, mut rejects) = (0, Vec::new());
    while let Some(batch) = decoder.next_batch().unwrap() {
        rows += batch.batch.num_rows();
        rejects.extend(batch.rejects);
    }
    (rows, rejects)
}

/// The most memory that this process ever had, in bytes; 0 where the system does not say.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default().to_owned();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) * 1024
}

#[test]
fn memory_is_bounded_whatever_the_input() {
    a_record_larger_than_the_limit_is_a_reject();
    blank_input_takes_no_memory();
    let used = peak_memory();
    assert!(used < 120 << 20, "{} MiB", used >> 20);
}
