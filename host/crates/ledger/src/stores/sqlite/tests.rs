//! What only the file can show: opening it, damage, migration, other processes. The contract is in `tests/suite/contract`.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::borrow::Cow;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use forebay_model::ErrorClass;
use forebay_model::ports::{Advance, NewObject, NewSegment};
use forebay_model::position::Position;
use forebay_model::segment::SegmentContent;
use sqlx::migrate::{Migration, MigrationType, Migrator};

use forebay_model::ids::{Digest, PipelineName, SegmentId, StreamName};
use forebay_model::ports::{DeploymentState, Landing};
use forebay_model::position::OrderedPosition;
use forebay_model::revision::Revision;
use forebay_model::segment::Partition;
use forebay_model::time::Timestamp;
use sqlx::AssertSqlSafe;

use super::*;
use crate::sql::{CANDIDATES, FAILED_CANDIDATES, landing_steps};
use crate::stores::testing::{Counting, Still};

async fn open(path: &Path, mode: OpenMode) -> Result<SqliteLedger> {
    SqliteLedger::open(path, mode, &Still, &Counting(AtomicU64::new(7))).await
}

fn refused(opened: Result<SqliteLedger>, path: &Path) -> forebay_model::Error {
    let error = opened.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Operator, "{error}");
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error} names the file");
    assert!(error.hint().is_some(), "{error} says what to do");
    error
}

/// A landing of one envelope with so many partitions.
fn landing(attempt: u128, from: Option<u64>, partitions: u64) -> Landing {
    let partition = |number: u64| Partition::new(format!("kafka:c/t/{number}"));
    let first = OrderedPosition::new(from.unwrap_or(0));
    let next = OrderedPosition::new(from.unwrap_or(0) + 10);
    let segment = |number: u64| NewSegment {
        partition: partition(number),
        first: Position::Ordered(first),
        next: Some(Position::Ordered(next)),
        content: SegmentContent::Envelope { rows: number * 10..number * 10 + 10 },
        bytes: 100,
        records: Some(10),
        format: "json".to_owned(),
    };
    let advance = |number| Advance { partition: partition(number), from: from.map(OrderedPosition::new), to: next };
    Landing {
        stream: StreamName::new("clicks").unwrap(),
        attempt: Uuid::from_u128(attempt),
        landed_at: Timestamp::from_micros(5),
        objects: vec![NewObject {
            name: format!("clicks/{attempt}-records.parquet"),
            bytes: 1000,
            digest: Digest::of(b"envelope"),
            source: None,
            on_change: forebay_model::flow::OnChange::Replace,
            segments: (0..partitions).map(segment).collect(),
        }],
        advances: (0..partitions).map(advance).collect(),
    }
}

#[tokio::test]
async fn it_is_made_once_and_keeps_its_id_and_content() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("it's a ledger.db");
    refused(open(&path, OpenMode::Existing).await, &path);
    refused(open(&path, OpenMode::ReadOnly).await, &path);
    let ledger = open(&path, OpenMode::Create).await.unwrap();
    let id = ledger.id();
    ledger.land(&landing(1, None, 1)).await.unwrap();
    // As after a kill: nothing is closed, the log is not folded in.
    std::mem::forget(ledger);
    let again = open(&path, OpenMode::Create).await.unwrap();
    assert_eq!(again.id(), id);
    assert_eq!(again.read_table("segments").await.unwrap().num_rows(), 1);
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains(".new-")), "{left:?}");
}

#[tokio::test]
async fn another_process_reads_while_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("forebay.db");
    let host = open(&path, OpenMode::Create).await.unwrap();
    let lease = host.lease_host().await.unwrap();
    let reader = open(&path, OpenMode::ReadOnly).await.unwrap();
    let mut half = host.store.begin().await.unwrap();
    landing_steps(&mut half.db(), &landing(1, None, 3)).await.unwrap();
    assert_eq!(reader.read_table("segments").await.unwrap().num_rows(), 0, "a transaction is seen whole or not at all");
    half.commit().await.unwrap();
    assert_eq!(reader.read_table("segments").await.unwrap().num_rows(), 3);
    let error = reader.land(&landing(2, Some(10), 1)).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Operator);
    assert!(reader.lease_host().await.is_err());
    assert!(reader.host().await.unwrap().is_some());
    // A process that may write, but is not the host: it asks.
    let other = open(&path, OpenMode::Existing).await.unwrap();
    assert!(lease.is_some() && other.lease_host().await.unwrap().is_none());
    let request = other.ask("maintain", &serde_json::json!({}), Timestamp::from_micros(1)).await.unwrap();
    assert_eq!(host.asked().await.unwrap().len(), 1);
    host.answer(request, &serde_json::json!("done"), Timestamp::from_micros(2)).await.unwrap();
    assert_eq!(other.answered(request).await.unwrap(), Some(serde_json::json!("done")));
}

#[tokio::test]
async fn one_host_holds_a_ledger_by_whatever_link_it_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (path, link) = (folder.path().join("forebay.db"), folder.path().join("link.db"));
    let ledger = open(&path, OpenMode::Create).await.unwrap();
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let linked = open(&link, OpenMode::Existing).await.unwrap();
    let lease = ledger.lease_host().await.unwrap();
    assert!(lease.is_some() && linked.lease_host().await.unwrap().is_none());
    assert_eq!(linked.host().await.unwrap().unwrap().process, Some(std::process::id()));
    drop(lease);
    assert!(linked.lease_host().await.unwrap().is_some());
}

#[tokio::test]
async fn a_reader_opens_what_nobody_has_open() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("forebay.db");
    let ledger = open(&path, OpenMode::Create).await.unwrap();
    ledger.land(&landing(1, None, 2)).await.unwrap();
    ledger.close().await;
    assert!(!open::beside(&path, "-wal").exists(), "closing folds the log in");
    let reader = open(&path, OpenMode::ReadOnly).await.unwrap();
    assert_eq!(reader.read_table("segments").await.unwrap().num_rows(), 2);
}

#[tokio::test]
async fn damage_is_told_with_the_file_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("forebay.db");
    let ledger = open(&path, OpenMode::Create).await.unwrap();
    for number in 0..20 {
        ledger.land(&landing(u128::from(number), (number > 0).then_some(number * 10), 20)).await.unwrap();
    }
    ledger.close().await;
    let whole = std::fs::read(&path).unwrap();
    let mut scrambled = whole.clone();
    let middle = scrambled.len() / 2;
    scrambled[middle..middle + 8192].fill(0xa5);
    let truncated = &whole[..whole.len() / 2];
    let cases: [(&str, &[u8]); 6] = [
        ("truncated", truncated),
        ("truncated within a page", &whole[..whole.len() - 100]),
        ("empty", b""),
        (
            "text",
            b"this is not a database, whatever it is called; it has more bytes than a header has, to be sure of it",
        ),
        ("half a header", &whole[..50]),
        ("scrambled", &scrambled),
    ];
    for (what, bytes) in cases {
        std::fs::write(&path, bytes).unwrap();
        let error = refused(open(&path, OpenMode::Create).await, &path);
        assert!(error.hint().unwrap().contains("backup"), "{what}: {error}");
        assert_eq!(std::fs::read(&path).unwrap(), bytes, "{what}: it is left as it is");
    }
    // Another program's file.
    std::fs::remove_file(&path).unwrap();
    let mut other = sqlx::ConnectOptions::connect(
        &sqlx::sqlite::SqliteConnectOptions::new().filename(&path).create_if_missing(true),
    )
    .await
    .unwrap();
    sqlx::query("CREATE TABLE bookmarks (url TEXT)").execute(&mut other).await.unwrap();
    sqlx::Connection::close(other).await.unwrap();
    refused(open(&path, OpenMode::Create).await, &path);
    // A log whose ledger is gone would be taken for the new one's.
    std::fs::remove_file(&path).unwrap();
    std::fs::write(open::beside(&path, "-wal"), b"log").unwrap();
    refused(open(&path, OpenMode::Create).await, &path);
    assert!(!path.exists());
    let nowhere = folder.path().join("no folder").join("forebay.db");
    refused(open(&nowhere, OpenMode::Create).await, &nowhere);
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
async fn an_older_schema_is_migrated_after_a_copy_and_a_newer_one_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("it's.db");
    let ledger = open(&path, OpenMode::Create).await.unwrap();
    ledger.land(&landing(1, None, 1)).await.unwrap();
    let upgraded = async |mode| SqliteLedger::open_with(&path, mode, &Still, &Counting::default(), &newer()).await;
    let lease = ledger.lease_host().await.unwrap();
    let held = refused(upgraded(OpenMode::Create).await, &path);
    assert!(held.to_string().contains("a running forebay holds it"), "{held}");
    drop(lease);
    refused(upgraded(OpenMode::ReadOnly).await, &path);
    let version = open::MIGRATIONS.iter().map(|migration| migration.version).max().unwrap();
    let backup = open::beside(&path, &format!(".v{version}.backup"));
    assert!(!backup.exists());

    let now = upgraded(OpenMode::Create).await.unwrap();
    assert_eq!(now.id(), ledger.id());
    assert_eq!(now.segment(&landed_id()).await.unwrap().map(|segment| segment.id), Some(landed_id()));
    let newer = refused(open(&path, OpenMode::Create).await, &path);
    assert!(newer.to_string().contains(&format!("schema version {}", version + 1)), "{newer}");
    refused(open(&path, OpenMode::ReadOnly).await, &path);

    let backup = open(&backup, OpenMode::ReadOnly).await.unwrap();
    assert_eq!((backup.id(), backup.read_table("segments").await.unwrap().num_rows()), (ledger.id(), 1));
}

#[tokio::test]
async fn deployments_of_the_first_version_are_there_after_the_migration() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("forebay.db");
    let first = Migrator::with_migrations(open::MIGRATIONS.iter().take(1).cloned().collect());
    let old = SqliteLedger::open_with(&path, OpenMode::Create, &Still, &Counting::default(), &first).await.unwrap();
    let pipeline: PipelineName = "p".parse().unwrap();
    let revision = Revision {
        pipeline: pipeline.clone(),
        stream: "s".parse().unwrap(),
        decoder: serde_json::Value::Null,
        steps: Vec::new(),
        routes: std::collections::BTreeMap::new(),
        rejects: "lake.rejects".parse().unwrap(),
    };
    let record = old.record_revision(&revision, Timestamp::EPOCH).await.unwrap();
    let active = DeploymentState::Active;
    old.deploy(&pipeline, record.id, active, "start", Timestamp::EPOCH).await.unwrap();
    old.close().await;
    let now = open(&path, OpenMode::Create).await.unwrap();
    assert_eq!(now.active(&pipeline).await.unwrap().map(|deployment| deployment.revision.id), Some(record.id));
    now.pause(&pipeline, "", Timestamp::EPOCH).await.unwrap();
    assert!(now.paused(&pipeline).await.unwrap().is_some());
}

fn landed_id() -> SegmentId {
    let landing = landing(1, None, 1);
    let segment = &landing.objects[0].segments[0];
    SegmentId::derive(&landing.stream, &segment.partition, &segment.first)
}

#[tokio::test]
async fn two_processes_that_make_it_at_once_share_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("forebay.db");
    let (random_a, random_b) = (Counting(AtomicU64::new(1)), Counting(AtomicU64::new(100)));
    let (a, b) = tokio::join!(
        SqliteLedger::open(&path, OpenMode::Create, &Still, &random_a),
        SqliteLedger::open(&path, OpenMode::Create, &Still, &random_b),
    );
    assert_eq!(a.unwrap().id(), b.unwrap().id());
}

#[tokio::test]
async fn ten_thousand_segments_are_listed_within_a_second_and_work_uses_its_indexes() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(&folder.path().join("forebay.db"), OpenMode::Create).await.unwrap();
    let landing = landing(1, None, 10_000);
    // Of three, since a busy machine's pause is not the ledger's.
    let mut best = Duration::MAX;
    for attempt in 0..3 {
        let landing = Landing {
            attempt: Uuid::from_u128(attempt),
            stream: StreamName::new(format!("s{attempt}")).unwrap(),
            objects: vec![NewObject { name: format!("{attempt}"), ..landing.objects[0].clone() }],
            ..landing.clone()
        };
        let start = std::time::Instant::now();
        assert_eq!(ledger.land(&landing).await.unwrap().listed.len(), 10_000);
        best = best.min(start.elapsed());
    }
    println!("10,000 segments listed in {best:?}");
    assert!(best < Duration::from_secs(1), "{best:?}");
    for statement in [CANDIDATES, FAILED_CANDIDATES] {
        let plan = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}")))
            .bind("p")
            .bind("s")
            .bind(0)
            .bind(10)
            .bind(i64::MAX)
            .fetch_all(&ledger.store.readers)
            .await
            .unwrap();
        for step in plan {
            let detail: String = sqlx::Row::try_get(&step, "detail").unwrap();
            // What the statement makes itself: the candidates.
            let temporary = detail.starts_with("SCAN c");
            assert!(temporary || !detail.starts_with("SCAN") || detail.contains("INDEX"), "{detail}");
        }
    }
}
