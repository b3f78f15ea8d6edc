//! What other processes may do beside a host, and what is refused.

use super::support::{Place, payments, texts};

#[test]
fn the_summary_says_what_was_done() {
    let place = Place::new();
    place.write("inbox/a.jsonl", &payments(0..1_000));
    place.write("inbox/b.csv", "id,Time,V14,V17,Amount,Class\n1000,1,-9.5,0.25,3.5,1\n1001,2,zero,0.25,3.5,0\n1002,3\n");
    let out = place.run_well(&["run", "--once"]);
    let first = out.lines().next().unwrap();
    assert!(first.starts_with("landed 2 segments ("), "{out}");
    assert!(
        first.ends_with(
            "decoded 1,003 records · loaded 1,001 rows to lake.payments, 101 to lake.flagged_payments, \
             2 to lake.fraud_rejects · filtered 0 · rejected 2 · rescued 0"
        ),
        "{out}"
    );
    let codes = place.query("SELECT code, raw FROM rejects.fraud ORDER BY code");
    assert_eq!(
        serde_json::to_string(&codes).unwrap(),
        r#"[{"code":"malformed","raw":"1002,3"},{"code":"required_rescued","raw":"1001,2,zero,0.25,3.5,0"}]"#
    );
    let failed = place.run(&["run", "--once", "--fail-on", "rejects"]);
    assert!(failed.status.success(), "nothing new was rejected");
}

#[test]
fn one_host_a_ledger_and_others_may_read_and_ask() {
    let place = Place::new();
    let running = place.start();
    place.write("inbox/a.jsonl", &payments(0..100));
    place.write("inbox/b.jsonl", &payments(100..200));
    place.until("it is loaded", || {
        place.path("warehouse/payments").exists() && place.number("SELECT count(*) FROM lake.payments") == 200
    });
    let second = place.run(&["run", "--once"]);
    assert_eq!(second.status.code(), Some(3));
    assert_eq!(
        texts(&second).1.lines().filter(|line| !line.starts_with('{')).collect::<Vec<_>>(),
        [
            "error: another forebay process runs this ledger's streams and pipelines",
            "hint: stop it first, or use a ledger and a landing zone of their own"
        ]
    );
    let maintained = place.run_well(&["maintain", "--table", "lake.payments"]);
    assert!(maintained.starts_with("lake.payments: "), "{maintained}");
    assert_eq!(place.number("SELECT count(*) FROM lake.payments"), 200);
    assert!(running.stop().success());
}

#[test]
fn a_ledger_that_is_not_the_zones_is_refused_with_a_way_out() {
    let place = Place::new();
    place.write("inbox/a.jsonl", &payments(0..100));
    place.run_well(&["run", "--once"]);
    let copy = std::fs::read(place.path("forebay.db")).unwrap();
    for name in ["forebay.db", "forebay.db-wal", "forebay.db-shm", "forebay.db.lock"] {
        drop(std::fs::remove_file(place.path(name)));
    }
    let refused = place.run(&["run", "--once"]);
    assert_eq!(refused.status.code(), Some(3), "{}", texts(&refused).1);
    assert!(texts(&refused).1.contains("error: the landing zone belongs to ledger"), "{}", texts(&refused).1);
    // An old copy: the tables know loads that it does not.
    std::fs::write(place.path("forebay.db"), copy).unwrap();
    place.write("inbox/b.jsonl", &payments(100..200));
    place.run_well(&["run", "--once"]);
    let old = place.path("forebay.db");
    let newer = std::fs::read(&old).unwrap();
    assert!(!newer.is_empty());
}

#[test]
fn a_file_of_an_unknown_format_lands_and_waits_visible() {
    let place = Place::new();
    place.write("inbox/notes", "no format that anybody knows\n");
    place.write("inbox/a.jsonl", &payments(0..100));
    let output = place.run(&["run", "--once"]);
    assert_eq!(output.status.code(), Some(1), "a segment failed");
    assert_eq!(place.number("SELECT count(*) FROM lake.payments"), 100);
    let failed = place.query("SELECT error, hint FROM ledger.refinements WHERE state = 'failed'");
    assert!(failed[0]["error"].as_str().unwrap().contains("neither the object's name nor its first bytes tell its format"));
}
