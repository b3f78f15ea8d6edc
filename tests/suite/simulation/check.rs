//! What tables and ledger must hold at the end, told once more in other words than the pipeline's: from the content of objects and
//! partitions, line by line.

use std::collections::{BTreeMap, BTreeSet};

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int32Type, Int64Type};
use arrow_array::{Array, RecordBatch};
use arrow_schema::DataType;
use forebay_landing::naming;
use forebay_model::flow::OnChange;
use forebay_model::{PipelineName, column};
use serde_json::{Map, Value};

use super::process::stream;
use super::rule::Config;
use super::scenario::{ObjectFacts, Shape};
use super::world::World;

type Row = Map<String, Value>;

/// Rows as JSON objects without their nulls.
fn rows_of(batch: &RecordBatch) -> Vec<Row> {
    let mut rows = vec![Row::new(); batch.num_rows()];
    for (field, values) in batch.schema().fields().iter().zip(batch.columns()) {
        for (index, row) in rows.iter_mut().enumerate().filter(|(index, _)| values.is_valid(*index)) {
            let value = match field.data_type() {
                DataType::Int64 => values.as_primitive::<Int64Type>().value(index).into(),
                DataType::Int32 => values.as_primitive::<Int32Type>().value(index).into(),
                DataType::Float64 => values.as_primitive::<Float64Type>().value(index).into(),
                DataType::Boolean => values.as_boolean().value(index).into(),
                DataType::Utf8 => values.as_string::<i32>().value(index).into(),
                DataType::Timestamp(_, _) => "a time".into(),
                other => panic!("column {} has type {other}, which the check does not know", field.name()),
            };
            row.insert(field.name().clone(), value);
        }
    }
    rows
}

fn text(row: &Row, name: &str) -> String {
    row.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn number(row: &Row, name: &str) -> u64 {
    row.get(name).and_then(Value::as_u64).unwrap_or(u64::MAX)
}

async fn ledger_rows(world: &World, table: &str) -> Vec<Row> {
    let stores = world.storage.open().await.unwrap();
    rows_of(&stores.ledger.read_table(table).await.unwrap())
}

/// How many segments there are.
pub(crate) async fn segments(world: &World) -> u64 {
    ledger_rows(world, "segments").await.len() as u64
}

/// All that is wrong; empty where everything is right. Segments above `before` landed under the last revision.
pub(crate) async fn check(world: &World, before: u64) -> Vec<String> {
    let mut wrong = Vec::new();
    let segments = ledger_rows(world, "segments").await;
    let live = live(world, &segments, &mut wrong);
    zone(world, &segments, &mut wrong).await;
    for load in ledger_rows(world, "loads").await {
        // One that was withdrawn is in no table; its segments were refined again.
        if !matches!(text(&load, "state").as_str(), "done" | "withdrawn") {
            wrong.push(format!("load {} of {} is not done", number(&load, "number"), text(&load, "table_name")));
        }
    }
    deployments(world, &mut wrong).await;
    let refinements = ledger_rows(world, "refinements").await;
    let heals = ledger_rows(world, "heals").await;
    let again = ledger_rows(world, "again").await;
    let waiting = again.iter().map(|row| (text(row, "pipeline"), text(row, "segment"))).collect::<BTreeSet<_>>();
    let shapes = world.scenario().pipelines.clone();
    for shape in &shapes {
        let mut expected = Expected { waiting: waiting.clone(), ..Expected::default() };
        for segment in &segments {
            let id = text(segment, "segment");
            let refinement = refinements
                .iter()
                .find(|refinement| text(refinement, "pipeline") == shape.name && text(refinement, "segment") == id);
            let Some(refinement) = refinement else {
                wrong.push(format!("{}: {id} was never refined", shape.name));
                continue;
            };
            let state = text(refinement, "state");
            let should = if live.contains_key(&id) { "loaded" } else { "superseded" };
            if state != should {
                let message = text(refinement, "error_message");
                wrong.push(format!("{}: {id} is {state}, and should be {should}: {message}", shape.name));
                continue;
            }
            if let Some(lines) = live.get(&id) {
                let last = number(segment, "number") > before;
                let of = |heal: &&Row| text(heal, "pipeline") == shape.name && text(heal, "segment") == id;
                let mut tries = vec![refinement];
                tries.extend(heals.iter().filter(of));
                expected.segment(world, shape, &tries, lines, last, &mut wrong);
            }
        }
        let mut unknown: BTreeMap<String, Vec<Row>> = BTreeMap::new();
        for table in shape.tables() {
            let mut rows = match world.storage.rows(&table).await {
                Ok(rows) => rows.map(|batch| rows_of(&batch)).unwrap_or_default(),
                Err(error) => {
                    wrong.push(format!("{table} cannot be read: {}", error.chain()));
                    continue;
                }
            };
            let healed = rows.extract_if(.., |row| expected.unknown.contains_key(&text(row, column::SEGMENT)));
            unknown.insert(table.clone(), healed.collect());
            compare(&table, expected.tables.remove(&table).unwrap_or_default(), rows, &mut wrong);
        }
        plausible(world, shape, &expected.unknown, &unknown, &mut wrong);
    }
    wrong.truncate(12);
    wrong
}

/// Each pipeline has one active revision, and none made a load that was never active nor asked for by a replay: one in shadow does not.
async fn deployments(world: &World, wrong: &mut Vec<String>) {
    let (deployments, loads) = (ledger_rows(world, "deployments").await, ledger_rows(world, "loads").await);
    let shapes = world.scenario().pipelines.clone();
    for shape in &shapes {
        let of = |row: &&Row| text(row, "pipeline") == shape.name;
        let active = deployments.iter().filter(of).filter(|row| text(row, "state") == "active").count();
        if active != 1 {
            wrong.push(format!("{}: {active} revisions are active", shape.name));
        }
        let name = PipelineName::new(&shape.name).unwrap();
        for load in loads.iter().filter(of) {
            let (number, by) = (number(load, "number"), text(load, "revision_id"));
            if !world.may_have_refined(&name, by.parse().unwrap()) {
                wrong.push(format!("{name}: load {number} is by {by}, which was never active nor asked for"));
            }
        }
    }
}

/// The segments whose rows should be in the tables, each with its records; all of upstream is to be in one of them, once.
fn live(world: &World, segments: &[Row], wrong: &mut Vec<String>) -> BTreeMap<String, Vec<String>> {
    let scenario = world.scenario();
    let mut live = BTreeMap::new();
    for (key, facts) in &scenario.objects {
        let of_key: Vec<_> = segments.iter().filter(|segment| text(segment, "key") == *key).collect();
        object(key, facts, &of_key, &mut live, wrong);
    }
    for (partition, lines) in &scenario.partitions {
        let mut next = 0;
        let mut of_partition: Vec<_> =
            segments.iter().filter(|segment| text(segment, "partition") == partition.as_str()).collect();
        let place = |segment: &Row, name: &str| text(segment, name).parse::<usize>().unwrap();
        of_partition.sort_by_key(|segment| place(segment, "position"));
        for segment in of_partition {
            let (first, end) = (place(segment, "position"), place(segment, "next_position"));
            if first != next || end > lines.len() {
                wrong.push(format!("{partition}: a segment is of {first}..{end}, and the one before ended at {next}"));
                return live;
            }
            live.insert(text(segment, "segment"), lines[first..end].to_vec());
            next = end;
        }
        if next != lines.len() {
            wrong.push(format!("{partition}: {next} of {} records landed", lines.len()));
        }
    }
    live
}

fn object(
    key: &str,
    facts: &ObjectFacts,
    segments: &[&Row],
    live: &mut BTreeMap<String, Vec<String>>,
    wrong: &mut Vec<String>,
) {
    let landed: BTreeSet<String> = segments.iter().map(|segment| text(segment, "version")).collect();
    let (last, content) = facts.versions.last().unwrap();
    if !(landed.contains(last) || facts.on_change == OnChange::Tail && is_covered(content, segments)) {
        wrong.push(format!("{key}: version {last} did not land, only {landed:?}"));
        return;
    }
    let mut take = |content: &str, of: &[&Row]| {
        let mut parts: Vec<_> = of
            .iter()
            .map(|segment| (number(segment, "source_start"), number(segment, "source_end"), *segment))
            .collect();
        parts.sort_by_key(|(start, end, _)| (*start, *end));
        let mut next = 0;
        for (start, end, segment) in parts {
            let part = usize::try_from(start).ok().zip(usize::try_from(end).ok());
            let Some(part) = part.filter(|_| start == next).and_then(|(start, end)| content.get(start..end)) else {
                wrong.push(format!("{key}: a segment is of {start}..{end}, and the one before ended at {next}"));
                return;
            };
            live.insert(text(segment, "segment"), part.lines().map(ToOwned::to_owned).collect());
            next = end;
        }
        if next != content.len() as u64 {
            wrong.push(format!("{key}: {next} of {} bytes landed", content.len()));
        }
    };
    match facts.on_change {
        OnChange::Tail => take(content, segments),
        OnChange::Replace | OnChange::Append => {
            for (version, content) in &facts.versions {
                let counts = match facts.on_change {
                    OnChange::Append => landed.contains(version),
                    OnChange::Replace | OnChange::Tail => version == last,
                };
                if counts {
                    let of: Vec<_> =
                        segments.iter().copied().filter(|segment| text(segment, "version") == *version).collect();
                    take(content, &of);
                }
            }
        }
    }
}

/// A log to which nothing was added has no segment of its last version.
fn is_covered(content: &str, segments: &[&Row]) -> bool {
    segments.iter().map(|segment| number(segment, "source_end")).max() == Some(content.len() as u64)
}

/// What is listed is in the zone and in the journal, and the journal has nothing else.
async fn zone(world: &World, segments: &[Row], wrong: &mut Vec<String>) {
    let stores = world.storage.open().await.unwrap();
    let names: BTreeSet<_> = stores.zone.list("").await.unwrap().into_iter().map(|entry| entry.name).collect();
    for segment in segments {
        if !names.contains(&text(segment, "object")) {
            wrong.push(format!("{} is listed, and its object is gone", text(segment, "segment")));
        }
    }
    let journal = stores.zone.journal_entries().await.unwrap_or_else(|error| {
        wrong.push(format!("the journal cannot be read: {error}"));
        Vec::new()
    });
    let journalled: BTreeSet<_> =
        journal.iter().flat_map(|entry| &entry.segments).map(|segment| segment.id.to_string()).collect();
    let listed: BTreeSet<_> = segments.iter().map(|segment| text(segment, "segment")).collect();
    if journalled != listed {
        wrong.push(format!("the journal has {journalled:?}, and the ledger lists {listed:?}"));
    }
    if !stores.ledger.unjournalled(&stream()).await.unwrap().is_empty() {
        wrong.push("landings are left that were not journalled".to_owned());
    }
    let shapes = world.scenario().pipelines.clone();
    for shape in &shapes {
        let name = PipelineName::new(&shape.name).unwrap();
        if !stores.ledger.open_groups(&name).await.unwrap().is_empty() {
            wrong.push(format!("{name} has open groups"));
        }
    }
}

/// Objects of the zone that no ledger lists. Those of an attempt whose entry was set aside stay: it may have listed them.
pub(crate) async fn orphans(world: &World) -> Vec<String> {
    let stores = world.storage.open().await.unwrap();
    let told: BTreeSet<_> = stores.zone.journal_entries().await.unwrap().iter().map(|entry| entry.attempt).collect();
    let mut spared = stores.zone.journalled().await.unwrap();
    spared.retain(|attempt| !told.contains(attempt));
    let is_spared = |name: &str| naming::attempt_of(name).is_some_and(|attempt| spared.contains(&attempt));
    let mut names: Vec<_> = stores.zone.list("").await.unwrap().into_iter().map(|entry| entry.name).collect();
    names.retain(|name| !is_spared(name));
    let listed = stores.ledger.objects_listed(&names).await.unwrap();
    let orphans = names.into_iter().zip(listed).filter(|(_, listed)| !listed);
    orphans.map(|(name, _)| format!("{name} is in the zone, and no ledger lists it")).collect()
}

/// Where a record belongs.
enum Fate {
    Rejected { stage: &'static str, code: &'static str },
    Filtered,
    Loaded { rows: i64, odd: bool },
}

fn fate(line: &str, ruled: bool, config: Config) -> Fate {
    let Ok(value) = serde_json::from_str::<Value>(line) else {
        return Fate::Rejected { stage: "decode", code: "malformed" };
    };
    let Some(record) = value.as_object() else {
        return Fate::Rejected { stage: "decode", code: "not_an_object" };
    };
    if !ruled {
        return Fate::Loaded { rows: 1, odd: false };
    }
    let Some(n) = record.get("n").and_then(Value::as_i64) else {
        return Fate::Rejected { stage: "step:rule", code: "required_missing" };
    };
    match n {
        n if n % 51 == 5 || (config.harsh && n % 17 == 5) => Fate::Rejected { stage: "step:rule", code: "trap" },
        n if n % 33 == 4 || (config.harsh && n % 11 == 4) => Fate::Rejected { stage: "step:rule", code: "refused" },
        n if n < config.threshold => Fate::Filtered,
        n => Fate::Loaded { rows: if n % 7 == 3 { 2 } else { 1 }, odd: n % 2 == 1 },
    }
}

/// By segment, record and item.
type Places = BTreeMap<(String, i64, i64), Row>;

#[derive(Default)]
struct Expected {
    tables: BTreeMap<String, Places>,
    /// Pipelines and segments that are to be refined again still.
    waiting: BTreeSet<(String, String)>,
    /// Segments of which the ledger does not know who made which rows.
    unknown: BTreeMap<String, Vec<String>>,
}

impl Expected {
    /// `tries`: the refinement of all of the segment, then those of what was rejected, one after another.
    fn segment(
        &mut self,
        world: &World,
        shape: &Shape,
        tries: &[&Row],
        lines: &[String],
        last: bool,
        wrong: &mut Vec<String>,
    ) {
        let refinement = tries[0];
        let id = text(refinement, "segment");
        let configs: Option<Vec<_>> = tries.iter().map(|tried| world.config(&text(tried, "revision_id"))).collect();
        let Some(configs) = configs else {
            wrong.push(format!("{}: {id} was refined by a revision that nobody submitted", shape.name));
            return;
        };
        let place = world.scenario().pipelines.iter().position(|known| known.name == shape.name).unwrap();
        let wanted = world.scenario().wanted[place];
        // What a replay made under a revision that it asked for; a ledger that was rebuilt does not know which segments these are.
        let chosen = refinement.get("chosen").and_then(Value::as_bool) == Some(true);
        let unsure = world.is_rebuilt() && world.chaos.has_replayed_under();
        if last && shape.ruled && wanted != configs[0] && !chosen && !unsure {
            wrong.push(format!("{}: {id} landed after the last revision, and another refined it", shape.name));
        }
        let is = ["records", "loaded", "filtered", "rejected"].map(|name| number(refinement, name));
        // A rebuilt ledger has no counts of what its tables told it.
        let unknown = world.is_rebuilt() && is == [u64::MAX; 4];
        if unknown && world.chaos.was_healed(&shape.name, &id) {
            self.unknown.insert(id, lines.to_vec());
            return;
        }
        let (mut loaded, mut filtered, mut rejected) = (0, 0, 0);
        let mut left = vec![0; tries.len()];
        for (row, line) in (0_i64..).zip(lines) {
            let mut at = 0;
            let fate = loop {
                match fate(line, shape.ruled, configs[at]) {
                    Fate::Rejected { .. } if at + 1 < tries.len() => {
                        left[at] += 1;
                        at += 1;
                    }
                    fate => break fate,
                }
            };
            let load = number(tries[at], "load_number");
            match fate {
                Fate::Filtered => filtered += 1,
                Fate::Rejected { stage, code } => {
                    rejected += 1;
                    let reject = [
                        ("stage", Value::from(stage)),
                        ("code", code.into()),
                        ("raw", line.as_str().into()),
                        ("revision", number(tries[at], "revision").into()),
                        ("attempts", tries.len().into()),
                    ];
                    let reject = reject.map(|(name, value)| (name.to_owned(), value)).into_iter().collect();
                    self.row(shape.rejects(), (id.clone(), row, 0), reject, load);
                }
                Fate::Loaded { rows, odd } => {
                    loaded += 1;
                    let record: Row = serde_json::from_str(line).unwrap();
                    for item in 0..rows {
                        self.row(shape.out(), (id.clone(), row, item), record.clone(), load);
                    }
                    if odd && shape.keeps_odd {
                        self.row(shape.odd(), (id.clone(), row, 0), record, load);
                    }
                }
            }
        }
        let should = [lines.len() as u64, loaded, filtered, rejected];
        if is != should && !unknown {
            wrong.push(format!("{}: {id} counts {is:?}, and should count {should:?}", shape.name));
        }
        for (before, heal) in left.into_iter().zip(tries.iter().skip(1)) {
            if number(heal, "records") != before {
                wrong.push(format!("{}: {id}: of {before} rejects a heal tried {heal:?}", shape.name));
            }
        }
        let tried_last = configs.last().copied();
        // What a replay asked for that cannot be done waits for a person, and its segment with it.
        let waits = world.chaos.has_replayed_under() && self.waiting.contains(&(shape.name.clone(), id.clone()));
        if shape.ruled && rejected > 0 && tried_last != Some(wanted) && !chosen && !waits {
            wrong.push(format!("{}: {id} has rejects that the active revision has not tried", shape.name));
        }
    }

    fn row(&mut self, table: String, place: (String, i64, i64), mut row: Row, load: u64) {
        row.retain(|_, value| !value.is_null());
        row.insert(column::LOAD.to_owned(), load.into());
        self.tables.entry(table).or_default().insert(place, row);
    }
}

/// Rows of segments whose heals the ledger does not know: each record is loaded or rejected or neither, as some revision has it.
fn plausible(
    world: &World,
    shape: &Shape,
    unknown: &BTreeMap<String, Vec<String>>,
    rows: &BTreeMap<String, Vec<Row>>,
    wrong: &mut Vec<String>,
) {
    let configs = world.configs();
    for (id, lines) in unknown {
        let of = |table: &str, record: i64| {
            let of_record = |row: &&Row| text(row, column::SEGMENT) == *id && row[column::ROW].as_i64() == Some(record);
            rows.get(table).into_iter().flatten().filter(of_record).count() as i64
        };
        for (record, line) in (0_i64..).zip(lines) {
            let found = (of(&shape.out(), record), of(&shape.odd(), record), of(&shape.rejects(), record));
            let fits = |config: &Config| match fate(line, shape.ruled, *config) {
                Fate::Filtered => found == (0, 0, 0),
                Fate::Rejected { .. } => found == (0, 0, 1),
                Fate::Loaded { rows, odd } => found == (rows, i64::from(odd && shape.keeps_odd), 0),
            };
            if !configs.iter().any(fits) {
                wrong.push(format!("{}: record {record} of {id}, which was healed, has rows {found:?}", shape.name));
            }
        }
    }
}

fn compare(table: &str, mut expected: Places, rows: Vec<Row>, wrong: &mut Vec<String>) {
    for mut row in rows {
        let take = |row: &mut Row, name: &str| row.remove(name).and_then(|value| value.as_i64()).unwrap_or(-1);
        let segment = text(&row, column::SEGMENT);
        let place = (segment, take(&mut row, column::ROW), take(&mut row, column::ITEM));
        for own in [column::SEGMENT, column::LOADED_AT, "message", "retryable"] {
            row.remove(own);
        }
        // What did not fit its column is beside it; whole.
        if let Some(rescued) = row.remove(column::RESCUED) {
            let rescued: Row = serde_json::from_str(rescued.as_str().unwrap()).unwrap();
            row.extend(rescued);
        }
        match expected.remove(&place) {
            None => wrong.push(format!("{table}: row {place:?} is there once more, or should not be there at all")),
            Some(should) if !same(&should, &row) => {
                wrong.push(format!("{table}: row {place:?} is {row:?}, and should be {should:?}"));
            }
            Some(_) => {}
        }
    }
    if let Some(place) = expected.keys().next() {
        wrong.push(format!("{table}: {} rows are missing; the first is {place:?}", expected.len()));
    }
}

fn same(one: &Row, other: &Row) -> bool {
    let equal = |one: &Value, other: &Value| one == other || (one.is_number() && one.as_f64() == other.as_f64());
    one.len() == other.len() && one.iter().all(|(name, value)| other.get(name).is_some_and(|other| equal(value, other)))
}
