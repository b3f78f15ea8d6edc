//! What happens in the world of a seed beside the faults: objects that appear and change, records that arrive, revisions that are
//! submitted, tables that are maintained.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use forebay_model::Partition;
use forebay_model::flow::OnChange;
use forebay_model::load::Again;
use forebay_model::schema::SchemaChanges;

use super::rule::Config;
use super::tally::Tally;

/// A pipeline of the seed.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub(crate) name: String,
    /// Whether it has a step; without one, decoded rows go to the table as they are.
    pub(crate) ruled: bool,
    /// Whether the rows of the route `odd` go to a table.
    pub(crate) keeps_odd: bool,
    pub(crate) changes: SchemaChanges,
}

impl Shape {
    pub(crate) fn out(&self) -> String {
        format!("{}_out", self.name)
    }

    pub(crate) fn odd(&self) -> String {
        format!("{}_odd", self.name)
    }

    pub(crate) fn rejects(&self) -> String {
        format!("{}_rejects", self.name)
    }

    pub(crate) fn tables(&self) -> Vec<String> {
        let odd = (self.ruled && self.keeps_odd).then(|| self.odd());
        [self.out(), self.rejects()].into_iter().chain(odd).collect()
    }
}

/// An object, as its owner knows it.
#[derive(Debug, Clone)]
pub(crate) struct ObjectFacts {
    pub(crate) on_change: OnChange,
    /// All versions that there ever were, by name, each with its content; the last is the present one.
    pub(crate) versions: Vec<(String, String)>,
}

/// What a seed consists of.
#[derive(Debug)]
pub(crate) struct Scenario {
    rng: fastrand::Rng,
    pub(crate) pipelines: Vec<Shape>,
    pub(crate) objects: BTreeMap<String, ObjectFacts>,
    pub(crate) partitions: BTreeMap<Partition, Vec<String>>,
    /// What people want each pipeline's config to be.
    pub(crate) wanted: Vec<Config>,
    records: u64,
    /// What was drawn.
    pub(crate) tally: Tally,
}

/// What happens next.
#[derive(Debug, Clone)]
pub(crate) enum Action {
    /// An object appeared or changed.
    Put { key: String, version: String, content: String, on_change: OnChange },
    /// Records arrived.
    Append { partition: Partition, values: Vec<String> },
    /// Reading an object will fail.
    Spoil { key: String, open: bool, times: u32 },
    /// Somebody wants another config.
    Submit { pipeline: usize },
    /// Somebody puts a former revision back.
    RollBack { pipeline: usize },
    /// Somebody pauses a pipeline, or lets it go on.
    Pause { pipeline: usize },
    /// Somebody has a revision compared before it is taken.
    Shadow { pipeline: usize, config: Config },
    /// A table is maintained.
    Maintain { table: String },
    /// The zone is swept.
    Sweep,
    /// Changes that are held are approved.
    Approve,
    /// Somebody wants some loaded segments to be refined again: their rejects, or all of them.
    Again { pipeline: usize, what: Again, of: u64 },
}

impl Action {
    /// The pipeline that it is done to.
    pub(crate) fn pipeline(&self) -> Option<usize> {
        match self {
            Self::Submit { pipeline }
            | Self::RollBack { pipeline }
            | Self::Pause { pipeline }
            | Self::Shadow { pipeline, .. }
            | Self::Again { pipeline, .. } => Some(*pipeline),
            _ => None,
        }
    }
}

impl Scenario {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let count = [1, 1, 2, 2, 3][rng.usize(0..5)];
        let pipelines: Vec<_> = (0..count)
            .map(|number| Shape {
                name: format!("p{number}"),
                ruled: rng.u32(0..10) < 7,
                keeps_odd: rng.bool(),
                changes: [SchemaChanges::Apply, SchemaChanges::Apply, SchemaChanges::Hold, SchemaChanges::Rescue]
                    [rng.usize(0..4)],
            })
            .collect();
        let wanted = pipelines.iter().map(|_| healthy(&mut rng)).collect();
        Self {
            rng,
            pipelines,
            objects: BTreeMap::new(),
            partitions: BTreeMap::new(),
            wanted,
            records: 0,
            tally: Tally::default(),
        }
    }

    pub(crate) fn number(&mut self, range: std::ops::Range<u64>) -> u64 {
        self.rng.u64(range)
    }

    pub(crate) fn chance(&mut self, of_hundred: u32) -> bool {
        self.rng.u32(0..100) < of_hundred
    }

    /// Something from outside: an object or records.
    pub(crate) fn upstream(&mut self) -> Action {
        let action = if self.chance(35) { self.append() } else { self.put() };
        self.count(&action);
        action
    }

    /// Anything.
    pub(crate) fn next(&mut self) -> Action {
        let action = match self.rng.u32(0..27) {
            0..=9 => return self.upstream(),
            10..=14 => self.submit(),
            22 | 23 => Action::RollBack { pipeline: self.rng.usize(0..self.pipelines.len()) },
            24 => Action::Pause { pipeline: self.rng.usize(0..self.pipelines.len()) },
            25 | 26 => {
                let config = healthy(&mut self.rng);
                let config = Config { broken: self.rng.u32(0..4) == 0, ..config };
                Action::Shadow { pipeline: self.rng.usize(0..self.pipelines.len()), config }
            }
            20 | 21 => Action::Again {
                pipeline: self.rng.usize(0..self.pipelines.len()),
                what: if self.rng.bool() { Again::Heal } else { Again::Replay },
                of: self.rng.u64(1..4),
            },
            15 | 16 => {
                let tables: Vec<_> = self.pipelines.iter().flat_map(Shape::tables).collect();
                Action::Maintain { table: tables[self.rng.usize(0..tables.len())].clone() }
            }
            17 => Action::Approve,
            18 => Action::Sweep,
            _ => {
                let keys: Vec<_> = self.objects.keys().cloned().collect();
                if keys.is_empty() {
                    self.put()
                } else {
                    let key = keys[self.rng.usize(0..keys.len())].clone();
                    Action::Spoil { key, open: self.rng.bool(), times: self.rng.u32(1..4) }
                }
            }
        };
        self.count(&action);
        action
    }

    /// What is done as soon as a process runs: now and then everything is maintained, when what the last one left is old.
    pub(crate) fn first(&mut self) -> Vec<Action> {
        if !self.chance(25) {
            return Vec::new();
        }
        let tables = self.pipelines.iter().flat_map(Shape::tables);
        let actions: Vec<_> = tables.map(|table| Action::Maintain { table }).chain([Action::Sweep]).collect();
        actions.iter().for_each(|action| self.count(action));
        actions
    }

    fn count(&mut self, action: &Action) {
        let tally = &mut self.tally;
        *match action {
            Action::Put { key, .. } if self.objects[key].versions.len() == 1 => &mut tally.object_new,
            Action::Put { on_change: OnChange::Replace, .. } => &mut tally.object_replaced,
            Action::Put { on_change: OnChange::Append, .. } => &mut tally.object_appended,
            Action::Put { on_change: OnChange::Tail, .. } => &mut tally.object_grown,
            Action::Append { .. } => &mut tally.records_appended,
            Action::Spoil { open: true, .. } => &mut tally.spoiled_open,
            Action::Spoil { open: false, .. } => &mut tally.spoiled_read,
            Action::Submit { pipeline } => match self.wanted[*pipeline] {
                Config { broken: true, .. } => &mut tally.submitted_broken,
                Config { refused: true, .. } => &mut tally.submitted_refused,
                Config { broken: false, refused: false, threshold: _, harsh: _ } => &mut tally.submitted,
            },
            Action::RollBack { .. } => &mut tally.rollback_asked,
            Action::Pause { .. } => &mut tally.pause_asked,
            Action::Shadow { .. } => &mut tally.shadow_asked,
            Action::Maintain { .. } => &mut tally.maintained,
            Action::Sweep => &mut tally.swept,
            Action::Approve => &mut tally.approved,
            Action::Again { what: Again::Heal, .. } => &mut tally.heal_asked,
            Action::Again { what: Again::Replay, .. } => &mut tally.replay_asked,
        } += 1;
    }

    fn submit(&mut self) -> Action {
        let pipeline = self.rng.usize(0..self.pipelines.len());
        let config = healthy(&mut self.rng);
        self.wanted[pipeline] = match self.rng.u32(0..6) {
            0 => Config { broken: true, ..config },
            1 => Config { refused: true, ..config },
            _ => config,
        };
        Action::Submit { pipeline }
    }

    /// From now on people want what works.
    pub(crate) fn heal(&mut self) {
        for config in &mut self.wanted {
            if config.broken || config.refused {
                *config = healthy(&mut self.rng);
            }
        }
    }

    fn put(&mut self) -> Action {
        let new = self.objects.is_empty() || (self.objects.len() < 6 && self.rng.u32(0..10) < 6);
        let key = if new {
            format!("object-{}.jsonl", self.objects.len())
        } else {
            let place = self.rng.usize(0..self.objects.len());
            self.objects.keys().nth(place).unwrap().clone()
        };
        let on_change = [OnChange::Replace, OnChange::Replace, OnChange::Append, OnChange::Tail][self.rng.usize(0..4)];
        let facts = self.objects.entry(key.clone()).or_insert(ObjectFacts { on_change, versions: Vec::new() });
        let on_change = facts.on_change;
        let version = format!("v{}", facts.versions.len() + 1);
        let former = facts.versions.last().map(|(_, content)| content.clone()).unwrap_or_default();
        let mut content = match on_change {
            OnChange::Tail => former,
            OnChange::Append => String::new(),
            OnChange::Replace => former.split_inclusive('\n').filter(|_| self.rng.u32(0..10) < 7).collect(),
        };
        for _ in 0..self.rng.u32(0..14) {
            let line = self.record();
            content.push_str(&line);
            content.push('\n');
        }
        self.objects.get_mut(&key).unwrap().versions.push((version.clone(), content.clone()));
        Action::Put { key, version, content, on_change }
    }

    fn append(&mut self) -> Action {
        let partition = Partition::new(format!("memory:{}", self.rng.u32(0..3)));
        let count = self.rng.u32(1..12);
        let values: Vec<String> = (0..count).map(|_| self.record()).collect();
        self.partitions.entry(partition.clone()).or_default().extend(values.iter().cloned());
        Action::Append { partition, values }
    }

    /// A record; some are malformed, some do not fit the others.
    fn record(&mut self) -> String {
        self.records += 1;
        let id = self.records;
        match self.rng.u32(0..100) {
            0..=3 => {
                self.tally.record_malformed += 1;
                return format!("{{\"id\":{id},\"n\":oops}}");
            }
            4 | 5 => {
                self.tally.record_no_object += 1;
                return format!("\"{id}\"");
            }
            _ => {}
        }
        let mut text = format!("{{\"id\":{id}");
        match self.rng.u32(0..30) {
            0 => self.tally.record_n_lacks += 1,
            1 => {
                self.tally.record_n_null += 1;
                text.push_str(",\"n\":null");
            }
            _ => write!(text, ",\"n\":{}", self.rng.i64(0..200)).unwrap(),
        }
        write!(text, ",\"a\":\"text {}\"", self.rng.u32(0..1000)).unwrap();
        let draw = self.rng.u32(0..24);
        let tally = &mut self.tally;
        match draw {
            6 => tally.record_v_float += 1,
            7 => tally.record_v_text += 1,
            8..=10 => tally.record_new_field += 1,
            _ => {}
        }
        match draw {
            0..=5 => write!(text, ",\"v\":{}", self.rng.u32(0..50)).unwrap(),
            6 => write!(text, ",\"v\":{}.5", self.rng.u32(0..50)).unwrap(),
            7 => text.push_str(",\"v\":\"words\""),
            8 => write!(text, ",\"x{}\":{}", self.rng.u32(0..3), self.rng.u32(0..9)).unwrap(),
            9 => write!(text, ",\"y{}\":\"new\"", self.rng.u32(0..2)).unwrap(),
            10 => text.push_str(",\"z\":true"),
            _ => {}
        }
        text.push('}');
        text
    }
}

fn healthy(rng: &mut fastrand::Rng) -> Config {
    Config { threshold: rng.i64(0..120), harsh: rng.u32(0..10) < 6, broken: false, refused: false }
}
