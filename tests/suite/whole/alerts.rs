//! What needs a person reaches a webhook: a real HTTP server, and the real binary.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::seen::check;
use super::support::{CONFIG, Place, keep_wasm, payments};

/// A request that came.
struct Posted {
    at: Instant,
    head: String,
    body: Value,
}

/// A server that refuses the first requests, and takes the others.
pub(super) struct Hook {
    pub(super) address: String,
    posted: Arc<Mutex<Vec<Posted>>>,
}

impl Hook {
    pub(super) fn start(refuse: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let posted = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&posted);
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let mut stream = stream.unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let (mut head, mut length) = (String::new(), 0);
                loop {
                    let mut line = String::new();
                    reader.read_line(&mut line).unwrap();
                    if let Some(bytes) = line.to_lowercase().strip_prefix("content-length:") {
                        length = bytes.trim().parse().unwrap();
                    }
                    if line.trim().is_empty() {
                        break;
                    }
                    head += &line;
                }
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap();
                let status = if number < refuse { "503 Service Unavailable" } else { "204 No Content" };
                write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
                kept.lock().unwrap().push(Posted {
                    at: Instant::now(),
                    head,
                    body: serde_json::from_slice(&body).unwrap(),
                });
            }
        });
        Self { address, posted }
    }

    /// The alerts that came, in their order: `segments_failed firing`.
    pub(super) fn told(&self) -> Vec<String> {
        let posted = self.posted.lock().unwrap();
        let alerts = posted.iter().flat_map(|posted| posted.body["alerts"].as_array().unwrap());
        alerts.map(|alert| format!("{} {}", alert["alert"], alert["state"]).replace('"', "")).collect()
    }

    /// When one was told in a state, of a column or of none.
    fn times(&self, (alert, column): (&str, Option<&str>), state: &str) -> Vec<Instant> {
        let posted = self.posted.lock().unwrap();
        let is_it =
            |told: &&Value| told["alert"] == alert && told["column"].as_str() == column && told["state"] == state;
        let of = |posted: &Posted| posted.body["alerts"].as_array().unwrap().iter().filter(is_it).count();
        posted.iter().flat_map(|posted| std::iter::repeat_n(posted.at, of(posted))).collect()
    }
}

fn with_alerts(hook: &Hook) -> String {
    format!("{CONFIG}\n[alerts]\nwebhook = \"http://{}/services/secret\"\ntoken_file = \"token\"\n", hook.address)
}

#[test]
fn what_needs_a_person_is_told_once_and_when_it_is_over() {
    let hook = Hook::start(1);
    let place = Place::new();
    place.write("forebay.toml", &with_alerts(&hook));
    place.write("token", "hook-token\n");
    let running = place.start();
    place.write("inbox/a.jsonl", &(payments(0..100) + &"no json\n".repeat(20)));
    place.until("the rate of rejects is told, though the server refused it first", || {
        hook.told() == ["reject_rate firing", "reject_rate firing"]
    });
    let mut whole = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    whole.write_all(payments(100..200).as_bytes()).unwrap();
    let whole = whole.finish().unwrap();
    std::fs::write(place.path("inbox/b.jsonl.gz"), &whole[..whole.len() / 2]).unwrap();
    place.until("the failed segment is told", || hook.told().contains(&"segments_failed firing".to_owned()));
    std::fs::write(place.path("inbox/b.jsonl.gz"), whole).unwrap();
    place.until("it is told that it is over", || hook.told().contains(&"segments_failed resolved".to_owned()));
    let firing = hook.told().iter().filter(|told| *told == "segments_failed firing").count();
    assert_eq!(firing, 1, "{:?}", hook.told());
    let posted = hook.posted.lock().unwrap();
    let first = posted.first().unwrap();
    assert!(first.head.starts_with("POST /services/secret HTTP/1.1\r\n"), "{}", first.head);
    assert!(first.head.to_lowercase().contains("authorization: bearer hook-token"), "{}", first.head);
    let mut body = first.body.clone();
    body["alerts"][0]["since"] = "[time]".into();
    check("alert", &serde_json::to_string_pretty(&body).unwrap());
    drop(posted);
    assert!(running.stop().success());
    let log = place.log();
    assert!(log.contains("alerts could not be sent") && !log.contains("secret"), "{log}");
    let shown = place.sees(&["validate", "--show"]);
    assert!(shown.contains("webhook") && !shown.contains("secret"), "{shown}");
}

/// A pipeline whose module is not there yet falls behind, a table holds its changes, and values come that do not fit.
#[test]
fn what_goes_on_is_told_again_no_more_often_than_stated() {
    const REPEAT: Duration = Duration::from_secs(60);
    let hook = Hook::start(0);
    let place = Place::new();
    let held = CONFIG.replace("\"lake.payments\"", "{ table = \"lake.payments\", schema_changes = \"hold\" }");
    let behind = "\n[pipelines.behind]\nfrom = \"payments\"\n\n[[pipelines.behind.steps]]\nmodule = \"keep\"\n\
                  config = { column = \"Amount\", above = 0.0 }\n\n[pipelines.behind.routes]\nout = \"lake.kept\"\n";
    let alerts = format!(
        "\n[alerts]\nwebhook = \"http://{}/\"\nrepeat = \"1m\"\nwindow = \"10s\"\nlag = \"10s\"\n",
        hook.address
    );
    place.write("forebay.toml", &format!("{held}{behind}{alerts}"));
    let running = place.start();
    place.write("inbox/a.jsonl", &payments(0..100));
    place.until("it is loaded", || place.rows("lake.payments") == 100);
    place.write("inbox/b.jsonl", &payments(100..200).replace("\"Class\"", "\"more\":7,\"Class\""));
    // Values that do not fit come again and again: the alert is over a window after each, and begins anew.
    let mut files = 0;
    let mut some_do_not_fit = || {
        files += 1;
        place.write(&format!("inbox/c{files}.jsonl"), &payments(200..201).replace("\"Class\":0", "\"Class\":\"none\""));
    };
    some_do_not_fit();
    let subjects = [("lag", None), ("schema_change_held", Some("more")), ("column_rescued", Some("Class"))];
    let firing = |subject| hook.times(subject, "firing");
    place.until("each is told", || subjects.iter().all(|subject| !firing(*subject).is_empty()));
    let began = Instant::now();
    let mut next = began;
    place.within(REPEAT * 2, "each is told again", || {
        if next.elapsed() > Duration::from_secs(14) {
            next = Instant::now();
            some_do_not_fit();
        }
        subjects.iter().all(|subject| firing(*subject).len() >= 2)
    });
    for subject in subjects {
        let times = firing(subject);
        // From looking to looking: what was sent late came late.
        let apart = times.windows(2).map(|two| two[1].duration_since(two[0])).min().unwrap();
        assert!(apart + Duration::from_secs(3) >= REPEAT, "{subject:?}: {apart:?}");
        // Of what comes and goes in between, no end is told either.
        let ends = hook.times(subject, "resolved").len();
        assert!(ends <= times.len() && times.len() <= 3, "{subject:?}: {:?}", hook.told());
    }
    assert!(!hook.times(subjects[2], "resolved").is_empty(), "{:?}", hook.told());
    place.run_well(&["schema", "approve", "lake.payments", "more"]);
    place.drop_module("keep.wasm", keep_wasm(), b'1');
    let over = |subject| hook.times(subject, "resolved").len() == 1;
    place.until("it is told that it is over", || over(subjects[0]) && over(subjects[1]));
    assert!(running.stop().success());
}
