use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use deltalake::operations::vacuum::VacuumMode;
use forebay_model::ports::{MaintainOptions, MaintainReport, Warehouse as _};

use super::super::DeltaOptions;
use super::super::log::data_files;
use super::support::*;

const DAY: Duration = Duration::from_secs(24 * 3600);

fn names(table: &Path) -> Vec<String> {
    data_files(table).unwrap().into_keys().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn vacuum_removes_what_no_version_needs_and_nothing_else() {
    let world = World::new();
    let warehouse = world.open();
    warehouse.commit(&a_load(1, stage(&warehouse, "1", 5), &[])).await.unwrap();
    warehouse.commit(&a_load(2, stage(&warehouse, "1", 6), &["1"])).await.unwrap();
    let orphan = stage(&warehouse, "2", 5);
    let kept = stage(&warehouse, "3", 5);
    let foreign = world.table().join("part-0.parquet");
    std::fs::write(&foreign, "on its way").unwrap();
    assert_eq!(names(&world.table()).len(), 5);
    // Another process: this one's staged files are pending, and never vacuumed.
    let other = world.open();
    let options = |days| MaintainOptions {
        retention: DAY * 2,
        keep_staged: vec![kept[0].path.clone()],
        now: forebay_model::ports::Clock::now(world.clock.as_ref()).plus(DAY * days),
        ..world.maintenance()
    };
    let young = other.maintain("t", &options(0)).await.unwrap();
    assert_eq!(young.vacuumed_files, 0);
    let mine = warehouse.maintain("t", &options(3)).await.unwrap();
    assert_eq!(mine.vacuumed_files, 2, "the replaced file and the other engine's, not what is pending");
    let look = MaintainOptions { dry_run: true, ..options(3) };
    assert_eq!(other.maintain("t", &look).await.unwrap().vacuumed_files, 1);
    let old = other.maintain("t", &options(3)).await.unwrap();
    assert_eq!((old.vacuumed_files, old.vacuumed_bytes), (1, orphan[0].bytes));
    let left = names(&world.table());
    assert_eq!(left.len(), 2);
    assert!(left.contains(&kept[0].path));
    // What the ledger had open still loads.
    other.commit(&a_load(3, kept, &[])).await.unwrap();
    assert_eq!(counts(&other).await, are(&[("1", 6), ("3", 5)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_staged_for_a_table_that_never_came_is_vacuumed_when_it_is_old() {
    let world = World::new();
    let (orphan, kept) = (stage(&world.open(), "1", 5), stage(&world.open(), "2", 5));
    // A folder of another's in the warehouse is no table, and what is in it is not forebay's.
    let foreign = world.table().join("part-0.parquet");
    std::fs::write(&foreign, "rows of another's").unwrap();
    let other = world.open();
    let options = MaintainOptions { keep_staged: vec![kept[0].path.clone()], ..world.maintenance() };
    assert_eq!(other.maintain("t", &options).await.unwrap(), MaintainReport::default(), "it is young");
    let later = MaintainOptions { now: options.now.plus(DAY * 100), ..options };
    let look = MaintainOptions { dry_run: true, ..later.clone() };
    let wanted = MaintainReport { vacuumed_files: 1, vacuumed_bytes: orphan[0].bytes, ..MaintainReport::default() };
    assert_eq!(other.maintain("t", &look).await.unwrap(), wanted);
    assert_eq!(names(&world.table()).len(), 3);
    assert_eq!(other.maintain("t", &later).await.unwrap(), wanted);
    assert_eq!(names(&world.table()), [kept[0].path.clone(), "part-0.parquet".to_owned()]);
    assert!(other.table("t").await.unwrap().is_none());
    other.commit(&a_load(1, kept, &[])).await.unwrap();
    assert_eq!(counts(&other).await, are(&[("2", 5)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_vacuum_of_another_engine_spares_staged_files() {
    let world = World::new();
    let warehouse = world.open();
    warehouse.commit(&a_load(1, stage(&warehouse, "1", 5), &[])).await.unwrap();
    let staged = stage(&warehouse, "2", 5);
    std::fs::write(world.table().join("stray.parquet"), "x").unwrap();
    let table = warehouse.load_table("t").await.unwrap().unwrap();
    let (_, metrics) = table
        .vacuum()
        .with_mode(VacuumMode::Full)
        .with_retention_period(chrono::Duration::zero())
        .with_enforce_retention_duration(false)
        .await
        .unwrap();
    assert_eq!(metrics.files_deleted, ["stray.parquet"], "it did vacuum");
    warehouse.commit(&a_load(2, staged, &[])).await.unwrap();
    assert_eq!(counts(&warehouse).await, are(&[("1", 5), ("2", 5)]));
}

/// Maintains while `load` is committed by another process, just when the compaction has begun to write.
async fn compact_while(removes: &[&str]) -> (World, MaintainReport) {
    let world = World::new();
    let loader = Arc::new(world.open());
    let files = ["1", "2"].into_iter().flat_map(|name| stage(&loader, name, 5)).collect();
    loader.commit(&a_load(1, files, &[])).await.unwrap();
    let load = a_load(2, stage(&loader, "3", 7), removes);
    let runtime = tokio::runtime::Handle::current();
    let options = world.options();
    let random = Arc::new(Intruding::new(options.random.clone(), move || {
        assert!(runtime.block_on(loader.commit(&load)).unwrap().committed_now);
    }));
    let maintainer = world.open_with(DeltaOptions { random, ..options });
    let report = maintainer.maintain("t", &world.maintenance()).await.unwrap();
    (world, report)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compaction_whose_files_a_load_took_away_is_thrown_away() {
    let (world, report) = compact_while(&["2"]).await;
    assert_eq!((report.compacted_files, report.files_after), (0, report.files_before));
    let warehouse = world.open();
    assert_eq!(counts(&warehouse).await, are(&[("1", 5), ("3", 7)]));
    assert_eq!(names(&world.table()).len(), 3, "what the compaction wrote is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compaction_goes_on_beside_loads_of_other_segments() {
    let (world, report) = compact_while(&[]).await;
    assert_eq!(report.compacted_files, 2);
    let warehouse = world.open();
    assert_eq!(counts(&warehouse).await, are(&[("1", 5), ("2", 5), ("3", 7)]));
    assert_eq!(warehouse.table("t").await.unwrap().unwrap().files, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn compacted_rows_stand_in_the_order_of_their_segments() {
    use arrow_array::cast::AsArray;
    let world = World::new();
    let warehouse = world.open();
    for (number, name) in (1..).zip(["3", "1", "2"]) {
        warehouse.commit(&a_load(number, stage(&warehouse, name, 5), &[])).await.unwrap();
    }
    warehouse.maintain("t", &world.maintenance()).await.unwrap();
    let log = std::fs::read_to_string(world.commit_file(3)).unwrap();
    assert!(log.contains("\"dataChange\":false") && !log.contains("\"dataChange\":true"), "{log}");
    let rows = warehouse.rows("t").await.unwrap().unwrap();
    let segments: Vec<_> =
        rows.column_by_name("_forebay_segment").unwrap().as_string::<i32>().iter().flatten().collect();
    assert!(segments.is_sorted(), "{segments:?}");
}
