//! Rules that are expressions in the config, through the real binary: a filter, columns, a route and a reject; an expression that changes
//! while data flows; a wrong one, which is refused at its character while the former one goes on.

use super::seen::check;
use super::support::{Place, expr_wasm};

const CONFIG: &str = r#"
[landing]
url = "landing"

[ledger]
url = "sqlite:forebay.db"

[modules]
watch = "modules"

[warehouses.lake]
type = "delta"
url = "warehouse"

[streams.payments]
source = { type = "files", url = "inbox", settle_milliseconds = 1, scan_seconds = 1 }
format = "auto"

[pipelines.fraud]
from = "payments"

[[pipelines.fraud.steps]]
module = "expr"
assets = { blocked = "blocked.txt" }

[pipelines.fraud.steps.config]
filter = "amount > 0"

[pipelines.fraud.steps.config.columns]
score = "amount * 0.001 - v14 * 0.6"
flag = "v14 < -8 or amount > 2000 and country in blocked"

[pipelines.fraud.steps.config.routes.flagged]
when = "flag"
columns = ["id", "score"]

[[pipelines.fraud.steps.config.reject]]
code = "no_amount"
when = "amount is null"
message = "a payment has an amount"

[pipelines.fraud.routes]
out = "lake.payments"
flagged = "lake.flagged"
"#;

const PAYMENTS: &str = r#"{"id":1,"amount":10.5,"v14":-9.5,"country":"DE","nothing":null}
{"id":2,"amount":3000,"v14":0.5,"country":"KP","nothing":null}
{"id":3,"amount":3000,"v14":0.5,"country":null,"nothing":null}
{"id":4,"amount":null,"v14":0.5,"country":"FR","nothing":null}
{"id":5,"amount":-1,"v14":0.5,"country":"FR","nothing":null}
"#;

fn place() -> Place {
    let place = Place::with(CONFIG);
    std::fs::copy(expr_wasm(), place.path("modules/expr.wasm")).unwrap();
    place.write("blocked.txt", "KP\nIR # since May\n");
    place
}

fn rows(place: &Place, table: &str) -> String {
    let own = "_forebay_segment, _forebay_item, _forebay_load, _forebay_loaded_at";
    let rows = place.query(&format!("SELECT * EXCLUDE ({own}) FROM {table} ORDER BY id"));
    rows.iter().map(|row| format!("{row}\n")).collect()
}

#[test]
fn a_filter_columns_a_route_and_a_reject_load_what_they_say() {
    let place = place();
    place.write("inbox/a.jsonl", PAYMENTS);
    let seen = place.sees(&["run", "--once"]);
    let tables =
        format!("{}\n{}\n{}", rows(&place, "lake.payments"), rows(&place, "lake.flagged"), place.rejects("fraud"));
    check("expr", &format!("{seen}\n{tables}"));
    place.adds_up();
    // A column whose input has had no value comes with the first one.
    place.write(
        "inbox/b.jsonl",
        &PAYMENTS.replace("\"nothing\":null", "\"nothing\":\"YES\"").replace("\"id\":", "\"id\":1"),
    );
    place.run_well(&["run", "--once"]);
    check("expr-grown", &rows(&place, "lake.payments"));
    place.adds_up();
}

#[test]
fn an_expression_that_changes_takes_the_next_segments_and_a_wrong_one_is_refused_at_its_character() {
    let place = place();
    let running = place.start();
    place.write("inbox/a.jsonl", PAYMENTS);
    place.until("the first file is loaded", || place.rows("lake.payments") == 3);
    place.write("forebay.toml", &CONFIG.replace("v14 < -8 or", "amount < 11 and false or"));
    place.until_told("revision is active", 2);
    place.write("inbox/b.jsonl", PAYMENTS);
    place.until("the second file is loaded", || place.rows("lake.payments") == 6);
    assert_eq!(place.rows("lake.flagged"), 3, "two before, one after");
    place.write("forebay.toml", &CONFIG.replace("country in blocked", "contry in blocked"));
    let refused = place.until_told("revision refused", 1);
    check(
        "expr-refused",
        &format!("{}\nhint: {}", refused["error"].as_str().unwrap(), refused["hint"].as_str().unwrap()),
    );
    place.write("inbox/c.jsonl", PAYMENTS);
    place.until("the former one goes on", || place.rows("lake.payments") == 9);
    assert!(running.stop().success());
    assert_eq!(place.number("SELECT count(*) FROM ledger.deployments WHERE state = 'refused'"), 1);
    place.adds_up();
}

#[test]
fn a_wrong_expression_is_shown_by_plan() {
    let place = place();
    place.write("inbox/a.jsonl", PAYMENTS);
    place.write("forebay.toml", &CONFIG.replace("amount * 0.001", "amount * country"));
    check("expr-plan", &place.sees(&["plan"]));
    // As deep as an expression may be, in the stack that a module has.
    let deep = format!("{}amount{}", "abs(".repeat(95), ")".repeat(95));
    place.write("forebay.toml", &CONFIG.replace("amount * 0.001", &deep));
    place.write("questions.toml", CONFIG);
    place.run_well(&["run", "--once"]);
    assert_eq!(place.rows("lake.payments"), 3);
}
