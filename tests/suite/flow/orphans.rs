//! What the sweep of a landing zone spares, with a clock that is steered.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use forebay_landing::{MemoryZone, naming};
use forebay_ledger::MemoryLedger;
use forebay_model::flow::OnChange;
use forebay_model::ports::{
    Clock as _, JournalEntry, Landing, LandingZone, Ledger, NewObject, SplitRule, ZoneIdentity,
};
use forebay_model::{Compression, Digest, ErrorClass, StreamName, Timestamp};
use forebay_pipeline::orphans::{SweepOptions, SweepReport, sweep};
use futures::StreamExt as _;
use uuid::Uuid;

use crate::contract::support::{CountingRandom, SteeredClock};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

struct World {
    clock: Arc<SteeredClock>,
    zone: MemoryZone,
    ledger: MemoryLedger,
}

impl World {
    async fn new() -> Self {
        let clock = Arc::new(SteeredClock::new());
        let zone = MemoryZone::new(clock.clone());
        let ledger = MemoryLedger::new(&CountingRandom::new(1));
        zone.claim(&ZoneIdentity { version: 1, ledger: ledger.id(), since: clock.now() }).await.unwrap();
        Self { clock, zone, ledger }
    }

    /// An object that nobody lists, landed now.
    async fn land(&self, attempt: u128) -> String {
        let stream = StreamName::new("payments").unwrap();
        let name = naming::object_name(&stream, self.clock.now(), Uuid::from_u128(attempt), 0, "a.jsonl");
        let body = futures::stream::iter([Ok(Bytes::from_static(b"0123456789"))]).boxed();
        self.zone.put(&name, body, Compression::None, SplitRule::Whole).await.unwrap();
        name
    }

    /// The journal says that an attempt's landing listed an object, which had no record.
    async fn journal(&self, attempt: u128, object: &str) {
        let (attempt, stream) = (Uuid::from_u128(attempt), StreamName::new("payments").unwrap());
        let object = NewObject {
            name: object.to_owned(),
            bytes: 10,
            digest: Digest::of(b"0123456789"),
            source: None,
            on_change: OnChange::Replace,
            segments: Vec::new(),
        };
        let landing =
            Landing { stream, attempt, landed_at: self.clock.now(), objects: vec![object], advances: Vec::new() };
        let ledger = self.ledger.id();
        self.zone.journal(&JournalEntry { version: 1, ledger, attempt, landing, segments: Vec::new() }).await.unwrap();
    }

    async fn sweep(&self, host_since: Option<Timestamp>) -> SweepReport {
        let options = SweepOptions { age: 7 * DAY, now: self.clock.now(), host_since, dry_run: false };
        sweep(&self.zone, &self.ledger, naming::attempt_of, options).await.unwrap()
    }

    async fn names(&self) -> Vec<String> {
        self.zone.list("").await.unwrap().into_iter().map(|object| object.name).collect()
    }
}

#[tokio::test]
async fn a_landing_that_is_in_flight_is_never_swept_however_long_it_takes() {
    let world = World::new().await;
    let left = world.land(1).await;
    world.clock.advance(DAY);
    let started = world.clock.now();
    world.clock.advance(Duration::from_secs(1));
    let in_flight = world.land(2).await;
    world.clock.advance(30 * DAY);
    assert_eq!(world.names().await, [left.clone(), in_flight.clone()]);
    let swept = world.sweep(Some(started)).await;
    assert_eq!((swept.orphans, swept.orphan_bytes), (1, 10));
    assert_eq!(world.names().await, [in_flight]);
    // After its process has died it is an orphan like any other.
    assert_eq!(world.sweep(None).await.orphans, 1);
    assert!(world.names().await.is_empty());
}

#[tokio::test]
async fn what_failed_among_the_objects_of_an_attempt_is_swept_and_what_the_journal_tells_of_is_not() {
    let world = World::new().await;
    let told = world.land(1).await;
    world.journal(1, &told).await;
    let failed = told.replace("a.jsonl", "b.jsonl");
    let body = futures::stream::iter([Ok(Bytes::from_static(b"0123456789"))]).boxed();
    world.zone.put(&failed, body, Compression::None, SplitRule::Whole).await.unwrap();
    world.clock.advance(30 * DAY);
    let snapshot = world.zone.snapshot();
    assert_eq!(world.sweep(None).await.orphans, 1);
    assert_eq!(world.names().await, std::slice::from_ref(&told));
    // Where its entry cannot be read, all of the attempt stays.
    let damaged = World { zone: MemoryZone::restore(world.clock.clone(), snapshot), ..world };
    damaged.zone.tear_newest_entry();
    assert_eq!(damaged.sweep(None).await.orphans, 0);
    assert_eq!(damaged.names().await, [told, failed]);
}

#[tokio::test]
async fn what_is_young_stays() {
    let world = World::new().await;
    world.land(1).await;
    world.clock.advance(7 * DAY);
    assert_eq!(world.sweep(None).await.orphans, 0);
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(world.sweep(None).await.orphans, 1);
}

#[tokio::test]
async fn the_zone_of_another_ledger_is_left_alone() {
    let world = World::new().await;
    world.land(1).await;
    world.clock.advance(30 * DAY);
    let other = MemoryLedger::new(&CountingRandom::new(2));
    let options = SweepOptions { age: DAY, now: world.clock.now(), host_since: None, dry_run: false };
    let error = sweep(&world.zone, &other, naming::attempt_of, options).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Fenced);
    assert_eq!(world.names().await.len(), 1);
}
