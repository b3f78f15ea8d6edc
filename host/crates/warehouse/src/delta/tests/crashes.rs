use std::sync::Arc;
use std::time::Duration;

use forebay_disk::{ForgetfulDisk, Left};
use forebay_model::ErrorClass;
use forebay_model::ports::Warehouse as _;

use super::super::DeltaOptions;
use super::support::*;

/// Two loads, the second torn as `tear` does; then the second is committed again.
async fn torn(tear: impl Fn(&str) -> String) {
    let world = World::new();
    let warehouse = world.open();
    warehouse.commit(&a_load(1, stage(&warehouse, "1", 5), &[])).await.unwrap();
    let load = a_load(2, stage(&warehouse, "2", 5), &[]);
    warehouse.commit(&load).await.unwrap();
    let file = world.commit_file(1);
    let whole = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, tear(&whole)).unwrap();
    let again = world.open();
    assert_eq!(again.committed("t", LEDGER, "p").await.unwrap().unwrap().number, 1);
    assert!(again.commit(&load).await.unwrap().committed_now);
    assert_eq!(counts(&again).await, are(&[("1", 5), ("2", 5)]));
    let aside: Vec<_> = std::fs::read_dir(world.table().join("_forebay/torn")).unwrap().collect();
    assert_eq!(aside.len(), 1, "it is kept, for who wants to look");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_last_commit_is_moved_aside() {
    torn(|_| String::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_last_commit_is_moved_aside() {
    torn(|whole| whole[..whole.len() / 2].to_owned()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_last_commit_of_zeros_is_moved_aside() {
    torn(|whole| "\0".repeat(whole.len())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_last_commit_that_ends_at_a_line_is_moved_aside() {
    torn(|whole| whole.rsplit_once('\n').unwrap().0.to_owned()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_first_commit_makes_no_table() {
    let world = World::new();
    let warehouse = world.open();
    let load = a_load(1, stage(&warehouse, "1", 5), &[]);
    warehouse.commit(&load).await.unwrap();
    std::fs::write(world.commit_file(0), "").unwrap();
    let again = world.open();
    assert!(again.table("t").await.unwrap().is_none());
    again.commit(&load).await.unwrap();
    assert_eq!(counts(&again).await, are(&[("1", 5)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_commit_that_another_stands_on_is_refused() {
    let world = World::new();
    let warehouse = world.open();
    for number in 1..=3 {
        warehouse.commit(&a_load(number, stage(&warehouse, "1", 5), &[])).await.unwrap();
    }
    std::fs::write(world.commit_file(1), "").unwrap();
    let error = world.open().table("t").await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Operator);
    assert!(error.to_string().contains("commit 1 is torn") && error.hint().is_some(), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn leftovers_of_killed_commits_are_swept_and_young_ones_spared() {
    let world = World::new();
    let warehouse = world.open();
    warehouse.commit(&a_load(1, stage(&warehouse, "1", 5), &[])).await.unwrap();
    let leftover = world.table().join("_delta_log/00000000000000000001.json#7");
    std::fs::write(&leftover, "{").unwrap();
    assert!(world.open().table("t").await.unwrap().is_some());
    assert!(leftover.exists(), "a live process may be writing it");
    world.clock.advance(Duration::from_secs(3600));
    assert!(world.open().table("t").await.unwrap().is_some());
    assert!(!leftover.exists());
}

/// Cuts the power after each call in turn that durability depends on, while a segment is staged and committed, and while
/// it is replaced. Whatever was answered is there; whatever was not is there as a whole or not at all, and can be
/// committed again.
#[tokio::test(flavor = "multi_thread")]
async fn a_power_cut_at_any_step_loses_nothing_that_was_answered() {
    let mut cuts = 0;
    for calls in 0.. {
        let world = World::new();
        let before = world.open();
        before.commit(&a_load(1, stage(&before, "1", 5), &[])).await.unwrap();
        let disk = Arc::new(ForgetfulDisk::cut_after(calls));
        let dying = world.open_with(DeltaOptions { disk: disk.clone(), ..world.options() });
        let rows = batch(&schema(), "2", 6);
        let staged = stage_batch(&dying, "2", &rows);
        let (mut answered, mut load) = (false, None);
        if let Ok(files) = staged {
            load = Some(a_load(2, files, &["1"]));
            answered = dying.commit(load.as_ref().unwrap()).await.is_ok();
        }
        let off = disk.is_off();
        disk.lose(|| Left::Nothing).unwrap();
        drop(dying);
        let after = world.open();
        let found = counts(&after).await;
        let (old, new) = (are(&[("1", 5)]), are(&[("2", 6)]));
        assert!(found == new || (found == old && !answered), "after {calls} calls: {found:?}, answered: {answered}");
        let load = load.unwrap_or_else(|| a_load(2, stage_batch(&after, "2", &rows).unwrap(), &["1"]));
        let receipt = after.commit(&load).await.unwrap();
        assert_eq!(receipt.committed_now, found == old);
        assert_eq!(counts(&after).await, new, "after {calls} calls");
        if !off {
            break;
        }
        cuts += 1;
    }
    assert!(cuts >= 8, "the power was cut {cuts} times");
}
