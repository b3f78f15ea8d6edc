//! A ledger that somebody else wrote to: nonsense in each column of each table, read by the real readers. It is read as it is where it can
//! mean something; else it is refused by the names of table and column, with what to do. Nothing panics.

use std::fmt::Write as _;
use std::sync::Arc;

use forebay_ledger::{OpenMode, SqliteLedger};
use forebay_model::ids::ModuleName;
use forebay_model::ports::Ledger;
use forebay_model::{ErrorClass, Partition, PipelineName, Result, SegmentId, StreamName, Timestamp};
use serde_json::Value;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Row as _};

use super::super::contract::support::{CountingRandom, SteeredClock};
use super::support::{Place, payments, texts};

/// As SQL writes them: for texts, for numbers, and what neither is.
const JUNK: [&str; 13] = [
    "'nonsense'",
    "''",
    "'{\"a\":'",
    // JSON, but of nothing that is meant.
    "'{}'",
    "'[]'",
    "'\"x\"'",
    "CAST(x'ff' AS TEXT)",
    "x'00ff'",
    "-1",
    "9223372036854775807",
    "-9223372036854775808",
    "1.5",
    "NULL",
];

/// A ledger with a row in each table: of a history, and of what it has not.
fn place_with_a_row_in_each_table() -> Place {
    let place = Place::new();
    let torn = format!("{}{{\"id\":\n", payments(0..100));
    place.write("inbox/a.jsonl", &torn);
    place.run_well(&["run", "--once"]);
    place.write("inbox/a.jsonl", &format!("{torn}{}", payments(100..200)));
    place.write("inbox/b.jsonl", &payments(200..300));
    // A group that is open.
    place.dies_at("after_open_group", &["run", "--once"]);
    let first = "(SELECT segment FROM refinements LIMIT 1)";
    for missing in [
        format!(
            "INSERT INTO again SELECT 'fraud', {first}, 'replay', 'a test', 1, 1, 'retry', 'why', 'do', 2, 3, revision_id, 1 \
             FROM revisions LIMIT 1"
        ),
        format!(
            "INSERT INTO heals SELECT 'fraud', {first}, 1, 1, (SELECT revision_id FROM revisions LIMIT 1), 1, 1, 0, 0, 0"
        ),
        // A deployment in shadow, before anything was compared.
        "INSERT INTO deployments (pipeline, revision_id, state, reason, deployed_at, shadow_since, shadow_plan) \
         SELECT pipeline, revision_id, 'shadow', 'a test', 1, 1, json_object('segments', 3, 'max_changed', '1%', 'active', revision_id, \
         'modules', json('[]'), 'together', json_object(pipeline, revision_id)) FROM deployments WHERE state = 'active'"
            .to_owned(),
        "INSERT INTO held_changes VALUES ('lake.payments', 'V14', 'Utf8', 'a test', 1, 0)".to_owned(),
        "INSERT INTO partitions VALUES ('payments', 'generator:0', '17', 1)".to_owned(),
        "INSERT INTO paused VALUES ('other', 'a test', 1)".to_owned(),
        "INSERT INTO assets SELECT 'blocked', sha256, 1, 'config: blocked.txt', 1 FROM modules LIMIT 1".to_owned(),
        "INSERT INTO sides (pipeline, id, of_pipeline, revision_id, workers, reason, asked_at, dropped) \
         SELECT 'fraud~v2', '0190d6f4-5d3c-7bbc-8a67-6f1d5d8b3f10', 'fraud', revision_id, 1, 'a test', 1, 0 FROM revisions LIMIT 1"
            .to_owned(),
        format!("INSERT INTO side_segments VALUES ('fraud~v2', {first})"),
        "INSERT INTO requests (what, arguments, asked_at) VALUES ('maintain', '{}', 1)".to_owned(),
        "INSERT INTO requests (what, arguments, asked_at, answer, answered_at) VALUES ('deploy', '{}', 1, '{}', 2)"
            .to_owned(),
    ] {
        place.change_ledger(&missing);
    }
    // Landings that are not journalled: as they would be listed then.
    for entry in std::fs::read_dir(place.path("landing/_forebay/journal")).unwrap() {
        let entry: Value = serde_json::from_slice(&std::fs::read(entry.unwrap().path()).unwrap()).unwrap();
        let (landing, attempt) = (entry["landing"].to_string().replace('\'', "''"), entry["attempt"].as_str().unwrap());
        place.change_ledger(&format!("UPDATE _landings SET body = '{landing}' WHERE attempt = '{attempt}'"));
    }
    place
}

/// A column, and the statement that puts something into each of its rows.
struct Target {
    table: String,
    column: String,
    /// By its declaration.
    is_number: bool,
}

impl Target {
    fn with(&self, junk: &str) -> String {
        // Where the values must differ, one row is left.
        format!("UPDATE OR REPLACE {} SET {} = {junk}", self.table, self.column)
    }
}

/// Someone who writes to the ledger as no forebay does.
struct Vandal {
    connection: SqliteConnection,
    targets: Vec<Target>,
}

impl Vandal {
    async fn of(place: &Place) -> Self {
        let options = SqliteConnectOptions::new().filename(place.path("forebay.db")).foreign_keys(false);
        let mut connection = options.connect().await.unwrap();
        sqlx::query("PRAGMA ignore_check_constraints = ON").execute(&mut connection).await.unwrap();
        let rows = sqlx::query(
            "SELECT t.name AS \"table\", c.name AS \"column\", c.type = 'INTEGER' AS is_number FROM sqlite_schema t JOIN pragma_table_info(t.name) c \
             WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite%' AND t.name <> '_sqlx_migrations' ORDER BY 1, c.cid",
        )
        .fetch_all(&mut connection)
        .await
        .unwrap();
        let target = |row: &sqlx::sqlite::SqliteRow| Target {
            table: row.get("table"),
            column: row.get("column"),
            is_number: row.get("is_number"),
        };
        Self { connection, targets: rows.iter().map(target).collect() }
    }

    async fn execute(&mut self, statement: &str) -> sqlx::Result<u64> {
        let done = sqlx::query(AssertSqlSafe(statement.to_owned())).execute(&mut self.connection).await;
        done.map(|done| done.rows_affected())
    }

    /// Copies of all tables, for [`Vandal::undo`].
    async fn remember(&mut self) {
        let mut tables: Vec<_> = self.targets.iter().map(|target| target.table.clone()).collect();
        tables.dedup();
        for table in tables {
            let copied = self.execute(&format!("CREATE TEMP TABLE was_{table} AS SELECT * FROM main.{table}")).await;
            copied.unwrap();
            let rows = sqlx::query(AssertSqlSafe(format!("SELECT count(*) FROM main.{table}")));
            let rows: i64 = rows.fetch_one(&mut self.connection).await.unwrap().get(0);
            assert!(rows > 0, "{table} has no row to break");
        }
    }

    async fn undo(&mut self, table: &str) {
        for statement in
            [format!("DELETE FROM main.{table}"), format!("INSERT INTO main.{table} SELECT * FROM was_{table}")]
        {
            self.execute(&statement).await.unwrap();
        }
    }
}

/// All that a host and the verbs read, by the name of the call.
async fn read_all(ledger: &SqliteLedger) -> Vec<(String, Result<()>)> {
    let stream = StreamName::new("payments").unwrap();
    let pipeline = PipelineName::new("fraud").unwrap();
    let now = Timestamp::from_micros(1 << 60);
    let mut told = Vec::new();
    let mut tell = |call: &str, result: Result<()>| told.push((call.to_owned(), result));
    let segments = ledger.read_table("segments").await;
    let mut ids = Vec::new();
    if let Ok(segments) = &segments {
        let column = arrow_array::cast::AsArray::as_string::<i32>(segments.column_by_name("segment").unwrap());
        ids = column.iter().flatten().map(|id| SegmentId::from_text(id.to_owned())).collect();
    }
    for table in ledger.table_names() {
        tell(table, ledger.read_table(table).await.map(drop));
    }
    for id in &ids {
        tell("segment", ledger.segment(id).await.map(drop));
    }
    tell("work", ledger.work(&pipeline, &stream, now, &[], 100).await.map(drop));
    tell("failed", ledger.failed(&pipeline, &stream, now, &[], 100).await.map(drop));
    tell("history", ledger.history(&pipeline, &stream, now, &[], 100).await.map(drop));
    let side = pipeline.side("v2").unwrap();
    tell("sides", ledger.sides().await.map(drop));
    tell("history of a side", ledger.history(&side, &stream, now, &[], 100).await.map(drop));
    tell("again", ledger.again(&pipeline, &stream, now, &[], 100).await.map(drop));
    tell("tables_of", ledger.tables_of(&pipeline, &ids).await.map(drop));
    let objects = ["payments/nothing".to_owned()];
    tell("objects_listed", ledger.objects_listed(&objects).await.map(drop));
    tell("host", ledger.host().await.map(drop));
    tell("shadows", ledger.shadows().await.map(drop));
    tell("last_number", ledger.last_number(&pipeline).await.map(drop));
    tell("open_groups", ledger.open_groups(&pipeline).await.map(drop));
    tell("unjournalled", ledger.unjournalled(&stream).await.map(drop));
    tell("schema", ledger.schema(&pipeline).await.map(drop));
    tell("held_changes", ledger.held_changes().await.map(drop));
    tell("active_module", ledger.active_module(&ModuleName::new("fraud").unwrap()).await.map(drop));
    tell("paused", ledger.paused(&PipelineName::new("other").unwrap()).await.map(drop));
    tell("asked", ledger.asked().await.map(drop));
    for request in 0..4 {
        tell("answered", ledger.answered(request).await.map(drop));
    }
    let active = ledger.active(&pipeline).await;
    if let Ok(Some(active)) = &active {
        let id = active.revision.id;
        tell("revision", ledger.revision(&pipeline, id).await.map(drop));
        tell("refined_by", ledger.refined_by(&pipeline, id, 10).await.map(drop));
        tell("is_cancelled", ledger.is_cancelled(&pipeline, id).await.map(drop));
    }
    tell("active", active.map(drop));
    let partition = Partition::new("generator:0");
    tell("next_position", ledger.next_position(&stream, &partition).await.map(drop));
    tell("latest_objects", ledger.latest_objects(&stream, &partition, &["a.jsonl".to_owned()]).await.map(drop));
    told
}

/// What is wrong with an error as such: whoever reads it must know where, and what to do.
fn flaw(target: &Target, error: &forebay_model::Error) -> Option<&'static str> {
    let text = error.to_string();
    let Target { table, column, is_number: _ } = target;
    // Where two columns contradict each other, the other one may be told as the place.
    let word = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).any(|word| word == column);
    let place = word && text.contains(&format!(" of table {table}"));
    match () {
        () if error.class() != ErrorClass::Operator => Some("it is no operator's"),
        () if !text.contains("forebay.db") => Some("it does not name the ledger"),
        () if !place => Some("it does not name the column and its table"),
        () if error.hint().is_none_or(|hint| !hint.contains("forebay recover --replace")) => Some("it has no way out"),
        () => None,
    }
}

#[test]
fn junk_in_any_column_is_refused_by_its_name_or_read_as_it_is() {
    let place = place_with_a_row_in_each_table();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (mut flaws, mut refused, mut tried) = (String::new(), 0, 0);
    runtime.block_on(async {
        let mut vandal = Vandal::of(&place).await;
        vandal.remember().await;
        let (clock, random) = (Arc::new(SteeredClock::new()), CountingRandom::new(7));
        let path = place.path("forebay.db");
        let ledger = SqliteLedger::open(&path, OpenMode::ReadOnly, clock.as_ref(), &random).await.unwrap();
        let whole = read_all(&ledger).await;
        assert!(whole.iter().all(|(_, result)| result.is_ok()), "{whole:?}");
        for target in std::mem::take(&mut vandal.targets) {
            for junk in JUNK {
                // What SQLite itself refuses to store nobody has to read.
                if !vandal.execute(&target.with(junk)).await.is_ok_and(|rows| rows > 0) {
                    continue;
                }
                tried += 1;
                for (call, result) in read_all(&ledger).await {
                    let Err(error) = result else { continue };
                    refused += 1;
                    if let Some(flaw) = flaw(&target, &error) {
                        let Target { table, column, is_number: _ } = &target;
                        writeln!(flaws, "{table}.{column} = {junk}: {call}: {flaw}: {}", error.chain()).unwrap();
                    }
                }
                vandal.undo(&target.table).await;
            }
        }
    });
    assert!(tried > 1_000 && refused > 500, "{tried} tried, {refused} refused");
    assert_eq!(flaws, "");
}

/// What a person asks with; each column's turn begins at another of them.
const VERBS: [&[&str]; 10] = [
    &["status"],
    &["deployments", "list"],
    &["segments", "list"],
    &["rejects", "list"],
    &["revisions", "list"],
    &["modules", "list"],
    &["schema", "list"],
    &["why", "a.jsonl"],
    &["why", "payments", "--where", "id = 3"],
    &["plan"],
];

/// A process that did not panic: it ended well, or with an error and what to do.
fn ended_well(what: &str, output: &std::process::Output) {
    let (out, err) = texts(output);
    let code = output.status.code();
    assert!(
        code.is_some_and(|code| code < 100) && !err.contains("panicked"),
        "{what}: {}\n{out}\n{err}",
        output.status
    );
    assert!(code == Some(0) || err.contains("error"), "{what} fails in silence: {}\n{out}\n{err}", output.status);
}

/// A host that starts, and lives for a while or ends with an error.
fn host_starts(place: &Place, what: &str) {
    let mut running = place.start();
    let began = std::time::Instant::now();
    while running.is_alive() && began.elapsed() < std::time::Duration::from_millis(1_500) {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let log = place.log();
    assert!(!log.contains("panicked") && (running.is_alive() || log.contains("error")), "{what}: {log}");
}

/// `FOREBAY_JUNK=all` has each verb meet each kind of junk in each column, and a host the likeliest; else they take turns.
#[test]
fn no_verb_and_no_host_panics_over_junk_in_any_column() {
    let all = std::env::var_os("FOREBAY_JUNK").is_some_and(|value| value == "all");
    let place = place_with_a_row_in_each_table();
    place.write("inbox/c.jsonl", &payments(300..310));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let targets = runtime.block_on(Vandal::of(&place)).targets;
    let whole = place.copy_ledger();
    for (turn, target) in targets.iter().enumerate() {
        // A number that is none, or a text; and one kind more.
        let likeliest = if target.is_number { "-1" } else { "'nonsense'" };
        let junk = if all { &JUNK[..] } else { &[likeliest, JUNK[turn % JUNK.len()]] };
        for junk in junk {
            place.put_back(&whole);
            let stored = runtime.block_on(async { Vandal::of(&place).await.execute(&target.with(junk)).await });
            if !stored.is_ok_and(|rows| rows > 0) {
                continue;
            }
            let what = format!("{}.{} = {junk}", target.table, target.column);
            let verbs = if all { VERBS.len() } else { 2 };
            for verb in VERBS.iter().cycle().skip(turn % VERBS.len()).take(verbs) {
                ended_well(&format!("{what}: {}", verb.join(" ")), &place.run(verb));
            }
            if *junk == likeliest && (all || turn % 3 == 0) {
                host_starts(&place, &what);
            }
        }
    }
}
