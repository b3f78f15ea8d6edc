//! What only the server can show: opening, damage, migration, leases, other processes. The contract is in `tests/suite/contract`.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

#[path = "../../../../../../tests/suite/postgres.rs"]
mod schema;

use std::borrow::Cow;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use forebay_model::ids::{PipelineName, StreamName};
use forebay_model::ports::{Advance, Landing, Ledger as _, Rebuilt};
use forebay_model::position::OrderedPosition;
use forebay_model::segment::Partition;
use forebay_model::{ErrorClass, Timestamp};
use forebay_postgres::Keeps;
use sqlx::migrate::{Migration, MigrationType, Migrator};

use self::schema::Schema;
use super::*;
use crate::sql::landing_steps;
use crate::stores::testing::{Counting, Still};

fn at(schema: &Schema) -> PostgresAddress {
    PostgresAddress::parse(&schema.url(), Keeps::Ledger).unwrap()
}

async fn open(schema: &Schema, mode: OpenMode) -> Result<PostgresLedger> {
    PostgresLedger::open(&at(schema), mode, &Still, &Counting(AtomicU64::new(7))).await
}

fn refused<T: std::fmt::Debug>(opened: Result<T>, says: &str) -> forebay_model::Error {
    let error = opened.unwrap_err();
    let mut told = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(of) = cause {
        told = format!("{told}: {of}");
        cause = of.source();
    }
    assert_eq!(error.class(), ErrorClass::Operator, "{told}");
    assert!(told.contains(says), "{told} says {says}");
    assert!(told.contains("postgres://") && error.hint().is_some(), "{told} names the place, and what to do");
    error
}

/// A landing that advances so many partitions.
fn landing(attempt: u128, from: Option<u64>, partitions: u64) -> Landing {
    let to = OrderedPosition::new(from.unwrap_or(0) + 10);
    let partition = |number: u64| Partition::new(format!("kafka:c/t/{number}"));
    let advance = |number| Advance { partition: partition(number), from: from.map(OrderedPosition::new), to };
    Landing {
        stream: StreamName::new("clicks").unwrap(),
        attempt: Uuid::from_u128(attempt),
        landed_at: Timestamp::from_micros(5),
        objects: Vec::new(),
        advances: (0..partitions).map(advance).collect(),
    }
}

async fn partitions(ledger: &PostgresLedger) -> usize {
    ledger.read_table("partitions").await.unwrap().num_rows()
}

/// Ends the sessions of this process's ledger, as a broken network does, or the server that heard nothing of a host for long.
async fn end_sessions(schema: &Schema) {
    let mut connection = schema.connect().await;
    let ended = sqlx::query(
        "SELECT pg_terminate_backend(l.pid) FROM pg_locks l WHERE l.locktype = 'advisory' \
         AND (l.classid::bigint << 32 | l.objid::bigint) = $1",
    )
    .bind(lease::key("host", schema.name()))
    .execute(&mut connection)
    .await
    .unwrap();
    assert_eq!(ended.rows_affected(), 1);
}

#[test]
fn both_databases_have_the_schema_in_the_same_version() {
    let last = |migrations: &Migrator| migrations.iter().map(|migration| migration.version).max();
    assert_eq!(last(&open::MIGRATIONS), last(&sqlx::migrate!()), "a migration is written for both");
}

#[tokio::test]
async fn it_is_made_once_and_keeps_its_id_and_content() {
    let Some(schema) = Schema::new() else { return };
    refused(open(&schema, OpenMode::Existing).await, "there is no ledger");
    refused(open(&schema, OpenMode::ReadOnly).await, "there is no ledger");
    let (random_a, random_b) = (Counting(AtomicU64::new(1)), Counting(AtomicU64::new(100)));
    let address = at(&schema);
    let (a, b) = tokio::join!(
        PostgresLedger::open(&address, OpenMode::Create, &Still, &random_a),
        PostgresLedger::open(&address, OpenMode::Create, &Still, &random_b),
    );
    let (ledger, same) = (a.unwrap(), b.unwrap());
    assert_eq!(ledger.id(), same.id());
    ledger.land(&landing(1, None, 1)).await.unwrap();
    let again = open(&schema, OpenMode::Create).await.unwrap();
    assert_eq!((again.id(), partitions(&again).await), (ledger.id(), 1));
    assert!(PostgresLedger::is_there(&address).await.unwrap());
    let there = PostgresLedger::must_not_be_there(&address).await.unwrap_err();
    assert_eq!(there.class(), ErrorClass::Fenced);
}

#[tokio::test]
async fn a_schema_that_was_made_for_it_is_used_and_one_of_another_program_is_not() {
    let Some(schema) = Schema::new() else { return };
    schema.sql(&format!("CREATE SCHEMA {}", schema.name())).await;
    PostgresLedger::must_not_be_there(&at(&schema)).await.unwrap();
    schema.sql("CREATE TABLE bookmarks (url text)").await;
    refused(open(&schema, OpenMode::Create).await, "forebay did not make, with bookmarks");
    schema.sql("DROP TABLE bookmarks").await;
    assert_eq!(partitions(&open(&schema, OpenMode::Create).await.unwrap()).await, 0);
}

#[tokio::test]
async fn another_process_reads_while_it_is_written_and_writers_wait_for_one_another() {
    let Some(schema) = Schema::new() else { return };
    let host = open(&schema, OpenMode::Create).await.unwrap();
    let reader = open(&schema, OpenMode::ReadOnly).await.unwrap();
    let other = open(&schema, OpenMode::Existing).await.unwrap();
    let mut half = host.store.begin().await.unwrap();
    landing_steps(&mut half.db(), &landing(1, None, 3)).await.unwrap();
    assert_eq!(partitions(&reader).await, 0, "a transaction is seen whole or not at all");
    let second = landing(2, Some(10), 3);
    let mut waits = Box::pin(other.land(&second));
    assert!(tokio::time::timeout(Duration::from_millis(200), &mut waits).await.is_err(), "it waits for the first");
    half.commit().await.unwrap();
    waits.await.unwrap();
    assert_eq!(partitions(&reader).await, 3);
    let at = reader.next_position(&second.stream, &second.advances.first().unwrap().partition).await.unwrap();
    assert_eq!(at, Some(OrderedPosition::new(20)));
    assert_eq!(reader.land(&landing(3, Some(20), 1)).await.unwrap_err().class(), ErrorClass::Operator);
    assert!(reader.lease_host().await.is_err());
}

/// The migrations of a forebay that is newer by one.
fn newer() -> Migrator {
    let mut migrations: Vec<_> = open::MIGRATIONS.iter().cloned().collect();
    let version = migrations.iter().map(|migration| migration.version).max().unwrap() + 1;
    let sql = sqlx::SqlSafeStr::into_sql_str("ALTER TABLE segments ADD COLUMN colour TEXT");
    migrations.push(Migration::new(version, Cow::Borrowed("next"), MigrationType::Simple, sql, false));
    Migrator::with_migrations(migrations)
}

#[tokio::test]
async fn an_older_schema_is_migrated_and_a_newer_one_refused() {
    let Some(schema) = Schema::new() else { return };
    let address = at(&schema);
    let ledger = open(&schema, OpenMode::Create).await.unwrap();
    ledger.land(&landing(1, None, 1)).await.unwrap();
    let upgraded = async |mode| PostgresLedger::open_with(&address, mode, &Still, &Counting::default(), &newer()).await;
    let lease = ledger.lease_host().await.unwrap();
    refused(upgraded(OpenMode::Create).await, "a running forebay holds it");
    drop(lease);
    ledger.host().await.unwrap();
    refused(upgraded(OpenMode::ReadOnly).await, "was opened to be read only");
    let now = upgraded(OpenMode::Create).await.unwrap();
    assert_eq!((now.id(), partitions(&now).await), (ledger.id(), 1));
    refused(open(&schema, OpenMode::Create).await, "schema version");
    refused(open(&schema, OpenMode::ReadOnly).await, "schema version");
}

#[tokio::test]
async fn damage_is_told_with_table_column_and_row() {
    let Some(schema) = Schema::new() else { return };
    let ledger = open(&schema, OpenMode::Create).await.unwrap();
    let pipeline: PipelineName = "p".parse().unwrap();
    schema.sql("INSERT INTO schemas VALUES ('p', 1, 'no JSON', 5)").await;
    refused(ledger.schema(&pipeline).await, "column schema of table schemas, in the row of pipeline \"p\", version 1");
    schema.sql("UPDATE schemas SET version = -1").await;
    refused(ledger.schema(&pipeline).await, "column version of table schemas");
    schema.sql("ALTER TABLE schemas ALTER COLUMN version TYPE text").await;
    refused(ledger.schema(&pipeline).await, "cached plan");
    let ledger = open(&schema, OpenMode::Existing).await.unwrap();
    refused(ledger.schema(&pipeline).await, "column version of table schemas");
    schema.sql("DROP TABLE schemas").await;
    refused(ledger.schema(&pipeline).await, "relation \"schemas\" does not exist");
    refused(open(&schema, OpenMode::Existing).await, "it has no table schemas");
    schema.sql("UPDATE _ledger SET id = 'x'").await;
    schema.sql("CREATE TABLE schemas ()").await;
    refused(open(&schema, OpenMode::Existing).await, "column id of table _ledger");
}

#[tokio::test]
async fn what_keeps_it_from_connecting_is_told_with_what_to_do() {
    let Some(schema) = Schema::new() else { return };
    let role = format!("{}_role", schema.name());
    schema.sql(&format!("CREATE ROLE {role} LOGIN PASSWORD 'right'")).await;
    let server = url::Url::parse(schema.server()).unwrap();
    let with = |change: &dyn Fn(&mut url::Url)| {
        let mut url = server.clone();
        change(&mut url);
        url.query_pairs_mut().append_pair("schema", schema.name());
        PostgresAddress::parse(url.as_str(), Keeps::Ledger).unwrap()
    };
    let opened = async |address: PostgresAddress| {
        PostgresLedger::open(&address, OpenMode::Create, &Still, &Counting::default()).await
    };
    let nobody = with(&|url| url.set_username(&role).unwrap());
    let hint = refused(opened(nobody).await, "permission denied");
    assert!(hint.hint().unwrap().contains("GRANT CREATE ON DATABASE"), "{hint:?}");
    let hint = refused(opened(with(&|url| url.set_path("no_such_database"))).await, "does not exist");
    assert!(hint.hint().unwrap().contains("createdb"), "{hint:?}");
    let gone = opened(with(&|url| url.set_port(Some(1)).unwrap())).await.unwrap_err();
    assert_eq!(gone.class(), ErrorClass::Retry);
    assert!(gone.hint().unwrap().contains("check that PostgreSQL runs at 127.0.0.1:1"), "{gone:?}");
    // Of servers that tests/services/up started.
    let mut connection = schema.connect().await;
    let strict = sqlx::query("SELECT 1 FROM pg_roles WHERE rolname = 'needs_password'");
    if strict.fetch_optional(&mut connection).await.unwrap().is_some() {
        schema.sql(&format!("GRANT needs_password TO {role}")).await;
        let password = |password: &'static str| {
            with(&|url| {
                url.set_username(&role).unwrap();
                url.set_password(Some(password)).unwrap();
            })
        };
        let wrong = refused(opened(password("hunter2")).await, "password authentication failed");
        assert!(wrong.hint().unwrap().contains("~/.pgpass") && !format!("{wrong:?}").contains("hunter2"), "{wrong:?}");
        refused(opened(password("right")).await, "permission denied");
    }
    schema.sql(&format!("DROP ROLE {}_role", schema.name())).await;
}

#[tokio::test]
async fn a_host_whose_lease_another_took_writes_nothing() {
    let Some(schema) = Schema::new() else { return };
    let zombie = open(&schema, OpenMode::Create).await.unwrap();
    let _lost = zombie.lease_host().await.unwrap().expect("the lease");
    zombie.land(&landing(1, None, 1)).await.unwrap();
    let other = open(&schema, OpenMode::Existing).await.unwrap();
    assert!(other.lease_host().await.unwrap().is_none());
    // It has a transaction under way, whose commit it will send; its session breaks.
    let mut late = zombie.store.begin().await.unwrap();
    landing_steps(&mut late.db(), &landing(2, Some(10), 1)).await.unwrap();
    end_sessions(&schema).await;
    let mut takes = Box::pin(other.lease_host());
    assert!(
        tokio::time::timeout(Duration::from_millis(300), &mut takes).await.is_err(),
        "it waits for what is under way"
    );
    late.commit().await.unwrap();
    let lease = takes.await.unwrap().expect("the lease of a host whose session ended");
    let holder = other.host().await.unwrap().unwrap();
    assert_eq!(holder.process, Some(std::process::id()));
    assert!(holder.host.is_some());
    let refused = zombie.land(&landing(3, Some(20), 1)).await.unwrap_err();
    assert_eq!(refused.class(), ErrorClass::Fenced);
    assert!(refused.to_string().contains("another one took it (process"), "{refused}");
    other.land(&landing(4, Some(20), 1)).await.unwrap();
    // Also when the other is gone again.
    drop(lease);
    assert_eq!(other.host().await.unwrap(), None);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(zombie.land(&landing(5, Some(30), 1)).await.unwrap_err().class(), ErrorClass::Fenced);
}

#[tokio::test]
async fn a_host_whose_session_breaks_takes_its_lease_again() {
    let Some(schema) = Schema::new() else { return };
    let host = open(&schema, OpenMode::Create).await.unwrap();
    let lease = host.lease_host().await.unwrap().expect("the lease");
    end_sessions(&schema).await;
    host.land(&landing(1, None, 1)).await.expect("nobody else took it");
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while host.host().await.unwrap().is_none() {
        assert!(std::time::Instant::now() < deadline, "the lease is taken again");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let other = open(&schema, OpenMode::Existing).await.unwrap();
    assert!(other.lease_host().await.unwrap().is_none());
    host.land(&landing(2, Some(10), 1)).await.unwrap();
    drop(lease);
    assert_eq!(host.host().await.unwrap(), None);
}

#[tokio::test]
async fn a_host_that_says_nothing_is_ended_by_the_server() {
    let Some(schema) = Schema::new() else { return };
    let host = open(&schema, OpenMode::Create).await.unwrap();
    let _lease = host.lease_host().await.unwrap().expect("the lease");
    let mut half = host.store.begin().await.unwrap();
    let row = crate::sql::query("SELECT current_setting('idle_in_transaction_session_timeout') AS told");
    let row = row.fetch_one(&mut half.db()).await.unwrap();
    assert_eq!(crate::sql::Cells::value::<String>(&row, "told").unwrap(), "30s");
    let mut session = lease::begin(&at(&schema)).await.unwrap();
    let row =
        sqlx::query("SELECT current_setting('idle_session_timeout') AS told").fetch_one(&mut session).await.unwrap();
    assert_eq!(row.try_get::<String, _>("told").unwrap(), "30s");
}

fn stop_at_filled(point: &str) {
    assert_ne!(point, "recover_filled", "the process dies");
}

#[tokio::test]
async fn a_rebuilt_ledger_appears_whole_or_not_at_all() {
    let Some(schema) = Schema::new() else { return };
    let address = at(&schema);
    let lease = PostgresLedger::lease_of(&address).await.unwrap().expect("the lease of what is not there");
    assert!(PostgresLedger::lease_of(&address).await.unwrap().is_none());
    assert!(PostgresLedger::holder_of(&address).await.unwrap().is_some());
    drop(lease);
    let old = open(&schema, OpenMode::Create).await.unwrap();
    let _stale = old.lease_host().await.unwrap().expect("the lease");
    old.land(&landing(1, None, 1)).await.unwrap();
    let (id, content) = (Uuid::from_u128(77), Rebuilt::default());
    let there = PostgresLedger::rebuild(&address, id, &content, false, &Still, |_| ()).await.unwrap_err();
    assert_eq!(there.class(), ErrorClass::Fenced);
    let (dying, of) = (address.clone(), content.clone());
    let died =
        tokio::spawn(async move { PostgresLedger::rebuild(&dying, id, &of, true, &Still, stop_at_filled).await });
    assert!(died.await.unwrap_err().is_panic());
    assert_eq!(partitions(&open(&schema, OpenMode::Existing).await.unwrap()).await, 1, "all is as it was");
    let aside = PostgresLedger::rebuild(&address, id, &content, true, &Still, |_| ()).await.unwrap().expect("a place");
    let new = open(&schema, OpenMode::Existing).await.unwrap();
    assert_eq!((new.id(), partitions(&new).await), (id, 0));
    assert_eq!(
        old.land(&landing(2, Some(10), 1)).await.unwrap_err().class(),
        ErrorClass::Fenced,
        "it is another's place"
    );
    let kept = PostgresAddress::parse(&aside, Keeps::Ledger).unwrap_err();
    assert!(aside.contains("_replaced_19700101t000000000001"), "{aside}: {kept}");
}

#[tokio::test]
async fn texts_with_a_zero_byte_are_taken() {
    let Some(schema) = Schema::new() else { return };
    let ledger = open(&schema, OpenMode::Create).await.unwrap();
    let pipeline: PipelineName = "p".parse().unwrap();
    ledger.pause(&pipeline, "why\0not", Timestamp::EPOCH).await.unwrap();
    assert_eq!(ledger.paused(&pipeline).await.unwrap().unwrap().reason, "why\u{2400}not");
    let names = ["a\0b".to_owned(), "a\\u0000b".to_owned(), "\\\0".to_owned()];
    assert_eq!(ledger.objects_listed(&names).await.unwrap(), [false, false, false]);
}

mod hosts;
