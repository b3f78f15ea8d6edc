//! The author's loop with a pipeline beside it: a file is saved, and the rule is built, tried, compared and running.

use std::fs;
use std::process::Child;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::packed::sized;
use super::seen::check;
use super::support::{CONFIG, Place, target_folder};

/// A pipeline whose one step is the rule that is written.
fn config(rule: &str) -> String {
    let step = format!("module = \"{rule}\"\nconfig = {{ at_least = 10.0 }}");
    let config = CONFIG.replace("module = \"fraud\"\nconfig = { v14_below = -8.0 }", &step);
    config.replace("scored = \"lake.payments\"\nflagged = \"lake.flagged_payments\"", "out = \"lake.payments\"")
}

fn payments(ids: std::ops::Range<u32>) -> String {
    ids.map(|id| format!("{{\"id\":\"{id}\",\"amount\":{}.5,\"country\":\"DE\"}}\n", id % 100)).collect()
}

/// A rule in a place's folder, and somebody who watches it.
struct Author {
    place: Place,
    /// Another for each test: what cargo builds of it lies in one folder.
    rule: &'static str,
    watch: Option<Child>,
}

impl Author {
    fn new(rule: &'static str) -> Self {
        let place = Place::with(&config(rule));
        place.run_well(&["new", "rule", rule]);
        Self { place, rule, watch: None }
    }

    fn command(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = self.place.command(arguments);
        // What a rule is built with has been built for the rules of this repository.
        command.env("CARGO_NET_OFFLINE", "true").env("CARGO_TARGET_DIR", target_folder());
        command
    }

    fn watches(&mut self, arguments: &[&str]) {
        let file = |name: &str| fs::File::create(self.place.path(name)).unwrap();
        let mut command = self.command(&[&["watch", self.rule, "--log-format", "human"], arguments].concat());
        self.watch = Some(command.stdout(file("out")).stderr(file("err")).spawn().unwrap());
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.place.path(name)).unwrap()
    }

    /// Waits until a round has ended so often; a guest is built in it.
    fn round(&mut self, rounds: usize) {
        let began = Instant::now();
        let watching = format!("watching {}", self.rule);
        while self.read("err").matches(&watching).count() < rounds {
            let (out, err) = (self.read("out"), self.read("err"));
            assert!(began.elapsed() < Duration::from_secs(400), "round {rounds} does not end\n{out}\n{err}");
            let ended = self.watch.as_mut().and_then(|watch| watch.try_wait().unwrap());
            assert!(ended.is_none(), "it ended with {ended:?}\n{out}\n{err}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn saves(&self, replace: &str, by: &str) {
        let path = self.place.path(self.rule).join("src/lib.rs");
        let source = fs::read_to_string(&path).unwrap();
        let saved = source.replace(replace, by);
        assert_ne!(saved, source);
        fs::write(path, saved).unwrap();
    }

    /// Ctrl-C.
    fn interrupts(&mut self) -> Option<i32> {
        let mut watch = self.watch.take().unwrap();
        let id = watch.id().to_string();
        assert!(std::process::Command::new("kill").args(["-INT", &id]).status().unwrap().success());
        watch.wait().unwrap().code()
    }
}

impl Drop for Author {
    fn drop(&mut self) {
        if let Some(watch) = &mut self.watch {
            drop(watch.kill());
            drop(watch.wait());
        }
    }
}

/// Without ids of segments and revisions, which differ from run to run.
fn told(text: &str) -> String {
    let mut out = String::new();
    for line in sized(text).lines() {
        let words = line.split(' ').map(|word| match word.split_once('/') {
            Some(("payments", _)) if word.ends_with(',') => "payments/[id],".to_owned(),
            _ if word.len() == 14 && word.starts_with('(') && word.ends_with(')') => "([id])".to_owned(),
            _ => word.to_owned(),
        });
        out += &(words.collect::<Vec<_>>().join(" ") + "\n");
    }
    out
}

#[test]
fn what_is_saved_is_built_tried_compared_and_taken_and_what_fails_goes_nowhere() {
    let mut author = Author::new("large");
    // Nothing runs yet: the module waits for a host.
    author.watches(&[]);
    author.round(1);
    let running = author.place.start();
    author.place.write("inbox/a.jsonl", &payments(0..100));
    author.place.until("the file is loaded", || author.place.rows("lake.payments") == 90);
    // One row less, one reject more.
    author.saves(
        "keep.push(payment.amount >= self.at_least);",
        "if payment.amount == 40.5 {\noutput.reject(row, \"forty\", \"once\");\n}\nkeep.push(payment.amount >= self.at_least && payment.amount != 30.5);",
    );
    author.round(2);
    author.place.write("inbox/b.jsonl", &payments(100..200));
    author.place.until("the second file is loaded", || author.place.rows("lake.payments") == 90 + 88);
    // The same reject with other words.
    author.saves("\"once\"", "\"twice\"");
    author.round(3);
    // A case that does not pass.
    author.saves("payment.amount < 0.0", "payment.amount < -100.0");
    author.round(4);
    // A rule that does not build.
    author.saves("payment.amount < -100.0", "payment.amount < ");
    author.round(5);
    let active = "SELECT count(*) FROM ledger.deployments WHERE state IN ('active', 'retired')";
    assert_eq!(author.place.number(active), 3, "{}\n{}", author.read("out"), author.read("err"));
    // Repaired, it goes on.
    author.saves("payment.amount < ", "payment.amount < 0.0");
    author.saves("\"twice\"", "\"thrice\"");
    author.round(6);
    assert_eq!(author.place.number(active), 4, "{}\n{}", author.read("out"), author.read("err"));
    assert_eq!(author.interrupts(), Some(0));
    check("watch", &told(&author.read("out").replace(&author.place.path("").display().to_string(), "[place]/")));
    let err = author.read("err");
    assert!(err.contains("saved: src/lib.rs"), "{err}");
    assert!(err.contains("error: large does not build\nhint: cargo says why, above"), "{err}");
    assert!(running.stop().success());
    author.place.adds_up();
}

#[test]
fn without_a_host_the_module_waits_and_without_a_config_it_goes_nowhere() {
    let mut author = Author::new("little");
    author.watches(&["--json"]);
    let began = Instant::now();
    while author.read("out").is_empty() {
        assert!(began.elapsed() < Duration::from_secs(400), "{}", author.read("err"));
        std::thread::sleep(Duration::from_millis(100));
    }
    let round: Value = serde_json::from_str(&author.read("out")).unwrap();
    assert_eq!((&round["cases"][0]["passed"], &round["pushed"]["outcome"]), (&true.into(), &"waits".into()), "{round}");
    assert_eq!(author.interrupts(), Some(0));
    author.place.write("inbox/a.jsonl", &payments(0..100));
    author.place.run_well(&["run", "--once"]);
    assert_eq!(author.place.rows("lake.payments"), 90);
    // The crate's own folder has no config.
    fs::remove_file(author.place.path("forebay.toml")).unwrap();
    author.watches(&[]);
    author.round(1);
    assert_eq!(author.interrupts(), Some(0));
    check("watch-no-config", &told(&author.read("out")));
    let wrong = author.place.sees(&["watch", "little", "-c", "nowhere.toml"]);
    assert!(wrong.starts_with("exit 2") && wrong.contains("there is no config at nowhere.toml"), "{wrong}");
    let wrong = author.place.sees(&["watch", "inbox"]);
    assert!(wrong.starts_with("exit 4") && wrong.contains("it has no Cargo.toml"), "{wrong}");
}
