//! What a landing and a group of loads must be like, whatever the ledger holds: a broken one is the caller's fault.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use arrow_schema::SchemaRef;
use forebay_model::ids::{Generation, PipelineName, SegmentId, StreamName, TableName};
use forebay_model::load::{Again, Load, LoadGroup, RefinedSegment, Terms};
use forebay_model::ports::{
    Advance, Landing, NewObject, NewSegment, ObjectState, RebuiltPipeline, SegmentFailure, Side,
};
use forebay_model::position::{OrderedPosition, Position};
use forebay_model::revision::{Revision, RevisionId};
use forebay_model::schema::{SchemaVersion, StreamSchema};
use forebay_model::segment::{LandedSegment, Partition, SegmentContent};
use uuid::Uuid;

use crate::error::{LedgerError, Result};
use crate::versions::Standing;

fn broken<T>(message: String) -> Result<T> {
    Err(LedgerError::Invariant(message))
}

/// A number as SQLite keeps it.
pub(crate) fn signed(what: &str, value: u64) -> Result<i64> {
    i64::try_from(value).map_err(|_| LedgerError::invariant(format!("{what} {value} is above 2^63")))
}

/// Checks a landing: names and ids once each, positions that fit their partition, spans without gaps.
pub(crate) fn landing(landing: &Landing) -> Result<()> {
    let mut names = BTreeSet::new();
    let mut ids = BTreeSet::new();
    let mut parts = BTreeSet::new();
    for object in &landing.objects {
        if !names.insert(object.name.as_str()) {
            return broken(format!("landing {}: object {} stands twice", landing.attempt, object.name));
        }
        if let Some(source) = &object.source
            && !parts.insert((&source.partition, &source.key, &source.version, source.range.start))
        {
            return broken(format!("landing {}: {:?} stands twice", landing.attempt, source.key));
        }
        check_object(object)?;
        for segment in &object.segments {
            if !ids.insert(SegmentId::derive(&landing.stream, &segment.partition, &segment.first)) {
                return broken(format!(
                    "landing {}: the segment at {} of {} stands twice",
                    landing.attempt, segment.first, segment.partition
                ));
            }
        }
    }
    spans_fit(landing)
}

fn check_object(object: &NewObject) -> Result<()> {
    signed("size", object.bytes)?;
    if let Some(source) = &object.source {
        signed("offset", source.range.start)?;
        signed("offset", source.range.end)?;
        if source.range.start > source.range.end {
            return broken(format!("object {}: its range ends before it begins", object.name));
        }
    }
    object.segments.iter().try_for_each(|segment| check_segment(object, segment))
}

fn check_segment(object: &NewObject, segment: &NewSegment) -> Result<()> {
    let name = &object.name;
    signed("size", segment.bytes)?;
    signed("count", segment.records.unwrap_or(0))?;
    let range = match &segment.content {
        SegmentContent::Bytes { range, .. } => range,
        SegmentContent::Envelope { rows } => rows,
    };
    signed("offset", range.end)?;
    if range.start > range.end {
        return broken(format!("object {name}: the segment at {} ends before it begins", segment.first));
    }
    match (&segment.first, &segment.next, &object.source) {
        (Position::Ordered(first), Some(Position::Ordered(next)), None) if first <= next => Ok(()),
        (Position::Ordered(_), _, _) => {
            broken(format!("object {name}: the span at {} has no end, or belongs to a source's object", segment.first))
        }
        (Position::Object { key, version, range }, None, Some(source))
            if *key == source.key && *version == source.version && segment.partition == source.partition =>
        {
            signed("offset", range.end)?;
            if range.start < source.range.start || range.end > source.range.end || range.start > range.end {
                return broken(format!("object {name}: segment {} is not within what was landed", segment.first));
            }
            Ok(())
        }
        (Position::Object { .. }, _, _) => {
            broken(format!("object {name}: segment {} is of another source object", segment.first))
        }
    }
}

/// The spans of each ordered partition follow one another from where it stood to where it stands then.
fn spans_fit(landing: &Landing) -> Result<()> {
    let mut spans: BTreeMap<&Partition, Vec<(OrderedPosition, OrderedPosition)>> = BTreeMap::new();
    for segment in landing.objects.iter().flat_map(|object| &object.segments) {
        if let (Position::Ordered(first), Some(Position::Ordered(next))) = (&segment.first, &segment.next) {
            spans.entry(&segment.partition).or_default().push((*first, *next));
        }
    }
    let mut advanced = BTreeSet::new();
    for advance in &landing.advances {
        let partition = &advance.partition;
        if !advanced.insert(partition) {
            return broken(format!("landing {}: {partition} advances twice", landing.attempt));
        }
        let mut spans = spans.remove(partition).unwrap_or_default();
        spans.sort_unstable();
        let mut at = advance.from;
        for (first, next) in spans {
            if at.is_some_and(|at| at != first) {
                return broken(format!("landing {}: a gap before {first} of {partition}", landing.attempt));
            }
            at = Some(next);
        }
        if at.is_some_and(|at| at > advance.to) || (at != Some(advance.to) && at != advance.from) {
            return broken(format!("landing {}: {partition} does not end at {}", landing.attempt, advance.to));
        }
    }
    match spans.keys().next() {
        None => Ok(()),
        Some(partition) => broken(format!("landing {}: {partition} has spans and does not advance", landing.attempt)),
    }
}

/// A side is made once; who asks again means the same one.
pub(crate) fn same_side(known: &Side, wanted: &Side) -> Result<()> {
    let name = &known.name;
    if known.dropped {
        return Err(LedgerError::Side {
            what: format!("the tables of replay {name} are being dropped"),
            hint: "ask again in a moment",
        });
    }
    if known.of != wanted.of || known.revision != wanted.revision {
        let what = format!("the tables of replay {name} are made under revision {}", known.revision.short());
        return Err(LedgerError::Side { what, hint: "choose another suffix, or drop them first (`--drop`)" });
    }
    Ok(())
}

/// Checks a group: one load a table, all of its pipeline, number and revision; balanced counts; files of its segments.
pub(crate) fn group(ledger: Uuid, group: &LoadGroup) -> Result<()> {
    let LoadGroup { pipeline, number, revision, schema_version, begun_at: _, segments, loads } = group;
    let name = format!("group {number} of pipeline {pipeline}");
    signed("number", *number)?;
    let mut ids = BTreeSet::new();
    for segment in segments {
        if !ids.insert(&segment.segment) {
            return broken(format!("{name}: segment {} stands twice", segment.segment));
        }
        if !segment.counts.balanced() {
            return broken(format!("{name}: the counts of segment {} do not balance", segment.segment));
        }
        signed("count", segment.counts.records)?;
        signed("count", segment.counts.rescued)?;
        signed("count", segment.retryable)?;
        if segment.terms.revision.is_some_and(|under| under != *revision) {
            return broken(format!("{name}: segment {} was asked for under another revision", segment.segment));
        }
        let of_side = pipeline.as_side().is_some() && segment.terms.revision.is_none();
        if segment.terms != Terms::default() && segment.again != Some(Again::Replay) && !of_side {
            return broken(format!("{name}: segment {} is no replay, and has the terms of one", segment.segment));
        }
        if segment.again.is_some() && !segment.replaces.is_empty() {
            return broken(format!("{name}: segment {} is refined again, and replaces others", segment.segment));
        }
        let mut codes = BTreeSet::new();
        for reject in &segment.rejects {
            signed("count", reject.records)?;
            if !codes.insert((&reject.stage, &reject.code)) {
                return broken(format!("{name}: segment {} counts a reject code twice", segment.segment));
            }
        }
    }
    if segments.is_empty() {
        return broken(format!("{name} has no segments"));
    }
    if let Some(both) = segments.iter().flat_map(|segment| &segment.replaces).find(|replaced| ids.contains(replaced)) {
        return broken(format!("{name}: segment {both} is refined and replaced at once"));
    }
    let mut tables = BTreeSet::new();
    for load in loads {
        let fits = load.ledger == ledger
            && load.pipeline == *pipeline
            && load.number == *number
            && load.revision == *revision
            && load.schema_version == *schema_version;
        if !fits {
            return broken(format!(
                "{name}: its load of {} names another ledger, pipeline, number, revision or schema",
                load.table
            ));
        }
        if !tables.insert(&load.table) {
            return broken(format!("{name}: table {} is loaded twice", load.table));
        }
        for file in &load.files {
            signed("size", file.bytes)?;
            signed("count", file.rows)?;
            if !ids.contains(&file.segment) {
                return broken(format!(
                    "{name}: file {} is of segment {}, which is not of the group",
                    file.path, file.segment
                ));
            }
        }
    }
    Ok(())
}

/// What tells one group of a number from another: its loads' ids and its segments' generations.
pub(crate) fn fingerprint(group: &LoadGroup) -> String {
    let loads: BTreeMap<_, _> = group.loads.iter().map(|load| (load.table.to_string(), load.id)).collect();
    let segments: BTreeMap<_, _> =
        group.segments.iter().map(|segment| (segment.segment.as_str(), segment.generation)).collect();
    forebay_model::Digest::of(format!("{loads:?}{segments:?}").as_bytes()).to_string()
}

/// Whether a part of an object that is listed is the one that lands now. An empty part is not the part that comes when
/// the object grew.
pub(crate) fn known_part(stream: &StreamName, source: &ObjectState, listed: &Range<u64>) -> Result<bool> {
    let new = &source.range;
    if listed.start == new.start {
        return Ok(!listed.is_empty() || new.is_empty());
    }
    if listed.start < new.end && new.start < listed.end {
        return Err(LedgerError::Fenced(format!(
            "stream {stream}: bytes {}..{} of {:?} land, and {}..{} of the same version have landed",
            new.start, new.end, source.key, listed.start, listed.end
        )));
    }
    Ok(false)
}

/// Whether a partition that stands somewhere moves on; false where it has done so already.
pub(crate) fn may_advance(
    stream: &StreamName,
    advance: &Advance,
    stands: Option<OrderedPosition>,
    has_spans: bool,
) -> Result<bool> {
    if stands == advance.from {
        return Ok(true);
    }
    if !has_spans && stands.is_some_and(|stands| stands >= advance.to) {
        return Ok(false);
    }
    let place = |position: Option<OrderedPosition>| position.map_or("nowhere".to_owned(), |at| at.to_string());
    Err(LedgerError::Fenced(format!(
        "stream {stream}: partition {} stands at {}, and was to advance from {} to {}",
        advance.partition,
        place(stands),
        place(advance.from),
        advance.to
    )))
}

/// A segment as the ledger lists it.
pub(crate) fn landed(
    landing: &Landing,
    object: &NewObject,
    segment: &NewSegment,
    replaces: Vec<SegmentId>,
) -> LandedSegment {
    LandedSegment {
        id: SegmentId::derive(&landing.stream, &segment.partition, &segment.first),
        stream: landing.stream.clone(),
        partition: segment.partition.clone(),
        first: segment.first.clone(),
        next: segment.next.clone(),
        object: object.name.clone(),
        content: segment.content.clone(),
        bytes: segment.bytes,
        records: segment.records,
        digest: object.digest,
        landed_at: landing.landed_at,
        format: segment.format.clone(),
        replaces,
    }
}

/// Whether a generation of a loaded segment is the one that refining it again makes.
pub(crate) fn is_again(standing: Standing, generation: Generation, next: Generation) -> bool {
    standing == Standing::Loaded && generation == next
}

/// A segment that is being loaded, was loaded or was superseded cannot fail: somebody else refined it.
pub(crate) fn may_fail(pipeline: &PipelineName, segment: &SegmentId, standing: Standing) -> Result<()> {
    match standing {
        Standing::New | Standing::Failed(_) => Ok(()),
        Standing::Loading | Standing::Loaded | Standing::Superseded => Err(LedgerError::Fenced(format!(
            "pipeline {pipeline}: segment {segment} failed, and is {} already",
            standing.name()
        ))),
    }
}

/// Why a segment is to be replayed whose group was withdrawn.
pub(crate) const STILL_ASKED: &str = "its load was withdrawn";

/// No group of this number was opened.
pub(crate) fn no_group(pipeline: &PipelineName, number: u64) -> LedgerError {
    LedgerError::invariant(format!("pipeline {pipeline} has no group {number}"))
}

/// Why a segment of a group that is withdrawn is to wait.
pub(crate) fn failure_of<'a>(
    pipeline: &PipelineName,
    number: u64,
    failures: &BTreeMap<&SegmentId, &'a SegmentFailure>,
    segment: &SegmentId,
) -> Result<&'a SegmentFailure> {
    failures.get(segment).copied().ok_or_else(|| {
        LedgerError::invariant(format!(
            "group {number} of pipeline {pipeline} is withdrawn without a failure for segment {segment}"
        ))
    })
}

/// A segment of a new group is one that `work`, `failed`, `history` or `again` would give, in the generation that it would give.
pub(crate) fn may_open(
    group: &LoadGroup,
    segment: &RefinedSegment,
    standing: Standing,
    generation: Generation,
) -> Result<()> {
    let name = format!("group {} of pipeline {}: segment {}", group.number, group.pipeline, segment.segment);
    match standing {
        Standing::Loaded if segment.again.is_some() && segment.generation == generation => Ok(()),
        Standing::New | Standing::Failed(_) if segment.again.is_some() => {
            Err(LedgerError::Fenced(format!("{name} is refined again, and is {}", standing.name())))
        }
        Standing::New | Standing::Failed(_) if segment.generation == generation => Ok(()),
        Standing::New | Standing::Failed(_) => Err(LedgerError::Fenced(format!(
            "{name} comes in generation {}, and generation {generation} is the next",
            segment.generation
        ))),
        Standing::Loading | Standing::Loaded | Standing::Superseded => {
            Err(LedgerError::Fenced(format!("{name} is {} already", standing.name())))
        }
    }
}

/// A group that is opened again must be the same.
pub(crate) fn same_group(pipeline: &PipelineName, number: u64, same: bool) -> Result<()> {
    if same {
        return Ok(());
    }
    Err(LedgerError::Fenced(format!("group {number} of pipeline {pipeline} was opened before, with other content")))
}

/// Numbers grow.
pub(crate) fn number_follows(pipeline: &PipelineName, number: u64, last: u64) -> Result<()> {
    if number > last {
        return Ok(());
    }
    Err(LedgerError::Fenced(format!("group {number} of pipeline {pipeline}: group {last} was opened before")))
}

/// The reason of a deployment that was found in the landing zone.
pub(crate) const REBUILT: &str = "recovered";
/// What to do about a segment that is refined again because the ledger was rebuilt.
pub(crate) const AGAIN_HINT: &str = "`forebay run` refines it again, and replaces the rows that it has";

/// What was rebuilt goes into a ledger that is empty.
pub(crate) fn not_empty() -> LedgerError {
    LedgerError::Fenced("a ledger that was rebuilt is not put over one that holds something".to_owned())
}

/// The active revision is one of those that are known, and each number and schema version stands once.
pub(crate) fn rebuilt_revisions(content: &RebuiltPipeline) -> Result<()> {
    let pipeline = &content.pipeline;
    if let Some((active, _)) = &content.active
        && !content.revisions.iter().any(|record| record.id == *active)
    {
        return Err(not_recorded(pipeline, *active));
    }
    let numbers: BTreeSet<_> = content.revisions.iter().map(|record| record.number).collect();
    let versions: BTreeSet<_> = content.schemas.iter().map(|(schema, _)| schema.version).collect();
    if numbers.len() < content.revisions.len() || versions.len() < content.schemas.len() {
        return broken(format!("pipeline {pipeline}: a revision or schema was rebuilt twice"));
    }
    Ok(())
}

/// Nothing to close.
pub(crate) fn no_load(pipeline: &PipelineName, number: u64, table: &TableName) -> LedgerError {
    LedgerError::invariant(format!("load {number} of pipeline {pipeline} to {table} was not opened"))
}

/// Files, bytes and rows of a load; what is above 2^64 is refused as above 2^63.
pub(crate) fn totals(load: &Load) -> (u64, u64, u64) {
    load.files.iter().fold((0, 0, 0), |(files, bytes, rows), file| {
        (files + 1, u64::saturating_add(bytes, file.bytes), u64::saturating_add(rows, file.rows))
    })
}

/// What is to be done about a schema that grew.
pub(crate) enum Evolve {
    /// Write this version.
    Write(StreamSchema),
    /// Nothing; this is the answer.
    Answer(Option<StreamSchema>),
}

/// Decides on a schema that grew from a version.
pub(crate) fn evolve(stands: Option<StreamSchema>, from: Option<SchemaVersion>, grown: &SchemaRef) -> Result<Evolve> {
    let next = from
        .unwrap_or(0)
        .checked_add(1)
        .ok_or_else(|| LedgerError::invariant("a schema has no more versions to take"))?;
    if stands.as_ref().map(|stands| stands.version) == from {
        return Ok(Evolve::Write(StreamSchema { version: next, schema: SchemaRef::clone(grown) }));
    }
    // The same call once more, whose first answer may have been lost.
    Ok(Evolve::Answer(stands.filter(|stands| stands.version == next && stands.schema == *grown)))
}

/// A revision's JSON, the same for the same content.
pub(crate) fn revision_body(revision: &Revision) -> Result<String> {
    let value = serde_json::to_value(revision)
        .map_err(|error| LedgerError::invariant(format!("a revision as JSON: {error}")))?;
    Ok(forebay_model::revision::canonical(&value))
}

/// What a rollback puts in place cannot be what it takes back.
pub(crate) fn roll_back(to: RevisionId, meant: Option<RevisionId>) -> Result<()> {
    if meant == Some(to) {
        return Err(LedgerError::invariant(format!("revision {} is rolled back to itself", to.short())));
    }
    Ok(())
}

/// How the reason begins where nobody took a revision back, and another one came.
pub(crate) const SUPERSEDED: &str = "superseded by revision ";

/// Why a revision in shadow was cancelled, where another one came.
pub(crate) fn superseded(by: u32, reason: &str) -> String {
    format!("{SUPERSEDED}{by} ({reason})")
}

/// A shadow says what was asked for.
pub(crate) fn shadow_without_plan(pipeline: &PipelineName) -> LedgerError {
    LedgerError::invariant(format!("a revision of pipeline {pipeline} goes into shadow without a plan"))
}

/// What is active is not compared with itself.
pub(crate) fn shadow_of_itself(pipeline: &PipelineName, revision: RevisionId) -> LedgerError {
    LedgerError::invariant(format!("revision {} of pipeline {pipeline} is active, and no shadow", revision.short()))
}

/// A revision cannot be deployed before it is recorded.
pub(crate) fn not_recorded(pipeline: &PipelineName, revision: RevisionId) -> LedgerError {
    LedgerError::invariant(format!("revision {} of pipeline {pipeline} is not recorded", revision.short()))
}
