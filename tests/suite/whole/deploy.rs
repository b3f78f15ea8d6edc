//! What a deployment is for those who share a module, what it tells of the tables, and a host that dies amid one.

use serde_json::{Value, json};

use super::push::at_once;
use super::seen::check;
use super::support::{CONFIG, Place, fraud_wasm, payments};

/// A second pipeline with the same module.
fn two_pipelines() -> String {
    let cards = "\n[pipelines.cards]\nfrom = \"payments\"\n\n[[pipelines.cards.steps]]\nmodule = \"fraud\"\n\n\
                 [pipelines.cards.routes]\nscored = \"lake.cards\"\nflagged = \"lake.flagged_cards\"\n";
    format!("{CONFIG}{cards}")
}

/// A place with both, and a file that waits.
fn shared() -> Place {
    let place = Place::new();
    place.write("forebay.toml", &two_pipelines());
    place.write("questions.toml", &two_pipelines());
    place.write("inbox/a.jsonl", &payments(0..100));
    place
}

fn loaded(place: &Place, rows: i64) {
    place.until("both have loaded it", || place.rows("lake.payments") == rows && place.rows("lake.cards") == rows);
}

/// Another content of the rule, which does the same; its digest.
fn variant(place: &Place, name: &str, note: u8) -> String {
    let mut wasm = std::fs::read(fraud_wasm()).unwrap();
    wasm.extend([0, 6, 5, b'n', b'o', b't', b'e', note]);
    place.write_bytes(name, &wasm);
    forebay_model::Digest::of(&wasm).to_string()
}

/// Which module each pipeline's active revision names.
fn active(place: &Place) -> Value {
    let rows = place.query(
        "SELECT d.pipeline AS pipeline, r.body AS body FROM ledger.deployments d
         JOIN ledger.revisions r ON r.pipeline = d.pipeline AND r.revision = d.revision
         WHERE d.state = 'active' ORDER BY 1",
    );
    let digest = |row: &Value| -> Value {
        serde_json::from_str::<Value>(row["body"].as_str().unwrap()).unwrap()["steps"][0]["digest"].clone()
    };
    rows.iter().map(|row| json!([row["pipeline"], digest(row)])).collect()
}

#[test]
fn a_deployment_for_one_pipeline_changes_no_other() {
    let place = shared();
    let running = place.start();
    loaded(&place, 100);
    let first = active(&place);
    let second = variant(&place, "second.wasm", b'2');
    let mut seen = place.sees(&["deploy", "second.wasm", "--pipeline", "fraud"]).replace(&second[..12], "[second]");
    seen += &format!("\n{}\n", place.sees(&["deploy", "second.wasm", "--pipeline", "card"]));
    assert_eq!(active(&place), first);
    // What the hint says is what helps: the module is kept.
    let pinned = two_pipelines().replacen("\"fraud\"", &format!("\"fraud@sha256:{}\"", &second[..12]), 1);
    std::fs::create_dir(place.path("next")).unwrap();
    place.write("next/forebay.toml", &pinned);
    place.run_well(&["apply", "next/forebay.toml"]);
    assert_eq!(active(&place), json!([["cards", first[0][1]], ["fraud", second]]));
    let third = variant(&place, "third.wasm", b'3');
    seen += &place.sees(&["deploy", "third.wasm", "--pipeline", "cards,fraud"]).replace(&third[..12], "[third]");
    assert_eq!(active(&place), json!([["cards", first[0][1]], ["fraud", second]]));
    // All that use its name are named.
    place.run_well(&["deploy", "third.wasm", "--pipeline", "cards"]);
    assert_eq!(active(&place), json!([["cards", third], ["fraud", second]]));
    place.write("forebay.toml", &two_pipelines());
    place.until("the name means one module for both again", || {
        active(&place) == json!([["cards", third], ["fraud", third]])
    });
    let fourth = variant(&place, "fourth.wasm", b'4');
    place.run_well(&["deploy", "fourth.wasm", "--pipeline", "cards", "--pipeline", "fraud"]);
    assert_eq!(active(&place), json!([["cards", fourth], ["fraud", fourth]]));
    assert!(running.stop().success());
    let fifth = variant(&place, "fifth.wasm", b'5');
    seen += "\n";
    seen += &place.sees(&["deploy", "fifth.wasm", "--pipeline", "cards", "--offline"]).replace(&fifth[..12], "[fifth]");
    check("deploy-pipeline", &seen);
    place.run_well(&["run", "--once"]);
    assert_eq!(active(&place), json!([["cards", fourth], ["fraud", fourth]]));
    place.adds_up();
}

#[test]
fn a_host_that_dies_amid_a_deployment_has_it_for_all_pipelines_or_for_none() {
    // At its start it takes the folder's module, for two pipelines.
    for point in ["in_deploy@2", "after_deploy@3", "after_deploy@4"] {
        let place = shared();
        let running = place.start_with("FOREBAY_FAILPOINT", point);
        loaded(&place, 100);
        let second = variant(&place, "second.wasm", b'2');
        let told = place.sees(&["deploy", "second.wasm"]);
        assert!(told.contains("has stopped without an answer"), "{point}: {told}");
        drop(running);
        let running = place.start();
        place.write("inbox/b.jsonl", &payments(100..200));
        loaded(&place, 200);
        assert_eq!(active(&place), json!([["cards", second], ["fraud", second]]), "{point}");
        // What was active took what was loaded before, and the new one what came after.
        let made = "SELECT DISTINCT pipeline, revision FROM ledger.loads WHERE state = 'done' ORDER BY 1, 2";
        let made: Vec<_> = place.query(made).iter().map(|row| json!([row["pipeline"], row["revision"]])).collect();
        assert_eq!(
            made,
            [json!(["cards", 1]), json!(["cards", 2]), json!(["fraud", 1]), json!(["fraud", 2])],
            "{point}"
        );
        assert!(running.stop().success());
        place.adds_up();
    }
}

#[test]
fn a_column_that_tables_will_gain_is_announced() {
    let place = Place::new();
    let running = place.start();
    place.write("inbox/a.jsonl", &payments(0..100));
    place.until("it is loaded", || place.rows("lake.payments") == 100);
    // The rule with another name for one of its columns: they stand in its code one after another.
    let graded = |name: &str, column: &[u8; 5]| {
        let mut wasm = std::fs::read(fraud_wasm()).unwrap();
        let at = wasm.windows(11).position(|bytes| bytes == b"scorereason").unwrap();
        wasm[at..at + 5].copy_from_slice(column);
        place.write_bytes(name, &wasm);
    };
    graded("second.wasm", b"grade");
    let words = [
        place.sees(&["deploy", "second.wasm", "--shadow", "5", "--detach"]),
        place.sees(&["deployments", "cancel", "fraud"]),
        place.sees(&["deploy", "second.wasm"]),
    ];
    let revision = &place.query("SELECT revision_id AS id FROM ledger.revisions WHERE revision = 2")[0];
    check("deploy-gains", &words.join("\n").replace(&revision["id"].as_str().unwrap()[..12], "[revision]"));
    let told = place.told("table will gain columns");
    let told: Vec<_> = told.iter().map(|told| json!([told["table"], told["columns"]])).collect();
    let of_both = [json!(["lake.flagged_payments", "grade"]), json!(["lake.payments", "grade"])];
    assert_eq!(told, [of_both.clone(), of_both].concat());
    place.write("inbox/b.jsonl", &payments(100..200));
    place.until("the column is there", || place.rows("lake.payments") == 200);
    graded("third.wasm", b"marks");
    let deployed: Value = serde_json::from_str(&place.run_well(&["deploy", "third.wasm", "--json"])).unwrap();
    let gains = json!({ "lake.payments": ["marks"], "lake.flagged_payments": ["marks"] });
    assert_eq!(deployed["active"][0]["gains"], gains, "{deployed}");
    place.write("inbox/c.jsonl", &payments(200..300));
    place.until("it is loaded", || place.rows("lake.payments") == 300);
    assert_eq!(place.number("SELECT count(grade) FROM lake.payments"), 100);
    assert_eq!(place.number("SELECT count(marks) FROM lake.payments"), 100);
    assert!(running.stop().success());
    place.adds_up();
}

#[test]
fn of_a_config_and_a_module_at_once_one_is_first_and_the_other_is_told() {
    let place = Place::new();
    let running = place.start();
    place.write("inbox/a.jsonl", &payments(0..100));
    place.until("it is loaded", || place.rows("lake.payments") == 100);
    variant(&place, "second.wasm", b'2');
    std::fs::create_dir(place.path("next")).unwrap();
    place.write("next/forebay.toml", &CONFIG.replace("-8.0", "-7.5"));
    let config = || std::fs::read_to_string(place.path("forebay.toml")).unwrap();
    let verbs = [("alice", ["deploy", "second.wasm"]), ("bob", ["apply", "next/forebay.toml"])];
    let verb = |who: &str| verbs.iter().find(|(of, _)| *of == who).unwrap().1.map(str::to_owned).to_vec();
    let outputs = at_once(&place, &running, verb);
    let (first, second): (Vec<_>, Vec<_>) = outputs.iter().partition(|(_, output)| output.status.success());
    let ([(first, _)], [(second, told)]) = (first.as_slice(), second.as_slice()) else { panic!("{outputs:?}") };
    let told = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(told.contains("somebody else was first") && told.contains(&format!("by {first}")), "{told}");
    // The one that was first is whole, and nothing of the other is there.
    assert_eq!(config() == CONFIG, *first == "alice");
    let revisions = "SELECT count(*) FROM ledger.deployments WHERE state IN ('active', 'retired')";
    assert_eq!(place.number(revisions), 2);
    // Who has seen it may.
    let verb: Vec<_> = verb(second);
    place.run_well(&verb.iter().map(String::as_str).collect::<Vec<_>>());
    assert_ne!(config(), CONFIG);
    assert_eq!(place.number(revisions), 3);
    assert_eq!(
        place.number("SELECT count(*) FROM ledger.modules WHERE active AND origin LIKE 'deploy:second.wasm%'"),
        1
    );
    assert!(running.stop().success());
    place.adds_up();
}

#[test]
fn a_revision_is_named_by_the_beginning_of_its_id() {
    let place = Place::new();
    let running = place.start();
    place.write("inbox/a.jsonl", &payments(0..100));
    place.until("it is loaded", || place.rows("lake.payments") == 100);
    variant(&place, "second.wasm", b'2');
    place.run_well(&["deploy", "second.wasm"]);
    let id = place.query("SELECT revision_id AS id FROM ledger.revisions WHERE revision = 1")[0]["id"].clone();
    let id = id.as_str().unwrap();
    let active = || place.number("SELECT revision FROM ledger.deployments WHERE state = 'active'");
    let of = |begins: &str| {
        place.sees(&["rollback", "fraud", "--to", begins]).replace(id, "[id]").replace(&id[..12], "[id]")
    };
    // Too short to say anything, and one that nothing begins with.
    let mut seen = of(&id[..5]).replace(&id[..5], "[5 digits]");
    let other = if id.starts_with('0') { "ffffffff" } else { "00000000" };
    seen += "\n";
    seen += &of(other).replace(other, "[8 others]");
    assert_eq!(active(), 2);
    // Another one that begins in the same way.
    let twin = format!("{}{}", &id[..10], if id.ends_with('0') { "1" } else { "0" }.repeat(54));
    place.change_ledger(&format!(
        "INSERT INTO revisions SELECT pipeline, 99, '{twin}', body, created_at FROM revisions WHERE revision = 1"
    ));
    seen += "\n";
    seen += &of(&id[..8]).replace(&id[..8], "[8 digits]");
    assert_eq!(active(), 2);
    place.change_ledger("DELETE FROM revisions WHERE revision = 99");
    seen += "\n";
    seen += &of(&id[..8]);
    assert_eq!(active(), 1);
    place.run_well(&["rollback", "fraud", "--to", "2"]);
    assert_eq!(active(), 2);
    seen += "\n";
    seen += &of(id);
    assert_eq!(active(), 1);
    check("deploy-rollback-to", &seen);
    assert!(running.stop().success());
    place.adds_up();
}
