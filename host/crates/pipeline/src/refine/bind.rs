//! A revision bound to a schema: steps that agreed on their columns, routes that lead somewhere, tables that fit.
//!
//! Binding happens when a revision becomes active and when the schema grows, never in the middle of a segment. What it
//! finds wrong, it finds before any row moves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, SchemaRef};
use forebay_model::ids::{TableName, WarehouseName};
use forebay_model::plan::{InputColumn, InputSource, Plan, ResolvedColumn};
use forebay_model::ports::{Assets, BoundTransform, HeldChange, Module, RevisionRecord, TableOwner, Warehouse};
use forebay_model::revision::RouteTarget;
use forebay_model::schema::SchemaChanges;
use forebay_model::{Error, Result, Revision, RevisionId, StreamName, StreamSchema, Timestamp};

use uuid::Uuid;

use super::fit::{FitRules, TableFit, TableState, fit};

/// The name of the route of a pipeline without steps, and of the route that feeds the next step.
pub const OUT: &str = "out";

/// A revision with what it names, loaded.
#[derive(Debug, Clone)]
pub struct Materials {
    /// The revision.
    pub revision: Revision,
    /// Its number, for people.
    pub number: u32,
    /// One a step.
    pub modules: Vec<Arc<dyn Module>>,
    /// One a step.
    pub assets: Vec<Assets>,
}

/// Refuses a revision of another stream's records.
///
/// # Errors
/// Class operator, with both streams.
pub fn reads(record: &RevisionRecord, stream: &StreamName) -> Result<()> {
    let RevisionRecord { number, id: _, revision, created_at: _ } = record;
    if revision.stream == *stream {
        return Ok(());
    }
    Err(Error::operator(format!(
        "revision {number} of pipeline {} reads stream {}, and the pipeline reads {stream} now",
        revision.pipeline, revision.stream
    ))
    .with_hint("choose a revision of this stream: `forebay revisions list`"))
}

/// Refuses a revision whose records came of another stream, or of other settings of its decoder: history refined under it now would not be
/// what it made.
///
/// # Errors
/// Class operator, with what differs.
pub fn decodes_alike(record: &RevisionRecord, stream: &StreamName, decoder: &serde_json::Value) -> Result<()> {
    let RevisionRecord { number, id: _, revision, created_at: _ } = record;
    reads(record, stream)?;
    if revision.decoder != *decoder {
        let name = format!("revision {number} of pipeline {}", revision.pipeline);
        return Err(Error::operator(format!("{name} decodes stream {stream} with other settings than the config has now"))
            .with_hint(format!(
                "put `format` of [streams.{stream}] back as `forebay revisions show` has it, or replay under a revision since"
            )));
    }
    Ok(())
}

/// Warehouses by name.
pub type Warehouses = Arc<BTreeMap<WarehouseName, Arc<dyn Warehouse>>>;

/// Where rows of a route go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leads {
    /// To the next step.
    Next,
    /// Nowhere.
    Discard,
    /// To [`BoundPipeline::targets`].
    Target(usize),
}

/// A route of a bound step.
#[derive(Debug, Clone)]
pub struct BoundRoute {
    /// Its columns.
    pub schema: SchemaRef,
    /// Where each comes from.
    pub columns: Vec<ResolvedColumn>,
    /// Where its rows go.
    pub leads: Leads,
}

/// Where an input column of a step comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BoundInput {
    /// This column of the step's input.
    Column(usize),
    /// The record's own.
    Record(InputSource),
    /// The schema has no such column, and the rule requires it: every row is rejected until it grows.
    Missing,
}

/// A step that agreed on its columns.
#[derive(Debug, Clone)]
pub struct BoundStep {
    /// Its name.
    pub name: String,
    /// The module, bound.
    pub transform: Arc<dyn BoundTransform>,
    /// By the plan's order.
    pub inputs: Vec<BoundInput>,
    /// By the plan's order.
    pub routes: Vec<BoundRoute>,
}

impl BoundStep {
    /// The columns that it requires and the schema lacks: it rejects every record, until one brings them.
    pub fn missing(&self) -> impl Iterator<Item = &str> {
        let inputs = self.transform.plan().inputs.iter().zip(&self.inputs);
        inputs.filter(|(_, bound)| **bound == BoundInput::Missing).map(|(column, _)| column.name.as_str())
    }
}

/// A table that rows go to.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its warehouse.
    pub warehouse: Arc<dyn Warehouse>,
    /// How the rows fit.
    pub fit: TableFit,
}

/// A revision bound to a schema.
#[derive(Debug, Clone)]
pub struct BoundPipeline {
    /// The revision.
    pub revision: RevisionId,
    /// Its number, for people.
    pub number: u32,
    /// The schema.
    pub schema: StreamSchema,
    /// The steps.
    pub steps: Vec<BoundStep>,
    /// Where a pipeline without steps leads.
    pub direct: Option<Leads>,
    /// The tables of the routes; a table may stand more than once.
    pub targets: Vec<Target>,
    /// The table of the rejects.
    pub rejects: Target,
}

impl BoundPipeline {
    /// Each table with its schema after a load: targets and rejects.
    #[must_use]
    pub fn tables_after(&self) -> BTreeMap<TableName, SchemaRef> {
        self.targets
            .iter()
            .chain([&self.rejects])
            .map(|target| (target.fit.table.clone(), Arc::clone(&target.fit.after)))
            .collect()
    }

    /// The tables' changes that wait.
    #[must_use]
    pub fn held(&self) -> Vec<HeldChange> {
        self.targets.iter().flat_map(|target| target.fit.held.iter().cloned()).collect()
    }
}

/// What binding is given beside the revision and the schema.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// Where tables are.
    pub warehouses: Warehouses,
    /// The ledger that counts the loads.
    pub ledger: Uuid,
    /// What each table is like before the next load.
    pub tables: BTreeMap<TableName, TableState>,
    /// A table above this is not rewritten to widen a column.
    pub widen_max_bytes: u64,
    /// Now.
    pub now: Timestamp,
}

/// The column of a rejects table that says how often the record has been refused; null, in a row that an older forebay wrote, for once.
pub const ATTEMPTS: &str = "attempts";

/// Columns of a rejects table, without forebay's own: stage, code, message, retryable, raw, revision, attempts.
#[must_use]
pub fn rejects_schema() -> Schema {
    Schema::new(vec![
        Field::new("stage", DataType::Utf8, true),
        Field::new("code", DataType::Utf8, true),
        Field::new("message", DataType::Utf8, true),
        Field::new("retryable", DataType::Boolean, true),
        Field::new("raw", DataType::Utf8, true),
        Field::new("revision", DataType::Int64, true),
        Field::new(ATTEMPTS, DataType::Int64, true),
    ])
}

/// Binds.
///
/// # Errors
/// Class operator, where a module does not fit the schema, a route leads nowhere, or a table cannot take the rows.
pub fn bind(materials: &Materials, schema: &StreamSchema, surroundings: &Surroundings) -> Result<BoundPipeline> {
    let Materials { revision, number, modules: _, assets: _ } = materials;
    let mut binder = Binder { revision, surroundings, targets: Vec::new(), used: BTreeSet::new() };
    let (agreed, input) = agree(materials, schema)?;
    let mut names = BTreeMap::new();
    for route in agreed.iter().flat_map(|step| &step.transform.plan().routes) {
        *names.entry(route.name.as_str()).or_insert(0_u32) += 1;
    }
    let mut steps = Vec::new();
    for (index, step) in agreed.iter().enumerate() {
        steps.push(binder.step(step, index + 1 == agreed.len(), &names)?);
    }
    let direct = match revision.steps.is_empty() {
        true => Some(binder.target(OUT, OUT, &input)?),
        false => None,
    };
    binder.check_unused()?;
    binder.agree_on_schemas();
    let rejects = binder.rejects()?;
    Ok(BoundPipeline {
        revision: revision.id(),
        number: *number,
        schema: schema.clone(),
        steps,
        direct,
        targets: binder.targets,
        rejects,
    })
}

/// A step and what comes in.
struct Agreed<'a> {
    name: &'a str,
    transform: Arc<dyn BoundTransform>,
    input: SchemaRef,
}

/// Binds each module to what the one before it lets out; also the schema that leaves the last.
fn agree<'a>(materials: &'a Materials, schema: &StreamSchema) -> Result<(Vec<Agreed<'a>>, SchemaRef)> {
    let Materials { revision, number: _, modules, assets } = materials;
    let mut input = Arc::clone(&schema.schema);
    let mut agreed: Vec<Agreed<'_>> = Vec::new();
    for ((step, module), assets) in revision.steps.iter().zip(modules).zip(assets) {
        if let Some(before) = agreed.last() {
            input = out_of(before, revision)?;
        }
        let transform = module.bind(&input, &step.config, assets)?;
        agreed.push(Agreed { name: &step.name, transform, input: Arc::clone(&input) });
    }
    Ok((agreed, input))
}

fn out_of(step: &Agreed<'_>, revision: &Revision) -> Result<SchemaRef> {
    let plan = step.transform.plan();
    let Some(out) = plan.routes.iter().position(|route| route.name == OUT) else {
        return Err(Error::operator(format!(
            "step {} of pipeline {} has no route \"{OUT}\", so the step after it would never see a row",
            step.name, revision.pipeline
        ))
        .with_hint("put the step last, or give its rule a route named \"out\""));
    };
    plan.resolve(out, &step.input).map(|(schema, _)| schema).map_err(|why| misfit(step.name, &why))
}

/// Where each column that a plan reads comes from.
pub(super) fn inputs(plan: &Plan, input: &Schema) -> Vec<BoundInput> {
    let from = |column: &InputColumn| match column.source {
        InputSource::Column => input.index_of(&column.name).map_or(BoundInput::Missing, BoundInput::Column),
        InputSource::RecordKey
        | InputSource::RecordHeaders
        | InputSource::RecordTimestamp
        | InputSource::RecordPosition
        | InputSource::RecordObject => BoundInput::Record(column.source),
    };
    plan.inputs.iter().map(from).collect()
}

pub(super) fn misfit(step: &str, why: &str) -> Error {
    Error::operator(format!("step {step} does not fit its input: {why}"))
}

struct Binder<'a> {
    revision: &'a Revision,
    surroundings: &'a Surroundings,
    targets: Vec<Target>,
    /// Keys of `routes` that a step answered to.
    used: BTreeSet<String>,
}

impl Binder<'_> {
    fn step(&mut self, step: &Agreed<'_>, last: bool, names: &BTreeMap<&str, u32>) -> Result<BoundStep> {
        let Agreed { name, transform, input } = step;
        let plan = transform.plan();
        let mut routes = Vec::new();
        for (index, route) in plan.routes.iter().enumerate() {
            let (schema, columns) = plan.resolve(index, input).map_err(|why| misfit(name, &why))?;
            let leads = if route.name == OUT && !last {
                Leads::Next
            } else {
                let qualified = format!("{name}.{}", route.name);
                let unique = names.get(route.name.as_str()).is_some_and(|count| *count == 1);
                self.target(&qualified, if unique { &route.name } else { &qualified }, &schema)?
            };
            routes.push(BoundRoute { schema, columns, leads });
        }
        let inputs = inputs(plan, input);
        Ok(BoundStep { name: (*name).to_owned(), transform: Arc::clone(transform), inputs, routes })
    }

    fn target(&mut self, qualified: &str, short: &str, schema: &SchemaRef) -> Result<Leads> {
        let pipeline = &self.revision.pipeline;
        let found = [qualified, short].into_iter().find_map(|key| self.revision.routes.get_key_value(key));
        let Some((key, target)) = found else {
            return Err(Error::operator(format!("route {short:?} of pipeline {pipeline} leads nowhere")).with_hint(
                format!(
                    "add `{short} = \"warehouse.table\"` or `{short} = \"discard\"` under [pipelines.{pipeline}.routes]"
                ),
            ));
        };
        self.used.insert(key.clone());
        match target {
            RouteTarget::Discard => Ok(Leads::Discard),
            RouteTarget::Table { table, partition_by, schema_changes } => {
                let target = self.fitted(table, partition_by, *schema_changes, schema)?;
                self.targets.push(target);
                Ok(Leads::Target(self.targets.len() - 1))
            }
        }
    }

    fn fitted(
        &self,
        table: &TableName,
        partition_by: &[String],
        changes: SchemaChanges,
        schema: &Schema,
    ) -> Result<Target> {
        let warehouse = self.surroundings.warehouses.get(&table.warehouse).ok_or_else(|| {
            Error::operator(format!(
                "table {table} is in warehouse {:?}, which is not configured",
                table.warehouse.as_str()
            ))
            .with_hint(format!("add [warehouses.{}]", table.warehouse))
        })?;
        let mut state = self.surroundings.tables.get(table).cloned().unwrap_or_default();
        // A second route to the same table meets what the first one leaves.
        if let Some(before) = self.targets.iter().rev().find(|target| target.fit.table == *table) {
            state.schema = Some(Arc::clone(&before.fit.after));
        }
        warehouse.check_partitioning(&table.table, partition_by)?;
        let owner = TableOwner { ledger: self.surroundings.ledger, pipeline: self.revision.pipeline.to_string() };
        let rules = FitRules {
            table,
            owner: &owner,
            changes,
            partition_by,
            widen_max_bytes: self.surroundings.widen_max_bytes,
            now: self.surroundings.now,
        };
        Ok(Target { warehouse: Arc::clone(warehouse), fit: fit(warehouse.as_ref(), &rules, &state, schema)? })
    }

    fn rejects(&self) -> Result<Target> {
        self.fitted(&self.revision.rejects, &[], SchemaChanges::Apply, &rejects_schema())
    }

    /// Columns only ever come at the end, so every route to a table can stage the schema that the last one left.
    fn agree_on_schemas(&mut self) {
        let last: BTreeMap<_, _> =
            self.targets.iter().map(|target| (target.fit.table.clone(), Arc::clone(&target.fit.after))).collect();
        for target in &mut self.targets {
            if let Some(after) = last.get(&target.fit.table) {
                target.fit.after = Arc::clone(after);
            }
        }
    }

    fn check_unused(&self) -> Result<()> {
        let unused: Vec<_> = self.revision.routes.keys().filter(|key| !self.used.contains(*key)).collect();
        match unused.first() {
            None => Ok(()),
            Some(key) => Err(Error::operator(format!("pipeline {} has no route {key:?}", self.revision.pipeline))
                .with_hint("the routes are those that the modules' plans name; `forebay plan` lists them")),
        }
    }
}
