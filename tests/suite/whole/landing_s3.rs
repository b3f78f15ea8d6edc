//! The whole way with a landing zone on S3, with the real binary: files, a rule, deaths on the way, a server that fails, a ledger that is
//! lost, and what a person is told.

use std::collections::BTreeSet;

use super::support::{Place, payments, texts};
use crate::s3::{ACCESS_KEY, BUCKET, Operation, REGION, SECRET_KEY, Server, Wrong};

/// The lines of `[landing]`.
pub(super) fn landing(url: &str, bucket: &str, region: &str) -> String {
    format!("url = \"s3://{bucket}/zone\"\nendpoint = \"{url}\"\nregion = \"{region}\"")
}

/// What a person who may has in the environment, and nothing of the machine's own.
pub(super) const ENVIRONMENT: [(&str, &str); 5] = [
    ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
    ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
    ("AWS_EC2_METADATA_DISABLED", "true"),
    ("AWS_CONFIG_FILE", "/nowhere/config"),
    ("AWS_SHARED_CREDENTIALS_FILE", "/nowhere/credentials"),
];

/// The named points of `run` before and after which something is kept in the zone, or read from it.
const POINTS: [&str; 8] = [
    "after_deploy",
    "after_land",
    "after_list",
    "after_journal",
    "before_acknowledge",
    "after_schema",
    "in_refine",
    "before_commit",
];

fn place(server: &Server) -> Place {
    Place::with_landing(&landing(&server.url(), BUCKET, REGION), &ENVIRONMENT)
}

fn rows_once_each(place: &Place, records: i64) {
    let count = |sql: &str| place.number(sql);
    assert_eq!(count("SELECT count(*) FROM lake.payments"), records);
    assert_eq!(count("SELECT count(DISTINCT id) FROM lake.payments"), records);
    assert_eq!(count("SELECT count(*) FROM lake.flagged_payments"), records / 10);
}

fn once_each(place: &Place, records: i64) {
    rows_once_each(place, records);
    place.adds_up();
}

/// The same where the ledger was lost, and does not know what it had counted.
fn rebuilt(place: &Place, records: i64) {
    rows_once_each(place, records);
    place.adds_up_since_recovery();
}

/// The segments of the zone's journal.
fn journalled(server: &Server) -> BTreeSet<String> {
    let keys = server.keys();
    let entries = keys.iter().filter(|key| key.starts_with("zone/_forebay/journal/"));
    entries
        .map(|key| serde_json::from_slice::<serde_json::Value>(&server.bytes(key).unwrap()).unwrap())
        .flat_map(|entry| entry["segments"].as_array().cloned().unwrap_or_default())
        .map(|segment| segment["id"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn files_land_on_s3_and_become_tables() {
    let server = Server::start();
    let place = place(&server);
    place.write("inbox/a.jsonl", &payments(0..300));
    place.write("inbox/b.jsonl", &format!("{}this is no JSON\n", payments(300..400)));
    let busy = Wrong::Answer(503, "SlowDown");
    server.goes_wrong([(Operation::Put, busy), (Operation::Put, Wrong::LostAnswer), (Operation::Get, busy)]);
    place.run_well(&["run", "--once"]);
    once_each(&place, 400);
    assert_eq!(server.still_to_go_wrong(), 0);
    assert_eq!(place.rows("rejects.fraud"), 1);
    assert!(!place.path("landing").exists(), "nothing lands on this machine");
    let objects: Vec<_> = server.keys().into_iter().filter(|key| key.starts_with("zone/payments/dt=")).collect();
    assert_eq!(objects.len(), 2, "{objects:?}");
    // Asked by name, by the source's file, and by the object's url.
    let url = format!("s3://{BUCKET}/{}", objects[0]);
    for what in [objects[0].strip_prefix("zone/").unwrap(), url.as_str()] {
        assert!(place.run_well(&["why", what]).contains("rows in lake.payments"), "{what}");
    }
    assert!(place.run_well(&["why", "inbox/a.jsonl"]).contains("300 rows in lake.payments"));
    assert!(place.run_well(&["plan"]).contains(&format!("landing s3://{BUCKET}/zone")));
    assert_eq!(place.query("SELECT count(*) AS n FROM raw.payments")[0]["n"], 401);
    // A repeated start brings nothing twice; a new version of a file takes the place of the former.
    place.run_well(&["run", "--once"]);
    once_each(&place, 400);
    place.write("inbox/a.jsonl", &payments(100..300));
    place.run_well(&["run", "--once"]);
    once_each(&place, 300);
    place.run_well(&["replay", "--pipeline", "fraud", "--verify"]);
    place.run_well(&["maintain"]);
    once_each(&place, 300);
    assert!(!place.run_well(&["validate", "--show"]).contains(SECRET_KEY));
    let (_, log) = texts(&place.run(&["-vvv", "run", "--once"]));
    assert!(
        log.contains("hyper") && !log.contains(SECRET_KEY) && !log.contains("AWS4-HMAC"),
        "all is logged but secrets"
    );
}

#[test]
fn a_death_between_any_two_steps_loses_and_doubles_nothing_on_s3() {
    for point in POINTS {
        let server = Server::start();
        let place = place(&server);
        place.write("inbox/a.jsonl", &payments(0..500));
        place.write("inbox/b.jsonl", &payments(500..1_000));
        place.dies_at(point, &["run", "--once"]);
        place.write("inbox/c.jsonl", &payments(1_000..1_200));
        place.run_well(&["run", "--once"]);
        once_each(&place, 1_200);
        let listed = place.query("SELECT segment FROM ledger.segments");
        let listed: BTreeSet<_> = listed.iter().map(|row| row["segment"].as_str().unwrap().to_owned()).collect();
        assert_eq!(journalled(&server), listed, "{point}");
    }
}

#[test]
fn a_kill_while_the_server_is_slow_loses_and_doubles_nothing() {
    let server = Server::start();
    let place = place(&server);
    for round in 0..4_u32 {
        // What it is about when it is killed is never answered.
        let about = [Operation::Put, Operation::Get, Operation::Head, Operation::Put];
        let running = place.start();
        if round > 0 {
            server.goes_wrong([(about[round as usize % 4], Wrong::Hang)]);
        }
        for part in 0..3 {
            let first = (round * 3 + part) * 100;
            place.write(&format!("inbox/{first}.jsonl"), &payments(first..first + 100));
            std::thread::sleep(std::time::Duration::from_millis(u64::from(100 + 150 * round)));
        }
        running.kill();
    }
    server.goes_right();
    place.run_well(&["run", "--once"]);
    once_each(&place, 1_200);
}

#[test]
fn a_lost_ledger_is_rebuilt_from_the_journal_on_s3() {
    let server = Server::start();
    let place = place(&server);
    place.write("inbox/a.jsonl", &payments(0..300));
    place.run_well(&["run", "--once"]);
    place.write("inbox/b.jsonl", &payments(300..500));
    place.run_well(&["run", "--once"]);
    place.write("inbox/a.jsonl", &payments(100..300));
    place.dies_at("after_list", &["run", "--once"]);
    place.remove_ledger();
    for refused in [&["run", "--once"][..], &["status"]] {
        let (_, err) = texts(&place.run(refused));
        assert!(err.contains("forebay recover"), "{refused:?}: {err}");
    }
    place.run_well(&["recover"]);
    place.run_well(&["run", "--once"]);
    rebuilt(&place, 400);
    // And with an entry that is damaged, the newest one.
    let newest = server.keys().into_iter().rfind(|key| key.starts_with("zone/_forebay/journal/")).unwrap();
    server.put(&newest, b"{\"version\":1,\"ledg");
    place.remove_ledger();
    place.run_well(&["recover"]);
    assert!(server.keys().contains(&format!("{newest}.damaged")));
    place.run_well(&["run", "--once"]);
    rebuilt(&place, 400);
}

#[test]
fn an_object_that_is_gone_is_a_failure_that_is_seen() {
    let server = Server::start();
    let place = place(&server);
    place.write("inbox/a.jsonl", &payments(0..100));
    place.dies_at("after_journal", &["run", "--once"]);
    let object = server.keys().into_iter().find(|key| key.starts_with("zone/payments/")).unwrap();
    let bytes = server.bytes(&object).unwrap();
    server.remove(&object);
    place.run(&["run", "--once"]);
    let told = place.query("SELECT error_message FROM ledger.refinements")[0]["error_message"].to_string();
    assert!(told.contains("is not in the landing zone"), "{told}");
    server.put(&object, &bytes);
    place.run_well(&["run", "--once"]);
    once_each(&place, 100);
}

#[test]
fn what_is_wrong_with_the_bucket_is_told_with_what_to_do() {
    let server = Server::start();
    // A port that nobody has, since it was just given back.
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nowhere = format!("http://{nowhere}");
    let with = |name: &str, value: &str| {
        let mut environment = ENVIRONMENT.to_vec();
        environment.retain(|(known, _)| *known != name);
        [&environment[..], &[(name, value)]]
            .concat()
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect::<Vec<_>>()
    };
    let usual = with("AWS_EC2_METADATA_DISABLED", "true");
    for (name, landing, environment) in [
        ("credentials", landing(&server.url(), BUCKET, REGION), with("AWS_ACCESS_KEY_ID", "AKIAWRONG")),
        ("no-credentials", landing(&server.url(), BUCKET, REGION), with("AWS_ACCESS_KEY_ID", "")),
        ("no-bucket", landing(&server.url(), "acme-raw", REGION), usual.clone()),
        ("region", landing(&server.url(), BUCKET, "us-east-1"), usual.clone()),
        ("unreachable", landing(&nowhere, BUCKET, REGION), usual),
    ] {
        let environment: Vec<_> = environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let place = Place::with_landing(&landing, &environment);
        place.write("inbox/a.jsonl", &payments(0..10));
        let output = place.run(&["run", "--once"]);
        let (out, err) = texts(&output);
        assert!(!err.contains(SECRET_KEY) && !err.contains("AKIAWRONG"), "{err}");
        let err: Vec<_> = err.lines().filter(|line| !line.starts_with('{')).collect();
        let text = format!("exit {:?}\n{out}--\n{}", output.status.code(), err.join("\n"));
        let text = text.replace(&server.url(), "[server]").replace(&nowhere, "[nowhere]");
        insta::assert_snapshot!(format!("wrong-{name}"), text);
        // It has made nothing that would be in the way once it is right.
        assert!(!place.path("forebay.db").exists(), "{name}");
    }
}
