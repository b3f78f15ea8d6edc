//! Replays into tables beside those of their pipeline (`replay --into`), as the host runs them: each is a pipeline of the config that
//! nobody wrote there.
//!
//! The ledger has them ([`Side`]); [`with_sides`] adds them to a config, so that whatever goes through its pipelines (parts that start and
//! stop, hosts that divide them, maintenance, queries) goes through them too. A side has no steps in the config: no module and no config
//! changes what it does, and its revision is the one that is active in the ledger.

use forebay_model::ports::{Ledger, Side, TableOwner};
use forebay_model::revision::RouteTarget;
use forebay_model::{Error, PipelineName, Result, Revision, TableName};
use forebay_pipeline::refine::bind::Warehouses;

use crate::assemble::{self, Access};
use crate::config::{Config, PipelineConfig};
use crate::failpoint::failpoint;

/// A side that no host can run now, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeftOut {
    pub(crate) side: PipelineName,
    pub(crate) why: String,
}

/// A config with the sides that the ledger has; those that cannot run with it are left out. One that is dropped is in neither.
///
/// # Errors
/// Those of the ledger.
pub(crate) async fn with_sides(mut config: Config, ledger: &dyn Ledger) -> Result<(Config, Vec<LeftOut>)> {
    config.pipelines.retain(|_, pipeline| pipeline.side.is_none());
    let mut left_out = Vec::new();
    for side in ledger.sides().await?.into_iter().filter(|side| !side.dropped) {
        let active = ledger.active(&side.name).await?;
        match active
            .ok_or_else(|| "it has no revision".to_owned())
            .and_then(|active| of(&config, &side, active.revision.revision))
        {
            Ok(pipeline) => drop(config.pipelines.insert(side.name, pipeline)),
            Err(why) => left_out.push(LeftOut { side: side.name, why }),
        }
    }
    Ok((config, left_out))
}

/// A side as a pipeline of a config; or why it is none.
fn of(config: &Config, side: &Side, revision: Revision) -> Result<PipelineConfig, String> {
    let Revision { pipeline: _, stream, decoder, steps: _, routes, rejects } = revision;
    let of =
        config.pipelines.get(&side.of).ok_or_else(|| format!("pipeline {} is not in the config any more", side.of))?;
    if of.from != stream {
        return Err(format!("pipeline {} reads another stream now", side.of));
    }
    let decoding = config.streams.get(&stream).and_then(|stream| assemble::open_decoding(stream).ok());
    if decoding.is_none_or(|decoding| decoding.settings() != decoder) {
        return Err(format!("stream {stream} is decoded otherwise now"));
    }
    let pipeline = PipelineConfig {
        from: stream,
        steps: Vec::new(),
        routes,
        rejects,
        limits: of.limits.clone(),
        deploy: of.deploy,
        retry: None,
        side: Some(side.id),
    };
    let taken = config.tables();
    for table in pipeline.tables() {
        if let Some(other) = taken.get(&table) {
            return Err(format!("its table {table} is pipeline {other}'s now"));
        }
        if !config.warehouses.contains_key(&table.warehouse) {
            return Err(format!("warehouse {} is not in the config any more", table.warehouse));
        }
    }
    Ok(pipeline)
}

/// The same for verbs, where there is a ledger and it can be read: what is wrong with it, the verb tells.
pub(crate) async fn known(config: Config) -> Config {
    let found = async {
        if !assemble::ledger_is_there(&config).await? {
            return Ok(None);
        }
        let ledger = assemble::open_ledger(&config, Access::Read).await?;
        let found = with_sides(config.clone(), ledger.as_ref()).await;
        ledger.close().await;
        found.map(|(config, _)| Some(config))
    };
    found.await.ok().flatten().unwrap_or(config)
}

/// A table's name in a side: `lake.payments_v2`.
///
/// # Errors
/// Class operator, where it is too long.
pub(crate) fn beside(table: &TableName, suffix: &str) -> Result<TableName> {
    TableName::new(table.warehouse.clone(), format!("{}_{suffix}", table.table))
}

/// A pipeline's revision as that of a side: its tables are others, and nothing else.
///
/// # Errors
/// Class operator, where a table's name is too long.
pub(crate) fn revision_beside(revision: &Revision, side: &PipelineName, suffix: &str) -> Result<Revision> {
    let mut own = Revision { pipeline: side.clone(), ..revision.clone() };
    for target in own.routes.values_mut() {
        match target {
            RouteTarget::Discard => {}
            RouteTarget::Table { table, .. } => *table = beside(table, suffix)?,
        }
    }
    own.rejects = beside(&own.rejects, suffix)?;
    Ok(own)
}

/// Drops the tables of a side that is given no work any more, and what the ledger has of it; `tables` are those that it may have.
///
/// Who dies amid it does it again: first the tables go, then the ledger's rows.
///
/// # Errors
/// Where a table is another's, or one of the stores fails.
pub(crate) async fn remove(
    ledger: &dyn Ledger,
    warehouses: &Warehouses,
    side: &PipelineName,
    tables: &[TableName],
) -> Result<u64> {
    let owner = TableOwner { ledger: ledger.id(), pipeline: side.to_string() };
    let mut gone = 0;
    for table in tables {
        let warehouse = warehouses.get(&table.warehouse).ok_or_else(|| {
            Error::operator(format!("table {table} is in a warehouse that is not configured any more"))
                .with_hint(format!("add [warehouses.{}] until it is dropped", table.warehouse))
        })?;
        gone += u64::from(warehouse.drop_table(&table.table, &owner).await?);
        failpoint("in_drop");
    }
    ledger.forget_side(side).await?;
    Ok(gone)
}

/// The tables of a side, as its revision has them.
///
/// # Errors
/// Those of the ledger.
pub(crate) async fn tables_of(ledger: &dyn Ledger, side: &PipelineName) -> Result<Vec<TableName>> {
    Ok(ledger.active(side).await?.map(|active| active.revision.revision.tables()).unwrap_or_default())
}
