use bytes::Bytes;
use forebay_model::ports::{Journal, JournalEntry, Landing, LandingZone, SplitRule, ZoneIdentity};
use forebay_model::{Compression, ErrorClass, StreamName, Timestamp};
use uuid::Uuid;

pub(crate) fn entry(attempt: u128, landed_at: &str) -> JournalEntry {
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
    // A form of the future is no damage, and nothing is taken from it.
    assert_eq!(zone.read_journal(None).await.unwrap_err().to_string(), error.to_string());
}

pub(super) async fn the_newest_entries_are_read_alone(zone: &dyn LandingZone) {
    assert_eq!(zone.read_journal(None).await.unwrap(), Journal::default());
    let entries =
        [entry(3, "2025-12-31T23:59:59Z"), entry(1, "2026-01-02T00:00:00Z"), entry(2, "2026-01-03T00:00:00Z")];
    for entry in &entries {
        zone.journal(entry).await.unwrap();
    }
    let journal = zone.read_journal(None).await.unwrap();
    assert_eq!((journal.entries.as_slice(), journal.damaged.len()), (&entries[..], 0));
    assert_eq!(zone.read_journal(Some(2)).await.unwrap().entries, entries[1..]);
    assert_eq!(zone.read_journal(Some(9)).await.unwrap().entries, entries);
    let attempts = [1, 2, 3].map(Uuid::from_u128);
    assert_eq!(zone.journalled().await.unwrap(), attempts.into());
    // Set aside, an entry is no part of the journal, and what it told of is still known.
    let name = format!("20260102T000000.000000Z-{}.json", attempts[0]);
    for _ in 0..2 {
        zone.set_aside(&name).await.unwrap();
    }
    assert_eq!(zone.read_journal(None).await.unwrap().entries, [entries[0].clone(), entries[2].clone()]);
    assert_eq!(zone.journalled().await.unwrap(), attempts.into());
    assert!(zone.set_aside("there-is-none.json").await.is_err());
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
    assert_eq!(zone.kept_in("modules").await.unwrap(), ["modules/1f.wasm"]);
    assert!(zone.kept_in("assets").await.unwrap().is_empty());
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
