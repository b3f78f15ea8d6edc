//! `forebay logs`: what modules say is kept, and can be followed.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use super::evil::{config, records};
use super::strange_modules::guest;
use super::support::Place;

fn place() -> Place {
    let place = Place::with(&config(&["huge_log"]));
    std::fs::copy(guest("evil"), place.path("modules/evil.wasm")).unwrap();
    place
}

#[test]
fn what_modules_say_is_kept_and_found() {
    let place = place();
    assert_eq!(place.sees(&["logs"]), "exit 0\nno module has said anything of this");
    place.write("inbox/a.jsonl", &records(0..10));
    place.run_well(&["run", "--once"]);
    let last = place.sees(&["logs", "--module", "evil", "--limit", "2"]);
    let lines: Vec<_> = last.lines().collect();
    assert!(lines[1].ends_with(" info evil: line 999"), "{last}");
    assert!(lines[2].contains(" warn evil: ") && lines[2].contains("more lines of this call were dropped"), "{last}");
    assert_eq!(lines[3], "there are 999 more before these: --limit shows them");
    let warned = place.sees(&["logs", "--level", "warn", "--since", "1h", "--json"]);
    let line: serde_json::Value = serde_json::from_str(warned.lines().nth(1).unwrap()).unwrap();
    assert_eq!((&line["module"], &line["level"], warned.lines().count()), (&"evil".into(), &"warn".into(), 2));
    assert_eq!(place.sees(&["logs", "--module", "other", "--quiet"]), "exit 0\n");
    assert!(place.sees(&["logs", "--level", "loud"]).starts_with("exit 2\n"));
}

#[test]
fn what_modules_say_can_be_followed_while_a_host_runs() {
    let place = place();
    let mut command = place.command(&["logs", "--follow", "--level", "warn"]);
    let mut follower = command.stdout(Stdio::piped()).spawn().unwrap();
    let running = place.start();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    for file in ["a", "b"] {
        place.write(&format!("inbox/{file}.jsonl"), &records(0..10));
        // It comes, or the test hangs until its harness ends it.
        let line = lines.next().unwrap().unwrap();
        assert!(line.contains(" warn evil: "), "{line}");
    }
    follower.kill().unwrap();
    follower.wait().unwrap();
    assert!(running.stop().success());
    place.adds_up();
}
