//! Binding as a run would, and what it comes to.

use std::collections::BTreeMap;
use std::sync::Arc;

use forebay_model::ports::{LandingZone, Ledger, Warehouse};
use forebay_model::revision::{RouteTarget, Step};
use forebay_model::{Error, PipelineName, Result, Revision, StreamSchema};
use forebay_pipeline::refine::bind::{
    BoundInput, BoundPipeline, BoundRoute, BoundStep, Leads, Materials, Surroundings, Target, Warehouses, bind,
};
use forebay_pipeline::refine::fit::{TableFit, TableState};
use forebay_sandbox::Sandbox;

use super::modules::{self, Found, Modules};
use super::sample::{self, Growth};
use crate::assemble::{self, Access};
use crate::cli::history;
use crate::cli::kept::blocking;
use crate::cli::listing::now;
use crate::config::{Config, PipelineConfig};
use crate::query::{Lake, Object};
use crate::rules::prove::{TIME, prove};
use crate::run::check_tables;

/// What a pipeline would do.
pub(super) struct Planned {
    pub(super) pipeline: String,
    pub(super) stream: String,
    pub(super) source: String,
    pub(super) typed: Typed,
    pub(super) steps: Vec<PlannedStep>,
    pub(super) tables: Vec<PlannedTable>,
    /// Routes that lead nowhere, by choice.
    pub(super) discarded: Vec<String>,
    /// What had landed before it begins; `None` where it has begun.
    pub(super) history: Option<Object>,
}

/// The schema that records are decoded to.
pub(super) enum Typed {
    /// Names and types, where it is from, and how what comes next would have it grow.
    Known { fields: Vec<(String, String)>, from: String, grows: Option<Grows> },
    /// There is no record to infer it from.
    Nothing,
}

/// How the schema would grow.
pub(super) struct Grows {
    pub(super) added: Vec<String>,
    pub(super) widened: Vec<String>,
    /// What was looked at.
    pub(super) seen: String,
    /// Why it would not: a step or a table refuses it, and what is new is rescued.
    pub(super) refused: Option<String>,
}

pub(super) struct PlannedStep {
    pub(super) name: String,
    pub(super) module: String,
    pub(super) version: String,
    pub(super) digest: String,
    pub(super) origin: String,
    pub(super) reads: Vec<String>,
    /// Columns that it requires and the schema lacks.
    pub(super) missing: Vec<String>,
    pub(super) routes: Vec<PlannedRoute>,
}

pub(super) struct PlannedRoute {
    pub(super) name: String,
    pub(super) leads: String,
    pub(super) columns: u64,
}

pub(super) struct PlannedTable {
    pub(super) table: String,
    pub(super) exists: bool,
    /// All that it has after a load, forebay's own too.
    pub(super) columns: u64,
    pub(super) adds: Vec<String>,
    pub(super) widens: Vec<String>,
    pub(super) held: Vec<String>,
    pub(super) rejects: bool,
}

/// What all pipelines are planned with.
pub(super) struct Planner<'a> {
    config: &'a Config,
    ledger: Option<Arc<dyn Ledger>>,
    zone: Arc<dyn LandingZone>,
    warehouses: Warehouses,
    sandbox: Sandbox,
}

impl<'a> Planner<'a> {
    pub(super) async fn open(config: &'a Config) -> Result<Self> {
        let ledger = match assemble::ledger_is_there(config).await? {
            true => Some(assemble::open_ledger(config, Access::Read).await?),
            false => None,
        };
        let mut warehouses: BTreeMap<_, Arc<dyn Warehouse>> = BTreeMap::new();
        for name in config.warehouses.keys() {
            warehouses.insert(name.clone(), assemble::open_warehouse(config, name, Access::Read).await?);
        }
        Ok(Self {
            config,
            ledger,
            zone: assemble::open_zone(config, Access::Read)?,
            warehouses: Arc::new(warehouses),
            sandbox: assemble::open_sandbox(config)?,
        })
    }

    /// What would keep a run from starting: tables that are not as the ledger knows them.
    pub(super) async fn check_tables(&self) -> Result<()> {
        match &self.ledger {
            Some(ledger) => check_tables(self.config, &**ledger, &self.warehouses).await,
            None => Ok(()),
        }
    }

    /// What a pipeline will begin with.
    pub(super) async fn history(
        &self,
        name: &PipelineName,
        pipeline: &PipelineConfig,
    ) -> anyhow::Result<Option<Object>> {
        let Some(ledger) = &self.ledger else { return Ok(None) };
        let lake = Lake::with_ledger(Arc::new(self.config.clone()), Arc::clone(ledger)).await?;
        history::ahead(&lake, name, pipeline).await
    }

    pub(super) async fn plan(&self, name: &PipelineName, pipeline: &PipelineConfig) -> Result<Planned> {
        let materials = self.materials(name, pipeline).await?;
        for Found { module, origin: _, untried } in &materials.0 {
            if let Some(wasm) = untried.clone() {
                let module = Arc::clone(module);
                blocking(move || prove(&*module, &wasm, TIME)).await?;
            }
        }
        let Some((schema, from)) = self.schema(name, pipeline).await? else {
            return Ok(self.unbound(name, pipeline, &materials));
        };
        let growth = self.growth(name, pipeline, &schema).await?;
        let (found, materials) = materials;
        let surroundings = self.surroundings(&materials).await?;
        let fields = schema.schema.fields().iter();
        let fields = fields.map(|field| (field.name().clone(), field.data_type().to_string())).collect();
        let (bound, grows) = blocking(move || bind_grown(&materials, &schema, growth, &surroundings)).await?;
        let BoundPipeline { steps, direct: _, targets, rejects, .. } = &bound;
        let mut planned = self.empty(name, pipeline, Typed::Known { fields, from, grows });
        for (step, found) in steps.iter().zip(&found) {
            planned.steps.push(planned_step(step, found, targets));
        }
        for (target, is_rejects) in targets.iter().map(|target| (target, false)).chain([(rejects, true)]) {
            planned.table(self, target, is_rejects).await?;
        }
        Ok(planned)
    }

    /// How what comes next would have the schema grow; one that was inferred just now has all that there is.
    async fn growth(
        &self,
        name: &PipelineName,
        pipeline: &PipelineConfig,
        schema: &StreamSchema,
    ) -> Result<Option<Growth>> {
        let (Some(ledger), Some(stream)) = (&self.ledger, self.config.streams.get(&pipeline.from)) else {
            return Ok(None);
        };
        if ledger.schema(name).await?.is_none() {
            return Ok(None);
        }
        let decoding = assemble::open_decoding(stream)?;
        sample::growth((self.config, name, pipeline), (ledger, &self.zone), &decoding, &schema.schema).await
    }

    fn empty(&self, name: &PipelineName, pipeline: &PipelineConfig, typed: Typed) -> Planned {
        let source = self.config.streams.get(&pipeline.from).map(|stream| stream.source.redacted()).unwrap_or_default();
        let text = |key: &str| source.get(key).and_then(|value| value.as_str()).unwrap_or_default();
        let discarded = pipeline.routes.iter().filter(|(_, target)| **target == RouteTarget::Discard);
        Planned {
            pipeline: name.to_string(),
            stream: pipeline.from.to_string(),
            source: format!("{} {}", text("type"), text("url")).trim_end().to_owned(),
            typed,
            steps: Vec::new(),
            tables: Vec::new(),
            discarded: discarded.map(|(route, _)| route.clone()).collect(),
            history: None,
        }
    }

    /// Without a schema nothing binds: what the modules say of themselves is all there is.
    fn unbound(&self, name: &PipelineName, pipeline: &PipelineConfig, materials: &(Vec<Found>, Materials)) -> Planned {
        let (found, materials) = materials;
        let mut planned = self.empty(name, pipeline, Typed::Nothing);
        for (found, step) in found.iter().zip(&materials.revision.steps) {
            planned.steps.push(PlannedStep {
                reads: Vec::new(),
                missing: Vec::new(),
                routes: Vec::new(),
                ..named(&step.name, found)
            });
        }
        planned
    }

    /// The revision that the config means now, loaded.
    async fn materials(&self, name: &PipelineName, pipeline: &PipelineConfig) -> Result<(Vec<Found>, Materials)> {
        let sandbox = assemble::with_limits(&self.sandbox, &pipeline.limits)?;
        let modules = Modules::open(self.config, sandbox, self.ledger.clone(), Arc::clone(&self.zone)).await?;
        let (mut found, mut steps, mut assets) = (Vec::new(), Vec::new(), Vec::new());
        for step in &pipeline.steps {
            let module = modules.of(step).await?;
            let of_step = modules::assets(step).await?;
            steps.push(Step {
                name: step.name.clone(),
                module: step.module.clone(),
                digest: module.module.digest(),
                config: step.config.clone(),
                assets: of_step.iter().map(|(name, asset)| (name.clone(), asset.digest)).collect(),
            });
            found.push(module);
            assets.push(of_step);
        }
        let stream =
            self.config.streams.get(&pipeline.from).ok_or_else(|| Error::bug("a pipeline without its stream"))?;
        let revision = Revision {
            pipeline: name.clone(),
            stream: pipeline.from.clone(),
            decoder: assemble::open_decoding(stream)?.settings(),
            steps,
            routes: pipeline.routes.clone(),
            rejects: pipeline.rejects.clone(),
        };
        let modules = found.iter().map(|found| Arc::clone(&found.module)).collect();
        // A number is the ledger's to give; nothing here shows it.
        Ok((found, Materials { revision, number: 0, modules, assets }))
    }

    /// The schema, and where it is from.
    async fn schema(&self, name: &PipelineName, pipeline: &PipelineConfig) -> Result<Option<(StreamSchema, String)>> {
        let stream =
            self.config.streams.get(&pipeline.from).ok_or_else(|| Error::bug("a pipeline without its stream"))?;
        let decoding = assemble::open_decoding(stream)?;
        if let Some(ledger) = &self.ledger {
            if let Some(schema) = ledger.schema(name).await? {
                let from = format!("version {} of its schema", schema.version);
                return Ok(Some((schema, from)));
            }
            if let Some(schema) = sample::from_segments(&**ledger, &self.zone, &decoding, name, pipeline).await? {
                return Ok(Some((StreamSchema { version: 1, schema }, "inferred from what has landed".to_owned())));
            }
        }
        let schema = sample::from_source(self.config, stream, &decoding).await?;
        Ok(schema
            .map(|schema| (StreamSchema { version: 1, schema }, "inferred from the source's first files".to_owned())))
    }

    async fn surroundings(&self, materials: &Materials) -> Result<Surroundings> {
        let held = match &self.ledger {
            Some(ledger) => ledger.held_changes().await?,
            None => Vec::new(),
        };
        let mut tables = BTreeMap::new();
        for table in materials.revision.tables() {
            let info = match self.warehouses.get(&table.warehouse) {
                Some(warehouse) => warehouse.table(&table.table).await?,
                None => None,
            };
            let state = TableState::new(info, &table, &held);
            tables.insert(table, state);
        }
        Ok(Surroundings {
            warehouses: Arc::clone(&self.warehouses),
            // A ledger that is still to be made has loaded no table.
            ledger: self.ledger.as_ref().map_or(uuid::Uuid::nil(), |ledger| ledger.id()),
            tables,
            widen_max_bytes: crate::run::WIDEN_MAX_BYTES,
            now: now(),
        })
    }
}

impl Planned {
    /// Adds what becomes of a table; routes that share one say it together.
    async fn table(&mut self, planner: &Planner<'_>, target: &Target, rejects: bool) -> Result<()> {
        let Target { warehouse: _, fit } = target;
        let TableFit { table, after, destinations: _, stored: _, adds, widens, held, partition_by: _ } = fit;
        let name = table.to_string();
        let held: Vec<_> = held.iter().filter(|change| !change.approved).map(|change| change.column.clone()).collect();
        if let Some(known) = self.tables.iter_mut().find(|known| known.table == name) {
            for (into, more) in [(&mut known.adds, adds), (&mut known.widens, widens), (&mut known.held, &held)] {
                let new: Vec<_> = more.iter().filter(|column| !into.contains(column)).cloned().collect();
                into.extend(new);
            }
            return Ok(());
        }
        let exists = match planner.warehouses.get(&table.warehouse) {
            Some(warehouse) => warehouse.table(&table.table).await?.is_some(),
            None => false,
        };
        let (adds, widens) = (adds.clone(), widens.clone());
        self.tables.push(PlannedTable {
            table: name,
            exists,
            columns: after.fields().len() as u64,
            adds,
            widens,
            held,
            rejects,
        });
        Ok(())
    }
}

/// Binds to the grown schema as a run would: where that fails, to the one that there is.
fn bind_grown(
    materials: &Materials,
    schema: &StreamSchema,
    growth: Option<Growth>,
    surroundings: &Surroundings,
) -> Result<(BoundPipeline, Option<Grows>)> {
    let Some(Growth { schema: grown, added, widened, seen }) = growth else {
        return Ok((bind(materials, schema, surroundings)?, None));
    };
    let grown = StreamSchema { version: schema.version + 1, schema: grown };
    let (bound, refused) = match bind(materials, &grown, surroundings) {
        Ok(bound) => (bound, None),
        Err(error) => (bind(materials, schema, surroundings)?, Some(error.chain())),
    };
    Ok((bound, Some(Grows { added, widened, seen, refused })))
}

fn named(name: &str, found: &Found) -> PlannedStep {
    let description = found.module.description();
    PlannedStep {
        name: name.to_owned(),
        module: description.name.to_string(),
        version: description.version.clone(),
        digest: found.module.digest().to_string(),
        origin: found.origin.clone(),
        reads: Vec::new(),
        missing: Vec::new(),
        routes: Vec::new(),
    }
}

fn planned_step(step: &BoundStep, found: &Found, targets: &[Target]) -> PlannedStep {
    let BoundStep { name, transform, inputs, routes } = step;
    let plan = transform.plan();
    let missing = step.missing().map(str::to_owned);
    let columns = plan.inputs.iter().zip(inputs);
    let reads = columns.filter(|(_, bound)| **bound != BoundInput::Missing).map(|(column, _)| column.name.clone());
    let routes = plan.routes.iter().zip(routes).map(|(route, BoundRoute { schema, columns: _, leads })| PlannedRoute {
        name: route.name.clone(),
        leads: match leads {
            Leads::Next => "the next step".to_owned(),
            Leads::Discard => "discarded".to_owned(),
            Leads::Target(index) => targets.get(*index).map(|target| target.fit.table.to_string()).unwrap_or_default(),
        },
        columns: schema.fields().len() as u64,
    });
    PlannedStep { reads: reads.collect(), missing: missing.collect(), routes: routes.collect(), ..named(name, found) }
}
