//! Bytes of a table's Parquet files that changed after they were written: wherever they are, the Parquet reader sees none of them.

use std::path::PathBuf;

use forebay_model::ErrorClass;
use forebay_model::ports::Warehouse as _;

use super::super::checkpoint::digest_path;
use super::support::*;

/// Turns a bit of each of some bytes, one at a time: the first and last ones (of the magic, the metadata and its length), and every
/// so many in between.
fn damages(whole: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    let (end, step) = (whole.len().saturating_sub(64), whole.len() / 24 + 1);
    let places = (0..whole.len()).filter(move |at| *at < 8 || *at >= end || at % step == 0);
    places.map(|at| {
        let mut bytes = whole.to_vec();
        bytes[at] ^= 0x40;
        bytes
    })
}

/// One file that has rows of two segments.
async fn compacted(world: &World) -> PathBuf {
    let warehouse = world.open();
    for (number, name) in [(1, "1"), (2, "2")] {
        warehouse.commit(&a_load(number, stage(&warehouse, name, 300), &[])).await.unwrap();
    }
    assert_eq!(warehouse.maintain("t", &world.maintenance()).await.unwrap().files_after, 1);
    let log = std::fs::read_to_string(world.commit_file(2)).unwrap();
    let added = log.lines().find(|line| line.starts_with("{\"add\"")).unwrap();
    let added: serde_json::Value = serde_json::from_str(added).unwrap();
    world.table().join(added["add"]["path"].as_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_file_is_read_only_where_it_is_as_it_was_written() {
    let world = World::new();
    let file = compacted(&world).await;
    let whole = std::fs::read(&file).unwrap();
    let warehouse = world.open();
    let replacing = a_load(3, stage(&warehouse, "1", 7), &["1"]);
    let mut tried = 0;
    for damaged in damages(&whole) {
        std::fs::write(&file, damaged).unwrap();
        let replaced = warehouse.commit(&replacing).await.unwrap_err();
        let remembered = warehouse.history("t").await.unwrap_err();
        for error in [replaced, remembered] {
            let text = format!("{error}: {:?}", std::error::Error::source(&error));
            assert_eq!(error.class(), ErrorClass::Operator, "{text}");
            assert!(text.contains(file.to_str().unwrap()) && text.contains("as its name says"), "{text}");
        }
        tried += 1;
    }
    assert!(tried > 80, "{tried}");
    std::fs::write(&file, whole).unwrap();
    warehouse.commit(&replacing).await.unwrap();
    assert_eq!(counts(&warehouse).await, are(&[("1", 7), ("2", 300)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_is_read_only_where_it_is_as_it_was_written() {
    let world = World::new();
    let warehouse = world.open();
    for number in 1..=11 {
        warehouse.commit(&a_load(number, stage(&warehouse, "1", 3), &["1"])).await.unwrap();
    }
    let checkpoint = world.commit_file(9).with_extension("checkpoint.parquet");
    let whole = std::fs::read(&checkpoint).unwrap();
    let digest = digest_path(&checkpoint).unwrap();
    for damaged in damages(&whole) {
        std::fs::write(&checkpoint, damaged).unwrap();
        let error = world.open().table("t").await.unwrap_err();
        let text = format!("{error}: {:?}", std::error::Error::source(&error));
        assert_eq!(error.class(), ErrorClass::Operator, "{text}");
        assert!(text.contains("is not as it was written") && text.contains(digest.to_str().unwrap()), "{text}");
    }
    std::fs::write(&checkpoint, whole).unwrap();
    assert_eq!(counts(&world.open()).await, are(&[("1", 3)]));
    // As if another program had written it.
    std::fs::remove_file(&digest).unwrap();
    assert_eq!(world.open().table("t").await.unwrap().unwrap().version, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_digest_of_a_checkpoint_goes_with_it() {
    let world = World::new();
    let warehouse = world.open();
    let mut number = 0;
    let mut load_until = async |last: u64| {
        while number < last {
            number += 1;
            warehouse.commit(&a_load(number, stage(&warehouse, "1", 1), &["1"])).await.unwrap();
        }
    };
    load_until(10).await;
    let checkpoint = |version| world.commit_file(version).with_extension("checkpoint.parquet");
    let digest = |version| digest_path(&checkpoint(version)).unwrap();
    assert!(digest(9).exists());
    // What a death in the middle of keeping one leaves.
    std::fs::write(digest(9).with_extension("sha256#7"), "").unwrap();
    std::fs::remove_file(checkpoint(9)).unwrap();
    std::fs::remove_file(world.table().join("_delta_log/_last_checkpoint")).unwrap();
    load_until(20).await;
    let kept: Vec<_> =
        std::fs::read_dir(digest(9).parent().unwrap()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(kept, [digest(19)]);
}
