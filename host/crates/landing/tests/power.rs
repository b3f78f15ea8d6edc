//! The power is cut between any two calls that durability hangs on.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use forebay_disk::{Disk, ForgetfulDisk, Left, Lie};
use forebay_landing::DiskZone;
use forebay_model::ports::{JournalEntry, Landing, LandingZone, Random, SplitRule, ZoneIdentity};
use forebay_model::{Compression, Digest, Result, StreamName, Timestamp};
use futures::StreamExt;
use uuid::Uuid;

#[derive(Debug, Default)]
struct Counting(AtomicU64);

impl Random for Counting {
    fn uuid(&self) -> Uuid {
        Uuid::from_u128(u128::from(self.bits()))
    }
    fn bits(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst)
    }
}

const OBJECTS: [&str; 2] = ["s/dt=2026-01-02/one", "s/dt=2026-01-03/two"];
const BYTES: &[u8] = b"{\"n\":1}\n{\"n\":2}\n";

fn identity() -> ZoneIdentity {
    ZoneIdentity { version: 1, ledger: Uuid::from_u128(9), since: Timestamp::EPOCH }
}

fn entry() -> JournalEntry {
    let (attempt, stream) = (Uuid::from_u128(7), StreamName::new("s").unwrap());
    let landing = Landing { stream, attempt, landed_at: Timestamp::EPOCH, objects: Vec::new(), advances: Vec::new() };
    JournalEntry { version: 1, ledger: Uuid::from_u128(9), attempt, landing, segments: Vec::new() }
}

/// What a zone is asked, one after the other; what it answered for.
async fn answered(zone: &DiskZone) -> BTreeSet<&'static str> {
    let mut answered = BTreeSet::new();
    let mut note = |what: &'static str, answer: Result<()>| {
        if answer.is_ok() {
            answered.insert(what);
        }
    };
    note("identity", zone.claim(&identity()).await);
    for name in OBJECTS {
        let body = futures::stream::iter([Ok(Bytes::from_static(BYTES))]).boxed();
        note(name, zone.put(name, body, Compression::None, SplitRule::Whole).await.map(|_| ()));
    }
    note("journal", zone.journal(&entry()).await);
    note("kept", zone.keep("modules/a", Bytes::from_static(BYTES)).await);
    answered
}

/// What is there: each whole, or the test fails.
async fn there(root: &Path) -> BTreeSet<&'static str> {
    let zone = DiskZone::open(root, Arc::new(Counting(AtomicU64::new(1 << 32)))).unwrap();
    let mut there = BTreeSet::new();
    there.extend(zone.identity().await.unwrap().map(|found| {
        assert_eq!(found, identity());
        "identity"
    }));
    for object in zone.list("").await.unwrap() {
        let mut bytes = Vec::new();
        zone.open(&object.name, 0..object.bytes, Some(Digest::of(BYTES))).unwrap().read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, BYTES, "{} is torn", object.name);
        there.extend(OBJECTS.iter().find(|name| **name == object.name));
    }
    there.extend(zone.journal_entries().await.unwrap().first().map(|found| {
        assert_eq!(*found, entry());
        "journal"
    }));
    there.extend(zone.kept("modules/a").await.unwrap().map(|found| {
        assert_eq!(found, BYTES);
        "kept"
    }));
    there
}

/// What a zone on a disk answers for, and what is there after the power was cut.
async fn after_a_cut(disk: &Arc<ForgetfulDisk>, left: Left) -> (BTreeSet<&'static str>, BTreeSet<&'static str>) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("deep/landing");
    let zone = DiskZone::open_on(Arc::clone(disk) as Arc<dyn Disk>, &root, Arc::new(Counting::default()));
    let answered = match zone {
        Ok(zone) => answered(&zone).await,
        Err(_) => BTreeSet::new(),
    };
    disk.lose(|| left).unwrap();
    (answered, there(&root).await)
}

#[tokio::test]
async fn what_was_answered_is_there_and_all_that_is_there_is_whole() {
    for left in [Left::Nothing, Left::All] {
        let mut cuts = 0;
        for calls in 0.. {
            let disk = Arc::new(ForgetfulDisk::cut_after(calls));
            let (answered, there) = after_a_cut(&disk, left).await;
            assert!(answered.is_subset(&there), "after {calls} calls {answered:?} were answered, {there:?} are there");
            if answered.len() == 5 {
                break;
            }
            cuts += 1;
        }
        assert!(cuts > 30, "the power was cut {cuts} times");
    }
}

#[tokio::test]
async fn a_folder_that_is_not_synced_loses_what_was_answered() {
    let lies: [fn(&Path) -> bool; 3] = [
        |folder| folder.ends_with("dt=2026-01-02"),
        // The folder's own name, in the one above.
        |folder| folder.ends_with("landing/s"),
        |folder| folder.ends_with("deep"),
    ];
    for (lie, lost) in lies.into_iter().zip([1, 2, 5]) {
        let disk = Arc::new(ForgetfulDisk::lying(Lie::Names(lie)));
        let (answered, there) = after_a_cut(&disk, Left::Nothing).await;
        assert_eq!((answered.len(), there.len()), (5, 5 - lost));
    }
}
