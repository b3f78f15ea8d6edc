//! What is pushed into a host that runs: modules are deployed or refused, former revisions come back and stay, pipelines pause.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::seen::check;
use super::support::{CONFIG, Place, Running, fraud_wasm, keep_wasm, payments};

/// Another content of a module that does the same: a custom section more.
fn variant(place: &Place, name: &str, module: &std::path::Path, note: u8) -> PathBuf {
    let mut wasm = std::fs::read(module).unwrap();
    wasm.extend([0, 6, 5, b'n', b'o', b't', b'e', note]);
    std::fs::write(place.path(name), wasm).unwrap();
    place.path(name)
}

/// What a verb answers with, for programs.
fn asked(place: &Place, verb: &str) -> Value {
    let arguments: Vec<_> = verb.split(' ').chain(["--json"]).collect();
    serde_json::from_str(&place.run_well(&arguments)).unwrap()
}

/// The revision of each deployment and its state, in their order.
fn deployments(place: &Place) -> Value {
    let rows = place.query("SELECT revision, state FROM ledger.deployments ORDER BY number");
    rows.iter().map(|row| json!([row["revision"], row["state"]])).collect()
}

/// How many rows each revision made.
fn made_by(place: &Place) -> Value {
    let rows = place.query(
        "SELECT l.revision AS revision, count(*) AS rows FROM lake.payments p JOIN ledger.loads l
         ON l.number = p._forebay_load AND l.table_name = 'lake.payments' GROUP BY 1 ORDER BY 1",
    );
    rows.iter().map(|row| json!([row["revision"], row["rows"]])).collect()
}

#[test]
fn a_module_is_deployed_and_rolled_back_while_data_flows() {
    let place = Place::new();
    let running = place.start();
    place.write("inbox/a.jsonl", &payments(0..100));
    place.until("the first file is loaded", || place.rows("lake.payments") == 100);
    variant(&place, "second.wasm", fraud_wasm(), b'2');
    let deployed = asked(&place, "deploy second.wasm --label 9f2c1e");
    assert_eq!((&deployed["active"][0]["revision"], &deployed["refused"]), (&json!(2), &json!([])), "{deployed}");
    place.write("inbox/b.jsonl", &payments(100..200));
    place.until("the second file is loaded", || place.rows("lake.payments") == 200);
    let origin = place.query("SELECT origin FROM ledger.modules WHERE active");
    assert_eq!(origin[0]["origin"], "deploy:second.wasm (9f2c1e) by tester");
    check("push-deploy-again", &place.sees(&["deploy", "second.wasm"]).replace(digest_of(&place).as_str(), "[digest]"));
    let back = asked(&place, "rollback");
    assert_eq!(back["active"][0]["revision"], 1, "{back}");
    place.write("inbox/c.jsonl", &payments(200..300));
    place.until("the third file is loaded", || place.rows("lake.payments") == 300);
    assert_eq!(made_by(&place), json!([[1, 200], [2, 100]]));
    // A change of the config does not bring the module back that was rolled back.
    place.write("forebay.toml", &CONFIG.replace("-8.0", "-7.5"));
    place.until_told("revision is active", 3);
    let modules = place.query(
        "SELECT r.revision AS revision, m.origin AS origin FROM ledger.revisions r JOIN ledger.modules m
         ON strpos(r.body, m.sha256) > 0 ORDER BY 1",
    );
    let origins: Vec<_> = modules.iter().map(|row| row["origin"].as_str().unwrap()).collect();
    assert_eq!(
        origins,
        ["folder:modules/fraud.wasm", "deploy:second.wasm (9f2c1e) by tester", "folder:modules/fraud.wasm"]
    );
    assert_eq!(deployments(&place), json!([[1, "retired"], [2, "retired"], [1, "retired"], [3, "active"]]));
    assert!(running.stop().success());
    place.adds_up();
}

/// The first twelve digits of the active module.
fn digest_of(place: &Place) -> String {
    let rows = place.query("SELECT substr(sha256, 1, 12) AS digest FROM ledger.modules WHERE active");
    rows[0]["digest"].as_str().unwrap().to_owned()
}

#[test]
fn what_is_no_module_or_does_not_fit_is_refused_and_changes_nothing() {
    let place = Place::new();
    let running = place.start();
    place.write("inbox/a.jsonl", &payments(0..100));
    place.until("it is loaded", || place.rows("lake.payments") == 100);
    place.write("no.wasm", "not wasm");
    check("push-no-module", &place.sees(&["deploy", "no.wasm"]));
    check("push-no-file", &place.sees(&["deploy", "nowhere.wasm"]));
    let beside = place.sees(&["deploy", "no.wasm", "--offline"]);
    assert!(beside.starts_with("exit 3") && beside.contains(&format!("process {}", running.id())), "{beside}");
    // A module that no pipeline uses is taken, and changes no pipeline.
    variant(&place, "keep.wasm", keep_wasm(), b'1');
    let unused = place.sees(&["deploy", "keep.wasm"]);
    assert!(unused.contains("no pipeline uses it"), "{unused}");
    check("push-no-former", &place.sees(&["rollback"]));
    check("push-no-revision", &place.sees(&["rollback", "fraud", "--to", "9"]));
    check("push-no-pipeline", &place.sees(&["rollback", "frau"]));
    assert_eq!(deployments(&place), json!([[1, "active"]]));
    assert!(running.stop().success());
    check("push-no-host", &place.sees(&["rollback"]));
    check("push-deploy-no-host", &place.sees(&["deploy", "keep.wasm"]));
    place.adds_up();
}

#[test]
fn what_is_larger_than_a_module_may_be_is_refused_before_it_is_read() {
    let place = Place::new();
    let running = place.start();
    place.write("inbox/a.jsonl", &payments(0..100));
    place.until("it is loaded", || place.rows("lake.payments") == 100);
    // A hole: it takes no disk, and would take the memory of who reads it.
    let huge = |name: &str| std::fs::File::create(place.path(name)).unwrap().set_len(500_000_000).unwrap();
    huge("huge.wasm");
    let began = std::time::Instant::now();
    check("push-huge", &place.sees(&["deploy", "huge.wasm"]));
    assert!(began.elapsed() < std::time::Duration::from_secs(10), "{:?}", began.elapsed());
    huge("modules/huge.wasm");
    let told = place.until_told("module refused", 1);
    assert!(told["error"].as_str().unwrap().ends_with("huge.wasm has 500 MB, and a module may have 67.1 MB"), "{told}");
    // Told once, and not held against others.
    place.write("forebay.toml", &CONFIG.replace("-8.0", "-7.5"));
    place.until_told("revision is active", 2);
    assert_eq!(place.told("module refused").len(), 1);
    assert!(running.stop().success());
    place.adds_up();
}

/// What two people ask for before the host has come to either.
pub(super) fn at_once(
    place: &Place,
    running: &Running,
    verb: impl Fn(&str) -> Vec<String>,
) -> [(&'static str, std::process::Output); 2] {
    let asked = || place.number("SELECT count(*) AS n FROM ledger.requests WHERE answered_at IS NULL");
    running.signal("STOP");
    let asking = ["alice", "bob"].map(|who| {
        let verb = verb(who);
        let mut command = place.command(&verb.iter().map(String::as_str).collect::<Vec<_>>());
        command.env("FOREBAY_BY", who);
        (who, std::thread::spawn(move || command.output().unwrap()))
    });
    place.until("both have asked", || asked() == 2);
    running.signal("CONT");
    asking.map(|(who, asking)| (who, asking.join().unwrap()))
}

#[test]
fn of_two_that_deploy_at_once_one_is_first_and_the_other_is_told() {
    let place = Place::new();
    let running = place.start();
    place.write("inbox/a.jsonl", &payments(0..100));
    place.until("it is loaded", || place.rows("lake.payments") == 100);
    for who in ["alice", "bob"] {
        variant(&place, &format!("{who}.wasm"), fraud_wasm(), who.as_bytes()[0]);
    }
    let outputs = at_once(&place, &running, |who| vec!["deploy".to_owned(), format!("{who}.wasm")]);
    let first = outputs.iter().find(|(_, output)| output.status.success()).unwrap().0;
    let (second, output) = outputs.iter().find(|(_, output)| !output.status.success()).unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8_lossy(&output.stderr).replace(first, "[first]");
    check("push-second", &told);
    assert_eq!(deployments(&place), json!([[1, "retired"], [2, "active"]]));
    // Who has seen it may.
    let again = place.sees(&["deploy", &format!("{second}.wasm")]);
    assert!(again.starts_with("exit 0\nfraud: revision 3"), "{again}");
    // Two that go back at once do not go back and forth.
    let codes =
        at_once(&place, &running, |_| vec!["rollback".to_owned(), "fraud".to_owned()]).map(|(_, it)| it.status.code());
    let active = place.query("SELECT revision FROM ledger.deployments WHERE state = 'active'");
    assert_eq!(active[0]["revision"], 2, "both wanted the one before: {codes:?}");
    assert!(running.stop().success());
    place.adds_up();
}

#[test]
fn a_rollback_to_what_does_not_fit_the_schema_any_more_is_refused() {
    let place = Place::new();
    let running = place.start();
    place.write("inbox/a.jsonl", &payments(0..100));
    place.until("it is loaded", || place.rows("lake.payments") == 100);
    place.write("forebay.toml", &CONFIG.replace("-8.0", "-7.5"));
    place.until_told("revision is active", 2);
    // A column that the rule reads as a number is text from now on.
    place.change_ledger(
        "UPDATE schemas SET schema = replace(schema, '\"name\":\"V14\",\"data_type\":\"Float64\"', '\"name\":\"V14\",\"data_type\":\"Utf8\"')",
    );
    check("push-rollback-schema", &place.sees(&["rollback", "fraud", "--to", "1"]));
    assert_eq!(deployments(&place), json!([[1, "retired"], [2, "active"]]));
    assert!(running.stop().success());
}

#[test]
fn a_revision_that_the_config_brought_is_rolled_back_and_stays_so() {
    let place = Place::new();
    let running = place.start();
    place.write("inbox/a.jsonl", &payments(0..100));
    place.until("the first file is loaded", || place.rows("lake.payments") == 100);
    place.write("forebay.toml", &CONFIG.replace("-8.0", "0.0"));
    place.until_told("revision is active", 2);
    assert_eq!(asked(&place, "rollback fraud --to 1")["active"][0]["revision"], 1);
    assert_eq!(deployments(&place), json!([[1, "retired"], [2, "retired"], [1, "active"], [2, "cancelled"]]));
    // Not with a reload, and not with a restart, though the config means it.
    place.drop_module("keep.wasm", keep_wasm(), b'1');
    place.until_told("module is active", 2);
    place.until_told("the config means a revision that was rolled back", 1);
    assert!(running.stop().success());
    let running = place.start();
    place.until_told("the config means a revision that was rolled back", 1);
    place.write("inbox/b.jsonl", &payments(100..200));
    place.until("the second file is loaded", || place.rows("lake.payments") == 200);
    assert_eq!(made_by(&place), json!([[1, 200]]));
    // A person puts it back; or the config means something else.
    assert_eq!(asked(&place, "rollback fraud --to 2")["active"][0]["revision"], 2);
    place.write("inbox/c.jsonl", &payments(200..300));
    place.until("the third file is loaded", || place.rows("lake.payments") == 300);
    assert_eq!(made_by(&place), json!([[1, 200], [2, 100]]));
    assert_eq!(asked(&place, "rollback fraud")["active"][0]["revision"], 1);
    place.write("forebay.toml", &CONFIG.replace("-8.0", "-7.0"));
    place.until_told("revision is active", 1);
    assert_eq!(deployments(&place).as_array().unwrap().last(), Some(&json!([3, "active"])));
    assert!(running.stop().success());
    place.adds_up();
}

#[test]
fn a_host_that_dies_in_a_rollback_starts_with_one_revision_and_all_rows() {
    for point in ["in_rollback", "after_rollback"] {
        let place = Place::new();
        let running = place.start_with("FOREBAY_FAILPOINT", point);
        place.write("inbox/a.jsonl", &payments(0..100));
        place.until("the first file is loaded", || place.rows("lake.payments") == 100);
        variant(&place, "second.wasm", fraud_wasm(), b'2');
        assert_eq!(asked(&place, "deploy second.wasm")["active"][0]["revision"], 2);
        let told = place.sees(&["rollback"]);
        assert!(told.contains("has stopped without an answer"), "{point}: {told}");
        drop(running);
        // What was asked of the host that died is not done by the next one.
        let running = place.start();
        place.write("inbox/b.jsonl", &payments(100..200));
        place.until("the second file is loaded", || place.rows("lake.payments") == 200);
        place.until("nothing is asked any more", || {
            place.number("SELECT count(*) FROM ledger.requests WHERE answered_at IS NULL") == 0
        });
        assert_eq!(made_by(&place), json!([[1, 200]]), "{point}");
        assert!(running.stop().success());
        place.adds_up();
    }
}

#[test]
fn a_module_is_deployed_for_the_next_start() {
    let place = Place::new();
    place.write("inbox/a.jsonl", &payments(0..100));
    place.run_well(&["run", "--once"]);
    variant(&place, "second.wasm", fraud_wasm(), b'2');
    assert_eq!(asked(&place, "deploy second.wasm --offline")["pipelines"], json!(["fraud"]));
    place.write("inbox/b.jsonl", &payments(100..200));
    place.run_well(&["run", "--once"]);
    assert_eq!(made_by(&place), json!([[1, 100], [2, 100]]));
    // One that the pipeline's config does not fit.
    place.write("forebay.toml", &CONFIG.replace("v14_below", "v14_belw"));
    variant(&place, "third.wasm", fraud_wasm(), b'3');
    let refused = place.sees(&["deploy", "third.wasm", "--offline"]);
    assert!(refused.starts_with("exit 1") && refused.contains("pipeline fraud refuses it"), "{refused}");
    assert_eq!(
        place.number("SELECT count(*) FROM ledger.modules WHERE active AND origin = 'deploy:second.wasm by tester'"),
        1
    );
    place.adds_up();
}

#[test]
fn a_rule_that_requires_what_no_record_has_is_taken_with_a_warning() {
    let place = Place::new();
    let running = place.start();
    place.write("inbox/a.jsonl", &payments(0..100));
    place.until("it is loaded", || place.rows("lake.payments") == 100);
    let step = "module = \"keep\"\nconfig = { column = \"fee\", above = 1.0 }";
    let config = CONFIG.replace("module = \"fraud\"\nconfig = { v14_below = -8.0 }", step);
    let routes = "scored = \"lake.payments\"\nflagged = \"lake.flagged_payments\"";
    place.write("forebay.toml", &config.replace(routes, "out = \"lake.payments\""));
    place.drop_module("keep.wasm", keep_wasm(), b'1');
    let warned = place.until_told("every record will be rejected", 1);
    assert!(warned["message"].as_str().unwrap().contains("step keep requires column fee"), "{warned}");
    variant(&place, "again.wasm", keep_wasm(), b'2');
    let told = place.sees(&["deploy", "again.wasm"]);
    assert!(
        told.starts_with("exit 0") && told.contains("warning: every record will be rejected: step keep requires"),
        "{told}"
    );
    assert!(running.stop().success());
}

#[test]
fn a_paused_pipeline_waits_while_its_stream_lands() {
    let place = Place::new();
    let running = place.start();
    place.write("inbox/a.jsonl", &payments(0..100));
    place.until("the first file is loaded", || place.rows("lake.payments") == 100);
    let pauses =
        [place.sees(&["pause", "fraud", "--reason", "lake.payments is being moved"]), place.sees(&["pause", "fraud"])];
    place.write("inbox/b.jsonl", &payments(100..200));
    place.until("it has landed", || place.number("SELECT count(*) FROM ledger.segments") == 2);
    assert!(running.stop().success());
    // Across a restart too.
    place.run_well(&["run", "--once"]);
    assert_eq!(place.rows("lake.payments"), 100);
    let status = place.run_well(&["status"]);
    let paused = status.lines().find(|line| line.contains("paused")).unwrap();
    assert!(paused.contains("(lake.payments is being moved, by tester): `forebay resume fraud`"), "{status}");
    let running = place.start();
    place.until_told("pipeline is paused", 1);
    let resumes = [place.sees(&["resume", "fraud"]), place.sees(&["resume", "fraud"])];
    place.until("what waited is loaded", || place.rows("lake.payments") == 200);
    check("push-pause", &[pauses, resumes].concat().join("\n"));
    assert!(running.stop().success());
    place.adds_up();
}

/// Holds the ledger's write lock, as a process that hangs in a transaction does, until it is dropped.
struct Held(Option<std::sync::mpsc::Sender<()>>, Option<std::thread::JoinHandle<()>>);

impl Held {
    fn of(place: &Place) -> Self {
        let path = place.path("forebay.db");
        let (release, released) = std::sync::mpsc::channel::<()>();
        let (begin, begun) = std::sync::mpsc::channel();
        let holding = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
                let mut ledger = sqlx::ConnectOptions::connect(&options).await.unwrap();
                sqlx::query("BEGIN IMMEDIATE").execute(&mut ledger).await.unwrap();
                begin.send(()).unwrap();
                // The sender is gone.
                let _ = released.recv();
                sqlx::query("ROLLBACK").execute(&mut ledger).await.unwrap();
            });
        });
        begun.recv().unwrap();
        Self(Some(release), Some(holding))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.0.take());
        self.1.take().unwrap().join().unwrap();
    }
}

#[test]
fn a_deployment_waits_while_somebody_holds_the_ledger_and_not_for_ever() {
    let place = Place::new();
    let running = place.start();
    place.write("inbox/a.jsonl", &payments(0..100));
    place.until("it is loaded", || place.rows("lake.payments") == 100);
    variant(&place, "second.wasm", fraud_wasm(), b'2');
    let held = Held::of(&place);
    let mut command = place.command(&["deploy", "second.wasm"]);
    let deploying = std::thread::spawn(move || command.output().unwrap());
    std::thread::sleep(std::time::Duration::from_secs(5));
    assert!(!deploying.is_finished());
    assert_eq!(deployments(&place), json!([[1, "active"]]), "readers wait for nobody");
    drop(held);
    let deployed = deploying.join().unwrap();
    assert!(deployed.status.success(), "{}", String::from_utf8_lossy(&deployed.stderr));
    assert_eq!(deployments(&place), json!([[1, "retired"], [2, "active"]]));
    // One that hangs is told, and what was active goes on when it is gone.
    variant(&place, "third.wasm", fraud_wasm(), b'3');
    let held = Held::of(&place);
    check("push-ledger-held", &place.sees(&["deploy", "third.wasm"]));
    drop(held);
    assert_eq!(deployments(&place), json!([[1, "retired"], [2, "active"]]));
    place.write("inbox/b.jsonl", &payments(100..200));
    place.until("the second file is loaded", || place.rows("lake.payments") == 200);
    assert!(running.stop().success());
    place.adds_up();
}

/// The rule, and beside it so much code that nobody calls: compiling it takes long.
fn slow_to_compile(functions: u32) -> Vec<u8> {
    fn leb(mut number: usize, into: &mut Vec<u8>) {
        loop {
            let low = u8::try_from(number & 0x7f).unwrap();
            number >>= 7;
            into.push(if number == 0 { low } else { low | 0x80 });
            if number == 0 {
                return;
            }
        }
    }
    fn section(id: u8, content: &[u8], into: &mut Vec<u8>) {
        into.push(id);
        leb(content.len(), into);
        into.extend(content);
    }
    // () -> i64; a body adds up what it decides on, again and again.
    let mut module = b"\0asm\x01\0\0\0".to_vec();
    section(1, &[1, 0x60, 0, 1, 0x7e], &mut module);
    let mut declared = Vec::new();
    leb(functions as usize, &mut declared);
    declared.resize(declared.len() + functions as usize, 0);
    section(3, &declared, &mut module);
    let mut body = vec![1, 1, 0x7e, 0x42, 1];
    for number in 0..1_800_u32 {
        let constant = u8::try_from(number % 60).unwrap();
        // local.get 0; i64.const; i64.mul; local.tee 0; i64.eqz; if i64
        body.extend([0x20, 0, 0x42, constant, 0x7e, 0x22, 0, 0x50, 0x04, 0x7e]);
        // local.get 0; else; i64.const; end; i64.add; local.tee 0
        body.extend([0x20, 0, 0x05, 0x42, constant, 0x0b, 0x7c, 0x22, 0]);
    }
    body.push(0x0b);
    let mut code = Vec::new();
    leb(functions as usize, &mut code);
    for _ in 0..functions {
        leb(body.len(), &mut code);
        code.extend(&body);
    }
    section(10, &code, &mut module);
    let mut component = std::fs::read(fraud_wasm()).unwrap();
    section(1, &module, &mut component);
    component
}

#[test]
fn a_module_that_takes_long_to_compile_is_given_up_and_disturbs_nobody() {
    let place = Place::new();
    place.write(
        "forebay.toml",
        &CONFIG.replace("from = \"payments\"", "from = \"payments\"\nlimits = { compile_seconds = 5 }"),
    );
    let running = place.start();
    place.write("inbox/a.jsonl", &payments(0..100));
    place.until("it is loaded", || place.rows("lake.payments") == 100);
    std::fs::write(place.path("modules/slow.part"), slow_to_compile(1_500)).unwrap();
    std::fs::rename(place.path("modules/slow.part"), place.path("modules/slow.wasm")).unwrap();
    let mut files = 0;
    while place.told("module refused").is_empty() {
        files += 1;
        assert!(files < 200, "{}", place.log());
        place.write(&format!("inbox/{files}.jsonl"), &payments(files * 100..files * 100 + 100));
        place.until("it is loaded meanwhile", || place.rows("lake.payments") == i64::from(files * 100 + 100));
    }
    // Of 50 MB of code nobody has compiled all in the time, and files went on being loaded.
    assert!(files >= 3, "{files}: {}", place.log());
    let told = place.until_told("module refused", 1);
    let error = told["error"].as_str().unwrap();
    assert!(error.contains("it took longer than 5 s"), "{told}");
    assert_eq!(deployments(&place), json!([[1, "active"]]));
    assert!(running.stop().success());
    place.adds_up();
}
