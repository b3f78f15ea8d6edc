//! The whole way: the released binary, from JSON lines in a folder to a committed Delta table, raw bytes landed and synced.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::cargo::cargo;

/// What a process used.
pub(crate) struct Used {
    wall: f64,
    cpu: f64,
    /// MB at most.
    memory: f64,
}

/// One core, then all of them.
pub(crate) fn figures(input: &Path, work: &Path) {
    let binary = binary();
    let mut files: Vec<_> = std::fs::read_dir(input).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    files.sort();
    let bytes: u64 = files.iter().map(|path| path.metadata().unwrap().len()).sum();
    println!(
        "whole way, `forebay run --once`, {:.0} MB of JSON lines, the rule in Wasm, everything synced",
        bytes as f64 / 1e6
    );
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    for workers in if cores == 1 { vec![1] } else { vec![1, cores] } {
        let place = work.join(format!("whole-{workers}"));
        prepare(&place, &files, workers);
        // The rule is compiled before: a host compiles it once in its life.
        let module = crate::rules::module("fraud");
        std::fs::copy(module, place.join("modules/fraud.wasm")).unwrap();
        run(&binary, &place, &["run", "--once"]);
        for file in &files {
            let inbox = place.join("inbox").join(file.file_name().unwrap());
            // No copy: what is measured reads the files itself.
            std::fs::hard_link(file, &inbox).or_else(|_| std::fs::copy(file, &inbox).map(drop)).unwrap();
        }
        let Used { wall, cpu, memory } = run(&binary, &place, &["run", "--once", "--json"]);
        println!(
            "  {:<28} {:>8.0} MB/s   {wall:.2} s; {:.0} MB/s a core of CPU ({cpu:.2} s); {memory:.0} MB at most",
            format!("{workers} worker{}", if workers == 1 { "" } else { "s" }),
            bytes as f64 / 1e6 / wall,
            bytes as f64 / 1e6 / cpu,
        );
        let told = std::fs::read_to_string(place.join("out")).unwrap();
        let told: serde_json::Value = serde_json::from_str(told.trim()).unwrap();
        let pipeline = &told["pipelines"]["fraud"];
        println!("  {:<28} {} records, {} rows", "", pipeline["records"], pipeline["rows"]);
        println!("  {:<28} {}", "", right(&binary, &place, input));
        println!(
            "  {:<28} seconds by stage: land {:.2}, {}",
            "", told["streams"]["payments"]["land_seconds"], pipeline["stage_seconds"]
        );
    }
}

/// What is right, as who made the input says in `expected.json` beside it: what the harness of other tools writes.
#[derive(serde::Deserialize)]
struct Expected {
    rows: u64,
    flagged: Option<u64>,
    score_sum: Option<f64>,
}

/// Holds the tables against what is right; how much of it was known.
fn right(binary: &Path, place: &Path, input: &Path) -> &'static str {
    let Ok(expected) = std::fs::read(input.join("expected.json")) else { return "no expected.json says what is right" };
    let Expected { rows, flagged, score_sum } = serde_json::from_slice(&expected).unwrap();
    let sql = "SELECT count(*) AS rows, count(*) FILTER (WHERE flagged) AS flagged, sum(score) AS score_sum FROM lake.payments";
    run(binary, place, &["query", sql, "--format", "jsonl"]);
    let found = std::fs::read_to_string(place.join("out")).unwrap();
    let found: serde_json::Value = serde_json::from_str(found.trim()).unwrap();
    assert_eq!(found["rows"], rows);
    let (Some(flagged), Some(score_sum)) = (flagged, score_sum) else { return "as many rows as records" };
    assert_eq!(found["flagged"], flagged);
    let off = (found["score_sum"].as_f64().unwrap() - score_sum).abs();
    // Sums of parts, in another order.
    assert!(off < 1e-6 * score_sum.abs(), "the scores sum to {}, not to {score_sum}", found["score_sum"]);
    "rows, flags and the sum of the scores are as expected.json says"
}

pub(crate) fn prepare(place: &Path, files: &[PathBuf], workers: usize) {
    assert!(!files.is_empty(), "no *.jsonl in the input");
    for folder in ["inbox", "modules"] {
        std::fs::create_dir_all(place.join(folder)).unwrap();
    }
    let config = format!(
        "[landing]\nurl = \"landing\"\n[ledger]\nurl = \"sqlite:forebay.db\"\n[modules]\nwatch = \"modules\"\n\
         [host]\nworkers = {workers}\n[warehouses.lake]\ntype = \"delta\"\nurl = \"warehouse\"\n\
         [streams.payments]\nsource = {{ type = \"files\", url = \"inbox\" }}\nformat = \"json\"\n\
         [pipelines.fraud]\nfrom = \"payments\"\n[[pipelines.fraud.steps]]\nmodule = \"fraud\"\n\
         [pipelines.fraud.routes]\nscored = \"lake.payments\"\nflagged = \"lake.flagged_payments\"\n"
    );
    std::fs::write(place.join("forebay.toml"), config).unwrap();
}

/// Built with the profile of benches, as this is.
pub(crate) fn binary() -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let profile = exe.parent().and_then(Path::parent).unwrap();
    let target = profile.parent().unwrap();
    let release = profile.ends_with("release");
    let mut command = cargo();
    // With the features of the whole workspace, as this was built.
    command.args(["build", "--quiet", "--workspace", "--bin", "forebay", "--target-dir"]).arg(target);
    if release {
        command.arg("--release");
    }
    assert!(command.status().unwrap().success());
    profile.join("forebay")
}

/// Runs it to its end, looking at what it uses.
pub(crate) fn run(binary: &Path, place: &Path, arguments: &[&str]) -> Used {
    let out = std::fs::File::create(place.join("out")).unwrap();
    let log = std::fs::File::create(place.join("log")).unwrap();
    let began = Instant::now();
    let mut child = Command::new(binary)
        .args(arguments)
        .current_dir(place)
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(log)
        .spawn()
        .unwrap();
    let (mut cpu, mut memory) = (0.0, 0.0);
    let status = loop {
        if let Some((seconds, megabytes)) = look(child.id()) {
            (cpu, memory) = (seconds, megabytes);
        }
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let wall = began.elapsed().as_secs_f64();
    assert!(status.success(), "{}", std::fs::read_to_string(place.join("log")).unwrap());
    Used { wall, cpu, memory }
}

/// CPU seconds and the most memory so far, as Linux tells (proc(5)): user and system ticks of 10 ms, and `VmHWM`.
fn look(process: u32) -> Option<(f64, f64)> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes = peak.split_whitespace().next()?.parse::<f64>().ok()?;
    Some((ticks / 100.0, kilobytes * 1024.0 / 1e6))
}
