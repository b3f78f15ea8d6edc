//! Two lanes: production and what is refined again, each with its workers, and one group that is opened at a time.

use super::lanes::{failed, receipt, replay};
use super::*;

/// A pipeline whose stores answer at once, with a commit that takes a while; a test says which segment is refined when.
struct Play {
    machine: Machine,
    now: Timestamp,
    commit: Duration,
    /// What the ledger has.
    first: Vec<WorkItem>,
    again: Vec<WorkItem>,
    /// With workers.
    running: Vec<WorkItem>,
    /// Groups in the order of being opened.
    opened: Vec<(u64, Vec<SegmentId>)>,
}

impl Play {
    fn new() -> Self {
        let mut machine = Machine::serving(false, 1);
        // The question that is under way finds nothing.
        machine.step(Event::Worked(Ok(Work::default())));
        let commit = Duration::from_millis(100);
        let (first, again, running, opened) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { machine, now: Timestamp::EPOCH, commit, first, again, running, opened }
    }

    fn step(&mut self, event: Event) {
        let effects = self.machine.state.step(Now { now: self.now, random: &NoChance }, event);
        for effect in effects {
            self.answer(effect);
        }
    }

    fn answer(&mut self, effect: Effect) {
        #[expect(clippy::wildcard_enum_match_arm, reason = "the rest needs no answer here")]
        match effect {
            Effect::FetchWork { revision: _, skip, limit, again } => {
                let take = |from: &mut Vec<WorkItem>, most: u32| -> Vec<_> {
                    from.retain(|item| !skip.contains(&item.segment.id));
                    from.drain(..from.len().min(most as usize)).collect()
                };
                let work = Work { first: take(&mut self.first, limit), again: take(&mut self.again, again) };
                self.step(Event::Worked(Ok(work)));
            }
            Effect::Refine { job, .. } => self.running.push(job.item),
            Effect::FindTables(_) => self.step(Event::Found(Ok(vec![table()]))),
            Effect::OpenGroup(group) => {
                self.opened.push((group.number, group.segments.iter().map(|s| s.segment.clone()).collect()));
                self.step(Event::Opened(Ok(())));
            }
            Effect::Commit(load) => {
                self.now = self.now.plus(self.commit);
                self.step(Event::Committed(load.table, Ok(receipt())));
            }
            Effect::CloseLoad { table, .. } => self.step(Event::Closed(table, Ok(()))),
            _ => {}
        }
    }

    fn lands(&mut self, key: &str) {
        self.first.push(item(key));
        self.step(Event::Landed);
    }

    fn is_asked_for(&mut self, keys: &[&str]) {
        self.again.extend(keys.iter().map(|key| replay(key)));
        self.step(Event::Landed);
    }

    fn refined(&mut self, key: &str) {
        let id = item(key).segment.id;
        let place = self.running.iter().position(|item| item.segment.id == id).expect("it is with a worker");
        let item = self.running.remove(place);
        self.step(Event::Refined(id, Ok(staged(&item, &table()))));
    }

    fn runs(&self, keys: &[&str]) -> bool {
        let ids = |mut ids: Vec<SegmentId>| {
            ids.sort();
            ids
        };
        ids(self.running.iter().map(|item| item.segment.id.clone()).collect())
            == ids(keys.iter().map(|key| item(key).segment.id).collect())
    }

    /// The keys of what was opened, in order; the numbers grow.
    fn order(&self, keys: &[&str]) -> Vec<String> {
        assert!(self.opened.windows(2).all(|two| two[0].0 < two[1].0), "{:?}", self.opened);
        let name = |id: &SegmentId| keys.iter().find(|key| item(key).segment.id == *id).map(|key| (*key).to_owned());
        self.opened.iter().flat_map(|(_, ids)| ids).map(|id| name(id).expect("a key")).collect()
    }
}

#[test]
fn production_waits_for_nothing_that_is_refined_again() {
    let mut play = Play::new();
    play.is_asked_for(&["x", "y", "z"]);
    assert!(play.runs(&["x", "y"]), "all workers, as long as production has none: {:?}", play.running);
    play.lands("a");
    assert!(play.runs(&["x", "y", "a"]), "production finds a worker");
    play.refined("a");
    assert_eq!(play.order(&["a"]), ["a"], "it is loaded while the others are with their workers");
    play.lands("b");
    play.refined("b");
    play.refined("x");
    assert_eq!(play.order(&["a", "b", "x"]), ["a", "b", "x"]);
    play.lands("c");
    play.refined("y");
    play.refined("c");
    assert_eq!(play.order(&["a", "b", "c", "x", "y"]), ["a", "b", "x", "c", "y"], "the ready one waited for its turn");
}

#[test]
fn production_waits_for_nothing_that_failed() {
    let mut play = Play::new();
    play.again.extend(["x", "y", "z"].map(failed));
    play.step(Event::Landed);
    assert!(play.runs(&["x", "y"]), "all workers, as long as production has none: {:?}", play.running);
    play.lands("a");
    assert!(play.runs(&["x", "y", "a"]), "production finds a worker");
    play.refined("a");
    assert_eq!(play.order(&["a"]), ["a"], "it is loaded while the others are with their workers");
    play.lands("b");
    play.refined("y");
    play.refined("b");
    play.refined("x");
    play.refined("z");
    assert_eq!(play.order(&["a", "b", "x", "y", "z"]), ["a", "b", "x", "y", "z"], "the newest of them first");
}

#[test]
fn what_is_refined_again_has_one_worker_while_production_has_work_for_all() {
    let mut play = Play::new();
    play.lands("a");
    play.lands("b");
    play.lands("c");
    play.is_asked_for(&["x", "y"]);
    assert!(play.runs(&["a", "b", "x"]), "{:?}", play.running);
    play.refined("a");
    assert!(play.runs(&["b", "c", "x"]), "{:?}", play.running);
    play.refined("b");
    assert!(play.runs(&["c", "x"]), "{:?}", play.running);
    play.refined("c");
    assert!(play.runs(&["x", "y"]), "production leaves the others: {:?}", play.running);
}

/// Production always has a segment with each worker; the groups of each that were opened until all was refined again.
fn always_busy(commit: Duration, asked: &[&str]) -> (Play, usize) {
    let mut play = Play::new();
    play.commit = commit;
    play.lands("first-0");
    play.is_asked_for(asked);
    let mut steps = 0;
    while play.opened.iter().flat_map(|(_, ids)| ids).filter(|id| replays(asked, id)).count() < asked.len() {
        steps += 1;
        assert!(steps < 10_000, "it starves: {:?}", play.opened.len());
        play.lands(&format!("first-{steps}"));
        let others: Vec<_> = play.running.iter().filter(|item| item.again.is_some()).cloned().collect();
        for other in others {
            play.refined(&other.segment.object);
        }
        play.refined(&format!("first-{}", steps - 1));
    }
    (play, steps)
}

fn replays(asked: &[&str], id: &SegmentId) -> bool {
    asked.iter().any(|key| item(key).segment.id == *id)
}

#[test]
fn what_is_refined_again_goes_on_where_production_always_has_work() {
    let asked = ["u", "v", "w", "x", "y", "z"];
    let (play, _) = always_busy(Duration::from_millis(100), &asked);
    let places: Vec<_> =
        play.opened.iter().enumerate().filter(|(_, (_, ids))| ids.iter().any(|id| replays(&asked, id))).collect();
    let places: Vec<_> = places.into_iter().map(|(place, _)| place).collect();
    let apart: Vec<_> = places.windows(2).map(|two| two[1] - two[0]).collect();
    // Each commit takes as long as any other: a tenth of the time is a tenth of the groups.
    assert!(apart.iter().all(|groups| (10..=12).contains(groups)), "{apart:?}");
    // Where they take no time to speak of, one in four.
    let (play, steps) = always_busy(Duration::ZERO, &asked);
    assert!(steps >= 4 * (asked.len() - 1) && steps < 5 * asked.len() + 5, "{steps}: {:?}", play.opened.len());
}

#[test]
fn where_more_groups_begin_than_were_foreseen_production_waits_once() {
    let mut play = Play::new();
    play.is_asked_for(&["x"]);
    let keys: Vec<_> = (0..70).map(|number| format!("a{number}")).collect();
    for key in &keys {
        play.lands(key);
        if !play.runs(&["x"]) {
            play.refined(key);
        }
    }
    assert_eq!(play.opened.len(), 64, "so many numbers were before it");
    play.refined("x");
    while let Some(next) = play.running.first().map(|item| item.segment.object.clone()) {
        play.refined(&next);
    }
    let known: Vec<_> = keys.iter().map(String::as_str).chain(["x"]).collect();
    let order = play.order(&known);
    assert_eq!((order[64].as_str(), order.len()), ("x", 71));
    play.is_asked_for(&["y"]);
    for number in 100..200 {
        play.lands(&format!("a{number}"));
        play.refined(&format!("a{number}"));
    }
    assert_eq!(play.opened.len(), 171, "the next one is further ahead");
}

#[test]
fn a_group_that_production_waits_for_takes_no_more_segments() {
    let mut play = Play::new();
    play.machine.state.settings.group_segments = 8;
    let one = Terms { workers: std::num::NonZeroU32::new(1), revision: None };
    play.again = ["x", "y", "z"].map(|key| WorkItem { terms: one, ..replay(key) }).to_vec();
    // One begins before it, and so many as were foreseen, and one more.
    for number in 0..66 {
        play.lands(&format!("a{number}"));
        play.refined(&format!("a{number}"));
    }
    assert_eq!(play.opened.len(), 65, "the last one waits");
    play.refined("x");
    assert_eq!(
        play.opened[65].1,
        [item("x").segment.id],
        "without the others, which would have had their turns with its worker"
    );
    assert_eq!(play.opened[66].1, [item("a65").segment.id]);
}

#[test]
fn what_was_refined_under_a_former_binding_is_loaded_before_what_comes_after() {
    let mut play = Play::new();
    play.is_asked_for(&["x"]);
    play.machine.revision = Digest::of(b"another revision");
    let revision = play.machine.revision;
    play.step(Event::Deployed { revision, number: 2 });
    play.machine.bound(2);
    play.lands("a");
    play.refined("a");
    assert!(play.opened.is_empty());
    play.refined("x");
    assert_eq!(play.order(&["a", "x"]), ["x", "a"]);
}

#[test]
fn a_stop_ends_what_both_lanes_have_begun() {
    let mut play = Play::new();
    play.is_asked_for(&["x", "y", "z"]);
    play.lands("a");
    play.step(Event::Shutdown);
    play.refined("x");
    play.refined("a");
    assert!(!play.machine.state.finished);
    play.refined("y");
    assert!(play.machine.state.finished && play.opened.len() == 3, "{:?}", play.opened);
}
