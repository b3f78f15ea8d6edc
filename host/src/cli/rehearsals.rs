//! What verbs need that refine segments to look at what comes out: nothing of it is written.

use std::collections::BTreeMap;
use std::sync::Arc;

use forebay_model::ports::{LandingZone, Warehouse};
use forebay_model::{Error, LandedSegment, PipelineName, Result, Revision, SegmentId, StreamSchema, TableName};
use forebay_pipeline::decoding::Decoding;
use forebay_pipeline::refine::bind::{BoundPipeline, Materials, Surroundings, Warehouses, bind};
use forebay_pipeline::refine::fit::TableState;

use uuid::Uuid;

use super::listing::now;
use crate::assemble::{self, Access};
use crate::query::Lake;

/// Where a pipeline's segments lie, and what they are bound to.
#[derive(Clone)]
pub(super) struct Rehearsals {
    pub(super) zone: Arc<dyn LandingZone>,
    schema: Arc<StreamSchema>,
    warehouses: Warehouses,
    ledger: Uuid,
}

/// A segment, and how it is decoded.
pub(super) struct Landed {
    pub(super) segment: LandedSegment,
    pub(super) decoding: Arc<dyn Decoding>,
}

impl Rehearsals {
    /// Opens it; `None` where the pipeline has no schema yet.
    ///
    /// # Errors
    /// Where the landing zone or a warehouse cannot be opened.
    pub(super) async fn open(lake: &Lake, pipeline: &PipelineName) -> anyhow::Result<Option<Self>> {
        let (config, ledger) = (&lake.stores().config, &lake.stores().ledger);
        let Some(schema) = ledger.schema(pipeline).await? else { return Ok(None) };
        let mut warehouses: BTreeMap<_, Arc<dyn Warehouse>> = BTreeMap::new();
        for name in config.warehouses.keys() {
            warehouses.insert(name.clone(), assemble::open_warehouse(config, name, Access::Read).await?);
        }
        let zone = assemble::open_zone(config, Access::Read)?;
        Ok(Some(Self { zone, schema: Arc::new(schema), warehouses: Arc::new(warehouses), ledger: ledger.id() }))
    }

    /// A segment of whatever stream.
    ///
    /// # Errors
    /// Where it is not listed, or its stream is not in the config any more.
    pub(super) async fn landed(&self, lake: &Lake, segment: &SegmentId) -> anyhow::Result<Landed> {
        let landed = lake.stores().ledger.segment(segment).await?;
        let segment = landed.ok_or_else(|| Error::bug(format!("segment {segment} is not listed")))?;
        let stream = lake.stores().config.streams.get(&segment.stream);
        let gone = || Error::operator(format!("stream {} is not in the config any more", segment.stream));
        let decoding = assemble::open_decoding(stream.ok_or_else(gone)?)?;
        Ok(Landed { segment, decoding })
    }

    /// The tables of a revision as they are now.
    ///
    /// # Errors
    /// Where one cannot be read.
    pub(super) async fn tables(&self, revision: &Revision) -> Result<BTreeMap<TableName, TableState>> {
        let mut tables = BTreeMap::new();
        for table in revision.tables() {
            let info = match self.warehouses.get(&table.warehouse) {
                Some(warehouse) => warehouse.table(&table.table).await?,
                None => None,
            };
            tables.insert(table.clone(), TableState::new(info, &table, &[]));
        }
        Ok(tables)
    }

    /// Binds a revision to the pipeline's schema. Blocking: instances are made.
    ///
    /// # Errors
    /// Where it does not bind.
    pub(super) fn bind(&self, materials: &Materials) -> Result<BoundPipeline> {
        // What the tables are like says nothing of the rows.
        self.bind_to(materials, BTreeMap::new())
    }

    /// The same to these tables, which may refuse it: another pipeline's, say.
    ///
    /// # Errors
    /// Where it does not bind.
    pub(super) fn bind_to(
        &self,
        materials: &Materials,
        tables: BTreeMap<TableName, TableState>,
    ) -> Result<BoundPipeline> {
        let Self { zone: _, schema, warehouses, ledger } = self;
        let surroundings = Surroundings {
            warehouses: Arc::clone(warehouses),
            ledger: *ledger,
            tables,
            widen_max_bytes: crate::run::WIDEN_MAX_BYTES,
            now: now(),
        };
        bind(materials, schema, &surroundings)
    }
}
