//! What people ask of modules and revisions: what there is, what ran when, and what changed.

use super::seen::check;
use super::support::{CONFIG, Place, payments};

/// Without what differs from run to run: times, sizes of guests, and the widths that follow from them.
fn even(text: &str) -> String {
    let mut words = Vec::new();
    for line in text.lines() {
        let time = |word: &str| word.len() > 18 && word.ends_with('Z') && word.as_bytes()[10] == b'T';
        let clock = |word: &str| word.trim_end_matches(',').len() == 8 && word.matches(':').count() == 2;
        let size = |word: &str| word.len() == 7 && word.bytes().all(|byte| byte.is_ascii_digit());
        let word = |word: &str| match word {
            word if time(word) => "[time]".to_owned(),
            word if clock(word) => "[clock]".to_owned() + &word[8..],
            word if size(word) => "[bytes]".to_owned(),
            word if word.len() == "sha256:".len() + 64 => "sha256:[sha256]".to_owned(),
            word if word.starts_with('─') => "─".to_owned(),
            word => word.to_owned(),
        };
        let indent = line.len() - line.trim_start().len();
        let line: Vec<_> = line.split_whitespace().map(word).collect();
        let line = line.join(" ");
        let line = match line.split_once(" from folder:") {
            Some((_, origin)) => format!("[size] from folder:{origin}"),
            None => line,
        };
        words.push(" ".repeat(indent) + &line);
    }
    words.join("\n")
}

#[test]
fn modules_and_revisions_are_told_and_compared() {
    let place = Place::new();
    place.write("inbox/a.jsonl", &payments(0..10));
    place.run_well(&["run", "--once"]);
    place.write("forebay.toml", &CONFIG.replace("-8.0", "-7.5"));
    place.run_well(&["run", "--once"]);
    // The rule refuses this, so the third never runs.
    place.write("forebay.toml", &CONFIG.replace("v14_below", "v14_belw"));
    assert_eq!(place.run(&["run", "--once"]).status.code(), Some(1));
    place.write("forebay.toml", CONFIG);
    let mut seen = String::new();
    for verb in [
        "modules list",
        "modules list --name keep",
        "modules show fraud",
        "modules show frau",
        "revisions list",
        "revisions list --pipeline other",
        "revisions show fraud",
        "revisions show fraud 3",
        "revisions show fraud 9",
        "revisions show other",
        "revisions diff fraud 1",
        "revisions diff fraud 2 3",
        "revisions diff fraud 2",
    ] {
        let arguments: Vec<_> = verb.split(' ').collect();
        seen += &format!("$ forebay {verb}\n{}\n\n", even(&place.sees(&arguments)));
    }
    check("registry", &seen);
}

#[test]
fn programs_are_told_the_same() {
    let place = Place::new();
    place.write("inbox/a.jsonl", &payments(0..10));
    place.run_well(&["run", "--once"]);
    place.write("forebay.toml", &CONFIG.replace("-8.0", "-7.5"));
    place.run_well(&["run", "--once"]);
    let json = |verb: &str| -> Vec<serde_json::Value> {
        let arguments: Vec<_> = verb.split(' ').chain(["--json"]).collect();
        place.run_well(&arguments).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let modules = json("modules list");
    let digest = modules[0]["digest"].as_str().unwrap().to_owned();
    assert_eq!(digest.len(), 64);
    let module = &json(&format!("modules show {}", &digest[..8]))[0];
    assert_eq!((&module["name"], &module["active"]), (&"fraud".into(), &true.into()));
    assert_eq!(module["pipelines"], serde_json::json!([{ "pipeline": "fraud", "revision": 2 }]));
    assert!(module["config_schema"]["properties"]["v14_below"].is_object(), "{module}");
    let states: Vec<_> =
        json("revisions list").iter().map(|row| (row["revision"].clone(), row["state"].clone())).collect();
    assert_eq!(states, [(2.into(), "active".into()), (1.into(), "retired".into())]);
    let revision = &json("revisions show fraud 1")[0];
    assert_eq!(revision["body"]["steps"][0]["digest"], digest.as_str());
    assert_eq!(revision["deployments"][0]["state"], "retired");
    let changed = serde_json::json!({ "setting": "steps.fraud.config.v14_below", "from": "-8.0", "to": "-7.5" });
    assert_eq!(json("revisions diff fraud 1"), [changed]);
}
