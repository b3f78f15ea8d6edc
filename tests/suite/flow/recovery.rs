//! What a rebuilt ledger is told to hold: the plan as a function of what was found.

use std::collections::BTreeMap;

use forebay_ledger::MemoryLedger;
use forebay_model::flow::OnChange;
use forebay_model::kept::KeptWithdrawal;
use forebay_model::ports::{Journal, JournalEntry, Landing, Ledger, PastLoad, SegmentRows, Standing, TableHistory};
use forebay_model::{Digest, ErrorClass, SegmentId, Timestamp};
use forebay_pipeline::recover::{Damage, Found, Plan, plan};
use uuid::Uuid;

use crate::contract::ledger::support::{at, file_landing, pipeline, records, stream, table};
use crate::contract::support::CountingRandom;

/// A ledger that journals what it lists.
struct Lost {
    ledger: MemoryLedger,
    found: Found,
}

impl Lost {
    fn new() -> Self {
        let ledger = MemoryLedger::new(&CountingRandom::new(1));
        let streams = BTreeMap::from([(pipeline(), stream())]);
        Self { found: Found { identity: Some(ledger.id()), streams, ..Found::default() }, ledger }
    }

    async fn land(&mut self, landing: Landing) -> Vec<SegmentId> {
        let segments = self.ledger.land(&landing).await.unwrap().listed;
        let ids = segments.iter().map(|segment| segment.id.clone()).collect();
        let (ledger, attempt) = (self.ledger.id(), landing.attempt);
        self.found.journal.entries.push(JournalEntry { version: 1, ledger, attempt, landing, segments });
        ids
    }

    async fn file(&mut self, number: u128, key: &str, version: &str) -> SegmentId {
        self.land(file_landing(number, key, version, OnChange::Replace, 5)).await.remove(0)
    }

    fn table(&mut self, name: &str, last: u64, rows: &[(&SegmentId, u64)]) {
        let past = |number| PastLoad {
            number,
            id: Uuid::from_u128(u128::from(number)),
            revision: Digest::of(b"revision"),
            table_version: number,
            rows_removed: 0,
            replaces: Vec::new(),
            chosen: false,
            at: None,
        };
        let rows = rows.iter().map(|(segment, load)| SegmentRows { segment: (*segment).clone(), load: *load, rows: 5 });
        let history = TableHistory {
            ledger: Some(self.ledger.id()),
            pipeline: Some(pipeline()),
            last: Some(last),
            loads: vec![past(last)],
            rows: rows.collect(),
        };
        self.found.tables.insert(table(name), history);
    }

    fn plan(self) -> forebay_model::Result<Plan> {
        plan(self.found, Damage::Refuse, at(100))
    }
}

fn standings(plan: &Plan) -> BTreeMap<SegmentId, &'static str> {
    let segments = plan.content.pipelines.iter().flat_map(|pipeline| &pipeline.segments);
    let word = |standing: &Standing| match standing {
        Standing::Loaded => "loaded",
        Standing::Again { .. } => "again",
        Standing::Superseded => "superseded",
    };
    segments.map(|segment| (segment.segment.clone(), word(&segment.standing))).collect()
}

#[tokio::test]
async fn only_the_last_group_may_be_in_some_tables_and_not_in_others() {
    let mut lost = Lost::new();
    let a = lost.file(1, "a", "v1").await;
    let b = lost.file(2, "b", "v1").await;
    let c = lost.file(3, "c", "v1").await;
    lost.file(4, "never", "v1").await;
    // Load 3 brought rows of b and c to one table; the other has not had it, or was not to.
    lost.table("scored", 3, &[(&a, 1), (&b, 3), (&c, 3)]);
    lost.table("flagged", 1, &[(&a, 1)]);
    let plan = lost.plan().unwrap();
    assert_eq!(standings(&plan), BTreeMap::from([(a, "loaded"), (b, "again"), (c, "again")]));
    let of = &plan.content.pipelines[0];
    assert_eq!((of.last_number, of.loads.len()), (3, 3));
    let report = &plan.report.pipelines[0];
    assert_eq!((report.loaded, report.again, report.without_rows), (1, 2, 1));
}

#[tokio::test]
async fn a_group_that_was_withdrawn_may_be_in_some_tables_and_not_in_others_too() {
    let mut lost = Lost::new();
    let a = lost.file(1, "a", "v1").await;
    let b = lost.file(2, "b", "v1").await;
    let c = lost.file(3, "c", "v1").await;
    let d = lost.file(4, "d", "v1").await;
    // Load 2 is done in one table and was refused by the other; of its segments c was loaded anew by load 3, a not yet.
    lost.found.withdrawals.push(KeptWithdrawal::new(pipeline(), 2, vec![c.clone(), a.clone()]));
    lost.table("scored", 4, &[(&a, 2), (&b, 1), (&c, 3), (&d, 4)]);
    lost.table("flagged", 3, &[(&b, 1), (&c, 3)]);
    let expected = BTreeMap::from([(a, "again"), (b, "loaded"), (c, "loaded"), (d, "again")]);
    assert_eq!(standings(&lost.plan().unwrap()), expected);
}

/// A replay or a heal replaces rows of its own segments: a table may have lost those, while another lacks what takes their place.
#[tokio::test]
async fn what_the_last_group_replaces_may_be_gone_from_some_tables_only() {
    let mut lost = Lost::new();
    let a = lost.file(1, "a", "v1").await;
    let b = lost.file(2, "b", "v1").await;
    let c = lost.file(3, "c", "v1").await;
    let newer = lost.file(4, "c", "v2").await;
    // Load 3 removed rows of a, and brought none to this table; the other has not had it. It replaces c by its newer version, too.
    lost.table("flagged", 3, &[(&b, 1)]);
    lost.found.tables.get_mut(&table("flagged")).unwrap().loads[0].replaces = vec![a.clone(), c.clone()];
    lost.table("scored", 1, &[(&a, 1), (&b, 1), (&c, 1)]);
    let plan = lost.plan().unwrap();
    assert_eq!(standings(&plan), BTreeMap::from([(a, "again"), (b, "loaded"), (c, "loaded")]));
    assert_eq!(plan.report.pipelines[0].without_rows, 1, "{newer} is refined, and replaces c");
}

/// The rebuilt ledger is lost too, after other segments have loaded and before the ones that were to be refined again.
#[tokio::test]
async fn what_a_recovery_was_not_certain_of_is_uncertain_for_the_next_one() {
    let mut lost = Lost::new();
    let a = lost.file(1, "a", "v1").await;
    let b = lost.file(2, "b", "v1").await;
    let c = lost.file(3, "c", "v1").await;
    lost.table("scored", 2, &[(&a, 1), (&b, 2)]);
    lost.table("flagged", 1, &[(&a, 1)]);
    let first = plan(lost.found.clone(), Damage::Refuse, at(100)).unwrap();
    assert_eq!(standings(&first), BTreeMap::from([(a.clone(), "loaded"), (b.clone(), "again")]));
    lost.found.withdrawals = first.to_keep();
    lost.table("scored", 3, &[(&a, 1), (&b, 2), (&c, 3)]);
    lost.table("flagged", 3, &[(&a, 1), (&c, 3)]);
    assert_eq!(standings(&lost.plan().unwrap()), BTreeMap::from([(a, "loaded"), (b, "again"), (c, "again")]));
}

#[tokio::test]
async fn versions_that_a_loaded_one_replaced_are_superseded() {
    let mut lost = Lost::new();
    let one = lost.file(1, "a", "v1").await;
    let two = lost.file(2, "a", "v2").await;
    let other = lost.file(3, "b", "v1").await;
    let waiting = lost.file(4, "a", "v3").await;
    lost.table("scored", 4, &[(&two, 2), (&other, 4)]);
    let plan = lost.plan().unwrap();
    let expected = BTreeMap::from([(one, "superseded"), (two, "loaded"), (other, "again")]);
    assert_eq!(standings(&plan), expected);
    assert!(!standings(&plan).contains_key(&waiting), "it is to be refined");
}

#[tokio::test]
async fn a_version_whose_former_one_is_still_there_replaces_it_now() {
    let mut lost = Lost::new();
    let one = lost.file(1, "a", "v1").await;
    let two = lost.file(2, "a", "v2").await;
    let other = lost.file(3, "b", "v1").await;
    lost.table("scored", 5, &[(&two, 2), (&other, 5)]);
    lost.table("flagged", 2, &[(&one, 1)]);
    let expected = BTreeMap::from([(one, "loaded"), (two, "again"), (other, "again")]);
    assert_eq!(standings(&lost.plan().unwrap()), expected);
}

#[tokio::test]
async fn a_clock_that_was_set_back_does_not_change_the_order() {
    let mut lost = Lost::new();
    lost.file(1, "a", "v1").await;
    lost.file(2, "a", "v2").await;
    lost.land(records(3, &[("p0", None, 0, 10)])).await;
    lost.land(records(4, &[("p0", Some(10), 10, 20)])).await;
    let right: Vec<_> = lost.found.journal.entries.iter().map(|entry| entry.attempt).collect();
    lost.found.journal.entries.reverse();
    let plan = lost.plan().unwrap();
    let order: Vec<_> = plan.content.landings.iter().map(|landing| landing.attempt).collect();
    let place = |number: usize| order.iter().position(|attempt| *attempt == right[number]).unwrap();
    assert!(place(0) < place(1) && place(2) < place(3), "{order:?}");
    assert_eq!(plan.content.partitions[0].next.to_string(), "20");
    assert_eq!(plan.report.gaps, [""; 0]);
}

#[tokio::test]
async fn a_part_that_landed_twice_is_listed_once() {
    let mut lost = Lost::new();
    let first = lost.file(1, "a", "v1").await;
    // As an older copy of the ledger would have landed it.
    let again = MemoryLedger::with_id(lost.ledger.id());
    let landing = file_landing(2, "a", "v1", OnChange::Replace, 5);
    let segments = again.land(&landing).await.unwrap().listed;
    assert_eq!(segments[0].id, first);
    let (ledger, attempt) = (again.id(), landing.attempt);
    lost.found.journal.entries.push(JournalEntry { version: 1, ledger, attempt, landing, segments });
    let plan = lost.plan().unwrap();
    assert_eq!(plan.content.landings.len(), 1);
    again_fits(&plan).await;
}

/// What is planned can be filled into a ledger.
async fn again_fits(plan: &Plan) {
    MemoryLedger::with_id(plan.ledger).import(&plan.content).await.unwrap();
}

#[tokio::test]
async fn what_is_missing_in_the_journal_is_refused_with_what_to_do() {
    let mut lost = Lost::new();
    lost.land(records(1, &[("p0", None, 0, 10)])).await;
    lost.land(records(2, &[("p0", Some(10), 10, 20)])).await;
    lost.land(records(3, &[("p0", Some(20), 20, 30)])).await;
    lost.found.journal.entries.remove(1);
    let found = lost.found.clone();
    let error = lost.plan().unwrap_err();
    assert_eq!(
        error.to_string(),
        "the landing zone's journal does not fit together: stream payments: records of p0 from 10 to 20"
    );
    assert_eq!(
        error.hint().unwrap(),
        "restore _forebay/journal from a backup of the landing zone; where there is none, `--skip-damaged` goes on without \
         what is missing"
    );
    let plan = plan(found, Damage::Skip, at(100)).unwrap();
    assert_eq!((plan.content.landings.len(), plan.report.gaps.len()), (2, 1));
    again_fits(&plan).await;
}

#[tokio::test]
async fn a_journal_of_two_ledgers_is_refused() {
    let mut lost = Lost::new();
    lost.file(1, "a", "v1").await;
    lost.found.journal.entries[0].ledger = Uuid::from_u128(99);
    assert_eq!(lost.plan().unwrap_err().class(), ErrorClass::Fenced);
}

#[test]
fn without_anything_there_is_nothing_to_rebuild_from() {
    let error = plan(Found { journal: Journal::default(), ..Found::default() }, Damage::Refuse, Timestamp::EPOCH);
    assert_eq!(error.unwrap_err().class(), ErrorClass::Operator);
}
