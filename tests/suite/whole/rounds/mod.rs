//! Rounds of lives that end at once: a host runs, files arrive and are replaced, modules and thresholds change, history is replayed under
//! former revisions, tables are maintained beside it, and SIGKILL or a named point ends it at a moment that is drawn by lot. Some contents bring a column that
//! no other had, and between two lives hours pass, so that maintenance has files to remove. After the last life each table is
//! compared with the input row by row.
//!
//! `FOREBAY_KILL_ROUNDS` says how many (10), `FOREBAY_KILL_SEED` with which seed they begin (1). A round that fails names its
//! seed; the same seed draws the same actions, though not the same microseconds.

mod ageing;
mod inbox;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use forebay_model::Digest;
use serde_json::Value;

use self::ageing::{lose_staged, two_hours_pass};
use self::inbox::{Inbox, Row, row};
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
}

/// How the lives of all rounds ended, and what happened in them.
#[derive(Debug)]
struct Deaths {
    by_sigkill: u32,
    /// By each named point that is drawn.
    at_points: BTreeMap<&'static str, u32>,
    /// By `maintain`, which had the lease.
    kept_out: u32,
    maintained: u32,
    modules: u32,
    replaced: u32,
    /// Replays under a recorded revision that were asked for.
    replayed: u32,
    /// Lives that began without what the last one had staged for a group.
    lost_staged: u32,
}

impl Deaths {
    fn new() -> Self {
        let at_points = points().map(|point| (point, 0)).collect();
        Self {
            by_sigkill: 0,
            at_points,
            kept_out: 0,
            maintained: 0,
            modules: 0,
            replaced: 0,
            replayed: 0,
            lost_staged: 0,
        }
    }

    fn came_to(&mut self, point: &'static str) {
        *self.at_points.get_mut(point).unwrap() += 1;
    }
}

/// Each point that a life may end at.
fn points() -> impl Iterator<Item = &'static str> {
    POINTS.into_iter().chain(["after_growth"]).chain(MAINTENANCE).chain(WITHDRAWAL)
}

/// A point, and how `FOREBAY_FAILPOINT` names it.
struct Fault {
    point: &'static str,
    text: String,
}

/// In one of so many rounds the first life leaves a group that is open, and the next one cannot commit it.
const OPENED: u64 = 4;

/// Points of a group that is taken back, since what was staged for it is gone.
const WITHDRAWAL: [&str; 3] = ["before_withdraw", "in_withdraw", "after_withdraw"];

/// Points that a first life comes to at once, and later ones seldom or never.
const FIRST: [&str; 2] = ["after_deploy", "after_schema"];

/// Points that few lives come to, and no first one.
const RARE: [&str; 4] = ["after_growth", "before_compaction", "after_compaction", "in_vacuum"];

impl Fault {
    /// Two of three lives have one. Which is a matter of turns, so that a hundred rounds have each often enough; what is rare has
    /// two turns, and is not waited for a second time.
    fn of_life(lot: &mut Lot, seed: u64, life: u32, staged_is_lost: bool) -> Option<Self> {
        let at_once = |point: &'static str| Some(Self { point, text: format!("{point}@1") });
        if staged_is_lost {
            return at_once(WITHDRAWAL[usize::try_from(seed / OPENED).unwrap() % WITHDRAWAL.len()]);
        }
        if life == 0 && seed.is_multiple_of(OPENED) {
            return at_once("after_open_group");
        }
        let (turns, turn): (Vec<_>, _) = match life {
            0 => (POINTS.into_iter().chain(FIRST).collect(), seed),
            _ => {
                let drawn = points().filter(|point| *point != "after_schema" && !WITHDRAWAL.contains(point));
                (drawn.chain(RARE).collect(), seed * 3 + u64::from(life))
            }
        };
        let point = turns[usize::try_from(turn % u64::try_from(turns.len()).unwrap()).unwrap()];
        let time = 1 + lot.below(2);
        let time = if FIRST.contains(&point) || RARE.contains(&point) { 1 } else { time };
        let text = if point.contains('@') { point.to_owned() } else { format!("{point}@{time}") };
        (lot.below(3) > 0).then_some(Self { point, text })
    }
}

/// The same rule with one more custom section has another digest: a new module.
fn swap_module(place: &Place, lot: &mut Lot) {
    let mut wasm = std::fs::read(fraud_wasm()).unwrap();
    wasm.extend([0, 5, 4, b'n', b'o', b't', b'a' + u8::try_from(lot.below(3)).unwrap()]);
    place.write_bytes("modules/fraud.wasm", &wasm);
}

/// `maintain` removes what nobody has needed for an hour, which is the least that can be asked for.
fn config(threshold: f64) -> String {
    let config = CONFIG.replace("v14_below = -8.0", &format!("v14_below = {threshold:?}"));
    format!("{config}\n[maintain]\nretention = \"1h\"\n")
}

/// Waits up to ten seconds for something, or for the host's end.
fn wait(host: &mut Child, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() && host.try_wait().unwrap().is_none() && began.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// One life: a host, and what happens to it until it ends.
fn live(place: &Place, lot: &mut Lot, inbox: &mut Inbox, (seed, number): (u64, u32), deaths: &mut Deaths) {
    // A group that is open can never be committed then.
    let staged_is_lost = (lot.below(3) > 0 || seed.is_multiple_of(OPENED)) && lose_staged(place);
    deaths.lost_staged += u32::from(staged_is_lost);
    let log = place.path(&format!("log-{number}"));
    let said = || std::fs::read_to_string(&log).unwrap();
    let fault = Fault::of_life(lot, seed, number, staged_is_lost);
    // A `maintain` that finds no host does it by itself, and dies by itself.
    let command = |verb: &str| {
        let mut command = place.command(&[verb]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.envs(fault.as_ref().map(|fault| ("FOREBAY_FAILPOINT", &fault.text)));
        command
    };
    let mut host = command("run").stderr(std::fs::File::create(&log).unwrap()).spawn().unwrap();
    // Most lives get as far as their first segments; some end while they start.
    if lot.below(4) > 0 || staged_is_lost || (number == 0 && seed.is_multiple_of(OPENED)) {
        wait(&mut host, || said().contains("next segments"));
    }
    let maintains = fault.as_ref().is_some_and(|fault| MAINTENANCE.contains(&fault.point));
    let mut maintenance: Option<Child> = None;
    for action in 0..3 + lot.below(6) {
        let draw = lot.below(12);
        if maintenance.is_none() && (matches!(draw, 2 | 3) || (maintains && action == 2)) {
            maintenance = Some(command("maintain").spawn().unwrap());
            deaths.maintained += 1;
        } else {
            act(place, lot, inbox, draw, deaths);
        }
        std::thread::sleep(Duration::from_millis(u64::from(lot.below(150))));
    }
    if let Some(maintenance) = maintenance.as_mut().filter(|_| maintains) {
        // The host looks twice a second for what it is asked.
        wait(&mut host, || maintenance.try_wait().unwrap().is_some());
    }
    // It lives on unless it has come to its point.
    if host.try_wait().unwrap().is_none() {
        host.kill().unwrap();
    }
    match (host.wait().unwrap().signal(), &fault) {
        (Some(KILLED), _) => deaths.by_sigkill += 1,
        (Some(ABORTED), Some(fault)) => deaths.came_to(fault.point),
        // `maintain` had the lease before the host had started.
        (None, _) if maintenance.is_some() && said().contains("another forebay process") => deaths.kept_out += 1,
        (signal, _) => panic!("life {number} ended by itself: {signal:?}"),
    }
    assert!(!said().contains("panicked"), "life {number}");
    if let Some(mut maintenance) = maintenance {
        // It may hold the lease now, or wait for an answer that will not come.
        maintenance.kill().unwrap();
        if let (Some(ABORTED), Some(fault)) = (maintenance.wait().unwrap().signal(), &fault) {
            deaths.came_to(fault.point);
        }
    }
}

/// Something that happens to a host.
fn act(place: &Place, lot: &mut Lot, inbox: &mut Inbox, draw: u32, deaths: &mut Deaths) {
    match draw {
        0 => {
            swap_module(place, lot);
            deaths.modules += 1;
        }
        1 => place.write("forebay.toml", &config(-8.0 - f64::from(lot.below(3)) / 4.0)),
        4..=6 => {
            inbox.replace(place, lot);
            deaths.replaced += 1;
        }
        7 => {
            // Every revision makes the same rows of this input. Before the first load there is nothing to replay.
            let revision = (1 + lot.below(3)).to_string();
            let replay = ["replay", "--pipeline", "fraud", "--detach", "--workers", "1", "--revision", &revision];
            deaths.replayed += u32::from(place.run(&replay).status.success());
        }
        _ => inbox.put_new(place, lot),
    }
}

/// Tables, ledger and zone against the input.
fn compare(place: &Place, inbox: &Inbox) {
    let rows = |table: &str| {
        let rows = place.query(&format!(
            "SELECT t.*, s.key AS object FROM {table} t LEFT JOIN ledger.segments s ON s.segment = t._forebay_segment"
        ));
        let all: Vec<_> = rows.iter().map(row).collect();
        let once: BTreeSet<_> = all.iter().cloned().collect();
        assert_eq!(once.len(), all.len(), "{table} has rows twice");
        once
    };
    let wanted = inbox.rows(false);
    same("lake.payments", &rows("lake.payments"), &wanted);
    same("lake.flagged_payments", &rows("lake.flagged_payments"), &inbox.rows(true));
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

/// The first rows of both that the other one lacks, instead of thousands that are alike.
fn same(table: &str, rows: &BTreeSet<Row>, wanted: &BTreeSet<Row>) {
    let first = |one: &BTreeSet<Row>, other: &BTreeSet<Row>| one.difference(other).take(5).cloned().collect::<Vec<_>>();
    assert_eq!(first(rows, wanted), first(wanted, rows), "{table}: first rows that should not be there, and that lack");
}

/// The rejects, each as `object row stage code raw`, sorted.
fn rejects(place: &Place) -> Vec<String> {
    let rows = place.query(
        "SELECT s.key AS object, r._forebay_row AS row, r.stage AS stage, r.code AS code, r.raw AS raw FROM rejects.fraud r \
         LEFT JOIN ledger.segments s ON s.segment = r._forebay_segment",
    );
    let text = |row: &Value, key: &str| row[key].as_str().unwrap_or("-").to_owned();
    let mut rejects: Vec<_> = rows
        .iter()
        .map(|row| {
            let [object, stage, code, raw] = ["object", "stage", "code", "raw"].map(|key| text(row, key));
            format!("{object} {} {stage} {code} {raw}", row["row"])
        })
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
    place.write("forebay.toml", &config(-8.0));
    let mut inbox = Inbox::default();
    inbox.put_new(&place, &mut lot);
    for life in 0..2 + lot.below(3) {
        live(&place, &mut lot, &mut inbox, (seed, life), deaths);
        if lot.below(3) > 0 {
            two_hours_pass(&place);
        }
    }
    if lose_staged(&place) {
        // It takes back what cannot be committed; the next one refines it again.
        place.run(&["run", "--once"]);
    }
    place.run_well(&["run", "--once"]);
    compare(&place, &inbox);
    two_hours_pass(&place);
    place.run_well(&["maintain"]);
    place.run_well(&["run", "--once"]);
    compare(&place, &inbox);
}

#[test]
fn whenever_the_process_dies_tables_are_the_input_row_by_row() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let rounds = number("FOREBAY_KILL_ROUNDS").unwrap_or(10);
    let first = number("FOREBAY_KILL_SEED").unwrap_or(1);
    let mut deaths = Deaths::new();
    for seed in first..first + rounds {
        round(seed, &mut deaths);
    }
    println!("kills: {rounds} rounds from seed {first}: {deaths:?}");
    let never: Vec<_> = deaths.at_points.iter().filter(|(_, times)| **times == 0).map(|(point, _)| point).collect();
    if rounds >= 10 {
        assert!(
            deaths.by_sigkill > 0 && never.len() < deaths.at_points.len(),
            "both ways to die are tried: {deaths:?}"
        );
        assert!(deaths.replayed > 0, "nothing was replayed: {deaths:?}");
    }
    assert!(rounds < 100 || never.is_empty(), "no life came to {never:?}: {deaths:?}");
}
