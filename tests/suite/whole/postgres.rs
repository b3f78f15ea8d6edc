//! The whole way with the ledger in PostgreSQL: what a person starts, kills and asks, and a server that goes away.
//!
//! Skipped where `FOREBAY_POSTGRES` names no server; `make test-services` starts one.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use super::seen::check;
use super::support::{Place, fraud_wasm, keep_wasm, payments, texts};
use crate::postgres::Schema;

/// A place whose ledger is a schema of its own.
fn place() -> Option<(Schema, Place)> {
    let schema = Schema::new()?;
    let place = Place::with_ledger_at(&schema.url());
    Some((schema, place))
}

fn sql(schema: &Schema, statements: &str) {
    tokio::runtime::Runtime::new().unwrap().block_on(schema.sql(statements));
}

fn signal(name: &str, process: u32) {
    assert!(Command::new("kill").args([name, &process.to_string()]).status().unwrap().success());
}

/// Each payment once, whatever happened.
fn once_each(place: &Place, payments: i64) {
    assert_eq!(place.rows("lake.payments"), payments);
    assert_eq!(place.number("SELECT count(DISTINCT id) FROM lake.payments"), payments);
    place.adds_up();
}

#[test]
fn a_life_with_a_ledger_in_postgres() {
    let Some((schema, place)) = place() else { return };
    let nothing = place.run(&["status"]);
    assert_eq!(nothing.status.code(), Some(4), "{}", texts(&nothing).1);
    place.write("inbox/a.jsonl", &payments(0..300));
    place.write("inbox/b.jsonl", &format!("{}this is no JSON\n", payments(300..400)));
    place.run_well(&["run", "--once"]);
    once_each(&place, 400);
    assert!(!place.path("forebay.db").exists());
    assert_eq!(place.rows("ledger.segments"), 2);
    assert_eq!(place.rows("rejects.fraud"), 1);
    assert!(place.run_well(&["why", "inbox/a.jsonl"]).contains("300 rows in lake.payments"));
    assert!(place.run_well(&["segments", "list"]).contains("loaded"));
    let recovered = place.run(&["recover"]);
    assert_eq!(recovered.status.code(), Some(3), "there is one");
    // A host, and who asks it.
    let mut running = place.start();
    place.write("inbox/c.jsonl", &payments(400..500));
    place.until("it is loaded", || place.rows("lake.payments") == 500);
    let second = place.run(&["run", "--once"]);
    let (_, told) = texts(&second);
    assert_eq!(second.status.code(), Some(3));
    assert!(told.contains(&format!("process {} on ", running.id())), "{told}");
    let told = place.run_well(&["status"]);
    assert!(told.contains(&format!("host: process {} on ", running.id())) && told.contains(": leads, "), "{told}");
    place.run_well(&["pause", "fraud", "--reason", "lunch"]);
    place.write("inbox/d.jsonl", &payments(500..600));
    place.until("it has landed", || place.rows("ledger.segments") == 4);
    place.run_well(&["resume", "fraud"]);
    place.until("it is loaded", || place.rows("lake.payments") == 600);
    assert!(place.run_well(&["maintain", "--table", "lake.payments"]).starts_with("lake.payments: "));
    let other = place.path("keep.wasm");
    std::fs::copy(keep_wasm(), &other).unwrap();
    place.run_well(&["deploy", other.to_str().unwrap()]);
    assert!(running.is_alive() && running.stop().success());
    place.write("inbox/a.jsonl", &payments(0..200));
    place.run_well(&["run", "--once"]);
    assert_eq!(place.rows("lake.payments"), 500, "the new version of a file replaces the former one");
    drop(schema);
}

#[test]
fn a_host_that_is_killed_anywhere_goes_on() {
    let Some((_schema, place)) = place() else { return };
    for (file, from) in [("a", 0), ("b", 100), ("c", 200)] {
        place.write(&format!("inbox/{file}.jsonl"), &payments(from..from + 100));
    }
    for point in ["after_land", "before_open_group", "before_close_load"] {
        place.dies_at(point, &["run", "--once"]);
    }
    let running = place.start();
    place.write("inbox/d.jsonl", &payments(300..400));
    place.until("something is loaded", || place.rows("lake.payments") > 0);
    running.kill();
    place.run_well(&["run", "--once"]);
    once_each(&place, 400);
}

#[test]
fn a_lost_ledger_is_rebuilt_in_postgres_whole_or_not_at_all() {
    let Some((schema, place)) = place() else { return };
    place.write("inbox/a.jsonl", &payments(0..300));
    place.run_well(&["run", "--once"]);
    place.write("inbox/b.jsonl", &payments(300..500));
    place.run_well(&["run", "--once"]);
    sql(&schema, &format!("DROP SCHEMA {} CASCADE", schema.name()));
    let lost = place.run(&["run", "--once"]);
    let (_, told) = texts(&lost);
    assert_eq!(lost.status.code(), Some(3));
    assert!(told.contains("there is no ledger at postgres://") && told.contains("`forebay recover`"), "{told}");
    for point in ["recover_claimed", "recover_moved_aside", "recover_filled"] {
        place.dies_at(point, &["recover"]);
        assert_eq!(place.run(&["status"]).status.code(), Some(3), "{point}: there is none");
    }
    let out = place.run_well(&["recover"]);
    assert!(out.contains("rebuilt at postgres://") && out.contains(schema.name()), "{out}");
    place.write("inbox/c.jsonl", &payments(500..600));
    place.run_well(&["run", "--once"]);
    assert_eq!(place.rows("lake.payments"), 600);
    place.adds_up_since_recovery();
    // A damaged one is kept under another name.
    sql(&schema, "DROP TABLE schemas");
    let damaged = place.run(&["run", "--once"]);
    let (_, told) = texts(&damaged);
    assert!(told.contains("it has no table schemas") && told.contains("`forebay recover --replace`"), "{told}");
    let out = place.run_well(&["recover", "--replace"]);
    assert!(out.contains(&format!("moved aside: {}_replaced_", schema.url())), "{out}");
    place.run_well(&["run", "--once"]);
    assert_eq!(place.number("SELECT count(DISTINCT id) FROM lake.payments"), 600);
    assert_eq!(place.rows("lake.payments"), 600);
}

/// A host is stopped for so long that the server ends its sessions, another takes over, and the first goes on.
#[test]
fn a_host_that_slept_while_another_took_over_writes_nothing() {
    let Some((schema, place)) = place() else { return };
    let mut zombie = place.start();
    place.write("inbox/a.jsonl", &payments(0..100));
    place.until("it is loaded", || place.rows("lake.payments") == 100);
    signal("-STOP", zombie.id());
    // What the server does after half a minute of silence.
    let name = format!("forebay {}", zombie.id());
    sql(&schema, &format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '{name}'"));
    std::fs::rename(place.path("log"), place.path("zombie.log")).unwrap();
    let other = place.start();
    place.write("inbox/b.jsonl", &payments(100..200));
    place.until("the other loads it", || place.rows("lake.payments") == 200);
    signal("-CONT", zombie.id());
    place.write("inbox/c.jsonl", &payments(200..300));
    place.until("it is loaded", || place.rows("lake.payments") == 300);
    let told = || std::fs::read_to_string(place.path("zombie.log")).unwrap();
    place.until("the first one ends", || !zombie.is_alive());
    assert_eq!(zombie.ended(), Some(3), "{}", told());
    let says = format!("and another one took it (process {} on ", other.id());
    assert!(
        told().contains("error: this host lost its lease of ledger postgres://") && told().contains(&says),
        "{}",
        told()
    );
    assert!(other.stop().success());
    once_each(&place, 300);
}

/// A server of this test alone.
pub(super) struct Server {
    folder: tempfile::TempDir,
}

impl Server {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // The server may be another user's process.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        Self { folder }
    }

    /// A fast shutdown: it ends all sessions.
    pub(super) fn stop(&self) {
        signal("-INT", self.process().unwrap());
        let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while self.process().is_some() {
            assert!(std::time::Instant::now() < until, "the server does not stop");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }

    fn script(&self, name: &str) -> String {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("services").join(name);
        let output = Command::new(script).arg("postgres").env("FOREBAY_SERVICES", self.folder.path()).output().unwrap();
        let (out, err) = texts(&output);
        assert!(output.status.success(), "{name}: {err}");
        out
    }

    /// Starts it; its url.
    pub(super) fn up(&self) -> String {
        let out = self.script("up");
        out.trim().split_once('=').unwrap().1.to_owned()
    }

    fn process(&self) -> Option<u32> {
        let file = std::fs::read_to_string(self.folder.path().join("postgres/data/postmaster.pid")).ok()?;
        file.lines().next()?.trim().parse().ok()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.script("down");
    }
}

#[test]
fn a_host_waits_for_a_server_that_is_away_and_goes_on() {
    if Schema::new().is_none() {
        return;
    }
    let server = Server::new();
    let place = Place::with_ledger_at(&server.up());
    let mut running = place.start();
    place.write("inbox/a.jsonl", &payments(0..100));
    place.until("it is loaded", || place.rows("lake.payments") == 100);
    server.stop();
    place.write("inbox/b.jsonl", &payments(100..200));
    let asked = place.run(&["status"]);
    let (_, told) = texts(&asked);
    assert_eq!(asked.status.code(), Some(1), "{told}");
    assert!(told.contains("check that PostgreSQL runs at 127.0.0.1:"), "{told}");
    place.until("the host says that it waits", || {
        !place.told("the session of the host's lease broke").is_empty()
            && place.log().contains("no connection to the server")
    });
    server.up();
    place.until("it has its lease again", || !place.told("the host has its lease again").is_empty());
    place.until("it is loaded", || place.rows("lake.payments") == 200);
    assert!(running.is_alive());
    assert_eq!(place.run(&["run", "--once"]).status.code(), Some(3), "it is the host");
    // A crash: what was committed is there.
    signal("-QUIT", server.process().unwrap());
    place.write("inbox/c.jsonl", &payments(200..300));
    place.until("it is away", || {
        server.process().is_none_or(|process| !Path::new(&format!("/proc/{process}")).exists())
    });
    server.up();
    place.until("it is loaded", || place.rows("lake.payments") == 300);
    assert!(running.is_alive() && running.stop().success());
    once_each(&place, 300);
}

/// Holds what a writer takes first, as a process that hangs in a transaction does, until it is dropped.
struct Held(Option<(std::sync::mpsc::Sender<()>, std::thread::JoinHandle<()>)>);

impl Held {
    fn of(schema: &Schema) -> Self {
        let (server, name) = (schema.server().to_owned(), schema.name().to_owned());
        let (release, released) = std::sync::mpsc::channel::<()>();
        let (begin, begun) = std::sync::mpsc::channel();
        let holding = std::thread::spawn(move || {
            tokio::runtime::Runtime::new().unwrap().block_on(async {
                let mut connection = <sqlx::PgConnection as sqlx::Connection>::connect(&server).await.unwrap();
                let lock = format!("BEGIN; SELECT id FROM {name}._ledger FOR UPDATE");
                sqlx::raw_sql(sqlx::AssertSqlSafe(lock)).execute(&mut connection).await.unwrap();
                begin.send(()).unwrap();
                // The sender is gone.
                let _ = released.recv();
                sqlx::Connection::close(connection).await.unwrap();
            });
        });
        begun.recv().unwrap();
        Self(Some((release, holding)))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some((release, holding)) = self.0.take() {
            drop(release);
            holding.join().unwrap();
        }
    }
}

#[test]
fn a_deployment_waits_while_somebody_holds_the_ledger_and_not_for_ever() {
    let Some((schema, place)) = place() else { return };
    let mut running = place.start();
    place.write("inbox/a.jsonl", &payments(0..100));
    place.until("it is loaded", || place.rows("lake.payments") == 100);
    let other = place.path("keep.wasm");
    std::fs::copy(keep_wasm(), &other).unwrap();
    let active = || place.number("SELECT count(*) FROM ledger.modules WHERE active");
    let held = Held::of(&schema);
    let mut command = place.command(&["deploy", "keep.wasm"]);
    let deploying = std::thread::spawn(move || command.output().unwrap());
    std::thread::sleep(std::time::Duration::from_secs(5));
    assert!(!deploying.is_finished());
    assert_eq!(active(), 1, "readers wait for nobody");
    drop(held);
    let deployed = deploying.join().unwrap();
    assert!(deployed.status.success(), "{}", texts(&deployed).1);
    assert_eq!(active(), 2);
    // One that hangs is told, and what was active goes on when it is gone.
    let mut wasm = std::fs::read(fraud_wasm()).unwrap();
    wasm.extend([0, 6, 5, b'n', b'o', b't', b'e', b'2']);
    place.write_bytes("second.wasm", &wasm);
    let held = Held::of(&schema);
    let began = std::time::Instant::now();
    let told = place.sees(&["deploy", "second.wasm"]);
    // Which line of PostgreSQL's own source it is, is its version's.
    let told: Vec<_> = told.lines().filter_map(|line| line.split(" at line ").next()).collect();
    let told = told.join("\n");
    let waited = began.elapsed().as_secs();
    drop(held);
    assert!((30..120).contains(&waited), "{waited} s: {told}");
    check(
        "postgres-ledger-held",
        &told
            .replace(&schema.url(), "[ledger]")
            .replace(schema.server(), "[server]")
            .replace(schema.name(), "[schema]"),
    );
    place.write("inbox/b.jsonl", &payments(100..200));
    place.until("the second file is loaded", || place.rows("lake.payments") == 200);
    assert_eq!(place.number("SELECT count(*) FROM ledger.deployments WHERE state = 'active' AND revision = 1"), 1);
    assert!(running.is_alive() && running.stop().success());
    once_each(&place, 200);
}

#[test]
fn a_password_is_shown_nowhere() {
    let Some(schema) = Schema::new() else { return };
    let url = schema.url().replace("forebay@", "forebay:hunter2@");
    let place = Place::with_ledger_at(&url);
    place.write("inbox/a.jsonl", &payments(0..10));
    let gone = url.replace("127.0.0.1", "127.0.0.2");
    place.write("gone.toml", &place.config().replace(&url, &gone));
    for arguments in [
        ["validate", "--json"].as_slice(),
        &["plan"],
        &["-vv", "run", "--once"],
        &["plan", "--json"],
        &["status"],
        &["status", "--json"],
        &["recover"],
        &["recover", "--replace", "--dry-run"],
        &["-c", "gone.toml", "status"],
        &["-c", "gone.toml", "run", "--once"],
    ] {
        let (out, err) = texts(&place.run(arguments));
        assert!(!format!("{out}{err}").contains("hunter2"), "{arguments:?}: {out}{err}");
    }
    assert_eq!(place.rows("lake.payments"), 10);
}
