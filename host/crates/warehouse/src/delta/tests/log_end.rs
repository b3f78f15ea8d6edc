//! The log's two ends: a checkpoint when one is due, and what is older than the retention leaves it.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use forebay_model::ports::Warehouse as _;

use super::super::{DeltaOptions, DeltaWarehouse};
use super::support::*;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// The versions whose commits are in the log.
fn commits(world: &World) -> BTreeSet<u64> {
    (0..100).filter(|version| world.commit_file(*version).exists()).collect()
}

/// Versions with a checkpoint.
fn checkpoints(world: &World) -> Vec<u64> {
    let is_there = |version: &u64| world.commit_file(*version).with_extension("checkpoint.parquet").exists();
    (0..100).filter(is_there).collect()
}

/// As if all commits that there are had been written so long ago.
fn age(world: &World, by: Duration) {
    for version in commits(world) {
        let file = std::fs::File::options().write(true).open(world.commit_file(version)).unwrap();
        file.set_modified(SystemTime::now() - by).unwrap();
    }
}

/// Loads from one number to another, each of which replaces the row of the one before.
async fn load(warehouse: &DeltaWarehouse, numbers: std::ops::RangeInclusive<u64>) {
    for number in numbers {
        warehouse.commit(&a_load(number, stage(warehouse, "1", 1), &["1"])).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_made_with_a_checkpoint_each_64_commits_and_a_log_of_two_days() {
    let world = World::new();
    let DeltaOptions { clock, random, .. } = world.options();
    let warehouse = world.open_with(DeltaOptions::new(clock, random));
    load(&warehouse, 1..=65).await;
    assert_eq!(checkpoints(&world), [63]);
    let first = std::fs::read_to_string(world.commit_file(0)).unwrap();
    let metadata = first.lines().find(|line| line.starts_with("{\"metaData\"")).unwrap();
    let metadata: serde_json::Value = serde_json::from_str(metadata).unwrap();
    let configuration = &metadata["metaData"]["configuration"];
    assert_eq!(configuration["delta.checkpointInterval"], "64");
    assert_eq!(configuration["delta.logRetentionDuration"], "interval 172800 seconds");
}

#[tokio::test(flavor = "multi_thread")]
async fn maintenance_ends_the_log_at_the_checkpoint_before_its_retention() {
    let world = World::new();
    let warehouse = world.open();
    load(&warehouse, 1..=12).await;
    age(&world, DAY);
    warehouse.maintain("t", &world.maintenance()).await.unwrap();
    assert_eq!(commits(&world), (0..12).collect(), "within the retention of two days");
    age(&world, 3 * DAY);
    warehouse.maintain("t", &world.maintenance()).await.unwrap();
    assert_eq!(commits(&world), (9..12).collect(), "the checkpoint of version 9 stands for what is gone");
    for opened in [warehouse, world.open()] {
        assert_eq!(counts(&opened).await, are(&[("1", 1)]));
        assert_eq!(opened.committed("t", LEDGER, "p").await.unwrap().unwrap().number, 12);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_ends_the_log_at_the_one_before_its_retention() {
    let world = World::new();
    let warehouse = world.open();
    load(&warehouse, 1..=12).await;
    age(&world, 3 * DAY);
    load(&warehouse, 13..=19).await;
    assert_eq!(commits(&world), (0..19).collect(), "no checkpoint yet");
    load(&warehouse, 20..=20).await;
    assert_eq!(commits(&world), (9..20).collect());
    assert_eq!(checkpoints(&world), [9, 19]);
    for opened in [warehouse, world.open()] {
        assert_eq!(counts(&opened).await, are(&[("1", 1)]));
        assert_eq!(opened.committed("t", LEDGER, "p").await.unwrap().unwrap().number, 20);
    }
}
