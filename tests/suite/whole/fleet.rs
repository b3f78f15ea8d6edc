//! Several hosts on one ledger in PostgreSQL: they divide streams and pipelines, take over what one that dies had, and follow the one that
//! leads from revision to revision.
//!
//! Skipped where `FOREBAY_POSTGRES` names no server; `make test-services` starts one.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;

use super::alerts::Hook;
use super::postgres::Server;
use super::support::{Place, Running, expr_wasm, texts};
use crate::postgres::Schema;

/// Two streams, each with a pipeline whose rows tell the config that made them.
fn config(url: &str, mark: u32, more: &str) -> String {
    let part = |stream: &str, pipeline: &str| {
        format!(
            r#"
[streams.{stream}]
source = {{ type = "files", url = "inbox/{stream}", settle_milliseconds = 1, scan_seconds = 1 }}
format = "json"
[pipelines.{pipeline}]
from = "{stream}"
{more}
[[pipelines.{pipeline}.steps]]
module = "expr"
[pipelines.{pipeline}.steps.config.columns]
mark = "'mark {mark}'"
[pipelines.{pipeline}.routes]
out = "lake.{pipeline}"
"#
        )
    };
    format!(
        "[landing]\nurl = \"landing\"\n[ledger]\nurl = \"{url}\"\n[modules]\nwatch = \"modules\"\n\
         [warehouses.lake]\ntype = \"delta\"\nurl = \"warehouse\"\n[host]\nmemory = \"256MiB\"\n{}{}",
        part("a", "one"),
        part("b", "two")
    )
}

struct Fleet {
    url: String,
    /// Removed with it.
    schema: Option<Schema>,
    place: Place,
    hosts: BTreeMap<u32, Running>,
}

impl Fleet {
    fn new() -> Option<Self> {
        let schema = Schema::new()?;
        Some(Self::at(&schema.url(), Some(schema)))
    }

    fn at(url: &str, schema: Option<Schema>) -> Self {
        let place = Place::new();
        for stream in ["a", "b"] {
            std::fs::create_dir(place.path(&format!("inbox/{stream}"))).unwrap();
        }
        std::fs::remove_file(place.path("modules/fraud.wasm")).unwrap();
        std::fs::copy(expr_wasm(), place.path("modules/expr.wasm")).unwrap();
        for name in ["forebay.toml", "questions.toml"] {
            place.write(name, &config(url, 1, ""));
        }
        Self { url: url.to_owned(), schema, place, hosts: BTreeMap::new() }
    }

    fn start(&mut self, config: &str, log: &str) -> u32 {
        let host = self.place.start_beside(config, log);
        let process = host.id();
        self.hosts.insert(process, host);
        process
    }

    /// `None` while there is no ledger.
    fn status(&self) -> Option<Value> {
        let output = self.place.run(&["status", "--json"]);
        output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
    }

    /// What each host does, by process.
    fn duties(&self) -> BTreeMap<u64, Vec<String>> {
        let Some(status) = self.status() else { return BTreeMap::new() };
        let of = |host: &Value| {
            let duties = host["duties"].as_array().unwrap().iter();
            (host["process"].as_u64().unwrap(), duties.map(|duty| duty.as_str().unwrap().to_owned()).collect())
        };
        status["hosts"].as_array().unwrap().iter().map(of).collect()
    }

    /// Waits until so many hosts do all there is, none of them nothing.
    fn until_divided(&self, hosts: usize) -> BTreeMap<u64, Vec<String>> {
        let mut duties = BTreeMap::new();
        self.place.until(&format!("{hosts} hosts do all"), || {
            duties = self.duties();
            let mut all: Vec<_> = duties.values().flatten().cloned().collect();
            all.sort();
            duties.len() == hosts
                && duties.values().all(|duties| duties.iter().any(|duty| duty != "lead"))
                && all == ["lead", "pipeline one", "pipeline two", "stream a", "stream b"]
        });
        duties
    }

    fn leader(&self) -> u32 {
        let duties = self.duties();
        let leads = |duties: &&Vec<String>| duties.contains(&"lead".to_owned());
        let leader = duties.iter().find(|(_, duties)| leads(duties)).unwrap();
        u32::try_from(*leader.0).unwrap()
    }

    /// Each record of a stream once in its table.
    fn once_each(&self, files: u32) {
        for table in ["lake.one", "lake.two"] {
            self.place.until(&format!("all is in {table}"), || self.place.rows(table) >= i64::from(files * RECORDS));
            assert_eq!(self.place.rows(table), i64::from(files * RECORDS), "{table}");
            assert_eq!(
                self.place.number(&format!("SELECT count(DISTINCT id) FROM {table}")),
                i64::from(files * RECORDS)
            );
        }
    }
}

/// Records of a file.
const RECORDS: u32 = 20;

/// The same file to both streams, as a careful producer writes it.
fn write_file(inbox: &Path, number: u32) {
    let records: String = (number * RECORDS..(number + 1) * RECORDS).map(|id| format!("{{\"id\":{id}}}\n")).collect();
    for stream in ["a", "b"] {
        let partial = inbox.join(format!("{stream}/{number:05}.part"));
        std::fs::write(&partial, &records).unwrap();
        std::fs::rename(&partial, partial.with_extension("jsonl")).unwrap();
    }
}

/// Files to both streams, until it is told to stop.
fn write_files(inbox: &Path, stop: &AtomicBool, written: &AtomicU32) {
    while !stop.load(Ordering::SeqCst) {
        write_file(inbox, written.fetch_add(1, Ordering::SeqCst));
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn sql(schema: &Schema, statements: &str) {
    tokio::runtime::Runtime::new().unwrap().block_on(schema.sql(statements));
}

#[test]
fn three_hosts_divide_the_work_and_those_that_die_or_sleep_are_replaced() {
    let Some(mut fleet) = Fleet::new() else { return };
    let (stop, written) = (AtomicBool::new(false), AtomicU32::new(0));
    fleet.start("forebay.toml", "log");
    fleet.start("forebay.toml", "log2");
    fleet.start("forebay.toml", "log3");
    let inbox = fleet.place.path("inbox");
    std::thread::scope(|scope| {
        scope.spawn(|| write_files(&inbox, &stop, &written));
        let stopped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            fleet.until_divided(3);
            assert_eq!(fleet.place.run(&["run", "--once"]).status.code(), Some(3), "hosts run");
            let told = fleet.place.run_well(&["status"]);
            assert!(told.contains(": leads") && told.contains("pipeline one"), "{told}");
            // The one who leads is killed before it sees a change of the config: the next one looks at it.
            let leader = fleet.leader();
            fleet.hosts[&leader].signal("STOP");
            fleet.place.write("forebay.toml", &config(&fleet.url, 2, ""));
            std::thread::sleep(Duration::from_secs(2));
            fleet.hosts.remove(&leader).unwrap().kill();
            fleet.until_divided(2);
            assert_ne!(fleet.leader(), leader);
            for table in ["lake.one", "lake.two"] {
                let new = format!("SELECT count(*) FROM {table} WHERE mark = 'mark 2'");
                fleet.place.until("the new config makes rows", || fleet.place.number(&new) > 0);
            }
            // One sleeps for so long that the server ends its sessions.
            let zombie = fleet.leader();
            fleet.hosts[&zombie].signal("STOP");
            let name = format!("forebay {zombie}");
            sql(
                fleet.schema.as_ref().unwrap(),
                &format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '{name}'"),
            );
            fleet.start("forebay.toml", "log4");
            fleet.until_divided(2);
            fleet.hosts[&zombie].signal("CONT");
            let mut zombie = fleet.hosts.remove(&zombie).unwrap();
            fleet.place.until("it ends", || !zombie.is_alive());
            assert_eq!(zombie.ended(), Some(3));
            // One is told to stop, and the last does all.
            let (_, host) = fleet.hosts.pop_first().unwrap();
            assert!(host.stop().success());
            fleet.until_divided(1);
        }));
        stop.store(true, Ordering::SeqCst);
        stopped.unwrap();
    });
    fleet.once_each(written.load(Ordering::SeqCst));
    // A load is of one revision, and each row of that of its load.
    for table in ["lake.one", "lake.two"] {
        let mixed = format!(
            "SELECT count(*) FROM (SELECT _forebay_load FROM {table} GROUP BY 1 HAVING count(DISTINCT mark) > 1)"
        );
        assert_eq!(fleet.place.number(&mixed), 0, "{table}");
    }
    fleet.place.adds_up();
}

#[test]
fn a_host_that_cannot_load_the_active_revision_says_so_and_leaves_the_pipeline_to_others() {
    let Some(mut fleet) = Fleet::new() else { return };
    let small = config(&fleet.url, 1, "limits = { memory_mib = 1 }");
    fleet.place.write("small.toml", &small);
    let able = fleet.start("forebay.toml", "log");
    fleet.until_divided(1);
    write_file(&fleet.place.path("inbox"), 0);
    fleet.once_each(1);
    let unable = fleet.start("small.toml", "log2");
    let cannot = |fleet: &Fleet| {
        let status = fleet.status()?;
        let hosts = status["hosts"].as_array().unwrap().clone();
        let host = hosts.into_iter().find(|host| host["process"] == unable)?;
        (host["cannot"].as_object().unwrap().len() == 2).then_some(host)
    };
    fleet.place.until("it says so", || cannot(&fleet).is_some());
    let told = fleet.place.run_well(&["status"]);
    assert!(told.contains("it takes no segments for pipeline one, since it cannot load revision 1: "), "{told}");
    write_file(&fleet.place.path("inbox"), 1);
    fleet.once_each(2);
    assert!(fleet.duties()[&u64::from(unable)].iter().all(|duty| !duty.starts_with("pipeline")));
    // Where it is the only one, the pipelines wait.
    assert!(fleet.hosts.remove(&able).unwrap().stop().success());
    write_file(&fleet.place.path("inbox"), 2);
    fleet.place.until("it lands", || fleet.place.rows("ledger.segments") == 6);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!((fleet.place.rows("lake.one"), fleet.place.rows("lake.two")), (40, 40));
    let told = fleet.place.run_well(&["status"]);
    assert_eq!(told.matches("no host runs it").count(), 2, "{told}");
    let (_, refused) = texts(&fleet.place.run(&["run", "--once"]));
    assert!(refused.contains(&format!("process {unable} on ")), "{refused}");
}

#[test]
fn limits_reach_the_host_that_runs_the_pipeline() {
    let Some(mut fleet) = Fleet::new() else { return };
    fleet.start("forebay.toml", "log");
    fleet.until_divided(1);
    fleet.start("forebay.toml", "log2");
    let duties = fleet.until_divided(2);
    let leader = u64::from(fleet.leader());
    let (_, others) = duties.into_iter().find(|(process, _)| *process != leader).unwrap();
    let pipeline = others.iter().find_map(|duty| duty.strip_prefix("pipeline ")).expect("one pipeline each").to_owned();
    write_file(&fleet.place.path("inbox"), 0);
    fleet.once_each(1);
    // No call may take so much memory.
    fleet.place.write("forebay.toml", &config(&fleet.url, 1, "limits = { memory_mib = 1 }"));
    let cannot = || {
        let status = fleet.status().unwrap();
        let hosts = status["hosts"].as_array().unwrap().clone();
        hosts.iter().any(|host| host["process"] != leader && host["cannot"][&pipeline].is_string())
    };
    fleet.place.until("the other host has them", cannot);
    fleet.place.write("forebay.toml", &config(&fleet.url, 1, ""));
    fleet.until_divided(2);
    write_file(&fleet.place.path("inbox"), 1);
    fleet.once_each(2);
}

#[test]
fn hosts_outlive_a_server_that_restarts() {
    if Schema::new().is_none() {
        return;
    }
    let server = Server::new();
    let mut fleet = Fleet::at(&server.up(), None);
    fleet.start("forebay.toml", "log");
    fleet.start("forebay.toml", "log2");
    fleet.until_divided(2);
    write_file(&fleet.place.path("inbox"), 0);
    fleet.once_each(1);
    server.stop();
    write_file(&fleet.place.path("inbox"), 1);
    std::thread::sleep(Duration::from_secs(3));
    server.up();
    fleet.once_each(2);
    // As long as it takes to take a host for dead.
    std::thread::sleep(Duration::from_secs(7));
    fleet.until_divided(2);
    for host in fleet.hosts.values_mut() {
        assert!(host.is_alive(), "{}", fleet.place.log());
    }
}

#[test]
fn a_replay_into_tables_beside_is_one_hosts_at_a_time_and_goes_from_all() {
    let Some(mut fleet) = Fleet::new() else { return };
    fleet.start("forebay.toml", "log");
    fleet.start("forebay.toml", "log2");
    fleet.until_divided(2);
    write_file(&fleet.place.path("inbox"), 0);
    fleet.once_each(1);
    let into = ["replay", "--pipeline", "one", "--into", "v2"];
    let beside = |of: &Fleet, files: u32| {
        let has = i64::from(files * RECORDS);
        of.place.until("it is in the table beside", || of.place.rows("lake.one_v2") >= has);
        let ids = of.place.number("SELECT count(DISTINCT id) FROM lake.one_v2");
        assert_eq!((ids, of.place.rows("lake.one_v2")), (has, has));
    };
    let whose = |of: &Fleet| {
        let runs = |duties: &Vec<String>| duties.contains(&"pipeline one~v2".to_owned());
        of.duties().into_iter().find(|(_, duties)| runs(duties)).map(|(process, _)| u32::try_from(process).unwrap())
    };
    fleet.place.run_well(&into);
    beside(&fleet, 1);
    let first = whose(&fleet).expect("a host has it");
    // It dies: the other one goes on with what is asked for then.
    fleet.hosts.remove(&first).unwrap().kill();
    write_file(&fleet.place.path("inbox"), 1);
    fleet.once_each(2);
    fleet.place.run_well(&into);
    beside(&fleet, 2);
    fleet.start("forebay.toml", "log3");
    fleet
        .place
        .until("it has something to do", || fleet.duties().values().filter(|duties| !duties.is_empty()).count() == 2);
    // Twice, so that whoever has it the second time may not go by what it knew of the first.
    for _ in 0..2 {
        fleet.place.run_well(&[&into[..], &["--drop"]].concat());
        assert_eq!((whose(&fleet), fleet.place.number("SELECT count(*) FROM ledger.sides")), (None, 0));
        fleet.place.run_well(&into);
        beside(&fleet, 2);
    }
    let told = fleet.place.run_well(&[&into[..], &["--swap"]].concat());
    assert!(told.contains("the tables that end with _v2 are gone"), "{told}");
    fleet.once_each(2);
    fleet.place.adds_up();
}

#[test]
fn what_waits_in_shadow_outlives_the_one_who_leads_and_is_decided_by_the_next() {
    let Some(mut fleet) = Fleet::new() else { return };
    fleet.start("forebay.toml", "log");
    fleet.start("forebay.toml", "log2");
    fleet.until_divided(2);
    write_file(&fleet.place.path("inbox"), 0);
    fleet.once_each(1);
    fleet.place.write("next.toml", &config(&fleet.url, 2, ""));
    let (asked, waits) = texts(&fleet.place.run(&["apply", "next.toml", "--shadow", "1", "--max-changed", "0%"]));
    assert!(waits.contains("waits for a person"), "{asked}{waits}");
    let states = |fleet: &Fleet| {
        let status = fleet.place.run_well(&["deployments", "list"]);
        ["active", "shadow", "retired"].map(|state| status.matches(&format!(" {state} ")).count())
    };
    assert_eq!(states(&fleet), [2, 2, 0]);
    let leader = fleet.leader();
    fleet.hosts.remove(&leader).unwrap().kill();
    fleet.until_divided(1);
    assert_eq!(states(&fleet), [2, 2, 0]);
    fleet.start("forebay.toml", "log3");
    fleet.until_divided(2);
    for pipeline in ["one", "two"] {
        fleet.place.run_well(&["deployments", "approve", pipeline]);
    }
    assert_eq!(states(&fleet), [2, 0, 2]);
    write_file(&fleet.place.path("inbox"), 1);
    fleet.once_each(2);
    for table in ["lake.one", "lake.two"] {
        let new = format!("SELECT count(*) FROM {table} WHERE mark = 'mark 2' AND id >= {RECORDS}");
        assert_eq!(fleet.place.number(&new), i64::from(RECORDS), "{table}");
    }
    fleet.place.adds_up();
}

#[test]
fn what_needs_a_person_is_told_once_however_many_hosts_there_are() {
    let Some(mut fleet) = Fleet::new() else { return };
    let hook = Hook::start(0);
    let alerts = format!("\n[alerts]\nwebhook = \"http://{}\"\n", hook.address);
    fleet.place.write("forebay.toml", &(config(&fleet.url, 1, "") + &alerts));
    fleet.start("forebay.toml", "log");
    fleet.start("forebay.toml", "log2");
    fleet.start("forebay.toml", "log3");
    fleet.until_divided(3);
    for stream in ["a", "b"] {
        std::fs::write(fleet.place.path(&format!("inbox/{stream}/cut.jsonl.gz")), [0x1f, 0x8b, 8, 0, 0]).unwrap();
    }
    let firing = || hook.told().iter().filter(|told| *told == "segments_failed firing").count();
    fleet.place.until("both are told", || firing() >= 2);
    // As long as it takes until all hosts have looked again.
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(firing(), 2, "{:?}", hook.told());
}
