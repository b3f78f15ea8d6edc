//! A group in the making: segments of one binding that will become loaded together.

use std::collections::{BTreeMap, BTreeSet};

use arrow_schema::{Schema, SchemaRef};
use forebay_model::load::{Again, LoadGroup};
use forebay_model::ports::{Random, WorkItem};
use forebay_model::{ErrorClass, Load, PipelineName, RevisionId, SegmentId, StagedFile, TableName, Timestamp};
use uuid::Uuid;

use super::segment::StagedSegment;

/// A binding, as the state machine knows it: ids and the tables' schemas, nothing that does I/O.
#[derive(Debug, Clone, PartialEq)]
pub struct BoundSummary {
    /// The revision.
    pub revision: RevisionId,
    /// Its number, for people.
    pub number: u32,
    /// The schema's version; 0 where there is none yet.
    pub schema_version: u32,
    /// Each table's schema after a load.
    pub tables: BTreeMap<TableName, (SchemaRef, Vec<String>)>,
}

/// A group in the making.
#[derive(Debug, Clone)]
pub struct Group {
    /// The number of its loads.
    pub number: u64,
    /// The binding that its segments are refined under.
    pub binding: u64,
    /// When its first segment went to a worker.
    pub begun_at: Timestamp,
    /// Bytes of its segments, as they landed.
    pub bytes: u64,
    /// Segments with the workers.
    pub running: BTreeMap<SegmentId, WorkItem>,
    /// Segments that are done.
    pub staged: Vec<(WorkItem, StagedSegment)>,
    /// The `replaces` of segments that failed, and why: all of such an object load together, or none.
    pub spoiled: Vec<(Vec<SegmentId>, ErrorClass)>,
}

/// A settled group: what loads, and what does not after all.
#[derive(Debug, Default)]
pub struct Settled {
    /// These load.
    pub staged: Vec<(WorkItem, StagedSegment)>,
    /// Other segments of their object failed, for a reason of this class: these wait with them.
    pub held_back: Vec<(WorkItem, StagedSegment, ErrorClass)>,
    /// A newer version of their object is in the group: they are superseded.
    pub superseded: Vec<StagedSegment>,
}

impl Group {
    /// An empty group.
    #[must_use]
    pub fn new(number: u64, binding: u64, begun_at: Timestamp) -> Self {
        Self { number, binding, begun_at, bytes: 0, running: BTreeMap::new(), staged: Vec::new(), spoiled: Vec::new() }
    }

    /// Segments that it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.running.len() + self.staged.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a segment belongs with the last one: both are parts of the same new version of an object.
    #[must_use]
    pub fn must_hold(&self, item: &WorkItem) -> bool {
        let replaces = &item.segment.replaces;
        let of = |other: &WorkItem| other.segment.replaces == *replaces && other.segment.object == item.segment.object;
        !replaces.is_empty() && (self.running.values().any(of) || self.staged.iter().any(|(other, _)| of(other)))
    }

    /// Why other segments of its object failed, where any did: for a reason that does not go away by itself before one that does.
    fn spoils(&self, item: &WorkItem) -> Option<ErrorClass> {
        let replaces = &item.segment.replaces;
        let of_object = self.spoiled.iter().filter(|(other, _)| !replaces.is_empty() && other == replaces);
        of_object.map(|(_, class)| *class).min_by_key(|class| *class == ErrorClass::Retry)
    }

    /// Sorts out what loads.
    #[must_use]
    pub fn settle(&mut self) -> Settled {
        let superseded: BTreeSet<SegmentId> =
            self.staged.iter().flat_map(|(item, _)| item.segment.replaces.iter().cloned()).collect();
        let mut settled = Settled::default();
        for (item, staged) in std::mem::take(&mut self.staged) {
            if superseded.contains(&item.segment.id) {
                settled.superseded.push(staged);
            } else if let Some(class) = self.spoils(&item) {
                settled.held_back.push((item, staged, class));
            } else {
                settled.staged.push((item, staged));
            }
        }
        settled.staged.sort_by(|(a, _), (b, _)| {
            a.segment.landed_at.cmp(&b.segment.landed_at).then_with(|| a.segment.id.cmp(&b.segment.id))
        });
        settled
    }
}

/// Segments all of whose rows are to be removed: former generations of the group's own, and those that they take the place of. A heal
/// leaves the rows that there are.
#[must_use]
pub fn removes(staged: &[(WorkItem, StagedSegment)]) -> Vec<SegmentId> {
    let mut removes = BTreeSet::new();
    for (item, _) in staged {
        if item.generation > 0 && item.again != Some(Again::Heal) {
            removes.insert(item.segment.id.clone());
        }
        removes.extend(item.segment.replaces.iter().cloned());
    }
    removes.into_iter().collect()
}

/// Who writes a group down.
#[derive(Debug, Clone)]
pub struct Writer<'a> {
    /// The ledger.
    pub ledger: Uuid,
    /// The pipeline.
    pub pipeline: &'a PipelineName,
    /// Ids of loads.
    pub random: &'a dyn Random,
}

/// The group as the ledger writes it down: one load for each table that gains rows or loses them.
#[must_use]
pub fn write_down(
    writer: &Writer<'_>,
    group: &Group,
    bound: &BoundSummary,
    staged: Vec<(WorkItem, StagedSegment)>,
    touched: &[TableName],
) -> LoadGroup {
    let removes = removes(&staged);
    let mut files: BTreeMap<TableName, Vec<StagedFile>> =
        touched.iter().map(|table| (table.clone(), Vec::new())).collect();
    let mut segments = Vec::with_capacity(staged.len());
    let mut healed: BTreeMap<TableName, Vec<SegmentId>> = BTreeMap::new();
    let chosen = staged.iter().all(|(item, _)| item.terms.revision.is_some());
    for (_, segment) in staged {
        let StagedSegment { refined, bytes: _, files: of_segment, heals } = segment;
        if let Some(rejects) = heals {
            files.entry(rejects.clone()).or_default();
            healed.entry(rejects).or_default().push(refined.segment.clone());
        }
        segments.push(refined);
        for (table, more) in of_segment {
            files.entry(table).or_default().extend(more);
        }
    }
    let loads = files
        .into_iter()
        .map(|(table, files)| {
            let unchanged = (SchemaRef::new(Schema::empty()), Vec::new());
            let (schema, partition_by) = match bound.tables.get(&table) {
                Some(known) if !files.is_empty() => known.clone(),
                Some(_) | None => unchanged,
            };
            let mut removes = if touched.contains(&table) { removes.clone() } else { Vec::new() };
            removes.extend(healed.remove(&table).unwrap_or_default());
            Load {
                ledger: writer.ledger,
                pipeline: writer.pipeline.clone(),
                number: group.number,
                id: writer.random.uuid(),
                table,
                revision: bound.revision,
                schema_version: bound.schema_version,
                begun_at: group.begun_at,
                schema,
                partition_by,
                files,
                removes,
                chosen,
            }
        })
        .collect();
    LoadGroup {
        pipeline: writer.pipeline.clone(),
        number: group.number,
        revision: bound.revision,
        schema_version: bound.schema_version,
        begun_at: group.begun_at,
        segments,
        loads,
    }
}
