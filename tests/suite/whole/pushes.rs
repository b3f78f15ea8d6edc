//! Pushes under load, one after another: modules and configs change while files arrive, and each row is one that the revision of its
//! load makes. `FOREBAY_PUSHES` says how many (10).

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::support::{Place, expr_wasm};

/// Records of a file.
const RECORDS: u32 = 40;

/// Each row is marked by the config that made it.
fn config(mark: u32) -> String {
    format!(
        r#"
[landing]
url = "landing"
[ledger]
url = "sqlite:forebay.db"
[modules]
watch = "modules"
[warehouses.lake]
type = "delta"
url = "warehouse"
[streams.payments]
source = {{ type = "files", url = "inbox", settle_milliseconds = 1, scan_seconds = 1 }}
format = "json"
[pipelines.fraud]
from = "payments"
[[pipelines.fraud.steps]]
module = "expr"
[pipelines.fraud.steps.config.columns]
mark = "'mark {mark}'"
[pipelines.fraud.steps.config.routes.even]
when = "id % 2 = 0"
columns = ["id", "mark"]
[[pipelines.fraud.steps.config.reject]]
code = "some"
when = "id % 7 = {}"
[pipelines.fraud.routes]
out = "lake.payments"
even = "lake.even"
"#,
        mark % 7
    )
}

/// Files until it is told to stop; how many.
fn write_files(place: &Place, stop: &AtomicBool, written: &AtomicU32) {
    while !stop.load(Ordering::SeqCst) {
        let number = written.load(Ordering::SeqCst);
        let ids = number * RECORDS..(number + 1) * RECORDS;
        place.write(
            &format!("inbox/{number:06}.jsonl"),
            &ids.map(|id| format!("{{\"id\":{id}}}\n")).collect::<String>(),
        );
        written.store(number + 1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(60));
    }
}

/// The number of the active revision.
fn active(place: &Place) -> i64 {
    let rows = place.query("SELECT revision FROM ledger.deployments WHERE state = 'active'");
    rows.first().and_then(|row| row["revision"].as_i64()).unwrap_or(0)
}

#[test]
fn each_row_is_of_the_revision_of_its_load_however_many_are_pushed_meanwhile() {
    let pushes = std::env::var("FOREBAY_PUSHES").map_or(10, |text| text.parse().unwrap());
    let place = Place::with(&config(0));
    std::fs::copy(expr_wasm(), place.path("modules/expr.wasm")).unwrap();
    let running = place.start();
    let (stop, written) = (AtomicBool::new(false), AtomicU32::new(0));
    let began = Instant::now();
    let wasm = std::fs::read(expr_wasm()).unwrap();
    let slowest = std::thread::scope(|scope| {
        scope.spawn(|| write_files(&place, &stop, &written));
        place.until("the first file is loaded", || place.rows("lake.payments") > 0);
        let mut slowest = Duration::ZERO;
        for push in 1..=pushes {
            let (before, from) = (active(&place), Instant::now());
            if push % 2 == 1 {
                place.write("forebay.toml", &config(push));
            } else {
                // The same rule with another section is another module.
                let mut variant = wasm.clone();
                variant.extend([0, 7, 4, b'p', b'u', b's', b'h']);
                variant.extend(u16::try_from(push).unwrap().to_le_bytes());
                place.write_bytes("next.wasm", &variant);
                place.run_well(&["deploy", "next.wasm"]);
            }
            place.until(&format!("push {push} is active"), || active(&place) != before);
            slowest = slowest.max(from.elapsed());
        }
        stop.store(true, Ordering::SeqCst);
        slowest
    });
    let files = written.load(Ordering::SeqCst);
    let seconds = began.elapsed().as_secs_f64();
    println!("{pushes} pushes in {seconds:.1} s, the slowest {slowest:?}, {files} files of {RECORDS} records");
    let landed = "SELECT count(*) FROM ledger.refinements WHERE state = 'loaded'";
    place.until("all of it is loaded", || place.number(landed) == i64::from(files));
    place.until("nothing heals any more", || place.number("SELECT count(*) FROM ledger.again") == 0);
    place.until("all is committed", || place.number("SELECT count(*) FROM ledger.loads WHERE state = 'open'") == 0);
    assert!(running.stop().success());
    assert_eq!(place.number("SELECT count(*) FROM ledger.deployments WHERE state <> 'refused'"), i64::from(pushes) + 1);
    every_record_is_once(&place, files * RECORDS);
    each_row_is_of_its_load(&place);
    place.adds_up();
}

/// A record is loaded or rejected, once.
fn every_record_is_once(place: &Place, records: u32) {
    let raw = "SELECT count(*) FROM (SELECT id FROM lake.payments UNION ALL
               SELECT CAST(substr(raw, 7, length(raw) - 7) AS BIGINT) FROM rejects.fraud)";
    assert_eq!(place.number(raw), i64::from(records));
    assert_eq!(place.number(&raw.replacen("count(*)", "count(DISTINCT id)", 1)), i64::from(records));
    assert_eq!(place.rows("lake.even"), place.number("SELECT count(*) FROM lake.payments WHERE id % 2 = 0"));
}

/// Its mark is that of the config of the revision that its load is of.
fn each_row_is_of_its_load(place: &Place) {
    for table in ["lake.payments", "lake.even"] {
        let rows = place.query(&format!(
            "SELECT DISTINCT t.mark AS mark, r.body AS body FROM {table} t
             JOIN ledger.loads l ON l.pipeline = 'fraud' AND l.number = t._forebay_load AND l.table_name = '{table}'
             JOIN ledger.revisions r ON r.pipeline = 'fraud' AND r.revision = l.revision"
        ));
        assert!(!rows.is_empty());
        for row in rows {
            let body: Value = serde_json::from_str(row["body"].as_str().unwrap()).unwrap();
            let wanted = format!("'{}'", row["mark"].as_str().unwrap());
            assert_eq!(body["steps"][0]["config"]["columns"]["mark"], wanted.as_str(), "{table}");
        }
        let unled = format!(
            "SELECT count(*) FROM {table} WHERE _forebay_load NOT IN
             (SELECT number FROM ledger.loads WHERE table_name = '{table}' AND state = 'done')"
        );
        assert_eq!(place.number(&unled), 0, "{table}");
    }
}
