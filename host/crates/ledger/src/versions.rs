//! Which versions of a changed object are work, for one pipeline.
//!
//! An object that changed with `on_change = "replace"` lands as a new version whose rows take the place of all former
//! ones. Two rules keep the versions from overtaking one another, wherever workers run:
//! - a version is no work while a later one that replaces it is, or is being refined: its rows would be removed at once;
//! - a version that replaces others is no work while one of those is being refined, and its own segments come together or
//!   not at all, so that the table goes from one whole version to another. So where one of them failed, all of them are work that failed.

use std::collections::BTreeSet;

use forebay_model::Timestamp;
use forebay_model::ids::SegmentId;

/// What a pipeline made of a segment so far, as far as [`plan`] needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Nothing.
    New,
    /// It failed, and is tried again then.
    Failed(Option<Timestamp>),
    /// It is in an open group.
    Loading,
    /// Its group is done.
    Loaded,
    /// A later version took its place.
    Superseded,
}

impl Standing {
    /// Whether it would be refined now.
    pub(crate) fn due(self, now: Timestamp) -> bool {
        match self {
            Self::New => true,
            Self::Failed(retry_at) => retry_at.is_some_and(|at| at <= now),
            Self::Loading | Self::Loaded | Self::Superseded => false,
        }
    }

    /// As people read it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Failed(_) => "failed",
            Self::Loading => "loading",
            Self::Loaded => "loaded",
            Self::Superseded => "superseded",
        }
    }

    fn waits(self) -> bool {
        match self {
            Self::New | Self::Failed(_) => true,
            Self::Loading | Self::Loaded | Self::Superseded => false,
        }
    }

    fn has_failed(self) -> bool {
        match self {
            Self::Failed(_) => true,
            Self::New | Self::Loading | Self::Loaded | Self::Superseded => false,
        }
    }
}

/// One landed version (or, for a tail, part) of an object.
#[derive(Debug, Clone)]
pub(crate) struct Version {
    /// Whether it takes the place of all before it.
    pub(crate) replaces_former: bool,
    /// Its segments, in order.
    pub(crate) segments: Vec<(SegmentId, Standing)>,
}

/// Work of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unit {
    /// Segments to refine.
    pub(crate) segments: Vec<SegmentId>,
    /// What they replace; where there is any, the segments come together.
    pub(crate) replaces: Vec<SegmentId>,
    /// Whether it failed before: of segments that come together, whether one of them did.
    pub(crate) failed: bool,
}

/// The work of one object key: all its versions in the order of landing.
pub(crate) fn plan(history: &[Version], now: Timestamp, skip: &BTreeSet<SegmentId>) -> Vec<Unit> {
    let mut units = Vec::new();
    // Whether a version that came later will remove the rows of those before it.
    let mut obsolete = false;
    for (index, version) in history.iter().enumerate().rev() {
        let former: Vec<_> = history
            .iter()
            .take(if version.replaces_former { index } else { 0 })
            .flat_map(|version| &version.segments)
            .filter(|(_, standing)| *standing != Standing::Superseded)
            .map(|(id, _)| id.clone())
            .collect();
        let waiting: Vec<_> = version.segments.iter().filter(|(_, standing)| standing.waits()).collect();
        let in_flight = waiting.iter().any(|(id, _)| skip.contains(id));
        let together = !former.is_empty();
        let (failed, new): (Vec<_>, Vec<_>) = waiting
            .iter()
            .copied()
            .filter(|(id, standing)| standing.due(now) && !skip.contains(id))
            .partition(|(_, standing)| standing.has_failed());
        let whole = failed.len() + new.len() == waiting.len() && !waiting.is_empty();
        let blocked = former.iter().any(|id| skip.contains(id));
        if !obsolete && together && whole && !blocked {
            let segments = waiting.iter().map(|(id, _)| id.clone()).collect();
            units.push(Unit { segments, replaces: former, failed: !failed.is_empty() });
        } else if !obsolete && !together {
            let on_their_own = [(failed, true), (new, false)].into_iter().filter(|(due, _)| !due.is_empty());
            units.extend(on_their_own.map(|(due, failed)| {
                let segments = due.into_iter().map(|(id, _)| id.clone()).collect();
                Unit { segments, replaces: Vec::new(), failed }
            }));
        }
        obsolete |= together && (whole || in_flight);
    }
    units.reverse();
    units
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    fn id(name: &str) -> SegmentId {
        SegmentId::from_text(name)
    }

    fn version(replaces_former: bool, segments: &[(&str, Standing)]) -> Version {
        Version { replaces_former, segments: segments.iter().map(|(name, standing)| (id(name), *standing)).collect() }
    }

    fn names(units: &[Unit]) -> Vec<String> {
        units
            .iter()
            .map(|unit| {
                let list = |ids: &[SegmentId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join("+");
                let failed = if unit.failed { "!" } else { "" };
                format!("{}{failed}>{}", list(&unit.segments), list(&unit.replaces))
            })
            .collect()
    }

    fn plan_of(history: &[Version], skip: &[&str]) -> Vec<String> {
        names(&plan(history, Timestamp::from_micros(10), &skip.iter().map(|name| id(name)).collect()))
    }

    #[test]
    fn only_the_newest_of_waiting_versions_is_work() {
        let history = [
            version(true, &[("a", Standing::New)]),
            version(true, &[("b", Standing::New)]),
            version(true, &[("c", Standing::New)]),
        ];
        assert_eq!(plan_of(&history, &[]), ["c>a+b"]);
        assert_eq!(plan_of(&history, &["c"]), [""; 0], "c is being refined and will replace the others");
        assert_eq!(plan_of(&history, &["a"]), [""; 0], "a is being refined: c waits, and b would be removed at once");
    }

    #[test]
    fn a_version_that_waits_after_a_failure_leaves_the_former_one_its_turn() {
        let failed = Standing::Failed(Some(Timestamp::from_micros(11)));
        let history = [version(true, &[("a", Standing::New)]), version(true, &[("b", failed)])];
        assert_eq!(plan_of(&history, &[]), ["a>"]);
        let due = Standing::Failed(Some(Timestamp::from_micros(10)));
        let history = [version(true, &[("a", Standing::Loaded)]), version(true, &[("b", due)])];
        assert_eq!(plan_of(&history, &[]), ["b!>a"]);
    }

    #[test]
    fn the_segments_of_a_version_that_replaces_come_together_or_not_at_all() {
        let failed = Standing::Failed(None);
        let mut history = vec![
            version(true, &[("a", Standing::Loaded)]),
            version(true, &[("b", Standing::New), ("c", Standing::New)]),
        ];
        assert_eq!(plan_of(&history, &[]), ["b+c>a"]);
        assert_eq!(plan_of(&history, &["c"]), [""; 0]);
        history[1].segments[1].1 = failed;
        assert_eq!(plan_of(&history, &[]), [""; 0]);
        history[0].segments[0].1 = Standing::Superseded;
        assert_eq!(plan_of(&history, &[]), ["b>"], "what replaces nothing any more is on its own");
    }

    #[test]
    fn where_one_of_the_segments_that_come_together_failed_all_of_them_are_work_that_failed() {
        let due = Standing::Failed(Some(Timestamp::from_micros(10)));
        let mut history = vec![
            version(true, &[("a", Standing::Loaded)]),
            version(true, &[("b", Standing::New), ("c", due), ("d", Standing::New)]),
        ];
        assert_eq!(plan_of(&history, &[]), ["b+c+d!>a"]);
        history[0].segments[0].1 = Standing::Superseded;
        assert_eq!(plan_of(&history, &[]), ["b+d>", "c!>"], "on their own, each is what it is");
    }

    #[test]
    fn appended_and_tailed_parts_are_on_their_own_until_they_are_replaced() {
        let history = [version(true, &[("a", Standing::New)]), version(false, &[("b", Standing::New)])];
        assert_eq!(plan_of(&history, &[]), ["a>", "b>"]);
        let history = [history[0].clone(), history[1].clone(), version(true, &[("c", Standing::New)])];
        assert_eq!(plan_of(&history, &[]), ["c>a+b"]);
    }
}
