//! What production feels of a deployment and of a replay beside it: from landed to loaded, of each file that comes meanwhile.
//!
//! The released binary runs with all cores, and every 100 ms a file of 2 MB lands, which keeps about a tenth of two cores busy: alone,
//! while modules are deployed that were never compiled, one after the other, and while history is replayed, again and again; these three in
//! turns. What production has then is divided by what it has alone.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::whole::{binary, prepare, run};

/// How long each phase is fed, and how often.
const PHASE: Duration = Duration::from_secs(10);
const ROUNDS: usize = 4;
/// How often the former revision is put back.
const ROLLBACKS: usize = 20;
/// What lands at a time, and how often.
const BYTES: usize = 2 << 20;
const EVERY: Duration = Duration::from_millis(100);

/// A host that is killed where the bench fails.
struct Host(Child);

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// The page's part.
pub(crate) fn figures(input: &Path, work: &Path) {
    println!(
        "production beside a deployment and a replay, `forebay run`, 20 MB/s of JSON lines, from landed to loaded"
    );
    let binary = binary();
    let place = work.join("beside");
    let mut files: Vec<_> = std::fs::read_dir(input).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    files.sort();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    prepare(&place, &files, cores);
    let wasm = std::fs::read(crate::rules::module("fraud")).unwrap();
    std::fs::write(place.join("modules/fraud.wasm"), &wasm).unwrap();
    for file in &files {
        std::fs::hard_link(file, place.join("inbox").join(format!("history-{}", name(file)))).unwrap();
    }
    run(&binary, &place, &["run", "--once"]);
    let mut text = std::fs::read(&files[0]).unwrap();
    text.truncate(BYTES);
    text.truncate(text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1));

    let log = std::fs::File::create(place.join("host-log")).unwrap();
    let mut command = Command::new(&binary);
    command.arg("run").current_dir(&place).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let mut host = Host(command.spawn().unwrap());
    // What is there already is looked at once more before anything new is.
    std::thread::sleep(Duration::from_secs(2));
    feed(&place, "warm", &text, || std::thread::sleep(PHASE));
    let history = history(&binary, &place);
    let (mut deployed, mut replayed) = (0_u8, 0_u32);
    // In turns: a table that grows makes each commit a little slower, whatever is beside it.
    for _ in 0..ROUNDS {
        feed(&place, "alone", &text, || std::thread::sleep(PHASE));
        feed(&place, "deploy", &text, || {
            let until = Instant::now() + PHASE;
            while Instant::now() < until {
                let mut module = wasm.clone();
                module.extend([0, 6, 5, b'n', b'o', b't', b'e', deployed]);
                std::fs::write(place.join("next.wasm"), module).unwrap();
                run(&binary, &place, &["deploy", "next.wasm"]);
                deployed += 1;
            }
        });
        feed(&place, "replay", &text, || {
            let until = Instant::now() + PHASE;
            while Instant::now() < until {
                run(&binary, &place, &["replay", "--pipeline", "fraud", "--until", &history]);
                replayed += 1;
            }
        });
    }
    let mut back = Vec::new();
    feed(&place, "rollback", &text, || {
        for _ in 0..ROLLBACKS {
            let from = Instant::now();
            run(&binary, &place, &["rollback", "fraud"]);
            back.push(from.elapsed().as_secs_f64());
        }
    });
    back.sort_by(f64::total_cmp);
    let terminated = Command::new("kill").args(["-TERM", &host.0.id().to_string()]).status().unwrap();
    assert!(terminated.success() && host.0.wait().unwrap().success());

    let alone = latencies(&binary, &place, "alone");
    line("alone", &alone, "");
    line_of(
        "rollback",
        (back.as_slice(), "rollbacks"),
        "from asked to active, as a person waits for it; meant is under a second",
    );
    for (phase, note) in
        [("deploy", format!("{deployed} deployments, each compiled")), ("replay", format!("{replayed} times history"))]
    {
        let during = latencies(&binary, &place, phase);
        line(phase, &during, &note);
        let ratio = |share: f64| quantile(&during, share) / quantile(&alone, share);
        println!("  {:<28} {:>8.2}        p50, {:.2} p99 of what it has alone", "", ratio(0.5), ratio(0.99));
    }
    line_of("", (&loads(&binary, &place, "replay"), "loads"), "production's, from opened to done");
    line_of("", (&loads(&binary, &place, "history"), "loads"), "those of history, one of production may wait for each");
}

fn name(file: &Path) -> String {
    file.file_name().unwrap().to_string_lossy().into_owned()
}

/// Lands files of a phase as long as something goes on.
fn feed(place: &Path, phase: &str, text: &[u8], goes_on: impl FnOnce()) {
    let round = std::fs::read_dir(place.join("inbox")).unwrap().count();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut next = Instant::now();
            for number in 0_u32.. {
                if done.load(Ordering::Relaxed) {
                    return;
                }
                let part = place.join("inbox").join(format!("{phase}-{round:05}-{number:05}.part"));
                std::fs::write(&part, text).unwrap();
                std::fs::rename(&part, part.with_extension("jsonl")).unwrap();
                next += EVERY;
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
            }
        });
        goes_on();
        done.store(true, Ordering::Relaxed);
    });
}

/// When what is history had landed.
fn history(binary: &Path, place: &Path) -> String {
    let sql = "SELECT min(landed_at) AS until FROM ledger.segments WHERE key LIKE 'warm-%'";
    run(binary, place, &["query", sql, "--format", "jsonl"]);
    let found = std::fs::read_to_string(place.join("out")).unwrap();
    let found: serde_json::Value = serde_json::from_str(found.trim()).unwrap();
    found["until"].as_str().unwrap().to_owned()
}

/// Seconds from landed to loaded of a phase's segments, sorted.
fn latencies(binary: &Path, place: &Path, phase: &str) -> Vec<f64> {
    let sql = format!(
        "SELECT arrow_cast(min(l.done_at), 'Int64') - arrow_cast(min(s.landed_at), 'Int64') AS micros FROM ledger.segments s
         JOIN ledger.load_segments ls ON ls.segment = s.segment
         JOIN ledger.loads l ON l.pipeline = ls.pipeline AND l.number = ls.number AND l.table_name = ls.table_name
         WHERE s.key LIKE '{phase}-%' GROUP BY s.segment"
    );
    let seconds = micros(binary, place, &sql);
    assert!(seconds.len() >= 100, "{phase}: {}", seconds.len());
    seconds
}

/// Seconds from opened to done of the loads that hold a phase's segments, sorted.
fn loads(binary: &Path, place: &Path, phase: &str) -> Vec<f64> {
    let sql = format!(
        "SELECT arrow_cast(l.done_at, 'Int64') - arrow_cast(l.begun_at, 'Int64') AS micros FROM ledger.loads l
         WHERE l.number IN (SELECT ls.number FROM ledger.load_segments ls JOIN ledger.segments s ON s.segment = ls.segment
         WHERE s.key LIKE '{phase}-%')"
    );
    micros(binary, place, &sql)
}

fn micros(binary: &Path, place: &Path, sql: &str) -> Vec<f64> {
    run(binary, place, &["query", sql, "--format", "jsonl"]);
    let rows = std::fs::read_to_string(place.join("out")).unwrap();
    let rows = rows.lines().map(|row| serde_json::from_str::<serde_json::Value>(row).unwrap());
    let mut seconds: Vec<_> = rows.map(|row| row["micros"].as_f64().unwrap() / 1e6).collect();
    seconds.sort_by(f64::total_cmp);
    seconds
}

/// The value that so large a share of them does not exceed.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len() - 1;
    sorted[((last as f64) * share).round() as usize]
}

fn line(phase: &str, seconds: &[f64], note: &str) {
    line_of(phase, (seconds, "segments"), note);
}

fn line_of(phase: &str, (seconds, what): (&[f64], &str), note: &str) {
    println!(
        "  {phase:<28} {:>8.1} ms     p50, {:.1} ms p99, {:.1} ms at most of {} {what}{}{note}",
        quantile(seconds, 0.5) * 1e3,
        quantile(seconds, 0.99) * 1e3,
        quantile(seconds, 1.0) * 1e3,
        seconds.len(),
        if note.is_empty() { "" } else { "; " },
    );
}
