//! A new revision runs beside the active one first, and its rows are compared: it goes on by itself, or waits for a person.

use reqwest::Method;
use serde_json::{Value, json};

use super::dry_run::{config, deployments, place};
use super::evil::records;
use super::http::{Client, TOKEN};
use super::seen::check;
use super::strange_modules::guest;
use super::support::{Place, texts};

/// It refuses the second and third record of each segment; `evil_healed` passes everything.
const REFUSES: &str = "reject_some";

/// A host that has loaded a file under a rule that refuses two records of each, and the module that refuses none.
fn beside(settings: &str) -> Place {
    let place = place(&config(REFUSES, settings), 1);
    std::fs::copy(guest("evil_healed"), place.path("second.wasm")).unwrap();
    place
}

fn shown(place: &Place, arguments: &[&str]) -> Value {
    let all: Vec<_> = ["deployments", "show", "tried", "--json"].iter().chain(arguments).copied().collect();
    serde_json::from_str(&place.run_well(&all)).unwrap()
}

/// Without what was said on the way, which is chance.
fn outcome(text: &str) -> String {
    text.lines()
        .filter(|line| !line.contains("segments compared, ") && !line.contains("segment compared, "))
        .map(|line| format!("{line}\n"))
        .collect()
}

/// Without times.
fn timeless(text: &str) -> String {
    let words = text.split(' ').map(|word| {
        let is_time = word.len() >= 20 && word.as_bytes()[4] == b'-' && word.contains('T');
        let end: String =
            if is_time { word.chars().skip_while(|c| *c != 'Z').skip(1).collect() } else { String::new() };
        if is_time { format!("[time]{end}") } else { word.to_owned() }
    });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn what_differs_in_few_rows_becomes_active_after_segments_that_were_there_and_that_come() {
    let place = beside("");
    let running = place.start();
    place.until("it is loaded", || place.rows("lake.tried") == 1_998);
    let deploy = place.command(&["deploy", "second.wasm", "--shadow", "2", "--max-changed", "1%"]);
    let deploy = std::thread::spawn(move || {
        let mut deploy = deploy;
        deploy.output().unwrap()
    });
    place.until("the first segment is compared", || {
        deployments(&place) == json!([[1, "active"], [2, "shadow"]])
            && shown(&place, &[])["shadow"]["comparison"]["segments"].as_array().unwrap().len() == 1
    });
    let status = place.run_well(&["status"]);
    let line = status.lines().find(|line| line.contains("in shadow")).unwrap();
    assert!(
        line.ends_with(
            "deploy:second.wasm by tester: 1 of 2 segments compared, 4 of 2,002 rows differ (0.1999%; at most 1% may)"
        ),
        "{line}"
    );
    assert_eq!(place.rows("lake.tried"), 1_998, "nothing of it is loaded");
    place.write("inbox/more.jsonl", &records(2_000..3_000));
    let output = deploy.join().unwrap();
    let (out, err) = texts(&output);
    assert_eq!(output.status.code(), Some(0), "{out}{err}");
    check("shadow-passes", &timeless(&format!("{out}{}", outcome(&err))));
    assert_eq!(deployments(&place), json!([[1, "retired"], [2, "active"]]));
    let active = place.query("SELECT origin FROM ledger.modules WHERE active");
    assert_eq!(active[0]["origin"], "deploy:second.wasm by tester");
    // What the former one refused for good stays so; the other records heal.
    place.write("inbox/last.jsonl", &records(3_000..3_010));
    place.until("it is loaded by the new one", || {
        place.number("SELECT count(*) FROM lake.tried WHERE id >= 3000") == 10
    });
    assert!(running.stop().success());
    place.adds_up();
}

#[test]
fn what_differs_in_too_many_rows_waits_for_a_person_across_restarts() {
    let place = beside("");
    let running = place.start();
    place.until("it is loaded", || place.rows("lake.tried") == 1_998);
    let seen = place.sees(&["deploy", "second.wasm", "--shadow", "1", "--max-changed", "0.1%"]);
    assert!(seen.starts_with("exit 3"), "{seen}");
    check("shadow-waits", &outcome(&seen));
    assert!(running.stop().success());
    let running = place.start();
    place.until_told("revision takes the next segments", 2);
    let status = place.run_well(&["status"]);
    let line = status.lines().find(|line| line.contains("in shadow")).unwrap();
    assert!(line.ends_with(": `forebay deployments approve tried`, or `cancel`"), "{line}");
    check("shadow-show", &timeless(&place.run_well(&["deployments", "show", "tried"])));
    assert_eq!(deployments(&place), json!([[1, "active"], [2, "shadow"]]));
    let approved = place.sees(&["deployments", "approve", "tried"]);
    let again = place.sees(&["deployments", "approve", "tried"]);
    check("shadow-approve", &format!("{approved}\n{again}"));
    assert_eq!(deployments(&place), json!([[1, "retired"], [2, "active"]]));
    assert_eq!(shown(&place, &["--revision", "2"])["shadow"]["comparison"]["stage"], "passed");
    assert!(running.stop().success());
    check("shadow-no-host", &place.sees(&["deployments", "cancel", "tried"]));
    place.adds_up();
}

#[test]
fn the_config_can_ask_for_it_and_a_person_can_take_it_back() {
    let settings = "deploy = { shadow = 1, max_changed = \"0%\" }";
    let place = beside(settings);
    let running = place.start();
    place.until("it is loaded", || place.rows("lake.tried") == 1_998);
    // The config: what it means is compared, and a person takes it back.
    place.write("forebay.toml", &config("pass", settings));
    place.until_told("revision in shadow waits for a person", 1);
    check("shadow-cancel", &place.sees(&["deployments", "cancel", "tried", "--reason", "refuses too few"]));
    place.drop_module("other.wasm", super::support::keep_wasm(), b'1');
    place.until_told("the config means a revision that was rolled back", 1);
    assert_eq!(deployments(&place), json!([[1, "active"], [2, "cancelled"]]));
    // The folder; and what comes after it.
    place.drop_module("second.wasm", &guest("evil_healed"), b'1');
    place.until_told("revision in shadow waits for a person", 2);
    place.write("forebay.toml", &config("emit_then_panic_7th", &settings.replace("shadow", "dry_run = 0, shadow")));
    place.until_told("revision in shadow waits for a person", 3);
    let reasons = place.query(
        "SELECT state, reason FROM ledger.deployments WHERE pipeline = 'tried' AND revision > 1 ORDER BY number",
    );
    check("shadow-superseded", &reasons.iter().map(|row| format!("{row}\n")).collect::<String>());
    // The config means the active one again, and then once more what was never taken back by a person.
    place.write("forebay.toml", &config(REFUSES, settings));
    place.until_told("revision in shadow is cancelled", 2);
    place.write("forebay.toml", &config("emit_then_panic_7th", &settings.replace("shadow", "dry_run = 0, shadow")));
    place.until_told("revision in shadow waits for a person", 4);
    // What fails a segment that the active one refined is refused.
    place.write("forebay.toml", &config("panic", &settings.replace("shadow", "dry_run = 0, shadow")));
    place.until_told("revision in shadow is refused", 1);
    let told = shown(&place, &[]);
    assert_eq!(told["state"], "refused", "{told}");
    assert!(told["reason"].as_str().unwrap().starts_with("config: it fails segment events/"), "{told}");
    assert_eq!(deployments(&place)[0], json!([1, "active"]));
    assert!(running.stop().success());
    place.adds_up();
}

#[test]
fn a_host_that_dies_anywhere_in_a_shadow_goes_on_with_it() {
    for point in ["after_shadow", "before_report", "in_promotion"] {
        let place = beside("");
        let running = place.start_with("FOREBAY_FAILPOINT", point);
        place.until("it is loaded", || place.rows("lake.tried") == 1_998);
        let told = place.sees(&["deploy", "second.wasm", "--shadow", "1"]);
        assert!(told.starts_with("exit 1") && told.contains("the host"), "{point}: {told}");
        drop(running);
        assert_eq!(deployments(&place), json!([[1, "active"], [2, "shadow"]]), "{point}");
        let running = place.start();
        place.until("it is active", || deployments(&place) == json!([[1, "retired"], [2, "active"]]));
        place.write("inbox/more.jsonl", &records(2_000..2_100));
        place.until("it loads", || place.number("SELECT count(*) FROM lake.tried WHERE id >= 2000") == 100);
        assert_eq!(
            place.query("SELECT origin FROM ledger.modules WHERE active")[0]["origin"],
            "deploy:second.wasm by tester"
        );
        assert!(running.stop().success());
        place.adds_up();
    }
}

#[test]
fn pipelines_that_share_a_module_go_on_together_and_a_host_elsewhere_decides_likewise() {
    let other = config(REFUSES, "").split_once("[pipelines.tried]").unwrap().1.replace("tried", "other");
    let both = format!(
        "{}\n[pipelines.other]{other}\n[http]\nlisten = \"127.0.0.1:0\"\n",
        config(REFUSES, "deploy = { shadow = 1, max_changed = \"0%\" }")
    );
    let place = place(&both, 1);
    let mut wasm = std::fs::read(guest("evil_healed")).unwrap();
    let running = place.start_with("FOREBAY_TOKEN", TOKEN);
    let client = Client::of(&place);
    place.until("it is loaded", || place.rows("lake.tried") == 1_998 && place.rows("lake.other") == 1_998);
    let post = |path: &str, body: &[u8]| client.ask(Method::POST, path, Some(TOKEN), body.to_vec());
    let deployed = post("/v1/deploy?file=second.wasm", &wasm);
    let in_shadow = deployed.json()["shadow"].as_array().unwrap().len();
    assert_eq!((deployed.status, in_shadow), (200, 2), "{deployed:?}");
    place.until_told("revision in shadow waits for a person", 1);
    let states = || {
        let rows = place.query("SELECT pipeline, state FROM ledger.deployments WHERE revision = 2 ORDER BY number");
        rows.iter().map(|row| format!("{} {}", row["pipeline"], row["state"]).replace('"', "")).collect::<Vec<_>>()
    };
    assert_eq!(states(), ["other shadow", "tried shadow"], "{}", place.log());
    let shown = client.get("/v1/pipelines/tried/deployment").json();
    assert_eq!(shown["shadow"]["comparison"]["stage"], "waiting", "{shown}");
    // A host elsewhere: what its verbs say.
    let elsewhere = |arguments: &[&str]| {
        let mut command = place.command(arguments);
        command.env("FOREBAY_URL", format!("http://{}", client.address)).env("FOREBAY_TOKEN", TOKEN);
        place.seen_of(command)
    };
    let cancelled = elsewhere(&["deployments", "cancel", "tried", "--reason", "too many"]);
    assert!(cancelled.contains("other: revision 2") && cancelled.contains("tried: revision 2"), "{cancelled}");
    assert_eq!(states(), ["other cancelled", "tried cancelled"]);
    let list = elsewhere(&["deployments", "list", "--pipeline", "tried", "--limit", "1"]);
    assert!(
        list.contains(" cancelled ") && list.contains("by somebody over HTTP: too many, cancelled by tester"),
        "{list}"
    );
    // Once more, and approved.
    wasm.extend([0, 6, 5, b'n', b'o', b't', b'e', b'2']);
    std::fs::write(place.path("third.wasm"), wasm).unwrap();
    let waits = elsewhere(&["deploy", "third.wasm"]);
    assert!(waits.starts_with("exit 3") && waits.contains("waits for a person"), "{waits}");
    let approved = post("/v1/pipelines/tried/approve", b"{}");
    assert_eq!((approved.status, approved.json()["active"].as_array().unwrap().len()), (200, 2), "{approved:?}");
    assert_eq!(post("/v1/pipelines/tried/approve", b"{}").status, 422);
    assert!(running.stop().success());
    place.adds_up();
}

#[test]
fn one_in_shadow_that_somebody_else_wrote_is_told_and_can_be_taken_back() {
    let place = beside("");
    let running = place.start();
    place.until("it is loaded", || place.rows("lake.tried") == 1_998);
    let seen = place.sees(&["deploy", "second.wasm", "--shadow", "1", "--max-changed", "0.1%"]);
    assert!(seen.starts_with("exit 3"), "{seen}");
    place.change_ledger("UPDATE deployments SET shadow_plan = '{}' WHERE state = 'shadow'");
    let status = place.sees(&["status"]);
    check("shadow-damaged", &status);
    let shown = place.sees(&["deployments", "show", "tried"]);
    assert_eq!(shown.replace(" at line 1 column 2", ""), status, "read from its text");
    place.until_told("what is in shadow could not be compared; it is tried again", 1);
    let cancelled = place.sees(&["deployments", "cancel", "tried"]);
    assert!(cancelled.starts_with("exit 0"), "{cancelled}");
    place.run_well(&["status"]);
    assert_eq!(deployments(&place), json!([[1, "active"], [2, "cancelled"]]));
    assert!(running.stop().success());
    place.adds_up();
}
