//! `[pipelines.<name>]`: steps, routes and tables.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as MapEntry;

use forebay_model::ids::{ModuleName, WarehouseName};
use forebay_model::revision::RouteTarget;
use forebay_model::schema::SchemaChanges;
use forebay_model::{PipelineName, RouteName, StreamName, TableName};
use serde_json::Value as Json;

use super::super::node::{At, Entry, Value};
use super::super::problem::hint_for;
use super::super::{BackAfter, DeployConfig, PipelineConfig, Schedule, Share, StepConfig, shape};
use super::Check;

/// Words of tables that are written by key, which is not built: refused, so that they can get their meaning later.
const RESERVED: [&str; 3] = ["mode", "keys", "order"];

/// The fewest digits of a digest that pin a module.
const PIN_DIGITS: usize = 8;

/// Segments of a dry run, where nothing else is said.
const DRY_RUN: u64 = 3;

/// The share of rows that may differ, where nothing else is said.
const MAX_CHANGED: Share = Share::percent(1);

/// When a revision makes place for the former one, where nothing else is said.
const BACK_AFTER: BackAfter = BackAfter::share(Share::percent(50), 4);

/// The name of the route that a pipeline without steps has.
const OUT: &str = "out";

impl Check<'_> {
    pub(super) fn pipelines(&mut self) -> BTreeMap<PipelineName, PipelineConfig> {
        let mut pipelines = BTreeMap::new();
        let mut loaders: BTreeMap<TableName, (PipelineName, At)> = BTreeMap::new();
        for (name, key, node) in self.named("pipelines") {
            let pipeline: Option<shape::Pipeline> = self.section(node);
            let written = pipeline.as_ref().map(|pipeline| pipeline.steps.len());
            let (from, steps, rejects, limits, deploy, retry) = match pipeline {
                Some(shape::Pipeline { from, steps, rejects, limits, deploy, retry, .. }) => {
                    (Some(from), self.steps(&key, steps), rejects, limits, deploy, retry)
                }
                None => (None, Vec::new(), None, serde_json::Map::new(), shape::Deploy::default(), None),
            };
            // Routes are looked at even where the rest does not fit, so that one look shows all; but only where every
            // step is known, they can be told to name none.
            let names: Vec<_> = steps.iter().map(|step| step.name.clone()).collect();
            let names = (written == Some(steps.len())).then_some(names.as_slice());
            let routes = self.routes(&key, node.get("routes"), names);
            // All of it is looked at, also where some of it is wrong.
            self.limits(node.get("limits"));
            let limits = Json::Object(limits);
            let deploy = self.deploy(&key, &deploy);
            let retry = retry.and_then(|retry| self.retry(&key, &retry));
            let from = from.and_then(|from| self.stream(&key, &from));
            let rejects = self.rejects(&name, &key, rejects, &routes);
            let (Some(from), Some(rejects)) = (from, rejects) else { continue };
            let routes = routes.into_iter().map(|(route, (target, _))| (route, target)).collect();
            let pipeline = PipelineConfig { from, steps, routes, rejects, limits, deploy, retry, side: None };
            self.one_loader(&name, &key, &pipeline, &mut loaders);
            pipelines.insert(name, pipeline);
        }
        pipelines
    }

    fn stream(&mut self, pipeline: &str, from: &str) -> Option<StreamName> {
        let tree = self.tree;
        let streams = tree.node.get("streams").map(|entry| entry.node.entries()).unwrap_or_default();
        if streams.iter().any(|stream| stream.key == from) {
            return StreamName::new(from).ok();
        }
        let hint = hint_for(from, streams.iter().map(|stream| stream.key.as_str()));
        let hint = hint.unwrap_or_else(|| format!("add [streams.{from}]"));
        self.problem_at(&["pipelines", pipeline, "from"], format!("there is no stream `{from}`"), Some(hint));
        None
    }

    fn deploy(&mut self, pipeline: &str, shape: &shape::Deploy) -> DeployConfig {
        let shape::Deploy { dry_run, shadow, max_changed, back_after } = shape;
        let mut segments = |key: &str, written: Option<u64>, default: u64| {
            let number = self.number(&["pipelines", pipeline, "deploy", key], written.unwrap_or(default), 0..=1_000);
            number.and_then(|number| u32::try_from(number).ok()).unwrap_or_default()
        };
        DeployConfig {
            dry_run: segments("dry_run", *dry_run, DRY_RUN),
            shadow: segments("shadow", *shadow, 0),
            max_changed: max_changed.unwrap_or(MAX_CHANGED),
            back_after: back_after.unwrap_or(BACK_AFTER),
        }
    }

    fn retry(&mut self, pipeline: &str, shape: &shape::Retry) -> Option<Schedule> {
        let shape::Retry { schedule, zone } = shape;
        let named = zone.as_deref().unwrap_or("UTC");
        let Ok(zone) = named.parse::<chrono_tz::Tz>() else {
            let at = ["pipelines", pipeline, "retry", "zone"];
            let known = hint_for(named, chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name()));
            let hint = known
                .filter(|hint| hint.len() < 200)
                .unwrap_or_else(|| "write it as the IANA does: Europe/Berlin, America/New_York, UTC".to_owned());
            self.problem_at(&at, format!("there is no time zone `{named}`"), Some(hint));
            return None;
        };
        let read = Schedule::parse(schedule, zone);
        read.inspect_err(|error| {
            let at = ["pipelines", pipeline, "retry", "schedule"];
            let hint = "write minute, hour, day of month, month, day of week: \"0 3 * * *\" is each night at three";
            self.problem_at(&at, format!("`{schedule}` is no cron expression: {error}"), Some(hint.to_owned()));
        })
        .ok()
    }

    /// Keys and types, each with its place; then the sandbox's word on the numbers.
    fn limits(&mut self, entry: Option<&Entry>) {
        let Some(entry) = entry else { return };
        let Some(limits) = self.section::<forebay_sandbox::Limits>(&entry.node) else { return };
        if let Err(error) = limits.validate() {
            let error = forebay_model::Error::from(error);
            self.problem(entry.at, error.chain(), error.hint().map(str::to_owned));
        }
    }

    fn steps(&mut self, pipeline: &str, shapes: Vec<shape::Step>) -> Vec<StepConfig> {
        let given: Vec<_> = shapes.iter().filter_map(|step| step.name.clone()).collect();
        let mut steps: Vec<StepConfig> = Vec::new();
        for (index, shape) in shapes.into_iter().enumerate() {
            let index = index.to_string();
            let path = ["pipelines", pipeline, "steps", index.as_str()];
            let Some((module, pin)) = self.module(&path, &shape.module) else { continue };
            let taken = |name: &str| steps.iter().any(|step| step.name == name);
            let name = match shape.name {
                Some(name) => {
                    if taken(&name) {
                        let hint = Some("give each step a name of its own".to_owned());
                        self.problem_at(
                            &[&path[..], &["name"]].concat(),
                            format!("two steps are named `{name}`"),
                            hint,
                        );
                    }
                    if let Err(error) = ModuleName::new(name.as_str()) {
                        let message = format!("step name {name:?} is not allowed");
                        self.problem_at(&[&path[..], &["name"]].concat(), message, error.hint().map(str::to_owned));
                    }
                    name
                }
                None => (1_usize..)
                    .map(|n| if n == 1 { module.to_string() } else { format!("{module}-{n}") })
                    .find(|name| !taken(name) && !given.contains(name))
                    .unwrap_or_default(),
            };
            let mut assets = BTreeMap::new();
            for (asset, file) in shape.assets {
                let full = self.tree.root.join(&file);
                let stands_in = self.tree.overlay.stands_in(&full);
                if !stands_in.is_file() {
                    let hint = "paths are relative to the config's folder".to_owned();
                    let at = [&path[..], &["assets", &asset]].concat();
                    self.problem_at(&at, format!("asset `{asset}`: there is no file {}", full.display()), Some(hint));
                }
                assets.insert(asset, stands_in);
            }
            steps.push(StepConfig { name, module, pin, config: Json::Object(shape.config), assets });
        }
        steps
    }

    /// `fraud`, or `fraud@sha256:9f2c0a1b`.
    fn module(&mut self, path: &[&str], text: &str) -> Option<(ModuleName, Option<String>)> {
        let path = [path, &["module"]].concat();
        let (name, pin) = match text.split_once('@') {
            None => (text, None),
            Some((name, pin)) => {
                let digits = pin.strip_prefix("sha256:").map(str::to_lowercase).filter(|digits| {
                    (PIN_DIGITS..=64).contains(&digits.len()) && digits.chars().all(|c| c.is_ascii_hexdigit())
                });
                if digits.is_none() {
                    let hint = format!("write \"{name}@sha256:<{PIN_DIGITS} to 64 hexadecimal digits>\"");
                    self.problem_at(&path, format!("`{pin}` does not pin a module"), Some(hint));
                    return None;
                }
                (name, digits)
            }
        };
        match ModuleName::new(name) {
            Ok(name) => Some((name, pin)),
            Err(error) => {
                self.problem_at(&path, error.to_string(), error.hint().map(str::to_owned));
                None
            }
        }
    }

    /// The routes with the order in which they are written; `steps` is `None` where the steps are not known.
    fn routes(
        &mut self,
        pipeline: &str,
        entry: Option<&Entry>,
        steps: Option<&[String]>,
    ) -> BTreeMap<String, (RouteTarget, usize)> {
        let mut routes = BTreeMap::new();
        let written = entry.map(|entry| entry.node.entries()).unwrap_or_default();
        if written.is_empty() {
            let at = entry.map_or_else(|| self.tree.node.place_of(&["pipelines", pipeline]), |entry| entry.at);
            let hint = format!("add [pipelines.{pipeline}.routes] with lines of the form {OUT} = \"warehouse.table\"");
            self.problem(at, format!("pipeline `{pipeline}` has no routes"), Some(hint));
        }
        for (order, entry) in written.iter().enumerate() {
            self.route_name(entry, steps);
            if let Some(target) = self.route(entry) {
                routes.insert(entry.key.clone(), (target, order));
            }
        }
        routes
    }

    fn route_name(&mut self, entry: &Entry, steps: Option<&[String]>) {
        let (step, route) = match entry.key.split_once('.') {
            Some((step, route)) => (Some(step), route),
            None => (None, entry.key.as_str()),
        };
        if let Err(error) = RouteName::new(route) {
            self.problem(entry.at, error.to_string(), error.hint().map(str::to_owned));
        }
        let Some(steps) = steps else { return };
        match step {
            Some(step) if !steps.iter().any(|name| name == step) => {
                let hint = hint_for(step, steps.iter().map(String::as_str));
                self.problem(entry.at, format!("there is no step `{step}`"), hint);
            }
            None if steps.is_empty() && route != OUT => {
                let hint = Some(format!("name it `{OUT}`, or add a step"));
                self.problem(entry.at, format!("a pipeline without steps has one route, `{OUT}`"), hint);
            }
            Some(_) | None => {}
        }
    }

    fn route(&mut self, entry: &Entry) -> Option<RouteTarget> {
        match &entry.node.value {
            Value::String(text) if text == "discard" => Some(RouteTarget::Discard),
            Value::String(text) => {
                let table = self.table(entry.node.at, text)?;
                Some(RouteTarget::Table { table, partition_by: Vec::new(), schema_changes: SchemaChanges::Apply })
            }
            Value::Table(keys) => {
                if let Some(key) = keys.iter().find(|key| RESERVED.contains(&key.key.as_str())) {
                    let message =
                        format!("`{}` is reserved: tables that are written by key are not built yet", key.key);
                    self.problem(key.at, message, Some("remove it: rows are added".to_owned()));
                    return None;
                }
                if !keys.iter().any(|key| key.key == "table") && keys.iter().any(|key| self.looks_like_target(key)) {
                    let hint = format!("quote a step's route: \"{}.<route>\" = \"warehouse.table\"", entry.key);
                    self.problem(entry.at, format!("route `{}` has no `table`", entry.key), Some(hint));
                    return None;
                }
                let shape::Route { table, partition_by, schema_changes } = self.section(&entry.node)?;
                let at = entry.node.get("table").map_or(entry.at, |table| table.at);
                let table = self.table(at, &table)?;
                if let Some(column) = partition_by.iter().find(|column| column.is_empty()) {
                    self.problem(entry.at, format!("`partition_by` names the column {column:?}"), None);
                }
                Some(RouteTarget::Table { table, partition_by, schema_changes })
            }
            Value::Integer(_) | Value::Float(_) | Value::Bool(_) | Value::Array(_) => {
                let hint = "write \"warehouse.table\", \"discard\" or { table = \"warehouse.table\" }".to_owned();
                let message = format!("route `{}` leads to {}", entry.key, entry.node.kind());
                self.problem(entry.node.at, message, Some(hint));
                None
            }
        }
    }

    /// `fraud.flagged = "lake.x"` without quotes is a table to TOML.
    fn looks_like_target(&self, key: &Entry) -> bool {
        matches!(&key.node.value, Value::String(text) if text == "discard" || text.parse::<TableName>().is_ok())
            && !["partition_by", "schema_changes"].contains(&key.key.as_str())
    }

    /// A table of a warehouse that is written.
    fn table(&mut self, at: At, text: &str) -> Option<TableName> {
        let table = match text.parse::<TableName>() {
            Ok(table) => table,
            Err(error) => {
                self.problem(at, error.to_string(), error.hint().map(str::to_owned));
                return None;
            }
        };
        let known: Vec<_> = self.warehouse_names();
        if !known.iter().any(|name| name == table.warehouse.as_str()) {
            let hint = hint_for(table.warehouse.as_str(), known.iter().map(String::as_str));
            let hint = hint.unwrap_or_else(|| format!("add [warehouses.{}]", table.warehouse));
            self.problem(at, format!("there is no warehouse `{}`", table.warehouse), Some(hint));
            return None;
        }
        Some(table)
    }

    fn warehouse_names(&self) -> Vec<String> {
        let section = self.tree.node.get("warehouses");
        section.map(|entry| entry.node.entries()).unwrap_or_default().iter().map(|entry| entry.key.clone()).collect()
    }

    /// The table that is named, or `<pipeline>_rejects` beside the first table of the routes.
    fn rejects(
        &mut self,
        name: &PipelineName,
        key: &str,
        rejects: Option<String>,
        routes: &BTreeMap<String, (RouteTarget, usize)>,
    ) -> Option<TableName> {
        let path = ["pipelines", key, "rejects"];
        if let Some(text) = rejects {
            return self.table(self.tree.node.place_of(&path), &text);
        }
        let first = routes.values().filter_map(|(target, order)| match target {
            RouteTarget::Discard => None,
            RouteTarget::Table { table, .. } => Some((order, table.warehouse.clone())),
        });
        let first = first.min_by_key(|(order, _)| **order).map(|(_, warehouse)| warehouse);
        let warehouse = match (first, self.warehouse_names().as_slice()) {
            (Some(warehouse), _) => Some(warehouse),
            (None, [only]) => WarehouseName::new(only.as_str()).ok(),
            (None, _) => None,
        };
        let Some(warehouse) = warehouse else {
            // Where routes were wrong, they have been told already.
            if !routes.is_empty() {
                let hint = "add rejects = \"warehouse.table\"".to_owned();
                self.problem_at(&path, format!("pipeline `{name}` has no table for its rejects"), Some(hint));
            }
            return None;
        };
        match TableName::new(warehouse, format!("{}_rejects", name.as_str())) {
            Ok(table) => Some(table),
            Err(error) => {
                self.problem_at(&path, error.to_string(), Some("name one: rejects = \"warehouse.table\"".to_owned()));
                None
            }
        }
    }

    /// A table has one pipeline, and in it one meaning.
    fn one_loader(
        &mut self,
        name: &PipelineName,
        key: &str,
        pipeline: &PipelineConfig,
        loaders: &mut BTreeMap<TableName, (PipelineName, At)>,
    ) {
        let mut own: BTreeMap<TableName, &RouteTarget> = BTreeMap::new();
        let mut claims = Vec::new();
        for (route, target) in &pipeline.routes {
            let RouteTarget::Table { table, .. } = target else { continue };
            let at = self.tree.node.place_of(&["pipelines", key, "routes", route]);
            if own.get(table).is_some_and(|other| *other != target) {
                let hint = "give them the same partition_by and schema_changes".to_owned();
                self.problem(at, format!("two routes lead to `{table}` with different settings"), Some(hint));
            }
            if own.insert(table.clone(), target).is_none() {
                claims.push((table.clone(), at));
            }
        }
        let at = self.tree.node.place_of(&["pipelines", key, "rejects"]);
        if own.contains_key(&pipeline.rejects) {
            let message = format!("`{}` is a route's table and the rejects table", pipeline.rejects);
            self.problem(at, message, Some("name another: rejects = \"warehouse.table\"".to_owned()));
        } else {
            claims.push((pipeline.rejects.clone(), at));
        }
        for (table, at) in claims {
            match loaders.entry(table) {
                MapEntry::Vacant(free) => {
                    free.insert((name.clone(), at));
                }
                MapEntry::Occupied(taken) => {
                    let (other, first) = taken.get();
                    let message = format!("table `{}` is loaded by pipelines `{other}` and `{name}`", taken.key());
                    let hint = self
                        .tree
                        .place(*first)
                        .map(|place| format!("the first one is at {place}: give one of them a table of its own"));
                    self.problem(at, message, hint);
                }
            }
        }
    }
}
