//! Landings in the order in which they happened, each thing once.
//!
//! Entries are named by time, and a clock may have been set back. What one landing says of others is stronger: a version comes
//! after those that it replaces, a part of a tailed file after the parts before it, a span after the one that ends where it
//! begins.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use forebay_model::ports::{JournalEntry, Landing, NewObject, RebuiltPartition};
use forebay_model::{OrderedPosition, Partition, Position, SegmentId, StreamName, Timestamp};

type Place = (StreamName, Partition);
/// Stream, partition, key and version.
type Content = (StreamName, Partition, String, String);

/// What was landed.
#[derive(Debug, Default)]
pub(super) struct Landed {
    pub(super) landings: Vec<Landing>,
    pub(super) partitions: Vec<RebuiltPartition>,
    /// What does not fit together: entries are missing.
    pub(super) gaps: Vec<String>,
}

/// Sorts out the entries of a journal.
pub(super) fn in_order(entries: Vec<JournalEntry>) -> Landed {
    let mut state = State::new(&entries);
    let mut pending: VecDeque<_> = entries.into();
    let mut landed = Landed::default();
    while !pending.is_empty() {
        let next = pending.iter().position(|entry| state.is_next(entry));
        let Some(entry) = pending.remove(next.unwrap_or(0)) else { break };
        if next.is_none() {
            landed.gaps.extend(state.gap(&entry));
        }
        let landing = state.take(entry, &mut landed.gaps);
        if !landing.objects.is_empty() {
            landed.landings.push(landing);
        }
    }
    landed.partitions = state
        .positions
        .into_iter()
        .map(|((stream, partition), (next, at))| RebuiltPartition { stream, partition, next, at })
        .collect();
    landed
}

struct State {
    /// Segments of all entries.
    all: BTreeSet<SegmentId>,
    /// Those that were taken.
    seen: BTreeSet<SegmentId>,
    positions: BTreeMap<Place, (OrderedPosition, Timestamp)>,
    /// Where parts begin that were not taken yet.
    parts: BTreeMap<Content, BTreeSet<u64>>,
}

fn content(stream: &StreamName, object: &NewObject) -> Option<(Content, u64)> {
    let source = object.source.as_ref()?;
    let content = (stream.clone(), source.partition.clone(), source.key.clone(), source.version.clone());
    Some((content, source.range.start))
}

/// The objects of an entry that the ledger listed: another attempt may have been faster with others.
fn listed(entry: &JournalEntry) -> impl Iterator<Item = &NewObject> {
    entry.landing.objects.iter().filter(|object| entry.segments.iter().any(|segment| segment.object == object.name))
}

impl State {
    fn new(entries: &[JournalEntry]) -> Self {
        let mut parts: BTreeMap<Content, BTreeSet<u64>> = BTreeMap::new();
        for entry in entries {
            for (content, start) in listed(entry).filter_map(|object| content(&entry.landing.stream, object)) {
                parts.entry(content).or_default().insert(start);
            }
        }
        let all = entries.iter().flat_map(|entry| &entry.segments).map(|segment| segment.id.clone()).collect();
        Self { all, seen: BTreeSet::new(), positions: BTreeMap::new(), parts }
    }

    fn position(&self, stream: &StreamName, partition: &Partition) -> Option<OrderedPosition> {
        self.positions.get(&(stream.clone(), partition.clone())).map(|(position, _)| *position)
    }

    /// Whether nothing has to come before it.
    fn is_next(&self, entry: &JournalEntry) -> bool {
        let stream = &entry.landing.stream;
        let replaced = entry.segments.iter().flat_map(|segment| &segment.replaces);
        let after_replaced = replaced.into_iter().all(|id| self.seen.contains(id) || !self.all.contains(id));
        let after_parts = listed(entry).filter_map(|object| content(stream, object)).all(|(content, start)| {
            self.parts.get(&content).and_then(BTreeSet::first).is_none_or(|first| *first >= start)
        });
        let mut advances = entry.landing.advances.iter();
        after_replaced
            && after_parts
            && advances
                .all(|advance| advance.from.is_none_or(|from| self.position(stream, &advance.partition) >= Some(from)))
    }

    /// The spans that are missing before an entry.
    fn gap(&self, entry: &JournalEntry) -> Vec<String> {
        let stream = &entry.landing.stream;
        let missing = entry.landing.advances.iter().filter_map(|advance| {
            let stands = self.position(stream, &advance.partition);
            let from = advance.from.filter(|from| stands < Some(*from))?;
            let stands = stands.map_or("its beginning".to_owned(), |stands| stands.to_string());
            Some(format!("stream {stream}: records of {} from {stands} to {from}", advance.partition))
        });
        missing.collect()
    }

    /// What of an entry is to be listed.
    fn take(&mut self, entry: JournalEntry, gaps: &mut Vec<String>) -> Landing {
        let names: BTreeSet<String> = listed(&entry).map(|object| object.name.clone()).collect();
        let Landing { stream, attempt, landed_at, objects, advances } = entry.landing;
        let mut taken = Vec::new();
        for mut object in objects.into_iter().filter(|object| names.contains(&object.name)) {
            if let Some((content, start)) = content(&stream, &object)
                && let Some(starts) = self.parts.get_mut(&content)
            {
                starts.remove(&start);
            }
            let before = object.segments.len();
            object.segments.retain(|segment| {
                let id = SegmentId::derive(&stream, &segment.partition, &segment.first);
                let overlaps = match &segment.first {
                    Position::Ordered(first) => self
                        .positions
                        .get(&(stream.clone(), segment.partition.clone()))
                        .is_some_and(|(stands, _)| first < stands),
                    Position::Object { .. } => false,
                };
                let known = self.seen.contains(&id);
                if overlaps && !known {
                    let (partition, first) = (&segment.partition, &segment.first);
                    gaps.push(format!("stream {stream}: records of {partition} from {first} stand in two landings"));
                }
                !known && !overlaps
            });
            // A part of a source's object is landed once, whatever another ledger cut it into.
            let whole = object.source.is_none() || object.segments.len() == before;
            if whole && !object.segments.is_empty() {
                let ids = object.segments.iter().map(|s| SegmentId::derive(&stream, &s.partition, &s.first));
                self.seen.extend(ids);
                taken.push(object);
            }
        }
        for advance in advances {
            let place = (stream.clone(), advance.partition);
            if self.positions.get(&place).is_none_or(|(stands, _)| *stands < advance.to) {
                self.positions.insert(place, (advance.to, landed_at));
            }
        }
        Landing { stream, attempt, landed_at, objects: taken, advances: Vec::new() }
    }
}
