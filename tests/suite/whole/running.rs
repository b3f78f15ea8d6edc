//! What other processes may do beside a host, and what is refused.

use super::seen::check;
use super::support::{Place, forebay, payments, texts};

#[test]
fn the_summary_says_what_was_done() {
    let place = Place::new();
    place.write("inbox/a.jsonl", &payments(0..1_000));
    place
        .write("inbox/b.csv", "id,Time,V14,V17,Amount,Class\n1000,1,-9.5,0.25,3.5,1\n1001,2,zero,0.25,3.5,0\n1002,3\n");
    let out = place.run_well(&["run", "--once"]);
    let lines: Vec<_> = out.lines().collect();
    assert!(lines[0].starts_with("landed 2 segments ("), "{out}");
    assert_eq!(
        lines[1],
        "fraud: decoded 1,003 records · loaded 1,001 rows to lake.payments, 101 to lake.flagged_payments · \
         filtered 0 · rejected 2 to lake.fraud_rejects · rescued 0 · the rules counted payments_flagged 101"
    );
    let codes = place.query("SELECT code, raw FROM rejects.fraud ORDER BY code");
    assert_eq!(
        serde_json::to_string(&codes).unwrap(),
        r#"[{"code":"malformed","raw":"1002,3"},{"code":"required_rescued","raw":"1001,2,zero,0.25,3.5,0"}]"#
    );
    let failed = place.run(&["run", "--once", "--fail-on", "rejects"]);
    assert!(failed.status.success(), "nothing new was rejected");
    place.write("inbox/c.jsonl", "{\"oops\n");
    let failed = place.run(&["run", "--once", "--fail-on", "rejects"]);
    assert_eq!(failed.status.code(), Some(1), "a record was rejected");
    place.adds_up();
}

#[test]
fn what_a_rule_counts_is_told() {
    let place = Place::new();
    place.write("inbox/a.jsonl", &payments(0..1_000));
    let told: serde_json::Value = serde_json::from_str(&place.run_well(&["run", "--once", "--json"])).unwrap();
    let flagged = place.rows("lake.flagged_payments");
    assert!(flagged > 0);
    assert_eq!(told["pipelines"]["fraud"]["rules"]["counters"]["payments_flagged"], flagged);
    place.adds_up();
}

#[test]
fn one_host_a_ledger_and_others_may_read_and_ask() {
    let place = Place::new();
    let running = place.start();
    place.write("inbox/a.jsonl", &payments(0..100));
    place.write("inbox/b.jsonl", &payments(100..200));
    place.until("it is loaded", || place.rows("lake.payments") == 200);
    let second = place.run(&["run", "--once"]);
    assert_eq!(second.status.code(), Some(3));
    let maintained = place.run_well(&["maintain", "--table", "lake.payments"]);
    assert!(maintained.starts_with("lake.payments: "), "{maintained}");
    assert_eq!(place.number("SELECT count(*) FROM lake.payments"), 200);
    assert!(running.stop().success());
    place.adds_up();
}

/// A ledger that is whole, and another zone's: of another project, or of the same one in another place.
#[test]
fn a_ledger_that_is_not_the_zones_is_refused_with_a_way_out() {
    let [place, other] = [Place::new(), Place::new()];
    for (place, ids) in [(&place, 0..100), (&other, 500..700)] {
        place.write("inbox/a.jsonl", &payments(ids));
        place.run_well(&["run", "--once"]);
    }
    let own = place.copy_ledger();
    place.put_back(&other.copy_ledger());
    place.write("inbox/b.jsonl", &payments(100..200));
    check("another-ledger", &place.sees(&["run", "--once"]));
    assert_eq!(place.rows("lake.payments"), 100);
    // Each way out that is told: its own ledger, or a new one made of zone and tables.
    place.put_back(&own);
    place.run_well(&["run", "--once"]);
    place.put_back(&other.copy_ledger());
    place.run_well(&["recover", "--replace"]);
    place.write("inbox/c.jsonl", &payments(200..300));
    place.run_well(&["run", "--once"]);
    assert_eq!(place.rows("lake.payments"), 300);
    assert_eq!(place.number("SELECT count(DISTINCT id) FROM lake.payments"), 300);
    place.adds_up_since_recovery();
}

#[test]
fn a_file_of_an_unknown_format_lands_and_waits_visible() {
    let place = Place::new();
    place.write("inbox/notes", "no format that anybody knows\n");
    place.write("inbox/a.jsonl", &payments(0..100));
    let output = place.run(&["run", "--once"]);
    assert_eq!(output.status.code(), Some(1), "a segment failed");
    assert_eq!(place.number("SELECT count(*) FROM lake.payments"), 100);
    let failed = place.query("SELECT error_message FROM ledger.refinements WHERE state = 'failed'");
    assert!(
        failed[0]["error_message"]
            .as_str()
            .unwrap()
            .contains("neither the object's name nor its first bytes tell its format")
    );
    place.adds_up();
}

#[test]
fn a_record_stream_lands_as_envelopes_and_goes_on_where_it_stood() {
    let place = Place::new();
    let config = |events: u32| {
        format!(
            "[landing]\nurl = \"landing\"\n[ledger]\nurl = \"sqlite:forebay.db\"\n[modules]\nwatch = \"modules\"\n\
             [warehouses.lake]\ntype = \"delta\"\nurl = \"warehouse\"\n\
             [streams.auctions]\nsource = {{ type = \"generator\", events = {events}, partitions = 3 }}\nformat = \"json\"\n\
             [pipelines.auctions]\nfrom = \"auctions\"\n[pipelines.auctions.routes]\nout = \"lake.auctions\"\n"
        )
    };
    for events in [3_000, 5_000] {
        place.write("forebay.toml", &config(events));
        place.write("questions.toml", &config(events));
        place.run_well(&["run", "--once"]);
        assert_eq!(place.rows("lake.auctions"), i64::from(events));
        assert_eq!(
            place.number("SELECT count(*) FROM (SELECT DISTINCT _forebay_segment, _forebay_row FROM lake.auctions)"),
            i64::from(events)
        );
        assert_eq!(place.number("SELECT count(*) FROM ledger.partitions"), 3);
    }
    let first = place.query("SELECT * FROM raw.auctions LIMIT 1");
    assert!(first[0].as_object().is_some_and(|row| !row.is_empty()));
    place.adds_up();
}

#[test]
fn what_has_landed_stays_known_when_the_project_moves_or_its_inbox_becomes_a_link() {
    let place = Place::new();
    place.write("inbox/a.jsonl", &payments(0..100));
    place.run_well(&["run", "--once"]);
    std::fs::rename(place.path("inbox"), place.path("elsewhere")).unwrap();
    std::os::unix::fs::symlink(place.path("elsewhere"), place.path("inbox")).unwrap();
    place.run_well(&["run", "--once"]);
    assert_eq!(place.rows("lake.payments"), 100);
    let moved = tempfile::tempdir().unwrap();
    let here = moved.path().join("moved");
    std::fs::rename(place.path(""), &here).unwrap();
    std::fs::remove_file(here.join("inbox")).unwrap();
    std::fs::rename(here.join("elsewhere"), here.join("inbox")).unwrap();
    let config = here.join("forebay.toml");
    let run = |arguments: &[&str]| {
        let output = std::process::Command::new(forebay()).arg("-c").arg(&config).args(arguments).output().unwrap();
        assert!(output.status.success(), "{:?}", texts(&output));
        texts(&output).0
    };
    run(&["run", "--once"]);
    assert!(run(&["query", "SELECT count(*) AS n FROM lake.payments", "--format", "csv"]).contains("100"));
}

#[test]
fn a_segment_that_the_warehouse_could_not_take_is_tried_again_while_the_host_runs() {
    let place = Place::new();
    place.write("inbox/a.jsonl", &payments(0..100));
    let running = place.start();
    place.until("it is loaded", || place.rows("lake.payments") == 100);
    std::fs::rename(place.path("warehouse"), place.path("aside")).unwrap();
    std::fs::write(place.path("warehouse"), "a file where the folder was").unwrap();
    place.write("inbox/b.jsonl", &payments(100..200));
    place.until("it fails", || !place.told("segment failed and waits").is_empty());
    std::fs::remove_file(place.path("warehouse")).unwrap();
    std::fs::rename(place.path("aside"), place.path("warehouse")).unwrap();
    place.until("it is loaded after all", || place.rows("lake.payments") == 200);
    assert!(running.stop().success());
    place.adds_up();
}

#[test]
fn a_list_that_is_cut_off_says_so() {
    let place = Place::new();
    for file in 0..3 {
        place.write(&format!("inbox/{file}.jsonl"), &payments(file * 10..(file + 1) * 10));
    }
    place.run_well(&["run", "--once"]);
    for verb in [&["segments", "list"][..], &["query", "SELECT * FROM lake.payments"]] {
        let told = |limit: &str| texts(&place.run(&[verb, &["--limit", limit]].concat())).1;
        assert!(told("2").contains("more"), "{verb:?}: {}", told("2"));
        assert_eq!(told("30"), "", "{verb:?}");
    }
}

#[test]
fn a_file_that_cannot_be_read_as_records_keeps_no_other_from_being_asked() {
    let place = Place::new();
    place.write("inbox/a.jsonl", &payments(0..10));
    std::fs::write(place.path("inbox/broken.csv"), b"id,\xff\xfe\n1,2\n").unwrap();
    let ended = place.run(&["run", "--once"]);
    assert_eq!(ended.status.code(), Some(1), "a segment failed");
    let asked = place.run(&["query", "SELECT count(*) AS n FROM raw.payments", "--format", "csv"]);
    let (out, err) = texts(&asked);
    assert!(asked.status.success() && out.contains("10"), "{out}\n{err}");
    assert!(err.contains("left out of the answer") && err.contains("broken.csv"), "{err}");
}

#[test]
fn a_revision_that_was_refused_is_told_by_status_until_another_is_taken() {
    let place = Place::new();
    place.write("inbox/a.jsonl", &payments(0..10));
    place.run_well(&["run", "--once"]);
    assert!(!place.run_well(&["status"]).contains("refused"));
    let config = std::fs::read_to_string(place.path("forebay.toml")).unwrap();
    place.write("forebay.toml", &config.replace("v14_below", "v14_belw"));
    assert_eq!(place.run(&["run", "--once"]).status.code(), Some(1));
    let told = place.run_well(&["-c", "questions.toml", "status"]);
    assert!(told.contains("refused since: revision 2") && told.contains("v14_belw"), "{told}");
    place.write("forebay.toml", &config.replace("-8.0", "-7.0"));
    place.run_well(&["run", "--once"]);
    assert!(!place.run_well(&["status"]).contains("refused"));
}
