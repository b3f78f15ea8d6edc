//! The whole way from a bucket, with the real binary: objects that come, change and cannot be read, deaths on the way, a server that fails.

use std::time::Duration;

use super::landing_s3::{ENVIRONMENT, landing};
use super::support::{CONFIG, Place, payments, texts};
use crate::s3::{BUCKET, Operation, REGION, Server, Wrong};

/// A place whose stream reads the server's bucket; it lands in a folder, or in the same bucket.
fn place(server: &Server, lands_there: bool) -> Place {
    let there = if lands_there { landing(&server.url(), BUCKET, REGION) } else { "url = \"landing\"".to_owned() };
    let place = Place::with_landing(&there, &ENVIRONMENT);
    let url = server.url();
    let source = format!(
        "{{ type = \"s3\", url = \"s3://{BUCKET}/in\", scan_seconds = 1, endpoint = \"{url}\", region = \"{REGION}\" }}"
    );
    let files = "{ type = \"files\", url = \"inbox\", settle_milliseconds = 1, scan_seconds = 1 }";
    assert!(CONFIG.contains(files));
    for name in ["forebay.toml", "questions.toml"] {
        place.write(name, &place.config().replace(files, &source));
    }
    place
}

fn once_each(place: &Place, records: i64) {
    assert_eq!(place.rows("lake.payments"), records);
    assert_eq!(place.number("SELECT count(DISTINCT id) FROM lake.payments"), records);
    place.adds_up();
}

#[test]
fn objects_of_a_bucket_become_tables_once() {
    for lands_there in [false, true] {
        let server = Server::start();
        server.pages_of(3);
        let place = place(&server, lands_there);
        for part in 0..8 {
            server.put(&format!("in/dt=2026/part {part}.jsonl"), payments(part * 50..(part + 1) * 50).as_bytes());
        }
        let busy = Wrong::Answer(503, "SlowDown");
        server.goes_wrong([(Operation::List, busy), (Operation::Get, busy), (Operation::Get, Wrong::CutBody(100))]);
        place.run_well(&["run", "--once"]);
        once_each(&place, 400);
        place.run_well(&["run", "--once"]);
        once_each(&place, 400);
        assert_eq!(place.rows("ledger.segments"), 8);
        // Overwritten by less: its rows go.
        server.put("in/dt=2026/part 7.jsonl", payments(350..360).as_bytes());
        place.run_well(&["run", "--once"]);
        once_each(&place, 360);
        for what in ["in/dt=2026/part 3.jsonl".to_owned(), format!("s3://{BUCKET}/in/dt=2026/part 3.jsonl")] {
            assert!(place.run_well(&["why", &what]).contains("50 rows in lake.payments"), "{what}");
        }
    }
}

#[test]
fn what_comes_while_a_host_runs_is_taken_and_what_is_forbidden_is_told() {
    let server = Server::start();
    let place = place(&server, false);
    server.put("in/a.jsonl", payments(0..100).as_bytes());
    server.put("in/b.jsonl", payments(100..200).as_bytes());
    server.forbid("in/a.jsonl");
    let running = place.start();
    place.until("the other one is loaded", || place.rows("lake.payments") == 100);
    place.until("the forbidden one is told", || place.log().contains("access is denied"));
    let log = place.log();
    assert!(log.contains("s3://forebay-tests/in/a.jsonl") && log.contains("s3:GetObject"), "{log}");
    server.put("in/c.jsonl", payments(200..300).as_bytes());
    place.until("what came is loaded", || place.rows("lake.payments") == 200);
    assert!(running.stop().success());
    once_each(&place, 200);
}

#[test]
fn a_death_between_any_two_steps_loses_and_doubles_nothing_of_a_bucket() {
    for point in ["after_land", "after_list", "after_journal", "before_acknowledge", "before_commit"] {
        let server = Server::start();
        let place = place(&server, false);
        server.put("in/a.jsonl", payments(0..500).as_bytes());
        server.put("in/b.jsonl", payments(500..1_000).as_bytes());
        place.dies_at(point, &["run", "--once"]);
        server.put("in/c.jsonl", payments(1_000..1_200).as_bytes());
        place.run_well(&["run", "--once"]);
        once_each(&place, 1_200);
    }
}

#[test]
fn kills_at_any_time_lose_and_double_nothing_of_a_bucket() {
    let server = Server::start();
    let place = place(&server, false);
    for round in 0..5_u32 {
        let running = place.start();
        for part in 0..4 {
            let first = (round * 4 + part) * 50;
            server.put(&format!("in/{first:05}.jsonl"), payments(first..first + 50).as_bytes());
            server.goes_wrong([(Operation::Get, Wrong::LostAnswer)]);
            std::thread::sleep(Duration::from_millis(u64::from(60 + 130 * round)));
        }
        running.kill();
    }
    server.goes_right();
    place.run_well(&["run", "--once"]);
    once_each(&place, 1_000);
}

#[test]
fn what_is_wrong_with_a_source_in_a_bucket_is_told_before_anything_runs() {
    let server = Server::start();
    let place = place(&server, false);
    let right = place.config();
    let there = place.config().replace("url = \"landing\"", &landing(&server.url(), BUCKET, REGION));
    place.write("forebay.toml", &there.replace(&format!("s3://{BUCKET}/in"), &format!("s3://{BUCKET}/")));
    let (_, err) = texts(&place.run(&["validate"]));
    assert!(err.contains("stream `payments` would take the objects of `landing.url` for its own"), "{err}");
    for (from, to, says) in [
        ("s3://forebay-tests/in", "forebay-tests/in", "this is no url of S3"),
        ("scan_seconds = 1, endpoint", "order = \"name\", endpoint", "key `order`"),
        ("scan_seconds = 1, endpoint", "on_change = \"tail\", endpoint", "objects of a bucket are not added to"),
        ("endpoint = \"http://", "endpoint = \"http://me:hunter2@", "`endpoint` holds credentials"),
    ] {
        place.write("forebay.toml", &right.replace(from, to));
        let output = place.run(&["validate"]);
        let (out, err) = texts(&output);
        assert!(!output.status.success() && err.contains(says) && !err.contains("hunter2"), "{says}: {out}{err}");
    }
}
