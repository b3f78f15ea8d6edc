//! The whole way into tables in PostgreSQL, with the real binary: files, a rule, deaths on the way, a file that is replaced, rows that heal,
//! and questions. Skipped where `FOREBAY_POSTGRES` names no server; `make test-services` starts one.

use super::support::{CONFIG, Place, expr_wasm, payments, texts};
use crate::postgres::Schema;

/// A place whose warehouse is a schema of its own, by a config whose warehouse is a folder.
fn place(config: &str) -> Option<(Schema, Place)> {
    let schema = Schema::new()?;
    let (before, after) = config.split_once("[warehouses.lake]\ntype = \"delta\"\nurl = \"warehouse\"").unwrap();
    let url = schema.url();
    let config = format!("{before}[warehouses.lake]\ntype = \"postgres\"\nurl = \"{url}\"{after}");
    let place = Place::with(&config);
    place.write("questions.toml", &config);
    Some((schema, place))
}

fn fraud() -> Option<(Schema, Place)> {
    let (schema, place) = place(CONFIG)?;
    std::fs::copy(super::support::fraud_wasm(), place.path("modules/fraud.wasm")).unwrap();
    Some((schema, place))
}

fn once_each(place: &Place, payments: i64) {
    assert_eq!(place.rows("lake.payments"), payments);
    assert_eq!(place.number("SELECT count(DISTINCT id) FROM lake.payments"), payments);
    place.adds_up();
}

fn sql(schema: &Schema, statements: &str) {
    tokio::runtime::Runtime::new().unwrap().block_on(schema.sql(statements));
}

#[test]
fn files_become_tables_in_postgres_and_are_asked_like_any_other() {
    let Some((schema, place)) = fraud() else { return };
    place.write("inbox/a.jsonl", &payments(0..300));
    place.write("inbox/b.jsonl", &format!("{}this is no JSON\n", payments(300..400)));
    place.run_well(&["run", "--once"]);
    once_each(&place, 400);
    assert_eq!(place.rows("rejects.fraud"), 1);
    assert!(place.run_well(&["rejects", "list"]).contains("malformed"));
    assert!(place.run_well(&["why", "inbox/a.jsonl"]).contains("300 rows in lake.payments"));
    let found = place.query("SELECT id FROM lake.payments WHERE _forebay_load >= 1 ORDER BY id LIMIT 3");
    assert_eq!(found.len(), 3);
    // Another engine reads the same.
    sql(&schema, "DO $$ BEGIN ASSERT (SELECT count(*) FROM payments) = 400; END $$");
    // A repeated start brings nothing twice; a new version of a file takes the place of the former.
    place.run_well(&["run", "--once"]);
    once_each(&place, 400);
    place.write("inbox/a.jsonl", &payments(100..300));
    place.run_well(&["run", "--once"]);
    once_each(&place, 300);
    assert!(place.run_well(&["maintain", "--table", "lake.payments"]).starts_with("lake.payments: "));
    sql(&schema, "DO $$ BEGIN ASSERT (SELECT count(*) FROM _forebay_staged) = 0; END $$");
}

#[test]
fn a_death_between_any_two_steps_loses_and_doubles_nothing_in_postgres() {
    let points = [
        "before_open_group",
        "before_commit",
        "before_commit@2",
        "warehouse_staged",
        "warehouse_commit",
        "warehouse_committed",
        "warehouse_committed@2",
        "after_commit",
        "before_close_load",
    ];
    for point in points {
        let Some((_schema, place)) = fraud() else { return };
        place.write("inbox/a.jsonl", &payments(0..500));
        place.write("inbox/b.jsonl", &payments(500..1_000));
        place.dies_at(point, &["run", "--once"]);
        place.write("inbox/c.jsonl", &payments(1_000..1_200));
        place.run_well(&["run", "--once"]);
        once_each(&place, 1_200);
        place.write("inbox/a.jsonl", &payments(200..500));
        place.dies_at(point, &["run", "--once"]);
        place.run_well(&["run", "--once"]);
        once_each(&place, 1_000);
    }
}

#[test]
fn a_rejected_row_heals_into_postgres() {
    let Some((_schema, place)) = place(super::heal::CONFIG) else { return };
    std::fs::copy(expr_wasm(), place.path("modules/expr.wasm")).unwrap();
    let lines: String = (0..100).map(|id| format!("{{\"id\":{id},\"amount\":{id}}}\n")).collect();
    place.write("inbox/a.jsonl", &lines);
    place.run_well(&["run", "--once"]);
    assert_eq!(place.rows("lake.payments"), 90);
    place.write("forebay.toml", &place.config().replace("id % 10 = 3", "id < 0"));
    place.run_well(&["run", "--once"]);
    assert_eq!(place.rows("lake.payments"), 100);
    assert_eq!(place.number("SELECT count(DISTINCT id) FROM lake.payments"), 100);
    assert_eq!(place.rows("rejects.fraud"), 0);
    place.adds_up();
}

#[test]
fn a_lost_ledger_is_rebuilt_from_tables_in_postgres() {
    let Some((_schema, place)) = fraud() else { return };
    place.write("inbox/a.jsonl", &payments(0..300));
    place.run_well(&["run", "--once"]);
    place.write("inbox/b.jsonl", &payments(300..500));
    place.run_well(&["run", "--once"]);
    place.remove_ledger();
    place.run_well(&["recover"]);
    place.write("inbox/c.jsonl", &payments(500..600));
    place.run_well(&["run", "--once"]);
    assert_eq!(place.rows("lake.payments"), 600);
    assert_eq!(place.number("SELECT count(DISTINCT id) FROM lake.payments"), 600);
}

#[test]
fn history_goes_into_tables_beside_in_postgres_and_takes_their_place() {
    let Some((schema, place)) = fraud() else { return };
    place.write("inbox/a.jsonl", &format!("{}this is no JSON\n", payments(0..100)));
    place.run_well(&["run", "--once"]);
    let into = ["replay", "--pipeline", "fraud", "--into", "v2"];
    place.run_well(&into);
    place.dies_at("after_commit@2", &["run", "--once"]);
    place.run_well(&["run", "--once"]);
    assert_eq!((place.rows("lake.payments_v2"), place.rows("lake.fraud_rejects_v2")), (100, 1));
    let first = place.number("SELECT max(_forebay_load) FROM lake.payments");
    let running = place.start();
    place.until("it runs", || place.sees(&["status"]).contains("host: running"));
    let told = place.run_well(&[&into[..], &["--swap"]].concat());
    assert!(told.contains("the tables that end with _v2 are gone"), "{told}");
    assert!(running.stop().success());
    once_each(&place, 100);
    assert!(place.number("SELECT min(_forebay_load) FROM lake.payments") > first);
    sql(&schema, "DO $$ BEGIN ASSERT (SELECT count(*) FROM pg_tables WHERE tablename LIKE '%v2') = 0; END $$");
}

#[test]
fn columns_that_divide_tables_are_refused_before_anything_moves() {
    let Some((_schema, place)) = fraud() else { return };
    let divided = place
        .config()
        .replace("scored = \"lake.payments\"", "scored = { table = \"lake.payments\", partition_by = [\"id\"] }");
    place.write("forebay.toml", &divided);
    place.write("inbox/a.jsonl", &payments(0..10));
    let told = texts(&place.run(&["run", "--once"]));
    assert!(told.1.contains("cannot be divided by") && told.1.contains("leave partition_by out"), "{told:?}");
    assert_eq!(place.number("SELECT count(*) FROM ledger.loads"), 0);
}
