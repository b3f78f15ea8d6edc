//! What needs a person reaches a webhook: a real HTTP server, and the real binary.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::seen::check;
use super::support::{CONFIG, Place, payments};

/// A request that came.
struct Posted {
    head: String,
    body: Value,
}

/// A server that refuses the first requests, and takes the others.
struct Hook {
    address: String,
    posted: Arc<Mutex<Vec<Posted>>>,
}

impl Hook {
    fn start(refuse: usize) -> Self {
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
                kept.lock().unwrap().push(Posted { head, body: serde_json::from_slice(&body).unwrap() });
            }
        });
        Self { address, posted }
    }

    /// The alerts that came, in their order: `segments_failed firing`.
    fn told(&self) -> Vec<String> {
        let posted = self.posted.lock().unwrap();
        let alerts = posted.iter().flat_map(|posted| posted.body["alerts"].as_array().unwrap());
        alerts.map(|alert| format!("{} {}", alert["alert"], alert["state"]).replace('"', "")).collect()
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
