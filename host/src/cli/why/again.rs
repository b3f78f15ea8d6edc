//! A record refined once more, to learn which step let it go.
//!
//! It passes the revision that its segment was refined by, with the modules and assets that the zone has kept, under the schema of
//! its load. So the answer is the one of then, whatever the config and the watched folder say by now. Nothing is written.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::ScalarValue;
use forebay_model::ports::{LandingZone, Warehouse};
use forebay_model::{Error, PipelineName, SegmentId, StreamSchema};
use forebay_pipeline::refine::bind::{BoundPipeline, OUT, Surroundings, Warehouses, bind};
use forebay_pipeline::refine::trace::{StepTrace, trace};
use forebay_sandbox::Sandbox;

use super::super::kept::{self, blocking};
use super::super::listing::{self, now, number, text};
use super::record::Place;
use crate::assemble::{self, Access};
use crate::config::PipelineConfig;
use crate::query::Lake;

/// What records are refined again with.
pub(super) struct Again<'a> {
    lake: &'a Lake,
    zone: Arc<dyn LandingZone>,
    warehouses: Warehouses,
    sandbox: Sandbox,
}

/// What the steps did with a record, then and now.
pub(super) struct Followed {
    bound: BoundPipeline,
    /// `None` where the record does not decode.
    steps: Option<Vec<StepTrace>>,
}

impl<'a> Again<'a> {
    pub(super) async fn open(lake: &'a Lake) -> anyhow::Result<Self> {
        let config = &lake.stores().config;
        let mut warehouses: BTreeMap<_, Arc<dyn Warehouse>> = BTreeMap::new();
        for name in config.warehouses.keys() {
            warehouses.insert(name.clone(), assemble::open_warehouse(config, name, Access::Read).await?);
        }
        let (zone, sandbox) = (assemble::open_zone(config, Access::Read)?, assemble::open_sandbox(config)?);
        Ok(Self { lake, zone, warehouses: Arc::new(warehouses), sandbox })
    }

    /// Follows a record of a segment that the pipeline has loaded.
    pub(super) async fn follow(
        &self,
        name: &PipelineName,
        pipeline: &PipelineConfig,
        place: &Place,
    ) -> anyhow::Result<Followed> {
        let stores = self.lake.stores();
        let segment = stores.ledger.segment(&SegmentId::from_text(&place.segment)).await?;
        let segment = segment.ok_or_else(|| Error::bug(format!("segment {} is not listed", place.segment)))?;
        let refined = self.refined(name, place).await?;
        let record = stores.ledger.revision(name, text(&refined, "revision_id").parse()?).await?;
        let record = record.ok_or_else(|| Error::bug("a segment was refined by a revision that is not recorded"))?;
        let stream = stores.config.streams.get(&record.revision.stream);
        let stream = stream.ok_or_else(|| Error::operator("its stream is not in the config any more"))?;
        let decoding = assemble::open_decoding(stream)?;
        if decoding.settings() != record.revision.decoder {
            let message = format!("the stream's format has changed since revision {}", record.number);
            return Err(Error::operator(message).into());
        }
        let schema = self.schema(name, number(&refined, "schema_version")).await?;
        let sandbox = assemble::with_limits(&self.sandbox, &pipeline.limits)?;
        let materials = kept::materials(&*self.zone, &sandbox, record.revision, record.number).await?;
        // What the tables are like says nothing of the steps.
        let surroundings = Surroundings {
            warehouses: Arc::clone(&self.warehouses),
            ledger: stores.ledger.id(),
            tables: BTreeMap::new(),
            widen_max_bytes: crate::run::WIDEN_MAX_BYTES,
            now: now(),
        };
        let (zone, row) = (Arc::clone(&self.zone), place.record);
        let followed = blocking(move || {
            let bound = bind(&materials, &schema, &surroundings)?;
            let steps = trace(&*zone, &*decoding, &bound, &segment, row)?;
            Ok(Followed { bound, steps })
        });
        Ok(followed.await?)
    }

    /// The revision and the version of the schema that a segment was loaded with; without a version where no row was.
    async fn refined(&self, name: &PipelineName, place: &Place) -> anyhow::Result<crate::query::Object> {
        let sql = "SELECT r.revision_id, max(l.schema_version) AS schema_version FROM ledger.refinements r
                   LEFT JOIN ledger.loads l ON l.pipeline = r.pipeline AND l.number = r.load_number
                   WHERE r.pipeline = $pipeline AND r.segment = $segment GROUP BY r.revision_id";
        let values = vec![
            ("pipeline", ScalarValue::from(name.as_str())),
            ("segment", ScalarValue::from(place.segment.as_str())),
        ];
        Ok(listing::objects(self.lake, sql, values).await?.into_iter().next().unwrap_or_default())
    }

    async fn schema(&self, name: &PipelineName, version: u64) -> anyhow::Result<StreamSchema> {
        let sql = "SELECT version, schema FROM ledger.schemas WHERE pipeline = $pipeline AND (version = $version OR $version = 0)
                   ORDER BY version DESC LIMIT 1";
        let version = i64::try_from(version).unwrap_or_default();
        let values = vec![("pipeline", ScalarValue::from(name.as_str())), ("version", ScalarValue::from(version))];
        let row = listing::objects(self.lake, sql, values).await?.into_iter().next();
        let row = row.ok_or_else(|| Error::operator("the pipeline has no schema yet"))?;
        let schema: SchemaRef = serde_json::from_str(text(&row, "schema"))?;
        Ok(StreamSchema { version: u32::try_from(number(&row, "version")).unwrap_or_default(), schema })
    }
}

/// Why a record is not where a route leads.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Missed {
    /// The step that it did not pass, as people call it: `step 1 (keep)`.
    pub(super) step: Option<String>,
    /// A sentence.
    pub(super) why: String,
}

impl Followed {
    /// Why the record did not come where this route (a key of `routes`) leads.
    pub(super) fn missed(&self, route: &str) -> Missed {
        let without = |why: &str| Missed { step: None, why: why.to_owned() };
        let Some(steps) = &self.steps else {
            return without("refined again, it does not decode");
        };
        if self.bound.steps.is_empty() {
            return without("there is no step that could have left it out: was its row removed?");
        }
        match self.position(route) {
            Some((last, leaves)) => missed(steps, last, leaves),
            None => without(&format!("revision {} has no route {route}", self.bound.number)),
        }
    }

    /// The step that a key of `routes` is of, and the name of its route.
    fn position<'r>(&self, route: &'r str) -> Option<(usize, &'r str)> {
        let has = |index: usize, name: &str| {
            self.bound.steps.get(index).is_some_and(|step| step.transform.plan().routes.iter().any(|r| r.name == name))
        };
        let steps = || self.bound.steps.iter().enumerate();
        let qualified = steps().find_map(|(index, step)| {
            let name = route.strip_prefix(step.name.as_str())?.strip_prefix('.')?;
            has(index, name).then_some((index, name))
        });
        // `out` of a step that is not the last feeds the next one: the last that has the route is meant.
        qualified.or_else(|| steps().rev().find(|(index, _)| has(*index, route)).map(|(index, _)| (index, route)))
    }
}

/// The first step at which the record leaves the way to the route `leaves` of the step `last`.
fn missed(steps: &[StepTrace], last: usize, leaves: &str) -> Missed {
    for (index, StepTrace { step, selected, refused }) in steps.iter().enumerate().take(last + 1) {
        let wanted = if index == last { leaves } else { OUT };
        let label = format!("step {} ({step})", index + 1);
        let why = match refused {
            Some((code, message)) => format!("{label} rejects it: {code}, {}", listing::first_line(message)),
            None if selected.iter().any(|route| route == wanted) => continue,
            None if selected.is_empty() => format!("{label} did not select it"),
            None => format!("{label} selected it for {}, not for {wanted}", selected.join(", ")),
        };
        return Missed { step: Some(label), why };
    }
    Missed { step: None, why: "refined again, it comes there: was its row removed?".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(name: &str, selected: &[&str]) -> StepTrace {
        let selected = selected.iter().map(|route| (*route).to_owned()).collect();
        StepTrace { step: name.to_owned(), selected, refused: None }
    }

    #[test]
    fn the_first_step_that_a_record_does_not_pass_is_named() {
        let why = |steps: &[StepTrace], last, route| missed(steps, last, route).why;
        assert_eq!(why(&[step("keep", &[])], 1, "flagged"), "step 1 (keep) did not select it");
        let passed = [step("keep", &["out"]), step("fraud", &["scored"])];
        assert_eq!(why(&passed, 1, "flagged"), "step 2 (fraud) selected it for scored, not for flagged");
        assert_eq!(why(&passed, 1, "scored"), "refined again, it comes there: was its row removed?");
        assert_eq!(why(&[step("split", &["late"])], 1, "out"), "step 1 (split) selected it for late, not for out");
        let refused = Some(("trap".to_owned(), "panicked\n  at lib.rs".to_owned()));
        let refused = [StepTrace { refused, ..step("keep", &["out"]) }];
        assert_eq!(why(&refused, 1, "flagged"), "step 1 (keep) rejects it: trap, panicked");
    }
}
