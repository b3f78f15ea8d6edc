//! A config that is applied to a host that runs: all of it is taken with its assets, or none of it.

use reqwest::Method;
use serde_json::json;

use super::http::{Client, TOKEN, with_http};
use super::seen::check;
use super::support::{CONFIG, Place, payments};

/// The config with another threshold, and a list beside it.
fn with_list(config: &str) -> String {
    config.replace(
        "config = { v14_below = -8.0 }",
        "config = { v14_below = -7.5, amount_above = 50, columns = { country = \"id\" } }\nassets = { blocked = \"lists/blocked.txt\" }",
    )
}

/// A folder of somebody who applies.
fn write_next(place: &Place, config: &str) {
    std::fs::create_dir_all(place.path("next/lists")).unwrap();
    place.write("next/lists/blocked.txt", "DE\n");
    place.write("next/forebay.toml", config);
}

fn deployments(place: &Place) -> serde_json::Value {
    let rows = place.query(
        "SELECT revision, state, split_part(reason, chr(10), 1) AS reason FROM ledger.deployments ORDER BY number",
    );
    rows.iter().map(|row| json!([row["revision"], row["state"], row["reason"]])).collect()
}

fn text(place: &Place, file: &str) -> Option<String> {
    std::fs::read_to_string(place.path(file)).ok()
}

/// Without digests, which hang on what the modules were built to.
fn without_digests(place: &Place, told: &str) -> String {
    let mut told = told.to_owned();
    for row in place.query("SELECT revision_id AS id FROM ledger.revisions") {
        told = told.replace(&row["id"].as_str().unwrap()[..12], "[revision]");
    }
    let mut words: Vec<_> = told.split_inclusive(char::is_whitespace).map(str::to_owned).collect();
    for word in &mut words {
        if let Some(end) = word.strip_prefix("configs/") {
            *word = format!("configs/[digest]{}", &end[64..]);
        }
    }
    words.concat()
}

#[test]
fn a_config_is_applied_with_its_assets_while_data_flows() {
    let place = Place::new();
    let running = place.start();
    place.write("inbox/a.jsonl", &payments(0..100));
    place.until("the first file is loaded", || place.rows("lake.payments") == 100);
    write_next(&place, &CONFIG.replace("-8.0", "-7.5"));
    let first = place.sees(&["apply", "next/forebay.toml", "--label", "9f2c1e"]);
    check("apply", &without_digests(&place, &first));
    assert_eq!(text(&place, "forebay.toml"), text(&place, "next/forebay.toml"));
    place.write("inbox/b.jsonl", &payments(100..200));
    place.until("the second file is loaded", || place.rows("lake.payments") == 200);
    check("apply-again", &place.sees(&["apply", "next/forebay.toml"]));
    // A key that waits for a restart, a stream and a pipeline that are new; with JSON.
    let more = CONFIG
        .replace("-8.0", "-7.5")
        .replace("[warehouses.lake]", "[host]\nshutdown_seconds = 7\n\n[warehouses.lake]")
        + "\n[streams.others]\nsource = { type = \"files\", url = \"others\" }\n\
           [pipelines.plain]\nfrom = \"others\"\nroutes = { out = \"lake.plain\" }\n";
    std::fs::create_dir(place.path("others")).unwrap();
    write_next(&place, &more);
    check("apply-parts", &without_digests(&place, &place.sees(&["apply", "next/forebay.toml"])));
    place.write("others/a.jsonl", "{\"n\": 1}\n");
    place.until("the new pipeline loads", || {
        place.number("SELECT count(*) AS n FROM ledger.refinements WHERE pipeline = 'plain' AND state = 'loaded'") == 1
    });
    // What was there before is applied from where it is kept.
    let kept = place.path("landing/_forebay/kept/configs");
    let kept: Vec<_> = std::fs::read_dir(kept).unwrap().map(|entry| entry.unwrap().path()).collect();
    let as_first = |path: &&std::path::PathBuf| std::fs::read_to_string(path).unwrap().contains("-8.0");
    let former = kept.iter().find(as_first).unwrap().to_str().unwrap().to_owned();
    let back = place.sees(&["apply", &former]);
    assert!(back.contains("fraud: revision 1") && back.contains("pipeline plain is stopped"), "{back}");
    assert_eq!(text(&place, "forebay.toml").unwrap(), CONFIG);
    assert!(running.stop().success());
    let rows = deployments(&place);
    let fraud: Vec<_> = rows.as_array().unwrap().iter().filter(|row| row[2] != "config").cloned().collect();
    assert_eq!(fraud[1], json!([2, "retired", "apply:forebay.toml (9f2c1e) by tester"]), "{rows}");
    place.adds_up();
}

#[test]
fn what_does_not_fit_changes_nothing() {
    let place = Place::new();
    let running = place.start();
    place.write("inbox/a.jsonl", &payments(0..100));
    place.until("it is loaded", || place.rows("lake.payments") == 100);
    let other = "\n[pipelines.other]\nfrom = \"payments\"\nroutes = { out = \"lake.other\" }\n";
    let mut seen = String::new();
    for (what, config) in [
        ("a rule that does not know the key", CONFIG.replace("v14_below = -8.0", "v14_bellow = -7.0") + other),
        ("an asset that it does not find", with_list(CONFIG).replace("lists/blocked.txt", "lists/allowed.txt")),
        ("an asset that lies elsewhere", with_list(CONFIG).replace("lists/blocked.txt", "../blocked.txt")),
        ("no TOML", "[pipelines".to_owned()),
        ("a key that nothing has", CONFIG.replace("[landing]", "[landing]\nurll = 3")),
        ("another ledger", CONFIG.replace("sqlite:forebay.db", "sqlite:other.db")),
    ] {
        write_next(&place, &config);
        seen += &format!("# {what}\n{}\n", place.sees(&["apply", "next/forebay.toml"]));
        assert_eq!(text(&place, "forebay.toml").unwrap(), CONFIG, "{what}");
    }
    seen += &format!("# no file\n{}\n", place.sees(&["apply", "nowhere.toml"]));
    check("apply-refused", &seen);
    assert_eq!(deployments(&place).as_array().unwrap().len(), 1);
    assert!(!place.path(".forebay-apply").exists());
    // A host's config that somebody broke is mended.
    place.write("forebay.toml", "broken");
    place.until_told("config refused, the one before goes on", 1);
    write_next(&place, &with_list(CONFIG).replace(", columns = { country = \"id\" }", ""));
    let mended = place.sees(&["apply", "next/forebay.toml"]);
    assert!(mended.starts_with("exit 0\nfraud: revision 2"), "{mended}");
    assert_eq!(text(&place, "lists/blocked.txt").unwrap(), "DE\n");
    assert!(running.stop().success());
    check("apply-no-host", &place.sees(&["apply", "next/forebay.toml"]));
    place.adds_up();
}

#[test]
fn a_host_that_dies_amid_it_has_all_of_it_after_its_next_start() {
    for point in ["in_apply", "amid_apply", "after_apply"] {
        let place = Place::new();
        let mut running = place.start_with("FOREBAY_FAILPOINT", point);
        place.write("inbox/a.jsonl", &payments(0..100));
        place.until("it is loaded", || place.rows("lake.payments") == 100);
        write_next(&place, &with_list(CONFIG).replace(", columns = { country = \"id\" }", ""));
        let told = place.sees(&["apply", "next/forebay.toml"]);
        assert!(told.starts_with("exit 1") && told.contains("has stopped without an answer"), "{point}: {told}");
        place.until("it is dead", || !running.is_alive());
        let running = place.start();
        place.until_told("revision is active", 1);
        assert_eq!(text(&place, "forebay.toml"), text(&place, "next/forebay.toml"), "{point}");
        assert_eq!(text(&place, "lists/blocked.txt").unwrap(), "DE\n", "{point}");
        assert!(!place.path(".forebay-apply").exists(), "{point}");
        place.write("inbox/b.jsonl", &payments(100..200));
        place.until("the second file is loaded", || place.rows("lake.payments") == 200);
        let states: Vec<_> = deployments(&place).as_array().unwrap().iter().map(|row| row[1].clone()).collect();
        assert_eq!(states, ["retired", "active"], "{point}");
        assert!(running.stop().success());
        place.adds_up();
    }
}

#[test]
fn a_config_goes_to_a_host_elsewhere() {
    let place = Place::new();
    place.write("forebay.toml", &with_http("127.0.0.1:0"));
    let running = place.start_with("FOREBAY_TOKEN", TOKEN);
    let client = Client::of(&place);
    place.write("inbox/a.jsonl", &payments(0..100));
    place.until("it is loaded", || place.rows("lake.payments") == 100);
    let elsewhere = |arguments: &[&str]| {
        let mut command = place.command(arguments);
        command.env("FOREBAY_URL", format!("http://{}", client.address)).env("FOREBAY_TOKEN", TOKEN);
        place.seen_of(command)
    };
    write_next(&place, &with_list(&with_http("127.0.0.1:0")).replace(", columns = { country = \"id\" }", ""));
    let applied = elsewhere(&["apply", "next/forebay.toml", "--label", "v2"]);
    check("apply-elsewhere", &without_digests(&place, &applied));
    assert_eq!(text(&place, "lists/blocked.txt").unwrap(), "DE\n");
    assert_eq!(deployments(&place)[1], json!([2, "active", "apply:forebay.toml (v2) by tester"]));
    let assets = place.query("SELECT name, bytes, origin FROM ledger.assets");
    let origin = "apply:forebay.toml (v2) by tester: lists/blocked.txt";
    assert_eq!(assets, [json!({ "name": "blocked", "bytes": 3, "origin": origin })]);
    let listed = place.sees(&["modules", "list", "--assets", "--name", "blocked"]);
    assert!(listed.contains("blocked") && listed.contains(origin), "{listed}");
    assert_eq!(elsewhere(&["apply", "next/forebay.toml"]), place.sees(&["apply", "next/forebay.toml"]));
    // Compared first, where that is asked for.
    place.write("inbox/b.jsonl", &payments(100..200));
    place.until("the second file is loaded", || place.rows("lake.payments") == 200);
    write_next(&place, &with_http("127.0.0.1:0").replace("-8.0", "-20.0"));
    let waits = elsewhere(&["apply", "next/forebay.toml", "--shadow", "1", "--max-changed", "0%"]);
    assert!(waits.starts_with("exit 3") && waits.contains("waits for a person"), "{waits}");
    let cancelled = elsewhere(&["deployments", "cancel", "fraud"]);
    assert!(cancelled.starts_with("exit 0"), "{cancelled}");
    let post = |token, body: &str| client.ask(Method::POST, "/v1/apply", token, body.into()).status;
    assert_eq!(post(None, "{}"), 401);
    for body in ["", "{}", "{\"config\": {}}", "{\"config\": {\"forebay.toml\": \"\"}, \"assets\": {\"../up\": \"\"}}"]
    {
        assert!([400, 422].contains(&post(Some(TOKEN), body)), "{body:?}");
    }
    assert!(running.stop().success());
    place.adds_up();
}
