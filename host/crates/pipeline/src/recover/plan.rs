//! What a rebuilt ledger holds: a function of what was found, and of nothing else.

use std::collections::{BTreeMap, BTreeSet};

use forebay_model::flow::OnChange;
use forebay_model::kept::{KeptModule, KeptRevision, KeptSchema, KeptWithdrawal};
use forebay_model::ports::{
    AssetRecord, DamagedEntry, Landing, ModuleRecord, PastLoad, Rebuilt, RebuiltLoad, RebuiltPipeline, RebuiltSegment,
    RevisionRecord, SegmentRows, Standing, TableHistory,
};
use forebay_model::schema::SchemaVersion;
use forebay_model::{
    Digest, Error, PipelineName, Result, RevisionId, SegmentId, StreamName, StreamSchema, TableName, Timestamp,
};
use serde::Serialize;
use uuid::Uuid;

use super::Found;
use super::order::{Landed, in_order};

/// What is to be done about damage of the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// Only the newest entries may be damaged: no source was told of what they list.
    Refuse,
    /// A person said to go on without what cannot be read.
    Skip,
}

/// What is to be done.
#[derive(Debug)]
pub struct Plan {
    /// The id of the ledger.
    pub ledger: Uuid,
    /// What it is filled with.
    pub content: Rebuilt,
    /// For people.
    pub report: Report,
}

/// What was found, and what comes of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The id of the ledger.
    pub ledger: Uuid,
    /// Streams that have landed something.
    pub streams: Vec<StreamReport>,
    /// Pipelines of which something was found, or that are in the config.
    pub pipelines: Vec<PipelineReport>,
    /// Tables that another ledger loads; they are left alone.
    pub foreign: Vec<TableName>,
    /// Entries of the journal that cannot be read.
    pub damaged: Vec<DamagedEntry>,
    /// What is missing in the journal.
    pub gaps: Vec<String>,
}

/// What a stream has landed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StreamReport {
    /// Its name.
    pub stream: StreamName,
    /// Landings.
    pub landings: u64,
    /// Segments.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Objects that the journal names and the zone does not have, or has with another size.
    pub missing: Vec<String>,
}

/// What a pipeline has loaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PipelineReport {
    /// Its name.
    pub pipeline: PipelineName,
    /// The number of its last load.
    pub last_number: u64,
    /// The tables that it loads.
    pub tables: Vec<TableName>,
    /// Segments that are in all tables.
    pub loaded: u64,
    /// Segments that are refined again and replace what there is of them.
    pub again: u64,
    /// Segments that later versions of their objects took the place of.
    pub superseded: u64,
    /// Segments without a row: they are refined, most of them for the first time.
    pub without_rows: u64,
    /// Segments that have rows and that the journal does not have.
    pub unlisted: Vec<SegmentId>,
    /// The active revision's number.
    pub revision: Option<u32>,
    /// The schema's version.
    pub schema: Option<SchemaVersion>,
}

impl Plan {
    /// Has every segment that is loaded refined again: where a table was removed, or put back as it was long ago, nothing tells
    /// which of them it lacks.
    pub fn refine_all(&mut self, now: Timestamp) {
        let Self { ledger: _, content, report } = self;
        for segment in content.pipelines.iter_mut().flat_map(|pipeline| &mut pipeline.segments) {
            if segment.standing == Standing::Loaded {
                let why = "the ledger was rebuilt, and everything was to be refined again".to_owned();
                segment.standing = Standing::Again { why, at: now };
            }
        }
        for pipeline in &mut report.pipelines {
            pipeline.again += std::mem::take(&mut pipeline.loaded);
        }
    }
}

impl Plan {
    /// What is to be kept in the zone before the ledger is there: which segments are refined again. A ledger that is lost once more
    /// before they were would be rebuilt from tables whose last load is another one's, and take them for loaded.
    #[must_use]
    pub fn to_keep(&self) -> Vec<KeptWithdrawal> {
        let of = |pipeline: &RebuiltPipeline| {
            let again = pipeline.segments.iter().filter(|segment| matches!(segment.standing, Standing::Again { .. }));
            let again: Vec<_> = again.map(|segment| segment.segment.clone()).collect();
            (!again.is_empty()).then(|| KeptWithdrawal::new(pipeline.pipeline.clone(), pipeline.last_number, again))
        };
        self.content.pipelines.iter().filter_map(of).collect()
    }
}

/// Decides what the rebuilt ledger holds.
///
/// # Errors
/// Class operator, with what to do: there is nothing to rebuild from, or the journal lacks something that it must have.
/// Class fenced: the journal is of more than one ledger.
pub fn plan(found: Found, damage: Damage, now: Timestamp) -> Result<Plan> {
    let Found { identity, journal, objects, tables, revisions, assets, schemas, withdrawals, streams } = found;
    let ledger = identify(identity, journal.entries.iter().map(|entry| entry.ledger), tables.values())?;
    refuse_damage(&journal.damaged, damage)?;
    let Landed { landings, partitions, gaps } = in_order(journal.entries);
    refuse_gaps(&gaps, damage)?;
    let listing = Listing::of(&landings);
    let (own, foreign): (BTreeMap<_, _>, BTreeMap<_, _>) = tables
        .into_iter()
        .filter(|(_, history)| history.ledger.is_some())
        .partition(|(_, history)| history.ledger == Some(ledger));
    let mut parts: BTreeMap<PipelineName, Parts> = BTreeMap::new();
    for name in streams.keys() {
        parts.entry(name.clone()).or_default();
    }
    for (table, history) in own {
        if let Some(name) = history.pipeline.clone() {
            parts.entry(name).or_default().tables.push((table, history));
        }
    }
    for kept in revisions {
        parts.entry(kept.revision.pipeline.clone()).or_default().revisions.push(kept);
    }
    for kept in schemas {
        parts.entry(kept.pipeline.clone()).or_default().schemas.push(kept);
    }
    for kept in withdrawals {
        parts.entry(kept.pipeline.clone()).or_default().withdrawals.push(kept);
    }
    let mut content = Rebuilt { landings, partitions, ..Rebuilt::default() };
    let mut report = Report {
        ledger,
        streams: listing.reports(&content.landings, &objects),
        pipelines: Vec::new(),
        foreign: foreign.into_keys().collect(),
        damaged: journal.damaged,
        gaps,
    };
    for (name, parts) in parts {
        let stream = streams.get(&name).or(parts.revisions.last().map(|kept| &kept.revision.stream)).cloned();
        content.modules.extend(parts.modules());
        content.assets.extend(parts.assets(&assets));
        let (rebuilt, told) = parts.rebuild(name, stream.as_ref(), &listing, now);
        report.pipelines.push(told);
        if rebuilt.last_number > 0 || !rebuilt.schemas.is_empty() || !rebuilt.revisions.is_empty() {
            content.pipelines.push(rebuilt);
        }
    }
    Ok(Plan { ledger, content, report })
}

/// The id that the lost ledger had.
fn identify<'a>(
    identity: Option<Uuid>,
    journal: impl Iterator<Item = Uuid>,
    tables: impl Iterator<Item = &'a TableHistory>,
) -> Result<Uuid> {
    let journal: BTreeSet<Uuid> = journal.collect();
    let tables: BTreeSet<Uuid> = tables.filter_map(|history| history.ledger).collect();
    let mut told = identity.into_iter().chain(journal.iter().copied()).chain(tables);
    let ledger = told.next().ok_or_else(|| {
        Error::operator("there is nothing to rebuild a ledger from: nothing has landed, and no table was loaded")
            .with_hint("check landing.url and the warehouses' urls in the config; `forebay run` makes a new ledger")
    })?;
    match journal.iter().find(|other| **other != ledger) {
        None => Ok(ledger),
        Some(other) => Err(Error::fenced(format!(
            "the journal of the landing zone is of more than one ledger: {ledger} and {other}"
        ))
        .with_hint("take the entries of the ledger that is not the zone's out of _forebay/journal")),
    }
}

fn refuse_damage(damaged: &[DamagedEntry], damage: Damage) -> Result<()> {
    let Some(first) = damaged.iter().find(|entry| !entry.last && damage == Damage::Refuse) else { return Ok(()) };
    Err(Error::operator(format!(
        "entry {} of the landing zone's journal cannot be read, and others came after it: {}",
        first.name, first.what
    ))
    .with_hint(
        "restore it in _forebay/journal from a backup of the landing zone; where there is none, `--skip-damaged` goes on \
         without it: what it listed lands again if its source still has it",
    ))
}

fn refuse_gaps(gaps: &[String], damage: Damage) -> Result<()> {
    let Some(first) = gaps.first().filter(|_| damage == Damage::Refuse) else { return Ok(()) };
    Err(Error::operator(format!("the landing zone's journal does not fit together: {first}")).with_hint(
        "restore _forebay/journal from a backup of the landing zone; where there is none, `--skip-damaged` goes on without \
         what is missing",
    ))
}

/// What is listed, as far as pipelines need it.
struct Listing {
    segments: BTreeMap<SegmentId, StreamName>,
    /// The versions of each key with more than one, in the order of landing: whether it replaces those before, its segments.
    histories: Vec<Vec<(bool, Vec<SegmentId>)>>,
}

impl Listing {
    fn of(landings: &[Landing]) -> Self {
        let mut segments = BTreeMap::new();
        let mut keys: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for landing in landings {
            for object in &landing.objects {
                let ids: Vec<_> = object
                    .segments
                    .iter()
                    .map(|segment| SegmentId::derive(&landing.stream, &segment.partition, &segment.first))
                    .collect();
                segments.extend(ids.iter().map(|id| (id.clone(), landing.stream.clone())));
                if let Some(source) = &object.source {
                    let key = (&landing.stream, &source.partition, source.key.as_str());
                    keys.entry(key).or_default().push((object.on_change == OnChange::Replace, ids));
                }
            }
        }
        let histories = keys.into_values().filter(|versions| versions.len() > 1).collect();
        Self { segments, histories }
    }

    fn reports(&self, landings: &[Landing], objects: &BTreeMap<String, u64>) -> Vec<StreamReport> {
        let mut streams: BTreeMap<&StreamName, StreamReport> = BTreeMap::new();
        for landing in landings {
            let report = streams.entry(&landing.stream).or_insert_with(|| StreamReport {
                stream: landing.stream.clone(),
                landings: 0,
                segments: 0,
                bytes: 0,
                missing: Vec::new(),
            });
            report.landings += 1;
            for object in &landing.objects {
                report.segments += object.segments.len() as u64;
                report.bytes += object.bytes;
                if objects.get(&object.name) != Some(&object.bytes) {
                    report.missing.push(object.name.clone());
                }
            }
        }
        streams.into_values().collect()
    }
}

/// What was found of a pipeline.
#[derive(Default)]
struct Parts {
    tables: Vec<(TableName, TableHistory)>,
    revisions: Vec<KeptRevision>,
    schemas: Vec<KeptSchema>,
    withdrawals: Vec<KeptWithdrawal>,
}

impl Parts {
    fn modules(&self) -> Vec<ModuleRecord> {
        let record = |module: &KeptModule, at: Timestamp| {
            let KeptModule { digest, name, version, bytes } = module.clone();
            ModuleRecord { digest, name, version, bytes, origin: "recovered".to_owned(), at }
        };
        let of =
            |kept: &KeptRevision| kept.modules.iter().map(|module| record(module, kept.created_at)).collect::<Vec<_>>();
        self.revisions.iter().flat_map(of).collect()
    }

    /// Those that are kept, by the name that they had first.
    fn assets(&self, kept: &BTreeMap<Digest, u64>) -> Vec<AssetRecord> {
        let mut first: Vec<_> = self.revisions.iter().collect();
        first.sort_by_key(|kept| kept.created_at);
        let named = first.into_iter().flat_map(|of| {
            let steps = of.revision.steps.iter();
            steps.flat_map(|step| &step.assets).map(|(name, digest)| (name, *digest, of.created_at))
        });
        named
            .filter_map(|(name, digest, at)| {
                let bytes = *kept.get(&digest)?;
                Some(AssetRecord { digest, name: name.clone(), bytes, origin: "recovered".to_owned(), at })
            })
            .collect()
    }

    fn rebuild(
        self,
        pipeline: PipelineName,
        stream: Option<&StreamName>,
        listing: &Listing,
        now: Timestamp,
    ) -> (RebuiltPipeline, PipelineReport) {
        let last_number = self.last_number();
        let loads = self.loads(now);
        let unsure = Unsure { last_number, replaced: self.replaced(last_number), withdrawn: self.withdrawn() };
        let segments = standings(&self.rows(), &unsure, listing, now, &loads);
        let revisions = numbered(self.revisions);
        // What a replay asked for was active once, or never.
        let of_tables = self.tables.iter().flat_map(|(_, history)| &history.loads);
        let chosen: BTreeMap<u64, RevisionId> =
            of_tables.filter(|load| load.chosen).map(|load| (load.number, load.revision)).collect();
        let own = |load: &&RebuiltLoad| !load.id.is_nil() && !chosen.contains_key(&load.number);
        let last_load = loads.iter().filter(own).max_by_key(|load| load.number);
        let known = |record: &&RevisionRecord| chosen.values().all(|chosen| *chosen != record.id);
        let active = last_load
            .and_then(|load| revisions.iter().find(|record| record.id == load.revision))
            .or_else(|| revisions.iter().rev().find(known))
            .or(revisions.last())
            .map(|record| (record.id, record.created_at));
        let schemas = versions(self.schemas);
        let told = report(&pipeline, stream, listing, &segments);
        let report = PipelineReport {
            last_number,
            tables: self.tables.into_iter().map(|(table, _)| table).collect(),
            revision: active
                .and_then(|(id, _)| revisions.iter().find(|record| record.id == id))
                .map(|record| record.number),
            schema: schemas.last().map(|(schema, _)| schema.version),
            ..told
        };
        (RebuiltPipeline { pipeline, last_number, loads, segments, schemas, revisions, active }, report)
    }

    /// For each segment of a group that was withdrawn, the last such group.
    fn withdrawn(&self) -> BTreeMap<SegmentId, u64> {
        let mut found: BTreeMap<SegmentId, u64> = BTreeMap::new();
        for KeptWithdrawal { version: _, pipeline: _, number, segments } in &self.withdrawals {
            for segment in segments {
                let last = found.entry(segment.clone()).or_insert(*number);
                *last = (*last).max(*number);
            }
        }
        found
    }

    /// The highest number that a table has. All groups below it are in all tables, but for those that were withdrawn.
    fn last_number(&self) -> u64 {
        let of = |history: &TableHistory| history.rows.iter().map(|rows| rows.load).chain(history.last).max();
        self.tables.iter().filter_map(|(_, history)| of(history)).max().unwrap_or(0)
    }

    /// For each segment that has rows, the last load that brought any.
    fn rows(&self) -> BTreeMap<SegmentId, u64> {
        let mut found: BTreeMap<SegmentId, u64> = BTreeMap::new();
        for SegmentRows { segment, load, rows: _ } in self.tables.iter().flat_map(|(_, history)| &history.rows) {
            let last = found.entry(segment.clone()).or_insert(*load);
            *last = (*last).max(*load);
        }
        found
    }

    /// Segments whose former rows the last group replaces: some tables may have lost theirs, and others lack what is to take their
    /// place.
    fn replaced(&self, last_number: u64) -> BTreeSet<SegmentId> {
        let loads = self.tables.iter().flat_map(|(_, history)| &history.loads);
        loads.filter(|load| load.number == last_number).flat_map(|load| load.replaces.iter().cloned()).collect()
    }

    fn loads(&self, now: Timestamp) -> Vec<RebuiltLoad> {
        let mut loads: BTreeMap<(u64, &TableName), RebuiltLoad> = BTreeMap::new();
        for (table, history) in &self.tables {
            for PastLoad { number, id, revision, table_version, rows_removed, replaces: _, chosen: _, at } in
                &history.loads
            {
                let load = RebuiltLoad {
                    number: *number,
                    table: table.clone(),
                    id: *id,
                    revision: *revision,
                    table_version: *table_version,
                    rows_removed: *rows_removed,
                    at: at.unwrap_or(now),
                    rows: Vec::new(),
                };
                loads.insert((*number, table), load);
            }
            for SegmentRows { segment, load, rows } in &history.rows {
                let unknown = || RebuiltLoad {
                    number: *load,
                    table: table.clone(),
                    id: Uuid::nil(),
                    revision: Digest::from_bytes([0; 32]),
                    table_version: 0,
                    rows_removed: 0,
                    at: now,
                    rows: Vec::new(),
                };
                loads.entry((*load, table)).or_insert_with(unknown).rows.push((segment.clone(), *rows));
            }
        }
        loads.into_values().collect()
    }
}

/// What may be in some tables and not in others.
struct Unsure {
    /// The last group.
    last_number: u64,
    /// Segments whose former rows it replaces.
    replaced: BTreeSet<SegmentId>,
    /// For each segment of a group that was withdrawn, the last such group.
    withdrawn: BTreeMap<SegmentId, u64>,
}

/// What the segments with rows are, and those that later versions took the place of.
fn standings(
    rows: &BTreeMap<SegmentId, u64>,
    unsure: &Unsure,
    listing: &Listing,
    now: Timestamp,
    loads: &[RebuiltLoad],
) -> Vec<RebuiltSegment> {
    let Unsure { last_number, replaced, withdrawn } = unsure;
    let again = |why: &str| Standing::Again { why: why.to_owned(), at: now };
    // What a later version replaces is that version's to remove.
    let has_later = |versions: &[(bool, Vec<SegmentId>)], segment: &SegmentId| {
        let own = versions.iter().position(|(_, segments)| segments.contains(segment));
        own.is_some_and(|own| versions.iter().skip(own + 1).any(|(replaces, _)| *replaces))
    };
    let outdated = |segment: &SegmentId| listing.histories.iter().any(|versions| has_later(versions, segment));
    let mut standings: BTreeMap<&SegmentId, Standing> = BTreeMap::new();
    for (segment, load) in rows {
        let standing = if !listing.segments.contains_key(segment) {
            again("the ledger was rebuilt from a journal that does not have its landing")
        } else if withdrawn.get(segment).is_some_and(|number| load <= number) {
            again(&format!(
                "the ledger was rebuilt, and load {load} may be in some tables and not in others: it was withdrawn"
            ))
        } else if load >= last_number {
            again(&format!("the ledger was rebuilt, and whether all of load {load} was committed is not known"))
        } else if replaced.contains(segment) && !outdated(segment) {
            again(&format!(
                "the ledger was rebuilt, and whether load {last_number}, which replaces its rows, is in all tables is not known"
            ))
        } else {
            Standing::Loaded
        };
        standings.insert(segment, standing);
    }
    for versions in &listing.histories {
        for (index, (replaces, own)) in versions.iter().enumerate() {
            let formers = || versions.iter().take(index).flat_map(|(_, segments)| segments);
            let is_loaded = own.iter().any(|id| standings.get(id) == Some(&Standing::Loaded));
            if !replaces || !is_loaded {
                continue;
            }
            if formers().any(|id| rows.contains_key(id)) {
                // It was not what removed them after all: it is to do so now.
                let with_rows: Vec<_> = own.iter().filter(|id| rows.contains_key(*id)).collect();
                let why = "the ledger was rebuilt, and rows of a version that it takes the place of are still there";
                standings.extend(with_rows.into_iter().map(|id| (id, again(why))));
            } else {
                standings.extend(formers().map(|id| (id, Standing::Superseded)));
            }
        }
    }
    let revision_of: BTreeMap<u64, RevisionId> =
        loads.iter().filter(|load| !load.id.is_nil()).map(|load| (load.number, load.revision)).collect();
    standings
        .into_iter()
        .map(|(segment, standing)| {
            let number = rows.get(segment).copied();
            let revision = number.and_then(|number| revision_of.get(&number).copied());
            RebuiltSegment { segment: segment.clone(), standing, number, revision }
        })
        .collect()
}

/// Revisions by number. One that was given twice, because a ledger was put back from a copy, gets a new one.
fn numbered(mut kept: Vec<KeptRevision>) -> Vec<RevisionRecord> {
    kept.sort_by_key(|kept| (kept.number, kept.created_at));
    let mut next = kept.iter().map(|kept| kept.number).max().unwrap_or(0).saturating_add(1);
    let mut taken = BTreeSet::new();
    let mut records: Vec<_> = kept
        .into_iter()
        .map(|kept| {
            let KeptRevision { version: _, number, created_at, revision, modules: _ } = kept;
            let number = if taken.insert(number) {
                number
            } else {
                next = next.saturating_add(1);
                next - 1
            };
            RevisionRecord { number, id: revision.id(), revision, created_at }
        })
        .collect();
    records.sort_by_key(|record| record.number);
    records
}

/// Schemas by version; of one that was given twice, the later.
fn versions(mut kept: Vec<KeptSchema>) -> Vec<(StreamSchema, Timestamp)> {
    kept.sort_by_key(|kept| kept.kept_at);
    let by_version: BTreeMap<SchemaVersion, KeptSchema> =
        kept.into_iter().map(|kept| (kept.schema.version, kept)).collect();
    by_version.into_values().map(|kept| (kept.schema, kept.kept_at)).collect()
}

fn report(
    pipeline: &PipelineName,
    stream: Option<&StreamName>,
    listing: &Listing,
    segments: &[RebuiltSegment],
) -> PipelineReport {
    let mut report = PipelineReport {
        pipeline: pipeline.clone(),
        last_number: 0,
        tables: Vec::new(),
        loaded: 0,
        again: 0,
        superseded: 0,
        without_rows: 0,
        unlisted: Vec::new(),
        revision: None,
        schema: None,
    };
    for RebuiltSegment { segment, standing, number: _, revision: _ } in segments {
        match standing {
            _ if !listing.segments.contains_key(segment) => report.unlisted.push(segment.clone()),
            Standing::Loaded => report.loaded += 1,
            Standing::Again { .. } => report.again += 1,
            Standing::Superseded => report.superseded += 1,
        }
    }
    let of_stream = listing.segments.values().filter(|of| Some(*of) == stream).count() as u64;
    report.without_rows = of_stream.saturating_sub(report.loaded + report.again + report.superseded);
    report
}
