//! The contract of `ports::LandingZone`: what the trait says, sentence by sentence, for each implementation.

mod objects;
mod own;

pub(crate) use own::entry;
mod records;

use std::sync::Arc;

use bytes::Bytes;
use forebay_landing::{DiskZone, MemoryZone};
use forebay_model::ports::{JournalEntry, LandingZone};
use forebay_model::{Result, Timestamp};
use futures::StreamExt;
use futures::stream::BoxStream;

use super::support::{CountingRandom, SteeredClock};
use crate::s3;

/// A new zone, and the folder that it lives in.
type Made = (Box<dyn LandingZone>, Option<tempfile::TempDir>);

fn memory() -> Made {
    (Box::new(MemoryZone::new(Arc::new(SteeredClock::new()))), None)
}

fn disk() -> Made {
    let folder = tempfile::tempdir().expect("a folder");
    let zone = DiskZone::open(folder.path().join("landing"), Arc::new(CountingRandom::new(2))).expect("a new zone");
    (Box::new(zone), Some(folder))
}

/// A zone in a server of this process.
fn s3() -> (Box<dyn LandingZone>, s3::Server) {
    let server = s3::Server::start();
    (Box::new(server.zone()), server)
}

/// A zone of its own on the server that `FOREBAY_S3` names; `None`, and a word about it, where there is none.
async fn s3_service() -> Option<Box<dyn LandingZone>> {
    let url = s3::service().await?;
    let prefix = format!("contract/{}", uuid::Uuid::new_v4());
    Some(Box::new(s3::zone(&url, &prefix, forebay_s3::Patience::default(), None)))
}

/// A body of these chunks.
fn body(chunks: &[&[u8]]) -> BoxStream<'static, Result<Bytes>> {
    let chunks: Vec<_> = chunks.iter().map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
    futures::stream::iter(chunks).boxed()
}

/// Makes a test of each function, for each implementation.
macro_rules! contract {
    ($($room:ident: $($name:ident),+ $(,)?;)+) => {
        mod in_memory {
            $($(#[tokio::test] async fn $name() {
                let (zone, _folder) = super::memory();
                super::$room::$name(zone.as_ref()).await;
            })+)+
        }
        mod on_disk {
            $($(#[tokio::test] async fn $name() {
                let (zone, _folder) = super::disk();
                super::$room::$name(zone.as_ref()).await;
            })+)+
        }
        mod on_s3 {
            $($(#[tokio::test] async fn $name() {
                let (zone, server) = super::s3();
                // More pages than one wherever something is listed.
                server.pages_of(2);
                super::$room::$name(zone.as_ref()).await;
            })+)+
        }
        mod on_an_s3_service {
            $($(#[tokio::test] async fn $name() {
                let Some(zone) = super::s3_service().await else { return };
                super::$room::$name(zone.as_ref()).await;
            })+)+
        }
    };
}

/// Half of an entry, as a disk leaves it that lied about syncing, then the whole of it.
async fn a_torn_entry_is_set_aside_and_written_anew(zone: &dyn LandingZone, tear: impl FnOnce(&JournalEntry)) {
    let entry = entry(1, "2026-01-02T03:04:05Z");
    tear(&entry);
    let torn = zone.read_journal(None).await.unwrap();
    assert_eq!((torn.entries.len(), torn.damaged.len()), (0, 1));
    for _ in 0..2 {
        zone.journal(&entry).await.unwrap();
        let journal = zone.read_journal(None).await.unwrap();
        assert_eq!((journal.entries.as_slice(), journal.damaged.len()), (&[entry.clone()][..], 0));
        assert_eq!(zone.journalled().await.unwrap(), [entry.attempt].into());
    }
}

#[tokio::test]
async fn a_torn_entry_is_written_anew_in_memory() {
    let zone = MemoryZone::new(Arc::new(SteeredClock::new()));
    a_torn_entry_is_set_aside_and_written_anew(&zone, |entry| assert!(zone.tear(entry).unwrap())).await;
    assert!(!zone.tear(&entry(1, "2026-01-02T03:04:05Z")).unwrap(), "what is there whole stays");
}

#[tokio::test]
async fn a_torn_entry_is_written_anew_on_disk() {
    let (zone, folder) = disk();
    let journal = folder.as_ref().unwrap().path().join("landing/_forebay/journal");
    let name = "20260102T030405.000000Z-00000000-0000-0000-0000-000000000001.json";
    a_torn_entry_is_set_aside_and_written_anew(zone.as_ref(), |_| {
        std::fs::create_dir_all(&journal).unwrap();
        std::fs::write(journal.join(name), b"{\"version\":1,\"ledg").unwrap();
    })
    .await;
    assert_eq!(std::fs::read(journal.join(format!("{name}.damaged"))).unwrap(), b"{\"version\":1,\"ledg");
}

#[tokio::test]
async fn a_damaged_entry_is_written_anew_on_s3() {
    let (zone, server) = s3();
    let name = "20260102T030405.000000Z-00000000-0000-0000-0000-000000000001.json";
    let key = format!("zone/of tests/_forebay/journal/{name}");
    a_torn_entry_is_set_aside_and_written_anew(zone.as_ref(), |_| server.put(&key, b"{\"version\":1,\"ledg")).await;
    assert_eq!(server.bytes(&format!("{key}.damaged")).unwrap(), b"{\"version\":1,\"ledg");
}

#[tokio::test]
async fn the_model_sweeps_what_a_dead_process_left() {
    let clock = Arc::new(SteeredClock::new());
    let zone = MemoryZone::new(clock);
    zone.leave_half("s/a", Bytes::from_static(b"ha"));
    assert!(zone.list("").await.unwrap().is_empty() && zone.open("s/a", 0..2, None).is_err());
    assert!(zone.sweep(Timestamp::EPOCH).await.unwrap().is_empty());
    assert_eq!(zone.sweep(Timestamp::from_micros(i64::MAX)).await.unwrap(), ["s/a"]);
    assert!(zone.half_written().is_empty());
}

contract! {
    objects:
        reading_gives_back_the_bytes_that_were_put,
        a_name_is_written_once,
        what_fails_half_way_leaves_nothing,
        names_never_lead_out_of_the_zone,
        what_is_not_there_is_an_error,
        an_object_that_is_not_what_landed_is_refused_before_it_is_read,
        lines_are_cut_while_they_land,
        the_header_stands_before_every_part,
        compressed_objects_have_a_head_and_no_cuts,
        objects_are_listed_by_prefix,
        deleting_twice_is_no_error;
    records:
        nothing_of_a_record_is_dropped,
        a_span_is_a_range_of_rows,
        large_spans_are_read_in_batches,
        an_envelope_without_rows_can_be_read,
        rows_that_are_not_there_are_an_error,
        an_envelope_tells_between_which_times_its_records_are;
    own:
        the_journal_is_written_once_and_read_in_order,
        the_newest_entries_are_read_alone,
        a_zone_belongs_to_one_ledger,
        what_is_kept_stays,
        what_is_its_own_is_not_listed;
}
