use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_schema::{DataType, Field};
use datafusion::prelude::SessionContext;
use forebay_model::ErrorClass;
use forebay_model::Load;
use forebay_model::ports::Warehouse as _;
use uuid::Uuid;

use super::support::*;

fn faulty(world: &World) -> (super::super::DeltaWarehouse, Arc<Faults>) {
    let faults: Arc<Faults> = Arc::default();
    let shared = faults.clone();
    let warehouse = world.layered(move |inner| Arc::new(FaultyStore { inner, faults: shared.clone() }));
    (warehouse, faults)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_is_lost_is_found() {
    let world = World::new();
    let (warehouse, faults) = faulty(&world);
    for number in 1..=2 {
        faults.lose_answers.store(1, Ordering::SeqCst);
        let load = a_load(number, stage(&warehouse, &number.to_string(), 5), &[]);
        let receipt = warehouse.commit(&load).await.unwrap();
        assert_eq!((receipt.table_version, receipt.committed_now), (number - 1, true));
        assert_eq!(faults.lose_answers.load(Ordering::SeqCst), 0, "the answer was lost");
        assert!(!warehouse.commit(&load).await.unwrap().committed_now);
    }
    assert_eq!(counts(&warehouse).await, are(&[("1", 5), ("2", 5)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_failed_is_repeated() {
    let world = World::new();
    let (warehouse, faults) = faulty(&world);
    for number in 1..=2 {
        faults.refuse_commits.store(1, Ordering::SeqCst);
        let load = a_load(number, stage(&warehouse, &number.to_string(), 5), &[]);
        assert_eq!(warehouse.commit(&load).await.unwrap_err().class(), ErrorClass::Retry);
        assert_eq!(
            warehouse.committed("t", LEDGER, "p").await.unwrap().map(|load| load.number),
            (number > 1).then_some(1)
        );
        assert!(warehouse.commit(&load).await.unwrap().committed_now);
    }
    assert_eq!(counts(&warehouse).await, are(&[("1", 5), ("2", 5)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_processes_one_commits_a_load() {
    let world = World::new();
    let (one, other) = (world.open(), world.open());
    // The first makes the table, the others add to it: both races.
    for number in 1..=4 {
        let load = a_load(number, stage(&one, &number.to_string(), 5), &[]);
        let (first, second) = tokio::join!(one.commit(&load), other.commit(&load));
        let (first, second) = (first.unwrap(), second.unwrap());
        assert!(first.committed_now ^ second.committed_now, "{first:?} {second:?}");
        assert_eq!(first.table_version, second.table_version);
    }
    assert_eq!(counts(&one).await, are(&[("1", 5), ("2", 5), ("3", 5), ("4", 5)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zombie_that_fell_behind_is_fenced() {
    let world = World::new();
    let (zombie, live) = (world.open(), world.open());
    zombie.commit(&a_load(1, stage(&zombie, "1", 5), &[])).await.unwrap();
    live.commit(&a_load(2, stage(&live, "2", 5), &[])).await.unwrap();
    // Its snapshot is of load 1.
    let load = Load { id: Uuid::from_u128(1), ..a_load(2, stage(&zombie, "3", 5), &[]) };
    let error = zombie.commit(&load).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Fenced);
    assert!(error.hint().unwrap().contains("ledger"), "{error:?}");
    assert_eq!(counts(&live).await, are(&[("1", 5), ("2", 5)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replace_from_a_snapshot_older_than_a_compaction_removes_the_rows() {
    let world = World::new();
    let (loader, maintainer) = (world.open(), world.open());
    let files = ["1", "2", "3"].into_iter().flat_map(|name| stage(&loader, name, 5)).collect();
    loader.commit(&a_load(1, files, &[])).await.unwrap();
    let report = maintainer.maintain("t", &world.maintenance()).await.unwrap();
    assert_eq!(report.files_after, 1);
    // The loader's snapshot still has the three files.
    let receipt = loader.commit(&a_load(2, stage(&loader, "2", 4), &["2"])).await.unwrap();
    assert_eq!((receipt.rows_removed, receipt.table_version), (5, 2));
    assert_eq!(counts(&loader).await, are(&[("1", 5), ("2", 4), ("3", 5)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_commits_read_no_more_each_time() {
    let world = World::new();
    let (warehouse, faults) = faulty(&world);
    let mut reads = Vec::new();
    for number in 1..=300 {
        let load = a_load(number, stage(&warehouse, "1", 1), &["1"]);
        let before = faults.reads.load(Ordering::SeqCst);
        warehouse.commit(&load).await.unwrap();
        reads.push(faults.reads.load(Ordering::SeqCst) - before);
    }
    let (early, late) = (&reads[20..40], &reads[280..300]);
    assert_eq!(early.iter().sum::<usize>(), late.iter().sum::<usize>(), "{reads:?}");
    assert!(world.table().join("_delta_log/00000000000000000299.checkpoint.parquet").exists());
    // Reopened after the last checkpoint: the log since then is all that the snapshot stands on.
    let slot = warehouse.slot("t");
    let state = slot.lock().await;
    let table = &state.as_ref().unwrap().table;
    let first = (0..300).find(|version| table.snapshot().unwrap().version_timestamp(*version).is_some());
    assert_eq!(first, None, "a snapshot on a checkpoint knows no commit before it");
    drop(state);
    assert_eq!(counts(&warehouse).await, are(&[("1", 1)]));
    // A table that is opened again finds the last load.
    let committed = world.open().committed("t", LEDGER, "p").await.unwrap().unwrap();
    assert_eq!((committed.number, committed.id), (300, Some(a_load(300, vec![], &[]).id)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_fails_does_not_fail_the_load() {
    let world = World::new();
    let (warehouse, faults) = faulty(&world);
    faults.refuse_checkpoints.store(usize::MAX, Ordering::SeqCst);
    for number in 1..=12 {
        assert!(warehouse.commit(&a_load(number, stage(&warehouse, "1", 1), &["1"])).await.unwrap().committed_now);
    }
    assert!(faults.refuse_checkpoints.load(Ordering::SeqCst) < usize::MAX, "one was tried");
    assert_eq!(counts(&warehouse).await, are(&[("1", 1)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_whose_commit_left_the_log_is_known_by_its_files() {
    let world = World::new();
    let warehouse = world.open();
    let loads: Vec<_> = (1..=10).map(|number| a_load(number, stage(&warehouse, &number.to_string(), 1), &[])).collect();
    for load in &loads {
        warehouse.commit(load).await.unwrap();
    }
    // As the log's retention would, once maintenance has written a checkpoint.
    for version in 0..9 {
        std::fs::remove_file(world.commit_file(version)).unwrap();
    }
    let last = world.commit_file(9);
    let without_note: String = std::fs::read_to_string(&last)
        .unwrap()
        .lines()
        .map(|line| if line.contains("commitInfo") { "{\"commitInfo\":{}}\n".to_owned() } else { format!("{line}\n") })
        .collect();
    std::fs::write(&last, without_note).unwrap();
    let again = world.open();
    assert_eq!(again.committed("t", LEDGER, "p").await.unwrap().unwrap().id, None);
    assert!(!again.commit(&loads[9]).await.unwrap().committed_now);
    let other = a_load(10, stage(&again, "x", 1), &[]);
    assert_eq!(again.commit(&other).await.unwrap_err().class(), ErrorClass::Fenced);
    assert_eq!(counts(&again).await.len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_others_made_is_left_alone() {
    let world = World::new();
    let warehouse = world.open();
    warehouse.commit(&a_load(1, stage(&warehouse, "1", 1), &[])).await.unwrap();
    let log = std::fs::read_to_string(world.commit_file(0)).unwrap();
    std::fs::write(world.commit_file(0), log.replace("forebay.ledger", "other.owner")).unwrap();
    let again = world.open();
    let error = again.commit(&a_load(2, stage(&again, "2", 1), &[])).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::RejectRows);
    assert!(error.to_string().contains("not made by forebay"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_found_without_reading_files_however_many_columns_there_are() {
    let world = World::new();
    let warehouse = world.open();
    let wide = schema_of((0..200).map(|n| Field::new(format!("c{n}"), DataType::Int64, true)).collect());
    let mut files = Vec::new();
    for name in ["1", "2"] {
        files.extend(stage_batch(&warehouse, name, &batch(&wide, name, 10)).unwrap());
    }
    let paths: Vec<_> = files.iter().map(|file| world.table().join(&file.path)).collect();
    warehouse.commit(&load_of(1, &wide, files, &[])).await.unwrap();
    let ruin = |path: &std::path::Path| {
        let bytes = std::fs::metadata(path).unwrap().len();
        std::fs::write(path, vec![0; usize::try_from(bytes).unwrap()]).unwrap();
    };
    ruin(&paths[0]);
    // A query for the other segment does not open it: for that the table's properties count all columns in.
    let context = SessionContext::new();
    context.register_table("t", warehouse.provider("t").await.unwrap().unwrap()).unwrap();
    let sql = format!("SELECT count(c199), count(*) FROM t WHERE _forebay_segment = '{}'", segment("2"));
    let found = context.sql(&sql).await.unwrap().collect().await.unwrap();
    assert_eq!(found[0].column(1).as_primitive::<Int64Type>().value(0), 10);
    ruin(&paths[1]);
    // Nobody can read the files any more: only their statistics tell that one of them is all of segment 1.
    for warehouse in [world.open(), warehouse] {
        let receipt = warehouse.commit(&load_of(2, &wide, vec![], &["1"])).await.unwrap();
        assert_eq!(receipt.rows_removed, 10);
    }
    assert_eq!(world.open().table("t").await.unwrap().unwrap().files, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_see_the_last_commit_and_find_a_segment() {
    let world = World::new();
    let (warehouse, reader) = (world.open(), world.open());
    assert!(reader.provider("t").await.unwrap().is_none());
    for number in 1..=3 {
        warehouse.commit(&a_load(number, stage(&warehouse, &number.to_string(), 10), &[])).await.unwrap();
        let context = SessionContext::new();
        context.register_table("t", reader.provider("t").await.unwrap().unwrap()).unwrap();
        let answer = async |sql: String| {
            let batches = context.sql(&sql).await.unwrap().collect().await.unwrap();
            batches[0].column(0).as_primitive::<Int64Type>().value(0)
        };
        assert_eq!(answer("SELECT count(*) FROM t".into()).await, i64::try_from(number).unwrap() * 10);
        let point = format!("SELECT count(*) FROM t WHERE _forebay_segment = '{}' AND id = 7", segment("1"));
        assert_eq!(answer(point).await, 1);
        let time = "SELECT count(*) FROM t WHERE _forebay_loaded_at = timestamp '2026-01-02T03:04:05Z'";
        assert_eq!(answer(time.into()).await, i64::try_from(number).unwrap() * 10);
    }
    assert_eq!(ids(&reader.rows("t").await.unwrap().unwrap()), 3 * 45);
}

/// Says what a commit costs: `cargo test --lib measure_ -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn measure_commits() {
    let world = World::new();
    let warehouse = world.open_with(super::super::DeltaOptions { checkpoint_interval: 64, ..world.options() });
    let mut took = Vec::new();
    for number in 1..=1000_u64 {
        let load = a_load(number, stage(&warehouse, &number.to_string(), 10), &[]);
        let start = std::time::Instant::now();
        warehouse.commit(&load).await.unwrap();
        took.push(start.elapsed().as_secs_f64() * 1e3);
    }
    for range in [0..100, 450..550, 900..1000] {
        let mut part = took[range.clone()].to_vec();
        part.sort_by(f64::total_cmp);
        println!("commits {range:?}: median {:.1} ms, p90 {:.1} ms, most {:.1} ms", part[50], part[90], part[99]);
    }
    let files = (0..100).flat_map(|name| stage(&warehouse, &format!("x{name}"), 10)).collect();
    let start = std::time::Instant::now();
    warehouse.commit(&a_load(1001, files, &[])).await.unwrap();
    println!("100 files in one commit: {:.1} ms", start.elapsed().as_secs_f64() * 1e3);
    let start = std::time::Instant::now();
    warehouse.commit(&a_load(1002, vec![], &["7", "8"])).await.unwrap();
    println!("two segments of 1,100 removed: {:.1} ms", start.elapsed().as_secs_f64() * 1e3);
}
