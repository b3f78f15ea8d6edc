//! Several hosts on one ledger: who does what, and what becomes of those that die.

use std::collections::{BTreeMap, BTreeSet};

use forebay_model::ports::{Division, Duty, HostLease, HostState, Readiness};

use super::*;

fn duties(names: &[&str]) -> BTreeSet<Duty> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

fn ready(names: &[&str]) -> Readiness {
    Readiness { ready: duties(names), cannot: BTreeMap::new() }
}

fn division(mine: &[&str], give: &[&str]) -> Division {
    Division { mine: duties(mine), give: duties(give) }
}

async fn joined(schema: &Schema) -> (PostgresLedger, Box<dyn HostLease>) {
    let ledger = open(schema, OpenMode::Create).await.unwrap();
    let lease = ledger.join_hosts().await.unwrap().expect("a place among the hosts");
    assert!(lease.among().is_some());
    (ledger, lease)
}

const ALL: [&str; 5] = ["lead", "pipeline one", "pipeline two", "stream a", "stream b"];

#[tokio::test]
async fn what_there_is_to_do_is_spread_and_is_one_hosts_at_a_time() {
    let Some(schema) = Schema::new() else { return };
    let (ledger, first) = joined(&schema).await;
    assert_eq!(first.among().unwrap().divide(&ready(&ALL)).await.unwrap(), division(&ALL, &[]));
    let (_other, second) = joined(&schema).await;
    assert_eq!(
        second.among().unwrap().divide(&ready(&ALL)).await.unwrap(),
        division(&[], &[]),
        "all are the first one's"
    );
    // One after the other goes to who has fewer, and the lead stays.
    assert_eq!(first.among().unwrap().divide(&ready(&ALL)).await.unwrap(), division(&ALL, &["pipeline two"]));
    assert_eq!(
        second.among().unwrap().divide(&ready(&ALL)).await.unwrap(),
        division(&[], &[]),
        "it is not given back yet"
    );
    first.among().unwrap().give_back(&duties(&["pipeline two"])).await.unwrap();
    let had = ["lead", "pipeline one", "stream a", "stream b"];
    assert_eq!(
        first.among().unwrap().divide(&ready(&ALL)).await.unwrap(),
        division(&had, &["pipeline one"]),
        "it leaves it to the other"
    );
    first.among().unwrap().give_back(&duties(&["pipeline one"])).await.unwrap();
    let halves = (["lead", "stream a", "stream b"], ["pipeline one", "pipeline two"]);
    assert_eq!(second.among().unwrap().divide(&ready(&ALL)).await.unwrap(), division(&halves.1, &[]));
    for _ in 0..2 {
        assert_eq!(first.among().unwrap().divide(&ready(&ALL)).await.unwrap(), division(&halves.0, &[]));
        assert_eq!(second.among().unwrap().divide(&ready(&ALL)).await.unwrap(), division(&halves.1, &[]));
    }
    let hosts = ledger.hosts().await.unwrap();
    let of: Vec<_> = hosts.iter().map(|HostState { duties, .. }| duties.clone().unwrap()).collect();
    assert_eq!(of, [duties(&halves.0), duties(&halves.1)]);
    assert!(hosts.iter().all(|host| host.holder.process == Some(std::process::id()) && host.holder.host.is_some()));
    // Who leads answers for all; who ends leaves its share to the others.
    assert_eq!(ledger.host().await.unwrap(), Some(hosts[0].holder.clone()));
    drop(first);
    assert_eq!(ledger.hosts().await.unwrap().len(), 1);
    let until = std::time::Instant::now() + Duration::from_secs(10);
    while second.among().unwrap().divide(&ready(&ALL)).await.unwrap() != division(&ALL, &[]) {
        assert!(std::time::Instant::now() < until, "the other takes what is left");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn what_a_host_is_not_ready_for_goes_to_others() {
    let Some(schema) = Schema::new() else { return };
    let (ledger, first) = joined(&schema).await;
    let why = BTreeMap::from([("one".parse().unwrap(), "revision 2: too large".to_owned())]);
    let without = Readiness { ready: duties(&["lead", "stream a"]), cannot: why.clone() };
    assert_eq!(first.among().unwrap().divide(&without).await.unwrap(), division(&["lead", "stream a"], &[]));
    assert_eq!(ledger.hosts().await.unwrap()[0].cannot, why);
    let (_other, second) = joined(&schema).await;
    // It has none of the two, so both are its own; the first one has one, and keeps it.
    let only = ready(&["pipeline one", "stream b"]);
    assert_eq!(second.among().unwrap().divide(&only).await.unwrap(), division(&["pipeline one", "stream b"], &[]));
    assert_eq!(first.among().unwrap().divide(&without).await.unwrap(), division(&["lead", "stream a"], &[]));
}

#[tokio::test]
async fn a_host_that_wants_none_beside_it_and_hosts_that_share_keep_one_another_out() {
    let Some(schema) = Schema::new() else { return };
    let (ledger, lease) = joined(&schema).await;
    let other = open(&schema, OpenMode::Existing).await.unwrap();
    assert!(other.lease_host().await.unwrap().is_none(), "a host among others runs");
    assert!(PostgresLedger::lease_of(&at(&schema)).await.unwrap().is_none());
    drop(lease);
    assert!(ledger.hosts().await.unwrap().is_empty());
    let alone = other.lease_host().await.unwrap().expect("the lease of who is alone");
    assert!(alone.among().is_none());
    assert_eq!(other.hosts().await.unwrap()[0].duties, None);
    assert!(ledger.join_hosts().await.unwrap().is_none(), "one host has it alone");
    drop(alone);
    assert!(ledger.join_hosts().await.unwrap().is_some());
}

/// A runtime that does nothing while nobody waits for it stands for a process that sleeps.
#[test]
fn a_host_that_is_not_heard_of_loses_what_it_did_and_writes_nothing() {
    let Some(schema) = Schema::new() else { return };
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (asleep, awake) = (runtime(), runtime());
    let (zombie, lost) = asleep.block_on(joined(&schema));
    asleep.block_on(async {
        assert_eq!(lost.among().unwrap().divide(&ready(&ALL)).await.unwrap(), division(&ALL, &[]));
        zombie.land(&landing(1, None, 1)).await.unwrap();
    });
    let other = awake.block_on(async {
        end_sessions(&schema).await;
        let (other, lease) = joined(&schema).await;
        assert_eq!(
            lease.among().unwrap().divide(&ready(&ALL)).await.unwrap(),
            division(&[], &[]),
            "it may take its lock again"
        );
        let began = std::time::Instant::now();
        while lease.among().unwrap().divide(&ready(&ALL)).await.unwrap() != division(&ALL, &[]) {
            assert!(began.elapsed() < Duration::from_secs(20), "the other takes what it did");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(began.elapsed() > fleet::GRACE - Duration::from_millis(200));
        (other, lease)
    });
    asleep.block_on(async {
        let refused = zombie.land(&landing(2, Some(10), 1)).await.unwrap_err();
        assert_eq!(refused.class(), ErrorClass::Fenced);
        assert!(refused.to_string().contains("another one took it (process"), "{refused}");
        assert_eq!(lost.among().unwrap().divide(&ready(&ALL)).await.unwrap_err().class(), ErrorClass::Fenced);
        assert_eq!(lost.among().unwrap().give_back(&duties(&ALL)).await.unwrap_err().class(), ErrorClass::Fenced);
        let told = tokio::time::timeout(Duration::from_secs(20), lost.lost()).await.expect("it is told");
        assert_eq!(told.class(), ErrorClass::Fenced);
    });
    awake.block_on(async {
        other.0.land(&landing(3, Some(10), 1)).await.unwrap();
        assert_eq!(other.0.hosts().await.unwrap().len(), 1);
    });
}

#[tokio::test]
async fn hosts_whose_sessions_break_at_once_keep_what_they_do() {
    let Some(schema) = Schema::new() else { return };
    let (ledger, first) = joined(&schema).await;
    first.among().unwrap().divide(&ready(&ALL)).await.unwrap();
    let (_other, second) = joined(&schema).await;
    let mut sessions = schema.connect().await;
    sqlx::query(
        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ShareLock' \
         AND (classid::bigint << 32 | objid::bigint) = $1",
    )
    .bind(lease::key("host", schema.name()))
    .execute(&mut sessions)
    .await
    .unwrap();
    let began = std::time::Instant::now();
    while began.elapsed() < fleet::GRACE + Duration::from_secs(2) {
        assert_eq!(first.among().unwrap().divide(&ready(&["lead", "stream a"])).await.unwrap().mine, duties(&ALL));
        second.among().unwrap().divide(&ready(&[])).await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(ledger.hosts().await.unwrap().len(), 2, "both have their locks again");
    assert!(PostgresLedger::lease_of(&at(&schema)).await.unwrap().is_none());
}
