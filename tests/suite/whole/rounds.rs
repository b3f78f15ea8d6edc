//! Rounds of lives that end at once: a host runs, files arrive and are replaced, modules and thresholds change, tables are
//! maintained beside it, and SIGKILL or a named point ends it at a moment that is drawn by lot. After the last life each
//! table is compared with the input row by row.
//!
//! `FOREBAY_KILL_ROUNDS` says how many (10), `FOREBAY_KILL_SEED` with which seed they begin (1). A round that fails names its
//! seed; the same seed draws the same actions, though not the same microseconds.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Stdio};
use std::time::Duration;

use forebay_model::Digest;

use super::kills::{MAINTENANCE, POINTS};
use super::support::{ABORTED, CONFIG, KILLED, Place, fraud_wasm};

/// Draws by lot: splitmix64.
struct Lot(u64);

impl Lot {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    fn below(&mut self, end: u32) -> u32 {
        u32::try_from(self.bits() % u64::from(end)).unwrap()
    }

    fn of<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.below(u32::try_from(all.len()).unwrap()) as usize]
    }
}

/// What a file holds: so many records of a version, the last of them torn where it is odd.
#[derive(Debug, Clone, Copy)]
struct Content {
    records: u32,
    version: u32,
}

impl Content {
    fn is_torn(self) -> bool {
        self.version % 2 == 1
    }

    fn text(self, file: u32) -> String {
        let mut text = String::new();
        for (id, flagged) in self.ids(file) {
            let v14 = if flagged { -9.5 } else { -0.5 };
            let version = self.version;
            writeln!(text, r#"{{"id":{id},"Time":{version},"V14":{v14},"V17":0.25,"Amount":{version}.5,"Class":0}}"#)
                .unwrap();
        }
        if self.is_torn() {
            text += "{\"id\":\n";
        }
        text
    }

    fn ids(self, file: u32) -> impl Iterator<Item = (u32, bool)> {
        (0..self.records).map(move |n| (file * 10_000 + n, n % 10 == 0))
    }
}

/// What is in the inbox.
#[derive(Default)]
struct Inbox(BTreeMap<u32, Content>);

impl Inbox {
    fn put(&mut self, place: &Place, lot: &mut Lot, file: u32) {
        let version = self.0.get(&file).map_or(0, |content| content.version + 1) + lot.below(2);
        let content = Content { records: 1 + lot.below(400), version };
        place.write(&format!("inbox/{file}.jsonl"), &content.text(file));
        self.0.insert(file, content);
    }

    /// What is refused of it, as [`rejects`] tells it.
    fn torn(&self) -> Vec<String> {
        let torn = self.0.iter().filter(|(_, content)| content.is_torn());
        let mut lines: Vec<_> =
            torn.map(|(file, content)| format!("{file}.jsonl {} malformed {{\"id\":", content.records)).collect();
        lines.sort();
        lines
    }

    fn rows(&self) -> BTreeSet<(i64, i64, bool)> {
        let rows =
            self.0.iter().flat_map(|(file, content)| content.ids(*file).map(|(id, flag)| (id, content.version, flag)));
        rows.map(|(id, version, flagged)| (i64::from(id), i64::from(version), flagged)).collect()
    }
}

/// How the lives of all rounds ended.
#[derive(Debug, Default)]
struct Deaths {
    by_sigkill: u32,
    at_points: u32,
    /// By `maintain`, which had the lease.
    kept_out: u32,
    maintained: u32,
    modules: u32,
    replaced: u32,
}

/// The same rule with one more custom section has another digest: a new module.
fn swap_module(place: &Place, lot: &mut Lot) {
    let mut wasm = std::fs::read(fraud_wasm()).unwrap();
    wasm.extend([0, 5, 4, b'n', b'o', b't', b'a' + u8::try_from(lot.below(3)).unwrap()]);
    place.write_bytes("modules/fraud.wasm", &wasm);
}

/// One life: a host, and what happens to it until it ends.
fn live(place: &Place, lot: &mut Lot, inbox: &mut Inbox, number: u32, deaths: &mut Deaths) {
    let mut command = place.command(&["run"]);
    let log = place.path(&format!("log-{number}"));
    command.stdout(Stdio::null()).stderr(std::fs::File::create(&log).unwrap());
    let said = || std::fs::read_to_string(&log).unwrap();
    let has_point = lot.below(2) == 0;
    if has_point {
        let points = [&POINTS[..], &MAINTENANCE[..], &["after_growth"]].concat();
        let point = lot.of(&points);
        let time = 1 + lot.below(3);
        command
            .env("FOREBAY_FAILPOINT", if point.contains('@') { point.to_owned() } else { format!("{point}@{time}") });
    }
    let mut host = command.spawn().unwrap();
    // Most lives get as far as their first segments; some end while they start.
    if lot.below(4) > 0 {
        let began = std::time::Instant::now();
        while !said().contains("next segments")
            && host.try_wait().unwrap().is_none()
            && began.elapsed() < Duration::from_secs(10)
        {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    let mut maintenance: Option<Child> = None;
    for _ in 0..3 + lot.below(6) {
        match lot.below(12) {
            0 => {
                swap_module(place, lot);
                deaths.modules += 1;
            }
            1 => {
                let threshold = -8.0 - f64::from(lot.below(3)) / 4.0;
                place.write("forebay.toml", &CONFIG.replace("v14_below = -8.0", &format!("v14_below = {threshold:?}")));
            }
            2 | 3 if maintenance.is_none() => {
                let mut ask = place.command(&["maintain"]);
                maintenance = Some(ask.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
                deaths.maintained += 1;
            }
            4..=6 if !inbox.0.is_empty() => {
                let files: Vec<_> = inbox.0.keys().copied().collect();
                let file = files[lot.below(u32::try_from(files.len()).unwrap()) as usize];
                inbox.put(place, lot, file);
                deaths.replaced += 1;
            }
            _ => {
                let next = inbox.0.keys().next_back().map_or(0, |last| last + 1);
                inbox.put(place, lot, next);
            }
        }
        std::thread::sleep(Duration::from_millis(u64::from(lot.below(150))));
    }
    // It lives on unless it has come to its point.
    if host.try_wait().unwrap().is_none() {
        host.kill().unwrap();
    }
    match host.wait().unwrap().signal() {
        Some(KILLED) => deaths.by_sigkill += 1,
        Some(ABORTED) if has_point => deaths.at_points += 1,
        // `maintain` had the lease before the host had started.
        None if maintenance.is_some() && said().contains("another forebay process") => deaths.kept_out += 1,
        signal => panic!("life {number} ended by itself: {signal:?}"),
    }
    assert!(!said().contains("panicked"), "life {number}");
    if let Some(mut maintenance) = maintenance {
        // It may hold the lease now, or wait for an answer that will not come.
        maintenance.kill().unwrap();
        maintenance.wait().unwrap();
    }
}

/// Tables, ledger and zone against the input.
fn compare(place: &Place, inbox: &Inbox) {
    let rows = |table: &str| {
        let rows = place.query(&format!("SELECT id, CAST(\"Time\" AS BIGINT) AS version, _forebay_item FROM {table}"));
        let all: Vec<_> =
            rows.iter().map(|row| (row["id"].as_i64().unwrap(), row["version"].as_i64().unwrap())).collect();
        let once: BTreeSet<_> = all.iter().copied().collect();
        assert_eq!(once.len(), all.len(), "{table} has rows twice");
        once
    };
    let wanted = inbox.rows();
    let of = |flagged: bool| {
        wanted.iter().filter(|row| row.2 || !flagged).map(|row| (row.0, row.1)).collect::<BTreeSet<_>>()
    };
    assert_eq!(rows("lake.payments"), of(false));
    assert_eq!(rows("lake.flagged_payments"), of(true));
    let torn = inbox.torn();
    let rejected = "SELECT count(*) FROM ledger.refinements WHERE state = 'loaded' AND rejected = 1";
    assert_eq!(place.number(rejected), i64::try_from(torn.len()).unwrap());
    // There is a table of rejects from the first one on.
    if !torn.is_empty() || place.rows("rejects.fraud") > 0 {
        assert_eq!(rejects(place), torn);
    }
    let loaded = "SELECT sum(loaded) FROM ledger.refinements WHERE state = 'loaded'";
    assert_eq!(place.number(loaded), i64::try_from(wanted.len()).unwrap());
    place.adds_up();
    for object in place.query("SELECT object, sha256 FROM ledger.objects") {
        let bytes = std::fs::read(place.path("landing").join(object["object"].as_str().unwrap())).unwrap();
        assert_eq!(Digest::of(&bytes).to_string(), object["sha256"].as_str().unwrap(), "{object} is not as it landed");
    }
}

/// The rejects, each as `object row code raw`, sorted.
fn rejects(place: &Place) -> Vec<String> {
    let rows = place.query(
        "SELECT s.key AS object, r._forebay_row AS row, r.code AS code, r.raw AS raw FROM rejects.fraud r \
         LEFT JOIN ledger.segments s ON s.segment = r._forebay_segment",
    );
    let text = |row: &serde_json::Value, key: &str| row[key].as_str().unwrap_or("-").to_owned();
    let mut rejects: Vec<_> = rows
        .iter()
        .map(|row| format!("{} {} {} {}", text(row, "object"), row["row"], text(row, "code"), text(row, "raw")))
        .collect();
    rejects.sort();
    rejects
}

/// Tells what the lives said, where the round fails.
struct Logs<'a>(&'a Place);

impl Drop for Logs<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for number in 0.. {
            let Ok(log) = std::fs::read_to_string(self.0.path(&format!("log-{number}"))) else { return };
            eprintln!("--- life {number}\n{log}");
        }
    }
}

fn round(seed: u64, deaths: &mut Deaths) {
    eprintln!("to see this round again: FOREBAY_KILL_ROUNDS=1 FOREBAY_KILL_SEED={seed}");
    let mut lot = Lot(seed);
    let place = Place::new();
    let _logs = Logs(&place);
    let mut inbox = Inbox::default();
    inbox.put(&place, &mut lot, 0);
    for life in 0..2 + lot.below(3) {
        live(&place, &mut lot, &mut inbox, life, deaths);
    }
    place.run_well(&["run", "--once"]);
    compare(&place, &inbox);
    place.run_well(&["maintain"]);
    place.run_well(&["run", "--once"]);
    compare(&place, &inbox);
}

#[test]
fn whenever_the_process_dies_tables_are_the_input_row_by_row() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let rounds = number("FOREBAY_KILL_ROUNDS").unwrap_or(10);
    let first = number("FOREBAY_KILL_SEED").unwrap_or(1);
    let mut deaths = Deaths::default();
    for seed in first..first + rounds {
        round(seed, &mut deaths);
    }
    println!("kills: {rounds} rounds from seed {first}: {deaths:?}");
    if rounds >= 10 {
        assert!(deaths.by_sigkill > 0 && deaths.at_points > 0, "both ways to die are tried: {deaths:?}");
    }
}
