use bytes::Bytes;
use forebay_model::ports::{JournalEntry, Landing, LandingZone, SplitRule, ZoneIdentity};
use forebay_model::{Compression, ErrorClass, StreamName, Timestamp};
use uuid::Uuid;

fn entry(attempt: u128, landed_at: &str) -> JournalEntry {
    JournalEntry {
        version: 1,
        ledger: Uuid::from_u128(9),
        attempt: Uuid::from_u128(attempt),
        landing: Landing {
            stream: StreamName::new("payments").unwrap(),
            attempt: Uuid::from_u128(attempt),
            landed_at: Timestamp::parse(landed_at).unwrap(),
            objects: Vec::new(),
            advances: Vec::new(),
        },
        segments: Vec::new(),
    }
}

pub(super) async fn the_journal_is_written_once_and_read_in_order(zone: &dyn LandingZone) {
    assert!(zone.journal_entries().await.unwrap().is_empty());
    let late = entry(1, "2026-01-02T03:04:05.000002Z");
    let early = entry(2, "2026-01-02T03:04:05.000001Z");
    let earliest = entry(3, "2025-12-31T23:59:59Z");
    for entry in [&late, &early, &earliest, &early] {
        zone.journal(entry).await.unwrap();
    }
    assert_eq!(zone.journal_entries().await.unwrap(), [earliest, early.clone(), late]);
    let other = JournalEntry { ledger: Uuid::from_u128(10), ..early };
    assert_eq!(zone.journal(&other).await.unwrap_err().class(), ErrorClass::Bug, "written once");
    let newer = JournalEntry { version: 2, ..entry(4, "2026-01-03T00:00:00Z") };
    zone.journal(&newer).await.unwrap();
    let error = zone.journal_entries().await.unwrap_err();
    assert!(error.to_string().contains("20260103T000000.000000Z") && error.hint().is_some(), "{error}");
}

pub(super) async fn a_zone_belongs_to_one_ledger(zone: &dyn LandingZone) {
    assert_eq!(zone.identity().await.unwrap(), None);
    let identity = |ledger, since| ZoneIdentity {
        version: 1,
        ledger: Uuid::from_u128(ledger),
        since: Timestamp::from_micros(since),
    };
    zone.claim(&identity(1, 10)).await.unwrap();
    zone.claim(&identity(1, 20)).await.unwrap();
    let error = zone.claim(&identity(2, 30)).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Operator);
    assert!(error.hint().is_some());
    assert_eq!(zone.identity().await.unwrap(), Some(identity(1, 10)));
}

pub(super) async fn what_is_kept_stays(zone: &dyn LandingZone) {
    assert_eq!(zone.kept("modules/1f.wasm").await.unwrap(), None);
    for _ in 0..2 {
        zone.keep("modules/1f.wasm", Bytes::from_static(b"\0asm")).await.unwrap();
        assert_eq!(zone.kept("modules/1f.wasm").await.unwrap().unwrap(), &b"\0asm"[..]);
    }
    assert_eq!(zone.kept("assets/1f").await.unwrap(), None);
}

pub(super) async fn what_is_its_own_is_not_listed(zone: &dyn LandingZone) {
    zone.journal(&entry(1, "2026-01-02T03:04:05Z")).await.unwrap();
    zone.keep("assets/1f", Bytes::from_static(b"x")).await.unwrap();
    zone.claim(&ZoneIdentity { version: 1, ledger: Uuid::nil(), since: Timestamp::EPOCH }).await.unwrap();
    let whole = SplitRule::Whole;
    zone.put("s/a", super::body(&[b"x"]), Compression::None, whole).await.unwrap();
    let names: Vec<_> = zone.list("").await.unwrap().into_iter().map(|entry| entry.name).collect();
    assert_eq!(names, ["s/a"]);
    assert!(zone.list("_forebay/").await.unwrap().is_empty());
    assert!(zone.sweep(Timestamp::EPOCH).await.unwrap().is_empty());
}
